"""Epochs on a device: where the rows of a batch come from, and what the results add up to.

A data set that fits lies in the memory of the device, or is there already, and a kernel gathers each batch there. Of a
larger one the host gathers every batch, into one of two pinned slots while the step before is at work on the other.
Either way no step waits for the host to look at its results: a kernel adds them up, and counts the steps that are done.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.backends.cuda.device import STATUS_WORDS, Grid
from graphc.backends.cuda.driver import Replay, Stream
from graphc.backends.cuda.entries import Entry, entry
from graphc.backends.cuda.lending import DeviceArray, Lent
from graphc.backends.cuda.memory import Block, Pinned, within
from graphc.backends.cuda.threads import THREADS, Piece, grid_of
from graphc.backends.interface import BYTES_AS_IMAGE, CHECKS, epoch_dim
from graphc.backends.primitives import Kernel
from graphc.backends.runtime import address
from graphc.backends.source.lines import Argument
from graphc.ir.graph import Graph, Value
from graphc.ir.loops import Buffer
from graphc.ir.types import DTYPES, FLOATS, Dim, bound, multiply

if TYPE_CHECKING:
    from graphc.backends.cuda.runtime import DeviceRunner

Array = np.ndarray[Any, Any]
WORD = 8
NAMES = {dtype: name for name, dtype in DTYPES.items()}


# -- kernels


def gather(source: str, dtype: str) -> Kernel:
    """Rows of a data array in the order of the epoch, from the first that is not done; uint8 for a float input comes
    out in [0, 1]."""
    name = f"rows_{source}_{dtype}"
    number = "load(data, place)" if source == dtype else f"as_{dtype}(load(data, place)) * {dtype}({1 / 255!r})"
    text = f"""def {name}(out, data, order, done, count, columns, thread, block, blocks):
    first = load(done, 0)
    for point in range(block * {THREADS} + thread, count * columns, blocks * {THREADS}):
        place = load(order, first + point // columns) * columns + point % columns
        store(out, point, {number})
"""
    pointers = (("out", f"{dtype}*"), ("data", f"{source}*"), ("order", "i64*"), ("done", "i64*"))
    return Kernel(name, text, (*pointers, *numbers("count", "columns", "thread", "block", "blocks")))


def tally(dtypes: Sequence[str]) -> Kernel:
    """Adds the results of a step that failed no check, times its samples, and counts it; after one that did, steps
    change nothing."""
    name = "_".join(("tally", *dtypes))
    results = [f"result_{number}" for number in range(len(dtypes))]
    sums = "".join(
        f"        store(totals, {number}, load(totals, {number}) + as_f64(load({result}, 0)) * samples)\n"
        for number, result in enumerate(results)
    )
    text = f"""def {name}({", ".join(("status", "done", "totals", *results, "count"))}):
    if load(status, 0) != 0:
        store(status, 1, 1)
    if load(status, 0) == 0:
        samples = as_f64(count)
{sums}        store(done, 0, load(done, 0) + count)
        store(done, 1, load(done, 1) + 1)
"""
    pointers = [("status", "i64*"), ("done", "i64*"), ("totals", "f64*")]
    pointers += [(result, f"{dtype}*") for result, dtype in zip(results, dtypes, strict=True)]
    return Kernel(name, text, (*pointers, *numbers("count")))


def numbers(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, "i64") for name in names)


def gather_entry(value: Value, source: str) -> Entry:
    """The launch that gathers an input from data of that dtype; its words: where the rows go, the data, the order, what
    is done."""
    dim = value.shape[0]
    assert isinstance(dim, Dim)
    columns = multiply(*value.shape[1:])
    told = [Buffer("feed", value, name) for name in ("out", "data", "order", "done")]
    arguments: list[Argument] = [*told, dim, columns, "thread", "block", "blocks"]
    grid = grid_of(multiply(dim, columns), THREADS)
    return entry((Piece(gather(source, value.dtype), tuple(arguments), grid, THREADS),), (False,), 0, 0, (dim,))


def tally_entry(graph: Graph) -> Entry:
    """The launch that counts a step; its words: the status, what is done, the totals, the results."""
    (dim,), results = graph.dims, graph.of_kind("result")
    value = graph.of_role("data")[0]
    names = ("status", "done", "totals", *(f"result {number}" for number, _ in enumerate(results)))
    kernel = tally([output.value.dtype for output in results])
    arguments: list[Argument] = [*(Buffer("feed", value, name) for name in names), dim]
    return entry((Piece(kernel, tuple(arguments), Grid(1, 1, 1), 1),), (False,), 0, 0, (dim,))


def means_entry(graph: Graph) -> Entry:
    """The launch that ends an epoch of an exported library; its words: where the means go, where the count of steps,
    what is done, the totals. Told of all samples as if they were one batch."""
    count = len(graph.of_kind("result"))
    name = f"means_{count}"
    means = "".join(f"    store(means, {number}, load(totals, {number}) / samples)\n" for number in range(count))
    text = f"""def {name}(means, steps, done, totals, count):
    samples = as_f64(count)
{means}    store(steps, 0, load(done, 1))
"""
    kinds = (("means", "f64*"), ("steps", "i64*"), ("done", "i64*"), ("totals", "f64*"))
    value = graph.of_role("data")[0]
    arguments: list[Argument] = [*(Buffer("feed", value, pointer) for pointer, _ in kinds), *graph.dims]
    kernel = Kernel(name, text, (*kinds, *numbers("count")))
    return entry((Piece(kernel, tuple(arguments), Grid(1, 1, 1), 1),), (False,), 0, 0, graph.dims)


def sources(value: Value) -> tuple[str, ...]:
    """The dtypes of data an input can be gathered from."""
    return (value.dtype, "u8") if value.dtype in FLOATS else (value.dtype,)


def has_epochs(graph: Graph) -> bool:
    return epoch_dim(graph) is not None and all(not output.value.shape for output in graph.of_kind("result"))


def entries(graph: Graph) -> tuple[Entry, ...]:
    """All launches beside those of a step that its epochs need."""
    if not has_epochs(graph):
        return ()
    gathers = [gather_entry(value, source) for value in graph.of_role("data") for source in sources(value)]
    return tuple({made.name: made for made in (*gathers, tally_entry(graph))}.values())


# -- data


class Feed:
    """How epochs read arrays, which whoever made this keeps alive.

    arrays  NumPy's, or those that another library has on the device
    kinds   PLAIN or BYTES_AS_IMAGE, for each
    """

    def __init__(self, arrays: Sequence[Array | DeviceArray], kinds: Sequence[int]) -> None:
        self.arrays, self.kinds = tuple(arrays), tuple(kinds)
        self.is_sent = False

    def reads(self, arrays: Sequence[Any]) -> bool:
        """Whether these are its own arrays. What is in them may have changed since, so they will be sent again."""
        self.is_sent = self.is_sent and not any(map(may_change, self.arrays))
        return len(arrays) == len(self.arrays) and all(map(operator.is_, arrays, self.arrays))

    def lent(self) -> list[Lent | None]:
        """Its arrays on the device, to be read there from now on; None for those of the host. Raises Refused."""
        return [array.lent() if isinstance(array, DeviceArray) else None for array in self.arrays]


def may_change(array: Any) -> bool:
    """Whether somebody could write into an array of the host; nobody can into one that is made read-only throughout."""
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return True
        array = array.base
    return array is not None and not isinstance(array, (bytes, DeviceArray))


Form = tuple[tuple[np.dtype[Any], tuple[int, ...], int], ...]  # what must be equal of feeds for the same replays


def form_of(feed: Feed, lent: Sequence[Lent | None]) -> Form:
    places = [each.place if each is not None else 0 for each in lent]
    return tuple((array.dtype, array.shape, place) for array, place in zip(feed.arrays, places, strict=True))


class Epochs:
    """Passes over feeds of one form, for one runner.

    data    where the arrays lie on the device; None for those it has no room for
    held    the feed whose numbers are there
    done    on the device: samples that are done, steps that are done, and the totals of the results
    slots   two, of inputs on the host and on the device, where not all data lies there
    """

    def __init__(self, runner: DeviceRunner, feed: Feed, lent: Sequence[Lent | None], whole: bool) -> None:
        self.runner, self.device = runner, runner.device
        self.data: list[Block | Lent | None] = [*lent]
        if whole:
            for number, array in enumerate(feed.arrays):
                if isinstance(array, np.ndarray):
                    self.data[number] = Block(self.device, array.nbytes)
        self.held: Feed | None = None
        self.size = WORD * (2 + len(runner.results))
        self.done, self.found = Block(self.device, self.size), Pinned(self.device, self.size)
        self.order = Block(self.device, WORD * len(feed.arrays[0]))
        self.replays: dict[tuple[int, int], Replay] = {}
        streamed = [data is None for data in self.data]
        self.slots = [Slot(runner, streamed), Slot(runner, streamed)] if any(streamed) else []
        self.copies = runner.device.stream()

    def run(self, feed: Feed, order: Array, batch: int, first: int, last: int) -> tuple[int, list[float]]:
        """(status, totals): steps first to last of the order; status is that of `epoch` of an artifact."""
        runner, stream = self.runner, self.runner.stream
        self.found.bytes[: self.size] = 0
        self.found.bytes[:WORD].view(np.int64)[0] = first * batch
        stream.send(self.done.place, self.found.place, self.size)
        stream.fill(runner.launcher.address(runner.program.status), 0, STATUS_WORDS * WORD)
        self.send(feed)
        stream.send(self.order.place, address(order), order.nbytes)
        runner.make_ready()
        sizes = [min(batch, len(order) - step * batch) for step in range(first, last)]
        if self.slots:
            self.stream_through(feed, order, batch, first, sizes)
        else:
            for size in sizes:
                self.replay(feed, size, 0)()
        stream.fetch(self.found.place, self.done.place, self.size)
        stream.fetch(runner.status.place, runner.launcher.address(runner.program.status), WORD)
        stream.finish()
        for state in runner.updated:
            state.ahead = True
        words, status = self.found.bytes[: self.size].view(np.int64), runner.status_found()
        done = int(words[1])
        totals: list[float] = words[2:].view(np.float64).tolist()
        return (0 if done == last - first else (first + done) * CHECKS + status), totals

    def send(self, feed: Feed) -> None:
        """Have the device's copies as the arrays are now."""
        if self.held is feed and feed.is_sent:
            return
        for data, array in zip(self.data, feed.arrays, strict=True):
            if isinstance(data, Block) and array.nbytes:
                self.runner.stream.send(data.place, address(array), array.nbytes)
        self.held, feed.is_sent = feed, True

    def replay(self, feed: Feed, size: int, slot: int) -> Replay:
        """A step for so many rows, with what comes before and after it."""
        known = self.replays.get((size, slot))
        if known is None:
            self.runner.launcher.rehearse(self.runner.stream, {self.runner.dims[0]: size})
            known = self.replays[size, slot] = self.runner.stream.captured(lambda: self.give(feed, size, slot))
        return known

    def give(self, feed: Feed, size: int, slot: int) -> None:
        runner = self.runner
        inputs = self.slots[slot].blocks if self.slots else runner.input_blocks
        for number, block in enumerate(inputs):
            runner.launcher.bases["inputs", number] = block.place
        self.give_gathers(feed, inputs, size)
        runner.launcher.give(runner.stream, {runner.dims[0]: size}, afresh=False)
        results = [runner.launcher.bases["results", 0] + each.offset for each in runner.program.results.slots]
        status = runner.launcher.address(runner.program.status)
        runner.launch(tally_entry(runner.graph), [status, self.done.place, self.done.place + 2 * WORD, *results], size)
        for number, block in enumerate(runner.input_blocks):
            runner.launcher.bases["inputs", number] = block.place

    def give_gathers(self, feed: Feed, inputs: Sequence[Block], size: int) -> None:
        given = zip(self.runner.graph.of_role("data"), inputs, feed.arrays, self.data, strict=True)
        for value, target, array, data in given:
            if data is not None:
                made = gather_entry(value, NAMES[array.dtype])
                self.runner.launch(made, [target.place, data.place, self.order.place, self.done.place], size)

    def stream_through(self, feed: Feed, order: Array, batch: int, first: int, sizes: Sequence[int]) -> None:
        """The same from rows that the host gathers while the device works on those before."""
        for step, size in enumerate(sizes):
            slot, start = self.slots[step % 2], (first + step) * batch
            self.device.wait_until(slot.arrived)  # the rows before are read, so their places can have others
            slot.gather(feed, order[start : start + size])
            self.copies.wait_for(slot.used)
            slot.send(self.copies, size)
            self.copies.record(slot.arrived)
            self.runner.stream.wait_for(slot.arrived)
            self.replay(feed, size, step % 2)()
            self.runner.stream.record(slot.used)


class Slot:
    """Inputs of one batch on the host and on the device.

    pinned   None for inputs whose rows the device gathers
    arrived  event: they are on the device
    used     event: the step that reads them is done
    """

    def __init__(self, runner: DeviceRunner, streamed: Sequence[bool]) -> None:
        self.types = [slot.type for slot in runner.program.inputs.slots]
        sizes = [kind.max_bytes for kind in self.types]
        self.blocks = [Block(runner.device, size) for size in sizes]
        self.pinned = [Pinned(runner.device, size) if its else None for size, its in zip(sizes, streamed, strict=True)]
        self.arrived, self.used = runner.device.event(), runner.device.event()

    def gather(self, feed: Feed, rows: Array) -> None:
        for kind, pinned, array, how in zip(self.types, self.pinned, feed.arrays, feed.kinds, strict=True):
            if pinned is None:
                continue
            out = within(pinned, 0, (len(rows), *array.shape[1:]), kind)
            if how == BYTES_AS_IMAGE:
                np.multiply(array[rows], out.dtype.type(1 / 255), out=out)
            else:
                np.take(array, rows, axis=0, out=out, mode="clip")  # which does not buffer

    def send(self, copies: Stream, size: int) -> None:
        for kind, pinned, block in zip(self.types, self.pinned, self.blocks, strict=True):
            if pinned is not None and kind.max_bytes:
                bytes_a_row = math.prod(map(bound, kind.shape[1:])) * DTYPES[kind.dtype].itemsize
                copies.send(block.place, pinned.place, size * bytes_a_row)

"""Epochs on a device: where the rows of a batch come from, and what the results add up to.

A data set that fits lies in the device's memory, and a kernel gathers each batch there. Of a larger one the host
gathers every batch, into one of two pinned slots while the step before is at work on the other. Either way no step
waits for the host to look at its results: a kernel adds them up, and counts the steps that were done.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.backends.cuda.device import STATUS_WORDS, Grid
from graphc.backends.cuda.driver import OUT_OF_MEMORY, DriverError, Replay, Stream
from graphc.backends.cuda.entries import Entry, entry
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

    kinds   PLAIN or BYTES_AS_IMAGE, for each
    blocks  the same on the device; None where it has no room for them
    """

    def __init__(self, runner: DeviceRunner, arrays: Sequence[Array], kinds: Sequence[int]) -> None:
        self.runner, self.arrays, self.kinds = runner, tuple(arrays), tuple(kinds)
        self.blocks = self.make_room()
        self.is_sent = False

    def make_room(self) -> list[Block] | None:
        try:
            return [Block(self.runner.device, array.nbytes) for array in self.arrays]
        except DriverError as error:
            if error.code != OUT_OF_MEMORY:
                raise
            return None

    def reads(self, arrays: Sequence[Any]) -> bool:
        """Whether these are its own arrays. What is in them may have changed since, so they will be sent again."""
        self.is_sent = False
        return len(arrays) == len(self.arrays) and all(map(operator.is_, arrays, self.arrays))

    def send(self, stream: Stream) -> None:
        """Have the device's copies as the arrays are now."""
        if self.blocks is None or self.is_sent:
            return
        for block, array in zip(self.blocks, self.arrays, strict=True):
            if array.nbytes:
                stream.send(block.place, address(array), array.nbytes)
        self.is_sent = True


class Epochs:
    """Passes over a feed, for one runner.

    done    on the device: samples that are done, steps that are done, and the totals of the results
    slots   two, of inputs on the host and on the device, for feeds that are not resident
    """

    def __init__(self, runner: DeviceRunner, feed: Feed) -> None:
        self.runner, self.feed, self.device = runner, feed, runner.device
        self.size = WORD * (2 + len(runner.results))
        self.done, self.found = Block(self.device, self.size), Pinned(self.device, self.size)
        self.order = Block(self.device, WORD * len(feed.arrays[0]))
        self.replays: dict[tuple[int, int], Replay] = {}
        self.slots = [] if feed.blocks is not None else [Slot(runner), Slot(runner)]
        self.copies = runner.device.stream()

    def run(self, order: Array, batch: int, first: int, last: int) -> tuple[int, list[float]]:
        """(status, totals): steps first to last of the order; status is that of `epoch` of an artifact."""
        runner, stream = self.runner, self.runner.stream
        self.found.bytes[: self.size] = 0
        self.found.bytes[:WORD].view(np.int64)[0] = first * batch
        stream.send(self.done.place, self.found.place, self.size)
        stream.fill(runner.launcher.address(runner.program.status), 0, STATUS_WORDS * WORD)
        self.feed.send(stream)
        stream.send(self.order.place, address(order), order.nbytes)
        runner.make_ready()
        sizes = [min(batch, len(order) - step * batch) for step in range(first, last)]
        if self.slots:
            self.stream_through(order, batch, first, sizes)
        else:
            for size in sizes:
                self.replay(size, 0)()
        stream.fetch(self.found.place, self.done.place, self.size)
        stream.fetch(runner.status.place, runner.launcher.address(runner.program.status), WORD)
        stream.finish()
        for state in runner.updated:
            state.ahead = True
        words, status = self.found.bytes[: self.size].view(np.int64), runner.status_found()
        done = int(words[1])
        totals: list[float] = words[2:].view(np.float64).tolist()
        return (0 if done == last - first else (first + done) * CHECKS + status), totals

    def replay(self, size: int, slot: int) -> Replay:
        """A step for so many rows, with what comes before and after it."""
        known = self.replays.get((size, slot))
        if known is None:
            self.runner.launcher.rehearse(self.runner.stream, {self.runner.dims[0]: size})
            known = self.replays[size, slot] = self.runner.stream.captured(lambda: self.give(size, slot))
        return known

    def give(self, size: int, slot: int) -> None:
        runner = self.runner
        inputs = self.slots[slot].blocks if self.slots else runner.input_blocks
        for number, block in enumerate(inputs):
            runner.launcher.bases["inputs", number] = block.place
        if not self.slots:
            self.give_gathers(size)
        runner.launcher.give(runner.stream, {runner.dims[0]: size}, afresh=False)
        results = [runner.launcher.bases["results", 0] + each.offset for each in runner.program.results.slots]
        status = runner.launcher.address(runner.program.status)
        runner.launch(tally_entry(runner.graph), [status, self.done.place, self.done.place + 2 * WORD, *results], size)
        for number, block in enumerate(runner.input_blocks):
            runner.launcher.bases["inputs", number] = block.place

    def give_gathers(self, size: int) -> None:
        runner = self.runner
        assert self.feed.blocks is not None
        given = zip(runner.graph.of_role("data"), runner.input_blocks, self.feed.arrays, self.feed.blocks, strict=True)
        for value, target, array, data in given:
            made = gather_entry(value, NAMES[array.dtype])
            runner.launch(made, [target.place, data.place, self.order.place, self.done.place], size)

    def stream_through(self, order: Array, batch: int, first: int, sizes: Sequence[int]) -> None:
        """The same from rows that the host gathers while the device works on those before."""
        for step, size in enumerate(sizes):
            slot, start = self.slots[step % 2], (first + step) * batch
            self.device.wait_until(slot.arrived)  # the rows before are read, so their places can have others
            slot.gather(self.feed, order[start : start + size])
            self.copies.wait_for(slot.used)
            slot.send(self.copies, size)
            self.copies.record(slot.arrived)
            self.runner.stream.wait_for(slot.arrived)
            self.replay(size, step % 2)()
            self.runner.stream.record(slot.used)


class Slot:
    """Inputs of one batch on the host and on the device.

    arrived  event: they are on the device
    used     event: the step that reads them is done
    """

    def __init__(self, runner: DeviceRunner) -> None:
        self.types = [slot.type for slot in runner.program.inputs.slots]
        self.blocks = [Block(runner.device, kind.max_bytes) for kind in self.types]
        self.pinned = [Pinned(runner.device, kind.max_bytes) for kind in self.types]
        self.arrived, self.used = runner.device.event(), runner.device.event()

    def gather(self, feed: Feed, rows: Array) -> None:
        for kind, pinned, array, how in zip(self.types, self.pinned, feed.arrays, feed.kinds, strict=True):
            out = within(pinned, 0, (len(rows), *array.shape[1:]), kind)
            if how == BYTES_AS_IMAGE:
                np.multiply(array[rows], out.dtype.type(1 / 255), out=out)
            else:
                np.take(array, rows, axis=0, out=out, mode="clip")  # which does not buffer

    def send(self, copies: Stream, size: int) -> None:
        for kind, pinned, block in zip(self.types, self.pinned, self.blocks, strict=True):
            if kind.max_bytes:
                bytes_a_row = math.prod(map(bound, kind.shape[1:])) * DTYPES[kind.dtype].itemsize
                copies.send(block.place, pinned.place, size * bytes_a_row)

"""Calls of a program on a GPU: everything it does for one set of sizes is captured once and then replayed."""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.backends.cuda.artifact import DeviceArtifact
from graphc.backends.cuda.cublas import Cublas, Operands
from graphc.backends.cuda.device import (
    Call,
    ClearCall,
    CopyCall,
    DeviceProgram,
    LaunchCall,
    MultiplyCall,
    Place,
    Step,
    calls,
    written_out,
)
from graphc.backends.cuda.driver import HANDLE, OUT_OF_MEMORY, Device, DriverError, Kernel, Module, Replay, Stream
from graphc.backends.cuda.entries import Entry
from graphc.backends.cuda.feeding import Epochs, Feed, Form, entries, form_of
from graphc.backends.cuda.lending import DeviceArray, Lent
from graphc.backends.cuda.memory import Block, Pinned, Resident, residents, within
from graphc.backends.runtime import Storage, address
from graphc.backends.shuffling import fill
from graphc.ir.types import DTYPES, Dim, TensorType, evaluate

Array = np.ndarray[Any, Any]
FEEDS = 3  # data sets that are kept on the device: to train, to validate and to test with
REPLAYS = 8  # sets of sizes whose replays are kept; to capture one again takes less than a millisecond


class Launcher:
    """Gives the calls of a program to a stream.

    library  for the products that are for one
    bases    address of each block, by its name; of "inputs", by their numbers
    watch    is told of each step behind what was given for it, and of None before the first
    """

    def __init__(
        self, program: DeviceProgram, module: Module, states: Sequence[Resident], library: Cublas | None = None
    ) -> None:
        self.program, self.states, self.library = program, states, library
        shared: dict[str, int] = dict.fromkeys(program.kernels, 0)
        for step in program.launches():
            shared[step.kernel] = max(shared[step.kernel], step.shared_bytes)
        self.kernels = {name: module.kernel(name, size) for name, size in shared.items()}
        self.bases: dict[tuple[str, int], int] = {}
        self.watch: Callable[[Step | None], None] = lambda step: None

    def give(self, stream: Stream, sizes: dict[Dim, int], afresh: bool = True) -> None:
        """All of a call; unless afresh, it changes nothing where one before failed a check."""
        self.watch(None)
        for step, call in written_out(self.program.steps, sizes, ()):
            if not afresh and isinstance(call, ClearCall) and call.target == self.program.status:
                continue
            self.do(stream, call)
            self.watch(step)

    def rehearse(self, stream: Stream, sizes: dict[Dim, int]) -> None:
        """Have the library find its way to do the products and load what they need, which it must not while a call is
        captured. What they leave is in memory whose contents nobody needs."""
        for call in calls(self.program, sizes) if self.program.products else ():
            if isinstance(call, MultiplyCall):
                self.do(stream, call)

    def do(self, stream: Stream, call: Call) -> None:
        if isinstance(call, LaunchCall):
            words = [self.address(word) if isinstance(word, Place) else word for word in call.words]
            launch(stream, self.kernels[call.kernel], call.blocks, call.threads, call.shared_bytes, words)
        elif isinstance(call, CopyCall):
            stream.copy(self.address(call.target), self.address(call.source), call.size)
        elif isinstance(call, MultiplyCall):
            assert self.library is not None
            target, left, right = (self.address(place) for place in (call.target, call.left, call.right))
            bias = 0 if call.bias is None else self.address(call.bias)
            self.library.multiply(stream, call, Operands(target, left, right, bias))
        else:
            stream.fill(self.address(call.target), 0, call.size)

    def address(self, place: Place) -> int:
        if place.block != "state":
            return self.bases[place.block, place.number] + place.offset
        # States are where all functions that work on them find them, not in a block of this one's own.
        number = self.program.state.at(place.offset)
        return self.states[number].place + place.offset - self.program.state.slots[number].offset


def launch(stream: Stream, kernel: Kernel, blocks: int, threads: int, shared: int, words: Sequence[int]) -> None:
    """Start a kernel whose parameters are eight bytes each."""
    values = (ctypes.c_int64 * len(words))(*(ctypes.c_int64(word).value for word in words))
    start = ctypes.addressof(values)
    parameters = (HANDLE * len(words))(*range(start, start + 8 * len(words), 8))
    stream.launch(kernel, (blocks, 1, 1), (threads, 1, 1), shared, parameters)


class DeviceRunner:
    """One program on a device, ready to be called; what `backends.runtime.Runner` is on the CPU."""

    afar: tuple[Storage, ...] = ()  # numbers that are elsewhere before a call: none, as a call fetches them itself
    threads = 1

    def __init__(
        self, artifact: DeviceArtifact, storages: Sequence[Storage], device: Device, library: Cublas | None = None
    ) -> None:
        program, graph = artifact.drawing.program, artifact.graph
        self.program, self.graph, self.device = program, graph, device
        device.enter()
        self.stream, self.lock = device.work, device.lock
        self.dims = graph.dims
        self.results = [(output.name, output.value.type) for output in graph.of_kind("result")]
        self.array_results = [(number, kind) for number, (_, kind) in enumerate(self.results) if kind.shape]
        self.states = residents(storages, device)
        changed = {output.name for output in graph.of_kind("update")}
        named = zip(self.states, graph.of_role("state"), strict=True)
        self.updated = [state for state, value in named if value.attrs["name"] in changed]
        self.module = device.load(artifact.ptx)
        # Looked up now: the driver loads a kernel when it is asked for first, which it must not while calls are noted.
        self.feeding = {made.name: self.module.kernel(made.name) for made in entries(graph)}
        self.launcher = Launcher(program, self.module, self.states, library)
        self.arena = [Block(device, size) for size in (program.work_bytes, program.results.size, program.scalars.size)]
        self.input_blocks = [Block(device, slot.type.max_bytes) for slot in program.inputs.slots]
        for name, block in zip(("work", "results", "scalars"), self.arena, strict=True):
            self.launcher.bases[name, 0] = block.place
        for number, block in enumerate(self.input_blocks):
            self.launcher.bases["inputs", number] = block.place
        self.given = [Pinned(device, slot.type.max_bytes) for slot in program.inputs.slots]
        self.found = Pinned(device, program.results.size)
        self.scalars, self.status = Pinned(device, program.scalars.size), Pinned(device, 8)
        self.scalars_are_new = True
        self.replays: OrderedDict[tuple[tuple[int, ...], tuple[bool, ...]], Replay] = OrderedDict()
        self.epochs: OrderedDict[Form, Epochs] = OrderedDict()  # the last one last

    def set_scalar(self, number: int, value: float) -> None:
        """Write one run-time scalar."""
        slot = self.program.scalars.slots[number]
        within(self.scalars, slot.offset, (), slot.type)[()] = value
        self.scalars_are_new = True

    def step(self, inputs: Sequence[Array | Lent], sizes: Sequence[int]) -> tuple[int, list[Any]]:
        """(status, results): C-contiguous arrays of the inputs' own dtypes in; NumPy scalars and arrays out."""
        with self.lock:
            self.device.enter()
            afar = tuple(isinstance(each, Lent) for each in inputs)
            replay = self.replay(tuple(sizes), afar)
            for number, each in enumerate(inputs):
                if isinstance(each, Lent):
                    self.stream.copy(self.input_blocks[number].place, each.place, each.nbytes)
                else:
                    ctypes.memmove(self.given[number].place, address(each), each.nbytes)
            self.make_ready()
            replay()
            self.stream.finish()
            for state in self.updated:
                state.ahead = True
            return self.status_found(), self.results_found(dict(zip(self.dims, sizes, strict=True)))

    def feed(self, arrays: Sequence[Array | DeviceArray], kinds: Sequence[int]) -> Feed:
        """How `epoch` reads arrays, which the caller keeps; kinds are PLAIN or BYTES_AS_IMAGE, for each."""
        return Feed(arrays, kinds)

    def epoch(
        self,
        feed: Feed,
        order: Array,
        shuffle: tuple[int, int] | None,
        batch: int,
        steps: tuple[int, int],
        in_order: bool = False,
    ) -> tuple[int, list[float]]:
        """(status, totals): steps first to last over rows `order` of the data; totals are results times batch sizes.

        shuffle  (seed, epoch): first fill `order` with that permutation
        """
        with self.lock:
            self.device.enter()
            if shuffle is not None:
                fill(order, *shuffle)
            lent = feed.lent()  # kept until all is done
            return self.epochs_over(feed, lent).run(feed, order, batch, *steps)

    def epochs_over(self, feed: Feed, lent: Sequence[Lent | None]) -> Epochs:
        """Passes over feeds of this form. Raises DriverError where the device has no room for what they need."""
        form = form_of(feed, lent)
        known = self.epochs.pop(form, None) or self.new_epochs(feed, lent)
        self.epochs[form] = known
        while len(self.epochs) > FEEDS:
            self.epochs.popitem(last=False)
        return known

    def new_epochs(self, feed: Feed, lent: Sequence[Lent | None]) -> Epochs:
        """With the whole data on the device if that has room, be it without the data sets before it."""
        for _ in range(2):
            try:
                return Epochs(self, feed, lent, whole=True)
            except DriverError as error:
                if error.code != OUT_OF_MEMORY:
                    raise
            self.epochs.clear()
        return Epochs(self, feed, lent, whole=False)

    def launch(self, made: Entry, places: Sequence[int], size: int) -> None:
        """Give the stream an entry of `feeding`, for so many rows; places are what it is told of memory."""
        extents = {self.dims[0]: size}
        blocks = [piece.grid.blocks(extents) for piece in made.pieces]
        words = [*places, size, *blocks]
        launch(self.stream, self.feeding[made.name], sum(blocks), made.pieces[0].threads, 0, words)

    def make_ready(self) -> None:
        """Let the device have the newest states and scalars."""
        for state in self.states:
            state.go_out()
        if self.scalars_are_new:
            self.stream.send(self.launcher.bases["scalars", 0], self.scalars.place, self.scalars.size)
            self.scalars_are_new = False

    def replay(self, sizes: tuple[int, ...], afar: tuple[bool, ...]) -> Replay:
        """A whole call for these sizes: inputs sent, everything computed, results and status fetched.

        afar  the inputs that are not sent, as they are on the device
        """
        known = self.replays.get((sizes, afar))
        if known is None:
            extents = dict(zip(self.dims, sizes, strict=True))
            self.launcher.rehearse(self.stream, extents)
            known = self.replays[sizes, afar] = self.stream.captured(lambda: self.give(extents, afar))
            if len(self.replays) > REPLAYS:
                self.replays.popitem(last=False)[1].discard()
        self.replays.move_to_end((sizes, afar))
        return known

    def give(self, sizes: dict[Dim, int], afar: tuple[bool, ...]) -> None:
        inputs = zip(self.program.inputs.slots, self.input_blocks, self.given, afar, strict=True)
        for slot, block, pinned, is_there in inputs:
            if not is_there:
                self.copy_used(self.stream.send, block.place, pinned.place, slot.type, sizes)
        self.launcher.give(self.stream, sizes)
        for slot in self.program.results.slots:
            target, source = self.found.place + slot.offset, self.launcher.bases["results", 0] + slot.offset
            self.copy_used(self.stream.fetch, target, source, slot.type, sizes)
        if self.program.checks:
            self.stream.fetch(self.status.place, self.launcher.address(self.program.status), 8)

    def copy_used(
        self, copy: Callable[[int, int, int], None], target: int, source: int, kind: TensorType, sizes: dict[Dim, int]
    ) -> None:
        """Copy what an array of that type has at these sizes."""
        size = evaluate(kind.count, sizes) * DTYPES[kind.dtype].itemsize
        if size:
            copy(target, source, size)

    def status_found(self) -> int:
        return int(self.status.bytes[:8].view(np.int64)[0]) if self.program.checks else 0

    def results_found(self, sizes: dict[Dim, int]) -> list[Any]:
        """NumPy scalars and arrays, which stay as they are."""
        found = []
        for slot in self.program.results.slots:
            shape = tuple(evaluate(extent, sizes) for extent in slot.type.shape)
            found.append(within(self.found, slot.offset, shape, slot.type).copy()[()])
        return found

"""Which products of a program a library does: those that it does sooner, with what is left of their nests, than our own
kernels do both; and whether it adds a bias and cuts off at 0 itself, as it can. Each way is timed once on a device, in
captured work on memory of zeros, and the times are kept on disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from graphc.backends.cache import Cache
from graphc.backends.cuda.cublas import Cublas
from graphc.backends.cuda.device import DeviceProgram, MultiplyCall, Place, calls
from graphc.backends.cuda.driver import Device, Module, Stream
from graphc.backends.cuda.memory import Block
from graphc.backends.cuda.outside import WITH_ENDING, name_of, outside, with_ending
from graphc.backends.cuda.plan import Drawing, Planner
from graphc.backends.cuda.ptx import compile_modules, modules
from graphc.backends.cuda.runtime import Launcher
from graphc.backends.cuda.serial import SHAPE
from graphc.backends.runtime import Refused, address
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph
from graphc.ir.loops import LoopNest
from graphc.ir.program import Program, plan
from graphc.ir.types import Dim

KIND = "ways"  # of the cache's entries
NOT_A_NUMBER = 0xFF  # all bytes of a float that is none
Times = dict[str, float]
MOST_TURNS, MILLISECONDS, SAMPLES = 20, 2.0, 3  # of the work in one replay, and replays


@dataclass(frozen=True, slots=True)
class Candidate:
    """A product in a nest of its own, by kernels of ours and by a library.

    ways  what `plan.draw` is told, "" for ours -> the launches
    """

    name: str
    ways: dict[str, Drawing]


class Chooser:
    """Asks the cache, or the device."""

    def __init__(self, device: Device, library: Cublas, precision: str, store: Cache) -> None:
        self.device, self.library, self.precision, self.store = device, library, precision, store

    def __call__(self, graph: Graph) -> frozenset[str]:
        """The names of the products of a finished graph that are for the library."""
        found = {name_of(nest): (program, nest) for program, nest in products_of(plan(graph, SHAPE.width))}
        known = {name: self.recalled(name) for name in found}
        new = [candidate(name, *found[name], self.precision) for name, times in known.items() if times is None]
        known |= self.timed(new) if new else {}
        return frozenset(min(times, key=lambda way: times[way]) for times in known.values() if times) - {""}

    def key(self, name: str) -> str:
        return Cache.key(KIND, *self.library.about, own_kernels(), name)

    def recalled(self, name: str) -> Times | None:
        """Milliseconds of each way, if they are known."""
        found = self.store.get(KIND, self.key(name))
        return None if found is None else {way: float(time) for way, time in json.loads(found).items()}

    def timed(self, candidates: Sequence[Candidate]) -> dict[str, Times]:
        """The same, measured and remembered; the kernels of all candidates are compiled at once."""
        drawings = [drawing for each in candidates for drawing in each.ways.values()]
        entries = {entry.name: entry for drawing in drawings for entry in drawing.entries}
        whole = replace(drawings[0], entries=tuple(entries.values()))
        self.device.enter()
        module = self.device.load(compile_modules(modules(whole), [*entries], self.device.architecture))
        found = {}
        with self.device.lock:
            for each in candidates:
                times: Times = {}
                for way, drawing in each.ways.items():
                    # The library may know no way, or there may be no memory to try it: ours is always there.
                    with suppress(Refused):
                        times[way] = self.time(drawing.program, module)
                if len(times) > 1:
                    self.store.put(KIND, self.key(each.name), json.dumps(times).encode())
                    found[each.name] = times
        return found

    def time(self, program: DeviceProgram, module: Module) -> float:
        """Milliseconds of one turn at the dims' maxima, the least of a few."""
        trial = Trial(program, module, self.library, self.device)
        try:
            sizes = {dim: dim.max for dim in program.dims}
            if not trial.keeps_strange_numbers(self.device.work, sizes):
                raise Refused("the library makes numbers of what is none", "precision='highest'")
            return self.turned(trial, sizes)
        finally:
            self.device.work.finish()  # its memory goes now, and what was given to the stream needs it

    def turned(self, trial: Trial, sizes: dict[Dim, int]) -> float:
        stream = self.device.work
        trial.rehearse(stream, sizes)

        def replayed(turns: int, samples: int) -> float:
            def work() -> None:
                for _ in range(turns):
                    trial.give(stream, sizes)

            replay, found = stream.captured(work), []
            for _ in range(samples):
                stream.record(first)
                replay()
                stream.record(last)
                stream.finish()
                found.append(self.device.milliseconds(first, last) / turns)
            replay.discard()
            return min(found)

        first, last = self.device.event(timed=True), self.device.event(timed=True)
        once = replayed(1, 2)  # of which the first has to load things
        return replayed(max(min(round(MILLISECONDS / max(once, 1e-3)), MOST_TURNS), 1), SAMPLES)


@cache
def own_kernels() -> str:
    """Of what our own kernels are made by: times of other ones say nothing."""
    return Cache.key(*(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))


class Trial(Launcher):
    """A launcher whose memory is its own and all zeros, that of states too."""

    def __init__(self, program: DeviceProgram, module: Module, library: Cublas, device: Device) -> None:
        super().__init__(program, module, (), library)
        self.blocks = {place: Block(device, size) for place, size in sizes_of(program)}
        self.bases = {place: block.place for place, block in self.blocks.items()}
        self.fill(device.work, 0)

    def fill(self, stream: Stream, byte: int) -> None:
        for block in self.blocks.values():
            stream.fill(block.place, byte, max(block.size, 1))

    def keeps_strange_numbers(self, stream: Stream, sizes: dict[Dim, int]) -> bool:
        """Whether a library that cuts off at 0 leaves NaN as it is, as our kernels do: no document says so."""
        (call,) = [each for each in calls(self.program, sizes) if isinstance(each, MultiplyCall)] or (None,)
        if call is None or not call.relu:
            return True
        self.fill(stream, NOT_A_NUMBER)
        self.do(stream, call)
        found = np.zeros(1, np.float32)
        stream.fetch(address(found), self.address(call.target), found.nbytes)
        self.fill(stream, 0)
        stream.finish()
        return bool(np.isnan(found[0]))

    def address(self, place: Place) -> int:
        return self.bases[place.block, place.number] + place.offset


def sizes_of(program: DeviceProgram) -> Iterator[tuple[tuple[str, int], int]]:
    """(name and number, bytes) of every block."""
    for name in ("state", "scalars", "results"):
        yield (name, 0), getattr(program, name).size
    yield ("work", 0), program.work_bytes
    yield from ((("inputs", number), slot.type.max_bytes) for number, slot in enumerate(program.inputs.slots))


def candidate(name: str, program: Program, nest: LoopNest, precision: str) -> Candidate:
    alone, found = replace(program, nests=(nest,), apart=(nest,), checks=()), outside(nest)
    ways = {chosen: Planner(alone, (chosen,), precision).draw() for chosen in ("", name)}
    if found is not None and with_ending(nest, found) is not None:
        ways[name + WITH_ENDING] = Planner(alone, (name + WITH_ENDING,), precision).draw()
    return Candidate(name, ways)


def products_of(program: Program) -> Iterator[tuple[Program, LoopNest]]:
    """Every nest with a product for a library, and the program it belongs to."""
    for nest in program.apart:
        if nest.repetition is not None:
            yield from products_of(nest.repetition.program)
        elif outside(nest) is not None:
            yield program, nest

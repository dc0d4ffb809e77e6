"""From a finished graph to what a call does on a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from graphc.backends.artifact import closure
from graphc.backends.cuda.device import (
    Clear,
    Copy,
    DeviceProgram,
    Extent,
    Grid,
    Launch,
    Layout,
    Place,
    Repeat,
    Slot,
    Step,
    Word,
    laid_out,
)
from graphc.backends.cuda.entries import Entry, buffers, entry
from graphc.backends.cuda.serial import SHAPE
from graphc.backends.cuda.threads import NotCovered, Piece
from graphc.backends.cuda.writer import write
from graphc.backends.primitives import Kernel
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph
from graphc.ir.loops import Buffer, LoopNest, Repetition, Term
from graphc.ir.program import Check, Life, Program, allocate, plan
from graphc.ir.types import DTYPES, round_up

CHECK = Kernel(
    "check",
    """def check(status, counted, number):
    if (load(status, 0) == 0) & (load(counted, 0) != 0):
        store(status, 0, number)
""",
    (("status", "i64*"), ("counted", "i64*"), ("number", "i64")),
)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A call on a GPU before any code is made: the program without its modules, and the entries of its launches."""

    program: DeviceProgram
    entries: tuple[Entry, ...]

    @property
    def kernels(self) -> list[Kernel]:
        """Every kernel text, those that are called included."""
        return closure(piece.kernel for made in self.entries for piece in made.pieces)


def draw(graph: Graph) -> Drawing:
    """The launches of a graph that went through the passes."""
    return Planner(plan(graph, SHAPE.width)).draw()


Homes = Mapping[tuple[str, str], Place]  # of inputs and results, by kind and name


class Planner:
    """Turns a program's nests into steps."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.graph = program.graph
        self.dims = self.graph.dims
        self.entries: dict[str, Entry] = {}
        self.guarded = False
        self.depth = 0  # of loops
        self.status = Place("work", 0)

    def draw(self) -> Drawing:
        graph = self.graph
        state = laid_out({value.attrs["name"]: value.type for value in graph.of_role("state")})
        results = laid_out({output.name: output.value.type for output in graph.of_kind("result")})
        inputs = Layout(tuple(Slot(value.attrs["name"], value.type, 0) for value in graph.of_role("data")), 0)
        scalars = [Slot(value.attrs["name"], value.type, 8 * n) for n, value in enumerate(graph.of_role("scalar"))]
        homes = {("input", slot.name): Place("state", slot.offset) for slot in state.slots}
        homes |= {("input", slot.name): Place("scalars", slot.offset) for slot in scalars}
        homes |= {("input", slot.name): Place("inputs", 0, number) for number, slot in enumerate(inputs.slots)}
        homes |= {("result", slot.name): Place("results", slot.offset) for slot in results.slots}
        steps, size = self.steps_of(self.program, homes, 256)
        if self.program.checks:
            steps = (Clear(self.status, 1, "i64"), *steps)
        made = tuple(self.entries.values())
        program = DeviceProgram(
            graph.name, self.dims, (), tuple(each.name for each in made), steps, state, inputs,
            Layout(tuple(scalars), max(8 * len(scalars), 8)), results, size, self.status,
            tuple(check.message for check in self.program.checks),
        )  # fmt: skip
        return Drawing(program, made)

    def steps_of(self, program: Program, homes: Homes, base: int) -> tuple[tuple[Step, ...], int]:
        """(what the nests of a program do, where the arena ends that begins at `base`)."""
        pieces = [write(nest) if nest.repetition is None else () for nest in program.apart]
        inner = [each.repetition.program if each.repetition is not None else None for each in program.apart]
        looked_at = {check.buffer for check in program.checks}
        lives = list(lifetimes(program, pieces, looked_at))
        places, size = allocate(lives)
        end = base + round_up(size, 256)

        def place(number: int, buffer: Buffer) -> Place:
            if buffer.kind in ("input", "result"):
                return homes[buffer.kind, buffer.name or buffer.value.attrs["name"]]
            if buffer.kind == "status":
                return self.status
            return Place("work", base + places[number if buffer.kind == "scratch" else -1, buffer].offset)

        steps: list[Step] = []
        for number, nest in enumerate(program.apart):
            if nest.repetition is not None:
                known = inner[number]
                assert known is not None
                made, end = self.repeat(nest.repetition, number, place, homes, end)
                steps += made
            for piece in pieces[number]:
                steps += self.launch((piece,), [{each: place(number, each) for each in buffers(piece)}])
            for index, check in enumerate(program.checks):
                if check.nest == number:
                    steps += self.check(index, check, place)
        return tuple(steps), end

    def launch(self, pieces: tuple[Piece, ...], places: list[dict[Buffer, Place]]) -> Iterator[Step]:
        for piece, known in zip(pieces, places, strict=True):
            for buffer in piece.cleared:
                yield Clear(known[buffer], buffer.value.type.count, buffer.value.dtype)
        made = entry(pieces, self.guarded, self.dims)
        made = self.entries.setdefault(made.name, made)
        words: list[Word] = [self.status] if self.guarded else []
        for piece, known in zip(pieces, places, strict=True):
            words += [known[buffer] for buffer in buffers(piece)]
        words += self.dims
        words += [piece.grid for piece in pieces]
        yield Launch(
            made.name, tuple(piece.grid for piece in pieces), pieces[0].threads, made.shared_bytes, tuple(words)
        )

    def check(self, index: int, check: Check, place) -> Iterator[Step]:  # type: ignore[no-untyped-def]
        status = Buffer("status", check.buffer.value)
        piece = Piece(CHECK, (status, check.buffer, index + 1), Grid(1, 1, 1), 1)
        yield from self.launch((piece,), [{status: self.status, check.buffer: place(-1, check.buffer)}])
        self.guarded = True

    def repeat(self, repetition: Repetition, number: int, place, homes: Homes, end: int):  # type: ignore[no-untyped-def]
        """The states are brought to where they are kept, then the program runs over them once a step."""
        if repetition.trips is not None:
            raise NotCovered("a loop whose number of steps is computed")
        steps: list[Step] = []
        inside: dict[tuple[str, str], Place] = {}
        for state, start, kept in repetition.carries:
            target = inside["input", state.attrs["name"]] = place(number, kept)
            if place(number, start) != target:
                steps.append(Copy(target, place(number, start), state.type.count, state.dtype))
        for data, buffer in repetition.captured:
            inside["input", data.attrs["name"]] = place(number, buffer)
        for data, buffer in repetition.slices:
            inside["input", data.attrs["name"]] = self.sliced(place(number, buffer), data.type.count, data.dtype)
        for output, buffer in repetition.results:
            where = place(number, buffer)
            inside["result", output.name] = self.sliced(where, output.value.type.count, output.value.dtype)
        self.depth += 1
        body, end = self.steps_of(repetition.program, inside, end)
        self.depth -= 1
        attrs = repetition.value.attrs
        return [*steps, Repeat(attrs["length"], attrs["reverse"], body)], end

    def sliced(self, place: Place, count: Extent, dtype: str) -> Place:
        """One slice of a stack with each step of the loop that begins."""
        still = ((0, 0),) * (self.depth - len(place.steps))
        return replace(place, steps=(*place.steps, *still, (count, DTYPES[dtype].itemsize)))


def lifetimes(program: Program, pieces: Iterable[tuple[Piece, ...]], looked_at: set[Buffer]) -> Iterator[Life]:
    """(key, bytes, first nest, last nest) of every buffer of the arena."""
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for number, (nest, parts) in enumerate(zip(program.apart, pieces, strict=True)):
        for buffer in nest.buffers():
            if buffer.kind == "value":
                first.setdefault(buffer, number)
                last[buffer] = number
        rooms: dict[Buffer, int] = {}
        for buffer, size in (room for piece in parts for room in piece.rooms):
            rooms[buffer] = max(size, rooms.get(buffer, 0))
        for term in nest.terms():
            if is_kept_sum(term):
                rooms.setdefault(term.detail[0], term.value.type.max_bytes)
        if nest.repetition is not None:
            rooms |= carried(nest)
        yield from (((number, buffer), size, number, number) for buffer, size in rooms.items())
    whole = len(program.apart)
    for buffer, start in first.items():
        span = (0, whole) if buffer in looked_at else (start, last[buffer])
        yield (-1, buffer), buffer.value.type.max_bytes, *span


def is_kept_sum(term: Term) -> bool:
    return term.kind == "column" and term.detail[0].kind == "scratch"


def carried(nest: LoopNest) -> dict[Buffer, int]:
    """Scratch for the states of a loop."""
    assert nest.repetition is not None
    states = nest.repetition.carries
    return {kept: state.type.max_bytes for state, _, kept in states if kept.kind == "scratch"}

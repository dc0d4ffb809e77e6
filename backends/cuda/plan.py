"""From a finished graph to what a call does on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from graphc.backends.artifact import closure
from graphc.backends.cuda.device import (
    COUNTER_WORDS,
    PLACE_ALIGNMENT,
    STATUS_WORDS,
    Clear,
    Copy,
    DeviceProgram,
    Extent,
    Grid,
    Launch,
    Layout,
    Multiply,
    Place,
    Repeat,
    Slot,
    Step,
    Turn,
    Word,
    laid_out,
)
from graphc.backends.cuda.entries import Entry, buffers, entry
from graphc.backends.cuda.outside import Outside, chosen
from graphc.backends.cuda.schedule import STATUS, Job, Key, job_of, key, launches, product_of, repetition_of
from graphc.backends.cuda.serial import SHAPE
from graphc.backends.cuda.threads import COUNTERS, THREADS, WIDEST, NotCovered, Piece, Shared
from graphc.backends.cuda.writer import write
from graphc.backends.primitives import Kernel
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph
from graphc.ir.loops import Buffer, LoopNest, Repetition
from graphc.ir.program import Life, Program, allocate, plan
from graphc.ir.types import DTYPES, content, dims_of, multiply, round_up

CHECK = Kernel(
    "check",
    """def check(status, counted, number, thread):
    if thread == 0:
        if (load(status, 0) == 0) & (load(counted, 0) != 0):
            store(status, 0, number)
""",
    (("status", "i64*"), ("counted", "i64*"), ("number", "i64"), ("thread", "i64")),
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


def draw(graph: Graph, library: Collection[str] = (), precision: str = "highest") -> Drawing:
    """The launches of a graph that went through the passes.

    library    the products that are for a library, by their names
    precision  of what others multiply: "highest", "tf32" or "bf16"
    """
    return Planner(plan(graph, SHAPE.width), library, precision).draw()


WORD = 8  # bytes
Find = Callable[[int, Buffer], Place]  # where a nest's buffer lies
Homes = Mapping[tuple[str, str], Place]  # of inputs and results, by kind and name


class Planner:
    """Turns a program's nests into steps."""

    def __init__(self, program: Program, library: Collection[str] = (), precision: str = "highest") -> None:
        self.program, self.library, self.precision = program, library, precision
        self.graph = program.graph
        self.dims = self.graph.dims
        self.entries: dict[str, Entry] = {}
        self.depth = 0  # of loops
        self.ends: list[tuple[Place, Turn]] = []  # of those around that may end early: how many steps, and which it is
        self.status, self.stopped = Place("work", 0), Place("work", WORD)
        self.counters_used = 0  # words of counters that launches so far have

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
        steps, size = self.steps_of(self.program, homes, round_up(STATUS_WORDS * WORD, PLACE_ALIGNMENT))
        if self.program.checks or self.counters_used:
            steps = (Clear(self.status, STATUS_WORDS, "i64"), *steps)
        made = tuple(self.entries.values())
        program = DeviceProgram(
            graph.name, self.dims, (), tuple(each.name for each in made), steps, state, inputs,
            Layout(tuple(scalars), max(8 * len(scalars), 8)), results, size, self.status,
            tuple(check.message for check in self.program.checks),
        )  # fmt: skip
        return Drawing(program, made)

    def steps_of(self, program: Program, homes: Homes, base: int) -> tuple[tuple[Step, ...], int]:
        """(what the nests of a program do, where the arena ends that begins at `base`)."""
        order = list(launches(list(self.jobs(program, homes))))
        rooms = {buffer: size for jobs in order for job in jobs if job.piece for buffer, size in job.piece.rooms}
        regions, size = allocate(list(lifetimes(program, order)))
        end = base + round_up(size, PLACE_ALIGNMENT)

        def place(number: int, buffer: Buffer) -> Place:
            if buffer.kind in ("input", "result"):
                return homes[buffer.kind, buffer.name or buffer.value.attrs["name"]]
            if buffer.kind == "status":
                return self.status
            if buffer.kind == COUNTERS:
                return self.counters(rooms[buffer] // WORD)
            return Place("work", base + regions[key(number, buffer)].offset)

        steps: list[Step] = []
        for together in order:
            (job, *_) = together
            if job.piece is not None:
                steps += self.launch(together, place)
                continue
            if job.product is not None:
                steps.append(self.multiply(job, job.product, place))
                continue
            repetition = program.apart[job.number].repetition
            assert repetition is not None
            made, end = self.repeat(repetition, partial(place, job.number), end)
            steps += made
        return tuple(steps), end

    def counters(self, count: int) -> Place:
        """Counters of a piece, which others of the same launch do not have."""
        place = self.counters_used % COUNTER_WORDS
        first = place if place + count <= COUNTER_WORDS else 0
        self.counters_used = first + count
        return Place("work", (STATUS_WORDS - COUNTER_WORDS + first) * WORD)

    def jobs(self, program: Program, homes: Homes) -> Iterator[Job]:
        """Everything there is to do, in an order in which it could be done."""
        counts: list[Buffer] = []
        for number, nest in enumerate(program.apart):
            if nest.repetition is not None:
                yield repetition_of(number, nest)
            loose = any(is_loose(homes, buffer) for buffer in nest.buffers())
            product = chosen(nest, self.library)
            rest: LoopNest | None = nest
            if product is not None:
                yield product_of(number, product)
                rest = product.rest
            for piece in write(rest, loose, self.precision) if nest.repetition is None and rest is not None else ():
                yield job_of(number, nest, piece, counts)
            for index, check in enumerate(program.checks):
                if check.nest == number:
                    status = Buffer("status", check.buffer.value)
                    piece = Piece(CHECK, (status, check.buffer, index + 1, "thread"), Grid(1, 1, 1), THREADS)
                    yield Job(number, piece, frozenset({key(-1, check.buffer), STATUS}), frozenset({STATUS}))
                    counts.append(check.buffer)

    def launch(self, jobs: list[Job], place: Find) -> Iterator[Step]:
        pieces = tuple(job.piece for job in jobs if job.piece is not None)
        for job, piece in zip(jobs, pieces, strict=True):
            for buffer in piece.cleared:
                yield Clear(place(job.number, buffer), buffer.value.type.count, buffer.value.dtype)
        guarded = tuple(bool(job.counts) for job in jobs)
        waits = next((job.counts for job in jobs if job.counts), ())
        counts = [self.stopped, *(place(-1, buffer) for buffer in waits)] if waits else []
        told = (each for piece in pieces for each in piece.arguments if not isinstance(each, Buffer | Shared | str))
        if not {dim for extent in told for dim in dims_of(extent)} <= {*self.dims}:
            raise NotCovered("rows of a batch are taken in slices, for max_bytes")
        made = entry(pieces, guarded, len(counts), len(self.ends), self.dims)
        made = self.entries.setdefault(made.name, made)
        words: list[Word] = [word for end in self.ends for word in end]
        words += counts
        for job, piece in zip(jobs, pieces, strict=True):
            words += [place(job.number, buffer) for buffer in buffers(piece)]
        grids = tuple(piece.grid for piece in pieces)
        yield Launch(made.name, grids, pieces[0].threads, made.shared_bytes, (*words, *self.dims, *grids))

    def multiply(self, job: Job, product: Outside, place: Find) -> Multiply:
        return product.step(partial(place, job.number))

    def repeat(self, repetition: Repetition, place: Callable[[Buffer], Place], end: int) -> tuple[list[Step], int]:
        """The states are brought to where they are kept, then the program runs over them once a step."""
        steps: list[Step] = []
        attrs = repetition.value.attrs
        inside: dict[tuple[str, str], Place] = {}
        for state, start, kept in repetition.carries:
            target = inside["input", state.attrs["name"]] = place(kept)
            if place(start) != target:
                steps.append(Copy(target, place(start), state.type.count, state.dtype))
        for data, buffer in repetition.captured:
            inside["input", data.attrs["name"]] = place(buffer)
        for data, buffer in repetition.slices:
            inside["input", data.attrs["name"]] = self.sliced(place(buffer), data.type.count, data.dtype)
        for output, buffer in repetition.results:
            where, kind = place(buffer), output.value.type
            inside["result", output.name] = self.sliced(where, kind.count, kind.dtype)
            if repetition.trips is not None:  # what is not reached is 0
                steps.append(Clear(where, multiply(attrs["length"], kind.count), kind.dtype))
        ends = self.ends
        if repetition.trips is not None:
            self.ends = [*ends, (place(repetition.trips), Turn(self.depth))]
        self.depth += 1
        body, end = self.steps_of(repetition.program, inside, end)
        self.depth -= 1
        self.ends = ends
        return [*steps, Repeat(attrs["length"], attrs["reverse"], body)], end

    def sliced(self, place: Place, count: Extent, dtype: str) -> Place:
        """One slice of a stack with each step of the loop that begins."""
        still = ((0, 0),) * (self.depth - len(place.steps))
        return replace(place, steps=(*place.steps, *still, (count, DTYPES[dtype].itemsize)))


def is_loose(homes: Homes, buffer: Buffer) -> bool:
    """Whether a buffer is a slice that begins anywhere."""
    if buffer.kind not in ("input", "result"):
        return False
    steps = homes[buffer.kind, buffer.name or buffer.value.attrs["name"]].steps
    return any(content(count) * size % WIDEST for count, size in steps)


def lifetimes(program: Program, order: Sequence[list[Job]]) -> Iterator[Life]:
    """(key, bytes, first launch, last launch) of every buffer of the arena."""
    first: dict[Key, int] = {}
    last: dict[Key, int] = {}
    rooms: dict[Key, int] = {}
    for place, together in enumerate(order):
        for job in together:
            for each in job.read | job.written:
                first.setdefault(each, place)
                last[each] = place
            for buffer, size in rooms_of(job, program.apart[job.number]):
                if buffer.kind == COUNTERS:
                    continue
                rooms[key(job.number, buffer)] = max(size, rooms.get(key(job.number, buffer), 0))
    looked_at = {key(-1, check.buffer) for check in program.checks}
    for (number, buffer), start in first.items():
        if (number, buffer) in rooms:
            yield (number, buffer), rooms[number, buffer], start, last[number, buffer]
        elif number != STATUS[0] and buffer.kind == "value":
            span = (0, len(order)) if (number, buffer) in looked_at else (start, last[number, buffer])
            yield (number, buffer), buffer.value.type.max_bytes, *span


def rooms_of(job: Job, nest: LoopNest) -> Iterator[tuple[Buffer, int]]:
    """The scratch a job needs, and its bytes."""
    if job.piece is not None:
        yield from job.piece.rooms
    if job.product is not None:
        yield from job.product.rooms
    if nest.repetition is not None:
        for state, _, kept in nest.repetition.carries:
            if kept.kind == "scratch":
                yield kept, state.type.max_bytes

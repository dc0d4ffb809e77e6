"""What a program is on a GPU: launches in order, and where in device memory everything they touch lies.

This is all a runtime needs to know. It owns five kinds of memory, every one of them aligned to 256 bytes:

- "state", "scalars", "results": one block each, laid out by `DeviceProgram.state` and so on;
- "inputs": a block for each data input, `Place.number` says which; dense arrays in C order;
- "work": one block of `work_bytes`, whose contents nobody needs between calls.

A call is `for each in calls(program, sizes)`: copies, clears and launches, each to be finished before the next begins.
Afterwards the i64 at `program.status` is 0, or the number of the check that failed, from 1 on: then no state was
changed. Where the i64 behind it is not 0, no state is changed either: so steps of an epoch stop after one that failed.
Addresses, grids and the order of a call depend on the sizes of the dims and on nothing else, so that a call
may be captured once as a graph for each set of sizes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import replace

from graphc.ir.frozen import dataclass
from graphc.ir.types import DTYPES, Dim, Extent, TensorType, evaluate, round_up

BLOCKS = ("state", "scalars", "inputs", "results", "work")
PLACE_ALIGNMENT = 256  # bytes: of blocks, and of everything that has an offset in one
COUNTER_WORDS = 2046  # i64 that blocks of a launch count with, and leave 0
STATUS_WORDS = 2 + COUNTER_WORDS  # at `DeviceProgram.status`, 0 when a call begins: the two told of above, and these


@dataclass(frozen=True, slots=True)
class Place:
    """An address in device memory: `offset` bytes into a block.

    block    one of BLOCKS
    number   which input, for "inputs"
    steps    (elements, bytes of one) further on with each step of the loops around it, outermost first
    """

    block: str
    offset: int = 0
    number: int = 0
    steps: tuple[tuple[Extent, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Grid:
    """How many blocks share work of `extent` pieces: enough for `each` pieces a block, at most `most`, at least one."""

    extent: Extent
    each: int
    most: int

    def blocks(self, sizes: Mapping[Dim, int]) -> int:
        return min(max(-(-evaluate(self.extent, sizes) // self.each), 1), self.most)


@dataclass(frozen=True, slots=True)
class Turn:
    """The number of the step at which a loop around is; `depth` counts from the outermost one, which is 0."""

    depth: int


Word = Place | Extent | Grid | Turn  # what a kernel is told: an address, or a number; eight bytes each


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch of a kernel of the PTX, over blocks in one dimension.

    grids         the launch has the sum of their blocks
    threads       of a block
    shared_bytes  dynamic shared memory of a block
    words         the kernel's parameters, each of eight bytes: pointers and i64
    """

    kernel: str
    grids: tuple[Grid, ...]
    threads: int
    shared_bytes: int
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """So many elements of `dtype`, from one place of device memory to another; they do not overlap."""

    target: Place
    source: Place
    count: Extent
    dtype: str


@dataclass(frozen=True, slots=True)
class Clear:
    """So many elements of `dtype` become 0: all their bytes."""

    target: Place
    count: Extent
    dtype: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """`body`, so many times: places inside move on, by their `steps`, from the first step or from the last one back."""

    length: Extent
    reverse: bool
    body: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Multiply:
    """target = left @ right for each of a batch, by a library: rows x depth times depth x columns.

    bias         numbers to be added to the columns, then
    relu         what is below 0 becomes 0

    left_steps, right_steps  elements from row to row and from column to column; one of them is 1
    batch_steps              elements from one matrix to the next: left, right, target, whose rows lie side by side
    """

    target: Place
    left: Place
    right: Place
    rows: Extent
    columns: Extent
    depth: Extent
    left_steps: tuple[Extent, Extent]
    right_steps: tuple[Extent, Extent]
    batch: Extent
    batch_steps: tuple[Extent, ...]
    dtype: str
    bias: Place | None = None
    relu: bool = False


Step = Launch | Copy | Clear | Multiply | Repeat


@dataclass(frozen=True, slots=True)
class Slot:
    """A named array in a block."""

    name: str
    type: TensorType
    offset: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The arrays of a block at the dims' maxima, and its bytes. In "inputs" every offset is 0."""

    slots: tuple[Slot, ...]
    size: int

    def at(self, offset: int) -> int:
        """The number of the array that holds this byte."""
        return bisect_right([slot.offset for slot in self.slots], offset) - 1


@dataclass(frozen=True, slots=True)
class DeviceProgram:
    """One call on a GPU.

    modules  LLVM IR of all kernels, for `ptx.ptx(program, architecture)`
    kernels  the names of the PTX's entries, each once
    steps    what a call does
    status   an i64: 0, or the number of the check that failed
    checks   their messages; check 1 is the first
    state, inputs, scalars, results  in the graph's order; a scalar is eight bytes, its number in the first of them
    """

    name: str
    dims: tuple[Dim, ...]
    modules: tuple[str, ...]
    kernels: tuple[str, ...]
    steps: tuple[Step, ...]
    state: Layout
    inputs: Layout
    scalars: Layout
    results: Layout
    work_bytes: int
    status: Place
    checks: tuple[str, ...]

    def launches(self) -> Iterator[Launch]:
        """Every launch of a kernel, those of loops once."""
        yield from (step for step in self.walk() if isinstance(step, Launch))

    def walk(self) -> Iterator[Step]:
        """Every step that is no loop, those of loops once."""
        stack = list(reversed(self.steps))
        while stack:
            step = stack.pop()
            if isinstance(step, Repeat):
                stack += reversed(step.body)
            else:
                yield step

    @property
    def products(self) -> int:
        """How many are for a library."""
        return sum(1 for step in self.walk() if isinstance(step, Multiply))


@dataclass(frozen=True, slots=True)
class LaunchCall:
    """A launch with everything known but where the blocks lie."""

    kernel: str
    blocks: int
    threads: int
    shared_bytes: int
    words: tuple[Place | int, ...]


@dataclass(frozen=True, slots=True)
class CopyCall:
    target: Place
    source: Place
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class ClearCall:
    target: Place
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class MultiplyCall:
    """A product with everything known but where the blocks lie: what `Multiply` says, in numbers."""

    target: Place
    left: Place
    right: Place
    rows: int
    columns: int
    depth: int
    left_steps: tuple[int, int]
    right_steps: tuple[int, int]
    batch: int
    batch_steps: tuple[int, ...]
    dtype: str
    bias: Place | None
    relu: bool


Call = LaunchCall | CopyCall | ClearCall | MultiplyCall


def calls(program: DeviceProgram, sizes: Mapping[Dim, int]) -> Iterator[Call]:
    """What a call does for these sizes of the dims, loops written out; places have no `steps` left."""
    return (call for _, call in written_out(program.steps, sizes, ()))


def written_out(
    steps: tuple[Step, ...], sizes: Mapping[Dim, int], turns: tuple[int, ...]
) -> Iterator[tuple[Step, Call]]:
    """Each call with the step that it is of."""
    for step in steps:
        if isinstance(step, Repeat):
            count = evaluate(step.length, sizes)
            for turn in reversed(range(count)) if step.reverse else range(count):
                yield from written_out(step.body, sizes, (*turns, turn))
        elif isinstance(step, Launch):
            blocks = sum(grid.blocks(sizes) for grid in step.grids)
            words = tuple(told(word, sizes, turns) for word in step.words)
            yield step, LaunchCall(step.kernel, blocks, step.threads, step.shared_bytes, words)
        elif isinstance(step, Multiply):
            yield step, multiplied(step, sizes, turns)
        else:
            size = evaluate(step.count, sizes) * DTYPES[step.dtype].itemsize
            target = settled(step.target, sizes, turns)
            if size and isinstance(step, Copy):
                yield step, CopyCall(target, settled(step.source, sizes, turns), size)
            elif size:
                yield step, ClearCall(target, size)


def multiplied(step: Multiply, sizes: Mapping[Dim, int], turns: tuple[int, ...]) -> MultiplyCall:
    target, left, right = (settled(place, sizes, turns) for place in (step.target, step.left, step.right))
    rows, columns, depth, batch = (evaluate(each, sizes) for each in (step.rows, step.columns, step.depth, step.batch))
    (down, across), (deep, wide) = (
        (evaluate(row, sizes), evaluate(column, sizes)) for row, column in (step.left_steps, step.right_steps)
    )
    apart = tuple(evaluate(each, sizes) for each in step.batch_steps)
    steps = (down, across), (deep, wide)
    bias = None if step.bias is None else settled(step.bias, sizes, turns)
    return MultiplyCall(target, left, right, rows, columns, depth, *steps, batch, apart, step.dtype, bias, step.relu)


def told(word: Word, sizes: Mapping[Dim, int], turns: tuple[int, ...]) -> Place | int:
    if isinstance(word, Place):
        return settled(word, sizes, turns)
    if isinstance(word, Turn):
        return turns[word.depth]
    return word.blocks(sizes) if isinstance(word, Grid) else evaluate(word, sizes)


def settled(place: Place, sizes: Mapping[Dim, int], turns: tuple[int, ...]) -> Place:
    """The place at one turn of each loop around it."""
    moved = sum(turn * evaluate(count, sizes) * size for turn, (count, size) in zip(turns, place.steps, strict=False))
    return replace(place, offset=place.offset + moved, steps=())


def laid_out(types: Mapping[str, TensorType], least: int = 0) -> Layout:
    """The arrays one behind the other; `least` bytes for each."""
    offset, slots = 0, []
    for name, kind in types.items():
        slots.append(Slot(name, kind, offset))
        offset += max(kind.max_bytes, least)
        offset = round_up(offset, PLACE_ALIGNMENT)
    return Layout(tuple(slots), max(offset, PLACE_ALIGNMENT))

"""The text of a nest as one thread of many does it: every term is one number, and threads share out the points.

What a text is told beside buffers and extents: `thread` of its block, `block` of `blocks`, and memory that the threads
of a block share. It says `barrier()` where all threads of a block meet, always all of them: what is around a meeting is
the same for all.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from graphc.backends.contraction import TileShape
from graphc.backends.cuda.device import Grid
from graphc.backends.cuda.widths import is_narrow
from graphc.backends.primitives import Kernel
from graphc.backends.source.lines import Argument, identity
from graphc.backends.source.nests import Nests
from graphc.ir.frozen import dataclass
from graphc.ir.loops import Buffer, Index, LoopNest, Store, Term, overwritten_last, walked_by
from graphc.ir.ops import OPS
from graphc.ir.types import DTYPES, Extent, bound, monomials, multiply, round_up

if TYPE_CHECKING:
    from graphc.backends.lower.narrow import Span

THREADS = 256  # of a block
WARP = 32
MOST_BLOCKS = 1056  # a few for each of the multiprocessors there are
TOLD = ("thread", "block", "blocks")
WIDEST = 16  # bytes of an access
COUNTERS = "counters"  # kind of memory whose i64 are 0 when a launch begins, and have to be so again when it ends


class NotCovered(Exception):
    """A way to share a nest out among threads that cannot do this nest."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A kernel's argument: so many numbers that the threads of a block share."""

    dtype: str
    count: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A kernel that all threads of `grid` run, and what to call it with.

    arguments  a buffer, an extent, one of TOLD, or shared memory for each of the kernel's parameters
    rooms      bytes of the scratch and of the counters it needs, by buffer
    cleared    buffers that are 0 before it runs
    """

    kernel: Kernel
    arguments: tuple[Argument | Shared, ...]
    grid: Grid
    threads: int
    rooms: tuple[tuple[Buffer, int], ...] = ()
    cleared: tuple[Buffer, ...] = ()

    @property
    def shared_bytes(self) -> int:
        return sum(room(each) for each in self.arguments if isinstance(each, Shared))

    @property
    def only_read(self) -> set[Buffer]:
        """The memory that is read, and surely not written."""
        body = self.kernel.text.partition("\n")[2]
        pairs = zip(self.kernel.parameters, self.arguments, strict=True)
        told = {name: each for (name, _), each in pairs if isinstance(each, Buffer)}
        uses, reads = Counter(re.findall(r"\w+", body)), Counter(re.findall(r"\bload(?:_first)?\((\w+),", body))
        return {*told.values()} - {buffer for name, buffer in told.items() if uses[name] != reads[name]}


def room(shared: Shared) -> int:
    return round_up(shared.count * DTYPES[shared.dtype].itemsize, WIDEST)


class Threads(Nests):
    """Adds threads to the loops of a nest. `pieces` is its kernels, in order, or raises NotCovered."""

    loose = False  # some memory begins where accesses of many bytes must not
    precision = "highest"  # of what products multiply

    def __init__(self, nest: LoopNest) -> None:
        super().__init__(overwritten_last(replace(nest, stash=(), partition=None)), TileShape(1, 1))
        self.rows = 1
        self.mode = "thread"
        self.shared: dict[str, int] = {}
        self.tells = False  # blocks tell each other what they have done
        self.rooms: dict[Buffer, int] = {}
        self.known: dict[str, Span] = {}  # by name, what arithmetic alone does not tell

    def pieces(self) -> tuple[Piece, ...]:
        raise NotCovered("threads without loops")

    def is_lanes(self, term: Term) -> bool:
        return False

    def begin(self) -> None:
        """Parameters of every text."""
        self.declare_buffers()
        self.extents = [self.extent(f"n{axis}", extent) for axis, extent in enumerate(self.nest.frame)]
        for name in TOLD:
            self.parameters[name] = "i64"
            self.arguments[name] = name

    def finished(self, stem: str, grid: Grid, threads: int = THREADS) -> Piece:
        """The kernel of all lines, with the parameters they use."""
        shared = {f"shared_{dtype}": Shared(dtype, count) for dtype, count in self.shared.items()}
        if self.tells:
            shared["shared_count"] = Shared("i64", 1)
        self.parameters |= {name: f"{each.dtype}*" for name, each in shared.items()}
        body = "\n".join(self.lines) + "\n"
        used = set(re.findall(r"\w+", body))
        parameters = tuple((name, kind) for name, kind in self.parameters.items() if name in used)
        head = f"({', '.join(name for name, _ in parameters)}):\n"
        called = tuple(kernel for kernel in self.called.values() if kernel.plain_name in used)
        spans = {name: self.span_of(name, grid, threads) for name, kind in parameters if kind == "i64"}
        narrow = is_narrow(Kernel("f", f"def f{head}{body}", parameters, calls=called), spans | self.known)
        types = " ".join([*(kind for _, kind in parameters), "narrow" * narrow])
        name = f"{stem}_{hashlib.sha256((head + body + types).encode()).hexdigest()[:8]}"
        kernel = Kernel(name, f"def {name}{head}{body}", parameters, calls=called, narrow=narrow)
        for store in self.nest.stores:
            if store.buffer.kind == "scratch":
                count = bound(self.count(sorted(walked_by(store.index))))
                self.rooms.setdefault(store.buffer, count * DTYPES[store.term.dtype].itemsize)
        known: dict[str, Argument | Shared] = {**self.arguments, **shared}
        rooms = tuple((buffer, size) for buffer, size in self.rooms.items() if self.pointers[buffer] in used)
        return Piece(kernel, tuple(known[name] for name, _ in parameters), grid, threads, rooms)

    def span_of(self, name: str, grid: Grid, threads: int) -> Span:
        """The least and the greatest that a number of a kernel's parameters can be."""
        told = {"thread": (0, threads - 1), "block": (0, grid.most - 1), "blocks": (1, grid.most)}
        extent = self.arguments[name]
        if isinstance(extent, str):
            return told[extent]
        assert not isinstance(extent, Buffer)
        parts = [factor * math.prod(dim.max for dim in dims) for dims, factor in monomials(extent).items()]
        return sum(part for part in parts if part < 0), sum(part for part in parts if part > 0)

    # -- points

    def decode(self, number: str, axes: Sequence[int]) -> None:
        """The variables of axes at a number that counts through them, the last one fastest."""
        moving = [axis for axis in axes if self.nest.frame[axis] != 1]
        names = {axis: "j" if axis == self.nest.lane else self.variable(axis) for axis in axes}
        self.known |= {name: (0, max(bound(self.nest.frame[axis]) - 1, 0)) for axis, name in names.items()}
        for axis in axes:
            if axis not in moving:
                self.line(f"{names[axis]} = 0")
        for place, axis in enumerate(reversed(moving)):
            if place + 1 == len(moving):
                self.line(f"{names[axis]} = {number}")
                continue
            self.line(f"{names[axis]} = {number} % {self.extents[axis]}")
            rest = self.fresh("rest")
            self.line(f"{rest} = {number} // {self.extents[axis]}")
            number = rest

    def count(self, axes: Sequence[int]) -> Extent:
        return multiply(*(self.nest.frame[axis] for axis in axes))

    def count_text(self, axes: Sequence[int]) -> str:
        return " * ".join(self.extents[axis] for axis in axes if self.nest.frame[axis] != 1) or "1"

    # -- sums over threads

    def running_sum(self, term: Term, name: str) -> str:
        """The name of a sum, which begins with what leaves all others as they are."""
        self.line(f"{name} = {identity(name_of(term), term.dtype)}")
        return name

    def add_to(self, name: str, term: Term, text: str) -> None:
        self.line(f"{name} = {OPS[name_of(term)].scalar.format(name, text)}")

    def over_team(self, name: str, term: Term, width: int) -> None:
        """A number of each thread becomes that of all `width` threads side by side, the same bits in each of them."""
        self.over_warp(name, term, width)
        if width > WARP:
            self.to_block(name, term, 0)
            self.line("barrier()")
            self.of_block(name, term, 0)
            self.line("barrier()")  # before the next row's numbers come

    def over_warp(self, name: str, term: Term, width: int) -> None:
        distance = min(width, WARP) // 2
        while distance:
            other = self.fresh("other")
            self.line(f"{other} = shuffle_xor({name}, {distance})")
            self.add_to(name, term, other)
            distance //= 2

    def to_block(self, name: str, term: Term, number: int) -> None:
        """What each warp has, to shared memory; `number` says which of several sums it is."""
        dtype, warps = term.dtype, THREADS // WARP
        self.shared[dtype] = max(self.shared.get(dtype, 0), (number + 1) * warps)
        with self.block(f"if thread % {WARP} == 0:"):
            self.line(f"store(shared_{dtype}, {number * warps} + thread // {WARP}, {name})")

    def of_block(self, name: str, term: Term, number: int) -> None:
        """The sum over all warps."""
        dtype, warps = term.dtype, THREADS // WARP
        self.line(f"{name} = load(shared_{dtype}, {number * warps})")
        with self.block(f"for warp in range(1, {warps}):"):
            self.add_to(name, term, f"load(shared_{dtype}, {number * warps} + warp)")

    # -- what blocks tell each other

    @contextmanager
    def last_of(
        self, blocks: str, name: str, count: int = 1, place: str = "0", all_told: bool = True
    ) -> Iterator[None]:
        """What only the last of so many blocks does, which knows what the others have written.

        name, count, place  of the counters they count with, how many there are, and which one is meant
        all_told            all threads of a block have something to tell; else the first one alone
        """
        buffer = Buffer(COUNTERS, self.nest.stores[0].term.value, name)
        self.rooms[buffer] = count * DTYPES["i64"].itemsize
        pointer = self.pointer(buffer, name, "i64")
        self.tells = True
        if all_told:
            self.line("barrier()")
        with self.block("if thread == 0:"):
            self.line("fence()")
            self.line(f"store(shared_count, 0, count_up({pointer}, {place}))")
            self.line("fence()")
        self.line("barrier()")
        with self.block(f"if load(shared_count, 0) == {blocks} - 1:"):
            with self.block("if thread == 0:"):
                self.line(f"store({pointer}, {place}, i64(0))")
            yield

    # -- what is stored

    def put(self, store: Store) -> None:
        self.save(self.pointers[store.buffer], self.index(store.index), self.operand(store.term, False), False)

    def others_at_start(self, axes: frozenset[int]) -> str:
        """The condition that all axes but these are at their first place; "" where there is none."""
        others = [axis for axis, extent in enumerate(self.nest.frame) if axis not in axes and extent != 1]
        return " & ".join(f"({self.variable(axis)} == 0)" for axis in others)

    def once_for(self, axes: frozenset[int], *conditions: str) -> AbstractContextManager[None]:
        """Only once for each place along these axes, and under conditions."""
        found = [text for text in (*conditions, self.others_at_start(axes)) if text]
        return self.block(f"if {' & '.join(found)}:") if found else nullcontext()


def name_of(term: Term) -> str:
    """The op that a reduction combines with."""
    return str(term.detail[2] if term.kind == "column" else term.detail)


def made_of(terms: Iterable[Term]) -> set[Term]:
    """These terms and all they are made of."""
    found, stack = set[Term](), list(terms)
    while stack:
        term = stack.pop()
        found.add(term)
        stack.extend(term.operands)
    return found


def check_states(nest: LoopNest) -> None:
    """Raises NotCovered where one thread may read what another writes: a number that is read and written is so at one
    point only."""
    stored = {store.buffer: store.index for store in nest.stores if not store.term.late}
    moving = {axis for axis, extent in enumerate(nest.frame) if extent != 1}
    for term in nest.terms():
        if term.kind not in ("load", "take") or term.detail[0] not in stored:
            continue
        index = stored[term.detail[0]]
        if term.kind == "take" or set(term.detail[1]) != set(index) or not moving <= walked_by(index):
            raise NotCovered(f"{nest.name} reads and writes {term.detail[0].value.op.name}")


def row_major(frame: Sequence[Extent], axes: frozenset[int]) -> Index:
    """The index of an array that has those axes of a frame."""
    own = [axis for axis in sorted(axes) if frame[axis] != 1]
    return tuple((axis, multiply(*(frame[later] for later in own if later > axis))) for axis in own)


def grid_of(extent: Extent, each: int, most: int = MOST_BLOCKS) -> Grid:
    """Enough blocks for the work; its most is what the largest dims ask for."""
    return Grid(extent, each, max(min(most, -(-bound(extent) // each)), 1))

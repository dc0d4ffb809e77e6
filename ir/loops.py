"""Loop nests: what one kernel computes, still free of any target.

A nest walks its frame, outer axes one index at a time and the last axis sixteen lanes at a time. Its terms form a
small graph of their own; the axes a term varies along say where it is computed: once, once a row, or once a lane.
A reduction along the lane axis splits the work on a row into phases; every other reduction is complete after the loops.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from graphc.ir.frozen import dataclass
from graphc.ir.graph import IRError, Output, Value
from graphc.ir.layout import Steps
from graphc.ir.types import Dim, Extent, bound, content, multiply

if TYPE_CHECKING:
    from graphc.ir.program import Program
    from graphc.ir.tiles import Tiling

INDEXED = ("load", "take", "column", "scatter")  # terms whose detail starts with a buffer and an index
LANES = 16  # of every dtype on every target: it fixes the order of sums
Index = tuple[tuple[int | None, Extent], ...]  # (frame axis, stride) pairs; None: a number of elements ahead
Guards = tuple[tuple[Index, Extent], ...]  # all of these indices are in 0..extent-1
Lookups = tuple[tuple[Extent, Extent], ...]  # (stride, extent) of the axis each looked-up index goes along


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory a nest touches: an input or state, the home of a value, or scratch of the nest's own.

    kind   "input", "value", "result" (a named output), "scratch"
    value  whose memory it is; for scratch, the value it serves
    """

    kind: str
    value: Value
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Term:
    """One scalar or one set of lanes.

    kind   "load" (detail: buffer, index, guards), "constant" (number), "size" (extent), "iota" (index),
           "guard" (its operand inside of all guards, else 0; detail: guards),
           "compute" (detail: scalar template), "row" (reduce along the lanes; detail: op name),
           "total" (reduce to one number; detail: op name),
           "column" (reduce onto the kept axes, into memory; detail: buffer, index, op name),
           "product" (an element of the matrix product),
           "take" (a load at looked-up places; operands: the indices; detail: buffer, index, lookups),
           "scatter" (its first operand is added to memory where the others say; detail as of "take")
    axes   frame axes it varies along
    phase  how many lane reductions of the same row come before it
    late   computed after the loops
    """

    kind: str
    dtype: str
    value: Value
    axes: frozenset[int]
    operands: tuple[Term, ...] = ()
    detail: Any = None
    phase: int = 0
    late: bool = False

    def __repr__(self) -> str:
        return f"<{self.kind} {self.value.op.name} {self.dtype}>"


@dataclass(frozen=True, slots=True)
class Store:
    """One element of `term` goes to `buffer` at `index`."""

    term: Term
    buffer: Buffer
    index: Index
    phase: int = 0


@dataclass(frozen=True, slots=True)
class Operand:
    """A matrix read by a product: its buffer, where it starts, and how its rows and columns are walked.

    start          index over the nest's batch axes
    rows, columns  (extent, stride) pairs, outer first: one matrix axis may walk several axes of the buffer
    """

    buffer: Buffer
    start: Index
    rows: Steps
    columns: Steps


@dataclass(frozen=True, slots=True)
class Band:
    """The elements of a matrix for which column - row is at least `lowest` and at most `highest`; None: any number.

    sure  what is said of the others holds whatever the inputs are
    """

    lowest: int | None = None
    highest: int | None = None
    sure: bool = True


ALL = Band()


@dataclass(frozen=True, slots=True)
class Product:
    """rows x depth times depth x columns; the nest's frame is (batch axes …, rows, columns).

    filled  the band of the left operand outside of which there should be nothing but zeros (see ir/triangles.py)
    needed  the band of the product that is needed; the nest picks something else outside of it
    """

    left: Operand
    right: Operand
    depth: Extent
    filled: Band = ALL
    needed: Band = ALL


@dataclass(frozen=True, slots=True)
class Sweep:
    """An op that goes along the middle one of three axes in order, from `source` to `target`, both contiguous."""

    value: Value
    source: Buffer
    target: Buffer
    outer: Extent
    extent: Extent
    inner: Extent


@dataclass(frozen=True, slots=True)
class Repetition:
    """A program that is run step by step, its states carried along.

    trips     i64 scalar that says how many steps are taken, at most `length`; None: all
    carries   (state of the program, where it starts, where it is kept)
    slices    (data input, the array it is a slice of): one slice a step
    captured  (data input, the array it is)
    results   (result, the array it is a slice of)
    work      scratch for the program's own arena
    """

    program: Program
    value: Value
    trips: Buffer | None
    carries: tuple[tuple[Value, Buffer, Buffer], ...]
    slices: tuple[tuple[Value, Buffer], ...]
    captured: tuple[tuple[Value, Buffer], ...]
    results: tuple[tuple[Output, Buffer], ...]
    work: Buffer

    @property
    def rows(self) -> tuple[Dim, Dim] | None:
        """The rows of a step and those of all steps, where it goes through the rows of a batch."""
        found: tuple[Dim, Dim] | None = self.value.attrs.get("rows")
        return found

    def read(self) -> tuple[Buffer, ...]:
        trips = () if self.trips is None else (self.trips,)
        starts = (start for _, start, _ in self.carries)
        return (*trips, *starts, *(buffer for _, buffer in (*self.slices, *self.captured)))

    def written(self) -> tuple[Buffer, ...]:
        return (*(kept for *_, kept in self.carries), *(buffer for _, buffer in self.results))


@dataclass(frozen=True, slots=True)
class Partition:
    """A cut of a nest along one axis of its frame: into any number of parts, or into exactly `parts` if that is not 0.

    Exactly so many where sums go across the cut: each part has its own, which are added up in order afterwards.
    """

    axis: int
    parts: int = 0


@dataclass(frozen=True, slots=True)
class LoopNest:
    """for each point of `frame`: compute the terms, store what `stores` names. Or one sweep, tiling, or repetition.

    partition  how threads share it; None: one thread does it
    """

    name: str
    frame: tuple[Extent, ...]
    stores: tuple[Store, ...]
    product: Product | None = None
    origins: tuple[Any, ...] = ()
    stash: tuple[Term, ...] = ()
    sweep: Sweep | None = None
    tiling: Tiling | None = None
    repetition: Repetition | None = None
    partition: Partition | None = None
    memo: dict[str, Any] = field(default_factory=dict, repr=False, init=False, compare=False)

    @property
    def lane(self) -> int:
        return len(self.frame) - 1

    @property
    def lane_extent(self) -> Extent:
        return self.frame[-1] if self.frame else 1

    def terms(self) -> tuple[Term, ...]:
        """Every term, operands first."""
        found: tuple[Term, ...] | None = self.memo.get("terms")
        if found is None:
            found = self.memo["terms"] = tuple(self.find_terms())
        return found

    def find_terms(self) -> Iterator[Term]:
        seen: set[Term] = set()
        roots = [store.term for store in self.stores] + [*(() if self.tiling is None else self.tiling.terms)]
        stack = [(term, False) for term in reversed(roots)]
        while stack:
            term, ready = stack.pop()
            if ready:
                yield term
            elif term not in seen:
                seen.add(term)
                stack.append((term, True))
                stack.extend((operand, False) for operand in reversed(term.operands) if operand not in seen)

    def buffers(self) -> tuple[Buffer, ...]:
        """Every buffer, each once."""
        return tuple(dict.fromkeys((*self.read(), *self.written())))

    def read(self) -> tuple[Buffer, ...]:
        """The buffers numbers are taken from that were there before, each once, in order of first use."""
        found: list[Buffer] = []
        if self.product is not None:
            found += [self.product.left.buffer, self.product.right.buffer]
        if self.sweep is not None:
            found.append(self.sweep.source)
        if self.tiling is not None:
            found += [matrix.buffer for matrix in self.tiling.matrices]
        if self.repetition is not None:
            found += self.repetition.read()
        found += [term.detail[0] for term in self.terms() if term.kind in ("load", "take")]
        return tuple(dict.fromkeys(found))

    def written(self) -> tuple[Buffer, ...]:
        """The buffers something is left in, each once; scratch among them."""
        found = [term.detail[0] for term in self.terms() if term.kind in ("column", "scatter")]
        if self.sweep is not None:
            found.append(self.sweep.target)
        if self.tiling is not None:
            found += [room.buffer for room in self.tiling.rooms]
        if self.repetition is not None:
            found += self.repetition.written()
        return tuple(dict.fromkeys(found + [store.buffer for store in self.stores]))

    def values(self) -> Iterator[Value]:
        """The values it computes, some of them more than once."""
        whole = self.sweep or self.tiling or self.repetition
        if whole is not None:
            yield whole.value
        yield from (term.value for term in self.terms() if term.kind not in ("load", "constant", "size", "iota"))


def lane_mode(extent: Extent) -> str:
    """How a lane axis is walked: in "one" whole step, in whole steps ("exact"), in one masked step ("single"), or in
    whole steps and a masked rest ("ragged").
    """
    if content(extent) % LANES == 0:
        return "one" if extent == LANES else "exact"
    return "single" if isinstance(extent, int) and extent < LANES else "ragged"


def walked_by(index: Index) -> frozenset[int]:
    """The frame axes that move an index."""
    return frozenset(axis for axis, _ in index if axis is not None)


def axes_of_guards(guards: Guards) -> frozenset[int]:
    return frozenset().union(*(walked_by(index) for index, _ in guards))


def guards_of(term: Term) -> Guards:
    """The guards a term is read under."""
    if term.kind == "load":
        guards: Guards = term.detail[2]
        return guards
    return term.detail if term.kind == "guard" else ()


FEW = 4  # lanes that are written out one by one, where what is done to each is cheap


def has_few_lanes(nest: LoopNest) -> bool:
    """Whether sixteen lanes would mostly idle: a row of up to FEW numbers, each its own term."""
    if nest.product is not None or not isinstance(nest.lane_extent, int) or not 1 <= nest.lane_extent <= FEW:
        return False
    lanes = [term for term in nest.terms() if nest.lane in term.axes]
    return bool(nest.frame) and all(term.kind != "compute" or term.value.op.cost <= 1 for term in lanes)


ROWS, SHORT = 4, 256  # rows that are computed side by side, and up to how many lanes each
WORTH = 1 << 14  # elements of a nest from which on that is worth a text five times as long


def rows_together(nest: LoopNest) -> int:
    """How many rows go side by side: a short one with sums along it would mostly wait for its own numbers.

    Not where lanes look up what they are added to, as another row may come upon the same place; nor with random bits,
    which are shared along the lanes.
    """
    if nest.lane < 1 or bound(nest.frame[-2]) < ROWS or bound(multiply(*nest.frame)) < WORTH:
        return 1
    if bound(nest.lane_extent) > SHORT or has_few_lanes(nest):
        return 1
    terms = list(nest.terms())
    scattered = any(nest.lane in index.axes for term in terms if term.kind == "scatter" for index in term.operands[1:])
    drawn = any(term.value.op.name == "random_bits" for term in terms)
    return ROWS if any(term.kind == "row" for term in terms) and not (scattered or drawn) else 1


def row_room(nest: LoopNest) -> int:
    """Elements that one row of scratch takes."""
    return (bound(nest.lane_extent) // LANES + 2) * LANES


# -- phases


def phase_roots(nest: LoopNest, phase: int) -> list[Term]:
    """The lane terms a lane loop of that phase is there for."""
    lane = nest.lane
    consumed = [term.operands[0] for term in nest.terms() if term.kind in ("row", "total", "column")]
    consumed += [operand for term in nest.terms() if term.kind == "scatter" for operand in term.operands]
    roots = [term for term in consumed if term.phase == phase]
    roots += [store.term for store in nest.stores if store.phase == phase and not store.term.late]
    return [term for term in dict.fromkeys(roots) if lane in term.axes]


def phase_count(nest: LoopNest) -> int:
    """How many lane loops a row takes."""
    phases = [term.phase for term in nest.terms()] + [store.phase for store in nest.stores]
    return 1 + max(phases, default=0)


def lane_terms(nest: LoopNest, phase: int) -> set[Term]:
    """Every lane term a lane loop of that phase computes, loads, or has kept in a row."""
    found: set[Term] = set()
    stack = phase_roots(nest, phase)
    while stack:
        term = stack.pop()
        if term in found or nest.lane not in term.axes:
            continue
        found.add(term)
        if not (term in nest.stash and term.phase < phase):
            stack.extend(term.operands)
    return found


def overwritten_last(nest: LoopNest) -> LoopNest:
    """The nest with every state overwritten no sooner than in the last phase that reads it."""
    last: dict[Buffer, int] = {}
    for phase in range(phase_count(nest)):
        last |= {term.detail[0]: phase for term in lane_terms(nest, phase) if term.kind == "load"}
    states = [store for store in nest.stores if store.buffer.kind == "input"]
    if all(store.phase >= last.get(store.buffer, 0) for store in states):
        return nest
    later = {store: replace(store, phase=max(store.phase, last.get(store.buffer, 0))) for store in states}
    # What is computed later may read other states there.
    return overwritten_last(replace(nest, stores=tuple(later.get(store, store) for store in nest.stores)))


def expensive_across_phases(nest: LoopNest) -> Iterator[Term]:
    """Lane terms that cost too much to compute again in a later phase; they are kept in a row of scratch."""
    if lane_mode(nest.lane_extent) in ("single", "one"):
        return  # and so are those of few lanes
    found: set[Term] = set()
    for phase in range(1, phase_count(nest)):
        stack, seen = phase_roots(nest, phase), set[Term]()
        while stack:
            term = stack.pop()
            if term in seen or nest.lane not in term.axes:
                continue
            seen.add(term)
            if term.phase < phase and term.kind == "compute" and term.value.op.cost > 1:
                found.add(term)
            else:
                stack.extend(term.operands)
    yield from (term for term in nest.terms() if term in found)


# -- text and checks


def print_nest(nest: LoopNest) -> str:
    """The nest as text: frame, one line a term, one a store."""
    names = {term: f"{term.value.op.name}{number}" for number, term in enumerate(nest.terms())}
    head = f"nest {nest.name} over [{', '.join(map(str, nest.frame))}]"
    if nest.repetition is not None:
        return f"nest {nest.name} {nest.repetition.value.attrs['length']} times\n"
    if nest.sweep is not None:
        sweep = nest.sweep
        extents = f"[{sweep.outer}, {sweep.extent}, {sweep.inner}]"
        return f"nest {nest.name} along {extents}: {print_buffer(sweep.source)} -> {print_buffer(sweep.target)}\n"
    if nest.tiling is not None:
        head = f"{head} tile by tile, {print_tiling(nest.tiling)}"
    head = head if nest.product is None else f"{head} of {print_product(nest.product)}"
    if nest.partition is not None:
        cut = f"{nest.partition.parts} parts" if nest.partition.parts else "parts"
        head = f"{head}, cut into {cut} along axis {nest.partition.axis}"
    lines = [head]
    for term, name in names.items():
        operands = ", ".join(names[operand] for operand in term.operands)
        level = "after" if term.late else f"axes {sorted(term.axes)} phase {term.phase}"
        detail = "" if term.detail is None else f" {print_detail(term)}"
        lines.append(f"  {name}: {term.dtype} = {term.kind}({operands}){detail}  # {level}")
    for store in nest.stores:
        lines.append(f"  store {names[store.term]} -> {print_buffer(store.buffer)}{list(store.index)}")
    return "\n".join(lines) + "\n"


def print_product(product: Product) -> str:
    """Its depth, and what may be left out of it."""
    text = f"a product of depth {product.depth}"
    text += print_band(product.filled, "its left operand is 0")
    return text + print_band(product.needed, "it is not needed")


def print_band(band: Band, meaning: str) -> str:
    """What is so outside of a band."""
    text = ""
    if band.highest is not None:
        text += f", {meaning} where column - row > {band.highest}"
    if band.lowest is not None:
        text += f", {meaning} where column - row < {band.lowest}"
    return text


def print_tiling(tiling: Tiling) -> str:
    """Where its results go, and what may be left out of it."""
    targets = ", ".join(print_buffer(room.buffer) for room in tiling.rooms)
    return f"one vector a place of axis {tiling.own} -> {targets}{print_band(tiling.filled, 'weights are 0')}"


def print_detail(term: Term) -> str:
    if term.kind in INDEXED:
        return f"{print_buffer(term.detail[0])}{list(term.detail[1])}"
    return str(term.detail)


def print_buffer(buffer: Buffer) -> str:
    if buffer.kind == "input":
        return str(buffer.value.attrs["name"])
    return buffer.name or f"{buffer.kind} {buffer.value.op.name}"


def verify_nest(nest: LoopNest) -> LoopNest:
    """The nest itself; raises IRError when a term is used before it is ready."""
    axes = set(range(len(nest.frame)))
    for term in nest.terms():
        if not term.axes <= axes:
            raise IRError(f"{nest.name}: {term.value.op.name} walks axes {set(term.axes)} of a frame of {len(axes)}")
        for operand in term.operands:
            if operand.late and not term.late:
                raise IRError(f"{nest.name}: {term.value.op.name} reads {operand.value.op.name} before it is complete")
            if not term.late and operand.phase > term.phase:
                raise IRError(f"{nest.name}: {term.value.op.name} of phase {term.phase} reads phase {operand.phase}")
            if term.kind == "compute" and not operand.axes <= term.axes:
                raise IRError(f"{nest.name}: {term.value.op.name} varies along fewer axes than its operand")
    if nest.product is not None:
        operands = {nest.product.left.buffer, nest.product.right.buffer}
        if any(store.buffer in operands for store in nest.stores):
            raise IRError(f"{nest.name}: writes what its own product reads")
    for store in nest.stores:
        if walked_by(store.index) != store.term.axes and store.term.kind != "compute":
            raise IRError(f"{nest.name}: store of {store.term.value.op.name} does not walk the axes it varies along")
    return nest

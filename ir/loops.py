"""Loop nests: what one kernel computes, still free of any target.

A nest walks its frame, outer axes one index at a time and the last axis sixteen lanes at a time. Its terms form a
small graph of their own; the axes a term varies along say where it is computed: once, once a row, or once a lane.
A reduction along the lane axis splits the work on a row into phases; every other reduction is complete after the loops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from graphc.ir import ops
from graphc.ir.access import Access, memory_of, resolve, strides
from graphc.ir.fuse import Axes, Group
from graphc.ir.graph import IRError, Output, Value
from graphc.ir.layout import Steps, elements, matrix_layout
from graphc.ir.types import STAY, Extent, Shape, Walk, add, along, content, multiply

if TYPE_CHECKING:
    from graphc.ir.program import Program

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


@dataclass(frozen=True, slots=True, eq=False)
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
class Product:
    """rows x depth times depth x columns; the nest's frame is (batch axes …, rows, columns)."""

    left: Operand
    right: Operand
    depth: Extent


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

    def read(self) -> tuple[Buffer, ...]:
        trips = () if self.trips is None else (self.trips,)
        starts = (start for _, start, _ in self.carries)
        return (*trips, *starts, *(buffer for _, buffer in (*self.slices, *self.captured)))

    def written(self) -> tuple[Buffer, ...]:
        return (*(kept for *_, kept in self.carries), *(buffer for _, buffer in self.results))


@dataclass(frozen=True, slots=True)
class LoopNest:
    """for each point of `frame`: compute the terms, store what `stores` names. Or one sweep, or one repetition."""

    name: str
    frame: tuple[Extent, ...]
    stores: tuple[Store, ...]
    product: Product | None = None
    origins: tuple[Any, ...] = ()
    stash: tuple[Term, ...] = ()
    sweep: Sweep | None = None
    repetition: Repetition | None = None
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
        stack = [(store.term, False) for store in reversed(self.stores)]
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
        if self.repetition is not None:
            found += self.repetition.read()
        found += [term.detail[0] for term in self.terms() if term.kind in ("load", "take")]
        return tuple(dict.fromkeys(found))

    def written(self) -> tuple[Buffer, ...]:
        """The buffers something is left in, each once; scratch among them."""
        found = [term.detail[0] for term in self.terms() if term.kind in ("column", "scatter")]
        if self.sweep is not None:
            found.append(self.sweep.target)
        if self.repetition is not None:
            found += self.repetition.written()
        return tuple(dict.fromkeys(found + [store.buffer for store in self.stores]))

    def values(self) -> Iterator[Value]:
        """The values it computes, some of them more than once."""
        whole = self.sweep or self.repetition
        if whole is not None:
            yield whole.value
        yield from (term.value for term in self.terms() if term.kind not in ("load", "constant", "size", "iota"))


def lane_mode(extent: Extent) -> str:
    """How a lane axis is walked: "exact" in whole steps, "single" in one masked step, "ragged" with a masked rest."""
    if content(extent) % LANES == 0:
        return "one" if extent == LANES else "exact"
    return "single" if isinstance(extent, int) and extent < LANES else "ragged"


class Builder:
    """Turns one group of values into a nest; `places` says which values are stored, and where."""

    def __init__(self, group: Group, places: Mapping[Value, tuple[Buffer, ...]]) -> None:
        self.group = group
        self.places = places
        self.made: dict[Access, Term] = {}

    def build(self) -> LoopNest:
        if self.group.whole is not None:
            return self.sweep(self.group.whole)
        stores = [store for value in self.group.axes for store in self.store(value)]
        last = max((store.term.phase for store in stores), default=0)
        # A state is overwritten only once the row has been read for the last time.
        stores = [replace(store, phase=last) if store.buffer.kind == "input" else store for store in stores]
        nest = LoopNest(
            name=nest_name(self.group),
            frame=self.group.frame,
            stores=tuple(stores),
            product=self.product(),
            origins=tuple(dict.fromkeys(value.origin for value in self.group.axes if value.origin is not None)),
        )
        nest = turn_lanes(collapse(nest))
        return replace(nest, stash=tuple(expensive_across_phases(nest)))

    def sweep(self, value: Value) -> LoopNest:
        axis, shape = value.attrs["axis"], value.shape
        source, (target,) = home(value.operands[0]), self.places[value]
        extents = (multiply(*shape[:axis]), shape[axis], multiply(*shape[axis + 1 :]))
        origins = () if value.origin is None else (value.origin,)
        return LoopNest(nest_name(self.group), (), (), origins=origins, sweep=Sweep(value, source, target, *extents))

    def product(self) -> Product | None:
        value = self.group.product
        if value is None:
            return None
        left, right = (self.matrix(value, operand) for operand in value.operands)
        return Product(left, right, value.operands[0].shape[-1])

    def matrix(self, product: Value, operand: Value) -> Operand:
        layout = matrix_layout(operand)
        assert layout is not None
        batch = self.group.axes[product][:-2]
        start = [(batch[axis], step) for axis, step in layout.batch if batch[axis] is not None]
        return Operand(home(layout.root), tidy([(None, layout.offset), *start]), layout.rows, layout.columns)

    def term(self, access: Access) -> Term:
        """What is read by an access over the frame's axes."""
        if access not in self.made:
            self.made[access] = self.make(access)
        return self.made[access]

    def make(self, access: Access) -> Term:
        root = access.root
        if root in self.group.axes:
            return self.compute(root)
        guards = tuple((walk_index(walk, 1), extent) for walk, extent in access.guards)
        if memory_of(root).op is ops.input or memory_of(root) in self.places:
            detail = (home(root), index_of(root, access.walks), guards)
            return Term("load", root.dtype, root, frozenset(access.walked), detail=detail)
        found = self.constant(access)
        if not guards:
            return found
        return Term("guard", root.dtype, root, found.axes | axes_of_guards(guards), (found,), guards, found.phase)

    def constant(self, access: Access) -> Term:
        """A number that is written out or computed again wherever it is used."""
        root = access.root
        if root.op is ops.full:
            return Term("constant", root.dtype, root, frozenset(), detail=root.attrs["value"])
        if root.op is ops.size:
            return Term("size", root.dtype, root, frozenset(), detail=root.attrs["extent"])
        if root.op is ops.iota:
            index = walk_index(access.walks[root.attrs["axis"]], 1)
            return Term("iota", root.dtype, root, walked_by(index), detail=index)
        operands = tuple(self.term(stayed(resolve(operand))) for operand in root.operands)
        return Term("compute", root.dtype, root, frozenset(), operands, scalar_source(root))

    def compute(self, value: Value) -> Term:
        if value.op.kind == "contraction":
            return Term("product", value.dtype, value, frozenset(self.group.walked(value)))
        if value.op.kind == "gather":
            return self.take(value)
        operands = tuple(self.term(self.group.framed(value, resolve(operand))) for operand in value.operands)
        if value.op.kind == "reduce":
            return self.reduce(value, operands[0])
        if value.op.kind == "scatter":
            return self.scatter(value, operands)
        late = value in self.group.after
        phase = 0 if late else max(operand.phase for operand in operands)
        axes = frozenset(self.group.walked(value))
        return Term("compute", value.dtype, value, axes, operands, scalar_source(value), phase, late)

    def take(self, value: Value) -> Term:
        table, *indices = map(resolve, value.operands)
        offset, steps = elements(table)
        operands = tuple(self.term(self.group.framed(value, index)) for index in indices)
        index, lookups = self.looked_up(value, value.operands[0].shape, steps)
        axes = walked_by(index).union(*(operand.axes for operand in operands))
        detail = (home(table.root), tidy([(None, offset), *index]), lookups)
        return Term("take", value.dtype, value, axes, operands, detail, max(operand.phase for operand in operands))

    def scatter(self, value: Value, operands: tuple[Term, ...]) -> Term:
        steps = dict(enumerate(strides(value.shape)))
        place = next(place for place in self.places[value] if place.kind == "value")
        phase = max(operand.phase for operand in operands)
        values = replace(self.at_every_point(value, operands[0]), phase=phase)
        detail = (place, *self.looked_up(value, value.shape, steps))
        return Term("scatter", value.dtype, value, frozenset(), (values, *operands[1:]), detail, phase, late=True)

    def looked_up(self, value: Value, table: Shape, steps: Mapping[int, Extent]) -> tuple[Index, Lookups]:
        """The index along the axes of a table that follow the frame, and the stride of each that is looked up."""
        followed: list[tuple[int | None, Extent]] = []
        lookups: dict[int, tuple[Extent, Extent]] = {}
        for axis, place in enumerate(value.attrs["places"]):
            if place < 0:
                lookups[-1 - place] = (steps.get(axis, 0), table[axis])
            elif self.group.points[value][place] is not None:
                followed.append((self.group.points[value][place], steps.get(axis, 0)))
        return tidy(followed), tuple(lookups[number] for number in sorted(lookups))

    def at_every_point(self, value: Value, operand: Term) -> Term:
        """The operand as one number a point of the loops: one that is broadcast counts once for every point."""
        points = frozenset(walked(self.group.points[value]))
        if points <= operand.axes:
            return operand
        return Term("compute", operand.dtype, operand.value, points, (operand,), "{0}", operand.phase)

    def reduce(self, value: Value, operand: Term) -> Term:
        kept = frozenset(self.group.walked(value))
        operand = self.at_every_point(value, operand)
        if value not in self.group.after:
            return Term("row", value.dtype, value, kept, (operand,), value.op.name, operand.phase + 1)
        if not kept:
            return Term("total", value.dtype, value, kept, (operand,), value.op.name, operand.phase, late=True)
        lane = self.group.lane
        if lane in operand.axes and lane not in kept:  # first along the lanes, then across rows
            axes, phase = operand.axes - {lane}, operand.phase + 1
            operand = Term("row", value.dtype, value, axes, (operand,), value.op.name, phase)
        in_place = next((place for place in self.places.get(value, ()) if place.kind == "value"), None)
        place = in_place or Buffer("scratch", value, "sums")
        detail = (place, index_of(value, straight(self.group.axes[value])), value.op.name)
        return Term("column", value.dtype, value, kept, (operand,), detail, operand.phase, late=True)

    def store(self, value: Value) -> Iterator[Store]:
        """Where the value goes. Columns summed in their own place are there already: that place is named only where
        there is no other, because a nest is found from what it stores."""
        walks = straight(self.group.axes[value])
        for place in self.places.get(value, ()):
            term = self.term(Access(value, self.group.frame, walks))
            if term.kind != "column" or term.detail[0] != place or len(self.places[value]) == 1:
                yield Store(term, place, index_of(value, walks), term.phase)


def walked(axes: Axes) -> set[int]:
    return {axis for axis in axes if axis is not None}


def home(root: Value) -> Buffer:
    """The memory a stored value or input is read from."""
    owner = memory_of(root)
    return Buffer("input" if owner.op is ops.input else "value", owner)


def straight(axes: Axes) -> tuple[Walk, ...]:
    """The walks of a plain access."""
    return tuple(STAY if axis is None else along(axis) for axis in axes)


def stayed(access: Access) -> Access:
    """An access by a single number, none of whose axes moves."""
    guards = tuple((replace(walk, steps=()), extent) for walk, extent in access.guards)
    return Access(access.root, (), tuple(replace(walk, steps=()) for walk in access.walks), guards)


def index_of(value: Value, walks: tuple[Walk, ...]) -> Index:
    """Where an element of the value stands in its memory, by frame axes."""
    parts = zip(walks, strides(value.shape), strict=True)
    return tidy([part for walk, stride in parts for part in walk_index(walk, stride)])


def walk_index(walk: Walk, stride: Extent) -> Index:
    """A walk along an axis whose neighbours are `stride` elements apart."""
    return tidy([(None, multiply(walk.offset, stride)), *((axis, multiply(step, stride)) for axis, step in walk.steps)])


def tidy(parts: Sequence[tuple[int | None, Extent]]) -> Index:
    """Each axis once, and no step of 0."""
    found: dict[int | None, Extent] = {}
    for axis, step in parts:
        found[axis] = add(found.get(axis, 0), step)
    return tuple((axis, step) for axis, step in found.items() if step != 0)


def walked_by(index: Index) -> frozenset[int]:
    """The frame axes that move an index."""
    return frozenset(axis for axis, _ in index if axis is not None)


def axes_of_guards(guards: Guards) -> frozenset[int]:
    return frozenset().union(*(walked_by(index) for index, _ in guards))


def scalar_source(value: Value) -> str:
    """The op's scalar template with its attributes filled in; operands stay `{0}`, `{1}`."""
    return value.op.scalar.replace("{dtype}", value.attrs.get("dtype", ""))


def nest_name(group: Group) -> str:
    """The ops of the group in order, each once, no more than four."""
    names = list(dict.fromkeys(value.op.name for value in group.axes))
    if len(names) > 4:
        names = [*names[:2], "to", *names[-2:]]
    return "_".join(names)


# -- collapsing axes


def collapse(nest: LoopNest) -> LoopNest:
    """Neighbouring axes that every access walks as one become one, so that loops get long."""
    if nest.product is not None:
        return nest
    axis = len(nest.frame) - 2
    while axis >= 0:
        if can_collapse(nest, axis):
            nest = collapse_axis(nest, axis)
        axis -= 1
    return nest


def can_collapse(nest: LoopNest, axis: int) -> bool:
    pair = {axis, axis + 1}
    terms = list(nest.terms())
    if any(axis in pair for term in terms if term.kind == "iota" for axis, _ in term.detail):
        return False
    if any(axes_of_guards(guards_of(term)) & pair for term in terms):
        return False
    if any(len(term.axes & pair) == 1 for term in terms):
        return False
    indices = [term.detail[1] for term in terms if term.kind in INDEXED]
    indices += [store.index for store in nest.stores]
    return all(is_contiguous(dict(index), axis, nest.frame[axis + 1]) for index in indices)


def guards_of(term: Term) -> Guards:
    """The guards a term is read under."""
    if term.kind == "load":
        guards: Guards = term.detail[2]
        return guards
    return term.detail if term.kind == "guard" else ()


def is_contiguous(steps: dict[int | None, Extent], axis: int, extent: Extent) -> bool:
    if axis not in steps and axis + 1 not in steps:
        return True
    return axis in steps and axis + 1 in steps and steps[axis] == multiply(steps[axis + 1], extent)


def collapse_axis(nest: LoopNest, axis: int) -> LoopNest:
    """The nest with axes `axis` and `axis + 1` as one."""
    frame = (*nest.frame[:axis], multiply(nest.frame[axis], nest.frame[axis + 1]), *nest.frame[axis + 2 :])
    numbers = {old: None if old == axis else old - (old > axis) for old in range(len(nest.frame))}
    return renumber(nest, frame, numbers)


def renumber(nest: LoopNest, frame: tuple[Extent, ...], numbers: Mapping[int, int | None]) -> LoopNest:
    """The nest over another frame; `numbers` says what becomes of each axis, None that it is part of the next one."""
    moved: dict[Term, Term] = {}

    def shift_index(index: Index) -> Index:
        pairs = ((old, old if old is None else numbers[old], stride) for old, stride in index)
        return tuple((new, stride) for old, new, stride in pairs if old is None or new is not None)

    def shift_guards(guards: Guards) -> Guards:
        return tuple((shift_index(index), extent) for index, extent in guards)

    for term in nest.terms():
        detail = term.detail
        if term.kind == "load":
            detail = (detail[0], shift_index(detail[1]), shift_guards(detail[2]))
        elif term.kind in INDEXED:
            detail = (detail[0], shift_index(detail[1]), detail[2])
        if term.kind == "iota":
            detail = shift_index(detail)
        if term.kind == "guard":
            detail = shift_guards(detail)
        found = (numbers[old] for old in term.axes)
        axes = frozenset(axis for axis in found if axis is not None)
        operands = tuple(moved[operand] for operand in term.operands)
        moved[term] = replace(term, axes=axes, operands=operands, detail=detail)
    stores = tuple(replace(store, term=moved[store.term], index=shift_index(store.index)) for store in nest.stores)
    return replace(nest, frame=frame, stores=stores)


SHORT = 4  # a lane axis up to this long leaves too many lanes idle, if there is a longer one
LONG = 8


def turn_lanes(nest: LoopNest) -> LoopNest:
    """The nest with a longer axis along the lanes, where the last one is short and nothing is reduced along it."""
    last = nest.lane_extent
    fixed = any(term.kind in ("row", "total", "column", "scatter", "product") or term.late for term in nest.terms())
    if fixed or not isinstance(last, int) or last > SHORT:
        return nest
    longer = [axis for axis, extent in enumerate(nest.frame) if not isinstance(extent, int) or extent >= LONG]
    if not longer:
        return nest
    order = [axis for axis in range(len(nest.frame)) if axis != longer[-1]] + [longer[-1]]
    return renumber(nest, tuple(nest.frame[axis] for axis in order), {old: new for new, old in enumerate(order)})


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


def expensive_across_phases(nest: LoopNest) -> Iterator[Term]:
    """Lane terms that cost too much to compute again in a later phase; they are kept in a row of scratch."""
    if lane_mode(nest.lane_extent) in ("single", "one"):
        return
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
    lines = [head if nest.product is None else f"{head} of a product of depth {nest.product.depth}"]
    for term, name in names.items():
        operands = ", ".join(names[operand] for operand in term.operands)
        level = "after" if term.late else f"axes {sorted(term.axes)} phase {term.phase}"
        detail = "" if term.detail is None else f" {print_detail(term)}"
        lines.append(f"  {name}: {term.dtype} = {term.kind}({operands}){detail}  # {level}")
    for store in nest.stores:
        lines.append(f"  store {names[store.term]} -> {print_buffer(store.buffer)}{list(store.index)}")
    return "\n".join(lines) + "\n"


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
        if {axis for axis, _ in store.index} != set(store.term.axes) and store.term.kind != "compute":
            raise IRError(f"{nest.name}: store of {store.term.value.op.name} does not walk the axes it varies along")
    return nest

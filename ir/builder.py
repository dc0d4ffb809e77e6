"""From a group of values to the nest that computes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from graphc.ir import ops
from graphc.ir.access import Access, follow, memory_of, resolve, strides
from graphc.ir.frames import collapse, turn_lanes
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Value
from graphc.ir.group import Group, frame_axes, straight
from graphc.ir.layout import elements, matrix_layout
from graphc.ir.loops import (
    ALL,
    Band,
    Buffer,
    Index,
    Lookups,
    LoopNest,
    Operand,
    Product,
    Store,
    Sweep,
    Term,
    axes_of_guards,
    expensive_across_phases,
    overwritten_last,
    walked_by,
)
from graphc.ir.triangles import Found
from graphc.ir.types import Extent, Shape, Walk, add, multiply


@dataclass(frozen=True, slots=True)
class Part:
    """Where a value goes in the memory of a join: its first element, and the step along each of its axes."""

    buffer: Buffer
    offset: Extent
    steps: tuple[Extent, ...]


Places = Mapping[Value, tuple[Buffer, ...]]
Parts = Mapping[Value, tuple[Part, ...]]


class Builder:
    """Turns one group of values into a nest.

    places  which values are stored, and where
    parts   which of them are stored as parts of joins
    found   what is known of their corners
    """

    def __init__(self, group: Group, places: Places, parts: Parts, found: Found) -> None:
        self.group = group
        self.found = found
        self.places = places
        self.parts = parts
        self.made: dict[Access, Term] = {}

    def build(self) -> LoopNest:
        if self.group.whole is not None:
            return self.sweep(self.group.whole)
        for value, axes in self.group.axes.items():  # operands first: a long chain must not become a deep recursion
            self.term(Access(value, self.group.frame, straight(axes)))
        nest = LoopNest(
            name=nest_name(self.group),
            frame=self.group.frame,
            stores=tuple(store for value in self.group.axes for store in self.store(value)),
            product=self.product(),
            origins=tuple(dict.fromkeys(value.origin for value in self.group.axes if value.origin is not None)),
        )
        nest = overwritten_last(turn_lanes(collapse(nest)))
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
        return Product(left, right, value.operands[0].shape[-1], self.filled(value.operands[0]), self.needed(value))

    def filled(self, matrix: Value) -> Band:
        """Where a matrix may hold anything but zeros."""
        corners = self.found[matrix].below, self.found[matrix].above
        zeros = [corner if corner is not None and corner.number == 0 else None for corner in corners]
        lowest, highest = (None if corner is None else corner.diagonal for corner in zeros)
        return Band(lowest, highest, sure=all(corner is None or corner.sure for corner in zeros))

    def needed(self, value: Value) -> Band:
        """Where a value is needed: not where all its readers pick another by a condition of rows and columns."""
        if value in self.places or value in self.parts:
            return ALL
        bands = []
        for reader in self.group.axes:
            if any(resolve(operand).root is value for operand in reader.operands):
                bands.append(self.needed_by(reader, value))
        lowest, highest = [band.lowest for band in bands], [band.highest for band in bands]
        return Band(
            None if None in lowest else min((number for number in lowest if number is not None), default=None),
            None if None in highest else max((number for number in highest if number is not None), default=None),
        )

    def needed_by(self, reader: Value, value: Value) -> Band:
        if reader.op.kind != "elementwise" or any(
            resolve(operand).root is value and operand is not value for operand in reader.operands
        ):
            return ALL
        if reader.op is not ops.where or value not in reader.operands[1:]:
            return self.needed(reader)
        condition, picked, other = reader.operands
        if value in (condition, other if value is picked else picked):
            return ALL
        corners = self.found[condition]
        lowest, highest = (
            corner.diagonal if corner is not None and corner.sure and bool(corner.number) != (value is picked) else None
            for corner in (corners.below, corners.above)
        )
        return Band(lowest, highest)

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
        if root in self.group.again:
            return self.compute_again(access)
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

    def compute_again(self, access: Access) -> Term:
        """A value of another nest, at the point it is read from."""
        value = access.root
        operands = tuple(self.term(seen_from(access, resolve(operand))) for operand in value.operands)
        axes = frozenset[int]().union(*(operand.axes for operand in operands))
        phase = max(operand.phase for operand in operands)
        return Term("compute", value.dtype, value, axes, operands, scalar_source(value), phase)

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
        points = frozenset(frame_axes(self.group.points[value]))
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
        for part in self.parts.get(value, ()):
            steps = zip(self.group.axes[value], part.steps, strict=True)
            index = tidy([(None, part.offset), *((axis, step) for axis, step in steps if axis is not None)])
            term = self.term(Access(value, self.group.frame, walks))
            yield Store(term, part.buffer, index, term.phase)


def home(root: Value) -> Buffer:
    """The memory a stored value or input is read from."""
    owner = memory_of(root)
    return Buffer("input" if owner.op is ops.input else "value", owner)


def stayed(access: Access) -> Access:
    """An access by a single number, none of whose axes moves."""
    guards = tuple((replace(walk, steps=()), extent) for walk, extent in access.guards)
    return Access(access.root, (), tuple(replace(walk, steps=()) for walk in access.walks), guards)


def seen_from(outer: Access, inner: Access) -> Access:
    """What the root of one access reads by another, as its own reader sees it."""
    guards = tuple((follow(walk, outer.walks), extent) for walk, extent in inner.guards)
    return Access(inner.root, outer.shape, tuple(follow(walk, outer.walks) for walk in inner.walks), guards)


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


def scalar_source(value: Value) -> str:
    """The op's scalar template with its attributes filled in; operands stay `{0}`, `{1}`."""
    return value.op.scalar.replace("{dtype}", value.attrs.get("dtype", ""))


def nest_name(group: Group) -> str:
    """The ops of the group in order, each once, no more than four."""
    names = list(dict.fromkeys(value.op.name for value in group.axes))
    if len(names) > 4:
        names = [*names[:2], "to", *names[-2:]]
    return "_".join(names)

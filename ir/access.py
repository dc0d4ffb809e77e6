"""How a reader sees a value through views: which stored value it is, and how its own axes walk that value's axes."""

from __future__ import annotations

from graphc.ir import ops
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Value
from graphc.ir.types import STAY, Extent, Shape, Walk, add, along, multiply


@dataclass(frozen=True, slots=True)
class Access:
    """`walks[d]` says how the reader's axes, of extents `shape`, move along axis d of `root`.

    guards  (walk, extent): where the walk leaves 0..extent-1, what is read is 0
    whole   the reader chooses its places itself (a product, a look-up); the walks go from the operand's own axes
    """

    root: Value
    shape: Shape
    walks: tuple[Walk, ...]
    guards: tuple[tuple[Walk, Extent], ...] = ()
    whole: bool = False

    @property
    def is_plain(self) -> bool:
        """Every axis of the root is walked straight and whole by one axis of the reader, or is of size 1."""
        if self.whole or self.guards:
            return False
        return all(
            walk.offset == 0 and self.covers(walk, extent)
            for walk, extent in zip(self.walks, self.root.shape, strict=True)
        )

    def covers(self, walk: Walk, extent: Extent) -> bool:
        """One axis of the reader goes once along the whole of an axis of that extent."""
        if not walk.steps:
            return extent == 1
        axis, step = walk.steps[0]
        return len(walk.steps) == 1 and step == 1 and self.shape[axis] == extent

    @property
    def axes(self) -> tuple[int | None, ...]:
        """Of a plain access: the reader's axis that walks each axis of the root; None stays at index 0."""
        assert self.is_plain
        return tuple(walk.steps[0][0] if walk.steps else None for walk in self.walks)

    @property
    def walked(self) -> set[int]:
        """Every axis of the reader that moves what is read."""
        walks = (*self.walks, *(walk for walk, _ in self.guards))
        return {axis for walk in walks for axis, _ in walk.steps}


def is_squeeze(before: Shape, after: Shape) -> bool:
    """A reshape that only adds or removes axes of size 1."""
    return [extent for extent in before if extent != 1] == [extent for extent in after if extent != 1]


def follow(walk: Walk, inner: tuple[Walk, ...]) -> Walk:
    """A walk over a view, as a walk over the axes of whoever reads the view by the walks `inner`."""
    offset, steps = walk.offset, dict[int, int]()
    for axis, step in walk.steps:
        offset = add(offset, multiply(step, inner[axis].offset))
        for reader_axis, inner_step in inner[axis].steps:
            steps[reader_axis] = steps.get(reader_axis, 0) + step * inner_step
    return Walk(offset, tuple((axis, step) for axis, step in sorted(steps.items()) if step))


def resolve(value: Value) -> Access:
    """Follow views down from `value`, up to a reshape that changes the order of axes or the value with the numbers."""
    found: Access | None = value.memo.get("access")
    if found is None:
        found = value.memo["access"] = follow_views(value)
    return found


def follow_views(value: Value) -> Access:
    shape = value.shape
    walks = tuple(STAY if extent == 1 else along(axis) for axis, extent in enumerate(shape))
    guards: tuple[tuple[Walk, Extent], ...] = ()
    while value.op.kind == "view":
        (x,) = value.operands
        if value.op.walk is not None:
            found = value.op.walk(x.type, **value.attrs)
            moved = tuple(follow(walk, walks) for walk in found)
            leaving = zip(found, moved, x.shape, strict=True)
            guards += tuple((walk, extent) for look, walk, extent in leaving if look.guarded)
            walks = moved
        elif is_squeeze(x.shape, value.shape):
            kept = iter([walk for walk, extent in zip(walks, value.shape, strict=True) if extent != 1])
            walks = tuple(STAY if extent == 1 else next(kept) for extent in x.shape)
        else:
            break
        value = x
    return Access(value, shape, walks, guards)


def memory_of(value: Value) -> Value:
    """The value whose buffer a reshape shares; any other value has its own."""
    while value.op is ops.reshape:
        value = value.operands[0]
    return value


def is_constant(value: Value) -> bool:
    """A source without memory: it is written out wherever it is used."""
    return value.op in (ops.full, ops.size, ops.iota)


def strides(shape: Shape) -> tuple[Extent, ...]:
    """Row-major strides, in elements; an extent of 0 counts as 1, because a stride of 0 means an axis is not walked."""
    return tuple(multiply(*(extent or 1 for extent in shape[axis + 1 :])) for axis in range(len(shape)))

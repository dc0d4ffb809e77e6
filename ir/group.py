"""A group: values that share one loop nest, and how each of them is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from graphc.ir import ops
from graphc.ir.access import Access, follow, is_constant, memory_of, resolve
from graphc.ir.graph import Value
from graphc.ir.layout import matrix_layout
from graphc.ir.ops.record import FRAMELESS, WHOLE
from graphc.ir.types import STAY, Extent, Shape, Walk, along, bound

Axes = tuple[int | None, ...]
Frame = tuple[Extent, ...]


@dataclass(eq=False)
class Group:
    """Values computed in one nest.

    axes[v]    the frame axis of each axis of v
    points[v]  the same for the points v is computed from: a reduction's operand has more axes than its result
    after      values complete only after the loops
    again      values of other groups that it computes again instead of reading them
    """

    frame: Frame
    axes: dict[Value, Axes] = field(default_factory=dict)
    points: dict[Value, Axes] = field(default_factory=dict)
    after: set[Value] = field(default_factory=set)
    again: set[Value] = field(default_factory=set)

    @property
    def product(self) -> Value | None:
        """The matrix product whose result this group's frame is, if there is one."""
        return next((value for value in self.axes if value.op.kind == "contraction"), None)

    @property
    def whole(self) -> Value | None:
        """The sweep or loop this group is, if it is one; it has no frame and, but for parts, no other values."""
        return next((value for value in self.axes if value.op.kind in FRAMELESS), None)

    @property
    def lane(self) -> int:
        return len(self.frame) - 1

    def walked(self, value: Value) -> set[int]:
        """The frame axes a value varies along."""
        return frame_axes(self.axes[value])

    def reads(self) -> Iterator[tuple[Value, Access]]:
        """Every operand of every value, as (reader, access)."""
        for value in self.axes:
            for access in accesses(value):
                yield value, access

    def axes_of(self, reader: Value, access: Access) -> Axes:
        """The frame axis that walks each axis of what a reader of this group reads by a plain access."""
        own = self.points[reader]
        return tuple(None if axis is None else own[axis] for axis in access.axes)

    def moved_by(self, reader: Value, access: Access) -> set[int | None]:
        """The frame axes that move what a reader reads."""
        return set() if access.whole else {self.points[reader][axis] for axis in access.walked}

    def framed(self, reader: Value, access: Access) -> Access:
        """What a reader of this group reads, with frame axes in place of the reader's own."""
        if access.whole:
            return access
        inner = straight(self.points[reader])
        guards = tuple((follow(walk, inner), extent) for walk, extent in access.guards)
        return Access(access.root, self.frame, tuple(follow(walk, inner) for walk in access.walks), guards)


def frame_axes(axes: Axes) -> set[int]:
    """The frame's axes among them."""
    return {axis for axis in axes if axis is not None}


def straight(axes: Axes) -> tuple[Walk, ...]:
    """The walks that go along those axes of the frame."""
    return tuple(STAY if axis is None else along(axis) for axis in axes)


def accesses(value: Value) -> list[Access]:
    """How a value reads its operands."""
    found: list[Access] | None = value.memo.get("accesses")
    if found is None:
        found = value.memo["accesses"] = find_accesses(value)
    return found


def find_accesses(value: Value) -> list[Access]:
    if value.op.kind == "contraction":
        layouts = (matrix_layout(operand) for operand in value.operands)
        return [Access(layout.root, (), (), whole=True) for layout in layouts if layout is not None]
    whole = WHOLE.get(value.op.kind, 0)
    reads = [resolve(operand) for operand in value.operands]
    return [replace(access, whole=True) if number < whole else access for number, access in enumerate(reads)]


def is_computed(value: Value) -> bool:
    """Made by arithmetic: neither a source nor a view."""
    return value.op.kind not in ("source", "view", "gradient")


def starts_alone(value: Value) -> bool:
    """A value whose nest is made for it; others may join."""
    return value.op.kind in ("contraction", *FRAMELESS)


def is_placed(value: Value) -> bool:
    """A value whose elements do not come in the order of its nest's frame: it can be read from memory only."""
    return value.op.kind in ("scatter", "part", *FRAMELESS)


def is_inlined(value: Value) -> bool:
    """One number made from nothing but constants and inputs: cheaper to compute again than to keep."""
    if is_constant(value) or value.op is ops.input:
        return True
    if bound(value.type.count) != 1 or value.op.kind not in ("elementwise", "view"):
        return False
    return all(is_inlined(operand) for operand in value.operands)


def is_deferred(update: Value) -> bool:
    """A copy of something computed earlier: an update that waits until its state was read by all others."""
    return update.op is ops.copy and is_computed(memory_of(resolve(update.operands[0]).root))


def points_shape(value: Value) -> Shape:
    """The shape of the points a value is computed from."""
    return value.operands[0].shape if value.op.kind in ("reduce", "scatter") else value.shape

"""How a reader sees a value through views: which stored value it is, and which of its axes each reader axis walks."""

from __future__ import annotations

from dataclasses import dataclass

from graphc.ir import ops
from graphc.ir.graph import Value
from graphc.ir.types import Extent, Shape, multiply


@dataclass(frozen=True, slots=True)
class Access:
    """`axes[d]` is the reader's axis that walks axis d of `root`; None stays at index 0."""

    root: Value
    axes: tuple[int | None, ...]


def is_squeeze(before: Shape, after: Shape) -> bool:
    """A reshape that only adds or removes axes of size 1."""
    return [extent for extent in before if extent != 1] == [extent for extent in after if extent != 1]


def resolve(value: Value) -> Access:
    """Follow views down from `value`, up to a reshape that changes the order of axes or the value with the numbers."""
    axes: tuple[int | None, ...] = tuple(None if extent == 1 else axis for axis, extent in enumerate(value.shape))
    while value.op.kind == "view":
        (x,) = value.operands
        if value.op is ops.transpose:
            order = value.attrs["permutation"]
            axes = tuple(axes[order.index(axis)] for axis in range(len(order)))
        elif value.op is ops.broadcast:
            axes = tuple(None if extent == 1 else axis for axis, extent in zip(axes, x.shape, strict=True))
        elif is_squeeze(x.shape, value.shape):
            walked = iter([axis for axis, extent in zip(axes, value.shape, strict=True) if extent != 1])
            axes = tuple(None if extent == 1 else next(walked) for extent in x.shape)
        else:
            return Access(value, axes)
        value = x
    return Access(value, axes)


def memory_of(value: Value) -> Value:
    """The value whose buffer a reshape shares; any other value has its own."""
    while value.op is ops.reshape:
        value = value.operands[0]
    return value


def is_constant(value: Value) -> bool:
    """A source without memory: it is written out wherever it is used."""
    return value.op in (ops.full, ops.size, ops.iota)


def strides(shape: Shape) -> tuple[Extent, ...]:
    """Row-major strides, in elements."""
    return tuple(multiply(*shape[axis + 1 :]) for axis in range(len(shape)))

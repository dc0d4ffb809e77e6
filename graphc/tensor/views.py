"""The same elements in another shape, in another order of axes, or several times without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import ShapeError
from graphc.ir import ops
from graphc.ir.graph import Value, user_origin
from graphc.ir.types import Extent, Shape, divide, multiply
from graphc.settings import check_list, is_whole
from graphc.tensor.building import apply, as_tensor, common_shape, normal_axes, stretch
from graphc.tensor.dtypes import as_extent

if TYPE_CHECKING:
    from graphc.tensor.tensor import Tensor

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_tensors",
    "broadcast_to",
    "expand_dims",
    "flatten",
    "moveaxis",
    "movedim",
    "permute",
    "ravel",
    "reshape",
    "squeeze",
    "swapaxes",
    "swapdims",
    "transpose",
    "unflatten",
    "unsqueeze",
]


def sequence(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments given one by one or as one sequence."""
    only = items[0] if len(items) == 1 else None
    if isinstance(only, (tuple, list)) or (isinstance(only, np.ndarray) and only.ndim):
        return tuple(only)
    return items


def kept_or(extent: Any) -> Extent:
    """An extent, or the -1 that stands for what is not said."""
    return -1 if is_whole(extent) and extent == -1 else as_extent(extent)


def ordered_axes(axes: Any, rank: int) -> list[int]:
    """One axis or several as non-negative numbers, in the order they are given."""
    given = list(axes) if isinstance(axes, (tuple, list, range)) else [axes]
    normal_axes(given, rank)
    return [int(axis) % rank for axis in given]


def one_axis(axis: Any, rank: int) -> int:
    (found,) = normal_axes((axis,), rank)
    return found


def reshaped(value: Value, shape: Shape) -> Value:
    return value if value.shape == shape else ops.reshape(value, shape=shape)


def permuted(value: Value, order: Sequence[int]) -> Value:
    return value if list(order) == list(range(len(order))) else ops.transpose(value, permutation=tuple(order))


# -- other extents


def reshape(x: Any, *shape: Any) -> Tensor:
    """Another shape of the same elements; one extent may be -1. Raises ShapeError where the elements do not fit."""
    tensor = as_tensor(x)
    wanted = sequence(shape)
    extents = [kept_or(extent) for extent in wanted]
    if -1 in extents:
        known: Extent = multiply(*(extent for extent in extents if extent != -1))
        left = divide(tensor.value.type.count, known) if known != 0 and extents.count(-1) == 1 else None
        if left is None:
            reason = f"{known} does not divide it" if extents.count(-1) == 1 else "only one extent may be -1"
            raise ShapeError(f"cannot reshape {tensor.type} to {list(wanted)}: {reason}", user_origin())
        extents[extents.index(-1)] = left
    return apply(ops.reshape, tensor.value, shape=tuple(extents))


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes start_dim to end_dim as one; a number becomes [1]."""
    tensor = as_tensor(x)
    if not tensor.ndim:
        return reshape(tensor, 1)
    first, last = one_axis(start_dim, tensor.ndim), one_axis(end_dim, tensor.ndim)
    if first > last:
        raise ShapeError(f"flatten of {tensor.type}: axis {start_dim} is behind axis {end_dim}", user_origin())
    shape = tensor.value.shape
    return reshape(tensor, *shape[:first], multiply(*shape[first : last + 1]), *shape[last + 1 :])


def ravel(x: Any) -> Tensor:
    """All elements in one axis."""
    return reshape(x, -1)


def unflatten(x: Any, dim: int, sizes: Sequence[Any]) -> Tensor:
    """Axis `dim` as several, of which one may be -1: [n, 12] -> [n, 3, 4]."""
    tensor = as_tensor(x)
    axis = one_axis(dim, tensor.ndim)
    shape = tensor.value.shape
    return reshape(tensor, *shape[:axis], *check_list("sizes", sizes, "a list of sizes"), *shape[axis + 1 :])


def unsqueeze(x: Any, axis: int | None = None, *, dim: int | None = None) -> Tensor:
    """With an axis of size 1 inserted."""
    return expand_dims(x, axis if dim is None else dim)


def expand_dims(x: Any, axis: Any) -> Tensor:
    """With axes of size 1, where they stand in the result."""
    tensor = as_tensor(x)
    new = ordered_axes(axis, tensor.ndim + (len(axis) if isinstance(axis, (tuple, list)) else 1))
    old = iter(tensor.value.shape)
    return reshape(tensor, tuple(1 if at in new else next(old) for at in range(tensor.ndim + len(new))))


def squeeze(x: Any, axis: Any = None, *, dim: Any = None) -> Tensor:
    """Without axes of size 1, or without those named that are of size 1."""
    tensor = as_tensor(x)
    drop = normal_axes(axis if dim is None else dim, tensor.ndim)
    kept = [extent for at, extent in enumerate(tensor.value.shape) if not (at in drop and extent == 1)]
    return reshape(tensor, tuple(kept))


def atleast_1d(x: Any) -> Tensor:
    """x, as [1] if it has no axis."""
    return at_least(x, 1)


def atleast_2d(x: Any) -> Tensor:
    """A vector becomes a row."""
    return at_least(x, 2)


def atleast_3d(x: Any) -> Tensor:
    """A vector [n] becomes [1, n, 1], a matrix [m, n] becomes [m, n, 1]."""
    tensor = at_least(x, 2)
    return reshape(tensor, *tensor.value.shape, 1) if tensor.ndim == 2 else tensor


def at_least(x: Any, rank: int) -> Tensor:
    tensor = as_tensor(x)
    return reshape(tensor, (1,) * (rank - tensor.ndim) + tensor.value.shape)


# -- another order of axes


def transpose(x: Any, *axes: Any) -> Tensor:
    """NumPy's transpose: axes in a new order, or reversed; two axes given one by one are swapped, as in PyTorch."""
    tensor, wanted = as_tensor(x), sequence(axes)
    if len(axes) == 2:
        return swapaxes(tensor, *axes)
    return permute(tensor, wanted or tuple(reversed(range(tensor.ndim))))


def permute(x: Any, *axes: Any) -> Tensor:
    """Axes in a new order."""
    tensor = as_tensor(x)
    order = ordered_axes(sequence(axes), tensor.ndim)
    if len(order) != tensor.ndim:
        raise ShapeError(f"permute of {tensor.type}: {order} does not name all of its axes", user_origin())
    return apply(ops.transpose, tensor.value, permutation=tuple(order))


def swapaxes(x: Any, axis0: int, axis1: int) -> Tensor:
    """Two axes in each other's place."""
    tensor = as_tensor(x)
    first, second = one_axis(axis0, tensor.ndim), one_axis(axis1, tensor.ndim)
    order = list(range(tensor.ndim))
    order[first], order[second] = second, first
    return permute(tensor, order)


def movedim(x: Any, source: Any, destination: Any) -> Tensor:
    """Axes at other places, one or several; the others keep their order."""
    tensor = as_tensor(x)
    moved, places = ordered_axes(source, tensor.ndim), ordered_axes(destination, tensor.ndim)
    if len(moved) != len(places):
        raise ShapeError(f"movedim of {tensor.type}: {moved} are not as many axes as {places}", user_origin())
    to = dict(zip(places, moved, strict=True))
    rest = iter([axis for axis in range(tensor.ndim) if axis not in moved])
    return permute(tensor, [to[at] if at in to else next(rest) for at in range(tensor.ndim)])


moveaxis, swapdims = movedim, swapaxes

# -- several times


def broadcast_to(x: Any, *shape: Any) -> Tensor:
    """Broadcast to a shape; -1 keeps an extent. Raises ShapeError for axes that do not stretch."""
    tensor, wanted = as_tensor(x), sequence(shape)
    own: Shape = (1,) * (len(wanted) - tensor.ndim) + tensor.value.shape
    given = [mine if new == -1 else new for mine, new in zip(own, map(kept_or, wanted))]
    if len(own) > len(given) or any(mine not in (1, new) for mine, new in zip(own, given, strict=True)):
        raise ShapeError(f"cannot broadcast {tensor.type} to {list(wanted)}", user_origin())
    return as_tensor(stretch(tensor.value, tuple(given)))


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """All brought to the one shape they broadcast to."""
    values = [as_tensor(each).value for each in tensors]
    shape = common_shape(values) if values else ()
    return tuple(as_tensor(stretch(value, shape)) for value in values)

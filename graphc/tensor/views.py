"""The same elements in another shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphc.errors import ShapeError
from graphc.ir import ops
from graphc.ir.graph import user_origin
from graphc.ir.types import TensorType, divide, multiply
from graphc.tensor.building import apply, as_tensor, common_shape, stretch
from graphc.tensor.dtypes import as_extent

if TYPE_CHECKING:
    from graphc.tensor.tensor import Tensor

__all__ = ["broadcast_to", "flatten", "permute", "reshape", "squeeze", "transpose", "unsqueeze"]


def sequence(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments given one by one or as one sequence."""
    return tuple(items[0]) if len(items) == 1 and isinstance(items[0], (tuple, list)) else items


def reshape(x: Any, *shape: Any) -> Tensor:
    """Another shape of the same elements; one extent may be -1."""
    tensor = as_tensor(x)
    wanted = sequence(shape)
    extents = [-1 if extent == -1 else as_extent(extent) for extent in wanted]
    if -1 in extents:
        known = multiply(*(extent for extent in extents if extent != -1))
        left = divide(tensor.value.type.count, known)
        if left is None:
            raise ShapeError(
                f"cannot reshape {tensor.type} to {list(wanted)}: {known} does not divide it", user_origin()
            )
        extents[extents.index(-1)] = left
    return apply(ops.reshape, tensor.value, shape=tuple(extents))


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes start_dim to end_dim as one."""
    tensor = as_tensor(x)
    first, last = start_dim % tensor.ndim, end_dim % tensor.ndim
    shape = tensor.value.shape
    return reshape(tensor, *shape[:first], multiply(*shape[first : last + 1]), *shape[last + 1 :])


def transpose(x: Any, *axes: Any) -> Tensor:
    """NumPy's transpose: axes in a new order, or reversed; with two axes of more than two, PyTorch's swap."""
    tensor, wanted = as_tensor(x), sequence(axes)
    if len(axes) == 2 and tensor.ndim != 2:
        order = list(range(tensor.ndim))
        a, b = (axis % tensor.ndim for axis in axes)
        order[a], order[b] = b, a
        return permute(tensor, order)
    if len(axes) == 2 and sorted(axis % 2 for axis in axes) == [0, 1]:
        return permute(tensor, 1, 0)
    return permute(tensor, wanted or tuple(reversed(range(tensor.ndim))))


def permute(x: Any, *axes: Any) -> Tensor:
    """Axes in a new order."""
    tensor = as_tensor(x)
    order = tuple(axis % tensor.ndim for axis in sequence(axes))
    return apply(ops.transpose, tensor.value, permutation=order)


def unsqueeze(x: Any, axis: int) -> Tensor:
    """With an axis of size 1 inserted."""
    tensor = as_tensor(x)
    at = axis % (tensor.ndim + 1)
    return reshape(tensor, *tensor.value.shape[:at], 1, *tensor.value.shape[at:])


def squeeze(x: Any, axis: int | None = None, *, dim: int | None = None) -> Tensor:
    """Without axes of size 1, or without the one named."""
    tensor = as_tensor(x)
    named = axis if dim is None else dim
    drop = range(tensor.ndim) if named is None else (named % tensor.ndim,)
    kept = [extent for at, extent in enumerate(tensor.value.shape) if not (at in drop and extent == 1)]
    return reshape(tensor, tuple(kept))


def broadcast_to(x: Any, *shape: Any) -> Tensor:
    """Broadcast to a shape; -1 keeps an extent."""
    tensor, wanted = as_tensor(x), sequence(shape)
    own = (1,) * (len(wanted) - tensor.ndim) + tensor.value.shape
    extents = tuple(mine if new == -1 else as_extent(new) for mine, new in zip(own, wanted, strict=True))
    common_shape([tensor.value, ops.full(value=0.0, type=TensorType("f32", extents))])
    return as_tensor(stretch(tensor.value, extents))

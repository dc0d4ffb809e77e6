"""The same elements in another shape."""

from __future__ import annotations

from typing import Any

from graphc.tensor import Tensor, as_tensor

__all__ = ["broadcast_to", "flatten", "reshape", "squeeze", "transpose", "unsqueeze"]


def reshape(x: Any, *shape: Any) -> Tensor:
    """Another shape of the same elements; one extent may be -1."""
    return as_tensor(x).reshape(*shape)


def transpose(x: Any, *axes: Any) -> Tensor:
    """Axes in a new order, or reversed; of more than two axes, two that are named are swapped."""
    tensor = as_tensor(x)
    if len(axes) == 1 and isinstance(axes[0], (tuple, list)):
        return tensor.permute(*axes[0])
    return tensor.transpose(*axes)


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes start_dim to end_dim as one."""
    return as_tensor(x).flatten(start_dim, end_dim)


def squeeze(x: Any, axis: int | None = None, *, dim: int | None = None) -> Tensor:
    """Without axes of size 1, or without the one named."""
    return as_tensor(x).squeeze(axis if dim is None else dim)


def unsqueeze(x: Any, axis: int) -> Tensor:
    """With an axis of size 1 inserted."""
    return as_tensor(x).unsqueeze(axis)


def broadcast_to(x: Any, *shape: Any) -> Tensor:
    return as_tensor(x).expand(*shape)

"""How far two vectors are apart."""

from __future__ import annotations

from typing import Any

from graphc.settings import check_number, check_switch
from graphc.tensor import Tensor, as_floats
from graphc.tensor.arithmetic import maximum
from graphc.tensor.reduction import norm, sum
from graphc.tensor.views import broadcast_tensors

__all__ = ["cosine_similarity", "pairwise_distance"]


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8, *, axis: int | None = None) -> Tensor:
    """x1 · x2 / (|x1| |x2|) along an axis of two that broadcast; lengths count as at least eps."""
    along = dim if axis is None else axis
    check_number("eps", eps, 0)
    sides = broadcast_tensors(*as_floats(x1, x2))
    unit, other = (side / at_least(norm(side, 2, along, keepdims=True), eps) for side in sides)
    return sum(unit * other, along)


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last axis; p > 0, or math.inf for the largest."""
    check_number("p", p, 0, above=True)
    check_number("eps", eps)
    check_switch("keepdim", keepdim)
    first, second = as_floats(x1, x2)
    return norm(first - second + eps, p, -1, keepdim)


def at_least(x: Tensor, least: float) -> Tensor:
    """max(x, least) with the slope of x throughout, where PyTorch limits a divisor out of sight of gradients."""
    return x + (maximum(x, least) - x).detach()

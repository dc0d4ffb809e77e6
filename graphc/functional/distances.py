"""How far two vectors are apart."""

from __future__ import annotations

import math
from typing import Any

from graphc.settings import check_number, check_switch
from graphc.tensor import Tensor, as_floats, common_shape, stretch, where
from graphc.tensor.arithmetic import absolute, maximum, sqrt
from graphc.tensor.reduction import max, sum

__all__ = ["cosine_similarity", "pairwise_distance"]


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8, *, axis: int | None = None) -> Tensor:
    """x1 · x2 / (|x1| |x2|) along an axis of two that broadcast; lengths count as at least eps."""
    along = dim if axis is None else axis
    check_number("eps", eps, 0)
    first, second = as_floats(x1, x2)
    shape = common_shape([first.value, second.value])
    sides = [Tensor(stretch(each.value, shape)) for each in (first, second)]
    unit, other = (side / at_least(length(side, along), eps) for side in sides)
    return sum(unit * other, along)


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last axis; p > 0, or math.inf for the largest."""
    check_number("p", p, 0, above=True)
    check_number("eps", eps)
    check_switch("keepdim", keepdim)
    first, second = as_floats(x1, x2)
    gaps = first - second + eps
    if p == 2:
        return length(gaps, -1, keepdim)
    sizes = absolute(gaps)
    if p == math.inf:
        return max(sizes, -1, keepdim)
    if p == 1:
        return sum(sizes, -1, keepdim)
    return root(sum(sizes**p, -1, keepdim), p)


def at_least(x: Tensor, least: float) -> Tensor:
    """max(x, least) with the slope of x throughout, where PyTorch limits a divisor out of sight of gradients."""
    return x + (maximum(x, least) - x).detach()


def length(x: Tensor, axis: int, keepdims: bool = True) -> Tensor:
    """The Euclidean norm along an axis."""
    return root(sum(x * x, axis, keepdims), 2)


def root(x: Tensor, p: float) -> Tensor:
    """The p-th root, whose slope at 0 is 0."""
    nothing = x == 0
    positive = where(nothing, 1.0, x)
    return where(nothing, 0.0, sqrt(positive) if p == 2 else positive ** (1 / p))

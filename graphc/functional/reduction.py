"""Functions that combine the elements along axes."""

from __future__ import annotations

import math
from typing import Any

from graphc.functional.elementwise import abs, exp, log, sqrt
from graphc.ir import ops
from graphc.tensor import Tensor, as_tensor, reduce, where

__all__ = ["argmax", "argmin", "logsumexp", "max", "mean", "min", "prod", "std", "sum", "var"]


def sum(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    return reduce(ops.sum, x, axis, keepdims, dim, keepdim)


def prod(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    return reduce(ops.prod, x, axis, keepdims, dim, keepdim)


def max(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The maximum, NaN where there is one; equal maxima share the gradient."""
    return reduce(ops.max, x, axis, keepdims, dim, keepdim)


def min(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The minimum, NaN where there is one; equal minima share the gradient."""
    return reduce(ops.min, x, axis, keepdims, dim, keepdim)


def mean(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    return as_tensor(x).mean(axis, keepdims, dim=dim, keepdim=keepdim)


def var(
    x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False, correction: int = 1
) -> Tensor:
    """Squared deviations from the mean over (count - correction); PyTorch's default 1, NumPy's is 0."""
    return as_tensor(x).var(axis if dim is None else dim, keepdims or keepdim, correction=correction)


def std(
    x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False, correction: int = 1
) -> Tensor:
    """The square root of `var`."""
    return sqrt(var(x, axis, keepdims, dim=dim, keepdim=keepdim, correction=correction))


def argmax(x: Any, axis: int | None = None, keepdims: bool = False, *, dim: int | None = None) -> Tensor:
    """The first index of the maximum, i64."""
    return as_tensor(x).argmax(axis, keepdims, dim=dim)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False, *, dim: int | None = None) -> Tensor:
    """The first index of the minimum, i64."""
    return as_tensor(x).argmin(axis, keepdims, dim=dim)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))) that cannot overflow; -inf, with no gradient, where all of x is."""
    tensor, axes = as_tensor(x), axis if dim is None else dim
    top = max(tensor, axes, keepdims=True).detach()
    shift = where(abs(top) < math.inf, top, 0.0)
    powers = sum(exp(tensor - shift), axes, keepdims=True)
    nothing = powers == 0
    total = where(nothing, -math.inf, log(where(nothing, 1.0, powers))) + shift
    return total if keepdims or keepdim else sum(total, axes)

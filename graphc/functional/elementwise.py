"""Functions of one element at a time."""

from __future__ import annotations

from typing import Any

from graphc.ir import ops
from graphc.tensor import DType, Tensor, as_tensor, elementwise, floating, where

__all__ = [
    "abs",
    "cast",
    "clamp",
    "clip",
    "cos",
    "exp",
    "expm1",
    "floor",
    "log",
    "log1p",
    "maximum",
    "minimum",
    "pow",
    "rsqrt",
    "sigmoid",
    "sign",
    "sin",
    "sqrt",
    "square",
    "stop_gradient",
    "tanh",
    "where",
]


def exp(x: Any) -> Tensor:
    return floating(ops.exp, x)


def expm1(x: Any) -> Tensor:
    """exp(x) - 1, accurate near 0."""
    return floating(ops.expm1, x)


def log(x: Any) -> Tensor:
    return floating(ops.log, x)


def log1p(x: Any) -> Tensor:
    """log(1 + x), accurate near 0."""
    return floating(ops.log1p, x)


def sqrt(x: Any) -> Tensor:
    return floating(ops.sqrt, x)


def rsqrt(x: Any) -> Tensor:
    """1 / sqrt(x)."""
    return 1 / sqrt(x)


def square(x: Any) -> Tensor:
    return elementwise(ops.mul, x, x)


def pow(x: Any, exponent: Any) -> Tensor:
    return x**exponent if isinstance(x, Tensor) else floating(ops.pow, x, exponent)


def sin(x: Any) -> Tensor:
    return floating(ops.sin, x)


def cos(x: Any) -> Tensor:
    return floating(ops.cos, x)


def tanh(x: Any) -> Tensor:
    return floating(ops.tanh, x)


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + exp(-x))."""
    return floating(ops.sigmoid, x)


def abs(x: Any) -> Tensor:
    return elementwise(ops.absolute, x)


def sign(x: Any) -> Tensor:
    """-1, 0 or 1; NaN stays NaN."""
    return elementwise(ops.sign, x)


def floor(x: Any) -> Tensor:
    return floating(ops.floor, x)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of two, NaN where either is."""
    return elementwise(ops.maximum, a, b)


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of two, NaN where either is."""
    return elementwise(ops.minimum, a, b)


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """Limited to [min, max]; either may be left out."""
    return as_tensor(x).clamp(min, max)


clamp = clip


def cast(x: Any, dtype: DType) -> Tensor:
    return as_tensor(x).astype(dtype)


def stop_gradient(x: Any) -> Tensor:
    """The same numbers; no gradient flows through."""
    return as_tensor(x).detach()

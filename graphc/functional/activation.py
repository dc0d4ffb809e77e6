"""Activation functions, softmax among them."""

from __future__ import annotations

from typing import Any

from graphc.functional.elementwise import exp, log, sigmoid
from graphc.functional.reduction import max, sum
from graphc.ir import ops
from graphc.tensor import Tensor, as_tensor, elementwise, floating, where

__all__ = ["leaky_relu", "log_softmax", "relu", "silu", "softmax", "softplus"]


def relu(x: Any) -> Tensor:
    """max(x, 0); slope 0 at 0."""
    return floating(ops.relu, x)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, negative_slope * x elsewhere."""
    tensor = as_tensor(x)
    return where(tensor > 0, tensor, tensor * negative_slope)


def silu(x: Any) -> Tensor:
    """x * sigmoid(x)."""
    return elementwise(ops.mul, x, sigmoid(x))


def softplus(x: Any, beta: float = 1.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta, without overflow."""
    return floating(ops.softplus, x) if beta == 1 else floating(ops.softplus, as_tensor(x) * beta) / beta


def shifted(x: Any, axis: int) -> Tensor:
    """x less its maximum along an axis, which is a constant for the gradient: softmax does not depend on it."""
    tensor = as_tensor(x)
    return tensor - max(tensor, axis, keepdims=True).detach()


def softmax(x: Any, axis: int = -1, *, dim: int | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis, without overflow."""
    along = axis if dim is None else dim
    powers = exp(shifted(x, along))
    return powers / sum(powers, along, keepdims=True)


def log_softmax(x: Any, axis: int = -1, *, dim: int | None = None) -> Tensor:
    """log(softmax(x)) without overflow or loss of digits."""
    along = axis if dim is None else dim
    rest = shifted(x, along)
    return rest - log(sum(exp(rest), along, keepdims=True))

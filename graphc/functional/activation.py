"""Activation functions, with PyTorch's defaults and its slopes at the corners.

They take floats; integers are converted. A wrong setting is an ArgumentError.
"""

from __future__ import annotations

import math
from typing import Any

from graphc.errors import ArgumentError, ShapeError
from graphc.ir import ops
from graphc.ir.graph import user_origin
from graphc.settings import check_choice, check_divisor, check_number
from graphc.tensor import Tensor, as_floats, floating, where
from graphc.tensor.arithmetic import absolute, clip
from graphc.tensor.maths import erf, expm1, sigmoid, tanh
from graphc.tensor.reduction import softmax
from graphc.tensor.views import one_axis

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "prelu",
    "relu6",
    "selu",
    "silu",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "swish",
    "tanhshrink",
    "threshold",
]

# Fixed point of mean 0 and variance 1 (Klambauer et al. 2017, appendix A).
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, negative_slope * x elsewhere."""
    check_number("negative_slope", negative_slope)
    (tensor,) = as_floats(x)
    return where(tensor > 0, tensor, tensor * negative_slope)


def prelu(x: Any, weight: Any) -> Tensor:
    """x where it is positive, weight * x elsewhere; weight [1], or one number a channel, which is axis 1 of x.

    Raises ShapeError for any other weight.
    """
    tensor, slope = as_floats(x, weight)
    channels = tensor.shape[1] if tensor.ndim > 1 else 1
    if slope.ndim > 1 or slope.numel() not in (1, channels):
        raise ShapeError(
            f"prelu of {tensor.type} with weight {slope.type}: it takes one number, or {channels} for the channels",
            user_origin(),
        )
    if tensor.ndim > 1 and slope.ndim:
        slope = slope.reshape(-1, *[1] * (tensor.ndim - 2))
    return where(tensor > 0, tensor, tensor * slope)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where it is positive, alpha * (exp(x) - 1) elsewhere (Clevert et al. 2015)."""
    return exponential_below(x, check_number("alpha", alpha), 1.0)


def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where it is positive, alpha * (exp(x / alpha) - 1) elsewhere (Barron 2017)."""
    return exponential_below(x, alpha, 1 / check_divisor("alpha", alpha))


def selu(x: Any) -> Tensor:
    """elu with the scale and alpha that keep mean 0 and variance 1 (Klambauer et al. 2017)."""
    return elu(x, SELU_ALPHA) * SELU_SCALE


def exponential_below(x: Any, alpha: float, rate: float) -> Tensor:
    """x where it is positive, alpha * (exp(rate * x) - 1) elsewhere; the exponential never sees a positive x."""
    (tensor,) = as_floats(x)
    positive = tensor > 0
    return where(positive, tensor, alpha * expm1(rate * where(positive, 0.0, tensor)))


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x times the normal distribution's share below x, or its approximation by "tanh" (Hendrycks & Gimpel 2016)."""
    check_choice("approximate", approximate, ("none", "tanh"))
    (tensor,) = as_floats(x)
    if approximate == "tanh":  # (1 + tanh(y)) / 2 is sigmoid(2 y), which keeps its digits where it is small
        rate = 2 * math.sqrt(2 / math.pi)
        return tensor * sigmoid(tensor * (rate + 0.044715 * rate * tensor**2))
    return 0.5 * tensor * (1 + erf(tensor * math.sqrt(0.5)))


def glu(x: Any, axis: int = -1, *, dim: int | None = None) -> Tensor:
    """One half of x along an axis times the sigmoid of the other (Dauphin et al. 2016).

    Raises ShapeError for an axis whose size is not fixed and even.
    """
    (tensor,) = as_floats(x)
    along = one_axis(axis if dim is None else dim, tensor.ndim)
    extent = tensor.shape[along]
    if not isinstance(extent, int) or extent % 2:
        raise ShapeError(f"glu of {tensor.type} along axis {along}: its size must be fixed and even", user_origin())
    half = extent // 2
    return tensor.narrow(along, 0, half) * sigmoid(tensor.narrow(along, half, half))


def silu(x: Any) -> Tensor:
    """x * sigmoid(x)."""
    (tensor,) = as_floats(x)
    return tensor * sigmoid(tensor)


swish = silu


def mish(x: Any) -> Tensor:
    """x * tanh(softplus(x)) (Misra 2019)."""
    (tensor,) = as_floats(x)
    return tensor * tanh(floating(ops.softplus, tensor))


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta without overflow; x itself where beta * x is above the threshold."""
    check_divisor("beta", beta)
    check_number("threshold", threshold)
    (tensor,) = as_floats(x)
    scaled = tensor if beta == 1 else tensor * beta
    smooth = floating(ops.softplus, scaled)
    result = smooth if beta == 1 else smooth / beta
    return result if threshold == math.inf else where(scaled > threshold, tensor, result)


def logsigmoid(x: Any) -> Tensor:
    """log(sigmoid(x)) without overflow."""
    (tensor,) = as_floats(x)
    return -floating(ops.softplus, -tensor)


def softsign(x: Any) -> Tensor:
    """x / (1 + |x|)."""
    (tensor,) = as_floats(x)
    return tensor / (1 + absolute(tensor))


def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """x limited to [min_val, max_val]; slope 0 at both ends."""
    if not check_number("min_val", min_val) < check_number("max_val", max_val):
        raise ArgumentError(f"min_val={min_val} must be below max_val={max_val}", user_origin())
    (tensor,) = as_floats(x)
    return where(tensor <= min_val, min_val, where(tensor >= max_val, max_val, tensor))


def relu6(x: Any) -> Tensor:
    """x limited to [0, 6]."""
    return hardtanh(x, 0.0, 6.0)


def hardsigmoid(x: Any) -> Tensor:
    """(x + 3) / 6 limited to [0, 1]."""
    (tensor,) = as_floats(x)
    return relu6(tensor + 3) / 6


def hardswish(x: Any) -> Tensor:
    """x * hardsigmoid(x) (Howard et al. 2019)."""
    (tensor,) = as_floats(x)
    return where(tensor <= -3, 0.0, where(tensor >= 3, tensor, tensor * (tensor + 3) / 6))


def softshrink(x: Any, lambd: float = 0.5) -> Tensor:
    """x brought towards 0 by lambd; 0 for |x| <= lambd."""
    check_number("lambd", lambd, 0)
    (tensor,) = as_floats(x)
    return tensor - clip(tensor, -lambd, lambd)


def hardshrink(x: Any, lambd: float = 0.5) -> Tensor:
    """x, or 0 for |x| <= lambd."""
    check_number("lambd", lambd)
    (tensor,) = as_floats(x)
    return where(absolute(tensor) <= lambd, 0.0, tensor)


def tanhshrink(x: Any) -> Tensor:
    """x - tanh(x)."""
    (tensor,) = as_floats(x)
    return tensor - tanh(tensor)


def threshold(x: Any, threshold: float, value: float) -> Tensor:
    """x where it is above the threshold, `value` elsewhere."""
    check_number("threshold", threshold)
    check_number("value", value)
    (tensor,) = as_floats(x)
    return where(tensor <= threshold, value, tensor)


def softmin(x: Any, axis: int = -1, dtype: Any = None, *, dim: int | None = None) -> Tensor:
    """softmax(-x)."""
    (tensor,) = as_floats(x)
    return softmax(-tensor, axis, dtype, dim=dim)

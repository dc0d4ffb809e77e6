"""Elementary functions of one element at a time: exponentials, logarithms, trigonometry. Integers become floats."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from graphc.ir import ops
from graphc.ir.types import FLOATS
from graphc.settings import check_share
from graphc.tensor.arithmetic import absolute, clip, detach, maximum, multiply, sqrt, square
from graphc.tensor.building import as_floats, as_tensor, floating, where

if TYPE_CHECKING:
    from graphc.tensor.tensor import Tensor

__all__ = [
    "acos",
    "acosh",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cos",
    "cosh",
    "deg2rad",
    "degrees",
    "erf",
    "exp",
    "exp2",
    "expit",
    "expm1",
    "hypot",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logit",
    "rad2deg",
    "radians",
    "relu",
    "sigmoid",
    "sin",
    "sinh",
    "tan",
    "tanh",
    "xlogy",
]

# -- exponentials and logarithms


def exp(x: Any) -> Tensor:
    """e to the power of x."""
    return floating(ops.exp, x)


def exp2(x: Any) -> Tensor:
    """2 to the power x."""
    return floating(ops.exp2, x)


def expm1(x: Any) -> Tensor:
    """exp(x) - 1, accurate near 0."""
    return floating(ops.expm1, x)


def log(x: Any) -> Tensor:
    """The natural logarithm; -inf of 0, NaN below."""
    return floating(ops.log, x)


def log2(x: Any) -> Tensor:
    """The logarithm to base 2."""
    return floating(ops.log2, x)


def log10(x: Any) -> Tensor:
    """The logarithm to base 10."""
    return floating(ops.log10, x)


def log1p(x: Any) -> Tensor:
    """log(1 + x), accurate near 0."""
    return floating(ops.log1p, x)


def logaddexp(a: Any, b: Any, /) -> Tensor:
    """log(exp(a) + exp(b)) without overflow."""
    first, second = as_floats(a, b)
    gap = where(first == second, 0.0, first - second)  # infinities have no difference
    return maximum(first, second) + floating(ops.softplus, -absolute(gap))


def xlogy(x: Any, y: Any) -> Tensor:
    """x * log(y), and 0 where x is 0 unless y is NaN; there too the slope by x is log(y), if y > 0."""
    factor, argument = as_floats(x, y)
    nothing = (factor == 0) & ((argument <= 0) | (argument == math.inf))
    return factor * log(where(nothing, 1.0, argument))


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + exp(-x))."""
    return floating(ops.sigmoid, x)


def logit(x: Any, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), with x limited to [eps, 1 - eps] if eps is given."""
    (share,) = as_floats(x)
    share = share if eps is None else clip(share, check_share("eps", eps), 1 - eps)
    return log(share) - log1p(-share)


def relu(x: Any) -> Tensor:
    """max(x, 0); slope 0 at 0."""
    tensor = as_tensor(x)
    return floating(ops.relu, tensor) if tensor.value.dtype in (*FLOATS, "bool") else maximum(tensor, 0)


def erf(x: Any) -> Tensor:
    """The error function, 2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x."""
    return floating(ops.erf, x)


# -- trigonometry


def sin(x: Any) -> Tensor:
    """The sine of radians; NaN from 2**50 on, and so are cos and tan."""
    return floating(ops.sin, x)


def cos(x: Any) -> Tensor:
    """The cosine of radians."""
    return floating(ops.cos, x)


def tan(x: Any) -> Tensor:
    """The tangent of radians."""
    return floating(ops.tan, x)


def asin(x: Any) -> Tensor:
    """The angle in [-pi/2, pi/2] with that sine."""
    return floating(ops.asin, x)


def acos(x: Any) -> Tensor:
    """The angle in [0, pi] with that cosine."""
    return floating(ops.acos, x)


def atan(x: Any) -> Tensor:
    """The angle in [-pi/2, pi/2] with that tangent."""
    return floating(ops.atan, x)


def atan2(y: Any, x: Any, /) -> Tensor:
    """The angle of the point (x, y) in [-pi, pi]; its gradient at the origin is 0."""
    return floating(ops.atan2, y, x)


def sinh(x: Any) -> Tensor:
    """(e^x - e^-x) / 2."""
    return floating(ops.sinh, x)


def cosh(x: Any) -> Tensor:
    """(e^x + e^-x) / 2."""
    return floating(ops.cosh, x)


def tanh(x: Any) -> Tensor:
    """sinh(x) / cosh(x)."""
    return floating(ops.tanh, x)


def asinh(x: Any) -> Tensor:
    """The number with that sinh."""
    return floating(ops.asinh, x)


def acosh(x: Any) -> Tensor:
    """The number from 0 on with that cosh; NaN below 1."""
    return floating(ops.acosh, x)


def atanh(x: Any) -> Tensor:
    """The number with that tanh; NaN outside of [-1, 1]."""
    return floating(ops.atanh, x)


def hypot(a: Any, b: Any, /) -> Tensor:
    """sqrt(a*a + b*b) without overflow; its gradient at the origin is 0."""
    first, second = as_floats(a, b)
    largest = detach(maximum(absolute(first), absolute(second)))
    nothing = largest == 0
    scale = where(nothing | (largest == math.inf), 1.0, largest)
    squares = square(first / scale) + square(second / scale)
    return where(nothing, 0.0, scale * sqrt(where(nothing, 1.0, squares)))


def deg2rad(x: Any) -> Tensor:
    """Degrees as radians."""
    (angle,) = as_floats(x)
    return multiply(angle, math.pi / 180)


def rad2deg(x: Any) -> Tensor:
    """Radians as degrees."""
    (angle,) = as_floats(x)
    return multiply(angle, 180 / math.pi)


# NumPy's or PyTorch's other names.
arcsin, arccos, arctan, arctan2, arcsinh, arccosh, arctanh = asin, acos, atan, atan2, asinh, acosh, atanh
radians, degrees, expit = deg2rad, rad2deg, sigmoid

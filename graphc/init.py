"""Initial values of parameters, in place, under PyTorch's names.

Sources: Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward neural networks (xavier);
He et al. 2015, Delving deep into rectifiers (kaiming); Saxe et al. 2014, Exact solutions to the nonlinear dynamics of
learning in deep linear neural networks (orthogonal); Martens 2010, Deep learning via Hessian-free optimization
(sparse).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.errors import ArgumentError
from graphc.generator import draws
from graphc.ir.graph import user_origin
from graphc.ir.initial import Initial
from graphc.settings import check_choice, check_number, check_share, check_whole, require
from graphc.tensor import Parameter, is_plain_number

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

GAINS = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "conv_transpose1d": 1.0, "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4,
}  # fmt: skip


def uniform_(tensor: Parameter, a: float = 0.0, b: float = 1.0) -> Parameter:
    """Evenly from [a, b]. Raises ArgumentError where a is above b, or the two are infinitely far apart."""
    width = check_number("b", b) - check_number("a", a)
    require(0 <= width < math.inf, "b", b, f"finite and at least a={a}")
    return draw(tensor, Initial(draws.take(), "uniform", a, width))


def normal_(tensor: Parameter, mean: float = 0.0, std: float = 1.0) -> Parameter:
    """From the normal distribution. Raises ArgumentError for a negative deviation."""
    check_number("mean", mean)
    check_number("std", std, 0)
    return draw(tensor, Initial(draws.take(), "normal", mean, std))


def trunc_normal_(tensor: Parameter, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Parameter:
    """From the part of the normal distribution between a and b.

    Raises ArgumentError for limits in the wrong order and a deviation that is not positive.
    """
    check_number("mean", mean)
    check_number("std", std, 0, above=True)
    require(check_number("a", a) < check_number("b", b), "b", b, f"above a={a}")
    from statistics import NormalDist

    bell = NormalDist(mean, std)
    # The inverse of the distribution function is taken on the side of the nearer tail, where it has digits.
    side = -1.0 if a + b > 2 * mean else 1.0
    low, high = sorted(bell.cdf(mean + side * (limit - mean)) for limit in (a, b))
    return draw(tensor, Initial(draws.take(), "normal", mean, side * std, (low, high - low), a, b))


def constant_(tensor: Parameter, val: float) -> Parameter:
    """`val` everywhere."""
    require(is_plain_number(val), "val", val, "a number")
    return draw(tensor, Initial(0, "constant", val, 0.0))


def zeros_(tensor: Parameter) -> Parameter:
    """0 everywhere."""
    return constant_(tensor, 0.0)


def ones_(tensor: Parameter) -> Parameter:
    """1 everywhere."""
    return constant_(tensor, 1.0)


def eye_(tensor: Parameter) -> Parameter:
    """Ones on the diagonal of a matrix, zeros elsewhere."""
    rows, columns = matrix("eye_", tensor)
    return tensor.copy_(np.eye(rows, columns))


def dirac_(tensor: Parameter, groups: int = 1) -> Parameter:
    """A convolution's weight [out, in, window ...] that hands on as many channels as it can, in each group."""
    shape = shape_of(tensor)
    if not 3 <= len(shape) <= 5 or shape[0] % check_whole("groups", groups, 1):
        raise ArgumentError(
            f"dirac_ takes [out, in, window ...], out a multiple of groups={groups}; got {shape}", user_origin()
        )
    array = np.zeros(shape)
    centre = tuple(extent // 2 for extent in shape[2:])
    group = shape[0] // groups
    for number in range(shape[0]):
        if number % group < shape[1]:
            array[(number, number % group, *centre)] = 1
    return tensor.copy_(array)


def orthogonal_(tensor: Parameter, gain: float = 1.0) -> Parameter:
    """Rows, or columns if they are fewer, that are orthogonal and of length `gain`; axes behind the first are one."""
    shape = shape_of(tensor)
    check_number("gain", gain)
    if len(shape) < 2:
        raise ArgumentError(f"orthogonal_ takes at least 2 axes, got shape {shape}", user_origin())
    rows, columns = shape[0], math.prod(shape[1:])
    found, triangle = np.linalg.qr(drawn("normal", max(rows, columns), min(rows, columns)))
    found *= np.sign(np.diag(triangle))  # which makes all directions equally likely
    return tensor.copy_(gain * (found if rows >= columns else found.T).reshape(shape))


def sparse_(tensor: Parameter, sparsity: float, std: float = 0.01) -> Parameter:
    """A matrix with the share `sparsity` of zeros in each column, elsewhere normal around 0."""
    rows, columns = matrix("sparse_", tensor)
    zeros = math.ceil(check_share("sparsity", sparsity) * rows)
    check_number("std", std, 0)
    array = std * drawn("normal", rows, columns)
    places = np.argsort(drawn("uniform", rows, columns), axis=0)[:zeros]
    np.put_along_axis(array, places, 0.0, axis=0)
    return tensor.copy_(array)


def xavier_uniform_(tensor: Parameter, gain: float = 1.0) -> Parameter:
    """Evenly from [-limit, limit] with limit = gain * sqrt(6 / (inputs + outputs))."""
    return uniform_limits(tensor, math.sqrt(3) * xavier_deviation(tensor, gain))


def xavier_normal_(tensor: Parameter, gain: float = 1.0) -> Parameter:
    """Normal around 0 with standard deviation gain * sqrt(2 / (inputs + outputs))."""
    return normal_(tensor, 0.0, xavier_deviation(tensor, gain))


def kaiming_uniform_(
    tensor: Parameter, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Parameter:
    """Evenly from [-limit, limit] with limit = gain * sqrt(3 / fan).

    a             negative slope of the leaky_relu that follows
    mode          "fan_in" keeps the size of activations, "fan_out" that of gradients
    nonlinearity  what follows the layer; see calculate_gain
    """
    return uniform_limits(tensor, math.sqrt(3) * kaiming_deviation(tensor, a, mode, nonlinearity))


def kaiming_normal_(
    tensor: Parameter, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Parameter:
    """Normal around 0 with standard deviation gain / sqrt(fan); arguments as in kaiming_uniform_."""
    return normal_(tensor, 0.0, kaiming_deviation(tensor, a, mode, nonlinearity))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """How much larger weights must be before a nonlinearity; `param` is the slope of leaky_relu, 0.01 if left out."""
    check_choice("nonlinearity", nonlinearity, ("leaky_relu", *GAINS))
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else check_number("param", param)) ** 2))
    return GAINS[nonlinearity]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(inputs, outputs) of one element of the result, for a weight [out, in, window ...]."""
    if len(shape) < 2:
        raise ArgumentError(
            f"a weight of shape {shape} has no fan-in and fan-out; it needs at least 2 axes", user_origin()
        )
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def matrix(name: str, tensor: Parameter) -> tuple[int, int]:
    """The shape of a tensor of two axes."""
    shape = shape_of(tensor)
    if len(shape) != 2:
        raise ArgumentError(f"{name} takes a matrix, got shape {shape}", user_origin())
    return shape[0], shape[1]


def shape_of(tensor: Parameter) -> tuple[int, ...]:
    if not isinstance(tensor, Parameter):
        raise ArgumentError(f"only parameters have numbers to initialise, got {type(tensor).__name__}", user_origin())
    shape: tuple[int, ...] = tensor.storage.array.shape
    return shape


def xavier_deviation(tensor: Parameter, gain: float) -> float:
    check_number("gain", gain, 0)
    return gain * math.sqrt(2 / sum(fans(shape_of(tensor))))


def kaiming_deviation(tensor: Parameter, a: float, mode: str, nonlinearity: str) -> float:
    check_choice("mode", mode, ("fan_in", "fan_out"))
    check_number("a", a)
    inputs, outputs = fans(shape_of(tensor))
    return calculate_gain(nonlinearity, a) / math.sqrt(inputs if mode == "fan_in" else outputs)


def uniform_limits(tensor: Parameter, limit: float) -> Parameter:
    return uniform_(tensor, -limit, limit)


def draw(tensor: Parameter, numbers: Initial) -> Parameter:
    shape_of(tensor)
    return tensor.draw_(numbers, draws.seed)


def drawn(kind: str, *shape: int) -> np.ndarray[Any, Any]:
    """Shares of 0 .. 1, or standard normal numbers."""
    array = np.empty(shape)
    Initial(draws.take(), kind, 0.0, 1.0).fill(array, draws.seed)
    return array

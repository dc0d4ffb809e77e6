"""Initial values of parameters, in place, under PyTorch's names; and the one generator that they are drawn from.

Sources: Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward neural networks (xavier);
He et al. 2015, Delving deep into rectifiers (kaiming).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.tensor import Parameter

_generator = np.random.Generator(np.random.Philox())

GAINS = {
    "linear": 1.0, "sigmoid": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0,
    "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4,
}  # fmt: skip


def manual_seed(seed: int) -> None:
    """Start the generator anew: equal seeds give equal initial values and, for loaders without a seed, equal orders."""
    global _generator
    _generator = np.random.Generator(np.random.Philox(seed))


def draw_seed() -> int:
    """A seed for whoever was given none."""
    return int(_generator.integers(2**32))


def uniform_(tensor: Parameter, a: float = 0.0, b: float = 1.0) -> Parameter:
    """Evenly from [a, b]."""
    return fill(tensor, lambda shape: _generator.uniform(a, b, shape))


def normal_(tensor: Parameter, mean: float = 0.0, std: float = 1.0) -> Parameter:
    """From the normal distribution."""
    return fill(tensor, lambda shape: _generator.normal(mean, std, shape))


def constant_(tensor: Parameter, val: float) -> Parameter:
    return fill(tensor, lambda shape: np.full(shape, val))


def zeros_(tensor: Parameter) -> Parameter:
    return constant_(tensor, 0.0)


def ones_(tensor: Parameter) -> Parameter:
    return constant_(tensor, 1.0)


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
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in GAINS:
        raise ValueError(f"no gain is known for {nonlinearity!r}; use one of leaky_relu, {', '.join(GAINS)}")
    return GAINS[nonlinearity]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(inputs, outputs) of one element of the result, for a weight [out, in, window ...]."""
    if len(shape) < 2:
        raise ValueError(f"a weight of shape {shape} has no fan-in and fan-out; it needs at least 2 axes")
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def xavier_deviation(tensor: Parameter, gain: float) -> float:
    return gain * math.sqrt(2 / sum(fans(tensor.storage.array.shape)))


def kaiming_deviation(tensor: Parameter, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode={mode!r} is not a choice; use fan_in or fan_out")
    inputs, outputs = fans(tensor.storage.array.shape)
    return calculate_gain(nonlinearity, a) / math.sqrt(inputs if mode == "fan_in" else outputs)


def uniform_limits(tensor: Parameter, limit: float) -> Parameter:
    return uniform_(tensor, -limit, limit)


def fill(tensor: Parameter, draw: Callable[[tuple[int, ...]], Any]) -> Parameter:
    if not isinstance(tensor, Parameter):
        raise TypeError(f"only parameters have numbers to initialise, got {type(tensor).__name__}")
    return tensor.copy_(draw(tensor.storage.array.shape))

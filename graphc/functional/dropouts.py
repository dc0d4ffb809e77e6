"""Dropout (Hinton et al. 2012): some elements are 0 in training, others in every call; the rest make up for them.

p         the probability of 0; ArgumentError outside of [0, 1]
training  without it the input is the result
inplace   accepted for PyTorch's sake
"""

from __future__ import annotations

from typing import Any

from graphc.errors import ShapeError
from graphc.functional.activation import SELU_ALPHA, SELU_SCALE
from graphc.functional.creation import zeros_like
from graphc.functional.random import happens
from graphc.ir.graph import user_origin
from graphc.ir.types import Shape
from graphc.settings import check_share, check_switch
from graphc.tensor import Tensor, as_floats, where

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d"]


def dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Every element by itself; those that stay are divided by 1 - p, so that means stay."""
    (tensor,) = as_floats(x)
    return thinned(tensor, tensor.value.shape, p, training)


def dropout1d(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of x [n, channels, length] or [channels, length]."""
    return channel_dropout("dropout1d", x, (2, 3), p, training)


def dropout2d(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of x [n, channels, height, width]; of [n, channels, length] too, as in PyTorch."""
    return channel_dropout("dropout2d", x, (3, 4), p, training)


def dropout3d(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Whole channels of x [n, channels, depth, height, width] or [channels, depth, height, width]."""
    return channel_dropout("dropout3d", x, (4, 5), p, training)


def alpha_dropout(x: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Elements set to what SELU tends to for small inputs, then scaled and shifted: mean 0 and variance 1 stay.

    Source: Klambauer et al. 2017, Self-normalizing neural networks, section "New dropout technique".
    """
    (tensor,) = as_floats(x)
    if check_share("p", p) == 0 or not check_switch("training", training):
        return tensor
    if p == 1:
        return zeros_like(tensor)
    lowest = -SELU_ALPHA * SELU_SCALE
    scale = ((1 - p) * (1 + p * lowest**2)) ** -0.5
    kept = happens(1 - p, tensor.value.shape)
    result: Tensor = (where(kept, tensor, lowest) - lowest * p) * scale
    return result


def channel_dropout(name: str, x: Any, ranks: tuple[int, int], p: float, training: bool) -> Tensor:
    """`ranks` are the numbers of axes an input may have; the last but `ranks[0]` - 1 axes are those of a channel."""
    (tensor,) = as_floats(x)
    if tensor.ndim not in ranks:
        raise ShapeError(f"{name} takes {ranks[0]} or {ranks[1]} axes, got {tensor.type}", user_origin())
    batched = name == "dropout2d" or tensor.ndim == ranks[1]
    leading = tensor.value.shape[: 1 + batched]
    return thinned(tensor, (*leading, *[1] * (tensor.ndim - len(leading))), p, training)


def thinned(x: Tensor, shape: Shape, p: float, training: bool) -> Tensor:
    """x with one draw for each element of `shape`, which broadcasts to x's."""
    if check_share("p", p) == 0 or not check_switch("training", training):
        return x
    return zeros_like(x) if p == 1 else where(happens(1 - p, shape), x / (1 - p), 0.0)

"""Attention, and any part of a graph, as ops that are done tile by tile: no value along both rows and columns of
scores needs memory then.

None of them is in a graph as it is traced: only passes for targets that do them make them (see ir/attention.py).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.ir.graph import IRError, Value
from graphc.ir.ops.contraction import dot, dot_type, turned
from graphc.ir.ops.elementwise import constant, div, exp, mul, sub, where
from graphc.ir.ops.loop import Body
from graphc.ir.ops.record import Op, define
from graphc.ir.ops.reduce import reduced_type, sum
from graphc.ir.ops.view import broadcast
from graphc.ir.types import TensorType

Array = np.ndarray[Any, Any]


def normaliser_type(scores: TensorType, hides: bool) -> TensorType:
    return reduced_type(scores, (len(scores.shape) - 1,))


def normaliser_array(scores: Array, hides: bool) -> Array:
    top = scores.max(axis=-1, keepdims=True)
    base = np.where(top > -math.inf, top, 0)
    found: Array = base + np.log(np.exp(scores - base).sum(axis=-1, keepdims=True))
    return np.where(top == -math.inf, math.inf, found) if hides else found


def attend_type(scores: TensorType, values: TensorType, *kept: TensorType, share: float, hides: bool) -> TensorType:
    if len(kept) > 1 or any(each != scores.with_dtype("bool") for each in kept):
        raise IRError(f"keeps what one bool for each of {scores} says, got {', '.join(map(str, kept))}")
    return dot_type(scores, values)


def attend_gradient(ct: Value, out: Value, scores: Value, values: Value, *kept: Value) -> tuple[Value | None, ...]:
    """The rows' sums of the weights' cotangents, each times its weight, are those of the result's times the result.

    Source: Dao et al. 2022, FlashAttention, section B.2.
    """
    (*_, axis) = range(len(scores.shape))
    powers = weights(scores, out.attrs["hides"])
    slopes = thinned(dot(ct, turned(values)), kept, out.attrs["share"])
    mean = broadcast(sum(mul(ct, out), axes=(axis,)), shape=scores.shape)
    kept_powers = thinned(powers, kept, out.attrs["share"])
    return mul(powers, sub(slopes, mean)), dot(turned(kept_powers), ct), *(None for _ in kept)


def attended(scores: Value, values: Value, *kept: Value, share: float, hides: bool) -> Value:
    """What `attend` means, with its weights."""
    return dot(thinned(weights(scores, hides), kept, share), values)


def weights(scores: Value, hides: bool) -> Value:
    """softmax along the last axis, as powers that are known without a second look at the row."""
    return exp(sub(scores, broadcast(normaliser(scores, hides=hides), shape=scores.shape)))


def thinned(x: Value, kept: tuple[Value, ...], share: float) -> Value:
    """Elements that are kept, divided by their share; the others are 0."""
    for each in kept:
        x = where(each, div(x, constant(share, x)), constant(0.0, x))
    return x


def tiles_type(*operands: TensorType, body: Body) -> TensorType:
    wanted = [value.type for value in body.graph.inputs]
    if list(operands) != wanted:
        raise IRError(f"its body needs {wanted}, got {list(operands)}")
    return TensorType("f32", ())  # of no meaning: parts have the types


# The logarithm of the sum of all powers of a row: exp(scores - normaliser) are its weights.
# hides: of a row of nothing but -inf it is inf, so that all weights are 0; otherwise they are NaN there.
normaliser: Op = define(
    "normaliser",
    "attention",
    infer=normaliser_type,
    numpy=normaliser_array,
    vjp=lambda ct, out, scores: (
        mul(broadcast(ct, shape=scores.shape), exp(sub(scores, broadcast(out, shape=scores.shape)))),
    ),
    samples=(),  # tests/test_cuda_attention.py has samples
)
# softmax(scores) @ values, with a share of the weights kept where a third operand says so.
attend: Op = define("attend", "attention", infer=attend_type, numpy=None, vjp=attend_gradient, samples=())
# The results of a body that goes over its points tile by tile, each a `part`.
tiles: Op = define("tiles", "tiles", infer=tiles_type, numpy=None, samples=())

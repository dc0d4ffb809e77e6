"""Attention: means of values, weighted by how well their keys fit a query.

Source: Vaswani et al. 2017, Attention is all you need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.functional.creation import tri
from graphc.functional.dropouts import dropout
from graphc.ir.graph import user_origin
from graphc.ir.types import FLOATS
from graphc.settings import check_number, check_share, check_switch
from graphc.tensor import Tensor, as_floats, as_tensor, bool_, where
from graphc.tensor.arithmetic import detach
from graphc.tensor.joining import repeat_interleave
from graphc.tensor.maths import exp
from graphc.tensor.products import matmul
from graphc.tensor.reduction import max, softmax, sum

__all__ = ["scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query @ key.T * scale + mask) @ value.

    query       [..., heads, length, size]; what stands before length broadcasts, and may be missing
    key, value  [..., heads, source, size], [..., heads, source, out]; the result is [..., heads, length, out]
    attn_mask   [..., length, source]: bool, where True takes part, or floats that are added
    dropout_p   the share of weights that are set to 0, in training and out of it
    is_causal   place i sees the keys 0 .. i only; not together with a mask
    scale       1 / sqrt(size) if left out
    enable_gqa  key and value have fewer heads, each of which serves as many neighbouring heads of the query

    A query that sees no key gives zeros, without a gradient. On a GPU neither scores nor weights are kept, nor for the
    gradient: they are computed again (Dao et al. 2022, FlashAttention).

    Raises ShapeError for operands that do not fit, DTypeError for masks of whole numbers.
    """
    check_share("dropout_p", dropout_p)
    if scale is not None:
        check_number("scale", scale)
    q, k, v = as_floats(query, key, value)
    if check_switch("is_causal", is_causal) and attn_mask is not None:
        raise ArgumentError("scaled_dot_product_attention takes attn_mask or is_causal=True, not both", user_origin())
    if check_switch("enable_gqa", enable_gqa):
        k, v = (repeat_heads(x, q) for x in (k, v))
    check_operands(q, k, v)
    masks = [] if attn_mask is None else [as_tensor(attn_mask)]
    return matmul(dropout(attention_weights(q, k, masks, is_causal, scale), dropout_p), v)


def attention_weights(
    query: Tensor, key: Tensor, masks: Sequence[Tensor], is_causal: bool, scale: float | None = None
) -> Tensor:
    """How much each query takes of each key's value: [..., length, source], rows add up to 1 or are zeros."""
    size = query.shape[-1]
    if not isinstance(size, int):
        raise ShapeError(f"attention of {query.type}: the size of its vectors must be fixed", user_origin())
    scores = matmul(query, key.transpose(-2, -1)) * (1 / math.sqrt(size) if scale is None else scale)
    for mask in masks:
        scores = masked(scores, mask)
    if is_causal:
        length, source = scores.value.shape[-2:]
        scores = masked(scores, tri(length, source, dtype=bool_))
    return softmax_of_seen(scores) if masks else softmax(scores)


def masked(scores: Tensor, mask: Tensor) -> Tensor:
    """The scores plus a mask of floats, or -inf where a mask of bool is False."""
    if mask.value.dtype == "bool":
        return where(mask, scores, -math.inf)
    if mask.value.dtype not in FLOATS:
        raise DTypeError(f"a mask of attention is bool or floats, got {mask.type}", user_origin())
    return scores + mask.astype(scores.dtype)


def softmax_of_seen(scores: Tensor) -> Tensor:
    """softmax along the last axis, zeros where all scores are -inf."""
    top = detach(max(scores, -1, keepdims=True))
    powers = exp(scores - where(top > -math.inf, top, 0.0))
    total = sum(powers, -1, keepdims=True)
    return powers / where(total > 0, total, 1.0)


def repeat_heads(x: Tensor, query: Tensor) -> Tensor:
    """[..., heads, source, size] with each head as often as the query has heads for it."""
    if x.ndim < 3 or query.ndim < 3 or query.shape[-3] % x.shape[-3]:
        raise ShapeError(f"enable_gqa: the heads of {x.type} do not divide those of {query.type}", user_origin())
    return repeat_interleave(x, query.shape[-3] // x.shape[-3], -3)


def check_operands(query: Tensor, key: Tensor, value: Tensor) -> None:
    enough = min(query.ndim, key.ndim, value.ndim) >= 2
    if not enough or query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ShapeError(
            f"attention of query {query.type}, key {key.type} and value {value.type}: they do not fit",
            user_origin(),
            ["it takes [..., length, size], [..., source, size] and [..., source, out]"],
        )

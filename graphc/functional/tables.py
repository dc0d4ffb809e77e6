"""Rows of tables."""

from __future__ import annotations

from typing import Any

from graphc.errors import ArgumentError, ShapeError
from graphc.ir import ops
from graphc.ir.graph import user_origin
from graphc.ir.types import TensorType, bound
from graphc.settings import is_whole, shown
from graphc.tensor import Tensor, as_tensor, where
from graphc.tensor.arithmetic import detach
from graphc.tensor.comparison import equal
from graphc.tensor.indexing import checked_index, look_up

__all__ = ["embedding"]


def embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Tensor:
    """The rows of weight [count, width] at integers [...] -> [..., width].

    padding_idx  a row that gets no gradient, counted from the end if negative

    Integers outside of 0..count-1 are LabelError in the call, ShapeError where they are known while tracing.
    """
    table = as_tensor(weight)
    if table.ndim != 2:
        raise ShapeError(f"embedding takes a weight of rows [count, width], got {table.type}", user_origin())
    extent = table.value.shape[0]
    if padding_idx is not None:
        whole = is_whole(padding_idx) and isinstance(extent, int)
        if not whole or not -bound(extent) <= padding_idx < bound(extent):
            raise ArgumentError(f"padding_idx is {shown(padding_idx)}; it must be a row of {table.type}", user_origin())
        rows = as_tensor(ops.iota(axis=0, type=TensorType("i64", (extent, 1))))
        table = where(equal(rows, padding_idx % bound(extent)), detach(table), table)
    return look_up(table.value, {0: checked_index("embedding", input, extent, from_end=False)}, 0)

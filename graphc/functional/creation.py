"""Constants and ramps."""

from __future__ import annotations

import math
from typing import Any

from graphc.ir import ops
from graphc.ir.types import Extent, TensorType
from graphc.tensor import DType, Tensor, as_extent, as_tensor, cast_value, common_dtype, lift, stretch

__all__ = ["arange", "full", "full_like", "ones", "ones_like", "zeros", "zeros_like"]


def shape_of(*extents: Any) -> tuple[Extent, ...]:
    """A shape given as one sequence or as several extents."""
    given = extents[0] if len(extents) == 1 and isinstance(extents[0], (tuple, list)) else extents
    return tuple(as_extent(extent) for extent in given)


def full(shape: Any, value: Any, dtype: DType | None = None) -> Tensor:
    """A constant; its dtype is that of the number unless one is named."""
    number = lift(value)
    wanted = common_dtype([value], [number]) if dtype is None else dtype.name
    return Tensor(stretch(cast_value(number, wanted), shape_of(shape)))


def zeros(*shape: Any, dtype: DType | None = None) -> Tensor:
    return full(shape_of(*shape), 0.0, dtype)


def ones(*shape: Any, dtype: DType | None = None) -> Tensor:
    return full(shape_of(*shape), 1.0, dtype)


def full_like(x: Any, value: float, dtype: DType | None = None) -> Tensor:
    tensor = as_tensor(x)
    return full(tensor.value.shape, value, dtype or tensor.dtype)


def zeros_like(x: Any, dtype: DType | None = None) -> Tensor:
    return full_like(x, 0.0, dtype)


def ones_like(x: Any, dtype: DType | None = None) -> Tensor:
    return full_like(x, 1.0, dtype)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: DType | None = None) -> Tensor:
    """start, start + step, … up to but without stop; `arange(n)` counts from 0 and takes a symbolic n.

    i64 for integers, f32 where a float is among the arguments.
    """
    if stop is None and step == 1 and not isinstance(start, float):
        ramp = Tensor(ops.iota(axis=0, type=TensorType("i64", (as_extent(start),))))
        return ramp if dtype is None else ramp.astype(dtype)
    first, end = (0, start) if stop is None else (start, stop)
    return as_tensor(arange(math.ceil((end - first) / step), dtype=dtype) * step + first)

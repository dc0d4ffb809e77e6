"""Constants, ramps and patterns. A shape is one sequence or several extents, fixed or symbolic; its sizes may be 0."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.errors import ShapeError
from graphc.ir import ops
from graphc.ir.graph import user_origin
from graphc.ir.types import Extent, TensorType
from graphc.settings import check_choice, check_number, check_switch, check_whole, is_number, is_whole
from graphc.tensor import Tensor, as_extent, as_tensor, cast_value, common_dtype, dtype_name, f32, f64, lift, where
from graphc.tensor.arithmetic import astype
from graphc.tensor.diagonals import above_main
from graphc.tensor.views import broadcast_to, reshape, sequence

__all__ = [
    "arange",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "identity",
    "linspace",
    "logspace",
    "meshgrid",
    "ones",
    "ones_like",
    "tri",
    "zeros",
    "zeros_like",
]

# -- constants


def shape_of(*extents: Any) -> tuple[Extent, ...]:
    """A shape given as one sequence or as several extents."""
    return tuple(as_extent(extent) for extent in sequence(extents))


def full(shape: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """A constant; its dtype is that of the number unless one is named."""
    number = lift(fill_value)
    wanted = common_dtype([fill_value], [number]) if dtype is None else dtype_name(dtype)
    return broadcast_to(cast_value(number, wanted), shape_of(shape))


def zeros(*shape: Any, dtype: Any = None) -> Tensor:
    """Zeros, f32 unless a dtype is named."""
    return full(shape_of(*shape), 0.0, dtype)


def ones(*shape: Any, dtype: Any = None) -> Tensor:
    """Ones, f32 unless a dtype is named."""
    return full(shape_of(*shape), 1.0, dtype)


def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """A constant of the shape of x, and of its dtype unless one is named."""
    tensor = as_tensor(x)
    return full(tensor.value.shape, fill_value, tensor.dtype if dtype is None else dtype)


def zeros_like(x: Any, dtype: Any = None) -> Tensor:
    """Zeros of the shape of x, and of its dtype unless one is named."""
    return full_like(x, 0, dtype)


def ones_like(x: Any, dtype: Any = None) -> Tensor:
    """Ones of the shape of x, and of its dtype unless one is named."""
    return full_like(x, 1, dtype)


empty, empty_like = zeros, zeros_like  # memory is planned, so nothing is saved by leaving it as it was

# -- ramps


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None, *, end: Any = None) -> Tensor:
    """start, start + step, … up to but without stop; `arange(n)` counts from 0 and takes a symbolic n.

    i64 for integers, f32 where a float is among the arguments. Raises ShapeError for a step of 0, ArgumentError for
    other symbolic arguments.
    """
    last = stop if end is None else end
    if last is None and is_number(step) and step == 1 and not isinstance(start, (float, np.floating)):
        return ramp(as_extent(start), dtype)
    first, last = (0, start) if last is None else (start, last)
    for name, number in (("start", first), ("stop", last), ("step", step)):
        check_number(name, number)
    whole = is_whole(first) and is_whole(last) and is_whole(step)
    if step == 0 or not math.isfinite(last - first):
        raise ShapeError(f"arange from {first} to {last} with step={step} has no end", user_origin())
    count = max(0, math.ceil((last - first) / step))
    places = ramp(count, None if whole else f64) * step + first
    return astype(places, (places.dtype if whole else f32) if dtype is None else dtype)


def ramp(count: Extent, dtype: Any = None) -> Tensor:
    """0, 1, … count - 1."""
    places = as_tensor(ops.iota(axis=0, type=TensorType("i64", (count,))))
    return places if dtype is None else astype(places, dtype)


def linspace(
    start: float, stop: float, num: int = 50, endpoint: bool = True, dtype: Any = f32, *, steps: int | None = None
) -> Tensor:
    """`num` numbers from start to stop at equal distances, reckoned in f64; without the endpoint, the last is left out.

    steps  PyTorch's name of num. Raises ArgumentError for a negative num.
    """
    return astype(spaced(start, stop, num if steps is None else steps, endpoint), dtype)


def logspace(
    start: float,
    stop: float,
    num: int = 50,
    endpoint: bool = True,
    base: float = 10.0,
    dtype: Any = f32,
    *,
    steps: int | None = None,
) -> Tensor:
    """base ** linspace(start, stop)."""
    check_number("base", base)
    return astype(base ** spaced(start, stop, num if steps is None else steps, endpoint), dtype)


def spaced(start: float, stop: float, num: int, endpoint: bool) -> Tensor:
    check_number("start", start)
    check_number("stop", stop)
    check_whole("num", num, 0)
    check_switch("endpoint", endpoint)
    gaps = max(1, num - 1 if endpoint else num)
    places = ramp(num, f64)
    line = places * ((stop - start) / gaps) + start
    return where(places == gaps, stop, line) if endpoint and num > 1 else line


# -- patterns


def eye(n: Any, m: Any = None, k: int = 0, dtype: Any = f32) -> Tensor:
    """[n, m or n]: ones on the k-th diagonal above the main one, zeros elsewhere."""
    return astype(offsets(n, m) == check_whole("k", k), dtype)


identity = eye


def tri(n: Any, m: Any = None, k: int = 0, dtype: Any = f32) -> Tensor:
    """[n, m or n]: ones on and below the k-th diagonal above the main one, zeros elsewhere."""
    return astype(offsets(n, m) <= check_whole("k", k), dtype)


def offsets(n: Any, m: Any) -> Tensor:
    return above_main((as_extent(n), as_extent(n if m is None else m)))


def meshgrid(*vectors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Vectors [a], [b], … as coordinates of shape [a, b, …] each, of every point of their grid.

    indexing  "ij", PyTorch's default, or NumPy's "xy", which swaps the first two axes.
    """
    check_choice("indexing", indexing, ("ij", "xy"))
    lines = [reshape(vector, -1) for vector in sequence(vectors)]
    axes = list(range(len(lines)))
    if indexing == "xy":
        axes[:2] = axes[1::-1]
    shape = [lines[axes.index(axis)].value.shape[0] for axis in range(len(lines))]
    return tuple(
        broadcast_to(reshape(line, *(-1 if each == axis else 1 for each in range(len(lines)))), shape)
        for line, axis in zip(lines, axes, strict=True)
    )

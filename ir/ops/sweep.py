"""Ops that go along one axis in order: running sums and sorting."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir.graph import IRError
from graphc.ir.ops.record import Op, Sample, define
from graphc.ir.types import FLOATS, INTEGERS, TensorType

Array = np.ndarray[Any, Any]


def swept_type(x: TensorType, axis: int, reverse: bool) -> TensorType:
    if not 0 <= axis < len(x.shape):
        raise IRError(f"axis {axis} is outside of {x}")
    if x.dtype not in (*FLOATS, *INTEGERS):
        raise IRError(f"cannot go along {x.dtype}; cast it first")
    return x


def cumsum_array(x: Array, axis: int, reverse: bool) -> Array:
    if not reverse:
        return np.cumsum(x, axis, dtype=x.dtype)
    return np.flip(np.cumsum(np.flip(x, axis), axis, dtype=x.dtype), axis)


def argsort_array(x: Array, axis: int, reverse: bool) -> Array:
    """A stable order; NaN counts as the largest number."""
    if not reverse:
        return np.argsort(x, axis, kind="stable")
    last = x.shape[axis] - 1
    return np.flip(last - np.argsort(np.flip(x, axis), axis, kind="stable"), axis)


cumsum: Op = define(
    "cumsum",
    "sweep",
    infer=swept_type,
    numpy=cumsum_array,
    vjp=lambda ct, out, x: (cumsum(ct, axis=out.attrs["axis"], reverse=not out.attrs["reverse"]),),
    samples=(
        Sample(("f32[3,20]",), attrs={"axis": 1, "reverse": False}),
        Sample(("f32[5,7]",), attrs={"axis": 0, "reverse": True}),
        Sample(("i64[3,4,5]",), attrs={"axis": 1, "reverse": False}),
    ),
)
argsort: Op = define(  # reverse: from the largest down, equal numbers still in the order they have
    "argsort",
    "sweep",
    infer=lambda x, axis, reverse: swept_type(x, axis, reverse).with_dtype("i64"),
    numpy=argsort_array,
    samples=(
        Sample(("f32[3,37]",), attrs={"axis": 1, "reverse": False}),
        Sample(("f32[33,3]",), attrs={"axis": 0, "reverse": True}),
        Sample(("i64[3,20]",), attrs={"axis": 1, "reverse": True}),
    ),
)

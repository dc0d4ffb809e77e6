"""Ops without operands: inputs, constants, dim sizes, index ramps."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir.graph import IRError
from graphc.ir.ops.record import Op, Sample, define
from graphc.ir.types import DTYPES, FLOATS, Extent, TensorType, bound

ROLES = ("data", "state", "scalar")


def input_type(name: str, role: str, type: TensorType) -> TensorType:
    if role not in ROLES:
        raise IRError(f"input {name!r} has role {role!r}; roles are {', '.join(ROLES)}")
    return type


def full_type(value: float, type: TensorType) -> TensorType:
    if value.__class__ not in (bool, int, float):
        raise IRError(f"a constant must be a Python number, got {value!r} of {value.__class__.__name__}; use .item()")
    if not holds(type.dtype, value):
        raise IRError(f"{type.dtype} cannot hold the constant {value!r}")
    return type


def holds(dtype: str, value: float) -> bool:
    """The dtype has that number; floats have all, rounded."""
    if dtype in FLOATS:
        return True
    if dtype == "bool":
        return value in (0, 1)
    limits = np.iinfo(DTYPES[dtype])
    return value // 1 == value and int(limits.min) <= value <= int(limits.max)


def size_type(extent: Extent, type: TensorType) -> TensorType:
    if type.shape:
        raise IRError(f"a size is one number, not {type}; broadcast it")
    return type


def ramp_type(axis: int, type: TensorType) -> TensorType:
    if not 0 <= axis < len(type.shape):
        raise IRError(f"axis {axis} is outside of {type}")
    return type


def ramp(axis: int, type: TensorType) -> np.ndarray[Any, Any]:
    """0, 1, 2 … along the axis; the type comes with numbers in place of dims."""
    shape = [bound(extent) for extent in type.shape]
    line = np.arange(shape[axis], dtype=DTYPES[type.dtype])
    return np.broadcast_to(np.expand_dims(line, [other for other in range(len(shape)) if other != axis]), shape)


input: Op = define(
    "input",
    "source",
    infer=input_type,
    numpy=None,
    samples=(Sample((), attrs={"name": "x", "role": "data", "type": TensorType("f32", (3,))}),),
)
full: Op = define(
    "full",
    "source",
    infer=full_type,
    numpy=lambda value, type: np.full(type.shape, value, DTYPES[type.dtype]),
    samples=(Sample((), attrs={"value": 1.5, "type": TensorType("f32", (3, 4))}),),
)
size: Op = define(
    "size",
    "source",
    infer=size_type,
    numpy=lambda extent, type: np.asarray(extent, DTYPES[type.dtype]),
    samples=(Sample((), attrs={"extent": 5, "type": TensorType("f32", ())}),),
)
iota: Op = define(
    "iota",
    "source",
    infer=ramp_type,
    numpy=ramp,
    samples=(
        Sample((), attrs={"axis": 1, "type": TensorType("i64", (3, 20))}),
        Sample((), attrs={"axis": 0, "type": TensorType("f32", (3, 4))}),
    ),
)

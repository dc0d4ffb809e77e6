"""Ops without operands: inputs, constants, dim sizes, index ramps."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir.graph import IRError
from graphc.ir.ops.record import Sample, define
from graphc.ir.types import DTYPES, TensorType

ROLES = ("data", "state", "scalar")


def input_type(name: str, role: str, type: TensorType) -> TensorType:
    if role not in ROLES:
        raise IRError(f"input {name!r} has role {role!r}; roles are {', '.join(ROLES)}")
    return type


def ramp_type(axis: int, type: TensorType) -> TensorType:
    if not 0 <= axis < len(type.shape):
        raise IRError(f"axis {axis} is outside of {type}")
    return type


def ramp(axis: int, type: TensorType) -> np.ndarray[Any, Any]:
    shape = [1] * len(type.shape)
    shape[axis] = type.shape[axis]  # type: ignore[call-overload]
    return np.broadcast_to(np.arange(shape[axis], dtype=DTYPES[type.dtype]).reshape(shape), type.shape)  # type: ignore[arg-type]


input = define(
    "input",
    "source",
    infer=input_type,
    numpy=None,
    samples=(Sample((), attrs={"name": "x", "role": "data", "type": TensorType("f32", (3,))}),),
)
full = define(
    "full",
    "source",
    infer=lambda value, type: type,
    numpy=lambda value, type: np.full(type.shape, value, DTYPES[type.dtype]),
    samples=(Sample((), attrs={"value": 1.5, "type": TensorType("f32", (3, 4))}),),
)
size = define(
    "size",
    "source",
    infer=lambda extent, type: type,
    numpy=lambda extent, type: np.asarray(extent, DTYPES[type.dtype]),
    samples=(Sample((), attrs={"extent": 5, "type": TensorType("f32", ())}),),
)
iota = define(
    "iota",
    "source",
    infer=ramp_type,
    numpy=ramp,
    samples=(
        Sample((), attrs={"axis": 1, "type": TensorType("i64", (3, 20))}),
        Sample((), attrs={"axis": 0, "type": TensorType("f32", (3, 4))}),
    ),
)


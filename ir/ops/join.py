"""Arrays side by side in one memory: each is written to its part of it where it is computed, and nothing is copied."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir.graph import IRError
from graphc.ir.ops.record import Op, Sample, define
from graphc.ir.types import TensorType, add


def join_type(*operands: TensorType, axis: int) -> TensorType:
    if not operands or not 0 <= axis < len(operands[0].shape):
        raise IRError(f"axis {axis} is outside of {operands[0] if operands else 'nothing'}")
    first = operands[0]
    rest = [(kind.dtype, kind.shape[:axis], kind.shape[axis + 1 :]) for kind in operands]
    if any(each != rest[0] for each in rest):
        raise IRError(f"{', '.join(map(str, operands))} do not agree but in axis {axis}")
    extent = add(*(kind.shape[axis] for kind in operands))
    return first.with_shape((*first.shape[:axis], extent, *first.shape[axis + 1 :]))


def join_arrays(*arrays: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
    return np.concatenate(arrays, axis)


join: Op = define(  # made by the pass that gives values memory, after all gradients
    "join",
    "join",
    infer=join_type,
    numpy=join_arrays,
    samples=(
        Sample(("f32[3,20]", "f32[2,20]"), attrs={"axis": 0}),
        Sample(("i64[3,20]", "i64[3,5]"), attrs={"axis": 1}),
    ),
)

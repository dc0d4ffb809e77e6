"""Products of matrices or stacks of them, and the op that stands for a gradient until the gradient pass expands it."""

from __future__ import annotations

import numpy as np

from graphc.ir.graph import IRError, Value
from graphc.ir.ops.record import Op, Sample, define
from graphc.ir.ops.view import swapped, transpose
from graphc.ir.types import FLOATS, TensorType, bound


def dot_type(a: TensorType, b: TensorType) -> TensorType:
    if len(a.shape) < 2 or len(b.shape) < 2 or a.shape[:-2] != b.shape[:-2]:
        raise IRError("needs two matrices, or two stacks of matrices of one batch shape")
    if a.shape[-1] != b.shape[-2]:
        raise IRError(f"the inner sizes {a.shape[-1]} and {b.shape[-2]} differ")
    if a.dtype != b.dtype or a.dtype not in FLOATS:
        raise IRError("needs two matrices of one float dtype")
    return a.with_shape((*a.shape[:-1], b.shape[-1]))


def turned(x: Value) -> Value:
    return transpose(x, permutation=swapped(len(x.shape)))


dot: Op = define(
    "dot",
    "contraction",
    infer=dot_type,
    numpy=np.matmul,
    vjp=lambda ct, out, a, b: (dot(ct, turned(b)), dot(turned(a), ct)),
    samples=(
        Sample(("f32[17,33]", "f32[33,40]")),
        Sample(("f32[30,70]", "f32[70,10]")),
        Sample(("f32[5,2]", "f32[2,1]")),
        Sample(("f32[2,3,5,18]", "f32[2,3,18,40]")),
    ),
)


def gradient_type(loss: TensorType, wrt: TensorType) -> TensorType:
    if bound(loss.count) != 1:
        raise IRError(f"the loss is {loss} but must have one element; reduce it with .mean() or .sum()")
    if loss.dtype not in FLOATS or wrt.dtype not in FLOATS:
        raise IRError("only floats have gradients; cast before the loss is computed")
    return wrt


gradient: Op = define(
    "gradient",
    "gradient",
    infer=gradient_type,
    numpy=None,
    samples=(Sample(("f32[]", "f32[3,4]")),),
)

"""Ops that move no data: they become index maps of whoever reads them."""

from __future__ import annotations

import numpy as np

from graphc.ir.graph import IRError, Value
from graphc.ir.ops.record import Op, Sample, define
from graphc.ir.types import Shape, TensorType, multiply


def stretched_axes(before: Shape, after: Shape) -> tuple[int, ...]:
    return tuple(axis for axis, (a, b) in enumerate(zip(before, after, strict=True)) if a != b)


def broadcast_type(x: TensorType, shape: Shape) -> TensorType:
    if len(shape) != len(x.shape) or any(a not in (1, b) for a, b in zip(x.shape, shape, strict=True)):
        raise IRError(f"cannot stretch {x} to {list(shape)}: only axes of size 1 stretch")
    return x.with_shape(shape)


def broadcast_vjp(ct: Value, out: Value, x: Value) -> tuple[Value, ...]:
    from graphc.ir.ops.reduce import sum  # reduce.py needs broadcast for its own gradients

    return (sum(ct, axes=stretched_axes(x.shape, out.shape)),)


def reshape_type(x: TensorType, shape: Shape) -> TensorType:
    if multiply(*x.shape) != multiply(*shape):
        raise IRError(f"{x} has {multiply(*x.shape)} elements, shape {list(shape)} has {multiply(*shape)}")
    return x.with_shape(shape)


def transpose_type(x: TensorType, permutation: tuple[int, ...]) -> TensorType:
    if sorted(permutation) != list(range(len(x.shape))):
        raise IRError(f"{list(permutation)} is not an order of the {len(x.shape)} axes of {x}")
    return x.with_shape(tuple(x.shape[axis] for axis in permutation))


def inverse(permutation: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(permutation)), key=permutation.__getitem__))


broadcast: Op = define(
    "broadcast",
    "view",
    infer=broadcast_type,
    numpy=lambda x, shape: np.broadcast_to(x, shape),
    vjp=broadcast_vjp,
    samples=(
        Sample(("f32[1,20]",), attrs={"shape": (3, 20)}),
        Sample(("f32[3,1]",), attrs={"shape": (3, 20)}),
        Sample(("i64[1,1]",), attrs={"shape": (3, 5)}),
    ),
)
reshape: Op = define(
    "reshape",
    "view",
    infer=reshape_type,
    numpy=lambda x, shape: np.reshape(x, shape),
    vjp=lambda ct, out, x: (reshape(ct, shape=x.shape),),
    samples=(
        Sample(("f32[3,20]",), attrs={"shape": (60,)}),
        Sample(("f32[4,6]",), attrs={"shape": (2, 12)}),
        Sample(("f32[5]",), attrs={"shape": (1, 5, 1)}),
    ),
)
transpose: Op = define(
    "transpose",
    "view",
    infer=transpose_type,
    numpy=lambda x, permutation: np.transpose(x, permutation),
    vjp=lambda ct, out, x: (transpose(ct, permutation=inverse(out.attrs["permutation"])),),
    samples=(
        Sample(("f32[3,20]",), attrs={"permutation": (1, 0)}),
        Sample(("f32[2,3,5]",), attrs={"permutation": (2, 0, 1)}),
    ),
)

"""Ops that combine the elements along some axes; reduced axes stay, with size 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir.graph import IRError, Value
from graphc.ir.ops.elementwise import constant, div, equal, mul, where
from graphc.ir.ops.record import Op, Sample, define
from graphc.ir.ops.view import broadcast, stretched_axes
from graphc.ir.types import FLOATS, INTEGERS, TensorType


def reduced_type(x: TensorType, axes: tuple[int, ...]) -> TensorType:
    if any(not 0 <= axis < len(x.shape) for axis in axes) or len(set(axes)) != len(axes):
        raise IRError(f"axes {list(axes)} do not fit {x}")
    if x.dtype not in (*FLOATS, *INTEGERS):
        raise IRError(f"cannot reduce {x.dtype}; cast it first")
    return x.with_shape(tuple(1 if axis in axes else extent for axis, extent in enumerate(x.shape)))


def reduction(name: str, pair: np.ufunc, scalar: str, vjp: Any) -> Op:
    """`pair` combines two arrays, `scalar` a running result {0} with one more element {1}."""
    return define(
        name,
        "reduce",
        infer=reduced_type,
        numpy=lambda x, axes: pair.reduce(x, axis=axes, keepdims=True, dtype=x.dtype),
        scalar=scalar,
        vjp=vjp,
        samples=(
            Sample(("f32[3,20]",), attrs={"axes": (1,)}),
            Sample(("f32[5,7]",), attrs={"axes": (0,)}),
            Sample(("f32[4,40]",), attrs={"axes": (0, 1)}),
            Sample(("i64[3,20]",), attrs={"axes": (1,)}),
        ),
    )


def pick_vjp(ct: Value, out: Value, x: Value) -> tuple[Value, ...]:
    """Equal shares to all elements that attain the extreme, as PyTorch's amax does."""
    attained = equal(x, broadcast(out, shape=x.shape))
    ones = where(attained, constant(1.0, x), constant(0.0, x))
    each = div(ct, sum(ones, axes=stretched_axes(out.shape, x.shape)))
    return (mul(broadcast(each, shape=x.shape), ones),)


def prod_vjp(ct: Value, out: Value, x: Value) -> tuple[Value, ...]:
    """The product of the other elements: out / x, but at a zero that is alone among its axes the product of the rest.

    Second derivatives between two zeros of one product come out as 0.
    """
    zero, one = constant(0.0, x), constant(1.0, x)
    is_zero = equal(x, zero)
    nonzero = where(is_zero, one, x)
    axes = stretched_axes(out.shape, x.shape)
    zeros = sum(where(is_zero, one, zero), axes=axes)
    rest = where(equal(zeros, constant(1.0, zeros)), prod(nonzero, axes=axes), constant(0.0, zeros))
    others = where(is_zero, broadcast(rest, shape=x.shape), div(broadcast(out, shape=x.shape), nonzero))
    return (mul(broadcast(ct, shape=x.shape), others),)


sum: Op = reduction("sum", np.add, "{0} + {1}", lambda ct, out, x: (broadcast(ct, shape=x.shape),))
prod: Op = reduction("prod", np.multiply, "{0} * {1}", prod_vjp)
max: Op = reduction("max", np.maximum, "maximum({0}, {1})", pick_vjp)
min: Op = reduction("min", np.minimum, "minimum({0}, {1})", pick_vjp)

"""Comparison, logic and bits of one element at a time. Where logic is asked of numbers, all but 0 are true."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.ir import ops
from graphc.ir.graph import Value
from graphc.ir.ops.record import Op
from graphc.ir.types import DTYPES, FLOATS
from graphc.settings import check_switch
from graphc.tensor.arithmetic import absolute, astype, or_logic
from graphc.tensor.building import (
    as_floats,
    as_tensor,
    cast_value,
    combine,
    common_dtype,
    elementwise,
    lift,
    lift_all,
    where,
)
from graphc.tensor.dtypes import DType

if TYPE_CHECKING:
    from graphc.tensor.tensor import Tensor

__all__ = [
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "eq",
    "equal",
    "ge",
    "greater",
    "greater_equal",
    "gt",
    "invert",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "left_shift",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "masked_fill",
    "nan_to_num",
    "ne",
    "not_equal",
    "right_shift",
    "where",
]

# -- comparison


def compared(op: Op, a: Any, b: Any) -> Tensor:
    """A comparison; bools are compared as the numbers 0 and 1."""
    values = lift_all((a, b))
    dtype = common_dtype([a, b], values)
    return combine(op, values, "u8" if dtype == "bool" else dtype)


def equal(a: Any, b: Any, /) -> Tensor:
    """a == b, element by element."""
    return compared(ops.equal, a, b)


def not_equal(a: Any, b: Any, /) -> Tensor:
    """a != b, element by element."""
    return compared(ops.not_equal, a, b)


def less(a: Any, b: Any, /) -> Tensor:
    """a < b, element by element."""
    return compared(ops.less, a, b)


def less_equal(a: Any, b: Any, /) -> Tensor:
    """a <= b, element by element."""
    return compared(ops.less_equal, a, b)


def greater(a: Any, b: Any, /) -> Tensor:
    """a > b, element by element."""
    return compared(ops.less, b, a)


def greater_equal(a: Any, b: Any, /) -> Tensor:
    """a >= b, element by element."""
    return compared(ops.less_equal, b, a)


def isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """|a - b| <= atol + rtol * |b|; infinities are close to themselves, NaN too if equal_nan."""
    check_switch("equal_nan", equal_nan)
    first, second = as_floats(a, b)
    near = (absolute(first - second) <= atol + rtol * absolute(second)) & isfinite(second)
    close = near | (first == second)
    return close | (isnan(first) & isnan(second)) if equal_nan else close


# -- kinds of numbers


def isnan(x: Any) -> Tensor:
    """Where x is not a number."""
    tensor = as_tensor(x)
    return not_equal(tensor, tensor)


def isinf(x: Any) -> Tensor:
    """Whether x is one of the infinities."""
    return float_test(ops.equal, x)


def isfinite(x: Any) -> Tensor:
    """Whether x is neither infinite nor NaN."""
    return float_test(ops.less, x)


def float_test(op: Op, x: Any) -> Tensor:
    """How |x| compares with infinity; integers are below it."""
    tensor = as_tensor(x)
    if tensor.value.dtype not in FLOATS:
        return elementwise(op, where(tensor == tensor, 0, 0), 1)
    return elementwise(op, absolute(tensor), math.inf)


def nan_to_num(x: Any, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Tensor:
    """x with numbers in place of NaN and infinities: by default 0, and the largest number of either sign."""
    tensor = as_tensor(x)
    if tensor.value.dtype not in FLOATS:
        return tensor
    largest = float(np.finfo(DTYPES[tensor.value.dtype]).max)
    high = largest if posinf is None else posinf
    low = -largest if neginf is None else neginf
    finite = where(tensor == math.inf, high, where(tensor == -math.inf, low, tensor))
    return where(isnan(tensor), nan, finite)


def masked_fill(x: Any, mask: Any, value: Any) -> Tensor:
    """`value` where the mask is true, x elsewhere."""
    tensor = as_tensor(x)
    return where(mask, astype(value, tensor.dtype), tensor)


# -- logic and bits


def truths(*items: Any) -> list[Value]:
    """Whether numbers are not 0, as bools."""
    return [cast_value(lift(item), "bool") for item in items]


def logical_and(a: Any, b: Any, /) -> Tensor:
    """Where neither is 0."""
    return combine(ops.logical_and, truths(a, b), "bool")


def logical_or(a: Any, b: Any, /) -> Tensor:
    """Where one of them is not 0."""
    return combine(ops.logical_or, truths(a, b), "bool")


def logical_xor(a: Any, b: Any, /) -> Tensor:
    """Where exactly one of them is not 0."""
    return combine(ops.not_equal, truths(a, b), "u8")


def logical_not(x: Any) -> Tensor:
    """Where x is 0."""
    return combine(ops.logical_not, truths(x), "bool")


def bitwise_and(a: Any, b: Any, /) -> Tensor:
    """a & b: of integers by bits, of bools whether both are true."""
    return or_logic(ops.bit_and, ops.logical_and, a, b)


def bitwise_or(a: Any, b: Any, /) -> Tensor:
    """a | b: of integers by bits, of bools whether one is true."""
    return or_logic(ops.bit_or, ops.logical_or, a, b)


def bitwise_xor(a: Any, b: Any, /) -> Tensor:
    """a ^ b: of integers by bits, of bools whether they differ."""
    values = lift_all((a, b))
    return logical_xor(a, b) if common_dtype([a, b], values) == "bool" else elementwise(ops.bit_xor, a, b)


def bitwise_not(x: Any) -> Tensor:
    """~x: of integers by bits, of bools the other one."""
    return or_logic(ops.bit_not, ops.logical_not, x)


def left_shift(a: Any, b: Any, /) -> Tensor:
    """The bits of integers b places up; 0 for as many places as there are bits."""
    return shifted_bits(ops.shift_left, a, b)


def right_shift(a: Any, b: Any, /) -> Tensor:
    """The bits of integers b places down, with copies of the sign coming in."""
    return shifted_bits(ops.shift_right, a, b)


def shifted_bits(op: Op, a: Any, b: Any) -> Tensor:
    values = lift_all((a, b))
    dtype = common_dtype([a, b], values)
    wide = "i32" if dtype == "u8" else dtype
    number, places = (as_tensor(cast_value(value, wide)) for value in values)
    last = 8 * DTYPES[wide].itemsize - 1
    inside = elementwise(op, number, where(places > last, last, where(places < 0, last, places)))
    if op is ops.shift_left:
        inside = where((places > last) | (places < 0), 0, inside)
    return astype(inside, DType(dtype))


# PyTorch's or NumPy's other names.
eq, ne, lt, le, gt, ge = equal, not_equal, less, less_equal, greater, greater_equal
invert, bitwise_left_shift, bitwise_right_shift = bitwise_not, left_shift, right_shift

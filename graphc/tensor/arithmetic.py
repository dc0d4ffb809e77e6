"""Arithmetic of one element at a time: sums, products, quotients, powers, rounding, limits, conversion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import DTypeError
from graphc.ir import ops
from graphc.ir.graph import user_origin
from graphc.ir.ops.record import Op
from graphc.ir.types import FLOATS
from graphc.settings import check_choice, is_whole, require
from graphc.tensor.building import (
    apply,
    as_floats,
    as_tensor,
    cast_value,
    combine,
    common_dtype,
    elementwise,
    floating,
    is_plain_number,
    lift,
    lift_all,
    settle,
    where,
)
from graphc.tensor.dtypes import DType, dtype_name

if TYPE_CHECKING:
    from graphc.tensor.tensor import Tensor

__all__ = [
    "abs",
    "absolute",
    "add",
    "astype",
    "cast",
    "ceil",
    "clamp",
    "clip",
    "detach",
    "div",
    "divide",
    "fix",
    "floor",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "frac",
    "heaviside",
    "lerp",
    "maximum",
    "minimum",
    "mod",
    "mul",
    "multiply",
    "neg",
    "negative",
    "positive",
    "pow",
    "power",
    "reciprocal",
    "remainder",
    "rint",
    "round",
    "rsqrt",
    "sign",
    "sqrt",
    "square",
    "stop_gradient",
    "sub",
    "subtract",
    "true_divide",
    "trunc",
]

# -- sums, products, quotients


def add(a: Any, b: Any, /, *, alpha: Any = 1) -> Tensor:
    """a + alpha * b; of bools, whether one is true."""
    return or_logic(ops.add, ops.logical_or, a, times(alpha, b))


def subtract(a: Any, b: Any, /, *, alpha: Any = 1) -> Tensor:
    """a - alpha * b."""
    return elementwise(ops.sub, a, times(alpha, b))


def times(alpha: Any, x: Any) -> Any:
    return x if is_plain_number(alpha) and alpha == 1 else multiply(alpha, x)


def multiply(a: Any, b: Any, /) -> Tensor:
    """a * b; of bools, whether both are true."""
    return or_logic(ops.mul, ops.logical_and, a, b)


def or_logic(op: Op, logic: Op, *items: Any) -> Tensor:
    """An op on numbers, or its like on bools."""
    values = lift_all(items)
    dtype = common_dtype(items, values)
    return combine(logic if dtype == "bool" else op, values, dtype)


def divide(a: Any, b: Any, /, *, rounding_mode: str | None = None) -> Tensor:
    """a / b, integers converted to floats; rounded towards 0 by "trunc", down by "floor", where integers stay integers.

    Raises ArgumentError for another rounding mode.
    """
    if check_choice("rounding_mode", rounding_mode, (None, "trunc", "floor")) is None:
        return floating(ops.div, a, b)
    if rounding_mode == "floor":
        return floor_divide(a, b)
    first, second, whole = dividends(a, b)
    return astype(quotient(first, second), whole) if whole else trunc(divide(first, second))


def floor_divide(a: Any, b: Any, /) -> Tensor:
    """The largest whole number not above a / b; of integers, 0 where b is 0. It has no gradient."""
    *pair, whole = dividends(a, b)
    first, second = map(detach, pair)
    rest = truncated_rest(first, second)
    count = quotient(first, second) if whole else rint((first - rest) / second)
    result = where(beyond(rest, second), count - 1, count)
    return astype(result, whole) if whole else where(second == 0, first / second, result)


def remainder(a: Any, b: Any, /) -> Tensor:
    """a - b * floor(a / b), which has the sign of b: Python's `%`. Of integers, 0 where b is 0."""
    first, second, whole = dividends(a, b)
    rest = truncated_rest(first, second)
    result = where(beyond(rest, second), rest + second, rest)
    return astype(result, whole) if whole else result


def fmod(a: Any, b: Any, /) -> Tensor:
    """a - b * trunc(a / b), which has the sign of a. Of integers, 0 where b is 0."""
    first, second, whole = dividends(a, b)
    rest = truncated_rest(first, second)
    return astype(rest, whole) if whole else rest


def dividends(a: Any, b: Any) -> tuple[Tensor, Tensor, DType | None]:
    """Two operands of a division alike, and the dtype of its result if that is an integer; u8 is divided as i32."""
    values = lift_all((a, b))
    dtype = common_dtype([a, b], values)
    wide = dtype if dtype in (*FLOATS, "i64") else "i32"
    first, second = (as_tensor(cast_value(value, wide)) for value in values)
    return first, second, None if dtype in FLOATS else DType("i64" if dtype == "bool" else dtype)


def quotient(a: Tensor, b: Tensor) -> Tensor:
    """Integers a / b rounded towards 0; 0 where b is 0."""
    return elementwise(ops.quotient, a, b)


def truncated_rest(a: Tensor, b: Tensor) -> Tensor:
    """What is left of a after taking off b as often as it goes, towards 0."""
    if a.value.dtype in FLOATS:
        return elementwise(ops.fmod, a, b)
    return where(b == 0, 0, a - quotient(a, b) * b)


def beyond(rest: Tensor, b: Tensor) -> Tensor:
    """Where rounding down takes off b once more than rounding towards 0."""
    return ((rest < 0) & (b > 0)) | ((rest > 0) & (b < 0))


# -- functions of one number


def negative(x: Any) -> Tensor:
    """-x; of u8, the number that makes x 0."""
    value = lift(x)
    return elementwise(ops.sub, 0, value) if value.dtype == "u8" else elementwise(ops.neg, value)


def positive(x: Any) -> Tensor:
    """x itself."""
    return as_tensor(x)


def absolute(x: Any) -> Tensor:
    """|x|, with slope 0 at 0."""
    tensor = as_tensor(x)
    return tensor if tensor.value.dtype in ("u8", "bool") else elementwise(ops.absolute, tensor)


def sign(x: Any) -> Tensor:
    """-1, 0 or 1; NaN stays NaN."""
    value = lift(x)
    return elementwise(ops.minimum, value, 1) if value.dtype == "u8" else elementwise(ops.sign, value)


def heaviside(x: Any, values: Any) -> Tensor:
    """0 below 0, 1 above 0, `values` at 0; NaN stays NaN."""
    tensor = as_tensor(x)
    return where(tensor == 0, values, where(tensor > 0, 1, where(tensor < 0, 0, tensor)))


def square(x: Any) -> Tensor:
    """x * x."""
    tensor = as_tensor(x)
    return multiply(tensor, tensor)


def sqrt(x: Any) -> Tensor:
    """The square root; NaN below 0."""
    return floating(ops.sqrt, x)


def rsqrt(x: Any) -> Tensor:
    """1 / sqrt(x)."""
    return divide(1, sqrt(x))


def reciprocal(x: Any) -> Tensor:
    """1 / x."""
    return divide(1, x)


def power(x: Any, exponent: Any, /) -> Tensor:
    """x to a power. Integers stay integers for a whole exponent that is a Python number, and become floats for others.

    Raises DTypeError for an integer tensor to a negative whole number.
    """
    if not is_plain_number(exponent):
        return floating(ops.pow, x, exponent)
    tensor = as_tensor(x)
    if tensor.value.dtype not in FLOATS and isinstance(exponent, (int, np.integer)):
        return whole_power(tensor, int(exponent))
    if exponent in (1, 2, 3, 4):
        return repeated(as_floats(tensor)[0], int(exponent))
    if exponent in (-1, -2):
        return reciprocal(repeated(as_floats(tensor)[0], -int(exponent)))
    if exponent in (0.5, -0.5):
        return sqrt(tensor) if exponent > 0 else rsqrt(tensor)
    return floating(ops.pow, tensor, exponent)


def whole_power(x: Tensor, exponent: int) -> Tensor:
    """Integers to a whole power, overflow wrapping around."""
    if exponent < 0:
        raise DTypeError(
            f"{x.type} to the power {exponent} is no integer", user_origin(), ["convert it first: x.float()"]
        )
    numbers = astype(x, DType("i64")) if x.value.dtype == "bool" else x
    return repeated(numbers, exponent) if exponent else where(numbers == numbers, 1, numbers)


def repeated(x: Tensor, count: int) -> Tensor:
    """x times itself, in the order of the binary digits of the count."""
    if count == 1:
        return x
    half = repeated(x, count // 2)
    return multiply(multiply(half, half), x) if count % 2 else multiply(half, half)


# -- rounding; integers are whole already


def rounded(op: Op, x: Any) -> Tensor:
    tensor = as_tensor(x)
    return elementwise(op, tensor) if tensor.value.dtype in FLOATS else tensor


def floor(x: Any) -> Tensor:
    """The largest whole number not above x."""
    return rounded(ops.floor, x)


def ceil(x: Any) -> Tensor:
    """The smallest whole number not below x."""
    return rounded(ops.ceil, x)


def trunc(x: Any) -> Tensor:
    """x without its fraction."""
    return rounded(ops.trunc, x)


def round(x: Any, decimals: int = 0) -> Tensor:
    """The nearest whole number, or multiple of 10**-decimals; from the middle, the even one."""
    require(is_whole(decimals) and -300 <= decimals <= 300, "decimals", decimals, "a whole number from -300 to 300")
    if decimals == 0:
        return rounded(ops.rint, x)
    tensor = as_tensor(x)
    if tensor.value.dtype not in FLOATS:
        return tensor if decimals > 0 else astype(round(astype(tensor, DType("f64")), decimals), tensor.dtype)
    if decimals > 0:
        return divide(rounded(ops.rint, tensor * 10.0**decimals), 10.0**decimals)
    return multiply(rounded(ops.rint, tensor / 10.0**-decimals), 10.0**-decimals)


def frac(x: Any) -> Tensor:
    """x - trunc(x)."""
    tensor = as_tensor(x)
    return tensor - trunc(tensor)


# -- two numbers and limits


def maximum(a: Any, b: Any, /) -> Tensor:
    """The larger of two, NaN where either is; equal ones share the gradient."""
    return or_logic(ops.maximum, ops.logical_or, a, b)


def minimum(a: Any, b: Any, /) -> Tensor:
    """The smaller of two, NaN where either is; equal ones share the gradient."""
    return or_logic(ops.minimum, ops.logical_and, a, b)


def fmax(a: Any, b: Any, /) -> Tensor:
    """The larger of two; where one is NaN, the other. Of equal ones the first has the gradient."""
    first, second = settle(a, b)
    return where((first >= second) | (second != second), first, second)


def fmin(a: Any, b: Any, /) -> Tensor:
    """The smaller of two; where one is NaN, the other. Of equal ones the first has the gradient."""
    first, second = settle(a, b)
    return where((first <= second) | (second != second), first, second)


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """Limited to [min, max], numbers or tensors; either may be left out. At a limit the gradient goes to x."""
    result = as_tensor(x)
    if min is not None:
        result, least = settle(result, min)
        result = where(result < least, least, result)
    if max is not None:
        result, most = settle(result, max)
        result = where(result > most, most, result)
    return result


def lerp(start: Any, end: Any, weight: Any) -> Tensor:
    """start + weight * (end - start), exact at both ends."""
    first, last, share = as_floats(start, end, weight)
    way = last - first
    near, far = first + share * way, last - (1 - share) * way
    if is_plain_number(weight):
        return near if weight < 0.5 else far
    return where(share < 0.5, near, far)


# -- conversion


def astype(x: Any, dtype: Any) -> Tensor:
    """Converted to another element type: a dtype of graphc or NumPy, or that of another tensor."""
    tensor = as_tensor(x)
    name = dtype_name(dtype)
    return tensor if name == tensor.value.dtype else apply(ops.cast, tensor.value, dtype=name)


def detach(x: Any) -> Tensor:
    """The same numbers; no gradient flows through."""
    tensor = as_tensor(x)
    return apply(ops.stop_gradient, tensor.value) if tensor.value.dtype in FLOATS else tensor


# PyTorch's or NumPy's other names.
abs, neg, sub, mul, div, true_divide = absolute, negative, subtract, multiply, divide, divide
mod, pow, fix, rint, clamp, cast, stop_gradient = remainder, power, trunc, round, clip, astype, detach

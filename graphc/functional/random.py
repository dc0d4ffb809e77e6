"""Random numbers under PyTorch's and NumPy's names, from the generator that gx.manual_seed seeds.

A compiled function draws new ones in every call; outside of functions a tensor draws when its numbers are first looked
at. `size` is an extent or a sequence of them, symbolic ones included; arguments that are tensors broadcast against each
other and, where they are floats, have gradients.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc import generator
from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.functional.creation import full, shape_of
from graphc.ir import ops
from graphc.ir.graph import user_origin
from graphc.ir.types import FLOATS, Shape, multiply
from graphc.settings import check_share, is_whole
from graphc.tensor import (
    Tensor,
    apply,
    as_extent,
    as_floats,
    as_tensor,
    common_shape,
    dtype_name,
    f32,
    f64,
    i64,
    is_plain_number,
    lift,
)
from graphc.tensor.arithmetic import astype, floor, sqrt
from graphc.tensor.indexing import look_up
from graphc.tensor.maths import cos, log
from graphc.tensor.views import broadcast_to

__all__ = [
    "bernoulli",
    "normal",
    "permutation",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
    "uniform",
]

WORD = 2**32  # random bits are whole numbers below it


def rand(*size: Any, dtype: Any = f32) -> Tensor:
    """Evenly from [0, 1), multiples of 2**-24 for f32 and of 2**-53 for f64: `rand(2, 3)`, `rand(x.shape)`."""
    shape = shape_of(*size)
    line = line_of(shape)
    if check_float("rand", dtype) == "f32":
        return (floor(bits(line).astype(f64) * 2**-8).astype(f32) * 2**-24).reshape(shape)
    return ((bits(line).astype(f64) * 2**21 + floor(bits(line).astype(f64) * 2**-11)) * 2**-53).reshape(shape)


def randn(*size: Any, dtype: Any = f32) -> Tensor:
    """From the normal distribution of mean 0 and standard deviation 1 (Box & Muller 1958)."""
    shape = shape_of(*size)
    name = check_float("randn", dtype)
    radius = sqrt(-2 * log(above_zero(line_of(shape), name)))
    return (radius * cos(2 * math.pi * above_zero(line_of(shape), name))).reshape(shape)


def rand_like(x: Any, dtype: Any = None) -> Tensor:
    """As `rand`, of the shape of x, and of its dtype unless one is named."""
    return rand(as_tensor(x).shape, dtype=own_dtype(x, dtype))


def randn_like(x: Any, dtype: Any = None) -> Tensor:
    """As `randn`, of the shape of x, and of its dtype unless one is named."""
    return randn(as_tensor(x).shape, dtype=own_dtype(x, dtype))


def uniform(low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Tensor:
    """Evenly from [low, high)."""
    first, last = as_floats(low, high)
    shape = drawn_shape("uniform", size, first, last)
    return first + (last - first) * rand(shape, dtype=first.dtype)


def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None) -> Tensor:
    """From the normal distribution. Raises ArgumentError for a negative standard deviation."""
    if is_plain_number(std) and std < 0:
        raise ArgumentError(f"normal got std={std}; a standard deviation is not negative", user_origin())
    centre, deviation = as_floats(mean, std)
    shape = drawn_shape("normal", size, centre, deviation)
    return centre + deviation * randn(shape, dtype=centre.dtype)


def bernoulli(p: Any, size: Any = None, dtype: Any = None) -> Tensor:
    """1 with probability p, else 0, of p's float dtype or f32.

    Raises ArgumentError for a number p outside of [0, 1].
    """
    (chances,) = as_floats(p)
    shape = drawn_shape("bernoulli", size, chances)
    return astype(happens(p, shape), own_dtype(chances, dtype))


def happens(p: Any, shape: Shape) -> Tensor:
    """True with probability p, bool."""
    if is_plain_number(p):
        limit: int = round(check_share("p", p) * WORD)
        return (bits(line_of(shape)) < limit).reshape(shape)
    chances = broadcast_to(as_tensor(p).astype(f64) * WORD, shape)
    return (bits(line_of(shape)) < chances.reshape(line_of(shape))).reshape(shape)


def randint(low: Any, high: Any = None, size: Any = None, dtype: Any = i64) -> Tensor:
    """Whole numbers from low to high - 1, or from 0 to low - 1 if there is no high: `randint(0, 10, (3,))`,
    `randint(10, (3,))`.

    Raises ArgumentError where there are no numbers in between, or more than 2**53.
    """
    if isinstance(high, (tuple, list)):
        high, size = None, high
    first, last = (0, low) if high is None else (low, high)
    if not all(is_whole(limit) for limit in (first, last)) or not 0 < last - first <= 2**53:
        raise ArgumentError(f"randint takes whole numbers low < high, got {first!r} and {last!r}", user_origin())
    steps = floor(rand(() if size is None else size, dtype=f64) * int(last - first))
    return (steps.astype(i64) + int(first)).astype(dtype)


def randint_like(x: Any, low: Any, high: Any = None, dtype: Any = None) -> Tensor:
    """As `randint`, of the shape of x, and of its dtype unless one is named."""
    return randint(low, high, as_tensor(x).shape, own_dtype(x, dtype))


def randperm(n: Any, *, dtype: Any = i64) -> Tensor:
    """The numbers 0 .. n - 1 in random order, [n]."""
    return apply(ops.argsort, rand(as_extent(n), dtype=f64).value, axis=0, reverse=False).astype(dtype)


def permutation(x: Any) -> Tensor:
    """The numbers below x, or the rows of x, in random order."""
    if isinstance(x, (int, np.integer)):
        return randperm(x)
    tensor = as_tensor(x)
    if not tensor.ndim:
        raise ShapeError("permutation takes a whole number or a tensor with rows, got a single number", user_origin())
    return look_up(tensor.value, {0: randperm(tensor.shape[0]).value}, 0)


# -- parts


def own_dtype(x: Any, dtype: Any) -> Any:
    """The dtype asked for, or else that of x."""
    return as_tensor(x).dtype if dtype is None else dtype


def line_of(shape: Shape) -> Shape:
    """The shape of as many elements in one line: numbers are drawn so, and given their shape when they are made."""
    return (multiply(*shape),)


def bits(shape: Shape) -> Tensor:
    """32 random bits an element, i64."""
    return as_tensor(generator.random_bits(shape))


def above_zero(shape: Shape, dtype: str) -> Tensor:
    """Evenly from (0, 1], with all digits of the smallest numbers."""
    if dtype == "f32":
        return (bits(shape).astype(f32) + 0.5) / WORD
    return (bits(shape).astype(f64) + (bits(shape).astype(f64) + 0.5) / WORD) / WORD


def drawn_shape(name: str, size: Any, *given: Tensor) -> Shape:
    """The shape asked for, or else the one that the arguments broadcast to."""
    values = [tensor.value for tensor in given]
    if size is None:
        return common_shape(values)
    shape = shape_of(size)
    if common_shape([*values, lift(full(shape, 0.0))]) != shape:
        types = ", ".join(str(tensor.type) for tensor in given)
        raise ShapeError(f"{name} of {types} does not fit the size {list(shape)}", user_origin())
    return shape


def check_float(name: str, dtype: Any) -> str:
    wanted = dtype_name(dtype)
    if wanted not in FLOATS:
        raise DTypeError(f"{name} gives f32 or f64, not {wanted}", user_origin())
    return wanted

"""Sorting and what follows from it, and running sums and products along an axis.

NaN counts as the largest number. Gradients go to where the numbers came from; indices have none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from graphc.errors import ShapeError
from graphc.ir import ops
from graphc.ir.graph import Value, user_origin
from graphc.ir.types import bound, subtract
from graphc.settings import check_choice, check_share, check_switch, check_switches, check_whole, shown
from graphc.tensor.arithmetic import astype, ceil, floor
from graphc.tensor.building import apply, as_floats, as_tensor, cast_value, keeps_axes, lift, lift_all, where
from graphc.tensor.dtypes import f64, i64
from graphc.tensor.indexing import along_axis, look_up, part_of, size_of
from graphc.tensor.joining import stack
from graphc.tensor.reduction import sum, summands
from graphc.tensor.size import extent_of
from graphc.tensor.views import one_axis, ravel, reshape, squeeze, unsqueeze

if TYPE_CHECKING:
    from graphc.tensor.tensor import Tensor

__all__ = [
    "argsort",
    "cumprod",
    "cumsum",
    "diff",
    "median",
    "quantile",
    "searchsorted",
    "sort",
    "topk",
]


class Sorted(NamedTuple):
    """Numbers, and the places along the axis they came from, i64."""

    values: Tensor
    indices: Tensor


# -- orders


def argsort(x: Any, axis: int = -1, descending: bool = False, stable: bool = True, *, dim: int | None = None) -> Tensor:
    """The indices that sort x along an axis, i64; equal numbers keep their order, whatever `stable` says."""
    value = lift(x)
    check_switches(descending=descending, stable=stable)
    number = one_axis(axis if dim is None else dim, len(value.shape))
    numbers = cast_value(value, "u8") if value.dtype == "bool" else value
    return apply(ops.argsort, numbers, axis=number, reverse=bool(descending))


def sort(x: Any, axis: int = -1, descending: bool = False, stable: bool = True, *, dim: int | None = None) -> Sorted:
    """x in order along an axis, and the indices that put it there; equal numbers keep theirs."""
    value = lift(x)
    number = one_axis(axis if dim is None else dim, len(value.shape))
    indices = argsort(value, number, descending, stable)
    return Sorted(along_axis(value, indices.value, number), indices)


def topk(
    x: Any, k: int, axis: int = -1, largest: bool = True, sorted: bool = True, *, dim: int | None = None
) -> Sorted:
    """The k largest, or smallest, numbers along an axis in order, whatever `sorted` says, and their indices.

    Raises ShapeError where there are not as many.
    """
    value, count = lift(x), extent_of(k)
    number = one_axis(axis if dim is None else dim, len(value.shape))
    check_switches(largest=largest, sorted=sorted)
    if count is None or bound(count) < 0:
        raise ShapeError(f"topk of {value.type}: k is {shown(k)}, not a whole number of at least 0", user_origin())
    indices = part_of(argsort(value, number, largest).value, number, 0, count)
    return Sorted(along_axis(value, indices.value, number), indices)


# -- ranks


def median(
    x: Any, axis: int | None = None, keepdims: bool = False, *, dim: int | None = None, keepdim: bool = False
) -> Any:
    """PyTorch's median: the lower one of two in the middle; NaN where there is one.

    With an axis, values along it and their indices; without one, that of all elements. The mean of the two, NumPy's
    median, is quantile(x, 0.5). Raises ShapeError where there is nothing.
    """
    value, along, keep = lift(x), axis if dim is None else dim, keeps_axes(keepdims, keepdim)
    if along is None:
        found = median(ravel(value), 0).values
        return reshape(found, (1,) * len(value.shape)) if keep else found
    number = one_axis(along, len(value.shape))
    ordered, last = in_order("median", value, number)
    end = size_of(value.shape[number]) - 1
    place = where(last != last, end, end // 2).value
    picked = (along_axis(each.value, place, number) for each in ordered)
    return Sorted(*(each if keep else squeeze(each, number) for each in picked))


def quantile(
    x: Any,
    q: Any,
    axis: int | None = None,
    keepdims: bool = False,
    interpolation: str = "linear",
    *,
    dim: int | None = None,
    keepdim: bool = False,
) -> Tensor:
    """The number that a share q, of 0 to 1, of x lies below along an axis, or of all elements; NaN where there is one.

    q              a number, or a sequence of them, which is a first axis of the result
    interpolation  between neighbours at the places k and k + 1 of x in order: "linear", "lower", "higher", "nearest",
                   "midpoint"

    Raises ArgumentError for another q or interpolation, ShapeError where there is nothing.
    """
    if isinstance(q, (list, tuple)) or (isinstance(q, np.ndarray) and q.ndim):
        given = (axis, keepdims, interpolation)
        return stack([quantile(x, each, *given, dim=dim, keepdim=keepdim) for each in q])
    check_share("q", q)
    check_choice("interpolation", interpolation, BETWEEN)
    (tensor,) = as_floats(x)
    along, keep = axis if dim is None else dim, keeps_axes(keepdims, keepdim)
    if along is None:
        found = quantile(ravel(tensor), q, 0, False, interpolation)
        return reshape(found, (1,) * tensor.ndim) if keep else found
    number = one_axis(along, tensor.ndim)
    ordered, last = in_order("quantile", tensor.value, number)
    place = astype(size_of(tensor.value.shape[number]) - 1, f64) * float(q)
    sides = (astype(each, i64).value for each in (floor(place), ceil(place)))
    low, high = (look_up(ordered.values.value, {number: side}, number) for side in sides)
    between = BETWEEN[interpolation](low, high, astype(place - floor(place), tensor.dtype))
    found = where(squeeze(last != last, number), math.nan, where(low == high, low, between))
    return unsqueeze(found, number) if keep else found


# the number a share of the way from one to the next
BETWEEN: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "linear": lambda low, high, share: low + (high - low) * share,
    "lower": lambda low, high, share: low,
    "higher": lambda low, high, share: high,
    "nearest": lambda low, high, share: where(share < 0.5, low, high),
    "midpoint": lambda low, high, share: low + (high - low) / 2,
}


def in_order(name: str, x: Value, axis: int) -> tuple[Sorted, Tensor]:
    """x sorted along an axis, and the last number there, which is NaN where one is."""
    if x.shape[axis] == 0:
        raise ShapeError(f"{name} of {x.type} over no elements has no value", user_origin())
    ordered = sort(x, axis)
    return ordered, part_of(ordered.values.value, axis, subtract(x.shape[axis], 1), 1)


def searchsorted(sorted_sequence: Any, values: Any, right: bool = False, *, side: str | None = None) -> Tensor:
    """Before which place of an ascending sequence each value belongs, i64; behind equal ones if `right`.

    sorted_sequence  [n], or [..., n] for values [..., m] of the same first axes

    Compares every value with all n. Raises ShapeError where they do not fit, ArgumentError for another side.
    """
    check_switch("right", right)
    check_choice("side", side, (None, "left", "right"))
    line, wanted = map(as_tensor, lift_all((sorted_sequence, values)))
    if not line.ndim or (line.ndim > 1 and line.value.shape[:-1] != wanted.value.shape[:-1]):
        raise ShapeError(f"searchsorted of {line.type} and {wanted.type}: they do not fit", user_origin())
    rows = unsqueeze(line, -2) if line.ndim > 1 else line
    column = unsqueeze(wanted, -1)
    before = rows <= column if right or side == "right" else rows < column
    return sum(before, -1)


# -- running totals


def cumsum(x: Any, axis: int | None = None, dtype: Any = None, *, dim: int | None = None) -> Tensor:
    """Running sums along an axis, or of all elements in a row; of bools and small integers i64, or as `dtype` says."""
    tensor, number = in_line(summands(x, dtype), axis if dim is None else dim)
    return apply(ops.cumsum, tensor.value, axis=number, reverse=False)


def cumprod(x: Any, axis: int | None = None, dtype: Any = None, *, dim: int | None = None) -> Tensor:
    """Running products along an axis, or of all elements in a row; dtypes as for cumsum.

    Products of 1, 2, 4, … neighbours in turn, without a division: gradients are right where x is 0.
    Source: Hillis & Steele 1986, Data Parallel Algorithms.
    """
    product, number = in_line(summands(x, dtype), axis if dim is None else dim)
    places = as_tensor(ops.iota(axis=number, type=product.type.with_dtype("i64")))
    reach = 1
    while reach < bound(product.value.shape[number]):
        start = tuple(-reach if each == number else 0 for each in range(product.ndim))
        earlier = apply(ops.pad, product.value, start=start, shape=product.value.shape)
        product = product * where(places < reach, 1, earlier)
        reach *= 2
    return product


def in_line(x: Tensor, axis: int | None) -> tuple[Tensor, int]:
    """x and one of its axes; all elements in a row for no axis."""
    return (ravel(x), 0) if axis is None else (x, one_axis(axis, x.ndim))


def diff(x: Any, n: int = 1, axis: int = -1, *, dim: int | None = None) -> Tensor:
    """Each element less the one before it along an axis, n times; of bools, whether they differ."""
    tensor = as_tensor(x)
    number = one_axis(axis if dim is None else dim, tensor.ndim)
    for _ in range(check_whole("n", n, 0)):
        if tensor.value.shape[number] == 0:
            break
        count = subtract(tensor.value.shape[number], 1)
        later, earlier = (part_of(tensor.value, number, start, count) for start in (1, 0))
        tensor = later != earlier if tensor.value.dtype == "bool" else later - earlier
    return tensor

"""Adding and putting numbers at places: always into a new tensor, for tensors do not change.

Indices are checked as those of look-ups are (see indexing.py). Where a place is named twice, what is added is added
twice; of what is put there the last one stays, in row-major order, as in NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphc.errors import DTypeError, ShapeError
from graphc.ir import ops
from graphc.ir.access import strides
from graphc.ir.graph import Value, user_origin
from graphc.ir.types import FLOATS, Shape, TensorType, bound
from graphc.settings import check_switch, shown
from graphc.tensor.arithmetic import add, astype
from graphc.tensor.building import apply, as_tensor, cast_value, lift, stretch, where
from graphc.tensor.dtypes import MOST, bool_
from graphc.tensor.indexing import (
    Part,
    along_axis,
    beside,
    beyond,
    checked_index,
    cut,
    getitem,
    looked_up_along,
    size_of,
    with_extent,
)
from graphc.tensor.size import extent_of
from graphc.tensor.views import broadcast_to, one_axis, reshape, reshaped

if TYPE_CHECKING:
    from graphc.tensor.tensor import Tensor

__all__ = ["bincount", "index_add", "index_copy", "index_fill", "index_put", "scatter", "scatter_add"]

# -- along one axis, by a vector of indices


def index_add(x: Any, dim: int, index: Any, source: Any, alpha: Any = 1) -> Tensor:
    """x with alpha * source[k] added at index[k] along an axis.

    index  [n]; source has the shape of x with n along that axis, or is one number. ShapeError where they do not fit.
    """
    value, axis, places, new = lines("index_add", x, dim, index, source)
    return add(as_tensor(value), placed(value.shape, axis, places, new) * alpha)


def index_copy(x: Any, dim: int, index: Any, source: Any) -> Tensor:
    """x with source[k] put at index[k] along an axis.

    index  [n]; source has the shape of x with n along that axis, or is one number. ShapeError where they do not fit.
    """
    return put(*lines("index_copy", x, dim, index, source))


def index_fill(x: Any, dim: int, index: Any, value: Any) -> Tensor:
    """x with one number put at the indices of a vector along an axis."""
    if as_tensor(value).ndim:
        raise ShapeError(f"index_fill puts one number, got {as_tensor(value).type}", user_origin())
    return put(*lines("index_fill", x, dim, index, value))


def lines(name: str, x: Any, dim: int, index: Any, source: Any) -> tuple[Value, int, Value, Value]:
    """x, the axis, the checked indices of a vector spread over the other axes of x, and as many numbers."""
    value, vector, new = lift(x), as_tensor(index), of_dtype(name, lift(x), source)
    axis = one_axis(dim, len(value.shape))
    if vector.ndim > 1:
        raise ShapeError(f"{name} takes a vector of indices, got {vector.type}", user_origin())
    places = checked_index(name, index, value.shape[axis])
    shape = with_extent(value.shape, axis, places.type.count)
    if new.shape not in ((), shape):
        reason = f"source {new.type} does not fit {places.type.count} places of axis {axis}"
        raise ShapeError(f"{name} of {value.type}: {reason}", user_origin())
    column = reshaped(places, with_extent((1,) * len(shape), axis, places.type.count))
    return value, axis, stretch(column, shape), stretch(new, shape)


def bincount(x: Any, weights: Any = None, minlength: int = 0) -> Tensor:
    """How often each number from 0 to minlength - 1 is in a vector of integers, i64; or the sum of their weights.

    minlength  one more than the largest number there may be, as the size of the result must be known while tracing

    A larger number is LabelError in the call. Raises ShapeError for weights of another shape or without minlength.
    """
    vector, size = as_tensor(x), extent_of(minlength)
    if vector.ndim != 1 or size is None or not 1 <= bound(size) < MOST:
        reason = "it takes a vector and, as minlength, one more than its largest number"
        raise ShapeError(f"bincount of {vector.type} with minlength={shown(minlength)}: {reason}", user_origin())
    places = checked_index("bincount", x, size, from_end=False)
    new = ops.full(value=1, type=places.type) if weights is None else lift(weights)
    if new.shape != places.shape:
        raise ShapeError(f"bincount of {vector.type}: weights {new.type} do not fit", user_origin())
    return placed((size,), 0, places, new)


# -- beside the other axes


def scatter_add(x: Any, dim: int, index: Any, src: Any) -> Tensor:
    """x with src[i, j] added at [index[i, j], j] for dim 0, and so on: the adjoint of gather.

    index may be smaller than x along the other axes, and than src along all. Raises ShapeError where it is larger.
    """
    value, axis, places, new = beside_source("scatter_add", x, dim, index, src)
    return as_tensor(value) + placed(value.shape, axis, places, new)


def scatter(x: Any, dim: int, index: Any, src: Any) -> Tensor:
    """x with src[i, j], or the number src, put at [index[i, j], j] for dim 0, and so on.

    index may be smaller than x along the other axes, and than src along all. Raises ShapeError where it is larger.
    """
    return put(*beside_source("scatter", x, dim, index, src))


def beside_source(name: str, x: Any, dim: int, index: Any, src: Any) -> tuple[Value, int, Value, Value]:
    """x, the axis, the checked indices, and the part of src that belongs to them."""
    value, source = lift(x), of_dtype(name, lift(x), src)
    axis = one_axis(dim, len(value.shape))
    beside(name, value, axis, as_tensor(index))
    places = checked_index(name, index, value.shape[axis])
    if not source.shape:
        source = stretch(source, places.shape)
    if len(source.shape) != len(places.shape) or any(map(beyond, places.shape, source.shape)):
        raise ShapeError(f"{name}: src {source.type} does not fit the index {places.type}", user_origin())
    part = cut(source, {number: Part(0, 1, extent) for number, extent in enumerate(places.shape)})
    return value, axis, places, part


# -- at any places


def index_put(x: Any, indices: Any, values: Any, accumulate: bool = False) -> Tensor:
    """x as it is after x[indices] = values, or x[indices] += values if they are to accumulate.

    indices  whatever x[...] takes; values broadcast to the places. Raises ShapeError where they do not.
    """
    tensor = as_tensor(x)
    check_switch("accumulate", accumulate)
    places = getitem(positions(tensor.value.shape), indices)
    new = broadcast_to(as_tensor(of_dtype("index_put", tensor.value, values)), *places.value.shape)
    count, total = places.value.type.count, tensor.value.type.count
    flat, line, order = (reshape(each, size).value for each, size in ((tensor, total), (new, count), (places, count)))
    if accumulate:
        found = add(as_tensor(flat), placed((total,), 0, order, line))
    else:
        found = put(flat, 0, order, line, distinct=names_once(indices))
    return reshape(found, tensor.value.shape)


def names_once(index: Any) -> bool:
    """An index without arrays, which names no place twice."""
    items = index if isinstance(index, tuple) else (index,)
    return all(item is None or item is ... or isinstance(item, slice) or extent_of(item) is not None for item in items)


def positions(shape: Shape) -> Tensor:
    """The row-major number of every element, i64."""
    kind = TensorType("i64", shape)
    number = as_tensor(ops.full(value=0, type=kind))
    for axis, stride in enumerate(strides(shape)):
        number = number + as_tensor(ops.iota(axis=axis, type=kind)) * size_of(stride)
    return number


# -- parts


def of_dtype(name: str, x: Value, new: Any) -> Value:
    """New numbers in the dtype of x, which must be able to hold them."""
    value = lift(new, double=x.dtype == "f64")
    if value.dtype in FLOATS and x.dtype not in FLOATS:
        raise DTypeError(f"{name}: {value.type} cannot be put into {x.type}", user_origin(), ["cast one of them"])
    return cast_value(value, x.dtype)


def placed(shape: Shape, axis: int, places: Value, new: Value) -> Tensor:
    """Zeros with new numbers added at places along an axis, beside the other axes."""
    if new.dtype == "bool":
        return astype(placed(shape, axis, places, cast_value(new, "u8")), bool_)
    part = with_extent(places.shape, axis, shape[axis])
    total = apply(ops.scatter, new, places, places=looked_up_along(axis, len(part)), shape=part)
    return total if part == shape else apply(ops.pad, total.value, start=(0,) * len(shape), shape=shape)


def named(shape: Shape, axis: int, places: Value) -> Tensor:
    """Where an array of that shape is named by places along an axis, bool."""
    return placed(shape, axis, places, ops.full(value=1, type=places.type)) > 0


def put(x: Value, axis: int, places: Value, new: Value, distinct: bool = False) -> Tensor:
    """x with new numbers at places along an axis, beside the other axes; the last one where several go to one place.

    distinct  none of the places is named twice
    """
    kept = as_tensor(new) if distinct else where(last_of_equal(places, axis), as_tensor(new), False)
    return where(named(x.shape, axis, places), placed(x.shape, axis, places, kept.value), as_tensor(x))


def last_of_equal(x: Value, axis: int) -> Tensor:
    """Where no equal number follows along an axis, bool."""
    order = apply(ops.argsort, x, axis=axis, reverse=False).value
    line = along_axis(x, order, axis)
    start = tuple(1 if number == axis else 0 for number in range(len(x.shape)))
    following = apply(ops.pad, line.value, start=start, shape=x.shape)
    last = as_tensor(ops.iota(axis=axis, type=x.type)) == size_of(x.shape[axis]) - 1
    ends = last | (line != following)
    return placed(x.shape, axis, order, ends.value)

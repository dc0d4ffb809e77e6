"""Reading and adding at places that numbers say: `gather` and its adjoint `scatter`.

Both take one i64 array of the result's (of the values') shape for every axis that is looked up. `places` has an entry
for each axis of the array looked up: an axis of the result, which it follows, or -1 - k for the k-th index array.
Indices outside are held at the nearest end; whoever builds the graph has them checked with `require_range`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir.graph import IRError, Value
from graphc.ir.ops.record import Op, Sample, define
from graphc.ir.types import FLOATS, INTEGERS, Shape, TensorType

Array = np.ndarray[Any, Any]
Places = tuple[int, ...]


def check_places(table: Shape, indices: tuple[TensorType, ...], places: Places) -> Shape:
    """The shape all indices share; raises IRError when they do not fit the array they look up."""
    if not indices or any(index != indices[0] or index.dtype != "i64" for index in indices):
        raise IRError(f"needs i64 indices of one shape, got {', '.join(map(str, indices)) or 'none'}")
    shape = indices[0].shape
    if len(places) != len(table) or sorted(place for place in places if place < 0) != list(range(-len(indices), 0)):
        raise IRError(f"places {list(places)} do not name an axis or one of {len(indices)} indices for each axis")
    for axis, place in enumerate(places):
        if place >= len(shape) or (place >= 0 and table[axis] != shape[place]):
            raise IRError(f"axis {axis} of {list(table)} does not follow axis {place} of {list(shape)}")
    return shape


def gather_type(x: TensorType, *indices: TensorType, places: Places) -> TensorType:
    return x.with_shape(check_places(x.shape, indices, places))


def looked_up(shape: tuple[int, ...], indices: tuple[Array, ...], places: Places) -> tuple[Array, ...]:
    """An index array for every axis of the array looked up."""
    result = indices[0].shape
    ramps = np.indices(result, sparse=True)
    return tuple(
        np.clip(indices[-1 - place], 0, extent - 1) if place < 0 else ramps[place]
        for extent, place in zip(shape, places, strict=True)
    )


def gather_array(x: Array, *indices: Array, places: Places) -> Array:
    return np.asarray(x[looked_up(x.shape, indices, places)])


def gather_vjp(ct: Value, out: Value, x: Value, *indices: Value) -> tuple[Value | None, ...]:
    return (scatter(ct, *indices, places=out.attrs["places"], shape=x.shape), *(None for _ in indices))


def scatter_type(values: TensorType, *indices: TensorType, places: Places, shape: Shape) -> TensorType:
    if values.dtype not in (*FLOATS, *INTEGERS):
        raise IRError(f"cannot add {values.dtype}; cast it first")
    if check_places(shape, indices, places) != values.shape:
        raise IRError(f"needs an index for each of the values {values}, got {indices[0]}")
    return values.with_shape(shape)


def scatter_array(values: Array, *indices: Array, places: Places, shape: tuple[int, ...]) -> Array:
    result = np.zeros(shape, values.dtype)
    np.add.at(result, looked_up(shape, indices, places), values)
    return result


def scatter_vjp(ct: Value, out: Value, values: Value, *indices: Value) -> tuple[Value | None, ...]:
    return (gather(ct, *indices, places=out.attrs["places"]), *(None for _ in indices))


gather: Op = define(
    "gather",
    "gather",
    infer=gather_type,
    numpy=gather_array,
    vjp=gather_vjp,
    samples=(
        Sample(("f32[5,20]", "i64[7,20]"), 0, 4, attrs={"places": (-1, 1)}),
        Sample(("f32[7,20]", "i64[7]"), 0, 19, attrs={"places": (0, -1)}),
        Sample(("f32[4,5]", "i64[3,6]", "i64[3,6]"), 0, 3, attrs={"places": (-2, -1)}),
        Sample(("i64[9]", "i64[40]"), 0, 8, attrs={"places": (-1,)}),
    ),
)
scatter: Op = define(
    "scatter",
    "scatter",
    infer=scatter_type,
    numpy=scatter_array,
    vjp=scatter_vjp,
    samples=(
        Sample(("f32[7,20]", "i64[7,20]"), 0, 4, attrs={"places": (-1, 1), "shape": (5, 20)}),
        Sample(("f32[7]", "i64[7]"), 0, 19, attrs={"places": (0, -1), "shape": (7, 20)}),
        Sample(("f32[3,6]", "i64[3,6]", "i64[3,6]"), 0, 3, attrs={"places": (-2, -1), "shape": (4, 5)}),
        Sample(("i64[40]", "i64[40]"), 0, 8, attrs={"places": (-1,), "shape": (9,)}),
    ),
)

"""Element types, dims, and tensor types written as `gx.f32["batch", 784]`."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import ShapeError
from graphc.ir.graph import user_origin
from graphc.ir.types import DTYPES, Dim, Extent, TensorType

DEFAULT_BOUND = 1024


class DType:
    """An element type; subscripted it is a tensor type: `gx.f32["batch", 784]`, `gx.f32[()]`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.numpy = DTYPES[name]

    def __getitem__(self, shape: Any) -> TensorType:
        extents = shape if isinstance(shape, tuple) else (shape,)
        return TensorType(self.name, tuple(as_extent(extent) for extent in extents))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DType) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"gx.{self.name}"


f32, f64, i32, i64, u8, bool_ = (DType(name) for name in ("f32", "f64", "i32", "i64", "u8", "bool"))


def dim(name: str, max: int = DEFAULT_BOUND) -> Dim:
    """A symbolic extent of 1 to `max`; one compiled function serves them all."""
    if max < 1:
        raise ShapeError(f"dim {name!r} has max={max}; it must be at least 1", user_origin())
    return Dim(name, max)


def as_extent(extent: Any) -> Extent:
    extent = getattr(extent, "extent", extent)  # a Size read off another shape
    if isinstance(extent, str):
        return Dim(extent, DEFAULT_BOUND)
    if isinstance(extent, (int, np.integer)) and extent >= 0:
        return int(extent)
    if not isinstance(extent, Extent):
        raise ShapeError(f"{extent!r} is no extent; use a whole number, a dim, or its name", user_origin())
    if isinstance(extent, int):
        raise ShapeError(f"an extent of {extent} is not possible; extents are at least 0", user_origin())
    return extent

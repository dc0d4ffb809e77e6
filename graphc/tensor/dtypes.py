"""Element types, dims, and tensor types written as `gx.f32["batch", 784]`."""

from __future__ import annotations

import keyword
from typing import Any

import numpy as np

from graphc.errors import DTypeError, ShapeError
from graphc.ir.graph import user_origin
from graphc.ir.types import DTYPES, NAMES, Dim, Extent, TensorType
from graphc.settings import check_whole, require, shown

DEFAULT_BOUND = 1024
MOST = 2**63  # no extent is as large


class DType:
    """An element type; subscripted it is a tensor type: `gx.f32["batch", 784]`, `gx.f32[()]`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.numpy = DTYPES[name]

    def __getitem__(self, shape: Any) -> TensorType:
        extents = shape if isinstance(shape, tuple) else (shape,)
        return TensorType(self.name, tuple(as_extent(extent) for extent in extents))

    __iter__: None = None  # else Python would go through it by subscripts, without an end

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DType) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"gx.{self.name}_" if self.name == "bool" else f"gx.{self.name}"


DTYPE = {name: DType(name) for name in DTYPES}
f32, f64, i32, i64, u8, bool_ = DTYPE.values()


def dtype_name(dtype: Any) -> str:
    """The name of an element type: a dtype of graphc, NumPy or Python, its NumPy name, or what has one of these.

    Raises DTypeError for what is no element type.
    """
    own = dtype if isinstance(dtype, type) else getattr(dtype, "dtype", dtype)
    if isinstance(own, DType):
        return own.name
    try:
        return NAMES[np.dtype(object if own is None else own)]
    except (TypeError, ValueError, KeyError, SyntaxError):
        names = ", ".join(map(repr, DTYPE.values()))
        raise DTypeError(f"{shown(dtype)} is no element type", user_origin(), [f"use one of {names}"]) from None


def as_dtype(given: Any) -> DType:
    """`dtype_name` as a dtype of graphc."""
    return DTYPE[dtype_name(given)]


def dim(name: str, max: int = DEFAULT_BOUND) -> Dim:
    """A symbolic extent of 1 to `max`; one compiled function serves them all."""
    # In texts it stands in sums and products.
    fits = isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)
    require(fits, "the name of a dim", name, 'a name as Python has them, such as "batch"')
    return Dim(name, check_whole(f"max of dim {name!r}", max, 1))


def as_extent(extent: Any) -> Extent:
    extent = getattr(extent, "extent", extent)  # a Size read off another shape
    if isinstance(extent, str):
        return dim(extent)
    if not isinstance(extent, Extent | np.integer) or isinstance(extent, bool):
        raise ShapeError(f"{shown(extent)} is no extent; use a whole number, a dim, or its name", user_origin())
    if not isinstance(extent, (int, np.integer)):
        return extent
    if not 0 <= extent < MOST:
        reason = "extents are at least 0" if extent < 0 else "extents are below 2**63"
        raise ShapeError(f"an extent of {extent} is not possible; {reason}", user_origin())
    return int(extent)

"""Element types and shapes: integers, bounded symbolic dims, and products of the two."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

DTYPES: dict[str, np.dtype] = {
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "u8": np.dtype(np.uint8),
    "bool": np.dtype(np.bool_),
}
FLOATS = ("f32", "f64")
INTEGERS = ("i32", "i64", "u8")
NAMES: dict[np.dtype, str] = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Dim:
    """A symbolic extent: its size is known at each call and never exceeds `max`."""

    name: str
    max: int = 1024

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Product:
    """A factor times one or more dims, as in `784*batch`. Made by `multiply`, never by hand."""

    factor: int
    dims: tuple[Dim, ...]

    def __str__(self) -> str:
        names = [dim.name for dim in self.dims]
        return "*".join(names if self.factor == 1 else [str(self.factor), *names])

    __repr__ = __str__


Extent = int | Dim | Product
Shape = tuple[Extent, ...]


def factors(extent: Extent) -> tuple[int, tuple[Dim, ...]]:
    """The integer factor and the dims of an extent."""
    if isinstance(extent, int):
        return extent, ()
    if isinstance(extent, Dim):
        return 1, (extent,)
    return extent.factor, extent.dims


def multiply(*extents: Extent) -> Extent:
    """The product of extents in its one normal form."""
    factor = 1
    dims: list[Dim] = []
    for extent in extents:
        count, names = factors(extent)
        factor *= count
        dims.extend(names)
    if factor == 0 or not dims:
        return factor
    dims.sort(key=lambda dim: (dim.name, dim.max))
    return dims[0] if factor == 1 and len(dims) == 1 else Product(factor, tuple(dims))


def divide(whole: Extent, part: Extent) -> Extent | None:
    """The extent which times `part` is `whole`, or None where there is none."""
    count, dims = factors(whole)
    divisor, removed = factors(part)
    left = list(dims)
    for dim in removed:
        if dim not in left:
            return None
        left.remove(dim)
    if divisor == 0 or count % divisor:
        return None
    return multiply(count // divisor, *left)


def bound(extent: Extent) -> int:
    """The largest size an extent can have."""
    factor, dims = factors(extent)
    return factor * math.prod(dim.max for dim in dims)


def evaluate(extent: Extent, sizes: Mapping[Dim, int]) -> int:
    """The size of an extent for given dim sizes."""
    factor, dims = factors(extent)
    return factor * math.prod(sizes[dim] for dim in dims)


@dataclass(frozen=True, slots=True)
class TensorType:
    """An element type and a shape, printed as in `f32[batch,10]`."""

    dtype: str
    shape: Shape

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    __repr__ = __str__

    @property
    def count(self) -> Extent:
        """How many elements, as an extent."""
        return multiply(*self.shape)

    @property
    def max_bytes(self) -> int:
        """Bytes at the dims' maxima."""
        return bound(self.count) * DTYPES[self.dtype].itemsize

    def dims(self) -> Iterator[Dim]:
        """Every symbolic dim of the shape."""
        for extent in self.shape:
            yield from factors(extent)[1]

    def with_shape(self, shape: Shape) -> TensorType:
        return TensorType(self.dtype, shape)

    def with_dtype(self, dtype: str) -> TensorType:
        return TensorType(dtype, self.shape)

"""Element types and shapes: integers, bounded symbolic dims, and polynomials of the two."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np

from graphc.ir.frozen import dataclass

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
ALIGNMENT = 128  # bytes: a full set of lanes of the widest dtype, so that whole-lane writes stay inside


def round_up(size: int, step: int = ALIGNMENT) -> int:
    return -(-size // step) * step


@dataclass(frozen=True, slots=True, order=True)
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


@dataclass(frozen=True, slots=True)
class Sum:
    """Dims and products plus a number, as in `time-1`. Made by `add`, never by hand."""

    terms: tuple[Dim | Product, ...]
    constant: int

    def __str__(self) -> str:
        text = "+".join(map(str, self.terms)) + (f"{self.constant:+d}" if self.constant else "")
        return text.replace("+-", "-")

    __repr__ = __str__


Extent = int | Dim | Product | Sum
Shape = tuple[Extent, ...]
Monomials = dict[tuple[Dim, ...], int]


def monomials(extent: Extent) -> Monomials:
    """An extent as a polynomial: the factor of every product of dims; the plain number is under `()`."""
    if isinstance(extent, int):
        return {(): extent}
    if isinstance(extent, Dim):
        return {(extent,): 1}
    if isinstance(extent, Product):
        return {extent.dims: extent.factor}
    found: Monomials = {(): extent.constant} if extent.constant else {}
    for term in extent.terms:
        found |= monomials(term)
    return found


def from_monomials(factors: Monomials) -> Extent:
    """The one normal form of a polynomial."""
    constant = factors.get((), 0)
    named = sorted((dims, factor) for dims, factor in factors.items() if dims and factor)
    terms = tuple(dims[0] if factor == 1 and len(dims) == 1 else Product(factor, dims) for dims, factor in named)
    if not terms:
        return constant
    return terms[0] if len(terms) == 1 and not constant else Sum(terms, constant)


def add(*extents: Extent) -> Extent:
    """The sum of extents."""
    named = [extent for extent in extents if extent.__class__ is not int]
    if not named:
        return sum(extents)  # type: ignore[arg-type]
    if len(named) == 1 and len(extents) == 2 and 0 in extents:
        return named[0]
    total: Monomials = {}
    for extent in extents:
        for dims, factor in monomials(extent).items():
            total[dims] = total.get(dims, 0) + factor
    return from_monomials(total)


def subtract(extent: Extent, other: Extent) -> Extent:
    return add(extent, multiply(-1, other))


def multiply(*extents: Extent) -> Extent:
    """The product of extents."""
    factor = 1
    dims: list[Dim] = []
    for extent in extents:
        if isinstance(extent, int):
            factor *= extent
        elif isinstance(extent, Dim):
            dims.append(extent)
        elif isinstance(extent, Product):
            factor *= extent.factor
            dims.extend(extent.dims)
        else:
            return multiply_sums(extents)
    if factor == 0 or not dims:
        return factor
    return dims[0] if factor == 1 and len(dims) == 1 else Product(factor, tuple(sorted(dims)))


def multiply_sums(extents: tuple[Extent, ...]) -> Extent:
    """The product of extents some of which are sums."""
    total: Monomials = {(): 1}
    for extent in extents:
        product: Monomials = {}
        for left, factor in total.items():
            for right, other in monomials(extent).items():
                dims = tuple(sorted(left + right))
                product[dims] = product.get(dims, 0) + factor * other
        total = product
    return from_monomials(total)


def divide(whole: Extent, part: Extent) -> Extent | None:
    """The extent which times `part` is `whole`, or None where there is none that can be read off the first terms."""
    if whole == 0:
        return None if part == 0 else 0
    (divided, count), (removed, divisor) = (leading(extent) for extent in (whole, part))
    left = list(divided)
    for dim in removed:
        if dim not in left:
            return None
        left.remove(dim)
    if divisor == 0 or count % divisor:
        return None
    if not isinstance(whole, Sum) and not isinstance(part, Sum):
        return multiply(count // divisor, *left)
    if not isinstance(part, Sum):
        found = [divide(from_monomials({dims: factor}), part) for dims, factor in monomials(whole).items()]
        return None if None in found else add(*(each for each in found if each is not None))
    quotient = multiply(count // divisor, *left)
    return quotient if multiply(quotient, part) == whole else None


def leading(extent: Extent) -> tuple[tuple[Dim, ...], int]:
    """The dims and the factor of the term with the most dims."""
    return max(monomials(extent).items(), key=lambda item: (len(item[0]), item[0]))


def content(extent: Extent) -> int:
    """The greatest number that divides the extent whatever its dims are."""
    return math.gcd(*monomials(extent).values())


def dims_of(extent: Extent) -> Iterator[Dim]:
    """Every dim an extent depends on."""
    for dims in monomials(extent):
        yield from dims


def substitute(extent: Extent, dim: Dim, other: Extent) -> Extent:
    """The extent with another one in place of a dim."""
    if extent.__class__ is int:
        return extent
    terms = monomials(extent).items()
    return add(*(multiply(factor, *(other if each == dim else each for each in dims)) for dims, factor in terms))


def bound(extent: Extent) -> int:
    """A size the extent never exceeds: positive terms at the dims' maxima, negative ones where all dims are 1."""
    return sum(
        factor * (math.prod(dim.max for dim in dims) if factor > 0 else 1) for dims, factor in monomials(extent).items()
    )


def evaluate(extent: Extent, sizes: Mapping[Dim, int]) -> int:
    """The size of an extent for given dim sizes."""
    return sum(factor * math.prod(sizes[dim] for dim in dims) for dims, factor in monomials(extent).items())


@dataclass(frozen=True, slots=True)
class Walk:
    """How a view's reader walks one axis of what it looks at: at `offset` + the sum of step * index over `steps`.

    steps    (axis of the view, step) for every axis of the view that moves along
    guarded  may fall outside; there the view is 0
    """

    offset: Extent
    steps: tuple[tuple[int, int], ...]
    guarded: bool = False


STAY = Walk(0, ())


@cache
def along(axis: int) -> Walk:
    """Straight along one axis of the view."""
    return Walk(0, ((axis, 1),))


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
            yield from dims_of(extent)

    def with_shape(self, shape: Shape) -> TensorType:
        return TensorType(self.dtype, shape)

    def with_dtype(self, dtype: str) -> TensorType:
        return TensorType(dtype, self.shape)

"""From the user's arrays to what native code reads: dtype, shape and batch size checked, nothing lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.backends.entry import BYTES_AS_IMAGE, PLAIN
from graphc.errors import BatchError, DTypeError, ShapeError
from graphc.ir.graph import Value, user_origin
from graphc.ir.types import DTYPES, FLOATS, INTEGERS, Dim, evaluate
from graphc.tensor import Parameter

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class ExactBatch:
    """Recognises, in about a microsecond, arrays that need no conversion: right dtypes, right rows, one batch size.

    rows  dtype and shape of one row of each input
    """

    rows: tuple[tuple[np.dtype[Any], tuple[int, ...]], ...]
    bound: int

    @classmethod
    def of(cls, inputs: Sequence[Value], batch: Dim | None) -> ExactBatch | None:
        """None when the inputs do not share one first axis, or there are none."""
        if batch is None or not inputs:
            return None
        rows = tuple((DTYPES[value.dtype], tuple(evaluate(each, {}) for each in value.shape[1:])) for value in inputs)
        return cls(rows, batch.max)

    def fits(self, arrays: Sequence[Any]) -> bool:
        first = arrays[0]
        if type(first) is not np.ndarray or not first.ndim or not 1 <= first.shape[0] <= self.bound:
            return False
        size = first.shape[0]
        return all(
            type(array) is np.ndarray
            and array.dtype == dtype
            and array.shape == (size, *row)
            and array.flags.c_contiguous
            for array, (dtype, row) in zip(arrays, self.rows, strict=True)
        )


def fit_array(value: Value, given: Any, sizes: dict[Dim, int], name: str) -> Array:
    """A C-contiguous array of the input's dtype; fills `sizes`. Raises ShapeError, DTypeError or BatchError."""
    array = given.numpy() if isinstance(given, Parameter) else np.asarray(given)
    array = fit_dtype(value, array, name)
    shape = value.shape
    if array.ndim != len(shape):
        raise ShapeError(f"{input_name(value, name)} is {value.type}, got shape {array.shape}", user_origin())
    for extent, length in zip(shape, array.shape, strict=True):
        if isinstance(extent, Dim):
            fit_dim(value, extent, length, sizes, name)
    for axis, (extent, length) in enumerate(zip(shape, array.shape, strict=True)):
        if evaluate(extent, sizes) != length:
            raise ShapeError(
                f"{input_name(value, name)} is {value.type}, got shape {array.shape}: "
                f"axis {axis} must be {extent}, not {length}",
                user_origin(),
            )
    return np.ascontiguousarray(array)


def input_name(value: Value, name: str) -> str:
    return f"input {value.attrs['name']} of {name}"


def fit_dim(value: Value, extent: Dim, length: int, sizes: dict[Dim, int], name: str) -> None:
    if length < 1 or length > extent.max:
        raise BatchError(
            f"{input_name(value, name)}: {extent.name} is {length}, it must be 1..{extent.max}",
            user_origin(),
            [f'for larger batches declare gx.dim("{extent.name}", max={length})'] if length > 0 else [],
        )
    if sizes.setdefault(extent, length) != length:
        raise BatchError(
            f"{input_name(value, name)}: {extent.name} is {length} here and {sizes[extent]} in another input",
            user_origin(),
        )


def fit_dtype(value: Value, array: Array, name: str) -> Array:
    """Lossless conversions only; uint8 given for a float input is an image and becomes [0, 1]."""
    wanted = DTYPES[value.dtype]
    if array.dtype == wanted:
        return array
    if array.dtype == np.uint8 and value.dtype in FLOATS:
        scaled: Array = np.multiply(array, wanted.type(1 / 255), dtype=wanted)
        return scaled
    if value.dtype in INTEGERS and array.dtype.kind in "iu" and np.can_cast(array.dtype, wanted):
        return array.astype(wanted)
    raise DTypeError(
        f"{input_name(value, name)} is {value.type}, got dtype {array.dtype}",
        user_origin(),
        [f"convert it: array.astype(np.{wanted.name})"],
    )


def fit_data(value: Value, array: Any, name: str) -> tuple[Array, int]:
    """A whole data array for `epoch`, and the kind it is gathered as."""
    array = np.asarray(array)
    if array.shape[1:] != value.shape[1:]:
        raise ShapeError(
            f"{input_name(value, name)} is {value.type}, the data set has rows of shape {array.shape[1:]}",
            user_origin(),
        )
    if array.dtype == np.uint8 and value.dtype in FLOATS:
        return np.ascontiguousarray(array), BYTES_AS_IMAGE
    return np.ascontiguousarray(fit_dtype(value, array, name)), PLAIN


def signed(seed: int) -> int:
    """The 64 bits of a seed as a signed number."""
    return seed - 2**64 if seed >= 2**63 else seed

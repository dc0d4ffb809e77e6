"""From the user's arrays to what native code reads: dtype, shape and batch size checked, nothing lost."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.backends.interface import BYTES_AS_IMAGE, PLAIN
from graphc.errors import BatchError, DTypeError, ShapeError
from graphc.ir.graph import Value, user_origin
from graphc.ir.types import DTYPES, FLOATS, Dim, Shape, evaluate

Array = np.ndarray[Any, Any]

LITERALS = (bool, int, float, list, tuple)  # Python's own numbers have no element type to keep


def as_array(data: Any, name: str = "the data") -> Array:
    """Anything that holds numbers as a NumPy array in this machine's byte order, sharing its memory where that can be.

    data  what has `__array__`, `__array_interface__`, `__dlpack__` or a buffer; a number; lists of those
    name  what an error calls it

    Raises ShapeError for rows of different lengths, DTypeError for what its owner does not show as an array: memory of
    a device, sparse tensors, element types that NumPy lacks.
    """
    try:
        return read_array(data)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        reason = str(error).partition("\n")[0]
    if getattr(data, "requires_grad", False):  # PyTorch shows the numbers of such a tensor only once it is detached
        return as_array(data.detach(), name)
    if "inhomogeneous" in reason:
        raise ShapeError(f"{name} holds rows of different lengths", user_origin(), ["make them one length"])
    kind = f"{type(data).__module__}.{type(data).__qualname__}".removeprefix("builtins.")
    raise DTypeError(f"{name} is a {kind}, which cannot be read as an array", user_origin(), [reason])


def shows_array(data: Any) -> bool:
    """Whether it is an array of some library; lists may be batches, or arrays, of whatever they hold."""
    return any(hasattr(data, way) for way in ("__array__", "__array_interface__", "__dlpack__"))


def read_array(data: Any) -> Array:
    if hasattr(data, "__dlpack__") and not hasattr(data, "__array__"):
        return np.from_dlpack(data)
    array = np.asarray(data)
    if array.dtype == object and hasattr(data, "__cuda_array_interface__"):
        raise TypeError("it is in the memory of a GPU, and what reads it is not: copy it to the host")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def pack(array: Array) -> Array:
    """The array as native code reads it: C-contiguous and aligned; itself if it is."""
    return array if array.flags.c_contiguous and array.flags.aligned else array.copy(order="C")


def fit_array(value: Value, given: Any, sizes: dict[Dim, int], name: str) -> Array:
    """A packed array of the input's dtype; fills `sizes`. Raises ShapeError, DTypeError or BatchError."""
    array = as_array(given, input_name(value, name))
    array = fit_literal(value, array) if isinstance(given, LITERALS) else array
    array = fit_dtype(value, array, name)
    fit_shape(value, array.shape, sizes, name)
    return pack(array)


def fit_shape(value: Value, given: tuple[int, ...], sizes: dict[Dim, int], name: str) -> None:
    """Fills `sizes`. Raises ShapeError or BatchError."""
    shape = value.shape
    if len(given) != len(shape):
        text = f"{input_name(value, name)} is {value.type}, got shape {given}"
        raise ShapeError(text, user_origin(), advice_for(given, shape))
    for extent, length in zip(shape, given, strict=True):
        if isinstance(extent, Dim):
            fit_dim(value, extent, length, sizes, name)
    for axis, (extent, length) in enumerate(zip(shape, given, strict=True)):
        if evaluate(extent, sizes) != length:
            raise ShapeError(
                f"{input_name(value, name)} is {value.type}, got shape {given}: "
                f"axis {axis} must be {extent}, not {length}",
                user_origin(),
                advice_for(given, shape),
            )


def advice_for(given: tuple[int, ...], wanted: Shape) -> list[str]:
    from graphc.suggestions import for_array  # which few processes need

    return for_array(given, wanted)


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


def fit_literal(value: Value, array: Array) -> Array:
    """Python's own numbers in the input's element type, where it can hold them."""
    wanted = DTYPES[value.dtype]
    if array.dtype.kind not in ("bif" if value.dtype in FLOATS else "bi"):
        return array
    fitted = array.astype(wanted)
    return fitted if value.dtype in FLOATS or np.array_equal(fitted, array) else array


def fit_dtype(value: Value, array: Array, name: str) -> Array:
    """Lossless conversions only; uint8 given for a float input is an image and becomes [0, 1]."""
    wanted = DTYPES[value.dtype]
    if array.dtype == wanted:
        return array
    if array.dtype == np.uint8 and value.dtype in FLOATS:
        scaled: Array = np.multiply(array, wanted.type(1 / 255), dtype=wanted)
        return scaled
    alike = any(array.dtype.kind in kinds and wanted.kind in kinds for kinds in ("b", "iu", "f"))
    if alike and np.can_cast(array.dtype, wanted):
        return array.astype(wanted)
    raise DTypeError(
        f"{input_name(value, name)} is {value.type}, got dtype {array.dtype}",
        user_origin(),
        [f"convert it: array.astype(np.{wanted.name})"],
    )


def fit_data(value: Value, data: Any, name: str) -> tuple[Array, int]:
    """A whole data array for `epoch`, and the kind it is gathered as."""
    array = as_array(data, input_name(value, name))
    check_rows(value, array.shape, name)
    if array.dtype == np.uint8 and value.dtype in FLOATS:
        return pack(array), BYTES_AS_IMAGE
    return pack(fit_dtype(value, array, name)), PLAIN


def check_rows(value: Value, given: tuple[int, ...], name: str) -> None:
    """ShapeError for data whose rows are none of that input."""
    if given[1:] != value.shape[1:]:
        raise ShapeError(
            f"{input_name(value, name)} is {value.type}, the data set has rows of shape {given[1:]}",
            user_origin(),
            advice_for(given, value.shape),
        )


def signed(seed: int) -> int:
    """The 64 bits of a seed as a signed number."""
    return seed - 2**64 if seed >= 2**63 else seed

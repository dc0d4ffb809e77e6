"""Reading parts of tensors: x[...] as NumPy means it, and look-ups by index arrays.

A negative index counts from the end. An index known while tracing is checked then; one that is computed is checked by
the compiled function before it updates anything, and raises LabelError in the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from graphc.errors import DTypeError, ShapeError, TraceError
from graphc.ir import ops
from graphc.ir.graph import Value, user_origin
from graphc.ir.types import INTEGERS, Extent, Shape, TensorType, add, bound, divide, multiply, subtract
from graphc.tensor.arithmetic import absolute
from graphc.tensor.building import apply, as_tensor, cast_value, common_shape, lift, stretch, where
from graphc.tensor.views import one_axis, reshape

if TYPE_CHECKING:
    from graphc.tensor.tensor import Tensor

__all__ = [
    "argwhere",
    "gather",
    "index_select",
    "masked_select",
    "narrow",
    "nonzero",
    "select",
    "take",
    "take_along_axis",
    "take_along_dim",
]

# -- x[...]


@dataclass(frozen=True, slots=True)
class Part:
    """Equally spaced places of an axis; `dropped` where the axis is not in the result: an index, not a slice."""

    start: Extent
    step: int
    count: Extent
    dropped: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """Where along one of its axes, of that length, an array of bools is true."""

    places: np.ndarray[Any, Any]
    length: int


Entry = Part | Value | None  # a Value is an index array, None a new axis of size 1


def getitem(x: Any, index: Any) -> Tensor:
    """x[index] as in NumPy: whole numbers, slices, `...`, None, and integer arrays or tensors, which broadcast.

    Lists and arrays of bools pick where they are true. Raises ShapeError for an index or slice outside, TraceError for
    a mask that is computed.
    """
    value = lift(x)
    entries = spelled_out(value, index if isinstance(index, tuple) else (index,))
    axes = [entry for entry in entries if entry is not None]
    whole = Part(0, 1, 0)
    parts = [entry if isinstance(entry, Part) else None for entry in axes]
    dropped = {axis for axis, part in enumerate(parts) if part is not None and part.dropped}
    sliced = without(cut(value, parts), dropped)
    left = [entry for entry in axes if not picks(entry) or isinstance(entry, Value)]
    lookups = {axis: entry for axis, entry in enumerate(left) if isinstance(entry, Value)}
    made: list[Extent] = [entry.count if isinstance(entry, Part) else 1 for entry in entries if not picks(entry)]
    if not lookups:
        return reshape(as_tensor(sliced), tuple(made))
    at = block_place(entries)
    ahead = [entry for entry in entries if not picks(entry)][:at]
    found = look_up(sliced, lookups, sum(entry is not None for entry in ahead))
    return reshape(found, (*made[:at], *common_shape(list(lookups.values())), *made[at:]))

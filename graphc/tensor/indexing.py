"""Reading parts of tensors: x[...] as NumPy means it, and look-ups by index arrays.

A negative index counts from the end. An index known while tracing is checked then; one that is computed is checked by
the compiled function before it updates anything, and raises LabelError in the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from graphc.arrays import as_array
from graphc.errors import DTypeError, ShapeError, TraceError
from graphc.ir import ops
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Value, user_origin
from graphc.ir.types import INTEGERS, Extent, Shape, Sum, TensorType, add, bound, divide, subtract
from graphc.settings import shown
from graphc.tensor.building import apply, as_tensor, cast_value, common_shape, known_value, lift, stretch, where
from graphc.tensor.size import extent_of
from graphc.tensor.views import one_axis, ravel, reshaped

VALUES_ALONE = "max and min give the values alone, gx.argmax(x, dim) and gx.argmin(x, dim) their places"

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
    """Equally spaced places of an axis; `dropped` where the axis is not in the result: a number, not a slice."""

    start: Extent
    step: int
    count: Extent
    dropped: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """Where along one of its axes, of that length, an array of bools is true."""

    places: np.ndarray[Any, Any]
    length: int


def getitem(x: Any, index: Any) -> Tensor:
    """x[index] as in NumPy: whole numbers, slices, `...`, None, and integer arrays or tensors, which broadcast.

    Lists and arrays of bools pick where they are true. The axes of index arrays stand where NumPy has them: in front
    where a slice stands between two of them, or between one and a number (there PyTorch takes the number first).
    A slice of a symbolic axis must lie inside: x[:5] of 3 places is an error in the call. Raises ShapeError for an
    index or slice outside, DTypeError for what is no index, TraceError for a mask that is computed.
    """
    tensor = as_tensor(x)
    items = spelled_out(tensor.value, index if isinstance(index, tuple) else (index,))
    old = iter(tensor.value.shape)
    spread = reshaped(tensor.value, tuple(1 if item is None else next(old) for item in items))
    every = [slice(None) if item is None else item for item in items]
    entries = [entry_of(spread, axis, item) for axis, item in enumerate(every)]
    part = cut(spread, {axis: entry for axis, entry in enumerate(entries) if isinstance(entry, Part)})
    left = [axis for axis, entry in enumerate(entries) if not (isinstance(entry, Part) and entry.dropped)]
    rest = reshaped(part, tuple(part.shape[axis] for axis in left))
    lookups = {number: entry for number, axis in enumerate(left) if isinstance(entry := entries[axis], Value)}
    return look_up(rest, lookups, block_place(entries)) if lookups else as_tensor(rest)


def spelled_out(x: Value, index: Sequence[Any]) -> list[Any]:
    """An item for every axis of x, and None for the new ones."""
    items = [part for item in index for part in plain(item)]
    rank, named = len(x.shape), sum(1 for item in items if item is not None and item is not ...)
    if named > rank:
        raise ShapeError(f"{x.type} has {rank} axes, the index names {named}", user_origin())
    dots = [number for number, item in enumerate(items) if item is ...]
    if len(dots) > 1:
        raise ShapeError(f"an index of {x.type} has more than one `...`", user_origin())
    at = dots[0] if dots else len(items)
    return [*items[:at], *[slice(None)] * (rank - named), *items[at + 1 :]]


def plain(item: Any) -> list[Any]:
    """An item of an index with arrays in place of lists, and of arrays of bools the places where they are true."""
    if isinstance(item, (bool, np.bool_)):
        raise DTypeError(f"{item} is no index", user_origin(), ["use a whole number, a slice or an array of bools"])
    if item is None or item is ... or isinstance(item, (slice, int, np.integer)) or known_value(item) is not None:
        return [item]
    array = as_array(item, "an index")
    if array.dtype == bool and array.ndim:
        return [Marked(*each) for each in zip(np.nonzero(array), array.shape, strict=True)]
    array = array.astype(np.int64) if not array.size else array
    if array.dtype.kind not in "iu":
        raise DTypeError(f"an index is a whole number, not {shown(item)}", user_origin())
    return [int(array) if array.ndim == 0 else array.astype(np.int64)]


def entry_of(x: Value, axis: int, item: Any) -> Part | Value:
    """What an item of an index picks of an axis: equally spaced places, or what an array of indices says."""
    extent = x.shape[axis]
    if isinstance(item, slice):
        return span(x, axis, item)
    if isinstance(item, Marked):
        if item.length != extent:
            raise ShapeError(f"a mask of {item.length} bools does not fit axis {axis} of {x.type}", user_origin())
        return lift(item.places)
    known = extent_of(item)
    if known is not None:
        start = counted(x, axis, known)
        if bound(subtract(extent, start)) < 1 or bound(start) < 0:
            raise ShapeError(f"index {known} is outside of {range_of(extent)}, axis {axis} of {x.type}", user_origin())
        return Part(start, 1, 1, dropped=True)
    if known_value(item) is not None and lift(item).dtype == "bool":
        refuse_mask("x[mask]", lift(item))
    return checked_index(f"indexing {x.type}", item, extent)


def range_of(extent: Extent, from_end: bool = True) -> str:
    """The indices an axis of that extent takes, as text."""
    low = f"-({extent})" if isinstance(extent, Sum) else f"-{extent}"
    return f"{low if from_end else 0}..{subtract(extent, 1)}"


def counted(x: Value, axis: int, place: Extent) -> Extent:
    """A place counted from the front."""
    return add(x.shape[axis], place) if isinstance(place, int) and place < 0 else place


def span(x: Value, axis: int, item: slice) -> Part:
    """The places a slice picks. Those of a symbolic axis must all be there in the call."""
    extent = x.shape[axis]
    given = [None if each is None else extent_of(each) for each in (item.start, item.stop, item.step)]
    for name, each, known in zip(("start", "stop", "step"), (item.start, item.stop, item.step), given, strict=True):
        if each is not None and known is None:
            message = f"the {name} of a slice must be known while tracing, got {shown(each)}"
            advice = ["to start anywhere: gx.take(x, start + gx.arange(count), axis)"]
            raise DTypeError(message, user_origin(), advice)
    start, stop, step = given
    step = 1 if step is None else step
    if not isinstance(step, int) or step == 0:
        raise ShapeError(f"a slice cannot go by steps of {step}", user_origin())
    if isinstance(extent, int) and isinstance(start, int | None) and isinstance(stop, int | None):
        places = range(extent)[start:stop:step]
        return Part(places.start, step, len(places)) if places else Part(0, 1, 0)
    ends = (0, extent) if step > 0 else (subtract(extent, 1), -1)
    first, past = (end if each is None else counted(x, axis, each) for each, end in zip((start, stop), ends))
    length = subtract(past, first) if step > 0 else subtract(first, past)
    if any(bound(each) < -1 or bound(subtract(extent, each)) < 0 for each in (first, past)):
        raise ShapeError(f"a slice from {first} to {past} leaves axis {axis} of {x.type}", user_origin())
    number = steps_in(length, abs(step))
    if number is None:
        raise ShapeError(
            f"steps of {step} do not divide the {length} places of axis {axis} of {x.type}",
            user_origin(),
            [f"declare its size as a multiple of {abs(step)}, such as {abs(step)} * gx.dim(...)"],
        )
    return Part(first, step, number)


def steps_in(length: Extent, step: int) -> Extent | None:
    """length / step, rounded up; None where no extent says how many that are."""
    if isinstance(length, int):
        return max(0, -(-length // step))
    for rest in range(step):
        whole = divide(subtract(length, rest), step)
        if whole is not None:
            return add(whole, 1 if rest else 0)
    return None


def cut(x: Value, parts: Mapping[int, Part]) -> Value:
    """The parts of some axes, all of the others."""
    found = [parts.get(axis, Part(0, 1, extent)) for axis, extent in enumerate(x.shape)]
    if all(part == Part(0, 1, extent) for part, extent in zip(found, x.shape, strict=True)):
        return x
    start, step, shape = zip(*((part.start, part.step, part.count) for part in found), strict=True)
    return apply(ops.slice, x, start=start, step=step, shape=shape).value


def block_place(entries: Sequence[Part | Value]) -> int:
    """How many of the axes that slices leave stand before those that index arrays make.

    NumPy's rule: those before the arrays and numbers if these stand side by side, else none.
    """
    picks = [isinstance(entry, Value) or entry.dropped for entry in entries]
    first, last = picks.index(True), len(picks) - picks[::-1].index(True)
    return first if all(picks[first:last]) else 0


# -- look-ups


def look_up(table: Value, lookups: Mapping[int, Value], at: int) -> Tensor:
    """The table at index arrays for some of its axes; the axes they make stand before axis `at` of the others."""
    indices, places = blocked(table.shape, lookups, at)
    return apply(ops.gather, table, *indices, places=places)


def blocked(shape: Shape, lookups: Mapping[int, Value], at: int) -> tuple[list[Value], tuple[int, ...]]:
    """The index arrays broadcast and spread over the axes that are not looked up, and the op's `places`."""
    block = common_shape(list(lookups.values()))
    kept = [axis for axis in range(len(shape)) if axis not in lookups]
    ahead, behind = (tuple(shape[axis] for axis in axes) for axes in (kept[:at], kept[at:]))
    column = (*[1] * len(ahead), *block, *[1] * len(behind))
    spread = [reshaped(stretch(index, block), column) for index in lookups.values()]
    whole = (*ahead, *block, *behind)
    numbers = {axis: number if number < at else number + len(block) for number, axis in enumerate(kept)}
    numbers |= {axis: -1 - number for number, axis in enumerate(lookups)}
    return [stretch(index, whole) for index in spread], tuple(numbers[axis] for axis in range(len(shape)))


def checked_index(name: str, index: Any, extent: Extent, from_end: bool = True) -> Value:
    """Indices of an axis of that extent as i64 from 0 on; those outside are refused, now or by the compiled function.

    from_end  negative indices count from the end
    """
    message = f"{name}: indices must lie in {range_of(extent, from_end)}"
    if known_value(index) is None:
        array = as_array(index, "the indices")
        if isinstance(extent, int) and array.dtype.kind in "iu":
            outside = array[(array < (-extent if from_end else 0)) | (array >= extent)]
            if outside.size:
                raise ShapeError(f"{message}: got {outside.flat[0]}", user_origin())
            return lift(np.where(array < 0, array + extent, array).astype(np.int64))
    value = lift(index)
    if value.dtype not in INTEGERS:
        raise DTypeError(f"{name} needs integer indices, got {value.type}", user_origin(), ["cast them: index.long()"])
    places = as_tensor(cast_value(value, "i64"))
    size = size_of(extent)
    if isinstance(extent, int):
        places = apply(ops.require_range, places.value, low=-extent if from_end else 0, high=extent, message=message)
    else:  # the range is known in the call only: 0 and the last place are in it, and stand for all that are
        inside = (places >= (-size if from_end else 0)) & (places < size)
        seen = where(inside, 0, places)
        wrong = apply(ops.require_range, seen.value, low=-1 if from_end else 0, high=1, message=message)
        places = where(inside, places, wrong)
    return (where(places < 0, places + size, places) if from_end else places).value


def size_of(extent: Extent) -> Tensor:
    """An extent as a number, i64."""
    kind = TensorType("i64", ())
    return as_tensor(
        ops.full(value=extent, type=kind) if isinstance(extent, int) else ops.size(extent=extent, type=kind)
    )


def take(x: Any, indices: Any, axis: int | None = None, *, dim: int | None = None) -> Tensor:
    """x at indices of any shape along an axis, whose place their axes take; without one, of all elements in a row."""
    along = axis if dim is None else dim
    if along is None:
        return take(ravel(x), indices, 0)
    value = lift(x)
    number = one_axis(along, len(value.shape))
    return look_up(value, {number: checked_index("take", indices, value.shape[number])}, number)


def index_select(x: Any, dim: int, index: Any) -> Tensor:
    """x at the indices of a vector along an axis."""
    if as_tensor(index).ndim > 1:
        raise ShapeError(f"index_select takes a vector of indices, got {as_tensor(index).type}", user_origin())
    value = lift(x)
    number = one_axis(dim, len(value.shape))
    places = checked_index("index_select", index, value.shape[number])
    return look_up(value, {number: reshaped(places, (places.type.count,))}, number)


def gather(x: Any, dim: int, index: Any) -> Tensor:
    """PyTorch's gather: result[i, j] = x[index[i, j], j] for dim 0, and so on; of the shape of index.

    index may be smaller than x along the other axes. Raises ShapeError where it is larger or has another rank.
    """
    value = lift(x)
    axis = one_axis(dim, len(value.shape))
    table, places = beside("gather", value, axis, as_tensor(index))
    return apply(ops.gather, table, checked_index("gather", index, value.shape[axis]), places=places)


def beside(name: str, x: Value, axis: int, index: Tensor) -> tuple[Value, tuple[int, ...]]:
    """The part of x that an index array as gather takes it looks up along an axis, and the op's `places`."""
    shape = index.value.shape
    others = [number for number in range(len(x.shape)) if number != axis]
    if len(shape) != len(x.shape) or any(beyond(shape[number], x.shape[number]) for number in others):
        raise ShapeError(f"{name} of {x.type}: index {index.type} does not fit", user_origin())
    part = cut(x, {number: Part(0, 1, shape[number]) for number in others})
    return part, looked_up_along(axis, len(shape))


def beyond(count: Extent, extent: Extent) -> bool:
    """Not known to be at most the extent."""
    left = subtract(extent, count)
    return not isinstance(left, int) or left < 0


def take_along_axis(x: Any, indices: Any, axis: int | None = None, *, dim: int | None = None) -> Tensor:
    """x at indices along an axis, beside the other axes, which broadcast; without one, of all elements in a row.

    sort(x).values is take_along_axis(x, argsort(x), -1). Raises ShapeError for another rank.
    """
    along = axis if dim is None else dim
    if along is None:
        return take(x, ravel(indices))
    value, index = lift(x), lift(indices)
    number = one_axis(along, len(value.shape))
    if len(index.shape) != len(value.shape):
        raise ShapeError(f"take_along_axis of {value.type}: indices {index.type} have another rank", user_origin())
    checked = checked_index("take_along_axis", indices, value.shape[number])
    return along_axis(value, checked, number)


def along_axis(x: Value, index: Value, axis: int) -> Tensor:
    """x at indices that are known to lie inside."""
    flat = (TensorType("i64", with_extent(each.shape, axis, 1)) for each in (x, index))
    others = common_shape([ops.full(value=0, type=type) for type in flat])
    table, places = (stretch(each, with_extent(others, axis, each.shape[axis])) for each in (x, index))
    return apply(ops.gather, table, places, places=looked_up_along(axis, len(others)))


def with_extent(shape: Shape, axis: int, extent: Extent) -> Shape:
    return (*shape[:axis], extent, *shape[axis + 1 :])


def looked_up_along(axis: int, rank: int) -> tuple[int, ...]:
    """The `places` of a look-up along one axis beside all others."""
    return tuple(-1 if number == axis else number for number in range(rank))


take_along_dim = take_along_axis

# -- parts of one axis


def select(x: Any, dim: int, index: Any) -> Tensor:
    """x[..., index, ...] along an axis, which is not in the result."""
    axis = one_axis(dim, as_tensor(x).ndim)
    return getitem(x, (*[slice(None)] * axis, index))


def narrow(x: Any, dim: int, start: Any, length: Any) -> Tensor:
    """`length` places of an axis from `start` on. Raises ShapeError where there are not as many."""
    value = lift(x)
    axis = one_axis(dim, len(value.shape))
    first, count = extent_of(start), extent_of(length)
    if first is None or count is None:
        raise DTypeError(f"narrow takes whole numbers, got start={shown(start)}, length={shown(length)}", user_origin())
    return part_of(value, axis, counted(value, axis, first), count)


def part_of(x: Value, axis: int, start: Extent, count: Extent) -> Tensor:
    """`count` places of an axis from `start` on."""
    left = subtract(x.shape[axis], add(start, count))
    if any(bound(each) < 0 for each in (start, count, left)):
        raise ShapeError(f"axis {axis} of {x.type} has no {count} places from {start} on", user_origin())
    return as_tensor(cut(x, {axis: Part(start, 1, count)}))


# -- what has a size that only its numbers tell


def masked_select(x: Any, mask: Any) -> NoReturn:
    """Not possible in a static graph: raises TraceError that says what to write."""
    refuse_mask("masked_select(x, mask)", lift(mask))


def nonzero(x: Any) -> NoReturn:
    """Not possible in a static graph: raises TraceError that says what to write."""
    refuse_mask("nonzero(mask)", lift(x))


argwhere = nonzero


def refuse_mask(call: str, mask: Value) -> NoReturn:
    raise TraceError(
        f"{call} with mask {mask.type}: how many elements it picks is not known while tracing",
        user_origin(),
        ["write gx.where(mask, x, other), or (x * mask).sum() for a sum; masks that are NumPy arrays may pick"],
    )


def is_extreme(value: Value) -> bool:
    """It is what max or min gave, which in PyTorch would be a pair."""
    return value.op in (ops.max, ops.min) or (value.op in (ops.reshape, ops.cast) and is_extreme(value.operands[0]))


def rows(x: Tensor) -> Iterator[Tensor]:
    """x[0], x[1], … along a first axis of fixed size."""
    extent = x.value.shape[0] if x.ndim else None
    if not isinstance(extent, int):
        reason = f"{extent} is not known while tracing" if x.ndim else "it has no axis"
        advice = (
            VALUES_ALONE if is_extreme(x.value) else "use whole-tensor operations, or gx.scan along an axis of any size"
        )
        raise TraceError(f"cannot go through {x.type} one by one: {reason}", user_origin(), [advice])
    return (getitem(x, number) for number in range(extent))

"""Tensors joined to one, taken apart, turned round and repeated. Symbolic extents add up: [T] and [1] is [T + 1].

All of it is reading at other places: exact for every dtype, and gradients go back to where the numbers came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir import ops
from graphc.ir.graph import Value, user_origin
from graphc.ir.types import Extent, TensorType, add, bound, multiply, subtract
from graphc.settings import check_whole, is_whole, shown
from graphc.tensor.building import (
    apply,
    as_tensor,
    cast_value,
    common_dtype,
    lift,
    lift_all,
    normal_axes,
    stretch,
    where,
)
from graphc.tensor.indexing import Part, cut, part_of, size_of, with_extent
from graphc.tensor.size import extent_of
from graphc.tensor.views import (
    at_least,
    atleast_3d,
    one_axis,
    ravel,
    reshape,
    reshaped,
    sequence,
    unsqueeze,
)

if TYPE_CHECKING:
    from graphc.tensor.tensor import Tensor

__all__ = [
    "cat",
    "chunk",
    "column_stack",
    "concat",
    "concatenate",
    "dstack",
    "flip",
    "fliplr",
    "flipud",
    "hstack",
    "repeat_interleave",
    "roll",
    "row_stack",
    "split",
    "stack",
    "tile",
    "unbind",
    "vstack",
]

GROUP = 8  # tensors that one loop joins

# -- together


def concat(tensors: Any, axis: int | None = 0, *, dim: int | None = None) -> Tensor:
    """Tensors one after another along an axis; of all their elements, flattened, if that is None.

    tensors  a sequence; of one shape but for that axis. Their dtypes are promoted.

    Raises ShapeError where they do not fit.
    """
    parts, values = operands("concat", tensors)
    along = axis if dim is None else dim
    if along is None:
        values, along = [ravel(value).value for value in values], 0
    dtype = common_dtype(parts, values)
    values = [cast_value(value, dtype) for value in values]
    first = values[0]
    number = one_axis(along, len(first.shape))
    for value in values[1:]:
        fits = len(value.shape) == len(first.shape)
        if not fits or with_extent(value.shape, number, 1) != with_extent(first.shape, number, 1):
            raise ShapeError(
                f"concat of {first.type} and {value.type}: they differ beside axis {number}", user_origin()
            )
    return in_a_row([value for value in values if value.shape[number] != 0] or [first], number)


def in_a_row(values: Sequence[Value], axis: int) -> Tensor:
    """Values of one type but for an axis, one after another along it.

    Every element chooses between all values, so many of them are joined by groups first.
    """
    if len(values) == 1:
        return as_tensor(values[0])
    if len(values) > GROUP:
        groups = (values[first : first + GROUP] for first in range(0, len(values), GROUP))
        return in_a_row([in_a_row(group, axis).value for group in groups], axis)
    ends = list(accumulate((value.shape[axis] for value in values), add))
    place = as_tensor(ops.iota(axis=axis, type=TensorType("i64", with_extent(values[0].shape, axis, ends[-1]))))
    parts = [padded(value, axis, end, ends[-1]) for value, end in zip(values, ends, strict=True)]
    result = parts[-1]
    for part, end in reversed(list(zip(parts[:-1], ends))):
        result = where(place < size_of(end), part, result)
    return result


def padded(value: Value, axis: int, end: Extent, extent: Extent) -> Tensor:
    """A value with zeros around it along an axis of that extent, where it ends at `end`."""
    start = tuple(subtract(own, end) if number == axis else 0 for number, own in enumerate(value.shape))
    return apply(ops.pad, value, start=start, shape=with_extent(value.shape, axis, extent))


def operands(name: str, tensors: Any) -> tuple[list[Any], list[Value]]:
    """A sequence of at least one tensor, and their values."""
    if not isinstance(tensors, (list, tuple)):
        raise ArgumentError(f"{name} takes a list or tuple of tensors, got {type(tensors).__name__}", user_origin())
    if not tensors:
        raise ShapeError(f"{name} of no tensors has no shape", user_origin())
    return list(tensors), lift_all(tensors)


def stack(tensors: Any, axis: int = 0, *, dim: int | None = None) -> Tensor:
    """Tensors of one shape along a new axis. Raises ShapeError where they differ."""
    parts, values = operands("stack", tensors)
    number = one_axis(axis if dim is None else dim, len(values[0].shape) + 1)
    for value in values[1:]:
        if value.shape != values[0].shape:
            raise ShapeError(f"stack of {values[0].type} and {value.type}: they differ", user_origin())
    dtype = common_dtype(parts, values)
    return in_a_row([unsqueeze(cast_value(value, dtype), number).value for value in values], number)


def vstack(tensors: Any) -> Tensor:
    """One below another; vectors are rows."""
    return concat([at_least(each, 2) for each in operands("vstack", tensors)[1]], 0)


def hstack(tensors: Any) -> Tensor:
    """One beside another: along axis 1, vectors along their only one."""
    parts = [at_least(each, 1) for each in operands("hstack", tensors)[1]]
    return concat(parts, 0 if parts[0].ndim == 1 else 1)


def dstack(tensors: Any) -> Tensor:
    """One behind another: along axis 2."""
    return concat([atleast_3d(each) for each in operands("dstack", tensors)[1]], 2)


def column_stack(tensors: Any) -> Tensor:
    """Vectors as the columns of a matrix, matrices beside them."""
    parts = [as_tensor(each) for each in operands("column_stack", tensors)[1]]
    return concat([each if each.ndim > 1 else reshape(each, each.value.type.count, 1) for each in parts], 1)


cat = concatenate = concat
row_stack = vstack

# -- apart


def split(x: Any, split_size_or_sections: Any, axis: int = 0, *, dim: int | None = None) -> tuple[Tensor, ...]:
    """PyTorch's split along an axis: parts of one size, the last may be smaller; or of the sizes of a sequence.

    Raises ShapeError for sizes that do not add up, or one size on a symbolic axis.
    """
    value = lift(x)
    number = one_axis(axis if dim is None else dim, len(value.shape))
    extent = value.shape[number]
    sizes = split_size_or_sections
    if not isinstance(sizes, (list, tuple)):
        size = extent_of(sizes)
        if not isinstance(size, int) or size < 1:
            raise ShapeError(f"split of {value.type}: {shown(sizes)} is no size of a part", user_origin())
        fixed = fixed_extent("split", value, number, "give the sizes of all parts")
        sizes = [min(size, fixed - start) for start in range(0, fixed, size)] or [0]
    extents = [each for size in sizes if (each := extent_of(size)) is not None]
    if len(extents) < len(sizes) or add(*extents) != extent:
        raise ShapeError(f"split of {value.type}: sizes {list(sizes)} do not add up to {extent}", user_origin())
    ends = list(accumulate(extents, add))
    return tuple(part_of(value, number, subtract(end, count), count) for end, count in zip(ends, extents, strict=True))


def chunk(x: Any, chunks: int, axis: int = 0, *, dim: int | None = None) -> tuple[Tensor, ...]:
    """At most so many parts of one size along an axis, the last may be smaller."""
    value = lift(x)
    number = one_axis(axis if dim is None else dim, len(value.shape))
    count = check_whole("chunks", chunks, 1)
    extent = fixed_extent("chunk", value, number, "gx.split takes the sizes of all parts")
    return split(value, max(1, -(-extent // count)), number)


def unbind(x: Any, axis: int = 0, *, dim: int | None = None) -> tuple[Tensor, ...]:
    """x at every place of an axis, which is in none of them."""
    value = lift(x)
    number = one_axis(axis if dim is None else dim, len(value.shape))
    extent = fixed_extent("unbind", value, number, "gx.scan goes along an axis of any size")
    shape = (*value.shape[:number], *value.shape[number + 1 :])
    return tuple(reshape(part_of(value, number, place, 1), shape) for place in range(extent))


def fixed_extent(name: str, x: Value, axis: int, advice: str) -> int:
    extent = x.shape[axis]
    if not isinstance(extent, int):
        raise ShapeError(f"{name} of {x.type}: {extent} is not known while tracing", user_origin(), [advice])
    return extent


# -- round


def flip(x: Any, axis: Any = None, *more: int, dims: Any = None) -> Tensor:
    """The other way round along axes, given one by one or as a sequence; along all of them without any."""
    value = lift(x)
    given = (axis, *more) if more else axis
    axes = normal_axes(given if dims is None else dims, len(value.shape))
    return as_tensor(cut(value, {each: Part(subtract(value.shape[each], 1), -1, value.shape[each]) for each in axes}))


def fliplr(x: Any) -> Tensor:
    """The columns in reverse order."""
    return flip(x, 1)


def flipud(x: Any) -> Tensor:
    """The rows in reverse order."""
    return flip(x, 0)


def roll(x: Any, shifts: Any, axis: Any = None, *, dims: Any = None) -> Tensor:
    """Moved along axes, what leaves at the end comes in at the front; of all elements in a row without axes.

    shifts  a number, or one for each axis. A symbolic axis must have at least as many places.
    """
    value = lift(x)
    wanted = axis if dims is None else dims
    if wanted is None:
        return reshape(roll(ravel(value), shifts, 0), value.shape)
    axes = [one_axis(each, len(value.shape)) for each in (wanted if isinstance(wanted, (list, tuple)) else [wanted])]
    numbers = list(shifts) if isinstance(shifts, (list, tuple)) else [shifts] * len(axes)
    if len(numbers) != len(axes):
        raise ShapeError(f"roll of {value.type}: {len(numbers)} shifts for {len(axes)} axes", user_origin())
    for number, shift in zip(axes, numbers, strict=True):
        value = rolled(value, number, shift).value
    return as_tensor(value)


def rolled(x: Value, axis: int, shift: Any) -> Tensor:
    if not is_whole(shift):
        raise DTypeError(f"roll takes whole numbers known while tracing, got {shown(shift)}", user_origin())
    extent, by = x.shape[axis], int(shift)
    if isinstance(extent, int):
        by = by % max(extent, 1)
    if by == 0:
        return as_tensor(x)
    before = subtract(extent, by) if by > 0 else -by
    parts = [(before, subtract(extent, before)), (0, before)]
    return in_a_row([part_of(x, axis, start, count).value for start, count in parts], axis)


# -- several times


def tile(x: Any, reps: Any = (), *more: int, dims: Any = None) -> Tensor:
    """x so often along its last axes, given one by one or as a sequence; axes are added in front where needed."""
    value = lift(x)
    given = reps if dims is None else dims
    counts = [repeats_of("tile", each) for each in (*(given if isinstance(given, (list, tuple)) else [given]), *more)]
    rank = max(len(counts), len(value.shape))
    counts = [1] * (rank - len(counts)) + counts
    shape = (1,) * (rank - len(value.shape)) + value.shape
    apart = tuple(extent for each in shape for extent in (1, each))
    often = tuple(extent for pair in zip(counts, shape, strict=True) for extent in pair)
    spread = stretch(reshaped(value, apart), often)
    return as_tensor(reshaped(spread, tuple(multiply(*pair) for pair in zip(counts, shape, strict=True))))


def repeat(x: Any, *repeats: Any) -> Tensor:
    """PyTorch's Tensor.repeat, which tiles: a count for each axis, those added in front first."""
    counts, tensor = sequence(repeats), as_tensor(x)
    if len(counts) < tensor.ndim:
        raise ShapeError(f"repeat of {tensor.type}: it takes a count for each axis, got {list(counts)}", user_origin())
    return tile(tensor, counts)


def repeat_interleave(x: Any, repeats: int, axis: int | None = None, *, dim: int | None = None) -> Tensor:
    """Every element so often, next to each other along an axis; of all elements in a row without one."""
    value, count = lift(x), repeats_of("repeat_interleave", repeats)
    along = axis if dim is None else dim
    if along is None:
        return repeat_interleave(ravel(value), repeats, 0)
    number = one_axis(along, len(value.shape))
    before, extent, after = value.shape[:number], value.shape[number], value.shape[number + 1 :]
    spread = stretch(reshaped(value, (*before, extent, 1, *after)), (*before, extent, count, *after))
    return as_tensor(reshaped(spread, (*before, multiply(extent, count), *after)))


def repeats_of(name: str, count: Any) -> Extent:
    """How often: a whole number of at least 0, or a Size."""
    found = extent_of(count)
    if found is None or bound(found) < 0:
        message = f"{name} takes whole numbers of at least 0, known while tracing; got {shown(count)}"
        raise ShapeError(message, user_origin())
    return found

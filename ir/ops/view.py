"""Ops that move no data: they become index maps of whoever reads them.

A reshape that changes the order of axes has no such map and shares the memory of its operand instead; every other view
says by `walk` where its elements stand.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from graphc.ir.graph import IRError, Value
from graphc.ir.ops.record import Op, Sample, define
from graphc.ir.types import STAY, Extent, Shape, TensorType, Walk, add, along, divide, multiply, subtract

Array = np.ndarray[Any, Any]


def stretched_axes(before: Shape, after: Shape) -> tuple[int, ...]:
    return tuple(axis for axis, (a, b) in enumerate(zip(before, after, strict=True)) if a != b)


def broadcast_type(x: TensorType, shape: Shape) -> TensorType:
    if len(shape) != len(x.shape) or any(a not in (1, b) for a, b in zip(x.shape, shape, strict=True)):
        raise IRError(f"cannot stretch {x} to {list(shape)}: only axes of size 1 stretch")
    return x.with_shape(shape)


def broadcast_vjp(ct: Value, out: Value, x: Value) -> tuple[Value, ...]:
    from graphc.ir.ops.reduce import sum  # reduce.py needs broadcast for its own gradients

    return (sum(ct, axes=stretched_axes(x.shape, out.shape)),)


def reshape_type(x: TensorType, shape: Shape) -> TensorType:
    if multiply(*x.shape) != multiply(*shape):
        raise IRError(f"{x} has {multiply(*x.shape)} elements, shape {list(shape)} has {multiply(*shape)}")
    return x.with_shape(shape)


def transpose_type(x: TensorType, permutation: tuple[int, ...]) -> TensorType:
    if sorted(permutation) != list(range(len(x.shape))):
        raise IRError(f"{list(permutation)} is not an order of the {len(x.shape)} axes of {x}")
    return x.with_shape(tuple(x.shape[axis] for axis in permutation))


def inverse(permutation: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(permutation)), key=permutation.__getitem__))


def swapped(rank: int) -> tuple[int, ...]:
    """The permutation that turns the matrices of a stack."""
    return (*range(rank - 2), rank - 1, rank - 2)


broadcast: Op = define(
    "broadcast",
    "view",
    infer=broadcast_type,
    numpy=lambda x, shape: np.broadcast_to(x, shape),
    vjp=broadcast_vjp,
    walk=lambda x, shape: tuple(STAY if extent == 1 else along(axis) for axis, extent in enumerate(x.shape)),
    samples=(
        Sample(("f32[1,20]",), attrs={"shape": (3, 20)}),
        Sample(("f32[3,1]",), attrs={"shape": (3, 20)}),
        Sample(("i64[1,1]",), attrs={"shape": (3, 5)}),
    ),
)
reshape: Op = define(
    "reshape",
    "view",
    infer=reshape_type,
    numpy=lambda x, shape: np.reshape(x, shape),
    vjp=lambda ct, out, x: (reshape(ct, shape=x.shape),),
    samples=(
        Sample(("f32[3,20]",), attrs={"shape": (60,)}),
        Sample(("f32[4,6]",), attrs={"shape": (2, 12)}),
        Sample(("f32[5]",), attrs={"shape": (1, 5, 1)}),
    ),
)
transpose: Op = define(
    "transpose",
    "view",
    infer=transpose_type,
    numpy=lambda x, permutation: np.transpose(x, permutation),
    vjp=lambda ct, out, x: (transpose(ct, permutation=inverse(out.attrs["permutation"])),),
    walk=lambda x, permutation: tuple(along(axis) for axis in inverse(permutation)),
    samples=(
        Sample(("f32[3,20]",), attrs={"permutation": (1, 0)}),
        Sample(("f32[2,3,5]",), attrs={"permutation": (2, 0, 1)}),
    ),
)

# -- parts of an operand, and an operand with zeros around it


def slice_type(x: TensorType, start: tuple[Extent, ...], step: tuple[int, ...], shape: Shape) -> TensorType:
    if not len(start) == len(step) == len(shape) == len(x.shape):
        raise IRError(f"start, step and shape need one entry for each of the {len(x.shape)} axes of {x}")
    for axis, (first, stride, count, extent) in enumerate(zip(start, step, shape, x.shape, strict=True)):
        last = add(first, multiply(stride, subtract(count, 1)))
        inside = all(not isinstance(end, int) or end >= 0 for end in (first, last, subtract(subtract(extent, 1), last)))
        if stride == 0 or (count != 0 and not inside):
            raise IRError(f"{count} elements from {first} by steps of {stride} leave axis {axis} of {x}")
    return x.with_shape(shape)


def slice_array(x: Array, start: tuple[int, ...], step: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    for axis, (first, stride, count) in enumerate(zip(start, step, shape, strict=True)):
        x = np.take(x, first + stride * np.arange(count), axis=axis)
    return x


def slice_vjp(ct: Value, out: Value, x: Value) -> tuple[Value, ...]:
    """Zeros everywhere but where the slice was taken from."""
    start, step = out.attrs["start"], out.attrs["step"]
    if any(stride < 0 for stride in step):
        ends = zip(start, step, out.shape, strict=True)
        start = tuple(
            first if stride > 0 else add(first, multiply(stride, subtract(count, 1))) for first, stride, count in ends
        )
        ct = flipped(ct, tuple(axis for axis, stride in enumerate(step) if stride < 0))
    for axis, stride in enumerate(step):
        ct = spread_out(ct, axis, abs(stride))
    low = tuple(multiply(-1, first) for first in start)
    return (pad(ct, start=low, shape=x.shape),)


def flipped(x: Value, axes: tuple[int, ...]) -> Value:
    """x the other way round along some axes."""
    start = tuple(subtract(extent, 1) if axis in axes else 0 for axis, extent in enumerate(x.shape))
    step = tuple(-1 if axis in axes else 1 for axis in range(len(x.shape)))
    return slice(x, start=start, step=step, shape=x.shape)


def spread_out(x: Value, axis: int, step: int) -> Value:
    """`step - 1` zeros between neighbours along an axis."""
    if step == 1 or x.shape[axis] == 1:
        return x
    before, extent, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    column = reshape(x, shape=(*before, extent, 1, *after))
    padded = pad(column, start=(0,) * len(column.shape), shape=(*before, extent, step, *after))
    line = reshape(padded, shape=(*before, multiply(extent, step), *after))
    shape = (*before, subtract(multiply(extent, step), step - 1), *after)
    return slice(line, start=(0,) * len(shape), step=(1,) * len(shape), shape=shape)


def pad_type(x: TensorType, start: tuple[Extent, ...], shape: Shape) -> TensorType:
    if not len(start) == len(shape) == len(x.shape):
        raise IRError(f"start and shape need one entry for each of the {len(x.shape)} axes of {x}")
    return x.with_shape(shape)


def pad_array(x: Array, start: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    result = np.zeros(shape, x.dtype)
    inside = [range(max(0, -first), min(count, extent - first)) for first, count, extent in zip(start, shape, x.shape)]
    target = np.ix_(*inside)
    result[target] = x[np.ix_(*(np.asarray(each, np.int64) + first for each, first in zip(inside, start)))]
    return result


def pad_walk(x: TensorType, start: tuple[Extent, ...], shape: Shape) -> tuple[Walk, ...]:
    walks = []
    for axis, (first, count, extent) in enumerate(zip(start, shape, x.shape, strict=True)):
        ends = (first, subtract(extent, add(first, count)))
        inside = all(isinstance(end, int) and end >= 0 for end in ends)
        walks.append(Walk(first, ((axis, 1),), guarded=not inside))
    return tuple(walks)


def pad_vjp(ct: Value, out: Value, x: Value) -> tuple[Value, ...]:
    return (pad(ct, start=tuple(multiply(-1, first) for first in out.attrs["start"]), shape=x.shape),)


slice: Op = define(
    "slice",
    "view",
    infer=slice_type,
    numpy=slice_array,
    vjp=slice_vjp,
    walk=lambda x, start, step, shape: tuple(
        Walk(first, ((axis, stride),)) for axis, (first, stride) in enumerate(zip(start, step, strict=True))
    ),
    samples=(
        Sample(("f32[5,40]",), attrs={"start": (1, 3), "step": (1, 1), "shape": (3, 30)}),
        Sample(("f32[5,40]",), attrs={"start": (4, 39), "step": (-2, -3), "shape": (3, 13)}),
        Sample(("i64[7]",), attrs={"start": (1,), "step": (2,), "shape": (3,)}),
    ),
)
pad: Op = define(  # start: which place of the operand the first element is; zeros wherever there is none
    "pad",
    "view",
    infer=pad_type,
    numpy=pad_array,
    vjp=pad_vjp,
    walk=pad_walk,
    samples=(
        Sample(("f32[3,20]",), attrs={"start": (-1, -2), "shape": (5, 40)}),
        Sample(("f32[3,20]",), attrs={"start": (1, -2), "shape": (4, 16)}),
        Sample(("i64[5]",), attrs={"start": (-3,), "shape": (8,)}),
    ),
)

# -- windows: some axes as positions and, last, the places under a window at each position


def window_count(extent: Extent, size: int, stride: int, dilation: int) -> Extent:
    """How many positions a window has along an axis."""
    free = subtract(extent, dilation * (size - 1) + 1)
    if isinstance(free, int):
        return free // stride + 1 if free >= 0 else 0
    steps = divide(free, stride)
    if steps is None:
        raise IRError(f"steps of {stride} do not divide the symbolic extent {free} that a window moves along")
    return add(steps, 1)


Sizes = tuple[int, ...]


def window_type(x: TensorType, axes: Sizes, size: Sizes, stride: Sizes, dilation: Sizes) -> TensorType:
    fitting = len(axes) == len(size) == len(stride) == len(dilation) and len(set(axes)) == len(axes)
    if not fitting or any(not 0 <= axis < len(x.shape) for axis in axes) or min(*size, *stride, *dilation) < 1:
        raise IRError(f"windows {size} by steps {stride} and {dilation} do not fit axes {list(axes)} of {x}")
    shape = list(x.shape)
    for axis, *each in zip(axes, size, stride, dilation, strict=True):
        shape[axis] = window_count(x.shape[axis], *each)
        if shape[axis] == 0:
            raise IRError(f"a window of {each[2] * (each[0] - 1) + 1} places is longer than axis {axis} of {x}")
    return x.with_shape((*shape, *size))


def window_array(x: Array, axes: Sizes, size: Sizes, stride: Sizes, dilation: Sizes) -> Array:
    reach = tuple(step * (count - 1) + 1 for count, step in zip(size, dilation, strict=True))
    found = np.lib.stride_tricks.sliding_window_view(x, reach, axes)
    steps = dict(zip(axes, stride, strict=True))
    places = [np.s_[:: steps.get(axis, 1)] for axis in range(x.ndim)] + [np.s_[::step] for step in dilation]
    return found[tuple(places)]


def window_walk(x: TensorType, axes: Sizes, size: Sizes, stride: Sizes, dilation: Sizes) -> tuple[Walk, ...]:
    walks = [along(axis) for axis in range(len(x.shape))]
    for number, (axis, step, under) in enumerate(zip(axes, stride, dilation, strict=True)):
        walks[axis] = Walk(0, ((axis, step), (len(x.shape) + number, under)))
    return tuple(walks)


def window_vjp(ct: Value, out: Value, x: Value) -> tuple[Value, ...]:
    """Every place gets the sum over all windows it lies under: one term for each place of a window, or one product."""
    from graphc.ir.ops.elementwise import add as total_of  # elementwise.py is made of records, views among them
    from graphc.ir.ops.turned_round import folded_product  # it is made of views

    whole = folded_product(ct, out, x)
    if whole is not None:
        return (whole,)
    axes, size, stride, dilation = (out.attrs[name] for name in ("axes", "size", "stride", "dilation"))
    for axis, step in zip(axes, stride, strict=True):
        ct = spread_out(ct, axis, step)
    rank = len(x.shape)
    total: Value | None = None
    for places in itertools.product(*map(range, size)):
        start, shape = (*(0 for _ in range(rank)), *places), (*ct.shape[:rank], *(1 for _ in size))
        column = reshape(slice(ct, start=start, step=(1,) * len(start), shape=shape), shape=shape[:rank])
        shift = [0] * rank
        for axis, place, step in zip(axes, places, dilation, strict=True):
            shift[axis] = -place * step
        term = pad(column, start=tuple(shift), shape=x.shape)
        total = term if total is None else total_of(total, term)
    assert total is not None
    return (total,)


window: Op = define(
    "window",
    "view",
    infer=window_type,
    numpy=window_array,
    vjp=window_vjp,
    walk=window_walk,
    samples=(
        Sample(("f32[3,20]",), attrs={"axes": (1,), "size": (3,), "stride": (1,), "dilation": (1,)}),
        Sample(("f32[3,20,9]",), attrs={"axes": (1, 2), "size": (3, 2), "stride": (2, 1), "dilation": (2, 3)}),
        Sample(("i64[9]",), attrs={"axes": (0,), "size": (2,), "stride": (3,), "dilation": (1,)}),
    ),
)

"""Pools: what stands under a window as one number, its maximum or its mean, one axis after the other."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from graphc.errors import ArgumentError, ShapeError
from graphc.functional.creation import arange
from graphc.functional.windows import Window, as_image, for_axes, places_under, surrounded, windows_of
from graphc.ir.graph import user_origin
from graphc.ir.types import Extent, multiply
from graphc.settings import check_divisor, check_switch
from graphc.tensor import Tensor, where
from graphc.tensor.arithmetic import maximum, minimum
from graphc.tensor.indexing import narrow
from graphc.tensor.joining import concat
from graphc.tensor.reduction import argmax, sum

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
]

SHORT = 8  # the widest window whose places are combined one by one where positions do not overlap

Combine = Callable[[list[Tensor], int, Window], list[Tensor]]


def max_pool1d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """x [n, channels, length] -> [n, channels, positions]: the maximum under a window at each of its positions.

    stride          places between positions; the size of the window if left out
    padding         places at both ends that never are the maximum; at most half a window
    dilation        places between those under the window
    ceil_mode       add a last position where the window ends beyond the padding
    return_indices  give a pair: the maxima, and where each stood in the flattened axes, i64

    The gradient goes to the first of equal maxima; NaN is larger than any number. x may lack n. Raises ShapeError
    for shapes that do not fit, ArgumentError for wrong settings.
    """
    return max_pool("max_pool1d", 1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """x [n, channels, height, width] -> [n, channels, *positions], as max_pool1d; settings are one number or two."""
    return max_pool("max_pool2d", 2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """x [n, channels, depth, height, width], as max_pool1d; settings are one number or three."""
    return max_pool("max_pool3d", 3, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def avg_pool1d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """x [n, channels, length] -> [n, channels, positions]: the mean under a window at each of its positions.

    stride             places between positions; the size of the window if left out
    padding            zeros at both ends; at most half a window
    ceil_mode          add a last position where the window ends beyond the padding; what is beyond does not count
    count_include_pad  padding counts in the mean

    x may lack n. Raises ShapeError for shapes that do not fit, ArgumentError for wrong settings.
    """
    return avg_pool("avg_pool1d", 1, x, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """x [n, channels, height, width] -> [n, channels, *positions], as avg_pool1d; settings are one number or two.

    divisor_override  what sums are divided by, in place of how many numbers they have
    """
    name = "avg_pool2d"
    return avg_pool(name, 2, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """x [n, channels, depth, height, width], as avg_pool2d; settings are one number or three."""
    name = "avg_pool3d"
    return avg_pool(name, 3, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def adaptive_avg_pool1d(x: Any, output_size: Any) -> Tensor:
    """x [n, channels, length] -> [n, channels, output_size]: means of that many parts, as equal as can be.

    Part i of an axis of `length` goes from floor(i * length / size) to ceil((i + 1) * length / size), without that
    place. x may lack n. Raises ShapeError for an axis whose size is not fixed, ArgumentError for sizes that are not
    whole numbers of at least 1.
    """
    return adaptive_avg_pool("adaptive_avg_pool1d", 1, x, output_size)


def adaptive_avg_pool2d(x: Any, output_size: Any) -> Tensor:
    """x [n, channels, height, width] -> [n, channels, *output_size], as adaptive_avg_pool1d; None keeps an axis."""
    return adaptive_avg_pool("adaptive_avg_pool2d", 2, x, output_size)


def adaptive_avg_pool3d(x: Any, output_size: Any) -> Tensor:
    """x [n, channels, depth, height, width], as adaptive_avg_pool2d."""
    return adaptive_avg_pool("adaptive_avg_pool3d", 3, x, output_size)


def adaptive_max_pool1d(x: Any, output_size: Any, return_indices: bool = False) -> Any:
    """x [n, channels, length] -> [n, channels, output_size]: maxima of the parts that adaptive_avg_pool1d has.

    return_indices  give a pair: the maxima, and where each stood in the flattened axes, i64
    """
    return adaptive_max_pool("adaptive_max_pool1d", 1, x, output_size, return_indices)


def adaptive_max_pool2d(x: Any, output_size: Any, return_indices: bool = False) -> Any:
    """x [n, channels, height, width] -> [n, channels, *output_size], as adaptive_max_pool1d; None keeps an axis."""
    return adaptive_max_pool("adaptive_max_pool2d", 2, x, output_size, return_indices)


def adaptive_max_pool3d(x: Any, output_size: Any, return_indices: bool = False) -> Any:
    """x [n, channels, depth, height, width], as adaptive_max_pool2d."""
    return adaptive_max_pool("adaptive_max_pool3d", 3, x, output_size, return_indices)


# -- over all axes


def max_pool(
    name: str,
    axes: int,
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    check_switch("return_indices", return_indices)
    tensor = as_image(name, x, axes)
    windows = pool_windows(name, tensor, axes, kernel_size, stride, padding, dilation, ceil_mode)
    carried = [surrounded(name, tensor, windows, -math.inf)]
    if return_indices:
        carried.append(surrounded(name, flat_indices(tensor, axes), windows))
    for axis in reversed(range(axes)):  # so that of equal maxima the first in memory order stays
        carried = first_largest(carried, tensor.ndim - axes + axis, windows[axis])
    return tuple(carried) if return_indices else carried[0]


def avg_pool(
    name: str,
    axes: int,
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    check_switch("count_include_pad", count_include_pad)
    if divisor_override is not None:
        check_divisor("divisor_override", divisor_override)
    tensor = as_image(name, x, axes)
    windows = pool_windows(name, tensor, axes, kernel_size, stride, padding, 1, ceil_mode)
    divisor: Any = 1
    carried = [surrounded(name, tensor, windows)]
    for axis, window, ends in zip(
        range(tensor.ndim - axes, tensor.ndim), windows, for_axes(name, "padding", padding, axes, least=0), strict=True
    ):
        carried = sums(carried, axis, window)
        if ceil_mode or (ends and not count_include_pad):
            counted = counts(tensor, axis, window, ends if count_include_pad else 0, carried[0].value.shape[axis])
            divisor = divisor * counted.reshape(-1, *[1] * (tensor.ndim - axis - 1))
        else:
            divisor = divisor * window.size
    return carried[0] / (divisor if divisor_override is None else divisor_override)


def adaptive_avg_pool(name: str, axes: int, x: Any, output_size: Any) -> Tensor:
    tensor = as_image(name, x, axes)
    return adapted(name, axes, [tensor], output_size, means)[0]


def adaptive_max_pool(name: str, axes: int, x: Any, output_size: Any, return_indices: bool) -> Any:
    tensor = as_image(name, x, axes)
    carried = [tensor, flat_indices(tensor, axes)] if check_switch("return_indices", return_indices) else [tensor]
    found = adapted(name, axes, carried, output_size, first_largest)
    return tuple(found) if return_indices else found[0]


def adapted(name: str, axes: int, carried: list[Tensor], output_size: Any, combine: Combine) -> list[Tensor]:
    """Every axis that has an output size in as many parts, each of them combined."""
    first = carried[0].ndim - axes
    for axis, size in reversed(list(enumerate(output_sizes(name, axes, output_size), first))):
        carried = carried if size is None else in_parts(name, carried, axis, size, combine)
    return carried


def output_sizes(name: str, axes: int, output_size: Any) -> tuple[int | None, ...]:
    """A size or None for each axis. Raises ArgumentError for others."""
    if not isinstance(output_size, (tuple, list)):
        return (None,) * axes if output_size is None else for_axes(name, "output_size", output_size, axes)
    numbers = for_axes(name, "output_size", [1 if size is None else size for size in output_size], axes)
    given = list(output_size) * (axes // len(output_size))
    return tuple(None if size is None else number for size, number in zip(given, numbers, strict=True))


def check_pool(name: str, axes: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> tuple[Window, ...]:
    """The windows of a pool. Raises ArgumentError for settings that are none."""
    sizes = for_axes(name, "kernel_size", kernel_size, axes)
    windows = windows_of(name, sizes, sizes if stride is None else stride, padding, dilation)
    for window in windows:
        if 2 * window.before > window.reach:
            raise ArgumentError(
                f"{name}: padding={padding} is more than half of a window of {window.reach} places", user_origin()
            )
    return windows


def pool_windows(
    name: str, x: Tensor, axes: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Window, ...]:
    """The windows of a pool over the last axes of x."""
    windows = check_pool(name, axes, kernel_size, stride, padding, dilation)
    if not check_switch("ceil_mode", ceil_mode):
        return windows
    extents = x.value.shape[x.ndim - axes :]
    return tuple(rounded_up(window, extent) for window, extent in zip(windows, extents, strict=True))


def rounded_up(window: Window, extent: Extent) -> Window:
    """With places added at the end for one more position, if that starts before the padding there does."""
    if not isinstance(extent, int):
        return window
    begin = extent + window.before
    steps = min(-(-(begin + window.after - window.reach) // window.stride), (begin - 1) // window.stride)
    return replace(window, after=steps * window.stride + window.reach - begin)


def flat_indices(x: Tensor, axes: int) -> Tensor:
    """The index of each element in the last axes of x, flattened; i64."""
    extents = x.shape[x.ndim - axes :]
    return arange(math.prod(extents)).reshape(extents).broadcast_to(x.shape)


# -- along one axis


def first_largest(carried: list[Tensor], axis: int, window: Window) -> list[Tensor]:
    """All tensors at the place where the first one is largest: the first such place under a window."""
    if is_block(window):
        parts = [blocks(each, axis, window) for each in carried]
        largest = argmax(parts[0], axis + 1, keepdims=True)
        is_largest = arange(window.size).reshape(-1, *[1] * (parts[0].ndim - axis - 2)) == largest
        return [sum(where(is_largest, each, 0), axis + 1) for each in parts]
    chosen, *others = zip(*(places_under(each, axis, window) for each in carried), strict=True)
    for other in others:
        larger = (other[0] > chosen[0]) | (other[0] != other[0])
        chosen = tuple(where(larger, new, old) for new, old in zip(other, chosen, strict=True))
    return list(chosen)


def sums(carried: list[Tensor], axis: int, window: Window) -> list[Tensor]:
    """The sum under a window."""
    (x,) = carried
    if is_block(window):
        return [sum(blocks(x, axis, window), axis + 1)]
    return [functools.reduce(operator.add, places_under(x, axis, window))]


def means(carried: list[Tensor], axis: int, window: Window) -> list[Tensor]:
    return [sums(carried, axis, window)[0] / window.size]


def is_block(window: Window) -> bool:
    """A long window whose positions touch without overlap: an axis of its own."""
    return window.size > SHORT and window.size == window.stride and window.dilation == 1


def blocks(x: Tensor, axis: int, window: Window) -> Tensor:
    """[..., extent, ...] -> [..., positions, size, ...]"""
    shape = x.value.shape
    count = Window(window.size, window.stride).positions(shape[axis])
    whole = narrow(x, axis, 0, multiply(count, window.size))
    return whole.reshape(*shape[:axis], count, window.size, *shape[axis + 1 :])


def counts(x: Tensor, axis: int, window: Window, ends: int, positions: Extent) -> Tensor:
    """How many places of an axis, with `ends` at both ends, are under a window at each of its positions."""
    start = arange(positions) * window.stride - window.before
    end = minimum(start + window.size, x.shape[axis] + ends)
    return (end - maximum(start, -ends)).astype(x.dtype)


def in_parts(name: str, carried: list[Tensor], axis: int, count: int, combine: Combine) -> list[Tensor]:
    """An axis in `count` parts, as equal as can be, each of them combined."""
    extent = carried[0].value.shape[axis]
    if not isinstance(extent, int):
        raise ShapeError(f"{name} of {carried[0].type}: the size of axis {axis} must be fixed", user_origin())
    if extent % count == 0:
        return combine(carried, axis, Window(extent // count, extent // count))
    found = []
    for number in range(count):
        start, end = number * extent // count, -(-(number + 1) * extent // count)
        pieces = [narrow(each, axis, start, end - start) for each in carried]
        found.append(combine(pieces, axis, Window(end - start, end - start)))
    return [concat(each, axis) for each in zip(*found, strict=True)]

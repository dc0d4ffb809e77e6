"""Convolutions, as products of a weight with what stands under its window (cross-correlation, as in PyTorch)."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

from graphc.errors import ArgumentError, ShapeError
from graphc.functional.windows import (
    Window,
    for_axes,
    places_under,
    surrounded,
    under_windows,
    windows_of,
    with_batch,
)
from graphc.ir import ops
from graphc.ir.graph import user_origin
from graphc.ir.ops.view import spread_out
from graphc.ir.types import Extent, add, multiply, subtract
from graphc.tensor import Tensor, apply, as_floats, as_tensor
from graphc.tensor.indexing import narrow
from graphc.tensor.joining import flip

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]

MOST_TERMS = 64  # places under a window whose products with their weights are added up one by one


def conv1d(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """x [n, in, length], weight [out, in / groups, size], bias [out] -> [n, out, positions].

    stride, dilation  places between the positions of the window, and between the places under it
    padding           zeros at both ends; "valid" for none, "same" for a result as long as x (stride 1 only)
    groups            parts of the channels that are convolved by themselves

    x may lack n. Raises ShapeError for shapes that do not fit, ArgumentError for wrong settings.
    """
    return convolution("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """x [n, in, height, width], weight [out, in / groups, rows, columns], bias [out] -> [n, out, *positions].

    Settings as in conv1d: one number, or one for each of the two axes.
    """
    return convolution("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


def conv3d(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """x [n, in, depth, height, width], weight [out, in / groups, *sizes], bias [out] -> [n, out, *positions].

    Settings as in conv1d: one number, or one for each of the three axes.
    """
    return convolution("conv3d", 3, x, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """x [n, in, length], weight [in, out / groups, size], bias [out] -> [n, out, places].

    The adjoint of conv1d with the same settings: its gradient with respect to x. There are
    (length - 1) * stride - 2 * padding + dilation * (size - 1) + 1 + output_padding places.

    output_padding  places added at the end only, where several lengths belong to one length of x

    x may lack n. Raises ShapeError for shapes that do not fit, ArgumentError for wrong settings.
    """
    return transposed_convolution(
        "conv_transpose1d", 1, x, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """x [n, in, height, width], weight [in, out / groups, rows, columns], bias [out] -> [n, out, *places].

    As conv_transpose1d; settings are one number, or one for each of the two axes.
    """
    return transposed_convolution(
        "conv_transpose2d", 2, x, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """x [n, in, depth, height, width], weight [in, out / groups, *sizes], bias [out] -> [n, out, *places].

    As conv_transpose1d; settings are one number, or one for each of the three axes.
    """
    return transposed_convolution(
        "conv_transpose3d", 3, x, weight, bias, stride, padding, output_padding, groups, dilation
    )


def convolution(
    name: str, axes: int, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    image, kernel, shift, alone = operands(name, axes, x, weight, bias, groups, transposed=False)
    windows = convolution_windows(name, kernel.shape[2:], stride, padding, dilation)
    split = kernel.reshape(groups, -1, *kernel.shape[1:])
    result = over_groups(surrounded(name, image, windows), split, shift, windows)
    return result.squeeze(0) if alone else result


def transposed_convolution(
    name: str,
    axes: int,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    """The convolution of x, spread out with zeros between, with the weight turned round."""
    image, kernel, shift, alone = operands(name, axes, x, weight, bias, groups, transposed=True)
    forward = windows_of(name, kernel.shape[2:], stride, padding, dilation)
    added = for_axes(name, "output_padding", output_padding, axes, least=0)
    windows = [turned_round(name, image, axis, *each) for axis, each in enumerate(zip(forward, added, strict=True), 2)]
    value = image.value
    for axis, window in enumerate(forward, 2):
        value = spread_out(value, axis, window.stride)
    split = flip(kernel, tuple(range(2, kernel.ndim))).reshape(groups, -1, *kernel.shape[1:]).transpose(1, 2)
    result = over_groups(surrounded(name, as_tensor(value), windows), split, shift, windows)
    return result.squeeze(0) if alone else result


def turned_round(name: str, x: Tensor, axis: int, window: Window, more: int) -> Window:
    """The window of the convolution that is the adjoint of one, with `more` places at the end."""
    most = max(window.stride, window.dilation)
    if more >= most:
        raise ArgumentError(
            f"{name}: output_padding={more} must be below the stride or the dilation, here {most}", user_origin()
        )
    places = add(transposed_extent(x.value.shape[axis], window), more)
    if isinstance(places, int) and places < 1:
        raise ShapeError(f"{name} of {x.type}: padding={window.before} leaves nothing of axis {axis}", user_origin())
    before = window.reach - 1 - window.before
    return Window(window.size, 1, window.dilation, before, before + more)


def over_groups(x: Tensor, kernel: Tensor, bias: Tensor | None, windows: Sequence[Window]) -> Tensor:
    """x [n, groups * in, ...] and kernel [groups, out, in, *sizes] -> [n, groups * out, *positions]."""
    groups, features, inputs, *sizes = kernel.shape
    n, _, *extents = x.value.shape
    apart = x.reshape(n, groups, inputs, *extents)
    is_depthwise = groups > 1 and inputs == 1 and math.prod(sizes) <= MOST_TERMS
    shift = None if bias is None else bias.reshape(groups, features)
    result = (sum_over_places if is_depthwise else product)(apart, kernel, shift, windows)
    return result.reshape(n, groups * features, *result.value.shape[3:])


def product(x: Tensor, kernel: Tensor, bias: Tensor | None, windows: Sequence[Window]) -> Tensor:
    """x [n, groups, in, ...], kernel [groups, out, in, *sizes], bias [groups, out] -> [n, groups, out, *positions].

    The bias joins before the positions become axes again, so that it and what follows are part of the product's loops.
    """
    groups, features, *rest = kernel.shape
    seen = under_windows(x, windows)
    n, positions, depth = x.value.shape[0], seen.value.shape[2 + len(rest) :], math.prod(rest)
    right = seen.reshape(n, groups, depth, multiply(*positions))
    left = kernel.reshape(1, groups, features, depth).broadcast_to(n, groups, features, depth)
    result = apply(ops.dot, left.value, right.value)
    if bias is not None:
        result = result + bias.reshape(1, groups, features, 1)
    return result.reshape(n, groups, features, *positions)


def sum_over_places(x: Tensor, kernel: Tensor, bias: Tensor | None, windows: Sequence[Window]) -> Tensor:
    """The same for groups of one input, which leave a product of matrices nothing to do."""
    groups, features, _, *sizes = kernel.shape
    pieces, scalars = [x], [1] * len(sizes)
    for axis, window in enumerate(windows, 3):
        pieces = [place for piece in pieces for place in places_under(piece, axis, window)]
    weights = kernel.reshape(groups, features, math.prod(sizes))
    terms = [
        piece * narrow(weights, 2, place, 1).reshape(groups, features, *scalars) for place, piece in enumerate(pieces)
    ]
    total = reduce(operator.add, terms)
    return total if bias is None else total + bias.reshape(groups, features, *scalars)


def operands(
    name: str, axes: int, x: Any, weight: Any, bias: Any, groups: int, transposed: bool
) -> tuple[Tensor, Tensor, Tensor | None, bool]:
    """x [n, channels, ...], weight and bias as floats of one dtype, and whether x came without n.

    Raises for a weight that is not of x's channels, a bias that is not of the result's, and for wrong groups.
    """
    given, kernel, *shift = as_floats(x, weight) if bias is None else as_floats(x, weight, bias)
    image, alone = with_batch(name, given, axes)
    check_groups(name, groups)
    pair = f"{name} of {image.type} and weight {kernel.type}"
    if kernel.ndim != axes + 2 or not all(isinstance(extent, int) for extent in kernel.shape):
        layout = "[in, out / groups, ...]" if transposed else "[out, in / groups, ...]"
        raise ShapeError(f"{pair}: the weight is {layout}, {axes + 2} axes of fixed size", user_origin())
    first, second, *_ = kernel.shape
    channels, features = (first, second * groups) if transposed else (second * groups, first)
    if image.shape[1] != channels:
        raise ShapeError(f"{pair}: x has {image.shape[1]} channels, the weight is for {channels}", user_origin())
    check_groups(name, groups, channels, features)
    if shift and shift[0].shape != (features,):
        raise ShapeError(f"{pair}: bias is {shift[0].type}, the result has {features} channels", user_origin())
    return image, kernel, shift[0] if shift else None, alone


def check_groups(name: str, groups: int, *channels: int) -> None:
    """Raise for groups that are no whole number, or do not divide the channels."""
    (number,) = for_axes(name, "groups", groups, 1)
    if any(count % number for count in channels):
        raise ArgumentError(
            f"{name}: groups={groups} does not divide {' and '.join(map(str, channels))} channels", user_origin()
        )


def transposed_extent(extent: Extent, window: Window) -> Extent:
    """How many places an adjoint convolution has along an axis, output padding apart."""
    return add(multiply(subtract(extent, 1), window.stride), window.reach - 2 * window.before)


def convolution_windows(
    name: str, sizes: Sequence[int], stride: Any, padding: Any, dilation: Any
) -> tuple[Window, ...]:
    """The windows of a weight, with PyTorch's meaning of padding "same" and "valid"."""
    if not isinstance(padding, str):
        return windows_of(name, sizes, stride, padding, dilation)
    if padding not in ("same", "valid"):
        raise ArgumentError(
            f'{name}: padding={padding!r} is not a choice; use numbers, "same" or "valid"', user_origin()
        )
    windows = windows_of(name, sizes, stride, 0, dilation)
    if padding == "valid":
        return windows
    if any(window.stride != 1 for window in windows):
        raise ArgumentError(f'{name}: padding="same" goes with stride 1, got stride={stride}', user_origin())
    halves = [(window.reach - 1) // 2 for window in windows]
    return tuple(
        replace(window, before=half, after=window.reach - 1 - half)
        for window, half in zip(windows, halves, strict=True)
    )

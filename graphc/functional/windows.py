"""Windows over the last axes of a tensor: what convolutions multiply and pools combine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from graphc.errors import ArgumentError, ShapeError
from graphc.functional.padding import pad
from graphc.ir import ops
from graphc.ir.frozen import dataclass
from graphc.ir.graph import user_origin
from graphc.ir.ops.view import window_vjp
from graphc.ir.types import Extent, add, divide, multiply, subtract
from graphc.settings import is_whole, shown
from graphc.tensor import Tensor, apply, as_floats, as_tensor
from graphc.tensor.indexing import Part, cut

__all__ = ["fold", "unfold"]

Numbers = int | Sequence[int]


@dataclass(frozen=True, slots=True)
class Window:
    """How a window moves along one axis.

    size           places under it, `dilation` apart
    stride         places between its positions
    before, after  places added at the ends of the axis; negative ones are taken away
    """

    size: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @property
    def reach(self) -> int:
        """How wide it is, gaps included."""
        return self.dilation * (self.size - 1) + 1

    def padded(self, extent: Extent) -> Extent:
        return add(extent, self.before, self.after)

    def positions(self, extent: Extent) -> Extent:
        """How many positions it has along an axis; 0 where it is too wide, or where that depends on the axis's size."""
        free = subtract(self.padded(extent), self.reach)
        if isinstance(free, int):
            return max(free // self.stride + 1, 0)
        steps = divide(free, self.stride)
        return 0 if steps is None else add(steps, 1)


def for_axes(name: str, setting: str, given: Any, axes: int, least: int = 1) -> tuple[int, ...]:
    """One whole number for each axis; a single one stands for all. Raises ArgumentError for others."""
    numbers = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    if not all(map(is_whole, numbers)):
        several = f" or one for each of {axes} axes" if axes > 1 else ""
        raise ArgumentError(f"{name}: {setting}={shown(given)} must be a whole number{several}", user_origin())
    if len(numbers) not in (1, axes):
        raise ArgumentError(f"{name}: {setting}={given} has {len(numbers)} numbers for {axes} axes", user_origin())
    if min(numbers) < least:
        raise ArgumentError(f"{name}: {setting}={given} must be at least {least}", user_origin())
    return tuple(int(number) for number in numbers) * (axes if len(numbers) == 1 else 1)


def windows_of(name: str, sizes: Sequence[int], stride: Any, padding: Any, dilation: Any) -> tuple[Window, ...]:
    """One window for each axis, with the same padding at both ends."""
    axes = len(sizes)
    return tuple(
        Window(size, step, gap, ends, ends)
        for size, step, gap, ends in zip(
            sizes,
            for_axes(name, "stride", stride, axes),
            for_axes(name, "dilation", dilation, axes),
            for_axes(name, "padding", padding, axes, least=0),
            strict=True,
        )
    )


def as_image(name: str, x: Any, axes: int) -> Tensor:
    """x [n, channels, ...] or [channels, ...], of floats."""
    (tensor,) = as_floats(x)
    if tensor.ndim not in (axes + 1, axes + 2):
        raise ShapeError(
            f"{name} of {tensor.type}: it takes {axes + 2} axes, or {axes + 1} without n: [n, channels, ...]",
            user_origin(),
        )
    return tensor


def with_batch(name: str, x: Any, axes: int) -> tuple[Tensor, bool]:
    """x [n, channels, ...] of floats, and whether it came without n."""
    tensor = as_image(name, x, axes)
    alone = tensor.ndim == axes + 1
    return (tensor.unsqueeze(0) if alone else tensor), alone


def surrounded(name: str, x: Tensor, windows: Sequence[Window], fill: float = 0.0) -> Tensor:
    """x with places of one number added at the ends of its last axes.

    Raises ShapeError where a window does not fit.
    """
    first = x.ndim - len(windows)
    for axis, window in enumerate(windows, first):
        check_positions(name, x, axis, window)
    return pad(x, ends_of(windows), value=fill) if any(ends_of(windows)) else x


def ends_of(windows: Sequence[Window]) -> list[int]:
    """The places added at the ends, as `pad` takes them: of the last axis first."""
    return [places for window in reversed(windows) for places in (window.before, window.after)]


def check_positions(name: str, x: Tensor, axis: int, window: Window) -> None:
    extent = x.value.shape[axis]
    if window.positions(extent) != 0:
        return
    padded = window.padded(extent)
    if isinstance(padded, int):
        found = f"a window of {window.reach} places is longer than axis {axis}, which is {padded} with its padding"
    else:
        found = f"a window of {window.reach} places that moves by {window.stride} needs a fixed size of axis {axis}"
    raise ShapeError(f"{name} of {x.type}: {found}", user_origin())


def under_windows(x: Tensor, windows: Sequence[Window]) -> Tensor:
    """[..., *extents], surrounded -> [..., *sizes, *positions]: what stands under the windows at their positions."""
    axes, first = len(windows), x.ndim - len(windows)
    seen = apply(ops.window, x.value, **moves(first, windows))
    return seen.permute(*range(first), *range(first + axes, seen.ndim), *range(first, first + axes))


def moves(first: int, windows: Sequence[Window]) -> dict[str, tuple[int, ...]]:
    """Windows over the axes from `first` on, as the op takes them."""
    return {
        "axes": tuple(range(first, first + len(windows))),
        "size": tuple(window.size for window in windows),
        "stride": tuple(window.stride for window in windows),
        "dilation": tuple(window.dilation for window in windows),
    }


def unfold(x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """x [n, channels, height, width] -> [n, channels * window, positions]: what a window of kernel_size sees.

    Sizes are one number or two. x may lack n. Raises ShapeError where the window does not fit.
    """
    image, alone = with_batch("unfold", x, 2)
    windows = windows_of("unfold", for_axes("unfold", "kernel_size", kernel_size, 2), stride, padding, dilation)
    seen = under_windows(surrounded("unfold", image, windows), windows)
    n, channels, rows, columns, *places = seen.shape
    result = seen.reshape(n, channels * rows * columns, math.prod(places))
    return result.squeeze(0) if alone else result


def fold(x: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """x [n, channels * window, positions] -> [n, channels, *output_size]: the sum of all windows over each place.

    The adjoint of unfold, with its settings; x may lack n. Raises ShapeError for other shapes of x.
    """
    columns, alone = with_batch("fold", x, 1)
    extents = for_axes("fold", "output_size", output_size, 2)
    sizes = for_axes("fold", "kernel_size", kernel_size, 2)
    windows = windows_of("fold", sizes, stride, padding, dilation)
    places = [window.positions(extent) for window, extent in zip(windows, extents, strict=True)]
    n, depth, count = columns.shape
    size, wanted = math.prod(sizes), multiply(*places)
    if not isinstance(depth, int) or depth % size or count != wanted or wanted == 0:
        takes = f"[n, channels * {size}, {wanted}]"
        raise ShapeError(
            f"fold of {columns.type}: windows of {list(sizes)} over {list(extents)} are {takes}", user_origin()
        )
    apart = columns.reshape(n, depth // size, *sizes, *places)
    result = overlapped(apart.permute(0, 1, 4, 5, 2, 3), extents, windows)
    return result.squeeze(0) if alone else result


def overlapped(x: Tensor, extents: Sequence[Extent], windows: Sequence[Window]) -> Tensor:
    """[..., *positions, *sizes] -> [..., *extents]: the sum of all windows over each place."""
    outer = x.value.shape[: -2 * len(windows)]
    padded = (window.padded(extent) for window, extent in zip(windows, extents, strict=True))
    whole = ops.full(value=0.0, type=x.type.with_shape((*outer, *padded)))
    (total,) = window_vjp(x.value, ops.window(whole, **moves(len(outer), windows)), whole)
    start = (*[0] * len(outer), *(window.before for window in windows))
    return apply(ops.pad, total, start=start, shape=(*outer, *extents))


def places_under(x: Tensor, axis: int, window: Window) -> list[Tensor]:
    """For each place under a window, what stands there at all its positions along an axis of x, surrounded.

    Steps between positions become an axis of their own, so that every place is a slice without steps: gradients of such
    slices are sums of padded arrays, not of arrays spread out.
    """
    value, shape = x.value, x.value.shape
    count = Window(window.size, window.stride, window.dilation).positions(shape[axis])
    places, stride = range(0, window.reach, window.dilation), window.stride
    if stride == 1 or count == 1:
        return [as_tensor(cut(value, {axis: Part(place, 1, count)})) for place in places]
    blocks = add(count, (window.reach - 1) // stride)
    before, after = shape[:axis], shape[axis + 1 :]
    whole = apply(ops.pad, value, start=(0,) * x.ndim, shape=(*before, multiply(blocks, stride), *after))
    phases = whole.reshape(*before, blocks, stride, *after).transpose(axis, axis + 1).value
    parts = (
        cut(phases, {axis: Part(each % stride, 1, 1), axis + 1: Part(each // stride, 1, count)}) for each in places
    )
    return [as_tensor(part).squeeze(axis) for part in parts]

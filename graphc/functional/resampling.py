"""Images made larger, and channels moved: the same numbers in other places, or several times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.graph import user_origin
from graphc.settings import check_choice, check_whole, is_number, shown
from graphc.tensor import Tensor, as_tensor

__all__ = ["channel_shuffle", "interpolate", "pixel_shuffle", "pixel_unshuffle"]

MODES = ("nearest", "nearest-exact")


def interpolate(
    x: Any,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
) -> Tensor:
    """x [n, channels, ...] with every element repeated along the axes behind the channels.

    size          the new sizes, whole multiples of the old ones; one number stands for all axes
    scale_factor  the whole multiples themselves, where size is left out
    mode          "nearest"; "nearest-exact" is the same for whole multiples

    Raises ArgumentError for other modes and settings, ShapeError for a size that is no multiple.
    """
    check_resampling(size, scale_factor, mode)
    tensor = as_tensor(x)
    if tensor.ndim < 3:
        raise ShapeError(f"interpolate of {tensor.type}: it takes [n, channels, ...]", user_origin())
    old = tensor.shape[2:]
    factors = for_each(scale_factor, len(old)) if size is None else multiples(tensor, for_each(size, len(old)))
    apart = [extent for each in old for extent in (each, 1)]
    repeated = [extent for each, factor in zip(old, factors, strict=True) for extent in (each, int(factor))]
    together = [each * int(factor) for each, factor in zip(old, factors, strict=True)]
    first = tensor.shape[:2]
    return tensor.reshape(*first, *apart).expand(*first, *repeated).reshape(*first, *together)


def check_resampling(size: Any, scale_factor: Any, mode: str) -> None:
    """Raise ArgumentError for settings that `interpolate` does not take."""
    check_choice("mode", mode, MODES)
    if (size is None) == (scale_factor is None):
        raise ArgumentError(
            f"give size or scale_factor, one of them; got size={size}, scale_factor={scale_factor}", user_origin()
        )
    given = scale_factor if size is None else size
    for number in given if isinstance(given, (tuple, list)) else [given]:
        if not is_number(number) or number < 1 or number % 1 != 0:
            raise ArgumentError(
                f"{shown(number)} is not a whole number of at least 1; images grow by whole multiples", user_origin()
            )


def for_each(given: Any, count: int) -> list[Any]:
    """One number for each of `count` axes."""
    if not isinstance(given, (tuple, list)):
        return [given] * count
    if len(given) != count:
        raise ShapeError(f"interpolate: {list(given)} has {len(given)} numbers for {count} axes", user_origin())
    return list(given)


def multiples(x: Tensor, size: list[int]) -> list[int]:
    for old, new in zip(x.shape[2:], size, strict=True):
        if not isinstance(old, int) or new % old:
            raise ShapeError(f"interpolate of {x.type}: size {new} is no whole multiple of {old}", user_origin())
    return [new // old for old, new in zip(x.shape[2:], size, strict=True)]


def pixel_shuffle(x: Any, upscale_factor: int) -> Tensor:
    """[..., channels * r**2, height, width] -> [..., channels, height * r, width * r] with r = upscale_factor.

    Source: Shi et al. 2016, Real-Time Single Image and Video Super-Resolution, section 3.2.
    """
    tensor, r = as_tensor(x), check_whole("upscale_factor", upscale_factor, 1)
    check_image("pixel_shuffle", tensor, 0, r * r)
    *first, channels, height, width = tensor.shape
    outer = len(first)
    apart = tensor.reshape(*first, channels // (r * r), r, r, height, width)
    moved = apart.permute(*range(outer), outer, outer + 3, outer + 1, outer + 4, outer + 2)
    return moved.reshape(*first, channels // (r * r), height * r, width * r)


def pixel_unshuffle(x: Any, downscale_factor: int) -> Tensor:
    """[..., channels, height * r, width * r] -> [..., channels * r**2, height, width] with r = downscale_factor."""
    tensor, r = as_tensor(x), check_whole("downscale_factor", downscale_factor, 1)
    for axis in (1, 2):
        check_image("pixel_unshuffle", tensor, axis, r)
    *first, channels, height, width = tensor.shape
    outer = len(first)
    apart = tensor.reshape(*first, channels, height // r, r, width // r, r)
    moved = apart.permute(*range(outer), outer, outer + 2, outer + 4, outer + 1, outer + 3)
    return moved.reshape(*first, channels * r * r, height // r, width // r)


def channel_shuffle(x: Any, groups: int) -> Tensor:
    """[n, channels, ...] with the first channel of each group first, then their second ones, and so on.

    Source: Zhang et al. 2018, ShuffleNet, figure 1.
    """
    tensor = as_tensor(x)
    check_whole("groups", groups, 1)
    channels = tensor.shape[1] if tensor.ndim > 2 else None
    if not isinstance(channels, int) or channels % groups:
        raise ShapeError(f"channel_shuffle: {groups} groups do not divide the channels of {tensor.type}", user_origin())
    n, _, *rest = tensor.shape
    apart = tensor.reshape(n, groups, channels // groups, *rest)
    return apart.permute(0, 2, 1, *range(3, apart.ndim)).reshape(tensor.shape)


def check_image(name: str, x: Tensor, axis: int, factor: int) -> None:
    """Axis 0, 1 or 2 of [channels, height, width], the last three, is a fixed multiple of a factor."""
    what = ("channels", "height", "width")[axis]
    extent = x.shape[axis - 3] if x.ndim > 2 else None
    if not isinstance(extent, int) or extent % factor:
        raise ShapeError(
            f"{name} of {x.type}: it takes [..., channels, height, width], the {what} a multiple of {factor}",
            user_origin(),
        )

"""Layers that make images larger, or move numbers between channels and places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc import functional
from graphc.functional.resampling import check_resampling
from graphc.nn.misfit import check_sizes
from graphc.nn.module import Module
from graphc.tensor import Tensor

Sizes = int | Sequence[int] | None
Factors = float | Sequence[float] | None


class Upsample(Module):
    """[n, channels, ...] with every element repeated along the axes behind the channels; see `gx.interpolate`."""

    def __init__(self, size: Sizes = None, scale_factor: Factors = None, mode: str = "nearest") -> None:
        super().__init__()
        check_resampling(size, scale_factor, mode)
        self.size, self.scale_factor, self.mode = size, scale_factor, mode

    def forward(self, x: Any) -> Tensor:
        return functional.interpolate(x, self.size, self.scale_factor, self.mode)

    def extra_repr(self) -> str:
        name = "scale_factor" if self.size is None else "size"
        return f"{name}={getattr(self, name)}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Upsample of mode "nearest", for [n, channels, height, width]."""

    def __init__(self, size: Sizes = None, scale_factor: Factors = None) -> None:
        super().__init__(size, scale_factor)


class PixelShuffle(Module):
    """[..., channels * r**2, height, width] -> [..., channels, height * r, width * r] with r = upscale_factor."""

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        check_sizes("PixelShuffle", upscale_factor=upscale_factor)
        self.upscale_factor = upscale_factor

    def forward(self, x: Any) -> Tensor:
        return functional.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """[..., channels, height * r, width * r] -> [..., channels * r**2, height, width] with r = downscale_factor."""

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        check_sizes("PixelUnshuffle", downscale_factor=downscale_factor)
        self.downscale_factor = downscale_factor

    def forward(self, x: Any) -> Tensor:
        return functional.pixel_unshuffle(x, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """[n, channels, ...] with the first channel of each group first, then their second ones, and so on."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        check_sizes("ChannelShuffle", groups=groups)
        self.groups = groups

    def forward(self, x: Any) -> Tensor:
        return functional.channel_shuffle(x, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"

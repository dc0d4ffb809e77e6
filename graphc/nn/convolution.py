"""Convolution layers. The functions of the same names in graphc.functional say what each computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from graphc import functional, init
from graphc.errors import ShapeError
from graphc.functional.convolution import (
    check_groups,
    convolution,
    convolution_windows,
    transposed_convolution,
    transposed_extent,
)
from graphc.functional.windows import ends_of, for_axes, windows_of
from graphc.ir.graph import user_origin
from graphc.nn.misfit import check_sizes, misfit
from graphc.nn.module import Module, new_parameter
from graphc.settings import check_choice, check_list, check_switch
from graphc.tensor import DType, Tensor, as_tensor

MODES = ("zeros", "reflect", "replicate", "circular")


class ChannelFilter(Module):
    """What convolutions and their adjoints share: weight and bias, settings, and how they are shown.

    weight and bias start evenly in ±1/sqrt(weight.shape[1] * window), window the product of kernel_size.
    """

    axes: ClassVar[int]  # that the window moves along

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        dilation: Any,
        groups: int,
        bias: bool,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_switch("bias", bias)
        check_sizes(name, in_channels=in_channels, out_channels=out_channels)
        check_groups(name, groups, in_channels, out_channels)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = for_axes(name, "kernel_size", kernel_size, self.axes)
        self.stride = for_axes(name, "stride", stride, self.axes)
        self.dilation = for_axes(name, "dilation", dilation, self.axes)

    def reset_parameters(self) -> None:
        """New initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            limit = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -limit, limit)

    def fitted(self, x: Any) -> Tensor:
        """The input, of the right number of axes and channels."""
        tensor, title = as_tensor(x), f"{type(self).__name__}({self.in_channels} -> {self.out_channels})"
        if tensor.ndim not in (self.axes + 1, self.axes + 2):
            takes = f"{self.axes + 2}, or {self.axes + 1} without a batch"
            raise misfit(self, title, f"an input of {tensor.ndim} axes; it takes {takes}", tensor)
        channels = tensor.shape[-self.axes - 1]
        if channels != self.in_channels:
            from graphc.suggestions import for_channels

            advice = for_channels(tensor.value.shape, self.in_channels, self.axes)
            raise misfit(self, title, f"an input of {channels} channels", tensor, advice)
        return tensor

    def extra_repr(self) -> str:
        shown = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        usual = {"padding": 0, "dilation": 1, "output_padding": 0}
        for name, number in usual.items():
            setting = getattr(self, name, None)
            if setting not in (None, (number,) * self.axes):
                shown.append(f"{name}={setting}")
        if self.groups != 1:
            shown.append(f"groups={self.groups}")
        if self.bias is None:
            shown.append("bias=False")
        if self.padding_mode != "zeros":
            shown.append(f"padding_mode={self.padding_mode}")
        return ", ".join(shown)


class Convolution(ChannelFilter):
    """weight [out_channels, in_channels / groups, *kernel_size], bias [out_channels].

    padding       whole numbers, "same" or "valid"
    padding_mode  what stands around: "zeros", or the input in the other modes of `gx.pad`
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, dilation, groups, bias)
        name = type(self).__name__
        self.windows = convolution_windows(name, self.kernel_size, self.stride, padding, self.dilation)
        self.padding = padding if isinstance(padding, str) else for_axes(name, "padding", padding, self.axes, least=0)
        self.padding_mode = check_choice(f"{name}: padding_mode", padding_mode, MODES)
        self.weight = new_parameter((out_channels, in_channels // groups, *self.kernel_size), device, dtype)
        self.bias = new_parameter((out_channels,), device, dtype) if bias else None
        self.reset_parameters()

    def forward(self, x: Any) -> Tensor:
        tensor: Tensor = self.fitted(x)
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            tensor, padding = functional.pad(tensor, ends_of(self.windows), self.padding_mode), 0
        settings = (self.stride, padding, self.dilation, self.groups)
        return convolution(type(self).__name__, self.axes, tensor, self.weight, self.bias, *settings)


class Conv1d(Convolution):
    """[n, in_channels, length] -> [n, out_channels, positions]; the input may lack n."""

    axes = 1


class Conv2d(Convolution):
    """[n, in_channels, height, width] -> [n, out_channels, *positions]; the input may lack n."""

    axes = 2


class Conv3d(Convolution):
    """[n, in_channels, depth, height, width] -> [n, out_channels, *positions]; the input may lack n."""

    axes = 3


class TransposedConvolution(ChannelFilter):
    """weight [in_channels, out_channels / groups, *kernel_size], bias [out_channels]; padding_mode is "zeros"."""

    padding_mode = "zeros"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, dilation, groups, bias)
        name = type(self).__name__
        check_choice(f"{name}: padding_mode", padding_mode, ["zeros"])
        self.padding = for_axes(name, "padding", padding, self.axes, least=0)
        self.output_padding = for_axes(name, "output_padding", output_padding, self.axes, least=0)
        self.weight = new_parameter((in_channels, out_channels // groups, *self.kernel_size), device, dtype)
        self.bias = new_parameter((out_channels,), device, dtype) if bias else None
        self.reset_parameters()

    def forward(self, x: Any, output_size: Sequence[int] | None = None) -> Tensor:
        """output_size  the places of the result along each axis, in place of output_padding"""
        tensor = self.fitted(x)
        added = self.output_padding if output_size is None else self.added_for(tensor, output_size)
        settings = (self.stride, self.padding, added, self.groups, self.dilation)
        return transposed_convolution(type(self).__name__, self.axes, tensor, self.weight, self.bias, *settings)

    def added_for(self, x: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """The output padding that makes results of that size."""
        name = type(self).__name__
        wanted = for_axes(name, "output_size", check_list("output_size", output_size)[-self.axes :], self.axes)
        windows = windows_of(name, self.kernel_size, self.stride, self.padding, self.dilation)
        found = []
        for extent, window, size in zip(x.value.shape[-self.axes :], windows, wanted, strict=True):
            least = transposed_extent(extent, window)
            if not isinstance(least, int) or not 0 <= size - least < window.stride:
                sizes = f"one of {window.stride} sizes from {least}"
                raise ShapeError(f"{name}: output_size={size} of {extent} places is not {sizes}", user_origin())
            found.append(size - least)
        return tuple(found)


class ConvTranspose1d(TransposedConvolution):
    """[n, in_channels, length] -> [n, out_channels, places]; the input may lack n."""

    axes = 1


class ConvTranspose2d(TransposedConvolution):
    """[n, in_channels, height, width] -> [n, out_channels, *places]; the input may lack n."""

    axes = 2


class ConvTranspose3d(TransposedConvolution):
    """[n, in_channels, depth, height, width] -> [n, out_channels, *places]; the input may lack n."""

    axes = 3


class Unfold(Module):
    """[n, channels, height, width] -> [n, channels * window, positions]: what a window sees; see `gx.unfold`."""

    def __init__(self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> None:
        super().__init__()
        windows_of("Unfold", for_axes("Unfold", "kernel_size", kernel_size, 2), stride, padding, dilation)
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, x: Any) -> Tensor:
        return functional.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Unfold):
    """[n, channels * window, positions] -> [n, channels, *output_size]: the adjoint of Unfold; see `gx.fold`."""

    def __init__(
        self, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        for_axes("Fold", "output_size", output_size, 2)
        self.output_size = output_size

    def forward(self, x: Any) -> Tensor:
        return functional.fold(x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, {super().extra_repr()}"

"""Pooling layers. The functions of the same names in graphc.functional say what each computes."""

from __future__ import annotations

from typing import Any, ClassVar

from graphc.functional.pooling import (
    adaptive_avg_pool,
    adaptive_max_pool,
    avg_pool,
    check_pool,
    max_pool,
    output_sizes,
)
from graphc.functional.windows import for_axes
from graphc.nn.module import Module
from graphc.settings import check_divisor, check_switch
from graphc.tensor import Tensor


class Pool(Module):
    """What pools share: a window of kernel_size moved by stride (kernel_size if left out), and what is around."""

    axes: ClassVar[int]  # that the window moves along

    def __init__(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> None:
        super().__init__()
        check_pool(type(self).__name__, self.axes, kernel_size, stride, padding, dilation)
        check_switch("ceil_mode", ceil_mode)
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode


class MaxPool(Pool):
    """The maximum under the window. return_indices: give a pair, the maxima and where each stood."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)
        self.return_indices = check_switch("return_indices", return_indices)

    def forward(self, x: Any) -> Any:
        settings = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices)
        return max_pool(type(self).__name__, self.axes, x, *settings)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(MaxPool):
    """MaxPool of [n, channels, length]; the input may lack n."""

    axes = 1


class MaxPool2d(MaxPool):
    """MaxPool of [n, channels, height, width]; the input may lack n."""

    axes = 2


class MaxPool3d(MaxPool):
    """MaxPool of [n, channels, depth, height, width]; the input may lack n."""

    axes = 3


class AvgPool(Pool):
    """The mean under the window; count_include_pad and divisor_override as in `gx.avg_pool2d`."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, 1, ceil_mode)
        self.count_include_pad = check_switch("count_include_pad", count_include_pad)
        if divisor_override is not None:
            check_divisor("divisor_override", divisor_override)
        self.divisor_override = divisor_override

    def forward(self, x: Any) -> Tensor:
        settings = (self.ceil_mode, self.count_include_pad, self.divisor_override)
        return avg_pool(type(self).__name__, self.axes, x, self.kernel_size, self.stride, self.padding, *settings)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(AvgPool):
    """AvgPool of [n, channels, length]; the input may lack n. It takes no divisor_override."""

    axes = 1

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        settings = {"kernel_size": self.kernel_size, "stride": self.stride, "padding": self.padding}
        for name, setting in settings.items():
            setattr(self, name, for_axes("AvgPool1d", name, setting, 1, least=0))


class AvgPool2d(AvgPool):
    """AvgPool of [n, channels, height, width]; the input may lack n."""

    axes = 2


class AvgPool3d(AvgPool):
    """AvgPool of [n, channels, depth, height, width]; the input may lack n."""

    axes = 3


class AdaptivePool(Module):
    """As many parts along each axis as output_size says, as equal as can be; None keeps an axis."""

    axes: ClassVar[int]  # that are divided

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        output_sizes(type(self).__name__, self.axes, output_size)
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool(AdaptivePool):
    """The mean of each part."""

    def forward(self, x: Any) -> Tensor:
        return adaptive_avg_pool(type(self).__name__, self.axes, x, self.output_size)


class AdaptiveAvgPool1d(AdaptiveAvgPool):
    """[n, channels, length] -> [n, channels, output_size]; the input may lack n."""

    axes = 1


class AdaptiveAvgPool2d(AdaptiveAvgPool):
    """[n, channels, height, width] -> [n, channels, *output_size]; the input may lack n."""

    axes = 2


class AdaptiveAvgPool3d(AdaptiveAvgPool):
    """[n, channels, depth, height, width] -> [n, channels, *output_size]; the input may lack n."""

    axes = 3


class AdaptiveMaxPool(AdaptivePool):
    """The maximum of each part. return_indices: give a pair, the maxima and where each stood."""

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = check_switch("return_indices", return_indices)

    def forward(self, x: Any) -> Any:
        return adaptive_max_pool(type(self).__name__, self.axes, x, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(AdaptiveMaxPool):
    """[n, channels, length] -> [n, channels, output_size]; the input may lack n."""

    axes = 1


class AdaptiveMaxPool2d(AdaptiveMaxPool):
    """[n, channels, height, width] -> [n, channels, *output_size]; the input may lack n."""

    axes = 2


class AdaptiveMaxPool3d(AdaptiveMaxPool):
    """[n, channels, depth, height, width] -> [n, channels, *output_size]; the input may lack n."""

    axes = 3

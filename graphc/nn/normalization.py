"""Normalization layers. The functions of the same names in graphc.functional say what each computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from graphc import functional, init
from graphc.errors import ArgumentError
from graphc.functional.normalization import check_recording
from graphc.ir.graph import user_origin
from graphc.nn.misfit import check_sizes, misfit
from graphc.nn.module import Module, new_parameter
from graphc.settings import check_number, check_switches
from graphc.tensor import DType, Tensor, as_tensor, no_grad


class ChannelNorm(Module):
    """What batch and instance normalization share: scale and offset, and running statistics, one number a channel.

    weight and running_var start at 1, bias and running_mean at 0; num_batches_tracked counts batches.
    """

    axes: ClassVar[tuple[int, ...]]  # how many an input may have

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: Any,
        dtype: DType | None,
        bias: bool,
    ) -> None:
        super().__init__()
        check_sizes(type(self).__name__, num_features=num_features)
        check_switches(affine=affine, track_running_stats=track_running_stats, bias=bias)
        self.num_features, self.eps = num_features, check_number("eps", eps, 0)
        self.momentum = momentum if momentum is None else check_number("momentum", momentum)
        self.affine, self.track_running_stats = affine, track_running_stats
        shape = (num_features,)
        self.weight = new_parameter(shape, device, dtype) if affine else None
        self.bias = new_parameter(shape, device, dtype) if affine and bias else None
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, new_parameter(shape, device, dtype) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", 0 if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget what was seen."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, and nothing seen."""
        self.reset_running_stats()
        start_affine(self)

    def fitted(self, x: Any, channel_axis: int) -> Tensor:
        """The input, of the right number of axes and channels."""
        tensor, title = as_tensor(x), f"{type(self).__name__}({self.num_features})"
        if tensor.ndim not in self.axes:
            takes = " or ".join(map(str, self.axes))
            raise misfit(self, title, f"an input of {tensor.ndim} axes; it takes {takes}", tensor)
        if tensor.shape[channel_axis] != self.num_features:
            raise misfit(self, title, f"an input of {tensor.shape[channel_axis]} channels", tensor)
        return tensor

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm(ChannelNorm):
    """Batch statistics in training, which also move the running ones; the running ones in evaluation.

    momentum             how far a batch moves the running statistics; None for the mean over all batches
    affine, bias         whether there are weight and bias
    track_running_stats  without, evaluation uses batch statistics too

    A step records the moves, so training with running statistics must be traced by one: else TraceError. A batch of one
    sample gives the bias and counts as variance 0 where there is nothing to average over but samples (PyTorch raises).
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, x: Any) -> Tensor:
        tensor = self.fitted(x, channel_axis=1)
        moves = self.training and self.track_running_stats
        own = self.training or self.running_mean is None
        mean, var = (self.running_mean, self.running_var) if moves or not own else (None, None)
        momentum = self.count_batch() if moves else 0.0
        return functional.batch_norm(tensor, mean, var, self.weight, self.bias, own, momentum, self.eps)

    def count_batch(self) -> Any:
        """One more batch seen; returns how far it moves the running statistics."""
        check_recording(type(self).__name__)
        seen = self.num_batches_tracked + 1
        with no_grad():
            self.num_batches_tracked.copy_(seen)
        return 1 / seen.astype(self.running_mean.dtype) if self.momentum is None else self.momentum


class BatchNorm1d(BatchNorm):
    """BatchNorm of [n, channels] or [n, channels, length]."""

    axes = (2, 3)


class BatchNorm2d(BatchNorm):
    """BatchNorm of [n, channels, height, width]."""

    axes = (4,)


class BatchNorm3d(BatchNorm):
    """BatchNorm of [n, channels, depth, height, width]."""

    axes = (5,)


class InstanceNorm(ChannelNorm):
    """Statistics of each sample. With track_running_stats they move the running ones, which evaluation then uses."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, x: Any) -> Tensor:
        least = self.axes[0]
        tensor = self.fitted(x, channel_axis=-least)
        alone = tensor.ndim == least
        result = functional.instance_norm(
            tensor.unsqueeze(0) if alone else tensor,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            self.momentum or 0.0,
            self.eps,
        )
        return result.squeeze(0) if alone else result


class InstanceNorm1d(InstanceNorm):
    """InstanceNorm of [n, channels, length], or of one sample without n."""

    axes = (2, 3)


class InstanceNorm2d(InstanceNorm):
    """InstanceNorm of [n, channels, height, width], or of one sample without n."""

    axes = (3, 4)


class InstanceNorm3d(InstanceNorm):
    """InstanceNorm of [n, channels, depth, height, width], or of one sample without n."""

    axes = (4, 5)


class GroupNorm(Module):
    """Statistics of each of num_groups groups of channels, for each sample; weight and bias [num_channels]."""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_sizes("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        check_switches(affine=affine, bias=bias)
        if num_channels % num_groups:
            raise ArgumentError(f"GroupNorm: {num_groups} groups do not divide {num_channels} channels", user_origin())
        self.num_groups, self.num_channels, self.affine = num_groups, num_channels, affine
        self.eps = check_number("eps", eps, 0)
        self.weight = new_parameter((num_channels,), device, dtype) if affine else None
        self.bias = new_parameter((num_channels,), device, dtype) if affine and bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        start_affine(self)

    def forward(self, x: Any) -> Tensor:
        tensor = as_tensor(x)
        if tensor.ndim < 2 or tensor.shape[1] != self.num_channels:
            found = f"an input of type {tensor.type}; it takes [n, {self.num_channels}, ...]"
            raise misfit(self, f"GroupNorm({self.num_groups}, {self.num_channels})", found, tensor)
        return functional.group_norm(tensor, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class LayerNorm(Module):
    """Statistics over the last axes, those of normalized_shape, which is the shape of weight and bias too."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        check_switches(elementwise_affine=elementwise_affine, bias=bias)
        self.normalized_shape = shape = checked_shape("LayerNorm", normalized_shape)
        self.eps, self.elementwise_affine = check_number("eps", eps, 0), elementwise_affine
        self.weight = new_parameter(shape, device, dtype) if elementwise_affine else None
        self.bias = new_parameter(shape, device, dtype) if elementwise_affine and bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        start_affine(self)

    def forward(self, x: Any) -> Tensor:
        tensor = fitted_last(self, self.normalized_shape, x)
        return functional.layer_norm(tensor, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """Over the root of the mean square of the last axes, those of normalized_shape, which is the shape of weight too.

    eps  the machine epsilon of the input's dtype if left out
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        check_switches(elementwise_affine=elementwise_affine)
        self.normalized_shape = shape = checked_shape("RMSNorm", normalized_shape)
        self.eps = eps if eps is None else check_number("eps", eps, 0)
        self.elementwise_affine = elementwise_affine
        self.weight = new_parameter(shape, device, dtype) if elementwise_affine else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1."""
        start_affine(self)

    def forward(self, x: Any) -> Tensor:
        tensor = fitted_last(self, self.normalized_shape, x)
        return functional.rms_norm(tensor, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class LocalResponseNorm(Module):
    """Each channel over a power of the mean square of `size` channels around it: [n, channels, ...]."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        check_sizes("LocalResponseNorm", size=size)
        self.size, self.alpha = size, check_number("alpha", alpha)
        self.beta, self.k = check_number("beta", beta), check_number("k", k)

    def forward(self, x: Any) -> Tensor:
        return functional.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


def start_affine(layer: Module) -> None:
    """Initial values of the scale and the offset that a layer has: 1 and 0."""
    for name, parameter in layer.named_parameters(recurse=False):
        init.constant_(parameter, 1.0 if name == "weight" else 0.0)


def checked_shape(layer: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    shape = tuple(normalized_shape) if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    if not shape:
        raise ArgumentError(f"{layer}: normalized_shape names no axis", user_origin())
    for size in shape:
        check_sizes(layer, normalized_shape=size)
    return shape


def fitted_last(layer: Module, shape: tuple[int, ...], x: Any) -> Tensor:
    """The input, with the last axes that a layer normalizes over."""
    tensor = as_tensor(x)
    if tensor.shape[-len(shape) :] != shape:
        takes = ", ".join(map(str, shape))
        found = f"an input of type {tensor.type}; it takes [..., {takes}]"
        raise misfit(layer, f"{type(layer).__name__}({takes})", found, tensor)
    return tensor

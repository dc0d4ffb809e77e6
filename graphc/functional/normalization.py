"""Normalization: values brought to mean 0 and variance 1, or to length 1.

The mean comes first and the squared deviations second, so that a large common offset costs no digits. Sources: Ioffe &
Szegedy 2015 (batch), Ba et al. 2016 (layer), Ulyanov et al. 2016 (instance), Wu & He 2018 (group), Zhang & Sennrich
2019 (root mean square), Krizhevsky et al. 2012 (local response).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError, TraceError
from graphc.functional.creation import shape_of
from graphc.ir.graph import user_origin
from graphc.settings import check_number, check_switch, check_whole
from graphc.tensor import Parameter, Tensor, as_floats, as_tensor, matmul, no_grad
from graphc.tensor.arithmetic import maximum, rsqrt, square
from graphc.tensor.diagonals import above_main
from graphc.tensor.reduction import count_of, mean, norm, sum
from graphc.tensor.tracing import current_trace

__all__ = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "normalize",
    "rms_norm",
]


def batch_norm(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """x [n, channels, ...] with each channel brought to mean 0 and variance 1, times weight [channels], plus bias.

    training  use the mean and variance of x over all axes but the channels, and move the running ones [channels]
              towards them by the share `momentum`; else use the running ones

    Running variances divide by one less than the number of values, as in PyTorch. One value a channel has no variance:
    ShapeError in training where the sizes are fixed; in a last batch of 1 it gives the bias and counts as variance 0.
    Raises TraceError for training with running statistics outside of a traced step.
    """
    check_momentum(momentum)
    (tensor,) = as_floats(x)
    check_channels("batch_norm", tensor, running_mean, running_var, weight, bias)
    if check_switch("training", training):
        axes = (0, *range(2, tensor.ndim))
        result = by_own("batch_norm", tensor, axes, running_mean, running_var, momentum, eps)
    else:
        result = by_running("batch_norm", tensor, running_mean, running_var, eps)
    return affine_channels(result, weight, bias)


def instance_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """x [n, channels, ...] with each channel of each sample brought to mean 0 and variance 1, then as in batch_norm.

    use_input_stats  use the mean and variance of x over the axes behind the channels; their means over the samples
                     move the running ones, if there are any. Else use the running ones.

    Raises ShapeError for one value a channel, TraceError for running statistics outside of a traced step.
    """
    check_momentum(momentum)
    (tensor,) = as_floats(x)
    check_channels("instance_norm", tensor, running_mean, running_var, weight, bias)
    if check_switch("use_input_stats", use_input_stats):
        axes = tuple(range(2, tensor.ndim))
        result = by_own("instance_norm", tensor, axes, running_mean, running_var, momentum, eps)
    else:
        result = by_running("instance_norm", tensor, running_mean, running_var, eps)
    return affine_channels(result, weight, bias)


def group_norm(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """x [n, channels, ...] with each group of channels of each sample brought to mean 0 and variance 1.

    weight and bias are [channels]. Raises ShapeError when the groups do not divide the channels.
    """
    (tensor,) = as_floats(x)
    channels = check_channels("group_norm", tensor, weight, bias)
    if channels % check_whole("num_groups", num_groups, 1):
        raise ShapeError(f"group_norm: {num_groups} groups do not divide the channels of {tensor.type}", user_origin())
    groups = tensor.reshape(tensor.shape[0], num_groups, -1)
    return affine_channels(standardized(groups, (2,), eps).reshape(tensor.shape), weight, bias)


def layer_norm(
    x: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """x [..., *normalized_shape] brought to mean 0 and variance 1 over those axes; weight and bias have their shape."""
    (tensor,) = as_floats(x)
    axes = check_last("layer_norm", tensor, normalized_shape, weight, bias)
    return affine(standardized(tensor, axes, eps), weight, bias)


def rms_norm(x: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None) -> Tensor:
    """x / sqrt(mean(x**2) + eps) over the last axes, times weight.

    eps  the machine epsilon of x's dtype if left out
    """
    (tensor,) = as_floats(x)
    axes = check_last("rms_norm", tensor, normalized_shape, weight)
    least = float(np.finfo(tensor.dtype.numpy).eps) if eps is None else check_number("eps", eps, 0)
    return affine(tensor * rsqrt(mean(square(tensor), axes, keepdims=True) + least), weight, None)


def normalize(x: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Tensor:
    """x / max(p-norm of x, eps) along `dim`: vectors of length 1; one of zeros stays as it is."""
    check_number("p", p)
    check_number("eps", eps, 0)
    (tensor,) = as_floats(x)
    return tensor / maximum(norm(tensor, p, dim, keepdims=True), eps)


def local_response_norm(x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x [n, channels, ...] / (k + alpha * a) ** beta, a the mean of x**2 over `size` channels around each.

    Channels beyond the first and the last count as 0.
    """
    check_whole("size", size, 1)
    for name, number in (("alpha", alpha), ("beta", beta), ("k", k)):
        check_number(name, number)
    (tensor,) = as_floats(x)
    channels = check_channels("local_response_norm", tensor)
    distance = above_main((channels, channels))
    band = ((distance >= -(size // 2)) & (distance <= (size - 1) // 2)).astype(tensor.dtype)
    columns = square(tensor).reshape(tensor.shape[0], channels, -1).permute(0, 2, 1)
    sums = matmul(columns, band.T).permute(0, 2, 1).reshape(tensor.shape)
    return tensor / (sums * (alpha / size) + k) ** beta


# -- parts


def check_channels(name: str, x: Tensor, *arrays: Any) -> int:
    """The number of channels of x [n, channels, ...]; the arrays hold one number for each, or are None."""
    channels = x.shape[1] if x.ndim > 1 else None
    if not isinstance(channels, int):
        raise ShapeError(
            f"{name} of {x.type}: it takes [n, channels, ...] with a fixed number of channels", user_origin()
        )
    for array in arrays:
        if array is not None and as_tensor(array).shape != (channels,):
            raise ShapeError(
                f"{name} of {x.type} and {as_tensor(array).type}: it needs one number for each channel", user_origin()
            )
    return channels


def check_last(name: str, x: Tensor, normalized_shape: int | Sequence[int], *arrays: Any) -> tuple[int, ...]:
    """The axes of x that normalized_shape names."""
    shape = shape_of(normalized_shape)
    if not shape or x.ndim < len(shape) or x.value.shape[-len(shape) :] != shape:
        raise ShapeError(f"{name} of {x.type}: its last axes are not {list(shape)}", user_origin())
    for array in arrays:
        if array is not None and as_tensor(array).value.shape != shape:
            raise ShapeError(f"{name} over {list(shape)}: weight or bias is {as_tensor(array).type}", user_origin())
    return tuple(range(x.ndim - len(shape), x.ndim))


def affine(x: Tensor, weight: Any, bias: Any) -> Tensor:
    """x * weight + bias, with those that there are."""
    scaled = x if weight is None else x * weight
    return scaled if bias is None else scaled + bias


def affine_channels(x: Tensor, weight: Any, bias: Any) -> Tensor:
    """The same with one number a channel of x [n, channels, ...]."""
    return affine(x, *(None if each is None else over_channels(each, x) for each in (weight, bias)))


def over_channels(array: Any, x: Tensor) -> Tensor:
    """[channels] shaped to meet x [n, channels, ...]."""
    return as_tensor(array).reshape(-1, *[1] * (x.ndim - 2))


def standardized(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    """x less its mean over the axes, over its standard deviation there."""
    check_number("eps", eps, 0)
    rest = x - mean(x, axes, keepdims=True)
    return rest * rsqrt(mean(square(rest), axes, keepdims=True) + eps)


def by_running(name: str, x: Tensor, running_mean: Any, running_var: Any, eps: float) -> Tensor:
    """x standardized with statistics from elsewhere."""
    check_number("eps", eps, 0)
    if running_mean is None or running_var is None:
        raise ArgumentError(f"{name} without statistics of its own needs running_mean and running_var", user_origin())
    return (x - over_channels(running_mean, x)) * over_channels(rsqrt(as_tensor(running_var) + eps), x)


def by_own(
    name: str, x: Tensor, axes: tuple[int, ...], running_mean: Any, running_var: Any, momentum: Any, eps: float
) -> Tensor:
    """x standardized with its statistics over the axes, towards which the running ones move, if there are any."""
    count = count_of(x, axes)
    if count == 1:
        raise ShapeError(f"{name} of {x.type} in training: one value a channel has no variance", user_origin())
    if running_mean is not None or running_var is not None:
        squares = sum(square(x - mean(x, axes, keepdims=True)), axes)
        move(name, running_mean, mean(x, axes), momentum)
        move(name, running_var, squares / maximum(count - 1, 1), momentum)
    return standardized(x, axes, eps)


def check_momentum(momentum: Any) -> None:
    """It may be a tensor, such as one over the number of batches so far."""
    if not isinstance(momentum, Tensor):
        check_number("momentum", momentum)


def check_recording(name: str) -> None:
    """Raise TraceError where new running statistics cannot be recorded."""
    if current_trace() is None:
        raise TraceError(
            f"{name} in training moves its running statistics, which only a traced step can record",
            user_origin(),
            ["trace it by @gx.step or gx.train_step, or put the model in evaluation mode: net.eval()"],
        )


def move(name: str, running: Any, found: Tensor, momentum: Any) -> None:
    """Record running = (1 - momentum) * running + momentum * found, its rows averaged if it has any."""
    check_recording(name)
    if not isinstance(running, Parameter):
        raise ArgumentError(
            f"{name} in training moves running statistics held by buffers, not by {type(running).__name__}",
            user_origin(),
        )
    with no_grad():
        now = mean(found, 0) if found.ndim > 1 else found
        running.copy_(running * (1 - momentum) + now * momentum)

"""The two halves of a training step, for gradients that come together from elsewhere: several machines, many phones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from graphc.errors import ArgumentError
from graphc.function import Function
from graphc.functional.creation import zeros_like
from graphc.ir.graph import Value, user_origin
from graphc.ir.types import TensorType, bound
from graphc.optim import Optimizer
from graphc.plan import Plan
from graphc.settings import require
from graphc.step import batch_of, model_step, terms_of
from graphc.tensor import Parameter, Tensor, tracing
from graphc.tensor.joining import concat

GRADIENTS = "gradients"


def gradient_step(
    net: Any,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    x: TensorType,
    y: TensorType,
    metrics: Iterable[Any] = (),
    nan: str | None = None,
    max_bytes: int | None = None,
    device: str | None = None,
    precision: str = "highest",
) -> Function:
    """Forward and backward of a module as a function of a batch (x, y); returns loss, metrics and `gradients`.

    gradients  [count], of all parameters that train, in the order of `net.parameters()`, each row by row: the mean over
               the batch if the loss is one. Parameters stay as they are; buffers, such as running means, are updated

    All else as for `train_step`.

    Raises ArgumentError for parameters of several dtypes, which have no one array.
    """

    def gradients(cost: Tensor) -> dict[str, Value]:
        cost.backward()
        slopes = [each.grad if each.grad is not None else zeros_like(each) for each in trained(net.parameters())]
        return {GRADIENTS: concat([slope.reshape(-1) for slope in slopes]).value}

    terms = terms_of(nan=nan, max_bytes=max_bytes, device=device, precision=precision)
    return model_step("gradient_step", net, loss, gradients, x, y, metrics, terms)


def apply_step(optimizer: Any, *, device: str | None = None) -> Function:
    """One update of an optimizer's parameters as a function of `gradients` [count], in the order it was given them.

    device  as for `train_step`
    """
    terms = terms_of(device=device)
    fits = isinstance(optimizer, Optimizer)
    require(fits, "optimizer", optimizer, "an optimizer, such as optim.SGD(net.parameters(), lr=0.1)")
    parameters = list(trained(optimizer.state))
    count = sum(bound(parameter.type.count) for parameter in parameters)
    flat = batch_of(GRADIENTS, TensorType(parameters[0].input.dtype, (count,)))
    with tracing() as trace:
        start = 0
        for parameter in parameters:
            size = bound(parameter.type.count)
            parameter.grad = flat[start : start + size].reshape(*parameter.shape)
            start += size
        optimizer.step()
    updates = tuple((parameter, tensor.value) for parameter, tensor in trace.current.items())
    return Function(Plan("apply_step", ((GRADIENTS, flat.value),), (), updates, "none", user_origin(), terms))


def trained(parameters: Iterable[Parameter]) -> Iterator[Parameter]:
    """Those that have gradients. Raises ArgumentError where there are none, or of several dtypes."""
    found = [each for each in parameters if each.requires_grad]
    kinds = {each.input.dtype for each in found}
    if len(kinds) != 1:
        told = ", ".join(sorted(kinds)) or "none"
        raise ArgumentError(f"the parameters that train must have one dtype, these have {told}", user_origin())
    yield from found

"""The doors: an explicit graph (`function`), a traced loop body (`step`), a module (`train_step` and its kin)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from graphc import functional
from graphc.cuda import check_device
from graphc.errors import TraceError
from graphc.function import Function, Plan
from graphc.ir import ops
from graphc.ir.graph import Origin, Value, user_origin
from graphc.ir.types import TensorType
from graphc.nn import Module, name_parameters
from graphc.tensor import Parameter, Tensor, as_tensor, tracing


def function(
    inputs: Sequence[Tensor],
    outputs: Any = None,
    updates: Mapping[Parameter, Any] | None = None,
    *,
    name: str = "function",
    nan: str | None = None,
) -> Function:
    """Compile an explicit graph.

    inputs   tensors made by `gx.input`, in the order of the call
    outputs  a tensor, or a sequence or mapping of tensors; what the call returns
    updates  new values of parameters, written after everything was read
    nan      "raise": an output that is not finite raises NumericsError and nothing is updated
    """
    named = []
    for tensor in inputs:
        if not isinstance(tensor, Tensor) or tensor.value.op is not ops.input or tensor.value.attrs["role"] != "data":
            raise TraceError("inputs of a function must come from gx.input(name, type)", user_origin())
        named.append((tensor.value.attrs["name"], tensor.value))
    changes = []
    for parameter, new in (updates or {}).items():
        if not isinstance(parameter, Parameter):
            raise TraceError(f"updates are for parameters, not for {parameter!r}", user_origin())
        with tracing() as trace:
            parameter._record(as_tensor(new))
        changes.append((parameter, trace.current[parameter].value))
    results, packed = name_outputs(outputs)
    return Function(Plan(name, tuple(named), results, tuple(changes), packed, wants_finite(nan), user_origin()))


def wants_finite(nan: str | None) -> bool:
    if nan not in (None, "raise"):
        raise TraceError(f'nan={nan!r} is not a choice; use nan="raise" or leave it out', user_origin())
    return nan == "raise"


def name_outputs(outputs: Any) -> tuple[tuple[tuple[str, Value], ...], str]:
    """Results by name, and how to hand them out."""
    if outputs is None:
        return (), "none"
    if isinstance(outputs, Mapping):
        return tuple((name, as_tensor(tensor).value) for name, tensor in outputs.items()), "record"
    if isinstance(outputs, (list, tuple)):
        return tuple((f"result_{number}", as_tensor(tensor).value) for number, tensor in enumerate(outputs)), "tuple"
    return (("result", as_tensor(outputs).value),), "one"


def step(body: Callable[..., Any] | None = None, *, nan: str | None = None) -> Any:
    """Decorator: trace a training-loop body once, from its annotations, and compile it.

    Every parameter needs an annotation such as `gx.f32["batch", 784]`. In-place changes of parameters and `opt.step()`
    become updates; what the body returns is what a call returns.
    """
    if body is None:
        return lambda traced: step(traced, nan=nan)
    origin = user_origin()
    inputs = annotated_inputs(body, origin)
    with tracing() as trace:
        results, packed = name_outputs(body(*(Tensor(value) for _, value in inputs)))
    updates = tuple((parameter, tensor.value) for parameter, tensor in trace.current.items())
    return Function(Plan(body.__name__, inputs, results, updates, packed, wants_finite(nan), origin))


def annotated_inputs(body: Callable[..., Any], origin: Origin | None) -> tuple[tuple[str, Value], ...]:
    try:
        annotations = inspect.get_annotations(body, eval_str=True)
    except NameError as error:
        raise TraceError(f"the annotations of {body.__name__} cannot be read: {error}", origin) from None
    found = []
    for name in inspect.signature(body).parameters:
        kind = annotations.get(name)
        if not isinstance(kind, TensorType):
            raise TraceError(
                f"parameter {name!r} of {body.__name__} needs a tensor type",
                origin,
                [f'annotate it, for example {name}: gx.f32["batch", 784]'],
            )
        found.append((name, ops.input(name=name, role="data", type=kind)))
    return tuple(found)


def train_step(
    net: Any,
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: Any,
    *,
    x: TensorType,
    y: TensorType,
    metrics: Iterable[Any] = (),
    nan: str | None = None,
    device: str = "cpu",
) -> Function:
    """Forward, backward and update of a module as one function of a batch (x, y); returns loss and metrics.

    Traced in training mode. `metrics` are names ("accuracy") or functions of (output, target).
    """
    return model_step("train_step", net, loss, optimizer, x, y, metrics, nan, device)


def eval_step(
    net: Any,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    x: TensorType,
    y: TensorType,
    metrics: Iterable[Any] = (),
    device: str = "cpu",
) -> Function:
    """Loss and metrics of a module on a batch (x, y), traced in evaluation mode; nothing is updated."""
    return model_step("eval_step", net, loss, None, x, y, metrics, None, device)


def predict_step(net: Any, *, x: TensorType, device: str = "cpu") -> Function:
    """A module's output for a batch, traced in evaluation mode."""
    check_device(device)
    source = Tensor(ops.input(name="x", role="data", type=x))
    with in_mode(net, training=False):
        result = net(source)
    return Function(
        Plan("predict_step", (("x", source.value),), (("result", result.value),), (), "one", False, user_origin())
    )


def model_step(
    name: str,
    net: Any,
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: Any,
    x: TensorType,
    y: TensorType,
    metrics: Iterable[Any],
    nan: str | None,
    device: str,
) -> Function:
    check_device(device)
    source, target = (Tensor(ops.input(name=n, role="data", type=kind)) for n, kind in (("x", x), ("y", y)))
    with tracing() as trace, in_mode(net, training=optimizer is not None):
        output = net(source)
        cost = loss(output, target)
        results = [("loss", cost.value)]
        results += [(metric_name(metric), metric_function(metric)(output, target).value) for metric in metrics]
        if optimizer is not None:
            optimizer.zero_grad()
            cost.backward()
            optimizer.step()
    updates = tuple((parameter, tensor.value) for parameter, tensor in trace.current.items())
    inputs = (("x", source.value), ("y", target.value))
    return Function(Plan(name, inputs, tuple(results), updates, "record", wants_finite(nan), user_origin()))


class in_mode:
    """A module in training or evaluation mode for as long as the `with` block runs; its parameters get their names."""

    def __init__(self, net: Any, training: bool) -> None:
        self.net, self.training = net, training

    def __enter__(self) -> None:
        self.modes = []
        if isinstance(self.net, Module):
            name_parameters(self.net)
            self.modes = [(module, module.training) for module in self.net.modules()]
            self.net.train(self.training)

    def __exit__(self, *_: object) -> None:
        for module, mode in self.modes:
            module.training = mode


def metric_name(metric: Any) -> str:
    return metric if isinstance(metric, str) else str(metric.__name__)


def metric_function(metric: Any) -> Callable[[Tensor, Tensor], Tensor]:
    known: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"accuracy": functional.accuracy}
    if callable(metric):
        return metric  # type: ignore[no-any-return]
    if metric not in known:
        raise TraceError(f"unknown metric {metric!r}; known: {', '.join(known)}, or give a function", user_origin())
    return known[metric]

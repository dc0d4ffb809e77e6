"""The doors: an explicit graph (`function`), a traced loop body (`step`), a module (`train_step` and its kin)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from graphc import functional
from graphc.cuda import check_device
from graphc.errors import GradientError, TraceError
from graphc.function import Function
from graphc.ir import ops
from graphc.ir.graph import Graph, Origin, Output, Value, reachable, user_origin
from graphc.ir.rewrite import renewed
from graphc.ir.types import TensorType, bound
from graphc.nn import Module, name_parameters
from graphc.optim import Optimizer
from graphc.plan import Plan, Terms, unique
from graphc.settings import check_choice, check_function, check_number, check_whole, is_called_with, require, shown
from graphc.structure import leaves
from graphc.tensor import Parameter, Tensor, as_tensor, tracing


def function(
    inputs: Sequence[Tensor],
    outputs: Any = None,
    updates: Mapping[Parameter, Any] | None = None,
    *,
    name: str = "function",
    nan: str | None = None,
    max_bytes: int | None = None,
    device: str | None = None,
    precision: str = "highest",
) -> Function:
    """Compile an explicit graph.

    inputs   tensors made by `gx.input`, in the order of the call
    outputs  a tensor, or a sequence or mapping of tensors; what the call returns
    updates  new values of parameters, written after everything was read
    nan      "raise": an output that is not finite raises NumericsError and nothing is updated
    max_bytes  at most so much memory to work in: what would lie idle is computed again instead, to the same bits; where
               that is not enough or takes half as long again, rows of a batch are taken in slices (see train_step).
               Not on a GPU
    device     "cpu", "cuda", or "auto": the GPU where there is one; None: the GPU if a parameter that it works on was
               sent there, as by net.cuda()
    precision  of matrix products on a GPU: "highest" is float32 throughout; with "tf32" and "bf16" what
               large products multiply is rounded to these, for tensor cores; numbers are kept, and added up, in float32
    """
    terms = terms_of(nan=nan, max_bytes=max_bytes, device=device, precision=precision)
    require(isinstance(name, str), "name", name, "a text")
    check_several("inputs", inputs, "a list of tensors made by gx.input; a body of Python is compiled by @gx.step")
    named: list[tuple[str, Value]] = []
    for tensor in inputs:
        if not isinstance(tensor, Tensor) or tensor.value.op is not ops.input or tensor.value.attrs["role"] != "data":
            text = f"inputs of a function must come from gx.input(name, type), not {shown(tensor)}"
            raise TraceError(text, user_origin())
        title = tensor.value.attrs["name"]
        if title in dict(named):
            raise TraceError(
                f"two inputs of a function are called {title!r}; each needs a name of its own", user_origin()
            )
        named.append((title, tensor.value))
    changes = []
    require(updates is None or isinstance(updates, Mapping), "updates", updates, "a dictionary {parameter: new value}")
    for parameter, new in (updates or {}).items():
        if not isinstance(parameter, Parameter):
            raise TraceError(f"updates are for parameters, not for {shown(parameter)}", user_origin())
        with tracing() as trace:
            parameter._record(as_tensor(new))
        changes.append((parameter, trace.current[parameter].value))
    results, packed = name_outputs(outputs)
    return Function(Plan(name, tuple(named), results, tuple(changes), packed, user_origin(), terms))


def check_several(name: str, given: Any, text: str) -> None:
    """Something to go through that is not one tensor, text or array."""
    fits = isinstance(given, Iterable) and not isinstance(given, (Tensor, str, np.ndarray)) and not callable(given)
    require(fits, name, given, text)


def terms_of(
    *, nan: str | None = None, max_bytes: int | None = None, device: str | None = None, precision: str = "highest"
) -> Terms:
    """What the doors take beside what they trace, once it is checked."""
    finite = check_choice("nan", nan, (None, "raise")) is not None
    limit = None if max_bytes is None else check_whole("max_bytes", max_bytes, 1)
    return Terms(finite, limit, None if device is None else check_device(device, precision), precision)


def name_outputs(outputs: Any) -> tuple[tuple[tuple[str, Value], ...], str]:
    """Results by name, and how to hand them out."""
    if outputs is None:
        return (), "none"
    if isinstance(outputs, Mapping):
        for name in outputs:
            require(isinstance(name, str), "the name of a result", name, "a text")
        return tuple((name, result(tensor)) for name, tensor in outputs.items()), "record"
    if isinstance(outputs, (list, tuple)):
        return tuple((f"result_{number}", result(tensor)) for number, tensor in enumerate(outputs)), "tuple"
    return (("result", result(outputs)),), "one"


def result(given: Any) -> Value:
    nested = isinstance(given, (list, tuple, Mapping)) and any(isinstance(leaf, Tensor) for leaf in leaves(given))
    require(not nested, "a result", given, "a tensor; several are returned in one list, tuple or dictionary")
    return as_tensor(given).value


def step(
    body: Callable[..., Any] | None = None,
    *,
    nan: str | None = None,
    max_bytes: int | None = None,
    device: str | None = None,
    precision: str = "highest",
) -> Any:
    """Decorator: trace a training-loop body once, from its annotations, and compile it.

    Every parameter needs an annotation such as `gx.f32["batch", 784]`. In-place changes of parameters and `opt.step()`
    become updates; what the body returns is what a call returns. `nan`, `max_bytes`, `device` and `precision` are those
    of `function`.
    """
    terms = terms_of(nan=nan, max_bytes=max_bytes, device=device, precision=precision)
    if body is None:
        return lambda traced: step(traced, nan=nan, max_bytes=max_bytes, device=device, precision=precision)
    origin = user_origin()
    fits = inspect.isfunction(body) or inspect.ismethod(body)
    require(fits, "body", body, 'a Python function with annotated parameters, such as x: gx.f32["batch", 784]')
    inputs = annotated_inputs(body, origin)
    with tracing() as trace:
        results, packed = name_outputs(body(*(Tensor(value) for _, value in inputs)))
    updates = tuple((parameter, tensor.value) for parameter, tensor in trace.current.items())
    layers, probes = trace.layers, tuple(trace.probes)
    plan = Plan(body.__name__, inputs, results, updates, packed, origin, terms, layers=layers, probes=probes)
    return Function(plan)


def annotated_inputs(body: Callable[..., Any], origin: Origin | None) -> tuple[tuple[str, Value], ...]:
    try:
        annotations = inspect.get_annotations(body, eval_str=True)
    except (NameError, SyntaxError, AttributeError, TypeError) as error:
        raise TraceError(f"the annotations of {body.__name__} cannot be read: {error}", origin) from None
    found = []
    for name, parameter in inspect.signature(body).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            text = f"parameter {name!r} of {body.__name__} has no place of its own, as the arrays of a step have"
            raise TraceError(text, origin)
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
    max_grad_norm: float | None = None,
    accumulate: int = 1,
    nan: str | None = None,
    max_bytes: int | None = None,
    device: str | None = None,
    precision: str = "highest",
) -> Function:
    """Forward, backward and update of a module as one function of a batch (x, y); returns loss and metrics.

    Traced in training mode. `metrics` are names (of functional/metrics.py: "accuracy", "top5", "f1", "precision",
    "recall", "confusion_matrix", "r2", "mae"), functions of (output, target), or a mapping of names to those. An epoch
    returns means over samples; of a metric that uses `gx.epoch_sum`, its figure for the epoch.
    max_grad_norm  scale the gradients down to this norm, as nn.utils.clip_grad_norm_ does
    accumulate     update on every accumulate-th call, from the mean of the gradients (optim.Accumulate)
    max_bytes      at most so much memory to work in, parameters and their optimizer's numbers apart: values that the
                   backward pass needs are computed again instead of kept, to the same bits. Where that is not enough,
                   or means half as much arithmetic again, the batch is taken in slices of its rows, as long as can be,
                   and gradients are added up before the one update: the same weights to rounding, the same dropout, for
                   every size of the last batch. ArgumentError says how much is needed where neither can be done, and
                   which line looks at all rows at once, as BatchNorm does. Not on a GPU
    device         "cpu", "cuda", or "auto": the GPU where there is one; None: where `net.to` sent the module
    precision      that of `function`
    """
    terms = terms_of(nan=nan, max_bytes=max_bytes, device=device, precision=precision)
    check_whole("accumulate", accumulate, 1)
    if max_grad_norm is not None:
        check_number("max_grad_norm", max_grad_norm, 0)
    if not isinstance(optimizer, Optimizer) or accumulate != 1 or max_grad_norm is not None:
        from graphc.optim.accumulate import Accumulate  # few steps have one

        fits = isinstance(optimizer, (Optimizer, Accumulate))
        require(fits, "optimizer", optimizer, "an optimizer, such as optim.SGD(net.parameters(), lr=0.1)")
        if accumulate != 1 or max_grad_norm is not None:
            optimizer = Accumulate(optimizer, accumulate, max_grad_norm)

    def update(cost: Tensor) -> dict[str, Value]:
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        return {}

    return model_step("train_step", net, loss, update, x, y, metrics, terms)


def eval_step(
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
    """Loss and metrics of a module on a batch (x, y), traced in evaluation mode; nothing is updated. All else as for
    `train_step`."""
    terms = terms_of(nan=nan, max_bytes=max_bytes, device=device, precision=precision)
    return model_step("eval_step", net, loss, None, x, y, metrics, terms)


def predict_step(
    net: Any,
    *,
    x: TensorType,
    nan: str | None = None,
    max_bytes: int | None = None,
    device: str | None = None,
    precision: str = "highest",
) -> Function:
    """A module's output for a batch, traced in evaluation mode. All else as for `train_step`."""
    terms = terms_of(nan=nan, max_bytes=max_bytes, device=device, precision=precision)
    check_net(net)
    source = batch_of("x", x)
    with tracing() as trace, in_mode(net, training=False):
        output = net(source)
    require(isinstance(output, Tensor), "the output of net", output, "one tensor; a @gx.step may return several")
    inputs, results = (("x", source.value),), (("result", output.value),)
    layers, probes = trace.layers, tuple(trace.probes)
    plan = Plan("predict_step", inputs, results, (), "one", user_origin(), terms, layers=layers, probes=probes)
    return Function(plan)


def check_net(net: Any) -> None:
    require(is_part(net, 1), "net", net, "a module of one input, such as nn.Linear(784, 10), or such a function")


def check_loss(loss: Any) -> None:
    text = "a function of (output, target) or a module, such as nn.CrossEntropyLoss()"
    require(is_part(loss, 2), "loss", loss, text)


def is_part(given: Any, inputs: int) -> bool:
    """A function or a module, not a class of modules, that takes so many inputs."""
    return callable(given) and not isinstance(given, type) and is_called_with(getattr(given, "forward", given), inputs)


def batch_of(name: str, kind: Any) -> Tensor:
    """The symbol of a batch of that type."""
    require(isinstance(kind, TensorType), name, kind, 'a tensor type, such as gx.f32["batch", 784] or gx.i64["batch"]')
    return Tensor(ops.input(name=name, role="data", type=kind))


def model_step(
    name: str,
    net: Any,
    loss: Callable[[Tensor, Tensor], Tensor],
    train: Callable[[Tensor], Mapping[str, Value]] | None,
    x: TensorType,
    y: TensorType,
    metrics: Iterable[Any],
    terms: Terms,
) -> Function:
    """A function of a batch that returns loss, metrics and what `train`, given the loss, records and has to show; in
    evaluation mode without it."""
    check_net(net)
    check_loss(loss)
    source, target = batch_of("x", x), batch_of("y", y)
    with tracing() as trace, in_mode(net, training=train is not None):
        output = net(source)
        cost = loss(output, target)
        check_cost(cost)
        measured = {"loss": cost.value}
        for title, metric in named_metrics(metrics).items():
            measured[title] = as_tensor(metric(output, target)).value
        if train is not None:
            measured |= train(cost)
    updates = tuple((parameter, tensor.value) for parameter, tensor in trace.current.items())
    inputs = (("x", source.value), ("y", target.value))
    results, figures = split_at_sums(measured, trace.sums)
    fields, origin = tuple(measured), user_origin()
    layers, probes = trace.layers, tuple(trace.probes)
    plan = Plan(name, inputs, results, updates, "record", origin, terms, fields, figures, layers=layers, probes=probes)
    return Function(plan)


def check_cost(cost: Any) -> None:
    require(isinstance(cost, Tensor), "what loss returns", cost, "one tensor")
    if bound(cost.type.count) != 1:
        text = f"the loss is {cost.type}; it must be one number"
        raise GradientError(text, user_origin(), ["reduce it in the loss: .mean() or .sum()"])


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


def named_metrics(metrics: Iterable[Any]) -> dict[str, Callable[[Tensor, Tensor], Any]]:
    """Metrics by the names of their results."""
    each = [metrics] if isinstance(metrics, str) else metrics
    check_several("metrics", each, "a list of names and functions of (output, target), or a dictionary of those")
    pairs = each.items() if isinstance(each, Mapping) else ((metric_name(metric), metric) for metric in each)
    taken = {"loss"}
    return {unique(str(name), taken): metric_function(metric) for name, metric in pairs}


def metric_name(metric: Any) -> str:
    if isinstance(metric, str):
        return metric
    plain = metric.func if isinstance(metric, partial) else metric
    return str(getattr(plain, "__name__", type(plain).__name__))


def metric_function(metric: Any) -> Callable[[Tensor, Tensor], Any]:
    from graphc.functional.metrics import METRICS  # few steps have metrics

    if callable(metric):
        return check_function("a metric", metric, takes=2)  # type: ignore[no-any-return]
    top = re.fullmatch(r"top(\d+)", str(metric))
    if top:
        return partial(functional.top_k_accuracy, k=int(top[1]))
    if not isinstance(metric, str) or metric not in METRICS:
        from graphc.suggestions import did_you_mean

        known = ", ".join([*METRICS, "top5 (or another number)"])
        text = f"unknown metric {shown(metric)}; known: {known}, or give a function"
        raise TraceError(text, user_origin(), did_you_mean(metric, METRICS))
    return METRICS[metric]


def split_at_sums(
    measured: Mapping[str, Value], sums: Sequence[Value]
) -> tuple[tuple[tuple[str, Value], ...], dict[str, Graph]]:
    """The results a step has to give, and the graphs that make figures of those that are sums over an epoch."""
    results: dict[str, Value] = {}
    figures = {}
    for name, value in measured.items():
        used = set(reachable((value,)))
        held = {f"{name} {number}": each for number, each in enumerate(sums) if each in used}
        results |= held or {name: value}
        if held:
            figures[name] = figure_of(name, value, held)
    return tuple(results.items()), figures


def figure_of(name: str, measured: Value, sums: Mapping[str, Value]) -> Graph:
    """The graph that computes a metric of its sums."""
    inputs = {value: ops.input(name=title, role="data", type=value.type) for title, value in sums.items()}
    new = dict(inputs)
    for value in reachable((measured,)):
        if value not in new:
            new[value] = renewed(value, new)
    figure = Graph(name, tuple(inputs.values()), (Output("result", name, new[measured]),))
    for value in figure.values():
        foreign = value.op in (ops.input, ops.size) and value not in figure.inputs
        if foreign or any(True for _ in value.type.dims()):
            raise TraceError(
                f"metric {name} uses {value.type} of one batch beside sums over an epoch",
                value.origin or user_origin(),
                ["after gx.epoch_sum, compute with such sums only"],
            )
    return figure

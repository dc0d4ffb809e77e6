"""Sample graphs shared by the tests, built from ops the way the layers above build them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import numpy as np

from graphc.ir import ops
from graphc.ir.graph import Graph, Output, Value, in_role
from graphc.ir.types import DTYPES, FLOATS, Dim, Extent, TensorType, evaluate

BATCH = Dim("batch", 256)
Arrays = dict[str, np.ndarray]


def floats(*shape: Extent) -> TensorType:
    return TensorType("f32", shape)


def declare(name: str, role: str, type: TensorType) -> Value:
    return ops.input(name=name, role=role, type=type)


def data(name: str, *shape: Extent) -> Value:
    return declare(name, "data", floats(*shape))


def state(name: str, *shape: Extent) -> Value:
    return declare(name, "state", floats(*shape))


def stretch(x: Value, shape: tuple[Extent, ...]) -> Value:
    """x broadcast to a shape, axes of size 1 added in front."""
    padded = (1,) * (len(shape) - len(x.shape)) + x.shape
    return ops.broadcast(ops.reshape(x, shape=padded), shape=shape)


def total(x: Value) -> Value:
    """The sum of all elements, f32[]."""
    return ops.reshape(ops.sum(x, axes=tuple(range(len(x.shape)))), shape=())


def mean(x: Value) -> Value:
    return ops.div(total(x), ops.size(extent=x.type.count, type=floats()))


def linear(x: Value, weight: Value, bias: Value) -> Value:
    """x[batch,in] times weight[out,in] transposed, plus bias[out]."""
    product = ops.dot(x, ops.transpose(weight, permutation=(1, 0)))
    return ops.add(product, stretch(bias, product.shape))


def log_softmax(logits: Value) -> Value:
    top = ops.stop_gradient(ops.max(logits, axes=(1,)))
    shifted = ops.sub(logits, ops.broadcast(top, shape=logits.shape))
    scale = ops.log(ops.sum(ops.exp(shifted), axes=(1,)))
    return ops.sub(shifted, ops.broadcast(scale, shape=logits.shape))


def class_numbers(logits: Value) -> Value:
    return ops.iota(axis=1, type=logits.type.with_dtype("i64"))


def cross_entropy(logits: Value, labels: Value) -> Value:
    """The mean over the batch of -log softmax(logits)[label]."""
    batch, classes = logits.shape
    checked = ops.require_range(labels, low=0, high=classes, message="labels of cross_entropy")
    wanted = ops.broadcast(ops.reshape(checked, shape=(batch, 1)), shape=logits.shape)
    picked = ops.where(ops.equal(class_numbers(logits), wanted), log_softmax(logits), ops.constant(0.0, logits))
    return ops.neg(ops.div(total(picked), ops.size(extent=batch, type=floats())))


def accuracy(logits: Value, labels: Value) -> Value:
    """The share of rows whose first largest element stands at the label."""
    top = ops.broadcast(ops.max(logits, axes=(1,)), shape=logits.shape)
    numbers = class_numbers(logits)
    none = ops.constant(logits.shape[1], numbers)
    first = ops.min(ops.where(ops.equal(logits, top), numbers, none), axes=(1,))
    return mean(ops.cast(ops.equal(ops.reshape(first, shape=labels.shape), labels), dtype="f32"))


def descend(loss: Value, states: Sequence[Value], rate: Value) -> tuple[Output, ...]:
    """Plain gradient descent as update outputs."""
    updates = []
    for parameter in states:
        gradient = ops.gradient(loss, parameter)
        with in_role("update"):
            new = ops.sub(parameter, ops.mul(stretch(rate, parameter.shape), gradient))
        updates.append(Output("update", parameter.attrs["name"], new))
    return tuple(updates)


def linear_regression(batch: Extent = BATCH) -> Graph:
    x, y, w, b = data("x", batch, 2), data("y", batch, 1), state("w", 2, 1), state("b", 1)
    rate = declare("lr", "scalar", floats())
    product = ops.dot(x, w)
    error = ops.sub(ops.add(product, stretch(b, product.shape)), y)
    loss = mean(ops.mul(ops.constant(0.5, error), ops.mul(error, error)))
    return Graph(
        "linear_regression", (x, y, w, b, rate), (Output("result", "loss", loss), *descend(loss, (w, b), rate))
    )


def classifier(name: str, x: Value, logits: Value, labels: Value, states: Sequence[Value]) -> Graph:
    rate = declare("lr", "scalar", floats())
    loss = cross_entropy(logits, labels)
    results = (Output("result", "loss", loss), Output("result", "accuracy", accuracy(logits, labels)))
    return Graph(name, (x, labels, *states, rate), (*results, *descend(loss, states, rate)))


def softmax_regression(batch: Extent = BATCH, features: int = 784, classes: int = 10) -> Graph:
    x, labels = data("x", batch, features), declare("y", "data", TensorType("i64", (batch,)))
    weight, bias = state("weight", classes, features), state("bias", classes)
    return classifier("softmax_regression", x, linear(x, weight, bias), labels, (weight, bias))


def mlp(batch: Extent = BATCH, features: int = 784, hidden: int = 256, classes: int = 10) -> Graph:
    x, labels = data("x", batch, features), declare("y", "data", TensorType("i64", (batch,)))
    states = (
        state("fc1.weight", hidden, features),
        state("fc1.bias", hidden),
        state("fc2.weight", classes, hidden),
        state("fc2.bias", classes),
    )
    logits = linear(ops.relu(linear(x, *states[:2])), *states[2:])
    return classifier("mlp", x, logits, labels, states)


PROGRAMS: tuple[Callable[..., Graph], ...] = (linear_regression, softmax_regression, mlp)


def arrays(program: Callable[..., Graph], batch: int, rng: np.random.Generator) -> Arrays:
    """Input arrays by name for a program made with its own defaults."""
    classes = inspect.signature(program).parameters.get("classes")
    return arrays_of(program(), batch, rng, 2 if classes is None else classes.default)


def arrays_of(graph: Graph, batch: int, rng: np.random.Generator, classes: int = 2) -> Arrays:
    """Input arrays by name: weights as small as the width of their layer asks for, labels below `classes`."""
    made: Arrays = {}
    for value in graph.inputs:
        shape = tuple(evaluate(extent, dict.fromkeys(value.type.dims(), batch)) for extent in value.shape)
        if value.attrs["role"] == "scalar":
            made[value.attrs["name"]] = np.asarray(0.1, np.float32)
        elif value.dtype in FLOATS:
            scale = 1 / np.sqrt(shape[-1]) if value.attrs["role"] == "state" else 1.0
            made[value.attrs["name"]] = (rng.normal(size=shape) * scale).astype(DTYPES[value.dtype])
        else:
            made[value.attrs["name"]] = rng.integers(0, classes, shape).astype(DTYPES[value.dtype])
    return made


def random_array(type: TensorType, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """Numbers of low to high; for integers both included."""
    shape = tuple(evaluate(extent, {}) for extent in type.shape)
    if type.dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if type.dtype in FLOATS:
        return rng.uniform(low, high, shape).astype(DTYPES[type.dtype])
    return rng.integers(int(low), int(high), shape, endpoint=True).astype(DTYPES[type.dtype])

"""The workloads in PyTensor with its numba backend; not the convolutional net."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt

from graphc.bench.workloads import (
    BETAS,
    DECAY,
    EPSILON,
    HEADS,
    HIDDEN,
    LENGTH,
    MOMENTUM,
    PLACES,
    SEED,
    WIDTH,
    Array,
    Workload,
)

pytensor.config.floatX = "float32"

Weights = dict[str, Any]
F = np.float32


def linear(w: Weights, name: str, x: Any) -> Any:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def cross_entropy(scores: Any, y: Any) -> Any:
    """Of scores [n, classes] and labels [n]."""
    return -pt.mean(pt.special.log_softmax(scores, axis=-1)[pt.arange(y.shape[0]), y], dtype="float32")


def regression(workload: Workload, w: Weights, x: Any, y: Any) -> Any:
    return pt.mean((linear(w, "0", x) - y) ** 2, dtype="float32")


def layers(workload: Workload, w: Weights, x: Any, y: Any) -> Any:
    activation = {"relu": lambda h: pt.maximum(h, F(0)), "tanh": pt.tanh, "": None}[workload.activation]
    last = len(workload.initial) // 2 - 1
    random = pt.random.shared_rng(SEED) if workload.dropout else None
    for k in range(last):
        x = activation(linear(w, f"{2 * k}", x))
        if random is not None:
            random, mask = random.bernoulli(F(1 - workload.dropout), size=x.shape)
            x = x * mask.astype("float32") / F(1 - workload.dropout)
    return cross_entropy(linear(w, f"{2 * last}", x), y)


def gelu(a: Any) -> Any:
    return F(0.5) * a * (1 + pt.tanh(F(math.sqrt(2 / math.pi)) * (a + F(0.044715) * a * a * a)))


def chain(workload: Workload, w: Weights) -> Any:
    x = w["x"]
    t = pt.tanh(x)
    u = gelu(F(1.5) * t + F(0.1))
    v = pt.exp(-(u**2))
    s = pt.sigmoid(v * x + u)
    return pt.sum((s * t - F(0.5) * v) ** 2, dtype="float32")


def lstm(workload: Workload, w: Weights, x: Any, y: Any) -> Any:
    given = w["characters.weight"][x.T]  # [length, n, hidden]
    bias = w["recurrent.bias_ih_l0"] + w["recurrent.bias_hh_l0"]
    gates = given @ w["recurrent.weight_ih_l0"].T + bias
    recurrent = w["recurrent.weight_hh_l0"].T

    def step(given: Any, h: Any, c: Any) -> Any:
        together = given + h @ recurrent
        i, f, g, o = (together[:, k * HIDDEN : (k + 1) * HIDDEN] for k in range(4))
        c = pt.sigmoid(f) * c + pt.sigmoid(i) * pt.tanh(g)
        return pt.sigmoid(o) * pt.tanh(c), c

    start = pt.zeros((workload.batch, HIDDEN), "float32")
    states, _ = pytensor.scan(
        step, sequences=[gates], outputs_info=[start, start], n_steps=LENGTH, return_updates=False
    )
    rows = linear(w, "scores", states.reshape((-1, HIDDEN)))
    return cross_entropy(rows, y.T.reshape((-1,)))


def normalized(w: Weights, name: str, x: Any) -> Any:
    centred = x - pt.mean(x, -1, keepdims=True, dtype="float32")
    variance = pt.mean(centred**2, -1, keepdims=True, dtype="float32")
    return centred / pt.sqrt(variance + F(1e-5)) * w[f"{name}.weight"] + w[f"{name}.bias"]


def attention(w: Weights, x: Any, n: int) -> Any:
    given = x @ w["block.self_attn.in_proj_weight"].T + w["block.self_attn.in_proj_bias"]
    q, k, v = (
        given[:, :, part * WIDTH : (part + 1) * WIDTH].reshape((n, PLACES, HEADS, -1)).transpose(0, 2, 1, 3)
        for part in range(3)
    )
    scores = q @ k.transpose(0, 1, 3, 2) * F(1 / math.sqrt(WIDTH // HEADS))
    hidden = np.triu(np.full((PLACES, PLACES), -np.inf, F), 1)
    mixed = pt.special.softmax(scores + hidden, axis=-1) @ v
    return linear(w, "block.self_attn.out_proj", mixed.transpose(0, 2, 1, 3).reshape((n, PLACES, WIDTH)))


def transformer(workload: Workload, w: Weights, x: Any, y: Any) -> Any:
    h = w["characters.weight"][x] + w["places.weight"]
    h = h + attention(w, normalized(w, "block.norm1", h), workload.batch)
    wide = linear(w, "block.linear1", normalized(w, "block.norm2", h))
    wide = F(0.5) * wide * (1 + pt.erf(wide * F(math.sqrt(0.5))))
    h = h + linear(w, "block.linear2", wide)
    rows = linear(w, "scores", normalized(w, "norm", h)).reshape((workload.batch * PLACES, -1))
    return cross_entropy(rows, y.reshape((-1,)))


MODELS: dict[str, Callable[..., Any]] = {
    "regression": regression, "layers": layers, "chain": chain, "lstm": lstm, "transformer": transformer,
}  # fmt: skip


class System:
    """The step as a benchmark calls it. Raises NotImplementedError for nets that are not in MODELS."""

    has_epoch = False  # it would be the same calls
    version = pytensor.__version__

    def __init__(self, workload: Workload, data: tuple[Array, ...], weights: dict[str, Array]) -> None:
        if workload.model not in MODELS:
            raise NotImplementedError(f"{workload.name} is not written for PyTensor")
        self.workload = workload
        self.weights = {name: pytensor.shared(weight, name) for name, weight in weights.items()}
        inputs = [pt.tensor(name, dtype=a.dtype, shape=(None, *a.shape[1:])) for name, a in zip("xy", data)]
        loss = MODELS[workload.model](workload, self.weights, *inputs)
        slopes = pytensor.grad(loss, list(self.weights.values()))
        update = {"sgd": self.sgd, "momentum": self.momentum, "adamw": self.adamw}[workload.optimizer]
        self.slots: list[Any] = []
        updates = update(dict(zip(self.weights.values(), slopes)), F(workload.lr))
        self.native = pytensor.function(inputs, loss, updates=updates, mode="NUMBA", trust_input=True)
        self.first = [(shared, shared.get_value()) for shared in (*self.weights.values(), *self.slots)]

    def slot(self, weight: Any) -> Any:
        self.slots.append(pytensor.shared(np.zeros_like(weight.get_value())))
        return self.slots[-1]

    def sgd(self, slopes: dict[Any, Any], lr: Any) -> dict[Any, Any]:
        return {weight: weight - lr * slope for weight, slope in slopes.items()}

    def momentum(self, slopes: dict[Any, Any], lr: Any) -> dict[Any, Any]:
        found = {}
        for weight, slope in slopes.items():
            velocity = self.slot(weight)
            found[velocity] = F(MOMENTUM) * velocity + slope
            found[weight] = weight - lr * found[velocity]
        return found

    def adamw(self, slopes: dict[Any, Any], lr: Any) -> dict[Any, Any]:
        first, second = map(F, BETAS)
        self.slots.append(pytensor.shared(F(0)))
        found = {self.slots[0]: self.slots[0] + F(1)}
        t = found[self.slots[0]]
        for weight, slope in slopes.items():
            mean, square = self.slot(weight), self.slot(weight)
            found[mean] = first * mean + (1 - first) * slope
            found[square] = second * square + (1 - second) * slope * slope
            size = pt.sqrt(found[square] / (1 - second**t)) + F(EPSILON)
            found[weight] = weight * F(1 - self.workload.lr * DECAY) - lr / (1 - first**t) * found[mean] / size
        return found

    def given(self, batch: tuple[Array, ...]) -> tuple[Array, ...]:
        return batch

    def number(self, found: Any) -> float:
        return float(found)

    def reset(self) -> None:
        for shared, value in self.first:
            shared.set_value(value)

    def step(self, *batch: Array) -> Any:
        return self.native(*batch)

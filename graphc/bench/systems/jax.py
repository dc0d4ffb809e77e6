"""The workloads in JAX: a jitted step whose state is donated, and an epoch as one lax.scan."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from graphc.bench.workloads import (
    BETAS,
    DECAY,
    EPSILON,
    HEADS,
    HIDDEN,
    MOMENTUM,
    SEED,
    WIDTH,
    Array,
    Workload,
)

Weights = dict[str, Any]
Loss = Callable[[Weights, Any, Any, Any], Any]  # of weights, key of random numbers, x, y


def linear(w: Weights, name: str, x: Any) -> Any:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def cross_entropy(scores: Any, y: Any) -> Any:
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(scores), y[..., None], -1))


def regression(w: Weights, key: Any, x: Any, y: Any) -> Any:
    return jnp.mean((linear(w, "0", x) - y) ** 2)


def layers(workload: Workload) -> Loss:
    activation = {"relu": jax.nn.relu, "tanh": jnp.tanh, "": None}[workload.activation]
    last = len(workload.initial) // 2 - 1
    kept = 1 - workload.dropout

    def loss(w: Weights, key: Any, x: Any, y: Any) -> Any:
        for k in range(last):
            x = activation(linear(w, f"{2 * k}", x))
            if workload.dropout:
                x = jnp.where(jax.random.bernoulli(key, kept, x.shape), x / kept, 0)
        return cross_entropy(linear(w, f"{2 * last}", x), y)

    return loss


def lenet(w: Weights, key: Any, x: Any, y: Any) -> Any:
    def convolved(name: str, x: Any, pad: int) -> Any:
        planes = lax.conv_general_dilated(x, w[f"{name}.weight"], (1, 1), [(pad, pad)] * 2)
        maps = jax.nn.relu(planes + w[f"{name}.bias"][:, None, None])
        return lax.reduce_window(maps, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    x = convolved("3", convolved("0", x, 2), 0).reshape(len(x), -1)
    x = jax.nn.relu(linear(w, "9", jax.nn.relu(linear(w, "7", x))))
    return cross_entropy(linear(w, "11", x), y)


def chain(w: Weights, key: Any) -> Any:
    x = w["x"]
    t = jnp.tanh(x)
    u = jax.nn.gelu(1.5 * t + 0.1, approximate=True)
    v = jnp.exp(-(u**2))
    s = jax.nn.sigmoid(v * x + u)
    return jnp.sum((s * t - 0.5 * v) ** 2)


def lstm(w: Weights, key: Any, x: Any, y: Any) -> Any:
    given = w["characters.weight"][x.T]  # [length, n, hidden]
    bias = w["recurrent.bias_ih_l0"] + w["recurrent.bias_hh_l0"]
    gates = given @ w["recurrent.weight_ih_l0"].T + bias
    recurrent = w["recurrent.weight_hh_l0"].T

    def step(states: Any, given: Any) -> Any:
        h, c = states
        i, f, g, o = jnp.split(given + h @ recurrent, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((x.shape[0], HIDDEN), jnp.float32)
    _, states = lax.scan(step, (start, start), gates)
    return cross_entropy(linear(w, "scores", states), y.T)


def normalized(w: Weights, name: str, x: Any) -> Any:
    centred = x - jnp.mean(x, -1, keepdims=True)
    variance = jnp.mean(centred**2, -1, keepdims=True)
    return centred * lax.rsqrt(variance + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def attention(w: Weights, x: Any) -> Any:
    n, places, _ = x.shape
    given = x @ w["block.self_attn.in_proj_weight"].T + w["block.self_attn.in_proj_bias"]
    q, k, v = given.reshape(n, places, 3, HEADS, WIDTH // HEADS).transpose(2, 0, 3, 1, 4)
    scores = jnp.einsum("nhqd,nhkd->nhqk", q, k) / math.sqrt(WIDTH // HEADS)
    seen = jnp.tril(jnp.ones((places, places), bool))
    weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf))
    mixed = jnp.einsum("nhqk,nhkd->nhqd", weights, v).transpose(0, 2, 1, 3).reshape(n, places, WIDTH)
    return linear(w, "block.self_attn.out_proj", mixed)


def transformer(w: Weights, key: Any, x: Any, y: Any) -> Any:
    h = w["characters.weight"][x] + w["places.weight"]
    h = h + attention(w, normalized(w, "block.norm1", h))
    wide = jax.nn.gelu(linear(w, "block.linear1", normalized(w, "block.norm2", h)), approximate=False)
    h = h + linear(w, "block.linear2", wide)
    return cross_entropy(linear(w, "scores", normalized(w, "norm", h)), y)


MODELS: dict[str, Callable[..., Any]] = {
    "regression": regression, "lenet": lenet, "chain": chain, "lstm": lstm, "transformer": transformer,
}  # fmt: skip


def sgd(state: Weights, slopes: Weights, lr: float) -> Weights:
    return {"weights": jax.tree.map(lambda w, g: w - lr * g, state["weights"], slopes)}


def momentum(state: Weights, slopes: Weights, lr: float) -> Weights:
    velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, state["velocity"], slopes)
    return {"weights": jax.tree.map(lambda w, v: w - lr * v, state["weights"], velocity), "velocity": velocity}


def adamw(state: Weights, slopes: Weights, lr: float) -> Weights:
    (first, second), t = BETAS, state["t"] + 1
    mean = jax.tree.map(lambda m, g: first * m + (1 - first) * g, state["mean"], slopes)
    square = jax.tree.map(lambda v, g: second * v + (1 - second) * g * g, state["square"], slopes)

    def moved(w: Any, m: Any, v: Any) -> Any:
        size = jnp.sqrt(v / (1 - second**t)) + EPSILON
        return w * (1 - lr * DECAY) - lr / (1 - first**t) * m / size

    weights = jax.tree.map(moved, state["weights"], mean, square)
    return {"weights": weights, "mean": mean, "square": square, "t": t}


OPTIMIZERS = {"sgd": sgd, "momentum": momentum, "adamw": adamw}
SLOTS: dict[str, tuple[str, ...]] = {"sgd": (), "momentum": ("velocity",), "adamw": ("mean", "square")}


def copied(array: Any) -> Any:
    """On JAX's side, in memory of its own: the step may take over what it is given."""
    return jax.device_put(np.array(array)) if isinstance(array, np.ndarray | np.generic) else array


class System:
    """The step as a benchmark calls it."""

    has_epoch = True
    shuffles = False
    version = jax.__version__

    def __init__(self, workload: Workload, data: tuple[Array, ...], weights: dict[str, Array]) -> None:
        self.workload = workload
        self.first = weights
        self.arrays = data
        loss = MODELS[workload.model] if workload.model in MODELS else layers(workload)
        update = OPTIMIZERS[workload.optimizer]

        def step(state: Weights, *batch: Any) -> tuple[Weights, Any]:
            key, now = jax.random.split(state["key"]) if workload.dropout else (state["key"], None)
            cost, slopes = jax.value_and_grad(loss)(state["weights"], now, *batch)
            return {**update(state, slopes, workload.lr), "key": key}, cost

        def epoch(state: Weights, data: tuple[Any, ...], order: Any) -> tuple[Weights, Any]:
            taken = data if order is None else tuple(array[order] for array in data)
            batches = tuple(array.reshape(workload.steps, workload.batch, *array.shape[1:]) for array in taken)
            state, losses = lax.scan(lambda state, batch: step(state, *batch), state, batches, workload.steps)
            return state, jnp.mean(losses)

        self.native_step = jax.jit(step, donate_argnums=0)
        self.native_epoch = jax.jit(epoch, donate_argnums=0)
        self.reset()

    @cached_property
    def data(self) -> tuple[Any, ...]:
        """The data set where JAX keeps its arrays, made when an epoch asks for it."""
        return tuple(jnp.asarray(array) for array in self.given(self.arrays))

    def given(self, batch: tuple[Array, ...]) -> tuple[Array, ...]:
        """A batch in the types this system takes: whole numbers of 32 bits."""
        return tuple(array.astype("int32") if array.dtype.kind == "i" else array for array in batch)

    def number(self, found: Any) -> float:
        return float(found)

    def reset(self) -> None:
        """Made by NumPy: JAX would compile every zeros_like."""
        zeros = {name: np.zeros_like(weight) for name, weight in self.first.items()}
        state: Weights = dict.fromkeys(SLOTS[self.workload.optimizer], zeros)
        if self.workload.optimizer == "adamw":
            state["t"] = np.float32(0)
        state |= {"weights": self.first, "key": jax.random.key(SEED) if self.workload.dropout else np.uint32(0)}
        self.state = jax.block_until_ready(jax.tree.map(copied, state))

    def step(self, *batch: Array) -> Any:
        self.state, loss = self.native_step(self.state, *batch)
        return loss

    def epoch(self, order: Array | None) -> Any:
        order = None if order is None else order.astype("int32")
        self.state, loss = self.native_epoch(self.state, self.data, order)
        return loss

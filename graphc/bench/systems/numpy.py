"""The workloads in NumPy, gradients by hand: linear layers of any depth, and the elementwise chain."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.bench.workloads import BETAS, DECAY, EPSILON, MOMENTUM, SEED, Array, Workload

F = np.float32
MODELS = ("regression", "layers", "chain")


class System:
    """The step as a benchmark calls it. Raises NotImplementedError for nets other than MODELS."""

    has_epoch = False  # it would be the same calls
    version = np.__version__

    def __init__(self, workload: Workload, data: tuple[Array, ...], weights: dict[str, Array]) -> None:
        if workload.model not in MODELS:
            raise NotImplementedError(f"{workload.name} is not written by hand")
        self.workload, self.first = workload, weights
        self.layers = len(weights) // 2
        self.reset()
        self.step = self.chain if workload.model == "chain" else self.trained

    def given(self, batch: tuple[Array, ...]) -> tuple[Array, ...]:
        return batch

    def number(self, found: Any) -> float:
        return float(found)

    def reset(self) -> None:
        self.weights = {name: weight.copy() for name, weight in self.first.items()}
        self.slots = {name: [np.zeros_like(w), np.zeros_like(w)] for name, w in self.first.items()}
        self.random = np.random.default_rng(SEED)
        self.steps = 0

    def trained(self, x: Array, y: Array) -> Any:
        inputs, masks = [x], []
        for k in range(self.layers - 1):
            h, mask = self.activated(self.linear(k, inputs[-1]))
            inputs.append(h)
            masks.append(mask)
        loss, slope = self.cost(self.linear(self.layers - 1, inputs[-1]), y)
        slopes = {}
        for k in reversed(range(self.layers)):
            slopes[f"{2 * k}.weight"] = slope.T @ inputs[k]
            slopes[f"{2 * k}.bias"] = slope.sum(0)
            if k:
                slope = slope @ self.weights[f"{2 * k}.weight"]
                slope *= masks[k - 1]
        self.update(slopes)
        return loss

    def linear(self, k: int, x: Array) -> Array:
        h = x @ self.weights[f"{2 * k}.weight"].T
        h += self.weights[f"{2 * k}.bias"]
        return h

    def activated(self, h: Array) -> tuple[Array, Array]:
        """(what goes on to the next layer, its derivative)."""
        if self.workload.activation == "tanh":
            np.tanh(h, out=h)
            return h, 1 - h * h
        mask = h > 0
        if not self.workload.dropout:
            return np.maximum(h, 0, out=h), mask
        kept = F(1 - self.workload.dropout)
        scale = (mask & (self.random.random(h.shape, F) < kept)) / kept
        return h * scale, scale

    def cost(self, scores: Array, y: Array) -> tuple[Any, Array]:
        """(the loss, its slope by the scores)."""
        if self.workload.model == "regression":
            apart = scores - y
            return np.mean(apart * apart), apart * F(2 / apart.size)
        scores -= scores.max(1, keepdims=True)
        powers = np.exp(scores)
        totals = powers.sum(1, keepdims=True)
        rows = np.arange(len(y))
        loss = np.mean(np.log(totals[:, 0]) - scores[rows, y])
        powers /= totals
        powers[rows, y] -= 1
        powers *= F(1 / len(y))
        return loss, powers

    def update(self, slopes: dict[str, Array]) -> None:
        self.steps += 1
        lr, optimizer = F(self.workload.lr), self.workload.optimizer
        for name, slope in slopes.items():
            weight = self.weights[name]
            if optimizer == "sgd":
                slope *= lr
                weight -= slope
            elif optimizer == "momentum":
                velocity = self.slots[name][0]
                velocity *= F(MOMENTUM)
                velocity += slope
                weight -= lr * velocity
            else:
                self.adamw(weight, slope, *self.slots[name])

    def adamw(self, weight: Array, slope: Array, mean: Array, square: Array) -> None:
        (first, second), lr = BETAS, self.workload.lr
        mean *= F(first)
        mean += F(1 - first) * slope
        square *= F(second)
        square += F(1 - second) * slope * slope
        size = np.sqrt(square * F(1 / (1 - second**self.steps)))
        size += F(EPSILON)
        weight *= F(1 - lr * DECAY)
        weight -= F(lr / (1 - first**self.steps)) * mean / size

    def chain(self) -> Any:
        x = self.weights["x"]
        t = np.tanh(x)
        a = F(1.5) * t + F(0.1)
        c, cubic = F(math.sqrt(2 / math.pi)), F(0.044715)
        inner = np.tanh(c * (a + cubic * a * a * a))
        u = F(0.5) * a * (1 + inner)
        v = np.exp(-u * u)
        s = 1 / (1 + np.exp(-(v * x + u)))
        z = s * t - F(0.5) * v
        loss = np.sum(z * z)
        dz = 2 * z
        ds = dz * t * s * (1 - s)  # by what goes into the sigmoid
        dv = F(-0.5) * dz + ds * x
        du = ds - 2 * u * v * dv
        da = du * (F(0.5) * (1 + inner) + F(0.5) * a * (1 - inner * inner) * c * (1 + 3 * cubic * a * a))
        dt = dz * s + F(1.5) * da
        x -= F(self.workload.lr) * (dt * (1 - t * t) + ds * v)
        return loss

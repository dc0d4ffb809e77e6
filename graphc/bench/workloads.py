"""The ten workloads: data, first weights, order of the batches and settings, as NumPy; every system is given these.

Weights go by the names that PyTorch's (and graphc's) `state_dict` has for the same net. NumPy only, so that the process
of a peer imports nothing of graphc.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Batches = list[tuple[Array, ...]]
Draw = Callable[[np.random.Generator, int], tuple[Array, ...]]

SEED = 7
MOMENTUM = 0.9
BETAS, EPSILON, DECAY = (0.9, 0.999), 1e-8, 0.01  # of AdamW, PyTorch's defaults
CHARACTERS = 64
WIDTH, HEADS, PLACES = 128, 4, 64  # of the transformer block
HIDDEN, LENGTH = 128, 32  # of the LSTM
ELEMENTS = 4_000_000  # of the elementwise chain


@dataclass(frozen=True)
class Initial:
    """How a weight starts: evenly in ±limit around the centre."""

    shape: tuple[int, ...]
    limit: float
    centre: float = 0.0

    def drawn(self, random: np.random.Generator) -> Array:
        found = random.random(self.shape, np.float32)
        found -= np.float32(0.5)
        found *= np.float32(2 * self.limit)
        found += np.float32(self.centre)
        return found


@dataclass(frozen=True)
class Workload:
    """One training step, and the epoch it is part of.

    model      the kind of net: "regression", "layers", "lenet", "chain", "lstm" or "transformer"
    batch      samples of a step
    steps      of an epoch, one batch after the other or, where `shuffled`, in the order of a permutation drawn for it
    optimizer  "sgd", "momentum" or "adamw"
    draw       (random numbers, samples) -> the arrays of a data set, labels and characters as int64; none for "chain",
               whose only array is its weight
    """

    name: str
    title: str
    model: str
    batch: int
    steps: int
    optimizer: str
    lr: float
    initial: dict[str, Initial]
    draw: Draw
    activation: str = ""
    dropout: float = 0.0
    shuffled: bool = False
    features: tuple[int, ...] = field(default=())

    def data(self) -> tuple[Array, ...]:
        """The arrays of the data set: `steps * batch` samples."""
        return self.draw(np.random.default_rng(SEED), self.steps * self.batch)

    def weights(self) -> dict[str, Array]:
        """The first weights, float32."""
        random = np.random.default_rng(SEED + 1)
        return {name: start.drawn(random) for name, start in self.initial.items()}

    def batches(self, data: tuple[Array, ...]) -> Batches:
        """The data set cut into the batches of an epoch that is not shuffled; empty ones where there is no data."""
        starts = [k * self.batch for k in range(self.steps)]
        return [tuple(array[start : start + self.batch] for array in data) for start in starts]


def linear(name: str, inputs: int, outputs: int, limit: float | None = None) -> dict[str, Initial]:
    """Weight [outputs, inputs] and bias of a linear layer, within ±1/sqrt(inputs) as in PyTorch."""
    reach = inputs**-0.5 if limit is None else limit
    return {f"{name}.weight": Initial((outputs, inputs), reach), f"{name}.bias": Initial((outputs,), reach)}


def norm(name: str) -> dict[str, Initial]:
    return {f"{name}.weight": Initial((WIDTH,), 0.1, 1.0), f"{name}.bias": Initial((WIDTH,), 0.1)}


def stack(*sizes: int, limit: float | None = None) -> dict[str, Initial]:
    """Linear layers with an activation between each two, by their numbers in an nn.Sequential."""
    return {
        name: start
        for k, (inputs, outputs) in enumerate(pairwise(sizes))
        for name, start in linear(f"{2 * k}", inputs, outputs, limit).items()
    }


def lines(random: np.random.Generator, count: int) -> tuple[Array, ...]:
    """Points of a plane with noise: x [count, 2], y [count, 1]."""
    x = random.standard_normal((count, 2), np.float32)
    y = x @ np.array([[2.0], [-3.4]], np.float32) + np.float32(4.2)
    return x, y + np.float32(0.01) * random.standard_normal((count, 1), np.float32)


def points(features: int) -> Draw:
    """x [count, features], and which of 10 random directions each sample points along most, y [count]."""

    def draw(random: np.random.Generator, count: int) -> tuple[Array, ...]:
        x = random.standard_normal((count, features), np.float32)
        return x, np.argmax(x @ random.standard_normal((features, 10), np.float32), axis=1)

    return draw


def images(random: np.random.Generator, count: int) -> tuple[Array, ...]:
    x, y = points(784)(random, count)
    return x.reshape(count, 1, 28, 28), y


def text(length: int) -> Draw:
    """Characters that follow their predecessors most of the time, and the same one place on: int64 [count, length]."""

    def draw(random: np.random.Generator, count: int) -> tuple[Array, ...]:
        following = random.permutation(CHARACTERS)
        places = np.empty((count, length + 1), np.int64)
        places[:, 0] = random.integers(0, CHARACTERS, count)
        for k in range(length):
            strays = random.random(count) < 0.2
            places[:, k + 1] = np.where(strays, random.integers(0, CHARACTERS, count), following[places[:, k]])
        return places[:, :-1].copy(), places[:, 1:].copy()

    return draw


def nothing(random: np.random.Generator, count: int) -> tuple[Array, ...]:
    return ()


LENET = {
    "0.weight": Initial((6, 1, 5, 5), 0.2), "0.bias": Initial((6,), 0.2),
    "3.weight": Initial((16, 6, 5, 5), 150**-0.5), "3.bias": Initial((16,), 150**-0.5),
    **linear("7", 400, 120), **linear("9", 120, 84), **linear("11", 84, 10),
}  # fmt: skip

LSTM = {
    "characters.weight": Initial((CHARACTERS, HIDDEN), 1.0),
    "recurrent.weight_ih_l0": Initial((4 * HIDDEN, HIDDEN), HIDDEN**-0.5),
    "recurrent.weight_hh_l0": Initial((4 * HIDDEN, HIDDEN), HIDDEN**-0.5),
    "recurrent.bias_ih_l0": Initial((4 * HIDDEN,), HIDDEN**-0.5),
    "recurrent.bias_hh_l0": Initial((4 * HIDDEN,), HIDDEN**-0.5),
    **linear("scores", HIDDEN, CHARACTERS),
}

TRANSFORMER = {
    "characters.weight": Initial((CHARACTERS, WIDTH), 1.0),
    "places.weight": Initial((PLACES, WIDTH), 1.0),
    "block.self_attn.in_proj_weight": Initial((3 * WIDTH, WIDTH), WIDTH**-0.5),
    "block.self_attn.in_proj_bias": Initial((3 * WIDTH,), 0.0),
    **linear("block.self_attn.out_proj", WIDTH, WIDTH),
    **linear("block.linear1", WIDTH, 4 * WIDTH),
    **linear("block.linear2", 4 * WIDTH, WIDTH),
    **norm("block.norm1"),
    **norm("block.norm2"),
    **norm("norm"),
    **linear("scores", WIDTH, CHARACTERS),
}

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "W1", "linear regression 2-1, batch 10, SGD", "regression", 10, 100, "sgd", 0.03, linear("0", 2, 1), lines,
            shuffled=True, features=(2,),
        ),
        Workload(
            "W2", "softmax regression 784-10, batch 256, SGD", "layers", 256, 20, "sgd", 0.05, stack(784, 10),
            points(784), features=(784,),
        ),
        Workload(
            "W3", "MLP 784-256-10, batch 256, SGD", "layers", 256, 20, "sgd", 0.1, stack(784, 256, 10), points(784),
            activation="relu", features=(784,),
        ),
        Workload(
            "W4", "MLP 784-256-10, batch 256, dropout 0.5, AdamW", "layers", 256, 20, "adamw", 0.001,
            stack(784, 256, 10), points(784), activation="relu", dropout=0.5, features=(784,),
        ),
        Workload(
            "W5", "20 tanh layers of 64, batch 32, SGD", "layers", 32, 20, "sgd", 0.05,
            stack(*[64] * 21, 10, limit=(6 / 128) ** 0.5), points(64), activation="tanh", features=(64,),
        ),
        Workload("W6", "LeNet-5, batch 64, SGD", "lenet", 64, 20, "sgd", 0.05, LENET, images, features=(1, 28, 28)),
        Workload(
            "W7", "elementwise chain over 4,000,000, SGD", "chain", 0, 20, "sgd", 0.1,
            {"x": Initial((ELEMENTS,), 2.0)}, nothing,
        ),
        Workload(
            "W8", "character LSTM of 128, T 32, batch 32, SGD", "lstm", 32, 20, "sgd", 0.5, LSTM, text(LENGTH),
            features=(LENGTH,),
        ),
        Workload(
            "W9", "transformer block of 128, T 64, batch 16, AdamW", "transformer", 16, 20, "adamw", 0.001,
            TRANSFORMER, text(PLACES), features=(PLACES,),
        ),
        Workload(
            "W10", "MLP 1024-1024-1024-10, batch 512, momentum", "layers", 512, 20, "momentum", 0.05,
            stack(1024, 1024, 1024, 10), points(1024), activation="relu", features=(1024,),
        ),
    )
}  # fmt: skip

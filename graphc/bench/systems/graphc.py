"""The workloads in graphc."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import graphc as gx
from graphc import functional, nn
from graphc.bench.workloads import (
    BETAS,
    CHARACTERS,
    DECAY,
    EPSILON,
    HEADS,
    HIDDEN,
    MOMENTUM,
    PLACES,
    SEED,
    WIDTH,
    Array,
    Workload,
)
from graphc.data import DataLoader, TensorDataset
from graphc.function import Function

OPTIMIZERS: dict[str, Callable[[Iterable[Any], float], gx.optim.Optimizer]] = {
    "sgd": lambda parameters, lr: gx.optim.SGD(parameters, lr=lr),
    "momentum": lambda parameters, lr: gx.optim.SGD(parameters, lr=lr, momentum=MOMENTUM),
    "adamw": lambda parameters, lr: gx.optim.AdamW(parameters, lr, BETAS, EPSILON, DECAY),
}
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


class CharacterLSTM(nn.Module):
    """A score for each next character, from int64 [n, length] to [n, length, characters]."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(CHARACTERS, HIDDEN)
        self.recurrent = nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
        self.scores = nn.Linear(HIDDEN, CHARACTERS)

    def forward(self, x: Any) -> gx.Tensor:
        states, _ = self.recurrent(self.characters(x))
        return self.scores(states)


class Transformer(nn.Module):
    """One causal block that normalizes first, from int64 [n, places] to [n, places, characters]."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(CHARACTERS, WIDTH)
        self.places = nn.Embedding(PLACES, WIDTH)
        self.block = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, 0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.scores = nn.Linear(WIDTH, CHARACTERS)

    def forward(self, x: Any) -> gx.Tensor:
        h = self.block(self.characters(x) + self.places.weight, is_causal=True)
        return self.scores(self.norm(h))


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def layers(workload: Workload) -> nn.Module:
    """Linear layers with an activation, and dropout where the workload has it, between each two."""
    shapes = [start.shape for name, start in workload.initial.items() if name.endswith("weight")]
    modules: list[nn.Module] = []
    for outputs, inputs in shapes:
        modules += [nn.Linear(inputs, outputs)]
        if len(modules) < 2 * len(shapes) - 1:
            modules += [between(workload)]
    return nn.Sequential(*modules)


def between(workload: Workload) -> nn.Module:
    activation = ACTIVATIONS[workload.activation]()
    return nn.Sequential(activation, nn.Dropout(workload.dropout)) if workload.dropout else activation


def net_of(workload: Workload) -> nn.Module:
    models = {"lenet": lenet, "lstm": CharacterLSTM, "transformer": Transformer}
    return models[workload.model]() if workload.model in models else layers(workload)


def loss_of(workload: Workload) -> Any:
    """The loss as a function of (output, target): mean squares, or cross entropy of every guess."""
    if workload.model == "regression":
        return nn.MSELoss()
    if workload.model in ("lstm", "transformer"):
        return lambda scores, y: functional.cross_entropy(scores.flatten(0, 1), y.flatten())
    return nn.CrossEntropyLoss()


def chain_step(weights: dict[str, Array], lr: float, device: str) -> Function:
    """The elementwise chain: no batch, its only array is the parameter."""
    x = gx.parameter("x", weights["x"])
    t = functional.tanh(x)
    u = functional.gelu(1.5 * t + 0.1, approximate="tanh")
    v = functional.exp(-(u**2))
    s = functional.sigmoid(v * x + u)
    z = s * t - 0.5 * v
    loss = (z**2).sum()
    return gx.function([], loss, updates={x: x - lr * gx.grad(loss, x)}, name="chain", device=device)


def compiled(
    workload: Workload, weights: dict[str, Array], device: str = "cpu", precision: str = "highest"
) -> Function:
    """The workload's step, at these weights. Called with a batch, "chain" with nothing."""
    if workload.model == "chain":
        return chain_step(weights, workload.lr, device)
    gx.manual_seed(SEED)
    net = net_of(workload)
    net.load_state_dict(weights)
    n = gx.dim("batch", max=workload.batch)
    x = (
        gx.i64[(n, *workload.features)]
        if workload.model in ("lstm", "transformer")
        else gx.f32[(n, *workload.features)]
    )
    y = {"regression": gx.f32[n, 1], "lstm": x, "transformer": x}.get(workload.model, gx.i64[n])
    optimizer = OPTIMIZERS[workload.optimizer](net.parameters(), workload.lr)
    return gx.train_step(net, loss_of(workload), optimizer, x=x, y=y, device=device, precision=precision)


def loader_of(workload: Workload, data: tuple[Array, ...]) -> DataLoader:
    return DataLoader(TensorDataset(*data), workload.batch, shuffle=workload.shuffled, seed=SEED)


def untouched(array: Array) -> Array:
    """The array; of one that is all zeros, one that takes no memory until it is written to."""
    return array if array.any() else np.zeros(array.shape, array.dtype)


class System:
    """The step as a benchmark calls it."""

    shuffles = True  # itself, in `epoch`
    version = gx.__version__

    def __init__(self, workload: Workload, data: tuple[Array, ...], weights: dict[str, Array]) -> None:
        self.workload = workload
        self.step = compiled(workload, weights)
        self.first = {name: weights.get(name, untouched(array)) for name, array in self.step.state_dict().items()}
        self.has_epoch = bool(data)
        if data:
            self.loader = loader_of(workload, data)

    def given(self, batch: tuple[Array, ...]) -> tuple[Array, ...]:
        """A batch in the types this system takes."""
        return batch

    def number(self, found: Any) -> float:
        """The loss that a step or an epoch gave, once it is known."""
        return float(getattr(found, "loss", found))

    def reset(self) -> None:
        """Back to the first weights and the first epoch."""
        self.step.load_state_dict(self.first)
        if self.has_epoch:
            self.loader.epoch = 0

    def epoch(self, order: Array | None) -> Any:
        """One pass over the data, in the loader's order."""
        return self.step.epoch(self.loader)

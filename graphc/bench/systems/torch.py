"""The workloads in PyTorch, eager."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

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

ACTIVATIONS: dict[str, Callable[[], Any]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


class CharacterLSTM(nn.Module):
    """A score for each next character, from int64 [n, length] to [n, length, characters]."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(CHARACTERS, HIDDEN)
        self.recurrent = nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
        self.scores = nn.Linear(HIDDEN, CHARACTERS)

    def forward(self, x: Any) -> Any:
        states, _ = self.recurrent(self.characters(x))
        return self.scores(states)


class Transformer(nn.Module):
    """One causal block that normalizes first, from int64 [n, places] to [n, places, characters].

    Written out, which is quicker than the forward of nn.TransformerEncoderLayer, whose weights it takes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(CHARACTERS, WIDTH)
        self.places = nn.Embedding(PLACES, WIDTH)
        self.block = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, 0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.scores = nn.Linear(WIDTH, CHARACTERS)

    def forward(self, x: Any) -> Any:
        h, block = self.characters(x) + self.places.weight, self.block
        h = h + self.attended(block.norm1(h))
        h = h + block.linear2(functional.gelu(block.linear1(block.norm2(h))))
        return self.scores(self.norm(h))

    def attended(self, h: Any) -> Any:
        part = self.block.self_attn
        given = functional.linear(h, part.in_proj_weight, part.in_proj_bias)
        q, k, v = given.view(len(h), PLACES, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return part.out_proj(mixed.transpose(1, 2).reshape(len(h), PLACES, WIDTH))


class Chain(nn.Module):
    """The elementwise chain and its loss: no batch, its only array is its parameter."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.zeros(elements))

    def forward(self) -> Any:
        t = torch.tanh(self.x)
        u = functional.gelu(1.5 * t + 0.1, approximate="tanh")
        v = torch.exp(-(u**2))
        s = torch.sigmoid(v * self.x + u)
        return ((s * t - 0.5 * v) ** 2).sum()


def lenet() -> Any:
    """Channels last takes it two thirds of the time."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    ).to(memory_format=torch.channels_last)  # fmt: skip


def layers(workload: Workload) -> Any:
    """Linear layers with an activation, and dropout where the workload has it, between each two."""
    shapes = [start.shape for name, start in workload.initial.items() if name.endswith("weight")]
    modules: list[Any] = []
    for outputs, inputs in shapes:
        modules += [nn.Linear(inputs, outputs)]
        if len(modules) < 2 * len(shapes) - 1:
            activation = ACTIVATIONS[workload.activation]()
            modules += [nn.Sequential(activation, nn.Dropout(workload.dropout)) if workload.dropout else activation]
    return nn.Sequential(*modules)


def net_of(workload: Workload) -> Any:
    models: dict[str, Callable[[], Any]] = {"lenet": lenet, "lstm": CharacterLSTM, "transformer": Transformer}
    if workload.model == "chain":
        return Chain(workload.initial["x"].shape[0])
    return models[workload.model]() if workload.model in models else layers(workload)


def loss_of(workload: Workload, net: Callable[..., Any]) -> Callable[..., Any]:
    """The loss as a function of a batch."""
    if workload.model == "chain":
        return net
    if workload.model == "regression":
        return lambda x, y: functional.mse_loss(net(x), y)
    if workload.model in ("lstm", "transformer"):
        return lambda x, y: functional.cross_entropy(net(x).flatten(0, 1), y.flatten())
    return lambda x, y: functional.cross_entropy(net(x), y)


def optimizer_of(workload: Workload, parameters: Any) -> Any:
    """With the implementation that is the quickest: fused for AdamW, the plain one for SGD."""
    if workload.optimizer == "adamw":
        return torch.optim.AdamW(parameters, workload.lr, BETAS, EPSILON, DECAY, fused=True)
    strength = MOMENTUM if workload.optimizer == "momentum" else 0.0
    return torch.optim.SGD(parameters, workload.lr, strength)


class System:
    """The step as a benchmark calls it."""

    shuffles = False
    version = torch.__version__

    def __init__(self, workload: Workload, data: tuple[Array, ...], weights: dict[str, Array]) -> None:
        threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        torch.set_num_threads(threads)
        self.workload = workload
        self.has_epoch = bool(data)
        self.first = {name: torch.from_numpy(array) for name, array in weights.items()}
        self.data = tuple(torch.from_numpy(array) for array in data)
        self.net = net_of(workload)
        self.reset()
        self.tensor_step = self.trained()

    def trained(self) -> Callable[..., Any]:
        """The step as a function of tensors that gives the loss."""
        loss = loss_of(self.workload, self.net)
        # Large gradients that are given back to the system and fetched again cost page faults.
        forget = self.workload.optimizer != "momentum"

        def step(*batch: Any) -> Any:
            cost = loss(*batch)
            cost.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=forget)
            return cost.detach()

        return step

    def given(self, batch: tuple[Array, ...]) -> tuple[Array, ...]:
        return batch

    def number(self, found: Any) -> float:
        return float(found)

    def reset(self) -> None:
        torch.manual_seed(SEED)
        self.net.load_state_dict(self.first)
        self.optimizer = optimizer_of(self.workload, self.net.parameters())

    def step(self, *batch: Array) -> Any:
        return self.tensor_step(*map(torch.from_numpy, batch))

    def epoch(self, order: Array | None) -> Any:
        """One pass over tensors; the rows of a shuffled one are taken at once."""
        data = self.data
        if order is not None:
            rows = torch.from_numpy(order)
            data = tuple(tensor[rows] for tensor in data)
        total = torch.zeros(())
        for batch in zip(*(tensor.split(self.workload.batch) for tensor in data)):
            total += self.tensor_step(*batch)
        return total / self.workload.steps

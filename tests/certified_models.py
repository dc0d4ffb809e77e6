"""Training steps small enough to be run by hand, so to speak: every element of theirs is counted in tests."""

from __future__ import annotations

import numpy as np

import graphc as gx
from graphc import nn, optim
from graphc.ir.types import FLOATS, evaluate

BOUND = 24


class GRU(nn.Module):
    def __init__(self):
        super().__init__()
        self.characters = nn.Embedding(11, 6)
        self.recurrent = nn.GRU(6, 8, batch_first=True)
        self.scores = nn.Linear(8, 11)

    def forward(self, x):
        states, _ = self.recurrent(self.characters(x))
        return self.scores(states[:, -1])


class Block(nn.Module):
    """A causal transformer block over characters."""

    def __init__(self):
        super().__init__()
        self.characters = nn.Embedding(13, 16)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, 0.1, activation="gelu", batch_first=True, norm_first=True)
        self.scores = nn.Linear(16, 13)

    def forward(self, x):
        return self.scores(self.block(self.characters(x), is_causal=True)[:, -1])


def trained(net, loss, make, x, y):
    return gx.train_step(net, loss, make(net.parameters()), x=x, y=y)


def batch():
    return gx.dim("batch", max=BOUND)


def linear_regression():
    n = batch()
    return trained(nn.Linear(2, 1), nn.MSELoss(), lambda p: optim.SGD(p, lr=0.03), gx.f32[n, 2], gx.f32[n, 1])


def mlp(make, dropout=0.0, features=18, hidden=20):
    n = batch()
    inside = [nn.ReLU(), nn.Dropout(dropout)] if dropout else [nn.ReLU()]
    net = nn.Sequential(nn.Linear(features, hidden), *inside, nn.Linear(hidden, 10))
    return trained(net, nn.CrossEntropyLoss(), make, gx.f32[n, features], gx.i64[n])


def conv_net():
    n = batch()
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(4 * 2 * 2, 10),
    )  # fmt: skip
    return trained(net, nn.CrossEntropyLoss(), lambda p: optim.SGD(p, lr=0.1), gx.f32[n, 1, 8, 8], gx.i64[n])


MODELS = {
    "linear_regression": linear_regression,
    "mlp_sgd": lambda: mlp(lambda p: optim.SGD(p, lr=0.1, momentum=0.9)),
    "mlp_adam_dropout": lambda: mlp(lambda p: optim.Adam(p, lr=0.01), dropout=0.5),
    "conv_net": conv_net,
    "gru": lambda: trained(
        GRU(), nn.CrossEntropyLoss(), lambda p: optim.SGD(p, lr=0.1), gx.i64[batch(), 5], gx.i64[batch()]
    ),
    "transformer_block": lambda: trained(
        Block(), nn.CrossEntropyLoss(), lambda p: optim.SGD(p, lr=0.1), gx.i64[batch(), 6], gx.i64[batch()]
    ),
}


def inputs_of(step, size):
    """Arrays for every input of the graph: data and labels, states as they are, scalars."""
    random = np.random.default_rng(size)
    graph = step.artifact.program.graph
    found = {name: parameter.numpy() for name, parameter in step.parameters.items()}
    found |= {name: np.asarray(scalar.number) for name, scalar in step.scalars.items()}
    for value in graph.of_role("data"):
        shape = [evaluate(extent, dict.fromkeys(value.type.dims(), size)) for extent in value.shape]
        floats = value.dtype in FLOATS
        found[value.attrs["name"]] = random.normal(size=shape) if floats else random.integers(0, 9, shape)
    return found

"""Models whose training steps are exported, and the numbers that their sample programs make up."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc import functional as F
from graphc import nn, optim
from graphc.backends.target import host

fuses = pytest.mark.skipif(not host().has_fma, reason="this machine does not fuse, so relaxed SIMD rounds twice here")
BATCH = gx.dim("batch", max=16)


def regression():
    w, b = gx.parameter("w", np.zeros((2, 1))), gx.parameter("b", np.zeros(1))
    x, y = gx.input("x", gx.f32[BATCH, 2]), gx.input("y", gx.f32[BATCH, 1])
    loss = ((x @ w + b - y) ** 2).mean()
    gw, gb = gx.grad(loss, [w, b])
    return gx.function([x, y], {"loss": loss}, updates={w: w - 0.03 * gw, b: b - 0.03 * gb}, name="step")


def mlp():
    net = nn.Sequential(nn.Linear(30, 24), nn.ReLU(), nn.Dropout(0.25), nn.Linear(24, 10))
    return trained(net, optim.SGD(net.parameters(), lr=0.1), gx.f32[BATCH, 30], metrics=["accuracy"])


def lenet():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 5), nn.BatchNorm2d(6), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 20), nn.ReLU(), nn.Linear(20, 10),
    )  # fmt: skip
    optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    return trained(net, optimizer, gx.f32[BATCH, 1, 20, 20])


class CharacterGRU(nn.Module):
    def __init__(self):
        super().__init__()
        self.characters = nn.Embedding(10, 8)
        self.recurrent = nn.GRU(8, 12, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.scores = nn.Linear(12, 10)

    def forward(self, x):
        states, _ = self.recurrent(self.characters(x))
        return self.scores(self.dropout(states))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.characters, self.places = nn.Embedding(10, 16), nn.Embedding(6, 16)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, 0.0, activation="gelu", batch_first=True, norm_first=True)
        self.scores = nn.Linear(16, 10)

    def forward(self, x):
        return self.scores(self.block(self.characters(x) + self.places.weight, is_causal=True))


def gru():
    net = CharacterGRU()
    return trained_on_text(net, optim.Adam(net.parameters(), lr=0.01))


def transformer():
    net = Transformer()
    return trained_on_text(net, optim.AdamW(net.parameters(), lr=0.01))


def trained(net, optimizer, x, **options):
    return gx.train_step(net, nn.CrossEntropyLoss(), optimizer, x=x, y=gx.i64[BATCH], **options)


def trained_on_text(net, optimizer):
    kind = gx.i64[BATCH, 6]
    return gx.train_step(
        net, lambda scores, y: F.cross_entropy(scores.flatten(0, 1), y.flatten()), optimizer, x=kind, y=kind
    )


MODELS = {"regression": regression, "mlp": mlp, "lenet": lenet, "gru": gru, "transformer": transformer}


def built(name, seed=1):
    """The step of a model as it is after gx.manual_seed(seed)."""
    gx.manual_seed(seed)
    return MODELS[name]()


class MadeUp:
    """The random numbers of main.c: the upper 24 bits of a linear congruential generator."""

    def __init__(self):
        self.state = 12345

    def bits(self, count):
        found = np.empty(max(count, 1), np.uint32)
        found[0] = (self.state * 1664525 + 1013904223) % 2**32
        factor, addend, known = 1664525, 1013904223, 1
        while known < count:  # twice as far in every turn
            more = min(known, count - known)
            found[known : known + more] = found[:more] * np.uint32(factor) + np.uint32(addend)
            factor, addend, known = factor * factor % 2**32, (factor + 1) * addend % 2**32, known + more
        self.state = int(found[-1])
        return found[:count] >> 8

    def batch(self, step, rows):
        """Arrays for the step's inputs: floats from -1 to 1, whole numbers from 0 to 9."""
        arrays = []
        for value in step.inputs:
            shape = (rows, *value.shape[1:])
            bits = self.bits(int(np.prod(shape))).reshape(shape)
            is_float = value.dtype == "f32"
            arrays.append(bits.astype(np.float32) / np.float32(2**23) - 1 if is_float else (bits % 10).astype(np.int64))
        return arrays


def trained_in_process(step, steps=50, rows=16):
    """The results of the last step on made-up numbers."""
    made_up = MadeUp()
    for _ in range(steps):
        results = step(*made_up.batch(step, rows))
    return results


# The same in JavaScript, of the module and the seed that process.argv names: prints [loss, state hash].
TRAIN = """
    const { load } = await import(process.argv[2]);
    const model = await load(undefined, { seed: Number(process.argv[3]) });
    let bits = 12345;
    const draw = () => (bits = (Math.imul(bits, 1664525) + 1013904223) >>> 0) >>> 8;
    const rows = 16, [known] = model.manifest.functions;
    let results;
    for (let step = 0; step < 50; step++) {
        results = model.step(...known.inputs.map(({ dtype, shape }) => {
            const count = shape.slice(1).reduce((all, each) => all * each, rows);
            return dtype === "f32" ? Float32Array.from({ length: count }, () => draw() / 2 ** 23 - 1)
                : BigInt64Array.from({ length: count }, () => BigInt(draw() % 10));
        }));
    }
    console.log(JSON.stringify([results.loss, model.stateHash().toString(16)]));
"""

"""Kernels of whole training steps, run uncompiled: none leaves its memory, and they give what the reference gives."""

from __future__ import annotations

import numpy as np
import pytest
from emulator import emulate
from hypothesis import HealthCheck, given, settings
from test_views import arrays_for, programs

import graphc as gx
from graphc import nn, optim
from graphc.backends import reference
from graphc.ir.passes import run_passes
from graphc.ir.text import parse_graph

BATCH = gx.dim("batch", max=5)


def agree(graph, arrays) -> None:
    found = emulate(graph, arrays)
    expected = reference.run(graph, arrays, double=True)
    for name, array in found.items():
        scale = max(float(np.abs(expected[name]).max(initial=0)), 1.0)
        assert np.abs(array - expected[name]).max(initial=0) <= 3e-5 * scale, name


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=programs())
def test_random_views_stay_inside(text) -> None:
    agree(run_passes(parse_graph(text)), arrays_for(3))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer, self.head = nn.Embedding(7, 5), nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.layer(self.table(x))[0][:, -1])


def convolutional() -> nn.Module:
    front = [nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(
        *front, nn.Conv2d(3, 6, 2, groups=3), nn.GELU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(36, 4)
    )


def attentive() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    return nn.Sequential(nn.Embedding(7, 8), layer, nn.Flatten(), nn.Linear(48, 4))


@pytest.mark.parametrize(
    ("build", "kind"),
    [(convolutional, gx.f32[BATCH, 2, 11, 13]), (attentive, gx.i64[BATCH, 6]), (Recurrent, gx.i64[BATCH, 6])],
)
def test_training_steps_stay_inside(build, kind) -> None:
    gx.manual_seed(1)
    net = build()
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    step = gx.train_step(net, nn.CrossEntropyLoss(), optimizer, x=kind, y=gx.i64[BATCH])
    rng = np.random.default_rng(0)
    shape = (3, *kind.shape[1:])
    x = rng.normal(size=shape).astype(np.float32) if kind.dtype == "f32" else rng.integers(0, 7, shape)
    arrays = {"x": x, "y": np.array([0, 3, 1])}
    arrays |= {name: parameter.numpy() for name, parameter in step.parameters.items()}
    arrays |= {name: known.number for name, known in step.scalars.items()}
    agree(run_passes(step.traced), arrays)


def test_indices_outside_do_not_lead_out_of_memory() -> None:
    """They are refused only after the kernels ran."""
    x, table, i = gx.input("x", gx.f32[5]), gx.input("table", gx.f32[5, 3]), gx.input("i", gx.i64[20])
    results = [2 * x[i], table[i], gx.index_add(x, 0, i, gx.ones(20)), gx.index_add(table, 0, i, gx.ones(20, 3))]
    graph = run_passes(gx.function([x, table, i], results).traced)
    arrays = {"x": np.ones(5), "table": np.ones((5, 3)), "i": np.array([-(2**40), -6, 5, 2**40] * 5)}
    found = emulate(graph, arrays)
    assert (found["result_0"] == 2).all() and (found["result_1"] == 1).all()

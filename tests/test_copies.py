"""Copies and pickles: what has numbers gets a twin that lives by itself, what has none is refused with an error."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from refusals import line_of

import graphc as gx
from graphc import data, nn, optim
from graphc.optim import lr_scheduler

X = np.random.default_rng(1).normal(size=(12, 4)).astype(np.float32)
Y = np.arange(12) % 3
WAYS = {"deepcopy": copy.deepcopy, "pickle": lambda given: pickle.loads(pickle.dumps(given))}

ways = pytest.mark.parametrize("twin", WAYS.values(), ids=WAYS)


class Tied(nn.Module):
    """Two layers of one weight, an activation that is no module, a buffer and a run-time scalar."""

    def __init__(self):
        self.first, self.norm, self.last = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.last.weight = self.first.weight
        self.activation = gx.tanh
        self.scale = gx.scalar("scale", 2.0)

    def forward(self, x):
        return self.last(self.activation(self.norm(self.first(x))) * self.scale)[:, :3]


def training(net, optimizer):
    return gx.train_step(net, nn.CrossEntropyLoss(), optimizer, x=gx.f32["batch", 4], y=gx.i64["batch"])


@ways
@pytest.mark.parametrize("title", ["SGD", "Adam", "groups", "frozen"])
def test_a_copied_training_goes_on_alike_and_apart(title, twin):
    """Net, optimizer and schedule together, in the middle of a training."""
    net = Tied()
    optimizer = {
        "SGD": lambda: optim.SGD(net.parameters(), lr=0.1, momentum=0.9),
        "Adam": lambda: optim.Adam(net.parameters(), lr=0.05),
        "groups": lambda: optim.AdamW([{"params": net.first.parameters()}, {"params": [net.last.bias], "lr": 0.3}]),
        "frozen": lambda: optim.RMSprop(net.parameters(), lr=0.05),
    }[title]()
    net.norm.requires_grad_(title != "frozen")
    schedule = lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    step = training(net, optimizer)
    for _ in range(3):
        step(X, Y)
        schedule.step()
    other, its_optimizer, its_schedule = twin((net, optimizer, schedule))
    assert other.last.weight is other.first.weight is not net.first.weight
    assert its_schedule.optimizer is its_optimizer and its_optimizer.lr == optimizer.lr
    assert [each.requires_grad for each in other.parameters()] == [each.requires_grad for each in net.parameters()]
    before = net.state_dict()
    its_step = training(other, its_optimizer)
    found = [its_step(X, Y) for _ in range(2)]
    its_schedule.step()
    its_optimizer.param_groups[0]["momentum" if title == "SGD" else "lr"] = 0.25
    assert all(np.array_equal(array, before[name]) for name, array in net.state_dict().items())
    assert found == [step(X, Y) for _ in range(2)]
    assert its_step.state_dict().keys() == step.state_dict().keys()
    for name, array in step.state_dict().items():
        if name != "random_state":
            np.testing.assert_array_equal(its_step.state_dict()[name], array, err_msg=name)


@ways
def test_what_a_program_keeps(twin):
    loader = data.DataLoader(data.TensorDataset(X, Y), 5, shuffle=True, seed=2)
    next(iter(loader))
    assert twin(loader).state_dict() == loader.state_dict()
    for (x, y), (x_too, y_too) in zip(twin(loader), loader, strict=True):
        np.testing.assert_array_equal(x, x_too)
        np.testing.assert_array_equal(y, y_too)
    net = nn.Linear(4, 3)
    step = training(net, optim.SGD(net.parameters(), lr=0.1))
    record = step(X, Y)
    assert twin(record) == record and twin(record).loss == record.loss
    history = gx.fit(step, loader, epochs=2)
    assert twin(history).rows == history.rows
    assert twin(gx.f32["batch", 4]) == gx.f32["batch", 4]
    scale = gx.scalar("scale", 3.0)
    twin(scale).set(4.0)
    assert scale.item() == 3.0 == twin(scale).item()


def test_initial_values_are_drawn_again_by_a_library_from_a_pickle_too():
    gx.manual_seed(4)
    net = nn.Linear(4, 3)
    assert pickle.loads(pickle.dumps(net)).weight.initial == net.weight.initial is not None
    assert pickle.loads(pickle.dumps(net.double())).weight.dtype == gx.f64


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_compiled_step_is_no_thing_to_copy(way):
    net = nn.Linear(4, 3)
    step = training(net, optim.SGD(net.parameters(), lr=0.1))
    with pytest.raises(gx.TraceError, match="train_step works on the memory of its parameters") as found:
        way(step)  # copied
    assert line_of(__file__, "copied") in str(found.value)


def test_symbols_hold_no_numbers():
    x = gx.input("x", gx.f32[3])
    assert copy.deepcopy(x) is copy.copy(x) is x
    with pytest.raises(gx.TraceError, match=r"Tensor\(f32\[3\]\) is a symbol of a graph"):
        pickle.dumps(x * 2)

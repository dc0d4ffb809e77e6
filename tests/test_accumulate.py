"""Gradients of several calls in one update: optim.Accumulate and train_step(accumulate=...)."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from refusals import check_refusal

import graphc as gx
from graphc import data, nn, optim

BATCH = gx.dim("batch", max=24)
RNG = np.random.default_rng(2)
X, Y = RNG.normal(size=(48, 3)).astype(np.float32), RNG.normal(size=(48, 2)).astype(np.float32)
OPTIMIZERS = {
    "sgd": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.1),
    "adam": lambda parameters: optim.Adam(parameters, lr=0.1),
}


def train_step(net, optimizer, **options):
    return gx.train_step(net, nn.MSELoss(), optimizer, x=gx.f32[BATCH, 3], y=gx.f32[BATCH, 2], **options)


def batches(size):
    return data.DataLoader(data.TensorDataset(X, Y), batch_size=size)


@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_four_small_batches_are_one_large_one(name, max_grad_norm):
    net = nn.Linear(3, 2)
    other = copy.deepcopy(net)
    whole, parts = (OPTIMIZERS[name](each.parameters()) for each in (net, other))
    large = train_step(net, whole, max_grad_norm=max_grad_norm)
    small = train_step(other, parts, max_grad_norm=max_grad_norm, accumulate=4)
    for _ in range(2):
        large.epoch(batches(24))
        small.epoch(batches(6))
    for parameter, same in zip(net.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(parameter.numpy(), same.numpy(), rtol=1e-5, atol=1e-7)
    for key, array in whole.state_dict().items():
        np.testing.assert_allclose(parts.state_dict()[key], array, rtol=1e-5, atol=1e-7, err_msg=key)


def test_nothing_is_updated_between():
    """Nor are the optimizer's own slots and counts; and its schedules go on setting the rate."""
    w = gx.Parameter(np.zeros((), np.float32), "w")
    inner = optim.SGD([w], lr=1.0, momentum=0.5)
    optimizer = optim.Accumulate(inner, steps=3)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    @gx.step
    def step(slope: gx.f32[()]):
        optimizer.zero_grad()
        (w * slope).backward()
        optimizer.step()

    seen = []
    for slope in (1, 2, 3, 4, 5, 6, 7):
        step(np.float32(slope))
        seen.append((w.item(), optimizer.state_dict()["w.momentum_buffer"].item()))
        if slope % 3 == 0:
            schedule.step()
    assert seen == [(0, 0), (0, 0), (-2, 2), (-2, 2), (-2, 2), (-5, 6), (-5, 6)]
    assert (inner.lr, optimizer.lr) == (0.25, 0.25)
    state = optimizer.state_dict()
    assert (state["calls"], state["w.grad_sum"]) == (1, 7)
    optimizer.lr = 1.0
    assert inner.lr == 1 and repr(optimizer).startswith("Accumulate(SGD(lr=1.0, ")


def test_running_statistics_move_in_every_call():
    """What the model itself updates is no part of the optimizer's step."""
    seen, w = gx.Parameter(np.zeros((), np.float32), "seen"), gx.Parameter(np.zeros((), np.float32), "w")
    optimizer = optim.Accumulate(optim.SGD([w], lr=1.0), steps=2)

    @gx.step
    def step(slope: gx.f32[()]):
        seen.add_(slope)
        (w * slope).backward()
        optimizer.step()

    step(np.float32(1))
    assert (seen.item(), w.item()) == (1, 0)
    step(np.float32(3))
    assert (seen.item(), w.item()) == (4, -2)


def test_resumed_between_updates_gives_the_same_bits():
    nets = [nn.Linear(3, 2) for _ in range(2)]
    optimizers = [optim.Accumulate(OPTIMIZERS["adam"](net.parameters()), 4, max_norm=1.0) for net in nets]
    first = train_step(nets[0], optimizers[0])
    for start in range(0, 36, 6):
        first(X[start : start + 6], Y[start : start + 6])
    nets[1].load_state_dict(nets[0].state_dict())
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    second = train_step(nets[1], optimizers[1])
    for start in range(36, 48, 6):
        assert first(X[start : start + 6], Y[start : start + 6]) == second(X[start : start + 6], Y[start : start + 6])
    for key, array in first.state_dict().items():
        np.testing.assert_array_equal(array, second.state_dict()[key], err_msg=key)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda state: state.pop("calls"), "calls"),
        (lambda state: state.pop("steps"), "steps"),
        (lambda state: state.update({"weight.grad_sum": np.zeros(3)}), "weight.grad_sum"),
        (lambda state: state.update({"param_groups.0.lr": -1.0}), "param_groups.0.lr"),
    ],
)
def test_state_that_does_not_fit_changes_nothing(change, word):
    net = nn.Linear(3, 2)
    list(net.parameters())
    optimizer = optim.Accumulate(optim.Adam(net.parameters()), 2)
    before = optimizer.state_dict()
    state = {name: array if name.startswith("param_groups") else array + 1 for name, array in before.items()}
    change(state)
    with pytest.raises(gx.CheckpointError, match=word):
        optimizer.load_state_dict(state)
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda o: optim.Accumulate(nn.Linear(1, 1), 2), "bias=True); it must be an optimizer"),
        (lambda o: optim.Accumulate(o, 0), "steps is 0; it must be a whole number of at least 1"),
        (lambda o: optim.Accumulate(o, 2.0), "steps is 2.0"),
        (lambda o: optim.Accumulate(o, 2, max_norm=-1), "max_norm is -1; it must be a number of at least 0"),
        (lambda o: optim.Accumulate(o, 2, max_norm="1"), "max_norm is '1'; it must be a number of at least 0"),
        (lambda o: optim.Accumulate(o, 2).load_state_dict(3), "state_dict is 3; it must be a dict of arrays"),
        (lambda o: train_step(nn.Linear(3, 2), o, accumulate=-1), "accumulate is -1; it must be a whole number"),
    ],
)
def test_wrong_settings(make, words):
    check_refusal(make, words, optim.SGD([gx.Parameter([1.0])]))


def test_without_gradients():
    optimizer = optim.Accumulate(optim.SGD([gx.Parameter([1.0])]), 2)
    with pytest.raises(gx.TraceError, match="outside of a traced step"):
        optimizer.step()
    with pytest.raises(gx.GradientError, match="no gradient for any of its parameters"):

        @gx.step
        def step(x: gx.f32[3]):
            optimizer.step()

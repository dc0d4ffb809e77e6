"""Optimizers: trainings against PyTorch's stored numbers, formulas, run-time learning rates, state, wrong settings."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim

GOLDEN = Path(__file__).parent / "golden" / "torch_training.npz"
OPTIMIZERS = {
    "sgd": lambda parameters: optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    "nesterov": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
    "dampening": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, dampening=0.1),
    "adam": lambda parameters: optim.Adam(parameters, lr=1e-2),
    "adam weight decay": lambda parameters: optim.Adam(parameters, lr=1e-2, weight_decay=1e-2),
}


def line_of(marker):
    """The number of the line of this file that carries a marker comment."""
    source = inspect.getsource(inspect.getmodule(line_of)).splitlines()
    (found,) = [number for number, line in enumerate(source, 1) if line.endswith(f"# {marker}")]
    return found


def weights(*numbers, name=""):
    return gx.Parameter(np.array(numbers, np.float32), name)


def descend(optimizer, *parameters):
    """A step whose argument is the gradient of every element of the parameters."""

    @gx.step
    def step(slope: gx.f32[()]):
        optimizer.zero_grad()
        total = sum((parameter * slope).sum() for parameter in parameters)
        total.backward()
        optimizer.step()

    return step


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_follows_pytorch(name):
    with np.load(GOLDEN) as stored:
        numbers = dict(stored)
    net = nn.Sequential(OrderedDict(fc1=nn.Linear(12, 16), relu=nn.ReLU(), fc2=nn.Linear(16, 5)))
    net.load_state_dict({key: numbers[f"initial {key}"] for key in net.state_dict()})
    optimizer = OPTIMIZERS[name](net.parameters())
    batch = gx.dim("batch", max=16)
    step = gx.train_step(net, nn.CrossEntropyLoss(), optimizer, x=gx.f32[batch, 12], y=gx.i64[batch])
    losses = [step(x, labels).loss for x, labels in zip(numbers["x"], numbers["labels"], strict=True)]
    np.testing.assert_allclose(losses, numbers[f"{name} losses"], rtol=1e-4)
    for key, found in net.state_dict().items():
        np.testing.assert_allclose(found, numbers[f"{name} {key}"], rtol=1e-4, atol=1e-6, err_msg=key)


SLOPES = [0.5, -1.0, 2.0, 2.0, -0.25, 1e-3]


def adam(w, slopes, lr, betas=(0.9, 0.999), eps=1e-8, decay=0.0, decoupled=False):
    m = v = 0.0
    for t, slope in enumerate(slopes, 1):
        g = slope + (0 if decoupled else decay * w)
        w = w * (1 - lr * decay) if decoupled else w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        w = w - lr * m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


def sgd(w, slopes, lr, momentum=0.0, dampening=0.0, decay=0.0, nesterov=False, maximize=False):
    velocity = None
    for slope in slopes:
        g = (-slope if maximize else slope) + decay * w
        if momentum:
            velocity = g if velocity is None else momentum * velocity + (1 - dampening) * g
            g = g + momentum * velocity if nesterov else velocity
        w = w - lr * g
    return w


FORMULAS = {
    "sgd upwards": (
        lambda p: optim.SGD(p, lr=0.2, maximize=True, weight_decay=0.1),
        lambda w: sgd(w, SLOPES, 0.2, maximize=True, decay=0.1),
    ),
    "sgd dampened": (
        lambda p: optim.SGD(p, 0.2, 0.9, 0.5, 0.1),
        lambda w: sgd(w, SLOPES, 0.2, 0.9, 0.5, 0.1),
    ),
    "sgd nesterov": (
        lambda p: optim.SGD(p, lr=0.2, momentum=0.5, nesterov=True),
        lambda w: sgd(w, SLOPES, 0.2, 0.5, nesterov=True),
    ),
    "sgd by default": (lambda p: optim.SGD(p), lambda w: sgd(w, SLOPES, 1e-3)),
    "adam by default": (lambda p: optim.Adam(p), lambda w: adam(w, SLOPES, 1e-3)),
    "adam without memory": (
        lambda p: optim.Adam(p, 0.01, betas=(0.0, 0.9), eps=0.1),
        lambda w: adam(w, SLOPES, 0.01, (0.0, 0.9), 0.1),
    ),
    "adamw": (lambda p: optim.AdamW(p, 0.1), lambda w: adam(w, SLOPES, 0.1, decay=1e-2, decoupled=True)),
    "adamw slow means": (
        lambda p: optim.AdamW(p, 0.1, (0.99, 0.999999), weight_decay=0.5),
        lambda w: adam(w, SLOPES, 0.1, (0.99, 0.999999), decay=0.5, decoupled=True),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_updates_are_those_of_the_formulas(name):
    make, formula = FORMULAS[name]
    w = weights(1.0, -2.0, 0.0)
    step = descend(make([w]), w)
    for slope in SLOPES:
        step(np.float32(slope))
    np.testing.assert_allclose(w.numpy(), formula(np.array([1.0, -2.0, 0.0])), rtol=3e-6, atol=3e-7)


def test_double_precision_stays_double():
    w = gx.Parameter(np.array([1.0, -2.0]), dtype=gx.f64)
    optimizer = optim.Adam([w], lr=0.1, weight_decay=0.01)

    @gx.step
    def step(slope: gx.f64[()]):
        (w * slope).sum().backward()
        optimizer.step()

    for slope in SLOPES:
        step(np.float64(slope))
    np.testing.assert_allclose(w.numpy(), adam(np.array([1.0, -2.0]), SLOPES, 0.1, decay=0.01), rtol=1e-12)


def test_learning_rate_changes_at_run_time(caplog):
    w = weights(0.0)
    optimizer = optim.SGD([w], lr=1.0)
    step = descend(optimizer, w)
    caplog.clear()
    step(np.float32(1))
    optimizer.lr = 0.5
    step(np.float32(1))
    optimizer.param_groups[0]["lr"] = 0.25
    step(np.float32(1))
    step.set(lr=0.125)
    assert optimizer.lr == 0.125
    step(np.float32(1))
    assert w.numpy() == -1.875
    assert not caplog.records


def test_groups_have_settings_of_their_own():
    a, b = weights(0.0), weights(0.0)
    groups = [{"params": [a]}, {"params": b, "lr": 0.5, "momentum": 0.5}]
    optimizer = optim.SGD(groups, lr=1.0)
    step = descend(optimizer, a, b)
    assert list(step.scalars) == ["lr", "lr_1"]
    step(np.float32(1))
    step(np.float32(1))
    assert (a.numpy(), b.numpy()) == (-2, -1.25)
    optimizer.param_groups[1]["lr"] = 0.0
    step(np.float32(1))
    assert (a.numpy(), b.numpy()) == (-3, -1.25)
    optimizer.lr = 0.0
    step(np.float32(1))
    assert (a.numpy(), b.numpy()) == (-3, -1.25)


def test_parameters_without_gradient_stay():
    used, unused, frozen = weights(1.0), weights(1.0), gx.Parameter(np.ones(1, np.float32), requires_grad=False)
    step = descend(optim.Adam([used, unused, frozen], weight_decay=0.1), used, frozen)
    step(np.float32(1))
    assert used.numpy() != 1 and unused.numpy() == 1 and frozen.numpy() == 1


def test_two_backward_passes_add_up_unless_forgotten():
    w = weights(0.0)
    optimizer = optim.SGD([w], lr=1.0)

    @gx.step
    def accumulate(slope: gx.f32[()]):
        (w * slope).sum().backward()
        (w * slope).sum().backward()
        optimizer.step()

    @gx.step
    def forget(slope: gx.f32[()]):
        (w * slope).sum().backward()
        optimizer.zero_grad()
        (w * slope).sum().backward()
        optimizer.step()

    accumulate(np.float32(1))
    assert w.numpy() == -2
    forget(np.float32(1))
    assert w.numpy() == -3


def test_updates_play_their_role():
    w = weights(0.0)
    step = descend(optim.SGD([w], lr=1.0, momentum=0.9), w)
    roles = {value.op.name: value.role for value in step.traced.values() if value.op.kind == "elementwise"}
    assert roles["sub"] == "update"
    assert {output.name for output in step.traced.of_kind("update")} == {"parameter_0.momentum", "parameter"}


# -- state


def trained(net, steps, optimizer):
    batch = gx.dim("batch", max=8)
    step = gx.train_step(net, nn.MSELoss(), optimizer, x=gx.f32[batch, 3], y=gx.f32[batch, 2])
    rng = np.random.default_rng(1)
    for _ in range(steps):
        step(rng.normal(size=(8, 3)).astype(np.float32), rng.normal(size=(8, 2)).astype(np.float32))
    return step


def test_slots_are_named_after_parameters():
    net = nn.Sequential(nn.Linear(3, 2))
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    assert list(optimizer.state_dict()) == [
        "0.weight.exp_avg", "0.weight.exp_avg_sq", "0.bias.exp_avg", "0.bias.exp_avg_sq", "steps",
        "param_groups.0.lr", "param_groups.0.betas", "param_groups.0.eps", "param_groups.0.weight_decay",
    ]  # fmt: skip
    step = trained(net, 3, optimizer)
    assert set(step.parameters) == {"0.weight", "0.bias", *list(optimizer.state_dict())[:5]}
    assert optimizer.state_dict()["steps"] == 3
    assert not [key for key in optim.SGD(net.parameters()).state_dict() if not key.startswith("param_groups")]
    assert "0.bias.momentum" in optim.SGD(net.parameters(), momentum=0.5).state_dict()
    nameless = optim.SGD([weights(1.0), weights(2.0, name="w"), weights(3.0, name="w")], momentum=0.5)
    assert list(nameless.state_dict())[:3] == ["parameter_0.momentum", "w.momentum", "w_2.momentum"]


@pytest.mark.parametrize("name", ["momentum", "dampening", "adam", "adam weight decay"])
def test_resumed_training_gives_the_same_bits(name, tmp_path):
    nets = [nn.Linear(3, 2) for _ in range(2)]
    optimizers = [OPTIMIZERS[name](net.parameters()) for net in nets]
    first = trained(nets[0], 3, optimizers[0])
    optimizers[0].lr = 0.05
    gx.save(optimizers[0].state_dict(), tmp_path / "optimizer.safetensors")
    nets[1].load_state_dict(nets[0].state_dict())
    optimizers[1].load_state_dict(gx.load(tmp_path / "optimizer.safetensors"))
    assert optimizers[1].lr == 0.05
    second = trained(nets[1], 0, optimizers[1])
    x, y = np.ones((4, 3), np.float32), np.zeros((4, 2), np.float32)
    for _ in range(3):
        assert first(x, y) == second(x, y)
    for key, array in first.state_dict().items():
        np.testing.assert_array_equal(array, second.state_dict()[key])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("steps"), ["steps"]),
        (lambda state: state.update(extra=np.zeros(1)), ["extra"]),
        (lambda state: state.update({"0.bias.exp_avg": np.zeros(3)}), ["0.bias.exp_avg", "2", "3"]),
        (lambda state: state.update({"param_groups.0.eps": np.array(0.5)}), ["param_groups.0.eps", "1e-08", "0.5"]),
        (lambda state: state.update({"param_groups.0.lr": np.zeros(2)}), ["param_groups.0.lr"]),
    ],
    ids=["missing", "unexpected", "shape", "compiled setting", "shape of a setting"],
)
def test_state_that_does_not_fit_changes_nothing(change, words):
    net = nn.Sequential(nn.Linear(3, 2))
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    trained(net, 1, optimizer)
    before = optimizer.state_dict()
    state = {name: array + 1 if name.startswith("0.") else array for name, array in before.items()}
    state["param_groups.0.lr"] = np.array(0.7)
    change(state)
    with pytest.raises(gx.CheckpointError) as caught:
        optimizer.load_state_dict(state)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


# -- errors


def test_step_without_gradients():
    w = weights(1.0)
    optimizer = optim.SGD([w])
    with pytest.raises(gx.TraceError, match="outside of a traced step"):
        optimizer.step()
    with pytest.raises(gx.GradientError) as caught:

        @gx.step
        def step(x: gx.f32[3]):
            optimizer.step()  # no gradient

    text = str(caught.value)
    assert "no gradient for any of its parameters" in text and f"test_optim.py:{line_of('no gradient')}:" in text


def test_compiled_settings_do_not_change():
    w = weights(1.0)
    optimizer = optim.SGD([w], momentum=0.5)
    optimizer.param_groups[0]["momentum"] = 0.75
    descend(optimizer, w)
    with pytest.raises(ValueError, match=r"momentum is 0\.75 in a step that is already compiled"):
        optimizer.param_groups[0]["momentum"] = 0.9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda w: optim.SGD([w], lr=-1), "lr is -1; it must be at least 0"),
        (lambda w: optim.SGD([w], momentum=-0.5), r"momentum is -0\.5; it must be at least 0"),
        (lambda w: optim.SGD([w], weight_decay=-1), "weight_decay is -1"),
        (lambda w: optim.SGD([w], nesterov=True), "nesterov is True; it must be False without momentum"),
        (lambda w: optim.SGD([w], momentum=0.9, dampening=0.1, nesterov=True), "nesterov is True"),
        (lambda w: optim.Adam([w], betas=(0.9, 1.0)), r"betas is \(0\.9, 1\.0\)"),
        (lambda w: optim.Adam([w], betas=(0.9,)), "betas is"),
        (lambda w: optim.AdamW([w], eps=-1), "eps is -1"),
        (lambda w: optim.SGD([{"params": [w], "momentun": 0.9}]), "unknown settings momentun; known are lr, momentum"),
        (lambda w: optim.SGD([]), "got no parameters"),
        (lambda w: optim.SGD([w, w]), "is given to the optimizer twice"),
        (lambda w: optim.SGD([{"params": w}, {"params": w}]), "is given to the optimizer twice"),
    ],
)
def test_wrong_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make(weights(1.0))


@pytest.mark.parametrize("params", [weights(1.0), [np.zeros(3)], {"params": []}], ids=["one", "array", "dict"])
def test_what_is_not_parameters(params):
    with pytest.raises(TypeError, match="parameter"):
        optim.SGD(params)


def test_text_shows_the_settings():
    assert repr(optim.Adam([weights(1.0)])) == "Adam(lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0)"

"""`gx.debug`: the first value that is not finite is traced to the user's line, the first kernel that differs from the
reference is named, and what is found leaves no trace in the parameters."""

from __future__ import annotations

import copy
import math
import os
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from refusals import line_of

import graphc as gx
from graphc import data, nn, optim
from graphc.backends import stepping
from graphc.function import Function
from graphc.ir import builder, ops

X = np.random.default_rng(5).normal(size=(10, 4)).astype(np.float32)
LABELS = np.arange(10) % 3
LABELLED = {"x": gx.f32["b", 4], "y": gx.i64["b"]}


def caught(step, *arrays, kind=gx.NumericsError, **looks):
    """The error of a call under gx.debug, which leaves all states as they were."""
    before = step.state_dict()
    with pytest.raises(kind) as found, gx.debug(**looks):
        step(*arrays)
    after = step.state_dict()
    assert all(np.array_equal(before[name], after[name], equal_nan=True) for name in before)
    assert len(str(found.value).splitlines()) <= 8
    return found.value


def stands_at(error, marker):
    name, _, number = line_of(__file__, marker).rpartition(":")
    return os.path.basename(error.origin.file) == name and error.origin.line == int(number)


def naive_loss(output, labels):
    likely = gx.relu(output)
    return -(gx.one_hot(labels, 3) * gx.log(likely)).sum(1).mean()  # log of zero


@pytest.mark.parametrize("check", [None, "reference"])
def test_log_of_zero_in_a_loss(check):
    net = nn.Linear(4, 3)
    step = gx.train_step(net, naive_loss, optim.SGD(net.parameters(), lr=0.1), x=gx.f32["b", 4], y=gx.i64["b"])
    error = caught(step, X, LABELS, check=check)
    assert stands_at(error, "log of zero")
    assert error.message.startswith("train_step: loss is not finite: log(0) is -inf at index (")
    assert error.message.endswith("in the forward pass")
    assert str(error).splitlines()[2].strip().startswith("^" * len("gx.log(likely)"))
    assert any(line.startswith("0 is from relu at test_debugging.py:") for line in error.details)


def masked_root(x, scale):
    return (x > 0).float() * gx.sqrt(x * scale)  # naive root


def test_naive_root_behind_a_mask_is_found_in_the_backward_pass():
    """The forward pass is finite; 0 * inf comes up in the gradient. (`where` in place of `*` is made safe.)"""
    scale = gx.parameter("scale", np.ones(3, np.float32))

    @gx.step
    def step(x: gx.f32["b", 3]):
        loss = masked_root(x, scale).mean()
        loss.backward()
        with gx.no_grad():
            scale.copy_(scale - 0.1 * scale.grad)
        return loss

    good = step(np.array([[1, 4, 9]], np.float32))
    assert good == 2.0
    scale.copy_(np.ones(3, np.float32))
    error = caught(step, np.array([[1, 2, 0]], np.float32))
    assert stands_at(error, "naive root")
    assert error.message == "step: scale is not finite: div(0, 0) is nan at index (0, 2), in the backward pass"
    assert "its gradient" in error.note


def test_naive_root_chosen_by_where():
    """A form of `where(x > 0, sqrt(x), 0)` that no rule knows."""
    scale = gx.parameter("scale", np.ones(3, np.float32))

    @gx.step
    def step(x: gx.f32["b", 3]):
        root = gx.sqrt(x * scale)  # hidden root
        loss = gx.where(gx.isnan(root), 0.0, root).mean()
        loss.backward()
        with gx.no_grad():
            scale.copy_(scale - 0.1 * scale.grad)
        return loss

    error = caught(step, np.array([[1, -2, 0]], np.float32), check="reference")
    assert stands_at(error, "hidden root")
    assert "in the backward pass" in error.message


def test_exploding_learning_rate():
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    opt = optim.SGD(net.parameters(), lr=100.0)

    def squared(output, target):
        return ((output - target) ** 2).mean()  # explodes

    step = gx.train_step(net, squared, opt, x=gx.f32["b", 4], y=gx.f32["b", 1])
    with pytest.raises(gx.NumericsError) as found, gx.debug():
        for _ in range(100):
            step(X, X[:, :1])
    error = found.value
    assert stands_at(error, "explodes")
    assert " is inf" in error.message
    advice = next(line for line in error.details if "lower the learning rate" in line)
    assert "has grown to" in advice and "at lr=100" in advice
    assert all(np.isfinite(array).all() for array in step.state_dict().values())


def test_update_that_overflows():
    w = gx.parameter("w", np.full(3, 3e38, np.float32))
    x = gx.input("x", gx.f32[3])
    with gx.no_grad():
        new = w - 2 * x  # too far
    error = caught(gx.function([x], updates={w: new}), np.full(3, -3e38, np.float32))
    assert stands_at(error, "too far")
    assert error.message.endswith("in the update")


def test_data_that_is_not_finite():
    net = nn.Linear(4, 3)
    opt = optim.SGD(net.parameters(), lr=0.1)
    step = gx.train_step(net, nn.CrossEntropyLoss(), opt, x=gx.f32["b", 4], y=gx.i64["b"])
    bad = X.copy()
    bad[7, 2] = math.nan
    error = caught(step, bad, LABELS)
    start, end = "train_step: loss is not finite: ", ", before anything is computed"
    assert error.message == f"{start}input x holds nan at index (7, 2){end}"
    bad[7, 2] = math.inf
    error = caught(step, bad, LABELS)
    assert "is nan" in error.message
    assert any("of the infinities in input x" in line for line in error.details)
    net.bias.copy_(np.array([0, math.nan, 0], np.float32))
    error = caught(step, X, LABELS)
    assert error.message == f"{start}parameter bias holds nan at index 1{end}"


def test_infinities_of_masks_are_meant():
    step = gx.function(
        [x := gx.input("x", gx.f32["b", 4])], gx.softmax(x.masked_fill(x < 0, -math.inf).sort().values, 1)
    )
    with gx.debug(check="reference"):
        assert np.isfinite(step(np.abs(X))).all()
    rows = X.copy()
    rows[3] = -1
    error = caught(step, rows)
    assert "is nan at index (3, 0)" in error.message


def test_in_a_loop():
    w = gx.parameter("w", np.ones(3, np.float32))

    @gx.step
    def step(xs: gx.f32[5, 3]):
        def advance(state, x):
            state = state * w + gx.log(x)  # in a loop
            return state, state

        last, _ = gx.scan(advance, gx.zeros(3), xs)
        last.sum().backward()
        return last.sum()

    rows = np.ones((5, 3), np.float32)
    with gx.debug(check="reference"):
        assert step(rows) == 0
    rows[3, 1] = 0
    error = caught(step, rows)
    assert stands_at(error, "in a loop")
    place = "at index 1 in step 3 of a loop, in the forward pass"
    assert error.message == f"step: result is not finite: log(0) is -inf {place}"


def test_in_an_epoch():
    net = nn.Linear(4, 3)
    step = gx.train_step(net, naive_loss, optim.SGD(net.parameters(), lr=0.1), x=gx.f32["b", 4], y=gx.i64["b"])
    net.weight.copy_(np.zeros((3, 4), np.float32))
    net.bias.copy_(np.ones(3, np.float32))
    features = np.zeros((9, 4), np.float32)
    loader = data.DataLoader(data.TensorDataset(features, np.zeros(9, np.int64)), 3)
    with gx.debug(check="reference"):
        record = step.epoch(loader)
    assert np.isfinite(record.loss)
    net.bias.copy_(np.ones(3, np.float32))
    net.weight.copy_(np.full((3, 4), -1, np.float32))
    features[7] = 50
    with pytest.raises(gx.NumericsError, match="in step 2 of the epoch") as found, gx.debug():
        step.epoch(loader)
    assert stands_at(found.value, "log of zero")
    with pytest.raises(gx.ArgumentError), gx.debug():
        step.epoch(3)


def test_labels_are_still_checked():
    net = nn.Linear(4, 3)
    opt = optim.SGD(net.parameters(), lr=0.1)
    step = gx.train_step(net, nn.CrossEntropyLoss(), opt, x=gx.f32["b", 4], y=gx.i64["b"])
    for check in (None, "reference"):
        error = caught(step, X, LABELS + 1, kind=gx.LabelError, check=check)
        assert "got 3 at index 2" in error.message


def convolutional():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(36, 3),
    )
    return net, gx.f32["b", 1, 8, 8], np.random.default_rng(2).normal(size=(6, 1, 8, 8)).astype(np.float32)


class Recurrent(nn.Module):
    def __init__(self):
        self.table, self.cells, self.head = nn.Embedding(11, 6), nn.GRU(6, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.cells(self.table(x))[0][:, -1])


def recurrent():
    return Recurrent(), gx.i64["b", 7], np.random.default_rng(3).integers(0, 11, (6, 7))


def attending():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.Sequential(layer, nn.Flatten(), nn.Linear(40, 3))
    return net, gx.f32["b", 5, 8], np.random.default_rng(4).normal(size=(6, 5, 8)).astype(np.float32)


@pytest.mark.parametrize("build", [convolutional, recurrent, attending])
def test_kernels_one_by_one_are_those_of_the_call(build):
    """Every kernel agrees with the reference, and the step leaves the same bits as the plain call."""
    gx.manual_seed(3)
    net, kind, rows = build()
    opt = optim.Adam(net.parameters(), lr=0.01)
    step = gx.train_step(net, nn.CrossEntropyLoss(), opt, x=kind, y=gx.i64["b"], metrics=["accuracy"])
    start = step.state_dict()
    plain = [step(rows, LABELS[:6]) for _ in range(2)]
    end = step.state_dict()
    step.load_state_dict(start)
    with gx.debug(check="reference"):
        looked = [step(rows, LABELS[:6]) for _ in range(2)]
    assert plain == looked
    for name, array in step.state_dict().items():
        np.testing.assert_array_equal(array, end[name], err_msg=name)


def test_calls_of_other_threads_wait():
    """A call in a block is one call, though its kernels run one by one, and so are those of others meanwhile."""
    step = gx.train_step(net := nn.Linear(4, 3), nn.CrossEntropyLoss(), optim.Adam(net.parameters()), **LABELLED)
    other = gx.train_step(twin := copy.deepcopy(net), nn.CrossEntropyLoss(), optim.Adam(twin.parameters()), **LABELLED)

    def call(looks):
        for _ in range(20):
            with gx.debug(check="reference") if looks else nullcontext():
                step(X, LABELS)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, (True, False, True, False)))
    for _ in range(80):
        other(X, LABELS)
    for (name, found), wanted in zip(step.state_dict().items(), other.state_dict().values(), strict=True):
        np.testing.assert_array_equal(found, wanted, err_msg=name)


@pytest.fixture
def wrong_tanh(monkeypatch, tmp_path):
    """A fault in the code of one op, with a cache of its own."""
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    right = builder.scalar_source
    monkeypatch.setattr(builder, "scalar_source", lambda value: "({0} * {0})" if value.op is ops.tanh else right(value))
    return tmp_path


def test_first_kernel_that_differs(wrong_tanh, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(wrong_tanh))
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))  # declared
    opt = optim.SGD(net.parameters(), lr=0.1)
    step = gx.train_step(net, nn.CrossEntropyLoss(), opt, x=gx.f32["b", 4], y=gx.i64["b"])  # differs
    error = caught(step, X, LABELS, kind=gx.InternalError, check="reference")
    assert stands_at(error, "differs")
    assert "kernel 0 (dot_add_to_mul_sub)" in error.message
    assert "for tanh f32[b,8] at index (0, 0), the reference" in error.message
    script = Path(error.details[0].partition("python ")[2])
    assert script.parent == wrong_tanh
    text = script.read_text(encoding="utf-8")
    assert "test_debugging.py:" in text and "%in0" in text

    with pytest.raises(SystemExit) as found:  # where the fault is, it shows
        runpy.run_path(str(script), run_name="__main__")
    assert "gives" in str(found.value.code)

    search = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    settings = os.environ | {"PYTHONPATH": search, "GRAPHC_CACHE_DIR": str(wrong_tanh / "other")}
    finished = subprocess.run(  # where it is not, the kernels agree: the script needs nothing but the package
        [sys.executable, script.name], cwd=wrong_tanh, env=settings, capture_output=True, encoding="utf-8"
    )
    assert (finished.returncode, finished.stdout) == (0, "all kernels agree with the reference\n"), finished.stderr


def test_differences_that_rounding_explains_are_none():
    single = np.array([1.0, 1e-3, 1e20, math.nan, math.inf], np.float32)
    assert stepping.first_difference(single * np.float32(1 + 1e-6), single, single.astype(np.float64)) is None
    wrong = single.copy()
    wrong[1] = 2e-3
    noisy = single + np.float32(1e-2)
    assert stepping.first_difference(wrong[:3], single[:3], noisy[:3].astype(np.float64)) is None
    assert stepping.first_difference(wrong[:2], single[:2], single[:2].astype(np.float64)) == (1,)
    wrong = single.copy()
    wrong[3] = 0
    assert stepping.first_difference(wrong, single, single.astype(np.float64)) == (3,)
    whole = np.array([1, 2, 3])
    assert stepping.first_difference(whole, whole, whole) is None
    assert stepping.first_difference(whole + 1, whole, whole) == (0,)


@pytest.mark.parametrize("looks", [{"nan": "rise"}, {"check": "refrence"}])
def test_wrong_arguments_are_refused_where_they_are_given(looks):
    with pytest.raises(gx.ArgumentError, match="it must be one of") as found:
        gx.debug(**looks)  # not a block yet
    assert stands_at(found.value, "not a block yet")


def test_a_step_on_a_gpu(gpu):
    gx.manual_seed(4)
    net = nn.Linear(4, 3)
    sgd = optim.SGD(net.parameters(), lr=0.1)
    arguments = {"x": gx.f32["b", 4], "y": gx.i64["b"], "device": "cuda"}
    step = gx.train_step(net, naive_loss, sgd, **arguments)
    error = caught(step, X, LABELS)
    assert stands_at(error, "log of zero")
    assert error.message.startswith("train_step: loss is not finite: log(0) is -inf")
    error = caught(step, X, LABELS, kind=gx.DeviceError, check="reference")
    assert "train_step runs on a GPU" in error.message and "device='cpu'" in str(error)
    plain = gx.train_step(net, nn.CrossEntropyLoss(), sgd, **arguments)
    before = plain.state_dict()
    with gx.debug():
        looked = plain(X, LABELS)
    plain.load_state_dict(before)
    assert plain(X, LABELS) == looked
    assert "labels must lie in 0..2" in caught(plain, X, LABELS + 1, kind=gx.LabelError).message


def test_outside_of_a_block_calls_are_as_before():
    run, epoch = Function.run, Function.epoch
    with gx.debug():
        assert Function.run is not run
        with gx.debug(nan=None):
            pass
        assert Function.run is not run
    assert (Function.run, Function.epoch) == (run, epoch)
    step = gx.function([x := gx.input("x", gx.f32["b"])], gx.log(x).sum())
    with gx.debug(nan=None):
        assert step(np.zeros(3, np.float32)) == -math.inf
    with pytest.raises(gx.ArgumentError, match="nan is 'stop'"), gx.debug(nan="stop"):
        pass
    with pytest.raises(gx.ArgumentError, match="check is 'numpy'"), gx.debug(check="numpy"):
        pass

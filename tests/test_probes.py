"""Values inside of a model: kept and printed by compiled steps, and shown with sample numbers while tracing."""

from __future__ import annotations

import numpy as np
import pytest
from refusals import check_refusal

import graphc as gx
from graphc import data, nn, optim

X = np.random.default_rng(5).normal(size=(10, 4)).astype(np.float32)
LABELS = np.arange(10) % 3


class Net(nn.Module):
    def __init__(self):
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = self.first(x)
        gx.probe(h, "before")
        h = gx.relu(h)
        gx.print(h.max())
        gx.probe((h == 0).float().mean(), "dead")  # nothing else needs it
        return self.second(gx.print(h, "hidden"))


def hidden(net, rows):
    return rows @ net.first.weight.numpy().T + net.first.bias.numpy()


def trained(net):
    opt = optim.SGD(net.parameters(), lr=0.1)
    return gx.train_step(net, nn.CrossEntropyLoss(), opt, x=gx.f32["b", 4], y=gx.i64["b"], metrics=["accuracy", "f1"])


def test_probes_of_a_training_step(capsys):
    gx.manual_seed(4)
    net = Net()
    step = trained(net)
    wanted = hidden(net, X)
    assert step.probes == {}
    record = step(X, LABELS)
    assert record._fields == ("loss", "accuracy", "f1")
    np.testing.assert_allclose(step.probes["before"], wanted, rtol=1e-5, atol=1e-6)
    assert step.probes["dead"] == pytest.approx((wanted <= 0).mean())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("h.max(): ") and "at test_probes.py:" in lines[0]
    assert float(lines[0].split()[1]) == pytest.approx(wanted.max(), rel=1e-5)
    assert lines[1].startswith("hidden: f32[10,8] at test_probes.py:")


def test_probes_change_no_number():
    """The same bits as without them, in a call and in an epoch."""

    def record(build):
        gx.manual_seed(4)
        net = build()
        step = trained(net)
        loader = data.DataLoader(data.TensorDataset(X, LABELS), 4, shuffle=True, seed=3)
        return [step(X, LABELS), step.epoch(loader), step.state_dict(), step]

    class Plain(Net):
        def forward(self, x):
            return self.second(gx.relu(self.first(x)))

    probed, plain = record(Net), record(Plain)
    assert probed[0] == plain[0]
    np.testing.assert_allclose(probed[1], plain[1], rtol=1e-6)
    for name, array in plain[2].items():
        np.testing.assert_array_equal(array, probed[2][name])


def test_an_epoch_shows_its_last_batch(capsys):
    net = Net()
    step = trained(net)
    loader = data.DataLoader(data.TensorDataset(X, LABELS), 4)
    step.epoch(loader)
    assert capsys.readouterr().out.count("hidden: f32[2,8]") == 1
    assert step.probes["before"].shape == (2, 8)


@pytest.mark.parametrize("make", [lambda x: x, lambda x: (x, x), lambda x: {"one": x}, lambda x: None])
def test_what_a_call_returns_stays(make):
    w = gx.parameter("w", np.zeros(4, np.float32))

    @gx.step
    def step(x: gx.f32["b", 4]):
        gx.probe(x.sum(1), "sums")
        with gx.no_grad():
            w.copy_(x.sum(0))
        return make(x * 2)

    found = step(X)
    np.testing.assert_allclose(step.probes["sums"], X.sum(1), rtol=1e-5)
    kinds = {0: np.ndarray, 1: tuple, 2: tuple, 3: type(None)}
    assert isinstance(found, tuple(kinds.values()))
    if isinstance(found, tuple):
        np.testing.assert_array_equal(found[0], 2 * X)


def test_prediction_and_debug(capsys):
    net = Net()
    step = gx.predict_step(net, x=gx.f32["b", 4])
    with gx.debug(check="reference"):
        found = step(X)
    assert found.shape == (10, 3)
    np.testing.assert_allclose(step.probes["before"], hidden(net, X), rtol=1e-5, atol=1e-6)
    assert "hidden" in capsys.readouterr().out


def test_a_probe_that_is_not_finite_is_no_fault():
    @gx.step(nan="raise")
    def step(x: gx.f32["b"]):
        gx.probe(gx.log(x), "log")
        return x.sum()

    with gx.debug():
        assert step(np.zeros(3, np.float32)) == 0
    assert np.isneginf(step.probes["log"]).all()


def test_equal_labels_are_told_apart(capsys):
    @gx.step
    def step(x: gx.f32["b"]):
        for factor in (1, 2):
            gx.print(x.sum() * factor)
        return x

    step(np.ones(3, np.float32))
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "x.sum() * factor",
        "x.sum() * factor (2)",
    ]


def test_print_of_what_is_known(capsys):
    gx.print(gx.parameter("w", np.zeros(2, np.float32)) + 1)
    assert capsys.readouterr().out.splitlines()[1] == "[1. 1.]"


def traced(body):
    @gx.step
    def step(x: gx.f32["b", 4]):
        return body(x)

    return step


def twice(x):
    gx.probe(x, "h")
    return gx.probe(x, "h")


def in_scan(x):
    return gx.scan(lambda s, row: (s, gx.probe(row, "row")), gx.zeros(4), x)[1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gx.probe(gx.input("x", gx.f32["b"]), "h"), "gx.probe of f32[b] has no step that could show it"),
        (lambda: gx.print(gx.input("x", gx.f32["b"])), "gx.print of f32[b] has no step that could show it"),
        (lambda: traced(twice), "two probes of one step are called 'h'"),
        (lambda: traced(in_scan), "inside of a function given to scan, cond or custom_vjp"),
        (lambda: gx.sample(gx.input("x", gx.f32["b"]) + 1, X), "only inputs have samples, f32[b] is computed by add"),
    ],
)
def test_refusals(call, words):
    check_refusal(call, words, kind=gx.TraceError)


def test_arguments_that_do_not_fit():
    x = gx.input("x", gx.f32["b", 4])
    check_refusal(lambda: gx.probe(x, 3), "the name of a probe is 3")
    check_refusal(lambda: gx.print(x, 3), "the name of what is printed is 3")
    check_refusal(lambda: gx.sample(x, X[:, :3]), "got shape (10, 3): axis 1 must be 4, not 3", kind=gx.ShapeError)


def test_samples_show_numbers_while_tracing(capsys):
    net = nn.Linear(4, 3)
    before = gx.get_rng_state()

    @gx.step
    def step(x: gx.f32["b", 4], y: gx.i64["b"]):
        gx.sample(x, X[:2])
        h = net(x)
        print(h)
        print(repr(h))
        str(gx.dropout(h, 0.5, True))
        np.testing.assert_array_equal(gx.get_rng_state(), before)
        loss = nn.CrossEntropyLoss()(h, y)
        print(loss)  # y has no sample
        gx.sample(y, LABELS[:2])
        print(loss)
        return loss

    lines = capsys.readouterr().out.splitlines()
    logits = X[:2] @ net.weight.numpy().T + net.bias.numpy()
    assert lines[0] == "Tensor(f32[b,3]) of the sample:"
    numbers = np.array("".join(lines[1:3]).replace("[", " ").replace("]", " ").split(), float)
    np.testing.assert_allclose(numbers.reshape(2, 3), logits, rtol=1e-4, atol=1e-6)
    assert lines[3] == "Tensor(f32[b,3])"
    assert lines[4] == "Tensor(f32[])"
    assert lines[5] == "Tensor(f32[]) of the sample:"
    assert float(lines[6]) == pytest.approx(float(step(X[:2], LABELS[:2])), rel=1e-5)

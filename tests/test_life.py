"""What happens to a step: interrupted epochs, other processes, two steps of one net, states that do not fit."""

from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest

import graphc as gx
from graphc import data, nn, optim

X = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
Y = np.arange(50) % 4


def training(seed=3):
    """A step whose every call draws random numbers."""
    gx.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 4))
    return net, compiled(net, optim.Adam(net.parameters(), lr=0.01))


def compiled(net, optimizer):
    return gx.train_step(net, nn.CrossEntropyLoss(), optimizer, x=gx.f32["batch", 6], y=gx.i64["batch"])


def loader():
    return data.DataLoader(data.TensorDataset(X, Y), batch_size=8, shuffle=True, seed=5)


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupted_epoch_is_the_steps_it_did(threads):
    """Whole steps, and all that follows goes on from there."""

    def interrupt(done, _):
        if done == 3:
            raise KeyboardInterrupt

    batches, (_, step), ours = loader(), training(), loader()
    step.threads = threads
    with pytest.raises(KeyboardInterrupt):
        step.epoch(batches, progress=interrupt, slices=7)
    found, record = step.state_dict(), step.epoch(batches)
    end = step.state_dict()
    _, step = training()
    for _, batch in zip(range(3), ours, strict=False):
        step(*batch)
    same(found, step.state_dict())
    losses = [(len(x), step(x, y).loss) for x, y in ours]
    same(end, step.state_dict())
    assert record.loss == pytest.approx(sum(count * loss for count, loss in losses) / 50, rel=1e-6)


def train_elsewhere(given, results):
    """What a worker does: a pickled net, an optimizer of its own, three steps."""
    net = pickle.loads(given)
    gx.manual_seed(7)
    step = compiled(net, optim.SGD(net.parameters(), lr=0.1))
    losses = [float(step(X[:8], Y[:8]).loss) for _ in range(3)]
    results.put((losses, net.state_dict()))


@pytest.mark.filterwarnings("ignore:os.fork")  # of JAX, where a test before has imported it
@pytest.mark.parametrize("way", [way for way in ("fork", "spawn") if way in multiprocessing.get_all_start_methods()])
def test_a_net_is_trained_in_another_process(way):
    net, step = training()
    step(X, Y)
    given, context = pickle.dumps(net), multiprocessing.get_context(way)
    results = context.SimpleQueue()
    worker = context.Process(target=train_elsewhere, args=(given, results))
    worker.start()
    found = results.get()
    worker.join()
    here = multiprocessing.SimpleQueue()
    before = net.state_dict()
    train_elsewhere(given, here)
    wanted = here.get()
    assert found[0] == wanted[0]
    same(found[1], wanted[1])
    same(net.state_dict(), before)


def test_two_steps_of_one_net_take_turns():
    """Each sees what the other did; the same as one who knows of no other, whose states are handed over each time."""
    net, first = training()
    second = compiled(net, optim.SGD(net.parameters(), lr=0.1))
    for number in range(6):
        (second if number % 2 else first)(X[: 8 + number], Y[: 8 + number])
    found = net.state_dict()
    net, first = training()
    twin, _ = training()
    second = compiled(twin, optim.SGD(twin.parameters(), lr=0.1))
    gx.manual_seed(3)
    for number in range(6):
        step, other, own = (second, net, twin) if number % 2 else (first, twin, net)
        own.load_state_dict(other.state_dict())
        step(X[: 8 + number], Y[: 8 + number])
    same(twin.state_dict(), found)


def test_a_state_that_does_not_fit_changes_nothing():
    net, step = training()
    step(X, Y)
    before = step.state_dict()
    for owner, state in ((net, net.state_dict()), (step, step.state_dict())):
        name = next(reversed(state))
        with pytest.raises(gx.CheckpointError):
            owner.load_state_dict({**state, "0.weight": state["0.weight"][:, :5], name: state[name] * 0})
    same(step.state_dict(), before)
    step(X, Y)

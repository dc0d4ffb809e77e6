"""Threads share a step: the same bits for any number of them, and nobody waits forever."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import graphc as gx
from graphc import data, nn, optim
from graphc.backends import crew as crews
from graphc.errors import LabelError
from graphc.ir import partition

BATCH = gx.dim("batch", max=96)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer, self.head = nn.Embedding(12, 24), nn.LSTM(24, 40, batch_first=True), nn.Linear(40, 10)

    def forward(self, x):
        return self.head(self.layer(self.table(x))[0][:, -1])


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(70, 130), nn.ReLU(), nn.Dropout(0.5), nn.Linear(130, 10))


def convolutional() -> nn.Module:
    front = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(nn.Unflatten(1, (1, 10, 7)), *front, nn.Flatten(), nn.Linear(60, 10))


def attentive() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
    return nn.Sequential(nn.Embedding(12, 32), layer, nn.Flatten(), nn.Linear(9 * 32, 10))


NETS = {
    "perceptron": (perceptron, gx.f32[BATCH, 70]),
    "convolutional": (convolutional, gx.f32[BATCH, 70]),
    "recurrent": (Recurrent, gx.i64[BATCH, 9]),
    "attentive": (attentive, gx.i64[BATCH, 9]),
}


@pytest.fixture
def cut_everything(monkeypatch, tmp_path):
    """However little work there is; what is compiled so is not left to others."""
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(partition, "WORTHWHILE", 1)


def built(name):
    build, kind = NETS[name]
    gx.manual_seed(3)
    net = build()
    step = gx.train_step(net, nn.CrossEntropyLoss(), optim.AdamW(net.parameters()), x=kind, y=gx.i64[BATCH])
    rng = np.random.default_rng(0)
    shape = (300, *kind.shape[1:])
    x = rng.normal(size=shape).astype(np.float32) if kind.dtype == "f32" else rng.integers(0, 12, shape)
    return step, x, rng.integers(0, 10, 300)


def trained(name, threads):
    """Losses, parameters and optimizer states after single steps of several sizes and an epoch with a ragged end."""
    step, x, y = built(name)
    step.threads = threads
    losses = [step(x[:rows], y[:rows]).loss for rows in (96, 1, 17)]
    losses.append(step.epoch(data.DataLoader(data.TensorDataset(x, y), batch_size=64, shuffle=True, seed=1)).loss)
    return losses, {key: parameter.numpy().copy() for key, parameter in step.parameters.items()}


@pytest.mark.parametrize("name", NETS)
def test_any_number_of_threads_gives_the_same_bits(name, cut_everything) -> None:
    losses, states = trained(name, 1)
    for threads in (2, 3, 4):
        again, others = trained(name, threads)
        assert again == losses
        assert all(np.array_equal(states[key], others[key]) for key in states)


def test_large_nests_are_cut_and_small_ones_are_not() -> None:
    x, w = gx.input("x", gx.f32[300_000]), gx.input("w", gx.f32[40])
    step = gx.function([x, w], [gx.tanh(x).sum(), w * 2])
    cut = {nest.name: nest.partition for nest in step.artifact.program.nests}
    assert [each is not None for each in cut.values()] == [True, False]
    assert "cut into 16 parts" in step.text("program") and "shares(" in step.source()


def test_sums_of_parts_are_the_sum() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(513, 700)).astype(np.float32)
    given = gx.input("x", gx.f32[gx.dim("n", max=600), 700])
    step = gx.function([given], [given.sum(), given.sum(0), given.max(), given.max(0), (given * 2).mean()])
    step.threads = 3
    for rows in (513, 64, 15, 1):
        total, column, most, top, mean = step(x[:rows])
        wide = x[:rows].astype(np.float64)
        np.testing.assert_allclose(total, wide.sum(), rtol=1e-5, atol=0.05)
        np.testing.assert_allclose(column, wide.sum(0), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(mean, 2 * wide.mean(), rtol=1e-4, atol=1e-5)
        assert most == x[:rows].max() and np.array_equal(top, x[:rows].max(0))


def wait_for_helpers() -> None:
    """Until they have left the last call; on a busy machine that may take a while."""
    end = time.perf_counter() + 20
    while not all(helper.is_free for helper in crews.crew().helpers) and time.perf_counter() < end:
        time.sleep(0.001)
    assert all(helper.is_free for helper in crews.crew().helpers)


def test_a_failed_check_updates_nothing_whoever_finds_it(cut_everything) -> None:
    step, x, y = built("perceptron")
    step.threads = 3
    before = {key: parameter.numpy().copy() for key, parameter in step.parameters.items()}
    for _ in range(20):
        with pytest.raises(LabelError):
            step(x[:96], np.where(np.arange(96) == 50, 10, y[:96]))
    assert all(np.array_equal(before[key], parameter.numpy()) for key, parameter in step.parameters.items())
    for _ in range(20):  # also while others still look at what the check counted
        assert np.isfinite(step(x[:96], y[:96]).loss)
    wait_for_helpers()


def test_callers_in_several_threads_get_what_one_gets(cut_everything) -> None:
    """Whoever finds the crew at work does the work alone."""
    net = perceptron()
    step = gx.predict_step(net, x=gx.f32[BATCH, 70])
    others = [gx.predict_step(net, x=gx.f32[BATCH, 70]) for _ in range(2)]
    x = np.random.default_rng(2).normal(size=(96, 70)).astype(np.float32)
    step.threads = 1
    expected, found = step(x), []
    for other in others:
        other.threads = 2
    callers = [threading.Thread(target=lambda f=f: found.extend(f(x) for _ in range(50))) for f in others * 2]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert len(found) == 200 and all(np.array_equal(each, expected) for each in found)


def test_more_threads_than_processors_under_load(cut_everything) -> None:
    """Those who wait yield: four threads beside a busy process are not orders of magnitude slower than one."""
    step, x, y = built("perceptron")

    def seconds(threads: int) -> float:
        step.threads = threads
        start = time.perf_counter()
        for _ in range(10):
            step(x[:96], y[:96])
        return time.perf_counter() - start

    seconds(4)
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        alone = min(seconds(1) for _ in range(3))
        assert min(seconds(4) for _ in range(3)) < max(100 * alone, 5)
    finally:
        busy.kill()
        busy.wait()


def wide() -> tuple[gx.Function, np.ndarray]:
    """A function that two threads share, and what it is called with."""
    given = gx.input("x", gx.f32[100_000])
    step = gx.function([given], gx.tanh(given).sum())
    step.threads = 2
    return step, np.linspace(-1, 1, 100_000, dtype=np.float32)


def test_calls_at_any_distance_find_a_helper() -> None:
    """Awake, on its way to sleep, asleep: no call is slept through, and two functions share the helper."""
    (step, x), (other, _) = wide(), wide()
    expected = step(x)
    busy_until = random = 0.0
    for number in range(3000):
        random = (random + 0.618) % 1
        busy_until = time.perf_counter() + random * 3 * crews.AWAKE
        while time.perf_counter() < busy_until:
            pass
        assert (step, other)[number % 2](x) == expected


def test_a_helper_sleeps_when_no_call_comes() -> None:
    step, x = wide()
    for _ in range(20):
        step(x)
    wait_for_helpers()
    start = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - start < 0.05


def test_helpers_stay_awake_only_where_each_has_a_processor() -> None:
    step, x = wide()
    expected = step(x)
    helper = crews.crew().helpers[0]
    wait_for_helpers()
    assert step(x) == expected
    wait_for_helpers()
    assert (helper.looks > 0) == (crews.crew().processors > 1)
    step.threads = crews.crew().processors + 1
    assert step(x) == expected and helper.looks == 0


def test_who_finds_a_helper_still_busy_works_alone(monkeypatch) -> None:
    step, x = wide()
    expected = step(x)
    wait_for_helpers()
    told = crews.crew().helpers[0].done.value
    monkeypatch.setattr(crews.Helper, "is_free", False)
    assert step(x) == expected and crews.crew().helpers[0].done.value == told


def test_an_interrupt_before_the_others_are_told_leaves_nobody_waiting(monkeypatch) -> None:
    step, x = wide()
    expected = step(x)
    wait_for_helpers()
    promise = crews.Helper.promise

    def interrupted(*given) -> None:
        promise(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(crews.Helper, "promise", interrupted)
    with pytest.raises(KeyboardInterrupt):
        step(x)
    monkeypatch.undo()
    wait_for_helpers()
    assert step(x) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_a_crew_of_its_own() -> None:
    code = """
import os, threading
import numpy as np, graphc as gx
x = gx.input("x", gx.f32[400_000])
step = gx.function([x], gx.tanh(x).sum())
step.threads = 2
ones = np.ones(400_000, np.float32)
expected = step(ones)
child = os.fork()
if not child:
    os._exit(0 if step(ones) == expected else 1)
_, status = os.waitpid(child, 0)
assert status == 0 and step(ones) == expected
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)


def test_thread_limit_is_that_of_the_setting(monkeypatch) -> None:
    monkeypatch.setenv("GRAPHC_THREADS", "5")
    assert crews.thread_limit() == 5
    monkeypatch.setenv("GRAPHC_THREADS", "none")
    assert crews.thread_limit() == len(os.sched_getaffinity(0))

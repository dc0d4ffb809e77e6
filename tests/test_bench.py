"""The benchmarks measure what they say: workloads train, gradients by hand agree, counts and tables are right."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from graphc import cli
from graphc.backends import target
from graphc.bench import floor, machine, report
from graphc.bench.compare import Process
from graphc.bench.systems import graphc as in_graphc
from graphc.bench.systems import numpy as by_hand
from graphc.bench.workloads import SEED, WORKLOADS
from graphc.ir.random import permutation

WRITTEN = [name for name, workload in WORKLOADS.items() if workload.model in by_hand.MODELS]


def system_of(module, name):
    """A workload without dropout in one system, and its batches."""
    workload = replace(WORKLOADS[name], dropout=0.0)
    data = workload.data()
    return module.System(workload, data, workload.weights()), workload.batches(data)


def losses(system, batches, count):
    return [system.number(system.step(*system.given(batch))) for batch in batches[:count]]


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_trains(name):
    system, batches = system_of(in_graphc, name)
    first = losses(system, batches[:1] * 2, 2)
    assert np.isfinite(first).all() and first[1] < first[0]
    system.reset()
    assert losses(system, batches[:1] * 2, 2) == first


@pytest.mark.parametrize("name", WRITTEN)
def test_gradients_by_hand_agree(name):
    ours, theirs = (losses(*system_of(module, name), 5) for module in (in_graphc, by_hand))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_an_epoch_is_its_steps():
    """The order of a shuffled one is that which the peers are given."""
    for name in ("W1", "W5"):
        system, batches = system_of(in_graphc, name)
        workload = system.workload
        if workload.shuffled:
            order = permutation(workload.steps * workload.batch, SEED, 0)
            batches = workload.batches(tuple(array[order] for array in workload.data()))
        told = losses(system, batches, len(batches))
        system.reset()
        assert system.number(system.epoch(None)) == pytest.approx(np.mean(told), rel=1e-5)


def test_a_worker_answers():
    process = Process("numpy", "W1")
    assert process.start["ways"] == ["step"] and process.start["import"] > 0
    told = process.ask("losses")["losses"]
    assert len(told) == 20 and told == process.ask("losses")["losses"]
    assert 0 < process.ask("time", way="step", repeat=2)["seconds"] < 60
    assert 2**20 < process.ask("memory")["peak_bytes"] < 2**30
    process.stop()
    assert process.child.returncode == 0


def test_a_worker_that_dies_says_why():
    with pytest.raises(RuntimeError, match="NotImplementedError: W6 is not written by hand"):
        Process("numpy", "W6")


def test_command(capfd):
    assert cli.main(["bench", "W1", "--only", "graphc", "--only", "numpy", "--rounds", "2"]) == 0
    printed = capfd.readouterr().out
    assert (
        "graphc epoch" in printed
        and "numpy step" in printed
        and "losses of 20 steps at most" in printed
        and "NOT THE SAME" not in printed
    )


def test_a_busy_neighbour(capfd):
    assert cli.main(["bench", "W1", "--only", "numpy", "--neighbour", "--rounds", "2"]) == 0
    assert "two threads take" in capfd.readouterr().out


def test_counts():
    """Against every product written down one by one."""
    assert floor.counts(WORKLOADS["W3"]).operations == 2 * 256 * (2 * 784 * 256 + 3 * 256 * 10)
    assert floor.counts(WORKLOADS["W6"]).operations == 64 * (784 * 150 * 4 + 100 * 2400 * 6 + (48000 + 10080 + 840) * 6)
    gates, scores = 512 * 128, 128 * 64
    assert floor.counts(WORKLOADS["W8"]).operations == 32 * 32 * 6 * (gates + scores) + 64 * 6 * gates
    assert floor.counts(WORKLOADS["W5"]).functions == {"tanh": 20 * 64 * 32, "exp": 320, "log": 32}
    assert floor.counts(WORKLOADS["W7"]).bytes == 32_000_000
    weights = 1024 * 1024 * 2 + 1024 * 2 + 10 * 1024 + 10
    assert floor.counts(WORKLOADS["W10"]).bytes == 4 * 4 * weights + 512 * 1024 * 4 + 512 * 8


def test_the_floor_is_the_slowest_part():
    rates = {
        "multiply_adds": 1e9, "products": 2e9, "copies": {"1000000": 1e9, "100000000": 1e8},
        "functions": {"tanh": 1e6, "exp": 2e6, "log": 1e6},
    }  # fmt: skip
    found = floor.seconds(WORKLOADS["W7"], rates)
    assert found == {"operations": 0.0, "functions": pytest.approx(8 + 4), "bytes": pytest.approx(0.32)}


def test_chains_multiply_and_add():
    """What the peak is measured with computes what it says: so many chains, each x * y added up."""
    import ctypes

    from graphc.backends.loading import load_object

    engine = load_object(target.build([machine.multiply_adds(3)], ["peak"], target.host()))
    native = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(engine.get_function_address("peak"))
    memory = np.zeros(16 * 3 + 16, np.float32)
    start = memory[-memory.ctypes.data // 4 % 16 :]
    start[:32] = 3.0
    native(5, start.ctypes.data)
    assert (start[:48] == 45.0).all()


def a_finding(name, ours, theirs):
    lanes = {
        "graphc step": ours,
        "graphc epoch": [2 * time for time in ours],
        "jax step": theirs,
        "numpy step": [1.0] * 3,
    }
    start = dict.fromkeys(("import", "build", "first_step", "process"), 1.0)
    return {
        "workload": name, "threads": 1, "versions": {"graphc": "0", "jax": "1", "numpy": "2"}, "apart": {"jax": 1e-6},
        "seconds": lanes, "floor": {"operations": 0.05, "functions": 0.0, "bytes": 0.01},
        "starts": {"graphc": {"cold": start, "warm": start, "peak_bytes": 2**20}},
    }  # fmt: skip


def test_report(tmp_path):
    about = {
        "processor": "any", "cores": 2, "threads": 1, "python": "3", "numpy": "2", "multiply_adds": 1e11,
        "products": 9e10, "copies": {"100": 1e10, "200": 5e9}, "functions": {},
    }  # fmt: skip
    found = report.read(tmp_path)
    # Turn by turn the peer takes 4, 2 and 8 times as long; medians alone would say 4.
    report.add(found, about, a_finding("W3", [0.1, 0.2, 0.1], [0.4, 0.4, 0.8]))
    report.add(found, about, a_finding("W2", [0.1, 0.1, 0.1], [0.05, 0.05, 0.05]))
    report.add(found, about, a_finding("W3", [0.1, 0.2, 0.1], [0.3, 0.4, 0.4]))
    report.write(found, tmp_path)
    assert report.read(tmp_path) == found and [each["workload"] for each in found["workloads"]] == ["W2", "W3"]
    table = (tmp_path / "bench.md").read_text()
    assert "| jax step | 400000 | 3.00 (2.50–3.50) | 50% |" in table
    assert "| jax step | 50000 | 0.50 (0.50–0.50) | 50% |" in table
    assert f"| {(3.0 * 0.5) ** 0.5:.2f} |" in table
    drawing = ElementTree.fromstring((tmp_path / "bench.svg").read_text())
    hints = [each.text for each in drawing.iter("{http://www.w3.org/2000/svg}title")]
    assert "jax on W3: 3.00" in hints and "numpy on W2: 10.00" in hints
    assert "jax step" in report.lines(found["workloads"][0])

"""The check for a machine with a GPU, on one that is emulated: what it finds, and that it finds what is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest

from graphc.cuda_check import kernels, peers, programs, report, run, times, training

SMALL = programs.programs(small=True)


@pytest.mark.parametrize("name", SMALL)
def test_every_kernel_is_near_float64(gpu, name):
    *rest, whole = kernels.findings(SMALL[name])
    assert not rest and whole["ok"] and whole["arrays"] >= 2 and whole["launches"] >= 1


def test_a_kernel_that_is_wrong_is_found(gpu):
    """A kernel that leaves the last number of what it writes as it was."""
    program = SMALL["W3"]
    function = program.make("cuda")
    batch = program.batches()[0]
    assert all(row["ok"] for row in kernels.Bench(function).check(batch))
    bench = kernels.Bench(function)
    (broken,) = {row["kernel"] for row in kernels.Bench(function).check(batch) if "0.weight" in row["computes"]}
    work = gpu.kernels[broken]

    def stale(grid, block, shared, words):
        weight = next(state for state in function.runner.states if state.storage.here.shape == (256, 784))
        last = np.ctypeslib.as_array((np.ctypeslib.ctypes.c_float * 1).from_address(weight.place + 4 * (256 * 784 - 1)))
        before = last.copy()
        work(grid, block, shared, words)
        last[:] = before + 1

    gpu.kernels[broken] = stale
    wrong = [row for row in bench.check(batch) if not row["ok"]]
    assert [row["computes"] for row in wrong] == ["update of 0.weight: f32[256,784]"] and wrong[0]["kernel"] == broken


@pytest.mark.parametrize("name", ["W1", "W4", "W6", "gru", "attention", "svm", "conv", "norm"])
def test_training_gives_what_the_cpu_gives(gpu, name):
    row = training.compared(SMALL[name])
    assert row["ok"] and np.isfinite(row["loss"])


def test_training_that_goes_another_way_is_found(gpu, monkeypatch):
    real = training.loss_of
    monkeypatch.setattr(training, "loss_of", lambda found: real(found) + 0.1 * gpu.calls.count("cuGraphLaunch"))
    assert not training.compared(SMALL["W1"])["ok"]


def test_times_and_ceilings(gpu, monkeypatch):
    monkeypatch.setattr(times, "SAMPLE_SECONDS", 1e-4)
    found = [*times.step_times(programs.timed(small=True)["W3"])]
    assert [row["what"] for row in found] == ["step", "call", "epoch"] and all(row["microseconds"] > 0 for row in found)
    copy, moved, chain, product, attention = times.ceilings(small=True)
    assert chain["share_of_copy"] == pytest.approx(
        chain["bytes_a_second"] / max(copy["bytes_a_second"], moved["bytes_a_second"])
    )
    assert product["operations_a_second"] > 0 and attention["operations_a_second"] > 0


def test_all_of_it(gpu, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(times, "SAMPLE_SECONDS", 1e-4)
    monkeypatch.setattr(programs, "TIMED", {name: programs.TIMED[name] for name in ("W3", "L1")})
    monkeypatch.setattr(programs, "programs", lambda small: {"W1": SMALL["W1"]})
    out = tmp_path / "check.json"
    assert run.main(["--small", "--here", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert {each["subject"] for each in found["sections"]} == set(run.SUBJECTS)
    said = capsys.readouterr().out
    assert "2 of 2 programs right" in said and "everything that was checked is right" in said
    assert "finds no GPU" in said or "is not installed" in said  # of the peers
    monkeypatch.setattr(training, "LOSSES", -1.0)
    assert run.main(["--small", "--here", "--only", "training"]) == 1
    assert "not right: training W1" in capsys.readouterr().out
    assert run.main(["--small", "--here", "--seconds", "5"]) == 0  # no time for anything
    assert "no time left" in capsys.readouterr().out


def test_a_section_that_fails_stops_no_other(gpu, monkeypatch, capsys):
    def fails(small):
        raise RuntimeError("the bus is on fire")
        yield

    monkeypatch.setattr(times, "ceilings", fails)
    assert run.main(["--small", "--here", "--only", "ceilings", "--only", "environment"]) == 1
    said = capsys.readouterr().out
    assert "FAILED  RuntimeError: the bus is on fire" in said and "a GPU in the mind" in said


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    from graphc.backends.cuda import driver

    driver.open_driver.cache_clear()
    driver.first_device.cache_clear()
    monkeypatch.setattr(driver, "LIBRARIES", ("libnothing-of-this-name.so",))
    assert run.main([]) == 2
    said = capsys.readouterr().out
    assert said.startswith("nothing was checked: there is no NVIDIA driver here") and said.count("\n") == 1


def test_a_process_that_ends_badly_or_hangs_is_a_finding():
    """Here the sections find no driver; with no time at all, they are ended before that."""
    section = run.Section("kernels", "W1", 60)
    (row,) = run.apart(section, True, 60)
    assert "there is no NVIDIA driver here" in row["error"] or "finds no GPU" in row["error"]
    (row,) = run.apart(section, True, 0.01)
    assert row["error"].startswith("not done after")
    assert report.is_wrong({"rows": [row]})


def test_sections_that_time_nothing_run_side_by_side():
    options = run.parser().parse_args(["--small"])
    found = [*run.groups(run.sections(options), one_by_one=False)]
    assert [len(each) for each in found[:3]] == [1, 2 * len(SMALL), 1]
    assert all(len(each) == 1 for each in found[2:])
    assert {len(each) for each in run.groups(run.sections(options), one_by_one=True)} == {1}


def test_the_table_sets_peers_beside_ours():
    both = {"workload": "W3", "title": "an MLP", "what": "step", "precision": "highest"}
    ours = both | {"system": "graphc", "microseconds": 20.0}
    peer = both | {"system": "torch.compile, reduce-overhead", "microseconds": 90.0}
    lines = [*report.table([ours, peer])]
    assert lines[0] == "W3  an MLP, products in highest" and "20.0 us  (wanted: 25)" in lines[1]
    assert lines[2].endswith("90.0 us  4.50 x graphc  (wanted: 3)")


def test_peers_do_the_same_step(monkeypatch):
    """On the CPU, which has nothing to be waited for."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(peers, "DEVICE", "cpu")
    monkeypatch.setattr(peers, "TORCH", {"torch eager": None})
    for workload in programs.timed(small=True).values():
        (row,) = peers.torch_times(workload, "highest")
        assert row.get("microseconds", 0) > 0, row

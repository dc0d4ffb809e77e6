"""The check for a machine with a GPU, on one that is emulated: what it finds, and that it finds what is wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from graphc.backends.cuda.assembler import Resources
from graphc.backends.cuda.driver import DriverError, first_device
from graphc.backends.cuda.memory import Block
from graphc.backends.target import BuildError
from graphc.cuda_check import compiling, exchange, kernels, peers, programs, report, run, starts, times, training

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
    assert wrong[0]["at"] == "[255, 783]" and wrong[0]["off"] == 1 and wrong[0]["found"] > wrong[0]["wanted"] + 0.5
    gpu.failing["cuLaunchKernel"] = 700
    with pytest.raises(DriverError, match=r"^dot_\w+: cuLaunchKernel: CUDA_ERROR_ILLEGAL_ADDRESS"):
        [*bench.check(batch)]
    gpu.failing.clear()


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "?"])
def test_what_is_wrong_is_told_with_its_place(dtype):
    wanted = np.arange(6).reshape(2, 3).astype(dtype)
    found = wanted.copy()
    found[1, 2] = 0
    if dtype == "f4":
        wanted[0, :2] = found[0, :2] = np.inf, np.nan
    told = kernels.evidence(found, wanted)
    assert told == {"at": "[1, 2]", "found": 0.0, "wanted": float(wanted[1, 2]), "off": 1, "of": 6}
    assert kernels.evidence(np.array(np.nan, np.float32), np.array(2.0))["off"] == 1


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
    monkeypatch.setattr(starts, "starts", lambda small: iter([{"what": "cold start", **starts.made(small)}]))
    monkeypatch.setattr(starts, "NAME", "W1")
    monkeypatch.setattr(run, "EXCHANGES", {"torch": "W1"})
    out = tmp_path / "check.json"
    assert run.main(["--small", "--here", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert {each["subject"] for each in found["sections"]} == set(run.SUBJECTS)
    said = capsys.readouterr().out
    assert "2 of 2 programs right" in said and "everything that was checked is right" in said
    assert len(found["wanted"]) == 7 and found["wanted"] == report.wanted_figures(found["sections"])
    assert re.search(r"\n(met|MISSED) +W3: microseconds a step: .* \(wanted: at most 25\)\n", said)
    assert "\nnot measured W9: times quicker than torch.compile: (wanted: at least 1)\n" in said
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


def test_without_a_gpu_every_kernel_is_compiled(monkeypatch, capsys, tmp_path):
    def checked(assembler, assemble):
        monkeypatch.setattr(compiling, "assembler", lambda: assembler)
        monkeypatch.setattr(compiling, "assemble", assemble)
        out = tmp_path / "kernels.json"
        status = run.main(["--without-gpu", "--small", "--out", str(out)])
        return status, capsys.readouterr().out, json.loads(out.read_text())

    def kernels(ptx, spilled=0):
        return {name: Resources(40, spilled, spilled) for name in re.findall(r"\.entry (\w+)", ptx)}

    def refuse(ptx, architecture):
        raise BuildError("ptxas refuses the kernels")

    monkeypatch.setattr(programs, "programs", lambda small: {name: SMALL[name] for name in ("W1", "svm")})
    status, said, rows = checked("ptxas", lambda ptx, architecture: kernels(ptx))
    assert status == 0
    assert [(row["program"], row["architecture"]) for row in rows][1:3] == [("W1", "sm_90"), ("svm", "sm_80")]
    last = r"\d kernels compiled for sm_80 and sm_90: at most  40 registers, 0 bytes spilled, 0 bytes of local memory\n"
    assert re.search(last, said) and said.count("svm") == 2
    status, said, _ = checked("ptxas", lambda ptx, architecture: kernels(ptx, spilled=8 * (architecture == "sm_90")))
    assert status == 1 and re.search(r"W1    sm_90   \d kernels, .* [1-9]\d* bytes spilled", said)
    status, said, _ = checked("ptxas", lambda ptx, architecture: {})
    assert status == 1  # it told of none
    status, said, _ = checked("ptxas", refuse)
    assert status == 1 and "ptxas refuses the kernels" in said.splitlines()[-1]
    status, said, _ = checked(None, lambda ptx, architecture: {})
    assert status == 0 and said.splitlines()[-1].endswith("for sm_80 and sm_90: registers unknown: no ptxas")


def test_a_process_that_ends_badly_or_hangs_is_a_finding():
    """Here the sections find no driver; with no time at all, they are ended before that."""
    section = run.Section("kernels", "W1", 60)
    (row,) = run.apart(section, True, 60)
    assert "there is no NVIDIA driver here" in row["error"] or "finds no GPU" in row["error"]
    (row,) = run.apart(section, True, 0.01)
    assert row["error"].startswith("not done after")
    assert report.is_wrong({"rows": [row]})


def test_what_a_section_has_started_ends_with_it(monkeypatch):
    """Such as compilers that PyTorch starts, which hold on to what they write to."""
    script = f"import subprocess; print({run.MARK!r} + '3', subprocess.Popen(['sleep', '60']).pid, sep='')"
    begun = time.monotonic()
    (number,) = run.found_by([sys.executable, "-c", script], 30, {})
    assert time.monotonic() - begun < 20
    sleeping = Path(f"/proc/{str(number)[1:]}/stat")
    while sleeping.exists() and sleeping.read_text().split()[2] != "Z":  # it is on its way
        assert time.monotonic() - begun < 20
        time.sleep(0.01)
    monkeypatch.setattr(run, "found_by", lambda *given: [][0])
    (row,) = run.apart(run.Section("kernels", "W1", 60), True, 60)
    assert row["error"].startswith("IndexError")


def test_arrays_of_pytorch_are_exchanged(gpu, monkeypatch):
    """With a stand-in for what PyTorch has on the GPU."""
    device = first_device()

    class There:
        def __init__(self, numbers):
            self.numbers, self.place = numbers, Block(device, numbers.nbytes)
            device.work.send(self.place.place, numbers.ctypes.data, numbers.nbytes)

        def __len__(self):
            return len(self.numbers)

        @property
        def __cuda_array_interface__(self):
            told = {"shape": self.numbers.shape, "typestr": self.numbers.dtype.str, "data": (self.place.place, False)}
            return told | {"version": 3, "strides": None, "stream": None}

    def read(weight):
        device.work.finish()
        told = weight.__cuda_array_interface__
        size, kind = int(np.prod(told["shape"])), np.dtype(told["typestr"])
        memory = (np.ctypeslib.ctypes.c_uint8 * (size * kind.itemsize)).from_address(told["data"][0])
        numbers = np.frombuffer(memory, kind).reshape(told["shape"])
        return types.SimpleNamespace(cpu=lambda: types.SimpleNamespace(numpy=lambda: numbers))

    fake = types.ModuleType("torch")
    fake.cuda = types.SimpleNamespace(is_available=lambda: True)
    fake.from_numpy = lambda array: types.SimpleNamespace(cuda=lambda: There(array))
    fake.from_dlpack = read
    monkeypatch.setitem(sys.modules, "torch", fake)
    (row,) = exchange.with_torch(SMALL["W4"])
    assert row["ok"] and row["losses_apart"] < 1e-3
    nothing = types.SimpleNamespace(numpy=lambda: np.zeros(()))
    fake.from_dlpack = lambda weight: types.SimpleNamespace(cpu=lambda: nothing)
    assert not next(exchange.with_torch(SMALL["W4"]))["ok"]


def test_how_long_a_start_takes_is_asked_of_processes_that_start(monkeypatch):
    folders = []

    def done(command, env, **options):
        folders.append((env["GRAPHC_CACHE_DIR"], env["CUDA_CACHE_PATH"]))
        said = f"{run.MARK}{json.dumps({'make_seconds': 0.5 / len(folders), 'fresh': len(folders) == 1})}\n"
        return subprocess.CompletedProcess(command, 0, said, "")

    monkeypatch.setattr(starts.subprocess, "run", done)
    cold, warm = starts.starts(small=True)
    assert cold == {"what": "cold start", "wanted": 2.0, "make_seconds": 0.5, "fresh": True} and not warm["fresh"]
    assert len({*folders}) == 1
    figures = {row["figure"]: row["met"] for row in report.wanted_figures([{"rows": [cold, warm]}])}
    assert figures["W3: seconds to make the step, cold start"] is True
    assert figures["W3: seconds to make the step, warm start"] is False
    assert figures["W3: microseconds a step"] is None


def test_how_long_a_step_takes_to_be_made(gpu):
    row = starts.made(small=True)
    assert row["make_seconds"] > 0 and isinstance(row["fresh"], bool)


def test_figures_that_are_wanted():
    def step(workload, system, microseconds, precision="highest"):
        row = {"workload": workload, "system": system, "what": "step", "precision": precision}
        return row | {"microseconds": microseconds}

    rows = [step("W3", "graphc", 20.0), step("W3", "torch.compile, reduce-overhead", 59.0), step("L1", "graphc", 100.0)]
    rows += [step("L1", "torch eager", 95.0), step("L1", "graphc", 1.0, "tf32"), {"share_of_copy": 0.81}]
    met = [figure["met"] for figure in report.wanted_figures([{"rows": rows}])]
    assert met == [True, False, True, None, True, None, None]


def test_sections_that_time_nothing_run_side_by_side():
    options = run.parser().parse_args(["--small"])
    found = [*run.groups(run.sections(options), one_by_one=False)]
    assert [len(each) for each in found[:3]] == [1, 2 * len(SMALL) + 2, 1]
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

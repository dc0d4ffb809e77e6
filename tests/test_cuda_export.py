"""The library for a GPU that an export writes: called from outside, with a driver that launches kernels on the CPU."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_driver import emulated, with_all

import graphc as gx
from graphc import nn, optim
from graphc.backends.cuda.emulation.machine import object_of
from graphc.backends.cuda.entries import word_names
from graphc.backends.export.device import drawing_of
from graphc.backends.export.signatures import faces
from graphc.backends.link import link_shared_object
from graphc.cuda_check import programs
from graphc.data import DataLoader, TensorDataset

BATCH = gx.dim("batch", max=24)
FUNCTION = ctypes.CFUNCTYPE
P, I64, U64, I32 = ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64, ctypes.c_int32


class Driver:
    """The functions that such a library looks for; the device's memory is the host's, and nothing waits."""

    def __init__(self, kernels):
        self.kernels, self.names, self.calls, self.failing = kernels, [], [], {}
        self.found = {
            "cuLaunchKernel": FUNCTION(I32, P, *[ctypes.c_uint32] * 7, P, P, P)(self.launch),
            "cuMemcpyDtoDAsync_v2": FUNCTION(I32, U64, U64, U64, P)(self.copy),
            "cuMemsetD8Async": FUNCTION(I32, U64, ctypes.c_uint8, U64, P)(self.fill),
            "cuModuleUnload": FUNCTION(I32, P)(lambda module: self.note("cuModuleUnload")),
            "cuModuleLoadData": FUNCTION(I32, P, ctypes.c_char_p)(self.load),
            "cuModuleGetFunction": FUNCTION(I32, P, P, ctypes.c_char_p)(self.get),
            "cuFuncSetAttribute": FUNCTION(I32, P, I32, I32)(lambda *given: self.note("cuFuncSetAttribute")),
        }
        self.find = FUNCTION(P, ctypes.c_char_p)(lambda name: ctypes.cast(self.found[name.decode()], P).value)

    def note(self, name):
        self.calls.append(name)
        return self.failing.get(name, 0)

    def load(self, place, text):
        assert b".version" in text and b".target sm_80" in text
        ctypes.c_int64.from_address(place).value = 4711
        return self.note("cuModuleLoadData")

    def get(self, place, module, name):
        assert module == 4711
        self.names.append(name.decode())
        ctypes.c_int64.from_address(place).value = len(self.names)
        return self.note("cuModuleGetFunction")

    def launch(self, kernel, *rest):
        *sizes, shared, stream, parameters, _ = rest
        assert stream == 99 and min(sizes) >= 1
        name = self.names[kernel - 1]
        count = self.words[name]
        places = (ctypes.c_int64 * count).from_address(parameters)
        words = [U64.from_address(place).value for place in places]
        self.kernels[name](tuple(sizes[:3]), tuple(sizes[3:]), shared, words)
        return self.note("cuLaunchKernel")

    def copy(self, target, source, size, stream):
        ctypes.memmove(target, source, size)
        return self.note("copy")

    def fill(self, target, byte, size, stream):
        ctypes.memset(target, byte, size)
        return self.note("fill")


def place(array):
    return P(None) if array is None else P(array.ctypes.data)


def aligned(size):
    memory = np.full(size + 256, 0xFF, np.uint8)
    start = -memory.ctypes.data % 256
    return memory[start : start + size]


def classifier():
    gx.manual_seed(4)
    return classifier_of(optim.Adam, lr=0.01)


def classifier_of(optimizer, **settings):
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5))
    own, kinds = optimizer(net.parameters(), **settings), {"x": gx.f32[BATCH, 12], "y": gx.i64[BATCH]}
    return gx.train_step(net, nn.CrossEntropyLoss(), own, **kinds, metrics=["accuracy"])


class Loaded:
    """An exported library on such a device."""

    def __init__(self, made, folder):
        (face,) = faces(made.library)
        drawing = drawing_of(face)
        self.driver = Driver(emulated(drawing))
        self.driver.words = {entry.name: len(word_names(entry)) for entry in drawing.entries}
        self.library = ctypes.CDLL(str(folder / "cuda" / f"lib{folder.name}_cuda.so"))
        header = (folder / f"{folder.name}_cuda.h").read_text()
        sizes = {
            line.split()[1]: int(line.split("(")[1].rstrip(")"))
            for line in header.splitlines()
            if "_BYTES INT64" in line
        }
        self.loaded, self.work = (
            aligned(max(size for name, size in sizes.items() if name.endswith(end)))
            for end in ("_LOADED_BYTES", "_WORK_BYTES")
        )
        self.state, self.status = aligned(made.library.state_bytes), aligned(8)
        self.state[:] = np.frombuffer(made.block(), np.uint8)

    def open(self, name):
        return getattr(self.library, f"{name}_cuda_open")(P(self.loaded.ctypes.data), self.driver.find)

    def call(self, name, *given):
        words = [I64(each) if isinstance(each, int) else place(each) for each in given]
        memory = [P(each.ctypes.data) for each in (self.loaded, self.state, self.work)]
        return getattr(self.library, name)(*memory, *words, P(self.status.ctypes.data), P(99))

    @property
    def failed(self):
        return int(self.status.view(np.int64)[0])


def test_a_step_from_outside_gives_the_numbers_of_python(tmp_path, rng):
    step = classifier()
    folder = tmp_path / "net"
    made = gx.export(step, folder, targets=["cuda"])
    known = {str(file.relative_to(folder)) for file in made.files}
    assert {"cuda/libnet_cuda.so", "cuda/net.ptx", "net_cuda.h", "net.h"} <= known
    device = Loaded(made, folder)
    assert device.open("net") == 0
    for count, rate in ((24, None), (24, 0.02), (7, None)):
        x, y = rng.normal(size=(count, 12)).astype(np.float32), rng.integers(0, 5, count)
        step.set(lr=0.01 if rate is None else rate)
        wanted = step(x, y)
        results = np.zeros(2, np.float32)
        settings = None if rate is None else np.array([0.9, 0.999, rate])  # beta1, beta2, lr: as they were at export
        found = device.call("net_cuda_train_step", x, y, count, settings, results)
        assert found == 0 and device.failed == 0
        assert np.allclose(results, [wanted.loss, wanted.accuracy], rtol=1e-4), (results, wanted)
    state = made.state_dict_of(device.state.tobytes())
    for name, array in step.state_dict().items():
        assert np.allclose(state[name], array, rtol=1e-3, atol=1e-5), name
    assert device.library.net_cuda_close(P(device.loaded.ctypes.data)) == 0
    assert device.driver.calls[-1] == "cuModuleUnload"


def test_what_is_wrong_is_a_status(tmp_path, rng):
    folder = tmp_path / "net"
    made = gx.export(classifier(), folder, targets=["native", "cuda"])
    device = Loaded(made, folder)
    device.driver.failing["cuModuleLoadData"] = 222
    assert device.open("net") == -222
    device.driver.failing.clear()
    assert device.open("net") == 0
    x, y = rng.normal(size=(24, 12)).astype(np.float32), rng.integers(0, 5, 24)
    results = np.zeros(2, np.float32)

    def call(count=24, labels=y, out=results):
        return device.call("net_cuda_train_step", x, labels, count, None, out)

    before = device.state.copy()
    assert call(25) == 3 and call(0) == 3  # SIZE
    wrong = y.copy()
    wrong[3] = 5
    assert call(labels=wrong) == 0 and device.failed == 1
    assert np.array_equal(device.state, before)
    device.driver.failing["cuLaunchKernel"] = 700
    assert call() == -700
    assert call(out=None) == 1  # NULL
    assert call(labels=np.append(y, 0)[1:]) == 2  # MISALIGNED: kernels read 16 bytes at once


def test_an_epoch_from_outside_gives_the_numbers_of_python(tmp_path, rng):
    step = classifier()
    folder = tmp_path / "net"
    device = Loaded(gx.export(step, folder, targets=["cuda"]), folder)
    assert device.open("net") == 0
    x, y = rng.normal(size=(59, 12)).astype(np.float32), rng.integers(0, 5, 59)
    loader = DataLoader(TensorDataset(x, y), 24, shuffle=True, seed=7)
    means = np.full(3, np.nan)
    for order in (None, loader.epoch_order(0), loader.epoch_order(1)):
        # Rows as they lie, then two epochs of a loader that shuffles.
        wanted = step.epoch(DataLoader(TensorDataset(x, y), 24) if order is None else loader)
        assert device.call("net_cuda_train_step_epoch", x, y, 59, 24, order, None, means) == 0 and device.failed == 0
        assert np.allclose(means[:2], [wanted.loss, wanted.accuracy], rtol=1e-4) and means.view(np.int64)[2] == 3
    state = device.state.copy()
    y[40] = 5  # in the second of three steps
    assert device.call("net_cuda_train_step_epoch", x, y, 59, 24, None, None, means) == 0
    assert device.failed == 1 and means.view(np.int64)[2] == 1
    after = device.state.copy()
    device.state[:] = state
    assert device.call("net_cuda_train_step_epoch", x[:24], y[:24], 24, 24, None, None, means) == 0
    assert np.array_equal(device.state, after) and not np.array_equal(after, state)  # the first step was done, no more
    for samples, batch in ((0, 24), (59, 0), (59, 25)):
        assert device.call("net_cuda_train_step_epoch", x, y, samples, batch, None, None, means) == 3  # SIZE
    assert device.call("net_cuda_train_step_epoch", x, None, 59, 24, None, None, means) == 1  # NULL


@pytest.fixture
def trained_in_c(tmp_path):
    """(function, its library's folder, variables for a process whose driver, in C, runs the kernels on the CPU)."""
    gx.manual_seed(1)
    step = classifier_of(optim.SGD, lr=0.05)
    folder = tmp_path / "net"
    return step, folder, driver_in_c(gx.export(step, folder, targets=["cuda"]), tmp_path)


def driver_in_c(made, tmp_path):
    (face,) = faces(made.library)
    drawing = with_all(drawing_of(face))
    kernels = link_shared_object([object_of(drawing)], drawing.program.kernels, "libkernels.so", names_all=False)
    (tmp_path / "libkernels.so").write_bytes(kernels)
    lines = [f'{{"{entry.name}", {len(word_names(entry))}}},' for entry in drawing.entries]
    (tmp_path / "known.h").write_text("\n".join(lines))
    file = str(Path(__file__).with_name("fake_cuda.c"))
    compile_c(["-shared", "-fPIC", f"-I{tmp_path}", "-o", "libcuda.so.1", file], tmp_path)
    return os.environ | {"LD_LIBRARY_PATH": f"{tmp_path}:{made.folder / 'cuda'}"}


def test_the_check_tries_an_exported_library(tmp_path):
    program = programs.programs(small=True)["W4"]
    variables = driver_in_c(gx.export(program.make("cpu"), tmp_path / "checked", targets=["cuda"]), tmp_path)
    command = [sys.executable, "-m", "graphc.cuda_check", "--section", "exchange", "export", "--small"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout.removeprefix("graphc-found "))
    assert row["ok"] and row["what"] == "exported library" and row["losses_apart"] < 1e-3


def test_the_sample_in_c_trains_as_python_does(trained_in_c, tmp_path):
    step, folder, variables = trained_in_c
    files = [folder / "main_cuda.c", folder / "cuda/libnet_cuda.so", next(folder.glob("*/libnet.a"))]
    compile_c(["-std=c11", "-Wextra", "-o", "main", *map(str, files)], tmp_path)
    done = subprocess.run(["./main", "3"], cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [float(line.split()[-1]) for line in done.stdout.splitlines()[:3]]
    x, y = made_up(84 * 12, 84)
    loader = DataLoader(TensorDataset(x.reshape(84, 12), y), 24, shuffle=True, seed=1)
    assert np.allclose(found, [step.epoch(loader).loss for _ in range(3)], rtol=1e-4)
    assert done.stdout.splitlines()[3].startswith("state_hash ")


LOADED = """
import sys
import numpy as np
import net_cuda
assert "graphc" not in sys.modules
model = net_cuda.Model(seed=1)
data = np.load("data.npz")
x, y = data["x"], data["y"]
found = [model.train_step(x[:24], y[:24]).loss, model.train_step.set(lr=0.1)(x[:7], y[:7]).loss]
model.train_step.set(lr=0.05)
found += [model.train_step.epoch(x, y, batch=24, shuffle=9, epoch=number).loss for number in (0, 1)]
found.append(model.train_step.epoch(x, y, batch=24).accuracy)
model.save("state.bin")
for wrong in (lambda: model.train_step(x[:25], y[:25]), lambda: model.train_step(x[:2], y[:2] + 5)):
    try:
        wrong()
    except net_cuda.LibraryError as error:
        print(error)
again = net_cuda.Model(path="state.bin")
assert again.state_hash() == model.state_hash() and again.state_dict().keys() == model.state_dict().keys()
np.savez("found.npz", found=found, **model.state_dict())
"""


def test_the_loader_in_python_trains_as_python_does(trained_in_c, tmp_path, rng):
    step, folder, variables = trained_in_c
    x, y = rng.normal(size=(59, 12)).astype(np.float32), rng.integers(0, 5, 59)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    variables |= {"PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a count is outside of its range" in done.stdout and len(done.stdout.splitlines()) == 2
    loader = DataLoader(TensorDataset(x, y), 24, shuffle=True, seed=9)
    wanted = [step(x[:24], y[:24]).loss, step.set(lr=0.1)(x[:7], y[:7]).loss]
    step.set(lr=0.05)
    wanted += [step.epoch(loader).loss for _ in range(2)]
    wanted.append(step.epoch(DataLoader(TensorDataset(x, y), 24)).accuracy)
    found = np.load(tmp_path / "found.npz")
    assert np.allclose(found["found"], wanted, rtol=1e-4)
    for name, array in step.state_dict().items():
        assert np.allclose(found[name], array, rtol=1e-3, atol=1e-5), name


def made_up(count, labels):
    """What the sample draws: floats in [-1, 1), then labels."""
    bits, seed = [], 12345
    for _ in range(count + labels):
        seed = (seed * 1664525 + 1013904223) % 2**32
        bits.append(seed >> 8)
    return np.float32(bits[:count]) / np.float32(8388608) - np.float32(1), np.array(bits[count:]) % 5


def compile_c(arguments, folder):
    try:
        command = ["cc", *arguments, "-O1", "-D_GNU_SOURCE", "-Wall", "-Werror", "-ldl"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    assert done.returncode == 0, done.stderr


def test_what_is_taken_in_slices_is_for_the_cpu(tmp_path):
    kinds = {"x": gx.f32[gx.dim("batch", max=512), 12], "y": gx.i64[gx.dim("batch", max=512)]}
    gx.manual_seed(4)
    net = nn.Sequential(nn.Linear(12, 256), nn.Tanh(), nn.Linear(256, 5))
    sgd = optim.SGD(net.parameters(), lr=0.1)
    step = gx.train_step(net, nn.CrossEntropyLoss(), sgd, **kinds, max_bytes=300_000)
    assert step.artifact.description.rows
    with pytest.raises(gx.DeviceError, match="net cannot run on a GPU: rows of a batch are taken in slices") as caught:
        gx.export(step, tmp_path / "net", targets=["cuda"])
    assert caught.value.origin.file == __file__


def test_loops_and_arrays(tmp_path, rng):
    class Cells(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells = nn.GRU(4, 6, batch_first=True)

        def forward(self, x):
            return self.cells(x)[0]

    step = gx.predict_step(Cells(), x=gx.f32[BATCH, 5, 4])
    folder = tmp_path / "cells"
    device = Loaded(gx.export(step, folder, targets=["cuda"]), folder)
    assert device.open("cells") == 0
    x = rng.normal(size=(9, 5, 4)).astype(np.float32)
    out = np.full((9, 5, 6), np.nan, np.float32)
    assert device.call("cells_cuda_predict_step", x, 9, out) == 0
    assert np.allclose(out, step(x), atol=1e-5)


def test_the_header_is_c_and_the_manifest_lists_the_files(tmp_path):
    folder = tmp_path / "net"
    gx.export(classifier(), folder, targets=["cuda"])
    listed = json.loads((folder / "net.json").read_text())["targets"]
    assert [each["name"] for each in listed][-1] == "cuda" and len(listed[-1]["files"]) == 3
    assert {*listed[-1]["work_bytes"]} == {"net_cuda_train_step", "net_cuda_train_step_epoch"}
    assert listed[-1]["loaded_bytes"] > 8 * 8
    main = folder / "probe.c"
    main.write_text('#include "net_cuda.h"\nint main(void) { return net_cuda_open(0, 0) == 0; }\n')
    compile_c(["-std=c99", "-fsyntax-only", str(main)], folder)
    with pytest.raises(gx.ArgumentError, match="'gpu' is not a target; known are native, cuda"):
        gx.export(classifier(), folder, targets=["gpu"])

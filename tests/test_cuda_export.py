"""The library for a GPU that an export writes: called from outside, with a driver that launches kernels on the CPU."""

from __future__ import annotations

import ctypes
import json
import subprocess

import numpy as np
import pytest
from fake_driver import emulated

import graphc as gx
from graphc import nn, optim
from graphc.backends.cuda.plan import draw
from graphc.backends.export.signatures import faces

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
            "cuMemcpyHtoDAsync_v2": FUNCTION(I32, U64, U64, U64, P)(self.copy),
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
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5))
    adam = optim.Adam(net.parameters(), lr=0.01)
    return gx.train_step(net, nn.CrossEntropyLoss(), adam, x=gx.f32[BATCH, 12], y=gx.i64[BATCH], metrics=["accuracy"])


class Loaded:
    """An exported library on such a device."""

    def __init__(self, made, folder):
        (face,) = faces(made.library)
        drawing = draw(face.member.graph)
        self.driver = Driver(emulated(drawing))
        self.driver.words = {each.kernel: len(each.words) for each in drawing.program.launches()}
        self.library = ctypes.CDLL(str(folder / "cuda" / f"lib{folder.name}_cuda.so"))
        header = (folder / f"{folder.name}_cuda.h").read_text()
        sizes = {
            line.split()[1]: int(line.split("(")[1].rstrip(")"))
            for line in header.splitlines()
            if "_BYTES INT64" in line
        }
        self.loaded, self.work = (
            aligned(next(size for name, size in sizes.items() if name.endswith(end)))
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
    main = folder / "probe.c"
    main.write_text('#include "net_cuda.h"\nint main(void) { return net_cuda_open(0, 0) == 0; }\n')
    try:
        done = subprocess.run(
            ["cc", "-std=c99", "-Wall", "-Werror", "-fsyntax-only", str(main)], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("no C compiler")
    assert done.returncode == 0, done.stderr
    with pytest.raises(gx.ArgumentError, match="'gpu' is not a target; known are native, cuda"):
        gx.export(classifier(), folder, targets=["gpu"])

"""The CUDA driver: what it is asked, and what is said when it refuses."""

from __future__ import annotations

import ctypes
import gc
import threading

import numpy as np
import pytest
from fake_driver import FakeLibrary

from graphc.backends.cuda import driver
from graphc.backends.cuda.driver import Device, Driver, DriverError
from graphc.backends.cuda.memory import Block, Pinned

PTX = ".version 8.0\n.target sm_80\n"


@pytest.fixture
def opened(monkeypatch):
    """open_driver() with a given library, forgotten afterwards."""

    def opened(library):
        driver.open_driver.cache_clear()
        monkeypatch.setattr(driver, "load_library", lambda: library)
        return driver.open_driver()

    yield opened
    driver.open_driver.cache_clear()


def doubled(grid, block, shared, parameters):
    """x[i] *= 2 for i < n."""
    x, count = parameters
    numbers = np.ctypeslib.as_array(ctypes.cast(x, ctypes.POINTER(ctypes.c_float)), (count & 0xFFFFFFFF,))
    assert grid[0] * block[0] >= len(numbers)
    numbers *= 2


def test_numbers_go_there_and_back(opened):
    device = Device(opened(FakeLibrary({"double": doubled})))
    assert device.name == "a GPU in the mind" and device.architecture == "sm_90" and device.multiprocessors == 132
    stream, numbers, found = device.stream(), np.arange(1000, dtype=np.float32), np.empty(1000, np.float32)
    place = device.allocate(numbers.nbytes)
    stream.send(place, numbers.ctypes.data, numbers.nbytes)
    kernel = device.load(PTX).kernel("double")
    values = ctypes.c_uint64(place), ctypes.c_int64(1000)
    parameters = (ctypes.c_void_p * 2)(*map(ctypes.addressof, values))
    again = stream.captured(lambda: stream.launch(kernel, (4, 1, 1), (256, 1, 1), 0, parameters))
    again()
    again()
    stream.fetch(found.ctypes.data, place, found.nbytes)
    assert not np.array_equal(found, 4 * numbers)  # nothing is done before it is waited for
    stream.finish()
    assert np.array_equal(found, 4 * numbers)
    device.give_back_with(device, "cuMemFree_v2", ctypes.c_uint64(place))()
    assert device.memory() == (1 << 32, 1 << 32)


@pytest.mark.parametrize(("capability", "target"), [((8, 0), "sm_80"), ((8, 9), "sm_89"), ((12, 1), "sm_90")])
def test_kernels_are_for_the_newest_kind_that_ptx_8_knows(opened, capability, target):
    assert Device(opened(FakeLibrary(capability=capability))).architecture == target


def test_garbage_does_not_spoil_a_capture(opened):
    """A block in a circle of references is freed whenever Python comes to it; not while calls are noted."""
    library = FakeLibrary()
    device = Device(opened(library))
    stream, target, circle = device.stream(), Block(device, 8), [Block(device, 8)]
    circle.append(circle)
    held = [circle]
    del circle

    def work():
        held.clear()
        stream.fill(target.place, 0, 8)
        return [[] for _ in range(5000)]  # enough for the collector to have a look

    stream.captured(work)()
    stream.finish()
    gc.collect()
    assert library.calls.count("cuMemFree_v2") == 1


def test_everything_is_given_back_whichever_thread_lets_go(opened):
    library = FakeLibrary()
    device = Device(opened(library))
    stream, event, module = device.stream(), device.event(), device.load(PTX)
    replay, block, pinned = stream.captured(lambda: None), Block(device, 8), Pinned(device, 8)
    held = [stream, event, module, replay, block, pinned]
    del stream, event, module, replay, block, pinned
    library.calls.clear()
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    gone = {"cuStreamDestroy_v2", "cuEventDestroy_v2", "cuModuleUnload", "cuGraphExecDestroy", "cuMemFree_v2"}
    assert gone | {"cuMemFreeHost"} <= {*library.calls}
    assert library.calls[0] == "cuCtxPushCurrent_v2"  # without a context of its own, a thread can give nothing back


def test_what_is_given_back_leaves_a_thread_on_its_own_gpu(opened):
    library = FakeLibrary()
    device, other = Device(opened(library)), Device(Driver(library))
    assert library.entered.context is other.context
    Block(device, 8)
    assert library.entered.context is other.context


def test_kernels_stay_loaded_while_a_replay_launches_them(opened):
    """In a circle of references Python lets go of things in an order of its own."""
    library = FakeLibrary({"double": doubled})
    device = Device(opened(library))
    module, stream = device.load(PTX), device.stream()
    circle = [module]
    kernel, parameters = module.kernel("double"), (ctypes.c_void_p * 0)()
    replay = stream.captured(lambda: stream.launch(kernel, (1, 1, 1), (1, 1, 1), 0, parameters))
    circle += [replay, circle]
    library.calls.clear()
    del module, kernel, replay, circle
    gc.collect()
    gone = [name for name in library.calls if not name.startswith("cuCtx")]
    assert gone == ["cuGraphExecDestroy", "cuModuleUnload"]


def test_the_order_of_calls(opened):
    library = FakeLibrary({"double": doubled})
    device = Device(opened(library))
    stream, parameters = device.stream(), (ctypes.c_void_p * 0)()
    kernel = device.load(PTX).kernel("double")
    library.calls.clear()
    replay = stream.captured(lambda: stream.launch(kernel, (1, 1, 1), (1, 1, 1), 0, parameters))
    replay()
    replay.discard()
    assert library.calls == [
        "cuStreamBeginCapture_v2", "cuLaunchKernel", "cuStreamEndCapture", "cuGraphInstantiateWithFlags",
        "cuGraphDestroy", "cuGraphUpload", "cuGraphLaunch", "cuCtxPushCurrent_v2", "cuGraphExecDestroy",
        "cuCtxPopCurrent_v2",
    ]  # fmt: skip


def test_a_capture_that_fails_is_ended(opened):
    device = Device(opened(FakeLibrary()))
    stream = device.stream()

    def work():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stream.captured(work)
    assert device.driver.library.calls[-1] == "cuStreamEndCapture"
    stream.fill(device.allocate(8), 0, 8)
    stream.finish()


def test_large_shared_memory_is_asked_for(opened):
    library = FakeLibrary({"double": doubled})
    module = Device(opened(library)).load(PTX)
    library.calls.clear()
    module.kernel("double", 48 << 10)
    module.kernel("double", (48 << 10) + 1)
    assert library.calls == ["cuModuleGetFunction", "cuModuleGetFunction", "cuFuncSetAttribute"]


@pytest.mark.parametrize(
    ("library", "said", "remedy"),
    [
        (FakeLibrary(version=11080), "the NVIDIA driver here is for CUDA 11.8; graphc needs 12.0 or newer", "update"),
        (FakeLibrary(devices=0), "the NVIDIA driver finds no GPU", "CUDA_VISIBLE_DEVICES"),
        (FakeLibrary(capability=(7, 5)), "the GPU here has compute capability 7.5; graphc needs 8.0 or newer", "cpu"),
    ],
)
def test_what_cannot_be_used_is_refused(opened, library, said, remedy):
    with pytest.raises(DriverError) as caught:
        opened(library)
    assert caught.value.message == said and remedy in caught.value.remedy


def test_no_driver(monkeypatch):
    driver.open_driver.cache_clear()
    monkeypatch.setattr(driver, "LIBRARIES", ("libnothing-of-this-name.so",))
    with pytest.raises(DriverError, match="there is no NVIDIA driver here") as caught:
        driver.open_driver()
    assert "device='cpu'" in caught.value.remedy


def test_out_of_memory_says_how_much_there_is(opened):
    device = Device(opened(FakeLibrary(room=1000)))
    device.allocate(900)
    with pytest.raises(DriverError) as caught:
        device.allocate(200)
    assert caught.value.message == "a GPU in the mind has no 200 bytes to spare: 100 of 1,000 are free"
    assert "nvidia-smi" in caught.value.remedy


def test_refused_kernels_and_unknown_faults(opened):
    library = FakeLibrary()
    device = Device(opened(library))
    with pytest.raises(DriverError, match="cuModuleLoadDataEx: CUDA_ERROR_INVALID_VALUE: no reason given"):
        device.load("not PTX")
    with pytest.raises(DriverError, match="CUDA_ERROR_NOT_FOUND"):
        device.load(PTX).kernel("nothing")
    library.failing["cuStreamSynchronize"] = 700
    with pytest.raises(DriverError) as caught:
        device.stream().finish()
    assert "start a new one" in caught.value.remedy
    assert isinstance(Driver(library).version, int)

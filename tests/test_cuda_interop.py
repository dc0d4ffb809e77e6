"""Arrays of other libraries that lie on the device, and ours for them: by DLPack and `__cuda_array_interface__`."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.backends.cuda import dlpack
from graphc.backends.cuda.driver import HANDLE, first_device
from graphc.data import DataLoader, TensorDataset

BATCH = gx.dim("batch", max=32)
CPU_ARRAY = np.zeros(3, np.float32)


@pytest.fixture
def device(gpu):
    return first_device()


class Foreign:
    """An array of another library on the device, which a stream of its own makes."""

    def __init__(self, device, numbers):
        self.device, self.numbers = device, np.ascontiguousarray(numbers)
        self.place, self.stream = device.allocate(max(self.numbers.nbytes, 1)), device.stream()
        self.stream.send(self.place, self.numbers.ctypes.data, self.numbers.nbytes)  # under way, not done


class WithInterface(Foreign):
    @property
    def __cuda_array_interface__(self):
        told = {"shape": self.numbers.shape, "typestr": self.numbers.dtype.str, "data": (self.place, False)}
        return told | {"version": 3, "strides": None, "stream": self.stream.handle.value}


class WithDLPack(Foreign):
    number = 0

    def __dlpack_device__(self):
        return dlpack.CUDA, self.number

    def __dlpack__(self, stream=None, **options):
        event = self.device.event()
        self.stream.record(event)
        self.device.driver.call("cuStreamWaitEvent", HANDLE(stream), event, 0)
        return dlpack.capsule(self.place, self.numbers.dtype, self.numbers.shape, self.number, self)


KINDS = (WithInterface, WithDLPack)


def classifier(device):
    gx.manual_seed(3)
    net = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 10))
    sgd = optim.SGD(net.parameters(), lr=0.1)
    return net, gx.train_step(net, nn.CrossEntropyLoss(), sgd, x=gx.f32[BATCH, 20], y=gx.i64[BATCH], device=device)


def samples(rng, count=32):
    return rng.normal(size=(count, 20)).astype(np.float32), rng.integers(0, 10, count)


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_on_the_device_are_read_where_they_are(gpu, device, rng, kind):
    _, slow = classifier("cpu")
    _, step = classifier("cuda")
    for count in (32, 32, 9):
        x, y = samples(rng, count)
        wanted = slow(x, y).loss
        given = kind(device, x), kind(device, y)
        gpu.calls.clear()
        assert np.isclose(step(*given).loss, wanted, rtol=1e-5)  # and the producer's stream was waited for
        sent = gpu.calls.count("cuMemcpyHtoDAsync_v2")
        assert gpu.calls.count("cuMemcpyDtoDAsync_v2") >= 2 and sent <= 5  # states and scalars, never the batch
    gpu.calls.clear()
    step(*given)
    assert "cuMemcpyHtoDAsync_v2" not in gpu.calls and "cuStreamBeginCapture_v2" not in gpu.calls


@pytest.mark.parametrize("kind", KINDS)
def test_one_input_may_be_there_and_another_here(device, rng, kind):
    x, y = samples(rng)
    wanted = classifier("cpu")[1](x, y).loss
    assert np.isclose(classifier("cuda")[1](kind(device, x), y).loss, wanted, rtol=1e-5)
    assert np.isclose(classifier("cuda")[1](x, kind(device, y)).loss, wanted, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_is_refused(device, rng, kind):
    _, step = classifier("cuda")
    x, y = samples(rng)
    with pytest.raises(gx.DTypeError, match=r"input y of train_step is i64\[batch\], got dtype int32") as caught:
        step(kind(device, x), kind(device, y.astype(np.int32)))
    assert "give it int64" in str(caught.value)
    with pytest.raises(gx.ShapeError, match="axis 1 must be 20, not 19"):
        step(kind(device, x[:, :19]), y)
    with pytest.raises(gx.BatchError, match="batch is 33"):
        step(kind(device, samples(rng, 33)[0]), y)
    with pytest.raises(gx.LabelError, match="got 10 at index 5"):
        y[5] = 10
        step(kind(device, x), kind(device, y))


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_gather_from_arrays_on_the_device(gpu, device, rng, kind):
    x, y = samples(rng, 70)
    (here, slow), (net, step) = classifier("cpu"), classifier("cuda")
    there = kind(device, x), kind(device, y)
    plain, loader = (DataLoader(TensorDataset(*each), 32, shuffle=True, seed=4) for each in ((x, y), there))
    assert np.isclose(step.epoch(loader).loss, slow.epoch(plain).loss, rtol=1e-5)  # its makers were waited for
    gpu.calls.clear()
    assert np.isclose(step.epoch(loader).loss, slow.epoch(plain).loss, rtol=1e-5)
    # The order of the rows, and what is counted; never the data.
    assert gpu.calls.count("cuMemcpyHtoDAsync_v2") == 2 and gpu.calls.count("cuStreamSynchronize") == 1
    assert not {"cuMemAlloc_v2", "cuStreamBeginCapture_v2"} & {*gpu.calls}
    x *= 0.5
    there[0].stream.send(there[0].place, x.ctypes.data, x.nbytes)  # under way when the epoch begins
    assert np.isclose(step.epoch(loader).loss, slow.epoch(plain).loss, rtol=1e-5)
    assert np.allclose(net.state_dict()["0.weight"], here.state_dict()["0.weight"], atol=1e-5)
    for (found, labels), (wanted, numbers) in zip(loader, plain, strict=True):
        assert np.array_equal(found, wanted) and np.array_equal(labels, numbers)


def test_predict_takes_rows_of_an_array_on_the_device(gpu, device, rng):
    class Sliced(WithInterface):
        ndim, __len__ = 2, lambda self: len(self.numbers)

        def __getitem__(self, rows):
            return Sliced(self.device, self.numbers[rows])

    net, _ = classifier("cuda")
    step = gx.predict_step(net.cuda(), x=gx.f32[BATCH, 20])
    x, _ = samples(rng, 70)
    wanted = gx.predict(step, x)
    gpu.calls.clear()
    assert np.array_equal(gx.predict(step, Sliced(device, x)), wanted)
    assert gpu.calls.count("cuMemcpyDtoDAsync_v2") >= 3


def test_data_may_be_here_and_there_and_of_bytes(gpu, device, rng):
    x, y = rng.integers(0, 256, (1500, 20), dtype=np.uint8), rng.integers(0, 10, 1500)
    wanted = classifier("cpu")[1].epoch(DataLoader(TensorDataset(x, y), 32)).loss
    for given in ((WithInterface(device, x), y), (x, WithDLPack(device, y))):
        assert np.isclose(classifier("cuda")[1].epoch(DataLoader(TensorDataset(*given), 32)).loss, wanted, rtol=1e-5)
    _, step = classifier("cuda")
    given = WithInterface(device, x), y
    gpu.room = gpu.used + 20000  # not for the labels, whose rows the host gathers then
    assert np.isclose(step.epoch(DataLoader(TensorDataset(*given), 32)).loss, wanted, rtol=1e-5)
    (epochs,) = step.runner.epochs.values()
    assert [slot.pinned[0] is None and slot.pinned[1] is not None for slot in epochs.slots] == [True, True]


def test_data_on_the_device_that_does_not_fit_is_refused(device, rng):
    x, y = samples(rng)
    _, step = classifier("cuda")
    with pytest.raises(gx.DTypeError, match=r"input y of train_step is i64\[batch\], got dtype int32"):
        step.epoch(DataLoader(TensorDataset(WithDLPack(device, x), WithDLPack(device, y.astype(np.int32))), 32))
    with pytest.raises(gx.ShapeError, match=r"the data set has rows of shape \(19,\)"):
        step.epoch(DataLoader(TensorDataset(WithDLPack(device, x[:, :19]), y), 32))
    with pytest.raises(gx.DTypeError, match="cannot be read as an array") as caught:
        classifier("cpu")[1].epoch(DataLoader(TensorDataset(WithDLPack(device, x), y), 32))
    assert "copy it to the host" in str(caught.value)
    with pytest.raises(gx.ShapeError, match="32 samples in array 0 and 31 in array 1"):
        TensorDataset(WithDLPack(device, x), y[:31])
    y[5] = 10
    with pytest.raises(gx.LabelError, match="got 10 at index 5 in step 0 of the epoch"):
        step.epoch(DataLoader(TensorDataset(WithDLPack(device, x), WithDLPack(device, y)), 32))

    class Elsewhere(WithDLPack):
        number = 1

    with pytest.raises(gx.DTypeError, match="array 0 of TensorDataset cannot be read on the GPU: it is on GPU 1"):
        TensorDataset(Elsewhere(device, x), y)


def test_other_arrays_of_devices_are_refused(device, rng):
    _, step = classifier("cuda")
    x, y = samples(rng)

    class Apart(WithInterface):
        @property
        def __cuda_array_interface__(self):
            return super().__cuda_array_interface__ | {"strides": (4, 80)}

    class Masked(WithInterface):
        @property
        def __cuda_array_interface__(self):
            return super().__cuda_array_interface__ | {"mask": self}

    class Elsewhere(WithDLPack):
        number = 1

    class Unwilling(WithDLPack):
        def __dlpack__(self, **options):
            raise BufferError("unsupported element type bfloat16")

    class Recording(Unwilling):
        requires_grad = True

        def detach(self):
            return WithDLPack(self.device, self.numbers)

    for kind, text in (
        (Apart, "do not lie one behind the other"),
        (Masked, "has a mask"),
        (Elsewhere, "is on GPU 1, and the step runs on GPU 0"),
        (Unwilling, "unsupported element type bfloat16"),
    ):
        with pytest.raises(gx.DTypeError, match=f"input x of train_step cannot be read on the GPU: .*{text}"):
            step(kind(device, x), y)
    assert np.isfinite(step(Recording(device, x), y).loss)
    with pytest.raises(gx.DTypeError, match="cannot be read as an array") as caught:
        classifier("cpu")[1](WithInterface(device, x), y)
    assert "copy it to the host" in str(caught.value)


def read(place, shape, dtype=np.float32):
    """What is in the memory of the device by now."""
    count = int(np.prod(shape))
    memory = (ctypes.c_uint8 * (count * np.dtype(dtype).itemsize)).from_address(place)
    return np.frombuffer(memory, dtype).reshape(shape)


def test_parameters_show_their_memory_on_the_device(gpu, device, rng):
    net, step = classifier("cuda")
    x, y = samples(rng)
    step(x, y)
    weight = net[0].weight
    consumer = device.stream()
    assert weight.__dlpack_device__() == (dlpack.CUDA, 0)
    capsule = weight.__dlpack__(stream=consumer.handle.value)
    tensor = dlpack.managed(capsule).tensor
    assert [tensor.shape[axis] for axis in range(tensor.axes)] == [16, 20]
    assert dlpack.dtype_of(tensor) == np.float32 and not tensor.strides
    consumer.finish()
    assert np.array_equal(read(tensor.data, (16, 20)), weight.numpy())
    told = weight.__cuda_array_interface__
    assert told["data"] == (tensor.data, True) and told["shape"] == (16, 20) and told["typestr"] == "<f4"
    assert told["version"] == 3 and told["stream"] == device.work.handle.value
    weight.zero_()  # on the host: whoever looks at the device now sees it there
    assert weight.__cuda_array_interface__["data"][0] == tensor.data
    device.work.finish()
    assert not read(tensor.data, (16, 20)).any()


def test_parameters_of_the_host_show_no_device():
    net, _ = classifier("cpu")
    assert not hasattr(net[0].weight, "__cuda_array_interface__")
    assert net[0].weight.__dlpack_device__()[0] == dlpack.CPU
    assert np.array_equal(np.from_dlpack(net[0].weight), net[0].weight.numpy())


def test_the_host_can_still_read_parameters_that_are_on_the_device(device, rng):
    net, step = classifier("cuda")
    step(*samples(rng))
    weight = net[0].weight
    assert np.array_equal(np.asarray(weight), weight.numpy())
    capsule = weight.__dlpack__(dl_device=(dlpack.CPU, 0), max_version=(1, 0))
    assert capsule is not None


def test_a_parameter_on_the_device_is_an_input_like_any_other(device, rng):
    net, step = classifier("cuda")
    x, y = samples(rng)
    step(x, y)
    given = gx.input("w", gx.f32[16, 20])
    twice = gx.function([given], given * 2.0, device="cuda")
    assert np.allclose(twice(net[0].weight), 2 * net[0].weight.numpy())


def test_capsules_let_go_of_what_they_hold(device):
    class Owner:
        pass

    def given(owner):
        return dlpack.capsule(256, np.dtype(np.int64), (4,), 0, owner)

    def is_held():
        gc.collect()
        given(None)  # whoever gives another one away looks after those before
        return any(each.owner is not None for each in dlpack._given)

    capsule = given(Owner())
    assert is_held() and list(dlpack.managed(capsule).tensor.shape[:1]) == [4]
    del capsule
    assert not is_held()
    capsule = given(Owner())  # a consumer takes it over, and is done with it later
    managed = dlpack.managed(capsule)
    rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", ctypes.pythonapi))
    used = b"used_dltensor"
    rename(capsule, used)
    del capsule
    assert is_held()
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(managed.deleter)(ctypes.addressof(managed))
    assert not is_held()


def test_numpy_takes_such_capsules(monkeypatch):
    """The structure is what consumers expect: NumPy's own, told that the memory is the host's."""
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)

    class Shown:
        def __dlpack_device__(self):
            return dlpack.CPU, 0

        def __dlpack__(self, **options):
            return dlpack.capsule(numbers.ctypes.data, numbers.dtype, numbers.shape, 0, numbers)

    monkeypatch.setattr(dlpack, "CUDA", dlpack.CPU)
    found = np.from_dlpack(Shown())
    assert np.array_equal(found, numbers) and np.shares_memory(found, numbers)
    del found
    gc.collect()
    dlpack.capsule(256, np.dtype(np.int64), (4,), 0, None)
    assert not any(each.owner is numbers for each in dlpack._given)


@pytest.mark.parametrize("kind", ["?", "u1", "i4", "i8", "f4", "f8"])
def test_element_types_survive_the_way(device, kind):
    capsule = WithDLPack(device, np.zeros(3, kind)).__dlpack__(stream=device.work.handle.value)
    assert dlpack.dtype_of(dlpack.managed(capsule).tensor) == np.dtype(kind)

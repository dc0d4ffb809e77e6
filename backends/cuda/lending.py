"""Arrays that other libraries have in the memory of the device, and states of ours that they may read there.

Two protocols are known: DLPack, whose producer lets the consumer's stream wait for what it has under way, and
`__cuda_array_interface__` (https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html), whose consumer does
that itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.backends.cuda.dlpack import CUDA, CUDA_MANAGED, dtype_of, is_packed, managed
from graphc.backends.cuda.driver import HANDLE, Device
from graphc.backends.runtime import Refused, address
from graphc.ir.frozen import dataclass

LEGACY = 1  # the stream of whoever names none
UNORDERED = -1  # what a consumer of DLPack names that waits by itself


@dataclass(frozen=True, slots=True)
class Lent:
    """An array in the memory of the device, packed.

    owner  keeps it alive
    """

    place: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: Any

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def fetched(self, device: Device) -> np.ndarray[Any, Any]:
        """A copy on the host."""
        found = np.empty(self.shape, self.dtype)
        with device.lock:
            device.enter()
            if found.nbytes:
                device.work.fetch(address(found), self.place, found.nbytes)
                device.work.finish()
        return found


class DeviceArray:
    """An array that another library has on the device, to be read there again and again, as it is then.

    source  the other library's: what has `__dlpack__` or `__cuda_array_interface__`

    Raises Refused for what `lent` refuses.
    """

    def __init__(self, source: Any, device: Device) -> None:
        self.source, self.device = source, device
        first = lent(source, device)
        self.shape, self.dtype, self.nbytes = first.shape, first.dtype, first.nbytes

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def lent(self) -> Lent:
        """The array, once what its library has under way is done. Raises Refused where it is of another shape now."""
        found = lent(self.source, self.device)
        if (found.shape, found.dtype) != (self.shape, self.dtype):
            raise Refused("an array of the data set has changed its shape or element type", "make a new data set")
        return found

    def __getitem__(self, index: Any) -> np.ndarray[Any, Any]:
        """Rows by their numbers, copied to the host."""
        numbers = np.arange(len(self))[index]
        found, whole = np.empty((*numbers.shape, *self.shape[1:]), self.dtype), self.lent()
        size = found[..., :0].nbytes if not found.size else found.nbytes // numbers.size
        with self.device.lock:
            self.device.enter()
            for place, number in enumerate(numbers.flat):
                self.device.work.fetch(address(found) + place * size, whole.place + int(number) * size, size)
            self.device.work.finish()
        return found

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("it is in the memory of a GPU, and what reads it is not: copy it to the host")


def is_afar(data: Any) -> bool:
    """Whether it is an array in the memory of a device."""
    if isinstance(data, (np.ndarray, np.generic, int, float, list, tuple)):
        return False
    ask = getattr(data, "__dlpack_device__", None)
    if ask is not None:
        return ask()[0] in (CUDA, CUDA_MANAGED)
    return hasattr(data, "__cuda_array_interface__")


def lent(data: Any, device: Device) -> Lent:
    """The array, to be read by what is given to the device's stream from now on. Raises Refused."""
    with device.lock:
        device.enter()
        try:
            return by_dlpack(data, device) if hasattr(data, "__dlpack__") else by_interface(data, device)
        except (BufferError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            if getattr(data, "requires_grad", False):  # PyTorch shows such a tensor only once it is detached
                return lent(data.detach(), device)
            raise Refused(str(error).partition("\n")[0], "see what its library says of DLPack") from None


def by_dlpack(data: Any, device: Device) -> Lent:
    _, number = data.__dlpack_device__()
    if number != device.number:
        raise Refused(f"it is on GPU {number}, and the step runs on GPU {device.number}", "copy it there")
    capsule = data.__dlpack__(stream=device.work.handle.value)
    tensor = managed(capsule).tensor
    shape = tuple(tensor.shape[axis] for axis in range(tensor.axes))
    steps = tuple(tensor.strides[axis] for axis in range(tensor.axes)) if tensor.strides else None
    dtype = dtype_of(tensor)
    if dtype is None:
        raise Refused("its element type is one that NumPy lacks", "convert it")
    return packed((tensor.data or 0) + tensor.offset, shape, steps, dtype, capsule)


def by_interface(data: Any, device: Device) -> Lent:
    told = data.__cuda_array_interface__
    if told.get("mask") is not None:
        raise Refused("it has a mask", "fill in what is masked")
    dtype, shape = np.dtype(told["typestr"]), tuple(told["shape"])
    steps = told.get("strides")
    if steps is not None:
        steps = [step // dtype.itemsize if step % dtype.itemsize == 0 else 0 for step in steps]
    stream = told.get("stream", LEGACY)
    if stream is not None:  # None: there is nothing to wait for
        event = device.event()
        device.driver.call("cuEventRecord", event, HANDLE(stream))
        device.work.wait_for(event)
    return packed(told["data"][0] or 0, shape, steps, dtype, data)


def packed(place: int, shape: tuple[int, ...], steps: Sequence[int] | None, dtype: np.dtype[Any], owner: Any) -> Lent:
    if not is_packed(shape, steps):
        raise Refused("its elements do not lie one behind the other", "make it contiguous")
    return Lent(place, shape, dtype, owner)


def let_wait(device: Device, stream: int | None) -> None:
    """Let a consumer's stream wait for what the device's stream has to do by now."""
    if stream == UNORDERED:
        return
    event = device.event()
    device.work.record(event)
    device.driver.call("cuStreamWaitEvent", HANDLE(LEGACY if stream is None else stream), event, 0)

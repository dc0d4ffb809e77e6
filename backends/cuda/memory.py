"""Memory of a device: blocks of bytes, and the numbers of states there."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.backends.cuda.device import PLACE_ALIGNMENT
from graphc.backends.cuda.dlpack import CUDA, capsule
from graphc.backends.cuda.driver import ADDRESS, HANDLE, Device
from graphc.backends.cuda.lending import let_wait
from graphc.backends.runtime import Storage, address
from graphc.ir.types import DTYPES, TensorType, round_up


class Block:
    """Bytes on a device, given back with the last reference to this."""

    def __init__(self, device: Device, size: int) -> None:
        self.place, self.size = device.allocate(size), size
        device.give_back_with(self, "cuMemFree_v2", ADDRESS(self.place))


class Pinned:
    """Bytes of the host that a device reads and writes by itself, given back with the last reference to this."""

    def __init__(self, device: Device, size: int) -> None:
        self.place, self.size = device.allocate_pinned(size), size
        self.bytes: np.ndarray[Any, Any] = np.asarray((ctypes.c_uint8 * max(size, 1)).from_address(self.place))
        device.give_back_with(self, "cuMemFreeHost", HANDLE(self.place))


class Resident:
    """A storage's numbers on a device, and which copy is the newer one.

    ahead   those on the device are newer
    behind  those of the host may be newer
    """

    def __init__(self, storage: Storage, device: Device, block: Block, place: int) -> None:
        self.storage, self.device, self.block, self.place = storage, device, block, place
        self.ahead, self.behind = False, True
        self.lock = device.lock

    def come_home(self) -> None:
        with self.lock:
            if self.ahead:
                here = self.storage.here
                self.device.enter()
                self.device.work.fetch(address(here), self.place, here.nbytes)
                self.device.work.finish()
            self.ahead, self.behind = False, True

    # -- for other libraries, to be read where it is

    @property
    def dlpack_device(self) -> tuple[int, int]:
        return CUDA, self.device.number

    def dlpack(self, stream: int | None) -> Any:
        """A capsule whose numbers are the newest once a stream of the consumer's has waited, which it is told to."""
        with self.lock:
            self.device.enter()
            self.go_out()
            let_wait(self.device, stream)
        here = self.storage.here
        return capsule(self.place, here.dtype, here.shape, self.device.number, self.block)

    def interface(self) -> dict[str, Any]:
        """`__cuda_array_interface__`."""
        with self.lock:
            self.device.enter()
            self.go_out()
        here, is_read_only = self.storage.here, True
        told = {"shape": here.shape, "typestr": here.dtype.str, "data": (self.place, is_read_only), "strides": None}
        return told | {"version": 3, "stream": self.device.work.handle.value}

    def go_out(self) -> None:
        """Have the newest numbers on the device, before whatever it is given next; the caller holds its lock."""
        here = self.storage.here
        if self.behind and here.nbytes:
            # From memory that is not pinned the driver has read all when this returns.
            self.device.work.send(self.place, address(here), here.nbytes)
        self.behind = False


def residents(storages: Sequence[Storage], device: Device) -> list[Resident]:
    """Each storage's numbers on the device; those that are not there yet share one block."""
    with device.lock:  # two functions that are made at once work on the same numbers
        new = [storage for storage in dict.fromkeys(storages) if not isinstance(storage.mirror, Resident)]
        sizes = [round_up(storage.here.nbytes, PLACE_ALIGNMENT) for storage in new]
        block = Block(device, sum(sizes)) if new else None
        place = block.place if block else 0
        for storage, size in zip(new, sizes, strict=True):
            assert block is not None
            storage.reflect(Resident(storage, device, block, place))
            place += size
    return [storage.mirror for storage in storages if isinstance(storage.mirror, Resident)]


def within(memory: Pinned, offset: int, shape: tuple[int, ...], kind: TensorType) -> np.ndarray[Any, Any]:
    """Bytes of some memory as an array."""
    dtype, count = DTYPES[kind.dtype], int(np.prod(shape))
    return memory.bytes[offset : offset + count * dtype.itemsize].view(dtype).reshape(shape)

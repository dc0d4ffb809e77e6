"""A library for NVIDIA GPUs that graphc wrote, from Python: needs NumPy and the driver, and not graphc.

import mnist_cuda
model = mnist_cuda.Model(seed=0)       # its state is on the GPU
loss, accuracy = model.step(x, y)      # every function of the library, arrays in and out
means = model.step.epoch(x, y, batch=64, shuffle=0)
model.save("state.bin")                # as of the library for the processor, which is beside it
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE, NAME = Path(__file__).parent, Path(__file__).stem.removesuffix("_cuda")
DRIVER_FILES = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")
ALIGNMENT = 256
CHECKS_FROM = 16  # statuses of the library, for checks of a function's own


def module(name: str) -> Any:
    """What loads the library for the processor."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


host = module(NAME)
LibraryError = host.LibraryError
OWN: dict[str, Any] = next(target for target in host.MANIFEST["targets"] if target["name"] == "cuda")
LIBRARY = ctypes.CDLL(str(HERE / "cuda" / f"lib{NAME}_cuda.so"))
FIND = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)
PLACE, SIZE, POINTER = ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p


class Device:
    """The first GPU, in the context that other libraries of this process have there too."""

    def __init__(self) -> None:
        self.driver = self.opened()
        number, context = ctypes.c_int(), POINTER()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(number), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), number)
        self.context = context
        self.enter()

    @staticmethod
    def opened() -> Any:
        for file in DRIVER_FILES:
            try:
                return ctypes.CDLL(file)
            except OSError:
                continue
        raise OSError(f"there is no NVIDIA driver here ({DRIVER_FILES[0]} is not found)")

    def enter(self) -> None:
        self.call("cuCtxSetCurrent", self.context)

    def call(self, name: str, *arguments: Any) -> None:
        checked(name, -getattr(self.driver, name)(*arguments))

    def find(self, name: bytes) -> int | None:
        found = getattr(self.driver, name.decode(), None)
        return ctypes.cast(found, POINTER).value if found is not None else None


def checked(name: str, status: int) -> None:
    """Raises LibraryError for a status of the library, OSError for an error of the driver's, below 0."""
    if status < 0:
        raise OSError(f"{name}: the driver gives error {-status}")
    host.check(status)


class Block:
    """Memory of the device, given back with the last reference to this."""

    def __init__(self, device: Device, size: int) -> None:
        self.device, self.size, place = device, size, PLACE()
        device.call("cuMemAlloc_v2", ctypes.byref(place), SIZE(max(size, ALIGNMENT)))
        self.place = place.value

    def __del__(self) -> None:
        if hasattr(self, "place"):
            self.device.driver.cuMemFree_v2(PLACE(self.place))

    def send(self, array: np.ndarray[Any, Any]) -> None:
        if array.nbytes:
            self.device.call("cuMemcpyHtoD_v2", PLACE(self.place), POINTER(array.ctypes.data), SIZE(array.nbytes))

    def fetch(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Fills the array; what was given to the device before is done then."""
        if array.nbytes:
            self.device.call("cuMemcpyDtoH_v2", POINTER(array.ctypes.data), PLACE(self.place), SIZE(array.nbytes))
        return array


class Function:
    """One function of the library, on one model's state."""

    def __init__(self, model: Model, own: Any) -> None:
        self.model, self.own, self.name = model, own, own.name
        self.blocks: dict[str, Block] = {}

    def set(self, **numbers: float) -> Function:
        """New values of run-time settings."""
        self.own.set(**numbers)
        return self

    def block(self, name: str, size: int) -> Block:
        """Memory of this function's, as large as it was needed so far."""
        known = self.blocks.get(name)
        if known is None or known.size < size:
            known = self.blocks[name] = Block(self.model.device, size)
        return known

    def sent(self, name: str, array: np.ndarray[Any, Any]) -> Block:
        block = self.block(name, array.nbytes)
        block.send(array)
        return block

    def run(self, name: str, given: list[Any]) -> None:
        """A call of the library, to its end."""
        model, status = self.model, self.block("status", 8)
        work = self.block(f"work of {name}", OWN["work_bytes"][name])
        loaded = POINTER(model.loaded.ctypes.data)
        checked(name, getattr(LIBRARY, name)(loaded, at(model.block), at(work), *given, at(status), None))
        failed = int(status.fetch(np.zeros(1, np.int64))[0])
        checked(name, failed and CHECKS_FROM - 1 + failed)

    def settings(self) -> list[Any]:
        return [] if self.own.settings is None else [POINTER(ctypes.addressof(self.own.settings))]

    def __call__(self, *arrays: Any) -> Any:
        """One batch: a record of numbers, an array, or a tuple of the record and arrays."""
        self.model.device.enter()
        own = self.own
        ready = own.fit(arrays)
        sizes = own.sizes(ready)
        shapes = [host.evaluated(each["shape"], sizes) for each in own.known["arrays"]]
        outputs = [
            np.empty(shape, host.DTYPES[each["dtype"]]) for shape, each in zip(shapes, own.known["arrays"], strict=True)
        ]
        given = [at(self.sent(f"input {number}", array)) for number, array in enumerate(ready)]
        given += [ctypes.c_int64(sizes[each["dim"]]) for each in own.known["sizes"]]
        found = [self.block(f"output {number}", array.nbytes) for number, array in enumerate(outputs)]
        numbers = np.zeros(0 if own.numbers is None else ctypes.sizeof(own.numbers), np.uint8)
        told = self.block("numbers", numbers.nbytes)
        given += [*map(at, found), *self.settings(), *([at(told)] if numbers.size else [])]
        self.run(f"{NAME}_cuda_{self.name}", given)
        made = [block.fetch(array) for block, array in zip(found, outputs, strict=True)]
        if not numbers.size:
            return made[0] if len(made) == 1 else tuple(made)
        record = self.record(type(own.numbers).from_buffer_copy(told.fetch(numbers)))
        return (record, *made) if made else record

    def record(self, structure: Any) -> Any:
        return self.own.record._make([getattr(structure, each["name"]) for each in self.own.known["numbers"]])

    def epoch(self, *arrays: Any, batch: int, order: Any = None, shuffle: int | None = None, epoch: int = 0) -> Any:
        """Every batch of a data set, in the order of rows given or as they lie; means over samples.

        shuffle, epoch  in the order that a DataLoader of this seed has in that epoch
        """
        if not self.own.known["epoch"]:
            raise LibraryError(f"{self.name} has no epoch")
        self.model.device.enter()
        ready = self.own.fit(arrays)
        samples = {len(array) for array in ready}
        if len(samples) != 1:
            raise LibraryError(f"{self.name}: the arrays have {sorted(samples)} rows")
        (count,) = samples
        self.own.sizes(ready)
        given = [at(self.sent(f"data {number}", array)) for number, array in enumerate(ready)]
        given += [ctypes.c_int64(count), ctypes.c_int64(batch), self.order(count, order, shuffle, epoch)]
        fields = [{"name": each["name"], "type": "double"} for each in self.own.known["numbers"]]
        kind = host.structure("Means", [*fields, {"name": "steps", "type": "int64_t"}])
        means = self.block("means", ctypes.sizeof(kind))
        self.run(f"{NAME}_cuda_{self.name}_epoch", [*given, *self.settings(), at(means)])
        return self.record(kind.from_buffer_copy(means.fetch(np.zeros(ctypes.sizeof(kind), np.uint8))))

    def order(self, count: int, order: Any, seed: int | None, epoch: int) -> Any:
        if order is None and seed is None:
            return None
        rows = np.ascontiguousarray(np.arange(count) if order is None else order, np.int64)
        if rows.shape != (count,) or rows.min(initial=0) < 0 or rows.max(initial=0) >= count:
            raise LibraryError(f"{self.name}: the order must have {count} rows, each from 0 to {count - 1}")
        if seed is not None:
            numbers = ctypes.c_int64(count), ctypes.c_uint64(seed), ctypes.c_uint64(epoch)
            checked("shuffle", host.library("shuffle")(POINTER(rows.ctypes.data), *numbers))
        return at(self.sent("order", rows))


def at(block: Block) -> Any:
    return POINTER(block.place)


class Model:
    """A state of the library on the GPU, and its functions as attributes; those with names that are taken in
    `functions` alone."""

    def __init__(self, seed: int = 0, path: str | os.PathLike[str] | None = None) -> None:
        self.host, self.device = host.Model(seed, path), Device()
        self.find = FIND(self.device.find)
        self.loaded = np.zeros(OWN["loaded_bytes"] // 8, np.int64)
        checked("open", getattr(LIBRARY, f"{NAME}_cuda_open")(POINTER(self.loaded.ctypes.data), self.find))
        self.block = Block(self.device, self.host.state.nbytes)
        self.block.send(self.host.state)
        self.functions = {name: Function(self, own) for name, own in self.host.functions.items()}
        for name, function in self.functions.items():
            if not hasattr(self, name):
                setattr(self, name, function)

    def newest(self) -> Any:
        """The model on the processor, with the numbers of this one."""
        self.device.enter()
        self.block.fetch(self.host.state)
        return self.host

    def state_hash(self) -> int:
        return int(self.newest().state_hash())

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of all states, by name."""
        return dict(self.newest().state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """New numbers for all states. Raises LibraryError, before anything changes, where names or shapes differ."""
        self.newest().load_state_dict(state)
        self.block.send(self.host.state)

    def save(self, path: str | os.PathLike[str]) -> None:
        """The whole state as one block, as the library for the processor has it."""
        self.newest().save(path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """A block that was saved. Raises LibraryError, before anything changes, for one of another model."""
        self.newest().load(path)
        self.block.send(self.host.state)

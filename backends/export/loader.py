"""A library that graphc wrote, from Python: needs NumPy, and not graphc.

import mnist
model = mnist.Model(seed=0)            # or mnist.Model(path="state.bin")
loss, accuracy = model.step(x, y)      # every function of the library, as it was in process
means = model.step.epoch(x, y, batch=64)
model.save("state.bin")
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import struct
from collections import namedtuple
from collections.abc import Sequence
from functools import partial
from operator import is_
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np

HERE = Path(__file__).parent
MANIFEST: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text())
NAME: str = MANIFEST["name"]
DTYPES: dict[str, Any] = {
    "f32": np.dtype("f4"), "f64": np.dtype("f8"), "i32": np.dtype("i4"), "i64": np.dtype("i8"), "u8": np.dtype("u1"),
    "bool": np.dtype("?"),
}  # fmt: skip
C_TYPES: dict[str, Any] = {
    "float": ctypes.c_float, "double": ctypes.c_double, "int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64,
    "uint8_t": ctypes.c_uint8,
}  # fmt: skip
MACHINES = {"x86_64": "x86-64", "aarch64": "aarch64", "riscv64": "riscv64", "armv7l": "armv7"}
LEVELS: dict[str, set[str]] = {  # of x86-64, best first, by what Linux calls the instructions they are known by
    "-v4": {"avx2", "fma", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "-v3": {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"},
    "-v2": {"sse4_1", "sse4_2", "ssse3", "popcnt", "cx16", "lahf_lm"},
}
FORMATS = {"float": "f", "double": "d", "int32_t": "i", "int64_t": "q", "uint8_t": "B"}
POINTER = ctypes.c_void_p
# What ctypes passes on as it is, where it would convert numbers and pointers anew in every call.
ADDRESS, NUMBER = ctypes.c_void_p.from_param, ctypes.c_int64.from_param
ONE_THREAD = ctypes.c_int32.from_param(0), ctypes.c_int32.from_param(1)
MISSING: Any = object()


class LibraryError(ValueError):
    """What a function of the library refused; nothing was changed."""


def find_library() -> Path:
    """The file for this machine: one that chooses among its variants itself, or the best that the processor runs.

    Raises OSError if the library was not exported for this machine.
    """
    paths = [HERE / file["path"] for target in MANIFEST.get("targets", []) for file in target["files"]]
    kept = {path.parent.name: path for path in paths if path.suffix == ".so"}
    machine = MACHINES.get(platform.machine(), platform.machine())
    here = machine if platform.system() == "Linux" else f"{machine} under {platform.system()}"
    levels = [here, *(here + level for level in LEVELS if here + level in kept and LEVELS[level] <= instructions())]
    found = next((kept[level] for level in levels if level in kept), None)
    if found is None:
        raise OSError(f"{NAME} has no library that runs on {here}; there are {', '.join(map(str, paths)) or 'none'}")
    return found


def instructions() -> set[str]:
    """What Linux says that the processor has."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return {flag for line in lines if line.startswith("flags") for flag in line.split()}


LIBRARY = ctypes.CDLL(str(find_library()))
for _name in ("work_bytes", "manifest", "strerror", "state_hash"):
    getattr(LIBRARY, f"{NAME}_{_name}").restype = {
        "work_bytes": ctypes.c_int64, "state_hash": ctypes.c_uint64,
    }.get(_name, ctypes.c_char_p)  # fmt: skip


def library(name: str) -> Any:
    return getattr(LIBRARY, f"{NAME}_{name}")


def check(status: int) -> None:
    if status:
        raise LibraryError(library("strerror")(status).decode())


def aligned(size: int) -> np.ndarray[Any, Any]:
    """Zeroed bytes at a multiple of 64."""
    block = np.zeros(size + 64, np.uint8)
    start = -block.ctypes.data % 64
    return block[start : start + size]


def structure(name: str, fields: list[dict[str, Any]]) -> Any:
    kinds = [(field["name"], C_TYPES[field["type"]]) for field in fields]
    return type(name, (ctypes.Structure,), {"_fields_": kinds})


class Function:
    """One function of the library, on one model's state."""

    def __init__(self, model: Model, known: dict[str, Any]) -> None:
        self.model, self.known, self.name = model, known, known["name"]
        self.native = library(self.name)
        self.kinds = [(DTYPES[each["dtype"]], each["shape"]) for each in known["inputs"]]
        self.settings = structure("Settings", known["settings"])() if known["settings"] else None
        for each in known["settings"]:
            setattr(self.settings, each["name"], each["value"])
        self.numbers = structure("Numbers", known["numbers"])() if known["numbers"] else None
        names = [each["name"] for each in known["numbers"]]
        self.record: Any = namedtuple("Record", names, rename=True)  # type: ignore[misc]
        self.memory = [ADDRESS(each.ctypes.data) for each in (model.state, model.work)]
        self.shapes: list[tuple[int, ...]] | None = None  # that these two are for
        self.behind: list[Any] = []
        self.told: Any = None
        self.held: list[Any] | None = None  # arrays of the call that is ready
        self.first: Any = self  # of these, where there are not more than two
        self.second: Any = MISSING
        self.run: Any = None

    def set(self, **numbers: float) -> Function:
        """New values of run-time settings."""
        for name, number in numbers.items():
            if not hasattr(self.settings, name):
                raise LibraryError(f"{self.name} has no setting {name!r}")
            setattr(self.settings, name, number)
        return self

    def __call__(self, first: Any = MISSING, second: Any = MISSING, *rest: Any) -> Any:
        """One batch: a record of numbers, an array, or a tuple of the record and arrays."""
        if first is not self.first or second is not self.second or rest:
            self.prepare([each for each in (first, second, *rest) if each is not MISSING])
        status = self.run()
        if status:
            check(status)
        return self.told()

    def prepare(self, arrays: list[Any]) -> None:
        """Get ready for a call with these arrays, whose memory is looked up once.

        NumPy gives an array no other memory as long as something refers to it weakly.
        """
        if self.held is not None and len(arrays) == len(self.held) and all(map(is_, arrays, self.held)):
            return
        ready = self.fit(arrays)
        self.first, self.held = self, None
        shapes = [each.shape for each in ready]
        if shapes != self.shapes:
            self.shapes = None
            self.fit_results(self.sizes(ready))
            self.shapes = shapes
        pointers = [ADDRESS(each.ctypes.data) for each in ready]
        self.run = partial(self.native, *self.memory, *pointers, *self.behind, *ONE_THREAD)
        self.held, self.fixed = ready, [*map(ref, ready)]
        if len(ready) <= 2:
            self.first, self.second = [*ready, MISSING, MISSING][:2]

    def fit_results(self, sizes: dict[str, int]) -> None:
        """What follows from the extents alone: memory for results, and all that a call is given behind its inputs."""
        outputs = [np.empty(evaluated(each["shape"], sizes), DTYPES[each["dtype"]]) for each in self.known["arrays"]]
        structures = [each for each in (self.settings, self.numbers) if each is not None]
        self.behind = [NUMBER(sizes[each["dim"]]) for each in self.known["sizes"]]
        self.behind += [ADDRESS(each.ctypes.data) for each in outputs]
        self.behind += [ADDRESS(ctypes.addressof(each)) for each in structures]
        self.told = self.teller(outputs)

    def teller(self, outputs: list[np.ndarray[Any, Any]]) -> Any:
        """What gives the results of a call."""
        copies = [output.copy for output in outputs]
        if self.numbers is None:
            return copies[0] if len(copies) == 1 else lambda: tuple(copy() for copy in copies)
        new, record, numbers = tuple.__new__, self.record, self.numbers
        unpack = struct.Struct("".join(FORMATS[each["type"]] for each in self.known["numbers"])).unpack_from
        if not copies:
            return lambda: new(record, unpack(numbers))
        return lambda: (new(record, unpack(numbers)), *(copy() for copy in copies))

    def fit(self, arrays: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
        if len(arrays) != len(self.kinds):
            raise LibraryError(f"{self.name} takes {len(self.kinds)} arrays, got {len(arrays)}")
        return [np.ascontiguousarray(array, dtype) for array, (dtype, _) in zip(arrays, self.kinds)]

    def sizes(self, arrays: list[np.ndarray[Any, Any]]) -> dict[str, int]:
        """The extent of every dim. Raises LibraryError for a shape that does not fit."""
        found: dict[str, int] = {}
        for array, each in zip(arrays, self.known["inputs"]):
            shape = each["shape"]
            fits = len(shape) == array.ndim
            for extent, size in zip(shape, array.shape):
                wanted = found.setdefault(extent, size) if isinstance(extent, str) and extent.isidentifier() else extent
                fits = fits and (size == wanted or not isinstance(wanted, int))
            if not fits:
                raise LibraryError(f"{self.name}: {each['name']} is {list(array.shape)}, expected {shape}")
        return found

    def epoch(self, *arrays: Any, batch: int, order: Any = None) -> Any:
        """Every batch of a data set, in the order of rows given or as they lie; means over samples."""
        if not self.known["epoch"]:
            raise LibraryError(f"{self.name} has no epoch")
        ready = self.fit(arrays)
        samples = {len(array) for array in ready}
        if len(samples) != 1:
            raise LibraryError(f"{self.name}: the arrays have {sorted(samples)} rows")
        self.sizes(ready)
        fields = [*({"name": each["name"], "type": "double"} for each in self.known["numbers"])]
        means = structure("Means", [*fields, {"name": "steps", "type": "int64_t"}])()
        rows = None if order is None else np.ascontiguousarray(order, np.int64)
        if rows is not None and rows.shape != (len(ready[0]),):
            raise LibraryError(f"{self.name}: the order has {rows.size} rows, the arrays {len(ready[0])}")
        pointers = [ADDRESS(each.ctypes.data) for each in (self.model.state, self.model.work, *ready)]
        arguments = [
            *pointers,
            NUMBER(len(ready[0])),
            NUMBER(batch),
            ADDRESS(rows.ctypes.data if rows is not None else 0),
        ]
        if self.settings is not None:
            arguments.append(ADDRESS(ctypes.addressof(self.settings)))
        check(library(f"{self.name}_epoch")(*arguments, ADDRESS(ctypes.addressof(means)), *ONE_THREAD))
        return self.record._make([getattr(means, each["name"]) for each in self.known["numbers"]])


def evaluated(shape: list[Any], sizes: dict[str, int]) -> list[int]:
    """Extents as numbers; formulas are sums and products of dims."""
    return [extent if isinstance(extent, int) else int(eval(extent, {"__builtins__": {}}, sizes)) for extent in shape]


class Model:
    """A state of the library, and its functions as attributes; those with names that are taken in `functions` alone."""

    def __init__(self, seed: int = 0, path: str | os.PathLike[str] | None = None) -> None:
        self.state = aligned(MANIFEST["state_bytes"])
        self.work = aligned(library("work_bytes")(1))
        check(library("init")(POINTER(self.state.ctypes.data), ctypes.c_uint64(seed)))
        if path is not None:
            self.load(path)
        self.functions = {known["name"]: Function(self, known) for known in MANIFEST["functions"]}
        for name, function in self.functions.items():
            if not hasattr(self, name):
                setattr(self, name, function)

    def state_hash(self) -> int:
        return int(library("state_hash")(POINTER(self.state.ctypes.data)))

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of all states, by name."""
        return {each["name"]: self.view(each).copy() for each in MANIFEST["states"]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """New numbers for all states. Raises LibraryError, before anything changes, where names or shapes differ."""
        views = {each["name"]: self.view(each) for each in MANIFEST["states"]}
        if views.keys() != state.keys():
            raise LibraryError(f"the state is not one of {NAME}: {sorted(views.keys() ^ state.keys())} differ")
        for name, view in views.items():
            if np.shape(state[name]) != view.shape:
                raise LibraryError(f"{name} is {list(view.shape)}, given are {list(np.shape(state[name]))}")
        for name, view in views.items():
            view[...] = state[name]

    def view(self, each: dict[str, Any]) -> np.ndarray[Any, Any]:
        dtype = DTYPES[each["dtype"]]
        count = int(np.prod(each["shape"], dtype=np.int64))
        part = self.state[each["offset"] : each["offset"] + count * dtype.itemsize]
        return part.view(dtype).reshape(each["shape"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """The whole state as one block."""
        unfinished = f"{os.fspath(path)}.unfinished"
        Path(unfinished).write_bytes(self.state.tobytes())
        os.replace(unfinished, path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """A block that was saved. Raises LibraryError, before anything changes, for one of another model."""
        block = aligned(MANIFEST["state_bytes"])
        data = np.fromfile(path, np.uint8)
        if data.size != block.size:
            raise LibraryError(f"{path} has {data.size} bytes, a state of {NAME} has {block.size}")
        block[...] = data
        check(library("check")(POINTER(block.ctypes.data)))
        self.state[...] = block

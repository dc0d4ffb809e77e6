"""cuBLASLt by ctypes: products of matrices on a stream, in float32, or with operands rounded on the way to the cores.

Names and numbers are those of the library (https://docs.nvidia.com/cuda/cublas). It knows matrices whose columns lie
one behind the other, and takes ours for their transposes: it is asked for right' @ left' where left @ right is wanted.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from graphc.backends.cache import Cache
from graphc.backends.cuda.device import MultiplyCall
from graphc.backends.cuda.driver import ADDRESS, HANDLE, Device, Stream
from graphc.backends.cuda.memory import Block
from graphc.backends.runtime import Refused
from graphc.ir.frozen import dataclass

SONAMES = ("libcublasLt.so.13", "libcublasLt.so.12")
WHEELS = ("nvidia/cu13/lib", "nvidia/cublas/lib", "torch/lib")
COMPUTE = {"highest": 68, "tf32": 77, "bf16": 75}  # CUBLAS_COMPUTE_32F, …_FAST_TF32, …_FAST_16BF
FLOAT32 = 0  # CUDA_R_32F
TRANSPOSE_FIRST, TRANSPOSE_SECOND = 3, 4  # of cublasLtMatmulDescAttributes_t
ENDING, BIAS = 7, 8  # of the same
ENDINGS = {(False, False): 1, (False, True): 2, (True, False): 4, (True, True): 6}  # (bias, relu): cublasLtEpilogue_t
BATCH_COUNT, BATCH_STEP = 5, 6  # of cublasLtMatrixLayoutAttribute_t
WORKSPACE, REDUCTION, ALIGNMENTS = 1, 3, (5, 6, 7, 8)  # of cublasLtMatmulPreferenceAttributes_t
REPEATABLE = 2 | 4  # of cublasLtReductionScheme_t: parts of a depth are summed in order, not as they come
WORKSPACE_BYTES = 32 << 20
MOST_WAYS, TURNS = 5, 4  # to do one product, of which the quickest is found by trying; and how often each is timed
KIND = "algorithm"  # of the cache's entries
MOST_ALIGNMENT = 256


Algorithm = ctypes.c_uint64 * 8  # cublasLtMatmulAlgo_t, which may be kept for the same version of the library


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (
        ("algorithm", Algorithm),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


class Operands(NamedTuple):
    """Addresses of the matrices of a product; bias 0: there is none."""

    target: int
    left: int
    right: int
    bias: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """A kind of product that the library has been told of: handles of what is done and of the matrices' layouts."""

    about: HANDLE
    layouts: tuple[HANDLE, ...]
    algorithm: Any


def key_of(call: MultiplyCall, at: Operands) -> tuple[Any, ...]:
    """Equal for products that are done in one way."""
    sizes = (call.rows, call.columns, call.depth, call.left_steps, call.right_steps, call.batch, call.batch_steps)
    return sizes, (call.bias is not None, call.relu), tuple(map(alignment, at))


def load_library() -> Any:
    """The library, as the system, a toolkit or a wheel has it. None where there is none."""
    for place in places():
        try:
            return ctypes.CDLL(str(place))
        except OSError:
            continue
    return None


def places() -> Iterator[str | Path]:
    yield from SONAMES  # one that is loaded, PyTorch's, is found under its name too
    roots = [Path(os.environ[name], "lib64") for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ]
    roots += [Path(folder, wheel) for folder in sys.path for wheel in WHEELS]
    yield from (place for root in roots for name in SONAMES if (place := root / name).is_file())


class Cublas:
    """The library on a device.

    store  remembers which way was the quickest to do a product
    """

    def __init__(self, library: Any, device: Device, precision: str, store: Cache) -> None:
        self.library, self.device, self.compute = library, device, COMPUTE[precision]
        device.enter()
        self.handle = self.made("cublasLtCreate")
        library.cublasLtGetVersion.restype = ctypes.c_size_t
        self.version = int(library.cublasLtGetVersion())
        self.store = store
        self.about = (device.name, str(device.driver.version), str(self.version), precision)
        self.workspace = Block(device, WORKSPACE_BYTES)
        self.one, self.zero = ctypes.c_float(1.0), ctypes.c_float(0.0)
        self.ready: dict[tuple[Any, ...], Ready] = {}

    def call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(*arguments)
        if status:
            raise Refused(f"cuBLASLt: {name} gives status {status}", "products of graphc's own: precision='highest'")

    def made(self, name: str, *arguments: Any) -> HANDLE:
        found = HANDLE()
        self.call(name, ctypes.byref(found), *arguments)
        return found

    def told(self, name: str, about: HANDLE, attribute: int, value: Any) -> None:
        self.call(name, about, attribute, ctypes.byref(value), ctypes.c_size_t(ctypes.sizeof(value)))

    def multiply(self, stream: Stream, call: MultiplyCall, at: Operands) -> None:
        """Give a product to a stream."""
        known = self.ready.get(key_of(call, at))
        if known is None:
            known = self.prepare(stream, call, at)
        self.give(stream, known, at, known.algorithm)

    def prepare(self, stream: Stream, call: MultiplyCall, at: Operands) -> Ready:
        """Find the quickest way to do a product like this one, which it does a few times: not while calls are noted."""
        key = key_of(call, at)
        about, layouts, found = self.described(call, at)
        known = Ready(about, layouts, found[0].algorithm)
        if len(found) > 1:
            name = Cache.key(KIND, *self.about, repr(key))
            kept = self.store.get(KIND, name)
            if kept is not None and len(kept) == ctypes.sizeof(Algorithm):
                known = replace(known, algorithm=Algorithm.from_buffer_copy(kept))
            else:
                times = [(self.timed(stream, known, at, each.algorithm), number) for number, each in enumerate(found)]
                known = replace(known, algorithm=found[min(times)[1]].algorithm)
                self.store.put(KIND, name, bytes(known.algorithm))
        self.ready[key] = known
        return known

    def timed(self, stream: Stream, known: Ready, at: Operands, algorithm: Any) -> float:
        """Milliseconds of one product; infinite where the library refuses it after all."""
        first, last = self.device.event(timed=True), self.device.event(timed=True)
        try:
            self.give(stream, known, at, algorithm)  # which has to load things
            stream.record(first)
            for _ in range(TURNS):
                self.give(stream, known, at, algorithm)
        except Refused:
            return math.inf
        stream.record(last)
        stream.finish()
        return self.device.milliseconds(first, last) / TURNS

    def give(self, stream: Stream, known: Ready, at: Operands, algorithm: Any) -> None:
        if at.bias:
            self.told("cublasLtMatmulDescSetAttribute", known.about, BIAS, ctypes.c_uint64(at.bias))
        first, second, result = known.layouts
        self.call(
            "cublasLtMatmul", self.handle, known.about, ctypes.byref(self.one), ADDRESS(at.right), first,
            ADDRESS(at.left), second, ctypes.byref(self.zero), ADDRESS(at.target), result, ADDRESS(at.target), result,
            ctypes.byref(algorithm), ADDRESS(self.workspace.place), ctypes.c_size_t(WORKSPACE_BYTES), stream.handle,
        )  # fmt: skip

    def described(self, call: MultiplyCall, at: Operands) -> tuple[HANDLE, tuple[HANDLE, ...], list[Heuristic]]:
        """(what is done, the layouts of the matrices, how the library might do it, the most promising way first)."""
        about = self.made("cublasLtMatmulDescCreate", self.compute, FLOAT32)
        ending = ENDINGS[call.bias is not None, call.relu]
        self.told("cublasLtMatmulDescSetAttribute", about, ENDING, ctypes.c_int32(ending))
        if at.bias:
            self.told("cublasLtMatmulDescSetAttribute", about, BIAS, ctypes.c_uint64(at.bias))
        layouts = []
        operands = ((TRANSPOSE_FIRST, call.right_steps), (TRANSPOSE_SECOND, call.left_steps))
        shapes = ((call.depth, call.columns), (call.rows, call.depth))
        for (attribute, steps), shape, apart in zip(operands, shapes, (1, 0), strict=True):
            flipped = steps[1] != 1
            self.told("cublasLtMatmulDescSetAttribute", about, attribute, ctypes.c_int32(flipped))
            layouts.append(self.layout(shape, steps, call.batch, call.batch_steps[apart]))
        layouts.append(self.layout((call.rows, call.columns), (call.columns, 1), call.batch, call.batch_steps[2]))
        wishes = self.made("cublasLtMatmulPreferenceCreate")
        wish = "cublasLtMatmulPreferenceSetAttribute"
        self.told(wish, wishes, WORKSPACE, ctypes.c_uint64(WORKSPACE_BYTES))
        self.told(wish, wishes, REDUCTION, ctypes.c_uint32(REPEATABLE))
        # A bias has no wish of its own; PyTorch tells of it where the result belongs, and so do we.
        for attribute, address in zip(ALIGNMENTS, (at.right, at.left, at.target, at.target | at.bias), strict=True):
            self.told(wish, wishes, attribute, ctypes.c_uint32(alignment(address)))
        found, count = (Heuristic * MOST_WAYS)(), ctypes.c_int()
        ask = (self.handle, about, *layouts, layouts[2], wishes, MOST_WAYS, found, ctypes.byref(count))
        self.call("cublasLtMatmulAlgoGetHeuristic", *ask)
        self.call("cublasLtMatmulPreferenceDestroy", wishes)
        ways = [each for each in found[: count.value] if each.state == 0 and each.workspace <= WORKSPACE_BYTES]
        if not ways:
            raise Refused("cuBLASLt knows no way to do a product of this program", "precision='highest'")
        return about, tuple(layouts), ways

    def layout(self, shape: tuple[int, int], steps: tuple[int, int], batch: int, apart: int) -> HANDLE:
        """A matrix of ours, as its transpose: in columns, if its rows lie side by side."""
        near, far = (shape[1], shape[0]) if steps[1] == 1 else shape
        found = self.made(
            "cublasLtMatrixLayoutCreate",
            FLOAT32,
            ctypes.c_uint64(near),
            ctypes.c_uint64(far),
            ctypes.c_int64(max(steps)),
        )
        if batch > 1:
            self.told("cublasLtMatrixLayoutSetAttribute", found, BATCH_COUNT, ctypes.c_int32(batch))
            self.told("cublasLtMatrixLayoutSetAttribute", found, BATCH_STEP, ctypes.c_int64(apart))
        return found


def alignment(address: int) -> int:
    """The largest power of 2, up to a bound, that an address is a multiple of."""
    return min(address & -address, MOST_ALIGNMENT) if address else MOST_ALIGNMENT

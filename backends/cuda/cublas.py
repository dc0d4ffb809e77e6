"""cuBLASLt by ctypes: products of matrices on a stream, in float32, or with operands rounded on the way to the cores.

Names and numbers are those of the library (https://docs.nvidia.com/cuda/cublas). It knows matrices whose columns lie
one behind the other, and takes ours for their transposes: it is asked for right' @ left' where left @ right is wanted.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graphc.backends.cuda.device import MultiplyCall
from graphc.backends.cuda.driver import ADDRESS, HANDLE, Device, Stream
from graphc.backends.cuda.memory import Block
from graphc.backends.runtime import Refused

SONAMES = ("libcublasLt.so.13", "libcublasLt.so.12")
WHEELS = ("nvidia/cu13/lib", "nvidia/cublas/lib", "torch/lib")
COMPUTE = {"highest": 68, "tf32": 77, "bf16": 75}  # CUBLAS_COMPUTE_32F, …_FAST_TF32, …_FAST_16BF
FLOAT32 = 0  # CUDA_R_32F
TRANSPOSE_FIRST, TRANSPOSE_SECOND = 3, 4  # of cublasLtMatmulDescAttributes_t
BATCH_COUNT, BATCH_STEP = 5, 6  # of cublasLtMatrixLayoutAttribute_t
WORKSPACE, REDUCTION, ALIGNMENTS = 1, 3, (5, 6, 7, 8)  # of cublasLtMatmulPreferenceAttributes_t
REPEATABLE = 2 | 4  # of cublasLtReductionScheme_t: parts of a depth are summed in order, not as they come
WORKSPACE_BYTES = 32 << 20
MOST_ALIGNMENT = 256


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


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
    """The library on a device."""

    def __init__(self, library: Any, device: Device, precision: str) -> None:
        self.library, self.device, self.compute = library, device, COMPUTE[precision]
        device.enter()
        self.handle = self.made("cublasLtCreate")
        library.cublasLtGetVersion.restype = ctypes.c_size_t
        self.version = int(library.cublasLtGetVersion())
        self.workspace = Block(device, WORKSPACE_BYTES)
        self.one, self.zero = ctypes.c_float(1.0), ctypes.c_float(0.0)
        self.ready: dict[tuple[Any, ...], tuple[Any, ...]] = {}

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

    def multiply(self, stream: Stream, call: MultiplyCall, target: int, left: int, right: int) -> None:
        """Give a product to a stream, for matrices at these addresses."""
        alignments = tuple(alignment(each) for each in (right, left, target))
        key = (call.rows, call.columns, call.depth, call.left_steps, call.right_steps, call.batch, call.batch_steps)
        known = self.ready.get((key, alignments))
        if known is None:
            known = self.ready[key, alignments] = self.prepared(call, alignments)
        about, (first, second, result), found = known
        self.call(
            "cublasLtMatmul", self.handle, about, ctypes.byref(self.one), ADDRESS(right), first, ADDRESS(left), second,
            ctypes.byref(self.zero), ADDRESS(target), result, ADDRESS(target), result, ctypes.byref(found.algorithm),
            ADDRESS(self.workspace.place), ctypes.c_size_t(WORKSPACE_BYTES), stream.handle,
        )  # fmt: skip

    def prepared(self, call: MultiplyCall, alignments: tuple[int, ...]) -> tuple[Any, ...]:
        """(what is done, the layouts of the matrices, how the library means to do it)."""
        about = self.made("cublasLtMatmulDescCreate", self.compute, FLOAT32)
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
        for attribute, size in zip(ALIGNMENTS, (*alignments, alignments[2]), strict=True):
            self.told(wish, wishes, attribute, ctypes.c_uint32(size))
        found, count = (Heuristic * 1)(), ctypes.c_int()
        ask = (self.handle, about, *layouts, layouts[2], wishes, 1, found, ctypes.byref(count))
        self.call("cublasLtMatmulAlgoGetHeuristic", *ask)
        self.call("cublasLtMatmulPreferenceDestroy", wishes)
        if not count.value:
            raise Refused("cuBLASLt knows no way to do a product of this program", "precision='highest'")
        return about, tuple(layouts), found[0]

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

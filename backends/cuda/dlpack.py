"""Arrays in the memory of a device between libraries: the structures and capsules of DLPack.

See https://dmlc.github.io/dlpack/latest. Capsules have no version: every library takes those.
"""

from __future__ import annotations

import ctypes
import math
import sys
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

CPU, CUDA, CUDA_MANAGED = 1, 2, 13  # of DLDeviceType
CODES = {0: "i", 1: "u", 2: "f", 6: "b"}  # of DLDataTypeCode, by the kinds of NumPy's dtypes
NAME = b"dltensor"


class Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_number", ctypes.c_int32),
        ("axes", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )


class Managed(ctypes.Structure):
    """DLManagedTensor; its deleter is a function of C."""

    _fields_ = (("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


_api = ctypes.pythonapi
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_New", _api))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_is_named = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", _api))


class Given:
    """A capsule that was given away, with all that must live as long as somebody may look at what is in it.

    is_done  set by whoever takes the structure out, when it is of no more use
    """

    def __init__(self, made: Managed, extents: Any, owner: Any) -> None:
        self.made, self.extents, self.owner = made, extents, owner
        self.is_done = ctypes.c_int64(0)
        made.context, made.deleter = ctypes.addressof(self.is_done), deleter()[1]
        self.capsule = _new(ctypes.addressof(made), NAME, None)

    def is_over(self) -> bool:
        """Whether nobody has the capsule any more, or whoever took over what is in it is done."""
        unused = sys.getrefcount(self.capsule) == ALONE and bool(_is_named(self.capsule, NAME))
        return unused or bool(self.is_done.value)


ALONE = 2  # references to an object that one attribute holds, as `getrefcount` counts them
_given: list[Given] = []
_giving = threading.Lock()


@cache
def deleter() -> tuple[Any, int]:
    """(what keeps the code alive, the address of the function that says that a structure is of no more use).

    It is none of Python's: those do harm where an exception is on its way while a consumer's array comes to its end.
    """
    from graphc.backends.loading import load_object
    from graphc.backends.target import build, host

    engine = load_object(build([LET_GO.format(Managed.context.offset)], ("let_go",), host()))
    return engine, engine.get_function_address("let_go")


LET_GO = """define void @let_go(ptr %managed) nounwind {{
  %context.at = getelementptr i8, ptr %managed, i64 {}
  %context = load ptr, ptr %context.at
  store i64 1, ptr %context
  ret void
}}
"""


def managed(capsule: Any) -> Managed:
    """What is in a capsule, which keeps it alive."""
    return Managed.from_address(_pointer(capsule, NAME))


def dtype_of(tensor: Tensor) -> np.dtype[Any] | None:
    """None for types that NumPy lacks."""
    kind = CODES.get(tensor.code)
    if kind is None or tensor.lanes != 1 or tensor.bits % 8:
        return None
    return np.dtype(bool) if kind == "b" else np.dtype(f"{kind}{tensor.bits // 8}")


def is_packed(shape: Sequence[int], steps: Sequence[int] | None) -> bool:
    """Whether elements lie one behind the other, the last axis the nearest; steps count elements."""
    if steps is None or 0 in shape:
        return True
    wanted = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return all(step == want for step, want, extent in zip(steps, wanted, shape, strict=True) if extent != 1)


def capsule(place: int, dtype: np.dtype[Any], shape: Sequence[int], device_number: int, owner: Any) -> Any:
    """A capsule with an array of packed elements at an address of a device; `owner` lives as long as it is used."""
    made, extents = Managed(), (ctypes.c_int64 * max(len(shape), 1))(*shape)
    tensor = made.tensor
    tensor.data, tensor.device_type, tensor.device_number = place, CUDA, device_number
    tensor.axes, tensor.shape = len(shape), extents
    tensor.code = next(code for code, kind in CODES.items() if kind == dtype.kind)
    tensor.bits, tensor.lanes = dtype.itemsize * 8, 1
    given = Given(made, extents, owner)
    with _giving:
        _given[:] = [each for each in _given if not each.is_over()]
        _given.append(given)
    return given.capsule

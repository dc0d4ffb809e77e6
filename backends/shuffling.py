"""The order of an epoch, drawn natively for whoever does not run a whole epoch so."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from graphc.backends.artifact import closure, compile_kernels, describe, versions
from graphc.backends.cache import Cache, default_cache
from graphc.backends.entry.epoch import shuffle
from graphc.backends.entry.pieces import ATTRIBUTES
from graphc.backends.interface import LINKED
from graphc.backends.loading import load_object
from graphc.backends.machine import host_signature
from graphc.backends.runtime import address
from graphc.ir.random import GROUP
from graphc.ir.types import ALIGNMENT

ENTRY = f"""declare void @shuffle(ptr, ptr, i64, i64, i64)
define i32 @step(ptr %order, i64 %count, i64 %seed, i64 %epoch) {ATTRIBUTES} {{
  %draws = alloca [{GROUP} x i64], align {ALIGNMENT}
  call void @shuffle(ptr %order, ptr %draws, i64 %count, i64 %seed, i64 %epoch)
  ret i32 0
}}
"""


def fill(order: np.ndarray[Any, Any], seed: int, epoch: int) -> None:
    """`graphc.ir.random.permutation(len(order), seed, epoch)` into an array of i64."""
    native()(address(order), len(order), seed, epoch)


@cache
def native() -> Callable[[int, int, int, int], int]:
    """The function, compiled or from disk. Whoever has it keeps its code."""
    kernels, store = closure([shuffle()]), default_cache()
    key = Cache.key(*versions(), host_signature(), ENTRY, *map(describe, kernels))
    path = store.path("artifact", key)
    if path is None:
        path = store.put("artifact", key, compile_kernels(ENTRY, kernels, ("step",), store))
    library = ctypes.CDLL(str(path)) if LINKED else load_object(path.read_bytes())
    place = ctypes.cast(library.step, ctypes.c_void_p).value if LINKED else library.get_function_address("step")
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    function = kind(place or 0)
    function.library = library  # type: ignore[attr-defined]
    return function

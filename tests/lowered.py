"""Kernel texts run natively beside their meaning in NumPy, and numbers to run them on."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from typing import Any

import numpy as np

from graphc.backends import primitives
from graphc.backends.artifact import closure
from graphc.backends.loading import load_object
from graphc.backends.lower import lower
from graphc.backends.primitives import ELEMENTS, LANES, Codegen, Kernel, is_pointer
from graphc.backends.target import build, host

FLOATS = ("f32", "f64")
INTEGERS = ("i32", "i64")
ALL = ("f32", "f64", "i32", "i64", "u8", "bool")
C_TYPES = {"f32": ctypes.c_float, "f64": ctypes.c_double, "i32": ctypes.c_int32, "i64": ctypes.c_int64}


# --- running natively -------------------------------------------------------------------------------------------------


def run_native(kernel: Kernel, *args: Any, codegen: Codegen = "auto") -> Any:
    """Like primitives.run, by machine code of this machine."""
    engine = load_object(build([lower(each, codegen) for each in closure([kernel])], [kernel.name], host()))
    kinds = [ctypes.c_void_p if is_pointer(kind) else C_TYPES[kind] for kind in kernel.parameter_types]
    function = ctypes.CFUNCTYPE(C_TYPES.get(kernel.returns), *kinds)(engine.get_function_address(kernel.name))
    return function(*(arg.ctypes.data if isinstance(arg, np.ndarray) else arg for arg in args))


def run_python(program: str, **variables: str) -> str:
    """What a new Python process prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_same(native: np.ndarray, meant: np.ndarray) -> None:
    np.testing.assert_array_equal(native, meant)
    if native.dtype.kind == "f":
        number = ~np.isnan(native)
        np.testing.assert_array_equal(np.signbit(native[number]), np.signbit(meant[number]))


def check(kernel: Kernel, *args: Any, codegen: Codegen | None = None) -> None:
    """Run both ways on copies of the arguments and compare every array afterwards; by both lowerings unless told."""
    for each in ("numba", "direct") if codegen is None else (codegen,):
        check_lowered(kernel, *args, codegen=each)


def check_lowered(kernel: Kernel, *args: Any, codegen: Codegen) -> None:
    native, meant = ([arg.copy() if isinstance(arg, np.ndarray) else arg for arg in args] for _ in range(2))
    run_native(kernel, *native, codegen=codegen)
    primitives.run(kernel, *meant)
    for left, right in zip(native, meant, strict=True):
        if isinstance(left, np.ndarray):
            assert_same(left, right)


# --- data -------------------------------------------------------------------------------------------------------------

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 0.5, -0.5, 1.5, 2.5, -2.5, 1.0, 7.0, -3.75]


def numbers(element: str, seed: int) -> np.ndarray:
    """Three vectors of awkward values."""
    random = np.random.default_rng(seed)
    if element in FLOATS:
        special = [*SPECIAL, float(np.finfo(ELEMENTS[element]).max)]
        drawn = [random.permutation(special), random.permutation(special), random.normal(size=LANES)]
        return np.concatenate(drawn).astype(ELEMENTS[element])
    if element == "bool":
        return random.integers(0, 2, 3 * LANES).astype(np.bool_)
    limits = np.iinfo(ELEMENTS[element])
    drawn = random.integers(limits.min, limits.max, 3 * LANES, ELEMENTS[element], endpoint=True)
    drawn[:6] = [limits.min, limits.max, 0, 1, 2, 3]
    return drawn


def modest(element: str, seed: int) -> np.ndarray:
    """Numbers of 0 to 25 with fractions where there are any: they fit every type, as shift counts too."""
    return (np.random.default_rng(seed).integers(0, 100, 3 * LANES) / 4).astype(ELEMENTS[element])


# --- kernels ----------------------------------------------------------------------------------------------------------


def product_kernel(rows: int, vectors: int) -> Kernel:
    """c += aᵀ b for packed panels a (depth, rows) and b (depth, 16 vectors)."""
    text = f"""def product(a, b, c, depth, stride):
    t = tile_load_{rows}x{vectors}(c, stride)
    for k in range(depth):
        t = tile_multiply_add(t, a, 1, k * {rows}, b, k * {LANES * vectors})
    tile_store(t, c, stride)
    if depth == 0:
        tile_store(tile_zeros_{rows}x{vectors}(), c, stride)
"""
    return Kernel("product", text, (("a", "f32*"), ("b", "f32*"), ("c", "f32*"), ("depth", "i64"), ("stride", "i64")))

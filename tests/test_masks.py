"""Reads and writes under masks of all kinds that kernels have, on every kind of x86-64 that this machine can be."""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import pytest

from graphc.backends import target
from graphc.backends.link import link_shared_object
from graphc.backends.lower import lower
from graphc.backends.machine import processor_lines
from graphc.backends.primitives import Kernel, run

FLAGS = {flag for line in processor_lines() if line.startswith("flags") for flag in line.split()}
NEEDED = {target.X86_64_V2: "sse4_2", target.X86_64_V3: "avx2", target.X86_64_V4: "avx512f"}
MASKS = {
    "constant": "live({high}) & ~live({low})",
    "condition": "spread(i < 2) & live({high}) & ~live({low})",  # as the guards of windows have it
    "chosen": "live(select(i < 2, 16, 0)) & live({high}) & ~live({low})",
    "count": "live({high} - i) & ~live({low})",
}
BODIES = {
    "read": "store_lanes(out, i * 16, load_live(x, i * 16, m))",
    "read and written": "store_live(out, i * 16, load_live(x, i * 16, m), live(10))",
    "written": "store_live(out, i * 16, load_lanes(x, i * 16), m)",
}
DTYPES = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "u8": np.uint8}


def kernel(name, mask, body, dtype):
    text = f"def {name}(x, out, n):\n    for i in range(n):\n        m = {mask}\n        {body}\n"
    return Kernel(name, text, (("x", f"{dtype}*"), ("out", f"{dtype}*"), ("n", "i64")), inline=False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("built_for", NEEDED, ids=lambda built_for: built_for.name)
def test_what_a_mask_hides_is_neither_read_nor_written(built_for, dtype, tmp_path):
    if NEEDED[built_for] not in FLAGS:
        pytest.skip(f"this processor is no {built_for.name}")
    ranges = [(low, high) for low, high in itertools.product((0, 1, 7, 8, 9), (2, 4, 8, 9, 16)) if low < high]
    kernels = {
        f"{way}_{kind}_{low}_{high}".replace(" ", "_"): (mask.format(low=low, high=high), body)
        for (way, body), (kind, mask), (low, high) in itertools.product(BODIES.items(), MASKS.items(), ranges)
    }
    made = [kernel(name, *parts, dtype) for name, parts in kernels.items()]
    code = target.build([lower(each) for each in made], list(kernels), built_for)
    path = tmp_path / "masks.so"
    path.write_bytes(link_shared_object([code], list(kernels), "masks.so"))
    library = ctypes.CDLL(str(path))
    x = (100 * np.random.default_rng(0).standard_normal(64)).astype(DTYPES[dtype])
    for each in made:
        found, expected = np.ones(64, x.dtype), np.ones(64, x.dtype)
        run(each, x, expected, 4)
        getattr(library, each.name)(*(ctypes.c_void_p(array.ctypes.data) for array in (x, found)), ctypes.c_int64(4))
        np.testing.assert_array_equal(found, expected, each.name)

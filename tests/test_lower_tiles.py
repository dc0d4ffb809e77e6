"""Register tiles: what they multiply, read and leave is what NumPy says, in both lowerings."""

from __future__ import annotations

import re

import numpy as np
import pytest
from lowered import (
    check,
    product_kernel,
    run_native,
)

from graphc.backends.lower import lower
from graphc.backends.primitives import LANES, Kernel
from graphc.backends.target import TARGETS, assembly


@pytest.mark.parametrize("shape", [(1, 1), (6, 1), (4, 3), (14, 2)])
@pytest.mark.parametrize("depth", [0, 9])
def test_tile_product(shape: tuple[int, int], depth: int) -> None:
    rows, width = shape[0], LANES * shape[1]
    random = np.random.default_rng(8)
    a, b, c = (random.normal(size=size).astype("f") for size in ((depth, rows), (depth, width), (rows, width + 3)))
    check(product_kernel(*shape), a.ravel(), b.ravel(), c.ravel(), depth, width + 3)
    expected = np.zeros((rows, width)) if depth == 0 else c[:, :width] + a.T @ b
    run_native(product_kernel(*shape), a, b, c, depth, width + 3)
    np.testing.assert_allclose(c[:, :width], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (6, 2), (4, 3)])
@pytest.mark.parametrize("last", [1, 12, 16])
def test_a_tile_of_few_lanes_reads_no_others(shape: tuple[int, int], last: int) -> None:
    rows, vectors = shape
    width = LANES * (vectors - 1) + last
    text = f"""def product(a, b, c, depth):
    t = tile_zeros_{rows}x{vectors}()
    for k in range(depth):
        t = tile_multiply_live(t, a, 1, k * {rows}, b, k * {width}, live({last}))
    tile_store(t, c, {LANES * vectors})
"""
    kernel = Kernel("product", text, (("a", "f32*"), ("b", "f32*"), ("c", "f32*"), ("depth", "i64")))
    random = np.random.default_rng(8)
    a, b = (random.normal(size=size).astype("f") for size in ((5, rows), (5, width)))
    c = np.full((rows, LANES * vectors), 7, "f")
    check(kernel, a.ravel(), b.ravel(), c.ravel(), 5)
    run_native(kernel, a, b, c, 5)
    np.testing.assert_allclose(c[:, :width], a.T @ b, rtol=1e-5, atol=1e-5)
    assert (c[:, width:] == 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (6, 1), (14, 2)])
def test_a_tile_is_subtracted_from_memory(shape: tuple[int, int]) -> None:
    rows, vectors = shape
    text = f"""def subtract(t, p, s, stride):
    tile_subtract(tile_load_{rows}x{vectors}(t, {LANES * vectors}), s, p, stride)
"""
    random, width = np.random.default_rng(8), LANES * vectors
    kernel = Kernel("subtract", text, (("t", "f32*"), ("p", "f32*"), ("s", "f32"), ("stride", "i64")))
    t, p = (random.normal(size=(rows, each)).astype("f") for each in (width, width + 3))
    check(kernel, t.ravel(), p.ravel(), np.float32(0.3), width + 3)
    found = p.copy()
    run_native(kernel, t, found, 0.3, width + 3)
    assert np.array_equal(found[:, :width], p[:, :width] - np.float32(0.3) * t)
    assert np.array_equal(found[:, width:], p[:, width:])


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (14, 2)])
@pytest.mark.parametrize("depth", [9, 50])
def test_tile_of_lines(shape: tuple[int, int], depth: int) -> None:
    rows, vectors = shape
    text = f"""def lines(a, b, c, depth):
    t = tile_zeros_{rows}x{vectors}()
    for k in range(0, depth, {LANES}):
        t = tile_multiply_lines(t, a, depth, k, b, depth + 1, k, live(depth - k))
    tile_store_sums(t, c, 20)
"""
    kernel = Kernel("lines", text, (("a", "f32*"), ("b", "f32*"), ("c", "f32*"), ("depth", "i64")))
    random = np.random.default_rng(9)
    a, b = (random.normal(size=size).astype("f") for size in ((vectors, depth), (rows, depth + 1)))
    c = np.full((vectors, 20), 7, "f")
    check(kernel, a.ravel(), b.ravel(), c.ravel(), depth)
    run_native(kernel, a, b, c, depth)
    np.testing.assert_allclose(c[:, :rows], a @ b[:, :depth].T, rtol=1e-4, atol=1e-5)
    assert (c[:, rows:16] == 0).all() and (c[:, 16:] == 7).all()


def test_the_largest_tile_of_a_machine_stays_in_registers() -> None:
    for target in TARGETS.values():
        if target.triple.startswith("wasm32"):  # a stack machine: what lies in registers is up to the engine
            continue
        text = assembly([lower(product_kernel(target.tile_rows, target.tile_vectors))], ["product"], target)
        loops = re.findall(r"^\.?LBB\d+_\d+:.*\n(?:[^.L].*\n)*?\s+(?:j\w+|b\.?\w+|cbnz)\s.*LBB", text, re.MULTILINE)
        multiplying = [loop for loop in loops if re.search(r"fmadd|fmla|vfma|mulps", loop)]
        assert multiplying, text
        assert not re.search(r"\(%rsp\)|\[sp\b|\(sp\)", "".join(multiplying)), text
    assert "%zmm30" in assembly([lower(product_kernel(14, 2))], ["product"], TARGETS["x86-64-v4"])


def test_transpose_block() -> None:
    kernel = Kernel(
        "transpose",
        "def transpose(source, target, m, n):\n    transpose_block(source, m, target, n)\n",
        (("source", "f32*"), ("target", "f32*"), ("m", "i64"), ("n", "i64")),
    )
    check(kernel, np.arange(16 * 20, dtype="f"), np.zeros(16 * 17, "f"), 20, 17)

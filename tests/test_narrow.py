"""Indices of 32 bits: where they are proven to fit they give the same numbers, and elsewhere they stay as they are."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lowered import run_native

import graphc as gx
from graphc.backends.cuda.plan import draw
from graphc.backends.cuda.ptx import program_of, ptx
from graphc.backends.cuda.widths import is_narrow
from graphc.backends.lower import lower
from graphc.backends.lower import narrow as proof
from graphc.backends.lower.narrow import MOST, Span, fits
from graphc.backends.primitives import Kernel, run
from graphc.ir.passes import run_passes
from graphc.ir.text import parse_graph

WIDE = re.compile(r"(?:mul\.lo|mul\.hi|div|rem|mad\.lo)\.[su]64")  # costly ones: an address is one 64-bit sum

WALK = """def f(out, x, n, m):
    for i in range(n):
        place = i * m + m - 1
        clamped = minimum(maximum(load(x, place // m), 0), m - 1)
        row = select(clamped < 3, clamped * n, place % n)
        store(out, i, load(x, i) * i64(5) + row + select(i == 2, 7, row - 2 * n))
"""
KERNEL = Kernel("f", WALK, (("out", "i64*"), ("x", "i64*"), ("n", "i64"), ("m", "i64")), narrow=True)


@pytest.mark.parametrize("n, m", [(1, 1), (5, 3), (7, 300_000_000)])
def test_both_widths_mean_the_same(n: int, m: int) -> None:
    x = np.array([-(2**62), 2**62, 3, 1, 0, 2, -1], np.int64)
    assert fits(KERNEL, {"n": (0, n), "m": (1, m)})
    assert "i32" in lower(KERNEL) and "i32" not in lower(replace(KERNEL, narrow=False))
    expected, found = np.zeros((2, 7), np.int64)
    run(KERNEL, expected, x, n, m)
    run_native(KERNEL, found, x, n, m)
    np.testing.assert_array_equal(found, expected)
    assert abs(found[:n]).max() > MOST // 2 or n < 7


LOOP = "    for i in range(0, n, {step}):\n        store(x, i, i64(0))\n"


COUNT = "    for i in range(n):\n        k = k + 1\n    store(x, k, i64(1))\n"


@pytest.mark.parametrize(
    ("body", "span", "expected"),
    [
        ("    store(x, n * 2 - 1, i64(1))\n", (0, MOST // 2), True),
        ("    store(x, n * 2, i64(1))\n", (0, MOST // 2 + 1), False),
        ("    store(x, n - 5, i64(1))\n", (-MOST + 5, 9), True),
        ("    store(x, n - 5, i64(1))\n", (-MOST + 4, 9), False),
        ("    store(x, n // 5, i64(1))\n", (0, MOST), True),
        ("    store(x, n // 5, i64(1))\n", (-1, MOST), False),
        (LOOP.format(step=1), (0, MOST - 1), True),
        (LOOP.format(step=4), (0, MOST - 1), False),  # the last step ends beyond
        (f"    k = n\n{COUNT}", (0, 5), False),  # how far it gets is not looked into
        (f"    k = 0\n{COUNT}", (0, 5), True),  # it stays wide
        ("    store(x, minimum(load(x, n), 5) * 3, i64(1))\n", (0, 5), True),  # not narrow, and not asked
        ("    store(x, 0, load(x, n) * i64(5))\n", (0, MOST + 1), False),
    ],
)
def test_what_fits(body: str, span: Span, expected: bool) -> None:
    kernel = Kernel("f", f"def f(x, n):\n{body}", (("x", "i64*"), ("n", "i64")))
    assert fits(kernel, {"n": span}) == expected


def test_kernels_count_in_32_bits() -> None:
    x, w = gx.input("x", gx.f32["batch", 60]), gx.input("w", gx.f32[60, 50])
    y = gx.tanh((x @ w).transpose(0, 1).reshape(25, 2, -1)[:, 1])
    function = gx.function([x, w], {"y": y, "rows": x.softmax(1), "sum": (x * x).sum(0)})
    graph = function.artifact.program.graph
    assert all(piece.kernel.narrow for made in draw(graph).entries for piece in made.pieces)
    assert not WIDE.search(ptx(program_of(graph), "sm_80"))


LARGE = """graph large(rows<={rows}; data x: f32[rows,4095]) {{
  %0: f32[4095,rows] = transpose(%x, permutation=(1, 0,))
  %1: f32[4095,rows] = tanh(%0)
  result y = %1
}}"""


def test_larger_memory_keeps_64_bits() -> None:
    """Compiled only: it would take 16 GiB."""
    for rows, narrow in ((1 << 20, False), (1 << 18, True)):
        graph = run_passes(parse_graph(LARGE.format(rows=rows)))
        assert {piece.kernel.narrow for made in draw(graph).entries for piece in made.pieces} == {narrow}
        assert bool(WIDE.search(ptx(program_of(graph), "sm_80"))) != narrow


def test_what_was_proven_is_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    proofs: list[str] = []
    monkeypatch.setattr(proof, "fits", lambda kernel, spans: proofs.append(kernel.text) or fits(kernel, spans))
    small, large = {"n": (0, 9), "m": (1, 9)}, {"n": (0, MOST), "m": (1, 9)}
    assert [is_narrow(KERNEL, spans) for spans in (small, large, small, large)] == [True, False, True, False]
    assert len(proofs) == 2
    assert is_narrow(replace(KERNEL, text=WALK.replace("i64(5)", "i64(6)")), small) and len(proofs) == 3

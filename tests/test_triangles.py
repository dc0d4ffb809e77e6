"""Corners of zeros: where they are found, what products leave out for them, and that nothing else changes."""

from __future__ import annotations

import emulator
import numpy as np
import pytest

import graphc as gx
from graphc import functional as F
from graphc.backends import primitives, reference, triangles
from graphc.backends.contraction import TileShape
from graphc.ir.blocking import blocking
from graphc.ir.graph import Graph, Output
from graphc.ir.passes import run_passes
from graphc.ir.triangles import Corner, Corners
from graphc.ir.triangles import triangles as find

ROW, COLUMN = gx.arange(40).reshape(40, 1), gx.arange(24)
CONDITIONS = {
    "COLUMN <= ROW": Corners(Corner(0, False, True), Corner(1, True, True)),
    "ROW >= COLUMN": Corners(Corner(0, False, True), Corner(1, True, True)),
    "ROW > COLUMN": Corners(Corner(-1, False, True), Corner(0, True, True)),
    "COLUMN > ROW": Corners(Corner(0, True, True), Corner(1, False, True)),
    "COLUMN - ROW <= 3": Corners(Corner(3, False, True), Corner(4, True, True)),
    "ROW + 2 < COLUMN - 1": Corners(Corner(3, True, True), Corner(4, False, True)),
    "~(COLUMN > ROW)": Corners(Corner(0, False, True), Corner(1, True, True)),
    "(COLUMN <= ROW) & (COLUMN > ROW - 5)": Corners(Corner(0, False, True), Corner(-4, False, True)),
    "gx.tri(40, 24, dtype=gx.bool_)": Corners(Corner(0, False, True), Corner(1, True, True)),
    "(COLUMN <= ROW).T": Corners(Corner(-1, True, True), Corner(0, False, True)),
    "2 * COLUMN <= ROW": Corners(),
    "COLUMN <= 3": Corners(),
    "(COLUMN <= ROW) | (gx.input('x', gx.f32[24]) > 0)": Corners(None, Corner(1, True, True)),
    "(COLUMN <= ROW) & (gx.input('x', gx.f32[24]) > 0)": Corners(Corner(0, False, True), None),
}


def corners_of(tensor):
    value = tensor.value
    return find(Graph("g", (), (Output("result", "x", value),)))[value]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditions_of_rows_and_columns(condition):
    assert corners_of(eval(condition, {"gx": gx, "ROW": ROW, "COLUMN": COLUMN})) == CONDITIONS[condition]


SCORES = gx.input("scores", gx.f32[2, 40, 24])
VALUES = {
    "gx.where(SEEN, SCORES, -np.inf)": Corner(0, -np.inf, True),
    "gx.where(~SEEN, 0.0, SCORES)": Corner(0, 0.0, True),
    "gx.where(SEEN, SCORES, 0.0) * 0.5": Corner(0, 0.0, True),
    "gx.where(SEEN, SCORES, 0.0) * SCORES": Corner(0, 0.0),
    "gx.softmax(gx.where(SEEN, SCORES, -np.inf), -1)": Corner(0, 0.0),
    "gx.exp(gx.where(SEEN, SCORES, -np.inf))[:, 2:, 1:]": Corner(1, 0.0),
    "gx.where(SEEN, SCORES, SCORES)": None,
    "gx.where(SEEN, SCORES, 1.0) * SCORES": None,
}


@pytest.mark.parametrize("expression", VALUES)
def test_numbers_in_the_corner(expression):
    found = eval(expression, {"gx": gx, "np": np, "SCORES": SCORES, "SEEN": COLUMN <= ROW})
    assert corners_of(found).above == VALUES[expression]


def attention(length, window=None, width=32):
    q, k, v, c = (gx.input(name, gx.f32[2, length, width]) for name in "qkvc")
    row, column = gx.arange(length).reshape(length, 1), gx.arange(length)
    seen = column <= row if window is None else (column <= row) & (column > row - window)
    weights = gx.softmax(gx.where(seen, q @ k.transpose(-2, -1), -np.inf), -1)
    out = weights @ v
    slopes = gx.grad((out * c).sum(), [q, k, v])
    return gx.function([q, k, v, c], {"out": out, "dq": slopes[0], "dk": slopes[1], "dv": slopes[2]})


def numbers(length, rng, width=32):
    return {name: rng.normal(size=(2, length, width)).astype(np.float32) for name in "qkvc"}


def products(function):
    return [nest for nest in function.artifact.program.walk() if nest.product is not None]


def test_products_of_attention_are_cut():
    nests = products(attention(64))
    assert sum(blocking(nest, 32, "f32").cuts for nest in nests) == 4
    assert sum(nest.product.needed.highest == 0 for nest in nests) == 1
    fused = F.scaled_dot_product_attention(*(gx.input(name, gx.f32[2, 3, 64, 16]) for name in "qkv"), is_causal=True)
    nests = products(gx.function(list(fused_inputs(fused)), fused))
    assert [nest.product.filled.highest for nest in nests] == [None, 0]
    assert [nest.product.needed.highest for nest in nests] == [0, None]


def fused_inputs(tensor):
    found, stack = {}, [tensor.value]
    while stack:
        value = stack.pop()
        stack += value.operands
        if value.op.name == "input":
            found[value.attrs["name"]] = value
    return (gx.Tensor(found[name]) for name in "qkv")


@pytest.mark.parametrize(("length", "window"), [(64, None), (33, None), (50, 7), (17, 40)], ids=str)
def test_what_is_left_out_changes_nothing(length, window, rng, monkeypatch):
    """Natively, uncompiled, with other tiles, and by the reference."""
    function, arrays = attention(length, window), numbers(length, rng)
    assert any(blocking(nest, 32, "f32").cuts for nest in products(function))
    graph, native = run_passes(function.traced), function(*arrays.values())
    for shape in (TileShape(14, 2), TileShape(6, 1)):
        monkeypatch.setattr(emulator, "TILE", shape)
        for (name, found), ours in zip(emulator.emulate(graph, arrays).items(), native, strict=True):
            assert np.array_equal(found, ours), name
    for (name, wanted), ours in zip(reference.run(graph, arrays).items(), native, strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-5, err_msg=name)


def test_lengths_known_at_the_call(rng):
    time = gx.dim("time", max=70)
    q, k, v, c = (gx.input(name, gx.f32[time, 32]) for name in "qkvc")
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    function = gx.function([q, k, v, c], [out, *gx.grad((out * c).sum(), [q, k, v])])
    assert sum(blocking(nest, 32, "f32").cuts for nest in products(function)) == 4
    graph = run_passes(function.traced)
    for length in (70, 33, 14, 1):
        arrays = {name: rng.normal(size=(length, 32)).astype(np.float32) for name in "qkvc"}
        native = function(*arrays.values())
        for found, wanted, ours in zip(
            emulator.emulate(graph, arrays).values(), reference.run(graph, arrays).values(), native, strict=True
        ):
            assert np.array_equal(found, ours)
            np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lead", [(), (16, 2)], ids=["one matrix", "many"])
def test_bits_do_not_depend_on_threads(lead, rng):
    q, k, v, c = (gx.input(name, gx.f32[(*lead, 200, 32)]) for name in "qkvc")
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    function = gx.function([q, k, v, c], [out, *gx.grad((out * c).sum(), [q, k, v])])
    assert any(nest.partition for nest in products(function))
    arrays = [rng.normal(size=(*lead, 200, 32)).astype(np.float32) for _ in "qkvc"]
    found = []
    for threads in (1, 2, 4):
        function.threads = threads
        found.append([result.tobytes() for result in function(*arrays)])
    assert found[0] == found[1] == found[2]


ODD = [("v", 63, np.inf), ("v", 40, np.nan), ("k", 50, -np.inf), ("q", 5, np.nan), ("q", 30, np.inf), ("c", 60, np.inf)]


@pytest.mark.parametrize(("name", "row", "number"), ODD, ids=str)
def test_infinities_go_where_the_reference_takes_them(name, row, number, rng):
    function, arrays = attention(64), numbers(64, rng)
    arrays[name][1, row, 3] = number
    with np.errstate(all="ignore"):
        wanted = reference.run(run_passes(function.traced), arrays)
    for (result, expected), ours in zip(wanted.items(), function(*arrays.values()), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5, err_msg=result)


@pytest.mark.parametrize("kernel", [triangles.not_zero(), triangles.not_finite()], ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("number", [0.0, -0.0, 1e-45, np.inf, np.nan])
def test_what_is_looked_at(kernel, number):
    """Every element of 3 lines of 21, and none beside them."""
    odd = not np.isfinite(number) if kernel.name == "not_finite" else number != 0
    for place in range(3 * 30 - 9):
        memory = np.zeros(3 * 30 - 9, np.float32)
        memory[place] = number
        assert primitives.run(kernel, memory, 3, 21, 30) == (odd and place % 30 < 21)

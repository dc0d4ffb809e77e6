"""Several rounds of a loop side by side compute what the loop did, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from graphc.backends import artifact, reference, source
from graphc.backends.contraction import TileShape
from graphc.backends.primitives import LANES, Kernel, run
from graphc.backends.runtime import Runner, Storage
from graphc.backends.source import interleave as interleaving
from graphc.backends.source.interleave import OFTEN, WAYS, interleave
from graphc.ir import ops
from graphc.ir.graph import Graph, Output
from graphc.ir.passes import run_passes
from graphc.ir.program import plan
from graphc.ir.types import TensorType

TEXT = """def kernel(out, x, y, n):
    total_running = spread(f32(0.0))
    for j in range(0, n, 16):
        live0 = live(n - j)
        same_0 = spread(f32(2.0))
        load_0 = load_live(x, j, live0)
        mul_0 = load_0 * same_0
        total_running = total_running + mul_0
        store_live(out, j, mul_0, live0)
        store_lanes(y, 0, load_lanes(y, 0) + mul_0)
    total_0 = sum_lanes(total_running)
    store(y, 16, total_0)
"""
PARAMETERS = (("out", "f32*"), ("x", "f32*"), ("y", "f32*"), ("n", "i64"))


def results(text, size):
    x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    out, y = np.zeros(size, np.float32), np.zeros(17, np.float32)
    run(Kernel("kernel", text, PARAMETERS), out, x, y, size)
    return np.concatenate([out, y])


@pytest.mark.parametrize("size", [1, 16, 17, 63, 64, 65, 128, 200])
def test_every_size_gives_the_same_bits(size):
    lines = TEXT.splitlines()
    wide = interleave(lines, {"load_live": interleaving.HEAVY}, {})
    assert len(wide) > len(lines)
    np.testing.assert_array_equal(results("\n".join(wide) + "\n", size), results(TEXT, size))


def test_what_is_the_same_in_every_round_is_computed_once():
    wide = "\n".join(interleave(TEXT.splitlines(), {"load_live": interleaving.HEAVY}, {"n": WAYS * LANES}))
    assert wide.count("same_0 = ") == 1 and "same_0_1" not in wide
    assert wide.count("mul_0_3 = load_0_3 * same_0") == 1
    assert wide.count("total_running = total_running + mul_0") == WAYS
    assert wide.count("for j in range(0, n, 64):") == wide.count("for ") == 1  # no rest where there can be none


def test_short_rounds_and_loops_around_loops_stay_as_they_are():
    lines = TEXT.splitlines()
    assert interleave(lines, {}, {}) == lines
    nested = [*lines[:2], "    for i in range(n):", *("    " + line for line in lines[2:10]), *lines[10:]]
    assert interleave(nested, {"load_live": interleaving.HEAVY}, {})[2] == "    for i in range(n):"


def long_chain(size):
    """A long chain of transcendental functions, its loss, and the update of what it starts from."""
    x = ops.input(name="x", role="state", type=TensorType("f32", (size,)))
    value = x
    for op in (ops.tanh, ops.sin, ops.exp, ops.sigmoid, ops.erf):
        value = op(value)
    loss = ops.reshape(ops.sum(ops.mul(value, value), axes=(0,)), shape=())
    new = ops.sub(x, ops.mul(ops.constant(0.1, x), ops.gradient(loss, x)))
    return run_passes(Graph("chain", (x,), (Output("result", "loss", loss), Output("update", "x", new))))


def text_of(graph):
    (nest,) = plan(graph, 32).nests
    return source.write(nest, TileShape(14, 2)).kernel.text


def test_only_nests_with_many_rounds_are_written_so():
    few, many = (text_of(long_chain(rounds * LANES)) for rounds in (OFTEN - 1, OFTEN))
    assert "load_0_1" not in few and "load_0_1" in many


@pytest.mark.parametrize("rest", [0, 5 * LANES, 5 * LANES + 3])
def test_native_code_gives_the_same_bits(rest, store, monkeypatch):
    size = OFTEN * LANES + rest
    graph = long_chain(size)
    x = np.random.default_rng(rest).uniform(-1, 1, size).astype(np.float32)
    wide = native(graph, x, store)
    monkeypatch.setattr("graphc.backends.source.writer.OFTEN", 2 * size)
    narrow = native(graph, x, store)
    for one, other in zip(wide, narrow, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(wide[1], reference.run(graph, {"x": x}, double=True)["x"], atol=1e-5)


def native(graph, x, store):
    storage = Storage(x.copy())
    status, (loss,) = Runner(artifact.build(graph, store), [storage]).step([], [])
    assert status == 0
    return np.array(loss), storage.array.copy()

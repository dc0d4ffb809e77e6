"""Several rounds of a loop side by side compute what the loop did, to the last bit."""

from __future__ import annotations

import graphs
import numpy as np
import pytest
from emulator import emulate

from graphc.backends import artifact, reference, source
from graphc.backends.contraction import TileShape
from graphc.backends.primitives import LANES, Kernel, run
from graphc.backends.runtime import Runner, Storage
from graphc.backends.source import interleave as interleaving
from graphc.backends.source.interleave import MORE_WAYS, OFTEN, WAYS, interleave
from graphc.ir import ops
from graphc.ir.graph import Graph, Output
from graphc.ir.loops import ROWS, SHORT, WORTH, rows_together
from graphc.ir.passes import run_passes
from graphc.ir.program import plan
from graphc.ir.types import Dim, TensorType

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


@pytest.mark.parametrize(("weight", "ways"), [(interleaving.HEAVY, WAYS), (interleaving.LONG, MORE_WAYS)])
@pytest.mark.parametrize("size", [1, 16, 17, 63, 64, 65, 128, 200])
def test_every_size_gives_the_same_bits(size, weight, ways):
    lines = TEXT.splitlines()
    wide = interleave(lines, {"load_live": weight}, {})
    assert [line for line in wide if line.startswith("        j_")][
        -1
    ] == f"        j_{ways - 1} = j + {(ways - 1) * LANES}"
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


BATCH = Dim("batch", 11)


@pytest.fixture
def few_rows(monkeypatch):
    monkeypatch.setattr("graphc.ir.loops.WORTH", 0)


def norm_of_rows(lanes, mixed=False, batch=BATCH):
    """Softmax of rows without its mean, sums down the rows and, if mixed, over all lanes of all rows."""
    x, which = graphs.data("x", batch, lanes), graphs.declare("which", "data", TensorType("i64", (batch, 1)))
    shape = x.shape
    top = ops.broadcast(ops.max(x, axes=(1,)), shape=shape)
    e = ops.exp(ops.sub(x, top))
    found = ops.div(e, ops.broadcast(ops.sum(e, axes=(1,)), shape=shape))
    mean = ops.div(ops.sum(ops.mul(found, x), axes=(1,)), ops.constant(lanes, ops.sum(x, axes=(1,))))
    out = ops.sub(found, ops.broadcast(mean, shape=shape))
    results = {"out": out, "down": ops.sum(ops.mul(out, x), axes=(0,)), "mean": mean}
    results |= {"sum": ops.sum(which, axes=(0,)), "means": ops.sum(mean, axes=(0,))}
    if mixed:
        results["all"] = graphs.total(ops.mul(found, out))
    return run_passes(Graph("rows", (x, which), tuple(Output("result", *each) for each in results.items())))


@pytest.mark.parametrize("lanes", [7, 16, 25, 64, 80])
@pytest.mark.parametrize("rows", [1, 3, 4, 6, 11])
def test_rows_side_by_side_give_the_same_bits(lanes, rows, rng, monkeypatch, few_rows):
    """Whatever the number of rows left over; each row has scratch of its own, and nothing is touched beyond it."""
    graph = norm_of_rows(lanes, mixed=lanes <= LANES)
    arrays = {"x": rng.normal(size=(rows, lanes)).astype(np.float32), "which": np.arange(rows)[:, None]}
    together = emulate(graph, arrays)
    assert any("i0_3" in source.write(nest, TileShape(14, 2)).kernel.text for nest in plan(graph, 32).nests)
    monkeypatch.setattr("graphc.ir.loops.ROWS", 1)
    assert not any("i0_1" in source.write(nest, TileShape(14, 2)).kernel.text for nest in plan(graph, 32).nests)
    for name, alone in emulate(graph, arrays).items():
        np.testing.assert_array_equal(together[name], alone, err_msg=name)


@pytest.mark.parametrize("lanes", [25, 64])
def test_totals_take_row_by_row_however_many_go_side_by_side(lanes, rng, monkeypatch, few_rows):
    """All lanes of a row in one vector, which is added to what the rows before it came to."""
    graph = norm_of_rows(lanes, mixed=True)
    arrays = {"x": rng.normal(size=(7, lanes)).astype(np.float32), "which": np.arange(7)[:, None]}
    found = emulate(graph, arrays)
    monkeypatch.setattr("graphc.ir.loops.ROWS", 3)
    assert emulate(graph, arrays)["all"] == found["all"]
    np.testing.assert_allclose(found["all"], reference.run(graph, arrays, double=True)["all"], rtol=1e-5)


@pytest.mark.parametrize("lanes", [10, 64, 100])
def test_native_rows_side_by_side_give_the_same_bits(lanes, rng, store, monkeypatch, few_rows):
    graph = norm_of_rows(lanes)
    arrays = [rng.normal(size=(10, lanes)).astype(np.float32), np.arange(10)[:, None]]
    _, together = Runner(artifact.build(graph, store), []).step(arrays, [10])
    monkeypatch.setattr("graphc.ir.loops.ROWS", 1)
    _, alone = Runner(artifact.build(graph, store), []).step(arrays, [10])
    expected = reference.run(graph, dict(zip(("x", "which"), arrays)), double=True)
    for one, other, output in zip(together, alone, graph.outputs, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(one, expected[output.name], rtol=1e-4, atol=1e-5)


def most_together(graph):
    return max(rows_together(nest) for nest in plan(graph, 32).nests)


def test_long_rows_and_random_bits_go_row_by_row(few_rows):
    assert [most_together(norm_of_rows(lanes)) for lanes in (10, SHORT, SHORT + 1)] == [ROWS, ROWS, 1]
    assert most_together(with_draws(64)) == 1


def added_to_places(lanes, along_lanes):
    """Rows of softmax added to rows of a table, or lanes of them to numbers, that an array says."""
    x = graphs.data("x", BATCH, lanes)
    which = graphs.declare("which", "data", TensorType("i64", (BATCH, lanes if along_lanes else 1)))
    e = ops.exp(x)
    found = ops.div(e, ops.broadcast(ops.sum(e, axes=(1,)), shape=x.shape))
    where = which if along_lanes else ops.broadcast(which, shape=x.shape)
    places, shape = ((-1,), (3,)) if along_lanes else ((-1, 1), (3, lanes))
    table = ops.scatter(found, where, places=places, shape=shape)
    return run_passes(Graph("places", (x, which), (Output("result", "table", table),)))


def test_rows_are_added_to_one_place_in_their_order(rng, monkeypatch, few_rows):
    graph = added_to_places(40, along_lanes=False)
    assert (most_together(graph), most_together(added_to_places(40, along_lanes=True))) == (ROWS, 1)
    arrays = {"x": rng.normal(size=(11, 40)).astype(np.float32), "which": rng.integers(0, 3, (11, 1))}
    together = emulate(graph, arrays)["table"]
    monkeypatch.setattr("graphc.ir.loops.ROWS", 1)
    np.testing.assert_array_equal(together, emulate(graph, arrays)["table"])
    np.testing.assert_allclose(together, reference.run(graph, arrays, double=True)["table"], rtol=1e-5, atol=1e-6)


def test_few_rows_are_not_worth_a_longer_text():
    rows = WORTH // 64
    assert [most_together(norm_of_rows(64, batch=Dim("batch", most))) for most in (rows - 1, rows)] == [1, ROWS]


def with_draws(lanes):
    x = graphs.data("x", BATCH, lanes)
    counted = TensorType("i64", x.shape)
    numbers = (ops.iota(axis=1, type=counted), *(ops.full(value=value, type=counted) for value in (1, 2, 3)))
    kept = ops.mul(x, ops.cast(ops.random_bits(*numbers), dtype="f32"))
    return run_passes(Graph("draws", (x,), (Output("result", "sums", ops.sum(kept, axes=(1,))),)))

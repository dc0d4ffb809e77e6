"""Native code against the NumPy reference: every op, the seed programs at many batch sizes, plans and caches."""

from __future__ import annotations

import graphs
import numpy as np
import pytest

from graphc.backends import artifact, reference
from graphc.backends.runtime import Runner, Storage
from graphc.ir import ops
from graphc.ir.graph import Graph, Output
from graphc.ir.ops import OPS
from graphc.ir.passes import run_passes
from graphc.ir.text import parse_type
from graphc.ir.types import DTYPES, Dim, TensorType

BATCHES = (1, 10, 96, 255, 256)


def run_native(graph, arrays, store):
    """(results by name, states after the call by name) of a graph that went through the passes."""
    built = artifact.build(graph, store)
    graph = built.program.graph
    storages = {value.attrs["name"]: Storage(arrays[value.attrs["name"]]) for value in graph.of_role("state")}
    runner = Runner(built, list(storages.values()))
    for number, value in enumerate(graph.of_role("scalar")):
        runner.set_scalar(number, arrays[value.attrs["name"]])
    data = [np.ascontiguousarray(arrays[value.attrs["name"]]) for value in graph.of_role("data")]
    sizes = reference.dim_sizes(graph, arrays)
    status, results = runner.step(data, [sizes[dim] for dim in graph.dims])
    assert status == 0
    named = {name: result for (name, _), result in zip(runner.results, results, strict=True)}
    return named, {name: storage.array for name, storage in storages.items()}


def op_cases():
    for op in OPS.values():
        if op.kind == "gradient" or op is ops.input:
            continue
        for number, sample in enumerate(op.samples):
            yield pytest.param(op, sample, id=f"{op.name}-{number}")


@pytest.mark.parametrize(("op", "sample"), list(op_cases()))
def test_op_equals_reference(op, sample, store, rng):
    types = [parse_type(text, {}) for text in sample.operands]
    operands = [ops.input(name=f"x{k}", role="data", type=kind) for k, kind in enumerate(types)]
    graph = run_passes(Graph("one", tuple(operands), (Output("result", "out", op(*operands, **sample.attrs)),)))
    arrays = {f"x{k}": graphs.random_array(kind, sample.low, sample.high, rng) for k, kind in enumerate(types)}
    expected = reference.run(graph, arrays)["out"]
    found = run_native(graph, arrays, store)[0]["out"]
    assert found.dtype == expected.dtype and found.shape == expected.shape
    rounding = 1e-5 if op.kind == "contraction" else 1e-6  # a product sums, in another order than BLAS does
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=rounding)


@pytest.mark.parametrize("program", graphs.PROGRAMS, ids=lambda program: program.__name__)
def test_seed_program_equals_reference_for_every_batch_from_one_compile(program, store, rng):
    graph = run_passes(program())
    built = artifact.build(graph, store)
    graph = built.program.graph
    for batch in BATCHES:
        arrays = graphs.arrays(program, batch, rng)
        expected = reference.run(graph, arrays)
        results, states = run_native(graph, arrays, store)
        for name, number in {**results, **states}.items():
            scale = np.abs(expected[name]).max() or 1.0
            assert np.abs(number - expected[name]).max() <= 1e-5 * scale, (name, batch)
    assert not artifact.build(graph, store).fresh


def swap_program():
    """a and b change places: one of the updates cannot be done in place."""
    kind = TensorType("f32", (40,))
    a, b = (ops.input(name=name, role="state", type=kind) for name in "ab")
    return Graph("swap", (a, b), (Output("update", "a", ops.add(b, b)), Output("update", "b", ops.neg(a))))


def test_states_that_change_places(store, rng):
    graph = run_passes(swap_program())
    arrays = {name: rng.normal(size=40).astype(np.float32) for name in "ab"}
    _, states = run_native(graph, arrays, store)
    np.testing.assert_array_equal(states["a"], 2 * arrays["b"])
    np.testing.assert_array_equal(states["b"], -arrays["a"])


def test_normalised_rows_keep_expensive_terms_across_phases(store, rng):
    """softmax over wide, ragged rows: several lane loops and a row of scratch."""
    batch = Dim("batch", 8)
    for width in (1, 7, 16, 33, 160, 1000):
        x = ops.input(name="x", role="data", type=TensorType("f32", (batch, width)))
        powers = ops.exp(ops.sub(x, ops.broadcast(ops.max(x, axes=(1,)), shape=x.shape)))
        share = ops.div(powers, ops.broadcast(ops.sum(powers, axes=(1,)), shape=x.shape))
        graph = run_passes(Graph("softmax", (x,), (Output("result", "out", share),)))
        arrays = {"x": rng.normal(size=(5, width)).astype(np.float32) * 5}
        expected = reference.run(graph, arrays)["out"]
        np.testing.assert_allclose(run_native(graph, arrays, store)[0]["out"], expected, rtol=3e-6, atol=1e-7)


def test_sums_over_every_set_of_axes(store, rng):
    axes_sets = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)]
    x = ops.input(name="x", role="data", type=TensorType("f32", (4, 6, 21)))
    outputs = tuple(Output("result", f"over{axes}", ops.sum(ops.mul(x, x), axes=axes)) for axes in axes_sets)
    graph = run_passes(Graph("sums", (x,), outputs))
    arrays = {"x": rng.normal(size=(4, 6, 21)).astype(np.float32)}
    expected = reference.run(graph, arrays)
    for name, found in run_native(graph, arrays, store)[0].items():
        np.testing.assert_allclose(found, expected[name], rtol=2e-6)


@pytest.mark.parametrize("dtype", ["i32", "i64", "u8"])
def test_extremes_of_the_smallest_and_the_largest_integers(dtype, store):
    limits = np.iinfo(DTYPES[dtype])
    x = ops.input(name="x", role="data", type=TensorType(dtype, (3, 21)))
    axes_sets = [(0,), (1,), (0, 1)]
    outputs = tuple(
        Output("result", f"{op.name}{axes}", op(x, axes=axes)) for op in (ops.max, ops.min) for axes in axes_sets
    )
    graph = run_passes(Graph("extremes", (x,), outputs))
    for number in (limits.min, limits.max):
        arrays = {"x": np.full((3, 21), number, DTYPES[dtype])}
        for found in run_native(graph, arrays, store)[0].values():
            assert np.all(found == number)


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 2), (14, 32, 16), (15, 33, 17), (40, 70, 100), (100, 10, 784)])
def test_products_of_every_orientation(shape, transposed, store, rng):
    rows, columns, depth = shape
    left = (depth, rows) if transposed[0] else (rows, depth)
    right = (columns, depth) if transposed[1] else (depth, columns)
    a, b = (ops.input(name=n, role="data", type=TensorType("f32", s)) for n, s in (("a", left), ("b", right)))
    flip = {True: lambda x: ops.transpose(x, permutation=(1, 0)), False: lambda x: x}
    product = ops.dot(flip[transposed[0]](a), flip[transposed[1]](b))
    graph = run_passes(Graph("product", (a, b), (Output("result", "out", product),)))
    arrays = {"a": rng.normal(size=left).astype(np.float32), "b": rng.normal(size=right).astype(np.float32)}
    expected = reference.run(graph, arrays, double=True)["out"]
    found = run_native(graph, arrays, store)[0]["out"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.sqrt(depth))


def test_products_of_doubles(store, rng):
    a, b = (ops.input(name=n, role="data", type=TensorType("f64", s)) for n, s in (("a", (17, 33)), ("b", (40, 33))))
    product = ops.dot(a, ops.transpose(b, permutation=(1, 0)))
    graph = run_passes(Graph("product", (a, b), (Output("result", "out", ops.exp(ops.tanh(product))),)))
    arrays = {"a": rng.normal(size=(17, 33)), "b": rng.normal(size=(40, 33))}
    expected = reference.run(graph, arrays)["out"]
    found = run_native(graph, arrays, store)[0]["out"]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_product_never_computes_its_own_operand(store, rng):
    """Square shapes: the operand has the frame of the product and still has to be whole before it starts."""
    x, w = (ops.input(name=name, role="data", type=TensorType("f32", (40, 40))) for name in "xw")
    graph = run_passes(Graph("chain", (x, w), (Output("result", "out", ops.tanh(ops.dot(ops.tanh(x), w))),)))
    arrays = {name: rng.normal(size=(40, 40)).astype(np.float32) for name in "xw"}
    expected = reference.run(graph, arrays)["out"]
    np.testing.assert_allclose(run_native(graph, arrays, store)[0]["out"], expected, rtol=1e-5, atol=1e-5)


def test_a_long_chain_of_elementwise_ops(store, rng):
    x = ops.input(name="x", role="data", type=TensorType("f32", (40,)))
    value = x
    for _ in range(400):
        value = ops.sub(x, ops.mul(value, x))
    graph = run_passes(Graph("chain", (x,), (Output("result", "out", value),)))
    arrays = {"x": rng.uniform(-0.9, 0.9, size=40).astype(np.float32)}
    expected = reference.run(graph, arrays)["out"]
    np.testing.assert_allclose(run_native(graph, arrays, store)[0]["out"], expected, rtol=1e-5, atol=1e-5)

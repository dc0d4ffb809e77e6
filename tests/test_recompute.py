"""What is cheap is computed again where it is read, if less goes through memory that way, and with the same results."""

from __future__ import annotations

import graphs
import numpy as np
import pytest
from emulator import emulate
from test_random_programs import check_native

from graphc.backends import reference
from graphc.ir import ops
from graphc.ir.graph import Graph, Output, Value
from graphc.ir.passes import run_passes
from graphc.ir.program import Program, plan

BATCH, WIDTH = graphs.BATCH, 20
RATE = ops.full(value=0.1, type=graphs.floats())


def layers(activate) -> Graph:
    """Two layers of tanh or the like, a loss, and plain gradient descent."""
    x, first, second = (
        graphs.data("x", BATCH, WIDTH),
        graphs.state("w1", WIDTH, WIDTH),
        graphs.state("w2", WIDTH, WIDTH),
    )
    out = activate(ops.dot(activate(ops.dot(x, first)), second))
    loss = graphs.mean(ops.mul(out, out))
    updates = graphs.descend(loss, (first, second), RATE)
    return Graph("layers", (x, first, second), (Output("result", "loss", loss), *updates))


def layer_norm() -> Graph:
    """Rows with their mean and scale taken off go into a product; the gradients want the same rows once more."""
    x, scale, weight = graphs.data("x", BATCH, WIDTH), graphs.state("scale", WIDTH), graphs.state("w", WIDTH, 30)
    h = ops.tanh(x)
    width = ops.constant(float(WIDTH), ops.sum(h, axes=(1,)))
    mean = ops.broadcast(ops.div(ops.sum(h, axes=(1,)), width), shape=h.shape)
    centered = ops.sub(h, mean)
    spread = ops.sqrt(ops.div(ops.sum(ops.mul(centered, centered), axes=(1,)), width))
    normal = ops.mul(ops.div(centered, ops.broadcast(spread, shape=h.shape)), graphs.stretch(scale, h.shape))
    out = ops.dot(normal, weight)
    loss = graphs.mean(ops.mul(ops.tanh(out), out))
    updates = graphs.descend(loss, (scale, weight), RATE)
    return Graph("layer_norm", (x, scale, weight), (Output("result", "loss", loss), *updates))


def stored(program: Program) -> list[Value]:
    """What is kept between nests and has a batch of rows."""
    found = {buffer.value for _, buffer in program.work if buffer.kind == "value"}
    return [value for value in found if value.shape[:1] == (BATCH,) and value.shape[-1] != 1]


GRAPHS = {
    "tanh": lambda: layers(ops.tanh),
    "sigmoid": lambda: layers(ops.sigmoid),
    "square": lambda: layers(lambda x: ops.mul(x, x)),
    "relu": lambda: layers(ops.relu),
    "layer_norm": layer_norm,
}


@pytest.mark.parametrize("name", GRAPHS)
def test_results_are_those_of_the_reference(name, store, rng) -> None:
    graph = GRAPHS[name]()
    check_native(graph, graphs.arrays_of(graph, 7, rng), store)
    passed, arrays = run_passes(graph), graphs.arrays_of(graph, 3, rng)
    expected = reference.run(passed, arrays, double=True)
    for key, array in emulate(passed, arrays).items():
        np.testing.assert_allclose(array, expected[key], rtol=1e-4, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_the_slope_of_an_activation_is_computed_from_what_is_kept_of_it(name) -> None:
    """Of the first layer only what the next product reads is kept, and what the products of the backward pass give."""
    kept = stored(plan(run_passes(GRAPHS[name]()), 32))
    assert sorted(value.op.name for value in kept) == [*("mul",) * 2, name]


def test_rows_of_a_layer_norm_are_kept_as_a_product_reads_them() -> None:
    """Rows without their mean are had from the rows and the mean; only the product's own operand is kept beside."""
    kept = stored(plan(run_passes(layer_norm()), 32))
    assert "sub" not in {value.op.name for value in kept}


def test_a_state_that_is_updated_is_not_looked_at_again(store, rng) -> None:
    """What is made of a state is kept: when it is read, the state may have been written already."""
    x, state = graphs.data("x", 40, 40), graphs.state("s", 40, 40)
    double = ops.add(state, state)
    product = ops.dot(x, double)
    late = ops.add(ops.dot(ops.tanh(product), x), double)
    outputs = (Output("result", "late", late), Output("update", "s", ops.mul(product, ops.constant(0.01, product))))
    graph = Graph("state", (x, state), outputs)
    check_native(graph, graphs.arrays_of(graph, 40, rng), store)


def test_what_is_expensive_is_kept(store, rng) -> None:
    x, w, v = graphs.data("x", BATCH, WIDTH), graphs.state("w", WIDTH, WIDTH), graphs.state("v", WIDTH, WIDTH)
    h = ops.dot(x, w)
    out = ops.mul(ops.dot(ops.tanh(h), v), ops.sin(h))
    graph = Graph("expensive", (x, w, v), (Output("result", "out", out),))
    assert {value.op.name for value in stored(plan(run_passes(graph), 32))} == {"tanh", "sin"}
    check_native(graph, graphs.arrays_of(graph, 5, rng), store)


def test_a_nest_whose_values_are_all_computed_again_is_gone() -> None:
    x, w = graphs.data("x", BATCH, WIDTH), graphs.state("w", WIDTH, WIDTH)
    shared = ops.add(x, ops.constant(1.0, x))
    out = ops.add(ops.dot(x, w), shared)
    graph = run_passes(
        Graph("gone", (x, w), (Output("result", "out", out), Output("result", "row", ops.sum(out, axes=(0,)))))
    )
    assert [nest.name for nest in plan(graph, 32).nests] == ["add_dot_sum"]

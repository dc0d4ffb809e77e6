"""Parts of one array that are computed apart are written to their places at once: no copy brings them there."""

from __future__ import annotations

import graphs
import numpy as np
import pytest
from emulator import emulate
from test_random_programs import check_native

import graphc as gx
from graphc import nn, optim
from graphc.backends import reference
from graphc.ir import ops
from graphc.ir.blocking import walks
from graphc.ir.cost import cost_of
from graphc.ir.graph import Graph, Output, Value
from graphc.ir.passes import run_passes
from graphc.ir.program import plan
from graphc.ir.types import Dim, Extent, TensorType, add, multiply

BATCH = Dim("batch", 5)
HEADS, LENGTH, WIDTH = 2, 3, 20


def side_by_side(parts: list[Value], axis: int) -> Value:
    """The parts along an axis, as slices pass their gradients on: zeros around each, and their sum."""
    whole = add(*(part.shape[axis] for part in parts))
    total, ahead = None, 0
    for part in parts:
        start = tuple(multiply(-1, ahead) if place == axis else 0 for place in range(len(part.shape)))
        shape = (*part.shape[:axis], whole, *part.shape[axis + 1 :])
        padded = ops.pad(part, start=start, shape=shape)
        total = padded if total is None else ops.add(total, padded)
        ahead = add(ahead, part.shape[axis])
    assert total is not None
    return total


def heads(x: Value, name: str) -> tuple[Value, Value]:
    """A product for each head, f32[batch, heads, length, width], and the weight in it."""
    weight = graphs.state(name, HEADS, WIDTH, WIDTH)
    return ops.dot(x, graphs.stretch(weight, (BATCH, HEADS, WIDTH, WIDTH))), weight


def attention_like() -> Graph:
    """Products of heads in another order of axes, several of them in one array, read by products and a sum."""
    x = graphs.data("x", BATCH, HEADS, LENGTH, WIDTH)
    (a, wa), (b, wb) = heads(x, "wa"), heads(x, "wb")
    rows = multiply(LENGTH, BATCH)
    turned = ops.transpose(a, permutation=(0, 2, 1, 3))
    flat = ops.reshape(turned, shape=(rows, HEADS * WIDTH))
    both = side_by_side([ops.reshape(part, shape=(1, *part.shape)) for part in (a, b)], axis=0)
    packed = ops.reshape(ops.transpose(both, permutation=(1, 3, 0, 2, 4)), shape=(rows, 2 * HEADS * WIDTH))
    out, first = graphs.state("out", HEADS * WIDTH, 7), graphs.state("first", 2 * HEADS * WIDTH, 3)
    results = {"flat": ops.dot(flat, out), "packed": ops.dot(packed, first), "bias": ops.sum(packed, axes=(0,))}
    return Graph("heads", (x, wa, wb, out, first), tuple(Output("result", *each) for each in results.items()))


def gates() -> Graph:
    """Slopes of gates side by side along the lanes, handed out and read by a product; one part is an input."""
    x, y = graphs.data("x", BATCH, WIDTH), graphs.data("y", BATCH, 7)
    weight = graphs.state("w", 2 * WIDTH + 8, 4)
    column = ops.sum(x, axes=(1,))
    both = side_by_side([ops.tanh(x), y, ops.exp(ops.neg(ops.mul(x, x))), column], axis=1)
    results = {
        "both": both,
        "product": ops.dot(both, weight),
        "turned": ops.dot(ops.transpose(both, permutation=(1, 0)), x),
    }
    return Graph("gates", (x, y, weight), tuple(Output("result", *each) for each in results.items()))


def symbolic() -> Graph:
    """Parts whose extents are known only when it runs."""
    x, y = graphs.data("x", BATCH, 4), graphs.data("y", multiply(2, BATCH), 4)
    weight = graphs.state("w", 4, 3)
    both = side_by_side([ops.tanh(x), ops.exp(ops.tanh(y)), ops.tanh(ops.tanh(x))], axis=0)
    return Graph(
        "symbolic", (x, y, weight), (Output("result", "product", ops.dot(both, weight)), Output("result", "both", both))
    )


GRAPHS = (attention_like, gates, symbolic)


def arrays_for(graph: Graph, batch: int) -> graphs.Arrays:
    return graphs.arrays_of(graph, batch, np.random.default_rng(batch))


def joins(graph: Graph) -> list[Value]:
    return [value for value in run_passes(graph).values() if value.op is ops.join]


def copies(graph: Graph) -> list[Value]:
    return [value for value in run_passes(graph).values() if value.op is ops.copy]


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("batch", [1, 3, 5])
def test_uncompiled_run_equals_the_reference(make, batch) -> None:
    graph = run_passes(make())
    arrays = arrays_for(graph, batch)
    expected = reference.run(graph, arrays, double=True)
    for name, array in emulate(graph, arrays).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("make", GRAPHS)
def test_native_code_equals_the_reference(make, store) -> None:
    for batch in (1, 5):
        check_native(make(), arrays_for(make(), batch), store)


def test_nothing_is_copied_that_is_computed() -> None:
    assert len(joins(attention_like())) == 2 and not copies(attention_like())
    (both,) = joins(gates())
    assert [part.op.name for part in both.operands] == ["tanh", "copy", "exp", "sum"] and len(copies(gates())) == 1
    assert len(joins(symbolic())) == 1 and not copies(symbolic())


def test_a_part_is_written_once() -> None:
    """Two products, each to one place, and one product over both: no array goes through memory besides."""
    program = plan(run_passes(attention_like()), 32)
    one = BATCH.max * HEADS * LENGTH * WIDTH * 4
    rows = BATCH.max * LENGTH * 4
    assert sum(nest.product is not None for nest in program.nests) == 4 and len(program.nests) == 5
    assert cost_of(program).written == 3 * one + rows * (7 + 3) + 2 * HEADS * WIDTH * 4


def parts(*columns: tuple[Extent, Extent]) -> list[Value]:
    """Padded results of arithmetic by (place, extent) along axis 1 of f32[batch, 12]."""
    return [
        ops.pad(ops.tanh(graphs.data(f"x{number}", BATCH, extent)), start=(0, multiply(-1, place)), shape=(BATCH, 12))
        for number, (place, extent) in enumerate(columns)
    ]


@pytest.mark.parametrize(
    "places", [((0, 6), (5, 7)), ((0, 5), (6, 6)), ((0, 6), (0, 6)), ((1, 6), (7, 5)), ((0, 12), (0, 12))]
)
def test_parts_that_overlap_or_leave_gaps_are_added(places, store) -> None:
    padded = parts(*places)
    total = ops.add(*padded)
    inputs = tuple(each.operands[0].operands[0] for each in padded)
    graph = Graph("parts", inputs, (Output("result", "total", total),))
    assert not joins(graph)
    check_native(graph, arrays_for(graph, 4), store)


def test_what_is_not_computed_here_is_copied_as_before() -> None:
    x, y = graphs.data("x", BATCH, 3), graphs.data("y", BATCH, 4)
    graph = Graph("inputs", (x, y), (Output("result", "both", side_by_side([x, y], axis=1)),))
    assert not joins(graph)


def test_an_update_is_never_a_join(store) -> None:
    """A state may be read by others while its parts are written."""
    x, state = graphs.data("x", 4, 3), graphs.state("s", 4, 6)
    both = side_by_side([ops.tanh(x), ops.exp(x)], axis=1)
    product = ops.dot(x, ops.slice(state, start=(0, 0), step=(1, 1), shape=(3, 6)))
    outputs = (Output("update", "s", both), Output("result", "product", product))
    graph = Graph("update", (x, state), outputs)
    assert not joins(graph)
    check_native(graph, arrays_for(graph, 4), store)


def test_parts_in_a_loop_go_straight_into_its_stacks(store) -> None:
    """The body of a loop hands out a join: each step writes its parts into the step's slice."""
    start = ops.input(name="start", role="data", type=TensorType("f32", (4, 3)))
    carried = ops.input(name="h", role="state", type=start.type)
    both = side_by_side([ops.tanh(carried), ops.exp(carried)], axis=1)
    body = Graph("body", (carried,), (Output("update", "h", ops.tanh(carried)), Output("result", "both", both)))
    loop = ops.loop(start, body=ops.Body(body), length=5, reverse=False, slices=0, counted=False)
    graph = Graph("loop", (start,), (Output("result", "both", ops.part_of(loop, "both")),))
    bodies = [value.attrs["body"].graph for value in run_passes(graph).values() if value.op is ops.loop]
    assert any(value.op is ops.join for value in bodies[0].values())
    check_native(graph, arrays_for(graph, 4), store)


def test_a_transformer_block_copies_nothing() -> None:
    """Heads go to where the next product reads them, and their slopes to where the projection's gradient does."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, activation="gelu", batch_first=True, norm_first=True)
    net, n = nn.Sequential(layer, nn.Linear(16, 4)), gx.dim("n", max=8)
    step = gx.train_step(
        net, nn.MSELoss(), optim.SGD(net.parameters(), lr=0.1), x=gx.f32[n, 12, 16], y=gx.f32[n, 12, 4]
    )
    passed = run_passes(step.traced)
    assert not [value for value in passed.values() if value.op is ops.copy]
    assert sum(value.op is ops.join for value in passed.values()) == 2
    assert not [value for value in passed.values() if value.op is ops.pad]  # what joins hold is added up nowhere else
    for nest in plan(passed, 32).nests:  # gradients of weights read the heads where the projections do
        assert nest.product is None or not (walks(nest.product.left) or walks(nest.product.right))
        assert nest.name != "dot" or len(nest.stores) == 1

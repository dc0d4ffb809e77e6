"""A value is written over one that is read for the last time, element by element, and only there."""

from __future__ import annotations

import graphs
import numpy as np
import pytest
from emulator import emulate
from hypothesis import given
from test_checkpointing import assert_same, run
from test_random_programs import LITTLE, check_native, programs
from test_random_programs import arrays_for as arrays_of_programs

import graphc as gx
from graphc.backends import reference
from graphc.ir import ops
from graphc.ir.graph import Graph, Output, Value
from graphc.ir.passes import run_passes
from graphc.ir.program import Program, plan
from graphc.ir.types import Dim

BATCH = Dim("batch", 9)
WIDTH = 24


@pytest.fixture(autouse=True)
def small_values(monkeypatch) -> None:
    monkeypatch.setattr("graphc.ir.reuse.LEAST", 1)


def product(x: Value, name: str) -> tuple[Value, Value]:
    """What goes through memory: a product that a sum down its rows and another reader ask for."""
    weight = graphs.state(name, WIDTH, WIDTH)
    return ops.dot(x, weight), weight


def held_back(read_again: bool = False) -> Graph:
    """tanh of a product waits until a product of what follows is multiplied by it, unless it is read once more."""
    x = graphs.data("x", BATCH, WIDTH)
    a, wa = product(x, "wa")
    h = ops.tanh(a)
    b, wb = product(h, "wb")
    c, wc = product(ops.tanh(b), "wc")
    scaled = ops.mul(c, h)
    d, wd = product(scaled, "wd")
    results = {"d": d, "sum": ops.sum(scaled, axes=(0,))}
    if read_again:
        results["again"] = ops.add(d, h)
    return Graph("held", (x, wa, wb, wc, wd), tuple(Output("result", *each) for each in results.items()))


def softmax_between(last: bool) -> Graph:
    """Scores become their softmax; if not `last`, their logarithms are wanted too, a phase later."""
    x = graphs.data("x", BATCH, WIDTH)
    scores, wa = product(x, "wa")
    top = ops.broadcast(ops.max(scores, axes=(1,)), shape=scores.shape)
    shifted = ops.sub(scores, top)
    e = ops.exp(shifted)
    total = ops.sum(e, axes=(1,))
    mixed, wb = product(ops.div(e, ops.broadcast(total, shape=e.shape)) if last else e, "wb")
    results = {"mixed": mixed}
    if not last:
        results["logs"] = ops.sub(shifted, ops.broadcast(ops.log(total), shape=e.shape))
    return Graph("between", (x, wa, wb), tuple(Output("result", *each) for each in results.items()))


def waves() -> Graph:
    """Layers of sin, whose slope asks for what went into it, and gradient descent on all of them."""
    x = graphs.data("x", BATCH, WIDTH)
    weights = [graphs.state(f"w{number}", WIDTH, WIDTH) for number in range(6)]
    h = x
    for weight in weights:
        h = ops.sin(ops.dot(h, weight))
    loss = graphs.mean(ops.mul(h, h))
    updates = graphs.descend(loss, weights, ops.full(value=0.1, type=graphs.floats()))
    return Graph("waves", (x, *weights), (Output("result", "loss", loss), *updates))


def planned(graph: Graph) -> Program:
    return plan(run_passes(graph), 32)


def exchanged(program: Program) -> int:
    """How many values lie in the memory of another one."""
    apart = {buffer for nest in program.apart for buffer in nest.written() if buffer.kind == "value"}
    together = {buffer for nest in program.nests for buffer in nest.written() if buffer.kind == "value"}
    assert together <= apart
    return len(apart) - len(together)


def arrays_for(graph: Graph, batch: int) -> graphs.Arrays:
    return graphs.arrays_of(graph, batch, np.random.default_rng(batch))


GRAPHS = {
    "held back": (held_back(), 1),
    "read again": (held_back(read_again=True), 0),
    "softmax": (softmax_between(last=True), 1),
    "read in a later phase": (softmax_between(last=False), 0),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_what_is_read_for_the_last_time_is_written_over(name) -> None:
    graph, count = GRAPHS[name]
    assert exchanged(planned(graph)) == count


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("batch", [1, 5, 9])
def test_results_are_those_of_the_reference(name, batch, store) -> None:
    graph, _ = GRAPHS[name]
    arrays = arrays_for(graph, batch)
    expected = reference.run(run_passes(graph), arrays, double=True)
    for result, array in emulate(run_passes(graph), arrays).items():
        np.testing.assert_allclose(array, expected[result], rtol=1e-4, atol=1e-5)
    check_native(graph, arrays, store)


def test_less_memory_is_needed(monkeypatch) -> None:
    together = planned(held_back()).work_bytes
    monkeypatch.setattr("graphc.ir.reuse.LEAST", 1 << 30)
    assert together < planned(held_back()).work_bytes


@pytest.mark.parametrize("share", [0.9, 0.8])
def test_what_is_computed_again_reads_nothing_that_was_written_over(share, store, rng) -> None:
    graph = run_passes(waves())
    assert exchanged(plan(graph, 32))
    arrays = graphs.arrays_of(graph, 9, rng)
    whole, built = run(graph, arrays, store)
    small, _ = run(graph, arrays, store, int(built.description.work_bytes * share))
    assert_same(whole, small)


def twice_carried(h, xs, w):
    """The second loop needs what the first one leaves, and starts where that one did."""
    first, _ = gx.scan(lambda s, x: (s + x, None), h, xs)
    return gx.scan(lambda s, x: (s - x * first, None), h, xs)[0]


LOOPS = {  # and which of the states stay where they start
    "alone": (lambda h, xs, w: gx.scan(lambda s, x: (gx.tanh(s @ w + x), None), h, xs)[0], [True]),
    "two of one start": (
        lambda h, xs, w: sum(gx.scan(lambda s, x: ((gx.tanh(s[0] @ w + x), s[1] + s[0]), None), (h, h), xs)[0]),
        [True, False],
    ),
    "changing places": (
        lambda h, xs, w: sum(gx.scan(lambda s, x: ((s[1], s[0] + x), None), (h, gx.exp(h @ w)), xs)[0]),
        [True, True],
    ),
    "start read in the loop": (lambda h, xs, w: gx.scan(lambda s, x: (s * 0.5 + h * x, None), h, xs)[0], [False]),
    "start of another loop": (twice_carried, [False, True]),
}


@pytest.mark.parametrize("name", LOOPS)
def test_what_a_loop_carries_stays_where_it_starts(name, rng) -> None:
    make, kept = LOOPS[name]
    batch = gx.dim("batch", max=9)
    kinds = {"x": (batch, WIDTH), "xs": (3, batch, WIDTH), "w": (WIDTH, WIDTH)}
    x, xs, w = (gx.input(name, gx.f32[shape]) for name, shape in kinds.items())
    function = gx.function([x, xs, w], make(gx.tanh(x @ w), xs, w))
    loops = [nest.repetition for nest in function.artifact.program.nests if nest.repetition is not None]
    assert [place == start for loop in loops for _, start, place in loop.carries] == kept
    for count in (1, 9):
        arrays = {key: rng.normal(0, 0.3, [count if e is batch else e for e in kinds[key]]) for key in kinds}
        arrays = {key: array.astype(np.float32) for key, array in arrays.items()}
        expected = reference.run(run_passes(function.traced), arrays, double=True)["result"]
        np.testing.assert_allclose(function(*arrays.values()), expected, rtol=1e-4, atol=1e-5)


@LITTLE
@given(traced=programs())
def test_random_programs(traced, store) -> None:
    for batch in (1, 17):
        check_native(traced, arrays_of_programs(batch), store)

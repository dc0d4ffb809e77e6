"""Cotangents are one product each: one slope is kept of a chain of functions, and nothing overflows for that."""

from __future__ import annotations

import graphs
import numpy as np
import pytest
from test_random_programs import check_native

import graphc as gx
from graphc import nn, optim
from graphc.backends import reference
from graphc.ir import ops
from graphc.ir.autodiff import expand_gradients
from graphc.ir.graph import Graph, Output, Value
from graphc.ir.passes import run_passes
from graphc.ir.program import plan
from graphc.ir.slopes import largest, may_add, may_multiply

BATCH, WIDTH = graphs.BATCH, 20
X = graphs.data("x", 3)


def gelu(x: Value) -> Value:
    """Source: Hendrycks and Gimpel, Gaussian error linear units (2016)."""
    inside = ops.erf(ops.mul(x, ops.constant(2**-0.5, x)))
    return ops.mul(ops.mul(ops.constant(0.5, x), x), ops.add(ops.constant(1.0, x), inside))


def layers() -> Graph:
    x, first, second = (
        graphs.data("x", BATCH, WIDTH),
        graphs.state("w1", WIDTH, WIDTH),
        graphs.state("w2", WIDTH, WIDTH),
    )
    loss = graphs.mean(ops.sin(ops.dot(gelu(ops.dot(x, first)), second)))
    updates = graphs.descend(loss, (first, second), ops.full(value=0.1, type=graphs.floats()))
    return Graph("layers", (x, first, second), (Output("result", "loss", loss), *updates))


def test_one_slope_is_kept_of_a_chain(store, rng) -> None:
    """Of gelu, what the next product reads and its slope: neither the error function nor the exponential by itself."""
    program = plan(run_passes(layers()), 32)
    first = program.nests[0]
    assert [nest_store.buffer.value.op.name for nest_store in first.stores] == ["mul", "add"]
    check_native(layers(), graphs.arrays_of(layers(), 9, rng), store)


def test_a_loop_keeps_six_numbers_of_each_step_of_an_lstm() -> None:
    """The slopes of four gates and of both ways through the state; what a step starts from is kept for the weights."""
    net, n = nn.Sequential(nn.LSTM(4, 5, batch_first=True)), gx.dim("n", max=8)

    def loss(found, y):
        return ((found[0] - y) ** 2).mean()

    step = gx.train_step(net, loss, optim.SGD(net.parameters(), lr=0.1), x=gx.f32[n, 3, 4], y=gx.f32[n, 3, 5])
    forward = next(value for value in run_passes(step.traced).values() if value.op is ops.loop)
    stacks = forward.attrs["body"].graph.of_kind("result")
    assert len(stacks) == 8 and sum(output.name.startswith("kept") for output in stacks) == 7


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (ops.tanh(X), 1.0),
        (ops.mul(ops.sigmoid(X), ops.sub(ops.constant(1.0, X), ops.sigmoid(X))), 2.0),
        (ops.exp(ops.neg(ops.mul(X, X))), 1.0),
        (ops.neg(ops.constant(-3.0, X)), 3.0),
        (ops.where(ops.less(X, X), ops.tanh(X), ops.constant(2.0, X)), 2.0),
        (ops.cast(ops.less(X, X), dtype="f32"), 1.0),
        (ops.exp(X), np.inf),
        (ops.exp(ops.neg(X)), np.inf),
        (ops.add(ops.tanh(X), X), np.inf),
        (ops.where(ops.less(X, X), X, ops.constant(2.0, X)), np.inf),
        (X, np.inf),
    ],
)
def test_bounds_hold(value, size, rng) -> None:
    assert largest(value) == size
    x = np.concatenate([rng.standard_normal(3), [0.0, 1e30, -1e30]])
    numbers = dict.fromkeys([X], x)
    found = evaluate(value, numbers)
    assert np.nanmax(np.abs(found)) <= size


def evaluate(value: Value, numbers: dict) -> np.ndarray:
    if value in numbers:
        return numbers[value]
    if value.op is ops.full:
        return np.float64(value.attrs["value"])
    with np.errstate(all="ignore"):
        return value.op.numpy(*(evaluate(operand, numbers) for operand in value.operands), **value.attrs)


def test_numbers_without_bounds_are_not_multiplied_first() -> None:
    assert may_multiply(ops.tanh(X), X) and may_add(ops.tanh(X), X)
    assert not may_multiply(X, ops.exp(X)) and not may_add(X, ops.exp(X))
    column = ops.broadcast(graphs.data("c", 1), shape=(3,))
    assert not may_multiply(ops.tanh(X), column)


def test_a_branch_that_is_not_chosen_stays_without_effect() -> None:
    """x * p * q for numbers whose product overflows: 0 times one after the other is 0, but 0 * (p * q) is NaN."""
    x, p, q = (graphs.data(name, 3) for name in "xpq")
    product = ops.mul(ops.mul(x, p), q)
    loss = graphs.total(ops.where(ops.less(p, ops.constant(1e3, x)), product, x))
    graph = Graph("branch", (x, p, q), (Output("result", "slope", ops.gradient(loss, x)),))
    large = np.array([1e30, 2.0, -3.0], np.float32)
    with np.errstate(all="ignore"):
        found = reference.run(run_passes(graph), {"x": np.ones(3, np.float32), "p": large, "q": large})["slope"]
    np.testing.assert_allclose(found, [1, 4, 9])


@pytest.mark.parametrize("kind", ["chain", "sum", "difference"])
def test_gathered_slopes_are_the_same_slopes(kind, rng) -> None:
    """Against the derivative written out."""
    x = graphs.data("x", 7)
    y = ops.tanh(x)
    out, slope = {
        "chain": (ops.sigmoid(ops.sin(y)), None),
        "sum": (ops.mul(ops.sin(ops.mul(x, ops.constant(0.5, x))), ops.add(y, ops.erf(x))), None),
        "difference": (ops.sub(ops.mul(ops.sin(x), y), ops.neg(ops.cos(y))), None),
    }[kind]
    graph = expand_gradients(Graph("slope", (x,), (Output("result", "slope", ops.gradient(graphs.total(out), x)),)))
    values = Graph("values", (x,), (Output("result", "out", out),))
    given, step = rng.standard_normal(7), 1e-6
    found = reference.run(graph, {"x": given}, double=True)["slope"]
    ahead, behind = (reference.run(values, {"x": given + each}, double=True)["out"] for each in (step, -step))
    np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-8)


def softmax(x: Value) -> Value:
    top = ops.stop_gradient(ops.max(x, axes=(1,)))
    e = ops.exp(ops.sub(x, ops.broadcast(top, shape=x.shape)))
    return ops.div(e, ops.broadcast(ops.sum(e, axes=(1,)), shape=x.shape))


def test_the_gradient_of_a_softmax_reads_its_result_only(store, rng) -> None:
    """Two products around a softmax: its result goes to the second one, and nothing else of it to the way back."""
    x, w, v = graphs.data("x", BATCH, WIDTH), graphs.state("w", WIDTH, WIDTH), graphs.state("v", WIDTH, WIDTH)
    loss = graphs.mean(ops.tanh(ops.dot(softmax(ops.dot(x, w)), v)))
    updates = graphs.descend(loss, (w, v), ops.full(value=0.1, type=graphs.floats()))
    graph = Graph("softmax", (x, w, v), (Output("result", "loss", loss), *updates))
    program = plan(run_passes(graph), 32)
    kept = {buffer.value.op.name for nest in program.apart for buffer in nest.written() if buffer.kind == "value"}
    assert "div" in kept and not kept & {"exp", "sum", "sub", "neg"}
    check_native(graph, graphs.arrays_of(graph, 9, rng), store)


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_the_gradient_of_shares(axes, rng) -> None:
    """Of x / sum(x), against finite differences; the sum is used by itself, too."""
    x = graphs.data("x", 3, 4)
    total = ops.sum(x, axes=axes)
    out = ops.add(ops.div(x, ops.broadcast(total, shape=x.shape)), ops.broadcast(ops.sin(total), shape=x.shape))
    weights = ops.sin(ops.cast(ops.iota(axis=1, type=x.type.with_dtype("i64")), dtype="f32"))
    loss = graphs.total(ops.mul(out, weights))
    graph = run_passes(Graph("shares", (x,), (Output("result", "slope", ops.gradient(loss, x)),)))
    values, given = Graph("values", (x,), (Output("result", "loss", loss),)), rng.uniform(0.5, 2, (3, 4))
    found = reference.run(graph, {"x": given}, double=True)["slope"]
    for place in np.ndindex(3, 4):
        step = np.zeros((3, 4))
        step[place] = 1e-6
        ends = [float(reference.run(values, {"x": given + each}, double=True)["loss"]) for each in (step, -step)]
        np.testing.assert_allclose(found[place], (ends[0] - ends[1]) / 2e-6, rtol=1e-5, atol=1e-7)

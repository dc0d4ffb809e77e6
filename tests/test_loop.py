"""Loops that carry a state: text, reference, gradients against differences, native code, second derivatives."""

from __future__ import annotations

import graphs
import numpy as np
import pytest
from test_random_programs import check_native

import graphc as gx
from graphc.backends import reference
from graphc.ir import ops
from graphc.ir.graph import Graph, IRError, Output, Value
from graphc.ir.passes import run_passes
from graphc.ir.text import parse_graph, print_graph
from graphc.ir.types import Dim, TensorType

BATCH, TIME = Dim("batch", 8), Dim("time", 9)


def recurrence(length, reverse=False, counted=False) -> tuple[tuple[Value, ...], Value, Value]:
    """h = tanh(h w + x u + b) over x [time, batch, 3]: inputs, the stack of h * h, the last h."""
    x, h0 = graphs.data("x", length, BATCH, 3), graphs.data("h", BATCH, 4)
    w, u, b = graphs.state("w", 4, 4), graphs.state("u", 3, 4), graphs.state("b", 1, 4)
    inputs = (x, h0, w, u, b)
    carried, part = graphs.state("c0", BATCH, 4), graphs.data("x0", BATCH, 3)
    whole = graphs.data("k0", 4, 4), graphs.data("k1", 3, 4), graphs.data("k2", 1, 4)
    sums = ops.add(ops.dot(carried, whole[0]), ops.dot(part, whole[1]))
    h = ops.tanh(ops.add(sums, ops.broadcast(whole[2], shape=(BATCH, 4))))
    outputs = (Output("update", "c0", h), Output("result", "y0", ops.mul(h, h)))
    attrs = {"body": ops.Body(Graph("body", (carried, part, *whole), outputs)), "length": length, "reverse": reverse}
    count: tuple[Value, ...] = ()
    if counted:
        count = (ops.input(name="count", role="data", type=TensorType("i64", ())),)
    loop = ops.loop(*count, h0, x, w, u, b, **attrs, slices=1, counted=counted)
    return (*count, *inputs), ops.part_of(loop, "y0"), ops.part_of(loop, "c0")


def with_gradients(inputs, stack, last) -> Graph:
    loss = ops.add(graphs.total(ops.sin(stack)), graphs.total(ops.exp(last)))
    outputs = [Output("result", "loss", loss), Output("result", "stack", stack)]
    floats = [value for value in inputs if value.dtype == "f32"]
    outputs += [Output("result", f"d.{value.attrs['name']}", ops.gradient(loss, value)) for value in floats]
    return Graph("recurrence", inputs, tuple(outputs))


def arrays(length, batch):
    random = np.random.default_rng(length)
    shapes = {"x": (length, batch, 3), "h": (batch, 4), "w": (4, 4), "u": (3, 4), "b": (1, 4)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def slopes(graph, given, name, output="loss"):
    """Central differences of a result by one input."""
    found = np.zeros(given[name].shape)
    for place in np.ndindex(found.shape):
        ends = []
        for step in (1e-6, -1e-6):
            moved = {key: array.astype(np.float64) for key, array in given.items()}
            moved[name][place] += step
            ends.append(reference.run(graph, moved, double=True)[output])
        found[place] = (ends[0] - ends[1]) / 2e-6
    return found


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 5, TIME])
def test_gradients_are_slopes_and_native_code_agrees(length, reverse, store) -> None:
    traced = with_gradients(*recurrence(length, reverse))
    assert print_graph(parse_graph(print_graph(traced))) == print_graph(traced)
    graph = run_passes(traced)
    steps = 3 if length is TIME else length
    given = arrays(steps, 2)
    found = reference.run(graph, given, double=True)
    for name in ("x", "h", "w", "u", "b"):
        np.testing.assert_allclose(found[f"d.{name}"], slopes(graph, given, name), rtol=1e-6, atol=1e-7, err_msg=name)
    for batch in (1, 8):
        check_native(traced, arrays(steps, batch), store)


def test_weight_gradients_are_one_product_after_the_loop() -> None:
    graph = run_passes(with_gradients(*recurrence(5)))
    products = [value for value in graph.values() if value.op is ops.dot]
    assert sorted(str(value.type) for value in products) == ["f32[3,4]", "f32[4,4]"]
    loops = [value for value in graph.values() if value.op is ops.loop]
    assert len(loops) == 2, "one forwards, one backwards"
    carried = [value.attrs["name"] for value in loops[1].attrs["body"].graph.of_role("state")]
    assert carried == ["d.c0"], "the bias is summed over the rows that are stacked for the weights"


def test_a_bias_beside_no_product_is_summed_from_step_to_step() -> None:
    """Nothing is stacked for it alone."""
    h0, b = graphs.data("h", BATCH, 4), graphs.state("b", 1, 4)
    carried, bias = graphs.state("c0", BATCH, 4), graphs.data("k0", 1, 4)
    moved = ops.sin(ops.add(carried, ops.broadcast(bias, shape=(BATCH, 4))))
    body = Graph("body", (carried, bias), (Output("update", "c0", moved),))
    loop = ops.loop(h0, b, body=ops.Body(body), length=6, reverse=False, slices=0, counted=False)
    graph = run_passes(with_gradients((h0, b), ops.part_of(loop, "c0"), ops.part_of(loop, "c0")))
    backwards = [value.attrs["body"].graph for value in graph.values() if value.op is ops.loop][1]
    assert [value.attrs["name"] for value in backwards.of_role("state")] == ["d.c0", "d.k0"]
    given = {name: array for name, array in arrays(6, 3).items() if name in "hb"}
    found = reference.run(graph, given, double=True)
    np.testing.assert_allclose(found["d.b"], slopes(graph, given, "b"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("batch", "steps", "packed"), [(40, 9, True), (4, 9, True), (32, 9, False), (40, 7, False)])
def test_a_transpose_is_laid_out_before_the_loop(batch, steps, packed, rng) -> None:
    """Where every step would pack it: not for few steps, nor for a batch that lies along the lanes itself."""
    x, h, w = rng.normal(size=(steps, batch, 160)), rng.normal(size=(batch, 160)), rng.normal(size=(160, 160)) / 16
    x, h, w = (array.astype(np.float32) for array in (x, h, w))
    inputs = [gx.input(name, gx.f32[array.shape]) for name, array in (("x", x), ("h", h), ("w", w))]

    def step(h, x):
        h = (x + h @ inputs[2].T).tanh()
        return h, h

    function = gx.function(inputs, gx.scan(step, inputs[1], inputs[0])[1])
    before = [nest.name for nest in function.artifact.program.nests]
    assert before[: before.index("loop")] == ["copy"] * packed
    loop = function.artifact.program.nests[before.index("loop")]
    (inner, *_) = loop.repetition.program.nests
    right = inner.product.right
    assert (right.rows[0][1], right.columns[0][1]) == ((160, 1) if packed else (1, 160))
    for number, found in enumerate(function(x, h, w)):
        h = np.tanh(x[number] + h @ w.T)
        np.testing.assert_allclose(found, h, 1e-4, 1e-5)


def test_what_nobody_reads_is_not_stacked() -> None:
    inputs, _, last = recurrence(5)
    (loop,) = (
        value
        for value in run_passes(Graph("last", inputs, (Output("result", "last", last),))).values()
        if value.op is ops.loop
    )
    assert [output.kind for output in loop.attrs["body"].graph.outputs] == ["update"]


@pytest.mark.parametrize("count", [0, 1, 3, 9])
def test_a_counted_loop_stops_early(count, store) -> None:
    traced = with_gradients(*recurrence(5, counted=True))
    given = arrays(5, 2)
    loss = reference.run(run_passes(traced), {**given, "count": count}, double=True)
    taken = min(count, 5)
    short = {**given, "x": given["x"][:taken]}
    if taken:
        expected = reference.run(run_passes(with_gradients(*recurrence(taken))), short, double=True)
        for name in ("loss", "d.h", "d.w", "d.u", "d.b"):
            np.testing.assert_allclose(loss[name], expected[name], rtol=1e-12)
    else:
        np.testing.assert_allclose(loss["d.h"], np.exp(given["h"]), rtol=1e-6)
    assert not loss["d.x"][taken:].any()
    check_native(traced, {**given, "count": np.array(count)}, store)


def test_new_states_may_come_in_any_order() -> None:
    a, b = graphs.data("a", 3), graphs.data("b", 3)
    states = graphs.state("c0", 3), graphs.state("c1", 3)
    updates = (Output("update", "c0", ops.mul(*states)), Output("update", "c1", ops.sin(states[1])))
    attrs = {"length": 3, "reverse": False, "slices": 0, "counted": False}
    found = []
    for order in (updates, updates[::-1]):
        loss = graphs.total(ops.part_of(ops.loop(a, b, body=ops.Body(Graph("body", states, order)), **attrs), "c0"))
        outputs = (Output("result", f"d.{value.attrs['name']}", ops.gradient(loss, value)) for value in (a, b))
        graph = run_passes(Graph("order", (a, b), tuple(outputs)))
        found.append(reference.run(graph, {"a": [1.0, 2, 3], "b": [0.5, 0.6, 0.7]}, double=True))
    np.testing.assert_allclose(found[0]["d.a"], [0.5 * np.sin(0.5) * np.sin(np.sin(0.5)), *found[0]["d.a"][1:]])
    for name in ("d.a", "d.b"):
        np.testing.assert_array_equal(found[1][name], found[0][name])


def test_second_derivatives(store) -> None:
    inputs, stack, last = recurrence(3)
    x, h0, w, *_ = inputs
    loss = ops.add(graphs.total(ops.sin(stack)), graphs.total(ops.exp(last)))
    slope = graphs.total(ops.tanh(ops.gradient(loss, w)))
    outputs = (Output("result", "slope", slope), Output("result", "again", ops.gradient(slope, h0)))
    traced = Graph("twice", inputs, (*outputs, Output("result", "more", ops.gradient(slope, w))))
    given, graph = arrays(3, 2), run_passes(traced)
    found = reference.run(graph, given, double=True)
    np.testing.assert_allclose(found["again"], slopes(graph, given, "h", "slope"), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["more"], slopes(graph, given, "w", "slope"), rtol=1e-5, atol=1e-6)
    check_native(traced, given, store)


def test_a_loop_in_a_loop(store) -> None:
    """The running product of a matrix, summed over rows of x: states, slices and captured values on two levels."""
    x, w = graphs.data("x", 4, 3, BATCH, 4), graphs.state("w", 4, 4)
    inner_state, inner_part, inner_w = (
        graphs.state("c0", BATCH, 4),
        graphs.data("x0", BATCH, 4),
        graphs.data("k0", 4, 4),
    )
    new = ops.tanh(ops.add(ops.dot(inner_state, inner_w), inner_part))
    inner = ops.Body(Graph("inner", (inner_state, inner_part, inner_w), (Output("update", "c0", new),)))
    state, part, whole = graphs.state("c0", BATCH, 4), graphs.data("x0", 3, BATCH, 4), graphs.data("k0", 4, 4)
    attrs = {"length": 3, "reverse": False, "slices": 1, "counted": False}
    last = ops.part_of(ops.loop(state, part, whole, body=inner, **attrs), "c0")
    results = (Output("update", "c0", last), Output("result", "y0", ops.exp(last)))
    outer = ops.Body(Graph("outer", (state, part, whole), results))
    start = ops.full(value=0.5, type=state.type)
    stack = ops.part_of(ops.loop(start, x, w, body=outer, **(attrs | {"length": 4})), "y0")
    loss = graphs.total(stack)
    outputs = [Output("result", "loss", loss)]
    outputs += [Output("result", f"d.{value.attrs['name']}", ops.gradient(loss, value)) for value in (x, w)]
    traced = Graph("nested", (x, w), tuple(outputs))
    random = np.random.default_rng(0)
    given = {"x": random.normal(size=(4, 3, 2, 4)), "w": random.normal(size=(4, 4))}
    given = {name: array.astype(np.float32) for name, array in given.items()}
    graph = run_passes(traced)
    found = reference.run(graph, given, double=True)
    for name in ("x", "w"):
        np.testing.assert_allclose(found[f"d.{name}"], slopes(graph, given, name), rtol=1e-6, atol=1e-7)
    check_native(traced, given, store)


def test_what_does_not_fit_its_body_is_refused() -> None:
    inputs, stack, _ = recurrence(5)
    (loop,) = stack.operands
    with pytest.raises(IRError, match=r"an operand is f32\[batch,4\] but its body needs f32\[5,batch,3\]"):
        ops.loop(inputs[1], inputs[1], *inputs[2:], **loop.attrs)
    with pytest.raises(IRError, match="takes 1 states, 4 arrays and 0 counts, got 4"):
        ops.loop(*inputs[1:], **loop.attrs)
    with pytest.raises(IRError, match="no output 'y1'"):
        ops.part_of(loop, "y1")


def test_checks_in_a_loop_are_counted_before_anything_is_updated() -> None:
    labels = gx.input("labels", gx.i64[5])
    seen = gx.parameter("seen", np.zeros(4))
    totals, _ = gx.scan(lambda total, label: (total + gx.one_hot(label, 4), None), gx.zeros(4), labels)
    count = gx.function([labels], totals, updates={seen: totals})
    np.testing.assert_array_equal(count(np.array([0, 1, 3, 3, 3])), [1, 1, 0, 3])
    with pytest.raises(gx.LabelError, match=r"labels must lie in 0\.\.3, and one computed in a loop does not"):
        count(np.array([0, 1, 2, 3, 4]))
    np.testing.assert_array_equal(seen.numpy(), [1, 1, 0, 3])

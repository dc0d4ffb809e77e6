"""Gradient graphs against central finite differences, against PyTorch's numbers, and at ties, corners and zeros."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import graphs
import numpy as np
import pytest

from graphc.backends import reference
from graphc.ir import autodiff, ops
from graphc.ir.autodiff import expand_gradients, gradients
from graphc.ir.dependence import depends_on
from graphc.ir.graph import Graph, IRError, Output, Value
from graphc.ir.ops import OPS
from graphc.ir.passes import merge, run_passes
from graphc.ir.text import parse_graph, parse_type
from graphc.ir.types import FLOATS, TensorType

GOLDEN = Path(__file__).parent / "golden"
STEP = 1e-5
MOST_ELEMENTS = 40  # of one operand that are moved, one at a time


def is_differentiable(case) -> bool:
    op, sample = case
    has_floats = any(parse_type(text, {}).dtype in FLOATS for text in sample.operands)
    return op.vjp is not None and has_floats and sample.attrs.get("dtype", "f32") in FLOATS


CASES = [
    pytest.param(op, sample, id=f"{op.name}-{number}")
    for op in OPS.values()
    for number, sample in enumerate(op.samples)
    if is_differentiable((op, sample))
]


def differences(graph: Graph, arrays: dict, name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions in input `name`, flat, and the slope of the graph's one result there, by central differences in f64."""
    places = rng.permutation(arrays[name].size)[:MOST_ELEMENTS]
    slopes = []
    for place in places:
        values = []
        for step in (STEP, -STEP):
            moved = np.array(arrays[name], np.float64)
            moved.flat[place] += step
            values.append(reference.run(graph, {**arrays, name: moved}, double=True)["loss"].item())
        slopes.append((values[0] - values[1]) / (2 * STEP))
    return places, np.array(slopes)


def check(loss: Value, inputs: tuple[Value, ...], wrt: tuple[Value, ...], arrays: dict, rng) -> None:
    """The gradients of the loss after all passes are its finite differences before them."""
    named = {value.attrs["name"]: value for value in wrt}
    asked = tuple(Output("result", name, ops.gradient(loss, value)) for name, value in named.items())
    found = reference.run(run_passes(Graph("backward", inputs, asked)), arrays, double=True)
    forward = expand_gradients(Graph("forward", inputs, (Output("result", "loss", loss),)))
    for name in named:
        assert found[name].shape == arrays[name].shape
        places, slopes = differences(forward, arrays, name, rng)
        np.testing.assert_allclose(found[name].flat[places], slopes, rtol=1e-6, atol=1e-8, err_msg=name)


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_gradient_is_the_slope(op, sample, rng) -> None:
    types = [parse_type(text, {}) for text in sample.operands]
    operands = tuple(graphs.declare(f"x{number}", "data", kind) for number, kind in enumerate(types))
    result = op(*operands, **sample.attrs)
    weights = graphs.declare("weights", "data", result.type)
    loss = graphs.total(ops.mul(result, weights))
    arrays = {value.attrs["name"]: graphs.random_array(value.type, sample.low, sample.high, rng) for value in operands}
    arrays["weights"] = graphs.random_array(result.type, 0.5, 1.5, rng)
    wrt = () if op is ops.stop_gradient else tuple(value for value in operands if value.dtype in FLOATS)
    check(loss, (*operands, weights), (*wrt, weights), arrays, rng)


def turned(x: Value) -> Value:
    return ops.transpose(x, permutation=(1, 0))


def column_sums(x: Value) -> Value:
    return ops.sum(x, axes=(0,))


COMPOSITIONS = {
    "softmax": graphs.log_softmax,
    "normalised": lambda x: ops.div(x, ops.sqrt(ops.add(ops.mul(x, x), ops.constant(1.0, x)))),
    "shared": lambda x: ops.mul(ops.tanh(x), ops.add(ops.tanh(x), x)),
    "sum of a broadcast": lambda x: column_sums(ops.broadcast(column_sums(x), shape=(7, 4))),
    "views": lambda x: turned(ops.reshape(turned(x), shape=(6, 2))),
    "product with itself": lambda x: ops.dot(turned(x), x),
    "one row": lambda x: ops.dot(column_sums(x), turned(x)),
    "one column": lambda x: ops.dot(x, turned(column_sums(x))),
    "depth one": lambda x: ops.dot(turned(column_sums(x)), column_sums(x)),
    "one number": lambda x: ops.dot(column_sums(x), turned(column_sums(x))),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_gradient_of_a_composition(name, rng) -> None:
    x = graphs.data("x", 3, 4)
    loss = graphs.total(ops.sin(COMPOSITIONS[name](x)))
    check(loss, (x,), (x,), {"x": rng.uniform(0.2, 1.5, (3, 4))}, rng)


SECOND = ("exp", "log", "tanh", "sigmoid", "softplus", "sin", "cos", "sqrt", "log1p", "expm1")


@pytest.mark.parametrize("name", [*SECOND, "div", "mul", "pow", "prod", "dot", "max"])
def test_second_derivative_is_the_slope_of_the_first(name, rng) -> None:
    x = graphs.data("x", 3, 4)
    other = {"dot": turned(x)}.get(name, ops.sin(x))
    attrs = {"axes": (1,)} if name in ("prod", "max") else {}
    result = OPS[name](*((x,) if name in SECOND or attrs else (x, other)), **attrs)
    weights = graphs.declare("weights", "data", result.type)
    first = ops.gradient(graphs.total(ops.mul(ops.mul(result, result), weights)), x)
    direction = graphs.data("direction", 3, 4)
    slope = graphs.total(ops.mul(first, direction))
    arrays = {"x": rng.uniform(0.3, 1.5, (3, 4)), "direction": rng.uniform(0.5, 1.5, (3, 4))}
    arrays["weights"] = graphs.random_array(result.type, 0.5, 1.5, rng)
    check(slope, (x, weights, direction), (x,), arrays, rng)


def test_third_derivative_of_a_cube() -> None:
    x = graphs.data("x")
    value = ops.mul(x, ops.mul(x, x))
    for _ in range(3):
        value = ops.gradient(value, x)
    graph = run_passes(Graph("third", (x,), (Output("result", "out", value),)))
    assert reference.run(graph, {"x": 5.0})["out"] == 6.0


# -- against PyTorch


def torch_cases() -> dict[str, dict[str, np.ndarray]]:
    """For every call: its operands, "value" and gradients, as tests/torch_numbers.py stored them."""
    cases: dict[str, dict[str, np.ndarray]] = {}
    with np.load(GOLDEN / "torch_numbers.npz") as stored:
        for key in stored:
            call, name = key.split("|")
            cases.setdefault(call, {})[name] = stored[key]
    return cases


TORCH = torch_cases()


@pytest.mark.parametrize("call", TORCH)
def test_value_and_gradients_are_those_of_pytorch(call) -> None:
    case = TORCH[call]
    operands = {name: array for name, array in case.items() if len(name) == 1}
    inputs = "".join(f"; data {name}: {graphs.floats(*array.shape)}" for name, array in operands.items())
    shape = graphs.floats(*case["value"].shape)
    graph = parse_graph(f"graph case({inputs}; data w: {shape}) {{\n%0: {shape} = {call}\nresult value = %0\n}}")
    loss = graphs.total(ops.mul(graph.outputs[0].value, graph.inputs[-1]))
    wanted = {value.attrs["name"]: value for value in graph.inputs if f"gradient {value.attrs['name']}" in case}
    asked = tuple(Output("result", f"gradient {n}", ops.gradient(loss, value)) for n, value in wanted.items())
    weights = np.linspace(0.5, 1.5, case["value"].size, dtype=np.float32).reshape(case["value"].shape)
    found = reference.run(run_passes(replace(graph, outputs=(*graph.outputs, *asked))), {**operands, "w": weights})
    assert len(found) >= 2
    for name, array in found.items():
        np.testing.assert_allclose(array, case[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_pytorch_was_asked_about_every_differentiable_function() -> None:
    asked = {call.partition("(")[0] for call in TORCH}
    plain = {"where", "cast", "copy", "stop_gradient"}
    arithmetic = ("elementwise", "reduce", "contraction")  # what moves numbers is asked for by its tensor functions
    assert asked | plain >= {op.name for op in OPS.values() if op.vjp is not None and op.kind in arithmetic}


def test_training_follows_pytorch() -> None:
    program = run_passes(graphs.mlp(graphs.BATCH, 12, 16, 5))
    with np.load(GOLDEN / "torch_training.npz") as stored:
        states = {name.removeprefix("initial "): stored[name] for name in stored if name.startswith("initial")}
        for x, labels, loss in zip(stored["x"], stored["labels"], stored["sgd losses"], strict=True):
            found = reference.run(program, {"x": x, "y": labels, "lr": 0.1, **states})
            np.testing.assert_allclose(found["loss"], loss, rtol=1e-5)
            states = {name: found[name] for name in states}
        for name, weights in states.items():
            np.testing.assert_allclose(weights, stored[f"sgd {name}"], rtol=1e-5, atol=1e-6)


# -- ties, corners, zeros


def gradients_at(result: Value, inputs: tuple[Value, ...], **arrays) -> list[np.ndarray]:
    """d sum(result) / d input for every input of that name in `arrays`."""
    asked = tuple(Output("result", v.attrs["name"], ops.gradient(graphs.total(result), v)) for v in inputs)
    return list(reference.run(run_passes(Graph("corners", inputs, asked)), arrays).values())


@pytest.mark.parametrize("op", [ops.maximum, ops.minimum], ids=lambda op: op.name)
def test_ties_share_the_gradient(op) -> None:
    a, b = graphs.data("a", 3), graphs.data("b", 3)
    found = gradients_at(op(a, b), (a, b), a=[1.0, 2.0, 3.0], b=[1.0, 3.0, 2.0])
    winner = [0.5, 0.0, 1.0] if op is ops.maximum else [0.5, 1.0, 0.0]
    np.testing.assert_array_equal(found, [winner, np.subtract(1, winner)])


@pytest.mark.parametrize("op", [ops.max, ops.min], ids=lambda op: op.name)
def test_all_extremes_share_the_gradient(op) -> None:
    x = graphs.data("x", 2, 4)
    sign = 1 if op is ops.max else -1
    (found,) = gradients_at(op(x, axes=(1,)), (x,), x=np.multiply(sign, [[1.0, 5, 5, 2], [3, 3, 3, 3]]))
    np.testing.assert_array_equal(found, [[0, 0.5, 0.5, 0], [0.25] * 4])


def test_corners_have_slope_zero() -> None:
    x = graphs.data("x", 3)
    for op in (ops.relu, ops.absolute, ops.sign, ops.floor):
        (found,) = gradients_at(op(x), (x,), x=[0.0, -0.0, 0.0])
        np.testing.assert_array_equal(found, [0, 0, 0], err_msg=op.name)


def test_product_with_zeros_has_the_products_of_the_others() -> None:
    x = graphs.data("x", 3, 3)
    (found,) = gradients_at(ops.prod(x, axes=(1,)), (x,), x=[[2.0, 0, 5], [0, 3, 0], [2, 3, 5]])
    np.testing.assert_array_equal(found, [[0, 10, 0], [0, 0, 0], [15, 10, 6]])


def test_power_zero_of_zero_has_slope_zero() -> None:
    x, exponent = graphs.data("x", 3), graphs.data("p", 3)
    (found, _) = gradients_at(ops.pow(x, exponent), (x, exponent), x=[0.0, 2.0, 0.0], p=[0.0, 0.0, 1.0])
    np.testing.assert_array_equal(found, [0, 0, 1])


# -- what is asked for


def count(graph: Graph, op) -> int:
    return sum(value.op is op for value in graph.values())


def test_one_sweep_for_all_gradients_of_a_loss(monkeypatch) -> None:
    sweeps = []
    seen = lambda loss, wrt, grown, trail=None: sweeps.append(wrt) or gradients(loss, wrt, grown)  # noqa: E731
    monkeypatch.setattr(autodiff, "gradients", seen)
    graph = run_passes(graphs.mlp())
    assert [len(wrt) for wrt in sweeps] == [4]
    assert count(graph, ops.dot) == 5  # two forward, two for weights, one for the hidden layer
    assert count(graph, ops.gradient) == 0


def test_a_loss_that_ignores_its_parameter_has_gradient_zero() -> None:
    x, w = graphs.data("x", 3), graphs.state("w", 2, 2)
    (found,) = gradients_at(ops.exp(x), (x, w), x=[1, 2, 3], w=np.ones((2, 2)))[1:]
    np.testing.assert_array_equal(found, np.zeros((2, 2)))


def test_gradient_of_a_loss_by_itself_is_one() -> None:
    x = graphs.data("x", 3)
    loss = graphs.total(ops.exp(x))
    graph = run_passes(Graph("self", (x,), (Output("result", "out", ops.gradient(loss, loss)),)))
    assert reference.run(graph, {"x": [1, 2, 3]})["out"] == 1


def test_stop_gradient_stops_it() -> None:
    x = graphs.data("x", 3)
    (found,) = gradients_at(ops.mul(x, ops.stop_gradient(x)), (x,), x=[1.0, 2.0, 3.0])
    np.testing.assert_array_equal(found, [1, 2, 3])


def test_no_gradient_flows_through_integers() -> None:
    x = graphs.data("x", 3)
    rounded = ops.cast(ops.cast(x, dtype="i64"), dtype="f32")
    (found,) = gradients_at(ops.mul(x, rounded), (x,), x=[1.5, 2.5, -3.5])
    np.testing.assert_array_equal(found, [1, 2, -3])
    assert depends_on(graphs.total(rounded), (x,)) == set()


@pytest.mark.parametrize("h_op", [ops.sigmoid, ops.exp], ids=lambda op: op.name)
def test_gradient_by_a_value_in_between(h_op) -> None:
    """Rewriting must not look through what a gradient is taken by: log(sigmoid(x)), log(1 + exp(x)) have rules."""
    x = graphs.data("x", 3)
    h = h_op(x)
    loss = graphs.total(ops.log(h if h_op is ops.sigmoid else ops.add(ops.constant(1.0, h), h)))
    graph = run_passes(Graph("between", (x,), (Output("result", "out", ops.gradient(loss, h)),)))
    arrays = {"x": np.array([-1.0, 0.5, 2.0])}
    value = h_op.numpy(arrays["x"])
    expected = 1 / value if h_op is ops.sigmoid else 1 / (1 + value)
    np.testing.assert_allclose(reference.run(graph, arrays, double=True)["out"], expected, rtol=1e-12)


def test_a_twin_of_a_value_in_between_is_another_value() -> None:
    a, b = graphs.data("a"), graphs.data("b")
    c, twin = ops.add(a, b), ops.add(a, b)
    graph = Graph("twins", (a, b), (Output("result", "out", ops.gradient(ops.mul(c, twin), c)),))
    for first in (lambda graph: graph, merge):
        assert reference.run(run_passes(first(graph)), {"a": 2.0, "b": 1.0})["out"] == 3


def test_course_example() -> None:
    a, b = graphs.data("a"), graphs.data("b")
    e = ops.mul(ops.add(a, b), ops.add(b, ops.constant(1.0, b)))
    assert gradients_at(e, (a, b), a=2.0, b=1.0) == [2, 5]


def test_a_path_without_a_rule_is_an_error() -> None:
    x = graphs.data("x", 3)
    opaque = replace(ops.exp, name="opaque", vjp=None)
    loss = graphs.total(opaque(x))
    with pytest.raises(IRError, match="opaque has no gradient but the loss depends on it; wrap it in stop_gradient"):
        gradients(loss, (x,), {})
    assert depends_on(loss, (x,)) == set()
    other = graphs.data("other", 3)
    (found,) = gradients(graphs.total(ops.add(opaque(x), other)), (other,), {})
    assert found.type == other.type


def test_depends_on_names_what_a_path_leads_to() -> None:
    x, w, u = graphs.data("x", 3), graphs.state("w", 3), graphs.state("u", 3)
    mask = ops.less(u, w)
    loss = graphs.total(ops.where(mask, ops.stop_gradient(u), ops.mul(x, w)))
    assert depends_on(loss, (x, w, u)) == {x, w}
    assert depends_on(graphs.total(ops.gradient(loss, w)), (x, u)) == {x}


def test_f64_gradients_stay_f64() -> None:
    x = graphs.declare("x", "data", TensorType("f64", (3,)))
    (found,) = gradients_at(ops.exp(x), (x,), x=[0.1, 0.2, 0.3])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.exp([0.1, 0.2, 0.3]), rtol=1e-15)

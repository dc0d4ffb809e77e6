"""Each pass on a small graph (golden text), the verifier, and what the whole pipeline keeps: values, types, origins."""

from __future__ import annotations

import linecache
from dataclasses import replace
from pathlib import Path

import graphs
import numpy as np
import pytest
from hypothesis import given, settings
from random_graphs import arrays, random_graphs

from graphc.backends import reference
from graphc.ir import ops, passes
from graphc.ir.autodiff import expand_gradients
from graphc.ir.graph import Graph, IRError, Output, Value, in_module
from graphc.ir.passes import PIPELINE, merge, run_passes
from graphc.ir.text import parse_graph, print_graph
from graphc.ir.types import Dim, TensorType
from graphc.ir.verify import verify

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.relative_to(GOLDEN).as_posix() for path in (GOLDEN / "passes").glob("*.txt"))


def read_case(name: str) -> tuple[str, str]:
    """The graph and the pass that a golden file is about: text, a line `--- pass`, text."""
    before, _, rest = (GOLDEN / name).read_text(encoding="utf-8").partition("--- ")
    return before, rest.splitlines()[0]


# -- each pass


@pytest.mark.parametrize("name", CASES)
def test_pass_makes_this_of_that(name, golden) -> None:
    before, step = read_case(name)
    after = verify(getattr(passes, step)(verify(parse_graph(before))))
    golden(name, f"{before}--- {step}\n{print_graph(after)}")


def test_every_pass_has_a_case() -> None:
    parts = {"merge", "fold", "push_views", "expand_vector_products", "simplify"}  # `tidy` is all of these at once
    assert {read_case(name)[1] for name in CASES} == {step.__name__ for step in PIPELINE} | parts


@pytest.mark.parametrize("name", CASES)
def test_pass_keeps_the_results(name, rng) -> None:
    before, step = read_case(name)
    graph = parse_graph(before)
    inputs = graphs.arrays_of(graph, 5, rng)
    after = getattr(passes, step)(graph)
    expected = reference.run(expand_gradients(graph), inputs, double=True)
    found = reference.run(expand_gradients(after), inputs, double=True)
    for key, array in expected.items():
        np.testing.assert_allclose(found[key], array, rtol=1e-6, atol=1e-9, err_msg=key)


ONCE = ("hold_wanted", "flip_products")  # a second run of these does as much again


@pytest.mark.parametrize("name", [name for name in CASES if read_case(name)[1] not in ONCE])
def test_pass_has_nothing_left_to_do(name) -> None:
    before, step = read_case(name)
    run = getattr(passes, step)
    once = run(parse_graph(before))
    assert print_graph(run(once)) == print_graph(once)


# -- the pipeline


def test_order_of_the_pipeline() -> None:
    names = [step.__name__ for step in PIPELINE]
    assert names[0] == "hold_wanted" and names[-1] == "place_copies"
    assert names.index("stabilise") < names.index("expand_gradients") < names.index("tidy")


def test_watch_sees_every_stage() -> None:
    seen: list[str] = []
    run_passes(graphs.linear_regression(), watch=lambda name, graph: seen.append(name))
    assert seen == ["trace", *(step.__name__ for step in PIPELINE)]


def test_a_pass_that_breaks_the_graph_is_caught() -> None:
    def break_it(graph: Graph, trail: object = None) -> Graph:
        output = graph.outputs[0]
        broken = replace(output.value, type=TensorType("f32", (7,)))
        return replace(graph, outputs=(replace(output, value=broken),))

    with pytest.raises(IRError, match=r"is typed f32\[7\] but its rule gives f32\[\]"):
        run_passes(graphs.linear_regression(), [merge, break_it])


@pytest.mark.parametrize("program", graphs.PROGRAMS, ids=lambda program: program.__name__)
@pytest.mark.parametrize("batch", [1, 10, 256])
def test_every_stage_computes_the_same(program, batch, rng) -> None:
    inputs = graphs.arrays(program, batch, rng)
    stages: list[Graph] = []
    run_passes(program(), watch=lambda name, graph: stages.append(graph))
    first = next(number for number, graph in enumerate(stages) if not any(v.op is ops.gradient for v in graph.values()))
    kept = {print_graph(stage): stage for stage in stages[first:]}
    assert len(kept) > 2
    expected = reference.run(stages[first], inputs, double=True)
    for stage in list(kept.values())[1:]:
        found = reference.run(stage, inputs, double=True)
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-9, err_msg=name)
    checks = [output for output in stages[-1].outputs if output.kind == "check"]
    assert all(found[output.name] == 0 for output in checks)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(random_graphs())
def test_random_graphs_keep_their_results(text) -> None:
    graph = parse_graph(text)
    inputs = arrays(np.random.default_rng(5))
    expected = reference.run(expand_gradients(verify(graph)), inputs, double=True)
    found = reference.run(run_passes(graph), inputs, double=True)
    assert set(found) == set(expected)
    for name, array in expected.items():
        scale = max(np.abs(array).max(), 1e-3)
        np.testing.assert_allclose(found[name] / scale, array / scale, atol=1e-5, err_msg=name)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(random_graphs())
def test_random_graphs_come_out_normal(text) -> None:
    """What the passes promise to whoever fuses: no gradients, no views of like views, nothing computed twice."""
    final = run_passes(parse_graph(text))
    keys = [value.key() for value in final.values() if value.op not in (ops.input, ops.copy)]
    assert len(set(keys)) == len(keys)
    for value in final.values():
        assert value.op not in (ops.gradient, ops.stop_gradient, ops.require_range)
        if value.op.kind == "view":
            assert value.op is not value.operands[0].op
        if value.op is ops.dot:
            assert 1 not in (*value.shape, value.operands[0].shape[1])
    again = parse_graph(print_graph(final))
    assert print_graph(again) == print_graph(final)


# -- single facts


def test_zeros_of_both_signs_stay_apart() -> None:
    x = graphs.data("x", 2)
    signs = [ops.div(ops.constant(1.0, x), ops.constant(zero, x)) for zero in (0.0, -0.0)]
    graph = run_passes(Graph("signs", (x,), tuple(Output("result", f"r{n}", value) for n, value in enumerate(signs))))
    found = reference.run(graph, {"x": [0, 0]})
    np.testing.assert_array_equal(list(found.values()), [[np.inf] * 2, [-np.inf] * 2])


def test_sum_of_a_broadcast_counts_every_copy() -> None:
    x, batch = graphs.data("x", 1, 3), Dim("batch", 8)
    y = graphs.data("y", batch, 3)
    stretched = ops.broadcast(x, shape=y.shape)
    results = {
        "rows": ops.sum(stretched, axes=(0,)),
        "all": ops.sum(stretched, axes=(0, 1)),
        "product": ops.prod(stretched, axes=(0,)),
        "largest": ops.max(stretched, axes=(0,)),
        "kept": ops.sum(ops.broadcast(x, shape=(1, 3)), axes=(0,)),
    }
    graph = Graph("copies", (x, y), tuple(Output("result", name, value) for name, value in results.items()))
    found = reference.run(run_passes(graph), {"x": [[1.0, 2, 3]], "y": np.zeros((5, 3))})
    expected = {"rows": [[5, 10, 15]], "all": [[30]], "product": [[1, 32, 243]]}
    expected |= {"largest": [[1, 2, 3]], "kept": [[1, 2, 3]]}
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize(
    ("rows", "depth", "columns"),
    [(1, 3, 3), (1, 3, 4), (3, 3, 1), (4, 3, 1), (3, 1, 3), (4, 1, 2), (1, 1, 1), (1, 3, 1), (1, 1, 4), (4, 1, 1)],
)
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
def test_products_with_vectors(rows, depth, columns, turned, rng) -> None:
    def matrix(name: str, shape: tuple[int, int], flip: bool) -> Value:
        if not flip:
            return graphs.data(name, *shape)
        return ops.transpose(graphs.data(name, *shape[::-1]), permutation=(1, 0))

    a, b = matrix("a", (rows, depth), turned[0]), matrix("b", (depth, columns), turned[1])
    product = ops.dot(a, b)
    inputs = tuple(value.operands[0] if flip else value for value, flip in zip((a, b), turned, strict=True))
    both = (Output("result", "out", product), Output("result", "turned", ops.transpose(product, permutation=(1, 0))))
    graph = Graph("product", inputs, both)
    numbers = {value.attrs["name"]: rng.normal(size=value.shape) for value in inputs}
    final = run_passes(graph)
    assert not any(value.op is ops.dot for value in final.values())
    left, right = (array.T if flip else array for array, flip in zip(numbers.values(), turned, strict=True))
    found = reference.run(final, numbers, double=True)
    np.testing.assert_allclose(found["out"], left @ right, rtol=1e-12)
    np.testing.assert_allclose(found["turned"], (left @ right).T, rtol=1e-12)


def test_a_product_is_not_computed_a_second_time_to_be_read_transposed() -> None:
    """Two linear layers without bias: the gradient of the second weight reads the hidden layer transposed."""
    x, w1, w2 = graphs.data("x", graphs.BATCH, 8), graphs.state("w1", 8, 6), graphs.state("w2", 6, 4)
    loss = graphs.total(ops.sin(ops.dot(ops.dot(x, w1), w2)))
    outputs = tuple(Output("update", name, ops.gradient(loss, w)) for name, w in (("w1", w1), ("w2", w2)))
    final = run_passes(Graph("two", (x, w1, w2), outputs))
    assert sum(value.op is ops.dot for value in final.values()) == 5


def test_both_of_two_labels_with_one_message_are_checked() -> None:
    labels = [graphs.declare(name, "data", TensorType("i64", (3,))) for name in "ab"]
    checked = [ops.require_range(value, low=0, high=4, message="labels") for value in labels]
    graph = run_passes(Graph("two", tuple(labels), (Output("result", "sum", ops.add(*checked)),)))
    for a, b, wrong in (([0, 1, 3], [0, 0, 0], 0), ([0, 4, -1], [0, 0, 0], 2), ([0, 0, 0], [9, 9, 9], 3)):
        assert reference.run(graph, {"a": a, "b": b})["labels"] == wrong


def test_constants_fold_in_their_own_dtype() -> None:
    third = ops.div(ops.full(value=1.0, type=graphs.floats()), ops.full(value=3.0, type=graphs.floats()))
    wrapped = ops.add(*(ops.full(value=200, type=TensorType("u8", ())) for _ in range(2)))
    graph = passes.fold(Graph("fold", (), (Output("result", "a", third), Output("result", "b", wrapped))))
    a, b = (output.value.attrs["value"] for output in graph.outputs)
    assert a == float(np.float32(1) / np.float32(3)) and b == 144 and type(b) is int


# -- origins


def user_program() -> Graph:
    with in_module("net.fc1"):
        x, w = graphs.data("x", graphs.BATCH, 3), graphs.state("w", 4, 3)
        hidden = ops.relu(ops.dot(x, ops.transpose(w, permutation=(1, 0))))
    loss = graphs.mean(ops.log(ops.add(ops.constant(1.0, hidden), ops.exp(hidden))))
    rate = graphs.declare("lr", "scalar", graphs.floats())
    flat = ops.reshape(ops.transpose(x, permutation=(1, 0)), shape=(x.type.count,))
    handed_out = {"loss": loss, "zero": ops.mul(x, ops.constant(0.0, x)), "same": x, "flat": flat}
    results = (Output("result", name, value) for name, value in handed_out.items())
    return Graph("user", (x, w, rate), (*results, *graphs.descend(loss, (w,), rate)))


def test_every_value_of_every_stage_comes_from_the_program() -> None:
    """The passes run on a line of another function: what they make is stamped with what it was made from."""
    stages: dict[str, Graph] = {}
    run_passes(user_program(), watch=stages.__setitem__)
    assert len(list(stages["place_copies"].values())) > 20
    for stage, graph in stages.items():
        for value in graph.values():
            assert value.origin is not None
            assert value.origin.function != "test_every_value_of_every_stage_comes_from_the_program", (stage, value.op)
            assert Path(value.origin.file).name in ("graphs.py", "test_passes.py")


@pytest.mark.parametrize("program", graphs.PROGRAMS, ids=lambda program: program.__name__)
def test_every_value_of_a_program_keeps_its_line(program) -> None:
    for value in run_passes(program()).values():
        assert value.origin is not None and Path(value.origin.file).name == "graphs.py", value.op


def test_origin_is_the_expression() -> None:
    final = run_passes(user_program())
    (relu,) = (value for value in final.values() if value.op is ops.relu)
    assert relu.origin is not None and relu.origin.module == "net.fc1"
    line = linecache.getline(relu.origin.file, relu.origin.line)
    product = "ops.dot(x, ops.transpose(w, permutation=(1, 0)))"
    assert line[relu.origin.column : relu.origin.end_column] == f"ops.relu({product})"
    (dot,) = (value for value in final.values() if value.op is ops.dot and value.role == "forward")
    assert dot.origin is not None and dot.origin.line == relu.origin.line
    assert line[dot.origin.column : dot.origin.end_column] == product


def test_roles_are_kept() -> None:
    final = run_passes(graphs.mlp())
    roles = {value.op.name + str(value.type): value.role for value in final.values()}
    assert {output.value.role for output in final.of_kind("update")} == {"update"}
    assert {output.value.role for output in final.of_kind("result")} == {"forward"}
    assert set(roles.values()) == {"forward", "backward", "update"}
    dots = [value.role for value in final.values() if value.op is ops.dot]
    assert dots == ["forward"] * 2 + ["backward"] * 3


def test_what_a_user_computes_of_gradients_updates_or_is_the_way_back() -> None:
    kind = TensorType("f32", (3,))
    x, w = (ops.input(name=name, role=role, type=kind) for name, role in (("x", "data"), ("w", "state")))
    slope = ops.gradient(ops.reshape(ops.sum(ops.mul(ops.mul(x, w), w), axes=(0,)), shape=()), w)
    penalty = ops.reshape(ops.sum(ops.exp(slope), axes=(0,)), shape=())
    moved = ops.sub(w, ops.add(slope, ops.gradient(penalty, w)))
    outputs = (Output("result", "shown", ops.tanh(slope)), Output("update", "w", moved))
    values = [*expand_gradients(Graph("user", (x, w), outputs)).values()]
    assert [value.role for value in values if value.op in (ops.tanh, ops.sub)] == ["backward", "update"]
    assert {value.role for value in values if value.op is ops.exp} == {"forward"}  # a penalty on gradients is a loss


def test_softplus_made_of_a_formula_stands_where_the_formula_stood() -> None:
    final = run_passes(user_program())
    (softplus,) = (value for value in final.values() if value.op is ops.softplus)
    assert softplus.origin is not None
    line = linecache.getline(softplus.origin.file, softplus.origin.line)
    span = line[softplus.origin.column : softplus.origin.end_column]
    assert span == "ops.log(ops.add(ops.constant(1.0, hidden), ops.exp(hidden)))"


# -- the verifier


def small() -> Graph:
    x, w = graphs.data("x", graphs.BATCH, 3), graphs.state("w", 1, 3)
    new = ops.sub(w, ops.sum(x, axes=(0,)))
    return Graph("small", (x, w), (Output("result", "sum", new), Output("update", "w", new)))


def broken_graphs():
    graph = small()
    x, w = graph.inputs
    new = graph.outputs[0].value
    labels = graphs.declare("y", "data", TensorType("i64", (graphs.BATCH,)))
    hours = Dim("hours", 24)

    def outputs(*made: Output) -> Graph:
        return replace(graph, outputs=made)

    def result(value: Value) -> Graph:
        return outputs(Output("result", "out", value))

    twin = graphs.data("x", 2)
    yield "two inputs", replace(graph, inputs=(*graph.inputs, twin)), "inputs of graph 'small' share a name: x"
    yield "two bounds", replace(graph, inputs=(x, w, graphs.data("z", Dim("batch", 9)))), "dims .* share a name: batch"
    yield "two results", outputs(*(Output("result", "out", value) for value in (x, w))), "share a name: result out"
    yield "two updates", outputs(*(Output("update", "w", w) for _ in range(2))), "share a name: update w"
    yield "undeclared", replace(graph, inputs=(w,)), "is used but not declared|which no input"
    yield "undeclared scalar", result(graphs.declare("lr", "scalar", graphs.floats())), "'lr' is used but not declared"
    yield "wrong type", result(replace(new, type=TensorType("f64", (1, 3)))), r"sub is typed f64\[1,3\] but its rule"
    yield "wrong operands", result(replace(new, operands=(x, w))), r"sub: operands are f32\[batch,3\] and f32\[1,3\]"
    yield "wrong axes", result(replace(ops.sum(x, axes=(0,)), attrs={"axes": (2,)})), r"sum: axes \[2\] do not fit"
    yield "unknown dim", result(ops.full(value=1.0, type=graphs.floats(hours))), "full is sized by hours"
    yield "unknown size", result(ops.size(extent=hours, type=graphs.floats())), "size is sized by hours"
    yield "no such state", outputs(Output("update", "v", new)), "but the state is no such state"
    yield "update of data", outputs(Output("update", "x", x)), "but the state is no such state"
    yield "update of another type", outputs(Output("update", "w", x)), r"f32\[batch,3\] but the state is f32\[1,3\]"
    yield "check of floats", outputs(Output("check", "fine", ops.size(extent=3, type=graphs.floats()))), "as i64"
    yield "check of many", replace(result(labels), inputs=(labels,), outputs=(Output("check", "y", labels),)), "as i64"
    yield "kind", outputs(Output("side", "out", new)), "'out' is of kind 'side'; kinds are result, update, check"


def test_the_whole_graph_is_returned() -> None:
    graph = small()
    assert verify(graph) is graph


@pytest.mark.parametrize(("what", "graph", "message"), [pytest.param(*case, id=case[0]) for case in broken_graphs()])
def test_broken_graph_is_named(what, graph, message) -> None:
    with pytest.raises(IRError, match=message):
        verify(graph)

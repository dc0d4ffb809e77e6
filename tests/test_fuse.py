"""Which values share a loop nest, and in what order nests may run so that states are updated in place."""

from __future__ import annotations

from dataclasses import replace

import graphs
import numpy as np
import pytest
from hypothesis import given, settings
from random_graphs import arrays, random_graphs, random_steps

from graphc.backends import reference
from graphc.ir import ops
from graphc.ir.access import memory_of
from graphc.ir.fuse import Group, fuse, is_computed, is_inlined
from graphc.ir.graph import Graph, Output, Value, reachable
from graphc.ir.group import is_placed
from graphc.ir.passes import run_passes
from graphc.ir.program import plan
from graphc.ir.text import parse_graph
from graphc.ir.types import TensorType, evaluate

Groups = list[Group]
PANEL = 32


def fused(graph: Graph) -> tuple[Graph, Groups]:
    graph, groups = fuse(run_passes(graph))
    assert_sound(graph, groups)
    return graph, groups


def assert_sound(graph: Graph, groups: Groups) -> None:
    """Every value is computed in one group, on axes of its group's frame, and checks come before updates."""
    members = [value for group in groups for value in group.axes]
    assert len(set(members)) == len(members)
    wanted = {memory_of(output.value) for output in graph.outputs}
    computed = {value for value in graph.values() if is_computed(value)}
    assert set(members) <= computed and wanted <= set(members)
    assert all(is_inlined(value) for value in computed - set(members))
    for group in groups:
        assert_nest_is_sound(group)
    looked_at = set(reachable(tuple(output.value for output in graph.of_kind("check"))))
    updates = {memory_of(output.value) for output in graph.of_kind("update")}
    first_update = next((n for n, group in enumerate(groups) if updates & set(group.axes)), len(groups))
    for group in groups[first_update:]:
        assert not looked_at & set(group.axes)


def assert_nest_is_sound(group: Group) -> None:
    """Axes fit the frame; whatever a value reads of its own nest is ready, and at the same point."""
    for value, axes in group.axes.items():
        if is_placed(value):
            continue
        for axis, extent in zip(axes, value.shape, strict=True):
            assert extent == (1 if axis is None else group.frame[axis])
        walked = [axis for axis in group.points[value] if axis is not None]
        assert walked == sorted(set(walked))
    for reader, access in group.reads():
        if access.root in group.axes:
            in_loops = reader.op.kind == "reduce" or reader not in group.after
            assert group.axes_of(reader, access) == group.axes[access.root]
            assert not (in_loops and access.root in group.after), "read in the loops, complete after them"
            assert reader.op.kind != "contraction", "a product packs its operands before its loops"
        assert access.root in group.axes or memory_of(access.root) not in group.axes
    assert sum(value.op.kind == "contraction" for value in group.axes) <= 1
    for value in group.axes:
        if value.op.kind == "reduce":
            reduced = {group.points[value][axis] for axis in value.attrs["axes"]} - {None}
            outer = set(range(group.lane)) - set(group.points[value])
            assert reduced == {group.lane} or not outer, "an operand counts once for every step along the outer axes"
        elif value in group.after:
            assert set(group.axes[value]) <= {None, group.lane}, "only columns and numbers are computed after the loops"


def run_groups(graph: Graph, groups: Groups, inputs: graphs.Arrays) -> tuple[graphs.Arrays, graphs.Arrays]:
    """(results, states afterwards) when groups run one after the other and each writes its updates as it ends."""
    sizes = reference.dim_sizes(graph, inputs)
    memory, done = dict(inputs), {}

    def number(value: Value) -> np.ndarray:
        if value in done:
            return done[value]
        operands = {operand: number(operand) for operand in value.operands}
        return reference.compute(value, operands, memory, sizes, True)

    for group in groups:
        for value in group.axes:
            assert all(memory_of(operand) in done or not is_member(operand, groups) for operand in value.operands)
            done[value] = number(value)
        for output in graph.of_kind("update"):
            if memory_of(output.value) in group.axes:
                memory[output.name] = number(output.value)
    results = {output.name: number(output.value) for output in graph.outputs if output.kind != "update"}
    return results, {name: memory[name] for name in (value.attrs["name"] for value in graph.of_role("state"))}


def is_member(value: Value, groups: Groups) -> bool:
    return any(memory_of(value) in group.axes for group in groups)


def assert_runs_right(graph: Graph, groups: Groups, inputs: graphs.Arrays) -> None:
    expected = reference.run(graph, inputs, double=True)
    results, states = run_groups(graph, groups, inputs)
    for name, array in results.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-9, atol=1e-12, err_msg=name)
    updated = {output.name for output in graph.of_kind("update")}
    for name, array in states.items():
        np.testing.assert_array_equal(array, expected[name] if name in updated else inputs[name], err_msg=name)


# -- the seed programs


@pytest.mark.parametrize(("program", "count"), [(graphs.linear_regression, 1), (graphs.mlp, 7)])
def test_number_of_nests(program, count) -> None:
    assert len(fused(program())[1]) == count


@pytest.mark.parametrize("program", graphs.PROGRAMS, ids=lambda program: program.__name__)
def test_programs_run_group_by_group(program, rng) -> None:
    assert_runs_right(*fused(program()), graphs.arrays(program, 10, rng))


def test_update_of_a_weight_joins_its_product() -> None:
    graph, groups = fused(graphs.mlp())
    for output in graph.of_kind("update"):
        if output.name.endswith("weight"):
            (home,) = (group for group in groups if output.value in group.axes)
            assert home.product is not None and home.frame == output.value.shape


def test_rows_of_a_softmax_are_one_nest() -> None:
    logits = graphs.data("z", graphs.BATCH, 10)
    logs = graphs.log_softmax(logits)
    slope = ops.gradient(graphs.total(ops.exp(logs)), logits)
    outputs = (Output("result", "logs", logs), Output("result", "slope", slope))
    _, groups = fused(Graph("rows", (logits,), outputs))
    assert len(groups) == 1 and groups[0].frame == (graphs.BATCH, 10)


def test_a_nest_whose_frame_is_wanted_twice_goes_over_it_once() -> None:
    x = graphs.data("x", graphs.BATCH, 40)
    halves = [ops.sum(op(x), axes=(0,)) for op in (ops.exp, ops.tanh)]
    _, groups = fused(Graph("halves", (x,), tuple(Output("result", f"r{n}", half) for n, half in enumerate(halves))))
    assert len(groups) == 1


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_a_product_reads_is_made_in_an_earlier_nest(side) -> None:
    """Also where the operand is as large as the result, and lies along the same axes."""
    x, w = graphs.data("x", 8, 8), graphs.state("w", 8, 8)
    product = ops.dot(ops.tanh(x), w) if side == "left" else ops.dot(x, ops.tanh(w))
    _, groups = fused(Graph("square", (x, w), (Output("result", "out", ops.tanh(product)),)))
    assert [[value.op.name for value in group.axes] for group in groups] == [["tanh"], ["dot", "tanh"]]


# -- checks and updates


def labelled(shape: tuple[int, ...]) -> Graph:
    """The update of `seen` is made of checked labels alone, and could share their nest."""
    labels = graphs.declare("y", "data", TensorType("i64", (6,)))
    checked = ops.require_range(labels, low=0, high=4, message="labels")
    seen = graphs.state("seen", *shape)
    new = ops.cast(checked, dtype="f32")
    new = ops.reshape(new, shape=shape) if shape != (6,) else new
    return Graph("labelled", (labels, seen), (Output("update", "seen", new),))


@pytest.mark.parametrize("shape", [(6,), (6, 1), (2, 3)])
def test_checks_are_done_before_updates_start(shape) -> None:
    graph, groups = fused(labelled(shape))
    assert len(groups) >= 2
    assert [output.kind for output in graph.outputs] == ["update", "check"]


def test_a_column_that_a_check_reads_stays_out_of_the_update() -> None:
    """The column would fit behind the loops of the sum it meets, but it has to be checked before anything changes."""
    x, c = graphs.data("x", graphs.BATCH, 4), graphs.state("c", 4)
    column = ops.tanh(c)
    wrong = ops.cast(ops.not_equal(column, column), dtype="i64")
    count = ops.reshape(ops.sum(wrong, axes=(0,)), shape=())
    new = ops.sub(column, ops.reshape(ops.sum(x, axes=(0,)), shape=(4,)))
    graph, groups = fused(Graph("guarded", (x, c), (Output("update", "c", new), Output("check", "c is NaN", count))))
    assert len(groups) >= 2


# -- states in place


def states(*names: str, shape: tuple[int, ...] = (4,)) -> tuple[Value, ...]:
    return tuple(graphs.state(name, *shape) for name in names)


def turned(x: Value) -> Value:
    return ops.transpose(x, permutation=(1, 0))


def in_place_cases() -> dict[str, Graph]:
    a, b, c = states("a", "b", "c")
    w, v = states("w", "v", shape=(4, 4))
    x = graphs.data("x", 4)
    column = graphs.state("column", 4, 1)
    row_sums = ops.broadcast(ops.sum(w, axes=(1,)), shape=(4, 4))
    column_sums = ops.broadcast(ops.sum(w, axes=(0,)), shape=(4, 4))
    sum_of_a = ops.reshape(ops.broadcast(ops.sum(a, axes=(0,)), shape=(4,)), shape=(4,))
    graph_of = {
        "swap": ((a, b), {"a": b, "b": a}, {}),
        "swap of computed": ((a, b), {"a": ops.add(b, b), "b": ops.exp(a)}, {}),
        "round of three": ((a, b, c), {"a": b, "b": c, "c": a}, {}),
        "round of three computed": ((a, b, c), {"a": ops.neg(b), "b": ops.exp(c), "c": ops.sin(a)}, {}),
        "old value elsewhere": ((a, b, x), {"a": ops.add(a, x), "b": ops.mul(a, b)}, {"exp": ops.exp(a)}),
        "old value handed out": ((a, x), {"a": ops.add(a, x)}, {"before": a, "after": ops.add(a, x)}),
        "old sum handed out": ((a, x), {"a": ops.add(a, x)}, {"sum": graphs.total(ops.exp(a))}),
        "two states, one value": ((a, b, x), {"a": ops.exp(x), "b": ops.exp(x)}, {}),
        "transposed": ((w,), {"w": turned(w)}, {}),
        "plus its transpose": ((w,), {"w": ops.add(w, turned(w))}, {}),
        "times itself": ((w,), {"w": ops.dot(w, w)}, {}),
        "times another": ((w, v), {"w": ops.dot(v, w), "v": ops.dot(w, v)}, {}),
        "over its row sums": ((w,), {"w": ops.div(w, row_sums)}, {"sums": row_sums}),
        "over its column sums": ((w,), {"w": ops.div(w, column_sums)}, {}),
        "minus its sum": ((a,), {"a": ops.sub(a, sum_of_a)}, {}),
        "power iteration": ((w, column), {"column": ops.dot(w, column)}, {}),
        "unchanged": ((a, b), {"a": a}, {"sum": ops.add(a, b)}),
    }
    return {
        name: Graph(
            "state",
            inputs,
            (
                *(Output("result", key, value) for key, value in results.items()),
                *(Output("update", key, value) for key, value in updates.items()),
            ),
        )
        for name, (inputs, updates, results) in graph_of.items()
    }


CASES = in_place_cases()


@pytest.mark.parametrize("name", CASES)
def test_states_are_read_before_they_are_overwritten(name, rng) -> None:
    graph = CASES[name]
    inputs = {
        value.attrs["name"]: rng.uniform(0.5, 1.5, [evaluate(extent, {}) for extent in value.shape])
        for value in graph.inputs
    }
    assert_runs_right(*fused(graph), inputs)
    plan(run_passes(graph), PANEL)


READ_ELSEWHERE = ("transposed", "plus its transpose", "times itself", "power iteration", "over its column sums")


@pytest.mark.parametrize("name", READ_ELSEWHERE)
def test_what_is_read_at_other_places_is_not_overwritten_in_the_same_nest(name) -> None:
    graph, groups = fused(CASES[name])
    (output,) = graph.of_kind("update")
    (home,) = (group for group in groups if memory_of(output.value) in group.axes)
    (state,) = (value for value in graph.inputs if value.attrs["name"] == output.name)
    reads = {group: [access for _, access in group.reads() if access.root is state] for group in groups}
    assert any(reads.values())
    assert all(home.axes[output.value] == access.axes for access in reads[home])


def test_old_and_new_of_one_step_share_a_nest() -> None:
    _, groups = fused(CASES["old value elsewhere"])
    assert len(groups) == 1


@pytest.mark.parametrize("turned_side", [0, 1])
def test_what_is_read_at_other_places_is_made_in_an_earlier_nest(turned_side, rng) -> None:
    x = graphs.data("x", 4, 4)
    made = ops.tanh(x)
    sides = (turned(made), made) if turned_side == 0 else (made, turned(made))
    graph, groups = fused(Graph("turn", (x,), (Output("result", "out", ops.add(*sides)),)))
    assert len(groups) == 2
    assert_runs_right(graph, groups, {"x": rng.normal(size=(4, 4))})


# -- reductions of broadcasts


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("shape", [(1, 3), (graphs.BATCH, 1), (1, 1)])
def test_a_sum_along_a_broadcast_axis_walks_it(shape, axes, rng) -> None:
    """What is summed has an axis more than what is read; the frame has it too, or the sum would count it once."""
    x, y = graphs.data("x", *shape), graphs.data("y", graphs.BATCH, 3)
    total = ops.sum(ops.broadcast(ops.exp(x), shape=y.shape), axes=axes)
    graph, groups = fused(Graph("copies", (x, y), (Output("result", "out", total), Output("result", "y", ops.exp(y)))))
    home = next(group for group in groups if any(value.op is ops.sum for value in group.axes))
    walked = next(points for value, points in home.points.items() if value.op is ops.sum)
    assert [home.frame[axis] for axis in walked] == [graphs.BATCH, 3]
    inputs = {"x": rng.normal(size=[5 if extent is graphs.BATCH else extent for extent in shape])}
    assert_runs_right(graph, groups, {**inputs, "y": np.zeros((5, 3))})


@pytest.mark.parametrize("axis", [0, 1])
def test_a_sum_of_few_numbers_does_not_join_a_frame_of_many(axis, rng) -> None:
    """exp(m) is used along a whole frame, but summed by itself."""
    shape = tuple(extent if at == axis else 1 for at, extent in enumerate((4, 5, 6)))
    x, m = graphs.data("x", 4, 5, 6), graphs.data("m", *shape)
    powers = ops.exp(m)
    scaled = ops.mul(x, ops.broadcast(powers, shape=x.shape))
    outputs = (Output("result", "scaled", scaled), Output("result", "sum", ops.sum(powers, axes=(axis,))))
    graph, groups = fused(Graph("few", (x, m), outputs))
    assert_runs_right(graph, groups, {"x": rng.normal(size=(4, 5, 6)), "m": rng.normal(size=shape)})


def test_a_column_that_a_sum_reads_is_ready_before_the_sum(rng) -> None:
    """The sum is complete after the loops but reads inside of them, so the column cannot follow the loops with it."""
    x, row = graphs.data("x", graphs.BATCH, 3), graphs.state("row", 1, 3)
    is_negative = ops.less(row, ops.constant(0.0, row))
    chosen = ops.where(graphs.stretch(is_negative, x.shape), x, graphs.stretch(row, x.shape))
    slope = ops.gradient(graphs.total(chosen), row)
    outputs = (Output("result", "out", chosen), Output("result", "slope", slope))
    graph, groups = fused(Graph("columns", (x, row), outputs))
    assert_runs_right(graph, groups, {"x": rng.normal(size=(5, 3)), "row": np.array([[1.0, -1.0, 2.0]])})
    plan(graph, PANEL)


# -- random programs


@settings(max_examples=150, deadline=None, derandomize=True)
@given(random_graphs())
def test_random_graphs_run_group_by_group(text) -> None:
    graph = parse_graph(text)
    assert_runs_right(*fused(graph), arrays(np.random.default_rng(5)))
    plan(run_passes(graph), PANEL)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(random_steps())
def test_random_steps_keep_old_states_until_they_were_read(text) -> None:
    graph = parse_graph(text)
    final, groups = fused(graph)
    assert_runs_right(final, groups, arrays(np.random.default_rng(5)))
    expected = reference.run(graph, arrays(np.random.default_rng(5)), double=True)
    _, found = run_groups(final, groups, arrays(np.random.default_rng(5)))
    for output in graph.of_kind("update"):
        np.testing.assert_allclose(found[output.name], expected[output.name], rtol=1e-6, atol=1e-9)
    plan(run_passes(graph), PANEL)


def test_fusing_twice_gives_the_same_groups() -> None:
    graph = run_passes(graphs.mlp())
    first, second = (fuse(replace(graph))[1] for _ in range(2))
    assert [list(group.axes) for group in first] == [list(group.axes) for group in second]

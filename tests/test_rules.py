"""Every rewrite rule by itself, the tables as wholes, and the naive formulas they are there to make safe."""

from __future__ import annotations

import ast
from itertools import product

import graphs
import numpy as np
import pytest

from graphc.backends import reference
from graphc.ir import ops
from graphc.ir.autodiff import expand_gradients
from graphc.ir.graph import Graph, IRError, Output, Value, in_role
from graphc.ir.guards import GUARDS, holds, number_where
from graphc.ir.passes import run_passes, simplify, stabilise
from graphc.ir.rewrite import Rule, build, match, parse_rule, rebuild, rewriter, rules
from graphc.ir.rules import MACROS, SIMPLIFY, STABILISE
from graphc.ir.text import print_graph
from graphc.ir.types import TensorType
from graphc.ir.verify import verify

ALL = [*STABILISE, *SIMPLIFY]
EDGES = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e-45, 3e38, -1e30, 0.5, 88.0]
BOOLS = {"c", "logical_not(logical_not(x))"}  # names, and rules all of whose names, stand for bools


def each_rule(table: list[Rule]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("rule", table, ids=lambda rule: rule.text)


def left_side(rule: Rule, dtype: str = "f32", shape: tuple[int, ...] = (3, 4)) -> Graph:
    """A graph of the rule's own pattern: every name an input, or what the rule's guard is about, of one shape."""
    inputs: list[Value] = []

    def declare(name: str, kind: str) -> Value:
        inputs.append(graphs.declare(name, "data", TensorType(kind, shape)))
        return inputs[-1]

    bound: dict[str, object] = {}
    for node in ast.walk(rule.pattern):
        if isinstance(node, ast.keyword) and isinstance(node.value, ast.Name):
            bound[node.value.id] = attribute(str(node.arg), dtype, shape)
        if isinstance(node, ast.Starred):
            bound[ast.unparse(node.value)] = (declare("index", "i64"),)
    calls = {node.func.id for node in ast.walk(rule.pattern) if isinstance(node, ast.Call)}
    for node in ast.walk(rule.pattern):
        if isinstance(node, ast.Name) and node.id not in bound and node.id not in calls:
            kind = "bool" if node.id in BOOLS or ast.unparse(rule.pattern) in BOOLS else dtype
            value = declare(node.id, kind)
            formulas = dict(zip(map(ast.unparse, rule.guarded), GUARDED.get(rule.guard, ())))
            bound[node.id] = formulas[node.id](value) if node.id in formulas else value
    like = next((value for value in inputs if value.dtype == dtype), inputs[0])
    whole = build(rule.pattern, bound, like, {"within": lambda inner, c: inner})
    return verify(Graph("rule", tuple(inputs), (Output("result", "out", whole),)))


def attribute(name: str, dtype: str, shape: tuple[int, ...]) -> object:
    """One that leaves the shape as it is."""
    rank = len(shape)
    known = {"axes": (rank - 1,), "shape": shape, "dtype": dtype, "permutation": tuple(range(rank))}
    return {**known, "start": (0,) * rank, "step": (1,) * rank, "places": (*range(rank - 1), -1)}[name]


def sum_of_squares(x: Value) -> Value:
    return ops.sum(ops.mul(x, x), axes=(len(x.shape) - 1,))


def sum_of_powers(x: Value) -> Value:
    return ops.add(ops.exp(x), ops.exp(ops.neg(x)))


# What the guards are about, argument by argument; of plain inputs all the others hold.
GUARDED = {
    **{name: [ops.exp] for name in ("exponential", "one_exponential", "masked_exponential", "overflows")},
    **{name: [ops.exp] for name in ("unshifted_sum", "has_log", "has_sign", "product_has_log", "share_has_log")},
    **{name: [ops.exp, ops.exp] for name in ("positive_pair", "unshifted_pair")},
    "overflowing_share": [ops.exp, sum_of_powers],
    "length": [sum_of_squares],
}


def numbers(graph: Graph, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {value.attrs["name"]: graphs.random_array(value.type, -2.0, 2.0, rng) for value in graph.inputs}


def counting(table: list[Rule]) -> tuple[list[str], object]:
    """A visit function and the list of ops at which it fired; it gives up where it would go on for ever."""
    fired: list[str] = []
    visit = rewriter(table, GUARDS, MACROS)

    def count(value: Value) -> Value | None:
        better = visit(value)
        if better is not None:
            fired.append(value.op.name)
            assert len(fired) < 50, f"the rules go round in circles: {fired[-6:]}"
        return better

    return fired, count


# -- each rule


@each_rule(ALL)
def test_pattern_matches_its_own_left_side(rule) -> None:
    (output,) = left_side(rule).outputs
    found = list(match(rule.pattern, output.value, {}))
    assert found
    assert any(rule.applies(bound, GUARDS) for bound in found)


@each_rule(ALL)
def test_types_are_kept(rule) -> None:
    for dtype in ("f32", "f64"):
        graph = left_side(rule, dtype)
        after = verify(rebuild(graph, rewriter([rule], GUARDS, MACROS)))
        assert after.outputs[0].value.type == graph.outputs[0].value.type
        assert print_graph(after) != print_graph(graph)


@each_rule(ALL)
def test_values_are_kept(rule, rng) -> None:
    """Wherever the left side is finite; where it is not, a rule may know better."""
    graph = left_side(rule, "f64", (20, 30))
    arrays = numbers(graph, rng)
    before = reference.run(graph, arrays)["out"]
    after = reference.run(rebuild(graph, rewriter([rule], GUARDS, MACROS)), arrays)["out"]
    finite = np.isfinite(before)
    assert finite.mean() > 0.3
    np.testing.assert_allclose(after[finite], before[finite], rtol=1e-12, atol=1e-14)


@each_rule(STABILISE)
def test_gradients_are_kept(rule, rng) -> None:
    graph = left_side(rule, "f64", (20, 30))
    arrays = numbers(graph, rng)
    found = []
    for stage in (graph, rebuild(graph, rewriter([rule], GUARDS, MACROS))):
        loss = graphs.total(ops.sin(stage.outputs[0].value))
        wrt = [value for value in stage.inputs if value.dtype == "f64"]
        asked = tuple(Output("result", value.attrs["name"], ops.gradient(loss, value)) for value in wrt)
        found.append(reference.run(expand_gradients(Graph("rule", stage.inputs, asked)), arrays))
    for name, before in found[0].items():
        finite = np.isfinite(before)
        assert finite.mean() > 0.2
        np.testing.assert_allclose(found[1][name][finite], before[finite], rtol=1e-9, atol=1e-12, err_msg=name)


@each_rule(SIMPLIFY)
def test_simplification_is_exact_for_every_float(rule) -> None:
    names = [value for value in left_side(rule).inputs if value.dtype == "f32"]
    grid = np.array(list(product(EDGES, repeat=len(names))), np.float32)
    graph = left_side(rule, shape=(len(grid),))
    arrays = {value.attrs["name"]: grid[:, number] for number, value in enumerate(names)}
    for value in graph.inputs:
        arrays.setdefault(value.attrs["name"], np.arange(len(grid)) % 2 == 0)
    before = reference.run(graph, arrays)["out"]
    after = reference.run(rebuild(graph, rewriter([rule], GUARDS, MACROS)), arrays)["out"]
    np.testing.assert_array_equal(after, before)


def takes(rule: Rule, dtype: str) -> bool:
    try:
        return bool(left_side(rule, dtype))
    except IRError:
        return False


INTEGER_CASES = [(rule, dtype) for rule in SIMPLIFY for dtype in ("i32", "i64", "u8") if takes(rule, dtype)]


@pytest.mark.parametrize(("rule", "dtype"), INTEGER_CASES, ids=lambda part: getattr(part, "text", part))
def test_simplification_is_exact_for_integers(rule, dtype, rng) -> None:
    graph = left_side(rule, dtype)
    low = 0 if dtype == "u8" else -9
    arrays = {value.attrs["name"]: graphs.random_array(value.type, low, 9, rng) for value in graph.inputs}
    after = verify(rebuild(graph, rewriter([rule], GUARDS, MACROS)))
    np.testing.assert_array_equal(reference.run(after, arrays)["out"], reference.run(graph, arrays)["out"])


@each_rule(ALL)
def test_rule_by_itself_ends(rule) -> None:
    fired, visit = counting([rule])
    graph = rebuild(left_side(rule), visit)
    assert fired
    again, visit = counting([rule])
    assert print_graph(rebuild(graph, visit)) == print_graph(graph)
    assert not again


@each_rule(ALL)
def test_table_ends_at_a_fixed_point(rule) -> None:
    table = STABILISE if rule in STABILISE else SIMPLIFY
    fired, visit = counting(table)
    graph = rebuild(left_side(rule), visit)
    again, visit = counting(table)
    assert print_graph(rebuild(graph, visit)) == print_graph(graph)
    assert fired and not again


@each_rule(ALL)
def test_no_rule_is_hidden_by_others(rule) -> None:
    """Without it, its own left side comes out of the whole table otherwise."""
    table = STABILISE if rule in STABILISE else SIMPLIFY
    graph = left_side(rule)
    rest = [other for other in table if other is not rule]
    found = [rebuild(graph, rewriter(part, GUARDS, MACROS)) for part in (table, rest)]
    if rule in STABILISE:  # what comes after it makes -(-x) and x one
        found = [simplify(graph) for graph in found]
    assert print_graph(found[0]) != print_graph(found[1])


# -- how rules are read


def test_tables_have_comments_and_no_twins() -> None:
    table = rules("# nothing but\n  x + 0 => x  # a comment\n\n  x - 0 => x\n")
    assert [rule.text for rule in table] == ["x + 0 => x", "x - 0 => x"]
    patterns = [ast.unparse(rule.pattern) for rule in ALL]
    assert len(set(patterns)) == len(patterns)


def test_a_comment_is_the_reason_for_the_rules_below_it() -> None:
    table = rules("# one\nx + 0 => x\nx - 0 => x  # two\n# three\nx * 1 => x if signed(x)\n")
    assert [rule.reason for rule in table] == ["one", "two", "three"]
    assert all(rule.reason for rule in STABILISE)


def test_the_rest_of_the_operands() -> None:
    x, i, j = graphs.data("x", 3, 4), *(graphs.declare(name, "data", TensorType("i64", (5,))) for name in "ij")
    graph = Graph("rest", (x, i, j), (Output("result", "out", ops.exp(ops.gather(x, i, j, places=(-1, -2)))),))
    swapped = rebuild(graph, rewriter(rules("exp(gather(x, *i, places=p)) => gather(exp(x), *i, places=p)"), {}, {}))
    gather = swapped.outputs[0].value
    assert gather.op is ops.gather and gather.operands[0].op is ops.exp and gather.operands[1:] == (i, j)


def test_within_ends_at_what_the_condition_tests_and_at_the_second_choice() -> None:
    x = graphs.data("x", 3)
    zero, tested = ops.constant(0.0, x), ops.sqrt(ops.sqrt(x))
    c, other = ops.less(zero, tested), ops.less(x, zero)
    rule = parse_rule("where(c, within(sqrt(x), c), y) => where(c, within(exp(x), c), y)")

    def places(branch: Value) -> list[Value]:
        return [bound["within"][1] for bound in match(rule.pattern, ops.where(c, branch, zero), {})]

    outer, root = ops.sqrt(ops.add(tested, zero)), ops.sqrt(zero)
    assert places(ops.exp(outer)) == [outer, tested]
    assert places(ops.where(other, root, x)) == [root]
    assert places(ops.where(other, x, ops.where(other, root, x))) == []
    assert places(ops.stop_gradient(root)) == [] and places(ops.neg(ops.neg(root))) == [root]


def test_a_condition_tells_of_another() -> None:
    x, y = graphs.data("x", 3), graphs.data("y", 3)
    c, d = ops.less(x, y), ops.equal(x, y)
    assert holds(c, c, True) is True and holds(c, c, False) is False
    assert holds(ops.less_equal(y, x), c, True) is False and holds(ops.less_equal(y, x), c, False) is True
    assert holds(ops.not_equal(y, x), d, True) is None and holds(ops.not_equal(x, y), d, True) is False
    assert holds(ops.logical_or(c, d), c, True) is True and holds(ops.logical_or(c, d), c, False) is None
    assert holds(ops.logical_and(c, d), c, False) is False and holds(ops.logical_not(c), c, True) is False


def test_the_number_a_value_is_where_a_condition_does_not_hold() -> None:
    x = graphs.data("x", 3)
    c, two = ops.less(x, ops.constant(1.0, x)), ops.constant(2.0, x)
    kept = ops.where(c, x, two)
    assert number_where(kept, c, False) == 2 and number_where(kept, c, True) is None
    assert number_where(ops.sqrt(ops.mul(kept, two)), c, False) == 2 and number_where(x, c, False) is None
    assert number_where(ops.where(ops.less(x, two), kept, two), c, False) == 2


def test_commutative_operands_match_in_either_order() -> None:
    x = graphs.data("x", 3)
    for value in (ops.add(x, ops.constant(0.0, x)), ops.add(ops.constant(0.0, x), x)):
        assert rebuild(Graph("sum", (x,), (Output("result", "out", value),)), visit_all).outputs[0].value is x
    kept = Graph("difference", (x,), (Output("result", "out", ops.sub(ops.constant(1.0, x), x)),))
    assert rebuild(kept, visit_all).outputs[0].value.op is ops.sub


visit_all = rewriter(SIMPLIFY, GUARDS, MACROS)


def test_one_name_stands_for_one_value() -> None:
    x, y = graphs.data("x", 3), graphs.data("y", 3)
    rule = parse_rule("x - x => x")
    assert list(match(rule.pattern, ops.sub(x, x), {}))
    assert not list(match(rule.pattern, ops.sub(x, y), {}))


def test_attributes_must_agree() -> None:
    x = graphs.data("x", 3, 1)
    rule = parse_rule("dot(sum(x, axes=a), max(x, axes=a)) => x")
    sums = ops.sum(x, axes=(0,))
    assert list(match(rule.pattern, ops.dot(sums, ops.max(x, axes=(0,))), {}))
    assert not list(match(rule.pattern, ops.dot(sums, ops.max(x, axes=(0, 1))), {}))


def test_a_rule_that_changes_the_type_is_refused() -> None:
    x = graphs.data("x", 3)
    graph = Graph("compare", (x,), (Output("result", "out", ops.exp(x)),))
    with pytest.raises(IRError, match=r"rewriting changed exp from f32\[3\] to bool\[3\]"):
        rebuild(graph, rewriter(rules("exp(x) => less(x, x)"), {}, {}))


@pytest.mark.parametrize("line", ["x => y", "x ** 2 => x", "3 => x"])
def test_what_is_no_pattern_is_refused(line) -> None:
    with pytest.raises((IRError, KeyError)):
        parse_rule(line)


# -- naive formulas


def run_naive(formula, x: list[float], by: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """formula(x) and d sum(formula(x)) / dx in f32, after all passes."""
    value = graphs.data("x", len(x))
    result = formula(value)
    outputs = (Output("result", "out", result), Output("result", "slope", ops.gradient(graphs.total(result), value)))
    found = reference.run(run_passes(Graph("naive", (value,), outputs)), {"x": np.float32(x)})
    return found["out"], found["slope"]


def one(x: Value) -> Value:
    return ops.constant(1.0, x)


def logistic(x: Value) -> Value:
    return ops.div(one(x), ops.add(one(x), ops.exp(ops.neg(x))))


def naive_softmax(x: Value) -> Value:
    powers = ops.exp(x)
    return ops.div(powers, graphs.stretch(graphs.total(powers), x.shape))


def test_log_of_one_plus_exp() -> None:
    out, slope = run_naive(lambda x: ops.log(ops.add(one(x), ops.exp(x))), [1000, -1000, 0, 3])
    np.testing.assert_allclose(out, [1000, 0, np.log(2), np.log1p(np.exp(3))], rtol=1e-6)
    np.testing.assert_allclose(slope, [1, 0, 0.5, 1 / (1 + np.exp(-3))], rtol=1e-6)


def test_log_of_the_logistic_function() -> None:
    out, slope = run_naive(lambda x: ops.log(logistic(x)), [-1000, 1000, 0])
    np.testing.assert_allclose(out, [-1000, 0, -np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(slope, [1, 0, 0.5], rtol=1e-6)


def test_logistic_function() -> None:
    for formula in (logistic, lambda x: ops.div(ops.exp(x), ops.add(ops.exp(x), one(x)))):
        out, slope = run_naive(formula, [-1000, 1000, 0, 90])
        np.testing.assert_allclose(out, [0, 1, 0.5, 1], rtol=1e-6)
        np.testing.assert_allclose(slope, [0, 0, 0.25, 0], atol=1e-30)


def test_log_of_softmax() -> None:
    out, slope = run_naive(lambda x: ops.log(naive_softmax(x)), [0, 1000])
    np.testing.assert_allclose(out, [-1000, 0])
    np.testing.assert_allclose(slope, [1, -1])


def test_softmax_of_large_numbers() -> None:
    out, slope = run_naive(lambda x: ops.mul(naive_softmax(x), x), [1000, 1000, -1000])
    np.testing.assert_allclose(out, [500, 500, 0])
    np.testing.assert_allclose(slope, [0.5, 0.5, 0], atol=1e-4)


@pytest.mark.parametrize("keeps_axis", [True, False])
def test_log_softmax_of_rows(keeps_axis) -> None:
    """As written with NumPy: z - log(sum(exp(z), axis=1)), the summed axis kept or put back by hand."""
    z = graphs.data("z", 2, 3)
    scale = ops.sum(ops.exp(z), axes=(1,))
    scale = ops.log(scale) if keeps_axis else ops.reshape(ops.log(ops.reshape(scale, shape=(2,))), shape=(2, 1))
    logs = ops.sub(z, ops.broadcast(scale, shape=(2, 3)))
    outputs = (Output("result", "out", logs), Output("result", "slope", ops.gradient(graphs.total(logs), z)))
    arrays = {"z": np.float32([[0, 1000, 1000], [-1000, -2000, -3000]])}
    found = reference.run(run_passes(Graph("rows", (z,), outputs)), arrays)
    expected = [[-1000 - np.log(2), -np.log(2), -np.log(2)], [0, -1000, -2000]]
    np.testing.assert_allclose(found["out"], expected, atol=1e-4)  # f32 at 1000 has steps of 6e-5
    np.testing.assert_allclose(found["slope"], [[1, -0.5, -0.5], [-2, 1, 1]], rtol=1e-6)


def test_logsumexp_of_infinite_numbers() -> None:
    for row, expected in (([-np.inf, -np.inf], -np.inf), ([np.inf, 0.0], np.inf), ([-np.inf, 3.0], 3.0)):
        x = graphs.data("x", 2)
        scale = ops.log(graphs.total(ops.exp(x)))
        found = reference.run(run_passes(Graph("infinite", (x,), (Output("result", "out", scale),))), {"x": row})
        assert found["out"] == expected


def test_binary_cross_entropy_of_probabilities() -> None:
    """-(t log p + (1 - t) log(1 - p)) for p = sigmoid(z)."""

    def loss(z: Value) -> Value:
        p, target = ops.sigmoid(z), ops.cast(ops.less(ops.iota(axis=0, type=z.type), ops.constant(2.0, z)), dtype="f32")
        wrong = ops.mul(ops.sub(one(z), target), ops.log(ops.sub(one(z), p)))
        return ops.neg(ops.add(ops.mul(target, ops.log(p)), wrong))

    out, slope = run_naive(loss, [-1000, 1000, -1000, 1000, 0])
    np.testing.assert_allclose(out, [1000, 0, 0, 1000, np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(slope, [-1, 0, 0, 1, 0.5], rtol=1e-6)


BRANCHES = {
    "sqrt": lambda u: ops.sqrt(u),
    "log": lambda u: ops.log(u),
    "reciprocal": lambda u: ops.div(ops.constant(1.0, u), u),
}
SLOPES = {"sqrt": [0.5, 0, 0], "log": [0.5, 0, 0], "reciprocal": [-0.125, 0, 0]}


@pytest.mark.parametrize("name", BRANCHES)
@pytest.mark.parametrize("other_way", [False, True])
def test_where_guards_the_gradient_too(name, other_way) -> None:
    """where(2w > 0, f(2w), 0) at w = 2, 0, 0; also with the branches the other way round."""

    def formula(w: Value) -> Value:
        u, zero = ops.mul(ops.constant(2.0, w), w), ops.constant(0.0, w)
        if other_way:
            return ops.where(ops.less_equal(u, zero), zero, BRANCHES[name](u))
        return ops.where(ops.less(zero, u), BRANCHES[name](u), zero)

    out, slope = run_naive(formula, [2, 0, -0.0])
    np.testing.assert_allclose(out, [GUARDED_VALUES[name], 0, 0], rtol=1e-6)
    np.testing.assert_allclose(slope, SLOPES[name], rtol=1e-6)


GUARDED_VALUES = {"sqrt": 2.0, "log": np.log(4.0), "reciprocal": 0.25}


def test_a_where_of_another_condition_guards_nothing() -> None:
    """where(w > 0, sqrt(where(w < 3, w, 3)), 0): the inner one keeps 0 in."""

    def formula(w: Value) -> Value:
        three, zero = ops.constant(3.0, w), ops.constant(0.0, w)
        return ops.where(ops.less(zero, w), ops.sqrt(ops.where(ops.less(w, three), w, three)), zero)

    out, slope = run_naive(formula, [0, 1, 4])
    np.testing.assert_allclose(out, [0, 1, np.sqrt(3)], rtol=1e-6)
    np.testing.assert_allclose(slope, [0, 0.5, 0])


def test_small_numbers_keep_their_digits() -> None:
    tiny = [1e-10, -1e-10]
    out, slope = run_naive(lambda x: ops.log(ops.add(one(x), x)), tiny)
    np.testing.assert_allclose([out, slope], [tiny, [1, 1]], rtol=1e-6)
    out, slope = run_naive(lambda x: ops.log(ops.sub(one(x), x)), tiny)
    np.testing.assert_allclose([out, slope], [[-1e-10, 1e-10], [-1, -1]], rtol=1e-6)
    out, slope = run_naive(lambda x: ops.sub(ops.exp(x), one(x)), tiny)
    np.testing.assert_allclose([out, slope], [tiny, [1, 1]], rtol=1e-6)


def test_safe_formulas_stay_as_they_are() -> None:
    logits = graphs.data("z", 3, 4)
    graph = Graph("safe", (logits,), (Output("result", "out", graphs.log_softmax(logits)),))
    assert print_graph(stabilise(graph)) == print_graph(graph)


@pytest.mark.parametrize("name", [*BRANCHES, "sinh"])
def test_what_an_optimizer_computes_needs_no_safe_slopes(name) -> None:
    state = graphs.state("w", 4)
    with in_role("update"):
        zero = ops.constant(0.0, state)
        inner = ops.where(ops.less(zero, state), {**BRANCHES, "sinh": ops.sinh}[name](state), zero)
        length = ops.sqrt(ops.sum(ops.mul(state, state), axes=(0,)))
        new = ops.add(inner, graphs.stretch(length, (4,)))
    graph = Graph("update", (state,), (Output("update", "w", new),))
    assert print_graph(stabilise(graph)) == print_graph(graph)

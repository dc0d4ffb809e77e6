"""Every op of the table: its record, its type rule against its NumPy meaning, its scalar source, its errors."""

from __future__ import annotations

import re
from dataclasses import replace

import graphs
import numpy as np
import pytest

from graphc.backends import maths
from graphc.ir import ops
from graphc.ir.graph import Graph, IRError, Output
from graphc.ir.ops import OPS
from graphc.ir.ops.record import KINDS, define
from graphc.ir.text import parse_graph, parse_type, print_graph
from graphc.ir.types import DTYPES, Dim, TensorType, multiply
from graphc.ir.verify import verify

SAMPLES = [
    pytest.param(op, sample, id=f"{op.name}-{number}")
    for op in OPS.values()
    for number, sample in enumerate(op.samples)
]
COMPUTED = [case for case in SAMPLES if case.values[0].numpy is not None]
SCALAR = [case for case in SAMPLES if case.values[0].kind == "elementwise"]
VECTOR = TensorType("f32", (3,))


def sample_graph(op, sample) -> Graph:
    types = [parse_type(text, {}) for text in sample.operands]
    operands = tuple(graphs.declare(f"x{number}", "data", kind) for number, kind in enumerate(types))
    value = op(*operands, **sample.attrs)
    inputs = (value,) if op is ops.input else operands
    return Graph("sample", inputs, (Output("result", "out", value),))


def sample_arrays(sample, rng) -> list[np.ndarray]:
    return [graphs.random_array(parse_type(text, {}), sample.low, sample.high, rng) for text in sample.operands]


# -- records


# Those of which tests/test_loop.py, test_derivatives.py and test_cuda_attention.py have samples.
ELSEWHERE = {"loop", "part", "custom", "normaliser", "attend", "tiles"}


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.name not in ELSEWHERE], ids=lambda op: op.name)
def test_record_is_whole(op) -> None:
    assert op.samples, f"{op.name} has no samples: no test would see it"
    assert op.kind in KINDS
    assert op.name.isidentifier() and OPS[op.name] is op and getattr(ops, op.name) is op
    assert op.cost >= 1
    assert (op.scalar != "") == (op.kind in ("elementwise", "reduce"))
    assert len({len(sample.operands) for sample in op.samples}) == 1 or op.kind in ("gather", "scatter")


def test_every_op_is_gathered() -> None:
    assert set(OPS) <= set(ops.__all__)


def test_a_name_is_declared_once() -> None:
    with pytest.raises(IRError, match="already defined"):
        define("add", "elementwise", infer=ops.add.infer, numpy=np.add, samples=())
    with pytest.raises(IRError, match="no known kind"):
        define("weld", "glue", infer=ops.add.infer, numpy=np.add, samples=())
    assert "weld" not in OPS


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.commutes], ids=lambda op: op.name)
def test_commuting_operands_may_be_swapped(op, rng) -> None:
    for sample in op.samples:
        a, b = sample_arrays(sample, rng)
        np.testing.assert_array_equal(op.numpy(a, b), op.numpy(b, a))


# -- types and meaning


@pytest.mark.parametrize(("op", "sample"), COMPUTED)
def test_type_rule_is_numpy_shape_and_dtype(op, sample, rng) -> None:
    value = sample_graph(op, sample).outputs[0].value
    result = np.asarray(op.numpy(*sample_arrays(sample, rng), **sample.attrs))
    assert result.shape == value.shape
    assert result.dtype == DTYPES[value.dtype]


@pytest.mark.parametrize(("op", "sample"), SAMPLES)
def test_sample_prints_and_parses_back(op, sample) -> None:
    graph = verify(sample_graph(op, sample))
    again = verify(parse_graph(print_graph(graph)))
    assert print_graph(again) == print_graph(graph)
    assert [value.op for value in again.values()] == [value.op for value in graph.values()]
    assert [value.type for value in again.values()] == [value.type for value in graph.values()]
    assert [value.attrs for value in again.values()] == [value.attrs for value in graph.values()]


KERNEL_WORDS = {
    **{name: getattr(np, name) for name in ("sqrt", "floor", "ceil", "rint", "trunc")},
    **{name: OPS[name].numpy for name in ("maximum", "minimum", "absolute", *maths.FUNCTIONS) if name in OPS},
    **{f"as_{name}": lambda x, dtype=dtype: np.asarray(x).astype(dtype) for name, dtype in DTYPES.items()},
    "select": np.where,
    "random_bits": ops.random_bits.numpy,
}


@pytest.mark.parametrize(("op", "sample"), SCALAR)
def test_scalar_source_is_the_numpy_meaning(op, sample, rng) -> None:
    arrays = sample_arrays(sample, rng)
    places = set(map(int, re.findall(r"{(\d)}", op.scalar)))
    assert places == set(range(len(arrays)))
    names = {"zero": "zero", "one": "one", "dtype": sample.attrs.get("dtype", "")}
    source = op.scalar.format(*(f"x{number}" for number in range(len(arrays))), **names)
    words = {f"x{number}": array for number, array in enumerate(arrays)}
    words |= {"zero": arrays[0].dtype.type(0), "one": arrays[0].dtype.type(1)}
    found = eval(source, {**KERNEL_WORDS, **words})
    np.testing.assert_allclose(found, op.numpy(*arrays, **sample.attrs), rtol=1e-6)


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.kind == "reduce"], ids=lambda op: op.name)
def test_scalar_source_of_a_reduction_combines_two_numbers(op) -> None:
    words = {"a": np.float32(1.5), "b": np.float32(-2.0)}
    found = eval(op.scalar.format("a", "b"), {**KERNEL_WORDS, **words})
    assert found == op.numpy(np.array(list(words.values())), axes=(0,)).item()


def test_values_at_the_edges() -> None:
    edges = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 200.0, -200.0], np.float32)
    with np.errstate(all="ignore"):
        meaning = {name: OPS[name].numpy(edges) for name in ("relu", "sign", "sigmoid", "softplus", "absolute")}
    np.testing.assert_array_equal(meaning["relu"], [np.nan, np.inf, 0, 0, 0, 200, 0])
    np.testing.assert_array_equal(meaning["sign"], [np.nan, 1, -1, 0, 0, 1, -1])
    np.testing.assert_array_equal(meaning["sigmoid"], np.float32([np.nan, 1, 0, 0.5, 0.5, 1, np.exp(-200)]))
    np.testing.assert_array_equal(meaning["softplus"][[0, 1, 2, 5]], [np.nan, np.inf, 0, 200])
    assert np.isnan(ops.maximum.numpy(edges[:1], edges[1:2])) and np.isnan(ops.min.numpy(edges, axes=(0,)))


def test_integer_sums_keep_their_dtype() -> None:
    assert ops.sum.numpy(np.ones((2, 3), np.int32), axes=(0, 1)).dtype == np.int32
    assert ops.prod.numpy(np.ones((2, 3), np.uint8), axes=(1,)).dtype == np.uint8


# -- wrong types


@pytest.mark.parametrize("op", [op for op in OPS.values() if op.kind == "elementwise"], ids=lambda op: op.name)
def test_elementwise_operands_have_one_shape(op) -> None:
    sample = op.samples[0]
    operands = [graphs.declare("x", "data", parse_type(text, {})) for text in sample.operands]
    other = graphs.declare("other", "data", operands[-1].type.with_shape((2, 3, 4)))
    if len(operands) > 1:
        with pytest.raises(IRError, match=rf"^{op.name}\("):
            op(*operands[:-1], other, **sample.attrs)
    with pytest.raises((IRError, TypeError)):
        op(*operands, other, **sample.attrs)


WRONG = {
    "f32": [
        *((name, 2) for name in ("logical_and", "logical_or", "bit_and", "bit_or", "bit_xor")),
        *((name, 2) for name in ("quotient", "shift_left", "shift_right")),
        *((name, 1) for name in ("logical_not", "bit_not")),
    ],
    "i64": [
        *((name, 2) for name in ("div", "pow", "fmod", "atan2")),
        *((name, 1) for name in ("exp2", "log2", "log10", "tan", "asin", "acos", "atan", "erf")),
        *((name, 1) for name in ("sinh", "cosh", "asinh", "acosh", "atanh", "ceil", "trunc", "rint")),
        *((name, 1) for name in ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos", "relu", "floor")),
        *((name, 1) for name in ("sigmoid", "softplus", "stop_gradient")),
    ],
    "u8": [("neg", 1), ("absolute", 1), ("sign", 1)],
    "bool": [
        *((name, 2) for name in ("add", "sub", "mul", "maximum", "minimum")),
        *((name, 2) for name in ("less", "less_equal", "equal", "not_equal")),
    ],
}


@pytest.mark.parametrize(
    ("name", "count", "dtype"), [(name, count, dtype) for dtype, cases in WRONG.items() for name, count in cases]
)
def test_elementwise_dtype_is_checked(name, count, dtype) -> None:
    x = graphs.declare("x", "data", TensorType(dtype, (3,)))
    with pytest.raises(IRError, match=rf"{name}\({dtype}\[3\].*dtype {dtype} is not one of"):
        OPS[name](*(x,) * count)


def wrong_calls():
    """(op, operand types, attributes, what the error says) of every rule that is an op's own."""
    square = TensorType("f32", (3, 4))
    yield ops.where, ("f32[3]", "f32[3]", "f32[3]"), {}, "needs bool"
    yield ops.where, ("bool[3]", "f32[3]", "i64[3]"), {}, "needs bool"
    yield ops.cast, ("f32[3]",), {"dtype": "f16"}, "'f16' is not one of"
    yield ops.require_range, ("f32[3]",), {"low": 0, "high": 1, "message": "m"}, "only integers"
    for reduction in (ops.sum, ops.prod, ops.max, ops.min):
        yield reduction, ("f32[3]",), {"axes": (1,)}, "do not fit"
        yield reduction, ("f32[3]",), {"axes": (-1,)}, "do not fit"
        yield reduction, ("f32[3]",), {"axes": (0, 0)}, "do not fit"
        yield reduction, ("bool[3]",), {"axes": (0,)}, "cast it first"
    yield ops.broadcast, ("f32[3]",), {"shape": (4, 3)}, "only axes of size 1 stretch"
    yield ops.broadcast, ("f32[3]",), {"shape": (1,)}, "only axes of size 1 stretch"
    yield ops.reshape, ("f32[3,4]",), {"shape": (6,)}, "12 elements"
    yield ops.reshape, ("f32[batch,4]",), {"shape": (4, 4)}, r"4\*batch elements"
    yield ops.transpose, ("f32[3,4]",), {"permutation": (0,)}, "is not an order"
    yield ops.transpose, ("f32[3,4]",), {"permutation": (1, 1)}, "is not an order"
    yield ops.slice, ("f32[5]",), {"start": (2,), "step": (1,), "shape": (4,)}, "leave axis 0"
    yield ops.slice, ("f32[5]",), {"start": (2,), "step": (-1,), "shape": (4,)}, "leave axis 0"
    yield ops.slice, ("f32[5]",), {"start": (), "step": (1,), "shape": (4,)}, "one entry for each"
    yield ops.pad, ("f32[5]",), {"start": (0, 0), "shape": (4,)}, "one entry for each"
    wide = {"axes": (0,), "size": (6,), "stride": (1,), "dilation": (1,)}
    yield ops.window, ("f32[5]",), wide, "is longer than axis 0"
    yield ops.window, ("f32[5]",), {"axes": (1,), "size": (2,), "stride": (1,), "dilation": (1,)}, "do not fit axes"
    symbolic = {"axes": (0,), "size": (1,), "stride": (2,), "dilation": (1,)}
    yield ops.window, ("f32[batch]",), symbolic, "do not divide the symbolic"
    yield ops.gather, ("f32[5]", "i32[3]"), {"places": (-1,)}, "i64 indices"
    yield ops.gather, ("f32[5,4]", "i64[3]"), {"places": (-1,)}, "do not name an axis"
    yield ops.gather, ("f32[5,4]", "i64[3]"), {"places": (-1, 0)}, "does not follow axis 0"
    yield ops.scatter, ("f32[3]", "i64[4]"), {"places": (-1,), "shape": (5,)}, "an index for each of the values"
    yield ops.scatter, ("bool[3]", "i64[3]"), {"places": (-1,), "shape": (5,)}, "cast it first"
    for sweep in (ops.cumsum, ops.argsort):
        yield sweep, ("f32[5]",), {"axis": 1, "reverse": False}, "axis 1 is outside"
        yield sweep, ("bool[5]",), {"axis": 0, "reverse": False}, "cast it first"
    yield ops.join, ("f32[3,4]", "f32[3,4]"), {"axis": 2}, "axis 2 is outside"
    yield ops.join, ("f32[3,4]", "f32[2,5]"), {"axis": 0}, "do not agree but in axis 0"
    yield ops.join, ("f32[3,4]", "f64[2,4]"), {"axis": 0}, "do not agree but in axis 0"
    yield ops.random_bits, ("i64[5]", "i64[5]", "i64[5]", "i32[5]"), {}, "four i64 operands"
    yield ops.dot, ("f32[3]", "f32[3,4]"), {}, "two matrices"
    yield ops.dot, ("f32[2,3,4]", "f32[4,5]"), {}, "two matrices"
    yield ops.dot, ("f32[2,3]", "f32[4,5]"), {}, "inner sizes 3 and 4 differ"
    yield ops.dot, ("f32[2,3]", "f64[3,5]"), {}, "one float dtype"
    yield ops.dot, ("i64[2,3]", "i64[3,5]"), {}, "one float dtype"
    yield ops.gradient, ("f32[3]", "f32[3]"), {}, "must have one element"
    yield ops.gradient, ("f32[]", "i64[3]"), {}, "only floats have gradients"
    yield ops.gradient, ("i64[]", "f32[3]"), {}, "only floats have gradients"
    yield ops.input, (), {"name": "x", "role": "weight", "type": square}, "roles are"
    yield ops.full, (), {"value": np.float32(1), "type": square}, "must be a Python number"
    yield ops.full, (), {"value": -1, "type": TensorType("u8", ())}, "u8 cannot hold"
    yield ops.full, (), {"value": 1.5, "type": TensorType("i64", ())}, "i64 cannot hold"
    yield ops.full, (), {"value": float("nan"), "type": TensorType("i32", ())}, "i32 cannot hold"
    yield ops.full, (), {"value": 2, "type": TensorType("bool", ())}, "bool cannot hold"
    yield ops.size, (), {"extent": 3, "type": VECTOR}, "one number"
    yield ops.iota, (), {"axis": 2, "type": square}, "axis 2 is outside"


@pytest.mark.parametrize(("op", "operands", "attrs", "message"), list(wrong_calls()))
def test_wrong_call_says_what_is_wrong(op, operands, attrs, message) -> None:
    values = [graphs.declare("x", "data", parse_type(text, {"batch": graphs.BATCH})) for text in operands]
    with pytest.raises(IRError, match=message) as caught:
        op(*values, **attrs)
    assert str(caught.value).startswith(f"{op.name}({', '.join(operands)}): ")


def test_every_op_has_a_wrong_call() -> None:
    anything_goes = {"copy"}
    own_rules = {op.name for op, *_ in wrong_calls()}
    by_dtype = {name for cases in WRONG.values() for name, _ in cases}
    assert own_rules | by_dtype | anything_goes | ELSEWHERE == set(OPS)


def test_constants_that_fit() -> None:
    for dtype, number in (("i64", 3.0), ("u8", 255), ("bool", True), ("bool", 0.0), ("f32", float("nan")), ("f32", 7)):
        assert ops.full(value=number, type=TensorType(dtype, (2,))).dtype == dtype


def test_symbolic_extents_follow_the_rules() -> None:
    batch, time = Dim("batch", 8), Dim("time", 5)
    x = graphs.data("x", batch, time, 3)
    flat = ops.reshape(x, shape=(multiply(batch, time), 3))
    assert str(ops.dot(flat, graphs.data("w", 3, 4)).type) == "f32[batch*time,4]"
    assert str(ops.sum(x, axes=(0, 2)).type) == "f32[1,time,1]"
    assert str(ops.transpose(x, permutation=(2, 0, 1)).type) == "f32[3,batch,time]"
    with pytest.raises(IRError, match="inner sizes 3 and batch differ"):
        ops.dot(flat, graphs.data("y", batch, 4))
    with pytest.raises(IRError, match="one type"):
        ops.add(x, graphs.data("z", Dim("batch", 9), time, 3))


def test_a_value_is_equal_to_itself_alone() -> None:
    x = graphs.data("x", 3)
    one, other = ops.exp(x), ops.exp(x)
    assert one != other and one == one and one.key() == other.key()
    assert replace(one) != one
    assert ops.constant(0.0, x).key() != ops.constant(-0.0, x).key()

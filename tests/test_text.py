"""The printed graph parses back to the same graph, and bad text is an error that names its line."""

from __future__ import annotations

import math

import graphs
import pytest

from graphc.ir import ops
from graphc.ir.graph import Graph, IRError, Output
from graphc.ir.passes import PIPELINE, run_passes
from graphc.ir.text import parse_graph, print_graph
from graphc.ir.types import Dim, TensorType, multiply
from graphc.ir.verify import verify

SQUARE = """\
graph square(batch<=256; data x: f32[batch,3]; state w: f32[3]) {
  %0: f32[1,3] = reshape(%w, shape=(1, 3,))
  %1: f32[batch,3] = broadcast(%0, shape=(batch, 3,))
  %2: f32[batch,3] = mul(%x, %1)
  %3: f32[1,1] = sum(%2, axes=(0, 1,))
  %4: f32[] = reshape(%3, shape=())
  result loss = %4
}
"""


def round_trip(graph: Graph) -> Graph:
    """The graph read from its own text; both texts are the same."""
    again = verify(parse_graph(print_graph(graph)))
    assert print_graph(again) == print_graph(graph)
    return again


def test_text_is_what_the_ops_say() -> None:
    x, w = graphs.data("x", graphs.BATCH, 3), graphs.state("w", 3)
    loss = graphs.total(ops.mul(x, graphs.stretch(w, x.shape)))
    graph = Graph("square", (x, w), (Output("result", "loss", loss),))
    assert print_graph(graph) == SQUARE


def test_parsed_graph_is_the_written_one() -> None:
    graph = verify(parse_graph(SQUARE))
    assert graph.name == "square"
    assert [(value.attrs["role"], value.attrs["name"]) for value in graph.inputs] == [("data", "x"), ("state", "w")]
    assert [value.op for value in graph.values()] == [
        ops.input, ops.input, ops.reshape, ops.broadcast, ops.mul, ops.sum, ops.reshape,
    ]  # fmt: skip
    assert graph.dims == (Dim("batch", 256),)
    assert [(output.kind, output.name, str(output.value.type)) for output in graph.outputs] == [
        ("result", "loss", "f32[]")
    ]


@pytest.mark.parametrize("program", graphs.PROGRAMS, ids=lambda program: program.__name__)
def test_every_stage_of_a_program_goes_both_ways(program) -> None:
    stages: list[Graph] = []
    run_passes(program(), watch=lambda name, graph: stages.append(graph))
    assert len(stages) == len(PIPELINE) + 1
    for stage in stages:
        round_trip(stage)


@pytest.mark.parametrize("number", [0.1, -0.0, 1e-45, 3.4e38, -7.0, math.inf, -math.inf, math.nan, 2**-1074], ids=repr)
def test_every_float_keeps_its_bits(number) -> None:
    value = ops.full(value=number, type=TensorType("f64", (2,)))
    again = round_trip(Graph("constant", (), (Output("result", "out", value),))).outputs[0].value
    assert repr(again.attrs["value"]) == repr(number)


@pytest.mark.parametrize(("dtype", "number"), [("i64", -(2**63)), ("u8", 255), ("bool", True), ("bool", False)])
def test_other_constants_keep_their_type(dtype, number) -> None:
    value = ops.full(value=number, type=TensorType(dtype, ()))
    again = round_trip(Graph("constant", (), (Output("result", "out", value),))).outputs[0].value
    assert again.attrs["value"] == number and type(again.attrs["value"]) is type(number)


@pytest.mark.parametrize("message", ["labels", 'it\'s, "so" (to say)', "x, %0, %x = 3; a=b", "%x: i64[] = y", "größer"])
def test_messages_may_hold_any_text(message) -> None:
    labels = graphs.declare("y", "data", TensorType("i64", (4,)))
    value = ops.require_range(labels, low=-1, high=4, message=message)
    again = round_trip(Graph("checked", (labels,), (Output("result", "out", value),))).outputs[0].value
    assert again.attrs == {"low": -1, "high": 4, "message": message}


def test_check_names_may_hold_spaces_and_signs() -> None:
    x = graphs.declare("x", "data", TensorType("i64", ()))
    again = round_trip(Graph("checked", (x,), (Output("check", "loss = %0 is not finite", x),)))
    assert again.outputs[0].name == "loss = %0 is not finite"


def test_dims_of_sizes_and_products() -> None:
    batch, time = Dim("batch", 8), Dim("time", 5)
    x = graphs.data("x", batch, time, 3)
    flat = ops.reshape(x, shape=(multiply(3, batch, time),))
    count = ops.size(extent=multiply(3, batch, time), type=graphs.floats())
    graph = Graph("flat", (x,), (Output("result", "flat", flat), Output("result", "count", count)))
    assert "graph flat(batch<=8, time<=5; data x: f32[batch,time,3])" in print_graph(graph)
    again = round_trip(graph)
    assert again.outputs[0].value.shape == flat.shape
    assert again.outputs[1].value.attrs["extent"] == multiply(3, batch, time)


def test_a_graph_of_nothing_but_an_input() -> None:
    x = graphs.data("x", 3)
    again = round_trip(Graph("same", (x,), (Output("result", "x", x),)))
    assert again.outputs[0].value is again.inputs[0]


def test_inputs_that_nothing_reads_stay() -> None:
    graph = Graph("unread", (graphs.data("x", 3), graphs.state("w", 2)), ())
    assert [value.attrs["name"] for value in round_trip(graph).inputs] == ["x", "w"]


LINE = "  %0: f32[3] = neg(%x)"
SMALL = f"graph small(; data x: f32[3]) {{\n{LINE}\n  result out = %0\n}}\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("graph small(", "small(", "expected `graph name"),
        ("}\n", "\n", "closing brace"),
        ("data x: f32[3]", "model x: f32[3]", "expected `role name: type`, got 'model x"),
        ("neg(%x)", "negate(%x)", "line 2: nothing is called 'negate'"),
        ("neg(%x)", "neg(%y)", "line 2: nothing is called 'y'"),
        ("neg(%x)", "neg(%x, %x)", r"line 2: neg\(f32\[3\], f32\[3\]\): got 2 operands but takes 1"),
        ("neg(%x)", "neg(%x, axes=(0,))", "line 2: .*axes"),
        ("neg(%x)", "neg(%x, axes=)", "line 2: "),
        ("f32[3] = neg", "f32[4] = neg", r"line 2: %0 is written f32\[4\] but neg gives f32\[3\]"),
        ("f32[3] = neg", "f32[n] = neg", "line 2: nothing is called 'n'"),
        ("%0: f32[3] = neg", "%0 = neg", "line 2: expected `%name: type"),
        ("out = %0", "out = %1", "line 3: nothing is called '1'"),
        ("result out", "outcome out", "line 3: expected"),
    ],
)
def test_bad_text_is_named(old, new, message) -> None:
    assert SMALL.count(old) == 1
    parse_graph(SMALL)
    with pytest.raises(IRError, match=message):
        parse_graph(SMALL.replace(old, new))


def test_what_python_prints_of_a_graph_is_short() -> None:
    """A value shown with all it is made of has no end: an error that printed one took all memory."""
    x = graphs.data("x", 3)
    deep = x
    for _ in range(60):
        deep = ops.add(deep, deep)
    shown = repr(Graph("deep", (x,), (Output("result", "out", deep),)))
    assert len(shown) < 300 and "<add f32[3]>" in shown

"""The printed graph parses back to the same graph, and bad text is an error that names its line."""

from __future__ import annotations

import math
from typing import Any

import graphs
import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.ir import ops
from graphc.ir.graph import Graph, IRError, Output
from graphc.ir.passes import PIPELINE, run_passes
from graphc.ir.text import parse_graph, print_graph
from graphc.ir.types import Dim, TensorType, multiply
from graphc.ir.verify import verify

BATCH = gx.dim("batch", max=16)


def trained(
    net: nn.Module, x: TensorType, y: TensorType | None = None, optimizer: Any = optim.SGD, **options: Any
) -> Any:
    kinds = {"x": x, "y": gx.i64[BATCH] if y is None else y}
    return gx.train_step(net, nn.CrossEntropyLoss(), optimizer(net.parameters(), lr=0.1), **kinds, **options)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.cells, self.head = kind(5, 7, batch_first=True), nn.Linear(7, 3)

    def forward(self, x: gx.Tensor) -> gx.Tensor:
        return self.head(self.cells(x)[0][:, -1])


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.embedding, self.blocks, self.head = nn.Embedding(11, 8), nn.TransformerEncoder(layer, 2), nn.Linear(8, 11)

    def forward(self, x: gx.Tensor) -> gx.Tensor:
        return self.head(self.blocks(self.embedding(x))).transpose(1, 2)


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Dropout(0.3), nn.Linear(5, 3))


def normalized() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def wide() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def lenet() -> nn.Module:
    first = nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2)
    return nn.Sequential(*first, nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 10))


def scanned() -> Any:
    xs, w = gx.input("xs", gx.f32[4, 3]), gx.parameter("w", np.ones(3, np.float32))
    total, ys = gx.scan(lambda sum, x: (sum * w + gx.log(1 + gx.exp(x)), sum * 2), gx.zeros(3), xs)
    return gx.function([xs], [total, ys], updates={w: w - gx.grad(total.sum() + ys.sum(), w)})


def branched() -> Any:
    x = gx.input("x", gx.f32[3])
    y = gx.cond(x.sum() > 0, lambda v: v * 2, lambda v: gx.exp(v), x)
    return gx.function([x], [y, gx.grad(y.sum(), x)])


def with_a_written_gradient() -> Any:
    x = gx.input("x", gx.f32[3])

    @gx.custom_vjp
    def clipped(x: gx.Tensor) -> gx.Tensor:
        return x * 2

    @clipped.defvjp
    def _(inputs: Any, out: gx.Tensor, ct: gx.Tensor) -> gx.Tensor:
        return gx.clip(ct, -1, 1)

    return gx.function([x], gx.grad((clipped(x) ** 2).sum(), x))


def rearranged() -> Any:
    x = gx.input("x", gx.f32[BATCH, 5])
    return gx.function([x], [gx.sort(x, 1).values, gx.cumsum(x, 1), x[:, ::2], gx.concat([x, x], 1), x[[0, 2], 1]])


def probed() -> Any:
    @gx.step
    def step(x: gx.f32["batch", 3]) -> gx.Tensor:
        h = gx.probe(gx.where(x > 0, x, float("nan")), "what x is, where it is > 0")
        return gx.maximum(gx.print(h), float("-inf")).sum()

    return step


OPTIMIZERS = [optim.Adam, optim.AdamW, optim.Adagrad, optim.RMSprop]
WIDE = gx.dim("batch", max=512)
MODELS = {
    "mlp with dropout": lambda: trained(dropping(), gx.f32[BATCH, 8], metrics=["accuracy"]),
    "LeNet": lambda: trained(lenet(), gx.f32[BATCH, 1, 28, 28], metrics=["accuracy"]),
    "GRU": lambda: trained(Recurrent(nn.GRU), gx.f32[BATCH, 6, 5]),
    "LSTM of any length": lambda: trained(Recurrent(nn.LSTM), gx.f32[BATCH, gx.dim("time", max=9), 5]),
    "transformer": lambda: trained(Transformer(), gx.i64[BATCH, 6], gx.i64[BATCH, 6], optim.Adam),
    "batch normalization": lambda: trained(normalized(), gx.f32[BATCH, 4], nan="raise"),
    **{kind.__name__: lambda kind=kind: trained(nn.Linear(4, 3), gx.f32[BATCH, 4], None, kind) for kind in OPTIMIZERS},
    "accumulated": lambda: trained(nn.Linear(4, 3), gx.f32[BATCH, 4], accumulate=2),
    "in slices": lambda: trained(wide(), gx.f32[WIDE, 64], gx.i64[WIDE], max_bytes=170_000),
    "scan and its gradient": scanned,
    "cond and its gradient": branched,
    "custom_vjp": with_a_written_gradient,
    "sorting and joining": rearranged,
    "probes and constants": probed,
}  # fmt: skip

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
    """The graph read from its own text: an equal one, of the same text, and read a second time the same once more."""
    again = verify(parse_graph(print_graph(graph)))
    assert_equal(again, graph)
    assert print_graph(again) == print_graph(graph) == print_graph(parse_graph(print_graph(again)))
    return again


def assert_equal(one: Graph, other: Graph) -> None:
    """Value by value, in their order: the same op, attributes, type and operands; graphs inside of values as well."""
    assert (one.name, one.dims) == (other.name, other.dims)
    places: list[dict[Any, int]] = []
    for graph in (one, other):
        values = dict.fromkeys((*graph.inputs, *graph.values()))
        places.append({value: number for number, value in enumerate(values)})
    assert len(places[0]) == len(places[1])
    for left, right in zip(*places, strict=True):
        assert (left.op, left.type, set(left.attrs)) == (right.op, right.type, set(right.attrs))
        assert [places[0][each] for each in left.operands] == [places[1][each] for each in right.operands]
        for name, item in left.attrs.items():
            if isinstance(item, ops.Body):
                assert_equal(item.graph, right.attrs[name].graph)
            else:
                assert repr(item) == repr(right.attrs[name]) and type(item) is type(right.attrs[name])
    outputs = (
        [(each.kind, each.name, known[each.value]) for each in graph.outputs]
        for graph, known in zip((one, other), places, strict=True)
    )
    assert next(outputs) == next(outputs)


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


@pytest.mark.parametrize("name", MODELS)
def test_every_stage_of_a_model_goes_both_ways(name) -> None:
    step = MODELS[name]()
    stages = {**step.stages, "program": step.artifact.program.graph}
    assert list(stages) == ["trace", *(each.__name__ for each in PIPELINE), "program"]
    for stage, graph in stages.items():
        round_trip(graph)
        assert step.text("graph" if stage == "program" else stage) == print_graph(graph)


def test_a_graph_inside_of_a_value_stands_between_braces() -> None:
    lines = MODELS["scan and its gradient"]().text("trace").splitlines()
    opened = next(number for number, line in enumerate(lines) if line.endswith("counted=False, body={"))
    assert lines[opened].startswith("  %1: f32[] = loop(%0, %xs, %w, length=4")
    assert lines[opened + 1] == "    graph body(; state c0: f32[3]; data x0: f32[3]; data k0: f32[3]) {"
    assert lines[opened + 2] == "      %0: f32[3] = mul(%c0, %k0)"
    assert lines[lines.index("  })") - 1] == "    }"


def test_faults_inside_of_a_value_are_named() -> None:
    text = MODELS["scan and its gradient"]().text("trace")
    with pytest.raises(IRError, match=r"line 3: line 2: nothing is called 'no'"):
        parse_graph(text.replace("mul(%c0, %k0)", "mul(%c0, %no)"))
    with pytest.raises(IRError, match="nothing closes the graph inside"):
        parse_graph(text.replace("  })\n", ""))


@pytest.mark.parametrize("name", ["0", "%0", "a b", "a-b; data c: f32[3]", 'it\'s "so"', "größe", "x, %y"])
def test_inputs_may_have_any_name(name) -> None:
    x, y = graphs.data(name, 3), graphs.data("1", 3)
    graph = Graph("named", (x, y), (Output("result", "out", ops.add(ops.neg(x), y)),))
    again = round_trip(graph)
    assert [value.attrs["name"] for value in again.inputs] == [name, "1"]
    assert [operand.attrs.get("name") for operand in again.outputs[0].value.operands] == [None, "1"]


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

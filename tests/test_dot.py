"""DOT text of graphs and programs: well formed, complete, and readable without colour."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import graphs
import numpy as np
import pytest

import graphc as gx
from graphc.ir import ops
from graphc.ir.dot import graph_dot, kernels_dot
from graphc.ir.dot.cards import flow
from graphc.ir.dot.style import bytes_text, line_width, printable, shape_text, shorten, user_line, value_names, wrap
from graphc.ir.graph import Graph, Output, current_origin, in_module
from graphc.ir.passes import run_passes
from graphc.ir.program import Program, plan
from graphc.ir.text import print_graph
from graphc.ir.types import Dim, multiply

TOKEN = re.compile(r'\s+|"(?:[^"\\]|\\.)*"|<<.*?</table>>|->|[{}\[\]=,]|[\w.#]+', re.DOTALL)
HOSTILE = 'a "b" \\ <c> & é\nd'


class Picture:
    """What a DOT text declares: nodes and edges with their attributes, the path of clusters each node is in."""

    def __init__(self, text: str) -> None:
        self.nodes: dict[str, dict[str, str]] = {}
        self.edges: list[tuple[str, str, dict[str, str]]] = []
        self.clusters: dict[str, tuple[str, ...]] = {}
        self.tokens = self.split(text)
        assert self.tokens[0] == "digraph" and self.tokens[2] == "{"
        self.at = 3
        self.read_body(())
        assert self.at == len(self.tokens), "text after the closing brace"

    @staticmethod
    def split(text: str) -> list[str]:
        tokens, at = [], 0
        while at < len(text):
            found = TOKEN.match(text, at)
            assert found, f"not DOT: {text[at : at + 40]!r}"
            tokens.append(found[0])
            at = found.end()
        return [token for token in tokens if not token.isspace()]

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def read_body(self, clusters: tuple[str, ...]) -> None:
        while (name := self.take()) != "}":
            if name == "subgraph":
                label = unquoted(self.take())
                assert self.take() == "{"
                self.read_body((*clusters, label))
            elif self.tokens[self.at] == "->":
                self.at += 1
                target = unquoted(self.take())
                self.edges.append((unquoted(name), target, self.read_attributes()))
            elif name in ("graph", "node", "edge"):
                self.read_attributes()
            else:
                assert unquoted(name) not in self.nodes, f"{name} is declared twice"
                self.nodes[unquoted(name)] = self.read_attributes()
                self.clusters[unquoted(name)] = clusters

    def read_attributes(self) -> dict[str, str]:
        found: dict[str, str] = {}
        if self.tokens[self.at] != "[":
            return found
        while self.take() != "]":
            key, equals, value = (self.take() for _ in range(3))
            assert equals == "=" and key not in found
            found[key] = unquoted(value)
            if self.tokens[self.at] == "]":
                continue
            assert self.tokens[self.at] == ","
        return found


def unquoted(token: str) -> str:
    if not token.startswith('"'):
        return token
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], token[1:-1]).replace("&amp;", "&")


def planned(graph: Graph) -> Program:
    return plan(run_passes(graph), 32)


def layered() -> Graph:
    """Two layers in modules of a model, one of them inside another."""
    x, y = graphs.data("x", graphs.BATCH, 8), graphs.declare("y", "data", graphs.TensorType("i64", (graphs.BATCH,)))
    states = (
        graphs.state("in.w", 6, 8),
        graphs.state("in.b", 6),
        graphs.state("head.w", 4, 6),
        graphs.state("head.b", 4),
    )
    with in_module("encoder.layer"):
        hidden = ops.tanh(graphs.linear(x, *states[:2]))
    with in_module("head"):
        logits = graphs.linear(hidden, *states[2:])
    return graphs.classifier("layered", x, logits, y, states)


def hostile() -> Graph:
    x, w = graphs.data(HOSTILE, graphs.BATCH, 8), graphs.state(f"w {HOSTILE}", 8)
    product = ops.mul(x, graphs.stretch(w, x.shape))
    with in_module(HOSTILE):
        product = ops.exp(product)
    loss = graphs.total(product)
    return Graph(
        HOSTILE, (x, w), (Output("result", HOSTILE, loss), Output("update", f"w {HOSTILE}", ops.gradient(loss, w)))
    )


SAMPLES = (*graphs.PROGRAMS, layered, hostile)
WRITERS = {
    "graph": lambda program: graph_dot(program.graph),
    "kernels": kernels_dot,
}
every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.__name__)
every_level = pytest.mark.parametrize("level", WRITERS)


@every_sample
@every_level
def test_every_edge_joins_declared_nodes(sample, level: str) -> None:
    picture = Picture(WRITERS[level](planned(sample())))
    assert picture.edges
    for source, target, _ in picture.edges:
        assert source in picture.nodes and target in picture.nodes


@every_sample
@every_level
def test_graphviz_draws_it(sample, level: str) -> None:
    if shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")
    text = WRITERS[level](planned(sample()))
    done = subprocess.run(["dot", "-Tsvg"], input=text.encode(), capture_output=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr.decode()
    assert b"<svg" in done.stdout


@every_level
def test_equal_programs_give_equal_text(level: str) -> None:
    assert WRITERS[level](planned(graphs.mlp())) == WRITERS[level](planned(graphs.mlp()))


@every_level
def test_any_name_is_shown_as_it_is(level: str) -> None:
    picture = Picture(WRITERS[level](planned(hostile())))
    shown = [attributes["label"] for attributes in picture.nodes.values()]
    assert any(printable(HOSTILE) in label for label in shown)
    assert sum(printable(f"w {HOSTILE}") in label for label in shown) >= 2, "the state before and after its update"


# -- graph level


def test_graph_shows_every_line_of_its_text() -> None:
    graph = run_passes(graphs.mlp())
    picture = Picture(graph_dot(graph))
    lines = re.findall(r"  (%\d+): (\S+) = (\w+)\(", print_graph(graph))
    assert len(lines) > 50
    for name, type_text, op in lines:
        label = picture.nodes[name]["label"]
        assert label.startswith(op) and name in label and label.endswith(f"\n{type_text}")
    for value in graph.inputs:
        assert picture.nodes[f"input {value.attrs['name']}"]["label"] == f"{value.attrs['name']}\n{value.type}"
    wanted = sum(len(value.operands) for value in graph.values()) + len(graph.outputs)
    assert len([edge for edge in picture.edges if not edge[0].startswith("legend")]) == wanted


def test_graph_tells_kinds_apart_without_colour() -> None:
    picture = Picture(graph_dot(run_passes(graphs.mlp())))
    forms = {
        text: tuple(picture.nodes[text].get(key) for key in ("shape", "style", "peripheries"))
        for text in picture.nodes
        if text.startswith("legend")
    }
    assert len(set(forms.values())) == len(forms) == 9


def test_graph_draws_roles_as_the_legend_says() -> None:
    graph = run_passes(graphs.mlp())
    picture = Picture(graph_dot(graph))
    legend = {node["label"]: node for name, node in picture.nodes.items() if name.startswith("legend")}
    numbered = [value for value in graph.values() if value not in graph.inputs]
    seen = set()
    for number, value in enumerate(numbered):
        meaning = "constant" if value.op.kind == "source" else f"{value.role} op"
        node = picture.nodes[f"%{number}"]
        assert (node["shape"], node["style"]) == (legend[meaning]["shape"], legend[meaning]["style"])
        seen.add(meaning)
    assert seen == {"constant", "forward op", "backward op", "update op"}
    assert picture.nodes["input fc1.weight"]["peripheries"] == picture.nodes["update fc1.weight"]["peripheries"] == "2"


def test_graph_edges_carry_the_operand_type_and_are_wider_for_more_bytes() -> None:
    picture = Picture(graph_dot(run_passes(graphs.mlp())))
    leaving = {source: attributes for source, _, attributes in picture.edges if source.startswith("input")}
    assert "f32[batch,784]" in leaving["input x"]["tooltip"]
    assert float(leaving["input x"]["penwidth"]) > float(leaving["input fc1.bias"]["penwidth"])


def test_graph_clusters_follow_the_modules() -> None:
    picture = Picture(graph_dot(run_passes(layered())))
    found = {clusters for clusters in picture.clusters.values() if clusters}
    assert ("cluster encoder", "cluster encoder.layer") in found
    assert ("cluster ∂ encoder", "cluster ∂ encoder.layer") in found
    assert ("cluster head",) in found
    tanh = next(name for name, node in picture.nodes.items() if node["label"].startswith("tanh"))
    assert picture.clusters[tanh] == ("cluster encoder", "cluster encoder.layer")


@every_level
def test_tooltips_show_line_and_expression_but_no_folder(level: str) -> None:
    text = WRITERS[level](planned(layered()))
    tips = "\n".join(node.get("tooltip", "") for node in Picture(text).nodes.values())
    assert re.search(r"graphs\.py:\d+  ops\.dot\(x, ops\.transpose\(weight, permutation=\(1, 0\)\)\)", tips)
    assert re.search(r"test_dot\.py:\d+  ops\.tanh\(", tips)
    assert str(Path(__file__).parent) not in text


def recurrent() -> Graph:
    """A scan with a state, an array it goes along and one it has whole, and its gradient: two loops."""
    x, h = gx.input("x", gx.f32[6, 3]), gx.input("h", gx.f32[3])
    w = gx.parameter("w", np.ones((3, 3), np.float32))
    last, _ = gx.scan(lambda state, row: (gx.tanh(state @ w + row), state), h, x)
    loss = (last**2).sum()
    return gx.function([x, h], loss, updates={w: w - 0.1 * gx.grad(loss, w)}).artifact.program.graph


def test_bodies_of_loops_are_clusters() -> None:
    graph = recurrent()
    picture = Picture(graph_dot(graph))
    names = value_names(graph)
    loops = [value for value in graph.values() if value.op.kind == "loop"]
    assert len(loops) == 2
    for loop in loops:
        inside = [node for node, clusters in picture.clusters.items() if clusters[:1] == (f"cluster {names[loop]}/",)]
        body = loop.attrs["body"].graph
        lines = re.findall(r"  (%\d+): ", print_graph(body))
        assert lines and {f"{names[loop]}/{line}" for line in lines} <= set(inside)
        for state, start in ops.Roles(loop).carried:
            name = state.attrs["name"]
            ends = {(source, target): items for source, target, items in picture.edges}
            place = f"{names[loop]}/input {name}"
            begins = names[start] if start not in graph.inputs else f"input {names[start]}"
            assert (begins, place) in ends
            assert ends[f"{names[loop]}/update {name}", place]["style"] == "dashed"
    assert not any("body=" in node["label"] for node in picture.nodes.values())
    for source, target, _ in picture.edges:
        assert source in picture.nodes and target in picture.nodes
    parts = {names[value] for value in graph.values() if value.op.kind == "part"}
    assert parts == {target for source, target, _ in picture.edges if target in parts and "/" in source}


# -- kernels


@every_sample
def test_kernels_show_every_nest_with_its_memory(sample) -> None:
    program = planned(sample())
    picture = Picture(kernels_dot(program))
    assert {name for name in picture.nodes if name.startswith("nest")} == {
        f"nest {n}" for n in range(len(program.nests))
    }
    for number, nest in enumerate(program.nests):
        label = picture.nodes[f"nest {number}"]["label"]
        assert nest.name in label and f"over {shape_text(nest.frame)}" in label
        regions = [program.region(number, buffer) for buffer in nest.buffers() if buffer.kind in ("value", "scratch")]
        for region in regions:
            assert f">@{region.offset}<" in label
    offsets = {region.offset for region in program.work.values()}
    assert offsets == {int(at) for node in picture.nodes.values() for at in re.findall(r">@(\d+)<", node["label"])}


@every_sample
def test_kernels_join_nests_by_what_they_pass_on(sample) -> None:
    program = planned(sample())
    picture = Picture(kernels_dot(program))
    drawn = [(a, b) for a, b, _ in picture.edges if a.startswith("nest") and b.startswith("nest")]
    passed = [
        (f"nest {writer}", f"nest {reader}")
        for reader, nest in enumerate(program.nests)
        for buffer in nest.buffers()
        if buffer.kind == "value"
        for writer in range(reader)
        if buffer in {store.buffer for store in program.nests[writer].stores}
    ]
    assert sorted(drawn) == sorted(passed)


@every_sample
def test_kernels_show_each_update_once(sample) -> None:
    program = planned(sample())
    picture = Picture(kernels_dot(program))
    updated = [target for _, target, _ in picture.edges if target.startswith("update ")]
    assert sorted(updated) == sorted(f"update {output.name}" for output in program.graph.of_kind("update"))
    assert all(picture.nodes[target]["peripheries"] == "2" for target in updated)


@every_sample
def test_no_state_stands_alone(sample) -> None:
    program = planned(sample())
    picture = Picture(kernels_dot(program))
    joined = {end for source, target, _ in picture.edges for end in (source, target)}
    doubled = {name for name, node in picture.nodes.items() if "peripheries" in node}
    assert doubled and doubled <= joined
    shown = {name.partition(" ")[2] for name in doubled}
    assert shown == {value.attrs["name"] for value in program.graph.of_role("state")}


def test_wires_say_what_flows() -> None:
    program = planned(graphs.mlp())
    picture = flow(program)
    kinds = {
        (wire.source if isinstance(wire.source, int) else wire.source.attrs["name"], wire.target): wire.kind
        for wire in picture.wires
    }
    loss = next(card.number for card in picture.cards if "loss" in card.results)
    assert picture.cards[loss].part == "forward" and set(picture.cards[loss].ops) >= {"forward", "backward"}
    assert kinds["x", 0] == "forward"
    assert {kind for (source, _), kind in kinds.items() if source == loss} == {"backward"}
    assert {kind for (source, target), kind in kinds.items() if source == 0 and target > loss} == {"saved"}
    updates = [card for card in picture.cards if card.number > loss]
    assert updates and all(card.part == "backward" for card in updates)
    weight_update = next(card for card in updates if "fc1.weight" in [value.attrs["name"] for value in card.updates])
    assert [value.attrs["name"] for value in weight_update.reads] == ["lr"], (
        "a state read for its own update is no reading"
    )
    assert kinds["x", weight_update.number] == "saved"


def test_what_writes_nothing_but_states_is_an_update() -> None:
    w, rate = graphs.state("w", 8), graphs.declare("lr", "scalar", graphs.floats())
    halved = ops.mul(w, graphs.stretch(rate, w.shape))
    (card,) = flow(planned(Graph("decay", (w, rate), (Output("update", "w", halved),)))).cards
    assert card.part == "update" and [value.attrs["name"] for value in card.updates] == ["w"]


# -- words


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (4, "4 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (10248, "10 KiB"),
        (1536, "1.5 KiB"),
        (802816, "784 KiB"),
    ]
    + [(1 << 20, "1 MiB"), (5 << 30, "5 GiB"), (5 << 40, "5120 GiB")],
)
def test_bytes_text(count: int, text: str) -> None:
    assert bytes_text(count) == text


def test_shape_text() -> None:
    batch = Dim("batch", 256)
    assert shape_text((batch, 28, 28)) == "batch×28×28"
    assert shape_text((multiply(784, batch),)) == "784*batch"
    assert shape_text(()) == "scalar"


def test_line_width_grows_with_the_bytes_within_bounds() -> None:
    widths = [line_width(1 << power) for power in range(40)]
    assert widths == sorted(widths) and widths[0] == 1 and widths[-1] == 6 and len(set(widths)) > 10


def test_shorten_keeps_both_ends() -> None:
    name = "encoder.layers.11.attention.projection.weight"
    assert shorten(name, 100) == name
    assert len(shorten(name, 20)) == 20 and shorten(name, 20)[:5] == "encod" and shorten(name, 20)[-5:] == "eight"


def test_wrap_breaks_at_spaces() -> None:
    assert wrap("one two three", 7) == ["one two", "three"]
    assert wrap("incomprehensible a", 4) == ["incomprehensible", "a"]


def test_user_line_without_source_is_file_and_line() -> None:
    names = {"current_origin": current_origin}
    exec(compile("\n\norigin = current_origin()", "/somewhere/model.py", "exec"), names)
    assert user_line(names["origin"]) == "model.py:3"


def test_user_line_of_an_expression_over_two_lines_is_cut() -> None:
    value = ops.add(graphs.state("a", 3),
                    graphs.state("b", 3))  # fmt: skip
    assert value.origin is not None
    assert re.fullmatch(r'test_dot\.py:\d+  ops\.add\(graphs\.state\("a", 3\), …', user_line(value.origin))

"""The graph level as DOT: every op a node, the modules of the user's model as clusters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from graphc.ir import ops
from graphc.ir.dot.language import Attribute, digraph, edge, legend, node, quoted
from graphc.ir.dot.style import (
    MARKS,
    PALETTE,
    bytes_text,
    identifiers,
    line_width,
    loop_text,
    printable,
    user_line,
    value_names,
)
from graphc.ir.graph import Graph, Output, Value

Style = dict[str, Attribute]

# Each has a form and a border of its own, so that the picture can be read without colour.
SHAPES: dict[str, Style] = {
    "forward": {"shape": "box", "style": "filled,rounded"},
    "backward": {"shape": "box", "style": "filled,dashed"},
    "update": {"shape": "note", "style": "filled,bold"},
    "data": {"shape": "parallelogram", "style": "filled"},
    "state": {"shape": "box", "style": "filled", "peripheries": 2},
    "scalar": {"shape": "diamond", "style": "filled"},
    "constant": {"shape": "plain", "style": "filled"},
    "result": {"shape": "doubleoctagon", "style": "filled"},
    "check": {"shape": "octagon", "style": "filled,dotted"},
}
MEANINGS = {
    "forward": "forward op",
    "backward": "backward op",
    "update": "update op",
    "data": "data input",
    "state": "state (a double border), before and after its update",
    "scalar": "scalar input",
    "constant": "constant",
    "result": "result",
    "check": "check: must be 0",
}


def style_of(kind: str) -> Style:
    colours = PALETTE[kind]
    return {**SHAPES[kind], "fillcolor": colours.fill, "color": colours.line, "fontcolor": colours.text}


def kind_of(value: Value) -> str:
    """Which of the styles a value is drawn in."""
    if "role" in value.attrs and value.op.kind == "source":
        return str(value.attrs["role"])
    return "constant" if value.op.kind == "source" else value.role


@dataclass
class Cluster:
    """The nodes of one module, or of the body of a loop, and the clusters inside it.

    name  no two clusters have the same; `label` is what is shown
    """

    name: str
    label: str
    lines: list[str] = field(default_factory=list)
    inner: dict[str, Cluster] = field(default_factory=dict)

    def descend(self, mark: str, path: str) -> Cluster:
        """The cluster of a dotted module path, made where there is none."""
        cluster, label = self, mark
        for part in path.split(".") if path else ():
            label = f"{label}{part}" if cluster is self else f"{label}.{part}"
            cluster = cluster.inner.setdefault(f"{mark}{part}", Cluster(self.name + label, label))
        return cluster

    def write(self) -> list[str]:
        lines = list(self.lines)
        for cluster in self.inner.values():
            head = f"subgraph {quoted('cluster ' + cluster.name)} {{"
            label = f"  graph [label={quoted(printable(cluster.label))}]"
            lines += [head, label, *(f"  {line}" for line in cluster.write()), "}"]
        return lines


def graph_dot(graph: Graph) -> str:
    """The graph as DOT text; equal graphs give equal text.

    A node shows op, name in the graph's text, type; its tooltip the user's line. An edge's tooltip shows the operand's
    type, its width the bytes at the dims' maxima. Forward, backward and update ops differ in form, border and colour.
    """
    root = Cluster("", "")
    edges = list(fill(root, graph, ""))
    lines = [*root.write(), *edges]
    return digraph(graph.name, lines + legend([(text, style_of(kind)) for kind, text in MEANINGS.items()]))


def fill(root: Cluster, graph: Graph, before: str) -> Iterator[str]:
    """Puts the nodes of a graph into a cluster and gives the edges.

    before  stands before all names; that of a loop and `/` where the graph is the body of one
    """
    names = value_names(graph)
    places = {value: before + name for value, name in identifiers(names).items()}
    for value in names:
        module = value.origin.module if value.origin and value.op.kind != "source" else ""
        cluster = root.descend(MARKS[value.role], module)
        if value.op.kind == "loop":
            yield from open_loop(cluster, value, names, places)
            continue
        cluster.lines.append(node(places[value], describe(value, names)))
        if value.op.kind != "part":
            yield from (edge(places[each], places[value], carry(each, names)) for each in value.operands)
    for output in graph.outputs:
        name = f"{before}{output.kind} {output.name}"
        root.lines.append(node(name, describe_output(output)))
        yield edge(places[output.value], name, carry(output.value, names))


def open_loop(cluster: Cluster, loop: Value, names: dict[Value, str], places: dict[Value, str]) -> Iterator[str]:
    """The body of a loop as a cluster: edges lead to what a step gets, and from what it gives to its parts; dashed ones
    from the states of one step to those of the next."""
    roles, body, inside = ops.Roles(loop), loop.attrs["body"].graph, f"{places[loop]}/"
    label = f"{names[loop]} loop {loop_text(loop)}"
    box = cluster.inner.setdefault(inside, Cluster(inside, label))
    yield from fill(box, body, inside)
    ends = {value: inside + name for value, name in identifiers(value_names(body)).items()}
    for value, outside in (*roles.carried, *roles.slices, *roles.captured):
        yield edge(places[outside], ends[value], carry(outside, names))
    for value, _ in roles.carried:
        style = {"style": "dashed", "constraint": "false", "tooltip": "carried to the next step"}
        yield edge(f"{inside}update {value.attrs['name']}", ends[value], style)
    if roles.trips is not None:
        box.lines.append(node(f"{inside}steps", {"label": "how many steps", **style_of("scalar")}))
        yield edge(places[roles.trips], f"{inside}steps", carry(roles.trips, names))
    kinds = {output.name: output.kind for output in body.outputs}
    for part in (value for value in names if value.op.kind == "part" and value.operands[0] is loop):
        yield edge(f"{inside}{kinds[part.attrs['name']]} {part.attrs['name']}", places[part], carry(part, names))


def describe(value: Value, names: dict[Value, str]) -> Style:
    kind, name = kind_of(value), names[value]
    title = name if kind in ("data", "state", "scalar") else f"{value.op.name}{written_attributes(value)}  {name}"
    tip = [f"{name}: {value.type}, {bytes_text(value.type.max_bytes)} at most"]
    tip += [user_line(value.origin)] if value.origin else []
    return {"label": printable(title) + f"\n{value.type}", **style_of(kind), "tooltip": "\n".join(tip)}


def written_attributes(value: Value) -> str:
    """What tells a constant or a reduction from others of its name; shapes are in the type."""
    shown = {key: item for key, item in value.attrs.items() if key not in ("type", "shape", "dtype", "message")}
    return f" {', '.join(f'{key}={item}' for key, item in shown.items())}" if shown else ""


def describe_output(output: Output) -> Style:
    kind = "state" if output.kind == "update" else output.kind
    style = style_of(kind) | ({"color": PALETTE["update"].line} if output.kind == "update" else {})
    title = {"result": "", "update": "⟳ ", "check": "check: "}[output.kind] + printable(output.name)
    return {"label": f"{title}\n{output.value.type}", **style, "tooltip": f"{output.kind} {output.name}"}


def carry(value: Value, names: dict[Value, str]) -> Style:
    size = value.type.max_bytes
    return {"tooltip": f"{names[value]}: {value.type}, {bytes_text(size)}", "penwidth": line_width(size)}

"""The layer level in the DOT language: what Graphviz draws as a ladder."""

from __future__ import annotations

from collections.abc import Mapping

from graphc.ir.dot.cards import Wire
from graphc.ir.dot.graphs import Style, style_of
from graphc.ir.dot.kernels import LINES
from graphc.ir.dot.language import digraph, edge, node
from graphc.ir.dot.style import bytes_text, line_width, printable, shape_text, value_names
from graphc.ir.graph import Graph, Value
from graphc.picture.ladder import card_content, kinship
from graphc.picture.layers import layers_of


def layers_dot(graph: Graph, classes: Mapping[str, str]) -> str:
    """The layers of a graph as DOT text, the backward pass running up; equal graphs give equal text.

    classes  of the modules, by their paths
    """
    picture = layers_of(graph, classes)
    votes = kinship(picture)
    names = value_names(graph)
    lines = [node(f"data {names[value]}", describe_data(value)) for value in picture.data]
    for card in picture.cards:
        content = card_content(picture, card, votes)
        rows = [f"{line.text}   {line.end}".rstrip() for line in content.lines]
        style = style_of(content.style)
        lines.append(node(content.key, {"label": "\n".join(rows), **style, "tooltip": content.tooltip}))
    lines += [connect(wire, names) for wire in picture.wires]
    return digraph(graph.name, lines)


def describe_data(value: Value) -> Style:
    text = f"{printable(value.attrs['name'])}\n{value.type} · {bytes_text(value.type.max_bytes)}"
    return {"label": text, **style_of("data"), "tooltip": text}


def source_of(wire: Wire, names: Mapping[Value, str]) -> str:
    return f"layer {wire.source}" if isinstance(wire.source, int) else f"data {names[wire.source]}"


def connect(wire: Wire, names: Mapping[Value, str]) -> str:
    """A line; that of a gradient is written from its end to its start, so that it leads upwards."""
    source, target, style = source_of(wire, names), f"layer {wire.target}", describe(wire, names)
    if wire.kind != "backward":
        return edge(source, target, style)
    style["arrowtail"] = style.pop("arrowhead")
    return edge(target, source, {**style, "dir": "back"})


def describe(wire: Wire, names: Mapping[Value, str]) -> Style:
    values = [f"{names[value]} {value.op.name}: {value.type}" for value in wire.values]
    what = shape_text(wire.values[0].shape) if len(values) == 1 else f"{len(values)} values"
    label = f"  {what} · {bytes_text(wire.bytes)}"
    free = {"constraint": "false"} if wire.kind == "saved" else {}
    tip = "\n".join(values)
    return {**LINES[wire.kind], **free, "penwidth": line_width(wire.bytes), "label": label, "tooltip": tip}

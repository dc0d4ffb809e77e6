"""The DOT language: quoting, attribute lists, nodes, edges."""

from __future__ import annotations

import html
from collections.abc import Mapping
from itertools import pairwise

from graphc.ir.dot.style import UNPRINTABLE, printable

Attribute = str | int | float
HEAD = (
    "  graph [rankdir=TB, bgcolor=white, color=gray60, labeljust=l, fontname=Helvetica, fontsize=11]",
    "  graph [nodesep=0.3, ranksep=0.4]",
    '  node [fontname=Helvetica, fontsize=11, margin="0.12,0.06", height=0.3]',
    '  edge [fontname=Helvetica, fontsize=9, color="#64748b", arrowsize=0.7]',
)


class Html(str):
    """A label that is HTML-like already, every text in it escaped."""

    __slots__ = ()


def quoted(text: str) -> str:
    """A DOT string that shows exactly this text; line breaks stay line breaks."""
    text = UNPRINTABLE.sub("\ufffd", text).replace("&", "&amp;")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "\\n") + '"'


def escaped(text: str) -> str:
    """Text for use inside an HTML-like label."""
    return html.escape(printable(text), quote=True)


def attributes(items: Mapping[str, Attribute]) -> str:
    texts = {key: f"<{item}>" if isinstance(item, Html) else quoted(str(item)) for key, item in items.items()}
    return f" [{', '.join(f'{key}={text}' for key, text in texts.items())}]" if texts else ""


def node(name: str, items: Mapping[str, Attribute]) -> str:
    return f"{quoted(name)}{attributes(items)}"


def edge(source: str, target: str, items: Mapping[str, Attribute]) -> str:
    return f"{quoted(source)} -> {quoted(target)}{attributes(items)}"


def digraph(name: str, lines: list[str]) -> str:
    return "\n".join([f"digraph {quoted(name)} {{", *HEAD, *(f"  {line}" for line in lines), "}"]) + "\n"


def legend(entries: list[tuple[str, Mapping[str, Attribute]]]) -> list[str]:
    """A box that shows what each style stands for, one under the other."""
    names = [f"legend {number}" for number in range(len(entries))]
    lines = ['subgraph "cluster legend" {', '  graph [label="legend", style=dotted]']
    for name, (text, items) in zip(names, entries, strict=True):
        lines.append(f"  {node(name, {'label': text, **items, 'tooltip': text})}")
    lines += [f"  {edge(one, two, {'style': 'invis'})}" for one, two in pairwise(names)]
    return [*lines, "}"]

"""One HTML file with all three levels: to move about in, to search, and to look behind each card."""

from __future__ import annotations

import json
import linecache
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from graphc import commented
from graphc.ir.cost import cost_of_nest
from graphc.ir.dot.style import bytes_text, names_inside, printable, value_names
from graphc.ir.graph import Graph, Origin, Value
from graphc.ir.loops import LoopNest, print_nest
from graphc.ir.program import Program
from graphc.ir.text import print_graph
from graphc.picture import ladder
from graphc.picture.heat import amount_text
from graphc.picture.layers import layers_of
from graphc.picture.views import LEVELS, draw

if TYPE_CHECKING:
    from graphc.function import Function

AROUND = 2  # lines of the user's file shown before and after one
LONGEST = 400  # characters of a line of text


def page(function: Function, color: Any, fold: bool | None = None) -> str:
    """The text of the file. Nothing in it is fetched from anywhere."""
    drawings = {level: draw(function, level, color, fold) for level in LEVELS}
    template = files("graphc.picture").joinpath("page.html").read_text(encoding="utf-8")
    parts = {
        "TITLE": escape(printable(function.name)),
        "DRAWINGS": "\n".join(
            f'<div class="level" data-level="{level}">{svg}</div>' for level, svg in drawings.items()
        ),
        "DETAILS": script_text(details(function)),
    }
    for mark, text in parts.items():
        template = template.replace(f"<!--{mark}-->", text)
    return template


def script_text(content: Any) -> str:
    """JSON that no HTML parser takes for the end of its script."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def details(function: Function) -> dict[str, Any]:
    """What the page shows of each card.

    values   name -> line of the graph's text, numbers of the kernels that compute it, number of its user line
    kernels  title, text of the nest, names of its kernel texts, its user lines, the values it computes, its cost
    sources  kernel texts by name
    lines    user lines: where, and some lines around
    layers   key of a card of the ladder -> the values in it
    """
    program = function.artifact.program
    names = value_names(program.graph)
    places = UserLines()
    computed: dict[str, list[int]] = {}
    kernels = []
    sources = kernels_of_nests(function, program)
    for number, (apart, nest, texts) in enumerate(zip(program.apart, program.nests, sources, strict=True)):
        made = [names[value] for value in dict.fromkeys(apart.values()) if value in names]
        for name in made:
            computed.setdefault(name, []).append(number)
        cost = cost_of_nest(nest)
        kernels.append(
            {
                "title": apart.name,
                "text": print_nest(nest),
                "sources": texts,
                "lines": places.numbers(origin for origin in nest.origins if isinstance(origin, Origin)),
                "values": made,
                "cost": f"{bytes_text(cost.moved)} moved, {amount_text('operations', cost.operations)}",
            }
        )
    inside = names_inside(program.graph, names)
    lines = graph_lines(program.graph, names)
    values = {
        name: {
            "text": lines.get(name, f"{name}: {value.type}"),
            "kernels": computed.get(name.partition("/")[0] if value in inside else name, []),
            "lines": places.numbers([value.origin] if value.origin else []),
        }
        for value, name in (inside | names).items()
    }
    cards = layers_of(program.graph, function.layers).cards
    return {
        "values": values,
        "kernels": kernels,
        "sources": kernel_texts(function),
        "lines": places.shown,
        "layers": {ladder.key_of(card): [names[value] for value in card.values] for card in cards},
    }


def kernel_texts(function: Function) -> dict[str, str]:
    """The texts of kernels by their names, with comments over their loops."""
    if function.device == "cuda":
        from graphc import launches

        return launches.kernel_texts(function)
    return commented.kernel_texts(function)


def kernels_of_nests(function: Function, program: Program) -> Iterator[list[str]]:
    """The names of the kernel texts of each nest."""
    if function.device == "cuda":
        from graphc import launches

        yield from launches.kernels_of_nests(function, program)
        return
    texts = {id(nest): each for nest, each in zip(program.walk(), function.artifact.sources, strict=True)}
    for nest in program.nests:
        yield [texts[id(each)].kernel.name for each in walk(nest)]


def walk(nest: LoopNest) -> Iterator[LoopNest]:
    """The kernels of a nest: itself, or those of the program it repeats."""
    if nest.repetition is None:
        yield nest
    else:
        yield from nest.repetition.program.walk()


def graph_lines(graph: Graph, names: Mapping[Value, str], before: str = "") -> dict[str, str]:
    """The lines of a graph's text by the values they define; in the body of a loop, by the loop's name and theirs."""
    text = print_graph(graph)
    pairs = (line.strip().split(": ", 1) for line in text.splitlines() if line.startswith("  %"))
    found = {before + name: f"{name}: {rest}"[:LONGEST].replace("={", "=…)") for name, rest in pairs}
    for value, name in names.items():
        if value.op.kind == "loop":
            body = value.attrs["body"].graph
            found |= graph_lines(body, value_names(body), f"{before}{name}/")
    return found


class UserLines:
    """Lines of the user's files, each once, by number."""

    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []
        self.known: dict[tuple[str, int], int] = {}

    def numbers(self, origins: Iterable[Origin]) -> list[int]:
        return list(dict.fromkeys(self.number(origin) for origin in origins))

    def number(self, origin: Origin) -> int:
        key = origin.file, origin.line
        if key not in self.known:
            self.known[key] = len(self.shown)
            around = range(max(1, origin.line - AROUND), origin.line + AROUND + 1)
            code = [[at, linecache.getline(origin.file, at).rstrip("\n")] for at in around]
            self.shown.append({"where": str(origin), "line": origin.line, "code": code})
        return self.known[key]

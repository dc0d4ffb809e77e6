"""How pictures write and colour things: the one place for sizes, shapes, user lines, widths and the palette."""

from __future__ import annotations

import linecache
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from graphc.ir import ops
from graphc.ir.graph import Graph, Origin, Value
from graphc.ir.text import value_names as names_in_text
from graphc.ir.types import Shape

MARKS = {"forward": "", "backward": "∂ ", "update": "⟳ "}  # by role, in the order the roles come in a step
UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 has no place for
MOST_LINES = 24


@dataclass(frozen=True, slots=True)
class Colours:
    fill: str
    line: str
    text: str


PALETTE = {
    "forward": Colours("#dbeafe", "#1d4ed8", "#1e3a8a"),
    "backward": Colours("#ffe8db", "#c2410c", "#9a3412"),
    "update": Colours("#dcfce7", "#15803d", "#166534"),
    "data": Colours("#fef3c7", "#b45309", "#78350f"),
    "state": Colours("#f1f5f9", "#334155", "#0f172a"),
    "scalar": Colours("#fafaf9", "#57534e", "#292524"),
    "constant": Colours("#ffffff", "#94a3b8", "#475569"),
    "result": Colours("#f3e8ff", "#7e22ce", "#581c87"),
    "check": Colours("#fee2e2", "#b91c1c", "#7f1d1d"),
    "saved": Colours("#fef3c7", "#d97706", "#92400e"),
    "flow": Colours("#ffffff", "#64748b", "#475569"),
}


def bytes_text(count: int) -> str:
    """`10 KiB`, `1.5 MiB`: no more than one digit after the point."""
    size, units = float(count), iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    while size >= 1024 and unit != "GiB":
        size, unit = size / 1024, next(units)
    return f"{size:.0f} {unit}" if size >= 100 else f"{size:.1f}".removesuffix(".0") + f" {unit}"


def shape_text(shape: Shape) -> str:
    """`batch×784`; a shape without axes is a `scalar`."""
    return "×".join(map(str, shape)) or "scalar"


def line_width(count: int) -> float:
    """How thick the line is that carries so many bytes: 1 up to a KiB, a third more for every doubling, at most 6."""
    return round(min(6.0, 1 + 0.35 * max(0.0, math.log2(max(count, 1) / 1024))), 2)


def printable(text: str) -> str:
    """The text on one line, every character fit for XML."""
    return UNPRINTABLE.sub("\ufffd", " ".join(text.split()))


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters; what is left out is in the middle."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[-tail:]}"


def wrap(text: str, limit: int) -> list[str]:
    """The text in lines of at most `limit` characters, broken at spaces; a longer word has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= limit:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


@lru_cache(maxsize=4096)
def user_line(origin: Origin) -> str:
    """`mlp.py:12  self.fc1(x)`: base name, line and expression, the last where the source can be read."""
    text = linecache.getline(origin.file, origin.line).rstrip().encode()
    first, last = origin.column, origin.end_column
    whole = first is None or last is not None
    expression = printable(text[first:last].decode(errors="replace"))
    if not expression:
        return str(origin)
    return f"{origin}  {expression}{'' if whole else ' …'}"


def user_lines(origins: Iterable[Origin | None]) -> list[str]:
    """The lines of several values, each once, in order; a long list is cut."""
    lines = list(dict.fromkeys(user_line(origin) for origin in origins if origin is not None))
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"… and {len(lines) - MOST_LINES} more"]
    return lines


def identifiers(names: dict[Value, str]) -> dict[Value, str]:
    """A name in the picture for every value, different from all others even where an input is called `%0`."""
    return {value: f"input {name}" if value.op is ops.input else name for value, name in names.items()}


def names_inside(graph: Graph, names: Mapping[Value, str]) -> dict[Value, str]:
    """Names of the values in bodies of loops, each after the name of its loop: `%19/%3`."""
    found: dict[Value, str] = {}
    for value in graph.values():
        if value.op.kind == "loop":
            body = value.attrs["body"].graph
            own = {inner: f"{names[value]}/{name}" for inner, name in value_names(body).items()}
            found = names_inside(body, own) | own | found
    return found


def loop_text(loop: Value) -> str:
    """`×64`, `×64, last first`, `over batch, 32 rows at a time`, `at most ×1`: how often a loop goes round."""
    rows, length = loop.attrs.get("rows"), loop.attrs["length"]
    if rows is not None:
        return f"over {rows[1].name}, {rows[0].max} rows at a time"
    if loop.attrs["counted"]:
        return "at most once" if length == 1 else f"at most ×{length}"
    return f"×{length}" + (", last first" if loop.attrs["reverse"] else "")


def value_names(graph: Graph) -> dict[Value, str]:
    """What the graph's text calls each value: an input's own name, or `%` and a number."""
    names = {value: f"%{name}" for value, name in names_in_text(graph).items()}
    return names | {value: value.attrs["name"] for value in graph.inputs}

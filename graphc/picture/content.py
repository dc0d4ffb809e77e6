"""The lines of a card and how much room they take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from graphc.ir.dot.style import MARKS, bytes_text, printable, shape_text, shorten, wrap
from graphc.ir.graph import Value

if TYPE_CHECKING:
    from graphc.picture.heat import Scale

LONGEST = 40  # characters of a line
TITLE_LONGEST = 32
OPS_LINES = 3
NARROW, WIDE = set("ijltfrI.,:;|!'()[]{} /·-"), set("mwMW@%→⟳◆∂▪×Σ…—")
PADDING = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a card.

    kind  "title", "ops", "gradient", "note", "parameter", "scalar", "memory", "update", "result", "check"
    end   what stands at the right-hand side
    """

    kind: str
    text: str
    end: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """The lines of a card, its style and its tooltip.

    key   by which a page knows it
    fill  its colour where that is not the style's
    """

    lines: tuple[Line, ...]
    style: str
    tooltip: str
    key: str
    fill: str = ""

    @property
    def width(self) -> float:
        return max(line_width(line) for line in self.lines) + 2 * PADDING

    @property
    def height(self) -> float:
        return sum(HEIGHT.get(line.kind, 16.0) for line in self.lines) + 10


HEIGHT = {"title": 20.0}
SIZE = {"title": 13.0, "note": 10.5, "memory": 10.5, "ops": 11.0, "gradient": 11.0}


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Pixels the text takes, measured generously: which font a viewer picks is not known here."""
    units = sum(0.40 if sign in NARROW else 0.98 if sign in WIDE else 0.72 if sign.isupper() else 0.63 for sign in text)
    return units * size * (1.1 if bold else 1.0)


def line_size(line: Line) -> float:
    return SIZE.get(line.kind, 11.0)


def line_width(line: Line) -> float:
    gap = 16 if line.end else 0
    return text_width(line.text, line_size(line), line.kind == "title") + gap + text_width(line.end, 10.5)


def data_content(value: Value) -> Content:
    """A data input on one line."""
    size = bytes_text(value.type.max_bytes)
    name = printable(value.attrs["name"])
    line = Line("title", shorten(name, TITLE_LONGEST), f"{shape_text(value.shape)} {value.dtype} · {size}")
    return Content((line,), "data", f"data input {name}: {value.type}, {size} at most", f"data {name}")


def heated(content: Content, scale: Scale | None) -> Content:
    """Coloured by its share of a quantity, which its tooltip says."""
    fill = scale.fill(content.key) if scale is not None else ""
    if scale is None or not fill:
        return content if scale is None else replace(content, fill="#ffffff")
    return replace(content, fill=fill, tooltip=f"{content.tooltip}\n{scale.share(content.key)}")


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def short(names: tuple[str, ...]) -> tuple[str, ...]:
    return names if len(names) <= 4 else (*names[:2], "…", *names[-1:])


def label(value: Value) -> str:
    return shorten(printable(value.attrs["name"]), LONGEST)


def ops_lines(role: str, ops: tuple[str, ...], most: int = OPS_LINES) -> Iterator[Line]:
    lines = wrap(MARKS[role] + " → ".join(ops), LONGEST)
    if len(lines) > most:
        lines[most - 1 :] = [f"… → {ops[-1]}"]
    yield from (Line("gradient" if role == "backward" else "ops", line) for line in lines)

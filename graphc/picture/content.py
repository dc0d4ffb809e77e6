"""What a card says and how much room that takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphc.ir.dot.cards import Card
from graphc.ir.dot.style import MARKS, bytes_text, printable, shape_text, shorten, user_lines, wrap
from graphc.ir.graph import Value

LONGEST = 40  # characters of a line
TITLE_LONGEST = 32
OPS_LINES = 3
NARROW, WIDE = set("ijltfrI.,:;|!'()[]{} /·-"), set("mwMW@%→⟳◆∂▪×Σ…—")
PADDING = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a card.

    kind  "title", "ops", "gradient", "note", "parameter", "scalar", "update", "result", "check"
    end   what stands at the right-hand side
    """

    kind: str
    text: str
    end: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """The lines of a card, the style it is drawn in and its tooltip."""

    lines: tuple[Line, ...]
    style: str
    tooltip: str

    @property
    def width(self) -> float:
        return max(line_width(line) for line in self.lines) + 2 * PADDING

    @property
    def height(self) -> float:
        return sum(HEIGHT.get(line.kind, 16.0) for line in self.lines) + 10


HEIGHT = {"title": 20.0}
SIZE = {"title": 13.0, "note": 10.5, "ops": 11.0, "gradient": 11.0}


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Pixels the text takes, measured generously: which font a viewer picks is not known here."""
    units = sum(0.40 if sign in NARROW else 0.98 if sign in WIDE else 0.72 if sign.isupper() else 0.63 for sign in text)
    return units * size * (1.1 if bold else 1.0)


def line_size(line: Line) -> float:
    return SIZE.get(line.kind, 11.0)


def line_width(line: Line) -> float:
    gap = 16 if line.end else 0
    return text_width(line.text, line_size(line), line.kind == "title") + gap + text_width(line.end, 10.5)


def card_content(card: Card) -> Content:
    """A nest: title, ops by role, frame, what it reads, updates and hands out."""
    inside = "" if is_named(card) or not modules(card) else f"module {', '.join(short(modules(card)))} · "
    lines = [Line("title", title(card), f"{inside}#{card.number}"), *body(card)]
    tooltip = [f"kernel {card.number}: {card.nest.name}", *user_lines(card.nest.origins)]
    return Content(tuple(lines), card.style, "\n".join(tooltip))


def data_content(value: Value) -> Content:
    """A data input on one line."""
    size = bytes_text(value.type.max_bytes)
    name = printable(value.attrs["name"])
    line = Line("title", shorten(name, TITLE_LONGEST), f"{shape_text(value.shape)} {value.dtype} · {size}")
    return Content((line,), "data", f"data input {name}: {value.type}, {size} at most")


def title(card: Card) -> str:
    """The modules a nest belongs to, where they have names, else what it hands out, else its ops."""
    named = modules(card) if is_named(card) else handed_out(card)
    own_ops = card.ops.get(card.part, (card.nest.name,))
    return shorten(MARKS[card.part] + (" · ".join(short(named)) or " → ".join(short(own_ops))), TITLE_LONGEST)


def is_named(card: Card) -> bool:
    """Whether its modules have names that say something; those of a Sequential are numbers."""
    return any(sign.isalpha() for path in modules(card) for sign in path)


def modules(card: Card) -> tuple[str, ...]:
    """The module paths the values of the card's own part come from, unless most come from outside of any."""
    paths = [origin.module for origin in card.nest.origins if origin.role == card.part]
    inside = [path for path in paths if path]
    return tuple(dict.fromkeys(inside)) if 2 * len(inside) >= len(paths) else ()


def handed_out(card: Card) -> tuple[str, ...]:
    return tuple(map(printable, card.results)) or ("check",) * bool(card.checks)


def short(names: tuple[str, ...]) -> tuple[str, ...]:
    return names if len(names) <= 4 else (*names[:2], "…", *names[-1:])


def body(card: Card) -> Iterator[Line]:
    for role, ops in card.ops.items():
        if role == card.part and " → ".join(ops) in title(card):
            continue
        if role != "update" or not card.updates:
            yield from ops_lines(role, ops)
    depth = "" if card.nest.product is None else f", depth {card.nest.product.depth}"
    frame = f"over {shape_text(card.nest.frame)}" if card.nest.frame else "runs once"
    yield Line("note", f"{frame}{depth}", f"writes {bytes_text(card.written_bytes)}")
    for value in card.reads:
        kind = "scalar" if value.attrs["role"] == "scalar" else "parameter"
        yield Line(kind, f"▪ {label(value)}", shape_text(value.shape))
    for value in card.updates:
        yield Line("update", f"⟳ {label(value)}", shape_text(value.shape))
    yield from (Line("result", f"◆ {shorten(printable(name), LONGEST)}") for name in card.results)
    yield from (Line("check", f"check: {shorten(printable(message), LONGEST)}") for message in card.checks)


def label(value: Value) -> str:
    return shorten(printable(value.attrs["name"]), LONGEST)


def ops_lines(role: str, ops: tuple[str, ...]) -> Iterator[Line]:
    lines = wrap(MARKS[role] + " → ".join(ops), LONGEST)
    if len(lines) > OPS_LINES:
        lines[OPS_LINES - 1 :] = [f"… → {ops[-1]}"]
    yield from (Line("gradient" if role == "backward" else "ops", line) for line in lines)

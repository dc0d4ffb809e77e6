"""A ladder as SVG text: cards in rows and columns, the lines between them, labels, a title and a legend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphc.ir.dot.cards import Place, Wire
from graphc.ir.dot.style import PALETTE, bytes_text, line_width, printable, shape_text, shorten
from graphc.ir.graph import Value
from graphc.picture.content import Content, text_width
from graphc.picture.drawing import INK, LINES, NOTE, clean, draw_card, draw_line, draw_outline, frame, write
from graphc.picture.heat import Scale, draw_scale
from graphc.picture.placement import Cell
from graphc.picture.routing import CHANNEL, Box, Layout, lay_out

MARGIN, HEAD = 24.0, 44.0
NARROWEST = 460.0
SHORTEST_LABELLED, LABEL_ROOM = 30.0, 14.0
ABOVE, BELOW = 20.0, 23.0  # from the cards of a block that is repeated to its frame, clear of labels
CARDS = {
    "data": "data",
    "forward": "forward",
    "result": "makes results",
    "backward": "∂ backward",
    "update": "⟳ updates",
    "state": "state",
    "scalar": "scalar",
    "check": "check",
}
CARRIED = {"forward": "", "update": "", "backward": "gradient ", "saved": "saved for the backward pass: "}
WIRES = {"forward": "value", "backward": "gradient", "saved": "saved for backward", "update": "for an update"}


@dataclass(frozen=True, slots=True)
class Repeat:
    """A block that stands for several alike: its cards, how many there are, which."""

    places: tuple[Place, ...]
    times: int
    text: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """What is drawn.

    facts  one line below the title
    names  of the values, for tooltips
    heat   what the cards are coloured by, if not by their styles
    """

    title: str
    facts: str
    contents: Mapping[Place, Content]
    cells: Mapping[Place, Cell]
    wires: Sequence[Wire]
    names: Mapping[Value, str]
    repeats: tuple[Repeat, ...] = ()
    heat: Scale | None = None


def draw_sheet(sheet: Sheet) -> str:
    contents, cells, wires = sheet.contents, sheet.cells, sheet.wires
    columns = column_widths(cells, contents, wires)
    sizes = {
        place: (columns[cells[place].column] if isinstance(place, int) else content.width, content.height)
        for place, content in contents.items()
    }
    legend_width = max(NARROWEST, sum(columns.values()) + CHANNEL * (len(columns) - 1))
    entries = legend_entries(contents.values(), {wire.kind for wire in wires})
    legend, legend_height = draw_legend(entries, legend_width, MARGIN + HEAD)
    if sheet.heat is not None:
        legend += draw_scale(sheet.heat, MARGIN, MARGIN + HEAD + legend_height - 2)
        legend_height += 24
    layout = lay_out(cells, sizes, wires, (MARGIN, MARGIN + HEAD + legend_height), columns)
    body = [*draw_head(sheet.title, sheet.facts), *legend]
    body += [part for repeat in sheet.repeats for part in draw_repeat(repeat, layout)]
    body += draw_lines(sheet, layout)
    body += [part for place, content in contents.items() for part in draw_card(content, layout.boxes[place])]
    body += draw_labels(layout)
    width = max(layout.width + max(map(repeat_width, sheet.repeats), default=0), NARROWEST) + 2 * MARGIN
    return frame(sheet.title, width, layout.height + 2 * MARGIN + HEAD + legend_height, body)


def column_widths(
    cells: Mapping[Place, Cell], contents: Mapping[Place, Content], wires: Iterable[Wire]
) -> dict[int, float]:
    """Each column as wide as its widest card, and as the labels right of its middle ask for."""
    needed = [(cells[place].column, content.width) for place, content in contents.items()]
    needed += [(cells[wire.source].column, 2 * label_width(wire)) for wire in wires]
    return {column: max(width for at, width in needed if at == column) for column in sorted({at for at, _ in needed})}


def draw_head(title: str, facts: str) -> Iterator[str]:
    yield write(MARGIN, MARGIN + 14, shorten(printable(title), 40), 17, INK, font_weight="700")
    yield write(MARGIN, MARGIN + 33, facts, 11.5, NOTE)


def legend_entries(contents: Iterable[Content], kinds: set[str]) -> list[tuple[str, str, str]]:
    """Style, meaning and form of all that is in the picture."""
    lines = list(contents)
    cards = {content.style for content in lines}
    cards |= {"update" for content in lines if any(line.kind == "update" for line in content.lines)}
    entries = [(kind, text, "card") for kind, text in CARDS.items() if kind in cards]
    return entries + [(kind, text, "wire") for kind, text in WIRES.items() if kind in kinds]


def draw_legend(entries: list[tuple[str, str, str]], width: float, top: float) -> tuple[list[str], float]:
    """The legend from left to right in as many lines as it takes, and its height."""
    parts: list[str] = []
    x, y = MARGIN, top + 10
    for kind, text, form in entries:
        room = 28 + text_width(text, 11) + 16
        if x + room > MARGIN + width and x > MARGIN:
            x, y = MARGIN, y + 20
        if form == "card":
            parts += draw_outline(kind, Box(x + 1, y - 10, 20, 13))
        else:
            parts += draw_line([(x, y - 3), (x + 20, y - 3)], kind, 2.0, "")
        parts.append(write(x + 28, y + 1, text, 11, "#475569"))
        x += room
    return parts, y + 26 - top


def draw_repeat(repeat: Repeat, layout: Layout) -> Iterator[str]:
    """A dashed frame across the whole ladder, and how often it is repeated at its right."""
    boxes = [layout.boxes[place] for place in repeat.places]
    top, bottom = min(box.y for box in boxes) - ABOVE, max(box.bottom for box in boxes) + BELOW
    left, right = MARGIN - 12, MARGIN + layout.width + 12
    size = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
    yield f'<g class="repeat"><title>{clean(repeat.text)}</title>'
    yield f'<rect {size} rx="12" fill="#f8fafc" stroke="#94a3b8" stroke-width="1.4" stroke-dasharray="8 5"/>'
    middle = (top + bottom) / 2
    yield write(right + 8, middle, f"×{repeat.times}", 20, INK, font_weight="700")
    yield write(right + 8, middle + 16, repeat.text, 10.5, NOTE) + "</g>"


def repeat_width(repeat: Repeat) -> float:
    return 24 + max(text_width(f"×{repeat.times}", 20, True), text_width(repeat.text, 10.5))


def draw_lines(sheet: Sheet, layout: Layout) -> Iterator[str]:
    """Saved values lie lowest, what flows on lies over them."""
    for kind in LINES:
        for wire, _, points in layout.lines:
            if wire.kind == kind:
                yield from draw_line(points, kind, line_width(wire.bytes), describe(wire, sheet.names))


def describe(wire: Wire, names: Mapping[Value, str]) -> str:
    sizes = [bytes_text(value.type.max_bytes) for value in wire.values]
    values = [f"{names[value]} {value.op.name}: {value.type}" for value in wire.values]
    return "\n".join(f"{CARRIED[wire.kind]}{value}, {size}" for value, size in zip(values, sizes, strict=True))


def label_text(wire: Wire) -> str:
    """Shape and bytes of what a line carries."""
    what = shape_text(wire.values[0].shape) if len(wire.values) == 1 else f"{len(wire.values)} values"
    return f"{what} · {bytes_text(wire.bytes)}"


def label_width(wire: Wire) -> float:
    return text_width(label_text(wire), 10.5) + LABEL_ROOM


def draw_labels(layout: Layout) -> Iterator[str]:
    """One label for what leaves a card along its column, right of the last line that carries it."""
    found: dict[tuple[Place, str, bool], tuple[float, float, str]] = {}
    for wire, form, points in layout.lines:
        if form not in ("straight", "step") or abs(points[-1][1] - points[0][1]) < SHORTEST_LABELLED:
            continue
        (x, y), down = points[0], points[1][1] > points[0][1]
        key = (wire.source, label_text(wire), down)
        known = found.get(key, (0.0, 0.0, ""))
        found[key] = (max(x, known[0]), y + 15 if down else y - 8, wire.kind)
    for (_, text, _), (x, y, kind) in found.items():
        colour = PALETTE[LINES[kind]].text
        yield write(x + 8, y, text, 10.5, colour, stroke="#ffffff", stroke_width="3", paint_order="stroke")

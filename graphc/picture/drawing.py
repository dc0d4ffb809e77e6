"""The ladder as SVG text: cards, lines with arrow heads, labels, a title and a legend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape

from graphc.ir.dot.cards import Flow, Place, Wire, flow
from graphc.ir.dot.style import (
    PALETTE,
    UNPRINTABLE,
    bytes_text,
    line_width,
    printable,
    shape_text,
    shorten,
    value_names,
)
from graphc.ir.graph import Value
from graphc.ir.program import Program
from graphc.picture.content import HEIGHT, PADDING, Content, Line, card_content, data_content, line_size, text_width
from graphc.picture.placement import Cell, arrange
from graphc.picture.routing import CHANNEL, Box, Layout, Point, lay_out

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
MARGIN, HEAD, CORNER, ARROW = 24.0, 44.0, 7.0, 8.0
NARROWEST = 460.0
SHORTEST_LABELLED, LABEL_ROOM = 30.0, 14.0
LINES = {"saved": "saved", "update": "update", "backward": "backward", "forward": "flow"}  # the last lie on top
CARDS = {
    "data": "data",
    "forward": "forward",
    "result": "makes results",
    "backward": "∂ backward",
    "update": "⟳ updates",
}
CARRIED = {"forward": "", "update": "", "backward": "gradient ", "saved": "saved for the backward pass: "}
WIRES = {"forward": "value", "backward": "gradient", "saved": "saved for backward", "update": "for an update"}
NOTE, INK = "#64748b", "#0f172a"


def kernels_svg(program: Program) -> str:
    """The program as a ladder, one card a nest, as the text of an SVG file.

    Forward nests run down, backward nests run up beside them, each on the row of the nest it belongs to. Sizes are
    bytes at the dims' maxima; a line is the thicker the more it carries. A card's tooltip shows the user's lines.
    """
    picture = flow(program)
    contents: dict[Place, Content] = {card.number: card_content(card) for card in picture.cards}
    contents |= {value: data_content(value) for value in picture.data}
    cells = arrange(picture)
    columns = column_widths(cells, contents, picture.wires)
    sizes = {
        place: (columns[cells[place].column] if isinstance(place, int) else content.width, content.height)
        for place, content in contents.items()
    }
    legend_width = max(NARROWEST, sum(columns.values()) + CHANNEL * (len(columns) - 1))
    legend, legend_height = draw_legend(legend_entries(picture, contents.values()), legend_width)
    layout = lay_out(cells, sizes, picture.wires, (MARGIN, MARGIN + HEAD + legend_height), columns)
    body = [*draw_head(program), *legend, *draw_lines(picture, layout)]
    body += [part for place, content in contents.items() for part in draw_card(place, content, layout.boxes[place])]
    body += draw_labels(layout)
    width = max(layout.width, NARROWEST) + 2 * MARGIN
    return frame(program.graph.name, width, layout.height + 2 * MARGIN + HEAD + legend_height, body)


def column_widths(
    cells: Mapping[Place, Cell], contents: Mapping[Place, Content], wires: Iterable[Wire]
) -> dict[int, float]:
    """Each column as wide as its widest card, and as the labels right of its middle ask for."""
    needed = [(cells[place].column, content.width) for place, content in contents.items()]
    needed += [(cells[wire.source].column, 2 * label_width(wire)) for wire in wires]
    return {column: max(width for at, width in needed if at == column) for column in sorted({at for at, _ in needed})}


def frame(name: str, width: float, height: float, body: Iterable[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}"'
    look = f'role="img" font-family="{FONTS}" style="color-scheme: light"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" {size} {look}>'
    paper = f'<rect class="paper" {size} fill="#ffffff"/>'
    return "\n".join([head, f"<title>{clean(name)}</title>", paper, *body, "</svg>"]) + "\n"


def clean(text: str) -> str:
    """The text escaped, every character fit for XML."""
    return escape(UNPRINTABLE.sub("\ufffd", text))


def write(x: float, y: float, text: str, size: float, colour: str, **more: str) -> str:
    """A text element; `_` in attribute names stands for `-`."""
    rest = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in more.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{colour}"{rest}>{clean(text)}</text>'


def draw_head(program: Program) -> Iterator[str]:
    graph = program.graph
    bounds = "".join(f" · {dim.name} ≤ {dim.max}" for dim in graph.dims)
    kernels = f"{len(program.nests)} kernel{'s' if len(program.nests) != 1 else ''}"
    facts = f"{kernels} · state {bytes_text(program.graph.state_bytes)} · work {bytes_text(program.work_bytes)}{bounds}"
    yield write(MARGIN, MARGIN + 14, shorten(printable(graph.name), 40), 17, INK, font_weight="700")
    yield write(MARGIN, MARGIN + 33, facts, 11.5, NOTE)


def legend_entries(picture: Flow, contents: Iterable[Content]) -> list[tuple[str, str, str]]:
    """Style, meaning and form of all that is in the picture."""
    cards = {content.style for content in contents} | {"update" for card in picture.cards if card.updates}
    wires = {wire.kind for wire in picture.wires}
    entries = [(kind, text, "card") for kind, text in CARDS.items() if kind in cards]
    return entries + [(kind, text, "wire") for kind, text in WIRES.items() if kind in wires]


def draw_legend(entries: list[tuple[str, str, str]], width: float) -> tuple[list[str], float]:
    """The legend from left to right in as many lines as it takes, and its height."""
    parts: list[str] = []
    x, y = MARGIN, MARGIN + HEAD + 10
    for kind, text, form in entries:
        room = 26 + text_width(text, 11) + 16
        if x + room > MARGIN + width and x > MARGIN:
            x, y = MARGIN, y + 20
        if form == "card":
            look = f'fill="{PALETTE[kind].fill}" stroke="{PALETTE[kind].line}"'
            parts.append(f'<rect x="{x:.1f}" y="{y - 9:.1f}" width="18" height="12" rx="3" {look}/>')
        else:
            parts += draw_line([(x, y - 3), (x + 20, y - 3)], kind, 2.0, "")
        parts.append(write(x + 26, y + 1, text, 11, "#475569"))
        x += room
    return parts, y + 26 - MARGIN - HEAD


def draw_card(place: Place, content: Content, box: Box) -> Iterator[str]:
    colours = PALETTE[content.style]
    kind = f'nest" data-nest="{place}' if isinstance(place, int) else "data"
    size = f'x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'
    yield f'<g class="{kind}"><title>{clean(content.tooltip)}</title>'
    yield f'<rect class="card" {size} rx="9" fill="{colours.fill}" stroke="{colours.line}" stroke-width="1.4"/>'
    y = box.y + 5 + (box.height - content.height) / 2
    for line in content.lines:
        height = HEIGHT.get(line.kind, 16.0)
        yield from draw_row(line, content.style, box, y, height)
        y += height
    yield "</g>"


def draw_row(line: Line, style: str, box: Box, y: float, height: float) -> Iterator[str]:
    band = {"update": "update", "result": "result", "check": "check"}.get(line.kind)
    colour = INK if line.kind == "title" else NOTE if line.kind in ("note", "scalar") else "#334155"
    if line.kind == "gradient":
        colour = PALETTE["backward"].text
    if band is not None:
        colour = PALETTE[band].text
        yield (
            f'<rect x="{box.x + 4:.1f}" y="{y + 0.5:.1f}" width="{box.width - 8:.1f}" height="{height - 1:.1f}" rx="3" '
            f'fill="{"#ffffff" if band == style else PALETTE[band].fill}"/>'
        )
    baseline = y + height - (5.5 if line.kind == "title" else 4.5)
    weight = {"font_weight": "700"} if line.kind == "title" else {}
    yield write(box.x + PADDING, baseline, line.text, line_size(line), colour, **weight)
    if line.end:
        yield write(box.right - PADDING, baseline, line.end, 10.5, colour if band else NOTE, text_anchor="end")


def draw_lines(picture: Flow, layout: Layout) -> Iterator[str]:
    """Saved values lie lowest, what flows on lies over them."""
    names = value_names(picture.program.graph)
    for kind in LINES:
        for wire, _, points in layout.lines:
            if wire.kind == kind:
                yield from draw_line(points, kind, line_width(wire.bytes), describe(wire, names))


def describe(wire: Wire, names: dict[Value, str]) -> str:
    sizes = [bytes_text(value.type.max_bytes) for value in wire.values]
    values = [f"{names[value]} {value.op.name}: {value.type}" for value in wire.values]
    return "\n".join(f"{CARRIED[wire.kind]}{value}, {size}" for value, size in zip(values, sizes, strict=True))


def draw_line(points: list[Point], kind: str, width: float, tooltip: str) -> Iterator[str]:
    """A line with round corners and a head at its end."""
    colour = PALETTE[LINES[kind]].line
    (x0, y0), (x1, y1) = points[-2:]
    length = abs(x1 - x0) + abs(y1 - y0) or 1
    dx, dy = (x1 - x0) / length, (y1 - y0) / length
    size = ARROW + width / 2
    half = 3.2 + width / 2
    base = (x1 - dx * size, y1 - dy * size)
    wings = [(base[0] - side * dy * half, base[1] + side * dx * half) for side in (1, -1)]
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in ((x1, y1), *wings))
    dash = ' stroke-dasharray="6 4"' if kind == "saved" else ""
    yield f'<g class="wire {kind}">' + (f"<title>{clean(tooltip)}</title>" if tooltip else "")
    yield f'<path d="{rounded([*points[:-1], base])}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dash}/>'
    yield f'<polygon points="{head}" fill="{colour}"/></g>'


def rounded(points: list[Point]) -> str:
    """Path data of a line of level and upright pieces, its corners rounded."""
    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for (ax, ay), (bx, by), (cx, cy) in zip(points, points[1:], points[2:], strict=False):
        before, after = abs(bx - ax) + abs(by - ay), abs(cx - bx) + abs(cy - by)
        radius = min(CORNER, before / 2, after / 2)
        if radius < 0.5:
            parts.append(f"L{bx:.1f} {by:.1f}")
            continue
        start = (bx + (ax - bx) * radius / before, by + (ay - by) * radius / before)
        stop = (bx + (cx - bx) * radius / after, by + (cy - by) * radius / after)
        parts.append(f"L{start[0]:.1f} {start[1]:.1f}Q{bx:.1f} {by:.1f} {stop[0]:.1f} {stop[1]:.1f}")
    parts.append(f"L{points[-1][0]:.1f} {points[-1][1]:.1f}")
    return "".join(parts)


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

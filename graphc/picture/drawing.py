"""Cards, lines with arrow heads, and text as SVG elements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from graphc.ir.dot.style import PALETTE, UNPRINTABLE
from graphc.picture.content import HEIGHT, PADDING, Content, Line, line_size
from graphc.picture.routing import Box, Point

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
CORNER, ARROW, CUT = 7.0, 8.0, 8.0
LINES = {"saved": "saved", "update": "update", "backward": "backward", "forward": "flow"}  # the last lie on top
NOTE, INK = "#64748b", "#0f172a"


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


def draw_card(content: Content, box: Box) -> Iterator[str]:
    """A card; `data-key` tells a page which one it is."""
    kind, _, number = content.key.partition(" ")
    name = f'nest" data-nest="{number}' if kind == "kernel" else kind
    yield f'<g class="{name}" data-key="{clean(content.key)}"><title>{clean(content.tooltip)}</title>'
    yield from draw_outline(content.style, box, content.fill)
    y = box.y + 5 + (box.height - content.height) / 2
    for line in content.lines:
        height = HEIGHT.get(line.kind, 16.0)
        yield from draw_row(line, content.style, box, y, height)
        y += height
    yield "</g>"


def draw_outline(style: str, box: Box, fill: str = "") -> Iterator[str]:
    """Each style has a form of its own: round corners forward, cut ones backward, a thick edge for updates, two lines
    around results and states, half circles at the ends of data."""
    colours = PALETTE[style]
    size = f'x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'
    paint = f'fill="{fill or colours.fill}" stroke="{colours.line}"'
    if style == "backward":
        yield f'<rect class="card" {size} fill="none"/><path d="{cut_corners(box)}" {paint} stroke-width="1.4"/>'
        return
    round_by = {"data": min(box.height, 36.0) / 2, "update": 0.0, "state": 0.0, "scalar": 0.0}.get(style, 9.0)
    width = 3.0 if style == "update" else 1.4
    dash = ' stroke-dasharray="2 3"' if style == "check" else ""
    yield f'<rect class="card" {size} rx="{round_by:g}" {paint} stroke-width="{width:g}"{dash}/>'
    if style in ("result", "state"):
        inner = f'x="{box.x + 3:.1f}" y="{box.y + 3:.1f}" width="{box.width - 6:.1f}" height="{box.height - 6:.1f}"'
        yield f'<rect {inner} rx="{max(round_by - 3, 0):g}" fill="none" stroke="{colours.line}" stroke-width="0.8"/>'


def cut_corners(box: Box) -> str:
    cut = min(CUT, box.height / 3)
    left, top, right, bottom = box.x, box.y, box.right, box.bottom
    corners = [(left + cut, top), (right - cut, top), (right, top + cut), (right, bottom - cut)]
    corners += [(right - cut, bottom), (left + cut, bottom), (left, bottom - cut), (left, top + cut)]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners) + "Z"


def draw_row(line: Line, style: str, box: Box, y: float, height: float) -> Iterator[str]:
    band = {"update": "update", "result": "result", "check": "check"}.get(line.kind)
    colour = INK if line.kind == "title" else NOTE if line.kind in ("note", "scalar", "memory") else "#334155"
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


def draw_line(points: list[Point], kind: str, width: float, tooltip: str) -> Iterator[str]:
    """A line with round corners and a head: filled forward, hollow backward; what is saved is dashed."""
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
    inside = f'fill="#ffffff" stroke="{colour}" stroke-width="1.2"' if kind == "backward" else f'fill="{colour}"'
    yield f'<g class="wire {kind}">' + (f"<title>{clean(tooltip)}</title>" if tooltip else "")
    yield f'<path d="{rounded([*points[:-1], base])}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dash}/>'
    yield f'<polygon points="{head}" {inside}/></g>'


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

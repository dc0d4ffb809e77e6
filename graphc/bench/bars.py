"""A picture of ratios: for each workload a bar to the best peer's time by graphc's, and a mark for every other peer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

Rows = Sequence[tuple[str, dict[str, float]]]  # (workload, {system: its time by graphc's})

COLOURS = {
    "torch": "#d9534f", "torch compile": "#f0ad4e", "jax": "#3c78b4", "numpy": "#6c757d", "pytensor": "#8e63b0"
}  # fmt: skip
LEFT, RIGHT, WIDTH = 60, 20, 720
LINE, TOP, LEGEND = 24, 30, 40
TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


def draw(panels: dict[str, Rows]) -> str:
    """SVG text: one panel below the other, ratios on a logarithmic axis that all share."""
    ratios = [ratio for rows in panels.values() for _, found in rows for ratio in found.values()] or [1.0]
    low, high = min(0.8, *ratios, 1.0) / 1.1, max(2.0, *ratios) * 1.1
    parts: list[str] = []
    y = LEGEND
    for title, rows in panels.items():
        parts += panel(title, rows, y, low, high)
        y += TOP + LINE * len(rows) + LINE
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}"'
    style = ' font-family="sans-serif" font-size="12">'
    return "\n".join(
        [head + style, f'<rect width="{WIDTH}" height="{y}" fill="white"/>', *legend(), *parts, "</svg>\n"]
    )


def along(ratio: float, low: float, high: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * math.log(ratio / low) / math.log(high / low)


def legend() -> list[str]:
    parts = [
        f'<text x="{LEFT}" y="16">time of a peer / time of graphc: right of 1 graphc is faster; bar: best peer</text>'
    ]
    x = float(LEFT)
    for system, colour in COLOURS.items():
        parts.append(f'<circle cx="{x + 5}" cy="30" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{x + 14}" y="34">{escape(system)}</text>')
        x += 30 + 7 * len(system)
    return parts


def panel(title: str, rows: Rows, top: int, low: float, high: float) -> list[str]:
    bottom = top + TOP + LINE * len(rows)
    parts = [f'<text x="{LEFT}" y="{top + 18}" font-weight="bold">{escape(title)}</text>']
    for tick in TICKS:
        if low <= tick <= high:
            x = along(tick, low, high)
            colour, label = ("black" if tick == 1 else "#dddddd"), f"{tick:g}"
            parts.append(f'<line x1="{x:.1f}" y1="{top + TOP}" x2="{x:.1f}" y2="{bottom}" stroke="{colour}"/>')
            parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{label}</text>')
    for number, (workload, found) in enumerate(rows):
        parts += row(workload, found, top + TOP + LINE * number + LINE // 2, low, high)
    return parts


def row(workload: str, found: dict[str, float], y: int, low: float, high: float) -> list[str]:
    parts = [f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(workload)}</text>']
    if found:
        least = min(found.values())
        ends = sorted((along(1, low, high), along(least, low, high)))
        colour = "#5cb85c" if least >= 1 else "#c9302c"
        shape = f'x="{ends[0]:.1f}" y="{y - 7}" width="{ends[1] - ends[0]:.1f}" height="14"'
        parts.append(f'<rect {shape} fill="{colour}" fill-opacity="0.35"/>')
    for system, ratio in found.items():
        hint = f"<title>{escape(system)} on {escape(workload)}: {ratio:.2f}</title>"
        place = f'cx="{along(ratio, low, high):.1f}" cy="{y}"'
        parts.append(f'<circle {place} r="5" fill="{COLOURS.get(system, "black")}">{hint}</circle>')
    return parts

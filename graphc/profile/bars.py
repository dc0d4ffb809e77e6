"""A bar a kernel, the longest first, with its quartiles and your lines."""

from __future__ import annotations

from collections.abc import Iterator

from graphc.ir.dot.style import MARKS, PALETTE, printable, shorten
from graphc.picture.content import text_width
from graphc.picture.drawing import INK, NOTE, clean, frame, write
from graphc.picture.sheet import draw_legend
from graphc.profile.record import OTHER, Profile, Row
from graphc.profile.table import line_of, seconds_text, sums, title

MARGIN, HEIGHT, GAP, LONGEST = 24.0, 22.0, 6.0, 360.0
MOST = 40  # bars; what is left is one more
NAME = 36


def bars(profile: Profile) -> str:
    shown, rest = profile.by_time[:MOST], profile.by_time[MOST:]
    longest = max((row.seconds.high for row in shown), default=0.0) or 1.0
    names = [f"#{row.place} {MARKS.get(row.part, '')}{shorten(printable(row.name), NAME)}" for row in shown]
    left = MARGIN + max((text_width(name, 12) for name in names), default=0.0) + 12
    places = [line_of(row, NAME) for row in shown]
    figures = [figure(row) for row in shown]
    beside = left + LONGEST + 12
    lines_at = beside + max((text_width(each, 11) for each in figures), default=0.0) + 16
    width = lines_at + max((text_width(each, 11) for each in places), default=0.0) + MARGIN
    heads = title(profile)
    parts = [write(MARGIN, MARGIN + 14, shorten(heads[0], 90), 15, INK, font_weight="700")]
    parts.append(write(MARGIN, MARGIN + 33, heads[1], 11.5, NOTE))
    present = [(role, role, "card") for role in (*MARKS, OTHER) if any(row.part == role for row in shown)]
    legend, below = draw_legend(present, width, MARGIN + 40)
    parts += legend
    y = MARGIN + 44 + below
    for row, name, place, said in zip(shown, names, places, figures, strict=True):
        parts += bar(row, y, left, LONGEST / longest)
        middle = y + HEIGHT / 2 + 4
        parts.append(write(left - 12, middle, name, 12, INK, text_anchor="end"))
        parts.append(write(beside, middle, said, 11, INK))
        parts.append(write(lines_at, middle, place, 11, NOTE))
        y += HEIGHT + GAP
    notes = list(sums(profile))
    if rest:
        taken = sum(row.seconds.median for row in rest)
        notes.insert(0, f"… and {len(rest)} more kernels, {seconds_text(taken)} together")
    for note in notes:
        y += 16
        parts.append(write(MARGIN, y, note, 11, NOTE))
    texts = [(shorten(heads[0], 90), 16.5), *((note, 11.0) for note in notes)]
    needed = 2 * MARGIN + max(text_width(text, size) for text, size in texts)
    return frame(f"profile of {profile.name}", max(width, needed), y + MARGIN, parts)


def figure(row: Row) -> str:
    runs = f", {row.calls:,} runs" if row.calls > 1 else ""
    return f"{seconds_text(row.seconds.median)} · {row.share:.1%}{runs}"


def bar(row: Row, y: float, left: float, scale: float) -> Iterator[str]:
    """A bar up to the median, and a line from quartile to quartile; its edge is thick for an update, as of a card."""
    colours = PALETTE[row.part]
    width = {"update": 3.0}.get(row.part, 1.4)
    dash = ' stroke-dasharray="4 3"' if row.part == "backward" else ""
    low, middle, high = (left + each * scale for each in (row.seconds.low, row.seconds.median, row.seconds.high))
    tooltip = "\n".join([f"kernel {row.place}: {row.name} over {row.over}", *row.lines])
    size = f'x="{left:.1f}" y="{y:.1f}" width="{max(middle - left, 1.0):.1f}" height="{HEIGHT:g}"'
    yield f'<g class="bar"><title>{clean(tooltip)}</title>'
    yield f'<rect {size} fill="{colours.fill}" stroke="{colours.line}" stroke-width="{width:g}"{dash}/>'
    across = y + HEIGHT / 2
    yield f'<path d="M{low:.1f} {across:.1f}H{high:.1f}" stroke="{colours.text}" stroke-width="2"/></g>'

"""A profile as text of at most 100 columns, and as a table of a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from graphc.ir.dot.style import MARKS, PALETTE, shorten
from graphc.profile.record import Profile, Row

WIDTH = 100
NAME = 26  # most characters of a kernel's name
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
LINES = "lines of yours"
LEFT = ("kernel", LINES)  # columns that are not numbers
DISTURBED = 2.0  # times the lower quartile is the upper one where other work was in the way


def table(profile: Profile) -> str:
    """One line a kernel, those that take longest first, then what the whole step takes."""
    heads = head(profile)
    rows = [heads[:-1], *(tuple(cells(profile, row)) for row in profile.by_time)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = WIDTH - sum(widths) - 2 * len(widths)
    places = [LINES, *(line_of(row, room) for row in profile.by_time)]
    lines = []
    for row, place in zip(rows, places, strict=True):
        shown = zip(row, heads, widths, strict=False)
        aligned = [cell.ljust(width) if name in LEFT else cell.rjust(width) for cell, name, width in shown]
        lines.append("  ".join([*aligned, place]).rstrip())
    return "\n".join([*title(profile), "", *lines, "", *sums(profile)]) + "\n"


def head(profile: Profile) -> tuple[str, ...]:
    unit = unit_of(profile)[1]
    expected = ("predicted",) if profile.predicted is not None else ()
    return "#", "kernel", "calls", unit, "quartiles", *expected, "share", LINES


def cells(profile: Profile, row: Row) -> Iterator[str]:
    """What stands before the user's lines."""
    yield from (row.place, MARKS.get(row.part, "") + shorten(row.name, NAME), f"{row.calls:,}")
    yield number(profile, row.seconds.median)
    yield f"{number(profile, row.seconds.low)}–{number(profile, row.seconds.high)}"
    if profile.predicted is not None:
        yield "" if row.predicted is None else number(profile, row.predicted)
    yield f"{row.share:.1%}"


def line_of(row: Row, room: int) -> str:
    """The first of the user's lines, and how many more there are."""
    places = [line.partition("  ")[0] for line in row.lines]
    more = f" +{len(places) - 1}" if len(places) > 1 else ""
    return shorten(places[0], max(room - len(more), 1)) + more if places else ""


def unit_of(profile: Profile) -> tuple[float, str]:
    """The one of the whole table: in it the slowest kernel has one digit or more before the point."""
    most = max((row.seconds.median for row in profile.rows), default=0.0)
    return next((unit for unit in UNITS if most >= 10 * unit[0]), UNITS[-1])


def number(profile: Profile, seconds: float) -> str:
    taken = seconds / unit_of(profile)[0]
    return f"{taken:,.0f}" if taken >= 1000 else f"{taken:.1f}" if taken >= 100 else f"{taken:.2f}"


def seconds_text(seconds: float) -> str:
    size, name = next((unit for unit in UNITS if seconds >= unit[0]), (1e-9, "ns"))
    return f"{seconds / size:.3g} {name}"


def title(profile: Profile) -> list[str]:
    sizes = "".join(f", {name} {size}" for name, size in profile.sizes.items())
    threads = f"{profile.threads} thread{'s' * (profile.threads != 1)}"
    where = threads if profile.device == "cpu" else "a GPU"
    taken = f"{seconds_text(profile.step.median)} a call on {where}, median of {profile.repeat}"
    marks = [f"{mark}{part}" for part, mark in MARKS.items() if mark and any(row.part == part for row in profile.rows)]
    return [shorten(f"{profile.name}({profile.inputs})", WIDTH), "; ".join([f"{taken}{sizes}", *marks])]


def sums(profile: Profile) -> Iterator[str]:
    whole, low, high = profile.step.median, profile.step.low, profile.step.high
    yield (
        f"{len(profile.rows)} kernels {seconds_text(profile.kernels)}, {profile.kernels / whole:.1%} of "
        f"the plain step: {seconds_text(whole)} ({seconds_text(low)} to {seconds_text(high)})"
    )
    marked = profile.marked.median
    yield f"with the clock read around kernels {seconds_text(marked)} ({marked / whole - 1:+.1%})"
    if profile.predicted is not None:
        expected = profile.predicted
        ratio = expected / (profile.kernels or expected)
        yield f"predicted for the kernels {seconds_text(expected)}, {ratio:.2f} times what is measured"
    if profile.threads > 1:
        yield f"a thread waits for others up to {seconds_text(profile.waiting.median)}"
    if any(each.high > DISTURBED * each.low for each in (profile.step, profile.marked)):
        yield "quartiles of the step are far apart: other work was in the way; measure again without it"
    if profile.left_out:
        yield f"the trace has no room for {profile.left_out:,} runs of kernels; their times are in the table"


def html(profile: Profile) -> str:
    """The table with a bar behind each name, in the colours of pictures."""
    heads = head(profile)
    most = max((row.seconds.median for row in profile.rows), default=0.0) or 1.0
    lines = [html_row("th", heads, heads)]
    for row in profile.by_time:
        part, colour = 100 * row.seconds.median / most, PALETTE[row.part].fill
        bar = f"background:linear-gradient(to right,{colour} {part:.1f}%,transparent {part:.1f}%)"
        shown = (*cells(profile, row), line_of(row, WIDTH))
        lines.append(html_row("td", heads, shown, bar, "\n".join(row.lines)))
    above, below = ("<br>".join(map(escape, texts)) for texts in (title(profile), sums(profile)))
    body = "\n".join(lines)
    look = "background:#fff;color:#0f172a;color-scheme:light;padding:8px"
    return f"<div style='{look}'>{above}<table style='border-spacing:8px 1px'>\n{body}\n</table>{below}</div>"


def html_row(kind: str, heads: tuple[str, ...], shown: tuple[str, ...], bar: str = "", tooltip: str = "") -> str:
    inside = []
    for name, cell in zip(heads, shown, strict=True):
        style = f"text-align:{'left' if name in LEFT else 'right'}" + f";{bar}" * (bar != "" and name == "kernel")
        inside.append(f"<{kind} style='{style}'>{escape(cell)}</{kind}>")
    return f"<tr title='{escape(tooltip, quote=True)}'>{''.join(inside)}</tr>"

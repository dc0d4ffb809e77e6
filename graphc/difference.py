"""What the passes between two stages did to a graph: `step.diff("autodiff", "fuse")`."""

from __future__ import annotations

import os
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from graphc import show
from graphc.errors import ArgumentError
from graphc.ir import ops
from graphc.ir.autodiff import expand_gradients
from graphc.ir.dot.style import user_line
from graphc.ir.graph import Graph, Origin, Value, user_origin
from graphc.ir.loops import Buffer
from graphc.ir.passes import followed
from graphc.ir.program import Program
from graphc.ir.text import print_arguments, value_names
from graphc.ir.trail import Change, Path, Trail
from graphc.settings import check_choice

if TYPE_CHECKING:
    from graphc.function import Function

FUSED = "fuse"
ALIASES = ("autodiff", "graph", "kernels")
SIGNS = {"rewritten": "~", "added": "+", "merged": "=", "removed": "-"}
COLOURS = {"rewritten": "33", "added": "32", "merged": "34", "removed": "31"}  # of a terminal
BOLD, DIM = "1", "2"
MOST = 12  # entries of one rule in text
WIDEST = 96  # characters before a user's line
UNREAD = "nobody reads it any more"
TWIN = "computed already"


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one value.

    kind   "rewritten", "added", "merged" or "removed"
    text   the value as the graph's text has it and, where something stands for it, an arrow and what that is
    """

    kind: str
    text: str
    origin: Origin | None


@dataclass(frozen=True, slots=True)
class Group:
    """What one rule, or several that followed one another, did.

    step   the pass of the first
    rules  what each is, with its pass where that is another
    """

    step: str
    rules: tuple[str, ...]
    reason: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A kernel, the values that went into it, what it reads and what it leaves in memory."""

    title: str
    values: tuple[str, ...]
    read: tuple[str, ...]
    written: tuple[str, ...]
    origins: tuple[Origin, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """What happened between two stages; printed it is text, in colours at a terminal unless NO_COLOR is set.

    title    one line: the stages and how many values each has
    kernels  where the second stage is "fuse": which values went into which kernel
    """

    title: str
    groups: tuple[Group, ...]
    kernels: tuple[Part, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(entry for group in self.groups for entry in group.entries)

    def text(self, color: bool | None = None) -> str:
        """color: None: where standard output is a terminal and NO_COLOR is not set."""
        if color is None:
            color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        return "\n".join(written(self, painted if color else plain)) + "\n"

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return self.text().rstrip("\n")

    def to_html(self, path: Any = None) -> str:
        """A page of its own, with all that the text leaves out, written to `path` if one is given."""
        head = f"<meta charset='utf-8'><title>{escape(self.title)}</title>"
        page = f"<!doctype html>\n<html><head>{head}</head>\n<body>\n{self._repr_html_()}\n</body></html>\n"
        return show.written(page, path)

    def _repr_html_(self) -> str:
        return "\n".join(html_lines(self))


def difference(function: Function, first: str, last: str) -> Difference:
    """Raises ArgumentError for a stage that is not there, or two in the wrong order."""
    names = (*("trace", *(step.__name__ for step in function.passes)), FUSED)
    begin, end = (stage(name, given, names) for name, given in (("pass_a", first), ("pass_b", last)))
    if names.index(begin) > names.index(end):
        text = f"{first!r} comes after {last!r}"
        raise ArgumentError(text, user_origin(), [f"did you mean {function.name}.diff({last!r}, {first!r})?"])
    trail = followed(function.traced, function.passes)
    groups, counts = compared(trail, names.index(begin), min(names.index(end), len(trail.stages) - 1))
    kernels = tuple(parts(function.artifact.program)) if end == FUSED and begin != FUSED else ()
    told = ", ".join(f"{counts[kind]} {kind} ({sign})" for kind, sign in SIGNS.items() if counts[kind])
    title = f"{function.name}, from {begin} to {end}: {counts['before']} values become {counts['after']}"
    title += f", {told}" if told else ", none of them changed"
    return Difference(title + (f"; kernels: {len(kernels)}" if kernels else ""), groups, kernels)


def stage(name: str, given: Any, names: tuple[str, ...]) -> str:
    chosen: str = check_choice(name, given, (*names, *ALIASES))
    return dict(zip(ALIASES, (expand_gradients.__name__, names[-2], FUSED), strict=True)).get(chosen, chosen)


# -- values


def compared(trail: Trail, first: int, last: int) -> tuple[tuple[Group, ...], Counter[str]]:
    """All that happened to values, by the rules that did it, and how often."""
    before, after = (Names(trail.stages[number].graph) for number in (first, last))
    paths = trail.paths(first, last)
    same = {path.now for path in paths if path.since == first and path.end is None and not path.changes}
    counts = Counter(before=len(before.places), after=len(after.places))
    found: dict[tuple[Change, ...], list[Entry]] = {}
    stands: dict[Value, Path] = {}
    for path in paths:
        kind, changes = kind_of(path, first, trail, stands.get(path.now))
        stands.setdefault(path.now, path)
        if kind == "kept":
            continue
        text = before.line(path.first) if path.since == first else after.line(path.now)
        if kind in ("rewritten", "merged"):
            text += f"  →  {after.name(path.now) if path.now in same else after.line(path.now, typed=False)}"
        counts[kind] += 1
        found.setdefault(changes, []).append(Entry(kind, text, path.first.origin))
    order = [stage.name for stage in trail.stages]
    groups = [group(changes, entries) for changes, entries in found.items()]
    kinds = list(SIGNS)
    return tuple(sorted(groups, key=lambda each: (order.index(each.step), kinds.index(each.entries[0].kind)))), counts


def kind_of(path: Path, first: int, trail: Trail, twin: Path | None) -> tuple[str, tuple[Change, ...]]:
    """What happened to a value, and by what; "kept" where there is nothing to tell.

    twin  another value that has become the same
    """
    if path.since != first:
        return ("kept", ()) if path.end is not None or twin is not None else ("added", path.changes)
    if path.end is not None:
        return "removed", (Change(trail.stages[path.end].name, UNREAD),)
    if path.changes:
        return "rewritten", path.changes
    if twin is None:
        return "kept", ()
    together = next(number for number, pair in enumerate(zip(path.steps, twin.steps), 1) if pair[0] is pair[1])
    return "merged", (Change(trail.stages[first + together].name, TWIN),)


def group(changes: tuple[Change, ...], entries: list[Entry]) -> Group:
    step = changes[0].step
    rules = (change.text if change.step == step else f"{change.text}  ({change.step})" for change in changes)
    reasons = dict.fromkeys(change.reason for change in changes if change.reason)
    return Group(step, tuple(dict.fromkeys(rules)), "; ".join(reasons), tuple(entries))


class Names:
    """What the text of a graph calls its values, those inside of loops as well.

    places  value -> the loops it is inside of, and the names in the graph it is of
    """

    def __init__(self, graph: Graph) -> None:
        self.places: dict[Value, tuple[str, Mapping[Value, str]]] = {}
        self.add(graph, "")

    def add(self, graph: Graph, inside: str) -> None:
        names = value_names(graph)
        for value in graph.values():
            self.places[value] = inside, names
            if value.op.kind == "loop":
                self.add(value.attrs["body"].graph, f"in %{names[value]}: {inside}")

    def name(self, value: Value) -> str:
        inside, names = self.places[value]
        return f"{inside}%{names[value]}"

    def line(self, value: Value, *, typed: bool = True) -> str:
        """A value as the text has it."""
        inside, names = self.places[value]
        kind = f": {value.type}" if typed else ""
        if value.op is ops.input:
            return f"{inside}%{names[value]}{kind}"
        return f"{inside}%{names[value]}{kind} = {value.op.name}({print_arguments(value, names)})"


# -- kernels


def parts(program: Program, inside: str = "") -> Iterator[Part]:
    """The kernels of a program and of those it repeats, in order."""
    names = {value: f"%{name}" for value, name in value_names(program.graph).items()}
    for number, nest in enumerate(program.apart):
        place = f"{inside}{number}"
        if nest.repetition is not None:
            times = nest.repetition.value.attrs["length"]
            title = (
                f"kernel {place}: a loop, {times} times" if nest.repetition.rows is None else f"kernel {place}: rows"
            )
        else:
            title = f"kernel {place}: {nest.name} over [{', '.join(map(str, nest.frame))}]"
        values = (f"{names[value]} {value.op.name}" for value in dict.fromkeys(nest.values()) if value in names)
        reads, writes = (buffer_names(buffers, names) for buffers in (nest.read(), nest.written()))
        origins = tuple(origin for origin in nest.origins if isinstance(origin, Origin))
        yield Part(title, tuple(values), reads, writes, origins)
        if nest.repetition is not None:
            yield from parts(nest.repetition.program, f"{place}.")


def buffer_names(buffers: Iterable[Buffer], names: Mapping[Value, str]) -> tuple[str, ...]:
    """Memory by what is in it; what a kernel has for itself is left out."""
    found = []
    for buffer in buffers:
        if buffer.kind != "scratch":
            found.append(f"{buffer.kind} {buffer.name}" if buffer.kind == "result" else names[buffer.value])
    return tuple(dict.fromkeys(found))


# -- as text and as HTML

Paint = Callable[[str, str], str]


def plain(text: str, style: str) -> str:
    return text


def painted(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m"


def written(found: Difference, paint: Paint) -> Iterator[str]:
    yield paint(found.title, BOLD)
    step = ""
    for each in found.groups:
        if each.step != step:
            step = each.step
            yield from ("", paint(step, BOLD))
        yield from ("  " + paint(rule, BOLD) for rule in each.rules)
        if each.reason:
            yield from ("      " + paint(line, DIM) for line in textwrap.wrap(each.reason, WIDEST))
        shown = each.entries[:MOST] if len(each.entries) > MOST + 1 else each.entries
        width = max((len(entry.text) for entry in shown if len(entry.text) <= WIDEST), default=0)
        for entry in shown:
            place = f"{' ' * (width - len(entry.text))}  {paint(place_of(entry.origin), DIM)}" if entry.origin else ""
            yield f"    {paint(f'{SIGNS[entry.kind]} {entry.text}', COLOURS[entry.kind])}{place}"
        if len(shown) < len(each.entries):
            yield f"      … and {len(each.entries) - len(shown)} more"
    if found.kernels:
        yield from ("", paint(FUSED, BOLD))
    for kernel in found.kernels:
        place = ", ".join(dict.fromkeys(map(str, kernel.origins)))
        yield f"  {paint(kernel.title, BOLD)}{'  ' + paint(place, DIM) if place else ''}"
        for label, items in (("computes", kernel.values), ("reads", kernel.read), ("leaves", kernel.written)):
            if items:
                lines = textwrap.wrap(", ".join(map(unbroken, items)), WIDEST, break_on_hyphens=False)
                yield from (f"    {label if line is lines[0] else '':<8}  {broken(line)}" for line in lines)


def place_of(origin: Origin) -> str:
    return f"{origin} in {origin.module}" if origin.module else str(origin)


def unbroken(text: str) -> str:
    """With spaces that no line is broken at."""
    return text.replace(" ", "\u00a0")


def broken(text: str) -> str:
    return text.replace("\u00a0", " ")


STYLE = """<style>
.graphc-diff { font: 13px/1.5 ui-monospace, monospace; color: #0f172a; background: #fff; padding: 8px }
.graphc-diff h3 { font-size: 14px; margin: 12px 0 2px }
.graphc-diff summary { cursor: pointer; padding: 2px 0 }
.graphc-diff .reason, .graphc-diff .line { color: #64748b }
.graphc-diff table { border-collapse: collapse; margin: 0 0 6px 16px }
.graphc-diff td { padding: 0 12px 0 0; vertical-align: top; text-align: left; white-space: pre-wrap }
.graphc-diff .rewritten { color: #92400e } .graphc-diff .added { color: #166534 }
.graphc-diff .merged { color: #1e40af } .graphc-diff .removed { color: #b91c1c }
</style>"""


def html_lines(found: Difference) -> Iterator[str]:
    yield f'{STYLE}<div class="graphc-diff"><b>{escape(found.title)}</b>'
    step = ""
    for each in found.groups:
        if each.step != step:
            step = each.step
            yield f"<h3>{escape(step)}</h3>"
        reason = f'<div class="reason">{escape(each.reason)}</div>' if each.reason else ""
        rules = "<br>".join(map(escape, each.rules))
        opened = " open" if len(each.entries) <= MOST else ""
        yield f"<details{opened}><summary><b>{rules}</b> ×{len(each.entries)}</summary>{reason}<table>"
        for entry in each.entries:
            cells = f"<td>{SIGNS[entry.kind]}</td><td>{escape(entry.text)}</td>"
            place, line = map(escape, (place_of(entry.origin), user_line(entry.origin)) if entry.origin else ("", ""))
            yield f'<tr class="{entry.kind}" title="{line}">{cells}<td class="line">{place}</td></tr>'
        yield "</table></details>"
    if found.kernels:
        yield f"<h3>{FUSED}</h3>"
    for kernel in found.kernels:
        yield f"<details open><summary><b>{escape(kernel.title)}</b></summary><table>"
        lines = dict.fromkeys(map(user_line, kernel.origins))
        rows = {"computes": kernel.values, "reads": kernel.read, "leaves": kernel.written, "lines": lines}
        for label, items in rows.items():
            yield f"<tr><td>{label}</td><td>{escape(', '.join(items))}</td></tr>"
        yield "</table></details>"
    yield "</div>"

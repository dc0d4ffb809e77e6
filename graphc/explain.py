"""What the compiler made safe, and where: `step.explain()`; of one value, `step.explain("loss")`, see about.py."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from graphc.ir.dot.style import MOST_LINES, user_line
from graphc.ir.graph import Graph, Origin
from graphc.ir.passes import PIPELINE, followed, stabilise
from graphc.ir.rewrite import Rule
from graphc.settings import is_whole, require

if TYPE_CHECKING:
    from graphc.function import Function

WIDTH = 100
Rewrites = dict[Rule, list[Origin | None]]


class Explanation(str):
    """Text that an interactive session shows as it is printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def explain(function: Function, name: str | int | None) -> Explanation:
    """Raises TraceError for a name the function does not know."""
    fits = name is None or isinstance(name, str) or is_whole(name)
    require(fits, "name", name, "a text, the number of a line, or None")
    if name is None:
        return Explanation("\n".join(made_safe(function)))
    from graphc.about import About

    return Explanation("\n".join(About(function).tell(str(name))))


# -- formulas made safe


def rewrites(graph: Graph) -> Rewrites:
    """The stabilising rules that fire in a traced graph, each with what it replaces."""
    found: Rewrites = {}
    for run in followed(graph, PIPELINE[: PIPELINE.index(stabilise) + 1]).stages[-1].runs:
        for value, (change, _) in run.changed.items():
            if isinstance(change.rule, Rule):
                found.setdefault(change.rule, []).append(value.origin)
    return found


def made_safe(function: Function) -> Iterator[str]:
    found = rewrites(function.traced)
    yield f"{function.name}: {count_of(found)} made safe"
    described = function.artifact.description
    if described.rows:
        yield (
            f"its batch is taken {described.rows} rows at a time and its sums are added up, so that it works in "
            f"{described.work_bytes:,} bytes"
        )
    for paragraph in paragraphs(found):
        yield from ("", *paragraph)


def paragraphs(found: Rewrites) -> Iterator[list[str]]:
    """The user's lines at which the same rules fired, the reasons, and under each of them its rules."""
    rules_at: dict[str, dict[Rule, None]] = {}
    for rule, origins in found.items():
        for origin in origins:
            rules_at.setdefault(line_of(origin), {})[rule] = None
    lines_with: dict[tuple[Rule, ...], list[str]] = {}
    for line, rules in rules_at.items():
        lines_with.setdefault(tuple(rules), []).append(line)
    for fired, lines in lines_with.items():
        if len(lines) > MOST_LINES:
            lines[MOST_LINES:] = [f"… and {len(lines) - MOST_LINES} more"]
        for reason in dict.fromkeys(rule.reason for rule in fired):
            lines += indented(textwrap.wrap(reason, WIDTH))
            lines += indented((rule.text.partition(" if ")[0] for rule in fired if rule.reason == reason), 2)
        yield lines


def line_of(origin: Origin | None) -> str:
    return user_line(origin) if origin else "in no line of yours"


def indented(lines: Iterable[str], depth: int = 1) -> list[str]:
    return ["  " * depth + line for line in lines]


def count_of(found: Rewrites) -> str:
    """How many of the user's expressions had to be made safe."""
    number = len({line_of(origin) for origins in found.values() for origin in origins})
    return f"{number or 'no'} formula{'' if number == 1 else 's'}"


def note(function: Function) -> str:
    """One line for a summary; "" where nothing was made safe."""
    found = rewrites(function.traced)
    return f"{count_of(found)} made safe: {function.name}.explain()" if found else ""

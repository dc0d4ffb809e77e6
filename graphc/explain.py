"""What the compiler made safe, and where, and what it made of one value: `step.explain()`, `step.explain("loss")`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from graphc.errors import TraceError
from graphc.ir.dot.style import MOST_LINES, user_line, user_lines
from graphc.ir.graph import Graph, Origin, Output, Value, user_origin
from graphc.ir.loops import Buffer
from graphc.ir.passes import PIPELINE, followed, stabilise
from graphc.ir.rewrite import Rule
from graphc.settings import require
from graphc.suggestions import did_you_mean

if TYPE_CHECKING:
    from graphc.function import Function

WIDTH = 100
Rewrites = dict[Rule, list[Origin | None]]


class Explanation(str):
    """Text that an interactive session shows as it is printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def explain(function: Function, name: str | None) -> Explanation:
    """Raises TraceError for a name the function does not know."""
    require(name is None or isinstance(name, str), "name", name, "a text or None")
    lines = made_safe(function) if name is None else about(function, name)
    return Explanation("\n".join(lines))


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


# -- one value


def about(function: Function, name: str) -> Iterator[str]:
    """What a result, an input, a parameter or a scalar is, where it comes from, and which kernel computes it."""
    results = {output.name: output for output in function.traced.of_kind("result")}
    inputs = {value.attrs["name"]: value for value in function.traced.inputs}
    if name in function.figures:
        yield from about_figure(function, name)
    elif name in results:
        yield from about_output(function, results[name], "a result, an array of its own for every call")
    elif name in inputs:
        yield from about_input(function, inputs[name])
    else:
        raise unknown(function, name, dict.fromkeys((*results, *function.figures, *inputs)))


def unknown(function: Function, name: str, known: Iterable[str]) -> TraceError:
    names = list(known)
    advice = did_you_mean(name, names) or [textwrap.shorten(f"it has {', '.join(names)}", WIDTH)]
    return TraceError(f"{function.name} has no result, input, parameter or scalar {name!r}", user_origin(), advice)


def about_figure(function: Function, name: str) -> Iterator[str]:
    (output,) = function.figures[name].outputs
    sums = ", ".join(value.attrs["name"] for value in function.figures[name].inputs)
    yield f"{name}: {output.value.type}, computed of {sums} after the call"
    yield from indented(user_lines([output.value.origin]))


def about_output(function: Function, output: Output, place: str) -> Iterator[str]:
    yield f"{output.name}: {output.value.type}, {place}"
    yield from indented(user_lines([output.value.origin]))
    yield f"  computed by {kernel_of(function, output)}"
    safer = [*paragraphs(rewrites(replace(function.traced, outputs=(output,))))]
    if safer:
        yield "  made safe on the way:"
    for paragraph in safer:
        yield from indented(paragraph, 2)


def about_input(function: Function, value: Value) -> Iterator[str]:
    name, role = value.attrs["name"], value.attrs["role"]
    if role == "data":
        yield f"{name}: {value.type}, an input, read where the caller has it"
    elif role == "scalar":
        number = function.scalars[name].number
        yield f"{name}: {value.type}, a number that {function.name}.set({name}=...) changes, now {number:g}"
    else:
        yield from about_state(function, value)
    nests = function.artifact.program.nests
    readers = dict.fromkeys(nest.name for nest in nests if any(is_home(buffer, name) for buffer in nest.read()))
    if readers:
        yield f"  read by {', '.join(readers)}"


def about_state(function: Function, value: Value) -> Iterator[str]:
    name = value.attrs["name"]
    owner = function.parameters[name]
    updates = [output for output in function.traced.of_kind("update") if output.name == name]
    place = f"{owner.storage.array.nbytes:,} bytes of state"
    for update in updates:
        yield from about_output(function, update, f"{place}, updated in place")
    if not updates:
        yield f"{name}: {value.type}, {place} that are only read"
    yield from (f"  declared at {line}" for line in user_lines([owner.input.origin]))


def is_home(buffer: Buffer, name: str) -> bool:
    """The memory of an input or a state of that name."""
    return buffer.kind == "input" and buffer.value.attrs["name"] == name


def kernel_of(function: Function, output: Output) -> str:
    """The kernel that leaves an output in its place."""
    nests = function.artifact.program.nests
    for number, nest in enumerate(nests, 1):
        for buffer in nest.written():
            wanted = buffer.kind == "result" and buffer.name == output.name
            if is_home(buffer, output.name) if output.kind == "update" else wanted:
                return f"kernel {number} of {len(nests)}, {nest.name}"
    return "no kernel"

"""All that is known of one value of a compiled function: `step.explain("h")`."""

from __future__ import annotations

import linecache
import os
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from graphc.commented import owners, stored
from graphc.errors import TraceError
from graphc.explain import indented, paragraphs, rewrites
from graphc.ir.access import is_constant, memory_of, resolve
from graphc.ir.dot.style import bytes_text, user_lines
from graphc.ir.formulas import formula
from graphc.ir.graph import Output, Value, user_origin
from graphc.ir.loops import Buffer, LoopNest
from graphc.ir.program import Program
from graphc.ir.text import value_names
from graphc.ir.trail import Path
from graphc.naming import Naming, gradients_of
from graphc.plan import PROBE
from graphc.suggestions import did_you_mean

if TYPE_CHECKING:
    from graphc.function import Function

GRADIENT = re.compile(r"(?:grad|gradient) of (.+)")
PLACE = re.compile(r"(?:(.+):)?(\d+)")
MOST = 40  # values of one line
WIDTH = 100


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A nest with its number, before and after values took the places of others, and the program it is of."""

    number: str
    apart: LoopNest
    nest: LoopNest
    program: Program

    def __str__(self) -> str:
        return f"kernel {self.number}, {self.apart.name}"


def kernels_of(program: Program, inside: str = "") -> Iterator[Kernel]:
    """The kernels of a program and of those it repeats, in order."""
    for number, (apart, nest) in enumerate(zip(program.apart, program.nests, strict=True)):
        yield Kernel(f"{inside}{number}", apart, nest, program)
        if nest.repetition is not None:
            yield from kernels_of(nest.repetition.program, f"{inside}{number}.")


class About:
    """Answers what is asked of a function's values."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.program = function.artifact.program
        self.names = Naming(function, self.program)
        self.kernels = list(kernels_of(self.program))
        self.results = {each.name.removeprefix(PROBE): each for each in function.traced.of_kind("result")}
        self.inputs = {value.attrs["name"]: value for value in function.traced.inputs}
        self.by_name = {name: value for value, name in self.names.items()}

    @cached_property
    def numbers(self) -> dict[str, Value]:
        """The values by what the graph's text calls them."""
        return {f"%{name}": value for value, name in value_names(self.program.graph).items()}

    def tell(self, name: str) -> Iterator[str]:
        """Raises TraceError for a name that nothing has."""
        asked, place = GRADIENT.fullmatch(name), PLACE.fullmatch(name)
        known = {*self.results, *self.inputs, *self.function.figures}
        if name in self.function.figures:
            yield from self.figure(name)
        elif name in self.results:
            yield from self.result(self.results[name])
        elif name in self.inputs:
            yield from self.input(self.inputs[name])
        elif asked is not None and asked[1] in known | self.by_name.keys():
            yield from self.gradient(asked[1])
        elif name in self.by_name or name in self.numbers:
            yield from self.computed(name, self.by_name.get(name) or self.numbers[name])
        elif place is not None:
            yield from self.line(place[1], int(place[2]))
        else:
            raise self.unknown(name)

    def unknown(self, name: str) -> TraceError:
        names = [*self.results, *self.function.figures, *self.inputs]
        others = [*self.by_name, *(f"grad of {each}" for each in self.gradients)]
        advice = did_you_mean(name, dict.fromkeys((*names, *others)))
        advice = advice or [textwrap.shorten(f"it has {', '.join(dict.fromkeys(names))}", WIDTH)]
        title = self.function.name
        return TraceError(f"{title} has no result, input, parameter or scalar {name!r}", user_origin(), advice)

    # -- what has a name

    def figure(self, name: str) -> Iterator[str]:
        (output,) = self.function.figures[name].outputs
        sums = ", ".join(value.attrs["name"] for value in self.function.figures[name].inputs)
        yield f"{name}: {output.value.type}, computed of {sums} after the call"
        yield from indented(user_lines([output.value.origin]))

    def result(self, output: Output) -> Iterator[str]:
        name = output.name.removeprefix(PROBE)
        place = "a result, an array of its own for every call"
        if name != output.name:
            place = f"looked at by a probe: {self.function.name}.probes[{name!r}] after a call"
        yield f"{name}: {output.value.type}, {place}"
        yield from self.details(self.output("result", output.name), output.value)
        yield from self.made_safe(output)

    def output(self, kind: str, name: str) -> Value:
        """What an output of the finished graph is."""
        return next(each.value for each in self.program.graph.of_kind(kind) if each.name == name)

    def made_safe(self, output: Output) -> Iterator[str]:
        safer = [*paragraphs(rewrites(replace(self.function.traced, outputs=(output,))))]
        if safer:
            yield "  made safe on the way:"
        for paragraph in safer:
            yield from indented(paragraph, 2)

    def input(self, value: Value) -> Iterator[str]:
        name, role = value.attrs["name"], value.attrs["role"]
        if role == "data":
            yield f"{name}: {value.type}, an input, read where the caller has it"
        elif role == "scalar":
            number = self.function.scalars[name].number
            yield f"{name}: {value.type}, a number that {self.function.name}.set({name}=...) changes, now {number:g}"
        else:
            yield from self.state(value)
        own = next(each for each in self.program.graph.inputs if each.attrs["name"] == name)
        yield from self.readers(own)
        if name in self.gradients:
            yield f"  its gradient: {self.function.name}.explain('grad of {name}')"

    def state(self, value: Value) -> Iterator[str]:
        name = value.attrs["name"]
        owner = self.function.parameters[name]
        states = [each.attrs["name"] for each in self.function.traced.of_role("state")]
        slot = f"state {states.index(name)} of 0 to {len(states) - 1}"
        place = f"{owner.storage.array.nbytes:,} bytes of state"
        updates = [each for each in self.function.traced.of_kind("update") if each.name == name]
        for update in updates:
            yield f"{name}: {value.type}, {place}, updated in place; {slot}"
            yield from self.details(self.output("update", name), update.value)
            yield from self.made_safe(update)
        if not updates:
            yield f"{name}: {value.type}, {place} that are only read; {slot}"
        yield from (f"  declared at {line}" for line in user_lines([owner.input.origin]))

    @cached_property
    def gradients(self) -> dict[str, list[Value]]:
        """The gradients of what has a name, as they are in the finished graph: one for each loss."""
        named: dict[Path, list[str]] = {}
        for name, value in self.inputs.items():
            for path in self.names.paths_of(value):
                named.setdefault(path, []).append(name)
        for value, name in self.names.items():
            for path in self.names.paths_to(value):
                named.setdefault(path, []).append(name)
        found: dict[str, list[Value]] = {}
        for slopes in gradients_of(self.names.trail, self.names.paths):
            for path, ways in slopes.items():
                ends = [self.names.own[way.now] for way in ways if way.now in self.names.own]
                for name in named.get(path, ()) if ends else ():
                    found[name] = list(dict.fromkeys((*found.get(name, ()), *ends)))
        return found

    def gradient(self, name: str) -> Iterator[str]:
        if name not in self.gradients:
            text = f"{self.function.name} computes no gradient of {name}"
            raise TraceError(text, user_origin(), [f"it does of {', '.join(self.gradients)}"] if self.gradients else [])
        for value in self.gradients[name]:
            yield f"gradient of {name}: {self.kind(value)}"
            yield from self.details(value, None)

    def computed(self, name: str, value: Value) -> Iterator[str]:
        yield f"{name}: {self.kind(value)}"
        yield from self.details(value, None)

    def kind(self, value: Value) -> str:
        return f"{value.type}, {bytes_text(value.type.max_bytes)} at most, {value.role} pass, by {value.op.name}"

    # -- where a value comes from, what was done to it, where it is

    def details(self, value: Value, traced: Value | None) -> Iterator[str]:
        """value: of the finished graph; traced: what it was at first, where that is known."""
        others = {each: name for each, name in self.names.items() if each is not memory_of(value)}
        if value.op.kind != "source":
            yield f"  = {formula(value, others)}"
        yield from indented(user_lines([value.origin]))
        module = value.origin.module if value.origin else ""
        if module:
            kind = self.function.layers.get(module, "")
            yield f"  in module {module}{f', {kind}' if kind else ''}"
        paths = self.names.paths_of(traced) if traced is not None else self.names.paths_to(value)
        told = [line for path in paths for line in history(path)]
        yield from indented(list(dict.fromkeys(told))[:MOST])
        yield from self.places(value)
        yield from self.readers(value)

    def places(self, value: Value) -> Iterator[str]:
        """Which kernel computes it, and where it is then."""
        owner = memory_of(value)
        if is_constant(owner):
            yield "  a constant, written out wherever it is used"
            return
        if owner.op.kind == "view":
            root = resolve(owner).root
            yield f"  a view: who reads it reads {self.label(root)} at other places"
            return
        leaving = [(kernel, buffer) for kernel in self.kernels for buffer in left_by(kernel, owner)]
        inside = [kernel for kernel in self.kernels if owner in kernel.apart.values()]
        for kernel in dict.fromkeys(kernel for kernel, _ in leaving):
            yield f"  computed by {kernel}, of 0 to {len(self.program.nests) - 1}"
        for kernel, buffer in leaving:
            yield f"  {self.place(kernel, buffer)}"
        again = [kernel for kernel in inside if not any(kernel is each for each, _ in leaving)]
        if again:
            text = "computed again inside of" if leaving or len(again) > 1 else "never in memory, computed inside of"
            yield f"  {text} {listed(again)}"
        if not leaving and not inside:
            yield "  in no kernel"

    def place(self, kernel: Kernel, buffer: Buffer) -> str:
        """What memory a kernel leaves a value in."""
        if buffer.kind == "result":
            return f"handed out as {buffer.name.removeprefix(PROBE)}"
        if buffer.kind == "input":
            return f"written over {buffer.value.attrs['name']}"
        real = {own: other for other, own in owners(kernel.apart, kernel.nest).items()}
        region = kernel.program.work.get((-1, real.get(buffer, buffer)))
        if region is None:
            return "kept in the arena"
        last = min(region.last, len(kernel.program.nests) - 1)
        taken = ", in the place of another" if real.get(buffer, buffer) != buffer else ""
        return (
            f"kept in the arena at {region.offset:,}, {region.size:,} bytes that are in use from kernel {region.first} "
            f"to {last}{taken}"
        )

    def readers(self, value: Value) -> Iterator[str]:
        owner = memory_of(value)
        found = [
            kernel
            for kernel in self.kernels
            if any(buffer.kind != "scratch" and memory_of(buffer.value) is owner for buffer in kernel.apart.read())
        ]
        if found:
            yield f"  read by {listed(found)}"

    def label(self, value: Value) -> str:
        """What a value is called: by the user, or in the graph's text."""
        owner = memory_of(value)
        if owner in self.names:
            return self.names[owner]
        return next((name for name, each in self.numbers.items() if each is owner), owner.op.name)

    # -- all of a line

    def line(self, file: str | None, line: int) -> Iterator[str]:
        """What was made at a line of the user's, by pass, and what was done to it."""
        here = [path for path in self.names.paths if self.is_at(path.first, file, line)]
        if not here:
            raise self.nothing_at(file, line)
        origin = here[0].first.origin
        assert origin is not None
        yield f"{origin}  {linecache.getline(origin.file, line).strip()}"
        values = dict.fromkeys(
            self.names.own[path.now] for path in here if path.end is None and path.now in self.names.own
        )
        shown = [value for value in values if value.op.kind not in ("source", "view")]
        for role in ("forward", "backward", "update"):
            some = [value for value in shown if value.role == role]
            if some:
                yield f"  {role}:"
            yield from indented(cut([self.in_short(value) for value in some]), 2)
        counts = Counter(line for path in here for line in history(path))
        if counts:
            yield "  what was done:"
        yield from indented(cut([f"{text}{f'  ×{count}' if count > 1 else ''}" for text, count in counts.items()]), 2)

    def is_at(self, value: Value, file: str | None, line: int) -> bool:
        origin = value.origin
        if origin is None or origin.line != line:
            return False
        return file is None or file in (origin.file, os.path.basename(origin.file)) or origin.file.endswith(f"/{file}")

    def nothing_at(self, file: str | None, line: int) -> TraceError:
        origins = (path.first.origin for path in self.names.paths)
        lines = sorted({(os.path.basename(each.file), each.line) for each in origins if each is not None})
        near = sorted(lines, key=lambda each: (file not in (None, each[0]), abs(each[1] - line)))[:6]
        text = f"nothing of {self.function.name} is computed at {f'{file}:' if file else 'line '}{line}"
        places = ", ".join(f"{name}:{number}" for name, number in sorted(near))
        return TraceError(text, user_origin(), [f"it is at {places}"] if near else [])

    def in_short(self, value: Value) -> str:
        others = {each: name for each, name in self.names.items() if each is not memory_of(value)}
        inside = [kernel.number for kernel in self.kernels if memory_of(value) in kernel.apart.values()]
        kernels = f"kernel {', '.join(inside)}" if inside else "in no kernel"
        return f"{self.label(value)}: {value.type} = {formula(value, others)}  ({kernels})"


def history(path: Path) -> Iterator[str]:
    """The rules that made a value what it is, in order, each with its reason."""
    for number, change in enumerate(path.changes):
        verb = "made as the" if number == 0 and path.since and change.text.startswith("derivative") else "rewritten:"
        reason = f": {change.reason}" if change.reason else ""
        yield f"{verb} {change.text} ({change.step}){reason}"


def left_by(kernel: Kernel, owner: Value) -> Iterator[Buffer]:
    """The memory in which a kernel leaves a value."""
    values = stored(kernel.apart)
    for buffer in kernel.apart.written():
        if buffer.kind != "scratch" and owner in (values.get(buffer), buffer.value if buffer.kind == "value" else None):
            yield buffer


def listed(kernels: Iterable[Kernel]) -> str:
    texts = list(dict.fromkeys(map(str, kernels)))
    more = f" and {len(texts) - 6} more" if len(texts) > 6 else ""
    return "; ".join(texts[:6]) + more


def cut(lines: list[str]) -> list[str]:
    """The first of many lines, and how many there are more."""
    return lines if len(lines) <= MOST else [*lines[:MOST], f"… and {len(lines) - MOST} more"]

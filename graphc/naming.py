"""What the values of a compiled function are called where people read it: by the names they have in the user's program.

An input, a parameter or a result has its own name. What is assigned to a variable has that of the variable, the result
of a module that of the attribute it is in; the gradient of `h` is `d_h`. Others are called after their op.
"""

from __future__ import annotations

import ast
import keyword
import linecache
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING

from graphc.ir import ops
from graphc.ir.access import memory_of
from graphc.ir.graph import Graph, Origin, Value
from graphc.ir.loops import Buffer, Repetition
from graphc.ir.passes import followed
from graphc.ir.program import Program
from graphc.ir.trail import Path, Trail, counterparts, every_value
from graphc.plan import PROBE

if TYPE_CHECKING:
    from graphc.function import Function

WORDS = ("arena", "new", "copy", "shares", "threads", "check", "step", "first")  # of the function that calls kernels
Span = tuple[int | None, ...]  # lines and columns at which an expression begins and ends


class Naming(dict[Value, str]):
    """Names of the values of a program, such as Python has them; each value has its own, but for what loops read.

    trail  what became of every value on the way there
    paths  of all values from the trace to the finished graph
    own    the program's value for each of the finished graph
    """

    def __init__(self, function: Function, program: Program) -> None:
        super().__init__()
        self.classes: Mapping[str, str] = function.layers
        self.trail = followed(function.traced, function.passes)
        self.taken: set[str] = {function.name, *WORDS}
        self.results: dict[Buffer, str] = {}
        for value in program.graph.inputs:
            self.give(value, self.identifier(value.attrs["name"]))
        for output in program.graph.of_kind("result"):
            owner, name = memory_of(output.value), self.fresh(self.identifier(output.name.removeprefix(PROBE)))
            self.results[Buffer("result", owner, output.name)] = name
            self.setdefault(owner, name)
        self.give_all(program.graph, labels(function, self.identifier))
        for output in program.graph.of_kind("check"):
            self.give(output.value, "violations")
        self.give_inside(program)

    def of(self, value: Value) -> str:
        """The name of a value; one after its module and op if the user has none for it."""
        owner = memory_of(value)
        module = owner.origin.module if owner.origin else ""
        self.give(owner, self.identifier(f"{module or 'value'}.{owner.op.name}"))
        return self[owner]

    def buffer(self, buffer: Buffer) -> str:
        """What memory is called: as what is in it, or for what it serves."""
        if buffer.kind == "scratch":
            return re.sub(r"\W", "_", buffer.name)
        return self.results.get(buffer) or self.of(buffer.value)

    def give(self, value: Value, name: str) -> None:
        """A value without a name gets one."""
        owner = memory_of(value)
        if owner not in self:
            self[owner] = self.fresh(name)

    def fresh(self, name: str) -> str:
        """The name, with a number behind it where it is taken."""
        number, found = 1, name
        while found in self.taken:
            number += 1
            found = f"{name}_{number}"
        self.taken.add(found)
        return found

    def identifier(self, name: str) -> str:
        """A name that Python has no other use for; one that begins with a number is behind that of its class."""
        plain = re.sub(r"\W", "_", name)
        if not plain or plain[0].isdigit():
            plain = f"{self.classes.get(name.partition('.')[0], 'layer').lower()}_{plain}"
        return f"{plain}_" if keyword.iskeyword(plain) else plain

    def give_all(self, graph: Graph, wanted: Iterable[tuple[Value, str]]) -> None:
        """Names of traced values to what has become of them, and to their gradients."""
        last = len(self.trail.stages) - 1
        self.own = {theirs: own for own, theirs in counterparts(graph, self.trail.stages[last].graph).items()}
        self.paths = self.trail.paths(0, last)
        mine, traced = self.own, {path.first: path for path in self.paths if path.since == 0}
        gradients = list(gradients_of(self.trail, self.paths))
        for value, name in wanted:
            path = traced.get(value)
            if path is None:  # an input that nothing reads
                continue
            shown = name in self.results.values()  # by what is handed out
            if not shown and path.end is None and path.now in mine and mine[path.now].op.kind != "source":
                self.give(mine[path.now], name)
            for slope in (found for slopes in gradients for found in slopes.get(path, ())):
                if slope.now in mine and mine[slope.now].op.kind != "source":
                    self.give(mine[slope.now], f"d_{name}")

    def paths_of(self, traced: Value) -> list[Path]:
        """The way of a traced value; none of an input that nothing reads."""
        return [path for path in self.paths if path.first is traced and path.since == 0]

    def paths_to(self, value: Value) -> list[Path]:
        """The ways that end at a value of the program."""
        return [path for path in self.paths if path.end is None and self.own.get(path.now) is value]

    def give_inside(self, program: Program) -> None:
        """What loops read is called as it is outside: slices and results as one place of an array."""
        for nest in program.nests:
            if nest.repetition is not None:
                self.name_inside(nest.repetition)
                self.give_inside(nest.repetition.program)

    def name_inside(self, loop: Repetition) -> None:
        place = "[step]" if loop.rows is None else "[first:]"
        self.update({data: self.buffer(buffer) for data, buffer in loop.captured})
        self.update({data: f"{self.buffer(buffer)}{place}" for data, buffer in loop.slices})
        for state, _, kept in loop.carries:
            self[state] = self.buffer(kept) if kept.kind != "scratch" else self.identifier(state.attrs["name"])
        for output, buffer in loop.results:
            owner = memory_of(output.value)
            self.results[Buffer("result", owner, output.name)] = f"{self.buffer(buffer)}{place}"


def gradients_of(trail: Trail, paths: Iterable[Path]) -> Iterator[dict[Path, list[Path]]]:
    """The ways of the cotangents of values, by the ways of these; of several values that became one, by all."""
    for number, stage in enumerate(trail.stages):
        if stage.slopes:
            here: dict[Value, list[Path]] = {}
            for path in paths:
                if path.since <= number:
                    here.setdefault(path.place(number), []).append(path)
            found: dict[Path, list[Path]] = {}
            for value, slope in (pair for sweep in stage.slopes for pair in sweep.items()):
                for path in here.get(value, ()):
                    found.setdefault(path, []).extend(here.get(slope, ())[:1])
            yield found


# -- names that the user has


def labels(function: Function, identifier: Callable[[str], str]) -> Iterator[tuple[Value, str]]:
    """Traced values with their names, those first that no one may take away."""
    traced = function.traced
    yield from ((value, identifier(value.attrs["name"])) for value in traced.inputs)
    yield from ((output.value, identifier(output.name.removeprefix(PROBE))) for output in traced.of_kind("result"))
    made_at = None if function.origin is None else function.origin[:2]
    yield from variables(traced, function.layers, made_at)
    yield from ((value, identifier(path)) for path, value in results_of_modules(traced))


def variables(
    traced: Graph, classes: Container[str], made_at: tuple[object, ...] | None
) -> Iterator[tuple[Value, str]]:
    """What is assigned to variables: the last value of each expression that is.

    classes  has the modules that were called
    made_at  where the function was made: what stands before that is the function's name
    """
    last: dict[tuple[object, ...], tuple[Origin, Value]] = {}
    modules: dict[object, set[str]] = {}
    for value in every_value(traced):
        if value.origin is not None and value.role == "forward" and value.op.kind != "source":
            last[value.origin[:2]] = value.origin, value
            for part in (value.origin[:2], value.origin.code):
                modules.setdefault(part, set()).add(value.origin.module)
    files: dict[str, dict[Span, str]] = {}
    for place, (origin, value) in last.items():
        if place != made_at and is_one_call(modules[place], modules[origin.code], classes):
            known = files.get(origin.file)
            if known is None:
                known = files[origin.file] = assignments(origin.file)
            if origin.span in known:
                yield value, known[origin.span]


def is_one_call(modules: set[str], around: set[str], classes: Container[str]) -> bool:
    """Whether the modules that ran at one place ran for one call there: they are one, or parts of one that was called.

    around  the modules that ran for any line of the same function
    """
    whole, own = common(modules), common(around)
    called = (".".join(whole[:depth]) in classes for depth in range(len(own) + 1, len(whole) + 1))
    return len(modules) == 1 or any(called)


def common(modules: set[str]) -> list[str]:
    """The path that all of them begin with."""
    columns = zip(*(path.split(".") for path in modules), strict=False)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]


def assignments(file: str) -> dict[Span, str]:
    """The variables of a file that something is assigned to, by the place of what is; of `self.h` it is h."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:  # cells of notebooks may have commands of their own
        return {}
    found: dict[Span, str] = {}
    for node in ast.walk(tree):
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name) | ast.Attribute(attr=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name) | ast.Attribute(attr=name), value=ast.expr() as value)
                | ast.NamedExpr(target=ast.Name(id=name), value=value)
            ):
                found[value.lineno, value.end_lineno, value.col_offset, value.end_col_offset] = name
    return found


def results_of_modules(traced: Graph) -> Iterator[tuple[str, Value]]:
    """The path of each module that ran, and the last of its values that something outside of it reads."""
    modules = {value: value.origin.module for value in traced.values() if value.origin and value.role == "forward"}
    outside = {output.value for output in traced.outputs}
    for value in traced.values():
        outside.update(each for each in value.operands if modules.get(each) != modules.get(value))
    found = {modules[value]: value for value in traced.values() if value in outside and modules.get(value)}
    yield from ((path, value) for path, value in found.items() if value.op is not ops.input)

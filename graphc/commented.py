"""Kernel source as people read it: `step.source()`.

Kernel texts are generic, so that equal layers share them. What they are for is said in comments, which are no part of
them: over each loop what it computes, as a formula in the user's names, with the user's line. Then comes the function
that calls them, in these names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from graphc.backends.primitives import Kernel
from graphc.backends.source import Source
from graphc.backends.source.lines import EACH
from graphc.ir import ops
from graphc.ir.access import memory_of
from graphc.ir.dot.style import MOST_LINES
from graphc.ir.formulas import LONGEST, formula
from graphc.ir.graph import Origin, Value
from graphc.ir.loops import INDEXED, Buffer, LoopNest, Repetition, Term
from graphc.ir.program import Program
from graphc.naming import Naming

if TYPE_CHECKING:
    from graphc.function import Function

MOST = 8  # comments over one loop
STORE = re.compile(r" *(?:store|add_at)\w*\((\w+), ")
CALL = re.compile(r" *(\w+)\((.*)\)$")
ASSIGNED = re.compile(r" *(\w+) = ")
LOOP = re.compile(r" *(?:for|while) .*:$")
FILLED = re.compile(r", (?:spread\()?\w+\(-?[\w.]+\)\)*$")  # with a constant
IN_PLACE: dict[Any, str] = {ops.sub: "-=", ops.add: "+="}
Effect = tuple[str, Any]  # "stored" or "filled" and the pointer, "reduced" and the term


Owners = Mapping[Buffer, Buffer]


@dataclass(frozen=True, slots=True)
class Use:
    """A nest that a kernel is called for, as it was before values took the places of others.

    number     of the kernel, in words
    owners     what is in each memory the text is called with, for the nest
    arguments  of the text; terms: by their names in it
    """

    number: str
    nest: LoopNest
    owners: Owners
    arguments: Sequence[Any]
    terms: Mapping[str, Term]


def source(function: Function) -> str:
    """Every kernel text once, those of nests in the order they are called, then what they call, then the calls."""
    names = Naming(function, function.artifact.program)
    return "\n\n".join([*kernel_texts(function, names).values(), "\n".join(Calls(function, names).written())]) + "\n"


def kernel_texts(function: Function, names: Naming | None = None) -> dict[str, str]:
    """The text of each kernel by its name, with comments; of kernels that others call, as it is."""
    artifact = function.artifact
    names = names or Naming(function, artifact.program)
    others = {kernel.name: kernel.text for kernel in artifact.kernels}
    found = uses(artifact.program, iter(artifact.sources))  # also by what gathers, which not every step has
    called = {name: used for name, used in found.items() if name in others}
    texts = {name: commented(used[0][0], [use for _, use in used], names) for name, used in called.items()}
    return texts | {name: text for name, text in others.items() if name not in texts}


def uses(program: Program, sources: Iterator[Source], inside: str = "") -> dict[str, list[tuple[Kernel, Use]]]:
    """The nests each kernel is called for, by the kernel's name."""
    found: dict[str, list[tuple[Kernel, Use]]] = {}
    for number, (apart, nest) in enumerate(zip(program.apart, program.nests, strict=True)):
        if nest.repetition is not None:
            for name, used in uses(nest.repetition.program, sources, f"{inside}{number}.").items():
                found.setdefault(name, []).extend(used)
            continue
        each: Source | None = next(sources)
        for kind in (each, each and each.finish, each and each.gather):
            if kind is not None:
                use = Use(f"kernel {inside}{number}", apart, owners(apart, nest), kind.arguments, kind.names)
                found.setdefault(kind.kernel.name, []).append((kind.kernel, use))
    return found


# -- comments over loops


def commented(kernel: Kernel, used: Sequence[Use], names: Naming) -> str:
    """The text of a kernel with comments in the names of the first nest that it is called for."""
    return "\n".join([head(used), *Comments(kernel, used[0], names).lines()]) + "\n"


def head(used: Sequence[Use]) -> str:
    use = used[0]
    numbers = ", ".join(each.number for each in used[1:MOST])
    more = f"; also {numbers}{' and more' if len(used) > MOST else ''}, where other names are in place of these"
    frame = f", over [{', '.join(map(str, use.nest.frame))}]" if use.nest.frame else ""
    return f"# {use.number}{frame}{more if len(used) > 1 else ''}"


class Comments:
    """Says what the loops of a kernel's text compute.

    pointers  the memory behind each pointer
    stored    what is stored in each memory
    """

    def __init__(self, kernel: Kernel, use: Use, names: Naming) -> None:
        self.text, self.use, self.names = kernel.text.splitlines(), use, names
        pairs = zip(kernel.parameters, use.arguments, strict=True)
        self.pointers = {
            name: use.owners.get(argument, argument) for (name, _), argument in pairs if isinstance(argument, Buffer)
        }
        self.stored = stored(use.nest)
        self.near = {memory_of(buffer.value): names.buffer(buffer) for buffer in memories(use.nest)}

    def lines(self) -> Iterator[str]:
        yield self.text[0]
        yield from self.block(self.text[1:], alone=False)

    def block(self, text: Sequence[str], alone: bool) -> Iterator[str]:
        """Lines with a comment over each loop, and over what is stored outside of all loops.

        alone  the loop in them does what is said over the lines already
        """
        loops = {number: inside(text, number) for number, line in enumerate(text) if LOOP.match(line)}
        number, told = 0, set[str]()  # of stores: a row of few numbers has one for each
        while number < len(text):
            line, margin = text[number], " " * indent(text[number])
            body = loops.get(number, [])
            outside = len(margin) == 4 and not body
            found = tuple(self.effects(body or [line]) if body or outside else ())
            shown = [effect for effect in found if body or effect[0] == "stored"]
            comments = () if alone else [each for each in self.comments(shown) if body or each not in told]
            told.update(() if body else comments)
            yield from (f"{margin}# {comment}" for comment in comments)
            yield line
            if body:
                several = sum(bool(list(self.effects(each))) for each in self.loops_of(body)) > 1
                yield from self.block(body, alone=not several)
            number += 1 + len(body)

    def loops_of(self, text: Sequence[str]) -> Iterator[list[str]]:
        """The bodies of the loops in lines, but for those inside of others."""
        number = 0
        while number < len(text):
            body = inside(text, number) if LOOP.match(text[number]) else []
            if body:
                yield body
            number += 1 + len(body)

    def effects(self, lines: Iterable[str]) -> Iterator[Effect]:
        """What lines leave in memory, and what they reduce, each once."""
        found: dict[Effect, None] = {}
        for line in lines:
            called = CALL.match(line)
            if STORE.match(line):
                pointer = STORE.match(line)[1]  # type: ignore[index]
                if pointer in self.pointers:
                    found["filled" if FILLED.search(line) else "stored", pointer] = None
            elif called and not called[1].startswith("prefetch"):
                written = (name for name in re.findall(r"\w+", called[2]) if self.is_written(name))
                found.update((("stored", name), None) for name in written)
            elif ASSIGNED.match(line):
                term = self.reduced(ASSIGNED.match(line)[1])  # type: ignore[index]
                if term is not None:
                    found["reduced", term] = None
        return iter(found)

    def is_written(self, name: str) -> bool:
        return name in self.pointers and self.pointers[name].kind != "scratch" and self.pointers[name] in self.stored

    def reduced(self, name: str) -> Term | None:
        """The reduction that a variable holds, as far as it got."""
        while name and name not in self.use.terms:
            name = name.rpartition("_")[0]
        term = self.use.terms.get(name)
        return term if term is not None and term.kind in ("row", "total") else None

    def comments(self, effects: Sequence[Effect]) -> Iterator[str]:
        left = {self.stored.get(self.pointers[what]) for kind, what in effects if kind == "stored"}
        told = (effect for effect in effects if effect[0] != "reduced" or effect[1].value not in left)
        found = dict.fromkeys(text for effect in told if (text := self.comment(effect)))
        shown = list(found)[:MOST] if len(found) > MOST + 1 else list(found)
        yield from shown
        if len(shown) < len(found):
            yield f"… and {len(found) - len(shown)} more"

    def comment(self, effect: Effect) -> str:
        kind, what = effect
        if kind == "reduced":
            label = next(name for name, term in self.use.terms.items() if term is what).replace(f"_{EACH}", "")
            return told_of(what.value, f"{label}: ", self.near)
        buffer = self.pointers[what]
        if buffer.kind == "scratch" and buffer.value.op.kind not in ("reduce", "scatter"):
            return ""
        name = self.name(buffer)
        if kind == "filled" and buffer.value.op.kind in ("reduce", "scatter"):
            return f"{name} starts empty"
        return told_of(self.stored.get(buffer, buffer.value), f"{name} = ", self.near)

    def name(self, buffer: Buffer) -> str:
        if buffer.kind == "scratch":
            return self.names.get(memory_of(buffer.value), buffer.value.op.name)
        return self.names.buffer(buffer)


def inside(text: Sequence[str], number: int) -> list[str]:
    """The lines below one that are further in."""
    return list(takewhile(lambda line: indent(line) > indent(text[number]), text[number + 1 :]))


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def owners(apart: LoopNest, nest: LoopNest) -> dict[Buffer, Buffer]:
    """Whose memory each that a nest works in is for it: of what it leaves there before what it finds."""
    found: dict[Buffer, Buffer] = {}
    if apart.product is not None and nest.product is not None:
        found[nest.product.left.buffer] = apart.product.left.buffer
        found[nest.product.right.buffer] = apart.product.right.buffer
    if apart.sweep is not None and nest.sweep is not None:
        found |= {nest.sweep.source: apart.sweep.source, nest.sweep.target: apart.sweep.target}
    for own, term in zip(apart.terms(), nest.terms(), strict=True):
        if own.kind in INDEXED:
            found[term.detail[0]] = own.detail[0]
    return found | {store.buffer: own.buffer for own, store in zip(apart.stores, nest.stores, strict=True)}


def stored(nest: LoopNest) -> dict[Buffer, Value]:
    """What is left in each memory."""
    found = {term.detail[0]: term.value for term in nest.terms() if term.kind in ("column", "scatter")}
    found |= {store.buffer: store.term.value for store in nest.stores}
    if nest.sweep is not None:
        found[nest.sweep.target] = nest.sweep.value
    return found


def memories(nest: LoopNest) -> Iterator[Buffer]:
    """All memory with a name that a nest reads or leaves numbers in."""
    return (buffer for buffer in nest.buffers() if buffer.kind != "scratch")


def told_of(value: Value, head: str, near: Mapping[Value, str]) -> str:
    """`name = formula   file:line`; a state that something is taken from or added to says so."""
    name, _, sign = head.rstrip().rpartition(" ")
    others = {each: known for each, known in near.items() if each is not memory_of(value)}
    text = formula(value, others, LONGEST)
    if sign == "=" and value.op in IN_PLACE and others.get(memory_of(value.operands[0])) == name:
        other = value.operands[1]
        head, text = f"{name} {IN_PLACE[value.op]} ", others.get(other) or formula(other, others, LONGEST)
    return f"{head}{text}{f'   {value.origin}' if value.origin else ''}"


# -- the function that calls them


class Calls:
    """Writes the function that calls the kernels."""

    def __init__(self, function: Function, names: Naming) -> None:
        self.function, self.names = function, names
        artifact = function.artifact
        self.program = artifact.program
        self.sources = {id(nest): each for nest, each in zip(self.program.walk(), artifact.sources, strict=True)}

    def written(self) -> Iterator[str]:
        graph = self.program.graph
        yield f"def {self.function.name}({', '.join(map(self.names.of, graph.inputs))}):"
        results = [
            self.names.results[Buffer("result", memory_of(each.value), each.name)] for each in graph.of_kind("result")
        ]
        for name, output in zip(results, graph.of_kind("result"), strict=True):
            yield f"    {name} = new({str(output.value.type)!r})"
        yield from self.places(self.program, "    ")
        yield from self.calls(self.program, "    ", "")
        if results:
            yield f"    return {', '.join(results)}"

    def places(self, program: Program, indent: str) -> Iterator[str]:
        """Where in the arena each value lies."""
        kept = [(region, buffer) for (_, buffer), region in program.work.items() if buffer.kind == "value"]
        for region, buffer in sorted(kept, key=lambda each: (each[0].first, each[0].offset)):
            last = min(region.last, len(program.nests) - 1)
            kernels = f"{region.first} to {last}" if region.first != last else str(last)
            place = f"arena({region.offset}, {str(buffer.value.type)!r})"
            yield f"{indent}{self.names.buffer(buffer)} = {place}  # kernel {kernels}"
        for number, (apart, nest) in enumerate(zip(program.apart, program.nests, strict=True)):
            for buffer, owner in owners(apart, nest).items():
                name, other = self.names.buffer(owner), self.names.buffer(buffer)
                if owner in apart.written() and name != other:
                    yield f"{indent}{name} = {other}  # from kernel {number} on, in its place"

    def calls(self, program: Program, indent: str, inside: str) -> Iterator[str]:
        for number, (apart, nest) in enumerate(zip(program.apart, program.nests, strict=True)):
            loop, place = nest.repetition, f"{inside}{number}"
            if loop is None:
                yield from call_comments(apart, self.names, indent)
                yield from self.call(self.sources[id(nest)], owners(apart, nest), indent)
            elif loop.rows is not None:
                some, rows = loop.rows
                line = f"{indent}for first in range(0, {rows}, {some.max}):  # {some} is {some.max}, or what is left"
            else:
                steps = f"range({loop.value.attrs['length']})"
                line = f"{indent}for step in {f'reversed({steps})' if loop.value.attrs['reverse'] else steps}:"
            if loop is not None:
                yield from self.starts(loop, indent)
                yield line
                yield from self.places(loop.program, indent + "    ")
                yield from self.calls(loop.program, indent + "    ", f"{place}.")
            for check in program.checks:
                if check.nest == number:
                    yield f"{indent}check({self.names.buffer(check.buffer)})  # stop here unless: {check.message}"

    def starts(self, loop: Repetition, indent: str) -> Iterator[str]:
        """What a loop carries is brought to where it is kept."""
        for state, start, kept in loop.carries:
            if start != kept:
                yield f"{indent}{self.names.of(state)} = copy({self.names.buffer(start)})"

    def call(self, source: Source, owners: Owners, indent: str) -> Iterator[str]:
        """A kernel's call; of a kernel whose work is shared out, the call of each share."""
        cut = source.cut
        if cut is not None:
            parts = str(cut.parts or "threads")
            yield f"{indent}for begin, end, part in shares({cut.extent}, unit={cut.unit}, parts={parts}):"
            indent += "    "
        arguments = ", ".join(argument_text(each, self.names, owners) for each in source.arguments)
        yield f"{indent}{source.kernel.name}({arguments})"
        if source.finish is not None:
            yield from self.call(source.finish, owners, indent[4:])


def call_comments(nest: LoopNest, names: Naming, indent: str) -> Iterator[str]:
    """What a nest leaves in memory, each as a formula with the user's line; the user's other lines that go into it."""
    near = {memory_of(buffer.value): names.buffer(buffer) for buffer in memories(nest)}
    left = {buffer: value for buffer, value in stored(nest).items() if buffer.kind != "scratch"}
    for buffer, value in left.items():
        yield f"{indent}# {told_of(value, f'{names.buffer(buffer)} = ', near)}"
    told = {str(value.origin) for value in left.values()}
    others = dict.fromkeys(str(origin) for origin in nest.origins if isinstance(origin, Origin))
    rest = [place for place in others if place not in told]
    if rest:
        more = f" and {len(rest) - MOST_LINES} more" if len(rest) > MOST_LINES else ""
        yield f"{indent}# with {', '.join(rest[:MOST_LINES])}{more}"


def argument_text(argument: Any, names: Naming, owners: Owners) -> str:
    return names.buffer(owners.get(argument, argument)) if isinstance(argument, Buffer) else str(argument)

"""From functions to machine code for a target: every function planned, written and compiled into one object.

Where a target has variants, the object holds the steps and epochs of each, and what chooses among them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from graphc.backends import source, target
from graphc.backends.artifact import closure, lowered, planned_within
from graphc.backends.cache import Cache
from graphc.backends.contraction import TileShape
from graphc.backends.entry import meeting_place, write_entry
from graphc.backends.export.dispatch import write_dispatch
from graphc.backends.export.interface import Interface
from graphc.backends.export.kernels import HIGH_HALF, HIGH_HALF_AT_ONCE
from graphc.backends.export.library import MOST_THREADS, Library, Member
from graphc.backends.export.signatures import Face, faces, signatures
from graphc.backends.interface import Arena
from graphc.backends.primitives import Kernel
from graphc.backends.source import Source
from graphc.backends.target import BuildError, Target
from graphc.ir import ops
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph, IRError, Output, Value
from graphc.ir.program import Program
from graphc.ir.types import round_up

_DEFINED = re.compile(r"^define [^@\n]*@([\w.]+)\(", re.MULTILINE)
_NAME = re.compile(r"@([\w.]+)")


@dataclass(frozen=True, slots=True)
class Planned:
    """One function for one target, before it is told where threads meet."""

    face: Face
    program: Program
    sources: tuple[Source, ...]

    @property
    def shared(self) -> int:
        return meeting_place(self.program)

    @property
    def private(self) -> int:
        return round_up(self.program.private_bytes)


def plan_member(library: Library, member: Member, built_for: Target) -> Planned:
    shape = TileShape(built_for.tile_rows, built_for.tile_vectors)
    program = planned_within(member.graph, shape.width, member.max_bytes)
    return Planned(Face(library, member), program, tuple(source.write(nest, shape) for nest in program.walk()))


def arenas_of(planned: Sequence[Planned]) -> dict[str, Arena]:
    """What every function needs on any of the targets, all with one place to meet."""
    meeting = max(each.shared for each in planned)
    found: dict[str, Arena] = {}
    for each in planned:
        name = each.face.member.name
        known = found.get(name)
        private = max(each.private, known.private if known else 0)
        many = each.program.is_shared_out or bool(known and known.for_many)
        found[name] = Arena(meeting, private, many)
    return found


def entries(planned: Sequence[Planned], meeting: int) -> tuple[list[str], list[Kernel]]:
    """LLVM IR of the functions `NAME.step` and `NAME.epoch`, and the kernels they call."""
    kernels: dict[str, Kernel] = {}
    parts = []
    for each in planned:
        entry, extra = write_entry(each.program, each.sources, meeting, bytes_too=False)
        finishes = (one.finish.kernel for one in each.sources if one.finish is not None)
        needed = closure([*(one.kernel for one in each.sources), *finishes, *extra])
        kernels |= {kernel.name: kernel for kernel in needed}
        parts.append(renamed(entry, each.face.name))
    return parts, list(kernels.values())


def renamed(entry: str, owner: str) -> str:
    """The entry with what it defines called after the function it belongs to."""
    own = set(_DEFINED.findall(entry))
    return _NAME.sub(lambda found: f"@{owner}.{found[1]}" if found[1] in own else found[0], entry)


def build_object(library: Library, built_for: Target, manifest: str, store: Cache) -> bytes:
    """One object with everything for one target."""
    processors = built_for.variants or (built_for,)
    planned = {each: [plan_member(library, member, each) for member in library.members] for each in processors}
    arenas = arenas_of([one for each in planned.values() for one in each])
    meeting = next(iter(arenas.values())).shared
    most_threads = min(MOST_THREADS, built_for.most_threads)
    interface = Interface(library, arenas, manifest, most_threads, bool(built_for.variants))
    parts = [interface.write()]
    own = {kernel.name: kernel for kernel in closure(interface.kernels.values())}
    texts = {}
    for each, members in planned.items():
        steps, kernels = entries(members, meeting)
        others = {kernel.name: kernel for kernel in kernels if kernel.name not in own}
        if built_for.variants:
            texts[each] = [*steps, *(lowered(kernel, store) for kernel in others.values())]
        else:
            parts, own = [*parts, *steps], {**own, **others}
    if built_for.variants:
        parts.append(write_dispatch(faces(library), built_for.variants))
    at_once = {HIGH_HALF.name: HIGH_HALF_AT_ONCE} if built_for.is_wide else {}
    parts += [at_once.get(name) or lowered(kernel, store) for name, kernel in own.items()]
    try:
        return target.build(parts, exports(library), built_for, texts)
    except BuildError as error:
        if not error.undefined:
            raise
        values = (value for member in library.members for value in member.graph.values())
        found = next((value for value in values if lacks(processors, value, store)), None)
        raise LackingError(str(error), error.undefined, built_for.name, found) from error


class LackingError(BuildError):
    """A target lacks what an op needs; `value` is the first such one, where one alone needs it."""

    def __init__(self, message: str, undefined: Sequence[str], target: str, value: Value | None) -> None:
        super().__init__(message, undefined)
        self.target = target
        self.value = value


def lacks(processors: Sequence[Target], value: Value, store: Cache) -> bool:
    """Whether the value alone, of operands that are given, needs what one of the processors has not."""
    given = [operand if not operand.operands and operand.op is not ops.input else None for operand in value.operands]
    operands = tuple(
        known or ops.input(name=f"operand{number}", role="data", type=operand.type)
        for number, (known, operand) in enumerate(zip(given, value.operands, strict=True))
    )
    inputs = tuple(each for each in operands if each.op is ops.input)
    alone = Value(value.op, operands, value.attrs, value.type, value.origin)
    member = Member("alone", Graph("alone", inputs, (Output("result", "value", alone),)), (), ())
    for processor in processors if inputs else ():
        try:
            planned = plan_member(Library("alone", (member,), ()), member, processor)
            parts, kernels = entries([planned], planned.shared)
            target.build([*parts, *(lowered(kernel, store) for kernel in kernels)], ["alone_alone.step"], processor)
        except BuildError as error:
            return bool(error.undefined)
        except IRError:  # one that computes nothing by itself, such as a view
            return False
    return False


def exports(library: Library) -> list[str]:
    return [signature.name for signature in signatures(library)]

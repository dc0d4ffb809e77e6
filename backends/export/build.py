"""From functions to machine code for a target: every function planned, written and compiled into one object."""

from __future__ import annotations

import re
from collections.abc import Sequence

from graphc.backends import source, target
from graphc.backends.artifact import closure, lowered, within
from graphc.backends.cache import Cache
from graphc.backends.contraction import TileShape
from graphc.backends.entry import meeting_place, write_entry
from graphc.backends.export.interface import Interface
from graphc.backends.export.library import MOST_THREADS, Library, Member
from graphc.backends.export.signatures import Face, signatures
from graphc.backends.interface import Arena
from graphc.backends.primitives import Kernel
from graphc.backends.source import Source
from graphc.backends.target import Target
from graphc.ir.frozen import dataclass
from graphc.ir.program import Program, plan
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
    program = plan(member.graph, shape.width)
    if member.max_bytes is not None:
        program = within(program, shape.width, member.max_bytes)
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


def modules(planned: Sequence[Planned], meeting: int, store: Cache, suffix: str = "") -> list[str]:
    """LLVM IR of the functions `NAME.step` and `NAME.epoch`, and of all they call."""
    kernels: dict[str, Kernel] = {}
    parts = []
    for each in planned:
        entry, extra = write_entry(each.program, each.sources, meeting)
        finishes = (one.finish.kernel for one in each.sources if one.finish is not None)
        needed = closure([*(one.kernel for one in each.sources), *finishes, *extra])
        kernels |= {kernel.name: kernel for kernel in needed}
        parts.append(renamed(entry, each.face.name, suffix))
    return [*parts, *(lowered(kernel, store) for kernel in kernels.values())]


def renamed(entry: str, owner: str, suffix: str) -> str:
    """The entry with what it defines called after the function it belongs to."""
    own = set(_DEFINED.findall(entry))
    return _NAME.sub(lambda found: f"@{owner}.{found[1]}{suffix}" if found[1] in own else found[0], entry)


def build_object(library: Library, built_for: Target, manifest: str, store: Cache) -> bytes:
    """One object with everything for one target."""
    planned = [plan_member(library, member, built_for) for member in library.members]
    arenas = arenas_of(planned)
    meeting = next(iter(arenas.values())).shared
    interface = Interface(library, arenas, manifest, min(MOST_THREADS, built_for.most_threads))
    text = interface.write()
    own = closure(interface.kernels.values())
    parts = [text, *modules(planned, meeting, store), *(lowered(kernel, store) for kernel in own)]
    return target.build(parts, exports(library), built_for)


def exports(library: Library) -> list[str]:
    return [signature.name for signature in signatures(library)]

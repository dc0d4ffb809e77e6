"""From a finished graph to machine code that is remembered on disk.

An artifact is one object with the functions `step` and `epoch` (see entry.py). Its key covers the kernel texts, the
calls between them, this machine's instruction set and the versions of everything that had a hand in it, so a second
process with the same model loads a file and imports neither numba nor LLVM.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache as remember
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from graphc.backends.cache import Cache
from graphc.backends.contraction import TileShape
from graphc.backends.description import PACKAGES, Artifact, Description, installed
from graphc.backends.interface import ENTRIES, LINKED, Arena, epoch_dim, functions_of
from graphc.backends.machine import host_signature
from graphc.backends.primitives import Codegen, Kernel
from graphc.backends.target import host_tile
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph, TooLittleMemory
from graphc.ir.passes import PIPELINE, Pass, run_passes
from graphc.ir.program import Program, fitted, plan
from graphc.ir.rows import RowsMeet
from graphc.ir.slices import fitted_in_slices
from graphc.ir.types import round_up

if TYPE_CHECKING:
    from graphc.backends.source import Source
    from graphc.backends.units import Unit

MOST_OPERATIONS = 1.5  # times the operations of a step: more than a forward pass once more
FORMAT = "3"  # of artifacts: raise it when the meaning of `step` or `epoch` changes


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What code is made from."""

    program: Program
    sources: tuple[Source, ...]
    entry: str
    kernels: tuple[Kernel, ...]


def compile_traced(graph: Graph, store: Cache, max_bytes: int | None = None) -> Artifact:
    """The artifact of a graph as it was traced; `max_bytes` is that of `draw`."""
    start = time.perf_counter()
    ready = passed(graph)
    seconds = {"passes": time.perf_counter() - start}
    made = build(ready, store, max_bytes=max_bytes)
    return Artifact(made.description, made.graph, made.file, made.fresh, {**seconds, **made.seconds}, made.draw)


def passed(traced: Graph, passes: Sequence[Pass] = PIPELINE) -> Graph:
    """The graph after all passes. What they noted about values on the way is forgotten, so that all else can go."""
    seen: list[Graph] = []
    graph = run_passes(traced, passes, watch=lambda name, stage: seen.append(stage))
    for stage in seen[:-1]:
        for value in stage.values():
            value.memo.clear()
        stage.memo.clear()
    return graph


def draw(graph: Graph, marks: list[float] | None = None, max_bytes: int | None = None) -> Blueprint:
    """Plan and source of a graph that went through the passes, for this machine; `marks` gets the times of both.

    max_bytes  of the arena of one thread; raises TooLittleMemory where no plan is found that fits
    """
    program = planned(graph, max_bytes)
    begin = time.perf_counter()
    made = drawn(program)
    if marks is not None:
        marks += [begin, time.perf_counter()]
    return made


def planned(graph: Graph, max_bytes: int | None = None) -> Program:
    """The program of such a graph for this machine. Whoever looks at no more than that need not wait for its source."""
    return planned_within(graph, TileShape(*host_tile()).width, max_bytes)


def drawn(program: Program) -> Blueprint:
    from graphc.backends import source

    shape = TileShape(*host_tile())
    return blueprint(program, tuple(source.write(nest, shape) for nest in program.walk()))


def blueprint(program: Program, sources: tuple[Source, ...], timed: bool = False) -> Blueprint:
    """What code is made from, of a plan and the source of each of its kernels; `timed` as for `write_entry`."""
    from graphc.backends.entry import write_entry

    entry, extra = write_entry(program, sources, timed=timed)
    finishes = (each.finish.kernel for each in sources if each.finish is not None)
    kernels = tuple(closure([*(each.kernel for each in sources), *finishes, *extra]))
    return Blueprint(program, sources, entry, kernels)


def planned_within(graph: Graph, panel_width: int, max_bytes: int | None) -> Program:
    """The program of a graph in an arena of so many bytes at most.

    What lies idle is computed again, to the same bits. Where that is not enough, or is more than a forward pass once
    more, the batch is taken in slices. Raises TooLittleMemory, with the least that either way needs.
    """
    program = plan(graph, panel_width)
    if max_bytes is None or (whole := size_of(program)) <= max_bytes:
        return program
    beside = whole - round_up(program.work_bytes)
    with suppress(TooLittleMemory):
        return fitted(program, panel_width, max_bytes - beside, MOST_OPERATIONS)
    try:
        return fitted_in_slices(graph, panel_width, max_bytes, whole, size_of)
    except RowsMeet as error:
        least, why, origin = whole, error.text, error.origin
    except TooLittleMemory as error:
        least, why, origin = error.least, "", None
    try:
        return fitted(program, panel_width, max_bytes - beside)
    except TooLittleMemory as error:
        raise TooLittleMemory(min(least, error.least + beside), why, origin) from None


def size_of(program: Program) -> int:
    """Bytes that a call on one thread works in."""
    return arena_of(program).size(1)


def arena_of(program: Program) -> Arena:
    from graphc.backends.entry import meeting_place

    return Arena(meeting_place(program), round_up(program.private_bytes), program.is_shared_out)


def build(graph: Graph, store: Cache, codegen: Codegen = "auto", max_bytes: int | None = None) -> Artifact:
    """The artifact of a graph that went through the passes, for this machine.

    codegen    that of `lower`
    max_bytes  that of `draw`
    """
    marks = [time.perf_counter()]
    made = draw(graph, marks, max_bytes)
    return coded(made, store, marks, codegen)


def coded(made: Blueprint, store: Cache, marks: list[float], codegen: Codegen = "auto") -> Artifact:
    """The artifact of a blueprint; `marks` are the times before and after each part of the way so far."""
    program = made.program
    name, path, fresh = code_of(made, exports(program), store, codegen)
    marks.append(time.perf_counter())
    seconds = dict(zip(("plan", "source", "native"), (end - start for start, end in pairwise(marks)), strict=False))
    from graphc.backends.entry import epoch_layout

    layout = epoch_layout(program) if epoch_dim(program.graph) is not None else None
    checks = tuple(check.message for check in program.checks)
    description = Description(name, len(program.nests), arena_of(program), layout, checks, rows_of(program))
    return Artifact(description, program.graph, path, fresh, seconds, lambda: made)


def code_of(
    made: Blueprint, exports: tuple[str, ...], store: Cache, codegen: Codegen = "auto"
) -> tuple[str, str, bool]:
    """(key, file, whether it was made now) of the machine code of a blueprint."""
    described = (describe(kernel) for kernel in made.kernels)
    name = Cache.key(FORMAT, codegen, *versions(), host_signature(), sys.platform, made.entry, *described)
    path = store.path("artifact", name)
    if path is not None:
        return name, str(path), False
    code = compile_kernels(made.entry, made.kernels, exports, store, codegen)
    return name, str(store.put("artifact", name, code)), True


def rows_of(program: Program) -> int:
    """Rows of a batch that are worked at together; 0: all."""
    loops = [nest.repetition.rows for nest in program.nests if nest.repetition is not None]
    return max((rows[0].max for rows in loops if rows is not None), default=0)


def exports(program: Program) -> tuple[str, ...]:
    """What can be called from outside."""
    return functions_of(epoch_dim(program.graph) is not None, program.is_shared_out)


def closure(kernels: Iterable[Kernel]) -> list[Kernel]:
    """Every kernel and all it calls, each once."""
    found: dict[str, Kernel] = {}
    stack = list(kernels)
    while stack:
        kernel = stack.pop()
        if kernel.name not in found:
            found[kernel.name] = kernel
            stack.extend(kernel.calls)
    return sorted(found.values(), key=lambda kernel: kernel.name)


def describe(kernel: Kernel) -> str:
    return f"{kernel.name} {kernel.parameters} {kernel.returns} {kernel.inline}\n{kernel.text}"


@remember
def versions() -> tuple[str, ...]:
    """Of all that makes code: the packages, without importing them, and our own lowering and linking."""
    packages = installed(PACKAGES)
    here = Path(__file__).parent
    names = ("primitives.py", "target.py", "lacking.py", "masks.py", "fused.py", "units.py", "link.py", "elf.py")
    ours = sorted([*here.glob("lower/*.py"), *(here / name for name in names)])
    return (*packages, Cache.key(*(path.read_bytes() for path in ours)))


def compile_kernels(
    entry: str, kernels: Iterable[Kernel], exports: tuple[str, ...], store: Cache, codegen: Codegen = "auto"
) -> bytes:
    """Object code of the entry functions with all kernels inside."""
    from graphc.backends import target

    modules = [entry, *(lowered(kernel, store, codegen) for kernel in kernels)]
    if not LINKED:
        return target.build(modules, exports, target.host())
    from graphc.backends.link import link_shared_object
    from graphc.backends.units import cut

    units = cut([*modules, target.spin_hint(target.host())], [name for name in exports if name in ENTRIES])
    objects = [compiled(unit, store) for unit in units]
    return link_shared_object(objects, exports, "graphc-step.so")


def compiled(unit: Unit, store: Cache) -> bytes:
    """The object of a unit for this machine; one that other programs may have too is kept."""
    from graphc.backends.target import build_unit, host

    name = Cache.key(*versions(), host_signature(), unit.text)
    known = store.get("object", name) if unit.is_common else None
    if known is not None:
        return known
    code = build_unit(unit.text, host())
    if unit.is_common:
        store.put("object", name, code)
    return code


def lowered(kernel: Kernel, store: Cache, codegen: Codegen = "auto") -> str:
    """Unoptimised LLVM IR of a kernel. What numba gives is kept; without numba, lowering is quicker than a file."""
    from graphc.backends.lower import lower, lower_if_covered

    if codegen == "direct":
        return lower(kernel, codegen)
    text = lower_if_covered(kernel) if codegen == "auto" else None
    if text is not None:
        return text
    calls = sorted(f"{called.name} {called.parameters} {called.returns}" for called in kernel.calls)
    name = Cache.key(FORMAT, *versions(), describe(kernel), *calls)
    known = store.get("ir", name)
    if known is not None:
        return known.decode()
    text = lower(kernel, "numba")
    store.put("ir", name, text.encode())
    return text

"""From a traced graph to PTX that is remembered on disk, and what a call needs to know beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from graphc.backends.artifact import describe, versions
from graphc.backends.cache import Cache
from graphc.backends.cuda import feeding
from graphc.backends.cuda.entries import for_device
from graphc.backends.cuda.passes import passed_for_device
from graphc.backends.cuda.plan import Drawing, draw
from graphc.backends.cuda.ptx import compile_modules, modules
from graphc.backends.cuda.serial import SHAPE
from graphc.backends.description import Description
from graphc.backends.interface import Arena, EpochLayout
from graphc.backends.primitives import Kernel
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph
from graphc.ir.program import Program, plan

FORMAT = "1"  # of what is remembered: raise it when its meaning changes


@dataclass(frozen=True, slots=True)
class DeviceArtifact:
    """Kernels for one architecture, and all that is needed to launch them.

    graph         its inputs and results are those of a call
    drawing       the launches; entries beyond those of a step serve its epochs
    library       names of the products that are for one
    precision     of what the others multiply
    architecture  the kernels are for
    fresh         the kernels were compiled now; otherwise they came from disk
    seconds       spent on each part of the way: "passes", "plan", "native"
    """

    description: Description
    graph: Graph
    drawing: Drawing
    library: Collection[str]
    precision: str
    architecture: str
    ptx: str
    fresh: bool
    seconds: Mapping[str, float]

    @property
    def program(self) -> Program:
        """The nests that the launches were drawn from."""
        return plan(self.graph, SHAPE.width)

    @property
    def kernels(self) -> list[Kernel]:
        return self.drawing.kernels


def obtain(
    graph: Graph,
    store: Cache,
    architecture: str,
    choose: Callable[[Graph], Collection[str]] = lambda graph: (),
    precision: str = "highest",
) -> DeviceArtifact:
    """The artifact of a graph as it was traced.

    choose     of the finished graph, the names of the products that are for a library
    precision  of what our own products multiply
    """
    start = time.perf_counter()
    ready = passed_for_device(graph)
    ran = time.perf_counter()
    library = choose(ready)
    made = draw(ready, library, precision)
    made = replace(made, entries=(*made.entries, *feeding.entries(ready)))
    planned = time.perf_counter()
    names = [each.name for each in made.entries]
    texts = [*map(describe, made.kernels), *map(for_device, made.entries)]
    key = Cache.key(FORMAT, architecture, *versions(), *own_files(), *texts)
    known = store.get("ptx", key)
    ptx = compile_modules(modules(made), names, architecture) if known is None else known.decode()
    if known is None:
        store.put("ptx", key, ptx.encode())
    program, arena = made.program, Arena(made.program.work_bytes, 0, False)
    layout = EpochLayout((), (), 0) if feeding.has_epochs(ready) else None
    launches = sum(1 for _ in program.launches()) + program.products
    description = Description(key, launches, arena, layout, program.checks)
    seconds = {"passes": ran - start, "plan": planned - ran, "native": time.perf_counter() - planned}
    return DeviceArtifact(description, ready, made, library, precision, architecture, ptx, known is None, seconds)


@cache
def own_files() -> tuple[str, ...]:
    """What makes PTX of LLVM IR."""
    return (Cache.key((Path(__file__).parent / "ptx.py").read_bytes()),)

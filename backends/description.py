"""What is remembered of a compiled function beside its code, so that a later process can call it at once.

A traced graph, this machine, the packages and the very files of the compiler that are installed make a key. Under it
lie the few numbers and texts that a call needs, and the key of the code. A warm start reads those: it runs no pass,
plans nothing and writes no source. Whoever wants to look at all that has it made then.
"""

from __future__ import annotations

import ast
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

import graphc.ir
from graphc.backends.cache import Cache, warn
from graphc.backends.interface import Arena, EpochLayout
from graphc.backends.machine import host_signature
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph, IRError
from graphc.ir.identity import identity

if TYPE_CHECKING:
    from pathlib import Path

    from graphc.backends.artifact import Blueprint
    from graphc.backends.primitives import Kernel
    from graphc.backends.source import Source
    from graphc.ir.program import Program

KIND = "call"  # of the cache's entries
PACKAGES = ("numba", "llvmlite")  # that have a hand in the code, besides Python, NumPy and ourselves
ROOMS = (os.path.dirname(graphc.ir.__file__), os.path.dirname(__file__))


@dataclass(frozen=True, slots=True)
class Description:
    """What a call needs to know of an artifact.

    code        key of its machine code in the cache
    kernels     how many one call runs
    arena       the memory it works in
    layout      None when the inputs allow no `epoch`
    checks      what is wrong when a call fails, in the order of its statuses
    rows        of a batch that are worked at together; 0: all
    """

    code: str
    kernels: int
    arena: Arena
    layout: EpochLayout | None
    checks: tuple[str, ...]
    rows: int = 0

    def text(self) -> str:
        return repr(astuple(self))

    @classmethod
    def parse(cls, text: str) -> Description:
        """Raises ValueError, TypeError or SyntaxError for what `text` did not write."""
        code, kernels, arena, layout, checks, rows = ast.literal_eval(text)
        return cls(code, kernels, Arena(*arena), layout and EpochLayout(*layout), checks, rows)

    @property
    def work_bytes(self) -> int:
        """Of the arena one thread works in."""
        return self.arena.size(1)


class Artifact:
    """Machine code and all that is needed to call and to explain it.

    graph    its inputs and results are those of a call
    file     of the code
    fresh    it was compiled now; otherwise it came from disk
    seconds  spent on each part of the way: "passes", "plan", "source", "native"; of what is remembered only the last
    draw     makes what the code was made from; `plan` its program alone, the same one, where that is had sooner
    """

    def __init__(
        self,
        description: Description,
        graph: Graph,
        file: str,
        fresh: bool,
        seconds: Mapping[str, float],
        draw: Callable[[], Blueprint],
        plan: Callable[[], Program] | None = None,
    ) -> None:
        self.description = description
        self.graph = graph
        self.file = file
        self.fresh = fresh
        self.seconds = seconds
        self.draw = draw
        self.plan = plan

    @property
    def key(self) -> str:
        return self.description.code

    @property
    def path(self) -> Path:
        from pathlib import Path

        return Path(self.file)

    @cached_property
    def blueprint(self) -> Blueprint:
        """What the code was made from."""
        return self.draw()

    @property
    def program(self) -> Program:
        return self.plan() if self.plan is not None else self.blueprint.program

    @property
    def sources(self) -> tuple[Source, ...]:
        return self.blueprint.sources

    @property
    def entry(self) -> str:
        return self.blueprint.entry

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        return self.blueprint.kernels


def obtain(graph: Graph, store: Cache, max_bytes: int | None = None) -> Artifact:
    """The artifact of a graph as it was traced: the one that is remembered, or a new one.

    max_bytes  of the arena of one thread; raises TooLittleMemory where no plan is found that fits
    """
    key = call_key(graph, max_bytes)
    known = None if key is None else recall(key, graph, store, max_bytes)
    if known is not None:
        return known
    from graphc.backends.artifact import compile_traced

    made = compile_traced(graph, store, max_bytes)
    if key is not None and stamps() == STAMPS:  # else what compiled it may be partly older and partly newer
        store.put(KIND, key, made.description.text().encode())
    return made


def recall(key: str, graph: Graph, store: Cache, max_bytes: int | None = None) -> Artifact | None:
    """The artifact that was described under this key; None if there is none, or what is there cannot be used."""
    start = time.perf_counter()
    payload = store.get(KIND, key)
    if payload is None:
        return None
    try:
        description = Description.parse(payload.decode())
    except (ValueError, TypeError, SyntaxError) as error:
        warn("the description of %s is of no use, it is compiled again: %s", graph.name, error)
        return None
    file = store.file("artifact", description.code)
    if file is None:
        return None
    seconds = {"native": time.perf_counter() - start}
    plan = cache(partial(program_of, graph, max_bytes))
    return Artifact(description, graph, file, False, seconds, lambda: blueprint_of(plan()), plan)


def program_of(graph: Graph, max_bytes: int | None) -> Program:
    from graphc.backends.artifact import passed, planned

    return planned(passed(graph), max_bytes)


def blueprint_of(program: Program) -> Blueprint:
    from graphc.backends.artifact import drawn

    return drawn(program)


# -- the key


def call_key(graph: Graph, max_bytes: int | None = None) -> str | None:
    """Equal for two graphs and bounds only if this compiler, on this machine, makes the same code of them.

    None where that cannot be told: a graph with parts that have no text, or a compiler without files.
    """
    if STAMPS is None:
        return None
    try:
        return Cache.key(*STAMPS, *surroundings(), str(max_bytes), identity(graph))
    except IRError:
        return None


@cache
def surroundings() -> tuple[str, ...]:
    """All that has a hand in the code besides our own files, without importing it."""
    return sys.platform, sys.version, np.__version__, host_signature(), *installed(PACKAGES)


def stamps() -> tuple[str, ...] | None:
    """The compiler's source files, by what no change of a file leaves as it was; None where there are none."""
    try:
        return tuple(stamp for room in ROOMS for stamp in stamps_below(room))
    except OSError:
        return None


def stamps_below(folder: str) -> Iterator[str]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.endswith(".py"):
            status = entry.stat()
            yield f"{entry.path} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
        elif entry.is_dir() and entry.name != "__pycache__":
            yield from stamps_below(entry.path)


def installed(packages: Sequence[str]) -> list[str]:
    """Versions of packages by the names of their folders of metadata, which is quicker than to read what is in these.

    As for Python's imports, the first place counts that has a package.
    """
    known: dict[str, str] = {}
    for place in sys.path:
        with suppress(OSError):  # archives, and folders that are not there
            for name in os.listdir(place or os.curdir):
                package = name.partition("-")[0]
                if package in packages and name.endswith((".dist-info", ".egg-info")):
                    known.setdefault(package, name)
        if len(known) == len(packages):
            break
    return [known.get(package) or version(package) for package in packages]


def version(package: str) -> str:
    import importlib.metadata

    return importlib.metadata.version(package)


STAMPS = stamps()  # of the files as they were when this process began to import them

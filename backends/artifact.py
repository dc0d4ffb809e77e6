"""From a finished graph to machine code that is remembered on disk.

An artifact is one object with the functions `step` and `epoch` (see entry.py). Its key covers the kernel texts, the
calls between them, this machine's instruction set and the versions of everything that had a hand in it, so a second
process with the same model loads a file and imports neither numba nor LLVM. The first one imports LLVM alone unless a
kernel's text is one that only numba knows how to lower.
"""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache as remember
from itertools import pairwise
from pathlib import Path

from graphc.backends import source
from graphc.backends.cache import Cache
from graphc.backends.contraction import TileShape
from graphc.backends.entry import EpochLayout, arena_bytes, epoch_dim, epoch_layout, write_entry
from graphc.backends.primitives import Codegen, Kernel
from graphc.backends.source import Source
from graphc.backends.target import host_signature, host_tile
from graphc.ir.graph import Graph
from graphc.ir.program import Program, plan

FORMAT = "2"  # of artifacts: raise it when the meaning of `step` or `epoch` changes
LINKED = sys.platform == "linux"  # we write shared libraries for Linux; elsewhere LLVM loads the object


@dataclass(frozen=True, slots=True)
class Artifact:
    """Machine code and all that is needed to call and to explain it.

    layout   None when the inputs allow no `epoch`
    fresh    it was compiled now; otherwise it came from disk
    seconds  spent on each part of the way: "plan", "source", "native"
    """

    program: Program
    sources: tuple[Source, ...]
    entry: str
    kernels: tuple[Kernel, ...]
    layout: EpochLayout | None
    key: str
    path: Path
    fresh: bool
    seconds: Mapping[str, float]

    @property
    def work_bytes(self) -> int:
        """Of the arena one thread works in."""
        return arena_bytes(self.program, 1)


def build(graph: Graph, store: Cache, codegen: Codegen = "auto") -> Artifact:
    """The artifact of a graph that went through the passes, for this machine; `codegen` is that of `lower`."""
    shape, marks = TileShape(*host_tile()), [time.perf_counter()]
    program = plan(graph, shape.width)
    marks.append(time.perf_counter())
    sources = tuple(source.write(nest, shape) for nest in program.walk())
    entry, extra = write_entry(program, sources)
    finishes = (each.finish.kernel for each in sources if each.finish is not None)
    kernels = tuple(closure([*(each.kernel for each in sources), *finishes, *extra]))
    name = Cache.key(
        FORMAT, codegen, *versions(), host_signature(), sys.platform, entry, *(describe(kernel) for kernel in kernels)
    )
    marks.append(time.perf_counter())
    path = store.path("artifact", name)
    fresh = path is None
    if path is None:
        path = store.put("artifact", name, compile_kernels(entry, kernels, layout_exports(program), store, codegen))
    marks.append(time.perf_counter())
    parts = [end - start for start, end in pairwise(marks)]
    layout = epoch_layout(program) if epoch_dim(program) is not None else None
    seconds = dict(zip(("plan", "source", "native"), parts, strict=True))
    return Artifact(program, sources, entry, kernels, layout, name, path, fresh, seconds)


def layout_exports(program: Program) -> tuple[str, ...]:
    return ("step",) if epoch_dim(program) is None else ("step", "epoch")


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
    packages = tuple(f"{name} {importlib.metadata.version(name)}" for name in ("numba", "llvmlite"))
    here = Path(__file__).parent
    names = ("primitives.py", "target.py", "link.py", "elf.py")
    ours = sorted([*here.glob("lower/*.py"), *(here / name for name in names)])
    return (*packages, Cache.key(*(path.read_bytes() for path in ours)))


def compile_kernels(
    entry: str, kernels: Iterable[Kernel], exports: tuple[str, ...], store: Cache, codegen: Codegen = "auto"
) -> bytes:
    """Object code of the entry functions with all kernels inside."""
    from graphc.backends import target

    modules = [entry, *(lowered(kernel, store, codegen) for kernel in kernels)]
    code = target.build(modules, exports, target.host())
    if not LINKED:
        return code
    from graphc.backends.link import link_shared_object

    return link_shared_object([code], exports, "graphc-step.so")


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

"""The command line: `python -m graphc show | compile | export | cache | doctor | bench`."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import runpy
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphc.bench import run as bench
from graphc.errors import GraphcError
from graphc.settings import check_choice

if TYPE_CHECKING:
    from graphc.function import Function


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except GraphcError as error:
        if error.origin is not None and error.origin.code is sys._getframe(1).f_code:
            error.origin = None  # it is about an argument: the line that called this is nobody's
        print(f"error: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m graphc", description="Look at compiled steps and their cache.")
    commands = top.add_subparsers(required=True, metavar="command")
    show = commands.add_parser("show", help="print a step at one level")
    show.add_argument("step", metavar="FILE.py:NAME")
    show.add_argument(
        "--level",
        default="summary",
        help="summary, graph, program, kernels, source, dot, svg, html, llvm, assembly, launches, ptx, a pass's name",
    )
    show.set_defaults(run=show_step)
    compiling = commands.add_parser("compile", help="compile a step into the cache and say what came out")
    compiling.add_argument("step", metavar="FILE.py:NAME")
    compiling.set_defaults(run=compile_step)
    taking = commands.add_parser("export", help="write steps as a library that runs without Python")
    taking.add_argument("steps", metavar="FILE.py:NAME", nargs="+", help="of one file; NAME is what C calls it")
    taking.add_argument("-o", "--out", required=True, metavar="FOLDER", help="whose name is that of the library")
    taking.add_argument(
        "--target", action="append", metavar="NAME", help="may be repeated; this machine's kind if none"
    )
    taking.set_defaults(run=export_steps)
    cache = commands.add_parser("cache", help="list or clear the remembered machine code")
    cache.add_argument("action", choices=("list", "clear"), nargs="?", default="list")
    cache.set_defaults(run=show_cache)
    doctor = commands.add_parser("doctor", help="check this machine: versions, processor, cache, a test compile")
    doctor.set_defaults(run=check_machine)
    comparing = commands.add_parser("bench", help="time the ten workloads, turn by turn with the peers that are there")
    bench.add_options(comparing)
    return top


def find_step(reference: str) -> Function:
    """The step called NAME in FILE.py, by running the file without its `__main__` part."""
    (step,) = find_steps([reference]).values()
    return step


def find_steps(references: Sequence[str]) -> dict[str, Function]:
    """Steps of one file, which is run once, by their names."""
    from graphc.function import Function
    from graphc.suggestions import did_you_mean

    pairs = [reference.rpartition(":")[::2] for reference in references]
    file = pairs[0][0]
    if not file or not Path(file).is_file():
        raise GraphcError(f"no file {file or references[0]!r}; give the step as FILE.py:NAME")
    if any(other not in (file, "") for other, _ in pairs):
        raise GraphcError(f"all steps must come from one file, {file}")
    found = runpy.run_path(file, run_name="graphc_show")
    known = [key for key, item in found.items() if isinstance(item, Function)]
    for _, name in pairs:
        if name not in known:
            text = f"{file} has no step {name!r}; its steps are: {', '.join(known) or 'none'}"
            raise GraphcError(text, details=did_you_mean(name, known))
    return {name: found[name] for _, name in pairs}


def show_step(options: argparse.Namespace) -> int:
    from graphc import show

    step = find_step(options.step)
    views = {
        "summary": step.summary,
        "source": step.source,
        "dot": step.to_dot,
        "svg": step.to_svg,
        "html": step.to_html,
        "llvm": step.llvm,
        "assembly": step.assembly,
        "ptx": step.ptx,
    }
    if options.level not in views:
        check_choice("level", options.level, (*views, *show.text_levels(step.stages)))
    print(views[options.level]() if options.level in views else step.text(options.level), end="")
    return 0


def compile_step(options: argparse.Namespace) -> int:
    print(find_step(options.step).compiled)
    return 0


def export_steps(options: argparse.Namespace) -> int:
    from graphc.exporting import export

    made = export(find_steps(options.steps), options.out, options.target or ["native"])
    for file in made.files:
        print(f"{file}  {file.stat().st_size:,} bytes")
    return 0


def show_cache(options: argparse.Namespace) -> int:
    from graphc.backends.cache import default_cache

    store = default_cache()
    if options.action == "clear":
        size = store.size()
        store.clear()
        print(f"removed {size:,} bytes")
        return 0
    for entry in store.entries():
        print(f"{entry.kind:<9} {entry.key[:16]} {entry.size:>10,} bytes  {time.ctime(entry.used)}")
    print(f"{store.size():,} bytes in {store.folder or 'memory only'}")
    return 0


def check_machine(options: argparse.Namespace) -> int:
    """Versions, the processor as the compiler sees it, and a small step compiled from nothing and run."""
    from graphc import __version__
    from graphc.backends import target
    from graphc.backends.cache import default_cache

    print(f"graphc {__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(
        ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "numba", "llvmlite", "networkx"))
    )
    host = target.host()
    print(f"processor {host.cpu}, {host.triple}, register tile {host.tile_rows} x {host.tile_vectors * 16}")
    print(f"cache {default_cache().folder or 'off'}: {default_cache().size():,} bytes")
    seconds, difference = compile_from_nothing()
    print(f"compiled a matrix product from nothing in {seconds:.2f} s, largest difference from NumPy {difference:.1e}")
    return 0 if difference < 1e-4 else 1


def compile_from_nothing() -> tuple[float, float]:
    """Seconds to compile a small function without the cache, and how far its result is from NumPy's."""
    import numpy as np

    from graphc.backends import artifact
    from graphc.backends.cache import Cache
    from graphc.backends.runtime import Runner
    from graphc.ir import ops
    from graphc.ir.graph import Graph, Output
    from graphc.ir.passes import run_passes
    from graphc.ir.types import TensorType

    a, b = (ops.input(name=name, role="data", type=TensorType("f32", (40, 40))) for name in "ab")
    graph = run_passes(Graph("check", (a, b), (Output("result", "product", ops.dot(a, b)),)))
    left, right = np.random.default_rng(0).standard_normal((2, 40, 40), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        built = artifact.build(graph, Cache(Path(folder)))
        _, (product,) = Runner(built, []).step([left, right], [])
    return sum(built.seconds.values()), float(np.abs(product - left @ right).max())

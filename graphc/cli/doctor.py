"""`graphc doctor`: what this machine has, what is wrong with it, and a small step compiled from nothing."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from graphc.cli.outcome import BOLD, DONE, GREEN, RED, WRONG, coloured, print_json

PACKAGES = ("numpy", "numba", "llvmlite", "networkx")
# Modules and programs that are not needed: what brings each, and what it is for.
EXTRAS = {
    "resvg_py": ("graphc[viz]", "step.to_png"),
    "matplotlib": ("graphc[viz]", "gx.plots"),
    "sklearn": ("graphc[sklearn]", "graphc.estimators"),
    "cublasLt": ("graphc[cuda]", "products of matrices on a GPU, where it is quicker"),
    "dot": ("graphviz.org", "to_svg(engine='graphviz')"),
    "ptxas": ("NVIDIA's CUDA toolkit", "registers of GPU kernels in step.text('launches')"),
}
FEATURES = ("avx512f", "avx2", "fma", "sse4.2", "neon", "sve")  # of processors, those that decide on kernels
CLOSE = 1e-4  # how far a product of 40 terms may be from NumPy's


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="what was found as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    found = findings()
    if options.json:
        print_json(found)
    else:
        print("\n".join(lines(found)))
    return WRONG if found["wrong"] else DONE


def findings() -> dict[str, Any]:
    """All that is known, by subject; "wrong" has a line for each thing that must be mended."""
    from graphc import __version__

    found = {
        "graphc": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in PACKAGES},
        "processor": processor(),
        "threads": threads(),
        "targets": targets(),
        "cache": cache(),
        "gpu": gpu(),
        "extras": {name: {"found": is_there(name), "from": where, "for": use} for name, (where, use) in EXTRAS.items()},
        "compile": compile_from_nothing(),
    }
    return {**found, "wrong": list(wrong(found))}


def wrong(found: Mapping[str, Any]) -> Iterator[str]:
    if found["cache"]["trouble"]:
        yield f"cache: {found['cache']['trouble']}; set GRAPHC_CACHE_DIR to a folder of your own"
    if found["compile"]["error"]:
        yield f"compile: {found['compile']['error']}"
    yield from (f"target {name}: {reason}" for name, reason in found["targets"].items() if reason)


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What was found, for people; what is wrong comes last."""
    chip, cores, store, made = (found[name] for name in ("processor", "threads", "cache", "compile"))
    versions = ", ".join(f"{name} {number}" for name, number in found["packages"].items())
    yield row("graphc", f"{found['graphc']}, Python {found['python']}, {found['platform']}")
    yield row("packages", versions)
    tile = " x ".join(map(str, chip["register_tile"]))
    yield row("processor", f"{chip['name']}, {chip['triple']}: {', '.join(chip['features'])}; register tile {tile}")
    setting = " (GRAPHC_THREADS)" if cores["is_set"] else ""
    yield row("threads", f"{cores['most']} at most{setting}, of {cores['processors']} processors of this process")
    yield row("targets", ", ".join(name for name, reason in found["targets"].items() if not reason))
    size = f"{store['bytes']:,} of {store['limit']:,} bytes in {store['entries']:,} entries"
    yield row("cache", f"{store['folder']}: {size}" if store["folder"] else store["trouble"] or "off: GRAPHC_CACHE_DIR")
    yield row(
        "GPU", found["gpu"].get("reason") or "{name}, {architecture}, driver for CUDA {driver}".format(**found["gpu"])
    )
    for number, (name, each) in enumerate(found["extras"].items()):
        state = coloured("found", GREEN, sys.stdout) if each["found"] else f"not found; {each['from']} brings it"
        yield row("" if number else "extras", f"{name:<11}{each['for']}: {state}")
    if not made["error"]:
        text = f"a matrix product from nothing in {made['seconds']:.2f} s, largest difference from NumPy"
        yield row("compiled", f"{text} {made['difference']:.1e}")
    if not found["wrong"]:
        yield coloured("all is well", GREEN, sys.stdout)
    yield from (f"{coloured('wrong', RED, sys.stdout)}  {each}" for each in found["wrong"])


def row(title: str, text: str) -> str:
    return f"{coloured(f'{title:<11}', BOLD, sys.stdout)}{text}"


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def processor() -> dict[str, Any]:
    """This machine as LLVM sees it."""
    from llvmlite import binding as llvm

    from graphc.backends import target

    host, known = target.host(), llvm.get_host_cpu_features()
    return {
        "name": host.cpu,
        "triple": host.triple,
        "features": [name for name in FEATURES if known.get(name)],
        "register_tile": [host.tile_rows, host.tile_vectors * 16],
    }


def threads() -> dict[str, Any]:
    from graphc.backends.crew import processors, thread_limit

    return {"most": thread_limit(), "processors": processors(), "is_set": bool(os.environ.get("GRAPHC_THREADS"))}


def targets() -> dict[str, str]:
    """Why each target cannot be built for here; "" where it can."""
    from graphc.backends.target import TARGETS, BuildError, check_target

    found = {}
    for name, target in TARGETS.items():
        try:
            check_target(target)
            found[name] = ""
        except BuildError as error:
            found[name] = str(error)
    return found


def cache() -> dict[str, Any]:
    """The folder, None if nothing is kept: because that is wished, or because of `trouble`."""
    from graphc.backends.cache import default_cache

    store = default_cache()
    is_off = os.environ.get("GRAPHC_CACHE_DIR", "").lower() == "off"
    trouble = "" if store.folder or is_off else "no folder that can be used; the warning above says why"
    if store.folder:
        try:
            tempfile.TemporaryFile(dir=store.folder).close()
        except OSError as error:
            trouble = f"{store.folder} cannot be written to: {error.strerror}"
    sizes = [entry.size for entry in store.entries()]
    facts = {"bytes": sum(sizes), "limit": store.limit, "entries": len(sizes)}
    return {"folder": store.folder, **facts, "trouble": trouble}


def gpu() -> dict[str, Any]:
    """The first one, or the reason there is none; that is no fault."""
    from graphc.cuda import the_device
    from graphc.errors import DeviceError

    try:
        device = the_device()
    except DeviceError as error:
        return {"reason": error.message}
    number = device.driver.version
    return {
        "name": device.name,
        "architecture": device.architecture,
        "driver": f"{number // 1000}.{number % 1000 // 10}",
        "bytes": device.memory()[1],
    }


def is_there(name: str) -> bool:
    if name == "cublasLt":
        from graphc.backends.cuda.cublas import load_library

        return load_library() is not None
    if name == "ptxas":
        from graphc.backends.cuda.assembler import assembler

        return assembler() is not None
    return shutil.which(name) is not None if name == "dot" else find_spec(name) is not None


def compile_from_nothing() -> dict[str, Any]:
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
    try:
        with tempfile.TemporaryDirectory() as folder:
            built = artifact.build(graph, Cache(Path(folder)))
            _, (product,) = Runner(built, []).step([left, right], [])
    except Exception as error:  # of whatever kind: this is where it is to be found
        return {"error": f"{type(error).__name__}: {error}"}
    difference = float(np.abs(product - left @ right).max())
    fault = "" if difference < CLOSE else f"a matrix product is {difference:.1e} from NumPy's"
    return {"seconds": sum(built.seconds.values()), "difference": difference, "error": fault}

"""Starts of fresh processes, with empty and with filled caches, and the most memory that one takes for 20 steps."""

from __future__ import annotations

import compileall
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graphc.bench.compare import Process

PACKAGE = Path(__file__).parents[1]
WARM_STARTS = 5
PARTS = ("import", "build", "first_step", "process")

Spawn = Callable[[Mapping[str, str]], Process]


def caches(folder: Path) -> dict[str, str]:
    """Every system's cache in a folder; JAX is to remember all it compiles."""
    return {
        "GRAPHC_CACHE_DIR": str(folder / "graphc"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTENSOR_FLAGS": f"base_compiledir={folder / 'pytensor'}",
        "NUMBA_CACHE_DIR": str(folder / "numba"),
    }


def compile_bytecode() -> None:
    """What pip does where it installs a package, the peers' too: a checkout may never have been imported."""
    for folder in (PACKAGE, PACKAGE / "ir", PACKAGE / "backends"):
        compileall.compile_dir(folder, quiet=2)


def starts(spawn: Spawn) -> dict[str, Any]:
    """Seconds of each part of a start: {"cold": of one, "warm": medians of some}, and "peak_bytes" of warm ones.

    process  from the process being asked for to the end of the first step, without the making of data
    """
    compile_bytecode()
    with tempfile.TemporaryDirectory() as folder:
        variables = caches(Path(folder))
        cold, _ = start(spawn, variables)
        warm = [start(spawn, variables) for _ in range(WARM_STARTS)]
    medians = {part: statistics.median(each[part] for each, _ in warm) for part in PARTS}
    return {
        "cold": {part: cold[part] for part in PARTS},
        "warm": medians,
        "peak_bytes": round(statistics.median(peak for _, peak in warm)),
    }


def start(spawn: Spawn, variables: Mapping[str, str]) -> tuple[dict[str, float], int]:
    """(the parts of a start, most bytes in 20 steps)."""
    process = spawn(variables)
    process.ask("losses")
    peak = process.ask("memory")["peak_bytes"]
    process.stop()
    parts = {part: process.start[part] for part in PARTS}
    return {**parts, "process": parts["process"] - process.start["data"]}, peak

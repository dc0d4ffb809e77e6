"""What this machine can do at most: multiply-adds, copied bytes, elementary functions. Prints it as JSON.

python -m graphc.bench.machine [--threads 2]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import graphc as gx
from graphc import functional
from graphc.backends import target
from graphc.backends.loading import load_object

LANES = 16
TURNS = 40 * 1_000  # of the loop of multiply-adds in one call: about a millisecond
SIZES = tuple(2**k for k in range(16, 29, 2))  # bytes of each of the two arrays of a copy
PLACES = 8192  # of an elementary function: in and out lie in the first two caches
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "exp": functional.exp, "log": functional.log, "tanh": functional.tanh, "erf": functional.erf
}  # fmt: skip
LONG = 0.2  # seconds of one measurement


def multiply_adds(chains: int) -> str:
    """LLVM IR of `peak(turns, out)`: so many independent chains of vector multiply-adds, each as long as `turns`."""
    names = [f"%c{k}" for k in range(chains)]
    kind = f"<{LANES} x float>"
    first = [f"  {name} = phi {kind} [ zeroinitializer, %start ], [ {name}.next, %loop ]" for name in names]
    turn = [f"  {name}.next = call {kind} @llvm.fma.v{LANES}f32({kind} %x, {kind} %y, {kind} {name})" for name in names]
    last = [
        line
        for k, name in enumerate(names)
        for line in (f"  %p{k} = getelementptr {kind}, ptr %out, i64 {k}", f"  store {kind} {name}.next, ptr %p{k}")
    ]
    return "\n".join(
        [
            f"declare {kind} @llvm.fma.v{LANES}f32({kind}, {kind}, {kind})",
            "define void @peak(i64 %turns, ptr %out) {",
            "start:",
            f"  %x = load {kind}, ptr %out",
            f"  %y.at = getelementptr {kind}, ptr %out, i64 1",
            f"  %y = load {kind}, ptr %y.at",
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %start ], [ %i.next, %loop ]",
            *first,
            *turn,
            "  %i.next = add i64 %i, 1",
            "  %more = icmp slt i64 %i.next, %turns",
            "  br i1 %more, label %loop, label %end",
            "end:",
            *last,
            "  ret void",
            "}",
        ]
    )


def shortest(action: Callable[[], Any], seconds: float = LONG) -> float:
    """Seconds of the shortest run of an action: what others take of the machine only ever adds."""
    action()
    found, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        action()
        found = min(found, time.perf_counter() - start)
    return found


def together(threads: int, make: Callable[[], Callable[[], Any]], seconds: float) -> float:
    """Seconds of the shortest run in each of so many threads at once, the longest of those."""
    with ThreadPoolExecutor(threads) as pool:
        return max(pool.map(partial(shortest, seconds=seconds), [make() for _ in range(threads)]))


def peak_of_chains(threads: int, seconds: float = LONG) -> float:
    """Floating-point operations a second of multiply-adds in registers."""
    host = target.host()
    chains = host.tile_rows * host.tile_vectors
    engine = load_object(target.build([multiply_adds(chains)], ["peak"], host))
    native = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(engine.get_function_address("peak"))

    def make() -> Callable[[], Any]:
        memory = np.zeros(LANES * chains + LANES, np.float32)
        start = memory[-memory.ctypes.data // 4 % LANES :]
        return lambda: native(TURNS, start.ctypes.data)

    return 2.0 * LANES * chains * TURNS * threads / together(threads, make, seconds)


def peak_of_products() -> float:
    """Floating-point operations a second of NumPy's matrix products, which take the threads they were given."""
    found = 0.0
    for size in (256, 512, 1024):
        a, out = np.full((size, size), 0.5, np.float32), np.empty((size, size), np.float32)
        found = max(found, 2.0 * size**3 / shortest(lambda a=a, out=out: np.matmul(a, a, out=out)))  # type: ignore[misc]
    return found


def copy_rates(threads: int, sizes: Sequence[int] = SIZES, seconds: float = LONG) -> dict[int, float]:
    """Bytes read and written a second by a copy, by the bytes of both arrays of all threads."""
    found = {}
    for size in sizes:

        def make(size: int = size) -> Callable[[], Any]:
            source, goal = np.ones(size // 4, np.float32), np.ones(size // 4, np.float32)
            return lambda: np.copyto(goal, source)

        found[2 * size * threads] = 2 * size * threads / together(threads, make, seconds)
    return found


def function_rates(threads: int) -> dict[str, float]:
    """Elements a second of each elementary function, the quicker of graphc's and NumPy's."""
    return {name: threads * max(rate_of(name), rate_in_numpy(name)) for name in FUNCTIONS}


def rate_of(name: str) -> float:
    """Elements a second of graphc's own."""
    return 1 / costs_of(name, FUNCTIONS[name])[1]


def costs_of(name: str, function: Callable[[Any], Any], seconds: float = LONG) -> tuple[float, float]:
    """Seconds of a call, and of each element that one thread of it does, of numbers that stay in the caches."""
    numbers = np.linspace(0.1, 4.0, 16 * PLACES, dtype=np.float32)
    found = []
    for count in (16, 16 * PLACES):
        x = gx.parameter("x", numbers[:count])
        each = gx.parameter("y", numbers[:count])
        step = gx.function([], None, updates={each: function(x)}, name=f"rate_of_{name}")
        step.threads = 1
        found.append(shortest(step, seconds))
    return found[0], (found[1] - found[0]) / (16 * (PLACES - 1))


def rate_in_numpy(name: str) -> float:
    if not hasattr(np, name):
        return 0.0
    x = np.linspace(0.1, 4.0, PLACES, dtype=np.float32)
    out = np.empty_like(x)
    return PLACES / shortest(lambda: getattr(np, name)(x, out=out))


def processor() -> str:
    known = (
        re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if platform.system() == "Linux" else None
    )
    return known[1] if known else platform.processor() or platform.machine()


def measured(threads: int) -> dict[str, Any]:
    """What the machine is, and its rates with so many threads."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "multiply_adds": peak_of_chains(threads),
        "products": peak_of_products(),
        "copies": copy_rates(threads),
        "functions": function_rates(threads),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    print(json.dumps(measured(parser.parse_args().threads), indent=1))


if __name__ == "__main__":
    main()

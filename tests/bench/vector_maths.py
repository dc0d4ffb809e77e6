"""The elementary functions against NumPy's and PyTorch's: float32, one thread, array in, ready array out.

    python tests/bench/vector_maths.py [--sizes 2048 262144] [--pairs 21] [--only exp tanh]

Each row is a function: nanoseconds an element of graphc's native loop, and how many times as long NumPy and PyTorch
take (medians of the ratios of pairs measured one right after the other; above 1 graphc is ahead). 2,048 elements with
their results lie in the first-level cache, 262,144 beyond the second. Without torch its columns stay empty.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import re
import statistics
import time
from collections.abc import Callable

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402

from graphc.backends import maths  # noqa: E402
from graphc.backends.artifact import closure  # noqa: E402
from graphc.backends.loading import load_object  # noqa: E402
from graphc.backends.lower import lower  # noqa: E402
from graphc.backends.primitives import LANES, Kernel  # noqa: E402
from graphc.backends.target import build, host  # noqa: E402

try:
    import torch
    from torch.nn.functional import gelu

    torch.set_num_threads(1)
except ImportError:
    torch = None

SECONDS_A_MEASUREMENT = 0.003

# As steps compute them; a number stands for itself in all lanes.
COMPOSED = {
    "gelu_tanh": "(0.5) * x * ((1.0) + tanh((0.7978845608028654) * (x + (0.044715) * (x * x * x))))",
    "gelu": "(0.5) * x * ((1.0) + erf(x * (0.7071067811865476)))",
    "sqrt": "sqrt(x)",
}
RANGES = {
    "acos": (-1, 1), "acosh": (1, 20), "asin": (-1, 1), "atanh": (-1, 1), "log": (0.01, 20), "log10": (0.01, 20),
    "log1p": (-0.9, 20), "log2": (0.01, 20), "pow": (0.01, 4), "rsqrt": (0.01, 20), "sqrt": (0, 20),
}  # fmt: skip
NUMPY_NAMES = {
    "acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh", "atan": "arctan", "atan2": "arctan2",
    "atanh": "arctanh", "pow": "power",
}  # fmt: skip
HALF_LOG = math.sqrt(2 / math.pi)


def loop(name: str) -> Kernel:
    """The kernel (x, y, out, count) of a function over arrays."""
    value = COMPOSED.get(name) or (f"{name}(x, y)" if takes_two(name) else f"{name}(x)")
    value = re.sub(r"\((\d[\d.]*)\)", r"spread(f32(\1))", value)
    second = "        y = load_lanes(b, i)\n" if takes_two(name) else ""
    text = (
        "def loop(a, b, out, count):\n"
        f"    for i in range(0, count, {LANES}):\n"
        f"        x = load_lanes(a, i)\n{second}"
        f"        store_lanes(out, i, {value})\n"
    )
    called = [maths.instance(each, "f32x16") for each in maths.FUNCTIONS if f"{each}(" in value.replace("arc", "")]
    used = tuple(each for each in called if re.search(rf"\b{each.plain_name}\(", value))
    parameters = (("a", "f32*"), ("b", "f32*"), ("out", "f32*"), ("count", "i64"))
    return Kernel(f"loop_{name}", text, parameters, inline=False, calls=used)


def takes_two(name: str) -> bool:
    return name in maths.FUNCTIONS and len(maths.instance(name, "f32").parameters) == 2


def compiled(names: list[str]) -> dict[str, Callable[..., None]]:
    kernels = [loop(name) for name in names]
    data = build([lower(each) for each in closure(kernels)], [kernel.name for kernel in kernels], host())
    engine = load_object(data)
    prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)
    functions = {name: prototype(engine.get_function_address(f"loop_{name}")) for name in names}
    functions[""] = engine  # the code lives as long as the engine
    return functions


def numpy_function(name: str) -> Callable[..., object] | None:
    own = getattr(np, NUMPY_NAMES.get(name, name), None)
    return own if isinstance(own, np.ufunc) else None


def torch_function(name: str) -> Callable[..., object] | None:
    if torch is None:
        return None
    if name.startswith("gelu"):
        return lambda x, out: gelu(x, approximate="tanh" if name == "gelu_tanh" else "none")
    if name == "softplus":
        return lambda x, out: torch.nn.functional.softplus(x)
    return getattr(torch, name)


def seconds(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def ratio(ours: Callable[[], object], theirs: Callable[[], object], pairs: int) -> tuple[float, float]:
    """(median seconds of ours, median of theirs / ours)."""
    counts = [max(1, int(SECONDS_A_MEASUREMENT / max(seconds(call, 3), 1e-7))) for call in (ours, theirs)]
    found = [(seconds(ours, counts[0]), seconds(theirs, counts[1])) for _ in range(pairs)]
    return statistics.median(own for own, _ in found), statistics.median(other / own for own, other in found)


def arguments(name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    low, high = RANGES.get(name, (-8, 8))
    return random.uniform(low, high, size).astype(np.float32), random.uniform(-3, 3, size).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 262144], help="multiples of 16")
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--only", nargs="+", default=[*sorted(maths.FUNCTIONS), *COMPOSED])
    options = parser.parse_args()
    functions = compiled(options.only)
    print(f"{'':<10}" + "".join(f"{size:>12} {'ns':>6} {'numpy':>6} {'torch':>6}" for size in options.sizes))
    for name in options.only:
        row = f"{name:<10}"
        for size in options.sizes:
            row += measured(name, size, functions[name], options.pairs)
        print(row, flush=True)


def measured(name: str, size: int, function: Callable[..., None], pairs: int) -> str:
    x, y = arguments(name, size)
    out = np.empty_like(x)
    operands = (x, y) if takes_two(name) else (x,)
    addresses = (x.ctypes.data, y.ctypes.data, out.ctypes.data, size)
    ours = lambda: function(*addresses)  # noqa: E731
    cells, nanoseconds = "", 0.0
    for peer, convert in ((numpy_function(name), lambda each: each), (torch_function(name), torch_tensor)):
        if peer is None:
            cells += f" {'':>6}"
            continue
        given, into = [convert(each) for each in operands], convert(out)
        own, times = ratio(ours, lambda: peer(*given, out=into), pairs)  # noqa: B023
        nanoseconds = own / size * 1e9
        cells += f" {times:>6.2f}"
    return f"{'':>12} {nanoseconds:>6.3f}{cells}"


def torch_tensor(array: np.ndarray) -> object:
    return torch.from_numpy(array)


if __name__ == "__main__":
    main()

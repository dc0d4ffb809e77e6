"""Kernels of the ops that go along an axis in order: one text each, for x seen as [outer, count, inner]; and a copy."""

from __future__ import annotations

from graphc.backends.primitives import LANES, Kernel
from graphc.ir.types import FLOATS

# line is scratch for 2 * count numbers.
CUMSUM = """def cumsum(out, x, line, outer, count, inner):
    for i in range(outer):
        for j in range(inner):
            total = ZERO
            for k in range(count):
                at = (i * count + PLACE) * inner + j
                total = total + load(x, at)
                store(out, at, total)
"""

# Merge sort from the bottom up, stable, between the two halves of `line`.
ARGSORT = """def argsort(out, x, line, outer, count, inner):
    for i in range(outer):
        for j in range(inner):
            base = i * count * inner + j
            for k in range(count):
                store(line, k, k)
            source = 0
            width = 1
            while width < count:
                target = count - source
                for start in range(0, count, 2 * width):
                    left = start
                    middle = minimum(start + width, count)
                    right = middle
                    stop = minimum(start + 2 * width, count)
                    for k in range(start, stop):
                        a = load(line, source + minimum(left, count - 1))
                        b = load(line, source + minimum(right, count - 1))
                        u = load(x, base + a * inner)
                        v = load(x, base + b * inner)
                        take_right = (left >= middle) | ((right < stop) & (BEFORE))
                        store(line, target + k, select(take_right, b, a))
                        left = left + select(take_right, 0, 1)
                        right = right + select(take_right, 1, 0)
                source = target
                width = 2 * width
            for k in range(count):
                store(out, base + k * inner, load(line, source + k))
"""


def kernel(name: str, dtype: str, reverse: bool) -> Kernel:
    """The kernel of sweep `name` over numbers of a dtype: (out, x, line, outer, count, inner)."""
    order = "reverse" if reverse else "forward"
    if name == "cumsum":
        zero = f"{dtype}(0.0)" if dtype in FLOATS else f"{dtype}(0)"
        text = CUMSUM.replace("ZERO", zero).replace("PLACE", "count - 1 - k" if reverse else "k")
    else:
        text = ARGSORT.replace("BEFORE", precedes(dtype, reverse))
    parameters = (
        ("out", f"{dtype}*" if name == "cumsum" else "i64*"), ("x", f"{dtype}*"), ("line", "i64*"),
        ("outer", "i64"), ("count", "i64"), ("inner", "i64"),
    )  # fmt: skip
    return Kernel(f"{name}_{order}_{dtype}", text, parameters)


def precedes(dtype: str, reverse: bool) -> str:
    """v of the right half comes before u of the left one; NaN is the largest number."""
    if dtype not in FLOATS:
        return "v > u" if reverse else "v < u"
    return "(v > u) | ((v != v) & (u == u))" if reverse else "(v < u) | ((u != u) & (v == v))"


def move(dtype: str) -> Kernel:
    """The kernel that copies `count` numbers: (out, x, count)."""
    name = f"move_{dtype}"
    text = f"""def {name}(out, x, count):
    whole = count - count % {LANES}
    for k in range(0, whole, {LANES}):
        store_lanes(out, k, load_lanes(x, k))
    for k in range(whole, count):
        store(out, k, load(x, k))
"""
    return Kernel(name, text, (("out", f"{dtype}*"), ("x", f"{dtype}*"), ("count", "i64")))

"""Kernels of the ops that go along an axis in order: one text each, for x seen as [outer, count, inner]; and a copy."""

from __future__ import annotations

from graphc.backends.primitives import LANES, Kernel, constant
from graphc.ir.graph import Value
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


SWEEPS = {"cumsum": CUMSUM, "argsort": ARGSORT}


def kernel(value: Value) -> Kernel:
    """The kernel of a value swept along an axis: (out, x, line, outer, count, inner)."""
    name, dtype, reverse = value.op.name, value.operands[0].dtype, value.attrs["reverse"]
    words = {
        "ZERO": constant(0, dtype),
        "PLACE": "count - 1 - k" if reverse else "k",
        "BEFORE": precedes(dtype, reverse),
    }
    text = SWEEPS[name]
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    parameters = (
        ("out", f"{value.dtype}*"), ("x", f"{dtype}*"), ("line", "i64*"),
        ("outer", "i64"), ("count", "i64"), ("inner", "i64"),
    )  # fmt: skip
    return Kernel(f"{name}_{'reverse' if reverse else 'forward'}_{dtype}", text, parameters)


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


def clear(dtype: str) -> Kernel:
    """out[begin : end] = 0."""
    text = f"""def clear_{dtype}(out, begin, end):
    for k in range(begin, end):
        store(out, k, {constant(0, dtype)})
"""
    return Kernel(f"clear_{dtype}", text, (("out", f"{dtype}*"), ("begin", "i64"), ("end", "i64")))

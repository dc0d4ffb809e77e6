"""Largest and smallest floats of a row, found among integers of the same order.

Of two floats, `maximum` has to see to NaN and to the sign of zero, which takes a machine several instructions one
after the other. Integers in the order of the floats, NaN beyond all of them, take one; the float comes back at the end.
"""

from __future__ import annotations

from functools import cache

from graphc.backends.primitives import LANES, Kernel
from graphc.ir.types import FLOATS

INTEGER = {"f32": ("i32", 31), "f64": ("i64", 63)}  # of the width of a float, and where its sign stands


def is_extreme(name: str, dtype: str) -> bool:
    """A reduction that goes over keys."""
    return name in ("max", "min") and dtype in FLOATS


def worst(name: str, dtype: str) -> str:
    """The key that any other beats: that of -inf or inf."""
    infinity = {"f32": 0x7F800000, "f64": 0x7FF0000000000000}[dtype]
    return f"{INTEGER[dtype][0]}({infinity if name == 'min' else -infinity - 1})"


@cache
def key(name: str, dtype: str) -> Kernel:
    """Lanes of floats -> lanes of integers in the same order; NaN becomes the largest, for "min" the smallest."""
    kind, sign = INTEGER[dtype]
    most = (1 << sign) - 1
    beyond = most if name == "max" else -most - 1
    text = f"""def key_for_{name}(x):
    bits = bits_of(x)
    ordered = bits ^ ((bits >> spread({kind}({sign}))) & spread({kind}({most})))
    return select(x != x, spread({kind}({beyond})), ordered)
"""
    return Kernel(f"key_for_{name}_{dtype}", text, (("x", f"{dtype}x{LANES}"),), returns=f"{kind}x{LANES}")


@cache
def of_key(dtype: str) -> Kernel:
    """The float of a key."""
    kind, sign = INTEGER[dtype]
    text = f"""def of_key(k):
    return float_of(k ^ ((k >> {kind}({sign})) & {kind}({(1 << sign) - 1})))
"""
    return Kernel(f"of_key_{dtype}", text, (("k", kind),), returns=dtype)

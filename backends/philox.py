"""Random bits in the kernel language: the Philox 4x32-10 generator of `graphc.ir.random`, word for word."""

from __future__ import annotations

from functools import cache

from graphc.backends.primitives import Kernel, is_vector
from graphc.ir.random import HALF, KEY_STEPS, MASK, MULTIPLIERS, ROUNDS


@cache
def random_bits(kind: str) -> Kernel:
    """(element, stream, call, seed) -> 32 bits; all of `kind`: "i64" or "i64x16"."""
    number = "spread" if is_vector(kind) else "i64"
    text = f"""def random_bits(element, stream, call, seed):
    low = {number}({MASK})
    half = {number}({HALF})
    a = element & low
    b = stream & low
    c = call & low
    d = (call >> half) & low
    key_a = seed & low
    key_b = (seed >> half) & low
    for turn in range({ROUNDS}):
        first = a * {number}({MULTIPLIERS[0]})
        second = c * {number}({MULTIPLIERS[1]})
        a = ((second >> half) & low) ^ b ^ key_a
        b = second & low
        c = ((first >> half) & low) ^ d ^ key_b
        d = first & low
        key_a = (key_a + {number}({KEY_STEPS[0]})) & low
        key_b = (key_b + {number}({KEY_STEPS[1]})) & low
    return a
"""
    parameters = tuple((name, kind) for name in ("element", "stream", "call", "seed"))
    return Kernel(f"random_bits_{kind}", text, parameters, returns=kind)

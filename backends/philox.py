"""Random bits in the kernel language: the Philox 4x32-10 generator of `graphc.ir.random`, word for word."""

from __future__ import annotations

from functools import cache

from graphc.backends.primitives import Kernel, is_vector
from graphc.ir.random import HALF, KEY_STEPS, MASK, MULTIPLIERS, ROUNDS


@cache
def random_bits(kind: str) -> Kernel:
    """(element, stream, call, seed) -> 32 bits; all of `kind`: "i64" or "i64x16".

    Words are the lower halves of their numbers, whose upper halves are left as they come: each is masked where it is
    multiplied, which is what a machine's multiplication of 32-bit halves does by itself.
    """
    number = "spread" if is_vector(kind) else "i64"
    text = f"""def random_bits(element, stream, call, seed):
    low = {number}({MASK})
    half = {number}({HALF})
    a = element
    b = stream
    c = call
    d = call >> half
    key_a = seed
    key_b = seed >> half
    for turn in range({ROUNDS}):
        first = (a & low) * {number}({MULTIPLIERS[0]})
        second = (c & low) * {number}({MULTIPLIERS[1]})
        a = (second >> half) ^ b ^ key_a
        b = second
        c = (first >> half) ^ d ^ key_b
        d = first
        key_a = key_a + {number}({KEY_STEPS[0]})
        key_b = key_b + {number}({KEY_STEPS[1]})
    return a & low
"""
    parameters = tuple((name, kind) for name in ("element", "stream", "call", "seed"))
    return Kernel(f"random_bits_{kind}", text, parameters, returns=kind)

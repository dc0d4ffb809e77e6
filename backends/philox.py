"""Random bits in the kernel language: the Philox 4x32-10 generator of `graphc.ir.random`, word for word."""

from __future__ import annotations

from functools import cache

from graphc.backends.primitives import LANES, Kernel
from graphc.ir.random import KEY_STEPS, MULTIPLIERS, ROUNDS

TEXT = """def random_bits(element, stream, call, seed):
    low = number(4294967295)
    half = number(32)
    a = element & low
    b = stream & low
    c = call & low
    d = (call >> half) & low
    key_a = seed & low
    key_b = (seed >> half) & low
    for turn in range(ROUNDS):
        first = a * number(MULTIPLIER_A)
        second = c * number(MULTIPLIER_B)
        a = ((second >> half) & low) ^ b ^ key_a
        b = second & low
        c = ((first >> half) & low) ^ d ^ key_b
        d = first & low
        key_a = (key_a + number(STEP_A)) & low
        key_b = (key_b + number(STEP_B)) & low
    return a
"""


@cache
def random_bits(kind: str) -> Kernel:
    """(element, stream, call, seed) -> 32 bits; all of `kind`: "i64" or "i64x16"."""
    numbers = {"MULTIPLIER_A": MULTIPLIERS[0], "MULTIPLIER_B": MULTIPLIERS[1], "STEP_A": KEY_STEPS[0]}
    text = TEXT.replace("ROUNDS", str(ROUNDS)).replace("STEP_B", str(KEY_STEPS[1]))
    for name, value in numbers.items():
        text = text.replace(name, str(value))
    text = text.replace("number(", "spread(") if kind == f"i64x{LANES}" else text.replace("number(", "i64(")
    parameters = tuple((name, kind) for name in ("element", "stream", "call", "seed"))
    return Kernel(f"random_bits_{kind}", text, parameters, returns=kind)

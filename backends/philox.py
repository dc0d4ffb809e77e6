"""Random bits in the kernel language: the Philox 4x32-10 generator of `graphc.ir.random`, word for word."""

from __future__ import annotations

from functools import cache

from graphc.backends.primitives import LANES, Kernel, is_vector
from graphc.ir.random import HALF, KEY_STEPS, MASK, MULTIPLIERS, ROUNDS

WORDS = "abcd"


@cache
def random_word(kind: str, number: int) -> Kernel:
    """(element, stream, call, seed) -> word `number` of the four, 32 bits; all of `kind`: "i64" or "i64x16".

    Words are the lower halves of their numbers, whose upper halves are left as they come: each is masked where it is
    multiplied, which is what a machine's multiplication of 32-bit halves does by itself.
    """
    name = f"random_word_{number}"
    text = f"""def {name}(element, stream, call, seed):
{rounds(kind)}    return {WORDS[number]} & low
"""
    return Kernel(f"{name}_{kind}", text, parameters(kind), returns=kind)


@cache
def random_words(kind: str) -> Kernel:
    """Stores all four words where (element, stream, call, seed) is given, one set of lanes behind the other."""
    stores = "".join(f"    store_lanes(out, {LANES * place}, {word} & low)\n" for place, word in enumerate(WORDS))
    text = f"def random_words(out, element, stream, call, seed):\n{rounds(kind)}{stores}"
    return Kernel(f"random_words_{kind}", text, (("out", "i64*"), *parameters(kind)))


@cache
def random_bits(kind: str) -> Kernel:
    """The bits of the op `random_bits`: the word that belongs to the element, at the counter of its 64 neighbours."""
    number = number_of(kind)
    text = f"""def random_bits(place, stream, call, seed):
    element = ((place >> {number}(6)) << {number}(4)) | (place & {number}(15))
    word = (place >> {number}(4)) & {number}(3)
{rounds(kind)}    front = select(word == {number}(0), a, b)
    back = select(word == {number}(2), c, d)
    return select(word < {number}(2), front, back) & low
"""
    return Kernel(f"random_bits_{kind}", text, parameters(kind, "place"), returns=kind)


def number_of(kind: str) -> str:
    """What makes a number of a constant."""
    return "spread" if is_vector(kind) else "i64"


def parameters(kind: str, first: str = "element") -> tuple[tuple[str, str], ...]:
    return tuple((name, kind) for name in (first, "stream", "call", "seed"))


def rounds(kind: str) -> str:
    """The lines that make the four words a, b, c and d; every round is written out, so that equal draws are found."""
    number = number_of(kind)
    turns = "".join(
        f"""    first = (a & low) * {number}({MULTIPLIERS[0]})
    second = (c & low) * {number}({MULTIPLIERS[1]})
    a = (second >> half) ^ b ^ (key_a + {number}({turn * int(KEY_STEPS[0])}))
    b = second
    c = (first >> half) ^ d ^ (key_b + {number}({turn * int(KEY_STEPS[1])}))
    d = first
"""
        for turn in range(ROUNDS)
    )
    return f"""    low = {number}({MASK})
    half = {number}({HALF})
    a = element
    b = stream
    c = call
    d = call >> half
    key_a = seed
    key_b = seed >> half
{turns}"""

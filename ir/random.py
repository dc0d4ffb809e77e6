"""Counter-based random bits: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3",
SC 2011), and the permutation drawn from it. Native code computes the same bits from the same counters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Words = np.ndarray[Any, np.dtype[np.uint32]]
Wide = np.ndarray[Any, np.dtype[np.uint64]]  # 32-bit words in 64 bits: products keep their upper half, sums do not wrap

ROUNDS = 10
MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
KEY_STEPS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)  # the fractions of the golden ratio and of the root of three
GROUP = 64  # neighbours in an order, whose draws are the four words of 16 counters
MASK, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox_4x32_10(counter: Sequence[ArrayLike], key: Sequence[ArrayLike]) -> tuple[Words, Words, Words, Words]:
    """Four random uint32 words for each counter.

    counter  four arrays of uint32 words, the least significant first
    key      two such arrays; all six broadcast together
    """
    a, b, c, d = (np.asarray(word, np.uint64) for word in counter)
    low_key, high_key = (np.asarray(word, np.uint64) for word in key)
    for _ in range(ROUNDS):
        left, right = MULTIPLIERS[0] * a, MULTIPLIERS[1] * c
        a, b, c, d = (right >> HALF) ^ b ^ low_key, right & MASK, (left >> HALF) ^ d ^ high_key, left & MASK
        low_key, high_key = (low_key + KEY_STEPS[0]) & MASK, (high_key + KEY_STEPS[1]) & MASK
    return a.astype(np.uint32), b.astype(np.uint32), c.astype(np.uint32), d.astype(np.uint32)


def words(number: int | Wide) -> tuple[Wide, Wide]:
    """The lower and the upper 32 bits of a 64-bit number or of an array of them."""
    bits = np.asarray(number, np.uint64)
    return bits & MASK, bits >> HALF


def permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The numbers 0 .. count-1 in the random order of an epoch, int64 (count,).

    Fisher and Yates's shuffle, from the inside out: for i from 0, place i takes what is at place
    j = draw * (i + 1) >> 32, and place j takes i. The draw is one of four words at the Philox counter
    (i // 64 * 16 + i % 16, epoch) under the seed, each of the three a 64-bit number: of 64 neighbours the first 16 have
    the first words, the next 16 the second ones, and so on. So any entry's draw can be had without the others, native
    code needs no state to repeat it, and a call of the generator serves four entries.
    """
    places = np.arange(count, dtype=np.uint64)
    counters = np.arange(-(-count // GROUP) * GROUP // 4, dtype=np.uint64)
    drawn = np.stack(philox_4x32_10((*words(counters), *words(epoch)), words(seed)))
    draws = drawn.reshape(4, -1, GROUP // 4).swapaxes(0, 1).reshape(-1)[:count]
    partners = (draws.astype(np.uint64) * (places + np.uint64(1)) >> HALF).tolist()
    order = list(range(count))
    for i, j in enumerate(partners):
        order[i], order[j] = order[j], i
    return np.array(order, np.int64)

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

    Fisher and Yates's shuffle from the end: `i` changes places with `draw * (i + 1) >> 32`, where draw is the first
    Philox word at counter (i, epoch) under the seed, each of the three a 64-bit number. So any entry's draw can be had
    without the others, and native code needs no state to repeat it.
    """
    places = np.arange(count, dtype=np.uint64)
    draws, *_ = philox_4x32_10((*words(places), *words(epoch)), words(seed))
    partners = (draws.astype(np.uint64) * (places + np.uint64(1)) >> HALF).tolist()
    order = list(range(count))
    for i in range(count - 1, 0, -1):
        j = partners[i]
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)

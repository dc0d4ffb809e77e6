"""Philox against the known answers of its authors' library (Random123), and the permutation drawn from it."""

from __future__ import annotations

import numpy as np
import pytest

from graphc.backends.entry.epoch import shuffle
from graphc.backends.primitives import run
from graphc.ir.random import permutation, philox_4x32_10

ONES = 0xFFFFFFFF
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((ONES,) * 4, (ONES,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, ...], answer: str) -> None:
    assert " ".join(f"{int(word):08x}" for word in philox_4x32_10(counter, key)) == answer


def test_arrays_of_counters_give_what_single_ones_give() -> None:
    places = np.arange(5, dtype=np.uint32)
    drawn = philox_4x32_10((places, 7, 8, 9), (1, 2))
    assert all(word.dtype == np.uint32 and word.shape == (5,) for word in drawn)
    for place in places:
        single = philox_4x32_10((place, 7, 8, 9), (1, 2))
        assert [int(word[place]) for word in drawn] == [int(word) for word in single]


def test_permutation_is_the_documented_shuffle() -> None:
    count, seed, epoch = 150, 2**40 + 3, 2**33 + 1
    order = list(range(count))
    for i in range(count):
        counter = i // 64 * 16 + i % 16, 0, epoch % 2**32, epoch >> 32
        draw = int(philox_4x32_10(counter, (seed % 2**32, seed >> 32))[i % 64 // 16])
        j = draw * (i + 1) >> 32
        order[i], order[j] = order[j], i
    assert permutation(count, seed, epoch).tolist() == order


def test_the_kernel_shuffles_alike() -> None:
    order, seed, epoch = np.empty(130, np.int64), 2**40 + 3, 2**33 + 1
    for count in (130, 128, 65, 64, 33, 17, 16, 2, 1, 0):
        run(shuffle(), order[:count], np.empty(64, np.int64), count, seed, epoch)
        np.testing.assert_array_equal(order[:count], permutation(count, seed, epoch))


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_permutation_holds_every_number_once(count: int) -> None:
    order = permutation(count, seed=5, epoch=0)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(count))


def test_permutation_is_fixed_for_all_time() -> None:
    assert permutation(10, seed=1, epoch=0).tolist() == [5, 4, 9, 7, 1, 2, 3, 8, 6, 0]


@pytest.mark.parametrize("place", [0, 3, 7])
def test_every_number_is_equally_likely(place: int) -> None:
    found = np.bincount([permutation(8, seed, epoch=0)[place] for seed in range(4000)], minlength=8)
    assert abs(found - 500).max() < 5 * np.sqrt(500)


def test_all_orders_are_equally_likely() -> None:
    orders, counts = np.unique([permutation(4, 7, epoch) for epoch in range(6000)], axis=0, return_counts=True)
    assert len(orders) == 24 and abs(counts - 250).max() < 5 * np.sqrt(250)

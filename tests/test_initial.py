"""Initial values: each number from its place alone, quantiles as in the standard library, and what makes them anew."""

from __future__ import annotations

import copy
from statistics import NormalDist

import numpy as np
import pytest

import graphc as gx
from graphc import init, nn
from graphc.ir.initial import KEY_STEPS, MULTIPLIERS, ROUNDS, Initial, bits_of, logarithm, quantile

WORD = 2**64 - 1


def philox_4x64(block, key):
    """Four words, with Python's whole numbers."""
    a, b, c, d = block, 0, 0, 0
    low, high = key
    for _ in range(ROUNDS):
        left, right = MULTIPLIERS[0] * a, MULTIPLIERS[1] * c
        a, b, c, d = (right >> 64) ^ b ^ low, right & WORD, (left >> 64) ^ d ^ high, left & WORD
        low, high = (low + KEY_STEPS[0]) & WORD, (high + KEY_STEPS[1]) & WORD
    return a, b, c, d


def test_words_are_philox_at_their_places():
    found = bits_of(2**63 + 5, 9).random_raw(11).tolist()
    assert found == [philox_4x64(1 + place // 4, (2**63 + 5, 9))[place % 4] for place in range(11)]
    assert bits_of(2**63 + 5, 10).random_raw(11).tolist() != found


def test_quantiles_are_those_of_the_standard_library():
    shares = np.concatenate(
        [np.random.default_rng(0).random(500), 10.0 ** -np.arange(1, 300, 7.3), 1 - 10.0 ** -np.arange(1.0, 15)]
    )
    expected = [NormalDist().inv_cdf(share) for share in shares]
    np.testing.assert_allclose(quantile(shares), expected, 2e-15)
    x = 10.0 ** np.linspace(-300, 300, 1001)
    np.testing.assert_allclose(logarithm(x), np.log(x), 1e-15, 1e-15)


def test_long_draws_are_those_of_short_ones_put_together():
    long, short = np.empty(40_000), np.empty(7)
    for kind in ("uniform", "normal"):
        numbers = Initial(3, kind, 0.5, 2.0)
        numbers.fill(long, 1)
        numbers.fill(short, 1)
        np.testing.assert_array_equal(long[:7], short)


def test_a_parameter_knows_how_its_numbers_were_made():
    gx.manual_seed(5)
    first, second = nn.Linear(3, 4), nn.Linear(3, 4)
    assert [each.initial.draw for net in (first, second) for each in (net.weight, net.bias)] == [0, 1, 2, 3]
    again = np.empty((4, 3), np.float32)
    second.weight.initial.fill(again, 5)
    np.testing.assert_array_equal(again, second.weight.numpy())
    assert copy.deepcopy(second).weight.initial == second.weight.initial


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.load_state_dict({"weight": np.ones((4, 3)), "bias": np.arange(4.0)}),
        lambda net: net.bias.copy_(np.arange(4.0)),
        lambda net: net.bias.__setitem__(0, 1.0),
        lambda net: setattr(net, "bias", nn.Parameter(np.arange(4.0))),
    ],
)
def test_numbers_that_are_given_cannot_be_made_again(change):
    net = nn.Linear(3, 4)
    change(net)
    assert net.bias.initial is None


def test_equal_numbers_are_a_constant():
    assert gx.parameter("w", np.zeros((2, 3))).initial.centre == 0
    assert init.ones_(gx.parameter("w", np.arange(3.0))).initial.centre == 1
    assert gx.parameter("w", [1.0, 2.0, 1.0]).initial is None

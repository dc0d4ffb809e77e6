"""Initial values: ranges and deviations, fans and gains as in PyTorch, seeds."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from refusals import check_refusal

import graphc as gx
from graphc import init, nn


@pytest.fixture(autouse=True)
def seed():
    gx.manual_seed(3)


def weight(*shape):
    return nn.Parameter(np.full(shape, np.nan, np.float32))


def test_uniform_and_normal():
    w = weight(200, 300)
    assert init.uniform_(w) is w
    assert w.numpy().min() >= 0 and w.numpy().max() <= 1
    assert w.numpy().mean() == pytest.approx(0.5, abs=0.01)
    init.uniform_(w, -3, 1)
    assert w.numpy().min() == pytest.approx(-3, abs=0.01) and w.numpy().max() == pytest.approx(1, abs=0.01)
    init.normal_(w, 2.0, 0.5)
    assert w.numpy().mean() == pytest.approx(2, abs=0.01) and w.numpy().std() == pytest.approx(0.5, abs=0.01)


def test_constants():
    w = weight(2, 3)
    assert (init.constant_(w, 0.25).numpy() == 0.25).all()
    assert (init.ones_(w).numpy() == 1).all()
    assert (init.zeros_(w.data).numpy() == 0).all()


LIMITS = {  # of a weight with 300 inputs and 200 outputs
    "xavier": (init.xavier_uniform_, {}, math.sqrt(6 / 500)),
    "xavier with a gain": (init.xavier_uniform_, {"gain": 5 / 3}, 5 / 3 * math.sqrt(6 / 500)),
    "kaiming": (init.kaiming_uniform_, {}, math.sqrt(2) * math.sqrt(3 / 300)),
    "kaiming for relu, outputs": (
        init.kaiming_uniform_,
        {"mode": "fan_out", "nonlinearity": "relu"},
        math.sqrt(2) * math.sqrt(3 / 200),
    ),
    "kaiming as in Linear": (init.kaiming_uniform_, {"a": math.sqrt(5)}, 1 / math.sqrt(300)),
}
DEVIATIONS = {
    "xavier": (init.xavier_normal_, {"gain": 2.0}, 2 * math.sqrt(2 / 500)),
    "kaiming": (init.kaiming_normal_, {"nonlinearity": "relu"}, math.sqrt(2 / 300)),
    "kaiming with a slope": (init.kaiming_normal_, {"a": 0.5, "mode": "fan_out"}, math.sqrt(2 / 1.25 / 200)),
    "kaiming for tanh": (init.kaiming_normal_, {"nonlinearity": "tanh"}, 5 / 3 / math.sqrt(300)),
}


@pytest.mark.parametrize("name", LIMITS)
def test_uniform_limits(name):
    fill, arguments, limit = LIMITS[name]
    numbers = fill(weight(200, 300), **arguments).numpy()
    assert np.abs(numbers).max() <= np.float32(limit)
    assert numbers.min() == pytest.approx(-limit, rel=1e-3) and numbers.max() == pytest.approx(limit, rel=1e-3)
    assert numbers.mean() == pytest.approx(0, abs=limit / 100)


@pytest.mark.parametrize("name", DEVIATIONS)
def test_normal_deviations(name):
    fill, arguments, deviation = DEVIATIONS[name]
    numbers = fill(weight(200, 300), **arguments).numpy()
    assert numbers.std() == pytest.approx(deviation, rel=0.01)
    assert numbers.mean() == pytest.approx(0, abs=deviation / 50)


def test_truncated_normal():
    w = weight(200, 300)
    numbers = init.trunc_normal_(w).numpy()
    assert np.abs(numbers).max() <= 2 and np.abs(numbers).max() > 1.99
    bell = NormalDist()
    deviation = math.sqrt(1 - 4 * bell.pdf(2) / (bell.cdf(2) - bell.cdf(-2)))
    assert numbers.std() == pytest.approx(deviation, rel=0.01) and numbers.mean() == pytest.approx(0, abs=0.01)
    numbers = init.trunc_normal_(w, mean=1.0, std=0.1, a=1.1, b=1.3).numpy()
    assert numbers.min() >= np.float32(1.1) and numbers.max() <= np.float32(1.3)
    mean = 1 + 0.1 * (bell.pdf(1) - bell.pdf(3)) / (bell.cdf(3) - bell.cdf(1))
    assert numbers.mean() == pytest.approx(mean, abs=0.001)
    for low, high in ((8.0, 9.0), (-60.0, -50.0)):  # where the distribution function is 1, or 0
        numbers = init.trunc_normal_(w, a=low, b=high).numpy()
        assert np.isfinite(numbers).all() and low <= numbers.min() <= numbers.max() <= high


def test_matrices_of_ones_and_zeros():
    np.testing.assert_array_equal(init.eye_(weight(2, 3)).numpy(), np.eye(2, 3))
    sparse = init.sparse_(weight(300, 50), sparsity=0.1, std=0.5).numpy()
    assert ((sparse == 0).sum(0) == 30).all() and len({tuple(column) for column in (sparse == 0).T}) > 1
    assert sparse[sparse != 0].std() == pytest.approx(0.5, rel=0.05)
    for fill in (init.eye_, lambda w: init.sparse_(w, 0.5)):
        with pytest.raises(ValueError, match="takes a matrix"):
            fill(weight(2, 2, 2))


def test_dirac_hands_channels_on():
    wanted = np.zeros((4, 3, 3, 2))
    for channel in range(3):
        wanted[channel, channel, 1, 1] = 1
    np.testing.assert_array_equal(init.dirac_(weight(4, 3, 3, 2)).numpy(), wanted)
    wanted = np.zeros((4, 1, 3))
    wanted[[0, 2], 0, 1] = 1
    np.testing.assert_array_equal(init.dirac_(weight(4, 1, 3), groups=2).numpy(), wanted)
    for shape, groups in (((4, 4), 1), ((4, 2, 3), 3)):
        with pytest.raises(ValueError, match="dirac_ takes"):
            init.dirac_(weight(*shape), groups)


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (8, 2, 3)], ids=str)
def test_orthogonal(shape):
    flat = init.orthogonal_(weight(*shape), gain=2.0).numpy().reshape(shape[0], -1)
    product = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-5)


def test_orthogonal_needs_two_axes():
    with pytest.raises(ValueError, match="at least 2 axes"):
        init.orthogonal_(weight(4))


def test_windows_count_in_fans():
    assert init.fans((16, 8, 3, 3)) == (72, 144)
    with pytest.raises(ValueError, match=r"shape \(5,\) has no fan-in and fan-out; it needs at least 2 axes"):
        init.xavier_uniform_(weight(5))


def test_gains():
    found = [init.calculate_gain(name) for name in ("linear", "sigmoid", "tanh", "relu", "selu", "leaky_relu")]
    np.testing.assert_allclose(found, [1, 1, 5 / 3, math.sqrt(2), 0.75, math.sqrt(2 / 1.0001)])
    assert init.calculate_gain("leaky_relu", 1.0) == 1


def test_equal_seeds_give_equal_layers():
    first = nn.Linear(5, 4).state_dict()
    gx.manual_seed(3)
    second, third = nn.Linear(5, 4).state_dict(), nn.Linear(5, 4).state_dict()
    np.testing.assert_array_equal(first["weight"], second["weight"])
    np.testing.assert_array_equal(first["bias"], second["bias"])
    assert not np.array_equal(second["weight"], third["weight"])


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (lambda w: init.zeros_(np.zeros(3)), "only parameters have numbers to initialise, got ndarray"),
        (lambda w: init.uniform_(w, "a"), "a is 'a'; it must be a number"),
        (lambda w: init.uniform_(w, 1, 0), "b is 0; it must be finite and at least a=1"),
        (lambda w: init.normal_(w, 0, -1), "std is -1; it must be a number of at least 0"),
        (lambda w: init.normal_(w, [0]), "mean is [0]; it must be a number"),
        (lambda w: init.trunc_normal_(w, std=0.0), "std is 0.0; it must be a number above 0"),
        (lambda w: init.trunc_normal_(w, a=2.0, b=1.0), "b is 1.0; it must be above a=2.0"),
        (lambda w: init.constant_(w, None), "val is None; it must be a number"),
        (lambda w: init.dirac_(weight(4, 4, 3), 0), "groups is 0; it must be a whole number of at least 1"),
        (lambda w: init.orthogonal_(w, "1"), "gain is '1'; it must be a number"),
        (lambda w: init.sparse_(w, 2), "sparsity is 2; it must be a number from 0 to 1"),
        (lambda w: init.xavier_normal_(w, -1), "gain is -1; it must be a number of at least 0"),
        (lambda w: init.kaiming_normal_(w, mode="fan"), "mode is 'fan'; it must be one of 'fan_in', 'fan_out'"),
        (lambda w: init.kaiming_uniform_(w, "fan_in"), "a is 'fan_in'; it must be a number"),
        (lambda w: init.calculate_gain("gelu"), "nonlinearity is 'gelu'; it must be one of 'leaky_relu', 'linear'"),
        (lambda w: init.calculate_gain(w), "nonlinearity is Parameter"),
    ],
)
def test_wrong_settings(fill, words):
    check_refusal(fill, words, weight(2, 2))

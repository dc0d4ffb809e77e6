"""Naive formulas as people write them, natively: finite and right, with their gradients, in f32 and f64."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx

DTYPES = [gx.f32, gx.f64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)


def value_and_slope(formula, points, dtype):
    """formula(x) and d sum(formula(x)) / dx, by one compiled function."""
    x = gx.input("x", dtype[len(points)])
    out = formula(x)
    found = gx.function([x], [out, gx.grad(out.sum(), x)])(np.array(points, dtype.numpy))
    return [np.asarray(each, np.float64) for each in found]


def tolerance(dtype):
    return 2e-6 if dtype.name == "f32" else 1e-12


def sigmoid(x):
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


@each_dtype
def test_log_of_the_logistic_function(dtype):
    points = [-1000.0, -40.0, 0.0, 3.0, 40.0, 1000.0]
    out, slope = value_and_slope(lambda z: gx.log(1 / (1 + gx.exp(-z))), points, dtype)
    np.testing.assert_allclose(out, -np.logaddexp(0, -np.array(points)), rtol=tolerance(dtype), atol=1e-300)
    np.testing.assert_allclose(slope, sigmoid(-np.array(points)), rtol=tolerance(dtype), atol=1e-37)


@each_dtype
def test_log_of_one_plus_exp(dtype):
    points = [-1000.0, -40.0, 0.0, 3.0, 40.0, 1000.0]
    out, slope = value_and_slope(lambda x: gx.log(1 + gx.exp(x)), points, dtype)
    np.testing.assert_allclose(out, np.logaddexp(0, np.array(points)), rtol=tolerance(dtype), atol=1e-300)
    np.testing.assert_allclose(slope, sigmoid(points), rtol=tolerance(dtype), atol=1e-37)


@each_dtype
def test_log_of_a_share_of_exponentials(dtype):
    x = gx.input("x", dtype[2])
    out = gx.log(gx.exp(x) / gx.exp(x).sum())
    found, slope = gx.function([x], [out, gx.grad(out[0], x)])(np.array([0.0, 1000.0], dtype.numpy))
    np.testing.assert_array_equal(found, [-1000, 0])
    np.testing.assert_allclose(slope, [1, -1])


@each_dtype
def test_a_guarded_root_has_slope_zero_where_it_is_not_taken(dtype):
    points = [-1.0, 0.0, 2.0]
    _, slope = value_and_slope(lambda w: gx.where(2 * w > 0, gx.sqrt(2 * w), 0), points, dtype)
    np.testing.assert_allclose(slope, [0, 0, 0.5], rtol=1e-6)


@each_dtype
def test_lengths_and_shares_of_nothing(dtype):
    x = gx.input("x", dtype[2, 3])
    length = gx.sqrt((x * x).sum(1))
    ones = x / x
    outs = [length, gx.grad(length.sum(), x), ones, gx.grad(ones.sum(), x)]
    found = gx.function([x], outs)(np.array([[0, 0, 0], [3, 0, 4]], dtype.numpy))
    np.testing.assert_allclose(found[0], [0, 5], rtol=1e-6)
    np.testing.assert_allclose(found[1], [[0, 0, 0], [0.6, 0, 0.8]], rtol=1e-6)
    np.testing.assert_array_equal(found[2], np.ones((2, 3)))
    np.testing.assert_array_equal(found[3], np.zeros((2, 3)))


@each_dtype
def test_log_of_one_minus_exp(dtype):
    """Exact values: log(-expm1(x)) near 0 and log1p(-exp(x)) far from it (Maechler 2012), in extended precision."""
    points = np.array([-1e-5, -0.5, -5.0, -50.0, -700.0])
    rounded = points.astype(dtype.numpy).astype(np.longdouble)
    out, slope = value_and_slope(lambda x: gx.log(1 - gx.exp(x)), points, dtype)
    exact = np.where(rounded > -0.7, np.log(-np.expm1(rounded)), np.log1p(-np.exp(rounded))).astype(float)
    np.testing.assert_allclose(out, exact, rtol=4 * tolerance(dtype), atol=1e-300)
    np.testing.assert_allclose(
        slope, (1 / np.expm1(-rounded)).astype(float) * -1, rtol=4 * tolerance(dtype), atol=1e-37
    )


def shares(logits):
    powers = gx.exp(logits)
    return powers / powers.sum(1, keepdims=True)


SPELLINGS = {
    "indexed": lambda z, y: -gx.log(shares(z)[gx.arange(z.shape[0]), y]).mean(),
    "gathered": lambda z, y: -gx.log(gx.gather(shares(z), 1, y.reshape(-1, 1))).mean(),
    "one hot outside": lambda z, y: -(gx.one_hot(y, 3) * gx.log(shares(z))).sum(1).mean(),
    "softmax": lambda z, y: -gx.log(gx.softmax(z, 1)[gx.arange(z.shape[0]), y]).mean(),
    "difference": lambda z, y: (gx.log(gx.exp(z).sum(1)) - z[gx.arange(z.shape[0]), y]).mean(),
}


@each_dtype
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_cross_entropy_from_scratch(spelling, dtype):
    z, y = gx.input("z", dtype["batch", 3]), gx.input("y", gx.i64["batch"])
    loss = SPELLINGS[spelling](z, y)
    logits = np.array([[1e4, 0, -1e4], [-1e4, 1e4, 1e4], [0.5, -1.0, 2.0]], dtype.numpy)
    labels = np.array([1, 2, 0])
    found, slope = gx.function([z, y], [loss, gx.grad(loss, z)])(logits, labels)
    wide = logits.astype(np.float64)
    logs = wide - wide.max(1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(1, keepdims=True))
    np.testing.assert_allclose(found, -logs[np.arange(3), labels].mean(), rtol=tolerance(dtype))
    np.testing.assert_allclose(slope, (np.exp(logs) - np.eye(3)[labels]) / 3, rtol=4 * tolerance(dtype), atol=1e-7)

"""Activation functions: finite everywhere, with finite slopes; settings, right and wrong. Values: test_elementwise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from calls import check_slopes, compare, run
from refusals import check_refusal

import graphc as gx
from graphc import functional as F

PLAIN = {
    "celu": F.celu, "elu": F.elu, "gelu": F.gelu, "gelu tanh": lambda x: F.gelu(x, "tanh"), "hardshrink": F.hardshrink,
    "hardsigmoid": F.hardsigmoid, "hardswish": F.hardswish, "hardtanh": F.hardtanh, "leaky_relu": F.leaky_relu,
    "logsigmoid": F.logsigmoid, "mish": F.mish, "prelu": lambda x: F.prelu(x, 0.25), "relu": F.relu, "relu6": F.relu6,
    "selu": F.selu, "sigmoid": F.sigmoid, "silu": F.silu, "softplus": F.softplus, "softshrink": F.softshrink,
    "softsign": F.softsign, "swish": F.swish, "tanh": F.tanh, "tanhshrink": F.tanhshrink,
    "threshold": lambda x: F.threshold(x, 0.1, -3.0),
}  # fmt: skip
FLAT = {"hardsigmoid", "hardtanh", "relu6", "sigmoid", "softsign", "tanh"}  # on both sides


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_slopes_are_finite_far_out(dtype):
    x = np.array([-1e15, -1e4, -200, -90, 90, 200, 1e4, 1e15], dtype)
    slopes = {f"slope of {name}": lambda x, f=function: gx.grad(f(x).sum(), x) for name, function in PLAIN.items()}
    found = run(PLAIN | slopes, x)
    for name in PLAIN:
        for way in (0, 1):
            values, slope = found[name][way], found[f"slope of {name}"][way]
            assert np.isfinite(values).all() and np.isfinite(slope).all(), name
            if name in FLAT:
                assert (np.abs(values) <= 6).all() and (np.abs(slope) <= 2e-4).all(), name
            else:
                scale = 1.0507009873554805 if name == "selu" else 1.0
                tail = 0.25 if name == "prelu" else 0.01 if name == "leaky_relu" else 0.0
                if name == "logsigmoid":
                    np.testing.assert_allclose(values, np.minimum(x, 0), rtol=1e-6, atol=1e-38)
                elif "shrink" not in name:
                    np.testing.assert_allclose(values[4:], scale * x[4:], rtol=1e-6, err_msg=name)
                    np.testing.assert_allclose(slope, np.where(x > 0, scale, tail), rtol=1e-6, atol=1e-30, err_msg=name)


def test_slopes_are_differences(rng):
    x = rng.uniform(-3.5, 3.5, 6)
    check_slopes(PLAIN, x)
    check_slopes({"prelu": F.prelu}, rng.uniform(-1, 1, (2, 3, 2)), rng.uniform(0, 1, 3))
    rows = rng.uniform(-2, 2, (2, 3))
    check_slopes({"softmin": F.softmin, "softmin 0": lambda x: F.softmin(x, dim=0)}, rows)


def test_softplus_above_its_threshold():
    x = np.array([19.5, 20.5, 25.0])
    exact = np.log1p(np.exp(x))
    compare(
        {
            "default": (F.softplus, lambda x: np.where(x > 20, x, exact)),
            "none": (lambda x: F.softplus(x, threshold=math.inf), lambda x: exact),
            "scaled": (
                lambda x: F.softplus(x, 2.0, 45.0),
                lambda x: np.where(x > 22.5, x, np.log1p(np.exp(2 * x)) / 2),
            ),
        },
        x,
        rtol=1e-15,
    )


def test_integers_become_floats():
    x = np.array([-2, 0, 3])
    found = run({name: function for name, function in PLAIN.items() if name != "relu"}, x)
    assert all(native.dtype == np.float32 for native, _ in found.values())
    compare(
        {"relu": (F.relu, lambda x: np.maximum(x, 0)), "elu": (F.elu, lambda x: np.where(x > 0, x, np.expm1(x)))}, x
    )


def test_slopes_of_prelu_by_channel():
    for shape, weight in (((2, 3), (3,)), ((2, 3, 4), (3,)), ((5,), (1,)), ((2, 3), (1,)), ((), ())):
        assert tuple(F.prelu(gx.input("x", gx.f32[shape]), gx.input("w", gx.f32[weight])).shape) == shape
    x = gx.input("x", gx.f32["batch", 3, 4])
    assert F.prelu(x, gx.input("w", gx.f32[3])).type == x.type
    for weight in ((4,), (3, 1)):
        with pytest.raises(gx.ShapeError, match=r"prelu of f32\[batch,3,4\] with weight"):
            F.prelu(x, gx.input("w", gx.f32[weight]))


def test_glu_needs_halves():
    assert F.glu(gx.input("x", gx.f32["b", 6]), dim=1).type == gx.f32["b", 3]
    for x, axis in ((gx.input("x", gx.f32[3, 5]), -1), (gx.input("x", gx.f32["b", 6]), 0)):
        with pytest.raises(gx.ShapeError, match="must be fixed and even"):
            F.glu(x, axis)


WRONG = {
    "approximate is 'erf'; it must be one of 'none', 'tanh'": lambda x: F.gelu(x, "erf"),
    "alpha is 0.0; it must be a number other than 0": lambda x: F.celu(x, 0.0),
    "beta is 0.0; it must be a number other than 0": lambda x: F.softplus(x, 0.0),
    "min_val=1.0 must be below max_val=-1.0": lambda x: F.hardtanh(x, 1.0, -1.0),
    "lambd is -0.5; it must be a number of at least 0": lambda x: F.softshrink(x, -0.5),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_settings(message):
    check_refusal(WRONG[message], message, gx.input("x", gx.f32[3]))

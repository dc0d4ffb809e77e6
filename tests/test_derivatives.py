"""Pullbacks, directional and second derivatives, gradients of one's own, gradients of single samples."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc.errors import GradientError, ShapeError, TraceError

X = np.linspace(-1.2, 1.4, 6).reshape(2, 3)
V = np.linspace(0.5, -0.7, 6).reshape(2, 3)


def smooth(x):
    return gx.tanh(x @ x.T) + gx.sum(x**3, axis=1)


def slope_along(f, x, v, step=1e-6):
    return (f(x + step * v) - f(x - step * v)) / (2 * step)


def smooth_numbers(x):
    return np.tanh(x @ x.T) + np.sum(x**3, axis=1)


def test_jvp_and_vjp_are_jacobian_products():
    x, v = gx.input("x", gx.f64[2, 3]), gx.input("v", gx.f64[2, 3])
    weights = np.array([[0.3, -1.0], [2.0, 0.7]])
    w = gx.input("w", gx.f64[2, 2])
    out, along = gx.jvp(smooth, (x,), (v,))
    again, pull_back = gx.vjp(smooth, x)
    found = gx.function([x, v, w], [out, along, again, *pull_back(w)])(X, V, weights)
    np.testing.assert_allclose(found[0], smooth_numbers(X), rtol=1e-12)
    np.testing.assert_allclose(found[1], slope_along(smooth_numbers, X, V), rtol=1e-8)
    np.testing.assert_allclose(found[2], found[0])
    np.testing.assert_allclose(np.sum(found[3] * V), np.sum(weights * found[1]), rtol=1e-12)


def test_hessian_vector_product():
    x, v = gx.input("x", gx.f64[2, 3]), gx.input("v", gx.f64[2, 3])
    product = gx.hvp(lambda each: gx.sum(gx.exp(each) * each.sum()), x, v)
    slope = gx.grad(gx.sum(gx.exp(x) * x.sum()), x)
    step = gx.function([x, v], [product, slope])
    expected = (step(X + 1e-6 * V, V)[1] - step(X - 1e-6 * V, V)[1]) / 2e-6
    np.testing.assert_allclose(step(X, V)[0], expected, rtol=1e-7)


def test_third_derivative():
    x = gx.input("x", gx.f64[4])
    once = gx.grad(gx.sum(gx.sin(x)), x)
    thrice = gx.grad(gx.grad(once.sum(), x).sum(), x)
    points = np.linspace(-2, 2, 4)
    np.testing.assert_allclose(gx.function([x], thrice)(points), -np.cos(points), rtol=1e-12)


def test_a_gradient_of_ones_own_replaces_that_of_the_formula():
    scale = gx.parameter("scale", np.float32(3.0))

    @gx.custom_vjp
    def doubled(x, y):
        return x * 2 + y

    @doubled.defvjp
    def _(inputs, out, ct):
        return ct * scale + inputs[0], None

    x, y = gx.input("x", gx.f32[3]), gx.input("y", gx.f32[3])
    loss = (doubled(x, y) * gx.arange(3).float()).sum()
    step = gx.function([x, y], [loss, gx.grad(loss, x)])
    numbers = np.array([1.0, -2.0, 4.0], np.float32)
    found = step(numbers, numbers)
    np.testing.assert_allclose(found[0], np.sum((numbers * 3) * np.arange(3)))
    np.testing.assert_allclose(found[1], 3 * np.arange(3) + numbers)


def test_jax_form_with_residuals_and_a_second_derivative():
    f = gx.custom_vjp(lambda x: gx.exp(x))
    f.defvjp(lambda x: (gx.exp(x), {"out": gx.exp(x)}), lambda kept, ct: (ct * kept["out"] * 5,))
    x = gx.input("x", gx.f64[3])
    slope = gx.grad(f(x).sum(), x)
    points = np.array([0.0, 1.0, -1.0])
    found = gx.function([x], [slope, gx.grad(slope.sum(), x)])(points)
    np.testing.assert_allclose(found, [5 * np.exp(points), 5 * np.exp(points)], rtol=1e-12)


def test_norms_of_the_gradients_of_single_samples():
    rng = np.random.default_rng(3)
    w, b = gx.parameter("w", rng.normal(size=(4, 2))), gx.parameter("b", rng.normal(size=2))
    x, y = gx.input("x", gx.f32["batch", 4]), gx.input("y", gx.i64["batch"])
    norms = gx.per_sample_gradient_norms(lambda row, label: gx.cross_entropy(row @ w + b, label), [w, b], x, y)
    row, label = gx.input("row", gx.f32[1, 4]), gx.input("label", gx.i64[1])
    slopes = gx.grad(gx.cross_entropy(row @ w + b, label), [w, b])
    each, together = gx.function([row, label], slopes), gx.function([x, y], norms)
    rows, labels = rng.normal(size=(5, 4)).astype(np.float32), np.array([0, 1, 1, 0, 1])
    expected = [np.sqrt(sum(np.sum(slope**2) for slope in each(rows[k : k + 1], labels[k : k + 1]))) for k in range(5)]
    np.testing.assert_allclose(together(rows, labels), expected, rtol=1e-5)


def test_wrong_calls_are_named():
    x = gx.input("x", gx.f32[3])
    with pytest.raises(ShapeError, match="tangent 0 is f32"):
        gx.jvp(gx.exp, (x,), (gx.zeros(4),))
    with pytest.raises(ShapeError, match="1 primals and 2 tangents"):
        gx.jvp(gx.exp, (x,), (x, x))
    with pytest.raises(GradientError, match="only floats"):
        gx.hvp(lambda each: each.sum(), gx.input("n", gx.i64[3]), x)
    alone = gx.custom_vjp(lambda each: each)
    with pytest.raises(TraceError, match="has no gradient yet"):
        alone(x)
    alone.defvjp(lambda inputs, out, ct: (ct, ct))
    with pytest.raises(GradientError, match="2 cotangents for 1 inputs"):
        alone(x)
    alone.defvjp(lambda inputs, out, ct: ct.sum())
    with pytest.raises(GradientError, match=r"gives f32\[\] for input 0, which is f32\[3\]"):
        alone(x)

"""Naive formulas as people write them, compiled and by the reference: finite and right, and so are their slopes.

The exact values are those of formulas that neither overflow nor cancel, in f64 or extended precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from calls import Array, run

import graphc as gx

DTYPES = [np.float32, np.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
Formula = Callable[..., gx.Tensor]
Exact = Callable[[Array], Array]

WIDE = [-1000.0, -710.0, -100.0, -30.0, -1.0, -1e-4, 0.0, 1e-4, 0.5, 20.0, 100.0, 720.0, 1000.0]
BELOW_0 = [-1000.0, -100.0, -20.0, -0.7, -0.69, -0.1, -1e-4, -1e-7]
NEAR_0 = [-1e-6, -1e-10, 1e-10, 1e-6, 0.25]


def with_slopes(formulas: Mapping[str, Formula]) -> dict[str, Formula]:
    """Each formula, its slope, and the slope of that."""

    def slope(formula: Formula) -> Formula:
        return lambda x: gx.grad(formula(x).sum(), x)

    first = {f"{name}, slope": slope(formula) for name, formula in formulas.items()}
    second = {f"{name}, second": slope(slope(formula)) for name, formula in formulas.items()}
    return {**formulas, **first, **second}


def check(formulas: Mapping[str, Formula], exact: Exact, slope: Exact, points: list[float], dtype: type) -> None:
    """All spellings have the exact values and slopes, natively and by the reference; second slopes are finite."""
    array = np.array(points, dtype)
    wide = array.astype(np.longdouble)
    rtol, atol, slope_atol = (4e-6, 1e-37, 1e-8) if dtype is np.float32 else (1e-13, 1e-300, 1e-16)
    with np.errstate(over="ignore"):
        wanted, slopes = (each(wide).astype(np.float64) for each in (exact, slope))
    for name, ways in run(with_slopes(formulas), array).items():
        for found in ways:
            if name.endswith("second"):
                assert np.isfinite(found).all(), name
            else:
                exactly, least = (slopes, slope_atol) if name.endswith("slope") else (wanted, atol)
                np.testing.assert_allclose(found, exactly, rtol, least, err_msg=name)


# -- exact values


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def log1mexp(x: Array) -> Array:
    return np.where(x > -0.7, np.log(-np.expm1(x)), np.log1p(-np.exp(x)))


def negative(exact: Exact) -> Exact:
    return lambda x: -exact(x)


def flipped(exact: Exact) -> Exact:
    return lambda x: exact(-x)


# -- one number at a time


@each_dtype
def test_softplus(dtype) -> None:
    formulas = {
        "log(1 + exp(x))": lambda x: gx.log(1 + gx.exp(x)),
        "log(exp(x) + 1)": lambda x: gx.log(gx.exp(x) + 1),
        "log1p(exp(x))": lambda x: gx.log1p(gx.exp(x)),
        "-log(1 - sigmoid(x))": lambda x: -gx.log(1 - gx.sigmoid(x)),
        "-log(1 - 1 / (1 + exp(-x)))": lambda x: -gx.log(1 - 1 / (1 + gx.exp(-x))),
        "log(exp(0 x) + exp(x))": lambda x: gx.log(gx.exp(0 * x) + gx.exp(x)),
    }
    check(formulas, softplus, sigmoid, WIDE, dtype)


@each_dtype
def test_log_of_the_logistic_function(dtype) -> None:
    formulas = {
        "log(1 / (1 + exp(-x)))": lambda x: gx.log(1 / (1 + gx.exp(-x))),
        "log(exp(x) / (1 + exp(x)))": lambda x: gx.log(gx.exp(x) / (1 + gx.exp(x))),
        "log(sigmoid(x))": lambda x: gx.log(gx.sigmoid(x)),
        "-log(1 + exp(-x))": lambda x: -gx.log(1 + gx.exp(-x)),
        "log of where": lambda x: gx.log(gx.where(x > 1, gx.sigmoid(x), gx.sigmoid(x))),
        "log of the square root": lambda x: 2 * gx.log(gx.sqrt(gx.sigmoid(x))),
        "log2": lambda x: gx.log2(gx.sigmoid(x)) * np.log(2),
    }
    check(formulas, negative(flipped(softplus)), flipped(sigmoid), WIDE, dtype)


@each_dtype
def test_logistic_function(dtype) -> None:
    formulas = {
        "1 / (1 + exp(-x))": lambda x: 1 / (1 + gx.exp(-x)),
        "exp(x) / (1 + exp(x))": lambda x: gx.exp(x) / (1 + gx.exp(x)),
        "power": lambda x: (1 + gx.exp(-x)) ** -1,
        "1 - 1 / (1 + exp(x))": lambda x: 1 - 1 / (1 + gx.exp(x)),
        "share of two": lambda x: gx.exp(3 * x) / (gx.exp(2 * x) + gx.exp(3 * x)),
        "share of two, halved": lambda x: gx.exp(x / 2) / (gx.exp(x / 2) + gx.exp(-x / 2)),
        "either way": lambda x: gx.where(x > 0, 1 / (1 + gx.exp(-x)), gx.exp(x) / (1 + gx.exp(x))),
    }
    points = [point for point in WIDE if abs(point) < 80 or abs(point) > 750]  # e^-100 is no normal number of f32
    check(formulas, sigmoid, lambda x: sigmoid(x) * sigmoid(-x), points, dtype)


@each_dtype
def test_hyperbolic_functions(dtype) -> None:
    tangents = {
        "powers": lambda x: (gx.exp(x) - gx.exp(-x)) / (gx.exp(x) + gx.exp(-x)),
        "double powers": lambda x: (gx.exp(2 * x) - 1) / (gx.exp(2 * x) + 1),
        "negative powers": lambda x: (1 - gx.exp(-2 * x)) / (1 + gx.exp(-2 * x)),
        "by sigmoid": lambda x: 2 * gx.sigmoid(2 * x) - 1,
        "by quotient": lambda x: 2 / (1 + gx.exp(-2 * x)) - 1,
    }
    points = [-1000.0, -3.0, -1e-4, 0.0, 1e-6, 2.0, 1000.0]
    check(tangents, np.tanh, lambda x: 4 * sigmoid(2 * x) * sigmoid(-2 * x), points, dtype)
    cosines = {
        "log(cosh(x))": lambda x: gx.log(gx.cosh(x)),
        "log of a mean": lambda x: gx.log((gx.exp(x) + gx.exp(-x)) / 2),
    }
    check(cosines, lambda x: np.abs(x) + np.log1p(np.exp(-2 * np.abs(x))) - np.log(2), np.tanh, [-1e3, -3, 90], dtype)


@each_dtype
def test_log_of_one_less_exp(dtype) -> None:
    """Both sides of -log 2, as in Mächler 2012."""
    formulas = {
        "log(1 - exp(x))": lambda x: gx.log(1 - gx.exp(x)),
        "log1p(-exp(x))": lambda x: gx.log1p(-gx.exp(x)),
        "log(-expm1(x))": lambda x: gx.log(-gx.expm1(x)),
    }
    points = BELOW_0[1:] if dtype is np.float32 else BELOW_0[2:]
    check(formulas, log1mexp, lambda x: -1 / np.expm1(-x), points, dtype)
    inverse = {
        "log(exp(x) - 1)": lambda x: gx.log(gx.exp(x) - 1),
        "log(expm1(x))": lambda x: gx.log(gx.expm1(x)),
    }
    check(inverse, lambda x: x + log1mexp(-x), lambda x: -1 / np.expm1(-x), [1e-5, 0.1, 3.0, 100.0, 1000.0], dtype)


@each_dtype
def test_digits_near_0(dtype) -> None:
    check({"exp": lambda x: gx.exp(x) - 1}, np.expm1, np.exp, NEAR_0, dtype)
    check({"exp": lambda x: 1 - gx.exp(-x)}, lambda x: -np.expm1(-x), flipped(np.exp), NEAR_0, dtype)
    check({"log": lambda x: gx.log(1 + x)}, np.log1p, lambda x: 1 / (1 + x), NEAR_0, dtype)
    check({"log": lambda x: gx.log(1 - x)}, flipped(np.log1p), lambda x: -1 / (1 - x), NEAR_0, dtype)


@each_dtype
def test_logarithms_undo_exponentials(dtype) -> None:
    formulas = {
        "log(exp(x))": lambda x: gx.log(gx.exp(x)),
        "of a product": lambda x: gx.log(gx.exp(x) * 3) - np.log(3),
        "of a quotient": lambda x: np.log(3) - gx.log(3 / gx.exp(x)),
        "of powers": lambda x: gx.log(gx.exp(2 * x) * gx.exp(-x)),
        "of a power": lambda x: 2 * gx.log(gx.exp(x) ** 0.5),
        "of a product of many": lambda x: gx.log(gx.prod(gx.exp(x)[:, None] * gx.ones(1, 50), 1)) / 50,
    }
    points = [-1000.0, -5.0, 2.0, 1000.0]
    array = np.array(points, dtype)
    for name, ways in run(with_slopes(formulas), array).items():
        wanted = 0 if "second" in name else 1 if "slope" in name else array
        for found in ways:
            np.testing.assert_allclose(found, np.broadcast_to(wanted, 4), rtol=1e-5 if dtype is np.float32 else 1e-12)


@each_dtype
def test_likelihoods(dtype) -> None:
    """Of labels 0.25, for the logistic function of x: written with powers, and as cross entropy."""

    def powers(x: gx.Tensor) -> gx.Tensor:
        p = 1 / (1 + gx.exp(-x))
        return -gx.log(p**0.25 * (1 - p) ** 0.75)

    def cross_entropy(x: gx.Tensor) -> gx.Tensor:
        p = 1 / (1 + gx.exp(-x))
        return -(0.25 * gx.log(p) + 0.75 * gx.log(1 - p))

    exact = lambda x: softplus(x) - 0.25 * x  # noqa: E731
    check({"powers": powers, "sum": cross_entropy}, exact, lambda x: sigmoid(x) - 0.25, [-1e3, -3.0, 3.0, 1e3], dtype)


@each_dtype
def test_nothing_to_the_power_0(dtype) -> None:
    """log(p**t) where p and t are 0."""
    formulas = {
        "value": lambda x, t: gx.log(gx.exp(x) ** t),
        "slope": lambda x, t: gx.grad(gx.log(gx.exp(x) ** t).sum(), x),
    }
    found = run(formulas, np.array([-np.inf, 0.5], dtype), np.array([0, 2], dtype))
    assert [each.tolist() for each in found["value"]] == [[0, 1], [0, 1]]
    assert [each.tolist() for each in found["slope"]] == [[0, 2], [0, 2]]


# -- choices and lengths


@each_dtype
def test_where_guards_slopes(dtype) -> None:
    """What is not chosen has the slope 0, whatever it is computed by, and whichever way the condition is written."""
    w, points = gx.where, np.array([-1000.0, -4.0, 0.0, 0.25, 4.0, 1000.0], dtype)
    above, x = points > 0, np.where(points > 0, points, 1).astype(np.float64)
    formulas: dict[str, tuple[Formula, Array, Array]] = {
        "sqrt": (lambda x: w(2 * x > 0, gx.sqrt(2 * x), 0), np.sqrt(2 * x), 1 / np.sqrt(2 * x)),
        "sqrt, other way": (lambda x: w(x <= 0, 0, gx.sqrt(x)), np.sqrt(x), 0.5 / np.sqrt(x)),
        "rsqrt": (lambda x: w(x > 0, gx.rsqrt(x), 0), x**-0.5, -0.5 * x**-1.5),
        "reciprocal": (lambda x: w(x > 0, gx.reciprocal(x), 0), 1 / x, -1 / x**2),
        "power": (lambda x: w(x > 0, x**0.3, 0), x**0.3, 0.3 * x**-0.7),
        "log": (lambda x: w(x > 0, 2 * gx.log(x) + 1, 0), 2 * np.log(x) + 1, 2 / x),
        "log2": (lambda x: w(x <= 0, 0, gx.log2(x)), np.log2(x), 1 / x / np.log(2)),
        "log10": (lambda x: w(gx.logical_not(x > 0), 0, gx.log10(x)), np.log10(x), 1 / x / np.log(10)),
        "entropy": (lambda x: w(x > 0, -x * gx.log(x), 0), -x * np.log(x), -np.log(x) - 1),
        "decay": (lambda x: w(x > 0, gx.exp(-1 / x), 0), np.exp(-1 / x), np.exp(-1 / x) / x**2),
        "overflow": (lambda x: w(x > 0, gx.exp(-x), 0) + w(x > 0, gx.exp2(-x), 0), np.exp(-x) + 2**-x,
                     -np.exp(-x) - np.log(2) * 2**-x),
        "in both": (lambda x: w(x > 0, w(x > 2, gx.sqrt(x), gx.log(x)), 0), np.where(x > 2, np.sqrt(x), np.log(x)),
                    np.where(x > 2, 0.5 / np.sqrt(x), 1 / x)),
        "two conditions": (lambda x: w(gx.logical_and(x > 0, x == x), gx.sqrt(x) / x, 0), x**-0.5, -0.5 * x**-1.5),
        "by hand": (lambda x: w(x > 0, gx.sqrt(w(x <= 0, 1, x)), 0), np.sqrt(x), 0.5 / np.sqrt(x)),
        "by hand, at 0": (lambda x: w(x > 0, gx.sqrt(w(x > 0, x, 0)), 0), np.sqrt(x), 0.5 / np.sqrt(x)),
    }  # fmt: skip
    for name, ways in run(with_slopes({name: formula for name, (formula, *_) in formulas.items()}), points).items():
        for found in ways:
            if name.endswith("second"):
                assert np.isfinite(found).all(), name
                continue
            _, value, slope = formulas[name.removesuffix(", slope")]
            wanted = np.where(above, slope if name.endswith("slope") else value, 0)
            np.testing.assert_allclose(
                found, wanted, rtol=4e-6 if dtype is np.float32 else 1e-13, atol=1e-37, err_msg=name
            )


@each_dtype
def test_branches_that_overflow(dtype) -> None:
    """The exponential linear unit, sin(x) / x, and functions that end at 1."""
    w, points = gx.where, np.array([-1000.0, -2.0, 0.0, 0.5, 3.0, 1000.0], dtype)
    x = points.astype(np.float64)
    inner, safe = np.abs(x) < 1, np.where(x == 0, 1, x)
    circle = np.sqrt(1 - np.where(inner, x, 0) ** 2)
    formulas: dict[str, tuple[Formula, Array, Array]] = {
        "elu": (lambda x: w(x > 0, x, gx.exp(x) - 1), np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
                np.where(x > 0, 1, np.exp(np.minimum(x, 0)))),
        "sinc": (lambda x: w(x == 0, 1, gx.sin(x) / x), np.where(x == 0, 1, np.sin(x) / safe),
                 np.where(x == 0, 0, np.cos(x) / safe - np.sin(x) / safe**2)),
        "asin": (lambda x: w(gx.abs(x) < 1, gx.asin(x), 0), np.where(inner, np.arcsin(np.where(inner, x, 0)), 0),
                 np.where(inner, 1 / circle, 0)),
        "acosh": (lambda x: w(x > 1, gx.acosh(x), 0), np.where(x > 1, np.arccosh(np.maximum(x, 1)), 0),
                  np.where(x > 1, 1 / np.sqrt(np.maximum(x, 2) ** 2 - 1), 0)),
    }  # fmt: skip
    for name, ways in run(with_slopes({name: formula for name, (formula, *_) in formulas.items()}), points).items():
        for found in ways:
            if name.endswith("second"):
                assert np.isfinite(found).all(), name
                continue
            wanted = formulas[name.removesuffix(", slope")][1 + name.endswith("slope")]
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7, err_msg=name)


@each_dtype
def test_lengths_and_spreads_at_0(dtype) -> None:
    """A length has slope 0 at 0, as torch.norm has; a spread of equal numbers too, where torch.std gives NaN."""
    functions: dict[str, Formula] = {
        "all": lambda x: gx.sqrt((x * x).sum()),
        "rows": lambda x: gx.sqrt((x**2).sum(1)),
        "kept": lambda x: gx.sqrt((x**2).sum(1, keepdims=True)),
        "power": lambda x: (x**2).sum(1) ** 0.5,
        "product": lambda x: gx.sqrt(x.reshape(-1) @ x.reshape(-1)),
        "two terms": lambda x: gx.sqrt(x[:, 0] ** 2 + x[:, 1] ** 2),
        "mean": lambda x: gx.sqrt((x * x).mean(1)),
        "spread": lambda x: gx.sqrt(((x - x.mean(1, keepdims=True)) ** 2).mean(1)),
        "variance": lambda x: gx.sqrt(x.var(1)),
        "size": lambda x: gx.sqrt(x * x),
    }
    x = np.array([[0, 0, 0], [3, 0, 4]], dtype)
    for name, ways in run(with_slopes(functions), x).items():
        for found in ways:
            assert np.isfinite(found).all(), name
            if "slope" in name and name.split(",")[0] not in ("all", "product"):
                np.testing.assert_array_equal(found[0], 0, err_msg=name)
    rows = run({"value": functions["rows"], "slope": lambda x: gx.grad(functions["rows"](x).sum(), x)}, x)
    for found in rows["value"]:
        np.testing.assert_allclose(found, [0, 5], rtol=1e-6)
    for found in rows["slope"]:
        np.testing.assert_allclose(found, [[0, 0, 0], [0.6, 0, 0.8]], rtol=1e-6)


@each_dtype
def test_a_number_over_itself(dtype) -> None:
    x = np.array([0.0, -3.0, 1e30, np.inf], dtype)
    for name, ways in run(with_slopes({"x / x": lambda x: x / x}), x).items():
        for found in ways:
            np.testing.assert_array_equal(found, np.zeros(4) if "," in name else np.ones(4))


# -- what stays as it is


def test_formulas_of_the_library_are_safe_as_they_are() -> None:
    """So none of them is told of as the user's."""
    x, y = gx.input("x", gx.f32[4, 3]), gx.input("y", gx.i64[4])
    f = gx.functional
    results = [f.cross_entropy(x, y), f.softmax(x, 1), f.log_softmax(x, 1), gx.logsumexp(x, 1), f.softplus(x), f.elu(x)]
    results += [
        f.binary_cross_entropy_with_logits(x, x),
        f.gelu(x),
        f.silu(x),
        gx.norm(x),
        x.std(1),
        f.mish(x),
    ]
    results += [gx.hypot(x, x + 1), gx.logaddexp(x, 2 * x), gx.xlogy(x, x), f.layer_norm(x, 3), f.selu(x), f.celu(x)]
    compiled = gx.function([x, y], results)
    assert compiled.explain() == "function: no formulas made safe"


def test_a_value_a_gradient_is_taken_by_is_not_looked_through() -> None:
    """d log(p) / dp is 1 / p, even where p is a softmax."""
    x = gx.input("x", gx.f32[2])
    p = gx.exp(x) / gx.exp(x).sum()
    slope = gx.function([x], gx.grad(gx.log(p).sum(), p))
    np.testing.assert_allclose(slope([0.0, np.log(3.0)]), [4, 4 / 3], rtol=1e-6)


def test_long_formulas_compile() -> None:
    """Chains of exponentials and choices: rules neither recurse without end nor multiply what they copy."""
    x = gx.input("x", gx.f32[3])
    chain, choice = gx.exp(x), x
    for _ in range(60):
        chain = chain * gx.exp(x) + 1
    for _ in range(40):
        choice = gx.where(choice > 0, gx.sqrt(choice) + 1, gx.exp(choice) * choice)
    compiled = gx.function([x], [gx.log(1 / chain), choice])
    assert len(list(compiled.stages["stabilise"].values())) < 2000
    assert np.isfinite(compiled([-1.0, -2.0, 0.5])[1]).all()

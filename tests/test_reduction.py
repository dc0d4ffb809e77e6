"""Reductions: NumPy's values over any axes and for all dtypes, also of nothing; corners, slopes, wrong axes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from calls import check_slopes, compare, run

import graphc as gx
from graphc import functional as F


def log_sum(x, axis=None, keepdims=False):
    return np.log(np.exp(x).sum(axis, keepdims=keepdims))


FLOATS = {
    "sum": (F.sum, np.sum),
    "mean": (F.mean, np.mean),
    "prod": (F.prod, np.prod),
    "max": (F.max, np.max),
    "min": (F.min, np.min),
    "amax": (F.amax, np.amax),
    "amin": (F.amin, np.amin),
    "any": (F.any, np.any),
    "all": (F.all, np.all),
    "count_nonzero": (F.count_nonzero, np.count_nonzero),
    "var": (lambda x, **over: F.var(x, ddof=0, **over), np.var),
    "var of a sample": (F.var, lambda x, **over: np.var(x, ddof=1, **over)),
    "std": (lambda x, **over: F.std(x, unbiased=False, **over), np.std),
    "std of a sample": (lambda x, **over: F.std(x, correction=1, **over), lambda x, **over: np.std(x, ddof=1, **over)),
    "logsumexp": (F.logsumexp, log_sum),
    "norm": (F.norm, lambda x, **over: np.sqrt(np.sum(x * x, **over))),
    "norm 1": (lambda x, **over: F.norm(x, 1, **over), lambda x, **over: np.sum(np.abs(x), **over)),
    "norm 0": (lambda x, **over: F.norm(x, p=0, **over), lambda x, **over: np.sum(x != 0, **over)),
    "norm inf": (lambda x, **over: F.norm(x, math.inf, **over), lambda x, **over: np.max(np.abs(x), **over)),
    "norm -inf": (lambda x, **over: F.norm(x, -math.inf, **over), lambda x, **over: np.min(np.abs(x), **over)),
    "norm 3": (lambda x, **over: F.norm(x, 3, **over), lambda x, **over: np.sum(np.abs(x) ** 3, **over) ** (1 / 3)),
}
INTEGERS = ("sum", "mean", "prod", "max", "min", "any", "all", "count_nonzero", "var", "norm 1")
AXES = (None, 0, 1, -1, (0, 2), (-1, 0), (0, 1, 2), ())


def over(function, axis, keepdims, torch=False):
    """The function over axes, in NumPy's or PyTorch's words."""
    words = {"dim": axis, "keepdim": keepdims} if torch else {"axis": axis, "keepdims": keepdims}
    return lambda x: function(x, **words)


def everywhere(names, torch=False):
    return {
        f"{name} over {axis}, {keepdims}": (
            over(FLOATS[name][0], axis, keepdims, torch),
            over(FLOATS[name][1], axis, keepdims),
        )
        for name in names
        for axis in AXES
        for keepdims in ((False, True) if axis in (1, (0, 2)) else (False,))
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_numpys_over_any_axes(dtype, rng):
    array = rng.uniform(-2, 2, (3, 4, 18)).astype(dtype)
    array[0, 1, :5] = 0
    compare(everywhere(FLOATS, torch=dtype is np.float64), array)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_])
def test_values_of_integers_are_numpys(dtype, rng):
    array = rng.integers(0, 2 if dtype is np.bool_ else 4, (3, 4, 5)).astype(dtype)
    array[1] = 0
    compare(everywhere(INTEGERS), array, rtol=1e-6)
    results = run({name: FLOATS[name][0] for name in INTEGERS}, array)
    kinds = {name: native.dtype for name, (native, _) in results.items()}
    assert kinds["sum"] == kinds["prod"] == kinds["count_nonzero"] == np.int64
    assert kinds["max"] == kinds["min"] == dtype and kinds["any"] == kinds["all"] == np.bool_
    assert kinds["mean"] == kinds["var"] == kinds["norm 1"] == np.float32


@pytest.mark.parametrize("shape", [(1,), (1, 1), (5, 1), (1, 17), (16, 16), (40,), ()], ids=str)
def test_shapes_of_one_element_and_more(shape, rng):
    array = rng.uniform(0.5, 2, shape).astype(np.float32)
    names = [name for name in FLOATS if "sample" not in name]
    compare({name: FLOATS[name] for name in names}, array)
    if shape:
        compare({name: (over(FLOATS[name][0], 0, True), over(FLOATS[name][1], 0, True)) for name in names}, array)
    one = {
        "var": (F.var, lambda x: np.asarray(x * np.nan).sum()),
        "std": (F.std, lambda x: np.asarray(x * np.nan).sum()),
    }
    if math.prod(shape) == 1:
        compare(one, array)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)], ids=str)
def test_reductions_of_nothing(shape):
    array = np.zeros(shape, np.float32)
    names = ("sum", "prod", "any", "all", "count_nonzero", "norm", "norm 1", "norm 0")
    compare({name: FLOATS[name] for name in names}, array)
    compare({name: (over(FLOATS[name][0], 0, False), over(FLOATS[name][1], 0, False)) for name in names}, array)
    last = (lambda x: (x + 1).sum(-1),) * 2
    compare({"mean": FLOATS["mean"], "var": FLOATS["var"], "sum of what is left": last}, array)
    empty = gx.input("x", gx.f32[shape])
    for function in (F.max, F.amin, F.argmax, F.argmin, F.softmax, F.logsumexp):
        if function is F.softmax and shape[-1]:
            continue
        with pytest.raises(gx.ShapeError, match="over no elements"):
            function(empty)


def test_symbolic_rows_and_transposed_operands(rng):
    functions = {name: pair for name, pair in everywhere(FLOATS).items() if "(0, 1, 2)" not in name}
    flat = {
        f"{name} {axis}": (over(FLOATS[name][0], axis, False), over(FLOATS[name][1], axis, False))
        for name in FLOATS if "sample" not in name for axis in (None, 0, 1)
    }  # fmt: skip
    for rows in (1, 9, 33):
        compare(flat, rng.uniform(0.5, 2, (rows, 6)).astype(np.float32), types=[gx.f32["batch", 6]])
    samples = {
        name: pair for name, pair in everywhere(["var of a sample", "std of a sample"]).items() if "(0, 2)" in name
    }
    compare(samples, rng.uniform(0.5, 2, (3, 4, 6)).astype(np.float32), types=[gx.f32["batch", 4, 6]])
    turned = {
        name: (lambda x, f=a: f(x.permute(2, 0, 1)), lambda x, f=b: f(x.transpose(2, 0, 1)))
        for name, (a, b) in functions.items()
    }
    compare(turned, np.asfortranarray(rng.uniform(0.5, 2, (3, 4, 5))))


def test_slopes_are_differences(rng):
    array = rng.uniform(0.5, 2, (2, 3))
    chosen = [name for name in FLOATS if name not in ("any", "all", "count_nonzero", "norm 0")]
    check_slopes({f"{name} {axis}": over(FLOATS[name][0], axis, False) for name in chosen for axis in (None, 1)}, array)
    check_slopes({"softmax": F.softmax, "log_softmax": lambda x: F.log_softmax(x, 0)}, array)


def test_dtype_of_the_result():
    array = np.array([[1, 2], [3, 250]], np.uint8)
    compare(
        {
            "sum": (lambda x: F.sum(x, dtype=gx.f32), lambda x: x.sum(dtype=np.float32)),
            "prod": (lambda x: F.prod(x, 1, dtype=gx.f64), lambda x: x.prod(1, dtype=np.float64)),
            "mean": (lambda x: F.mean(x, dtype="float64"), lambda x: x.mean()),
            "narrow": (lambda x: F.sum(x, dtype=gx.u8), lambda x: x.sum(dtype=np.uint8)),
            "softmax": (lambda x: F.softmax(x * 0, 1, dtype=gx.f64), lambda x: x * 0 + 0.5),
        },
        array,
    )


def test_places_of_extremes(rng):
    array = rng.integers(0, 4, (5, 7, 3)).astype(np.float32)
    array[2, 3, 1] = np.nan
    functions = {
        f"{name} {axis} {keepdims}": (over(getattr(F, name), axis, keepdims), over(getattr(np, name), axis, keepdims))
        for name in ("argmax", "argmin") for axis in (None, 0, 1, -1) for keepdims in (False, True)
    }  # fmt: skip
    compare(functions, array)
    compare(functions, array > 1)
    compare({name: functions[name] for name in functions if "None" not in name}, array, types=[gx.f32["batch", 7, 3]])
    assert F.argmax(gx.input("x", gx.f32["batch", 3])).type == gx.i64[()]


def test_not_a_number_goes_through():
    array = np.array([np.nan, 1, np.inf], np.float32)
    results = run(
        {name: FLOATS[name][0] for name in FLOATS if name not in ("any", "all", "count_nonzero", "norm 0")}, array
    )
    assert all(np.isnan(each).all() for ways in results.values() for each in ways)


def test_logsumexp_and_softmax_of_extreme_numbers():
    array = np.array([[1000, 999, -1000], [-3e38, -3e38, -3e38], [-np.inf, -np.inf, 2]], np.float32)
    found = run({"softmax": F.softmax, "logs": F.log_softmax, "total": lambda x: F.logsumexp(x, 1)}, array)
    near = 1 / (1 + math.exp(-1))
    for way in (0, 1):
        np.testing.assert_allclose(found["softmax"][way], [[near, 1 - near, 0], [1 / 3] * 3, [0, 0, 1]], rtol=1e-6)
        logs = [math.log(near), math.log(near) - 1, -2000 + math.log(near)]
        np.testing.assert_allclose(found["logs"][way][0], logs, rtol=1e-6)
        np.testing.assert_allclose(found["total"][way], [1000 - math.log(near), -3e38, 2], rtol=1e-6)
    nothing = np.array([[-np.inf, -np.inf], [-np.inf, 2]], np.float32)
    total = {"slope": lambda x: gx.grad(F.where(F.logsumexp(x, 1) < -1, 0.0, F.logsumexp(x, 1)).sum(), x)}
    assert run(total, nothing)["slope"][0].tolist() == [[0, 0], [0, 1]]


WRONG_AXES = {
    "axis 2 is outside of a tensor with 2 axes": 2,
    "axis -3 is outside": (0, -3),
    "name one twice": (1, -1),
    "an axis is a whole number, not 1.0": 1.0,
    "not 'rows'": "rows",
}


@pytest.mark.parametrize("message", WRONG_AXES)
def test_wrong_axes(message):
    x = gx.input("x", gx.f32[3, 4])
    for function in (F.sum, F.max, F.mean, F.var, F.norm, F.logsumexp, F.any):
        with pytest.raises(gx.ShapeError, match=message) as caught:
            function(x, axis=WRONG_AXES[message])
        assert "test_reduction.py" in str(caught.value)


def test_wrong_settings():
    with pytest.raises(ValueError, match="p is 'nuc'"):
        F.norm(gx.input("x", gx.f32[3]), "nuc")
    with pytest.raises(gx.ShapeError, match=r"an axis is a whole number, not \(0, 1\)"):
        F.argmax(gx.input("x", gx.f32[3, 4]), (0, 1))
    with pytest.raises(gx.ShapeError, match="an axis is a whole number"):
        F.max(gx.input("x", gx.f32[3]), gx.input("y", gx.f32[3]))

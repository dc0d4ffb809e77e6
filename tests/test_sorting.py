"""Sorting, ranks and running totals: NumPy's values for every dtype, NaN, differences, symbolic axes, errors."""

from __future__ import annotations

import numpy as np
import pytest
from calls import DTYPES, check_slopes, compare, run
from refusals import check_refusal

import graphc as gx
from graphc.errors import ShapeError

T = gx.dim("T", max=9)


def both(text):
    """A call of functions that graphc and NumPy have under one name."""
    return tuple((lambda *given, m=module: eval(text, {"f": m, **dict(zip("ab", given))})) for module in (gx, np))


def from_largest(a, axis):
    """NumPy's stable order from the largest number down."""
    last = a.shape[axis] - 1
    return np.flip(last - np.argsort(np.flip(a, axis), axis, kind="stable"), axis)


ORDERS = {
    "sort": (lambda a: gx.sort(a).values, np.sort),
    "sort axis": (lambda a: a.sort(axis=0)[0], lambda a: np.sort(a, 0)),
    "argsort": (lambda a: gx.argsort(a, dim=-1), lambda a: np.argsort(a, -1, kind="stable")),
    "indices": (lambda a: gx.sort(a, 0).indices, lambda a: np.argsort(a, 0, kind="stable")),
    "descending": (lambda a: gx.sort(a, descending=True).values, lambda a: np.flip(np.sort(a), -1)),
    "descending order": (lambda a: a.argsort(1, descending=True), lambda a: from_largest(a, 1)),
    "topk": (lambda a: a.topk(2).values, lambda a: np.flip(np.sort(a), -1)[..., :2]),
    "topk indices": (lambda a: gx.topk(a, 3, axis=0).indices, lambda a: from_largest(a, 0)[:3]),
    "smallest": (lambda a: gx.topk(a, 1, dim=1, largest=False)[0], lambda a: np.sort(a, 1)[:, :1]),
    "no top": (lambda a: gx.topk(a, 0).values, lambda a: a[:, :0]),
    "of a view": (lambda a: gx.sort(a.T[::-1], 0).values, lambda a: np.sort(a.T[::-1], 0)),
}
LINES = {
    text: both(text)
    for text in (
        "f.cumsum(a, axis=1)", "f.cumsum(a, 0)", "f.cumsum(a)", "f.cumprod(a, axis=0)", "f.cumprod(a, 1)",
        "f.cumprod(a)", "f.diff(a)", "f.diff(a, axis=0)", "f.diff(a, n=2)", "f.diff(a, n=0)", "f.diff(a, 9)",
        "f.cumsum(a.T, axis=0)[::-1]", "f.cumsum(a, axis=0, dtype='float64')",
    )
}  # fmt: skip
RANKS = {
    text: both(text)
    for text in (
        "f.quantile(a, 0.5)", "f.quantile(a, 0.25, axis=0)", "f.quantile(a, 1, axis=1)", "f.quantile(a, 0.0, axis=-1)",
        "f.quantile(a, 0.3, axis=1, keepdims=True)", "f.quantile(a, 0.3, keepdims=True)",
        "f.quantile(a, [0.1, 0.5, 0.9], axis=1)", "f.quantile(a.T, (0.7,), axis=0)",
    )
}  # fmt: skip
METHODS = ("lower", "higher", "midpoint", "nearest")
RANKS |= {
    method: (
        lambda a, m=method: gx.quantile(a, 0.37, dim=1, interpolation=m),
        lambda a, m=method: np.quantile(a, 0.37, axis=1, method=m),
    )
    for method in METHODS
}
RANKS["NumPy's median"] = (lambda a: gx.quantile(a, 0.5, axis=1), lambda a: np.median(a, 1))


def lower_median(a, axis):
    ordered = np.sort(a, axis)
    return np.take(ordered, (a.shape[axis] - 1) // 2, axis)


MEDIANS = {
    "median": (gx.median, lambda a: lower_median(a.ravel(), 0)),
    "median axis": (lambda a: gx.median(a, 1).values, lambda a: lower_median(a, 1)),
    "median dim": (lambda a: a.median(dim=0, keepdim=True).values, lambda a: lower_median(a, 0)[None]),
    "its place": (
        lambda a: gx.take_along_axis(a, gx.median(a, 1, keepdims=True).indices, 1),
        lambda a: lower_median(a, 1)[:, None],
    ),
    "keepdims": (lambda a: gx.median(a, keepdims=True), lambda a: lower_median(a.ravel(), 0).reshape(1, 1)),
}


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype.kind != "b"], ids=str)
def test_orders_are_numpys(dtype, rng):
    compare(ORDERS | MEDIANS, rng.integers(0, 6, (4, 7)).astype(dtype))


def test_orders_of_one_and_nothing(rng):
    one = {name: pair for name, pair in ORDERS.items() if name != "topk"}
    compare(one | MEDIANS, rng.normal(size=(3, 1)))
    compare({name: ORDERS[name] for name in ("sort", "argsort", "sort axis", "no top")}, np.ones((2, 0), np.float32))


def test_bools_are_sorted(rng):
    names = ("sort", "argsort", "descending", "topk indices")
    compare({name: ORDERS[name] for name in names}, rng.integers(0, 2, (4, 7)).astype(bool))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_running_totals_are_numpys(dtype, rng):
    compare(LINES, rng.integers(0, 2 if dtype.kind == "b" else 4, (4, 7)).astype(dtype))


def test_running_totals_of_one_and_nothing():
    some = {name: pair for name, pair in LINES.items() if "diff" not in name}
    for shape in ((1, 1), (0, 3), (3, 0)):
        compare(some, np.ones(shape, np.float32))
    compare({"f.diff(a, 9)": LINES["f.diff(a, 9)"]}, np.ones((2, 0), np.float32))


def test_quantiles_are_numpys(rng):
    for array in (rng.normal(size=(5, 8)), rng.normal(size=(4, 1)), rng.integers(0, 9, (3, 7))):
        compare(RANKS, array.astype(np.float64))
    compare({"f32": both("f.quantile(a, 0.3, axis=0)")}, rng.normal(size=(5, 8)).astype(np.float32))


def test_not_a_number_is_the_largest():
    a = np.array([[1, np.nan, 3], [np.inf, -np.inf, 0], [np.nan, 1, np.nan]])
    compare(ORDERS, a)
    functions = {"quantile": lambda a: gx.quantile(a, 0.5, 1), "median": lambda a: gx.median(a, 1).values}
    for ways in run(functions, a).values():
        for found in ways:
            np.testing.assert_array_equal(found, [np.nan, 0, np.nan])


def test_infinite_quantiles():
    ways = run({"q": lambda a: gx.quantile(a, [0.0, 0.5, 1.0])}, np.array([np.inf, np.inf, -np.inf, np.inf]))["q"]
    np.testing.assert_array_equal(ways, [[-np.inf, np.inf, np.inf]] * 2)


def test_slopes(rng):
    spread = rng.permutation(np.linspace(-2, 2, 12)).reshape(3, 4)
    skipped = ("argsort", "indices", "order", "no top", "f.diff(a, 9)")
    functions = {
        name: ours
        for name, (ours, _) in (ORDERS | LINES | RANKS | MEDIANS).items()
        if not any(word in name for word in skipped)
    }
    check_slopes(functions, spread)


def test_slopes_of_products_with_zeros():
    zeros = np.array([[1.5, 0.0, 2.0, 0.0, 3.0], [0.0, 0.0, 1.0, -1.0, 2.0]])
    check_slopes({"cumprod": lambda a: gx.cumprod(a, 1), "second": lambda a: gx.cumprod(a * a, 0)}, zeros)


@pytest.mark.parametrize("size", [2, 9])
def test_symbolic_axis(size, rng):
    skipped = ("descending order", "topk indices", "f.diff(a, 9)", "f.diff(a, n=2)")
    functions = {name: pair for name, pair in (ORDERS | LINES | RANKS | MEDIANS).items() if name not in skipped}
    array = rng.normal(size=(size, 4))
    compare(functions, array, types=[gx.f64[T, 4]])


def test_too_few_for_topk():
    x = gx.input("x", gx.f32[T])
    f = gx.function([x], gx.topk(x, 3).values)
    assert f(np.array([1, 3, 2], np.float32)).tolist() == [3, 2, 1]
    with pytest.raises(ShapeError, match="T=2, too little"):
        f(np.ones(2, np.float32))


SEARCHES = {
    "left": (gx.searchsorted, np.searchsorted),
    "right": (lambda a, b: gx.searchsorted(a, b, right=True), lambda a, b: np.searchsorted(a, b, side="right")),
    "side": (lambda a, b: gx.searchsorted(a, b, side="right"), lambda a, b: np.searchsorted(a, b, side="right")),
    "rows": (
        lambda a, b: gx.searchsorted(gx.stack([a, a * 2]), b),
        lambda a, b: np.stack([np.searchsorted(a * n, row) for n, row in enumerate(b, 1)]),
    ),
}


@pytest.mark.parametrize("dtype", [np.float32, np.int64], ids=str)
def test_searchsorted_is_numpys(dtype, rng):
    values = rng.integers(-1, 8, (2, 6)).astype(dtype)
    compare(SEARCHES, np.array([0, 1, 1, 2, 5, 7]).astype(dtype), values)
    compare({"none": SEARCHES["left"]}, np.array([], dtype), values)


X = gx.input("x", gx.f32[5, 4])
WRONG = [
    (lambda: gx.sort(X, 2), ShapeError, "axis 2 is outside"),
    (lambda: gx.argsort(X, dim=-3), ShapeError, "axis -3 is outside"),
    (lambda: gx.topk(X, 5), ShapeError, "has no 5 places"),
    (lambda: gx.topk(X, -1), ShapeError, "k is -1"),
    (lambda: gx.topk(X, 1.0), ShapeError, "k is 1.0"),
    (lambda: gx.cumsum(X, 2), ShapeError, "axis 2 is outside"),
    (lambda: gx.cumprod(X, (0, 1)), ShapeError, "a whole number"),
    (lambda: gx.diff(X, -1), ValueError, "n is -1"),
    (lambda: gx.median(X[:0]), ShapeError, "median of f32[0] over no elements"),
    (lambda: gx.quantile(X[:0], 0.5, 0), ShapeError, "quantile of f32[0,4] over no elements"),
    (lambda: gx.quantile(X, 1.5), ValueError, "q is 1.5; it must be a number from 0 to 1"),
    (lambda: gx.quantile(X, X[0, 0]), ValueError, "q is Tensor(f32[]); it must be a number"),
    (lambda: gx.quantile(X, 0.5, interpolation="cubic"), ValueError, "interpolation is 'cubic'; it must be one of"),
    (lambda: gx.searchsorted(X, X[:3]), ShapeError, "searchsorted of f32[5,4] and f32[3,4]: they do not fit"),
    (lambda: gx.searchsorted(X[0, 0], X), ShapeError, "they do not fit"),
    (lambda: gx.searchsorted(X[0], X, side="up"), ValueError, "side is 'up'"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments(number):
    wrong, kind, words = WRONG[number]
    check_refusal(wrong, words, kind=kind)

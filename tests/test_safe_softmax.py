"""Softmax and cross entropy as people write them, with logits of 1e4: finite and right, and so are their slopes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from calls import Array, run

import graphc as gx

DTYPES = [np.float32, np.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
Formula = Callable[..., gx.Tensor]

LOGITS = np.array([[0, 1e4, -1e4], [1e4, 1e4, 0], [3, -2, 1], [-1e4, -1e4, -1e4 + 1]])
LABELS = np.array([0, 2, 1, 0])


def log_softmax(z: Array) -> Array:
    rest = z - z.max(1, keepdims=True)
    return rest - np.log(np.exp(rest).sum(1, keepdims=True))


def shares(z: gx.Tensor) -> gx.Tensor:
    return gx.exp(z) / gx.exp(z).sum(1, keepdims=True)


def shares_of_columns(z: gx.Tensor) -> gx.Tensor:
    powers = gx.exp(z.T)
    return (powers / powers.sum(0)).T


def shares_turned(z: gx.Tensor) -> gx.Tensor:
    powers = gx.exp(z)
    return (powers.T / powers.sum(1)).T


def shares_less_largest(z: gx.Tensor) -> gx.Tensor:
    """Of all rows: not enough where another row is far above."""
    powers = gx.exp(z - z.max())
    return powers / powers.sum(1, keepdims=True)


SOFTMAXES = {
    "kept axis": shares,
    "axis put back": lambda z: gx.exp(z) / gx.exp(z).sum(1)[:, None],
    "columns": shares_of_columns,
    "turned": shares_turned,
    "less the largest": shares_less_largest,
    "times the reciprocal": lambda z: gx.exp(z) * (1 / gx.exp(z).sum(1, keepdims=True)),
    "gx.softmax": lambda z: gx.softmax(z, 1),
}


def rows(y: gx.Tensor) -> gx.Tensor:
    return gx.arange(y.shape[0])


def is_label(y: gx.Tensor) -> gx.Tensor:
    return y[:, None] == gx.arange(3)


SELECTIONS = {
    "indexed": lambda p, y: -gx.log(p[rows(y), y]).mean(),
    "indexed later": lambda p, y: -gx.log(p)[rows(y), y].mean(),
    "gathered": lambda p, y: -gx.log(gx.gather(p, 1, y.reshape(-1, 1))).mean(),
    "taken along": lambda p, y: -gx.log(gx.take_along_axis(p, y[:, None], 1)[:, 0]).mean(),
    "one hot": lambda p, y: -gx.log((p * gx.one_hot(y, 3)).sum(1)).mean(),
    "one hot, as floats": lambda p, y: -gx.log((p * gx.one_hot(y, 3).float()).sum(1)).mean(),
    "one hot, outside": lambda p, y: -(gx.one_hot(y, 3) * gx.log(p)).sum(1).mean(),
    "rows of the identity": lambda p, y: -gx.log((p * gx.eye(3)[y]).sum(1)).mean(),
    "masked": lambda p, y: -gx.log((p * is_label(y).float()).sum(1)).mean(),
    "chosen": lambda p, y: -gx.log(gx.where(is_label(y), p, 0).sum(1)).mean(),
    "others one": lambda p, y: -gx.log(gx.where(is_label(y), p, 1)).sum() / 4,
    "likelihood": lambda p, y: -gx.log(gx.prod(p[rows(y), y])) / 4,
    "powers": lambda p, y: -gx.log(gx.prod(p ** gx.one_hot(y, 3), 1)).mean(),
    "surprise": lambda p, y: gx.log(1 / p[rows(y), y]).mean(),
    "in bits": lambda p, y: -gx.log2(p[rows(y), y]).mean() * np.log(2),
}
PAIRS = [("kept axis", selection) for selection in SELECTIONS] + [
    (softmax, "indexed") for softmax in list(SOFTMAXES)[1:]
]


@each_dtype
def test_cross_entropy_from_scratch(dtype) -> None:
    """Logits of 1e4: every way to write softmax, and every way to take the probability of the label."""

    def loss(pair: tuple[str, str]) -> Formula:
        softmax, selection = pair
        return lambda z, y: SELECTIONS[selection](SOFTMAXES[softmax](z), y)

    def slope(pair: tuple[str, str]) -> Formula:
        return lambda z, y: gx.grad(loss(pair)(z, y), z)

    functions = {str(pair): loss(pair) for pair in PAIRS} | {f"{pair} slope": slope(pair) for pair in PAIRS}
    logs = log_softmax(LOGITS)
    wanted, slopes = -logs[np.arange(4), LABELS].mean(), (np.exp(logs) - np.eye(3)[LABELS]) / 4
    types = [gx.f32["n", 3] if dtype is np.float32 else gx.f64["n", 3], gx.i64["n"]]
    close = {"rtol": 1e-5, "atol": 1e-7} if dtype is np.float32 else {"rtol": 1e-11, "atol": 1e-13}
    for name, ways in run(functions, LOGITS.astype(dtype), LABELS, types=types).items():
        for found in ways:
            np.testing.assert_allclose(found, slopes if "slope" in name else wanted, **close, err_msg=name)


@each_dtype
def test_selections_where_no_gradient_is_taken(dtype) -> None:
    """Under no_grad every value is stopped by itself, which must not hide the formula."""

    def stopped(name: str) -> Formula:
        def formula(z: gx.Tensor, y: gx.Tensor) -> gx.Tensor:
            with gx.no_grad():
                return SELECTIONS[name](shares(z), y)

        return formula

    wanted = -log_softmax(LOGITS)[np.arange(4), LABELS].mean()
    for name, ways in run({name: stopped(name) for name in SELECTIONS}, LOGITS.astype(dtype), LABELS).items():
        for found in ways:
            np.testing.assert_allclose(found, wanted, rtol=1e-5, err_msg=name)


@each_dtype
def test_softmax_with_weights_and_masks(dtype) -> None:
    z = np.array([[-2000.0, 0, 2000, 1000], [-5, 3000, 1, 2]], dtype)
    mask = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], bool)
    weight = np.array([[0.5, 2, 0, 0], [1, 0, 0.25, 0]], dtype)

    def masked(z: gx.Tensor, m: gx.Tensor, w: gx.Tensor) -> gx.Tensor:
        powers = gx.exp(z) * m.to(z.dtype)
        return powers / powers.sum(1, keepdims=True)

    def chosen(z: gx.Tensor, m: gx.Tensor, w: gx.Tensor) -> gx.Tensor:
        powers = gx.where(m, gx.exp(z), 0)
        return powers / powers.sum(1, keepdims=True)

    def weighted(z: gx.Tensor, m: gx.Tensor, w: gx.Tensor) -> gx.Tensor:
        return gx.exp(z) * w / (gx.exp(z) * w).sum(1, keepdims=True)

    def log_of_weighted_sum(z: gx.Tensor, m: gx.Tensor, w: gx.Tensor) -> gx.Tensor:
        return gx.log((gx.exp(z) * w).sum(1))

    def slope(formula: Formula) -> Formula:
        return lambda z, m, w: gx.grad(formula(z, m, w).sum(), z)

    functions = {"masked": masked, "chosen": chosen, "weighted": weighted, "log": log_of_weighted_sum}
    found = run(functions | {f"{name} slope": slope(each) for name, each in functions.items()}, z, mask, weight)
    wide, share = z.astype(np.float64), 1 / (1 + np.exp(6.0))
    plain = [[0, 1, 0, 0], [share, 0, 1 - share, 0]]
    heavy = np.exp(-5.0) / (np.exp(-5.0) + 0.25 * np.e)
    parts = [[0, 1, 0, 0], [heavy, 0, 1 - heavy, 0]]
    logs = [wide[0, 1] + np.log(2), np.log(np.exp(-5.0) + 0.25 * np.e)]
    wanted = {"masked": plain, "chosen": plain, "weighted": parts, "log": logs, "log slope": parts}
    for name, ways in found.items():
        for each in ways:
            np.testing.assert_allclose(each, wanted.get(name, np.zeros((2, 4))), rtol=1e-5, atol=1e-6, err_msg=name)


@each_dtype
def test_log_of_sums_of_exponentials(dtype) -> None:
    """Over any axes, through reshapes, and of terms added one by one."""
    x = np.array([[[1000.0, 1001], [999, 998]], [[-1000, -1001], [-999, -1002]]], dtype)
    functions = {
        "all": lambda x: gx.log(gx.exp(x).sum()),
        "two axes": lambda x: gx.log(gx.exp(x).sum((0, 2))),
        "kept": lambda x: gx.log(gx.exp(x).sum((1, 2), keepdims=True)),
        "reshaped": lambda x: gx.log(gx.exp(x).reshape(2, 4).sum(1)),
        "mean": lambda x: gx.log(gx.exp(x).mean((1, 2))) + np.log(4),
        "turned": lambda x: gx.log(gx.exp(x).transpose(2, 0, 1).sum((0, 2))),
        "terms": lambda x: gx.log(gx.exp(x[:, 0, 0]) + gx.exp(x[:, 0, 1]) + gx.exp(x[:, 1, 0]) + gx.exp(x[:, 1, 1])),
        "one more": lambda x: gx.log(1 + gx.exp(x).sum((1, 2))),
    }
    slopes = {f"{name} slope": lambda x, f=f: gx.grad(f(x).sum(), x) for name, f in functions.items()}
    wide = x.astype(np.longdouble)
    each = np.log(np.exp(wide).sum((1, 2)))
    share = np.exp(wide - each[:, None, None])
    upper = np.exp(wide) / np.exp(wide).sum((0, 2), keepdims=True)
    wanted = dict.fromkeys(("reshaped", "mean", "turned", "terms"), each)
    wanted |= {f"{name} slope": share for name in (*wanted, "kept")} | {"kept": each[:, None, None]}
    wanted |= {"all": each[0], "all slope": share * [[[1]], [[0]]], "two axes": np.log(np.exp(wide).sum((0, 2)))}
    wanted |= {"two axes slope": upper, "one more": [each[0], 0], "one more slope": share * [[[1]], [[0]]]}
    for name, ways in run({**functions, **slopes}, x).items():
        for found in ways:
            exactly = np.asarray(wanted[name], np.float64)
            close = 5e-5 if dtype is np.float32 else 1e-12  # f32 at 1000 has steps of 6e-5
            np.testing.assert_allclose(found, exactly, rtol=close, atol=1e-7, err_msg=name)

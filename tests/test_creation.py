"""Constants, ramps, patterns and diagonals, as NumPy makes them; PyTorch's names; wrong shapes."""

from __future__ import annotations

import numpy as np
import pytest
from calls import check_slopes, compare, run
from refusals import check_refusal

import graphc as gx
from graphc import functional as F

ROWS = np.zeros((2, 3), np.float32)


def made(**functions):
    """Each function of nothing natively and by the reference: equal to NumPy's, also in dtype."""
    found = run({name: lambda x, f=pair[0]: f() for name, pair in functions.items()}, ROWS)
    for name, ways in found.items():
        wanted = np.asarray(functions[name][1]())
        for result in ways:
            assert result.dtype == wanted.dtype, name
            np.testing.assert_allclose(result, wanted, rtol=1e-6 if wanted.dtype == np.float32 else 1e-14, err_msg=name)


def test_constants():
    made(
        zeros=(lambda: F.zeros(2, 3), lambda: np.zeros((2, 3), np.float32)),
        ones=(lambda: F.ones((2,), dtype=gx.i64), lambda: np.ones(2, np.int64)),
        empty=(lambda: F.empty(2, 0), lambda: np.zeros((2, 0), np.float32)),
        whole=(lambda: F.full((2, 2), 7), lambda: np.full((2, 2), 7)),
        real=(lambda: F.full(3, 0.5, np.float64), lambda: np.full(3, 0.5)),
        truth=(lambda: F.full((), True), lambda: np.asarray(True)),
        row=(lambda: F.full((2, 3), np.arange(3)), lambda: np.full((2, 3), np.arange(3))),
    )


def test_constants_like_another():
    alike = {
        "ones": (lambda x: F.ones_like(x) + x, lambda x: np.ones_like(x)),
        "zeros": (lambda x: F.zeros_like(x, dtype=gx.i64), np.zeros_like),
        "empty": (lambda x: F.empty_like(x) * x, np.zeros_like),
        "full": (lambda x: F.full_like(x, 2.5) + x, lambda x: np.full_like(x, 2.5)),
        "sized": (lambda x: F.zeros(x.shape[0]) + x.sum(1), lambda x: x.sum(1)),
        "counted": (lambda x: F.arange(x.shape[0]) + x.sum(1), lambda x: np.arange(len(x)) + x.sum(1)),
    }
    compare(alike, ROWS, types=[gx.f32["batch", 3]])
    assert F.zeros_like(gx.input("n", gx.i64[3])).dtype.name == "i64"


def test_ramps():
    made(
        count=(lambda: F.arange(4), lambda: np.arange(4)),
        floats=(lambda: F.arange(4, dtype=gx.f32), lambda: np.arange(4, dtype=np.float32)),
        steps=(lambda: F.arange(2, 11, 3), lambda: np.arange(2, 11, 3)),
        down=(lambda: F.arange(5, 0, -2), lambda: np.arange(5, 0, -2)),
        nothing=(lambda: F.arange(3, 1), lambda: np.arange(3, 1)),
        quarters=(lambda: F.arange(0.0, 1.0, 0.25), lambda: np.arange(0.0, 1.0, 0.25, np.float32)),
        tenths=(lambda: F.arange(0, 1, 0.1), lambda: np.arange(0, 1, 0.1).astype(np.float32)),
        real=(lambda: F.arange(3.0), lambda: np.arange(3, dtype=np.float32)),
        end=(lambda: F.arange(1, end=4), lambda: np.arange(1, 4)),
        line=(lambda: F.linspace(-1, 1, 101), lambda: np.linspace(-1, 1, 101, dtype=np.float32)),
        exact=(lambda: F.linspace(0, 0.7, 7, dtype=gx.f64), lambda: np.linspace(0, 0.7, 7)),
        open=(lambda: F.linspace(0, 1, 4, endpoint=False), lambda: np.linspace(0, 1, 4, False, dtype=np.float32)),
        point=(lambda: F.linspace(2, 3, 1), lambda: np.linspace(2, 3, 1, dtype=np.float32)),
        none=(lambda: F.linspace(2, 3, 0), lambda: np.linspace(2, 3, 0, dtype=np.float32)),
        powers=(lambda: F.logspace(-2, 2, 5), lambda: np.logspace(-2, 2, 5, dtype=np.float32)),
        halves=(lambda: F.logspace(0, 3, 4, base=0.5), lambda: np.logspace(0, 3, 4, base=0.5, dtype=np.float32)),
    )


def test_patterns():
    made(
        eye=(lambda: F.eye(3), lambda: np.eye(3, dtype=np.float32)),
        wide=(lambda: F.eye(3, 5, 1), lambda: np.eye(3, 5, 1, np.float32)),
        tall=(lambda: F.eye(4, 2, k=-1, dtype=gx.i64), lambda: np.eye(4, 2, -1, np.int64)),
        tri=(lambda: F.tri(3, 4, 1), lambda: np.tri(3, 4, 1, np.float32)),
        rows=(
            lambda: F.meshgrid(F.arange(3), F.arange(2))[0],
            lambda: np.meshgrid(range(3), range(2), indexing="ij")[0],
        ),
        columns=(
            lambda: F.meshgrid(F.arange(3), F.arange(2), F.arange(4), indexing="xy")[1],
            lambda: np.meshgrid(range(3), range(2), range(4))[1],
        ),
        depth=(
            lambda: F.meshgrid([F.arange(3), F.arange(2), F.arange(4)])[2],
            lambda: np.meshgrid(range(3), range(2), range(4), indexing="ij")[2],
        ),
    )


def test_diagonals(rng):
    functions = {
        f"{name} {k}": (lambda x, f=ours, k=k: f(x, k), lambda x, f=numpys, k=k: f(x, k))
        for name, ours, numpys in (("tril", F.tril, np.tril), ("triu", F.triu, np.triu))
        for k in (-3, -1, 0, 2, 4)
    }
    functions |= {
        f"diagonal {k}": (lambda x, k=k: F.diagonal(x, k), lambda x, k=k: np.diagonal(x, k, -2, -1))
        for k in (-3, -1, 0, 2, 4)
    }
    functions |= {"trace": (F.trace, lambda x: np.trace(x, axis1=-2, axis2=-1))}
    for shape in ((3, 4), (2, 4, 3), (2, 1, 3, 3), (1, 1)):
        compare(functions, rng.normal(size=shape).astype(np.float32))
    compare({"tril": (lambda x: F.tril(x, k=1), lambda x: np.tril(x, 1))}, ROWS, types=[gx.f32["batch", 3]])
    vector = rng.normal(size=3)
    compare({f"diag {k}": (lambda x, k=k: F.diag(x, k), lambda x, k=k: np.diag(x, k)) for k in (-2, 0, 1)}, vector)
    compare({f"diag {k}": (lambda x, k=k: F.diag(x, k), lambda x, k=k: np.diag(x, k)) for k in (-2, 0, 1)}, ROWS + 1)
    whole = np.arange(12).reshape(3, 4)
    compare({name: functions[name] for name in ("tril 0", "triu 2", "diagonal -1", "trace")}, whole)
    check_slopes(
        {"diag": F.diag, "tril": F.tril, "triu": lambda x: F.triu(x, 1), "trace": F.trace}, rng.normal(size=(2, 3))
    )
    check_slopes({"diag": lambda x: F.diag(x, -1)}, vector)


def test_sizes_in_arithmetic_and_in_shapes():
    x = gx.input("x", gx.f32["batch", 6])
    rows = x.shape[0]
    assert F.zeros(rows + 2, 2 * rows - 1).type == F.zeros(2 + rows, rows * 2 - 1).type
    assert (4 * rows) // 2 == rows * 2 and rows - rows == 0 and rows + rows == 2 * rows
    functions = {
        "freedom": (lambda x: x.sum() / (x.shape[0] - 1), lambda x: x.sum() / (len(x) - 1)),
        "left": (lambda x: x * (10 - x.shape[0]), lambda x: x * (10 - len(x))),
        "half": (lambda x: x * (x.shape[0] // 2), lambda x: x * (len(x) // 2)),
        "rest": (lambda x: x + x.shape[0] % 4, lambda x: x + len(x) % 4),
        "real": (lambda x: (x.shape[0] + 0.5) * x - 2 ** -x.shape[0], lambda x: (len(x) + 0.5) * x - 2.0 ** -len(x)),
        "longer": (lambda x: F.ones(x.shape[0] + 2), lambda x: np.ones(len(x) + 2)),
        "many": (lambda x: F.where(x.shape[0] > 3, x, -x), lambda x: x if len(x) > 3 else -x),
    }
    for count in (2, 5):
        compare(functions, np.ones((count, 6), np.float32), types=[gx.f32["batch", 6]])
    with pytest.raises(gx.TraceError, match="the size of batch is not known"):
        range(rows)


WRONG = {
    "an extent of -1 is not possible": lambda: F.zeros(2, -1),
    "1.5 is no extent": lambda: F.zeros(1.5),
    "step=0 has no end": lambda: F.arange(0, 3, 0),
    "diag of f32[1,2,3]: it takes a vector or a matrix": lambda: F.diag(F.zeros(1, 2, 3)),
    "tril of f32[3]: it takes matrices": lambda: F.tril(F.zeros(3)),
    "diagonal of f32[b,3]: its size must be fixed": lambda: F.diagonal(gx.input("x", gx.f32["b", 3])),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_shapes(message):
    check_refusal(WRONG[message], message, kind=gx.ShapeError)


def test_wrong_settings():
    with pytest.raises(ValueError, match="num is -1; it must be a whole number of at least 0"):
        F.linspace(0, 1, -1)
    with pytest.raises(ValueError, match="indexing is 'rows'; it must be one of 'ij', 'xy'"):
        F.meshgrid(F.arange(3), indexing="rows")
    with pytest.raises(gx.DTypeError, match="no element type"):
        F.zeros(3, dtype="half")
    with pytest.raises(gx.DTypeError, match="u8 cannot hold the number -1"):
        F.full(3, -1, dtype=gx.u8)


def test_a_ramp_that_starts_elsewhere_is_one_operand() -> None:
    """Its first number and its step are multiplied together with what it is multiplied by."""
    x, short = gx.input("x", gx.i64[5, 40]), gx.input("short", gx.i64[5, 3])
    step = gx.function([x, short], [x[:, :30] * (gx.arange(40) * 2 + 3)[5:35], short * gx.arange(10)[7:4:-1]])
    numbers, few = np.arange(200).reshape(5, 40), np.arange(15).reshape(5, 3)
    long, narrow = step(numbers, few)
    np.testing.assert_array_equal(long, numbers[:, :30] * (np.arange(40) * 2 + 3)[5:35])
    np.testing.assert_array_equal(narrow, few * np.arange(10)[7:4:-1])

"""Adding and putting at places: NumPy's values for every dtype, the last of several stays, gradients, errors."""

from __future__ import annotations

import numpy as np
import pytest
from calls import DTYPES, check_slopes, compare
from refusals import check_refusal

import graphc as gx
from graphc.errors import DTypeError, LabelError, ShapeError, TraceError

T = gx.dim("T", max=9)
I = np.array([2, 0, 2, -1])
BESIDE = np.array([[3, 0, 3], [1, 1, 2], [0, 2, 0], [2, 3, 0], [1, 0, 0]])
DOWN = np.array([[0, 4, 2], [1, 4, 4], [1, 0, 4]])
MASK = np.arange(20).reshape(5, 4) % 3 == 0


def assigned(index, add=False):
    """What x[index] = values, or += values, makes of x in NumPy."""

    def function(x, values):
        found = x.copy()
        if add:
            np.add.at(found, index, values)
        else:
            found[index] = values
        return found

    return function


def beside(index, axis, add=False):
    """The index tuple of NumPy for an index array as gather takes it."""
    return lambda x, v: assigned(
        tuple(index if number == axis else np.indices(index.shape)[number] for number in range(2)), add
    )(x, v)


INDEXED = {
    "rows": (I, (4, 4)),
    "a row": (1, (4,)),
    "a number": ((1, -1), ()),
    "columns": ((slice(None), I[:3]), (5, 3)),
    "slices": ((slice(1, 4), slice(None, None, -2)), (3, 2)),
    "pairs": ((I, I), (4,)),
    "one for all": (I, (1, 4)),
    "stretched": ((I[:, None], I[:2]), (2,)),
    "with a slice": ((I, slice(1, 3)), (4, 2)),
    "known mask": ((MASK,), (7,)),
    "everything": (..., (5, 4)),
    "nothing": ((slice(0, 0), slice(None)), (0, 4)),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_index_put_is_numpys_assignment(dtype, rng):
    for name, (index, shape) in INDEXED.items() if dtype in (np.float32, np.bool_) else [("pairs", INDEXED["pairs"])]:
        arrays = [rng.integers(0, 2 if dtype.kind == "b" else 100, size).astype(dtype) for size in ((5, 4), shape)]
        functions = {name: (lambda x, v, i=index: gx.index_put(x, i, v), assigned(index))}
        if dtype.kind != "b":
            functions["add"] = (
                lambda x, v, i=index: x.index_put(i, v, accumulate=True),
                assigned(index, add=True),
            )
        compare(functions, *arrays)


PLACES = {
    "index_add": (lambda x, v: gx.index_add(x, 0, I, v), assigned(I, add=True)),
    "index_add alpha": (lambda x, v: x.index_add(0, I, v, alpha=3), lambda x, v: assigned(I, add=True)(x, 3 * v)),
    "index_add last": (
        lambda x, v: gx.index_add(x, -1, I, v[0, :1].expand(5, 4)),
        lambda x, v: assigned((slice(None), I), add=True)(x, v[0, 0]),
    ),
    "index_copy": (lambda x, v: gx.index_copy(x, 0, I, v), assigned(I)),
    "index_fill": (lambda x, v: gx.index_fill(x, 1, I[:2], 1), lambda x, v: assigned((slice(None), I[:2]))(x, 1)),
    "scatter": (lambda x, v: gx.scatter(x, 1, BESIDE[:4], v), lambda x, v: beside(BESIDE[:4], 1)(x, v[:, :3])),
    "scatter a number": (lambda x, v: x.scatter(0, DOWN, 1), lambda x, v: beside(DOWN, 0)(x, 1)),
    "scatter_add": (
        lambda x, v: gx.scatter_add(x, 1, BESIDE[:4], v),
        lambda x, v: beside(BESIDE[:4], 1, True)(x, v[:, :3]),
    ),
    "scatter_add down": (lambda x, v: x.scatter_add(0, DOWN, v), lambda x, v: beside(DOWN, 0, True)(x, v[:3, :3])),
    "of a view": (lambda x, v: x.T.index_add(1, I, v.T[:, ::-1]).T, lambda x, v: assigned(I, add=True)(x, v[::-1])),
}
ADDING = [name for name in PLACES if "add" in name or "view" in name]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_places_are_numpys(dtype, rng):
    functions = {name: PLACES[name] for name in PLACES if dtype.kind != "b" or name not in ADDING}
    arrays = [rng.integers(0, 2 if dtype.kind == "b" else 50, (rows, 4)).astype(dtype) for rows in (5, 4)]
    compare(functions, *arrays)


def test_slopes_of_adding(rng):
    i = gx.arange(4) * 3 % 4  # 0, 3, 2, 1
    functions = {
        "index_add": lambda x, v: gx.index_add(x, 0, i % 3, v, alpha=2),
        "index_put": lambda x, v: gx.index_put(x, (i % 3, i), v[0], accumulate=True),
        "scatter_add": lambda x, v: gx.scatter_add(x, 1, gx.stack([i, i % 2]), v),
    }
    check_slopes(functions, rng.normal(size=(5, 4)), rng.normal(size=(4, 4)))


def test_gradient_goes_to_what_stays(rng):
    """Of what is put at one place several times the last has a gradient, and what was there before has none."""

    def slopes(put):
        def function(x, v, w):
            return gx.concat([each.flatten() for each in gx.grad((put(x, v) * w).sum(), [x, v])])

        return function

    def wanted(x, v, w):
        old, new = w.copy(), w[I].copy()
        old[I] = 0
        new[0] = 0  # I names row 2 again
        return np.concatenate([old.ravel(), new.ravel()])

    arrays = [rng.normal(size=size) for size in ((5, 4), (4, 4), (5, 4))]
    rows = np.broadcast_to(I[:, None], (4, 4))
    functions = {
        "index_put": slopes(lambda x, v: gx.index_put(x, I, v)),
        "index_copy": slopes(lambda x, v: gx.index_copy(x, 0, I, v)),
        "scatter": slopes(lambda x, v: gx.scatter(x, 0, rows, v)),
    }
    compare({name: (function, wanted) for name, function in functions.items()}, *arrays)


def test_computed_places_are_checked(rng):
    x, i = gx.input("x", gx.f32[5]), gx.input("i", gx.i64[3])
    f = gx.function([x, i], [gx.index_put(x, i, 7.0), gx.index_add(x, 0, i, x[:3]), gx.scatter(x, 0, i, x[2:])])
    array = rng.normal(size=5).astype(np.float32)
    put, added, scattered = f(array, [4, -5, 4])
    np.testing.assert_array_equal(put, assigned([4, 0])(array, 7.0))
    np.testing.assert_allclose(added, assigned([4, 0, 4], add=True)(array, array[:3]), 1e-6)
    np.testing.assert_array_equal(scattered, assigned([4, 0, 4])(array, array[2:]))
    with pytest.raises(LabelError, match=r"-5\.\.4: got 5 at index 1"):
        f(array, [0, 5, 1])


def test_numbers_are_added_once_whatever_shares_their_loops(rng):
    """Rows, their parts and the parts of those are worked out in one nest."""

    def parts(tanh, exp):
        return lambda x, y, z, i: exp(exp(2 * tanh(x)[:, None] * y)[:, :, None] * z)

    functions = {
        "rows": (lambda x, y, z, i: 2 * gx.tanh(x), lambda x, y, z, i: 2 * np.tanh(x)),
        "parts": (parts(gx.tanh, gx.exp), parts(np.tanh, np.exp)),
        "sums": (lambda x, y, z, i: gx.zeros(4).index_add(0, i, 2 * gx.tanh(x)),
                 lambda x, y, z, i: np.bincount(i, 2 * np.tanh(x), 4)),
    }  # fmt: skip
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((3,), (3, 4), (3, 4, 20))]
    compare(functions, *arrays, np.array([1, 0, 1]))


@pytest.mark.parametrize("size", [4, 9])
def test_symbolic_axis(size, rng):
    functions = {
        "put": (lambda x, v: gx.index_put(x, I, v), assigned(I)),
        "first": (lambda x, v: gx.index_put(x, 0, v[0]), lambda x, v: assigned(0)(x, v[0])),
        "inside": (
            lambda x, v: gx.index_put(x, (slice(1, -1), 0), 5.0),
            lambda x, v: assigned((slice(1, -1), 0))(x, 5),
        ),
        "add": (lambda x, v: gx.index_add(x, 0, I, v), assigned(I, add=True)),
        "scatter": (
            lambda x, v: gx.scatter(x, 1, gx.zeros_like(x, dtype=gx.i64)[:, :1], x[:, 1:]),
            lambda x, v: assigned((slice(None), 0))(x, x[:, 1]),
        ),
    }
    arrays = [rng.normal(size=(rows, 3)).astype(np.float32) for rows in (size, 4)]
    compare(functions, *arrays, types=[gx.f32[T, 3], gx.f32[4, 3]])


def test_bincount_is_numpys(rng):
    x, weights = rng.integers(0, 5, 12), rng.uniform(1, 2, 12)
    functions = {
        "counts": (lambda x, w: gx.bincount(x, minlength=7), lambda x, w: np.bincount(x, minlength=7)),
        "weights": (lambda x, w: x.bincount(w, 5), lambda x, w: np.bincount(x, w, 5)),
        "none": (lambda x, w: gx.bincount(x[:0], minlength=2), lambda x, w: np.zeros(2, np.int64)),
    }
    compare(functions, x, weights)
    n = gx.input("n", gx.i64["n"])
    with pytest.raises(LabelError, match=r"bincount: indices must lie in 0\.\.3: got 4"):
        gx.function([n], gx.bincount(n, minlength=4))([0, 4])


def test_parameters_change_at_places():
    table = gx.parameter("table", np.zeros((3, 2)))
    table[1] = 5.0
    np.testing.assert_array_equal(table.numpy(), [[0, 0], [5, 5], [0, 0]])
    with pytest.raises(ShapeError, match="out of bounds"):
        table[3] = 1.0
    with pytest.raises(DTypeError, match="complex"):
        table[0] = 1j

    @gx.step
    def step(i: gx.i64[2], x: gx.f32[2, 2]):
        table[i] = x
        table[2, 0] += 1

    step([0, 1], np.ones((2, 2), np.float32))
    np.testing.assert_array_equal(table.numpy(), [[1, 1], [1, 1], [1, 0]])


X, N = gx.input("x", gx.f32[5, 4]), gx.input("n", gx.i64[4])
WRONG = [
    (lambda: gx.index_put(X, 5, 1.0), ShapeError, "index 5 is outside"),
    (lambda: gx.index_put(X, N, X), ShapeError, "cannot broadcast f32[5,4] to"),
    (lambda: gx.index_put(N, 0, 0.5), DTypeError, "f64[] cannot be put into i64[4]"),
    (lambda: gx.index_put(X, X > 0, 1.0), TraceError, "x[mask] with mask bool[5,4]: how many elements"),
    (lambda: gx.index_add(X, 0, N, X), ShapeError, "index_add of f32[5,4]: source f32[5,4] does not fit 4 places"),
    (lambda: gx.index_add(X, 2, N, X), ShapeError, "axis 2 is outside"),
    (lambda: gx.index_add(X, 0, [5, 0, 0, 0], X[:4]), ShapeError, "-5..4: got 5"),
    (lambda: gx.index_add(X, 0, X[0], X[:4]), DTypeError, "needs integer indices"),
    (lambda: gx.index_copy(X, 0, N, X), ShapeError, "index_copy of"),
    (lambda: gx.index_fill(X, 0, N, X[0]), ShapeError, "index_fill puts one number"),
    (lambda: gx.index_fill(X, 0, X.long(), 1.0), ShapeError, "takes a vector of indices"),
    (lambda: gx.scatter(X, 0, N, 1.0), ShapeError, "scatter of f32[5,4]: index i64[4] does not fit"),
    (lambda: gx.scatter(X, 0, X.long(), X[:3]), ShapeError, "does not fit the index"),
    (lambda: gx.scatter_add(X, 0, X.T.long(), X), ShapeError, "does not fit"),
    (lambda: gx.scatter_add(N, 0, N, X[0]), DTypeError, "cannot be put into"),
    (lambda: gx.bincount(N), ShapeError, "as minlength, one more than its largest"),
    (lambda: gx.bincount(X.long(), minlength=3), ShapeError, "it takes a vector"),
    (lambda: gx.bincount(N, X[:, 0], 3), ShapeError, "weights f32[5] do not fit"),
    (lambda: gx.bincount(X[0], minlength=3), DTypeError, "needs integer indices"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments(number):
    wrong, kind, words = WRONG[number]
    check_refusal(wrong, words, kind=kind)

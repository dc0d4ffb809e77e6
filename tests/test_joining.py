"""Joins, splits, pads, rolls and other shapes: NumPy's values for every dtype, differences, symbolic sizes, errors."""

from __future__ import annotations

import numpy as np
import pytest
from calls import DTYPES, check_slopes, compare
from refusals import check_refusal

import graphc as gx
from graphc import functional as F
from graphc.errors import DTypeError, ShapeError

T, N = gx.dim("T", max=9), gx.dim("N", max=4)


def both(text):
    """A call of functions that graphc and NumPy have under one name."""
    return tuple((lambda *given, m=module: eval(text, {"f": m, **dict(zip("ab", given))})) for module in (gx, np))


JOINS = {
    text: both(text)
    for text in (
        "f.concatenate([a, b])", "f.concatenate((a, b, a), axis=-1)", "f.concatenate([a, b], axis=None)",
        "f.concatenate([a[:0], b])", "f.concatenate([a[:0], b[:0]])", "f.concatenate([a])", "f.concat([a, b], axis=1)",
        "f.stack([a, b])", "f.stack((a, b, b), axis=1)", "f.stack([a, b], axis=-1)", "f.hstack([a, b])",
        "f.hstack([a[0], b[1]])", "f.vstack([a, b[0]])", "f.vstack([a[0, 0], b[0, :1]])", "f.dstack([a[0], b[0]])",
        "f.dstack([a, b])", "f.column_stack([a[:, 0], b])", "f.flip(a)", "f.flip(a, 1)", "f.flip(a, (0, 1))",
        "f.flip(a, axis=-1)", "f.flip(a, ())", "f.fliplr(a)", "f.flipud(a)", "f.roll(a, 4)", "f.roll(a, 1, 0)",
        "f.roll(a, -4, axis=1)", "f.roll(a, (1, 2), axis=(0, 1))", "f.roll(a, (1, 2), axis=(1, 1))",
        "f.roll(a, 2, (0, 1))", "f.tile(a, 2)", "f.tile(a, (2, 1))", "f.tile(a, (2, 1, 3))", "f.tile(a, ())",
        "f.tile(a[0], (2, 2))", "f.tile(a, (0, 1))", "f.concatenate([a.T[::-1], b.T[1:]])[1::2]",
        "f.stack([a, f.concatenate([b[1:], a[:1]])]).T", "f.concatenate([a, b] * 9 + [b[1:]])",
        "f.stack([a[0], b[1], a[2]] * 6, axis=1)",
    )
}  # fmt: skip
JOINS |= {
    "repeat_interleave": (lambda a, b: gx.repeat_interleave(a, 2), lambda a, b: np.repeat(a, 2)),
    "repeat_interleave axis": (lambda a, b: gx.repeat_interleave(a, 3, axis=1), lambda a, b: np.repeat(a, 3, axis=1)),
    "repeat": (lambda a, b: a.repeat(2, 1, 2), lambda a, b: np.tile(a, (2, 1, 2))),
    "split": (lambda a, b: gx.split(a, 2, axis=1)[-1], lambda a, b: a[:, 2:]),
    "split sizes": (lambda a, b: gx.split(a, [1, 0, 2], 1)[2], lambda a, b: a[:, 1:]),
    "split of nothing": (lambda a, b: gx.split(a[:0], 2)[0], lambda a, b: a[:0]),
    "chunk": (lambda a, b: a.chunk(5, dim=1)[2], lambda a, b: a[:, 2:]),
    "unbind": (lambda a, b: gx.unbind(a, axis=1)[1], lambda a, b: a[:, 1]),
    "pad": (lambda a, b: F.pad(a, (1, 2)), lambda a, b: np.pad(a, ((0, 0), (1, 2)))),
    "pad and crop": (lambda a, b: F.pad(a, (-1, 1, 2, -1)), lambda a, b: np.pad(a[:-1, 1:], ((2, 0), (0, 1)))),
    "pad with ones": (
        lambda a, b: F.pad(a, (2, 0, 1, 1), value=1),
        lambda a, b: np.pad(a, ((1, 1), (2, 0)), constant_values=1),
    ),
    "reflect": (lambda a, b: F.pad(a, (2, 1, 1, 0), "reflect"), lambda a, b: np.pad(a, ((1, 0), (2, 1)), "reflect")),
    "replicate": (lambda a, b: F.pad(a, (4, 1, 0, 3), "replicate"), lambda a, b: np.pad(a, ((0, 3), (4, 1)), "edge")),
    "circular": (lambda a, b: F.pad(a, (3, 2, 2, 1), "circular"), lambda a, b: np.pad(a, ((2, 1), (3, 2)), "wrap")),
    "reflect and crop": (
        lambda a, b: F.pad(a, (2, -1), "reflect"),
        lambda a, b: np.pad(a, ((0, 0), (2, 0)), "reflect")[:, :-1],
    ),
}
VIEWS = {
    text: both(text)
    for text in (
        "f.moveaxis(a, 0, -1)", "f.moveaxis(a, (0, 2), (1, 0))", "f.swapaxes(a, 0, -1)", "f.transpose(a)",
        "f.transpose(a, (1, 2, 0))", "f.ravel(a)", "f.squeeze(a[:, :1])", "f.squeeze(a[:1, :1], axis=1)",
        "f.squeeze(a[:1, :, :1], axis=(0, 2))", "f.expand_dims(a, 1)", "f.expand_dims(a, (0, -1))",
        "f.broadcast_to(a[:, :1], (3, 2, 3, 4))", "f.atleast_1d(a[0, 0, 0])", "f.atleast_2d(a[0, 0])",
        "f.atleast_3d(a[0])", "f.atleast_3d(a[0, 0])", "f.atleast_2d(a)", "f.reshape(a[::-1, 1:], (-1, 2))",
    )
}  # fmt: skip
VIEWS |= {
    "unflatten": (lambda a: gx.unflatten(a, -1, (2, -1)), lambda a: a.reshape(2, 3, 2, 2)),
    "flatten": (lambda a: a.flatten(1), lambda a: a.reshape(2, 12)),
    "flatten a number": (lambda a: a[0, 0, 0].flatten(), lambda a: a[0, 0, :1]),
    "unsqueeze": (lambda a: a.unsqueeze(dim=-2), lambda a: a[:, :, None]),
    "expand_as": (lambda a: a[0, :1].expand_as(a), lambda a: np.broadcast_to(a[0, :1], (2, 3, 4))),
    "view_as": (lambda a: a.view_as(a.mT), lambda a: a.reshape(2, 4, 3)),
    "movedim": (lambda a: a.movedim((2, 0), (0, 1)), lambda a: np.moveaxis(a, (2, 0), (0, 1))),
    "transpose": (lambda a: a.transpose(0, 1), lambda a: a.swapaxes(0, 1)),
    "broadcast_tensors": (
        lambda a: gx.broadcast_tensors(a[0, 0], a[:, 0, :1])[1],
        lambda a: np.broadcast_arrays(a[0, 0], a[:, 0, :1])[1],
    ),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_joins_are_numpys(dtype, rng):
    arrays = [rng.integers(0, 2 if dtype.kind == "b" else 100, (3, 3)).astype(dtype) for _ in "ab"]
    compare(JOINS, *arrays)


@pytest.mark.parametrize("dtype", [np.float32, np.bool_], ids=str)
def test_views_are_numpys(dtype, rng):
    compare(VIEWS, rng.integers(0, 2, (2, 3, 4)).astype(dtype))


def test_dtypes_are_promoted(rng):
    kinds = {text: both(text) for text in ("f.concatenate([a, b])", "f.stack([b, a])", "f.hstack([a, b, a])")}
    for kind in (np.uint8, np.bool_, np.float64):
        compare(kinds, np.ones((2, 3), np.int32).astype(kind), rng.normal(size=(2, 3)))


def test_lists_and_arrays_join():
    x = gx.input("x", gx.f64[2])
    joined = gx.concat([x, [1.5, 2.5], np.array([1 / 3])])
    np.testing.assert_array_equal(gx.function([x], joined)(np.zeros(2)), [0, 0, 1.5, 2.5, 1 / 3])


def test_joins_of_one_and_nothing(rng):
    calls = ("f.concatenate([a, b])", "f.concatenate([a, b], axis=None)", "f.stack([a, b], axis=-1)", "f.flip(a)",
             "f.roll(a, 4)", "f.roll(a, 1, 0)", "f.tile(a, (2, 1))", "f.vstack([a, b[0]])", "f.hstack([a, b])",
             "repeat", "repeat_interleave axis", "pad", "pad with ones")  # fmt: skip
    for shape in ((1, 1), (1, 0)):
        compare({name: JOINS[name] for name in calls}, *(rng.normal(size=shape).astype(np.float32) for _ in "ab"))
    compare({"replicate": JOINS["replicate"]}, *(rng.normal(size=(1, 1)) for _ in "ab"))


def test_slopes_of_joins(rng):
    def of_both(function):
        """With a first element of each operand, so that it depends on either."""
        return lambda a, b: gx.concat([function(a, b).ravel(), a[0, :1], b[0, :1]])

    functions = {name: of_both(ours) for name, (ours, _) in JOINS.items()}
    check_slopes(functions, rng.normal(size=(3, 3)), rng.normal(size=(3, 3)))


def test_slopes_of_views(rng):
    check_slopes({name: ours for name, (ours, _) in VIEWS.items()}, rng.normal(size=(2, 3, 4)))


@pytest.mark.parametrize("size", [2, 9])
def test_symbolic_sizes(size, rng):
    functions = {
        text: both(text)
        for text in (
            "f.concatenate([a, b])", "f.concatenate([b[:1], a, a])", "f.concatenate([a[1:], b[:1]])", "f.flip(a)",
            "f.roll(a, 1, 0)", "f.roll(a, -2, 0)", "f.roll(a, 1)", "f.stack([a, a[::-1]], axis=1)", "f.tile(a, (2, 2))",
            "f.vstack([b, a])", "f.expand_dims(a, 0)", "f.concatenate([a, a], axis=1)", "f.ravel(a)",
        )
    }  # fmt: skip
    functions |= {
        "pad": (
            lambda a, b: F.pad(a, (0, 1, 2, 1), value=5),
            lambda a, b: np.pad(a, ((2, 1), (0, 1)), constant_values=5),
        ),
        "replicate": (
            lambda a, b: F.pad(a, (1, 1, 2, 3), "replicate"),
            lambda a, b: np.pad(a, ((2, 3), (1, 1)), "edge"),
        ),
        "reflect": (lambda a, b: F.pad(a, (1, 1), "reflect"), lambda a, b: np.pad(a, ((0, 0), (1, 1)), "reflect")),
        "split": (lambda a, b: gx.split(a, [1, a.shape[0] - 1])[1], lambda a, b: a[1:]),
        "unbind": (lambda a, b: gx.unbind(a, 1)[1], lambda a, b: a[:, 1]),
        "repeat": (lambda a, b: gx.repeat_interleave(a, 2, 0), lambda a, b: np.repeat(a, 2, 0)),
        "as often": (lambda a, b: gx.tile(b, (a.shape[0], 1)), lambda a, b: np.tile(b, (len(a), 1))),
    }
    joined = gx.concat([gx.input("a", gx.f32[T, 3]), gx.input("b", gx.f32[2, 3])])
    assert joined.shape[0] == gx.input("t", gx.f32[T]).shape[0] + 2
    arrays = [rng.normal(size=(rows, 3)).astype(np.float32) for rows in (size, 2)]
    compare(functions, *arrays, types=[gx.f32[T, 3], gx.f32[2, 3]])


def test_two_symbolic_sizes_add_up(rng):
    arrays = [rng.normal(size=(rows, 2)).astype(np.float32) for rows in (5, 3)]
    compare({"f": both("f.concatenate([a, b])")}, *arrays, types=[gx.f32[T, 2], gx.f32[N, 2]])


X, S, M = gx.input("x", gx.f32[5, 4]), gx.input("s", gx.f32[T, 4]), gx.input("m", gx.i64[3])
WRONG = [
    (lambda: gx.concat([X, X[0]]), ShapeError, "concat of f32[5,4] and f32[4]"),
    (lambda: gx.concat([X, X.T]), ShapeError, "they differ beside axis 0"),
    (lambda: gx.concat([X, X], axis=2), ShapeError, "axis 2 is outside"),
    (lambda: gx.concat([]), ShapeError, "concat of no tensors"),
    (lambda: gx.concat(X), TypeError, "takes a list or tuple of tensors, got Tensor"),
    (lambda: gx.stack([X, X.T]), ShapeError, "stack of f32[5,4] and f32[4,5]: they differ"),
    (lambda: gx.stack([X, X], dim=3), ShapeError, "axis 3 is outside"),
    (lambda: gx.vstack([X, S[:, :2]]), ShapeError, "concat of"),
    (lambda: gx.hstack(5), TypeError, "hstack takes a list"),
    (lambda: gx.split(X, 0), ShapeError, "0 is no size of a part"),
    (lambda: gx.split(X, [2, 2]), ShapeError, "sizes [2, 2] do not add up to 5"),
    (lambda: gx.split(X, [2.0, 3.0]), ShapeError, "do not add up"),
    (lambda: gx.split(X, [6, -1]), ShapeError, "has no"),
    (lambda: gx.split(S, 2), ShapeError, "T is not known while tracing"),
    (lambda: gx.chunk(S, 2), ShapeError, "T is not known while tracing"),
    (lambda: gx.chunk(X, 0), ValueError, "chunks is 0"),
    (lambda: gx.unbind(S), ShapeError, "T is not known"),
    (lambda: gx.flip(X, 2), ShapeError, "axis 2 is outside"),
    (lambda: gx.flip(X, (0, 0)), ShapeError, "name one twice"),
    (lambda: gx.roll(X, 1.5, 0), DTypeError, "roll takes whole numbers"),
    (lambda: gx.roll(X, M[0], 0), DTypeError, "roll takes whole numbers"),
    (lambda: gx.roll(X, (1, 2), 0), ShapeError, "2 shifts for 1 axes"),
    (lambda: gx.roll(S, 10, 0), ShapeError, "10"),
    (lambda: gx.tile(X, -1), ShapeError, "tile takes whole numbers of at least 0"),
    (lambda: X.repeat(2), ShapeError, "it takes a count for each axis"),
    (lambda: gx.repeat_interleave(X, M), ShapeError, "repeat_interleave takes whole numbers"),
    (lambda: F.pad(X, (1, 2), "mirror"), ValueError, "mode is 'mirror'; it must be one of"),
    (lambda: F.pad(X, (1, 2, 3)), ShapeError, "is not two whole numbers for each"),
    (lambda: F.pad(X, 1), ShapeError, "is not two whole numbers"),
    (lambda: F.pad(X, (1,) * 6), ShapeError, "is not two whole numbers"),
    (lambda: F.pad(X, (1.5, 1)), ShapeError, "is not two whole numbers"),
    (lambda: F.pad(X, (-3, -2)), ShapeError, "leaves less than nothing"),
    (lambda: F.pad(X, (4, 0), "reflect"), ShapeError, "pad of f32[5,4] by 4: axis 1 is too short for mode 'reflect'"),
    (lambda: F.pad(X, (5, 0), "circular"), ShapeError, "too short for mode 'circular'"),
    (lambda: F.pad(S, (0, 0, 1, 0), "reflect"), ShapeError, "axis 0 is too short"),
    (lambda: F.pad(X[:, :0], (1, 0), "replicate"), ShapeError, "too short"),
    (lambda: F.pad(M, (1, 0), value=0.5), DTypeError, "cannot be put into i64"),
    (lambda: gx.movedim(X, (0, 1), 0), ShapeError, "are not as many axes as"),
    (lambda: gx.movedim(X, 2, 0), ShapeError, "axis 2 is outside"),
    (lambda: gx.swapaxes(X, 0, 2), ShapeError, "axis 2 is outside"),
    (lambda: gx.permute(X, 0), ShapeError, "does not name all of its axes"),
    (lambda: gx.permute(X, (0, 0)), ShapeError, "name one twice"),
    (lambda: X.transpose(0, 5), ShapeError, "axis 5 is outside"),
    (lambda: gx.squeeze(X, 2), ShapeError, "axis 2 is outside"),
    (lambda: gx.unsqueeze(X, 3), ShapeError, "axis 3 is outside"),
    (lambda: gx.unsqueeze(X), ShapeError, "a whole number, not None"),
    (lambda: gx.expand_dims(X, (0, 0)), ShapeError, "name one twice"),
    (lambda: gx.flatten(X, 1, 0), ShapeError, "axis 1 is behind axis 0"),
    (lambda: gx.flatten(X, 2), ShapeError, "axis 2 is outside"),
    (lambda: gx.unflatten(X, 1, (3, -1)), ShapeError, "does not divide"),
    (lambda: X.reshape(-1, -1), ShapeError, "only one extent may be -1"),
    (lambda: X.reshape(3, -1), ShapeError, "3 does not divide it"),
    (lambda: X.reshape(0, -1), ShapeError, "0 does not divide it"),
    (lambda: X.reshape(4, 4), ShapeError, "20"),
    (lambda: X.expand(4), ShapeError, "cannot broadcast f32[5,4] to [4]"),
    (lambda: X.expand(5, 3), ShapeError, "cannot broadcast f32[5,4] to [5, 3]"),
    (lambda: X[:1].expand(-1, 8), ShapeError, "cannot broadcast"),
    (lambda: gx.broadcast_tensors(X, X.T), ShapeError, "cannot broadcast"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments(number):
    wrong, kind, words = WRONG[number]
    check_refusal(wrong, words, kind=kind)

"""x[...] and look-ups: NumPy's parts and their gradients, indices checked in the call, symbolic axes, errors."""

from __future__ import annotations

import numpy as np
import pytest
from calls import DTYPES, check_slopes, compare, run
from refusals import check_refusal

import graphc as gx
from graphc import data
from graphc.errors import DTypeError, LabelError, ShapeError, TraceError

T = gx.dim("T", max=9)
I = np.array([0, -1, 2])
J = np.array([[1], [0]])
MASK = np.arange(20).reshape(5, 4) % 3 == 0
ROWS = np.array([True, False, True, True, False])
NAMES = {"i": I, "j": J, "mask": MASK, "rows": ROWS, "np": np}

PARTS = (
    "x[1]", "x[-1]", "x[1:]", "x[:-1]", "x[::-1]", "x[::2]", "x[4:0:-2]", "x[-100:100]", "x[:, 1]", "x[..., 1]",
    "x[None]", "x[:, None, 1]", "x[..., None]", "x[1, 2, 0]", "x[()]", "x[...]", "x[1:1]", "x[10:]", "x[3:1]",
    "x[np.int64(3)]", "x[np.array(2)]", "x[::-1, ::-2, None, 1:]", "x[0:1, 3:4]",
)  # fmt: skip
LOOKUPS = (
    "x[i]", "x[:, i]", "x[:, :, i]", "x[i, :, i]", "x[i, i]", "x[:, i, i]", "x[j, i]", "x[i, :, 0]", "x[0, :, i]",
    "x[0, i]", "x[:, 0, i]", "x[i, None, i]", "x[None, i]", "x[i, None]", "x[i, 1:]", "x[1:, i]", "x[::-1, i, ::2]",
    "x[i, ...]", "x[..., i, 0]", "x[0, ..., i]", "x[[0, 2]]", "x[[[0, 1], [2, 3]]]", "x[:, []]", "x[i, :, None, i]",
    "x[-1:-4:-1, None, i, 1]", "x[0:0, i]", "x[range(2)]", "x[i, j, -1]", "x[i.astype(np.uint8) % 3]",
)  # fmt: skip
MASKS = ("x[mask]", "x[rows]", "x[rows, 1]", "x[rows, :, i]", "x[[True, False, True, False, False]]", "x[:, mask[0]]")
VIEWS = ("x.T[i]", "x[::-1][1:, i]", "x[1:][::2, i][0]", "x.reshape(4, 15)[1:, ::4]", "x.transpose(2, 0, 1)[:, 1, j]")


def part(text, **names):
    return lambda x, **more: eval(text, NAMES | {"x": x} | names | more)


def check_parts(texts, array):
    """Parts are NumPy's, and the gradient of the sum of their weighted squares goes to where they are from."""
    compare({text: (part(text), part(text)) for text in texts}, array)
    if array.dtype.kind != "f":
        return
    slopes = run({text: slope(part(text)) for text in texts}, array)
    numbers = np.arange(array.size).reshape(array.shape)
    for text, ways in slopes.items():
        found = part(text)(array)
        wanted = np.zeros(array.size)
        np.add.at(wanted, part(text)(numbers).ravel(), (2 * found * weights(found.shape)).ravel())
        for way in ways:
            np.testing.assert_allclose(way.ravel(), wanted, 1e-5, 1e-6, err_msg=text)


def weights(shape):
    return (1 + 0.5 * np.cos(np.arange(np.prod(shape)))).reshape(shape)


def slope(function):
    def gradient(x):
        found = function(x)
        return gx.grad((found * found * weights(found.shape).astype(np.float32)).sum(), x)

    return gradient


@pytest.mark.parametrize("texts", [PARTS, LOOKUPS, MASKS, VIEWS], ids=["parts", "look-ups", "masks", "views"])
def test_parts_are_numpys(texts, rng):
    check_parts(texts, rng.normal(size=(5, 4, 3)).astype(np.float32))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_parts_of_every_dtype(dtype, rng):
    array = rng.integers(0, 2 if dtype.kind == "b" else 100, (5, 4, 3)).astype(dtype)
    check_parts(("x[1:, ::-2]", "x[:, i]", "x[mask]", "x[j, i, 0]", "x[..., None, 1]"), array)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 1), (3, 0, 2)])
def test_parts_of_size_one_and_nothing(shape):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    check_parts(("x[0]", "x[-1:]", "x[::-1]", "x[[0, -1, 0]]", "x[..., 0]", "x[1:]", "x[None, :, 1:]"), array)


def test_second_derivatives(rng):
    i = gx.arange(4) * 3 % 4  # 0, 3, 2, 1
    functions = {
        "slice": lambda x: x[1:, ::-2],
        "look-up": lambda x: x[i % 3, i],
        "gather": lambda x: gx.gather(x, 0, gx.stack([i % 3, i % 2])),
        "scatter": lambda x: gx.scatter_add(x, 1, gx.stack([i % 2, i, i]), x * x),
        "put": lambda x: gx.index_put(x, (i % 3, 0), x[0] * x[1]),
        "sort": lambda x: gx.sort(x).values * x,
        "cumprod": lambda x: gx.cumprod(x, 1),
        "concat": lambda x: gx.concat([x, x[:1] * x[1:2]]),
        "einsum": lambda x: gx.einsum("ij,kj->ik", x, x),
        "matmul": lambda x: x.T @ (x @ x.T),
    }
    slopes = {name: lambda x, f=f: gx.grad((f(x) ** 3).sum(), x) for name, f in functions.items()}
    check_slopes(slopes, rng.permutation(np.linspace(-2, 2, 12)).reshape(3, 4))


# -- indices that are computed

INDEXED = (
    "x[i]", "x[:, i]", "x[i, 0]", "x[i[0]]", "x[i[0], i[1]]", "x[1:, i]", "x[i, :, None]", "x[j, i]", "x[i[0], :, 0]",
    "x[::-1][i]", "x.T[i[:, None], i]", "x[(i + j) % 3]", "x[i, [0, 1, 1]]",
)  # fmt: skip


@pytest.mark.parametrize("kind", [gx.i64, gx.i32, gx.u8])
def test_computed_indices_are_numpys(kind, rng):
    x, i = rng.normal(size=(5, 4, 3)).astype(np.float32), np.array([2, 0, 1])
    j = np.array([[1], [0]])
    if kind is not gx.u8:
        i = np.array([2, -3, 1])
    indices = [each.astype(kind.numpy) for each in (i, j)]
    compare({text: (by(text), by(text)) for text in INDEXED}, x, *indices)


def by(text):
    return lambda x, i, j: eval(text, {"x": x, "i": i, "j": j})


SYMBOLIC = (
    "x[1:]", "x[:-1]", "x[::-1]", "x[2]", "x[-1]", "x[-3]", "x[:3]", "x[-3:]", "x[1:-1]", "x[:, ::2]", "x[-2::-1]",
    "x[i]", "x[::-1][i]", "x[1:][i[:2]]", "x[:, i]", "x[[0, -1, 2]]", "x[-3:-1]", "x[2:1]", "x[i[0]]", "x[1:, 1]",
    "x[x.shape[0] - 2]", "x[: x.shape[0] - 1]", "x[i, i]", "x[:, None][1:]",
)  # fmt: skip


@pytest.mark.parametrize("size", [3, 4, 9])
def test_symbolic_axis(size, rng):
    x, i = rng.normal(size=(size, 4)).astype(np.float32), np.array([0, -2, 2])
    functions = {text: (by(text), by(text)) for text in SYMBOLIC}
    given = {text: (lambda x, i, f=f: f(x, i, None),) * 2 for text, (f, _) in functions.items()}
    compare(given, x, i, types=[gx.f32[T, 4], gx.i64[3]])


def test_symbolic_axis_of_one():
    x = np.ones((1, 4), np.float32)
    one = {text: (part(text),) * 2 for text in ("x[1:]", "x[:-1]", "x[::-1]", "x[0]", "x[-1]")}
    compare(one, x, types=[gx.f32[T, 4]])


@pytest.mark.parametrize(("text", "least"), [("x[3]", 4), ("x[-3:]", 3), ("x[:5]", 5), ("x[2:-2]", 4), ("x[1:][0]", 2)])
def test_too_small_for_a_part(text, least):
    x = gx.input("x", gx.f32[T])
    f = gx.function([x], part(text)(x).sum())
    f(np.ones(least, np.float32))
    with pytest.raises(ShapeError, match=rf"T={least - 1}, too little for a part it takes") as caught:
        f(np.ones(least - 1, np.float32))
    assert len(str(caught.value).splitlines()) <= 8


def test_too_small_a_batch_is_found_before_an_epoch():
    state = gx.parameter("state", np.zeros(1))
    x = gx.input("x", gx.f32[T])
    f = gx.function([x], x[:3].sum(), updates={state: state + x[2]})
    loader = data.DataLoader(data.TensorDataset(np.ones(10, np.float32)), batch_size=4)
    with pytest.raises(ShapeError, match="T=2, too little"):
        f.epoch(loader)
    assert state.item() == 0
    f.epoch(data.DataLoader(data.TensorDataset(np.ones(11, np.float32)), batch_size=4))
    assert state.item() == 3


@pytest.mark.parametrize("size", ["T", 5])
@pytest.mark.parametrize("wrong", [5, -6, 2**40, -(2**40)])
def test_computed_indices_outside(size, wrong):
    axis = T if size == "T" else 5
    x, i = gx.input("x", gx.f32[axis, 2]), gx.input("i", gx.i64[2, 2])
    state = gx.parameter("state", np.zeros(2))
    f = gx.function([x, i], x[i].sum(), updates={state: state + x[i][0, 0]})
    rows = np.ones((5, 2), np.float32)
    f(rows, [[4, -5], [0, 1]])
    before = state.numpy()
    with pytest.raises(LabelError, match=rf"must lie in -{size}\.\..*: got {wrong} at index \(1, 0\)") as caught:
        f(rows, [[0, 1], [wrong, 2]])
    text = str(caught.value)
    assert "f = gx.function([x, i], x[i].sum()" in text and len(text.splitlines()) <= 8
    np.testing.assert_array_equal(state.numpy(), before)


# -- functions

FUNCTIONS = {
    "take": (lambda x, i: gx.take(x, i), np.take),
    "take axis": (lambda x, i: gx.take(x, i, axis=1), lambda x, i: np.take(x, i, axis=1)),
    "take dim": (lambda x, i: x.take(i[:, None], dim=0), lambda x, i: np.take(x, i[:, None], axis=0)),
    "take_along_axis": (
        lambda x, i: gx.take_along_axis(x, i[None, :], axis=0),
        lambda x, i: np.take_along_axis(x, i[None, :], axis=0),
    ),
    "take_along_axis flat": (lambda x, i: gx.take_along_axis(x, i), lambda x, i: x.ravel()[i]),
    "of one row": (
        lambda x, i: gx.take_along_axis(x[:1], (i[:, None] + x.astype(gx.i64)[:, :1]) % 3, axis=1),
        lambda x, i: np.take_along_axis(
            np.broadcast_to(x[:1], (3, 3)), (i[:, None] + x.astype(np.int64)[:, :1]) % 3, axis=1
        ),
    ),
    "select": (lambda x, i: gx.select(x, -1, -1), lambda x, i: x[:, -1]),
    "narrow": (lambda x, i: gx.narrow(x, 0, -2, 2), lambda x, i: x[-2:]),
    "rows": (lambda x, i: sum(row * n for n, row in enumerate(x)), lambda x, i: x[1] + 2 * x[2]),
}


def test_functions_are_numpys(rng):
    compare(FUNCTIONS, rng.uniform(0, 3, (3, 3)).astype(np.float32), np.array([0, -2, 1]))


def test_rows_one_by_one():
    x = gx.input("x", gx.f32[3, 2])
    assert len(x) == 3 and [row.type for row in x] == [gx.f32[2]] * 3
    first, *_ = x
    assert first.type == gx.f32[2]


def test_numbers_known_while_tracing():
    table = gx.ones(3) * np.array([1.0, 2.0, 3.0])
    assert table[[2, 0]].tolist() == [3, 1] and table[-1].item() == 3


# -- wrong arguments

X = gx.input("x", gx.f32[5, 4])
S = gx.input("s", gx.f32[T, 4])
N = gx.input("n", gx.i64[3])
WRONG = [
    (lambda: X[5], ShapeError, "index 5 is outside of -5..4, axis 0 of f32[5,4]"),
    (lambda: X[:, -5], ShapeError, "index -5"),
    (lambda: S[9], ShapeError, "index 9 is outside of -T..T-1"),
    (lambda: S[-10], ShapeError, "index -10"),
    (lambda: S[:10], ShapeError, "a slice from 0 to 10 leaves axis 0"),
    (lambda: S[::2], ShapeError, "steps of 2 do not divide the T places"),
    (lambda: X[0, 0, 0], ShapeError, "has 2 axes, the index names 3"),
    (lambda: X[..., ...], ShapeError, "more than one"),
    (lambda: X[::0], ShapeError, "steps of 0"),
    (lambda: X[1.5], DTypeError, "a whole number, not 1.5"),
    (lambda: X["a"], DTypeError, "a whole number"),
    (lambda: X[True], DTypeError, "True is no index"),
    (lambda: X[X], DTypeError, "needs integer indices, got f32"),
    (lambda: X[N[0] :], DTypeError, "start of a slice must be known"),
    (lambda: X[X > 0], TraceError, "x[mask] with mask bool[5,4]: how many elements"),
    (lambda: X[[0, 5]], ShapeError, "must lie in -5..4: got 5"),
    (lambda: X[np.array([True, False])], ShapeError, "a mask of 2 bools does not fit axis 0"),
    (lambda: S[np.array([True, False])], ShapeError, "does not fit axis 0 of f32[T,4]"),
    (lambda: X[N, [0, 1]], ShapeError, "cannot broadcast"),
    (lambda: len(S), TraceError, "len"),
    (lambda: list(S), TraceError, "T is not known while tracing"),
    (lambda: list(X.sum()), TraceError, "it has no axis"),
    (lambda: gx.masked_select(X, X > 0), TraceError, "how many elements"),
    (lambda: (X > 0).nonzero(), TraceError, "how many elements"),
    (lambda: gx.take(X, 1.5), DTypeError, "take needs integer indices"),
    (lambda: gx.take(X, N, axis=2), ShapeError, "axis 2 is outside"),
    (lambda: gx.take(X, [20]), ShapeError, "-20..19: got 20"),
    (lambda: gx.gather(X, 0, N), ShapeError, "index i64[3] does not fit"),
    (lambda: gx.gather(X, 0, gx.zeros(2, 5, dtype=gx.i64)), ShapeError, "does not fit"),
    (lambda: gx.gather(S, 0, gx.zeros(2, 5, dtype=gx.i64)), ShapeError, "does not fit"),
    (lambda: gx.index_select(X, 0, gx.zeros(1, 1, dtype=gx.i64)), ShapeError, "takes a vector of indices"),
    (lambda: gx.take_along_axis(X, N, 0), ShapeError, "have another rank"),
    (lambda: gx.take_along_axis(X, gx.zeros(3, 3, dtype=gx.i64), 0), ShapeError, "cannot broadcast"),
    (lambda: X.select(1, 7), ShapeError, "index 7"),
    (lambda: X.narrow(1, 3, 2), ShapeError, "has no 2 places from 3 on"),
    (lambda: X.narrow(1, 3, N), DTypeError, "narrow takes whole numbers"),
    (lambda: gx.embedding(N, X[0]), ShapeError, "rows"),
    (lambda: gx.embedding(N, X, padding_idx=5), ValueError, "padding_idx is 5"),
    (lambda: gx.embedding([5], X), ShapeError, "0..4: got 5"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments(number):
    wrong, kind, words = WRONG[number]
    check_refusal(wrong, words, kind=kind)


def test_a_computed_mask_is_told_to_choose():
    with pytest.raises(TraceError, match=r"gx\.where\(mask, x, other\)"):
        X[X > 0]


def test_tensors_do_not_change():
    with pytest.raises(TraceError, match=r"gx\.index_put"):
        X[0] = 1.0

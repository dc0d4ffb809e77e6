"""Products of vectors, matrices and stacks: NumPy's values, differences, symbolic sizes, one product for one matrix."""

from __future__ import annotations

import numpy as np
import pytest
from calls import DTYPES, check_slopes, compare, inputs, run
from refusals import check_refusal

import graphc as gx
from graphc.errors import ShapeError
from graphc.ir import ops
from graphc.ir.graph import reachable

B, T = gx.dim("B", max=6), gx.dim("T", max=5)
SHAPES = [
    ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (3,)), ((2, 3), (5, 3, 4)),
    ((3,), (5, 3, 4)), ((6, 5, 2, 3), (5, 3, 4)), ((6, 1, 2, 3), (5, 3, 4)), ((6, 5, 2, 3), (6, 1, 3, 4)),
    ((1, 2, 3), (5, 3, 4)), ((5, 2, 3), (1, 3, 4)), ((1, 1), (1, 1)), ((1,), (1,)), ((2, 40), (40, 33)),
    ((0, 3), (3, 4)), ((2, 3), (0, 3, 4)), ((2, 0), (0, 3)), ((0,), (0,)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype.kind != "b"], ids=str)
def test_matmul_is_numpys(dtype, rng):
    for shapes in SHAPES if dtype == np.float32 else SHAPES[5:10]:
        arrays = [rng.uniform(0.5, 4, shape).astype(dtype) for shape in shapes]
        compare({"matmul": (gx.matmul, np.matmul), "@": (lambda a, b: a @ b, np.matmul)}, *arrays)


def test_bools_are_counted():
    a = np.array([[True, True], [False, True]])
    assert run({"matmul": gx.matmul}, a, a)["matmul"][0].tolist() == [[1, 2], [0, 1]]


@pytest.mark.parametrize("shapes", SHAPES[:11], ids=str)
def test_slopes_of_matmul(shapes, rng):
    check_slopes({"matmul": gx.matmul}, *(rng.normal(size=tuple(min(n, 3) for n in shape)) for shape in shapes))


PRODUCTS = {
    "dot": (gx.dot, np.dot),
    "dot of stacks": (lambda a, b: gx.dot(a, b.transpose(1, 0, 2)), lambda a, b: np.dot(a, b.transpose(1, 0, 2))),
    "dot of vectors": (lambda a, b: gx.dot(a[0, 0], b[:, 0, 0]), lambda a, b: np.dot(a[0, 0], b[:, 0, 0])),
    "dot with a number": (lambda a, b: gx.dot(a, 2.0), lambda a, b: np.dot(a, 2.0)),
    "inner": (lambda a, b: gx.inner(a, b.mT), lambda a, b: np.inner(a, b.swapaxes(1, 2))),
    "outer": (gx.outer, np.outer),
    "kron": (lambda a, b: gx.kron(a[0], b[0]), lambda a, b: np.kron(a[0], b[0])),
    "kron of ranks": (lambda a, b: gx.kron(a[0, 0], b[0]), lambda a, b: np.kron(a[0, 0], b[0])),
    "tensordot": (lambda a, b: gx.tensordot(a, b, ((1, 2), (2, 1))), lambda a, b: np.tensordot(a, b, ((1, 2), (2, 1)))),
    "tensordot over one": (lambda a, b: gx.tensordot(a, b, (-1, 1)), lambda a, b: np.tensordot(a, b, (-1, 1))),
    "tensordot over two": (
        lambda a, b: gx.tensordot(a, b.movedim(2, 0)),
        lambda a, b: np.tensordot(a, np.moveaxis(b, 2, 0)),
    ),
    "tensordot over none": (
        lambda a, b: gx.tensordot(a[0, 0], b[0], dims=0),
        lambda a, b: np.tensordot(a[0, 0], b[0], 0),
    ),
}
EINSUM = [
    ("ij,jk", (2, 3), (3, 4)), ("ij,jk->ki", (2, 3), (3, 4)), ("ii->i", (3, 3)), ("ii", (3, 3)),
    ("bii->bi", (2, 3, 3)), ("iji->j", (3, 2, 3)), ("iii->i", (2, 2, 2)), ("ij->ji", (2, 3)), ("ij->", (2, 3)),
    ("i,j->ij", (2,), (3,)), ("i,i", (3,), (3,)), ("b i j , b j k -> b i k", (2, 3, 4), (2, 4, 5)),
    ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)), ("...ij,...jk->...ik", (6, 2, 3), (3, 4)),
    ("...ij,...jk", (6, 2, 3), (1, 3, 4)), ("bn,anm,bm->ba", (2, 3), (4, 3, 5), (2, 5)), ("ij,ij->i", (2, 3), (1, 3)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)), ("ba", (2, 3)), ("i...->...", (2, 3, 4)), ("...i->...i", (2, 3)),
    ("ab,b,a->", (2, 3), (3,), (2,)), ("abc,cd,ad->bd", (2, 3, 4), (4, 5), (2, 5)), (",ij->ij", (), (2, 3)),
    ("ii,jj->", (2, 2), (3, 3)), ("...,...->...", (2, 3), (3,)), ("Zb,ba", (2, 3), (3, 2)), ("ij,jk", (2, 0), (0, 3)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.int64], ids=str)
def test_products_are_numpys(dtype, rng):
    arrays = [rng.uniform(0.5, 4, shape).astype(dtype) for shape in ((2, 3, 4), (4, 4, 3))]
    functions = {name: both for name, both in PRODUCTS.items() if dtype == np.float32 or name != "dot with a number"}
    compare({name: both for name, both in functions.items() if name != "dot"}, *arrays)
    compare({"dot": PRODUCTS["dot"]}, arrays[0], arrays[1])


@pytest.mark.parametrize("dtype", [np.float32, np.int64], ids=str)
def test_einsum_is_numpys(dtype, rng):
    for equation, *shapes in EINSUM:
        arrays = [rng.uniform(0.5, 4, shape).astype(dtype) for shape in shapes]
        compare({equation: (lambda *t, e=equation: gx.einsum(e, *t), lambda *t, e=equation: np.einsum(e, *t))}, *arrays)


def test_einsum_with_lists(rng):
    calls = ((..., 1), (1, 2)), ((0, 1), (1, 2), (2, 0)), ((..., 1), (1, 2), (..., 2))
    both = {}
    for first, second, *result in calls:
        given = (list(second), *map(list, result))
        both[str((first, *given))] = tuple(
            lambda a, b, e=e, f=list(first), g=given: e(a, f, b, *g) for e in (gx.einsum, np.einsum)
        )
    compare(both, rng.normal(size=(2, 3)), rng.normal(size=(3, 4)))


def test_slopes_of_products(rng):
    functions = {name: ours for name, (ours, _) in PRODUCTS.items() if name != "dot with a number"}
    check_slopes(functions, rng.normal(size=(2, 3, 4)), rng.normal(size=(4, 4, 3)))


def test_slopes_of_einsum(rng):
    for equation, *shapes in EINSUM[:8] + EINSUM[13:18]:
        check_slopes(
            {equation: lambda *t, e=equation: gx.einsum(e, *t)},
            *(rng.normal(size=tuple(min(n, 3) for n in shape)) for shape in shapes),
        )


def test_symbolic_sizes(rng):
    def attention(e, matmul):
        def function(q, k, w):
            scores = e("bqd,bkd->bqk", q, k)
            return e("bqk,bkd->bqd", scores, k) + matmul(q, w) + e("bqd,de->bqe", q, w)

        return function

    for b, t in ((1, 1), (6, 5)):
        arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((b, t, 4), (b, t, 4), (4, 4))]
        types = [gx.f32[B, T, 4], gx.f32[B, T, 4], gx.f32[4, 4]]
        functions = {
            "attention": (attention(gx.einsum, gx.matmul), attention(np.einsum, np.matmul)),
            "inside": (
                lambda q, k, w: gx.einsum("bii->bi", gx.matmul(q, k.mT)),
                lambda q, k, w: np.einsum("bii->bi", q @ k.swapaxes(1, 2)),
            ),
            "linear": (lambda q, k, w: gx.linear(q, w, w[0]), lambda q, k, w: q @ w.T + w[0]),
        }
        compare(functions, *arrays, types=types)


@pytest.mark.parametrize("stack", [(), (7,), (B, T)])
def test_rows_times_one_matrix_are_one_product(stack):
    x, w = gx.input("x", gx.f32[(*stack, 5, 3)]), gx.input("w", gx.f32[3, 4])
    for product in (x @ w, gx.linear(x, w.T), gx.einsum("...i,ij->...j", x, w)):
        (found,) = [value for value in reachable((product.value,)) if value.op is ops.dot]
        assert len(found.shape) == 2
    slope = gx.grad((x @ w).sum(), w)
    graph = gx.function([x, w], slope).stages["expand_gradients"]
    assert all(len(value.shape) == 2 for value in graph.values() if value.op is ops.dot)


A, C = inputs([np.zeros((2, 3, 4), np.float32), np.zeros((4, 3, 5), np.float32)])
WRONG = [
    (lambda: gx.matmul(A, 2.0), ShapeError, "matmul of f32[2,3,4] and f32[]: a single number"),
    (lambda: A @ C, ShapeError, "the inner sizes 4 and 3 differ"),
    (lambda: gx.matmul(A, gx.zeros(3, 4, 2)), ShapeError, "stacks of 2 and 3 matrices do not broadcast"),
    (lambda: gx.mm(A, C), ShapeError, "mm of f32[2,3,4] and f32[4,3,5]: it takes two matrices"),
    (lambda: gx.mv(A, C), ShapeError, "a matrix and a vector"),
    (lambda: gx.bmm(A, C), ShapeError, "two stacks of as many matrices"),
    (lambda: gx.bmm(A, A[0]), ShapeError, "two stacks of"),
    (lambda: gx.dot(A, C), ShapeError, "summed over are [4] in one and [3] in the other"),
    (lambda: gx.inner(A, C), ShapeError, "[4] in one and [5]"),
    (lambda: gx.tensordot(A, C, ((1,), (2,))), ShapeError, "[3] in one and [5]"),
    (lambda: gx.tensordot(A, C, ((1, 2), (1,))), ShapeError, "does not name as many axes"),
    (lambda: gx.tensordot(A, C, (1,)), ShapeError, "does not name as many axes"),
    (lambda: gx.tensordot(A, C, 4), ShapeError, "no 4 axes to sum over"),
    (lambda: gx.tensordot(A, C, ((5,), (0,))), ShapeError, "axis 5 is outside"),
    (lambda: gx.tensordot(A, C, ((1, 1), (1, 1))), ShapeError, "name one twice"),
    (lambda: gx.einsum("ij,jk", A, C), ShapeError, "'ij' does not name the axes of"),
    (lambda: gx.einsum("abc,abd", A, C), ShapeError, "'a' is 2 and 4"),
    (lambda: gx.einsum("...a,...b", A, C), ShapeError, '"..." is 2 and 4'),
    (lambda: gx.einsum("ij", A, C), ValueError, "names 1 operands, got 2"),
    (lambda: gx.einsum("ij"), ValueError, "has no operands"),
    (lambda: gx.einsum("i j k-l", A), ValueError, "cannot read"),
    (lambda: gx.einsum("i.jk", A), ValueError, "cannot read"),
    (lambda: gx.einsum("ijk->ijz", A), ValueError, "'z' twice or not in an operand"),
    (lambda: gx.einsum("ijk->ii", A), ValueError, "'i' twice"),
    (lambda: gx.einsum("...k->k", A), ValueError, "not the axes"),
    (lambda: gx.einsum(A, [0, 77, 1]), ValueError, "lists of numbers 0..51"),
    (lambda: gx.linear(A, C), ShapeError, "linear of f32[2,3,4] and weight f32[4,3,5]: it takes [..., in] and [out, "),
    (lambda: gx.bilinear(A, C, A), ShapeError, "bilinear"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments(number):
    wrong, kind, words = WRONG[number]
    check_refusal(wrong, words, kind=kind)

"""Wrong arguments of functions of tensors, inputs, dims and parameters are refused on the user's line, in few words."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphc as gx
from graphc import ArgumentError, DTypeError, ShapeError, TraceError

X = gx.input("x", gx.f32["n", 4])
Y = gx.input("y", gx.f32[3, 4])
WEIGHT = gx.Parameter(np.zeros((2, 3)), "weight")

WRONG = {
    # inputs, dims, parameters, scalars
    "the type of input 'k' is <class 'numpy.float32'>": (ArgumentError, lambda: gx.input("k", np.float32)),
    "the type of input 'k' is 'f32'; it must be a tensor type": (ArgumentError, lambda: gx.input("k", "f32")),
    "the name of an input is 3": (ArgumentError, lambda: gx.input(3, gx.f32[3])),
    "the name of a dim is 3": (ArgumentError, lambda: gx.dim(3)),
    "the name of a dim is ''": (ArgumentError, lambda: gx.f32["", 3]),
    "the name of a dim is 'batch size'": (ArgumentError, lambda: gx.f32["batch size", 3]),
    "max of dim 'n' is 'a'": (ArgumentError, lambda: gx.dim("n", max="a")),
    "max of dim 'n' is 0": (ArgumentError, lambda: gx.dim("n", 0)),
    "True is no extent": (ShapeError, lambda: gx.f32[True]),
    "extents are below": (ShapeError, lambda: gx.zeros(10**30)),
    "the name of a parameter is False": (ArgumentError, lambda: gx.Parameter(np.zeros(3), False)),
    "requires_grad is 'no'": (ArgumentError, lambda: gx.Parameter(np.zeros(3), requires_grad="no")),
    "'float16x' is no element type": (DTypeError, lambda: gx.Parameter(np.zeros(3), dtype="float16x").dtype),
    "a parameter cannot have dtype <U3": (DTypeError, lambda: gx.Parameter("sum", dtype=gx.f32)),
    "the number of lr is '0.1'": (ArgumentError, lambda: gx.scalar("lr", "0.1")),
    "the number of lr is None": (ArgumentError, lambda: gx.scalar("lr", 0.1).set(None)),
    "None is no element type": (DTypeError, lambda: gx.Scalar("lr", 0.1, None)),
    "the number of fill_ is 'a'": (ArgumentError, lambda: WEIGHT.fill_("a")),
    "f32 cannot hold the number 1000": (DTypeError, lambda: WEIGHT.fill_(10**400)),
    "'cuda' is no element type": (DTypeError, lambda: WEIGHT.convert_("cuda")),
    "what a Tensor is made of is [1, 2]": (ArgumentError, lambda: gx.Tensor([1, 2])),
    "weight is f32[2,3]: slice indices": (ShapeError, lambda: WEIGHT.__setitem__(slice("a", None), 1)),
    # numbers of several
    "item() needs one number, f32[2,3] has 6": (ShapeError, lambda: WEIGHT.item()),
    "float() needs one number": (ShapeError, lambda: float(WEIGHT)),
    "a Python condition needs one number, bool[2,3] has 6": (ShapeError, lambda: bool(WEIGHT == 0)),
    "the numbers of f32[100000000000000] do not fit into memory": (ShapeError, lambda: gx.zeros(10**14).numpy()),
    # gradients
    "the loss is 1.0": (ArgumentError, lambda: gx.grad(1.0, WEIGHT)),
    "wrt is 'weight'": (ArgumentError, lambda: gx.grad(WEIGHT.sum(), "weight")),
    # dtypes
    "keepdims is <class 'numpy.float64'>": (ArgumentError, lambda: gx.sum(Y, 0, np.float64)),
    "sums and products are no bools": (DTypeError, lambda: gx.sum(Y, dtype=bool)),
    "sub(bool[3,4], bool[3,4]): dtype bool": (DTypeError, lambda: (Y > 0) - (Y > 1)),
    "cannot use NoneType of dtype object in a graph: None": (DTypeError, lambda: Y + None),
    # axes, shapes, diagonals
    "an axis is a whole number, not True": (ShapeError, lambda: Y.sum(True)),
    "axis 5 is outside of a tensor with 2 axes": (ShapeError, lambda: Y.size(5)),
    "cannot broadcast i64[2] to [3, 4]": (ShapeError, lambda: gx.full((3, 4), [1, 2])),
    "cannot broadcast f32[2] to [3, 4]": (ShapeError, lambda: gx.full_like(Y, [1, 2])),
    "cannot broadcast f32[3,4] to [5, 4]": (ShapeError, lambda: Y.expand(5, 4)),
    "axis -2 is n of at most 1024 in one and n of at most 8": (ShapeError, lambda: X + gx.zeros(gx.dim("n", 8), 4)),
    "cannot use object of dtype object": (DTypeError, lambda: Y.expand_as(object())),
    "Tensor(f32[]) is no extent": (ShapeError, lambda: Y.reshape(3, Y.sum())),
    "sizes is 5; it must be a list of sizes": (ArgumentError, lambda: gx.unflatten(Y, 1, 5)),
    "axes is gx.f32; it must be a number of axes": (ArgumentError, lambda: gx.tensordot(Y, Y, gx.f32)),
    "diagonal is 2.5": (ArgumentError, lambda: gx.tril(Y, 2.5)),
    "k is 'a'": (ArgumentError, lambda: gx.triu(Y, k="a")),
    "offset is None": (ArgumentError, lambda: gx.diagonal(Y, None)),
    "minlength=10": (ShapeError, lambda: gx.bincount(Y.long()[0], minlength=10**30)),
    # settings
    "rounding_mode is 'up'; it must be one of None, 'trunc', 'floor'": (
        ArgumentError,
        lambda: gx.div(Y, 2, rounding_mode="up"),
    ),
    "decimals is 0.5": (ArgumentError, lambda: gx.round(Y, 0.5)),
    "eps is 'small'": (ArgumentError, lambda: gx.logit(Y, "small")),
    "p is 'nuc'": (ArgumentError, lambda: gx.norm(Y, "nuc")),
    "p is [2]": (ArgumentError, lambda: gx.norm(Y, [2])),
    "correction is 'one'": (ArgumentError, lambda: gx.std(Y, correction="one")),
    "ddof is nan": (ArgumentError, lambda: gx.var(Y, ddof=math.nan)),
    "unbiased is 0": (ArgumentError, lambda: Y.var(unbiased=0)),
    "keepdim is 1": (ArgumentError, lambda: gx.argmax(Y, 1, keepdim=1)),
    "descending is 'yes'": (ArgumentError, lambda: Y.sort(descending="yes")),
    "largest is 0": (ArgumentError, lambda: gx.topk(Y, 2, largest=0)),
    "q is 1.5": (ArgumentError, lambda: gx.quantile(Y, 1.5)),
    "interpolation is 'cubic'": (ArgumentError, lambda: gx.quantile(Y, 0.5, interpolation="cubic")),
    "side is 'middle'": (ArgumentError, lambda: gx.searchsorted(Y[0], Y, side="middle")),
    "n is 1.0": (ArgumentError, lambda: gx.diff(Y, 1.0)),
    "chunks is 2.0": (ArgumentError, lambda: gx.chunk(Y, 2.0)),
    "equal_nan is None": (ArgumentError, lambda: gx.isclose(Y, Y, equal_nan=None)),
    "accumulate is 1": (ArgumentError, lambda: gx.index_put(Y, 0, 1.0, accumulate=1)),
}


def refused(kind, words, call):
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    assert words in error.message
    assert error.origin.file == __file__
    assert str(error).count("\n") < 8
    return error


@pytest.mark.parametrize("words", WRONG)
def test_wrong_arguments(words):
    refused(WRONG[words][0], words, WRONG[words][1])


def unpack(x):
    _, _ = x


@pytest.mark.parametrize("make", [lambda: gx.max(X, 1), lambda: X.min(dim=-1, keepdim=True), lambda: (Y > 0).max()])
def test_unpacking_a_maximum_says_where_its_places_are(make):
    error = refused(TraceError, "one by one", lambda: unpack(make()))
    assert "gx.argmax(x, dim)" in error.details[0]


def test_a_tensor_has_no_values_and_indices_of_its_own():
    found = Y.max(1)
    assert not hasattr(found, "values") and not hasattr(found, "indices")
    with pytest.raises(AttributeError, match=r"gx\.argmax\(x, dim\)"):
        found.indices  # noqa: B018
    assert gx.sort(Y).indices.dtype == gx.i64


def test_dims_without_an_input():
    small, other = gx.input("small", gx.f32[gx.dim("n", 8), 4]), gx.input("other", gx.f32["m"])
    words = "no input of function tells the size of m in f32[m]"
    refused(ShapeError, words, lambda: gx.function([X], X.sum() + gx.zeros("m").sum()))
    words = "no input of function tells the size of m in f32[]"
    refused(ShapeError, words, lambda: gx.function([X], X.sum() + other.shape[0]))
    words = "there it has max=8, here 1024"
    refused(ShapeError, words, lambda: gx.function([small], small.sum() + gx.zeros("n").sum()))
    words = "inputs of function have a dim 'n' of max=1024 and one of max=8"
    refused(ShapeError, words, lambda: gx.function([X, small], X.sum() + small.sum()))


@pytest.mark.parametrize("dtype", [gx.f64, np.float64, np.dtype("f8"), "float64", float, gx.zeros(1, dtype=gx.f64)])
def test_every_spelling_of_a_dtype(dtype):
    assert gx.Parameter([1, 2], dtype=dtype).dtype == gx.f64
    assert gx.Scalar("number", 1, dtype).dtype == gx.f64
    assert gx.Parameter([1, 2], dtype=gx.f32).convert_(dtype).dtype == gx.f64
    assert Y.to(dtype).dtype == gx.sum(Y, dtype=dtype).dtype == gx.zeros(2, dtype=dtype).dtype == gx.f64


def test_shapes_may_be_arrays():
    assert Y.reshape(np.array([4, 3])).shape == gx.broadcast_to(gx.zeros(3), np.array([4, 3])).shape == (4, 3)

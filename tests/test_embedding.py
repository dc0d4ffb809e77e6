"""Embedding: rows looked up, their gradients summed where an index occurs twice, indices checked."""

from __future__ import annotations

import numpy as np
import pytest
from refusals import check_refusal

import graphc as gx
from graphc import functional as F
from graphc import nn, optim
from graphc.backends import reference
from graphc.errors import ArgumentError, DTypeError, LabelError, ShapeError
from graphc.ir import ops
from graphc.ir.passes import run_passes

BATCH = gx.dim("batch", max=16)
INDICES = np.array([[1, 0, 3, 1], [4, 4, 1, 2], [0, 1, 1, 3]])


def table(rows, width, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def compiled(layer):
    """(rows, gradient of a weighted sum of them) for indices and weights."""
    x = gx.input("x", gx.i64[BATCH, 4])
    weights = gx.input("weights", gx.f32[BATCH, 4, layer.embedding_dim])
    rows = layer(x)
    return gx.function([x, weights], [rows, gx.grad((rows * weights).sum(), layer.weight)])


def expected_gradient(layer, weights):
    found = np.zeros(layer.weight.shape)
    np.add.at(found, INDICES, weights)
    if layer.padding_idx is not None:
        found[layer.padding_idx] = 0
    return found


@pytest.mark.parametrize("width", [1, 3, 20])
@pytest.mark.parametrize("padding_idx", [None, 1, -2])
def test_rows_and_gradients(width, padding_idx):
    layer = nn.Embedding(5, width, padding_idx)
    layer.load_state_dict({"weight": table(5, width)})
    weights = np.random.default_rng(1).normal(size=(3, 4, width)).astype(np.float32)
    step = compiled(layer)
    rows, gradient = step(INDICES, weights)
    np.testing.assert_array_equal(rows, table(5, width)[INDICES])
    np.testing.assert_allclose(gradient, expected_gradient(layer, weights), 1e-5, 1e-5)
    held = {"x": INDICES, "weights": weights} | {name: p.numpy() for name, p in step.parameters.items()}
    meant = reference.run(run_passes(step.traced), held)
    np.testing.assert_array_equal(meant["result_0"], rows)
    np.testing.assert_allclose(meant["result_1"], gradient, 1e-5, 1e-5)
    single = step(INDICES[1:2], weights[1:2])
    np.testing.assert_array_equal(single[0], rows[1:2])


@pytest.mark.parametrize("dtype", [gx.i32, gx.u8])
def test_indices_of_any_integers(dtype):
    layer = nn.Embedding(5, 3, dtype=gx.f64)
    x = gx.input("x", dtype[2, 4])
    found = gx.function([x], layer(x))(INDICES[:2].astype(dtype.numpy))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, layer.weight.numpy()[INDICES[:2]])


def products_of(step):
    """The rows of every matrix product of a step."""
    return [value.shape[0] for value in run_passes(step.traced).values() if value.op is ops.dot]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2)])
@pytest.mark.parametrize("biased", [False, True])
def test_a_product_of_many_rows_is_one_of_the_table(order, biased):
    """16 places of 4 numbers look up 5 rows: products forward and backward have 5 rows, or 5 to add up."""
    rows, w, b = table(5, 3), table(7, 3, seed=1), table(1, 7, seed=2)[0]
    x, seen = gx.input("x", gx.i64[BATCH, 4]), gx.input("seen", gx.f32[BATCH, 4, 7])
    given = [gx.Parameter(each) for each in (rows, w, b)]
    out = F.linear(F.embedding(x, given[0]).permute(*order), given[1], given[2] if biased else None).permute(*order)
    step = gx.function([x, seen], [out, *gx.grad((out * seen).sum(), given[: 2 + biased])])
    weights = np.random.default_rng(3).normal(size=(3, 4, 7)).astype(np.float32)
    found = step(INDICES, weights)
    gradient = np.zeros((5, 3))
    np.add.at(gradient, INDICES, weights @ w)
    expected = [rows[INDICES] @ w.T + b * biased, gradient, np.tensordot(weights, rows[INDICES], ((0, 1), (0, 1)))]
    for got, wanted in zip(found, [*expected, weights.sum((0, 1))], strict=False):
        np.testing.assert_allclose(got, wanted, 1e-5, 1e-5)
    assert sorted(products_of(step)) == [5, 5, 7]


def test_a_padding_row_of_such_a_table_has_no_gradient():
    layer, x = nn.Embedding(5, 3, padding_idx=1), gx.input("x", gx.i64[BATCH, 4])
    w = gx.Parameter(table(7, 3, seed=1))
    step = gx.function([x], gx.grad(F.linear(layer(x), w).sum(), layer.weight))
    found = expected_gradient(layer, np.broadcast_to(w.numpy().sum(0), (3, 4, 3)))
    np.testing.assert_allclose(step(INDICES), found, 1e-5, 1e-5)
    assert 5 in products_of(step) and BATCH not in products_of(step)


def test_a_gradient_by_looked_up_rows_keeps_their_product():
    x, w = gx.input("x", gx.i64[BATCH, 4]), gx.Parameter(table(7, 3, seed=1))
    rows = F.embedding(x, gx.Parameter(table(5, 3)))
    step = gx.function([x], gx.grad((F.linear(rows, w) ** 2).sum(), rows))
    found = table(5, 3)[INDICES]
    np.testing.assert_allclose(step(INDICES), 2 * found @ w.numpy().T @ w.numpy(), 1e-5, 1e-5)


def test_initial_rows_are_normal_and_padding_is_zero():
    gx.manual_seed(0)
    layer = nn.Embedding(200, 100, padding_idx=-1)
    rows = layer.weight.numpy()
    assert not rows[199].any() and rows[:199].all()
    assert abs(rows[:199].mean()) < 0.05 and abs(rows[:199].std() - 1) < 0.05
    assert list(layer.state_dict()) == ["weight"]
    assert repr(layer) == "Embedding(200, 100, padding_idx=199)"
    assert repr(nn.Embedding(4, 2)) == "Embedding(4, 2)"


def test_given_rows():
    rows = table(4, 3)
    layer = nn.Embedding.from_pretrained(rows)
    assert not layer.weight.requires_grad
    assert nn.Embedding.from_pretrained(rows, freeze=False, padding_idx=0).weight.requires_grad
    np.testing.assert_array_equal(layer(np.array([2, 0])).numpy(), rows[[2, 0]])


def test_a_step_updates_the_rows_it_looked_up():
    layer = nn.Embedding(6, 3, padding_idx=0)
    before = layer.weight.numpy()
    optimizer = optim.SGD(layer.parameters(), lr=0.5)

    @gx.step
    def step(x: gx.i64[BATCH]):
        optimizer.zero_grad()
        layer(x).sum().backward()
        optimizer.step()

    step([0, 2, 5, 5])
    before[[2, 5]] -= np.array([[0.5], [1.0]], np.float32)
    np.testing.assert_allclose(layer.weight.numpy(), before, 1e-6)


@pytest.mark.parametrize("wrong", [5, -1, 2**40])
def test_indices_outside_are_found_before_anything_is_updated(wrong):
    layer = nn.Embedding(5, 3)
    optimizer = optim.SGD(layer.parameters(), lr=0.5)

    @gx.step
    def step(x: gx.i64[BATCH]):
        layer(x).sum().backward()
        optimizer.step()

    before = layer.weight.numpy()
    with pytest.raises(LabelError, match=rf"0\.\.4: got {wrong} at index 2"):
        step([0, 4, wrong])
    np.testing.assert_array_equal(layer.weight.numpy(), before)


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        (lambda: nn.Embedding(0, 3), ArgumentError, "num_embeddings is 0"),
        (lambda: nn.Embedding(4, 3, 4), ShapeError, "padding_idx=4 is outside of 4 embeddings"),
        (lambda: nn.Embedding.from_pretrained(np.zeros(3)), ShapeError, "a matrix of rows, got f32[3]"),
        (lambda: nn.Embedding(4, 3)(gx.input("x", gx.f32["batch"])), DTypeError, "integer"),
        (lambda: F.embedding(np.array([1]), gx.zeros(3)), ShapeError, "[count, width]"),
        (lambda: F.embedding(np.array([7]), gx.zeros(4, 3)), ShapeError, "got 7"),
    ],
)
def test_wrong_arguments(wrong, kind, words):
    check_refusal(wrong, words, kind=kind)

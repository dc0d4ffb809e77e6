"""The functions as one room: their names, and those that change shapes or multiply matrices."""

from __future__ import annotations

from collections import Counter

import numpy as np
from calls import check_slopes, compare, run

import graphc as gx
from graphc import functional as F

SHAPES = {
    "outer": (lambda x: F.outer(x, x), lambda x: np.outer(x, x)),
    "dot": (lambda x: F.dot(x, F.transpose(x)), lambda x: x @ x.T),
    "dot with a number": (lambda x: F.dot(x, 2.0), lambda x: x * 2),
    "matmul": (lambda x: F.matmul(F.transpose(x, 0, 1), x), lambda x: x.T @ x),
    "reshape": (lambda x: F.reshape(x, -1, 2), lambda x: x.reshape(-1, 2)),
    "flatten": (F.flatten, np.ravel),
    "unsqueeze": (lambda x: F.unsqueeze(x, 1), lambda x: x[:, None]),
    "squeeze": (lambda x: F.squeeze(F.reshape(x, (4, 1, 6)), dim=1), lambda x: x),
    "broadcast_to": (lambda x: F.broadcast_to(x, 3, 4, 6), lambda x: np.broadcast_to(x, (3, 4, 6))),
    "transpose axes": (lambda x: F.transpose(F.unsqueeze(x, 0), (2, 0, 1)), lambda x: x[None].transpose(2, 0, 1)),
}


def test_shapes_and_products_are_numpys(rng):
    compare(SHAPES, rng.uniform(-2, 2, (4, 6)).astype(np.float32))
    check_slopes({name: pair[0] for name, pair in SHAPES.items()}, rng.uniform(-2, 2, (4, 6)))


def test_no_gradient_through_stop_gradient(rng):
    array = rng.uniform(-1, 1, 3).astype(np.float32)
    found = run({"slope": lambda x: gx.grad((F.stop_gradient(x) * x).sum(), x)}, array)
    np.testing.assert_array_equal(found["slope"], (array, array))


def test_every_public_name_is_exported_once():
    assert len(F.__all__) > 200
    assert [name for name, count in Counter(F.__all__).items() if count > 1] == []
    assert [name for name in F.__all__ if getattr(gx, name, None) is not getattr(F, name)] == []

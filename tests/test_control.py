"""Loops and branches as a user writes them: against NumPy, native against reference, gradients against differences."""

from __future__ import annotations

from collections import namedtuple

import calls
import numpy as np
import pytest

import graphc as gx

Pair = namedtuple("Pair", ["sum", "product"])
TIME, BATCH = gx.dim("time", max=7), gx.dim("batch", max=5)


def numbers(rng, *shape):
    return rng.normal(size=shape)


def plus_cosine(values):
    return (values * 1.5 + gx.cos(values)).sum()


# -- scan


def test_running_sums_and_products_in_any_nest(rng):
    """States in a named tuple and a list, slices in a dictionary, stacks in a tuple with None."""

    def step(state, row):
        pair, (count,) = state
        new = Pair(pair.sum + row["x"], pair.product * row["y"]), [count + 1]
        return new, (new[0].sum, {"product": new[0].product, "none": None}, None, count)

    def forward(x, y):
        start = Pair(gx.zeros(3, dtype=gx.f64), gx.ones(3, dtype=gx.f64)), [gx.full((), 0, dtype=gx.i64)]
        return gx.scan(step, start, {"x": x, "y": y})

    x, y = numbers(rng, 4, 3), numbers(rng, 4, 3)
    given = calls.inputs([x, y])
    (last, count), (sums, products, none, counts) = forward(*given)
    assert isinstance(last, Pair) and isinstance(count, list) and none is None and products["none"] is None
    calls.compare(
        {
            "last sum": (lambda x, y: forward(x, y)[0][0].sum, lambda x, y: x.sum(0)),
            "last product": (lambda x, y: forward(x, y)[0][0].product, lambda x, y: y.prod(0)),
            "count": (lambda x, y: forward(x, y)[0][1][0], lambda x, y: np.int64(4)),
            "sums": (lambda x, y: forward(x, y)[1][0], lambda x, y: x.cumsum(0)),
            "products": (lambda x, y: forward(x, y)[1][1]["product"], lambda x, y: y.cumprod(0)),
            "counts": (lambda x, y: forward(x, y)[1][3], lambda x, y: np.arange(4)),
        },
        x,
        y,
    )
    calls.check_slopes({"products": lambda x, y: forward(x, y)[1][0] * forward(x, y)[1][1]["product"]}, x, y)


def test_reverse_keeps_the_order_of_the_slices(rng):
    def forward(x):
        return gx.scan(lambda total, row: (total + row, total * row), gx.zeros(2, dtype=gx.f64), x, reverse=True)

    def wanted(x):
        after = np.concatenate([np.cumsum(x[::-1], axis=0)[-2::-1], np.zeros((1, 2))])
        return after * x

    x = numbers(rng, 5, 2)
    calls.compare(
        {"last": (lambda x: forward(x)[0], lambda x: x.sum(0)), "stack": (lambda x: forward(x)[1], wanted)}, x
    )
    calls.check_slopes({"stack": lambda x: forward(x)[1] * gx.exp(forward(x)[0])}, x)


@pytest.mark.parametrize("length", [0, 1, 6])
def test_a_length_without_slices(length, rng):
    """The logistic map: x -> r x (1 - x)."""

    def forward(x, r):
        return gx.scan(lambda x, none: (r * x * (1 - x), x), x, length=length)[1]

    def wanted(x, r):
        found = np.empty((length, *x.shape))
        for place in range(length):
            found[place], x = x, r * x * (1 - x)
        return found

    x, r = rng.uniform(0.2, 0.8, 3), np.array(3.1)
    calls.compare({"map": (forward, wanted)}, x, r)
    calls.check_slopes({"map": forward}, x, r)


def test_symbolic_length_and_batch(rng):
    """Exponential smoothing over some of the steps and rows that the bounds allow."""

    def forward(x, keep):
        return gx.scan(lambda h, row: (keep * h + (1 - keep) * row,) * 2, gx.zeros(x.shape[1], dtype=gx.f64), x)

    def wanted(x, keep):
        h, found = np.zeros(x.shape[1]), []
        for row in x:
            h = keep * h + (1 - keep) * row
            found.append(h)
        return h, np.array(found).reshape(x.shape)

    def slopes(x, keep):
        return (1 - keep) * keep ** np.arange(len(x))[::-1, None] * np.ones(x.shape)

    types = [gx.f64[TIME, BATCH], gx.f64[()]]
    for shape in ((7, 5), (1, 1), (3, 2)):
        x, keep = numbers(rng, *shape), np.array(0.7)
        calls.compare(
            {
                "last": (lambda x, keep: forward(x, keep)[0], lambda x, keep: wanted(x, keep)[0]),
                "all": (lambda x, keep: forward(x, keep)[1], lambda x, keep: wanted(x, keep)[1]),
                "slope": (lambda x, keep: gx.grad(forward(x, keep)[0].sum(), x), lambda x, keep: slopes(x, keep)),
            },
            x,
            keep,
            types=types,
        )


class TestCaptured:
    """What the function takes from outside."""

    def test_parameters_and_computed_values(self, rng):
        """h = tanh(h w + x u + exp(b)): slopes by all of it, the product with u outside of the loop."""

        def forward(x, w, u, b):
            inputs, offset = x @ u, gx.exp(b)

            def step(h, given):
                h = gx.tanh(h @ w + given + offset)
                return h, h * h

            return gx.scan(step, gx.zeros(2, 3, dtype=gx.f64), inputs)[1]

        shapes = (4, 2, 2), (3, 3), (2, 3), (3,)
        arrays = [numbers(rng, *shape) for shape in shapes]

        def wanted(x, w, u, b):
            h, found = np.zeros((2, 3)), []
            for row in x:
                h = np.tanh(h @ w + row @ u + np.exp(b))
                found.append(h * h)
            return np.array(found)

        calls.compare({"h": (forward, wanted)}, *arrays)
        calls.check_slopes({"h": forward}, *arrays)
        given = calls.inputs(arrays)
        slopes = gx.grad(plus_cosine(forward(*given)), given)
        for native, meant in calls.run({str(n): lambda *_, n=n: slopes[n] for n in range(4)}, *arrays).values():
            np.testing.assert_allclose(native, meant, 1e-10, 1e-12)

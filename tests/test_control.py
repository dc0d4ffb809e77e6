"""Loops and branches as a user writes them: against NumPy, native against reference, gradients against differences."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import calls
import numpy as np
import pytest

import graphc as gx

Pair = namedtuple("Pair", ["sum", "product"])
TIME, BATCH = gx.dim("time", max=7), gx.dim("batch", max=5)


def zeros(*shape):
    return gx.zeros(*shape, dtype=gx.f64)


def check(function, *arrays, wanted=None):
    """A function's value is NumPy's, its gradients are differences; native and reference give the same of all."""

    def gradient(number):
        return lambda *given: gx.grad((1.5 * function(*given) + gx.cos(function(*given))).sum(), given[number])

    calls.check_slopes({"value": function}, *arrays)
    functions = {"value": function} | {f"gradient {number}": gradient(number) for number in range(len(arrays))}
    found = calls.run(functions, *arrays)
    for name, (native, meant) in found.items():
        np.testing.assert_allclose(native, meant, 1e-10, 1e-12, err_msg=name)
    if wanted is not None:
        np.testing.assert_allclose(found["value"][0], wanted(*arrays), 1e-10, 1e-12)


# -- scan


def test_states_slices_and_stacks_in_any_nest(rng):
    """States in a named tuple and a list, slices in a dictionary, stacks in tuples with None."""

    def step(state, row):
        pair, (count,) = state
        new = Pair(pair.sum + row["x"], pair.product * row["y"])
        return (new, [count + 1]), (new.sum, {"product": new.product, "none": None}, None, count)

    def forward(x, y):
        start = Pair(zeros(3), gx.ones(3, dtype=gx.f64)), [gx.full((), 0)]
        return gx.scan(step, start, {"x": x, "y": y})

    x, y = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    (last, count), (_, products, none, _) = forward(*calls.inputs([x, y]))
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
    check(lambda x, y: forward(x, y)[1][0] * forward(x, y)[1][1]["product"], x, y)


def test_reverse_keeps_the_order_of_the_slices(rng):
    def forward(x):
        last, stack = gx.scan(lambda total, row: (total + row, total * row), zeros(2), x, reverse=True)
        return last * stack

    def wanted(x):
        after = np.concatenate([np.cumsum(x[::-1], axis=0)[-2::-1], np.zeros((1, 2))])
        return x.sum(0) * after * x

    check(forward, rng.normal(size=(5, 2)), wanted=wanted)


@pytest.mark.parametrize("length", [0, 1, 6])
def test_a_length_without_slices(length, rng):
    """The logistic map: x -> r x (1 - x)."""

    def wanted(x, r):
        found = np.empty((length, *x.shape))
        for place in range(length):
            found[place], x = x, r * x * (1 - x)
        return found

    def forward(x, r):
        return gx.scan(lambda x, _: (r * x * (1 - x), x), x, length=length)[1]

    check(forward, rng.uniform(0.2, 0.8, 3), np.array(3.1), wanted=wanted)


def test_slices_without_a_state(rng):
    state, _ = gx.scan(lambda none, row: (none, row), None, gx.zeros(3, 2))
    assert state is None
    check(lambda x, y: gx.scan(lambda none, row: (none, (row * y).sum()), None, x)[1], *rng.normal(size=(2, 3, 3)))


def test_symbolic_length_and_batch(rng):
    """Exponential smoothing, for some of the numbers of steps and rows that the bounds allow."""

    def smoothed(x, keep):
        return gx.scan(lambda h, row: (keep * h + (1 - keep) * row,) * 2, zeros(x.shape[1]), x)

    def values(x, keep):
        h, found = np.zeros(x.shape[1]), []
        for row in x:
            h = keep * h + (1 - keep) * row
            found.append(h)
        return np.array(found)

    def slopes(x, keep):
        return (1 - keep) * keep ** np.arange(len(x))[::-1, None] * np.ones(x.shape)

    functions = {
        "last": (lambda x, keep: smoothed(x, keep)[0], lambda x, keep: values(x, keep)[-1]),
        "all": (lambda x, keep: smoothed(x, keep)[1], values),
        "slopes": (lambda x, keep: gx.grad(smoothed(x, keep)[0].sum(), x), slopes),
        "steps": (lambda x, keep: gx.scan(lambda n, _: (n + 1, None), 0, length=x.shape[0])[0], lambda x, _: len(x)),
    }
    for shape in ((7, 5), (1, 1), (3, 2)):
        calls.compare(functions, rng.normal(size=shape), np.array(0.7), types=[gx.f64[TIME, BATCH], gx.f64[()]])


def test_no_rows():
    check(lambda x: gx.scan(lambda h, row: (gx.sin(h + row),) * 2, zeros(0), x)[1], np.zeros((3, 0)))


def test_what_the_function_takes_from_outside(rng):
    """h = tanh(h w + x u + exp(b)), with w used before and after the loop too."""

    def forward(x, w, u, b):
        inputs, offset = x @ u, gx.exp(b)

        def step(h, given):
            h = gx.tanh(h @ w + given + offset)
            return h, h * h

        return gx.scan(step, zeros(2, 3) + w.sum(0), inputs)[1] @ w

    def wanted(x, w, u, b):
        h, found = np.zeros((2, 3)) + w.sum(0), []
        for row in x:
            h = np.tanh(h @ w + row @ u + np.exp(b))
            found.append(h * h)
        return np.array(found) @ w

    check(forward, *(rng.normal(size=shape) for shape in ((4, 2, 2), (3, 3), (2, 3), (3,))), wanted=wanted)


def test_parameters_of_a_traced_step():
    """Three steps of SGD on the weight and the start of a recurrence, with its gradients by hand."""
    w, start = gx.Parameter(0.5, dtype=gx.f64), gx.Parameter(2.0, dtype=gx.f64)

    @gx.step
    def step(x: gx.f64[TIME]):
        last, _ = gx.scan(lambda h, number: (w * h + number, None), start, x)
        last.backward()
        with gx.no_grad():
            for p in (w, start):
                p -= 0.1 * p.grad
        return last

    a, h = 0.5, 2.0
    for x in (np.array([1.0, 2.0, 3.0]), np.array([4.0]), np.array([-1.0, 0.5])):
        states, slope = [h], 0.0
        for number in x:
            slope = states[-1] + a * slope
            states.append(a * states[-1] + number)
        assert step(x) == pytest.approx(states[-1], rel=1e-12)
        a, h = a - 0.1 * slope, h - 0.1 * a ** len(x)  # both of the old a
        assert (w.numpy(), start.numpy()) == (pytest.approx(a, rel=1e-12), pytest.approx(h, rel=1e-12))


def test_gradients_inside(rng):
    """Descent on a function, learning rate and all differentiated; and the gradient by what comes from outside."""

    def descent(x, rate):
        def step(x, _):
            loss = (gx.sin(x) * x).sum()
            return x - rate * gx.grad(loss, x), loss

        return gx.scan(step, x, length=5)[1]

    def by_captured(x, w):
        return gx.scan(lambda h, row: (h + gx.grad((gx.sin(w * row) * h).sum(), w), h), w, x)[1]

    check(descent, rng.normal(size=3), np.array(0.1))
    check(by_captured, rng.normal(size=(4, 3)), rng.normal(size=3))


def test_gradient_of_a_gradient(rng):
    def slope(x, w):
        last, stack = gx.scan(lambda h, row: (gx.tanh(h * w + row), h * h), zeros(3), x)
        return gx.grad((last * stack).sum(), w)

    check(slope, rng.normal(size=(4, 3)), rng.normal(size=3))


def test_scan_in_scan(rng):
    """States, slices and captured values on both levels."""

    def forward(x, w, b):
        def outer(h, block):
            def inner(s, row):
                s = gx.tanh(s * b + row * h)
                return s, s * h

            s, stack = gx.scan(inner, h * b, block)
            return gx.tanh(s @ w), stack.sum(0) + b

        last, stack = gx.scan(outer, gx.ones(3, dtype=gx.f64), x)
        return stack * last

    def wanted(x, w, b):
        h, found = np.ones(3), []
        for block in x:
            s, total = h * b, 0
            for row in block:
                s = np.tanh(s * b + row * h)
                total = total + s * h
            h = np.tanh(s @ w)
            found.append(total + b)
        return np.array(found) * h

    check(forward, *(rng.normal(size=shape) for shape in ((2, 4, 3), (3, 3), (3,))), wanted=wanted)


def test_states_of_integers_and_bools(rng):
    """The running maximum, where it was, whether there was one, and a sum of bytes that goes round."""

    def forward(x, bytes_):
        def step(state, row):
            best, place, number, found, total = state
            better = row["x"] > best
            new = gx.maximum(best, row["x"]), gx.where(better, number, place), number + 1, found | better
            return (*new, total + row["bytes"]), place

        none = gx.zeros(3, dtype=gx.i32), gx.full((), 0, dtype=gx.i32), gx.zeros(3, dtype=gx.bool_)
        start = (gx.full(3, 0.5), *none, gx.zeros(3, dtype=gx.u8))
        return gx.scan(step, start, {"x": x, "bytes": bytes_})

    arrays = rng.normal(size=(5, 3)).astype(np.float32), rng.integers(0, 256, (5, 3)).astype(np.uint8)
    found = calls.run(
        {str(number): lambda *given, number=number: forward(*given)[0][number] for number in range(5)}
        | {"stack": lambda *given: forward(*given)[1], "slope": lambda *g: gx.grad(forward(*g)[0][0].sum(), g[0])},
        *arrays,
    )
    for native, meant in found.values():
        np.testing.assert_array_equal(native, meant)
    x, bytes_ = arrays
    best = np.maximum(x.max(0), np.float32(0.5))
    place = np.where(x.max(0) > 0.5, x.argmax(0), 0)
    wanted = (best, place, 5, x.max(0) > 0.5, bytes_.sum(0, dtype=np.uint8))
    for number, each in enumerate(wanted):
        np.testing.assert_array_equal(found[str(number)][0], each)
    np.testing.assert_array_equal(found["slope"][0], (x == best) * 1.0)
    assert found["1"][0].dtype == found["stack"][0].dtype == np.int32 and found["4"][0].dtype == np.uint8


# -- cond


def test_only_the_branch_taken_runs():
    """A branch that would give NaN leaves the gradient alone, and one whose labels are wrong says nothing."""

    def forward(x):
        return gx.cond(x.min() > 0, lambda: gx.log(x) / x, lambda: x * x)

    check(forward, np.array([0.0, 1.0, -2.0]), wanted=lambda x: x * x)
    check(forward, np.array([1.0, 2.0]), wanted=lambda x: np.log(x) / x)

    scores, labels = gx.input("scores", gx.f32[2, 3]), gx.input("labels", gx.i64[2])
    loss = gx.cond(scores.sum() > 0, lambda: gx.cross_entropy(scores, labels), lambda: scores.sum())
    compiled = gx.function([scores, labels], loss)
    ones = np.ones((2, 3), np.float32)
    assert compiled(-ones, np.array([0, 3])) == -6
    assert compiled(ones, np.array([0, 2])) == pytest.approx(np.log(3))
    with pytest.raises(gx.LabelError):
        compiled(ones, np.array([0, 3]))


@pytest.mark.parametrize("sign", [1, -1])
def test_branches_of_any_nest(sign, rng):
    """Operands and captured values; predicates of bools, numbers and Python."""

    def forward(x, w):
        def first(pair):
            return {"a": pair[0] * w, "b": (pair[1], None, w)}

        def second(pair):
            return {"a": gx.sin(pair[1]), "b": (pair[0] * pair[1], None, 2 * w)}

        found = gx.cond(x.sum() > 0, first, second, (x, w))
        assert found["b"][1] is None
        return found["a"] * found["b"][0] + found["b"][2]

    def wanted(x, w):
        return x * w * w + w if x.sum() > 0 else np.sin(w) * (x * w) + 2 * w

    x, w = sign * np.array([1.0, -0.5, 2.0]), rng.normal(size=3)
    check(forward, x, w, wanted=wanted)
    check(lambda x, w: gx.grad((forward(x, w) ** 3).sum(), w), x, w)
    first, second = (np.exp, np.sin) if sign > 0 else (np.sin, np.exp)
    calls.compare(
        {
            "one element": (lambda x: gx.cond(x[:1] > 0, gx.exp, gx.sin, x), first),
            "number": (lambda x: gx.cond(x.sum() - 2.5, gx.exp, gx.sin, x), second),
            "Python": (lambda x: gx.cond(sign > 0, lambda: gx.exp(x), lambda: gx.sin(x)), first),
            "constants": (lambda x: gx.cond(x.sum() > 0, lambda: 1, lambda: -1), lambda x: sign),
        },
        x,
    )


def test_cond_in_scan_and_scan_in_cond(rng):
    """Branches by the slice and by a state of integers; a loop that runs only if it is wanted."""

    def stepwise(x, w):
        def step(state, row):
            h, number = state
            h = gx.cond(row.sum() > 0, lambda h: h * w, lambda h: gx.sin(h + row), h)
            return gx.cond(number % 3 == 1, lambda: (h * h, number + 2), lambda: (h, number + 1)), h

        return gx.scan(step, (w, 0), x)[1]

    def wanted(x, w):
        h, number, found = w, 0, []
        for row in x:
            h = h * w if row.sum() > 0 else np.sin(h + row)
            found.append(h)
            h, number = (h * h, number + 2) if number % 3 == 1 else (h, number + 1)
        return np.array(found)

    def at_once(x, w):
        return gx.cond(x.sum() > 0, lambda: gx.scan(lambda h, row: (h * w + row, None), w, x)[0], lambda: gx.exp(w))

    x, w = rng.normal(size=(6, 3)), rng.normal(size=3)
    check(stepwise, x, w, wanted=wanted)
    check(at_once, abs(x), w)
    check(at_once, -abs(x), w, wanted=lambda x, w: np.exp(w))


def test_random_numbers_of_a_branch():
    """Each draw is one of its own, in every call anew."""
    x = gx.input("x", gx.f32[()])
    compiled = gx.function([x], [gx.cond(x > 0, lambda: gx.rand(4), lambda: gx.rand(4)), gx.rand(4)])
    draws = np.array([compiled(np.float32(sign)) for sign in (1, -1, 1)])
    assert len(np.unique(draws)) == draws.size


# -- errors


X, Y = gx.input("x", gx.f32[4, 3]), gx.input("y", gx.f32[5, 3])

ERRORS = [
    (
        lambda: gx.scan(lambda h, row: (h.astype(gx.f64), None), gx.zeros(3), X),
        gx.ShapeError,
        "state 0 of scan is f32[3] at first and f64[3] after a step",
    ),
    (
        lambda: gx.scan(lambda state, row: ((state[0], state[1] + row.sum()), None), (gx.zeros(3), 0), X),
        gx.ShapeError,
        "state 1 of scan is i64[] at first and f32[] after a step",
    ),
    (
        lambda: gx.scan(lambda h, row: ((h, row), None), gx.zeros(3), X),
        gx.ShapeError,
        "the state of scan is f32[3] at first and (f32[3], f32[3]) after a step",
    ),
    (
        lambda: gx.scan(lambda h, row: (h, None), gx.zeros(3), (X, Y)),
        gx.ShapeError,
        "scan needs arrays of one leading extent, or a length; got f32[4,3], f32[5,3] and length=None",
    ),
    (
        lambda: gx.scan(lambda h, row: (h, None), gx.zeros(3), X, length=3),
        gx.ShapeError,
        "scan needs arrays of one leading extent, or a length; got f32[4,3] and length=3",
    ),
    (
        lambda: gx.scan(lambda h, row: (h, None), gx.zeros(3)),
        gx.ShapeError,
        "scan needs arrays of one leading extent, or a length; got nothing and length=None",
    ),
    (
        lambda: gx.scan(lambda h, row: (h, None), gx.zeros(3), length=2.5),
        gx.ShapeError,
        "2.5 is no extent",
    ),
    (
        lambda: gx.scan(lambda h, row: h + row, gx.zeros(3), X),
        gx.TraceError,
        "the function of scan must return (new state, what is stacked), not Tensor(f32[3])",
    ),
    (
        lambda: gx.scan(lambda h, row: (h, "text"), gx.zeros(3), X),
        gx.DTypeError,
        "cannot use str",
    ),
    (
        lambda: gx.scan(lambda h, row: (h + gx.rand(3), None), gx.zeros(3), X),
        gx.TraceError,
        "random numbers drawn in the function of a scan would be the same in every step",
    ),
    (
        lambda: gx.cond(X > 0, lambda: X, lambda: X),
        gx.ShapeError,
        "cond needs one bool, got bool[4,3]",
    ),
    (
        lambda: gx.cond(X.sum() > 0, lambda: X, lambda: Y),
        gx.ShapeError,
        "the branches of cond return f32[4,3] and f32[5,3]; they must be alike",
    ),
    (
        lambda: gx.cond(X.sum() > 0, lambda: X, lambda: X > 0),
        gx.ShapeError,
        "the branches of cond return f32[4,3] and bool[4,3]; they must be alike",
    ),
    (
        lambda: gx.cond(X.sum() > 0, lambda: (X, Y), lambda: [X, None]),
        gx.ShapeError,
        "the branches of cond return (f32[4,3], f32[5,3]) and [f32[4,3], None]; they must be alike",
    ),
]


@pytest.mark.parametrize(("call", "kind", "first"), ERRORS, ids=[first for *_, first in ERRORS])
def test_errors_name_both_values_and_the_line(call, kind, first):
    with pytest.raises(kind) as caught:
        call()
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(first) and len(lines) <= 8
    assert Path(__file__).name in lines[1]


def update(p):
    with gx.no_grad():
        p -= 1.0
    return p


def descend(p):
    (p * p).sum().backward()
    return p


@pytest.mark.parametrize("change", [update, descend])
@pytest.mark.parametrize("name", ["scan", "cond"])
def test_parameters_are_updated_by_the_step_only(name, change):
    p = gx.parameter("p", np.ones(3, np.float32))

    def body(x: gx.f32[4, 3]):
        if name == "cond":
            return gx.cond(x.sum() > 0, lambda: change(p), lambda: p)
        return gx.scan(lambda h, row: (h + change(p), None), gx.zeros(3), x)[0]

    with pytest.raises(gx.TraceError, match=f"the function given to {name} updates a parameter or its gradient"):
        gx.step(body)

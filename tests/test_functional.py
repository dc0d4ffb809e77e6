"""Functions of tensors: values against NumPy, gradients against differences, natively the same, errors on the line."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphc as gx
from graphc import functional as F
from graphc.backends import reference
from graphc.ir import ops
from graphc.ir.graph import Graph, Output, reachable
from graphc.ir.passes import run_passes


def evaluate(*tensors, double=False, **arrays):
    """What tensors are for arrays by input name, through all passes and the NumPy reference."""
    inputs = [value for value in reachable(tuple(tensor.value for tensor in tensors)) if value.op is ops.input]
    held = {value.attrs["name"]: value.owner.numpy() for value in inputs if value.attrs["role"] == "state"}
    outputs = tuple(Output("result", str(number), tensor.value) for number, tensor in enumerate(tensors))
    found = reference.run(run_passes(Graph("test", tuple(inputs), outputs)), held | arrays, double=double)
    return found["0"] if len(tensors) == 1 else [found[str(number)] for number in range(len(tensors))]


def compare(function, formula, *arrays, tolerance=2e-6):
    """A function of inputs of these arrays' types equals a NumPy formula in double precision."""
    tensors = [gx.input(f"x{n}", kind(array)) for n, array in enumerate(arrays)]
    result = function(*tensors)
    found = evaluate(result, **{f"x{n}": array for n, array in enumerate(arrays)})
    wide = [array.astype(np.float64) if array.dtype == np.float32 else array for array in arrays]
    wanted = np.asarray(formula(*wide))
    assert found.shape == wanted.shape
    assert tuple(result.shape) == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def kind(array):
    return {"f": gx.f32, "i": gx.i64, "u": gx.u8, "b": gx.bool_}[array.dtype.kind][array.shape]


def check_slope(function, x, *others):
    """Its gradient with respect to the first argument equals differences, in double precision."""
    arrays = {f"x{n}": array for n, array in enumerate([x, *others])}
    tensors = [gx.input(name, kind(array)) for name, array in arrays.items()]
    result = function(*tensors)
    weights = np.cos(np.arange(math.prod(result.shape))).reshape(result.shape)
    total = (result * weights).sum() if result.ndim else result
    found = evaluate(gx.grad(total, tensors[0]), double=True, **arrays)
    wanted = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        sides = []
        for step in (1e-6, -1e-6):
            moved = x.astype(np.float64)
            moved[index] += step
            sides.append(evaluate(total, double=True, **arrays | {"x0": moved}))
        wanted[index] = (sides[0] - sides[1]) / 2e-6
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)


def log_sum(x, axis, keepdims=False):
    return np.log(np.exp(x).sum(axis, keepdims=keepdims))


ELEMENTWISE = {
    "exp": (F.exp, np.exp),
    "expm1": (F.expm1, np.expm1),
    "sin": (F.sin, np.sin),
    "cos": (F.cos, np.cos),
    "tanh": (F.tanh, np.tanh),
    "sigmoid": (F.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "relu": (F.relu, lambda x: np.maximum(x, 0)),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    "silu": (F.silu, lambda x: x / (1 + np.exp(-x))),
    "softplus": (F.softplus, lambda x: np.log1p(np.exp(x))),
    "softplus(beta)": (lambda x: F.softplus(x, 3.0), lambda x: np.log1p(np.exp(3 * x)) / 3),
    "abs": (F.abs, np.abs),
    "sign": (F.sign, np.sign),
    "floor": (F.floor, np.floor),
    "square": (F.square, np.square),
    "maximum": (lambda x: F.maximum(x, 0.3), lambda x: np.maximum(x, 0.3)),
    "minimum": (lambda x: F.minimum(0.3, x), lambda x: np.minimum(x, 0.3)),
    "where": (lambda x: F.where(x > 0.1, x, -1), lambda x: np.where(x > 0.1, x, -1)),
    "clip": (lambda x: F.clip(x, -1, 0.5), lambda x: np.clip(x, -1, 0.5)),
    "clamp": (lambda x: F.clamp(x, min=0.5), lambda x: np.clip(x, 0.5, None)),
    "pow": (lambda x: F.pow(x, 3), lambda x: x**3),
    "power of a number": (lambda x: F.pow(2, x), lambda x: 2**x),
}
POSITIVE = {
    "log": (F.log, np.log),
    "log1p": (F.log1p, np.log1p),
    "sqrt": (F.sqrt, np.sqrt),
    "rsqrt": (F.rsqrt, lambda x: x**-0.5),
    "real power": (lambda x: F.pow(x, 1.7), lambda x: x**1.7),
}
ROWS = {
    "softmax": (F.softmax, lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    "softmax dim": (lambda x: F.softmax(x, dim=0), lambda x: np.exp(x) / np.exp(x).sum(0)),
    "log_softmax": (F.log_softmax, lambda x: x - log_sum(x, -1, keepdims=True)),
    "log_softmax axis": (lambda x: F.log_softmax(x, 0), lambda x: x - log_sum(x, 0)),
    "logsumexp": (F.logsumexp, lambda x: log_sum(x, None)),
    "logsumexp axis": (lambda x: F.logsumexp(x, 1), lambda x: log_sum(x, 1)),
    "logsumexp keepdim": (lambda x: F.logsumexp(x, dim=0, keepdim=True), lambda x: log_sum(x, 0, keepdims=True)),
    "sum": (lambda x: F.sum(x, 1), lambda x: x.sum(1)),
    "mean": (lambda x: F.mean(x, dim=0, keepdim=True), lambda x: x.mean(0, keepdims=True)),
    "max": (lambda x: F.max(x, axis=1), lambda x: x.max(1)),
    "min": (lambda x: F.min(x, dim=0), lambda x: x.min(0)),
    "prod": (lambda x: F.prod(x, 1, keepdims=True), lambda x: x.prod(1, keepdims=True)),
    "var": (F.var, lambda x: x.var(ddof=1)),
    "var dim": (lambda x: F.var(x, dim=1, correction=0), lambda x: x.var(1)),
    "std": (lambda x: F.std(x, 0, keepdims=True), lambda x: x.std(0, ddof=1, keepdims=True)),
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
SMOOTH = ELEMENTWISE | ROWS


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_function_of_elements_is_numpys(name, rng):
    compare(*ELEMENTWISE[name], rng.uniform(-2, 2, (4, 6)).astype(np.float32))


@pytest.mark.parametrize("name", POSITIVE)
def test_function_of_positive_elements_is_numpys(name, rng):
    compare(*POSITIVE[name], rng.uniform(0.1, 5, (4, 6)).astype(np.float32))


@pytest.mark.parametrize("name", ROWS)
def test_function_of_rows_is_numpys(name, rng):
    compare(*ROWS[name], rng.uniform(-2, 2, (4, 6)).astype(np.float32))


@pytest.mark.parametrize("name", SMOOTH)
def test_slope_is_that_of_differences(name, rng):
    if name not in ("sign", "floor"):
        check_slope(SMOOTH[name][0], rng.uniform(-2, 2, (4, 6)))


def test_native_functions_equal_the_reference(rng):
    """All of them in one function that is compiled once, with a symbolic number of rows."""
    x = gx.input("x", gx.f32["batch", 6])
    positive = {name: function(F.abs(x) + 0.1) for name, (function, _) in POSITIVE.items()}
    skipped = {"squeeze", "broadcast_to", "outer", "dot"}  # they need a fixed number of rows
    others = {name: function(x) for name, (function, _) in SMOOTH.items() if name not in skipped}
    compiled = gx.function([x], positive | others)
    for rows in (1, 5, 33):
        array = rng.uniform(-2, 2, (rows, 6)).astype(np.float32)
        with np.errstate(all="ignore"):  # the variance of one row
            wanted = reference.run(compiled.artifact.program.graph, {"x": array})
        for (name, _), found in zip(compiled.runner.results, compiled(array), strict=True):
            np.testing.assert_allclose(found, wanted[name], rtol=2e-5, atol=2e-6, err_msg=f"{name}, {rows} rows")


def test_softmax_of_huge_numbers():
    x = np.array([[1000, 999, -1000], [-3e38, -3e38, -3e38]], np.float32)
    t = gx.input("x", gx.f32[2, 3])
    share, logs, total = evaluate(F.softmax(t), F.log_softmax(t), F.logsumexp(t, 1), x=x)
    near = 1 / (1 + math.exp(-1))
    np.testing.assert_allclose(share, [[near, 1 - near, 0], [1 / 3] * 3], rtol=1e-6)
    np.testing.assert_allclose(logs[0], [math.log(near), math.log(near) - 1, -2000 + math.log(near)], rtol=1e-6)
    np.testing.assert_allclose(total, [1000 - math.log(near), -3e38], rtol=1e-6)


def test_logsumexp_of_nothing_but_minus_infinity():
    x = np.array([[-np.inf, -np.inf], [-np.inf, 2]], np.float32)
    t = gx.input("x", gx.f32[2, 2])
    total = F.logsumexp(t, 1)
    found, slope = evaluate(total, gx.grad(F.where(total < -1, 0.0, total).sum(), t), x=x)
    np.testing.assert_array_equal(found, [-np.inf, 2])
    np.testing.assert_array_equal(slope, [[0, 0], [0, 1]])


def test_not_a_number_goes_through():
    t = gx.input("x", gx.f32[2])
    x = np.array([np.nan, 1], np.float32)
    for found in evaluate(F.max(t), F.min(t), F.logsumexp(t), F.sum(F.maximum(t, 5)), x=x):
        assert np.isnan(found)
    assert evaluate(F.argmax(t), x=x) == 0


def test_indices_of_extremes(rng):
    x = rng.integers(0, 4, (5, 7)).astype(np.float32)
    compare(lambda t: F.argmax(t, 1), lambda a: a.argmax(1), x)
    compare(lambda t: F.argmin(t, dim=0), lambda a: a.argmin(0), x)
    compare(F.argmax, np.argmax, x)


def test_functions_of_integers():
    x = np.array([[3, -1, 2]], np.int64)
    compare(F.abs, np.abs, x)
    compare(lambda t: F.maximum(t, 2), lambda a: np.maximum(a, 2), x)
    compare(F.exp, np.exp, x)
    compare(F.mean, np.mean, x)
    assert F.sum(gx.input("x", gx.i64[3])).type == gx.i64[()]
    assert F.cast(gx.input("x", gx.i64[3]), gx.f32).type == gx.f32[3]


def test_constants():
    x = gx.input("x", gx.f32["batch", 3])
    rows = np.zeros((2, 3), np.float32)
    assert evaluate(F.zeros(2, 3)).tolist() == [[0, 0, 0]] * 2
    assert evaluate(F.ones((2,), dtype=gx.i64)).dtype == np.int64
    assert evaluate(F.full((2, 2), 7)).tolist() == [[7, 7], [7, 7]]
    assert evaluate(F.full(3, 0.5)).dtype == np.float32
    assert evaluate(F.zeros(x.shape[0]) + x.sum(1), x=rows).shape == (2,)
    assert evaluate(F.ones_like(x) + x, x=rows).tolist() == [[1, 1, 1]] * 2
    assert F.zeros_like(x, dtype=gx.i64).type == gx.i64["batch", 3]
    assert evaluate(F.full_like(x, 2.0) + x, x=rows).tolist() == [[2, 2, 2]] * 2


def test_ramps():
    x = gx.input("x", gx.f32["batch", 3])
    assert evaluate(F.arange(4)).tolist() == [0, 1, 2, 3]
    assert evaluate(F.arange(4)).dtype == np.int64
    assert evaluate(F.arange(4, dtype=gx.f32)).dtype == np.float32
    assert evaluate(F.arange(2, 11, 3)).tolist() == [2, 5, 8]
    np.testing.assert_allclose(evaluate(F.arange(0.0, 1.0, 0.25)), [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(evaluate(F.arange(1, 2, 0.5)), [1, 1.5])
    found = evaluate(F.arange(x.shape[0]) + x.sum(1), x=np.zeros((3, 3), np.float32))
    assert found.tolist() == [0, 1, 2]


def test_no_gradient_through_stop_gradient(rng):
    x = gx.input("x", gx.f32[3])
    array = rng.uniform(-1, 1, 3).astype(np.float32)
    np.testing.assert_array_equal(evaluate(gx.grad((F.stop_gradient(x) * x).sum(), x), x=array), array)


# -- errors


def test_axis_outside():
    with pytest.raises(gx.ShapeError, match="axis 2 is outside"):
        F.softmax(gx.input("x", gx.f32[3, 4]), dim=2)


def test_every_public_name_is_exported():
    assert len(F.__all__) > 60
    assert all(getattr(gx, name) is getattr(F, name) for name in F.__all__)

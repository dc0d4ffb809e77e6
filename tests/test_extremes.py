"""The largest and the smallest of a row, found among integers: the same float to the bit, whatever the floats are."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from emulator import emulate

from graphc.backends import artifact, meanings
from graphc.backends.primitives import run
from graphc.backends.runtime import Runner
from graphc.backends.source import extremes
from graphc.ir import ops
from graphc.ir.graph import Graph, Output
from graphc.ir.passes import run_passes
from graphc.ir.types import DTYPES, TensorType

AWKWARD = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, 1e-40, -1e-40, 3.5, -3.5, 1e38, -1e38, 2.0, -2.0, 0.5, -0.5]
CASES = {
    "numbers": lambda random, shape: random.choice(AWKWARD, shape),
    "zeros": lambda random, shape: random.choice([0.0, -0.0], shape),
    "negative": lambda random, shape: -np.abs(random.standard_normal(shape)),
    "lowest": lambda random, shape: np.full(shape, -np.inf),
    "highest": lambda random, shape: np.full(shape, np.inf),
    "nan": lambda random, shape: np.where(random.random(shape) < 0.2, np.nan, random.standard_normal(shape)),
    "negative nan": lambda random, shape: np.where(random.random(shape) < 0.2, -np.nan, random.standard_normal(shape)),
}


def assert_same_bits(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_array_equal(found, wanted)
    number = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(found[number]), np.signbit(wanted[number]))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("width", [3, 10, 16, 48, 40])
def test_rows(dtype, case, width, store) -> None:
    """Few elements, one set of lanes, whole sets, and a rest: natively and uncompiled."""
    x = ops.input(name="x", role="data", type=TensorType(dtype, (5, width)))
    outputs = tuple(Output("result", op.name, op(x, axes=(1,))) for op in (ops.max, ops.min))
    graph = run_passes(Graph("rows", (x,), outputs))
    given = CASES[case](np.random.default_rng(width), (5, width)).astype(DTYPES[dtype])
    runner = Runner(artifact.build(graph, store), [])
    status, results = runner.step([given], [])
    assert status == 0
    native = {name: result for (name, _), result in zip(runner.results, results, strict=True)}
    for name, array in emulate(graph, {"x": given}).items():
        pair = meanings.maximum if name == "max" else meanings.minimum
        with np.errstate(all="ignore"):
            wanted = reduce(pair, given.T)[:, None]
        assert_same_bits(array, wanted)
        assert_same_bits(native[name], wanted)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", ["max", "min"])
def test_keys_are_in_the_order_of_their_floats(dtype, name) -> None:
    floats = np.sort(np.array(AWKWARD, DTYPES[dtype]))
    floats = np.concatenate([floats[floats < 0], [-0.0, 0.0], floats[floats > 0]]).astype(DTYPES[dtype])[:16]
    keys = run(extremes.key(name, dtype), floats)
    assert (np.diff(keys.astype(object)) > 0).all()
    for key, number in zip(keys, floats, strict=True):
        assert_same_bits(np.array([run(extremes.of_key(dtype), key)]), np.array([number]))
    beyond = run(extremes.key(name, dtype), np.full(16, np.nan, DTYPES[dtype]))
    assert (beyond > keys).all() if name == "max" else (beyond < keys).all()
    worst = int(extremes.worst(name, dtype).partition("(")[2].rstrip(")"))
    assert worst == keys[0 if name == "max" else -1]

"""Random graphs: fused native code gives what the unfused reference gives, for several batch sizes."""

from __future__ import annotations

import numpy as np
import random_graphs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphc.backends import artifact, reference
from graphc.backends.runtime import Runner, Storage
from graphc.ir import ops
from graphc.ir.graph import Graph, Output
from graphc.ir.passes import run_passes
from graphc.ir.text import parse_graph
from graphc.ir.types import Dim, TensorType, multiply

BATCH = Dim("n", 40)
UNARY = (ops.tanh, ops.sigmoid, ops.sin, ops.relu, ops.neg, ops.absolute, ops.softplus, ops.exp)
BINARY = (ops.add, ops.sub, ops.mul, ops.maximum, ops.minimum)
INPUTS = {
    "x": ("data", (BATCH, 20)),
    "y": ("data", (BATCH, 1)),
    "z": ("state", (20,)),
    "w": ("state", (20, 5)),
    "v": ("state", (BATCH.max, 20)),
}


def stretch(value, shape):
    padded = (1,) * (len(shape) - len(value.shape)) + value.shape
    value = value if padded == value.shape else ops.reshape(value, shape=padded)
    return value if value.shape == shape else ops.broadcast(value, shape=shape)


def common(a, b):
    """The shape both broadcast to, or None."""
    rank = max(len(a.shape), len(b.shape))
    left, right = ((1,) * (rank - len(value.shape)) + value.shape for value in (a, b))
    if any(p != q and 1 not in (p, q) for p, q in zip(left, right, strict=True)):
        return None
    return tuple(q if p == 1 else p for p, q in zip(left, right, strict=True))


@st.composite
def programs(draw):
    """A graph of about a dozen ops over rows, columns, matrices and scalars, and what becomes of its states."""
    values = [ops.input(name=name, role=role, type=TensorType("f32", shape)) for name, (role, shape) in INPUTS.items()]
    inputs = tuple(values)
    for _ in range(draw(st.integers(3, 14))):
        kind = draw(st.sampled_from(("unary", "binary", "binary", "reduce", "transpose", "dot", "flatten")))
        x = draw(st.sampled_from(values))
        made = None
        if kind == "unary":
            op = draw(st.sampled_from(UNARY))
            made = op(ops.tanh(x)) if op is ops.exp else op(x)
        elif kind == "binary":
            y = draw(st.sampled_from(values))
            shape = common(x, y)
            made = (
                None if shape is None else draw(st.sampled_from(BINARY))(*(stretch(ops.tanh(v), shape) for v in (x, y)))
            )
        elif kind == "reduce" and x.shape:
            axes = draw(st.sets(st.integers(0, len(x.shape) - 1), min_size=1))
            made = draw(st.sampled_from((ops.sum, ops.max, ops.min)))(ops.tanh(x), axes=tuple(sorted(axes)))
        elif kind == "transpose" and len(x.shape) == 2:
            made = ops.transpose(x, permutation=(1, 0))
        elif kind == "flatten" and len(x.shape) == 2:
            made = ops.reshape(x, shape=(multiply(*x.shape),))
        elif kind == "dot" and len(x.shape) == 2:
            partners = [y for y in values if len(y.shape) == 2 and y.shape[0] == x.shape[1]]
            made = ops.dot(x, draw(st.sampled_from(partners))) if partners else None
        if made is not None:
            values.append(made)
    outputs = [
        Output("result", f"r{k}", value)
        for k, value in enumerate(draw(st.lists(st.sampled_from(values), min_size=1, max_size=4)))
    ]
    for state in (value for value in inputs if value.attrs["role"] == "state"):
        fitting = [value for value in values if value.type == state.type]
        if draw(st.booleans()):
            outputs.append(Output("update", state.attrs["name"], draw(st.sampled_from(fitting))))
    return Graph("random", inputs, tuple(outputs))


def arrays_for(batch):
    random = np.random.default_rng(batch)
    return {
        name: random.standard_normal([batch if extent is BATCH else extent for extent in shape]).astype(np.float32)
        for name, (_, shape) in INPUTS.items()
    }


def check_native(traced, arrays, store):
    """Results and updated states of the compiled graph equal those of the unfused reference, computed in f64."""
    graph = run_passes(traced)
    built = artifact.build(graph, store)
    order = built.program.graph
    expected = reference.run(graph, arrays, double=True)
    storages = {value.attrs["name"]: Storage(arrays[value.attrs["name"]]) for value in order.of_role("state")}
    runner = Runner(built, list(storages.values()))
    runner.work[: runner.arena.shared] = 0x3F  # nothing may depend on what an earlier call left
    sizes = reference.dim_sizes(order, arrays)
    data = [arrays[value.attrs["name"]] for value in order.of_role("data")]
    status, results = runner.step(data, [sizes[dim] for dim in order.dims])
    assert status == 0
    found = {name: result for (name, _), result in zip(runner.results, results, strict=True)}
    found |= {output.name: storages[output.name].array for output in order.of_kind("update")}
    for name, number in found.items():
        scale = max(float(np.abs(expected[name]).max()), 1.0)
        assert np.abs(number - expected[name]).max() <= 2e-5 * scale, name


LITTLE = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@LITTLE
@given(traced=programs())
def test_wide_rows(traced, store):
    for batch in (1, 17, 40):
        check_native(traced, arrays_for(batch), store)


@LITTLE
@given(text=st.one_of(random_graphs.random_graphs(), random_graphs.random_steps()))
def test_gradients_and_steps(text, store):
    arrays = random_graphs.arrays(np.random.default_rng(7))
    check_native(parse_graph(text), {name: array.astype(np.float32) for name, array in arrays.items()}, store)

"""Slices, pads, windows and stacks of matrices: fused native code gives what the unfused reference gives."""

from __future__ import annotations

import graphs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_random_programs import BINARY, UNARY, check_native, common, stretch

from graphc.ir import ops
from graphc.ir.graph import Graph, Output
from graphc.ir.text import parse_graph, print_graph
from graphc.ir.types import Dim, TensorType, add, bound, multiply, subtract

BATCH = Dim("n", 6)
INPUTS = {"x": (BATCH, 3, 20), "y": (BATCH, 4, 5, 4), "w": (3, 18), "v": (1, 7), "m": (4, 4)}


def sliced(draw, x):
    """A part of x, some axes backwards; symbolic axes whole, backwards, or less their first place."""
    start, step, shape = [], [], []
    for extent in x.shape:
        if not isinstance(extent, int):
            kind = draw(st.sampled_from(("whole", "back")))
            start.append(0 if kind == "whole" else subtract(extent, 1))
            step.append(1 if kind == "whole" else -1)
            shape.append(extent)
            continue
        first, last = sorted(draw(st.tuples(*[st.integers(0, extent - 1)] * 2)))
        stride = draw(st.integers(1, 3))
        backwards = draw(st.booleans())
        start.append(last if backwards else first)
        step.append(-stride if backwards else stride)
        shape.append((last - first) // stride + 1)
    return ops.slice(x, start=tuple(start), step=tuple(step), shape=tuple(shape))


def padded(draw, x):
    low = [draw(st.integers(-2, 3)) if isinstance(extent, int) else draw(st.integers(0, 1)) for extent in x.shape]
    high = [draw(st.integers(0, 3)) for _ in x.shape]
    shape = tuple(add(extent, before, after) for extent, before, after in zip(x.shape, low, high, strict=True))
    if any(isinstance(extent, int) and extent < 1 for extent in shape):
        return None
    return ops.pad(x, start=tuple(-before for before in low), shape=shape)


def windowed(draw, x):
    axes = [axis for axis, extent in enumerate(x.shape) if isinstance(extent, int) and extent > 4]
    if not axes or len(x.shape) > 4:
        return None
    size, stride, dilation = (draw(st.integers(1, 2)) for _ in range(3))
    return ops.window(x, axes=(draw(st.sampled_from(axes)),), size=(size,), stride=(stride,), dilation=(dilation,))


def product(draw, x, values):
    if len(x.shape) < 2:
        return None
    partners = [
        y
        for y in values
        if len(y.shape) >= 2
        and y.shape[-2] == x.shape[-1]
        and (y.shape[:-2] == x.shape[:-2] or (len(y.shape) == 2 and len(x.shape) > 2))
    ]
    if not partners:
        rank = len(x.shape)
        return ops.dot(x, ops.transpose(x, permutation=(*range(rank - 2), rank - 1, rank - 2)))
    partner = draw(st.sampled_from(partners))
    return ops.dot(x, stretch(partner, (*x.shape[:-2], *partner.shape[-2:])))


def looked_up(draw, x, inputs):
    """x in the order that sorts an input of its shape, or rows of it picked so; of computed numbers it could differ."""
    axis = draw(st.integers(0, len(x.shape) - 1))
    keys = [value for value in inputs if value.shape == x.shape]
    if keys:
        order = ops.argsort(keys[0], axis=axis, reverse=draw(st.booleans()))
        return ops.gather(x, order, places=tuple(-1 if each == axis else each for each in range(len(x.shape))))
    if not isinstance(x.shape[0], int):
        return None
    order = ops.argsort(inputs[-1], axis=1, reverse=False)  # [4, 4]
    shape = (4, 4, *x.shape[1:])
    index = stretch(ops.reshape(order, shape=(4, 4, *(1 for _ in x.shape[1:]))), shape)
    return ops.gather(x, index, places=(-1, *range(2, len(shape)))) if len(shape) < 5 else None


def merged(draw, x):
    """Two neighbouring axes as one, which no stride may be able to say."""
    if len(x.shape) < 2:
        return None
    at = draw(st.integers(0, len(x.shape) - 2))
    return ops.reshape(x, shape=(*x.shape[:at], multiply(*x.shape[at : at + 2]), *x.shape[at + 2 :]))


@st.composite
def programs(draw):
    inputs = tuple(
        ops.input(name=name, role="data" if BATCH in shape else "state", type=TensorType("f32", shape))
        for name, shape in INPUTS.items()
    )
    values = list(inputs)
    kinds = (
        "unary",
        "binary",
        "binary",
        "reduce",
        "transpose",
        "slice",
        "slice",
        "pad",
        "pad",
        "window",
        "dot",
        "merge",
        "look up",
        "look up",
        "cumsum",
    )
    for _ in range(draw(st.integers(2, 10))):
        kind, x, made = draw(st.sampled_from(kinds)), draw(st.sampled_from(values)), None
        if kind == "unary":
            op = draw(st.sampled_from(UNARY))
            made = op(ops.tanh(x)) if op is ops.exp else op(x)
        elif kind == "binary":
            y = draw(st.sampled_from(values))
            shape = common(x, y)
            pair = () if shape is None else (stretch(ops.tanh(value), shape) for value in (x, y))
            made = None if shape is None else draw(st.sampled_from(BINARY))(*pair)
        elif kind == "reduce" and x.shape:
            axes = draw(st.sets(st.integers(0, len(x.shape) - 1), min_size=1))
            made = draw(st.sampled_from((ops.sum, ops.max)))(ops.tanh(x), axes=tuple(sorted(axes)))
        elif kind == "transpose":
            made = ops.transpose(x, permutation=tuple(draw(st.permutations(range(len(x.shape))))))
        elif kind == "dot":
            made = product(draw, ops.tanh(x), values)
        elif kind == "look up":
            made = looked_up(draw, x, inputs)
        elif kind == "cumsum":
            made = ops.cumsum(ops.tanh(x), axis=draw(st.integers(0, len(x.shape) - 1)), reverse=draw(st.booleans()))
        elif kind in ("slice", "pad", "window", "merge"):
            made = {"slice": sliced, "pad": padded, "window": windowed, "merge": merged}[kind](draw, x)
        if made is not None and bound(made.type.count) <= 20_000:
            values.append(made)
    chosen = dict.fromkeys([values[-1], *draw(st.lists(st.sampled_from(values), max_size=2))])
    outputs = [Output("result", f"r{number}", value) for number, value in enumerate(chosen)]
    if draw(st.booleans()):
        loss = graphs.total(ops.tanh(values[-1]))
        outputs += [Output("result", f"d {value.attrs['name']}", ops.gradient(loss, value)) for value in inputs]
    return print_graph(Graph("random", inputs, tuple(outputs)))


def arrays_for(batch):
    random = np.random.default_rng(batch)
    return {
        name: random.standard_normal([batch if extent is BATCH else extent for extent in shape]).astype(np.float32)
        for name, shape in INPUTS.items()
    }


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=programs())
def test_random_views(text, store):
    for batch in (1, 5):
        check_native(parse_graph(text), arrays_for(batch), store)


@pytest.mark.parametrize("width", [5, 16, 40])
def test_a_pad_read_backwards(width, store, rng):
    """And the gradient of a slice that runs backwards, which is a pad read so."""
    x = graphs.data("x", 3, width)
    around = ops.pad(x, start=(0, -3), shape=(3, width + 5))
    back = ops.slice(around, start=(0, width + 4), step=(1, -1), shape=around.shape)
    part = ops.slice(x, start=(0, width - 2), step=(1, -1), shape=(3, width - 3))
    slope = ops.gradient(graphs.total(ops.mul(part, part)), x)
    graph = Graph("back", (x,), (Output("result", "out", ops.neg(back)), Output("result", "dx", slope)))
    check_native(graph, {"x": rng.normal(size=(3, width)).astype(np.float32)}, store)


def convolution(x, weight, stride, dilation, padding):
    """x [n, in, height, width] and weight [out, in, rows, columns], as a product over windows."""
    (count, channels, height, width), (features, _, rows, columns) = x.shape, weight.shape
    around = ops.pad(
        x, start=(0, 0, -padding, -padding), shape=(count, channels, height + 2 * padding, width + 2 * padding)
    )
    sizes = {"size": (rows, columns), "stride": (stride, stride), "dilation": (dilation, dilation)}
    seen = ops.window(around, axes=(2, 3), **sizes)
    seen = ops.transpose(seen, permutation=(0, 1, 4, 5, 2, 3))
    places = seen.shape[4:]
    right = ops.reshape(seen, shape=(count, channels * rows * columns, multiply(*places)))
    left = stretch(ops.reshape(weight, shape=(features, channels * rows * columns)), (count, features, right.shape[1]))
    return ops.reshape(ops.dot(left, right), shape=(count, features, *places))


@pytest.mark.parametrize(("stride", "dilation", "padding"), [(1, 1, 0), (1, 1, 2), (2, 1, 1), (1, 2, 2), (3, 2, 1)])
def test_convolution_and_its_gradients(stride, dilation, padding, store, rng):
    x = ops.input(name="x", role="data", type=TensorType("f32", (BATCH, 3, 14, 17)))
    weight = ops.input(name="w", role="state", type=TensorType("f32", (5, 3, 3, 3)))
    out = convolution(x, weight, stride, dilation, padding)
    loss = graphs.total(ops.tanh(out))
    outputs = [Output("result", "out", out), Output("result", "dx", ops.gradient(loss, x))]
    outputs.append(Output("result", "dw", ops.gradient(loss, weight)))
    graph = Graph("convolution", (x, weight), tuple(outputs))
    arrays = {"x": rng.normal(size=(4, 3, 14, 17)), "w": rng.normal(size=(5, 3, 3, 3)) * 0.2}
    check_native(graph, {name: array.astype(np.float32) for name, array in arrays.items()}, store)

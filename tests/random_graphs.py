"""Random small graphs for property tests: elementwise arithmetic, reductions, views and products of matrices.

Graphs are drawn as text, so that a failing example can be read and pasted.
"""

from __future__ import annotations

from collections.abc import Callable

import graphs
import numpy as np
from hypothesis import strategies as st

from graphc.ir import ops
from graphc.ir.graph import Graph, Output, Value
from graphc.ir.text import print_graph
from graphc.ir.types import Dim

BATCH = Dim("batch", 8)
SIZE = 5  # of the batch in `arrays`
UNARY = (ops.tanh, ops.sin, ops.neg, ops.sigmoid, ops.relu, ops.absolute, ops.softplus, ops.copy, ops.stop_gradient)
BINARY = (ops.add, ops.sub, ops.mul, ops.maximum, ops.minimum)
REDUCTIONS = (ops.sum, ops.max, ops.min)
NUMBERS = (0.0, 1.0, -1.0, 2.0, 0.5)

Draw = Callable[..., object]


def inputs() -> tuple[Value, ...]:
    return (
        graphs.data("x", BATCH, 3),
        graphs.data("column", BATCH, 1),
        graphs.state("w", 3, 3),
        graphs.state("v", 3, 3),
        graphs.state("row", 1, 3),
        graphs.state("one", 1, 1),
    )


def arrays(rng: np.random.Generator) -> graphs.Arrays:
    shapes = {"x": (SIZE, 3), "column": (SIZE, 1), "w": (3, 3), "v": (3, 3), "row": (1, 3), "one": (1, 1)}
    return {name: rng.uniform(-1.5, 1.5, shape) for name, shape in shapes.items()}


def join(a: Value, b: Value) -> tuple[Value, Value] | None:
    """Both broadcast to one shape, or None where they do not fit."""
    if any(1 not in pair and pair[0] != pair[1] for pair in zip(a.shape, b.shape, strict=True)):
        return None
    shape = tuple(n if m == 1 else m for m, n in zip(a.shape, b.shape, strict=True))
    return ops.broadcast(a, shape=shape), ops.broadcast(b, shape=shape)


def elementwise(draw: Draw, a: Value, b: Value) -> Value:
    pair = join(a, b)
    return a if pair is None else draw(st.sampled_from(BINARY))(*pair)


def choice(draw: Draw, a: Value, b: Value) -> Value:
    """where by a comparison with a number: rounding decides nothing."""
    pair = join(a, b)
    if pair is None or a.op is not ops.input:
        return a
    return ops.where(ops.less(pair[0], ops.constant(draw(st.sampled_from(NUMBERS)), pair[0])), pair[1], pair[0])


def with_number(draw: Draw, a: Value, b: Value) -> Value:
    number = ops.constant(draw(st.sampled_from(NUMBERS)), a)
    sides = (a, number) if draw(st.booleans()) else (number, a)
    return draw(st.sampled_from((ops.add, ops.sub, ops.mul)))(*sides)


def quotient(draw: Draw, a: Value, b: Value) -> Value:
    pair = join(a, b)
    return a if pair is None else ops.div(pair[0], ops.add(ops.exp(ops.tanh(pair[1])), ops.constant(1.0, pair[1])))


def reduced(draw: Draw, a: Value, b: Value) -> Value:
    return draw(st.sampled_from(REDUCTIONS))(a, axes=draw(st.sampled_from([(0,), (1,), (0, 1)])))


def product(draw: Draw, a: Value, b: Value) -> Value:
    return ops.tanh(ops.dot(a, b)) if a.shape[1] == b.shape[0] else a


def row_of_all(draw: Draw, a: Value, b: Value) -> Value:
    return ops.reshape(a, shape=(1, a.type.count))


STEPS = (
    lambda draw, a, b: draw(st.sampled_from(UNARY))(a),
    elementwise,
    elementwise,
    with_number,
    quotient,
    choice,
    reduced,
    product,
    product,
    row_of_all,
    lambda draw, a, b: ops.transpose(a, permutation=(1, 0)),
)


@st.composite
def random_values(draw: Draw) -> tuple[tuple[Value, ...], list[Value]]:
    """The inputs, and everything made of them."""
    declared = inputs()
    values = list(declared)
    for _ in range(draw(st.integers(1, 14))):
        a, b = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        values.append(draw(st.sampled_from(STEPS))(draw, a, b))
    return declared, values


@st.composite
def random_graphs(draw: Draw) -> str:
    """Up to three results and, now and then, the gradients of the last value by every input."""
    declared, values = draw(random_values())
    results = dict.fromkeys([values[-1], *draw(st.lists(st.sampled_from(values), max_size=2))])
    outputs = [Output("result", f"out{number}", value) for number, value in enumerate(results)]
    if draw(st.booleans()):
        loss = graphs.total(values[-1])
        outputs += [Output("result", f"d {value.attrs['name']}", ops.gradient(loss, value)) for value in declared]
    return print_graph(Graph("random", declared, tuple(outputs)))


@st.composite
def random_steps(draw: Draw) -> str:
    """A result, and updates of states by any values of their type: other states among them, or their own transpose."""
    declared, values = draw(random_values())
    outputs = [Output("result", "last", values[-1])]
    for state in declared:
        if state.attrs["role"] == "state" and draw(st.booleans()):
            fitting = [value for value in values if value.type == state.type]
            outputs.append(Output("update", state.attrs["name"], draw(st.sampled_from(fitting))))
    return print_graph(Graph("step", declared, tuple(outputs)))

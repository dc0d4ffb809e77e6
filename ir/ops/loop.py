"""A loop over steps with a state that is carried along, as one value; `part` takes what it gives apart.

The body is a graph of its own: its states are what is carried, its updates the new states, its data inputs slices of
arrays or values captured whole, and its results are stacked, one slice a step.

A loop over `rows` (a dim of its body, a dim of the graph) goes through the rows of a batch, as many a step as its own
dim has at most, and in the last one those that are left: slices and results are rows of arrays, not one place each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Any

from graphc.ir.graph import Graph, IRError, Value
from graphc.ir.ops.record import Op, define
from graphc.ir.types import Dim, Extent, TensorType, substitute

Rows = tuple[Dim, Dim]


class Body:
    """The graph of one step. Two bodies that read the same are the same to whoever merges values."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @cached_property
    def text(self) -> str:
        from graphc.ir.text import print_graph  # which prints loops, so it imports all ops

        return print_graph(self.graph)

    def __repr__(self) -> str:
        return repr(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Body) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


class Roles:
    """Which operand of a loop is what to its body.

    trips     an i64 scalar: how many steps to take at run time, at most `length`; None: all
    carried   (state input of the body, operand it starts as)
    slices    (data input, operand it is a slice of along axis 0)
    captured  (data input, operand it is)
    """

    def __init__(self, loop: Value) -> None:
        graph: Graph = loop.attrs["body"].graph
        operands = list(loop.operands)
        self.trips = operands.pop(0) if loop.attrs["counted"] else None
        states, data = graph.of_role("state"), graph.of_role("data")
        count = loop.attrs["slices"]
        self.carried = tuple(zip(states, operands, strict=False))
        self.slices = tuple(zip(data[:count], operands[len(states) :], strict=False))
        self.captured = tuple(zip(data[count:], operands[len(states) + count :], strict=True))


def stacked(one: TensorType, length: Extent, rows: Rows | None) -> TensorType:
    """The type of an array that steps have slices of."""
    if rows is None:
        return one.with_shape((length, *one.shape))
    return one.with_shape(tuple(substitute(extent, *rows) for extent in one.shape))


def loop_type(
    *operands: TensorType,
    body: Body,
    length: Extent,
    reverse: bool,
    slices: int,
    counted: bool,
    rows: Rows | None = None,
) -> TensorType:
    states, data = body.graph.of_role("state"), body.graph.of_role("data")
    if len(operands) != len(states) + len(data) + counted or slices > len(data):
        raise IRError(f"takes {len(states)} states, {len(data)} arrays and {int(counted)} counts, got {len(operands)}")
    if counted and str(operands[0]) != "i64[]":
        raise IRError(f"the number of steps must be i64[], got {operands[0]}")
    stacks = [stacked(value.type, length, rows) for value in data[:slices]]
    wanted = [*(value.type for value in states), *stacks, *(value.type for value in data[slices:])]
    for found, expected in zip(operands[counted:], wanted, strict=True):
        if found != expected:
            raise IRError(f"an operand is {found} but its body needs {expected}")
    updated = {output.name for output in body.graph.of_kind("update")}
    missing = [value.attrs["name"] for value in states if value.attrs["name"] not in updated]
    if missing:
        raise IRError(f"the body gives no new value of {', '.join(missing)}")
    return TensorType("f32", ())  # of no meaning: parts have the types


def with_body(
    like: Value,
    body: Graph,
    carried: Iterable[tuple[Value, Value]],
    slices: Iterable[tuple[Value, Value]],
    captured: Iterable[tuple[Value, Value]],
    **attrs: Any,
) -> Value:
    """A loop over the steps of another, with a body of these inputs, each beside its operand as in `Roles`."""
    trips = like.operands[:1] if like.attrs["counted"] else ()
    slices = tuple(slices)
    pairs = (*carried, *slices, *captured)
    whole = Body(replace(body, inputs=tuple(arriving for arriving, _ in pairs)))
    attrs = {**like.attrs, "body": whole, "slices": len(slices), **attrs}
    return loop(*trips, *(operand for _, operand in pairs), **attrs)


def part_type(loop: TensorType, name: str, type: TensorType) -> TensorType:
    return type


def part_of(loop: Value, name: str) -> Value:
    """The last value of a state, or the stack of a result, by its name in the body."""
    graph: Graph = loop.attrs["body"].graph
    for output in graph.outputs:
        if output.name == name:
            kind = output.value.type
            if output.kind == "result":
                kind = stacked(kind, loop.attrs["length"], loop.attrs.get("rows"))
            return part(loop, name=name, type=kind)
    raise IRError(f"the body of the loop has no output {name!r}")


loop: Op = define("loop", "loop", infer=loop_type, numpy=None, samples=())  # tests/test_loop.py has samples
part: Op = define("part", "part", infer=part_type, numpy=None, samples=())

"""What every graph must satisfy between passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from graphc.ir.graph import Graph, IRError, Output, Value
from graphc.ir.types import Dim, Product, Sum, dims_of

OUTPUT_KINDS = ("result", "update", "check")


def verify(graph: Graph, known: frozenset[Dim] = frozenset()) -> Graph:
    """The graph itself; raises IRError naming the first value that breaks an invariant.

    known  dims of the graph that this one is a body in
    """
    refuse_twins((value.attrs["name"] for value in graph.inputs), f"inputs of graph {graph.name!r}")
    refuse_twins((dim.name for dim in graph.dims), f"dims of graph {graph.name!r}")
    refuse_twins((f"{output.kind} {output.name}" for output in graph.outputs), f"outputs of graph {graph.name!r}")
    declared = set(graph.inputs)
    dims = known.union(graph.dims)
    for value in graph.values():
        if value.op.name == "input" and value not in declared:
            raise IRError(f"input {value.attrs['name']!r} is used but not declared by graph {graph.name!r}")
        if value.memo.get("verified") == dims:
            continue
        verify_value(value)
        if value.op.kind in ("loop", "tiles"):
            verify(value.attrs["body"].graph, dims.union(value.attrs.get("rows") or ()))
        own = set((value.attrs.get("rows") or ())[:1])
        unknown = {*value.type.dims(), *attribute_dims(tuple(value.attrs.values()))} - dims - own
        if unknown:
            raise IRError(f"{value.op.name} is sized by {unknown.pop()}, which no input of {graph.name!r} carries")
        value.memo["verified"] = dims
    states = {value.attrs["name"]: value for value in graph.of_role("state")}
    for output in graph.outputs:
        verify_output(output, states)
    return graph


def refuse_twins(names: Iterable[str], where: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise IRError(f"{where} share a name: {', '.join(twice)}")


def verify_value(value: Value) -> None:
    try:
        expected = value.op.infer(*(operand.type for operand in value.operands), **value.attrs)
    except IRError as error:
        raise IRError(f"{value.op.name}: {error}") from None
    if value.type != expected:
        raise IRError(f"{value.op.name} is typed {value.type} but its rule gives {expected}")


def attribute_dims(item: Any) -> Iterator[Dim]:
    """The dims of every extent among attributes, which need not show in a type."""
    if isinstance(item, (Dim, Product, Sum)):
        yield from dims_of(item)
    if isinstance(item, tuple):
        for part in item:
            yield from attribute_dims(part)


def verify_output(output: Output, states: dict[str, Value]) -> None:
    if output.kind not in OUTPUT_KINDS:
        raise IRError(f"output {output.name!r} is of kind {output.kind!r}; kinds are {', '.join(OUTPUT_KINDS)}")
    if output.kind == "check" and str(output.value.type) != "i64[]":
        raise IRError(f"check {output.name!r} must count violations as i64[], got {output.value.type}")
    if output.kind != "update":
        return
    state = states.get(output.name)
    if state is None or state.type != output.value.type:
        wanted = "no such state" if state is None else state.type
        raise IRError(f"update of {output.name!r} has type {output.value.type} but the state is {wanted}")

"""What every graph must satisfy between passes."""

from __future__ import annotations

from graphc.ir.graph import Graph, IRError


def verify(graph: Graph) -> Graph:
    """The graph itself; raises IRError naming the first value that breaks an invariant."""
    declared = set(graph.inputs)
    names = [value.attrs["name"] for value in graph.inputs]
    if len(set(names)) != len(names):
        raise IRError(f"inputs of {graph.name} share a name: {sorted(names)}")
    for value in graph.values():
        expected = value.op.infer(*(operand.type for operand in value.operands), **value.attrs)
        if value.type != expected:
            raise IRError(f"{value.op.name} is typed {value.type} but its rule gives {expected}")
        if value.op.name == "input" and value not in declared:
            raise IRError(f"input {value.attrs['name']!r} is used but not declared by graph {graph.name!r}")
    states = {value.attrs["name"]: value for value in graph.of_role("state")}
    for output in graph.of_kind("update"):
        state = states.get(output.name)
        if state is None or state.type != output.value.type:
            wanted = "no such state" if state is None else state.type
            raise IRError(f"update of {output.name!r} has type {output.value.type} but the state is {wanted}")
    for output in graph.of_kind("check"):
        if str(output.value.type) != "i64[]":
            raise IRError(f"check {output.name!r} must count violations as i64[], got {output.value.type}")
    return graph

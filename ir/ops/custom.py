"""A value whose gradient somebody has written: the value itself, with the graph of its rule beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from graphc.ir.graph import Graph, IRError, Value, reachable
from graphc.ir.ops.loop import Body
from graphc.ir.ops.record import Op, define
from graphc.ir.types import TensorType


def custom_type(value: TensorType, *others: TensorType, rule: Body, inputs: int) -> TensorType:
    """others: the inputs the value was made of, then what the rule takes after the cotangent and the value."""
    wanted = [each.type for each in rule.graph.inputs]
    if len(others) < inputs or wanted != [value, value, *others[inputs:]]:
        raise IRError(f"the rule takes {wanted}, got {[value, value, *others[inputs:]]}")
    return value


def custom_gradient(ct: Value, out: Value, value: Value, *others: Value) -> tuple[Value | None, ...]:
    """The rule, over the values it is for."""
    graph: Graph = out.attrs["rule"].graph
    count = out.attrs["inputs"]
    new = dict(zip(graph.inputs, (ct, value, *others[count:]), strict=True))
    for each in reachable(tuple(output.value for output in graph.outputs)):
        if each not in new:
            operands = tuple(new[operand] for operand in each.operands)
            new[each] = each if operands == each.operands else replace(each, operands=operands)
    found: dict[str, Any] = {output.name: new[output.value] for output in graph.outputs}
    return None, *(found.get(f"d{number}") if number < count else None for number in range(len(others)))


custom: Op = define(
    "custom",
    "custom",
    infer=custom_type,
    numpy=lambda value, *others, rule, inputs: value,
    vjp=custom_gradient,
    samples=(),
)

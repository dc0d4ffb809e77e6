"""A graph as text that is equal for two graphs exactly when the compiler makes the same of them, in any process.

It is what a compiled function is remembered by, so it names all that a pass may look at: ops, operands, attributes with
every bit of a number, types with the bounds of their dims, the parts values play, the order of inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.ir.graph import Graph, IRError, Value
from graphc.ir.ops.loop import Body
from graphc.ir.types import Dim, Product, Sum, TensorType


def identity(graph: Graph) -> str:
    """The text. Raises IRError for an attribute of a kind whose value it cannot tell."""
    return Writer().graph(graph)


class Writer:
    """Writes graphs; types are written out once, because most values share theirs with others."""

    def __init__(self) -> None:
        self.types: dict[TensorType, str] = {}
        self.writers: dict[type, Callable[[Any], str]] = {
            **dict.fromkeys((bool, int, float, str, type(None)), repr),
            tuple: lambda items: f"({','.join(map(self.item, items))})",
            Dim: lambda dim: f"<{dim.name!r} {dim.max}>",
            Product: lambda extent: f"*{self.item((extent.factor, *extent.dims))}",
            Sum: lambda extent: f"+{self.item((extent.constant, *extent.terms))}",
            TensorType: self.type,
            Body: lambda body: f"{{{self.graph(body.graph)}}}",
        }

    def item(self, item: Any) -> str:
        write = self.writers.get(item.__class__)
        if write is None:
            raise IRError(f"a {item.__class__.__name__} among the attributes of a graph has no known text")
        return write(item)

    def type(self, tensor_type: TensorType) -> str:
        known = self.types.get(tensor_type)
        if known is None:
            known = self.types[tensor_type] = f"{tensor_type.dtype}{self.item(tensor_type.shape)}"
        return known

    def graph(self, graph: Graph) -> str:
        numbers = {value: number for number, value in enumerate(graph.inputs)}
        lines = [repr(graph.name), *map(self.described, graph.inputs)]
        for value in graph.values():
            if value not in numbers:
                operands = ",".join([str(numbers[operand]) for operand in value.operands])
                lines.append(f"{self.described(value)} {operands}")
                numbers[value] = len(numbers)
        lines += [f"{output.kind} {output.name!r} {numbers[output.value]}" for output in graph.outputs]
        return "\n".join(lines)

    def described(self, value: Value) -> str:
        """The op, its attributes, the type; the part it plays, because rules treat an optimizer's arithmetic apart."""
        attrs = " ".join([f"{name}={self.item(item)}" for name, item in value.attrs.items()])
        role = None if value.origin is None else value.origin.role
        return f"{value.op.name} {attrs} {self.type(value.type)} {role}"

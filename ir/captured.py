"""Matrices that a loop captures are laid out before it as its steps read them, so that no step packs them again."""

from __future__ import annotations

from graphc.ir import ops
from graphc.ir.blocking import fill_lanes
from graphc.ir.graph import Graph, Value, located
from graphc.ir.rewrite import hand_out, rebuild, renewed
from graphc.ir.trail import Trail
from graphc.ir.types import bound

WORTHWHILE = 8  # steps, at least, for a matrix to be laid out another way first


def turn_captured(graph: Graph, trail: Trail | None = None) -> Graph:
    """Loops capture the transposes they multiply by, not what these are transposes of."""
    if not any(value.op is ops.loop for value in graph.values()):
        return graph
    new: dict[Value, Value] = {}
    for value in graph.values():
        new[value] = renewed(value, new)
        if value.op is ops.loop and bound(value.attrs["length"]) >= WORTHWHILE:
            new[value] = with_turned(new[value], trail)
    return hand_out(graph, new, trail)


def with_turned(loop: Value, trail: Trail | None) -> Value:
    body, roles = loop.attrs["body"].graph, ops.Roles(loop)
    captured = dict(roles.captured)
    packed = dict.fromkeys(value.operands[1] for value in body.values() if value.op is ops.dot and is_packed(value))
    turned = {value: value.operands[0] for value in packed if is_turned(value) and value.operands[0] in captured}
    if not turned:
        return loop
    with located(loop.origin):
        arriving = {value: beside(matrix, value) for value, matrix in turned.items()}
        found = {arriving[value]: laid_out(captured[matrix]) for value, matrix in turned.items()}
        inside = rebuild(body, arriving.get, trail)
        return ops.with_body(loop, inside, roles.carried, roles.slices, (captured | found).items())


def beside(matrix: Value, turned: Value) -> Value:
    """The input that brings the transpose of a captured matrix."""
    return ops.input(name=f"{matrix.attrs['name']}.turned", role="data", type=turned.type)


def is_packed(product: Value) -> bool:
    """A transpose on its right would be packed: its rows are not such that they lie along the lanes instead."""
    return not fill_lanes(bound(product.shape[-2]))


def laid_out(matrix: Value) -> Value:
    """The transpose, in memory."""
    return matrix.operands[0] if is_turned(matrix) else ops.copy(ops.transpose(matrix, permutation=(1, 0)))


def is_turned(value: Value) -> bool:
    return value.op is ops.transpose and value.attrs["permutation"] == (1, 0)

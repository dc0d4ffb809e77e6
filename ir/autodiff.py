"""Reverse-mode gradients as more graph."""

from __future__ import annotations

from graphc.ir import ops
from graphc.ir.graph import Graph, IRError, Value, located, reachable
from graphc.ir.rewrite import hand_out, with_operands
from graphc.ir.types import FLOATS


def depends_on(loss: Value, wrt: tuple[Value, ...]) -> set[Value]:
    """Those of `wrt` that a differentiable path leads to from `loss`."""
    reached = {loss}
    for value in reversed(list(reachable((loss,)))):
        if value in reached and differentiable(value):
            reached.update(operand for operand in value.operands if operand.dtype in FLOATS)
    return reached & set(wrt)


def differentiable(value: Value) -> bool:
    return value.op.kind == "gradient" or (value.op.vjp is not None and value.op is not ops.stop_gradient)


def gradients(loss: Value, wrt: tuple[Value, ...]) -> tuple[Value, ...]:
    """d loss / d w for each w in `wrt`; every result has the type of its w, zero where loss ignores w.

    loss  one element, of a float dtype
    Raises IRError when a value on the path has no gradient rule.
    Source: Griewank & Walther, Evaluating Derivatives, 2nd ed., section 3.2 (adjoint sweep).
    """
    order = list(reachable((loss,)))
    needed = set(wrt)
    for value in order:
        if value.dtype in FLOATS and any(operand in needed for operand in value.operands):
            needed.add(value)
    with located(loss.origin, role="backward"):
        cotangents: dict[Value, Value] = {loss: ops.full(value=1.0, type=loss.type)}
    for value in reversed(order):
        if value not in cotangents or value not in needed or not value.operands:
            continue
        if value.op.vjp is None:
            raise IRError(f"{value.op.name} has no gradient but the loss depends on it; wrap it in stop_gradient()")
        with located(value.origin, role="backward"):
            for operand, cotangent in zip(
                value.operands, value.op.vjp(cotangents[value], value, *value.operands), strict=True
            ):
                if cotangent is not None and operand in needed:
                    known = cotangents.get(operand)
                    cotangents[operand] = cotangent if known is None else ops.add(known, cotangent)
    with located(loss.origin, role="backward"):
        return tuple(cotangents.get(w) or ops.full(value=0.0, type=w.type) for w in wrt)


def hold_wanted(graph: Graph) -> Graph:
    """A gradient with respect to a computed value reads a copy of it, and so does all that depends on that value.

    The copy keeps rewriting from looking through it: log(h) for h = sigmoid(x) must still depend on h.
    """
    wanted = {value.operands[1] for value in graph.values() if value.op is ops.gradient}
    new: dict[Value, Value] = {}
    for value in graph.values():
        new[value] = with_operands(value, tuple(new[operand] for operand in value.operands))
        if value in wanted and value.op is not ops.input:
            with located(value.origin):
                new[value] = ops.copy(new[value])
    return hand_out(graph, new)


def expand_gradients(graph: Graph) -> Graph:
    """Every `gradient` op becomes the arithmetic it stands for, innermost first, one sweep a loss."""
    asked: dict[Value, list[Value]] = {}
    for value in graph.values():
        if value.op is ops.gradient:
            loss, wrt = value.operands
            asked.setdefault(loss, []).append(wrt)
    new: dict[Value, Value] = {}
    swept: dict[tuple[Value, Value], Value] = {}
    for value in graph.values():
        if value.op is not ops.gradient:
            new[value] = with_operands(value, tuple(new[operand] for operand in value.operands))
            continue
        loss, wrt = value.operands
        if (loss, wrt) not in swept:
            wanted = [w for w in asked[loss] if w in new]
            found = gradients(new[loss], tuple(new[w] for w in wanted))
            swept.update(zip(((loss, w) for w in wanted), found, strict=True))
        new[value] = swept[loss, wrt]
    return hand_out(graph, new)

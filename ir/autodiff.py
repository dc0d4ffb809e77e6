"""Reverse-mode gradients as more graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from graphc.ir import ops
from graphc.ir.adjoint import Cotangents, Grown, pull_back_loop, with_grown
from graphc.ir.graph import Graph, IRError, Value, located, reachable
from graphc.ir.rewrite import hand_out, rebuild, renewed
from graphc.ir.slopes import Slopes
from graphc.ir.trail import Trail
from graphc.ir.types import FLOATS


def gradients(loss: Value, wrt: tuple[Value, ...], grown: Grown, trail: Trail | None = None) -> tuple[Value, ...]:
    """d loss / d w for each w in `wrt`; every result has the type of its w, zero where loss ignores w.

    loss   one element, of a float dtype
    grown  is told of loops that have to give more than they did
    Raises IRError when a value on the path has no gradient rule.
    """
    with located(loss.origin, role="backward"):
        found = pull_back({loss: ops.full(value=1.0, type=loss.type)}, wrt, grown, trail)
        return tuple(found.get(w) or ops.full(value=0.0, type=w.type) for w in wrt)


def pull_back(seeds: Cotangents, wrt: tuple[Value, ...], grown: Grown, trail: Trail | None = None) -> Cotangents:
    """The cotangents of `wrt` for those of some results; nothing for what no result depends on.

    Source: Griewank & Walther, Evaluating Derivatives, 2nd ed., section 3.2 (adjoint sweep).
    """
    order = list(reachable(tuple(seeds)))
    needed = set(wrt)
    for value in order:
        if value.dtype in FLOATS and any(operand in needed for operand in value.operands):
            needed.add(value)
    cotangents: Cotangents = dict(seeds)
    slopes = Slopes(order, seeds.values())
    if trail is not None:
        trail.sweep()
    parts: dict[Value, Cotangents] = {}
    for value in reversed(order):
        reached = parts.get(value) if value.op.kind == "loop" else cotangents.get(value)
        if not reached or value not in needed or not value.operands:
            continue
        if value.op.kind == "part":
            parts.setdefault(value.operands[0], {})[value] = cotangents[value]
            continue
        with located(value.origin, role="backward"):
            for operand, cotangent in zip(value.operands, vjp_of(value, reached, grown, trail), strict=True):
                if cotangent is not None and operand in needed:
                    known, found = cotangents.get(operand), slopes.gathered(cotangent)
                    cotangents[operand] = found if known is None else slopes.gathered(ops.add(known, found))
                    if trail is not None:
                        trail.pulled_back(value, operand, cotangents[operand])
    return {w: cotangents[w] for w in wrt if w in cotangents}


def vjp_of(value: Value, reached: Value | Cotangents, grown: Grown, trail: Trail | None) -> Sequence[Value | None]:
    """A cotangent, or None, for each operand of a value; `reached` is its own, or those of a loop's parts."""
    if isinstance(reached, dict):
        return pull_back_loop(value, reached, grown, partial(pull_back, trail=trail))
    if value.op.vjp is None:
        raise IRError(f"{value.op.name} has no gradient but the loss depends on it; wrap it in stop_gradient()")
    return value.op.vjp(reached, value, *value.operands)


def hold_wanted(graph: Graph, trail: Trail | None = None) -> Graph:
    """A gradient with respect to a computed value reads a copy of it, and so does all that depends on that value.

    The copy keeps rewriting from looking through it: log(h) for h = sigmoid(x) must still depend on h.
    """
    wanted = {value.operands[1] for value in graph.values() if value.op is ops.gradient}
    new: dict[Value, Value] = {}
    for value in graph.values():
        new[value] = renewed(value, new)
        if value in wanted and value.op is not ops.input:
            with located(value.origin):
                new[value] = ops.copy(new[value])
    return hand_out(graph, new, trail)


def roles_after(graph: Graph) -> dict[Value, str]:
    """The part that values play which a user computes of gradients: "update" where only states get them, "backward"
    elsewhere. What a loss is made of, as a penalty on gradients is, stays what it was."""
    found: dict[Value, str] = {}
    losses = {value.operands[0] for value in graph.values() if value.op is ops.gradient}
    ahead = set(reachable(tuple(losses)))
    shown = set(reachable(tuple(output.value for output in graph.outputs if output.kind != "update")))
    for value in graph.values():
        if value not in ahead and any(each in found or each.op is ops.gradient for each in value.operands):
            later = "backward" if value in shown else "update"
            found[value] = later if value.role == "forward" else value.role
    return found


def expand_gradients(graph: Graph, trail: Trail | None = None) -> Graph:
    """Every `gradient` op becomes the arithmetic it stands for, innermost first, one sweep a loss."""
    asked: dict[Value, list[Value]] = {}
    for value in graph.values():
        if value.op is ops.gradient:
            loss, wrt = value.operands
            asked.setdefault(loss, []).append(wrt)
    roles = roles_after(graph)
    new: dict[Value, Value] = {}
    grown: Grown = {}
    swept: dict[tuple[Value, Value], Value] = {}
    for value in graph.values():
        if value.op is not ops.gradient:
            new[value] = renewed(value, new)
            if value in roles and value.origin is not None:
                new[value] = replace(new[value], origin=value.origin._replace(role=roles[value]))
            continue
        loss, wrt = value.operands
        if (loss, wrt) not in swept:
            wanted = [w for w in asked[loss] if w in new]
            if trail is not None:
                trail.known.update(new.values())
            found = gradients(new[loss], tuple(new[w] for w in wanted), grown, trail)
            swept.update(zip(((loss, w) for w in wanted), found, strict=True))
        new[value] = swept[loss, wrt]
    expanded = with_grown(hand_out(graph, new, trail), grown, trail)
    if not any(value.op is ops.custom for value in expanded.values()):
        return expanded
    return rebuild(expanded, lambda value: value.operands[0] if value.op is ops.custom else None, trail)

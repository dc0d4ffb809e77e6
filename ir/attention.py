"""Attention for targets that do it tile by tile, so that its scores are never in memory all at once.

`find_attention` comes before gradients are taken: it sees softmax(scores) @ values where somebody wrote it out, and
the gradients of what it puts there need one number a row, the logarithm of the sum of its powers, in place of all
weights. `spread_attention` then writes it out again, in terms of that number. At the end `tile_attention` takes every
product with weights out of the graph, with all that its weights are computed of point by point: one op whose body is
gone through tile by tile.

Source: Dao et al. 2022, FlashAttention: fast and memory-efficient exact attention with IO-awareness.
"""

from __future__ import annotations

import math
from itertools import pairwise

from graphc.ir import ops
from graphc.ir.access import is_squeeze
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph, Value, located
from graphc.ir.rewrite import hand_out, rebuild, renewed
from graphc.ir.trail import Trail
from graphc.ir.types import Extent, Shape

LARGEST = 128  # columns of a matrix of vectors: sums of so many stay at hand
Readers = dict[Value, set[Value | None]]


@dataclass(frozen=True, slots=True)
class Written:
    """softmax(scores) @ values as it was found; `kept`, `share` and `hides` are those of `ops.attend`."""

    scores: Value
    values: Value
    kept: tuple[Value, ...]
    share: float
    hides: bool


def find_attention(graph: Graph, trail: Trail | None = None) -> Graph:
    """Every product of a softmax that nobody else reads becomes `attend`."""
    readers: Readers = {output.value: {None} for output in graph.outputs}
    for value in graph.values():
        for operand in value.operands:
            readers.setdefault(operand, set()).add(value)
    new: dict[Value, Value] = {}
    for value in graph.values():
        new[value] = renewed(value, new)
        found = written_in(value, readers)
        if found is not None:
            points = value.operands[0].shape
            with located(value.origin):
                scores, *kept = (squeezed(new[each], points) for each in (found.scores, *found.kept))
                new[value] = ops.attend(scores, new[found.values], *kept, share=found.share, hides=found.hides)
    return hand_out(graph, new, trail)


def written_in(value: Value, readers: Readers) -> Written | None:
    """The attention whose result a value is."""
    if value.op is not ops.dot or not is_of_size(value.shape[-1]) or 1 in value.operands[0].shape[-2:]:
        return None
    (chain, values), kept, share = value.operands, tuple[Value, ...](), 1.0
    steps = [value, chain]
    if chain.op is ops.reshape and is_squeeze(chain.operands[0].shape, chain.shape):
        (chain,) = chain.operands
        steps.append(chain)
    if chain.op is ops.where and is_number(chain.operands[2], 0.0) and chain.operands[1].op is ops.div:
        drawn, quotient, _ = chain.operands
        powers, part = quotient.operands
        if part.op is not ops.full:
            return None
        chain, kept, share = powers, (drawn,), part.attrs["value"]
        steps += [quotient, chain]
    if any(readers[inner] != {outer} for outer, inner in pairwise(steps)):
        return None
    scores, hides = softmax_of(chain) or (None, False)
    if scores is None or not any(is_score(each) for each in computed_of(scores)):
        return None
    return Written(scores, values, kept, share, hides)


def softmax_of(value: Value) -> tuple[Value, bool] | None:
    """(scores, whether rows of nothing but -inf are all 0) of a softmax along the last axis."""
    if value.op is not ops.div:
        return None
    powers, total = value.operands[0], below(value.operands[1])
    if powers.op is not ops.exp or powers.operands[0].op is not ops.sub:
        return None
    scores, top = powers.operands[0].operands[0], below(powers.operands[0].operands[1])
    hides = total.op is ops.where
    if hides != (top.op is ops.where):
        return None
    if hides:
        total, top = unless(total, 0.0, 1.0), unless(top, -math.inf, 0.0)
    if top.op is ops.stop_gradient:
        (top,) = top.operands
    last = (len(value.shape) - 1,)
    for found, op, whole in ((total, ops.sum, powers), (top, ops.max, scores)):
        if found.op is not op or found.operands != (whole,) or found.attrs["axes"] != last:
            return None
    return scores, hides


def squeezed(value: Value, shape: Shape) -> Value:
    return value if value.shape == shape else ops.reshape(value, shape=shape)


def below(value: Value) -> Value:
    """What is broadcast."""
    return value.operands[0] if value.op is ops.broadcast else value


def unless(value: Value, limit: float, other: float) -> Value:
    """x of where(limit < x, x, other); anything else as it is."""
    if value.op is not ops.where or value.operands[0].op is not ops.less:
        return value
    (least, tested), x, instead = value.operands[0].operands, value.operands[1], value.operands[2]
    return x if tested is x and is_number(least, limit) and is_number(instead, other) else value


def is_number(value: Value, number: float) -> bool:
    return value.op is ops.full and value.attrs["value"] == number


def is_of_size(extent: Extent) -> bool:
    """Vectors of that size are summed side by side."""
    return isinstance(extent, int) and 1 < extent <= LARGEST


def is_score(value: Value) -> bool:
    return value.op is ops.dot and is_of_size(value.operands[0].shape[-1])


def computed_of(value: Value) -> list[Value]:
    """A value and what it is computed of point by point."""
    found, stack = dict[Value, None](), [value]
    while stack:
        each = stack.pop()
        if each not in found:
            found[each] = None
            stack += each.operands if each.op.kind in ("elementwise", "view") else ()
    return list(found)


def spread_attention(graph: Graph, trail: Trail | None = None) -> Graph:
    """Every `attend` becomes what it means."""
    if not any(value.op is ops.attend for value in graph.values()):
        return graph

    def visit(value: Value) -> Value | None:
        if value.op is not ops.attend:
            return None
        with located(value.origin):
            return ops.attended(*value.operands, **value.attrs)

    return rebuild(graph, visit, trail)


def spelt_out(value: Value) -> Value:
    """A normaliser by ops that every target has."""
    (scores,) = value.operands
    last = (len(scores.shape) - 1,)

    def or_else(x: Value, limit: float, other: float) -> Value:
        return ops.where(ops.less(ops.constant(limit, x), x), x, ops.constant(other, x))

    with located(value.origin):
        top = ops.max(scores, axes=last)
        base = or_else(top, -math.inf, 0.0)
        powers = ops.exp(ops.sub(scores, ops.broadcast(base, shape=scores.shape)))
        total = ops.sum(powers, axes=last)
        found = ops.add(base, ops.log(total))
        if not value.attrs["hides"]:
            return found
        return ops.where(ops.equal(total, ops.constant(0.0, total)), ops.constant(math.inf, found), found)


def without_normalisers(graph: Graph, trail: Trail | None = None) -> Graph:
    """Those that no tiles have taken are written out."""
    return rebuild(graph, lambda value: spelt_out(value) if value.op is ops.normaliser else None, trail)

"""The largest of rectified numbers is the rectified largest of the numbers.

A pool that follows relu looks at four times as many numbers as it leaves, or more: relu and the mask of its gradient
are for those that are left. Which of equal numbers is chosen stays as it was wherever it matters: positive numbers are
as equal after relu as before, and what is not positive has the gradient 0.
"""

from __future__ import annotations

from graphc.ir import ops
from graphc.ir.graph import Graph, Value, located
from graphc.ir.rewrite import rebuild, with_operands
from graphc.ir.trail import Trail

VIEWS = (ops.slice, ops.reshape, ops.transpose, ops.pad)  # of relu(x) they are relu of the same view of x: 0 stays 0


def pool_first(graph: Graph, trail: Trail | None = None) -> Graph:
    """The relu of what a pool chooses in place of a pool of relus."""
    if not any(value.op is ops.relu for value in graph.values()):
        return graph
    return rebuild(graph, pooled_first, trail)


def pooled_first(value: Value) -> Value | None:
    if value.op is not ops.where or not is_larger_of(value):
        return None
    _, new, old = value.operands
    with located(value.origin):
        one, other = below_relu(new), below_relu(old)
        if one is None or other is None:
            return None
        larger = ops.logical_or(ops.less(other, one), ops.not_equal(one, one))
        return ops.relu(ops.where(larger, one, other))


def is_larger_of(chosen: Value) -> bool:
    """`where(old < new | new != new, new, old)`: NaN is larger than any number."""
    condition, new, old = chosen.operands
    if condition.op is not ops.logical_or:
        return False
    larger, is_nan = condition.operands
    is_larger = larger.op is ops.less and larger.operands == (old, new)
    return is_larger and is_nan.op is ops.not_equal and is_nan.operands == (new, new)


def below_relu(value: Value) -> Value | None:
    """What the numbers were before relu; None where they are of none."""
    if value.op is ops.relu:
        return value.operands[0]
    if value.op not in VIEWS:
        return None
    whole = below_relu(value.operands[0])
    return None if whole is None else with_operands(value, (whole,))

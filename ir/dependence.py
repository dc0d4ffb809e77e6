"""What a gradient can be taken by, told from the graph alone: whoever only asks this needs no gradients yet."""

from __future__ import annotations

from graphc.ir import ops
from graphc.ir.graph import Value, reachable
from graphc.ir.types import FLOATS


def depends_on(loss: Value, wrt: tuple[Value, ...]) -> set[Value]:
    """Those of `wrt` that a differentiable path leads to from `loss`."""
    reached = {loss}
    for value in reversed(list(reachable((loss,)))):
        if value in reached and differentiable(value):
            reached.update(operand for operand in value.operands if operand.dtype in FLOATS)
    return reached & set(wrt)


def differentiable(value: Value) -> bool:
    if value.op.kind in ("gradient", "loop", "part"):
        return True
    return value.op.vjp is not None and value.op is not ops.stop_gradient

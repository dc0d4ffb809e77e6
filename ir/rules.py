"""The rule tables, by subject, and the guards they name."""

from __future__ import annotations

from graphc.ir import ops
from graphc.ir.graph import Value
from graphc.ir.rewrite import rules

# Formulas that overflow or lose all digits become equal ones that do not, before gradients are taken.
STABILISE = rules("""
    1 / (1 + exp(-x)) => sigmoid(x)
    exp(x) / (1 + exp(x)) => sigmoid(x)
    log(1 + exp(x)) => softplus(x)
    log1p(exp(x)) => softplus(x)
    log(sigmoid(x)) => -softplus(-x)
    log(1 - sigmoid(x)) => -softplus(x)
    1 - sigmoid(x) => sigmoid(-x)
    log(1 + x) => log1p(x)
    log(1 - x) => log1p(-x)
    exp(x) - 1 => expm1(x)
    exp(x) / broadcast(sum(exp(x), axes=a), shape=s) => softmax(x, axes=a) if unshifted(x)
    log(exp(x) / y) => x - log(y)
    log(sum(exp(x), axes=a)) => logsumexp(x, axes=a) if unshifted(x)
    log(broadcast(x, shape=s)) => broadcast(log(x), shape=s)
    where(c, sqrt(x), y) => where(c, sqrt(where(c, x, 1)), y) if unguarded(x)
    where(c, y, sqrt(x)) => where(c, y, sqrt(where(c, 1, x))) if unguarded(x)
    where(c, log(x), y) => where(c, log(where(c, x, 1)), y) if unguarded(x)
    where(c, y, log(x)) => where(c, y, log(where(c, 1, x))) if unguarded(x)
    where(c, x / z, y) => where(c, x / where(c, z, 1), y) if unguarded(z)
    where(c, y, x / z) => where(c, y, x / where(c, 1, z)) if unguarded(z)
""")

# Equal values computed with less; the result stays the same for every input, but for the sign of a zero.
SIMPLIFY = rules("""
    stop_gradient(x) => x
    x + 0 => x
    x - 0 => x
    0 - x => -x
    x * 1 => x
    x / 1 => x
    x * -1 => -x
    x / -1 => -x
    -(-x) => x
    x + (-y) => x - y
    x - (-y) => x + y
    (-x) * (-y) => x * y
    -(x - y) => y - x
    pow(x, 1) => x
    pow(x, 2) => x * x
    relu(relu(x)) => relu(x)
    absolute(absolute(x)) => absolute(x)
    logical_not(logical_not(x)) => x
    where(c, x, x) => x
    where(c, where(c, x, y), z) => where(c, x, z)
    where(c, x, where(c, y, z)) => where(c, x, z)
""")


def unshifted(x: Value) -> bool:
    """x is not already `something - its maximum`."""
    if x.op is not ops.sub:
        return True
    shift = x.operands[1]
    while shift.op.kind == "view" or shift.op is ops.stop_gradient:
        shift = shift.operands[0]
    return shift.op is not ops.max


def unguarded(x: Value) -> bool:
    """x is not already kept away from the bad place by a `where`, and is no constant."""
    return x.op is not ops.where and x.op is not ops.full


def shifted(x: Value, axes: tuple[int, ...]) -> tuple[Value, Value]:
    """The maximum along axes, as a constant for the gradient, and x with it taken off."""
    top = ops.stop_gradient(ops.max(x, axes=axes))
    return top, ops.sub(x, ops.broadcast(top, shape=x.shape))


def softmax(x: Value, axes: tuple[int, ...]) -> Value:
    """exp(x) / sum(exp(x)) that cannot overflow."""
    powers = ops.exp(shifted(x, axes)[1])
    return ops.div(powers, ops.broadcast(ops.sum(powers, axes=axes), shape=x.shape))


def logsumexp(x: Value, axes: tuple[int, ...]) -> Value:
    """log(sum(exp(x))) that cannot overflow."""
    top, rest = shifted(x, axes)
    return ops.add(top, ops.log(ops.sum(ops.exp(rest), axes=axes)))


MACROS = {"softmax": softmax, "logsumexp": logsumexp}
GUARDS = {"unshifted": unshifted, "unguarded": unguarded}

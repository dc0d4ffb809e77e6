"""The rule tables, by subject, and the guards they name."""

from __future__ import annotations

import math

from graphc.ir import ops
from graphc.ir.graph import Value
from graphc.ir.rewrite import Guards, Macros, rules

# Formulas that overflow or lose all digits become equal ones that do not, before gradients are taken.
STABILISE = rules("""
    1 / (1 + exp(-x)) => sigmoid(x)
    exp(x) / (1 + exp(x)) => sigmoid(x)
    log1p(exp(x)) => softplus(x)
    log(sigmoid(x)) => -softplus(-x)
    1 - sigmoid(x) => sigmoid(-x)
    log(1 + x) => log1p(x)
    log(1 - x) => log1p(-x)
    exp(x) - 1 => expm1(x)
    exp(x) / broadcast(sum(exp(x), axes=a), shape=s) => softmax(x, axes=a) if unshifted(x)
    log(exp(x) / y) => x - log(y)
    log(sum(exp(x), axes=a)) => logsumexp(x, axes=a) if unshifted(x)
    log(broadcast(x, shape=s)) => broadcast(log(x), shape=s)
    log(reshape(x, shape=s)) => reshape(log(x), shape=s)
    where(c, sqrt(x), y) => where(c, sqrt(where(c, x, 1)), y) if unguarded(x, c)
    where(c, y, sqrt(x)) => where(c, y, sqrt(where(c, 1, x))) if unguarded(x, c)
    where(c, log(x), y) => where(c, log(where(c, x, 1)), y) if unguarded(x, c)
    where(c, y, log(x)) => where(c, y, log(where(c, 1, x))) if unguarded(x, c)
    where(c, log1p(x), y) => where(c, log1p(where(c, x, 0)), y) if unguarded(x, c)
    where(c, y, log1p(x)) => where(c, y, log1p(where(c, 0, x))) if unguarded(x, c)
    where(c, x / z, y) => where(c, x / where(c, z, 1), y) if unguarded(z, c)
    where(c, y, x / z) => where(c, y, x / where(c, 1, z)) if unguarded(z, c)
""")

# Equal values computed with less; the result stays the same for every input, but for the sign of a zero.
SIMPLIFY = rules("""
    stop_gradient(x) => x
    copy(x) => x
    x + 0 => x
    x - 0 => x
    0 - x => -x if signed(x)
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
    while shift.op.kind == "view" or shift.op in (ops.stop_gradient, ops.where):
        shift = shift.operands[1 if shift.op is ops.where else 0]
    return shift.op is not ops.max


def unguarded(x: Value, c: Value) -> bool:
    """x is not already kept away from the bad place by a `where` of the same condition, and is no constant."""
    return x.op is not ops.full and not (x.op is ops.where and x.operands[0] is c)


def signed(x: Value) -> bool:
    """x can be negated."""
    return x.dtype != "u8"


def shifted(x: Value, axes: tuple[int, ...]) -> tuple[Value, Value]:
    """The maximum along axes, as a constant for the gradient, and x with it taken off; an infinite one stays on."""
    top = ops.max(x, axes=axes)
    finite = ops.less(ops.absolute(top), ops.constant(math.inf, top))
    shift = ops.stop_gradient(ops.where(finite, top, ops.constant(0.0, top)))
    return shift, ops.sub(x, ops.broadcast(shift, shape=x.shape))


def softmax(x: Value, axes: tuple[int, ...]) -> Value:
    """exp(x) / sum(exp(x)) that cannot overflow."""
    powers = ops.exp(shifted(x, axes)[1])
    return ops.div(powers, ops.broadcast(ops.sum(powers, axes=axes), shape=x.shape))


def logsumexp(x: Value, axes: tuple[int, ...]) -> Value:
    """log(sum(exp(x))) that cannot overflow."""
    shift, rest = shifted(x, axes)
    return ops.add(shift, ops.log(ops.sum(ops.exp(rest), axes=axes)))


MACROS: Macros = {"softmax": softmax, "logsumexp": logsumexp}
GUARDS: Guards = {"unshifted": unshifted, "unguarded": unguarded, "signed": signed}

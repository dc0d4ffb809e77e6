"""Cotangents as one product each: what arrives from behind times a slope that the forward pass knows.

A chain of elementwise functions multiplies what arrives by one slope after another. Put together, the slopes are a
value of the forward pass: one array to keep instead of one for each function, or none where all is one nest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from graphc.ir import ops
from graphc.ir.graph import Value
from graphc.ir.ops.record import Op

BOUNDED: dict[Op, float] = {
    ops.tanh: 1.0, ops.sigmoid: 1.0, ops.erf: 1.0, ops.sin: 1.0, ops.cos: 1.0, ops.sign: 1.0,
}  # fmt: skip
MOST = 64.0  # a factor up to this size makes no product overflow that the cotangent's own would not
DEEPEST = 6


class Slopes:
    """Sees every cotangent of one sweep as it is found.

    forward  values of the forward pass
    seeds    the cotangents it starts from
    """

    def __init__(self, forward: Iterable[Value], seeds: Iterable[Value]) -> None:
        values = tuple(forward)
        self.arrives = dict.fromkeys(values, False) | dict.fromkeys(seeds, True)
        self.quotients = {value.operands: value for value in values if value.op is ops.div}

    def depends(self, value: Value) -> bool:
        """It is made of a seed."""
        stack = [value]
        while stack:
            each = stack[-1]
            missing = [operand for operand in each.operands if operand not in self.arrives]
            if each in self.arrives:
                stack.pop()
            elif missing:
                stack += missing
            else:
                self.arrives[stack.pop()] = any(self.arrives[operand] for operand in each.operands)
        return self.arrives[value]

    def gathered(self, cotangent: Value) -> Value:
        """The cotangent as one product, or as it is."""
        found = self.product(cotangent)
        if found is None:
            return cotangent
        result = ops.mul(*found)
        self.arrives[result] = True
        return result

    def product(self, value: Value) -> tuple[Value, Value] | None:
        """A cotangent and the slope it is multiplied by; None where that is not better than what there is."""
        if value.op is ops.mul:
            arriving, slope = value.operands if self.depends(value.operands[0]) else reversed(value.operands)
            known = self.quotients.get((slope, arriving.operands[1])) if arriving.op is ops.div else None
            if known is not None:  # c / s * e, where e / s is at hand
                return arriving.operands[0], known
            before = self.factors(arriving)
            if before is None or self.depends(slope) or not may_multiply(before[1], slope):
                return None
            return before[0], ops.mul(before[1], slope)
        if value.op is ops.neg:
            before = self.factors(value.operands[0])
            return None if before is None else (before[0], ops.neg(before[1]))
        if value.op is ops.add:
            one, other = map(self.factors, value.operands)
            if one is None or other is None or one[0] is not other[0] or not may_add(one[1], other[1]):
                return None
            return one[0], ops.add(one[1], other[1])
        return None

    def factors(self, value: Value) -> tuple[Value, Value] | None:
        """Of a product, what arrives and the slope; None where what arrives is one number for many elements."""
        if value.op is not ops.mul:
            return None
        one, other = value.operands
        if self.depends(one) == self.depends(other):
            return None
        arriving, slope = (one, other) if self.depends(one) else (other, one)
        return None if arriving.op is ops.broadcast else (arriving, slope)


def may_multiply(one: Value, other: Value) -> bool:
    """As one array they are no larger than they are as two, and their product does not overflow."""
    if ops.broadcast in (one.op, other.op):
        return False
    return min(largest(one), largest(other)) <= MOST


def may_add(one: Value, other: Value) -> bool:
    return min(largest(one), largest(other)) <= MOST


def largest(value: Value, depth: int = 0) -> float:
    """A size the absolute value never exceeds, inf where none is known."""
    operands = [each for each in value.operands if depth < DEEPEST]
    if value.dtype == "bool" or value.op in BOUNDED:
        return BOUNDED.get(value.op, 1.0)
    if value.op is ops.full:
        return abs(float(value.attrs["value"]))
    if value.op is ops.exp and is_negative_square(value.operands[0]):
        return 1.0
    if not operands:
        return math.inf
    sizes = (largest(each, depth + 1) for each in operands)
    if value.op is ops.mul:
        return math.prod(sizes)
    if value.op in (ops.add, ops.sub):
        return sum(sizes)
    if value.op in (ops.neg, ops.absolute, ops.copy, ops.cast, ops.stop_gradient):
        return max(sizes)
    return max(list(sizes)[1:]) if value.op is ops.where else math.inf


def is_negative_square(value: Value) -> bool:
    if value.op is not ops.neg or value.operands[0].op is not ops.mul:
        return False
    one, other = value.operands[0].operands
    return one is other

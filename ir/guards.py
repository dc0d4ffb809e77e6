"""What rules ask before they fire: whether a logarithm is known, a sum overflows, a branch of `where` is kept safe."""

from __future__ import annotations

import numpy as np

from graphc.ir import ops
from graphc.ir.graph import Value
from graphc.ir.ops.record import Op
from graphc.ir.rewrite import DEEPEST, Guards
from graphc.ir.types import DTYPES

# -- what is made of exponentials

Shift = tuple[int, ...]
LONGEST = 50
KEEP_SIGN = (ops.add, ops.mul, ops.div, ops.maximum, ops.minimum, ops.sqrt, ops.stop_gradient)


def passes_on(x: Value) -> tuple[Value, ...]:
    """The operands x is positive with; none where that is not how it is told."""
    if x.op is ops.where:
        return x.operands[1:]
    if x.op in (ops.gather, ops.pow):
        return x.operands[:1]
    if x.op is ops.sum and is_shifted(x.operands[0], x.attrs["axes"]):
        return ()
    return x.operands if x.op in KEEP_SIGN or x.op.kind == "reduce" or is_plain_view(x) else ()


def parts_of(x: Value) -> list[Value]:
    """All that makes x positive, down to exponentials, sums of them and numbers.

    Nothing where x may be negative, or is so long a formula that its logarithm would be no better.
    """
    found, stack = {x: None}, [x]
    while stack:
        value = stack.pop()
        below = passes_on(value)
        if len(found) > LONGEST or (not below and not is_positive(value)):
            return []
        stack += [operand for operand in dict.fromkeys(below) if operand not in found]
        found |= dict.fromkeys(below)
    return list(found)


def is_positive(x: Value) -> bool:
    """Positive by itself, or 0. A sum is one if nothing is said of what it sums up: it is of shifted exponentials."""
    if x.op is ops.full:
        return float(x.attrs["value"]) >= 0
    return x.op in (ops.exp, ops.sigmoid, ops.size, ops.sum)


def is_shifted(x: Value, axes: Shift | None = None) -> bool:
    """An exp that cannot overflow."""
    return x.op is ops.exp and not unshifted(x.operands[0], axes)


def positive(x: Value) -> bool:
    return bool(parts_of(x))


def overflows(x: Value) -> bool:
    """x is positive, and there is an exp in it of which nobody has taken the largest exponent off."""
    return any(part.op is ops.exp and not is_shifted(part) for part in parts_of(x))


def exponential(x: Value) -> bool:
    """x is positive, and there is an exp or sigmoid in it that the logarithm would undo."""
    found = parts_of(x)
    if not any(part.op in (ops.exp, ops.sigmoid) for part in found):
        return False
    # log(p + 1e-8) is safe already
    return overflows(x) or not any(part.op is ops.add and any(map(is_number, part.operands)) for part in found)


def weighted(x: Value) -> bool:
    """x is picked from a sum of exponentials, each times a weight of any sign."""
    while is_plain_view(x) or x.op is ops.gather:
        x = x.operands[0]
    if x.op is not ops.sum or x.operands[0].op is not ops.mul:
        return False
    return any(unshifted_sum(factor, x.attrs["axes"]) for factor in x.operands[0].operands)


def has_log(x: Value) -> bool:
    """log(x) is known without computing x."""
    return exponential(x) or weighted(x)


def has_sign(x: Value) -> bool:
    return positive(x) or weighted(x)


def product_has_log(x: Value, y: Value) -> bool:
    return exponential(x) or (weighted(x) and positive(y))


def share_has_log(x: Value, y: Value) -> bool:
    return exponential(y) or product_has_log(x, y)


def one_exponential(x: Value, y: Value) -> bool:
    return exponential(x) or exponential(y)


def positive_pair(x: Value, y: Value) -> bool:
    return exponential(x) and positive(y)


def masked_exponential(x: Value, c: Value) -> bool:
    return c.dtype == "bool" and exponential(x)


def overflowing_share(x: Value, y: Value) -> bool:
    return overflows(y) and positive(x)


def unshifted(x: Value, axes: Shift | None = None) -> bool:
    """x is not already `something - its maximum`, along some of the axes if any are named."""
    if x.op is ops.minimum:
        return all(unshifted(operand, axes) for operand in x.operands)
    if x.op is not ops.sub:
        return True
    shift = x.operands[1]
    while shift.op.kind == "view" or shift.op in (ops.stop_gradient, ops.where):
        shift = shift.operands[1 if shift.op is ops.where else 0]
    if shift.op is ops.max:
        return axes is not None and not set(shift.attrs["axes"]) <= set(axes)
    return shift.op is not ops.maximum


def unshifted_sum(x: Value, axes: Shift) -> bool:
    """The sum of x along the axes can overflow or underflow."""
    return exponential(x) and not is_shifted(x, axes)


def unshifted_pair(x: Value, y: Value) -> bool:
    """x + y can overflow, or underflow."""
    if is_shifted(x) and is_shifted(y):
        return False
    return (exponential(x) and exponential(y)) or (overflows(x) and positive(y))


def length(x: Value) -> bool:
    """x is a sum or mean of squares. What an optimizer computes has no gradient."""
    return x.role != "update" and squares(x)


def squares(x: Value, depth: int = DEEPEST) -> bool:
    if x.op is ops.dot:
        row, column = x.operands
        return row.shape[-2] == column.shape[-1] == 1 and unshaped(row) is unshaped(column)
    if x.op is ops.mul and x.operands[0] is x.operands[1]:
        return True
    if depth == 0:
        return False
    if x.op is ops.sum or is_plain_view(x) or (x.op in (ops.mul, ops.div) and is_number(x.operands[1])):
        return squares(x.operands[0], depth - 1)
    if x.op is ops.mul and is_number(x.operands[0]):
        return squares(x.operands[1], depth - 1)
    return x.op is ops.add and all(squares(term, depth - 1) for term in set(x.operands))


def is_plain_view(x: Value) -> bool:
    """A view of elements of its operand and nothing else."""
    return x.op.kind == "view" and x.op is not ops.pad


def unshaped(x: Value) -> Value:
    return unshaped(x.operands[0]) if x.op is ops.reshape else x


def is_number(x: Value, depth: int = DEEPEST) -> bool:
    """Made of constants and sizes."""
    if depth and (x.op.kind == "elementwise" or is_plain_view(x)):
        return all(is_number(operand, depth - 1) for operand in set(x.operands))
    return x.op in (ops.full, ops.size)


def signed(x: Value) -> bool:
    """x can be negated."""
    return x.dtype != "u8"


# -- branches of `where`


OPPOSITES: dict[Op, Op] = {
    ops.less: ops.less_equal,
    ops.less_equal: ops.less,
    ops.equal: ops.not_equal,
    ops.not_equal: ops.equal,
}


def holds(c: Value, known: Value, truth: bool, depth: int = DEEPEST) -> bool | None:
    """Whether c holds where another condition does (or, for truth False, does not); None: not told by that."""
    if c is known:
        return truth
    if c.op in OPPOSITES:
        turned = c.operands[::-1] if c.op in (ops.less, ops.less_equal) else c.operands
        return not truth if OPPOSITES[c.op] is known.op and turned == known.operands else None
    found = {holds(part, known, truth, depth - 1) for part in c.operands} if depth and c.op in LOGIC else {None}
    if c.op is ops.logical_not:
        return None if found == {None} else found == {False}
    decisive = c.op is ops.logical_or
    return decisive if decisive in found else None


LOGIC = (ops.logical_not, ops.logical_and, ops.logical_or)


def number_where(x: Value, c: Value, truth: bool, depth: int = DEEPEST) -> float | None:
    """The number x is wherever c holds (or does not); None where that is not known."""
    if x.op is ops.full:
        return float(x.attrs["value"])
    if x.op is ops.size:
        return 1.0  # or more
    if depth and is_plain_view(x):
        return number_where(x.operands[0], x, truth, depth - 1)  # below a view nothing is known of c
    if depth == 0 or x.op.kind != "elementwise":
        return None
    operands = x.operands
    if x.op is ops.where:
        known = holds(operands[0], c, truth)
        operands = operands[1:] if known is None else operands[1:2] if known else operands[2:]
    numbers = []
    for operand in operands:
        number = number_where(operand, c, truth, depth - 1)
        if number is None:
            return None
        numbers.append(DTYPES[operand.dtype].type(number))
    if x.op is ops.where:
        return float(numbers[0]) if numbers[0] == numbers[-1] else None
    with np.errstate(all="ignore"):
        return float(x.op.numpy(*numbers, **x.attrs))


def outside_unless(x: Value, c: Value, low: float, high: float) -> bool:
    """x may be outside of low..high where c does not hold."""
    return outside(x, c, False, low, high)


def outside_if(x: Value, c: Value, low: float, high: float) -> bool:
    return outside(x, c, True, low, high)


def outside(x: Value, c: Value, truth: bool, low: float, high: float) -> bool:
    if c.role == "update" or (low == 0 and positive(x)):  # what an optimizer computes has no gradient
        return False
    number = number_where(x, c, truth)
    return number is None or not low < number < high


def overflowing_unless(x: Value, c: Value) -> bool:
    """exp of x may overflow where c does not hold."""
    return overflowing(x, c, False)


def overflowing_if(x: Value, c: Value) -> bool:
    return overflowing(x, c, True)


def overflowing(x: Value, c: Value, truth: bool) -> bool:
    number = number_where(x, c, truth)
    return c.role != "update" and unshifted(x) and not (number is not None and number < 80)


def unsplit(x: Value) -> bool:
    """x is not already one side of `log1mexp`."""
    return not (x.op is ops.where and x.operands[0].op is ops.less and x.operands[0].operands[0].op is ops.full)


GUARDS: Guards = {
    each.__name__: each
    for each in (
        exponential, has_log, has_sign, product_has_log, share_has_log, one_exponential, positive_pair,
        masked_exponential, overflows, overflowing_share, unshifted, unshifted_sum, unshifted_pair, length, signed,
        outside_unless, outside_if, overflowing_unless, overflowing_if, unsplit,
    )
}  # fmt: skip

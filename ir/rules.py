"""The rule tables, by subject, and the formulas in them that are longer than a line."""

from __future__ import annotations

import math

from graphc.ir import ops
from graphc.ir.graph import Value
from graphc.ir.guards import GUARDS
from graphc.ir.rewrite import Macros, Note, Visit, no_note, rewriter, rules, with_operands

# Formulas that overflow or lose all digits become equal ones that do not, before gradients are taken. What is made of
# exponentials alone has a logarithm that is known without computing it: log moves down to the exponents.
DIGITS = """
    # a difference of numbers that are nearly equal has few right digits
    1 - sigmoid(x) => sigmoid(-x)
    2 * sigmoid(x) - 1 => tanh(x * 0.5)
    exp(x) - 1 => expm1(x)
    1 - exp(x) => -expm1(x)
    log(1 + x) => log1p(x)
    log(1 - x) => log1p(-x)

    # log(1 - exp(x)) loses its digits for x near 0 one way, for x far below the other: each where it is good
    log(-expm1(x)) => log1mexp(x) if unsplit(x)
    log1p(-exp(x)) => log1mexp(x) if unsplit(x)
    log(expm1(x)) => x + log1mexp(-x) if unsplit(x)
"""
LOGARITHMS = """
    # the logarithm of what underflowed to 0 is -inf, of what overflowed inf; the logarithm of exp(x) is x
    log(exp(x)) => x
    log(sigmoid(x)) => -softplus(-x)
    log(x * y) => log(x) + log(y) if product_has_log(x, y)
    log(x / y) => log(x) - log(y) if share_has_log(x, y)
    log(pow(x, y)) => log_of_power(log(x), y) if exponential(x)
    log(sqrt(x)) => 0.5 * log(x) if exponential(x)
    log2(x) => log(x) / log(2) if exponential(x)
    log10(x) => log(x) / log(10) if exponential(x)
    log(cosh(x)) => logaddexp(x, -x) - log(2)

    # a product of many probabilities underflows, the sum of their logarithms does not
    log(prod(x, axes=a)) => sum(log(x), axes=a) if exponential(x)

    # exp overflows above 88 in f32 and 709 in f64: the largest exponent is taken off first, and put back after the log
    log(sum(x, axes=a)) => logsumexp(log(x), axes=a) if unshifted_sum(x, a)
    log(sum(x * y, axes=a)) => logsumexp_of(log(x), y, axes=a) if unshifted_sum(x, a)
    log(x + y) => logaddexp(log(x), log(y)) if unshifted_pair(x, y)
    log1p(x) => softplus(log(x)) if overflows(x)

    # log moves down to the softmax, sigmoid or exp below, which may have underflowed to 0
    log(broadcast(x, shape=s)) => broadcast(log(x), shape=s) if has_sign(x)
    log(reshape(x, shape=s)) => reshape(log(x), shape=s) if has_sign(x)
    log(transpose(x, permutation=p)) => transpose(log(x), permutation=p) if has_log(x)
    log(slice(x, start=b, step=d, shape=s)) => slice(log(x), start=b, step=d, shape=s) if has_log(x)
    log(gather(x, *i, places=p)) => gather(log(x), *i, places=p) if has_log(x)
    log(where(c, x, y)) => where(c, log(x), log(y)) if one_exponential(x, y)
    log(maximum(x, y)) => maximum(log(x), log(y)) if positive_pair(x, y)
    log(minimum(x, y)) => minimum(log(x), log(y)) if positive_pair(x, y)
    log(max(x, axes=a)) => max(log(x), axes=a) if exponential(x)
    log(min(x, axes=a)) => min(log(x), axes=a) if exponential(x)
    log(stop_gradient(x)) => stop_gradient(log(x)) if exponential(x)

    # a product with 0 or 1 picks, and what is not picked may have overflowed: 0 * inf is NaN
    x * cast(c, dtype=d) => where(c, x, 0) if masked_exponential(x, c)
    x * cast(where(c, 1, 0), dtype=d) => where(c, x, 0) if exponential(x)
    x * where(c, 1, 0) => where(c, x, 0) if exponential(x)
    where(c, exp(x), 0) => exp(where(c, x, -inf))
    where(c, 0, exp(x)) => exp(where(c, -inf, x))
"""
QUOTIENTS = """
    # exp overflows above 88 in f32 and 709 in f64; inf / inf is NaN, and so is 0 * inf in a gradient
    exp(x) / broadcast(sum(exp(x), axes=a), shape=s) => softmax(x, axes=a) if unshifted(x, a)
    exp(x) * y / broadcast(sum(exp(x) * y, axes=a), shape=s) => softmax_of(x, y, axes=a) if unshifted(x, a)
    (exp(x) - exp(y)) / (exp(x) + exp(y)) => tanh((x - y) * 0.5)
    expm1(x) / (1 + exp(x)) => tanh(x * 0.5)
    -expm1(x) / (1 + exp(x)) => tanh(x * -0.5)
    exp(x) / (1 + exp(x)) => sigmoid(x)
    exp(x) / (exp(x) + exp(y)) => sigmoid(x - y)
    y / (1 + exp(x)) => times(y, sigmoid(-x))
    y / exp(x) => times(y, exp(-x))
    x / y => exp(log(x) - log(y)) if overflowing_share(x, y)
    exp(x) * exp(y) => exp(x + y)

    # 0 / 0 is NaN
    x / x => 1
"""
SLOPES = """
    # the slope of sqrt at 0 is infinite, and times the slope 0 of a square NaN; a length of 0 has slope 0
    sqrt(x * x) => absolute(x)
    sqrt(x) => root(x) if length(x)
"""


def in_branches(form: str, safe: float, guard: str) -> str:
    """The two rules that keep one operand of a formula safe where a `where` does not choose it."""
    whole, kept, other = (form.format(each) for each in ("z", f"where(c, z, {safe})", f"where(c, {safe}, z)"))
    return f"""
        where(c, within({whole}, c), y) => where(c, within({kept}, c), y) if {guard.format("unless")}
        where(c, y, within({whole}, c)) => where(c, y, within({other}, c)) if {guard.format("if")}
    """


ABOVE_0, ABOVE_1 = "outside_{}(z, c, 0, inf)", "outside_{}(z, c, 1, inf)"
BETWEEN, SMALL = "outside_{}(z, c, -1, 1)", "overflowing_{}(z, c)"
BRANCHES = [
    "# a branch that `where` does not choose has the gradient 0, and 0 times an infinite slope is NaN",
    *(in_branches(form, 1, ABOVE_0) for form in ("sqrt({})", "log({})", "log2({})", "log10({})")),
    *(in_branches(form, 1, ABOVE_0) for form in ("x / {}", "pow({}, x)")),
    *(in_branches(form, 0, BETWEEN) for form in ("log1p({})", "asin({})", "acos({})", "atanh({})")),
    in_branches("acosh({})", 2, ABOVE_1),
    "# a branch that `where` does not choose has the gradient 0, and 0 times an exp that overflowed is NaN",
    *(in_branches(form, 0, SMALL) for form in ("exp({})", "expm1({})", "exp2({})", "sinh({})", "cosh({})")),
]
STABILISE = rules("\n".join([DIGITS, LOGARITHMS, QUOTIENTS, SLOPES, *BRANCHES]))

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


# -- formulas


def shifted(x: Value, axes: tuple[int, ...], among: Value | None = None) -> tuple[Value, Value]:
    """The maximum along axes, as a constant for the gradient, and x with it taken off; an infinite one stays on.

    among  a factor that is not 0 for the elements the maximum is taken of
    """
    counted = x
    if among is not None:
        nothing = ops.equal(among, ops.constant(0.0, among))
        counted = ops.where(nothing, ops.constant(-math.inf, x), x)
    top = ops.max(counted, axes=axes)
    finite = ops.less(ops.absolute(top), ops.constant(math.inf, top))
    shift = ops.stop_gradient(ops.where(finite, top, ops.constant(0.0, top)))
    rest = ops.sub(x, ops.broadcast(shift, shape=x.shape))
    if among is not None:  # an element that is not counted may be far above: times 0, it must not be infinite
        rest = ops.minimum(rest, ops.constant(80.0 if x.dtype == "f32" else 700.0, rest))
    return shift, rest


def softmax(x: Value, axes: tuple[int, ...]) -> Value:
    """exp(x) / sum(exp(x)) that cannot overflow."""
    return part_of_sum(ops.exp(shifted(x, axes)[1]), axes)


def softmax_of(x: Value, weight: Value, axes: tuple[int, ...]) -> Value:
    """exp(x) * weight / sum(exp(x) * weight) that cannot overflow."""
    return part_of_sum(ops.mul(ops.exp(shifted(x, axes, weight)[1]), weight), axes)


def part_of_sum(x: Value, axes: tuple[int, ...]) -> Value:
    return ops.div(x, ops.broadcast(ops.sum(x, axes=axes), shape=x.shape))


def logsumexp(x: Value, axes: tuple[int, ...]) -> Value:
    """log(sum(exp(x))) that cannot overflow."""
    shift, rest = shifted(x, axes)
    return ops.add(shift, ops.log(ops.sum(ops.exp(rest), axes=axes)))


def logsumexp_of(x: Value, weight: Value, axes: tuple[int, ...]) -> Value:
    """log(sum(exp(x) * weight)) that cannot overflow."""
    shift, rest = shifted(x, axes, weight)
    return ops.add(shift, ops.log(ops.sum(ops.mul(ops.exp(rest), weight), axes=axes)))


def logaddexp(x: Value, y: Value) -> Value:
    """log(exp(x) + exp(y)) that cannot overflow, with all its derivatives."""
    larger = ops.less(y, x)
    high, low = ops.where(larger, x, y), ops.where(larger, y, x)
    finite = ops.less(ops.absolute(high), ops.constant(math.inf, high))
    return ops.add(high, ops.softplus(ops.where(finite, ops.sub(low, high), ops.constant(0.0, high))))


def log_of_power(x: Value, y: Value) -> Value:
    """y * x for the logarithm x of a base; 0 to the power 0 is 1."""
    nothing = ops.equal(y, ops.constant(0.0, y)), ops.equal(x, ops.constant(-math.inf, x))
    return ops.mul(y, ops.where(ops.logical_and(*nothing), ops.constant(0.0, x), x))


def log1mexp(x: Value) -> Value:
    """log(1 - exp(x)) for x < 0. Source: Mächler 2012, Accurately computing log(1 - exp(-|a|)), equation 7."""
    near = ops.less(ops.constant(-math.log(2), x), x)
    middle = ops.constant(-1.0, x)
    close, far = ops.where(near, x, middle), ops.where(near, middle, x)
    return ops.where(near, ops.log(ops.neg(ops.expm1(close))), ops.log1p(ops.neg(ops.exp(far))))


def root(x: Value) -> Value:
    """sqrt(x) with slope 0 at 0."""
    zero, one = ops.constant(0.0, x), ops.constant(1.0, x)
    nothing = ops.equal(x, zero)
    return ops.where(nothing, zero, ops.sqrt(ops.where(nothing, one, x)))


def times(x: Value, y: Value) -> Value:
    """x * y, and y where x is 1: a rule that looks for y finds it."""
    return y if x.op is ops.full and x.attrs["value"] == 1 else ops.mul(x, y)


MACROS: Macros = {
    each.__name__: each
    for each in (softmax, softmax_of, logsumexp, logsumexp_of, logaddexp, log_of_power, log1mexp, root, times)
}

# -- the visit of the pass


def stabiliser(note: Note = no_note) -> Visit:
    """A visit function that makes formulas safe, also those traced where no gradient is wanted."""
    visit = rewriter(STABILISE, GUARDS, MACROS, note)
    return lambda value: stopped_once(value) or visit(value)


def stopped_once(value: Value) -> Value | None:
    """Without stops inside of what is stopped: under `no_grad` every value has one, and it would hide the formula."""
    if value.op is not ops.stop_gradient:
        return None
    (inner,) = value.operands
    if inner.op.kind not in ("elementwise", "view", "reduce", "gather"):
        return None
    operands = tuple(each.operands[0] if each.op is ops.stop_gradient else each for each in inner.operands)
    return None if operands == inner.operands else with_operands(value, (with_operands(inner, operands),))

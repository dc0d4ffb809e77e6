"""The rule tables, by subject, the guards they name, and the formulas that are longer than a line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from graphc.ir import ops
from graphc.ir.graph import Value
from graphc.ir.ops.record import Op
from graphc.ir.rewrite import Guards, Macros, rules

# Formulas that overflow or lose all digits become equal ones that do not, before gradients are taken. What is made of
# exponentials alone has a logarithm that is known without computing it: log moves down to the exponents.
LOGARITHMS = """
    # log of a number that underflowed is -inf, of one that overflowed inf; log of exp(x) is x
    log(exp(x)) => x
    log(sigmoid(x)) => -softplus(-x)
    log(x * y) => log(x) + log(y) if exponential(x)
    log(x / y) => log(x) - log(y) if one_exponential(x, y)
    log(pow(x, y)) => y * log(x) if exponential(x)
    log(sqrt(x)) => 0.5 * log(x) if exponential(x)
    log2(x) => log(x) * 1.4426950408889634 if exponential(x)
    log10(x) => log(x) * 0.4342944819032518 if exponential(x)
    log(cosh(x)) => logaddexp(x, -x) - 0.6931471805599453

    # a product of many probabilities underflows, the sum of their logarithms does not
    log(prod(x, axes=a)) => sum(log(x), axes=a) if exponential(x)

    # exp overflows above 88 in f32 and 709 in f64: the largest exponent is taken off first, and put back after the log
    log(sum(x, axes=a)) => logsumexp(log(x), axes=a) if unshifted_sum(x, a)
    log(sum(x * y, axes=a)) => logsumexp_of(log(x), y, axes=a) if exponential(x)
    log(x + y) => logaddexp(log(x), log(y)) if unshifted_pair(x, y)
    log1p(x) => softplus(log(x)) if overflows(x)

    # the log is taken of what is picked here, where it is that of a softmax, a sigmoid or an exp that may underflow
    log(broadcast(x, shape=s)) => broadcast(log(x), shape=s) if exponential(x)
    log(reshape(x, shape=s)) => reshape(log(x), shape=s) if exponential(x)
    log(transpose(x, permutation=p)) => transpose(log(x), permutation=p) if exponential(x)
    log(slice(x, start=b, step=d, shape=s)) => slice(log(x), start=b, step=d, shape=s) if exponential(x)
    log(gather(x, *i, places=p)) => gather(log(x), *i, places=p) if exponential(x)
    log(where(c, x, y)) => where(c, log(x), log(y)) if one_exponential(x, y)
    log(max(x, axes=a)) => max(log(x), axes=a) if exponential(x)
    log(min(x, axes=a)) => min(log(x), axes=a) if exponential(x)
    log(stop_gradient(x)) => stop_gradient(log(x)) if exponential(x)

    # a product with 0 or 1 picks, and what is not picked may have overflowed: 0 * inf is NaN
    x * cast(c, dtype=d) => where(c, x, 0) if exponential_or_not(x, c)
    x * cast(where(c, 1, 0), dtype=d) => where(c, x, 0) if exponential(x)
    x * where(c, 1, 0) => where(c, x, 0) if exponential(x)
    where(c, exp(x), 0) => exp(where(c, x, -inf))
    where(c, 0, exp(x)) => exp(where(c, -inf, x))
"""
QUOTIENTS = """
    # exp overflows above 88 in f32 and 709 in f64, and inf / inf is NaN, as are gradients that multiply inf by 0
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
    x / x => 1
    sqrt(x * x) => absolute(x)
"""
DIGITS = """
    # close to 0 or 1 the difference loses all its digits
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
SLOPES = """
    # the slope of sqrt at 0 is infinite; a length of 0 has slope 0
    sqrt(x) => root(x) if squares(x)
"""


def in_branches(form: str, safe: float, guard: str) -> str:
    """The two rules that keep one operand of a formula safe where a `where` does not choose it."""
    whole, kept, other = (form.format(each) for each in ("z", f"where(c, z, {safe})", f"where(c, {safe}, z)"))
    return f"""
        where(c, within({whole}), y) => where(c, within({kept}), y) if {guard}_unless(z, c)
        where(c, y, within({whole})) => where(c, y, within({other})) if {guard}_if(z, c)
    """


BRANCHES = [
    "# a branch that `where` does not choose has the gradient 0, and 0 times an infinite slope is NaN",
    *(in_branches(form, 1, "bad") for form in ("sqrt({})", "log({})", "log2({})", "log10({})", "x / {}", "pow({}, x)")),
    *(in_branches(form, 0, "bad") for form in ("log1p({})", "asin({})", "acos({})", "atanh({})")),
    in_branches("acosh({})", 2, "bad"),
    "# a branch that `where` does not choose has the gradient 0, and 0 times an exp that overflowed is NaN",
    *(in_branches(form, 0, "large") for form in ("exp({})", "expm1({})", "exp2({})", "sinh({})", "cosh({})")),
]

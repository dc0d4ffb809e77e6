"""Exponentials, and what is made of them."""

from __future__ import annotations

from graphc.backends.maths.templates import both

# e^r - 1 for |r| <= ln 2 / 2.
EXPM1_NEAR = """\
def expm1_near(r):
    square = r * r
    p = polynomial(EXPM1, r, square)
    return fma(square, p, r)
"""

# 2^n (1 + e), where the last bits of `shifted` are n + BIAS - 1. It is rounded twice only where it is subnormal, and
# no factor is: 2^(n - 1) down to MODEST_BITS, then the rest.
SCALED = """\
def scaled(e, shifted):
    exponent = bits_of(shifted) << integer(MANTISSA)
    first = float_of(maximum(exponent, integer(MODEST_BITS)))
    rest = float_of(minimum(exponent, integer(MODEST_BITS)) + integer(REST_BITS))
    return fma(e, first, first) * rest
"""

# e^(x + x_low) for an x_low that is small beside x.
EXP_OF_SUM = """\
def exp_of_sum(x, x_low):
    z = select(x < real(EXP_ZERO), real(EXP_ZERO), x)
    z = select(z > real(EXP_INFINITE), real(EXP_INFINITE), z)
    shifted = fma(z, real(LOG2_E), real(ROUNDER_TO_HALF))
    n = shifted - real(ROUNDER_TO_HALF)
    r = fma(n, real(-LN2_LOW), fma(n, real(-LN2_HIGH), z)) + x_low
    return scaled(expm1_near(r), shifted)
"""

EXP = """\
def exp(x):
    return exp_of_sum(x, real(-0.0))
"""

EXP2 = """\
def exp2(x):
    z = select(x < real(EXP2_ZERO), real(EXP2_ZERO), x)
    z = select(z > real(EXP2_INFINITE), real(EXP2_INFINITE), z)
    shifted = z + real(ROUNDER_TO_HALF)
    r = z - (shifted - real(ROUNDER_TO_HALF))
    p = polynomial(EXP2, r, r * r)
    return scaled(r * p, shifted)
"""

# (e^z - 1) * one for a power of two `one`; from z = n ln 2 + r it is 2^n (e^r - 1) + (2^n - 1).
EXPM1_TIMES = """\
def expm1_times(z, one):
    shifted = fma(z, real(LOG2_E), real(ROUNDER))
    n = shifted - real(ROUNDER)
    r = fma(n, real(-LN2_LOW), fma(n, real(-LN2_HIGH), z))
    scale = float_of((bits_of(shifted) << integer(MANTISSA)) + bits_of(one))
    return fma(scale, expm1_near(r), scale - one)
"""

# Large results are reckoned in halves, because 2^n may overflow where they do not.
EXPM1 = """\
def expm1(x):
    z = select(x < real(EXPM1_LOWEST), real(EXPM1_LOWEST), x)
    large = x > real(EXPM1_LARGE)
    y = expm1_times(z, select(large, real(0.5), real(1.0))) * select(large, real(2.0), real(1.0))
    return copysign(select(x <= real(EXP_LARGEST), y, x + real(inf)), x)
"""

# With t = e^|x| - 1: (2 t - t t/(t + 1)) / 2 near 0, (t - 1/(t + 1) + 1) / 2 further out, and t / 2 far out, reckoned
# in eighths, because t may overflow.
SINH = """\
def sinh(x):
    a = absolute(x)
    b = select(a > real(SINH_INFINITE), real(SINH_INFINITE), a)
    large = a > real(EXPM1_LARGE)
    t = expm1_times(b, select(large, real(0.125), real(1.0)))
    near = t < real(1.0)
    start = select(near, t, real(1.0))
    twice = fma(-start, start / (t + real(1.0)), select(near, t + t, t)) + select(near, real(0.0), real(1.0))
    return copysign(select(large, t * real(4.0), real(0.5) * twice), x)
"""

# (e^a + e^-a) / 2 for a = |x|, and e^a / 2 far out.
COSH = """\
def cosh(x):
    a = absolute(x)
    b = select(a > real(SINH_INFINITE), real(SINH_INFINITE), a)
    large = a > real(EXPM1_LARGE)
    t = expm1_times(b, select(large, real(0.125), real(1.0)))
    e = t + real(1.0)
    return select(large, t * real(4.0), fma(real(0.5), e, real(0.5) / e))
"""

# With t = (e^2|x| - 1) / 2: t - t t/(t + 1) near 0, 1 - 1/(t + 1) further out; so a rounded quotient only corrects. For
# that ln 2 need not be split.
TANH = """\
def tanh(x):
    a = absolute(x)
    z = select(a > real(TANH_ONE), real(TANH_ONE), a)
    shifted = fma(z, real(TWICE_LOG2_E), real(ROUNDER_TO_HALF))
    n = shifted - real(ROUNDER_TO_HALF)
    r = fma(n, real(-LN2), z + z)
    half = float_of(bits_of(shifted) << integer(MANTISSA))
    t = fma(half, expm1_near(r), half - real(0.5))
    start = select(t < real(1.0), t, real(1.0))
    return copysign(fma(-start, start / (t + real(1.0)), start), x)
"""

# With e^x = p / q, q a power of two: e^x - e^x p/(p + q) for x < 0, 1 - q/(p + q) for x > 0. Both p and q carry a
# factor FAR that keeps them from being subnormal.
SIGMOID = """\
def sigmoid(x):
    z = select(x < real(EXP_ZERO), real(EXP_ZERO), x)
    z = select(z > real(SIGMOID_ONE), real(SIGMOID_ONE), z)
    shifted = fma(z, real(-LOG2_E), real(ROUNDER_TO_FAR))
    n = shifted - real(ROUNDER_TO_FAR)
    r = fma(n, real(LN2_LOW), fma(n, real(LN2_HIGH), z))
    bits = bits_of(shifted) << integer(MANTISSA)
    p = fma(expm1_near(r), real(FAR), real(FAR))
    q = float_of(bits)
    start = select(p < q, p, q)
    return fma(-start, start / (p + q), start) * float_of(integer(TWICE_ONE_BITS) - bits)
"""

# 1 - e^-q with q = -log erfc|x|, which is a smooth function.
ERF = """\
def erf(x):
    a = absolute(x)
    b = select(a > real(ERF_ONE), real(ERF_ONE), a)
    p = polynomial(ERF, b, b * b)
    q = fma(b, p, b)
    shifted = fma(q, real(-LOG2_E), real(ROUNDER_TO_ONE))
    n = shifted - real(ROUNDER_TO_ONE)
    r = fma(n, real(-LN2), -q)
    scale = float_of(bits_of(shifted) << integer(MANTISSA))
    return copysign(fma(-scale, expm1_near(r), real(1.0) - scale), x)
"""

FUNCTIONS = {
    "cosh": both(COSH),
    "erf": both(ERF),
    "exp": both(EXP),
    "exp2": both(EXP2),
    "expm1": both(EXPM1),
    "sigmoid": both(SIGMOID),
    "sinh": both(SINH),
    "tanh": both(TANH),
}
PARTS = {
    "exp_of_sum": both(EXP_OF_SUM),
    "expm1_near": both(EXPM1_NEAR),
    "expm1_times": both(EXPM1_TIMES),
    "scaled": both(SCALED),
}

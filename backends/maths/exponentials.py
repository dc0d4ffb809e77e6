"""Exponentials, and what is made of them."""

from __future__ import annotations

from graphc.backends.maths.templates import both, widened

# m * 2^n, where the last bits of `shifted` are the integer n.
SCALED = """\
def scaled(m, shifted):
    exponent = bits_of(shifted) << integer(MANTISSA)
    normal = bits_of(m) + exponent
    # Operations with subnormal results are slow, so none has: in f32, 2^126 times one ends at the last bit of 1.0.
    subnormal = bits_of(fma(m, float_of(exponent + integer(FROM_SUBNORMAL)), real(1.0))) - integer(ONE_BITS)
    return float_of(select(normal < integer(NORMAL_BITS), subnormal, normal))
"""

# e^(x + x_low) for an x_low that is small beside x.
EXP_OF_SUM = """\
def exp_of_sum(x, x_low):
    z = select(x < real(EXP_ZERO), real(EXP_ZERO), x)
    shifted = fma(z, real(LOG2_E), real(ROUNDER))
    n = shifted - real(ROUNDER)
    r = fma(n, real(-LN2_LOW), fma(n, real(-LN2_HIGH), z)) + x_low
    m = polynomial(EXP, r)
    y = scaled(m, shifted)
    return select(x <= real(EXP_LARGEST), y, x + real(inf))
"""

EXP = """\
def exp(x):
    return exp_of_sum(x, real(-0.0))
"""

EXP2 = """\
def exp2(x):
    z = select(x < real(EXP2_ZERO), real(EXP2_ZERO), x)
    shifted = z + real(ROUNDER)
    r = z - (shifted - real(ROUNDER))
    p = polynomial(EXP2, r)
    m = fma(r, p, real(1.0))
    return select(x < real(EXP2_INFINITE), scaled(m, shifted), x + real(inf))
"""

# (e^z - 1) * one for a power of two `one`; from z = n ln 2 + r it is 2^n (e^r - 1) + (2^n - 1).
EXPM1_TIMES = """\
def expm1_times(z, one):
    shifted = fma(z, real(LOG2_E), real(ROUNDER))
    n = shifted - real(ROUNDER)
    r = fma(n, real(-LN2_LOW), fma(n, real(-LN2_HIGH), z))
    p = polynomial(EXPM1, r)
    scale = float_of((bits_of(shifted) << integer(MANTISSA)) + bits_of(one))
    return fma(scale, r * r * p, fma(scale, r, scale - one))
"""

# Large results are reckoned in halves, because 2^n may overflow where they do not.
EXPM1 = """\
def expm1(x):
    z = select(x < real(EXPM1_LOWEST), real(EXPM1_LOWEST), x)
    large = x > real(EXPM1_LARGE)
    y = expm1_times(z, select(large, real(0.5), real(1.0))) * select(large, real(2.0), real(1.0))
    return copysign(select(x <= real(EXP_LARGEST), y, x + real(inf)), x)
"""

# With t = e^|x| - 1: (t + t / (t + 1)) / 2, and t / 2 far out, reckoned in eighths, because t may overflow.
SINH = """\
def sinh(x):
    a = absolute(x)
    b = select(a > real(SINH_INFINITE), real(SINH_INFINITE), a)
    large = a > real(EXPM1_LARGE)
    t = expm1_times(b, select(large, real(0.125), real(1.0)))
    return copysign(select(large, t * real(4.0), real(0.5) * (t + t / (t + real(1.0)))), x)
"""

# 1 + t t / (t + 1) / 2, and t / 2 far out.
COSH = """\
def cosh(x):
    a = absolute(x)
    b = select(a > real(SINH_INFINITE), real(SINH_INFINITE), a)
    large = a > real(EXPM1_LARGE)
    t = expm1_times(b, select(large, real(0.125), real(1.0)))
    return select(large, t * real(4.0), fma(real(0.5) * t, t / (t + real(1.0)), real(1.0)))
"""

# With t = e^2|x| - 1: t/2 - t/2 t/(t + 2) near 0, 1 - 2/(t + 2) further out; so a rounded quotient only corrects.
TANH = """\
def tanh(x):
    a = absolute(x)
    b = select(a > real(TANH_ONE), real(TANH_ONE), a)
    t = expm1_times(b + b, real(1.0))
    near = a < real(0.55)
    start = select(near, t * real(0.5), real(1.0))
    quotient = select(near, -t, real(-2.0)) / (t + real(2.0))
    return copysign(fma(select(near, start, real(1.0)), quotient, start), x)
"""

# With t = e^-|x|: 1 - t/(1 + t), or t - t t/(1 + t) for x < 0.
SIGMOID = """\
def sigmoid(x):
    t = exp(-absolute(x))
    start = select(x < real(0.0), t, real(1.0))
    return fma(-start, t / (t + real(1.0)), start)
"""

# An odd polynomial near 0; further out 1 - erfc|x|, where -log erfc is a smooth polynomial.
ERF = """\
def erf(x):
    a = absolute(x)
    p = polynomial(ERF_NEAR, x * x)
    b = select(a > real(ERF_ONE), real(ERF_ONE), a)
    q = polynomial(ERF_FAR, b)
    return copysign(select(a < real(ERF_SPLIT), fma(a, p, a), real(1.0) - exp(-q)), x)
"""

FUNCTIONS = {
    "cosh": widened(COSH),
    "erf": both(ERF),
    "exp": both(EXP),
    "exp2": widened(EXP2),
    "expm1": both(EXPM1),
    "sigmoid": both(SIGMOID),
    "sinh": widened(SINH),
    "tanh": both(TANH),
}
PARTS = {"exp_of_sum": both(EXP_OF_SUM), "expm1_times": both(EXPM1_TIMES), "scaled": both(SCALED)}

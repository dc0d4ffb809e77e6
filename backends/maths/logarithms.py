"""Logarithms, and what is made of them: powers and inverse hyperbolic functions."""

from __future__ import annotations

from graphc.backends.maths.templates import both

# The bits of x; those of a subnormal x as if its exponent went on downwards, so that all have the normal layout.
NORMALISED = """\
def normalised(x):
    scaled = bits_of(x * real(TO_NORMAL)) - integer(TO_NORMAL_BITS)
    return float_of(select(x < real(NORMAL), scaled, bits_of(x)))
"""

# x = m 2^k with sqrt(1/2) <= m < sqrt(2): k.
EXPONENT = """\
def exponent(x):
    e = (bits_of(normalised(x)) - integer(SQRT_HALF_BITS)) >> integer(MANTISSA)
    return float_of(e + integer(ROUNDER_BITS)) - real(ROUNDER)
"""

# x = m 2^k with sqrt(1/2) <= m < sqrt(2): m.
SIGNIFICAND = """\
def significand(x):
    bits = bits_of(normalised(x)) - integer(SQRT_HALF_BITS)
    return float_of((bits & integer(MANTISSA_BITS)) + integer(SQRT_HALF_BITS))
"""

# The logarithm of x, which is y where x is positive and finite.
LOG_LIMITS = """\
def log_limits(x, y):
    z = select(x > real(0.0), y, select(x == real(0.0), real(-inf), real(nan)))
    return select(x < real(inf), z, x)
"""

# k ln 2 + log(1 + f) for an integer k and sqrt(1/2) <= 1 + f < sqrt(2).
LOG_OF_PARTS = """\
def log_of_parts(k, f):
    square = f * f
    p = polynomial(LOG, f, square)
    return fma(k, real(LN2), fma(square, p, f))
"""

LOG = """\
def log(x):
    return log_limits(x, log_of_parts(exponent(x), significand(x) - real(1.0)))
"""

# k log 2 + log(1 + f) in a base whose 1 / ln is `rate` + `rate_low` and whose log 2 is `unit` + `unit_low`; k * unit
# and what f * rate lacks are exact, so that powers of the base come out whole.
LOG_IN_BASE = """\
def log_in_base(k, f, rate, rate_low, unit, unit_low):
    p = polynomial(LOG, f, f * f)
    low = f * f * p
    high = f * rate
    rest = fma(low, rate, fma(k, unit_low, fma(f, rate_low, fma(f, rate, -high))))
    whole = k * unit
    most = whole + high
    return most + (((whole - most) + high) + rest)
"""

# The same but for powers of the base.
LOG_IN_BASE_SINGLE = """\
def log_in_base(k, f, rate, rate_low, unit, unit_low):
    square = f * f
    p = polynomial(LOG, f, square)
    low = fma(square * p, rate, fma(f, rate_low, k * unit_low))
    return fma(k, unit, fma(f, rate, low))
"""

LOG2 = """\
def log2(x):
    f = significand(x) - real(1.0)
    return log_limits(x, log_in_base(exponent(x), f, real(LOG2_E), real(LOG2_E_LOW), real(1.0), real(0.0)))
"""

LOG10 = """\
def log10(x):
    f = significand(x) - real(1.0)
    y = log_in_base(exponent(x), f, real(LOG10_E), real(LOG10_E_LOW), real(LOG10_2), real(LOG10_2_LOW))
    return log_limits(x, y)
"""

# With 2^k near 1 + x, f = 2^-k x + (2^-k - 1) does without the rounding of 1 + x.
LOG1P = """\
def log1p(x):
    bits = bits_of(x + real(1.0))
    e = (bits - integer(SQRT_HALF_BITS)) >> integer(MANTISSA)
    k = float_of(e + integer(ROUNDER_BITS)) - real(ROUNDER)
    scale = float_of(integer(ONE_BITS) - (e << integer(MANTISSA)))
    exact = fma(scale, x, scale - real(1.0))
    f = select(x < real(ONE_LOST), exact, float_of(bits - (e << integer(MANTISSA))) - real(1.0))
    y = log_of_parts(k, f)
    y = select(x > real(-1.0), y, select(x == real(-1.0), real(-inf), real(nan)))
    return copysign(select(x < real(inf), y, x), x)
"""

# max(x, 0) + log(1 + t), where t = e^-|x| <= 1 leaves two cases of k.
SOFTPLUS = """\
def softplus(x):
    t = exp(-absolute(x))
    beyond = t > real(SQRT_TWO_LESS_ONE)
    k = select(beyond, real(1.0), real(0.0))
    f = select(beyond, fma(t, real(0.5), real(-0.5)), t)
    return select(x > real(0.0), x, real(0.0)) + log_of_parts(k, f)
"""

# log(a + sqrt(a^2 + 1)) without the sum's rounding near 0; far out, log(2a).
ASINH = """\
def asinh(x):
    a = absolute(x)
    square = a * a
    far = a > real(SQUARE_ALONE)
    y = log1p(select(far, a, a + square / (sqrt(square + real(1.0)) + real(1.0))))
    return copysign(select(far, y + real(LN2), y), x)
"""

# log(1 + sum) for sum = x - 1 + root, where what the rounded sum lacks is made up for.
ACOSH = """\
def acosh(x):
    t = x - real(1.0)
    far = x > real(SQUARE_ALONE)
    root = sqrt(fma(t, t, t + t))
    sum = t + root
    y = log1p(select(far, x, sum))
    y = select(far, y + real(LN2), y + (t - (sum - root)) / (x + root))
    return select(x >= real(1.0), y, real(nan))
"""

# log((1 + a) / (1 - a)) / 2 for a = |x|.
ATANH = """\
def atanh(x):
    a = absolute(x)
    twice = a + a
    y = real(0.5) * log1p(twice + twice * a / (real(1.0) - a))
    return copysign(select(a <= real(1.0), y, real(nan)), x)
"""

# a^y for a >= 0. The error of log a is multiplied by y, so log a = k ln 2 + 2 atanh s, s = (m - 1) / (m + 1), is a sum
# of two numbers (Dekker, "A floating-point technique for extending the available precision", 1971): x_low is what x
# lacks. The terms s and s^3 / 3 need this, the rest of the series is small enough without.
POWER = """\
def power(a, y):
    k = exponent(a)
    m = significand(a)
    numerator = m - real(1.0)
    denominator = m + real(1.0)
    denominator_low = m - (denominator - real(1.0))
    inverse = real(1.0) / denominator
    s = numerator * inverse
    s_low = inverse * fma(-s, denominator_low, fma(-s, denominator, numerator))
    square = s * s
    square_low = fma(s, s, -square) + real(2.0) * s * s_low
    cube = s * square
    cube_low = fma(s, square, -cube) + fma(s, square_low, s_low * square)
    third = cube * real(TWO_THIRDS)
    third_low = fma(cube, real(TWO_THIRDS), -third) + fma(cube, real(TWO_THIRDS_LOW), cube_low * real(TWO_THIRDS))
    p = polynomial(ATANH, square)
    twice = s + s
    series = twice + third
    series_low = ((twice - series) + third) + (s_low + s_low + fma(cube * square, p, third_low))
    whole = k * real(LN2_HIGH)
    most = whole + series
    rest = ((whole - most) + series) + fma(k, real(LN2_LOW), series_low)
    log_a = most + rest
    log_a_low = (most - log_a) + rest
    log_a = select(a == real(0.0), real(-inf), select(a < real(inf), log_a, a))
    factor = select(a == real(1.0), real(0.0), y)
    product = log_a * factor
    product_low = fma(log_a, factor, -product) + log_a_low * factor
    overflows = (product == real(EXP_LARGEST)) & (product_low > real(EXP_LARGEST_LOW))
    within = (product > real(EXP_ZERO)) & (product < real(inf))
    return exp_of_sum(select(overflows, real(inf), product), select(within, product_low, real(0.0)))
"""

# x^y from |x|^y.
SIGNED_POWER = """\
def signed_power(x, y, magnitude):
    odd = (y == rint(y)) & (y * real(0.5) != rint(y * real(0.5)))
    negative = bits_of(x) < integer(0)
    t = select(odd & negative, -magnitude, magnitude)
    t = select((x < real(0.0)) & (x > real(-inf)) & (y != rint(y)), real(nan), t)
    return select(y == real(0.0), real(1.0), t)
"""

POW = """\
def pow(x, y):
    return signed_power(x, y, power(absolute(x), y))
"""

# In f32, a^y = 2^(y log2 a) needs the digits of f64 for that exponent alone. It is the whole part, in the last bits of
# `whole`, and the rest.
POWER_SINGLE = """\
def power(a, y):
    k = select(a > real(0.0), exponent(a), real(-inf))
    k = select(a < real(inf), k, a)
    m = significand(a)
    factor = select(a == real(1.0), real(0.0), y)
    r = rest_of_exponent(k, m, factor)
    p = polynomial(EXP2, r, r * r)
    return scaled(r * p, whole_of_exponent(k, m, factor))
"""

WHOLE_OF_EXPONENT = """\
def whole_of_exponent(k, m, y):
    z = log2_times(as_f64(k), as_f64(m), as_f64(y))
    return float_of(as_i32(bits_of(z + f64(ROUNDER_WIDE_TO_HALF))))
"""

REST_OF_EXPONENT = """\
def rest_of_exponent(k, m, y):
    z = log2_times(as_f64(k), as_f64(m), as_f64(y))
    return as_f32(z - ((z + f64(ROUNDER_WIDE_TO_HALF)) - f64(ROUNDER_WIDE_TO_HALF)))
"""

# (k + log2 m) y, but no further than where 2 to its power has become 0 or infinite in f32.
LOG2_TIMES = """\
def log2_times(k, m, y):
    f = m - real(1.0)
    square = f * f
    p = polynomial(LOG2, f, square)
    z = fma(square, p, fma(f, real(LOG2_E), k)) * y
    z = select(z < real(EXP2_ZERO), real(EXP2_ZERO), z)
    return select(z > real(EXP2_INFINITE), real(EXP2_INFINITE), z)
"""

FUNCTIONS = {
    "acosh": both(ACOSH),
    "asinh": both(ASINH),
    "atanh": both(ATANH),
    "log": both(LOG),
    "log10": both(LOG10),
    "log1p": both(LOG1P),
    "log2": both(LOG2),
    "pow": both(POW),
    "softplus": both(SOFTPLUS),
}
PARTS = {
    "exponent": both(EXPONENT),
    "normalised": both(NORMALISED),
    "log_in_base": {"f32": LOG_IN_BASE_SINGLE, "f64": LOG_IN_BASE},
    "log_limits": both(LOG_LIMITS),
    "log_of_parts": both(LOG_OF_PARTS),
    "log2_times": {"f64": LOG2_TIMES},
    "power": {"f32": POWER_SINGLE, "f64": POWER},
    "rest_of_exponent": {"f32": REST_OF_EXPONENT},
    "signed_power": both(SIGNED_POWER),
    "significand": both(SIGNIFICAND),
    "whole_of_exponent": {"f32": WHOLE_OF_EXPONENT},
}

"""Angles: trigonometric functions, their inverses, and remainders."""

from __future__ import annotations

from graphc.backends.maths.templates import both, widened

# sin(a + turns pi/2) for a >= 0. The first of pi/2's three parts is taken off exactly.
SIN_TURNED = """\
def sin_turned(a, turns):
    shifted = fma(a, real(TWO_OVER_PI), real(ROUNDER))
    n = shifted - real(ROUNDER)
    r = fma(n, real(-HALF_PI_LOW), fma(n, real(-HALF_PI_MIDDLE), fma(n, real(-HALF_PI_HIGH), a)))
    z = r * r
    p = polynomial(SIN, z)
    q = polynomial(COS, z)
    sine = fma(r * z, p, r)
    cosine = fma(z * z, q, fma(z, real(-0.5), real(1.0)))
    quadrant = bits_of(shifted + turns)
    y = select((quadrant & integer(1)) == integer(0), sine, cosine)
    sign = (quadrant >> integer(1)) << integer(SIGN_PLACE)
    return select(a < real(PHASE_LOST), float_of(bits_of(y) ^ sign), real(nan))
"""

# In f32 only what is left of a without its quarter turns needs the digits of f64. With s = r and z p, or 1 and z q, the
# result is s + s z p.
SIN_TURNED_SINGLE = """\
def sin_turned(a, turns):
    wide = as_f64(a)
    shifted = fma(wide, f64(TWO_OVER_PI), f64(ROUNDER_WIDE))
    n = shifted - f64(ROUNDER_WIDE)
    r = as_f32(fma(n, f64(-HALF_PI_LOW), fma(n, f64(-HALF_PI_MIDDLE), fma(n, f64(-HALF_PI_HIGH), wide))))
    quadrant = as_i32(bits_of(shifted)) + as_i32(turns)
    even = (quadrant & integer(1)) == integer(0)
    z = r * r
    p = polynomial(SIN, z)
    q = polynomial(COS, z)
    start = select(even, r, real(1.0))
    y = fma(start * z, select(even, p, q), start)
    sign = (quadrant >> integer(1)) << integer(SIGN_PLACE)
    return select(a < real(PHASE_LOST), float_of(bits_of(y) ^ sign), real(nan))
"""

SIN = """\
def sin(x):
    y = sin_turned(absolute(x), real(0.0))
    return select(bits_of(x) < integer(0), -y, y)
"""

COS = """\
def cos(x):
    return sin_turned(absolute(x), real(1.0))
"""

TAN = """\
def tan(x):
    a = absolute(x)
    y = sin_turned(a, real(0.0)) / sin_turned(a, real(1.0))
    return select(bits_of(x) < integer(0), -y, y)
"""

# The angle of the point (b, a) for a, b >= 0. With t = min / max, or (t - 1) / (t + 1) where t > tan(pi/8), it is a
# multiple of pi/4 plus or minus atan t, and atan t is a short polynomial.
ANGLE = """\
def angle(a, b):
    steep = a > b
    most = maximum(a, b)
    least = minimum(a, b)
    scale = select(most > real(HUGE), real(0.25), select(most < real(TINY), real(TO_NORMAL), real(1.0)))
    high = select(most == real(inf), real(1.0), most * scale)
    low = select(most == real(inf), select(least == real(inf), real(1.0), real(0.0)), least * scale)
    far = low > high * real(TAN_EIGHTH)
    t = select(far, low - high, low) / select(far, low + high, select(high == real(0.0), real(1.0), high))
    z = t * t
    p = polynomial(ATAN, z)
    flat = select(far, real(QUARTER_PI), real(0.0))
    flat_low = select(far, real(QUARTER_PI_LOW), real(0.0))
    base = select(steep, real(HALF_PI) - flat, flat)
    base_low = select(steep, real(HALF_PI_REST) - flat_low, flat_low)
    turned = select(steep, -t, t)
    return base + (turned + fma(turned * z, p, base_low))
"""

# The angle of the point (1, a), which needs no scale: near pi/2 it is what atan 1/a lacks of that.
ATAN = """\
def atan(x):
    a = absolute(x)
    steep = a > real(TAN_THREE_EIGHTHS)
    far = a > real(TAN_EIGHTH)
    rise = select(steep, real(-1.0), select(far, a - real(1.0), a))
    run = select(steep, a, select(far, a + real(1.0), real(1.0)))
    t = rise / run
    z = t * t
    p = polynomial(ATAN, z)
    base = select(steep, real(HALF_PI), select(far, real(QUARTER_PI), real(0.0)))
    base_low = select(steep, real(HALF_PI_REST), select(far, real(QUARTER_PI_LOW), real(0.0)))
    return copysign(base + (t + fma(t * z, p, base_low)), x)
"""

ATAN2 = """\
def atan2(y, x):
    a = angle(absolute(y), absolute(x))
    return copysign(select(bits_of(x) < integer(0), (real(PI) - a) + real(PI_LOW), a), y)
"""

# With z = a^2, or (1 - a) / 2 where a > 1/2, asin(sqrt z) = sqrt z + sqrt z z p; that is asin a, or half of what asin a
# lacks of pi/2. The parts of pi/2 and pi meet the larger term and the smaller one.
ASIN = """\
def asin(x):
    a = absolute(x)
    far = a > real(0.5)
    z = select(far, fma(a, real(-0.5), real(0.5)), a * a)
    root = select(far, sqrt(z), a)
    p = polynomial(ASIN, z, z * z)
    rest = root * z * p
    turned = fma(root, real(-2.0), fma(rest, real(-2.0), real(HALF_PI_REST))) + real(HALF_PI)
    return copysign(select(far, turned, root + rest), x)
"""

ACOS = """\
def acos(x):
    a = absolute(x)
    far = a > real(0.5)
    z = select(far, fma(a, real(-0.5), real(0.5)), a * a)
    root = select(far, sqrt(z), a)
    p = polynomial(ASIN, z, z * z)
    rest = root * z * p
    negative = x < real(0.0)
    start = select(far, select(negative, real(PI), real(0.0)), real(HALF_PI))
    start_low = select(far, select(negative, real(PI_LOW), real(0.0)), real(HALF_PI_REST))
    factor = copysign(select(far, real(2.0), real(1.0)), select(far, x, -x))
    return fma(root, factor, start) + fma(rest, factor, start_low)
"""

# Multiples of |y| are taken off |x|, as many binary digits of the quotient at a time as fit into one product; where the
# quotient would overflow, multiples of |y| times a power of two.
FMOD = """\
def fmod(x, y):
    r = absolute(x)
    divisor = absolute(y)
    large = divisor * real(FMOD_FAR)
    huge = large * real(FMOD_FAR)
    for step in range(FMOD_STEPS):
        d = select(absolute(r) > huge, huge, select(absolute(r) > large, large, divisor))
        quotient = float_of(bits_of(trunc(r / d)) & integer(QUOTIENT_BITS))
        r = fma(-quotient, d, r)
    r = select(r < real(0.0), r + divisor, r)
    r = select((divisor == real(inf)) & (absolute(x) < real(inf)), absolute(x), r)
    return copysign(r, x)
"""

FUNCTIONS = {
    "acos": both(ACOS),
    "asin": both(ASIN),
    "atan": both(ATAN),
    "atan2": both(ATAN2),
    "cos": both(COS),
    "fmod": widened(FMOD),
    "sin": both(SIN),
    "tan": widened(TAN),
}
PARTS = {
    "angle": both(ANGLE),
    "sin_turned": {"f32": SIN_TURNED_SINGLE, "f64": SIN_TURNED},
}

"""The elementary functions, as texts of the kernel language (see `backends/primitives`).

One text serves the scalar and the 16-lane instance of a function, so a scalar and a lane give the same bits. The texts
know nothing but IEEE arithmetic: no libm, no branches, no tables, `fma` only where it is written. In a text

- `real(c)` and `integer(c)` are constants of the instance's float type and of the integer type as wide,
- a name in capitals is one of NUMBERS,
- `v = polynomial(NAME, x)` is Horner's rule over POLYNOMIALS[...][NAME].

Methods: arguments are reduced as in Cody and Waite, "Software Manual for the Elementary Functions" (1980); numbers are
rounded to integers by adding 1.5 * 2^(mantissa bits). The coefficients are minimax fits of the error as it reaches the
result, found by Lawson's iteration on Chebyshev points in 180-bit arithmetic; those for f32 were rounded one by one
from the lowest power, fitting the others again each time.

Errors stay below 2 ulp in f32 and 2.1 ulp in f64 (tests/test_maths.py measures them), and special values are those of
C's Annex F. Subnormal arguments and results count like any others: none is flushed. sin and cos give NaN from 2^50 on,
where pi/2 would be needed to more digits than are kept here.

Without fused multiply-adds (`Target.has_fma`) the f32 bound still holds, for sin and cos below 2^20; in f64 sin and cos
lose digits near their zeros, and pow is off by up to hundreds of ulp where |y log x| is large, because its sums of two
numbers live on fma's single rounding.
"""

from __future__ import annotations

import re
from functools import cache

from graphc.backends.primitives import Kernel, element_of, is_vector

# e^(x + x_low) for an x_low that is small beside x.
EXP_OF_SUM = """\
def exp_of_sum(x, x_low):
    z = select(x < real(EXP_ZERO), real(EXP_ZERO), x)
    shifted = fma(z, real(LOG2_E), real(ROUNDER))
    n = shifted - real(ROUNDER)
    r = fma(n, real(-LN2_LOW), fma(n, real(-LN2_HIGH), z)) + x_low
    m = polynomial(EXP, r)
    exponent = bits_of(shifted) << integer(MANTISSA)
    normal = bits_of(m) + exponent
    # Operations with subnormal results are slow, so none has: in f32, 2^126 times one ends at the last bit of 1.0.
    subnormal = bits_of(fma(m, float_of(exponent + integer(FROM_SUBNORMAL)), real(1.0))) - integer(ONE_BITS)
    y = float_of(select(normal < integer(NORMAL_BITS), subnormal, normal))
    return select(x <= real(EXP_LARGEST), y, x + real(inf))
"""

EXP = """\
def exp(x):
    return exp_of_sum(x, real(-0.0))
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

# k ln 2 + log(1 + f) for an integer k and sqrt(1/2) <= 1 + f < sqrt(2).
LOG_OF_PARTS = """\
def log_of_parts(k, f):
    p = polynomial(LOG, f)
    low = fma(f * f, fma(f, p, real(-0.5)), k * real(LN2_LOW))
    return fma(k, real(LN2_HIGH), f + low)
"""

LOG = """\
def log(x):
    small = x < real(NORMAL)
    bits = bits_of(select(small, x * real(TO_NORMAL), x))
    e = (bits - integer(SQRT_HALF_BITS)) >> integer(MANTISSA)
    k = float_of(e + integer(ROUNDER_BITS)) - select(small, real(ROUNDER_TO_NORMAL), real(ROUNDER))
    y = log_of_parts(k, float_of(bits - (e << integer(MANTISSA))) - real(1.0))
    y = select(x > real(0.0), y, select(x == real(0.0), real(-inf), real(nan)))
    return select(x < real(inf), y, x)
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

# max(x, 0) + log(1 + t), where t = e^-|x| <= 1 leaves two cases of k.
SOFTPLUS = """\
def softplus(x):
    t = exp(-absolute(x))
    beyond = t > real(SQRT_TWO_LESS_ONE)
    k = select(beyond, real(1.0), real(0.0))
    f = select(beyond, fma(t, real(0.5), real(-0.5)), t)
    return select(x > real(0.0), x, real(0.0)) + log_of_parts(k, f)
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

RSQRT = """\
def rsqrt(x):
    return real(1.0) / sqrt(x)
"""

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

SIN = """\
def sin(x):
    y = sin_turned(absolute(x), real(0.0))
    return select(bits_of(x) < integer(0), -y, y)
"""

COS = """\
def cos(x):
    return sin_turned(absolute(x), real(1.0))
"""

SIN_SINGLE = """\
def sin(x):
    return as_f32(sin(as_f64(x)))
"""

COS_SINGLE = """\
def cos(x):
    return as_f32(cos(as_f64(x)))
"""

# a^y for a >= 0. The error of log a is multiplied by y, so log a = k ln 2 + 2 atanh s, s = (m - 1) / (m + 1), is a sum
# of two numbers (Dekker, "A floating-point technique for extending the available precision", 1971): x_low is what x
# lacks. The terms s and s^3 / 3 need this, the rest of the series is small enough without.
POWER = """\
def power(a, y):
    small = a < real(NORMAL)
    bits = bits_of(select(small, a * real(TO_NORMAL), a))
    e = (bits - integer(SQRT_HALF_BITS)) >> integer(MANTISSA)
    k = float_of(e + integer(ROUNDER_BITS)) - select(small, real(ROUNDER_TO_NORMAL), real(ROUNDER))
    m = float_of(bits - (e << integer(MANTISSA)))
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
    exponent = select(a == real(1.0), real(0.0), y)
    product = log_a * exponent
    product_low = fma(log_a, exponent, -product) + log_a_low * exponent
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

POW_SINGLE = """\
def pow(x, y):
    base = as_f64(x)
    exponent = as_f64(y)
    size = absolute(base)
    magnitude = exp(log(size) * select(size == f64(1.0), f64(0.0), exponent))
    return as_f32(signed_power(base, exponent, magnitude))
"""


def _both(text: str) -> dict[str, str]:
    return {"f32": text, "f64": text}


# The text of each function by precision. A text for f32 that widens calls the f64 instances.
FUNCTIONS: dict[str, dict[str, str]] = {
    "exp": _both(EXP),
    "expm1": _both(EXPM1),
    "log": _both(LOG),
    "log1p": _both(LOG1P),
    "tanh": _both(TANH),
    "sigmoid": _both(SIGMOID),
    "softplus": _both(SOFTPLUS),
    "erf": _both(ERF),
    "sin": {"f32": SIN_SINGLE, "f64": SIN},
    "cos": {"f32": COS_SINGLE, "f64": COS},
    "pow": {"f32": POW_SINGLE, "f64": POW},
    "rsqrt": _both(RSQRT),
}
# What those call.
PARTS: dict[str, dict[str, str]] = {
    "exp_of_sum": _both(EXP_OF_SUM),
    "expm1_times": _both(EXPM1_TIMES),
    "log_of_parts": _both(LOG_OF_PARTS),
    "sin_turned": {"f64": SIN_TURNED},
    "power": {"f64": POWER},
    "signed_power": {"f64": SIGNED_POWER},
}


def _format_numbers(mantissa: int, bias: int) -> dict[str, float]:
    """What follows from the layout of an IEEE binary format with that many mantissa bits and that exponent bias."""
    rounder = 1.5 * 2.0**mantissa
    return {
        "MANTISSA": mantissa,
        "SIGN_PLACE": mantissa + bias.bit_length() + 1,
        "ONE_BITS": bias << mantissa,
        "FROM_SUBNORMAL": (2 * bias - 1) << mantissa,
        "NORMAL_BITS": 1 << mantissa,
        "NORMAL": 2.0 ** (1 - bias),
        "TO_NORMAL": 2.0**mantissa,
        "ROUNDER": rounder,
        "ROUNDER_BITS": ((bias + mantissa) << mantissa) + (1 << (mantissa - 1)),
        "ROUNDER_TO_NORMAL": rounder + mantissa,
        "ONE_LOST": 2.0 ** (mantissa + 7),
    }


# What the precision decides. HIGH is the beginning of a number's digits, MIDDLE and LOW are what follows.
# "short" is f64 where the result will be rounded to f32.
NUMBERS: dict[str, dict[str, float]] = {
    "f32": {
        **_format_numbers(23, 127),
        "SQRT_HALF_BITS": 0x3F3504F3,
        "SQRT_TWO_LESS_ONE": 0.41421357,
        "LOG2_E": 1.442695,
        "LN2_HIGH": 0.693145751953125,
        "LN2_LOW": 1.4286068e-06,
        "EXP_ZERO": -104.0,
        "EXP_LARGEST": 88.72283,
        "EXPM1_LOWEST": -18.0,
        "EXPM1_LARGE": 64.0,
        "TANH_ONE": 10.0,
        "ERF_SPLIT": 0.93,
        "ERF_ONE": 4.0,
    },
    "f64": {
        **_format_numbers(52, 1023),
        "SQRT_HALF_BITS": 0x3FE6A09E667F3BCD,
        "SQRT_TWO_LESS_ONE": 0.41421356237309503,
        "LOG2_E": 1.4426950408889634,
        "LN2_HIGH": 0.6931471805598903,
        "LN2_LOW": 5.497923018708371e-14,
        "EXP_ZERO": -746.0,
        "EXP_LARGEST": 709.782712893384,
        "EXP_LARGEST_LOW": 2.369152822255485e-14,
        "EXPM1_LOWEST": -40.0,
        "EXPM1_LARGE": 512.0,
        "TANH_ONE": 20.0,
        "ERF_SPLIT": 1.0,
        "ERF_ONE": 6.0,
        "TWO_OVER_PI": 0.6366197723675814,
        "HALF_PI_HIGH": 1.5707963267948966,
        "HALF_PI_MIDDLE": 6.123233995736766e-17,
        "HALF_PI_LOW": -1.4973849048591698e-33,
        "PHASE_LOST": 2.0**50,
        "TWO_THIRDS": 0.6666666666666666,
        "TWO_THIRDS_LOW": 3.700743415417188e-17,
    },
}
NUMBERS["short"] = {
    **NUMBERS["f64"],
    "HALF_PI_HIGH": 1.5707963267341256,
    "HALF_PI_MIDDLE": 6.077100506303966e-11,
    "HALF_PI_LOW": 2.0222662487959506e-21,
}

# Coefficients, lowest power first.
POLYNOMIALS: dict[str, dict[str, tuple[float, ...]]] = {
    "f32": {
        "EXP": (1.0, 1.0, 0.5, 0.16666518, 0.041666415, 0.008369002, 0.001393954),
        "EXPM1": (0.5, 0.16666666, 0.041666493, 0.008333543, 0.0013932387, 0.00019764421),
        "LOG": (
            0.33333313, -0.2500001, 0.20002075, -0.16668, 0.1422028, -0.124059126, 0.11883893, -0.11672525,
            0.067515396,
        ),
        "ERF_NEAR": (0.12837917, -0.3761263, 0.11283626, -0.026855731, 0.005192405, -0.00080497697, 7.99665e-05),
        "ERF_FAR": (
            0.0002112765, 1.1276114, 0.63729, 0.10383739, -0.022181695, 0.0030319216, -0.00019479118,
        ),
    },
    "f64": {
        "EXP": (
            1.0, 1.0, 0.5, 0.16666666666666685, 0.04166666666666673, 0.008333333333316609, 0.0013888888888858395,
            0.00019841269897380695, 2.4801587373801614e-05, 2.755723391329388e-06, 2.7557233321267146e-07,
            2.5112353436364544e-08, 2.092695289560211e-09,
        ),
        "EXPM1": (
            0.5, 0.16666666666666677, 0.041666666666666505, 0.008333333333321601, 0.001388888888896303,
            0.00019841269886221728, 2.4801587171600646e-05, 2.7557244091642618e-06, 2.7557403139425946e-07,
            2.5109085420267014e-08, 2.087526900003046e-09,
        ),
        "LOG": (
            0.3333333333333314, -0.24999999999987982, 0.20000000000066656, -0.1666666666982484, 0.14285714280084838,
            -0.12499999691509414, 0.11111111148066487, -0.10000015204510919, 0.09090923910179614,
            -0.08332913553803006, 0.07691530253128682, -0.07149439828734035, 0.0668458427841814,
            -0.06196670153010931, 0.056684041339233736, -0.05677857672620697, 0.06503459331666048,
            -0.05981464340918402, 0.026149052852428713,
        ),
        "ERF_NEAR": (
            0.1283791670955126, -0.3761263890318375, 0.11283791670954857, -0.026866170645072893, 0.005223977624780849,
            -0.0008548326978741189, 0.0001205533103686271, -1.4925593506007075e-05, 1.6460972802945956e-06,
            -1.6350025074711462e-07, 1.4657878858550281e-08, -1.1365662212186439e-09, 5.945255506377548e-11,
        ),
        "ERF_FAR": (
            4.7002550802954747e-07, 1.1283743956553662, 0.636642301823212, 0.10270698195392661, -0.018996711968108607,
            -0.0004018009505456744, 0.0019068974426841609, -0.0007634621729598441, 0.00013058028922739845,
            2.2460821583998657e-05, -2.3671710727060705e-05, 8.924827722149974e-06, -2.196213914564663e-06,
            3.840846348601169e-07, -4.782867657121279e-08, 4.060708801262399e-09, -2.11502395211559e-10,
            5.10867257565748e-12,
        ),
        "SIN": (
            -0.16666666666666632, 0.008333333333322313, -0.00019841269829723522, 2.7557313661557547e-06,
            -2.505075319558094e-08, 1.5896501356361495e-10,
        ),
        "COS": (
            0.0416666666666666, -0.0013888888888873988, 2.4801587289394083e-05, -2.7557314325809977e-07,
            2.0875719531172908e-09, -1.1359447358402618e-11,
        ),
        "ATANH": (
            0.4000000000000227, 0.2857142857009106, 0.22222222521484497, 0.18181784226818418, 0.15386763959471494,
            0.13256659685327712, 0.13197828883653837,
        ),
    },
    "short": {
        "EXP": (
            1.0, 1.0, 0.5000000078903593, 0.16666666837273478, 0.0416662671948845, 0.008333269442783044,
            0.001394624732706812, 0.0001991573396499035,
        ),
        "LOG": (
            0.33333333399213244, -0.2500000112587772, 0.19999989255688785, -0.16666532448059432, 0.14286179344866573,
            -0.1250571392845686, 0.11105466783566156, -0.09889377783890271, 0.09040235979162872, -0.09287011747739535,
            0.09115637791634627, -0.04822391066807941,
        ),
        "SIN": (-0.16666666641422648, 0.008333329361952144, -0.00019839327052983006, 2.718236615811432e-06),
        "COS": (0.041666646745975505, -0.0013887361375339278, 2.4437722594225026e-05),
    },
}  # fmt: skip

_POLYNOMIAL = re.compile(r"^( *)(\w+) = polynomial\((\w+), (.*)\)$", re.MULTILINE)
_NAME = re.compile(r"\b[A-Z][A-Z0-9_]+\b")
_CONSTANT = re.compile(r"\b(real|integer|f64)\(([^()]*)\)")
_CALL = re.compile(r"\b(\w+)\(")
_TEXTS = FUNCTIONS | PARTS


def instance(name: str, type: str) -> Kernel:
    """The kernel of function `name` for arguments and result of `type`: "f32", "f32x16", "f64" or "f64x16".

    Its symbol is `name_type` (exp_f32x16), its `def` name the plain one. Raises KeyError for an unknown name or type.
    """
    return _instance(name, type, element_of(type))


@cache
def _instance(name: str, type: str, precision: str) -> Kernel:
    """With the numbers of `precision`, which is "short" under an f32 text that widens."""
    template = _TEXTS[name][element_of(type)]
    widens = "as_f64(" in template
    inner = (type.replace("f32", "f64"), "short") if widens else (type, precision)
    body = template.partition(":\n")[2]
    called = [each for each in dict.fromkeys(_CALL.findall(body)) if each in _TEXTS]
    return Kernel(
        name=f"{name}_{type}" if precision == element_of(type) else f"{name}_{precision}_{type}",
        text=_fill_in(template, type, precision),
        parameters=tuple((parameter, type) for parameter in _parameters(template)),
        returns=type,
        calls=tuple(_instance(each, *inner) for each in called),
    )


def _parameters(template: str) -> list[str]:
    return template[template.index("(") + 1 : template.index(")")].split(", ")


def _fill_in(template: str, type: str, precision: str) -> str:
    """The kernel text of a template: polynomials as steps, names as numbers, constants in the type's form."""
    real = element_of(type)
    names = {"real": real, "integer": real.replace("f", "i"), "f64": "f64"}

    def steps(found: re.Match[str]) -> str:
        indent, target, name, x = found.groups()
        *rest, last = POLYNOMIALS[precision][name]
        lines = [f"{target} = real({last!r})", *(f"{target} = fma({target}, {x}, real({c!r}))" for c in rest[::-1])]
        return "\n".join(indent + line for line in lines)

    def constant(found: re.Match[str]) -> str:
        scalar = f"{names[found[1]]}({found[2]})"
        return f"spread({scalar})" if is_vector(type) else scalar

    text = _POLYNOMIAL.sub(steps, template)
    text = _NAME.sub(lambda found: repr(NUMBERS[precision][found[0]]), text)
    return _CONSTANT.sub(constant, text)

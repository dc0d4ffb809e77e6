"""The elementary functions, as texts of the kernel language (see `backends/primitives`).

One text serves the scalar and the 16-lane instance of a function, so a scalar and a lane give the same bits. The texts
know nothing but IEEE arithmetic: no libm, no branches, no tables, `fma` only where it is written. In a text

- `real(c)` and `integer(c)` are constants of the instance's float type and of the integer type as wide,
- a name in capitals is one of NUMBERS,
- `v = polynomial(NAME, x)` is Horner's rule over POLYNOMIALS[...][NAME], and `polynomial(NAME, x, x * x)` the same by
  pairs of coefficients, which takes half as many steps one after the other.

Methods: arguments are reduced as in Cody and Waite, "Software Manual for the Elementary Functions" (1980); numbers are
rounded to integers by adding 1.5 * 2^(mantissa bits). The coefficients are minimax fits of the error as it reaches the
result, found by Lawson's iteration on Chebyshev points in 180-bit arithmetic; those for f32 were rounded one by one
from the lowest power, fitting the others again each time.

Errors stay below 2 ulp, in f64 below 2.9 for tan (tests/test_maths.py measures them), and special values
are those of C's Annex F; fmod is exact. Subnormal arguments and results count like any others: none is flushed. sin,
cos and tan give NaN from 2^50 on, where pi/2 would be needed to more digits than are kept here.

Without fused multiply-adds (`Target.has_fma`) the f32 bound still holds, for sin, cos and tan below 2^20; in f64 these
lose digits near their zeros, pow is off by up to hundreds of ulp where |y log x| is large and fmod where the quotient
is, because they live on fma's single rounding.
"""

from __future__ import annotations

import re
from functools import cache

from graphc.backends.maths import angles, exponentials, logarithms
from graphc.backends.maths.numbers import NUMBERS, POLYNOMIALS
from graphc.backends.maths.templates import both
from graphc.backends.primitives import Kernel, element_of, is_vector

RSQRT = """\
def rsqrt(x):
    return real(1.0) / sqrt(x)
"""

_POLYNOMIAL = re.compile(r"^( *)(\w+) = polynomial\((\w+), ([^,\n]*)(?:, (.*))?\)$", re.MULTILINE)
_NAME = re.compile(r"\b[A-Z][A-Z0-9_]+\b")
_CONSTANT = re.compile(r"\b(real|integer|f64)\(([^()]*)\)")
_CALL = re.compile(r"\b(\w+)\(")

FUNCTIONS = exponentials.FUNCTIONS | logarithms.FUNCTIONS | angles.FUNCTIONS | {"rsqrt": both(RSQRT)}
_TEXTS = FUNCTIONS | exponentials.PARTS | logarithms.PARTS | angles.PARTS


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
        indent, target, name, x, square = found.groups()
        lines = _by_pairs(target, x, square, name, precision) if square else _one_by_one(target, x, name, precision)
        return "\n".join(indent + line for line in lines)

    def constant(found: re.Match[str]) -> str:
        scalar = f"{names[found[1]]}({found[2]})"
        return f"spread({scalar})" if is_vector(type) else scalar

    text = _POLYNOMIAL.sub(steps, template)
    text = _NAME.sub(lambda found: repr(NUMBERS[precision][found[0]]), text)
    return _CONSTANT.sub(constant, text)


def _one_by_one(target: str, x: str, name: str, precision: str) -> list[str]:
    *rest, last = POLYNOMIALS[precision][name]
    return [f"{target} = real({last!r})", *(f"{target} = fma({target}, {x}, real({c!r}))" for c in rest[::-1])]


def _by_pairs(target: str, x: str, square: str, name: str, precision: str) -> list[str]:
    numbers = POLYNOMIALS[precision][name]
    pairs = [_pair(x, *numbers[k : k + 2]) for k in range(0, len(numbers), 2)]
    return [f"{target} = {pairs[-1]}", *(f"{target} = fma({target}, {square}, {pair})" for pair in pairs[-2::-1])]


def _pair(x: str, even: float, odd: float | None = None) -> str:
    return f"real({even!r})" if odd is None else f"fma({x}, real({odd!r}), real({even!r}))"

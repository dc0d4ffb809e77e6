"""Ops of one element at a time. Operands have one shape; broadcast is an op of its own (see view.py).

Gradients use the result instead of the operand where they can, so that the operand need not be kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.ir.graph import IRError, Value
from graphc.ir.ops.record import Op, Sample, define
from graphc.ir.ops.source import full
from graphc.ir.types import DTYPES, FLOATS, INTEGERS, TensorType

NUMBERS = (*FLOATS, *INTEGERS)
Array = np.ndarray[Any, Any]


def constant(value: float, like: Value) -> Value:
    """A constant of the type of `like`."""
    return full(value=value, type=like.type)


def scaled(value: Value, factor: float) -> Value:
    return mul(value, constant(factor, value))


def same_type(count: int, dtypes: tuple[str, ...], result: str | None = None) -> Callable[..., TensorType]:
    """`count` operands of one type with a dtype out of `dtypes`; the result has dtype `result` or the same."""

    def infer(*types: TensorType) -> TensorType:
        if len(types) != count:
            raise IRError(f"got {len(types)} operands but takes {count}")
        first = types[0]
        for other in types[1:]:
            if other != first:
                raise IRError(f"operands are {first} and {other} but must be of one type")
        if first.dtype not in dtypes:
            raise IRError(f"dtype {first.dtype} is not one of {', '.join(dtypes)}")
        return first if result is None else first.with_dtype(result)

    return infer


def samples(count: int, dtypes: tuple[str, ...], low: float, high: float) -> tuple[Sample, ...]:
    tested = [dtype for dtype in ("f32", "i64", "bool") if dtype in dtypes]
    return tuple(Sample((dtype + shape,) * count, low, high) for dtype in tested for shape in ("[3,20]", "[5]"))


def flat(ct: Value, out: Value, a: Value) -> tuple[None]:
    """The gradient of what has no slope."""
    return (None,)


def unary(
    name: str,
    scalar: str,
    numpy: Any,
    vjp: Any,
    low: float = -2.0,
    high: float = 2.0,
    dtypes: tuple[str, ...] = FLOATS,
    cost: int = 1,
) -> Op:
    return define(
        name,
        "elementwise",
        infer=same_type(1, dtypes),
        numpy=numpy,
        vjp=vjp,
        scalar=scalar,
        cost=cost,
        samples=samples(1, dtypes, low, high),
    )


def binary(
    name: str,
    scalar: str,
    numpy: Any,
    vjp: Any = None,
    low: float = -2.0,
    high: float = 2.0,
    dtypes: tuple[str, ...] = NUMBERS,
    commutes: bool = False,
    result: str | None = None,
    cost: int = 1,
) -> Op:
    return define(
        name,
        "elementwise",
        infer=same_type(2, dtypes, result),
        numpy=numpy,
        vjp=vjp,
        scalar=scalar,
        commutes=commutes,
        cost=cost,
        samples=samples(2, dtypes, low, high),
    )


# -- arithmetic

add: Op = binary("add", "{0} + {1}", np.add, lambda ct, out, a, b: (ct, ct), commutes=True)
sub: Op = binary("sub", "{0} - {1}", np.subtract, lambda ct, out, a, b: (ct, neg(ct)))
mul: Op = binary("mul", "{0} * {1}", np.multiply, lambda ct, out, a, b: (mul(ct, b), mul(ct, a)), commutes=True)
div: Op = binary(
    "div",
    "{0} / {1}",
    np.divide,
    lambda ct, out, a, b: share_vjp(ct, out, a, b) if is_share(a, b) else (div(ct, b), neg(div(mul(ct, out), b))),
    low=0.5,
    dtypes=FLOATS,
)
neg: Op = unary("neg", "-{0}", np.negative, lambda ct, out, a: (neg(ct),), dtypes=(*FLOATS, "i32", "i64"))
maximum: Op = binary(
    "maximum",
    "maximum({0}, {1})",
    np.maximum,
    lambda ct, out, a, b: (share(ct, a, b, less(b, a)), share(ct, a, b, less(a, b))),
    commutes=True,
)
minimum: Op = binary(
    "minimum",
    "minimum({0}, {1})",
    np.minimum,
    lambda ct, out, a, b: (share(ct, a, b, less(a, b)), share(ct, a, b, less(b, a))),
    commutes=True,
)


def is_share(a: Value, b: Value) -> bool:
    """b is the sum a is a share of, as in a softmax."""
    total = b.operands[0] if b.op.name == "broadcast" else b
    return total.op.name == "sum" and total.operands[0] is a


def share_vjp(ct: Value, out: Value, a: Value, b: Value) -> tuple[Value | None, ...]:
    """All that comes to a, by its sum as well."""
    from graphc.ir.ops.reduce import sum  # reduce.py is made of elementwise ops
    from graphc.ir.ops.view import broadcast

    total = b.operands[0] if b.op is broadcast else b
    middle = sum(mul(ct, out), axes=total.attrs["axes"])
    return div(sub(ct, broadcast(middle, shape=a.shape)), b), None


def share(ct: Value, a: Value, b: Value, wins: Value) -> Value:
    """The cotangent of the operand that won; both get half where they are equal, as in PyTorch."""
    half = mul(ct, constant(0.5, ct))
    return where(wins, ct, where(equal(a, b), half, constant(0.0, ct)))


# -- functions

exp: Op = unary("exp", "exp({0})", np.exp, lambda ct, out, a: (mul(ct, out),), cost=10)
expm1: Op = unary("expm1", "expm1({0})", np.expm1, lambda ct, out, a: (mul(ct, add(out, constant(1.0, out))),), cost=10)
log: Op = unary("log", "log({0})", np.log, lambda ct, out, a: (div(ct, a),), low=0.1, cost=10)
log1p: Op = unary(
    "log1p", "log1p({0})", np.log1p, lambda ct, out, a: (div(ct, add(a, constant(1.0, a))),), low=-0.9, cost=10
)
exp2: Op = unary("exp2", "exp2({0})", np.exp2, lambda ct, out, a: (mul(ct, scaled(out, math.log(2))),), cost=20)
log2: Op = unary("log2", "log2({0})", np.log2, lambda ct, out, a: (div(ct, scaled(a, math.log(2))),), low=0.1, cost=20)
log10: Op = unary(
    "log10", "log10({0})", np.log10, lambda ct, out, a: (div(ct, scaled(a, math.log(10))),), low=0.1, cost=20
)
sqrt: Op = unary("sqrt", "sqrt({0})", np.sqrt, lambda ct, out, a: (div(ct, mul(out, constant(2.0, out))),), low=0.1)
tanh: Op = unary(
    "tanh", "tanh({0})", np.tanh, lambda ct, out, a: (mul(ct, sub(constant(1.0, out), mul(out, out))),), cost=10
)
sin: Op = unary("sin", "sin({0})", np.sin, lambda ct, out, a: (mul(ct, cos(a)),), cost=10)
cos: Op = unary("cos", "cos({0})", np.cos, lambda ct, out, a: (neg(mul(ct, sin(a))),), cost=10)
tan: Op = unary(
    "tan", "tan({0})", np.tan, lambda ct, out, a: (mul(ct, add(constant(1.0, out), mul(out, out))),), -1.2, 1.2, cost=25
)
asin: Op = unary("asin", "asin({0})", np.arcsin, lambda ct, out, a: (div(ct, leg(a)),), -0.9, 0.9, cost=40)
acos: Op = unary("acos", "acos({0})", np.arccos, lambda ct, out, a: (neg(div(ct, leg(a))),), -0.9, 0.9, cost=40)
atan: Op = unary(
    "atan", "atan({0})", np.arctan, lambda ct, out, a: (div(ct, add(mul(a, a), constant(1.0, a))),), cost=40
)
sinh: Op = unary("sinh", "sinh({0})", np.sinh, lambda ct, out, a: (mul(ct, cosh(a)),), cost=25)
cosh: Op = unary("cosh", "cosh({0})", np.cosh, lambda ct, out, a: (mul(ct, sinh(a)),), cost=25)
asinh: Op = unary(
    "asinh",
    "asinh({0})",
    np.arcsinh,
    lambda ct, out, a: (div(ct, sqrt(add(mul(a, a), constant(1.0, a)))),),
    cost=40,
)
acosh: Op = unary(
    "acosh",
    "acosh({0})",
    np.arccosh,
    lambda ct, out, a: (div(ct, sqrt(mul(sub(a, constant(1.0, a)), add(a, constant(1.0, a))))),),
    low=1.1,
    high=5,
    cost=40,
)
atanh: Op = unary("atanh", "atanh({0})", np.arctanh, lambda ct, out, a: (div(ct, below_one(a)),), -0.9, 0.9, cost=40)


def below_one(a: Value) -> Value:
    """1 - a*a without its rounding near 1."""
    one = constant(1.0, a)
    return mul(sub(one, a), add(one, a))


def leg(a: Value) -> Value:
    """The other leg of a right triangle with hypotenuse 1."""
    return sqrt(below_one(a))


def atan2_vjp(ct: Value, out: Value, y: Value, x: Value) -> tuple[Value, ...]:
    """The angle turns by 1 over the distance; at the origin, where it has no slope, by 0."""
    square, zero = add(mul(x, x), mul(y, y)), constant(0.0, x)
    turn = div(ct, where(equal(square, zero), constant(1.0, x), square))
    return mul(turn, x), neg(mul(turn, y))


atan2: Op = binary("atan2", "atan2({0}, {1})", np.arctan2, atan2_vjp, low=0.3, dtypes=FLOATS, cost=40)
relu: Op = unary(
    "relu",
    "maximum({0}, {zero})",
    lambda a: np.maximum(a, a.dtype.type(0)),
    lambda ct, out, a: (where(less(constant(0.0, out), out), ct, constant(0.0, ct)),),
)
absolute: Op = unary(
    "absolute", "absolute({0})", np.abs, lambda ct, out, a: (mul(ct, sign(a)),), dtypes=(*FLOATS, "i32", "i64")
)
sign: Op = unary(
    "sign",
    "select({0} > {zero}, {one}, select({0} < {zero}, -{one}, {0}))",
    np.sign,
    flat,
    dtypes=(*FLOATS, "i32", "i64"),
)
floor: Op = unary("floor", "floor({0})", np.floor, flat)
ceil: Op = unary("ceil", "ceil({0})", np.ceil, flat)
trunc: Op = unary("trunc", "trunc({0})", np.trunc, flat)
rint: Op = unary("rint", "rint({0})", np.rint, flat)


def quotient_array(a: Array, b: Array) -> Array:
    """a / b rounded towards 0; 0 where b is 0."""
    whole = np.floor_divide(a, np.where(b == 0, b.dtype.type(1), b))
    result: Array = np.where(b == 0, a.dtype.type(0), whole + ((whole * b != a) & ((a ^ b) < 0)))
    return result


quotient: Op = binary(
    "quotient",
    "select({1} == {zero}, {zero}, select(({0} ^ {1}) < {zero}, -{one}, {one})"
    " * (absolute({0}) // absolute(select({1} == {zero}, {one}, {1}))))",
    quotient_array,
    low=-9,
    high=9,
    dtypes=("i32", "i64"),
    cost=20,
)
fmod: Op = binary(
    "fmod",
    "fmod({0}, {1})",
    np.fmod,
    lambda ct, out, a, b: (ct, neg(mul(ct, trunc(div(a, b))))),
    low=0.3,
    dtypes=FLOATS,
    cost=100,
)


def sigmoid_array(a: Array) -> Array:
    small = np.exp(-np.abs(a))
    result: Array = np.where(a >= 0, 1, small) / (1 + small)
    return result


sigmoid: Op = unary(
    "sigmoid",
    "sigmoid({0})",
    sigmoid_array,
    lambda ct, out, a: (mul(ct, mul(out, sub(constant(1.0, out), out))),),
    cost=10,
)
softplus: Op = unary(
    "softplus",
    "softplus({0})",
    lambda a: np.logaddexp(a, a.dtype.type(0)),
    lambda ct, out, a: (mul(ct, sigmoid(a)),),
    cost=10,
)
erf: Op = unary(
    "erf",
    "erf({0})",
    lambda a: np.vectorize(math.erf, otypes=[a.dtype])(a),
    lambda ct, out, a: (mul(ct, mul(constant(2 / math.sqrt(math.pi), a), exp(neg(mul(a, a))))),),
    cost=10,
)


def pow_vjp(ct: Value, out: Value, a: Value, b: Value) -> tuple[Value | None, ...]:
    zero = constant(0.0, a)
    # 0 to the power 0 has slope 0, but 0 * 0**-1 is no number: the exponent 0 stays as it is.
    lower = pow(a, where(equal(b, zero), b, sub(b, constant(1.0, b))))
    safe = where(less(zero, a), a, constant(1.0, a))  # log of a base <= 0 would poison the masked lanes
    slope = where(less(zero, a), mul(out, log(safe)), zero)
    return mul(ct, mul(b, lower)), mul(ct, slope)


pow: Op = binary("pow", "pow({0}, {1})", np.power, pow_vjp, low=0.3, dtypes=FLOATS)

# -- comparison, logic, choice

ALL = (*NUMBERS, "bool")
less: Op = binary("less", "{0} < {1}", np.less, result="bool")
less_equal: Op = binary("less_equal", "{0} <= {1}", np.less_equal, result="bool")
equal: Op = binary("equal", "{0} == {1}", np.equal, result="bool", commutes=True)
not_equal: Op = binary("not_equal", "{0} != {1}", np.not_equal, result="bool", commutes=True)
logical_and: Op = binary("logical_and", "{0} & {1}", np.logical_and, dtypes=("bool",), commutes=True)
logical_or: Op = binary("logical_or", "{0} | {1}", np.logical_or, dtypes=("bool",), commutes=True)
logical_not: Op = unary("logical_not", "~{0}", np.logical_not, None, dtypes=("bool",))
bit_and: Op = binary("bit_and", "{0} & {1}", np.bitwise_and, low=-9, high=9, dtypes=INTEGERS, commutes=True)
bit_or: Op = binary("bit_or", "{0} | {1}", np.bitwise_or, low=-9, high=9, dtypes=INTEGERS, commutes=True)
bit_xor: Op = binary("bit_xor", "{0} ^ {1}", np.bitwise_xor, low=-9, high=9, dtypes=INTEGERS, commutes=True)
bit_not: Op = unary("bit_not", "~{0}", np.invert, None, low=-9, high=9, dtypes=INTEGERS)
# The count of places is at least 0 and below the number of bits.
shift_left: Op = binary("shift_left", "{0} << {1}", np.left_shift, low=0, high=9, dtypes=("i32", "i64"))
shift_right: Op = binary("shift_right", "{0} >> {1}", np.right_shift, low=0, high=9, dtypes=("i32", "i64"))


def where_type(condition: TensorType, a: TensorType, b: TensorType) -> TensorType:
    if condition.dtype != "bool" or condition.shape != a.shape or a != b:
        raise IRError(f"needs bool{list(a.shape)}, {a} and {a}; got {condition}, {a} and {b}")
    return a


where: Op = define(
    "where",
    "elementwise",
    infer=where_type,
    numpy=np.where,
    scalar="select({0}, {1}, {2})",
    vjp=lambda ct, out, c, a, b: (None, where(c, ct, constant(0.0, ct)), where(c, constant(0.0, ct), ct)),
    samples=(Sample(("bool[3,20]", "f32[3,20]", "f32[3,20]")), Sample(("bool[5]", "i64[5]", "i64[5]"))),
)


def cast_type(x: TensorType, dtype: str) -> TensorType:
    if dtype not in DTYPES:
        raise IRError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    return x.with_dtype(dtype)


cast: Op = define(
    "cast",
    "elementwise",
    infer=cast_type,
    numpy=lambda x, dtype: x.astype(DTYPES[dtype]),
    scalar="as_{dtype}({0})",
    vjp=lambda ct, out, a: (cast(ct, dtype=a.dtype) if a.dtype in FLOATS else None,),
    samples=(
        Sample(("i64[3,20]",), attrs={"dtype": "f32"}),
        Sample(("u8[5]",), 0, 255, attrs={"dtype": "f32"}),
        Sample(("bool[5]",), attrs={"dtype": "f32"}),
        Sample(("f32[5]",), -9, 9, attrs={"dtype": "i64"}),
        Sample(("i32[5]",), attrs={"dtype": "i64"}),
    ),
)

# -- identities that say something to the compiler

copy: Op = unary("copy", "{0}", np.copy, lambda ct, out, a: (ct,), dtypes=ALL)
stop_gradient: Op = unary("stop_gradient", "{0}", lambda a: a, flat)


def require_type(x: TensorType, low: int, high: int, message: str) -> TensorType:
    if x.dtype not in INTEGERS:
        raise IRError(f"only integers can be required to lie in a range, got {x}")
    return x


require_range: Op = define(
    "require_range",
    "elementwise",
    infer=require_type,
    numpy=lambda x, low, high, message: x,
    scalar="{0}",
    samples=(Sample(("i64[5]",), 0, 3, attrs={"low": 0, "high": 4, "message": "labels"}),),
)

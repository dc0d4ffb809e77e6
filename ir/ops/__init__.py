"""Every op, each declared once: type rule, NumPy meaning, gradient, scalar source, samples."""

from graphc.ir.ops.attention import attend, attended, normaliser, tiles
from graphc.ir.ops.contraction import dot, gradient
from graphc.ir.ops.custom import custom
from graphc.ir.ops.elementwise import (
    absolute,
    acos,
    acosh,
    add,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    bit_and,
    bit_not,
    bit_or,
    bit_xor,
    cast,
    ceil,
    constant,
    copy,
    cos,
    cosh,
    div,
    equal,
    erf,
    exp,
    exp2,
    expm1,
    floor,
    fmod,
    less,
    less_equal,
    log,
    log1p,
    log2,
    log10,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    mul,
    neg,
    not_equal,
    pow,
    quotient,
    relu,
    require_range,
    rint,
    shift_left,
    shift_right,
    sigmoid,
    sign,
    sin,
    sinh,
    softplus,
    sqrt,
    stop_gradient,
    sub,
    tan,
    tanh,
    trunc,
    where,
)
from graphc.ir.ops.index import gather, scatter
from graphc.ir.ops.join import join
from graphc.ir.ops.loop import Body, Roles, loop, part, part_of, stacked, with_body
from graphc.ir.ops.random import random_bits
from graphc.ir.ops.record import OPS, Op, Sample
from graphc.ir.ops.reduce import max, min, prod, sum
from graphc.ir.ops.source import full, input, iota, size
from graphc.ir.ops.sweep import argsort, cumsum
from graphc.ir.ops.view import broadcast, inverse, pad, reshape, slice, swapped, transpose, window

__all__ = [name for name in dir() if not name.startswith("_") and name not in ("annotations",)]

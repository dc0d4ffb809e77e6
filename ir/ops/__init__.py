"""Every op, each declared once: type rule, NumPy meaning, gradient, scalar source, samples."""

from graphc.ir.ops.contraction import dot, gradient
from graphc.ir.ops.elementwise import (
    absolute,
    add,
    cast,
    constant,
    copy,
    cos,
    div,
    equal,
    erf,
    exp,
    expm1,
    floor,
    less,
    less_equal,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    mul,
    neg,
    not_equal,
    pow,
    relu,
    require_range,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    stop_gradient,
    sub,
    tanh,
    where,
)
from graphc.ir.ops.index import gather, scatter
from graphc.ir.ops.random import random_bits
from graphc.ir.ops.record import OPS, Op, Sample
from graphc.ir.ops.reduce import max, min, prod, sum
from graphc.ir.ops.source import full, input, iota, size
from graphc.ir.ops.sweep import argsort, cumsum
from graphc.ir.ops.view import broadcast, inverse, pad, reshape, skew, slice, transpose, window

__all__ = [name for name in dir() if not name.startswith("_") and name not in ("annotations",)]

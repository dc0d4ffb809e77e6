"""Operators, functions of numbers and conversions, on scalars and vectors alike."""

from __future__ import annotations

from functools import partial

from llvmlite import ir

from graphc.backends.lower.emission import (
    FLOATS,
    I1,
    INTEGERS,
    NUMBERS,
    SCALARS,
    SIGNED,
    WIDTHS,
    Emit,
    Kinds,
    Operation,
    alike,
    call_intrinsic,
    constant,
    is_value,
    llvm_type,
    truth_of,
    with_element,
)
from graphc.backends.primitives import element_of


def _instruction(for_floats: str, for_integers: str) -> Emit:
    """The llvmlite builder's method of that name."""

    def emit(b: ir.IRBuilder, kinds: Kinds, *args: ir.Value) -> ir.Value:
        return getattr(b, for_floats if element_of(kinds[0]) in FLOATS else for_integers)(*args)

    return emit


def _intrinsic(for_floats: str, for_signed: str = "", for_unsigned: str = "") -> Emit:
    def emit(b: ir.IRBuilder, kinds: Kinds, *args: ir.Value) -> ir.Value:
        element = element_of(kinds[0])
        name = for_floats if element in FLOATS else for_signed if element in SIGNED else for_unsigned
        return call_intrinsic(b, name, *args)

    return emit


def _compare(symbol: str) -> Emit:
    def emit(b: ir.IRBuilder, kinds: Kinds, x: ir.Value, y: ir.Value) -> ir.Value:
        element = element_of(kinds[0])
        if element in FLOATS:
            return (b.fcmp_unordered if symbol == "!=" else b.fcmp_ordered)(symbol, x, y)
        return (b.icmp_signed if element in SIGNED else b.icmp_unsigned)(symbol, x, y)

    return emit


def _invert(b: ir.IRBuilder, kinds: Kinds, x: ir.Value) -> ir.Value:
    return b.xor(x, constant(x.type, -1))


def _absolute(b: ir.IRBuilder, kinds: Kinds, x: ir.Value) -> ir.Value:
    if element_of(kinds[0]) in FLOATS:
        return call_intrinsic(b, "fabs", x)
    lowest_is_poison = I1(0)
    return call_intrinsic(b, "abs", x, lowest_is_poison)


def _selected(kinds: Kinds) -> str | None:
    if len(kinds) != 3 or kinds[1] != kinds[2] or not is_value(kinds[1]):
        return None
    return kinds[1] if kinds[0] in ("bool", truth_of(kinds[1])) else None


def _convert(element: str, b: ir.IRBuilder, kinds: Kinds, x: ir.Value) -> ir.Value:
    source, target = element_of(kinds[0]), llvm_type(with_element(kinds[0], element))
    if source == element:
        return x
    if element == "bool":
        return (b.fcmp_unordered if source in FLOATS else b.icmp_unsigned)("!=", x, constant(x.type, 0))
    return getattr(b, _conversion(source, element))(x, target)


def _conversion(source: str, target: str) -> str:
    """The instruction between two different number types; a bool is an unsigned number of one bit."""
    if source in FLOATS and target in FLOATS:
        return "fpext" if WIDTHS[source] < WIDTHS[target] else "fptrunc"
    if source in FLOATS:
        return "fptosi" if target in SIGNED else "fptoui"
    if target in FLOATS:
        return "sitofp" if source in SIGNED else "uitofp"
    if WIDTHS[source] > WIDTHS[target]:
        return "trunc"
    return "sext" if source in SIGNED else "zext"


def _write_constant(element: str, b: ir.IRBuilder, kinds: Kinds, x: ir.Value) -> ir.Value:
    if not isinstance(x, ir.Constant):
        return _convert(element, b, kinds, x)
    return ir.Constant(llvm_type(element), float(x.constant) if element in FLOATS else int(x.constant))


def _reinterpret(takes: str, old: str, new: str) -> Operation:
    """The bits of f32 or f64 as the integer of the same width ("f" to "i"), or the other way round."""
    elements = [kind for kind in (*FLOATS, *SIGNED) if kind.startswith(old)]
    return Operation(
        takes,
        alike(1, elements, lambda kind: kind.replace(old, new)),
        lambda b, kinds, x: b.bitcast(x, llvm_type(kinds[0].replace(old, new))),
    )


_TWO_NUMBERS = "two floats or integers of one type"
_TWO_INTEGERS = "two integers of one type"
_TWO_BIT_PATTERNS = "two integers, bools or masks of one type"
_ROUNDINGS_AND_ROOT = ("sqrt", "floor", "ceil", "rint", "trunc")
_SIGNED_NUMBER = "a float, an i32 or an i64"

OPERATORS = {
    "+": Operation(_TWO_NUMBERS, alike(2, NUMBERS), _instruction("fadd", "add")),
    "-": Operation(_TWO_NUMBERS, alike(2, NUMBERS), _instruction("fsub", "sub")),
    "*": Operation(_TWO_NUMBERS, alike(2, NUMBERS), _instruction("fmul", "mul")),
    "/": Operation("two floats of one type", alike(2, FLOATS), _instruction("fdiv", "")),
    # Operands are never negative, and unsigned division by a power of two is one shift.
    "//": Operation(_TWO_INTEGERS, alike(2, INTEGERS), _instruction("", "udiv")),
    "%": Operation(_TWO_INTEGERS, alike(2, INTEGERS), _instruction("", "urem")),
    "negate": Operation(_SIGNED_NUMBER, alike(1, FLOATS + SIGNED), _instruction("fneg", "neg")),
    "&": Operation(_TWO_BIT_PATTERNS, alike(2, (*INTEGERS, "bool")), _instruction("", "and_")),
    "|": Operation(_TWO_BIT_PATTERNS, alike(2, (*INTEGERS, "bool")), _instruction("", "or_")),
    "^": Operation(_TWO_BIT_PATTERNS, alike(2, (*INTEGERS, "bool")), _instruction("", "xor")),
    "~": Operation("an integer, a bool or a mask", alike(1, (*INTEGERS, "bool")), _invert),
    "<<": Operation("two i32 or i64 of one type", alike(2, SIGNED), _instruction("", "shl")),
    ">>": Operation("two i32 or i64 of one type", alike(2, SIGNED), _instruction("", "ashr")),
    "<": Operation(_TWO_NUMBERS, alike(2, NUMBERS, truth_of), _compare("<")),
    "<=": Operation(_TWO_NUMBERS, alike(2, NUMBERS, truth_of), _compare("<=")),
    ">": Operation(_TWO_NUMBERS, alike(2, NUMBERS, truth_of), _compare(">")),
    ">=": Operation(_TWO_NUMBERS, alike(2, NUMBERS, truth_of), _compare(">=")),
    "==": Operation("two values of one type", alike(2, SCALARS, truth_of), _compare("==")),
    "!=": Operation("two values of one type", alike(2, SCALARS, truth_of), _compare("!=")),
}

FUNCTIONS = {
    "fma": Operation("three floats of one type", alike(3, FLOATS), _intrinsic("fma")),
    "copysign": Operation("two floats of one type", alike(2, FLOATS), _intrinsic("copysign")),
    "maximum": Operation(_TWO_NUMBERS, alike(2, NUMBERS), _intrinsic("maximum", "smax", "umax")),
    "minimum": Operation(_TWO_NUMBERS, alike(2, NUMBERS), _intrinsic("minimum", "smin", "umin")),
    "absolute": Operation(_SIGNED_NUMBER, alike(1, FLOATS + SIGNED), _absolute),
    "select": Operation(
        "a bool, or a mask for vectors, and two values of one type", _selected, lambda b, kinds, *args: b.select(*args)
    ),
    **{name: Operation("a float", alike(1, FLOATS), _intrinsic(name)) for name in _ROUNDINGS_AND_ROOT},
}

CONVERSIONS = {
    "bits_of": _reinterpret("a float", "f", "i"),
    "float_of": _reinterpret("an i32 or i64", "i", "f"),
    **{
        f"as_{element}": Operation(
            "a number, bool, vector or mask",
            alike(1, SCALARS, lambda kind, element=element: with_element(kind, element)),  # type: ignore[misc]
            partial(_convert, element),
        )
        for element in SCALARS
    },
    **{
        element: Operation(
            "an integer or float constant",
            lambda kinds, element=element: element if kinds in (("i64",), ("f64",)) else None,  # type: ignore[misc]
            partial(_write_constant, element),
        )
        for element in NUMBERS
    },
}

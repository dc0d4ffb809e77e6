"""Indices of 32 bits: what GPUs count and address with at half the instructions and registers of 64.

A text is the same whatever the width of its indices is. Here every i64 that is made of parameters, whole numbers, loop
counters and arithmetic on them is held in 32 bits; what comes out of memory, or is said to be an i64, stays as wide as
it is, and where the two meet the narrow one is widened. `fits` proves for given sizes that no number on the way
leaves what 32 bits hold, so both widths mean the same.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llvmlite import ir

from graphc.backends.lower.direct import Lowering, NotCovered, Typed, emitter
from graphc.backends.lower.emission import I32, I64
from graphc.backends.primitives import Kernel

MOST = 2**31 - 1
Span = tuple[int, int]  # the least and the greatest a number can be

_FLAGGED = {"+": "add", "-": "sub", "*": "mul"}  # never overflow, which LLVM may know
_KEEP = {*_FLAGGED, "//", "%", "minimum", "maximum", "&", "<", "<=", ">", ">=", "==", "!="}
_COMPARED = {"<", "<=", ">", ">=", "==", "!="}
_MEMORY = {"load", "store", "shift", "load_first", "store_first", "count_up"}  # whose second operand is a place


class DoesNotFit(Exception):
    """A number on the way may be larger than 32 bits hold."""


def fits(kernel: Kernel, spans: Mapping[str, Span]) -> bool:
    """Whether the kernel's indices can be of 32 bits when these names of its text lie in these spans.

    spans  of every i64 parameter; and of others, where more is known than arithmetic tells
    """
    try:
        (function,) = ast.parse(kernel.text).body
        assert isinstance(function, ast.FunctionDef)
        _Proof(replace(kernel, narrow=True), function, spans).write()
    except (DoesNotFit, NotCovered):
        return False
    return True


def lower_narrow(kernel: Kernel) -> str:
    """LLVM IR of one kernel with indices of 32 bits; its parameters are as wide as ever.

    Raises NotCovered.
    """
    (function,) = ast.parse(kernel.text).body
    assert isinstance(function, ast.FunctionDef)
    return Narrow(kernel, function).write()


class Narrow(Lowering):
    """One function while it is written: an "i64" whose LLVM type is i32 is a narrow one."""

    def __init__(self, kernel: Kernel, function: ast.FunctionDef) -> None:
        super().__init__(kernel, function)
        self.not_negative: set[str] = set()  # wide values

    def told(self, kind: str, value: Any) -> Typed:
        """What the function is given, as a value of its own."""
        return kind, self.builder.trunc(value, I32) if kind == "i64" and self.kernel.narrow else value

    def bounds(self, node: ast.expr) -> tuple[Any, Any, Any]:
        start, stop, step = super().bounds(node)
        if not self.kernel.narrow:
            return start, stop, step
        if all(narrowed(each) is not None for each in (start, stop, step)):
            return narrowed(start), narrowed(stop), narrowed(step)
        return self.widened(start), self.widened(stop), self.widened(step)

    def assign(self, name: str, value: Typed) -> None:
        if value[0] == "i64" and self.kernel.narrow and name in self.carried:
            value = "i64", self.alike(name, value[1])
        super().assign(name, value)

    def alike(self, name: str, value: Any) -> Any:
        """A name that is assigned again and again keeps the width it began with."""
        if name not in self.slots or self.slots[name][1].type.pointee == value.type:
            return value
        if value.type == I64:
            raise NotCovered(f"{name} begins narrow and grows")
        return self.widened(value)

    def operate(self, symbol: str, *operands: Typed) -> Typed:
        if not self.kernel.narrow or not any(kind == "i64" for kind, _ in operands):
            return super().operate(symbol, *operands)
        if symbol in _MEMORY:
            place, *rest = operands[1:]
            return super().operate(symbol, operands[0], place, *map(self.wide, rest))
        if symbol == "minimum" and operands[0][1].get_reference() in self.not_negative:
            narrow = narrowed(operands[1][1])
            if narrow is not None:
                _, least = super().operate(symbol, operands[0], ("i64", self.widened(narrow)))
                return self.noted("held", operands, self.builder.trunc(least, I32))
        numbers = [value for kind, value in operands if kind == "i64"]
        narrow_ones = [narrowed(value) for value in numbers]
        if None in narrow_ones or symbol not in _KEEP | {"select", "as_f32", "as_f64"}:
            kind, value = super().operate(symbol, *map(self.wide, operands))
            lowest = numbers[-1]
            if symbol == "maximum" and isinstance(lowest, ir.Constant) and lowest.constant >= 0:
                self.not_negative.add(value.get_reference())
            return kind, value
        return self.operate_narrow(symbol, operands)

    def operate_narrow(self, symbol: str, operands: tuple[Typed, ...]) -> Typed:
        values = [narrowed(value) if kind == "i64" else value for kind, value in operands]
        kinds = tuple("i32" if kind == "i64" else kind for kind, _ in operands)
        if symbol in _FLAGGED and len(values) == 2:
            value = getattr(self.builder, _FLAGGED[symbol])(*values, flags=["nsw"])
            return self.noted(symbol, operands, value)
        found = emitter(symbol, kinds)
        if found is None:
            raise NotCovered(f"{symbol} of {kinds}")
        emit, result = found
        value = emit(self.builder, kinds, *values)
        return self.noted(symbol, operands, value) if result == "i32" else (result, value)

    def noted(self, symbol: str, operands: tuple[Typed, ...], value: Any) -> Typed:
        """A narrow result."""
        return "i64", value

    def handed(self, arguments: list[Typed]) -> list[Typed]:
        return [*map(self.wide, arguments)]

    # -- widths

    def wide(self, operand: Typed) -> Typed:
        kind, value = operand
        return kind, self.widened(value) if kind == "i64" else value

    def widened(self, value: Any) -> Any:
        if isinstance(value, ir.Constant):
            return I64(value.constant)
        return value if value.type == I64 else self.builder.sext(value, I64)


def narrowed(value: Any) -> Any:
    """A number that is narrow, or a constant that can be; None for others."""
    if isinstance(value, ir.Constant):
        return I32(value.constant) if abs(value.constant) <= MOST else None
    return value if value.type == I32 else None


class _Proof(Narrow):
    """Follows the least and the greatest of every narrow number. What is written is of no use."""

    def __init__(self, kernel: Kernel, function: ast.FunctionDef, given: Mapping[str, Span]) -> None:
        super().__init__(kernel, function)
        self.given = given
        self.spans: dict[str, Span] = {}

    def told(self, kind: str, value: Any) -> Typed:
        kind, narrow = super().told(kind, value)
        if kind == "i64":
            self.note(narrow, self.given[value.get_reference().removeprefix("%")])
        return kind, narrow

    def note(self, value: Any, span: Span) -> None:
        if max(map(abs, span)) > MOST:
            raise DoesNotFit(f"{span}")
        self.spans[value.get_reference()] = span

    def span(self, value: Any) -> Span:
        if isinstance(value, ir.Constant):
            return value.constant, value.constant
        found = self.spans.get(value.get_reference())
        if found is None:
            raise DoesNotFit(f"nothing is known of {value}")
        return found

    def counter(self, index: Any, start: Any, stop: Any, step: Any) -> Typed:
        if index.type == I32:
            (first, _), (_, last), (_, most) = map(self.span, (start, stop, step))
            self.note(index, (first, max(last, first) + most))  # as it is when the loop ends
            self.note(index, (first, max(last - 1, first)))
        return super().counter(index, start, stop, step)

    def assign(self, name: str, value: Typed) -> None:
        if value[0] == "i64" and value[1].type == I32 and name in self.carried:
            raise DoesNotFit(f"{name} may grow")
        if name in self.given and value[1].type == I32:
            (low, high), (least, most) = self.span(value[1]), self.given[name]
            self.note(value[1], (max(low, least), min(high, most)))
        super().assign(name, value)

    def noted(self, symbol: str, operands: tuple[Typed, ...], value: Any) -> Typed:
        if not isinstance(value, ir.Constant):
            self.note(value, self.outcome(symbol, [each for kind, each in operands if kind == "i64"]))
        return "i64", value

    def outcome(self, symbol: str, values: list[Any]) -> Span:
        if symbol == "held":
            return 0, self.span(values[1])[1]
        (low, high), (least, most) = map(self.span, values)
        corners = [x * y for x in (low, high) for y in (least, most)]
        known = {
            "+": (low + least, high + most),
            "-": (low - most, high - least),
            "*": (min(corners), max(corners)),
            "//": (0, max(high, 0) // max(least, 1)),
            "%": (0, min(max(high, 0), max(most - 1, 0))),
            "&": (0, max(high, most)),
            "minimum": (min(low, least), min(high, most)),
            "maximum": (max(low, least), max(high, most)),
            "select": (min(low, least), max(high, most)),
        }
        if symbol in ("//", "%", "&") and (low < 0 or least < 0):
            raise DoesNotFit(f"{symbol} of numbers below 0")
        return known[symbol]

"""LLVM IR written straight as text: a builder that stands where `llvmlite.ir.IRBuilder` does for the operations.

llvmlite builds an object for each instruction, names it, and prints it later, which costs more than all else of a
lowering. Operations need a value's type and its name only, so here an instruction is a line of text from the start.
Types and constants are llvmlite's, whose texts are made once. A method the operations do not use is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from llvmlite import ir

_COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
_TRUTH = ir.IntType(1)


def type_text(kind: ir.Type) -> str:
    """A type as LLVM prints it: pointers have no types of their own."""
    return "ptr" if kind.is_pointer else str(kind)


class TextValue:
    """A value of a type, by the name it has in the text."""

    __slots__ = ("name", "type")

    def __init__(self, kind: ir.Type, name: str) -> None:
        self.type = kind
        self.name = name

    def get_reference(self) -> str:
        return self.name

    def __str__(self) -> str:
        return f"{type_text(self.type)} {self.name}"


@cache
def _of_lanes(element: ir.Type, count: int) -> ir.Type:
    return ir.VectorType(element, count)


def _binary(name: str) -> Callable[..., TextValue]:
    def emit(self: TextBuilder, x: Any, y: Any, flags: Sequence[str] = ()) -> TextValue:
        return self.value(x.type, f"{' '.join([name, *flags])} {x}, {y.get_reference()}")

    return emit


def _conversion(name: str) -> Callable[..., TextValue]:
    def emit(self: TextBuilder, x: Any, kind: ir.Type) -> TextValue:
        return self.value(kind, f"{name} {x} to {kind}")

    return emit


def _comparison(name: str, prefix: str) -> Callable[..., TextValue]:
    def emit(self: TextBuilder, symbol: str, x: Any, y: Any) -> TextValue:
        kind = _of_lanes(_TRUTH, x.type.count) if isinstance(x.type, ir.VectorType) else _TRUTH
        sign = "" if name == "icmp" and symbol in ("==", "!=") else prefix
        return self.value(kind, f"{name} {sign}{_COMPARISONS[symbol]} {x}, {y.get_reference()}")

    return emit


class TextBuilder:
    """The lines of one function and the declarations it needs."""

    def __init__(self) -> None:
        self.slots: list[str] = []  # the memory of names, at the head of the function
        self.lines: list[str] = []
        self.declarations: dict[str, str] = {}
        self.count = 0

    fadd, fsub, fmul, fdiv = map(_binary, ("fadd", "fsub", "fmul", "fdiv"))
    add, sub, mul, udiv, urem = map(_binary, ("add", "sub", "mul", "udiv", "urem"))
    and_, or_, xor, shl, ashr, lshr = map(_binary, ("and", "or", "xor", "shl", "ashr", "lshr"))
    trunc, zext, sext, fptrunc, fpext = map(_conversion, ("trunc", "zext", "sext", "fptrunc", "fpext"))
    fptosi, fptoui, sitofp, uitofp = map(_conversion, ("fptosi", "fptoui", "sitofp", "uitofp"))
    icmp_signed, icmp_unsigned = _comparison("icmp", "s"), _comparison("icmp", "u")
    fcmp_ordered, fcmp_unordered = _comparison("fcmp", "o"), _comparison("fcmp", "u")

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}\n")

    def value(self, kind: ir.Type, text: str) -> TextValue:
        """The next numbered value, which the instruction `text` gives."""
        name = f"%{self.count}"
        self.count += 1
        self.lines.append(f"  {name} = {text}\n")
        return TextValue(kind, name)

    def fneg(self, x: Any) -> TextValue:
        return self.value(x.type, f"fneg {x}")

    def neg(self, x: Any) -> TextValue:
        return self.value(x.type, f"sub {x.type} {ir.Constant(x.type, None).get_reference()}, {x.get_reference()}")

    def bitcast(self, x: Any, kind: ir.Type) -> TextValue:
        """Pointers have no types in LLVM: another type of pointer is the same value."""
        if kind.is_pointer:
            return TextValue(kind, x.get_reference())
        return self.value(kind, f"bitcast {x} to {kind}")

    def select(self, condition: Any, x: Any, y: Any) -> TextValue:
        return self.value(x.type, f"select {condition}, {x}, {y}")

    # -- lanes and tiles

    def insert_element(self, vector: Any, x: Any, lane: Any) -> TextValue:
        return self.value(vector.type, f"insertelement {vector}, {x}, {lane}")

    def extract_element(self, vector: Any, lane: Any) -> TextValue:
        return self.value(vector.type.element, f"extractelement {vector}, {lane}")

    def shuffle_vector(self, x: Any, y: Any, mask: Any) -> TextValue:
        kind = x.type if x.type.count == mask.type.count else _of_lanes(x.type.element, mask.type.count)
        return self.value(kind, f"shufflevector {x}, {y}, {mask}")

    def insert_value(self, tile: Any, x: Any, position: int) -> TextValue:
        return self.value(tile.type, f"insertvalue {tile}, {x}, {position}")

    def extract_value(self, tile: Any, position: int) -> TextValue:
        kind = tile.type
        element = kind.elements[position] if isinstance(kind, ir.LiteralStructType) else kind.element
        return self.value(element, f"extractvalue {tile}, {position}")

    # -- memory

    def slot(self, kind: ir.Type, name: str) -> TextValue:
        """Memory for a value of the type, there from the start of the function."""
        self.slots.append(f"  %{name} = alloca {kind}\n")
        return TextValue(kind.as_pointer(), f"%{name}")

    def gep(self, pointer: Any, indices: Sequence[Any]) -> TextValue:
        (index,) = indices
        return self.value(pointer.type, f"getelementptr {pointer.type.pointee}, ptr {pointer.name}, {index}")

    def load(self, place: Any, align: int = 0) -> TextValue:
        kind = place.type.pointee
        return self.value(kind, f"load {kind}, ptr {place.name}{f', align {align}' if align else ''}")

    def store(self, x: Any, place: Any, align: int = 0) -> None:
        self.line(f"store {x}, ptr {place.name}{f', align {align}' if align else ''}")

    def atomic_rmw(self, name: str, place: Any, x: Any, ordering: str) -> TextValue:
        """What was at a place before an operation of no other thread's coming between changed it."""
        return self.value(x.type, f"atomicrmw {name} ptr {place.name}, {x} {ordering}")

    # -- control flow and calls

    def call_declared(self, name: str, result: ir.Type, args: Sequence[Any], aligned: Mapping[int, int]) -> Any:
        """Call a function that is declared in this module; `aligned`: argument -> bytes its pointer is aligned to."""
        if name not in self.declarations:
            self.declarations[name] = f"declare {result} @{name}({', '.join(type_text(arg.type) for arg in args)})\n"
        given = [
            f"ptr align {aligned[position]} {arg.get_reference()}" if position in aligned else str(arg)
            for position, arg in enumerate(args)
        ]
        call = f"call {result} @{name}({', '.join(given)})"
        return self.line(call) if isinstance(result, ir.VoidType) else self.value(result, call)

    def label(self, name: str) -> None:
        """What follows can be jumped to; the block before it must have ended."""
        self.lines.append(f"{name}:\n")

    def jump(self, name: str) -> None:
        self.line(f"br label %{name}")

    def branch(self, condition: Any, yes: str, no: str) -> None:
        self.line(f"br {condition}, label %{yes}, label %{no}")

    @contextmanager
    def if_then(self, condition: Any) -> Iterator[None]:
        name = f"then.{self.count}"
        self.branch(condition, name, f"{name}.end")
        self.label(name)
        yield
        self.jump(f"{name}.end")
        self.label(f"{name}.end")

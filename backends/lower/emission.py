"""What the operations of the kernel language are made of: their record, rules about types, and pieces of LLVM.

Kernel types are the strings of `backends.primitives`; who infers them is not known here. Loads and stores always state
their alignment, so the text means the same for every data layout, and no instruction carries fast-math flags.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from llvmlite import ir

from graphc.backends.lower.text import TextBuilder
from graphc.backends.primitives import LANES, element_of, is_pointer, is_vector, tile_extents, vector_of
from graphc.ir.frozen import dataclass

Kinds = tuple[str, ...]
Rule = Callable[[Kinds], str | None]
Emit = Callable[..., Any]

FLOATS = ("f32", "f64")
SIGNED = ("i32", "i64")
INTEGERS = (*SIGNED, "u8")
NUMBERS = (*FLOATS, *INTEGERS)
SCALARS = (*NUMBERS, "bool")
MASK = vector_of("bool")
WIDTHS = {"f32": 32, "f64": 64, "i32": 32, "i64": 64, "u8": 8, "bool": 1}

I1, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_SCALAR_TYPES = {"f32": ir.FloatType(), "f64": ir.DoubleType(), "": ir.VoidType()} | {
    kind: ir.IntType(WIDTHS[kind]) for kind in (*INTEGERS, "bool")
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One primitive or operator.

    takes: the types it takes, in words. result: argument types -> type of the value, "" for no value, None if refused.
    emit: (builder, argument types, *LLVM values) -> LLVM value or None.
    """

    takes: str
    result: Rule
    emit: Emit


@cache
def llvm_type(kind: str) -> ir.Type:
    """The LLVM type of a kernel type, as a value and as an argument."""
    extents = tile_extents(kind)
    if extents:
        return ir.ArrayType(llvm_type(vector_of("f32")), extents[0] * extents[1])
    if is_pointer(kind):
        return memory_type(element_of(kind)).as_pointer()
    if is_vector(kind):
        return ir.VectorType(_SCALAR_TYPES[element_of(kind)], LANES)
    return _SCALAR_TYPES[kind]


def memory_type(kind: str) -> ir.Type:
    """Like llvm_type of a scalar or vector, but a bool in memory is one byte."""
    return llvm_type(kind.replace("bool", "u8"))


# --- rules about types ------------------------------------------------------------------------------------------------


def alike(count: int, elements: Collection[str], result: Callable[[str], str] = str) -> Rule:
    """`count` scalars or vectors of one type, whose elements are among `elements`."""

    def rule(kinds: Kinds) -> str | None:
        fits = len(kinds) == count and len(set(kinds)) == 1 and is_value(kinds[0]) and element_of(kinds[0]) in elements
        return result(kinds[0]) if fits else None

    return rule


def like(pattern: Sequence[str | Callable[[str], bool]], result: Callable[[Kinds], str | None]) -> Rule:
    """Arguments that are, one by one, the types named or accepted by `pattern`."""

    def rule(kinds: Kinds) -> str | None:
        fits = len(kinds) == len(pattern) and all(map(_fits, pattern, kinds))
        return result(kinds) if fits else None

    return rule


def _fits(wanted: str | Callable[[str], bool], kind: str) -> bool:
    return kind == wanted if isinstance(wanted, str) else wanted(kind)


def is_value(kind: str) -> bool:
    return kind in SCALARS or is_vector(kind)


def with_element(kind: str, element: str) -> str:
    """The scalar or vector type of the same form with other elements."""
    return vector_of(element) if is_vector(kind) else element


def truth_of(kind: str) -> str:
    return with_element(kind, "bool")


# --- pieces of LLVM ---------------------------------------------------------------------------------------------------


def suffix(kind: ir.Type) -> str:
    """A type as the names of intrinsics spell it."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{suffix(kind.element)}"
    if isinstance(kind, ir.IntType):
        return f"i{kind.width}"
    return "f32" if isinstance(kind, ir.FloatType) else "f64"


def call_declared(
    b: ir.IRBuilder | TextBuilder,
    name: str,
    result: ir.Type,
    args: Sequence[ir.Value],
    aligned: Mapping[int, int] = MappingProxyType({}),
) -> ir.Value:
    """Call a function of which the module holds only the declaration.

    aligned: the position of a pointer among the arguments -> the bytes it is aligned to.
    """
    if isinstance(b, TextBuilder):
        return b.call_declared(name, result, args, aligned)
    function = b.module.globals.get(name)
    if function is None:
        function = ir.Function(b.module, ir.FunctionType(result, [arg.type for arg in args]), name)
    call = b.call(function, args)
    for position, alignment in aligned.items():
        call.arg_attributes[position] = ir.values.ArgumentAttributes()
        call.arg_attributes[position].align = alignment
    return call


def call_intrinsic(b: ir.IRBuilder, name: str, *args: ir.Value, result: ir.Type | None = None) -> ir.Value:
    """Call the LLVM intrinsic `name` for the type of its first argument, which is also its result's unless given."""
    return call_declared(b, f"llvm.{name}.{suffix(args[0].type)}", result or args[0].type, args)


class Splat(ir.Constant):
    """One number in every lane, which LLVM reads and we write quicker than the lanes one by one."""

    def __init__(self, kind: ir.VectorType, number: float) -> None:
        super().__init__(kind, ir.Undefined)
        self.lane = kind.element(number)

    def _get_reference(self) -> str:
        return f"splat ({self.lane})"


def constant(kind: ir.Type, number: float) -> ir.Constant:
    """The number as a scalar, or in every lane of a vector."""
    return Splat(kind, number) if isinstance(kind, ir.VectorType) else ir.Constant(kind, number)


def lanes(kind: ir.Type, numbers: Sequence[int]) -> ir.Constant:
    return _lanes(kind, tuple(numbers))


@cache
def _lanes(kind: ir.Type, numbers: tuple[int, ...]) -> ir.Constant:
    return ir.Constant(ir.VectorType(kind, len(numbers)), numbers)


@cache
def vector_type(element: ir.Type) -> ir.Type:
    return ir.VectorType(element, LANES)


def spread(b: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    vector = vector_type(scalar.type)
    if isinstance(scalar, ir.Constant):
        return constant(vector, scalar.constant)
    undefined = ir.Constant(vector, ir.Undefined)
    first = b.insert_element(undefined, scalar, I32(0))
    return b.shuffle_vector(first, undefined, lanes(I32, [0] * LANES))


def address(b: ir.IRBuilder, pointer: ir.Value, index: ir.Value, kind: str) -> tuple[ir.Value, int]:
    """(where the value of type `kind` starts, at element `index` of the pointer; the alignment it has in bytes)."""
    place = b.gep(pointer, [index])
    if is_vector(kind):
        place = b.bitcast(place, _pointer_to(kind))
    return place, max(1, WIDTHS[element_of(kind)] // 8)


@cache
def _pointer_to(kind: str) -> ir.Type:
    return memory_type(kind).as_pointer()


def load(b: ir.IRBuilder, pointer: ir.Value, index: ir.Value, kind: str) -> ir.Value:
    place, alignment = address(b, pointer, index, kind)
    return from_memory(b, b.load(place, align=alignment), kind)


def store(b: ir.IRBuilder, pointer: ir.Value, index: ir.Value, value: ir.Value, kind: str) -> None:
    place, alignment = address(b, pointer, index, kind)
    b.store(to_memory(b, value, kind), place, align=alignment)


def from_memory(b: ir.IRBuilder, value: ir.Value, kind: str) -> ir.Value:
    return b.icmp_unsigned("!=", value, constant(value.type, 0)) if element_of(kind) == "bool" else value


def to_memory(b: ir.IRBuilder, value: ir.Value, kind: str) -> ir.Value:
    return b.zext(value, memory_type(kind)) if element_of(kind) == "bool" else value

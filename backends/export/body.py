"""One function of a library while it is written as LLVM IR, and what all of them call to look at arguments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.backends.entry.pieces import LLVM_TYPES
from graphc.backends.export.signatures import IR_TYPES, SIZES, Argument, Face, Signature
from graphc.backends.export.statuses import MISALIGNED, NULL, ORDER, THREADS
from graphc.ir.types import FLOATS

ATTRIBUTES = 'nounwind "no-builtins"'
BLOCK_ALIGNMENT = 16
MOST_SAMPLES = 2**48  # of an epoch

# Of one argument each: a status, 0 where nothing is wrong.
GUARDS = f"""
define internal i32 @check.pointer(ptr %p, i64 %alignment) noinline {ATTRIBUTES} {{
  %number = ptrtoint ptr %p to i64
  %is.null = icmp eq i64 %number, 0
  %most = sub i64 %alignment, 1
  %over = and i64 %number, %most
  %is.odd = icmp ne i64 %over, 0
  %odd = select i1 %is.odd, i32 {MISALIGNED}, i32 0
  %status = select i1 %is.null, i32 {NULL}, i32 %odd
  ret i32 %status
}}

define internal i32 @check.optional(ptr %p, i64 %alignment) noinline {ATTRIBUTES} {{
  %is.null = icmp eq ptr %p, null
  %status = call i32 @check.pointer(ptr %p, i64 %alignment)
  %found = select i1 %is.null, i32 0, i32 %status
  ret i32 %found
}}

define internal i32 @check.range(i64 %number, i64 %low, i64 %high, i32 %status) noinline {ATTRIBUTES} {{
  %under = icmp slt i64 %number, %low
  %over = icmp sgt i64 %number, %high
  %out = or i1 %under, %over
  %found = select i1 %out, i32 %status, i32 0
  ret i32 %found
}}

define internal i32 @check.threads(i32 %thread, i32 %threads) noinline {ATTRIBUTES} {{
  %few = icmp slt i32 %threads, 1
  %many = icmp sgt i32 %threads, MOST_THREADS
  %under = icmp slt i32 %thread, 0
  %over = icmp sge i32 %thread, %threads
  %a = or i1 %few, %many
  %b = or i1 %under, %over
  %wrong = or i1 %a, %b
  %found = select i1 %wrong, i32 {THREADS}, i32 0
  ret i32 %found
}}

define internal i32 @check.order(ptr %order, i64 %samples) noinline {ATTRIBUTES} {{
entry:
  %none = icmp eq ptr %order, null
  br i1 %none, label %fine, label %check
check:
  %aligned = call i32 @check.pointer(ptr %order, i64 8)
  %odd = icmp ne i32 %aligned, 0
  br i1 %odd, label %misaligned, label %look
look:
  %wrong = call i64 @outside_i64(ptr %order, i64 %samples, i64 0, i64 %samples, i64 0)
  %bad = icmp ne i64 %wrong, 0
  %found = select i1 %bad, i32 {ORDER}, i32 0
  ret i32 %found
misaligned:
  ret i32 %aligned
fine:
  ret i32 0
}}
"""


class Body:
    """The lines of one function while it is written."""

    def __init__(self, signature: Signature) -> None:
        arguments = ", ".join(f"{each.ir_type} %{each.name}" for each in signature.arguments)
        self.returns = IR_TYPES[signature.returns]
        self.lines = [f"define {self.returns} @{signature.name}({arguments}) {ATTRIBUTES} {{", "entry:"]
        self.count = 0

    def fresh(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def let(self, text: str) -> str:
        """A name for what an instruction gives."""
        name = f"%{self.fresh()}"
        self.lines.append(f"  {name} = {text}")
        return name

    def room(self, count: int, kind: str, alignment: int = 16) -> str:
        """Memory on the stack, from the start of the function on: so no system needs a function that grows a stack."""
        name = f"%{self.fresh()}"
        self.lines.insert(2, f"  {name} = alloca [{max(count, 1)} x {kind}], align {alignment}")
        return name

    def do(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def at(self, pointer: str, offset: int) -> str:
        return self.let(f"getelementptr inbounds i8, ptr {pointer}, i64 {offset}") if offset else pointer

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def table(self, name: str, pointers: Sequence[str]) -> str:
        """An array of pointers on the stack."""
        found = self.room(len(pointers), "ptr")
        for number, pointer in enumerate(pointers):
            slot = self.let(f"getelementptr inbounds ptr, ptr {found}, i64 {number}")
            self.do(f"store ptr {pointer}, ptr {slot}")
        return found

    def words(self, names: Sequence[str], given: Sequence[str], numbers: Sequence[str] = ()) -> str:
        """What the compiler's functions read where they are told to: eight bytes each, pointers but for numbers."""
        found = self.room(len(names), "i64")
        for place, (name, value) in enumerate(zip(names, given, strict=True)):
            kind = "i64" if name in numbers else "ptr"
            self.do(f"store {kind} {value}, ptr {self.at(found, 8 * place)}, align 8")
        return found

    def refuse(self, statuses: Sequence[str]) -> None:
        """Return the first of these statuses that is not 0."""
        found = statuses[-1]
        for status in reversed(statuses[:-1]):
            wrong = self.let(f"icmp ne i32 {status}, 0")
            found = self.let(f"select i1 {wrong}, i32 {status}, i32 {found}")
        wrong, refused, fine = self.let(f"icmp ne i32 {found}, 0"), self.fresh(), self.fresh()
        self.do(f"br i1 {wrong}, label %{refused}, label %{fine}")
        self.label(refused)
        self.do(f"ret i32 {found}" if self.returns == "i32" else f"ret {self.returns} 0")
        self.label(fine)

    def check(self, name: str, arguments: str) -> str:
        return self.let(f"call i32 @check.{name}({arguments})")

    def pointer(self, argument: Argument, alignment: int = BLOCK_ALIGNMENT) -> str:
        return self.check("pointer", f"ptr %{argument.name}, i64 {alignment}")

    def end(self) -> str:
        return "\n".join([*self.lines, "}", ""])


def settings(body: Body, face: Face) -> str:
    """Where the run-time scalars lie, eight bytes each: those that are given, or as they were at export."""
    structure, slots = face.settings, body.room(len(face.member.settings), "i64")
    if structure is None:
        return slots
    none, fixed, given, ready = body.let("icmp eq ptr %settings, null"), *(body.fresh() for _ in range(3))
    body.do(f"br i1 {none}, label %{fixed}, label %{given}")
    body.label(given)
    for number, (field, offset) in enumerate(zip(structure.fields, structure.offsets, strict=True)):
        kind, size = IR_TYPES[field.kind], SIZES[field.kind]
        value = body.let(f"load {kind}, ptr {body.at('%settings', offset)}, align {size}")
        body.do(f"store {kind} {value}, ptr {body.at(slots, 8 * number)}, align 8")
    body.do(f"br label %{ready}")
    body.label(fixed)
    scalars = face.member.graph.of_role("scalar")
    for number, ((_, setting), scalar) in enumerate(zip(face.member.settings, scalars, strict=True)):
        kind, place = LLVM_TYPES[scalar.dtype], body.at(slots, 8 * number)
        body.do(f"store {kind} {literal(setting, scalar.dtype)}, ptr {place}, align 8")
    body.do(f"br label %{ready}")
    body.label(ready)
    return slots


def literal(number: float, dtype: str) -> str:
    """A constant as LLVM reads it back to the bit."""
    if dtype in FLOATS:
        wide = np.float64(np.float32(number)) if dtype == "f32" else np.float64(number)
        return f"0x{int(wide.view(np.uint64)):016X}"
    return str(int(number))


def constant_text(name: str, text: str) -> str:
    data = text.encode() + b"\0"
    escaped = "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:02X}" for byte in data)
    return f'@{name} = internal constant [{len(data)} x i8] c"{escaped}"\n'

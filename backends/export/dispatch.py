"""Which of a library's variants a processor runs, found out by the library itself, as LLVM IR for x86-64.

`processor.level` keeps what was found in the only number of a library that is written: 0 before the first look, 1 for a
processor below all variants, and from 2 on what runs the first, second … of them. Threads that look at once find the
same.

Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, CPUID and XGETBV; System V Application
Binary Interface, x86-64 supplement, section 3.1.1, for the levels of the architecture.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.export.body import ATTRIBUTES
from graphc.backends.export.signatures import Face
from graphc.backends.export.statuses import PROCESSOR
from graphc.backends.target import Target

LEVEL_BYTES = 4  # of what is written


def bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


# By level, beside what those before it need: bits of leaf 1 (ecx), leaf 7 (ebx), leaf 0x80000001 (ecx) and of the state
# that the system saves.
NEEDED = {
    "v2": (bits(0, 9, 13, 19, 20, 23), 0, bits(0), 0),  # SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF
    "v3": (bits(12, 22, 27, 28, 29), bits(3, 5, 8), bits(5), bits(1, 2)),  # FMA, MOVBE, OSXSAVE, AVX, F16C; BMI, AVX2
    "v4": (0, bits(16, 17, 28, 30, 31), 0, bits(1, 2, 5, 6, 7)),  # AVX-512 F, DQ, CD, BW, VL
}

# Instructions that LLVM has no name for, as bytes before a body that is not reached: its wheels assemble for one
# machine only. Both functions are called the Unix way on every system.
SAYS = (
    b"\x53"  # push rbx
    b"\x89\xf8\x31\xc9\x0f\xa2"  # mov eax, edi; xor ecx, ecx; cpuid
    b"\x89\x06\x89\x5e\x04"  # mov [rsi], eax; mov [rsi + 4], ebx
    b"\x89\x4e\x08\x89\x56\x0c"  # mov [rsi + 8], ecx; mov [rsi + 12], edx
    b"\x5b\xc3"  # pop rbx; ret
)
OPAQUE = f"noinline optnone {ATTRIBUTES}"
SAVES = b"\x31\xc9\x0f\x01\xd0\xc3"  # xor ecx, ecx; xgetbv; ret


def prologue(code: bytes) -> str:
    escaped = "".join(f"\\{byte:02X}" for byte in code)
    return f'[{len(code)} x i8] c"{escaped}"'


LOOK = f"""
@processor.level = internal global i32 0, align 4

define internal x86_64_sysvcc void @processor.says(i32 %leaf, ptr %words) {OPAQUE} prologue {prologue(SAYS)} {{
  ret void
}}

define internal x86_64_sysvcc i32 @processor.saves() {OPAQUE} prologue {prologue(SAVES)} {{
  ret i32 0
}}

define internal i32 @processor.word(i32 %leaf, i64 %number) noinline {ATTRIBUTES} {{
  %words = alloca [4 x i32], align 16
  call x86_64_sysvcc void @processor.says(i32 %leaf, ptr %words)
  %place = getelementptr inbounds i32, ptr %words, i64 %number
  %word = load i32, ptr %place, align 4
  ret i32 %word
}}

define internal i32 @processor.look() noinline {ATTRIBUTES} {{
entry:
  %known = load atomic i32, ptr @processor.level monotonic, align 4
  %is.known = icmp ne i32 %known, 0
  br i1 %is.known, label %done, label %look
look:
  %last = call i32 @processor.word(i32 0, i64 0)
  %word.0 = call i32 @processor.word(i32 1, i64 2)
  %perhaps = call i32 @processor.word(i32 7, i64 1)
  %has.7 = icmp uge i32 %last, 7
  %word.1 = select i1 %has.7, i32 %perhaps, i32 0
  %word.2 = call i32 @processor.word(i32 {0x80000001 - 2**32}, i64 2)
  %saving = and i32 %word.0, {bits(27)}
  %saves = icmp ne i32 %saving, 0
  br i1 %saves, label %ask, label %compare
ask:
  %saved = call x86_64_sysvcc i32 @processor.saves()
  br label %compare
compare:
  %word.3 = phi i32 [ 0, %look ], [ %saved, %ask ]
"""


def write_dispatch(faces: Sequence[Face], variants: Sequence[Target]) -> str:
    """The functions that the interface calls, each of which goes on to the same one of a variant."""
    lines = [*compare(variants)]
    lines += [f"define internal i32 @check.processor() noinline {ATTRIBUTES} {{"]
    lines += ["  %level = call i32 @processor.look()"]
    lines += ["  %low = icmp slt i32 %level, 2", f"  %status = select i1 %low, i32 {PROCESSOR}, i32 0"]
    lines += ["  ret i32 %status", "}"]
    for face in faces:
        lines += go_on(f"{face.name}.step", KINDS, variants)
        if face.has_epoch:
            lines += go_on(f"{face.name}.epoch", KINDS, variants)
    return LOOK + "\n".join([*lines, ""])


KINDS = ("ptr", "i64", "i64")  # of what a step and an epoch take


def compare(variants: Sequence[Target]) -> list[str]:
    """The rest of `processor.look`: a level is reached where those below it are."""
    lines, reached, level = [], "true", "1"
    offered = {variant.suffix for variant in variants}
    for name, masks in NEEDED.items():
        for number, mask in enumerate(masks):
            lines += [f"  %{name}.has.{number} = and i32 %word.{number}, {mask}"]
            lines += [f"  %{name}.is.{number} = icmp eq i32 %{name}.has.{number}, {mask}"]
            lines += [f"  %{name}.and.{number} = and i1 {reached}, %{name}.is.{number}"]
            reached = f"%{name}.and.{number}"
        if name in offered:
            lines += [f"  %{name}.one = zext i1 {reached} to i32", f"  %{name}.level = add i32 {level}, %{name}.one"]
            level = f"%{name}.level"
    lines += [f"  store atomic i32 {level}, ptr @processor.level monotonic, align 4", "  br label %done"]
    return [*lines, "done:", f"  %level = phi i32 [ %known, %entry ], [ {level}, %compare ]", "  ret i32 %level", "}"]


def go_on(name: str, kinds: Sequence[str], variants: Sequence[Target]) -> list[str]:
    arguments = [f"{kind} %a{number}" for number, kind in enumerate(kinds)]
    given = ", ".join(arguments)
    lines = [f"define internal i32 @{name}({given}) noinline {ATTRIBUTES} {{", "entry:"]
    lines += ["  %level = call i32 @processor.look()"]
    cases = " ".join(f"i32 {number}, label %{each.suffix}" for number, each in enumerate(variants[1:], start=3))
    lines += [f"  switch i32 %level, label %{variants[0].suffix} [ {cases} ]"]
    for variant in variants:
        found = f"%status.{variant.suffix}"
        lines += [f"{variant.suffix}:", f"  {found} = tail call i32 @{name}.{variant.suffix}({given})"]
        lines += [f"  ret i32 {found}"]
    return [*(f"declare i32 @{name}.{each.suffix}({', '.join(kinds)})" for each in variants), *lines, "}"]

"""Objects for the linker's tests, and what it wrote read back without it."""

from __future__ import annotations

import ctypes
import platform
import shutil
import struct
import subprocess
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from graphc.backends import elf
from graphc.backends.link import link_shared_object

X86_64 = "x86_64-unknown-linux-gnu"
AARCH64 = "aarch64-unknown-linux-gnu"
ARMV7 = "armv7-unknown-linux-gnueabihf"
TRIPLES = pytest.mark.parametrize("triple", [X86_64, AARCH64, ARMV7])
HERE = {"x86_64": X86_64, "aarch64": AARCH64}.get(platform.machine() if platform.system() == "Linux" else "")
runs_here = pytest.mark.skipif(HERE is None, reason="loading needs Linux on x86-64 or aarch64")

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()


def compile_object(text: str, triple: str | None = HERE, reloc: str = "pic", opt: int = 2) -> bytes:
    """LLVM IR text -> relocatable object."""
    machine = llvm.Target.from_triple(triple).create_target_machine(opt=opt, reloc=reloc, codemodel="small")
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = triple, str(machine.target_data)
    module.verify()
    return bytes(machine.emit_object(module))


def load(image: bytes, folder: Path) -> ctypes.CDLL:
    path = folder / "library.so"
    path.write_bytes(image)
    return ctypes.CDLL(str(path))


def tool(name: str, *arguments: str) -> str:
    """Output of a binary tool; the check is skipped, with a notice, where the tool is not installed."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not on PATH")
    result = subprocess.run([name, *arguments], capture_output=True, text=True)
    assert result.returncode == 0 and not result.stderr, result.stderr
    return result.stdout


# A switch that becomes a jump table, a table of constants, mutable and zero globals, a table of function pointers.
FIRST = """
@primes = internal constant [6 x i32] [i32 2, i32 3, i32 5, i32 7, i32 11, i32 13]
@counter = internal global i64 40
@history = internal global [16 x i64] zeroinitializer
@operations = internal constant [3 x ptr] [ptr @prime, ptr @shape, ptr @second]
declare i32 @second(i32)

define i32 @prime(i32 %n) {
  %place = getelementptr [6 x i32], ptr @primes, i64 0, i32 %n
  %value = load i32, ptr %place
  ret i32 %value
}

define i32 @shape(i32 %n) noinline {
  switch i32 %n, label %other [
    i32 0, label %zero
    i32 1, label %one
    i32 2, label %two
    i32 3, label %three
    i32 4, label %four
    i32 5, label %five ]
zero:
  %a = call i32 @second(i32 100)
  ret i32 %a
one:
  %b = mul i32 %n, 71
  ret i32 %b
two:
  %c = call i32 @prime(i32 5)
  ret i32 %c
three:
  %d = call i32 @second(i32 %n)
  %e = mul i32 %d, %d
  ret i32 %e
four:
  %f = xor i32 %n, 85
  ret i32 %f
five:
  ret i32 -5
other:
  %g = sub i32 0, %n
  ret i32 %g
}

define i64 @count(i64 %step) {
  %old = load i64, ptr @counter
  %new = add i64 %old, %step
  store i64 %new, ptr @counter
  %slot = and i64 %new, 15
  %place = getelementptr [16 x i64], ptr @history, i64 0, i64 %slot
  %before = load i64, ptr %place
  store i64 %new, ptr %place
  ret i64 %before
}

define i32 @dispatch(i32 %which, i32 %n) {
  %place = getelementptr [3 x ptr], ptr @operations, i64 0, i32 %which
  %function = load ptr, ptr %place
  %value = call i32 %function(i32 %n)
  ret i32 %value
}

define ptr @second_address() {
  ret ptr @second
}
"""

# What the first object calls, and a global array that is read through its address from outside.
SECOND = """
@offsets = global [4 x i32] [i32 10, i32 20, i32 30, i32 40]

define i32 @second(i32 %n) {
  %place = getelementptr [4 x i32], ptr @offsets, i64 0, i64 2
  %offset = load i32, ptr %place
  %sum = add i32 %n, %offset
  ret i32 %sum
}
"""

# Uses the array of the second object, which may be in another library for all LLVM knows: hence a pointer in .got.
THIRD = """
@offsets = external global [4 x i32]

define i32 @offset(i64 %n) {
  %place = getelementptr [4 x i32], ptr @offsets, i64 0, i64 %n
  %value = load i32, ptr %place
  ret i32 %value
}
"""

FIRST_EXPORTS = ["prime", "shape", "count", "dispatch", "second_address", "second"]


def vector_constants(width: int) -> str:
    """A function whose constant of 64 bytes LLVM loads with the alignment of the whole vector."""
    numbers = ", ".join(f"float {n}.5" for n in range(width))
    return f"""
    @odd = internal constant [3 x i8] c"abc"
    @table = internal constant <{width} x float> <{numbers}>, align {4 * width}
    define void @add_table(ptr %x) {{
      %a = load <{width} x float>, ptr %x, align 4
      %t = load volatile <{width} x float>, ptr @table, align {4 * width}
      %b = fadd <{width} x float> %a, %t
      %c = fmul <{width} x float> %b, <{numbers}>
      store <{width} x float> %c, ptr %x, align 4
      ret void
    }}
    define ptr @table_address() {{
      ret ptr @table
    }}
    define i8 @letter(i64 %n) {{
      %place = getelementptr [3 x i8], ptr @odd, i64 0, i64 %n
      %value = load i8, ptr %place
      ret i8 %value
    }}
    """


def linked_sample(triple: str | None = HERE) -> bytes:
    objects = [compile_object(text, triple) for text in (FIRST, SECOND, THIRD)]
    return link_shared_object(objects, [*FIRST_EXPORTS, "offset", "offsets"], "libsample.so")


# ---- reading back what was written, independently of the linker ------------------------------------------------------


class View:
    """A shared object as the loader sees it: through its program headers and its dynamic table only."""

    def __init__(self, image: bytes) -> None:
        self.image = image
        self.wide = image[4] == 2
        rows = struct.iter_unpack("<IIQQQQQQ", image[64 : 64 + 56 * struct.unpack_from("<H", image, 56)[0]])
        if not self.wide:
            rows = struct.iter_unpack("<8I", image[52 : 52 + 32 * struct.unpack_from("<H", image, 44)[0]])
            rows = ((row[0], row[6], *row[1:6], row[7]) for row in rows)
        self.segments = list(rows)
        self.loads = [segment for segment in self.segments if segment[0] == elf.PT_LOAD]
        (self.dynamic_segment,) = (segment for segment in self.segments if segment[0] == elf.PT_DYNAMIC)
        table = self.read(self.dynamic_segment[3], self.dynamic_segment[6])
        self.dynamic = dict(struct.iter_unpack("<QQ" if self.wide else "<II", table))

    def read(self, address: int, size: int) -> bytes:
        for _, _, offset, start, _, file_size, memory_size, _ in self.loads:
            if start <= address and address + size <= start + memory_size:
                inside = self.image[offset + address - start : offset + min(address - start + size, file_size)]
                return inside + bytes(size - len(inside))
        raise AssertionError(f"{address:#x} is not loaded")

    def word(self, address: int) -> int:
        return int(struct.unpack("<I", self.read(address, 4))[0])

    def text(self, offset: int) -> str:
        table = self.read(self.dynamic[elf.DT_STRTAB], self.dynamic[elf.DT_STRSZ])
        return table[offset : table.index(b"\0", offset)].decode()

    def symbols(self) -> dict[str, tuple[int, int]]:
        """Name -> (address, size); the hash table says how many there are."""
        count = self.word(self.dynamic[elf.DT_HASH] + 4)
        bytes_each, form = (24, "<IBBHQQ") if self.wide else (16, "<IIIBBH")
        rows = struct.iter_unpack(form, self.read(self.dynamic[elf.DT_SYMTAB] + bytes_each, bytes_each * (count - 1)))
        rows = rows if self.wide else ((row[0], *row[3:], *row[1:3]) for row in rows)
        return {self.text(name): (value, size) for name, _, _, section, value, size in rows if section}

    def pointers(self) -> dict[int, int]:
        """Place -> what the loader adds the load address to: said beside the place, or of 32 bits found there."""
        if self.wide:
            table = self.read(self.dynamic[elf.DT_RELA], self.dynamic[elf.DT_RELASZ])
            return {place: value for place, _, value in struct.iter_unpack("<QQq", table)}
        table = self.read(self.dynamic[elf.DT_REL], self.dynamic[elf.DT_RELSZ])
        return {place: self.word(place) for place, kind in struct.iter_unpack("<II", table) if kind == 23}

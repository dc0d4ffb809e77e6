"""What an object file or shared object offers, what it asks of a linker and what it can write to.

ELF of 32 and 64 bits, COFF and Mach-O of 64 bits and WebAssembly are read, all little-endian.

Sources: System V Application Binary Interface, chapter 4; Microsoft's "PE Format"; Apple's <mach-o/loader.h> and
<mach-o/nlist.h>.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from graphc.ir.frozen import dataclass

ELF, MACH_O, COFF_X86_64, WASM = b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\x64\x86", b"\0asm"


@dataclass(frozen=True, slots=True)
class Symbols:
    """Names that others may use, names that others must define, bytes of data that are written while it runs."""

    defined: tuple[str, ...]
    undefined: tuple[str, ...]
    writable: int


def is_known(data: bytes) -> bool:
    return data.startswith((ELF, MACH_O, COFF_X86_64, WASM))


def read_symbols(data: bytes) -> Symbols:
    """Raises ValueError for a file of another kind."""
    if data.startswith(ELF):
        found, writable = list(_elf_symbols(data)), sum(_elf_writable(data))
    elif data.startswith(MACH_O):
        found, writable = list(_mach_symbols(data)), sum(_mach_writable(data))
    elif data.startswith(COFF_X86_64):
        found, writable = list(_coff_symbols(data)), sum(_coff_writable(data))
    elif data.startswith(WASM):
        found, writable = list(_wasm_symbols(data)), sum(_wasm_writable(data))
    else:
        raise ValueError("this is no object file in ELF, Mach-O, COFF or WebAssembly")
    defined, undefined = (tuple(sorted({name for name, is_own in found if is_own is own})) for own in (True, False))
    return Symbols(defined, undefined, writable)


def _text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()


# -- ELF

SHT_SYMTAB, SHT_DYNSYM = 2, 11
IN_USE = 1 | 2  # SHF_WRITE, SHF_ALLOC
FILLED_IN = (".data.rel.ro", ".dynamic", ".got")
IN_NO_SECTION, LOCAL = 0, 0


@dataclass(frozen=True, slots=True)
class _Section:
    name: int
    type: int
    flags: int
    offset: int
    size: int
    link: int


def _elf_sections(data: bytes) -> tuple[list[_Section], int]:
    """The sections, and the number of the one with their names."""
    wide = data[4] == 2
    place = struct.unpack_from("<Q" if wide else "<I", data, 40 if wide else 32)[0]
    size, count, names = struct.unpack_from("<HHH", data, 58 if wide else 46)
    form = "<IIQQQQI" if wide else "<IIIIIII"
    found = []
    for number in range(count):
        name, kind, flags, _, offset, length, link = struct.unpack_from(form, data, place + number * size)
        found.append(_Section(name, kind, flags, offset, length, link))
    return found, names


def _elf_symbols(data: bytes) -> Iterator[tuple[str, bool]]:
    """What a loader sees of a shared object, what a linker sees of an object."""
    sections, _ = _elf_sections(data)
    kinds = [section.type for section in sections]
    table = sections[kinds.index(SHT_DYNSYM if SHT_DYNSYM in kinds else SHT_SYMTAB)]
    form = struct.Struct("<IBBHQQ" if data[4] == 2 else "<IIIBBH")
    for row in form.iter_unpack(data[table.offset : table.offset + table.size]):
        name, info, index = (row[0], row[1], row[3]) if data[4] == 2 else (row[0], row[3], row[5])
        if name and (info >> 4 != LOCAL or index == IN_NO_SECTION):
            yield _text(data, sections[table.link].offset + name), index != IN_NO_SECTION


def _elf_writable(data: bytes) -> Iterator[int]:
    """What a loader alone fills in counts for nothing."""
    sections, names = _elf_sections(data)
    for section in sections:
        name = _text(data, sections[names].offset + section.name)
        if section.flags & IN_USE == IN_USE and not name.startswith(FILLED_IN):
            yield section.size


# -- Mach-O

LC_SYMTAB, LC_SEGMENT_64 = 0x2, 0x19
N_EXTERNAL, N_TYPE, N_UNDEFINED = 0x01, 0x0E, 0x00


def _mach_commands(data: bytes) -> Iterator[tuple[int, int]]:
    """(kind, place) of every load command."""
    count, place = struct.unpack_from("<I", data, 16)[0], 32
    for _ in range(count):
        kind, size = struct.unpack_from("<II", data, place)
        yield kind, place
        place += size


def _mach_symbols(data: bytes) -> Iterator[tuple[str, bool]]:
    """Without the underscore in front of names."""
    for kind, place in _mach_commands(data):
        if kind == LC_SYMTAB:
            table, count, names = struct.unpack_from("<III", data, place + 8)
            for name, about, _, _, _ in struct.iter_unpack("<IBBHQ", data[table : table + 16 * count]):
                if about & N_EXTERNAL:
                    yield _text(data, names + name).removeprefix("_"), about & N_TYPE != N_UNDEFINED


def _mach_writable(data: bytes) -> Iterator[int]:
    for kind, place in _mach_commands(data):
        count = struct.unpack_from("<I", data, place + 64)[0] if kind == LC_SEGMENT_64 else 0
        for number in range(count):
            section, segment, _, size = struct.unpack_from("<16s16sQQ", data, place + 72 + 80 * number)
            if segment.rstrip(b"\0") == b"__DATA" and section.rstrip(b"\0") != b"__const":
                yield size


# -- COFF

IMAGE_SYM_CLASS_EXTERNAL, IMAGE_SCN_MEM_WRITE = 2, 0x80000000


def _coff_symbols(data: bytes) -> Iterator[tuple[str, bool]]:
    place, count = struct.unpack_from("<II", data, 8)
    names = place + 18 * count
    number = 0
    while number < count:
        name, _, section, _, storage, more = struct.unpack_from("<8sIhHBB", data, place + 18 * number)
        if storage == IMAGE_SYM_CLASS_EXTERNAL:
            far = struct.unpack_from("<I", name, 4)[0] if name.startswith(b"\0\0\0\0") else None
            yield (name.rstrip(b"\0").decode() if far is None else _text(data, names + far)), section != IN_NO_SECTION
        number += 1 + more


def _coff_writable(data: bytes) -> Iterator[int]:
    count, skipped = struct.unpack_from("<H", data, 2)[0], struct.unpack_from("<H", data, 16)[0]
    for number in range(count):
        start = 20 + skipped + 40 * number
        flags = struct.unpack_from("<I", data, start + 36)[0]
        if flags & IMAGE_SCN_MEM_WRITE:
            yield struct.unpack_from("<I", data, start + 16)[0]


# -- WebAssembly, of which wasm.py reads objects and writes modules


def _wasm_symbols(data: bytes) -> Iterator[tuple[str, bool]]:
    """The functions that an object shows a linker, or a module its host."""
    from graphc.backends import wasm

    if wasm.is_module(data):
        yield from wasm.shown(data)
        return
    found = wasm.read_object(data)
    yield from ((name, False) for name in found.undefined())
    yield from ((symbol.name, True) for symbol in found.symbols if symbol.is_shown)


def _wasm_writable(data: bytes) -> Iterator[int]:
    """Of modules nothing: what is written to is not linked."""
    from graphc.backends import wasm

    if not wasm.is_module(data):
        yield from (len(each.contents) for each in wasm.read_object(data).segments if not each.is_constant)

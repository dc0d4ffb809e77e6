"""The ELF object format: its numbers and records, reading relocatable objects, what each machine's relocations mean.

Only little-endian ELF is spoken: of 64 bits for x86-64, aarch64 and riscv64, of 32 bits for armv7.

Sources: System V Application Binary Interface (gABI), chapters 4 and 5; its x86-64 supplement, section 4.4, ELF for the
Arm 64-bit Architecture (AAELF64), section 5.7, ELF for the Arm Architecture (AAELF32), sections 5.3 and 5.6, and RISC-V
ELF Specification, section 8.4, for relocation.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple

from graphc.ir.frozen import dataclass

ET_REL, ET_DYN, EV_CURRENT = 1, 3, 1
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_HASH, SHT_DYNAMIC, SHT_NOTE, SHT_NOBITS, SHT_REL = range(1, 10)
SHT_DYNSYM, SHT_INIT_ARRAY, SHT_FINI_ARRAY, SHT_PREINIT_ARRAY, SHT_CREL = 11, 14, 15, 16, 0x40000014
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_TLS = 0x1, 0x2, 0x4, 0x400
SHN_LORESERVE = 0xFF00
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_OBJECT, STT_FUNC, STT_GNU_IFUNC, STV_DEFAULT = 1, 2, 10, 0
PT_LOAD, PT_DYNAMIC, PT_GNU_STACK, PT_GNU_RELRO = 1, 2, 0x6474E551, 0x6474E552
PF_X, PF_W, PF_R = 1, 2, 4
DT_NULL, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_RELAENT = 0, 4, 5, 6, 7, 8, 9
DT_STRSZ, DT_SYMENT, DT_SONAME, DT_REL, DT_RELSZ, DT_RELENT = 10, 11, 14, 17, 18, 19
DT_RELACOUNT, DT_RELCOUNT = 0x6FFFFFF9, 0x6FFFFFFA
HASH_ENTRY = struct.Struct("<I")


# ---- its two sizes ---------------------------------------------------------------------------------------------------


class SymbolRow(NamedTuple):
    """One row of a symbol table."""

    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


@dataclass(frozen=True, slots=True)
class Form:
    """The records of ELF for addresses of one size.

    is_wide  of 64 bits; a relocation says what is added then, while of 32 bits the place that it is about holds that
    """

    magic: bytes
    file_header: struct.Struct
    program_header: struct.Struct
    section_header: struct.Struct
    symbol: struct.Struct
    relocation: struct.Struct
    dynamic_entry: struct.Struct
    pointer: struct.Struct
    is_wide: bool

    @property
    def relocation_type(self) -> int:
        return SHT_RELA if self.is_wide else SHT_REL

    @property
    def relocation_tags(self) -> tuple[int, int, int, int]:
        """Of the dynamic table: where the relocations are, their bytes, those of one, how many are relative."""
        if self.is_wide:
            return DT_RELA, DT_RELASZ, DT_RELAENT, DT_RELACOUNT
        return DT_REL, DT_RELSZ, DT_RELENT, DT_RELCOUNT

    def pack_program_header(self, type: int, access: int, place: Sequence[int], alignment: int) -> bytes:
        """`place`: offset in the file, two addresses, size in the file and in memory."""
        if self.is_wide:
            return self.program_header.pack(type, access, *place, alignment)
        return self.program_header.pack(type, *place, access, alignment)

    def pack_symbol(self, row: SymbolRow) -> bytes:
        if self.is_wide:
            return self.symbol.pack(*row)
        return self.symbol.pack(row.name, row.value, row.size, row.info, row.other, row.section)

    def symbols(self, table: bytes) -> Iterator[SymbolRow]:
        for row in self.symbol.iter_unpack(table):
            yield SymbolRow(*row) if self.is_wide else SymbolRow(row[0], *row[3:], *row[1:3])

    def pack_relative(self, kind: int, address: int, value: int) -> bytes:
        """A dynamic relocation against no symbol."""
        return self.relocation.pack(address, kind, value) if self.is_wide else self.relocation.pack(address, kind)

    def relocations(self, table: bytes) -> Iterator[tuple[int, int, int, int | None]]:
        """Offset, number of the symbol, type and addend of each."""
        for offset, info, *addend in self.relocation.iter_unpack(table):
            if self.is_wide:
                yield offset, info >> 32, info & 0xFFFFFFFF, addend[0]
            else:
                yield offset, info >> 8, info & 0xFF, None


def _form(size: int, *records: str) -> Form:
    """ELFCLASS32 or ELFCLASS64; ELFDATA2LSB, EV_CURRENT."""
    file, program, section, symbol, relocation, entry, pointer = map(struct.Struct, records)
    magic = bytes([*b"\x7fELF", size, 1, 1])
    return Form(magic, file, program, section, symbol, relocation, entry, pointer, is_wide=size == 2)


ELF32 = _form(1, "<16sHHIIIIIHHHHHH", "<8I", "<10I", "<IIIBBH", "<II", "<II", "<I")
ELF64 = _form(2, "<16sHHIQQQIHHHHHH", "<IIQQQQQQ", "<IIQQQQIIQQ", "<IBBHQQ", "<QQq", "<QQ", "<Q")


def form_of(data: bytes) -> Form | None:
    """That of a file that begins so, None for a file of another kind."""
    return next((form for form in (ELF32, ELF64) if data.startswith(form.magic)), None)


# ---- what the relocations of a machine mean --------------------------------------------------------------------------


class Via(Enum):
    """What stands for the symbol's address at a relocated place."""

    SYMBOL = auto()  # the address itself
    SLOT = auto()  # the address of a pointer in .got, which the loader fills
    LOADER = auto()  # nothing yet: the place is itself a pointer, which the loader fills
    PAIR = auto()  # the symbol is a place that is relocated too: the value is what that was short of


@dataclass(frozen=True, slots=True)
class Field:
    """The bits of a little-endian word of `size` bytes that hold a value, less its `dropped` low bits (all zero).

    `pieces` lists (width, position) of runs of bits, the least significant bits of the value first.
    """

    size: int
    pieces: tuple[tuple[int, int], ...]
    dropped: int = 0
    is_signed: bool = True

    def accepts(self, value: int) -> bool:
        width = sum(width for width, _ in self.pieces)
        lowest = -(1 << width - 1) if self.is_signed else 0
        return value & (1 << self.dropped) - 1 == 0 and lowest <= value >> self.dropped < lowest + (1 << width)

    def store(self, image: bytearray, offset: int, value: int) -> None:
        word = int.from_bytes(image[offset : offset + self.size], "little")
        value >>= self.dropped
        for width, position in self.pieces:
            mask = (1 << width) - 1
            word = word & ~(mask << position) | (value & mask) << position
            value >>= width
        image[offset : offset + self.size] = word.to_bytes(self.size, "little")

    def load(self, contents: bytes, offset: int) -> int:
        """What is stored there."""
        word = int.from_bytes(contents[offset : offset + self.size], "little")
        value = place = 0
        for width, position in self.pieces:
            value |= (word >> position & (1 << width) - 1) << place
            place += width
        if self.is_signed and value >> place - 1:
            value -= 1 << place
        return value << self.dropped


@dataclass(frozen=True, slots=True)
class RelocationKind:
    """`formula` gives the field's value from the target (what `via` says, plus the addend) and the place's address."""

    name: str
    formula: Callable[[int, int], int]
    field: Field
    via: Via = Via.SYMBOL


@dataclass(frozen=True, slots=True)
class Machine:
    """What differs between processors."""

    name: str
    number: int
    page: int  # bytes, the largest page size in use
    relative: int  # the dynamic relocation by which the loader stores load address + addend
    kinds: Mapping[int, RelocationKind]
    flags: int = 0  # of the file's header
    form: Form = ELF64


def _absolute(target: int, place: int) -> int:
    return target


def _from_place(target: int, place: int) -> int:
    return target - place


def _pages_from_place(target: int, place: int) -> int:
    return (target & ~0xFFF) - (place & ~0xFFF)


def _in_page(target: int, place: int) -> int:
    return target & 0xFFF


def _nearest_page(target: int, place: int) -> int:
    """What a signed number of twelve bits can be added to."""
    return (target - place + 0x800) & ~0xFFF


def _rest_of_page(target: int, place: int) -> int:
    return (target - place) & 0xFFF


def _page_and_rest(target: int, place: int) -> int:
    return _nearest_page(target, place) | _rest_of_page(target, place)


WORD, DOUBLE_WORD = Field(4, ((32, 0),)), Field(8, ((64, 0),))
BRANCH = Field(4, ((26, 0),), dropped=2)  # b, bl
NEAR_BRANCH = Field(4, ((24, 0),), dropped=2)  # b, bl of 32-bit Arm
PAGE_DISTANCE = Field(4, ((2, 29), (19, 5)), dropped=12)  # adrp
# The unsigned offset in add, and in loads and stores of 2**scale bytes, which count it in units of their own size.
OFFSET_IN_PAGE = tuple(Field(4, ((12 - scale, 10),), dropped=scale, is_signed=False) for scale in range(5))

X86_64 = Machine(
    "x86-64",
    number=62,  # EM_X86_64
    page=0x1000,
    relative=8,  # R_X86_64_RELATIVE
    kinds={
        1: RelocationKind("R_X86_64_64", _absolute, DOUBLE_WORD, Via.LOADER),
        2: RelocationKind("R_X86_64_PC32", _from_place, WORD),
        4: RelocationKind("R_X86_64_PLT32", _from_place, WORD),
        9: RelocationKind("R_X86_64_GOTPCREL", _from_place, WORD, Via.SLOT),
        24: RelocationKind("R_X86_64_PC64", _from_place, DOUBLE_WORD),
        41: RelocationKind("R_X86_64_GOTPCRELX", _from_place, WORD, Via.SLOT),
        42: RelocationKind("R_X86_64_REX_GOTPCRELX", _from_place, WORD, Via.SLOT),
    },
)
AARCH64 = Machine(
    "aarch64",
    number=183,  # EM_AARCH64
    page=0x10000,
    relative=1027,  # R_AARCH64_RELATIVE
    kinds={
        257: RelocationKind("R_AARCH64_ABS64", _absolute, DOUBLE_WORD, Via.LOADER),
        260: RelocationKind("R_AARCH64_PREL64", _from_place, DOUBLE_WORD),
        261: RelocationKind("R_AARCH64_PREL32", _from_place, WORD),
        275: RelocationKind("R_AARCH64_ADR_PREL_PG_HI21", _pages_from_place, PAGE_DISTANCE),
        277: RelocationKind("R_AARCH64_ADD_ABS_LO12_NC", _in_page, OFFSET_IN_PAGE[0]),
        278: RelocationKind("R_AARCH64_LDST8_ABS_LO12_NC", _in_page, OFFSET_IN_PAGE[0]),
        282: RelocationKind("R_AARCH64_JUMP26", _from_place, BRANCH),
        283: RelocationKind("R_AARCH64_CALL26", _from_place, BRANCH),
        284: RelocationKind("R_AARCH64_LDST16_ABS_LO12_NC", _in_page, OFFSET_IN_PAGE[1]),
        285: RelocationKind("R_AARCH64_LDST32_ABS_LO12_NC", _in_page, OFFSET_IN_PAGE[2]),
        286: RelocationKind("R_AARCH64_LDST64_ABS_LO12_NC", _in_page, OFFSET_IN_PAGE[3]),
        299: RelocationKind("R_AARCH64_LDST128_ABS_LO12_NC", _in_page, OFFSET_IN_PAGE[4]),
        311: RelocationKind("R_AARCH64_ADR_GOT_PAGE", _pages_from_place, PAGE_DISTANCE, Via.SLOT),
        312: RelocationKind("R_AARCH64_LD64_GOT_LO12_NC", _in_page, OFFSET_IN_PAGE[3], Via.SLOT),
    },
)
UPPER = Field(4, ((20, 12),), dropped=12)  # auipc
RISCV64 = Machine(
    "riscv64",
    number=243,  # EM_RISCV
    page=0x1000,
    relative=3,  # R_RISCV_RELATIVE
    kinds={
        2: RelocationKind("R_RISCV_64", _absolute, DOUBLE_WORD, Via.LOADER),
        19: RelocationKind("R_RISCV_CALL_PLT", _page_and_rest, Field(8, ((12, 52), (20, 12)))),  # auipc and jalr
        20: RelocationKind("R_RISCV_GOT_HI20", _nearest_page, UPPER, Via.SLOT),
        23: RelocationKind("R_RISCV_PCREL_HI20", _nearest_page, UPPER),
        24: RelocationKind("R_RISCV_PCREL_LO12_I", _rest_of_page, Field(4, ((12, 20),), 0, False), Via.PAIR),
        25: RelocationKind("R_RISCV_PCREL_LO12_S", _rest_of_page, Field(4, ((5, 7), (7, 25)), 0, False), Via.PAIR),
        57: RelocationKind("R_RISCV_32_PCREL", _from_place, WORD),
    },
    flags=5,  # EF_RISCV_RVC, EF_RISCV_FLOAT_ABI_DOUBLE
)
ARMV7 = Machine(
    "armv7",  # in its instructions of four bytes, not in Thumb
    number=40,  # EM_ARM
    page=0x10000,
    relative=23,  # R_ARM_RELATIVE
    kinds={
        2: RelocationKind("R_ARM_ABS32", _absolute, WORD, Via.LOADER),
        3: RelocationKind("R_ARM_REL32", _from_place, WORD),
        28: RelocationKind("R_ARM_CALL", _from_place, NEAR_BRANCH),
        29: RelocationKind("R_ARM_JUMP24", _from_place, NEAR_BRANCH),
        96: RelocationKind("R_ARM_GOT_PREL", _from_place, WORD, Via.SLOT),
    },
    flags=0x05000400,  # EF_ARM_EABI_VER5, EF_ARM_ABI_FLOAT_HARD
    form=ELF32,
)
MACHINES = {machine.number: machine for machine in (X86_64, AARCH64, RISCV64, ARMV7)}


# ---- reading relocatable objects -------------------------------------------------------------------------------------


class SectionHeader(NamedTuple):
    """One row of the section header table, in file order."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """A section of an object; `label` names both. A section of type SHT_NOBITS has a size, but no contents."""

    label: str
    name: str
    type: int
    flags: int
    alignment: int
    size: int
    contents: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Symbol:
    """A symbol of an object; `section` is None where it has none (undefined, common, absolute)."""

    name: str
    binding: int
    type: int
    section: Section | None
    value: int
    size: int

    def __str__(self) -> str:
        return self.name or (self.section.label if self.section else "nothing")


@dataclass(frozen=True, slots=True)
class Relocation:
    """A place, `offset` bytes into `section`, that depends on the address of `symbol`; `type` is a key of `kinds`."""

    section: Section
    offset: int
    type: int
    symbol: Symbol
    addend: int


@dataclass(frozen=True, slots=True)
class ObjectFile:
    label: str
    machine: Machine
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
    relocations: tuple[Relocation, ...]


def read_object(data: bytes, label: str) -> ObjectFile:
    """Read the relocatable object `data`, called `label` in messages. Raises ValueError when it is something else."""
    form = form_of(data)
    if form is None or len(data) < form.file_header.size:
        raise ValueError(f"{label} is not a little-endian ELF file")
    _, file_type, number, _, _, _, table, _, _, _, _, _, count, names_index = form.file_header.unpack_from(data)
    if file_type != ET_REL or number not in MACHINES or MACHINES[number].form is not form:
        known = " or ".join(f"{machine.number} ({machine.name})" for machine in MACHINES.values())
        raise ValueError(
            f"{label} is an ELF file of type {file_type} for machine {number}, "
            f"not of type {ET_REL} (relocatable) for machine {known}"
        )
    try:
        headers = [
            SectionHeader._make(form.section_header.unpack_from(data, table + index * form.section_header.size))
            for index in range(count)
        ]
        return _read_sections(data, headers, names_index, MACHINES[number], label)
    except (struct.error, IndexError, ValueError) as error:
        raise ValueError(f"{label} cannot be read: {error}") from error


def _read_sections(
    data: bytes, headers: Sequence[SectionHeader], names_index: int, machine: Machine, label: str
) -> ObjectFile:
    form = machine.form
    if not {SHT_REL, SHT_RELA, SHT_CREL}.difference([form.relocation_type]).isdisjoint(each.type for each in headers):
        raise ValueError(f"its relocations are not of type {'SHT_RELA' if form.is_wide else 'SHT_REL'}")
    contents = [_contents(data, header) for header in headers]
    names = [_text_at(contents[names_index], header.name) for header in headers]
    sections = [
        Section(f"{label} {name}", name, header.type, header.flags, max(1, header.alignment), header.size, content)
        for name, header, content in zip(names, headers, contents)
    ]
    symbols = [
        symbol
        for header, content in zip(headers, contents)
        if header.type == SHT_SYMTAB
        for symbol in _read_symbols(form.symbols(content), contents[header.link], sections)
    ]
    relocations = [
        Relocation(section, offset, type, symbols[symbol], _addend(section, offset, machine.kinds.get(type), addend))
        for header, content in zip(headers, contents)
        if header.type == form.relocation_type
        for section in [sections[header.info]]
        for offset, symbol, type, addend in form.relocations(content)
    ]
    return ObjectFile(label, machine, tuple(sections), tuple(symbols), tuple(relocations))


def _addend(section: Section, offset: int, kind: RelocationKind | None, told: int | None) -> int:
    if told is not None:
        return told
    return kind.field.load(section.contents, offset) if kind is not None else 0


def _contents(data: bytes, header: SectionHeader) -> bytes:
    if header.type == SHT_NOBITS:
        return b""
    if header.offset + header.size > len(data):
        raise ValueError(f"it has {len(data)} bytes, a section of it ends at {header.offset + header.size}")
    return data[header.offset : header.offset + header.size]


def _read_symbols(rows: Iterable[SymbolRow], names: bytes, sections: Sequence[Section]) -> Iterator[Symbol]:
    for name, info, _, index, value, size in rows:
        section = sections[index] if 0 < index < SHN_LORESERVE else None
        if section and value > section.size:
            raise ValueError(f"a symbol lies at {value:#x} in {section.label}, which has {section.size:#x} bytes")
        yield Symbol(_text_at(names, name), info >> 4, info & 0xF, section, value, size)


def _text_at(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode()

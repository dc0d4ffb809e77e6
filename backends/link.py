"""Linking ELF objects into a shared object, with no compiler or linker at hand.

`link_shared_object` takes the position-independent objects that LLVM emits for x86-64, aarch64, riscv64 or armv7 and
returns the bytes of a shared object that a dynamic loader, a static linker and the usual tools accept. It is a linker
for closed code: every symbol must be defined by the objects themselves, so the result needs no other library, and the
loader has nothing to do but add the load address to a few pointers.

    segment      sections                                      in memory
    read only    .hash .dynsym .dynstr .rel(a).dyn .rodata     r--
    code         .text                                         r-x
    sealed       .dynamic .got .data.rel.ro                    rw-, and r-- once the loader has filled its pointers
    data         .data .bss                                    rw-

Unwind tables, comments, notes and debug information are left out. The same input gives the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from graphc.backends import elf
from graphc.backends.elf import Form, Machine, ObjectFile, Relocation, RelocationKind, Section, Symbol, Via
from graphc.ir.frozen import dataclass

UNWIND_SECTIONS = (".eh_frame", ".gcc_except_table", ".ARM.exidx", ".ARM.extab")
STARTUP_SECTIONS = (".ctors", ".dtors")  # what LLVM emits for functions to run at load, unless told otherwise
STARTUP_TYPES = (elf.SHT_INIT_ARRAY, elf.SHT_FINI_ARRAY, elf.SHT_PREINIT_ARRAY)
MOST_SEGMENTS = 7  # four that are loaded, PT_DYNAMIC, PT_GNU_RELRO, PT_GNU_STACK
DYNAMIC_ENTRIES = 11


class LinkError(Exception):
    """The objects cannot become a shared object that stands alone; the message names what is in the way."""


def link_shared_object(objects: Sequence[bytes], exports: Sequence[str], soname: str, names_all: bool = True) -> bytes:
    """Link `objects` into a shared object that exports exactly the symbols `exports` and is called `soname`.

    names_all  it also names what it does not export: for debuggers, profilers and disassemblers

    Raises LinkError when a symbol is undefined or defined twice, an export is missing, a relocation is unknown, or the
    objects hold what a closed library has no place for, such as thread-local data or functions to run at load.
    """
    files = [_read(data, f"objects[{index}]") for index, data in enumerate(objects)]
    machine = _common_machine(files)
    destinations = _destinations(files)
    definitions = _define_globals(files, destinations)
    exported = _exported(definitions, exports)
    patches = _resolve(files, machine, destinations, definitions)
    slot_symbols = list(dict.fromkeys(patch.symbol for patch in patches if patch.kind.via is Via.SLOT))
    pointer_count = len(slot_symbols) + sum(patch.kind.via is Via.LOADER for patch in patches)
    strings = StringTable.of([soname, *(symbol.name for symbol in exported)])

    regions = _regions(destinations, exported, strings, len(slot_symbols), pointer_count, machine.form)
    layout = _lay_out(regions, machine)
    image = bytearray(layout.file_size)
    for section, place in layout.inputs.items():
        _write(image, place, section.contents)
    pointers = _apply(patches, slot_symbols, layout, image, machine.form)
    _write(image, layout.places[".hash"], _hash_table(exported))
    _write(image, layout.places[".dynsym"], _symbol_table([], exported, strings, layout, machine.form))
    _write(image, layout.places[".dynstr"], strings.contents)
    _write(image, layout.places[_pointer_section(machine.form)], _pointer_table(pointers, machine))
    _write(image, layout.places[".dynamic"], _dynamic_table(layout, strings, soname, pointer_count, machine.form))
    internal = _internal_symbols(files, destinations, exported) if names_all else []
    return _with_headers(image, layout, machine, internal, exported)


# ---- reading and resolving -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Patch:
    """A relocation in a kept section, against a symbol that has an address."""

    kind: RelocationKind
    section: Section
    offset: int
    symbol: Symbol
    addend: int

    def __str__(self) -> str:
        return f"{self.kind.name} at {self.section.label}+{self.offset:#x} against {self.symbol}"


def _read(data: bytes, label: str) -> ObjectFile:
    try:
        return elf.read_object(data, label)
    except ValueError as error:
        raise LinkError(str(error)) from error


def _common_machine(files: Sequence[ObjectFile]) -> Machine:
    if not files:
        raise LinkError("no objects to link: pass at least one")
    for file in files:
        if file.machine is not files[0].machine:
            raise LinkError(
                f"{files[0].label} is for {files[0].machine.name}, {file.label} for {file.machine.name}: "
                "compile all objects for one machine"
            )
    return files[0].machine


def _destinations(files: Sequence[ObjectFile]) -> dict[Section, str]:
    """Section -> the output section that takes it in, for the sections that are kept."""
    sections = [section for file in files for section in file.sections]
    return {section: name for section in sections if (name := _destination(section))}


def _destination(section: Section) -> str | None:
    """The output section for `section`, None if a shared object does without it."""
    label, flags = section.label, section.flags
    if not flags & elf.SHF_ALLOC or section.type == elf.SHT_NOTE or section.name.startswith(UNWIND_SECTIONS):
        return None
    if flags & elf.SHF_TLS:
        raise LinkError(f"{label} holds thread-local data: pass memory of the thread as an argument instead")
    if section.type in STARTUP_TYPES or section.name.startswith(STARTUP_SECTIONS):
        raise LinkError(f"{label} lists functions to run at load or unload: export them and call them instead")
    if flags & elf.SHF_EXECINSTR and flags & elf.SHF_WRITE:
        raise LinkError(f"{label} is both writable and executable: give code and data sections of their own")
    if flags & elf.SHF_EXECINSTR:
        return ".text"
    if not flags & elf.SHF_WRITE:
        return ".rodata"
    if section.type == elf.SHT_NOBITS:
        return ".bss"
    return ".data.rel.ro" if section.name.startswith(".data.rel.ro") else ".data"


def _define_globals(files: Sequence[ObjectFile], destinations: Mapping[Section, str]) -> dict[str, Symbol]:
    """Name -> definition: the strong one if there is one, else the first weak one."""
    definitions: dict[str, Symbol] = {}
    for symbol in (symbol for file in files for symbol in file.symbols):
        if symbol.binding == elf.STB_LOCAL or symbol.section not in destinations:
            continue
        if symbol.type == elf.STT_GNU_IFUNC:
            raise LinkError(f"{symbol} is chosen by the loader (ifunc), which is not supported: choose it in code")
        earlier = definitions.setdefault(symbol.name, symbol)
        if earlier is symbol or symbol.binding == elf.STB_WEAK:
            continue
        if earlier.binding != elf.STB_WEAK:
            labels = " and ".join(definition.section.label for definition in (earlier, symbol) if definition.section)
            raise LinkError(f"{symbol} is defined twice, in {labels}: rename one or make it internal")
        definitions[symbol.name] = symbol
    return definitions


def _exported(definitions: Mapping[str, Symbol], exports: Sequence[str]) -> list[Symbol]:
    if missing := sorted(set(exports) - set(definitions)):
        raise LinkError(f"cannot export {', '.join(missing)}: defined are {', '.join(sorted(definitions)) or 'none'}")
    return [definitions[name] for name in sorted(set(exports))]


def _resolve(
    files: Sequence[ObjectFile],
    machine: Machine,
    destinations: Mapping[Section, str],
    definitions: Mapping[str, Symbol],
) -> list[Patch]:
    """The relocations of kept sections. Raises LinkError with the names of all symbols that have no definition."""
    patches: list[Patch] = []
    undefined: dict[str, str] = {}
    for relocation in (relocation for file in files for relocation in file.relocations):
        if relocation.section not in destinations:
            continue
        symbol = relocation.symbol
        target = symbol if symbol.binding == elf.STB_LOCAL else definitions.get(symbol.name)
        if target is None or target.section not in destinations:
            undefined.setdefault(str(symbol), relocation.section.label)
            continue
        patches.append(_patch(relocation, target, machine, destinations[relocation.section]))
    if undefined:
        uses = ", ".join(f"{name} (used in {label})" for name, label in sorted(undefined.items()))
        raise LinkError(f"undefined symbols: {uses}; a shared object stands alone: add objects that define them")
    return patches


def _patch(relocation: Relocation, target: Symbol, machine: Machine, destination: str) -> Patch:
    section, offset = relocation.section, relocation.offset
    kind = machine.kinds.get(relocation.type)
    if kind is None:
        raise LinkError(
            f"{section.label}+{offset:#x} has {machine.name} relocation type {relocation.type} against {target}, which "
            "is not supported: compile with relocation model pic and the small code model"
        )
    patch = Patch(kind, section, offset, target, relocation.addend)
    if offset + kind.field.size > len(section.contents):
        raise LinkError(f"{patch} lies outside of its section, which has {len(section.contents):#x} bytes")
    if kind.via is Via.LOADER and destination in (".text", ".rodata"):
        raise LinkError(f"{patch} is an absolute address in read-only memory: compile with relocation model pic")
    if kind.via is Via.SLOT and machine is elf.AARCH64 and patch.addend:
        raise LinkError(f"{patch} has addend {patch.addend}, which is not supported with .got: only 0 is")
    return patch


def _internal_symbols(
    files: Sequence[ObjectFile], destinations: Mapping[Section, str], exported: Sequence[Symbol]
) -> list[Symbol]:
    """The named functions and data that are not exported."""
    hidden = set(exported)
    symbols = [symbol for file in files for symbol in file.symbols if symbol.section in destinations]
    return [symbol for symbol in symbols if symbol.type in (elf.STT_FUNC, elf.STT_OBJECT) and symbol not in hidden]


# ---- laying out the file ---------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where something lies: offset in the file, address in memory relative to the load address."""

    offset: int
    address: int

    def plus(self, distance: int) -> Place:
        return Place(self.offset + distance, self.address + distance)


@dataclass(frozen=True, slots=True)
class OutputSection:
    """A section of the shared object: a table made here, or `inputs` (distance from its start, section)."""

    name: str
    type: int
    flags: int
    size: int
    alignment: int = 8
    link: str = ""
    info: int = 0
    entry_size: int = 0
    inputs: tuple[tuple[int, Section], ...] = ()


@dataclass(frozen=True, slots=True)
class Region:
    """Output sections that share a segment, and so their access rights; sealed when read-only once loaded."""

    access: int
    sections: tuple[OutputSection, ...]
    is_sealed: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """One row of the program header table."""

    type: int
    access: int
    start: Place
    file_size: int
    memory_size: int
    alignment: int

    def pack(self, form: Form) -> bytes:
        offset, address = self.start
        place = offset, address, address, self.file_size, self.memory_size
        return form.pack_program_header(self.type, self.access, place, self.alignment)


@dataclass(frozen=True, slots=True)
class Layout:
    """The output sections in file order, where they lie (by name), where the sections in them lie, and the segments."""

    sections: tuple[OutputSection, ...]
    places: Mapping[str, Place]
    inputs: Mapping[Section, Place]
    segments: tuple[Segment, ...]
    file_size: int

    def address(self, symbol: Symbol) -> int:
        assert symbol.section is not None
        return self.inputs[symbol.section].address + symbol.value


def _aligned(number: int, alignment: int) -> int:
    return -(-number // alignment) * alignment


def _regions(
    destinations: Mapping[Section, str],
    exported: Sequence[Symbol],
    strings: StringTable,
    slot_count: int,
    pointer_count: int,
    form: Form,
) -> tuple[Region, ...]:
    """All that is loaded, in memory order."""
    word = form.pointer.size
    read, write, execute = elf.SHF_ALLOC, elf.SHF_ALLOC | elf.SHF_WRITE, elf.SHF_ALLOC | elf.SHF_EXECINSTR

    def table(name: str, type: int, entry: struct.Struct, count: int, link: str, flags: int = read) -> OutputSection:
        first_global = 1 if type == elf.SHT_DYNSYM else 0
        return OutputSection(name, type, flags, entry.size * count, word, link, first_global, entry.size)

    def gather(name: str, flags: int, type: int = elf.SHT_PROGBITS) -> OutputSection:
        members = [section for section, destination in destinations.items() if destination == name]
        return _concatenation(name, type, flags, members)

    tables = (
        table(".hash", elf.SHT_HASH, elf.HASH_ENTRY, len(_hash_table(exported)) // elf.HASH_ENTRY.size, ".dynsym"),
        table(".dynsym", elf.SHT_DYNSYM, form.symbol, 1 + len(exported), ".dynstr"),
        OutputSection(".dynstr", elf.SHT_STRTAB, read, len(strings.contents), alignment=1),
        table(_pointer_section(form), form.relocation_type, form.relocation, pointer_count, ".dynsym"),
    )
    pointers = (
        table(".dynamic", elf.SHT_DYNAMIC, form.dynamic_entry, DYNAMIC_ENTRIES, ".dynstr", write),
        table(".got", elf.SHT_PROGBITS, form.pointer, slot_count, "", write),
    )
    return (
        Region(elf.PF_R, (*tables, gather(".rodata", read))),
        Region(elf.PF_R | elf.PF_X, (gather(".text", execute),)),
        Region(elf.PF_R | elf.PF_W, (*pointers, gather(".data.rel.ro", write)), is_sealed=True),
        Region(elf.PF_R | elf.PF_W, (gather(".data", write), gather(".bss", write, elf.SHT_NOBITS))),
    )


def _pointer_section(form: Form) -> str:
    return ".rela.dyn" if form.is_wide else ".rel.dyn"


def _concatenation(name: str, type: int, flags: int, members: Iterable[Section]) -> OutputSection:
    """One output section of `members`, each at its own alignment."""
    inputs: list[tuple[int, Section]] = []
    size, alignment = 0, 1
    for section in members:
        distance = _aligned(size, section.alignment)
        inputs.append((distance, section))
        size, alignment = distance + section.size, max(alignment, section.alignment)
    return OutputSection(name, type, flags, size, alignment, inputs=tuple(inputs))


def _lay_out(regions: Sequence[Region], machine: Machine) -> Layout:
    """Place the regions one after the other: without gaps in the file, on pages of their own in memory.

    A loader maps whole pages, so the address of a segment and its offset in the file are equal modulo the page size.
    """
    form, page = machine.form, machine.page
    places: dict[str, Place] = {}
    inputs: dict[Section, Place] = {}
    loaded: list[Segment] = []
    sealed: list[Segment] = []
    start = Place(0, 0)
    here = start.plus(form.file_header.size + MOST_SEGMENTS * form.program_header.size)
    for region in regions:
        for section in region.sections:
            if section.alignment > page:
                raise LinkError(f"{section.name} is to be aligned to {section.alignment} bytes, a page has only {page}")
            here = here.plus(-here.address % section.alignment)
            places[section.name] = here
            inputs |= {member: here.plus(distance) for distance, member in section.inputs}
            here = Place(here.offset + _file_size(section), here.address + section.size)
        end = _aligned(here.address, page) if region.is_sealed else here.address
        segment = Segment(elf.PT_LOAD, region.access, start, here.offset - start.offset, end - start.address, page)
        loaded += [segment] if any(section.size for section in region.sections) else []
        sealed += [replace(segment, type=elf.PT_GNU_RELRO, access=elf.PF_R)] if region.is_sealed else []
        start = here = Place(here.offset, _aligned(end, page) + here.offset % page)
    sections = tuple(section for region in regions for section in region.sections if section.size or section.inputs)
    size, word = DYNAMIC_ENTRIES * form.dynamic_entry.size, form.pointer.size
    dynamic = Segment(elf.PT_DYNAMIC, elf.PF_R | elf.PF_W, places[".dynamic"], size, size, word)
    stack = Segment(elf.PT_GNU_STACK, elf.PF_R | elf.PF_W, Place(0, 0), 0, 0, 16)
    return Layout(sections, places, inputs, (*loaded, dynamic, *sealed, stack), here.offset)


def _file_size(section: OutputSection) -> int:
    return 0 if section.type == elf.SHT_NOBITS else section.size


# ---- filling it in ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StringTable:
    """Texts ended by zero bytes, and the offset of each."""

    contents: bytes
    offsets: Mapping[str, int]

    @classmethod
    def of(cls, texts: Iterable[str]) -> StringTable:
        contents, offsets = bytearray(1), {"": 0}
        for text in texts:
            if text not in offsets:
                offsets[text] = len(contents)
                contents += text.encode() + b"\0"
        return cls(bytes(contents), offsets)


def _write(image: bytearray, place: Place, contents: bytes) -> None:
    image[place.offset : place.offset + len(contents)] = contents


def _apply(
    patches: Sequence[Patch], slot_symbols: Sequence[Symbol], layout: Layout, image: bytearray, form: Form
) -> list[tuple[int, int]]:
    """Store in `image` what is known now; return the pointers that the loader fills: (their address, their value)."""
    got = layout.places[".got"]
    slots = {symbol: got.plus(index * form.pointer.size) for index, symbol in enumerate(slot_symbols)}
    pointers = [(slot, layout.address(symbol)) for symbol, slot in slots.items()]
    known = {(patch.section, patch.offset): patch for patch in patches}
    for patch in patches:
        place = layout.inputs[patch.section].plus(patch.offset)
        kind, meant = patch.kind, _meant(patch, known)
        target = slots[meant.symbol].address if meant.kind.via is Via.SLOT else layout.address(meant.symbol)
        target += meant.addend
        value = kind.formula(target, layout.inputs[meant.section].plus(meant.offset).address)
        if not kind.field.accepts(value):
            raise LinkError(f"{patch}: the value {value:#x} is too large for its field or not a multiple of its unit")
        if kind.via is Via.LOADER:
            pointers.append((place, value))
        else:
            kind.field.store(image, place.offset, value)
    for place, value in pointers if not form.is_wide else ():
        _write(image, place, form.pointer.pack(value))
    return sorted((place.address, value) for place, value in pointers)


def _meant(patch: Patch, known: Mapping[tuple[Section, int], Patch]) -> Patch:
    """The relocation that says what a place depends on: its own, or for the second of a pair the first."""
    if patch.kind.via is not Via.PAIR:
        return patch
    assert patch.symbol.section is not None
    first = known.get((patch.symbol.section, patch.symbol.value))
    if first is None or first.kind.via is Via.PAIR or patch.addend:
        raise LinkError(f"{patch} belongs to no relocation there")
    return first


def _pointer_table(pointers: Iterable[tuple[int, int]], machine: Machine) -> bytes:
    return b"".join(machine.form.pack_relative(machine.relative, address, value) for address, value in pointers)


def _hash_table(exported: Sequence[Symbol]) -> bytes:
    """The gABI hash table: counts, the first symbol of each bucket, each symbol's successor in its bucket."""
    bucket_count = max(1, len(exported))
    buckets, chains = [0] * bucket_count, [0] * (1 + len(exported))
    for index, symbol in enumerate(exported, start=1):
        bucket = _hash(symbol.name) % bucket_count
        chains[index], buckets[bucket] = buckets[bucket], index
    return b"".join(elf.HASH_ENTRY.pack(entry) for entry in (len(buckets), len(chains), *buckets, *chains))


def _hash(name: str) -> int:
    """gABI chapter 5, "Hash Table"."""
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        top = value & 0xF0000000
        value = (value ^ top >> 24) & 0x0FFFFFFF
    return value


def _symbol_table(
    internal: Sequence[Symbol], exported: Sequence[Symbol], strings: StringTable, layout: Layout, form: Form
) -> bytes:
    numbers = {
        member: number for number, section in enumerate(layout.sections, start=1) for _, member in section.inputs
    }
    entries = [bytes(form.symbol.size)]
    for binding, symbol in (
        *((elf.STB_LOCAL, symbol) for symbol in internal),
        *((elf.STB_GLOBAL, symbol) for symbol in exported),
    ):
        assert symbol.section is not None
        name, info, number = strings.offsets[symbol.name], binding << 4 | symbol.type, numbers[symbol.section]
        place = number, layout.address(symbol), symbol.size
        entries.append(form.pack_symbol(elf.SymbolRow(name, info, elf.STV_DEFAULT, *place)))
    return b"".join(entries)


def _dynamic_table(layout: Layout, strings: StringTable, soname: str, pointer_count: int, form: Form) -> bytes:
    table, size, entry, count = form.relocation_tags
    entries = (
        (elf.DT_SONAME, strings.offsets[soname]),
        (elf.DT_HASH, layout.places[".hash"].address),
        (elf.DT_STRTAB, layout.places[".dynstr"].address),
        (elf.DT_STRSZ, len(strings.contents)),
        (elf.DT_SYMTAB, layout.places[".dynsym"].address),
        (elf.DT_SYMENT, form.symbol.size),
        (table, layout.places[_pointer_section(form)].address),
        (size, form.relocation.size * pointer_count),
        (entry, form.relocation.size),
        (count, pointer_count),
        (elf.DT_NULL, 0),
    )
    return b"".join(form.dynamic_entry.pack(*each) for each in entries)


def _with_headers(
    image: bytearray, layout: Layout, machine: Machine, internal: Sequence[Symbol], exported: Sequence[Symbol]
) -> bytes:
    """`image` with its headers, followed by what is not loaded: the full symbol table, names, the section headers."""
    form = machine.form
    names = [".symtab", ".strtab", *(section.name for section in layout.sections)]
    strings = StringTable.of([*names, *(symbol.name for symbol in (*internal, *exported))])
    symbols = _symbol_table(internal, exported, strings, layout, form)
    numbers_of = form.pointer.size, ".strtab", 1 + len(internal), form.symbol.size
    symtab = OutputSection(".symtab", elf.SHT_SYMTAB, 0, len(symbols), *numbers_of)
    strtab = OutputSection(".strtab", elf.SHT_STRTAB, 0, len(strings.contents), alignment=1)
    sections = (*layout.sections, symtab, strtab)
    numbers = {"": 0} | {section.name: number for number, section in enumerate(sections, start=1)}

    image += bytes(-len(image) % symtab.alignment)
    symtab_offset, strtab_offset = len(image), len(image) + len(symbols)
    places = {**layout.places, ".symtab": Place(symtab_offset, 0), ".strtab": Place(strtab_offset, 0)}
    image += symbols + strings.contents
    image += bytes(-len(image) % 8)
    headers_offset = len(image)
    image += bytes(form.section_header.size)
    for section in sections:
        name, link, place = strings.offsets[section.name], numbers[section.link], places[section.name]
        image += form.section_header.pack(
            *(name, section.type, section.flags, place.address, place.offset, section.size),
            *(link, section.info, section.alignment, section.entry_size),
        )
    file_header = form.file_header.pack(
        *(form.magic, elf.ET_DYN, machine.number, elf.EV_CURRENT),
        *(0, form.file_header.size, headers_offset, machine.flags),  # no entry point
        *(form.file_header.size, form.program_header.size, len(layout.segments)),
        *(form.section_header.size, 1 + len(sections), numbers[".strtab"]),
    )
    _write(image, Place(0, 0), file_header + b"".join(segment.pack(form) for segment in layout.segments))
    return bytes(image)

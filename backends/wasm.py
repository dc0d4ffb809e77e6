"""Linking a WebAssembly object into a module that stands alone, with no compiler or linker at hand.

`link_module` takes the relocatable object that LLVM emits for wasm32 and returns the bytes of a module that imports
nothing: the memory, the stack pointer and the table of functions, which an object imports, are its own. It exports the
functions that are named, `memory` and the global `__heap_base`.

    from 0            nothing
    from SPARE_LINE   room for one line of at most 128 bytes, see masks.py
    behind that       the stack, which grows down: one that is far too deep traps
    from STACK_TOP    constants
    from __heap_base  the host's

Only constants go in, so that instances share nothing and calls leave nothing behind but in the host's memory. Padded
numbers of relocated places become as short as they are. The same input gives the same bytes.

Sources: WebAssembly core specification, section 5 (binary format); WebAssembly/tool-conventions, Linking.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from graphc.backends.link import LinkError
from graphc.ir.frozen import dataclass

MAGIC = b"\0asm\1\0\0\0"
SPARE_LINE, STACK_TOP = 128, 64 * 1024
PAGE = 64 * 1024
HEAP_ALIGNMENT = 64
CUSTOM, TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, CODE, DATA = range(12)
AS_FUNCTION, AS_TABLE, AS_MEMORY, AS_GLOBAL, AS_TAG = range(5)  # kinds of imports and exports
OF_FUNCTION, OF_DATA, OF_GLOBAL, OF_SECTION, OF_TAG, OF_TABLE = range(6)  # kinds of symbols
LOCAL, UNDEFINED, EXPLICIT_NAME = 0x2, 0x10, 0x40  # flags of symbols
SEGMENT_INFO, INIT_FUNCTIONS, COMDAT, SYMBOL_TABLE = 5, 6, 7, 8  # parts of the section "linking"
LINKING_VERSION = 2
I32, FUNCREF, CONSTANT, VARIABLE = 0x7F, 0x70, 0, 1
I32_CONST, END = b"\x41", b"\x0b"
STACK_POINTER, TABLE_NAME, HEAP_BASE = "__stack_pointer", "__indirect_function_table", "__heap_base"
CONSTANTS = (".rodata", ".data.rel.ro")  # beginnings of the names of segments that nothing writes to


def unsigned(number: int) -> bytes:
    """LEB128."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def signed(number: int) -> bytes:
    """LEB128, for numbers from -2**31 on; from 2**31 on they are addresses, which have the same 32 bits less 2**32."""
    number -= 2**32 if number >= 2**31 else 0
    found = bytearray()
    while not -0x40 <= number < 0x40:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number & 0x7F)
    return bytes(found)


def word(number: int) -> bytes:
    return number.to_bytes(4, "little")


PADDED, WORD = 5, 4  # bytes of a relocated place in an object

# What a relocation puts: (its name, what it asks of the layout, how the number is written, bytes in the object).
RELOCATIONS: dict[int, tuple[str, str, Callable[[int], bytes], int]] = {
    0: ("R_WASM_FUNCTION_INDEX_LEB", "index", unsigned, PADDED),
    1: ("R_WASM_TABLE_INDEX_SLEB", "slot", signed, PADDED),
    2: ("R_WASM_TABLE_INDEX_I32", "slot", word, WORD),
    3: ("R_WASM_MEMORY_ADDR_LEB", "address", unsigned, PADDED),
    4: ("R_WASM_MEMORY_ADDR_SLEB", "address", signed, PADDED),
    5: ("R_WASM_MEMORY_ADDR_I32", "address", word, WORD),
    6: ("R_WASM_TYPE_INDEX_LEB", "type", unsigned, PADDED),
    7: ("R_WASM_GLOBAL_INDEX_LEB", "index", unsigned, PADDED),
    20: ("R_WASM_TABLE_NUMBER_LEB", "index", unsigned, PADDED),
}
WITH_ADDEND = {3, 4, 5, 8, 9, 11, 14, 15, 16, 17, 21, 22, 23, 25}


# ---- reading objects -------------------------------------------------------------------------------------------------


class Reader:
    """Bytes that are read one thing after the other. Raises ValueError at their end."""

    def __init__(self, data: bytes, place: int = 0) -> None:
        self.data = data
        self.place = place

    def __bool__(self) -> bool:
        return self.place < len(self.data)

    def take(self, count: int) -> bytes:
        found = self.data[self.place : self.place + count]
        if len(found) != count:
            raise ValueError(f"{count} bytes are missing at byte {self.place} of {len(self.data)}")
        self.place += count
        return found

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        found, shift = 0, 0
        while True:
            byte = self.byte()
            found |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return found

    def signed(self) -> int:
        start = self.place
        found = self.number()
        bits = 7 * (self.place - start)
        return found - (1 << bits) if found >> bits - 1 else found

    def text(self) -> str:
        return self.take(self.number()).decode()

    def part(self) -> Reader:
        return Reader(self.take(self.number()))


@dataclass(frozen=True, slots=True)
class Segment:
    """Data; `start` is where they lie in the data section of the object."""

    name: str
    alignment: int
    contents: bytes
    start: int

    @property
    def is_constant(self) -> bool:
        return self.name.startswith(CONSTANTS)


@dataclass(frozen=True, slots=True)
class Symbol:
    """`index` is that of a function, global or table, or of the segment in which data lie from `offset` on."""

    kind: int
    name: str
    index: int
    offset: int
    is_defined: bool
    is_local: bool

    @property
    def is_shown(self) -> bool:
        """A linker may have others call it."""
        return self.is_defined and not self.is_local and self.kind != OF_SECTION


@dataclass(frozen=True, slots=True)
class Relocation:
    """`index` is that of a symbol, or of a type."""

    type: int
    place: int
    index: int
    addend: int


@dataclass(frozen=True, slots=True)
class Body:
    """A function's code; `start` is where it lies in the code section of the object."""

    contents: bytes
    start: int


@dataclass(frozen=True, slots=True)
class Import:
    kind: int
    name: str


@dataclass(frozen=True, slots=True)
class Object:
    """What is in an object; the sections of types and functions as they are."""

    types: bytes
    functions: bytes
    imports: tuple[Import, ...]
    bodies: tuple[Body, ...]
    segments: tuple[Segment, ...]
    symbols: tuple[Symbol, ...]
    relocations: Mapping[int, tuple[Relocation, ...]]  # by section

    def undefined(self) -> list[str]:
        """What it asks of others, but for what every module makes itself."""
        own = {STACK_POINTER, TABLE_NAME}
        return sorted({symbol.name for symbol in self.symbols if not symbol.is_defined} - own)


def read_sections(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, contents) of every section of an object or module."""
    if not data.startswith(MAGIC):
        raise ValueError("this is no WebAssembly file")
    reader = Reader(data, len(MAGIC))
    while reader:
        yield reader.byte(), reader.take(reader.number())


def is_module(data: bytes) -> bool:
    """It is linked."""
    return all(kind != CUSTOM for kind, _ in read_sections(data))


def shown(data: bytes) -> Iterator[tuple[str, bool]]:
    """(name, True) of every function that a module exports, (name, False) of everything that it imports."""
    for kind, payload in read_sections(data):
        if kind == IMPORT:
            yield from ((each.name, False) for each in read_imports(Reader(payload)))
        elif kind == EXPORT:
            reader = Reader(payload)
            for _ in range(reader.number()):
                name, is_function = reader.text(), reader.byte() == AS_FUNCTION
                reader.number()
                if is_function:
                    yield name, True


def read_object(data: bytes) -> Object:
    """Read a relocatable object. Raises ValueError when it is something else."""
    sections: dict[int, bytes] = {}
    custom, order = {}, []
    for kind, payload in read_sections(data):
        order.append(kind)
        if kind != CUSTOM:
            sections[kind] = payload
            continue
        part = Reader(payload)
        custom[part.text()] = part
    if "linking" not in custom:
        raise ValueError("the object has no section for linking")
    if START in sections:
        raise ValueError("the object has a function to run at its start")
    names, symbols = read_linking(custom["linking"])
    imports = tuple(read_imports(Reader(sections.get(IMPORT, b"\0"))))
    relocations: dict[int, tuple[Relocation, ...]] = {CODE: (), DATA: ()}
    for name, part in custom.items():
        if name.startswith("reloc."):
            section = order[part.number()]
            relocations[section] = tuple(read_relocations(part))
    return Object(
        sections.get(TYPE, b"\0"),
        sections.get(FUNCTION, b"\0"),
        imports,
        tuple(read_bodies(Reader(sections.get(CODE, b"\0")))),
        tuple(read_segments(Reader(sections.get(DATA, b"\0")), names)),
        tuple(symbol if symbol.name else named(symbol, imports) for symbol in symbols),
        relocations,
    )


def read_imports(reader: Reader) -> Iterator[Import]:
    for _ in range(reader.number()):
        reader.text()
        name, kind = reader.text(), reader.byte()
        if kind == AS_FUNCTION:
            reader.number()
        elif kind == AS_GLOBAL:
            reader.take(2)
        elif kind in (AS_TABLE, AS_MEMORY):
            reader.take(1 if kind == AS_TABLE else 0)
            has_most = reader.number() & 1
            reader.number()
            if has_most:
                reader.number()
        else:
            raise ValueError(f"{name} is imported as of kind {kind}")
        yield Import(kind, name)


def read_bodies(reader: Reader) -> Iterator[Body]:
    for _ in range(reader.number()):
        size = reader.number()
        start = reader.place
        yield Body(reader.take(size), start)


def read_segments(reader: Reader, names: Sequence[tuple[str, int]]) -> Iterator[Segment]:
    for index in range(reader.number()):
        if reader.number() != 0 or reader.take(1) != I32_CONST:
            raise ValueError("a segment of its data does not lie in memory 0")
        reader.signed()
        if reader.take(1) != END:
            raise ValueError("the place of a segment of its data is no constant")
        size = reader.number()
        start = reader.place
        name, alignment = names[index]
        yield Segment(name, alignment, reader.take(size), start)


def read_relocations(reader: Reader) -> Iterator[Relocation]:
    for _ in range(reader.number()):
        kind, place, index = reader.byte(), reader.number(), reader.number()
        yield Relocation(kind, place, index, reader.signed() if kind in WITH_ADDEND else 0)


def read_linking(reader: Reader) -> tuple[list[tuple[str, int]], list[Symbol]]:
    """The names and alignments of segments, and all symbols."""
    if (version := reader.number()) != LINKING_VERSION:
        raise ValueError(f"the object is linked by version {version} of the rules, not {LINKING_VERSION}")
    segments: list[tuple[str, int]] = []
    symbols: list[Symbol] = []
    while reader:
        kind, part = reader.byte(), reader.part()
        count = part.number()
        if kind == SEGMENT_INFO:
            for _ in range(count):
                name, power = part.text(), part.number()
                part.number()
                segments.append((name, 1 << power))
        elif kind == SYMBOL_TABLE:
            symbols = [read_symbol(part) for _ in range(count)]
        elif kind == INIT_FUNCTIONS and count:
            raise ValueError("the object has functions to run at its start")
    return segments, symbols


def read_symbol(reader: Reader) -> Symbol:
    kind, flags = reader.byte(), reader.number()
    is_defined, is_local = not flags & UNDEFINED, bool(flags & LOCAL)
    if kind == OF_DATA:
        name = reader.text()
        index, offset, _ = (reader.number() if is_defined else 0 for _ in range(3))
        return Symbol(kind, name, index, offset, is_defined, is_local)
    index = reader.number()
    has_name = kind != OF_SECTION and (is_defined or flags & EXPLICIT_NAME)
    return Symbol(kind, reader.text() if has_name else "", index, 0, is_defined, is_local)


def named(symbol: Symbol, imports: Sequence[Import]) -> Symbol:
    """The symbol with the name of the import it stands for."""
    kinds = {OF_FUNCTION: AS_FUNCTION, OF_GLOBAL: AS_GLOBAL, OF_TABLE: AS_TABLE, OF_TAG: AS_TAG}
    same = [each for each in imports if each.kind == kinds.get(symbol.kind)]
    if symbol.is_defined or not same:
        return symbol
    return Symbol(symbol.kind, same[symbol.index].name, symbol.index, symbol.offset, False, False)


# ---- writing modules -------------------------------------------------------------------------------------------------


def link_module(data: bytes, exports: Sequence[str]) -> bytes:
    """The module of the functions `exports`.

    Raises LinkError when a symbol is undefined, an export is missing, a relocation is unknown, or the object holds what
    a closed module has no place for: data that are written to, or functions to run at its start.
    """
    try:
        found = read_object(data)
        return Layout(found).module(exports)
    except (ValueError, IndexError) as error:
        raise LinkError(f"the WebAssembly object cannot be linked: {error}") from error


class Layout:
    """Where everything goes."""

    def __init__(self, found: Object) -> None:
        self.object = found
        if undefined := found.undefined():
            raise ValueError(f"it needs undefined symbols: {', '.join(undefined)}")
        place = STACK_TOP
        self.places = []
        for segment in found.segments:
            if not segment.is_constant:
                raise ValueError(f"{segment.name} is written to: keep it in memory that is passed as an argument")
            place += -place % segment.alignment
            self.places.append(place)
            place += len(segment.contents)
        self.heap = place + -place % HEAP_ALIGNMENT
        self.slots = self.find_slots()

    def find_slots(self) -> dict[int, int]:
        """Function -> its place in the table, from 1 on: a null pointer calls nothing."""
        relocations = [each for section in (CODE, DATA) for each in self.object.relocations[section]]
        taken = [each.index for each in relocations if each.type in RELOCATIONS and RELOCATIONS[each.type][1] == "slot"]
        functions = dict.fromkeys(self.object.symbols[index].index for index in taken)
        return {function: slot for slot, function in enumerate(functions, start=1)}

    def module(self, exports: Sequence[str]) -> bytes:
        constants = self.constants()
        sections = {
            TYPE: self.object.types,
            FUNCTION: self.object.functions,
            TABLE: self.table(),
            MEMORY: listed([b"\0" + unsigned(-(-self.heap // PAGE))]),
            GLOBAL: listed([constant(I32, VARIABLE, STACK_TOP), constant(I32, CONSTANT, self.heap)]),
            EXPORT: listed(self.exports(exports)),
            ELEMENT: self.elements(),
            CODE: listed([sized(self.relocated(body, CODE)) for body in self.object.bodies]),
            DATA: listed([unsigned(0) + address(STACK_TOP) + sized(constants)]) if constants else b"",
        }
        return MAGIC + b"".join(bytes([kind]) + sized(payload) for kind, payload in sections.items() if payload)

    def table(self) -> bytes:
        """None where nothing is called by its address."""
        is_used = self.slots or any(each.name == TABLE_NAME for each in self.object.imports)
        size = 1 + len(self.slots)
        return listed([bytes([FUNCREF, 1]) + unsigned(size) + unsigned(size)]) if is_used else b""

    def elements(self) -> bytes:
        if not self.slots:
            return b""
        return listed([unsigned(0) + address(1) + listed([unsigned(function) for function in self.slots])])

    def exports(self, names: Sequence[str]) -> Iterator[bytes]:
        known = {each.name: each.index for each in self.object.symbols if each.kind == OF_FUNCTION and each.is_defined}
        if missing := sorted(set(names) - known.keys()):
            raise ValueError(f"it does not define the exports {', '.join(missing)}")
        for name in names:
            yield sized(name.encode()) + bytes([AS_FUNCTION]) + unsigned(known[name])
        yield sized(b"memory") + bytes([AS_MEMORY, 0])
        yield sized(HEAP_BASE.encode()) + bytes([AS_GLOBAL, 1])

    def constants(self) -> bytes:
        found = bytearray()
        for segment, place in zip(self.object.segments, self.places, strict=True):
            found += bytes(place - STACK_TOP - len(found))
            found += self.relocated(segment, DATA)
        return bytes(found)

    def relocated(self, piece: Body | Segment, section: int) -> bytes:
        """The contents with the numbers that are known now."""
        contents, done = piece.contents, 0
        parts = []
        for each in self.object.relocations[section]:
            place = each.place - piece.start
            if not 0 <= place < len(contents):
                continue
            if each.type not in RELOCATIONS:
                raise ValueError(f"a relocation is of type {each.type}, which is unknown")
            _, asked, written, size = RELOCATIONS[each.type]
            parts += [contents[done:place], written(self.number(asked, each))]
            done = place + size
        return b"".join([*parts, contents[done:]])

    def number(self, asked: str, relocation: Relocation) -> int:
        if asked == "type":
            return relocation.index
        symbol = self.object.symbols[relocation.index]
        if asked == "address":
            return self.places[symbol.index] + symbol.offset + relocation.addend
        return self.slots[symbol.index] if asked == "slot" else symbol.index


def sized(contents: bytes) -> bytes:
    return unsigned(len(contents)) + contents


def listed(items: Sequence[bytes] | Iterator[bytes]) -> bytes:
    found = list(items)
    return unsigned(len(found)) + b"".join(found)


def address(number: int) -> bytes:
    return I32_CONST + signed(number) + END


def constant(kind: int, changes: int, number: int) -> bytes:
    return bytes([kind, changes]) + address(number)

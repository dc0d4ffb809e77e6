"""graphc.backends.link: what it links loads and computes, and what it cannot link it refuses by name."""

from __future__ import annotations

import ctypes
import re
import shutil
import signal
import struct
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from linked import (
    AARCH64,
    ARMV7,
    FIRST,
    FIRST_EXPORTS,
    SECOND,
    TRIPLES,
    X86_64,
    View,
    compile_object,
    linked_sample,
    load,
    runs_here,
    tool,
    vector_constants,
)

from graphc.backends import elf
from graphc.backends.cache import Cache
from graphc.backends.link import LinkError, link_shared_object
from graphc.backends.target import TARGETS, build_unit

# ---- it runs ---------------------------------------------------------------------------------------------------------


@runs_here
def test_linked_functions_compute(tmp_path: Path) -> None:
    library = load(linked_sample(), tmp_path)
    assert [library.prime(n) for n in range(6)] == [2, 3, 5, 7, 11, 13]
    assert [library.shape(n) for n in range(7)] == [130, 71, 13, 33 * 33, 4 ^ 85, -5, -6]
    assert [library.dispatch(which, 4) for which in range(3)] == [11, 4 ^ 85, 34]
    assert [library.offset(n) for n in range(4)] == [10, 20, 30, 40]
    library.second_address.restype = ctypes.c_void_p
    assert library.second_address() == ctypes.cast(library.second, ctypes.c_void_p).value


@runs_here
def test_globals_are_writable_shared_and_start_as_declared(tmp_path: Path) -> None:
    library = load(linked_sample(), tmp_path)
    library.count.restype = library.count.argtypes = None
    count = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(("count", library))
    assert [count(2), count(16), count(16)] == [0, 42, 58]
    offsets = (ctypes.c_int32 * 4).in_dll(library, "offsets")
    offsets[2] = 1000
    assert library.second(1) == 1001
    assert library.offset(2) == 1000


@runs_here
@pytest.mark.parametrize("width", [4, 8, 16])
def test_vector_constants_keep_their_alignment(width: int, tmp_path: Path) -> None:
    objects = [compile_object(SECOND), compile_object(vector_constants(width))]
    library = load(link_shared_object(objects, ["add_table", "table_address", "letter"], "libvectors.so"), tmp_path)
    library.table_address.restype = ctypes.c_void_p
    assert library.table_address() % (4 * width) == 0
    values = (ctypes.c_float * width)(*range(width))
    library.add_table(values)
    assert list(values) == [(2 * n + 0.5) * (n + 0.5) for n in range(width)]
    assert [chr(library.letter(n)) for n in range(3)] == ["a", "b", "c"]


@runs_here
def test_many_exports_are_all_found(tmp_path: Path) -> None:
    names = [f"f{number}" for number in range(300)]
    text = "\n".join(f"define i32 @{name}() {{\n  ret i32 {number}\n}}" for number, name in enumerate(names))
    library = load(link_shared_object([compile_object(text)], names, "libmany.so"), tmp_path)
    assert [getattr(library, name)() for name in names] == list(range(300))
    assert not hasattr(library, "f300")


@runs_here
def test_a_strong_definition_wins_over_weak_ones(tmp_path: Path) -> None:
    weak = "define weak i32 @f() {\n  ret i32 1\n}\ndefine i32 @g() {\n  %r = call i32 @f()\n  ret i32 %r\n}"
    strong = "define i32 @f() {\n  ret i32 2\n}"
    objects = [compile_object(weak), compile_object(strong), compile_object(weak.replace("@g", "@h"))]
    library = load(link_shared_object(objects, ["f", "g", "h"], "libweak.so"), tmp_path)
    assert [library.f(), library.g(), library.h()] == [2, 2, 2]


@runs_here
def test_pointer_tables_are_read_only_once_loaded(tmp_path: Path) -> None:
    image = linked_sample()
    library = load(image, tmp_path)
    address, _ = View(image).symbols()["prime"]
    base = (ctypes.cast(library.prime, ctypes.c_void_p).value or 0) - address
    rights = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last, mode = re.match(r"(\w+)-(\w+) (....)", line).groups()  # type: ignore[union-attr]
        rights[range(int(first, 16), int(last, 16))] = mode
    modes = {place: next(rights[span] for span in rights if base + place in span) for place in View(image).pointers()}
    assert modes and set(modes.values()) == {"r--p"}


@runs_here
def test_a_library_loads_from_the_cache(tmp_path: Path) -> None:
    cache, image = Cache(tmp_path), linked_sample()
    key = Cache.key(image)
    library = ctypes.CDLL(str(cache.put("so", key, image)))
    assert library.shape(3) == 33 * 33
    assert cache.get("so", key) == image
    cache.clear()
    assert library.shape(3) == 33 * 33


@runs_here
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not on PATH")
def test_a_c_program_links_with_it(tmp_path: Path) -> None:
    (tmp_path / "libsample.so").write_bytes(linked_sample())
    (tmp_path / "main.c").write_text(
        "int shape(int); extern int offsets[4]; int main() { return shape(4) - offsets[1]; }"
    )
    build = ["gcc", "main.c", "-L.", "-lsample", "-Wl,-rpath,$ORIGIN", "-o", "main"]
    subprocess.run(build, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"]).returncode == (4 ^ 85) - 20


# ---- what the file says ----------------------------------------------------------------------------------------------


@TRIPLES
def test_segments_are_never_writable_and_executable(triple: str) -> None:
    view = View(linked_sample(triple))
    assert [segment[1] for segment in view.loads] == [4, 5, 6, 6]
    assert [segment[1] for segment in view.segments if segment[0] == elf.PT_GNU_STACK] == [elf.PF_R | elf.PF_W]
    page = 0x1000 if triple == X86_64 else 0x10000
    pages = [range(start // page, -(-(start + size) // page)) for _, _, _, start, _, _, size, _ in view.loads]
    assert all(before.stop <= after.start for before, after in pairwise(pages))
    assert all(offset % page == start % page for _, _, offset, start, *_ in view.loads)
    (sealed,) = (segment for segment in view.segments if segment[0] == elf.PT_GNU_RELRO)
    assert (sealed[3] + sealed[6]) % page == 0
    assert all(sealed[3] <= place < sealed[3] + sealed[6] for place in view.pointers())


@TRIPLES
def test_exports_are_exactly_those_asked_for(triple: str) -> None:
    view = View(linked_sample(triple))
    assert set(view.symbols()) == {*FIRST_EXPORTS, "offset", "offsets"}
    assert view.text(view.dynamic[elf.DT_SONAME]) == "libsample.so"
    assert view.symbols()["offsets"][1] == 16
    assert struct.unpack("<4i", view.read(view.symbols()["offsets"][0], 16)) == (10, 20, 30, 40)


@TRIPLES
def test_pointers_hold_addresses_relative_to_the_load_address(triple: str) -> None:
    view = View(linked_sample(triple))
    symbols = {address: name for name, (address, _) in view.symbols().items()}
    pointed = sorted(symbols[value] for value in view.pointers().values())
    assert pointed == ["offsets", "prime", "second", "second", "shape"]  # @operations, and .got: second, offsets


@TRIPLES
def test_two_links_give_the_same_bytes(triple: str) -> None:
    objects = [compile_object(text, triple) for text in (FIRST, SECOND)]
    image = link_shared_object(objects, FIRST_EXPORTS, "lib.so")
    assert image == link_shared_object(objects, FIRST_EXPORTS[::-1], "lib.so")


@TRIPLES
def test_tools_accept_the_file(triple: str, tmp_path: Path) -> None:
    path = tmp_path / "libsample.so"
    path.write_bytes(linked_sample(triple))
    headers = tool("readelf", "--wide", "--all", str(path))
    assert "Warning" not in headers and "Error" not in headers
    assert "RWE" not in headers and "GNU_STACK" in headers and "NEEDED" not in headers and "TEXTREL" not in headers
    assert not re.search(r"\.(eh_frame|comment|note)", headers)
    assert tool("nm", "--dynamic", "--undefined-only", str(path)) == ""
    exported = {line.split()[-1] for line in tool("nm", "--dynamic", "--defined-only", str(path)).splitlines()}
    assert exported == {*FIRST_EXPORTS, "offset", "offsets"}
    everything = {line.split()[-1]: line.split()[-2] for line in tool("nm", str(path)).splitlines()}
    assert everything["counter"] == "d" and everything["history"] == "b" and everything["shape"] == "T"
    assert everything["operations"] == "d" and everything["primes"] == "r"


@runs_here
def test_the_library_needs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "libsample.so"
    path.write_bytes(linked_sample())
    path.chmod(0o755)  # ldd complains about files that are not executable
    assert "statically linked" in tool("ldd", str(path))


# ---- aarch64, decoded by hand ----------------------------------------------------------------------------------------


def _adrp_target(view: View, place: int) -> int:
    """The address that an adrp at `place` and the add or 64-bit load after it make."""
    adrp, second = view.word(place), view.word(place + 4)
    assert adrp & 0x9F000000 == 0x90000000
    pages = (adrp >> 5 & 0x7FFFF) << 2 | adrp >> 29 & 3
    pages -= (pages & 1 << 20) << 1
    is_load = second & 0xFFC00000 == 0xF9400000
    assert is_load or second & 0xFFC00000 == 0x91000000
    return (place & ~0xFFF) + (pages << 12) + ((second >> 10 & 0xFFF) << (3 if is_load else 0))


def _branch_target(view: View, place: int) -> int:
    distance = view.word(place) & 0x3FFFFFF
    return place + 4 * (distance - ((distance & 1 << 25) << 1))


def test_aarch64_addresses_and_branches() -> None:
    text = """
    @own = internal global [3 x i64] [i64 7, i64 8, i64 9]
    @other = external global i64
    declare void @callee()
    define ptr @own_address() { ret ptr getelementptr inbounds ([3 x i64], ptr @own, i64 0, i64 1) }
    define ptr @other_address() { ret ptr @other }
    define void @caller() { tail call void @callee() ret void }
    """
    filler = (
        '@pad = global [70000 x i8] c"' + "x" * 70000 + '"\n@other = global i64 5\ndefine void @callee() { ret void }'
    )
    objects = [compile_object(text.replace("} ", "}\n"), AARCH64), compile_object(filler, AARCH64)]
    exports = ["own_address", "other_address", "other", "caller", "callee"]
    view = View(link_shared_object(objects, exports, "lib.so"))
    address = {name: place for name, (place, _) in view.symbols().items()}
    assert struct.unpack("<Q", view.read(_adrp_target(view, address["own_address"]), 8)) == (8,)
    assert view.pointers()[_adrp_target(view, address["other_address"])] == address["other"]
    assert view.word(address["caller"]) >> 26 == 0b000101
    assert _branch_target(view, address["caller"]) == address["callee"]


def test_armv7_addresses_and_branches() -> None:
    """Branches, distances and a slot that is looked up are from eight bytes behind the instruction on."""
    text = """
    @own = internal global [3 x i32] [i32 7, i32 8, i32 9]
    @other = external global i32
    declare void @callee()
    define ptr @own_address() { ret ptr @own }
    define ptr @other_address() { ret ptr @other }
    define void @caller() nounwind { call void @callee() ret void }
    define void @jumper() nounwind { tail call void @callee() ret void }
    """
    filler = (
        '@pad = global [70000 x i8] c"' + "x" * 70000 + '"\n@other = global i32 5\ndefine void @callee() { ret void }'
    )
    objects = [compile_object(text.replace("} ", "}\n"), ARMV7), compile_object(filler, ARMV7)]
    exports = ["own_address", "other_address", "other", "caller", "jumper", "callee"]
    image = link_shared_object(objects, exports, "lib.so")
    view = View(image)
    assert struct.unpack_from("<HHI", image, 16) == (3, 40, 1)
    assert struct.unpack_from("<I", image, 36) == (0x05000400,)  # EABI 5, floats in registers
    address = {name: place for name, (place, _) in view.symbols().items()}
    assert view.word(pc_relative(view, address["own_address"])) == 7
    assert view.pointers()[pc_relative(view, address["other_address"])] == address["other"]
    assert arm_branch(view, address["caller"] + 4) == (0xEB, address["callee"])  # bl, behind a push
    assert arm_branch(view, address["jumper"]) == (0xEA, address["callee"])  # b


def pc_relative(view: View, start: int) -> int:
    """What `ldr r0, [pc, #n]` and the add, or load, of the place it is added to make."""
    load, second = view.word(start), view.word(start + 4)
    assert load & 0xFFFFF000 == 0xE59F0000 and second in (0xE08F0000, 0xE79F0000)  # add r0, pc, r0; ldr r0, [pc, r0]
    return (view.word(start + 8 + (load & 0xFFF)) + start + 12) % 2**32


def arm_branch(view: View, place: int) -> tuple[int, int]:
    """Its kind, and where it leads."""
    word = view.word(place)
    distance = word & 0xFFFFFF
    return word >> 24, place + 8 + 4 * (distance - ((distance & 1 << 23) << 1))


SELF_TEST = """
@wide = internal global [4 x i64] [i64 1, i64 20, i64 300, i64 4000]
@half = internal global [4 x i16] [i16 5, i16 6, i16 7, i16 8]
declare i32 @shape(i32)
declare i32 @prime(i32)
declare i32 @second(i32)

define void @_start() {
  %a = call i32 @shape(i32 0)
  %b = call i32 @shape(i32 4)
  %c = call i32 @prime(i32 3)
  %w = load volatile i64, ptr getelementptr ([4 x i64], ptr @wide, i64 0, i64 2)
  %h = load volatile i16, ptr getelementptr ([4 x i16], ptr @half, i64 0, i64 3)
  %d = trunc i64 %w to i32
  %e = zext i16 %h to i32
  %ab = add i32 %a, %b
  %cd = add i32 %c, %d
  %abcd = add i32 %ab, %cd
  %sum = sub i32 %abcd, %e
  %right = icmp eq i32 %sum, 510 ; 130 + 81 + 7 + 300 - 8
  br i1 %right, label %stop, label %leave
stop:
  call void @llvm.trap()
  unreachable
leave:
  ret void
}

declare void @llvm.trap()
"""


def test_aarch64_code_runs_in_an_emulator(tmp_path: Path) -> None:
    """The library becomes a program by naming its start; that traps if all is right, else returns to nowhere."""
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is not on PATH")
    without_pointers = SECOND.replace("= global", "= internal global")  # nobody loads the program, so nobody fills .got
    objects = [compile_object(text, AARCH64) for text in (SELF_TEST, FIRST, without_pointers)]
    image = bytearray(link_shared_object(objects, ["_start"], "program"))
    image[24:32] = struct.pack("<Q", View(bytes(image)).symbols()["_start"][0])
    program = tmp_path / "program"
    program.write_bytes(image)
    program.chmod(0o755)
    assert subprocess.run(["qemu-aarch64", program], cwd=tmp_path).returncode == -signal.SIGTRAP


ON_RISCV = """
@before = global [{0} x i8] zeroinitializer
@kept = internal global i64 0
@shown = global i64 9
define i64 @reads() {{
  %value = load i64, ptr @kept
  ret i64 %value
}}
define void @writes(i64 %value) {{
  store i64 %value, ptr @kept
  ret void
}}
define ptr @looks_up() {{
  ret ptr @shown
}}
define i64 @calls() {{
  %value = call i64 @reads()
  %more = add i64 %value, 1
  ret i64 %more
}}
"""


@pytest.mark.parametrize("filler", [1, 2000, 3000, 5000])
def test_pairs_of_riscv_instructions_add_up(filler: int) -> None:
    machine = TARGETS["riscv64"]
    image = link_shared_object(
        [build_unit(ON_RISCV.format(filler), machine)],
        ["before", "shown", "reads", "writes", "looks_up", "calls"],
        "lib.so",
    )
    view = View(image)
    places = {name: address for name, (address, _) in view.symbols().items()}
    kept = places["before"] + -(-filler // 8) * 8
    (slot,) = (place for place, value in view.pointers().items() if value == places["shown"])
    wanted = {"reads": kept, "writes": kept, "looks_up": slot, "calls": places["reads"]}
    assert {name: pair_target(view, places[name]) for name in wanted} == wanted
    assert struct.unpack_from("<I", image, 48) == (5,)  # compressed instructions, floats in registers


def pair_target(view: View, start: int) -> int:
    """The address that the first auipc of a function and the instruction behind it make up."""
    place = next(place for place in range(start, start + 16, 2) if view.word(place) & 0x7F == 0x17)
    upper, second = view.word(place) & 0xFFFFF000, view.word(place + 4)
    is_store = second & 0x7F == 0x23
    lower = (second >> 25 << 5 | second >> 7 & 0x1F) if is_store else second >> 20
    return (place + upper + (lower ^ 0x800) - 0x800) % 2**32


# ---- what is refused -------------------------------------------------------------------------------------------------


@TRIPLES
def test_undefined_symbols_are_named(triple: str) -> None:
    text = """
    declare float @expf(float)
    declare void @missing()
    define float @f(float %x) {
      %y = call float @expf(float %x)
      call void @missing()
      ret float %y
    }
    """
    with pytest.raises(LinkError, match=r"undefined symbols: expf \(used in objects\[0\] \.text\), missing"):
        link_shared_object([compile_object(text, triple)], ["f"], "lib.so")


def test_an_undefined_weak_symbol_is_refused_too() -> None:
    text = "declare extern_weak i32 @maybe()\ndefine i32 @f() {\n  %r = call i32 @maybe()\n  ret i32 %r\n}"
    with pytest.raises(LinkError, match="undefined symbols: maybe"):
        link_shared_object([compile_object(text, X86_64)], ["f"], "lib.so")


def test_a_missing_export_is_named() -> None:
    with pytest.raises(LinkError, match="cannot export third: defined are offsets, second"):
        link_shared_object([compile_object(SECOND, X86_64)], ["second", "third"], "lib.so")


def test_an_internal_function_cannot_be_exported() -> None:
    with pytest.raises(LinkError, match="cannot export primes"):
        link_shared_object([compile_object(FIRST, X86_64), compile_object(SECOND, X86_64)], ["primes"], "lib.so")


def test_two_definitions_are_refused() -> None:
    objects = [compile_object(SECOND, X86_64), compile_object(SECOND, X86_64)]
    with pytest.raises(LinkError, match=r"second is defined twice, in objects\[0\] \.text and objects\[1\] \.text"):
        link_shared_object(objects, ["second"], "lib.so")


@pytest.mark.parametrize("triple, type", [(X86_64, 19), (AARCH64, 562)])  # R_X86_64_TLSGD, R_AARCH64_TLSDESC_ADR_PAGE21
def test_an_unknown_relocation_is_refused_by_type_and_section(triple: str, type: int) -> None:
    text = "@x = external thread_local global i32\ndefine i32 @f() {\n  %r = load i32, ptr @x\n  ret i32 %r\n}"
    with pytest.raises(LinkError, match=rf"objects\[0\] \.text\+0x\w+ has \S+ relocation type {type} against x"):
        link_shared_object([compile_object(text, triple), compile_object("@x = global i32 3", triple)], ["f"], "lib.so")


def test_code_that_is_not_position_independent_is_refused() -> None:
    with pytest.raises(LinkError, match=r"\.text.*relocation model pic"):
        link_shared_object([compile_object(FIRST, X86_64, reloc="static")], ["prime"], "lib.so")


@pytest.mark.parametrize(
    "text, reason",
    [
        ("@x = thread_local global i32 3", "thread-local"),
        (
            "define void @f() {\n  ret void\n}\n@llvm.global_ctors = appending global "
            "[1 x {i32, ptr, ptr}] [{i32, ptr, ptr} {i32 65535, ptr @f, ptr null}]",
            "run at load",
        ),
        ('@x = global [4 x i8] c"abcd", align 8192', "aligned to 8192 bytes"),
    ],
)
def test_what_a_closed_library_cannot_hold_is_refused(text: str, reason: str) -> None:
    with pytest.raises(LinkError, match=reason):
        link_shared_object([compile_object(text, X86_64)], [], "lib.so")


def test_writable_code_is_refused() -> None:
    data = bytearray(compile_object(SECOND, X86_64))
    table = elf.ELF64.file_header.unpack_from(data)[6]
    for place in range(table, len(data), elf.ELF64.section_header.size):
        flags = elf.ELF64.section_header.unpack_from(data, place)[2]
        struct.pack_into("<Q", data, place + 8, flags | elf.SHF_WRITE if flags & elf.SHF_EXECINSTR else flags)
    with pytest.raises(LinkError, match=r"\.text is both writable and executable"):
        link_shared_object([bytes(data)], ["second"], "lib.so")


def test_objects_for_two_machines_are_refused() -> None:
    objects = [compile_object(FIRST, X86_64), compile_object(SECOND, AARCH64)]
    with pytest.raises(LinkError, match=r"objects\[0\] is for x86-64, objects\[1\] for aarch64"):
        link_shared_object(objects, [], "lib.so")


def test_what_is_no_object_is_refused() -> None:
    good = compile_object(FIRST, X86_64)
    for data in (b"", b"\0asm\1\0\0\0", good[:40], good[:300], linked_sample(X86_64)):
        with pytest.raises(LinkError, match=r"objects\[0\]"):
            link_shared_object([data], [], "lib.so")
    with pytest.raises(LinkError, match="at least one"):
        link_shared_object([], [], "lib.so")

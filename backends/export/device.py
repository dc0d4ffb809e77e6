"""A library for NVIDIA GPUs: PTX, and the C functions that give what a call does to a stream of the caller's.

It is linked to nothing. The caller brings the driver: a function that finds the driver's functions by their names, such
as `dlsym` of libcuda.so.1; owns all memory; and has a context made current. Numbers lie in device memory in the layout
of the library for the processor, whose `init` makes the first state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from graphc.backends.cuda.driver import DYNAMIC_SHARED, PLENTY
from graphc.backends.cuda.feeding import gather_entry, means_entry, tally_entry
from graphc.backends.cuda.plan import Drawing, draw
from graphc.backends.cuda.ptx import ARCHITECTURES, compile_modules, modules
from graphc.backends.export.body import constant_text
from graphc.backends.export.header import comment, write_signature
from graphc.backends.export.launching import FUNCTIONS, MODULE, Calls, Epoch, Made, Steps, settings_entry
from graphc.backends.export.library import Library
from graphc.backends.export.signatures import FIND_TYPE, Argument, Face, Signature, faces
from graphc.backends.export.statuses import NULL
from graphc.backends.link import link_shared_object
from graphc.backends.symbols import read_symbols
from graphc.backends.target import BuildError, Target, build

NAME = "cuda"  # of the target
ABOUT = """A library of graphc for NVIDIA GPUs.

It carries its kernels and is linked to nothing. {name}_cuda_open is told how to find the functions of the driver, as in
  void *find(const char *symbol) {{ return dlsym(driver, symbol); }}
where driver is dlopen("libcuda.so.1", RTLD_NOW), and a context that the caller has made is current. What it notes in
`loaded`, {upper}_CUDA_LOADED_BYTES bytes of the host, aligned to 8, is told to all calls.

Calls give their work to a stream and come back at once; they may be captured, and replayed with the settings that they
were given. All pointers are to memory of the device, but for loaded and settings; state and work are aligned to 256,
other arrays to 16, those of an epoch to their elements. A state has the layout of the library for the processor: make
it there by {name}_init, and copy it. When the stream is done, status (int64_t) is 0, or else 1 for the first
{upper}_CHECK_ that a function lists, 2 for the next: then no state was changed. Functions return 0, or a status of the
library, or minus the number of the driver's own error. The order of an epoch is NULL, for the rows as they lie, or what
{name}_shuffle gives, copied to the device; steps before one that failed are done, and the means tell how many they
are."""


def device_files(library: Library, host: Target, version: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """(path below the library's folder -> contents, what the manifest says of the memory that calls need).

    Raises BuildError, or NotCovered for what no kernel does.
    """
    made = [Made(face, drawing_of(face)) for face in faces(library)]
    texts, names = all_modules(made)
    ptx = compile_modules(texts, names, ARCHITECTURES[0])
    parts = [constant_text("ptx", ptx), *constants(names), open_function(library, made, names), close_function(library)]
    parts += [Steps(each, names, each.signature).write() for each in made]
    parts += [Epoch(each, names, each.epoch).write() for each in made if each.face.has_epoch]
    wanted = [each.name for each in signatures(library, made)]
    file = f"lib{library.name}_cuda.so"
    shared = link_shared_object([build(parts, wanted, host)], wanted, file, names_all=False)
    found = read_symbols(shared)
    if (found.defined, found.undefined) != (tuple(sorted(wanted)), ()):
        raise BuildError(f"{file} defines {found.defined} and needs {found.undefined}")
    sizes = {"loaded_bytes": loaded_bytes(names), "work_bytes": dict(work_bytes(made))}
    files = {
        f"{NAME}/{file}": shared,
        f"{NAME}/{library.name}.ptx": ptx.encode(),
        f"{library.name}_cuda.h": write_header(library, made, sizes, version).encode(),
    }
    return files, sizes


def loaded_bytes(names: Sequence[str]) -> int:
    return MODULE + 8 + 8 * len(names)


def work_bytes(made: Sequence[Made]) -> Iterator[tuple[str, int]]:
    """(function, bytes it works in)."""
    for each in made:
        yield each.name, each.work_bytes
        if each.face.has_epoch:
            yield each.epoch.name, each.epoch_bytes


def drawing_of(face: Face) -> Drawing:
    """The launches of a step, and the kernels that its settings and epochs need beside."""
    graph, own = face.member.graph, []
    if face.settings is not None:
        own.append(settings_entry(len(face.settings.fields)))
    if face.has_epoch:
        own += [gather_entry(value, value.dtype) for value in graph.of_role("data")]
        own += [tally_entry(graph), means_entry(graph)]
    drawing = draw(face.member.device_graph)
    return replace(drawing, entries=(*drawing.entries, *{entry.name: entry for entry in own}.values()))


def all_modules(made: Sequence[Made]) -> tuple[tuple[str, ...], list[str]]:
    """(LLVM IR of all kernels, their names)."""
    entries = {entry.name: entry for each in made for entry in each.drawing.entries}
    whole = Drawing(made[0].program, tuple(entries.values()))
    return modules(whole), [*entries]


def constants(names: Sequence[str]) -> Iterator[str]:
    yield from (constant_text(f"name.{name}", name) for name in (*FUNCTIONS, *names))


def signatures(library: Library, made: Sequence[Made]) -> list[Signature]:
    find = Argument("find", FIND_TYPE, "of a name the driver's function")
    loaded = Argument("loaded", "void *")
    first = Signature(f"{library.name}_cuda_open", (loaded, find), "Loads the kernels into the current context.")
    last = Signature(f"{library.name}_cuda_close", (Argument("loaded", "const void *"),), "Lets go of them.")
    found = [first, last]
    for each in made:
        found += [each.signature, *([each.epoch] if each.face.has_epoch else [])]
    return found


def write_header(library: Library, made: Sequence[Made], sizes: Mapping[str, Any], version: str) -> str:
    upper = library.name.upper()
    lines = [*comment(ABOUT.format(name=library.name, upper=upper)), f"/* Written by graphc {version}. */"]
    lines += [f"#ifndef {upper}_CUDA_H", f"#define {upper}_CUDA_H", "", f'#include "{library.name}.h"', ""]
    lines += ["#ifdef __cplusplus", 'extern "C" {', "#endif", ""]
    lines += [f"#define {upper}_CUDA_LOADED_BYTES INT64_C({sizes['loaded_bytes']})"]
    lines += [f"#define {name.upper()}_WORK_BYTES INT64_C({size})" for name, size in sizes["work_bytes"].items()]
    lines += ["", f"#ifndef {FIND_TYPE.upper()}", f"#define {FIND_TYPE.upper()}"]
    lines += [f"typedef void *(*{FIND_TYPE})(const char *);", "#endif", ""]
    for signature in signatures(library, made):
        lines += write_signature(signature)
    return "\n".join([*lines, "#ifdef __cplusplus", "}", "#endif", "", f"#endif /* {upper}_CUDA_H */", ""])


# -- functions


def open_function(library: Library, made: Sequence[Made], names: Sequence[str]) -> str:
    body = Calls(signatures(library, [])[0])
    for number, function in enumerate(FUNCTIONS):
        found = body.let(f"call ptr %find(ptr @name.{function})")
        body.do(f"store ptr {found}, ptr {body.at('%loaded', 8 * number)}, align 8")
        none = body.let(f"icmp eq ptr {found}, null")
        body.refuse([body.let(f"select i1 {none}, i32 {NULL}, i32 0")])
    body.driver("cuModuleLoadData", f"ptr {body.at('%loaded', MODULE)}, ptr @ptx")
    module = body.let(f"load ptr, ptr {body.at('%loaded', MODULE)}, align 8")
    shared: dict[str, int] = dict.fromkeys(names, 0)
    for launch in (launch for each in made for launch in each.program.launches()):
        shared[launch.kernel] = max(shared[launch.kernel], launch.shared_bytes)
    for number, name in enumerate(names):
        place = body.at("%loaded", MODULE + 8 + 8 * number)
        body.driver("cuModuleGetFunction", f"ptr {place}, ptr {module}, ptr @name.{name}")
        if shared[name] > PLENTY:
            kernel = body.let(f"load ptr, ptr {place}, align 8")
            body.driver("cuFuncSetAttribute", f"ptr {kernel}, i32 {DYNAMIC_SHARED}, i32 {shared[name]}")
    body.do("ret i32 0")
    return body.end()


def close_function(library: Library) -> str:
    body = Calls(signatures(library, [])[1])
    module = body.let(f"load ptr, ptr {body.at('%loaded', MODULE)}, align 8")
    body.driver("cuModuleUnload", f"ptr {module}")
    body.do("ret i32 0")
    return body.end()

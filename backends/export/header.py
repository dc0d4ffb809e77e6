"""The C header of a library: C99, and C++ may include it."""

from __future__ import annotations

from collections.abc import Iterator

from graphc.backends.export.library import ABI, Library
from graphc.backends.export.signatures import YIELD_TYPE, Argument, Signature, Structure, checks_of, faces, signatures
from graphc.backends.export.statuses import NAMES, TEXTS

ABOUT = """\
A model that trains, compiled by graphc; no other library is needed, not even C's.

Memory    is yours. `state` holds {upper}_STATE_BYTES: make it with {name}_init, or read what was written before; its
          bytes can be written to a file, copied and sent as they are. `work` holds {name}_work_bytes(threads) bytes and
          nothing that lasts. Both lie at multiples of 16, better of 64, and no array that is given may overlap them.
Calls     on different states and works may run at once. Several threads share one call: all of them make it with the
          same arguments, `threads` and their own `thread` from 0 on, after one {name}_prepare. The results are the same
          bits for any number of threads.
Statuses  0 is success. Else something is wrong, {name}_strerror says what, and no state was changed.
"""


def write_header(library: Library, version: str) -> str:
    name = library.name
    upper = name.upper()
    lines = [*comment(ABOUT.format(name=name, upper=upper)), f"/* Written by graphc {version}. */"]
    lines += [f"#ifndef {upper}_H", f"#define {upper}_H", "", "#include <stdint.h>", ""]
    lines += ["#ifdef __cplusplus", 'extern "C" {', "#endif", ""]
    lines += [*constants(library), *statuses(library)]
    lines += [f"#ifndef {YIELD_TYPE.upper()}", f"#define {YIELD_TYPE.upper()}", f"typedef int (*{YIELD_TYPE})(void);"]
    lines += ["#endif", ""]
    for face in faces(library):
        structures = [face.settings, face.results, face.means if face.has_epoch else None]
        for structure in filter(None, structures):
            lines += write_structure(structure)
    for signature in signatures(library):
        lines += write_signature(signature)
    lines += ["#ifdef __cplusplus", "}", "#endif", "", f"#endif /* {upper}_H */", ""]
    return "\n".join(lines)


def constants(library: Library) -> Iterator[str]:
    upper = library.name.upper()
    yield f"#define {upper}_ABI {ABI}"
    yield f"#define {upper}_LAYOUT UINT64_C(0x{library.layout_hash:016x})"
    yield f"#define {upper}_STATE_BYTES INT64_C({library.state_bytes})"
    if library.parameters:
        yield f"#define {upper}_PARAMETERS INT64_C({sum(state.count for state in library.parameters)})"
    for face in faces(library):
        for dim in face.member.graph.dims:
            yield f"#define {face.name.upper()}_MOST_{dim.name.upper()} INT64_C({dim.max})"
    yield ""


def statuses(library: Library) -> Iterator[str]:
    """One enumeration; the checks of a function come behind what all functions look at."""
    yield f"enum {library.name}_status {{"
    upper = library.name.upper()
    for status, name in NAMES.items():
        yield f"    {upper}_{name} = {status}, /* {TEXTS[status]} */"
    known: dict[int, list[str]] = {}
    for face in faces(library):
        for status, text in checks_of(face):
            known.setdefault(status, []).append(f"{face.name}: {text}")
    for status, texts in known.items():
        yield f"    {upper}_CHECK_{status} = {status}, /* {'; '.join(texts)} */"
    yield f"    {upper}_LAST = 255"
    yield "};"
    yield ""


def write_structure(structure: Structure) -> Iterator[str]:
    yield f"/* {structure.text} */"
    yield f"struct {structure.name} {{"
    for field in structure.fields:
        yield f"    {field.kind} {field.name};{f' /* {field.text} */' if field.text else ''}"
    yield "};"
    yield ""


def write_signature(signature: Signature) -> Iterator[str]:
    told = [f"   {argument.name}: {argument.text}" for argument in signature.arguments if argument.text]
    first = f"/* {signature.text}"
    yield from [first, *told[:-1], f"{told[-1]} */"] if told else [f"{first} */"]
    arguments = ", ".join(map(declared, signature.arguments)) or "void"
    gap = "" if signature.returns.endswith("*") else " "
    yield f"{signature.returns}{gap}{signature.name}({arguments});"
    yield ""


def declared(argument: Argument) -> str:
    return f"{argument.kind}{argument.name}" if argument.kind.endswith("*") else f"{argument.kind} {argument.name}"


def comment(text: str) -> list[str]:
    first, *rest = text.strip().splitlines()
    lines = [f"/* {first}", *(f"   {line}".rstrip() for line in rest)]
    return [*lines[:-1], f"{lines[-1]} */"]

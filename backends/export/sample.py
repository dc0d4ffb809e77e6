"""main.c: a program that trains with a library on numbers it makes up."""

from __future__ import annotations

from collections.abc import Iterator

from graphc.backends.export.library import Library
from graphc.backends.export.signatures import C_TYPES, Argument, Face, faces, identifiers, is_output
from graphc.ir.graph import Value
from graphc.ir.types import FLOATS, Dim, bound, evaluate

MOST_ROWS = 64  # of a batch of the sample
OWN_NAMES = (
    "arguments", "count", "memory", "scratch", "status", "step", "steps", "i",
    "random_bits", "aligned", "atoi", "calloc", "malloc", "free", "fprintf", "printf", "stderr", "NULL", "PRIx64",
)  # fmt: skip


RANDOM_BITS = (
    "static uint32_t seed = 12345;",
    "",
    "static uint32_t random_bits(void) {",
    "    seed = seed * 1664525u + 1013904223u;",
    "    return seed >> 8;",
    "}",
    "",
)


def write_sample(library: Library, version: str) -> str:
    """The program: `main [steps]`, which prints a result and the state's hash as it goes."""
    face = sample_face(library)
    name, upper = library.name, library.name.upper()
    sizes = {dim: min(dim.max, MOST_ROWS) for dim in face.member.graph.dims}
    data = face.member.graph.of_role("data")
    counts = {value: int(evaluate(value.type.count, sizes)) for value in data}
    arrays = [argument.name for argument in (*face.inputs, *outputs(face))]
    called = dict(zip(arrays, identifiers(arrays, OWN_NAMES), strict=True))
    lines = [
        f"/* Trains {face.name} on made-up numbers. Written by graphc {version}; change it as you like.",
        "",
        f"   cc -O2 -o main main.c TARGET/lib{name}.a && ./main 50 */",
        "#include <inttypes.h>",
        "#include <stdio.h>",
        "#include <stdlib.h>",
        "",
        f'#include "{name}.h"',
        "",
        *RANDOM_BITS,
        "/* The first multiple of 64 in memory that malloc gave. */",
        "static void *aligned(char *memory) {",
        "    return memory ? memory + (64 - (uintptr_t)memory % 64) : NULL;",
        "}",
        "",
        "int main(int count, char **arguments) {",
        "    int steps = count > 1 ? atoi(arguments[1]) : 50;",
    ]
    for argument, value in zip(face.inputs, data, strict=True):
        lines.append(f"    static {C_TYPES[value.dtype]} {called[argument.name]}[{counts[value]}];")
    lines += [
        f"    char *memory = calloc(1, (size_t){upper}_STATE_BYTES + 64);",
        f"    char *scratch = malloc((size_t){name}_work_bytes(1) + 64);",
        "    void *state = aligned(memory), *work = aligned(scratch);",
        *(f"    static {plain(each)} {called[each.name]}[{array_count(face, each)}];" for each in outputs(face)),
        *([f"    struct {face.results.name} results;"] if face.results else []),
        f"    int32_t status = state && work ? {name}_init(state, 1) : {upper}_NULL;",
        "    for (int step = 0; step < steps && status == 0; step++) {",
    ]
    for argument, value in zip(face.inputs, data, strict=True):
        lines += [
            f"        for (int i = 0; i < {counts[value]}; i++)",
            f"            {called[argument.name]}[i] = {made_up(face, value)};",
        ]
    lines += [f"        status = {face.name}({', '.join(given(face, sizes, called))});", *progress(face), "    }"]
    lines += [
        "    if (status != 0)",
        f'        fprintf(stderr, "%s\\n", {name}_strerror(status));',
        "    else",
        f'        printf("state_hash %016" PRIx64 "\\n", {name}_state_hash(state));',
        "    free(memory);",
        "    free(scratch);",
        "    return status != 0;",
        "}",
        "",
    ]
    return "\n".join(lines)


def sample_face(library: Library) -> Face:
    """The first function that trains, or the first one."""
    each = faces(library)
    return next((face for face in each if face.member.graph.of_kind("update")), each[0])


def made_up(face: Face, value: Value) -> str:
    if value.dtype in FLOATS:
        return f"({C_TYPES[value.dtype]})random_bits() / 8388608 - 1"
    limits = next(((each.low, each.high) for each in face.member.labels if each.name == value.attrs["name"]), (0, 2))
    return f"({C_TYPES[value.dtype]})({limits[0]} + (int32_t)(random_bits() % {limits[1] - limits[0]}))"


def given(face: Face, sizes: dict[Dim, int], arrays: dict[str, str]) -> Iterator[str]:
    named = dict(zip((each.name for each in face.sizes), sizes.values(), strict=True))
    fixed = {"settings": "NULL", "results": "&results", "thread": "0", "threads": "1", **arrays}
    for argument in face.call.arguments:
        yield str(named.get(argument.name, fixed.get(argument.name, argument.name)))


def outputs(face: Face) -> list[Argument]:
    return [argument for argument in face.call.arguments if is_output(argument)]


def plain(argument: Argument) -> str:
    return argument.kind.removeprefix("const ").rstrip("* ")


def array_count(face: Face, argument: Argument) -> int:
    places = [each.name for each in outputs(face)]
    return bound(face.arrays[places.index(argument.name)].value.type.count)


def progress(face: Face) -> Iterator[str]:
    if face.results is not None:
        first = face.results.fields[0].name
        yield "        if (status == 0 && step % 10 == 0)"
        yield f'            printf("step %d: {first} %.6g\\n", step, (double)results.{first});'

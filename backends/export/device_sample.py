"""main_cuda.c: a program that trains on a GPU, epoch by epoch, on numbers it makes up."""

from __future__ import annotations

from collections.abc import Iterator

from graphc.backends.export.library import Library
from graphc.backends.export.sample import MOST_ROWS, RANDOM_BITS, made_up
from graphc.backends.export.signatures import C_TYPES, Face, faces, identifiers
from graphc.ir.types import bound, multiply

STEPS = 4  # of an epoch of the sample, the last of which is smaller
OWN_NAMES = (
    "arguments", "count", "memory", "state", "state_there", "work", "loaded", "means", "means_there", "order",
    "order_there", "status", "status_there", "epoch", "epochs", "i", "random_bits", "find", "driver", "check", "load",
    "there", "place", "failed", "aligned", "SAMPLES",
)  # fmt: skip
# What the program asks of the driver itself, beside what the library does: (name, what it is called with).
CALLS = {
    "cuInit": "unsigned int",
    "cuDeviceGet": "int *, int",
    "cuDevicePrimaryCtxRetain": "void **, int",
    "cuCtxSetCurrent": "void *",
    "cuMemAlloc_v2": "place *, size_t",
    "cuMemcpyHtoD_v2": "place, const void *, size_t",
    "cuMemcpyDtoH_v2": "void *, place, size_t",
}


def write_device_sample(library: Library, version: str) -> str | None:
    """The program: `main_cuda [epochs]`, which prints means as it goes and then the state's hash; None for a library
    that has no epochs in which it trains."""
    face = next((each for each in faces(library) if each.has_epoch and each.member.graph.of_kind("update")), None)
    return None if face is None else "\n".join(program(face, version))


def program(face: Face, version: str) -> Iterator[str]:
    library, upper = face.library.name, face.library.name.upper()
    (dim,), data = face.member.graph.dims, face.member.graph.of_role("data")
    batch = min(dim.max, MOST_ROWS)
    rows = [bound(multiply(*value.shape[1:])) for value in data]
    called = identifiers((argument.name for argument in face.inputs), (*OWN_NAMES, *CALLS))
    yield f"/* Trains {face.name} on a GPU, on made-up numbers. Written by graphc {version}; change it as you like."
    yield ""
    yield f"   cc -O2 -o main_cuda main_cuda.c cuda/lib{library}_cuda.so TARGET/lib{library}.a -ldl && ./main_cuda 5 */"
    yield from (f"#include <{name}.h>" for name in ("dlfcn", "inttypes", "stdio", "stdlib"))
    yield from ["", f'#include "{library}_cuda.h"', "", f"#define SAMPLES {batch * STEPS - batch // 2}", ""]
    yield "typedef uint64_t place; /* in the memory of the device */"
    yield ""
    yield "static void *driver;"
    yield from (f"static int (*{name})({kinds});" for name, kinds in CALLS.items())
    yield from ["", *RANDOM_BITS, *HELPERS]
    yield "int main(int count, char **arguments) {"
    yield "    int epochs = count > 1 ? atoi(arguments[1]) : 5, device = 0;"
    yield "    void *context = NULL;"
    for value, name, row in zip(data, called, rows, strict=True):
        yield f"    static {C_TYPES[value.dtype]} {name}[SAMPLES * {row}];"
    yield from [
        "    static int64_t order[SAMPLES];",
        f"    static int64_t loaded[{upper}_CUDA_LOADED_BYTES / 8];",
        f"    char *memory = calloc(1, (size_t){upper}_STATE_BYTES + 64);",
        "    void *state = memory ? memory + (64 - (uintptr_t)memory % 64) : NULL;",
        f"    struct {face.means.name} means;",
        "    int64_t failed = 0;",
        "    load();",
        '    check("cuInit", cuInit(0));',
        '    check("cuDeviceGet", cuDeviceGet(&device, 0));',
        '    check("cuDevicePrimaryCtxRetain", cuDevicePrimaryCtxRetain(&context, device));',
        '    check("cuCtxSetCurrent", cuCtxSetCurrent(context));',
        f'    check("{library}_init", {library}_init(state, 1));',
        f'    check("{library}_cuda_open", {library}_cuda_open(loaded, find));',
    ]
    for value, name, row in zip(data, called, rows, strict=True):
        yield f"    for (int i = 0; i < SAMPLES * {row}; i++)"
        yield f"        {name}[i] = {made_up(face, value)};"
    made = f"{library}_cuda_{face.member.name}_epoch"
    yield f"    place state_there = there(state, {upper}_STATE_BYTES);"
    yield f"    place work = there(NULL, {made.upper()}_WORK_BYTES);"
    yield "    place means_there = there(NULL, sizeof means), status_there = there(NULL, 8);"
    yield "    place order_there = there(NULL, sizeof order);"
    yield from (f"    place {name}_there = there({name}, sizeof {name});" for name in called)
    given = ["loaded", "(void *)state_there", "(void *)work"]
    given += [f"(const void *){name}_there" for name in called]
    given += ["SAMPLES", str(batch), "(const int64_t *)order_there", *(["NULL"] if face.settings is not None else [])]
    given += [f"(struct {face.means.name} *)means_there", "(int64_t *)status_there", "NULL"]
    yield from [
        "    for (int epoch = 0; epoch < epochs; epoch++) {",
        f'        check("{library}_shuffle", {library}_shuffle(order, SAMPLES, 1, (uint64_t)epoch));',
        '        check("cuMemcpyHtoD", cuMemcpyHtoD_v2(order_there, order, sizeof order));',
        f'        check("{made}", {made}({", ".join(given)}));',
        '        check("cuMemcpyDtoH", cuMemcpyDtoH_v2(&means, means_there, sizeof means)); /* which waits */',
        '        check("cuMemcpyDtoH", cuMemcpyDtoH_v2(&failed, status_there, 8));',
        f'        check("{library}_CHECK_", (int)failed);',
    ]
    if len(face.means.fields) > 1:
        first = face.means.fields[0].name
        yield f'        printf("epoch %d: {first} %.9g\\n", epoch, means.{first});'
    yield from [
        "    }",
        f'    check("cuMemcpyDtoH", cuMemcpyDtoH_v2(state, state_there, {upper}_STATE_BYTES));',
        f'    printf("state_hash %016" PRIx64 "\\n", {library}_state_hash(state));',
        f'    check("{library}_cuda_close", {library}_cuda_close(loaded));',
        "    free(memory);",
        "    return 0;",
        "}",
        "",
    ]


HELPERS = [
    "static void *find(const char *symbol) {",
    "    return dlsym(driver, symbol);",
    "}",
    "",
    "static void check(const char *what, int status) {",
    "    if (status == 0)",
    "        return;",
    '    fprintf(stderr, "%s: %d\\n", what, status);',
    "    exit(1);",
    "}",
    "",
    "static void load(void) {",
    '    driver = dlopen("libcuda.so.1", RTLD_NOW);',
    '    check("there is no NVIDIA driver", driver == NULL);',
    *(f'    check("{name}", (*(void **)&{name} = find("{name}")) == NULL);' for name in CALLS),
    "}",
    "",
    "/* Memory of the device, with a copy of what is here. */",
    "static place there(const void *here, size_t size) {",
    "    place found = 0;",
    '    check("cuMemAlloc", cuMemAlloc_v2(&found, size));',
    "    if (here)",
    '        check("cuMemcpyHtoD", cuMemcpyHtoD_v2(found, here, size));',
    "    return found;",
    "}",
    "",
]

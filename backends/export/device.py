"""A library for NVIDIA GPUs: PTX, and the C functions that give what a call does to a stream of the caller's.

It is linked to nothing. The caller brings the driver: a function that finds the driver's functions by their names, such
as `dlsym` of libcuda.so.1; owns all memory; and has a context made current. Numbers lie in device memory in the layout
of the library for the processor, whose `init` makes the first state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphc.backends.cuda.device import Clear, Copy, DeviceProgram, Grid, Launch, Place, Repeat, Step, Turn, Word
from graphc.backends.cuda.driver import DYNAMIC_SHARED, PLENTY
from graphc.backends.cuda.plan import Drawing, draw
from graphc.backends.cuda.ptx import ARCHITECTURES, compile_modules, modules
from graphc.backends.entry.pieces import LLVM_TYPES, extent_operand
from graphc.backends.export.body import Body, constant_text, literal
from graphc.backends.export.header import comment, write_signature
from graphc.backends.export.library import Library
from graphc.backends.export.signatures import FIND_TYPE, IR_TYPES, SIZES, Argument, Face, Signature, faces, is_output
from graphc.backends.export.statuses import NULL, SIZE
from graphc.backends.link import link_shared_object
from graphc.backends.symbols import read_symbols
from graphc.backends.target import BuildError, Target, build
from graphc.ir.frozen import dataclass
from graphc.ir.types import DTYPES, Dim, Extent, round_up

NAME = "cuda"  # of the target
FUNCTIONS = (
    "cuLaunchKernel", "cuMemcpyDtoDAsync_v2", "cuMemcpyHtoDAsync_v2", "cuMemsetD8Async", "cuModuleUnload",
    "cuModuleLoadData", "cuModuleGetFunction", "cuFuncSetAttribute",
)  # fmt: skip
MODULE = 8 * len(FUNCTIONS)  # where the handle of the module lies among what `open` notes; those of kernels come behind
NUMBER_BYTES = 256  # of a result that is one number, in work
ABOUT = """A library of graphc for NVIDIA GPUs.

It carries its kernels and is linked to nothing. {name}_cuda_open is told how to find the functions of the driver, as in
  void *find(const char *symbol) {{ return dlsym(driver, symbol); }}
where driver is dlopen("libcuda.so.1", RTLD_NOW), and a context that the caller has made is current. What it notes in
`loaded`, {upper}_CUDA_LOADED_BYTES bytes of the host, aligned to 8, is told to all calls.

Calls give their work to a stream and come back at once. All pointers are to memory of the device, but for loaded and
settings; state and work are aligned to 256. A state has the layout of the library for the processor: make it there by
{name}_init, and copy it. When the stream is done, status (int64_t) is 0, or else 1 for the first {upper}_CHECK_ that a
function lists, 2 for the next: then no state was changed. Functions return 0, or a status of the library, or minus the
number of the driver's own error."""


@dataclass(frozen=True, slots=True)
class Made:
    """One function: how it looks, and what it does.

    scalars  where they lie in work, and behind them the results that are one number
    """

    face: Face
    drawing: Drawing

    @property
    def program(self) -> DeviceProgram:
        return self.drawing.program

    @property
    def name(self) -> str:
        return f"{self.face.library.name}_cuda_{self.face.member.name}"

    @property
    def scalars(self) -> int:
        return round_up(self.program.work_bytes, NUMBER_BYTES)

    @property
    def numbers(self) -> int:
        return self.scalars + round_up(self.program.scalars.size, NUMBER_BYTES)

    @property
    def work_bytes(self) -> int:
        return self.numbers + NUMBER_BYTES * max(len(self.face.numbers), 1)

    @property
    def signature(self) -> Signature:
        memory = (Argument("loaded", "const void *"), Argument("state", "void *"), Argument("work", "void *"))
        rest = [each for each in self.face.call.arguments if each.name not in ("state", "work", "thread", "threads")]
        last = (Argument("status", "int64_t *"), Argument("stream", "void *", "a CUstream"))
        return Signature(self.name, (*memory, *rest, *last), "One batch, given to a stream.")


def device_files(library: Library, host: Target, version: str) -> dict[str, bytes]:
    """Path below the library's folder -> contents. Raises BuildError, or NotCovered for what no kernel does."""
    made = [Made(face, draw(face.member.device_graph)) for face in faces(library)]
    texts, names = all_modules(made)
    ptx = compile_modules(texts, names, ARCHITECTURES[0])
    parts = [constant_text("ptx", ptx), *constants(names), open_function(library, made, names), close_function(library)]
    parts += [step_function(each, names) for each in made]
    wanted = [each.name for each in signatures(library, made)]
    file = f"lib{library.name}_cuda.so"
    shared = link_shared_object([build(parts, wanted, host)], wanted, file, names_all=False)
    found = read_symbols(shared)
    if (found.defined, found.undefined) != (tuple(sorted(wanted)), ()):
        raise BuildError(f"{file} defines {found.defined} and needs {found.undefined}")
    header = write_header(library, made, names, version)
    return {
        f"{NAME}/{file}": shared,
        f"{NAME}/{library.name}.ptx": ptx.encode(),
        f"{library.name}_cuda.h": header.encode(),
    }


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
    return [first, last, *(each.signature for each in made)]


def write_header(library: Library, made: Sequence[Made], names: Sequence[str], version: str) -> str:
    upper = library.name.upper()
    lines = [*comment(ABOUT.format(name=library.name, upper=upper)), f"/* Written by graphc {version}. */"]
    lines += [f"#ifndef {upper}_CUDA_H", f"#define {upper}_CUDA_H", "", f'#include "{library.name}.h"', ""]
    lines += ["#ifdef __cplusplus", 'extern "C" {', "#endif", ""]
    lines += [f"#define {upper}_CUDA_LOADED_BYTES INT64_C({MODULE + 8 + 8 * len(names)})"]
    lines += [f"#define {each.name.upper()}_WORK_BYTES INT64_C({each.work_bytes})" for each in made]
    lines += ["", f"#ifndef {FIND_TYPE.upper()}", f"#define {FIND_TYPE.upper()}"]
    lines += [f"typedef void *(*{FIND_TYPE})(const char *);", "#endif", ""]
    for signature in signatures(library, made):
        lines += write_signature(signature)
    return "\n".join([*lines, "#ifdef __cplusplus", "}", "#endif", "", f"#endif /* {upper}_CUDA_H */", ""])


# -- functions


class Calls(Body):
    """Calls of the driver, each of which returns from the function where it fails."""

    def driver(self, function: str, arguments: str) -> None:
        pointer = self.let(f"load ptr, ptr {self.at('%loaded', 8 * FUNCTIONS.index(function))}, align 8")
        code = self.let(f"call i32 {pointer}({arguments})")
        wrong, failed, fine = self.let(f"icmp ne i32 {code}, 0"), self.fresh(), self.fresh()
        self.do(f"br i1 {wrong}, label %{failed}, label %{fine}")
        self.label(failed)
        self.do(f"ret i32 {self.let(f'sub i32 0, {code}')}")
        self.label(fine)


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


def step_function(made: Made, names: Sequence[str]) -> str:
    return Steps(made, names).write()


class Steps(Calls):
    """Writes what a call does."""

    def __init__(self, made: Made, names: Sequence[str]) -> None:
        super().__init__(made.signature)
        self.made, self.program, self.names = made, made.program, list(names)
        self.turns: list[str] = []  # of the loops around
        most = max(len(launch.words) for launch in self.program.launches())
        self.told, self.places = self.room(most, "i64"), self.room(most, "ptr")

    def write(self) -> str:
        face = self.made.face
        pointers = ["loaded", "state", "work", "status", *(each.name for each in face.inputs)]
        pointers += [each.name for each in face.call.arguments if is_output(each)]
        pointers += ["results"] if face.results is not None else []
        for name in pointers:
            none = self.let(f"icmp eq ptr %{name}, null")
            self.refuse([self.let(f"select i1 {none}, i32 {NULL}, i32 0")])
        self.check_sizes()
        for number, argument in enumerate(face.sizes):
            self.do(f"%d{number} = add i64 %{argument.name}, 0")
        self.settings()
        self.steps(self.program.steps)
        self.finish()
        self.do("ret i32 0")
        return self.end()

    def check_sizes(self) -> None:
        for argument, dim in zip(self.made.face.sizes, self.made.face.member.graph.dims, strict=True):
            under = self.let(f"icmp slt i64 %{argument.name}, 1")
            over = self.let(f"icmp sgt i64 %{argument.name}, {dim.max}")
            wrong = self.let(f"or i1 {under}, {over}")
            self.refuse([self.let(f"select i1 {wrong}, i32 {SIZE}, i32 0")])

    def settings(self) -> None:
        """Those that are given, or as they were at export, to the device, eight bytes each."""
        structure, face = self.made.face.settings, self.made.face
        if structure is None:
            return
        fixed = self.room(len(structure.fields), "i64")
        scalars = face.member.graph.of_role("scalar")
        for number, ((_, setting), scalar) in enumerate(zip(face.member.settings, scalars, strict=True)):
            self.do(f"store i64 0, ptr {self.at(fixed, 8 * number)}, align 8")
            kind = LLVM_TYPES[scalar.dtype]
            self.do(f"store {kind} {literal(setting, scalar.dtype)}, ptr {self.at(fixed, 8 * number)}, align 8")
        none, given, ready = self.let("icmp eq ptr %settings, null"), self.fresh(), self.fresh()
        self.do(f"br i1 {none}, label %{ready}, label %{given}")
        self.label(given)
        for number, (field, offset) in enumerate(zip(structure.fields, structure.offsets, strict=True)):
            kind, size = IR_TYPES[field.kind], SIZES[field.kind]
            value = self.let(f"load {kind}, ptr {self.at('%settings', offset)}, align {size}")
            self.do(f"store {kind} {value}, ptr {self.at(fixed, 8 * number)}, align 8")
        self.do(f"br label %{ready}")
        self.label(ready)
        target = self.address(Place("scalars"))
        size = 8 * len(structure.fields)
        # Memory of the host that is not pinned has been read when this comes back.
        self.driver("cuMemcpyHtoDAsync_v2", f"i64 {target}, ptr {fixed}, i64 {size}, ptr %stream")

    def finish(self) -> None:
        """Numbers to where they are wanted, and the status."""
        face = self.made.face
        offsets = iter(face.results.offsets if face.results is not None else ())
        results = self.let("ptrtoint ptr %results to i64") if face.results is not None else ""
        for slot, output in zip(self.program.results.slots, face.member.graph.of_kind("result"), strict=True):
            if not output.value.shape:
                target = self.let(f"add i64 {results}, {next(offsets)}")
                source = self.address(Place("results", slot.offset))
                self.copy(target, source, str(DTYPES[slot.type.dtype].itemsize))
        target = self.let("ptrtoint ptr %status to i64")
        if self.program.checks:
            self.copy(target, self.address(self.program.status), "8")
        else:
            self.driver("cuMemsetD8Async", f"i64 {target}, i8 0, i64 8, ptr %stream")

    def copy(self, target: str, source: str, size: str) -> None:
        self.driver("cuMemcpyDtoDAsync_v2", f"i64 {target}, i64 {source}, i64 {size}, ptr %stream")

    # -- steps

    def steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Launch):
                self.launch(step)
            elif isinstance(step, Repeat):
                self.repeat(step)
            elif isinstance(step, Copy | Clear):
                self.move(step)
            else:
                raise BuildError("an export takes no product of a library")

    def move(self, step: Copy | Clear) -> None:
        size = self.let(f"mul i64 {self.extent(step.count)}, {DTYPES[step.dtype].itemsize}")
        target, some, done = self.address(step.target), self.fresh(), self.fresh()
        self.do(f"br i1 {self.let(f'icmp sgt i64 {size}, 0')}, label %{some}, label %{done}")
        self.label(some)
        if isinstance(step, Copy):
            self.copy(target, self.address(step.source), size)
        else:
            self.driver("cuMemsetD8Async", f"i64 {target}, i8 0, i64 {size}, ptr %stream")
        self.do(f"br label %{done}")
        self.label(done)

    def launch(self, step: Launch) -> None:
        for number, word in enumerate(step.words):
            slot = self.at(self.told, 8 * number)
            self.do(f"store i64 {self.word(word)}, ptr {slot}, align 8")
            self.do(f"store ptr {slot}, ptr {self.at(self.places, 8 * number)}, align 8")
        blocks = "0"
        for grid in step.grids:
            blocks = self.let(f"add i64 {blocks}, {self.word(grid)}")
        count = self.let(f"trunc i64 {blocks} to i32")
        place = self.at("%loaded", MODULE + 8 + 8 * self.names.index(step.kernel))
        kernel = self.let(f"load ptr, ptr {place}, align 8")
        shape = f"i32 {count}, i32 1, i32 1, i32 {step.threads}, i32 1, i32 1, i32 {step.shared_bytes}"
        self.driver("cuLaunchKernel", f"ptr {kernel}, {shape}, ptr %stream, ptr {self.places}, ptr null")

    def repeat(self, step: Repeat) -> None:
        """A loop that counts in memory, as what is inside may be many blocks of code."""
        length, counter = self.extent(step.length), self.room(1, "i64")
        test, inside, done = self.fresh(), self.fresh(), self.fresh()
        self.do(f"store i64 0, ptr {counter}, align 8")
        self.do(f"br label %{test}")
        self.label(test)
        count = self.let(f"load i64, ptr {counter}, align 8")
        self.do(f"br i1 {self.let(f'icmp slt i64 {count}, {length}')}, label %{inside}, label %{done}")
        self.label(inside)
        last = self.let(f"sub i64 {length}, 1")
        self.turns.append(self.let(f"sub i64 {last}, {count}") if step.reverse else count)
        self.steps(step.body)
        self.turns.pop()
        self.do(f"store i64 {self.let(f'add i64 {count}, 1')}, ptr {counter}, align 8")
        self.do(f"br label %{test}")
        self.label(done)

    # -- words

    def word(self, word: Word) -> str:
        if isinstance(word, Place):
            return self.address(word)
        if isinstance(word, Turn):
            return self.turns[word.depth]
        return self.blocks(word) if isinstance(word, Grid) else self.extent(word)

    def blocks(self, grid: Grid) -> str:
        more = self.let(f"add i64 {self.extent(grid.extent)}, {grid.each - 1}")
        found = self.let(f"sdiv i64 {more}, {grid.each}")
        for order, bound in (("slt", 1), ("sgt", grid.most)):
            out = self.let(f"icmp {order} i64 {found}, {bound}")
            found = self.let(f"select i1 {out}, i64 {bound}, i64 {found}")
        return found

    def extent(self, extent: Extent) -> str:
        dims: tuple[Dim, ...] = self.made.face.member.graph.dims
        return extent_operand(extent, self.fresh(), dims, self.lines)

    def address(self, place: Place) -> str:
        pointer, offset = self.base(place)
        found = self.let(f"ptrtoint ptr %{pointer} to i64")
        if offset:
            found = self.let(f"add i64 {found}, {offset}")
        for turn, (count, size) in zip(self.turns, place.steps, strict=False):
            step = self.let(f"mul i64 {self.extent(count)}, {size}")
            found = self.let(f"add i64 {found}, {self.let(f'mul i64 {turn}, {step}')}")
        return found

    def base(self, place: Place) -> tuple[str, int]:
        """(the argument that a place is in, bytes from there)."""
        face, program = self.made.face, self.program
        if place.block == "state":
            number = program.state.at(place.offset)
            own = face.member.states[number].offset
            return "state", own + place.offset - program.state.slots[number].offset
        if place.block == "inputs":
            return face.inputs[place.number].name, place.offset
        if place.block == "scalars":
            return "work", self.made.scalars + place.offset
        if place.block == "work":
            return "work", place.offset
        number = program.results.at(place.offset)
        inside = place.offset - program.results.slots[number].offset
        outputs = face.member.graph.of_kind("result")
        before = sum(1 for output in outputs[:number] if bool(output.value.shape) == bool(outputs[number].value.shape))
        if outputs[number].value.shape:
            return [each.name for each in face.call.arguments if is_output(each)][before], inside
        return "work", self.made.numbers + NUMBER_BYTES * before + inside

"""The C functions of a library as LLVM IR: they look at all they are given, then call what the compiler made.

What the compiler made for a function goes by the function's name and ".step" or ".epoch"; see backends/entry.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphc.backends.entry.pieces import LLVM_TYPES, declare
from graphc.backends.export import kernels
from graphc.backends.export.body import (
    ATTRIBUTES,
    BLOCK_ALIGNMENT,
    GUARDS,
    MOST_SAMPLES,
    Body,
    constant_text,
    literal,
    settings,
)
from graphc.backends.export.library import MAGIC, MOST_THREADS, Library, State
from graphc.backends.export.signatures import (
    Argument,
    Face,
    Signature,
    checks_of,
    common,
    faces,
    is_output,
    size_of,
    widest,
)
from graphc.backends.export.statuses import CHECKS_FROM, SIZE, STATE, TEXTS, UNKNOWN
from graphc.backends.interface import (
    CHECKS,
    EPOCH_NUMBERS,
    EPOCH_WORDS,
    GENERATION,
    GIVEN,
    IN_PLACE,
    MEETING_BYTES,
    PLAIN,
    STEP_WORDS,
    YIELD,
    Arena,
    epoch_dim,
)
from graphc.backends.primitives import Kernel
from graphc.ir.random import GROUP
from graphc.ir.types import ALIGNMENT, DTYPES, bound


class Interface:
    """Writes the functions of a library.

    arenas        of every member by name, all with one place to meet
    most_threads  of a call
    chooses       there are variants, and processors that none of them is for
    """

    def __init__(
        self,
        library: Library,
        arenas: dict[str, Arena],
        manifest: str,
        most_threads: int = MOST_THREADS,
        chooses: bool = False,
    ) -> None:
        self.most_threads = most_threads
        self.library = library
        self.arenas = arenas
        self.manifest = manifest
        self.chooses = chooses
        self.kernels: dict[str, Kernel] = {}
        self.signatures = {each.name.removeprefix(f"{library.name}_"): each for each in common(library)}

    def write(self) -> str:
        """The IR; `kernels` has what it calls then."""
        self.use(kernels.outside("i64"))
        guards = GUARDS.replace("MOST_THREADS", str(self.most_threads))
        parts = [guards, self.check_state(), *self.common_functions()]
        for face in faces(self.library):
            parts.append(self.call(face))
            if face.has_epoch:
                parts.append(self.epoch(face))
        declared = "\n".join(declare(kernel) for kernel in self.kernels.values())
        return "\n".join([*parts, declared, ""])

    def use(self, kernel: Kernel) -> str:
        """The name of a kernel that is called."""
        self.kernels[kernel.name] = kernel
        return kernel.name

    def body(self, name: str) -> Body:
        return Body(self.signatures[name])

    def common_functions(self) -> Iterator[str]:
        yield self.init()
        body = self.body("check")
        body.do(f"ret i32 {body.check('state', 'ptr %state')}")
        yield body.end()
        yield self.state_hash()
        yield self.prepare()
        yield self.work_bytes()
        if "shuffle" in self.signatures:
            yield self.shuffle()
        if self.library.parameters:
            yield self.move_parameters("get_parameters", to_state=False)
            yield self.move_parameters("set_parameters", to_state=True)
        yield from self.texts()

    # -- the state

    def check_state(self) -> str:
        words = (MAGIC, self.library.layout_hash, self.library.state_bytes)
        body = Body(Signature("check.state", (Argument("state", "const void *"),), ""))
        body.lines[0] = body.lines[0].replace("define", "define internal").replace(ATTRIBUTES, f"noinline {ATTRIBUTES}")
        body.refuse([body.check("pointer", f"ptr %state, i64 {BLOCK_ALIGNMENT}")])
        wrong = "false"
        for number, word in enumerate(words):
            found = body.let(f"load i64, ptr {body.at('%state', 8 * number)}, align 8")
            differs = body.let(f"icmp ne i64 {found}, {kernels.signed(word)}")
            wrong = body.let(f"or i1 {wrong}, {differs}")
        body.do(f"ret i32 {body.let(f'select i1 {wrong}, i32 {STATE}, i32 0')}")
        return body.end()

    def init(self) -> str:
        body = self.body("init")
        body.refuse([body.check("pointer", f"ptr %state, i64 {BLOCK_ALIGNMENT}")])
        bits = body.room(4, "i64")
        body.do(f"call void @{self.use(kernels.fill('i64'))}(ptr %state, i64 {self.library.state_bytes // 8}, i64 0)")
        for state in self.library.states:
            self.first_numbers(body, state, body.at("%state", state.offset), bits)
        for number, word in enumerate((MAGIC, self.library.layout_hash, self.library.state_bytes)):
            body.do(f"store i64 {kernels.signed(word)}, ptr {body.at('%state', 8 * number)}, align 8")
        body.do("ret i32 0")
        return body.end() + "".join(map(given_numbers, self.library.states))

    def first_numbers(self, body: Body, state: State, place: str, bits: str) -> None:
        dtype, made = state.type.dtype, state.initial
        if state.is_generator:
            body.do(f"store i64 %seed, ptr {place}, align 8")
        elif made is None:
            body.do(f"call void @{self.use(kernels.COPY)}(ptr {place}, ptr @given.{state.offset}, i64 {state.bytes})")
        elif made.kind == "constant":
            if made.centre or dtype in ("f32", "f64"):
                kind, number = LLVM_TYPES[dtype], literal(made.centre, dtype)
                body.do(f"call void @{self.use(kernels.fill(dtype))}(ptr {place}, i64 {state.count}, {kind} {number})")
        else:
            kernel = self.use(kernels.draw(dtype, made.kind == "normal"))
            reals = (*made.shares, made.centre, made.scale, made.low, made.high)
            numbers = f"i64 {state.count}, i64 %seed, i64 {made.draw}"
            given = ", ".join(f"double {literal(real, 'f64')}" for real in reals)
            body.do(f"call void @{kernel}(ptr {place}, ptr {bits}, {numbers}, {given})")

    def state_hash(self) -> str:
        body, place, total = self.body("state_hash"), 0, "0"
        body.refuse([body.check("state", "ptr %state")])
        for state in self.library.states:
            words = "u8" if DTYPES[state.type.dtype].itemsize == 1 else "i32"
            count = state.bytes // DTYPES[words].itemsize
            kernel = self.use(kernels.hash_of(words))
            found = body.let(f"call i64 @{kernel}(ptr {body.at('%state', state.offset)}, i64 {count}, i64 {place})")
            total, place = body.let(f"add i64 {total}, {found}"), place + count
        body.do(f"ret i64 {total}")
        return body.end()

    def move_parameters(self, name: str, to_state: bool) -> str:
        body, offset, copy = self.body(name), 0, self.use(kernels.COPY)
        flat = next(each for each in self.signatures[name].arguments if each.name == "parameters")
        alignment = DTYPES[self.library.parameters[0].type.dtype].itemsize
        body.refuse([body.check("state", "ptr %state"), body.pointer(flat, alignment)])
        for state in self.library.parameters:
            ends = body.at("%state", state.offset), body.at("%parameters", offset)
            target, source = ends if to_state else reversed(ends)
            body.do(f"call void @{copy}(ptr {target}, ptr {source}, i64 {state.bytes})")
            offset += state.bytes
        body.do("ret i32 0")
        return body.end()

    # -- memory and orders

    def work_bytes(self) -> str:
        """What the most demanding function needs for that many threads."""
        body, most = self.body("work_bytes"), "0"
        body.refuse([body.check("threads", "i32 0, i32 %threads")])
        count = body.let("sext i32 %threads to i64")
        for arena in self.arenas.values():
            own = body.let(f"mul i64 {count}, {arena.private}")
            size = body.let(f"add i64 {own}, {arena.shared + MEETING_BYTES}")
            most = body.let(f"call i64 @llvm.smax.i64(i64 {most}, i64 {size})")
        body.do(f"ret i64 {most}")
        return "declare i64 @llvm.smax.i64(i64, i64)\ndeclare i64 @llvm.smin.i64(i64, i64)\n" + body.end()

    def prepare(self) -> str:
        """One place to meet for all functions."""
        body, meeting = self.body("prepare"), next(iter(self.arenas.values())).shared
        body.refuse(
            [
                body.check("pointer", f"ptr %work, i64 {BLOCK_ALIGNMENT}"),
                body.check("threads", "i32 0, i32 %threads"),
            ]
        )
        place = body.at("%work", meeting)
        body.do(f"store i64 0, ptr {place}, align 8")
        body.do(f"store i64 0, ptr {body.at(place, GENERATION)}, align 8")
        body.do(f"store ptr %yield, ptr {body.at(place, YIELD)}")
        body.do("ret i32 0")
        return body.end()

    def shuffle(self) -> str:
        body = self.body("shuffle")
        order = Argument("order", "int64_t *")
        limits = f"i64 %samples, i64 1, i64 {MOST_SAMPLES}, i32 {SIZE}"
        body.refuse([body.pointer(order, 8), body.check("range", limits)])
        draws = body.room(GROUP, "i64", ALIGNMENT)
        mix = self.use(kernels.SHUFFLE)
        body.do(f"call void @{mix}(ptr %order, ptr {draws}, i64 %samples, i64 %seed, i64 %epoch)")
        body.do("ret i32 0")
        return body.end()

    # -- texts

    def texts(self) -> Iterator[str]:
        yield constant_text("manifest.text", self.manifest)
        body = self.body("manifest")
        body.do("ret ptr @manifest.text")
        yield body.end()
        told = dict(TEXTS)
        for face in faces(self.library):
            told |= dict(checks_of(face))
        yield constant_text("status.unknown", UNKNOWN)
        for status, text in told.items():
            yield constant_text(f"status.{status}", text)
        body = self.body("strerror")
        cases = " ".join(f"i32 {status}, label %s{status}" for status in told)
        body.do(f"switch i32 %status, label %other [ {cases} ]")
        for status in told:
            body.label(f"s{status}")
            body.do(f"ret ptr @status.{status}")
        body.label("other")
        body.do("ret ptr @status.unknown")
        yield body.end()

    # -- steps

    def call(self, face: Face) -> str:
        body, graph = Body(face.call), face.member.graph
        statuses = self.memory_and_share(body, face)
        for argument, dim in zip(face.sizes, graph.dims, strict=True):
            statuses.append(body.check("range", f"i64 %{argument.name}, i64 1, i64 {dim.max}, i32 {SIZE}"))
        outputs = [each for each in face.call.arguments if is_output(each)]
        statuses += [body.pointer(each, size_of(each)) for each in outputs]
        if face.results is not None:
            statuses.append(body.pointer(Argument("results", "void *"), widest(face.results)))
        body.refuse(statuses)
        sizes = body.room(len(face.sizes), "i64")
        for number, argument in enumerate(face.sizes):
            body.do(f"store i64 %{argument.name}, ptr {body.at(sizes, 8 * number)}, align 8")
        inputs = body.table("inputs", [f"%{argument.name}" for argument in face.inputs])
        results = body.table("results", self.result_places(body, face))
        states, scalars = self.state_table(body, face), settings(body, face)
        share = "i64 {}, i64 {}".format(*(body.let(f"sext i32 %{each} to i64") for each in ("thread", "threads")))
        words = body.words(STEP_WORDS, (states, "%work", inputs, sizes, scalars, results))
        found = body.let(f"call i32 @{face.name}.step(ptr {words}, {share})")
        body.do(f"ret i32 {told(body, found)}")
        return declare_step(face) + body.end()

    def epoch(self, face: Face) -> str:
        body, graph = Body(face.epoch), face.member.graph
        dim = epoch_dim(graph)
        assert dim is not None
        statuses = self.memory_and_share(body, face)
        statuses.append(body.check("range", f"i64 %samples, i64 1, i64 {MOST_SAMPLES}, i32 {SIZE}"))
        statuses.append(body.check("range", f"i64 %batch, i64 1, i64 {dim.max}, i32 {SIZE}"))
        statuses.append(body.pointer(Argument("means", "void *"), 8))
        body.refuse(statuses)
        body.refuse([body.check("order", "ptr %order, i64 %samples"), *self.labels(body, face)])
        data = body.table("data", [f"%{argument.name}" for argument in face.inputs])
        kinds, totals = body.room(len(face.inputs), "i64"), body.room(len(face.numbers), "i64")
        for number, _ in enumerate(face.inputs):
            body.do(f"store i64 {PLAIN}, ptr {body.at(kinds, 8 * number)}, align 8")
        states, scalars = self.state_table(body, face), settings(body, face)
        none = body.let("icmp eq ptr %order, null")
        ordering = body.let(f"select i1 {none}, i64 {IN_PLACE}, i64 {GIVEN}")
        more, most = body.let("add i64 %samples, %batch"), "0"
        most = body.let(f"sub i64 {more}, 1")
        steps = body.let(f"udiv i64 {most}, %batch")
        share = "i64 {}, i64 {}".format(*(body.let(f"sext i32 %{each} to i64") for each in ("thread", "threads")))
        numbers = (ordering, "0", "0", "%samples", "%batch", "0", steps)
        given = (states, "%work", data, kinds, "%order", *numbers, scalars, totals, "1")
        words = body.words(EPOCH_WORDS, given, EPOCH_NUMBERS)
        found = body.let(f"call i32 @{face.name}.epoch(ptr {words}, {share})")
        self.write_means(body, face, found, totals, steps)
        body.do(f"ret i32 {told(body, body.let(f'urem i32 {found}, {CHECKS}'))}")
        return declare_epoch(face) + body.end()

    def labels(self, body: Body, face: Face) -> list[str]:
        """All integers that must lie in a range are looked at before the first step."""
        found = []
        data = {each.attrs["name"]: each for each in face.member.graph.of_role("data")}
        arguments = dict(zip(data, face.inputs, strict=True))
        for label in face.member.labels:
            source = data[label.name]
            row = bound(source.type.count) // bound(source.shape[0])
            count = body.let(f"mul i64 %samples, {row}")
            kernel, limits = self.use(kernels.outside(source.dtype)), (label.low, label.high, label.other)
            numbers = ", ".join(f"i64 {number}" for number in (count, *limits))
            wrong = body.let(f"call i64 @{kernel}(ptr %{arguments[label.name].name}, {numbers})")
            bad = body.let(f"icmp ne i64 {wrong}, 0")
            status = next(status for status, text in checks_of(face) if text == label.message)
            found.append(body.let(f"select i1 {bad}, i32 {status}, i32 0"))
        return found

    def write_means(self, body: Body, face: Face, status: str, totals: str, steps: str) -> None:
        """Thread 0 writes them, for all."""
        leads, write, done = body.let("icmp eq i32 %thread, 0"), body.fresh(), body.fresh()
        body.do(f"br i1 {leads}, label %{write}, label %{done}")
        body.label(write)
        rows = body.let("sitofp i64 %samples to double")
        *places, last = face.means.offsets
        for number, place in enumerate(places):
            total = body.let(f"load double, ptr {body.at(totals, 8 * number)}, align 8")
            mean = body.let(f"fdiv double {total}, {rows}")
            body.do(f"store double {mean}, ptr {body.at('%means', place)}, align 8")
        failed = body.let(f"udiv i32 {status}, {CHECKS}")
        wide, fine = body.let(f"zext i32 {failed} to i64"), body.let(f"icmp eq i32 {status}, 0")
        reached = body.let(f"select i1 {fine}, i64 {steps}, i64 {wide}")
        body.do(f"store i64 {reached}, ptr {body.at('%means', last)}, align 8")
        body.do(f"br label %{done}")
        body.label(done)

    def memory_and_share(self, body: Body, face: Face) -> list[str]:
        statuses = [body.check("state", "ptr %state"), body.check("pointer", f"ptr %work, i64 {BLOCK_ALIGNMENT}")]
        statuses += [body.pointer(argument, size_of(argument)) for argument in face.inputs]
        statuses.append(body.check("threads", "i32 %thread, i32 %threads"))
        if face.settings is not None:
            statuses.append(body.check("optional", f"ptr %settings, i64 {widest(face.settings)}"))
        return [*statuses, body.check("processor", "")] if self.chooses else statuses

    def state_table(self, body: Body, face: Face) -> str:
        return body.table("states", [body.at("%state", state.offset) for state in face.member.states])

    def result_places(self, body: Body, face: Face) -> list[str]:
        """Where each result goes, in the order of the graph."""
        offsets = iter(face.results.offsets if face.results is not None else ())
        arrays = iter(each.name for each in face.call.arguments if is_output(each))
        return [
            f"%{next(arrays)}" if output.value.shape else body.at("%results", next(offsets))
            for output in face.member.graph.of_kind("result")
        ]


def given_numbers(state: State) -> str:
    """The bytes of a state whose numbers are not made but copied."""
    if state.is_generator or state.initial is not None or state.given is None:
        return ""
    escaped = "".join(f"\\{byte:02X}" for byte in state.given.tobytes())
    return f'@given.{state.offset} = internal constant [{state.bytes} x i8] c"{escaped}", align 16\n'


def told(body: Body, status: str) -> str:
    """A status of the compiler's as one of the library's."""
    fine, other = body.let(f"icmp eq i32 {status}, 0"), body.let(f"add i32 {status}, {CHECKS_FROM - 1}")
    return body.let(f"select i1 {fine}, i32 0, i32 {other}")


def declare_step(face: Face) -> str:
    return f"declare i32 @{face.name}.step(ptr, i64, i64)\n"


def declare_epoch(face: Face) -> str:
    return f"declare i32 @{face.name}.epoch(ptr, i64, i64)\n"

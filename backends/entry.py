"""The two functions of an artifact, as LLVM IR that calls the kernels: `step` for one batch and `epoch` for many.

    i32 step(states, work, inputs, sizes, scalars, results, thread, threads)
    i32 epoch(states, work, data, kinds, order, shuffled, seed, number, samples, batch, first, last,
              scalars, totals, thread, threads)

`states`, `inputs`, `results` and `data` point to arrays of pointers in the order of the graph, `sizes` to one i64 a
dim, `scalars` to eight bytes a scalar input. 0 is success, k says that check k - 1 failed before anything was updated;
`epoch` adds CHECKS times the number of the step that failed. `epoch` runs the steps first <= s < last: it gathers the
rows order[s * batch ...] of `data` into the arena, the last batch as small as it is, and adds every result times the
batch's size to `totals` (f64).

`threads` threads call the same function with the same arguments and their own numbers `thread` from 0 on. They share
the arena `work`, at whose end each has a private part and where they meet (see barrier.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from graphc.backends import philox, sweeps
from graphc.backends.barrier import MEET, SHARE
from graphc.backends.interface import BYTES_AS_IMAGE, CHECKS, MEETING_BYTES, PLAIN, EpochLayout, epoch_dim
from graphc.backends.primitives import LANES, Kernel
from graphc.backends.source import Source
from graphc.backends.source.lines import Cut
from graphc.ir.graph import IRError
from graphc.ir.loops import Buffer, LoopNest, Repetition
from graphc.ir.program import Program, is_private, round_up
from graphc.ir.types import FLOATS, Dim, Extent, TensorType, bound, monomials, multiply

LLVM_TYPES = {"f32": "float", "f64": "double", "i32": "i32", "i64": "i64", "u8": "i8", "bool": "i8"}
ATTRIBUTES = 'nounwind "no-builtins" "prefer-vector-width"="512"'


def epoch_layout(program: Program) -> EpochLayout:
    offset = round_up(program.work_bytes)
    places: list[list[int]] = [[], []]
    inputs = [value.type for value in program.graph.of_role("data")]
    results = [output.value.type for output in program.graph.of_kind("result")]
    for found, types in zip(places, (inputs, results), strict=True):
        for tensor_type in types:
            found.append(offset)
            offset += round_up(tensor_type.max_bytes)
    return EpochLayout(tuple(places[0]), tuple(places[1]), offset)


def meeting_place(program: Program) -> int:
    """The offset in the arena behind all that threads share: there they meet, and behind that lies what is private."""
    return round_up(program.work_bytes) if epoch_dim(program.graph) is None else epoch_layout(program).size


def write_entry(program: Program, sources: tuple[Source, ...]) -> tuple[str, tuple[Kernel, ...]]:
    """The IR of `step` and, where the inputs allow one, `epoch`, with the kernels they need on top of the sources."""
    if len(program.checks) >= CHECKS:
        raise IRError(f"{program.graph.name} has {len(program.checks)} checks, at most {CHECKS - 1} can be told apart")
    dims = program.graph.dims
    names = call_names(sources)
    calls = {id(nest): each for nest, each in zip(program.walk(), zip(names, sources, strict=True), strict=True)}
    writer = StepWriter(program, calls)
    step, helpers = writer.write(), writer.moves
    if epoch_dim(program.graph) is not None:
        helpers |= {kernel.name: kernel for kernel in epoch_kernels(program)}
    called = with_finishes(zip(names, sources, strict=True))
    kernels = {source.kernel.name: source.kernel for source in called.values()} | helpers
    parts = [declare(kernel) for kernel in kernels.values()]
    parts += [write_call(name, source, dims) for name, source in called.items()]
    parts += [step, "declare i64 @llvm.smin.i64(i64, i64)\ndeclare i64 @llvm.smax.i64(i64, i64)\n"]
    if program.is_shared_out:
        parts += [MEET, SHARE]
    if epoch_dim(program.graph) is not None:
        parts.append(write_epoch(program))
    return "\n".join(parts), tuple(helpers.values())


def llvm_type(kind: str) -> str:
    return "ptr" if kind.endswith("*") else LLVM_TYPES[kind]


def declare(kernel: Kernel) -> str:
    kinds = ", ".join(llvm_type(kind) for _, kind in kernel.parameters)
    return f"declare void @{kernel.name}({kinds})"


# -- step


def call_names(sources: tuple[Source, ...]) -> list[str]:
    """A function name for each nest; nests of one kernel text and one set of extents share it, as equal layers do."""
    known: dict[tuple[Any, ...], str] = {}
    return [known.setdefault(identity(source), f"nest_{len(known)}") for source in sources]


def identity(source: Source | None) -> tuple[Any, ...]:
    """What sources that can share a function have in common."""
    if source is None:
        return ()
    extents = tuple(each for each in source.arguments if not isinstance(each, Buffer))
    return source.kernel.name, extents, source.cut, *identity(source.finish)


def with_finishes(named: Iterable[tuple[str, Source]]) -> dict[str, Source]:
    """The sources by name, and what finishes each as `name_finish`."""
    found = {}
    for name, source in named:
        found[name] = source
        if source.finish is not None:
            found[f"{name}_finish"] = source.finish
    return found


def write_call(name: str, source: Source, dims: tuple[Dim, ...]) -> str:
    """A function in which the extents of a kernel are constants or products of the dims."""
    pointers = [parameter for parameter, kind in source.kernel.parameters if kind.endswith("*")]
    numbers = [*(f"d{k}" for k in range(len(dims))), *shares(source)]
    head = ", ".join([f"ptr noalias %{pointer}" for pointer in pointers] + [f"i64 %{number}" for number in numbers])
    lines = [f"define internal void @{name}({head}) noinline {ATTRIBUTES} {{"]
    arguments = []
    for (parameter, kind), argument in zip(source.kernel.parameters, source.arguments, strict=True):
        if isinstance(argument, Buffer):
            arguments.append(f"ptr %{parameter}")
        elif isinstance(argument, str):
            arguments.append(f"i64 %{argument}")
        else:
            arguments.append(f"{llvm_type(kind)} {extent_operand(argument, parameter, dims, lines)}")
    lines += [f"  call void @{source.kernel.name}({', '.join(arguments)})", "  ret void", "}"]
    return "\n".join(lines) + "\n"


def shares(source: Source) -> list[str]:
    """What a call says of its share of the work, in the order of the kernel's parameters."""
    return [argument for argument in source.arguments if isinstance(argument, str)]


def extent_operand(extent: Extent, name: str, dims: tuple[Dim, ...], lines: list[str]) -> str:
    """A constant, or the name of the sum of products of dims, computed in `lines`."""
    if isinstance(extent, int):
        return str(extent)
    total = ""
    for number, (names, factor) in enumerate(monomials(extent).items()):
        term = str(factor)
        for step, dim in enumerate(names):
            lines.append(f"  %{name}.{number}.{step} = mul nsw i64 {term}, %d{dims.index(dim)}")
            term = f"%{name}.{number}.{step}"
        if total:
            lines.append(f"  %{name}.{number} = add nsw i64 {total}, {term}")
            term = f"%{name}.{number}"
        total = term
    return total


Pointers = dict[tuple[str, str], str]
Span = tuple[str, int, int]  # a piece of memory: of which block, and from where to where
ANYWHERE: Span = ("", 0, 0)


@dataclass(frozen=True, slots=True)
class Work:
    """What some nest does: by all threads or by the first one, and the memory it reads and writes."""

    by_all: bool
    read: tuple[Span, ...]
    written: tuple[Span, ...]

    def must_wait_for(self, earlier: Work) -> bool:
        """Whether threads must meet between the two."""
        if not (self.by_all or earlier.by_all):
            return False
        touched = (*self.read, *self.written)
        return any_overlap(earlier.written, touched) or any_overlap(earlier.read, self.written)


def any_overlap(some: tuple[Span, ...], others: tuple[Span, ...]) -> bool:
    return any(
        ANYWHERE in (one, other) or (one[0] == other[0] and one[1] < other[2] and other[1] < one[2])
        for one in some
        for other in others
    )


class StepWriter:
    """Writes `step`: calls of nests in order, loops around those that are repeated, checks between them.

    moves  the kernels, by name, that bring the states of loops to where they are kept
    """

    def __init__(self, program: Program, calls: dict[int, tuple[str, Source]]) -> None:
        self.program = program
        self.calls = calls
        self.dims = program.graph.dims
        self.lines: list[str] = []
        self.count = 0
        self.moves: dict[str, Kernel] = {}
        self.shared_out = program.is_shared_out
        self.open: list[Work] = []  # since threads met last
        self.rejoined = ""  # where all threads go on, while lines are written that only the first one runs

    def write(self) -> str:
        self.lines = [
            "define i32 @step(ptr noalias %states, ptr noalias %work, ptr noalias %inputs, ptr noalias %sizes, "
            f"ptr noalias %scalars, ptr noalias %results, i64 %thread, i64 %threads) {ATTRIBUTES} {{",
            "entry:",
            "  %leads = icmp eq i64 %thread, 0",
            "  %following = add nsw i64 %thread, 1",
            f"  %meeting = getelementptr inbounds i8, ptr %work, i64 {meeting_place(self.program)}",
            f"  %private.all = getelementptr inbounds i8, ptr %meeting, i64 {MEETING_BYTES}",
            f"  %private.at = mul nsw i64 %thread, {round_up(self.program.private_bytes)}",
            "  %private = getelementptr inbounds i8, ptr %private.all, i64 %private.at",
        ]
        for number, _ in enumerate(self.dims):
            self.lines += [
                f"  %size.{number} = getelementptr inbounds i64, ptr %sizes, i64 {number}",
                f"  %d{number} = load i64, ptr %size.{number}, align 8",
            ]
        self.write_nests(self.program, dict(load_pointers(self.program, self.lines)), base=0)
        self.meet()
        self.lines += ["  ret i32 0", "}"]
        return "\n".join(self.lines) + "\n"

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"%{stem}.{self.count}"

    # threads

    def lead(self) -> None:
        """What follows is for the first thread only."""
        if self.rejoined or not self.shared_out:
            return
        first, self.rejoined = self.fresh("first")[1:], self.fresh("all")[1:]
        self.lines += [f"  br i1 %leads, label %{first}, label %{self.rejoined}", f"{first}:"]

    def rejoin(self) -> None:
        """What follows is for all threads."""
        if self.rejoined:
            self.lines += [f"  br label %{self.rejoined}", f"{self.rejoined}:"]
            self.rejoined = ""

    def meet(self) -> None:
        """All threads have done what is open before any goes on."""
        self.rejoin()
        if self.shared_out and self.open:
            self.lines.append("  call void @meet(ptr %meeting, i64 %threads)")
        self.open.clear()

    def begin(self, work: Work) -> None:
        if any(work.must_wait_for(earlier) for earlier in self.open):
            self.meet()
        if work.by_all:
            self.rejoin()
        else:
            self.lead()
        self.open.append(work)

    def work_of(self, program: Program, base: int, number: int, nest: LoopNest, by_all: bool) -> Work:
        def span(buffer: Buffer) -> Span:
            if buffer.kind in ("input", "result"):
                known = program is self.program
                return (f"{buffer.kind} {buffer.name or buffer.value.attrs['name']}", 0, 1) if known else ANYWHERE
            region = program.region(number, buffer)
            return "work", base + region.offset, base + region.offset + region.size

        scratch = program.scratch_of(number)
        read, written = (tuple(span(buffer) for buffer in buffers) for buffers in (nest.read(), nest.written()))
        return Work(by_all, read, (*written, *(span(buffer) for buffer in scratch if not is_private(buffer))))

    # nests

    def write_nests(self, program: Program, pointers: Pointers, base: int) -> None:
        """base: where the program's own arena starts in that of the step."""
        for number, nest in enumerate(program.nests):
            place = partial(self.place, program, pointers, base, number)
            if nest.repetition is not None:
                inside = base + program.region(number, nest.repetition.work).offset
                self.write_repetition(nest.repetition, place, inside)
            else:
                name, source = self.calls[id(nest)]
                self.begin(self.work_of(program, base, number, nest, by_all=source.cut is not None))
                self.write_nest(name, source, place)
            for index, check in enumerate(program.checks):
                if check.nest == number:
                    self.meet()
                    self.lines += run_check(index, check.buffer, program)

    def write_nest(self, name: str, source: Source, place: Callable[[Buffer], str]) -> None:
        if source.cut is None:
            self.call(name, source, place, {})
        elif source.cut.parts:
            self.call_parts(name, source, place, source.cut)
        else:
            begin, end = self.share_of(source.cut, "%thread", "%threads")
            self.call(name, source, place, {"begin": begin, "end": end})
        if source.finish is not None:
            self.meet()
            self.lead()
            self.call(f"{name}_finish", source.finish, place, {})
            self.open.append(Work(False, (ANYWHERE,), (ANYWHERE,)))

    def call(self, name: str, source: Source, place: Callable[[Buffer], str], share: dict[str, str]) -> None:
        arguments = [f"ptr {place(each)}" for each in source.arguments if isinstance(each, Buffer)]
        numbers = [*(f"%d{index}" for index, _ in enumerate(self.dims)), *(share[each] for each in shares(source))]
        self.lines.append(f"  call void @{name}({', '.join([*arguments, *(f'i64 {each}' for each in numbers)])})")

    def share_of(self, cut: Cut, part: str, parts: str | int) -> tuple[str, str]:
        """Where one part of a cut begins and ends."""
        extent, ends = self.extent(cut.extent), []
        following = "%following" if part == "%thread" else self.fresh("following")
        if part != "%thread":
            self.lines.append(f"  {following} = add nsw i64 {part}, 1")
        for each in (part, following):
            ends.append(end := self.fresh("share"))
            self.lines.append(f"  {end} = call i64 @share(i64 {extent}, i64 {cut.unit}, i64 {each}, i64 {parts})")
        return ends[0], ends[1]

    def call_parts(self, name: str, source: Source, place: Callable[[Buffer], str], cut: Cut) -> None:
        """Each thread does some of the parts, one after another."""
        first, last = self.share_of(Cut(cut.parts, 1), "%thread", "%threads")
        placed = {each: place(each) for each in source.arguments if isinstance(each, Buffer)}
        label = self.open_loop(first, last)
        begin, end = self.share_of(cut, f"%{label}.s", cut.parts)
        self.call(name, source, placed.__getitem__, {"begin": begin, "end": end, "part": f"%{label}.s"})
        self.close_loop(label)

    def open_loop(self, first: str, last: str) -> str:
        """The lines before what is done for every `%label.s` from first to last; returns the label."""
        label = self.fresh("loop")[1:]
        self.lines += [
            f"  br label %{label}.entry",
            f"{label}.entry:",
            f"  br label %{label}",
            f"{label}:",
            f"  %{label}.s = phi i64 [ {first}, %{label}.entry ], [ %{label}.next, %{label}.end ]",
            f"  %{label}.more = icmp slt i64 %{label}.s, {last}",
            f"  br i1 %{label}.more, label %{label}.body, label %{label}.done",
            f"{label}.body:",
        ]
        return label

    def close_loop(self, label: str) -> None:
        self.lines += [
            f"  br label %{label}.end",
            f"{label}.end:",
            f"  %{label}.next = add nsw i64 %{label}.s, 1",
            f"  br label %{label}",
            f"{label}.done:",
        ]

    def place(self, program: Program, pointers: Pointers, base: int, number: int, buffer: Buffer) -> str:
        """A pointer to the memory of a buffer, as nest `number` of the program sees it."""
        if buffer.kind in ("input", "result"):
            return pointers[buffer.kind, buffer.name or buffer.value.attrs["name"]]
        pointer, offset = self.fresh("work"), program.region(number, buffer).offset
        arena = "%private" if is_private(buffer) else "%work"
        offset += 0 if is_private(buffer) else base
        self.lines.append(f"  {pointer} = getelementptr inbounds i8, ptr {arena}, i64 {offset}")
        return pointer

    def extent(self, extent: Extent) -> str:
        return extent_operand(extent, self.fresh("extent")[1:], self.dims, self.lines)

    def write_repetition(self, repetition: Repetition, place: Callable[[Buffer], str], base: int) -> None:
        """The states are brought to where they are kept, then the program runs over them once a step."""
        work = Work(repetition.program.is_shared_out, (ANYWHERE,), (ANYWHERE,))
        self.begin(work)
        pointers: Pointers = {}
        moves = []
        for state, start, kept in repetition.carries:
            target = pointers["input", state.attrs["name"]] = place(kept)
            move = sweeps.move(state.dtype)
            self.moves[move.name] = move
            moves.append(
                f"  call void @{move.name}(ptr {target}, ptr {place(start)}, i64 {self.extent(state.type.count)})"
            )
        pointers |= {("input", data.attrs["name"]): place(buffer) for data, buffer in repetition.captured}
        stacks = [("input", data.attrs["name"], data, place(buffer)) for data, buffer in repetition.slices]
        stacks += [("result", output.name, output.value, place(buffer)) for output, buffer in repetition.results]
        steps = self.steps(repetition, place)
        if repetition.trips is not None:  # what is not reached is 0
            results = [(stack, value.type) for kind, _, value, stack in stacks if kind == "result"]
            moves += [self.clear_rest(*result, steps, repetition) for result in results]
        self.lead()
        self.lines += moves
        if work.by_all:
            self.meet()
        label = self.open_loop("0", steps)
        step = f"%{label}.s"
        if repetition.value.attrs["reverse"]:
            self.lines.append(f"  %{label}.left = sub nsw i64 {steps}, 1")
            self.lines.append(f"  %{label}.t = sub nsw i64 %{label}.left, {step}")
            step = f"%{label}.t"
        for kind, name, value, stack in stacks:
            pointers[kind, name] = self.slice(stack, step, value.type)
        self.write_nests(repetition.program, pointers, base)
        if work.by_all:
            self.meet()
        self.close_loop(label)
        self.open = [work]

    def steps(self, repetition: Repetition, place: Callable[[Buffer], str]) -> str:
        """How many steps are taken."""
        most = self.extent(repetition.value.attrs["length"])
        if repetition.trips is None:
            return most
        wanted, some, steps = (self.fresh("trips") for _ in range(3))
        self.lines += [
            f"  {wanted} = load i64, ptr {place(repetition.trips)}, align 8",
            f"  {some} = call i64 @llvm.smax.i64(i64 {wanted}, i64 0)",
            f"  {steps} = call i64 @llvm.smin.i64(i64 {some}, i64 {most})",
        ]
        return steps

    def clear_rest(self, stack: str, slice_type: TensorType, steps: str, repetition: Repetition) -> str:
        """The call that clears the slices of a stack from step number `steps` on."""
        kernel, count, begin = sweeps.clear(slice_type.dtype), self.extent(slice_type.count), self.fresh("begin")
        self.moves[kernel.name] = kernel
        self.lines.append(f"  {begin} = mul nsw i64 {steps}, {count}")
        end = self.extent(multiply(repetition.value.attrs["length"], slice_type.count))
        return f"  call void @{kernel.name}(ptr {stack}, i64 {begin}, i64 {end})"

    def slice(self, stack: str, step: str, slice_type: TensorType) -> str:
        """A pointer to one slice of a stack."""
        offset, pointer = self.fresh("offset"), self.fresh("slice")
        kind = LLVM_TYPES[slice_type.dtype]
        self.lines.append(f"  {offset} = mul nsw i64 {step}, {self.extent(slice_type.count)}")
        self.lines.append(f"  {pointer} = getelementptr inbounds {kind}, ptr {stack}, i64 {offset}")
        return pointer


def load_pointers(program: Program, lines: list[str]) -> Iterator[tuple[tuple[str, str], str]]:
    """The address of every state, data input, scalar and result, by (kind, name)."""
    graph = program.graph
    tables = {
        "states": [value.attrs["name"] for value in graph.of_role("state")],
        "inputs": [value.attrs["name"] for value in graph.of_role("data")],
        "results": [output.name for output in graph.of_kind("result")],
    }
    for table, names in tables.items():
        for number, name in enumerate(names):
            slot, pointer = f"%{table}.slot.{number}", f"%{table}.{number}"
            lines += [
                f"  {slot} = getelementptr inbounds ptr, ptr %{table}, i64 {number}",
                f"  {pointer} = load ptr, ptr {slot}, align 8",
            ]
            yield ("result" if table == "results" else "input", name), pointer
    for number, value in enumerate(graph.of_role("scalar")):
        lines.append(f"  %scalar.{number} = getelementptr inbounds i64, ptr %scalars, i64 {number}")
        yield ("input", value.attrs["name"]), f"%scalar.{number}"


def run_check(index: int, buffer: Buffer, program: Program) -> Iterator[str]:
    offset = program.region(-1, buffer).offset
    yield f"  %check.{index} = getelementptr inbounds i8, ptr %work, i64 {offset}"
    yield f"  %count.{index} = load i64, ptr %check.{index}, align 8"
    yield f"  %bad.{index} = icmp ne i64 %count.{index}, 0"
    yield f"  br i1 %bad.{index}, label %fail.{index}, label %pass.{index}"
    yield f"fail.{index}:"
    yield f"  ret i32 {index + 1}"
    yield f"pass.{index}:"


# -- epoch


def gather(source: str, dtype: str) -> Kernel:
    """Rows begin to end of a batch from a data array, in a given order; uint8 for a float input comes out in [0, 1]."""
    name = f"gather_{source}_{dtype}"
    scaled = f"as_{dtype}({{}}) * {{}}" if source != dtype else "{}"
    lanes = scaled.format("load_lanes(data, row + j)", f"spread({dtype}({1 / 255!r}))")
    single = scaled.format("load(data, row + j)", f"{dtype}({1 / 255!r})")
    text = f"""def {name}(out, data, order, start, begin, end, columns):
    whole = columns - columns % {LANES}
    for i in range(begin, end):
        row = load(order, start + i) * columns
        for j in range(0, whole, {LANES}):
            store_lanes(out, i * columns + j, {lanes})
        for j in range(whole, columns):
            store(out, i * columns + j, {single})
"""
    parameters = (
        ("out", f"{dtype}*"), ("data", f"{source}*"), ("order", "i64*"),
        ("start", "i64"), ("begin", "i64"), ("end", "i64"), ("columns", "i64"),
    )  # fmt: skip
    return Kernel(name, text, parameters, inline=False)


def shuffle() -> Kernel:
    """Fisher and Yates's shuffle with one draw a step: the order of `graphc.ir.random.permutation`."""
    text = """def shuffle(order, count, seed, epoch):
    for i in range(count):
        store(order, i, i)
    for step in range(count - 1):
        last = count - 1 - step
        draw = random_bits(last, last >> 32, epoch, seed)
        chosen = (draw * (last + 1)) >> 32
        kept = load(order, last)
        store(order, last, load(order, chosen))
        store(order, chosen, kept)
"""
    parameters = (("order", "i64*"), ("count", "i64"), ("seed", "i64"), ("epoch", "i64"))
    return Kernel("shuffle", text, parameters, inline=False, calls=(philox.random_bits("i64"),))


def gathers(tensor_type: TensorType) -> tuple[Kernel, ...]:
    """The gather kernels of one input, by kind."""
    dtype = tensor_type.dtype
    plain = gather(dtype, dtype)
    return (plain, gather("u8", dtype)) if dtype in FLOATS else (plain,)


def epoch_kernels(program: Program) -> Iterator[Kernel]:
    yield shuffle()
    for value in program.graph.of_role("data"):
        yield from gathers(value.type)


def write_epoch(program: Program) -> str:
    graph, layout = program.graph, epoch_layout(program)
    data, results = graph.of_role("data"), graph.of_kind("result")
    meet = ["  call void @meet(ptr %meeting, i64 %threads)"] if program.is_shared_out else []
    lines = [
        "define i32 @epoch(ptr noalias %states, ptr noalias %work, ptr noalias %data, ptr noalias %kinds, "
        "ptr noalias %order, i64 %shuffled, i64 %seed, i64 %number, i64 %samples, i64 %batch, i64 %first, i64 %last, "
        f"ptr noalias %scalars, ptr noalias %totals, i64 %thread, i64 %threads) {ATTRIBUTES} {{",
        "entry:",
        "  %leads = icmp eq i64 %thread, 0",
        "  %following = add nsw i64 %thread, 1",
        f"  %meeting = getelementptr inbounds i8, ptr %work, i64 {meeting_place(program)}",
        f"  %inputs = alloca [{max(len(data), 1)} x ptr], align 8",
        f"  %results = alloca [{max(len(results), 1)} x ptr], align 8",
        "  %sizes = alloca i64, align 8",
    ]
    for number, offset in enumerate(layout.inputs):
        lines += point_into_work("inputs", number, offset)
    for number, offset in enumerate(layout.results):
        lines += point_into_work("results", number, offset)
    lines += [
        "  %wanted = icmp ne i64 %shuffled, 0",
        "  %mixes = and i1 %wanted, %leads",
        "  br i1 %mixes, label %mix, label %mixed",
        "mix:",
        "  call void @shuffle(ptr %order, i64 %samples, i64 %seed, i64 %number)",
        "  br label %mixed",
        "mixed:",
        *meet,
        "  br label %loop.entry",
        "loop.entry:",
        "  br label %loop",
        "loop:",
        "  %s = phi i64 [ %first, %loop.entry ], [ %next, %counted ]",
        "  %more = icmp slt i64 %s, %last",
        "  br i1 %more, label %body, label %done",
        "body:",
        "  %start = mul i64 %s, %batch",
        "  %left = sub i64 %samples, %start",
        "  %rows = call i64 @llvm.smin.i64(i64 %left, i64 %batch)",
        "  store i64 %rows, ptr %sizes, align 8",
        *rows_of_thread(program),
    ]
    for number, value in enumerate(data):
        lines += gather_rows(number, value.type)
    lines += [
        *meet,
        "  %status = call i32 @step(ptr %states, ptr %work, ptr %inputs, ptr %sizes, ptr %scalars, ptr %results, "
        "i64 %thread, i64 %threads)",
        "  %ok = icmp eq i32 %status, 0",
        "  br i1 %ok, label %succeeded, label %failed",
        "succeeded:",
        "  br i1 %leads, label %add, label %counted",
        "add:",
        "  %weight = sitofp i64 %rows to double",
    ]
    for number, output in enumerate(results):
        lines += add_to_total(number, output.value.type, layout.results[number])
    lines += [
        "  br label %counted",
        "counted:",
        "  %next = add nsw i64 %s, 1",
        "  br label %loop",
        "failed:",
        "  %where = trunc i64 %s to i32",
        f"  %scaled = mul i32 %where, {CHECKS}",
        "  %told = add i32 %scaled, %status",
        "  ret i32 %told",
        "done:",
        "  ret i32 0",
        "}",
    ]
    return "\n".join(lines) + "\n"


def rows_of_thread(program: Program) -> list[str]:
    """Which rows of a batch a thread gathers."""
    if not program.is_shared_out:
        return ["  %begin = add i64 0, 0", "  %end = add i64 %rows, 0"]
    return [
        "  %begin = call i64 @share(i64 %rows, i64 1, i64 %thread, i64 %threads)",
        "  %end = call i64 @share(i64 %rows, i64 1, i64 %following, i64 %threads)",
    ]


def point_into_work(table: str, number: int, offset: int) -> list[str]:
    return [
        f"  %{table}.at.{number} = getelementptr inbounds i8, ptr %work, i64 {offset}",
        f"  %{table}.slot.{number} = getelementptr inbounds ptr, ptr %{table}, i64 {number}",
        f"  store ptr %{table}.at.{number}, ptr %{table}.slot.{number}, align 8",
    ]


def gather_rows(number: int, tensor_type: TensorType) -> Iterator[str]:
    """One input's rows, by the kernel for the kind of array it comes from."""
    columns = bound(multiply(*tensor_type.shape[1:]))
    kernels = gathers(tensor_type)
    yield f"  %data.slot.{number} = getelementptr inbounds ptr, ptr %data, i64 {number}"
    yield f"  %data.{number} = load ptr, ptr %data.slot.{number}, align 8"
    call = f"(ptr %inputs.at.{number}, ptr %data.{number}, ptr %order, i64 %start, i64 %begin, i64 %end, i64 {columns})"
    if len(kernels) == 1:
        yield f"  call void @{kernels[PLAIN].name}{call}"
        return
    yield f"  %kind.slot.{number} = getelementptr inbounds i64, ptr %kinds, i64 {number}"
    yield f"  %kind.{number} = load i64, ptr %kind.slot.{number}, align 8"
    yield f"  %plain.{number} = icmp eq i64 %kind.{number}, {PLAIN}"
    yield f"  br i1 %plain.{number}, label %plain.go.{number}, label %image.go.{number}"
    for label, kind in (("plain", PLAIN), ("image", BYTES_AS_IMAGE)):
        yield f"{label}.go.{number}:"
        yield f"  call void @{kernels[kind].name}{call}"
        yield f"  br label %gathered.{number}"
    yield f"gathered.{number}:"


def add_to_total(number: int, tensor_type: TensorType, offset: int) -> Iterator[str]:
    """totals[number] += result * rows; only one-number results have a mean."""
    if bound(tensor_type.count) != 1:
        return
    kind = LLVM_TYPES[tensor_type.dtype]
    yield f"  %result.at.{number} = getelementptr inbounds i8, ptr %work, i64 {offset}"
    yield f"  %result.{number} = load {kind}, ptr %result.at.{number}, align 1"
    convert = {"f32": "fpext", "f64": "", "bool": "uitofp", "u8": "uitofp"}.get(tensor_type.dtype, "sitofp")
    operand = f"%result.{number}"
    if convert:
        yield f"  %wide.{number} = {convert} {kind} {operand} to double"
        operand = f"%wide.{number}"
    yield f"  %total.at.{number} = getelementptr inbounds double, ptr %totals, i64 {number}"
    yield f"  %total.{number} = load double, ptr %total.at.{number}, align 8"
    yield f"  %weighed.{number} = fmul double {operand}, %weight"
    yield f"  %sum.{number} = fadd double %total.{number}, %weighed.{number}"
    yield f"  store double %sum.{number}, ptr %total.at.{number}, align 8"

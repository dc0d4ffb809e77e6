"""The two functions of an artifact, as LLVM IR that calls the kernels: `step` for one batch and `epoch` for many.

    i32 step(states, work, inputs, sizes, scalars, results)
    i32 epoch(states, work, data, kinds, order, shuffled, seed, number, samples, batch, first, last,
              scalars, totals)

`states`, `inputs`, `results` and `data` point to arrays of pointers in the order of the graph, `sizes` to one i64 a
dim, `scalars` to eight bytes a scalar input. 0 is success, k says that check k - 1 failed before anything was updated;
`epoch` adds CHECKS times the number of the step that failed. `epoch` runs the steps first <= s < last: it gathers the
rows order[s * batch ...] of `data` into the arena, the last batch as small as it is, and adds every result times the
batch's size to `totals` (f64).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from graphc.backends import philox, sweeps
from graphc.backends.interface import BYTES_AS_IMAGE, CHECKS, PLAIN, EpochLayout, epoch_dim
from graphc.backends.primitives import LANES, Kernel
from graphc.backends.source import Source
from graphc.ir.graph import IRError
from graphc.ir.loops import Buffer, Repetition
from graphc.ir.program import Program, round_up
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
    kernels = {source.kernel.name: source.kernel for source in sources} | helpers
    parts = [declare(kernel) for kernel in kernels.values()]
    parts += {name: write_call(name, source, dims) for name, source in zip(names, sources, strict=True)}.values()
    parts += [step, "declare i64 @llvm.smin.i64(i64, i64)\ndeclare i64 @llvm.smax.i64(i64, i64)\n"]
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
    names = []
    for source in sources:
        extents = tuple(each for each in source.arguments if not isinstance(each, Buffer))
        names.append(known.setdefault((source.kernel.name, extents), f"nest_{len(known)}"))
    return names


def write_call(name: str, source: Source, dims: tuple[Dim, ...]) -> str:
    """A function in which the extents of a kernel are constants or products of the dims."""
    pointers = [parameter for parameter, kind in source.kernel.parameters if kind.endswith("*")]
    head = ", ".join([f"ptr noalias %{pointer}" for pointer in pointers] + [f"i64 %d{k}" for k in range(len(dims))])
    lines = [f"define internal void @{name}({head}) noinline {ATTRIBUTES} {{"]
    arguments = []
    for (parameter, kind), argument in zip(source.kernel.parameters, source.arguments, strict=True):
        if isinstance(argument, Buffer):
            arguments.append(f"ptr %{parameter}")
        else:
            arguments.append(f"{llvm_type(kind)} {extent_operand(argument, parameter, dims, lines)}")
    lines += [f"  call void @{source.kernel.name}({', '.join(arguments)})", "  ret void", "}"]
    return "\n".join(lines) + "\n"


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

    def write(self) -> str:
        self.lines = [
            "define i32 @step(ptr noalias %states, ptr noalias %work, ptr noalias %inputs, ptr noalias %sizes, "
            f"ptr noalias %scalars, ptr noalias %results) {ATTRIBUTES} {{",
            "entry:",
        ]
        for number, _ in enumerate(self.dims):
            self.lines += [
                f"  %size.{number} = getelementptr inbounds i64, ptr %sizes, i64 {number}",
                f"  %d{number} = load i64, ptr %size.{number}, align 8",
            ]
        self.write_nests(self.program, dict(load_pointers(self.program, self.lines)), base=0)
        self.lines += ["  ret i32 0", "}"]
        return "\n".join(self.lines) + "\n"

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"%{stem}.{self.count}"

    def write_nests(self, program: Program, pointers: Pointers, base: int) -> None:
        """base: where the program's own arena starts in that of the step."""
        for number, nest in enumerate(program.nests):
            place = partial(self.place, program, pointers, base, number)
            if nest.repetition is not None:
                inside = base + program.region(number, nest.repetition.work).offset
                self.write_repetition(nest.repetition, place, inside)
            else:
                name, source = self.calls[id(nest)]
                arguments = [f"ptr {place(each)}" for each in source.arguments if isinstance(each, Buffer)]
                self.call(name, arguments)
            for index, check in enumerate(program.checks):
                if check.nest == number:
                    self.lines += run_check(index, check.buffer, program)

    def place(self, program: Program, pointers: Pointers, base: int, number: int, buffer: Buffer) -> str:
        """A pointer to the memory of a buffer, as nest `number` of the program sees it."""
        if buffer.kind in ("input", "result"):
            return pointers[buffer.kind, buffer.name or buffer.value.attrs["name"]]
        pointer = self.fresh("work")
        offset = base + program.region(number, buffer).offset
        self.lines.append(f"  {pointer} = getelementptr inbounds i8, ptr %work, i64 {offset}")
        return pointer

    def call(self, name: str, arguments: list[str]) -> None:
        sizes = [f"i64 %d{index}" for index, _ in enumerate(self.dims)]
        self.lines.append(f"  call void @{name}({', '.join([*arguments, *sizes])})")

    def extent(self, extent: Extent) -> str:
        return extent_operand(extent, self.fresh("extent")[1:], self.dims, self.lines)

    def write_repetition(self, repetition: Repetition, place: Callable[[Buffer], str], base: int) -> None:
        """The states are brought to where they are kept, then the program runs over them once a step."""
        pointers: Pointers = {}
        for state, start, kept in repetition.carries:
            target = pointers["input", state.attrs["name"]] = place(kept)
            count = self.extent(state.type.count)
            move = sweeps.move(state.dtype)
            self.moves[move.name] = move
            self.lines.append(f"  call void @{move.name}(ptr {target}, ptr {place(start)}, i64 {count})")
        pointers |= {("input", data.attrs["name"]): place(buffer) for data, buffer in repetition.captured}
        stacks = [("input", data.attrs["name"], data, place(buffer)) for data, buffer in repetition.slices]
        stacks += [("result", output.name, output.value, place(buffer)) for output, buffer in repetition.results]
        steps, label = self.steps(repetition, place), self.fresh("loop")[1:]
        self.lines += [
            f"  br label %{label}.entry",
            f"{label}.entry:",
            f"  br label %{label}",
            f"{label}:",
            f"  %{label}.s = phi i64 [ 0, %{label}.entry ], [ %{label}.next, %{label}.end ]",
            f"  %{label}.more = icmp slt i64 %{label}.s, {steps}",
            f"  br i1 %{label}.more, label %{label}.body, label %{label}.done",
            f"{label}.body:",
        ]
        step = f"%{label}.s"
        if repetition.value.attrs["reverse"]:
            self.lines.append(f"  %{label}.left = sub nsw i64 {steps}, 1")
            self.lines.append(f"  %{label}.t = sub nsw i64 %{label}.left, {step}")
            step = f"%{label}.t"
        for kind, name, value, stack in stacks:
            pointers[kind, name] = self.slice(stack, step, value.type)
        self.write_nests(repetition.program, pointers, base)
        self.lines += [
            f"  br label %{label}.end",
            f"{label}.end:",
            f"  %{label}.next = add nsw i64 %{label}.s, 1",
            f"  br label %{label}",
            f"{label}.done:",
        ]

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
    """Rows of a data array, in a given order; uint8 for a float input is an image and comes out in [0, 1]."""
    name = f"gather_{source}_{dtype}"
    scaled = f"as_{dtype}({{}}) * {{}}" if source != dtype else "{}"
    lanes = scaled.format("load_lanes(data, row + j)", f"spread({dtype}({1 / 255!r}))")
    single = scaled.format("load(data, row + j)", f"{dtype}({1 / 255!r})")
    text = f"""def {name}(out, data, order, start, rows, columns):
    whole = columns - columns % {LANES}
    for i in range(rows):
        row = load(order, start + i) * columns
        for j in range(0, whole, {LANES}):
            store_lanes(out, i * columns + j, {lanes})
        for j in range(whole, columns):
            store(out, i * columns + j, {single})
"""
    parameters = (
        ("out", f"{dtype}*"), ("data", f"{source}*"), ("order", "i64*"),
        ("start", "i64"), ("rows", "i64"), ("columns", "i64"),
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
    lines = [
        "define i32 @epoch(ptr noalias %states, ptr noalias %work, ptr noalias %data, ptr noalias %kinds, "
        "ptr noalias %order, i64 %shuffled, i64 %seed, i64 %number, i64 %samples, i64 %batch, i64 %first, i64 %last, "
        f"ptr noalias %scalars, ptr noalias %totals) {ATTRIBUTES} {{",
        "entry:",
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
        "  br i1 %wanted, label %mix, label %loop.entry",
        "mix:",
        "  call void @shuffle(ptr %order, i64 %samples, i64 %seed, i64 %number)",
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
    ]
    for number, value in enumerate(data):
        lines += gather_rows(number, value.type)
    lines += [
        "  %status = call i32 @step(ptr %states, ptr %work, ptr %inputs, ptr %sizes, ptr %scalars, ptr %results)",
        "  %ok = icmp eq i32 %status, 0",
        "  br i1 %ok, label %counted, label %failed",
        "counted:",
        "  %weight = sitofp i64 %rows to double",
    ]
    for number, output in enumerate(results):
        lines += add_to_total(number, output.value.type, layout.results[number])
    lines += [
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
    call = f"(ptr %inputs.at.{number}, ptr %data.{number}, ptr %order, i64 %start, i64 %rows, i64 {columns})"
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

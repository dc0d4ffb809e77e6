"""`epoch`: the rows of every batch, in the order of the epoch, and a step on them."""

from __future__ import annotations

from collections.abc import Iterator

from graphc.backends import philox
from graphc.backends.entry.pieces import ATTRIBUTES, LLVM_TYPES, epoch_layout, told
from graphc.backends.interface import CHECKS, EPOCH_NUMBERS, EPOCH_WORDS, IN_PLACE, PLAIN, SHUFFLED, STEP_WORDS
from graphc.backends.line_products import gathered
from graphc.backends.primitives import LANES, Kernel
from graphc.ir.program import Program
from graphc.ir.random import GROUP
from graphc.ir.types import ALIGNMENT, FLOATS, TensorType, bound, multiply

FEW_COLUMNS = 4  # of a row that is written out number by number
ROWS_AHEAD = 2  # is the row that is on its way from memory


def gather(source: str, dtype: str, columns: int) -> Kernel:
    """Rows begin to end of a batch from a data array, in a given order; uint8 for a float input comes out in [0, 1].

    A row lies anywhere, so only the order tells early enough which one is next.
    """
    few = columns <= FEW_COLUMNS
    name = f"gather_{source}_{dtype}" + (f"_of_{columns}" if few else "")
    lanes = gathered("load_lanes(data, row + j)", source, dtype, lanes=True)
    single = gathered("load(data, row + {0})", source, dtype, lanes=False)
    store = f"store(out, i * columns + {{0}}, {single})"
    if few:
        rows = "".join(f"        {store.format(column)}\n" for column in range(columns))
    else:
        rows = f"""        ahead = load(order, start + minimum(i + {ROWS_AHEAD}, end - 1)) * columns
        for j in range(0, whole, {LANES}):
            prefetch(data, ahead + j)
            store_lanes(out, i * columns + j, {lanes})
        for j in range(whole, columns):
            {store.format("j")}
"""
    text = f"""def {name}(out, data, order, start, begin, end, columns):
    whole = columns - columns % {LANES}
    for i in range(begin, end):
        row = load(order, start + i) * columns
{rows}"""
    parameters = (
        ("out", f"{dtype}*"), ("data", f"{source}*"), ("order", "i64*"),
        ("start", "i64"), ("begin", "i64"), ("end", "i64"), ("columns", "i64"),
    )  # fmt: skip
    return Kernel(name, text, parameters, inline=few)


def shuffle() -> Kernel:
    """The order of `graphc.ir.random.permutation`: Fisher and Yates's shuffle from the inside out.

    draws  scratch: those of a group of neighbours
    """
    text = f"""def shuffle(order, draws, count, seed, epoch):
    for first in range(0, count, {GROUP}):
        element = spread(first >> 2) + indices(0)
        random_words(draws, element, element >> spread(32), spread(epoch), spread(seed))
        for j in range(0, {GROUP}, {LANES}):
            places = spread(first + j + 1) + indices(0)
            store_lanes(draws, j, (load_lanes(draws, j) * places) >> spread(32))
        for i in range(first, minimum(first + {GROUP}, count)):
            chosen = load(draws, i - first)
            store(order, i, load(order, chosen))
            store(order, chosen, i)
"""
    parameters = (("order", "i64*"), ("draws", "i64*"), ("count", "i64"), ("seed", "i64"), ("epoch", "i64"))
    return Kernel("shuffle", text, parameters, inline=False, calls=(philox.random_words(f"i64x{LANES}"),))


def gathers(tensor_type: TensorType, bytes_too: bool) -> tuple[Kernel, ...]:
    """The gather kernels of one input, by kind."""
    dtype, columns = tensor_type.dtype, row_size(tensor_type)
    plain = gather(dtype, dtype, columns)
    return (plain, gather("u8", dtype, columns)) if bytes_too and dtype in FLOATS else (plain,)


def row_size(tensor_type: TensorType) -> int:
    """How many numbers one sample has."""
    return bound(multiply(*tensor_type.shape[1:]))


def epoch_kernels(program: Program, gathering: dict[int, int], bytes_too: bool) -> Iterator[Kernel]:
    """What `epoch` calls beside the step; `gathering` is what the function of that name found."""
    yield shuffle()
    for number, value in enumerate(program.graph.of_role("data")):
        yield from gathers(value.type, bytes_too and number not in gathering.values())


def write_epoch(program: Program, meeting: int, gathering: dict[int, int], bytes_too: bool) -> str:
    graph, layout = program.graph, epoch_layout(program)
    data, results = graph.of_role("data"), graph.of_kind("result")
    meet = ["  call void @meet(ptr %meeting, i64 %threads)"] if program.is_shared_out else []
    lines = [
        f"define i32 @epoch(ptr noalias %call, i64 %thread, i64 %threads) {ATTRIBUTES} {{",
        "entry:",
        *told(EPOCH_WORDS, EPOCH_NUMBERS),
        "  %leads = icmp eq i64 %thread, 0",
        "  %following = add nsw i64 %thread, 1",
        f"  %meeting = getelementptr inbounds i8, ptr %work, i64 {meeting}",
        f"  %inputs = alloca [{max(len(data), 1)} x ptr]",
        f"  %results = alloca [{max(len(results), 1)} x ptr]",
        "  %sizes = alloca i64, align 8",
        f"  %step.call = alloca [{len(STEP_WORDS)} x i64], align 8",
        *([f"  %sources = alloca [{1 + len(data)} x ptr]"] if gathering else []),
        f"  %draws = alloca [{GROUP} x i64], align {ALIGNMENT}",
    ]
    for number, offset in enumerate(layout.inputs):
        lines += point_into_work("inputs", number, offset)
    for number, offset in enumerate(layout.results):
        lines += point_into_work("results", number, offset)
    for number, _ in enumerate(results):
        lines.append(f"  %total.at.{number} = getelementptr inbounds double, ptr %totals, i64 {number}")
    for number, word in enumerate(STEP_WORDS):
        lines.append(f"  %step.word.{number} = getelementptr inbounds i64, ptr %step.call, i64 {number}")
        lines.append(f"  store ptr %{word}, ptr %step.word.{number}, align 8")
    lines += [
        f"  %wanted = icmp eq i64 %ordering, {SHUFFLED}",
        f"  %as.they.lie = icmp eq i64 %ordering, {IN_PLACE}",
        "  %mixes = and i1 %wanted, %leads",
        "  br i1 %mixes, label %mix, label %mixed",
        "mix:",
        "  call void @shuffle(ptr %order, ptr %draws, i64 %samples, i64 %seed, i64 %number)",
        "  br label %mixed",
        "mixed:",
        *meet,
        "  %starts.anew = icmp ne i64 %fresh, 0",
        "  %clears = and i1 %starts.anew, %leads",
        "  br i1 %clears, label %clear, label %loop.entry",
        "clear:",
        *(f"  store double 0.0, ptr %total.at.{number}, align 8" for number, _ in enumerate(results)),
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
        lines += gather_rows(number, value.type, number in gathering.values(), bytes_too)
    arguments = "ptr %step.call, i64 %thread, i64 %threads"
    step = f"@run({arguments}, ptr %sources)" if gathering else f"@step({arguments})"
    lines += [
        *(["  %ordered = getelementptr inbounds i64, ptr %order, i64 %start"] if gathering else []),
        *(["  store ptr %ordered, ptr %sources"] if gathering else []),
        *meet,
        f"  %status = call i32 {step}",
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
        f"  store ptr %{table}.at.{number}, ptr %{table}.slot.{number}",
    ]


def gather_rows(number: int, tensor_type: TensorType, is_source: bool, bytes_too: bool) -> Iterator[str]:
    """One input's rows: where they lie, if they lie in order and as they are read, else brought together by the kernel
    for the kind of array they come from; or by a kernel of the step, which only needs to know the array of bytes."""
    columns, kind = row_size(tensor_type), LLVM_TYPES[tensor_type.dtype]
    plain, *image = gathers(tensor_type, bytes_too and not is_source)
    yield f"  %data.slot.{number} = getelementptr inbounds ptr, ptr %data, i64 {number}"
    yield f"  %data.{number} = load ptr, ptr %data.slot.{number}"
    yield f"  %kind.slot.{number} = getelementptr inbounds i64, ptr %kinds, i64 {number}"
    yield f"  %kind.{number} = load i64, ptr %kind.slot.{number}, align 8"
    yield f"  %plain.{number} = icmp eq i64 %kind.{number}, {PLAIN}"
    if is_source:
        yield f"  %source.slot.{number} = getelementptr inbounds ptr, ptr %sources, i64 {1 + number}"
        yield f"  store ptr null, ptr %source.slot.{number}"
    yield f"  %lies.{number} = and i1 %plain.{number}, %as.they.lie"
    yield f"  br i1 %lies.{number}, label %lies.go.{number}, label %moved.{number}"
    yield f"lies.go.{number}:"
    yield f"  %before.{number} = mul nsw i64 %start, {columns}"
    yield f"  %there.{number} = getelementptr inbounds {kind}, ptr %data.{number}, i64 %before.{number}"
    yield f"  store ptr %there.{number}, ptr %inputs.slot.{number}"
    yield f"  br label %gathered.{number}"
    yield f"moved.{number}:"
    yield f"  store ptr %inputs.at.{number}, ptr %inputs.slot.{number}"
    call = f"(ptr %inputs.at.{number}, ptr %data.{number}, ptr %order, i64 %start, i64 %begin, i64 %end, i64 {columns})"
    ways = [("plain", f"call void @{plain.name}{call}")]
    ways += [("image", f"call void @{kernel.name}{call}") for kernel in image]
    ways += [("image", f"store ptr %data.{number}, ptr %source.slot.{number}")] if is_source else []
    yield f"  br i1 %plain.{number}, label %plain.go.{number}, label %{ways[-1][0]}.go.{number}"
    for label, line in ways:
        yield f"{label}.go.{number}:"
        yield f"  {line}"
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
    yield f"  %total.{number} = load double, ptr %total.at.{number}, align 8"
    yield f"  %weighed.{number} = fmul double {operand}, %weight"
    yield f"  %sum.{number} = fadd double %total.{number}, %weighed.{number}"
    yield f"  store double %sum.{number}, ptr %total.at.{number}, align 8"

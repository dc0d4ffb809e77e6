"""`step`: the calls of all nests in order, loops around those that are repeated, checks and meetings between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from graphc.backends import sweeps
from graphc.backends.entry.gathering import GATHER, RUN_HEAD, STEP
from graphc.backends.entry.pieces import ATTRIBUTES, LLVM_TYPES, extent_operand, llvm_type, told
from graphc.backends.interface import MEETING_BYTES, STEP_WORDS
from graphc.backends.primitives import Kernel
from graphc.backends.source import Source
from graphc.backends.source.lines import Cut
from graphc.ir.frozen import dataclass
from graphc.ir.loops import Buffer, LoopNest, Repetition
from graphc.ir.program import Program, is_private, round_up
from graphc.ir.types import Dim, Extent, TensorType, multiply, substitute


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


STEP_HEAD = f"define i32 @step(ptr noalias %call, i64 %thread, i64 %threads) {ATTRIBUTES} {{"


class StepWriter:
    """Writes `step`: calls of nests in order, loops around those that are repeated, checks between them.

    moves    the kernels, by name, that bring the states of loops to where they are kept
    meeting  where in the arena threads meet
    gathers  see gathering
    """

    def __init__(
        self, program: Program, calls: dict[int, tuple[str, Source]], meeting: int, gathers: dict[int, int]
    ) -> None:
        self.program = program
        self.meeting = meeting
        self.gathers = gathers
        self.calls = calls
        self.dims = program.dims
        self.known = set(program.graph.dims)  # those that have a size where lines are written
        self.lines: list[str] = []
        self.count = 0
        self.moves: dict[str, Kernel] = {}
        self.shared_out = program.is_shared_out
        self.private_bytes = round_up(program.private_bytes)  # of the arena, for each thread
        self.open: list[Work] = []  # since threads met last
        self.rejoined = ""  # where all threads go on, while lines are written that only the first one runs

    def write(self) -> str:
        self.lines = [
            RUN_HEAD if self.gathers else STEP_HEAD,
            "entry:",
            *told(STEP_WORDS),
            "  %leads = icmp eq i64 %thread, 0",
            "  %following = add nsw i64 %thread, 1",
            f"  %meeting = getelementptr inbounds i8, ptr %work, i64 {self.meeting}",
            f"  %private.all = getelementptr inbounds i8, ptr %meeting, i64 {MEETING_BYTES}",
            f"  %private.at = mul nsw i64 %thread, {self.private_bytes}",
            "  %private = getelementptr inbounds i8, ptr %private.all, i64 %private.at",
        ]
        for number, _ in enumerate(self.program.graph.dims):
            self.lines += [
                f"  %size.{number} = getelementptr inbounds i64, ptr %sizes, i64 {number}",
                f"  %d{number} = load i64, ptr %size.{number}, align 8",
            ]
        self.write_nests(self.program, dict(load_pointers(self.program, self.lines)), base=0)
        self.meet()
        self.lines += ["  ret i32 0", "}"]
        return "\n".join(self.lines) + "\n" + (STEP if self.gathers else "")

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
        if id(nest) in self.gathers:
            written = *written, span(Buffer("input", self.program.graph.of_role("data")[self.gathers[id(nest)]]))
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
                self.write_gathering(nest, name, source, place)
            for index, check in enumerate(program.checks):
                if check.nest == number:
                    self.write_check(index, check.buffer, program)

    def write_check(self, index: int, buffer: Buffer, program: Program) -> None:
        """All threads look at what was counted, and have done so before anyone returns or counts again: who comes late
        would go another way than the others, and wait for them."""
        self.meet()
        region = program.region(-1, buffer)
        failed = ["  call void @meet(ptr %meeting, i64 %threads)"] if self.shared_out else []
        self.lines += [
            f"  %check.{index} = getelementptr inbounds i8, ptr %work, i64 {region.offset}",
            f"  %count.{index} = load i64, ptr %check.{index}, align 8",
            f"  %bad.{index} = icmp ne i64 %count.{index}, 0",
            f"  br i1 %bad.{index}, label %fail.{index}, label %pass.{index}",
            f"fail.{index}:",
            *failed,
            f"  ret i32 {index + 1}",
            f"pass.{index}:",
        ]
        self.open.append(Work(True, (("work", region.offset, region.offset + region.size),), ()))

    def write_gathering(self, nest: LoopNest, name: str, source: Source, place: Callable[[Buffer], str]) -> None:
        """A nest, in two ways if it may bring the rows of an input together."""
        if id(nest) not in self.gathers or source.gather is None:
            self.write_nest(name, source, place)
            return
        look, plain, gather, done = (self.fresh("rows")[1:] for _ in range(4))
        number = self.gathers[id(nest)]

        def placed(buffer: Buffer) -> str:
            return {"data": f"%source.{number}", "order": f"%order.{number}"}.get(buffer.kind) or place(buffer)

        self.lines += [
            f"  %lies.{number} = icmp eq ptr %sources, null",
            f"  br i1 %lies.{number}, label %{plain}, label %{look}",
            f"{look}:",
            f"  %order.{number} = load ptr, ptr %sources",
            f"  %source.at.{number} = getelementptr inbounds ptr, ptr %sources, i64 {1 + number}",
            f"  %source.{number} = load ptr, ptr %source.at.{number}",
            f"  %none.{number} = icmp eq ptr %source.{number}, null",
            f"  br i1 %none.{number}, label %{plain}, label %{gather}",
            f"{gather}:",
        ]
        self.write_nest(name + GATHER, source.gather, placed)
        self.lines += [f"  br label %{done}", f"{plain}:"]
        self.write_nest(name, source, place)
        self.lines += [f"  br label %{done}", f"{done}:"]

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
        numbers = [f"%d{index}" if dim in self.known else "0" for index, dim in enumerate(self.dims)]
        numbers += [share[each] for each in shares(source)]
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
            if kept == start:
                continue
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
        self.bring(repetition, moves)
        if work.by_all:
            self.meet()
        label = self.open_loop("0", steps)
        step = f"%{label}.s"
        if repetition.value.attrs["reverse"]:
            self.lines.append(f"  %{label}.left = sub nsw i64 {steps}, 1")
            self.lines.append(f"  %{label}.t = sub nsw i64 %{label}.left, {step}")
            step = f"%{label}.t"
        if repetition.rows is not None:
            self.write_rows_left(step, *repetition.rows)
        for kind, name, value, stack in stacks:
            pointers[kind, name] = self.slice(stack, step, most_of(value.type, repetition))
        self.write_nests(repetition.program, pointers, base)
        if work.by_all:
            self.meet()
        self.close_loop(label)
        self.known -= set(repetition.rows or ()) - set(self.program.graph.dims)
        self.open = [work]

    def bring(self, repetition: Repetition, moves: list[str]) -> None:
        """The calls before the first step of a loop."""
        self.lines += moves

    def write_rows_left(self, step: str, some: Dim, all_rows: Dim) -> None:
        """The number of rows of one step."""
        number, done, left = self.dims.index(some), self.fresh("done"), self.fresh("left")
        self.lines += [
            f"  {done} = mul nsw i64 {step}, {some.max}",
            f"  {left} = sub nsw i64 %d{self.dims.index(all_rows)}, {done}",
            f"  %d{number} = call i64 @llvm.smin.i64(i64 {left}, i64 {some.max})",
        ]
        self.known.add(some)

    def steps(self, repetition: Repetition, place: Callable[[Buffer], str]) -> str:
        """How many steps are taken."""
        if repetition.rows is not None:
            return self.slices(*repetition.rows)
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

    def slices(self, some: Dim, all_rows: Dim) -> str:
        """How many times `some` rows at most are all of them."""
        more, steps = self.fresh("more"), self.fresh("steps")
        self.lines.append(f"  {more} = add nsw i64 %d{self.dims.index(all_rows)}, {some.max - 1}")
        self.lines.append(f"  {steps} = sdiv i64 {more}, {some.max}")
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


def most_of(one: TensorType, repetition: Repetition) -> TensorType:
    """The type of a slice in every step but the last."""
    if repetition.rows is None:
        return one
    some, _ = repetition.rows
    return one.with_shape(tuple(substitute(extent, some, some.max) for extent in one.shape))


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
                f"  {pointer} = load ptr, ptr {slot}",
            ]
            yield ("result" if table == "results" else "input", name), pointer
    for number, value in enumerate(graph.of_role("scalar")):
        lines.append(f"  %scalar.{number} = getelementptr inbounds i64, ptr %scalars, i64 {number}")
        yield ("input", value.attrs["name"]), f"%scalar.{number}"

"""`step` with readings of a clock before and after every kernel, and what they say in a log of each thread.

All else is as in the plain `step`: the same kernels, whose code is taken from the cache, the same order, meetings and
checks. The clock is the system's `clock_gettime`, which the host names in the log: unlike a counter of cycles it
counts in nanoseconds, is the same for all processors, and waits for the instructions before it. A reading takes some
tens of nanoseconds; how many is noted in every call.

The log lies in the private part of the arena, behind what the kernels need there. Its words of eight bytes are the
clock's address and number, room for what it says, how many events there were, then three words for each of the first
EVENTS of these (slot, begin, end), then two for each slot: nanoseconds and how often. Every kernel has a slot, those of
loops their own; a loop's own slot is for bringing its states to where they are kept. The last three are WAIT, WHOLE and
READING.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from graphc.backends.entry.step import Pointers, StepWriter
from graphc.backends.source import Source
from graphc.backends.source.lines import Cut
from graphc.ir.loops import Buffer, LoopNest, Repetition
from graphc.ir.program import Program, round_up

WORD = 8  # bytes
CLOCK, KIND, SAID, USED, HEAD = 0, 1, 2, 4, 8  # words of the log
EVENTS = 1 << 14  # that are kept of one call and thread; all count for the sums
EVENT_WORDS, SLOT_WORDS = 3, 2
SUMS = HEAD + EVENTS * EVENT_WORDS  # where the slots begin
EXTRA = WAIT, WHOLE, READING = ("wait", "whole", "reading")

CLOCKS = f"""
define internal i64 @reading(ptr %log) noinline nounwind "no-builtins" {{
  %clock = load ptr, ptr %log, align 8
  %kind.at = getelementptr inbounds i64, ptr %log, i64 {KIND}
  %kind.word = load i64, ptr %kind.at, align 8
  %kind = trunc i64 %kind.word to i32
  %seconds.at = getelementptr inbounds i64, ptr %log, i64 {SAID}
  %rest.at = getelementptr inbounds i64, ptr %log, i64 {SAID + 1}
  %ignored = call i32 %clock(i32 %kind, ptr %seconds.at)
  %seconds = load i64, ptr %seconds.at, align 8
  %rest = load i64, ptr %rest.at, align 8
  %whole = mul i64 %seconds, 1000000000
  %now = add i64 %whole, %rest
  ret i64 %now
}}

define internal void @note(ptr %log, i64 %slot, i64 %begin) noinline nounwind "no-builtins" {{
entry:
  %end = call i64 @reading(ptr %log)
  %pair = mul i64 %slot, {SLOT_WORDS}
  %place = add i64 %pair, {SUMS}
  %sum.at = getelementptr inbounds i64, ptr %log, i64 %place
  %count.at = getelementptr inbounds i64, ptr %sum.at, i64 1
  %took = sub i64 %end, %begin
  %sum = load i64, ptr %sum.at, align 8
  %more = add i64 %sum, %took
  store i64 %more, ptr %sum.at, align 8
  %count = load i64, ptr %count.at, align 8
  %next = add i64 %count, 1
  store i64 %next, ptr %count.at, align 8
  %used.at = getelementptr inbounds i64, ptr %log, i64 {USED}
  %used = load i64, ptr %used.at, align 8
  %then = add i64 %used, 1
  store i64 %then, ptr %used.at, align 8
  %fits = icmp slt i64 %used, {EVENTS}
  br i1 %fits, label %keep, label %done
keep:
  %words = mul i64 %used, {EVENT_WORDS}
  %first = add i64 %words, {HEAD}
  %event.at = getelementptr inbounds i64, ptr %log, i64 %first
  store i64 %slot, ptr %event.at, align 8
  %begin.at = getelementptr inbounds i64, ptr %event.at, i64 1
  store i64 %begin, ptr %begin.at, align 8
  %end.at = getelementptr inbounds i64, ptr %event.at, i64 2
  store i64 %end, ptr %end.at, align 8
  br label %done
done:
  ret void
}}
"""

Path = tuple[int, ...]  # the number of a nest; of one in a loop, behind that of the loop


def nests(program: Program, before: Path = ()) -> Iterator[tuple[Path, LoopNest]]:
    """Every nest of a program in the order of slots: a loop, then the nests in it."""
    for number, nest in enumerate(program.nests):
        yield (*before, number), nest
        if nest.repetition is not None:
            yield from nests(nest.repetition.program, (*before, number))


def slot_count(program: Program) -> int:
    return sum(1 for _ in nests(program)) + len(EXTRA)


def log_bytes(program: Program) -> int:
    return round_up((SUMS + SLOT_WORDS * slot_count(program)) * WORD)


def private_bytes(program: Program) -> int:
    """Of the arena, for each thread: what kernels need, then the log."""
    return round_up(program.private_bytes) + log_bytes(program)


class TimedWriter(StepWriter):
    """Writes `step` with the readings."""

    def __init__(
        self, program: Program, calls: dict[int, tuple[str, Source]], meeting: int, gathers: dict[int, int]
    ) -> None:
        super().__init__(program, calls, meeting, gathers)
        self.private_bytes = private_bytes(program)
        keys: list[int | str] = [*(id(nest) for _, nest in nests(program)), *EXTRA]
        self.slots = {key: number for number, key in enumerate(keys)}
        self.slot = 0  # of the nest that is being written
        self.in_parts = False

    def read(self) -> str:
        begin = self.fresh("begin")
        self.lines.append(f"  {begin} = call i64 @reading(ptr %log)")
        return begin

    def note(self, slot: int, begin: str) -> None:
        self.lines.append(f"  call void @note(ptr %log, i64 {slot}, i64 {begin})")

    def write_nests(self, program: Program, pointers: Pointers, base: int) -> None:
        if program is not self.program:
            super().write_nests(program, pointers, base)
            return
        start = round_up(program.private_bytes)
        self.lines.append(f"  %log = getelementptr inbounds i8, ptr %private, i64 {start}")
        begin = self.read()
        super().write_nests(program, pointers, base)
        self.meet()
        self.note(self.slots[WHOLE], begin)
        self.note(self.slots[READING], self.read())
        if self.shared_out:  # no log is read before it is complete
            self.lines.append("  call void @meet(ptr %meeting, i64 %threads)")

    def write_gathering(self, nest: LoopNest, name: str, source: Source, place: Callable[[Buffer], str]) -> None:
        self.slot = self.slots[id(nest)]
        super().write_gathering(nest, name, source, place)

    def call(self, name: str, source: Source, place: Callable[[Buffer], str], share: dict[str, str]) -> None:
        if self.in_parts:
            super().call(name, source, place, share)
            return
        begin = self.read()
        super().call(name, source, place, share)
        self.note(self.slot, begin)

    def call_parts(self, name: str, source: Source, place: Callable[[Buffer], str], cut: Cut) -> None:
        begin, self.in_parts = self.read(), True
        super().call_parts(name, source, place, cut)
        self.in_parts = False
        self.note(self.slot, begin)

    def bring(self, repetition: Repetition, moves: list[str]) -> None:
        if moves:
            loop = next(nest for _, nest in nests(self.program) if nest.repetition is repetition)
            begin = self.read()
            super().bring(repetition, moves)
            self.note(self.slots[id(loop)], begin)

    def meet(self) -> None:
        self.rejoin()
        if self.shared_out and self.open:
            begin = self.read()
            super().meet()
            self.note(self.slots[WAIT], begin)
        self.open.clear()

"""Kernels of the GPU uncompiled, thread by thread, with an eye on everything they do to memory.

Every thread is a generator that stops where threads meet. What is found: reads and writes outside of a buffer; numbers
that one thread writes and another one touches without a meeting between them, or, of another block, at all; shared
memory read before it is written; meetings that not all threads of a block come to. Slow: for small sizes.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphc.backends.cuda.device import Call, LaunchCall, Place
from graphc.backends.cuda.emulation.machine import Emulator
from graphc.backends.cuda.emulation.phases import MEETINGS, TENSORS, name_of
from graphc.backends.cuda.entries import Entry
from graphc.backends.cuda.plan import Drawing
from graphc.backends.cuda.threads import WARP, Piece, Shared
from graphc.backends.meanings import ELEMENTS, fragments
from graphc.backends.primitives import Kernel, define, element_of, meaning
from graphc.ir.loops import Buffer
from graphc.ir.types import DTYPES, Dim, evaluate


class Fault(Exception):
    """Something threads must not do."""


Now = tuple[int, int, int]  # block, phase, thread


class Watch:
    """Who is at work: the thread at hand of the block at hand, between two meetings."""

    def __init__(self) -> None:
        self.block = 0
        self.thread = 0
        self.phase = 0  # counts on through all blocks
        self.fenced: Now | None = None  # who fenced last, and when
        self.counted: dict[tuple[int, int], dict[int, Now]] = {}  # by what blocks count with, their fences before
        self.heard: dict[int, Now] = {}  # of other blocks, what counting told the one at hand
        self.since: Now | None = None  # who heard of it, and when

    @property
    def now(self) -> Now:
        return self.block, self.phase, self.thread

    def begin(self) -> None:
        """A block begins, and knows of no other."""
        self.phase += 1
        self.fenced, self.heard, self.since = None, {}, None

    def fence(self) -> None:
        """What counting told is heard; what was written before can be told."""
        self.fenced = self.now
        if self.heard and self.since is None:
            self.since = self.now

    def count(self, counter: tuple[int, int]) -> None:
        known = self.counted.setdefault(counter, {})
        if self.fenced == self.now:
            known[self.block] = self.now
        self.heard, self.since = dict(known), None

    def knows(self, other: Now) -> bool:
        """Whether the thread at hand knows what one of another block did."""
        told = self.heard.get(other[0])
        if told is None or self.since is None:
            return False
        was_told = other[1] < told[1] or other == told
        return was_told and (self.since[1] < self.phase or self.since == self.now)


class Memory:
    """A buffer's numbers, and who touched each of them last.

    starts_empty  nothing may be read that was not written by this block
    """

    def __init__(self, name: str, numbers: np.ndarray, watch: Watch, starts_empty: bool = False) -> None:
        self.name = name
        self.numbers = numbers
        self.watch = watch
        self.starts_empty = starts_empty
        self.writers: dict[int, Now] = {}  # (block, phase, thread) of the last write
        self.readers: dict[int, list[Now]] = {}  # of the last reads, one each of two threads

    def forget(self) -> None:
        self.writers.clear()
        self.readers.clear()

    def here(self, index: int, what: str) -> Now:
        if not 0 <= index < self.numbers.size:
            raise Fault(f"{what} {self.name}[{index}] of {self.numbers.size}")
        return self.watch.now

    def count(self, index: int) -> Any:
        """One more; whoever counts comes one after the other."""
        self.here(index, "counts")
        self.watch.count((id(self), index))
        before = self.numbers[index]
        self.numbers[index] = before + 1
        return before

    def read(self, index: int) -> Any:
        now = self.here(index, "reads")
        writer = self.writers.get(index)
        if writer is None and self.starts_empty:
            raise Fault(f"{now} reads {self.name}[{index}] before it is written")
        self.part(now, writer, f"reads {self.name}[{index}], written")
        known = self.readers.setdefault(index, [])
        if now not in known:
            self.readers[index] = [*known[-1:], now]
        return self.numbers[index]

    def write(self, index: int, number: Any) -> None:
        now = self.here(index, "writes")
        if np.asarray(number).dtype != self.numbers.dtype:
            raise TypeError(f"{self.name}: a value of {np.asarray(number).dtype} among {self.numbers.dtype}")
        self.part(now, self.writers.get(index), f"writes {self.name}[{index}], written")
        for reader in self.readers.get(index, ()):
            self.part(now, reader, f"writes {self.name}[{index}], read")
        self.writers[index] = now
        self.numbers[index] = number

    def part(self, now: Now, other: Now | None, what: str) -> None:
        """Raises Fault unless there is a meeting between the two, or they are one thread's."""
        if other is None or (now[0] == other[0] and (now[1] != other[1] or now[2] == other[2])):
            return
        if now[0] != other[0] and self.watch.knows(other):
            return
        raise Fault(f"thread {now[2]} of block {now[0]} {what} by thread {other[2]} of block {other[0]}")


class Pointer:
    """An address in a memory."""

    def __init__(self, memory: Memory, start: int = 0) -> None:
        self.memory = memory
        self.start = start


def load(pointer: Pointer, index: int) -> Any:
    return pointer.memory.read(int(pointer.start + index))


def store(pointer: Pointer, index: int, number: Any) -> None:
    pointer.memory.write(int(pointer.start + index), number)


def shift(pointer: Pointer, index: int) -> Pointer:
    return Pointer(pointer.memory, int(pointer.start + index))


def load_first(pointer: Pointer, index: int) -> Any:
    check_first(pointer, index)
    return load(pointer, index)


def store_first(pointer: Pointer, index: int, number: Any) -> None:
    check_first(pointer, index)
    store(pointer, index, number)


def check_first(pointer: Pointer, index: int) -> None:
    """Raises Fault unless an access of four elements may begin here."""
    numbers = pointer.memory.numbers
    start = numbers.ctypes.data + int(pointer.start + index) * numbers.itemsize
    if start % min(4 * numbers.itemsize, 16):
        raise Fault(f"an access of four elements begins at {pointer.memory.name}[{pointer.start + index}]")


def count_up(pointer: Pointer, index: int) -> Any:
    return pointer.memory.count(int(pointer.start + index))


def known_to(watch: Watch) -> dict[str, Callable[..., Any]]:
    """The primitives that have to do with memory, in words of who does it."""
    return {
        "load": load, "store": store, "shift": shift, "load_first": load_first, "store_first": store_first,
        "count_up": count_up, "fence": watch.fence,
    }  # fmt: skip


class _Meetings(ast.NodeTransformer):
    """A thread that comes to a meeting hands over the meeting's name and arguments, and gets what it came for."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if name_of(node) not in MEETINGS:
            return node
        return ast.Yield(ast.Tuple([ast.Constant(name_of(node)), *node.args], ast.Load()))


def function_of(kernel: Kernel, watch: Watch) -> Callable[..., Any]:
    tree = ast.fix_missing_locations(_Meetings().visit(ast.parse(kernel.text)))
    stopping = replace(kernel, text=ast.unparse(tree))
    own = known_to(watch)
    return define(stopping, lambda name: own[name] if name in own else meaning(kernel, name))


Thread = Generator[tuple[Any, ...], Any, None]


def run_block(kernel: Kernel, threads: int, arguments: Sequence[Any], watch: Watch) -> None:
    """All threads of one block; an argument that is None is the thread's own number. Raises Fault."""
    function = function_of(kernel, watch)
    watch.begin()
    started: list[Thread] = []
    for thread in range(threads):
        watch.thread = thread
        found = function(*(np.int64(thread) if each is None else each for each in arguments))
        if found is not None:
            started.append(found)
    told: list[Any] = [None] * len(started)
    while started:
        asked = [go_on(thread, told[number], watch, number) for number, thread in enumerate(started)]
        here = {(None if each is None else each[0], place(thread)) for each, thread in zip(asked, started, strict=True)}
        if len(here) > 1:
            raise Fault(f"kernel {kernel.name}: not all threads come to a meeting: {sorted(map(str, here))}")
        if asked[0] is None:
            return
        told = answers(asked)
        watch.phase += asked[0][0] == "barrier"


def go_on(thread: Thread, told: Any, watch: Watch, number: int) -> tuple[Any, ...] | None:
    """What a thread comes to a meeting with; None when it is done."""
    watch.thread = number
    try:
        return thread.send(told)
    except StopIteration:
        return None


def place(thread: Thread) -> int:
    """The line a thread stopped at."""
    frame = thread.gi_frame  # type: ignore[attr-defined]
    return -1 if frame is None else frame.f_lineno


def answers(asked: list[Any]) -> list[Any]:
    if asked[0][0] == "barrier":
        return [None] * len(asked)
    if asked[0][0] in TENSORS:
        return [tensor_answer(asked, thread) for thread in range(len(asked))]
    partners = [number ^ int(each[2]) for number, each in enumerate(asked)]
    if any(number // WARP != partner // WARP for number, partner in enumerate(partners)):
        raise Fault("threads of different warps tell each other numbers")
    return [asked[partner][1] for partner in partners]


def tensor_answer(asked: list[Any], thread: int) -> Any:
    """A thread's number of a product, of what all threads of its warp said."""
    number, first = TENSORS.index(asked[thread][0]), thread // WARP * WARP
    warp = range(first, first + WARP)
    left = {fragments("a", other, each): asked[other][1 + each] for other in warp for each in range(4)}
    right = {fragments("b", other, each): asked[other][5 + each] for other in warp for each in range(2)}
    row, column = fragments("c", thread, number)
    total = asked[thread][7 + number]
    for depth in range(8):
        total = np.float32(np.float64(left[row, depth]) * np.float64(right[depth, column]) + np.float64(total))
    return total


class Watched(Emulator):
    """The emulation of a program that raises Fault where threads do what they must not."""

    def __init__(self, drawing: Drawing) -> None:
        super().__init__(drawing)
        self.entries = {made.name: made for made in drawing.entries}
        self.rooms = {each: size for made in drawing.entries for piece in made.pieces for each, size in piece.rooms}
        self.sizes: Mapping[Dim, int] = {}

    def run(self, inputs: Sequence[np.ndarray], sizes: Mapping[Dim, int]) -> int:
        self.sizes = sizes
        return super().run(inputs, sizes)

    def do(self, call: Call) -> None:
        if not isinstance(call, LaunchCall) or call.threads == 1:
            super().do(call)
            return
        made, words = self.entries[call.kernel], list(call.words)
        for _ in range(made.loops):
            trips, turn = words.pop(0), words.pop(0)
            if isinstance(trips, Place) and self.bytes_at(trips, 8).view(np.int64)[0] <= turn:
                return
        counts = [self.bytes_at(word, 8).view(np.int64)[0] for word in words[: made.checks] if isinstance(word, Place)]
        with np.errstate(all="ignore"):
            self.launch(made, words[made.checks :], failed=any(counts))

    def launch(self, made: Entry, words: list[Any], failed: bool) -> None:
        watch, known, first = Watch(), dict[tuple[Any, ...], Memory](), 0
        grids = words[len(words) - len(made.pieces) :]
        for piece, guarded, blocks in zip(made.pieces, made.guarded, grids, strict=True):
            pointers = {}
            pairs = zip(piece.kernel.parameters, piece.arguments, strict=True)
            for (_, kind), buffer in pairs:
                if not isinstance(buffer, Buffer):
                    continue
                word = words.pop(0)
                key = (word.block, word.number, word.offset)
                if key not in known:
                    numbers = self.numbers(buffer, word, element_of(kind))
                    known[key] = Memory(f"{buffer.kind} {buffer.value.op.name}", numbers, watch)
                pointers[buffer] = Pointer(known[key])
            for block in self.order(0 if guarded and failed else blocks):
                watch.block = first + block
                run_block(piece.kernel, piece.threads, self.arguments(piece, pointers, block, blocks, watch), watch)
            first += blocks

    def order(self, blocks: int) -> Iterable[int]:
        """In which the blocks of a piece run, one after the other."""
        return range(blocks)

    def arguments(
        self, piece: Piece, pointers: Mapping[Buffer, Pointer], block: int, blocks: int, watch: Watch
    ) -> list[Any]:
        told = {"thread": None, "block": np.int64(block), "blocks": np.int64(blocks)}
        found: list[Any] = []
        for (name, kind), each in zip(piece.kernel.parameters, piece.arguments, strict=True):
            if isinstance(each, Buffer):
                found.append(pointers[each])
            elif isinstance(each, Shared):
                numbers = np.zeros(each.count, ELEMENTS[each.dtype])
                found.append(Pointer(Memory(name, numbers, watch, starts_empty=True)))
            elif isinstance(each, str):
                found.append(told[each])
            else:
                found.append(ELEMENTS[element_of(kind)](evaluate(each, self.sizes)))
        return found

    def numbers(self, buffer: Buffer, word: Place, dtype: str) -> np.ndarray:
        """All that may be touched of a buffer: what the sizes at hand make of it, or its room if it is scratch."""
        kind = DTYPES[dtype]
        size = self.rooms.get(buffer) or evaluate(buffer.value.type.count, self.sizes) * kind.itemsize
        return self.bytes_at(word, size).view(kind)

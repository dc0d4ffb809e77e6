"""What the functions of a library for GPUs do: the launches, copies and clears of a step, given to a stream.

Every call of the driver goes by a pointer that `open` has noted in `loaded`; behind these lie the handles of the module
and of its kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate

from graphc.backends.cuda.device import (
    PLACE_ALIGNMENT,
    STATUS_WORDS,
    Clear,
    Copy,
    DeviceProgram,
    Grid,
    Launch,
    Place,
    Repeat,
    Step,
    Turn,
    Word,
)
from graphc.backends.cuda.entries import Entry, entry, word_names
from graphc.backends.cuda.feeding import gather_entry, means_entry, tally_entry
from graphc.backends.cuda.plan import Drawing
from graphc.backends.cuda.threads import WIDEST, Piece
from graphc.backends.entry.pieces import extent_operand
from graphc.backends.export.body import MOST_SAMPLES, Body, settings
from graphc.backends.export.signatures import SIZES, Argument, Face, Signature, is_output
from graphc.backends.export.statuses import MISALIGNED, NULL, SIZE
from graphc.backends.primitives import Kernel
from graphc.backends.target import BuildError
from graphc.ir import ops
from graphc.ir.frozen import dataclass
from graphc.ir.loops import Buffer
from graphc.ir.types import DTYPES, Dim, Extent, TensorType, bound, multiply, round_up

FUNCTIONS = (
    "cuLaunchKernel", "cuMemcpyDtoDAsync_v2", "cuMemsetD8Async", "cuModuleUnload", "cuModuleLoadData",
    "cuModuleGetFunction", "cuFuncSetAttribute",
)  # fmt: skip
MODULE = 8 * len(FUNCTIONS)  # where the handle of the module lies among what `open` notes; those of kernels come behind
NUMBER_BYTES = 256  # of a result that is one number, in work


@dataclass(frozen=True, slots=True)
class Made:
    """One function: how it looks, and what it does.

    scalars  where they lie in work, and behind them the results that are one number; an epoch has there, too, the
             inputs of a batch, one behind the other, and what it counts and adds up: see `feeding`
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
    def inputs(self) -> list[int]:
        sizes = [round_up(slot.type.max_bytes, PLACE_ALIGNMENT) for slot in self.program.inputs.slots]
        return [*accumulate(sizes, initial=self.work_bytes)]

    @property
    def done(self) -> int:
        return self.inputs[-1]

    @property
    def epoch_bytes(self) -> int:
        return self.done + 8 * (2 + len(self.face.numbers))

    @property
    def signature(self) -> Signature:
        return self.given_to_stream(self.name, self.face.call, "One batch, given to a stream.")

    @property
    def epoch(self) -> Signature:
        text = f"{self.face.epoch.text} Rows of the order must be below samples: nobody looks whether they are."
        return self.given_to_stream(f"{self.name}_epoch", self.face.epoch, text)

    def given_to_stream(self, name: str, signature: Signature, text: str) -> Signature:
        """The same function as for the processor, with a stream in place of threads."""
        memory = (Argument("loaded", "const void *"), Argument("state", "void *"), Argument("work", "void *"))
        own = ("state", "work", "thread", "threads")
        rest = [each for each in signature.arguments if each.name not in own]
        rest = [replace(each, text="") if each.name == "means" else each for each in rest]  # there is no thread 0
        last = (Argument("status", "int64_t *"), Argument("stream", "void *", "a CUstream"))
        return Signature(name, (*memory, *rest, *last), text)


def settings_entry(count: int) -> Entry:
    """The launch that leaves so many words in memory; its words: where, and these."""
    names = [f"word{number}" for number in range(count)]
    stores = "".join(f"    store(out, {number}, {name})\n" for number, name in enumerate(names))
    text = f"def words_{count}(out, {', '.join(names)}):\n{stores}"
    kernel = Kernel(f"words_{count}", text, (("out", "i64*"), *((name, "i64") for name in names)))
    dims = tuple(Dim(name, 1) for name in names)  # which an entry is told as numbers
    out = Buffer("settings", ops.full(value=0, type=TensorType("i64", ())), "out")
    return entry((Piece(kernel, (out, *dims), Grid(1, 1, 1), 1),), (False,), 0, 0, dims)


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


class Steps(Calls):
    """Writes what a call does."""

    def __init__(self, made: Made, names: Sequence[str], signature: Signature) -> None:
        super().__init__(signature)
        self.made, self.program, self.names = made, made.program, list(names)
        self.turns: list[str] = []  # of the loops around
        most = max(len(word_names(entry)) for entry in made.drawing.entries)
        self.told, self.places = self.room(most, "i64"), self.room(most, "ptr")

    def write(self) -> str:
        face = self.made.face
        arrays = [*(each.name for each in face.inputs), *(each.name for each in face.call.arguments if is_output(each))]
        pointers = ["loaded", "state", "work", "status", *arrays]
        self.refuse_null([*pointers, *(["results"] if face.results is not None else [])])
        self.refuse_odd(arrays)
        for argument, dim in zip(face.sizes, face.member.graph.dims, strict=True):
            self.refuse_outside(argument.name, dim.max)
        for number, argument in enumerate(face.sizes):
            self.do(f"%d{number} = add i64 %{argument.name}, 0")
        self.settings()
        self.steps(self.program.steps)
        self.finish()
        self.do("ret i32 0")
        return self.end()

    def refuse_null(self, names: Sequence[str]) -> None:
        for name in names:
            none = self.let(f"icmp eq ptr %{name}, null")
            self.refuse([self.let(f"select i1 {none}, i32 {NULL}, i32 0")])

    def refuse_odd(self, names: Sequence[str]) -> None:
        """Arrays that begin where an access of many bytes must not."""
        for name in names:
            over = self.let(f"and i64 {self.let(f'ptrtoint ptr %{name} to i64')}, {WIDEST - 1}")
            self.refuse([self.let(f"select i1 {self.let(f'icmp ne i64 {over}, 0')}, i32 {MISALIGNED}, i32 0")])

    def refuse_outside(self, name: str, most: int) -> None:
        """A count that is not from 1 to the most."""
        under, over = self.let(f"icmp slt i64 %{name}, 1"), self.let(f"icmp sgt i64 %{name}, {most}")
        self.refuse([self.let(f"select i1 {self.let(f'or i1 {under}, {over}')}, i32 {SIZE}, i32 0")])

    def settings(self) -> None:
        """Those that are given, or as they were at export, to the device, eight bytes each."""
        face = self.made.face
        if face.settings is None:
            return
        slots, words = settings(self, face), []
        for number, field in enumerate(face.settings.fields):
            kind = f"i{8 * SIZES[field.kind]}"
            found = self.let(f"load {kind}, ptr {self.at(slots, 8 * number)}, align 8")
            words.append(found if kind == "i64" else self.let(f"zext {kind} {found} to i64"))
        # As parameters of a kernel they are read now, and no memory of the host later, where calls are captured.
        self.start(settings_entry(len(words)).name, [self.address(Place("scalars")), *words, "1"], "1", 1)

    def finish(self) -> None:
        """Numbers to where they are wanted, and the status."""
        face = self.made.face
        offsets = iter(face.results.offsets if face.results is not None else ())
        results = self.number("results") if face.results is not None else ""
        for slot, output in zip(self.program.results.slots, face.member.graph.of_kind("result"), strict=True):
            if not output.value.shape:
                target = self.let(f"add i64 {results}, {next(offsets)}")
                source = self.address(Place("results", slot.offset))
                self.copy(target, source, str(DTYPES[slot.type.dtype].itemsize))
        target = self.number("status")
        if self.program.checks:
            self.copy(target, self.address(self.program.status), "8")
        else:
            self.clear(target, "8")

    def number(self, pointer: str) -> str:
        """A pointer that was given, as a number."""
        return self.let(f"ptrtoint ptr %{pointer} to i64")

    def copy(self, target: str, source: str, size: str) -> None:
        self.driver("cuMemcpyDtoDAsync_v2", f"i64 {target}, i64 {source}, i64 {size}, ptr %stream")

    def clear(self, target: str, size: str) -> None:
        self.driver("cuMemsetD8Async", f"i64 {target}, i8 0, i64 {size}, ptr %stream")

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
            self.clear(target, size)
        self.do(f"br label %{done}")
        self.label(done)

    def launch(self, step: Launch) -> None:
        blocks = "0"
        for grid in step.grids:
            blocks = self.let(f"add i64 {blocks}, {self.word(grid)}")
        self.start(step.kernel, [self.word(word) for word in step.words], blocks, step.threads, step.shared_bytes)

    def start(self, name: str, words: Sequence[str], blocks: str, threads: int, shared: int = 0) -> None:
        """Launch a kernel with these words."""
        for number, word in enumerate(words):
            slot = self.at(self.told, 8 * number)
            self.do(f"store i64 {word}, ptr {slot}, align 8")
            self.do(f"store ptr {slot}, ptr {self.at(self.places, 8 * number)}, align 8")
        count = self.let(f"trunc i64 {blocks} to i32")
        place = self.at("%loaded", MODULE + 8 + 8 * self.names.index(name))
        kernel = self.let(f"load ptr, ptr {place}, align 8")
        shape = f"i32 {count}, i32 1, i32 1, i32 {threads}, i32 1, i32 1, i32 {shared}"
        self.driver("cuLaunchKernel", f"ptr {kernel}, {shape}, ptr %stream, ptr {self.places}, ptr null")

    def repeat(self, step: Repeat) -> None:
        length = self.extent(step.length)
        with self.counted(length) as count:
            last = self.let(f"sub i64 {length}, 1")
            self.turns.append(self.let(f"sub i64 {last}, {count}") if step.reverse else count)
            self.steps(step.body)
            self.turns.pop()

    @contextmanager
    def counted(self, length: str) -> Iterator[str]:
        """A loop around what is written inside, and at which turn it is, from 0 on. It counts in memory, as what is
        inside may be many blocks of code."""
        counter, test, inside, done = self.room(1, "i64"), self.fresh(), self.fresh(), self.fresh()
        self.do(f"store i64 0, ptr {counter}, align 8")
        self.do(f"br label %{test}")
        self.label(test)
        count = self.let(f"load i64, ptr {counter}, align 8")
        self.do(f"br i1 {self.let(f'icmp slt i64 {count}, {length}')}, label %{inside}, label %{done}")
        self.label(inside)
        yield count
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
        for order, limit in (("slt", 1), ("sgt", grid.most)):
            out = self.let(f"icmp {order} i64 {found}, {limit}")
            found = self.let(f"select i1 {out}, i64 {limit}, i64 {found}")
        return found

    def extent(self, extent: Extent) -> str:
        dims: tuple[Dim, ...] = self.made.face.member.graph.dims
        return extent_operand(extent, self.fresh(), dims, self.lines)

    def address(self, place: Place) -> str:
        found = self.beyond(*self.base(place))
        for turn, (count, size) in zip(self.turns, place.steps, strict=False):
            step = self.let(f"mul i64 {self.extent(count)}, {size}")
            found = self.let(f"add i64 {found}, {self.let(f'mul i64 {turn}, {step}')}")
        return found

    def beyond(self, pointer: str, offset: int) -> str:
        found = self.number(pointer)
        return self.let(f"add i64 {found}, {offset}") if offset else found

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


class Epoch(Steps):
    """Writes an epoch: all steps are given to the stream at once, and none waits for the host.

    Every step counts itself, and adds its results up, on the device; after one that failed a check no state changes.
    """

    def write(self) -> str:
        self.refuse_null(["loaded", "state", "work", "status", "means", *(each.name for each in self.made.face.inputs)])
        self.refuse_outside("samples", MOST_SAMPLES)
        self.refuse_outside("batch", self.made.face.member.graph.dims[0].max)
        self.settings()
        self.clear(self.beyond("work", self.made.done), str(self.made.epoch_bytes - self.made.done))
        # And the word that says whether a step before has failed, and what blocks count with.
        self.clear(self.address(self.program.status), str(8 * STATUS_WORDS))
        more = self.let("add i64 %samples, %batch")
        steps = self.let(f"udiv i64 {self.let(f'sub i64 {more}, 1')}, %batch")
        in_order = self.let("icmp eq ptr %order, null")
        with self.counted(steps) as count:
            first = self.let(f"mul i64 {count}, %batch")
            left = self.let(f"sub i64 %samples, {first}")
            is_less = self.let(f"icmp slt i64 {left}, %batch")
            self.do(f"%d0 = select i1 {is_less}, i64 {left}, i64 %batch")
            self.bring(in_order, first)
            self.steps([step for step in self.program.steps if not self.is_fresh_start(step)])
            self.add_up()
        self.tell()
        self.do("ret i32 0")
        return self.end()

    def is_fresh_start(self, step: Step) -> bool:
        return isinstance(step, Clear) and step.target == self.program.status

    def bring(self, in_order: str, first: str) -> None:
        """The rows of a batch, to where the step reads them."""
        values = self.made.face.member.graph.of_role("data")
        given = list(zip(values, self.made.face.inputs, self.made.inputs, strict=False))
        copied, gathered, there = self.fresh(), self.fresh(), self.fresh()
        self.do(f"br i1 {in_order}, label %{copied}, label %{gathered}")
        self.label(copied)
        for value, argument, offset in given:
            row = bound(multiply(*value.shape[1:])) * DTYPES[value.dtype].itemsize
            before, size = self.let(f"mul i64 {first}, {row}"), self.let(f"mul i64 %d0, {row}")
            source = self.let(f"add i64 {self.number(argument.name)}, {before}")
            self.copy(self.beyond("work", offset), source, size)
        self.do(f"br label %{there}")
        self.label(gathered)
        for value, argument, offset in given:
            places = [self.beyond("work", offset), self.number(argument.name), self.number("order"), self.done(0)]
            self.feed(gather_entry(value, value.dtype), places, "%d0")
        self.do(f"br label %{there}")
        self.label(there)

    def feed(self, made: Entry, places: Sequence[str], count: str) -> None:
        """Launch an entry of `feeding` for so many rows."""
        (piece,) = made.pieces
        blocks = self.blocks(piece.grid)
        self.start(made.name, [*places, count, blocks], blocks, piece.threads)

    def done(self, word: int) -> str:
        return self.beyond("work", self.made.done + 8 * word)

    def add_up(self) -> None:
        results = [self.address(Place("results", slot.offset)) for slot in self.program.results.slots]
        places = [self.address(self.program.status), self.done(0), self.done(2), *results]
        self.feed(tally_entry(self.made.face.member.graph), places, "%d0")

    def tell(self) -> None:
        """Means and status to where they are wanted."""
        *_, steps = self.made.face.means.offsets
        places = [self.beyond("means", 0), self.beyond("means", steps), self.done(0), self.done(2)]
        self.feed(means_entry(self.made.face.member.graph), places, "%samples")
        self.copy(self.number("status"), self.address(self.program.status), "8")

    def base(self, place: Place) -> tuple[str, int]:
        if place.block == "inputs":
            return "work", self.made.inputs[place.number] + place.offset
        return super().base(place)

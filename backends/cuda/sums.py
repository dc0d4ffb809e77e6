"""Sums over threads of many blocks: each block or team leaves its part, and the last block that is done, or a second
kernel, adds the parts up in order.

How many parts there are depends on the largest sizes only, so every sum has one order, and with it the same bits, on
every device and for every grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphc.backends.cuda.device import Grid
from graphc.backends.cuda.threads import THREADS, WARP, NotCovered, Piece, Threads, grid_of, made_of, name_of
from graphc.backends.source.lines import identity
from graphc.ir.loops import Buffer, Index, Store, Term, walked_by
from graphc.ir.program import parts_buffer
from graphc.ir.types import bound, round_up

MOST_OF_LAST = 1024  # parts that a thread of the last block adds up one after the other; with more, blocks share them


class Sums(Threads):
    """Adds what is complete after the loops to threads."""

    part_count = 0  # of the sums that parts have left
    is_alone = False  # one block does what comes after the loops
    helpers = 1  # threads side by side that add up the parts of a column
    gathered: Sequence[Term] = ()  # columns whose number at the point at hand is known

    @property
    def totals(self) -> list[Term]:
        return [term for term in self.terms if term.kind == "total"]

    @property
    def columns(self) -> list[Term]:
        return [term for term in self.terms if term.kind == "column"]

    def room_for(self, term: Term, parts: int) -> str:
        """The pointer to where `parts` parts leave a sum."""
        pointer = self.parts_pointer(term)
        self.rooms[parts_buffer(term)] = parts * round_up(term.value.type.max_bytes)
        return pointer

    def start_totals(self) -> None:
        for term in self.totals:
            self.line(f"{self.running(term)} = {identity(name_of(term), term.dtype)}")

    def add_totals(self, terms: Iterable[Term], *conditions: str) -> None:
        for term in terms:
            with self.once_for(term.operands[0].axes, *conditions):
                self.add_to(self.running(term), term, self.operand(term.operands[0], False))

    def leave_block_totals(self, parts: int) -> None:
        """What a block has of each total goes to its place among the parts."""
        if not self.totals:
            return
        for number, term in enumerate(self.totals):
            self.over_warp(self.running(term), term, WARP)
            self.to_block(self.running(term), term, number)
        self.line("barrier()")
        with self.block("if thread == 0:"):
            for number, term in enumerate(self.totals):
                self.of_block(self.running(term), term, number)
                self.line(f"store({self.room_for(term, parts)}, block, {self.running(term)})")

    # -- what is complete after the loops

    def ended(self, grid: Grid, column_parts: int = 0) -> tuple[Piece, ...]:
        """The kernel so far with what comes after its loops. The last block does that too, unless it is much."""
        if not self.totals and not self.columns:
            return (self.finished(self.nest.name, grid),)
        most = max((bound(self.count(axes)) for axes in self.late_groups()), default=1)
        if -(-most // THREADS) * column_parts // helpers_for(most, column_parts) > MOST_OF_LAST:
            return self.finished(self.nest.name, grid), type(self)(self.nest).finish(grid.most, column_parts)
        with self.last_of("blocks", "done", all_told=not self.totals):  # for these all have met
            self.forget()
            self.is_alone = True
            self.finish_lines(grid.most, column_parts)
        return (self.finished(self.nest.name, grid),)

    def forget(self) -> None:
        """What has a name by now goes by another one from here on."""
        self.names = {}
        self.mode = "thread"

    def finish(self, total_parts: int, column_parts: int) -> Piece:
        """A kernel of its own that does what comes after the loops."""
        self.begin()
        written = self.finish_lines(total_parts, column_parts)
        extents = [self.count(axes) for axes in self.late_groups()] or [1]
        grid = grid_of(max(extents, key=bound), THREADS)
        return self.finished(f"{self.nest.name}_finish", Grid(1, 1, 1) if self.reads(written) else grid)

    def finish_lines(self, total_parts: int, column_parts: int) -> set[Buffer]:
        """All that comes after the loops; where numbers that stand alone are written."""
        self.part_count = column_parts
        groups = self.late_groups()
        self.check_late(groups)
        self.row_terms(None)
        self.add_up_totals(total_parts)
        for term in self.terms:
            if term.late and not term.axes and term.kind in ("compute", "column"):
                self.define(term)
        single = [store for store in self.nest.stores if self.is_late_number(store)]
        if single:
            with self.block(f"if {'' if self.is_alone else '(block == 0) & '}(thread == 0):"):
                for store in single:
                    self.save(self.pointers[store.buffer], "0", self.operand(store.term, False), False)
        for axes, stores in groups.items():
            self.late_points(axes, stores)
        return {store.buffer for store in single}

    def is_late_number(self, store: Store) -> bool:
        return store.term.late and not store.index and store.term.kind != "scatter"

    def reads(self, written: set[Buffer]) -> bool:
        """Whether some of these are read as well: then one block does all."""
        return any(term.detail[0] in written for term in self.terms if term.kind == "load")

    def late_groups(self) -> dict[tuple[int, ...], list[Store]]:
        """What is stored after the loops, by the axes it walks; sums that stay where they are gathered too."""
        stores = [
            store for store in self.nest.stores if store.term.late and store.index and store.term.kind != "scatter"
        ]
        stores = [store for store in stores if store.term.kind != "column" or store.buffer != store.term.detail[0]]
        for term in self.columns:
            if term.detail[0].kind != "scratch" and walked_by(term.detail[1]):
                stores.append(Store(term, term.detail[0], term.detail[1]))
        groups: dict[tuple[int, ...], list[Store]] = {}
        for store in stores:
            groups.setdefault(tuple(sorted(walked_by(store.index))), []).append(store)
        return groups

    def check_late(self, groups: dict[tuple[int, ...], list[Store]]) -> None:
        """Raises NotCovered where what is late reads what is written at another point."""
        written: dict[Buffer, Index] = {store.buffer: store.index for stores in groups.values() for store in stores}
        for term in self.terms:
            if term.kind == "take" and term.detail[0] in written:
                raise NotCovered(f"{self.nest.name} looks up what it writes")
            if (
                term.kind == "load"
                and term.detail[0] in written
                and set(term.detail[1]) != set(written[term.detail[0]])
            ):
                raise NotCovered(f"{self.nest.name} reads what it writes elsewhere")

    def add_up_totals(self, parts: int) -> None:
        """The totals of all parts, known to every thread."""
        for number, term in enumerate(self.totals):
            name, pointer = self.name(term), self.room_for(term, parts)
            self.line(f"{name} = {identity(name_of(term), term.dtype)}")
            with self.block(f"for part in range(thread, {parts}, {THREADS}):"):
                self.add_to(name, term, f"load({pointer}, part)")
            self.over_warp(name, term, WARP)
            self.to_block(name, term, number)
        if self.totals:
            self.line("barrier()")
        for number, term in enumerate(self.totals):
            self.of_block(self.name(term), term, number)

    def late_points(self, axes: tuple[int, ...], stores: list[Store]) -> None:
        count = self.count_text(axes)
        self.helpers = helpers_for(bound(self.count(axes)), self.part_count) if self.is_alone else 1
        if self.helpers > 1:
            points = THREADS // self.helpers
            self.line(f"helper = thread % {self.helpers}")
            with self.block(f"for first in range(0, {count}, {points}):"):
                self.line(f"point = minimum(first + thread // {self.helpers}, {count} - 1)")
                self.decode("point", axes)
                needed = made_of(store.term for store in stores)
                self.gathered = [term for term in self.columns if term in needed and term.axes]
                for term in self.gathered:
                    self.gather(term)
                # Nobody but the one thread that may write a number of a state reads it.
                with self.block(f"if (helper == 0) & (first + thread // {self.helpers} < {count}):"):
                    self.define_late(stores)
                    for store in stores:
                        self.put(store)
            self.gathered = ()
            return
        first, step = "thread", str(THREADS)
        if not self.is_alone:
            first, step = f"block * {THREADS} + thread", f"blocks * {THREADS}"
        with self.block(f"for point in range({first}, {count}, {step}):"):
            self.decode("point", axes)
            self.define_late(stores)
            for store in stores:
                self.put(store)

    def define(self, term: Term) -> None:
        if term.kind != "column":
            super().define(term)
        elif term not in self.gathered:
            self.gather(term)

    def gather(self, term: Term) -> None:
        """A column's number at a point, of what all parts have for it."""
        index, pointer = self.index(term.detail[1]), self.room_for(term, self.part_count)
        name, padded = self.name(term), self.padded(term)
        if self.helpers > 1:
            self.line(f"{name} = {identity(name_of(term), term.dtype)}")
            with self.block(f"for part in range(helper, {self.part_count}, {self.helpers}):"):
                self.add_to(name, term, f"load({pointer}, part * ({padded}) + {index})")
            self.over_warp(name, term, self.helpers)
            return
        self.line(f"{name} = load({pointer}, {index})")
        with self.block(f"for part in range(1, {self.part_count}):"):
            self.add_to(name, term, f"load({pointer}, part * ({padded}) + {index})")


def helpers_for(points: int, parts: int) -> int:
    """How many threads of one block add up the parts of each of so many columns, where they are many for one."""
    helpers = 1
    while helpers < WARP and 2 * helpers * points <= THREADS and parts > 8 * helpers:
        helpers *= 2
    return helpers

"""Nests of few long rows: several blocks share each row, and go through it as often as its lanes are walked.

A block does a slab of a row. What a row's lanes are reduced to each of them leaves in memory, and the last one at the
row adds that up in order; the next kernel finds it there. How many slabs there are depends on the largest sizes only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from graphc.backends.cuda.teams import FEW, Teams
from graphc.backends.cuda.threads import MOST_BLOCKS, THREADS, NotCovered, Piece, check_states, grid_of
from graphc.backends.source.lines import identity
from graphc.ir.loops import Buffer, LoopNest, Term, phase_count, phase_roots, walked_by
from graphc.ir.program import parts_buffer
from graphc.ir.types import DTYPES, bound, multiply

LONG = 1 << 14  # lanes of a row from which on several blocks share it
EACH = 1 << 12  # lanes of a slab, at least
ROW = "row"  # scratch for what rows are reduced to


class Slabs(Teams):
    """Writes nests with rows, and nothing summed across them."""

    def __init__(self, nest: LoopNest, phase: int = 0) -> None:
        super().__init__(nest)
        self.phase = phase

    def pieces(self) -> tuple[Piece, ...]:
        """The kernels, in order. Raises NotCovered."""
        kinds = {term.kind for term in self.terms}
        if not self.nest.frame or "row" not in kinds or kinds & {"scatter", "product", "total", "column"}:
            raise NotCovered("not rows alone")
        rows = bound(self.count(range(self.nest.lane)))
        if rows >= FEW or bound(self.nest.lane_extent) < LONG:
            raise NotCovered("rows that blocks take whole")
        check_states(self.nest)
        read = {term.detail[0] for term in self.terms if term.kind in ("load", "take")}
        if any(store.buffer in read for store in self.nest.stores if not self.store_is_lanes(store)):
            raise NotCovered("a number of a row is read and written")
        phases = [phase for phase in range(phase_count(self.nest)) if phase_roots(self.nest, phase)]
        return tuple(Slabs(self.nest, phase).piece(phase == phases[-1]) for phase in phases)

    def piece(self, is_last: bool) -> Piece:
        """The kernel that goes through the lanes of one phase."""
        axes, lane = range(self.nest.lane), bound(self.nest.lane_extent)
        rows = bound(self.count(axes))
        slabs = min(-(-lane // EACH), max(MOST_BLOCKS // max(rows, 1), 1))
        self.width, self.slices = THREADS, 1
        reduced = self.reduced_in(self.phase)
        self.begin()
        self.row_terms(None)
        self.line(f"each = ({self.extents[-1]} + {slabs * THREADS - 1}) // {slabs * THREADS} * {THREADS}")
        with self.block(f"for turn in range(block, {self.count_text(axes)} * {slabs}, blocks):"):
            self.line(f"row = turn // {slabs}")
            self.line(f"first_lane = turn % {slabs} * each")
            self.line(f"stop = minimum(first_lane + each, {self.extents[-1]})")
            self.decode("row", axes)
            for phase in range(self.phase + 1):
                self.known_of_row(phase)
            self.lanes_of_row(self.phase)
            if reduced:
                self.leave_rows(reduced, rows, slabs, is_last)
            elif is_last:
                self.row_stores_if("(first_lane == 0) & (thread == 0)")
        return self.finished(self.nest.name, grid_of(multiply(rows, slabs), 1))

    def reduced_in(self, phase: int) -> list[Term]:
        return [term for term in self.terms if term.kind == "row" and term.operands[0].phase == phase]

    def known_of_row(self, phase: int) -> None:
        """The numbers of a row that are known before its lanes of a phase."""
        for term in self.reduced_in(phase - 1):
            self.line(f"{self.name(term)} = load({self.row_pointer(term)}, row)")
        self.terms_of_row(phase)

    def row_pointer(self, term: Term) -> str:
        buffer = Buffer("scratch", term.value, ROW)
        self.rooms[buffer] = bound(self.count(range(self.nest.lane))) * DTYPES[term.dtype].itemsize
        return self.pointers.get(buffer) or self.pointer(buffer, self.fresh("rows"), term.dtype)

    def leave_rows(self, reduced: list[Term], rows: int, slabs: int, is_last: bool) -> None:
        """The first thread has what the slab comes to; the last block at the row knows what all of it comes to."""
        for term in reduced:
            pointer = self.parts_pointer(term)
            self.rooms[parts_buffer(term)] = rows * slabs * DTYPES[term.dtype].itemsize
            with self.block("if thread == 0:"):
                self.line(f"store({pointer}, turn, {self.name(term)})")
        with self.last_of(str(slabs), "slabs", rows, "row", all_told=False):
            for term in reduced:
                pointer, name = self.parts_pointer(term), self.fresh("whole")
                self.line(f"{name} = {identity(str(term.detail), term.dtype)}")
                with self.block(f"for part in range(thread, {slabs}, {THREADS}):"):
                    self.add_to(name, term, f"load({pointer}, row * {slabs} + part)")
                self.over_team(name, term, THREADS)
                self.names[term] = name
                if not is_last:
                    with self.block("if thread == 0:"):
                        self.line(f"store({self.row_pointer(term)}, row, {name})")
            if is_last:
                for phase in range(self.phase + 1, phase_count(self.nest)):
                    self.terms_of_row(phase)
                self.row_stores_if("thread == 0")

    def row_stores_if(self, condition: str) -> None:
        """What is one number a row goes to memory."""
        stores = [store for store in self.nest.stores if not self.store_is_lanes(store)]
        with self.block(f"if {condition}:") if stores else nullcontext():
            for store in stores:
                with self.once_for(walked_by(store.index) | {self.nest.lane}):
                    self.put(store)

    @contextmanager
    def lanes(self) -> Iterator[None]:
        with self.block(f"for j in range(first_lane + thread, stop, {THREADS}):"):
            yield

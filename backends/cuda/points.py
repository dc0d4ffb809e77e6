"""Nests whose points are computed one by one: each thread takes some of them. Numbers of all points may be summed."""

from __future__ import annotations

from graphc.backends.cuda.device import Grid
from graphc.backends.cuda.sums import Sums
from graphc.backends.cuda.threads import THREADS, NotCovered, Piece, check_states, grid_of
from graphc.backends.source.lines import EACH
from graphc.ir.loops import Index, LoopNest, phase_count, walked_by
from graphc.ir.types import Extent, content

SUM_BLOCKS = 1056  # which sum parts of a whole; with what they do one after the other, it fixes the order of sums
SUM_EACH = 4  # points for each of their threads, at least


WIDE = 4  # points of a thread side by side, where all of them lie so in memory
FIRST = "#"  # stands for what tells the first of several accesses from the others


class Points(Sums):
    """Writes nests without reductions, or with reductions of everything to one number."""

    wide = 1
    plain = False  # the lane is that of the first of several points

    def __init__(self, nest: LoopNest) -> None:
        super().__init__(nest)
        self.together: set[str] = set()  # indices of places that lie side by side for points that do

    def variable(self, axis: int) -> str:
        own = self.wide > 1 and axis == self.nest.lane
        return ("j" if self.plain else f"(j + {EACH})") if own else super().variable(axis)

    def line(self, text: str) -> None:
        """One line; with EACH in it, one for every one of the points side by side."""
        for lane in range(self.wide if EACH in text else 1):
            first = "_first" if lane == 0 else ""
            self.lines.append("    " * self.depth + text.replace(EACH, str(lane)).replace(FIRST, first))

    def load(self, pointer: str, index: str, lanes: bool, step: Extent = 1) -> str:
        return f"load{FIRST}({pointer}, {index})" if index in self.together else super().load(pointer, index, lanes)

    def save(self, pointer: str, index: str, text: str, lanes: bool, step: Extent = 1) -> None:
        if index in self.together:
            self.line(f"store{FIRST}({pointer}, {index}, {text})")
        else:
            super().save(pointer, index, text, lanes)

    def index(self, index: Index) -> str:
        """What is different for points side by side comes last, so that the rest is seen to be the same."""
        step = dict(index).get(self.nest.lane)
        if self.wide == 1 or step != 1:
            return super().index(index)
        self.plain = True
        text = f"{super().index(index)} + {EACH}"
        self.plain = False
        if all(content(step) % WIDE == 0 for axis, step in index if axis != self.nest.lane):
            self.together.add(text)
        return text

    def is_wide(self) -> bool:
        """Whether points side by side lie side by side in all memory that is written, and nothing is one number for
        all of them."""
        if self.loose or not self.nest.frame or content(self.nest.lane_extent) % WIDE:
            return False
        lane = self.nest.lane
        stores = all(dict(store.index).get(lane) == 1 for store in self.nest.stores if not store.term.late)
        return stores and all(lane in term.operands[0].axes for term in self.totals)

    def pieces(self) -> tuple[Piece, ...]:
        """The kernels, in order. Raises NotCovered."""
        if {term.kind for term in self.terms} & {"row", "column", "scatter", "product"} or phase_count(self.nest) > 1:
            raise NotCovered("not every point by itself")
        check_states(self.nest)
        axes = tuple(range(len(self.nest.frame)))
        alone = all(extent == 1 for extent in self.nest.frame)
        self.begin()
        if self.is_wide():
            self.wide, self.mode = WIDE, "few"
        self.start_totals()
        if not alone:
            self.row_terms(None)
        each = THREADS * self.wide
        own = f"thread * {self.wide}" if self.wide > 1 else "thread"
        with self.block(f"for point in range(block * {each} + {own}, {self.count_text(axes)}, blocks * {each}):"):
            self.decode("point", axes)
            if alone:
                self.row_terms(None)
            self.point()
        grid = self.grid_for()
        self.leave_block_totals(grid.most)
        return self.ended(grid)

    def forget(self) -> None:
        super().forget()
        self.wide = 1

    def grid_for(self) -> Grid:
        extent = self.count(range(len(self.nest.frame)))
        if not self.totals:
            return grid_of(extent, THREADS * self.wide)
        blocks = grid_of(extent, THREADS * SUM_EACH, SUM_BLOCKS).most
        return Grid(blocks, 1, blocks)

    def point(self) -> None:
        for term in self.terms:
            if not term.late and term.axes and term.kind in ("load", "take", "guard", "compute"):
                self.define(term)
        self.add_totals(self.totals)
        for store in self.nest.stores:
            if not store.term.late:
                with self.once_for(walked_by(store.index)):
                    self.put(store)

"""Nests whose points are computed one by one: each thread takes some of them. Numbers of all points may be summed."""

from __future__ import annotations

from graphc.backends.cuda.device import Grid
from graphc.backends.cuda.sums import Sums
from graphc.backends.cuda.threads import THREADS, NotCovered, Piece, check_states, grid_of
from graphc.ir.loops import phase_count, walked_by

SUM_BLOCKS = 264  # which sum parts of a whole; with what they do one after the other, it fixes the order of sums
SUM_EACH = 4  # points for each of their threads, at least


class Points(Sums):
    """Writes nests without reductions, or with reductions of everything to one number."""

    def pieces(self) -> tuple[Piece, ...]:
        """The kernels, in order. Raises NotCovered."""
        if {term.kind for term in self.terms} & {"row", "column", "scatter", "product"} or phase_count(self.nest) > 1:
            raise NotCovered("not every point by itself")
        check_states(self.nest)
        axes = tuple(range(len(self.nest.frame)))
        alone = all(extent == 1 for extent in self.nest.frame)
        self.begin()
        self.start_totals()
        if not alone:
            self.row_terms(None)
        step = f"{self.count_text(axes)}, blocks * {THREADS}"
        with self.block(f"for point in range(block * {THREADS} + thread, {step}):"):
            self.decode("point", axes)
            if alone:
                self.row_terms(None)
            self.point()
        grid = self.grid_for()
        self.leave_block_totals(grid.most)
        first = self.finished(self.nest.name, grid)
        return (first, Points(self.nest).finish(grid.most)) if self.totals else (first,)

    def grid_for(self) -> Grid:
        extent = self.count(range(len(self.nest.frame)))
        if not self.totals:
            return grid_of(extent, THREADS)
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

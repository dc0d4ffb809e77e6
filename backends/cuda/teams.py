"""Nests with sums along rows or columns: a team of threads side by side takes a row, each of them some of its lanes.

A team is a part of a warp, or a whole block for long rows. Sums onto columns are gathered by every team for itself, in
a register where a thread has one lane only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from graphc.backends.cuda.device import Grid
from graphc.backends.cuda.sums import Sums
from graphc.backends.cuda.threads import MOST_BLOCKS, THREADS, WARP, NotCovered, Piece, check_states, name_of
from graphc.backends.source.lines import identity
from graphc.ir.loops import Term, phase_count, phase_roots, walked_by
from graphc.ir.types import bound, monomials

LONG = 1024  # lanes from which on a whole block takes a row
FEW = 64  # rows up to which whole blocks take those that are longer than a warp
LANES_EACH = 8  # lanes for each thread of a team that gathers columns, at least, be it of several rows
MOST_TEAMS = 512  # that gather columns: their parts are added up one after the other
FILLED = 64  # blocks that keep a device busy for as long as a short row takes
COLUMNS_FEW, MOST_OF_FEW = 16, 2048  # so few are added up by many threads, so there may be more teams


class Teams(Sums):
    """Writes nests with rows or columns."""

    width: int
    slices: int  # of a row, where nothing needs a whole one

    def pieces(self) -> tuple[Piece, ...]:
        """The kernels, in order. Raises NotCovered."""
        if not self.nest.frame or {term.kind for term in self.terms} & {"scatter", "product"}:
            raise NotCovered("not rows of lanes")
        check_states(self.nest)
        self.check_columns()
        self.choose()
        self.mode = "single" if self.at_hand else "thread"
        self.begin()
        self.line(f"team = thread // {self.width}")
        self.line(f"lane = thread % {self.width}")
        if self.slices > 1:
            self.line(f"group = block // {self.slices}")
            self.line(f"first_lane = block % {self.slices} * {self.width}")
        grid = self.grid_for()
        teams = grid.most // self.slices * self.per_block
        self.row_terms(None)
        self.start_totals()
        self.start_columns(teams)
        self.rows_of_teams()
        self.leave_columns()
        self.leave_block_totals(grid.most)
        return self.ended(grid, teams)

    @property
    def at_hand(self) -> bool:
        """Whether a row has no more lanes than a team has threads. Threads without a lane read one of the others', so
        none may be written over what it was read from."""
        read = {term.detail[0] for term in self.terms if term.kind in ("load", "take")}
        in_place = any(store.buffer in read for store in self.nest.stores)
        least = sum(monomials(self.nest.lane_extent).values())  # where every dim is 1
        return self.slices == 1 and least >= 1 and bound(self.nest.lane_extent) <= self.width and not in_place

    @property
    def per_block(self) -> int:
        return THREADS // self.width

    def check_columns(self) -> None:
        lane = self.nest.lane
        for term in self.columns:
            if lane in term.operands[0].axes and lane not in walked_by(term.detail[1]):
                raise NotCovered("a sum along the lanes that is no row's")

    def choose(self) -> None:
        lanes = bound(self.nest.lane_extent)
        wide = next((width for width in (1, 2, 4, 8, 16) if width >= lanes), WARP)
        few = bound(self.count(range(self.nest.lane))) < FEW
        self.width = THREADS if lanes > (WARP if few else LONG) else wide
        self.slices = 1
        if phase_count(self.nest) == 1 and not any(term.kind == "row" for term in self.terms):
            self.width = next((width for width in (1, 2, 4, 8, 16, 32, 64, 128) if width >= lanes), THREADS)
            self.slices = max(-(-lanes // self.width), 1)

    def grid_for(self) -> Grid:
        rows = self.count(range(self.nest.lane))
        if not (self.totals or self.columns):
            most = max(-(-bound(rows) // self.per_block), 1)
            return Grid(rows, self.per_block, min(most, MOST_BLOCKS))
        lanes = -(-bound(self.nest.lane_extent) // (self.width * self.slices))
        one_each = max(-(-bound(rows) // self.per_block), 1)
        groups = -(-one_each // max(LANES_EACH // max(lanes, 1), 1))
        few = all(bound(term.value.type.count) <= COLUMNS_FEW for term in self.columns)
        if few:  # short rows side by side, not one after the other
            groups = max(groups, min(one_each, FILLED))
        teams = MOST_OF_FEW if few else MOST_TEAMS
        groups = min(groups, max(teams // self.per_block, 1), max(MOST_BLOCKS // self.slices, 1))
        return Grid(groups * self.slices, 1, groups * self.slices)

    # -- columns

    def is_held(self, term: Term) -> bool:
        """A column of which a thread has one number only."""
        lane = self.nest.lane
        fits = self.slices > 1 or bound(self.nest.lane_extent) <= self.width
        return fits and dict(term.detail[1]) == {lane: 1} and lane in term.operands[0].axes

    def start_columns(self, teams: int) -> None:
        group = "group" if self.slices > 1 else "block"
        for term in self.columns:
            own, count = self.fresh("own"), self.number(term.value.type.count)
            place = f"({group} * {self.per_block} + team) * ({self.padded(term)})"
            self.line(f"{own} = shift({self.room_for(term, teams)}, {place})")
            self.held[term] = own
            if self.is_held(term):
                self.line(f"{self.running(term)} = {identity(name_of(term), term.dtype)}")
                continue
            if self.slices > 1:
                raise NotCovered("columns that walk more than the lanes of a slice")
            with self.block(f"for k in range(lane, {count}, {self.width}):"):
                self.line(f"store({own}, k, {identity(name_of(term), term.dtype)})")
        if any(not self.is_held(term) for term in self.columns):
            self.line("barrier()")

    def leave_columns(self) -> None:
        first = "first_lane + " if self.slices > 1 else ""
        for term in self.columns:
            if self.is_held(term):
                with self.block(f"if {first}lane < {self.extents[-1]}:"):
                    self.line(f"store({self.held[term]}, {first}lane, {self.running(term)})")

    def add_column(self, term: Term) -> None:
        text = self.operand(term.operands[0], False)
        if self.is_held(term):
            self.add_to(self.running(term), term, text)
            return
        own, at, known = self.held[term], self.index(term.detail[1]), self.fresh("known")
        self.line(f"{known} = load({own}, {at})")
        self.add_to(known, term, text)
        self.line(f"store({own}, {at}, {known})")

    # -- rows

    def rows_of_teams(self) -> None:
        axes = range(self.nest.lane)
        group, groups = ("group", f"(blocks // {self.slices})") if self.slices > 1 else ("block", "blocks")
        each, rows = self.per_block, self.count_text(axes)
        self.line(f"rows = {rows}")
        with self.block(f"for first in range({group} * {each}, rows, {groups} * {each}):"):
            self.line("row = minimum(first + team, rows - 1)")
            self.line("inside = first + team < rows")
            self.line("counts = inside & (lane == 0)")
            if self.slices > 1:
                self.line("counts = counts & (first_lane == 0)")
            self.line(f"stop = select(inside, {self.extents[-1]}, 0)")
            self.decode("row", axes)
            if self.at_hand:
                self.line(f"alive = inside & (lane < {self.extents[-1]})")
                self.line(f"j = minimum(lane, {self.extents[-1]} - 1)")
            for phase in range(phase_count(self.nest)):
                self.terms_of_row(phase)
                self.lanes_of_row(phase)
            stores = [store for store in self.nest.stores if not self.store_is_lanes(store) and not store.term.late]
            if stores:
                with self.block("if counts:"):
                    for store in stores:
                        with self.once_for(walked_by(store.index) | {self.nest.lane}):
                            self.put(store)

    def terms_of_row(self, phase: int) -> None:
        """The numbers of a row that are known before its lanes of that phase, and sums of them over rows."""
        for term in self.terms:
            if term.late or self.varies(term) or not (term.axes or term.phase):
                continue
            if term.phase == phase and term.kind in ("load", "take", "guard", "compute"):
                self.define(term)
        summed = [term for term in self.terms if term.kind in ("total", "column") and not self.varies(term.operands[0])]
        summed = [term for term in summed if term.operands[0].phase == phase]
        lane = {self.nest.lane}
        self.add_totals([term for term in summed if term.kind == "total"], "counts")
        for term in summed:
            if term.kind == "column":
                with self.once_for(term.operands[0].axes | lane, "counts"):
                    self.add_column(term)

    def others_at_start(self, axes: frozenset[int]) -> str:
        """The lane of a number that does not vary along the lanes is none, and not asked for."""
        return super().others_at_start(axes | {self.nest.lane})

    def lanes_of_row(self, phase: int) -> None:
        if not phase_roots(self.nest, phase):
            return
        rows = [term for term in self.terms if term.kind == "row" and term.operands[0].phase == phase]
        if self.at_hand:
            self.lane_at_hand(phase, rows)
            return
        for term in rows:
            self.line(f"{self.name(term)} = {identity(name_of(term), term.dtype)}")
        with self.lanes():
            for term in self.closure(phase):
                self.define(term)
            for term in rows:
                self.add_to(self.name(term), term, self.operand(term.operands[0], False))
            self.leave_lane(phase)
        for term in rows:
            self.over_team(self.name(term), term, self.width)

    def leave_lane(self, phase: int) -> None:
        """What a lane adds to sums, and what of it is stored."""
        summed = [term for term in self.terms if term.kind in ("total", "column") and self.varies(term.operands[0])]
        summed = [term for term in summed if term.operands[0].phase == phase]
        self.add_totals(term for term in summed if term.kind == "total")
        for term in summed:
            if term.kind == "column":
                with self.once_for(term.operands[0].axes):
                    self.add_column(term)
        for store in self.nest.stores:
            if store.phase == phase and not store.term.late and self.store_is_lanes(store):
                with self.once_for(walked_by(store.index)):
                    self.put(store)

    def lane_at_hand(self, phase: int, rows: list[Term]) -> None:
        """A thread has one lane of the row at most: what it knows of it is at hand in all phases."""
        for term in self.closure(phase):
            self.define(term)
        for term in rows:
            empty, found = identity(name_of(term), term.dtype), self.operand(term.operands[0], False)
            self.line(f"{self.name(term)} = select(alive, {found}, {empty})")
            self.over_team(self.name(term), term, self.width)
        start = len(self.lines)
        with self.block("if alive:"):
            self.leave_lane(phase)
        if len(self.lines) == start + 1:
            del self.lines[start:]

    @contextmanager
    def lanes(self) -> Iterator[None]:
        if self.slices > 1:
            self.line("j = first_lane + lane")
            with self.block("if j < stop:"):
                yield
            return
        with self.block(f"for j in range(lane, stop, {self.width}):"):
            yield

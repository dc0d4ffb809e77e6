"""Nests that add to memory at looked-up places, in the order of their loops, so that the bits are always the same.

Threads share the axes that the memory's own axes follow: two of them never come upon the same place. Each goes along
the other axes one after the other. Where that leaves few threads, the places are shared out among warps as well: each
warp looks where all turns lead to, a turn a thread, and does those that lead to places of its own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from graphc.backends.cuda.sums import Sums
from graphc.backends.cuda.threads import THREADS, WARP, NotCovered, Piece, check_states, grid_of, made_of, row_major
from graphc.ir.loops import Buffer, LoopNest, Store, Term, phase_count, walked_by
from graphc.ir.types import bound, multiply

SCATTERED = "scattered"  # scratch for what another nest adds to looked-up places
POINTS = ("load", "take", "guard", "compute")  # terms of a point by itself
MANY = 1 << 15  # threads that are enough without
WARPS = 1056  # that have places of their own: more of them add less each, and look at turns more often in all


def without_scatters(nest: LoopNest) -> tuple[LoopNest, LoopNest | None]:
    """A nest that leaves what is scattered in memory, and one that scatters it, where a nest does more than that."""
    terms = nest.terms()
    scatters = [term for term in terms if term.kind == "scatter"]
    if not scatters or not any(
        term.kind in ("row", "column", "total") or term.late for term in terms if term not in scatters
    ):
        return nest, None
    kept = [
        operand for term in scatters for operand in term.operands if operand.kind not in ("load", "iota", "constant")
    ]
    loaded: dict[Term, Term] = {}
    left = [store for store in nest.stores if store.term not in scatters]
    for term in dict.fromkeys(kept):
        buffer, index = Buffer("scratch", term.value, f"{SCATTERED} {len(loaded)}"), row_major(nest.frame, term.axes)
        left.append(Store(term, buffer, index, term.phase))
        loaded[term] = replace(term, kind="load", operands=(), detail=(buffer, index, ()), phase=0)
    stores = []
    for store in nest.stores:
        if store.term in scatters:
            found = tuple(loaded.get(each, each) for each in store.term.operands)
            stores.append(replace(store, term=replace(store.term, operands=found, phase=0), phase=0))
    return replace(nest, stores=tuple(left)), replace(nest, name="scatter", product=None, stores=tuple(stores))


class Scatters(Sums):
    """Writes nests that scatter, beside what is computed point by point. What is added to is 0 before."""

    def pieces(self) -> tuple[Piece, ...]:
        """The kernels, in order. Raises NotCovered."""
        scatters = [term for term in self.terms if term.kind == "scatter"]
        if {term.kind for term in self.terms} & {"row", "column", "total", "product"} or not scatters:
            raise NotCovered("more than points and look-ups")
        if phase_count(self.nest) > 1 or any(term.late and term.kind != "scatter" for term in self.terms):
            raise NotCovered("more than one pass")
        check_states(self.nest)
        followed = frozenset(range(len(self.nest.frame))).intersection(
            *(walked_by(term.detail[1]) for term in scatters)
        )
        own, rest = sorted(followed), [axis for axis in range(len(self.nest.frame)) if axis not in followed]
        self.begin()
        self.row_terms(None)
        if self.has_owners(scatters, own, rest):
            return (self.of_owners(scatters[0], own, rest),)
        points = self.count_text(own)
        with self.block(f"for point in range(block * {THREADS} + thread, {points}, blocks * {THREADS}):"):
            self.decode("point", own)
            with self.block(f"for turn in range({self.count_text(rest)}):"):
                self.decode("turn", rest)
                self.point()
        extent = multiply(*(self.nest.frame[axis] for axis in own))
        piece = self.finished(self.nest.name, grid_of(extent, THREADS))
        return (replace(piece, cleared=tuple(term.detail[0] for term in scatters)),)

    # -- places with owners

    def has_owners(self, scatters: list[Term], own: list[int], rest: list[int]) -> bool:
        """Whether warps share out the places: turns are many, threads would be few, and where a turn leads to is one
        place of the looked-up axes."""
        if len(scatters) > 1 or any(not store.term.late for store in self.nest.stores):
            return False
        told = any(not index.axes.isdisjoint(own) for index in scatters[0].operands[1:])
        many = bound(self.count(rest)) >= 2 * WARP and bound(self.count(own)) < MANY
        return many and not told

    def of_owners(self, scatter: Term, own: list[int], rest: list[int]) -> Piece:
        """The kernel in which each warp has places of its own, and some of the points of each."""
        _, *indices = scatter.operands
        lookups, columns = scatter.detail[2], bound(self.count(own))
        owners = min(bound(multiply(*(extent for _, extent in lookups))), WARPS)
        slices = min(-(-columns // WARP), -(-WARPS // owners))
        width = -(-columns // (slices * WARP)) * WARP
        needed = made_of(indices)
        turns, known = self.count_text(rest), dict(self.names)
        self.line(f"lane = thread % {WARP}")
        self.line(f"warp = block * {THREADS // WARP} + thread // {WARP}")
        self.line(f"owner = warp // {slices}")
        self.line(f"first_point = warp % {slices} * {width}")
        with self.block(f"for first in range(0, {turns}, {WARP}):"):
            self.line("hits = i32(0)")
            with self.block(f"if first + lane < {turns}:"):
                self.line("turn = first + lane")
                self.decode("turn", rest)
                self.define_points(needed)
                place = self.looked_up((), indices, tuple((1, extent) for _, extent in lookups))
                with self.block(f"if ({place}) % {owners} == owner:"):
                    self.line("hits = i32(1) << as_i32(lane)")
            self.names = known
            for distance in (16, 8, 4, 2, 1):
                other = self.fresh("other")
                self.line(f"{other} = shuffle_xor(hits, {distance})")
                self.line(f"hits = hits | {other}")
            with (
                self.block("if hits != i32(0):"),
                self.block(f"for bit in range({WARP}):"),
                self.block("if (hits >> as_i32(bit)) & i32(1) != i32(0):"),
            ):
                self.hit(scatter, own, rest, width)
        grid = grid_of(owners * slices, THREADS // WARP)
        piece = self.finished(self.nest.name, grid)
        return replace(piece, cleared=(scatter.detail[0],))

    def hit(self, scatter: Term, own: list[int], rest: list[int], width: int) -> None:
        """One turn that leads to a place of the warp's own."""
        self.line("turn = first + bit")
        self.decode("turn", rest)
        still = {term for term in self.terms if term.axes.isdisjoint(own)}
        self.define_points(still)
        stop = f"minimum(first_point + {width}, {self.count_text(own)})"
        with self.block(f"for point in range(first_point + lane, {stop}, {WARP}):"):
            self.decode("point", own)
            self.define_points({*self.terms} - still)
            self.scatter(scatter, lanes=False)

    def define_points(self, some: Collection[Term]) -> None:
        for term in self.terms:
            if term in some and not term.late and term.axes and term.kind in POINTS:
                self.define(term)

    # -- places of threads

    def point(self) -> None:
        self.define_points(self.terms)
        for term in self.terms:
            if term.kind == "scatter":
                self.scatter(term, lanes=False)
        for store in self.nest.stores:
            if not store.term.late:
                with self.once_for(walked_by(store.index)):
                    self.put(store)

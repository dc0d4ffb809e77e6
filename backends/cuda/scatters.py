"""Nests that add to memory at looked-up places, in the order of their loops, so that the bits are always the same.

Threads share the axes that the memory's own axes follow: two of them never come upon the same place. Each goes along
the other axes one after the other.
"""

from __future__ import annotations

from dataclasses import replace

from graphc.backends.cuda.sums import Sums
from graphc.backends.cuda.threads import THREADS, NotCovered, Piece, check_states, grid_of, row_major
from graphc.ir.loops import Buffer, LoopNest, Store, Term, phase_count, walked_by
from graphc.ir.types import multiply

SCATTERED = "scattered"  # scratch for what another nest adds to looked-up places


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
        points = self.count_text(own)
        with self.block(f"for point in range(block * {THREADS} + thread, {points}, blocks * {THREADS}):"):
            self.decode("point", own)
            with self.block(f"for turn in range({self.count_text(rest)}):"):
                self.decode("turn", rest)
                self.point()
        extent = multiply(*(self.nest.frame[axis] for axis in own))
        piece = self.finished(self.nest.name, grid_of(extent, THREADS))
        return (replace(piece, cleared=tuple(term.detail[0] for term in scatters)),)

    def point(self) -> None:
        for term in self.terms:
            if not term.late and term.axes and term.kind in ("load", "take", "guard", "compute"):
                self.define(term)
        for term in self.terms:
            if term.kind == "scatter":
                self.scatter(term, lanes=False)
        for store in self.nest.stores:
            if not store.term.late:
                with self.once_for(walked_by(store.index)):
                    self.put(store)

"""How the work of a nest is shared out among threads.

A nest is cut along one axis of its frame. Where every element is computed by itself, any number of parts will do, and
each thread takes one. Where sums go across the cut there are always PARTS parts, each with sums of its own that are
added up in order afterwards: so the order of every sum, and with it every bit, is the same for any number of threads.
A nest with too little work to pay for a meeting of threads stays whole, and one thread does it.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphc.ir.loops import LANES, LoopNest, Partition, Term, lane_mode, phase_count
from graphc.ir.types import bound

PARTS = 16  # of a nest with sums across the cut; it fixes the order of those sums
WORTHWHILE = 200_000
MEMORY_COST = 3  # of one element read or written, in additions
PANEL = 2 * LANES  # columns that are computed together, at most
MANY_ROWS = 512
SUMS = ("total", "column", "scatter")


def partition(nest: LoopNest) -> Partition | None:
    """Where a nest is cut; None: one thread does it."""
    if nest.sweep is not None or nest.repetition is not None or work_of(nest) < WORTHWHILE:
        return None
    return partition_product(nest) if nest.product is not None else partition_loops(nest)


def work_of(nest: LoopNest) -> int:
    """What a nest costs at the dims' maxima, in additions of sixteen lanes' worth; a multiply-add counts as one."""
    points = 1
    for extent in nest.frame:
        points *= bound(extent)
    each = sum(cost_of(term) for term in nest.terms()) + MEMORY_COST * len(nest.stores)
    return points * (each + (bound(nest.product.depth) if nest.product is not None else 0))


def cost_of(term: Term) -> int:
    if term.late or not term.axes:
        return 0
    return MEMORY_COST if term.kind in ("load", "take") else term.value.op.cost


def partition_product(nest: LoopNest) -> Partition | None:
    """A product is cut between matrices, between columns or between rows; sums over its rows stay within a column."""
    rows, columns = nest.lane - 1, nest.lane
    sums = [term for term in nest.terms() if term.kind in SUMS]
    if any(term.kind != "column" or nest.lane not in term.axes for term in sums):
        return None
    if sums:
        return Partition(columns) if not nest.frame[:rows] and bound(nest.frame[columns]) >= 4 * PANEL else None
    axes = [axis for axis in range(rows) if bound(nest.frame[axis]) >= PARTS]
    if axes:
        return Partition(axes[0])
    down, across = bound(nest.frame[rows]), bound(nest.frame[columns])
    # Whoever has some of the rows packs all columns for himself, which few rows do not pay for.
    if across >= PANEL * (4 if down < MANY_ROWS else 16):
        return Partition(columns)
    return Partition(rows) if down >= 2 * PANEL else None


def partition_loops(nest: LoopNest) -> Partition | None:
    axes = list(possible_axes(nest))
    if not axes:
        return None
    long = [axis for axis in axes if bound(nest.frame[axis]) >= PARTS]
    axis = long[0] if long else max(axes, key=lambda axis: bound(nest.frame[axis]))
    sums = [term for term in nest.terms() if term.kind in SUMS]
    if not sums:
        return Partition(axis)
    if any(term.kind == "scatter" for term in sums) or bound(nest.frame[axis]) < 4 * PARTS:
        return None
    return Partition(axis, PARTS)


def possible_axes(nest: LoopNest) -> Iterator[int]:
    """The axes along which the elements of everything stored apart from sums lie apart, outer ones first."""
    stored = [{axis for axis, _ in store.index} for store in nest.stores if not store.term.late]
    for axis in range(len(nest.frame)):
        if axis == nest.lane and (phase_count(nest) > 1 or lane_mode(nest.lane_extent) in ("one", "single")):
            continue  # a row is reduced as a whole, and a short one has no loop
        if all(axis in walked for walked in stored):
            yield axis

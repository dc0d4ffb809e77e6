"""Other frames for the same nest: neighbouring axes as one, and a longer axis along the lanes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from graphc.ir.loops import INDEXED, Guards, Index, LoopNest, Term, axes_of_guards, guards_of
from graphc.ir.types import Extent, multiply


def collapse(nest: LoopNest) -> LoopNest:
    """Neighbouring axes that every access walks as one become one, so that loops get long."""
    if nest.product is not None:
        return nest
    axis = len(nest.frame) - 2
    while axis >= 0:
        if can_collapse(nest, axis):
            nest = collapse_axis(nest, axis)
        axis -= 1
    return nest


def can_collapse(nest: LoopNest, axis: int) -> bool:
    pair = {axis, axis + 1}
    terms = list(nest.terms())
    if any(axis in pair for term in terms if term.kind == "iota" for axis, _ in term.detail):
        return False
    if any(axes_of_guards(guards_of(term)) & pair for term in terms):
        return False
    if any(len(term.axes & pair) == 1 for term in terms):
        return False
    indices = [term.detail[1] for term in terms if term.kind in INDEXED]
    indices += [store.index for store in nest.stores]
    return all(is_contiguous(dict(index), axis, nest.frame[axis + 1]) for index in indices)


def is_contiguous(steps: dict[int | None, Extent], axis: int, extent: Extent) -> bool:
    if axis not in steps and axis + 1 not in steps:
        return True
    return axis in steps and axis + 1 in steps and steps[axis] == multiply(steps[axis + 1], extent)


def collapse_axis(nest: LoopNest, axis: int) -> LoopNest:
    """The nest with axes `axis` and `axis + 1` as one."""
    frame = (*nest.frame[:axis], multiply(nest.frame[axis], nest.frame[axis + 1]), *nest.frame[axis + 2 :])
    numbers = {old: None if old == axis else old - (old > axis) for old in range(len(nest.frame))}
    return renumber(nest, frame, numbers)


def renumber(nest: LoopNest, frame: tuple[Extent, ...], numbers: Mapping[int, int | None]) -> LoopNest:
    """The nest over another frame; `numbers` says what becomes of each axis, None that it is part of the next one."""
    moved: dict[Term, Term] = {}

    def shift_index(index: Index) -> Index:
        pairs = ((old, old if old is None else numbers[old], stride) for old, stride in index)
        return tuple((new, stride) for old, new, stride in pairs if old is None or new is not None)

    def shift_guards(guards: Guards) -> Guards:
        return tuple((shift_index(index), extent) for index, extent in guards)

    for term in nest.terms():
        detail = term.detail
        if term.kind == "load":
            detail = (detail[0], shift_index(detail[1]), shift_guards(detail[2]))
        elif term.kind in INDEXED:
            detail = (detail[0], shift_index(detail[1]), detail[2])
        elif term.kind == "iota":
            detail = shift_index(detail)
        elif term.kind == "guard":
            detail = shift_guards(detail)
        found = (numbers[old] for old in term.axes)
        axes = frozenset(axis for axis in found if axis is not None)
        operands = tuple(moved[operand] for operand in term.operands)
        moved[term] = replace(term, axes=axes, operands=operands, detail=detail)
    stores = tuple(replace(store, term=moved[store.term], index=shift_index(store.index)) for store in nest.stores)
    return replace(nest, frame=frame, stores=stores)


SHORT = 4  # a lane axis up to this long leaves too many lanes idle, if there is a longer one
LONG = 8


def turn_lanes(nest: LoopNest) -> LoopNest:
    """The nest with a longer axis along the lanes, where the last one is short and nothing is reduced along it."""
    last = nest.lane_extent
    fixed = any(term.kind in ("row", "total", "column", "scatter", "product") or term.late for term in nest.terms())
    if fixed or not isinstance(last, int) or last > SHORT:
        return nest
    longer = [axis for axis, extent in enumerate(nest.frame) if not isinstance(extent, int) or extent >= LONG]
    if not longer:
        return nest
    order = [axis for axis in range(len(nest.frame)) if axis != longer[-1]] + [longer[-1]]
    return renumber(nest, tuple(nest.frame[axis] for axis in order), {old: new for new, old in enumerate(order)})

"""Which values are one number above or below a diagonal, as the weights of causal attention are 0.

A condition that compares numbers of rows and of columns is false beyond some diagonal; what is picked by it, and what
is computed of that, is the same number everywhere there: -inf for scores that are masked, 0 for their exponentials.
A matrix product then needs only a part of the depth for each of its rows, and of a product that is masked some parts
are not needed at all.

What holds for ordinary numbers need not hold for nan and infinities (0 * inf, exp(nan)). So a product looks whether the
zeros that were found here are zeros, where that is not sure, and whether what they are multiplied with is finite; if
not, it takes the whole depth and gives what it would have given (see backends/triangles.py). Only a sum all of whose
products are too small for its dtype may be 0 of the other sign.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import field

import numpy as np

from graphc.ir import ops
from graphc.ir.access import resolve
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph, Value
from graphc.ir.types import DTYPES

Line = dict[int, int]  # the factor of each axis of a value, whose elements are a sum of places; -1: the number added
ANY, TRUTHS = (0.5, 3.0), (False, True)  # what stands for any number, of whole numbers 0 and 3
WHOLE, DEEPEST = ("i32", "i64"), 8  # dtypes of numbers of rows and columns, and how long a formula for one may be
LOGIC = (ops.logical_and, ops.logical_or, ops.logical_not)


@dataclass(frozen=True, slots=True)
class Corner:
    """Beyond a diagonal of the last two axes all elements are one number.

    diagonal  the last one, of column - row, that is not beyond it: the first one, seen from below
    number    that number
    sure      whatever the inputs are; otherwise it may be another one where they are not finite
    """

    diagonal: int
    number: float
    sure: bool = False


@dataclass(frozen=True, slots=True)
class Corners:
    """What is known of the elements above some diagonal, where column - row is larger, and of those below one."""

    above: Corner | None = None
    below: Corner | None = None


NOTHING = Corners()


@dataclass(frozen=True, slots=True)
class Found:
    """The corners of the values of a graph; those that have none are not among them."""

    corners: dict[Value, Corners] = field(default_factory=dict)

    def __getitem__(self, value: Value) -> Corners:
        return self.corners.get(value, NOTHING)


def triangles(graph: Graph) -> Found:
    """The corners of every value that has any."""
    found = Found()
    for value in graph.values():
        if value.op in (ops.less, ops.less_equal):
            corners = compared(value)
        elif any(operand in found.corners for operand in value.operands):
            corners = viewed(value, found) if value.op.kind == "view" else computed(value, found)
        else:
            continue
        if corners != NOTHING:
            found.corners[value] = corners
    return found


# -- conditions


def compared(value: Value) -> Corners:
    """A comparison of numbers of columns with numbers of rows."""
    if len(value.shape) < 2 or value.operands[0].dtype not in WHOLE:
        return NOTHING
    lines = [line(operand) for operand in value.operands]
    if None in lines:
        return NOTHING
    difference = {axis: factor for axis, factor in added(lines[0], lines[1], -1).items() if factor or axis == -1}
    row, column, number = len(value.shape) - 2, len(value.shape) - 1, difference.pop(-1, 0)
    number += value.op is ops.less
    if difference == {column: 1, row: -1}:  # column - row <= -number
        return Corners(Corner(-number, False, True), Corner(1 - number, True, True))
    if difference == {column: -1, row: 1}:  # column - row >= number
        return Corners(Corner(number - 1, True, True), Corner(number, False, True))
    return NOTHING


def line(value: Value, depth: int = DEEPEST) -> Line | None:
    """A whole number as a sum of places along its axes; None where it is not one, or is not known."""
    access = resolve(value)
    if access.guards or not depth:
        return None
    root = made_of(access.root, depth - 1)
    if root is None:
        return None
    found: Line = {-1: root.get(-1, 0)}
    for axis, walk in enumerate(access.walks):
        factor = root.get(axis, 0)
        if factor and not isinstance(walk.offset, int):
            return None
        steps = ((reader, step) for reader, step in walk.steps) if factor else ()
        found[-1] += factor * walk.offset if factor else 0  # type: ignore[operator]
        for reader, step in steps:
            found[reader] = found.get(reader, 0) + factor * step
    return found


def made_of(root: Value, depth: int) -> Line | None:
    if root.dtype not in WHOLE:
        return None
    if root.op is ops.iota:
        return {root.attrs["axis"]: 1}
    if root.op is ops.full:
        return {-1: int(root.attrs["value"])}
    if root.op is ops.cast:
        return line(root.operands[0], depth)
    if root.op not in (ops.add, ops.sub):
        return None
    lines = [line(operand, depth) for operand in root.operands]
    return None if None in lines else added(lines[0], lines[1], 1 if root.op is ops.add else -1)


def added(one: Line | None, other: Line | None, sign: int) -> Line:
    assert one is not None and other is not None
    return {axis: one.get(axis, 0) + sign * other.get(axis, 0) for axis in one | other}


# -- what is computed of them


def viewed(value: Value, found: Found) -> Corners:
    """A matrix of matrices that are looked at as they are, transposed, or moved."""
    source = value.operands[0]
    known = found[source]
    if value.op is ops.reshape:
        return known if len(value.shape) > 1 and value.shape[-2:] == source.shape[-2:] else NOTHING
    if value.op.walk is None:
        return NOTHING
    rows, columns = value.op.walk(source.type, **value.attrs)[-2:]
    axes, moved = [], 0
    for walk, sign in ((rows, -1), (columns, 1)):
        if walk.guarded or len(walk.steps) != 1 or walk.steps[0][1] != 1 or not isinstance(walk.offset, int):
            return NOTHING
        axes.append(walk.steps[0][0] - len(value.shape))
        moved += sign * walk.offset
    if axes not in ([-2, -1], [-1, -2]):
        return NOTHING
    turns = axes == [-1, -2]
    above, below = (shifted(corner, -moved, turns) for corner in (known.above, known.below))
    return Corners(below, above) if turns else Corners(above, below)


def shifted(corner: Corner | None, by: int, turns: bool) -> Corner | None:
    if corner is None:
        return None
    diagonal = corner.diagonal + by
    return Corner(-diagonal if turns else diagonal, corner.number, corner.sure)


def computed(value: Value, found: Found) -> Corners:
    """What an elementwise op makes of its operands."""
    if value.op.kind != "elementwise":
        return NOTHING
    both = [found[operand] for operand in value.operands]
    above = corner_of(value, [corners.above for corners in both], max)
    below = corner_of(value, [corners.below for corners in both], min)
    return Corners(above, below)


def corner_of(value: Value, corners: Sequence[Corner | None], outer: Callable[..., int]) -> Corner | None:
    """The corner in which the operands are, where they are known, the same number each: then so is the result, if no
    number for the others makes any difference.
    """
    known = [corner for corner in corners if corner is not None]
    if not known:
        return None
    results = list(tried(value, corners))
    first = results[0]
    if any(result != first for result in results):  # also where one is nan
        return None
    return Corner(outer(corner.diagonal for corner in known), first, is_sure(value, corners))


def is_sure(value: Value, corners: Sequence[Corner | None]) -> bool:
    """Nothing that is not sure has a part in the result, which is the same on every target.

    Other operands of `and` and `or` have been tried all.
    """
    if value.op.cost > 1:
        return False
    sure = [corner is not None and corner.sure for corner in corners]
    sure = [known or resolve(operand).root.op is ops.full for known, operand in zip(sure, value.operands, strict=True)]
    if value.op in LOGIC:
        return all(corner is None or corner.sure for corner in corners)
    if value.op is ops.where and sure[0] and corners[0] is not None:
        return sure[1 if corners[0].number else 2]
    return all(sure)


def tried(value: Value, corners: Sequence[Corner | None]) -> Iterator[float]:
    """The result for ordinary numbers in place of operands that are not known."""
    for choice in (0, 1):
        operands = []
        for number, (operand, corner) in enumerate(zip(value.operands, corners, strict=True)):
            kind = DTYPES[operand.dtype].type
            root = resolve(operand).root
            if corner is not None:
                operands.append(kind(corner.number))
            elif root.op is ops.full:
                operands.append(kind(root.attrs["value"]))
            else:
                operands.append(kind((TRUTHS if operand.dtype == "bool" else ANY)[(choice + number) % 2]))
        with np.errstate(all="ignore"):
            yield value.op.numpy(*operands, **value.attrs).item()

"""How matrix products read their operands: straight out of memory wherever strides can say it."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir import ops
from graphc.ir.access import Access, is_constant, resolve, strides
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Value
from graphc.ir.types import Extent, Shape, add, multiply

Steps = tuple[tuple[Extent, Extent], ...]  # (extent, stride) pairs, outer first


@dataclass(frozen=True, slots=True)
class MatrixLayout:
    """Where the elements of a stack of matrices stand in the memory of `root`.

    offset         of the first element
    batch          (batch axis, stride) pairs
    rows, columns  one matrix axis may walk several axes of the memory, as a merged window does
    """

    root: Value
    offset: Extent
    batch: tuple[tuple[int, Extent], ...]
    rows: Steps
    columns: Steps


def is_unfounded(root: Value) -> bool:
    """A reshape without memory behind it: what it merges is a view or a constant."""
    return root.op is ops.reshape and (root.operands[0].op.kind == "view" or is_constant(root.operands[0]))


def matrix_layout(value: Value) -> MatrixLayout | None:
    """The layout of a stack of matrices, or None where only a copy would have one.

    A reshape that merges neighbouring axes of a view needs no copy: rows or columns walk several axes then.
    """
    access = resolve(value)
    if access.guards or is_constant(access.root):
        return None
    if not is_unfounded(access.root):
        offset, steps = elements(access)
        return split(access.root, offset, [[(extent, steps.get(axis, 0))] for axis, extent in enumerate(value.shape)])
    merged = access.root.operands[0]
    groups, source = merged_axes(merged.shape, access.root.shape), resolve(merged)
    if groups is None or not access.is_plain or source.guards or is_constant(source.root) or is_unfounded(source.root):
        return None
    offset, steps = elements(source)
    lines: list[list[tuple[Extent, Extent]]] = [[] for _ in value.shape]
    for group, axis in zip(groups, access.axes, strict=True):
        if axis is not None:
            lines[axis] = [(merged.shape[each], steps.get(each, 0)) for each in group]
    return split(source.root, offset, lines)


def elements(access: Access) -> tuple[Extent, dict[int, Extent]]:
    """An access in elements of the root's memory: the first one, and the step along each axis of the reader."""
    offset: Extent = 0
    steps: dict[int, Extent] = {}
    for walk, stride in zip(access.walks, strides(access.root.shape), strict=True):
        offset = add(offset, multiply(walk.offset, stride))
        for axis, step in walk.steps:
            steps[axis] = add(steps.get(axis, 0), multiply(step, stride))
    return offset, steps


def split(root: Value, offset: Extent, lines: Sequence[Sequence[tuple[Extent, Extent]]]) -> MatrixLayout | None:
    """The layout for the steps along each axis; None where a batch axis walks more than one."""
    joined = [join_steps(line) for line in lines]
    if any(len(line) > 1 for line in joined[:-2]):
        return None
    batch = tuple((axis, line[0][1]) for axis, line in enumerate(joined[:-2]) if line and line[0][1] != 0)
    return MatrixLayout(root, offset, batch, joined[-2], joined[-1])


def join_steps(line: Sequence[tuple[Extent, Extent]]) -> Steps:
    """Neighbouring axes that follow each other in memory as one."""
    joined: list[tuple[Extent, Extent]] = []
    for extent, step in line:
        if extent == 1:
            continue
        if joined and joined[-1][1] == multiply(extent, step):
            joined[-1] = (multiply(joined[-1][0], extent), step)
        else:
            joined.append((extent, step))
    return tuple(joined)


def merged_axes(before: Shape, after: Shape) -> list[list[int]] | None:
    """Which neighbouring axes each axis of a reshape is made of; None where it splits one."""
    groups: list[list[int]] = []
    left = list(range(len(before)))
    for wanted in after:
        group: list[int] = []
        size: Extent = 1
        while size != wanted:
            if not left:
                return None
            group.append(left.pop(0))
            size = multiply(size, before[group[-1]])
        groups.append(group)
    return groups if all(before[axis] == 1 for axis in left) else None

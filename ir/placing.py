"""Memory for what needs some of its own: copies, and parts of joins that are written where they belong at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from graphc.ir import ops
from graphc.ir.access import is_constant, is_squeeze, memory_of, resolve
from graphc.ir.adjoint import summands
from graphc.ir.graph import Graph, Output, Value, located
from graphc.ir.group import is_computed, is_inlined, is_placed
from graphc.ir.layout import MatrixLayout, is_unfounded, matrix_layout
from graphc.ir.ops.record import FRAMELESS
from graphc.ir.rewrite import rebuild, with_operands
from graphc.ir.trail import Trail
from graphc.ir.types import Extent, add, multiply


def place_copies(graph: Graph, trail: Trail | None = None) -> Graph:
    """Whatever needs memory of its own and has none gets a copy: outputs, and what reshapes or products read."""
    return rebuild(replace(graph, outputs=tuple(map(placed_output, graph.outputs))), read_from_memory, trail)


def placed_output(output: Output) -> Output:
    """The output, or one of a copy where what computes it cannot write to where it is wanted."""
    is_result = output.kind == "result"
    found = (joined(output.value) if is_result else None) or grounded(output.value)
    source = memory_of(found)
    is_written = is_computed(source) and not is_placed(source)
    return replace(output, value=found if is_written or (is_result and source.op is ops.join) else copied(found))


def read_from_memory(value: Value) -> Value | None:
    """The value over operands it can walk, if those it has it cannot."""
    if value.op.kind == "contraction":
        operands = tuple(walkable_matrix(operand, position) for position, operand in enumerate(value.operands))
    elif value.op.kind == "view":
        return None  # what its readers need is seen when they are looked at
    elif value.op is ops.join:
        operands = tuple(operand if is_laid_down(operand) else copied(operand) for operand in value.operands)
    else:
        operands = tuple(grounded(operand) for operand in value.operands)
        if value.op.kind == "gather":
            operands = (table_in_memory(operands[0]), *operands[1:])
        if value.op.kind in FRAMELESS:
            operands = tuple(own_memory(operand) for operand in operands)
    return None if operands == value.operands else with_operands(value, operands)


def over_padded(value: Value) -> Value:
    """What sees a padded array through views, as a window does, over a copy of it: less than a copy of the views."""
    if value.op.kind != "view":
        return value
    if value.op is ops.pad and resolve(value).guards:
        return copied(value)
    below = over_padded(value.operands[0])
    return value if below is value.operands[0] else with_operands(value, (below,))


def over_join(value: Value) -> Value:
    """The value over a join in place of a sum of padded parts."""
    if value.op.kind != "view" or value.op is ops.pad:
        return joined(value) or value
    # A reshape of another order of axes is over a join in that order, so that all who read it share one.
    below = (joined(value.operands[0]) or value.operands[0]) if is_unfounded(value) else over_join(value.operands[0])
    return value if below is value.operands[0] else with_operands(value, (below,))


def walkable_matrix(operand: Value, position: int) -> Value:
    """The operand of a product, or a copy. The right one is read along any walk; the left one by strides, or place by
    place where rows that are read together lie together."""
    operand = over_join(operand)
    layout = matrix_layout(operand)
    if layout is None and position == 1:
        operand = over_padded(operand)
        layout = matrix_layout(operand)
    if layout is None or (position == 0 and not is_read_quickly(layout, operand.dtype)):
        below = grounded(operand)
        return (joined(operand) or copied(operand)) if below is operand else below
    return operand


def is_read_quickly(layout: MatrixLayout, dtype: str) -> bool:
    """Whether a left operand needs no copy."""
    if max(len(layout.rows), len(layout.columns)) < 2:
        return True
    return dtype == "f32" and layout.rows != () and layout.rows[-1][1] == 1


def grounded(value: Value) -> Value:
    """The value with real memory below every reshape that changes the order of axes, copied where there was none."""
    if value.op.kind != "view":
        return value
    (x,) = value.operands
    if value.op is ops.reshape and not is_squeeze(x.shape, value.shape):
        below = (joined(x) or copied(x)) if is_unfounded(value) else x
    else:
        below = grounded(x)
    return value if below is x else with_operands(value, (below,))


def table_in_memory(value: Value) -> Value:
    """What a look-up reads: numbers in memory, by any strides."""
    access = resolve(value)
    return copied(value) if access.guards or is_constant(access.root) else value


def own_memory(value: Value) -> Value:
    """The value, or a copy where it is no array of its own in memory."""
    source = memory_of(value)
    return copied(value) if source.op.kind == "view" or is_constant(source) else value


def copied(value: Value) -> Value:
    with located(value.origin):
        return ops.copy(value)


def joined(value: Value) -> Value | None:
    """The same numbers as a join of parts that are computed anyway and can be written to their places at once.

    None where it is no sum of padded parts and no other order of axes, or nothing would be saved.
    """
    found = parts_of(value)
    axis, parts = found or (0, [])
    if not any(map(is_laid_down, parts)):
        return None
    with located(value.origin):
        return ops.join(*parts, axis=axis)


def parts_of(value: Value) -> tuple[int, list[Value]] | None:
    """An axis and the parts that stand along it side by side; a value in another order of axes is one part."""
    if value.op is ops.transpose:
        order = value.attrs["permutation"]
        below = parts_of(value.operands[0])
        axis, parts = (order[0], [value.operands[0]]) if below is None else below
        with located(value.origin):
            return order.index(axis), [ops.transpose(part, permutation=order) for part in parts]
    if value.op is not ops.add:
        return None
    padded = list(summands(value))
    axes = {axis for part in padded for axis in padded_axes(part)}
    if len(axes) != 1 or any(part.op is not ops.pad for part in padded):
        return None
    (axis,) = axes
    found = side_by_side(padded, axis)
    return None if found is None else (axis, found)


def padded_axes(value: Value) -> Iterator[int]:
    """The axes along which a padded value is not just what it pads."""
    if value.op is ops.pad:
        own, start = value.operands[0].shape, value.attrs["start"]
        yield from (axis for axis, extent in enumerate(value.shape) if extent != own[axis] or start[axis] != 0)


def side_by_side(padded: list[Value], axis: int) -> list[Value] | None:
    """The padded parts in their order along an axis, or None where they overlap or leave places empty."""
    ahead = {part.attrs["start"][axis]: part.operands[0] for part in padded}
    found: list[Value] = []
    place: Extent = 0
    while place in ahead and len(found) < len(padded):
        found.append(ahead[place])
        place = add(place, multiply(-1, found[-1].shape[axis]))
    whole = multiply(-1, padded[0].shape[axis])
    return found if place == whole and len(found) == len(padded) else None


def is_laid_down(part: Value) -> bool:
    """What computes it can write each element to any place: it is computed in loops, its last axis along the lanes."""
    access = resolve(part)
    root = access.root
    if not is_computed(root) or is_placed(root) or is_inlined(root) or not access.is_plain:
        return False
    walked = [axis for axis in access.axes if axis is not None]
    needed = [axis for axis, extent in enumerate(part.shape) if extent != 1]
    return sorted(walked) == needed and walked[-1:] == needed[-1:]

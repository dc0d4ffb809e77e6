"""Tensors with more elements around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.errors import ShapeError
from graphc.ir import ops
from graphc.ir.graph import Value, user_origin
from graphc.ir.types import Extent, Shape, TensorType, add, bound, multiply
from graphc.settings import check_choice, require
from graphc.tensor import Tensor, apply, as_tensor, is_plain_number, lift, where
from graphc.tensor.arithmetic import absolute, clip
from graphc.tensor.indexing import size_of
from graphc.tensor.placing import of_dtype
from graphc.tensor.size import extent_of

__all__ = ["pad"]

MODES = ("constant", "reflect", "replicate", "circular")
Pairs = Sequence[tuple[Extent, Extent]]


def pad(x: Any, pad: Sequence[Any], mode: str = "constant", value: Any = None) -> Tensor:
    """x with elements before and behind its last axes.

    pad    how many: (before, behind) for the last axis, then for the one before it, and so on; negative ones crop
    mode   "constant": all of them `value`, 0 if left out; "replicate": the one at the edge; "reflect": x mirrored at
           the edge, which is not repeated; "circular": x again

    Raises ArgumentError for another mode, ShapeError for amounts that x does not have axes or, mirrored or going round,
    elements for, or a symbolic axis there.
    """
    tensor = lift(x)
    check_choice("mode", mode, MODES)
    require(value is None or is_plain_number(value), "value", value, "a number")
    around = amounts(tensor, pad)
    shape = tuple(add(extent, *pair) for extent, pair in zip(tensor.shape, around, strict=True))
    if any(isinstance(extent, int) and extent < 0 for extent in shape):
        raise ShapeError(f"pad of {tensor.type} by {list(pad)} leaves less than nothing", user_origin())
    if mode == "constant":
        return with_constant(tensor, around, shape, value)
    return from_inside(tensor, around, shape, mode)


def amounts(x: Value, pad: Any) -> Pairs:
    """(before, behind) for every axis of x, from PyTorch's order."""
    given = [extent_of(each) for each in pad] if isinstance(pad, (list, tuple)) else []
    known = [each for each in given if each is not None]
    if not known or len(known) < len(given) or len(known) % 2 or len(known) > 2 * len(x.shape):
        raise ShapeError(f"pad of {x.type}: {pad!r} is not two whole numbers for each of its last axes", user_origin())
    pairs = list(zip(known[0::2], known[1::2], strict=True))
    return [*[(0, 0)] * (len(x.shape) - len(pairs)), *reversed(pairs)]


def with_constant(x: Value, around: Pairs, shape: Shape, number: Any) -> Tensor:
    start = tuple(multiply(-1, before) for before, _ in around)
    zeros = apply(ops.pad, x, start=start, shape=shape)
    if number is None or number == 0:
        return zeros
    inside = apply(ops.pad, ops.full(value=True, type=x.type.with_dtype("bool")), start=start, shape=shape)
    return where(inside, zeros, as_tensor(of_dtype("pad", x, number)))


def from_inside(x: Value, around: Pairs, shape: Shape, mode: str) -> Tensor:
    """Every element read from the place inside that it stands for."""
    places, indices = list(range(len(shape))), []
    for axis, (before, behind) in enumerate(around):
        if (before, behind) == (0, 0):
            continue
        check_inside(x, axis, max(bound(before), bound(behind)), mode)
        steps = as_tensor(ops.iota(axis=axis, type=TensorType("i64", shape)))
        indices.append(inside_place(steps - size_of(before), size_of(x.shape[axis]), mode).value)
        places[axis] = -len(indices)
    return apply(ops.gather, x, *indices, places=tuple(places)) if indices else as_tensor(x)


def check_inside(x: Value, axis: int, most: int, mode: str) -> None:
    extent = x.shape[axis]
    if mode == "replicate":
        fits = extent != 0
    else:
        fits = most <= 0 or (isinstance(extent, int) and most <= extent - (mode == "reflect"))
    if not fits:
        raise ShapeError(f"pad of {x.type} by {most}: axis {axis} is too short for mode {mode!r}", user_origin())


def inside_place(place: Tensor, size: Tensor, mode: str) -> Tensor:
    """The place of x that a place of its surroundings shows."""
    last = size - 1
    if mode == "replicate":
        return clip(place, 0, last)
    if mode == "reflect":
        return last - absolute(last - absolute(place))
    return where(place < 0, place + size, where(place > last, place - size, place))

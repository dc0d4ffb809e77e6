"""What a check that failed says: which number is wrong, and where it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from graphc.backends import reference
from graphc.backends.interface import CHECKS
from graphc.errors import LabelError, describe
from graphc.ir import ops
from graphc.ir.graph import Graph, Output, Value, reachable, user_origin
from graphc.ir.types import DTYPES, INTEGERS, Extent, bound
from graphc.plan import NOT_FINITE

if TYPE_CHECKING:
    from graphc.function import Function

Spans = list[tuple[int, int, int]]  # (place of an input, least number it may have, the first one above)
MANY_LABELS = 1 << 16


def fail(function: Function, status: int, arrays: Sequence[Any], place: str = "") -> NoReturn:
    """LabelError or NumericsError for what a call with these arrays returned."""
    message = function.artifact.description.checks[status % CHECKS - 1]
    ranges = [value for value in function.ranges if value.attrs["message"] == message]
    named = dict(zip((each.attrs["name"] for each in function.inputs), arrays, strict=True))
    named |= {name: parameter.numpy() for name, parameter in function.parameters.items()}
    named |= {name: known.number for name, known in function.scalars.items()}
    for value in ranges:
        probe = replace(function.traced, outputs=(Output("result", "found", value.operands[0]),))
        report_range(value, reference.run(probe, named)["found"], place)
    if not message.endswith(NOT_FINITE.format(name="")):
        raise LabelError(f"{message}, and one computed in a loop does not{place}", user_origin())
    from graphc.blame import explain  # which few calls need

    raise explain(function.name, function.traced, named, [message.removesuffix(NOT_FINITE.format(name=""))], place)


def report_range(value: Value, found: np.ndarray[Any, Any], place: str = "") -> None:
    """LabelError for the first number outside of its range; nothing when all are inside."""
    low, high = value.attrs["low"], value.attrs["high"]
    outside = (found < low) | (found >= high)
    if not outside.any():
        return
    index = tuple(int(each[0]) for each in np.nonzero(outside))
    where = f" at index {index[0] if len(index) == 1 else index}" if index else ""
    asked = ["it is asked for here:", *describe(value.origin)] if value.origin else []
    raise LabelError(
        f"{value.attrs['message']}: got {found[index]}{where}{place}",
        user_origin(),
        [*asked, "nothing was updated"],
    )


def check_ranges(function: Function, arrays: Sequence[Any]) -> None:
    """Look at all labels of a data set before the first step of an epoch."""
    if are_inside(function.spans, arrays):
        return
    for value, sources in known_labels(function):
        report_range(value, labels_of(value, {each: arrays[function.inputs.index(each)] for each in sources}))


def known_labels(function: Function) -> Iterator[tuple[Value, list[Value]]]:
    """The ranges of numbers that are made of inputs alone, and those inputs."""
    for value in function.ranges:
        sources = [each for each in reachable(value.operands) if each.op is ops.input]
        if all(each in function.inputs and each.dtype in INTEGERS for each in sources):
            yield value, sources


def labels_of(value: Value, arrays: dict[Value, Any]) -> np.ndarray[Any, Any]:
    """The numbers whose range is asked for, of such inputs."""
    probe = Graph("labels", tuple(arrays), (Output("result", "found", value.operands[0]),))
    return reference.run(probe, {each.attrs["name"]: array for each, array in arrays.items()})["found"]


def spans_of(function: Function) -> Spans | None:
    """Ranges of whole inputs that keep all labels in theirs; None if a label must be looked at to tell."""
    found = []
    for value, sources in known_labels(function):
        low, high = value.attrs["low"], value.attrs["high"]
        if len(sources) != 1 or not 0 < high - low <= MANY_LABELS or not is_by_number(value):
            return None
        (source,) = sources
        row = source.shape[1:]
        if not is_plain(row):
            return None
        rows = -(-(high - low) // math.prod(map(bound, row)))
        every = np.resize(np.arange(low, high), (rows, *map(bound, row))).astype(DTYPES[source.dtype])
        seen = labels_of(value, {source: every})
        if ((seen < low) | (seen >= high)).any():
            return None
        found.append((function.inputs.index(source), low, high))
    return found


def is_plain(row: Sequence[Extent]) -> bool:
    return all(isinstance(extent, int) and extent > 0 for extent in row)


def is_by_number(value: Value) -> bool:
    """Each number of it is made of one number of the one input, or of none: whatever its neighbours are."""
    ways: dict[Value, tuple[Value, ...] | None] = {}  # the views a number came through; None: always the same
    for each in reachable(value.operands):
        before = {ways[operand] for operand in each.operands} - {None}
        if len(before) > 1 or not (each.op.kind in ("elementwise", "view") or each.op in (ops.input, ops.full)):
            return False
        way = next(iter(before), () if each.op is ops.input else None)
        ways[each] = (*way, each) if way is not None and each.op.kind == "view" else way
    return True


def are_inside(spans: Spans | None, arrays: Sequence[Any]) -> bool:
    """Whether the least and the largest number of each input tell that all labels are in their ranges."""
    if spans is None:
        return False
    for place, low, high in spans:
        array = arrays[place]
        if array.size == 0 or np.minimum.reduce(array, axis=None) < low or np.maximum.reduce(array, axis=None) >= high:
            return False
    return True

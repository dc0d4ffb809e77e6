"""What a check that failed says: which number is wrong, and where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from graphc.backends import reference
from graphc.backends.interface import CHECKS
from graphc.errors import LabelError, NumericsError, describe
from graphc.ir import ops
from graphc.ir.graph import Graph, Output, Value, reachable, user_origin
from graphc.ir.types import INTEGERS
from graphc.plan import NOT_FINITE

if TYPE_CHECKING:
    from graphc.function import Function


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
    advice = ["nothing was updated; lower the learning rate or look at the data of this batch"]
    raise NumericsError(f"{function.name}: {message}{place}", user_origin(), advice)


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
    for value in function.ranges:
        sources = [each for each in reachable(value.operands) if each.op is ops.input]
        if all(each in function.inputs and each.dtype in INTEGERS for each in sources):
            probe = Graph("labels", tuple(sources), (Output("result", "found", value.operands[0]),))
            named = {each.attrs["name"]: arrays[function.inputs.index(each)] for each in sources}
            report_range(value, reference.run(probe, named)["found"])

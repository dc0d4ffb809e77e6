"""A compiled step as SVG text at any level, coloured by part or by a quantity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphc.errors import ArgumentError
from graphc.ir.graph import Value, user_origin
from graphc.ir.program import Program
from graphc.picture import kernels, ladder, ops
from graphc.picture.heat import QUANTITIES, TIME, Scale, moved, operations
from graphc.picture.layers import layers_of
from graphc.settings import check_choice, is_number, is_whole, require

if TYPE_CHECKING:
    from graphc.function import Function

LEVELS = ("layers", "graph", "kernels")


def draw(function: Function, level: str, color: Any = None, fold: bool | None = None) -> str:
    """The SVG text of one level.

    color  None: by forward, backward, update; "bytes" moved or "operations"; "time" of the last profile; or seconds
           measured, by kernel number
    fold   whether repeated blocks are drawn once; None: at the graph level, and where there are many cards
    """
    check_choice("level", level, LEVELS)
    require(fold is None or isinstance(fold, bool), "fold", fold, "True, False or None")
    program, classes = function.artifact.program, function.layers
    heat = scale(program, classes, level, measured(function) if is_time(color) else color)
    if level == "layers":
        return ladder.layers_svg(program.graph, classes, heat, fold)
    if level == "graph":
        return ops.graph_svg(program.graph, classes, heat, fold)
    return kernels.kernels_svg(program, heat, fold)


def is_time(color: Any) -> bool:
    return isinstance(color, str) and color == TIME


def measured(function: Function) -> dict[int, float]:
    """Seconds by kernel number. Raises ArgumentError where no profile was taken."""
    if function.measured is None:
        text = f"color is {TIME!r}, and no time of {function.name} has been measured"
        raise ArgumentError(text, user_origin(), ["measure it first, with arrays as for a call: step.profile(x, y)"])
    return function.measured


def scale(program: Program, classes: Mapping[str, str], level: str, color: Any) -> Scale | None:
    """What cards of that level are coloured by."""
    if isinstance(color, Mapping):
        return Scale(TIME, seconds(program, classes, level, check_seconds(color, len(program.apart))))
    check_choice("color", color, (None, *QUANTITIES, TIME))
    if color is None:
        return None
    if level == "layers":
        return Scale(color, ladder.amounts(program.graph, classes, color))
    graph = program.graph
    return Scale(color, ops.amounts(graph, color) if level == "graph" else kernels.amounts(program, color))


def check_seconds(given: Mapping[Any, Any], count: int) -> dict[int, float]:
    fits = all(is_whole(key) and 0 <= key < count and is_number(each) and each >= 0 for key, each in given.items())
    require(fits, "color", given, f"seconds by the number of a kernel, 0 to {count - 1}")
    return {int(key): float(each) for key, each in given.items()}


def seconds(program: Program, classes: Mapping[str, str], level: str, taken: Mapping[int, float]) -> dict[str, float]:
    """The time of kernels shared out among what they compute, by operations and bytes of each op."""
    if level == "kernels":
        return {f"kernel {number}": each for number, each in taken.items()}
    by_value: dict[Value, float] = {}
    for number, each in taken.items():
        values = list(dict.fromkeys(program.apart[number].values()))
        weights = [1 + operations(value) + moved(value) for value in values]
        for value, weight in zip(values, weights, strict=True):
            by_value[value] = by_value.get(value, 0.0) + each * weight / sum(weights)
    if level == "graph":
        names = ops.value_names(program.graph)
        return {f"value {names[value]}": each for value, each in by_value.items() if value in names}
    cards = layers_of(program.graph, classes).cards
    return {ladder.key_of(card): sum(by_value.get(value, 0.0) for value in card.values) for card in cards}

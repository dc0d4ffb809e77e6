"""Which value was the first that is not finite, where it comes from in the user's code, and what it was computed of.

Infinities that come from constants and from data, as those of masks do, are meant, until they make a NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.backends import reference
from graphc.errors import NumericsError
from graphc.ir import ops
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph, Value, user_origin
from graphc.ir.passes import run_passes
from graphc.ir.types import FLOATS, Dim

Array = np.ndarray[Any, Any]
Env = Mapping[Value, Any]

PASSES = {"forward": "the forward pass", "backward": "the backward pass", "update": "the update"}
LARGE = 1e8  # of a parameter: numbers that training does not lead to unless it diverges
MOST_NAMES = 3


@dataclass(frozen=True, slots=True)
class Cause:
    """The first value that is not finite, with the numbers of all values it could be computed of.

    place  in which step of a loop it came up, "" outside of one
    """

    value: Value
    env: Env
    place: str = ""

    @property
    def index(self) -> tuple[int, ...]:
        """The place of its first NaN, or of its first infinity if it has none."""
        array = self.env[self.value]
        wrong = np.isnan(array) if np.isnan(array).any() else ~np.isfinite(array)
        return tuple(int(each[0]) for each in np.nonzero(wrong)) if wrong.ndim else ()


def explain(name: str, traced: Graph, arrays: Mapping[str, Any], bad: Sequence[str], place: str = "") -> NumericsError:
    """What to raise for outputs of these names that are not finite.

    traced  the graph before all passes
    arrays  all inputs of it, by name
    place   behind the first line
    """
    graph = run_passes(traced)
    cause = find_cause(graph, arrays, bad)
    if cause is not None:
        return complaint(name, graph, cause, arrays, bad, place)
    advice = ['the reference gives finite numbers: gx.debug(check="reference") names the kernel that differs']
    return NumericsError(f"{name}: {bad[0]} is not finite{place}", user_origin(), advice)


def find_cause(graph: Graph, arrays: Mapping[str, Any], spoiled: Sequence[str]) -> Cause | None:
    """The cause of what is not finite in outputs of these names, by the reference; None if there it is finite.

    arrays  all inputs of the graph, by name
    """
    sizes = reference.dim_sizes(graph, arrays)
    with np.errstate(all="ignore"):
        env = reference.evaluate_values(graph, arrays, sizes, False)
        ends = [output.value for output in graph.outputs if output.name in spoiled]
        roots = [value for value in ends if not is_finite(env[value])]
        return trace_back(graph, env, roots, sizes)


def is_finite(array: Any) -> bool:
    return not np.issubdtype(array.dtype, np.floating) or bool(np.isfinite(array).all())


def spoiled(value: Value, env: Env) -> Iterator[Value]:
    """The operands whose numbers are not finite; of a part of a loop, the loop."""
    for operand in value.operands:
        if operand.op.kind == "loop" or not is_finite(env[operand]):
            yield operand


def trace_back(graph: Graph, env: Env, roots: Sequence[Value], sizes: Mapping[Dim, int]) -> Cause | None:
    """The first value on the way to the roots that is not finite though what it is computed of is."""
    reached, stack = set(roots), list(roots)
    while stack:
        found = [value for value in spoiled(stack.pop(), env) if value not in reached]
        reached.update(found)
        stack += found
    order = [value for value in (*graph.inputs, *graph.values()) if value in reached]
    meant: set[Value] = set()
    born: list[Value] = []
    for value in dict.fromkeys(order):
        sources = list(spoiled(value, env))
        if is_meant(value, sources, env, meant):
            meant.add(value)
        elif all(source in meant for source in sources) or is_first_nan(value, sources, env):
            born.append(value)
    born.sort(key=lambda value: [*PASSES].index(value.role))
    for value in born or order[:1]:
        if value.op.kind != "loop":
            return Cause(value, env)
        inside = trace_into_loop(value, env, sizes)
        if inside is not None:
            return inside
    return None


def is_meant(value: Value, sources: Sequence[Value], env: Env, meant: set[Value]) -> bool:
    """It holds infinities, but no NaN, and they come from constants or from data."""
    if value.op.kind == "loop" or np.isnan(env[value]).any():
        return False
    if value.op in (ops.full, ops.input):
        return value.op is ops.full or value.attrs["role"] == "data"
    return bool(sources) and all(source in meant for source in sources)


def is_first_nan(value: Value, sources: Sequence[Value], env: Env) -> bool:
    if value.op.kind in ("loop", "part") or any(source.op.kind == "loop" for source in sources):
        return False
    return bool(np.isnan(env[value]).any()) and not any(np.isnan(env[source]).any() for source in sources)


def trace_into_loop(loop: Value, env: Env, sizes: Mapping[Dim, int]) -> Cause | None:
    """The same in the first step of a loop in which something that is not finite comes up."""
    body = loop.attrs["body"].graph
    for step, own_sizes, inside in reference.steps_of(loop, env, sizes, False):
        made = [output.value for output in body.outputs if output.value.op is not ops.input]
        roots = [value for value in made if not is_finite(inside[value])]
        cause = trace_back(body, inside, roots, own_sizes) if roots else None
        if cause is not None and cause.value.op is not ops.input:
            return Cause(cause.value, cause.env, cause.place or f" in step {step} of a loop")
    return None


# -- what the error says


def complaint(
    name: str, graph: Graph, cause: Cause, arrays: Mapping[str, Any], bad: Sequence[str], place: str
) -> NumericsError:
    """The error that names the value, what it was computed of, where it leads, and what is likely behind it."""
    value, index = cause.value, cause.index
    number = shown_number(cause.env[value][index])
    at = f" at index {index[0] if len(index) == 1 else index}" if index else ""
    others = bad[1 : MOST_NAMES + 1]
    more = f" and {len(bad) - 1 - MOST_NAMES} more" if len(bad) > MOST_NAMES + 1 else ""
    end = [f"nor would be {', '.join(others)}{more}"] if others else []
    end += [*divergence(graph, arrays), "nothing was updated"]
    start = f"{name}: {bad[0]} is not finite{place}"
    if value.op is ops.input:
        text = f"{start}: {title(value)} holds {number}{at}, before anything is computed"
        return NumericsError(text, user_origin(), end)
    parts = [seen(value, operand, index, cause.env) for operand in value.operands]
    formula = f"{value.op.name}({', '.join(map(shown_part, parts))})"
    text = f"{start}: {formula} is {number}{at}{cause.place}, in {PASSES[value.role]}"
    details = [
        f"{shown_part(part)} {'is' if part.size == 1 else 'are'} from {source}"
        for part, operand in zip(parts, value.operands, strict=True)
        if (source := origin_of(operand, cause.env)) is not None
    ]
    details = [*dict.fromkeys(details)][:2]
    return NumericsError(text, value.origin or user_origin(), [*details, *end], note_of(value))


def note_of(value: Value) -> str:
    """What the underlined expression is: a gradient of it or the value itself, and the module it stands in."""
    module = value.origin.module if value.origin else ""
    of = "its gradient, " if value.role == "backward" else ""
    return f"{of}{value.type}{f', in {module}' if module else ''}"


def title(value: Value) -> str:
    kind = {"data": "input", "state": "parameter", "scalar": "scalar"}[value.attrs["role"]]
    return f"{kind} {value.attrs['name']}"


def origin_of(operand: Value, env: Env) -> str | None:
    """What a number is from, seen through views; None for constants. Infinities are followed to where they come in."""
    while operand.op.kind == "view" or operand.op in (ops.stop_gradient, ops.copy):
        (operand,) = operand.operands
    if operand.op is ops.full:
        return None
    if operand.op is ops.input:
        return title(operand)
    made = f"{operand.op.name} at {operand.origin}" if operand.origin else operand.op.name
    brought = source_of_infinity(operand, env)
    return made if brought is None else f"{made}, of the infinities in {title(brought)}"


def source_of_infinity(value: Value, env: Env) -> Value | None:
    """The input whose infinities a value has got; None where it is finite or they come up on the way."""
    while value.op is not ops.input:
        source = next(spoiled(value, env), None)
        if source is None or source.op.kind == "loop":
            return None
        value = source
    return value


def seen(value: Value, operand: Value, index: tuple[int, ...], env: Env) -> Array:
    """The numbers of an operand that the number at an index is computed of."""
    array = np.asarray(env[operand])
    if value.op.kind == "elementwise":
        return np.asarray(array[index])
    if value.op.kind == "reduce":
        kept: Iterator[Any] = iter(index)
        places = [slice(None) if axis in value.attrs["axes"] else next(kept) for axis in range(array.ndim)]
        return np.asarray(array[tuple(places)])
    if value.op is ops.dot and operand is value.operands[0]:
        return np.asarray(array[index[:-1]])
    if value.op is ops.dot:
        column: tuple[Any, ...] = (*index[:-2], slice(None), index[-1])
        return np.asarray(array[column])
    return array


def shown_part(part: Array) -> str:
    if part.size == 1:
        return shown_number(part.reshape(())[()])
    if part.size == 0:
        return "nothing"
    return f"{part.size} numbers from {shown_number(part.min())} to {shown_number(part.max())}"


def shown_number(number: Any) -> str:
    return f"{float(number):.6g}" if np.issubdtype(np.asarray(number).dtype, np.floating) else str(number)


def divergence(graph: Graph, arrays: Mapping[str, Any]) -> list[str]:
    """What to do about parameters that have become very large, with the learning rate if there is one."""
    sizes = {name: float(np.abs(arrays[name]).max(initial=0)) for name in floats_of(graph)}
    name = max(sizes, key=lambda each: sizes[each], default=None)
    if name is None or not sizes[name] > LARGE:
        return []
    rates = [f"{each}={float(number):g}" for each, number in arrays.items() if each.split("_")[0] == "lr"]
    told = f" at {', '.join(rates)}" if rates else ""
    return [f"{name} has grown to {sizes[name]:.3g}{told}: lower the learning rate"]


def floats_of(graph: Graph) -> list[str]:
    """Names of states that hold floats."""
    return [value.attrs["name"] for value in graph.of_role("state") if value.dtype in FLOATS]

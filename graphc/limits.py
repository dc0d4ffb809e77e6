"""Which sizes of its dims a graph can be run with: no extent is negative, and every slice lies inside of its operand.

What follows from the dims' bounds alone is known while tracing; the rest depends on the sizes of a call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from graphc.errors import ShapeError, describe
from graphc.ir import ops
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph, Value, user_origin
from graphc.ir.types import Dim, Extent, add, bound, dims_of, evaluate, multiply, subtract


@dataclass(frozen=True, slots=True)
class Limit:
    """`room` must not be negative where there are elements; the places of `value` are outside otherwise."""

    room: Extent
    elements: Extent
    value: Value

    def holds(self, sizes: Mapping[Dim, int]) -> bool:
        return evaluate(self.room, sizes) >= 0 or evaluate(self.elements, sizes) == 0


def limits_of(graph: Graph) -> tuple[Limit, ...]:
    """All limits that the bounds of the dims leave open, each once."""
    found: dict[tuple[Extent, Extent], Limit] = {}
    for value in graph.values():
        for room, elements in rooms(value):
            if not isinstance(room, int) and bound(multiply(-1, room)) > 0:
                found.setdefault((room, elements), Limit(room, elements, value))
    return tuple(found.values())


def rooms(value: Value) -> Iterator[tuple[Extent, Extent]]:
    """What must not be negative for the places a value reads to be there, where there are so many elements."""
    yield from ((extent, 1) for extent in value.shape)
    if value.op is ops.slice:
        attributes = zip(value.attrs["start"], value.attrs["step"], value.shape, value.operands[0].shape, strict=True)
        for start, step, count, extent in attributes:
            last = add(start, multiply(step, subtract(count, 1)))
            for place in (start, last):
                yield from ((place, count), (subtract(extent, add(place, 1)), count))
    if value.op is ops.gather:
        looked_up = zip(value.attrs["places"], value.operands[0].shape, strict=True)
        yield from ((subtract(extent, 1), value.type.count) for place, extent in looked_up if place < 0)


def check_dims(name: str, graph: Graph) -> None:
    """Raise ShapeError for a dim that no input tells the size of, or two dims of one name."""
    known: dict[str, Dim] = {}
    for dim in graph.dims:
        if known.setdefault(dim.name, dim) != dim:
            message = f"inputs of {name} have a dim {dim.name!r} of max={known[dim.name].max} and one of max={dim.max}"
            raise ShapeError(message, user_origin(), [f'make it once for both: {dim.name} = gx.dim("{dim.name}", max)'])
    for value in graph.values():
        extents = (value.attrs["extent"],) if value.op is ops.size else value.shape
        for dim in (each for extent in extents if extent.__class__ is not int for each in dims_of(extent)):
            if known.get(dim.name) != dim:
                known_as = f"; there it has max={known[dim.name].max}, here {dim.max}" if dim.name in known else ""
                message = f"no input of {name} tells the size of {dim.name} in {value.type}{known_as}"
                raise ShapeError(message, value.origin, ["read it off an input: x.shape[0]"])


def check_limits(name: str, limits: tuple[Limit, ...], sizes: Mapping[Dim, int]) -> None:
    """Raise ShapeError for sizes that a graph cannot be run with."""
    for limit in limits:
        if not limit.holds(sizes):
            given = ", ".join(f"{dim.name}={sizes[dim]}" for dim in dict.fromkeys(dims_of(limit.room)))
            place = describe(limit.value.origin) if limit.value.origin else []
            raise ShapeError(
                f"{name} got {given}, too little for a part it takes: {limit.room} must not be negative",
                user_origin(),
                ["the part is taken here:", *place] if place else [],
            )

"""What a program costs: bytes that pass through memory and operations, counted at the dims' maxima.

A nest reads each element of a buffer once and writes each once, unless its rows are too long to stay near: then every
lane loop over a row reads it again. Against that stands the least any program for the same graph can do: read the
inputs, read and write the states, write the results, each once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph, reachable
from graphc.ir.loops import Buffer, LoopNest, Repetition, Term, Tiling, lane_terms, phase_count, walked_by
from graphc.ir.types import DTYPES, bound

if TYPE_CHECKING:
    from graphc.ir.program import Program

NEAR = 2**19  # bytes of a row that are still in a core's own cache when the next lane loop comes back to them


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes read and written, and operations on one element each (a multiply-add of a matrix product counts as two)."""

    read: int = 0
    written: int = 0
    operations: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.read + other.read, self.written + other.written, self.operations + other.operations)

    def __mul__(self, times: int) -> Cost:
        return Cost(self.read * times, self.written * times, self.operations * times)

    @property
    def moved(self) -> int:
        return self.read + self.written


def cost_of(program: Program) -> Cost:
    """Of one call."""
    return total(cost_of_nest(nest) for nest in program.nests)


def total(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())


def least_moved(graph: Graph) -> Cost:
    """The bytes no program for the graph can do without; no operations are counted."""
    used = set(reachable(tuple(output.value for output in graph.outputs)))
    written = (*graph.of_kind("update"), *graph.of_kind("result"))
    return Cost(
        sum(value.type.max_bytes for value in graph.inputs if value in used),
        sum(output.value.type.max_bytes for output in written),
    )


def cost_of_nest(nest: LoopNest) -> Cost:
    """Of one nest; of a repeated program, all its steps."""
    if nest.repetition is not None:
        return cost_of_repetition(nest.repetition)
    if nest.sweep is not None:
        source, target = nest.sweep.source.value.type, nest.sweep.target.value.type
        return Cost(source.max_bytes, target.max_bytes, bound(source.count))
    if nest.tiling is not None:
        return cost_of_tiling(nest, nest.tiling)
    phases = [lane_terms(nest, phase) for phase in range(phase_count(nest))]
    read, written = (sum(found.values()) for found in (read_bytes(nest, phases), written_bytes(nest)))
    return Cost(read, written, operations(nest, phases))


def cost_of_tiling(nest: LoopNest, tiling: Tiling) -> Cost:
    """All points of the frame: those of tiles that are left out too."""
    read, written = (sum(each.value.type.max_bytes for each in some) for some in (nest.read(), nest.written()))
    vectors = sum(bound(product.depth) for _, product in tiling.products)
    vectors += sum(bound(each.columns) for each in tiling.weighings)
    arithmetic = sum(term.value.op.cost for term in nest.terms() if term.kind == "compute")
    return Cost(read, written, points(nest, range(len(nest.frame))) * (2 * vectors + arithmetic))


def cost_of_repetition(loop: Repetition) -> Cost:
    """States are brought to where they are kept, then every step goes over all that its program touches."""
    brought = sum(state.type.max_bytes for state, _, _ in loop.carries)
    return Cost(brought, brought) + cost_of(loop.program) * bound(loop.value.attrs["length"])


def points(nest: LoopNest, axes: Iterable[int]) -> int:
    """How many points of the frame differ along those axes."""
    return math.prod(bound(nest.frame[axis]) for axis in axes)


def comes_back(nest: LoopNest) -> bool:
    """Its rows are too long to stay near from one lane loop to the next."""
    rows = [term for term in nest.terms() if term.kind in ("load", "take") and nest.lane in term.axes]
    size = sum(DTYPES[dtype].itemsize for dtype in {term.detail[0]: term.dtype for term in rows}.values())
    return size * bound(nest.lane_extent) > NEAR


def read_bytes(nest: LoopNest, phases: list[set[Term]]) -> dict[Buffer, int]:
    """Bytes read from each buffer, scratch left out unless its rows are too long to stay near."""
    again, found = comes_back(nest), dict[Buffer, int]()

    def read(buffer: Buffer, elements: int, times: int = 1) -> None:
        size = DTYPES[buffer.value.dtype].itemsize * elements
        found[buffer] = min(found.get(buffer, 0) + size, buffer.value.type.max_bytes * times)

    if nest.product is not None:
        depth, (*batch, rows, columns) = bound(nest.product.depth), range(len(nest.frame))
        for operand, side in ((nest.product.left, rows), (nest.product.right, columns)):
            stacked = [axis for axis in batch if axis in walked_by(operand.start)]
            read(operand.buffer, points(nest, [*stacked, side]) * depth)
    for term in nest.terms():
        if term.kind in ("load", "take"):
            times = sum(term in phase for phase in phases) if again else 1
            axes = term.axes if term.kind == "take" else walked_by(term.detail[1])
            read(term.detail[0], points(nest, axes) * max(times, 1), max(times, 1))
        if term.kind == "scatter":
            read(term.detail[0], bound(term.value.type.count))
        if again and term in nest.stash:
            later = sum(term in phase for number, phase in enumerate(phases) if number > term.phase)
            read(Buffer("scratch", term.value, "row"), points(nest, term.axes) * later, later)
    return found


def written_bytes(nest: LoopNest) -> dict[Buffer, int]:
    """Bytes written to each buffer, scratch left out as for reading."""
    found: dict[Buffer, int] = {}
    for store in nest.stores:
        if store.term.kind != "scatter":
            elements = points(nest, walked_by(store.index))
            found[store.buffer] = DTYPES[store.term.dtype].itemsize * elements
    for term in nest.terms():
        if term.kind in ("column", "scatter") and term.detail[0].kind != "scratch":
            found[term.detail[0]] = term.value.type.max_bytes
        if term in nest.stash and comes_back(nest):
            found[Buffer("scratch", term.value, "row")] = DTYPES[term.dtype].itemsize * points(nest, term.axes)
    return found


def operations(nest: LoopNest, phases: list[set[Term]]) -> int:
    """Operations on one element each, as often as they are done."""
    found = 0
    for term in nest.terms():
        if term.kind == "product" and nest.product is not None:
            found += 2 * points(nest, term.axes) * bound(nest.product.depth)
        elif term.kind in ("row", "total", "column", "scatter"):
            found += points(nest, term.operands[0].axes)
        elif term.kind in ("compute", "take"):
            times = 1 if term in nest.stash else max(sum(term in phase for phase in phases), 1)
            found += points(nest, term.axes) * times * term.value.op.cost
    return found


def print_cost(program: Program) -> str:
    """One line a nest: kilobytes read and written and thousands of operations, then the sum and the least there is."""
    lines = [f"{'':>4}{'read kB':>12}{'written kB':>12}{'operations':>14}  nest"]
    for number, nest in enumerate(program.nests):
        lines.append(line(f"{number}:", cost_of_nest(nest), nest.name))
    lines += [line("", cost_of(program), "in all"), line("", least_moved(program.graph), "the least")]
    return "\n".join(lines) + "\n"


def line(number: str, cost: Cost, name: str) -> str:
    return f"{number:>4}{cost.read / 1e3:>12.1f}{cost.written / 1e3:>12.1f}{cost.operations:>14}  {name}"

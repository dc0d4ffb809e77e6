"""What a program costs: bytes that pass through memory and operations, as formulas of its dims.

Bytes. A nest reads each element of a buffer once and writes each once, however many of its terms look at it, unless its
rows are too long to stay near: then every lane loop over a row reads it again. An element that is looked up counts
whenever it is, as nobody knows beforehand which are the same; what is added to at looked-up places counts as a whole,
read and written. Sums count as written once. Scratch is no memory here, nor is what a product packs.

Operations. One for each element of an elementwise op, whatever it does (arithmetic, a comparison, a choice, a change of
dtype), but as many additions as its record says for an elementary function, which is listed by its name too. Two for
each multiply-add of a product. One for each element that goes into a reduction or a scatter, or is looked up. A term
counts once for each point of the axes it varies along, and again in every later lane loop that computes it again; what
lanes or rows of a tile do beyond the last element does not count. Of a product all multiply-adds count, though its
kernel leaves out corners that turn out to be zeros.

Against that stands the least any program for the same graph can do: read the inputs, read and write the states, write
the results, each once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph, Value, reachable
from graphc.ir.loops import (
    Buffer,
    LoopNest,
    Repetition,
    Term,
    has_few_lanes,
    lane_mode,
    lane_terms,
    phase_count,
    walked_by,
)
from graphc.ir.tiles import Tiling
from graphc.ir.types import DTYPES, Dim, Extent, add, bound, dims_of, evaluate, monomials, multiply

if TYPE_CHECKING:
    from graphc.ir.program import Program

NEAR = 2**19  # bytes of a row that are still in a core's own cache when the next lane loop comes back to them
SAME = "{0}"  # the scalar source of a term that is its operand, once for every point
Functions = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes read and written, and operations on one element each.

    products   those of the operations that are multiply-adds of matrix products
    functions  elementary functions by name, in the order of the names
    """

    read: int = 0
    written: int = 0
    operations: int = 0
    products: int = 0
    functions: Functions = ()

    def __add__(self, other: Cost) -> Cost:
        counts = dict(self.functions)
        for name, count in other.functions:
            counts[name] = counts.get(name, 0) + count
        return Cost(
            self.read + other.read,
            self.written + other.written,
            self.operations + other.operations,
            self.products + other.products,
            tuple(sorted(counts.items())),
        )

    @property
    def moved(self) -> int:
        return self.read + self.written

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.operations / max(self.moved, 1)


@dataclass(frozen=True, slots=True)
class Formula:
    """A cost as polynomials of dims.

    slices  how often a loop goes round that takes so many rows of a dim at a time: (that number, the dim, the rows)
    """

    read: Extent = 0
    written: Extent = 0
    operations: Extent = 0
    products: Extent = 0
    functions: tuple[tuple[str, Extent], ...] = ()
    slices: tuple[tuple[Dim, Dim, int], ...] = ()

    def __add__(self, other: Formula) -> Formula:
        counts = dict(self.functions)
        for name, count in other.functions:
            counts[name] = add(counts.get(name, 0), count)
        return Formula(
            add(self.read, other.read),
            add(self.written, other.written),
            add(self.operations, other.operations),
            add(self.products, other.products),
            tuple(sorted(counts.items())),
            tuple(dict.fromkeys((*self.slices, *other.slices))),
        )

    def times(self, count: Extent) -> Formula:
        return self.mapped(lambda extent: multiply(count, extent))

    def mapped(self, change: Callable[[Extent], Extent]) -> Formula:
        """With every polynomial changed."""
        return Formula(
            change(self.read),
            change(self.written),
            change(self.operations),
            change(self.products),
            tuple((name, change(count)) for name, count in self.functions),
            self.slices,
        )

    @property
    def moved(self) -> Extent:
        return add(self.read, self.written)

    @property
    def dims(self) -> tuple[Dim, ...]:
        """The dims it depends on, in order of their names."""
        found = {dim for extent in (self.read, self.written, self.operations) for dim in dims_of(extent)}
        numbers = {number for number, _, _ in self.slices}
        return tuple(sorted((found - numbers) | {dim for _, dim, _ in self.slices}))

    def at(self, sizes: Mapping[Dim, int]) -> Cost:
        """The cost for a size of every dim."""
        known = {**sizes, **{number: -(-sizes[dim] // rows) for number, dim, rows in self.slices}}
        read, written, operations, products = (
            evaluate(extent, known) for extent in (self.read, self.written, self.operations, self.products)
        )
        functions = tuple((name, evaluate(count, known)) for name, count in self.functions)
        return Cost(read, written, operations, products, functions)

    @property
    def most(self) -> Cost:
        """At the dims' maxima."""
        return self.at({dim: dim.max for dim in self.dims})


def cost_of(program: Program) -> Cost:
    """Of one call at the dims' maxima."""
    return formula_of(program).most


def cost_of_nest(nest: LoopNest) -> Cost:
    """Of one nest at the dims' maxima; of a repeated program, all its steps."""
    return formula_of_nest(nest).most


def formula_of(program: Program) -> Formula:
    """Of one call."""
    return together(map(formula_of_nest, program.apart))


def together(formulas: Iterable[Formula]) -> Formula:
    return sum(formulas, Formula())


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


def formula_of_nest(nest: LoopNest) -> Formula:
    """Of one nest; of a repeated program, all its steps."""
    found: Formula | None = nest.memo.get("formula")
    if found is None:
        found = nest.memo["formula"] = find_formula(nest)
    return found


def find_formula(nest: LoopNest) -> Formula:
    if nest.repetition is not None:
        return formula_of_repetition(nest.repetition)
    if nest.sweep is not None:
        source, target = nest.sweep.source.value, nest.sweep.target.value
        return Formula(bytes_of(source), bytes_of(target), source.type.count)
    if nest.tiling is not None:
        return formula_of_tiling(nest, nest.tiling)
    phases = [lane_terms(nest, phase) for phase in range(phase_count(nest))]
    read, written = read_bytes(nest, phases), written_bytes(nest)
    counts = list(counted(nest, phases))
    products = (count for term, count in counts if term.kind == "product")
    operations = add(0, *(multiply(weight(term), count) for term, count in counts))
    return together([Formula(read, written, operations, multiply(2, add(0, *products))), *functions_of(counts)])


def functions_of(counts: Iterable[tuple[Term, Extent]]) -> Iterator[Formula]:
    """The elementary functions among terms that are operations."""
    for term, count in counts:
        if term.kind == "compute" and term.value.op.cost > 1:
            yield Formula(functions=((term.value.op.name, count),))


def formula_of_tiling(nest: LoopNest, tiling: Tiling) -> Formula:
    """Everything once, at all points: at those of tiles that are left out too."""
    read, written = (add(0, *(bytes_of(each.value) for each in some)) for some in (nest.read(), nest.written()))
    lengths = [product.depth for _, product in tiling.products] + [each.columns for each in tiling.weighings]
    products = multiply(2, add(0, *lengths), *nest.frame)
    counts = [(term, points(nest, term.axes)) for term in nest.terms() if term.kind == "compute"]
    operations = add(products, *(multiply(weight(term), count) for term, count in counts))
    return together([Formula(read, written, operations, products), *functions_of(counts)])


def formula_of_repetition(loop: Repetition) -> Formula:
    """States are brought to where they are kept, then every step goes over all that its program touches."""
    return brought(loop) + of_all_steps(loop, formula_of(loop.program))


def brought(loop: Repetition) -> Formula:
    """Of what comes before the first step."""
    size = add(0, *(bytes_of(state) for state, _, _ in loop.carries))
    return Formula(size, size)


def of_all_steps(loop: Repetition, one: Formula) -> Formula:
    """Of all steps of a loop, from what some of a step costs."""
    if loop.rows is None:
        return one.times(loop.value.attrs["length"])
    some, rows = loop.rows
    number = Dim(f"⌈{rows}/{some.max}⌉", -(-rows.max // some.max))
    steps = one.mapped(lambda extent: of_all_rows(extent, some, rows, number))
    return Formula(slices=((number, rows, some.max),)) + steps


def of_all_rows(extent: Extent, some: Dim, rows: Dim, number: Dim) -> Extent:
    """What all slices have of something together: as much as all rows if it grows with them, else as often."""
    terms = []
    for dims, factor in monomials(extent).items():
        others, powers = [dim for dim in dims if dim != some], dims.count(some)
        each = some.max ** max(powers - 1, 0)
        terms.append(multiply(factor * each, rows if powers else number, *others))
    return add(0, *terms)


def bytes_of(value: Value) -> Extent:
    return multiply(DTYPES[value.dtype].itemsize, value.type.count)


def points(nest: LoopNest, axes: Iterable[int]) -> Extent:
    """How many points of the frame differ along those axes."""
    return multiply(*(nest.frame[axis] for axis in sorted(axes)))


def smaller(one: Extent, other: Extent) -> Extent:
    """That of two which is smaller at the dims' maxima."""
    return one if bound(one) <= bound(other) else other


def comes_back(nest: LoopNest) -> bool:
    """Its rows are too long to stay near from one lane loop to the next."""
    rows = [term for term in nest.terms() if term.kind in ("load", "take") and nest.lane in term.axes]
    size = sum(DTYPES[dtype].itemsize for dtype in {term.detail[0]: term.dtype for term in rows}.values())
    return size * bound(nest.lane_extent) > NEAR


def read_bytes(nest: LoopNest, phases: list[set[Term]]) -> Extent:
    """Bytes read, scratch left out unless its rows are too long to stay near."""
    again, found, looked_up = comes_back(nest), dict[Buffer, Extent](), list[Extent]()

    def read(buffer: Buffer, elements: Extent, times: int = 1) -> None:
        size = multiply(DTYPES[buffer.value.dtype].itemsize, elements)
        found[buffer] = smaller(add(found.get(buffer, 0), size), multiply(times, bytes_of(buffer.value)))

    if nest.product is not None:
        depth, (*batch, rows, columns) = nest.product.depth, range(len(nest.frame))
        for operand, side in ((nest.product.left, rows), (nest.product.right, columns)):
            stacked = [axis for axis in batch if axis in walked_by(operand.start)]
            read(operand.buffer, multiply(points(nest, [*stacked, side]), depth))
    for term in nest.terms():
        times = max(sum(term in phase for phase in phases) if again else 1, 1)
        if term.kind == "load":
            read(term.detail[0], multiply(times, points(nest, walked_by(term.detail[1]))), times)
        if term.kind == "take":
            looked_up.append(multiply(times, DTYPES[term.dtype].itemsize, points(nest, term.axes)))
        if term.kind == "scatter":
            read(term.detail[0], term.value.type.count)
        if again and term in nest.stash:
            later = sum(term in phase for number, phase in enumerate(phases) if number > term.phase)
            read(Buffer("scratch", term.value, "row"), multiply(later, points(nest, term.axes)), later)
    return add(0, *found.values(), *looked_up)


def written_bytes(nest: LoopNest) -> Extent:
    """Bytes written, scratch left out as for reading."""
    found: dict[Buffer, Extent] = {}
    for store in nest.stores:
        if store.term.kind != "scatter":
            size = multiply(DTYPES[store.term.dtype].itemsize, points(nest, walked_by(store.index)))
            found[store.buffer] = add(found.get(store.buffer, 0), size)
    for term in nest.terms():
        if term.kind in ("column", "scatter") and term.detail[0].kind != "scratch":
            found[term.detail[0]] = bytes_of(term.value)
        if term in nest.stash and comes_back(nest):
            size = multiply(DTYPES[term.dtype].itemsize, points(nest, term.axes))
            found[Buffer("scratch", term.value, "row")] = size
    return add(0, *found.values())


def counted(nest: LoopNest, phases: list[set[Term]]) -> Iterator[tuple[Term, Extent]]:
    """Each term that is an operation, and how often it is done."""
    keeps = has_few_lanes(nest) or lane_mode(nest.lane_extent) in ("single", "one")  # all terms of so short a row
    for term in nest.terms():
        if term.kind == "product" and nest.product is not None:
            yield term, multiply(nest.product.depth, points(nest, term.axes))
        elif term.kind in ("row", "total", "column", "scatter"):
            yield term, points(nest, term.operands[0].axes)
        elif term.kind == "take" or (term.kind == "compute" and term.detail != SAME):
            times = 1 if keeps or term in nest.stash else max(sum(term in phase for phase in phases), 1)
            yield term, multiply(times, points(nest, term.axes))


def weight(term: Term) -> int:
    """Operations that a term is each time it is done."""
    if term.kind == "product":
        return 2
    return term.value.op.cost if term.kind == "compute" else 1


def print_cost(program: Program) -> str:
    """One line a nest: kilobytes read and written and thousands of operations, then the sum and the least there is."""
    lines = [f"{'':>4}{'read kB':>12}{'written kB':>12}{'operations':>14}  nest"]
    for number, nest in enumerate(program.apart):
        lines.append(line(f"{number}:", cost_of_nest(nest), nest.name))
    lines += [line("", cost_of(program), "in all"), line("", least_moved(program.graph), "the least")]
    return "\n".join(lines) + "\n"


def line(number: str, cost: Cost, name: str) -> str:
    return f"{number:>4}{cost.read / 1e3:>12.1f}{cost.written / 1e3:>12.1f}{cost.operations:>14}  {name}"

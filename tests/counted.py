"""A program run nest by nest in NumPy, with everything it does counted: what ir/cost.py says beforehand.

A nest's terms are evaluated on whole arrays over the frame, lane loop by lane loop as its kernel does: what a lane loop
needs is computed in it, unless it was kept. Places in memory are arrays of indices, so a byte that is read twice is one
byte, and an operation is an element of an array that was computed. Results must be the reference's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from emulator import Array, Run

from graphc.backends import reference
from graphc.ir.cost import Cost
from graphc.ir.graph import Graph
from graphc.ir.loops import (
    Buffer,
    Guards,
    Index,
    LoopNest,
    Operand,
    Repetition,
    Store,
    Sweep,
    Term,
    lane_mode,
    phase_count,
    phase_roots,
)  # fmt: skip
from graphc.ir.ops import OPS
from graphc.ir.program import Program
from graphc.ir.types import DTYPES, Dim, evaluate

SHORT = 16  # lanes: what was computed of a row of so many stays at hand


@dataclass
class Counts:
    """What was done: elements of each buffer that were read and written, at least once; operations."""

    read: dict[Buffer, set[int]] = field(default_factory=lambda: defaultdict(set))
    written: dict[Buffer, set[int]] = field(default_factory=lambda: defaultdict(set))
    looked_up: Counter[Buffer] = field(default_factory=Counter)
    operations: int = 0
    products: int = 0
    functions: Counter[str] = field(default_factory=Counter)

    def computed(self, op: Any, count: int) -> None:
        self.operations += op.cost * count
        if op.cost > 1:
            self.functions[op.name] += count

    @property
    def cost(self) -> Cost:
        """All of it; scratch is no memory."""
        read = sum(len(places) * itemsize(buffer) for buffer, places in seen(self.read))
        read += sum(count * itemsize(buffer) for buffer, count in self.looked_up.items())
        written = sum(len(places) * itemsize(buffer) for buffer, places in seen(self.written))
        functions = tuple(sorted(self.functions.items()))
        return Cost(read, written, self.operations + self.products, self.products, functions)


def seen(places: dict[Buffer, set[int]]) -> Iterator[tuple[Buffer, set[int]]]:
    return ((buffer, found) for buffer, found in places.items() if buffer.kind != "scratch")


def itemsize(buffer: Buffer) -> int:
    return DTYPES[buffer.value.dtype].itemsize


def count(program: Program, arrays: Mapping[str, Any]) -> tuple[list[Cost], dict[str, Array]]:
    """(what each nest did, results and updated states by name) of a program, for arrays by input name."""
    inputs = {
        value.attrs["name"]: np.array(arrays[value.attrs["name"]], DTYPES[value.dtype]).reshape(-1)
        for value in program.graph.inputs
    }
    sizes = reference.dim_sizes(program.graph, arrays)
    run = CountedRun(program, inputs, sizes)
    found = run.run()
    shapes = {output.name: output.value.shape for output in program.graph.outputs if output.kind != "check"}
    results = {name: found[name].reshape([evaluate(each, sizes) for each in shape]) for name, shape in shapes.items()}
    return run.costs, results


def expected(graph: Graph, arrays: Mapping[str, Any]) -> dict[str, Array]:
    found = reference.run(graph, arrays)
    return {output.name: found[output.name] for output in graph.outputs if output.kind != "check"}


class CountedRun(Run):
    """A run that knows what every nest of its program did."""

    def __init__(self, program: Program, inputs: dict[str, Array], sizes: dict[Dim, int]) -> None:
        super().__init__(program, inputs, sizes)
        self.costs: list[Cost] = []

    def run(self) -> dict[str, Array]:
        for number, nest in enumerate(self.program.nests):
            if nest.repetition is not None:
                self.costs.append(self.repeated(number, nest.repetition))
                continue
            counts = Counts()
            with np.errstate(all="ignore"):
                if nest.sweep is not None:
                    self.sweep(number, nest.sweep, counts)
                else:
                    NestRun(self, number, nest, counts).run()
            self.costs.append(counts.cost)
        states = {output.name: self.inputs[output.name] for output in self.program.graph.of_kind("update")}
        return self.results | states

    def body(self, program: Program, inputs: dict[str, Array], sizes: dict[Dim, int]) -> CountedRun:
        self.bodies.append(CountedRun(program, inputs, sizes))
        return self.bodies[-1]

    def repeated(self, number: int, loop: Repetition) -> Cost:
        """What all steps did, and the states that were brought to where they are kept."""
        self.bodies: list[CountedRun] = []
        self.repeat(number, loop)
        brought = sum(self.typed(number, start, state.dtype)[: evaluate(state.type.count, self.sizes)].nbytes
                      for state, start, _ in loop.carries)  # fmt: skip
        return sum((cost for body in self.bodies for cost in body.costs), Cost(brought, brought))

    def sweep(self, number: int, sweep: Sweep, counts: Counts) -> None:
        (operand,) = sweep.value.operands
        shape = reference.concrete(operand.shape, self.sizes)
        size = int(np.prod(shape))
        source = self.typed(number, sweep.source, operand.dtype)[:size].reshape(shape)
        found = reference.compute(sweep.value, {operand: source}, {}, self.sizes, False)
        self.typed(number, sweep.target, sweep.value.dtype)[: found.size] = found.reshape(-1)
        counts.read[sweep.source] |= set(range(size))
        counts.written[sweep.target] |= set(range(found.size))
        counts.operations += size


class NestRun:
    """One nest. A term's array has all axes of the frame, of size 1 where it does not vary."""

    def __init__(self, run: CountedRun, number: int, nest: LoopNest, counts: Counts) -> None:
        self.program, self.number, self.nest, self.counts = run, number, nest, counts
        self.frame = reference.concrete(nest.frame, run.sizes)
        self.known: dict[Term, Array] = {}
        lane = nest.frame[-1] if nest.frame else 1
        self.keeps = isinstance(lane, int) and lane <= SHORT and lane_mode(lane) in ("single", "one")

    def run(self) -> None:
        for phase in range(phase_count(self.nest)):
            self.lane_loop(phase)
        late = [store for store in self.nest.stores if store.term.late]
        for term in self.nest.terms():  # sums nobody reads here, but another nest
            if term.kind in ("column", "scatter", "total"):
                self.value(term)
        for store in late:
            self.store(store)

    def lane_loop(self, phase: int) -> None:
        """One pass over the lanes: what varies along them is forgotten at its end, unless it is kept."""
        for term in phase_roots(self.nest, phase):
            self.value(term)
        for term in self.nest.terms():
            if term.kind in ("row", "total", "column", "scatter") and term.operands[0].phase == phase:
                self.value(term)
        for store in self.nest.stores:
            if store.phase == phase and not store.term.late:
                self.value(store.term)
        for store in self.nest.stores:
            if store.phase == phase and not store.term.late:
                self.store(store)
        for term in list(self.known):
            is_sum = term.kind in ("row", "total", "column", "scatter")
            if self.nest.lane in term.axes and not (self.keeps or is_sum or term in self.nest.stash or term.late):
                del self.known[term]

    def value(self, term: Term) -> Array:
        if term not in self.known:
            self.known[term] = getattr(self, term.kind)(term)
        return self.known[term]

    # -- places

    def along(self, axis: int) -> Array:
        shape = [1] * len(self.frame)
        shape[axis] = self.frame[axis]
        return np.arange(self.frame[axis]).reshape(shape)

    def size_of(self, extent: Any) -> int:
        return evaluate(extent, self.program.sizes)

    def places(self, index: Index) -> Array:
        found: Any = np.zeros([1] * len(self.frame), np.int64)
        for axis, stride in index:
            found = found + (1 if axis is None else self.along(axis)) * self.size_of(stride)
        return found

    def inside(self, guards: Guards) -> Array:
        found: Any = np.ones([1] * len(self.frame), bool)
        for index, extent in guards:
            at = self.places(index)
            found = found & (at >= 0) & (at < self.size_of(extent))
        return found

    def memory(self, buffer: Buffer, dtype: str) -> Array:
        return self.program.typed(self.number, buffer, dtype)

    def fetch(self, buffer: Buffer, dtype: str, at: Array, inside: Any = True) -> Array:
        at, live = np.broadcast_arrays(at, inside)
        self.counts.read[buffer] |= set(at[live].tolist())
        held = np.where(live, at, 0)
        return np.where(live, self.memory(buffer, dtype)[held], DTYPES[dtype].type(0))

    # -- terms

    def load(self, term: Term) -> Array:
        buffer, index, guards = term.detail
        return self.fetch(buffer, term.dtype, self.places(index), self.inside(guards))

    def constant(self, term: Term) -> Array:
        return np.full([1] * len(self.frame), term.detail, DTYPES[term.dtype])

    def size(self, term: Term) -> Array:
        return np.full([1] * len(self.frame), self.size_of(term.detail), DTYPES[term.dtype])

    def iota(self, term: Term) -> Array:
        return self.places(term.detail).astype(DTYPES[term.dtype])

    def guard(self, term: Term) -> Array:
        return np.where(self.inside(term.detail), self.value(term.operands[0]), DTYPES[term.dtype].type(0))

    def compute(self, term: Term) -> Array:
        operands = [self.value(operand) for operand in term.operands]
        if term.detail == "{0}":  # one number for each of many points
            return np.broadcast_to(operands[0], [n if a in term.axes else 1 for a, n in enumerate(self.frame)])
        attrs = {key: reference.concrete(each, self.program.sizes) for key, each in term.value.attrs.items()}
        found = np.asarray(term.value.op.numpy(*operands, **attrs)).astype(DTYPES[term.dtype], copy=False)
        self.counts.computed(term.value.op, found.size)
        return found

    def product(self, term: Term) -> Array:
        product = self.nest.product
        depth = self.size_of(product.depth)
        left, right = self.matrix(product.left, term.dtype), self.matrix(product.right, term.dtype)
        found = np.matmul(left, right)
        self.counts.products += 2 * found.size * depth
        return found

    def matrix(self, operand: Operand, dtype: str) -> Array:
        """A stack of matrices over the batch axes of the frame."""
        rows, columns = (self.walk(steps) for steps in (operand.rows, operand.columns))
        return self.fetch(operand.buffer, dtype, self.places(operand.start) + rows[:, None] + columns[None, :])

    def walk(self, steps: Any) -> Array:
        found = np.zeros(1, np.int64)
        for extent, stride in steps:
            more = np.arange(self.size_of(extent)) * self.size_of(stride)
            found = (found[:, None] + more[None, :]).reshape(-1)
        return found

    def reduced(self, term: Term, name: str) -> Array:
        operand = self.value(term.operands[0])
        axes = tuple(axis for axis in term.operands[0].axes if axis not in term.axes)
        self.counts.operations += operand.size
        return np.asarray(OPS[name].numpy(operand, axes=axes))

    def row(self, term: Term) -> Array:
        return self.reduced(term, term.detail)

    total = row

    def column(self, term: Term) -> Array:
        buffer, index, name = term.detail
        found = self.reduced(term, name)
        self.keep(buffer, index, found)
        return found

    def looked_up(self, index: Index, indices: Any, lookups: Any) -> Array:
        at = self.places(index)
        for term, (stride, extent) in zip(indices, lookups, strict=True):
            at = at + np.clip(self.value(term), 0, self.size_of(extent) - 1) * self.size_of(stride)
        return at

    def take(self, term: Term) -> Array:
        buffer, index, lookups = term.detail
        at = self.looked_up(index, term.operands, lookups)
        self.counts.looked_up[buffer] += at.size
        self.counts.operations += at.size
        return self.memory(buffer, term.dtype)[at]

    def scatter(self, term: Term) -> Array:
        buffer, index, lookups = term.detail
        values, *indices = term.operands
        at, added = np.broadcast_arrays(self.looked_up(index, indices, lookups), self.value(values))
        size = self.size_of(term.value.type.count)
        sums = np.zeros(size, DTYPES[term.dtype])
        np.add.at(sums, at, added)
        self.memory(buffer, term.dtype)[:size] = sums
        self.counts.operations += added.size
        self.counts.read[buffer] |= set(range(size))
        self.counts.written[buffer] |= set(range(size))
        return sums

    # -- stores

    def keep(self, buffer: Buffer, index: Index, values: Array) -> None:
        at = self.places(index)
        at, values = np.broadcast_arrays(at, values)
        self.memory(buffer, NAMES[values.dtype])[at] = values
        self.counts.written[buffer] |= set(at.reshape(-1).tolist())

    def store(self, store: Store) -> None:
        values = self.value(store.term)
        if store.term.kind != "scatter":
            self.keep(store.buffer, store.index, values)


NAMES = {dtype: name for name, dtype in DTYPES.items()}

"""How long a kernel will take: its cost by this machine's ceilings.

A product is as slow as its multiply-adds, other loops as their elementary functions and their arithmetic together; both
have at least to bring their bytes from where these lie, which the memory of the whole step says. Lanes that idle beside
the last ones of short rows count, as they take as long.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.backends.target import host_tile
from graphc.ceilings import Ceilings
from graphc.ir.blocking import ADDING_UP, blocking
from graphc.ir.cost import Cost, formula_of_nest
from graphc.ir.frozen import dataclass
from graphc.ir.loops import LANES, LoopNest, Repetition
from graphc.ir.ops import OPS
from graphc.ir.partition import PARTS
from graphc.ir.program import Program
from graphc.ir.types import Dim, Extent, evaluate, round_up

MEETING = 1e-6  # seconds that threads take to meet after a kernel, mostly to hear of each other's last store


@dataclass(frozen=True, slots=True)
class Predictor:
    """What kernels of one program take on a machine.

    sizes      of its dims
    footprint  bytes that a call goes over again and again
    threads    that share kernels which are shared out
    """

    ceilings: Ceilings
    sizes: Mapping[Dim, int]
    footprint: int
    threads: int

    def program(self, program: Program) -> float:
        """Seconds of all its kernels."""
        return sum(map(self.nest, program.apart))

    def nest(self, nest: LoopNest) -> float:
        """Seconds of one nest; of a repeated program, all its steps."""
        if nest.repetition is not None:
            inside, rounds = self.inside(nest.repetition)
            return rounds * inside.program(nest.repetition.program)
        return max(self.sides(nest)) + (MEETING if self.share(nest) > 1 else 0.0)

    def bound_by(self, nest: LoopNest) -> str:
        """What it is as slow as: "operations" or "bytes"."""
        computing, moving = self.sides(nest)
        return "operations" if computing >= moving else "bytes"

    def sides(self, nest: LoopNest) -> tuple[float, float]:
        """Seconds to compute, and to bring the bytes."""
        if nest.repetition is not None:
            inside, rounds = self.inside(nest.repetition)
            found = [inside.sides(each) for each in nest.repetition.program.apart]
            return rounds * sum(each for each, _ in found), rounds * sum(each for _, each in found)
        cost, threads = formula_of_nest(nest).at(self.sizes), self.share(nest)
        return self.computing(nest, cost) / threads, cost.moved / self.ceilings.copy(self.footprint, threads)

    def share(self, nest: LoopNest) -> int:
        """How many threads take part."""
        if nest.partition is None:
            return 1
        return min(self.threads, PARTS)

    def inside(self, loop: Repetition) -> tuple[Predictor, float]:
        """The same for its body, and how often that is run; with a last, smaller slice as a part of once."""
        if loop.rows is None:
            return self, evaluate(loop.value.attrs["length"], self.sizes)
        some, rows = loop.rows
        sizes = {**self.sizes, some: some.max}
        return Predictor(self.ceilings, sizes, self.footprint, self.threads), self.sizes[rows] / some.max

    def computing(self, nest: LoopNest, cost: Cost) -> float:
        """Seconds of one thread for what is computed, wherever the numbers lie."""
        functions = dict(cost.functions)
        plain = cost.operations - cost.products - sum(OPS[name].cost * count for name, count in functions.items())
        seconds = plain / self.ceilings.arithmetic
        seconds += sum(count / self.ceilings.function(name) for name, count in functions.items())
        seconds *= filled(self.size(nest.lane_extent))
        return seconds + cost.products * self.idle(nest) / self.ceilings.products

    def idle(self, nest: LoopNest) -> float:
        """How many times the multiply-adds of a product are done, lanes in no use included."""
        if nest.product is None:
            return 1.0
        dtype = next(term.dtype for term in nest.terms() if term.kind == "product")
        form = blocking(nest, host_tile()[1] * LANES, dtype).form
        rows, columns, depth = map(self.size, (*nest.frame[-2:], nest.product.depth))
        if form == "lines":
            return filled(depth) + ADDING_UP / max(depth, 1)
        return filled(rows if form == "turned" else columns)

    def size(self, extent: Extent) -> int:
        return max(evaluate(extent, self.sizes), 0)


def filled(extent: int) -> float:
    """How much longer whole sets of lanes take than those in use would."""
    return round_up(extent, LANES) / max(extent, 1)

"""What the launches of a call are for: the nests they do, and what these cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence

from graphc.backends.cuda.device import Launch, Multiply, Place, Step
from graphc.backends.cuda.outside import Outside
from graphc.backends.cuda.plan import Find, Homes, Planner
from graphc.backends.cuda.schedule import Job
from graphc.backends.cuda.serial import SHAPE
from graphc.backends.cuda.threads import Piece
from graphc.ir.cost import Cost, Formula, formula_of_nest, together
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph
from graphc.ir.loops import Buffer, LoopNest, Repetition
from graphc.ir.program import Program, plan
from graphc.ir.types import bound


@dataclass(frozen=True, slots=True)
class Errand:
    """A launch, or a product by a library, and what it is for.

    pieces, nests  of which each piece does one; a nest may take several
    loops          that repeat it, outermost first
    formula        what one launch costs; a nest counts where its first piece is
    """

    launch: Launch | Multiply
    pieces: tuple[Piece, ...]
    nests: tuple[LoopNest, ...]
    loops: tuple[Repetition, ...]
    formula: Formula

    @property
    def cost(self) -> Cost:
        """Of one launch at the dims' maxima."""
        return self.formula.most

    @property
    def times(self) -> int:
        """How often a call does it."""
        return math.prod(bound(loop.value.attrs["length"]) for loop in self.loops)

    @property
    def blocks(self) -> int:
        """At the dims' maxima; 0 of a library's, which are its own affair."""
        if isinstance(self.launch, Multiply):
            return 0
        return sum(min(max(-(-bound(grid.extent) // grid.each), 1), grid.most) for grid in self.launch.grids)


def errands(graph: Graph, library: Collection[str] = (), precision: str = "highest") -> list[Errand]:
    """Those of a graph that went through the passes, in order; the rest as for `plan.draw`."""
    return errands_of(plan(graph, SHAPE.width), library, precision)


def errands_of(program: Program, library: Collection[str] = (), precision: str = "highest") -> list[Errand]:
    """Those of a program; their nests and loops are its own."""
    accountant = Accountant(program, library, precision)
    accountant.draw()
    return accountant.errands


class Accountant(Planner):
    """Keeps an errand of every launch."""

    def __init__(self, program: Program, library: Collection[str], precision: str) -> None:
        super().__init__(program, library, precision)
        self.errands: list[Errand] = []
        self.at, self.loops = program, tuple[Repetition, ...]()
        self.counted: set[int] = set()

    def steps_of(self, program: Program, homes: Homes, base: int) -> tuple[tuple[Step, ...], int]:
        outer, self.at = self.at, program
        found = super().steps_of(program, homes, base)
        self.at = outer
        return found

    def repeat(self, repetition: Repetition, place: Callable[[Buffer], Place], end: int) -> tuple[list[Step], int]:
        outer, self.loops = self.loops, (*self.loops, repetition)
        found = super().repeat(repetition, place, end)
        self.loops = outer
        return found

    def launch(self, jobs: list[Job], place: Find) -> Iterator[Step]:
        for step in super().launch(jobs, place):
            if isinstance(step, Launch):
                self.errands.append(self.errand(step, jobs))
            yield step

    def multiply(self, job: Job, product: Outside, place: Find) -> Multiply:
        found = super().multiply(job, product, place)
        self.errands.append(self.errand(found, [job]))
        return found

    def errand(self, launch: Launch | Multiply, jobs: Sequence[Job]) -> Errand:
        nests = [self.at.apart[job.number] for job in jobs]
        new = {id(nest): nest for nest in nests if id(nest) not in self.counted}
        self.counted |= new.keys()
        pieces = tuple(job.piece for job in jobs if job.piece is not None)
        return Errand(launch, pieces, tuple(nests), self.loops, together(map(formula_of_nest, new.values())))

"""What a nest does that goes through points tile by tile, still free of any target: see ir/attention.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from graphc.ir.frozen import dataclass
from graphc.ir.graph import Value
from graphc.ir.types import Extent

if TYPE_CHECKING:
    from graphc.ir.loops import Band, Buffer, Index, Operand, Product, Term


@dataclass(frozen=True, slots=True)
class Room:
    """Where a matrix of a tiling's results goes.

    start  index of its first element over the batch axes
    steps  from row to row, and from column to column
    """

    buffer: Buffer
    start: Index
    steps: tuple[Extent, Extent]


@dataclass(frozen=True, slots=True)
class Weighing:
    """Sums over one axis of points of their weights times the rows of a matrix: one vector a place of the other axis.

    matrix   its rows go along the axis that is summed over
    columns  of the matrix, and of the result
    rooms    for the vectors, as rows
    """

    weight: Term
    matrix: Operand
    columns: Extent
    rooms: tuple[Room, ...]


@dataclass(frozen=True, slots=True)
class Softmax:
    """What makes the weights of a row: powers of scores over their sum, whose logarithm is kept.

    normaliser  that logarithm, as the weights see it
    rooms       for the logarithms, as a column
    hides       a row of nothing but -inf has weights of 0, not of NaN
    """

    scores: Term
    powers: Term
    normaliser: Term
    rooms: tuple[Room, ...]
    hides: bool


@dataclass(frozen=True, slots=True)
class Tiling:
    """Terms at points (batch axes …, rows, columns), summed with weights tile by tile.

    products   of vectors, one a point: the terms that are their elements
    own        the frame axis with one vector of the results a place; the other one is summed over
    filled     the band of points outside of which there are no weights but 0
    """

    value: Value
    products: tuple[tuple[Term, Product], ...]
    weighings: tuple[Weighing, ...]
    own: int
    filled: Band
    softmax: Softmax | None

    @property
    def terms(self) -> tuple[Term, ...]:
        """Those that all others are there for."""
        softmax = () if self.softmax is None else (self.softmax.scores, self.softmax.normaliser, self.softmax.powers)
        return (*softmax, *(each.weight for each in self.weighings))

    @property
    def matrices(self) -> Iterator[Operand]:
        for _, product in self.products:
            yield from (product.left, product.right)
        yield from (each.matrix for each in self.weighings)

    @property
    def rooms(self) -> Iterator[Room]:
        yield from (room for each in self.weighings for room in each.rooms)
        yield from (() if self.softmax is None else self.softmax.rooms)

"""The kernels of a nest, by the first way to share it out among threads that covers it."""

from __future__ import annotations

from graphc.backends.cuda.points import Points
from graphc.backends.cuda.products import Products, parted
from graphc.backends.cuda.scatters import Scatters, without_scatters
from graphc.backends.cuda.serial import serial
from graphc.backends.cuda.sweeps import Sweeps
from graphc.backends.cuda.teams import Teams
from graphc.backends.cuda.threads import NotCovered, Piece
from graphc.backends.cuda.tiled import Tiled
from graphc.ir.loops import LoopNest

WAYS = (Sweeps, Tiled, Points, Teams, Scatters, Products)


def write(nest: LoopNest, loose: bool = False) -> tuple[Piece, ...]:
    """The kernels that do what a nest says, in order; a repetition has none of its own.

    loose  some of its memory begins where accesses of many bytes must not
    """
    first: tuple[Piece, ...] = ()
    if nest.product is not None:
        product, rest = parted(nest)
        first = written(product, loose)
        if rest is None:
            return first
        nest = rest
    nest, scatter = without_scatters(nest)
    return first + written(nest, loose) + (() if scatter is None else written(scatter, loose))


def written(nest: LoopNest, loose: bool) -> tuple[Piece, ...]:
    for way in WAYS:
        writer = way(nest)
        writer.loose = loose
        try:
            return writer.pieces()
        except NotCovered:
            continue
    return (serial(nest),)

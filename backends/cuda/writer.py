"""The kernels of a nest, by the first way to share it out among threads that covers it."""

from __future__ import annotations

from graphc.backends.cuda.fronts import parted
from graphc.backends.cuda.points import Points
from graphc.backends.cuda.products import Products
from graphc.backends.cuda.scatters import Scatters, without_scatters
from graphc.backends.cuda.serial import serial
from graphc.backends.cuda.slabs import Slabs
from graphc.backends.cuda.sweeps import Sweeps
from graphc.backends.cuda.teams import Teams
from graphc.backends.cuda.tensors import Tensors
from graphc.backends.cuda.threads import NotCovered, Piece
from graphc.backends.cuda.tiled import Tiled
from graphc.ir.loops import LoopNest

WAYS = (Sweeps, Tiled, Points, Slabs, Teams, Scatters, Tensors, Products)


def write(nest: LoopNest, loose: bool = False, precision: str = "highest") -> tuple[Piece, ...]:
    """The kernels that do what a nest says, in order; a repetition has none of its own.

    loose      some of its memory begins where accesses of many bytes must not
    precision  of what products multiply: "highest", "tf32" or "bf16"
    """
    first: tuple[Piece, ...] = ()
    if nest.product is not None:
        product, rest = parted(nest)
        first = written(product, loose, precision)
        if rest is None:
            return first
        nest = rest
    nest, scatter = without_scatters(nest)
    return first + written(nest, loose) + (() if scatter is None else written(scatter, loose))


def written(nest: LoopNest, loose: bool, precision: str = "highest") -> tuple[Piece, ...]:
    for way in WAYS:
        writer = way(nest)
        writer.loose, writer.precision = loose, precision
        try:
            return writer.pieces()
        except NotCovered:
            continue
    return (serial(nest),)

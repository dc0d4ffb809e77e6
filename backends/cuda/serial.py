"""What nothing else covers: the CPU's own text, by one thread. Slow, and right."""

from __future__ import annotations

from dataclasses import replace

from graphc.backends.contraction import TileShape
from graphc.backends.cuda.device import Grid
from graphc.backends.cuda.threads import Piece
from graphc.backends.source import write
from graphc.ir.loops import Buffer, LoopNest
from graphc.ir.program import scratch_bytes

SHAPE = TileShape(1, 1)


def serial(nest: LoopNest) -> Piece:
    whole = replace(nest, partition=None)
    source = write(whole, SHAPE)
    rooms = dict(scratch_bytes(whole, SHAPE.width))
    used = {argument for argument in source.arguments if isinstance(argument, Buffer)}
    needed = tuple((buffer, size) for buffer, size in rooms.items() if buffer in used)
    return Piece(source.kernel, source.arguments, Grid(1, 1, 1), 1, needed)

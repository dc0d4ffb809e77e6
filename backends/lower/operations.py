"""All operations of the kernel language by name: what `backends.primitives` means in NumPy, these emit as LLVM."""

from __future__ import annotations

from graphc.backends.lower.arithmetic import CONVERSIONS, FUNCTIONS, OPERATORS
from graphc.backends.lower.emission import Operation
from graphc.backends.lower.memory import LANE_OPERATIONS, MEMORY
from graphc.backends.lower.threads import THREADS
from graphc.backends.lower.tiles import TILES, tile_operation
from graphc.backends.primitives import tile_primitive

OPERATIONS: dict[str, Operation] = OPERATORS | FUNCTIONS | CONVERSIONS | MEMORY | LANE_OPERATIONS | TILES | THREADS


def operation(name: str) -> Operation | None:
    """The operation of a primitive's name or an operator's symbol; None if there is none."""
    tile = tile_primitive(name)
    return tile_operation(*tile) if tile else OPERATIONS.get(name)

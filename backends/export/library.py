"""What goes into a library: functions, and the states they share in one block of memory.

A block begins with a header of HEADER_BYTES: the magic number, the library's layout hash, the size of the block in
bytes, zeros. Behind it lie the states one after the other, each at a multiple of 64 bytes, zeros between them. It holds
no addresses, so it can be copied, written to a file and read back by any build of the same model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph
from graphc.ir.types import ALIGNMENT, DTYPES, FLOATS, TensorType, round_up

if TYPE_CHECKING:
    from graphc.ir.initial import Initial

Array = np.ndarray[Any, Any]

ABI = 1
MAGIC = int.from_bytes(b"graphc\0" + bytes([ABI]), "little")
HEADER_BYTES = ALIGNMENT
MOST_THREADS = 256


@dataclass(frozen=True, slots=True)
class State:
    """One parameter, buffer or optimizer's number.

    offset    in the block, in bytes
    trains    it is a parameter with a gradient, so part of the flat parameters
    initial   how `init` makes its numbers; None: it copies `given`
    is_generator  the seed and the count of calls, from which functions draw
    """

    name: str
    type: TensorType
    offset: int
    trains: bool
    initial: Initial | None
    given: Array | None
    is_generator: bool = False

    @property
    def bytes(self) -> int:
        return self.type.max_bytes

    @property
    def count(self) -> int:
        return self.bytes // DTYPES[self.type.dtype].itemsize


@dataclass(frozen=True, slots=True)
class Labels:
    """A data input whose integers must be from low to below high, or be the `other` one; with the check's message."""

    name: str
    low: int
    high: int
    other: int
    message: str


@dataclass(frozen=True, slots=True)
class Member:
    """One function.

    name       in C, behind the library's
    graph      after all passes
    states     the library's states, in the order of the graph's
    settings   (name, value at export) of every run-time scalar
    labels     what an epoch looks at before its first step
    max_bytes  that of the compiler
    traced     the graph before all passes, for GPUs, which have passes of their own; None: theirs is `graph` too
    """

    name: str
    graph: Graph
    states: tuple[State, ...]
    settings: tuple[tuple[str, float], ...]
    labels: tuple[Labels, ...] = ()
    max_bytes: int | None = None
    traced: Graph | None = None

    @property
    def device_graph(self) -> Graph:
        """After all passes for GPUs."""
        from graphc.backends.cuda.passes import passed_for_device

        return self.graph if self.traced is None else passed_for_device(self.traced)


@dataclass(frozen=True, slots=True)
class Library:
    """Functions by one name, over one block of states."""

    name: str
    members: tuple[Member, ...]
    states: tuple[State, ...]

    @property
    def state_bytes(self) -> int:
        last = self.states[-1] if self.states else None
        return HEADER_BYTES if last is None else last.offset + round_up(last.bytes)

    @property
    def layout_hash(self) -> int:
        """Equal for libraries whose blocks can be exchanged: 64 bits of a sha256 over the states."""
        text = "".join(f"{state.name} {state.type} {state.offset}\n" for state in self.states)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    @property
    def parameters(self) -> tuple[State, ...]:
        """What trains, in order, if all of it has one float dtype; else nothing: there is no flat array of them."""
        found = tuple(state for state in self.states if state.trains)
        kinds = {state.type.dtype for state in found}
        return found if len(kinds) == 1 and kinds <= set(FLOATS) else ()

    def header(self) -> bytes:
        words = (MAGIC, self.layout_hash, self.state_bytes)
        return b"".join(word.to_bytes(8, "little") for word in words).ljust(HEADER_BYTES, b"\0")

    def block(self, arrays: Sequence[Array]) -> bytes:
        """A block of these numbers, one array a state."""
        block = bytearray(self.state_bytes)
        block[:HEADER_BYTES] = self.header()
        for state, array in zip(self.states, arrays, strict=True):
            block[state.offset : state.offset + state.bytes] = np.ascontiguousarray(array).tobytes()
        return bytes(block)

    def arrays(self, block: bytes) -> list[Array]:
        """The states' numbers. Raises ValueError for what is no block of this library."""
        if block[:HEADER_BYTES] != self.header() or len(block) != self.state_bytes:
            raise ValueError(f"this is no state of {self.name}: {len(block)} bytes, expected {self.state_bytes}")
        found = []
        for state in self.states:
            kind, shape = DTYPES[state.type.dtype], tuple(int(extent) for extent in state.type.shape)  # type: ignore[arg-type]
            found.append(np.frombuffer(block, kind, state.count, state.offset).reshape(shape).copy())
        return found


def lay_out(states: Sequence[State]) -> tuple[State, ...]:
    """The states with their places in the block."""
    from dataclasses import replace

    offset, placed = HEADER_BYTES, []
    for state in states:
        placed.append(replace(state, offset=offset))
        offset += round_up(state.bytes)
    return tuple(placed)

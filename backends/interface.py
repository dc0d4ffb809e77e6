"""What a caller and the two functions of an artifact agree on: statuses, kinds of data, places in the arena."""

from __future__ import annotations

import sys

from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph
from graphc.ir.types import Dim

LINKED = sys.platform == "linux"  # we write shared libraries for Linux; elsewhere LLVM loads the object
CHECKS = 64  # what `epoch` multiplies a step number by, to tell it and a check in one status
PLAIN, BYTES_AS_IMAGE = 0, 1  # how `epoch` reads a data array: as it is, or uint8 to be divided by 255
GIVEN, SHUFFLED, IN_PLACE = 0, 1, 2  # what `epoch` does with `order`: takes it, fills it, or reads rows as they lie
# What the two functions read at the address they are called with, eight bytes each: see entry.
STEP_WORDS = ("states", "work", "inputs", "sizes", "scalars", "results")
EPOCH_WORDS = (
    "states", "work", "data", "kinds", "order", "ordering", "seed", "number", "samples", "batch", "first", "last",
    "scalars", "totals", "fresh",
)  # fmt: skip
ORDERING_AT, SEED_AT, NUMBER_AT, FIRST_AT, LAST_AT, FRESH_AT = map(
    EPOCH_WORDS.index, ("ordering", "seed", "number", "first", "last", "fresh")
)
LINE = 64  # bytes of a cache line
MEETING_BYTES = 4 * LINE  # where threads meet: see barrier.py
GENERATION, YIELD = LINE, 2 * LINE
# Where a helper is told of calls, eight bytes each, and behind that line how many it has served: see barrier.
SLOT_WORDS = ("ticket", "function", "call", "thread", "threads", "next", "yield", "promised")
SERVED = LINE
# What `fits` is told of the arrays of a call, before what it is told of each: see entry/arrays.py.
ARRAY_WORDS = (
    "objects", "count", "array.kind", "offset", "flags.wanted", "fixed", "places", "sizes", "blocks", "block.count",
)  # fmt: skip
EQUAL, BINDS, BOUND = 0, 1, 2  # how `fits` is told of an axis
# Where things are in an array object, in bytes from where the address of its elements is.
KIND, RANK, EXTENTS, DTYPE, FLAGS = -8, 8, 16, 40, 48
ENTRIES = ("step", "epoch")  # an artifact's own functions; others are the same in all


@dataclass(frozen=True, slots=True)
class Arena:
    """The memory a call works in: what all threads share, where they meet, what each has for itself.

    shared    bytes of the first, with what `epoch` keeps there: so the offset of the meeting place
    private   bytes of the last, for each thread
    for_many  there is something to do for more than one thread
    """

    shared: int
    private: int
    for_many: bool

    def size(self, threads: int) -> int:
        return self.shared + MEETING_BYTES + threads * self.private


@dataclass(frozen=True, slots=True)
class EpochLayout:
    """Where `epoch` keeps what it gathers and what `step` returns, as offsets into the arena; `size` is the total."""

    inputs: tuple[int, ...]
    results: tuple[int, ...]
    size: int


def epoch_dim(graph: Graph) -> Dim | None:
    """The dim every data input has as its first axis and nowhere else; without one there is no epoch."""
    data, dims = graph.of_role("data"), graph.dims
    firsts = {value.shape[0] if value.shape else None for value in data}
    if len(dims) != 1 or firsts != {dims[0]}:
        return None
    rows = (value.type.with_shape(value.shape[1:]) for value in data)
    return None if any(True for row in rows for _ in row.dims()) else dims[0]


def functions_of(has_epoch: bool, for_many: bool) -> tuple[str, ...]:
    """What an artifact offers: `epoch` where the inputs allow one, `attend` and `lead` where threads share its work."""
    return ("step", "fits", *(("epoch",) if has_epoch else ()), *(("attend", "lead") if for_many else ()))

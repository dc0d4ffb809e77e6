"""Which kernels can be launched together: those that do not touch what another one of them writes.

Every launch costs more than a small kernel takes, so each piece runs as soon as what it waits for is done, beside all
others that can. Updates of state wait for the checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphc.backends.cuda.outside import Outside
from graphc.backends.cuda.threads import Piece
from graphc.ir import ops
from graphc.ir.frozen import dataclass
from graphc.ir.loops import Buffer, LoopNest

Key = tuple[int, Buffer]  # scratch is each nest's own, under its number; everything else is under -1
MOST_TOGETHER = 16  # pieces of a launch
MOST_WORDS = 400  # that they are told: a kernel has parameters of 4096 bytes at most


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do: a piece, or a whole repetition, of nest `number`.

    counts   of the checks that it waits for: it does nothing where one of them has failed
    product  the piece is one for a library, and so none of ours
    """

    number: int
    piece: Piece | None
    read: frozenset[Key]
    written: frozenset[Key]
    counts: tuple[Buffer, ...] = ()
    product: Outside | None = None

    def must_wait_for(self, earlier: Job) -> bool:
        """Not where both write parts of a join: each has places of its own."""
        both = self.written & earlier.written
        return not (
            all(buffer is not None and buffer.value.op is ops.join for _, buffer in both)
            and (self.written - both).isdisjoint(earlier.read)
            and (self.read - both).isdisjoint(earlier.written)
        )


def key(number: int, buffer: Buffer) -> Key:
    return (number if buffer.kind == "scratch" else -1), buffer


def job_of(number: int, nest: LoopNest, piece: Piece, counts: Sequence[Buffer]) -> Job:
    """A piece of a nest, which writes all of what the nest writes that it is told of; an update waits for checks."""
    told = {each for each in piece.arguments if isinstance(each, Buffer)}
    written = {each for each in told - piece.only_read if each in nest.written() or each.kind == "scratch"}
    waits = tuple(counts) if any(each.kind == "input" for each in written) else ()
    read = {key(number, each) for each in (*told, *waits)}
    return Job(number, piece, frozenset(read), frozenset(key(number, each) for each in written), waits)


def product_of(number: int, product: Outside) -> Job:
    read = frozenset(key(number, each) for each in product.read)
    return Job(number, None, read, frozenset({key(number, product.target)}), product=product)


def repetition_of(number: int, nest: LoopNest) -> Job:
    read, written = (frozenset(key(number, each) for each in some) for some in (nest.read(), nest.written()))
    return Job(number, None, read, written)


STATUS: Key = (-2, None)  # type: ignore[assignment]


def levels(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs as early as they can be done, those of a level side by side."""
    found: list[list[Job]] = []
    level: dict[int, int] = {}
    for place, job in enumerate(jobs):
        before = (level[other] for other, earlier in enumerate(jobs[:place]) if job.must_wait_for(earlier))
        level[place] = 1 + max(before, default=-1)
        while len(found) <= level[place]:
            found.append([])
        found[level[place]].append(job)
    return found


def launches(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """The jobs in an order that respects what they wait for; those in one list go into one launch."""
    for level in levels(jobs):
        yield from ([job] for job in level if job.piece is None)
        waiting = next((job.counts for job in level if job.counts), ())
        alike: dict[tuple[int, tuple[Buffer, ...]], list[Job]] = {}
        for job in level:
            if job.piece is not None:
                alike.setdefault((job.piece.threads, job.counts or waiting), []).append(job)
        for together in alike.values():
            yield from in_parts(together)


def in_parts(jobs: list[Job]) -> Iterator[list[Job]]:
    together, words = list[Job](), 0
    for job in jobs:
        more = len(job.piece.arguments) if job.piece is not None else 0
        if together and (len(together) == MOST_TOGETHER or words + more > MOST_WORDS):
            yield together
            together, words = [], 0
        together.append(job)
        words += more
    if together:
        yield together

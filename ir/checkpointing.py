"""Less memory for more arithmetic: what lies idle for long is let go, and computed again before it is read next.

Nests are run a second time as they are, from the same numbers, so nothing changes but time and memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import count

from graphc.ir.cost import cost_of_nest
from graphc.ir.frozen import dataclass
from graphc.ir.loops import (
    INDEXED,
    Buffer,
    LoopNest,
    Operand,
    Repetition,
    Term,
    expensive_across_phases,
)
from graphc.ir.partition import SUMS, partition
from graphc.ir.tiles import Room, Softmax, Tiling

DEEPEST = 32  # nests that are run again for one buffer


# -- nests over other buffers


def moved(nest: LoopNest, places: Mapping[Buffer, Buffer]) -> LoopNest:
    """The nest with other buffers in place of some."""
    if places.keys().isdisjoint(nest.buffers()):
        return nest

    def at(buffer: Buffer) -> Buffer:
        return places.get(buffer, buffer)

    terms: dict[Term, Term] = {}
    for term in nest.terms():
        detail = (at(term.detail[0]), *term.detail[1:]) if term.kind in INDEXED else term.detail
        terms[term] = replace(term, operands=tuple(terms[operand] for operand in term.operands), detail=detail)
    product, sweep = nest.product, nest.sweep
    if product is not None:
        left, right = (replace(each, buffer=at(each.buffer)) for each in (product.left, product.right))
        product = replace(product, left=left, right=right)
    if sweep is not None:
        sweep = replace(sweep, source=at(sweep.source), target=at(sweep.target))
    return replace(
        nest,
        stores=tuple(replace(store, term=terms[store.term], buffer=at(store.buffer)) for store in nest.stores),
        stash=tuple(terms[term] for term in nest.stash),
        product=product,
        sweep=sweep,
        tiling=None if nest.tiling is None else moved_tiling(nest.tiling, terms, at),
        repetition=None if nest.repetition is None else moved_loop(nest.repetition, at),
    )


def moved_tiling(tiling: Tiling, terms: Mapping[Term, Term], at: Callable[[Buffer], Buffer]) -> Tiling:
    def there(each: Operand) -> Operand:
        return replace(each, buffer=at(each.buffer))

    def rooms(known: tuple[Room, ...]) -> tuple[Room, ...]:
        return tuple(replace(each, buffer=at(each.buffer)) for each in known)

    softmax = tiling.softmax
    if softmax is not None:
        scores, powers, normaliser = (terms[each] for each in (softmax.scores, softmax.powers, softmax.normaliser))
        softmax = Softmax(scores, powers, normaliser, rooms(softmax.rooms), softmax.hides)
    products = (
        (terms[term], replace(product, left=there(product.left), right=there(product.right)))
        for term, product in tiling.products
    )
    weighings = (
        replace(each, weight=terms[each.weight], matrix=there(each.matrix), rooms=rooms(each.rooms))
        for each in tiling.weighings
    )
    return replace(tiling, products=tuple(products), weighings=tuple(weighings), softmax=softmax)


def moved_loop(loop: Repetition, at: Callable[[Buffer], Buffer]) -> Repetition:
    return replace(
        loop,
        trips=None if loop.trips is None else at(loop.trips),
        carries=tuple((state, at(start), at(kept)) for state, start, kept in loop.carries),
        slices=tuple((data, at(buffer)) for data, buffer in loop.slices),
        captured=tuple((data, at(buffer)) for data, buffer in loop.captured),
        results=tuple((output, at(buffer)) for output, buffer in loop.results),
    )


def only(nest: LoopNest, buffer: Buffer) -> LoopNest | None:
    """The nest with nothing stored but one buffer; None where it cannot be run for that alone."""
    known: dict[Buffer, LoopNest | None] = nest.memo.setdefault("only", {})
    if buffer not in known:
        known[buffer] = find_only(nest, buffer)
    return known[buffer]


def find_only(nest: LoopNest, buffer: Buffer) -> LoopNest | None:
    stores = tuple(store for store in nest.stores if store.buffer == buffer)
    if nest.sweep is not None:
        return nest
    if nest.repetition is not None or not stores:
        return None
    alone = replace(nest, stores=stores, stash=())
    alone = replace(alone, stash=tuple(expensive_across_phases(alone)))
    if any(each.kind in ("input", "result") for each in alone.written()):
        return None
    sums = any(term.kind in SUMS for term in alone.terms())
    return alone if sums else replace(alone, partition=partition(alone))


def operations(nest: LoopNest) -> int:
    if "operations" not in nest.memo:
        nest.memo["operations"] = cost_of_nest(nest).operations
    found: int = nest.memo["operations"]
    return found


# -- what to let go


@dataclass(frozen=True, slots=True)
class Again:
    """A buffer that is let go before nest `before`, and the nests that compute it again there, in their order."""

    buffer: Buffer
    before: int
    nests: tuple[tuple[LoopNest, Buffer], ...]

    @property
    def operations(self) -> int:
        return sum(operations(nest) for nest, _ in self.nests)


class Idle:
    """What lies idle while one nest of a program runs, and how it could be had again afterwards.

    peak  number of the nest
    keep  buffers that are looked at by checks
    """

    def __init__(self, nests: tuple[LoopNest, ...], peak: int, keep: set[Buffer]) -> None:
        self.nests = nests
        self.peak = peak
        self.keep = keep
        self.uses: dict[Buffer, list[int]] = {}
        self.writers: dict[Buffer, list[int]] = {}
        for number, nest in enumerate(nests):
            for buffer in nest.buffers():
                self.uses.setdefault(buffer, []).append(number)
            for buffer in nest.written():
                self.writers.setdefault(buffer, []).append(number)

    def choices(self) -> Iterator[Again]:
        for buffer, uses in self.uses.items():
            if buffer.kind != "value" or buffer in self.keep or self.peak in uses:
                continue
            later = [number for number in uses if number > self.peak]
            if uses[0] < self.peak and later:
                found = self.again(buffer, later[0])
                if found is not None:
                    yield Again(buffer, later[0], tuple(found))

    def again(self, buffer: Buffer, before: int) -> list[tuple[LoopNest, Buffer]] | None:
        """The nests that compute a buffer from what is there before a nest, each with the buffer it is run for."""
        found: list[tuple[LoopNest, Buffer]] = []
        wanted = [buffer]
        while wanted:
            each = wanted.pop()
            nest = only(self.nests[self.writers[each][0]], each) if len(self.writers[each]) == 1 else None
            if nest is None or len(found) > DEEPEST or not self.are_unchanged(nest, self.writers[each][0], before):
                return None
            found.insert(0, (nest, each))
            done = {buffer for _, buffer in found}
            gone = [read for read in nest.read() if read.kind == "value" and self.uses[read][-1] < self.peak]
            if done & set(gone):
                return None  # in another order than they were computed in
            wanted += [read for read in gone if read not in wanted]
        return found

    def are_unchanged(self, nest: LoopNest, first: int, before: int) -> bool:
        """The states it reads are what they were."""
        states = [read for read in nest.read() if read.kind == "input"]
        return not any(first <= number < before for state in states for number in self.writers.get(state, ()))


def let_go(nests: tuple[LoopNest, ...], live: list[int], keep: set[Buffer]) -> tuple[LoopNest, ...] | None:
    """The nests with less in memory where most is, at the least arithmetic for a byte; None where nothing is idle.

    live  bytes in use while each nest runs
    """
    peak = max(range(len(nests)), key=live.__getitem__)
    choices = Idle(nests, peak, keep).choices()
    best = max(choices, key=lambda each: each.buffer.value.type.max_bytes / (1 + each.operations), default=None)
    return None if best is None else with_nests(nests, best)


def with_nests(nests: tuple[LoopNest, ...], again: Again) -> tuple[LoopNest, ...]:
    """The nests with those that compute a buffer once more, and their readers over what those write."""
    known = {buffer for nest in nests for buffer in nest.buffers()}
    places: dict[Buffer, Buffer] = {}
    for _, buffer in again.nests:
        names = (f"{buffer.value.op.name} again {number}" for number in count(1))
        places[buffer] = next(each for name in names if (each := replace(buffer, name=name)) not in known)
    more = (moved(nest, places) for nest, _ in again.nests)
    own = {again.buffer: places[again.buffer]}
    return (*nests[: again.before], *more, *(moved(nest, own) for nest in nests[again.before :]))

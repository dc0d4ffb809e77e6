"""Values that take the places of others: what a nest computes is written over what it reads for the last time.

Its memory is at hand then, and nothing else has to be fetched only to be written over.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphc.ir.checkpointing import moved
from graphc.ir.loops import INDEXED, Buffer, LoopNest, Repetition, Store, lane_terms, phase_count, walked_by
from graphc.ir.types import bound

LEAST = 1 << 12  # elements of a value that is worth the trouble


def in_place(nests: tuple[LoopNest, ...], keep: set[Buffer]) -> tuple[LoopNest, ...]:
    """The nests with values in the memory of others that are read for the last time where they are computed.

    keep  buffers that are looked at by checks
    """
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for number, nest in enumerate(nests):
        for buffer in nest.buffers():
            first.setdefault(buffer, number)
            last[buffer] = number
    places: dict[Buffer, Buffer] = {}
    found: list[LoopNest] = []
    for number, nest in enumerate(nests):
        here = moved(nest, places)
        taken: dict[Buffer, Buffer] = {}
        for target, source in exchanges(here):
            is_free = last[source] == number and source not in taken.values() and source not in keep
            if is_free and first[target] == number and target not in keep | taken.keys():
                taken[target] = source
                last[source] = last[target]
        places |= taken
        found.append(moved(here, taken))
    return tuple(found)


def exchanges(nest: LoopNest) -> Iterator[tuple[Buffer, Buffer]]:
    """Buffers of values and those that could be in their place: each element is read before it is written over."""
    if nest.sweep is not None:
        return
    if nest.repetition is not None:
        yield from starts(nest.repetition)
    for store in nest.stores:
        for source in nest.read() if is_whole(store, nest) else ():
            if source.kind == "value" and is_alike(source, store.buffer) and is_read_before(source, store, nest):
                yield store.buffer, source


def starts(loop: Repetition) -> Iterator[tuple[Buffer, Buffer]]:
    """What a loop carries stays where it starts, if the loop reads nothing else there."""
    read = {buffer for _, buffer in (*loop.slices, *loop.captured)}
    for _, start, kept in loop.carries:
        if start.kind == kept.kind == "value" and start not in read and is_alike(start, kept):
            yield kept, start


def is_whole(store: Store, nest: LoopNest) -> bool:
    """It is the only one to a value's memory and writes another element in every step of the nest."""
    moving = {axis for axis, extent in enumerate(nest.frame) if extent != 1}
    is_only = [each.buffer for each in nest.stores].count(store.buffer) == 1
    return store.buffer.kind == "value" and is_only and not store.term.late and walked_by(store.index) == moving


def is_alike(source: Buffer, target: Buffer) -> bool:
    """As many elements of the same kind."""
    one, other = source.value.type, target.value.type
    return (one.dtype, one.count) == (other.dtype, other.count) and bound(one.count) >= LEAST


def is_read_before(source: Buffer, store: Store, nest: LoopNest) -> bool:
    """Nothing is read of it but the element that is written next, and nothing once that is written."""
    product, terms = nest.product, nest.terms()
    if source in nest.written() or (product is not None and source in (product.left.buffer, product.right.buffer)):
        return False
    readers = {term for term in terms if term.kind in INDEXED and term.detail[0] == source}
    if any(term.kind != "load" or term.detail[1:] != (store.index, ()) for term in readers):
        return False
    later = set().union(*(lane_terms(nest, phase) for phase in range(store.phase + 1, phase_count(nest))))
    later |= {operand for term in terms if term.late for operand in term.operands}
    return readers.isdisjoint(later)

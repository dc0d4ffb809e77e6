"""A product with what is done to its elements one by one, apart from what needs more of them than one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from graphc.backends.cuda.threads import row_major
from graphc.ir.loops import Buffer, Index, LoopNest, Store, Term, phase_count

PRODUCT = "product"  # scratch for elements that another nest goes through
SUMS = ("row", "total", "column", "scatter")
ONE_BY_ONE = ("load", "take", "guard", "compute", "constant", "size", "iota", "product")


def parted(nest: LoopNest) -> tuple[LoopNest, LoopNest | None]:
    """The product with what is done to its elements one by one; and the nest that reads in memory what it sums."""
    if is_one_by_one(nest):
        return nest, None
    product = next(term for term in nest.terms() if term.kind == "product")
    whole = frozenset(range(len(nest.frame)))
    index = row_major(nest.frame, whole)
    front = fronts(nest)
    stores = [store for store in nest.stores if store.term in front]
    left = border(nest, front, product)
    new = [term for term in left if not any(is_kept(store, term, index) for store in stores)]
    if len(new) > 1 or any(term.axes != product.axes for term in left) or writes_states(stores):
        front, stores, left, new = {product}, [], [product], [product]
    stores += [Store(term, Buffer("scratch", term.value, PRODUCT), index) for term in new]
    homes = {term: next(store.buffer for store in stores if is_kept(store, term, index)) for term in left}
    loaded = {
        term: replace(term, kind="load", operands=(), detail=(home, index, ()), phase=0) for term, home in homes.items()
    }
    rest = tuple(store for store in nest.stores if store not in stores)
    return replace(nest, stores=tuple(stores)), replace(with_terms(replace(nest, stores=rest), loaded), product=None)


def is_one_by_one(nest: LoopNest) -> bool:
    return not any(term.kind in SUMS or term.late for term in nest.terms()) and phase_count(nest) == 1


def fronts(nest: LoopNest) -> set[Term]:
    """The terms that are known at each point by itself."""
    found: set[Term] = set()
    for term in nest.terms():
        if term.kind in ONE_BY_ONE and not term.late and term.phase == 0 and found.issuperset(term.operands):
            found.add(term)
    return found


def border(nest: LoopNest, front: set[Term], product: Term) -> list[Term]:
    """The terms made of the product that others than those in front are made of."""
    made = {product}
    for term in nest.terms():
        if term in front and not made.isdisjoint(term.operands):
            made.add(term)
    behind = [term for term in nest.terms() if term not in front]
    return [*dict.fromkeys(operand for term in behind for operand in term.operands if operand in made)]


def is_kept(store: Store, term: Term, index: Index) -> bool:
    """Whether a store leaves a term where it can be read at every point."""
    return store.term is term and store.index == index and store.buffer.kind in ("value", "result", "scratch")


def writes_states(stores: list[Store]) -> bool:
    return any(store.buffer.kind == "input" for store in stores)


def with_terms(nest: LoopNest, changed: Mapping[Term, Term]) -> LoopNest:
    """The nest with other terms in place of some."""
    moved = dict(changed)
    for term in nest.terms():
        if term not in moved and any(operand is not moved[operand] for operand in term.operands):
            moved[term] = replace(term, operands=tuple(moved[operand] for operand in term.operands))
        moved.setdefault(term, term)
    return replace(nest, stores=tuple(replace(store, term=moved[store.term]) for store in nest.stores))

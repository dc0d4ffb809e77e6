"""Blocks that come several times in a row, such as those of a transformer, are drawn once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from graphc.ir.dot.cards import Place, Wire
from graphc.ir.dot.style import printable
from graphc.ir.graph import Value
from graphc.picture.placement import Votes, partner_of
from graphc.picture.sheet import Repeat

MANY = 18  # forward cards from which on repeated blocks are drawn once
FEWEST = 3  # blocks that are folded

Fold = list[list[int]]  # of each block, first to last, the numbers of its cards


class Numbered(Protocol):
    """A card of a ladder."""

    @property
    def number(self) -> int: ...


Card = TypeVar("Card", bound=Numbered)


def find_folds(marks: Mapping[int, object], fold: bool | None) -> list[Fold]:
    """Stretches of forward cards that are the same block three or more times, those first that save most.

    marks  of the forward cards in their order: equal for cards that are the same of two blocks
    fold   whether to look for any; None: where there are many cards
    """
    if not (fold or (fold is None and len(marks) > MANY)):
        return []
    numbers, signs = list(marks), list(marks.values())
    found: list[tuple[int, int, int]] = []  # place of the first card, cards of a block, blocks
    for period in range(1, len(signs) // FEWEST + 1):
        start = 0
        while start + period * FEWEST <= len(signs):
            times = 1
            while signs[start : start + period] == signs[start + times * period : start + (times + 1) * period]:
                times += 1
            if times >= FEWEST:
                found.append((start, period, times))
            start += period * (times - 1) + 1 if times >= FEWEST else 1
    taken: set[int] = set()
    folds: list[Fold] = []
    for start, period, times in sorted(found, key=lambda fold: (-fold[1] * (fold[2] - 1), fold[1])):
        places = range(start, start + period * times)
        if taken.isdisjoint(places):
            taken.update(places)
            folds.append([numbers[place : place + period] for place in places[::period]])
    return folds


def folded(
    cards: Sequence[Card], wires: Iterable[Wire], votes: Votes, folds: Sequence[Fold], paths: Mapping[int, str]
) -> tuple[tuple[Card, ...], tuple[Wire, ...], tuple[Repeat, ...]]:
    """The cards and wires with the first block of each fold alone, what is said of others said of it; and the folds.

    votes  how much cards of the way back have to do with forward ones: they go with their blocks
    paths  of modules, by the numbers of their cards
    """
    partner = {card.number: partner_of(votes, card.number) for card in cards}
    beside: dict[int, list[int]] = {}
    for number, at in partner.items():
        if at is not None:
            beside.setdefault(at, []).append(number)
    stands_for = {card.number: card.number for card in cards}
    block = {card.number: (-1, 0) for card in cards}  # which fold, and which of its blocks
    for fold, blocks in enumerate(folds):
        for turn, numbers in enumerate(blocks):
            for first, own in zip(blocks[0], numbers, strict=True):
                stands_for[own], block[own] = first, (fold, turn)
                if own != first:
                    stands_for |= dict(zip(beside.get(own, []), beside.get(first, []), strict=False))
    for number, at in partner.items():
        if at is not None:
            block[number] = block[at]
    hidden = {number for number, first in stands_for.items() if number != first or block[number][1] > 0}
    joined: dict[tuple[Place, int, str], dict[Value, None]] = {}
    for wire in wires:
        source = wire.source if isinstance(wire.source, Value) else stands_for[wire.source]
        target = stands_for[wire.target]
        ends = block[wire.source] if isinstance(wire.source, int) else (-1, 0), block[wire.target]
        between = ends[0][0] == ends[1][0] >= 0 and ends[0][1] != ends[1][1]
        if source == target or between or source in hidden or target in hidden:
            continue
        if wire.source == source or (source, target, wire.kind) not in joined:
            joined[source, target, wire.kind] = dict.fromkeys(wire.values)
    return (
        tuple(card for card in cards if card.number not in hidden),
        tuple(Wire(source, target, tuple(values), kind) for (source, target, kind), values in joined.items()),
        tuple(repeat_of(blocks, beside, hidden, paths) for blocks in folds),
    )


def repeat_of(blocks: Fold, beside: Mapping[int, list[int]], hidden: set[int], paths: Mapping[int, str]) -> Repeat:
    places = list(blocks[0])
    places += [number for card in blocks[0] for number in beside.get(card, ()) if number not in hidden]
    ends = [common([paths[number] for number in block]).split(".") for block in (blocks[0], blocks[-1])]
    apart = next((at for at, (one, other) in enumerate(zip(*ends, strict=False), 1) if one != other), None)
    return Repeat(tuple(places), len(blocks), printable(" … ".join(".".join(end[:apart]) for end in ends)))


def common(paths: Sequence[str]) -> str:
    """The longest path that more than half of them are in; the first of them if there is none."""
    found, depth = "", 1
    while True:
        heads = [".".join(path.split(".")[:depth]) for path in paths if path.count(".") >= depth - 1]
        head = max(heads, key=heads.count, default="")
        if not head or 2 * heads.count(head) <= len(paths):
            return found or "".join(paths[:1])
        found, depth = head, depth + 1


def digits_out(name: str) -> str:
    """The name with a star for every number: the same for the same thing in two blocks."""
    return re.sub(r"\d+", "*", name)

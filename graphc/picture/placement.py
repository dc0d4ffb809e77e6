"""Where the cards of a ladder stand: rows and columns of a ladder.

Forward nests run down the main column, one row a step. A backward nest stands on the row of the forward nest it belongs
to: those that pass a gradient on in the outer column, where they run up, those that only update states between.
Branches beside the main one and the data they read stand at the left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from graphc.ir.dot.cards import Card, Flow, Place, Wire, computed
from graphc.ir.graph import Value

if TYPE_CHECKING:
    from graphc.picture.layers import Layer

Votes = Mapping[int, Mapping[int, int]]
SIDE, MAIN, LEAF, CHAIN = range(4)


@dataclass(frozen=True, slots=True)
class Cell:
    """Row and column of a card; cards of one cell stand one below the other in the order of `rank`."""

    row: int
    column: int
    rank: int = 0


class Picture(Protocol):
    """Cards, wires between them and the data inputs: a program or a graph in one of two views."""

    @property
    def cards(self) -> Sequence[Card | Layer]: ...
    @property
    def wires(self) -> Sequence[Wire]: ...
    @property
    def data(self) -> Sequence[Value]: ...


def arrange(picture: Picture, votes: Votes, leaves: bool = True) -> dict[Place, Cell]:
    """A cell for every card and every data input.

    votes   how much each card of the backward pass has to do with each of the forward pass
    leaves  whether what passes no gradient on has a column of its own
    """
    before = forward_links(picture)
    leads_on = {source for sources in before.values() for source in sources}
    rows = depths(before)
    main = spine(rows, before, {card.number for card in picture.cards if card.results})
    settle(rows, set(main), before)
    data = data_rows(picture, rows, leads_on)
    for number in before:
        if number not in main and number not in leads_on and not before[number]:
            # A branch that leads nowhere, such as a check of the labels, stands below the data it looks at.
            rows[number] = 1 + max((data[value] for value in data_read(picture, number)), default=rows[number] - 1)
    column = {number: MAIN if number in main else SIDE for number in before}
    cells: dict[Place, tuple[int, int]] = {number: (rows[number], column[number]) for number in before}
    top = data_read(picture, main[0]) if main else []
    at_top = [value for value in picture.data if value in top][-1:]
    cells |= {value: (row, MAIN if value in at_top and row < rows[main[0]] else SIDE) for value, row in data.items()}
    return stack(cells | backward_cells(picture, rows, votes, leaves))


def forward_links(picture: Picture) -> dict[int, list[int]]:
    """For each forward nest the forward nests it reads from."""
    before: dict[int, list[int]] = {card.number: [] for card in picture.cards if card.part == "forward"}
    for wire in picture.wires:
        if wire.kind == "forward" and isinstance(wire.source, int):
            before[wire.target].append(wire.source)
    return before


def data_read(picture: Picture, number: int) -> list[Value]:
    return [wire.source for wire in picture.wires if wire.target == number and isinstance(wire.source, Value)]


def depths(before: dict[int, list[int]]) -> dict[int, int]:
    """One more than the deepest nest read; nests come in the order they run."""
    rows: dict[int, int] = {}
    for number, sources in before.items():
        rows[number] = 1 + max((rows[source] for source in sources), default=0)
    return rows


def spine(rows: Mapping[int, int], before: dict[int, list[int]], results: set[int]) -> list[int]:
    """The longest path through the forward nests, from the top; of equal ones that which ends in a result."""
    if not rows:
        return []
    lowest = max(rows, key=lambda number: (rows[number], number in results, number))
    path = [lowest]
    while before[path[-1]]:
        path.append(max(before[path[-1]], key=lambda number: (rows[number], number)))
    return path[::-1]


def settle(rows: dict[int, int], main: set[int], before: dict[int, list[int]]) -> None:
    """Branches move down to just above where they are read."""
    lowest: dict[int, int] = {}
    for number in reversed(before):
        if number not in main and number in lowest:
            rows[number] = lowest[number]
        for source in before[number]:
            lowest[source] = min(lowest.get(source, rows[number]), rows[number] - 1)


def data_rows(picture: Picture, rows: Mapping[int, int], leads_on: set[int]) -> dict[Value, int]:
    """Each data input one row above the first nest that needs it for a result."""
    found: dict[Value, int] = {}
    results = {card.number for card in picture.cards if card.results}
    for value in picture.data:
        readers = [wire.target for wire in picture.wires if wire.source is value and wire.target in rows]
        needed = [number for number in readers if number in leads_on or number in results]
        found[value] = min((rows[number] for number in needed or readers), default=1) - 1
    return found


def backward_cells(
    picture: Picture, rows: Mapping[int, int], votes: Votes, leaves: bool
) -> dict[Place, tuple[int, int]]:
    found = dict(rows)
    for number, score in votes.items():
        found[number] = rows[max(score, key=lambda partner: (score[partner], partner))]
    passes_on = {wire.source for wire in picture.wires}
    for card in reversed(picture.cards):  # those without kin stand beside whoever reads them, or whom they read
        if card.number not in found:
            if card.part == "update" and not leaves:
                found[card.number] = 0
                continue
            near = [wire.target for wire in picture.wires if wire.source == card.number]
            near += [wire.source for wire in picture.wires if wire.target == card.number and wire.source in found]
            found[card.number] = found[near[0]] if near else max(rows.values(), default=0)
    others = [card.number for card in picture.cards if card.number not in rows]
    return {number: (found[number], CHAIN if number in passes_on or not leaves else LEAF) for number in others}


def kinship(picture: Flow) -> Votes:
    """How much each backward nest has to do with each forward nest.

    Most with the one whose parameters it updates, then with the one whose expression it is the gradient of, then with
    those whose values or parameters it reads.
    """
    readers: dict[Value, list[int]] = {}
    makers: dict[object, list[int]] = {}
    votes: dict[int, dict[int, int]] = {}
    for card in picture.cards:
        if card.part == "forward":
            for value in card.reads:
                readers.setdefault(value, []).append(card.number)
            for key in expressions(term.value for term in computed(card.nest)):
                makers.setdefault(key, []).append(card.number)

    def vote(card: Card, partners: list[int], weight: int) -> None:
        for partner in partners:
            score = votes.setdefault(card.number, {})
            score[partner] = score.get(partner, 0) + weight

    for card in picture.cards:
        if card.part == "forward":
            continue
        for value in card.updates:
            vote(card, readers.get(value, []), 4)
        for value in card.reads:
            if value.attrs["role"] == "state":
                vote(card, readers.get(value, []), 1)
        for key in expressions(store.term.value for store in card.nest.stores if store.buffer.kind == "value"):
            vote(card, makers.get(key, []), 2)
    for wire in picture.wires:
        if wire.kind == "saved" and isinstance(wire.source, int):
            vote(picture.cards[wire.target], [wire.source], 1)
    return votes


def partner_of(votes: Votes, number: int) -> int | None:
    """The forward card that a backward card stands beside."""
    score = votes.get(number)
    return max(score, key=lambda each: (score[each], each)) if score else None


def among(votes: Votes, cards: Iterable[Card | Layer]) -> Votes:
    """What is left of the votes where only some cards are there."""
    numbers = {card.number for card in cards}
    near = {number: {at: score[at] for at in score if at in numbers} for number, score in votes.items()}
    return {number: score for number, score in near.items() if score and number in numbers}


def expressions(values: Iterable[Value]) -> list[object]:
    """The user's expressions, each with the module it ran in, that values come from: in order, each once."""
    origins = [value.origin for value in values]
    return list(dict.fromkeys((o.code, o.instruction, o.module) for o in origins if o is not None))


def stack(cells: Mapping[Place, tuple[int, int]]) -> dict[Place, Cell]:
    """Rows and columns without gaps in their numbers; cells with several cards in order, backward ones from below."""
    row_numbers = {row: number for number, row in enumerate(sorted({row for row, _ in cells.values()}))}
    column_numbers = {column: number for number, column in enumerate(sorted({column for _, column in cells.values()}))}
    groups: dict[tuple[int, int], list[Place]] = {}
    for place, cell in cells.items():
        groups.setdefault(cell, []).append(place)
    return {
        place: Cell(row_numbers[row], column_numbers[column], rank)
        for (row, column), group in groups.items()
        for rank, place in enumerate(reversed(group) if column >= LEAF else group)
    }

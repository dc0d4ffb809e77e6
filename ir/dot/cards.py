"""What each nest of a program does and which values pass between nests: what every picture of kernels is drawn from."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby

from graphc.ir.dot.style import MARKS
from graphc.ir.graph import Value
from graphc.ir.loops import Buffer, LoopNest, Term
from graphc.ir.program import Program
from graphc.ir.types import FLOATS

Place = int | Value  # the number of a nest, or a data input


@dataclass(frozen=True, slots=True)
class Card:
    """One nest.

    ops      role -> names of the ops it computes, in order, each once
    reads    states and scalars it reads, save a state it reads for nothing but its own update
    updates  states it writes
    results  named results it hands out
    checks   messages of the checks that follow it
    part     "forward" if it leaves anything of the way forward behind, whatever else it does; else "backward"; "update"
             where it writes nothing but states, unless of gradients
    """

    number: int
    nest: LoopNest
    ops: dict[str, tuple[str, ...]]
    reads: tuple[Value, ...]
    updates: tuple[Value, ...]
    results: tuple[str, ...]
    checks: tuple[str, ...]
    part: str

    @property
    def style(self) -> str:
        """The entry of the palette it is drawn in."""
        return "result" if self.results and self.part == "forward" else self.part

    @property
    def written_bytes(self) -> int:
        """Bytes it leaves in memory, at the dims' maxima."""
        return sum(buffer.value.type.max_bytes for buffer in written_buffers(self.nest))


@dataclass(frozen=True, slots=True)
class Wire:
    """Values that go from one place to a nest.

    kind  "forward", "backward" (cotangents), "saved" (made on the way forward, read on the way back), "update" (made of
          states alone)
    """

    source: Place
    target: int
    values: tuple[Value, ...]
    kind: str

    @property
    def bytes(self) -> int:
        """At the dims' maxima."""
        return sum(value.type.max_bytes for value in self.values)


@dataclass(frozen=True, slots=True)
class Flow:
    """A program as cards and wires; `data` are its data inputs, read or not."""

    program: Program
    data: tuple[Value, ...]
    cards: tuple[Card, ...]
    wires: tuple[Wire, ...]


def flow(program: Program) -> Flow:
    cards = tuple(describe(program, number, nest) for number, nest in enumerate(program.apart))
    return Flow(program, program.graph.of_role("data"), cards, tuple(connect(cards)))


def written_buffers(nest: LoopNest) -> tuple[Buffer, ...]:
    """The buffers a nest leaves something in, each once."""
    return tuple(buffer for buffer in nest.written() if buffer.kind != "scratch")


def computed(nest: LoopNest) -> Iterator[Term]:
    """The terms that are arithmetic."""
    return (term for term in nest.terms() if term.kind not in ("load", "constant", "size", "iota"))


def part_of(nest: LoopNest, ops: Collection[str]) -> str:
    """Which part of a step a nest is that computes ops of these roles."""
    left = [buffer.value for buffer in written_buffers(nest) if buffer.kind != "input"]
    if not left:
        return "backward" if "backward" in ops else "update"
    roles = {value.role for value in left}
    return next((role for role in MARKS if role in roles), "forward")


def describe(program: Program, number: int, nest: LoopNest) -> Card:
    ops: dict[str, list[str]] = {}
    for value in nest.values():
        ops.setdefault(value.role, []).append(value.op.name)
    written = written_buffers(nest)
    return Card(
        number,
        nest,
        {role: tuple(dict.fromkeys(ops[role])) for role in MARKS if role in ops},
        tuple(parameters(nest)),
        tuple(buffer.value for buffer in written if buffer.kind == "input"),
        tuple(buffer.name for buffer in written if buffer.kind == "result"),
        tuple(check.message for check in program.checks if check.nest == number),
        part_of(nest, ops),
    )


def parameters(nest: LoopNest) -> Iterator[Value]:
    """States and scalars a nest reads, without those states that only their own update reads."""
    updated = {buffer for buffer in written_buffers(nest) if buffer.kind == "input"}
    read_elsewhere = set() if nest.product is None else {nest.product.left.buffer, nest.product.right.buffer}
    read_elsewhere |= set() if nest.repetition is None else set(nest.repetition.read())
    for term in computed(nest):
        if term.value.role != "update":
            read_elsewhere |= {operand.detail[0] for operand in term.operands if operand.kind in ("load", "take")}
    for buffer in nest.read():
        if buffer.kind != "input" or buffer.value.attrs["role"] == "data":
            continue
        if buffer not in updated or buffer in read_elsewhere:
            yield buffer.value


def connect(cards: tuple[Card, ...]) -> Iterator[Wire]:
    """Every wire, sorted by target: one for all values of a kind between two places.

    What is computed again, to save memory, comes from the nest that did so last.
    """
    home: dict[Value, int] = {}
    links: list[tuple[Place, int, Value]] = []
    for card in cards:
        for buffer in card.nest.read():
            if buffer.kind == "value":
                links.append((home[buffer.value], card.number, buffer.value))
            elif buffer.value.attrs["role"] == "data":
                links.append((buffer.value, card.number, buffer.value))
        home |= {buffer.value: card.number for buffer in written_buffers(card.nest) if buffer.kind == "value"}
    parts = [card.part for card in cards]
    leads_on = {source for source, target, _ in links if parts[target] == "forward"}

    def kind(source: Place, target: int, value: Value) -> str:
        if isinstance(source, int) and parts[source] != "forward":
            return parts[source]
        if parts[target] == "forward":
            return "forward"
        # Where the forward pass ends the gradients begin; what is made earlier for the way back is no gradient yet.
        begins = source not in leads_on and value.role == "backward" and value.dtype in FLOATS
        return "backward" if begins else "saved"

    keyed = [(source, target, kind(source, target, value), value) for source, target, value in links]
    order = {source: number for number, source in enumerate(dict.fromkeys(key[0] for key in keyed))}
    keyed.sort(key=lambda key: (key[1], order[key[0]], key[2]))
    for (source, target, name), group in groupby(keyed, key=lambda key: key[:3]):
        yield Wire(source, target, tuple(value for *_, value in group), name)

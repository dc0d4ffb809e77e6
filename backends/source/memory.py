"""Where a nest reads and writes: indices, guards, loads, look-ups and stores as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from operator import itemgetter

from graphc.backends.primitives import constant
from graphc.backends.source.lines import EACH, Lines
from graphc.ir.loops import Buffer, Guards, Index, Lookups, Term
from graphc.ir.types import Extent

Place = tuple[Buffer, Index]
Pairs = dict[Place, tuple[str, Index]]  # "even" or "odd", and the index of the even one


class Memory(Lines):
    """Adds memory to lines."""

    def index(self, index: Index) -> str:
        parts = []
        for axis, stride in index:
            if axis is None:
                parts.append(self.number(stride))
            else:
                parts.append(self.variable(axis) + ("" if stride == 1 else f" * {self.number(stride)}"))
        return " + ".join(parts) or "0"

    def lane_indices(self, index: Index) -> str:
        """The index of every lane, as i64x16."""
        step = self.lane_step(index)
        rest = self.index(tuple(part for part in index if part[0] != self.nest.lane))
        if step == 1:
            return f"indices(j + {rest})" if rest != "0" else "indices(j)"
        lanes = f"indices(j) * spread({self.number(step)})"
        return f"spread({rest}) + {lanes}" if rest != "0" else lanes

    def lane_places(self, index: Index) -> str:
        """The index of every lane, be it the same for all."""
        return self.lane_indices(index) if self.lane_step(index) != 0 else f"spread({self.index(index)})"

    def lane_step(self, index: Index) -> Extent:
        """How far the index moves from lane to lane."""
        return dict(index).get(self.nest.lane, 0)

    def varies(self, term: Term) -> bool:
        """A term that is another number in every lane."""
        return self.nest.lane in term.axes

    def is_lanes(self, term: Term) -> bool:
        """A term that is held as one vector of lanes."""
        return self.mode != "few" and self.varies(term)

    def operand(self, term: Term, lanes: bool) -> str:
        """A term as text, spread over the lanes where lanes are wanted and it is one number."""
        if term.kind == "iota" and self.is_lanes(term):
            return from_i64(self.lane_indices(term.detail), term.dtype)
        text = self.scalar(term) if term.kind in ("constant", "size", "iota") else self.names[term]
        return f"spread({text})" if lanes and not self.is_lanes(term) else text

    def scalar(self, term: Term) -> str:
        if term.kind == "constant":
            return constant(term.detail, term.dtype)
        return from_i64(self.index(term.detail) if term.kind == "iota" else self.number(term.detail), term.dtype)

    def load(self, pointer: str, index: str, lanes: bool, step: Extent = 1) -> str:
        if not lanes:
            return f"load({pointer}, {index})"
        if step != 1:
            return f"load_spaced({pointer}, {index}, {self.number(step)}, {self.mask})"
        return f"load_live({pointer}, {index}, {self.live})" if self.live else f"load_lanes({pointer}, {index})"

    def load_term(self, term: Term) -> str:
        """A load as text; where its guards say so it reads nothing and is 0."""
        buffer, index, guards = term.detail
        pointer, lanes = self.pointers[buffer], self.is_lanes(term)
        step = self.lane_step(index)
        if not guards and lanes and (buffer, index) in self.pairs_loaded:
            half, first = self.pairs_loaded[buffer, index]
            return f"load_{half}({pointer}, {self.index(first)}, {self.mask})"
        if not guards:
            return self.load(pointer, self.index(index), lanes, step)
        inside = self.inside(guards, lanes)
        if not lanes:
            held = f"select({inside}, {self.index(index)}, 0)"
            return f"select({inside}, load({pointer}, {held}), {constant(0, term.dtype)})"
        if step == 1:
            return f"load_live({pointer}, {self.index(index)}, {inside})"
        return f"load_at({pointer}, {self.lane_places(index)}, {inside})"

    @cached_property
    def pairs_loaded(self) -> Pairs:
        """Loads that have a neighbour: both come out of the same two sets of lanes."""
        loads = (term.detail for term in self.terms if term.kind == "load" and self.is_lanes(term))
        return pairs(((buffer, index) for buffer, index, guards in loads if not guards), self.nest.lane)

    def take(self, term: Term) -> str:
        """A load at looked-up places."""
        buffer, index, lookups = term.detail
        pointer, step = self.pointers[buffer], self.lane_step(index)
        if not self.is_lanes(term):
            return f"load({pointer}, {self.looked_up(index, term.operands, lookups)})"
        if any(self.is_lanes(operand) for operand in term.operands):
            places = self.looked_up_lanes(index, term.operands, lookups)
            return f"load_at({pointer}, {places}, {self.mask})"
        return self.load(pointer, self.looked_up(index, term.operands, lookups), True, step)

    def looked_up(self, index: Index, indices: Sequence[Term], lookups: Lookups) -> str:
        """A place in a table, by the frame's axes and indices that are one number for all lanes."""
        parts = [self.index(index)] if index else []
        for term, (stride, extent) in zip(indices, lookups, strict=True):
            held = f"minimum(maximum({self.operand(term, False)}, 0), {self.number(extent)} - 1)"
            parts.append(held if stride == 1 else f"{held} * {self.number(stride)}")
        return " + ".join(parts)

    def looked_up_lanes(self, index: Index, indices: Sequence[Term], lookups: Lookups) -> str:
        """The places of all lanes."""
        parts = [self.lane_places(index)]
        for term, (stride, extent) in zip(indices, lookups, strict=True):
            top = f"spread({self.number(extent)} - 1)"
            held = f"minimum(maximum({self.operand(term, True)}, spread(0)), {top})"
            parts.append(held if stride == 1 else f"{held} * spread({self.number(stride)})")
        return " + ".join(parts)

    def scatter(self, term: Term, lanes: bool) -> None:
        """Add to memory at looked-up places."""
        buffer, index, lookups = term.detail
        values, *indices = term.operands
        pointer, step, text = self.pointers[buffer], self.lane_step(index), self.operand(values, lanes)
        if lanes and (step != 1 or any(self.is_lanes(each) for each in indices)):
            places = self.looked_up_lanes(index, indices, lookups)
            self.line(f"add_at({pointer}, {places}, {text}, {self.mask})")
            return
        at = self.looked_up(index, indices, lookups)
        self.save(pointer, at, f"{self.load(pointer, at, lanes)} + {text}", lanes)

    def inside(self, guards: Guards, lanes: bool) -> str:
        """The name of a bool, or of the mask of the live lanes, that is on where no guard is left."""
        still = [guard for guard in guards if not lanes or self.lane_step(guard[0]) == 0]
        parts = [f"spread({text})" if lanes else text for text in map(self.scalar_guard, still)]
        moving = (guard for guard in guards if guard not in still)
        parts += [text for guard in moving for text in self.lane_guard(*guard)]
        text = " & ".join(([self.live] if lanes and self.live else []) + parts)
        name = self.fresh("inside") + (f"_{EACH}" if EACH in text else "")
        self.line(f"{name} = {text}")
        return name

    def scalar_guard(self, guard: tuple[Index, Extent]) -> str:
        index, extent = guard
        at = self.index(index)
        return f"({at} >= 0) & ({at} < {self.number(extent)})"

    def lane_guard(self, index: Index, extent: Extent) -> tuple[str, ...]:
        """Masks for an index that moves along the lanes: by whole steps, counting lanes is cheaper than comparing."""
        first, last, step = self.index(index), self.number(extent), self.lane_step(index)
        if step == 1:
            return f"live({last} - ({first}))", f"~live(0 - ({first}))"
        if step == -1:
            return f"live({first} + 1)", f"~live({first} - {last} + 1)"
        at = self.lane_indices(index)
        return f"({at} >= spread(0))", f"({at} < spread({last}))"

    def save(self, pointer: str, index: str, text: str, lanes: bool, step: Extent = 1) -> None:
        if not lanes:
            self.line(f"store({pointer}, {index}, {text})")
        elif step != 1:
            self.line(f"store_spaced({pointer}, {index}, {self.number(step)}, {text}, {self.mask})")
        elif self.live:
            self.line(f"store_live({pointer}, {index}, {text}, {self.live})")
        else:
            self.line(f"store_lanes({pointer}, {index}, {text})")


def pairs(places: Iterable[Place], lane: int) -> Pairs:
    """Places two apart from lane to lane, with others right behind or ahead: which they are, where the first one is."""
    rows: dict[Place, list[tuple[int, Index]]] = {}
    for buffer, index in dict.fromkeys(places):
        ahead, rest = dict(index).get(None, 0), tuple(part for part in index if part[0] is not None)
        if dict(rest).get(lane) == 2 and isinstance(ahead, int):
            rows.setdefault((buffer, rest), []).append((ahead, index))
    found: Pairs = {}
    for (buffer, _), row in rows.items():
        for (ahead, first), (next_ahead, second) in pairwise(sorted(row, key=itemgetter(0))):
            if next_ahead == ahead + 1 and (buffer, first) not in found:
                found |= {(buffer, first): ("even", first), (buffer, second): ("odd", first)}
    return found


def from_i64(text: str, dtype: str) -> str:
    """An index as an operand of that dtype."""
    if dtype != "i64":
        return f"as_{dtype}({text})"
    return f"({text})" if " " in text else text

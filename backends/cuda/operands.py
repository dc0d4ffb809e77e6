"""The operands of a matrix product on their way: from memory to registers, and from there to shared memory."""

from __future__ import annotations

from graphc.backends.cuda.threads import THREADS, Threads
from graphc.ir.frozen import dataclass
from graphc.ir.layout import Steps
from graphc.ir.loops import LoopNest, Operand
from graphc.ir.types import Extent, content

ACROSS = 16  # threads along the columns of a tile, and along its rows
DEEP = 16  # steps of the depth at a time
SIDE = 4  # numbers side by side that one access reads


@dataclass(frozen=True, slots=True)
class Brought:
    """An operand, and the part of it that a tile needs.

    size          rows or columns of it that the tile has
    first         where the tile begins among them
    extent        how many there are
    across, deep  how they, and the depth, are walked
    padding       numbers behind each line of a wide tile in shared memory
    """

    name: str
    operand: Operand
    size: int
    first: str
    extent: Extent
    across: Steps
    deep: Steps
    padding: int

    @property
    def line(self) -> int:
        """Numbers from one step of the depth to the next in shared memory; a few more than there are, so that threads
        do not all want the same bank."""
        return self.size + (self.padding if self.size >= SIDE * ACROSS else 1)

    @property
    def is_along_depth(self) -> bool:
        """Whether neighbours in memory are steps of the depth."""
        return not self.across or (bool(self.deep) and self.deep[-1][1] == 1)

    def lies_in_fours(self, depth: Extent) -> bool:
        """Whether four neighbours always begin where one access reads them all."""
        near, far = (self.deep, self.across) if self.is_along_depth else (self.across, self.deep)
        if len(near) != 1 or near[0][1] != 1 or self.size * DEEP < SIDE * THREADS:
            return False
        others = [step for _, step in (*self.operand.start, *far)]
        extents = [near[0][0], depth if self.is_along_depth else self.extent]
        return all(content(each) % SIDE == 0 for each in (*extents, *others))


class Operands(Threads):
    """Adds what threads bring to a product."""

    def __init__(self, nest: LoopNest) -> None:
        super().__init__(nest)
        self.sides: dict[str, int] = {}  # of an operand, how many neighbours a thread reads at once

    @property
    def dtype(self) -> str:
        return self.product_term.dtype

    def find_places(self, brought: Brought, depth: Extent) -> None:
        """What does not change along the depth: which numbers a thread brings, and where they lie across."""
        side = self.side(brought, depth)
        name, size = brought.name, brought.size
        for piece in self.own_pieces(brought, side):
            number, own = f"(thread + {piece * THREADS})" if piece else "thread", f"{name}{piece}"
            if brought.is_along_depth:
                each = DEEP // side
                self.line(f"{own}_near = {number} // {each}")
                self.line(f"{own}_far = {number} % {each}{scaled(side)}")
            else:
                each = size // side
                self.line(f"{own}_near = {number} % {each}{scaled(side)}")
                self.line(f"{own}_far = {number} // {each}")
            extent = self.extents[-2 if name == "left" else -1]
            self.line(f"{own}_live = {brought.first} + {own}_near < {extent}")
            self.line(f"{own}_across = select({own}_live, {brought.first} + {own}_near, 0)")
            parts = [self.index(brought.operand.start)] if brought.operand.start else []
            parts += self.walk(f"{name}_across", f"{own}_across", brought.across)
            self.line(f"{own}_at = {' + '.join(parts) or '0'}")

    def fetch(self, brought: Brought, step: str) -> None:
        """A thread's numbers of some steps of the depth to registers; 0 where there are none."""
        side, zero = self.sides[brought.name], f"{self.dtype}(0.0)"
        pointer = self.pointers[brought.operand.buffer]
        for piece in self.own_pieces(brought, side):
            own = f"{brought.name}{piece}"
            now = f"{own}_{step}"
            self.line(f"{now}_in = {own}_live & ({step} + {own}_far < last_step)")
            self.line(f"{now}_deep = select({now}_in, {step} + {own}_far, 0)")
            parts = [f"{own}_at", *self.walk(f"{brought.name}_deep", f"{now}_deep", brought.deep)]
            self.line(f"{now}_at = {' + '.join(parts)}")
            for number in range(side):
                first = "load_first" if side > 1 and number == 0 else "load"
                place = f"{now}_at + {number}" if number else f"{now}_at"
                self.line(f"{own}_{number} = select({now}_in, {first}({pointer}, {place}), {zero})")

    def to_shared(self, brought: Brought, tile: str) -> None:
        """The registers to shared memory, where its part of a tile begins at a place."""
        side, shared = self.sides[brought.name], f"shared_{self.dtype}"
        for piece in self.own_pieces(brought, side):
            own = f"{brought.name}{piece}"
            self.line(f"{own}_to = {tile} + {own}_far * {brought.line} + {own}_near")
            for number in range(side):
                first = "store_first" if side > 1 and number == 0 and not brought.is_along_depth else "store"
                away = number * (brought.line if brought.is_along_depth else 1)
                self.line(
                    f"{first}({shared}, {own}_to{f' + {away}' if away else ''}, {self.rounded(f'{own}_{number}')})"
                )

    def rounded(self, name: str) -> str:
        """A number as it is multiplied."""
        return name

    def own_pieces(self, brought: Brought, side: int) -> range:
        return range(brought.size * DEEP // side // THREADS)

    def side(self, brought: Brought, depth: Extent) -> int:
        """How many neighbours a thread reads at once."""
        fours = brought.lies_in_fours(depth) and not self.loose
        self.sides[brought.name] = SIDE if fours else 1
        return self.sides[brought.name]

    def walk(self, name: str, place: str, steps: Steps) -> list[str]:
        """Where a place of a matrix axis lies, by each axis of memory that it walks."""
        parts = []
        for number, (extent, step) in reversed(list(enumerate(steps))):
            here = place
            if number:
                size = self.extent(f"{name}_extent{number}", extent)
                here, rest = self.fresh("part"), self.fresh("rest")
                self.line(f"{here} = {place} % {size}")
                self.line(f"{rest} = {place} // {size}")
                place = rest
            parts.append(here if step == 1 else f"{here} * {self.extent(f'{name}_step{number}', step)}")
        return parts


def scaled(side: int) -> str:
    return f" * {side}" if side > 1 else ""

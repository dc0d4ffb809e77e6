"""Matrix products by tensor cores, for precisions below float32: operands are rounded on their way to shared memory,
and warps multiply small matrices of which each thread has some numbers. Sums are of float32.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphc.backends.cuda.operands import DEEP
from graphc.backends.cuda.products import Cut, Products, Tile, cut_for
from graphc.backends.cuda.threads import WARP, NotCovered, Piece
from graphc.ir.types import bound

PRECISIONS = ("highest", "tf32", "bf16")
DOWN, WARPS = 2, 8  # warps down a tile, and in all
HIGH, WIDE, STEPS = 16, 8, 8  # rows, columns and depth of what one instruction multiplies
TILES = (Tile(8, 8), Tile(4, 4))
LEAST = 32  # rows and columns; with fewer a tile would be mostly empty

# The nearest number with 10 or 7 bits behind the point, as bits; of two that are as near, for tf32 the one that is
# farther from 0, as hardware's own rounding takes it, and for bf16 the even one.
ROUNDINGS = {
    "tf32": "({bits} + i32(4096)) & i32(-8192)",
    "bf16": "({bits} + i32(32767) + (({bits} >> i32(16)) & i32(1))) & i32(-65536)",
}


class Tensors(Products):
    """Writes products of f32 of which both axes are long enough."""

    padding = 8  # so that what a warp takes at once lies in different banks

    def pieces(self) -> tuple[Piece, ...]:
        """The one kernel. Raises NotCovered."""
        if self.precision not in ROUNDINGS or self.nest.product is None or self.dtype != "f32":
            raise NotCovered("not for tensor cores")
        if min(map(bound, self.nest.frame[-2:])) < LEAST or bound(self.nest.product.depth) < DEEP:
            raise NotCovered("a product too small for tensor cores")
        return super().pieces()

    def cut(self, rows: int, columns: int, depth: int, batches: int) -> Cut:
        return cut_for(rows, columns, depth, batches, TILES)

    @property
    def downs(self) -> range:
        """Of the matrices that a warp has side by side, one below the other."""
        return range(self.tile.height // DOWN // HIGH)

    @property
    def acrosses(self) -> range:
        return range(self.tile.width // (WARPS // DOWN) // WIDE)

    @property
    def registers(self) -> list[str]:
        return [
            f"sum_{down}_{across}_{number}" for down in self.downs for across in self.acrosses for number in range(4)
        ]

    @property
    def groups(self) -> int:
        """A tile goes through shared memory by the rows of warps."""
        return DOWN

    def own_places(self) -> None:
        """Where a thread's numbers lie in a tile."""
        across = WARPS // DOWN
        self.line(f"warp = thread // {WARP}")
        self.line(f"own_row = warp // {across} * {self.tile.height // DOWN} + thread % {WARP} // 4")
        self.line(f"own_column = warp % {across} * {self.tile.width // across} + thread % {WARP} // 4")
        self.line("own_step = thread % 4")

    def rounded(self, name: str) -> str:
        """A number on its way to shared memory. What is no number stays none."""
        bits = ROUNDINGS[self.precision].format(bits=f"bits_of({name})")
        return f"select({name} == {name}, float_of({bits}), {name})"

    def multiply_steps(self, tall: int, broad: int) -> None:
        with self.block(f"for k in range(0, {DEEP}, {STEPS}):"):
            self.line(f"a_at = left_tile + (k + own_step) * {tall} + own_row")
            self.line(f"b_at = right_tile + (k + own_step) * {broad} + own_column")
            for down in self.downs:
                for number in range(4):
                    away = down * HIGH + number % 2 * 8 + number // 2 * 4 * tall
                    self.line(f"a{down}_{number} = load(shared_f32, a_at + {away})")
            for across in self.acrosses:
                for number in range(2):
                    self.line(f"b{across}_{number} = load(shared_f32, b_at + {across * WIDE + number * 4 * broad})")
            for down in self.downs:
                for across in self.acrosses:
                    self.multiply_small(down, across)

    def multiply_small(self, down: int, across: int) -> None:
        sums = [f"sum_{down}_{across}_{number}" for number in range(4)]
        told = [*(f"a{down}_{number}" for number in range(4)), *(f"b{across}_{number}" for number in range(2)), *sums]
        for number in range(4):
            self.line(f"next_{down}_{across}_{number} = tensor_product_{number}({', '.join(told)})")
        for number, name in enumerate(sums):
            self.line(f"{name} = next_{down}_{across}_{number}")

    def leave_tile(self, group: int) -> None:
        """The registers of a row of warps to shared memory, where the elements of a row lie side by side."""
        width, across = self.tile.width, WARPS // DOWN
        with self.block(f"if warp // {across} == {group}:"):
            self.line(f"corner = thread % {WARP} // 4 * {width} + own_step * 2 + warp % {across} * {width // across}")
            for name, away in zip(self.registers, self.offsets_of_registers(), strict=True):
                self.line(f"store(shared_f32, corner + {away}, {name})")
        self.line("barrier()")

    def offsets_of_registers(self) -> Iterator[int]:
        for down in self.downs:
            for across in self.acrosses:
                for number in range(4):
                    row, column = down * HIGH + number // 2 * 8, across * WIDE + number % 2
                    yield row * self.tile.width + column

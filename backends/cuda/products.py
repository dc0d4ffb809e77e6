"""Matrix products: a block computes a tile of the result, of which every thread keeps some elements in registers.

Both operands go through shared memory, a few steps of the depth at a time: while threads multiply what is there, what
comes next is on its way from memory to registers, and it goes to the other one of two places. Every element is one
chain of fused multiply-adds along the depth in order, as on the CPU, so its bits are those of the CPU whatever the
tile is. A long depth of few tiles is cut in parts: each leaves its sums, and the block that is the last at a tile adds
them up in order. What the nest does with the elements is done to the finished tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphc.backends.cuda.fronts import is_one_by_one
from graphc.backends.cuda.operands import ACROSS, DEEP, Brought, Operands
from graphc.backends.cuda.sums import Sums
from graphc.backends.cuda.threads import THREADS, NotCovered, Piece, check_states, grid_of
from graphc.ir.frozen import dataclass
from graphc.ir.loops import Buffer, Term, walked_by
from graphc.ir.types import DTYPES, bound


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile of the result: each of 16 x 16 threads has `rows` x `columns` of its elements."""

    rows: int
    columns: int

    @property
    def height(self) -> int:
        return self.rows * ACROSS

    @property
    def width(self) -> int:
        return self.columns * ACROSS

    @property
    def size(self) -> int:
        return self.height * self.width


MULTIPROCESSORS = 132  # of the devices we have in mind; tiles are made so small that each has one
TILES = (Tile(8, 8), Tile(4, 8), Tile(4, 4), Tile(2, 4), Tile(2, 2), Tile(1, 2), Tile(1, 1))
MOST_PARTS, LEAST_DEPTH = 8, 64  # of a split depth, and steps of each
MOST_HELD = 256  # bytes of the result in the registers of a thread


@dataclass(frozen=True, slots=True)
class Cut:
    """How a product is shared out: a block does one tile, or one of several parts of its depth."""

    tile: Tile
    parts: int


def cut_for(rows: int, columns: int, depth: int, batches: int, tiles: Sequence[Tile]) -> Cut:
    """The largest tile of which there are enough for all multiprocessors, with parts of the depth if need be; the last
    one where no other fits."""
    most = max(min(MOST_PARTS, depth // LEAST_DEPTH), 1)
    fitting = [tile for tile in tiles if tile == tiles[-1] or (rows > tile.height // 2 and columns > tile.width // 2)]
    counts = {tile: -(-rows // tile.height) * -(-columns // tile.width) * batches for tile in fitting}
    tile = next((tile for tile in fitting if counts[tile] * most >= MULTIPROCESSORS * 3 // 4), fitting[-1])
    return Cut(tile, max(min(most, MULTIPROCESSORS // max(counts[tile], 1)), 1))


class Products(Operands, Sums):
    """Writes products and what is done to each of their elements."""

    tile: Tile
    parts_of_depth: int
    padding = 4  # numbers behind each line of a wide tile in shared memory

    def pieces(self) -> tuple[Piece, ...]:
        """The one kernel. Raises NotCovered."""
        product = self.nest.product
        if product is None or not is_one_by_one(self.nest):
            raise NotCovered("not a product alone")
        check_states(self.nest)
        batch = list(range(self.nest.lane - 1))
        rows, columns = self.nest.frame[-2:]
        chosen = self.cut(bound(rows), bound(columns), bound(product.depth), bound(self.count(batch)))
        self.tile, self.parts_of_depth = chosen.tile, chosen.parts
        # An upper bound of the tiles, as an extent: each axis rounded up by itself is none.
        most = -(-bound(rows) // self.tile.height) * -(-bound(columns) // self.tile.width) * bound(self.count(batch))
        self.begin()
        self.row_terms(None)
        parts = self.parts_of_depth
        self.line(f"depth = {self.number(product.depth)}")
        self.line(f"each = (depth + {parts * DEEP - 1}) // {parts * DEEP} * {DEEP}" if parts > 1 else "each = depth")
        self.line(f"tiles_down = ({self.extents[-2]} + {self.tile.height - 1}) // {self.tile.height}")
        self.line(f"tiles_across = ({self.extents[-1]} + {self.tile.width - 1}) // {self.tile.width}")
        self.own_places()
        tiles = " * ".join(["tiles_down", "tiles_across", self.count_text(batch), str(parts)])
        with self.block(f"for turn in range(block, {tiles}, blocks):"):
            self.line(f"part = turn % {parts}")
            self.line("first_step = minimum(part * each, depth)")
            self.line("last_step = minimum(first_step + each, depth)")
            self.line(f"tile = turn // {parts}")
            self.line(f"first_column = tile % tiles_across * {self.tile.width}")
            self.line("above = tile // tiles_across")
            self.line(f"first_row = above % tiles_down * {self.tile.height}")
            self.line("matrix = above // tiles_down")
            self.decode("matrix", batch)
            self.multiply()
            if parts == 1:
                self.line("barrier()")
                self.finished_tile()
            else:
                self.add_up_parts(most)
        return (self.finished(self.nest.name, grid_of(most * parts, 1)),)

    def cut(self, rows: int, columns: int, depth: int, batches: int) -> Cut:
        size = DTYPES[self.dtype].itemsize
        tiles = [tile for tile in TILES if tile.rows * tile.columns * size <= MOST_HELD]
        return cut_for(rows, columns, depth, batches, tiles)

    def own_places(self) -> None:
        """Where a thread's numbers lie in a tile."""
        self.line(f"own_row = thread // {ACROSS} * {min(self.tile.rows, 4)}")
        self.line(f"own_column = thread % {ACROSS} * {min(self.tile.columns, 4)}")

    @property
    def registers(self) -> list[str]:
        rows, columns = range(self.tile.rows), range(self.tile.columns)
        return [f"sum_{row}_{column}" for row in rows for column in columns]

    # -- the product

    def multiply(self) -> None:
        product = self.nest.product
        assert product is not None
        high, wide = self.tile.height, self.tile.width
        left, right = product.left, product.right
        down, across = self.nest.frame[-2:]
        tall = Brought("left", left, high, "first_row", down, left.rows, left.columns, self.padding)
        broad = Brought("right", right, wide, "first_column", across, right.columns, right.rows, self.padding)
        both = (tall, broad)
        half = DEEP * sum(each.line for each in both)
        self.shared[self.dtype] = max(2 * half, self.tile.size // self.groups if not self.has_own else 0)
        for name in self.registers:
            self.line(f"{name} = {self.dtype}(0.0)")
        for each in both:
            self.find_places(each, product.depth)
            self.fetch(each, "first_step")
        with self.block(f"for step in range(first_step, last_step, {DEEP}):"):
            self.line(f"left_tile = step // {DEEP} % 2 * {half}")
            self.line(f"right_tile = left_tile + {DEEP * tall.line}")
            self.to_shared(tall, "left_tile")
            self.to_shared(broad, "right_tile")
            self.line("barrier()")
            self.line(f"following = step + {DEEP}")
            for each in both:
                self.fetch(each, "following")
            self.multiply_steps(tall.line, broad.line)

    def multiply_steps(self, tall: int, broad: int) -> None:
        """What is in shared memory, with so many numbers from one step of the depth to the next."""
        with self.block(f"for k in range({DEEP}):"):
            self.take_line("a", "left_tile", tall, "own_row", self.tile.rows)
            self.take_line("b", "right_tile", broad, "own_column", self.tile.columns)
            for row in range(self.tile.rows):
                for column in range(self.tile.columns):
                    name = f"sum_{row}_{column}"
                    self.line(f"{name} = fma(a{row}, b{column}, {name})")

    def take_line(self, name: str, tile: str, line: int, own: str, count: int) -> None:
        """A thread's numbers of one step of the depth, four of them with one access."""
        self.line(f"{name}_at = {tile} + k * {line} + {own}")
        for number, away in enumerate(offsets(count)):
            first = "load_first" if count >= 4 and number % 4 == 0 else "load"
            self.line(f"{name}{number} = {first}(shared_{self.dtype}, {name}_at{f' + {away}' if away else ''})")

    # -- parts of the depth

    def add_up_parts(self, most: int) -> None:
        """Each block leaves the sums of its part; the last one at the tile goes on with those of all parts."""
        parts, size = self.parts_of_depth, self.tile.size
        left = Buffer("scratch", self.product_term.value, "tiles")
        pointer = self.pointer(left, "tiles", self.dtype)
        self.rooms[left] = most * parts * size * DTYPES[self.dtype].itemsize
        self.line(f"own = shift({pointer}, turn * {size} + thread)")
        for number, name in enumerate(self.registers):
            self.line(f"store(own, {number * THREADS}, {name})")
        with self.last_of(str(parts), "ready", most, "tile"):
            self.line(f"all = shift({pointer}, tile * {parts * size} + thread)")
            for number, name in enumerate(self.registers):
                self.line(f"{name} = load(all, {number * THREADS})")
            with self.block(f"for other in range(1, {parts}):"):
                for number, name in enumerate(self.registers):
                    self.line(f"{name} = {name} + load(all, other * {size} + {number * THREADS})")
            self.finished_tile()

    # -- what is done to the elements

    @property
    def has_own(self) -> bool:
        """Whether every thread has just the element it goes on with."""
        return self.tile == Tile(1, 1)

    @property
    def groups(self) -> int:
        """A tall tile goes through shared memory in two halves."""
        return 2 if self.tile.rows == 8 else 1

    def finished_tile(self) -> None:
        if self.has_own:
            self.elements(0)
            return
        for group in range(self.groups):
            self.leave_tile(group)
            self.elements(group)
            self.line("barrier()")

    def leave_tile(self, group: int) -> None:
        """The registers of all threads to shared memory, where the elements of a row lie side by side."""
        height = min(self.tile.rows, 4)
        for row in range(height):
            for column, away in enumerate(offsets(self.tile.columns)):
                at = f"(own_row + {row}) * {self.tile.width} + own_column + {away}"
                self.line(f"store(shared_{self.dtype}, {at}, sum_{group * height + row}_{column})")
        self.line("barrier()")

    def elements(self, group: int) -> None:
        size, width = self.tile.size // self.groups, self.tile.width
        above = f" + {group * size // width}" if group else ""
        with self.block(f"for element in range(thread, {size}, {THREADS}):"):
            self.line(f"i = first_row{above} + element // {width}")
            self.line(f"j = first_column + element % {width}")
            with self.block(f"if (i < {self.extents[-2]}) & (j < {self.extents[-1]}):"):
                for term in self.terms:
                    if term.axes and term.kind in ("load", "take", "guard", "compute", "product"):
                        self.define(term)
                for store in self.nest.stores:
                    with self.once_for(walked_by(store.index)):
                        self.put(store)

    def define(self, term: Term) -> None:
        if term.kind != "product":
            super().define(term)
            return
        held = "sum_0_0" if self.has_own else f"load(shared_{self.dtype}, element)"
        self.line(f"{self.name(term)} = {held}")


def offsets(count: int) -> Iterator[int]:
    """Where a thread's rows or columns of a tile lie, from its own first one on: four side by side, then four others
    behind those of all threads."""
    for number in range(count):
        yield number // 4 * 4 * ACROSS + number % 4

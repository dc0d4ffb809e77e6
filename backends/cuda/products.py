"""Matrix products: a block computes a tile of the result, of which every thread keeps some elements in registers.

Both operands go through shared memory, a few steps of the depth at a time. Every element is one chain of fused
multiply-adds along the depth in order, as on the CPU, so its bits are those of the CPU whatever the tile is. What the
nest does with the elements is done to the finished tile; where it adds them up, another nest reads them from memory.
"""

from __future__ import annotations

from dataclasses import replace

from graphc.backends.cuda.sums import Sums
from graphc.backends.cuda.threads import NotCovered, Piece, check_states, grid_of, row_major
from graphc.ir.frozen import dataclass
from graphc.ir.layout import Steps
from graphc.ir.loops import Buffer, LoopNest, Operand, Store, Term, phase_count, walked_by
from graphc.ir.types import DTYPES, bound, multiply

ACROSS = 16  # threads along the columns of a tile, and along its rows
DEEP = 16  # steps of the depth at a time
PRODUCT = "product"  # scratch for elements that another nest goes through
SUMS = ("row", "total", "column", "scatter")


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


MULTIPROCESSORS = 132  # of the devices we have in mind; tiles are made so small that each has one


MOST_PARTS, LEAST_DEPTH = 16, 256  # of a split depth, and steps of each


def tile_of(nest: LoopNest) -> Tile:
    rows, columns = nest.frame[-2:]
    return tile_for(bound(rows), bound(columns), bound(multiply(*nest.frame[:-2])))


def tile_for(rows: int, columns: int, batches: int) -> Tile:
    """The largest tile of which there are enough for all multiprocessors, or the smallest."""
    for tile in (Tile(4, 4), Tile(2, 4), Tile(2, 2), Tile(1, 1)):
        fits = (tile.rows == 1 or rows > tile.height // 2) and (tile.columns == 1 or columns > tile.width // 2)
        if fits and -(-rows // tile.height) * -(-columns // tile.width) * batches >= MULTIPROCESSORS:
            return tile
    return Tile(1, 1)


def parts_for(nest: LoopNest) -> int:
    """How many parts of the depth are summed by themselves: several where tiles are few and the depth is long."""
    product = nest.product
    assert product is not None
    tile = tile_of(nest)
    rows, columns = (bound(extent) for extent in nest.frame[-2:])
    tiles = -(-rows // tile.height) * -(-columns // tile.width) * bound(multiply(*nest.frame[:-2]))
    return max(min(MOST_PARTS, MULTIPROCESSORS // max(tiles, 1), bound(product.depth) // LEAST_DEPTH), 1)


def parted(nest: LoopNest) -> tuple[LoopNest, LoopNest | None]:
    """The product with what is done to its elements one by one; and the nest that goes through its elements, where
    they are summed, or are sums of several parts."""
    parts = parts_for(nest)
    sums = any(term.kind in SUMS or term.late for term in nest.terms()) or phase_count(nest) > 1
    if parts == 1 and not sums:
        return nest, None
    product = next(term for term in nest.terms() if term.kind == "product")
    buffer, index = Buffer("scratch", product.value, PRODUCT), row_major(nest.frame, frozenset(range(len(nest.frame))))
    count = multiply(*nest.frame)
    alone = replace(nest, name=product.value.op.name, stores=(Store(product, buffer, index),))
    whole = replace(product, kind="load", detail=(buffer, index, ()))
    for part in range(1, parts):
        place = ((None, multiply(part, count)), *index)
        loaded = replace(product, kind="load", detail=(buffer, place, ()))
        whole = replace(product, kind="compute", operands=(whole, loaded), detail="{0} + {1}")
    return alone, replace(with_term(nest, product, whole), product=None)


def with_term(nest: LoopNest, old: Term, new: Term) -> LoopNest:
    """The nest with one term in place of another one that has no operands."""
    moved = {old: new}
    for term in nest.terms():
        if term is not old and any(operand is not moved[operand] for operand in term.operands):
            moved[term] = replace(term, operands=tuple(moved[operand] for operand in term.operands))
        moved.setdefault(term, term)
    return replace(nest, stores=tuple(replace(store, term=moved[store.term]) for store in nest.stores))


class Products(Sums):
    """Writes products and what is done to each of their elements."""

    tile: Tile

    def pieces(self) -> tuple[Piece, ...]:
        """The one kernel. Raises NotCovered."""
        product = self.nest.product
        if product is None or any(term.kind in SUMS or term.late for term in self.terms):
            raise NotCovered("not a product alone")
        check_states(self.nest)
        batch = list(range(self.nest.lane - 1))
        rows, columns = self.nest.frame[-2:]
        self.tile = tile_of(self.nest)
        self.parts_of_depth = parts_for(self.nest)
        self.begin()
        self.row_terms(None)
        self.shared[self.dtype] = max(self.tile.height + self.tile.width + 2, 0) * DEEP
        self.shared[self.dtype] = max(self.shared[self.dtype], self.tile.height * self.tile.width)
        shared = f"shared_{self.dtype}"
        self.line(f"right_tile = shift({shared}, {DEEP * (self.tile.height + 1)})")
        parts = self.parts_of_depth
        self.line(f"depth = {self.number(product.depth)}")
        self.line(f"each = (depth + {parts * DEEP - 1}) // {parts * DEEP} * {DEEP}" if parts > 1 else "each = depth")
        self.line(f"tiles_down = ({self.extents[-2]} + {self.tile.height - 1}) // {self.tile.height}")
        self.line(f"tiles_across = ({self.extents[-1]} + {self.tile.width - 1}) // {self.tile.width}")
        self.line(f"own_row = thread // {ACROSS} * {self.tile.rows}")
        self.line(f"own_column = thread % {ACROSS} * {self.tile.columns}")
        tiles = f"tiles_down * tiles_across * {self.count_text(batch)} * {parts}"
        with self.block(f"for tile in range(block, {tiles}, blocks):"):
            self.line(f"part = tile % {parts}")
            self.line("first_step = part * each")
            self.line("last_step = minimum(first_step + each, depth)")
            self.line(f"across = tile // {parts}")
            self.line(f"first_column = across % tiles_across * {self.tile.width}")
            self.line("above = across // tiles_across")
            self.line(f"first_row = above % tiles_down * {self.tile.height}")
            self.line("matrix = above // tiles_down")
            self.decode("matrix", batch)
            self.multiply(product.left, product.right)
            self.finished_tile()
        # An upper bound of the tiles, as an extent: each axis rounded up by itself is none.
        most = -(-bound(rows) // self.tile.height) * -(-bound(columns) // self.tile.width) * bound(self.count(batch))
        for store in self.nest.stores:
            if store.buffer.name == PRODUCT:
                self.rooms[store.buffer] = parts * bound(multiply(*self.nest.frame)) * DTYPES[self.dtype].itemsize
        return (self.finished(self.nest.name, grid_of(most * parts, 1)),)

    @property
    def dtype(self) -> str:
        return self.product_term.dtype

    def multiply(self, left: Operand, right: Operand) -> None:
        shared, zero = f"shared_{self.dtype}", f"{self.dtype}(0.0)"
        for name in self.registers():
            self.line(f"{name} = {zero}")
        with self.block(f"for step in range(first_step, last_step, {DEEP}):"):
            high, wide = self.tile.height, self.tile.width
            self.bring("left", left, shared, (high, "first_row", self.extents[-2]), left.rows, left.columns)
            self.bring(
                "right", right, "right_tile", (wide, "first_column", self.extents[-1]), right.columns, right.rows
            )
            self.line("barrier()")
            with self.block(f"for k in range({DEEP}):"):
                for row in range(self.tile.rows):
                    self.line(f"a{row} = load({shared}, k * {high + 1} + own_row + {row})")
                for column in range(self.tile.columns):
                    self.line(f"b{column} = load(right_tile, k * {wide + 1} + own_column + {column})")
                for row in range(self.tile.rows):
                    for column in range(self.tile.columns):
                        name = f"sum_{row}_{column}"
                        self.line(f"{name} = fma(a{row}, b{column}, {name})")
            self.line("barrier()")

    def registers(self) -> list[str]:
        rows, columns = range(self.tile.rows), range(self.tile.columns)
        return [f"sum_{row}_{column}" for row in rows for column in columns]

    def bring(
        self, name: str, operand: Operand, target: str, span: tuple[int, str, str], across: Steps, deep: Steps
    ) -> None:
        """A block of an operand to shared memory, neighbours in memory by neighbouring threads."""
        size, first, stop = span
        along_depth = not across or (bool(deep) and deep[-1][1] == 1)
        start = self.index(operand.start)
        pointer, zero = self.pointers[operand.buffer], f"{self.dtype}(0.0)"
        with self.block(f"for piece in range(thread, {size * DEEP}, {ACROSS * ACROSS}):"):
            self.line(f"near = piece {'// ' + str(DEEP) if along_depth else '% ' + str(size)}")
            self.line(f"far = piece {'% ' + str(DEEP) if along_depth else '// ' + str(size)}")
            self.line(f"live = ({first} + near < {stop}) & (step + far < last_step)")
            self.line(f"place = select(live, {first} + near, 0)")
            self.line("deep = select(live, step + far, 0)")
            parts = [*self.walk(f"{name}_across", "place", across), *self.walk(f"{name}_deep", "deep", deep)]
            at = " + ".join([start, *parts] if start != "0" else parts) or "0"
            self.line(f"number = select(live, load({pointer}, {at}), {zero})")
            self.line(f"store({target}, far * {size + 1} + near, number)")

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

    def put(self, store: Store) -> None:
        """Parts of the depth leave their sums one behind the other."""
        if store.buffer.name != PRODUCT:
            super().put(store)
            return
        at = f"part * ({' * '.join(self.extents)}) + {self.index(store.index)}"
        self.save(self.pointers[store.buffer], at, self.operand(store.term, False), False)

    @property
    def has_own(self) -> bool:
        """Whether every thread has just the element it goes on with."""
        return self.tile == Tile(1, 1)

    def finished_tile(self) -> None:
        if self.has_own:
            self.elements()
            return
        self.leave_tile()
        self.elements()
        self.line("barrier()")

    def leave_tile(self) -> None:
        """The registers of all threads to shared memory, where the elements of a row lie side by side."""
        for row in range(self.tile.rows):
            for column in range(self.tile.columns):
                at = f"(own_row + {row}) * {self.tile.width} + own_column + {column}"
                self.line(f"store(shared_{self.dtype}, {at}, sum_{row}_{column})")
        self.line("barrier()")

    def elements(self) -> None:
        size, width = self.tile.height * self.tile.width, self.tile.width
        with self.block(f"for element in range(thread, {size}, {ACROSS * ACROSS}):"):
            self.line(f"i = first_row + element // {width}")
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

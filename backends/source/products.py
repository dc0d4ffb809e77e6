"""Matrix products: blocks, panels, tiles, and the nest's own terms on each tile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from graphc.backends import contraction
from graphc.backends.contraction import TileShape
from graphc.backends.primitives import LANES, Kernel
from graphc.backends.source.nests import Nests
from graphc.ir.blocking import FEW_COLUMNS, TILE_ROWS, Blocking, blocking, walks
from graphc.ir.frozen import dataclass
from graphc.ir.layout import Steps
from graphc.ir.loops import Buffer, Operand, Store
from graphc.ir.types import Extent, bound


@dataclass(frozen=True, slots=True)
class Span:
    """The places of an axis a block is about, as text."""

    first: str
    last: str

    @property
    def length(self) -> str:
        return self.from_start(self.last)

    def from_start(self, place: str) -> str:
        return place if self.first == "0" else f"({place} - {self.first})"


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix as text: where it begins and how far its rows and its columns are apart."""

    pointer: str
    row: str
    column: str

    def at(self, row: str, column: str) -> str:
        """The pointer to an element."""
        steps = [f"{place} * {step}" for place, step in ((row, self.row), (column, self.column)) if place != "0"]
        return f"shift({self.pointer}, {' + '.join(steps)})" if steps else self.pointer

    @property
    def turned(self) -> Matrix:
        return Matrix(self.pointer, self.column, self.row)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of the result and of the depth, the depth of panels that are kept, the rows of tiles that are open."""

    down: Span
    across: Span
    deep: Span
    panels: Span
    tiles: Span


class Products(Nests):
    """Adds the loops of a product to those of a nest.

    Matrix by matrix, block by block of columns and of rows, panel by panel, tile by tile; the nest's terms are
    computed on a tile while it is hot. Any part of the rows or of the columns can be computed by itself.
    """

    blocking: Blocking
    tile: TileShape

    def product_loops(self) -> None:
        product, dtype = self.nest.product, self.product_term.dtype
        assert product is not None
        self.blocking = blocking(self.nest, self.shape.width, dtype)
        self.matrix_depth = self.extent("depth", product.depth)
        self.tile = self.tile_shape()
        if walks(product.right):
            self.walk(product.right)
        with self.loops(range(len(self.nest.frame) - 2)):
            left, right = self.matrix("left", product.left), self.matrix("right", product.right)
            rows, columns = (Span(*self.span(axis)) for axis in (self.nest.lane - 1, self.nest.lane))
            {"tiles": self.tiles, "turned": self.turned_tiles, "lines": self.lines_of_depth}[self.blocking.form](
                left, right, rows, columns
            )

    def tile_shape(self) -> TileShape:
        """The largest tile, or one that divides what few rows there are."""
        rows, most = self.nest.frame[-2], self.shape.rows
        if self.blocking.form == "tiles" and isinstance(rows, int) and 0 < rows <= 2 * most:
            most = rows if rows <= most else rows // 2 if rows % 2 == 0 else most
        return TileShape(most, self.blocking.width // LANES)

    @property
    def row_unit(self) -> int:
        """How many rows are computed together."""
        return {"tiles": self.tile.rows, "turned": self.blocking.width, "lines": TILE_ROWS}[self.blocking.form]

    def tiles(self, left: Matrix, right: Matrix, rows: Span, columns: Span) -> None:
        """Block by block of columns; the depth is cut outside of the rows or inside."""
        whole, blocks = Span("0", self.matrix_depth), self.blocking
        with self.blocks("column", columns, blocks.columns) as across:
            if blocks.deep_first:
                with self.blocks("depth", whole, blocks.depth) as deep:
                    self.pack_panels(right, across, deep)
                    with self.blocks("row", rows, blocks.rows) as down:
                        self.block_of_tiles(left, right, Block(down, across, deep, panels=deep, tiles=rows))
                return
            self.pack_panels(right, across, whole)
            with self.blocks("row", rows, blocks.rows) as down, self.blocks("depth", whole, blocks.depth) as deep:
                self.block_of_tiles(left, right, Block(down, across, deep, panels=whole, tiles=down))

    def block_of_tiles(self, left: Matrix, right: Matrix, block: Block) -> None:
        down, across, deep = block.down, block.across, block.deep
        if self.blocking.packs_left:
            self.pack_left(left, down, deep)
        with self.block(f"for first_column in range({across.first}, {across.last}, {self.tile.width}):"):
            panel = self.panel(right, "first_column", across, deep, block.panels)
            with self.block(f"for first_row in range({down.first}, {down.last}, {self.tile.rows}):"):
                self.multiply(self.left_rows(left, down, deep), panel, block)

    def multiply(self, left: Matrix, panel: Matrix, block: Block) -> None:
        """One tile: straight to where a bare product goes, or to scratch and on through the nest's terms."""
        down, across, deep = block.down, block.across, block.deep
        arguments = [left.pointer, panel.pointer, deep.length, f"{down.last} - first_row"]
        arguments += [left.row, left.column, panel.row]
        store, columns = self.bare_store(), self.nest.frame[-1]
        whole = isinstance(columns, int) and columns % self.tile.width == 0
        if store is None or (self.blocking.depth and not whole):
            self.through_scratch(arguments, block)
        elif whole:
            self.straight(store, arguments, deep)
        else:
            with self.block(f"if {across.last} - first_column >= {self.tile.width}:"):
                self.straight(store, arguments, deep)
            with self.block("else:"):
                self.through_scratch(arguments, block, rest=True)

    def bare_store(self) -> Store | None:
        """Where the product goes if it goes there as it is, by whole sets of lanes."""
        (store, *others) = self.nest.stores
        if others or store.term is not self.product_term or self.lane_step(store.index) != 1:
            return None
        return store

    def straight(self, store: Store, arguments: list[str], deep: Span) -> None:
        self.line("i = first_row")
        self.line("j = first_column")
        row = next((step for axis, step in store.index if axis == self.nest.lane - 1), 0)
        target = f"shift({self.pointers[store.buffer]}, {self.index(store.index)})"
        self.call_multiply(self.tile.vectors, deep, target, *arguments, self.number(row))

    def through_scratch(self, arguments: list[str], block: Block, rest: bool = False) -> None:
        """rest: fewer columns than a panel has are left."""
        down, across, deep = block.down, block.across, block.deep
        if self.blocking.depth:
            before = f"{across.from_start('first_column')} * {self.blocking.padded_rows}"
            place = f"{before} + {block.tiles.from_start('first_row')} * {self.tile.width}"
            self.line(f"tile = shift({self.scratch('tiles')}, {place})")
        else:
            self.scratch("tile")
        self.by_width("first_column", across, self.nest.frame[-1], ["tile", *arguments], deep, rest)
        if not self.blocking.depth:
            self.tile_rows(down, across, self.tile.rows)
            return
        with self.block(f"if {deep.last} == {self.matrix_depth}:"):
            self.tile_rows(down, across, self.tile.rows)

    def by_width(self, place: str, span: Span, extent: Extent, arguments: list[str], deep: Span, rest: bool) -> None:
        """A call of the kernel that multiplies; the last panel may be one set of lanes only."""
        shape, width = self.tile, str(self.tile.width)
        left = extent % shape.width if isinstance(extent, int) else 1
        if shape.vectors == 1 or not 0 < left <= LANES:
            self.call_multiply(shape.vectors, deep, *arguments, width)
            return
        if rest and isinstance(extent, int):
            self.call_multiply(1, deep, *arguments, width)
            return
        with self.block(f"if {span.last} - {place} > {LANES}:"):
            self.call_multiply(shape.vectors, deep, *arguments, width)
        with self.block("else:"):
            self.call_multiply(1, deep, *arguments, width)

    def call_multiply(self, vectors: int, deep: Span, *arguments: str) -> None:
        resumes = self.blocking.depth > 0
        kernel = contraction.multiply_tile(TileShape(self.tile.rows, vectors), self.product_term.dtype, resumes)
        self.call(kernel, *arguments, *([deep.first] if resumes else []))

    def tile_rows(self, down: Span, across: Span, rows: int) -> None:
        """The nest's terms on a tile, down its rows, which leaves what does not depend on the row to be loaded once."""
        row = f"(i - first_row) * {self.tile.width}"
        if self.blocking.columns_as_lanes:
            self.tile_place = f"{row} + (j - first_column)"
            steps = self.lane_steps("first_column", f"minimum(first_column + {self.tile.width}, {across.last})")
        else:
            self.tile_place = f"{row} + j"
            steps = self.lane_steps(across.first, across.last)
        with steps, self.block(f"for i in range(first_row, minimum(first_row + {rows}, {down.last})):"):
            self.row_terms(0)
            self.lane_body(0)

    # -- few columns

    def turned_tiles(self, left: Matrix, right: Matrix, rows: Span, columns: Span) -> None:
        """The transposed result, panel by panel of its columns; a tile is turned when it is done."""
        self.scratch("turned"), self.scratch("tile")
        wide = self.tile
        self.tile = TileShape(self.columns_known or min(self.shape.rows, FEW_COLUMNS), wide.vectors)
        deep = Span("0", self.matrix_depth)
        with self.block(f"for first_row in range({rows.first}, {rows.last}, {self.tile.width}):"):
            panel = self.panel(left.turned, "first_row", rows, deep, deep)
            turned = right.turned
            arguments = [turned.pointer, panel.pointer, deep.length, columns.last, turned.row, turned.column, panel.row]
            self.by_width("first_row", rows, self.nest.frame[-2], ["turned", *arguments], deep, rest=False)
            with self.block(f"for lane in range(0, {self.tile.width}, {LANES}):"):
                self.line(
                    f"transpose_block(shift(turned, lane), {self.tile.width}, shift(tile, lane * {LANES}), {LANES})"
                )
            height, self.tile = self.tile.width, TileShape(self.tile.rows, 1)
            self.tile_rows(rows, columns, height)

    @property
    def columns_known(self) -> int:
        extent = self.nest.frame[-1]
        return extent if isinstance(extent, int) and extent <= self.shape.rows else 0

    def lines_of_depth(self, left: Matrix, right: Matrix, rows: Span, columns: Span) -> None:
        """Rows of the left operand times columns of the right one, all of them sets of lanes along the depth."""
        self.scratch("tile")
        if self.blocking.packs_right:
            self.scratch("lines")
            kernel = contraction.pack_lines()
            self.call(kernel, "lines", right.pointer, self.matrix_depth, columns.last, right.row, right.column)
            right = Matrix("lines", "1", f"(({self.matrix_depth} + {LANES - 1}) // {LANES} * {LANES} + {LANES})")
        kernel = contraction.multiply_lines(self.shape, bound(self.nest.frame[-1]), self.blocking.width)
        with self.block(f"for first_row in range({rows.first}, {rows.last}, {TILE_ROWS}):"):
            count = f"minimum({TILE_ROWS}, {rows.last} - first_row)"
            a = left.at("first_row", "0")
            self.call(kernel, "tile", a, right.pointer, self.matrix_depth, count, columns.last, left.row, right.column)
            self.tile_rows(rows, columns, TILE_ROWS)

    # -- operands

    def scratch(self, name: str, dtype: str = "") -> str:
        """The pointer to memory the product works in."""
        return self.pointer(Buffer("scratch", self.product_term.value, name), name, dtype or self.product_term.dtype)

    def matrix(self, name: str, operand: Operand) -> Matrix:
        """A matrix of the batch at hand; the steps of one that walks several axes of memory are looked up apart."""
        pointer = self.pointers[operand.buffer]
        pointer = f"shift({pointer}, {self.index(operand.start)})" if operand.start else pointer
        if walks(operand):
            return Matrix(pointer, "", "")
        return Matrix(pointer, self.stride(f"{name}_row", operand.rows), self.stride(f"{name}_column", operand.columns))

    def stride(self, name: str, steps: Steps) -> str:
        """The one stride of a matrix axis; an axis that stays has stride 0."""
        return self.extent(name, steps[0][1] if steps else 0)

    def call(self, kernel: Kernel, *arguments: str) -> None:
        self.called[kernel.name] = kernel
        self.line(f"{kernel.plain_name}({', '.join(arguments)})")

    @contextmanager
    def blocks(self, name: str, span: Span, step: int) -> Iterator[Span]:
        """A loop over the blocks of an axis and where each begins and ends; no loop where one block is all."""
        if not step:
            yield span
            return
        with self.block(f"for {name}_start in range({span.first}, {span.last}, {step}):"):
            self.line(f"{name}_stop = minimum({name}_start + {step}, {span.last})")
            yield Span(f"{name}_start", f"{name}_stop")

    def pack_left(self, left: Matrix, down: Span, deep: Span) -> None:
        start, behind = left.at(down.first, deep.first), down.from_start(self.extents[-2])
        arguments = (start, deep.length, down.length, behind, left.row, left.column)
        self.call(contraction.pack_rows(self.tile), self.scratch("packed"), *arguments)

    def left_rows(self, left: Matrix, down: Span, deep: Span) -> Matrix:
        """The rows of a tile."""
        if not self.blocking.packs_left:
            return Matrix(left.at("first_row", deep.first), left.row, left.column)
        offset = f"{down.from_start('first_row')} * {deep.length}"
        return Matrix(f"shift(packed, {offset})", "1", str(self.tile.rows))

    def pack_panels(self, right: Matrix, across: Span, deep: Span) -> None:
        """All panels of a block of columns, side by side, if they are kept."""
        if not self.blocking.keeps_right:
            return
        self.scratch("panels")
        with self.block(f"for first_column in range({across.first}, {across.last}, {self.tile.width}):"):
            offset = f"{across.from_start('first_column')} * {deep.length}"
            self.pack(f"shift(panels, {offset})", right, "first_column", across, deep)

    def panel(self, wide: Matrix, place: str, span: Span, deep: Span, kept: Span) -> Matrix:
        """The panel that begins at a place of a matrix: packed, or where it lies if it has whole sets of lanes.

        kept  the depth of panels that are kept
        """
        width = str(self.tile.width)
        extent = self.nest.frame[-1] if place == "first_column" else self.nest.frame[-2]
        if self.blocking.keeps_right:
            start = f"{span.from_start(place)} * {kept.length}"
            start += f" + {deep.first} * {width}" if deep.first != kept.first else ""
            return Matrix(f"shift(panels, {start})", width, "1")
        start = wide.at(deep.first, place)
        if not self.blocking.packs_right and isinstance(extent, int) and extent % LANES == 0:
            return Matrix(start, wide.row, "1")
        self.scratch("panel")
        if self.blocking.packs_right:
            self.pack("panel", wide, place, span, deep)
            return Matrix("panel", width, "1")
        self.line(f"at = {start}")
        self.line(f"step = {wide.row}")
        with self.block(f"if {span.last} - {place} < {width}:"):
            self.pack("panel", wide, place, span, deep)
            self.line("at = panel")
            self.line(f"step = {width}")
        return Matrix("at", "step", "1")

    def pack(self, panel: str, wide: Matrix, place: str, span: Span, deep: Span) -> None:
        """One panel, along its strides or, where an axis walks several, place by place."""
        dtype = self.product_term.dtype
        if wide.row:
            kernel = contraction.pack_panel(self.tile, dtype)
            count = f"minimum({self.tile.width}, {span.last} - {place})"
            self.call(kernel, panel, wide.at(deep.first, place), deep.length, count, wide.row, wide.column)
            return
        tables = ("columns_at", "runs", deep.length, place, span.last)
        rows_at = "rows_at" if deep.first == "0" else f"shift(rows_at, {deep.first})"
        self.call(contraction.pack_walk(self.tile, dtype), panel, wide.pointer, rows_at, *tables)

    def walk(self, operand: Operand) -> None:
        """Where the rows and the columns of an operand lie that walks several axes of memory."""
        for name, line in (("rows", operand.rows), ("columns", operand.columns)):
            pairs = [self.extent(f"{name}_{kind}{number}", each) for number, pair in enumerate(line)
                     for kind, each in zip(("extent", "step"), pair, strict=True)]  # fmt: skip
            self.call(contraction.walk_places(len(line)), self.scratch(f"{name}_at", "i64"), *pairs)
        self.call(contraction.find_runs(), self.scratch("runs", "i64"), "columns_at", self.extents[-1])

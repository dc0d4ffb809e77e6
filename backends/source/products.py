"""Matrix products: the loops of every form, and the nest's own terms on each tile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

from graphc.backends import contraction, line_products, triangles
from graphc.backends.contraction import TileShape
from graphc.backends.primitives import LANES
from graphc.backends.source.lines import GATHERED
from graphc.backends.source.operands import Matrix, Operands, Span, moved
from graphc.ir.blocking import TILE_ROWS, blocking, places_of_tiles, walks
from graphc.ir.frozen import dataclass
from graphc.ir.loops import INDEXED, LoopNest, Store, Term
from graphc.ir.types import Extent, bound, multiply

TURNED_ROWS = 8  # of a tile that is turned: two fill the lanes of the result


@dataclass(frozen=True, slots=True)
class Block:
    """A block of the result and of the depth, the depth of panels that are kept, the rows of tiles that are open."""

    down: Span
    across: Span
    deep: Span
    panels: Span
    tiles: Span


class Products(Operands):
    """Adds the loops of a product to those of a nest.

    Matrix by matrix, block by block of columns and of rows, panel by panel, tile by tile; the nest's terms are
    computed on a tile while it is hot. Any part of the rows or of the columns can be computed by itself.
    """

    def product_loops(self) -> None:
        product, dtype = self.nest.product, self.product_term.dtype
        assert product is not None
        self.blocking = blocking(self.nest, self.shape.width, dtype)
        self.matrix_depth = self.extent("depth", product.depth)
        self.tile = self.tile_shape()
        self.make_tables()
        rows, columns = (Span(*self.span(axis)) for axis in (self.nest.lane - 1, self.nest.lane))
        if self.blocking.form == "turned":
            self.pack_panels(self.matrix("left", product.left).turned, "first_row", rows, Span("0", self.matrix_depth))
        with self.loops(range(len(self.nest.frame) - 2)):
            left, right = self.matrix("left", product.left), self.matrix("right", product.right)
            {"tiles": self.tiles, "turned": self.turned_tiles, "lines": self.lines_of_depth}[self.blocking.form](
                left, right, rows, columns
            )

    def tile_shape(self) -> TileShape:
        """The largest tile, or one that divides what few rows there are."""
        tall = self.nest.frame[-1 if self.blocking.form == "turned" else -2]
        most = min(self.shape.rows, TURNED_ROWS) if self.blocking.form == "turned" else self.shape.rows
        vectors = self.blocking.width // LANES
        if not isinstance(tall, int) or not 0 < tall <= 2 * self.shape.rows:
            return TileShape(most, vectors)
        if tall <= self.shape.rows:
            return TileShape(tall, vectors)
        return TileShape(tall // 2 if tall % 2 == 0 and self.blocking.form == "tiles" else most, vectors)

    @property
    def row_unit(self) -> int:
        """How many rows are computed together."""
        return {"tiles": self.tile.rows, "turned": self.blocking.width, "lines": TILE_ROWS}[self.blocking.form]

    @property
    def column_unit(self) -> int:
        """How many columns of the result a tile has."""
        return self.blocking.run or self.tile.width

    @contextmanager
    def blocks(self, name: str, span: Span, step: int) -> Iterator[Span]:
        """A loop over the blocks of an axis and where each begins and ends; no loop where one block is all."""
        if not step:
            yield span
            return
        with self.block(f"for {name}_start in range({span.first}, {span.last}, {step}):"):
            self.line(f"{name}_stop = minimum({name}_start + {step}, {span.last})")
            yield Span(f"{name}_start", f"{name}_stop")

    # -- tiles

    def tiles(self, left: Matrix, right: Matrix, rows: Span, columns: Span) -> None:
        """Block by block of columns; the depth is cut outside of the rows or inside."""
        whole, blocks = Span("0", self.matrix_depth), self.blocking
        with self.blocks("column", columns, blocks.columns) as across:
            if blocks.deep_first:
                with self.blocks("depth", whole, blocks.depth) as deep:
                    self.pack_panels(right, "first_column", across, deep)
                    with self.blocks("row", rows, blocks.rows) as down:
                        self.block_of_tiles(left, right, Block(down, across, deep, panels=deep, tiles=rows))
                return
            self.pack_panels(right, "first_column", across, whole)
            with self.blocks("row", rows, blocks.rows) as down, self.blocks("depth", whole, blocks.depth) as deep:
                self.block_of_tiles(left, right, Block(down, across, deep, panels=whole, tiles=down))

    def block_of_tiles(self, left: Matrix, right: Matrix, block: Block) -> None:
        down, across, deep = block.down, block.across, block.deep
        if self.blocking.packs_tall:
            self.pack_left(left, down, deep)
        with self.block(f"for first_column in range({across.first}, {across.last}, {self.column_unit}):"):
            panel = self.panel(right, "first_column", across, deep, block.panels)
            if self.blocking.cuts:
                self.line("odd = 1")
            with self.tiles_down(down):
                tall = self.tall_rows(left, "first_row", down, deep)
                if self.blocking.cuts:
                    tall, panel, filled = self.filled_part(tall, panel, down)
                    block = replace(block, deep=filled)
                self.one_tile(tall, panel, block)

    @contextmanager
    def tiles_down(self, down: Span) -> Iterator[None]:
        """A loop over the tiles of a block's rows; from the last one on where that takes all of the depth."""
        step, product = self.tile.rows, self.nest.product
        assert product is not None
        if not self.blocking.cuts or product.filled.highest is None:
            with self.block(f"for first_row in range({down.first}, {down.last}, {step}):"):
                yield
            return
        with self.block(f"for back in range(0, {down.length}, {step}):"):
            start = "" if down.first == "0" else f"{down.first} + "
            self.line(f"first_row = {start}({down.length} - 1) // {step} * {step} - back")
            yield

    def look_at_tile(self, pointer: str, across: Span) -> None:
        """Rows that took all of the depth tell of the wide operand: any times an infinity or nan is one of them."""
        if not self.blocking.cuts:
            return
        kernel = triangles.not_finite()
        self.called[kernel.name] = kernel
        with self.block("if odd != 0:"):
            columns = f"minimum({self.tile.width}, {across.last} - first_column)"
            self.line(f"odd = {kernel.plain_name}({pointer}, 1, {columns}, 0)")

    def one_tile(self, tall: Matrix, panel: Matrix, block: Block) -> None:
        """One tile: straight to where it goes or is subtracted from, or through scratch and the nest's terms."""
        columns = self.nest.frame[-1]
        whole = isinstance(columns, int) and columns % self.tile.width == 0
        if self.blocking.fetches:
            with self.last_of_depth(block):
                self.fetch(block.down)
        if self.blocking.run or not self.goes_straight() or (self.blocking.depth and not whole):
            self.through_scratch(tall, panel, block)
        elif whole:
            self.straight(tall, panel, block)
        else:
            with self.block(f"if {block.across.last} - first_column >= {self.tile.width}:"):
                self.straight(tall, panel, block)
            with self.block("else:"):
                self.through_scratch(tall, panel, block, rest=True)

    def fetch(self, down: Span) -> None:
        """What the nest's terms will read and write beside a tile comes nearer while the tile is computed."""
        with self.block(f"for i in range(first_row, minimum(first_row + {self.tile.rows}, {down.last})):"):
            for first in range(0, self.tile.width, LANES):
                self.line(f"j = first_column + {first}" if first else "j = first_column")
                for buffer, index in places_of_tiles(self.nest):
                    self.line(f"prefetch({self.pointers[buffer]}, {self.index(index)})")

    def goes_straight(self) -> bool:
        """By whole sets of lanes, as it is or subtracted from a state."""
        (store, *others) = self.nest.stores
        if others or self.lane_step(store.index) != 1:
            return False
        return store.term is self.product_term or self.scale(store) is not None

    def scale(self, store: Store) -> Term | None:
        """What the product is multiplied with before it is subtracted from what is stored there; None: more is done."""
        product = self.nest.product
        assert product is not None
        if self.product_term.dtype != "f32" or self.blocking.depth or walks(product.left) or store.term.late:
            return None
        if store.buffer in (product.left.buffer, product.right.buffer):
            return None
        state, step = operands_of(store.term, "sub")
        if state is None or step is None or state.detail != (store.buffer, store.index, ()):
            return None
        factors = operands_of(step, "mul")
        others = [factor for factor in factors if factor is not None and factor is not self.product_term]
        return others[0] if self.product_term in factors and len(others) == 1 and not others[0].axes else None

    def straight(self, tall: Matrix, panel: Matrix, block: Block) -> None:
        (store,) = self.nest.stores
        self.line("i = first_row")
        self.line("j = first_column")
        row = next((step for axis, step in store.index if axis == self.nest.lane - 1), 0)
        target = f"shift({self.pointers[store.buffer]}, {self.index(store.index)})", self.number(row)
        scale = None if store.term is self.product_term else self.scale(store)
        rows = f"{block.down.last} - first_row"
        self.multiply(self.tile.vectors, tall, panel, block.deep, rows, target, scale)
        self.look_at_tile(target[0], block.across)

    def through_scratch(self, tall: Matrix, panel: Matrix, block: Block, rest: bool = False) -> None:
        """rest: fewer columns than a panel has are left."""
        down, across, width = block.down, block.across, str(self.tile.width)
        if self.blocking.depth:
            before = f"{across.from_start('first_column')} * {self.blocking.padded_rows}"
            place = f"{before} + {block.tiles.from_start('first_row')} * {width}"
            self.line(f"tile = shift({self.scratch('tiles')}, {place})")
        else:
            self.scratch("tile")
        with self.if_needed():
            with self.by_width("first_column", across, self.nest.frame[-1], rest) as choices:
                for vectors in choices:
                    self.multiply(vectors, tall, panel, block.deep, f"{down.last} - first_row", ("tile", width))
            self.look_at_tile("tile", across)
        with self.last_of_depth(block):
            self.tile_rows(down, across, self.tile)

    def if_needed(self) -> AbstractContextManager[None]:
        """Only a tile of which something is needed; the nest's terms do not look at what is left of another one."""
        product = self.nest.product
        assert product is not None
        lowest, highest = product.needed.lowest, product.needed.highest
        conditions = []
        if highest is not None:
            conditions.append(f"(first_column < first_row + {self.tile.rows + highest})")
        if lowest is not None:
            conditions.append(f"(first_row < first_column + {self.tile.width - lowest})")
        return self.block(f"if {' & '.join(conditions)}:") if conditions else nullcontext()

    def last_of_depth(self, block: Block) -> AbstractContextManager[None]:
        """Only where a tile is complete after this block of the depth."""
        return self.block(f"if {block.deep.last} == {self.matrix_depth}:") if self.blocking.depth else nullcontext()

    @contextmanager
    def by_width(self, place: str, span: Span, extent: Extent, rest: bool = False) -> Iterator[Iterator[int]]:
        """How many sets of lanes a tile computes, with a branch for each choice: the last panel may be one set only."""
        shape = self.tile
        left = extent % shape.width if isinstance(extent, int) else 1
        if self.blocking.run or shape.vectors == 1 or not 0 < left <= LANES:
            yield iter([shape.vectors])
        elif rest and isinstance(extent, int):
            yield iter([1])
        else:
            yield self.branches(f"{span.last} - {place} > {LANES}", shape.vectors)

    def branches(self, condition: str, vectors: int) -> Iterator[int]:
        with self.block(f"if {condition}:"):
            yield vectors
        with self.block("else:"):
            yield 1

    def multiply(
        self,
        vectors: int,
        tall: Matrix,
        panel: Matrix,
        deep: Span,
        rows: str,
        target: tuple[str, str],
        scale: Term | None = None,
    ) -> None:
        """The call of the kernel that computes a tile, or subtracts so many times the tile from what is there.

        target  its memory and how far its rows are apart there
        """
        shape, resumes = TileShape(self.tile.rows, vectors), self.blocking.depth > 0
        tile, tile_stride = target
        if panel.rows_at:
            kernel = contraction.multiply_row_of_windows(shape, self.blocking.run)
            steps = (tall.row, tall.column, tile_stride)
            self.call(kernel, tile, tall.pointer, panel.pointer, panel.rows_at, deep.length, rows, *steps)
            return
        more = [deep.first] if resumes else []
        if tall.rows_at:
            tables = (tall.rows_at, tall.columns_at)
            arguments = (tile, tall.pointer, panel.pointer, *tables, deep.length, rows, panel.row, tile_stride, *more)
            self.call(contraction.multiply_places(shape, resumes), *arguments)
            return
        strides = (tall.row, tall.column, panel.row, tile_stride)
        arguments = (tile, tall.pointer, panel.pointer, deep.length, rows, *strides, *more)
        if scale is not None:
            self.call(contraction.subtract_product(shape), *arguments, self.operand(scale, lanes=False))
            return
        kernel = contraction.multiply_tile(shape, self.product_term.dtype, resumes, self.blocking.streams)
        self.call(kernel, *arguments)

    def tile_rows(self, down: Span, across: Span, shape: TileShape) -> None:
        """The nest's terms on a tile, down its rows, which leaves what does not depend on the row to be loaded once."""
        self.tile_place = f"(i - first_row) * {shape.width} + (j - first_column)"
        steps = self.lane_steps("first_column", f"minimum(first_column + {shape.width}, {across.last})")
        if self.blocking.run:
            steps = self.lane_steps("first_column", f"first_column + {self.blocking.run}", self.blocking.run)
        rows = self.block(f"for i in range(first_row, minimum(first_row + {shape.rows}, {down.last})):")
        with steps, self.columns_at_hand(), rows:
            self.row_terms(0)
            self.lane_body(0)

    @contextmanager
    def columns_at_hand(self) -> Iterator[None]:
        """Sums over the rows, of the lanes at hand, in registers meanwhile: memory would make each row wait."""
        columns = [term for term in self.terms if term.kind == "column" and self.lane_step(term.detail[1]) == 1]
        for term in columns:
            if self.varies(term.operands[0]) and self.nest.lane - 1 not in dict(term.detail[1]):
                self.held[term] = self.running(term)
        places = {name: (self.pointers[term.detail[0]], self.index(term.detail[1])) for term, name in self.held.items()}
        for name, place in places.items():
            self.line(f"{name} = {self.load(*place, lanes=True)}")
        yield
        for name, place in places.items():
            self.save(*place, name, lanes=True)
        self.held.clear()

    # -- turned

    def turned_tiles(self, left: Matrix, right: Matrix, rows: Span, columns: Span) -> None:
        """The transposed result, panel by panel of its columns; tiles are turned when they are done."""
        turned, tile = self.scratch("turned"), self.scratch("tile")
        width, deep = self.tile.width, Span("0", self.matrix_depth)
        with self.block(f"for first_row in range({rows.first}, {rows.last}, {width}):"):
            panel = self.panel(left.turned, "first_row", rows, deep, deep)
            with self.block(f"for first_column in range({columns.first}, {columns.last}, {LANES}):"):
                self.tiles_of_columns(right.turned, panel, rows, columns)
                with self.block(f"for lane in range(0, {width}, {LANES}):"):
                    target = f"shift({tile}, lane * {LANES})"
                    self.line(f"transpose_block(shift({turned}, lane), {width}, {target}, {LANES})")
                self.tile_rows(rows, columns, TileShape(width, 1))

    def tiles_of_columns(self, tall: Matrix, panel: Matrix, rows: Span, columns: Span) -> None:
        """The transposed tiles of sixteen columns, one below the other."""
        place, stop = "column", f"minimum(first_column + {LANES}, {columns.last})"
        with self.block(f"for {place} in range(first_column, {stop}, {self.tile.rows}):"):
            deep = Span("0", self.matrix_depth)
            part = self.tall_rows(tall, place, columns, deep)
            target = (f"shift(turned, ({place} - first_column) * {self.tile.width})", str(self.tile.width))
            with self.by_width("first_row", rows, self.nest.frame[-2]) as choices:
                for vectors in choices:
                    self.multiply(vectors, part, panel, deep, f"{stop} - {place}", target)

    # -- lines

    def may_gather(self) -> bool:
        """Whether it can bring the rows of its left operand together while it multiplies them."""
        if self.gathers or self.nest.product is None or not reads_rows_of_data(self.nest):
            return False
        return self.blocking.form == "lines" and not walks(self.nest.product.right)

    def lines_of_depth(self, left: Matrix, right: Matrix, rows: Span, columns: Span) -> None:
        """Rows of the left operand times columns of the right one, all of them sets of lanes along the depth."""
        product = self.nest.product
        assert product is not None
        self.scratch("tile")
        columns_known, width = bound(self.nest.frame[-1]), self.blocking.width
        kernel = line_products.multiply_lines(self.shape, columns_known, width)
        if self.gathers:
            kernel = line_products.gather_lines(self.shape, columns_known, width, GATHERED)
        if walks(product.right):
            rows_known = min(TILE_ROWS, bound(self.nest.frame[-2]))
            kernel = line_products.multiply_runs(self.shape, rows_known, columns_known, width)
        elif self.blocking.packs_wide:
            self.scratch("lines")
            packing = line_products.pack_lines()
            self.call(packing, "lines", right.pointer, self.matrix_depth, columns.last, right.row, right.column)
            right = Matrix("lines", "1", f"(({self.matrix_depth} + {LANES - 1}) // {LANES} * {LANES} + {LANES})")
        with self.block(f"for first_row in range({rows.first}, {rows.last}, {TILE_ROWS}):"):
            count, a = f"minimum({TILE_ROWS}, {rows.last} - first_row)", left.at("first_row", "0")
            if right.rows_at:
                run = self.extent("run", product.right.rows[-1][0])
                tables = (right.columns_at, right.rows_at, self.matrix_depth, run)
                self.call(kernel, "tile", a, right.pointer, *tables, count, columns.last, left.row)
            elif self.gathers:
                data, order = self.source("data", GATHERED), self.source("order", "i64")
                numbers = (self.matrix_depth, count, f"{rows.last} - 1 - first_row", left.row, right.column)
                self.call(kernel, "tile", a, right.pointer, data, moved(order, ("first_row", "1")), *numbers)
                self.other_lines(a, left, right, count, columns)
            else:
                strides = (left.row, right.column)
                self.call(kernel, "tile", a, right.pointer, self.matrix_depth, count, columns.last, *strides)
            self.line(f"first_column = {columns.first}")
            self.tile_rows(rows, columns, TileShape(TILE_ROWS, width // LANES))

    def other_lines(self, a: str, left: Matrix, right: Matrix, count: str, columns: Span) -> None:
        """The columns beyond those that are multiplied while rows are brought together."""
        known = bound(self.nest.frame[-1])
        done = line_products.lines_shape(self.shape, known)[0]
        if known == done:
            return
        kernel = line_products.multiply_lines(self.shape, known - done, self.blocking.width)
        tile, b = f"shift(tile, {done})", moved(right.pointer, (str(done), right.column))
        numbers = (self.matrix_depth, count, f"{columns.last} - {done}", left.row, right.column)
        self.call(kernel, tile, a, b, *numbers)


def reads_rows_of_data(nest: LoopNest) -> bool:
    """The left operand is a data input, a row of which is a row of the result; nothing else in the nest reads it."""
    assert nest.product is not None
    left, depth, value = nest.product.left, nest.product.depth, nest.product.left.buffer.value
    if left.buffer.kind != "input" or value.attrs["role"] != "data" or left.start or len(nest.frame) != 2:
        return False
    rows = nest.frame[0]
    if value.shape[:1] != (rows,) or (left.rows, left.columns) != (((rows, depth),), ((depth, 1),)):
        return False
    others = [nest.product.right.buffer, *(term.detail[0] for term in nest.terms() if term.kind in INDEXED)]
    return multiply(*value.shape[1:]) == depth and left.buffer not in others


def operands_of(term: Term, op: str) -> tuple[Term | None, Term | None]:
    """The two operands of a term that is that operation; (None, None) of any other."""
    if term.kind != "compute" or term.value.op.name != op:
        return None, None
    first, second = term.operands
    return first, second

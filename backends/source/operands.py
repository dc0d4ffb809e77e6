"""The operands of a matrix product: where they lie, and how blocks of them are packed."""

from __future__ import annotations

from dataclasses import replace

from graphc.backends import contraction, triangles
from graphc.backends.contraction import TileShape
from graphc.backends.primitives import LANES, Kernel
from graphc.backends.source.nests import Nests
from graphc.ir.blocking import Blocking, stride, walks
from graphc.ir.frozen import dataclass
from graphc.ir.layout import Steps
from graphc.ir.loops import Buffer, Operand


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
    """A matrix as text: where it begins and how far its rows and its columns are apart.

    rows_at, columns_at  instead, the places of those of a matrix that walks several axes of memory
    """

    pointer: str
    row: str = ""
    column: str = ""
    rows_at: str = ""
    columns_at: str = ""

    def at(self, row: str, column: str) -> str:
        """The pointer to an element."""
        return moved(self.pointer, (row, self.row), (column, self.column))

    @property
    def turned(self) -> Matrix:
        return Matrix(self.pointer, self.column, self.row, self.columns_at, self.rows_at)


def moved(pointer: str, *steps: tuple[str, str]) -> str:
    """A pointer moved by places times steps."""
    parts = [place if step == "1" else f"{place} * {step}" for place, step in steps if place != "0"]
    return f"shift({pointer}, {' + '.join(parts)})" if parts else pointer


def at_least_0(name: str, more: int) -> str:
    """A place and so many more, at least 0."""
    if more >= 0:
        return f"{name} + {more}" if more else name
    return f"maximum({name} - {-more}, 0)"


class Operands(Nests):
    """Adds the operands of a product to the loops of a nest."""

    blocking: Blocking
    tile: TileShape
    matrix_depth: str

    def scratch(self, name: str, dtype: str = "") -> str:
        """The pointer to memory the product works in."""
        return self.pointer(Buffer("scratch", self.product_term.value, name), name, dtype or self.product_term.dtype)

    def source(self, name: str, dtype: str) -> str:
        """The pointer to the data array whose rows become those of the left operand, or to their order."""
        product = self.nest.product
        assert product is not None
        return self.pointer(Buffer(name, product.left.buffer.value), name, dtype)

    def call(self, kernel: Kernel, *arguments: str) -> None:
        self.called[kernel.name] = kernel
        self.line(f"{kernel.plain_name}({', '.join(arguments)})")

    def matrix(self, name: str, operand: Operand) -> Matrix:
        """A matrix of the batch at hand."""
        pointer = self.pointers[operand.buffer]
        pointer = f"shift({pointer}, {self.index(operand.start)})" if operand.start else pointer
        if walks(operand):
            return Matrix(pointer, rows_at=f"{name}_rows_at", columns_at=f"{name}_columns_at")
        return Matrix(pointer, self.stride(f"{name}_row", operand.rows), self.stride(f"{name}_column", operand.columns))

    def stride(self, name: str, steps: Steps) -> str:
        """The one stride of a matrix axis; an axis that stays has stride 0."""
        return self.extent(name, steps[0][1] if steps else 0)

    def make_tables(self) -> None:
        """Where the rows and the columns of operands lie that walk several axes of memory."""
        product = self.nest.product
        assert product is not None
        for name, operand in (("left", product.left), ("right", product.right)):
            if walks(operand):
                self.walk(f"{name}_rows", operand.rows)
                self.walk(f"{name}_columns", operand.columns)
        if walks(product.right) and self.blocking.form == "tiles" and not self.blocking.run:
            self.call(contraction.find_runs(), self.scratch("runs", "i64"), "right_columns_at", self.extents[-1])

    def walk(self, name: str, steps: Steps) -> None:
        pairs = [
            self.extent(f"{name}_{kind}{number}", each)
            for number, pair in enumerate(steps)
            for kind, each in zip(("extent", "step"), pair, strict=True)
        ]
        self.call(contraction.walk_places(len(steps)), self.scratch(f"{name}_at", "i64"), *pairs)

    # -- corners of zeros

    def look(self, kernel: Kernel, matrix: Matrix, operand: Operand, rows: str, columns: str) -> str:
        """1 if an element of a matrix is not as it should be, else 0; its memory is looked at line by line."""
        self.called[kernel.name] = kernel
        lies = stride(operand.columns) == 1
        lines = (rows, columns, matrix.row) if lies else (columns, rows, matrix.column)
        return f"{kernel.plain_name}({matrix.pointer}, {', '.join(lines)})"

    def filled_part(self, tall: Matrix, wide: Matrix, down: Span) -> tuple[Matrix, Matrix, Span]:
        """The part of the depth in which the rows of the tile at hand are filled; all of it if others are no zeros.

        `odd` is 0 if zeros times the wide operand are known to be zeros, else 1.
        """
        product, depth = self.nest.product, self.matrix_depth
        assert product is not None
        lowest, highest, sure = product.filled.lowest, product.filled.highest, product.filled.sure
        rows = f"minimum({self.tile.rows}, {down.last} - first_row)"
        first, last = "0", depth
        if highest is not None:
            last = "last"
            self.line(f"last = minimum({at_least_0('first_row', self.tile.rows + highest)}, {depth})")
            zeros = replace(tall, pointer=moved(tall.pointer, (last, tall.column)))
            look = self.look(triangles.not_zero(), zeros, product.left, rows, f"{depth} - last")
            self.line(f"last = last + {'odd' if sure else f'(odd | {look})'} * ({depth} - last)")
        if lowest is not None:
            first = "first"
            self.line(f"first = minimum({at_least_0('first_row', lowest)}, {last})")
            look = self.look(triangles.not_zero(), tall, product.left, rows, first)
            self.line(f"first = first - {'odd' if sure else f'(odd | {look})'} * first")
            tall = replace(tall, pointer=moved(tall.pointer, (first, tall.column)))
            wide = replace(wide, pointer=moved(wide.pointer, (first, wide.row)))
        return tall, wide, Span(first, last)

    # -- the tall operand

    def pack_left(self, left: Matrix, down: Span, deep: Span) -> None:
        start, behind = left.at(down.first, deep.first), down.from_start(self.extents[-2])
        arguments = (start, deep.length, down.length, behind, left.row, left.column)
        self.call(contraction.pack_rows(self.tile), self.scratch("packed"), *arguments)

    def tall_rows(self, tall: Matrix, place: str, span: Span, deep: Span) -> Matrix:
        """The rows of a tile that begins at a place of the tall operand."""
        if tall.rows_at:
            tables = moved(tall.rows_at, (place, "1")), moved(tall.columns_at, (deep.first, "1"))
            return Matrix(tall.pointer, rows_at=tables[0], columns_at=tables[1])
        if not self.blocking.packs_tall:
            return Matrix(tall.at(place, deep.first), tall.row, tall.column)
        return Matrix(moved("packed", (span.from_start(place), deep.length)), "1", str(self.tile.rows))

    # -- the wide operand

    def pack_panels(self, wide: Matrix, place: str, span: Span, deep: Span) -> None:
        """All panels of a block, side by side, if they are kept."""
        if not self.blocking.keeps_panels:
            return
        self.scratch("panels")
        with self.block(f"for {place} in range({span.first}, {span.last}, {self.tile.width}):"):
            self.pack(moved("panels", (span.from_start(place), deep.length)), wide, place, span, deep)

    def panel(self, wide: Matrix, place: str, span: Span, deep: Span, kept: Span) -> Matrix:
        """The panel that begins at a place of the wide operand: packed, or where it lies if its lanes are whole.

        kept  the depth of panels that are kept
        """
        width = str(self.tile.width)
        if self.blocking.run:
            return Matrix(f"shift({wide.pointer}, load({wide.columns_at}, {place}))", rows_at=wide.rows_at)
        if self.blocking.keeps_panels:
            first = deep.first if deep.first != kept.first else "0"
            return Matrix(moved("panels", (span.from_start(place), kept.length), (first, width)), width, "1")
        if self.blocking.packs_wide:
            self.pack(self.scratch("panel"), wide, place, span, deep)
            return Matrix("panel", width, "1")
        start = wide.at(deep.first, place)
        extent = self.nest.frame[-1] if place == "first_column" else self.nest.frame[-2]
        if isinstance(extent, int) and extent % LANES == 0:
            return Matrix(start, wide.row, "1")
        self.line(f"at = {start}")
        self.line(f"step = {wide.row}")
        with self.block(f"if {span.last} - {place} < {width}:"):
            self.pack(self.scratch("panel"), wide, place, span, deep)
            self.line("at = panel")
            self.line(f"step = {width}")
        return Matrix("at", "step", "1")

    def pack(self, panel: str, wide: Matrix, place: str, span: Span, deep: Span) -> None:
        """One panel, along its strides or, where an axis walks several, piece by piece."""
        dtype = self.product_term.dtype
        if wide.rows_at:
            tables = (moved(wide.rows_at, (deep.first, "1")), wide.columns_at, "runs")
            self.call(
                contraction.pack_walk(self.tile, dtype), panel, wide.pointer, *tables, deep.length, place, span.last
            )
            return
        count = f"minimum({self.tile.width}, {span.last} - {place})"
        arguments = (wide.at(deep.first, place), deep.length, count, wide.row, wide.column)
        self.call(contraction.pack_panel(self.tile, dtype), panel, *arguments)

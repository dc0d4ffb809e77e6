"""Matrix products: panels, tiles, and the nest's own terms on each tile."""

from __future__ import annotations

from graphc.backends import contraction
from graphc.backends.source.nests import Nests
from graphc.ir.layout import Steps
from graphc.ir.loops import Buffer, Operand


class Products(Nests):
    """Adds the loops of a product to those of a nest."""

    def product_loops(self) -> None:
        """Matrix by matrix, panel by panel, tile by tile; the nest's terms are computed on a tile while it is hot."""
        product = self.nest.product
        assert product is not None
        rows, dtype = self.extents[-2], self.product_term.dtype
        depth = self.extent("depth", product.depth)
        left_row = self.stride("left_row", product.left.rows)
        left_column = self.stride("left_column", product.left.columns)
        multiply_tile = contraction.multiply_tile(self.shape, dtype)
        self.called[multiply_tile.name] = multiply_tile
        panel = self.pointer(Buffer("scratch", self.product_term.value, "panel"), "panel", dtype)
        tile = self.pointer(Buffer("scratch", self.product_term.value, "tile"), "tile", dtype)
        with self.loops(range(len(self.nest.frame) - 2)):
            left, right = (self.start_of(operand) for operand in (product.left, product.right))
            first, last = self.span(self.nest.lane)
            with self.block(f"for first_column in range({first}, {last}, {self.shape.width}):"):
                self.pack(product.right, right, panel, depth)
                first, last = self.span(self.nest.lane - 1)
                with self.block(f"for first_row in range({first}, {last}, {self.shape.rows}):"):
                    self.line(
                        f"{multiply_tile.plain_name}({tile}, shift({left}, first_row * {left_row}), {panel}, {depth}, "
                        f"{rows} - first_row, {left_row}, {left_column})"
                    )
                    with self.block(f"for i in range(first_row, minimum(first_row + {self.shape.rows}, {rows})):"):
                        self.tile_row()

    def stride(self, name: str, steps: Steps) -> str:
        """The one stride of a matrix axis; an axis that stays has stride 0."""
        return self.extent(name, steps[0][1] if steps else 0)

    def start_of(self, operand: Operand) -> str:
        """The pointer to the matrix of the current batch."""
        pointer = self.pointers[operand.buffer]
        return f"shift({pointer}, {self.index(operand.start)})" if operand.start else pointer

    def pack(self, operand: Operand, right: str, panel: str, depth: str) -> None:
        """One panel of the right operand, along its strides or, where an axis walks several, place by place."""
        width, columns, dtype = self.shape.width, self.extents[-1], self.product_term.dtype
        if max(len(operand.rows), len(operand.columns)) < 2:
            kernel = contraction.pack_panel(self.shape, dtype)
            row, column = self.stride("right_row", operand.rows), self.stride("right_column", operand.columns)
            self.line(
                f"{kernel.plain_name}({panel}, shift({right}, first_column * {column}), {depth}, "
                f"minimum({width}, {columns} - first_column), {row}, {column})"
            )
        else:
            kernel = contraction.pack_walk(self.shape, dtype, len(operand.rows), len(operand.columns))
            places = self.pointer(Buffer("scratch", self.product_term.value, "places"), "places", "i64")
            steps = [
                self.extent(f"{name}_{kind}{number}", each)
                for name, line in (("rows", operand.rows), ("columns", operand.columns))
                for number, pair in enumerate(line)
                for kind, each in zip(("extent", "step"), pair, strict=True)
            ]
            self.line(f"{kernel.plain_name}({panel}, {right}, {places}, first_column, {columns}, {', '.join(steps)})")
        self.called[kernel.name] = kernel

    def tile_row(self) -> None:
        width, columns = self.shape.width, self.extents[-1]
        self.row_terms(0)
        with self.lane_steps("first_column", f"minimum(first_column + {width}, {columns})"):
            self.lane_body(0)

"""The matrix-product engine: packed panels of the right operand times register tiles of rows of the left one.

C[rows, columns] = A[rows, depth] @ B[depth, columns], both read through strides, so a transposed operand costs no copy.
A panel holds `width` columns of B, contiguous along depth. A tile of C stays in registers while it runs down the depth
in order, one fused multiply-add an element and step: its bits depend neither on the tile's shape nor on the target.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.backends.primitives import LANES, Kernel

SMALL_ROWS = 4  # rows of the tile that takes what is left over by full tiles


@dataclass(frozen=True, slots=True)
class TileShape:
    """A register tile: `rows` rows of `vectors` sets of sixteen lanes."""

    rows: int
    vectors: int

    @property
    def width(self) -> int:
        return self.vectors * LANES


def pack_panel(shape: TileShape) -> Kernel:
    """panel[k, c] = b[k * row_stride + c * column_stride] for c < columns, 0 in the columns beyond."""
    width = shape.width
    name = f"pack_panel_{width}"
    text = f"""def {name}(panel, b, depth, columns, row_stride, column_stride):
    whole = depth - depth % {LANES}
    if (columns == {width}) & (column_stride == 1):
        for k in range(depth):
            for c in range(0, {width}, {LANES}):
                store_lanes(panel, k * {width} + c, load_lanes(b, k * row_stride + c))
    elif (columns == {width}) & (row_stride == 1):
        for k in range(0, whole, {LANES}):
            for c in range(0, {width}, {LANES}):
                transpose_block(shift(b, k + c * column_stride), column_stride, shift(panel, k * {width} + c), {width})
        for k in range(whole, depth):
            for c in range({width}):
                store(panel, k * {width} + c, load(b, k + c * column_stride))
    elif column_stride == 1:
        for k in range(depth):
            for c in range(0, {width}, {LANES}):
                store_lanes(panel, k * {width} + c, load_live(b, k * row_stride + c, live(columns - c)))
    else:
        for k in range(depth):
            for c in range(0, {width}, {LANES}):
                store_lanes(panel, k * {width} + c, spread(f32(0.0)))
            for c in range(columns):
                store(panel, k * {width} + c, load(b, k * row_stride + c * column_stride))
"""
    parameters = (
        ("panel", "f32*"), ("b", "f32*"), ("depth", "i64"), ("columns", "i64"),
        ("row_stride", "i64"), ("column_stride", "i64"),
    )  # fmt: skip
    return Kernel(name, text, parameters)


def multiply_tile(shape: TileShape) -> Kernel:
    """tile[r, :] = sum over k of a[r * row_stride + k * column_stride] * panel[k, :] for r < min(rows, tile rows)."""
    full, small, one = (f"{rows}x{shape.vectors}" for rows in (shape.rows, SMALL_ROWS, 1))
    width = shape.width
    name = f"multiply_tile_{full}"
    text = f"""def {name}(tile, a, panel, depth, rows, row_stride, column_stride):
    if rows >= {shape.rows}:
        t = tile_zeros_{full}()
        for k in range(depth):
            t = tile_multiply_add(t, a, row_stride, k * column_stride, panel, k * {width})
        tile_store(t, tile, {width})
    else:
        whole = rows - rows % {SMALL_ROWS}
        for r in range(0, whole, {SMALL_ROWS}):
            u = tile_zeros_{small}()
            for k in range(depth):
                u = tile_multiply_add(u, a, row_stride, r * row_stride + k * column_stride, panel, k * {width})
            tile_store(u, shift(tile, r * {width}), {width})
        for r in range(whole, rows):
            v = tile_zeros_{one}()
            for k in range(depth):
                v = tile_multiply_add(v, a, row_stride, r * row_stride + k * column_stride, panel, k * {width})
            tile_store(v, shift(tile, r * {width}), {width})
"""
    parameters = (
        ("tile", "f32*"), ("a", "f32*"), ("panel", "f32*"), ("depth", "i64"), ("rows", "i64"),
        ("row_stride", "i64"), ("column_stride", "i64"),
    )  # fmt: skip
    return Kernel(name, text, parameters)

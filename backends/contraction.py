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


def pack_panel(shape: TileShape, dtype: str = "f32") -> Kernel:
    """panel[k, c] = b[k * row_stride + c * column_stride] for c < columns, 0 in the columns beyond."""
    width = shape.width
    name = f"pack_panel_{width}" if dtype == "f32" else f"pack_panel_{width}_{dtype}"
    text = f"""def {name}(panel, b, depth, columns, row_stride, column_stride):
    if (columns == {width}) & (column_stride == 1):
        for k in range(depth):
            for c in range(0, {width}, {LANES}):
                store_lanes(panel, k * {width} + c, load_lanes(b, k * row_stride + c))
{transposing(width) if dtype == "f32" else ""}    elif column_stride == 1:
        for k in range(depth):
            for c in range(0, {width}, {LANES}):
                store_lanes(panel, k * {width} + c, load_live(b, k * row_stride + c, live(columns - c)))
    else:
        for k in range(depth):
            for c in range(0, {width}, {LANES}):
                store_lanes(panel, k * {width} + c, spread({dtype}(0.0)))
            for c in range(columns):
                store(panel, k * {width} + c, load(b, k * row_stride + c * column_stride))
"""
    parameters = (
        ("panel", f"{dtype}*"), ("b", f"{dtype}*"), ("depth", "i64"), ("columns", "i64"),
        ("row_stride", "i64"), ("column_stride", "i64"),
    )  # fmt: skip
    return Kernel(name, text, parameters)


def transposing(width: int) -> str:
    """The case of a B whose columns are contiguous: whole blocks turn in registers."""
    return f"""    elif (columns == {width}) & (row_stride == 1):
        whole = depth - depth % {LANES}
        for k in range(0, whole, {LANES}):
            for c in range(0, {width}, {LANES}):
                transpose_block(shift(b, k + c * column_stride), column_stride, shift(panel, k * {width} + c), {width})
        for k in range(whole, depth):
            for c in range({width}):
                store(panel, k * {width} + c, load(b, k + c * column_stride))
"""


def pack_walk(shape: TileShape, dtype: str, rows: int, columns: int) -> Kernel:
    """What pack_panel does, for a B whose rows walk `rows` axes of memory and whose columns walk `columns` axes.

    Where each column of the panel starts is found once; then every row adds its own place. Columns that are next to
    each other in memory are read in one piece. Columns beyond the last repeat it.
    """
    width = shape.width
    name = f"pack_walk_{width}_{rows}x{columns}_{dtype}"
    loops = "".join(f"{'    ' * (each + 1)}for r{each} in range(rows_extent{each}):\n" for each in range(rows))
    start = " + ".join(f"r{each} * rows_step{each}" for each in range(rows)) or "0"
    indent = "    " * (rows + 1)
    steps = ""
    for each in reversed(range(columns)):
        inner = f"left % columns_extent{each}" if each else "left"
        steps += f"        place = place + ({inner}) * columns_step{each}\n"
        steps += f"        left = left // columns_extent{each}\n" if each else ""
    packed = "".join(
        f"{indent}if joined{part}:\n"
        f"{indent}    store_lanes(panel, k * {width} + {part}, load_lanes(b, start + load(places, {part})))\n"
        f"{indent}else:\n"
        f"{indent}    at = spread(start) + load_lanes(places, {part})\n"
        f"{indent}    store_lanes(panel, k * {width} + {part}, load_at(b, at, live({LANES})))\n"
        for part in range(0, width, LANES)
    )
    flags = "".join(
        f"    joined{part} = all_lanes(load_lanes(places, {part}) == indices(load(places, {part})))\n"
        for part in range(0, width, LANES)
    )
    arguments = [(f"{line}_{kind}{each}", "i64") for line, count in (("rows", rows), ("columns", columns))
                 for each in range(count) for kind in ("extent", "step")]  # fmt: skip
    text = f"""def {name}(panel, b, places, first, count, {", ".join(name for name, _ in arguments)}):
    for c in range({width}):
        left = minimum(first + c, count - 1)
        place = 0
{steps}        store(places, c, place)
{flags}    k = 0
{loops}{indent}start = {start}
{packed}{indent}k = k + 1
"""
    pointers = (("panel", f"{dtype}*"), ("b", f"{dtype}*"), ("places", "i64*"), ("first", "i64"), ("count", "i64"))
    return Kernel(name, text, (*pointers, *arguments))


def multiply_tile(shape: TileShape, dtype: str = "f32") -> Kernel:
    """The kernel that computes one tile; register tiles hold f32, other dtypes go lane by lane."""
    return multiply_register_tile(shape) if dtype == "f32" else multiply_lanes(shape, dtype)


def multiply_lanes(shape: TileShape, dtype: str) -> Kernel:
    """What multiply_register_tile computes, for any float dtype, one set of lanes at a time."""
    name = f"multiply_tile_{shape.rows}x{shape.vectors}_{dtype}"
    width = shape.width
    text = f"""def {name}(tile, a, panel, depth, rows, row_stride, column_stride):
    for r in range(minimum(rows, {shape.rows})):
        for c in range(0, {width}, {LANES}):
            t = spread({dtype}(0.0))
            for k in range(depth):
                t = fma(spread(load(a, r * row_stride + k * column_stride)), load_lanes(panel, k * {width} + c), t)
            store_lanes(tile, r * {width} + c, t)
"""
    return Kernel(name, text, tile_parameters(dtype))


def tile_parameters(dtype: str) -> tuple[tuple[str, str], ...]:
    pointers = tuple((name, f"{dtype}*") for name in ("tile", "a", "panel"))
    return (*pointers, *((name, "i64") for name in ("depth", "rows", "row_stride", "column_stride")))


def multiply_register_tile(shape: TileShape) -> Kernel:
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
    return Kernel(name, text, tile_parameters("f32"))

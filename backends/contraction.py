"""The matrix-product engine: packed panels of the right operand times register tiles of rows of the left one.

C[rows, columns] = A[rows, depth] @ B[depth, columns], both read through strides, so a transposed operand costs no copy.
A panel holds `width` columns of B, contiguous along depth. A tile of C stays in registers while it runs down the depth
in order, one fused multiply-add an element and step: its bits depend neither on the tile's shape nor on the target.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.backends.primitives import LANES, Kernel
from graphc.ir.blocking import FEW_COLUMNS

SMALL_ROWS = (4, 2, 1)  # rows of the tiles that take what is left over by full ones


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


def pack_rows(shape: TileShape) -> Kernel:
    """packed[(r // R * depth + k) * R + r % R] = a[r * row_stride + k * column_stride], R rows of a tile side by side.

    rows: to be packed. behind: how many rows there are to read, at least as many. Whole sets of lanes are written in
    order of their places, so what a set writes beyond its R rows is written over by the next; the last one needs room.
    """
    name, high = f"pack_rows_{shape.rows}", shape.rows
    text = f"""def {name}(packed, a, depth, rows, behind, row_stride, column_stride):
    for first in range(0, rows, {high}):
        if (row_stride == 1) & (behind - first >= {LANES}):
            for k in range(depth):
                store_lanes(packed, first * depth + k * {high}, load_lanes(a, first + k * column_stride))
        elif (column_stride == 1) & (behind - first >= {LANES}):
            whole = depth - depth % {LANES}
            for k in range(0, whole, {LANES}):
                target = shift(packed, first * depth + k * {high})
                transpose_block(shift(a, first * row_stride + k), row_stride, target, {high})
            for k in range(whole, depth):
                for r in range({high}):
                    store(packed, first * depth + k * {high} + r, load(a, (first + r) * row_stride + k))
        else:
            for k in range(depth):
                for r in range(minimum({high}, rows - first)):
                    store(packed, first * depth + k * {high} + r, load(a, (first + r) * row_stride + k * column_stride))
"""
    parameters = (
        ("packed", "f32*"), ("a", "f32*"), ("depth", "i64"), ("rows", "i64"), ("behind", "i64"),
        ("row_stride", "i64"), ("column_stride", "i64"),
    )  # fmt: skip
    return Kernel(name, text, parameters)


def multiply_tile(shape: TileShape, dtype: str = "f32", resumes: bool = False, vectors: int = 0) -> Kernel:
    """tile[r, :] = sum over k of a[r * row_stride + k * column_stride] * b[k * depth_stride + :] for r < rows.

    Rows beyond those of the tile's shape are left out. Register tiles hold f32, other dtypes go lane by lane.

    resumes  the tile holds the sum over earlier k, where `started` is not 0
    vectors  sets of lanes to compute, fewer than the tile's memory has; 0: all
    """
    return multiply_register_tile(shape, resumes, vectors) if dtype == "f32" else multiply_lanes(shape, dtype)


def multiply_lanes(shape: TileShape, dtype: str) -> Kernel:
    """What multiply_register_tile computes, for any float dtype, one set of lanes at a time."""
    name = f"multiply_tile_{shape.rows}x{shape.vectors}_{dtype}"
    text = f"""def {name}(tile, a, b, depth, rows, row_stride, column_stride, depth_stride):
    for r in range(minimum(rows, {shape.rows})):
        for c in range(0, {shape.width}, {LANES}):
            t = spread({dtype}(0.0))
            for k in range(depth):
                t = fma(spread(load(a, r * row_stride + k * column_stride)), load_lanes(b, k * depth_stride + c), t)
            store_lanes(tile, r * {shape.width} + c, t)
"""
    return Kernel(name, text, tile_parameters(dtype))


def tile_parameters(dtype: str) -> tuple[tuple[str, str], ...]:
    pointers = tuple((name, f"{dtype}*") for name in ("tile", "a", "b"))
    return (*pointers, *((name, "i64") for name in ("depth", "rows", "row_stride", "column_stride", "depth_stride")))


def multiply_register_tile(shape: TileShape, resumes: bool, vectors: int) -> Kernel:
    name = f"multiply_tile_{shape.rows}x{shape.vectors}"
    name += f"_by_{vectors}" * (vectors > 0) + "_on" * resumes
    form = TileForm(vectors or shape.vectors, shape.width, resumes)
    text = f"def {name}(tile, a, b, depth, rows, row_stride, column_stride, depth_stride{', started' * resumes}):\n"
    text += f"    if rows >= {shape.rows}:\n{form.rows(shape.rows, 8, '')}    else:\n        r = 0\n"
    before = shape.rows
    for height in (height for height in SMALL_ROWS if height < shape.rows):
        head = f"while rows - r >= {height}" if before > 2 * height else f"if rows - r >= {height}"
        text += f"        {head}:\n{form.rows(height, 12, 'r')}            r = r + {height}\n"
        before = height
    parameters = tile_parameters("f32")
    return Kernel(name, text, (*parameters, ("started", "i64")) if resumes else parameters)


@dataclass(frozen=True, slots=True)
class TileForm:
    """Lines that compute some rows of a tile of `vectors` sets of lanes, in memory `width` apart."""

    vectors: int
    width: int
    resumes: bool

    def rows(self, height: int, indent: int, first: str) -> str:
        shape, name = f"{height}x{self.vectors}", f"t{height}"
        start = f"{first} * row_stride + k * column_stride" if first else "k * column_stride"
        target = f"shift(tile, {first} * {self.width})" if first else "tile"
        lines = [f"{name} = tile_zeros_{shape}()"]
        if self.resumes:
            lines += ["if started != 0:", f"    {name} = tile_load_{shape}({target}, {self.width})"]
        lines += [
            "for k in range(depth):",
            f"    {name} = tile_multiply_add({name}, a, row_stride, {start}, b, k * depth_stride)",
            f"tile_store({name}, {target}, {self.width})",
        ]
        return "".join(f"{' ' * indent}{line}\n" for line in lines)


def pack_lines() -> Kernel:
    """lines[c * step + k] = b[k * row_stride + c * column_stride], the step being a set of lanes more than the depth.

    The step is no power of two, so that lines do not fall into one another's place in the cache. Blocks that turn in
    registers write up to sixteen lines, and must not read behind the last element of b.
    """
    text = f"""def pack_lines(lines, b, depth, columns, row_stride, column_stride):
    step = (depth + {LANES - 1}) // {LANES} * {LANES} + {LANES}
    first = 0
    if column_stride == 1:
        while (first + {LANES} <= depth) & ((depth - first - {LANES}) * row_stride >= {LANES} - columns):
            for c in range(0, columns, {LANES}):
                transpose_block(shift(b, first * row_stride + c), row_stride, shift(lines, c * step + first), step)
            first = first + {LANES}
    for c in range(columns):
        for k in range(first, depth):
            store(lines, c * step + k, load(b, k * row_stride + c * column_stride))
"""
    parameters = (
        ("lines", "f32*"), ("b", "f32*"), ("depth", "i64"), ("columns", "i64"),
        ("row_stride", "i64"), ("column_stride", "i64"),
    )  # fmt: skip
    return Kernel("pack_lines", text, parameters)


def multiply_lines(shape: TileShape, columns: int, width: int) -> Kernel:
    """tile[r, c] = sum over k of a[r * row_stride + k] * b[c * column_stride + k] for r < rows, c < columns.

    A tile holds sixteen chains an element, of all columns or half of them and of so many rows as there are registers
    for. Where the columns are odd the halves share one.
    """
    high = -(-columns // -(-columns // FEW_COLUMNS))
    high = min(high, shape.rows * shape.vectors)
    wide = max(1, min(3, shape.rows * shape.vectors // high))
    name = f"multiply_lines_{high}x{wide}_{width}"
    heights = [(wide, f"while rows - r >= {wide}"), *([(1, "while r < rows")] if wide > 1 else [])]
    text = f"""def {name}(tile, a, b, depth, rows, columns, row_stride, column_stride):
    whole = depth - depth % {LANES}
    rest = live(depth - whole)
    for c in range(0, columns, {high}):
        first = minimum(c, columns - {high})
        line = shift(b, first * column_stride)
        r = 0
{"".join(rows_of_lines(f"{high}x{rows}", rows, head, width) for rows, head in heights)}"""
    parameters = (
        ("tile", "f32*"), ("a", "f32*"), ("b", "f32*"), ("depth", "i64"), ("rows", "i64"), ("columns", "i64"),
        ("row_stride", "i64"), ("column_stride", "i64"),
    )  # fmt: skip
    return Kernel(name, text, parameters)


def rows_of_lines(form: str, rows: int, head: str, width: int) -> str:
    """Lines that compute some rows of all columns of a tile of lines."""
    step = f"t{rows} = tile_multiply_lines(t{rows}, a, row_stride, r * row_stride"
    return f"""        {head}:
            t{rows} = tile_zeros_{form}()
            for k in range(0, whole, {LANES}):
                {step} + k, line, column_stride, k, live({LANES}))
            if whole < depth:
                {step} + whole, line, column_stride, whole, rest)
            tile_store_sums(t{rows}, shift(tile, r * {width} + first), {width})
            r = r + {rows}
"""

"""The kernels of matrix products with few columns, which are read as lines along the depth.

A tile of lines runs along the depth by whole sets of lanes and adds them up at its end, where a tile of
contraction.py would leave most lanes of a panel idle.
"""

from __future__ import annotations

from graphc.backends.contraction import TileShape, indented
from graphc.backends.primitives import LANES, Kernel
from graphc.ir.blocking import FEW_COLUMNS


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


AHEAD = 2048  # elements: what is read later than these has time to come from memory


def multiply_lines(shape: TileShape, columns: int, width: int) -> Kernel:
    """tile[r, c] = sum over k of a[r * row_stride + k] * b[c * column_stride + k] for r < rows, c < columns.

    A tile holds sixteen chains an element, of all columns or half of them and of so many rows as there are registers
    for. Where the columns are odd the halves share one. What lies whole tiles ahead in A is on its way to the second
    cache meanwhile: the first one is for B.
    """
    high, wide = lines_shape(shape, columns)
    step = "tile_multiply_lines({tile}, a, apart, r * row_stride + {k}, line, column_stride, {k}, {mask})"
    text = f"""def multiply_lines_{high}x{wide}_{width}(tile, a, b, depth, rows, columns, row_stride, column_stride):
    whole = depth - depth % {LANES}
    rest = live(depth - whole)
    several = minimum(rows // {wide}, 1)
    apart = several * row_stride
    ahead = ({AHEAD} // maximum({wide} * row_stride, 1) + 1) * {wide} * row_stride
    for c in range(0, columns, {high}):
        first = minimum(c, columns - {high})
        line = shift(b, first * column_stride)
{rows_of_lines(high, wide, width, line_steps(step, wide))}"""
    parameters = (
        ("tile", "f32*"), ("a", "f32*"), ("b", "f32*"), ("depth", "i64"), ("rows", "i64"), ("columns", "i64"),
        ("row_stride", "i64"), ("column_stride", "i64"),
    )  # fmt: skip
    return Kernel(f"multiply_lines_{high}x{wide}_{width}", text, parameters)


GATHERED_AHEAD = 2  # tiles of rows that are on their way from memory, wherever they lie


def gather_lines(shape: TileShape, columns: int, width: int, source: str) -> Kernel:
    """multiply_lines, whose rows of A come from an array of bytes and are left in `a`, as `gathered` makes them.

    Row r of A is row order[r] of `data`; `behind` is the last r whose order is known. To multiply takes so much longer
    than to read bytes that these come for next to nothing. Of the columns, only those of one tile are multiplied.
    """
    high, wide = lines_shape(shape, columns)
    name = f"gather_lines_{high}x{wide}_{width}_{source}"
    text = f"""def {name}(tile, a, b, data, order, depth, rows, behind, row_stride, column_stride):
    whole = depth - depth % {LANES}
    rest = live(depth - whole)
    several = minimum(rows // {wide}, 1)
    apart = several * row_stride
{rows_of_lines(high, wide, width, gather_steps(wide, source), first="", indent=4)}"""
    pointers = (("tile", "f32*"), ("a", "f32*"), ("b", "f32*"), ("data", f"{source}*"), ("order", "i64*"))
    numbers = ("depth", "rows", "behind", "row_stride", "column_stride")
    return Kernel(name, text, (*pointers, *((name, "i64") for name in numbers)))


def gathered(element: str, source: str, dtype: str, lanes: bool) -> str:
    """An element of a data array, or sixteen, as an input's: of uint8 for a float input in [0, 1]."""
    if source == dtype:
        return element
    scale = f"{dtype}({1 / 255!r})"
    return f"as_{dtype}({element}) * {f'spread({scale})' if lanes else scale}"


def multiply_runs(shape: TileShape, rows: int, columns: int, width: int) -> Kernel:
    """What multiply_lines computes, for a B whose lines come in runs of `run` elements and walk several axes of memory.

    Element k of line c is b[columns_at[c] + depth_at[k]]; each run fills up whole sets of lanes with zeros, so element
    k of a run belongs to chain k % 16.
    """
    high, wide = runs_shape(shape, rows, columns)
    step = (
        "tile_multiply_lines_at({tile}, a, apart, r * row_stride + start + {k}, "
        "b, columns_at, first, place + {k}, {mask})"
    )
    steps = ["for start in range(0, depth, run):", "    place = load(depth_at, start)"]
    steps += [f"    {line}" for line in line_steps(step)]
    name = f"multiply_runs_{high}x{wide}_{width}"
    text = f"""def {name}(tile, a, b, columns_at, depth_at, depth, run, rows, columns, row_stride):
    whole = run - run % {LANES}
    rest = live(run - whole)
    several = minimum(rows // {wide}, 1)
    apart = several * row_stride
    for c in range(0, columns, {high}):
        first = minimum(c, columns - {high})
{rows_of_lines(high, wide, width, steps).replace("whole < depth", "whole < run")}"""
    pointers = (("tile", "f32*"), ("a", "f32*"), ("b", "f32*"), ("columns_at", "i64*"), ("depth_at", "i64*"))
    return Kernel(
        name, text, (*pointers, *((name, "i64") for name in ("depth", "run", "rows", "columns", "row_stride")))
    )


def lines_shape(shape: TileShape, columns: int) -> tuple[int, int]:
    """Columns and rows of a tile of lines."""
    high = -(-columns // -(-columns // FEW_COLUMNS))
    high = min(high, shape.rows * shape.vectors)
    return high, max(1, min(3, shape.rows * shape.vectors // high))


ODD_LOAD = 1.75  # multiply-adds that go by while a set of lanes comes that most often lies in two lines of the cache


def runs_shape(shape: TileShape, rows: int, columns: int) -> tuple[int, int]:
    """Columns and rows of a tile of lines that do not lie evenly: as few multiply-adds and loads as can be."""
    room = shape.rows * shape.vectors

    def cost(tile: tuple[int, int]) -> float:
        high, wide = tile
        return -(-columns // high) * -(-rows // wide) * max(high * wide, ODD_LOAD * (high + wide))

    tiles = [(high, wide) for high in range(min(FEW_COLUMNS, columns), 0, -1) for wide in (3, 2, 1)]
    return min((tile for tile in tiles if tile[0] * tile[1] <= room), key=cost)


def line_steps(step: str, fetched: int = 0) -> list[str]:
    """All steps along a line; `{k}` and `{mask}` stand for where a step is and for its lanes.

    fetched  so many rows `ahead` of those at hand are prefetched
    """
    return [
        f"for k in range(0, whole, {LANES}):",
        *(f"    prefetch(a, (r + {row}) * row_stride + ahead + k)" for row in range(fetched)),
        "    {tile} = " + step.replace("{k}", "k").replace("{mask}", f"live({LANES})"),
        "if whole < depth:",
        "    {tile} = " + step.replace("{k}", "whole").replace("{mask}", "rest"),
    ]


def gather_steps(wide: int, source: str) -> list[str]:
    """All steps along the lines of a tile's rows, each made of bytes just before it is multiplied."""
    lines = []
    for row in range(wide):
        ahead = f"minimum(r + {GATHERED_AHEAD * wide + row}, behind)"
        lines += [f"row{row} = r + {row} * several"]
        lines += [f"data{row} = load(order, row{row}) * row_stride"]
        lines += [f"ahead{row} = load(order, {ahead}) * row_stride"]
    fetched = [f"prefetch(data, ahead{row} + k)" for row in range(wide)]
    step = "tile_multiply_lines({tile}, a, apart, r * row_stride + {k}, b, column_stride, {k}, {mask})"
    for head, k, mask, at_once in (
        (f"for k in range(0, whole, {LANES}):", "k", "", fetched),
        ("if whole < depth:", "whole", "rest", []),
    ):
        load, store = ("load_live({}, rest)", "store_live({}, rest)") if mask else ("load_lanes({})", "store_lanes({})")
        made = [gathered(load.format(f"data, data{row} + {k}"), source, "f32", lanes=True) for row in range(wide)]
        stored = [store.format(f"a, row{row} * row_stride + {k}, {text}") for row, text in enumerate(made)]
        tile = "{tile} = " + step.replace("{k}", k).replace("{mask}", mask or f"live({LANES})")
        lines += [head, *(f"    {line}" for line in (*at_once, *stored, tile))]
    return lines


def rows_of_lines(high: int, wide: int, width: int, steps: list[str], first: str = " + first", indent: int = 8) -> str:
    """Tiles of `wide` rows, the last one among rows that were there before: so it need not be a lower one, whose text
    would be as long again. Of fewer rows than that each is done alone, `wide` times at once; none is `apart` then.

    steps  the lines that fill a tile
    first  what is added to the place of a tile
    """
    lines = [
        f"r = minimum(done, rows - 1 - several * {wide - 1})",
        f"t = tile_zeros_{high}x{wide}()",
        *(line.replace("{tile}", "t") for line in steps),
        f"tile_store_sums(t, shift(tile, r * {width}{first}), {width})",
        f"done = done + 1 + several * {wide - 1}",
    ]
    return f"{' ' * indent}done = 0\n{' ' * indent}while done < rows:\n{indented(lines, indent + 4)}"

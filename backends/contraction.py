"""The kernels of matrix products: packing, and tiles that stay in registers; ir/blocking.py chooses among them.

C[rows, columns] = A[rows, depth] @ B[depth, columns], both read through strides or through tables of places, so a
transposed operand or a window costs no copy. A panel holds `width` columns of B, contiguous along depth. A tile of C
stays in registers while it runs down the depth in order, one fused multiply-add an element and step: its bits depend
neither on the tile's shape nor on the target. Few columns are read as lines instead: see line_products.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.primitives import LANES, Kernel
from graphc.ir.frozen import dataclass

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


RUNS = 4  # pieces of memory a set of lanes is put together from; what is in more pieces is read lane by lane
RUN_ENTRY = 2 * RUNS + 2


def walk_places(axes: int) -> Kernel:
    """places[p] is where the p-th point of a walk along `axes` axes of memory lies."""
    name = f"walk_places_{axes}"
    arguments = tuple((f"{kind}{axis}", "i64") for axis in range(axes) for kind in ("extent", "step"))
    loops = "".join(f"{'    ' * (axis + 1)}for i{axis} in range(extent{axis}):\n" for axis in range(axes))
    place, indent = " + ".join(f"i{axis} * step{axis}" for axis in range(axes)) or "0", "    " * (axes + 1)
    text = f"""def {name}(places, {", ".join(name for name, _ in arguments)}):
    p = 0
{loops}{indent}store(places, p, {place})
{indent}p = p + 1
"""
    return Kernel(name, text, (("places", "i64*"), *arguments))


def find_runs() -> Kernel:
    """What pieces of memory each sixteen of `count` places make up.

    The entry of a set in `runs` tells: the number of pieces, of lanes in use, where the first piece begins if its
    lane 0 did, then for each other piece the lane it begins at and where lane 0 would lie. Pieces not there begin at
    the last lane's end; more than there is room for are only counted.
    """
    text = f"""def find_runs(runs, places, count):
    for first in range(0, count, {LANES}):
        entry = shift(runs, first // {LANES} * {RUN_ENTRY})
        lanes = minimum(count - first, {LANES})
        place = load(places, first)
        store(entry, 1, lanes)
        store(entry, 2, place)
        for run in range(1, {RUNS}):
            store(entry, 2 * run + 1, lanes)
            store(entry, 2 * run + 2, 0)
        found = 1
        for lane in range(1, lanes):
            here = load(places, first + lane) - lane
            if here != place:
                if found < {RUNS}:
                    store(entry, 2 * found + 1, lane)
                    store(entry, 2 * found + 2, here)
                found = found + 1
            place = here
        store(entry, 0, found)
"""
    return Kernel("find_runs", text, (("runs", "i64*"), ("places", "i64*"), ("count", "i64")))


def pack_walk(shape: TileShape, dtype: str) -> Kernel:
    """What pack_panel does for columns `first` and on of a B whose rows and columns walk several axes of memory.

    rows_at, columns_at: the places of both (walk_places); runs: of the columns (find_runs). A set of lanes is read
    piece by piece, or lane by lane where the pieces are many.
    """
    name = f"pack_walk_{shape.width}_{dtype}"
    text = f"""def {name}(panel, b, rows_at, columns_at, runs, depth, first, count):
    for part in range(0, {shape.width}, {LANES}):
        if first + part >= count:
            for k in range(depth):
                store_lanes(panel, k * {shape.width} + part, spread({dtype}(0.0)))
        else:
            entry = shift(runs, (first + part) // {LANES} * {RUN_ENTRY})
            found = load(entry, 0)
            lanes = load(entry, 1)
            place0 = load(entry, 2)
            if (found == 1) & (lanes == {LANES}):
                for k in range(depth):
                    store_lanes(panel, k * {shape.width} + part, load_lanes(b, load(rows_at, k) + place0))
{pieces(shape.width, 2)}{pieces(shape.width, RUNS)}            else:
                at = load_lanes(columns_at, first + part)
                for k in range(depth):
                    places = spread(load(rows_at, k)) + at
                    store_lanes(panel, k * {shape.width} + part, load_at(b, places, live(lanes)))
"""
    pointers = (("panel", f"{dtype}*"), ("b", f"{dtype}*"), *((n, "i64*") for n in ("rows_at", "columns_at", "runs")))
    return Kernel(name, text, (*pointers, ("depth", "i64"), ("first", "i64"), ("count", "i64")))


def pieces(width: int, count: int) -> str:
    """The case of so many pieces."""
    lines = [f"elif found <= {count}:"]
    for run in range(1, count):
        lines += [f"    first{run} = load(entry, {2 * run + 1})", f"    place{run} = load(entry, {2 * run + 2})"]
    for run in range(count):
        stop = f"first{run + 1}" if run + 1 < count else "lanes"
        lines.append(f"    inside{run} = live({stop}) & ~live(first{run})" if run else f"    inside0 = live({stop})")
    lines += ["    for k in range(depth):", "        row = load(rows_at, k)"]
    for run in range(count):
        piece = f"load_live(b, row + place{run}, inside{run})"
        lines.append(f"        lane = select(inside{run}, {piece}, lane)" if run else f"        lane = {piece}")
    lines.append(f"        store_lanes(panel, k * {width} + part, lane)")
    return indented(lines, 12)


STEPS_TOGETHER = 8  # as many lines as the first cache keeps of those that are a power of two apart


def pack_rows(shape: TileShape) -> Kernel:
    """packed[(r // R * depth + k) * R + r % R] = a[r * row_stride + k * column_stride], R rows of a tile side by side.

    rows: to be packed. behind: how many rows there are to read, at least as many. Whole sets of lanes are written in
    order of their places, so what a set writes beyond its R rows is written over by the next; the last one needs room.
    Of rows side by side a few steps of the depth go into all tiles before the next ones do: their neighbours lie in
    the same lines of the cache, of which far steps would leave nothing.
    """
    name, high = f"pack_rows_{shape.rows}", shape.rows
    text = f"""def {name}(packed, a, depth, rows, behind, row_stride, column_stride):
    done = 0
    if (row_stride == 1) & (depth > 0):
        last = depth - 1
        whole = minimum(rows, behind - {LANES - 1})
        for start in range(0, last, {STEPS_TOGETHER}):
            for first in range(0, whole, {high}):
                for k in range(start, minimum(start + {STEPS_TOGETHER}, last)):
                    store_lanes(packed, first * depth + k * {high}, load_lanes(a, first + k * column_stride))
        for first in range(0, whole, {high}):
            lanes = load_lanes(a, first + last * column_stride)
            store_live(packed, first * depth + last * {high}, lanes, live({high}))
            done = first + {high}
    for first in range(done, rows, {high}):
        if (column_stride == 1) & (behind - first >= {LANES}):
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


STEPS_AHEAD = 64  # of the depth: what is read then has time to come from memory


def multiply_tile(shape: TileShape, dtype: str = "f32", resumes: bool = False, streams: bool = False) -> Kernel:
    """tile[r, :] = sum over k of a[r * row_stride + k * column_stride] * b[k * depth_stride + :], r < rows.

    Rows beyond those of the tile's shape are left out. Register tiles hold f32, other dtypes go lane by lane.

    resumes  the tile holds the sum over earlier k, where `started` is not 0
    streams  A comes from far away, a row's neighbours side by side: they are fetched ahead of their step
    """
    return multiply_register_tile(shape, resumes, streams) if dtype == "f32" else multiply_lanes(shape, dtype)


def multiply_lanes(shape: TileShape, dtype: str) -> Kernel:
    """What multiply_register_tile computes, for any float dtype, one set of lanes at a time."""
    name = f"multiply_tile_{shape.rows}x{shape.vectors}_{dtype}"
    text = f"""def {name}(tile, a, b, depth, rows, row_stride, column_stride, depth_stride, tile_stride):
    for r in range(minimum(rows, {shape.rows})):
        for c in range(0, {shape.width}, {LANES}):
            t = spread({dtype}(0.0))
            for k in range(depth):
                t = fma(spread(load(a, r * row_stride + k * column_stride)), load_lanes(b, k * depth_stride + c), t)
            store_lanes(tile, r * tile_stride + c, t)
"""
    return Kernel(name, text, tile_parameters(dtype))


def tile_parameters(dtype: str) -> tuple[tuple[str, str], ...]:
    pointers = tuple((name, f"{dtype}*") for name in ("tile", "a", "b"))
    numbers = ("depth", "rows", "row_stride", "column_stride", "depth_stride", "tile_stride")
    return (*pointers, *((name, "i64") for name in numbers))


STRIDED_STEP = "tile_multiply_add({tile}, a, row_stride, {start}k * column_stride, b, k * depth_stride)"
STRIDED_START = "{row} * row_stride + "


def multiply_register_tile(shape: TileShape, resumes: bool, streams: bool) -> Kernel:
    """Never copied into its callers: their constants would take the registers that the tile needs."""
    name = f"multiply_tile_{shape.rows}x{shape.vectors}{'_on' if resumes else ''}{'_ahead' if streams else ''}"
    parameters = (*tile_parameters("f32"), *([("started", "i64")] if resumes else []))
    ends = ("", f" + {shape.rows - 1}") if streams else ()  # the rows of a tile may lie in two lines of the cache
    ahead = [f"prefetch(a, (k + {STEPS_AHEAD}) * column_stride{end})" for end in ends]
    return by_heights(name, parameters, shape, STRIDED_STEP, STRIDED_START, resumes, ahead)


def subtract_product(shape: TileShape) -> Kernel:
    """tile[r, :] -= scale * (what multiply_tile computes), r < rows: a step down a gradient, straight into weights."""
    name, parameters = f"subtract_product_{shape.rows}x{shape.vectors}", (*tile_parameters("f32"), ("scale", "f32"))
    finish = "tile_subtract({tile}, scale, {target}, tile_stride)"
    return by_heights(name, parameters, shape, STRIDED_STEP, STRIDED_START, resumes=False, finish=finish)


def multiply_places(shape: TileShape, resumes: bool = False) -> Kernel:
    """What multiply_tile computes, for an A whose rows and columns walk several axes of memory.

    Element (r, k) is a[rows_at[r] + depth_at[k]]; it is read where it lies.
    """
    name = f"multiply_places_{shape.rows}x{shape.vectors}{'_on' if resumes else ''}"
    pointers = (("tile", "f32*"), ("a", "f32*"), ("b", "f32*"), ("rows_at", "i64*"), ("depth_at", "i64*"))
    numbers = ("depth", "rows", "depth_stride", "tile_stride", *(["started"] if resumes else []))
    parameters = (*pointers, *((name, "i64") for name in numbers))
    step = "tile_multiply_at({tile}, a, rows_at, {start}, load(depth_at, k), b, k * depth_stride)"
    return by_heights(name, parameters, shape, step, "{row}", resumes)


def multiply_row_of_windows(shape: TileShape, columns: int) -> Kernel:
    """What multiply_tile computes, for a B of so many columns side by side, whose rows walk several axes of memory.

    Row k of B begins at b[depth_at[k]]; it is read where it lies.
    """
    name = f"multiply_row_of_windows_{shape.rows}x{shape.vectors}_{columns}"
    pointers = (("tile", "f32*"), ("a", "f32*"), ("b", "f32*"), ("depth_at", "i64*"))
    numbers = ("depth", "rows", "row_stride", "column_stride", "tile_stride")
    parameters = (*pointers, *((name, "i64") for name in numbers))
    step = "tile_multiply_{kind}({tile}, a, row_stride, {start}k * column_stride, b, load(depth_at, k){mask})"
    last = columns % LANES
    kind, mask = ("live", f", live({last})") if last else ("add", "")
    step = step.replace("{kind}", kind).replace("{mask}", mask)
    return by_heights(name, parameters, shape, step, STRIDED_START, resumes=False)


def by_heights(
    name: str,
    parameters: tuple[tuple[str, str], ...],
    shape: TileShape,
    step: str,
    start: str,
    resumes: bool,
    ahead: Sequence[str] = (),
    finish: str = "tile_store({tile}, {target}, tile_stride)",
) -> Kernel:
    """Tiles of full height, and lower ones for the rows that are left over.

    step    a step along the depth: `{tile}` stands for the tile, `{start}` for what says where its rows begin
    start   that for a tile that begins at `{row}`; nothing or 0 for one that begins at row 0
    ahead   lines before each step of a tile of full height
    finish  what becomes of the tile; `{target}` stands for the memory of its rows
    """
    first = "" if "*" in start else "0"
    text = f"def {name}({', '.join(name for name, _ in parameters)}):\n"
    whole = some_rows(shape, step.replace("{start}", first), finish, "tile", resumes, ahead)
    text += f"    if rows >= {shape.rows}:\n{indented(whole, 8)}    else:\n        r = 0\n"
    before = shape.rows
    for height in (height for height in SMALL_ROWS if height < shape.rows):
        head = f"while rows - r >= {height}" if before > 2 * height else f"if rows - r >= {height}"
        low = TileShape(height, shape.vectors)
        at = step.replace("{start}", start.replace("{row}", "r"))
        part = some_rows(low, at, finish, "shift(tile, r * tile_stride)", resumes)
        text += f"        {head}:\n{indented([*part, f'r = r + {height}'], 12)}"
        before = height
    return Kernel(name, text, parameters, inline=False)


def some_rows(
    shape: TileShape, step: str, finish: str, target: str, resumes: bool, ahead: Sequence[str] = ()
) -> list[str]:
    """Lines that compute some rows of a tile."""
    form, tile = f"{shape.rows}x{shape.vectors}", f"t{shape.rows}"
    resumed = ["if started != 0:", f"    {tile} = tile_load_{form}({target}, tile_stride)"]
    return [
        f"{tile} = tile_zeros_{form}()",
        *(resumed if resumes else []),
        "for k in range(depth):",
        *(f"    {line}" for line in ahead),
        f"    {tile} = {step.replace('{tile}', tile)}",
        finish.replace("{tile}", tile).replace("{target}", target),
    ]


def indented(lines: list[str], indent: int) -> str:
    return "".join(f"{' ' * indent}{line}\n" for line in lines)

"""How a matrix product is computed: the shape of its tiles, and blocks that stay in the caches while they are used.

Three forms, chosen by the sizes at compile time, by a dim's largest:

- "tiles": lanes along the columns of the result. One chain of multiply-adds an element, in order of the depth.
- "turned": the same product seen transposed, lanes along the rows, for few columns of a left operand that lies
  transposed in memory, and for windows on the right: each of their elements is read where it lies. The same chains, so
  the same bits.
- "lines": lanes along the depth, for few columns of a left operand that lies by rows. Sixteen chains an element, chain
  l over the k with k % 16 = l, added up by halves (l and l + 8, then l and l + 4 …). Where the right operand lies in
  runs, as a window does, k counts from the start of each run.

The shape of a sum depends on the form alone, neither on blocks nor on threads nor on the target.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from graphc.ir.frozen import dataclass
from graphc.ir.layout import Steps
from graphc.ir.loops import ALL, LANES, Buffer, Index, LoopNest, Operand, Product
from graphc.ir.types import Extent, bound

TILE_ROWS = 16  # no register tile of any target has more rows
DEPTH_BLOCK = 1024
ROW_BLOCK = 84  # a multiple of the rows of every target's tile; twice that where the depth is at most half a block
COLUMN_BLOCK = 512
FAR = 1 << 18  # elements of the matrices and of what a tile's terms see that do not all stay in the second cache
WHOLE = 1 << 18  # elements of a left operand, or of a part of its depth, that is not cut into blocks of rows
FEW_ROWS = 64  # up to here a right operand whose rows are contiguous is always read where it lies
FEW_COLUMNS = 14  # what "turned" and one run of "lines" take
MANY_COLUMNS = 128  # from here it pays to pack a left operand that is read badly
STREAM_BLOCK, STREAM_ROWS = 256, 1024  # of a left operand that streams: a block fits into the second cache
CONFLICT = 2048  # bytes: rows a multiple of this apart fall into few sets of the first cache
CROWD = 4096  # bytes: rows a multiple of this apart fall into one set, which has no room for those of a tile
PAGE = 4096  # bytes
WAY = 4096  # bytes: so far apart elements share a place in the first cache, which has room for the lines of eight
WAYS = 8
MANY_IDLE = 0.5  # lanes beside each one in use
PACKING = 3  # what packing windows costs, in rows of a result
ADDING_UP = 45  # what adding up sixteen chains costs, in multiply-adds


@dataclass(frozen=True, slots=True)
class Blocking:
    """The form and the blocks of one product; a block of 0 means that one is all.

    "Wide" is the operand that lies along the lanes of a tile, "tall" the one whose rows are those of the tile: the
    right and the left one, or the other way round in "turned".

    width          lanes of a panel, or of the memory of a tile
    depth          steps along the depth after which a tile goes back to memory
    rows, columns  of a block of the result
    packs_tall     a block of the tall operand is packed tile by tile
    packs_wide     the wide operand is packed; else it is read where it lies, but for a panel of odd lanes
    keeps_panels   all panels of a block are packed at once and stay for all the tall operand's blocks
    run            the wide operand lies in pieces of so many columns: each is one tile's, and read where it lies
    by_places      the operand that walks several axes is read element by element, at places that are looked up
    deep_first     a block of the depth is done for all rows before the next one; else all of it block by block of rows
    padded_rows    rows of all tiles that are open at once, those beyond the last row included
    fetches        what a tile's terms read and write is fetched while the tile is computed: it comes from far away
    streams        the tall operand is read where it lies, a block of the depth at a time; what is ahead is fetched
    cuts           a tile takes only the part of the depth in which its rows of the left operand are filled
    """

    form: str
    width: int
    depth: int = 0
    rows: int = 0
    columns: int = 0
    packs_tall: bool = False
    packs_wide: bool = True
    keeps_panels: bool = False
    run: int = 0
    by_places: bool = False
    deep_first: bool = False
    padded_rows: int = 0
    fetches: bool = False
    streams: bool = False
    cuts: bool = False


def blocking(nest: LoopNest, panel_width: int, dtype: str) -> Blocking:
    """The form and the blocks of a nest's product.

    panel_width  columns of the target's register tile
    """
    assert nest.product is not None
    left, right = nest.product.left, nest.product.right
    rows, columns, depth = bound(nest.frame[-2]), bound(nest.frame[-1]), bound(nest.product.depth)
    if dtype != "f32":
        return Blocking("tiles", LANES if columns <= LANES else panel_width, padded_rows=rows + TILE_ROWS)
    if is_line_product(nest, columns, depth):
        packs = not walks(right) and (stride(right.rows) != 1 or conflicts(stride(right.columns)))
        # A tile writes whole sets of lanes, one tile beside another where it takes more than one for all columns.
        alone = columns <= FEW_COLUMNS and panel_width > LANES and not walks(right)
        width = LANES if alone else -(-(columns + LANES - 1) // LANES) * LANES
        return Blocking("lines", width, packs_wide=packs, by_places=walks(right))
    if lies_in_pieces(right) and not walks(left) and rows >= FEW_COLUMNS and idle_lanes(rows) < MANY_IDLE:
        width = LANES if rows <= LANES else panel_width
        packs = stride(left.rows) != 1
        return Blocking("turned", width, packs_wide=packs, keeps_panels=packs and not left.start, by_places=True)
    if is_cheaper_turned(nest, rows, columns, depth):
        return Blocking("turned", LANES if rows <= LANES else panel_width)
    if columns <= FEW_COLUMNS and not walks(left) and stride(left.rows) == 1 and rows > columns:
        return Blocking("turned", panel_width, packs_wide=False)
    if is_stream(left, rows, columns, depth):
        return Blocking(
            "tiles",
            panel_width,
            STREAM_BLOCK,
            columns=COLUMN_BLOCK if columns > COLUMN_BLOCK else 0,
            deep_first=True,
            padded_rows=rows + TILE_ROWS,
            fetches=is_far(nest),
            streams=True,
        )
    run = run_of_tiles(nest, panel_width)
    if run:
        width = -(-run // LANES) * LANES
        return Blocking("tiles", width, packs_wide=False, run=run, padded_rows=rows + TILE_ROWS, fetches=is_far(nest))
    return tiles(nest, panel_width)


def run_of_tiles(nest: LoopNest, panel_width: int) -> int:
    """Columns of a tile that reads a row of windows where it lies; 0 where to pack panels costs less.

    For so few rows that the lanes which idle beside a row cost less than packing it would.
    """
    assert nest.product is not None
    left, right, depth = nest.product.left, nest.product.right, bound(nest.product.depth)
    if walks(left) or len(right.columns) < 2 or right.columns[-1][1] != 1 or depth > DEPTH_BLOCK:
        return 0
    run, rows = right.columns[-1][0], bound(nest.frame[-2])
    if not isinstance(run, int) or not LANES < run <= panel_width or rows > FEW_ROWS:
        return 0
    return run if idle_lanes(run) * rows <= PACKING else 0


def is_stream(left: Operand, rows: int, columns: int, depth: int) -> bool:
    """A deep product whose left operand lies transposed, as in the gradient of a weight: step by step along the depth
    a tile's rows lie side by side, so to pack them would be to read all of it once more.
    """
    step = stride(left.columns)
    if walks(left) or stride(left.rows) != 1 or not isinstance(step, int) or step * 4 >= PAGE:
        return False
    is_deep = depth > DEPTH_BLOCK or rows * depth > WHOLE
    return is_deep and depth > STREAM_BLOCK and FEW_ROWS < rows <= STREAM_ROWS and columns >= MANY_COLUMNS


def tiles(nest: LoopNest, panel_width: int) -> Blocking:
    assert nest.product is not None
    left, right = nest.product.left, nest.product.right
    rows, columns, depth = bound(nest.frame[-2]), bound(nest.frame[-1]), bound(nest.product.depth)
    depth_block = DEPTH_BLOCK if depth > DEPTH_BLOCK else 0
    is_large = rows * min(depth, DEPTH_BLOCK) > WHOLE
    row_block = (2 * ROW_BLOCK if 2 * depth <= DEPTH_BLOCK else ROW_BLOCK) if is_large else 0
    packs_tall = columns >= MANY_COLUMNS and rows > FEW_ROWS and not walks(left) and is_read_badly(left, is_large)
    width = LANES if columns <= LANES else panel_width
    lies = not walks(right) and stride(right.columns) == 1
    packs_wide = not lies or (rows > FEW_ROWS and not stays(right, depth, width))
    deep_first = depth_block > 0 and rows <= depth
    return Blocking(
        "tiles",
        width,
        depth_block,
        row_block,
        COLUMN_BLOCK if columns > COLUMN_BLOCK and (row_block or packs_tall) else 0,
        packs_tall,
        packs_wide,
        keeps_panels=packs_wide and row_block > 0,
        by_places=walks(left),
        deep_first=deep_first,
        padded_rows=(row_block if row_block and not deep_first else rows) + TILE_ROWS,
        fetches=is_far(nest),
        cuts=not depth_block and is_cut(nest.product, columns),
    )


def is_cut(product: Product, columns: int) -> bool:
    """Half of the product may be zeros; to make sure of that pays, as both operands lie in lines and are not walked."""
    left, right = product.left, product.right
    if product.filled == ALL or columns < LANES or walks(left) or walks(right):
        return False
    return all(1 in (stride(operand.rows), stride(operand.columns)) for operand in (left, right))


def stays(right: Operand, depth: int, width: int) -> bool:
    """A panel that is read where it lies stays in the first cache for all tiles."""
    step = stride(right.rows)
    return isinstance(step, int) and depth * max(math.gcd(step * 4, WAY), width * 4) <= WAYS * WAY


def is_far(nest: LoopNest) -> bool:
    """The matrices and what a tile's terms see do not all stay in the second cache."""
    assert nest.product is not None
    rows, columns, depth = bound(nest.frame[-2]), bound(nest.frame[-1]), bound(nest.product.depth)
    return rows * depth + depth * columns + rows * columns * len(places_of_tiles(nest)) > FAR


def places_of_tiles(nest: LoopNest) -> list[tuple[Buffer, Index]]:
    """Where the terms of a product's nest see memory by sets of lanes, another place for each of its elements."""
    loads = [term.detail[:2] for term in nest.terms() if term.kind == "load" and not term.detail[2]]
    stores = [(store.buffer, store.index) for store in nest.stores if not store.term.late]
    both = nest.lane - 1, nest.lane
    return [
        (buffer, index)
        for buffer, index in dict.fromkeys([*loads, *stores])
        if dict(index).get(nest.lane) == 1 and set(both) <= {axis for axis, _ in index}
    ]


def walks(operand: Operand) -> bool:
    """A matrix one of whose axes walks several axes of memory."""
    return max(len(operand.rows), len(operand.columns)) > 1


def is_line_product(nest: LoopNest, columns: int, depth: int) -> bool:
    """More lanes would idle beside so few columns than adding up the chains costs."""
    assert nest.product is not None
    left, right = nest.product.left, nest.product.right
    if not (isinstance(nest.frame[-1], int) and 0 < columns <= 2 * FEW_COLUMNS) or walks(left):
        return False
    if stride(left.columns) != 1 or (walks(right) and not has_long_runs(right)):
        return False
    return idle_lanes(columns) * depth > ADDING_UP


def idle_lanes(extent: int) -> float:
    """How many lanes idle beside each one in use."""
    return -(-extent // LANES) * LANES / max(extent, 1) - 1


def is_cheaper_turned(nest: LoopNest, rows: int, columns: int, depth: int) -> bool:
    """Few rows by the transpose of a large matrix: to transpose the other two takes less than half of the moves."""
    assert nest.product is not None
    left, right = nest.product.left, nest.product.right
    if walks(left) or walks(right) or not fill_lanes(rows) or columns < MANY_COLUMNS:
        return False
    lies = stride(right.rows) == 1 and stride(left.columns) == 1 and not conflicts(stride(right.columns))
    return lies and 2 * rows * (depth + columns) <= columns * depth


def fill_lanes(rows: int) -> bool:
    """Few rows, but most of one or two sets of lanes."""
    return rows <= 2 * LANES and idle_lanes(rows) < MANY_IDLE


def lies_in_pieces(right: Operand) -> bool:
    """What would be lanes of a panel does not lie side by side."""
    return walks(right) and (len(right.columns) != 1 or right.columns[0][1] != 1)


def has_long_runs(right: Operand) -> bool:
    """The rows come in runs that fill most of their lanes, all as long as the last axis they walk."""
    if not right.rows or right.rows[-1][1] != 1:
        return False
    run = right.rows[-1][0]
    return isinstance(run, int) and idle_lanes(run) < MANY_IDLE / 2


def stride(steps: Steps) -> Extent:
    return steps[0][1] if steps else 0


def conflicts(step: Extent) -> bool:
    return isinstance(step, int) and step * 4 % CONFLICT == 0


def is_read_badly(left: Operand, is_large: bool) -> bool:
    """Elements that are read together fall into one another's place in the cache, or lie on many pages."""
    row, column = stride(left.rows), stride(left.columns)
    if column == 1:
        return not isinstance(row, int) or row * 4 % CROWD == 0
    return is_large or (isinstance(column, int) and column * 4 >= PAGE)


def scratch(nest: LoopNest, panel_width: int, dtype: str) -> Iterator[tuple[str, str, int]]:
    """(name, dtype, elements) of the memory a product works in."""
    assert nest.product is not None
    cut, depth = blocking(nest, panel_width, dtype), bound(nest.product.depth)
    rows, columns = bound(nest.frame[-2]), bound(nest.frame[-1])
    yield from tables(nest)
    if cut.form == "lines":
        yield "tile", dtype, TILE_ROWS * cut.width
        if cut.packs_wide:
            yield "lines", dtype, cut.width * (depth + 2 * LANES)
        return
    block = cut.depth or depth
    across = -(-(rows if cut.form == "turned" else cut.columns or columns) // cut.width) * cut.width
    if cut.form == "turned":
        yield "turned", dtype, TILE_ROWS * cut.width
        yield "tile", dtype, LANES * cut.width
    else:
        yield ("tiles", dtype, cut.padded_rows * across) if cut.depth else ("tile", dtype, TILE_ROWS * cut.width)
    if cut.packs_tall:
        yield "packed", dtype, ((cut.rows or rows) + TILE_ROWS) * block + LANES
    if cut.keeps_panels:
        yield "panels", dtype, (block if cut.deep_first else depth) * across
    elif not cut.run:
        yield "panel", dtype, block * cut.width


def tables(nest: LoopNest) -> Iterator[tuple[str, str, int]]:
    """Where the rows and columns of operands lie that walk several axes, and in what pieces sets of columns."""
    assert nest.product is not None
    for name, operand in (("left", nest.product.left), ("right", nest.product.right)):
        if walks(operand):
            extents = (nest.frame[-2], nest.product.depth) if name == "left" else (nest.product.depth, nest.frame[-1])
            yield f"{name}_rows_at", "i64", bound(extents[0])
            yield f"{name}_columns_at", "i64", bound(extents[1]) + LANES
    if walks(nest.product.right):
        yield "runs", "i64", (bound(nest.frame[-1]) // LANES + 1) * LANES

"""How a matrix product is computed: the shape of its tiles, and blocks that stay in the caches while they are used.

Three forms, chosen by the sizes at compile time, by a dim's largest:

- "tiles": lanes along the columns of the result. One chain of multiply-adds an element, in order of the depth.
- "turned": the same product seen transposed, lanes along the rows, for few columns of a left operand that lies
  transposed in memory. The same chains, so the same bits.
- "lines": lanes along the depth, for few columns of a left operand that lies by rows. Sixteen chains an element, chain
  l over the k with k % 16 = l, added up by halves (l and l + 8, then l and l + 4 …).

The shape of a sum depends on the form alone, neither on blocks nor on threads nor on the target.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphc.ir.frozen import dataclass
from graphc.ir.layout import Steps
from graphc.ir.loops import LANES, LoopNest, Operand
from graphc.ir.types import Extent, bound

TILE_ROWS = 16  # no register tile of any target has more rows
DEPTH_BLOCK = 1024
ROW_BLOCK = 84  # a multiple of the rows of every target's tile; twice that where the depth is at most half a block
COLUMN_BLOCK = 512
WHOLE = 1 << 18  # elements of a left operand, or of a part of its depth, that is not cut into blocks of rows
FEW_ROWS = 64  # up to here a right operand whose rows are contiguous is read where it lies
FEW_COLUMNS = 14  # what "turned" and one run of "lines" take
MANY_COLUMNS = 128  # from here it pays to pack a left operand that is read badly
CONFLICT = 2048  # bytes: rows a multiple of this apart fall into few sets of the first cache
PAGE = 4096  # bytes
ADDING_UP = 60  # what adding up sixteen chains costs, in multiply-adds


@dataclass(frozen=True, slots=True)
class Blocking:
    """The form and the blocks of one product; a block of 0 means that one is all.

    width          columns of a panel, or of the memory of a tile
    depth          steps along the depth after which a tile goes back to memory
    rows, columns  of a block of the result
    packs_left     a block of the left operand is packed tile by tile
    packs_right    the right operand is packed; else it is read where it lies, but for a panel of odd columns
    deep_first     a block of the depth is done for all rows before the next one; else all of it block by block of rows
    padded_rows    rows of all tiles that are open at once, those beyond the last row included
    """

    form: str
    width: int
    depth: int = 0
    rows: int = 0
    columns: int = 0
    packs_left: bool = False
    packs_right: bool = True
    deep_first: bool = False
    padded_rows: int = 0

    @property
    def columns_as_lanes(self) -> bool:
        return self.form == "tiles"

    @property
    def keeps_right(self) -> bool:
        """The panels of a block of columns are packed once, for all blocks of rows."""
        return self.packs_right and self.rows > 0


def blocking(nest: LoopNest, panel_width: int, dtype: str) -> Blocking:
    """The form and the blocks of a nest's product.

    panel_width  columns of the target's register tile
    """
    assert nest.product is not None
    left, right = nest.product.left, nest.product.right
    rows, columns, depth = bound(nest.frame[-2]), bound(nest.frame[-1]), bound(nest.product.depth)
    width = LANES if columns <= LANES else panel_width
    if dtype != "f32" or walks(left) or walks(right):
        return Blocking("tiles", width, padded_rows=rows + TILE_ROWS)
    if isinstance(nest.frame[-1], int) and is_line_product(left, columns, depth):
        packs = stride(right.rows) != 1 or conflicts(stride(right.columns))
        return Blocking("lines", LANES if columns <= FEW_COLUMNS else 2 * LANES, packs_right=packs)
    if columns <= FEW_COLUMNS and stride(left.rows) == 1 and rows > columns:
        return Blocking("turned", panel_width, packs_right=False)
    depth_block = DEPTH_BLOCK if depth > DEPTH_BLOCK else 0
    is_large = rows * min(depth, DEPTH_BLOCK) > WHOLE
    row_block = (2 * ROW_BLOCK if 2 * depth <= DEPTH_BLOCK else ROW_BLOCK) if is_large else 0
    packs_left = columns >= MANY_COLUMNS and rows > FEW_ROWS and is_read_badly(left, is_large)
    deep_first = depth_block > 0 and rows <= depth
    return Blocking(
        "tiles",
        width,
        depth_block,
        row_block,
        COLUMN_BLOCK if columns > COLUMN_BLOCK and (row_block or packs_left) else 0,
        packs_left,
        packs_right=rows > FEW_ROWS or stride(right.columns) != 1,
        deep_first=deep_first,
        padded_rows=(row_block if row_block and not deep_first else rows) + TILE_ROWS,
    )


def walks(operand: Operand) -> bool:
    """A matrix one of whose axes walks several axes of memory."""
    return max(len(operand.rows), len(operand.columns)) > 1


def is_line_product(left: Operand, columns: int, depth: int) -> bool:
    """More lanes would idle beside so few columns than adding up the chains costs."""
    if not 0 < columns <= 2 * FEW_COLUMNS or stride(left.columns) != 1:
        return False
    idle = -(-columns // LANES) * LANES / columns - 1
    return idle * depth > ADDING_UP


def stride(steps: Steps) -> Extent:
    return steps[0][1] if steps else 0


def conflicts(step: Extent) -> bool:
    return isinstance(step, int) and step * 4 % CONFLICT == 0


def is_read_badly(left: Operand, is_large: bool) -> bool:
    """Elements that are read together fall into one another's place in the cache, or lie on many pages."""
    row, column = stride(left.rows), stride(left.columns)
    if column == 1:
        return not isinstance(row, int) or conflicts(row)
    return is_large or (isinstance(column, int) and column * 4 >= PAGE)


def scratch(nest: LoopNest, panel_width: int, dtype: str) -> Iterator[tuple[str, str, int]]:
    """(name, dtype, elements) of the memory a product works in."""
    assert nest.product is not None
    cut, depth, columns = blocking(nest, panel_width, dtype), bound(nest.product.depth), bound(nest.frame[-1])
    if cut.form == "lines":
        yield "tile", dtype, TILE_ROWS * cut.width
        if cut.packs_right:
            yield "lines", dtype, cut.width * (depth + 2 * LANES)
        return
    block = cut.depth or depth
    across = -(-(cut.columns or columns) // cut.width) * cut.width
    if cut.form == "turned":
        yield "turned", dtype, TILE_ROWS * cut.width
        yield "tile", dtype, LANES * cut.width
    else:
        yield ("tiles", dtype, cut.padded_rows * across) if cut.depth else ("tile", dtype, TILE_ROWS * cut.width)
    if cut.packs_left:
        yield "packed", dtype, ((cut.rows or bound(nest.frame[-2])) + TILE_ROWS) * block + LANES
    if cut.keeps_right:
        yield "panels", dtype, (block if cut.deep_first else depth) * across
    else:
        yield "panel", dtype, block * cut.width
    if walks(nest.product.right):
        yield "rows_at", "i64", depth
        yield "columns_at", "i64", columns + LANES
        yield "runs", "i64", (columns // LANES + 1) * LANES

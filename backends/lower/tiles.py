"""Register tiles of f32 and the transpose of a block: operations on many vector registers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from llvmlite import ir

from graphc.backends.lower.emission import (
    I32,
    I64,
    MASK,
    Kinds,
    Operation,
    call_intrinsic,
    lanes,
    like,
    llvm_type,
    load,
    spread,
    store,
)
from graphc.backends.lower.memory import MEMORY
from graphc.backends.primitives import LANES, tile_extents, vector_of

_ROW = vector_of("f32")


def tile_operation(form: str, rows: int, vectors: int) -> Operation:
    """The primitive tile_zeros_{rows}x{vectors} or tile_load_{rows}x{vectors}."""
    kind = f"tile{rows}x{vectors}"
    if form == "tile_zeros":
        return Operation("nothing", like([], lambda _: kind), lambda b, kinds: ir.Constant(llvm_type(kind), None))

    def tile_load(b: ir.IRBuilder, kinds: Kinds, p: ir.Value, stride: ir.Value) -> ir.Value:
        tile = ir.Constant(llvm_type(kind), ir.Undefined)
        for position, index in enumerate(_places(b, rows, vectors, stride)):
            tile = b.insert_value(tile, load(b, p, index, _ROW), position)
        return tile

    return Operation("an f32* and an i64", like(["f32*", "i64"], lambda _: kind), tile_load)


def _places(b: ir.IRBuilder, rows: int, vectors: int, stride: ir.Value) -> Iterator[ir.Value]:
    """The index in memory of every vector of a tile, row by row."""
    for r in range(rows):
        row = b.mul(stride, I64(r))
        for v in range(vectors):
            yield b.add(row, I64(LANES * v))


def _is_tile(kind: str) -> bool:
    return tile_extents(kind) is not None


def _extents(kind: str) -> tuple[int, int]:
    extents = tile_extents(kind)
    assert extents is not None
    return extents


def _tile_store(b: ir.IRBuilder, kinds: Kinds, t: ir.Value, p: ir.Value, stride: ir.Value) -> None:
    for position, index in enumerate(_places(b, *_extents(kinds[0]), stride)):
        store(b, p, index, b.extract_value(t, position), _ROW)


def _tile_subtract(
    b: ir.IRBuilder, kinds: Kinds, t: ir.Value, s: ir.Value, p: ir.Value, stride: ir.Value
) -> None:  # fmt: skip
    scale = spread(b, s)
    for position, index in enumerate(_places(b, *_extents(kinds[0]), stride)):
        product = b.fmul(scale, b.extract_value(t, position))
        store(b, p, index, b.fsub(load(b, p, index, _ROW), product), _ROW)


Places = Callable[[int], ir.Value]


def _tile_multiply_add(b: ir.IRBuilder, kinds: Kinds, t: ir.Value, *operands: ir.Value) -> ir.Value:
    left, left_row, left_base, right, right_base = operands
    return _add_products(b, kinds, t, left, _in_steps(b, left_base, left_row), right, right_base)


def _tile_multiply_at(b: ir.IRBuilder, kinds: Kinds, t: ir.Value, *operands: ir.Value) -> ir.Value:
    left, at, at_base, left_base, right, right_base = operands
    return _add_products(b, kinds, t, left, _looked_up(b, left_base, at, at_base), right, right_base)


def _tile_multiply_live(b: ir.IRBuilder, kinds: Kinds, t: ir.Value, *operands: ir.Value) -> ir.Value:
    left, left_row, left_base, right, right_base, mask = operands
    return _add_products(b, kinds, t, left, _in_steps(b, left_base, left_row), right, right_base, mask)


def _in_steps(b: ir.IRBuilder, base: ir.Value, step: ir.Value) -> Places:
    return lambda number: b.add(base, b.mul(step, I64(number)))


def _looked_up(b: ir.IRBuilder, base: ir.Value, at: ir.Value, at_base: ir.Value) -> Places:
    return lambda number: b.add(base, load(b, at, b.add(at_base, I64(number)), "i64"))


def _add_products(
    b: ir.IRBuilder,
    kinds: Kinds,
    t: ir.Value,
    left: ir.Value,
    place: Places,
    right: ir.Value,
    right_base: ir.Value,
    mask: ir.Value | None = None,
) -> ir.Value:
    """Every row of a tile with one number of the left operand times the same lanes of the right one added.

    mask  the lanes there are of the last set of the right operand's; all of them if left out
    """
    rows, vectors = _extents(kinds[0])
    whole = vectors if mask is None else vectors - 1
    row = [load(b, right, b.add(right_base, I64(LANES * v)), _ROW) for v in range(whole)]
    if mask is not None:
        row.append(_load_live(b, right, b.add(right_base, I64(LANES * whole)), mask))
    for r in range(rows):
        factor = spread(b, load(b, left, place(r), "f32"))
        for v in range(vectors):
            position = r * vectors + v
            t = b.insert_value(t, call_intrinsic(b, "fma", factor, row[v], b.extract_value(t, position)), position)
    return t


def _tile_multiply_lines(b: ir.IRBuilder, kinds: Kinds, t: ir.Value, *operands: ir.Value) -> ir.Value:
    left, left_row, left_base, right, right_row, right_base, mask = operands
    places = _in_steps(b, left_base, left_row), _in_steps(b, right_base, right_row)
    return _add_lines(b, kinds, t, left, places[0], right, places[1], mask)


def _tile_multiply_lines_at(b: ir.IRBuilder, kinds: Kinds, t: ir.Value, *operands: ir.Value) -> ir.Value:
    left, left_row, left_base, right, at, at_base, right_base, mask = operands
    places = _in_steps(b, left_base, left_row), _looked_up(b, right_base, at, at_base)
    return _add_lines(b, kinds, t, left, places[0], right, places[1], mask)


def _add_lines(
    b: ir.IRBuilder, kinds: Kinds, t: ir.Value, left: ir.Value, wide: Places, right: ir.Value, high: Places, m: ir.Value
) -> ir.Value:
    """Every chain of a tile with the next lanes of its two lines multiplied and added."""
    rows, vectors = _extents(kinds[0])
    lines = [_load_live(b, left, wide(v), m) for v in range(vectors)]
    for r in range(rows):
        line = _load_live(b, right, high(r), m)
        for v in range(vectors):
            position = r * vectors + v
            t = b.insert_value(t, call_intrinsic(b, "fma", lines[v], line, b.extract_value(t, position)), position)
    return t


def _load_live(b: ir.IRBuilder, pointer: ir.Value, index: ir.Value, mask: ir.Value) -> ir.Value:
    return MEMORY["load_live"].emit(b, ("f32*", "i64", MASK), pointer, index, mask)


def _tile_store_sums(b: ir.IRBuilder, kinds: Kinds, t: ir.Value, p: ir.Value, stride: ir.Value) -> None:
    rows, vectors = _extents(kinds[0])
    nothing = ir.Constant(llvm_type(_ROW), None)
    for v in range(vectors):
        parts = [b.extract_value(t, r * vectors + v) if r < rows else nothing for r in range(LANES)]
        store(b, p, b.mul(stride, I64(v)), _sums(b, parts), _ROW)


def _sums(b: ir.IRBuilder, parts: list[ir.Value]) -> ir.Value:
    """The sums of sixteen vectors' lanes as one vector, each added up by halves.

    Two vectors whose runs of `half` lanes and of the next `half` are to be added go into one: first the runs of the
    one, then those of the other.
    """
    half = LANES // 2
    while half:
        places = [lane for lane in range(2 * LANES) if not lane & half]
        upper, lower = lanes(I32, places), lanes(I32, [lane + half for lane in places])
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [b.fadd(b.shuffle_vector(*pair, upper), b.shuffle_vector(*pair, lower)) for pair in pairs]
        half //= 2
    return parts[0]


def _transpose_block(
    b: ir.IRBuilder, kinds: Kinds, src: ir.Value, src_stride: ir.Value, dst: ir.Value, dst_stride: ir.Value
) -> None:
    rows = [load(b, src, b.mul(src_stride, I64(r)), _ROW) for r in range(LANES)]
    for c, column in enumerate(_transpose(b, rows)):
        store(b, dst, b.mul(dst_stride, I64(c)), column, _ROW)


def _transpose(b: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Swap ever smaller off-diagonal blocks: rows r and r + half exchange every other run of `half` lanes."""
    half = LANES // 2
    while half:
        upper = [lane + LANES - half if lane & half else lane for lane in range(LANES)]
        lower = [lane + LANES if lane & half else lane + half for lane in range(LANES)]
        for r in range(LANES):
            if not r & half:
                pair = rows[r], rows[r + half]
                rows[r] = b.shuffle_vector(*pair, lanes(I32, upper))
                rows[r + half] = b.shuffle_vector(*pair, lanes(I32, lower))
        half //= 2
    return rows


TILES = {
    "tile_store": Operation("a tile, an f32* and an i64", like([_is_tile, "f32*", "i64"], lambda _: ""), _tile_store),
    "tile_subtract": Operation(
        "a tile, an f32, an f32* and an i64",
        like([_is_tile, "f32", "f32*", "i64"], lambda _: ""),
        _tile_subtract,
    ),
    "tile_multiply_add": Operation(
        "a tile, an f32*, two i64, an f32* and an i64",
        like([_is_tile, "f32*", "i64", "i64", "f32*", "i64"], lambda kinds: kinds[0]),
        _tile_multiply_add,
    ),
    "tile_multiply_at": Operation(
        "a tile, an f32*, an i64*, two i64, an f32* and an i64",
        like([_is_tile, "f32*", "i64*", "i64", "i64", "f32*", "i64"], lambda kinds: kinds[0]),
        _tile_multiply_at,
    ),
    "tile_multiply_live": Operation(
        "a tile, an f32*, two i64, an f32*, an i64 and a mask",
        like([_is_tile, "f32*", "i64", "i64", "f32*", "i64", MASK], lambda kinds: kinds[0]),
        _tile_multiply_live,
    ),
    "tile_multiply_lines_at": Operation(
        "a tile, an f32*, two i64, an f32*, an i64*, two i64 and a mask",
        like([_is_tile, "f32*", "i64", "i64", "f32*", "i64*", "i64", "i64", MASK], lambda kinds: kinds[0]),
        _tile_multiply_lines_at,
    ),
    "tile_multiply_lines": Operation(
        "a tile, twice an f32* and two i64, and a mask",
        like([_is_tile, *["f32*", "i64", "i64"] * 2, MASK], lambda kinds: kinds[0]),
        _tile_multiply_lines,
    ),
    "tile_store_sums": Operation(
        "a tile, an f32* and an i64", like([_is_tile, "f32*", "i64"], lambda _: ""), _tile_store_sums
    ),
    "transpose_block": Operation(
        "an f32*, an i64, an f32* and an i64", like(["f32*", "i64", "f32*", "i64"], lambda _: ""), _transpose_block
    ),
}

"""What the primitives of the kernel language mean, in NumPy: see primitives.py for the language.

A pointer is a one-dimensional array, a vector an array of sixteen lanes, a tile an array of (rows, vectors, lanes).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from graphc.ir.loops import LANES

ELEMENTS: dict[str, type[np.generic]] = {
    "f32": np.float32, "f64": np.float64, "i32": np.int32, "i64": np.int64, "u8": np.uint8, "bool": np.bool_,
}  # fmt: skip


def _counted(*bounds: Any) -> Iterator[np.int64]:
    return (np.int64(i) for i in range(*map(int, bounds)))


# --- memory -----------------------------------------------------------------------------------------------------------


def _check_bounds(p: np.ndarray, first: int, last: int) -> None:
    if first < 0 or last >= p.size:
        raise IndexError(f"elements {first} to {last} of a pointer to {p.size} {p.dtype}")


def _check_element(p: np.ndarray, v: Any) -> None:
    if np.asarray(v).dtype != p.dtype:
        raise TypeError(f"a value of {np.asarray(v).dtype} stored through a pointer to {p.dtype}")


def load(p: np.ndarray, i: int) -> Any:
    """p[i]."""
    _check_bounds(p, i, i)
    return p[i]


def store(p: np.ndarray, i: int, v: Any) -> None:
    """p[i] = v."""
    _check_bounds(p, i, i)
    _check_element(p, v)
    p[i] = v


def shift(p: np.ndarray, i: int) -> np.ndarray:
    """The pointer moved by i elements. Uncompiled, only forwards: a view does not know what lies before it."""
    if i < 0:
        raise IndexError(f"shift by {i}: only forward shifts can be run uncompiled")
    return p[i:]


def load_lanes(p: np.ndarray, i: int) -> np.ndarray:
    """The vector p[i : i + 16], aligned as one element is."""
    _check_bounds(p, i, i + LANES - 1)
    return p[i : i + LANES].copy()


def store_lanes(p: np.ndarray, i: int, v: np.ndarray) -> None:
    """p[i : i + 16] = v."""
    _check_bounds(p, i, i + LANES - 1)
    _check_element(p, v)
    p[i : i + LANES] = v


def load_live(p: np.ndarray, i: int, m: np.ndarray) -> np.ndarray:
    """Like load_lanes where the mask is on; dead lanes are not read and are 0."""
    lanes = np.flatnonzero(m)
    result = np.zeros(LANES, p.dtype)
    if lanes.size:
        _check_bounds(p, i + lanes[0], i + lanes[-1])
        result[lanes] = p[i + lanes]
    return result


def load_spaced(p: np.ndarray, i: int, step: int, m: np.ndarray) -> np.ndarray:
    """Lane k is p[i + k * step] where the mask is on; dead lanes are 0. Lane 0 is on, or no lane is read."""
    return load_at(p, np.int64(i) + step * np.arange(LANES, dtype=np.int64), m)


def load_even(p: np.ndarray, i: int, m: np.ndarray) -> np.ndarray:
    """Lane k is p[i + 2 k] where the mask is on; natively p[i + 2 k + 1] is read too. Dead lanes are 0."""
    return _pairs_at(p, i, m)[0]


def load_odd(p: np.ndarray, i: int, m: np.ndarray) -> np.ndarray:
    """Lane k is p[i + 2 k + 1] where the mask is on; natively p[i + 2 k] is read too. Dead lanes are 0."""
    return _pairs_at(p, i, m)[1]


def _pairs_at(p: np.ndarray, i: int, m: np.ndarray) -> list[np.ndarray]:
    at = np.int64(i) + 2 * np.arange(LANES, dtype=np.int64)
    return [load_at(p, at + half, m) for half in range(2)]


def store_pairs(p: np.ndarray, i: int, v: np.ndarray, w: np.ndarray, m: np.ndarray) -> None:
    """p[i + 2 k] = v[k] and p[i + 2 k + 1] = w[k] where the mask is on; dead lanes are not written."""
    for half, lanes in enumerate((v, w)):
        _check_element(p, lanes)
        live_lanes = np.flatnonzero(m)
        if live_lanes.size:
            at = i + 2 * live_lanes + half
            _check_bounds(p, at[0], at[-1])
            p[at] = lanes[live_lanes]


def load_at(p: np.ndarray, at: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Lane k is p[at[k]] where the mask is on; dead lanes are 0 (natively they read p[0])."""
    lanes = np.flatnonzero(m)
    result = np.zeros(LANES, p.dtype)
    if lanes.size:
        _check_bounds(p, at[lanes].min(), at[lanes].max())
        result[lanes] = p[at[lanes]]
    return result


def add_at(p: np.ndarray, at: np.ndarray, v: np.ndarray, m: np.ndarray) -> None:
    """p[at[k]] += v[k] where the mask is on, lane after lane: places may repeat."""
    _check_element(p, v)
    lanes = np.flatnonzero(m)
    if lanes.size:
        _check_bounds(p, at[lanes].min(), at[lanes].max())
        np.add.at(p, at[lanes], v[lanes])


def store_spaced(p: np.ndarray, i: int, step: int, v: np.ndarray, m: np.ndarray) -> None:
    """p[i + k * step] = v[k] where the mask is on; dead lanes are not written. Lane 0 is on, or none is."""
    _check_element(p, v)
    lanes = np.flatnonzero(m)
    if lanes.size:
        _check_bounds(p, *sorted((i, i + step * lanes[-1])))
        p[i + step * lanes] = v[lanes]


def store_live(p: np.ndarray, i: int, v: np.ndarray, m: np.ndarray) -> None:
    """Like store_lanes where the mask is on; dead lanes are not written."""
    _check_element(p, v)
    lanes = np.flatnonzero(m)
    if lanes.size:
        _check_bounds(p, i + lanes[0], i + lanes[-1])
        p[i + lanes] = v[lanes]


def prefetch(p: np.ndarray, i: int) -> None:
    """Nothing: a hint to bring p[i] into the second cache, as it is read soon. It may lie behind the last element."""


# --- lanes ------------------------------------------------------------------------------------------------------------


def spread(s: Any) -> np.ndarray:
    """A scalar in all 16 lanes."""
    return np.full(LANES, s, np.int64 if type(s) is int else s.dtype)


def live(count: int) -> np.ndarray:
    """The mask that is on in lane k when k < count; count (i64) may be below 0 or above 16."""
    return np.arange(LANES) < count


def indices(start: int) -> np.ndarray:
    """start, start + 1, ... start + 15 as i64x16."""
    return np.int64(start) + np.arange(LANES, dtype=np.int64)


def _halve(combine: Callable[[Any, Any], Any]) -> Callable[[np.ndarray], Any]:
    def reduce(v: np.ndarray) -> Any:
        while v.size > 1:
            half = v.size // 2
            v = combine(v[:half], v[half:])
        return v[0]

    return reduce


def _sum(a: Any, b: Any) -> Any:
    return a + b


def _product(a: Any, b: Any) -> Any:
    return a * b


# --- arithmetic -------------------------------------------------------------------------------------------------------


def fma(a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once (IEEE 754 fusedMultiplyAdd)."""
    if np.asarray(a).dtype == np.float32:
        return _fma_single(a, b, c)
    fused = np.vectorize(_fma_double, otypes=[np.float64])(a, b, c)
    return fused if np.ndim(a) else fused[()]


def _fma_single(a: Any, b: Any, c: Any) -> Any:
    """The product of two f32 is exact in f64; the sum is rounded to odd there, so that rounding it to f32 rounds once.

    Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd" (2008).
    """
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    addend = np.asarray(c, np.float64)
    total = np.asarray(product + addend)
    shadow = total - product
    error = (product - (total - shadow)) + (addend - shadow)
    bits = total.view(np.int64)
    inexact = np.isfinite(error) & (error != 0) & (bits & 1 == 0)
    odd = np.where((error > 0) == (total > 0), bits + 1, bits - 1)
    return np.where(inexact, odd, bits).view(np.float64).astype(np.float32)[()]


def _fma_double(a: float, b: float, c: float) -> float:
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return c if math.isinf(c) and math.isfinite(a) and math.isfinite(b) else a * b + c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return 0.0 if a and b else a * b + c
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def select(m: Any, a: Any, b: Any) -> Any:
    """a where m is on, b elsewhere; m is a bool, or a mask when a and b are vectors."""
    return np.where(m, a, b)[()]


def maximum(a: Any, b: Any) -> Any:
    """The larger; NaN if either is NaN, and -0 < +0 (IEEE 754-2019 maximum)."""
    return np.where((a == 0) & (b == 0), a + b, np.maximum(a, b))[()]


def minimum(a: Any, b: Any) -> Any:
    """The smaller; NaN if either is NaN, and -0 < +0 (IEEE 754-2019 minimum)."""
    return np.where((a == 0) & (b == 0), -(-a - b), np.minimum(a, b))[()]


def _convert(kind: str) -> Callable[[Any], Any]:
    scalar = ELEMENTS[kind]

    def convert(x: Any) -> Any:
        return np.asarray(x).astype(scalar)[()]

    return convert


def bits_of(x: Any) -> Any:
    """The bit pattern of a float: f32 -> i32, f64 -> i64."""
    x = np.asarray(x)
    return x.view(np.int32 if x.dtype == np.float32 else np.int64)[()]


def float_of(x: Any) -> Any:
    """The float with this bit pattern: i32 -> f32, i64 -> f64."""
    x = np.asarray(x)
    return x.view(np.float32 if x.dtype == np.int32 else np.float64)[()]


# --- register tiles ---------------------------------------------------------------------------------------------------


def tile_zeros(rows: int, vectors: int) -> Callable[[], np.ndarray]:
    return lambda: np.zeros((rows, vectors, LANES), np.float32)


def tile_load(rows: int, vectors: int) -> Callable[[np.ndarray, int], np.ndarray]:
    def load_tile(p: np.ndarray, stride: int) -> np.ndarray:
        return np.stack([_lanes_at(p, r * stride, vectors) for r in range(rows)])

    return load_tile


def _lanes_at(p: np.ndarray, i: int, vectors: int) -> np.ndarray:
    return np.stack([load_lanes(p, i + LANES * v) for v in range(vectors)])


def tile_store(t: np.ndarray, p: np.ndarray, stride: int) -> None:
    """p[r * stride + 16 v : +16] = t[r, v]."""
    rows, vectors, _ = t.shape
    for r in range(rows):
        for v in range(vectors):
            store_lanes(p, r * stride + LANES * v, t[r, v])


def tile_subtract(t: np.ndarray, s: Any, p: np.ndarray, stride: int) -> None:
    """p[r * stride + 16 v : +16] -= s * t[r, v]: the product and the difference are rounded."""
    rows, vectors, _ = t.shape
    for r in range(rows):
        for v in range(vectors):
            place = r * stride + LANES * v
            store_lanes(p, place, load_lanes(p, place) - s * t[r, v])


def tile_multiply_add(
    t: np.ndarray, a: np.ndarray, a_row: int, a_base: int, b: np.ndarray, b_base: int
) -> np.ndarray:  # fmt: skip
    """t[r, v] = fma(spread(a[a_base + r * a_row]), b[b_base + 16 v : +16], t[r, v]): one step of a matrix product."""
    rows, vectors, _ = t.shape
    column = np.stack([spread(load(a, a_base + r * a_row)) for r in range(rows)])
    return fma(*np.broadcast_arrays(column[:, None, :], _lanes_at(b, b_base, vectors)[None], t))


def tile_multiply_at(
    t: np.ndarray, a: np.ndarray, at: np.ndarray, at_base: int, a_base: int, b: np.ndarray, b_base: int
) -> np.ndarray:  # fmt: skip
    """Like tile_multiply_add, with row r at a[a_base + at[at_base + r]]."""
    places = [load(at, at_base + r) for r in range(len(t))]
    column = np.stack([spread(load(a, a_base + place)) for place in places])
    return fma(*np.broadcast_arrays(column[:, None, :], _lanes_at(b, b_base, t.shape[1])[None], t))


def tile_multiply_live(
    t: np.ndarray, a: np.ndarray, a_row: int, a_base: int, b: np.ndarray, b_base: int, m: np.ndarray
) -> np.ndarray:  # fmt: skip
    """Like tile_multiply_add, with the dead lanes of the last set of b being 0, which are not read."""
    rows, vectors, _ = t.shape
    column = np.stack([spread(load(a, a_base + r * a_row)) for r in range(rows)])
    last = load_live(b, b_base + LANES * (vectors - 1), m)
    row = np.concatenate([_lanes_at(b, b_base, vectors - 1), last[None]]) if vectors > 1 else last[None]
    return fma(*np.broadcast_arrays(column[:, None, :], row[None], t))


def tile_multiply_lines(
    t: np.ndarray, a: np.ndarray, a_row: int, a_base: int, b: np.ndarray, b_row: int, b_base: int, m: np.ndarray
) -> np.ndarray:  # fmt: skip
    """t[r, v] = fma(a[a_base + v * a_row : +16], b[b_base + r * b_row : +16], t[r, v]), dead lanes of a and b being 0:
    one step of a matrix product whose lanes go along the depth."""
    rows, vectors, _ = t.shape
    left = np.stack([load_live(a, a_base + v * a_row, m) for v in range(vectors)])
    right = np.stack([load_live(b, b_base + r * b_row, m) for r in range(rows)])
    return fma(*np.broadcast_arrays(left[None], right[:, None], t))


def tile_multiply_lines_at(
    t: np.ndarray, a: np.ndarray, a_row: int, a_base: int,
    b: np.ndarray, at: np.ndarray, at_base: int, b_base: int, m: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Like tile_multiply_lines, with line r at b[b_base + at[at_base + r]]."""
    rows, vectors, _ = t.shape
    left = np.stack([load_live(a, a_base + v * a_row, m) for v in range(vectors)])
    right = np.stack([load_live(b, b_base + load(at, at_base + r), m) for r in range(rows)])
    return fma(*np.broadcast_arrays(left[None], right[:, None], t))


def tile_store_sums(t: np.ndarray, p: np.ndarray, stride: int) -> None:
    """p[v * stride + r] = sum_lanes(t[r, v]), and 0 in the rest of the sixteen places from p[v * stride] on."""
    rows, vectors, _ = t.shape
    for v in range(vectors):
        sums = np.zeros(LANES, np.float32)
        sums[:rows] = [_halve(_sum)(t[r, v]) for r in range(rows)]
        store_lanes(p, v * stride, sums)


def transpose_block(src: np.ndarray, src_stride: int, dst: np.ndarray, dst_stride: int) -> None:
    """dst[c * dst_stride + r] = src[r * src_stride + c] for a full block of 16x16 f32."""
    block = np.stack([load_lanes(src, r * src_stride) for r in range(LANES)])
    for c in range(LANES):
        store_lanes(dst, c * dst_stride, block[:, c])


# --- threads ----------------------------------------------------------------------------------------------------------


def load_first(p: np.ndarray, i: int) -> Any:
    """p[i], the first of four elements that begin at a multiple of their bytes, but 16 at most."""
    return load(p, i)


def store_first(p: np.ndarray, i: int, v: Any) -> None:
    """p[i] = v, at such a place."""
    store(p, i, v)


def barrier() -> None:
    """All threads of the block get here before one goes on. One alone, as here, waits for nobody."""


def fence() -> None:
    """What this thread has written, and seen of others, is there for whoever sees what it counts next."""


def count_up(p: np.ndarray, i: int) -> Any:
    """p[i] before 1 is added to it; no other thread comes between. A fence before it and one after it make what blocks
    wrote before they counted known to the one that counts last."""
    before = load(p, i)
    store(p, i, before + 1)
    return before


def shuffle_xor(x: Any, distance: int) -> Any:
    """What the thread whose number in the warp differs by these bits has for x. One alone has nobody to ask."""
    raise RuntimeError(f"a thread that runs alone asks the one {distance} away for a number")


def tensor_product(*_: Any) -> Any:
    """One of the four numbers that a thread of a warp has of c + a @ b: f32 of 16 x 8, 16 x 8 and 8 x 8, of which each
    thread has some (see `fragments`). It tells its four of a, two of b, and four of c. Of a and b ten bits behind the
    point count, so they have no more. One alone has a part of each matrix only."""
    raise RuntimeError("a thread that runs alone has a part of each matrix only")


def fragments(which: str, thread: int, number: int) -> tuple[int, int]:
    """(row, column) of a thread's numbers of a matrix that a warp multiplies: "a" and "c" have four each, "b" two."""
    group, own = thread % 32 // 4, thread % 4
    if which == "a":
        return group + 8 * (number % 2), own + 4 * (number // 2)
    if which == "b":
        return own + 4 * number, group
    return group + 8 * (number // 2), 2 * own + number % 2


MEANINGS: dict[str, Any] = {
    "range": _counted, "true": np.True_, "false": np.False_, "inf": np.float64("inf"), "nan": np.float64("nan"),
    "load": load, "store": store, "shift": shift, "load_lanes": load_lanes, "store_lanes": store_lanes,
    "load_live": load_live, "load_spaced": load_spaced, "load_at": load_at, "store_live": store_live,
    "load_even": load_even, "load_odd": load_odd, "store_pairs": store_pairs,
    "add_at": add_at, "store_spaced": store_spaced, "prefetch": prefetch,
    "spread": spread, "live": live, "indices": indices,
    "fma": fma, "select": select, "maximum": maximum, "minimum": minimum, "absolute": np.abs, "sqrt": np.sqrt,
    "floor": np.floor, "ceil": np.ceil, "rint": np.rint, "trunc": np.trunc, "copysign": np.copysign,
    "bits_of": bits_of, "float_of": float_of, "sum_lanes": _halve(_sum), "prod_lanes": _halve(_product),
    "max_lanes": _halve(maximum), "min_lanes": _halve(minimum), "any_lanes": np.any, "all_lanes": np.all,
    "tile_multiply_add": tile_multiply_add, "tile_store": tile_store, "tile_subtract": tile_subtract,
    "transpose_block": transpose_block,
    "tile_multiply_live": tile_multiply_live,
    "tile_multiply_lines": tile_multiply_lines, "tile_store_sums": tile_store_sums,
    "load_first": load_first, "store_first": store_first, "barrier": barrier, "shuffle_xor": shuffle_xor,
    "fence": fence, "count_up": count_up,
    **{f"tensor_product_{number}": tensor_product for number in range(4)},
    "tile_multiply_at": tile_multiply_at, "tile_multiply_lines_at": tile_multiply_lines_at,
    **{f"as_{kind}": _convert(kind) for kind in ELEMENTS},
    **{kind: scalar for kind, scalar in ELEMENTS.items() if kind != "bool"},
}  # fmt: skip

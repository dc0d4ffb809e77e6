"""Loads, stores and pointers; making, counting and reducing lanes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llvmlite import ir

from graphc.backends.lower.arithmetic import FUNCTIONS, OPERATORS
from graphc.backends.lower.emission import (
    I1,
    I32,
    I64,
    MASK,
    SCALARS,
    Emit,
    Kinds,
    Operation,
    address,
    call_declared,
    call_intrinsic,
    from_memory,
    lanes,
    like,
    llvm_type,
    load,
    memory_type,
    spread,
    store,
    suffix,
    to_memory,
)
from graphc.backends.primitives import LANES, element_of, is_pointer, is_vector, vector_of


def _element_behind(kinds: Kinds) -> str:
    return element_of(kinds[0])


def _vector_behind(kinds: Kinds) -> str:
    return vector_of(element_of(kinds[0]))


def _nothing_if_elements_agree(kinds: Kinds) -> str | None:
    return "" if element_of(kinds[0]) == element_of(kinds[2]) else None


def _is_scalar(kind: str) -> bool:
    return kind in SCALARS


def _is_number_vector(kind: str) -> bool:
    return is_vector(kind) and kind != MASK


def _load_live(b: ir.IRBuilder, kinds: Kinds, p: ir.Value, i: ir.Value, m: ir.Value) -> ir.Value:
    kind = _vector_behind(kinds)
    place, alignment = address(b, p, i, kind)
    zeros = ir.Constant(memory_type(kind), None)
    name = f"llvm.masked.load.{suffix(zeros.type)}.p0"
    return from_memory(b, call_declared(b, name, zeros.type, [place, m, zeros], {0: alignment}), kind)


def _load_spaced(b: ir.IRBuilder, kinds: Kinds, p: ir.Value, i: ir.Value, step: ir.Value, m: ir.Value) -> ir.Value:
    """Lane by lane: dead lanes read the element of lane 0, which spares a branch, and become 0."""
    return _load_each(b, kinds, p, (b.add(i, _lane_away(b, step, m, lane)) for lane in range(LANES)), m)


def _load_pairs(half: int) -> Emit:
    """The first or the second of sixteen neighbours each, out of two sets of lanes."""

    def load_half(b: ir.IRBuilder, kinds: Kinds, p: ir.Value, i: ir.Value, m: ir.Value) -> ir.Value:
        both = [_load_live(b, kinds, p, place, mask) for place, mask in _places_of_pairs(b, i, m)]
        return b.shuffle_vector(*both, lanes(I32, range(half, 2 * LANES, 2)))

    return load_half


def _places_of_pairs(b: ir.IRBuilder, i: ir.Value, m: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
    """Where the two sets of lanes that sixteen pairs take begin, and which of their lanes are live."""
    halves = range(LANES // 2), range(LANES // 2, LANES)
    masks = [_pick(b, m, [lane for lane in half for _ in range(2)]) for half in halves]
    return [(i, masks[0]), (b.add(i, I64(LANES)), masks[1])]


def _store_pairs(
    b: ir.IRBuilder, kinds: Kinds, p: ir.Value, i: ir.Value, v: ir.Value, w: ir.Value, m: ir.Value
) -> None:  # fmt: skip
    for number, (place, mask) in enumerate(_places_of_pairs(b, i, m)):
        half = range(number * LANES // 2, (number + 1) * LANES // 2)
        pairs = b.shuffle_vector(v, w, lanes(I32, [lane + other for lane in half for other in (0, LANES)]))
        _store_live(b, kinds, p, place, pairs, mask)


def _load_at(b: ir.IRBuilder, kinds: Kinds, p: ir.Value, at: ir.Value, m: ir.Value) -> ir.Value:
    """Lane by lane; dead lanes read the first element, which spares a branch, and become 0."""
    safe = b.select(m, at, ir.Constant(at.type, None))
    return _load_each(b, kinds, p, (b.extract_element(safe, I32(lane)) for lane in range(LANES)), m)


def _load_each(b: ir.IRBuilder, kinds: Kinds, p: ir.Value, places: Iterable[ir.Value], m: ir.Value) -> ir.Value:
    kind = _vector_behind(kinds)
    zeros = ir.Constant(memory_type(kind), None)
    found: ir.Value = zeros
    for lane, index in enumerate(places):
        place, alignment = address(b, p, index, element_of(kind))
        found = b.insert_element(found, b.load(place, align=alignment), I32(lane))
    return from_memory(b, b.select(m, found, zeros), kind)


def _lane_away(b: ir.IRBuilder, step: ir.Value, m: ir.Value, lane: int) -> ir.Value:
    """How far a lane is from lane 0; a dead one stays there."""
    return b.select(b.extract_element(m, I32(lane)), b.mul(step, I64(lane)), I64(0))


def _add_at(b: ir.IRBuilder, kinds: Kinds, p: ir.Value, at: ir.Value, v: ir.Value, m: ir.Value) -> None:
    """Lane after lane, so that places may repeat; dead lanes touch nothing."""
    element = element_of(kinds[0])
    combine = OPERATORS["+"].emit
    for lane in range(LANES):
        with b.if_then(b.extract_element(m, I32(lane))):
            place = b.extract_element(at, I32(lane))
            total = combine(b, (element, element), load(b, p, place, element), b.extract_element(v, I32(lane)))
            store(b, p, place, total, element)


def _store_spaced(
    b: ir.IRBuilder, kinds: Kinds, p: ir.Value, i: ir.Value, step: ir.Value, v: ir.Value, m: ir.Value
) -> None:
    """Lane by lane from the last to the first; dead lanes write to the place of lane 0, which comes last."""
    element = element_of(kinds[0])
    for lane in reversed(range(LANES)):
        store(b, p, b.add(i, _lane_away(b, step, m, lane)), b.extract_element(v, I32(lane)), element)


def _store_live(b: ir.IRBuilder, kinds: Kinds, p: ir.Value, i: ir.Value, v: ir.Value, m: ir.Value) -> None:
    place, alignment = address(b, p, i, kinds[2])
    value = to_memory(b, v, kinds[2])
    call_declared(b, f"llvm.masked.store.{suffix(value.type)}.p0", ir.VoidType(), [value, place, m], {1: alignment})


def _prefetch(b: ir.IRBuilder, kinds: Kinds, p: ir.Value, i: ir.Value) -> None:
    """0: to be read, 2: into the second cache, 1: as data. Its declaration has one type of pointer, that to bytes."""
    place, _ = address(b, p, i, element_of(kinds[0]))
    place = b.bitcast(place, llvm_type("u8*"))
    call_declared(b, "llvm.prefetch.p0", ir.VoidType(), [place, I32(0), I32(2), I32(1)])


def _live(b: ir.IRBuilder, kinds: Kinds, count: ir.Value) -> ir.Value:
    # Held between 0 and 16 the count fits i32, whose lanes compare in half the registers of i64.
    held = call_intrinsic(b, "smin", call_intrinsic(b, "smax", count, I64(0)), I64(LANES))
    return b.icmp_signed("<", lanes(I32, range(LANES)), spread(b, b.trunc(held, I32)))


def _indices(b: ir.IRBuilder, kinds: Kinds, start: ir.Value) -> ir.Value:
    return b.add(spread(b, start), lanes(I64, range(LANES)))


def _reduce(combine: Operation) -> Emit:
    def emit(b: ir.IRBuilder, kinds: Kinds, v: ir.Value) -> ir.Value:
        half = LANES // 2
        while half:
            v = combine.emit(b, kinds, _pick(b, v, range(half)), _pick(b, v, range(half, 2 * half)))
            half //= 2
        return b.extract_element(v, I32(0))

    return emit


def _pick(b: ir.IRBuilder, v: ir.Value, numbers: Sequence[int]) -> ir.Value:
    return b.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), lanes(I32, numbers))


_POINTER_AND_INDEX = "a pointer and an i64"

MEMORY = {
    "load": Operation(
        _POINTER_AND_INDEX,
        like([is_pointer, "i64"], _element_behind),
        lambda b, kinds, p, i: load(b, p, i, _element_behind(kinds)),
    ),
    "store": Operation(
        "a pointer, an i64 and a value of the element type",
        like([is_pointer, "i64", _is_scalar], _nothing_if_elements_agree),
        lambda b, kinds, p, i, v: store(b, p, i, v, kinds[2]),
    ),
    "shift": Operation(
        _POINTER_AND_INDEX, like([is_pointer, "i64"], lambda kinds: kinds[0]), lambda b, kinds, p, i: b.gep(p, [i])
    ),
    "load_lanes": Operation(
        _POINTER_AND_INDEX,
        like([is_pointer, "i64"], _vector_behind),
        lambda b, kinds, p, i: load(b, p, i, _vector_behind(kinds)),
    ),
    "store_lanes": Operation(
        "a pointer, an i64 and a vector of its elements",
        like([is_pointer, "i64", is_vector], _nothing_if_elements_agree),
        lambda b, kinds, p, i, v: store(b, p, i, v, kinds[2]),
    ),
    "load_live": Operation("a pointer, an i64 and a mask", like([is_pointer, "i64", MASK], _vector_behind), _load_live),
    "load_spaced": Operation(
        "a pointer, two i64 and a mask", like([is_pointer, "i64", "i64", MASK], _vector_behind), _load_spaced
    ),
    "load_at": Operation(
        "a pointer, an i64x16 and a mask", like([is_pointer, vector_of("i64"), MASK], _vector_behind), _load_at
    ),
    "add_at": Operation(
        "a pointer, an i64x16, a vector of its elements and a mask",
        like([is_pointer, vector_of("i64"), _is_number_vector, MASK], _nothing_if_elements_agree),
        _add_at,
    ),
    "store_spaced": Operation(
        "a pointer, two i64, a vector of its elements and a mask",
        like(
            [is_pointer, "i64", "i64", is_vector, MASK],
            lambda kinds: _nothing_if_elements_agree((kinds[0], *kinds[2:])),
        ),
        _store_spaced,
    ),
    **{
        name: Operation(
            "a pointer, an i64 and a mask", like([is_pointer, "i64", MASK], _vector_behind), _load_pairs(half)
        )
        for half, name in enumerate(("load_even", "load_odd"))
    },
    "store_pairs": Operation(
        "a pointer, an i64, two vectors of its elements and a mask",
        like(
            [is_pointer, "i64", is_vector, is_vector, MASK],
            lambda kinds: _nothing_if_elements_agree(kinds) if kinds[2] == kinds[3] else None,
        ),
        _store_pairs,
    ),
    "store_live": Operation(
        "a pointer, an i64, a vector of its elements and a mask",
        like([is_pointer, "i64", is_vector, MASK], _nothing_if_elements_agree),
        _store_live,
    ),
    "prefetch": Operation(_POINTER_AND_INDEX, like([is_pointer, "i64"], lambda _: ""), _prefetch),
}

LANE_OPERATIONS = {
    "spread": Operation(
        "a scalar", like([_is_scalar], lambda kinds: vector_of(kinds[0])), lambda b, kinds, s: spread(b, s)
    ),
    "live": Operation("an i64", like(["i64"], lambda _: MASK), _live),
    "indices": Operation("an i64", like(["i64"], lambda _: vector_of("i64")), _indices),
    **{
        f"{name}_lanes": Operation(
            "a vector of floats or integers", like([_is_number_vector], _element_behind), _reduce(combine)
        )
        for name, combine in {
            "sum": OPERATORS["+"], "prod": OPERATORS["*"], "max": FUNCTIONS["maximum"], "min": FUNCTIONS["minimum"],
        }.items()
    },
    "any_lanes": Operation(
        "a mask", like([MASK], lambda _: "bool"), lambda b, _, m: call_intrinsic(b, "vector.reduce.or", m, result=I1)
    ),
    "all_lanes": Operation(
        "a mask", like([MASK], lambda _: "bool"), lambda b, _, m: call_intrinsic(b, "vector.reduce.and", m, result=I1)
    ),
}  # fmt: skip

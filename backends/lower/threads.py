"""Where the threads of a block on a GPU meet, what those of a warp tell each other, and accesses of many bytes."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.lower.emission import (
    I32,
    I64,
    NUMBERS,
    WIDTHS,
    Emit,
    Kinds,
    Operation,
    call_declared,
    from_memory,
    like,
    to_memory,
)
from graphc.backends.lower.memory import MEMORY
from graphc.backends.primitives import element_of

_ALL = I32(-1)  # threads of a warp
_LAST = I32(31)  # lane that can be told


def _barrier(b: ir.IRBuilder, kinds: Kinds) -> None:
    call_declared(b, "llvm.nvvm.barrier.cta.sync.aligned.all", ir.VoidType(), [I32(0)])


def _fence(b: ir.IRBuilder, kinds: Kinds) -> None:
    call_declared(b, "llvm.nvvm.membar.gl", ir.VoidType(), [])


def _count_up(b: ir.IRBuilder, kinds: Kinds, p: ir.Value, i: ir.Value) -> ir.Value:
    return b.atomic_rmw("add", b.gep(p, [i]), I64(1), "monotonic")


def _shuffle_xor(b: ir.IRBuilder, kinds: Kinds, x: ir.Value, distance: ir.Value) -> ir.Value:
    """The hardware tells 32 bits at a time."""
    kind, away = x.type, b.trunc(distance, I32)
    bits = x if isinstance(kind, ir.IntType) else b.bitcast(x, ir.IntType(WIDTHS[kinds[0]]))
    if bits.type.width < 64:
        told = _told(b, b.zext(bits, I32) if bits.type.width < 32 else bits, away)
        found = b.trunc(told, bits.type) if bits.type.width < 32 else told
    else:
        low, high = _told(b, b.trunc(bits, I32), away), _told(b, b.trunc(b.lshr(bits, I64(32)), I32), away)
        found = b.or_(b.zext(low, I64), b.shl(b.zext(high, I64), I64(32)))
    return found if isinstance(kind, ir.IntType) else b.bitcast(found, kind)


def _told(b: ir.IRBuilder, word: ir.Value, away: ir.Value) -> ir.Value:
    return call_declared(b, "llvm.nvvm.shfl.sync.bfly.i32", I32, [_ALL, word, away, _LAST])


def _tensor_product(number: int) -> Emit:
    """All four come out of one instruction; which of equal ones there are, code generation makes one."""

    def emit(b: ir.IRBuilder, kinds: Kinds, *args: ir.Value) -> ir.Value:
        words = [b.bitcast(arg, I32) for arg in args[:6]]
        four = ir.LiteralStructType([ir.FloatType()] * 4)
        found = call_declared(b, "llvm.nvvm.mma.m16n8k8.row.col.tf32", four, [*words, *args[6:]])
        return b.extract_value(found, number)

    return emit


def _load_first(b: ir.IRBuilder, kinds: Kinds, p: ir.Value, i: ir.Value) -> ir.Value:
    kind = element_of(kinds[0])
    return from_memory(b, b.load(b.gep(p, [i]), align=_together(kind)), kind)


def _store_first(b: ir.IRBuilder, kinds: Kinds, p: ir.Value, i: ir.Value, v: ir.Value) -> None:
    b.store(to_memory(b, v, kinds[2]), b.gep(p, [i]), align=_together(kinds[2]))


def _together(kind: str) -> int:
    """Bytes that four elements are aligned to: no more than a thread can read at once."""
    return min(4 * max(WIDTHS[kind] // 8, 1), 16)


def _is_number(kind: str) -> bool:
    return kind in NUMBERS


THREADS = {
    "load_first": Operation("a pointer and an i64", MEMORY["load"].result, _load_first),
    "store_first": Operation("a pointer, an i64 and a value of the element type", MEMORY["store"].result, _store_first),
    "barrier": Operation("nothing", like([], lambda _: ""), _barrier),
    "fence": Operation("nothing", like([], lambda _: ""), _fence),
    "count_up": Operation("a pointer to i64 and an i64", like(["i64*", "i64"], lambda _: "i64"), _count_up),
    **{
        f"tensor_product_{number}": Operation("ten f32", like(["f32"] * 10, lambda _: "f32"), _tensor_product(number))
        for number in range(4)
    },
    "shuffle_xor": Operation("a number and an i64", like([_is_number, "i64"], lambda kinds: kinds[0]), _shuffle_xor),
}

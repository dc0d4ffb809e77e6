"""The pass pipeline, in order: read the list at the end and you have read the compiler's front half."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from graphc.ir import ops
from graphc.ir.access import is_constant, is_squeeze, memory_of, resolve
from graphc.ir.autodiff import expand_gradients, hold_wanted
from graphc.ir.graph import Graph, Output, Value, located
from graphc.ir.ops.record import Op
from graphc.ir.rewrite import hand_out, rebuild, rewriter, with_operands
from graphc.ir.rules import GUARDS, MACROS, SIMPLIFY, STABILISE
from graphc.ir.types import DTYPES
from graphc.ir.verify import verify

Pass = Callable[[Graph], Graph]
Watch = Callable[[str, Graph], None]


def merge(graph: Graph) -> Graph:
    """Common subexpressions become one value."""
    return rebuild(graph, lambda value: None)


def merge_views(graph: Graph) -> Graph:
    """Views of views become one, so that rules see the formulas behind them."""
    return rebuild(graph, lambda value: merge_view(value) if value.op.kind == "view" else None)


def stabilise(graph: Graph) -> Graph:
    """Naive formulas become safe ones, before their gradients are taken."""
    return rebuild(graph, rewriter(STABILISE, GUARDS, MACROS))


def simplify(graph: Graph) -> Graph:
    """Algebraic identities."""
    return rebuild(graph, rewriter(SIMPLIFY, GUARDS, MACROS))


def fold(graph: Graph) -> Graph:
    """Arithmetic on constants is done now."""
    return rebuild(graph, fold_value)


def fold_value(value: Value) -> Value | None:
    if not value.operands or any(operand.op is not ops.full for operand in value.operands):
        return None
    if value.op.kind == "view":
        return constant_in_place_of(value, value.operands[0].attrs["value"])
    if value.op.kind != "elementwise":
        return None
    constants = (DTYPES[operand.dtype].type(operand.attrs["value"]) for operand in value.operands)
    with np.errstate(all="ignore"):
        result = value.op.numpy(*constants, **value.attrs)
    return constant_in_place_of(value, result.item())


def constant_in_place_of(value: Value, number: float) -> Value:
    with located(value.origin):
        return ops.full(value=number, type=value.type)


def flip_products(graph: Graph) -> Graph:
    """A product that is only read transposed is computed that way round: (AB)ᵀ is BᵀAᵀ."""
    readers: dict[Value, set[Op | None]] = {output.value: {None} for output in graph.outputs}
    for value in graph.values():
        for operand in value.operands:
            readers.setdefault(operand, set()).add(value.op)
    new: dict[Value, Value] = {}
    for value in graph.values():
        new[value] = with_operands(value, tuple(new[operand] for operand in value.operands))
        if value.attrs.get("permutation") != (1, 0):
            continue
        (x,) = value.operands
        if x.op is ops.dot and readers[x] == {ops.transpose}:
            a, b = (new[matrix] for matrix in x.operands)
            with located(value.origin):
                new[value] = ops.dot(ops.transpose(b, permutation=(1, 0)), ops.transpose(a, permutation=(1, 0)))
    return hand_out(graph, new)


def push_views(graph: Graph) -> Graph:
    """Views meet and cancel; arithmetic moves below broadcasts and reshapes."""
    return rebuild(graph, push_view)


def push_view(value: Value) -> Value | None:
    with located(value.origin):
        if value.op.kind == "view":
            return merge_view(value)
        if value.op.kind == "elementwise":
            return below_view(value, ops.broadcast) or below_view(value, ops.reshape)
        if value.op.kind == "reduce":
            return simpler_reduction(value)
    return None


def simpler_reduction(value: Value) -> Value | None:
    """Reducing axes of size 1 does nothing; reducing everything needs no other shape first."""
    (x,) = value.operands
    if value.shape == x.shape:
        return x
    if x.op is not ops.reshape or is_squeeze(x.operands[0].shape, x.shape) or value.type.count != 1:
        return None
    whole = x.operands[0]
    return ops.reshape(value.op(whole, axes=tuple(range(len(whole.shape)))), shape=value.shape)


def merge_view(value: Value) -> Value | None:
    (x,) = value.operands
    if value.op is not ops.transpose and value.shape == x.shape:
        return x
    if value.op is ops.transpose:
        return merge_transpose(value.attrs["permutation"], x)
    if x.op is value.op:
        return value.op(x.operands[0], shape=value.shape)
    return None


def merge_transpose(permutation: tuple[int, ...], x: Value) -> Value | None:
    if permutation == tuple(range(len(permutation))):
        return x
    if x.op is ops.transpose:
        inner = x.attrs["permutation"]
        return transposed(x.operands[0], tuple(inner[axis] for axis in permutation))
    return None


def transposed(x: Value, permutation: tuple[int, ...]) -> Value:
    """The transpose, without one of a transpose or one that changes nothing."""
    return merge_transpose(permutation, x) or ops.transpose(x, permutation=permutation)


def below_view(value: Value, view: Op) -> Value | None:
    """f(view(a), view(b)) is view(f(a, b)) when a and b have one shape; constants take any.

    A reshape that only adds or drops axes of size 1 stays where it is: whoever reads it sees through it.
    """
    seen = [operand for operand in value.operands if operand.op is view]
    sources = {operand.operands[0].shape for operand in seen}
    if len(sources) != 1 or any(operand.op is not view and operand.op is not ops.full for operand in value.operands):
        return None
    (shape,) = sources
    if view is ops.reshape and is_squeeze(shape, value.shape):
        return None
    operands = (
        operand.operands[0]
        if operand.op is view
        else ops.full(**operand.attrs | {"type": operand.type.with_shape(shape)})
        for operand in value.operands
    )
    return view(value.op(*operands, **value.attrs), shape=value.shape)


def expand_vector_products(graph: Graph) -> Graph:
    """Products with a vector become a multiplication and a sum, which fuse with what is around them."""
    return rebuild(graph, expand_vector_product)


def expand_vector_product(value: Value) -> Value | None:
    if value.op is not ops.dot:
        return None
    a, b = value.operands
    (rows, depth), columns = a.shape, b.shape[1]
    with located(value.origin):
        if depth == 1:
            return ops.mul(ops.broadcast(a, shape=value.shape), ops.broadcast(b, shape=value.shape))
        if columns == 1:
            return ops.reshape(product_with_column(a, b), shape=value.shape)
        if rows == 1:
            flipped = product_with_column(transposed(b, (1, 0)), ops.reshape(a, shape=(depth, 1)))
            return ops.reshape(flipped, shape=value.shape)
    return None


def product_with_column(a: Value, column: Value) -> Value:
    """a[m,k] @ column[k,1], summed along the axis that keeps a's own memory order."""
    if a.op is ops.transpose:
        x = a.operands[0]
        return ops.sum(ops.mul(x, ops.broadcast(column, shape=x.shape)), axes=(0,))
    row = ops.reshape(column, shape=(1, a.shape[1]))
    return ops.sum(ops.mul(a, ops.broadcast(row, shape=a.shape)), axes=(1,))


def collect_checks(graph: Graph) -> Graph:
    """Every `require_range` becomes a count of violations that is looked at before anything is updated."""
    checks: dict[str, Value] = {}
    for value in graph.values():
        if value.op is ops.require_range:
            message, count = value.attrs["message"], violations(value)
            checks[message] = count if message not in checks else counted_together(checks[message], count)
    outputs = [*graph.outputs, *(Output("check", message, count) for message, count in checks.items())]
    return rebuild(
        replace(graph, outputs=tuple(outputs)),
        lambda value: value.operands[0] if value.op is ops.require_range else None,
    )


def counted_together(count: Value, other: Value) -> Value:
    with located(other.origin):
        return ops.add(count, other)


def violations(value: Value) -> Value:
    """How many elements are outside of the range, as i64[]."""
    (x,) = value.operands
    with located(value.origin):
        low, high = (ops.full(value=value.attrs[name], type=x.type) for name in ("low", "high"))
        outside = ops.cast(ops.logical_or(ops.less(x, low), ops.less_equal(high, x)), dtype="i64")
        return ops.reshape(ops.sum(outside, axes=tuple(range(len(x.shape)))), shape=())


def place_copies(graph: Graph) -> Graph:
    """Whatever needs memory of its own and has none gets a copy: outputs, and what reshapes or products read."""

    def visit(value: Value) -> Value | None:
        operands = tuple(with_memory(value, operand) for operand in value.operands)
        return None if operands == value.operands else with_operands(value, operands)

    graph = rebuild(graph, visit)
    outputs = [replace(output, value=own_memory(output.value)) for output in graph.outputs]
    return replace(graph, outputs=tuple(outputs))


def with_memory(reader: Value, operand: Value) -> Value:
    """The operand, or a copy of it where the reader walks it in a way that only real memory allows."""
    if reader.op is ops.reshape and not is_squeeze(operand.shape, reader.shape):
        return copied(operand) if operand.op.kind == "view" or is_constant(operand) else operand
    if reader.op.kind == "contraction" and is_constant(resolve(operand).root):
        return copied(operand)
    return operand


def own_memory(value: Value) -> Value:
    source = memory_of(value)
    return copied(value) if source.op.kind in ("view", "source") else value


def copied(value: Value) -> Value:
    with located(value.origin):
        return ops.copy(value)


PIPELINE: tuple[Pass, ...] = (
    hold_wanted,
    merge,
    merge_views,
    stabilise,
    expand_gradients,
    collect_checks,
    fold,
    flip_products,
    push_views,
    expand_vector_products,
    simplify,
    push_views,
    fold,
    simplify,
    merge,
    place_copies,
)


def run_passes(graph: Graph, passes: Sequence[Pass] = PIPELINE, watch: Watch = lambda name, graph: None) -> Graph:
    """The graph after all passes, verified after each; `watch(name, graph)` sees every stage."""
    watch("trace", verify(graph))
    for step in passes:
        graph = verify(step(graph))
        watch(step.__name__, graph)
    return graph

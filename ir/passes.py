"""The pass pipeline, in order: read the list at the end and you have read the compiler's front half."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from graphc.ir import ops
from graphc.ir.access import is_squeeze
from graphc.ir.autodiff import expand_gradients, hold_wanted
from graphc.ir.captured import turn_captured
from graphc.ir.graph import Graph, Output, Value, located, reachable
from graphc.ir.guards import GUARDS
from graphc.ir.ops.record import Op
from graphc.ir.placing import place_copies
from graphc.ir.pools import pool_first
from graphc.ir.rewrite import Note, Visit, hand_out, no_note, rebuild, renewed, rewriter, with_operands
from graphc.ir.rules import MACROS, SIMPLIFY, stabiliser
from graphc.ir.tables import multiply_tables
from graphc.ir.trail import Trail
from graphc.ir.types import DTYPES, Shape, TensorType, add
from graphc.ir.verify import verify


class Pass(Protocol):
    """From a graph to a graph; a trail is told what becomes of each value."""

    __name__: str

    def __call__(self, graph: Graph, trail: Trail | None = None) -> Graph: ...


Watch = Callable[[str, Graph], None]


def merge(graph: Graph, trail: Trail | None = None) -> Graph:
    """Common subexpressions become one value."""
    return rebuild(graph, lambda value: None, trail)


def merge_views(graph: Graph, trail: Trail | None = None) -> Graph:
    """Views of views become one, so that rules see the formulas behind them."""
    return rebuild(graph, lambda value: merge_view(value) if value.op.kind == "view" else None, trail)


def stabilise(graph: Graph, trail: Trail | None = None) -> Graph:
    """Naive formulas become safe ones, before their gradients are taken."""
    return rebuild(graph, stabiliser(note_of(trail)), trail)


def note_of(trail: Trail | None) -> Note:
    return no_note if trail is None else trail.note


def simplify(graph: Graph, trail: Trail | None = None) -> Graph:
    """Algebraic identities."""
    return rebuild(graph, rewriter(SIMPLIFY, GUARDS, MACROS, note_of(trail)), trail)


def fold(graph: Graph, trail: Trail | None = None) -> Graph:
    """Arithmetic on constants is done now."""
    return rebuild(graph, fold_value, trail)


def fold_value(value: Value) -> Value | None:
    """Arithmetic on constants is done now."""
    if not value.operands or any(operand.op is not ops.full for operand in value.operands):
        return None
    if value.op.kind == "view":
        return None if value.op is ops.pad else constant_in_place_of(value, value.operands[0].attrs["value"])
    if value.op.kind != "elementwise":
        return None
    constants = (DTYPES[operand.dtype].type(operand.attrs["value"]) for operand in value.operands)
    with np.errstate(all="ignore"):
        result = value.op.numpy(*constants, **value.attrs)
    return constant_in_place_of(value, result.item())


def constant_in_place_of(value: Value, number: float) -> Value:
    with located(value.origin):
        return ops.full(value=number, type=value.type)


def flip_products(graph: Graph, trail: Trail | None = None) -> Graph:
    """A product that is only read transposed is computed that way round: (AB)ᵀ is BᵀAᵀ."""
    readers: dict[Value, set[Op | None]] = {output.value: {None} for output in graph.outputs}
    for value in graph.values():
        for operand in value.operands:
            readers.setdefault(operand, set()).add(value.op)
    new: dict[Value, Value] = {}
    for value in graph.values():
        new[value] = renewed(value, new)
        if value.attrs.get("permutation") != ops.swapped(len(value.shape)):
            continue
        (x,) = value.operands
        if x.op is ops.dot and readers[x] == {ops.transpose}:
            a, b = (new[matrix] for matrix in x.operands)
            with located(value.origin):
                new[value] = ops.dot(turned(b), turned(a))
    return hand_out(graph, new, trail)


def turned(x: Value) -> Value:
    """Every matrix of a stack transposed."""
    return transposed(x, ops.swapped(len(x.shape)))


def push_views(graph: Graph, trail: Trail | None = None) -> Graph:
    """Views meet and cancel; arithmetic moves below broadcasts and reshapes."""
    return rebuild(graph, push_view, trail)


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
    if value.op in (ops.broadcast, ops.reshape):
        if value.shape == x.shape:
            return x
        return value.op(x.operands[0], shape=value.shape) if x.op is value.op else None
    if value.op is ops.transpose:
        return merge_transpose(value.attrs["permutation"], x)
    if value.op is ops.slice and value.shape == x.shape and all(step == 1 for step in value.attrs["step"]):
        return x
    if value.op is ops.pad and value.shape == x.shape and not any(value.attrs["start"]):
        return x
    if value.op is ops.pad and x.op is ops.pad and is_cut_out(value):
        start = tuple(map(add, value.attrs["start"], x.attrs["start"]))
        return ops.pad(x.operands[0], start=start, shape=value.shape)
    return None


def is_cut_out(value: Value) -> bool:
    """A pad that adds nothing."""
    for start, extent, whole in zip(value.attrs["start"], value.shape, value.operands[0].shape, strict=True):
        is_all = start == 0 and extent == whole
        if not is_all and not (isinstance(extent, int) and isinstance(whole, int) and 0 <= start <= whole - extent):
            return False
    return True


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


def expand_vector_products(graph: Graph, trail: Trail | None = None) -> Graph:
    """Products with a vector become a multiplication and a sum, which fuse with what is around them."""
    return rebuild(graph, expand_vector_product, trail)


def expand_vector_product(value: Value) -> Value | None:
    """A product with a vector is a multiplication and a sum."""
    if value.op is not ops.dot:
        return None
    a, b = value.operands
    (*batch, rows, depth), columns = a.shape, b.shape[-1]
    with located(value.origin):
        if depth == 1:
            return ops.mul(*(stretched(matrix, value.shape) for matrix in (a, b)))
        if columns == 1:
            return ops.reshape(product_with_column(a, b), shape=value.shape)
        if rows == 1:
            column = ops.reshape(a, shape=(*batch, depth, 1))
            return ops.reshape(product_with_column(turned(b), column), shape=value.shape)
    return None


def stretched(x: Value, shape: Shape) -> Value:
    return x if x.shape == shape else ops.broadcast(x, shape=shape)


def product_with_column(a: Value, column: Value) -> Value:
    """a[…,m,k] @ column[…,k,1], summed along the axis that keeps a's own memory order."""
    rank = len(a.shape)
    if a.attrs.get("permutation") == ops.swapped(rank):
        (x,) = a.operands
        return ops.sum(ops.mul(x, stretched(column, x.shape)), axes=(rank - 2,))
    row = ops.reshape(column, shape=(*a.shape[:-2], 1, a.shape[-1]))
    return ops.sum(ops.mul(a, stretched(row, a.shape)), axes=(rank - 1,))


def prune_loops(graph: Graph, trail: Trail | None = None) -> Graph:
    """Loops stack only what somebody reads, and are given only what their bodies read."""
    while True:
        pruned = prune_loops_once(graph, trail)
        if pruned is None:
            return graph
        graph = pruned


def prune_loops_once(graph: Graph, trail: Trail | None) -> Graph | None:
    read: dict[Value, set[str]] = {}
    for value in graph.values():
        if value.op is ops.part:
            read.setdefault(value.operands[0], set()).add(value.attrs["name"])
    new: dict[Value, Value] = {}
    changed = False
    for value in graph.values():
        new[value] = renewed(value, new)
        if value.op is ops.loop:
            pruned = prune_loop(new[value], read[value])
            changed |= pruned is not new[value]
            new[value] = pruned
    return hand_out(graph, new, trail) if changed else None


def prune_loop(loop: Value, read: set[str]) -> Value:
    """The loop without results nobody reads and without inputs its body does not need."""
    body, roles = loop.attrs["body"].graph, ops.Roles(loop)
    outputs = tuple(each for each in body.outputs if each.kind == "update" or each.name in read)
    needed = set(reachable(tuple(each.value for each in outputs)))
    slices, captured = (tuple(pair for pair in pairs if pair[0] in needed) for pairs in (roles.slices, roles.captured))
    if (outputs, slices, captured) == (body.outputs, roles.slices, roles.captured):
        return loop
    with located(loop.origin):
        return ops.with_body(loop, replace(body, outputs=outputs), roles.carried, slices, captured)


def tidy(graph: Graph, trail: Trail | None = None) -> Graph:
    """All that makes a graph smaller, in one go over it: each value until nothing applies to it any more."""
    by_rules = rewriter(SIMPLIFY, GUARDS, MACROS, note_of(trail))
    steps: tuple[Visit, ...] = (fold_value, push_view, expand_vector_product, by_rules)

    def visit(value: Value) -> Value | None:
        for step in steps:
            better = step(value)
            if better is not None:
                if trail is not None and step is not by_rules:
                    trail.note(PUSHED[value.op.kind] if step is push_view else sentence(step), value)
                return better
        return None

    return rebuild(graph, visit, trail)


PUSHED = {
    "view": "views of views become one, those that change nothing go",
    "elementwise": "arithmetic moves below a broadcast or a reshape",
    "reduce": "reducing axes of size 1 does nothing, reducing everything needs no other shape first",
}


def collect_checks(graph: Graph, trail: Trail | None = None) -> Graph:
    """Every `require_range` becomes a count of violations that is looked at before anything is updated.

    The body of a loop has been gone over before: its counts are added up from step to step.
    """
    checks: dict[str, Value] = {}
    loops: dict[Value, Value] = {}
    for value in graph.values():
        found: list[tuple[str, Value]] = []
        if value.op is ops.require_range:
            found.append((value.attrs["message"], violations(value)))
        if value.op is ops.loop and value.attrs["body"].graph.of_kind("check"):
            loops[value] = counting_loop(value)
            messages = (output.name for output in value.attrs["body"].graph.of_kind("check"))
            found += [(each, ops.part_of(loops[value], f"check.{k}")) for k, each in enumerate(messages)]
        for message, count in found:
            checks[message] = count if message not in checks else counted_together(checks[message], count)
    outputs = [*graph.outputs, *(Output("check", message, count) for message, count in checks.items())]

    def visit(value: Value) -> Value | None:
        if value.op is ops.part and value.operands[0] in loops:
            return with_operands(value, (loops[value.operands[0]],))
        return value.operands[0] if value.op is ops.require_range else None

    return rebuild(replace(graph, outputs=tuple(outputs)), visit, trail)


def counting_loop(loop: Value) -> Value:
    """The loop with the checks of its body as states that sum up the violations of all steps."""
    body, roles = loop.attrs["body"].graph, ops.Roles(loop)
    kind = TensorType("i64", ())
    with located(loop.origin):
        checks = body.of_kind("check")
        counts = [ops.input(name=f"check.{number}", role="state", type=kind) for number, _ in enumerate(checks)]
        carried = (*roles.carried, *((count, ops.full(value=0, type=kind)) for count in counts))
        outputs = [each for each in body.outputs if each.kind != "check"]
        for count, each in zip(counts, checks, strict=True):
            outputs.append(Output("update", count.attrs["name"], ops.add(count, each.value)))
        return ops.with_body(loop, replace(body, outputs=tuple(outputs)), carried, roles.slices, roles.captured)


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


PIPELINE: tuple[Pass, ...] = (
    hold_wanted,
    merge_views,
    stabilise,
    multiply_tables,
    pool_first,
    expand_gradients,
    collect_checks,
    flip_products,
    tidy,
    turn_captured,
    prune_loops,
    place_copies,
)


def run_passes(graph: Graph, passes: Sequence[Pass] = PIPELINE, watch: Watch = lambda name, graph: None) -> Graph:
    """The graph after all passes, verified after each; `watch(name, graph)` sees every stage."""
    watch("trace", verify(graph))
    for step in passes:
        graph = verify(with_bodies(graph, step))
        watch(step.__name__, graph)
    return graph


def followed(graph: Graph, passes: Sequence[Pass] = PIPELINE) -> Trail:
    """What becomes of every value of a graph in all passes."""
    trail = Trail()
    trail.end(verify(graph))
    for step in passes:
        trail.begin(step.__name__, sentence(step))
        graph = verify(with_bodies(graph, step, trail))
        trail.end(graph)
    return trail


def sentence(step: Any) -> str:
    """What a pass does, in the first sentence of its own text."""
    first = str(step.__doc__).splitlines()[0].partition(". ")[0].removesuffix(".")
    return first[0].lower() + first[1:]


def with_bodies(graph: Graph, step: Pass, trail: Trail | None = None) -> Graph:
    """The graph after a pass that went over the bodies of its loops first."""
    if not any(value.op.kind == "loop" for value in graph.values()):
        return step(graph, trail)
    done: dict[ops.Body, ops.Body] = {}

    def visit(value: Value) -> Value | None:
        if value.op.kind != "loop" or value.attrs["body"] in done.values():
            return None
        body = value.attrs["body"]
        done.setdefault(body, ops.Body(with_bodies(body.graph, step, trail)))
        return replace(value, attrs=value.attrs | {"body": done[body]})

    return step(rebuild(graph, visit, trail), trail)

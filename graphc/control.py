"""Loops and branches that stay loops and branches in the compiled function: `scan` and `cond`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.errors import ShapeError, TraceError
from graphc.ir import ops
from graphc.ir.graph import Graph, Output, Value, reachable, recording, user_origin
from graphc.ir.rewrite import renewed
from graphc.ir.types import Extent
from graphc.settings import check_function, check_switch, shown
from graphc.structure import leaves, mapped, rebuilt, same_form
from graphc.tensor import Tensor, as_extent, as_tensor
from graphc.tensor.tracing import current_trace


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: Any = None,
    *,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Carry a state through the slices of arrays, as `jax.lax.scan` does.

    f        (state, slice) -> (new state, what is stacked); traced once, so the graph does not grow with the length
    init     the first state: a tensor, or tuples, lists and dictionaries of tensors; every step keeps shapes and dtypes
    xs       arrays of one leading extent [length, ...], in any such form, or None
    length   number of steps where there are no xs
    reverse  from the last slice to the first; stacks keep the order of the slices

    Returns (last state, stacks [length, ...] of what f gave). What f takes from outside and does not depend on the
    state or the slice is computed once, before the loop. Gradients flow through all of it.

    Raises ShapeError when the extents of xs differ or a state changes its type; TraceError for what cannot be repeated.
    """
    check_function("f", f, takes=2)
    check_switch("reverse", reverse)
    starts = [as_tensor(leaf) for leaf in leaves(init)]
    arrays = [as_tensor(leaf) for leaf in leaves(xs)]
    count = steps_of(arrays, length)
    states = [ops.input(name=f"c{number}", role="state", type=start.type) for number, start in enumerate(starts)]
    slices = [
        ops.input(name=f"x{number}", role="data", type=array.type.with_shape(array.value.shape[1:]))
        for number, array in enumerate(arrays)
    ]
    arguments = rebuilt(init, map(Tensor, states)), None if xs is None else rebuilt(xs, map(Tensor, slices))
    found, made = traced("scan", f, *arguments)
    if not isinstance(found, tuple) or len(found) != 2:
        text = f"the function of scan must return (new state, what is stacked), not {shown(found)}"
        raise TraceError(text, user_origin())
    after, given = found
    check_states(init, after, starts)
    results = [as_tensor(leaf) for leaf in leaves(given)]
    outputs = [Output("update", f"c{number}", new.value) for number, new in enumerate(map(as_tensor, leaves(after)))]
    outputs += [Output("result", f"y{number}", result.value) for number, result in enumerate(results)]
    refuse_random_numbers(made)
    inside = made & varying([*states, *slices], outputs)
    loop = repeated(inside, outputs, (states, starts), (slices, arrays), count, reverse)
    last = (Tensor(ops.part_of(loop, f"c{number}")) for number, _ in enumerate(states))
    stacks = (Tensor(ops.part_of(loop, f"y{number}")) for number, _ in enumerate(results))
    return rebuilt(init, last), rebuilt(given, stacks)


def cond(predicate: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], *operands: Any) -> Any:
    """true_fn(*operands) where the predicate, one bool, holds when the function runs; else false_fn(*operands).

    Only the branch that is taken runs, forwards and backwards. Both must return the same form, shapes and dtypes;
    raises ShapeError otherwise. To choose element by element, use `where`.
    """
    check_function("true_fn", true_fn, takes=len(operands))
    check_function("false_fn", false_fn, takes=len(operands))
    if isinstance(predicate, bool):
        return (true_fn if predicate else false_fn)(*operands)
    chosen = as_tensor(predicate)
    if chosen.value.type.count != 1:
        raise ShapeError(
            f"cond needs one bool, got {chosen.type}", user_origin(), ["choose element by element with gx.where"]
        )
    (taken, made), (other, also_made) = (traced("cond", branch, *operands) for branch in (true_fn, false_fn))
    branches = [[as_tensor(leaf) for leaf in leaves(found)] for found in (taken, other)]
    types = types_in(taken), types_in(other)
    if not same_form(taken, other) or [*leaves(types[0])] != [*leaves(types[1])]:
        raise ShapeError(f"the branches of cond return {types[0]} and {types[1]}; they must be alike", user_origin())
    holds = ops.cast(ops.reshape(ops.cast(chosen.value, dtype="bool"), shape=()), dtype="i64")
    counts = (holds, ops.sub(ops.constant(1, holds), holds))
    values = [Tensor(ops.full(value=0, type=tensor.type)) for tensor in branches[0]]
    for count, branch in zip(counts, branches, strict=True):
        states = [ops.input(name=f"c{number}", role="state", type=each.type) for number, each in enumerate(branch)]
        outputs = [Output("update", f"c{number}", each.value) for number, each in enumerate(branch)]
        loop = repeated(made | also_made, outputs, (states, values), ([], []), 1, False, count)
        values = [Tensor(ops.part_of(loop, f"c{number}")) for number, _ in enumerate(branch)]
    return rebuilt(taken, iter(values))


def steps_of(arrays: Sequence[Tensor], length: Any) -> Extent:
    """The number of steps: the leading extent of all arrays."""
    extents = [array.value.shape[0] if array.value.shape else None for array in arrays]
    extents += [] if length is None else [as_extent(length)]
    if not extents or extents[0] is None or any(extent != extents[0] for extent in extents):
        types = ", ".join(str(array.type) for array in arrays) or "nothing"
        raise ShapeError(
            f"scan needs arrays of one leading extent, or a length; got {types} and length={length}", user_origin()
        )
    return extents[0]


def check_states(before: Any, after: Any, starts: Sequence[Tensor]) -> None:
    if not same_form(before, after):
        raise ShapeError(
            f"the state of scan is {types_in(before)} at first and {types_in(after)} after a step", user_origin()
        )
    for number, (start, new) in enumerate(zip(starts, leaves(after), strict=True)):
        if as_tensor(new).type != start.type:
            raise ShapeError(
                f"state {number} of scan is {start.type} at first and {as_tensor(new).type} after a step",
                user_origin(),
                ["every step must keep shapes and dtypes; cast or reshape the first or the new state"],
            )


def types_in(structure: Any) -> Any:
    """The structure with the type of every tensor in its place."""
    return mapped(lambda leaf: as_tensor(leaf).type, structure)


def traced(name: str, f: Callable[..., Any], *arguments: Any) -> tuple[Any, set[Value]]:
    """What f gives for symbolic arguments, and all values it made.

    It may not update parameters or their gradients: that would happen once and not in every step.
    """
    trace = current_trace()
    before = None if trace is None else (dict(trace.current), dict(trace.gradients))
    with recording() as made:
        found = f(*arguments)
    if trace is not None and (trace.current, trace.gradients) != before:
        raise TraceError(
            f"the function given to {name} updates a parameter or its gradient, which only the step around it can do",
            user_origin(),
            ["return the new value from it and update after the loop; gx.grad gives gradients without backward()"],
        )
    return found, made


def varying(inputs: Sequence[Value], outputs: Sequence[Output]) -> set[Value]:
    """What depends on the inputs of a loop's body, or on what a gradient inside of it is taken by."""
    values = list(reachable(tuple(output.value for output in outputs)))
    found = {*inputs, *(value.operands[1] for value in values if value.op is ops.gradient)}
    for value in values:
        if any(operand in found for operand in value.operands):
            found.add(value)
    return found


def refuse_random_numbers(made: set[Value]) -> None:
    for value in made:
        if value.op is ops.random_bits:
            raise TraceError(
                "random numbers drawn in the function of a scan would be the same in every step",
                value.origin or user_origin(),
                ["draw them before it, with the number of steps as leading axis, and pass them as xs"],
            )


def repeated(
    inside: set[Value],
    outputs: Sequence[Output],
    states: tuple[Sequence[Value], Sequence[Tensor]],
    slices: tuple[Sequence[Value], Sequence[Tensor]],
    length: Extent,
    reverse: bool,
    count: Value | None = None,
) -> Value:
    """The loop whose body computes `outputs`, with the values `inside` in it and all others captured.

    states, slices  inputs of the body, and the tensors they start as or are slices of
    count           how many of the steps are taken at run time
    """
    body = BodyWriter({*states[0], *slices[0]}, inside)
    new = tuple(Output(output.kind, output.name, body.own(output.value)) for output in outputs)
    graph = ops.Body(Graph("body", (*states[0], *slices[0], *body.captured.values()), new))
    operands = [] if count is None else [count]
    operands += [tensor.value for tensor in (*states[1], *slices[1])] + list(body.captured)
    attrs = {"length": length, "reverse": reverse, "slices": len(slices[0]), "counted": count is not None}
    return ops.loop(*operands, body=graph, **attrs)


class BodyWriter:
    """Copies values into the body of a loop. What is captured is captured below its views, in the memory it has."""

    def __init__(self, inputs: set[Value], inside: set[Value]) -> None:
        self.inside = inside
        self.captured: dict[Value, Value] = {}
        self.done: dict[Value, Value] = {value: value for value in inputs}

    def own(self, value: Value) -> Value:
        """The value over inputs of the body."""
        stack = [value]
        while stack:
            each = stack[-1]
            if each in self.done:
                stack.pop()
            elif not self.is_copied(each):
                self.done[each] = self.capture(each)
            else:
                missing = [operand for operand in each.operands if operand not in self.done]
                stack.extend(missing)
                if not missing:
                    self.done[each] = renewed(each, self.done)
        return self.done[value]

    def is_copied(self, value: Value) -> bool:
        return value.op is not ops.input and (value in self.inside or value.op.kind in ("view", "source"))

    def capture(self, value: Value) -> Value:
        captured = ops.input(name=f"k{len(self.captured)}", role="data", type=value.type)
        self.captured[value] = captured
        return captured

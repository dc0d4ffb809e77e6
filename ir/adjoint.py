"""The gradient of a loop: a loop over the same steps from the other end.

The body of the loop backwards is the adjoint of the body. What it reads of the steps gone by is stacked by the loop
itself, which is replaced by one that gives these stacks as well. A product whose sum over all steps is wanted (the
gradient of a weight) is taken once, after the loop, over the stacked operands; so is a sum of the rows of a matrix that
is stacked anyway (the gradient of a bias).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from graphc.ir import ops
from graphc.ir.access import is_constant
from graphc.ir.graph import Graph, Output, Value, located, reachable
from graphc.ir.residuals import LOADED, STACKED, computed_again
from graphc.ir.rewrite import hand_out, renewed
from graphc.ir.trail import Trail
from graphc.ir.types import FLOATS, Shape, multiply

Cotangents = dict[Value, Value]
Grown = dict[Value, Value]  # loops -> the same loops with more results
PullBack = Callable[[Cotangents, tuple[Value, ...], Grown], Cotangents]
Factors = tuple[Value, Value, int]  # both operands of a product, and how often its result is transposed
Later = tuple[tuple[Value, ...], Callable[..., Value]]  # matrices of a step, and what to make of their stacks


def pull_back_loop(loop: Value, given: Cotangents, grown: Grown, pull_back: PullBack) -> Sequence[Value | None]:
    """A cotangent, or None, for each operand of a loop.

    given  cotangents of its parts
    grown  is told of the loop that stacks what is read of each step
    """
    adjoint = Adjoint(loop, {part.attrs["name"]: cotangent for part, cotangent in given.items()})
    wanted = tuple(value for value in adjoint.body.inputs if value.dtype in FLOATS)
    return adjoint.finish(pull_back(adjoint.seeds, wanted, adjoint.inner), grown)


def slope_name(value: Value) -> str:
    """What the loop backwards calls the cotangent of an input of the body."""
    return f"d.{value.attrs['name']}"


class Adjoint:
    """A loop backwards while it is put together.

    seeds     cotangents of what the body gives: carried from step to step, or arriving slice by slice
    carries   state input of the loop backwards -> where it starts; `updates` has its new value
    slices    data input -> the stack it is a slice of
    captured  data input -> the operand it is
    results   what is stacked, by name
    inner     the loops of the body that have to give more than they did
    again     values of the loop forwards that are computed again
    """

    def __init__(self, loop: Value, given: dict[str, Value]) -> None:
        self.loop = loop
        self.body: Graph = loop.attrs["body"].graph
        self.roles = ops.Roles(loop)
        self.seeds: Cotangents = {}
        self.carries: dict[Value, Value] = {}
        self.updates: dict[str, Value] = {}
        self.slices: dict[Value, Value] = {}
        self.captured: dict[Value, Value] = {}
        self.results: dict[str, Value] = {}
        self.kept: dict[Value, str] = {}
        self.mine: dict[Value, Value] = {}
        self.inner: Grown = {}
        self.again: set[Value] = set()
        self.names = {value.attrs["name"] for value in self.body.inputs} | {each.name for each in self.body.outputs}
        states = {state.attrs["name"]: state for state, _ in self.roles.carried}
        for output in self.body.outputs:
            if output.value.dtype not in FLOATS:
                continue
            if output.kind == "update":
                state = states[output.name]
                self.seed(output, self.carry(state, given.get(output.name)))
            elif output.name in given:
                self.seed(output, self.slice(f"d.{output.name}", output.value, given[output.name]))

    def seed(self, output: Output, cotangent: Value) -> None:
        known = self.seeds.get(output.value)
        self.seeds[output.value] = cotangent if known is None else ops.add(known, cotangent)

    def carry(self, like: Value, start: Value | None) -> Value:
        """A cotangent of the type of `like` that goes from step to step."""
        carried = ops.input(name=slope_name(like), role="state", type=like.type)
        self.carries[carried] = start if start is not None else ops.full(value=0.0, type=like.type)
        return carried

    def slice(self, name: str, like: Value, stack: Value) -> Value:
        arriving = ops.input(name=name, role="data", type=like.type)
        self.slices[arriving] = stack
        return arriving

    # -- putting it together

    def finish(self, found: Cotangents, grown: Grown) -> list[Value | None]:
        for state, _ in self.roles.carried:
            if state.dtype in FLOATS:
                self.updates[slope_name(state)] = found.get(state) or ops.full(value=0.0, type=state.type)
        for data, _ in self.roles.slices:
            if data in found:
                self.results[slope_name(data)] = found[data]
        terms = {data: [*summands(found[data])] for data, _ in self.roles.captured if data in found}
        stacked = self.stacked(terms.values())
        later = {data: self.gather_up(data, each, stacked) for data, each in terms.items()}
        matrices = dict.fromkeys(matrix for each in later.values() for some, _ in each for matrix in some)
        stacks = {matrix: self.plan_stack(matrix) for matrix in matrices}
        forward, back = self.build(grown)

        def handed_out(value: Value) -> Value | None:
            name = slope_name(value)
            return ops.part_of(back, name) if name in self.updates or name in self.results else None

        cotangents: list[Value | None] = [None] if self.roles.trips is not None else []
        cotangents += [handed_out(value) for value, _ in (*self.roles.carried, *self.roles.slices)]
        for data, _ in self.roles.captured:
            total = handed_out(data)
            for some, made_of in later.get(data, ()):
                one = made_of(*(stacks[matrix](forward, back) for matrix in some))
                total = one if total is None else ops.add(total, one)
            cotangents.append(total)
        return cotangents

    def stacked(self, terms: Iterable[list[Value]]) -> set[Value]:
        """The matrices that are stacked whatever becomes of the rest of the terms."""
        factors = (factors_of(term) for each in terms for term in each)
        found = {factor for pair in factors if pair is not None for factor in pair[:2]}
        return {*self.results.values(), *(each.operands[0] if each.op is ops.transpose else each for each in found)}

    def gather_up(self, data: Value, terms: list[Value], stacked: set[Value]) -> list[Later]:
        """What of a captured value's cotangent is made after the loop; the other terms are summed from step to step."""
        later = [None if self.roles.trips is not None else made_later(term, stacked) for term in terms]
        rest = [term for term, found in zip(terms, later, strict=True) if found is None]
        if rest:
            total = self.carry(data, None)
            for term in rest:
                total = ops.add(total, term)
            self.updates[slope_name(data)] = total
        return [found for found in later if found is not None]

    def plan_stack(self, factor: Value) -> Callable[[Value, Value], Value]:
        """How to get, from the loop forwards and the one backwards, the stack of a factor over all steps."""
        source, turned = (factor.operands[0], True) if factor.op is ops.transpose else (factor, False)
        length = self.loop.attrs["length"]
        given = dict(self.roles.slices)
        if source in given:
            stack = given[source]
            return lambda forward, back: merged(stack, turned)
        if source in self.marked((source,)):
            name = next(
                (name for name, value in self.results.items() if value is source), f"factor.{len(self.results)}"
            )
            self.results[name] = source
            return lambda forward, back: merged(ops.part_of(back, name), turned)
        if source in dict(self.roles.captured):
            whole = ops.reshape(dict(self.roles.captured)[source], shape=(1, *source.shape))
            return lambda forward, back: merged(ops.broadcast(whole, shape=(length, *source.shape)), turned)
        self.keep(source)
        return lambda forward, back: merged(ops.part_of(forward, self.kept[source]), turned)

    def build(self, grown: Grown) -> tuple[Value, Value]:
        """The loop forwards, giving what it has to, and the loop backwards."""
        outputs = [Output("update", name, value) for name, value in self.updates.items()]
        outputs += [Output("result", name, value) for name, value in self.results.items()]
        backwards = self.marked(tuple(output.value for output in outputs))
        residuals: dict[Value, Value] = {}
        self.again = computed_again(self.read(outputs, backwards), partial(self.price, known=self.known(grown)))
        outputs = [replace(output, value=self.own(output.value, backwards, residuals)) for output in outputs]
        with located(self.loop.origin):  # what it gives more is still made on the way forward
            forward = self.grow(grown)
            for arriving, value in residuals.items():
                self.slices[arriving] = ops.part_of(forward, self.kept[value])
        body, reverse = Graph("backwards", (), tuple(outputs)), not self.loop.attrs["reverse"]
        inputs = (self.carries.items(), self.slices.items(), self.captured.items())
        return forward, ops.with_body(self.loop, body, *inputs, reverse=reverse)

    def marked(self, roots: tuple[Value, ...]) -> set[Value]:
        """The values that depend on a cotangent."""
        found = {*self.carries, *self.slices}
        for value in reachable(roots):
            if any(operand in found for operand in value.operands):
                found.add(value)
        return found

    def read(self, outputs: list[Output], backwards: set[Value]) -> list[Value]:
        """The values of the loop forwards that the loop backwards reads, through views."""
        found: dict[Value, None] = {}
        seen: set[Value] = set()
        stack = [output.value for output in outputs]
        while stack:
            value = stack.pop()
            if value in seen or is_constant(value):
                continue
            seen.add(value)
            if value in backwards or value.op.kind == "view":
                stack.extend(value.operands)
            else:
                found[value] = None
        return list(found)

    def known(self, grown: Grown) -> set[Value]:
        """The values that are stacked already, whatever is read."""
        body: Graph = self.latest(grown).attrs["body"].graph
        return {*dict(self.roles.slices), *self.kept, *(output.value for output in body.of_kind("result"))}

    def price(self, value: Value, known: set[Value]) -> int:
        """Of a byte of a value that the loop backwards is brought."""
        if value in dict(self.roles.captured):
            return 0
        return LOADED if value in known else STACKED

    def own(self, value: Value, backwards: set[Value], residuals: dict[Value, Value]) -> Value:
        """The value over inputs of the loop backwards: those of the loop forwards come as slices or whole."""
        stack = [value]
        while stack:
            each = stack[-1]
            if each in self.mine:
                stack.pop()
                continue
            copies = each in backwards or each in self.again or each.op.kind == "view" or is_constant(each)
            if not copies or each in self.carries or each in self.slices:
                self.mine[each] = each if each in backwards else self.bring(each, residuals)
                continue
            missing = [operand for operand in each.operands if operand not in self.mine]
            stack.extend(missing)
            if not missing:
                self.mine[each] = renewed(each, self.mine)
        return self.mine[value]

    def bring(self, value: Value, residuals: dict[Value, Value]) -> Value:
        """A value of the loop forwards, as an input of the loop backwards."""
        slices, captured = dict(self.roles.slices), dict(self.roles.captured)
        if value in slices:
            return self.slice(value.attrs["name"], value, slices[value])
        if value in captured:
            self.captured[value] = captured[value]
            return value
        arriving = ops.input(name=self.keep(value), role="data", type=value.type)
        residuals[arriving] = value
        return arriving

    def keep(self, value: Value) -> str:
        """The name under which the loop forwards stacks a value."""
        if value not in self.kept:
            self.kept[value] = free_name("kept", self.names)
        return self.kept[value]

    def latest(self, grown: Grown) -> Value:
        """The loop as it has become for other gradients."""
        found = self.loop
        while found in grown:
            found = grown[found]
        return found

    def grow(self, grown: Grown) -> Value:
        """The loop with a stack of everything that is kept, in place of the loop it was."""
        latest = self.latest(grown)
        if not self.kept:
            return latest
        body: Graph = latest.attrs["body"].graph
        known = {output.name for output in body.outputs}
        given = {output.value: output.name for output in body.of_kind("result")}
        names = {value: free_name(name, known) for value, name in self.kept.items() if value not in given}
        self.kept.update({value: given.get(value) or names[value] for value in self.kept})
        more = tuple(Output("result", name, value) for value, name in names.items())
        larger = with_grown(replace(body, outputs=(*body.outputs, *more)), self.inner)
        grown[latest] = ops.loop(*latest.operands, **latest.attrs | {"body": ops.Body(larger)})
        return grown[latest]


def free_name(name: str, known: set[str]) -> str:
    number, candidate = 0, name
    while candidate in known:
        number += 1
        candidate = f"{name}.{number}"
    known.add(candidate)
    return candidate


def with_grown(graph: Graph, grown: Grown, trail: Trail | None = None) -> Graph:
    """The graph over the latest form of each of its loops."""
    if not grown:
        return graph
    new: dict[Value, Value] = {}
    stack = [output.value for output in graph.outputs]
    while stack:
        value = latest = stack[-1]
        if value in new:
            stack.pop()
            continue
        while latest in grown:
            latest = grown[latest]
        missing = [operand for operand in latest.operands if operand not in new]
        stack.extend(missing)
        if not missing:
            new[stack.pop()] = renewed(latest, new)
    return hand_out(graph, new, trail)


def summands(value: Value) -> Iterator[Value]:
    """The terms of a sum."""
    if value.op is ops.add:
        for operand in value.operands:
            yield from summands(operand)
    else:
        yield value


def made_later(term: Value, stacked: set[Value]) -> Later | None:
    """How a product or the sum of a stacked matrix's rows is made for all steps at once; None for other terms."""
    factors = factors_of(term)
    if factors is not None:
        return factors[:2], partial(product_of_stacks, turns=factors[2])
    total = term.operands[0] if term.op is ops.reshape else term
    if total.op is not ops.sum or total.attrs["axes"] != (0,) or len(total.shape) != 2:
        return None
    if total.operands[0] not in stacked:
        return None
    return total.operands, partial(sum_of_stack, shape=term.shape)


def product_of_stacks(left: Value, right: Value, turns: int) -> Value:
    """[steps * k, m] and [steps * k, n] -> [m, n], or its transpose."""
    product = ops.dot(ops.transpose(left, permutation=(1, 0)), right)
    return ops.transpose(product, permutation=(1, 0)) if turns % 2 else product


def sum_of_stack(rows: Value, shape: Shape) -> Value:
    """[steps * k, n] -> n numbers, in a shape."""
    return ops.reshape(ops.sum(rows, axes=(0,)), shape=shape)


def factors_of(value: Value) -> Factors | None:
    """(a, b, turns) for aᵀ b of two matrices, with its transposes counted; None for anything else."""
    turns = 0
    while value.op is ops.transpose and len(value.shape) == 2 and value.attrs["permutation"] == (1, 0):
        value, turns = value.operands[0], turns + 1
    if value.op is not ops.dot or len(value.shape) != 2:
        return None
    left, right = value.operands
    turned = left.operands[0] if left.op is ops.transpose else ops.transpose(left, permutation=(1, 0))
    return turned, right, turns


def merged(stack: Value, turned: bool) -> Value:
    """[steps, k, n], or [steps, n, k] turned, as [steps * k, n]."""
    if turned:
        stack = ops.transpose(stack, permutation=(0, 2, 1))
    shape: Shape = (multiply(*stack.shape[:2]), stack.shape[2])
    return ops.reshape(stack, shape=shape)

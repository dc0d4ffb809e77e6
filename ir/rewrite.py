"""Rewrite rules as text, and the copy of a graph that applies them.

A rule is one line, `pattern => replacement`, with an optional ` if guard(x)`. Single names stand for values, numbers
and `inf` for constants of any shape, calls for ops, keywords (`axes=a`) for attributes bound by name, `*i` for all
operands that are left. A commutative op matches in either order. `within(sqrt(x), c)` is an elementwise formula with a
square root somewhere in it, not further down than what the condition c tests; on the right, the same formula with
something else there. A rule keeps the type of what it replaces, which is checked whenever one fires.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from graphc.ir import ops
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph, IRError, Value, located
from graphc.ir.ops.elementwise import flat
from graphc.ir.types import FLOATS

if TYPE_CHECKING:
    from graphc.ir.trail import Trail

BINARY: dict[type[ast.operator], str] = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}
Bindings = dict[str, Any]
Macros = Mapping[str, Callable[..., Value]]
Guards = Mapping[str, Callable[..., bool]]
Visit = Callable[[Value], Value | None]
DEEPEST = 8  # how far `within` and the guards look down


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a rule table.

    root     the op it is looked up by
    guard    the name after `if`, and `guarded` its arguments: names and numbers
    reason   what it is good for, in the words of the comment over it
    """

    text: str
    pattern: ast.expr
    replacement: ast.expr
    root: str
    guard: str = ""
    guarded: tuple[ast.expr, ...] = ()
    reason: str = ""

    def applies(self, bound: Bindings, guards: Guards) -> bool:
        """Its guard, if it has one, lets it be used."""
        return not self.guard or guards[self.guard](*(argument_of(each, bound) for each in self.guarded))


Note = Callable[[Rule, Value], None]


def no_note(rule: Rule, value: Value) -> None:
    """For who does not want to know."""


@cache
def parts(expression: ast.expr) -> tuple[str, list[ast.expr], list[ast.keyword]]:
    """The op name, operand expressions and attribute keywords of one pattern node."""
    match expression:
        case ast.BinOp(left, operator, right):
            return BINARY[type(operator)], [left, right], []
        case ast.UnaryOp(ast.USub(), operand):
            return "neg", [operand], []
        case ast.Call(ast.Name(name), arguments, keywords):
            return name, arguments, keywords
    raise IRError(f"not a pattern: {ast.unparse(expression)}")


@cache
def number(expression: ast.expr) -> float | None:
    """The value of a literal number, signed or not."""
    match expression:
        case ast.Constant(int() | float() as value):
            return float(value)
        case ast.Name("inf"):
            return math.inf
        case ast.UnaryOp(ast.USub(), operand):
            found = number(operand)
            return None if found is None else -found
    return None


def rules(table: str) -> list[Rule]:
    """The rules of a table: one a line. A comment gives the reason for the rules below it."""
    found: list[Rule] = []
    reason = ""
    for line in table.splitlines():
        body, _, comment = (part.strip() for part in line.partition("#"))
        if body:
            found.append(parse_rule(body, comment or reason))
        elif comment:
            reason = comment
    return found


def parse_rule(line: str, reason: str = "") -> Rule:
    body, _, condition = line.partition(" if ")
    left, right = (ast.parse(side.strip(), mode="eval").body for side in body.split("=>"))
    if not condition:
        return Rule(line, left, right, parts(left)[0], reason=reason)
    guard, arguments, _ = parts(ast.parse(condition.strip(), mode="eval").body)
    return Rule(line, left, right, parts(left)[0], guard, tuple(arguments), reason)


def argument_of(expression: ast.expr, bound: Bindings) -> Any:
    """What a guard is told: a number, or what a name is bound to."""
    return bound[expression.id] if isinstance(expression, ast.Name) and expression.id in bound else number(expression)


def match(pattern: ast.expr, value: Value, bound: Bindings) -> Iterator[Bindings]:
    """Every way the pattern fits the value, as bindings of its names."""
    wanted = number(pattern)
    if wanted is not None:
        if value.op is ops.full and float(value.attrs["value"]) == wanted:
            yield bound
        return
    if isinstance(pattern, ast.Name):
        if bound.get(pattern.id, value) is value:
            yield {**bound, pattern.id: value}
        return
    name, arguments, keywords = parts(pattern)
    if name == "within":
        condition = argument_of(arguments[1], bound)
        yield from match_within(arguments[0], value, condition, bound)
        return
    if value.op.name != name:
        return
    for keyword in keywords:
        assert isinstance(keyword.arg, str) and isinstance(keyword.value, ast.Name)
        if bound.setdefault(keyword.value.id, value.attrs[keyword.arg]) != value.attrs[keyword.arg]:
            return
    orders = [value.operands, value.operands[::-1]] if value.op.commutes else [value.operands]
    for operands in orders:
        yield from match_all(arguments, operands, dict(bound))


def match_all(patterns: list[ast.expr], values: tuple[Value, ...], bound: Bindings) -> Iterator[Bindings]:
    if patterns and isinstance(patterns[0], ast.Starred):
        yield {**bound, ast.unparse(patterns[0].value): values}
        return
    if not patterns or not values:
        if not patterns and not values:
            yield bound
        return
    for found in match(patterns[0], values[0], dict(bound)):
        yield from match_all(patterns[1:], values[1:], found)


def match_within(pattern: ast.expr, whole: Value, c: Value, bound: Bindings) -> Iterator[Bindings]:
    """Every place in a formula that the pattern fits; `within` is bound to the formula and that place."""
    name, _, _ = parts(pattern)
    places, opened = formula(whole, c)
    for place in places:
        if place.op.name == name:
            for found in match(pattern, place, dict(bound)):
                yield {**found, "within": (whole, place, opened)}


def formula(whole: Value, c: Value) -> tuple[dict[Value, int], set[Value]]:
    """A value and what it is computed of element by element, users first, and those of them that are looked into.

    It ends at what the condition tests, and at the second choice: with each value, how many choices it is below.
    """
    ends, places, level = tested_by(c), {whole: 0}, [whole]
    opened: set[Value] = set()
    for _ in range(DEEPEST):
        level = [value for value in level if value not in ends and is_seen_through(value, places[value])]
        if not level:
            break
        opened.update(level)
        below: dict[Value, int] = {}
        for value in level:
            found = (each for each in value.operands if each not in places and each.dtype in FLOATS)
            below |= dict.fromkeys(found, places[value] + (value.op is ops.where))
        places |= below
        level = list(below)
    return places, opened


def is_seen_through(value: Value, choices: int) -> bool:
    """What has no gradient is not, nor is a copy, which keeps apart what a gradient is taken by."""
    if value.op.kind != "elementwise" or value.op is ops.copy or value.op.vjp is flat:
        return False
    return value.op is not ops.where or choices == 0


def tested_by(c: Value) -> set[Value]:
    """What the comparisons in a condition compare."""
    seen, stack = {c}, [c]
    while stack:
        value = stack.pop()
        if value.dtype == "bool":
            stack += [operand for operand in value.operands if operand not in seen]
            seen.update(value.operands)
    return seen


def substituted(whole: Value, place: Value, new: Value, opened: set[Value]) -> Value:
    """The formula with a new value at one place."""
    made = {place: new}

    def remade(value: Value) -> Value:
        if value not in made:
            made[value] = with_operands(value, tuple(map(remade, value.operands))) if value in opened else value
        return made[value]

    return remade(whole)


def build(expression: ast.expr, bound: Bindings, like: Value, macros: Macros) -> Value:
    """The value an expression stands for; a bare number takes the type of `like`, a macro expands."""
    constant = number(expression)
    if constant is not None:
        return ops.full(value=constant, type=like.type)
    if isinstance(expression, ast.Name):
        found: Value = bound[expression.id]
        return found
    name, arguments, keywords = parts(expression)
    if name == "within" and "within" in bound:
        whole, place, opened = bound["within"]
        with located(place.origin):
            new = build(arguments[0], bound, place, macros)
        return substituted(whole, place, new, opened)
    rest = [value for each in arguments if isinstance(each, ast.Starred) for value in bound[ast.unparse(each.value)]]
    arguments = [each for each in arguments if not isinstance(each, ast.Starred)]
    made = [None if number(argument) is not None else build(argument, bound, like, macros) for argument in arguments]
    model = next((value for value in reversed(made) if value is not None and value.dtype != "bool"), like)
    operands = [
        value if value is not None else build(argument, bound, model, macros)
        for value, argument in zip(made, arguments, strict=True)
    ]
    attrs = {str(keyword.arg): bound[ast.unparse(keyword.value)] for keyword in keywords}
    return (macros.get(name) or ops.OPS[name])(*operands, *rest, **attrs)


def with_operands(value: Value, operands: tuple[Value, ...]) -> Value:
    """The value over other operands of the same types; itself when they are its own."""
    if operands == value.operands:
        return value
    return Value(value.op, operands, value.attrs, value.type, value.origin, value.owner)


def renewed(value: Value, new: Mapping[Value, Value]) -> Value:
    """The value over what has become of its operands."""
    return with_operands(value, tuple(new[operand] for operand in value.operands))


def hand_out(graph: Graph, new: Mapping[Value, Value], trail: Trail | None = None) -> Graph:
    """The graph with the new value of every output in place of the old."""
    if trail is not None:
        others = [(value, better) for value, better in new.items() if better.attrs is not value.attrs]
        trail.known.update(set(new.values()).difference(better for _, better in others))
        for value, better in others:  # over other operands, a value keeps its attributes
            trail.replaced(value, better)
        trail.became(new)
    return replace(graph, outputs=tuple(replace(output, value=new[output.value]) for output in graph.outputs))


def rebuild(graph: Graph, visit: Visit, trail: Trail | None = None) -> Graph:
    """Copy the graph operands first, offering each value to `visit`; values that compute the same become one.

    But for those a gradient is taken by: a twin of such a value is another variable. `trail` is told what each becomes.
    """
    variables = {value.operands[1] for value in graph.values() if value.op is ops.gradient}
    new: dict[Value, Value] = {}
    known: dict[Any, Value] = {}

    def settle(value: Value) -> Value:
        """The value after all rewriting, its freshly made operands included."""
        if value in new:
            return new[value]
        settled = with_operands(value, tuple(settle(operand) for operand in value.operands))
        better = visit(settled)
        if better is None:
            alone = settled.op is ops.input or value in variables
            found = settled if alone else known.setdefault(settled.key(), settled)
            new[value] = new[settled] = new[found] = found
            if trail is not None:
                trail.known.add(found)
            return found
        if better.type != settled.type:
            raise IRError(f"rewriting changed {settled.op.name} from {settled.type} to {better.type}")
        if trail is not None:
            trail.replaced(value, better)
        new[value] = new[settled] = settle(better)
        return new[value]

    for value in graph.values():
        settle(value)
    if trail is not None:
        trail.became(new)
    return hand_out(graph, new)


def rewriter(table: list[Rule], guards: Guards, macros: Macros, note: Note = no_note) -> Visit:
    """A visit function that applies the first rule of the table that fits; `note` is told of it and of the value."""
    by_root: dict[str, list[Rule]] = {}
    for rule in table:
        by_root.setdefault(rule.root, []).append(rule)

    def visit(value: Value) -> Value | None:
        for rule in by_root.get(value.op.name, ()):
            for bound in match(rule.pattern, value, {}):
                if not rule.applies(bound, guards):
                    continue
                note(rule, value)
                with located(value.origin):
                    return build(rule.replacement, bound, value, macros)
        return None

    return visit

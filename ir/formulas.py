"""A value as a formula people read: `relu(x @ w1.T + b1)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.ir import ops
from graphc.ir.graph import Value
from graphc.ir.ops.record import Op
from graphc.ir.types import FLOATS, Extent

Text = tuple[str, int]  # a formula and how strongly it holds together
ATOM, POWER, MINUS, TIMES, PRODUCT, PLUS, AND, OR, COMPARISON = 9, 8, 7, 6, 5, 4, 3, 2, 1
INFIX: dict[Op, tuple[str, int]] = {
    ops.add: ("+", PLUS), ops.sub: ("-", PLUS), ops.mul: ("*", TIMES), ops.div: ("/", TIMES), ops.dot: ("@", PRODUCT),
    ops.pow: ("**", POWER), ops.logical_and: ("&", AND), ops.logical_or: ("|", OR), ops.less: ("<", COMPARISON),
    ops.less_equal: ("<=", COMPARISON), ops.equal: ("==", COMPARISON), ops.not_equal: ("!=", COMPARISON),
}  # fmt: skip
ASSOCIATIVE = (ops.add, ops.mul, ops.logical_and, ops.logical_or)
UNSEEN = (ops.copy, ops.stop_gradient, ops.require_range, ops.custom, ops.broadcast, ops.reshape)  # same numbers
LONGEST, SHORTEST = 88, 20  # characters of a whole formula, and of the least that is left of an operand
DEEPEST, VERY_LONG = 40, 1000


def formula(value: Value, names: Mapping[Value, str], longest: int = LONGEST) -> str:
    """How a value is computed of those that have names; `…` stands for what would make it too long."""
    return Writer(names).whole(value, longest)


def named(value: Value, names: Mapping[Value, str], longest: int = LONGEST) -> str:
    """`name = formula`."""
    name = names[value]
    return f"{name} = {formula(value, names, max(longest - len(name) - 3, SHORTEST))}"


class Writer:
    """Writes formulas over values that have names. Views that change no number's place in the eye of who reads a
    formula, such as a broadcast, are not seen in it."""

    def __init__(self, names: Mapping[Value, str]) -> None:
        self.names = names
        self.sizes: dict[Value, int] = {}

    def whole(self, value: Value, room: int) -> str:
        return self.made(value, room, 0)[0]

    def text(self, value: Value, room: int, depth: int) -> Text:
        """A value by its name, or as it is made."""
        if value in self.names:
            return self.names[value], ATOM
        return ("…", ATOM) if depth > DEEPEST else self.made(value, room, depth)

    def made(self, value: Value, room: int, depth: int) -> Text:
        op = value.op
        if op in UNSEEN:
            return self.text(value.operands[0], room, depth + 1)
        if op is ops.cast and (value.dtype in FLOATS) == (value.operands[0].dtype in FLOATS):
            return self.text(value.operands[0], room, depth + 1)
        if op.kind == "source":
            return source_text(value), ATOM
        if op in INFIX:
            return self.infix(value, room, depth)
        if op is ops.neg:
            return f"-{self.operand(value.operands[0], MINUS, room - 1, depth)}", MINUS
        if op is ops.logical_not:
            return f"~{self.operand(value.operands[0], MINUS, room - 1, depth)}", MINUS
        if op.kind in ("view", "gather"):
            return self.view(value, room, depth)
        if op.kind == "part":
            return f"loop.{value.attrs['name']}", ATOM
        return self.call(function_name(value), value.operands, extra(value), room, depth), ATOM

    def operand(self, value: Value, least: int, room: int, depth: int) -> str:
        """In brackets where it would fall apart."""
        text, strength = self.text(value, room, depth + 1)
        return text if strength >= least else f"({text})"

    def infix(self, value: Value, room: int, depth: int) -> Text:
        sign, strength = INFIX[value.op]
        left, right = value.operands
        again = value.op in ASSOCIATIVE and seen_through(right).op is value.op
        rights = strength if again else MINUS if value.op is ops.dot else strength + 1
        lefts = strength + 1 if strength in (POWER, COMPARISON) else strength
        sides = [(left, lefts), (right, rights)]
        texts = self.fitted(sides, room - len(sign) - 2, depth)
        return ("…", ATOM) if set(texts) == {"…"} else (f" {sign} ".join(texts), strength)

    def call(self, name: str, operands: Sequence[Value], rest: Sequence[str], room: int, depth: int) -> str:
        taken = len(name) + 2 + sum(len(each) + 2 for each in rest) + 2 * (len(operands) - 1)
        return f"{name}({', '.join([*self.fitted([(each, 0) for each in operands], room - taken, depth), *rest])})"

    def fitted(self, sides: Sequence[tuple[Value, int]], room: int, depth: int) -> list[str]:
        """Operands in a room for all of them: those that need little leave theirs to the others; `…` where there is
        none. Each comes with how strongly it has to hold together."""
        found = [""] * len(sides)
        order = sorted(range(len(sides)), key=lambda number: self.size(sides[number][0]))
        for rest, number in zip(range(len(sides), 0, -1), order, strict=True):
            value, least = sides[number]
            own = room // rest
            fits = self.size(value) <= max(own, 1) or own >= SHORTEST
            found[number] = self.operand(value, least, own, depth) if fits else "…"
            room -= len(found[number])
        return found

    def size(self, value: Value) -> int:
        """About how long a formula would be if nothing was left out of it."""
        stack = [value]
        while stack:
            each = stack[-1]
            known = self.names.get(each)
            below = [] if known is not None else [one for one in each.operands if one not in self.sizes]
            stack.extend(below)
            if not below:
                inside = sum(self.sizes[one] + 3 for one in each.operands) if known is None else 0
                seen = each.op in UNSEEN or each.op.kind == "view"
                own = source_text(each) if each.op.kind == "source" else "" if seen else each.op.name
                self.sizes[stack.pop()] = min(len(known) if known is not None else inside + len(own), VERY_LONG)
        return self.sizes[value]

    def view(self, value: Value, room: int, depth: int) -> Text:
        x, *indices = value.operands
        if value.op is ops.transpose:
            order = value.attrs["permutation"]
            swapped = order == ops.swapped(len(order))
            after = ".T" if swapped else f".transpose{order}"
            return self.operand(x, ATOM, room - len(after), depth) + after, ATOM
        if value.op is ops.slice:
            after = f"[{', '.join(map(cut_text, value.attrs['start'], value.attrs['step'], value.shape, x.shape))}]"
            return self.operand(x, ATOM, room - len(after), depth) + after, ATOM
        if value.op is ops.gather:
            table = self.operand(x, ATOM, room // 2, depth)
            index = [self.text(each, (room - len(table)) // len(indices), depth + 1)[0] for each in indices]
            return f"{table}[{', '.join(index[-1 - k] if k < 0 else ':' for k in value.attrs['places'])}]", ATOM
        return self.call(value.op.name, value.operands, (), room, depth), ATOM


def seen_through(value: Value) -> Value:
    while value.op in UNSEEN:
        value = value.operands[0]
    return value


def source_text(value: Value) -> str:
    """A constant, a size, a ramp or an input."""
    if value.op is ops.full:
        return number_text(value.attrs["value"])
    if value.op is ops.size:
        return str(value.attrs["extent"])
    if value.op is ops.iota:
        return f"indices(axis={value.attrs['axis']})"
    return str(value.attrs.get("name", value.op.name))


def number_text(number: float) -> str:
    """`0.1`, `2`, `-inf`: with six digits, as people write numbers."""
    return str(number) if isinstance(number, (bool, int)) else f"{number:g}"


def function_name(value: Value) -> str:
    if value.op is ops.cast:
        return str(value.attrs["dtype"])
    return value.op.name


def extra(value: Value) -> tuple[str, ...]:
    """What a call says besides its operands: the axes that are summed over, where there are others."""
    axes = value.attrs.get("axes", ())
    if value.op.kind == "reduce" and len(axes) < sum(extent != 1 for extent in value.operands[0].shape):
        return (f"axis={axes[0] if len(axes) == 1 else axes}",)
    if value.op.kind == "sweep":
        return (f"axis={value.attrs['axis']}",)
    return (f"{value.attrs['length']} steps",) if value.op.kind == "loop" else ()


def cut_text(start: Extent, step: int, count: Extent, extent: Extent) -> str:
    """One axis of a slice."""
    if start == 0 and step == 1 and count == extent:
        return ":"
    if count == 1:
        return f"{start}:{start}+1" if not isinstance(start, int) else f"{start}:{start + 1}"
    if step == 1 and isinstance(start, int) and isinstance(count, int):
        return f"{start or ''}:{start + count}"
    return f"{start}::{step}" if step != 1 else f"{start}:{start}+{count}"

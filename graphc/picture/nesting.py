"""A graph as boxes in boxes: every op, inside the modules of the user's model, repeated blocks once.

The forward pass, the backward pass and the updates are boxes of their own. What one of them takes from another, states
and scalars stand as small cards where they are read. A value that leaves a module goes through a small card at its
edge, so that each module reads like a function.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from graphc.ir.graph import Graph, Output, Value
from graphc.picture.layers import owner_of

FEWEST = 3  # blocks that are drawn once


@dataclass(eq=False, slots=True)
class Reference:
    """What is read here and made elsewhere: a state, a scalar, a value of another part."""

    value: Value


@dataclass(eq=False, slots=True)
class Port:
    """Values that come into a box, or leave it."""

    values: tuple[Value, ...]
    inward: bool


@dataclass(eq=False, slots=True)
class Box:
    """A module in one part.

    path    of the module, with what encloses it; of a parameter for what updates it
    items   what stands in it
    links   which items lead to which, with the values they carry
    alike   names of the others it stands for
    """

    part: str
    name: str
    path: tuple[str, ...]
    items: list[object] = field(default_factory=list)
    inner: dict[str, Box] = field(default_factory=dict)
    links: dict[tuple[object, object], dict[Value, None]] = field(default_factory=dict)
    alike: tuple[str, ...] = ()

    def link(self, source: object, target: object, value: Value) -> None:
        if source is not target:
            self.links.setdefault((source, target), {})[value] = None


def nest(graph: Graph, fold: bool = True) -> list[Box]:
    """The boxes of the parts there are, forward first."""
    return Nesting(graph, fold).run()


class Nesting:
    def __init__(self, graph: Graph, fold: bool) -> None:
        self.graph, self.fold = graph, fold
        self.roots: dict[str, Box] = {}
        self.chain: dict[Value, list[Box]] = {}  # the boxes around a value, outermost first
        self.references: dict[tuple[Box, Value], Reference] = {}
        self.inlined = {value for value in graph.values() if is_inlined(value)}

    def run(self) -> list[Box]:
        values = [value for value in self.graph.values() if value not in self.inlined and not is_reference(value)]
        owners = self.owners()
        parts = self.parts(values)
        for value in values:
            self.put(value, parts[value], owners)
        for value in values:
            for operand in dict.fromkeys(value.operands):
                if operand not in self.inlined:
                    self.connect(operand, value)
        for output in self.graph.outputs:
            self.hand_out(output)
        for root in self.roots.values():
            settle(root)
            if self.fold:
                fold(root)
            add_ports(root)
        return [self.roots[part] for part in ("forward", "backward", "update") if part in self.roots]

    def parts(self, values: list[Value]) -> dict[Value, str]:
        """Roles, but for what a forward value is made of: that is forward."""
        ahead: set[Value] = set()
        for value in reversed(self.graph.values()):
            if value.role == "forward" or value in ahead:
                ahead.update(value.operands)
        return {value: "forward" if value in ahead else value.role for value in values}

    def owners(self) -> dict[Value, str]:
        """The parameter that each op of the optimizer is there for; "" if there are several."""
        states = {value.attrs["name"] for value in self.graph.of_role("state")}
        found: dict[Value, str] = {}
        for output in self.graph.of_kind("update"):
            owner = owner_of(output.name, states)
            stack = [output.value]
            while stack:
                value = stack.pop()
                known = found.get(value, owner)
                if value.role == "update" and (value not in found or known not in (owner, "")):
                    found[value] = owner if known == owner else ""
                    stack.extend(value.operands)
        return found

    def put(self, value: Value, part: str, owners: Mapping[Value, str]) -> None:
        path = owners.get(value, "") if part == "update" else value.origin.module if value.origin else ""
        around = self.chain.get(value.operands[0]) if value.op.kind == "view" and not path else None
        if around is not None and around[0].part == part:  # a view made outside of all modules
            self.chain[value] = around
            around[-1].items.append(value)
            return
        box = self.roots.setdefault(part, Box(part, part, (part,)))
        self.chain[value] = [box]
        for name in (path.split(".") if part != "update" else [path]) if path else ():
            box = box.inner.setdefault(name, Box(part, name, (*box.path, name)))
            self.chain[value].append(box)
        box.items.append(value)

    def connect(self, operand: Value, value: Value) -> None:
        target = self.chain[value]
        source = self.chain.get(operand)
        if source is None or source[0] is not target[0]:
            self.refer(operand, target[-1], value)
            return
        shared = sum(one is other for one, other in zip(source, target, strict=False))
        ends = [each[shared] if len(each) > shared else own for each, own in ((source, operand), (target, value))]
        source[shared - 1].link(ends[0], ends[1], operand)

    def refer(self, operand: Value, box: Box, reader: object) -> None:
        reference = self.references.get((box, operand))
        if reference is None:
            reference = self.references[box, operand] = Reference(operand)
            box.items.append(reference)
        box.link(reference, reader, operand)

    def hand_out(self, output: Output) -> None:
        """A result, an update or a check stands where its value is made."""
        if output.value in self.chain:
            box = self.chain[output.value][-1]
            box.link(output.value, output, output.value)
        else:
            part = "update" if output.kind == "update" else "forward"
            box = self.roots.setdefault(part, Box(part, part, (part,)))
            if output.value not in self.inlined:
                self.refer(output.value, box, output)
        box.items.append(output)


def is_inlined(value: Value) -> bool:
    """A constant, and one number spread out: they are told in the text of whoever reads them."""
    plain = value.operands[0] if value.op.name in ("broadcast", "reshape") else value
    return plain.op.kind == "source" and "value" in plain.attrs


def is_reference(value: Value) -> bool:
    return value.op.kind == "source" and value.attrs.get("role") in ("state", "scalar")


# -- boxes


def settle(box: Box) -> None:
    """Boxes inside become items; one that holds nothing but another takes its place."""
    for name, inner in list(box.inner.items()):
        settle(inner)
        while len(inner.items) == 1 and isinstance(inner.items[0], Box):
            only = inner.items[0]
            only.name = f"{inner.name}.{only.name}"
            replace_item(box, inner, only)
            inner = only
        box.inner[name] = inner
        box.items.append(inner)


def replace_item(box: Box, old: object, new: object) -> None:
    for (source, target), values in list(box.links.items()):
        if old in (source, target):
            del box.links[source, target]
            ends = (new if source is old else source, new if target is old else target)
            for value in values:
                box.link(*ends, value)


def fold(box: Box) -> None:
    """Blocks alike that follow each other are drawn once; updates alike wherever they are."""
    for inner in box.inner.values():
        fold(inner)
    blocks = [item for item in box.items if isinstance(item, Box)]
    if box.part == "update":
        blocks.sort(key=signature)
    for _, group in groupby(blocks, key=signature):
        alike = list(group)
        if len(alike) < (2 if box.part == "update" else FEWEST):
            continue
        first, others = alike[0], alike[1:]
        first.alike = tuple(other.name for other in others)
        for source, target in list(box.links):
            if source in alike and target in alike:
                del box.links[source, target]
        for other in others:
            replace_item(box, other, first)
        box.items = [item for item in box.items if item not in others]


def signature(box: Box) -> tuple[str, ...]:
    """Equal for blocks alike: the states read inside and the matrix products, or all ops where there are neither.

    The same arithmetic updates parameters of any shape.
    """
    inside = list(everything(box))
    if box.part == "update":
        return tuple(sorted(item.op.name for item in inside if isinstance(item, Value) and item.op.kind != "view"))
    states = {item.value for item in inside if isinstance(item, Reference) and is_reference(item.value)}
    reads = {f"{digits_out(state.attrs['name'])} {state.type}" for state in states if state.attrs["role"] == "state"}
    ops = [item for item in inside if isinstance(item, Value)]
    products = [f"{item.op.name} {item.type}" for item in ops if item.op.kind == "contraction"]
    if reads or products:
        return (digits_out(box.name), *sorted(reads), *sorted(products))
    return (digits_out(box.name), *sorted(item.op.name for item in ops))


def digits_out(name: str) -> str:
    return re.sub(r"\d+", "*", name)


def everything(box: Box) -> Iterator[object]:
    for item in box.items:
        if isinstance(item, Box):
            yield from everything(item)
        else:
            yield item


def add_ports(box: Box) -> None:
    """What comes into each box inside and leaves it, at its edges; inner ones last."""
    entering: dict[Box, dict[Value, None]] = {}
    leaving: dict[Box, dict[Value, None]] = {}
    for (source, target), values in box.links.items():
        if isinstance(target, Box):
            entering.setdefault(target, {}).update(values)
        if isinstance(source, Box):
            leaving.setdefault(source, {}).update(values)
    for inner in [item for item in box.items if isinstance(item, Box)]:
        for values, inward in ((entering.get(inner, {}), True), (leaving.get(inner, {}), False)):
            groups: dict[frozenset[object], list[Value]] = {}
            for value in values:
                ends = frozenset(users(inner, value) if inward else makers(inner, value))
                if ends:
                    groups.setdefault(ends, []).append(value)
            for ends, group in groups.items():
                port = Port(tuple(group), inward)
                inner.items.append(port)
                for value in group:
                    for end in ends:
                        first, last = (port, end) if inward else (end, port)
                        inner.link(first, last, value)
        add_ports(inner)


def users(box: Box, value: Value) -> Iterable[object]:
    """The items of a box that read a value directly or somewhere inside."""
    return [item for item in box.items if reads(item, value)]


def reads(item: object, value: Value) -> bool:
    if isinstance(item, Box):
        return any(reads(each, value) for each in item.items)
    return isinstance(item, Value) and value in item.operands


def makers(box: Box, value: Value) -> Iterable[object]:
    return [item for item in box.items if item is value or (isinstance(item, Box) and any(makers(item, value)))]

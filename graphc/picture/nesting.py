"""A graph as boxes in boxes: every op, inside the modules of the user's model, repeated blocks once.

The forward pass, the backward pass and the updates are boxes of their own. What one of them takes from another, states
and scalars stand as small cards where they are read. A value that leaves a module goes through a small card at its
edge, so that each module reads like a function. So does the body of a loop, a box too: what a step gets stands at the
top, what it gives at the bottom, states that are carried from step to step at both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from graphc.ir import ops
from graphc.ir.graph import Graph, Output, Value
from graphc.picture.folding import FEWEST, digits_out
from graphc.picture.layers import owner_of


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
class Slot:
    """What a step of a loop gets, or gives.

    kind     "carried", "slice", "captured"; "steps", how many there are; "result", a slice of what is stacked
    value    in the body; of the number of steps, outside of it
    outside  what it is a slice of, is, or starts as; None of what a step gives
    place    of a slice in its array: "step", or "rows" of a batch
    """

    kind: str
    name: str
    value: Value
    outside: Value | None = None
    place: str = "step"

    @property
    def inward(self) -> bool:
        return self.outside is not None


@dataclass(eq=False, slots=True)
class Box:
    """A module in one part, or the body of a loop.

    path    of the module, with what encloses it; of a parameter for what updates it
    items   what stands in it
    links   which items lead to which, with the values they carry
    alike   names of the others it stands for
    loop    whose body it is
    """

    part: str
    name: str
    path: tuple[str, ...]
    items: list[object] = field(default_factory=list)
    inner: dict[str, Box] = field(default_factory=dict)
    links: dict[tuple[object, object], dict[Value, None]] = field(default_factory=dict)
    alike: tuple[str, ...] = ()
    loop: Value | None = None

    def link(self, source: object, target: object, value: Value) -> None:
        if source is not target:
            self.links.setdefault((source, target), {})[value] = None


def nest(graph: Graph, fold: bool = True) -> list[Box]:
    """The boxes of the parts there are, forward first."""
    return Nesting(graph, fold).run()


class Nesting:
    """A graph on its way into boxes.

    within  the module that all of it is in, as the body of a loop may be
    items   what stands for those values that do not stand for themselves
    """

    def __init__(self, graph: Graph, fold: bool, within: str = "") -> None:
        self.graph, self.fold, self.within = graph, fold, within
        self.items: dict[Value, object] = {}
        self.roots: dict[str, Box] = {}
        self.chain: dict[Value, list[Box]] = {}  # the boxes around a value, outermost first
        self.references: dict[tuple[Box, Value], Reference] = {}
        self.inlined = {value for value in graph.values() if is_inlined(value)}

    def run(self) -> list[Box]:
        values = [value for value in self.graph.values() if value not in self.inlined and not self.is_reference(value)]
        owners = self.owners()
        parts = self.parts(values)
        for value in values:
            if value.op.kind == "loop":
                self.items[value] = opened(value, parts[value], self.fold)
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

    def is_reference(self, value: Value) -> bool:
        return is_reference(value)

    def item(self, value: Value) -> object:
        return self.items.get(value, value)

    def root(self, part: str) -> Box:
        return self.roots.setdefault(part, Box(part, part, (part, *filter(None, self.within.split(".")))))

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
            around[-1].items.append(self.item(value))
            return
        box = self.root(part)
        path = path.removeprefix(self.within).removeprefix(".") if self.within else path
        self.chain[value] = [box]
        for name in (path.split(".") if part != "update" else [path]) if path else ():
            box = box.inner.setdefault(name, Box(part, name, (*box.path, name)))
            self.chain[value].append(box)
        box.items.append(self.item(value))

    def connect(self, operand: Value, value: Value) -> None:
        target = self.chain[value]
        source = self.chain.get(operand)
        if source is None or source[0] is not target[0]:
            self.refer(operand, target[-1], self.item(value))
            return
        shared = sum(one is other for one, other in zip(source, target, strict=False))
        ends = [self.end(each, shared) for each in (operand, value)]
        source[shared - 1].link(ends[0], ends[1], operand)

    def end(self, value: Value, depth: int) -> object:
        """Where a line begins or ends in a box so deep: at a box around the value, or at the value."""
        around = self.chain[value]
        return around[depth] if len(around) > depth else self.item(value)

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
            box.link(self.item(output.value), output, output.value)
        else:
            box = self.root("update" if output.kind == "update" else "forward")
            if output.value not in self.inlined:
                self.refer(output.value, box, output)
        box.items.append(output)


class BodyNesting(Nesting):
    """The body of a loop. Unless it goes through the rows of a batch, as a whole step in slices does, it is all in the
    part that the loop is in."""

    def __init__(self, loop: Value, part: str, fold: bool) -> None:
        self.loop, self.part, self.by_parts = loop, part, loop.attrs.get("rows") is not None
        within = loop.origin.module if loop.origin and not self.by_parts else ""
        self.place = "rows" if self.by_parts else "step"
        super().__init__(loop.attrs["body"].graph, fold, within)
        roles = ops.Roles(loop)
        arriving = {"carried": roles.carried, "slice": roles.slices, "captured": roles.captured}
        self.items |= {
            value: Slot(kind, value.attrs["name"], value, outside, self.place)
            for kind, pairs in arriving.items()
            for value, outside in pairs
        }

    def is_reference(self, value: Value) -> bool:
        return is_reference(value) and value not in self.items

    def parts(self, values: list[Value]) -> dict[Value, str]:
        return super().parts(values) if self.by_parts else dict.fromkeys(values, self.part)

    def owners(self) -> dict[Value, str]:
        return {}

    def hand_out(self, output: Output) -> None:
        slot = Slot("carried" if output.kind == "update" else output.kind, output.name, output.value, None, self.place)
        around = self.chain.get(output.value)
        box = around[0] if around else self.root(self.part)
        box.items.append(slot)
        if around:
            box.link(self.end(output.value, 1), slot, output.value)


def opened(loop: Value, part: str, fold: bool) -> Box:
    """The box of a loop."""
    nesting = BodyNesting(loop, part, fold)
    roots = nesting.run()
    box = Box(part, "", (part,), [*roots], loop=loop)
    if not nesting.by_parts:
        (root,) = roots
        box.items, box.links = root.items, root.links
    trips = ops.Roles(loop).trips
    if trips is not None:
        box.items.insert(0, Slot("steps", "", trips, trips))
    return box


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
        while len(inner.items) == 1 and isinstance(inner.items[0], Box) and inner.items[0].loop is None:
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
    if box.loop is not None:
        return (
            f"loop {box.loop.attrs['length']}",
            *sorted(f"{item.op.name} {item.type}" for item in inside if isinstance(item, Value)),
        )
    if box.part == "update":
        return tuple(sorted(item.op.name for item in inside if isinstance(item, Value) and item.op.kind != "view"))
    states = {item.value for item in inside if isinstance(item, Reference) and is_reference(item.value)}
    reads = {f"{digits_out(state.attrs['name'])} {state.type}" for state in states if state.attrs["role"] == "state"}
    ops = [item for item in inside if isinstance(item, Value)]
    products = [f"{item.op.name} {item.type}" for item in ops if item.op.kind == "contraction"]
    if reads or products:
        return (digits_out(box.name), *sorted(reads), *sorted(products))
    return (digits_out(box.name), *sorted(item.op.name for item in ops))


def everything(box: Box) -> Iterator[object]:
    """What stands in a box and in the boxes inside; a loop is one value, whatever its body holds."""
    for item in box.items:
        if isinstance(item, Box):
            yield from everything(item) if item.loop is None else (item.loop,)
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
    for inner in [item for item in box.items if isinstance(item, Box) and item.loop is None]:
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
    if isinstance(item, Box) and item.loop is None:
        return any(reads(each, value) for each in item.items)
    if isinstance(item, Slot):
        return not item.inward and item.value is value
    operation = item.loop if isinstance(item, Box) else item
    return isinstance(operation, Value) and value in operation.operands


def makers(box: Box, value: Value) -> Iterable[object]:
    return [item for item in box.items if makes(item, value)]


def makes(item: object, value: Value) -> bool:
    if isinstance(item, Box):
        return item.loop is value or (item.loop is None and any(makers(item, value)))
    return item is value or (isinstance(item, Slot) and item.inward and item.value is value)

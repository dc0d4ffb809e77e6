"""A graph as layers: what each module of the user's model computes on the way forward, and what on the way back.

A card is a module in one of the two passes, cut in two where something outside of it comes between. The arithmetic of
the optimizer belongs to the card that delivers the gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations

from graphc.ir.dot.cards import Wire
from graphc.ir.graph import Graph, Output, Value, reachable
from graphc.ir.types import FLOATS

Key = tuple[str, str]  # role, module path
Place = tuple[Key, int]  # and which segment of it
PARTS = ("forward", "backward", "update")


@dataclass(eq=False, slots=True)
class Layer:
    """One card: a module in the forward or the backward pass, or what of the optimizer belongs to no layer.

    reads    states and scalars it uses
    updates  the update outputs that belong to it
    outputs  results and checks it makes
    """

    part: str
    path: str
    number: int = 0
    values: list[Value] = field(default_factory=list)
    reads: list[Value] = field(default_factory=list)
    updates: list[Output] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)

    @property
    def results(self) -> list[Output]:
        return [output for output in self.outputs if output.kind == "result"]


@dataclass(frozen=True, slots=True)
class Layers:
    """A graph as layers in an order in which they can run; wires name them by their place in it."""

    graph: Graph
    classes: Mapping[str, str]
    data: tuple[Value, ...]
    cards: tuple[Layer, ...]
    wires: tuple[Wire, ...]


def layers_of(graph: Graph, classes: Mapping[str, str]) -> Layers:
    """classes: of the modules, by their paths."""
    home = homes(graph)
    layers = tuple(dict.fromkeys(home.values()))
    ordered = tuple(topological(layers, home))
    for value in graph.values():
        if value in home:
            home[value].values.append(value)
    for number, layer in enumerate(ordered):
        layer.number = number
        read = (operand for value in layer.values for operand in value.operands if operand.op.kind == "source")
        layer.reads = [each for each in dict.fromkeys(read) if each.attrs.get("role") in ("state", "scalar")]
    place_outputs(graph, home)
    data = graph.of_role("data")
    return Layers(graph, classes, data, ordered, tuple(connect(ordered, home, data)))


# -- which card a value belongs to


def homes(graph: Graph) -> dict[Value, Layer]:
    """The card of every value that is neither an input nor made of constants alone."""
    values = [value for value in graph.values() if value.op.kind != "source"]
    fed, moving = set(graph.inputs), set(graph.of_role("data"))
    ahead = set(reachable(tuple(value for value in values if value.role == "forward")))
    keys: dict[Value, Key] = {}
    for value in values:
        if not fed.isdisjoint(value.operands):
            fed.add(value)
            keys[value] = key_of(value, "forward" if value in ahead else value.role, keys)
        if not moving.isdisjoint(value.operands) or value.role == "backward":
            moving.add(value)
    numbers = segments(values, keys, moving)
    layers: dict[tuple[Key, int], Layer] = {}
    home: dict[Value, Layer] = {}
    for value, (key, number) in numbers.items():
        home[value] = layers.setdefault((key, number), Layer(*key))
    merge(home)
    own_updates(graph, home)
    return home


def key_of(value: Value, role: str, keys: Mapping[Value, Key]) -> Key:
    """Role and module; a view made outside of all modules belongs to what it looks at."""
    module = value.origin.module if value.origin else ""
    seen = keys.get(value.operands[0]) if value.op.kind == "view" and not module else None
    return seen if seen is not None and seen[0] == role else (role, module)


def segments(values: list[Value], keys: Mapping[Value, Key], moving: set[Value]) -> dict[Value, Place]:
    """Key and segment of each value: one more than the segment of any other key it reads from.

    What is made of states alone stands where it is used first. If that is another module than its own, which uses it
    too, it gets a segment before them all: a rewrite may use the mask of a module further up. So every value comes no
    later than its users, by number and name, and no two cards wait for one another.
    """
    found: dict[Value, Place] = {}
    for value in values:
        if value in keys and value in moving:
            read = [found[operand] for operand in value.operands if operand in found]
            found[value] = (keys[value], max((n + (key != keys[value]) for key, n in read), default=0))
    users: dict[Value, list[Value]] = {}
    for value in values:
        for operand in value.operands:
            users.setdefault(operand, []).append(value)
    for value in reversed(values):
        if value in keys and value not in moving:
            used = [found[user] for user in users.get(value, ()) if user in found]
            first = min(used, key=in_order, default=(keys[value], 0))
            is_own = any(place[0] == keys[value] for place in used)
            found[value] = first if first[0] == keys[value] or not is_own else (keys[value], first[1] - 1)
    return {value: found[value] for value in values if value in found}


def in_order(place: Place) -> tuple[int, Key]:
    key, number = place
    return number, key


def links(home: Mapping[Value, Layer]) -> dict[Layer, set[Layer]]:
    """For each card the cards that read from it."""
    after: dict[Layer, set[Layer]] = {layer: set() for layer in home.values()}
    for value, layer in home.items():
        for operand in value.operands:
            source = home.get(operand)
            if source is not None and source is not layer:
                after[source].add(layer)
    return after


def merge(home: dict[Value, Layer]) -> None:
    """Segments of one module that are linked become one card where nothing outside lies between them."""
    groups: dict[Key, list[Layer]] = {}
    for layer in dict.fromkeys(home.values()):
        groups.setdefault((layer.part, layer.path), []).append(layer)
    after = links(home)
    becomes: dict[Layer, Layer] = {}
    for group in groups.values():
        while pair := next((pair for pair in combinations(group, 2) if fit_together(*pair, after)), None):
            kept, layer = pair
            group.remove(layer)
            becomes[layer] = kept
            after[kept] = (after[kept] | after.pop(layer)) - {kept, layer}
            for source, readers in after.items():
                if layer in readers:
                    readers.discard(layer)
                    if source is not kept:
                        readers.add(kept)
    for value, layer in home.items():
        while layer in becomes:
            layer = becomes[layer]
        home[value] = layer


def fit_together(one: Layer, other: Layer, after: Mapping[Layer, set[Layer]]) -> bool:
    return (other in after[one] or one in after[other]) and not linked_around(one, other, after)


def linked_around(one: Layer, other: Layer, after: Mapping[Layer, set[Layer]]) -> bool:
    """Whether a way leads from one of two cards through a third to the other."""
    for first, last in ((one, other), (other, one)):
        stack, seen = [layer for layer in after[first] if layer is not last], {first}
        while stack:
            layer = stack.pop()
            if layer is last:
                return True
            if layer not in seen:
                seen.add(layer)
                stack.extend(after[layer])
    return False


def own_updates(graph: Graph, home: dict[Value, Layer]) -> None:
    """The optimizer's arithmetic goes to the card its gradient comes from; what several parameters share is apart."""
    states = {value.attrs["name"] for value in graph.of_role("state")}
    owners: dict[Value, set[str]] = {}
    for output in graph.of_kind("update"):
        owner = owner_of(output.name, states)
        stack = [output.value]
        while stack:
            value = stack.pop()
            if value.role == "update" and owner not in owners.setdefault(value, set()):
                owners[value].add(owner)
                stack.extend(value.operands)
    givers: dict[str, Layer] = {}
    for value, names in owners.items():
        sources = [home[each] for each in value.operands if each in home and home[each].part != "update"]
        if len(names) == 1 and sources:
            givers.setdefault(next(iter(names)), sources[-1])
    rest = Layer("update", "")
    for value in [value for value, layer in home.items() if layer.part == "update"]:
        names = owners.get(value, set())
        home[value] = givers.get(next(iter(names)), rest) if len(names) == 1 else rest


def owner_of(name: str, states: set[str]) -> str:
    """The parameter that a state of the optimizer belongs to: `fc.weight` of `fc.weight.exp_avg`."""
    pieces = name.split(".")
    shorter = (".".join(pieces[:count]) for count in range(1, len(pieces)))
    return next((each for each in shorter if each in states), name)


def place_outputs(graph: Graph, home: Mapping[Value, Layer]) -> None:
    for output in graph.outputs:
        layer = home.get(output.value)
        if layer is not None:
            (layer.updates if output.kind == "update" else layer.outputs).append(output)


# -- order and wires


def topological(layers: Iterable[Layer], home: Mapping[Value, Layer]) -> Iterator[Layer]:
    """Cards in an order in which they can run, forward ones first; the rest of the optimizer last."""
    after = links(home)
    place = {layer: (PARTS.index(layer.part), number) for number, layer in enumerate(layers)}
    before = dict.fromkeys(place, 0)
    for reader in (reader for readers in after.values() for reader in readers):
        before[reader] += 1
    waiting = {layer for layer, count in before.items() if not count}
    left = dict(place)
    while left:
        # Gradients that are clipped together go to the optimizer and back: then whoever comes first.
        layer = min(waiting or left, key=place.__getitem__)
        waiting.discard(layer)
        del left[layer]
        yield layer
        for reader in after[layer]:
            before[reader] -= 1
            if not before[reader] and reader in left:
                waiting.add(reader)


def connect(layers: tuple[Layer, ...], home: Mapping[Value, Layer], data: tuple[Value, ...]) -> Iterable[Wire]:
    """One wire for all values of a kind between two cards; what the optimizer shares is not drawn."""
    number = {layer: place for place, layer in enumerate(layers)}
    carried: dict[tuple[int | Value, int, str], dict[Value, None]] = {}
    leads_on = {home[operand] for value in home for operand in value.operands if between_forward(home, operand, value)}
    for value, layer in home.items():
        for operand in value.operands:
            if operand in data:
                kind = "forward" if layer.part == "forward" else "saved"
                carried.setdefault((operand, number[layer], kind), {})[operand] = None
            elif operand in home and home[operand] is not layer and "update" not in (layer.part, home[operand].part):
                found = wire_kind(home[operand], layer, operand, leads_on)
                carried.setdefault((number[home[operand]], number[layer], found), {})[operand] = None
    for (source, target, kind), values in carried.items():
        yield Wire(source, target, tuple(values), kind)


def between_forward(home: Mapping[Value, Layer], operand: Value, value: Value) -> bool:
    source = home.get(operand)
    return source is not None and source is not home[value] and source.part == home[value].part == "forward"


def wire_kind(source: Layer, target: Layer, value: Value, leads_on: set[Layer]) -> str:
    if source.part == "backward" or target.part == "forward":
        return source.part
    return "backward" if source not in leads_on and value.role == "backward" and value.dtype in FLOATS else "saved"

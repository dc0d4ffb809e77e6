"""The layer level: one card a module in each pass, forward down and backward up, repeated blocks drawn once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from graphc.ir.dot.cards import Place
from graphc.ir.dot.style import MARKS, bytes_text, printable, shape_text, shorten, user_lines, value_names
from graphc.ir.graph import Graph, Output, Value
from graphc.picture.content import LONGEST, TITLE_LONGEST, Content, Line, counted, data_content, heated, label, short
from graphc.picture.folding import digits_out, find_folds, folded
from graphc.picture.heat import Scale, moved, operations
from graphc.picture.layers import Layer, Layers, layers_of, owner_of
from graphc.picture.placement import Votes, among, arrange, expressions, partner_of
from graphc.picture.sheet import Sheet, draw_sheet

QUIET = ("source", "view")  # kinds of ops that say little of what a layer does


def layers_svg(graph: Graph, classes: Mapping[str, str], heat: Scale | None = None, fold: bool | None = None) -> str:
    """The layers of a graph as a ladder, as the text of an SVG file.

    classes  of the modules, by their paths
    fold     whether three and more equal blocks are drawn as one; None: where there are many layers
    """
    picture = layers_of(graph, classes)
    votes = kinship(picture)
    marks = {card.number: signature(picture, card) for card in picture.cards if card.part == "forward"}
    paths = {card.number: card.path for card in picture.cards}
    cards, wires, repeats = folded(picture.cards, picture.wires, votes, find_folds(marks, fold), paths)
    shown = replace(picture, cards=cards, wires=wires)
    contents: dict[Place, Content] = {card.number: card_content(picture, card, votes) for card in shown.cards}
    contents |= {value: data_content(value) for value in picture.data}
    contents = {place: heated(content, heat) for place, content in contents.items()}
    cells = arrange(shown, among(votes, cards), False)
    sheet = Sheet(graph.name, facts(picture), contents, cells, wires, value_names(graph), repeats, heat)
    return draw_sheet(sheet)


def facts(picture: Layers) -> str:
    graph = picture.graph
    bounds = "".join(f" · {dim.name} ≤ {dim.max}" for dim in graph.dims)
    values = sum(value.op.kind != "source" for value in graph.values())
    states = counted(len(graph.of_role("state")), "state")
    return f"{states}, {bytes_text(graph.state_bytes)} · {counted(values, 'operation')}{bounds}"


def amounts(graph: Graph, classes: Mapping[str, str], quantity: str) -> dict[str, float]:
    """Bytes its ops move one by one, or operations, of each card by its key."""
    measure = moved if quantity == "bytes" else operations
    return {key_of(card): sum(map(measure, card.values)) for card in layers_of(graph, classes).cards}


# -- cards


def key_of(card: Layer) -> str:
    return f"layer {card.number}"


def card_content(picture: Layers, card: Layer, votes: Votes) -> Content:
    """A layer: title and class, ops, what it hands on, its parameters, what it updates."""
    title, end = title_of(picture, card, votes)
    lines = [Line("title", title, end), *body(picture, card, votes)]
    own = [value for value in card.values if value.role == card.part or card.part == "forward"]
    tooltip = [f"{MARKS[card.part]}{card.path or title}", *user_lines(value.origin for value in own)]
    style = "result" if card.results and card.part == "forward" else card.part
    return Content(tuple(lines), style, "\n".join(tooltip), key_of(card))


def title_of(picture: Layers, card: Layer, votes: Votes) -> tuple[str, str]:
    """The module's path and its class; of numbers in a Sequential the class goes first.

    Outside of modules the results it makes, or those it is the gradient of, or its first op.
    """
    name = picture.classes.get(card.path, "") if card.path else ""
    if card.part == "update":
        return f"{MARKS['update']}shared by all updates", ""
    if not card.path:
        near = partner_of(votes, card.number)
        made = next((each.results for each in picture.cards if each.number == near), card.results)
        results = [printable(output.name) for output in made] or ["check"] * bool(card.outputs)
        return shorten(MARKS[card.part] + (" · ".join(short(tuple(results))) or ops_of(card)[0]), TITLE_LONGEST), ""
    if not any(sign.isalpha() for sign in card.path):
        return f"{MARKS[card.part]}{name} {card.path}".replace("  ", " "), ""
    return shorten(MARKS[card.part] + printable(card.path), TITLE_LONGEST), name


def ops_of(card: Layer, role: str = "") -> tuple[str, ...]:
    """Names of its ops in order, each once, without those that only look at numbers in another way."""
    values = [value for value in card.values if (value.role == role if role else value.role != "update")]
    loud = [value.op.name for value in values if value.op.kind not in QUIET]
    return tuple(dict.fromkeys(loud or (value.op.name for value in values))) or ("update",)


def body(picture: Layers, card: Layer, votes: Votes) -> Iterator[Line]:
    if card.part != "update" and title_of(picture, card, votes)[0] != MARKS[card.part] + ops_of(card)[0]:
        yield Line("gradient" if card.part == "backward" else "ops", one_line(MARKS[card.part], ops_of(card)))
    if any(value.role == "update" for value in card.values):
        yield Line("ops", one_line(MARKS["update"], ops_of(card, "update")))
    made = handed_on(picture, card)
    if made:
        largest = max(made, key=lambda value: value.type.max_bytes)
        more = f" and {len(made) - 1} more" if len(made) > 1 else ""
        size = bytes_text(sum(value.type.max_bytes for value in made))
        yield Line("note", f"makes {shape_text(largest.shape)} {largest.dtype}{more}", size)
    if card.part != "backward":
        yield from (Line(kind_of(value), f"▪ {label(value)}", shape_text(value.shape)) for value in card.reads)
    yield from update_lines(picture.graph, card.updates)
    for output in card.outputs:
        mark = "◆ " if output.kind == "result" else "check: "
        yield Line(output.kind, f"{mark}{shorten(printable(output.name), LONGEST)}")


def one_line(mark: str, ops: tuple[str, ...]) -> str:
    """The first ops, as many as fit, and the last."""
    for count in range(len(ops), 1, -1):
        shown = ops if count == len(ops) else (*ops[: count - 1], "…", ops[-1])
        if len(mark + " → ".join(shown)) <= LONGEST:
            return mark + " → ".join(shown)
    return shorten(mark + " → ".join(ops), LONGEST)


def kind_of(value: Value) -> str:
    return "scalar" if value.attrs["role"] == "scalar" else "parameter"


def handed_on(picture: Layers, card: Layer) -> list[Value]:
    """What other cards read of it."""
    return list(dict.fromkeys(v for wire in picture.wires if wire.source == card.number for v in wire.values))


def update_lines(graph: Graph, updates: Iterable[Output]) -> Iterator[Line]:
    """One row a parameter, what the optimizer keeps beside it in the same row."""
    states = {value.attrs["name"] for value in graph.of_role("state")}
    rows: dict[str, list[Output]] = {}
    for output in updates:
        rows.setdefault(owner_of(output.name, states), []).append(output)
    for owner, outputs in rows.items():
        slots = [output.name[len(owner) + 1 :] for output in outputs if output.name != owner]
        text = shorten(f"⟳ {printable(owner)}" + (f" + {', '.join(slots)}" if slots else ""), LONGEST + 8)
        yield Line("update", text, shape_text(outputs[-1].value.shape))


# -- pairs of forward and backward


def kinship(picture: Layers) -> Votes:
    """How much each backward card has to do with each forward card: it is the gradient of the same expressions of the
    same module; where a module has several cards it is the gradient of that from which it takes saved values."""
    makers: dict[object, list[int]] = {}
    for card in picture.cards:
        if card.part == "forward":
            for key in expressions(own_values(card)):
                makers.setdefault(key, []).append(card.number)
    votes: dict[int, dict[int, int]] = {card.number: {} for card in picture.cards if card.part == "backward"}
    for card in picture.cards:
        if card.part == "backward":
            for maker in (maker for key in expressions(own_values(card)) for maker in makers.get(key, ())):
                votes[card.number][maker] = votes[card.number].get(maker, 0) + 2
    for wire in picture.wires:
        if wire.kind == "saved" and isinstance(wire.source, int) and wire.target in votes:
            votes[wire.target][wire.source] = votes[wire.target].get(wire.source, 0) + 1
    return {number: score for number, score in votes.items() if score}


def own_values(card: Layer) -> list[Value]:
    """Those of its own part and module."""
    found = [value for value in card.values if value.origin and value.origin.module == card.path]
    return [value for value in found if card.part == "forward" or value.role == card.part]


# -- repeated blocks


def signature(picture: Layers, card: Layer) -> object:
    """Equal for two cards that are the same layer of two blocks."""
    reads = tuple((digits_out(value.attrs["name"]), value.type) for value in card.reads)
    return digits_out(card.path), picture.classes.get(card.path), reads, card.values[-1].type

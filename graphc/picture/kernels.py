"""The kernel level: one card a nest, with what it computes and the buffers it works on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from graphc.ir.cost import cost_of_nest
from graphc.ir.dot.cards import Card, Place, Wire, flow, written_buffers
from graphc.ir.dot.style import MARKS, bytes_text, loop_text, printable, shape_text, shorten, user_lines, value_names
from graphc.ir.graph import Value
from graphc.ir.loops import Buffer
from graphc.ir.program import Program, Region
from graphc.picture.content import (
    LONGEST,
    TITLE_LONGEST,
    Content,
    Line,
    counted,
    data_content,
    heated,
    label,
    ops_lines,
    short,
)
from graphc.picture.folding import common, digits_out, find_folds, folded
from graphc.picture.heat import Scale
from graphc.picture.placement import among, arrange, kinship
from graphc.picture.sheet import Sheet, draw_sheet

FEW_BYTES, FEW_READERS = 64, 6  # what is no larger, and goes to more nests, is told in words
MOST_INSIDE = 8  # kernels of a loop that are listed


def kernels_svg(program: Program, heat: Scale | None = None, fold: bool | None = None) -> str:
    """The program as a ladder, one card a nest, as the text of an SVG file.

    fold  whether three and more equal blocks are drawn as one; None: where there are many nests

    Forward nests run down, backward nests run up beside them, each on the row of the nest it belongs to. Sizes are
    bytes at the dims' maxima; a line is the thicker the more it carries. A card's tooltip shows the user's lines.
    """
    whole = flow(program)
    votes = kinship(whole)
    marks = {card.number: signature(card) for card in whole.cards if card.part == "forward"}
    paths = {card.number: common(modules(card)) for card in whole.cards}
    cards, wires, repeats = folded(whole.cards, whole.wires, votes, find_folds(marks, fold), paths)
    picture = replace(whole, cards=cards, wires=wires)
    names, lies, told = value_names(program.graph), taken_places(program), told_of(whole.wires)
    wires = tuple(wire for wire in wires if wire.source not in told)
    contents: dict[Place, Content] = {
        card.number: card_content(program, card, names, lies, told.get(card.number, 0)) for card in cards
    }
    contents |= {value: data_content(value) for value in picture.data}
    contents = {place: heated(content, heat) for place, content in contents.items()}
    cells = arrange(picture, among(votes, cards))
    return draw_sheet(Sheet(program.graph.name, facts(program), contents, cells, wires, names, repeats, heat))


def told_of(wires: Iterable[Wire]) -> dict[Place, int]:
    """How many nests read what a nest makes, where that is a number or two for many, such as a count of steps: lines
    to all of them would show nothing else."""
    readers: dict[Place, int] = {}
    for wire in wires:
        if isinstance(wire.source, int):
            readers[wire.source] = readers.get(wire.source, 0) + 1
    large = {wire.source for wire in wires if wire.bytes > FEW_BYTES}
    return {source: count for source, count in readers.items() if count > FEW_READERS and source not in large}


def signature(card: Card) -> object:
    """Equal for two nests that are the same of two blocks."""
    reads = tuple((digits_out(value.attrs["name"]), value.type) for value in card.reads)
    return tuple(map(digits_out, modules(card))), card.nest.name, card.nest.frame, reads


def facts(program: Program) -> str:
    graph = program.graph
    bounds = "".join(f" · {dim.name} ≤ {dim.max}" for dim in graph.dims)
    kernels = counted(len(program.nests), "kernel")
    return f"{kernels} · state {bytes_text(graph.state_bytes)} · work {bytes_text(program.work_bytes)}{bounds}"


def taken_places(program: Program) -> dict[Buffer, Buffer]:
    """The buffer in whose place another one lies."""
    pairs = zip(program.apart, program.nests, strict=True)
    stores = (both for apart, nest in pairs for both in zip(apart.stores, nest.stores, strict=True))
    return {own.buffer: taken.buffer for own, taken in stores if own.buffer != taken.buffer}


def memory(verb: str, region: Region | None, buffer: Buffer, names: Mapping[Value, str]) -> Line:
    """`writes %9 relu batch×256 f32 | 256 KiB @0`: what a buffer holds, and from which byte of the arena on."""
    value = buffer.value
    text = f"{verb} {names[value]} {value.op.name} {shape_text(value.shape)} {value.dtype}"
    place = f" @{region.offset}" if region is not None else ""
    return Line("memory", text, bytes_text(value.type.max_bytes) + place)


def amounts(program: Program, quantity: str) -> dict[str, float]:
    """Bytes moved by, or operations of, each kernel by its key."""
    costs = {f"kernel {number}": cost_of_nest(nest) for number, nest in enumerate(program.apart)}
    return {key: cost.moved if quantity == "bytes" else cost.operations for key, cost in costs.items()}


def card_content(
    program: Program, card: Card, names: Mapping[Value, str], lies: Mapping[Buffer, Buffer], readers: int
) -> Content:
    """A nest: title, ops by role, frame, buffers with their places in the arena, what it updates and hands out.

    readers  how many nests read it without a line to them
    """
    inside = "" if is_named(card) or not modules(card) else f"module {', '.join(short(modules(card)))} · "
    lines = [Line("title", title(card), f"{inside}#{card.number}"), *body(program, card, names, lies)]
    if readers:
        lines.append(Line("note", f"read by {readers} kernels"))
    tooltip = [f"kernel {card.number}: {card.nest.name}", *user_lines(card.nest.origins)]
    return Content(tuple(lines), card.style, "\n".join(tooltip), f"kernel {card.number}")


def title(card: Card) -> str:
    """The modules a nest belongs to, where they have names, else what it hands out, else its ops."""
    named = modules(card) if is_named(card) else handed_out(card)
    own_ops = card.ops.get(card.part, (card.nest.name,))
    return shorten(MARKS[card.part] + (" · ".join(short(named)) or " → ".join(short(own_ops))), TITLE_LONGEST)


def is_named(card: Card) -> bool:
    """Whether its modules have names that say something; those of a Sequential are numbers."""
    return any(sign.isalpha() for path in modules(card) for sign in path)


def modules(card: Card) -> tuple[str, ...]:
    """The module paths the values of the card's own part come from, unless most come from outside of any."""
    origins = [origin for origin in card.nest.origins if origin.role == card.part] or card.nest.origins
    paths = [origin.module for origin in origins]
    inside = [path for path in paths if path]
    return tuple(dict.fromkeys(inside)) if 2 * len(inside) >= len(paths) else ()


def handed_out(card: Card) -> tuple[str, ...]:
    return tuple(map(printable, card.results)) or ("check",) * bool(card.checks)


def extent(card: Card) -> str:
    """`over batch×256, depth 784`, `×64, 5 kernels a step`, `runs once`."""
    nest = card.nest
    if nest.repetition is not None:
        inside = counted(len([*nest.repetition.program.walk()]), "kernel")
        return f"{loop_text(nest.repetition.value)}, {inside} a step"
    depth = "" if nest.product is None else f", depth {nest.product.depth}"
    return (f"over {shape_text(nest.frame)}" if nest.frame else "runs once") + depth


def body(program: Program, card: Card, names: Mapping[Value, str], lies: Mapping[Buffer, Buffer]) -> Iterator[Line]:
    for role, ops in card.ops.items():
        if role == card.part and " → ".join(ops) in title(card):
            continue
        if role != "update" or not card.updates:
            yield from ops_lines(role, ops)
    yield Line("note", extent(card), f"writes {bytes_text(card.written_bytes)}")
    if card.nest.repetition is not None:
        inside = [*card.nest.repetition.program.walk()]
        yield from (Line("ops", shorten(f"· {nest.name}", LONGEST)) for nest in inside[:MOST_INSIDE])
        if len(inside) > MOST_INSIDE:
            yield Line("ops", f"· and {len(inside) - MOST_INSIDE} more")
    written = written_buffers(card.nest)
    for buffer in card.nest.read():
        if buffer.kind == "value" and buffer not in written:
            yield memory("reads", program.work.get((-1, lies.get(buffer, buffer))), buffer, names)
    for buffer in written:
        if buffer.kind == "value":
            yield memory("writes", program.work.get((-1, lies.get(buffer, buffer))), buffer, names)
    for buffer in program.scratch_of(card.number):
        region = program.work[card.number, buffer]
        yield Line("memory", f"scratch {buffer.name}", f"{bytes_text(region.size)} @{region.offset}")
    for value in card.reads:
        kind = "scalar" if value.attrs["role"] == "scalar" else "parameter"
        yield Line(kind, f"▪ {label(value)}", shape_text(value.shape))
    for value in card.updates:
        yield Line("update", f"⟳ {label(value)}", shape_text(value.shape))
    yield from (Line("result", f"◆ {shorten(printable(name), LONGEST)}") for name in card.results)
    yield from (Line("check", f"check: {shorten(printable(message), LONGEST)}") for message in card.checks)

"""The kernel level as DOT: every loop nest a box; buffers with bytes and place in the arena; states and updates."""

from __future__ import annotations

from collections.abc import Iterator

from graphc.ir.dot.cards import Card, Flow, Wire, flow, written_buffers
from graphc.ir.dot.graphs import Style, describe_output, style_of
from graphc.ir.dot.language import Html, digraph, edge, escaped, node
from graphc.ir.dot.style import (
    MARKS,
    PALETTE,
    bytes_text,
    identifiers,
    line_width,
    printable,
    shape_text,
    user_lines,
    value_names,
    wrap,
)
from graphc.ir.graph import Value
from graphc.ir.loops import Buffer
from graphc.ir.program import Program
from graphc.ir.types import bound, multiply

CARRYING = ("forward", "backward", "saved")
OPS_WIDTH = 64  # characters a line
LINES: dict[str, Style] = {
    "forward": {"style": "solid", "color": PALETTE["flow"].line},
    "backward": {"style": "solid", "color": PALETTE["backward"].line, "arrowhead": "empty"},
    "saved": {"style": "dashed", "color": PALETTE["saved"].line},
    "read": {"style": "dotted", "color": PALETTE["state"].line},
    "update": {"style": "bold", "color": PALETTE["update"].line, "arrowhead": "diamond"},
}
BORDERS = {
    "forward": ("1", "rounded"),
    "backward": ("1", "dashed"),
    "update": ("3", "solid"),
    "result": ("2", "rounded"),
}
MEANINGS = {
    "forward": ("kernel of the forward pass", "rounded border, filled arrow heads"),
    "backward": ("kernel of the backward pass", "∂, dashed border, empty arrow heads"),
    "update": ("kernel that only updates; update", "⟳, thick border, diamond heads"),
    "result": ("result, kernel that makes one", "double octagon, rounded border"),
    "data": ("data input", "parallelogram"),
    "scalar": ("scalar input", "diamond"),
    "state": ("state before and after its update", "double border, dotted where it is read"),
    "saved": ("saved for the backward pass", "dashed line"),
}


def kernels_dot(program: Program) -> str:
    """The program as DOT text; equal programs give equal text.

    A box per loop nest, in the order they run: ops by role, frame, buffers read, written and used as scratch, each with
    bytes at the dims' maxima and `@` its offset in the arena. An edge is a value that one nest leaves for another, as
    wide as its bytes. Tooltips show the user's lines.
    """
    picture, names = flow(program), value_names(program.graph)
    places = identifiers(names)
    # A state nobody reads but for its own update is shown once, after the update.
    reread = {value for card in picture.cards for value in card.reads}
    shown = [v for v in program.graph.inputs if v in reread or v.attrs["role"] != "state"]
    lines = [node(places[value], describe_input(value)) for value in shown]
    lines += [node(nest_name(card.number), describe(program, card, names)) for card in picture.cards]
    for output in program.graph.outputs:
        if output.kind != "check":
            lines.append(node(f"{output.kind} {output.name}", describe_output(output)))
    lines += edges(picture, names, places)
    return digraph(program.graph.name, [*lines, legend()])


def legend() -> str:
    """What each style stands for, with a word for it beside the colour."""
    rows = ""
    for kind, (text, form) in MEANINGS.items():
        colours, (border, style) = PALETTE[kind], BORDERS.get(kind, ("1", "solid"))
        swatch = f'<td border="{border}" style="{style}" bgcolor="{colours.fill}" color="{colours.line}">{text}</td>'
        rows += f'<tr>{swatch}<td border="0" align="left">{coloured(form, kind)}</td></tr>'
    table = Html(f'<table border="0" cellborder="1" cellspacing="4">{rows}</table>')
    return node("legend", {"shape": "box", "style": "dotted", "color": "gray60", "label": table, "tooltip": "legend"})


def nest_name(number: int) -> str:
    return f"nest {number}"


def describe_input(value: Value) -> Style:
    text = f"{printable(value.attrs['name'])}\n{value.type} · {bytes_text(value.type.max_bytes)}"
    return {"label": text, **style_of(value.attrs["role"]), "tooltip": f"{value.attrs['role']} {text}"}


def edges(picture: Flow, names: dict[Value, str], places: dict[Value, str]) -> Iterator[str]:
    for wire in picture.wires:
        source = nest_name(wire.source) if isinstance(wire.source, int) else places[wire.source]
        yield from (edge(source, nest_name(wire.target), carry(wire, value, names)) for value in wire.values)
    for card in picture.cards:
        name = nest_name(card.number)
        yield from (edge(places[value], name, connection("read", value, names)) for value in card.reads)
        for value in card.updates:
            yield edge(name, f"update {names[value]}", connection("update", value, names))
        yield from (edge(name, f"result {result}", {"color": PALETTE["result"].line}) for result in card.results)


def carry(wire: Wire, value: Value, names: dict[Value, str]) -> Style:
    style = connection(wire.kind, value, names)
    return {**style, "label": f"  {shape_text(value.shape)} · {bytes_text(value.type.max_bytes)}"}


def connection(kind: str, value: Value, names: dict[Value, str]) -> Style:
    size = value.type.max_bytes
    tip = f"{kind}: {names[value]} {value.op.name}: {value.type}, {bytes_text(size)}"
    width = line_width(size) if kind in CARRYING else 1.0
    return {**LINES[kind], "penwidth": width, "tooltip": tip, "labeltooltip": tip}


def describe(program: Program, card: Card, names: dict[Value, str]) -> Style:
    colours, (border, border_style) = PALETTE[card.style], BORDERS[card.style]
    table = f'border="{border}" cellborder="0" cellspacing="0" cellpadding="2" bgcolor="{colours.fill}"'
    rows = "".join(f"<tr>{row}</tr>" for row in box_rows(program, card, names))
    label = f'<table {table} color="{colours.line}" style="{border_style}">{rows}</table>'
    tip = "\n".join([f"nest {card.number}: {card.nest.name}", *user_lines(card.nest.origins)])
    return {"shape": "plain", "label": Html(label), "tooltip": tip, "fontcolor": "#0f172a"}


def box_rows(program: Program, card: Card, names: dict[Value, str]) -> Iterator[str]:
    nest = card.nest
    yield line(f"{card.number}  {nest.name}   ({' + '.join(card.ops)})", bold=True)
    depth = "" if nest.product is None else f", products of depth {nest.product.depth}"
    yield line(f"over {shape_text(nest.frame)}{depth}: {bound(multiply(*nest.frame)):,} points at most")
    for role, ops in card.ops.items():
        yield from (line(text, role) for text in wrap(f"{MARKS[role]}{' → '.join(ops)}", OPS_WIDTH))
    written = written_buffers(nest)
    for buffer in nest.read():
        if buffer not in written:
            yield memory("reads", program, card, buffer, names)
    for buffer in written:
        yield memory("updates" if buffer.kind == "input" else "writes", program, card, buffer, names)
    for number, buffer in program.work:
        if number == card.number:
            yield memory("scratch", program, card, buffer, names)
    yield from (line(f"check: {message}", "check") for message in card.checks)


def line(text: str, kind: str = "flow", bold: bool = False) -> str:
    """A row that is one text."""
    markup = f"<b>{escaped(text)}</b>" if bold else coloured(escaped(text), kind)
    return f'<td colspan="5" align="left">{markup}</td>'


def coloured(markup: str, kind: str) -> str:
    return f'<font color="{PALETTE[kind].text}">{markup}</font>'


def memory(verb: str, program: Program, card: Card, buffer: Buffer, names: dict[Value, str]) -> str:
    """A row on one buffer: `reads | %9 relu | f32[batch,256] | 256 KiB | @0`."""
    region = program.work.get((card.number if buffer.kind == "scratch" else -1, buffer))
    own = buffer.kind == "scratch" and region is not None
    size = region.size if own and region is not None else buffer.value.type.max_bytes
    name = names[buffer.value] if buffer.kind == "input" else f"{names[buffer.value]} {buffer.value.op.name}"
    title = {"scratch": f"{buffer.name} of {name}", "result": f"{buffer.name} = {name}"}.get(buffer.kind, name)
    kind = {"updates": "update", "scratch": "constant"}.get(verb, "state")
    type_text, offset = "" if own else str(buffer.value.type), f"@{region.offset}" if region else ""
    cells = (verb, title, type_text, bytes_text(size), offset)
    return "".join(f'<td align="left">{coloured(escaped(cell) or " ", kind)}</td>' for cell in cells)

"""The graph level: every op a small card, inside the modules of the user's model, as the text of an SVG file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from graphc.ir.dot.graphs import written_attributes
from graphc.ir.dot.style import (
    MARKS,
    PALETTE,
    bytes_text,
    line_width,
    loop_text,
    names_inside,
    printable,
    shape_text,
    shorten,
    user_line,
    value_names,
)
from graphc.ir.graph import Graph, Output, Value
from graphc.picture import nesting
from graphc.picture.content import Content, Line, counted, heated, text_width
from graphc.picture.drawing import INK, LINES, NOTE, clean, cut_corners, draw_card, draw_line, frame, write
from graphc.picture.heat import Scale, draw_scale, moved, operations
from graphc.picture.layering import Placed, Point, lay_in_layers
from graphc.picture.nesting import Port, Reference, Slot
from graphc.picture.routing import Box
from graphc.picture.sheet import HEAD, MARGIN, NARROWEST, draw_head, draw_legend, legend_entries

TITLE, INSIDE, BETWEEN, STACKED = 24.0, 12.0, 110.0, 4.0  # of a box: head, padding; between the parts; of a pile
LONGEST = 34
PALE = {"forward": "#f5f9ff", "backward": "#fff8f4", "update": "#f4fcf6"}
PARTS = {"forward": "forward", "backward": "∂ backward", "update": "⟳ updates"}
WIRE = {"forward": "forward", "backward": "backward", "update": "update"}


@dataclass(frozen=True, slots=True)
class Inside:
    """A box laid out: its items with their places relative to it."""

    box: nesting.Box
    items: list[object]
    sizes: list[Point]
    placed: Placed
    inner: Mapping[object, Inside]
    width: float
    height: float


def graph_svg(graph: Graph, classes: Mapping[str, str], heat: Scale | None = None, fold: bool | None = None) -> str:
    """Every op of a graph, grouped by part and module; blocks that are repeated are drawn once unless `fold` is False.

    classes  of the modules, by their paths
    """
    return Drawing(graph, classes, heat, fold is not False).run()


def amounts(graph: Graph, quantity: str) -> dict[str, float]:
    """Bytes moved by, or operations of, each op by its key."""
    measure = moved if quantity == "bytes" else operations
    names = value_names(graph)
    return {f"value {names[value]}": measure(value) for value in graph.values() if value.op.kind != "source"}


class Drawing:
    def __init__(self, graph: Graph, classes: Mapping[str, str], heat: Scale | None, fold: bool) -> None:
        self.graph, self.classes, self.heat = graph, classes, heat
        own = value_names(graph)
        self.names = names_inside(graph, own) | own
        self.inside = self.names.keys() - own.keys()  # bodies of loops
        self.roots = nesting.nest(graph, fold)
        self.contents: dict[object, Content] = {}

    def run(self) -> str:
        parts = [self.lay_out(root) for root in self.roots]
        width = max(NARROWEST, sum(part.width for part in parts) + BETWEEN * (len(parts) - 1))
        entries = legend_entries(self.contents.values(), {WIRE[root.part] for root in self.roots})
        legend, below = draw_legend(entries, width, MARGIN + HEAD)
        if self.heat is not None:
            legend += draw_scale(self.heat, MARGIN, MARGIN + HEAD + below - 2)
            below += 24
        body = [*draw_head(self.graph.name, self.facts()), *legend]
        x, top = MARGIN, MARGIN + HEAD + below
        for number, part in enumerate(parts):
            body += self.draw(part, x, top)
            x += part.width
            if number + 1 < len(parts):
                body += self.draw_passage(part.box.part, parts[number + 1].box.part, x, top + 70)
                x += BETWEEN
        height = max((part.height for part in parts), default=0.0)
        return frame(self.graph.name, width + 2 * MARGIN, top + height + MARGIN, body)

    def facts(self) -> str:
        values = [value for value in self.graph.values() if value.op.kind != "source"]
        bounds = "".join(f" · {dim.name} ≤ {dim.max}" for dim in self.graph.dims)
        shown = sum(isinstance(item, Value) for root in self.roots for item in nesting.everything(root))
        drawn = f", {shown} of them drawn" if shown < len(values) else ""
        return f"{len(values)} operations{drawn} · state {bytes_text(self.graph.state_bytes)}{bounds}"

    # -- places

    def lay_out(self, box: nesting.Box) -> Inside:
        items = list(box.items)
        inner: dict[object, Inside] = {item: self.lay_out(item) for item in items if isinstance(item, nesting.Box)}
        sizes = [self.size(item, inner, box.part) for item in items]
        place = {item: number for number, item in enumerate(items)}
        edges = [(place[source], place[target]) for source, target in box.links]
        first = [place[item] for item in items if isinstance(item, (Port, Slot)) and item.inward]
        last = [place[item] for item in items if isinstance(item, (Port, Slot)) and not item.inward]
        placed = lay_in_layers(sizes, edges, first, last)
        pile = STACKED * 2 if box.alike else 0.0
        title = 2 * INSIDE + text_width(self.title(box), 12, True) + 12
        width = max(placed.width + 2 * INSIDE, title) + pile
        return Inside(box, items, sizes, placed, inner, width, TITLE + placed.height + INSIDE + pile)

    def size(self, item: object, inner: Mapping[object, Inside], part: str) -> Point:
        if isinstance(item, nesting.Box):
            return inner[item].width, inner[item].height
        content = self.contents[item] = heated(self.content(item, part), self.heat)
        return content.width, content.height

    def title(self, box: nesting.Box) -> str:
        if box.loop is not None:
            times = f", {1 + len(box.alike)} alike" if box.alike else ""
            return printable(f"{MARKS[box.part]}{self.name(box.loop)} loop {loop_text(box.loop)}{times}")
        if len(box.path) == 1:
            return PARTS[box.part]
        path = ".".join(box.path[1:])
        name = self.classes.get(path, "")
        text = f"{MARKS[box.part]}{box.name}" + (f" {name}" if name else "")
        if not box.alike:
            return printable(text)
        others = f"to {box.alike[-1]}" if box.part != "update" else f"and {', '.join(box.alike)}"
        return printable(f"{text} ×{1 + len(box.alike)}, {shorten(others, 2 * LONGEST)}")

    # -- cards

    def content(self, item: object, part: str) -> Content:
        if isinstance(item, Value):
            return self.op_content(item, part)
        if isinstance(item, Reference):
            return self.reference_content(item.value)
        if isinstance(item, Port):
            return self.port_content(item)
        if isinstance(item, Slot):
            return self.slot_content(item)
        assert isinstance(item, Output)
        kind = {"result": "result", "update": "state", "check": "check"}[item.kind]
        mark = {"result": "◆ ", "update": "⟳ ", "check": "check: "}[item.kind]
        line = Line("parameter", shorten(f"{mark}{printable(item.name)}", LONGEST), shape_text(item.value.shape))
        return Content((line,), kind, f"{item.kind} {printable(item.name)}", self.key(item.value))

    def op_content(self, value: Value, part: str) -> Content:
        name, size = self.name(value), bytes_text(value.type.max_bytes)
        if value in self.inside:
            part = value.role
        if value.op.name == "input":
            line = Line("title", shorten(printable(name), LONGEST), f"{shape_text(value.shape)} {value.dtype} · {size}")
            return Content((line,), "data", f"data input {printable(name)}: {value.type}, {size}", self.key(value))
        title = shorten(printable(f"{value.op.name}{written_attributes(value)}"), LONGEST)
        lines = [Line("ops", title, name), Line("note", f"{shape_text(value.shape)} {value.dtype}", size)]
        constants = [self.constant(operand) for operand in value.operands if nesting.is_inlined(operand)]
        if constants:
            lines.insert(1, Line("note", shorten(f"with {', '.join(constants)}", LONGEST)))
        return Content(tuple(lines), part, self.tooltip(value), self.key(value))

    def tooltip(self, value: Value) -> str:
        lines = [f"{self.formula(value)}: {value.type}, {bytes_text(value.type.max_bytes)}"]
        return "\n".join([*lines, user_line(value.origin)] if value.origin else lines)

    def formula(self, value: Value) -> str:
        operands = ", ".join(map(self.operand, value.operands))
        return f"{self.name(value)} = {value.op.name}({operands})"

    def name(self, value: Value) -> str:
        """As the graph's text has it; in the body of a loop, as the text of that has it."""
        return self.names[value].rpartition("/")[2] if value in self.inside else self.names[value]

    def part(self, value: Value) -> str:
        return value.role if value.role in PARTS else "forward"

    def constant(self, value: Value) -> str:
        return str((value.operands[0] if value.operands else value).attrs["value"])

    def reference_content(self, value: Value) -> Content:
        role = value.attrs.get("role") if value.op.kind == "source" else None
        name = printable(self.name(value))
        end = f"{shape_text(value.shape)} · {bytes_text(value.type.max_bytes)}"
        if role in ("state", "scalar", "data"):
            line = Line("parameter", shorten(f"▪ {name}", LONGEST), end)
            return Content((line,), str(role), f"{role} {name}: {value.type}", self.key(value))
        line = Line("note", f"from {PARTS[self.part(value)]}: {name} {value.op.name}", end)
        return Content((line,), "constant", self.tooltip(value), self.key(value))

    def port_content(self, port: Port) -> Content:
        size = bytes_text(sum(value.type.max_bytes for value in port.values))
        text = printable(self.name(port.values[0]))
        end = f"{shape_text(port.values[0].shape)} · {size}"
        if len(port.values) > 1:
            text, end = counted(len(port.values), "value"), size
        names = "\n".join(f"{self.name(value)} {value.op.name}: {value.type}" for value in port.values)
        line = Line("note", shorten(f"{'in' if port.inward else 'out'}  {text}", LONGEST), end)
        return Content((line,), "constant", names, self.key(port.values[0]))

    def slot_content(self, slot: Slot) -> Content:
        """`▪ c0, first %6`, `in  x0 = %16[step]`, `in  k0 = weight`; `⟳ c0, carried on`, `out  y0[step] = %9`."""
        end = f"{shape_text(slot.value.shape)} · {bytes_text(slot.value.type.max_bytes)}"
        name, outside = printable(slot.name), self.operand(slot.outside) if slot.outside else ""
        text = {
            "carried": f"▪ {name}, first {outside}" if slot.inward else f"⟳ {name}, carried on",
            "slice": f"in  {name} = {outside}[{slot.place}]",
            "captured": f"in  {name} = {outside}",
            "steps": f"in  {outside}: how many steps",
            "result": f"out  {name}[{slot.place}] = {self.operand(slot.value)}",
        }[slot.kind]
        line = Line("note" if slot.kind != "carried" else "parameter", shorten(text, LONGEST), end)
        tip = f"{text}\n{slot.kind} {name}: {slot.value.type}"
        return Content((line,), "state" if slot.kind == "carried" else "constant", tip, self.key(slot.value))

    def operand(self, value: Value) -> str:
        return self.constant(value) if nesting.is_inlined(value) else printable(self.name(value))

    def key(self, value: Value) -> str:
        return f"value {self.names[value]}"

    # -- drawing

    def draw(self, inside: Inside, x: float, y: float) -> Iterator[str]:
        box = inside.box
        key = f"module {box.part} {'.'.join(box.path[1:])}".rstrip() if box.loop is None else self.key(box.loop)
        tip = "" if box.loop is None else f"<title>{clean(self.tooltip(box.loop))}</title>"
        yield f'<g class="module {box.part}" data-key="{clean(key)}">{tip}'
        yield from self.draw_frame(inside, x, y)
        placed = inside.placed
        left, top = x + INSIDE, y + TITLE
        corners = [(left + a, top + b) for a, b in placed.corners]
        links = zip(box.links.items(), placed.routes, strict=True)
        for (_, values), route in links:
            yield from self.draw_link(list(values), [(left + a, top + b) for a, b in route], box.part)
        for item, corner, size in zip(inside.items, corners, inside.sizes, strict=True):
            if isinstance(item, nesting.Box):
                yield from self.draw(inside.inner[item], *corner)
            else:
                yield from draw_card(self.contents[item], Box(*corner, *size))
        yield "</g>"

    def draw_frame(self, inside: Inside, x: float, y: float) -> Iterator[str]:
        box, colour = inside.box, PALETTE[inside.box.part].line
        pile = STACKED * 2 if box.alike else 0.0
        width, height = inside.width - pile, inside.height - pile
        for offset in (2 * STACKED, STACKED, 0.0) if pile else (0.0,):
            shape = Box(x + offset, y + offset, width, height)
            paint = f'fill="{PALE[box.part]}" stroke="{colour}" stroke-opacity="0.55"'
            if box.part == "backward":
                yield f'<path class="frame" d="{cut_corners(shape)}" {paint}/>'
            else:
                round_by = 0 if box.part == "update" else 10
                size = f'x="{shape.x:.1f}" y="{shape.y:.1f}" width="{width:.1f}" height="{height:.1f}"'
                thick = 2.4 if box.part == "update" else 1
                yield f'<rect class="frame" {size} rx="{round_by}" {paint} stroke-width="{thick}"/>'
        yield write(x + INSIDE, y + 16, self.title(box), 12, PALETTE[box.part].text, font_weight="700")

    def draw_link(self, values: Sequence[Value], route: Sequence[Point], part: str) -> Iterator[str]:
        size = sum(value.type.max_bytes for value in values)
        width = line_width(size) * 0.8
        colour = PALETTE[LINES[WIRE[part]]].line
        text = "\n".join(f"{self.name(value)} {value.op.name}: {value.type}" for value in values)
        yield f'<g class="link"><title>{clean(text)}\n{bytes_text(size)}</title>'
        x, y = route[-1]
        up = 1 if len(route) > 1 and route[0][1] > y else -1
        head = 5 + width / 2
        path = curve([*route[:-1], (x, y + up * head)])
        yield f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width:.2g}" stroke-opacity="0.8"/>'
        tip = f"{x:.1f},{y:.1f} {x - head / 2:.1f},{y + up * head:.1f} {x + head / 2:.1f},{y + up * head:.1f}"
        inner = f'fill="#ffffff" stroke="{colour}"' if part == "backward" else f'fill="{colour}"'
        yield f'<polygon points="{tip}" {inner}/></g>'

    def draw_passage(self, source: str, target: str, x: float, y: float) -> Iterator[str]:
        """What one part takes from the one before, in sum."""
        root = next(root for root in self.roots if root.part == target)
        taken = {item.value for item in nesting.everything(root) if isinstance(item, Reference)}
        values = [value for value in taken if value.op.kind != "source"]
        if not values:
            return
        size = sum(value.type.max_bytes for value in values)
        kind, count = "saved" if source == "forward" else "backward", counted(len(values), "value")
        yield from draw_line([(x + 4, y), (x + BETWEEN - 4, y)], kind, line_width(size), count)
        yield write(x + BETWEEN / 2, y - 12, count, 11, INK, text_anchor="middle")
        yield write(x + BETWEEN / 2, y + 20, bytes_text(size), 10.5, NOTE, text_anchor="middle")


def curve(points: Sequence[Point]) -> str:
    """Straight inside the layers, in an S from one layer to the next."""
    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for number, ((ax, ay), (bx, by)) in enumerate(pairwise(points)):
        if number % 2 == 0 or abs(ax - bx) < 0.5:
            parts.append(f"L{bx:.1f} {by:.1f}")
        else:
            middle = (ay + by) / 2
            parts.append(f"C{ax:.1f} {middle:.1f} {bx:.1f} {middle:.1f} {bx:.1f} {by:.1f}")
    return "".join(parts)

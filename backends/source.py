"""Loop nests to kernel source: Python text generic in its extents, so that one text serves every shape.

What a text does not say is which memory and which sizes it works on: `Source.arguments` lists those, in the order of
the text's parameters. Names come from the ops, never from the user's program, so equal nests give equal texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from graphc.backends import contraction, maths, philox, sweeps
from graphc.backends.primitives import Kernel
from graphc.ir.layout import Steps
from graphc.ir.loops import (
    LANES,
    Buffer,
    Guards,
    Index,
    Lookups,
    LoopNest,
    Operand,
    Product,
    Store,
    Sweep,
    Term,
    lane_mode,
    phase_count,
    phase_roots,
)
from graphc.ir.ops import OPS
from graphc.ir.types import FLOATS, Extent, multiply

Argument = Buffer | Extent
LARGEST = {"i32": 2**31 - 1, "i64": 2**63 - 1, "u8": 255}


@dataclass(frozen=True, slots=True)
class Source:
    """A kernel and what to call it with: a buffer or an extent for each parameter."""

    kernel: Kernel
    arguments: tuple[Argument, ...]


def write(nest: LoopNest, shape: contraction.TileShape) -> Source:
    """The kernel of a nest; `shape` is the register tile of the target, used by matrix products."""
    return Writer(nest, shape).write()


def identity(name: str, dtype: str) -> str:
    """The constant that leaves any other operand of a reduction as it is."""
    if name in ("sum", "prod"):
        return f"{dtype}({'0' if name == 'sum' else '1'}{'.0' if dtype in FLOATS else ''})"
    sign = "-" if name == "max" else ""
    if dtype in FLOATS:
        return f"{dtype}({sign}inf)"
    return f"{dtype}({sign}{LARGEST[dtype] if dtype != 'u8' or name == 'min' else 0})"


class Writer:
    """Writes one nest. `live` is the mask of the lanes in use, "" where all are."""

    def __init__(self, nest: LoopNest, shape: contraction.TileShape) -> None:
        self.nest = nest
        self.shape = shape
        self.lines: list[str] = []
        self.depth = 1
        self.live = ""
        self.names: dict[Term, str] = {}
        self.counts: dict[str, int] = {}
        self.parameters: dict[str, str] = {}
        self.arguments: dict[str, Argument] = {}
        self.pointers: dict[Buffer, str] = {}
        self.called: dict[str, Kernel] = {}
        self.extents: list[str] = []
        self.terms = list(nest.terms())
        self.mode = lane_mode(nest.lane_extent)

    # -- the whole text

    def write(self) -> Source:
        if self.nest.sweep is not None:
            return self.write_sweep(self.nest.sweep)
        self.declare_buffers()
        self.extents = [self.extent(f"n{axis}", extent) for axis, extent in enumerate(self.nest.frame)]
        self.start_sums()
        self.row_terms(phase=None)
        if self.nest.product is not None:
            self.product_loops()
        else:
            self.outer_loops()
        self.finish_totals()
        self.late_scalars()
        self.late_lanes()
        parameters = tuple(self.parameters.items())
        body = "\n".join(self.lines) + "\n"
        head = f"({', '.join(self.parameters)}):\n"
        types = " ".join(kind for _, kind in parameters)
        digest = hashlib.sha256((head + body + types).encode()).hexdigest()[:8]
        name = f"{self.nest.name}_{digest}"
        kernel = Kernel(name, f"def {name}{head}{body}", parameters, calls=tuple(self.called.values()))
        return Source(kernel, tuple(self.arguments.values()))

    def write_sweep(self, sweep: Sweep) -> Source:
        """The library's kernel for an op that goes along an axis."""
        kernel = sweeps.kernel(sweep.value.op.name, sweep.value.operands[0].dtype, sweep.value.attrs["reverse"])
        line = Buffer("scratch", sweep.value, "line")
        return Source(kernel, (sweep.target, sweep.source, line, sweep.outer, sweep.extent, sweep.inner))

    def outer_loops(self) -> None:
        with self.loops(range(self.nest.lane)):
            for phase in range(phase_count(self.nest)):
                self.row_terms(phase)
                self.lane_loop(phase)
            self.row_stores(last=True)

    def product_loops(self) -> None:
        """Matrix by matrix, panel by panel, tile by tile; the nest's terms are computed on a tile while it is hot."""
        product = self.nest.product
        assert product is not None
        rows, columns, dtype = self.extents[-2], self.extents[-1], self.product_term.dtype
        depth = self.extent("depth", product.depth)
        left_row, left_column = (self.stride(f"left_{name}", steps) for name, steps in self.left_steps(product))
        multiply_tile = contraction.multiply_tile(self.shape, dtype)
        self.called[multiply_tile.name] = multiply_tile
        panel = self.pointer(Buffer("scratch", self.product_term.value, "panel"), "panel", dtype)
        tile = self.pointer(Buffer("scratch", self.product_term.value, "tile"), "tile", dtype)
        with self.loops(range(len(self.nest.frame) - 2)):
            left, right = (self.start_of(operand) for operand in (product.left, product.right))
            with self.block(f"for first_column in range(0, {columns}, {self.shape.width}):"):
                self.pack(product.right, right, panel, depth)
                with self.block(f"for first_row in range(0, {rows}, {self.shape.rows}):"):
                    self.line(
                        f"{multiply_tile.plain_name}({tile}, shift({left}, first_row * {left_row}), {panel}, {depth}, "
                        f"{rows} - first_row, {left_row}, {left_column})"
                    )
                    with self.block(f"for i in range(first_row, minimum(first_row + {self.shape.rows}, {rows})):"):
                        self.tile_row()

    def left_steps(self, product: Product) -> tuple[tuple[str, Steps], ...]:
        return ("row", product.left.rows), ("column", product.left.columns)

    def stride(self, name: str, steps: Steps) -> str:
        """The one stride of a matrix axis; an axis that stays has stride 0."""
        return self.extent(name, steps[0][1] if steps else 0)

    def start_of(self, operand: Operand) -> str:
        """The pointer to the matrix of the current batch."""
        pointer = self.pointers[operand.buffer]
        return f"shift({pointer}, {self.index(operand.start)})" if operand.start else pointer

    def pack(self, operand: Operand, right: str, panel: str, depth: str) -> None:
        """One panel of the right operand, along its strides or, where an axis walks several, place by place."""
        width, columns, dtype = self.shape.width, self.extents[-1], self.product_term.dtype
        if max(len(operand.rows), len(operand.columns)) < 2:
            kernel = contraction.pack_panel(self.shape, dtype)
            row, column = self.stride("right_row", operand.rows), self.stride("right_column", operand.columns)
            self.line(
                f"{kernel.plain_name}({panel}, shift({right}, first_column * {column}), {depth}, "
                f"minimum({width}, {columns} - first_column), {row}, {column})"
            )
        else:
            kernel = contraction.pack_walk(self.shape, dtype, len(operand.rows), len(operand.columns))
            places = self.pointer(Buffer("scratch", self.product_term.value, "places"), "places", "i64")
            steps = [
                self.extent(f"{name}_{kind}{number}", each)
                for name, line in (("rows", operand.rows), ("columns", operand.columns))
                for number, pair in enumerate(line)
                for kind, each in zip(("extent", "step"), pair, strict=True)
            ]
            self.line(f"{kernel.plain_name}({panel}, {right}, {places}, first_column, {columns}, {', '.join(steps)})")
        self.called[kernel.name] = kernel

    def tile_row(self) -> None:
        width, columns = self.shape.width, self.extents[-1]
        self.row_terms(0)
        with self.block(f"for j in range(first_column, minimum(first_column + {width}, {columns}), {LANES}):"):
            if self.mode not in ("exact", "one"):
                self.line(f"live0 = live({columns} - j)")
                self.live = "live0"
            self.lane_body(0)
            self.live = ""

    # -- parameters

    def declare_buffers(self) -> None:
        written = {store.buffer for store in self.nest.stores}
        read = {term.detail[0] for term in self.terms if term.kind in ("load", "take")}
        for buffer in self.nest.buffers():
            stem = "out" if buffer not in read and buffer in written else "x"
            stem = "state" if buffer in read and buffer in written else stem
            stem = "sums" if buffer.kind == "scratch" else stem
            self.pointer(buffer, self.fresh(stem), buffer.value.dtype)
        for term in self.nest.stash:
            self.pointer(Buffer("scratch", term.value, "row"), self.fresh("row"), term.dtype)

    def pointer(self, buffer: Buffer, name: str, dtype: str) -> str:
        self.pointers[buffer] = name
        self.parameters[name] = f"{dtype}*"
        self.arguments[name] = buffer
        return name

    def extent(self, name: str, extent: Extent) -> str:
        self.parameters[name] = "i64"
        self.arguments[name] = extent
        return name

    def number(self, extent: Extent) -> str:
        """An extent as text: a product of the frame's own, or a parameter of its own."""
        for axis in range(len(self.extents)):
            if multiply(*self.nest.frame[axis:]) == extent:
                return " * ".join(self.extents[axis:])
        for name, known in self.arguments.items():
            if self.parameters[name] == "i64" and known == extent:
                return name
        return self.extent(self.fresh("s"), extent)

    def fresh(self, stem: str) -> str:
        number = self.counts.get(stem, 0)
        self.counts[stem] = number + 1
        return f"{stem}{number}"

    @property
    def product_term(self) -> Term:
        return next(term for term in self.terms if term.kind == "product")

    # -- lines and blocks

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.line(head)
        self.depth += 1
        yield
        self.depth -= 1

    @contextmanager
    def loops(self, axes: range) -> Iterator[None]:
        for axis in axes:
            self.line(f"for i{axis} in range(n{axis}):")
            self.depth += 1
        yield
        self.depth -= len(axes)

    # -- indices and operands

    def variable(self, axis: int) -> str:
        if axis == self.nest.lane:
            return "j"
        return "i" if self.nest.product is not None and axis == self.nest.lane - 1 else f"i{axis}"

    def index(self, index: Index) -> str:
        parts = []
        for axis, stride in index:
            if axis is None:
                parts.append(self.number(stride))
            else:
                parts.append(self.variable(axis) + ("" if stride == 1 else f" * {self.number(stride)}"))
        return " + ".join(parts) or "0"

    def lane_indices(self, index: Index) -> str:
        """The index of every lane, as i64x16."""
        step = self.lane_step(index)
        rest = self.index(tuple(part for part in index if part[0] != self.nest.lane))
        if step == 1:
            return f"indices(j + {rest})" if rest != "0" else "indices(j)"
        lanes = f"indices(j) * spread({self.number(step)})"
        return f"spread({rest}) + {lanes}" if rest != "0" else lanes

    def lane_places(self, index: Index) -> str:
        """The index of every lane, be it the same for all."""
        return self.lane_indices(index) if self.lane_step(index) != 0 else f"spread({self.index(index)})"

    def lane_step(self, index: Index) -> Extent:
        """How far the index moves from lane to lane."""
        return dict(index).get(self.nest.lane, 0)

    def is_lanes(self, term: Term) -> bool:
        return self.nest.lane in term.axes

    def operand(self, term: Term, lanes: bool) -> str:
        """A term as text, spread over the lanes where lanes are wanted and it is one number."""
        if term.kind == "iota" and self.is_lanes(term):
            return self.lane_indices(term.detail) if term.dtype == "i64" else self.as_type(term)
        text = self.scalar(term) if term.kind in ("constant", "size", "iota") else self.names[term]
        return f"spread({text})" if lanes and not self.is_lanes(term) else text

    def scalar(self, term: Term) -> str:
        if term.kind == "constant":
            return constant(term.detail, term.dtype)
        text = self.index(term.detail) if term.kind == "iota" else self.number(term.detail)
        return text if term.dtype == "i64" else f"as_{term.dtype}({text})"

    def as_type(self, term: Term) -> str:
        return f"as_{term.dtype}({self.lane_indices(term.detail)})"

    def expression(self, term: Term) -> str:
        """The right-hand side of one computed term."""
        lanes = self.is_lanes(term)
        operands = [self.operand(operand, lanes) for operand in term.operands]
        op = term.value.op
        if op.name in maths.FUNCTIONS:
            instance = maths.instance(op.name, f"{term.dtype}x{LANES}" if lanes else term.dtype)
            self.called[instance.name] = instance
        if op.name == "random_bits":
            instance = philox.random_bits(f"i64x{LANES}" if lanes else "i64")
            self.called[instance.name] = instance
        if lanes and self.live and op.cost > 1:  # dead lanes get a harmless number: subnormals there would be slow
            harmless = f"spread({term.dtype}(1.0))"
            operands = [f"select({self.live}, {operand}, {harmless})" for operand in operands]
        zero, one = constant(0, term.dtype), constant(1, term.dtype)
        if lanes:
            zero, one = f"spread({zero})", f"spread({one})"
        return str(term.detail.format(*operands, zero=zero, one=one))

    def load(self, pointer: str, index: str, lanes: bool, step: Extent = 1) -> str:
        if not lanes:
            return f"load({pointer}, {index})"
        if step != 1:
            return f"load_spaced({pointer}, {index}, {self.number(step)}, {self.live or f'live({LANES})'})"
        return f"load_live({pointer}, {index}, {self.live})" if self.live else f"load_lanes({pointer}, {index})"

    def load_term(self, term: Term) -> str:
        """A load as text; where its guards say so it reads nothing and is 0."""
        buffer, index, guards = term.detail
        pointer, lanes = self.pointers[buffer], self.is_lanes(term)
        step = self.lane_step(index)
        if not guards:
            return self.load(pointer, self.index(index), lanes, step)
        inside = self.inside(guards, lanes)
        if not lanes:
            return f"select({inside}, load({pointer}, select({inside}, {self.index(index)}, 0)), {zero_of(term.dtype)})"
        if step == 1:
            return f"load_live({pointer}, {self.index(index)}, {inside})"
        return f"load_at({pointer}, {self.lane_places(index)}, {inside})"

    def take(self, term: Term) -> str:
        """A load at looked-up places."""
        buffer, index, lookups = term.detail
        pointer, step = self.pointers[buffer], self.lane_step(index)
        if not self.is_lanes(term):
            return f"load({pointer}, {self.looked_up(index, term.operands, lookups)})"
        if any(self.is_lanes(operand) for operand in term.operands):
            places = self.looked_up_lanes(index, term.operands, lookups)
            return f"load_at({pointer}, {places}, {self.live or f'live({LANES})'})"
        return self.load(pointer, self.looked_up(index, term.operands, lookups), True, step)

    def looked_up(self, index: Index, indices: Sequence[Term], lookups: Lookups) -> str:
        """A place in a table, by the frame's axes and indices that are one number for all lanes."""
        parts = [self.index(index)] if index else []
        for term, (stride, extent) in zip(indices, lookups, strict=True):
            held = f"minimum(maximum({self.operand(term, False)}, 0), {self.number(extent)} - 1)"
            parts.append(held if stride == 1 else f"{held} * {self.number(stride)}")
        return " + ".join(parts)

    def looked_up_lanes(self, index: Index, indices: Sequence[Term], lookups: Lookups) -> str:
        """The places of all lanes."""
        parts = [self.lane_places(index)]
        for term, (stride, extent) in zip(indices, lookups, strict=True):
            top = f"spread({self.number(extent)} - 1)"
            held = f"minimum(maximum({self.operand(term, True)}, spread(0)), {top})"
            parts.append(held if stride == 1 else f"{held} * spread({self.number(stride)})")
        return " + ".join(parts)

    def scatter(self, term: Term, lanes: bool) -> None:
        """Add to memory at looked-up places."""
        buffer, index, lookups = term.detail
        values, *indices = term.operands
        pointer, step, text = self.pointers[buffer], self.lane_step(index), self.operand(values, lanes)
        if lanes and (step != 1 or any(self.is_lanes(each) for each in indices)):
            places = self.looked_up_lanes(index, indices, lookups)
            self.line(f"add_at({pointer}, {places}, {text}, {self.live or f'live({LANES})'})")
            return
        at = self.looked_up(index, indices, lookups)
        self.save(pointer, at, f"{self.load(pointer, at, lanes)} + {text}", lanes)

    def inside(self, guards: Guards, lanes: bool) -> str:
        """The name of a bool, or of the mask of the live lanes, that is on where no guard is left."""
        parts = [f"spread({text})" if lanes else text for text in map(self.scalar_guard, self.still(guards))]
        moving = (guard for guard in guards if self.lane_step(guard[0]) != 0)
        parts += [text for guard in moving for text in self.lane_guard(*guard)]
        name = self.fresh("inside")
        self.line(f"{name} = {' & '.join(([self.live] if lanes and self.live else []) + parts)}")
        return name

    def still(self, guards: Guards) -> list[tuple[Index, Extent]]:
        return [(index, extent) for index, extent in guards if self.lane_step(index) == 0]

    def scalar_guard(self, guard: tuple[Index, Extent]) -> str:
        index, extent = guard
        at = self.index(index)
        return f"({at} >= 0) & ({at} < {self.number(extent)})"

    def lane_guard(self, index: Index, extent: Extent) -> tuple[str, ...]:
        """Masks for an index that moves along the lanes: by whole steps, counting lanes is cheaper than comparing."""
        first, last, step = self.index(index), self.number(extent), self.lane_step(index)
        if step == 1:
            return f"live({last} - ({first}))", f"~live(0 - ({first}))"
        if step == -1:
            return f"live({first} + 1)", f"~live({first} - {last} + 1)"
        at = self.lane_indices(index)
        return f"({at} >= spread(0))", f"({at} < spread({last}))"

    def save(self, pointer: str, index: str, text: str, lanes: bool, step: Extent = 1) -> None:
        if not lanes:
            self.line(f"store({pointer}, {index}, {text})")
        elif step != 1:
            self.line(
                f"store_spaced({pointer}, {index}, {self.number(step)}, {text}, {self.live or f'live({LANES})'})"
            )
        elif self.live:
            self.line(f"store_live({pointer}, {index}, {text}, {self.live})")
        else:
            self.line(f"store_lanes({pointer}, {index}, {text})")

    def define(self, term: Term) -> None:
        """One line that gives a term its name."""
        if term.kind in ("constant", "size", "iota"):
            return
        if term.kind == "load":
            text = self.load_term(term)
        elif term.kind == "take":
            text = self.take(term)
        elif term.kind == "guard":
            lanes = self.is_lanes(term)
            zero = f"spread({zero_of(term.dtype)})" if lanes else zero_of(term.dtype)
            text = f"select({self.inside(term.detail, lanes)}, {self.operand(term.operands[0], lanes)}, {zero})"
        elif term.kind == "product":
            text = self.load("tile", f"(i - first_row) * {self.shape.width} + (j - first_column)", lanes=True)
        elif term.kind == "column":
            buffer, index, _ = term.detail
            text = self.load(self.pointers[buffer], self.index(index), self.is_lanes(term))
        else:
            text = self.expression(term)
        self.line(f"{self.name(term)} = {text}")

    def name(self, term: Term) -> str:
        if term not in self.names:
            stem = term.kind if term.kind in ("load", "take", "guard") else term.value.op.name
            self.names[term] = self.fresh(f"{stem}_")
        return self.names[term]

    # -- one row

    def row_terms(self, phase: int | None) -> None:
        """The numbers of a row that are known before lane loop `phase`; None: those no loop changes."""
        for term in self.terms:
            once = not term.axes and term.phase == 0
            if term.late or self.is_lanes(term) or term.kind not in ("load", "take", "guard", "compute"):
                continue
            if once if phase is None else term.phase == phase and not once:
                self.define(term)
        if phase is None:
            return
        self.row_sums(phase)
        self.row_stores(last=False, phase=phase)

    def row_sums(self, phase: int) -> None:
        """Totals and columns of numbers that are one a row."""
        for term in self.terms:
            if term.kind == "scatter" and not self.is_lanes(term.operands[0]) and term.phase == phase:
                self.scatter(term, lanes=False)
            if term.kind not in ("total", "column") or self.is_lanes(term.operands[0]):
                continue
            if term.operands[0].phase == phase:
                self.accumulate(term, self.operand(term.operands[0], lanes=False), lanes=False)

    def row_stores(self, last: bool, phase: int = 0) -> None:
        """One number a row goes to memory; a state only at the end of the row."""
        for store in self.nest.stores:
            if self.store_is_lanes(store) or store.term.late:
                continue
            if last == (store.buffer.kind == "input") and (last or store.phase == phase):
                self.save(self.pointers[store.buffer], self.index(store.index), self.operand(store.term, False), False)

    def store_is_lanes(self, store: Store) -> bool:
        return any(axis == self.nest.lane for axis, _ in store.index)

    # -- lanes

    def lane_loop(self, phase: int) -> None:
        """One pass over the lanes of a row."""
        rows = [term for term in self.terms if term.kind == "row" and term.operands[0].phase == phase]
        if not phase_roots(self.nest, phase):
            return
        if self.mode in ("single", "one"):
            self.single_step(phase, rows)
            return
        for term in rows:
            self.line(f"{self.name(term)}_lanes = spread({identity(term.detail, term.dtype)})")
        extent = self.extents[-1]
        if self.mode == "exact":
            with self.block(f"for j in range(0, {extent}, {LANES}):"):
                self.lane_body(phase, rows)
        else:
            self.line(f"whole = {extent} - {extent} % {LANES}")
            with self.block(f"for j in range(0, whole, {LANES}):"):
                self.lane_body(phase, rows)
            with self.block(f"if whole < {extent}:"):
                self.line("j = whole")
                self.line(f"live0 = live({extent} - whole)")
                self.live = "live0"
                self.lane_body(phase, rows)
                self.live = ""
        for term in rows:
            self.line(f"{self.names[term]} = {term.detail}_lanes({self.names[term]}_lanes)")

    def single_step(self, phase: int, rows: list[Term]) -> None:
        """A row of at most sixteen elements: no loop, and every term stays at hand for later phases."""
        if "j = 0" not in (line.strip() for line in self.lines):
            self.line("j = 0")
        if self.mode == "single":
            if not any(line.strip().startswith("live0") for line in self.lines):
                self.line(f"live0 = live({self.extents[-1]})")
            self.live = "live0"
        self.lane_body(phase)
        for term in rows:
            self.line(f"{self.name(term)} = {term.detail}_lanes({self.masked(term)})")
        self.live = ""

    def lane_body(self, phase: int, rows: list[Term] | None = None) -> None:
        for term in self.closure(phase):
            if term in self.nest.stash and term.phase < phase:
                self.line(f"{self.name(term)} = {self.load(self.stash(term), 'j', lanes=True)}")
                continue
            self.define(term)
            if term in self.nest.stash:
                self.save(self.stash(term), "j", self.names[term], lanes=True)
        for term in rows or ():
            lanes = f"{self.names[term]}_lanes"
            self.line(f"{lanes} = {OPS[term.detail].scalar.format(lanes, self.masked(term))}")
        for term in self.terms:
            if term.kind in ("total", "column") and term.operands[0].phase == phase and self.is_lanes(term.operands[0]):
                self.accumulate(term, self.masked(term) if term.kind == "total" else self.names[term.operands[0]], True)
            if term.kind == "scatter" and term.phase == phase and self.is_lanes(term.operands[0]):
                self.scatter(term, lanes=True)
        for store in self.nest.stores:
            if store.phase == phase and not store.term.late and self.store_is_lanes(store):
                pointer, text = self.pointers[store.buffer], self.operand(store.term, True)
                self.save(pointer, self.index(store.index), text, True, self.lane_step(store.index))

    def stash(self, term: Term) -> str:
        return self.pointers[Buffer("scratch", term.value, "row")]

    def closure(self, phase: int) -> list[Term]:
        """The lane terms a lane loop has to compute, in order; kept rows are read, not computed again."""
        needed: set[Term] = set()
        stack = phase_roots(self.nest, phase)
        keeps = self.mode in ("single", "one")
        while stack:
            term = stack.pop()
            if term in needed or not self.is_lanes(term) or (keeps and term in self.names):
                continue
            needed.add(term)
            if not (term in self.nest.stash and term.phase < phase):
                stack.extend(term.operands)
        return [term for term in self.terms if term in needed]

    def masked(self, reduction: Term) -> str:
        """A reduction's operand with the dead lanes left out."""
        text = self.operand(reduction.operands[0], lanes=True)
        if not self.live:
            return text
        name = reduction.detail
        return f"select({self.live}, {text}, spread({identity(name, reduction.dtype)}))"

    # -- sums that are complete after the loops

    def start_sums(self) -> None:
        for term in self.terms:
            if term.kind == "total":
                empty = identity(term.detail, term.dtype)
                empty = f"spread({empty})" if self.is_lanes(term.operands[0]) else empty
                self.line(f"{self.name(term)}_running = {empty}")
            elif term.kind in ("column", "scatter"):
                buffer, name = term.detail[0], term.detail[2] if term.kind == "column" else "sum"
                with self.block(f"for k in range(0, {self.number(term.value.type.count)}, {LANES}):"):
                    empty = f"spread({identity(name, term.dtype)})"
                    self.line(f"store_lanes({self.pointers[buffer]}, k, {empty})")

    def accumulate(self, term: Term, text: str, lanes: bool) -> None:
        if term.kind == "total":
            running = f"{self.name(term)}_running"
            self.line(f"{running} = {OPS[term.detail].scalar.format(running, text)}")
            return
        buffer, index, name = term.detail
        pointer, at = self.pointers[buffer], self.index(index)
        known = self.load(pointer, at, lanes)
        self.save(pointer, at, OPS[name].scalar.format(known, text), lanes)

    def finish_totals(self) -> None:
        for term in self.terms:
            if term.kind == "total":
                running = f"{self.names[term]}_running"
                text = f"{term.detail}_lanes({running})" if self.is_lanes(term.operands[0]) else running
                self.line(f"{self.names[term]} = {text}")

    def late_scalars(self) -> None:
        for term in self.terms:
            if term.late and not term.axes and term.kind in ("compute", "column"):
                self.define(term)
        for store in self.nest.stores:
            if store.term.late and not store.index and store.term.kind != "scatter":
                self.save(self.pointers[store.buffer], "0", self.operand(store.term, False), False)

    def late_lanes(self) -> None:
        """Arithmetic on whole columns after the loops, and columns that go to memory as they are."""
        by_axes: dict[tuple[int, ...], list[Store]] = {}
        for store in self.nest.stores:
            if store.term.late and store.index:
                by_axes.setdefault(tuple(axis for axis, _ in store.index if axis is not None), []).append(store)
        for axes, stores in by_axes.items():
            with self.some_loops(axes):
                if self.nest.lane in axes:
                    self.late_lane_loop(stores)
                else:
                    self.late_body(stores, lanes=False)

    @contextmanager
    def some_loops(self, axes: tuple[int, ...]) -> Iterator[None]:
        outer = [axis for axis in axes if axis != self.nest.lane]
        for axis in outer:
            self.line(f"for {self.variable(axis)} in range(n{axis}):")
            self.depth += 1
        yield
        self.depth -= len(outer)

    def late_lane_loop(self, stores: list[Store]) -> None:
        extent = self.extents[-1]
        with self.block(f"for j in range(0, {extent}, {LANES}):"):
            if self.mode not in ("exact", "one"):
                self.line(f"live0 = live({extent} - j)")
                self.live = "live0"
            self.late_body(stores, lanes=True)
            self.live = ""

    def late_body(self, stores: list[Store], lanes: bool) -> None:
        needed: set[Term] = set()
        stack = [store.term for store in stores]
        while stack:
            term = stack.pop()
            if term in needed or not term.axes:
                continue
            needed.add(term)
            if term.kind == "compute":
                stack.extend(term.operands)
        for term in self.terms:
            if term in needed:
                self.define(term)
        for store in stores:
            self.save(self.pointers[store.buffer], self.index(store.index), self.operand(store.term, lanes), lanes)


def zero_of(dtype: str) -> str:
    return constant(0, dtype)


def constant(number: float, dtype: str) -> str:
    """A typed constant of the kernel language."""
    if dtype == "bool":
        return "true" if number else "false"
    if dtype in FLOATS:
        text = repr(float(number))
        return f"{dtype}({text})"
    return f"{dtype}({int(number)})"

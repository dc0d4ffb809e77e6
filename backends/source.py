"""Loop nests to kernel source: Python text generic in its extents, so that one text serves every shape.

What a text does not say is which memory and which sizes it works on: `Source.arguments` lists those, in the order of
the text's parameters. Names come from the ops, never from the user's program, so equal nests give equal texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from graphc.backends import contraction, maths
from graphc.backends.primitives import Kernel
from graphc.ir.loops import LANES, Buffer, Index, LoopNest, Store, Term, lane_mode, phase_count, phase_roots
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

    def outer_loops(self) -> None:
        with self.loops(range(self.nest.lane)):
            for phase in range(phase_count(self.nest)):
                self.row_terms(phase)
                self.lane_loop(phase)
            self.row_stores(last=True)

    def product_loops(self) -> None:
        """Panel by panel, tile by tile; the nest's terms are computed on each tile while it is hot."""
        product = self.nest.product
        assert product is not None
        left, right = self.pointers[product.left.buffer], self.pointers[product.right.buffer]
        depth = self.extent("depth", product.depth)
        left_row = self.extent("left_row", product.left.row_stride)
        left_column = self.extent("left_column", product.left.column_stride)
        right_row = self.extent("right_row", product.right.row_stride)
        right_column = self.extent("right_column", product.right.column_stride)
        width = self.shape.width
        dtype = self.product_term.dtype
        pack, multiply_tile = contraction.pack_panel(self.shape, dtype), contraction.multiply_tile(self.shape, dtype)
        self.called |= {kernel.name: kernel for kernel in (pack, multiply_tile)}
        panel = self.pointer(Buffer("scratch", self.product_term.value, "panel"), "panel", dtype)
        tile = self.pointer(Buffer("scratch", self.product_term.value, "tile"), "tile", dtype)
        with self.block(f"for j0 in range(0, n1, {width}):"):
            self.line(
                f"{pack.plain_name}({panel}, shift({right}, j0 * {right_column}), {depth}, "
                f"minimum({width}, n1 - j0), {right_row}, {right_column})"
            )
            with self.block(f"for i0 in range(0, n0, {self.shape.rows}):"):
                self.line(
                    f"{multiply_tile.plain_name}({tile}, shift({left}, i0 * {left_row}), {panel}, {depth}, "
                    f"n0 - i0, {left_row}, {left_column})"
                )
                with self.block(f"for i in range(i0, minimum(i0 + {self.shape.rows}, n0)):"):
                    self.tile_row(width)

    def tile_row(self, width: int) -> None:
        self.row_terms(0)
        with self.block(f"for j in range(j0, minimum(j0 + {width}, n1), {LANES}):"):
            if self.mode not in ("exact", "one"):
                self.line("live0 = live(n1 - j)")
                self.live = "live0"
            self.lane_body(0)
            self.live = ""

    # -- parameters

    def declare_buffers(self) -> None:
        written = {store.buffer for store in self.nest.stores}
        read = {term.detail[0] for term in self.terms if term.kind == "load"}
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
        return "i" if self.nest.product is not None else f"i{axis}"

    def index(self, index: Index) -> str:
        parts = []
        for axis, stride in index:
            step = "" if stride == 1 else f" * {self.number(stride)}"
            parts.append(self.variable(axis) + step)
        return " + ".join(parts) or "0"

    def is_lanes(self, term: Term) -> bool:
        return self.nest.lane in term.axes

    def operand(self, term: Term, lanes: bool) -> str:
        """A term as text, spread over the lanes where lanes are wanted and it is one number."""
        if term.kind == "iota" and self.is_lanes(term):
            return "indices(j)" if term.dtype == "i64" else f"as_{term.dtype}(indices(j))"
        text = self.scalar(term) if term.kind in ("constant", "size", "iota") else self.names[term]
        return f"spread({text})" if lanes and not self.is_lanes(term) else text

    def scalar(self, term: Term) -> str:
        if term.kind == "constant":
            return constant(term.detail, term.dtype)
        text = self.variable(term.detail) if term.kind == "iota" else self.number(term.detail)
        return text if term.dtype == "i64" else f"as_{term.dtype}({text})"

    def expression(self, term: Term) -> str:
        """The right-hand side of one computed term."""
        lanes = self.is_lanes(term)
        operands = [self.operand(operand, lanes) for operand in term.operands]
        op = term.value.op
        if op.name in maths.FUNCTIONS:
            instance = maths.instance(op.name, f"{term.dtype}x{LANES}" if lanes else term.dtype)
            self.called[instance.name] = instance
        if lanes and self.live and op.cost > 1:  # dead lanes get a harmless number: subnormals there would be slow
            harmless = f"spread({term.dtype}(1.0))"
            operands = [f"select({self.live}, {operand}, {harmless})" for operand in operands]
        zero, one = (f"{term.dtype}({number})" for number in (("0.0", "1.0") if term.dtype in FLOATS else ("0", "1")))
        if lanes:
            zero, one = f"spread({zero})", f"spread({one})"
        return str(term.detail.format(*operands, zero=zero, one=one))

    def load(self, pointer: str, index: str, lanes: bool, step: Extent = 1) -> str:
        if not lanes:
            return f"load({pointer}, {index})"
        if step != 1:
            return f"load_spaced({pointer}, {index}, {self.number(step)}, {self.live or f'live({LANES})'})"
        return f"load_live({pointer}, {index}, {self.live})" if self.live else f"load_lanes({pointer}, {index})"

    def save(self, pointer: str, index: str, text: str, lanes: bool) -> None:
        if not lanes:
            self.line(f"store({pointer}, {index}, {text})")
        elif self.live:
            self.line(f"store_live({pointer}, {index}, {text}, {self.live})")
        else:
            self.line(f"store_lanes({pointer}, {index}, {text})")

    def define(self, term: Term) -> None:
        """One line that gives a term its name."""
        if term.kind in ("constant", "size", "iota"):
            return
        if term.kind == "load":
            buffer, index = term.detail
            step = dict(index).get(self.nest.lane, 1)
            text = self.load(self.pointers[buffer], self.index(index), self.is_lanes(term), step)
        elif term.kind == "product":
            text = self.load("tile", f"(i - i0) * {self.shape.width} + (j - j0)", lanes=True)
        elif term.kind == "column":
            buffer, index, _ = term.detail
            text = self.load(self.pointers[buffer], self.index(index), self.is_lanes(term))
        else:
            text = self.expression(term)
        self.line(f"{self.name(term)} = {text}")

    def name(self, term: Term) -> str:
        if term not in self.names:
            stem = term.value.op.name if term.kind != "load" else "load"
            self.names[term] = self.fresh(f"{stem}_")
        return self.names[term]

    # -- one row

    def row_terms(self, phase: int | None) -> None:
        """The numbers of a row that are known before lane loop `phase`; None: those no loop changes."""
        for term in self.terms:
            once = not term.axes and term.phase == 0
            if term.late or self.is_lanes(term) or term.kind not in ("load", "compute"):
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
        for store in self.nest.stores:
            if store.phase == phase and not store.term.late and self.store_is_lanes(store):
                self.save(self.pointers[store.buffer], self.index(store.index), self.operand(store.term, True), True)

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
            elif term.kind == "column":
                buffer, _, name = term.detail
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
            if store.term.late and not store.index:
                self.save(self.pointers[store.buffer], "0", self.operand(store.term, False), False)

    def late_lanes(self) -> None:
        """Arithmetic on whole columns after the loops, and columns that go to memory as they are."""
        by_axes: dict[tuple[int, ...], list[Store]] = {}
        for store in self.nest.stores:
            if store.term.late and store.index:
                by_axes.setdefault(tuple(axis for axis, _ in store.index), []).append(store)
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


def constant(number: float, dtype: str) -> str:
    """A typed constant of the kernel language."""
    if dtype == "bool":
        return "true" if number else "false"
    if dtype in FLOATS:
        text = repr(float(number))
        return f"{dtype}({text})"
    return f"{dtype}({int(number)})"

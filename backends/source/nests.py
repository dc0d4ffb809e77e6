"""The loops of a nest: rows, lanes, and what is complete after the loops."""

from __future__ import annotations

from contextlib import nullcontext

from graphc.backends import maths, philox
from graphc.backends.primitives import LANES, constant
from graphc.backends.source import extremes
from graphc.backends.source.interleave import WAYS, rows_side_by_side
from graphc.backends.source.lines import EACH, identity
from graphc.backends.source.memory import Memory, pairs
from graphc.ir.loops import Buffer, Store, Term, phase_count, phase_roots, walked_by
from graphc.ir.ops import OPS
from graphc.ir.program import parts_buffer
from graphc.ir.types import ALIGNMENT, DTYPES, bound


class Nests(Memory):
    """Adds loops over rows and lanes to memory."""

    def outer_loops(self) -> None:
        start = len(self.lines)
        with self.loops(range(self.nest.lane)):
            for phase in range(phase_count(self.nest)):
                self.row_terms(phase)
                self.lane_loop(phase)
            self.row_stores(last=True)
        if self.rows > 1:
            kept = [self.stash(term) for term in self.nest.stash]
            step = f"{self.extents[-1]} // {LANES} * {LANES} + {2 * LANES}"
            rows = self.variable(self.nest.lane - 1)
            self.lines[start:] = rows_side_by_side(self.lines[start:], rows, self.rows, dict.fromkeys(kept, step))

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

    def expression(self, term: Term) -> str:
        """The right-hand side of one computed term."""
        lanes = self.is_lanes(term)
        operands = [self.operand(operand, lanes) for operand in term.operands]
        op = term.value.op
        if op.name in maths.FUNCTIONS:
            instance = maths.instance(op.name, f"{term.dtype}x{LANES}" if lanes else term.dtype)
            self.called[instance.name] = instance
        if op.name == "random_bits":
            kind = f"i64x{LANES}" if lanes else "i64"
            words = (philox.random_word(kind, number) for number in range(WAYS))
            self.called |= {instance.name: instance for instance in (philox.random_bits(kind), *words)}
        if lanes and self.live and op.cost > 1:  # dead lanes get a harmless number: subnormals there would be slow
            harmless = f"spread({term.dtype}(1.0))"
            operands = [f"select({self.live}, {operand}, {harmless})" for operand in operands]
        zero, one = constant(0, term.dtype), constant(1, term.dtype)
        if lanes:
            zero, one = f"spread({zero})", f"spread({one})"
        return str(term.detail.format(*operands, zero=zero, one=one))

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
            zero = constant(0, term.dtype)
            zero = f"spread({zero})" if lanes else zero
            text = f"select({self.inside(term.detail, lanes)}, {self.operand(term.operands[0], lanes)}, {zero})"
        elif term.kind == "product":
            text = self.load("tile", self.tile_place, lanes=True)
        elif term.kind == "column":
            buffer, index, _ = term.detail
            text = self.load(self.pointers[buffer], self.index(index), self.is_lanes(term))
        else:
            text = self.expression(term)
        self.line(f"{self.name(term)} = {text}")

    def name(self, term: Term) -> str:
        if term not in self.names:
            stem = term.kind if term.kind in ("load", "take", "guard") else term.value.op.name
            each = f"_{EACH}" if self.mode == "few" and self.varies(term) else ""
            self.names[term] = self.fresh(f"{stem}_") + each
        return self.names[term]

    def row_terms(self, phase: int | None) -> None:
        """The numbers of a row that are known before lane loop `phase`; None: those no loop changes."""
        for term in self.terms:
            once = not term.axes and term.phase == 0
            if term.late or self.varies(term) or term.kind not in ("load", "take", "guard", "compute"):
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
            if term.kind == "scatter" and not self.varies(term.operands[0]) and term.phase == phase:
                self.scatter(term, lanes=False)
            if term.kind not in ("total", "column") or self.varies(term.operands[0]):
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

    def lane_loop(self, phase: int) -> None:
        """One pass over the lanes of a row."""
        rows = [term for term in self.terms if term.kind == "row" and term.operands[0].phase == phase]
        if not phase_roots(self.nest, phase):
            return
        if self.mode == "few":
            self.few_steps(phase, rows)
            return
        if self.mode in ("single", "one"):
            self.single_step(phase, rows)
            return
        for term in rows:
            over_keys = extremes.is_extreme(term.detail, term.dtype)
            empty = (extremes.worst if over_keys else identity)(term.detail, term.dtype)
            self.line(f"{self.name(term)}_lanes = spread({empty})")
        for term in self.totals_of_rows(phase):
            self.line(f"{self.in_row(term)} = spread({identity(term.detail, term.dtype)})")
        first, last = self.span(self.nest.lane)
        if self.mode == "exact":
            with self.block(f"for j in range({first}, {last}, {LANES}):"):
                self.lane_body(phase, rows)
        else:
            self.line(f"whole = {last} - {last} % {LANES}")
            with self.block(f"for j in range({first}, whole, {LANES}):"):
                self.lane_body(phase, rows)
            with self.block(f"if whole < {last}:"):
                self.line("j = whole")
                self.line(f"live0 = live({last} - whole)")
                self.live = "live0"
                self.lane_body(phase, rows)
                self.live = ""
        for term in rows:
            self.line(f"{self.names[term]} = {self.of_lanes(term, f'{self.names[term]}_lanes')}")
        for term in self.totals_of_rows(phase):
            self.line(f"{self.running(term)} = {OPS[term.detail].scalar.format(self.running(term), self.in_row(term))}")

    def totals_of_rows(self, phase: int) -> list[Term]:
        """Totals that rows side by side each take a part of, all lanes of one before those of the next."""
        totals = [term for term in self.terms if term.kind == "total" and self.is_lanes(term.operands[0])]
        loops = self.rows > 1 and self.mode not in ("single", "one")
        return [term for term in totals if loops and term.operands[0].phase == phase]

    def in_row(self, term: Term) -> str:
        """The name of a total as far as it got within a row."""
        return f"{self.name(term)}_row"

    def of_lanes(self, term: Term, lanes: str) -> str:
        """A row's reduction from what its lanes have: numbers, or keys of floats."""
        text = f"{term.detail}_lanes({lanes})"
        if not extremes.is_extreme(term.detail, term.dtype):
            return text
        back = extremes.of_key(term.dtype)
        self.called[back.name] = back
        return f"{back.plain_name}({text})"

    def reduced(self, term: Term) -> str:
        """What the lanes of a row's reduction take in: its operand, or the keys of that."""
        if not extremes.is_extreme(term.detail, term.dtype):
            return self.masked(term)
        key = extremes.key(term.detail, term.dtype)
        self.called[key.name] = key
        return f"{key.plain_name}({self.masked(term)})"

    def single_step(self, phase: int, rows: list[Term]) -> None:
        """A row of at most sixteen elements: no loop, and every term stays at hand for later phases."""
        is_first = not any(phase_roots(self.nest, earlier) for earlier in range(phase))
        if is_first:
            self.line("j = 0")
        if self.mode == "single":
            if is_first:
                self.line(f"live0 = live({self.extents[-1]})")
            self.live = "live0"
        self.lane_body(phase)
        for term in rows:
            self.line(f"{self.name(term)} = {self.of_lanes(term, self.reduced(term))}")
        self.live = ""

    def few_steps(self, phase: int, rows: list[Term]) -> None:
        """A row of a few elements, each a number of its own; they are added as sixteen lanes would be, by halves."""
        self.lane_body(phase)
        for term in rows:
            operand = self.operand(term.operands[0], lanes=False)
            texts = [operand.replace(EACH, str(lane)) for lane in range(bound(self.nest.lane_extent))]
            self.line(f"{self.name(term)} = {halved(texts, OPS[term.detail].scalar)}")

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
            self.line(f"{lanes} = {OPS[term.detail].scalar.format(lanes, self.reduced(term))}")
        for term in self.terms:
            if term.kind in ("total", "column") and term.operands[0].phase == phase and self.varies(term.operands[0]):
                text = self.masked(term) if term.kind == "total" else self.names[term.operands[0]]
                self.accumulate(term, text, self.is_lanes(term.operands[0]))
            if term.kind == "scatter" and term.phase == phase and self.varies(term.operands[0]):
                self.scatter(term, lanes=self.is_lanes(term.operands[0]))
        self.lane_stores(phase)

    def lane_stores(self, phase: int) -> None:
        """What varies goes to memory; neighbours that are two apart from lane to lane go together."""
        whole = self.mode != "few"
        stores = {
            (store.buffer, store.index): self.operand(store.term, whole)
            for store in self.nest.stores
            if store.phase == phase and not store.term.late and self.store_is_lanes(store)
        }
        neighbours = pairs(stores, self.nest.lane) if whole else {}
        for (buffer, index), text in stores.items():
            half, first = neighbours.get((buffer, index), ("", index))
            if not half:
                self.save(self.pointers[buffer], self.index(index), text, whole, self.lane_step(index))
            if half == "odd":
                texts = f"{stores[buffer, first]}, {text}"
                self.line(f"store_pairs({self.pointers[buffer]}, {self.index(first)}, {texts}, {self.mask})")

    def stash(self, term: Term) -> str:
        return self.pointers[Buffer("scratch", term.value, "row")]

    def closure(self, phase: int) -> list[Term]:
        """The lane terms a lane loop has to compute, in order; kept rows are read, not computed again."""
        needed: set[Term] = set()
        stack = phase_roots(self.nest, phase)
        keeps = self.mode in ("single", "one", "few")
        while stack:
            term = stack.pop()
            if term in needed or not self.varies(term) or (keeps and term in self.names):
                continue
            needed.add(term)
            if not (term in self.nest.stash and term.phase < phase):
                stack.extend(term.operands)
        return [term for term in self.terms if term in needed]

    def masked(self, reduction: Term) -> str:
        """A reduction's operand with the dead lanes left out."""
        text = self.operand(reduction.operands[0], lanes=self.mode != "few")
        if not self.live:
            return text
        name = reduction.detail
        return f"select({self.live}, {text}, spread({identity(name, reduction.dtype)}))"

    def start_sums(self) -> None:
        for term in self.terms:
            if term.kind == "column" and self.parts:
                own = self.fresh("own")
                self.line(f"{own} = shift({self.parts_pointer(term)}, part * ({self.padded(term)}))")
                self.pointers[term.detail[0]] = own
            if term.kind == "total" or self.in_registers(term):
                empty = identity(term.detail if term.kind == "total" else term.detail[2], term.dtype)
                empty = f"spread({empty})" if self.is_lanes(term.operands[0]) else empty
                self.line(f"{self.running(term)} = {empty}")
            elif term.kind in ("column", "scatter"):
                buffer, name = term.detail[0], term.detail[2] if term.kind == "column" else "sum"
                with self.block(f"for k in range({self.kept_range(term)}, {LANES}):"):
                    empty = f"spread({identity(name, term.dtype)})"
                    self.line(f"store_lanes({self.pointers[buffer]}, k, {empty})")

    def in_registers(self, term: Term) -> bool:
        """A column of so few numbers that each is summed by itself, and goes to memory when it is done."""
        return self.mode == "few" and term.kind == "column" and walked_by(term.detail[1]) == {self.nest.lane}

    def running(self, term: Term) -> str:
        """The name of a sum as far as it got."""
        name = self.name(term)
        return f"{name.removesuffix(f'_{EACH}')}_running_{EACH}" if EACH in name else f"{name}_running"

    def kept_range(self, term: Term) -> str:
        """The places of a column: all, or those of the columns this call does."""
        cut = self.partition is not None and not self.parts and self.partition.axis in term.axes
        return "begin, end" if cut else f"0, {self.number(term.value.type.count)}"

    @property
    def parts(self) -> int:
        """How many parts have sums of their own; 0: sums are complete within a call."""
        return self.nest.partition.parts if self.nest.partition is not None else 0

    def parts_pointer(self, term: Term) -> str:
        """Where all parts leave their sums, those of one part after those of another."""
        buffer = parts_buffer(term)
        return self.pointers.get(buffer) or self.pointer(buffer, self.fresh("parts"), term.dtype)

    def padded(self, term: Term) -> str:
        """How many elements one part takes there."""
        whole = ALIGNMENT // DTYPES[term.dtype].itemsize
        return f"({self.number(term.value.type.count)} + {whole - 1}) // {whole} * {whole}"

    def leave_totals(self) -> None:
        for term in self.terms:
            if term.kind == "total":
                self.line(f"store({self.parts_pointer(term)}, part, {self.names[term]})")

    def add_parts(self) -> None:
        """The sums of all parts in one, in order."""
        for term in self.terms:
            if term.kind == "total":
                name, pointer = self.name(term), self.parts_pointer(term)
                self.line(f"{name} = load({pointer}, 0)")
                with self.block(f"for part in range(1, {self.parts}):"):
                    self.line(f"{name} = {OPS[term.detail].scalar.format(name, f'load({pointer}, part)')}")
            elif term.kind == "column":
                self.add_columns(term)

    def add_columns(self, term: Term) -> None:
        buffer, _, name = term.detail
        pointer, padded, total = self.parts_pointer(term), self.padded(term), self.fresh("total")
        with self.block(f"for k in range(0, {self.number(term.value.type.count)}, {LANES}):"):
            self.line(f"{total} = load_lanes({pointer}, k)")
            with self.block(f"for part in range(1, {self.parts}):"):
                more = f"load_lanes({pointer}, part * ({padded}) + k)"
                self.line(f"{total} = {OPS[name].scalar.format(total, more)}")
            self.line(f"store_lanes({self.pointers[buffer]}, k, {total})")

    def accumulate(self, term: Term, text: str, lanes: bool) -> None:
        if term.kind == "total" or self.in_registers(term):
            running, op = self.running(term), OPS[term.detail if term.kind == "total" else term.detail[2]]
            if term in self.totals_of_rows(term.operands[0].phase):
                running = self.in_row(term)
            self.line(f"{running} = {op.scalar.format(running, text)}")
            return
        buffer, index, name = term.detail
        if term in self.held:
            self.line(f"{self.held[term]} = {OPS[name].scalar.format(self.held[term], text)}")
            return
        pointer, at = self.pointers[buffer], self.index(index)
        known = self.load(pointer, at, lanes)
        self.save(pointer, at, OPS[name].scalar.format(known, text), lanes)

    def finish_totals(self) -> None:
        for term in self.terms:
            if self.in_registers(term):
                self.save(self.pointers[term.detail[0]], self.index(term.detail[1]), self.running(term), lanes=False)
            elif term.kind == "total":
                running = self.running(term)
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
            lanes = self.nest.lane in axes and self.mode != "few"
            along_lanes = self.lane_steps(*self.span(self.nest.lane)) if lanes else nullcontext()
            with self.loops([axis for axis in axes if axis != self.nest.lane]), along_lanes:
                self.late_body(stores, lanes)

    def define_late(self, stores: list[Store]) -> None:
        """The terms that late stores are made of, where the axes they vary along are known."""
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

    def late_body(self, stores: list[Store], lanes: bool) -> None:
        self.define_late(stores)
        for store in stores:
            self.save(self.pointers[store.buffer], self.index(store.index), self.operand(store.term, lanes), lanes)


def halved(texts: list[str], combine: str) -> str:
    """The terms combined in the order in which a vector of sixteen is reduced: the upper half onto the lower one."""
    half = LANES // 2
    while len(texts) > 1:
        upper = [*texts[half:], *[""] * (half - len(texts[half:]))]
        texts = [f"({combine.format(low, high)})" if high else low for low, high in zip(texts, upper)]
        half //= 2
    return texts[0]

"""Attention tile by tile: a block has some queries, or some keys, and goes over all that they meet.

Of a tile of points every thread has some in registers. Their products of vectors go through shared memory as those of
any product do (see products.py), then each point's weight is computed where its products are, and the tile of weights
goes to shared memory, to be multiplied with the rows of a matrix. Nothing of the size of all points is in memory.

Weights that are powers over the sum of their row are taken relative to the largest score so far; when a larger one
comes, what has been summed is scaled. At the end the sums are divided by that of the powers, whose logarithm is kept.
Sources: Dao et al. 2022, FlashAttention; Milakov & Gimelshein 2018, Online normalizer calculation for softmax.

Every sum goes along its axis in the order of places, a row's sum of powers through sixteen threads in a fixed tree, so
bits are the same on every device. Tiles whose weights are all 0 are left out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from graphc.backends import maths
from graphc.backends.cuda.operands import ACROSS, DEEP, Operands
from graphc.backends.cuda.products import MULTIPROCESSORS, Tile
from graphc.backends.cuda.threads import THREADS, NotCovered, Piece, grid_of
from graphc.backends.primitives import constant
from graphc.backends.source.operands import at_least_0
from graphc.ir.frozen import dataclass
from graphc.ir.layout import Steps
from graphc.ir.loops import LoopNest, Operand, Product, Term
from graphc.ir.tiles import Softmax, Tiling, Weighing
from graphc.ir.types import bound, multiply, round_up


def tile_of_points(nest: LoopNest, tiling: Tiling) -> Tile:
    """The tile that is done soonest: with twice as many points each way a thread, what it loads serves twice as many of
    them, but there are half as many blocks. Its sums must have room in its registers."""
    own, other = (bound(nest.frame[axis]) for axis in (tiling.own, other_axis(nest, tiling)))
    batches = bound(multiply(*nest.frame[:-2]))
    columns = sum(columns_of(each) for each in tiling.weighings)
    dtype = tiling.weighings[0].weight.dtype
    for each in (4, 2) if dtype == "f32" else (2,):
        fits = min(own, other) > each * ACROSS // 2 and each * columns <= MOST_SUMS
        if fits and own * batches > each // 2 * ACROSS * MULTIPROCESSORS:
            return Tile(each, each)
    return Tile(1, 1)


MOST_SUMS = 64  # of a thread
SCORE, BASE = "score_{row}_{column}", "base_{row}"  # of a point, and what it is taken relative to in its row


def other_axis(nest: LoopNest, tiling: Tiling) -> int:
    """The axis of points that is summed over."""
    return 2 * nest.lane - 1 - tiling.own


def ahead(place: str, number: int) -> str:
    return f"{place} + {number}" if number else place


def columns_of(weighing: Weighing) -> int:
    """Columns of a result that a thread has."""
    return -(-bound(weighing.columns) // ACROSS)


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of points as text: its extent, and what its place is called in indices."""

    number: int
    extent: str
    variable: str


class Tiled(Operands):
    """Writes a nest of tiles."""

    tile: Tile
    tiling: Tiling
    own: Axis
    other: Axis

    def pieces(self) -> tuple[Piece, ...]:
        """The one kernel. Raises NotCovered."""
        nest = self.nest
        if nest.tiling is None:
            raise NotCovered("no tiles")
        self.tiling = nest.tiling
        self.tile = tile_of_points(nest, self.tiling)
        self.begin()
        self.own, self.other = map(self.axis, (self.tiling.own, other_axis(nest, self.tiling)))
        high, batch = self.tile.height, range(nest.lane - 1)
        self.row_terms(None)
        self.share_memory()
        self.line(f"own_row = thread // {ACROSS} * {self.tile.rows}")
        self.line(f"own_column = thread % {ACROSS}")
        self.line(f"tiles = ({self.own.extent} + {high - 1}) // {high}")
        with self.block(f"for tile in range(block, tiles * {self.count_text(batch)}, blocks):"):
            self.line(f"first_own = tile % tiles * {high}")
            self.line("matrix = tile // tiles")
            self.decode("matrix", batch)
            for row in range(self.tile.rows):
                self.line(f"here_{row} = minimum({self.own_place(row)}, {self.own.extent} - 1)")
            self.begin_sums()
            first, last = self.span_of_others()
            with self.block(f"for first_other in range({first}, {last}, {self.tile.width}):"):
                self.add_tile()
            self.leave_sums()
        most = -(-bound(nest.frame[self.tiling.own]) // high) * bound(self.count(batch))
        return (self.finished(nest.name, grid_of(most, 1)),)

    @property
    def dtype(self) -> str:
        return self.tiling.weighings[0].weight.dtype

    def own_place(self, row: int) -> str:
        """Along the block's own axis, which may end before it."""
        return ahead("first_own + own_row", row)

    def axis(self, number: int) -> Axis:
        return Axis(number, self.extents[number], self.variable(number))

    def declare_buffers(self) -> None:
        written = set(self.nest.written())
        for buffer in self.nest.buffers():
            self.pointer(buffer, self.fresh("out" if buffer in written else "x"), buffer.value.dtype)

    def share_memory(self) -> None:
        """What blocks of operands take, and behind it the tile of weights."""
        high, wide = self.tile.height, self.tile.width
        widest = max(columns_of(each) * ACROSS for each in self.tiling.weighings)
        room = round_up(DEEP * max(high + wide + 2, widest + 1), ACROSS)
        self.shared[self.dtype] = room + high * (wide + 1)
        self.line(f"right_tile = shift(shared_{self.dtype}, {DEEP * (high + 1)})")
        self.line(f"weight_tile = shift(shared_{self.dtype}, {room})")

    def span_of_others(self) -> tuple[str, str]:
        """Where those begin and end that weigh anything, seen from the whole of a block's own."""
        low, high, wide = self.tiling.filled.lowest, self.tiling.filled.highest, self.tile.width
        if self.tiling.own == self.nest.lane:
            low, high = (None if end is None else -end for end in (high, low))
        first, last = "0", self.other.extent
        if low is not None:
            first = f"({at_least_0('first_own', low)}) // {wide} * {wide}"
        if high is not None:
            last = f"minimum({at_least_0('first_own', self.tile.height + high)}, {last})"
        return first, last

    # -- points

    def add_tile(self) -> None:
        """What the points of one tile add to the sums."""
        known = {}
        for number, (term, product) in enumerate(self.tiling.products):
            self.multiply_vectors(number, product)
            known[term] = f"sum{number}_{{row}}_{{column}}"
        for column in range(self.tile.columns):
            self.line(f"there_{column} = {ahead('first_other + own_column', column * ACROSS)}")
            self.line(f"live_{column} = there_{column} < {self.other.extent}")
            self.line(f"place_{column} = minimum(there_{column}, {self.other.extent} - 1)")
        softmax, roots = self.tiling.softmax, [each.weight for each in self.tiling.weighings]
        if softmax is not None:
            self.scores_of_rows(softmax, known)
            known |= {softmax.scores: SCORE, softmax.normaliser: BASE}
            roots = [softmax.powers, *roots]
        for row, column in self.points(roots, known):
            if softmax is not None:
                self.line(f"power_{row} = power_{row} + {self.operand(softmax.powers, False)}")
            for number, weighing in enumerate(self.tiling.weighings):
                name = f"weight{number}_{row}_{column}"
                self.line(f"{name} = select(live_{column}, {self.operand(weighing.weight, False)}, {self.zero})")
        for number, weighing in enumerate(self.tiling.weighings):
            self.weigh(number, weighing)

    def multiply_vectors(self, number: int, product: Product) -> None:
        """A product of vectors of every point, in `sum{number}_{row}_{column}`."""
        left, right = (product.left.rows, product.left.columns), (product.right.columns, product.right.rows)
        sides = [(product.left, *left), (product.right, *right)]
        if self.own.number == self.nest.lane:
            sides.reverse()
        (one, *one_steps), (other, *other_steps) = sides
        shared, high, wide = f"shared_{self.dtype}", self.tile.height, self.tile.width
        for row, column in self.places():
            self.line(f"sum{number}_{row}_{column} = {self.zero}")
        self.line(f"last_step = {self.number(product.depth)}")
        with self.block(f"for step in range(0, last_step, {DEEP}):"):
            self.bring(f"own{number}", one, shared, (high, "first_own", self.own.extent), *one_steps)
            self.bring(f"other{number}", other, "right_tile", (wide, "first_other", self.other.extent), *other_steps)
            self.line("barrier()")
            with self.block(f"for k in range({DEEP}):"):
                for row in range(self.tile.rows):
                    self.line(f"a{row} = load({shared}, k * {high + 1} + {ahead('own_row', row)})")
                for column in range(self.tile.columns):
                    at = ahead("own_column", column * ACROSS)
                    self.line(f"b{column} = load(right_tile, k * {wide + 1} + {at})")
                for row, column in self.places():
                    name = f"sum{number}_{row}_{column}"
                    self.line(f"{name} = fma(a{row}, b{column}, {name})")
            self.line("barrier()")

    def bring(
        self, name: str, operand: Operand, target: str, span: tuple[int, str, str], across: Steps, deep: Steps
    ) -> None:
        """A block of an operand to shared memory, neighbours in memory by neighbouring threads."""
        size, first, stop = span
        along_depth = not across or (bool(deep) and deep[-1][1] == 1)
        start, pointer = self.index(operand.start), self.pointers[operand.buffer]
        with self.block(f"for piece in range(thread, {size * DEEP}, {THREADS}):"):
            self.line(f"near = piece {'// ' + str(DEEP) if along_depth else '% ' + str(size)}")
            self.line(f"far = piece {'% ' + str(DEEP) if along_depth else '// ' + str(size)}")
            self.line(f"live = ({first} + near < {stop}) & (step + far < last_step)")
            self.line(f"place = select(live, {first} + near, 0)")
            self.line("deep = select(live, step + far, 0)")
            parts = [*self.walk(f"{name}_across", "place", across), *self.walk(f"{name}_deep", "deep", deep)]
            at = " + ".join([start, *parts] if start != "0" else parts) or "0"
            self.line(f"number = select(live, load({pointer}, {at}), {self.zero})")
            self.line(f"store({target}, far * {size + 1} + near, number)")

    def places(self) -> Iterator[tuple[int, int]]:
        """Of the points that a thread has."""
        for row in range(self.tile.rows):
            yield from ((row, column) for column in range(self.tile.columns))

    def points(self, roots: Sequence[Term], known: Mapping[Term, str]) -> Iterator[tuple[int, int]]:
        """Each point in turn, with all that roots are computed of; what is known has the names that are given."""
        found = list(self.computed_for(roots, known))
        for row in range(self.tile.rows):
            self.line(f"{self.own.variable} = here_{row}")
            for column in range(self.tile.columns):
                self.names |= {term: name.format(row=row, column=column) for term, name in known.items()}
                if column == 0:
                    self.define_all(term for term in found if self.other.number not in term.axes)
                self.line(f"{self.other.variable} = place_{column}")
                self.define_all(term for term in found if self.other.number in term.axes)
                yield row, column

    def define_all(self, terms: Iterable[Term]) -> None:
        for term in terms:
            self.define(term)

    def computed_for(self, roots: Sequence[Term], known: Collection[Term]) -> Iterator[Term]:
        """What roots are computed of and is not known, operands first; numbers of no axis have been computed before."""
        wanted, stack = set[Term](), list(roots)
        while stack:
            term = stack.pop()
            if term not in wanted and term not in known:
                wanted.add(term)
                stack += term.operands
        return (term for term in self.terms if term in wanted and (term.axes or term.phase))

    # -- a softmax

    def scores_of_rows(self, softmax: Softmax, known: Mapping[Term, str]) -> None:
        """The scores of the tile; what has been summed, in terms of the largest score of a row so far."""
        lowest = constant(-math.inf, self.dtype)
        for row, column in self.points([softmax.scores], known):
            name = SCORE.format(row=row, column=column)
            self.line(f"{name} = select(live_{column}, {self.operand(softmax.scores, False)}, {lowest})")
        for row in range(self.tile.rows):
            best, base = f"best_{row}", BASE.format(row=row)
            self.line(f"{best} = {SCORE.format(row=row, column=0)}")
            for column in range(1, self.tile.columns):
                self.line(f"{best} = maximum({best}, {SCORE.format(row=row, column=column)})")
            self.over_row(best, "maximum({0}, {1})")
            self.line(f"{best} = maximum({best}, top_{row})")
            self.line(f"{base} = select({best} > {lowest}, {best}, {self.zero})")
            self.line(f"shrink_{row} = {self.function('exp')}(top_{row} - {base})")
            self.line(f"top_{row} = {best}")
            for name in (f"power_{row}", *self.sums_of_row(row)):
                self.line(f"{name} = {name} * shrink_{row}")

    def over_row(self, name: str, combined: str) -> None:
        """A number of each thread becomes that of all sixteen of its row, the same bits in each of them."""
        distance = ACROSS // 2
        while distance:
            other = self.fresh("other")
            self.line(f"{other} = shuffle_xor({name}, {distance})")
            self.line(f"{name} = {combined.format(name, other)}")
            distance //= 2

    def function(self, name: str) -> str:
        instance = maths.instance(name, self.dtype)
        self.called[instance.name] = instance
        return instance.plain_name

    def leave_softmax(self, softmax: Softmax, row: int) -> None:
        """The sums of a row become means, and the logarithm of its powers is kept."""
        zero, one, lowest = self.zero, constant(1.0, self.dtype), constant(-math.inf, self.dtype)
        self.over_row(f"power_{row}", "{0} + {1}")
        whole = f"power_{row}"
        if softmax.hides:
            self.line(f"whole_{row} = select(power_{row} == {zero}, {one}, power_{row})")
            whole = f"whole_{row}"
        for name in self.sums_of_row(row):
            self.line(f"{name} = {name} / {whole}")
        if not softmax.rooms:
            return
        base, known = f"select(top_{row} > {lowest}, top_{row}, {zero})", f"normaliser_{row}"
        self.line(f"{known} = {base} + {self.function('log')}(power_{row})")
        if softmax.hides:
            self.line(f"{known} = select(power_{row} == {zero}, {constant(math.inf, self.dtype)}, {known})")
        place = self.own_place(row)
        with self.block(f"if (own_column == 0) & ({place} < {self.own.extent}):"):
            for room in softmax.rooms:
                at = f"{self.index(room.start)} + ({place}) * {self.number(room.steps[0])}"
                self.line(f"store({self.pointers[room.buffer]}, {at}, {known})")

    # -- weighing

    @property
    def zero(self) -> str:
        return constant(0.0, self.dtype)

    def sums_of_row(self, row: int) -> Iterator[str]:
        """The names of what a thread sums in a row."""
        for number, weighing in enumerate(self.tiling.weighings):
            yield from (f"mean{number}_{row}_{column}" for column in range(columns_of(weighing)))

    def begin_sums(self) -> None:
        for row in range(self.tile.rows):
            for name in self.sums_of_row(row):
                self.line(f"{name} = {self.zero}")
            if self.tiling.softmax is not None:
                self.line(f"top_{row} = {constant(-math.inf, self.dtype)}")
                self.line(f"power_{row} = {self.zero}")

    def weigh(self, number: int, weighing: Weighing) -> None:
        """The rows of a matrix times the weights of the tile, added to what has been summed."""
        columns, wide = columns_of(weighing), self.tile.width
        size = columns * ACROSS
        for row, column in self.places():
            at = f"({ahead('own_row', row)}) * {wide + 1} + {ahead('own_column', column * ACROSS)}"
            self.line(f"store(weight_tile, {at}, weight{number}_{row}_{column})")
        self.line(f"last_step = minimum(first_other + {wide}, {self.other.extent})")
        with self.block(f"for step in range(first_other, last_step, {DEEP}):"):
            matrix, span = weighing.matrix, (size, "0", self.number(weighing.columns))
            self.bring(f"rows{number}", matrix, f"shared_{self.dtype}", span, matrix.columns, matrix.rows)
            self.line("barrier()")
            with self.block(f"for k in range({DEEP}):"):
                self.line("weighed = step - first_other + k")
                for row in range(self.tile.rows):
                    self.line(f"a{row} = load(weight_tile, ({ahead('own_row', row)}) * {wide + 1} + weighed)")
                for column in range(columns):
                    at = ahead("own_column", column * ACROSS)
                    self.line(f"b{column} = load(shared_{self.dtype}, k * {size + 1} + {at})")
                for row in range(self.tile.rows):
                    for column in range(columns):
                        name = f"mean{number}_{row}_{column}"
                        self.line(f"{name} = fma(a{row}, b{column}, {name})")
            self.line("barrier()")

    def leave_sums(self) -> None:
        for row in range(self.tile.rows):
            if self.tiling.softmax is not None:
                self.leave_softmax(self.tiling.softmax, row)
            place = self.own_place(row)
            with self.block(f"if {place} < {self.own.extent}:"):
                for number, weighing in enumerate(self.tiling.weighings):
                    self.leave(number, weighing, row, place)

    def leave(self, number: int, weighing: Weighing, row: int, place: str) -> None:
        columns = self.number(weighing.columns)
        for column in range(columns_of(weighing)):
            own = ahead("own_column", column * ACROSS)
            with self.block(f"if {own} < {columns}:"):
                for room in weighing.rooms:
                    step, within = map(self.number, room.steps)
                    at = f"{self.index(room.start)} + ({place}) * {step} + ({own}) * {within}"
                    self.line(f"store({self.pointers[room.buffer]}, {at}, mean{number}_{row}_{column})")

"""Less memory for more loads: a batch in slices of its rows, one after another, within one call.

What is computed of rows is computed of a slice at a time, in a loop whose states add up the sums over rows: gradients,
losses, counts. All that is computed of these sums, such as an optimizer's update, comes once after the loop. So it is
the same arithmetic on every row, and only sums over rows are put together in another order. Random numbers depend on
the number of a row in the batch, not in its slice.

What every row needs of all rows (the sum of the weights that a mean is divided by) is summed up in a loop of its own
before, if it is had of the inputs without any product: computing all of a model twice is no saving.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from graphc.ir import ops
from graphc.ir.access import is_constant
from graphc.ir.graph import Graph, Output, TooLittleMemory, Value, located
from graphc.ir.passes import merge, place_copies, run_passes, tidy
from graphc.ir.program import Program, plan
from graphc.ir.rows import Layout, RowsMeet, row_axis
from graphc.ir.types import Dim, Extent, TensorType, divide, multiply, substitute

DONE_ONCE = ("contraction", "loop", "sweep", "scatter")  # kinds too dear to be done twice


def sliced(graph: Graph, dim: Dim, rows: int) -> Graph:
    """The graph with all that has a dim in a loop over slices of at most so many rows; raises RowsMeet."""
    return Slicer(graph, dim, rows).run()


class Slicer:
    """One graph on its way to slices.

    early  sums that rows depend on
    given  outputs that have rows
    new    what has become of the values outside of the loops
    """

    def __init__(self, graph: Graph, dim: Dim, rows: int) -> None:
        self.graph = graph
        self.dim = dim
        self.rows = rows
        self.layout = Layout(dim).look_at(graph)
        self.new: dict[Value, Value] = {}
        self.early = self.find_early()
        self.given = self.find_given()

    def run(self) -> Graph:
        sums = [value for value in self.graph.values() if value in self.layout.sums and value not in self.early]
        if self.early:
            self.repeat(f"{self.dim.name}_slice_before", [*self.early], [])
        found = self.repeat(f"{self.dim.name}_slice", sums, self.given)
        outputs = (found.get(each) or replace(each, value=self.outside(each.value)) for each in self.graph.outputs)
        return run_passes(replace(self.graph, outputs=tuple(outputs)), (tidy, merge, place_copies))

    def find_given(self) -> list[Output]:
        """The outputs that have rows; raises RowsMeet where these do not lie as slices of them do."""
        given = [output for output in self.graph.outputs if self.layout.holds(output.value)]
        for output in given:
            if row_axis(output.value, self.dim) != 0 or self.layout.outer[output.value] != 1:
                text = f"{output.name} is {output.value.type}; its rows must lie one after another"
                raise RowsMeet(text, output.value)
        return given

    def find_early(self) -> dict[Value, None]:
        """The sums that rows depend on; raises RowsMeet where they cost too much to be had first."""
        behind: dict[Value, dict[Value, None]] = {}  # the sums a value depends on, through values without rows
        found: dict[Value, None] = {}
        for value in self.graph.values():
            sums = {each: None for operand in value.operands for each in behind.get(operand, ())}
            if self.layout.holds(value) or value in self.layout.sums:
                found |= sums
                sums = {value: None} if value in self.layout.sums else {}
            behind[value] = sums
        for value in self.inside(found):
            depends = any(behind[operand] for operand in value.operands if not self.layout.holds(operand))
            if depends or value.op.kind in DONE_ONCE:
                first = next(iter(found))
                raise RowsMeet("every row needs what is computed of all of them, as for BatchNorm", first)
        return found

    def inside(self, roots: Iterable[Value]) -> list[Value]:
        """The roots and the values with rows that they are computed of, operands first."""
        wanted = set(roots)
        for value in reversed(self.graph.values()):
            if value in wanted:
                wanted.update(operand for operand in value.operands if self.layout.holds(operand))
        return [value for value in self.graph.values() if value in wanted]

    def outside(self, value: Value) -> Value:
        """What a value without rows has become."""
        stack = [value]
        while stack:
            each = stack[-1]
            if each in self.new:
                stack.pop()
                continue
            missing = [operand for operand in each.operands if operand not in self.new]
            stack.extend(missing)
            if not missing:
                same = all(self.new[operand] is operand for operand in each.operands)
                self.new[each] = each if same else replace(each, operands=tuple(self.new[one] for one in each.operands))
        return self.new[value]

    def repeat(self, name: str, sums: list[Value], given: list[Output]) -> dict[Output, Output]:
        """Make the loop that adds up sums over rows, and gives outputs that have rows; returns those."""
        if not sums and not given:
            return {}
        while name in (dim.name for dim in self.graph.dims):  # a user may have called one so
            name += "_"
        body = SliceBody(self, Dim(name, min(self.rows, self.dim.max)))
        for value in self.inside([*sums, *(output.value for output in given)]):
            body.add(value)
        with located([*sums, *(output.value for output in given)][0].origin):
            loop = body.loop(sums, given)
        self.new |= {value: result_of(loop, f"sum{number}", value) for number, value in enumerate(sums)}
        return {
            output: replace(output, value=result_of(loop, f"rows{number}", output.value))
            for number, output in enumerate(given)
        }


def result_of(loop: Value, name: str, value: Value) -> Value:
    """What the loop gives in place of a value."""
    with located(value.origin):
        return ops.part_of(loop, name)


class SliceBody:
    """The body of a loop over slices while it is written.

    mine      what has become of values in it
    slices    data input -> the array it is rows of
    captured  data input -> the operand it is
    first     the number of the first row of a slice, once somebody asked for it
    """

    def __init__(self, slicer: Slicer, some: Dim) -> None:
        self.slicer = slicer
        self.all, self.some = slicer.dim, some
        self.mine: dict[Value, Value] = {}
        self.slices: dict[Value, Value] = {}
        self.captured: dict[Value, Value] = {}
        self.first: Value | None = None

    def add(self, value: Value) -> None:
        with located(value.origin):
            self.mine[value] = self.made(value)

    def made(self, value: Value) -> Value:
        if value.op is ops.input:
            return self.arriving(value)
        if value.op is ops.iota and value.attrs["axis"] == row_axis(value, self.all):
            return self.counted(value)
        return resized(value, tuple(map(self.own, value.operands)), self.all, self.some)

    def arriving(self, value: Value) -> Value:
        """The rows of an input that are in this slice."""
        axis = row_axis(value, self.all)
        assert axis is not None
        order = (axis, *(other for other in range(len(value.shape)) if other != axis))
        whole = value if axis == 0 else ops.copy(ops.transpose(value, permutation=order))
        kind = whole.type.with_shape(tuple(substitute(extent, self.all, self.some) for extent in whole.shape))
        rows = ops.input(name=value.attrs["name"], role="data", type=kind)
        self.slices[rows] = whole
        return rows if axis == 0 else ops.transpose(rows, permutation=ops.inverse(order))

    def counted(self, value: Value) -> Value:
        """The numbers of the rows in the batch, or of what there are several of in a row."""
        here = resized(value, (), self.all, self.some)
        if self.first is None:
            self.first = ops.input(name="first", role="state", type=TensorType("i64", ()))
        outer, line = self.slicer.layout.outer[value], TensorType("i64", here.shape)
        assert outer is not None
        inner = divide(value.shape[value.attrs["axis"]], multiply(self.all, outer))
        assert inner is not None
        places = here if here.dtype == "i64" else ops.cast(here, dtype="i64")
        numbers = ops.add(places, stretched(ops.mul(self.first, number(inner)), line))
        if outer != 1:  # from one time that all rows come to the next it is further than in the slice
            times = ops.quotient(places, stretched(number(multiply(self.some, inner)), line))
            more = ops.mul(ops.sub(number(self.all), number(self.some)), number(inner))
            numbers = ops.add(numbers, ops.mul(times, stretched(more, line)))
        return numbers if here.dtype == "i64" else ops.cast(numbers, dtype=here.dtype)

    def own(self, value: Value) -> Value:
        """An operand as the body has it. What has no rows is captured below its views, in the memory it has."""
        stack = [value]
        while stack:
            each = stack[-1]
            if each in self.mine:
                stack.pop()
                continue
            if each.op.kind != "view" and not is_constant(each):
                outside = self.slicer.outside(each)
                arriving = ops.input(name=f"captured{len(self.captured)}", role="data", type=each.type)
                self.captured[arriving] = outside
                self.mine[each] = arriving
                continue
            missing = [operand for operand in each.operands if operand not in self.mine]
            stack.extend(missing)
            if not missing:
                self.mine[each] = replace(each, operands=tuple(self.mine[operand] for operand in each.operands))
        return self.mine[value]

    def loop(self, sums: list[Value], given: list[Output]) -> Value:
        carried: dict[Value, Value] = {}
        outputs = []
        for number, value in enumerate(sums):
            with located(value.origin):
                state = ops.input(name=f"sum{number}", role="state", type=value.type)
                carried[state] = ops.full(value=0, type=value.type)
                outputs.append(Output("update", f"sum{number}", ops.add(state, self.mine[value])))
        if self.first is not None:
            carried[self.first] = ops.full(value=0, type=self.first.type)
            step = ops.add(self.first, ops.full(value=self.some.max, type=self.first.type))
            outputs.append(Output("update", "first", step))
        outputs += [Output("result", f"rows{number}", self.mine[each.value]) for number, each in enumerate(given)]
        inputs = (*carried, *self.slices, *self.captured)
        return ops.loop(
            *carried.values(),
            *self.slices.values(),
            *self.captured.values(),
            body=ops.Body(Graph("slice", inputs, tuple(outputs))),
            length=-(-self.all.max // self.some.max),
            reverse=False,
            slices=len(self.slices),
            counted=False,
            rows=(self.some, self.all),
        )


def number(extent: Extent) -> Value:
    return ops.size(extent=extent, type=TensorType("i64", ()))


def stretched(x: Value, like: TensorType) -> Value:
    """One number in every place."""
    return ops.broadcast(ops.reshape(x, shape=(1,) * len(like.shape)), shape=like.shape)


def resized(value: Value, operands: tuple[Value, ...], dim: Dim, other: Dim) -> Value:
    """The value for another number of rows; who asks for their number means that of the batch."""
    if value.op is ops.size:
        return value

    def at(item: object) -> object:
        if isinstance(item, TensorType):
            return item.with_shape(tuple(substitute(extent, dim, other) for extent in item.shape))
        if isinstance(item, ops.Body):
            return ops.Body(resized_graph(item.graph, dim, other))
        if isinstance(item, tuple):
            return tuple(at(part) for part in item)
        return substitute(item, dim, other) if isinstance(item, Extent) and item.__class__ is not bool else item

    attrs = {name: at(item) for name, item in value.attrs.items()}
    return value.op(*operands, **attrs)


def resized_graph(graph: Graph, dim: Dim, other: Dim) -> Graph:
    new: dict[Value, Value] = {}
    for value in (*graph.inputs, *graph.values()):
        if value not in new:
            with located(value.origin):
                new[value] = resized(value, tuple(new[operand] for operand in value.operands), dim, other)
    outputs = tuple(replace(output, value=new[output.value]) for output in graph.outputs)
    return replace(graph, inputs=tuple(new[value] for value in graph.inputs), outputs=outputs)


# -- how many rows


def in_slices(graph: Graph, rows: int) -> Graph:
    """The graph in slices of so many rows; raises RowsMeet."""
    return sliced(graph, dim_of_rows(graph), rows)


def fitted_in_slices(graph: Graph, panel_width: int, most: int, whole: int, size: Callable[[Program], int]) -> Program:
    """The program with the longest slices, all as long as can be, that needs no more than `most` bytes.

    whole  bytes of the program for whole batches, which are too many
    size   bytes of a program
    Raises TooLittleMemory with what slices of one row need; RowsMeet where there can be no slices.
    """
    dim = dim_of_rows(graph)

    def cut(slices: int) -> Program:
        return plan(sliced(graph, dim, -(-dim.max // slices)), panel_width)

    few, many = 1, dim.max  # too few slices, and enough of them
    found = cut(many)
    least = size(found)
    if least > most:
        raise TooLittleMemory(least)
    # Memory grows about as the rows do, so the first guess is next to the answer mostly.
    rows = 1 + (dim.max - 1) * (most - least) // max(whole - least, 1)
    middle, guessed = -(-dim.max // max(rows, 1)), True
    while many - few > 1:
        middle = min(max(middle, few + 1), many - 1)
        trial = cut(middle)
        if size(trial) <= most:
            many, found = middle, trial
        else:
            few = middle
        beside = many - 1 if many == middle else few + 1
        middle, guessed = (beside, False) if guessed else ((few + many) // 2, False)
    return found


def dim_of_rows(graph: Graph) -> Dim:
    """The first dim that numbers the rows of a batch; raises RowsMeet with what is wrong with the first."""
    wrong: RowsMeet | None = None
    for dim in graph.dims:
        try:
            Slicer(graph, dim, dim.max)
            return dim
        except RowsMeet as error:
            wrong = wrong or error
    raise wrong or RowsMeet("no input has a dim for the rows of a batch", graph.outputs[0].value)

"""Where the rows of a batch lie in every value of a graph, and where they come together in sums.

The batch is a dim. A value whose type has it holds a part for each row, and what is computed of some rows alone is that
part of it; a value without it is the same whatever rows there are, or a sum over rows. Where anything else is done with
several rows at once, a batch cannot be taken apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from graphc.ir import ops
from graphc.ir.graph import Graph, Origin, Output, Value, reachable
from graphc.ir.types import Dim, Extent, dims_of, divide, multiply

Outer = Extent | None
LINEAR = ("neg", "copy", "add", "sub")  # of sums, they are sums


class RowsMeet(Exception):
    """Rows of a batch have to be looked at together; with the line where they are."""

    def __init__(self, text: str, value: Value) -> None:
        self.text = text
        self.origin: Origin | None = value.origin
        super().__init__(text)


def has_dim(extent: Extent, dim: Dim) -> bool:
    return extent.__class__ is not int and dim in dims_of(extent)


def row_axis(value: Value, dim: Dim) -> int | None:
    """The axis along which the rows lie."""
    axes = [axis for axis, extent in enumerate(value.shape) if has_dim(extent, dim)]
    if len(axes) > 1:
        raise RowsMeet(f"{value.type} has a number for every pair of rows", value)
    return axes[0] if axes else None


class Layout:
    """The rows in the values of a graph.

    outer  of every value with rows, how often all rows come along their axis, which is [outer, rows, what is left];
           None: any way to see it will do, as it is the same for all rows
    sums   values that are sums over rows
    loops  loops with rows inside: the layout of their bodies
    inside this is the layout of a body: what is made of sums there must be a sum as well
    """

    def __init__(self, dim: Dim, inside: bool = False) -> None:
        self.dim = dim
        self.inside = inside
        self.outer: dict[Value, Outer] = {}
        self.sums: set[Value] = set()
        self.loops: dict[Value, Layout] = {}
        self.counted: dict[Value, Extent] = {}  # `outer` of lines of numbers, by what becomes of them

    def look_at(self, graph: Graph) -> Layout:
        """The layout with all values of a graph; raises RowsMeet."""
        self.counted = counted_as(graph, self.dim)
        for value in graph.values():
            if value not in self.outer and value not in self.sums:
                self.look(value)
        return self

    def holds(self, value: Value) -> bool:
        """It is computed of rows, and not yet a sum of them."""
        return value in self.outer or value in self.loops

    def look(self, value: Value) -> None:
        if value.op is ops.loop:
            return self.look_at_loop(value)
        if value.op is ops.part:
            return self.look_at_part(value)
        axis = row_axis(value, self.dim)
        if axis is not None:
            if any(operand in self.sums for operand in value.operands) and self.inside:
                raise RowsMeet(f"{value.op.name} uses in a loop what is computed of all rows", value)
            outer = self.rule(value)(value, axis)
            self.outer[value] = 1 if value.shape[axis] == self.dim else outer
        elif any(operand in self.outer for operand in value.operands):
            self.look_at_sum(value)
        elif self.inside and any(operand in self.sums for operand in value.operands):
            self.look_at_term(value)

    def look_at_sum(self, value: Value) -> None:
        """Rows go in and come out as one."""
        if value.op not in (ops.sum, ops.dot, ops.scatter):
            raise RowsMeet(f"{value.op.name} is taken over all rows", value)
        self.common(value, value.operands)
        self.sums.add(value)

    def look_at_term(self, value: Value) -> None:
        """Arithmetic on sums in a body."""
        known = [operand in self.sums for operand in value.operands]
        if value.op.kind != "view" and not (value.op.name in LINEAR and all(known)):
            raise RowsMeet(f"{value.op.name} is computed of all rows in a loop", value)
        self.sums.add(value)

    # -- how the rows lie in what an op gives

    def rule(self, value: Value) -> Callable[[Value, int], Outer]:
        special: dict[str, Callable[[Value, int], Outer]] = {
            "input": self.of_input, "iota": self.of_iota, "reshape": self.of_reshape, "slice": self.of_cut,
            "pad": self.of_cut, "window": self.of_window, "gather": self.of_gather, "scatter": self.of_scatter,
        }  # fmt: skip
        along = {"sweep": self.of_sweep, "join": self.of_sweep}
        return special.get(value.op.name) or along.get(value.op.kind) or self.of_any

    def common(self, value: Value, operands: Iterable[Value]) -> Outer:
        """How the rows lie in all of the operands that have any."""
        found = {self.outer[each] for each in operands if each in self.outer} - {None}
        if len(found) > 1:
            raise RowsMeet(f"{value.op.name} puts together other rows than those of one number", value)
        return found.pop() if found else None

    def of_any(self, value: Value, axis: int) -> Outer:
        return self.common(value, value.operands)

    def of_input(self, value: Value, axis: int) -> Outer:
        if value.attrs["role"] != "data" or value.shape[axis] != self.dim:
            raise RowsMeet(f"{value.attrs['name']} is {value.type}, which is no array of rows", value)
        return 1

    def of_iota(self, value: Value, axis: int) -> Outer:
        if value.attrs["axis"] != axis:
            return None
        if self.inside:
            raise RowsMeet("rows are counted in a loop", value)
        return self.counted.get(value, 1)

    def of_reshape(self, value: Value, axis: int) -> Outer:
        (x,) = value.operands
        before, outer = row_axis(x, self.dim), self.outer[x]
        assert before is not None
        if outer is None:
            if len(x.shape) == len(value.shape) or [e for e in x.shape if e != 1] == [e for e in value.shape if e != 1]:
                return None
            raise RowsMeet(f"{value.op.name} of {x.type} to {value.type} takes rows apart", value)
        ahead = multiply(*x.shape[:before], outer)
        found = divide(ahead, multiply(*value.shape[:axis]))
        inner = divide(value.shape[axis], multiply(self.dim, found)) if found is not None else None
        if found is None or inner is None:
            raise RowsMeet(f"{value.op.name} of {x.type} to {value.type} takes rows apart", value)
        return found

    def of_cut(self, value: Value, axis: int) -> Outer:
        (x,) = value.operands
        steps = value.attrs.get("step")
        if x.shape[axis] != value.shape[axis] or value.attrs["start"][axis] != 0 or (steps and steps[axis] != 1):
            raise RowsMeet(f"{value.op.name} takes some of the rows", value)
        return self.common(value, (x,))

    def of_window(self, value: Value, axis: int) -> Outer:
        if axis in value.attrs["axes"] or axis >= len(value.operands[0].shape):
            raise RowsMeet("a window goes over several rows", value)
        return self.common(value, value.operands)

    def of_gather(self, value: Value, axis: int) -> Outer:
        table, places = value.operands[0], value.attrs["places"]
        along = row_axis(table, self.dim)
        if along is not None and places[along] != axis:
            raise RowsMeet("rows are looked up by their numbers", value)
        return self.common(value, value.operands)

    def of_scatter(self, value: Value, axis: int) -> Outer:
        if value.attrs["places"][axis] != row_axis(value.operands[0], self.dim):
            raise RowsMeet("rows are added up at places that are told", value)
        return self.common(value, value.operands)

    def of_sweep(self, value: Value, axis: int) -> Outer:
        if value.attrs["axis"] == axis and (value.op is not ops.join or len(value.operands) > 1):
            raise RowsMeet(f"{value.op.name} goes over all rows in order", value)
        return self.common(value, value.operands)

    # -- loops

    def look_at_loop(self, loop: Value) -> None:
        body, roles = loop.attrs["body"].graph, ops.Roles(loop)
        if has_dim(loop.attrs["length"], self.dim):
            raise RowsMeet("a loop goes from row to row", loop)
        inside = Layout(self.dim, inside=True)
        pairs = (*roles.carried, *roles.slices, *roles.captured)
        if any(operand in self.sums for operand in loop.operands) and self.inside:
            raise RowsMeet("a loop starts from what is computed of all rows", loop)
        for arriving, operand in pairs:
            if operand in self.outer and row_axis(arriving, self.dim) is not None:
                inside.outer[arriving] = self.outer[operand]
        summing = states_of_sums(body, self.dim)
        inside.sums |= summing
        inside.look_at(body)
        if not inside.outer:
            return
        starts = dict(roles.carried)
        updates = {output.name: output.value for output in body.of_kind("update")}
        for state in starts:
            after = updates[state.attrs["name"]]
            if state in summing and not (after in inside.sums and is_zero(starts[state])):
                raise RowsMeet("a loop carries what is computed of all rows", loop)
            if state in inside.outer and inside.outer[state] != inside.outer.get(after):
                raise RowsMeet("a loop brings its rows into another order", loop)
        self.loops[loop] = inside

    def look_at_part(self, part: Value) -> None:
        loop = part.operands[0]
        inside = self.loops.get(loop)
        if inside is None:
            return
        output = output_of(loop, part.attrs["name"])
        if output.value in inside.sums:
            self.sums.add(part)
        elif output.value in inside.outer:
            axis = row_axis(part, self.dim)
            assert axis is not None
            self.outer[part] = inside.outer[output.value]
        else:
            raise RowsMeet("a loop over rows also gives what does not depend on them", part)


def output_of(loop: Value, name: str) -> Output:
    body: Graph = loop.attrs["body"].graph
    return next(output for output in body.outputs if output.name == name)


def states_of_sums(body: Graph, dim: Dim) -> set[Value]:
    """The states of a body that have no rows and whose new values depend on some."""
    states = {value.attrs["name"]: value for value in body.of_role("state")}
    found: set[Value] = set()
    while True:
        touched = set(found)
        for value in reachable(tuple(output.value for output in body.outputs)):
            if any(has_dim(extent, dim) for extent in value.shape) or any(each in touched for each in value.operands):
                touched.add(value)
        more = {states[output.name] for output in body.of_kind("update") if output.value in touched}
        more = {state for state in more if not any(has_dim(extent, dim) for extent in state.shape)}
        if more <= found:
            return found
        found |= more


def counted_as(graph: Graph, dim: Dim) -> dict[Value, Extent]:
    """How often all rows come in a line of numbers: it is told by the shape that is made of it later."""
    lines: dict[Value, Value] = {}
    found: dict[Value, Extent] = {}
    for value in graph.values():
        if value.op is ops.iota and len(value.shape) == 1 and has_dim(value.shape[0], dim):
            lines[value] = value
        if value.op.kind != "elementwise" and value.op is not ops.reshape:
            continue
        line = next((lines[operand] for operand in value.operands if operand in lines), None)
        if line is None:
            continue
        lines[value] = line
        if dim in value.shape:
            found.setdefault(line, multiply(*value.shape[: value.shape.index(dim)]))
    return found


def is_zero(value: Value) -> bool:
    """A constant 0, whatever shape and memory it was given."""
    while value.op is ops.copy or value.op.kind == "view":
        value = value.operands[0]
    return value.op is ops.full and value.attrs["value"] == 0

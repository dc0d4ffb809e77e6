"""From `tiles` to the nest that goes through its points tile by tile."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from graphc.ir import ops
from graphc.ir.access import resolve
from graphc.ir.builder import Builder, Part, home, seen_from, tidy
from graphc.ir.checkpointing import moved
from graphc.ir.graph import Graph, Value
from graphc.ir.group import Group
from graphc.ir.loops import Band, Buffer, LoopNest, Product, Term, verify_nest
from graphc.ir.outline import COLUMNS, ROWS, is_power, own_axis, points_of, walked, weighed_side, whole
from graphc.ir.tiles import Room, Softmax, Tiling, Weighing
from graphc.ir.triangles import triangles


def tiled_nest(value: Value, targets: Mapping[str, Sequence[Part]]) -> LoopNest:
    """The nest of a `tiles`, whose results go to `targets`, by name; those that are not among them go nowhere."""
    body: Graph = value.attrs["body"].graph
    homes = {Buffer("input", arriving): home(each) for arriving, each in zip(body.inputs, value.operands, strict=True)}
    return verify_nest(moved(Tiles(value, body, targets).build(), homes))


class Tiles(Builder):
    """Builds the nest over the inputs of the body."""

    def __init__(self, made: Value, body: Graph, targets: Mapping[str, Sequence[Part]]) -> None:
        self.made_by, self.body, self.targets = made, body, targets
        self.names = {output.value: output.name for output in body.outputs}
        self.weighed = [value for value in self.names if value.op is ops.dot]
        sample = self.weighed[0]
        group = Group(points_of(resolve(sample.operands[weighed_side(sample)]).root.shape))
        for value in body.values():
            if value.op in (ops.dot, ops.normaliser):
                group.axes[value] = walked(value.shape)
            elif value.op.kind == "elementwise":
                group.again.add(value)
        super().__init__(group, {}, {}, triangles(body))

    def build(self) -> LoopNest:
        softmax = next((self.softmax(each) for each in self.body.values() if each.op is ops.normaliser), None)
        weighings = tuple(map(self.weighing, self.weighed))
        inner = [each for each in self.body.values() if each.op is ops.dot and each not in self.weighed]
        products = tuple((self.at_points(each), self.product_at(each)) for each in inner)
        rows = self.group.lane - 1
        own = rows if own_axis(self.weighed[0]) == ROWS else rows + 1
        if softmax is not None:
            filled = self.outside([softmax.scores.value], -math.inf)
        else:
            filled = self.outside((each.weight.value for each in weighings), 0.0)
        tiling = Tiling(self.made_by, products, weighings, own, filled, softmax)
        name = "attention" if softmax is not None else f"attention_of_{('queries', 'keys')[own - rows]}"
        origins = () if self.made_by.origin is None else (self.made_by.origin,)
        return LoopNest(name, self.group.frame, (), origins=origins, tiling=tiling)

    def at_points(self, value: Value) -> Term:
        return self.term(seen_from(whole(value, self.group.frame), resolve(value)))

    def compute(self, value: Value) -> Term:
        if value.op is not ops.normaliser:
            return super().compute(value)
        scores = self.at_points(value.operands[0])
        return Term("row", value.dtype, value, frozenset(self.group.walked(value)), (scores,), "normaliser", 1)

    def product_at(self, value: Value) -> Product:
        """Of the vectors of a point."""
        left, right = (self.matrix(value, operand) for operand in value.operands)
        return Product(left, right, value.operands[0].shape[-1])

    def softmax(self, normaliser: Value) -> Softmax:
        powers = next(each for each in self.body.values() if is_power(each, normaliser))
        scores, seen, made = map(self.at_points, (normaliser.operands[0], normaliser, powers))
        return Softmax(scores, made, seen, self.rooms(normaliser), normaliser.attrs["hides"])

    def weighing(self, product: Value) -> Weighing:
        side = weighed_side(product)
        matrix = self.matrix(product, product.operands[1 - side])
        if side == 1:
            matrix = replace(matrix, rows=matrix.columns, columns=matrix.rows)
        weight = self.at_points(resolve(product.operands[side]).root)
        columns = product.shape[COLUMNS if side == 0 else ROWS]
        return Weighing(weight, matrix, columns, self.rooms(product, turned=side == 1))

    def rooms(self, value: Value, turned: bool = False) -> tuple[Room, ...]:
        """Where a result goes; its columns are rows where it is turned."""
        axes, found = self.group.axes[value][:-2], []
        for part in self.targets.get(self.names.get(value, ""), ()):
            *batch, rows, columns = part.steps
            start = [(axis, step) for axis, step in zip(axes, batch, strict=True) if axis is not None]
            steps = (columns, rows) if turned else (rows, columns)
            found.append(Room(part.buffer, tidy([(None, part.offset), *start]), steps))
        return tuple(found)

    def outside(self, values: Iterable[Value], number: float) -> Band:
        """The band outside of which all values are that number, as far as they are computed of finite ones."""
        corners = [self.found[value] for value in values]
        above, below = [each.above for each in corners], [each.below for each in corners]
        highest = [None if each is None or each.number != number else each.diagonal for each in above]
        lowest = [None if each is None or each.number != number else each.diagonal for each in below]
        return Band(
            None if None in lowest else min(each for each in lowest if each is not None),
            None if None in highest else max(each for each in highest if each is not None),
            sure=False,
        )

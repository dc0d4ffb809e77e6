"""Products with weights, taken out of a graph with all that the weights are computed of point by point.

A point is a row and a column of the scores. What is computed at points alone needs no memory: it goes into the body of
one op, `tiles`, together with the products of vectors that scores are, and is gone through tile by tile. The body is
over memory only, seen through the views it was seen through before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from itertools import count

from graphc.ir import ops
from graphc.ir.access import Access, is_constant, is_squeeze, memory_of, resolve, strides
from graphc.ir.adjoint import with_grown
from graphc.ir.attention import is_of_size, without_normalisers
from graphc.ir.builder import seen_from
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph, Output, Value, located, reachable
from graphc.ir.group import Axes, straight
from graphc.ir.layout import is_unfounded, matrix_layout
from graphc.ir.placing import placed_output
from graphc.ir.rewrite import with_operands
from graphc.ir.trail import Trail
from graphc.ir.types import Shape, TensorType

MOST = 2  # products of vectors that are computed at a point, and products with weights of one op
ROWS, COLUMNS = -2, -1  # axes of points


@dataclass(frozen=True, slots=True)
class Cone:
    """What a weight is computed of at its own point.

    points      arithmetic on elements
    products    the products of vectors among them
    read        what is there before
    normalisers among what is read
    """

    points: dict[Value, None] = field(default_factory=dict)
    products: dict[Value, None] = field(default_factory=dict)
    read: dict[Value, None] = field(default_factory=dict)

    @property
    def normalisers(self) -> tuple[Value, ...]:
        return tuple(value for value in self.read if value.op is ops.normaliser)

    @property
    def memory(self) -> Iterator[Value]:
        """Everything that has to be there, what products are of included."""
        yield from self.read
        yield from (resolve(operand).root for product in self.products for operand in product.operands)


@dataclass(frozen=True, slots=True)
class Site:
    """A product one of whose operands are weights.

    side    which of its operands
    weight  the value they are, along rows and columns
    own     the axis of points that is an axis of the result
    """

    product: Value
    side: int
    weight: Value
    own: int
    cone: Cone

    @property
    def other(self) -> Value:
        """The matrix that is weighed."""
        return self.product.operands[1 - self.side]


def tile_attention(graph: Graph, trail: Trail | None = None) -> Graph:
    """The graph with `tiles` in place of every product with weights that are normalised."""
    if not any(value.op is ops.normaliser for value in graph.values()):
        return graph
    sites = [site for value in graph.values() for site in sites_of(value)]
    new: dict[Value, Value] = {}
    for normaliser in [value for value in graph.values() if value.op is ops.normaliser]:
        site = next((each for each in sites if is_forward(each, normaliser, graph)), None)
        if site is not None:
            sites.remove(site)
            new |= outlined([site], normaliser)
    for together in side_by_side(sites, graph):
        new |= outlined(together)
    found = without_normalisers(with_grown(graph, new, trail), trail)
    return replace(found, outputs=tuple(map(in_own_memory, found.outputs)))


def in_own_memory(output: Output) -> Output:
    """A result is written where it is wanted at once; a state may still be read."""
    is_state = output.kind == "update" and memory_of(output.value).op is ops.part
    return placed_output(output) if is_state else output


# -- where


def sites_of(value: Value) -> Iterator[Site]:
    """The ways in which a value is a product with normalised weights: one, or none."""
    if value.op is not ops.dot:
        return
    for side, operand in enumerate(value.operands):
        access, other = resolve(operand), value.operands[1 - side]
        if access.root.op.kind != "elementwise" or not is_of_size(other.shape[COLUMNS if side == 0 else ROWS]):
            continue
        turned = is_turned(access)
        cone = None if turned is None or matrix_layout(other) is None else cone_of(access.root)
        if cone is not None and cone.normalisers:
            own = COLUMNS if turned != (side == 1) else ROWS
            yield Site(value, side, access.root, own, cone)
            return


def is_turned(access: Access) -> bool | None:
    """Whether rows and columns are exchanged; None where they are something else, or of one element."""
    if not access.is_plain or 1 in access.shape[-2:]:
        return None
    found = [axis for axis in access.axes if axis is not None]
    own = [axis for axis, extent in enumerate(access.shape) if extent != 1]
    if found == own:
        return False
    return True if found == [*own[:-2], own[COLUMNS], own[ROWS]] else None


def points_of(shape: Shape) -> Shape:
    """The axes there are more than one place along."""
    return tuple(extent for extent in shape if extent != 1)


def walked(shape: Shape) -> Axes:
    """Which axis of points each axis of a value is that has some of them, the first ones."""
    kept = count()
    return tuple(None if extent == 1 else next(kept) for extent in shape)


def whole(value: Value, points: Shape) -> Access:
    """A value at its own points."""
    return Access(value, points, straight(walked(value.shape)))


def cone_of(weight: Value) -> Cone | None:
    """None where it takes more products than are computed at a point."""
    first = whole(weight, points_of(weight.shape))
    cone, seen, stack = Cone(), {first}, [first]
    while stack:
        reader = stack.pop()
        cone.points[reader.root] = None
        for operand in map(unfolded, reader.root.operands):
            access = seen_from(reader, resolve(operand))
            root = access.root
            if access in seen or is_constant(root):
                continue
            seen.add(access)
            if is_at_points(access):
                cone.products[root] = None
            elif root.op.kind == "elementwise" and not access.guards:
                stack.append(access)
            else:
                cone.read[root] = None
    for value in cone.read:
        cone.points.pop(value, None)
        cone.products.pop(value, None)
    return cone if len(cone.products) <= MOST else None


def is_at_points(access: Access) -> bool:
    """A product of vectors that is read at its own point, and so need not be there before."""
    root = access.root
    return root.op is ops.dot and is_turned(access) is False and is_of_size(root.operands[0].shape[-1])


def unfolded(value: Value) -> Value:
    """What is computed of places alone, in another order of axes, as arithmetic on places along the axes it has then.

    So random bits, which are drawn along one axis, are drawn where they are needed. Any other value is what it was.
    """
    if value.op is not ops.reshape or is_squeeze(value.operands[0].shape, value.shape):
        return value
    known: Value | None = value.memo.get("unfolded")
    if known is None:
        with located(value.origin):
            known = value.memo["unfolded"] = reshaped(value.operands[0], value.shape) or value
    return known


def reshaped(x: Value, shape: Shape) -> Value | None:
    if x.op is ops.full:
        return ops.full(value=x.attrs["value"], type=x.type.with_shape(shape))
    if x.op is ops.iota and len(x.shape) == 1:
        places = [strided(axis, shape, x.type) for axis, extent in enumerate(shape) if extent != 1]
        whole = places[0]
        for each in places[1:]:
            whole = ops.add(whole, each)
        return whole
    if x.op is ops.broadcast and all(extent == 1 for extent in x.operands[0].shape):
        return ops.broadcast(ops.reshape(x.operands[0], shape=(1,) * len(shape)), shape=shape)
    if x.op.kind != "elementwise":
        return None
    operands = [reshaped(operand, shape) for operand in x.operands]
    return None if None in operands else x.op(*(each for each in operands if each is not None), **x.attrs)


def strided(axis: int, shape: Shape, kind: TensorType) -> Value:
    """How far the places along an axis are from the first one, in elements."""
    step, kind = strides(shape)[axis], kind.with_shape(shape)
    place = ops.iota(axis=axis, type=kind)
    if step == 1:
        return place
    if isinstance(step, int):
        return ops.mul(place, ops.full(value=step, type=kind))
    size = ops.reshape(ops.size(extent=step, type=kind.with_shape(())), shape=(1,) * len(shape))
    return ops.mul(place, ops.broadcast(size, shape=shape))


# -- which together


def is_forward(site: Site, normaliser: Value, graph: Graph) -> bool:
    """Its weights are the powers of a row times what is known without its normaliser, so both can be summed at once."""
    if site.own != ROWS or site.cone.normalisers != (normaliser,):
        return False
    later = depending(normaliser, graph)
    others = (each for each in site.cone.memory if each is not normaliser)
    is_known = later.isdisjoint([*others, resolve(site.other).root, *site.cone.products])
    return is_known and scales(site.weight, normaliser, later)


def depending(value: Value, graph: Graph) -> set[Value]:
    found = {value}
    for each in graph.values():
        if any(operand in found for operand in each.operands):
            found.add(each)
    return found


def is_power(value: Value, normaliser: Value) -> bool:
    """exp(scores - normaliser)."""
    if value.op is not ops.exp or value.operands[0].op is not ops.sub:
        return False
    scores, known = value.operands[0].operands
    return scores is normaliser.operands[0] and resolve(known).root is normaliser


def scales(value: Value, normaliser: Value, later: set[Value]) -> bool:
    """It is a power times a number that does not depend on the normaliser."""
    if is_power(value, normaliser):
        return True
    if value.op is ops.where:
        condition, picked, other = value.operands
        is_zero = other.op is ops.full and other.attrs["value"] == 0
        return is_zero and condition not in later and scales(picked, normaliser, later)
    if value.op in (ops.mul, ops.div):
        one, other = value.operands
        return other not in later and scales(one, normaliser, later)
    return False


def side_by_side(sites: Sequence[Site], graph: Graph) -> Iterator[list[Site]]:
    """Sites of one op each: those that share what they compute at points, and do not wait for each other."""
    left = list(sites)
    while left:
        together = [left.pop(0)]
        for site in list(left):
            if len(together) < MOST and all(may_share(each, site, graph) for each in together):
                together.append(site)
                left.remove(site)
        yield together


def may_share(one: Site, other: Site, graph: Graph) -> bool:
    alike = [(site.own, points_of(site.weight.shape), site.weight.dtype) for site in (one, other)]
    products = {**one.cone.products, **other.cone.products}
    if alike[0] != alike[1] or len(products) > MOST or one.cone.products.keys().isdisjoint(other.cone.products):
        return False
    for first, second in ((one, other), (other, one)):
        computed = {*second.cone.points, *second.cone.products}
        waits = first.product in reachable((*second.cone.memory, second.other))
        if waits or not computed.isdisjoint(first.cone.read):
            return False
    return True


# -- a product in a body


def weighed_side(product: Value) -> int:
    """Which operand of a site's product in a body are its weights: the one that is no memory."""
    return 0 if memory_of(resolve(product.operands[1]).root).op is ops.input else 1


def own_axis(product: Value) -> int:
    """The axis of points that is one of such a product."""
    side = weighed_side(product)
    return COLUMNS if bool(is_turned(resolve(product.operands[side]))) != (side == 1) else ROWS


# -- the op


def outlined(sites: Sequence[Site], normaliser: Value | None = None) -> dict[Value, Value]:
    """What stands in place of the products of sites, and of the normaliser of their rows if it is one of theirs."""
    outline = Outline(sites, normaliser)
    with located(sites[0].product.origin):
        results = {site.product: outline.product(site.product) for site in sites}
        if normaliser is not None:
            results[normaliser] = outline.at_points(normaliser)
        names = [f"{value.op.name}{number}" for number, value in enumerate(results)]
        outputs = [Output("result", name, each) for name, each in zip(names, results.values(), strict=True)]
        body = Graph("tiles", tuple(outline.arriving.values()), tuple(outputs))
        made = ops.tiles(*outline.arriving, body=ops.Body(body))
        return {
            value: ops.part(made, name=output.name, type=value.type)
            for value, output in zip(results, outputs, strict=True)
        }


class Outline:
    """Copies values into a body. `arriving` are its inputs, by the values they are."""

    def __init__(self, sites: Sequence[Site], normaliser: Value | None) -> None:
        self.arriving: dict[Value, Value] = {}
        self.copied: dict[Value, Value] = {}
        self.weighed = {site.product: site.side for site in sites}
        self.points = {each for site in sites for each in (*site.cone.points, *site.cone.products)}
        self.normaliser = normaliser

    def at_points(self, value: Value) -> Value:
        """A value in the body that is read point by point."""
        value = unfolded(value)
        if value not in self.copied:
            self.copied[value] = self.copy(value)
        return self.copied[value]

    def copy(self, value: Value) -> Value:
        if value.op is ops.dot and value in self.points:
            return with_operands(value, tuple(map(self.matrix, value.operands)))
        is_view = value.op.kind == "view" and not is_reordered(value)
        if is_view or value in self.points or value is self.normaliser:
            return with_operands(value, tuple(map(self.at_points, value.operands)))
        return value if is_constant(value) else self.brought(value)

    def product(self, value: Value) -> Value:
        """The product of a site."""
        sides = [self.matrix, self.matrix]
        sides[self.weighed[value]] = self.at_points
        return with_operands(value, tuple(side(operand) for side, operand in zip(sides, value.operands, strict=True)))

    def matrix(self, value: Value) -> Value:
        """A matrix in the body: memory, seen through the same views."""
        if value.op.kind != "view" or (is_reordered(value) and not is_unfounded(value)):
            return self.brought(value)
        return with_operands(value, tuple(map(self.matrix, value.operands)))

    def brought(self, value: Value) -> Value:
        if value not in self.arriving:
            self.arriving[value] = ops.input(name=f"x{len(self.arriving)}", role="data", type=value.type)
        return self.arriving[value]


def is_reordered(value: Value) -> bool:
    """A view that is read from memory of its own shape."""
    return value.op is ops.reshape and not is_squeeze(value.operands[0].shape, value.shape)

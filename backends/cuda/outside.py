"""Products that a library of NVIDIA's can do: which nests have one, and what is left of such a nest for our kernels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from graphc.backends.cuda.device import Multiply, Place
from graphc.backends.cuda.fronts import PRODUCT, with_terms
from graphc.backends.cuda.threads import row_major
from graphc.ir import ops
from graphc.ir.frozen import dataclass
from graphc.ir.layout import Steps
from graphc.ir.loops import INDEXED, Buffer, Index, LoopNest, Term
from graphc.ir.types import DTYPES, Extent, bound, multiply

RELU = ops.relu.scalar  # the template of its terms
LEAST = 1 << 18  # multiply-adds: with fewer, a product of ours is done before a library's has begun
Strides = dict[int, Extent]  # by axis


@dataclass(frozen=True, slots=True)
class Outside:
    """A product for a library, and where its matrices lie in buffers.

    starts  elements before the left and the right matrix
    ending  what the library does to every element
    rest    what is left of the nest
    """

    left: Buffer
    right: Buffer
    target: Buffer
    starts: tuple[int, int]
    ending: Ending
    call: Multiply
    rest: LoopNest | None

    @property
    def read(self) -> list[Buffer]:
        return [self.left, self.right, *([] if self.ending.bias is None else [self.ending.bias])]

    @property
    def rooms(self) -> tuple[tuple[Buffer, int], ...]:
        """The scratch it needs, and its bytes."""
        return ((self.target, self.target.value.type.max_bytes),) if self.target.kind == "scratch" else ()

    def step(self, place: Callable[[Buffer], Place]) -> Multiply:
        size = DTYPES[self.call.dtype].itemsize
        left, right = place(self.left), place(self.right)
        left = replace(left, offset=left.offset + self.starts[0] * size)
        right = replace(right, offset=right.offset + self.starts[1] * size)
        bias = None if self.ending.bias is None else place(self.ending.bias)
        return replace(self.call, target=place(self.target), left=left, right=right, bias=bias)


@dataclass(frozen=True, slots=True)
class Ending:
    """What a library does to the elements of a product as it leaves them.

    term  the last of the nest's terms that is done so
    bias  a number is added to each column
    relu  what is below 0 becomes 0
    """

    term: Term
    bias: Buffer | None = None
    relu: bool = False


def ending_of(nest: LoopNest) -> Ending:
    """The most that a library can do of what the nest does with its product, and with nothing else of it."""
    term = next(each for each in nest.terms() if each.kind == "product")
    ending, last = Ending(term), len(nest.frame) - 1
    (user, *more) = users(nest, ending.term) or (None,)
    if user is not None and not more and user.detail == "{0} + {1}":
        bias = next(each for each in (*user.operands, None) if each is not term)
        if bias is not None and bias.kind == "load" and bias.dtype == "f32" and bias.detail[1:] == (((last, 1),), ()):
            ending = Ending(user, bias.detail[0])
            (user, *more) = users(nest, user) or (None,)
    if user is not None and not more and user.detail == RELU:
        ending = replace(ending, term=user, relu=True)
    return ending


def users(nest: LoopNest, term: Term) -> list[Term | None]:
    """The terms that have it as an operand; None for a store of it that is not in place."""
    found: list[Term | None] = [each for each in nest.terms() if any(operand is term for operand in each.operands)]
    return found + [None for store in nest.stores if store.term is term]


def chosen(nest: LoopNest, library: Collection[str]) -> Outside | None:
    """The product of a nest that is for a library, as `library` has its name."""
    found = outside(nest) if library and nest.product is not None else None
    if found is None:
        return None
    name = name_of(nest)
    return with_ending(nest, found) if name + WITH_ENDING in library else found if name in library else None


WITH_ENDING = "+"  # behind the name of a product: the library does what it can of the rest, too


def with_ending(nest: LoopNest, found: Outside) -> Outside | None:
    """The same with all that a library can do; None where that is no more."""
    ending = ending_of(nest)
    if ending.term is found.ending.term:
        return None
    target, rest = split(nest, ending.term)
    return replace(found, target=target, rest=rest, ending=ending, call=replace(found.call, relu=ending.relu))


def outside(nest: LoopNest) -> Outside | None:
    """The product of a nest if a library can do it: large, of f32, and its matrices have a step of 1 along an axis."""
    product = nest.product
    if product is None:
        return None
    term = next(each for each in nest.terms() if each.kind == "product")
    frame, rows, columns = nest.frame[:-2], *nest.frame[-2:]
    if term.dtype != "f32" or bound(multiply(*nest.frame, product.depth)) < LEAST:
        return None
    left = matrix_steps(one_step(product.left.rows), one_step(product.left.columns), rows, product.depth)
    right = matrix_steps(one_step(product.right.rows), one_step(product.right.columns), product.depth, columns)
    starts = [start_of(operand.start) for operand in (product.left, product.right)]
    if left is None or right is None or starts[0] is None or starts[1] is None:
        return None
    size = multiply(rows, columns)
    targets: Strides = {axis: multiply(size, *frame[axis + 1 :]) for axis in range(len(frame))}
    batch = one_batch(frame, [starts[0][1], starts[1][1], targets])
    if batch is None:
        return None
    target, rest = split(nest, term)
    nowhere = Place("work")
    call = Multiply(nowhere, nowhere, nowhere, rows, columns, product.depth, left, right, *batch, "f32")
    before = starts[0][0], starts[1][0]
    return Outside(product.left.buffer, product.right.buffer, target, before, Ending(term), call, rest)


def split(nest: LoopNest, term: Term) -> tuple[Buffer, LoopNest | None]:
    """(where the product goes once it is this term, the nest that reads it there; None where nothing is left to do)."""
    index = row_major(nest.frame, frozenset(range(len(nest.frame))))
    kept = [
        store
        for store in nest.stores
        if store.term is term and store.index == index and store.buffer.kind in ("value", "result")
    ]
    buffer = kept[0].buffer if kept else Buffer("scratch", term.value, PRODUCT)
    left = tuple(store for store in nest.stores if store not in kept[:1])
    if not left:
        return buffer, None
    loaded = replace(term, kind="load", detail=(buffer, index, ()), operands=())
    return buffer, replace(with_terms(replace(nest, stores=left), {term: loaded}), product=None)


def one_step(steps: Steps) -> tuple[Extent, Extent] | None:
    """The axes of memory that a matrix axis walks, as one: (extent, step); None where they are several."""
    found: tuple[Extent, Extent] = (1, 0)
    for extent, step in reversed(steps):
        if extent == 1:
            continue
        if found[0] == 1:
            found = extent, step
        elif step == multiply(*found):
            found = multiply(extent, found[0]), found[1]
        else:
            return None
    return found


def matrix_steps(
    down: tuple[Extent, Extent] | None, across: tuple[Extent, Extent] | None, rows: Extent, columns: Extent
) -> tuple[Extent, Extent] | None:
    """(elements from row to row, from column to column), one of them 1; None for other matrices."""
    if down is None or across is None:
        return None
    row, column = down[1], across[1]
    if (row == 0 and rows != 1) or (column == 0 and columns != 1):
        return None  # one row or column again and again
    if (column == 1 or columns == 1) and (rows == 1 or bound(row) >= bound(columns)):
        return (columns if rows == 1 else row), 1
    if (row == 1 or rows == 1) and (columns == 1 or bound(column) >= bound(rows)):
        return 1, (rows if columns == 1 else column)
    return None


def start_of(index: Index) -> tuple[int, Strides] | None:
    """(elements before the first matrix, from matrix to matrix along each axis of the batch)."""
    before, steps = 0, Strides()
    for axis, step in index:
        if axis is not None:
            steps[axis] = step
        elif isinstance(step, int):
            before += step
        else:
            return None
    return before, steps


def one_batch(frame: Sequence[Extent], steps: Sequence[Strides]) -> tuple[Extent, tuple[Extent, ...]] | None:
    """(matrices, elements from one to the next for each operand and the target), all axes of a batch as one."""
    merged = []
    for strides in steps:
        walked = tuple((extent, strides.get(axis, 0)) for axis, extent in enumerate(frame))
        still = all(step == 0 for extent, step in walked if extent != 1)
        found = (1, 0) if still else one_step(walked)
        if found is None:
            return None
        merged.append(found[1])
    return multiply(*frame), tuple(merged)


def name_of(nest: LoopNest) -> str:
    """Equal for nests that do the same with memory of the same layout."""
    assert nest.product is not None
    product = nest.product
    told = [(each.start, each.rows, each.columns) for each in (product.left, product.right)]
    # A buffer is no part of the name: where it lies makes no difference.
    details = (term.detail[1:] if term.kind in INDEXED else term.detail for term in nest.terms())
    terms = [(term.kind, term.dtype, sorted(term.axes)) for term in nest.terms()]
    text = repr((nest.frame, product.depth, told, terms, [*details], [store.index for store in nest.stores]))
    return hashlib.sha256(text.encode()).hexdigest()[:16]

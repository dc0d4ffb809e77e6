"""Products that a library of NVIDIA's can do: which nests have one, and what is left of such a nest for our kernels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from graphc.backends.cuda.device import Multiply, Place
from graphc.backends.cuda.fronts import PRODUCT, with_terms
from graphc.backends.cuda.threads import row_major
from graphc.ir.frozen import dataclass
from graphc.ir.layout import Steps
from graphc.ir.loops import INDEXED, Buffer, Index, LoopNest
from graphc.ir.types import DTYPES, Extent, bound, multiply

LEAST = 1 << 18  # multiply-adds: with fewer, a product of ours is done before a library's has begun
Strides = dict[int, Extent]  # by axis


@dataclass(frozen=True, slots=True)
class Outside:
    """A product for a library, and where its matrices lie in buffers.

    starts  elements before the left and the right matrix
    """

    left: Buffer
    right: Buffer
    target: Buffer
    starts: tuple[int, int]
    call: Multiply
    rest: LoopNest | None

    @property
    def rooms(self) -> tuple[tuple[Buffer, int], ...]:
        """The scratch it needs, and its bytes."""
        return ((self.target, self.target.value.type.max_bytes),) if self.target.kind == "scratch" else ()

    def step(self, place: Callable[[Buffer], Place]) -> Multiply:
        size = DTYPES[self.call.dtype].itemsize
        left, right = place(self.left), place(self.right)
        left = replace(left, offset=left.offset + self.starts[0] * size)
        right = replace(right, offset=right.offset + self.starts[1] * size)
        return replace(self.call, target=place(self.target), left=left, right=right)


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
    target, rest = split(nest)
    nowhere = Place("work")
    call = Multiply(nowhere, nowhere, nowhere, rows, columns, product.depth, left, right, *batch, "f32")
    return Outside(product.left.buffer, product.right.buffer, target, (starts[0][0], starts[1][0]), call, rest)


def split(nest: LoopNest) -> tuple[Buffer, LoopNest | None]:
    """(where the product goes, the nest that reads it there; None if it goes where the nest would leave it)."""
    product = next(term for term in nest.terms() if term.kind == "product")
    index = row_major(nest.frame, frozenset(range(len(nest.frame))))
    (store, *more) = nest.stores
    if not more and store.term is product and store.index == index and store.buffer.kind in ("value", "result"):
        return store.buffer, None
    buffer = Buffer("scratch", product.value, PRODUCT)
    loaded = replace(product, kind="load", detail=(buffer, index, ()))
    return buffer, replace(with_terms(nest, {product: loaded}), product=None)


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

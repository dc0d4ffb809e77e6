"""Products of vectors, matrices and stacks of matrices.

Products of floats are matrix products; those of integers stay integers, as in NumPy, and are multiplied and summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from graphc.errors import ShapeError
from graphc.ir import ops
from graphc.ir.graph import Value, user_origin
from graphc.ir.types import FLOATS, Shape, multiply
from graphc.settings import check_list, is_whole, shown
from graphc.tensor.building import apply, as_tensor, cast_value, common_dtype, elementwise, lift_all, stretch
from graphc.tensor.views import ordered_axes, permuted, reshaped

if TYPE_CHECKING:
    from graphc.tensor.tensor import Tensor

__all__ = ["bmm", "dot", "inner", "kron", "matmul", "mm", "mv", "outer", "tensordot"]


def matmul(a: Any, b: Any) -> Tensor:
    """NumPy's and PyTorch's matmul: [..., m, k], [..., k, n] -> [..., m, n], what stands in front broadcast.

    A vector is a row on the left and a column on the right, and its axis is not in the result. Raises ShapeError for
    single numbers, inner sizes that differ and stacks that do not broadcast.
    """
    left, right = alike(a, b)
    if not left.shape or not right.shape:
        refuse("matmul", left, right, "a single number is multiplied by *")
    inner = left.shape[-1], right.shape[-2 if len(right.shape) > 1 else 0]
    if inner[0] != inner[1]:
        from graphc.suggestions import for_product

        advice = for_product(left.shape, right.shape)
        refuse("matmul", left, right, f"the inner sizes {inner[0]} and {inner[1]} differ", advice)
    rows = left if len(left.shape) > 1 else reshaped(left, (1, *left.shape))
    columns = right if len(right.shape) > 1 else reshaped(right, (*right.shape, 1))
    stacks = in_front(left, right, rows.shape[:-2], columns.shape[:-2])
    product = stacked_product(rows, columns, *stacks)
    shape = (*product.shape[:-2], *rows.shape[-2:-1][: len(left.shape) - 1], *right.shape[-1:][: len(right.shape) - 1])
    return as_tensor(reshaped(product, shape))


def mm(a: Any, b: Any) -> Tensor:
    """[m, k], [k, n] -> [m, n]."""
    return product_of_ranks("mm", a, b, 2, 2, "two matrices")


def mv(a: Any, b: Any) -> Tensor:
    """[m, k], [k] -> [m]."""
    return product_of_ranks("mv", a, b, 2, 1, "a matrix and a vector")


def bmm(a: Any, b: Any) -> Tensor:
    """[n, m, k], [n, k, p] -> [n, m, p]."""
    left, right = as_tensor(a).value, as_tensor(b).value
    if left.shape[:1] != right.shape[:1]:
        refuse("bmm", left, right, "it takes two stacks of as many matrices")
    return product_of_ranks("bmm", a, b, 3, 3, "two stacks of matrices")


def dot(a: Any, b: Any) -> Tensor:
    """NumPy's dot: the last axis of a with the last but one of b, or its only one; numbers multiply."""
    rank = as_tensor(b).ndim
    return contracted("dot", a, b, -1, -1 if rank == 1 else -2)


def inner(a: Any, b: Any) -> Tensor:
    """The sum of products along the last axes: [..., k], [---, k] -> [..., ---]; numbers multiply."""
    return contracted("inner", a, b, -1, -1)


def outer(a: Any, b: Any) -> Tensor:
    """[n], [m] -> [n, m]; more axes are flattened."""
    left, right = as_tensor(a).value, as_tensor(b).value
    column, row = reshaped(left, (left.type.count, 1)), reshaped(right, (1, right.type.count))
    return elementwise(ops.mul, as_tensor(column), as_tensor(row))


def kron(a: Any, b: Any) -> Tensor:
    """The Kronecker product: every element of a times all of b, [m, n], [p, q] -> [m * p, n * q]."""
    left, right = as_tensor(a).value, as_tensor(b).value
    rank = max(len(left.shape), len(right.shape))
    shapes = [(1,) * (rank - len(value.shape)) + value.shape for value in (left, right)]
    apart = [tuple(extent for each in shapes[0] for extent in (each, 1))]
    apart.append(tuple(extent for each in shapes[1] for extent in (1, each)))
    factors = (as_tensor(reshaped(value, shape)) for value, shape in zip((left, right), apart, strict=True))
    product = elementwise(ops.mul, *factors)
    return as_tensor(reshaped(product.value, tuple(multiply(*pair) for pair in zip(*shapes, strict=True))))


def tensordot(a: Any, b: Any, axes: Any = 2, *, dims: Any = None) -> Tensor:
    """The sum of products over some axes: the rest of a's axes, then the rest of b's.

    axes  how many, the last of a with the first of b; or a pair of axes or of sequences of them. PyTorch's name: dims

    Raises ShapeError for axes that do not exist or do not fit each other.
    """
    wanted = axes if dims is None else dims
    left, right = alike(a, b)
    ranks = len(left.shape), len(right.shape)
    if is_whole(wanted):
        if not 0 <= wanted <= min(ranks):
            refuse("tensordot", left, right, f"they have no {wanted} axes to sum over")
        pairs = [range(ranks[0] - wanted, ranks[0]), range(wanted)]
    else:
        pairs = check_list("axes", wanted, "a number of axes, or a pair of axes")
    sides = [ordered_axes(axes, rank) for axes, rank in zip(pairs, ranks)]
    if len(pairs) != 2 or len(sides[0]) != len(sides[1]):
        refuse("tensordot", left, right, f"axes={shown(wanted)} does not name as many axes of one as of the other")
    return over_axes("tensordot", left, right, *sides)


# -- parts


def refuse(name: str, left: Value, right: Value, reason: str, advice: Sequence[str] = ()) -> NoReturn:
    raise ShapeError(f"{name} of {left.type} and {right.type}: {reason}", user_origin(), advice)


def alike(a: Any, b: Any) -> tuple[Value, Value]:
    """Two operands of one dtype, which is no bool."""
    left, right = lift_all((a, b))
    dtype = common_dtype((a, b), (left, right))
    dtype = "i64" if dtype == "bool" else dtype
    return cast_value(left, dtype), cast_value(right, dtype)


def in_front(left: Value, right: Value, first: Shape, second: Shape) -> tuple[Shape, Shape]:
    """Both stacks' shapes with as many axes, checked to broadcast."""
    rank = max(len(first), len(second))
    one, other = ((1,) * (rank - len(shape)) + shape for shape in (first, second))
    for extents in zip(one, other, strict=True):
        if extents[0] != extents[1] and 1 not in extents:
            refuse("matmul", left, right, f"stacks of {extents[0]} and {extents[1]} matrices do not broadcast")
    return one, other


def stacked_product(a: Value, b: Value, first: Shape, second: Shape) -> Value:
    """[*first, m, k] @ [*second, k, n] with stacks that broadcast.

    Where one matrix of b stands for all, a's stack is more rows of one product: cheaper than many products, and the
    gradient of b is summed inside of one.
    """
    shared = len(second)
    while shared and second[shared - 1] == 1:
        shared -= 1
    batch = tuple(other if one == 1 else one for one, other in zip(first, second, strict=True))
    rows, (depth, columns) = multiply(*first[shared:], a.shape[-2]), b.shape[-2:]
    left = stretch(reshaped(a, (*first[:shared], rows, depth)), (*batch[:shared], rows, depth))
    right = stretch(reshaped(b, (*second[:shared], depth, columns)), (*batch[:shared], depth, columns))
    return reshaped(product_of_matrices(left, right), (*batch, a.shape[-2], columns))


def product_of_matrices(left: Value, right: Value) -> Value:
    """[..., m, k] @ [..., k, n] of one batch shape; integers are multiplied and summed."""
    if left.dtype in FLOATS:
        return apply(ops.dot, left, right).value
    *batch, rows, depth = left.shape
    shape = (*batch, rows, depth, right.shape[-1])
    factors = reshaped(left, (*batch, rows, depth, 1)), reshaped(right, (*batch, 1, depth, right.shape[-1]))
    product = ops.mul(*(stretch(factor, shape) for factor in factors))
    return reshaped(ops.sum(product, axes=(len(batch) + 1,)), (*batch, rows, right.shape[-1]))


def product_of_ranks(name: str, a: Any, b: Any, first: int, second: int, wanted: str) -> Tensor:
    left, right = as_tensor(a), as_tensor(b)
    if (left.ndim, right.ndim) != (first, second):
        refuse(name, left.value, right.value, f"it takes {wanted}")
    return matmul(left, right)


def contracted(name: str, a: Any, b: Any, first: int, second: int) -> Tensor:
    """The sum of products along one axis of each; the product where one is a number."""
    left, right = alike(a, b)
    if not left.shape or not right.shape:
        return elementwise(ops.mul, a, b)
    return over_axes(name, left, right, [first % len(left.shape)], [second % len(right.shape)])


def over_axes(name: str, left: Value, right: Value, first: Sequence[int], second: Sequence[int]) -> Tensor:
    """The sum of products over pairs of axes: the rest of left's axes, then the rest of right's."""
    extents = [[value.shape[axis] for axis in axes] for value, axes in ((left, first), (right, second))]
    if extents[0] != extents[1]:
        refuse(name, left, right, f"the axes summed over are {extents[0]} in one and {extents[1]} in the other")
    return as_tensor(product_over(left, right, first, second))


def product_over(
    left: Value,
    right: Value,
    first: Sequence[int],
    second: Sequence[int],
    shared: tuple[Sequence[int], Sequence[int]] = ((), ()),
) -> Value:
    """The sum of products over the axes `first` and `second`, as one product of matrices or of stacks of them.

    shared  axes of left and of right that both walk together; they come first in the result, then the rest of left's,
            then the rest of right's
    """
    walked = ({*first, *shared[0]}, {*second, *shared[1]})
    kept, other = (
        [axis for axis in range(len(value.shape)) if axis not in axes] for value, axes in zip((left, right), walked)
    )
    batch, rows = ([left.shape[axis] for axis in axes] for axes in (shared[0], kept))
    depth, columns = multiply(*(left.shape[axis] for axis in first)), [right.shape[axis] for axis in other]
    matrix = reshaped(permuted(left, [*shared[0], *kept, *first]), (*batch, multiply(*rows), depth))
    partner = reshaped(permuted(right, [*shared[1], *second, *other]), (*batch, depth, multiply(*columns)))
    return reshaped(product_of_matrices(matrix, partner), (*batch, *rows, *columns))

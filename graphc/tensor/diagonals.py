"""What is told by the diagonals of matrices. Axes before the last two are a batch of matrices.

A diagonal is named by how far it lies above the main one; below it, the number is negative.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

from graphc.errors import ShapeError
from graphc.ir import ops
from graphc.ir.graph import user_origin
from graphc.ir.types import Shape, TensorType
from graphc.settings import check_whole, require
from graphc.tensor.building import apply, as_tensor, where
from graphc.tensor.indexing import part_of
from graphc.tensor.reduction import sum
from graphc.tensor.size import extent_of
from graphc.tensor.views import unsqueeze

if TYPE_CHECKING:
    from graphc.tensor.tensor import Tensor

__all__ = ["diag", "diagonal", "trace", "tril", "triu"]


def tril(x: Any, diagonal: int = 0, *, k: int | None = None) -> Tensor:
    """The lower triangle of matrices up to that diagonal, 0 above."""
    tensor = matrices("tril", x)
    return where(above_main(tensor.value.shape[-2:]) <= number_of(diagonal, k), tensor, 0)


def triu(x: Any, diagonal: int = 0, *, k: int | None = None) -> Tensor:
    """The upper triangle of matrices from that diagonal on, 0 below."""
    tensor = matrices("triu", x)
    return where(above_main(tensor.value.shape[-2:]) >= number_of(diagonal, k), tensor, 0)


def number_of(diagonal: Any, k: Any) -> Any:
    """PyTorch's or NumPy's number of a diagonal: a whole number, or a Size."""
    name, given = ("diagonal", diagonal) if k is None else ("k", k)
    require(extent_of(given) is not None, name, given, "a whole number")
    return given


def above_main(shape: Shape) -> Tensor:
    """How far each element of a matrix lies above the main diagonal, i64."""
    kind = TensorType("i64", tuple(shape))
    return as_tensor(ops.iota(axis=1, type=kind)) - as_tensor(ops.iota(axis=0, type=kind))


def matrices(name: str, x: Any) -> Tensor:
    tensor = as_tensor(x)
    if tensor.ndim < 2:
        raise ShapeError(f"{name} of {tensor.type}: it takes matrices", user_origin())
    return tensor


def diagonal(x: Any, offset: int = 0) -> Tensor:
    """The elements [..., n] of one diagonal of matrices of fixed size."""
    tensor, offset = matrices("diagonal", x), check_whole("offset", offset)
    rows, columns = (fixed("diagonal", tensor, axis) for axis in (-2, -1))
    count = builtins.max(0, min(rows + min(offset, 0), columns - builtins.max(offset, 0)))
    line = sum(where(above_main((rows, columns)) == offset, tensor, 0), -1 if offset >= 0 else -2)
    return part_of(line.value, line.ndim - 1, 0, count)


def diag(x: Any, diagonal: int = 0, *, k: int | None = None) -> Tensor:
    """A matrix [n + |diagonal|, n + |diagonal|] with the vector [n] on that diagonal; of a matrix, that diagonal."""
    tensor, offset = as_tensor(x), check_whole("diagonal", diagonal if k is None else k)
    if tensor.ndim == 2:
        return diagonal_of(tensor, offset)
    if tensor.ndim != 1:
        raise ShapeError(f"diag of {tensor.type}: it takes a vector or a matrix", user_origin())
    side = fixed("diag", tensor, 0) + builtins.abs(offset)
    line = apply(ops.pad, tensor.value, start=(0,), shape=(side,))
    return where(above_main((side, side)) == offset, unsqueeze(line, 1 if offset >= 0 else 0), 0)


def trace(x: Any) -> Tensor:
    """The sum of the main diagonal of matrices."""
    tensor = matrices("trace", x)
    return sum(where(above_main(tensor.value.shape[-2:]) == 0, tensor, 0), (-2, -1))


def fixed(name: str, x: Tensor, axis: int) -> int:
    extent = x.value.shape[axis]
    if not isinstance(extent, int):
        raise ShapeError(f"{name} of {x.type}: its size must be fixed", user_origin())
    return extent


diagonal_of = diagonal

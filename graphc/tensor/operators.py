"""Python's operators on what stands for a graph value, under NumPy's promotion and broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from graphc.tensor import arithmetic, comparison, products

if TYPE_CHECKING:
    from graphc.tensor.tensor import Tensor


def of_two(function: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    """The function as an operator, which has no settings."""
    return function


def reflected(function: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    """The function for a tensor that stands on the right of its operator."""

    def swapped(right: Any, left: Any, /) -> Tensor:
        return function(left, right)

    return swapped


class Operators:
    """The operators of tensors and of sizes."""

    __add__ = of_two(arithmetic.add)
    __radd__ = reflected(arithmetic.add)
    __sub__ = of_two(arithmetic.subtract)
    __rsub__ = reflected(arithmetic.subtract)
    __mul__ = arithmetic.multiply
    __rmul__ = reflected(arithmetic.multiply)
    __truediv__ = of_two(arithmetic.divide)
    __rtruediv__ = reflected(arithmetic.divide)
    __floordiv__ = arithmetic.floor_divide
    __rfloordiv__ = reflected(arithmetic.floor_divide)
    __mod__ = arithmetic.remainder
    __rmod__ = reflected(arithmetic.remainder)
    __pow__ = arithmetic.power
    __rpow__ = reflected(arithmetic.power)
    __matmul__ = products.matmul
    __rmatmul__ = reflected(products.matmul)
    __neg__ = arithmetic.negative
    __pos__ = arithmetic.positive
    __abs__ = arithmetic.absolute
    __lt__ = comparison.less
    __le__ = comparison.less_equal
    __gt__ = comparison.greater
    __ge__ = comparison.greater_equal
    __eq__ = comparison.equal  # type: ignore[assignment]
    __ne__ = comparison.not_equal  # type: ignore[assignment]
    __hash__ = object.__hash__
    __and__ = comparison.bitwise_and
    __rand__ = reflected(comparison.bitwise_and)
    __or__ = comparison.bitwise_or
    __ror__ = reflected(comparison.bitwise_or)
    __xor__ = comparison.bitwise_xor
    __rxor__ = reflected(comparison.bitwise_xor)
    __invert__ = comparison.bitwise_not
    __lshift__ = comparison.left_shift
    __rlshift__ = reflected(comparison.left_shift)
    __rshift__ = comparison.right_shift
    __rrshift__ = reflected(comparison.right_shift)

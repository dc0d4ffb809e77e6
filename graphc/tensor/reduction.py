"""Functions that combine the elements along axes: `axis` is one, several, or None for all of them.

Sums and products of bools and small integers are i64, as in NumPy; means of integers are f32. What needs an element,
such as a maximum, raises ShapeError where there is none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from graphc.errors import DTypeError
from graphc.ir import ops
from graphc.ir.graph import user_origin
from graphc.ir.ops.record import Op
from graphc.ir.types import bound, multiply
from graphc.settings import check_number, check_switch, is_number, require
from graphc.tensor.arithmetic import absolute, astype, detach, divide, maximum, power, sqrt, square
from graphc.tensor.building import as_floats, as_tensor, keeps_axes, normal_axes, reduce, where
from graphc.tensor.dtypes import bool_, dtype_name, i64, u8
from graphc.tensor.maths import exp, log
from graphc.tensor.size import sized
from graphc.tensor.views import one_axis, ravel, reshape

if TYPE_CHECKING:
    from graphc.tensor.tensor import Tensor

__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "count_nonzero",
    "log_softmax",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "prod",
    "softmax",
    "std",
    "std_mean",
    "sum",
    "var",
    "var_mean",
]


# -- sums and products


def sum(
    x: Any,
    axis: Any = None,
    keepdims: bool = False,
    *,
    dim: Any = None,
    keepdim: bool = False,
    dtype: Any = None,
) -> Tensor:
    """The sum, 0 of nothing, in `dtype` if one is named."""
    return reduce(ops.sum, summands(x, dtype), axis, keepdims, dim, keepdim)


def prod(
    x: Any,
    axis: Any = None,
    keepdims: bool = False,
    *,
    dim: Any = None,
    keepdim: bool = False,
    dtype: Any = None,
) -> Tensor:
    """The product, 1 of nothing, in `dtype` if one is named."""
    return reduce(ops.prod, summands(x, dtype), axis, keepdims, dim, keepdim)


def summands(x: Any, dtype: Any) -> Tensor:
    tensor = as_tensor(x)
    if dtype is not None and dtype_name(dtype) == "bool":
        raise DTypeError("sums and products are no bools", user_origin(), ["write gx.any(x) or gx.all(x)"])
    if dtype is not None:
        return astype(tensor, dtype)
    return astype(tensor, i64) if tensor.value.dtype in ("bool", "u8", "i32") else tensor


def mean(
    x: Any,
    axis: Any = None,
    keepdims: bool = False,
    *,
    dim: Any = None,
    keepdim: bool = False,
    dtype: Any = None,
) -> Tensor:
    """The mean, NaN of nothing, in `dtype` if one is named."""
    (tensor,) = as_floats(x if dtype is None else astype(x, dtype))
    axes = normal_axes(axis if dim is None else dim, tensor.ndim)
    return divide(reduce(ops.sum, tensor, axes, keepdims, keepdim=keepdim), count_of(tensor, axes))


def count_of(x: Tensor, axes: tuple[int, ...]) -> Any:
    """How many elements lie along axes: an int, or a Size."""
    return sized(multiply(*(x.value.shape[axis] for axis in axes)))


def count_nonzero(
    x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False
) -> Tensor:
    """How many elements are not 0, i64."""
    return sum(astype(x, bool_), axis, keepdims, dim=dim, keepdim=keepdim)


# -- spread


def var(
    x: Any,
    axis: Any = None,
    keepdims: bool = False,
    *,
    dim: Any = None,
    keepdim: bool = False,
    correction: float = 1,
    ddof: float | None = None,
    unbiased: bool = True,
) -> Tensor:
    """Squared deviations from the mean over (count - correction), NaN where that is 0.

    correction  PyTorch's default 1; NumPy calls it ddof, and its default is 0. `unbiased=False` means 0.
    """
    (tensor,) = as_floats(x)
    taken = check_number("correction", correction) if ddof is None else check_number("ddof", ddof)
    axes = normal_axes(axis if dim is None else dim, tensor.ndim)
    total = reduce(ops.sum, square(tensor - mean(tensor, axes, keepdims=True)), axes, keepdims, keepdim=keepdim)
    freedom = count_of(tensor, axes) - (taken if check_switch("unbiased", unbiased) or ddof is not None else 0)
    return divide(total, maximum(freedom, 0))


def std(
    x: Any,
    axis: Any = None,
    keepdims: bool = False,
    *,
    dim: Any = None,
    keepdim: bool = False,
    correction: float = 1,
    ddof: float | None = None,
    unbiased: bool = True,
) -> Tensor:
    """The square root of `var`, with slope 0 where it is 0."""
    freedom: dict[str, Any] = {"correction": correction, "ddof": ddof, "unbiased": unbiased}
    return root(var(x, axis, keepdims, dim=dim, keepdim=keepdim, **freedom))


def var_mean(x: Any, axis: Any = None, keepdims: bool = False, **settings: Any) -> tuple[Tensor, Tensor]:
    """`var` and `mean`, over the same axes; settings as for `var`."""
    over = {name: settings[name] for name in ("dim", "keepdim") if name in settings}
    return var(x, axis, keepdims, **settings), mean(x, axis, keepdims, **over)


def std_mean(x: Any, axis: Any = None, keepdims: bool = False, **settings: Any) -> tuple[Tensor, Tensor]:
    """`std` and `mean`, over the same axes; settings as for `std`."""
    variance, middle = var_mean(x, axis, keepdims, **settings)
    return root(variance), middle


def root(x: Tensor) -> Tensor:
    """The square root with slope 0 at 0."""
    nothing = x == 0
    return where(nothing, 0.0, sqrt(where(nothing, 1.0, x)))


def norm(
    x: Any,
    p: Any = "fro",
    axis: Any = None,
    keepdims: bool = False,
    dtype: Any = None,
    *,
    dim: Any = None,
    keepdim: bool = False,
) -> Tensor:
    """The p-norm of the elements along axes as one vector, of a matrix too; its slope at 0 is 0.

    p  2 or "fro" for sqrt(sum(x**2)), math.inf and -math.inf for the largest and smallest |x|, 0 for how many are not
       0, else sum(|x|**p) ** (1/p). ArgumentError for another word.

    x is converted first if a dtype is named.
    """
    (tensor,) = as_floats(x if dtype is None else astype(x, dtype))
    over: dict[str, Any] = {"axis": axis, "keepdims": keepdims, "dim": dim, "keepdim": keepdim}
    fits = p == "fro" if isinstance(p, str) else is_number(p)
    require(fits, "p", p, 'a number or "fro"')
    if p in ("fro", 2):
        return root(sum(square(tensor), **over))
    sizes = absolute(tensor)
    if p in (math.inf, -math.inf):
        return reduce(ops.max if p > 0 else ops.min, sizes, **over)
    if p == 1:
        return sum(sizes, **over)
    if p == 0:
        return sum(astype(sizes != 0, tensor.dtype), **over)
    nothing = sizes == 0
    total = sum(where(nothing, 0.0 if p > 0 else math.inf, power(where(nothing, 1.0, sizes), p)), **over)
    flat = (total == 0) | (total == math.inf)
    return where(flat, power(detach(total), 1 / p), power(where(flat, 1.0, total), 1 / p))


# -- extremes


def max(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The maximum, NaN where there is one; equal maxima share the gradient."""
    return extreme(ops.max, x, axis, keepdims, dim, keepdim)


def min(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The minimum, NaN where there is one; equal minima share the gradient."""
    return extreme(ops.min, x, axis, keepdims, dim, keepdim)


amax, amin = max, min


def any(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether one element is not 0; false of nothing."""
    return count_nonzero(x, axis, keepdims, dim=dim, keepdim=keepdim) > 0


def all(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether no element is 0; true of nothing."""
    return sum(as_tensor(x) == 0, axis, keepdims, dim=dim, keepdim=keepdim) == 0


def extreme(op: Op, x: Any, axis: Any, keepdims: bool, dim: Any, keepdim: bool) -> Tensor:
    tensor = as_tensor(x)
    numbers = astype(tensor, u8) if tensor.value.dtype == "bool" else tensor
    return astype(reduce(op, numbers, axis, keepdims, dim, keepdim), tensor.dtype)


def argmax(
    x: Any, axis: int | None = None, keepdims: bool = False, *, dim: int | None = None, keepdim: bool = False
) -> Tensor:
    """The first index of the maximum along one axis, or of all elements in a row, i64; NaN counts as the maximum."""
    return first_place(max, x, axis if dim is None else dim, keeps_axes(keepdims, keepdim))


def argmin(
    x: Any, axis: int | None = None, keepdims: bool = False, *, dim: int | None = None, keepdim: bool = False
) -> Tensor:
    """The first index of the minimum along one axis, or of all elements in a row, i64; NaN counts as the minimum."""
    return first_place(min, x, axis if dim is None else dim, keeps_axes(keepdims, keepdim))


def first_place(extreme_of: Any, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    tensor = detach(x)
    if axis is None:
        place = first_place(extreme_of, ravel(tensor), 0, keepdims)
        return reshape(place, (1,) * tensor.ndim) if keepdims else place
    number = one_axis(axis, tensor.ndim)
    top = extreme_of(tensor, number, keepdims=True)
    places = as_tensor(ops.iota(axis=number, type=tensor.type.with_dtype("i64")))
    past = bound(tensor.value.shape[number])
    return reduce(ops.min, where((tensor == top) | (tensor != tensor), places, past), number, keepdims)


# -- sums of exponentials


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))) that cannot overflow; -inf, with no gradient, where all of x is."""
    (tensor,) = as_floats(x)
    axes = normal_axes(axis if dim is None else dim, tensor.ndim)
    top = detach(reduce(ops.max, tensor, axes, keepdims=True))
    shift = where(absolute(top) < math.inf, top, 0.0)
    powers = reduce(ops.sum, exp(tensor - shift), axes, keepdims=True)
    nothing = powers == 0
    total = where(nothing, -math.inf, log(where(nothing, 1.0, powers))) + shift
    return total if keeps_axes(keepdims, keepdim) else reduce(ops.sum, total, axes)


def softmax(x: Any, axis: int = -1, dtype: Any = None, *, dim: int | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis, without overflow; x is converted first if a dtype is named."""
    along = axis if dim is None else dim
    powers = exp(shifted(x, along, dtype))
    return powers / sum(powers, along, keepdims=True)


def log_softmax(x: Any, axis: int = -1, dtype: Any = None, *, dim: int | None = None) -> Tensor:
    """log(softmax(x)) without overflow or loss of digits; x is converted first if a dtype is named."""
    along = axis if dim is None else dim
    rest = shifted(x, along, dtype)
    return rest - log(sum(exp(rest), along, keepdims=True))


def shifted(x: Any, axis: int, dtype: Any) -> Tensor:
    """x less its maximum along an axis, which is a constant for the gradient: softmax does not depend on it."""
    (tensor,) = as_floats(x if dtype is None else astype(x, dtype))
    return tensor - detach(max(tensor, axis, keepdims=True))

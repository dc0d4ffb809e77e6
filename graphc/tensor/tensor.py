"""Tensor: a symbolic value with NumPy's operators. Nothing is computed here; every operation adds to a graph."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from graphc.errors import DTypeError, ShapeError, TraceError
from graphc.ir import ops
from graphc.ir.graph import IRError, Value, user_origin
from graphc.ir.ops.record import Op
from graphc.ir.types import DTYPES, FLOATS, NAMES, Extent, Shape, TensorType, bound, divide, multiply
from graphc.tensor.dtypes import DType, as_extent, f32, i64
from graphc.tensor.tracing import gradients_stop

RANK = ("bool", "u8", "i32", "i64", "f32", "f64")


# -- building values


def apply(op: Op, *operands: Value, **attrs: Any) -> Tensor:
    """One op as a tensor; what its type rule objects to is an error on the user's line."""
    try:
        value = op(*operands, **attrs)
    except IRError as error:
        raise ShapeError(str(error), user_origin()) from None
    if gradients_stop() and value.dtype in FLOATS:
        value = ops.stop_gradient(value)
    return Tensor(value)


def lift(x: Any) -> Value:
    """Anything that can stand in an expression, as a graph value; arrays become constant state."""
    if isinstance(x, Tensor):
        return x.value
    if isinstance(x, Size):
        return ops.size(extent=x.extent, type=TensorType("f32", ()))
    array = np.asarray(x)
    if array.dtype not in NAMES:
        raise DTypeError(f"cannot use {type(x).__name__} of dtype {array.dtype} in a graph", user_origin())
    if array.ndim == 0:
        return ops.full(value=array.item(), type=TensorType(NAMES[array.dtype], ()))
    from graphc.tensor.parameter import Parameter  # parameters are tensors, so they import this file

    return Parameter(array, name="constant", requires_grad=False).value


def is_plain_number(x: Any) -> bool:
    return isinstance(x, (builtins.bool, int, float, np.number, Size))


def as_tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(lift(x))


def common_dtype(items: Sequence[Any], values: Sequence[Value]) -> str:
    """NumPy's promotion, with plain numbers taking the type of the tensors they meet; floats are f32 by default."""
    strong = [value.dtype for item, value in zip(items, values, strict=True) if not is_plain_number(item)]
    highest = max(strong, key=RANK.index, default="bool")
    for item in items:
        if isinstance(item, (float, np.floating, Size)) and highest not in FLOATS:
            highest = "f32"
        elif isinstance(item, (int, np.integer)) and not isinstance(item, builtins.bool) and highest == "bool":
            highest = "i64"
    return highest


def cast_value(value: Value, dtype: str) -> Value:
    if value.dtype == dtype:
        return value
    if value.op is ops.full:
        return ops.full(value=DTYPES[dtype].type(value.attrs["value"]).item(), type=value.type.with_dtype(dtype))
    return ops.cast(value, dtype=dtype)


def common_shape(values: Sequence[Value]) -> Shape:
    """NumPy's broadcasting over symbolic extents."""
    rank = max(len(value.shape) for value in values)
    shape: list[Extent] = [1] * rank
    for value in values:
        for axis, extent in enumerate(value.shape, rank - len(value.shape)):
            if shape[axis] == 1:
                shape[axis] = extent
            elif extent not in (1, shape[axis]):
                types = " and ".join(str(value.type) for value in values)
                raise ShapeError(
                    f"cannot broadcast {types}: axis {axis - rank} is {shape[axis]} in one and {extent} in the other",
                    user_origin(),
                )
    return tuple(shape)


def stretch(value: Value, shape: Shape) -> Value:
    """The value broadcast to a shape."""
    if value.op is ops.full:
        return ops.full(value=value.attrs["value"], type=value.type.with_shape(shape))
    padded = (1,) * (len(shape) - len(value.shape)) + value.shape
    if padded != value.shape:
        value = ops.reshape(value, shape=padded)
    return value if value.shape == shape else ops.broadcast(value, shape=shape)


def elementwise(op: Op, *items: Any, dtype: str | None = None) -> Tensor:
    """An elementwise op with NumPy's promotion and broadcasting."""
    values = [lift(item) for item in items]
    wanted = dtype or common_dtype(items, values)
    values = [cast_value(value, wanted) for value in values]
    shape = common_shape(values)
    return apply(op, *(stretch(value, shape) for value in values))


def floating(op: Op, *items: Any) -> Tensor:
    """An elementwise op on floats; integers are converted."""
    values = [lift(item) for item in items]
    dtype = common_dtype(items, values)
    return elementwise(op, *items, dtype=dtype if dtype in FLOATS else "f32")


def normal_axes(axis: Any, rank: int) -> tuple[int, ...]:
    """Axes as sorted non-negative numbers; None means all."""
    axes = range(rank) if axis is None else (axis,) if isinstance(axis, (int, np.integer)) else axis
    for each in axes:
        if not -rank <= each < rank:
            raise ShapeError(f"axis {each} is outside of a tensor with {rank} axes", user_origin())
    return tuple(sorted({int(each) % rank for each in axes}))


def reduce(op: Op, x: Any, axis: Any = None, keepdims: bool = False, dim: Any = None, keepdim: bool = False) -> Tensor:
    """A reduction over some axes, NumPy's and PyTorch's spelling."""
    value = lift(x)
    if value.dtype == "bool":
        value = ops.cast(value, dtype="i64")
    axes = normal_axes(axis if dim is None else dim, len(value.shape))
    result = apply(op, value, axes=axes) if axes else Tensor(value)
    if keepdims or keepdim:
        return result
    shape = tuple(extent for number, extent in enumerate(value.shape) if number not in axes)
    return apply(ops.reshape, result.value, shape=shape) if shape != result.value.shape else result


class Size:
    """A symbolic extent read off a shape: usable in shapes, and as a number in arithmetic."""

    def __init__(self, extent: Extent) -> None:
        self.extent = extent

    def __repr__(self) -> str:
        return str(self.extent)

    def __eq__(self, other: object) -> bool:
        return self.extent == (other.extent if isinstance(other, Size) else other)

    def __hash__(self) -> int:
        return hash(self.extent)

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, int):
            return Size(multiply(self.extent, other))
        return (
            Size(multiply(self.extent, other.extent)) if isinstance(other, Size) else elementwise(ops.mul, self, other)
        )

    __rmul__ = __mul__

    def __add__(self, other: Any) -> Tensor:
        return elementwise(ops.add, self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Tensor:
        return elementwise(ops.sub, self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return elementwise(ops.sub, other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return floating(ops.div, self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return floating(ops.div, other, self)

    def __pow__(self, other: float) -> Tensor:
        return Tensor(lift(self)) ** other

    def _refuse(self) -> NoReturn:
        raise TraceError(
            f"the size of {self.extent} is not known while the step is traced",
            user_origin(),
            ["use it in shapes or arithmetic; Python loops and conditions need a fixed extent"],
        )

    def __bool__(self) -> bool:
        self._refuse()

    def __int__(self) -> int:
        self._refuse()

    __index__ = __int__

    def __float__(self) -> float:
        self._refuse()


UFUNCS: dict[str, Op] = {
    "add": ops.add, "subtract": ops.sub, "multiply": ops.mul, "divide": ops.div, "exp": ops.exp, "log": ops.log,
    "expm1": ops.expm1, "log1p": ops.log1p, "sqrt": ops.sqrt, "tanh": ops.tanh, "sin": ops.sin, "cos": ops.cos,
    "absolute": ops.absolute, "maximum": ops.maximum, "minimum": ops.minimum, "negative": ops.neg,
    "sign": ops.sign, "floor": ops.floor, "power": ops.pow, "less": ops.less, "less_equal": ops.less_equal,
    "equal": ops.equal, "not_equal": ops.not_equal,
}  # fmt: skip


class Tensor:
    """A symbolic array: dtype and shape are known, its numbers only when the compiled function runs."""

    def __init__(self, value: Value) -> None:
        self._value = value

    @property
    def value(self) -> Value:
        """The graph value."""
        return self._value

    # -- what it is

    @property
    def type(self) -> TensorType:
        return self._value.type

    @property
    def dtype(self) -> DType:
        return DType(self._value.dtype)

    @property
    def shape(self) -> tuple[Any, ...]:
        """ints, and Sizes for symbolic extents."""
        return tuple(extent if isinstance(extent, int) else Size(extent) for extent in self._value.shape)

    @property
    def ndim(self) -> int:
        return len(self._value.shape)

    def size(self, axis: int | None = None) -> Any:
        """PyTorch's size(): the shape, or one extent."""
        return self.shape if axis is None else self.shape[axis]

    def dim(self) -> int:
        return self.ndim

    def numel(self) -> Any:
        count = self._value.type.count
        return count if isinstance(count, int) else Size(count)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.type})"

    # -- arithmetic

    def __add__(self, other: Any) -> Tensor:
        return elementwise(ops.add, self, other)

    def __radd__(self, other: Any) -> Tensor:
        return elementwise(ops.add, other, self)

    def __sub__(self, other: Any) -> Tensor:
        return elementwise(ops.sub, self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return elementwise(ops.sub, other, self)

    def __mul__(self, other: Any) -> Tensor:
        return elementwise(ops.mul, self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return elementwise(ops.mul, other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return floating(ops.div, self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return floating(ops.div, other, self)

    def __neg__(self) -> Tensor:
        return elementwise(ops.neg, self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return elementwise(ops.absolute, self)

    def __pow__(self, exponent: Any) -> Tensor:
        if exponent == 0.5:
            return floating(ops.sqrt, self)
        if isinstance(exponent, int) and 1 <= exponent <= 4:
            result = self
            for _ in range(exponent - 1):
                result = result * self
            return result
        return floating(ops.pow, self, exponent)

    def __rpow__(self, base: Any) -> Tensor:
        return floating(ops.pow, base, self)

    def __matmul__(self, other: Any) -> Tensor:
        return matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return matmul(other, self)

    # -- comparison and logic

    def __lt__(self, other: Any) -> Tensor:
        return elementwise(ops.less, self, other)

    def __le__(self, other: Any) -> Tensor:
        return elementwise(ops.less_equal, self, other)

    def __gt__(self, other: Any) -> Tensor:
        return elementwise(ops.less, other, self)

    def __ge__(self, other: Any) -> Tensor:
        return elementwise(ops.less_equal, other, self)

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]
        return elementwise(ops.equal, self, other)

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        return elementwise(ops.not_equal, self, other)

    __hash__ = object.__hash__

    def __and__(self, other: Any) -> Tensor:
        return elementwise(ops.logical_and, self, other)

    def __or__(self, other: Any) -> Tensor:
        return elementwise(ops.logical_or, self, other)

    def __invert__(self) -> Tensor:
        return elementwise(ops.logical_not, self)

    # -- functions of one element

    def exp(self) -> Tensor:
        return floating(ops.exp, self)

    def log(self) -> Tensor:
        return floating(ops.log, self)

    def sqrt(self) -> Tensor:
        return floating(ops.sqrt, self)

    def tanh(self) -> Tensor:
        return floating(ops.tanh, self)

    def sigmoid(self) -> Tensor:
        return floating(ops.sigmoid, self)

    def relu(self) -> Tensor:
        return floating(ops.relu, self)

    def abs(self) -> Tensor:
        return elementwise(ops.absolute, self)

    def pow(self, exponent: Any) -> Tensor:
        return self.__pow__(exponent)

    def clamp(self, min: Any = None, max: Any = None) -> Tensor:
        """Limited to [min, max]; either may be left out."""
        result = self if min is None else elementwise(ops.maximum, self, min)
        return result if max is None else elementwise(ops.minimum, result, max)

    clip = clamp

    def astype(self, dtype: Any) -> Tensor:
        """Converted to another element type."""
        name = dtype.name if isinstance(dtype, DType) else NAMES[np.dtype(dtype)]
        return self if name == self._value.dtype else apply(ops.cast, self.value, dtype=name)

    to = type_as = astype

    def float(self) -> Tensor:
        return self.astype(f32)

    def long(self) -> Tensor:
        return self.astype(i64)

    def detach(self) -> Tensor:
        """The same numbers; no gradient flows through."""
        return apply(ops.stop_gradient, self.value) if self._value.dtype in FLOATS else self

    # -- reductions

    def sum(self, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
        return reduce(ops.sum, self, axis, keepdims, dim, keepdim)

    def max(self, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
        """The maximum, NaN where there is one."""
        return reduce(ops.max, self, axis, keepdims, dim, keepdim)

    amax = max

    def min(self, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
        return reduce(ops.min, self, axis, keepdims, dim, keepdim)

    amin = min

    def prod(self, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
        return reduce(ops.prod, self, axis, keepdims, dim, keepdim)

    def mean(self, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
        x = self if self._value.dtype in FLOATS else self.astype(f32)
        axes = normal_axes(axis if dim is None else dim, self.ndim)
        count = multiply(*(self._value.shape[each] for each in axes))
        return x.sum(axes, keepdims or keepdim) / (count if isinstance(count, int) else Size(count))

    def var(self, axis: Any = None, keepdims: bool = False, *, correction: int = 1) -> Tensor:
        """The variance around the mean, with PyTorch's default correction of one."""
        axes = normal_axes(axis, self.ndim)
        count = multiply(*(self._value.shape[each] for each in axes))
        total = ((self - self.mean(axes, keepdims=True)) ** 2).sum(axes, keepdims)
        return total / ((count if isinstance(count, int) else Size(count)) - correction)

    def std(self, axis: Any = None, keepdims: bool = False, *, correction: int = 1) -> Tensor:
        return self.var(axis, keepdims, correction=correction).sqrt()

    def argmax(self, axis: int | None = None, keepdims: bool = False, *, dim: int | None = None) -> Tensor:
        """The first index of the maximum along one axis, i64; of the first NaN where there is one."""
        return self._first(ops.max, axis if dim is None else dim, keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False, *, dim: int | None = None) -> Tensor:
        return self._first(ops.min, axis if dim is None else dim, keepdims)

    def _first(self, extreme: Op, axis: int | None, keepdims: bool) -> Tensor:
        if axis is None:
            return self.reshape(-1)._first(extreme, 0, keepdims)
        (number,) = normal_axes(axis, self.ndim)
        x = self.detach()
        top = reduce(extreme, x, number, keepdims=True)
        places = Tensor(ops.iota(axis=number, type=self.type.with_dtype("i64")))
        beyond = bound(self._value.shape[number])
        return where((x == top) | (x != x), places, beyond).min(number, keepdims)

    # -- shape

    def reshape(self, *shape: Any) -> Tensor:
        """Another shape of the same elements; one extent may be -1."""
        wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        extents = [-1 if extent == -1 else as_extent(extent) for extent in wanted]
        if -1 in extents:
            known = multiply(*(extent for extent in extents if extent != -1))
            left = divide(self._value.type.count, known)
            if left is None:
                raise ShapeError(
                    f"cannot reshape {self.type} to {list(wanted)}: {known} does not divide it", user_origin()
                )
            extents[extents.index(-1)] = left
        return apply(ops.reshape, self.value, shape=tuple(extents))

    view = reshape

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Axes start_dim to end_dim as one."""
        first, last = start_dim % self.ndim, end_dim % self.ndim
        shape = self._value.shape
        return self.reshape(*shape[:first], multiply(*shape[first : last + 1]), *shape[last + 1 :])

    def transpose(self, *axes: int) -> Tensor:
        """NumPy's transpose; with two axes of more than two, PyTorch's swap."""
        order = list(range(self.ndim))
        if not axes:
            order.reverse()
        elif len(axes) == 2 and self.ndim != 2:
            a, b = (axis % self.ndim for axis in axes)
            order[a], order[b] = b, a
        elif len(axes) == 2:
            order = [1, 0] if sorted(axis % 2 for axis in axes) == [0, 1] else list(axes)
        else:
            order = [axis % self.ndim for axis in axes]
        return apply(ops.transpose, self.value, permutation=tuple(order))

    def permute(self, *axes: int) -> Tensor:
        order = tuple(axis % self.ndim for axis in axes)
        return apply(ops.transpose, self.value, permutation=order)

    @property
    def T(self) -> Tensor:
        return self.transpose()

    def t(self) -> Tensor:
        return self.transpose()

    def unsqueeze(self, axis: int) -> Tensor:
        at = axis % (self.ndim + 1)
        return self.reshape(*self._value.shape[:at], 1, *self._value.shape[at:])

    def squeeze(self, axis: int | None = None) -> Tensor:
        """Without axes of size 1, or without the one named."""
        drop = range(self.ndim) if axis is None else (axis % self.ndim,)
        kept = [extent for at, extent in enumerate(self._value.shape) if not (at in drop and extent == 1)]
        return self.reshape(tuple(kept))

    def expand(self, *shape: Any) -> Tensor:
        """Broadcast to a shape; -1 keeps an extent."""
        wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        own = (1,) * (len(wanted) - self.ndim) + self._value.shape
        extents = tuple(mine if new == -1 else as_extent(new) for mine, new in zip(own, wanted, strict=True))
        common_shape([self.value, ops.full(value=0.0, type=TensorType("f32", extents))])
        return Tensor(stretch(self.value, extents))

    broadcast_to = expand

    # -- gradients

    def backward(self) -> None:
        """Give every parameter this scalar depends on its `.grad`, as an expression of the traced step."""
        from graphc.tensor.parameter import record_gradients  # parameters are tensors, so they import this file

        record_gradients(self)

    # -- what a symbolic value cannot do

    def _refuse(self, what: str, instead: str) -> NoReturn:
        raise TraceError(
            f"{what} needs numbers, but {self.type} is symbolic until the step runs", user_origin(), [instead]
        )

    def __bool__(self) -> bool:
        self._refuse("a Python condition", "write gx.where(condition, a, b) instead of `if`")

    def __float__(self) -> builtins.float:
        self._refuse("float()", "return the tensor from the step; the call gives you the number")

    def __int__(self) -> int:
        self._refuse("int()", "return the tensor from the step; the call gives you the number")

    def item(self) -> NoReturn:
        self._refuse("item()", "return the tensor from the step; the call gives you the number")

    def numpy(self) -> Any:
        self._refuse("numpy()", "return the tensor from the step; the call gives you the array")

    def __iter__(self) -> Iterator[Tensor]:
        self._refuse("iteration", "use whole-tensor operations; only shapes are known while tracing")

    def __len__(self) -> int:
        if not self._value.shape or not isinstance(self._value.shape[0], int):
            self._refuse("len()", "use x.shape[0] in arithmetic; it is the run-time size")
        return self._value.shape[0]

    def __getitem__(self, index: Any) -> Tensor:
        raise TraceError(f"indexing {self.type} is not supported yet", user_origin(), ["reshape or reduce instead"])

    def __array__(self, *_: Any, **__: Any) -> Any:
        self._refuse("a NumPy function", "use the function of the same name in graphc")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        op = UFUNCS.get(ufunc.__name__)
        if ufunc.__name__ == "matmul":
            return matmul(*inputs)
        if op is None or method != "__call__" or kwargs:
            self._refuse(f"np.{ufunc.__name__}", "use the function of the same name in graphc")
        floats = op in (ops.div, ops.pow) or op.cost > 1 or op is ops.sqrt
        return floating(op, *inputs) if floats else elementwise(op, *inputs)


# -- functions the class needs


def matmul(a: Any, b: Any) -> Tensor:
    """NumPy's matmul for vectors, matrices, and a stack of rows times a matrix."""
    left, right = as_tensor(a), as_tensor(b)
    if left.ndim == 0 or right.ndim == 0 or right.ndim > 2:
        raise ShapeError(
            f"matmul of {left.type} and {right.type}: needs a vector or rows times a matrix", user_origin()
        )
    dtype = common_dtype([left, right], [left.value, right.value])
    dtype = dtype if dtype in FLOATS else "f32"
    rows = left._value.shape[:-1]
    inner = (left.value.shape[-1], right.value.shape[0])
    if inner[0] != inner[1]:
        raise ShapeError(
            f"matmul of {left.type} and {right.type}: the inner sizes {inner[0]} and {inner[1]} differ", user_origin()
        )
    matrix = left.reshape(multiply(*rows), inner[0]).value
    other = right.value if right.ndim == 2 else right.reshape(inner[1], 1).value
    product = apply(ops.dot, cast_value(matrix, dtype), cast_value(other, dtype))
    return product.reshape(*rows, *(right.value.shape[1:])) if right.ndim == 1 or len(rows) != 1 else product


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where the condition holds, b elsewhere."""
    chosen = lift(condition)
    values = [lift(item) for item in (a, b)]
    dtype = common_dtype([a, b], values)
    values = [cast_value(value, dtype) for value in values]
    shape = common_shape([chosen, *values])
    return apply(ops.where, *(stretch(value, shape) for value in (cast_value(chosen, "bool"), *values)))

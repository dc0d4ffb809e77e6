"""Tensor: a symbolic value with NumPy's operators. Nothing is computed here; every operation adds to a graph."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import numpy as np

from graphc.backends.runtime import Storage
from graphc.errors import DTypeError, GradientError, ShapeError, TraceError
from graphc.ir import ops
from graphc.ir.autodiff import depends_on
from graphc.ir.graph import IRError, Value, in_role, reachable, user_origin
from graphc.ir.ops.record import Op
from graphc.ir.types import DTYPES, FLOATS, INTEGERS, NAMES, Dim, Extent, Shape, TensorType, bound, divide, multiply

RANK = ("bool", "u8", "i32", "i64", "f32", "f64")
DEFAULT_BOUND = 1024


class DType:
    """An element type; subscripted it is a tensor type: `gx.f32["batch", 784]`, `gx.f32[()]`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.numpy = DTYPES[name]

    def __getitem__(self, shape: Any) -> TensorType:
        extents = shape if isinstance(shape, tuple) else (shape,)
        return TensorType(self.name, tuple(as_extent(extent) for extent in extents))

    def __repr__(self) -> str:
        return f"gx.{self.name}"


f32, f64, i32, i64, u8, bool_ = (DType(name) for name in ("f32", "f64", "i32", "i64", "u8", "bool"))


def dim(name: str, max: int = DEFAULT_BOUND) -> Dim:
    """A symbolic extent of 1 to `max`; one compiled function serves them all."""
    if max < 1:
        raise ShapeError(f"dim {name!r} has max={max}; it must be at least 1", user_origin())
    return Dim(name, max)


def as_extent(extent: Any) -> Extent:
    if isinstance(extent, Size):
        return extent.extent
    if isinstance(extent, str):
        return Dim(extent, DEFAULT_BOUND)
    if isinstance(extent, (int, np.integer)) and extent < 1:
        raise ShapeError(f"an extent of {extent} is not possible; extents are at least 1", user_origin())
    return int(extent) if isinstance(extent, (int, np.integer)) else extent


# -- what is going on while a step is traced


class Trace:
    """What a traced function did to parameters: their current values, their gradients."""

    def __init__(self) -> None:
        self.current: dict[Parameter, Tensor] = {}
        self.gradients: dict[Parameter, Tensor] = {}


_TRACE: ContextVar[Trace | None] = ContextVar("trace", default=None)
_NO_GRAD: ContextVar[bool] = ContextVar("no_grad", default=False)
_OWNERS: WeakKeyDictionary[Value, Parameter | Scalar] = WeakKeyDictionary()


@contextmanager
def tracing() -> Iterator[Trace]:
    """Inside, in-place changes of parameters are recorded as updates of the returned trace."""
    trace = Trace()
    token = _TRACE.set(trace)
    try:
        yield trace
    finally:
        _TRACE.reset(token)


@contextmanager
def no_grad() -> Iterator[None]:
    """No gradient flows through what is computed inside; updates are written in it, as in PyTorch."""
    token = _NO_GRAD.set(True)
    try:
        with in_role("update"):
            yield
    finally:
        _NO_GRAD.reset(token)


def active_trace(action: str) -> Trace:
    trace = _TRACE.get()
    if trace is None:
        raise TraceError(
            f"{action} outside of a traced step has nothing to act on",
            user_origin(),
            ["write it inside a function under @gx.step, or give gx.function(updates={...}) the new value"],
        )
    return trace


def owner(value: Value) -> Parameter | Scalar | None:
    """The parameter or scalar whose input a graph value is."""
    return _OWNERS.get(value)


# -- building values


def apply(op: Op, *operands: Value, **attrs: Any) -> Tensor:
    """One op as a tensor; what its type rule objects to is an error on the user's line."""
    try:
        value = op(*operands, **attrs)
    except IRError as error:
        raise ShapeError(str(error), user_origin()) from None
    if _NO_GRAD.get() and value.dtype in FLOATS:
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
    return Parameter(array, name="constant", requires_grad=False).value


def is_plain_number(x: Any) -> bool:
    return isinstance(x, (builtins.bool, int, float, np.number)) or isinstance(x, Size)


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
        return Size(multiply(self.extent, other.extent)) if isinstance(other, Size) else elementwise(ops.mul, self, other)

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

    __index__ = __float__ = __int__  # type: ignore[assignment]


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
        return self**exponent

    def clamp(self, min: Any = None, max: Any = None) -> Tensor:
        """Limited to [min, max]; either may be left out."""
        result = self if min is None else elementwise(ops.maximum, self, min)
        return result if max is None else elementwise(ops.minimum, result, max)

    clip = clamp

    def astype(self, dtype: DType | np.dtype[Any] | type) -> Tensor:
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
                raise ShapeError(f"cannot reshape {self.type} to {list(wanted)}: {known} does not divide it", user_origin())
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
        trace = active_trace("backward()")
        check_scalar(self)
        sources = [source for value in reachable((self.value,)) if isinstance(source := owner(value), Parameter)]
        wanted = [source for source in sources if source.requires_grad]
        reached = depends_on(self.value, tuple(source.input for source in wanted))
        for source in wanted:
            if source.input in reached:
                gradient = apply(ops.gradient, self.value, source.input)
                known = trace.gradients.get(source)
                trace.gradients[source] = Gradient((gradient if known is None else known + gradient).value)

    # -- what a symbolic value cannot do

    def _refuse(self, what: str, instead: str) -> NoReturn:
        raise TraceError(f"{what} needs numbers, but {self.type} is symbolic until the step runs", user_origin(), [instead])

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
        return self._value.shape[0]  # type: ignore[return-value]

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


class Gradient(Tensor):
    """A parameter's gradient inside a traced step."""

    def zero_(self) -> Gradient:
        """Nothing to do: every call of a compiled step starts with fresh gradients."""
        return self


class Parameter(Tensor):
    """A tensor with memory: concrete numbers outside, a symbol inside a graph.

    data  array of any supported dtype; float64 becomes float32 unless `dtype` says otherwise
    """

    def __init__(
        self, data: Any, name: str = "", requires_grad: bool = True, dtype: DType | None = None
    ) -> None:
        array = np.asarray(data)
        wanted = dtype.numpy if dtype else DTYPES["f32"] if array.dtype == DTYPES["f64"] else array.dtype
        if wanted not in NAMES:
            raise DTypeError(f"a parameter cannot have dtype {array.dtype}", user_origin())
        self.storage = Storage(array.astype(wanted, copy=False))
        self.name = name
        self.requires_grad = requires_grad and NAMES[wanted] in FLOATS
        kind = TensorType(NAMES[wanted], tuple(int(extent) for extent in array.shape))
        self.input = ops.input(name=name or "parameter", role="state", type=kind)
        _OWNERS[self.input] = self
        super().__init__(self.input)

    @property
    def value(self) -> Value:
        """Its value at this point of the trace: the input, or what the last update made of it."""
        trace = _TRACE.get()
        return trace.current[self].value if trace is not None and self in trace.current else self.input

    @property
    def grad(self) -> Gradient | None:
        """Its gradient, after backward() in the same traced step."""
        trace = _TRACE.get()
        found = None if trace is None else trace.gradients.get(self)
        return found  # type: ignore[return-value]

    @grad.setter
    def grad(self, new: Tensor | None) -> None:
        trace = active_trace("setting .grad")
        if new is None:
            trace.gradients.pop(self, None)
        else:
            trace.gradients[self] = new

    def needed_grad(self) -> Tensor:
        """Its gradient; GradientError when there is none."""
        if self.grad is None:
            raise GradientError(
                f"parameter {self.name or self.type} has no gradient here",
                user_origin(),
                ["call backward() on a loss that depends on it first"],
            )
        return self.grad

    def numpy(self) -> np.ndarray[Any, Any]:
        """A copy of its numbers."""
        return self.storage.array.copy()

    def item(self) -> Any:
        return self.storage.array.item()

    def copy_(self, data: Any) -> Parameter:
        """New numbers, of the same shape; inside a traced step, a recorded update."""
        if _TRACE.get() is not None:
            return self._record(as_tensor(data))
        array = np.asarray(data.numpy() if isinstance(data, Parameter) else data)
        if array.shape != self.storage.array.shape:
            raise ShapeError(f"{self.name or 'parameter'} is {self.type}, the new data has shape {array.shape}", user_origin())
        self.storage.array[...] = array
        return self

    def zero_(self) -> Parameter:
        return self.copy_(np.zeros(self.storage.array.shape, self.storage.array.dtype))

    @property
    def data(self) -> Parameter:
        """Itself: there is no tape that an in-place change could disturb."""
        return self

    def _record(self, new: Tensor) -> Parameter:
        trace = active_trace("an in-place update")
        value = cast_value(new.value, self.input.dtype)
        if common_shape([value, self.input]) != self.input.shape:
            raise ShapeError(f"an update of {new.type} does not fit {self.name or 'a parameter'} of {self.type}", user_origin())
        trace.current[self] = Tensor(stretch(value, self.input.shape))
        return self

    def __iadd__(self, other: Any) -> Parameter:  # type: ignore[misc]
        return self._record(self + other)

    def __isub__(self, other: Any) -> Parameter:  # type: ignore[misc]
        return self._record(self - other)

    def __imul__(self, other: Any) -> Parameter:  # type: ignore[misc]
        return self._record(self * other)

    def __itruediv__(self, other: Any) -> Parameter:  # type: ignore[misc]
        return self._record(self / other)

    def add_(self, other: Any, alpha: Any = 1) -> Parameter:
        return self._record(self + other * alpha)

    def sub_(self, other: Any, alpha: Any = 1) -> Parameter:
        return self._record(self - other * alpha)

    def mul_(self, other: Any) -> Parameter:
        return self._record(self * other)


class Scalar(Tensor):
    """A run-time number of a step: changing it never recompiles."""

    def __init__(self, name: str, number: builtins.float, dtype: DType = f32) -> None:
        self.name = name
        self.number = number
        self.input = ops.input(name=name, role="scalar", type=TensorType(dtype.name, ()))
        _OWNERS[self.input] = self
        super().__init__(self.input)

    def set(self, number: builtins.float) -> None:
        self.number = number

    def item(self) -> Any:
        return self.number


# -- functions the class needs


def matmul(a: Any, b: Any) -> Tensor:
    """NumPy's matmul for vectors, matrices, and a stack of rows times a matrix."""
    left, right = as_tensor(a), as_tensor(b)
    if left.ndim == 0 or right.ndim == 0 or right.ndim > 2:
        raise ShapeError(f"matmul of {left.type} and {right.type}: needs a vector or rows times a matrix", user_origin())
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


def check_scalar(loss: Tensor) -> None:
    if bound(loss.type.count) != 1:
        raise GradientError(
            f"a gradient needs a loss of one number, this one is {loss.type}",
            user_origin(),
            ["reduce it first: loss.mean() or loss.sum()"],
        )


def grad(loss: Tensor, wrt: Any) -> Any:
    """d loss / d wrt as more graph: one tensor, or a list for a list of them.

    Raises GradientError when the loss is not one number or does not depend on a wrt through differentiable operations.
    """
    check_scalar(loss)
    many = isinstance(wrt, (list, tuple))
    targets = list(wrt) if many else [wrt]
    reached = depends_on(loss.value, tuple(target.value for target in targets))
    for target in targets:
        if target.value not in reached:
            name = getattr(target, "name", "") or str(target.type)
            raise GradientError(
                f"the loss does not depend on {name} through differentiable operations",
                user_origin(),
                ["leave it out, or check for comparisons, integer casts and stop_gradient on the way"],
            )
    found = [apply(ops.gradient, loss.value, target.value) for target in targets]
    return found if many else found[0]


def input(name: str, type: TensorType) -> Tensor:
    """A data input of a function."""
    return Tensor(ops.input(name=name, role="data", type=type))


def parameter(name: str, data: Any) -> Parameter:
    """Concrete storage that is a symbol in a graph."""
    return Parameter(data, name)


def scalar(name: str, number: builtins.float) -> Scalar:
    """A run-time input with a value, f32[]."""
    return Scalar(name, number)

"""Tensor: a symbolic value with NumPy's operators. Nothing is computed here; every operation adds to a graph."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, NoReturn, Self

import numpy as np

from graphc.errors import ShapeError, TraceError
from graphc.ir.graph import Value, user_origin
from graphc.ir.types import TensorType
from graphc.settings import require
from graphc.tensor import (
    arithmetic,
    comparison,
    diagonals,
    indexing,
    joining,
    maths,
    placing,
    products,
    reduction,
    sorting,
    views,
)
from graphc.tensor.building import as_tensor
from graphc.tensor.dtypes import DType, bool_, f32, f64, i32, i64, u8
from graphc.tensor.indexing import VALUES_ALONE
from graphc.tensor.operators import Operators
from graphc.tensor.size import sized
from graphc.tensor.tracing import current_trace

# What np.func(tensor) calls, by NumPy's names.
UFUNCS: dict[str, Callable[..., Tensor]] = {
    name: getattr(module, name)
    for module in (arithmetic, comparison, maths, products)
    for name in module.__all__
    if isinstance(getattr(np, name, None), np.ufunc)
}


def the_number(what: str, type: TensorType, numbers: np.ndarray[Any, Any]) -> Any:
    """The one number there is. Raises ShapeError where there are none or several."""
    if numbers.size != 1:
        advice = ["reduce it first, as by x.sum(), or x.any() for a condition"]
        raise ShapeError(f"{what} needs one number, {type} has {numbers.size}", user_origin(), advice)
    return numbers.item()


class Tensor(Operators):
    """A symbolic array: dtype and shape are known, its numbers only when the compiled function runs.

    Its methods are functions of this package with the tensor as their first argument; each is described there.
    """

    def __init__(self, value: Value) -> None:
        require(isinstance(value, Value), "what a Tensor is made of", value, "a graph value; write gx.Parameter(data)")
        self._value = value

    @property
    def value(self) -> Value:
        """The graph value."""
        return self._value

    def __copy__(self) -> Self:
        """Itself: a symbol never changes."""
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        advice = ["pickle parameters, arrays and modules; a module makes its symbols in forward()"]
        raise TraceError(f"{self!r} is a symbol of a graph and holds no numbers to pickle", user_origin(), advice)

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
        return tuple(sized(extent) for extent in self._value.shape)

    @property
    def ndim(self) -> builtins.int:
        return len(self._value.shape)

    def size(self, dim: builtins.int | None = None) -> Any:
        """PyTorch's size(): the shape, or one extent."""
        return self.shape if dim is None else self.shape[views.one_axis(dim, self.ndim)]

    def dim(self) -> builtins.int:
        return self.ndim

    def contiguous(self) -> Self:
        """Itself: how a value lies in memory is planned for the whole step."""
        return self

    def clone(self) -> Tensor:
        """The same numbers; a tensor that is never written over needs no copy."""
        return Tensor(self.value)

    def numel(self) -> Any:
        return sized(self._value.type.count)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.type})"

    def __str__(self) -> str:
        """With the numbers it has for samples of all inputs it depends on, where `gx.sample` gave them."""
        from graphc.probes import sampled

        numbers = sampled(self)
        return repr(self) if numbers is None else f"{self!r} of the sample:\n{numbers}"

    # -- arithmetic

    abs = arithmetic.abs
    absolute = arithmetic.absolute
    add = arithmetic.add
    ceil = arithmetic.ceil
    clamp = arithmetic.clamp
    clip = arithmetic.clip
    div = arithmetic.div
    divide = arithmetic.divide
    fix = arithmetic.fix
    floor = arithmetic.floor
    floor_divide = arithmetic.floor_divide
    fmax = arithmetic.fmax
    fmin = arithmetic.fmin
    fmod = arithmetic.fmod
    frac = arithmetic.frac
    heaviside = arithmetic.heaviside
    lerp = arithmetic.lerp
    maximum = arithmetic.maximum
    minimum = arithmetic.minimum
    mul = arithmetic.mul
    multiply = arithmetic.multiply
    neg = arithmetic.neg
    negative = arithmetic.negative
    positive = arithmetic.positive
    pow = arithmetic.pow
    reciprocal = arithmetic.reciprocal
    remainder = arithmetic.remainder
    round = arithmetic.round
    rsqrt = arithmetic.rsqrt
    sign = arithmetic.sign
    sqrt = arithmetic.sqrt
    square = arithmetic.square
    sub = arithmetic.sub
    subtract = arithmetic.subtract
    true_divide = arithmetic.true_divide
    trunc = arithmetic.trunc

    # -- comparison, logic, bits

    bitwise_and = comparison.bitwise_and
    bitwise_left_shift = comparison.bitwise_left_shift
    bitwise_not = comparison.bitwise_not
    bitwise_or = comparison.bitwise_or
    bitwise_right_shift = comparison.bitwise_right_shift
    bitwise_xor = comparison.bitwise_xor
    eq = comparison.eq
    ge = comparison.ge
    greater = comparison.greater
    greater_equal = comparison.greater_equal
    gt = comparison.gt
    isclose = comparison.isclose
    isfinite = comparison.isfinite
    isinf = comparison.isinf
    isnan = comparison.isnan
    le = comparison.le
    less = comparison.less
    less_equal = comparison.less_equal
    logical_and = comparison.logical_and
    logical_not = comparison.logical_not
    logical_or = comparison.logical_or
    logical_xor = comparison.logical_xor
    lt = comparison.lt
    masked_fill = comparison.masked_fill
    nan_to_num = comparison.nan_to_num
    ne = comparison.ne
    not_equal = comparison.not_equal

    def where(self, condition: Any, other: Any) -> Tensor:
        """This where the condition holds, `other` elsewhere."""
        return comparison.where(condition, self, other)

    # -- elementary functions

    acos = maths.acos
    acosh = maths.acosh
    arccos = maths.arccos
    arccosh = maths.arccosh
    arcsin = maths.arcsin
    arcsinh = maths.arcsinh
    arctan = maths.arctan
    arctan2 = maths.arctan2
    arctanh = maths.arctanh
    asin = maths.asin
    asinh = maths.asinh
    atan = maths.atan
    atan2 = maths.atan2
    atanh = maths.atanh
    cos = maths.cos
    cosh = maths.cosh
    deg2rad = maths.deg2rad
    erf = maths.erf
    exp = maths.exp
    exp2 = maths.exp2
    expm1 = maths.expm1
    hypot = maths.hypot
    log = maths.log
    log10 = maths.log10
    log1p = maths.log1p
    log2 = maths.log2
    logaddexp = maths.logaddexp
    logit = maths.logit
    rad2deg = maths.rad2deg
    relu = maths.relu
    sigmoid = maths.sigmoid
    sin = maths.sin
    sinh = maths.sinh
    tan = maths.tan
    tanh = maths.tanh
    xlogy = maths.xlogy

    # -- conversion

    to = type_as = astype = arithmetic.astype
    detach = arithmetic.detach

    def float(self) -> Tensor:
        """As f32."""
        return self.astype(f32)

    def double(self) -> Tensor:
        """As f64."""
        return self.astype(f64)

    def int(self) -> Tensor:
        """As i32."""
        return self.astype(i32)

    def long(self) -> Tensor:
        """As i64."""
        return self.astype(i64)

    def byte(self) -> Tensor:
        """As u8."""
        return self.astype(u8)

    def bool(self) -> Tensor:
        """As bool."""
        return self.astype(bool_)

    # -- reductions

    all = reduction.all
    amax = reduction.amax
    amin = reduction.amin
    any = reduction.any
    argmax = reduction.argmax
    argmin = reduction.argmin
    count_nonzero = reduction.count_nonzero
    log_softmax = reduction.log_softmax
    logsumexp = reduction.logsumexp
    max = reduction.max
    mean = reduction.mean
    min = reduction.min
    norm = reduction.norm
    prod = reduction.prod
    softmax = reduction.softmax
    std = reduction.std
    sum = reduction.sum
    var = reduction.var

    # -- products

    bmm = products.bmm
    dot = products.dot
    inner = products.inner
    kron = products.kron
    matmul = products.matmul
    mm = products.mm
    mv = products.mv
    outer = products.outer

    # -- diagonals

    diag = diagonals.diag
    diagonal = diagonals.diagonal
    trace = diagonals.trace
    tril = diagonals.tril
    triu = diagonals.triu

    # -- shape

    broadcast_to = views.broadcast_to
    expand = views.broadcast_to
    flatten = views.flatten
    moveaxis = views.moveaxis
    movedim = views.movedim
    permute = views.permute
    ravel = views.ravel
    reshape = views.reshape
    squeeze = views.squeeze
    swapaxes = views.swapaxes
    swapdims = views.swapdims
    transpose = views.transpose
    unflatten = views.unflatten
    unsqueeze = views.unsqueeze
    view = views.reshape

    def expand_as(self, other: Tensor) -> Tensor:
        return views.broadcast_to(self, as_tensor(other).shape)

    def reshape_as(self, other: Tensor) -> Tensor:
        return views.reshape(self, as_tensor(other).shape)

    view_as = reshape_as

    @property
    def T(self) -> Tensor:
        """The axes in reverse order."""
        return self.transpose()

    @property
    def mT(self) -> Tensor:
        """Every matrix of a stack transposed."""
        return self.swapaxes(-2, -1)

    def t(self) -> Tensor:
        return self.transpose()

    # -- parts

    __getitem__ = indexing.getitem
    __iter__ = indexing.rows
    gather = indexing.gather
    index_select = indexing.index_select
    masked_select = indexing.masked_select
    narrow = indexing.narrow
    nonzero = indexing.nonzero
    select = indexing.select
    take = indexing.take
    take_along_dim = indexing.take_along_dim

    # -- at places

    bincount = placing.bincount
    index_add = placing.index_add
    index_copy = placing.index_copy
    index_fill = placing.index_fill
    index_put = placing.index_put
    scatter = placing.scatter
    scatter_add = placing.scatter_add

    # -- apart, round, several times

    chunk = joining.chunk
    flip = joining.flip
    fliplr = joining.fliplr
    flipud = joining.flipud
    repeat = joining.repeat
    repeat_interleave = joining.repeat_interleave
    roll = joining.roll
    split = joining.split
    tile = joining.tile
    unbind = joining.unbind

    # -- orders and running totals

    argsort = sorting.argsort
    cumprod = sorting.cumprod
    cumsum = sorting.cumsum
    diff = sorting.diff
    median = sorting.median
    quantile = sorting.quantile
    sort = sorting.sort
    topk = sorting.topk

    def __len__(self) -> builtins.int:
        if not self._value.shape or not isinstance(self._value.shape[0], builtins.int):
            self._refuse("len()", "use x.shape[0] in arithmetic; it is the run-time size")
        return self._value.shape[0]

    def __setitem__(self, index: Any, new: Any) -> None:
        raise TraceError(
            f"{self.type} cannot be changed in place",
            user_origin(),
            ["make a new tensor: x = gx.index_put(x, index, new), or gx.where(mask, new, x)"],
        )

    # -- gradients

    def backward(self) -> None:
        """Give every parameter this scalar depends on its `.grad`, as an expression of the traced step."""
        from graphc.tensor.parameter import record_gradients  # parameters are tensors, so they import this file

        record_gradients(self)

    # -- its numbers: outside of a trace it has them, unless it depends on what a function is called with

    def numpy(self) -> np.ndarray[Any, Any]:
        return self._numbers("numpy()")

    def item(self) -> Any:
        """The number of a tensor that has one."""
        return self._number("item()")

    def tolist(self) -> Any:
        """Its numbers as nested lists."""
        return self._numbers("tolist()").tolist()

    def __float__(self) -> builtins.float:
        return builtins.float(self._number("float()"))

    def __int__(self) -> builtins.int:
        return int(self._number("int()"))

    def __bool__(self) -> builtins.bool:
        return builtins.bool(self._number("a Python condition"))

    def __array__(self, dtype: Any = None, copy: builtins.bool | None = None) -> np.ndarray[Any, Any]:
        return np.asarray(self._numbers("a NumPy array"), dtype)

    def _number(self, what: str, instead: str = "") -> Any:
        return the_number(what, self.type, self._numbers(what, instead))

    def _numbers(self, what: str, instead: str = "") -> np.ndarray[Any, Any]:
        from graphc.evaluation import evaluate, is_known  # which compiles graphs, and so works on tensors

        if current_trace() is not None or not is_known(self):
            self._refuse(what, instead)
        return evaluate(self)

    # -- what a symbolic value cannot do

    @property
    def values(self) -> NoReturn:
        """Not there: AttributeError that says what to write in place of PyTorch's max(...).values."""
        raise AttributeError(f"{self.type} has no values: {VALUES_ALONE}")

    @property
    def indices(self) -> NoReturn:
        """Not there: AttributeError that says what to write in place of PyTorch's max(...).indices."""
        raise AttributeError(f"{self.type} has no indices: {VALUES_ALONE}")

    def __index__(self) -> builtins.int:
        return builtins.int(self._number("a whole number of Python"))

    def __round__(self, digits: builtins.int | None = None) -> Tensor:
        return arithmetic.round(self, digits or 0)

    def __format__(self, form: str) -> str:
        return str(self) if not form else format(self._number(f"the format {form!r}"), form)

    def __contains__(self, number: object) -> builtins.bool:
        return builtins.bool((self == number).any()._number("`in`", "write (x == number).any()"))

    def _refuse(self, what: str, instead: str) -> NoReturn:
        from graphc.suggestions import in_place_of_condition, in_place_of_number

        origin = user_origin()
        if not instead:
            condition = what == "a Python condition"
            instead = in_place_of_condition(origin) if condition else in_place_of_number(origin)
        raise TraceError(f"{what} needs numbers, but {self.type} is symbolic until the step runs", origin, [instead])

    def _refuse_numpy(self, function: Any) -> NoReturn:
        from graphc.suggestions import in_place_of_function

        module = getattr(function, "__module__", None) or "numpy"
        title = f"{module}.{function.__name__}".replace("numpy", "np", 1)
        self._refuse(title, in_place_of_function(title, function.__name__))

    def __array_function__(self, function: Any, *_: Any) -> Any:
        self._refuse_numpy(function)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        function = UFUNCS.get(ufunc.__name__)
        if function is None or method != "__call__" or kwargs:
            self._refuse_numpy(ufunc)
        return function(*inputs)

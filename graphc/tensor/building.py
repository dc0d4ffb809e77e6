"""Graph values from what users write: promotion, broadcasting, and one op applied to anything that can stand for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.arrays import as_array
from graphc.errors import DTypeError, GraphcError, ShapeError
from graphc.ir import ops
from graphc.ir.access import is_constant
from graphc.ir.graph import IRError, Value, user_origin
from graphc.ir.ops.record import Op
from graphc.ir.types import DTYPES, FLOATS, NAMES, Extent, Shape, TensorType, bound
from graphc.settings import check_switches, is_whole, shown
from graphc.tensor.dtypes import DType
from graphc.tensor.tracing import gradients_stop

if TYPE_CHECKING:
    from graphc.tensor.tensor import Tensor

RANK = ("bool", "u8", "i32", "i64", "f32", "f64")
TO_MEND: dict[type[GraphcError], list[str]] = {DTypeError: ["convert it first: x.float() or x.long()"]}


def as_tensor(x: Any) -> Tensor:
    """Anything that can stand in an expression, as a tensor."""
    from graphc.tensor.tensor import Tensor  # whose methods are made of this file's functions

    return x if isinstance(x, Tensor) else Tensor(lift(x))


def lift(x: Any, double: bool = False) -> Value:
    """Anything that can stand in an expression, as a graph value; arrays become constant state.

    double  an array of f64 stays one; else it becomes f32, as its plain numbers would
    """
    value = known_value(x)
    if value is not None:
        return value
    array = as_array(x)
    if array.dtype not in NAMES:
        message = f"cannot use {type(x).__name__} of dtype {array.dtype} in a graph: {shown(x)}"
        raise DTypeError(message, user_origin(), [f"use a tensor, a number, an array of {', '.join(NAMES.values())}"])
    if array.ndim == 0:
        return ops.full(value=array.item(), type=TensorType(NAMES[array.dtype], ()))
    from graphc.tensor.parameter import Parameter  # parameters are tensors, so they import this file

    kept = DType(NAMES[array.dtype]) if double else None
    return Parameter(array, name="constant", requires_grad=False, dtype=kept).value


def lift_all(items: Sequence[Any]) -> list[Value]:
    """Operands that meet, as graph values: beside a tensor of f64, arrays of f64 stay what they are."""
    known = [known_value(item) for item in items]
    double = any(value is not None and value.dtype == "f64" for value in known)
    return [value or lift(item, double) for value, item in zip(known, items, strict=True)]


def settle(*items: Any) -> list[Any]:
    """Operands that meet, to be used more than once: as tensors, but plain numbers as they are."""
    values = lift_all(items)
    return [item if is_plain_number(item) else as_tensor(value) for item, value in zip(items, values, strict=True)]


def known_value(x: Any) -> Value | None:
    """The graph value of a Tensor, a Size, or itself."""
    value = x if isinstance(x, Value) else getattr(x, "value", None)
    return value if isinstance(value, Value) else None


def apply(op: Op, *operands: Value, **attrs: Any) -> Tensor:
    """One op as a tensor; what its type rule objects to is an error on the user's line."""
    return build(ShapeError, op, operands, attrs)


def build(kind: type[GraphcError], op: Op, operands: Sequence[Value], attrs: dict[str, Any]) -> Tensor:
    """One op as a tensor, or an error of that kind."""
    stopping = gradients_stop()
    if stopping:
        operands = [stopped(operand) for operand in operands]
    try:
        value = op(*operands, **attrs)
    except IRError as error:
        raise kind(str(error), user_origin(), TO_MEND.get(kind, ())) from None
    if stopping:
        value.memo["stopped"] = True
    return as_tensor(value)


def stopped(value: Value) -> Value:
    """The value with no gradient through it: itself where that is so already, as it is for all made in no_grad()."""
    if value.dtype not in FLOATS or "stopped" in value.memo or is_constant(value):
        return value
    if "stop" not in value.memo:
        value.memo["stop"] = ops.stop_gradient(value)
        value.memo["stop"].memo["stopped"] = True
    barrier: Value = value.memo["stop"]
    return barrier


def is_plain_number(x: Any) -> bool:
    return isinstance(x, (bool, int, float, np.integer, np.floating))


def common_dtype(items: Sequence[Any], values: Sequence[Value]) -> str:
    """NumPy's promotion, with plain numbers taking the type of the tensors they meet; floats are f32 by default."""
    strong = [value.dtype for item, value in zip(items, values, strict=True) if not is_plain_number(item)]
    highest = max(strong, key=RANK.index, default="bool")
    for item in items:
        if isinstance(item, (float, np.floating)) and highest not in FLOATS:
            highest = "f32"
        elif isinstance(item, (int, np.integer)) and not isinstance(item, bool) and highest == "bool":
            highest = "i64"
    return highest


def cast_value(value: Value, dtype: str) -> Value:
    if value.dtype == dtype:
        return value
    if value.op is ops.full:
        return ops.full(value=converted(value.attrs["value"], dtype), type=value.type.with_dtype(dtype))
    if value.op is ops.size:
        return ops.size(extent=value.attrs["extent"], type=value.type.with_dtype(dtype))
    return ops.cast(value, dtype=dtype)


def converted(number: float, dtype: str) -> float:
    """The number in a dtype. Raises DTypeError where that cannot hold it."""
    try:
        result: float = DTYPES[dtype].type(number).item()
        return result
    except (OverflowError, ValueError):
        raise DTypeError(f"{dtype} cannot hold the number {shown(number)}", user_origin()) from None


def common_shape(values: Sequence[Value]) -> Shape:
    """NumPy's broadcasting over symbolic extents."""
    rank = max(len(value.shape) for value in values)
    shape: list[Extent] = [1] * rank
    for value in values:
        for axis, extent in enumerate(value.shape, rank - len(value.shape)):
            if shape[axis] == 1:
                shape[axis] = extent
            elif extent not in (1, shape[axis]):
                from graphc.suggestions import for_broadcast

                types, pair = " and ".join(str(value.type) for value in values), (shape[axis], extent)
                one, other = map(str, pair) if str(pair[0]) != str(pair[1]) else (bounded(each) for each in pair)
                raise ShapeError(
                    f"cannot broadcast {types}: axis {axis - rank} is {one} in one and {other} in the other",
                    user_origin(),
                    for_broadcast(*(value.shape for value in values)) if len(values) == 2 else (),
                )
    return tuple(shape)


def bounded(extent: Extent) -> str:
    """The extent with the bounds of its dims, for dims of one name that differ."""
    return f"{extent} of at most {bound(extent)}"


def stretch(value: Value, shape: Shape) -> Value:
    """The value broadcast to a shape, which its own is known to stretch to."""
    if value.op is ops.full:
        return ops.full(value=value.attrs["value"], type=value.type.with_shape(shape))
    padded = (1,) * (len(shape) - len(value.shape)) + value.shape
    if padded != value.shape:
        value = ops.reshape(value, shape=padded)
    return value if value.shape == shape else ops.broadcast(value, shape=shape)


def elementwise(op: Op, *items: Any, dtype: str | None = None) -> Tensor:
    """An elementwise op with NumPy's promotion and broadcasting."""
    values = lift_all(items)
    return combine(op, values, dtype or common_dtype(items, values))


def floating(op: Op, *items: Any) -> Tensor:
    """An elementwise op on floats; integers are converted."""
    values = lift_all(items)
    return combine(op, values, float_dtype(items, values))


def combine(op: Op, values: Sequence[Value], dtype: str) -> Tensor:
    """An elementwise op on values brought to one type."""
    alike = [cast_value(value, dtype) for value in values]
    shape = common_shape(alike)
    return build(DTypeError, op, [stretch(value, shape) for value in alike], {})


def float_dtype(items: Sequence[Any], values: Sequence[Value]) -> str:
    """The common dtype if it is a float, else f32."""
    dtype = common_dtype(items, values)
    return dtype if dtype in FLOATS else "f32"


def as_floats(*items: Any) -> list[Tensor]:
    """Tensors of one float dtype."""
    values = lift_all(items)
    dtype = float_dtype(items, values)
    return [as_tensor(cast_value(value, dtype)) for value in values]


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where the condition holds, b elsewhere."""
    chosen = lift(condition)
    values = lift_all((a, b))
    dtype = common_dtype([a, b], values)
    values = [cast_value(value, dtype) for value in values]
    shape = common_shape([chosen, *values])
    return apply(ops.where, *(stretch(value, shape) for value in (cast_value(chosen, "bool"), *values)))


def normal_axes(axis: Any, rank: int) -> tuple[int, ...]:
    """Axes as sorted non-negative numbers; None means all. Raises ShapeError for what is no axis, or named twice."""
    axes = tuple(range(rank)) if axis is None else tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    for each in axes:
        if not is_whole(each):
            raise ShapeError(f"an axis is a whole number, not {shown(each)}", user_origin())
        if not -rank <= each < rank:
            raise ShapeError(f"axis {each} is outside of a tensor with {rank} axes", user_origin())
    found = sorted(int(each) % rank for each in axes)
    if len(set(found)) < len(found):
        raise ShapeError(f"axes {list(axes)} of a tensor with {rank} axes name one twice", user_origin())
    return tuple(found)


def keeps_axes(keepdims: bool, keepdim: bool) -> bool:
    """NumPy's and PyTorch's switch for axes of size 1 in place of those reduced."""
    check_switches(keepdims=keepdims, keepdim=keepdim)
    return keepdims or keepdim


def reduce(op: Op, x: Any, axis: Any = None, keepdims: bool = False, dim: Any = None, keepdim: bool = False) -> Tensor:
    """A reduction over some axes, NumPy's and PyTorch's spelling."""
    tensor, keep = as_tensor(x), keeps_axes(keepdims, keepdim)
    shape = tensor.value.shape
    axes = normal_axes(axis if dim is None else dim, len(shape))
    if op in (ops.max, ops.min) and 0 in [shape[each] for each in axes]:
        raise ShapeError(f"{op.name} of {tensor.type} over no elements has no value", user_origin())
    result = apply(op, tensor.value, axes=axes) if axes else tensor
    if keep:
        return result
    kept = tuple(extent for number, extent in enumerate(shape) if number not in axes)
    return apply(ops.reshape, result.value, shape=kept) if kept != result.value.shape else result

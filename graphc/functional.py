"""Functions of tensors under NumPy's and PyTorch's names: compositions of ops, never ops.

`axis` and `dim`, `keepdims` and `keepdim` mean the same. Floats come out as f32 unless an f64 went in; integers are
converted where a function needs floats. Every loss raises ShapeError, naming both types, for operands that do not fit.
"""

from __future__ import annotations

import math
from typing import Any

from graphc.errors import DTypeError, ShapeError
from graphc.ir import ops
from graphc.ir.graph import user_origin
from graphc.ir.types import FLOATS, INTEGERS, Extent, TensorType, bound, multiply
from graphc.tensor import (
    DType,
    Size,
    Tensor,
    apply,
    as_extent,
    as_tensor,
    cast_value,
    common_dtype,
    elementwise,
    floating,
    lift,
    matmul,
    reduce,
    stretch,
    where,
)

__all__ = [
    "abs", "accuracy", "arange", "argmax", "argmin", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "broadcast_to", "cast", "clamp", "clip", "cos", "cross_entropy", "dot", "exp", "expm1", "flatten", "floor", "full",
    "full_like", "l1_loss", "leaky_relu", "linear", "log", "log1p", "log_softmax", "logsumexp", "matmul", "max",
    "maximum", "mean", "min", "minimum", "mse_loss", "nll_loss", "one_hot", "ones", "ones_like", "outer", "pow", "prod",
    "relu", "reshape", "rsqrt", "sigmoid", "sign", "silu", "sin", "softmax", "softplus", "sqrt", "square", "squeeze",
    "std", "stop_gradient", "sum", "tanh", "transpose", "unsqueeze", "var", "where", "zeros", "zeros_like",
]  # fmt: skip

REDUCTIONS = ("mean", "sum", "none")
LEAST_LOG = -100.0  # PyTorch's floor for the logarithms in binary_cross_entropy


# -- one element at a time


def exp(x: Any) -> Tensor:
    return floating(ops.exp, x)


def expm1(x: Any) -> Tensor:
    """exp(x) - 1, accurate near 0."""
    return floating(ops.expm1, x)


def log(x: Any) -> Tensor:
    return floating(ops.log, x)


def log1p(x: Any) -> Tensor:
    """log(1 + x), accurate near 0."""
    return floating(ops.log1p, x)


def sqrt(x: Any) -> Tensor:
    return floating(ops.sqrt, x)


def rsqrt(x: Any) -> Tensor:
    """1 / sqrt(x)."""
    return 1 / sqrt(x)


def square(x: Any) -> Tensor:
    return elementwise(ops.mul, x, x)


def pow(x: Any, exponent: Any) -> Tensor:
    return x**exponent if isinstance(x, Tensor) else floating(ops.pow, x, exponent)


def sin(x: Any) -> Tensor:
    return floating(ops.sin, x)


def cos(x: Any) -> Tensor:
    return floating(ops.cos, x)


def tanh(x: Any) -> Tensor:
    return floating(ops.tanh, x)


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + exp(-x))."""
    return floating(ops.sigmoid, x)


def relu(x: Any) -> Tensor:
    """max(x, 0); slope 0 at 0."""
    return floating(ops.relu, x)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, negative_slope * x elsewhere."""
    tensor = as_tensor(x)
    return where(tensor > 0, tensor, tensor * negative_slope)


def silu(x: Any) -> Tensor:
    """x * sigmoid(x)."""
    return elementwise(ops.mul, x, sigmoid(x))


def softplus(x: Any, beta: float = 1.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta, without overflow."""
    return floating(ops.softplus, x) if beta == 1 else floating(ops.softplus, as_tensor(x) * beta) / beta


def abs(x: Any) -> Tensor:
    return elementwise(ops.absolute, x)


def sign(x: Any) -> Tensor:
    """-1, 0 or 1; NaN stays NaN."""
    return elementwise(ops.sign, x)


def floor(x: Any) -> Tensor:
    return floating(ops.floor, x)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of two, NaN where either is."""
    return elementwise(ops.maximum, a, b)


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of two, NaN where either is."""
    return elementwise(ops.minimum, a, b)


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """Limited to [min, max]; either may be left out."""
    return as_tensor(x).clamp(min, max)


clamp = clip


def cast(x: Any, dtype: DType) -> Tensor:
    return as_tensor(x).astype(dtype)


def stop_gradient(x: Any) -> Tensor:
    """The same numbers; no gradient flows through."""
    return as_tensor(x).detach()


# -- reductions


def sum(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    return reduce(ops.sum, x, axis, keepdims, dim, keepdim)


def prod(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    return reduce(ops.prod, x, axis, keepdims, dim, keepdim)


def max(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The maximum, NaN where there is one; equal maxima share the gradient."""
    return reduce(ops.max, x, axis, keepdims, dim, keepdim)


def min(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The minimum, NaN where there is one; equal minima share the gradient."""
    return reduce(ops.min, x, axis, keepdims, dim, keepdim)


def mean(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    return as_tensor(x).mean(axis, keepdims, dim=dim, keepdim=keepdim)


def var(
    x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False, correction: int = 1
) -> Tensor:
    """Squared deviations from the mean over (count - correction); PyTorch's default 1, NumPy's is 0."""
    return as_tensor(x).var(axis if dim is None else dim, keepdims or keepdim, correction=correction)


def std(
    x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False, correction: int = 1
) -> Tensor:
    """The square root of `var`."""
    return sqrt(var(x, axis, keepdims, dim=dim, keepdim=keepdim, correction=correction))


def argmax(x: Any, axis: int | None = None, keepdims: bool = False, *, dim: int | None = None) -> Tensor:
    """The first index of the maximum, i64."""
    return as_tensor(x).argmax(axis, keepdims, dim=dim)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False, *, dim: int | None = None) -> Tensor:
    """The first index of the minimum, i64."""
    return as_tensor(x).argmin(axis, keepdims, dim=dim)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))) that cannot overflow; -inf, with no gradient, where all of x is."""
    tensor, axes = as_tensor(x), axis if dim is None else dim
    top = max(tensor, axes, keepdims=True).detach()
    shift = where(abs(top) < math.inf, top, 0.0)
    powers = sum(exp(tensor - shift), axes, keepdims=True)
    nothing = powers == 0
    total = where(nothing, -math.inf, log(where(nothing, 1.0, powers))) + shift
    return total if keepdims or keepdim else sum(total, axes)


# -- softmax


def shifted(x: Any, axis: int) -> Tensor:
    """x less its maximum along an axis, which is a constant for the gradient: softmax does not depend on it."""
    tensor = as_tensor(x)
    return tensor - max(tensor, axis, keepdims=True).detach()


def softmax(x: Any, axis: int = -1, *, dim: int | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis, without overflow."""
    along = axis if dim is None else dim
    powers = exp(shifted(x, along))
    return powers / sum(powers, along, keepdims=True)


def log_softmax(x: Any, axis: int = -1, *, dim: int | None = None) -> Tensor:
    """log(softmax(x)) without overflow or loss of digits."""
    along = axis if dim is None else dim
    rest = shifted(x, along)
    return rest - log(sum(exp(rest), along, keepdims=True))


# -- products


def dot(a: Any, b: Any) -> Tensor:
    """NumPy's dot: of vectors, of matrices, and with numbers."""
    left, right = as_tensor(a), as_tensor(b)
    return matmul(left, right) if left.ndim and right.ndim else left * right


def outer(a: Any, b: Any) -> Tensor:
    """[n], [m] -> [n, m]; more axes are flattened."""
    return as_tensor(a).reshape(-1, 1) * as_tensor(b).reshape(1, -1)


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """x [..., in], weight [out, in], bias [out] -> [..., out]."""
    rows = as_tensor(x)
    if rows.ndim > 2:
        flat = linear(rows.reshape(-1, rows.shape[-1]), weight, bias)
        return flat.reshape(*rows.shape[:-1], flat.shape[-1])
    product = matmul(rows, as_tensor(weight).T)
    return product if bias is None else product + bias


# -- shape


def reshape(x: Any, *shape: Any) -> Tensor:
    """Another shape of the same elements; one extent may be -1."""
    return as_tensor(x).reshape(*shape)


def transpose(x: Any, *axes: Any) -> Tensor:
    """Axes in a new order, or reversed; of more than two axes, two that are named are swapped."""
    tensor = as_tensor(x)
    if len(axes) == 1 and isinstance(axes[0], (tuple, list)):
        return tensor.permute(*axes[0])
    return tensor.transpose(*axes)


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes start_dim to end_dim as one."""
    return as_tensor(x).flatten(start_dim, end_dim)


def squeeze(x: Any, axis: int | None = None, *, dim: int | None = None) -> Tensor:
    """Without axes of size 1, or without the one named."""
    return as_tensor(x).squeeze(axis if dim is None else dim)


def unsqueeze(x: Any, axis: int) -> Tensor:
    """With an axis of size 1 inserted."""
    return as_tensor(x).unsqueeze(axis)


def broadcast_to(x: Any, *shape: Any) -> Tensor:
    return as_tensor(x).expand(*shape)


# -- constants


def shape_of(*extents: Any) -> tuple[Extent, ...]:
    """A shape given as one sequence or as several extents."""
    given = extents[0] if len(extents) == 1 and isinstance(extents[0], (tuple, list)) else extents
    return tuple(as_extent(extent) for extent in given)


def full(shape: Any, value: Any, dtype: DType | None = None) -> Tensor:
    """A constant; its dtype is that of the number unless one is named."""
    number = lift(value)
    wanted = common_dtype([value], [number]) if dtype is None else dtype.name
    return Tensor(stretch(cast_value(number, wanted), shape_of(shape)))


def zeros(*shape: Any, dtype: DType | None = None) -> Tensor:
    return full(shape_of(*shape), 0.0, dtype)


def ones(*shape: Any, dtype: DType | None = None) -> Tensor:
    return full(shape_of(*shape), 1.0, dtype)


def full_like(x: Any, value: float, dtype: DType | None = None) -> Tensor:
    tensor = as_tensor(x)
    return full(tensor.value.shape, value, dtype or tensor.dtype)


def zeros_like(x: Any, dtype: DType | None = None) -> Tensor:
    return full_like(x, 0.0, dtype)


def ones_like(x: Any, dtype: DType | None = None) -> Tensor:
    return full_like(x, 1.0, dtype)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: DType | None = None) -> Tensor:
    """start, start + step, … up to but without stop; `arange(n)` counts from 0 and takes a symbolic n.

    i64 for integers, f32 where a float is among the arguments.
    """
    if stop is None and step == 1 and not isinstance(start, float):
        ramp = Tensor(ops.iota(axis=0, type=TensorType("i64", (as_extent(start),))))
        return ramp if dtype is None else ramp.astype(dtype)
    first, end = (0, start) if stop is None else (start, stop)
    return as_tensor(arange(math.ceil((end - first) / step), dtype=dtype) * step + first)


# -- classes


def one_hot(labels: Any, num_classes: int) -> Tensor:
    """[...] -> [..., num_classes], i64: 1 at the label, 0 elsewhere. Labels outside are LabelError in the call."""
    checked = require_labels("one_hot", as_tensor(labels), num_classes)
    return where(is_class(checked, checked.ndim, num_classes), 1, 0)


def require_labels(name: str, labels: Tensor, classes: int) -> Tensor:
    """The labels, checked by the compiled function before it updates anything."""
    if labels.value.dtype not in INTEGERS:
        raise DTypeError(
            f"{name} needs integer labels, got {labels.type}", user_origin(), ["declare them gx.i64, or cast them"]
        )
    message = f"{name}: labels must lie in 0..{classes - 1}"
    return apply(ops.require_range, labels.value, low=0, high=classes, message=message)


def is_class(labels: Tensor, axis: int, classes: int) -> Tensor:
    """[...] -> bool with an axis of `classes` inserted: true where the index along it is the label."""
    column = cast_value(unsqueeze(labels, axis).value, "i64")
    shape = (*column.shape[:axis], classes, *column.shape[axis + 1 :])
    return elementwise(ops.equal, Tensor(ops.iota(axis=axis, type=TensorType("i64", shape))), Tensor(column))


def accuracy(logits: Any, target: Any) -> Tensor:
    """The share of rows whose largest logit is at the label, f32.

    logits [n, classes, ...], target labels [n, ...] or probabilities of the shape of logits
    """
    scores, wanted = as_tensor(logits), as_tensor(target)
    axis = class_axis(scores)
    if wanted.value.dtype in FLOATS and wanted.value.shape == scores.value.shape:
        wanted = wanted.argmax(axis)
    check_labels("accuracy", scores, wanted)
    return mean(scores.argmax(axis) == wanted)


# -- losses


def check_reduction(reduction: str) -> str:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction={reduction!r} is not a choice; use one of {', '.join(REDUCTIONS)}")
    return reduction


def reduced(losses: Tensor, reduction: str) -> Tensor:
    if check_reduction(reduction) == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def check_alike(name: str, x: Tensor, target: Tensor) -> None:
    if x.value.shape != target.value.shape:
        raise ShapeError(
            f"{name} of {x.type} and target {target.type}: the shapes differ",
            user_origin(),
            ["reshape one of them; broadcasting would compare every row with every other"],
        )


def mse_loss(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """(x - target)**2 for two of one shape."""
    found, wanted = as_tensor(x), as_tensor(target)
    check_alike("mse_loss", found, wanted)
    return reduced((found - wanted) ** 2, reduction)


def l1_loss(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """|x - target| for two of one shape."""
    found, wanted = as_tensor(x), as_tensor(target)
    check_alike("l1_loss", found, wanted)
    return reduced(abs(found - wanted), reduction)


def binary_cross_entropy(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """-(target * log(x) + (1 - target) * log(1 - x)) for probabilities x in [0, 1] and a target of one shape.

    Logarithms are at least -100, as in PyTorch, with no gradient where they would be less. The result of `sigmoid` is
    taken back to its logits, which lose no digits.
    """
    found, wanted = as_tensor(x), as_tensor(target)
    check_alike("binary_cross_entropy", found, wanted)
    logits = logits_of(found)
    if logits is not None:
        return binary_cross_entropy_with_logits(logits, wanted, reduction)
    return reduced(-(wanted * limited_log(found) + (1 - wanted) * limited_log(1 - found)), reduction)


def logits_of(probabilities: Tensor) -> Tensor | None:
    """x of `sigmoid(x)` or of a reshape of it; None for anything else."""
    source = probabilities.value
    while source.op is ops.reshape:
        source = source.operands[0]
    return reshape(Tensor(source.operands[0]), probabilities.shape) if source.op is ops.sigmoid else None


def limited_log(x: Tensor) -> Tensor:
    """log(x), at least -100; the logarithm of 0 is not taken, since its slope would be no number."""
    positive = x > 0
    return maximum(where(positive, log(where(positive, x, 1.0)), LEAST_LOG), LEAST_LOG)


def binary_cross_entropy_with_logits(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """binary_cross_entropy(sigmoid(x), target) = softplus(x) - x * target, exact for logits of any size."""
    found, wanted = as_tensor(x), as_tensor(target)
    check_alike("binary_cross_entropy_with_logits", found, wanted)
    return reduced(softplus(found) - found * wanted, reduction)


def class_axis(logits: Tensor) -> int:
    return 1 if logits.ndim > 1 else 0


def check_labels(name: str, logits: Tensor, labels: Tensor) -> None:
    """Labels have the logits' shape without the class axis, and the number of classes is fixed."""
    axis, shape = class_axis(logits), logits.value.shape
    fits = shape and isinstance(shape[axis], int) and labels.value.shape == shape[:axis] + shape[axis + 1 :]
    if not fits:
        raise ShapeError(
            f"{name} of {logits.type} and target {labels.type}: they do not belong together",
            user_origin(),
            ["it takes [n, classes] with integer labels [n]"],
        )


def at_labels(name: str, scores: Tensor, labels: Tensor) -> Tensor:
    """The scores where their class is the label, 0 elsewhere."""
    axis, classes = class_axis(scores), bound(scores.value.shape[class_axis(scores)])
    return where(is_class(require_labels(name, labels, classes), axis, classes), scores, 0.0)


def class_loss(scores: Tensor, reduction: str) -> Tensor:
    """Minus the sum over classes, reduced over all else."""
    axis, shape = class_axis(scores), scores.value.shape
    if check_reduction(reduction) == "none":
        return -sum(scores, axis)
    rows = 1 if reduction == "sum" else multiply(*shape[:axis], *shape[axis + 1 :])
    return -(sum(scores) / (rows if isinstance(rows, int) else Size(rows)))


def cross_entropy(logits: Any, target: Any, reduction: str = "mean", label_smoothing: float = 0.0) -> Tensor:
    """-log(softmax(logits)) at the target.

    logits           [n, classes, ...] or [classes]
    target           integer labels [n, ...], or probabilities of the shape of logits
    reduction        "mean" over all labels, "sum", or "none"
    label_smoothing  share of every target that is spread evenly over the classes, 0 to 1

    A label outside of 0..classes-1 makes the compiled function raise LabelError before it updates anything.
    Source: Szegedy et al. 2016, Rethinking the Inception Architecture, section 7 (label smoothing).
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; it must lie in 0..1")
    scores, wanted = as_tensor(logits), as_tensor(target)
    probabilities = wanted.value.dtype in FLOATS
    (check_alike if probabilities else check_labels)("cross_entropy", scores, wanted)
    axis = class_axis(scores)
    found = log_softmax(scores, axis)
    chosen = wanted * found if probabilities else at_labels("cross_entropy", found, wanted)
    if label_smoothing:
        chosen = chosen * (1 - label_smoothing) + found * (label_smoothing / scores.shape[axis])
    return class_loss(chosen, reduction)


def nll_loss(log_probabilities: Any, target: Any, reduction: str = "mean") -> Tensor:
    """-log_probabilities [n, classes, ...] at integer labels [n, ...]; labels are checked as in cross_entropy."""
    found, wanted = as_tensor(log_probabilities), as_tensor(target)
    check_labels("nll_loss", found, wanted)
    return class_loss(at_labels("nll_loss", found, wanted), reduction)

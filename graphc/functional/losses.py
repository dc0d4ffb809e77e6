"""Losses of an output and a target, under PyTorch's names."""

from __future__ import annotations

from typing import Any

from graphc.errors import ShapeError
from graphc.functional.activation import log_softmax, softplus
from graphc.functional.elementwise import abs, log, maximum
from graphc.functional.labels import at_labels, check_labels, class_axis
from graphc.functional.reduction import sum
from graphc.functional.shape import reshape
from graphc.ir import ops
from graphc.ir.graph import user_origin
from graphc.ir.types import FLOATS, multiply
from graphc.tensor import Size, Tensor, as_tensor, where

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "l1_loss",
    "mse_loss",
    "nll_loss",
]

REDUCTIONS = ("mean", "sum", "none")
LEAST_LOG = -100.0  # PyTorch's floor for the logarithms in binary_cross_entropy


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

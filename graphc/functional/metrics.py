"""How good a model's output is, as tensors in the graph: metrics of `gx.train_step` and `gx.eval_step`, or by hand.

Over an epoch, accuracies and errors are means over samples. All others are computed of sums over the whole epoch, which
`epoch_sum` marks: the F1 score of an epoch is no mean of its batches' scores.
"""

from __future__ import annotations

from typing import Any

from graphc.errors import ArgumentError, ShapeError
from graphc.functional.creation import arange
from graphc.functional.labels import (
    at_labels,
    check_labels,
    class_axis,
    class_count,
    is_class,
    require_labels,
)
from graphc.functional.losses import alike, check_alike
from graphc.ir import ops
from graphc.ir.graph import user_origin
from graphc.ir.types import FLOATS
from graphc.settings import check_choice, check_whole, is_whole, require
from graphc.tensor import Tensor, apply, as_tensor, f32, f64, i64, matmul, where
from graphc.tensor.arithmetic import absolute, maximum, minimum
from graphc.tensor.diagonals import diagonal
from graphc.tensor.reduction import mean, sum
from graphc.tensor.tracing import current_trace

__all__ = [
    "accuracy",
    "confusion_matrix",
    "epoch_sum",
    "f1_score",
    "mean_absolute_error",
    "precision_score",
    "r2_score",
    "recall_score",
    "top_k_accuracy",
]

AVERAGES = ("macro", "micro", "weighted", "binary", None)
CONSTANT = 1e-13  # a target whose squared deviations are a smaller share of its squares than this has one value


def epoch_sum(x: Any) -> Tensor:
    """x; in a metric of a train or eval step, its sum over all batches of an epoch.

    What a metric computes of such sums, and of nothing else, is right for the whole epoch:

        def error_rate(output, target):
            return gx.epoch_sum((output.argmax(1) != target).sum()) / gx.epoch_sum(target.shape[0])

    Raises ShapeError when the shape of x depends on the batch.
    """
    tensor, trace = as_tensor(x), current_trace()
    if any(True for _ in tensor.type.dims()):
        raise ShapeError(f"epoch_sum of {tensor.type}: batches of other sizes cannot be added to it", user_origin())
    marked = apply(ops.copy, tensor.value)
    if trace is not None:
        trace.sums.append(marked.value)
    return marked


# -- means over samples


def accuracy(output: Any, target: Any) -> Tensor:
    """The share of rows whose class is right, f32.

    output  scores [n, classes, ...], of which the first largest counts; or the classes themselves, integer or bool
    target  labels [n, ...], or probabilities of the shape of scores
    """
    found, wanted, _ = chosen_and_true("accuracy", output, target)
    return mean(found == wanted)


def top_k_accuracy(output: Any, target: Any, k: int = 5) -> Tensor:
    """The share of rows with fewer than k scores above that of the label, f32.

    output  scores [n, classes, ...]; of equal scores the first counts as the larger, so k=1 is `accuracy`
    target  labels [n, ...], or probabilities of the shape of scores
    """
    scores, wanted = as_tensor(output), as_tensor(target)
    axis = class_axis(scores)
    wanted = labels_of("top_k_accuracy", scores, wanted)
    require(is_whole(k) and 1 <= k <= class_count(scores), "k", k, f"a whole number from 1 to {class_count(scores)}")
    hot, _ = at_labels("top_k_accuracy", scores, wanted)
    own = sum(where(hot, scores, 0), axis, keepdims=True)
    behind = arange(class_count(scores)).reshape(-1, *[1] * (scores.ndim - axis - 1)) >= wanted.unsqueeze(axis)
    beaten = (scores < own) | ((scores == own) & behind)  # a label whose score is no number beats nothing
    return mean(class_count(scores) - sum(beaten, axis) < k)


def mean_absolute_error(output: Any, target: Any) -> Tensor:
    """The mean of |output - target| for two of one shape."""
    found, wanted = alike("mean_absolute_error", output, target)
    return mean(absolute(found - wanted))


# -- figures of counts of classes


def confusion_matrix(output: Any, target: Any, num_classes: int | None = None) -> Tensor:
    """How many rows of each true class (first axis) were given each class (second axis), i64; summed over an epoch.

    output       scores [n, classes, ...], of which the largest counts; or the classes themselves, integer or bool
    target       labels [n, ...], or probabilities of the shape of scores
    num_classes  needed where the output is integer classes
    """
    name = "confusion_matrix"
    found, wanted, classes = chosen_and_true(name, output, target, num_classes)
    if classes is None:
        raise ArgumentError(f"num_classes is missing; {name} of integer classes {found.type} needs it", user_origin())
    sides = (require_labels(name, labels.reshape(-1).astype(i64), classes) for labels in (wanted, found))
    true, chosen = (is_class(labels, 1, classes).astype(f32) for labels in sides)
    return epoch_sum(matmul(true.T, chosen).astype(i64))


def precision_score(output: Any, target: Any, average: str | None = "macro", num_classes: int | None = None) -> Tensor:
    """Of the rows given a class, the share that is of it; 0 where no row is given it.

    output, target, num_classes  as in `confusion_matrix`
    average  "macro": the mean over the classes that occur; "weighted": that mean by the classes' true counts;
             "micro": of all classes counted together; "binary": of class 1 of two; None: of each class
    """
    hits, given, true = class_counts(output, target, num_classes)
    return averaged(hits, given, given + true, true, average)


def recall_score(output: Any, target: Any, average: str | None = "macro", num_classes: int | None = None) -> Tensor:
    """Of the rows of a class, the share that is given it; 0 where there is none. Arguments as in `precision_score`."""
    hits, given, true = class_counts(output, target, num_classes)
    return averaged(hits, true, given + true, true, average)


def f1_score(output: Any, target: Any, average: str | None = "macro", num_classes: int | None = None) -> Tensor:
    """The harmonic mean of precision and recall. Arguments as in `precision_score`."""
    hits, given, true = class_counts(output, target, num_classes)
    return averaged(2 * hits, given + true, given + true, true, average)


def class_counts(output: Any, target: Any, num_classes: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """For each class, the rows rightly given it, all rows given it, all rows of it."""
    counts = confusion_matrix(output, target, num_classes)
    return diagonal(counts), sum(counts, 0), sum(counts, 1)


def averaged(part: Tensor, whole: Tensor, seen: Tensor, true: Tensor, average: str | None) -> Tensor:
    """Shares of classes as one number; 0 / 0 is 0."""
    check_choice("average", average, AVERAGES)
    if average == "micro":
        part, whole = sum(part), sum(whole)
    shares = part / maximum(whole, 1)
    if average in ("micro", None):
        return shares
    if average == "binary":
        require(shares.shape[0] == 2, 'classes for average="binary"', shares.shape[0], "2")
        return sum(shares * arange(2))
    weights = true if average == "weighted" else minimum(seen, 1)
    return sum(shares * weights) / maximum(sum(weights), 1)


# -- of numbers


def r2_score(output: Any, target: Any) -> Tensor:
    """1 - squared errors / squared deviations of the target from its mean; f64, from sums over an epoch.

    output, target  of one shape, [n] or [n, ...]; of several columns, the mean of their scores. Where a target is the
                    same throughout, 1 for no error and 0 for any
    """
    found, wanted = (each.astype(f64) for each in alike("r2_score", output, target))
    if wanted.ndim == 0:
        raise ShapeError(f"r2_score of {wanted.type}: one number has no deviations", user_origin())
    count, total, squares, errors = (
        epoch_sum(x) for x in (wanted.shape[0], sum(wanted, 0), sum(wanted * wanted, 0), sum((wanted - found) ** 2, 0))
    )
    deviations = squares - total * total / count
    constant = deviations <= CONSTANT * squares
    return mean(where(constant, errors == 0, 1 - errors / where(constant, 1.0, deviations)))


# -- outputs and targets


def labels_of(name: str, scores: Tensor, target: Tensor) -> Tensor:
    """The labels of a target, which may be probabilities."""
    if target.value.dtype in FLOATS and target.value.shape == scores.value.shape:
        target = target.argmax(class_axis(scores))
    check_labels(name, scores, target)
    return target


def chosen_and_true(
    name: str, output: Any, target: Any, num_classes: int | None = None
) -> tuple[Tensor, Tensor, int | None]:
    """The classes a model chose, the right ones, and how many there are, as far as that is known."""
    if num_classes is not None:
        check_whole("num_classes", num_classes, 1)
    found, wanted = as_tensor(output), as_tensor(target)
    if found.value.dtype in FLOATS:
        wanted = labels_of(name, found, wanted)
        return found.argmax(class_axis(found)), wanted, class_count(found)
    check_alike(name, found, wanted)
    return found, wanted, 2 if found.value.dtype == "bool" else num_classes


METRICS = {
    "accuracy": accuracy,
    "confusion_matrix": confusion_matrix,
    "f1": f1_score,
    "mae": mean_absolute_error,
    "precision": precision_score,
    "r2": r2_score,
    "recall": recall_score,
}

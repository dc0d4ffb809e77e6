"""Integer class labels: checked, and spread over a class axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import DTypeError, ShapeError
from graphc.ir import ops
from graphc.ir.graph import user_origin
from graphc.ir.types import DTYPES, INTEGERS, TensorType, bound
from graphc.settings import check_whole
from graphc.tensor import Tensor, apply, as_tensor, cast_value, elementwise, where
from graphc.tensor.views import unsqueeze

__all__ = ["one_hot"]


def one_hot(labels: Any, num_classes: int) -> Tensor:
    """[...] -> [..., num_classes], i64: 1 at the label, 0 elsewhere. Labels outside are LabelError in the call."""
    check_whole("num_classes", num_classes, 1)
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


def class_axis(scores: Tensor) -> int:
    return 1 if scores.ndim > 1 else 0


def class_count(scores: Tensor) -> int:
    return bound(scores.value.shape[class_axis(scores)])


def check_labels(name: str, scores: Tensor, labels: Tensor) -> None:
    """Labels have the scores' shape without the class axis, and the number of classes is fixed."""
    axis, shape = class_axis(scores), scores.value.shape
    fits = shape and isinstance(shape[axis], int) and labels.value.shape == shape[:axis] + shape[axis + 1 :]
    if not fits:
        raise ShapeError(
            f"{name} of {scores.type} and target {labels.type}: they do not belong together",
            user_origin(),
            ["it takes [n, classes] with integer labels [n]"],
        )


def at_labels(
    name: str, scores: Tensor, labels: Tensor, ignore_index: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Where the class is the label, in the scores' shape; and which labels count, None where all of them do.

    A label of `ignore_index` is at no class. All others are checked by the compiled function.
    """
    axis, classes = class_axis(scores), class_count(scores)
    if ignore_index is not None:
        check_whole("ignore_index", ignore_index)
    if labels.value.dtype not in INTEGERS or ignore_index is None or not holds(labels, ignore_index):
        return is_class(require_labels(name, labels, classes), axis, classes), None
    counted = labels != ignore_index
    known = require_labels(name, where(counted, labels, 0), classes)
    return is_class(known, axis, classes) & unsqueeze(counted, axis), counted


def holds(labels: Tensor, number: int) -> bool:
    """The labels' dtype has that number."""
    limits = np.iinfo(DTYPES[labels.value.dtype])
    return bool(limits.min <= number <= limits.max)

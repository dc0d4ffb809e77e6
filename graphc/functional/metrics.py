"""How good a model's output is."""

from __future__ import annotations

from typing import Any

from graphc.functional.labels import check_labels, class_axis
from graphc.functional.reduction import mean
from graphc.ir.types import FLOATS
from graphc.tensor import Tensor, as_tensor

__all__ = ["accuracy"]


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

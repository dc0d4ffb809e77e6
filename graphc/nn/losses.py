"""Losses: functions of (output, target), described with the function each applies."""

from __future__ import annotations

from typing import Any

from graphc import functional
from graphc.functional.losses import check_reduction
from graphc.nn.module import Module
from graphc.tensor import Tensor


class Loss(Module):
    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = check_reduction(reduction)


class CrossEntropyLoss(Loss):
    def __init__(self, *, reduction: str = "mean", label_smoothing: float = 0.0) -> None:
        super().__init__(reduction=reduction)
        self.label_smoothing = label_smoothing

    def forward(self, x: Any, target: Any) -> Tensor:
        return functional.cross_entropy(x, target, self.reduction, self.label_smoothing)


class NLLLoss(Loss):
    def forward(self, x: Any, target: Any) -> Tensor:
        return functional.nll_loss(x, target, self.reduction)


class MSELoss(Loss):
    def forward(self, x: Any, target: Any) -> Tensor:
        return functional.mse_loss(x, target, self.reduction)


class L1Loss(Loss):
    def forward(self, x: Any, target: Any) -> Tensor:
        return functional.l1_loss(x, target, self.reduction)


class BCELoss(Loss):
    def forward(self, x: Any, target: Any) -> Tensor:
        return functional.binary_cross_entropy(x, target, self.reduction)


class BCEWithLogitsLoss(Loss):
    def forward(self, x: Any, target: Any) -> Tensor:
        return functional.binary_cross_entropy_with_logits(x, target, self.reduction)

"""Losses and distances as modules: the functions of `graphc.functional`, with their settings kept as attributes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from graphc import functional
from graphc.errors import ArgumentError
from graphc.ir.graph import user_origin
from graphc.nn.module import Applied
from graphc.settings import check_whole
from graphc.tensor import Tensor

ROW, LABEL = np.zeros((1, 1), np.float32), np.zeros(1, np.int64)


class Measure(Applied):
    """A function of tensors and its settings; weights among them are buffers, as in PyTorch."""

    example: ClassVar[tuple[Any, ...]] = (ROW, ROW)  # operands that it takes

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = tuple(settings)
        for name, setting in settings.items():
            (self.register_buffer if name.endswith("weight") else self.__setattr__)(name, setting)
        # What the function refuses is refused here rather than at the first call; shapes are known only there.
        self.function(*self.example, **{name: settings[name] for name in settings.keys() - {*self._buffers, "dim"}})

    def forward(self, *operands: Any, **named: Any) -> Tensor:
        given, wanted = len(operands) + len(named), len(self.example)
        if given != wanted:
            raise ArgumentError(f"{type(self).__name__} takes {wanted} tensors, got {given}", user_origin())
        return self.function(*operands, **named, **{name: getattr(self, name) for name in self.settings})


class Loss(Measure):
    def __init__(self, *, reduction: str = "mean", **settings: Any) -> None:
        super().__init__(reduction=reduction, **settings)


class MSELoss(Loss):
    function = staticmethod(functional.mse_loss)


class L1Loss(Loss):
    function = staticmethod(functional.l1_loss)


class SmoothL1Loss(Loss):
    function = staticmethod(functional.smooth_l1_loss)

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction=reduction, beta=beta)


class HuberLoss(Loss):
    function = staticmethod(functional.huber_loss)

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction, delta=delta)


class PoissonNLLLoss(Loss):
    function = staticmethod(functional.poisson_nll_loss)

    def __init__(
        self, log_input: bool = True, full: bool = False, *, eps: float = 1e-8, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction=reduction, log_input=log_input, full=full, eps=eps)


class GaussianNLLLoss(Loss):
    function = staticmethod(functional.gaussian_nll_loss)
    example = (ROW, ROW, ROW)

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, full=full, eps=eps)


class BCELoss(Loss):
    function = staticmethod(functional.binary_cross_entropy)

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, weight=weight)


class BCEWithLogitsLoss(Loss):
    function = staticmethod(functional.binary_cross_entropy_with_logits)

    def __init__(self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction=reduction, weight=weight, pos_weight=pos_weight)


class KLDivLoss(Loss):
    function = staticmethod(functional.kl_div)

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction=reduction, log_target=log_target)


class CrossEntropyLoss(Loss):
    function = staticmethod(functional.cross_entropy)
    example = (ROW, LABEL)

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction=reduction, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing)


class NLLLoss(Loss):
    function = staticmethod(functional.nll_loss)
    example = (ROW, LABEL)

    def __init__(self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, weight=weight, ignore_index=ignore_index)


class MultiMarginLoss(Loss):
    function = staticmethod(functional.multi_margin_loss)
    example = (ROW, LABEL)

    def __init__(self, p: int = 1, margin: float = 1.0, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, p=p, margin=margin, weight=weight)


class HingeLoss(Loss):
    """PyTorch has none; see `graphc.functional.hinge_loss`."""

    function = staticmethod(functional.hinge_loss)

    def __init__(self, margin: float = 1.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, margin=margin)


class HingeEmbeddingLoss(Loss):
    function = staticmethod(functional.hinge_embedding_loss)

    def __init__(self, margin: float = 1.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, margin=margin)


class SoftMarginLoss(Loss):
    function = staticmethod(functional.soft_margin_loss)


class MarginRankingLoss(Loss):
    function = staticmethod(functional.margin_ranking_loss)
    example = (ROW, ROW, ROW)

    def __init__(self, margin: float = 0.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, margin=margin)


class CosineEmbeddingLoss(Loss):
    function = staticmethod(functional.cosine_embedding_loss)
    example = (ROW, ROW, LABEL)

    def __init__(self, margin: float = 0.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction, margin=margin)


class TripletMarginLoss(Loss):
    function = staticmethod(functional.triplet_margin_loss)
    example = (ROW, ROW, ROW)

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        *,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=reduction, margin=margin, p=p, eps=eps, swap=swap)


class CosineSimilarity(Measure):
    function = staticmethod(functional.cosine_similarity)

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__(dim=check_whole("dim", dim), eps=eps)


class PairwiseDistance(Measure):
    function = staticmethod(functional.pairwise_distance)

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__(p=p, eps=eps, keepdim=keepdim)

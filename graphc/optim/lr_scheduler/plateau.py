"""Rates that follow how the training goes."""

from __future__ import annotations

import math
from typing import Any

from graphc.optim.lr_scheduler.scheduler import LRScheduler, number, per_group
from graphc.optim.optimizer import is_number, require


class ReduceLROnPlateau(LRScheduler):
    """The rate times factor when a figure, given to `step`, has not improved for more than patience epochs.

    mode            "min" or "max": whether the figure is to fall or to rise
    threshold       the least improvement that counts: a share of the best figure, or with threshold_mode "abs" a number
    cooldown        epochs after a reduction in which bad ones are not counted
    min_lr          no rate falls below; a number, or a list of one a group
    eps             reductions by less are left out
    """

    kept = ("last_epoch", "best", "cooldown_counter", "num_bad_epochs")

    def __init__(
        self,
        optimizer: Any,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: Any = 0.0,
        eps: float = 1e-8,
    ) -> None:
        require(0 <= number("factor", factor) < 1, ValueError, "factor", factor, "at least 0 and below 1")
        require(mode in ("min", "max"), ValueError, "mode", mode, "'min' or 'max'")
        require(threshold_mode in ("rel", "abs"), ValueError, "threshold_mode", threshold_mode, "'rel' or 'abs'")
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown, self.eps = threshold, threshold_mode, cooldown, eps
        self.min_lrs = per_group("min_lr", min_lr, optimizer, is_number, "a number")
        self.base_lrs = self.get_last_lr()
        self.last_epoch = self.cooldown_counter = self.num_bad_epochs = 0
        self.best = math.inf if mode == "min" else -math.inf

    def step(self, metrics: Any) -> None:  # type: ignore[override]  # it alone needs a figure
        """Go on to the next epoch; metrics is the figure of this one."""
        self.last_epoch += 1
        figure = float(metrics)
        better = self.improves(figure)
        self.best = figure if better else self.best
        self.num_bad_epochs = 0 if better else self.num_bad_epochs + 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.set_rates(self.get_last_lr())
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def improves(self, figure: float) -> bool:
        step = self.threshold if self.mode == "max" else -self.threshold
        bound = self.best + step if self.threshold_mode == "abs" else self.best * (1 + step)
        return figure > bound if self.mode == "max" else figure < bound

    def rate(self, place: int, lr: float) -> float:
        lower = max(lr * self.factor, self.min_lrs[place])
        return float(lower) if lr - lower > self.eps else lr

"""Rates that follow how the training goes."""

from __future__ import annotations

import math
from typing import Any

from graphc.optim.lr_scheduler.scheduler import LRScheduler, as_number, per_group
from graphc.settings import check_choice, check_number, require


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
        self.min_lrs = per_group("min_lr", min_lr, optimizer)
        require(check_number("factor", factor) < 1 and factor >= 0, "factor", factor, "at least 0 and below 1")
        self.optimizer, self.factor, self.mode = optimizer, factor, check_choice("mode", mode, ("min", "max"))
        self.threshold_mode = check_choice("threshold_mode", threshold_mode, ("rel", "abs"))
        self.patience, self.cooldown = check_number("patience", patience, 0), check_number("cooldown", cooldown, 0)
        self.threshold, self.eps = float(check_number("threshold", threshold)), float(check_number("eps", eps))
        self.base_lrs = self.get_last_lr()
        self.last_epoch = self.cooldown_counter = self.num_bad_epochs = 0
        self.best = math.inf if mode == "min" else -math.inf

    def step(self, metrics: Any) -> None:  # type: ignore[override]  # it alone needs a figure
        """Go on to the next epoch; metrics is the figure of this one."""
        figure = as_number("metrics", metrics)
        self.last_epoch += 1
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

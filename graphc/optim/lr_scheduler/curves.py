"""Rates that follow a curve over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from graphc.optim.lr_scheduler.scheduler import LRScheduler, as_number, epochs, half_cosine, per_group
from graphc.settings import check_function, check_number, check_share, check_whole


class LambdaLR(LRScheduler):
    """The initial rate times lr_lambda(epoch); lr_lambda is a function, or a list of one a group."""

    def __init__(self, optimizer: Any, lr_lambda: Any, last_epoch: int = -1) -> None:
        self.lr_lambdas = per_group("lr_lambda", lr_lambda, optimizer, partial(check_function, takes=1))
        super().__init__(optimizer, last_epoch)

    def rate(self, place: int, lr: float) -> float:
        return self.base_lrs[place] * self.factor(place)

    def factor(self, place: int) -> float:
        return as_number(f"lr_lambda({self.last_epoch})", self.lr_lambdas[place](self.last_epoch))


class MultiplicativeLR(LambdaLR):
    """The rate times lr_lambda(epoch), every epoch."""

    def rate(self, place: int, lr: float) -> float:
        return lr * self.factor(place) if self.last_epoch else lr


class StepLR(LRScheduler):
    """The rate times gamma every step_size epochs."""

    def __init__(self, optimizer: Any, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = check_whole("step_size", step_size, 1), float(check_number("gamma", gamma))
        super().__init__(optimizer, last_epoch)

    def rate(self, place: int, lr: float) -> float:
        return lr * self.gamma if self.last_epoch and self.last_epoch % self.step_size == 0 else lr


class MultiStepLR(LRScheduler):
    """The rate times gamma in every epoch among the milestones."""

    def __init__(self, optimizer: Any, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.milestones, self.gamma = epochs("milestones", milestones), float(check_number("gamma", gamma))
        super().__init__(optimizer, last_epoch)

    def rate(self, place: int, lr: float) -> float:
        return float(lr * self.gamma ** self.milestones.count(self.last_epoch))


class ConstantLR(LRScheduler):
    """The rate times factor until epoch total_iters."""

    def __init__(self, optimizer: Any, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        self.factor = float(check_number("factor", factor, 0, 1, above=True))
        self.total_iters = check_whole("total_iters", total_iters, 1)
        super().__init__(optimizer, last_epoch)

    def rate(self, place: int, lr: float) -> float:
        if self.last_epoch == 0:
            return lr * self.factor
        return lr / self.factor if self.last_epoch == self.total_iters else lr


class LinearLR(LRScheduler):
    """A straight line from start_factor times the rate in epoch 0 to end_factor times it in epoch total_iters.

    With the defaults it is a warm-up.
    """

    def __init__(
        self,
        optimizer: Any,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor = float(check_number("start_factor", start_factor, 0, 1, above=True))
        self.end_factor = float(check_share("end_factor", end_factor))
        self.total_iters = check_whole("total_iters", total_iters, 1)
        super().__init__(optimizer, last_epoch)

    def rate(self, place: int, lr: float) -> float:
        if self.last_epoch == 0:
            return lr * self.start_factor
        if self.last_epoch > self.total_iters:
            return lr
        return lr * self.factor(self.last_epoch) / self.factor(self.last_epoch - 1)

    def factor(self, epoch: int) -> float:
        return self.start_factor + (self.end_factor - self.start_factor) * epoch / self.total_iters


class ExponentialLR(LRScheduler):
    """The rate times gamma every epoch."""

    def __init__(self, optimizer: Any, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = float(check_number("gamma", gamma))
        super().__init__(optimizer, last_epoch)

    def rate(self, place: int, lr: float) -> float:
        return lr * self.gamma if self.last_epoch else lr


class PolynomialLR(LRScheduler):
    """The initial rate times (1 - epoch / total_iters)**power; 0 from epoch total_iters on."""

    def __init__(self, optimizer: Any, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters, self.power = check_whole("total_iters", total_iters, 1), float(check_number("power", power))
        super().__init__(optimizer, last_epoch)

    def rate(self, place: int, lr: float) -> float:
        left = self.total_iters - self.last_epoch
        return float(lr * (left / (left + 1)) ** self.power) if 0 <= left < self.total_iters else lr


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the initial rate down to eta_min in epoch T_max, and up again.

    Source: Loshchilov & Hutter 2017, SGDR: stochastic gradient descent with warm restarts; here without restarts.
    """

    def __init__(self, optimizer: Any, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = check_whole("T_max", T_max, 1), float(check_number("eta_min", eta_min))
        super().__init__(optimizer, last_epoch)

    def rate(self, place: int, lr: float) -> float:
        if self.last_epoch == 0:
            return lr
        height = half_cosine(self.last_epoch / self.T_max)
        if (self.last_epoch - 1) % (2 * self.T_max) == self.T_max:  # at the bottom, whence no factor leads up
            return lr + (self.base_lrs[place] - self.eta_min) * height
        return self.eta_min + (lr - self.eta_min) * height / half_cosine((self.last_epoch - 1) / self.T_max)

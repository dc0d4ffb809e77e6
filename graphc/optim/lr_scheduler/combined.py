"""Schedules put together from others."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from graphc.errors import ArgumentError
from graphc.ir.graph import user_origin
from graphc.optim.lr_scheduler.plateau import ReduceLROnPlateau
from graphc.optim.lr_scheduler.scheduler import LRScheduler, epochs
from graphc.settings import check_list, check_whole, require


class SequentialLR(LRScheduler):
    """One schedule after another: each begins, in its epoch 0 and with the initial rates, at a milestone.

    schedulers  of the same optimizer
    milestones  the epochs at which the second and all further ones begin
    """

    def __init__(
        self, optimizer: Any, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        self.parts = check_parts(schedulers, optimizer)
        self.milestones, wanted = epochs("milestones", milestones), len(self.parts) - 1
        require(len(self.milestones) == wanted, "milestones", milestones, f"a list of {wanted} epochs")
        check_whole("last_epoch", last_epoch, -1)
        self.optimizer, self.base_lrs = optimizer, [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.restart()
        for _ in range(last_epoch + 1):
            self.step()

    def restart(self) -> None:
        self.last_epoch = 0
        self.parts[bisect_right(self.milestones, 0)].restart()

    def step(self) -> None:
        self.last_epoch += 1
        at = bisect_right(self.milestones, self.last_epoch)
        if at > 0 and self.milestones[at - 1] == self.last_epoch:
            self.parts[at].restart()
        else:
            self.parts[at].step()


class ChainedScheduler(LRScheduler):
    """Several schedules of one optimizer at once: each sets the rates from what the one before it set."""

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Any = None) -> None:
        self.parts = check_parts(schedulers, optimizer)
        self.optimizer, self.base_lrs = self.parts[0].optimizer, self.parts[0].base_lrs
        self.last_epoch = 0

    def restart(self) -> None:
        self.last_epoch = 0
        for part in self.parts:
            part.restart()

    def step(self) -> None:
        self.last_epoch += 1
        for part in self.parts:
            part.step()


def check_parts(schedulers: Any, optimizer: Any) -> list[LRScheduler]:
    """Schedules that can be put together. Raises ArgumentError for others."""
    parts = check_list("schedulers", schedulers, "a list of schedules")
    if not parts:
        raise ArgumentError("schedulers is empty; it must hold at least one", user_origin())
    for part in parts:
        if not isinstance(part, LRScheduler) or isinstance(part, ReduceLROnPlateau):
            raise ArgumentError(
                f"schedulers must be schedules that need no figure, got {type(part).__name__}", user_origin()
            )
        if part.optimizer is not (parts[0].optimizer if optimizer is None else optimizer):
            raise ArgumentError("schedulers must all be of the same optimizer", user_origin())
    return parts

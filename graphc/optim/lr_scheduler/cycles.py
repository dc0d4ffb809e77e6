"""Rates that go up and down again."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from graphc.errors import ArgumentError
from graphc.ir.graph import user_origin
from graphc.optim.lr_scheduler.scheduler import LRScheduler, as_number, groups_of, half_cosine, per_group
from graphc.settings import check_choice, check_function, check_number, check_share, check_switch, check_whole


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half a cosine from the initial rate down to eta_min over T_0 epochs; again and again, T_mult times as long each.

    Source: Loshchilov & Hutter 2017, SGDR: stochastic gradient descent with warm restarts.
    """

    kept = ("last_epoch", "position")

    def __init__(self, optimizer: Any, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_0, self.T_mult = check_whole("T_0", T_0, 1), check_whole("T_mult", T_mult, 1)
        self.eta_min = float(check_number("eta_min", eta_min))
        self.position = 0.0
        super().__init__(optimizer, last_epoch)

    def step(self, epoch: float | None = None) -> None:
        """Go on to the next epoch, or to a named one, which may lie within: epoch + batch / batches."""
        self.position = self.position + 1 if epoch is None else float(check_number("epoch", epoch, 0))
        self.last_epoch = math.floor(self.position)
        self.set_rates(self.base_lrs)

    def restart(self) -> None:
        self.position = 0.0
        super().restart()

    def rate(self, place: int, lr: float) -> float:
        done, length = self.position, self.T_0
        if self.T_mult == 1:
            done %= length
        while done >= length:
            done, length = done - length, length * self.T_mult
        return self.eta_min + (self.base_lrs[place] - self.eta_min) * half_cosine(done / length)


class MomentumCycle(LRScheduler, ABC):
    """What schedules share that move the momentum, or Adam's first beta, against the rate."""

    def __init__(
        self, optimizer: Any, cycle_momentum: bool, base_momentum: Any, max_momentum: Any, last_epoch: int
    ) -> None:
        self.cycle_momentum = check_switch("cycle_momentum", cycle_momentum)
        self.base_momentums = per_group("base_momentum", base_momentum, optimizer)
        self.max_momentums = per_group("max_momentum", max_momentum, optimizer)
        if cycle_momentum and not all({"momentum", "betas"} & group.keys() for group in optimizer.param_groups):
            name = type(optimizer).__name__
            raise ArgumentError(
                f"cycle_momentum is True; it must be False for {name}, which has no momentum", user_origin()
            )
        super().__init__(optimizer, last_epoch)

    @abstractmethod
    def momentum(self, place: int) -> float:
        """The momentum in epoch `last_epoch` of the group at a place."""

    def write(self, rates: Sequence[float]) -> None:
        super().write(rates)
        for place, group in enumerate(self.optimizer.param_groups if self.cycle_momentum else []):
            if "betas" in group:
                group["betas"] = (self.momentum(place), group["betas"][1])
            else:
                group["momentum"] = self.momentum(place)


class OneCycleLR(MomentumCycle):
    """Up to max_lr in the first pct_start of total_steps, then down to nearly nothing; a step is one batch.

    The rate begins at max_lr / div_factor and ends at that / final_div_factor; the momentum goes from max_momentum to
    base_momentum and back. With three_phase, the way down leads through the first rate at 2 * pct_start.

    Source: Smith & Topin 2018, Super-convergence: very fast training of neural networks using large learning rates.
    """

    def __init__(
        self,
        optimizer: Any,
        max_lr: Any,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: Any = 0.85,
        max_momentum: Any = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None and (epochs is None or steps_per_epoch is None):
            raise ArgumentError(
                "total_steps is None; it must be given, or both epochs and steps_per_epoch", user_origin()
            )
        if total_steps is None:
            total_steps = check_whole("epochs", epochs, 1) * check_whole("steps_per_epoch", steps_per_epoch, 1)
        check_share("pct_start", pct_start)
        check_number("div_factor", div_factor, 0, above=True)
        self.total_steps = check_whole("total_steps", total_steps, 1)
        self.anneal_strategy = check_choice("anneal_strategy", anneal_strategy, ("cos", "linear"))
        self.final_div_factor = float(check_number("final_div_factor", final_div_factor, 0, above=True))
        self.three_phase = check_switch("three_phase", three_phase)
        self.max_lrs = per_group("max_lr", max_lr, optimizer)
        self.corners = [0.0, pct_start * total_steps - 1, total_steps - 1.0]
        if three_phase:
            self.corners.insert(2, 2 * self.corners[1])
        for group, most in zip(groups_of(optimizer), self.max_lrs, strict=True):
            group["initial_lr"] = most / div_factor
        super().__init__(optimizer, cycle_momentum, base_momentum, max_momentum, last_epoch)

    def rate(self, place: int, lr: float) -> float:
        if self.last_epoch > self.total_steps:
            raise ArgumentError(
                f"total_steps is {self.total_steps}; step {self.last_epoch} is beyond them", user_origin()
            )
        first, most = self.base_lrs[place], self.max_lrs[place]
        return self.along([first, most, *[first] * self.three_phase, first / self.final_div_factor])

    def momentum(self, place: int) -> float:
        most = self.max_momentums[place]
        return self.along([most, self.base_momentums[place], *[most] * self.three_phase, most])

    def along(self, heights: list[float]) -> float:
        """The height at `last_epoch` of a curve with these heights at the corners."""
        phase = min(bisect_left(self.corners, self.last_epoch, 1), len(self.corners) - 1)
        left, right = self.corners[phase - 1], self.corners[phase]
        share = (self.last_epoch - left) / (right - left) if right > left else 1.0
        remaining = half_cosine(share) if self.anneal_strategy == "cos" else 1 - share
        return heights[phase] + (heights[phase - 1] - heights[phase]) * remaining


class CyclicLR(MomentumCycle):
    """Up from base_lr to max_lr in step_size_up steps and down in step_size_down, again and again; a step is one batch.

    mode       "triangular": all cycles are as high; "triangular2": each is half as high as the one before;
               "exp_range": the height is multiplied by gamma every step
    scale_fn   in place of the mode: the height, as a function of the cycle counted from 1, or of the steps, as
               scale_mode ("cycle" or "iterations") says

    Source: Smith 2017, Cyclical learning rates for training neural networks.
    """

    def __init__(
        self,
        optimizer: Any,
        base_lr: Any,
        max_lr: Any,
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[int], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: Any = 0.8,
        max_momentum: Any = 0.9,
        last_epoch: int = -1,
    ) -> None:
        modes: dict[str, tuple[Callable[[int], float], str]] = {
            "triangular": (lambda cycle: 1.0, "cycle"),
            "triangular2": (lambda cycle: 0.5 ** (cycle - 1), "cycle"),
            "exp_range": (lambda steps: float(gamma**steps), "iterations"),
        }
        check_number("gamma", gamma)
        check_choice("scale_mode", scale_mode, ("cycle", "iterations"))
        if scale_fn is None:
            self.scale_fn, self.scale_mode = modes[check_choice("mode", mode, modes)]
        else:
            self.scale_fn, self.scale_mode = check_function("scale_fn", scale_fn), scale_mode
        self.up = check_whole("step_size_up", step_size_up, 1)
        self.down = self.up if step_size_down is None else check_whole("step_size_down", step_size_down, 1)
        self.max_lrs = per_group("max_lr", max_lr, optimizer)
        base_lrs = per_group("base_lr", base_lr, optimizer)
        for group, lowest in zip(groups_of(optimizer), base_lrs, strict=True):
            group["initial_lr"] = lowest
        super().__init__(optimizer, cycle_momentum, base_momentum, max_momentum, last_epoch)

    def rate(self, place: int, lr: float) -> float:
        lowest = self.base_lrs[place]
        return float(lowest + (self.max_lrs[place] - lowest) * self.height())

    def momentum(self, place: int) -> float:
        most = self.max_momentums[place]
        return float(most - (most - self.base_momentums[place]) * self.height())

    def height(self) -> float:
        """How far up a cycle is, from 0 to its own height."""
        cycles, done = divmod(self.last_epoch, self.up + self.down)
        climbed = done / self.up if done <= self.up else (self.up + self.down - done) / self.down
        scale = self.scale_fn(cycles + 1 if self.scale_mode == "cycle" else self.last_epoch)
        return climbed * as_number("the result of scale_fn", scale)

"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graphc.functional import where
from graphc.optim.optimizer import Group, Optimizer, require, settled
from graphc.tensor import Parameter, Tensor


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and weight decay.

    g = gradient + weight_decay * w
    v = momentum * v + (1 - dampening) * g, and v = g in the first step
    w = w - lr * v, or w - lr * (g + momentum * v) with nesterov

    maximize  go up the gradient
    Source: Sutskever et al. 2013, On the importance of initialization and momentum in deep learning.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        settings = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**settings, "nesterov": nesterov, "maximize": maximize})

    def check(self, group: Group) -> None:
        super().check(group)
        require(group, "momentum", group["momentum"] >= 0, "at least 0")
        applies = group["momentum"] > 0 and group["dampening"] == 0
        require(group, "nesterov", applies or not group["nesterov"], "False without momentum or with dampening")

    def slots(self, group: Group) -> tuple[str, ...]:
        return ("momentum",) if group["momentum"] else ()

    def counts(self, group: Group) -> bool:
        return bool(group["momentum"] and group["dampening"])

    def update(self, parameter: Parameter, gradient: Tensor, lr: Tensor, group: Group) -> None:
        slope = -gradient if group["maximize"] else gradient
        if group["weight_decay"]:
            slope = slope + parameter * group["weight_decay"]
        if group["momentum"]:
            slope = self.gather(self.state[parameter]["momentum"], slope, group)
        parameter -= lr * slope

    def gather(self, velocity: Parameter, slope: Tensor, group: Group) -> Tensor:
        """Update the velocity; returns what takes the place of the gradient."""
        share = 1 - group["dampening"]
        fresh = slope if share == 1 else slope * where(self.steps(slope.dtype) == 1, 1.0, share)
        velocity.copy_(settled(velocity * group["momentum"] + fresh))
        return slope + velocity * group["momentum"] if group["nesterov"] else velocity

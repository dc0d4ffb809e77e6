"""Stochastic gradient descent, and descent by the sign of the gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graphc.functional import cast, sign
from graphc.optim.optimizer import Group, Optimizer, Settings, scaled, settled
from graphc.settings import require
from graphc.tensor import Parameter, Tensor, f64


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

    def check(self, settings: Settings) -> None:
        super().check(settings)
        applies = settings["momentum"] > 0 and settings["dampening"] == 0
        advice = "False without momentum or with dampening"
        require(applies or not settings["nesterov"], "nesterov", settings["nesterov"], advice)

    def slots(self, group: Group) -> dict[str, float]:
        return {"momentum_buffer": 0.0} if group.uses("momentum") else {}

    def numbers(self, group: Group) -> dict[str, float]:
        return {"steps": 0} if group.uses("momentum") and group["dampening"] else {}

    def update(self, parameter: Parameter, gradient: Tensor, group: Group) -> None:
        slope = self.gather(parameter, gradient, group) if group.uses("momentum") else gradient
        parameter -= scaled(group.scalars["lr"], slope)

    def gather(self, parameter: Parameter, gradient: Tensor, group: Group) -> Tensor:
        """Update the velocity; returns what takes the place of the gradient."""
        velocity, momentum = self.state[parameter]["momentum_buffer"], group.scalars["momentum"]
        fresh = gradient
        if group["dampening"]:
            fresh = scaled(1 - group["dampening"] * cast(group.numbers["steps"] > 1, f64), gradient)
        velocity.copy_(settled(scaled(momentum, velocity) + fresh))
        return gradient + scaled(momentum, velocity) if group["nesterov"] else velocity


class Lion(Optimizer):
    """Steps of one size, lr, along the sign of a momentum; lr is to be 3 to 10 times smaller than Adam's.

    w = w - lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * w)
    m = beta2 * m + (1 - beta2) * g

    Source: Chen et al. 2023, Symbolic discovery of optimization algorithms. Not in PyTorch.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        settings = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, {**settings, "decoupled_weight_decay": True})

    def slots(self, group: Group) -> dict[str, float]:
        return {"exp_avg": 0.0}

    def update(self, parameter: Parameter, gradient: Tensor, group: Group) -> None:
        mean, (beta1, beta2) = self.state[parameter]["exp_avg"], group.scalars["betas"]
        parameter -= scaled(group.scalars["lr"], sign(scaled(beta1, mean) + scaled(1 - beta1, gradient)))
        mean.copy_(settled(scaled(beta2, mean) + scaled(1 - beta2, gradient)))

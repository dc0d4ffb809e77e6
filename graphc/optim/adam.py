"""Adam and its kin: steps scaled by running means of the gradient and of its square."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from graphc.functional import expm1, ones_like, rsqrt, sqrt
from graphc.optim.optimizer import Group, Optimizer, require, settled
from graphc.tensor import Parameter, Tensor


class Adam(Optimizer):
    """Steps scaled by running means of the gradient and of its square; weight decay is part of the gradient.

    m = beta1 * m + (1 - beta1) * g,  v = beta2 * v + (1 - beta2) * g**2
    w = w - lr * m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + eps)

    Source: Kingma & Ba 2015, Adam: a method for stochastic optimization.
    """

    decoupled = False  # weight decay acts on the weights, not on the gradient

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    def check(self, group: Group) -> None:
        super().check(group)
        require(group, "eps", group["eps"] >= 0, "at least 0")
        fits = len(group["betas"]) == 2 and all(0 <= beta < 1 for beta in group["betas"])
        require(group, "betas", fits, "two numbers from 0 up to but without 1")

    def slots(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def counts(self, group: Group) -> bool:
        return True

    def update(self, parameter: Parameter, gradient: Tensor, lr: Tensor, group: Group) -> None:
        slots, (beta1, beta2), decay = self.state[parameter], group["betas"], group["weight_decay"]
        mean, square = slots["exp_avg"], slots["exp_avg_sq"]
        if decay and self.decoupled:
            parameter *= 1 - lr * decay
        elif decay:
            gradient = gradient + parameter * decay
        mean.copy_(settled(mean + (gradient - mean) * (1 - beta1)))
        square.copy_(square * beta2 + gradient * gradient * (1 - beta2))
        steps = self.steps(parameter.dtype)
        scale = lr / unbiased(beta1, steps)
        parameter -= scale * (mean / (sqrt(square) * rsqrt(unbiased(beta2, steps)) + group["eps"]))


class AdamW(Adam):
    """Adam whose weight decay shrinks the weights themselves, by lr * weight_decay a step.

    Source: Loshchilov & Hutter 2019, Decoupled weight decay regularization.
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)


def unbiased(beta: float, steps: Tensor) -> Tensor:
    """1 - beta**steps, with no digits lost while beta**steps is near 1."""
    return -expm1(steps * math.log(beta)) if beta else ones_like(steps)

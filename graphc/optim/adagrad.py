"""Steps divided by the size of the gradients so far: Adagrad, RMSprop, Adadelta."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graphc.functional import maximum, sqrt
from graphc.optim.optimizer import Group, Optimizer, count, scaled, settled
from graphc.tensor import Parameter, Tensor


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients.

    s = s + g**2
    w = w - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)

    initial_accumulator_value  s before the first step
    maximize                   go up the gradient
    Source: Duchi, Hazan & Singer 2011, Adaptive subgradient methods for online learning and stochastic optimization.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        settings = {"lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay}
        settings["initial_accumulator_value"] = initial_accumulator_value
        super().__init__(params, {**settings, "maximize": maximize})

    def slots(self, group: Group) -> dict[str, float]:
        return {"sum": group["initial_accumulator_value"]}

    def numbers(self, group: Group) -> dict[str, float]:
        return {"steps": 0} if group["lr_decay"] else {}

    def update(self, parameter: Parameter, gradient: Tensor, group: Group) -> None:
        total, lr = self.state[parameter]["sum"], group.scalars["lr"]
        if group["lr_decay"]:
            lr = lr / (1 + (count(group) - 1) * group["lr_decay"])
        total += gradient * gradient
        parameter -= scaled(lr, gradient / (sqrt(total) + group["eps"]))


class RMSprop(Optimizer):
    """Steps divided by the root of a running mean of squared gradients.

    s = alpha * s + (1 - alpha) * g**2
    w = w - lr * g / (sqrt(s) + eps)
    With momentum, b = momentum * b + g / (sqrt(s) + eps) and w = w - lr * b.

    centered  take the square of a running mean of g from s: their variance
    maximize  go up the gradient
    Source: Hinton 2012, Neural networks for machine learning, lecture 6e; centered: Graves 2013, Generating sequences
    with recurrent neural networks.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        settings = {"lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**settings, "centered": centered, "maximize": maximize})

    def slots(self, group: Group) -> dict[str, float]:
        names = ["square_avg", *["grad_avg"] * group["centered"], *["momentum_buffer"] * group.uses("momentum")]
        return dict.fromkeys(names, 0.0)

    def update(self, parameter: Parameter, gradient: Tensor, group: Group) -> None:
        slots, alpha = self.state[parameter], group["alpha"]
        square = slots["square_avg"].copy_(settled(slots["square_avg"] * alpha + gradient * gradient * (1 - alpha)))
        spread: Tensor = square
        if group["centered"]:
            mean = slots["grad_avg"]
            mean.copy_(settled(mean + (gradient - mean) * (1 - alpha)))
            spread = maximum(square - mean * mean, 0.0)  # rounding can take it below 0, and its root is then NaN
        slope = gradient / (sqrt(spread) + group["eps"])
        if group.uses("momentum"):
            velocity = slots["momentum_buffer"]
            slope = velocity.copy_(settled(scaled(group.scalars["momentum"], velocity) + slope))
        parameter -= scaled(group.scalars["lr"], slope)


class Adadelta(Optimizer):
    """Steps scaled by the root mean square of steps over that of gradients: they need no learning rate.

    s = rho * s + (1 - rho) * g**2
    d = sqrt(u + eps) / sqrt(s + eps) * g,  u = rho * u + (1 - rho) * d**2
    w = w - lr * d

    maximize  go up the gradient
    Source: Zeiler 2012, ADADELTA: an adaptive learning rate method.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        settings = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**settings, "maximize": maximize})

    def slots(self, group: Group) -> dict[str, float]:
        return {"square_avg": 0.0, "acc_delta": 0.0}

    def update(self, parameter: Parameter, gradient: Tensor, group: Group) -> None:
        slots, rho, eps = self.state[parameter], group["rho"], group["eps"]
        square, steps = slots["square_avg"], slots["acc_delta"]
        square.copy_(settled(square * rho + gradient * gradient * (1 - rho)))
        delta = sqrt(steps + eps) / sqrt(square + eps) * gradient
        steps.copy_(settled(steps * rho + delta * delta * (1 - rho)))
        parameter -= scaled(group.scalars["lr"], delta)

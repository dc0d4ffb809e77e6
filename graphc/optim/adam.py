"""Adam and its kin: steps scaled by running means of the gradient and of its size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graphc.functional import abs as absolute
from graphc.functional import maximum, pow, sqrt, where
from graphc.optim.optimizer import Group, Optimizer, count, scaled, settled
from graphc.tensor import Parameter, Tensor


class Adam(Optimizer):
    """Steps scaled by running means of the gradient and of its square.

    m = beta1 * m + (1 - beta1) * g,  v = beta2 * v + (1 - beta2) * g**2
    w = w - lr * m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + eps)

    amsgrad                 divide by the largest v so far (Reddi et al. 2018, On the convergence of Adam and beyond)
    maximize                go up the gradient
    decoupled_weight_decay  weight decay shrinks the weights; else it is part of the gradient
    Source: Kingma & Ba 2015, Adam: a method for stochastic optimization.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, {**settings, "maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay})

    def slots(self, group: Group) -> dict[str, float]:
        means = {"exp_avg": 0.0, "exp_avg_sq": 0.0}
        return means | {"max_exp_avg_sq": 0.0} if group["amsgrad"] else means

    def numbers(self, group: Group) -> dict[str, float]:
        return {"steps": 0}

    def update(self, parameter: Parameter, gradient: Tensor, group: Group) -> None:
        slots, steps, (beta1, beta2) = self.state[parameter], count(group), group.scalars["betas"]
        mean, square = follow(slots, gradient, beta1, beta2)
        if group["amsgrad"]:
            square = slots["max_exp_avg_sq"].copy_(maximum(slots["max_exp_avg_sq"], square))
        size = scaled(1 / sqrt(1 - beta2**steps), sqrt(square)) + group["eps"]
        parameter -= scaled(group.scalars["lr"] / (1 - beta1**steps), mean / size)


class AdamW(Adam):
    """Adam whose weight decay shrinks the weights themselves, by lr * weight_decay a step.

    Source: Loshchilov & Hutter 2019, Decoupled weight decay regularization.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        switches = {"amsgrad": amsgrad, "maximize": maximize, "decoupled_weight_decay": True}
        super().__init__(params, lr, betas, eps, weight_decay, **switches)


class NAdam(Optimizer):
    """Adam with Nesterov's momentum.

    mu(t) = beta1 * (1 - 0.96**(t * momentum_decay) / 2),  p(t) = mu(1) * ... * mu(t)
    w = w - lr * ((1 - mu(t)) / (1 - p(t)) * g + mu(t + 1) / (1 - p(t + 1)) * m) / (sqrt(v / (1 - beta2**t)) + eps)

    m, v and the switches are those of Adam.
    Source: Dozat 2016, Incorporating Nesterov momentum into Adam.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        settings |= {"momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(params, {**settings, "maximize": maximize})

    def slots(self, group: Group) -> dict[str, float]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def numbers(self, group: Group) -> dict[str, float]:
        return {"steps": 0, "mu_product": 1.0}

    def advance(self, group: Group) -> None:
        super().advance(group)
        group.numbers["mu_product"] *= momentum_at(count(group), group)

    def update(self, parameter: Parameter, gradient: Tensor, group: Group) -> None:
        steps, lr, (beta1, beta2) = count(group), group.scalars["lr"], group.scalars["betas"]
        product, now, following = group.numbers["mu_product"], momentum_at(steps, group), momentum_at(steps + 1, group)
        mean, square = follow(self.state[parameter], gradient, beta1, beta2)
        size = sqrt(scaled(1 / (1 - beta2**steps), square)) + group["eps"]
        ahead = scaled(following / (1 - product * following), mean) + scaled((1 - now) / (1 - product), gradient)
        parameter -= scaled(lr, ahead / size)


class RAdam(Optimizer):
    """Adam that warms up by itself: the step is divided by the size of gradients only as that is known well enough.

    r = 2 / (1 - beta2) - 1,  s = r - 2 * t * beta2**t / (1 - beta2**t)
    w = w - lr * m / (1 - beta1**t) * rectification * sqrt(1 - beta2**t) / (sqrt(v) + eps) where s > 5,
    w = w - lr * m / (1 - beta1**t) in the steps before
    with rectification = sqrt((s - 4) * (s - 2) * r / ((r - 4) * (r - 2) * s))

    m, v and the switches are those of Adam.
    Source: Liu et al. 2020, On the variance of the adaptive learning rate and beyond.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        switches = {"decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize}
        super().__init__(params, {**settings, **switches})

    def slots(self, group: Group) -> dict[str, float]:
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def numbers(self, group: Group) -> dict[str, float]:
        return {"steps": 0}

    def update(self, parameter: Parameter, gradient: Tensor, group: Group) -> None:
        steps, (beta1, beta2) = count(group), group.scalars["betas"]
        mean, square = follow(self.state[parameter], gradient, beta1, beta2)
        power, longest = beta2**steps, 2 / (1 - beta2) - 1
        length = longest - 2 * steps * power / (1 - power)
        known = length > 5
        excess = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        rate = group.scalars["lr"] / (1 - beta1**steps)
        size = where(known, sqrt(square) + group["eps"], 1.0)
        parameter -= scaled(where(known, rate * sqrt(excess * (1 - power)), rate), mean / size)


class Adamax(Optimizer):
    """Adam with the largest gradient, slowly forgotten, in place of the mean of squares.

    u = max(beta2 * u, abs(g) + eps)
    w = w - lr / (1 - beta1**t) * m / u

    m is that of Adam; maximize goes up the gradient.
    Source: Kingma & Ba 2015, Adam: a method for stochastic optimization, section 7.1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**settings, "maximize": maximize})

    def slots(self, group: Group) -> dict[str, float]:
        return {"exp_avg": 0.0, "exp_inf": 0.0}

    def numbers(self, group: Group) -> dict[str, float]:
        return {"steps": 0}

    def update(self, parameter: Parameter, gradient: Tensor, group: Group) -> None:
        slots, (beta1, beta2) = self.state[parameter], group.scalars["betas"]
        mean, largest = slots["exp_avg"], slots["exp_inf"]
        mean.copy_(settled(mean + scaled(1 - beta1, gradient - mean)))
        largest.copy_(maximum(scaled(beta2, largest), absolute(gradient) + group["eps"]))
        parameter -= scaled(group.scalars["lr"] / (1 - beta1 ** count(group)), mean / largest)


def follow(slots: dict[str, Parameter], gradient: Tensor, beta1: Tensor, beta2: Tensor) -> tuple[Parameter, Parameter]:
    """The running means of the gradient and of its square, which take in a gradient."""
    mean, square = slots["exp_avg"], slots["exp_avg_sq"]
    mean.copy_(settled(mean + scaled(1 - beta1, gradient - mean)))
    square.copy_(settled(scaled(beta2, square) + scaled(1 - beta2, gradient * gradient)))
    return mean, square


def momentum_at(steps: Tensor, group: Group) -> Tensor:
    """The momentum of NAdam in a step: it warms up from half of beta1."""
    beta1: Tensor = group.scalars["betas"][0]
    return beta1 * (1 - 0.5 * pow(0.96, steps * group["momentum_decay"]))

"""The workloads in PyTorch with torch.compile around the whole step: forward, gradients and update as one graph.

The LSTM is the exception: torch.compile leaves nn.LSTM as it is, so there its loss is compiled and the rest is eager.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch

from graphc.bench.systems import torch as eager
from graphc.bench.workloads import BETAS, DECAY, EPSILON, MOMENTUM

SLOTS: dict[str, tuple[str, ...]] = {"sgd": (), "momentum": ("velocity",), "adamw": ("mean", "square")}


class System(eager.System):
    """The step as a benchmark calls it.

    mode  of torch.compile
    """

    mode: str | None = None

    def trained(self) -> Callable[..., Any]:
        if self.workload.model == "lstm":
            return torch.compile(super().trained(), mode=self.mode)
        names = list(self.weights)
        update = {"sgd": sgd, "momentum": momentum, "adamw": adamw}[self.workload.optimizer]
        workload, net = self.workload, self.net

        def cost_of(weights: dict[str, Any], *batch: Any) -> Any:
            return eager.loss_of(workload, lambda *given: torch.func.functional_call(net, weights, given))(*batch)

        def whole(weights: dict[str, Any], slots: dict[str, dict[str, Any]], steps: Any, *batch: Any) -> Any:
            slopes, cost = torch.func.grad_and_value(cost_of)(weights, *batch)
            steps.add_(1)
            for name in names:
                update(weights[name], slopes[name], {slot: slots[slot][name] for slot in slots}, steps, workload.lr)
            return cost

        compiled = torch.compile(whole, fullgraph=True, mode=self.mode)
        return lambda *batch: compiled(self.weights, self.slots, self.steps, *batch)

    @cached_property
    def weights(self) -> dict[str, Any]:
        return {name: weight.detach() for name, weight in self.net.named_parameters()}

    @cached_property
    def slots(self) -> dict[str, dict[str, Any]]:
        slots = SLOTS[self.workload.optimizer]
        return {slot: {name: torch.zeros_like(weight) for name, weight in self.weights.items()} for slot in slots}

    @cached_property
    def steps(self) -> Any:
        return torch.zeros(())

    def reset(self) -> None:
        super().reset()
        for tensor in (self.steps, *(tensor for slot in self.slots.values() for tensor in slot.values())):
            tensor.zero_()


def sgd(weight: Any, slope: Any, slots: dict[str, Any], steps: Any, lr: float) -> None:
    weight.sub_(lr * slope)


def momentum(weight: Any, slope: Any, slots: dict[str, Any], steps: Any, lr: float) -> None:
    weight.sub_(lr * slots["velocity"].mul_(MOMENTUM).add_(slope))


def adamw(weight: Any, slope: Any, slots: dict[str, Any], steps: Any, lr: float) -> None:
    first, second = BETAS
    mean = slots["mean"].mul_(first).add_(slope, alpha=1 - first)
    square = slots["square"].mul_(second).addcmul_(slope, slope, value=1 - second)
    size = (square / (1 - second**steps)).sqrt() + EPSILON
    weight.mul_(1 - lr * DECAY).sub_(lr / (1 - first**steps) * mean / size)

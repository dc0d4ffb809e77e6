"""One update from the gradients of several calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from graphc.functional import where
from graphc.nn.clipping import clip_grad_norm_
from graphc.optim.optimizer import Group, Optimizer, kept
from graphc.settings import check_number, check_whole, require
from graphc.states import load_named
from graphc.tensor import Gradient, Parameter, Tensor, active_trace, no_grad


class Accumulate:
    """An optimizer that updates on every `steps`-th call only, from the mean of the gradients since the last update.

    k calls with n / k samples each then do what one call with n samples does, where the loss is a mean over samples and
    no layer looks at the batch as a whole, as BatchNorm does. Calls left over at the end of an epoch count on.

    optimizer  whose updates they are; its groups, schedules and settings work as ever
    max_norm   limits the norm of that mean gradient, as nn.utils.clip_grad_norm_ does
    """

    def __init__(self, optimizer: Optimizer, steps: int, max_norm: float | None = None) -> None:
        require(isinstance(optimizer, Optimizer), "optimizer", optimizer, "an optimizer")
        self.optimizer, self.steps = optimizer, check_whole("steps", steps, 1)
        self.max_norm = max_norm if max_norm is None else check_number("max_norm", max_norm, 0)
        self.calls = kept(0, "calls")  # since the last update
        self.sums: dict[Parameter, Parameter] = {}

    @property
    def param_groups(self) -> list[Group]:
        return self.optimizer.param_groups

    @property
    def lr(self) -> float:
        """The learning rate of the first group; setting it sets that of all."""
        return self.optimizer.lr

    @lr.setter
    def lr(self, number: float) -> None:
        self.optimizer.lr = number

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of this trace, not those of earlier calls."""
        self.optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        """Record the update of every parameter that has a gradient; errors as in Optimizer.step."""
        active_trace("optimizer.step()")
        with only_where(self.gather()) if self.steps > 1 else nullcontext():
            if self.max_norm is not None:
                clip_grad_norm_(self.optimizer.state, self.max_norm)
            self.optimizer.step()

    def gather(self) -> Tensor:
        """Add up the gradients, and put their mean so far in their place. Returns whether this call updates."""
        self.prepare()
        with no_grad():
            calls = self.calls + 1
            due = calls == self.steps
            self.calls.copy_(where(due, 0, calls))
            for parameter, known in self.sums.items():
                if parameter.grad is not None:
                    total = known + parameter.grad
                    known.copy_(where(due, 0.0, total))
                    parameter.grad = Gradient((total / self.steps).value)
        return due

    def prepare(self) -> None:
        """Make the sums and call them after their parameters."""
        for parameter, owner in self.optimizer.named_owners().items():
            if parameter not in self.sums:
                self.sums[parameter] = kept(0.0, "", parameter)
            self.sums[parameter].name = f"{owner}.grad_sum"

    # -- its state

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """The optimizer's state_dict, and copies of the sums."""
        return self.optimizer.state_dict() | {name: array.numpy() for name, array in self.named_sums().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Put a state_dict back; errors as in Optimizer.load_state_dict."""
        require(isinstance(state_dict, Mapping), "state_dict", state_dict, "a dict of arrays")
        sums = self.named_sums()
        own = {name: array for name, array in state_dict.items() if name in sums}
        load_named({name: Parameter(array.numpy()) for name, array in sums.items()}, own, "Accumulate")
        self.optimizer.load_state_dict({name: array for name, array in state_dict.items() if name not in sums})
        load_named(sums, own, "Accumulate")

    def named_sums(self) -> dict[str, Parameter]:
        if self.steps == 1:
            return {}
        self.prepare()
        return {array.name: array for array in [*self.sums.values(), self.calls]}

    def __repr__(self) -> str:
        return f"Accumulate({self.optimizer!r}, steps={self.steps}, max_norm={self.max_norm})"


@contextmanager
def only_where(condition: Tensor) -> Iterator[None]:
    """Updates recorded inside take effect where the condition holds."""
    trace = active_trace("an update")
    before = dict(trace.current)
    yield
    with no_grad():
        for parameter, new in list(trace.current.items()):
            old = before.get(parameter, Tensor(parameter.input))
            if new is not old:
                trace.current[parameter] = where(condition, new, old)

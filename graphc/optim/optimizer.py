"""Optimizers with PyTorch's names, defaults and formulas: `step()` inside a traced step records the updates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from graphc.errors import CheckpointError, GradientError
from graphc.function import load_named, unique
from graphc.functional import abs as absolute
from graphc.functional import cast, where
from graphc.ir.graph import user_origin
from graphc.nn import forget_gradient
from graphc.tensor import DType, Parameter, Scalar, Tensor, active_trace, f32, f64, no_grad

Settings = dict[str, Any]


class Group(dict[str, Any]):
    """Parameters under "params" and what they are updated with.

    "lr" may change at any time. Everything else is part of the compiled step and changes no more once one was traced.
    """

    traced = False

    def __setitem__(self, key: str, value: Any) -> None:
        if not self.takes(key, value):
            raise ValueError(
                f"{key} is {self[key]} in a step that is already compiled and cannot become {value}; "
                "make a new optimizer and step for it"
            )
        super().__setitem__(key, value)

    def takes(self, key: str, value: Any) -> bool:
        """Whether a setting may become that value now."""
        return not self.traced or key == "lr" or key not in self or np.array_equal(self[key], value)


class LearningRate(Scalar):
    """The run-time scalar that a compiled step reads a group's "lr" from."""

    def __init__(self, name: str, group: Group, dtype: DType) -> None:
        self.group = group
        super().__init__(name, group["lr"], dtype)

    @property
    def number(self) -> float:
        return float(self.group["lr"])

    @number.setter
    def number(self, number: float) -> None:
        self.group["lr"] = number


class Optimizer:
    """What all optimizers share: groups of parameters, their slots, and their learning rates.

    params    parameters, or dicts with "params" and settings of their own
    settings  hyper-parameters of groups that do not name them
    """

    def __init__(self, params: Iterable[Any], settings: Settings) -> None:
        if isinstance(params, (Tensor, Mapping)):
            raise TypeError(f"params must be a list of parameters or of dicts, got one {type(params).__name__}")
        self.defaults = settings
        self.param_groups: list[Group] = []
        self.rates: list[LearningRate] = []
        self.state: dict[Parameter, dict[str, Parameter]] = {}
        self.count: Parameter | None = None  # of steps taken, where the formulas need it
        given = list(params)
        if not given:
            raise ValueError("the optimizer got no parameters; was net.parameters() used up before?")
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """More parameters, with their own settings. Raises TypeError, ValueError; then nothing is added."""
        held = param_group["params"]
        group = Group({**self.defaults, **param_group, "params": [held] if isinstance(held, Tensor) else list(held)})
        unknown = group.keys() - self.defaults.keys() - {"params"}
        if unknown:
            raise ValueError(f"unknown settings {', '.join(sorted(unknown))}; known are {', '.join(self.defaults)}")
        self.check_parameters(group["params"])
        self.check(group)
        number, wide = len(self.param_groups), any(parameter.dtype.name == "f64" for parameter in group["params"])
        self.param_groups.append(group)
        self.rates.append(LearningRate(f"lr_{number}" if number else "lr", group, f64 if wide else f32))
        for parameter in group["params"]:
            self.state[parameter] = {
                slot: Parameter(np.zeros_like(parameter.storage.array), requires_grad=False, dtype=parameter.dtype)
                for slot in self.slots(group)
            }
        if self.counts(group) and self.count is None:
            self.count = Parameter(np.zeros((), np.int64), "steps", requires_grad=False)
        self.name_slots()

    def check_parameters(self, parameters: list[Any]) -> None:
        for parameter in parameters:
            if not isinstance(parameter, Parameter):
                raise TypeError(f"an optimizer updates parameters, got {type(parameter).__name__}")
            if parameter in self.state or sum(parameter is other for other in parameters) > 1:
                raise ValueError(f"parameter {parameter.name or parameter.type} is given to the optimizer twice")

    def check(self, group: Group) -> None:
        """Raise ValueError for settings that make no sense."""
        require(group, "lr", group["lr"] >= 0, "at least 0")
        require(group, "weight_decay", group["weight_decay"] >= 0, "at least 0")

    def slots(self, group: Group) -> tuple[str, ...]:
        """Names of the arrays kept beside each parameter of a group."""
        return ()

    def counts(self, group: Group) -> bool:
        """Whether the formulas need the number of the step."""
        return False

    def name_slots(self) -> None:
        """Slots are called after their parameters, which may have got their names since."""
        taken: set[str] = set()
        for number, (parameter, slots) in enumerate(self.state.items()):
            name = unique(parameter.name or f"parameter_{number}", taken)
            for slot, array in slots.items():
                array.name = f"{name}.{slot}"

    # -- in a training loop

    @property
    def lr(self) -> float:
        """The learning rate of the first group; setting it sets that of all."""
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, number: float) -> None:
        for group in self.param_groups:
            group["lr"] = number

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of this trace; the next call of a compiled step starts afresh anyway."""
        for parameter in self.state:
            forget_gradient(parameter)

    def step(self) -> None:
        """Record the update of every parameter that has a gradient.

        Raises TraceError outside of a traced step, GradientError when no parameter has a gradient.
        """
        active_trace("optimizer.step()")
        if all(parameter.grad is None for parameter in self.state):
            raise GradientError(
                "optimizer.step() found no gradient for any of its parameters",
                user_origin(),
                ["call loss.backward() before it, on a loss that depends on them"],
            )
        self.name_slots()
        with no_grad():
            if self.count is not None:
                self.count += 1
            for group, rate in zip(self.param_groups, self.rates, strict=True):
                group.traced = True
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self.update(parameter, parameter.grad, cast(rate, parameter.dtype), group)

    def update(self, parameter: Parameter, gradient: Tensor, lr: Tensor, group: Group) -> None:
        """Record the new values of a parameter and its slots."""
        raise NotImplementedError

    def steps(self, dtype: DType) -> Tensor:
        """The number of this step, counted from 1."""
        return cast(self.count, dtype)

    # -- its state

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of the slots by name, and the settings of each group as `param_groups.0.lr` and so on."""
        slots = {name: slot.numpy() for name, slot in self.named_slots().items()}
        return slots | {name: np.asarray(group[key]) for name, (group, key) in self.named_settings().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Put a state_dict back.

        Raises CheckpointError, before anything changes, for missing and unexpected names, for other shapes, and for
        settings other than those a step was compiled with.
        """
        settings = self.named_settings()
        given = {name: plain(state_dict[name]) for name in settings if name in state_dict}
        for name, number in given.items():
            group, key = settings[name]
            if not group.takes(key, number):
                fault = f"{name} is {group[key]} in a compiled step and {number} in the state"
                raise CheckpointError(fault, user_origin())
        stand_ins = {name: Parameter(np.asarray(group[key])) for name, (group, key) in settings.items()}
        load_named(self.named_slots() | stand_ins, state_dict, type(self).__name__)
        for name, number in given.items():
            group, key = settings[name]
            group[key] = number

    def named_slots(self) -> dict[str, Parameter]:
        self.name_slots()
        slots = [slot for slots in self.state.values() for slot in slots.values()]
        found = {slot.name: slot for slot in slots}
        return found if self.count is None else found | {self.count.name: self.count}

    def named_settings(self) -> dict[str, tuple[Group, str]]:
        return {
            f"param_groups.{number}.{key}": (group, key)
            for number, group in enumerate(self.param_groups)
            for key in self.defaults
        }

    def __repr__(self) -> str:
        shown = (", ".join(f"{key}={group[key]}" for key in self.defaults) for group in self.param_groups)
        return f"{type(self).__name__}({'; '.join(shown)})"


def require(group: Group, key: str, holds: bool, text: str) -> None:
    if not holds:
        raise ValueError(f"{key} is {group[key]}; it must be {text}")


def plain(setting: Any) -> Any:
    """A setting as the Python number or tuple it was before it was stored."""
    value = np.asarray(setting).tolist()
    return tuple(value) if isinstance(value, list) else value


def settled(average: Tensor) -> Tensor:
    """A running mean that decayed below the smallest normal number is 0.

    Subnormal numbers move no weight, and arithmetic on them is up to a hundred times slower: without this, Adam on
    MNIST, whose border pixels have no gradient, needs 1.5 times as long from its fourth epoch on.
    """
    smallest = float(np.finfo(average.dtype.numpy).tiny)
    return where(absolute(average) < smallest, 0.0, average)

"""What all optimizers share: groups of parameters with their settings, slots, the step, and its state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, CheckpointError, GradientError
from graphc.functional import abs as absolute
from graphc.functional import cast, where
from graphc.ir.graph import user_origin
from graphc.nn import forget_gradient
from graphc.plan import unique
from graphc.settings import check_list, check_number, check_switch, is_number, require
from graphc.states import load_named
from graphc.tensor import Parameter, Scalar, Tensor, active_trace, f64, i64, no_grad

Settings = dict[str, Any]

# What compiled steps read at every call, and what the scalars they read it from are called.
SCHEDULED = {"lr": ["lr"], "momentum": ["momentum"], "betas": ["beta1", "beta2"], "weight_decay": ["weight_decay"]}
SWITCHES = {"amsgrad", "centered", "decoupled_weight_decay", "maximize", "nesterov"}
AT_MOST_ONE = {"alpha", "rho"}


class Setting(Scalar):
    """The run-time scalar that compiled steps read a setting of a group from; `place` is one within a tuple."""

    def __init__(self, name: str, group: Group, key: str, place: int | None) -> None:
        self.group, self.key, self.place = group, key, place
        super().__init__(name, self.number, f64)

    @property
    def home(self) -> tuple[dict[str, Any], str]:
        return self.group, self.key

    @property
    def number(self) -> float:
        value = self.group[self.key]
        return float(value if self.place is None else value[self.place])

    @number.setter
    def number(self, number: float) -> None:
        value = self.group[self.key]
        at = self.place
        self.group[self.key] = number if at is None else (*value[:at], number, *value[at + 1 :])


class Group(dict[str, Any]):
    """Parameters under "params" and what they are updated with.

    "lr", "momentum", "betas" and "weight_decay" may change at any time: compiled steps read them at every call.
    All other settings, and whether there is a momentum or a weight decay at all, are part of the compiled step.

    scalars  the run-time scalars of "lr", "momentum" and "weight_decay", and the pair of "betas"; f64[]
    numbers  what the formulas keep once a group, such as the number of steps
    """

    def __init__(self, settings: Settings, place: int) -> None:
        super().__init__(settings)
        self.suffix = f"_{place}" if place else ""
        self.compiled: Settings = {}
        self.numbers: dict[str, Parameter] = {}
        self.scalars: dict[str, Any] = {}
        for key, names in SCHEDULED.items():
            if key in settings:
                places = [None] if len(names) == 1 else range(len(names))
                made = [Setting(name + self.suffix, self, key, at) for name, at in zip(names, places, strict=True)]
                self.scalars[key] = made[0] if len(made) == 1 else made

    def __setitem__(self, key: str, value: Any) -> None:
        if key in (*SCHEDULED, "initial_lr"):
            check_kind(key, value)
        if not self.takes(key, value):
            raise ArgumentError(
                f"{key} is {self[key]} in a step that is already compiled and cannot become {value}; "
                "set it before the step is made",
                user_origin(),
            )
        super().__setitem__(key, value)

    def update(self, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def takes(self, key: str, value: Any) -> bool:
        """Whether a setting may become that value now."""
        if key not in self.compiled or key in ("lr", "initial_lr"):
            return True
        if key in SCHEDULED:
            return self.uses(key) or not value
        return np.array_equal(self.compiled[key], value)

    def uses(self, key: str) -> bool:
        """Whether a setting takes part; one that is 0, or not there, when a step is first traced never does."""
        return bool((self.compiled or self).get(key))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has parameters and scalars of its own, and no step is compiled with it yet."""
        return Group, (dict(self), int(self.suffix[1:] or 0)), {"numbers": self.numbers}

    def freeze(self) -> None:
        """From now on a compiled step relies on the settings."""
        self.compiled = self.compiled or dict(self)


class Optimizer:
    """What all optimizers share: groups of parameters, their slots, and the step.

    params    parameters, or dicts with "params" and settings of their own
    settings  hyper-parameters of groups that do not name them
    """

    def __init__(self, params: Iterable[Any], settings: Settings) -> None:
        if isinstance(params, (Tensor, Mapping)):
            raise ArgumentError(
                f"params must be a list of parameters or of dicts, got one {type(params).__name__}", user_origin()
            )
        self.defaults = settings
        self.param_groups: list[Group] = []
        self.state: dict[Parameter, dict[str, Parameter]] = {}
        given = check_list("params", params, "a list of parameters, such as net.parameters()")
        if not given:
            raise ArgumentError("the optimizer got no parameters; was net.parameters() used up before?", user_origin())
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """More parameters, with their own settings. Raises ArgumentError; then nothing is added."""
        fits = isinstance(param_group, Mapping) and "params" in param_group
        require(fits, "param_group", param_group, 'a dict with "params" and settings')
        held = param_group["params"]
        parameters = [held] if isinstance(held, Tensor) else check_list("params", held, "a list of parameters")
        settings = {**self.defaults, **param_group, "params": parameters}
        unknown = settings.keys() - self.defaults.keys() - {"params", "initial_lr"}
        if unknown:
            from graphc.suggestions import did_you_mean

            text = f"unknown settings {', '.join(sorted(unknown))}; known are {', '.join(self.defaults)}"
            raise ArgumentError(text, user_origin(), did_you_mean(min(unknown), self.defaults))
        self.check_parameters(settings["params"])
        self.check(settings)
        self.param_groups.append(Group(settings, len(self.param_groups)))
        self.state |= {parameter: {} for parameter in settings["params"]}

    def check_parameters(self, parameters: list[Any]) -> None:
        for parameter in parameters:
            if not isinstance(parameter, Parameter):
                raise ArgumentError(f"an optimizer updates parameters, got {type(parameter).__name__}", user_origin())
            if parameter in self.state or sum(parameter is other for other in parameters) > 1:
                raise ArgumentError(
                    f"parameter {parameter.name or parameter.type} is given to the optimizer twice", user_origin()
                )

    def check(self, settings: Settings) -> None:
        """Raise ArgumentError for settings that make no sense."""
        for key in self.defaults:
            check_setting(key, settings[key])

    def slots(self, group: Group) -> dict[str, float]:
        """Names of the arrays kept beside each parameter of a group, and what fills them at first."""
        return {}

    def numbers(self, group: Group) -> dict[str, float]:
        """Names of the numbers kept once a group, and what they are at first: ints become i64, floats f64."""
        return {}

    def prepare(self) -> None:
        """Make the slots that the settings ask for, and call them after their parameters, which may be named by now."""
        owners = self.named_owners()
        for group in self.param_groups:
            for name, first in self.numbers(group).items():
                if name not in group.numbers:
                    group.numbers[name] = kept(first, name + group.suffix)
            for parameter in group["params"]:
                self.prepare_slots(parameter, owners[parameter], self.slots(group))

    def named_owners(self) -> dict[Parameter, str]:
        """What the arrays kept beside each parameter are called after: its name, or its place where it has none."""
        taken: set[str] = set()
        return {each: unique(each.name or f"parameter_{len(taken)}", taken) for each in self.state}

    def prepare_slots(self, parameter: Parameter, owner: str, wanted: Mapping[str, float]) -> None:
        slots = self.state[parameter]
        for name, first in wanted.items():
            if name not in slots:
                slots[name] = kept(first, name, parameter)
            slots[name].convert_(parameter.dtype).name = f"{owner}.{name}"

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
        self.prepare()
        with no_grad():
            for group in self.param_groups:
                group.freeze()
                self.record(group)

    def record(self, group: Group) -> None:
        """Record the updates of one group."""
        slopes = {parameter: parameter.grad for parameter in group["params"] if parameter.grad is not None}
        if slopes:
            self.advance(group)
        for parameter, slope in slopes.items():
            gradient = -slope if group.get("maximize") else slope
            self.update(parameter, self.decayed(parameter, gradient, group), group)

    def advance(self, group: Group) -> None:
        """Record what a step does to the numbers of a group, before its parameters are updated."""
        if "steps" in group.numbers:
            group.numbers["steps"] += 1

    def decayed(self, parameter: Parameter, gradient: Tensor, group: Group) -> Tensor:
        """The gradient with weight decay in it; decoupled, it shrinks the parameter by lr * weight_decay instead."""
        if not group.uses("weight_decay"):
            return gradient
        decay = group.scalars["weight_decay"]
        if not group.get("decoupled_weight_decay"):
            return gradient + scaled(decay, parameter)
        parameter.copy_(scaled(1 - group.scalars["lr"] * decay, parameter))
        return gradient

    def update(self, parameter: Parameter, gradient: Tensor, group: Group) -> None:
        """Record the new values of a parameter and its slots."""
        raise NotImplementedError(f"{type(self).__name__} has no update(); define it with the optimizer's formula")

    # -- its state

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of the slots by name, and the settings of each group as `param_groups.0.lr` and so on."""
        slots = {name: slot.numpy() for name, slot in self.named_slots().items()}
        return slots | {name: np.asarray(group[key]) for name, (group, key) in self.named_settings().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Put a state_dict back, or take over that of the PyTorch optimizer of the same name.

        Raises CheckpointError, before anything changes, for missing and unexpected names, for other shapes, and for
        settings that make no sense or differ from those a step was compiled with.
        """
        require(isinstance(state_dict, Mapping), "state_dict", state_dict, "a dict of arrays")
        if "param_groups" in state_dict:
            from graphc.optim.torch_state import read_torch_state

            state_dict = read_torch_state(self, state_dict)
        settings = self.named_settings()
        given = {name: plain(state_dict[name]) for name in settings if name in state_dict}
        for name, value in given.items():
            check_loaded(name, *settings[name], value)
        stand_ins = {name: Parameter(np.zeros(np.shape(group[key]))) for name, (group, key) in settings.items()}
        load_named(self.named_slots() | stand_ins, state_dict, type(self).__name__)
        for name, value in given.items():
            group, key = settings[name]
            group[key] = value

    def torch_state_dict(self, convert: Callable[[np.ndarray[Any, Any]], Any] = np.asarray) -> dict[str, Any]:
        """Its state in the form of the PyTorch optimizer of the same name.

        convert  makes a tensor of an array; `torch_optimizer.load_state_dict` needs torch.from_numpy here
        """
        from graphc.optim.torch_state import write_torch_state

        return write_torch_state(self, convert)

    def named_slots(self) -> dict[str, Parameter]:
        self.prepare()
        slots = [slot for slots in self.state.values() for slot in slots.values()]
        slots += [number for group in self.param_groups for number in group.numbers.values()]
        return {slot.name: slot for slot in slots}

    def named_settings(self) -> dict[str, tuple[Group, str]]:
        return {
            f"param_groups.{number}.{key}": (group, key)
            for number, group in enumerate(self.param_groups)
            for key in self.defaults
        }

    def __repr__(self) -> str:
        shown = (", ".join(f"{key}={group[key]}" for key in self.defaults) for group in self.param_groups)
        return f"{type(self).__name__}({'; '.join(shown)})"


# -- checks


def check_setting(key: str, value: Any) -> None:
    """ArgumentError for a setting that makes no sense, whichever optimizer it is of."""
    if key in SWITCHES:
        check_switch(key, value)
    elif key == "betas":
        check_kind(key, value)
        require(all(0 <= beta < 1 for beta in value), key, value, "two numbers from 0 up to but without 1")
    else:
        check_number(key, value, 0, 1 if key in AT_MOST_ONE else math.inf)


def check_kind(key: str, value: Any) -> None:
    """What a setting must be at any time; schedules may lead it outside of the range it starts in."""
    if key == "betas":
        fits = isinstance(value, tuple | list) and len(value) == 2 and all(map(is_number, value))
        require(fits, key, value, "two numbers from 0 up to but without 1")
    else:
        require(is_number(value), key, value, "a number")


def check_loaded(name: str, group: Group, key: str, value: Any) -> None:
    """CheckpointError for a setting of a state that a group cannot take."""
    try:
        check_setting(key, value)
    except ArgumentError as error:
        raise CheckpointError(f"{name} of the state makes no sense: {error.message}", user_origin()) from None
    if not group.takes(key, value):
        raise CheckpointError(f"{name} is {group[key]} in a compiled step and {value} in the state", user_origin())


# -- what formulas are written with


def count(group: Group) -> Tensor:
    """The number of this step, counted from 1; f64[]."""
    return cast(group.numbers["steps"], f64)


def scaled(scalar: Any, array: Tensor) -> Tensor:
    """scalar * array in the array's dtype; the scalar was worked out in f64, as PyTorch does in Python."""
    return cast(scalar, array.dtype) * array


def settled(average: Tensor) -> Tensor:
    """A running mean that decayed below the smallest normal number is 0.

    Subnormal numbers move no weight, and arithmetic on them is up to a hundred times slower: without this, Adam on
    MNIST, whose border pixels have no gradient, needs 1.5 times as long from its fourth epoch on.
    """
    smallest = float(np.finfo(average.dtype.numpy).tiny)
    return where(absolute(average) < smallest, 0.0, average)


def kept(first: float, name: str, like: Parameter | None = None) -> Parameter:
    """State filled with a number: one number, or an array like a parameter."""
    dtype = like.dtype if like is not None else i64 if isinstance(first, int) else f64
    shape = like.storage.array.shape if like is not None else ()
    return Parameter(np.full(shape, first, dtype.numpy), name, requires_grad=False, dtype=dtype)


def plain(setting: Any) -> Any:
    """A setting as the Python number or tuple it was before it was stored."""
    value = np.asarray(setting).tolist()
    return tuple(value) if isinstance(value, list) else value

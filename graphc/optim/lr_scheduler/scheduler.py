"""What all schedules share: the groups they set, the epoch they are in, their state, and checks of their settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.arrays import as_array
from graphc.errors import ArgumentError
from graphc.ir.graph import user_origin
from graphc.optim.optimizer import Group
from graphc.settings import check_list, check_number, check_whole, require
from graphc.states import load_named
from graphc.tensor import Parameter


class LRScheduler:
    """What all schedules share: the groups they set, the epoch they are in, and their state.

    optimizer   whose groups are set; the rates they have now are the initial ones, unless an earlier schedule set them
    last_epoch  where to go on: the schedule is then as far as after last_epoch + 1 steps, from the "initial_lr" that
                every group must hold
    """

    kept: tuple[str, ...] = ("last_epoch",)  # the attributes that make up its state, beside rates
    parts: Sequence[LRScheduler] = ()  # schedules it consists of

    def __init__(self, optimizer: Any, last_epoch: int = -1) -> None:
        check_whole("last_epoch", last_epoch, -1)
        self.optimizer = optimizer
        self.base_lrs: list[float] = []
        for place, group in enumerate(groups_of(optimizer)):
            if last_epoch >= 0 and "initial_lr" not in group:
                raise ArgumentError(
                    f"last_epoch is {last_epoch}; this needs an initial_lr in param_groups[{place}]", user_origin()
                )
            self.base_lrs.append(float(group.setdefault("initial_lr", group["lr"])))
        self.last_epoch = 0
        if last_epoch >= 0:
            self.restart()
        else:
            self.set_rates(self.get_last_lr())
        for _ in range(last_epoch + 1):
            self.step()

    def rate(self, place: int, lr: float) -> float:
        """The rate in epoch `last_epoch` of the group at a place, which was lr before."""
        raise NotImplementedError(f"{type(self).__name__} has no rate(); define it with the schedule's formula")

    def set_rates(self, before: Sequence[float]) -> None:
        self.write([self.rate(place, lr) for place, lr in enumerate(before)])

    def write(self, rates: Sequence[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = float(lr)

    def step(self) -> None:
        """Go on to the next epoch."""
        self.last_epoch += 1
        self.set_rates(self.get_last_lr())

    def restart(self) -> None:
        """Go back to epoch 0 and the initial rates."""
        self.last_epoch = 0
        self.set_rates(self.base_lrs)

    def get_last_lr(self) -> list[float]:
        """The present rates, one a group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Where the schedule is, and the rates it has set; settings and functions are not in it."""
        state = {name: np.asarray(getattr(self, name)) for name in self.kept}
        state |= {"base_lrs": np.array(self.base_lrs), "last_lr": np.array(self.get_last_lr())}
        for place, part in enumerate(self.parts):
            state |= {f"{place}.{name}": array for name, array in part.state_dict().items()}
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Put a state_dict back; the groups get its rates.

        Raises CheckpointError, before anything changes, for missing and unexpected names and for other shapes.
        """
        require(isinstance(state_dict, Mapping), "state_dict", state_dict, "a dict of arrays")
        stand_ins = {name: Parameter(array) for name, array in self.state_dict().items()}
        load_named(stand_ins, state_dict, type(self).__name__)
        self.take(state_dict)

    def take(self, state: Mapping[str, Any]) -> None:
        """Take over a state that fits."""
        for place, part in enumerate(self.parts):
            part.take({name.removeprefix(f"{place}."): state[name] for name in state if name.startswith(f"{place}.")})
        for name in self.kept:
            setattr(self, name, np.asarray(state[name]).item())
        self.base_lrs = np.asarray(state["base_lrs"]).tolist()
        self.write(np.asarray(state["last_lr"]).tolist())


# -- what formulas and constructors are written with


def half_cosine(share: float) -> float:
    """From 1 at 0 down to 0 at 1, and up again."""
    return (1 + math.cos(math.pi * share)) / 2


def groups_of(optimizer: Any) -> list[Group]:
    """An optimizer's groups. Raises ArgumentError for anything else."""
    groups = getattr(optimizer, "param_groups", None)
    require(isinstance(groups, list), "optimizer", optimizer, "an optimizer, such as optim.SGD(net.parameters())")
    return list(groups)  # type: ignore[arg-type]


def per_group(name: str, value: Any, optimizer: Any, check: Callable[[str, Any], Any] = check_number) -> list[Any]:
    """A setting as a list of one a group, each checked; it may be given as one for all."""
    groups = groups_of(optimizer)
    values = list(value) if isinstance(value, (list, tuple)) else [value] * len(groups)
    require(len(values) == len(groups), name, value, f"one for all, or a list of {len(groups)}, one a group")
    return [check(name, each) for each in values]


def as_number(name: str, value: Any) -> float:
    """What a function, or the user, gave for one number: also an array of one."""
    array = as_array(value, name)
    require(array.size == 1 and array.dtype.kind in "biuf", name, value, "a number")
    return float(array.item())


def epochs(name: str, value: Any) -> list[int]:
    return [check_whole(f"one of the {name}", each) for each in check_list(name, value, "a list of epochs")]

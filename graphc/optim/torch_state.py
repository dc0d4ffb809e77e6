"""The state of an optimizer in PyTorch's form, {"state": {0: {"step": ...}, ...}, "param_groups": [...]}, both ways.

Slots have PyTorch's names. It keeps the number of steps beside every parameter; here it is kept once a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from graphc.arrays import as_array
from graphc.errors import CheckpointError
from graphc.ir.graph import user_origin
from graphc.tensor import Parameter

if TYPE_CHECKING:
    from graphc.optim.optimizer import Group, Optimizer

Array = np.ndarray[Any, Any]

# What says how or where PyTorch computes, or belongs to its schedules: nothing follows from it for the numbers.
OTHER_SETTINGS = {"params", "param_names", "foreach", "capturable", "differentiable", "fused", "initial_lr"}


def write_torch_state(optimizer: Optimizer, convert: Callable[[Array], Any]) -> dict[str, Any]:
    """What `optimizer.state_dict()` of PyTorch would be; `convert` makes its tensors."""
    optimizer.prepare()
    state: dict[int, dict[str, Any]] = {}
    groups = []
    for group in optimizer.param_groups:
        indices = range(len(state), len(state) + len(group["params"]))
        for index, parameter in zip(indices, group["params"], strict=True):
            found = numbers_beside(optimizer.state[parameter], group)
            state[index] = {name: convert(array) for name, array in found.items()}
        groups.append({**{key: group[key] for key in optimizer.defaults}, "params": list(indices)})
    return {"state": state, "param_groups": groups}


def numbers_beside(slots: Mapping[str, Parameter], group: Group) -> dict[str, Array]:
    """What PyTorch keeps beside a parameter; a step of 0 where the formulas need none."""
    arrays = {name: slot.numpy() for name, slot in slots.items()}
    counts = {name: number.numpy().astype(np.float32) for name, number in group.numbers.items()}
    step = counts.pop("steps", np.zeros((), np.float32))
    if not slots.keys() - {"momentum_buffer"}:  # SGD counts no steps there, and has no momentum before the first
        return arrays if step or "steps" not in group.numbers else {}
    return {"step": step, **counts, **arrays}


def read_torch_state(optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """The state_dict of this optimizer that says the same as one of PyTorch.

    Raises CheckpointError for other groups, slots and settings than this optimizer has.
    """
    optimizer.prepare()
    given, groups = state["param_groups"], optimizer.param_groups
    counts = [len(group["params"]) for group in groups]
    if [len(each["params"]) for each in given] != counts:
        fail(optimizer, f"has groups of {counts} parameters, the state of {[len(each['params']) for each in given]}")
    found: dict[str, Any] = {}
    for number, (group, settings) in enumerate(zip(groups, given, strict=True)):
        check_settings(optimizer, settings)
        found |= {f"param_groups.{number}.{key}": settings.get(key, group[key]) for key in optimizer.defaults}
        held = [present(state["state"].get(index, {})) for index in settings["params"]]
        for parameter, arrays in zip(group["params"], held, strict=True):
            found |= dict(read_slots(optimizer, parameter, group, arrays))
        found |= dict(read_numbers(optimizer, group, [arrays for arrays in held if arrays]))
    return found


def present(arrays: Mapping[str, Any]) -> dict[str, Array]:
    """What is kept beside a parameter, without what is still None."""
    return {name: as_array(array, name) for name, array in arrays.items() if array is not None}


def check_settings(optimizer: Optimizer, settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        if value and key not in OTHER_SETTINGS and key not in optimizer.defaults:
            fail(optimizer, f"has no setting {key}, which is {value} in the state")


def read_slots(
    optimizer: Optimizer, parameter: Parameter, group: Group, arrays: Mapping[str, Array]
) -> Iterator[tuple[str, Any]]:
    """The slots of a parameter by their own names; as at first where PyTorch has none yet."""
    slots = optimizer.state[parameter]
    for name in arrays.keys() - slots.keys() - group.numbers.keys() - {"step"}:
        fail(optimizer, f"keeps no {name} for {parameter.name or parameter.type}")
    for name, first in optimizer.slots(group).items():
        yield slots[name].name, arrays.get(name, np.full(parameter.storage.array.shape, first))


def read_numbers(optimizer: Optimizer, group: Group, held: list[dict[str, Array]]) -> Iterator[tuple[str, Any]]:
    """The numbers of a group, which every parameter that was ever updated tells alike."""
    moved = [arrays for arrays in held if arrays.get("step", 1) != 0]
    for name, first in optimizer.numbers(group).items():
        told = "step" if name == "steps" else name
        values = {float(arrays.get(told, 1)) for arrays in moved} or {float(first)}
        if len(values) > 1:
            fail(optimizer, f"keeps one {told} a group, the state has {sorted(values)} in one")
        yield group.numbers[name].name, np.asarray(values.pop()).astype(group.numbers[name].storage.array.dtype)


def fail(optimizer: Optimizer, fault: str) -> NoReturn:
    raise CheckpointError(f"{type(optimizer).__name__} {fault}", user_origin())

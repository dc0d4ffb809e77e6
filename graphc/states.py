"""Arrays by name into what has such names: `load_state_dict` of functions, modules and optimizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.arrays import as_array
from graphc.errors import CheckpointError
from graphc.ir.graph import user_origin
from graphc.settings import require
from graphc.tensor import Parameter

FEW = 4  # names in an error


def load_named(parameters: Mapping[str, Parameter], state: Mapping[str, Any], owner_name: str) -> None:
    """Copy arrays, or what can be read as such, into parameters by name, all or nothing."""
    require(isinstance(state, Mapping), "the state", state, "a dictionary of arrays, as state_dict() gives it")
    missing, unknown = [n for n in parameters if n not in state], [n for n in state if n not in parameters]
    if missing or unknown:
        from graphc.suggestions import for_state

        raise CheckpointError(
            f"the state does not belong to {owner_name}: missing {few(missing)}, unknown {few(unknown)}",
            user_origin(),
            for_state(missing, unknown),
        )
    arrays = {name: as_array(array, f"{name} in the state") for name, array in state.items()}
    for name, parameter in parameters.items():
        own, given = parameter.storage.array, arrays[name]
        both, advice = None, []
        if own.shape != given.shape:
            both = f"{list(own.shape)} in {owner_name} and {list(given.shape)}"
            advice = ["its transpose would fit: array.T"] if own.shape == given.shape[::-1] else []
        elif not np.can_cast(given.dtype, own.dtype, "same_kind"):
            both = f"{own.dtype} in {owner_name} and {given.dtype}"
        if both:
            raise CheckpointError(f"{name} is {both} in the state", user_origin(), advice)
    for name, parameter in parameters.items():
        parameter.assign(arrays[name])


def few(names: Sequence[str]) -> str:
    """Some names and how many more there are."""
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return f"{list(names[:FEW])}{more}" if names else "none"

"""The numbers of a tensor outside of compiled functions, by the reference interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphc import generator
from graphc.backends import reference
from graphc.errors import LabelError, ShapeError
from graphc.ir import ops
from graphc.ir.graph import Value, reachable, user_origin
from graphc.ir.passes import run_passes
from graphc.ir.types import dims_of
from graphc.plan import Plan, bind
from graphc.tensor import Tensor


def is_known(tensor: Tensor) -> bool:
    """It depends on constants, parameters, scalars and random numbers only, and has a fixed shape."""
    return not any(is_open(value) for value in reachable((tensor.value,)))


def is_open(value: Value) -> bool:
    unowned = value.op is ops.input and value.owner is None
    return unowned or any(value.type.dims()) or (value.op is ops.size and any(dims_of(value.attrs["extent"])))


def evaluate(tensor: Tensor, given: Mapping[Value, Any] | None = None) -> np.ndarray[Any, Any]:
    """The numbers of a tensor that `is_known`, or is so with `given` numbers of inputs; parameters are as now.

    Random numbers are drawn when somebody first looks at them and stay: `x.numpy()` is the same array each time, and
    `(x + 1).numpy()` goes with it. Raises LabelError for an index outside of its range.
    """
    inputs = {f"given_{number}": value for number, value in enumerate(given or ())}
    value = generator.looked_at(tensor.value)
    plan = Plan("evaluate", tuple(inputs.items()), (("result", value),), (), "one", user_origin())
    traced, parameters, scalars = bind(plan)
    graph = run_passes(traced)
    known = {name: parameter.storage.array for name, parameter in parameters.items()}
    known |= dict(zip(inputs, (given or {}).values(), strict=True))
    try:
        found = reference.run(graph, known | {name: scalar.number for name, scalar in scalars.items()})
    except MemoryError:
        raise ShapeError(f"the numbers of {tensor.type} do not fit into memory", user_origin()) from None
    for check in graph.of_kind("check"):
        if found[check.name]:
            raise LabelError(check.name, user_origin())
    return np.array(found["result"])

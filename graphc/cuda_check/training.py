"""Programs trained on the GPU and on the CPU from the same weights with the same data: losses and weights compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.bench.workloads import Array
from graphc.cuda_check.programs import Program
from graphc.data import DataLoader, TensorDataset
from graphc.function import Function

LOSSES, WEIGHTS = 2e-3, 1e-2  # how far they may be apart after an epoch, in relation to their size


def trained(program: Program, device: str) -> tuple[list[float], dict[str, Array]]:
    """(the loss of every step and the mean of another epoch, the weights after that)."""
    step = program.make(device)
    losses = [loss_of(step(*batch)) for batch in program.batches()]
    if program.batch:
        losses.append(epoch(step, program))
    return losses, step.state_dict()


def epoch(step: Function, program: Program) -> float:
    # One row less, so that the last batch is a smaller one.
    data = TensorDataset(*program.draw(program.batch * program.steps - 1))
    return loss_of(step.epoch(DataLoader(data, program.batch, shuffle=True, seed=3)))


def loss_of(found: Any) -> float:
    return float(getattr(found, "loss", found))


def compared(program: Program) -> dict[str, Any]:
    """The largest differences of losses and weights, and whether they are small enough."""
    (wanted, here), (found, there) = trained(program, "cpu"), trained(program, "cuda")
    losses = max(abs(a - b) / max(abs(b), 1e-6) for a, b in zip(found, wanted, strict=True))
    # All weights together: where a gradient is 0 but for rounding, Adam makes steps of its sign.
    weights = apart(*(np.concatenate([each[name].ravel() for name in floats(here)]) for each in (there, here)))
    counts = all(np.array_equal(there[name], array) for name, array in here.items() if name not in floats(here))
    row = {"program": program.name, "title": program.title, "loss": found[-1], "loss_on_cpu": wanted[-1]}
    fits = losses <= LOSSES and weights <= WEIGHTS and counts
    return row | {"losses_apart": losses, "weights_apart": weights, "ok": fits}


def floats(weights: dict[str, Array]) -> list[str]:
    """The names of those that are no counters."""
    return [name for name, array in weights.items() if array.dtype.kind == "f"]


def apart(found: Array, wanted: Array) -> float:
    """In relation to the norm."""
    scale = max(float(np.linalg.norm(wanted)), 1e-3)
    return float(np.linalg.norm(found.astype(np.float64) - wanted)) / scale

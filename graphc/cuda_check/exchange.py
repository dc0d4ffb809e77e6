"""What leaves graphc and comes in, on the GPU: the exported library through its loader, and arrays of PyTorch."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import graphc as gx
from graphc.cuda_check.peers import torch_there
from graphc.cuda_check.programs import Program
from graphc.cuda_check.training import LOSSES, loss_of
from graphc.data import DataLoader, TensorDataset
from graphc.function import Function

NAME = "checked"  # of the library
SEED = 3  # of the order of an epoch


def exported(program: Program) -> Iterator[dict[str, Any]]:
    """A step and an epoch by the library that `gx.export` writes, beside the CPU's."""
    function = program.make("cpu")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, NAME)
        block = gx.export(function, folder, targets=["cuda"]).block()
        Path(place, "state").write_bytes(block)
        model = loader(folder).Model(path=Path(place, "state"))
        (found,) = model.functions.values()
        batch, data = program.batches()[0], program.draw(program.batch * program.steps - 1)
        losses = [loss_of(found(*batch)), loss_of(found.epoch(*data, batch=program.batch, shuffle=SEED))]
    wanted = [loss_of(function(*batch)), loss_of(function.epoch(shuffled(data, program.batch)))]
    yield row(program, "exported library", losses, wanted)


def loader(folder: Path) -> Any:
    """The module that an export has beside its files."""
    spec = importlib.util.spec_from_file_location(f"{NAME}_cuda", folder / f"{NAME}_cuda.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_torch(program: Program) -> Iterator[dict[str, Any]]:
    """A step and an epoch with tensors that PyTorch has on the GPU, and weights that it reads there."""
    torch, reason = torch_there()
    if torch is None:
        yield {"skipped": reason}
        return
    batch, data = program.batches()[0], program.draw(program.batch * program.steps - 1)
    slow = program.make("cpu")
    wanted = [loss_of(slow(*batch)), loss_of(slow.epoch(shuffled(data, program.batch)))]
    step = program.make("cuda")  # only now: it begins with the same random numbers
    there = tuple(torch.from_numpy(array).cuda() for array in data)
    losses = [loss_of(step(*(torch.from_numpy(array).cuda() for array in batch)))]
    losses.append(loss_of(step.epoch(shuffled(there, program.batch))))
    found = row(program, "arrays of PyTorch", losses, wanted)
    yield found | {"ok": found["ok"] and weights_are_read(step, torch.from_dlpack)}


def weights_are_read(step: Function, read: Callable[[Any], Any]) -> bool:
    """Whether another library finds the newest numbers where parameters say that they lie."""
    return all(np.array_equal(read(each).cpu().numpy(), each.numpy()) for each in step.parameters.values())


def shuffled(data: tuple[Any, ...], batch: int) -> DataLoader:
    return DataLoader(TensorDataset(*data), batch, shuffle=True, seed=SEED)


def row(program: Program, what: str, found: list[float], wanted: list[float]) -> dict[str, Any]:
    apart = max(abs(a - b) / max(abs(b), 1e-6) for a, b in zip(found, wanted, strict=True))
    told = {"program": program.name, "what": what, "loss": found[-1], "loss_on_cpu": wanted[-1]}
    return told | {"losses_apart": apart, "ok": apart <= LOSSES}

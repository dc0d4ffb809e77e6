"""Writes the numbers that the calls of remaining_cases.py are compared with, as PyTorch computes them in f64.

Run by hand where PyTorch is installed: `python tests/torch_remaining.py`. It makes golden/torch_remaining.npz. For each
call it holds f64, flat, one after another: its value; where it has gradients, d sum(value * weights) / d operand, for
the float operands it names, then for the parameters of its layer, with the weights of `rising`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import remaining_cases
import torch
from cotangents import rising

GOLDEN = Path(__file__).parent / "golden"


def numbers(call: str) -> np.ndarray:
    given = {name: torch.tensor(array) for name, array in remaining_cases.operands().items()}
    given |= {name: given[name].double().requires_grad_() for name in remaining_cases.FLOATS}
    wanted = [given[name] for name in remaining_cases.named(call)]

    def filled(layer: torch.nn.Module) -> torch.nn.Module:
        state = {name: parameter.shape for name, parameter in layer.named_parameters()}
        arrays = [remaining_cases.numbers(tuple(shape), place) for place, shape in enumerate(state.values())]
        layer.double().load_state_dict(dict(zip(state, map(torch.tensor, arrays))))
        wanted.extend(layer.parameters())
        return layer

    value = eval(call, {"torch": torch, "F": torch.nn.functional, "nn": torch.nn, "filled": filled, **given})
    found = [value]
    if value.requires_grad:
        (value * torch.from_numpy(rising(tuple(value.shape)))).sum().backward()
        found += [torch.zeros_like(each) if each.grad is None else each.grad for each in wanted]
    return np.concatenate([each.detach().double().numpy().ravel() for each in found])


if __name__ == "__main__":
    torch.set_num_threads(1)
    calls = [call for group in remaining_cases.CASES.values() for call in group]
    np.savez_compressed(GOLDEN / "torch_remaining.npz", **{call: numbers(call) for call in calls})

"""Writes the numbers that functions of elements and reductions are compared with, as PyTorch computes them in f64.

Run by hand where PyTorch is installed: `python tests/torch_elementwise.py`. It makes golden/torch_elementwise.npz.
Under "<operands>|<call>" of elementwise_cases.py: the value, then for each operand d sum(value * weights) / d operand
with the weights of `rising`, all in one row; zeros for an operand that the call leaves out or has no gradient for.
"""

from __future__ import annotations

from pathlib import Path

import elementwise_cases
import numpy as np
import torch
import torch.nn.functional as F
from cotangents import rising

GOLDEN = Path(__file__).parent / "golden"


def numbers(group: str, call: str) -> np.ndarray:
    given = [torch.tensor(array, requires_grad=True) for array in elementwise_cases.operands(group)]
    value = eval(call, {"torch": torch, "F": F, **dict(zip("ab", given))})
    weights = torch.from_numpy(rising(tuple(value.shape)))
    if value.requires_grad:
        (value * weights).sum().backward()
    slopes = [torch.zeros_like(operand) if operand.grad is None else operand.grad for operand in given]
    return np.concatenate([each.detach().numpy().ravel() for each in (value, *slopes)])


if __name__ == "__main__":
    stored = {
        f"{group}|{call}": numbers(group, call) for group, calls in elementwise_cases.CASES.items() for call in calls
    }
    np.savez_compressed(GOLDEN / "torch_elementwise.npz", **stored)

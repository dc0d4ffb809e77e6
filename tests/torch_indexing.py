"""Writes the numbers that products, parts, joins and orders are compared with, as PyTorch computes them in f64.

Run by hand where PyTorch is installed: `python tests/torch_indexing.py`. It makes golden/torch_indexing.npz. Under
"<subject>|<call>" of indexing_cases.py: the value, then for each operand the call names d sum(value * weights) / d
operand with the weights of `rising`, all in one row.
"""

from __future__ import annotations

from pathlib import Path

import indexing_cases
import numpy as np
import torch
import torch.nn.functional as F
from cotangents import rising

GOLDEN = Path(__file__).parent / "golden"
torch.index_put = torch.Tensor.index_put  # graphc has it as a function too


def numbers(call: str) -> np.ndarray:
    floats = {
        name: torch.tensor(array, dtype=torch.float64, requires_grad=True)
        for name, array in indexing_cases.operands().items()
    }
    indices = {name: torch.tensor(array) for name, array in indexing_cases.INDICES.items()}
    value = eval(call, {"torch": torch, "F": F, **floats, **indices})
    (value * torch.from_numpy(rising(tuple(value.shape)))).sum().backward()
    named = [floats[name] for name in indexing_cases.named(call)]
    slopes = [torch.zeros_like(each) if each.grad is None else each.grad for each in named]
    return np.concatenate([each.detach().numpy().ravel() for each in (value, *slopes)])


if __name__ == "__main__":
    calls = [(subject, call) for subject, listed in indexing_cases.CASES.items() for call in listed]
    np.savez_compressed(
        GOLDEN / "torch_indexing.npz", **{f"{subject}|{call}": numbers(call) for subject, call in calls}
    )

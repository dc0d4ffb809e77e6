"""Writes the numbers that convolutions and pools are compared with, as PyTorch computes them in f64.

Run by hand where PyTorch is installed: `python tests/torch_windows.py`. It makes golden/torch_windows.npz. All inputs
are f32 numbers. For each case of window_cases.py:

"<shape>"                     operands of that shape: x for samples of that shape, with `ROWS` samples, or a weight
"<case>|<n>|value"            the result for batch n
"<case>|<n>|gradient <name>"  d sum(result * weights) / d x, w or b, with the weights of `waving`
"<case>|indices"              of maxima, for the first batch: what return_indices gives
"<layer>|state <key>", "<layer>|text"  the shapes of a layer's state_dict in their order, and its text
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import window_cases
from cotangents import waving

GOLDEN = Path(__file__).parent / "golden"


def run(call: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    given = {name: torch.tensor(array, dtype=torch.float64, requires_grad=True) for name, array in arrays.items()}
    value = eval(call, vars(torch.nn.functional) | given)
    (value * torch.from_numpy(waving(tuple(value.shape)))).sum().backward()
    found = {"value": value} | {f"gradient {name}": each.grad for name, each in given.items()}
    return {name: tensor.detach().numpy().copy() for name, tensor in found.items()}


def function_numbers() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(6)
    stored: dict[str, np.ndarray] = {}
    for case, (call, *shapes) in [item for group in window_cases.GROUPS.values() for item in group.items()]:
        wanted = {name: shape for name, shape in zip("xwb", shapes, strict=True) if shape is not None}
        for name, shape in wanted.items():
            whole = (window_cases.ROWS, *shape) if name == "x" else shape
            stored.setdefault(f"{name} {shape}", rng.normal(size=whole).astype(np.float32))
        for number, rows in enumerate(window_cases.BATCHES):
            arrays = {name: stored[f"{name} {shape}"] for name, shape in wanted.items()}
            found = run(call, arrays | {"x": arrays["x"][rows]})
            stored |= {f"{case}|{number}|{name}": array for name, array in found.items()}
        if case in window_cases.MAXIMA:
            first = torch.tensor(stored[f"x {shapes[0]}"][window_cases.BATCHES[0]], dtype=torch.float64)
            with_indices = call.removesuffix(")") + ", return_indices=True)"
            stored[f"{case}|indices"] = eval(with_indices, vars(torch.nn.functional) | {"x": first})[1].numpy()
    return stored


def layer_facts() -> dict[str, np.ndarray]:
    stored = {}
    for call in window_cases.LAYERS:
        layer = eval(call, vars(torch.nn))
        stored[f"{call}|text"] = np.array(repr(layer))
        stored |= {f"{call}|state {key}": np.array(tensor.shape) for key, tensor in layer.state_dict().items()}
    return stored


if __name__ == "__main__":
    torch.set_num_threads(1)
    np.savez_compressed(GOLDEN / "torch_windows.npz", **function_numbers(), **layer_facts())

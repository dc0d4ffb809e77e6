"""Writes the numbers that layers are compared with: outputs, gradients and statistics, as PyTorch computes them in f64.

Run by hand where PyTorch is installed: `python tests/torch_layers.py`. It makes golden/torch_layers.npz. All inputs and
states are f32 numbers. For each case of layer_cases.py, under its name:

"<shape>"                       inputs of that sample shape, of `ROWS` samples (normal, deviation 2)
"<case>|state <key>"            the state_dict at the start, in its order
"<case>|<n>|value"              the output for batch n in training mode, batches in a row
"<case>|<n>|gradient <name>"    d sum(output * weights) / d input 0, 1 or parameter, with the weights of `waving`
"<case>|<n>|state <buffer>"     a buffer after batch n
"<case>|eval|..."               the same for the first four samples in evaluation mode, afterwards
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import layer_cases
import numpy as np
import torch
from cotangents import waving

GOLDEN = Path(__file__).parent / "golden"
GROUPS = [group for name, group in vars(layer_cases).items() if name.isupper() and isinstance(group, dict)]


class Applied(torch.nn.Module):
    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.forward = function


def as_layer(made: torch.nn.Module | Callable[..., torch.Tensor]) -> torch.nn.Module:
    return made if isinstance(made, torch.nn.Module) else Applied(made)


def numbers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return (2 * rng.normal(size=shape)).astype(np.float32)


def initial(rng: np.random.Generator, layer: torch.nn.Module) -> dict[str, np.ndarray]:
    """Numbers for a state_dict; variances are positive, and nothing was counted."""
    found = {}
    for name, tensor in layer.state_dict().items():
        array = numbers(rng, tuple(tensor.shape))
        found[name] = np.abs(array) + 0.5 if name == "running_var" else array
        if not tensor.is_floating_point():
            found[name] = tensor.numpy().copy()
    return found


def run(layer: torch.nn.Module, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    inputs = [torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in arrays]
    layer.zero_grad()
    value = layer(*inputs)
    (value * torch.from_numpy(waving(tuple(value.shape)))).sum().backward()
    found = {"value": value} | {f"gradient {number}": each.grad for number, each in enumerate(inputs)}
    found |= {f"gradient {name}": parameter.grad for name, parameter in layer.named_parameters()}
    found |= {f"state {name}": buffer for name, buffer in layer.named_buffers()}
    return {name: tensor.detach().numpy().copy() for name, tensor in found.items()}


def layer_numbers() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    stored: dict[str, np.ndarray] = {}
    for name, (call, shapes) in [item for group in GROUPS for item in group.items()]:
        for shape in shapes:
            stored.setdefault(str(shape), numbers(rng, (layer_cases.ROWS, *shape)))
        layer = as_layer(eval(call, vars(torch.nn))).double()
        state = initial(rng, layer)
        layer.load_state_dict({key: torch.tensor(array) for key, array in state.items()})
        stored |= {f"{name}|state {key}": array for key, array in state.items()}
        for number, rows in enumerate(layer_cases.batches(name)):
            found = run(layer, [stored[str(shape)][rows] for shape in shapes])
            stored |= {f"{name}|{number}|{key}": array for key, array in found.items()}
        if name in layer_cases.TRACKING:
            found = run(layer.eval(), [stored[str(shape)][:4] for shape in shapes])
            stored |= {f"{name}|eval|{key}": array for key, array in found.items()}
    return stored


if __name__ == "__main__":
    torch.set_num_threads(1)
    np.savez_compressed(GOLDEN / "torch_layers.npz", **layer_numbers())

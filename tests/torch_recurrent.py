"""Writes the numbers that recurrent layers and cells are compared with: values and gradients, from PyTorch in f64.

Run by hand where PyTorch is installed: `python tests/torch_recurrent.py`. It makes golden/torch_recurrent.npz. All
inputs, states and parameters are f32 numbers. Calls mean the same in torch.nn and graphc.nn. For each of them:

"<call>|state <key>"          the state_dict, in its order
"<call>|<variant>|input <n>"  what it is called with: x, and h and c unless there are none
"<call>|<variant>|value <n>"  output, h_n, c_n; of a cell h, c
"<call>|<variant>|gradients"  d sum(values * weights) / d inputs and parameters, one after another, with the
                              weights of `waving`

Variants are "<length>,<n>", "zeros" without states, "alone" without n.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from cotangents import waving

GOLDEN = Path(__file__).parent / "golden"

LAYERS = (
    "RNN(3, 4)",
    "RNN(3, 4, 2, 'relu', batch_first=True, bidirectional=True)",
    "RNN(2, 3, 2, bias=False)",
    "LSTM(3, 4)",
    "LSTM(3, 4, 2, bidirectional=True)",
    "LSTM(3, 17, bias=False, batch_first=True)",
    "LSTM(3, 5, 2, batch_first=True, bidirectional=True, proj_size=2)",
    "LSTM(1, 1)",
    "GRU(3, 4)",
    "GRU(3, 4, 2, batch_first=True, bidirectional=True)",
    "GRU(3, 17, bias=False)",
)
CELLS = (
    "RNNCell(3, 4)",
    "RNNCell(3, 4, bias=False, nonlinearity='relu')",
    "LSTMCell(3, 4)",
    "LSTMCell(3, 5, bias=False)",
    "GRUCell(3, 4)",
    "GRUCell(3, 5, bias=False)",
)
SIZES = {"7,6": (7, 6), "1,1": (1, 1), "zeros": (3, 2), "alone": (4,)}  # length, n


def shapes(layer: torch.nn.Module, variant: str) -> Iterator[tuple[int, ...]]:
    """Those of the inputs."""
    length, *n = SIZES[variant]
    cell = isinstance(layer, torch.nn.RNNCellBase)
    yield (*n, layer.input_size) if cell else (*((*n, length) if layer.batch_first else (length, *n)), layer.input_size)
    if variant == "zeros":
        return
    ahead = () if cell else (layer.num_layers * (1 + layer.bidirectional),)
    yield (*ahead, *n, getattr(layer, "proj_size", 0) or layer.hidden_size)
    if isinstance(layer, (torch.nn.LSTM, torch.nn.LSTMCell)):
        yield (*ahead, *n, layer.hidden_size)


def numbers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def flat(results: object) -> list[torch.Tensor]:
    return [each for part in results for each in flat(part)] if isinstance(results, tuple) else [results]


def run(layer: torch.nn.Module, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    x, *states = inputs = [torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in arrays]
    layer.zero_grad()
    values = flat(layer(x, tuple(states) if len(states) == 2 else states[0] if states else None))
    sum((value * torch.from_numpy(waving(tuple(value.shape)))).sum() for value in values).backward()
    found = {f"value {number}": each.detach().numpy() for number, each in enumerate(values)}
    gradients = [each.grad.numpy().ravel() for each in (*inputs, *layer.parameters())]
    return found | {"gradients": np.concatenate(gradients)}


def recurrent_numbers() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(6)
    stored: dict[str, np.ndarray] = {}
    for call in (*LAYERS, *CELLS):
        layer = eval(call, vars(torch.nn)).double()
        state = {key: numbers(rng, tuple(tensor.shape)) for key, tensor in layer.state_dict().items()}
        layer.load_state_dict({key: torch.tensor(array) for key, array in state.items()})
        stored |= {f"{call}|state {key}": array for key, array in state.items()}
        for variant in SIZES:
            arrays = [numbers(rng, shape) for shape in shapes(layer, variant)]
            stored |= {f"{call}|{variant}|input {number}": array for number, array in enumerate(arrays)}
            stored |= {f"{call}|{variant}|{key}": array for key, array in run(layer, arrays).items()}
    return stored


if __name__ == "__main__":
    torch.set_num_threads(1)
    np.savez_compressed(GOLDEN / "torch_recurrent.npz", **recurrent_numbers())

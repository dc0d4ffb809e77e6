"""Writes the numbers that attention is compared with: results and gradients, as PyTorch computes them in f64.

Run by hand where PyTorch is installed: `python tests/torch_attention.py`. It makes golden/torch_attention.npz. All
inputs and states are f32 numbers. Under the expressions of attention_cases.py:

"<name>"                       an input or a mask
"<group>|<n>|state <key>"      the state_dict of the layer of case n, in its order
"<group>|<n>|value <k>"        result k
"<group>|<n>|gradient <name>"  d sum(results * weights of `cotangent`) / d input or parameter
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from attention_cases import FLOATING, GROUPS, INPUTS, MASKS, SIZES, names_in

GOLDEN = Path(__file__).parent / "golden"


def sizes(shape: tuple[object, ...]) -> tuple[int, ...]:
    return tuple(eval(extent, SIZES) if isinstance(extent, str) else extent for extent in shape)


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(8)
    found = {name: rng.normal(size=sizes(shape)).astype(np.float32) for name, shape in INPUTS.items()}
    for name, shape in MASKS.items():
        hidden = rng.random(sizes(shape)) < 0.4
        hidden[..., 0] = False  # so that every place sees something
        found[name] = hidden
    found["square"] = np.triu(np.ones((SIZES["length"],) * 2, bool), 1)
    found["padded"][:, 3] = False
    found["hidden"][2] = True
    found["hidden"][2, 3] = False
    found["seen"] = ~found["seen"]
    found["seen"][1] = False
    for name in FLOATING:
        numbers = rng.normal(size=found[name].shape)
        found[name] = np.where(found[name], -np.inf, numbers).astype(np.float32)
    found["added"][4] = -np.inf
    return found


def cotangent(shape: tuple[int, ...]) -> torch.Tensor:
    """Weights of a result's elements, all different: 0.5 to 1.5."""
    return torch.from_numpy((1 + 0.5 * np.cos(np.arange(np.prod(shape)))).reshape(shape))


def initial(rng: np.random.Generator, layer: torch.nn.Module) -> dict[str, np.ndarray]:
    return {key: (rng.normal(size=t.shape) * 0.5).astype(np.float32) for key, t in layer.state_dict().items()}


def run(call: str | None, expression: str, state_of: object, stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The numbers of one case, under the end of their names."""
    space = {name: torch.tensor(array) for name, array in stored.items()}
    space = {name: t.double() if t.is_floating_point() else t for name, t in space.items()}
    inputs = {name: space[name].requires_grad_() for name in names_in(expression, INPUTS)}
    functions = {"F": torch.nn.functional, **vars(torch.nn)}
    found = {}
    if call is not None:
        layer = space["layer"] = eval(call, functions).double()
        state = state_of(layer)
        layer.load_state_dict({key: torch.tensor(array) for key, array in state.items()})
        found |= {f"state {key}": array for key, array in state.items()}
        inputs |= dict(layer.named_parameters())
    results = eval(expression, functions | space)
    results = [each for each in (results if isinstance(results, tuple) else (results,)) if each is not None]
    sum((result * cotangent(tuple(result.shape))).sum() for result in results).backward()
    found |= {f"value {number}": result.detach().numpy() for number, result in enumerate(results)}
    return found | {f"gradient {name}": tensor.grad.numpy() for name, tensor in inputs.items()}


def attention_numbers() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(9)
    inputs = arrays()
    stored = dict(inputs)
    for group, cases in GROUPS.items():
        for number, (call, expression) in enumerate(cases):
            found = run(call, expression, lambda layer: initial(rng, layer), inputs)
            stored |= {f"{group}|{number}|{key}": array for key, array in found.items()}
    return stored


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        stored = attention_numbers()
    wrong = [key for key, array in stored.items() if key not in FLOATING and not np.isfinite(array).all()]
    assert not wrong, wrong
    np.savez_compressed(GOLDEN / "torch_attention.npz", **stored)

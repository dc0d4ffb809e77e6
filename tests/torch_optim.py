"""Writes the numbers that tests of optimizers, schedules and clipping compare with, as PyTorch computes them.

Run by hand where PyTorch is installed: `python tests/torch_optim.py`. It makes golden/torch_optim.npz with

x, y, w, b                 a small regression, f64: x (20, 8, 6), y (20, 8, 3) in 20 batches, first weights w (6, 3) and
                           b (3); the loss is the mean of (tanh(x @ w + b) - y)**2
"<optimizer> <dtype> w"    and b: the weights after the steps of MOMENTS, f32 or f64 (5, 6, 3) and (5, 3)
"<schedule> lr"            the rates of two groups that start at 0.1 and 0.05, before the first step and after every
                           one, f64 (51, 2)
"<schedule> momentum"      and their momenta
"<norm> norm"              the norm of the gradients "gradient 0", "gradient 1"; "<norm> 0" and "<norm> 1" are these
                           after clip_grad_norm_(parameters, 2.0, norm), "value 0" and "value 1" after
                           clip_grad_value_(parameters, 0.5)
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from optimizer_cases import EPOCHS, FIGURES, MOMENTS, OPTIMIZERS, PLATEAUS, SCHEDULES, STEPS

GOLDEN = Path(__file__).parent / "golden"


def optimizer_numbers() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    stored = {"x": rng.normal(size=(STEPS, 8, 6)), "w": rng.normal(size=(6, 3)) / 2, "b": rng.normal(size=3) / 2}
    stored["y"] = np.tanh(stored["x"] @ rng.normal(size=(6, 3))) + 0.1 * rng.normal(size=(STEPS, 8, 3))
    for name, make in OPTIMIZERS.items():
        for dtype in (torch.float32, torch.float64):
            torch.set_default_dtype(dtype)  # NAdam keeps a product of momenta in it
            x, y, *weights = (torch.tensor(stored[key], dtype=dtype) for key in "xywb")
            w, b = (weight.requires_grad_() for weight in weights)
            optimizer = make(torch.optim, [w, b])
            seen = []
            for step in range(STEPS):
                optimizer.zero_grad()
                ((torch.tanh(x[step] @ w + b) - y[step]) ** 2).mean().backward()
                optimizer.step()
                seen.append((w.detach().clone().numpy(), b.detach().clone().numpy()))
            short = "f32" if dtype is torch.float32 else "f64"
            stored |= {f"{name} {short} {key}": np.stack([seen[at][i] for at in MOMENTS]) for i, key in enumerate("wb")}
    return stored


def schedule_numbers() -> dict[str, np.ndarray]:
    warnings.simplefilter("ignore")  # no optimizer.step() is called between steps of the schedules
    stored = {}
    for name, make in (SCHEDULES | PLATEAUS).items():
        groups = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "lr": 0.05}]
        optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
        schedule = make(torch.optim.lr_scheduler, optimizer)
        seen = [settings(optimizer)]
        for epoch in range(EPOCHS - 1):
            schedule.step(*([FIGURES[epoch]] if name in PLATEAUS else []))
            seen.append(settings(optimizer))
        stored[f"{name} lr"], stored[f"{name} momentum"] = np.array(seen).transpose(1, 0, 2)
    return stored


def settings(optimizer: torch.optim.Optimizer) -> list[list[float]]:
    return [[group[key] for group in optimizer.param_groups] for key in ("lr", "momentum")]


def clipping_numbers() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    gradients = [rng.normal(size=(4, 3)), rng.normal(size=5)]
    stored = {f"gradient {place}": gradient for place, gradient in enumerate(gradients)}
    for norm in (1.0, 2.0, 3.5, torch.inf):
        parameters = with_gradients(gradients)
        stored[f"{norm} norm"] = torch.nn.utils.clip_grad_norm_(parameters, 2.0, norm).numpy()
        stored |= {f"{norm} {place}": parameter.grad.numpy() for place, parameter in enumerate(parameters)}
    parameters = with_gradients(gradients)
    torch.nn.utils.clip_grad_value_(parameters, 0.5)
    return stored | {f"value {place}": parameter.grad.numpy() for place, parameter in enumerate(parameters)}


def with_gradients(gradients: list[np.ndarray]) -> list[torch.Tensor]:
    parameters = [torch.zeros(gradient.shape, dtype=torch.float64) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    return parameters


if __name__ == "__main__":
    torch.set_num_threads(1)
    np.savez_compressed(GOLDEN / "torch_optim.npz", **optimizer_numbers(), **schedule_numbers(), **clipping_numbers())

"""Writes the numbers the tests of losses and distances compare with: values and gradients as PyTorch computes them.

Run by hand where PyTorch is installed: `python tests/torch_losses.py`. It makes tests/golden/torch_losses.npz:

"operand <name>"  f64 whose numbers f32 has too, or i64
"<call>"          a call of torch.nn.functional on operands, which is the same in graphc.functional; f64: for each of
                  the reductions in turn (once where there is none to choose) the value, then its gradient by each
                  operand that DIFFERENTIABLE names, in that order; all flat, one after another. The gradient is that
                  of sum(value * cotangent)
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

GOLDEN = Path(__file__).parent / "golden"
DIFFERENTIABLE = ("a", "b", "c", "p", "big", "whole", "image", "row", "logs", "shares")
REDUCTIONS = ("mean", "sum", "none")

CALLS = """
mse_loss(a, b)
mse_loss(a, b, weight=element)
l1_loss(a, b)
l1_loss(a, b, weight=element)
smooth_l1_loss(a, b)
smooth_l1_loss(a, b, beta=0.5)
smooth_l1_loss(a, b, beta=0.0)
smooth_l1_loss(whole, b, beta=2.0)
huber_loss(a, b)
huber_loss(a, b, delta=0.5)
huber_loss(whole, c, delta=2.0, weight=element)
poisson_nll_loss(a, counts)
poisson_nll_loss(a, counts, full=True)
poisson_nll_loss(p, counts, log_input=False, eps=0.25)
gaussian_nll_loss(a, b, p)
gaussian_nll_loss(a, b, p, full=True, eps=0.5)
gaussian_nll_loss(a, b, column)
gaussian_nll_loss(a, b, rows)
binary_cross_entropy(p, ends)
binary_cross_entropy(p, shares, weight=element)
binary_cross_entropy(p, ends, weight=column)
binary_cross_entropy_with_logits(a, shares)
binary_cross_entropy_with_logits(a, ends, weight=element)
binary_cross_entropy_with_logits(a, shares, pos_weight=classes)
binary_cross_entropy_with_logits(whole, ends, weight=column, pos_weight=classes)
binary_cross_entropy_with_logits(big, ends)
binary_cross_entropy_with_logits(big, ends, pos_weight=classes)
kl_div(logs, shares)
kl_div(logs, holes)
kl_div(a, logs, log_target=True)
cross_entropy(a, labels)
cross_entropy(a, labels, weight=classes)
cross_entropy(a, labels, label_smoothing=0.25)
cross_entropy(a, labels, weight=classes, label_smoothing=0.25)
cross_entropy(a, some)
cross_entropy(a, some, weight=classes)
cross_entropy(a, some, weight=classes, label_smoothing=0.25)
cross_entropy(a, labels, ignore_index=2)
cross_entropy(a, labels, ignore_index=2, label_smoothing=1.0)
cross_entropy(a, shares)
cross_entropy(a, shares, weight=classes)
cross_entropy(a, holes, label_smoothing=0.25)
cross_entropy(a, shares, weight=classes, label_smoothing=0.25)
cross_entropy(image, pixels)
cross_entropy(image, pixels, weight=classes, ignore_index=0, label_smoothing=0.25)
cross_entropy(row, label)
cross_entropy(row, label, weight=classes)
cross_entropy(big, labels)
cross_entropy(big, shares, weight=classes)
cross_entropy(big, some, label_smoothing=0.25)
nll_loss(logs, labels)
nll_loss(logs, labels, weight=classes)
nll_loss(logs, some, weight=classes)
nll_loss(logs, labels, ignore_index=2)
nll_loss(image, pixels, weight=classes)
nll_loss(row, label)
multi_margin_loss(a, labels)
multi_margin_loss(whole, labels, margin=2.0)
multi_margin_loss(a, labels, p=2, margin=0.5, weight=classes)
multi_margin_loss(a, labels, weight=classes)
multi_margin_loss(row, label)
hinge_embedding_loss(a, signs)
hinge_embedding_loss(whole, signs, margin=2.0)
soft_margin_loss(a, signs)
soft_margin_loss(whole, signs)
margin_ranking_loss(a, b, signs)
margin_ranking_loss(whole, b, signs, margin=0.5)
margin_ranking_loss(whole, c, signs, margin=1.0)
cosine_embedding_loss(a, b, flags)
cosine_embedding_loss(a, b, flags, margin=0.25)
cosine_embedding_loss(row, classes, flag)
triplet_margin_loss(a, b, c)
triplet_margin_loss(a, b, c, margin=4.0, swap=True)
triplet_margin_loss(a, b, c, margin=3.0, p=1.0)
triplet_margin_loss(a, b, c, margin=3.0, p=3.0, eps=0.5)
cosine_similarity(a, b)
cosine_similarity(a, b, dim=0)
cosine_similarity(a, row, eps=4.0)
cosine_similarity(image, image, dim=-1)
pairwise_distance(a, b)
pairwise_distance(a, b, p=1.0, keepdim=True)
pairwise_distance(a, row, p=3.0, eps=0.5)
"""
WITHOUT_REDUCTION = ("cosine_similarity", "pairwise_distance")


def operands() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    a, b, c = 1.5 * rng.normal(size=(3, 5, 4))
    shares = rng.dirichlet(np.ones(4), 5)
    holes = shares * (shares > 0.2)
    floats = {
        "a": a,
        "b": b,
        "c": np.round(c),
        "p": rng.uniform(0.02, 0.98, (5, 4)),
        "big": rng.choice([-1e4, -300.0, 0.0, 300.0, 1e4], (5, 4)),
        "whole": rng.integers(-2, 3, (5, 4)),  # margins are met exactly
        "image": rng.normal(size=(2, 4, 3)),
        "row": rng.normal(size=4),
        "logs": np.log(rng.dirichlet(np.ones(4), 5)),
        "shares": shares,
        "holes": holes,
        "ends": rng.choice([0.0, 1.0, 0.25], (5, 4)),
        "counts": rng.integers(0, 6, (5, 4)),
        "signs": rng.choice([-1.0, 1.0], (5, 4)),
        "flags": np.array([1.0, -1.0, -1.0, 1.0, -1.0]),
        "flag": np.array(-1.0),
        "element": rng.uniform(0.5, 2, (5, 4)),
        "column": rng.uniform(0.5, 2, (5, 1)),
        "rows": rng.uniform(0.5, 2, 5),
        "classes": rng.uniform(0.5, 2, 4),
    }
    integers = {
        "labels": np.array([2, 0, 3, 2, 1]),
        "some": np.array([1, -100, 3, -100, 0]),
        "pixels": np.array([[0, 3, 1], [2, 0, 1]]),
        "label": np.array(1),
    }
    return {name: x.astype(np.float32).astype(np.float64) for name, x in floats.items()} | integers


def cotangent(count: int) -> torch.Tensor:
    """Weights of a result's elements, all different: 0.5 to 1.5 in row-major order; of one, 1."""
    return torch.linspace(0.5, 1.5, count, dtype=torch.float64) if count > 1 else torch.ones(1, dtype=torch.float64)


def numbers(call: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """What a call gives for every reduction: its value and its gradients, flat."""
    names = re.findall(r"\w+\b(?!=)", call)  # but those of keywords
    wanted = [name for name in DIFFERENTIABLE if name in names]
    name = names[0]
    choices = REDUCTIONS + ("batchmean",) * (name == "kl_div")
    calls = [call] if name in WITHOUT_REDUCTION else [f"{call[:-1]}, reduction={each!r})" for each in choices]
    found = []
    for each in calls:
        tensors = {name: torch.tensor(array, requires_grad=name in wanted) for name, array in arrays.items()}
        value = eval(each, vars(F) | tensors)
        (value.reshape(-1) * cotangent(value.numel())).sum().backward()
        found += [value.detach(), *(tensors[name].grad for name in wanted)]
    return np.concatenate([tensor.numpy().reshape(-1) for tensor in found])


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # that the mean of kl_div is not its definition
    arrays = operands()
    stored = {f"operand {name}": array for name, array in arrays.items()}
    stored |= {call: numbers(call, arrays) for call in CALLS.strip().splitlines()}
    np.savez_compressed(GOLDEN / "torch_losses.npz", **stored)

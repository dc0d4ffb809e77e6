"""Step times of convolutional, recurrent and attention models against PyTorch eager: one thread, interleaved.

    python tests/bench/models.py [--model lenet] [--rounds 15] [--json results/NAME.json]

Both start from the same weights and take the same batches; the largest difference of their first 20 losses is printed
beside the medians and the ratio torch / graphc (more than 1: graphc is faster). Needs torch, which graphc does not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from language_models import BATCH, LENGTH, MODELS  # noqa: E402

import graphc as gx  # noqa: E402
from graphc import nn as graphc_nn  # noqa: E402

CHARACTERS, LOSSES = 64, 20


def lenet(nn):
    """LeNet-5 with ReLU and maxima."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def resnet(nn):
    """The net of examples/resnet.py, written for both packages."""

    class Residual(nn.Module):
        def __init__(self, inputs, outputs, stride=1):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
            self.norm1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
            self.norm2 = nn.BatchNorm2d(outputs)
            self.shortcut = nn.Identity()
            if stride != 1 or inputs != outputs:
                first = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.shortcut = nn.Sequential(first, nn.BatchNorm2d(outputs))

        def forward(self, x):
            h = self.norm1(self.conv1(x)).relu()
            return (self.norm2(self.conv2(h)) + self.shortcut(x)).relu()

    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        Residual(16, 16), Residual(16, 32, 2), Residual(32, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def lstm(nn):
    """Characters in 64 numbers each, 128 states, a guess at every place."""

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.characters = nn.Embedding(CHARACTERS, 64)
            self.recurrent = nn.LSTM(64, 128, batch_first=True)
            self.scores = nn.Linear(128, CHARACTERS)

        def forward(self, x):
            states, _ = self.recurrent(self.characters(x))
            return self.scores(states)

    return Recurrent()


# name: (net for a package's nn, rows of a batch, places of a text or 0 for images, optimizer, its settings)
WORKLOADS = {
    "lenet": (lenet, 64, 0, "SGD", {"lr": 0.05}),
    "resnet": (resnet, 128, 0, "SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}),
    "lstm": (lstm, 32, 32, "SGD", {"lr": 0.5}),
    "gru": (lambda nn: MODELS["gru"](nn, CHARACTERS), BATCH, LENGTH, "AdamW", {"lr": 1e-3}),
    "transformer": (lambda nn: MODELS["transformer"](nn, CHARACTERS), BATCH, LENGTH, "AdamW", {"lr": 1e-3}),
}


def batches(rows, places):
    """As many batches as there are losses to compare, of random images or texts."""
    random = np.random.default_rng(0)
    if not places:
        x = random.standard_normal((LOSSES, rows, 1, 28, 28)).astype(np.float32)
        return list(zip(x, random.integers(0, 10, (LOSSES, rows))))
    texts = random.integers(0, CHARACTERS, (LOSSES, rows, places + 1))
    return [(text[:, :-1], text[:, 1:]) for text in texts]


def steps(name):
    """(graphc's step, torch's step, batches): both take NumPy arrays and give the loss."""
    model, rows, places, optimizer, settings = WORKLOADS[name]
    gx.manual_seed(0)
    ours, theirs = model(graphc_nn), model(torch.nn)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in ours.state_dict().items()})
    n = gx.dim("batch", max=rows)
    x, y = (gx.i64[n, places], gx.i64[n, places]) if places else (gx.f32[n, 1, 28, 28], gx.i64[n])

    def loss(scores, y):
        return gx.cross_entropy(scores.flatten(0, 1), y.flatten()) if places else gx.cross_entropy(scores, y)

    compiled = gx.train_step(ours, loss, getattr(gx.optim, optimizer)(ours.parameters(), **settings), x=x, y=y)
    updates = getattr(torch.optim, optimizer)(theirs.parameters(), **settings)

    def torch_step(x, y):
        scores, labels = theirs(torch.from_numpy(x)), torch.from_numpy(y)
        cost = torch.nn.functional.cross_entropy(scores.flatten(0, -2), labels.flatten())
        updates.zero_grad()
        cost.backward()
        updates.step()
        return cost.item()

    return (
        lambda x, y: compiled(x, y).loss.item(),
        torch_step,
        [tuple(map(np.ascontiguousarray, b)) for b in batches(rows, places)],
    )


def milliseconds(step, batch):
    start = time.perf_counter()
    step(*batch)
    return 1e3 * (time.perf_counter() - start)


def measure(name, rounds):
    ours, theirs, given = steps(name)
    apart = max(abs(ours(*batch) - theirs(*batch)) for batch in given)
    pairs = [(milliseconds(ours, given[0]), milliseconds(theirs, given[0])) for _ in range(rounds)]
    return {
        "model": name,
        "graphc_ms": round(statistics.median(a for a, _ in pairs), 3),
        "torch_ms": round(statistics.median(b for _, b in pairs), 3),
        "ratio": round(statistics.median(b / a for a, b in pairs), 2),
        "losses_apart": float(f"{apart:.1e}"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=WORKLOADS, action="append")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print(f"{'model':<14}{'graphc ms':>10}{'torch ms':>10}{'ratio':>7}{'losses apart':>14}")
    for name in options.model or WORKLOADS:
        rows.append(row := measure(name, options.rounds))
        print(
            f"{name:<14}{row['graphc_ms']:>10}{row['torch_ms']:>10}{row['ratio']:>7}{row['losses_apart']:>14}",
            flush=True,
        )
    if options.json:
        about = {"machine": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
        options.json.write_text(json.dumps({"about": about, "steps": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Language models of characters in graphc and in PyTorch: the same initial weights, the same batches in the same order.

    python tests/bench/language_models.py --text kjv.txt [--model gru] [--steps 1000]

Prints the losses of both in nats a character (training: the mean over the last 50 steps; test: the last tenth of the
text) and the milliseconds of a step, one thread each. Needs torch, which graphc itself does not.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402

import graphc as gx  # noqa: E402
from graphc import data, datasets, optim  # noqa: E402
from graphc import nn as graphc_nn  # noqa: E402

LENGTH, BATCH, LAST = 64, 32, 50
WIDTH, HEADS, BLOCKS = 128, 4, 2


def transformer(nn, characters):
    """Two blocks that normalize first, d 128, 4 heads; written once for both packages."""
    # graphc needs no mask to be causal, PyTorch does.
    hidden = None if nn is graphc_nn else torch.triu(torch.ones(LENGTH, LENGTH, dtype=torch.bool), 1)

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.characters = nn.Embedding(characters, WIDTH)
            self.places = nn.Embedding(LENGTH, WIDTH)
            settings = {"activation": "gelu", "batch_first": True, "norm_first": True}
            self.blocks = nn.ModuleList(
                nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, **settings) for _ in range(BLOCKS)
            )
            self.norm = nn.LayerNorm(WIDTH)
            self.scores = nn.Linear(WIDTH, characters)

        def forward(self, x):
            x = self.characters(x) + self.places.weight
            for block in self.blocks:
                x = block(x, src_mask=hidden, is_causal=True)
            return self.scores(self.norm(x))

    return Transformer()


def gru(nn, characters):
    """One GRU layer of 128."""

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.characters = nn.Embedding(characters, WIDTH)
            self.recurrent = nn.GRU(WIDTH, WIDTH, batch_first=True)
            self.scores = nn.Linear(WIDTH, characters)

        def forward(self, x):
            states, _ = self.recurrent(self.characters(x))
            return self.scores(states)

    return Recurrent()


MODELS = {"transformer": transformer, "gru": gru}


def windows(numbers):
    """Pieces of a text and the same one character on."""
    count = (len(numbers) - 1) // LENGTH * LENGTH
    return numbers[:count].reshape(-1, LENGTH), numbers[1 : count + 1].reshape(-1, LENGTH)


def batches(pieces, steps):
    """The rows of each step: epochs in the orders of graphc's loader."""
    loader = data.DataLoader(data.TensorDataset(*pieces), BATCH, shuffle=True, drop_last=True, seed=1)
    epochs = -(-steps // len(loader))
    orders = [loader.epoch_order(epoch)[: len(loader) * BATCH].reshape(-1, BATCH) for epoch in range(epochs)]
    return np.concatenate(orders)[:steps]


def train(step, pieces, steps):
    """(losses of all steps, median milliseconds of one)."""
    losses, times = [], []
    for rows in batches(pieces, steps):
        x, y = (part[rows] for part in pieces)
        start = time.perf_counter()
        losses.append(step(x, y).item())
        times.append(time.perf_counter() - start)
    return losses, 1e3 * statistics.median(times)


def test(step, pieces):
    """The mean loss over whole batches."""
    count = len(pieces[0]) // BATCH
    return np.mean([step(*(part[k * BATCH : (k + 1) * BATCH] for part in pieces)).item() for k in range(count)])


def graphc_steps(net, lr):
    n = gx.dim("batch", max=BATCH)
    x, y = gx.u8[n, LENGTH], gx.u8[n, LENGTH]

    def loss(scores, y):
        return gx.cross_entropy(scores.flatten(0, 1), y.flatten())

    step = gx.train_step(net, loss, optim.AdamW(net.parameters(), lr=lr), x=x, y=y)
    evaluate = gx.eval_step(net, loss, x=x, y=y)
    return lambda x, y: step(x, y).loss, lambda x, y: evaluate(x, y).loss


def torch_steps(net, lr):
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr)

    def loss(x, y):
        x, y = (torch.from_numpy(part.astype(np.int64)) for part in (x, y))
        return torch.nn.functional.cross_entropy(net(x).flatten(0, 1), y.flatten())

    def step(x, y):
        cost = loss(x, y)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        return cost

    return step, torch.no_grad()(loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, help="a file of text; the bundled sample if left out")
    parser.add_argument("--model", choices=MODELS, default="transformer")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    gx.manual_seed(options.seed)
    text = options.text.read_text(encoding="utf-8") if options.text else datasets.genesis()
    alphabet = {character: number for number, character in enumerate(sorted(set(text)))}
    numbers = np.array([alphabet[character] for character in text], np.uint8)
    end = len(numbers) * 9 // 10
    pieces, others = windows(numbers[:end]), windows(numbers[end:])
    ours, theirs = (MODELS[options.model](nn, len(alphabet)) for nn in (graphc_nn, torch.nn))
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in ours.state_dict().items()})
    print(f"{options.model}: {sum(p.numel() for p in theirs.parameters()):,} parameters, {options.steps} steps")
    for name, (step, evaluate) in (
        ("graphc", graphc_steps(ours, options.lr)),
        ("torch", torch_steps(theirs, options.lr)),
    ):
        losses, milliseconds = train(step, pieces, options.steps)
        print(
            f"{name:<8} first {losses[0]:.4f}  training {np.mean(losses[-LAST:]):.4f}  "
            f"test {test(evaluate, others):.4f}  {milliseconds:.1f} ms a step"
        )


if __name__ == "__main__":
    main()

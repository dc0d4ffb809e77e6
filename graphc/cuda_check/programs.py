"""The steps that are checked and timed: the workloads of `graphc.bench`, and what those have not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import graphc as gx
from graphc import functional, nn
from graphc.bench.systems import graphc as ours
from graphc.bench.workloads import CHARACTERS, HIDDEN, LENGTH, WORKLOADS, Array, Initial, Workload, points, stack, text
from graphc.function import Function

SMALL_BATCH, SMALL_STEPS, SMALL_ELEMENTS = 7, 3, 5000
WIDE = 4096  # of the large layers
PLACES, HEAD = 100, 64  # of attention: how many, and the size of a head's vectors
CHAIN_ELEMENTS = 1 << 26  # of the elementwise chain: more than any cache holds


@dataclass(frozen=True)
class Program:
    """A training step, and the data it is given.

    batch  samples of a step; 0 for a step without data
    steps  of an epoch
    make   the step, for a device; equal weights every time
    draw   the arrays of so many samples
    """

    name: str
    title: str
    batch: int
    steps: int
    make: Callable[[str], Function]
    draw: Callable[[int], tuple[Array, ...]]

    def batches(self) -> list[tuple[Array, ...]]:
        """The data of an epoch, step by step."""
        if not self.batch:
            return [()] * self.steps
        data = self.draw(self.batch * self.steps)
        starts = range(0, len(data[0]), self.batch)
        return [tuple(each[start : start + self.batch] for each in data) for start in starts]


def of_workload(workload: Workload, precision: str = "highest") -> Program:
    def make(device: str) -> Function:
        return ours.compiled(workload, workload.weights(), device, precision if device == "cuda" else "highest")

    def draw(count: int) -> tuple[Array, ...]:
        return workload.draw(np.random.default_rng(7), count)

    return Program(workload.name, workload.title, workload.batch, workload.steps, make, draw)


LARGE = Workload(
    "L1", f"MLP of 3 layers of {WIDE}, batch {WIDE}, SGD", "layers", WIDE, 2, "sgd", 0.05, stack(*[WIDE] * 4),
    points(WIDE), activation="relu", features=(WIDE,),
)  # fmt: skip
CHAIN = replace(
    WORKLOADS["W7"], title=f"elementwise chain over {CHAIN_ELEMENTS:,}", initial={"x": Initial((CHAIN_ELEMENTS,), 2.0)}
)
TIMED = {
    workload.name: workload
    for workload in (WORKLOADS["W3"], LARGE, CHAIN, *(WORKLOADS[f"W{number}"] for number in (9, 4, 6, 8, 10)))
}


def timed(small: bool) -> dict[str, Workload]:
    """What is timed beside peers, the most wanted figures first."""
    return {name: smaller(each) if small else each for name, each in TIMED.items()}


def smaller(workload: Workload) -> Workload:
    batch = min(workload.batch, SMALL_BATCH)
    if workload.model == "chain":
        return replace(workload, initial={"x": Initial((SMALL_ELEMENTS,), 2.0)}, steps=SMALL_STEPS)
    if workload is LARGE:
        return replace(
            workload, batch=batch, steps=SMALL_STEPS, initial=stack(*[64] * 4), draw=points(64), features=(64,)
        )
    return replace(workload, batch=batch, steps=SMALL_STEPS)


def programs(small: bool) -> dict[str, Program]:
    """What is checked: every kind of kernel there is."""
    loads = [smaller(each) if small else each for each in WORKLOADS.values()]
    made = [of_workload(each) for each in loads]
    made += [classifier(name, title, net, small) for name, (title, net) in NETS.items()]
    made += [gru(small), attention(small), margin(small)]
    return {each.name: each for each in made}


# -- models that no workload has


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(8, 16, 3, stride=2), nn.SiLU(), nn.Flatten(), nn.Linear(576, 10),
    )  # fmt: skip


def normalized() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 100), nn.LayerNorm(100), nn.GELU(), nn.Dropout(0.2), nn.Linear(100, 37),
        nn.Softplus(), nn.Linear(37, 10),
    )  # fmt: skip


NETS = {
    "conv": ("convolutions with batch norm and average pooling, AdamW", convolutions),
    "norm": ("layer norm, GELU, dropout and softplus, AdamW", normalized),
}


def classifier(name: str, title: str, net_of: Callable[[], nn.Module], small: bool) -> Program:
    batch = SMALL_BATCH if small else 64

    def make(device: str) -> Function:
        gx.manual_seed(5)
        net, n = net_of(), gx.dim("batch", max=batch)
        adamw = gx.optim.AdamW(net.parameters(), lr=0.001)
        x, y = gx.f32[n, 1, 28, 28], gx.i64[n]
        return gx.train_step(net, nn.CrossEntropyLoss(), adamw, x=x, y=y, metrics=["accuracy"], device=device)

    return Program(name, title, batch, SMALL_STEPS if small else 20, make, images)


def images(count: int) -> tuple[Array, ...]:
    return WORKLOADS["W6"].draw(np.random.default_rng(7), count)


class Recurrent(nn.Module):
    """Numbers of characters [n, length] -> scores of the next ones."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(CHARACTERS, HIDDEN)
        self.recurrent = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.scores = nn.Linear(HIDDEN, CHARACTERS)

    def forward(self, x: Any) -> Any:
        states, _ = self.recurrent(self.characters(x))
        return self.scores(states)


def gru(small: bool) -> Program:
    return of_text("gru", f"character GRU of {HIDDEN}", Recurrent, LENGTH, gx.optim.SGD, 0.3, small)


class Attending(nn.Module):
    """The same by a block of causal attention, whose weights drop out; its length is no multiple of any tile's."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(CHARACTERS, 2 * HEAD)
        self.block = nn.TransformerEncoderLayer(2 * HEAD, 2, 2 * HEAD, 0.1, batch_first=True, norm_first=True)
        self.scores = nn.Linear(2 * HEAD, CHARACTERS)

    def forward(self, x: Any) -> Any:
        return self.scores(self.block(self.characters(x), is_causal=True))


def attention(small: bool) -> Program:
    title = f"causal attention over {PLACES} places"
    return of_text("attention", title, Attending, PLACES, gx.optim.AdamW, 0.001, small)


def of_text(
    name: str, title: str, module: type[nn.Module], length: int, optimizer: Any, rate: float, small: bool
) -> Program:
    """A net that tells every character of a text of so many."""
    batch = SMALL_BATCH if small else 32

    def make(device: str) -> Function:
        gx.manual_seed(5)
        net, kind = module(), gx.i64[gx.dim("batch", max=batch), length]
        return gx.train_step(net, scored, optimizer(net.parameters(), lr=rate), x=kind, y=kind, device=device)

    def draw(count: int) -> tuple[Array, ...]:
        return text(length)(np.random.default_rng(7), count)

    title = f"{title}, batch {batch}, {optimizer.__name__}"
    return Program(name, title, batch, SMALL_STEPS if small else 20, make, draw)


def scored(scores: gx.Tensor, y: gx.Tensor) -> gx.Tensor:
    return functional.cross_entropy(scores.flatten(0, 1), y.flatten())


def margin(small: bool) -> Program:
    batch = SMALL_BATCH if small else 100

    def make(device: str) -> Function:
        w, b = gx.parameter("w", np.zeros((2, 1), np.float32)), gx.parameter("b", np.zeros(1, np.float32))
        n = gx.dim("batch", max=batch)
        x, y = gx.input("x", gx.f32[n, 2]), gx.input("y", gx.f32[n, 1])
        score = x @ w + b
        loss = gx.maximum(0, 1 - y * score).mean() + 0.005 * (w**2).sum()
        slopes = gx.grad(loss, [w, b])
        updates = {each: each - 0.1 * slope for each, slope in zip((w, b), slopes, strict=True)}
        outputs = {"loss": loss, "accuracy": (score * y > 0).mean()}
        return gx.function([x, y], outputs, updates=updates, name="margin", device=device)

    def draw(count: int) -> tuple[Array, ...]:
        random = np.random.default_rng(2)
        labels = random.choice([-1.0, 1.0], (count, 1)).astype(np.float32)
        return (labels * [1.5, 1.0] + 0.7 * random.standard_normal((count, 2))).astype(np.float32), labels

    title, steps = f"linear support vector machine, batch {batch}", SMALL_STEPS if small else 20
    return Program("svm", title, batch, steps, make, draw)

"""The steps whose pictures are looked at in a browser and kept in the documentation, and what can be wrong there."""

from __future__ import annotations

import runpy
import sys
from functools import cache
from pathlib import Path

import numpy as np

import graphc as gx
from graphc import datasets, nn, optim
from graphc.function import Function

EXAMPLES = Path(__file__).parent.parent / "examples"


@cache
def example(name: str) -> dict:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="pictured")


def mlp() -> Function:
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    batch = gx.dim("batch", max=256)
    types = {"x": gx.f32[batch, 1, 28, 28], "y": gx.i64[batch]}
    opt = optim.SGD(net.parameters(), lr=0.1)
    return gx.train_step(net, nn.CrossEntropyLoss(), opt, metrics=["accuracy"], **types)


def lenet() -> Function:
    return example("lenet")["step"]


def gru() -> Function:
    found = example("character_gru")
    net = found["CharacterModel"](50)
    return gx.train_step(net, found["loss"], optim.Adam(net.parameters(), lr=2e-3), x=found["x"], y=found["y"])


def transformer(blocks: int = 2) -> Function:
    found = example("transformer")
    found["Transformer"].__init__.__globals__["BLOCKS"] = blocks
    net = found["Transformer"](50)
    return gx.train_step(net, found["loss"], optim.AdamW(net.parameters(), lr=1e-3), x=found["x"], y=found["y"])


def adam() -> Function:
    """One layer, so that what is seen is the optimizer."""
    net = nn.Linear(64, 32)
    types = {"x": gx.f32["batch", 64], "y": gx.f32["batch", 32]}
    return gx.train_step(net, nn.MSELoss(), optim.Adam(net.parameters(), lr=1e-3), **types)


def chain(length: int = 24) -> Function:
    """More than 3,000 ops of which none can be left out but those of the updates."""
    net = nn.Sequential(*[layer for _ in range(length) for layer in (nn.Linear(8, 8), nn.LayerNorm(8), nn.Tanh())])
    types = {"x": gx.f32["batch", 8], "y": gx.f32["batch", 8]}
    return gx.train_step(net, nn.MSELoss(), optim.Adam(net.parameters()), **types)


def looping() -> Function:
    """A scan, a branch of two sides, and their gradients."""
    x, p = gx.input("x", gx.f32[6, 3]), gx.input("p", gx.f32[3])
    w = gx.parameter("w", [[1.0, 0.0, 0.0]] * 3)
    last, _ = gx.scan(lambda h, row: (gx.tanh(h @ w + row), h), gx.zeros(3), x)
    y = gx.cond(p.sum() > 0, gx.exp, lambda a: a * 2, last)
    loss = (y**2).sum()
    return gx.function([x, p], loss, updates={w: w - 0.1 * gx.grad(loss, w)}, name="looping")


STEPS = {step.__name__: step for step in (mlp, lenet, gru, transformer, adam)}

LEVELS = ("layers", "graph", "kernels")
KEPT = Path(gx.__file__).parent / "docs" / "pictures"


def write_kept(folder: Path = KEPT) -> None:
    """The pictures of the documentation."""
    folder.mkdir(exist_ok=True)
    for name, step in STEPS.items():
        built = transformer(12) if name == "transformer" else step()
        for level in LEVELS:
            built.to_svg(folder / f"{name}_{level}.svg", level=level)
    looping().to_svg(folder / "looping_graph.svg", level="graph")
    mlp().to_svg(folder / "mlp_operations.svg", level="kernels", color="operations")
    write_measured(folder)


def write_measured(folder: Path = KEPT) -> None:
    """Those that show what this machine took."""
    step, images = mlp(), datasets.fashion_mnist_sample()
    step.profile(images.x_train[:256].astype(np.float32) / 255, images.y_train[:256])
    step.to_svg(folder / "mlp_time.svg", level="kernels", color="time")
    text = np.random.default_rng(0).integers(0, 50, (64, 65)).astype(np.uint8)
    gru().profile(text[:, :-1], text[:, 1:], threads=1).to_svg(folder / "gru_bars.svg", level="bars")


# Of the texts and cards of the level that is shown, by their boxes as the browser draws them: what is cut off, what
# runs out of its card, which texts lie on each other, which cards, which labels on cards.
FAULTS = """
(() => {
  const svg = document.querySelector(".level.shown svg"), faults = [];
  const paper = svg.querySelector("rect.paper").getBBox();
  const boxes = (what, name) =>
    [...svg.querySelectorAll(what)].map(element => ({ element, box: element.getBBox(), is: name(element) }));
  const texts = boxes("text", element => element.textContent);
  const cards = boxes("[data-key] > rect.card", element => element.parentNode.dataset.key);
  const inside = (one, other, by) => one.x >= other.x - by && one.y >= other.y - by &&
    one.x + one.width <= other.x + other.width + by && one.y + one.height <= other.y + other.height + by;
  const apart = (one, other) => one.x + one.width <= other.x + .5 || other.x + other.width <= one.x + .5 ||
    one.y + one.height <= other.y + 2.5 || other.y + other.height <= one.y + 2.5;
  const pairs = (items, what) => {
    items.sort((a, b) => a.box.y - b.box.y);
    for (let i = 0; i < items.length; i++)
      for (let j = i + 1; j < items.length && items[j].box.y < items[i].box.y + items[i].box.height; j++)
        if (!apart(items[i].box, items[j].box)) faults.push(`${what}: ${items[i].is} | ${items[j].is}`);
  };
  for (const text of texts) {
    if (!inside(text.box, paper, 0)) faults.push(`cut off: ${text.is}`);
    const card = text.element.closest("[data-key]:not(.module)")?.querySelector(":scope > rect.card");
    if (card && !inside(text.box, card.getBBox(), 1)) faults.push(`out of its card: ${text.is}`);
    text.free = !card;
  }
  for (const card of cards) if (!inside(card.box, paper, 0)) faults.push(`cut off: ${card.is}`);
  pairs(texts, "text on text");
  pairs([...cards], "card on card");
  for (const text of texts.filter(each => each.free))
    for (const card of cards) if (!apart(text.box, card.box)) faults.push(`label on card: ${text.is} | ${card.is}`);
  return faults;
})()
"""

if __name__ == "__main__":
    write_kept(*map(Path, sys.argv[1:]))

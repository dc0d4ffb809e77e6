"""A linear support vector machine: hinge loss and a penalty on the weights, by stochastic subgradient descent.

python examples/linear_svm.py --plot pictures

The loss is max(0, 1 - y (w x + b)) for labels y of -1 and 1, plus l2 |w|^2 / 2: a wide margin between the dashed lines
costs less (Cortes and Vapnik 1995; Shalev-Shwartz et al. 2007).

expected: accuracy 0.997, and 1.38 from one dashed line to the other
"""

import argparse

import numpy as np

import graphc as gx
from graphc import data, plots

random = np.random.default_rng(2)
labels = random.choice([-1.0, 1.0], (400, 1)).astype(np.float32)
features = (labels * [1.5, 1.0] + 0.7 * random.standard_normal((400, 2))).astype(np.float32)

w = gx.parameter("w", np.zeros((2, 1)))
b = gx.parameter("b", np.zeros(1))
lr = gx.scalar("lr", 0.1)
l2 = 0.01


def hinge_loss(score, y):
    return gx.maximum(0, 1 - y * score).mean()


@gx.step
def step(X: gx.f32["batch", 2], y: gx.f32["batch", 1]):
    score = X @ w + b
    loss = hinge_loss(score, y) + l2 / 2 * (w**2).sum()
    loss.backward()
    with gx.no_grad():
        for p in (w, b):
            p -= lr * p.grad
    return {"loss": loss, "accuracy": (score * y > 0).mean()}


def main(epochs=30, plot=None):
    loader = data.DataLoader(data.TensorDataset(features, labels), batch_size=10, shuffle=True, seed=1)
    for epoch in range(epochs):
        step.set(lr=0.1 / (1 + epoch))
        record = step.epoch(loader)
    margin = 2 / np.linalg.norm(w.numpy())
    print(f"loss {record.loss:.4f}  accuracy {record.accuracy:.3f}  margin {margin:.2f}")
    if plot:
        path = f"{plot}/linear_svm.svg"
        plots.plot_boundary(features, labels, lambda x: x @ w.numpy() + b.numpy(), path, levels=[-1, 0, 1])
    return record.accuracy, margin


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--plot", metavar="FOLDER")
    main(**vars(parser.parse_args()))

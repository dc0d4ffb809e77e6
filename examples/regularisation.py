"""Over-fitting, and weight decay against it: 20 samples, 200 weights, one compiled step for every strength.

python examples/regularisation.py --plot pictures

Without the penalty l2 |w|^2 / 2 the line passes through every training sample and misses the others.

expected: l2 = 0 training loss 0.0000, validation 75; l2 = 3 training 0.0006, validation 0.015
"""

import argparse

import numpy as np

import graphc as gx
from graphc import plots

inputs, train_size, validation_size = 200, 20, 100
random = np.random.default_rng(1)
X_data = random.standard_normal((train_size + validation_size, inputs), np.float32)
y_data = X_data.sum(axis=1, keepdims=True) * 0.01 + 0.05
y_data += 0.01 * random.standard_normal(y_data.shape, np.float32)
train_set = X_data[:train_size], y_data[:train_size]
validation_set = X_data[train_size:], y_data[train_size:]

w = gx.parameter("w", np.zeros((inputs, 1)))
b = gx.parameter("b", np.zeros(1))
l2 = gx.scalar("l2", 0.0)
lr = 0.01


def squared_loss(X, y):
    return ((X @ w + b - y) ** 2 / 2).mean()


@gx.step
def step(X: gx.f32["batch", 200], y: gx.f32["batch", 1]):
    fit = squared_loss(X, y)
    loss = fit + l2 * (w**2).sum() / 2
    loss.backward()
    with gx.no_grad():
        for p in (w, b):
            p -= lr * p.grad
    return fit


@gx.step
def validate(X: gx.f32["batch", 200], y: gx.f32["batch", 1]):
    return squared_loss(X, y)


def main(epochs=200, plot=None):
    found = {}
    for strength in (0.0, 3.0):
        w.copy_(np.random.default_rng(2).standard_normal((inputs, 1)))
        b.zero_()
        step.set(l2=strength)
        curves = {"training": [], "validation": []}
        for _ in range(epochs):
            curves["training"].append(step(*train_set))
            curves["validation"].append(validate(*validation_set))
        trained, validated = (float(curve[-1]) for curve in curves.values())
        found[strength] = trained, validated
        norm = np.linalg.norm(w.numpy())
        print(f"l2 = {strength:g}  training loss {trained:.4f}  validation loss {validated:.4f}  |w| {norm:.2f}")
        if plot:
            placed = {name: (range(1, epochs + 1), curve) for name, curve in curves.items()}
            plots.plot_curves(placed, f"{plot}/l2_{strength:g}.svg", yscale="log")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--plot", metavar="FOLDER")
    main(**vars(parser.parse_args()))

"""Logistic regression from scratch: sigmoid, binary cross entropy, and an update written by hand.

expected: binary_loss([1, 0, 0, 1], [.9, .1, .2, .8]) = 0.164252033486018; accuracy 0.954
"""

import argparse

import numpy as np

import graphc as gx
from graphc import data, plots

# Two clouds of points, around (-1, -1) and (1, 1).
random = np.random.default_rng(1)
labels = random.integers(0, 2, (1000, 1)).astype(np.float32)
features = ((2 * labels - 1) + 0.8 * random.standard_normal((1000, 2))).astype(np.float32)

w = gx.parameter("w", 0.01 * random.standard_normal((2, 1)))
b = gx.parameter("b", np.zeros(1))
lr = 0.1


def logistic(X):
    return 1 / (1 + gx.exp(-(X @ w + b)))


def binary_loss(y, y_hat):
    return -(y * gx.log(y_hat) + (1 - y) * gx.log(1 - y_hat)).mean()


@gx.step
def step(X: gx.f32["batch", 2], y: gx.f32["batch", 1]):
    y_hat = logistic(X)
    loss = binary_loss(y, y_hat)
    loss.backward()
    with gx.no_grad():
        for p in (w, b):
            p -= lr * p.grad
    return {"loss": loss, "accuracy": ((y_hat > 0.5).float() == y).mean()}


@gx.step
def binary_loss_in_float64(y: gx.f64["n"], y_hat: gx.f64["n"]):
    return binary_loss(y, y_hat)


def main(epochs=10, plot=None):
    by_hand = binary_loss_in_float64([1, 0, 0, 1], [0.9, 0.1, 0.2, 0.8])
    print(f"binary_loss([1, 0, 0, 1], [.9, .1, .2, .8]) = {by_hand:.15f}")
    loader = data.DataLoader(data.TensorDataset(features, labels), batch_size=10, shuffle=True, seed=1)
    for epoch in range(epochs):
        record = step.epoch(loader)
        print(f"epoch {epoch + 1:>2}  loss {record.loss:.4f}  accuracy {record.accuracy:.3f}")
    if plot:
        path = f"{plot}/logistic_regression.svg"
        plots.plot_boundary(features, labels, lambda x: x @ w.numpy() + b.numpy(), path)
    return by_hand, record.accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--plot", metavar="FOLDER")
    main(**vars(parser.parse_args()))

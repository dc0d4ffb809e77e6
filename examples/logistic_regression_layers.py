"""Logistic regression with layers: nn.Linear and BCEWithLogitsLoss, which takes the sigmoid into the loss.

expected: accuracy 0.954
"""

import argparse

import numpy as np

import graphc as gx
from graphc import data, nn, optim, plots

gx.manual_seed(1)
random = np.random.default_rng(1)
labels = random.integers(0, 2, (1000, 1)).astype(np.float32)
features = ((2 * labels - 1) + 0.8 * random.standard_normal((1000, 2))).astype(np.float32)


def accuracy(logits, y):
    return ((logits > 0).float() == y).mean()


net = nn.Linear(2, 1)
optimizer = optim.SGD(net.parameters(), lr=0.1)
x, y = gx.f32["batch", 2], gx.f32["batch", 1]
step = gx.train_step(net, nn.BCEWithLogitsLoss(), optimizer, x=x, y=y, metrics=[accuracy])


def main(epochs=10, plot=None):
    loader = data.DataLoader(data.TensorDataset(features, labels), batch_size=10, shuffle=True, seed=1)
    curves = [plots.LivePlot(f"{plot}/logistic_curves.svg")] if plot else []
    history = gx.fit(step, loader, epochs, callbacks=curves, verbose=True)
    return history["accuracy"][-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--plot", metavar="FOLDER")
    main(**vars(parser.parse_args()))

"""Linear regression from scratch: parameters, a loss, and an update written by hand.

The body of `step` is the loop body of a PyTorch course, traced once and compiled.

expected: w 2.00 and -3.40, b 4.20, each within 0.01
"""

import numpy as np

import graphc as gx
from graphc import data

true_w, true_b = np.array([[2.0], [-3.4]], np.float32), 4.2
random = np.random.default_rng(1)
features = random.standard_normal((1000, 2), np.float32)
labels = features @ true_w + np.float32(true_b) + 0.01 * random.standard_normal((1000, 1), np.float32)

w = gx.parameter("w", 0.01 * random.standard_normal((2, 1), np.float32))
b = gx.parameter("b", np.zeros(1, np.float32))
lr = 0.03


def linreg(X, w, b):
    return X @ w + b


def squared_loss(y_hat, y):
    return (y_hat - y) ** 2 / 2


@gx.step
def step(X: gx.f32["batch", 2], y: gx.f32["batch", 1]):
    l = squared_loss(linreg(X, w, b), y)
    l.sum().backward()
    with gx.no_grad():
        for p in (w, b):
            p -= lr * p.grad / X.shape[0]
            p.grad.zero_()
    return l.mean()


def main(epochs=3):
    for epoch in range(epochs):
        for X, y in data.DataLoader(data.TensorDataset(features, labels), batch_size=10, shuffle=True, seed=epoch):
            loss = step(X, y)
        print(f"epoch {epoch + 1}, loss {loss:.6f}")
    print("w", w.numpy().ravel(), "b", b.numpy())
    return [*w.numpy().ravel(), *b.numpy()]


if __name__ == "__main__":
    main()

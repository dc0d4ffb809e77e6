"""What the learning rate does: too small crawls, too large oscillates and then diverges.

python examples/learning_rates.py --plot pictures

Gradient descent on a quadratic loss converges for rates below 2 / (largest curvature). The curvatures here are 1 and
0.1, so the border is at 2. The rate is a run-time number: one compiled step serves all.

expected: loss after 50 steps 0.23, 0.018 and 0.0000 for rates 0.01, 0.1 and 1; 0.003 for 1.95; 6900 for 2.1
"""

import argparse

import numpy as np

import graphc as gx
from graphc import plots

RATES = (0.01, 0.1, 1.0, 1.95, 2.1)
random = np.random.default_rng(1)
across, _ = np.linalg.qr(random.standard_normal((100, 2)))
x_data = (across * np.sqrt([100, 10])).astype(np.float32)  # mean of x x' is [[1, 0], [0, 0.1]]
y_data = x_data @ np.array([[1], [1]], np.float32)

w = gx.parameter("w", np.zeros((2, 1)))
lr = gx.scalar("lr", 0.1)


@gx.step
def step(x: gx.f32["batch", 2], y: gx.f32["batch", 1]):
    loss = ((x @ w - y) ** 2 / 2).mean()
    loss.backward()
    with gx.no_grad():
        w.sub_(lr * w.grad)
    return loss


def main(steps=50, plot=None):
    curves, losses = {}, {}
    for rate in RATES:
        w.zero_()
        step.set(lr=rate)
        curve = [float(step(x_data, y_data)) for _ in range(steps + 1)]
        curves[f"rate {rate:g}"], losses[rate] = (range(steps + 1), curve), curve[-1]
        print(f"rate {rate:<4g}  loss after {steps} steps {curve[-1]:.3g}")
    if plot:
        plots.plot_curves(curves, f"{plot}/learning_rates.svg", xlabel="step", yscale="log")
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--plot", metavar="FOLDER")
    main(**vars(parser.parse_args()))

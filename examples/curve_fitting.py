"""Fit a curve with a sum of sigmoids, or of ReLUs: y = c1 s(w1 x + b1) + ... + cn s(wn x + bn) + d.

python examples/curve_fitting.py --activation relu --plot pictures

Each sigmoid is a soft stair, each ReLU a bend; with enough of them, the sum follows any curve (Cybenko 1989).

expected: mean squared error 0.0021 with 30 sigmoids and 0.0022 with 30 ReLUs; the noise in the data alone is 0.0025
"""

import argparse

import numpy as np

import graphc as gx
from graphc import optim, plots

UNITS = 30
random = np.random.default_rng(1)
x_data = np.linspace(-3, 3, 200, dtype=np.float32)[:, None]
y_data = (np.sin(2 * x_data) + 0.3 * x_data + 0.05 * random.standard_normal(x_data.shape)).astype(np.float32)
ACTIVATIONS = {"sigmoid": gx.sigmoid, "relu": gx.relu}


def main(activation="sigmoid", steps=4000, plot=None):
    bend = ACTIVATIONS[activation]
    w = gx.parameter("w", random.choice([-2.0, 2.0], (1, UNITS)))
    b = gx.parameter("b", -w.numpy()[0] * np.linspace(-3, 3, UNITS))  # the stairs and bends lie evenly over the data
    c = gx.parameter("c", 0.1 * random.standard_normal((UNITS, 1)))
    d = gx.parameter("d", np.zeros(1))
    optimizer = optim.Adam([w, b, c, d], lr=0.01)

    def curve(x):
        return bend(x @ w + b) @ c + d

    @gx.step
    def step(x: gx.f32["n", 1], y: gx.f32["n", 1]):
        loss = ((curve(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    @gx.step
    def fitted(x: gx.f32["n", 1]):
        return curve(x)

    for number in range(steps):
        loss = step(x_data, y_data)
        if number % max(steps // 10, 1) == 0:
            print(f"step {number:>5}  mean squared error {loss:.4f}")
    y_hat = fitted(x_data)
    error = float(((y_hat - y_data) ** 2).mean())
    print(f"{UNITS} {activation}s: mean squared error {error:.4f}")
    if plot:
        curves = {f"{UNITS} {activation}s": (x_data, y_hat)}
        plots.plot_curves(curves, f"{plot}/curve_{activation}.svg", points=(x_data, y_data), xlabel="x", ylabel="y")
    return error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--activation", choices=ACTIVATIONS)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--plot", metavar="FOLDER")
    main(**vars(parser.parse_args()))

"""Stochastic gradient descent with momentum and weight decay as a class of one's own, beside optim.SGD.

expected: after 3 epochs the weights of the two differ by less than 0.00001
"""

import argparse

import numpy as np

import graphc as gx
from graphc import data, nn, optim

BATCH = gx.dim("batch", max=64)
random = np.random.default_rng(1)
x_data = random.standard_normal((2000, 8), np.float32)
y_data = np.sin(x_data[:, :1]) + 0.5 * x_data[:, 1:2]
settings = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.001}


class SGD:
    """v = momentum v + (gradient + weight_decay p);  p = p - lr v"""

    def __init__(self, parameters, lr, momentum, weight_decay):
        self.parameters = list(parameters)
        self.velocities = [gx.parameter("velocity", np.zeros_like(p.numpy())) for p in self.parameters]
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay

    def zero_grad(self):
        for p in self.parameters:
            p.grad = None

    def step(self):
        with gx.no_grad():
            for p, v in zip(self.parameters, self.velocities):
                v.copy_(self.momentum * v + p.grad + self.weight_decay * p)
                p -= self.lr * v


def make_step(kind):
    """A net that starts from seed 1, and its training step with an optimizer of that kind."""
    gx.manual_seed(1)
    net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = kind(net.parameters(), **settings)

    @gx.step
    def step(x: gx.f32[BATCH, 8], y: gx.f32[BATCH, 1]):
        optimizer.zero_grad()
        loss = gx.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        return {"loss": loss}

    return net, step


def main(epochs=3):
    nets = []
    for kind in (SGD, optim.SGD):
        net, step = make_step(kind)
        loader = data.DataLoader(data.TensorDataset(x_data, y_data), batch_size=64, shuffle=True, seed=1)
        for epoch in range(epochs):
            print(f"{kind.__module__}.{kind.__name__}  epoch {epoch + 1}  loss {step.epoch(loader).loss:.4f}")
        nets.append(net)
    ours, theirs = (net.state_dict() for net in nets)
    difference = max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours)
    print(f"largest difference of a weight: {difference:.1e}")
    return difference


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int)
    main(**vars(parser.parse_args()))

"""One's own module: LogReg with weights randn / inputs, softmax and logarithm written out, NLL loss, Adam.

expected: test accuracy 0.82 on the bundled sample after 10 epochs, 0.85 with --full (Fashion-MNIST, 60,000 images)
"""

import argparse

import graphc as gx
from graphc import data, datasets, nn, optim

BATCH = gx.dim("batch", max=256)
x, y = gx.f32[BATCH, 1, 28, 28], gx.i64[BATCH]
gx.manual_seed(1)


class LogReg(nn.Module):
    """log(softmax(x W + b)) of images as rows; dims are (inputs, classes)."""

    def __init__(self, dims):
        super().__init__()
        self.W = nn.Parameter(gx.randn(dims) / dims[0])
        self.b = nn.Parameter(gx.zeros(dims[1]))

    def forward(self, x):
        z = gx.flatten(x, 1) @ self.W + self.b
        powers = gx.exp(z)
        probabilities = powers / powers.sum(dim=1, keepdim=True)
        return gx.log(probabilities)


net = LogReg((784, 10))
optimizer = optim.Adam(net.parameters(), lr=0.003)
step = gx.train_step(net, nn.NLLLoss(), optimizer, x=x, y=y, metrics=["accuracy"])
test = gx.eval_step(net, nn.NLLLoss(), x=x, y=y, metrics=["accuracy"])


def main(epochs=10, full=False):
    images = datasets.fashion_mnist(sample=not full)
    loader = data.DataLoader(data.TensorDataset(images.x_train, images.y_train), 256, shuffle=True, seed=1)
    test_loader = data.DataLoader(data.TensorDataset(images.x_test, images.y_test), 256)
    history = gx.fit(step, loader, epochs, validate=(test, test_loader), verbose=True)
    return history["val_accuracy"][-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--full", action="store_true", help="all of Fashion-MNIST instead of the bundled sample")
    main(**vars(parser.parse_args()))

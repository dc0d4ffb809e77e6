"""PyTorch's test accuracy for the recipes of examples/train_images.py, which README quotes beside graphc's.

    GRAPHC_DATA_DIR=... python tests/bench/accuracy.py --data fashion_mnist --seed 0

Takes the same options. Needs torch, which graphc itself does not.
"""

from __future__ import annotations

import argparse

import torch

from graphc import datasets

DATA = {"sample": datasets.fashion_mnist_sample, "fashion_mnist": datasets.fashion_mnist, "mnist": datasets.mnist}
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


def model(name: str) -> torch.nn.Module:
    if name == "softmax":
        return torch.nn.Linear(784, 10)
    return torch.nn.Sequential(torch.nn.Linear(784, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=DATA, default="sample")
    parser.add_argument("--model", choices=("mlp", "softmax"), default="mlp")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    images = DATA[options.data]()
    x, x_test = (torch.from_numpy(part).reshape(-1, 784).float() / 255 for part in (images.x_train, images.x_test))
    y, y_test = torch.from_numpy(images.y_train), torch.from_numpy(images.y_test)
    net, loss = model(options.model), torch.nn.CrossEntropyLoss()
    optimizer = OPTIMIZERS[options.optimizer](net.parameters(), lr=options.lr)
    for _ in range(options.epochs):
        for rows in torch.randperm(len(x)).split(options.batch_size):
            optimizer.zero_grad()
            loss(net(x[rows]), y[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = (net(x_test).argmax(1) == y_test).float().mean().item()
    print(f"test accuracy {accuracy:.4f} (seed {options.seed})")


if __name__ == "__main__":
    main()

"""Train, validate and test in loops of PyTorch's form; save in the middle of an epoch, and resume exactly there.

expected: test accuracy 0.85 on the bundled sample after 10 epochs; training resumed from the file ends in the same bits
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import graphc as gx
from graphc import data, datasets, nn, optim

gx.manual_seed(1)
BATCH = gx.dim("batch", max=128)
net = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
loss_fn = nn.CrossEntropyLoss()
optimizer = optim.Adam(net.parameters(), lr=0.002)


@gx.step
def train_step(X: gx.f32[BATCH, 1, 28, 28], y: gx.i64[BATCH]):
    optimizer.zero_grad()
    loss = loss_fn(net(X), y)
    loss.backward()
    optimizer.step()
    return loss


predict = gx.predict_step(net, x=gx.f32[BATCH, 1, 28, 28])


def train(loader, validation_loader, epochs, save_after=None, folder=None):
    """Train until the loader has given that many epochs; after batch `save_after` of the second, save."""
    while loader.epoch < epochs:
        epoch, losses = loader.epoch + 1, []
        for batch, (X, y) in enumerate(loader, 1):
            losses.append(train_step(X, y))
            if (epoch, batch) == (2, save_after):
                save(loader, folder)
        accuracy = evaluate(validation_loader)
        print(f"epoch {epoch:>2}  loss {np.mean(losses):.4f}  validation accuracy {accuracy:.4f}")


def evaluate(loader):
    correct = 0
    for X, y in loader:
        correct += (predict(X).argmax(1) == y).sum()
    return correct / len(loader.dataset)


def save(loader, folder):
    """Weights and the optimizer's averages in one file, the place in the data in another."""
    gx.save(train_step.state_dict(), folder / "training.safetensors")
    gx.save(loader.state_dict(), folder / "place.safetensors")


def resume(loader, folder):
    train_step.load_state_dict(gx.load(folder / "training.safetensors"))
    loader.load_state_dict(gx.load(folder / "place.safetensors"))


def main(epochs=10):
    images = datasets.fashion_mnist_sample()
    pictures = data.TensorDataset(images.x_train, images.y_train)
    train_set, validation_set = data.random_split(pictures, [5000, 1000], seed=1)
    train_loader = data.DataLoader(train_set, batch_size=128, shuffle=True, seed=1)
    validation_loader = data.DataLoader(validation_set, batch_size=128)
    test_loader = data.DataLoader(data.TensorDataset(images.x_test, images.y_test), batch_size=128)

    with tempfile.TemporaryDirectory() as folder:
        train(train_loader, validation_loader, epochs, save_after=17, folder=Path(folder))
        accuracy, trained = evaluate(test_loader), net.state_dict()
        print(f"test accuracy {accuracy:.4f}; once more from batch 17 of the second epoch:")
        resume(train_loader, Path(folder))
        train(train_loader, validation_loader, epochs)
    again = net.state_dict()
    same = all(np.array_equal(trained[name], again[name]) for name in trained)
    print(f"the weights are {'the same, bit for bit' if same else 'different'}")
    return accuracy, same


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int)
    main(**vars(parser.parse_args()))

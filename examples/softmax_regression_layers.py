"""Softmax regression on pictures of clothes, with layers: nn.Linear and CrossEntropyLoss.

python examples/softmax_regression_layers.py --full --plot pictures

expected: test accuracy 0.81 on the bundled sample after 10 epochs, 0.83 with --full (Fashion-MNIST, 60,000 images)
"""

import argparse

import graphc as gx
from graphc import data, datasets, nn, optim, plots

gx.manual_seed(1)
BATCH = gx.dim("batch", max=256)
x, y = gx.f32[BATCH, 1, 28, 28], gx.i64[BATCH]


def init_weights(module):
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)


net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
net.apply(init_weights)
loss = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.1)
step = gx.train_step(net, loss, optimizer, x=x, y=y, metrics=["accuracy"])
test = gx.eval_step(net, loss, x=x, y=y, metrics=["accuracy"])


def main(epochs=10, full=False, plot=None):
    images = datasets.fashion_mnist(sample=not full)
    loader = data.DataLoader(data.TensorDataset(images.x_train, images.y_train), 256, shuffle=True, seed=1)
    test_loader = data.DataLoader(data.TensorDataset(images.x_test, images.y_test), 256)
    curves = [plots.LivePlot(f"{plot}/softmax_curves.svg")] if plot else []
    history = gx.fit(step, loader, epochs, validate=(test, test_loader), callbacks=curves, verbose=True)
    if plot:
        some = images.x_test[:24]
        predictions = gx.predict_step(net, x=x)(some).argmax(1)
        path = f"{plot}/softmax_predictions.png"
        plots.show_images(some, images.y_test[:24], predictions, path, classes=images.classes)
    return history["val_accuracy"][-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--full", action="store_true", help="all of Fashion-MNIST instead of the bundled sample")
    parser.add_argument("--plot", metavar="FOLDER")
    main(**vars(parser.parse_args()))

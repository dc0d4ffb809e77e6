"""Early stopping: a net too large for its 500 pictures is stopped when validation gets worse, and its best is kept.

python examples/early_stopping.py --plot pictures

expected: stops after about 20 of 100 epochs; validation loss 0.65 in the best epoch, 0.67 in the last, 0.65 put back
"""

import argparse
import tempfile
from pathlib import Path

import graphc as gx
from graphc import data, datasets, nn, optim, plots

gx.manual_seed(1)
BATCH = gx.dim("batch", max=100)
x, y = gx.f32[BATCH, 1, 28, 28], gx.i64[BATCH]

net = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = optim.Adam(net.parameters(), lr=0.002)
step = gx.train_step(net, nn.CrossEntropyLoss(), optimizer, x=x, y=y, metrics=["accuracy"])
validate = gx.eval_step(net, nn.CrossEntropyLoss(), x=x, y=y, metrics=["accuracy"])


def main(epochs=100, plot=None):
    images = datasets.fashion_mnist_sample()
    loader = data.DataLoader(data.TensorDataset(images.x_train[:500], images.y_train[:500]), 100, shuffle=True, seed=1)
    held_out = data.DataLoader(data.TensorDataset(images.x_train[-1000:], images.y_train[-1000:]), 100)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "best.safetensors")
        callbacks = [gx.EarlyStopping("val_loss", patience=5), gx.Checkpoint(path, "val_loss", best_only=True)]
        if plot:
            callbacks.append(plots.LivePlot(f"{plot}/early_stopping.svg"))
        history = gx.fit(step, loader, epochs, validate=(validate, held_out), callbacks=callbacks, verbose=True)
        step.load_state_dict(gx.load(path))
    best = min(history["val_loss"])
    again = validate.epoch(held_out).loss
    print(f"stopped after {len(history)} of {epochs} epochs; best {best:.4f}, last {history['val_loss'][-1]:.4f}")
    print(f"validation loss of the weights put back {again:.4f}")
    return len(history), best, history["val_loss"][-1], again


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--plot", metavar="FOLDER")
    main(**vars(parser.parse_args()))

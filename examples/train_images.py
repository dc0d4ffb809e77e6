"""Train a classifier on images, look at what was compiled, and keep what came out.

python examples/train_images.py                                     MLP 784-256-10 on the bundled sample
python examples/train_images.py --data mnist --optimizer adam --lr 0.001

expected: test accuracy 0.78 on the bundled sample, 0.978 with the second command, on MNIST from the network or
GRAPHC_DATA_DIR
"""

import argparse
import time
from pathlib import Path

import graphc as gx
from graphc import data, datasets, nn, optim

DATA = {
    "sample": datasets.fashion_mnist_sample,
    "fashion_mnist": datasets.fashion_mnist,
    "mnist": datasets.mnist,
}
MODELS = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)),
    "softmax": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
}
OPTIMIZERS = {"sgd": optim.SGD, "adam": optim.Adam}


def main() -> None:
    options = parse()
    gx.manual_seed(options.seed)
    images = DATA[options.data]()
    batch = gx.dim("batch", max=options.batch_size)
    x, y = gx.f32[batch, 1, 28, 28], gx.i64[batch]

    net = MODELS[options.model]()
    optimizer = OPTIMIZERS[options.optimizer](net.parameters(), lr=options.lr)
    step = gx.train_step(net, nn.CrossEntropyLoss(), optimizer, x=x, y=y, metrics=["accuracy"])
    test = gx.eval_step(net, nn.CrossEntropyLoss(), x=x, y=y, metrics=["accuracy"])
    print(net, "\n", step.summary(), sep="\n")

    train_set = data.TensorDataset(images.x_train, images.y_train)
    test_set = data.TensorDataset(images.x_test, images.y_test)
    loader = data.DataLoader(train_set, batch_size=options.batch_size, shuffle=True, seed=options.seed)
    test_loader = data.DataLoader(test_set, batch_size=options.batch_size)
    start = time.perf_counter()
    history = gx.fit(step, loader, epochs=options.epochs, validate=(test, test_loader), verbose=True)
    seconds = time.perf_counter() - start
    steps = options.epochs * len(loader)
    print(f"\n{steps} steps in {seconds:.2f} s, {1e6 * seconds / steps:.0f} µs a step with validation")
    print(f"test accuracy {history['val_accuracy'][-1]:.4f} (seed {options.seed})")

    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    step.to_dot(folder / "graph.dot")
    step.to_dot(folder / "kernels.dot", level="kernels")
    step.to_svg(folder / "kernels.svg", level="kernels")
    (folder / "kernels.py").write_text(step.source())
    gx.save(net.state_dict(), folder / "model.safetensors")
    print(f"wrote {', '.join(sorted(path.name for path in folder.iterdir()))} to {folder}/")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a classifier on images.")
    parser.add_argument("--data", choices=DATA, default="sample")
    parser.add_argument("--model", choices=MODELS, default="mlp")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", default="out", help="folder for drawings, kernel source and the trained model")
    return parser.parse_args()


if __name__ == "__main__":
    main()

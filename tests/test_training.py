"""Whole trainings: accuracy on the sample, the same bits again, resuming, PyTorch's losses, the loop's callbacks."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphc as gx
from graphc import data, datasets, nn, optim
from graphc.checkpoint import load_with_metadata
from graphc.train import Progress

ROOT = Path(__file__).parent.parent
BATCH = gx.dim("batch", max=64)


def classifier(optimizer=optim.SGD, **options):
    gx.manual_seed(3)
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5))
    opt = optimizer(net.parameters(), **{"lr": 0.1, **options})
    step = gx.train_step(net, nn.CrossEntropyLoss(), opt, x=gx.f32[BATCH, 12], y=gx.i64[BATCH], metrics=["accuracy"])
    return net, opt, step


def toy(count=200):
    random = np.random.default_rng(0)
    x = random.standard_normal((count, 12)).astype(np.float32)
    return data.TensorDataset(x, (x[:, :5] + x[:, 5:10]).argmax(1))


def loader(seed=7):
    return data.DataLoader(toy(), batch_size=48, shuffle=True, seed=seed)


def train(steps, step, batches):
    done = 0
    while done < steps:
        for x, y in batches:
            step(x, y)
            done += 1
            if done == steps:
                return


@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam])
def test_twenty_steps_give_the_same_bits_again(optimizer):
    runs = []
    for _ in range(2):
        net, _, step = classifier(optimizer)
        train(20, step, loader())
        runs.append(net.state_dict())
    for name, weights in runs[0].items():
        np.testing.assert_array_equal(weights, runs[1][name])


@pytest.mark.parametrize("options", [(optim.SGD, {"momentum": 0.9}), (optim.Adam, {"lr": 0.01})])
def test_resuming_in_the_middle_of_an_epoch_gives_the_same_bits(tmp_path, options):
    kind, settings = options
    net, _, step = classifier(kind, **settings)
    train(20, step, loader())

    first, _, half = classifier(kind, **settings)
    batches = loader()
    train(7, half, batches)  # five batches an epoch: this stops within the second
    gx.save(half.state_dict(), tmp_path / "half.safetensors")
    place = batches.state_dict()

    resumed, _, rest = classifier(kind, **settings)
    rest.load_state_dict(gx.load(tmp_path / "half.safetensors"))
    batches = loader(seed=0)
    batches.load_state_dict(place)
    train(13, rest, batches)
    for name, weights in net.state_dict().items():
        np.testing.assert_array_equal(weights, resumed.state_dict()[name])


def test_epochs_and_batches_give_the_same_bits():
    net, _, step = classifier()
    other, _, by_batch = classifier()
    native, python = loader(), loader()
    for _ in range(3):
        step.epoch(native)
        for x, y in python:
            by_batch(x, y)
    for name, weights in net.state_dict().items():
        np.testing.assert_array_equal(weights, other.state_dict()[name])


def test_steps_share_the_parameters_of_a_net():
    net, _, step = classifier(lr=0.5)
    test = gx.eval_step(net, nn.CrossEntropyLoss(), x=gx.f32[BATCH, 12], y=gx.i64[BATCH], metrics=["accuracy"])
    logits = gx.predict_step(net, x=gx.f32[BATCH, 12])
    before = test.epoch(loader()).accuracy
    for _ in range(60):
        step.epoch(loader())
    x, y = toy().arrays
    after = test.epoch(loader())
    assert after.accuracy > max(before, 0.9)
    assert (gx.predict(logits, x).argmax(1) == y).mean() == pytest.approx(after.accuracy)


def test_fit_reports_stops_and_saves(tmp_path):
    net, _, step = classifier()
    test = gx.eval_step(net, nn.CrossEntropyLoss(), x=gx.f32[BATCH, 12], y=gx.i64[BATCH], metrics=["accuracy"])
    path = tmp_path / "best.safetensors"
    keep, stop = gx.Checkpoint(str(path), best_only=True), gx.EarlyStopping(monitor="loss", patience=2, min_delta=10.0)
    history = gx.fit(step, loader(), epochs=10, validate=(test, loader()), callbacks=[keep, stop], verbose=False)
    assert len(history) == 3  # the first epoch is the best, two more do not improve by 10
    assert set(history.rows[0]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history["loss"][-1] < history["loss"][0]
    assert set(gx.load(path)) == set(step.state_dict())


@pytest.mark.parametrize(("monitor", "figures"), [("accuracy", [0.5, 0.7, 0.6]), ("val_loss", [0.5, 0.3, 0.4])])
def test_the_best_epoch_is_kept(monitor, figures, tmp_path):
    keep = gx.Checkpoint(tmp_path / "best.safetensors", monitor, best_only=True)
    keep.before_training(classifier()[2])
    for epoch, figure in enumerate(figures, 1):
        keep.after_epoch(epoch, {monitor: figure})
    assert load_with_metadata(tmp_path / "best.safetensors")[1] == {"epoch": "2"}


def test_progress_writes_a_line_an_epoch():
    stream = io.StringIO()
    bar = Progress(3, True, stream)
    assert bar.start(1) is None  # no bar within an epoch where nobody watches
    bar.finish(1, {"loss": 0.25, "accuracy": 0.5})
    assert "epoch 1/3  loss 0.2500  accuracy 0.5000" in stream.getvalue()


def test_data_that_is_not_in_arrays():
    class Squares(data.Dataset):
        def __len__(self):
            return 10

        def __getitem__(self, index):
            return np.full(3, index, np.float32)

    total = gx.function([x := gx.input("x", gx.f32[BATCH, 3])], x.mean())
    assert total.epoch(data.DataLoader(Squares(), batch_size=4))[0] == pytest.approx(4.5)


def test_epoch_of_results_that_are_arrays():
    x = gx.input("x", gx.f32[BATCH, 2])
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    batches = data.DataLoader(data.TensorDataset(rows), batch_size=4)
    record = gx.function([x], {"doubled": x + x, "total": x.mean()}).epoch(batches)
    assert record.doubled == pytest.approx(rows.mean() * 2) and record.total == pytest.approx(rows.mean())
    w = gx.parameter("w", np.zeros(2, np.float32))
    assert gx.function([x], updates={w: w + x.sum(0)}).epoch(batches) == ()
    np.testing.assert_allclose(w.numpy(), rows.sum(0))


def test_mlp_learns_the_bundled_sample():
    gx.manual_seed(1)
    images = datasets.fashion_mnist_sample()
    batch = gx.dim("batch", max=256)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    opt = optim.SGD(net.parameters(), lr=0.1)
    x, y = gx.f32[batch, 1, 28, 28], gx.i64[batch]
    step = gx.train_step(net, nn.CrossEntropyLoss(), opt, x=x, y=y)
    test = gx.eval_step(net, nn.CrossEntropyLoss(), x=x, y=y, metrics=["accuracy"])
    train_set = data.TensorDataset(images.x_train, images.y_train)
    gx.fit(step, data.DataLoader(train_set, batch_size=256, shuffle=True, seed=1), epochs=10)
    test_set = data.TensorDataset(images.x_test, images.y_test)
    assert test.epoch(data.DataLoader(test_set, batch_size=256)).accuracy >= 0.77


@pytest.mark.parametrize(
    "example", ["linear_regression_scratch.py", "linear_regression_layers.py", "explicit_graph.py"]
)
def test_example_runs(example, tmp_path):
    run = subprocess.run([sys.executable, ROOT / "examples" / example], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    if example.startswith("linear"):
        words = run.stdout.splitlines()[-1].translate(str.maketrans("[]wb", "    ")).split()
        numbers = [float(word) for word in words]
        np.testing.assert_allclose(numbers, [2, -3.4, 4.2], atol=0.01)


def test_main_job_writes_what_it_made(tmp_path):
    command = [sys.executable, ROOT / "examples" / "train_images.py", "--epochs", "1"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"graph.dot", "kernels.dot", "kernels.py", "kernels.svg", "model.safetensors"}
    assert "test accuracy" in run.stdout and "kernels in" in run.stdout
    assert set(gx.load(tmp_path / "out" / "model.safetensors")) == {"1.weight", "1.bias", "3.weight", "3.bias"}

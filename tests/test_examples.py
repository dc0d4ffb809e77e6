"""Every example runs and reaches the figure its docstring states, loosened; each takes its options and is listed."""

from __future__ import annotations

import ast
import importlib.util
import math
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
FILES = {path.stem: path for path in sorted((ROOT / "examples").glob("*.py"))}
TEXTS = {name: path.read_text() for name, path in FILES.items()}


def run(name, **settings):
    """What main(**settings) of an example gives, from a fresh copy of it."""
    place = importlib.util.spec_from_file_location(name, FILES[name])
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module.main(**settings)


@pytest.mark.parametrize("name", FILES)
def test_states_what_to_expect_and_is_listed_and_tested(name):
    assert "\nexpected: " in ast.get_docstring(ast.parse(TEXTS[name]))
    assert f"`{name}.py`" in (ROOT / "README.md").read_text()
    assert f'"{name}"' in Path(__file__).read_text()


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if "main(**vars(" in text])
def test_takes_its_options_from_the_command_line(name, tmp_path, monkeypatch):
    small = {"--epochs": "2", "--steps": "5", "--count": "256", "--plot": str(tmp_path)}
    words = [word for option in small if f'"{option}"' in TEXTS[name] for word in (option, small[option])]
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    runpy.run_path(str(FILES[name]), run_name="__main__")
    pictures = [path for path in tmp_path.iterdir() if path.stat().st_size > 1000]
    assert bool(pictures) == ("--plot" in words)


def test_image_training_writes_what_it_made(tmp_path):
    command = [sys.executable, FILES["train_images"], "--epochs", "3", "--output", "made"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert float(finished.stdout.partition("test accuracy ")[2].split()[0]) > 0.6
    written = {path.name for path in (tmp_path / "made").iterdir()}
    assert written == {"graph.dot", "kernels.dot", "kernels.py", "kernels.svg", "model.safetensors"}


def test_explicit_graph():
    assert run("explicit_graph") == (6, 2, 5)


def test_perceptron():
    right = run("perceptron")
    assert right["AND"] == right["OR"] == 4 and right["XOR"] < 4


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_curve_fitting(activation):
    assert run("curve_fitting", activation=activation, steps=2000) < 0.004


@pytest.mark.parametrize("name", ["linear_regression_scratch", "linear_regression_layers"])
def test_linear_regression(name):
    np.testing.assert_allclose(run(name), [2, -3.4, 4.2], atol=0.01)


def test_logistic_regression_from_scratch():
    loss, accuracy = run("logistic_regression_scratch", epochs=3)
    assert loss == pytest.approx(0.164252033486018, rel=1e-14)
    assert accuracy > 0.94


def test_logistic_regression_with_layers():
    assert run("logistic_regression_layers", epochs=3) > 0.94


@pytest.mark.parametrize(
    "name", ["softmax_regression_scratch", "softmax_regression_layers", "mlp_scratch", "mlp_layers", "logreg_module"]
)
def test_classifiers_of_the_sample(name):
    stated = re.search(r"test accuracy ([\d.]+) on the bundled sample after 10 epochs", TEXTS[name])[1]
    assert run(name) == pytest.approx(float(stated), abs=0.05)


def test_sgd_by_hand():
    assert run("sgd_by_hand", epochs=2) < 1e-5


def test_linear_svm():
    accuracy, margin = run("linear_svm", epochs=10)
    assert accuracy > 0.98
    assert margin == pytest.approx(1.38, rel=0.1)


def test_regularisation():
    (trained, validated), (trained_with, validated_with) = run("regularisation").values()
    assert trained < 1e-6 and validated > 10
    assert trained < trained_with < validated_with < 0.05


def test_descent_compared():
    losses = run("descent_compared")
    assert losses["full batch"] == pytest.approx(0.147, rel=0.01)
    assert losses["stochastic"] < 0.14 and losses["mini-batch"] < 0.125


def test_learning_rates():
    losses = run("learning_rates")
    assert losses[1.0] < 1e-4 < losses[1.95] < losses[0.1] < losses[0.01] < 0.5 < 1000 < losses[2.1]


def test_early_stopping():
    epochs, best, last, put_back = run("early_stopping")
    assert epochs < 40
    assert best < 0.75 and best < last
    assert put_back == pytest.approx(best)


def test_initialisation():
    deviation, loss = run("initialisation")
    assert deviation["too small"] < 1e-9 < deviation["Xavier"] < 0.01
    assert 0.3 < deviation["He"] < 3 < 1e9 < deviation["too large"]
    assert loss["He"] < 0.65
    assert loss["Xavier"] == pytest.approx(math.log(2), abs=0.01)


def test_training_loop():
    accuracy, same_bits = run("training_loop", epochs=4)
    assert accuracy > 0.7 and same_bits


def test_character_gru():
    assert run("character_gru", epochs=2) < 2.1


def test_transformer():
    assert run("transformer", epochs=2) < 2.5


def test_lenet():
    assert run("lenet", epochs=3) > 0.7


def test_resnet():
    assert run("resnet", epochs=4, count=1280) > 0.5

"""The page about exported libraries: every program in it is built and run, where the machine has its compiler."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_export import needs_c

import graphc

PAGE = Path(graphc.__file__).parent / "docs" / "train_from_c.md"
PROGRAM = re.compile(r"^```\w+\n(?://|/\*|#) ([\w.]+)(?: \*/)?\n.*?^```$", re.MULTILINE | re.DOTALL)
ROOT = Path(graphc.__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page's programs as files, and the library that the first one exports."""
    place = tmp_path_factory.mktemp("page")
    for found in PROGRAM.finditer(PAGE.read_text()):
        (place / found[1]).write_text("\n".join(found[0].splitlines()[1:-1]) + "\n")
    run([sys.executable, "model.py"], place)
    return place


def run(command, place):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not on PATH")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    found = subprocess.run(command, cwd=place, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert found.returncode == 0, found.stderr + found.stdout
    return found.stdout


def archive(folder):
    (path,) = folder.glob("build/mnist/*/libmnist.a")
    return path


@needs_c
def test_c(folder):
    strict = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror"]
    run(["cc", *strict, "train.c", "-Ibuild/mnist", str(archive(folder)), "-o", "train"], folder)
    loss = float(re.fullmatch(r"loss ([\d.]+)\n", run([str(folder / "train")], folder))[1])
    assert loss < 0.1
    again = "import load, numpy as np\nprint(load.mnist.Model(path='mnist.state').step(load.x, load.y).loss > 0)"
    assert run([sys.executable, "-c", again], folder).endswith("True\n")


@needs_c
def test_threads(folder):
    strict = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]
    run(["cc", *strict, "threads.c", "-Ibuild/mnist", str(archive(folder)), "-o", "threads"], folder)
    one, *others = (run([str(folder / "threads"), count], folder) for count in ("1", "2", "3"))
    assert re.fullmatch(r"success, loss 1\.\d{4}, state [0-9a-f]{16}\n", one) and set(others) == {one}


@needs_c
def test_cpp(folder):
    strict = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror"]
    run(["c++", *strict, "train.cpp", "-Ibuild/mnist", str(archive(folder)), "-o", "train_cpp"], folder)
    assert run([str(folder / "train_cpp")], folder).startswith("success, loss ")


@needs_c
def test_rust(folder):
    size = re.search(r"STATE_BYTES INT64_C\((\d+)\)", (folder / "build" / "mnist" / "mnist.h").read_text())[1]
    (folder / "state_bytes.txt").write_text(size)
    run(["rustc", "-O", "train.rs", "-L", str(archive(folder).parent), "-o", "train_rs"], folder)
    loss = run([str(folder / "train_rs")], folder)
    assert loss.startswith("loss ")


@needs_c
def test_go(folder):
    shutil.copy(archive(folder), folder)
    if shutil.which("go") is not None:
        (folder / "go.mod").write_text("module train\n\ngo 1.18\n")
    assert run(["go", "run", "train.go"], folder).startswith("success ")


@needs_c
def test_python_without_graphc(folder):
    loss, *places = run([sys.executable, "load.py"], folder).split()
    assert float(loss) < 1 and len(places) >= 5

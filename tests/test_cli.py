"""The command line: what it prints, and how it refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from graphc import cli

MODEL = """
import numpy as np
import graphc as gx

w = gx.parameter("w", np.ones((4, 3), np.float32))
x = gx.input("x", gx.f32["batch", 4])
loss = ((x @ w) ** 2).mean()
step = gx.function([x], loss, updates={w: w - 0.1 * gx.grad(loss, w)}, name="step")

if __name__ == "__main__":
    raise SystemExit("only looking must not run the main part")
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return path


@pytest.mark.parametrize(
    ("level", "part"),
    [
        ("summary", "model.py:"),
        ("graph", "graph step("),
        ("stabilise", "gradient("),
        ("program", "program step"),
        ("kernels", "nest "),
        ("source", "def step("),
        ("dot", "digraph"),
        ("svg", "<svg"),
        ("html", "<!DOCTYPE html>"),
        ("llvm", "@step("),
        ("assembly", "step:"),
    ],
)
def test_show(model, capsys, level, part):
    assert cli.main(["show", f"{model}:step", "--level", level]) == 0
    assert part in capsys.readouterr().out


def test_compile_says_what_came_out(model, capsys):
    assert cli.main(["compile", f"{model}:step"]) == 0
    assert "kernels in" in capsys.readouterr().out


def test_export_writes_a_library(model, capsys, tmp_path):
    assert cli.main(["export", f"{model}:step", "-o", str(tmp_path / "taken")]) == 0
    assert "taken.h" in capsys.readouterr().out
    assert "int32_t taken_step(void *state" in (tmp_path / "taken" / "taken.h").read_text()
    assert cli.main(["export", f"{model}:step", "-o", str(tmp_path / "taken"), "--target", "abacus"]) == 1
    assert "'abacus' is not a target" in capsys.readouterr().err
    assert cli.main(["export", f"{model}:step", "other.py:step", "-o", str(tmp_path / "taken")]) == 1
    assert "all steps must come from one file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reference", "part"),
    [("nowhere.py:step", "no file 'nowhere.py'"), ("{model}:stop", "its steps are: step"), ("step", "FILE.py:NAME")],
)
def test_wrong_reference(model, capsys, reference, part):
    assert cli.main(["show", reference.format(model=model)]) == 1
    assert part in capsys.readouterr().err


def test_unknown_level_names_the_levels(model, capsys):
    assert cli.main(["show", f"{model}:step", "--level", "nothing"]) == 1
    told = capsys.readouterr().err
    assert all(f"'{level}'" in told for level in ("summary", "html", "ptx", "graph", "launches", "stabilise"))


def test_errors_about_arguments_show_no_line(model):
    command = [sys.executable, "-m", "graphc", "show", f"{model}:step", "--level", "sorce"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: level is 'sorce'; it must be one of 'summary', ")
    assert done.stderr.splitlines()[1:] == ["  did you mean source or trace?"]


def test_cache_lists_and_clears(model, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    cli.main(["compile", f"{model}:step"])
    capsys.readouterr()
    assert cli.main(["cache"]) == 0
    listed = capsys.readouterr().out
    assert "artifact" in listed and str(tmp_path / "cache") in listed
    assert cli.main(["cache", "clear"]) == 0 and "removed" in capsys.readouterr().out
    cli.main(["cache"])
    assert "artifact" not in capsys.readouterr().out


def test_doctor_compiles_from_nothing(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "from nothing in" in out and "numba 0.68" in out and "register tile" in out

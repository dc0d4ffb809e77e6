"""Compiling and remembering: warm starts, damaged entries, two processes, the loader of other systems."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import graphs
import numpy as np
import pytest

from graphc.backends import artifact, reference, runtime
from graphc.backends.cache import Cache
from graphc.ir.passes import run_passes

PROGRAM = """
import json, sys
import numpy as np
import graphc as gx
w = gx.parameter("w", np.ones((4, 3), np.float32))
x = gx.input("x", gx.f32["batch", 4])
loss = ((x @ w) ** 2).mean()
step = gx.function([x], loss, updates={w: w - 0.1 * gx.grad(loss, w)})
step(np.ones((7, 4), np.float32))
print(json.dumps({"fresh": step.artifact.fresh, "w": w.numpy().tolist(), "path": str(step.artifact.path),
    "modules": [name for name in ("numba", "llvmlite", "networkx") if name in sys.modules]}))
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "GRAPHC_CACHE_DIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out)


def test_warm_start_imports_no_compiler(tmp_path):
    cold, warm = finish(start(tmp_path)), finish(start(tmp_path))
    assert cold["fresh"] and not warm["fresh"]
    assert warm["modules"] == []
    assert cold["w"] == warm["w"]


def test_two_processes_compile_at_once(tmp_path):
    first, second = start(tmp_path), start(tmp_path)
    a, b = finish(first), finish(second)
    assert a["w"] == b["w"]
    assert not finish(start(tmp_path))["fresh"]


@pytest.mark.parametrize("damage", ["truncate", "flip"])
def test_damaged_entry_is_built_again(tmp_path, damage):
    cold = finish(start(tmp_path))
    path = Path(cold["path"])
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 0xFF
    path.chmod(0o600)
    path.write_bytes(content)
    again = finish(start(tmp_path))
    assert again["fresh"] and again["w"] == cold["w"]


def test_another_model_has_another_key(tmp_path):
    store = Cache(tmp_path)
    keys = {artifact.build(run_passes(program()), store).key for program in graphs.PROGRAMS}
    assert len(keys) == len(graphs.PROGRAMS)


def test_builds_give_identical_bytes(tmp_path):
    graph = run_passes(graphs.softmax_regression())
    one, two = (artifact.build(graph, Cache(tmp_path / name)) for name in "ab")
    assert one.path.read_bytes() == two.path.read_bytes()


def test_loader_of_systems_without_our_linker(tmp_path, monkeypatch, rng):
    monkeypatch.setattr(artifact, "LINKED", False)
    monkeypatch.setattr(runtime, "LINKED", False)
    built = artifact.build(run_passes(graphs.linear_regression()), Cache(tmp_path))
    graph = built.program.graph
    arrays = graphs.arrays(graphs.linear_regression, 9, rng)
    expected = reference.run(graph, arrays)
    storages = [
        runtime.Storage(np.asarray(arrays[value.attrs["name"]], np.float32)) for value in graph.of_role("state")
    ]
    runner = runtime.Runner(built, storages)
    for number, value in enumerate(graph.of_role("scalar")):
        runner.set_scalar(number, arrays[value.attrs["name"]])
    status, results = runner.step([arrays[value.attrs["name"]] for value in graph.of_role("data")], [9])
    assert status == 0
    for (name, _), result in zip(runner.results, results, strict=True):
        np.testing.assert_allclose(result, expected[name], rtol=1e-5)

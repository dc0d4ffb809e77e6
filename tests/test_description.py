"""What is remembered of compiled functions: a warm start reads it, and nothing stale or damaged is ever believed."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import graphs
import numpy as np
import pytest

import graphc as gx
from graphc.backends import description
from graphc.backends.cache import Cache
from graphc.backends.description import KIND, Description, call_key, obtain, stamps_below
from graphc.backends.interface import Arena, EpochLayout
from graphc.ir.graph import Graph, Output, Value
from graphc.ir.types import TensorType

PROGRAM = """
import json, sys
import numpy as np
import graphc as gx
from graphc import nn, optim
gx.manual_seed(3)
net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))
opt = optim.SGD(net.parameters(), lr=0.1)
step = gx.train_step(net, nn.CrossEntropyLoss(), opt, x=gx.f32["batch", 4], y=gx.i64["batch"], nan="raise")
x, y = np.linspace(-1, 1, 28, dtype=np.float32).reshape(7, 4), np.arange(7) % 3
losses = [float(step(x, y).loss) for _ in range(3)]
errors = []
for bad in ((x, y + 1), (x * np.nan, y), (x[:0], y[:0])):
    try:
        step(*bad)
    except gx.errors.GraphcError as error:
        errors.append(f"{type(error).__name__} {error.message}")
compiler = ("passes", "fuse", "rules", "program", "loops")
loaded = [name for name in compiler if f"graphc.ir.{name}" in sys.modules]
epoch = step.epoch(gx.data.DataLoader(gx.data.TensorDataset(x, y), batch_size=3)).loss
print(json.dumps(dict(losses=losses, errors=errors, epoch=epoch, fresh=step.artifact.fresh, loaded=loaded,
    parts=list(step.seconds), texts=[step.text("graph"), step.text("kernels"), step.source(), step.summary()[:500],
    step.to_dot(), step.to_svg(), step.llvm()])))
"""


def run(folder: Path) -> dict:
    environment = {**os.environ, "GRAPHC_CACHE_DIR": str(folder)}
    found = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


def test_a_warm_start_is_the_same_without_the_compiler(tmp_path: Path) -> None:
    cold, warm = run(tmp_path), run(tmp_path)
    assert cold.pop("fresh") and not warm.pop("fresh")
    assert cold.pop("loaded") and warm.pop("loaded") == []
    assert cold.pop("parts") == ["passes", "plan", "source", "native"] and warm.pop("parts") == ["native"]
    assert [each.split()[0] for each in warm["errors"]] == ["LabelError", "NumericsError", "BatchError"]
    assert warm["texts"] == cold["texts"]
    assert warm == cold


@pytest.fixture
def graph() -> Graph:
    return graphs.softmax_regression()


def test_a_graph_is_compiled_once(graph: Graph, tmp_path: Path) -> None:
    made, again = (obtain(graph, Cache(tmp_path)) for _ in range(2))
    assert made.fresh and not again.fresh
    assert made.description == again.description and made.file == again.file
    assert again.entry == made.entry and again.kernels == made.kernels


@pytest.mark.parametrize(
    "damage", [b"", b"nonsense", b"(1, 2)", b"\xff\xfe", b"f(x)", b"('key', 1, 2, (1, 2), ())", b"[" * 500, b"0" * 9999]
)
def test_a_damaged_description_is_made_again(
    damage: bytes, graph: Graph, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, key = Cache(tmp_path), call_key(graph)
    assert key is not None
    made = obtain(graph, store)
    store.put(KIND, key, damage)
    again = obtain(graph, store)
    assert "is compiled again" in caplog.text and again.description == made.description
    caplog.clear()
    assert obtain(graph, store).seconds.keys() == {"native"} and not caplog.records


def test_bytes_that_rot_are_made_again(graph: Graph, tmp_path: Path) -> None:
    store = Cache(tmp_path)
    made = obtain(graph, store)
    path = store.path(KIND, call_key(graph) or "")
    assert path is not None
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    assert obtain(graph, store).description == made.description


def test_code_that_is_gone_is_made_again(graph: Graph, tmp_path: Path) -> None:
    made = obtain(graph, Cache(tmp_path))
    made.path.unlink()
    assert obtain(graph, Cache(tmp_path)).fresh
    made.path.write_bytes(b"not what was put there")
    assert obtain(graph, Cache(tmp_path)).fresh and made.path.exists()


@pytest.mark.parametrize("layout", [None, EpochLayout((128, 256), (), 512)])
def test_descriptions_go_both_ways(layout: EpochLayout | None) -> None:
    known = Description("ab", 3, Arena(512, 128, True), layout, ("it's \n wrong", 'say "no"'), 7)
    assert Description.parse(known.text()) == known


# -- the key


def test_whatever_makes_the_code_is_in_the_key(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {call_key(graph), call_key(graphs.mlp())}
    changes = [
        (sys, "platform", "plan9"),
        (sys, "version", "3.99"),
        (np, "__version__", "99.0"),
        (description, "host_signature", lambda: "abacus"),
        (description, "installed", lambda packages: ["numba-99.0", "llvmlite-99.0"]),
        (description, "STAMPS", (*(description.STAMPS or ()), "new.py 1 2 3 4")),
        (description, "identity", lambda graph: "another"),
    ]
    for owner, name, other in changes:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, other)
            description.surroundings.cache_clear()
            keys.add(call_key(graph))
    description.surroundings.cache_clear()
    keys |= {call_key(graph, 10**6), call_key(graph, 10**7)}
    assert len(keys) == 4 + len(changes) and None not in keys


def test_every_file_of_the_compiler_is_in_the_key() -> None:
    root = Path(gx.__file__).parent.parent
    named = {stamp.rsplit(" ", 4)[0] for stamp in description.STAMPS or ()}
    files = {path for room in ("ir", "backends") for path in (root / room).rglob("*.py")}
    assert {Path(name).resolve() for name in named} == {path.resolve() for path in files} and len(files) > 60


def test_any_change_of_a_file_is_seen(tmp_path: Path) -> None:
    (tmp_path / "lower").mkdir()
    file = tmp_path / "lower" / "a.py"
    file.write_text("x = 1\n")
    known, kept = [list(stamps_below(tmp_path))], file.stat()
    file.write_text("x = 2\n")
    os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))  # as long as before, and as old, it says
    known.append(list(stamps_below(tmp_path)))
    (tmp_path / "b.py").write_text("")
    known.append(list(stamps_below(tmp_path)))
    (tmp_path / "b.py").rename(tmp_path / "c.py")
    known.append(list(stamps_below(tmp_path)))
    os.replace(tmp_path / "c.py", file)
    known.append(list(stamps_below(tmp_path)))
    assert len({tuple(each) for each in known}) == len(known)
    (tmp_path / "lower" / "__pycache__").mkdir()
    (tmp_path / "notes.txt").write_text("")
    assert list(stamps_below(tmp_path)) == known[-1]


def test_versions_are_those_python_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    for package, found in zip(description.PACKAGES, description.installed(description.PACKAGES), strict=True):
        assert found.startswith(f"{package}-{importlib.metadata.version(package)}.")
    (tmp_path / "numba-99.0.dist-info").mkdir()
    (tmp_path / "numba-like-1.0.txt").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert description.installed(["numba"]) == ["numba-99.0.dist-info"]
    monkeypatch.setattr(sys, "path", [str(tmp_path / "nowhere"), *sys.path[-1:], "an.zip"])
    monkeypatch.setattr(os, "listdir", lambda place: [])
    monkeypatch.setattr(description, "version", lambda package: f"{package} by its metadata")
    assert description.installed(["numba"]) == ["numba by its metadata"]


def test_what_cannot_be_told_apart_is_compiled_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    x = graphs.data("x", 3)
    hidden = Value(x.op, (), {**x.attrs, "note": object()}, x.type)
    assert call_key(Graph("odd", (hidden,), (Output("result", "y", hidden),))) is None
    with monkeypatch.context() as patch:
        patch.setattr(description, "ROOMS", (str(tmp_path / "in" / "an.zip"),))
        assert description.stamps() is None
    monkeypatch.setattr(description, "STAMPS", None)
    graph = graphs.linear_regression()
    assert call_key(graph) is None
    assert obtain(graph, Cache(tmp_path)).fresh and not obtain(graph, Cache(tmp_path)).fresh
    assert [entry.kind for entry in Cache(tmp_path).entries() if entry.kind == KIND] == []


def test_what_is_compiled_while_files_change_is_not_remembered(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of the compiler may have been imported before the change and some after it."""
    store = Cache(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(description, "stamps", lambda: ("changed.py 1 2 3 4",))
        assert obtain(graph, store).fresh
    assert "passes" in obtain(graph, store).seconds
    assert "passes" not in obtain(graph, store).seconds


def test_functions_of_one_graph_share_a_description_whatever_their_lines(tmp_path: Path) -> None:
    kind = TensorType("f32", (3,))
    first = gx.function([x := gx.input("x", kind)], gx.tanh(x))

    second = gx.function([x := gx.input("x", kind)], gx.tanh(x))
    third = gx.function([x := gx.input("x", kind)], gx.tanh(x) + 1)
    keys = [call_key(each.traced) for each in (first, second, third)]
    assert keys[0] == keys[1] != keys[2]

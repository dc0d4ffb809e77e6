"""What the README says is so: its programs run, its test command is the one that CI calls, its kernel is real."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import page_program

import graphc as gx
from graphc.backends import source, target
from graphc.backends.contraction import TileShape
from graphc.commented import commented, uses
from graphc.ir.program import plan
from graphc.naming import Naming

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_programs_run(tmp_path):
    """All of them, one after another; the first learns."""
    printed = page_program.outputs(ROOT / "README.md", tmp_path)
    losses = [float(found) for found in re.findall(r"loss=([\d.]+)", printed[0])]
    assert len(losses) == 10 and losses[-1] < losses[0] / 2


def test_ci_calls_the_test_command():
    (command,) = re.findall(r'test_command="(.*)"', (ROOT / ".ci" / "run").read_text())
    assert f"&& {command}\n" in README


def test_what_the_first_command_prints_and_draws(tmp_path):
    command = [sys.executable, ROOT / "examples" / "train_images.py", "--epochs", "1", "--output", tmp_path]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    table = re.search(r"kernel +over .*?(?=compiled)", README, re.DOTALL)[0]
    assert table in printed
    assert re.search(r"state [\d,]+ bytes", README)[0] in printed
    if target.host_tile() == (14, 2):
        assert BLOCKS[2] in (tmp_path / "kernels.py").read_text()
    drawing = (ROOT / "examples" / "mlp.svg").read_text()
    assert all(line.split()[0] in drawing for line in table.splitlines()[1:])


def test_the_kernel_shown_is_one_of_the_step():
    net = gx.nn.Sequential(gx.nn.Flatten(), gx.nn.Linear(784, 256), gx.nn.ReLU(), gx.nn.Linear(256, 10))
    batch = gx.dim("batch", max=256)
    types = {"x": gx.f32[batch, 1, 28, 28], "y": gx.i64[batch]}
    step = gx.train_step(net, gx.nn.CrossEntropyLoss(), gx.optim.SGD(net.parameters(), lr=0.1), **types)
    planned = plan(step.stages["place_copies"], 32)
    sources = (source.write(nest, TileShape(14, 2)) for nest in planned.nests)
    names = Naming(step, planned)
    texts = [commented(used[0][0], [use for _, use in used], names) for used in uses(planned, sources).values()]
    assert without_place(BLOCKS[2]) in map(without_place, texts)


def without_place(text):
    """A commented text without the user's lines: those of the README are of the example's file."""
    return re.sub(r"   \S+\.py:\d+$", "", text, flags=re.MULTILINE)

"""What the README says is so: its first program runs, its test command is the one that CI calls, its kernel is real."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import graphs

from graphc.backends import source
from graphc.backends.contraction import TileShape
from graphc.ir.passes import run_passes
from graphc.ir.program import plan

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_first_program_runs(tmp_path):
    run = subprocess.run([sys.executable, "-c", BLOCKS[0]], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    losses = [float(found) for found in re.findall(r"loss=([\d.]+)", run.stdout)]
    assert len(losses) == 10 and losses[-1] < losses[0] / 2


def test_ci_calls_the_test_command():
    (command,) = re.findall(r'test_command="(.*)"', (ROOT / ".ci" / "run").read_text())
    assert f"&& {command}\n" in README


def test_the_kernel_shown_is_one_of_the_step():
    planned = plan(run_passes(graphs.mlp()), 32)
    texts = [source.write(nest, TileShape(14, 2)).kernel.text for nest in planned.nests]
    assert BLOCKS[2] in texts

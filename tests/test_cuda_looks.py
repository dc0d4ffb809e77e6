"""Looking at steps for a GPU: their launches, kernel texts, LLVM IR and PTX, with a GPU and without."""

from __future__ import annotations

import re

import pytest

import graphc as gx
from graphc import cli, launches, nn, optim
from graphc.backends.cuda import artifact, assembler, plan
from graphc.backends.cuda.assembler import Resources
from graphc.backends.cuda.threads import NotCovered
from graphc.picture import page

BATCH = gx.dim("batch", max=32)


def classifier(device):
    net = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 10))
    sgd = optim.SGD(net.parameters(), lr=0.1)
    return gx.train_step(net, nn.CrossEntropyLoss(), sgd, x=gx.f32[BATCH, 20], y=gx.i64[BATCH], device=device)


@pytest.fixture
def step(gpu):
    return classifier("cuda")


def test_every_way_to_look_works_for_a_step_on_a_gpu(step):
    assert repr(step).startswith("<graphc function train_step(x: f32[batch,20]")
    assert ".entry " in step.ptx() and ".target sm_90" in step.ptx() and step.assembly() == step.ptx()
    assert "ptx_kernel" in step.llvm() and 'target triple = "nvptx64-nvidia-cuda"' in step.llvm()
    for level in ("trace", "graph", "program", "kernels", "launches"):
        assert step.text(level), level
    assert step.to_dot() and step.to_dot(level="kernels") and "<svg" in step.to_svg()
    assert "formula" in step.explain() and "computed by kernel" in step.explain("loss")
    assert "read by" in step.explain("x")
    with pytest.raises(gx.ArgumentError, match="level is 'kernel'"):
        step.text("kernel")
    with pytest.raises(gx.ArgumentError, match="train_step runs on a GPU"):
        step.threads = 2


def test_source_tells_of_every_launch_under_the_lines_of_the_user(step):
    text = step.source()
    compile(text.partition("def train_step(")[0], "source", "exec")  # it is Python
    launched = re.findall(r"for thread in launch\((\w+), blocks=\d+, threads=\d+\):", text)
    assert launched == [each.kernel for each in step.artifact.drawing.program.launches()]
    assert "test_cuda_looks.py" in text and re.search(r"^        \w+\(.*thread, block, blocks.*\)$", text, re.M)


def test_source_shows_loops_around_launches(gpu):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells = nn.GRU(4, 5, batch_first=True)

        def forward(self, x):
            return self.cells(x)[0]

    step = gx.predict_step(Last(), x=gx.f32[BATCH, 6, 4], device="cuda")
    text = step.source()
    compile(text, "source", "exec")
    assert re.search(r"^    for step in range\(6\):\n(        # .*\n)*        for thread in launch", text, re.M)
    assert re.search(r"^6 x \d+  ", step.text("launches").replace("\n ", "\n"), re.M)


def test_the_page_shows_the_kernels_of_every_nest(gpu):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells = nn.GRU(4, 5, batch_first=True)

        def forward(self, x):
            return self.cells(x)[0]

    for step in (classifier("cuda"), gx.predict_step(Last(), x=gx.f32[BATCH, 6, 4], device="cuda")):
        shown = page.details(step)
        assert len(shown["kernels"]) == len(step.artifact.program.nests)
        assert all(each["sources"] and {*each["sources"]} <= {*shown["sources"]} for each in shown["kernels"])
        assert step.to_html().startswith("<!")


def test_the_table_of_launches_adds_up(step):
    *rows, last = step.text("launches").splitlines()
    head, *rows = (re.split(r"\s{2,}", row.strip()) for row in rows)
    assert tuple(head) == launches.HEAD
    assert len(rows) == step.artifact.description.kernels == int(last.split()[0])
    moved = sum(int(row[5].replace(",", "")) + int(row[6].replace(",", "")) for row in rows)
    assert f"{moved:,} bytes moved" in last
    products = 2 * 32 * (20 * 16 + 16 * 10 + 20 * 16 + 16 * 10 + 16 * 10)  # forward, weights, what goes back
    assert int(re.search(r"([\d,]+) operations", last)[1].replace(",", "")) > products
    assert step.text("launches") in step.summary()


def test_no_gpu_is_needed_to_look(tmp_path, capsys):
    step = classifier("cpu")
    assert ".target sm_90" in step.ptx() and ".target sm_80" in step.ptx("sm_80")
    assert "launches of" in step.text("launches") and "launches" not in step.summary()
    with pytest.raises(gx.ArgumentError, match="architecture is 'sm_70'; it must be one of 'sm_80', "):
        step.ptx("sm_70")
    with pytest.raises(gx.ArgumentError, match="newer GPUs run kernels for the last one"):
        step.ptx("sm_100")  # of which LLVM ends the process
    file = tmp_path / "mine.py"
    file.write_text("import graphc as gx\nx = gx.input('x', gx.f32[10])\nstep = gx.function([x], x + 1.0)\n")
    assert cli.main(["show", f"{file}:step", "--level", "ptx"]) == 0
    assert ".entry " in capsys.readouterr().out
    assert cli.main(["show", f"{file}:step", "--level", "launches"]) == 0
    assert "1 launches of 1 kernels, 80 bytes moved" in capsys.readouterr().out


def test_registers_are_those_the_assembler_tells_of(monkeypatch, tmp_path):
    told = """ptxas info    : Compiling entry function 'first_1' for 'sm_90'
ptxas info    : Function properties for first_1
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers
ptxas info    : Function properties for second_2
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 120 bytes smem
"""
    file = tmp_path / "bin" / "ptxas"
    file.parent.mkdir()
    file.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{told}END\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assembler.assembled.cache_clear()
    assert assembler.assembled("some text", "sm_90") == {
        "first_1": Resources(32, 0, 0),
        "second_2": Resources(255, 16, 20),
    }
    monkeypatch.delenv("CUDA_HOME")
    monkeypatch.setattr(assembler, "WHEELS", ())
    assembler.assembled.cache_clear()
    assert assembler.assembled("some text", "sm_90") == {}
    assert "neither a driver nor ptxas is here" in classifier("cpu").text("launches")
    assembler.assembled.cache_clear()


def test_occupancy_is_that_of_the_scarcest_part():
    assert Resources(32, 0).occupancy(256, 0, "sm_90") == 1.0
    assert Resources(128, 0).occupancy(256, 0, "sm_90") == 0.25  # 65,536 registers: two blocks
    assert Resources(32, 0).occupancy(32, 0, "sm_90") == 0.5  # 32 blocks of one warp
    assert Resources(32, 0).occupancy(256, 100 << 10, "sm_90") == 0.25  # two blocks' shared memory
    assert Resources(32, 0).occupancy(256, 100 << 10, "sm_80") == 0.125
    assert Resources(0, 0).occupancy(1024, 0, "sm_90") == 1.0
    # As NVIDIA's calculator has them: warps get registers in one of four parts, sm_86 and sm_89 hold fewer threads.
    assert Resources(88, 0).occupancy(64, 0, "sm_90") == 20 / 64  # not the 23 warps that all registers would do for
    assert Resources(255, 0).occupancy(256, 0, "sm_80") == 0.125
    assert Resources(168, 0).occupancy(128, 0, "sm_90") == 12 / 64
    assert Resources(40, 0).occupancy(256, 0, "sm_86") == Resources(40, 0).occupancy(256, 0, "sm_89") == 1.0
    assert Resources(32, 0).occupancy(32, 0, "sm_86") == 16 / 48 and Resources(32, 0).occupancy(32, 0, "sm_89") == 0.5
    assert Resources(32, 0).occupancy(1024, 0, "sm_89") == 1024 / 1536
    assert Resources(32, 0).occupancy(256, 163 << 10, "sm_80") == Resources(32, 0).occupancy(256, 227 << 10, "sm_90")


def test_what_a_gpu_cannot_do_is_refused_in_one_line(gpu, monkeypatch):
    def refuse(*given):
        raise NotCovered("a loop whose number of steps is computed")

    monkeypatch.setattr(artifact, "draw", refuse)
    text = "train_step cannot run on a GPU: a loop whose number of steps is computed"
    with pytest.raises(gx.DeviceError, match=text) as caught:
        classifier("cuda")
    assert "compile it with device='cpu'" in str(caught.value) and "test_cuda_looks.py" in str(caught.value)
    monkeypatch.setattr(plan, "draw", refuse)
    with pytest.raises(gx.DeviceError, match=text):
        classifier("cpu").ptx()

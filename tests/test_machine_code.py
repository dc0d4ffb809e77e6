"""LLVM IR, assembly and PTX of one kernel, by its number or its name, and of what is not there."""

from __future__ import annotations

import re

import pytest

import graphc as gx
from graphc import nn, optim

BATCH = gx.dim("batch", max=32)


@pytest.fixture(scope="module")
def step():
    net = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 10))
    kinds = {"x": gx.f32[BATCH, 20], "y": gx.i64[BATCH]}
    return gx.train_step(net, nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=0.1), **kinds)


@pytest.fixture(scope="module")
def last():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells = nn.GRU(4, 5, batch_first=True)

        def forward(self, x):
            return self.cells(x)[0][:, -1]

    return gx.predict_step(Last(), x=gx.f32[BATCH, 6, 4])


def visible(text):
    """The functions of LLVM IR that can be called from outside."""
    found = re.findall(r"^define ([^@\n]*)@([\w.]+)\(", text, re.M)
    return [name for kind, name in found if "internal" not in kind]


def symbols(text):
    return re.findall(r"^\s*\.globl\s+(\w+)", text, re.M)


def test_every_kernel_by_number(step):
    whole = len(step.llvm())
    for number, nest in enumerate(step.artifact.program.nests):
        name = f"kernel_{number}_{nest.name}"
        assert visible(step.llvm(number))[0] == symbols(step.assembly(number))[0] == name
        assert "@step(" not in step.llvm(number) and len(step.llvm(number)) < whole


def test_sizes_are_those_of_the_step(step):
    """One text serves all extents: what is compiled for a kernel is its call, with its own."""
    assert re.search(r"@kernel_0_\w+\(ptr .*, i64 %d0", step.llvm(0)) and "i64 20" in step.llvm(0)


def test_by_the_name_of_a_kernel_or_of_its_text(step):
    program, sources = step.artifact.program, step.artifact.sources
    name = program.nests[0].name
    alike = [number for number, nest in enumerate(program.nests) if nest.name == name]
    assert visible(step.llvm(name)) == [f"kernel_{number}_{name}" for number in alike]
    assert visible(step.llvm(sources[-1].kernel.name)) == visible(step.llvm(len(sources) - 1))
    assert visible(step.llvm("exp")) == [next(k.name for k in step.artifact.kernels if k.plain_name == "exp")]


def test_a_loop_is_all_that_is_inside_of_it(last):
    program = last.artifact.program
    (number,) = [number for number, nest in enumerate(program.nests) if nest.repetition is not None]
    inside = list(program.nests[number].repetition.program.walk())
    names = visible(last.llvm(number))
    assert 0 < len(names) <= len(inside)
    assert all(any(name.endswith(nest.name) for nest in inside) for name in names)


def test_a_kernel_that_is_not_there(step):
    count = len(step.artifact.program.nests)
    with pytest.raises(gx.ArgumentError, match=rf"has no kernel {count}; its kernels are 0 to {count - 1}") as caught:
        step.llvm(count)
    assert "by name: " in str(caught.value) and "test_machine_code.py" in str(caught.value)
    with pytest.raises(gx.ArgumentError, match="has no kernel 'dot_add_relu_les'") as caught:
        step.assembly("dot_add_relu_les")
    assert "did you mean dot_add_relu" in str(caught.value)
    for wrong in (1.5, True, ["dot"]):
        with pytest.raises(gx.ArgumentError, match=r"kernel is .* must be the number or the name of a kernel"):
            step.llvm(wrong)


def test_ptx_of_one_kernel(step):
    entries = re.findall(r"\.entry (\w+)", step.ptx())
    first = re.findall(r"\.entry (\w+)", step.ptx(kernel=0))
    assert first == [entries[0]] == re.findall(r"\.entry (\w+)", step.ptx(kernel=entries[0]))
    assert ".target sm_80" in step.ptx("sm_80", 0)
    with pytest.raises(gx.ArgumentError, match="has no kernel 'dot_and'") as caught:
        step.ptx(kernel="dot_and")
    assert "did you mean" in str(caught.value)


def test_steps_on_a_gpu(gpu):
    net = nn.Sequential(nn.Linear(20, 16), nn.ReLU())
    step = gx.predict_step(net, x=gx.f32[BATCH, 20], device="cuda")
    assert step.assembly(0) == step.ptx(kernel=0) and step.ptx(kernel=0).count(".entry ") == 1
    assert "nvptx64" in step.llvm(0)

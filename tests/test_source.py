"""Kernel source: the texts of the seed programs stay as they are, are shared between shapes, and run uncompiled."""

from __future__ import annotations

import ast

import graphs
import numpy as np
import pytest

from graphc.backends import primitives, reference, source
from graphc.backends.contraction import TileShape
from graphc.ir.loops import Buffer
from graphc.ir.passes import run_passes
from graphc.ir.program import plan
from graphc.ir.types import evaluate

TILE = TileShape(14, 2)


def sources(program, **shapes):
    planned = plan(run_passes(program(**shapes)), TILE.width)
    return planned, [source.write(nest, TILE) for nest in planned.nests]


@pytest.mark.parametrize("program", graphs.PROGRAMS, ids=lambda program: program.__name__)
def test_text_of_seed_programs(program, golden):
    _, written = sources(program)
    texts = dict.fromkeys(each.kernel.text for each in written)
    golden(f"source_{program.__name__}.txt", "\n".join(texts))


def test_text_that_gathers(golden):
    """Of what may bring images of bytes together: the product of a softmax regression, not that of a wider layer."""
    gathering = [each.gather for each in sources(graphs.softmax_regression)[1] if each.gather is not None]
    (kernel,) = (each.kernel for each in gathering)
    golden("source_gathering.txt", "\n".join(each.text for each in (kernel, *kernel.calls)))
    assert all(each.gather is None for each in sources(graphs.mlp)[1])


def test_one_text_serves_every_shape():
    small = {each.kernel.text for each in sources(graphs.mlp, features=400, hidden=256, classes=5)[1]}
    large = {each.kernel.text for each in sources(graphs.mlp, features=784, hidden=256, classes=5)[1]}
    assert small == large


def test_texts_are_python():
    for program in graphs.PROGRAMS:
        for each in sources(program)[1]:
            (function,) = ast.parse(each.kernel.text).body
            assert [argument.arg for argument in function.args.args] == [name for name, _ in each.kernel.parameters]
            assert len(each.arguments) == len(each.kernel.parameters)


def test_linear_regression_runs_uncompiled(rng):
    """The whole step is one kernel; executed by Python on arrays it gives what the reference gives."""
    planned, (only,) = sources(graphs.linear_regression)
    graph = planned.graph
    arrays = graphs.arrays(graphs.linear_regression, 5, rng)
    expected = reference.run(graph, arrays)
    sizes = reference.dim_sizes(graph, arrays)
    memory = {}
    arguments = []
    for argument in only.arguments:
        if not isinstance(argument, Buffer):
            arguments.append(evaluate(argument, sizes))
            continue
        if argument.kind == "input":
            given = np.asarray(arrays[argument.value.attrs["name"]])
            memory[argument] = given.astype(np.float32).reshape(-1).copy()
        else:
            memory[argument] = np.zeros(64, np.float32)
        arguments.append(memory[argument])
    primitives.run(only.kernel, *arguments)
    for buffer, array in memory.items():
        name = buffer.name or buffer.value.attrs.get("name", "")
        if name in expected:
            wanted = expected[name].reshape(-1)
            np.testing.assert_allclose(array[: wanted.size], wanted, rtol=1e-5, err_msg=name)

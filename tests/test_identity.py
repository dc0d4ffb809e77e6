"""The text a graph is remembered by: the same in every process, another one after any change."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import graphs
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.ir import ops
from graphc.ir.graph import Graph, IRError, Origin, Output, Value, located
from graphc.ir.identity import identity
from graphc.ir.passes import run_passes
from graphc.ir.rewrite import renewed
from graphc.ir.types import Dim, Product, Sum, TensorType, add, multiply

HERE = Origin(identity.__code__, 0)


def loops() -> Graph:
    """A traced training step with loops, gradients, dropout, a look-up, labels to check, and an optimizer's part."""
    table, cell = nn.Embedding(7, 3), nn.RNN(3, 7, batch_first=True)
    opt, loss = optim.SGD([*table.parameters(), *cell.parameters()], lr=0.01, momentum=0.9), nn.CrossEntropyLoss()

    @gx.step
    def step(x: gx.i64["batch", 5], y: gx.i64["batch"]):
        hidden, _ = cell(table(x))
        cost = loss(gx.dropout(hidden[:, -1], 0.5), y)
        cost.backward()
        opt.step()
        return cost

    return step.traced


PROGRAMS = [*graphs.PROGRAMS, loops]


def other_numbers(item: Any) -> Iterator[Any]:
    """The same kind of thing with a difference, everywhere in it."""
    match item:
        case bool():
            yield not item
        case int():
            yield item + 1
            yield float(item)
        case float():
            yield math.nextafter(item, 1e9) if math.isfinite(item) else 0.0
        case str():
            yield f"{item}_"
        case None:
            yield 0
        case tuple():
            yield (*item, 1)
            for place, part in enumerate(item):
                yield from ((*item[:place], other, *item[place + 1 :]) for other in other_numbers(part))
        case Dim(name, most):
            yield Dim(name, most + 1)
            yield Dim(f"{name}_", most)
        case Product():
            yield multiply(2, item)
            yield add(item, 1)
        case Sum():
            yield add(item, 1)
            yield multiply(2, item)
        case TensorType(dtype, shape):
            yield TensorType("f64" if dtype != "f64" else "i32", shape)
            yield from (TensorType(dtype, other) for other in other_numbers(shape) if float not in map(type, other))
        case ops.Body():
            yield from map(ops.Body, changed_graphs(item.graph))
        case _:
            raise AssertionError(f"no way to change {item!r}")


def changed_values(value: Value) -> Iterator[Value]:
    yield replace(value, op=ops.tanh if value.op is not ops.tanh else ops.exp)
    if len(set(value.operands)) > 1:
        yield replace(value, operands=value.operands[::-1])
    if value.operands:
        yield replace(value, operands=value.operands[1:])
    for name, item in value.attrs.items():
        yield replace(value, attrs={**value.attrs, f"{name}_": item})
        yield from (replace(value, attrs={**value.attrs, name: other}) for other in other_numbers(item))
    yield from (replace(value, type=other) for other in other_numbers(value.type))
    for role in {"forward", "backward", "update"} - {value.role}:
        yield replace(value, origin=(value.origin or HERE)._replace(role=role))


def changed_graphs(graph: Graph) -> Iterator[Graph]:
    """Every graph with one difference."""
    yield replace(graph, name=f"{graph.name}_")
    if len(graph.inputs) > 1:
        yield replace(graph, inputs=graph.inputs[::-1])
    for place, output in enumerate(graph.outputs):
        before, after = graph.outputs[:place], graph.outputs[place + 1 :]
        yield replace(graph, outputs=(*before, *after))
        for other in ({"kind": f"{output.kind}_"}, {"name": f"{output.name}_"}, {"value": graph.inputs[0]}):
            if other.get("value") is not output.value:
                yield replace(graph, outputs=(*before, replace(output, **other), *after))
    for value in graph.values():
        for changed in changed_values(value):
            yield with_change(graph, value, changed)


def with_change(graph: Graph, old: Value, changed: Value) -> Graph:
    new = {each: each for each in graph.inputs} | {old: changed}
    for value in graph.values():
        if value not in new:
            new[value] = renewed(value, new)
    outputs = tuple(replace(output, value=new[output.value]) for output in graph.outputs)
    return Graph(graph.name, tuple(new[each] for each in graph.inputs), outputs)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_any_change_is_another_graph(program) -> None:
    graph = program()
    known, count = {identity(graph)}, 1
    for changed in changed_graphs(graph):
        known.add(identity(changed))
        count += 1
    assert len(known) == count > 100


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_passes_make_other_graphs(program) -> None:
    stages: list[Graph] = []
    graph = program()
    run_passes(graph, watch=lambda name, stage: stages.append(stage))
    assert identity(stages[-1]) != identity(graph)


PRINT_ALL = """
import hashlib, sys
sys.path.insert(0, {folder!r})
import test_identity
for program in test_identity.PROGRAMS:
    print(hashlib.sha256(test_identity.identity(program()).encode()).hexdigest())
"""


def test_it_is_the_same_in_every_process() -> None:
    here = [hashlib.sha256(identity(program()).encode()).hexdigest() for program in PROGRAMS]
    assert len(set(here)) == len(here)
    for seed in "12":
        command = [sys.executable, "-c", PRINT_ALL.format(folder=str(Path(__file__).parent))]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert found.stdout.split() == here


def test_equal_graphs_made_twice_are_one() -> None:
    assert identity(loops()) == identity(loops())


def test_numbers_keep_every_bit() -> None:
    texts = set()
    for number in (0.0, -0.0, 1.0, 1, True, math.inf, -math.inf, math.nan, 0.1, math.nextafter(0.1, 1), 5e-324):
        value = Value(ops.full, (), {"value": number, "type": TensorType("f64", ())}, TensorType("f64", ()))
        texts.add(identity(Graph("number", (), (Output("result", "x", value),))))
    assert len(texts) == 11


def test_names_cannot_stand_for_structure() -> None:
    """Text that looks like what is written around it."""
    texts = set()
    for name in ("x", "x' 0\nresult 'y", "x 0", 'x"', "x\\", "x' 0"):
        x = ops.input(name=name, role="data", type=TensorType("f32", (2,)))
        texts.add(identity(Graph("names", (x,), (Output("result", name, x),))))
    assert len(texts) == 6


def test_what_has_no_text_is_refused() -> None:
    value = Value(ops.full, (), {"value": object()}, TensorType("f64", ()))
    with pytest.raises(IRError, match="a object among the attributes"):
        identity(Graph("number", (), (Output("result", "x", value),)))


def test_the_users_line_does_not_matter() -> None:
    def graph() -> Graph:
        x = ops.input(name="x", role="data", type=TensorType("f32", (2,)))
        return Graph("line", (x,), (Output("result", "y", ops.tanh(x)),))

    with located(HERE):
        here = identity(graph())
    with located(Origin(HERE.code, 2, module="elsewhere")):
        assert identity(graph()) == here

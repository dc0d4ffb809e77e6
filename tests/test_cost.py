"""What a program is said to cost is what its kernels do: every access of an uncompiled run is counted."""

from __future__ import annotations

from collections import Counter

import graphs
import numpy as np
import pytest
from certified_models import MODELS, inputs_of
from emulator import TILE, emulate

from graphc.backends import meanings, primitives
from graphc.ir import ops
from graphc.ir.cost import Cost, cost_of, formula_of_nest, least_moved, print_cost
from graphc.ir.graph import Graph, Output
from graphc.ir.loops import Buffer
from graphc.ir.passes import run_passes
from graphc.ir.program import plan
from graphc.ir.types import Dim, TensorType

SMALL = Dim("batch", 6)
GRAPHS = {
    "linear_regression": lambda: graphs.linear_regression(SMALL),
    "softmax_regression": lambda: graphs.softmax_regression(SMALL, features=18, classes=10),
    "mlp": lambda: graphs.mlp(SMALL, features=18, hidden=20, classes=10),
}


class Touched:
    """Bytes of memory that were read and written, by address; told apart by the kernel that is running."""

    def __init__(self, monkeypatch):
        self.nests: list[tuple[set[int], set[int]]] = []
        for name in ("load", "load_lanes", "load_live", "load_at"):
            self.watch(monkeypatch, name, 0)
        for name in ("store", "store_lanes", "store_live", "store_spaced", "store_pairs"):
            self.watch(monkeypatch, name, 1)
        primitives._uncompiled.cache_clear()

    def watch(self, monkeypatch, name, side):
        meaning = getattr(meanings, name)

        def watched(p, at, *rest):
            self.nests[-1][side].update(self.bytes_of(name, p, at, rest))
            return meaning(p, at, *rest)

        monkeypatch.setattr(meanings, name, watched)
        monkeypatch.setitem(meanings.MEANINGS, name, watched)

    def bytes_of(self, name, p, at, rest):
        lanes = np.arange(primitives.LANES)
        places = {
            "load": lambda: [at], "store": lambda: [at],
            "load_lanes": lambda: at + lanes, "store_lanes": lambda: at + lanes,
            "load_live": lambda: (at + lanes)[rest[0]], "store_live": lambda: (at + lanes)[rest[1]],
            "load_at": lambda: at[rest[0]], "store_spaced": lambda: (at + lanes * rest[0])[rest[2]],
            "store_pairs": lambda: np.add.outer((at + 2 * lanes)[rest[2]], (0, 1)).ravel(),
        }[name]()  # fmt: skip
        first = p.__array_interface__["data"][0]
        return [first + int(place) * p.itemsize + byte for place in places for byte in range(p.itemsize)]


@pytest.fixture
def touched(monkeypatch):
    found = Touched(monkeypatch)
    yield found
    primitives._uncompiled.cache_clear()


@pytest.mark.parametrize("name", GRAPHS)
def test_bytes_are_those_the_kernels_touch(name, touched, monkeypatch):
    graph = run_passes(GRAPHS[name]())
    compare(graph, graphs.arrays_of(graph, SMALL.max, np.random.default_rng(0)), SMALL.max, touched, monkeypatch)


@pytest.mark.parametrize("name", ["mlp_adam_dropout", "conv_net"])
def test_bytes_of_trained_models_are_those_the_kernels_touch(name, touched, monkeypatch):
    step = MODELS[name]()
    compare(step.artifact.program.graph, inputs_of(step, 3), 3, touched, monkeypatch)


def compare(graph, arrays, size, touched, monkeypatch):
    """What the kernels read and write and what they are said to."""
    program = plan(graph, TILE.width)
    places = watch_places(monkeypatch)
    monkeypatch.setattr("emulator.run", lambda *args: (touched.nests.append((set(), set())), primitives.run(*args)))
    emulate(graph, arrays)
    scratch = set().union(*(place for buffer, place in places.items() if buffer.kind == "scratch"))
    sizes = dict.fromkeys(program.graph.dims, size)
    for nest, (read, written) in zip(program.nests, touched.nests, strict=True):
        cost, used = formula_of_nest(nest).at(sizes), (read - scratch, written - scratch)
        for term in nest.terms():
            if term.kind == "column" and term.detail[0].kind != "scratch":
                used = without_sums(*used, places[term.detail[0]], term.value.type.max_bytes)
        assert (cost.read, cost.written) == tuple(map(len, used)), nest.name


def without_sums(read, written, place, size):
    """Sums that are made in their own place are not read; and they are zeros by whole sets of lanes before."""
    return read - set(place), written - set(place[size:])


def watch_places(monkeypatch):
    """The addresses of each buffer, filled while the emulator runs."""
    from emulator import Run

    found: dict[Buffer, range] = {}
    memory = Run.memory

    def watched(self, number, buffer):
        array = memory(self, number, buffer)
        first = array.__array_interface__["data"][0]
        found[buffer] = range(first, first + array.nbytes)
        return array

    monkeypatch.setattr(Run, "memory", watched)
    return found


def chain(size):
    """A parameter moved against the gradient of the sum of its squared hyperbolic tangents."""
    x = ops.input(name="x", role="state", type=TensorType("f32", (size,)))
    y = ops.tanh(x)
    loss = ops.reshape(ops.sum(ops.mul(y, y), axes=(0,)), shape=())
    new = ops.sub(x, ops.mul(ops.constant(0.1, x), ops.gradient(loss, x)))
    return Graph("chain", (x,), (Output("result", "loss", loss), Output("update", "x", new)))


def test_a_loss_and_its_update_are_one_pass_over_memory():
    """The cotangent of a sum is known before the sum is: a row of any length is read once and kept nowhere."""
    program = plan(run_passes(chain(2**20)), 32)
    (nest,) = program.nests
    cost = cost_of(program)
    assert (cost.read, cost.written) == (4 * 2**20, 4 * 2**20 + 4)
    assert cost.moved == least_moved(program.graph).moved
    assert not nest.stash and all(buffer.name == "parts" for _, buffer in program.work)


@pytest.fixture
def done(monkeypatch):
    """Multiply-adds and elementary functions of uncompiled kernels, by name, one for every lane."""
    counts: Counter[str] = Counter()
    run = primitives.run

    def watched_run(kernel, *args):
        if kernel.plain_name in ("exp", "log", "tanh"):
            counts[kernel.plain_name] += np.size(args[0])
        return run(kernel, *args)

    def watch(name):
        meaning = meanings.MEANINGS[name]

        def watched(tile, *rest):
            counts["product"] += tile.size
            return meaning(tile, *rest)

        monkeypatch.setitem(meanings.MEANINGS, name, watched)

    for name in meanings.MEANINGS:
        if name.startswith("tile_multiply"):
            watch(name)
    monkeypatch.setattr(primitives, "run", watched_run)
    primitives._uncompiled.cache_clear()
    yield counts
    primitives._uncompiled.cache_clear()


@pytest.mark.parametrize("classes", [16, 32])
def test_operations_are_those_the_kernels_do(classes, done):
    """Where whole tiles and lanes are all there is: no lane idles. Of rows of 16 everything stays at hand."""
    rows = 2 * TILE.rows
    graph = run_passes(graphs.mlp(Dim("batch", rows), features=32, hidden=64, classes=classes))
    emulate(graph, graphs.arrays_of(graph, rows, np.random.default_rng(0)))
    cost = cost_of(plan(graph, TILE.width))
    assert cost.products == 2 * done.pop("product") and dict(cost.functions) == done
    assert done == {"exp": rows * classes, "log": rows}


def test_long_rows_are_read_once_a_lane_loop():
    """Softmax: the maximum, the sum of exponentials, the quotient; the exponentials are kept in a row of scratch."""
    for size, reads, writes in ((2**10, 1, 1), (2**20, 3, 2)):
        x = ops.input(name="x", role="data", type=TensorType("f32", (2, size)))
        top = ops.broadcast(ops.max(x, axes=(1,)), shape=x.shape)
        e = ops.exp(ops.sub(x, top))
        y = ops.div(e, ops.broadcast(ops.sum(e, axes=(1,)), shape=x.shape))
        cost = cost_of(plan(run_passes(Graph("softmax", (x,), (Output("result", "y", y),))), 32))
        assert (cost.read, cost.written) == (8 * size * reads, 8 * size * writes)


def test_operations_of_a_product():
    a, b = (ops.input(name=name, role="data", type=TensorType("f32", (32, 32))) for name in "ab")
    program = plan(run_passes(Graph("dot", (a, b), (Output("result", "c", ops.dot(a, b)),))), 32)
    assert cost_of(program) == Cost(2 * 4096, 4096, 2 * 32**3, products=2 * 32**3)
    assert print_cost(program).splitlines()[-2:] == [
        "             8.2         4.1         65536  in all",
        "             8.2         4.1             0  the least",
    ]

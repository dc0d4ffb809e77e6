"""The two lowerings agree bit for bit, and numba is imported only for what the direct one does not know."""

from __future__ import annotations

from typing import Any

import graphs
import numpy as np
import pytest
import random_graphs
from hypothesis import HealthCheck, given, settings
from lowered import check, run_python
from test_maths import TYPES, Native, load_mappings
from test_native import op_cases

import graphc as gx
from graphc import nn, optim
from graphc.backends import artifact, maths, reference
from graphc.backends.cache import Cache
from graphc.backends.exact import Feed
from graphc.backends.lower import LoweringError, lower, lower_if_covered
from graphc.backends.primitives import Codegen, Kernel
from graphc.backends.runtime import Runner, Storage
from graphc.backends.target import host
from graphc.ir import ops
from graphc.ir.graph import Graph, Output
from graphc.ir.passes import run_passes
from graphc.ir.text import parse_graph, parse_type

CODEGENS: tuple[Codegen, ...] = ("numba", "direct")


# --- running a graph both ways ----------------------------------------------------------------------------------------


def outcome(graph: Graph, arrays: graphs.Arrays, store: Cache, codegen: Codegen) -> dict[str, bytes]:
    """Every result and every state after three steps."""
    built = artifact.build(graph, store, codegen)
    order = built.program.graph
    storages = {value.attrs["name"]: Storage(arrays[value.attrs["name"]].copy()) for value in order.of_role("state")}
    runner = Runner(built, list(storages.values()))
    for number, value in enumerate(order.of_role("scalar")):
        runner.set_scalar(number, arrays[value.attrs["name"]])
    data = [np.ascontiguousarray(arrays[value.attrs["name"]]) for value in order.of_role("data")]
    sizes = reference.dim_sizes(order, arrays)
    found = {}
    for step in range(3):
        status, results = runner.step(data, [sizes[dim] for dim in order.dims])
        found |= {f"{step} {name}": np.asarray(each).tobytes() for (name, _), each in zip(runner.results, results)}
        found[f"{step} status"] = str(status).encode()
    return found | {name: storage.array.tobytes() for name, storage in storages.items()}


def assert_agreement(graph: Graph, arrays: graphs.Arrays, store: Cache) -> None:
    found = [outcome(graph, arrays, store, codegen) for codegen in CODEGENS]
    differing = [name for name in found[0] if found[0][name] != found[1][name]]
    assert not differing
    assert found[0].keys() == found[1].keys()


# --- models -----------------------------------------------------------------------------------------------------------


class Texts(nn.Module):
    """Characters through a recurrent or an attending layer to a guess at every place."""

    def __init__(self, layer: nn.Module) -> None:
        self.characters, self.layer, self.scores = nn.Embedding(20, 16), layer, nn.Linear(16, 20)

    def forward(self, x: gx.Tensor) -> gx.Tensor:
        h = self.layer(self.characters(x))
        return self.scores(h[0] if isinstance(h, tuple) else h).flatten(0, 1)


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 5, padding=2), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(3, 5, 3), nn.GELU(), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(45, 10),
    )  # fmt: skip


MODELS: dict[str, Any] = {
    "lenet": (lenet, lambda net: optim.AdamW(net.parameters(), lr=0.01)),
    "lstm": (lambda: Texts(nn.LSTM(16, 16, batch_first=True)), lambda net: optim.SGD(net.parameters(), lr=0.5)),
    "gru": (lambda: Texts(nn.GRU(16, 16, batch_first=True)), lambda net: optim.RMSprop(net.parameters())),
    "transformer": (
        lambda: Texts(nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True)),
        lambda net: optim.Adam(net.parameters(), amsgrad=True),
    ),
}


def compiled(name: str) -> tuple[gx.Function, graphs.Arrays]:
    """A model's training step and what to call it with."""
    gx.manual_seed(1)
    net, optimizer = MODELS[name]
    model, n, random = net(), gx.dim("batch", max=8), np.random.default_rng(2)
    texts = isinstance(model, Texts)
    x, y = (gx.i64[n, 6], gx.i64[n, 6]) if texts else (gx.f32[n, 1, 16, 16], gx.i64[n])
    step = gx.train_step(
        model, lambda scores, y: gx.cross_entropy(scores, y.flatten() if texts else y), optimizer(model), x=x, y=y
    )
    given = random.integers(0, 20, (7, 6)) if texts else random.standard_normal((7, 1, 16, 16)).astype(np.float32)
    arrays = {name: np.asarray(parameter.numpy()) for name, parameter in step.parameters.items()}
    return step, arrays | {"x": given, "y": random.integers(0, 10, (7, 6) if texts else 7)}


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, store: Cache) -> None:
    step, arrays = compiled(name)
    graph = step.artifact.program.graph
    scalars = {value.attrs["name"]: np.float32(0.01) for value in graph.of_role("scalar")}
    assert_agreement(graph, arrays | scalars, store)
    assert [kernel.name for kernel in step.artifact.kernels if lower_if_covered(kernel) is None] == []


def test_epochs_over_bytes(store: Cache) -> None:
    """Brought together by the first product, as by a kernel of their own where they are floats."""
    net, n, random = nn.Linear(84, 10), gx.dim("batch", max=64), np.random.default_rng(3)
    step = gx.train_step(net, nn.CrossEntropyLoss(), optim.SGD(net.parameters(), 0.1), x=gx.f32[n, 84], y=gx.i64[n])
    graph, first = step.artifact.program.graph, {k: v.copy() for k, v in step.state_dict().items()}
    images, labels = random.integers(0, 256, (150, 84)).astype(np.uint8), random.integers(0, 10, 150)
    found = []
    for codegen, data, kind in (
        *((each, images, 1) for each in CODEGENS),
        ("direct", images * np.float32(1 / 255), 0),
    ):
        built = artifact.build(graph, store, codegen)
        storages = [Storage(first[value.attrs["name"]]) for value in built.program.graph.of_role("state")]
        runner = Runner(built, storages)
        runner.set_scalar(0, 0.1)
        feed, order = Feed(runner, (data, labels), (kind, 0)), np.empty(150, np.int64)
        status, totals = runner.epoch(feed, order, (7, 1), 64, (0, 3), False)
        found.append((status, totals, [storage.array.tobytes() for storage in storages]))
    assert found[0][0] == 0 and found[0] == found[1] == found[2]


# --- ops, functions and random programs -------------------------------------------------------------------------------


@pytest.mark.parametrize("program", graphs.PROGRAMS, ids=lambda program: program.__name__)
def test_seed_programs(program: Any, store: Cache, rng: np.random.Generator) -> None:
    assert_agreement(run_passes(program()), graphs.arrays(program, 37, rng), store)


def test_products_that_leave_out_corners(store: Cache, rng: np.random.Generator) -> None:
    """Attention to the last seven places, whose weights are zeros above one diagonal and below another."""
    q, k, v = (gx.input(name, gx.f32[50, 32]) for name in "qkv")
    row, column = gx.arange(50).reshape(50, 1), gx.arange(50)
    seen = (column <= row) & (column > row - 7)
    weights = gx.softmax(gx.where(seen, q @ k.T, -np.inf), -1)
    slopes = gx.grad(((weights @ v) ** 2).sum(), [q, k, v])
    graph = run_passes(gx.function([q, k, v], dict(zip("qkv", slopes, strict=True))).traced)
    assert_agreement(graph, {name: rng.normal(size=(50, 32)).astype(np.float32) for name in "qkv"}, store)


@pytest.mark.parametrize(("op", "sample"), list(op_cases()))
def test_every_op(op: Any, sample: Any, store: Cache, rng: np.random.Generator) -> None:
    types = [parse_type(text, {}) for text in sample.operands]
    operands = [ops.input(name=f"x{k}", role="data", type=kind) for k, kind in enumerate(types)]
    graph = run_passes(Graph("one", tuple(operands), (Output("result", "out", op(*operands, **sample.attrs)),)))
    arrays = {f"x{k}": graphs.random_array(kind, sample.low, sample.high, rng) for k, kind in enumerate(types)}
    assert_agreement(graph, arrays, store)


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=random_graphs.random_steps())
def test_random_programs(text: str, store: Cache) -> None:
    arrays = random_graphs.arrays(np.random.default_rng(7))
    graph = run_passes(parse_graph(text))
    assert_agreement(graph, {name: array.astype(np.float32) for name, array in arrays.items()}, store)


@pytest.fixture(scope="module")
def functions() -> dict[str, Native]:
    return {codegen: load_mappings(TYPES, host(), codegen) for codegen in CODEGENS}


@pytest.mark.parametrize("name", sorted(maths.FUNCTIONS))
def test_elementary_functions(name: str, functions: dict[str, Native]) -> None:
    """On all sizes of numbers, of both signs."""
    random = np.random.default_rng(3)
    for real in ("f32", "f64"):
        limits = np.finfo(real.replace("f", "float"))
        sizes = 2.0 ** random.uniform(limits.minexp - limits.nmant, limits.maxexp, 4096)
        x = np.concatenate([sizes, -sizes, random.normal(size=4080), [0, -0.0, 1, -1, *[np.inf, -np.inf, np.nan] * 4]])
        x = x.astype(limits.dtype)
        arguments = [x, random.permutation(x)][: len(maths.instance(name, real).parameters)]
        for kind in (real, f"{real}x16"):
            ways = [functions[codegen][f"{name}_{kind}"](*arguments).tobytes() for codegen in CODEGENS]
            assert ways[0] == ways[1], kind


# --- what is covered --------------------------------------------------------------------------------------------------

SWITCH = """def switch(p, n):
    x = 1
    if n > 3:
        x = 2
        y = x + n
        store(p, 0, y)
    elif n == 3 or n < -1 and n > -9:
        y = 5
        store(p, 0, y + x)
    for k in range(2):
        y = k + x
        x += y
    for k in range(9, 0 + 12, 2):
        store(p, k % 4, y * k - x)
    while x < 100:
        last = x
        x = 2 * last
    store(p, 4, x + -1)
"""


@pytest.mark.parametrize("codegen", CODEGENS)
def test_names_in_branches_and_loops(codegen: Codegen) -> None:
    """Names that branches and loops hand on, those that stay inside, and those of one place after another."""
    kernel = Kernel("switch", SWITCH, (("p", "i64*"), ("n", "i64")))
    for n in (-10, -5, 0, 3, 4):
        check(kernel, np.zeros(5, np.int64), n, codegen=codegen)


NOT_COVERED = [
    "x = load(p, 0) if n > 3 else load(p, 1)\n    store(p, 0, x)",
    "store(p, 0, select(1 < n < 4, load(p, 1), load(p, 2)))",
]


@pytest.mark.parametrize("lines", NOT_COVERED)
def test_numba_takes_what_is_not_covered(lines: str) -> None:
    kernel = Kernel("rare", f"def rare(p, n):\n    {lines}\n", (("p", "f32*"), ("n", "i64")))
    assert lower_if_covered(kernel) is None
    assert lower(kernel) == lower(kernel, "numba")
    with pytest.raises(LoweringError, match="the direct lowering does not cover it"):
        lower(kernel, "direct")


def test_a_step_is_compiled_without_numba(tmp_path: Any) -> None:
    program = (
        "import sys\nimport numpy as np\nimport graphc as gx\n"
        "w = gx.parameter('w', np.ones((4, 3), np.float32))\nx = gx.input('x', gx.f32['batch', 4])\n"
        "loss = gx.tanh(x @ w).mean()\nstep = gx.function([x], loss, updates={w: w - gx.grad(loss, w)})\n"
        "print(step.artifact.fresh, 'llvmlite' in sys.modules, 'numba' in sys.modules)\n"
    )
    assert run_python(program, GRAPHC_CACHE_DIR=str(tmp_path)) == "True True False\n"

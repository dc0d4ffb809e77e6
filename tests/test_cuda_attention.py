"""Attention on GPUs: found where it is written out, gone through tile by tile, its scores never in memory."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attention_cases import ATTENTION
from test_attention import Compared
from test_cuda import meetings_of, with_kernel

import graphc as gx
from graphc import functional as F
from graphc import nn, optim
from graphc.backends import reference
from graphc.backends.artifact import passed
from graphc.backends.cuda.assembler import assemble
from graphc.backends.cuda.device import Call
from graphc.backends.cuda.emulation.machine import Emulator
from graphc.backends.cuda.emulation.watched import Fault, Watched
from graphc.backends.cuda.entries import Entry, buffers
from graphc.backends.cuda.passes import passed_for_device
from graphc.backends.cuda.plan import Drawing, draw
from graphc.backends.cuda.ptx import ARCHITECTURES, program_of, ptx
from graphc.backends.cuda.serial import SHAPE
from graphc.backends.cuda.tiled import tile_of_points
from graphc.backends.primitives import Kernel
from graphc.ir import ops
from graphc.ir.graph import Graph, Value
from graphc.ir.program import plan
from graphc.ir.text import parse_graph, print_graph
from graphc.ir.types import DTYPES, Dim, bound

Array = np.ndarray[Any, Any]
SEED = np.array([11, 3])


@dataclass(frozen=True)
class Case:
    """Attention of a query, a key, a value and, if it is of some dtype, a mask.

    most   the largest batch, length and source, which decide how large tiles are; a source of 0 is the length
    sizes  of the vectors that scores are of, and of values
    """

    maker: Callable[..., Any]
    mask: Any = None
    dtype: Any = gx.f32
    most: tuple[int, int, int] = (3, 70, 70)
    sizes: tuple[int, int] = (8, 5)
    heads: int = 2

    def function(self, differentiated: bool = True) -> gx.Function:
        gx.manual_seed(7)
        batch, length = map(gx.dim, ("batch", "length"), self.most)
        source = gx.dim("source", max=self.most[2]) if self.most[2] else length
        shapes = {"query": (length, self.sizes[0]), "key": (source, self.sizes[0]), "value": (source, self.sizes[1])}
        given = {name: gx.input(name, self.dtype[batch, self.heads, *shape]) for name, shape in shapes.items()}
        if self.mask is not None:
            given["mask"] = gx.input("mask", self.mask[length, source])
        outputs = {"result": self.maker(*given.values())}
        if differentiated:
            loss = (outputs["result"] * gx.sin(outputs["result"] + 1.0)).sum()
            outputs |= zip(shapes, gx.grad(loss, [given[name] for name in shapes]), strict=True)
        return gx.function([*given.values()], outputs)


def attention(**options: Any) -> Callable[..., Any]:
    return lambda q, k, v, *mask: F.scaled_dot_product_attention(q, k, v, *mask, **options)


def by_hand(q: Any, k: Any, v: Any) -> Any:
    return F.softmax(q @ k.transpose(-2, -1) * 0.2, -1) @ v


CASES = {
    "plain": Case(attention()),
    "causal": Case(attention(is_causal=True)),
    "causal of one length": Case(attention(is_causal=True), most=(3, 70, 0)),
    "hidden": Case(attention(), gx.bool_),
    "added": Case(attention(scale=0.5), gx.f32),
    "thinned": Case(attention(dropout_p=0.3, is_causal=True)),
    "by hand": Case(by_hand),
    "grouped": Case(lambda q, k, v: attention(enable_gqa=True)(q, k[:, :1], v[:, :1])),
    "wide": Case(attention(), sizes=(33, 64)),
    "double": Case(attention(is_causal=True), dtype=gx.f64),
    "middle tiles": Case(attention(is_causal=True), most=(20, 128, 128), sizes=(17, 20), heads=1),
    "large tiles": Case(attention(), gx.bool_, most=(64, 256, 256), sizes=(20, 17)),
    "large tiles, causal": Case(attention(is_causal=True), most=(64, 256, 0), sizes=(16, 64)),
}


def numbers(graph: Graph, rng: np.random.Generator, batch: int, length: int, source: int) -> dict[str, Array]:
    """Inputs of those sizes; no query sees no key but the one in row 1, where a mask hides all of them."""
    extents = {"batch": batch, "length": length, "source": source}
    found = {}
    for value in graph.of_role("data"):
        drawn = rng.normal(size=[extents[each.name] if isinstance(each, Dim) else each for each in value.shape])
        found[value.attrs["name"]] = drawn > -0.5 if value.dtype == "bool" else drawn.astype(DTYPES[value.dtype])
    if "mask" in found and found["mask"].dtype == bool:
        found["mask"][1:2] = False
    return found


def emulated(graph: Graph, machine: Any, arrays: dict[str, Array]) -> dict[str, Array]:
    sizes = reference.dim_sizes(graph, arrays | ({"random_state": SEED} if graph.of_role("state") else {}))
    machine.put("state", {"random_state": SEED})
    assert machine.run([*arrays.values()], sizes) == 0
    return machine.get("results", sizes)


def wanted(graph: Graph, arrays: dict[str, Array], double: bool = True) -> dict[str, Array]:
    """Results; a state that is drawn from goes on elsewhere."""
    state = {"random_state": SEED} if graph.of_role("state") else {}
    found = reference.run(graph, arrays | state, double=double)
    return {output.name: found[output.name] for output in graph.of_kind("result")}


def tiles_of(graph: Graph) -> list[Value]:
    return [value for value in graph.values() if value.op is ops.tiles]


# --- where it is found ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_tiles_mean_what_was_written_out(name: str, rng: np.random.Generator) -> None:
    """Also where more keys than queries, or fewer, are seen; and the graph survives being printed."""
    function = CASES[name].function()
    graph, plain = passed_for_device(function.traced), passed(function.traced)
    assert len(tiles_of(graph)) == 3  # forward, and backward by queries and by keys
    assert not tiles_of(plain)
    for extents in ((2, 5, 9), (1, 9, 4)):
        arrays = numbers(graph, rng, *extents)
        found, expected = wanted(graph, arrays), wanted(plain, arrays)
        for title in expected:
            np.testing.assert_allclose(found[title], expected[title], rtol=1e-9, atol=1e-11, err_msg=title)
    text = print_graph(graph)
    assert print_graph(parse_graph(text)) == text


def test_inference_takes_one_nest_and_keeps_no_normaliser() -> None:
    graph = passed_for_device(CASES["causal"].function(differentiated=False).traced)
    assert [nest.name for nest in plan(graph, SHAPE.width).nests] == ["attention"]


def test_weights_that_somebody_reads_are_in_memory() -> None:
    x = gx.input("x", gx.f32[gx.dim("batch", max=3), 20, 8])
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    result, weights = layer(x, x, x)
    for outputs, count in (({"y": result, "w": weights}, 0), ({"y": result}, 1)):
        assert len(tiles_of(passed_for_device(gx.function([x], outputs).traced))) == count


def test_second_derivatives_are_right(rng: np.random.Generator) -> None:
    q, k, v = (gx.input(name, gx.f64[2, 6, 4]) for name in "qkv")
    (slope,) = gx.grad((F.scaled_dot_product_attention(q, k, v) ** 2).sum(), [k])
    function = gx.function([q, k, v], dict(zip("qkv", gx.grad((slope**2).sum(), [q, k, v]), strict=True)))
    arrays = {name: rng.normal(size=(2, 6, 4)) for name in "qkv"}
    graph = passed_for_device(function.traced)
    expected = wanted(passed(function.traced), arrays)
    for found in (wanted(graph, arrays), emulated(graph, Emulator(draw(graph)), arrays)):
        for name in "qkv":
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-8, atol=1e-10)


def test_attention_in_a_loop_is_tiles_too(rng: np.random.Generator) -> None:
    q, k = gx.input("q", gx.f32[3, 9, 4]), gx.input("k", gx.f32[11, 4])

    def step(state: Any, query: Any) -> Any:
        result = F.scaled_dot_product_attention(query + state, k, k)
        return result, result.sum()

    last, sums = gx.scan(step, gx.zeros((9, 4)), q)
    outputs = {"last": last, "sums": sums, "slope": gx.grad((last * last).sum(), [k])[0]}
    function = gx.function([q, k], outputs)
    graph = passed_for_device(function.traced)
    arrays = {"q": rng.normal(size=(3, 9, 4)).astype("f"), "k": rng.normal(size=(11, 4)).astype("f")}
    expected, found = wanted(passed(function.traced), arrays), emulated(graph, Emulator(draw(graph)), arrays)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


# --- memory -----------------------------------------------------------------------------------------------------------


def work_of(name: str, length: int) -> int:
    graph = passed_for_device(replace(CASES[name], most=(4, length, 0)).function().traced)
    program = plan(graph, SHAPE.width)
    buffers = {buffer for nest in program.nests for buffer in nest.buffers()}
    assert max(bound(buffer.value.type.count) for buffer in buffers if buffer.kind == "value") <= 4 * 2 * length * 8
    return draw(graph).program.work_bytes


@pytest.mark.parametrize("name", ["plain", "causal", "thinned"])
def test_memory_grows_as_the_length_does(name: str) -> None:
    short, long = work_of(name, 512), work_of(name, 1024)
    assert 1.9 < long / short <= 2
    plain = draw(passed(replace(CASES[name], most=(4, 1024, 0)).function().traced)).program.work_bytes
    assert plain > 10 * long


# --- what kernels do --------------------------------------------------------------------------------------------------

UNITS = 16  # in the last place of the largest number: what a result may be away from float64


@pytest.mark.parametrize("name", CASES)
def test_kernels_are_as_exact_as_those_that_keep_scores(name: str, rng: np.random.Generator) -> None:
    function = CASES[name].function()
    graph = passed_for_device(function.traced)
    machine, plain = Emulator(draw(graph)), Emulator(draw(passed(function.traced)))
    for extents in ((2, 37, 70), (1, 70, 5), (1, 3, 33)):
        arrays = numbers(graph, rng, *extents)
        expected, found, other = wanted(graph, arrays), emulated(graph, machine, arrays), emulated(graph, plain, arrays)
        for title in expected:
            unit = np.finfo(found[title].dtype).eps * np.abs(expected[title]).max()
            error, known = (np.abs(each[title] - expected[title]).max() / unit for each in (found, other))
            limit = UNITS if found[title].dtype == np.float32 else 4 * UNITS  # where the reference rounds as we do
            assert error <= max(limit, 3 * known), (title, extents, error, known)


def test_the_cases_take_all_sizes_of_tiles() -> None:
    taken = set()
    for case in CASES.values():
        nests = plan(passed_for_device(case.function().traced), SHAPE.width).nests
        taken |= {tile_of_points(nest, nest.tiling).rows for nest in nests if nest.tiling is not None}
    assert taken == {1, 2, 4}


def test_numbers_are_pytorchs() -> None:
    """All its cases but those of one query to one key, whose scores are no matrices."""
    compared = Compared("attention", "f32", True)
    graph = passed_for_device(compared.step.traced)
    nests = plan(graph, SHAPE.width).nests
    forward = [nest for nest in nests if nest.tiling is not None and nest.tiling.softmax is not None]
    assert len(forward) == sum("one" not in expression for _, expression in ATTENTION)
    assert not any(nest.product for nest in nests)
    found = emulated(graph, Emulator(draw(graph)), dict(zip(compared.names, compared.arrays(), strict=True)))
    for output, label in zip(graph.of_kind("result"), compared.labels, strict=True):
        compared.check(found[output.name], label)


@pytest.mark.parametrize("hides", [False, True])
def test_what_is_not_finite_is_what_it_is_elsewhere(hides: bool, rng: np.random.Generator) -> None:
    """NaN and infinities in queries and masks, and rows that see nothing."""
    case = CASES["hidden" if hides else "added"]
    graph = passed_for_device(case.function().traced)
    arrays = numbers(graph, rng, 1, 20, 21)
    arrays["query"][0, 0, 3] = np.nan
    arrays["query"][0, 1, 4, 0] = np.inf
    if not hides:
        arrays["mask"][2, 5:] = arrays["mask"][7] = -np.inf
    expected, found = wanted(graph, arrays), emulated(graph, Emulator(draw(graph)), arrays)
    finite = np.isfinite(expected["result"])
    assert np.array_equal(np.isnan(found["result"]), np.isnan(expected["result"])) and not finite.all()
    np.testing.assert_allclose(found["result"][finite], expected["result"][finite], rtol=1e-5, atol=1e-6)


def test_bits_do_not_depend_on_how_many_blocks_there_are(rng: np.random.Generator) -> None:
    graph = passed_for_device(CASES["thinned"].function().traced)
    arrays, drawing = numbers(graph, rng, 2, 37, 40), draw(graph)
    first = emulated(graph, Emulator(drawing), arrays)
    for entry in drawing.entries:
        if "attention" in entry.name:
            kernel = entry.pieces[0].kernel
            other = emulated(graph, Emulator(with_kernel(drawing, kernel, kernel)), arrays)
            assert all(first[name].tobytes() == other[name].tobytes() for name in first)


@pytest.mark.parametrize(("name", "length"), [("hidden", 3), ("thinned", 17), ("middle tiles", 3)])
def test_threads_keep_to_themselves(name: str, length: int, rng: np.random.Generator) -> None:
    graph = passed_for_device(replace(CASES[name], sizes=(3, 2), heads=1).function().traced)
    arrays = numbers(graph, rng, 1, length, 17)
    expected, found = wanted(graph, arrays), emulated(graph, Watched(draw(graph)), arrays)
    for title in expected:
        np.testing.assert_allclose(found[title], expected[title], rtol=1e-4, atol=1e-5, err_msg=title)


class Alone(Watched):
    """Watches one kernel, which one block runs; whatever is launched before it is compiled."""

    def __init__(self, drawing: Drawing, kernel: Kernel) -> None:
        super().__init__(drawing)
        self.kernel = kernel

    def do(self, call: Call) -> None:
        is_watched = any(piece.kernel is self.kernel for piece in self.entries[call.kernel].pieces)
        (super() if is_watched else super(Watched, self)).do(call)

    def launch(self, made: Entry, words: list[Any], failed: bool) -> None:
        for piece in made.pieces:
            own, words = words[: len(buffers(piece))], words[len(buffers(piece)) :]
            if piece.kernel is self.kernel:
                super().launch(replace(made, pieces=(piece,), guarded=(failed,)), [*own, 1], failed)


@pytest.mark.parametrize("number", range(3))
def test_no_meeting_can_be_left_out(number: int, rng: np.random.Generator) -> None:
    graph = passed_for_device(replace(CASES["plain"], sizes=(17, 2), heads=1).function().traced)
    drawing, arrays = draw(graph), numbers(graph, rng, 1, 17, 17)
    pieces = [piece for entry in drawing.entries for piece in entry.pieces]
    old = [piece.kernel for piece in pieces if piece.kernel.name.startswith("attention")][number]
    emulated(graph, Alone(drawing, old), arrays)
    left_out = list(meetings_of(old))
    assert len(left_out) == (4, 6, 8)[number]
    for kernel in left_out:
        with pytest.raises(Fault):
            emulated(graph, Alone(with_kernel(drawing, old, kernel), kernel), arrays)


# --- PTX --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", [8, 64, 128])
def test_kernels_become_ptx_without_spills(size: int, architecture: str) -> None:
    case = replace(CASES["causal"], most=(64, 1024, 0), sizes=(size, size))
    program = program_of(passed_for_device(case.function().traced))
    text = ptx(program, architecture)
    assert "atom" not in text and ".local" not in text
    asked = assemble(text, architecture)
    if not asked:  # there is no assembler here
        return
    print(size, architecture, {name: each.registers for name, each in asked.items()})
    assert set(asked) == set(program.kernels)
    assert all(each.spilled_bytes == each.local_bytes == 0 for each in asked.values())


def test_exported_kernels_are_those_of_tiles(tmp_path: Path) -> None:
    function = replace(CASES["hidden"], sizes=(4, 4)).function()
    gx.export(function, tmp_path / "attended", targets=["cuda"])
    (text,) = (path.read_text() for path in tmp_path.rglob("*.ptx"))
    assert ".entry attention_of_queries" in text and ".entry attention_" in text


# --- steps on a GPU ---------------------------------------------------------------------------------------------------


class Causal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.characters, self.places = nn.Embedding(13, 16), nn.Embedding(20, 16)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True, norm_first=True)
        self.scores = nn.Linear(16, 13)

    def forward(self, x: Any) -> Any:
        return self.scores(self.block(self.characters(x) + self.places.weight, is_causal=True)).flatten(0, 1)


def trained(device: str, words: Array) -> tuple[gx.Function, list[float]]:
    gx.manual_seed(1)
    net, kind = Causal(), gx.i64[gx.dim("batch", max=6), 20]
    adam = optim.AdamW(net.parameters(), lr=1e-2)
    step = gx.train_step(
        net, lambda scores, y: gx.cross_entropy(scores, y.flatten()), adam, x=kind, y=kind, device=device
    )
    return step, [float(step(words[first : first + 4], words[first : first + 4]).loss) for first in range(0, 15, 4)]


def test_a_transformer_learns_on_a_gpu_as_on_the_cpu(gpu: Any, rng: np.random.Generator) -> None:
    words = rng.integers(0, 13, (15, 20))
    (_, here), (step, there) = (trained(device, words) for device in ("cpu", "cuda"))
    assert there[-1] < there[0] and np.allclose(there, here, rtol=2e-4)
    (row,) = (line.split() for line in step.text("launches").splitlines() if " attention_of_" in line)
    assert row[1].startswith("attention_of_queries_and_1_")  # though both write parts of one gradient
    assert int(row[4].replace(",", "")) > 4 * 16 * 17  # shared bytes: a tile of weights and more
    stems = {kernel.name.rpartition("_")[0] for kernel in step.artifact.kernels}
    assert stems > {"attention", "attention_of_queries", "attention_of_keys"}
    assert "tiles(" in step.text("tile_attention") and "tile_attention" in str(step.diff("trace", "graph"))
    assert "attention_of_keys" in step.to_dot(level="kernels")


def test_the_example_learns_on_a_gpu_as_on_the_cpu(gpu: Any, rng: np.random.Generator) -> None:
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "transformer.py"))
    text = rng.integers(0, 30, (2, 3, example["LENGTH"]), np.uint8)
    losses = {}
    for device in ("cpu", "cuda"):
        gx.manual_seed(1)
        net, kinds = example["Transformer"](30), {"x": example["x"], "y": example["y"]}
        step = gx.train_step(net, example["loss"], optim.AdamW(net.parameters(), lr=1e-3), **kinds, device=device)
        losses[device] = [float(step(*text).loss) for _ in range(4)]
    assert losses["cuda"][-1] < losses["cuda"][0]
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=1e-4)

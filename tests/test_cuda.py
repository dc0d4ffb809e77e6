"""Kernels for GPUs, without one: they compile to PTX, give the CPU's numbers when the CPU runs them block by block, and
do nothing that threads must not do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import functional as F
from graphc import nn, optim
from graphc.backends.cuda.assembler import assemble
from graphc.backends.cuda.device import Grid, Launch, LaunchCall, calls
from graphc.backends.cuda.emulation.machine import Emulator
from graphc.backends.cuda.emulation.watched import Fault, Memory, Pointer, Watch, Watched, run_block
from graphc.backends.cuda.plan import Drawing, draw
from graphc.backends.cuda.ptx import ARCHITECTURES, compile_modules, modules, program_of, ptx
from graphc.backends.primitives import Kernel

Batch = tuple[np.ndarray, np.ndarray]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.cells, self.head = nn.Embedding(11, 8), nn.GRU(8, 12, batch_first=True), nn.Linear(12, 11)

    def forward(self, x: Any) -> Any:
        return self.head(self.cells(self.table(x))[0]).transpose(1, 2)


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(11, 16), nn.Linear(16, 11)
        self.layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.1, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.head(self.layer(self.table(x))).transpose(1, 2)


def pictures(rng: np.random.Generator, count: int, *shape: int) -> Batch:
    return rng.random((count, *shape), np.float32), rng.integers(0, 10, count)


def words(rng: np.random.Generator, count: int) -> Batch:
    return rng.integers(0, 11, (count, 6)), rng.integers(0, 11, (count, 6))


def squares(output: Any, target: Any) -> Any:
    return ((output - target) ** 2).mean()


def of_pictures(net: nn.Module, optimizer: Callable[..., Any], *shape: int) -> gx.Function:
    x, y = gx.f32["batch", *shape], gx.i64["batch"]
    return gx.train_step(net, nn.CrossEntropyLoss(), optimizer(net.parameters()), x=x, y=y, metrics=["accuracy"])


def of_words(net: nn.Module) -> gx.Function:
    kind = gx.i64["batch", 6]
    return gx.train_step(net, F.cross_entropy, optim.SGD(net.parameters(), lr=0.1), x=kind, y=kind, max_grad_norm=1.0)


def linear() -> gx.Function:
    net, kind = nn.Linear(1, 1), gx.f32["batch", 1]
    return gx.train_step(net, squares, optim.SGD(net.parameters(), lr=0.1), x=kind, y=kind)


def softmax() -> gx.Function:
    return of_pictures(nn.Linear(20, 10), lambda p: optim.SGD(p, lr=0.1), 20)


def mlp() -> gx.Function:
    net = nn.Sequential(nn.Linear(20, 18), nn.ReLU(), nn.Linear(18, 10))
    return of_pictures(net, lambda p: optim.SGD(p, lr=0.1), 20)


def lenet() -> gx.Function:
    layers = [nn.Conv2d(1, 3, 5), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(75, 10)]
    return of_pictures(nn.Sequential(*layers), lambda p: optim.SGD(p, lr=0.1, momentum=0.9), 1, 14, 14)


def normed() -> gx.Function:
    layers = [nn.Linear(20, 40), nn.LayerNorm(40), nn.GELU(), nn.Dropout(0.3), nn.Linear(40, 10)]
    return of_pictures(nn.Sequential(*layers), lambda p: optim.RMSprop(p, lr=1e-3), 20)


MODELS: dict[str, tuple[Callable[[], gx.Function], Callable[[np.random.Generator, int], Batch]]] = {
    "linear": (linear, lambda rng, count: (rng.random((count, 1), np.float32), rng.random((count, 1), np.float32))),
    "softmax": (softmax, lambda rng, count: pictures(rng, count, 20)),
    "mlp": (mlp, lambda rng, count: pictures(rng, count, 20)),
    "lenet": (lenet, lambda rng, count: pictures(rng, count, 1, 14, 14)),
    "normed": (normed, lambda rng, count: pictures(rng, count, 20)),
    "recurrent": (lambda: of_words(Recurrent()), words),
    "attending": (lambda: of_words(Attending()), words),
}


@cache
def made(name: str) -> tuple[gx.Function, Drawing]:
    step = MODELS[name][0]()
    return step, draw(step.artifact.program.graph)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_becomes_ptx(name: str, architecture: str) -> None:
    step, _ = made(name)
    program = program_of(step.artifact.program.graph)
    text = ptx(program, architecture)
    assert ".version 8.0" in text and f".target {architecture}" in text
    assert set(re.findall(r"\.entry (\w+)", text)) == set(program.kernels)
    assert not re.findall(r"\bcall\b|\.approx|\.ftz|\.local", text)
    asked = assemble(text, architecture)
    if not asked:
        print(f"{name} {architecture}: {len(program.kernels)} kernels")
        return
    registers = sorted(each.registers for each in asked.values())
    print(f"{name} {architecture}: {len(asked)} kernels, registers {registers}, no spills")
    assert set(asked) == set(program.kernels)
    assert all(each.spilled_bytes == each.local_bytes == 0 for each in asked.values())


def test_both_lowerings_make_the_same_ptx() -> None:
    """Numba's indices have 64 bits always."""
    drawing = made("softmax")[1]
    for made_entry in drawing.entries:
        for piece in made_entry.pieces:
            drawing = with_kernel(drawing, piece.kernel, replace(piece.kernel, narrow=False))
    texts = {
        compile_modules(modules(drawing, codegen), drawing.program.kernels, "sm_90") for codegen in ("numba", "direct")
    }
    assert len(texts) == 1 and "bar.sync" in texts.pop()


def run_with(step: gx.Function, emulated: Emulator, batch: Batch) -> tuple[int, dict[str, np.ndarray]]:
    """(status, results) of one call on the states the function has."""
    step.write_scalars()
    emulated.put("state", {name: parameter.storage.array for name, parameter in step.parameters.items()})
    emulated.scalars[:] = step.runner.scalars[: emulated.scalars.size]
    arrays, sizes = step.fit(batch)
    known = dict(zip(step.runner.dims, sizes, strict=True))
    return emulated.run(arrays, known), emulated.get("results", known)


@pytest.mark.parametrize("name", MODELS)
def test_kernels_give_the_numbers_of_the_cpu(name: str, rng: np.random.Generator) -> None:
    step, drawing = made(name)
    emulated = Emulator(drawing)
    for count in (33, 5, 1):
        batch = MODELS[name][1](rng, count)
        status, results = run_with(step, emulated, batch)
        arrays, sizes = step.fit(batch)
        expected, found = step.run_fitted(arrays, sizes)
        assert (status, expected) == (0, 0)
        for (title, _), number in zip(step.runner.results, found, strict=True):
            np.testing.assert_allclose(results[title], number, rtol=1e-5, err_msg=title)
        state = emulated.get("state", {})
        for title, parameter in step.parameters.items():
            np.testing.assert_allclose(state[title], parameter.storage.array, rtol=2e-5, atol=2e-6, err_msg=title)


def test_a_check_that_fails_changes_nothing(rng: np.random.Generator) -> None:
    step, drawing = made("mlp")
    emulated = Emulator(drawing)
    x, y = pictures(rng, 7, 20)
    before = {name: parameter.storage.array.copy() for name, parameter in step.parameters.items()}
    assert run_with(step, emulated, (x, np.where(y == y, 10, y)))[0] == 1
    for name, array in emulated.get("state", {}).items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("name", ["linear", "softmax"])
def test_threads_keep_to_themselves(name: str, rng: np.random.Generator) -> None:
    step, drawing = made(name)
    assert run_with(step, Watched(drawing), MODELS[name][1](rng, 19))[0] == 0


def check(function: gx.Function, *arrays: np.ndarray, watched: bool = False) -> Drawing:
    """The emulation gives what the function gives; the launches it took."""
    drawing = draw(function.artifact.program.graph)
    status, results = run_with(function, (Watched if watched else Emulator)(drawing), arrays)
    _, found = function.run_fitted(*function.fit(arrays))
    assert status == 0
    for (title, _), number in zip(function.runner.results, found, strict=True):
        np.testing.assert_allclose(results[title], number, rtol=1e-5, atol=1e-6, err_msg=title)
    return drawing


def test_points_side_by_side_are_read_together(rng: np.random.Generator) -> None:
    x, y, b = gx.input("x", gx.f32["batch", 8]), gx.input("y", gx.f32["batch", 8]), gx.input("b", gx.f32[8])
    function = gx.function([x, y, b], {"z": x + y * b, "s": (x * y).sum()})
    arrays = rng.random((2, 5, 8), np.float32)
    check(function, arrays[0], arrays[1], arrays[0, 0], watched=True)
    text = ptx(program_of(function.artifact.program.graph), "sm_80")
    assert len(re.findall(r"ld\.global\S*\.v4\.b32", text)) == 3 and "st.global.v4.b32" in text


@pytest.mark.parametrize("depth", [1, 300, 700])
def test_a_long_depth_is_summed_in_parts(depth: int, rng: np.random.Generator) -> None:
    a, b = gx.input("a", gx.f32[20, "depth"]), gx.input("b", gx.f32["depth", 17])
    function = gx.function([a, b], {"c": gx.tanh(a @ b)})
    drawing = check(function, rng.random((20, depth), np.float32) / depth, rng.random((depth, 17), np.float32))
    assert len(drawing.program.steps) == 2


def test_a_loop_ends_where_a_number_says(rng: np.random.Generator) -> None:
    x, n = gx.input("x", gx.f32["batch", 3]), gx.input("n", gx.i64[()])
    function = gx.function([x, n], {"y": gx.cond(n > 2, lambda v: v * 2.0, lambda v: v - 1.0, x)})
    for number in (1, 3):
        check(function, rng.random((7, 3), np.float32), np.int64(number))


@pytest.mark.parametrize("count", [1, 9])
def test_lines_are_sorted_and_summed_by_threads(count: int, rng: np.random.Generator) -> None:
    x = gx.input("x", gx.f32["batch", 5, 3])
    function = gx.function([x], {"sorted": x.sort(1).values, "sums": x.cumsum(1)})
    check(function, rng.random((count, 5, 3), np.float32))


LONG = {
    "sums": lambda x: {"y": gx.tanh(x).sum(-1), "z": x.max(-1)},
    "softmax": lambda x: {"y": x.softmax(-1)},
    "norm": lambda x: {"y": F.layer_norm(x, (x.shape[-1],)), "s": x.sum(-1) * 2.0},
    "places": lambda x: {"y": x.argmax(-1)},
    "whole": lambda x: {"y": (gx.tanh(x) * x).sum(), "m": x.mean()},
}


@pytest.mark.parametrize("most", [20_000, 60_000])
@pytest.mark.parametrize("name", LONG)
def test_several_blocks_share_a_long_row(name: str, most: int, rng: np.random.Generator) -> None:
    x = gx.input("x", gx.f32[3, 2, gx.dim("lanes", most)])
    function = gx.function([x], LONG[name](x))
    for count in (most - 7, 300, 1):
        drawing = check(function, rng.random((3, 2, count), np.float32))
    grids = [grid for each in drawing.program.launches() for grid in each.grids]
    assert max(grid.most for grid in grids) > 6 * most // 8192


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 40), (3000, 5), (2000, 300)])
def test_warps_add_to_places_of_their_own(rows: int, columns: int, rng: np.random.Generator) -> None:
    """In the order of the turns: the bits are those of the CPU."""
    table, places = gx.input("table", gx.f32[rows, columns]), gx.input("places", gx.i64["turns", 3])
    gradient = gx.grad((gx.tanh(table[places]) * gx.exp(table[places])).sum(), table)
    function = gx.function([table, places], {"gradient": gradient})
    drawing = draw(function.artifact.program.graph)
    assert any("hits" in piece.kernel.text for made in drawing.entries for piece in made.pieces)
    for turns in (1, 29):
        arrays = rng.random((rows, columns), np.float32), rng.integers(0, min(rows, 50), (turns, 3))
        watched = turns * columns < 300 and rows < 100
        _, results = run_with(function, (Watched if watched else Emulator)(drawing), arrays)
        _, (found,) = function.run_fitted(*function.fit(arrays))
        np.testing.assert_allclose(results["gradient"], found, rtol=1e-6)


@pytest.mark.parametrize("time", [1, 2, 5])
def test_rows_may_be_empty(time: int, rng: np.random.Generator) -> None:
    x = gx.input("x", gx.f32["batch", gx.dim("time", 6)])
    shorter = x[:, :-1]
    function = gx.function(
        [x], {"sums": gx.exp(shorter).sum(1), "columns": shorter.sum(0), "rows": shorter * shorter.sum(1, keepdim=True)}
    )
    check(function, rng.random((3, time), np.float32), watched=True)


def test_nothing_is_left_to_one_thread() -> None:
    for name in MODELS:
        assert all(piece.threads > 1 for each in made(name)[1].entries for piece in each.pieces), name


def test_kernels_that_do_not_wait_are_launched_together() -> None:
    layers = [nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)]
    step = of_pictures(nn.Sequential(*layers), lambda p: optim.Adam(p), 784)
    drawing = draw(step.artifact.program.graph)
    pieces = sum(len(each.pieces) for each in drawing.entries)
    assert len(drawing.program.steps) <= 9 < pieces


def test_a_step_takes_few_launches() -> None:
    """That of issue 6: two layers forward; the loss; what it passes back; the layer below; and all updates."""
    batch = gx.dim("batch", 256)
    net = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    x, y = gx.f32[batch, 784], gx.i64[batch]
    step = gx.train_step(net, nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=0.1), x=x, y=y)
    drawing = draw(step.artifact.program.graph)
    assert [type(each).__name__ for each in drawing.program.steps] == ["Clear", *["Launch"] * 6]


# --- what is watched --------------------------------------------------------------------------------------------------


def run_text(body: str, threads: int = 32, size: int = 32) -> np.ndarray:
    text = "def f(out, shared, thread):\n" + "".join(f"    {line}\n" for line in body.splitlines())
    kernel = Kernel("f", text, (("out", "i64*"), ("shared", "i64*"), ("thread", "i64")))
    watch, numbers = Watch(), np.zeros(size, np.int64)
    shared = Memory("shared", np.zeros(threads, np.int64), watch, starts_empty=True)
    run_block(kernel, threads, [Pointer(Memory("out", numbers, watch)), Pointer(shared), None], watch)
    return numbers


NEIGHBOUR = """store(shared, thread, thread * 10)
barrier()
store(out, thread, load(shared, (thread + 1) % 32))"""


class Backwards(Watched):
    def order(self, blocks: int) -> Any:
        return reversed(range(blocks))


def test_bits_do_not_depend_on_which_block_is_the_last(rng: np.random.Generator) -> None:
    x, w = gx.input("x", gx.f32[gx.dim("batch", 40), 150]), gx.input("w", gx.f32[150, 12])
    outputs = {"c": x @ w, "columns": (x * x).sum(0), "all": x.mean()}
    function = gx.function([x, w], outputs)
    arrays = rng.random((35, 150), np.float32), rng.random((150, 12), np.float32)
    drawing = draw(function.artifact.program.graph)
    assert sum("count_up" in kernel.text for kernel in drawing.kernels) >= 2
    forth, back = (run_with(function, way(drawing), arrays)[1] for way in (Watched, Backwards))
    for title in outputs:
        np.testing.assert_array_equal(forth[title], back[title], err_msg=title)


def test_a_meeting_parts_writes_from_reads() -> None:
    assert run_text(NEIGHBOUR)[:3].tolist() == [10, 20, 30]
    with pytest.raises(Fault, match=r"before it is written|written by thread"):
        run_text(NEIGHBOUR.replace("barrier()\n", ""))


def test_a_read_is_parted_from_later_writes() -> None:
    again = f"{NEIGHBOUR}\nbarrier()\nstore(shared, thread, 0)"
    run_text(again)
    with pytest.raises(Fault, match=r"writes shared.*read by thread"):
        run_text(again.replace("% 32))\nbarrier()", "% 32))"))


def test_what_lies_outside_is_seen() -> None:
    with pytest.raises(Fault, match=r"writes out\[32\] of 32"):
        run_text("store(out, thread + 1, thread)")


def test_two_writers_of_one_place_are_seen() -> None:
    with pytest.raises(Fault, match="thread 1 of block 0 writes out"):
        run_text("store(out, 0, thread)")


def test_a_meeting_that_some_threads_miss_is_seen() -> None:
    with pytest.raises(Fault, match="not all threads"):
        run_text("if thread < 16:\n    barrier()")


def test_partners_tell_each_other_numbers() -> None:
    assert run_text("x = shuffle_xor(thread, 5)\nstore(out, thread, x)")[:4].tolist() == [5, 4, 7, 6]


def meetings_of(kernel: Kernel) -> Iterator[Kernel]:
    """The kernel without one of its meetings or fences, for each of them."""
    lines = kernel.text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.strip() in ("barrier()", "fence()"):
            yield replace(kernel, text="".join(lines[:number] + lines[number + 1 :]))


def is_faulty(function: gx.Function, drawing: Drawing, batch: Any) -> bool:
    try:
        run_with(function, Watched(drawing), batch)
    except Fault:
        return True
    return False


def assert_all_needed(function: gx.Function, stem: str, *batch: np.ndarray, count: int, spare: int = 0) -> None:
    """A kernel has so many meetings and fences. Without one of them, but for a few to spare, threads do what they must
    not, be it that one block does all and goes round its loops more than once, or that there are several."""
    drawing = draw(function.artifact.program.graph)
    (piece,) = (piece for made in drawing.entries for piece in made.pieces if piece.kernel.name.startswith(stem))
    left_out = list(meetings_of(piece.kernel))
    assert len(left_out) == count
    found = [
        any(is_faulty(function, with_kernel(drawing, piece.kernel, kernel, blocks), batch) for blocks in (1, 3))
        for kernel in (piece.kernel, *left_out)
    ]
    assert not found[0] and sum(found) == count - spare, piece.kernel.text


def test_no_meeting_of_rows_can_be_left_out(rng: np.random.Generator) -> None:
    x = gx.input("x", gx.f32[gx.dim("batch", 8), 300])
    assert_all_needed(gx.function([x], {"y": x.softmax(1)}), "max", rng.random((3, 300), np.float32), count=4)
    x = gx.input("x", gx.f32[gx.dim("batch", 2), 20_000])
    function = gx.function([x], {"y": x.sum(1)})
    assert_all_needed(function, "sum", rng.random((2, 20_000), np.float32), count=7, spare=1)


@pytest.mark.parametrize(
    ("sizes", "shape", "count"),
    [
        ((128, 40, 40), (19, 33, 10), 2),  # a tile with an element a thread, along three steps of the depth
        ((320, 40, 320), (33, 3, 3), 4),  # with 2 x 2
        ((10, 200, 12), (10, 40, 12), 5),  # several parts of the depth
    ],
)
def test_no_meeting_of_a_product_can_be_left_out(
    sizes: tuple[int, int, int], shape: tuple[int, int, int], count: int, rng: np.random.Generator
) -> None:
    function, batch = multiplied(sizes, shape, rng)
    assert_all_needed(function, "dot", *batch, count=count)


def multiplied(
    sizes: tuple[int, int, int], shape: tuple[int, int, int], rng: np.random.Generator
) -> tuple[gx.Function, Batch]:
    """A product of matrices of at most such sizes, and numbers for it."""
    rows, depth, columns = (gx.dim(name, most) for name, most in zip(("m", "k", "n"), sizes, strict=True))
    a, b = gx.input("a", gx.f32[rows, depth]), gx.input("b", gx.f32[depth, columns])
    return gx.function([a, b], {"c": a @ b}), (rng.random(shape[:2], np.float32), rng.random(shape[1:], np.float32))


def test_halves_of_a_tall_tile_wait_for_each_other(rng: np.random.Generator) -> None:
    function, batch = multiplied((4096, 40, 4096), (70, 3, 2), rng)
    drawing = draw(function.artifact.program.graph)
    (piece,) = drawing.entries[0].pieces
    left_out = list(meetings_of(piece.kernel))
    assert len(left_out) == 6
    with pytest.raises(Fault, match="shared_f32"):
        run_with(function, Watched(with_kernel(drawing, piece.kernel, left_out[3], 1)), batch)


TILES = [(3000, 3000, 1), (900, 3000, 1), (600, 640, 1), (300, 700, 1), (300, 330, 1), (200, 300, 3), (12, 10, 2)]


@pytest.mark.parametrize("depth", [40, 36, 9])
@pytest.mark.parametrize(("rows", "columns", "batches"), TILES)
def test_tiles_of_every_size(rows: int, columns: int, batches: int, depth: int, rng: np.random.Generator) -> None:
    """Each element is one chain in the order of the depth: its bits are those of the CPU. Whole and ragged tiles, with
    operands that lie along the depth or across."""
    m, n = gx.dim("m", rows), gx.dim("n", columns)
    a, b = gx.input("a", gx.f32[batches, m, depth]), gx.input("b", gx.f32[batches, depth, n])
    c, d = gx.input("c", gx.f32[batches, depth, 200]), gx.input("d", gx.f32[batches, 260, depth])
    products = {"ab": a @ b, "ac": gx.tanh(a @ c + 1.0), "cb": c.transpose(1, 2) @ b, "da": d @ a.transpose(1, 2)}
    function = gx.function([a, b, c, d], products)
    down, across = min(rows, 131), min(columns, 197)
    shapes = ((batches, down, depth), (batches, depth, across), (batches, depth, 200), (batches, 260, depth))
    arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
    drawing = draw(function.artifact.program.graph)
    _, results = run_with(function, Emulator(drawing), tuple(arrays))
    _, found = function.run_fitted(*function.fit(tuple(arrays)))
    for (title, _), number in zip(function.runner.results, found, strict=True):
        np.testing.assert_array_equal(results[title], number, err_msg=title)


@pytest.mark.parametrize(("names", "count"), [(["columns"], 4), (["columns", "all", "ones"], 5)])
def test_nothing_between_blocks_can_be_left_out(names: list[str], count: int, rng: np.random.Generator) -> None:
    """The last block adds up what all blocks left."""
    x = gx.input("x", gx.f32["batch", 40])
    sums = {"columns": x.sum(0), "all": (x * x).sum(), "ones": (x < 0.5).sum()}
    function = gx.function([x], {name: sums[name] for name in names})
    assert_all_needed(function, "", rng.random((100, 40), np.float32), count=count)


def with_kernel(drawing: Drawing, old: Kernel, new: Kernel, blocks: int = 0) -> Drawing:
    """The launches with another kernel in place of one, which so many blocks run if that is not 0."""

    def changed(piece: Any) -> Any:
        return replace(piece, kernel=new) if piece.kernel is old else piece

    def by_few(step: Any) -> Any:
        if not blocks or not isinstance(step, Launch) or step.kernel not in names:
            return step
        few = Grid(blocks, 1, blocks)
        return replace(step, words=tuple(few if isinstance(word, Grid) else word for word in step.words))

    names = {each.name for each in drawing.entries if any(piece.kernel is old for piece in each.pieces)}
    entries = tuple(replace(each, pieces=tuple(map(changed, each.pieces))) for each in drawing.entries)
    return Drawing(replace(drawing.program, steps=tuple(map(by_few, drawing.program.steps))), entries)


def test_calls_are_the_same_every_time() -> None:
    step, drawing = made("recurrent")
    (dim,) = step.runner.dims
    first, second = (list(calls(drawing.program, {dim: 5})) for _ in range(2))
    assert first == second
    launched = [call for call in first if isinstance(call, LaunchCall)]
    assert all(call.blocks >= 1 and not any(getattr(word, "steps", ()) for word in call.words) for call in launched)

"""Matrix products cut into blocks: whatever the blocks, the bits are the same, and no access leaves its buffer."""

from __future__ import annotations

import emulator
import numpy as np
import pytest

import graphc as gx
from graphc.backends import contraction, line_products, primitives, reference, target
from graphc.backends.contraction import TileShape
from graphc.ir import blocking
from graphc.ir.passes import run_passes

SMALL = {
    "DEPTH_BLOCK": 24, "ROW_BLOCK": 28, "COLUMN_BLOCK": 64, "WHOLE": 800, "FEW_ROWS": 20, "MANY_COLUMNS": 40,
    "CONFLICT": 64, "CROWD": 64, "PAGE": 64, "FAR": 0, "WAYS": 1,
}  # fmt: skip
FORMS = ("AB", "AtB", "ABt", "AtBt")
SIZES = [(90, 70, 130), (61, 48, 96), (29, 25, 65), (57, 7, 43), (15, 100, 64)]
FEW = [(70, 130, 10), (33, 64, 4), (45, 77, 20), (50, 90, 17), (64, 20, 9), (19, 300, 14)]


def product(form, rows, depth, columns, bare=False):
    """A product, its operands lying as `form` says; unless it is bare, with a bias and two readers of its result."""
    a = gx.input("a", gx.f32[(depth, rows) if form.startswith("At") else (rows, depth)])
    b = gx.input("b", gx.f32[(columns, depth) if form.endswith("Bt") else (depth, columns)])
    bias = gx.input("bias", gx.f32[columns])
    c = (a.T if form.startswith("At") else a) @ (b.T if form.endswith("Bt") else b)
    if bare:
        return gx.function([a, b], {"c": c})
    return gx.function([a, b, bias], {"c": c, "d": gx.relu(c + bias)})


def operands(function, rng):
    return [rng.normal(size=value.shape).astype(np.float32) for value in function.inputs]


def as_list(results):
    return [results] if isinstance(results, np.ndarray) else list(results)


def in_order(form, a, b):
    """The sums along the depth one after another, each step rounded once."""
    a = (a.T if form.startswith("At") else a).astype(np.float64)
    b = (b.T if form.endswith("Bt") else b).astype(np.float64)
    total = np.zeros((len(a), b.shape[1]), np.float32)
    for k in range(a.shape[1]):
        total = (total + np.outer(a[:, k], b[k])).astype(np.float32)
    return total


@pytest.fixture
def small_blocks(monkeypatch):
    for name, number in SMALL.items():
        monkeypatch.setattr(blocking, name, number)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sizes", SIZES + FEW, ids=str)
@pytest.mark.parametrize("bare", [False, True], ids=["with terms", "bare"])
def test_blocks_do_not_change_bits(form, sizes, bare, rng, monkeypatch):
    whole = product(form, *sizes, bare)
    arrays = operands(whole, rng)
    expected = [np.asarray(each) for each in as_list(whole(*arrays))]
    for name, number in SMALL.items():
        monkeypatch.setattr(blocking, name, number)
    found = [np.asarray(each) for each in as_list(product(form, *sizes, bare)(*arrays))]
    assert all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True))
    np.testing.assert_allclose(found[0], in_order(form, *arrays[:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sizes", SIZES[2:] + FEW, ids=str)
@pytest.mark.parametrize("bare", [False, True], ids=["with terms", "bare"])
def test_blocks_stay_inside_their_buffers(form, sizes, bare, rng, small_blocks):
    function = product(form, *sizes, bare)
    arrays = operands(function, rng)
    names = [value.attrs["name"] for value in function.inputs]
    found = emulator.emulate(run_passes(function.traced), dict(zip(names, arrays, strict=True)))
    for (name, result), native in zip(found.items(), as_list(function(*arrays)), strict=True):
        assert np.array_equal(result, native), name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sizes", [(29, 25, 65), (45, 77, 20), (64, 200, 10)], ids=str)
def test_bits_do_not_depend_on_the_tile(form, sizes, rng, monkeypatch):
    function = product(form, *sizes)
    arrays = operands(function, rng)
    monkeypatch.setattr(emulator, "TILE", TileShape(6, 1))
    named = {value.attrs["name"]: array for value, array in zip(function.inputs, arrays, strict=True)}
    found = emulator.emulate(run_passes(function.traced), named)
    assert all(np.array_equal(one, other) for one, other in zip(found.values(), function(*arrays), strict=True))


CONVOLUTIONS = [
    (5, (2, 1, 8, 18), (3, 3), 1, ["lines", "tiles", "tiles"]),
    (6, (2, 1, 11, 32), (5, 5), 1, ["lines", "tiles", "tiles"]),
    (6, (2, 1, 5, 32), (2, 5), 1, ["lines", "tiles", "tiles"]),
    (16, (2, 2, 8, 18), (3, 3), 1, ["lines", "tiles", "turned"]),
    (24, (3, 2, 9, 12), (4, 2), 2, ["tiles", "turned", "turned"]),
    (40, (2, 4, 7, 7), (3, 3), 1, ["tiles", "turned", "turned"]),
]


@pytest.mark.parametrize(("features", "image", "window", "step", "forms"), CONVOLUTIONS, ids=lambda each: str(each))
def test_windows_in_every_form(features, image, window, step, forms, rng):
    """A convolution and its slopes, natively, uncompiled and by the reference."""
    x = gx.input("x", gx.f32[image])
    weight = gx.input("weight", gx.f32[(features, image[1], *window)])
    y = gx.conv2d(x, weight, stride=step)
    slopes = gx.grad((y * y).sum(), [x, weight])
    function = gx.function([x, weight], {"y": y, "dx": slopes[0], "dw": slopes[1]})
    assert sorted(blocking_of(nest).form for nest in function.artifact.program.nests if nest.product) == forms
    arrays = {"x": rng.normal(size=image), "weight": rng.normal(size=weight.shape)}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    native = function(*arrays.values())
    graph = run_passes(function.traced)
    wanted = reference.run(graph, arrays)
    for (name, result), ours in zip(emulator.emulate(graph, arrays).items(), native, strict=True):
        assert np.array_equal(result, ours), name
        np.testing.assert_allclose(ours, wanted[name], rtol=1e-4, atol=1e-4)


ROWS_OF_WINDOWS = [  # of an image without a margin, the last row of windows ends where the image does
    (6, (3, 1, 9, 32), (5, 5), 28), (3, (2, 2, 5, 19), (2, 2), 18), (13, (2, 1, 4, 34), (3, 3), 32),
    (2, (2, 3, 6, 33), (3, 4), 30), (20, (1, 1, 5, 31), (3, 2), 30), (50, (1, 1, 5, 32), (3, 3), 0),
]  # fmt: skip


@pytest.mark.parametrize(("features", "image", "window", "run"), ROWS_OF_WINDOWS, ids=lambda each: str(each))
def test_rows_of_windows_are_read_where_they_lie(features, image, window, run, rng, monkeypatch):
    """As wide as two sets of lanes or a little less; to the bit what packed panels of windows give."""

    def convolution():
        x, bias = gx.input("x", gx.f32[image]), gx.input("bias", gx.f32[features])
        weight = gx.input("weight", gx.f32[(features, image[1], *window)])
        y = gx.conv2d(x, weight, bias)
        return gx.function([x, weight, bias], {"y": y, "positive": gx.relu(y), "sums": y.sum((0, 2))})

    function = convolution()
    (nest,) = (nest for nest in function.artifact.program.nests if nest.product)
    assert blocking_of(nest).run == run and blocking_of(nest).form in ("tiles", "turned")
    arrays = operands(function, rng)
    native = [np.asarray(each) for each in function(*arrays)]
    named = dict(zip(("x", "weight", "bias"), arrays, strict=True))
    for (name, result), ours in zip(emulator.emulate(run_passes(function.traced), named).items(), native, strict=True):
        assert np.array_equal(result, ours), name
    monkeypatch.setattr(blocking, "PACKING", -1)
    for packed, ours in zip(convolution()(*arrays), native, strict=True):
        assert np.array_equal(packed, ours)


def test_a_left_operand_that_walks_several_axes(rng):
    a, b = gx.input("a", gx.f32[5, 3, 7, 8]), gx.input("b", gx.f32[35, 20])
    rows = a.transpose(0, 1).transpose(2, 3).transpose(1, 2).reshape(24, 35)  # (3, 8) by (5, 7)
    function = gx.function([a, b], gx.relu(rows @ b))
    assert [nest.name for nest in function.artifact.program.nests] == ["dot_relu"]
    arrays = {"a": rng.normal(size=(5, 3, 7, 8)).astype(np.float32), "b": rng.normal(size=(35, 20)).astype(np.float32)}
    native = function(*arrays.values())
    (found,) = emulator.emulate(run_passes(function.traced), arrays).values()
    assert np.array_equal(found, native)
    expected = np.maximum(arrays["a"].transpose(1, 3, 0, 2).reshape(24, 35) @ arrays["b"], 0)
    np.testing.assert_allclose(native, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "columns", "tile"), [(6, 25, (5, 3)), (16, 25, (13, 2)), (6, 10, (5, 3)), (1, 4, (4, 1))]
)
def test_tiles_of_runs_take_as_few_steps_as_can_be(rows, columns, tile):
    assert line_products.runs_shape(TileShape(14, 2), rows, columns) == tile


def blocking_of(nest):
    (term,) = (term for term in nest.terms() if term.kind == "product")
    return blocking.blocking(nest, 32, term.dtype)


def test_forms_follow_sizes_and_layouts():
    """The head of a classifier, its gradients, and what is too shallow or too wide for lanes along the depth."""
    found = {
        (form, *sizes): blocking_of(product(form, *sizes).artifact.program.nests[0]).form
        for form, *sizes in [
            ("AB", 256, 784, 10), ("ABt", 256, 784, 10), ("AtB", 784, 256, 10), ("ABt", 256, 10, 784),
            ("AB", 256, 20, 10), ("AB", 256, 784, 32), ("AB", 256, 784, 20), ("AtB", 784, 256, 20),
            ("ABt", 32, 128, 512), ("ABt", 4, 128, 512), ("AB", 32, 128, 512),
        ]
    }  # fmt: skip
    forms = ["lines", "lines", "turned", "tiles", "tiles", "tiles", "lines", "tiles", "turned", "tiles", "tiles"]
    assert list(found.values()) == forms


def test_a_panel_that_stays_in_the_first_cache_is_read_where_it_lies():
    """Deeper ones, and those whose rows fall into one another's place there, are packed, but for few rows."""
    packs = {
        sizes: blocking_of(product("AtB", *sizes).artifact.program.nests[0]).packs_wide
        for sizes in [(256, 256, 784), (256, 512, 784), (256, 64, 1024), (256, 256, 1040), (64, 256, 1024)]
    }
    assert list(packs.values()) == [False, True, True, False, False]
    assert blocking_of(product("ABt", 256, 256, 784).artifact.program.nests[0]).packs_wide


@pytest.mark.parametrize(("depth", "packs"), [(256, False), (512, False), (768, False), (1024, True)])
def test_rows_are_packed_where_a_tile_of_them_finds_no_room_in_the_cache(depth, packs):
    """Fourteen rows 2 KiB apart fall into two sets of eight places, those 4 KiB apart all into one."""
    (nest,) = product("AB", 256, depth, 128, bare=True).artifact.program.nests
    assert blocking_of(nest).packs_tall == packs


@pytest.mark.parametrize("sizes", [(90, 70, 130), (61, 48, 96), (29, 41, 65), (36, 90, 43)], ids=str)
@pytest.mark.parametrize("bare", [False, True], ids=["with terms", "bare"])
def test_a_left_operand_that_streams(sizes, bare, rng, monkeypatch):
    """Blocks of the depth in order: the same bits, inside of all buffers; what is ahead is fetched."""
    whole = product("AtB", *sizes, bare)
    arrays = operands(whole, rng)
    for name, number in {**SMALL, "PAGE": 4096, "STREAM_BLOCK": 16}.items():
        monkeypatch.setattr(blocking, name, number)
    function = product("AtB", *sizes, bare)
    (nest,) = (nest for nest in function.artifact.program.nests if nest.product)
    last = target.host_tile()[0] - 1
    assert blocking_of(nest).streams and f"prefetch(a, (k + 64) * column_stride + {last})" in function.source()
    names = [value.attrs["name"] for value in function.inputs]
    uncompiled = emulator.emulate(run_passes(function.traced), dict(zip(names, arrays, strict=True))).values()
    for wanted, native, found in zip(*map(as_list, (whole(*arrays), function(*arrays))), uncompiled, strict=True):
        assert np.array_equal(wanted, native) and np.array_equal(found, native)


def test_weight_gradients_stream_where_they_are_deep():
    """Not those that fit into the caches, nor from rows that fall into one another's place there."""
    sizes = [(512, 1024, 128), (384, 4096, 128), (512, 256, 512), (256, 512, 256), (512, 1024, 64), (1024, 512, 1024)]
    found = [blocking_of(product("AtB", *each).artifact.program.nests[0]).streams for each in sizes]
    assert found == [True, True, False, False, False, False]


def test_lines_are_added_up_by_halves(rng):
    function = product("ABt", 5, 90, 3)
    a, b, bias = operands(function, rng)
    assert blocking_of(function.artifact.program.nests[0]).form == "lines"
    exact = a.astype(np.float64)[:, None] * b.astype(np.float64)
    chains = np.zeros((5, 3, 16), np.float32)
    for k in range(90):
        chains[..., k % 16] = (chains[..., k % 16] + exact[..., k]).astype(np.float32)
    while chains.shape[-1] > 1:
        half = chains.shape[-1] // 2
        chains = chains[..., :half] + chains[..., half:]
    np.testing.assert_allclose(function(a, b, bias)[0], chains[..., 0], rtol=1e-6, atol=1e-7)


def stepped(weight, step, shown=False):
    """A function that changes a state by a matrix product, which it may return as well."""
    state = gx.parameter("weight", weight)
    a, b = (gx.input(name, gx.f32[20, each]) for name, each in zip("ab", weight.shape, strict=True))
    rate, product = gx.input("rate", gx.f32[1]), a.T @ b
    outputs = {"product": product} if shown else {}
    return gx.function([a, b, rate], outputs, updates={state: step(state, product, rate[0])})


def steps_of(sizes, rng):
    """Weights of the sizes and what `stepped` takes."""
    arrays = {name: rng.normal(size=(20, each)).astype(np.float32) for name, each in zip("ab", sizes, strict=True)}
    return rng.normal(size=sizes).astype(np.float32), {**arrays, "rate": np.float32([0.3])}


@pytest.mark.parametrize("sizes", [(33, 64), (33, 41), (5, 100), (20, 16), (14, 32)], ids=str)
def test_a_gradient_is_subtracted_straight_from_the_weights(sizes, rng):
    """To the bits of what a product gives that goes through scratch, as another reader of it makes it do."""
    weight, arrays = steps_of(sizes, rng)
    for step in (lambda w, p, rate: w - rate * p, lambda w, p, rate: w - p * rate):
        straight, through = stepped(weight, step), stepped(weight, step, shown=True)
        assert "subtract_product" in straight.source() and "subtract_product" not in through.source()
        emulated = emulator.emulate(run_passes(straight.traced), {**arrays, "weight": weight})["weight"]
        for function in (straight, through):
            function(*arrays.values())
            assert np.array_equal(function.state_dict()["weight"], emulated)
        wanted = weight - np.float32(0.3) * (arrays["a"].T @ arrays["b"])
        np.testing.assert_allclose(emulated, wanted, rtol=1e-4, atol=1e-5)


OTHER_STEPS = [
    lambda w, p, rate: w + rate * p, lambda w, p, rate: rate * p - w, lambda w, p, rate: w - rate * p * p,
    lambda w, p, rate: w * 2 - rate * p, lambda w, p, rate: w - w[0] * p, lambda w, p, rate: w - p * p,
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(OTHER_STEPS)))
def test_other_steps_go_through_scratch(number, rng):
    step, (weight, arrays) = OTHER_STEPS[number], steps_of((33, 64), rng)
    function = stepped(weight, step)
    assert "subtract_product" not in function.source()
    function(*arrays.values())
    wanted = step(weight, arrays["a"].T @ arrays["b"], arrays["rate"][0])
    np.testing.assert_allclose(function.state_dict()["weight"], wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("depth", [80, 2000])
def test_tiles_fetch_what_their_terms_touch_of_far_buffers(depth):
    """Every set of lanes of a tile, be its depth cut; not what is small."""
    weight, rate = gx.parameter("weight", np.zeros((140, 2000), np.float32)), gx.input("rate", gx.f32[2000])
    a, b = gx.input("a", gx.f32[depth, 140]), gx.input("b", gx.f32[depth, 2000])
    function = gx.function([a, b, rate], [], updates={weight: weight - rate * (a.T @ b)})
    text = function.source()
    kernel = text[text.index("def dot_") :]
    kernel = kernel[: kernel.index("\ndef ", 1)]
    assert kernel.count("prefetch(") == kernel.count("prefetch(state0, i * n1 + j)") == target.host_tile()[1]
    assert ("if depth_stop == depth:\n" in kernel) == (depth > blocking.DEPTH_BLOCK)
    assert "prefetch" not in product("AtB", 90, 80, 200).source()


def test_lines_fetch_what_later_tiles_read(monkeypatch):
    """Each set of lanes of the rows that lie at least so many elements ahead, and nothing between the rows."""
    monkeypatch.setattr(line_products, "AHEAD", 300)
    rows, depth, stride, fetched = 9, 64, 100, []
    meanings = {**primitives.MEANINGS, "prefetch": lambda p, i: fetched.append(a.size - p.size + i)}
    monkeypatch.setattr(primitives, "MEANINGS", meanings)
    primitives._uncompiled.cache_clear()
    a, b, tile = np.ones(rows * stride, np.float32), np.ones(10 * depth, np.float32), np.zeros(rows * 16, np.float32)
    kernel = line_products.multiply_lines(TileShape(14, 2), 10, 16)
    primitives.run(kernel, tile, a, b, depth, rows, 10, stride, depth)
    primitives._uncompiled.cache_clear()
    assert np.all(tile.reshape(rows, 16)[:, :10] == depth)
    read = {row * stride + k for row in range(4, rows) for k in range(0, depth, 16)}
    assert read <= set(fetched)
    assert {place for place in fetched if place < a.size} == read


@pytest.mark.parametrize("shape", [TileShape(14, 2), TileShape(6, 1)])
@pytest.mark.parametrize("columns", [3, 10, 14, 20])
def test_lines_of_bytes_are_brought_together_and_multiplied(shape, columns, rng):
    """To the bits of what multiplies rows that were brought together before."""
    rows, depth, count = 5, 37, 12
    data, order = rng.integers(0, 256, (count, depth)).astype(np.uint8), rng.permutation(count)
    b, tiles = rng.normal(size=(columns, depth)).astype(np.float32), np.zeros((2, rows * 48), np.float32)
    a, left = data[order[:rows]] * np.float32(1 / 255), np.zeros((rows, depth), np.float32)
    multiply, gather = (
        line_products.multiply_lines(shape, columns, 48),
        line_products.gather_lines(shape, columns, 48, "u8"),
    )
    primitives.run(multiply, tiles[0], a.ravel(), b.ravel(), depth, rows, columns, depth, depth)
    given = tiles[1], left.ravel(), b.ravel(), data.ravel(), order[:rows]
    primitives.run(gather, *given, depth, rows, rows - 1, depth, depth)
    together = line_products.lines_shape(shape, columns)[0]
    wanted, found = tiles.reshape(2, rows, 48)[:, :, :together]
    assert np.array_equal(left, a) and np.array_equal(found, wanted) and np.any(found)


@pytest.mark.parametrize("bare", [False, True], ids=["with terms", "bare"])
def test_tiles_fetch_what_their_terms_write(bare, rng, monkeypatch):
    """All sets of lanes of every result; nothing where all of it stays in the second cache."""
    rows, columns, fetched = 33, 80, {}
    meanings = {**primitives.MEANINGS, "prefetch": lambda p, i: fetched.setdefault(id(p), []).append(int(i))}
    monkeypatch.setattr(primitives, "MEANINGS", meanings)
    primitives._uncompiled.cache_clear()
    function = product("AB", rows, 20, columns, bare)
    arrays = dict(zip(("a", "b", "bias"), operands(function, rng)))
    emulator.emulate(run_passes(function.traced), arrays)
    assert not fetched
    monkeypatch.setattr(blocking, "FAR", 4000)
    emulator.emulate(run_passes(function.traced), arrays)
    primitives._uncompiled.cache_clear()
    assert len(fetched) == (1 if bare else 2)
    sets = {row * columns + first for row in range(rows) for first in range(0, columns, 16)}
    assert all(sets <= set(places) and max(places) < rows * columns + 16 for places in fetched.values())


@pytest.mark.parametrize("strides", ["rows", "columns"])
@pytest.mark.parametrize(
    ("rows", "behind", "depth"), [(30, 30, 19), (30, 33, 8), (14, 16, 1), (5, 40, 20), (17, 17, 40)]
)
def test_rows_are_packed_tile_by_tile(strides, rows, behind, depth, rng):
    """By every way of reading them, to the last one there is; nothing is written behind the room of one set."""
    a = rng.normal(size=(behind, depth)).astype(np.float32)
    memory, row, column = (a.T.ravel(), 1, behind) if strides == "rows" else (a.ravel(), depth, 1)
    tiles = -(-rows // 14)
    packed = np.full(tiles * 14 * depth + 16, np.nan, np.float32)
    primitives.run(contraction.pack_rows(TileShape(14, 2)), packed, memory, depth, rows, behind, row, column)
    found = packed[: tiles * 14 * depth].reshape(tiles, depth, 14).transpose(0, 2, 1).reshape(-1, depth)
    assert np.array_equal(found[:rows], a[:rows])

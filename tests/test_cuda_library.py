"""Products by NVIDIA's library: which ones, with which arguments, and that steps give the same numbers with it."""

from __future__ import annotations

import numpy as np
import pytest
from fake_cublas import BIAS, NOT_SUPPORTED, RELU, RELU_BIAS, FakeCublas

import graphc as gx
from graphc import cuda, functional, nn, optim
from graphc.backends.cuda import choosing, cublas
from graphc.backends.cuda.device import Multiply
from graphc.cuda import parts_of
from graphc.cuda_check import kernels, programs
from graphc.data import DataLoader, TensorDataset

BATCH = gx.dim("batch", max=64)


@pytest.fixture
def library(gpu, monkeypatch):
    """The library is there, and products by it are always the quicker ones."""
    found = FakeCublas(gpu)
    monkeypatch.setattr(cublas, "load_library", lambda: found)
    times = iter(range(1000, 0, -1))
    monkeypatch.setattr(choosing.Chooser, "time", lambda self, program, module: float(next(times)))
    monkeypatch.setattr(choosing.Chooser, "recalled", lambda self, name: None)
    return found


def classifier(device, **options):
    gx.manual_seed(3)
    net = nn.Sequential(nn.Linear(96, 80), nn.ReLU(), nn.Linear(80, 64))
    sgd = optim.SGD(net.parameters(), lr=0.1)
    x, y = gx.f32[BATCH, 96], gx.i64[BATCH]
    return net, gx.train_step(net, nn.CrossEntropyLoss(), sgd, x=x, y=y, device=device, **options)


def samples(rng, count=64):
    return rng.normal(size=(count, 96)).astype(np.float32), rng.integers(0, 64, count)


def products(step):
    return [each for each in parts_of(step)[0].drawing.program.walk() if isinstance(each, Multiply)]


def test_steps_with_the_library_give_the_numbers_of_the_cpu(library, rng):
    (here, slow), (there, step) = classifier("cpu"), classifier("cuda")
    assert len(products(step)) == 5  # two forward, one back through the net, two for the weights
    for count in (64, 64, 17):
        x, y = samples(rng, count)
        assert np.isclose(step(x, y).loss, slow(x, y).loss, rtol=1e-4)
    x, y = samples(rng, 150)
    loader = [DataLoader(TensorDataset(x, y), 40, shuffle=True, seed=2) for _ in range(2)]
    assert np.isclose(step.epoch(loader[0]).loss, slow.epoch(loader[1]).loss, rtol=1e-4)
    for name, wanted in here.state_dict().items():
        assert np.allclose(there.state_dict()[name], wanted, rtol=1e-3, atol=1e-5), name


def test_what_the_library_is_asked_for(library, rng):
    _, step = classifier("cuda")
    library.calls.clear()
    library.products.clear()
    step(*samples(rng))
    # x [64, 96] @ w' [96, 80]: w lies as [80, 96], so for the library it is 96 x 80, to be transposed.
    assert (68, 1, 0, (96, 80), (96, 64), (80, 64), 1) in library.products
    # d' [80, 64] @ x [64, 96]: for the library x is 96 x 64, and d 80 x 64, to be transposed.
    assert (68, 0, 1, (96, 64), (80, 64), (96, 80), 1) in library.products
    assert len(library.products) == 10  # once before it is captured, once while it is
    assert library.wishes[1] == cublas.WORKSPACE_BYTES and library.wishes[3] == cublas.REPEATABLE
    assert {library.wishes[number] for number in cublas.ALIGNMENTS} == {256}
    library.calls.clear()
    step(*samples(rng))
    assert library.calls == []  # a replay


@pytest.mark.parametrize(("precision", "compute"), [("highest", 68), ("tf32", 77), ("bf16", 75)])
def test_precision_is_the_kind_of_computation(library, rng, precision, compute):
    _, step = classifier("cuda", precision=precision)
    step(*samples(rng))
    assert {each[0] for each in library.products} == {compute}


def test_batches_of_matrices_are_one_call(library, rng):
    a, b = gx.input("a", gx.f32[BATCH, 24, 32]), gx.input("b", gx.f32[BATCH, 32, 40])
    x, y = (rng.normal(size=shape).astype(np.float32) for shape in ((7, 24, 32), (7, 32, 40)))
    step = gx.function([a, b], a @ b, device="cuda")
    assert np.allclose(step(x, y), x @ y, atol=1e-4)
    assert library.products[-1] == (68, 0, 0, (40, 32), (32, 24), (40, 24), 7)
    (product,) = products(step)
    assert step.artifact.description.kernels == 1 and product.target.block == "results"  # and nothing is left to do
    shared = gx.function([a], a @ gx.parameter("w", y[0]), device="cuda")
    assert np.allclose(shared(x), x @ y[0], atol=1e-4)
    turned = gx.function([a, b], a.transpose(1, 2) @ b.transpose(1, 2)[:, :24], device="cuda")
    wanted = x.transpose(0, 2, 1) @ y.transpose(0, 2, 1)[:, :24]
    assert np.allclose(turned(x, y), wanted, atol=1e-4)


def test_what_it_cannot_do_stays_ours(library, rng):
    """Windows of a picture that overlap, float64, small products, heads of attention that lie between each other."""
    x = gx.input("x", gx.f32[BATCH, 3, 12, 12])
    net = nn.Conv2d(3, 16, 3)
    step = gx.function([x], net(x), device="cuda")
    images = rng.normal(size=(5, 3, 12, 12)).astype(np.float32)
    assert np.allclose(step(images), gx.function([x], net(x))(images), atol=1e-4)
    wide = gx.input("x", gx.f64[64, 64])
    assert not products(gx.function([wide], wide @ wide, device="cuda"))
    small = gx.input("x", gx.f32[16, 16])
    assert not products(gx.function([small], small @ small, device="cuda"))
    given = gx.input("x", gx.f32[BATCH, 64, 3 * 64])
    q, k, v = (given[:, :, part * 64 : part * 64 + 64].reshape(BATCH, 64, 4, 16).transpose(1, 2) for part in range(3))
    mixed = functional.softmax(q @ k.transpose(-2, -1), -1) @ v
    numbers = rng.normal(size=(6, 64, 192)).astype(np.float32)
    found = gx.function([given], mixed, device="cuda")(numbers)
    assert np.allclose(found, gx.function([given], mixed)(numbers), atol=1e-4)


def test_products_in_loops(library, rng):
    net = nn.GRU(64, 64, batch_first=True)
    x = gx.f32[BATCH, 6, 64]
    step, slow = (gx.predict_step(Last(net), x=x, device=device) for device in ("cuda", "cpu"))
    numbers = rng.normal(size=(9, 6, 64)).astype(np.float32)
    assert products(step)
    assert np.allclose(step(numbers), slow(numbers), atol=1e-4)


class Last(nn.Module):
    def __init__(self, cells):
        super().__init__()
        self.cells = cells

    def forward(self, x):
        return self.cells(x)[0]


def test_updates_wait_for_checks_with_the_library_too(library, rng):
    net, step = classifier("cuda")
    x, y = samples(rng)
    y[3] = 64
    before = net.state_dict()
    with pytest.raises(gx.LabelError):
        step(x, y)
    for name, wanted in before.items():
        assert np.array_equal(net.state_dict()[name], wanted), name


def endings_of(step):
    return sorted((each.bias is not None, each.relu) for each in products(step))


def found_library(gpu, monkeypatch, tmp_path, time, **options):
    """A library whose products take `time` of (product or None, rows of its left matrix) milliseconds."""
    from graphc.backends.cache import Cache

    found, asked, real = FakeCublas(gpu, **options), [], choosing.Chooser.time
    monkeypatch.setattr(cublas, "load_library", lambda: found)
    monkeypatch.setattr(cuda, "default_cache", lambda: Cache(tmp_path))

    def timed(self, program, module):
        real(self, program, module)  # it can be done
        asked.append(next((each for each in program.walk() if isinstance(each, Multiply)), None))
        return time(asked[-1])

    monkeypatch.setattr(choosing.Chooser, "time", timed)
    return found, asked


def test_the_quickest_way_is_taken_and_remembered(gpu, monkeypatch, tmp_path, rng):
    """Ours for the product over 64 rows of weights, with a bias only where it is also cut off at 0."""

    def time(product):
        if product is None:
            return 1.0
        slow = product.rows == 64 and product.columns == 80
        return 2.0 if slow else 0.5 if product.bias is None else 0.4 if product.relu else 0.6

    library, asked = found_library(gpu, monkeypatch, tmp_path, time)
    _, step = classifier("cuda")
    assert len(asked) == 12  # five products by us and by the library, two of them with what comes behind as well
    assert endings_of(step) == [(False, False)] * 3 + [(True, True)]
    monkeypatch.setattr(choosing.Chooser, "time", lambda *given: pytest.fail("timed again"))
    again, slow = classifier("cuda")[1], classifier("cpu")[1]
    assert len(products(again)) == 4
    for count in (64, 17):
        x, y = samples(rng, count)
        assert np.isclose(again(x, y).loss, slow(x, y).loss, rtol=1e-4)
    assert {*library.endings[-4:]} == {1, RELU_BIAS}
    assert "relu)" in step.source() and step.source().count("cublas_multiply(") == 4


def test_a_library_that_makes_numbers_of_what_is_none_does_not_cut_off_at_0(gpu, monkeypatch, tmp_path):
    time = lambda product: 1.0 if product is None else 0.5 if product.bias is None else 0.4  # noqa: E731
    _, asked = found_library(gpu, monkeypatch, tmp_path, time, keeps_nan=False)
    _, step = classifier("cuda")
    assert len(asked) == 11 and not any(each.relu for each in asked if each is not None)
    assert endings_of(step) == [(False, False)] * 4 + [(True, False)]


def test_endings_of_products(library, rng):
    """What a library can do of each nest, and what it leaves to us."""
    shapes = {"x": (BATCH, 96), "w": (96, 80), "b": 80, "c": (BATCH, 80)}
    x, w, b, c = (gx.input(name, gx.f32[shape]) for name, shape in shapes.items())
    given = [rng.normal(size=shape).astype(np.float32) for shape in ((64, 96), (96, 80), (80,), (64, 80))]
    for outputs, ending, others in (
        (x @ w + b, BIAS, 0),
        (functional.relu(b + x @ w), RELU_BIAS, 0),
        (functional.relu(x @ w), RELU, 0),
        (functional.relu(x @ w + b) * 2 + c, RELU_BIAS, 1),
        ([functional.relu(x @ w + b), x @ w + b], BIAS, 1),
        ([x @ w, functional.relu(x @ w)], 1, 1),
        (x @ w + c, 1, 1),
        (x @ w + b.reshape(1, 80) * 2, BIAS, 1),  # which another kernel makes before
        (x @ w * b, 1, 1),
        (gx.tanh(x @ w + b).sum(0), BIAS, 1),
    ):
        step, slow = (gx.function([x, w, b, c], outputs, device=device) for device in ("cuda", "cpu"))
        library.endings.clear()
        for found, wanted in zip(step(*given), slow(*given), strict=True):
            assert np.allclose(found, wanted, rtol=1e-4, atol=1e-4)
        assert {*library.endings} == {ending}
        assert step.artifact.description.kernels == 1 + others


def test_of_several_ways_the_quickest_is_taken_and_remembered(gpu, monkeypatch, tmp_path, rng):
    times = {77: 3.0, 78: 1.0, 79: 2.0}
    library, _ = found_library(gpu, monkeypatch, tmp_path, lambda product: 2.0 - bool(product), ways=(77, 78, 79))
    real = cublas.Cublas.timed

    def timed(self, stream, known, at, algorithm):
        real(self, stream, known, at, algorithm)  # it can be done
        return times[algorithm[0]]

    monkeypatch.setattr(cublas.Cublas, "timed", timed)
    a, b = gx.input("a", gx.f32[BATCH, 128]), gx.input("b", gx.f32[128, 128])
    x, y = (rng.normal(size=shape).astype(np.float32) for shape in ((40, 128), (128, 128)))
    assert np.allclose(gx.function([a, b], a @ b, device="cuda")(x, y), x @ y, atol=1e-3)
    assert {77, 78, 79} == {*library.used} and library.used[-1] == 78
    monkeypatch.setattr(cublas.Cublas, "timed", lambda *given: pytest.fail("timed again"))
    cuda.library_for.cache_clear()  # as in another process
    library.used.clear()
    assert np.allclose(gx.function([a, b], a @ b, device="cuda")(x, y), x @ y, atol=1e-3)
    assert {*library.used} == {78}


def test_without_the_library(gpu, rng):
    _, step = classifier("cuda")
    assert not products(step)
    _, step = classifier("cuda", precision="tf32")
    assert not products(step) and "mma.sync" in step.ptx()
    with pytest.raises(gx.ArgumentError, match="precision is 'tf32'; it must be 'highest' on the CPU"):
        classifier("cpu", precision="tf32")
    with pytest.raises(gx.ArgumentError, match="precision is 'half'; it must be one of"):
        classifier("cuda", precision="half")


def test_a_library_that_fails_is_done_without(library, rng):
    library.failing["cublasLtCreate"] = NOT_SUPPORTED
    _, step = classifier("cuda")
    assert not products(step)
    _, step = classifier("cuda", precision="bf16")
    assert not products(step) and "mma.sync" in step.ptx()


def test_a_product_that_the_library_refuses_stays_ours(gpu, monkeypatch, tmp_path, rng):
    from graphc.backends.cache import Cache

    found = FakeCublas(gpu, failing={"cublasLtMatmulAlgoGetHeuristic": NOT_SUPPORTED})
    monkeypatch.setattr(cublas, "load_library", lambda: found)
    monkeypatch.setattr(cuda, "default_cache", lambda: Cache(tmp_path))
    _, step = classifier("cuda")
    assert not products(step) and np.isfinite(step(*samples(rng)).loss)


def test_the_library_is_looked_for_where_it_may_be(monkeypatch, tmp_path):
    (tmp_path / "nvidia" / "cublas" / "lib").mkdir(parents=True)
    wheel = tmp_path / "nvidia" / "cublas" / "lib" / "libcublasLt.so.12"
    wheel.write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert wheel in [*cublas.places()] and [*cublas.places()][:2] == [*cublas.SONAMES]
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "toolkit"))
    (tmp_path / "toolkit" / "lib64").mkdir(parents=True)
    toolkit = tmp_path / "toolkit" / "lib64" / "libcublasLt.so.13"
    toolkit.write_text("")
    assert [*cublas.places()].index(toolkit) < [*cublas.places()].index(wheel)


def test_looking_tells_of_products_by_the_library(library, rng):
    _, step = classifier("cuda")
    assert step.source().count("cublas_multiply(") == 5
    table = step.text("launches")
    assert table.count("a product by cuBLASLt") == 5
    assert table.splitlines()[-1].startswith(f"{step.artifact.description.kernels} launches of ")


def test_the_check_looks_at_products_by_the_library(library, rng):
    program = programs.Program(
        "lib", "", 64, 1, lambda device: classifier(device)[1], lambda count: samples(rng, count)
    )
    *rest, whole = kernels.findings(program)
    assert not rest and whole["ok"]
    real = FakeCublas.do_Matmul

    def wrong(self, *arguments):
        real(self, *arguments)
        place = arguments[10].value
        self.driver.give(arguments[-1], lambda: np.ctypeslib.ctypes.c_float.from_address(place).__init__(99.0))

    FakeCublas.do_Matmul = wrong
    try:
        *rest, whole = kernels.findings(program)
    finally:
        FakeCublas.do_Matmul = real
    assert rest and not whole["ok"]

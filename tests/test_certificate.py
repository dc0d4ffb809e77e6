"""What a certificate says before anything runs is what a run does."""

from __future__ import annotations

import json
import tracemalloc

import counted
import numpy as np
import pytest
from certified_models import BOUND, MODELS, inputs_of, mlp

import graphc as gx
from graphc import ceilings, certificate, cli, nn, optim
from graphc.backends.interface import LINKED
from graphc.backends.symbols import read_symbols
from graphc.ceilings import Ceilings
from graphc.function import Function
from graphc.ir.cost import Cost, Formula, formula_of, formula_of_nest
from graphc.ir.types import ALIGNMENT, Dim, add, multiply, round_up
from graphc.picture import kernels

SIZES = (1, 7, BOUND)
MADE_UP = Ceilings("made up", 1e11, 1e10, {"exp": 1e9, "log": 2e9}, {1: {1000: 1e10, 100_000: 1e8}}, 1e-6)


@pytest.fixture(scope="module", params=MODELS)
def step(request):
    gx.manual_seed(1)
    return MODELS[request.param]()


@pytest.fixture
def sgd():
    return MODELS["mlp_sgd"]()


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.setattr(ceilings, "known", lambda: MADE_UP)


@pytest.fixture
def unmeasured(monkeypatch):
    """A machine nobody measured; the list grows with every measurement."""
    asked = []
    monkeypatch.setattr(ceilings, "MEASURED", {})
    monkeypatch.setattr(ceilings, "measure", lambda: asked.append(1) or MADE_UP)
    return asked


@pytest.mark.parametrize("size", SIZES)
def test_predicted_bytes_and_operations_are_counted_ones(step, size):
    """Kernel by kernel, and of the whole."""
    program = step.artifact.program
    arrays = inputs_of(step, size)
    costs, found = counted.count(program, arrays)
    wanted = counted.expected(program.graph, arrays)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, 1e-4, 1e-5, err_msg=name)
    figures = step.certificate.at(batch=size)
    for kernel, predicted, cost in zip(step.certificate.kernels, figures.kernels, costs, strict=True):
        assert predicted == cost, kernel.name
    assert figures.cost == sum(costs, Cost())


def test_predicted_memory_is_allocated_memory(step):
    runner, before = step.runner, step.threads
    for threads in (1, 2):
        step.threads = threads
        assert step.certificate.arena_bytes == runner.work.nbytes
    step.threads = before if before > 1 else None
    storages = {id(storage): storage for storage in runner.storages}.values()
    assert step.certificate.state_bytes == sum(round_up(storage.array.nbytes) for storage in storages)


def test_the_state_block_is_as_large_as_said(sgd):
    assert sgd.certificate.state_bytes == sgd.runner.block.nbytes and sgd.runner.block.nbytes % ALIGNMENT == 0


def test_other_sizes_compile_nothing_and_allocate_nothing(sgd, monkeypatch):
    """After a call, others take no memory that stays but that of their results."""
    arrays = {size: (np.ones((size, 18), np.float32), np.zeros(size, np.int64)) for size in SIZES}

    def refuse(*given):
        raise AssertionError("something is compiled")

    monkeypatch.setattr("graphc.backends.artifact.compile_kernels", refuse)
    monkeypatch.setattr(Function, "compile", refuse)
    work, library = sgd.runner.work, sgd.runner.library
    for _ in range(2):
        for batch in arrays.values():
            sgd(*batch)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for batch in arrays.values():
        sgd(*batch)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 4096  # the least buffer of this step that depends on the batch takes more with all its rows
    assert sgd.runner.work is work and sgd.runner.library is library
    assert (sgd.certificate.allocations, sgd.certificate.recompiles) == (0, 0)


@pytest.mark.skipif(not LINKED, reason="elsewhere LLVM's own engine loads the object")
def test_native_code_has_nothing_to_allocate_with(step):
    """It asks no one for anything: neither an allocator nor any other function of another library."""
    assert read_symbols(step.artifact.path.read_bytes()).undefined == ()


def test_pictures_colour_by_the_same_numbers(step):
    program, costs = step.artifact.program, step.certificate.at().kernels
    for quantity, each in (("operations", [c.operations for c in costs]), ("bytes", [c.moved for c in costs])):
        assert kernels.amounts(program, quantity) == {f"kernel {k}": amount for k, amount in enumerate(each)}


def test_slices_of_a_batch_cost_as_often_as_there_are_slices():
    """A formula of a loop over slices: rows count as a whole, all else once a slice."""
    n = gx.dim("batch", max=96)
    net = nn.Sequential(nn.Linear(40, 64), nn.Tanh(), nn.Linear(64, 3))
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    given = {"x": gx.f32[n, 40], "y": gx.i64[n], "max_bytes": 49_000}
    program = gx.train_step(net, nn.CrossEntropyLoss(), optimizer, **given).artifact.program
    loops = [(nest, nest.repetition) for nest in program.apart if nest.repetition is not None]
    assert loops
    for nest, loop in loops:
        some, rows = loop.rows
        formula = formula_of_nest(nest)
        assert formula.dims == (rows,) and f"⌈batch/{some.max}⌉" in certificate.shown(formula.read)
        for size in (1, some.max, some.max + 1, rows.max):
            inside = [min(some.max, size - first) for first in range(0, size, some.max)]
            steps = [formula_of(loop.program).at({some: each, rows: size}) for each in inside]
            brought = sum(state.type.max_bytes for state, _, _ in loop.carries)
            assert formula.at({rows: size}) == sum(steps, Cost(brought, brought))


# -- time


def test_rates_lie_between_those_that_were_measured():
    assert [MADE_UP.copy(size) for size in (10, 1000, 100_000, 10**9)] == pytest.approx([1e10, 1e10, 1e8, 1e8])
    assert MADE_UP.copy(10_000) == pytest.approx(1e9) == MADE_UP.copy(10_000, threads=2)
    assert MADE_UP.function("log") == 2e9 and MADE_UP.function("atan") == 1e9 / 4


def test_predicted_seconds_follow_the_ceilings(measured):
    """A product is as slow as its multiply-adds, a copy as its bytes; what idles takes time too."""
    x, w = gx.input("x", gx.f32[gx.dim("batch", max=64), 512]), gx.parameter("w", np.ones((512, 512), np.float32))
    product = gx.function([x], x @ w, name="product")
    product.threads = 1
    of_64, of_32 = (product.certificate.predicted_seconds(batch=size) - MADE_UP.call for size in (64, 32))
    bytes_moved = product.certificate.at(batch=64).cost.moved
    assert of_64 == pytest.approx(max(2 * 64 * 512 * 512 / 1e11, bytes_moved / 1e8)) and of_32 < of_64
    short, long = (gx.function([], gx.parameter("p", np.ones((2000, n), np.float32)).exp()) for n in (17, 32))
    quick, slow = (each.certificate.at().cost.functions[0][1] / 1e9 for each in (short, long))
    assert (quick, slow) == (34e-6, 64e-6)


def test_a_kernel_takes_its_share(sgd, measured):
    own = sgd.certificate
    parts = [own.predicted_seconds(number, batch=7) for number in range(len(own.kernels))]
    assert sum(parts) + MADE_UP.call == pytest.approx(own.at(batch=7).seconds) and min(parts) > 0
    assert own.at(batch=7).seconds < own.at().seconds


def test_a_machine_is_measured_once_and_only_for_a_time(sgd, unmeasured, tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    assert "predicted_seconds() measures this machine" in str(sgd.certificate) and not unmeasured
    first = sgd.certificate.predicted_seconds()
    ceilings.MEASURED.clear()  # another process
    assert sgd.certificate.predicted_seconds() == first and len(unmeasured) == 1
    assert "predicted" in str(sgd.certificate).splitlines()[-1] and "made up" in str(sgd.certificate)


def test_a_cache_that_keeps_nothing_does_not_measure_twice(sgd, unmeasured, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", "off")
    assert sgd.certificate.predicted_seconds() == sgd.certificate.predicted_seconds() and len(unmeasured) == 1


def test_what_others_left_in_the_cache_is_measured_again(unmeasured, tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    for content in (b"{}", b"nonsense", b'{"copies": {"a": 1}}'):
        ceilings.default_cache().put(ceilings.KIND, ceilings.key(), content)
        assert ceilings.known() is None
    assert ceilings.ceilings() == MADE_UP


def test_measuring_finds_what_a_processor_can_do():
    found = ceilings.measure()
    assert ceilings.parse(json.loads(json.dumps(ceilings.written(found)))) == found
    assert found.products > found.functions["exp"] > 0 and found.arithmetic > found.functions["exp"]
    assert 0 < found.call < 1e-3 and all(rate > 1e7 for rates in found.copies.values() for rate in rates.values())


# -- as text


def test_formulas_are_written_as_one_would():
    batch, time = Dim("batch", 9), Dim("time", 5)
    extent = add(multiply(401408, batch), multiply(3, batch, batch), multiply(-1, time), 2560)
    assert certificate.shown(extent) == "3·batch² + 401,408·batch - time + 2,560"
    assert [certificate.shown(each) for each in (0, 7, batch)] == ["0", "7", "batch"]


def test_a_certificate_as_text_html_and_json(step, measured):
    own = step.certificate
    text, page, content = str(own), own._repr_html_(), json.loads(own.json())
    assert own.at().cost.operations == content["at_most"]["operations"]
    for kernel, told in zip(own.kernels, content["kernels"], strict=True):
        assert kernel.name in text and kernel.name in page
        assert told["read"] == certificate.shown(kernel.formula.read)
    assert f"state {own.state_bytes:,} bytes, arena {own.arena_bytes:,} bytes" in text
    assert "batch ≤ 24" in text and "allocations while it runs 0" in text and "<script" not in page
    assert step.text("certificate") == f"{text}\n"


def test_the_command_line_shows_it(tmp_path, measured, capsys):
    file = tmp_path / "model.py"
    lines = "import graphc as gx", 'x = gx.input("x", gx.f32["batch", 3])', "double = gx.function([x], 2.0 * x)"
    file.write_text("\n".join(lines))
    assert cli.main(["show", f"{file}:double", "--level", "certificate"]) == 0
    text = capsys.readouterr().out
    assert "3·batch" in text and "12·batch" in text and "model.py:3" in text and "predicted" in text


def test_threads_and_why(sgd):
    wide = mlp(lambda p: optim.SGD(p, lr=0.1), hidden=900, features=300)
    assert sgd.certificate.reason == "no kernel has enough to do for two"
    wide.threads = 2
    assert wide.certificate.threads == 2 and "step.threads says how many" in wide.certificate.reason
    assert {kernel.shared for kernel in wide.certificate.kernels} >= {"along 900", "no: too little to do"}
    wide.threads = 1
    assert wide.certificate.threads == 1 and "one processor" in wide.certificate.reason


def test_wrong_names_and_sizes_are_refused(sgd, measured):
    with pytest.raises(gx.ArgumentError, match=r"no dim 'bach'.*\n(.*\n)*.*did you mean batch"):
        sgd.certificate.at(bach=3)
    with pytest.raises(gx.ArgumentError, match="batch is 25; it must be at most 24"):
        sgd.certificate.at(batch=25)
    with pytest.raises(gx.ArgumentError, match="batch is 0"):
        sgd.certificate.predicted_seconds(batch=0)
    with pytest.raises(gx.ArgumentError, match="kernel is 99; it must be the number of a kernel"):
        sgd.certificate.predicted_seconds(99)


def test_a_step_on_a_gpu_has_one_without_times(gpu):
    n = gx.dim("batch", max=BOUND)
    net = nn.Sequential(nn.Linear(18, 20), nn.ReLU(), nn.Linear(20, 10))
    given = {"x": gx.f32[n, 18], "y": gx.i64[n]}
    steps = [
        gx.train_step(net, nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=0.1), **given, device=device)
        for device in ("cpu", "cuda")
    ]
    here, there = (each.certificate for each in steps)
    assert there.state_bytes == here.state_bytes and "blocks of" in there.kernels[0].shared
    for size in SIZES:
        assert there.at(batch=size).cost.products == here.at(batch=size).cost.products
    launched = there.formula.most
    assert f"{launched.moved:,} bytes moved, {launched.operations:,} operations" in steps[1].text("launches")
    assert "no GPU was measured here" in str(there) and Formula() != there.formula
    with pytest.raises(gx.DeviceError, match="no GPU was measured here"):
        there.predicted_seconds()

"""A batch in slices of its rows in one call: the same weights in less memory, or a clear word where it cannot be."""

from __future__ import annotations

import importlib.util

import graphs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from refusals import check_refusal
from test_random_programs import arrays_for, programs

import graphc as gx
from graphc import functional, nn, optim
from graphc.backends import artifact, reference
from graphc.backends.runtime import Runner, Storage
from graphc.ir import ops
from graphc.ir.cost import cost_of
from graphc.ir.graph import Graph, Output, TooLittleMemory
from graphc.ir.passes import run_passes
from graphc.ir.program import plan
from graphc.ir.rows import RowsMeet
from graphc.ir.slices import dim_of_rows, fitted_in_slices, sliced
from graphc.ir.text import parse_graph, print_graph
from graphc.ir.types import Dim, multiply

ROWS, CLASSES = 256, 5
BATCH = gx.dim("batch", max=ROWS)
RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, CLASSES, ROWS)
TOKENS, NEXT = RNG.integers(0, CLASSES, (2, ROWS, 8))
FEATURES = RNG.standard_normal((ROWS, 12), np.float32)
IMAGES = RNG.standard_normal((ROWS, 1, 12, 12), np.float32)


class Sequence(nn.Module):
    """An embedding, something that makes one sequence of another, and scores."""

    def __init__(self, middle, width=12):
        self.embed, self.middle, self.out = nn.Embedding(CLASSES, 12), middle, nn.Linear(width, CLASSES)

    def forward(self, x):
        h = self.middle(self.embed(x))
        return self.out(h[0] if isinstance(h, tuple) else h)


def sequence_loss(found, y):
    return functional.cross_entropy(found.reshape(-1, CLASSES), y.reshape(-1))


def mlp(dropout=0.0):
    return nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Dropout(dropout), nn.Linear(40, CLASSES))


def lenet():
    first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.ReLU())
    return nn.Sequential(first, nn.Flatten(), nn.Linear(96, CLASSES))


def block():
    return nn.TransformerEncoderLayer(12, 2, 24, 0.2, activation="gelu", batch_first=True, norm_first=True)


WEIGHTED = nn.CrossEntropyLoss(weight=np.linspace(0.5, 2, CLASSES).astype(np.float32), ignore_index=2)
MODELS = {
    "mlp": (mlp, nn.CrossEntropyLoss(), FEATURES, LABELS),
    "dropout": (lambda: mlp(0.5), nn.CrossEntropyLoss(label_smoothing=0.1), FEATURES, LABELS),
    "weighted": (mlp, WEIGHTED, FEATURES, LABELS),
    "sum": (mlp, nn.CrossEntropyLoss(reduction="sum"), FEATURES, LABELS),
    "lenet": (lenet, nn.CrossEntropyLoss(), IMAGES, LABELS),
    "gru": (lambda: Sequence(nn.GRU(12, 10, batch_first=True), 10), sequence_loss, TOKENS, NEXT),
    "lstm": (lambda: Sequence(nn.LSTM(12, 10, 2, batch_first=True, dropout=0.3), 10), sequence_loss, TOKENS, NEXT),
    "time_first": (lambda: Sequence(nn.LSTM(12, 10), 10), sequence_loss, TOKENS.T.copy(), NEXT.T.copy()),
    "transformer": (lambda: Sequence(block()), sequence_loss, TOKENS, NEXT),
}


def kind_of(array, axis):
    shape = [BATCH if each == axis else extent for each, extent in enumerate(array.shape)]
    return (gx.i64 if array.dtype == np.int64 else gx.f32)[tuple(shape)]


def made(name, max_bytes=None):
    """(net, train step) of a model, always with the same first weights and random numbers."""
    make, loss, x, y = MODELS[name]
    axis = int(name == "time_first")
    gx.manual_seed(3)
    net = make()
    optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    kinds = {"x": kind_of(x, axis), "y": kind_of(y, axis)}
    options = {} if loss is sequence_loss else {"metrics": ["accuracy"]}
    return net, gx.train_step(net, loss, optimizer, **kinds, max_bytes=max_bytes, max_grad_norm=1.0, **options)


def trained(name, step, steps=20):
    """What calls give, on whole and on smaller batches."""
    axis = int(name == "time_first")
    sizes = [np.arange(ROWS - 57 * (number % 3)) for number in range(steps)]
    return [step(*(array.take(rows, axis) for array in MODELS[name][2:])) for rows in sizes]


def least_of(name):
    with pytest.raises(gx.ArgumentError, match="needs at least") as caught:
        made(name, 1)
    return int(str(caught.value).split("at least ")[1].split(" ")[0].replace(",", ""))


def rows_of(step):
    """Rows a slice, of the loop that does most."""
    found = [nest.repetition.rows for nest in step.artifact.program.nests if nest.repetition is not None]
    return [rows[0].max for rows in found if rows is not None][-1]


SHARES = {"mlp": (2, 4), "lenet": (2, 4), "gru": (2, 4), "transformer": (2, 4)}


@pytest.mark.parametrize("name", MODELS)
def test_slices_give_the_same_weights(name):
    """Ragged batches, dropout and all: to rounding, after twenty steps with clipping, momentum and weight decay."""
    whole, step = made(name)
    losses = np.array(trained(name, step))
    for share in SHARES.get(name, (3,)):
        most = step.artifact.description.work_bytes // share
        net, small = made(name, most)
        assert small.artifact.description.work_bytes <= most
        assert rows_of(small) < ROWS
        np.testing.assert_allclose(np.array(trained(name, small)), losses, rtol=1e-5, atol=1e-6)
        for key, array in whole.state_dict().items():
            np.testing.assert_allclose(net.state_dict()[key], array, rtol=1e-4, atol=1e-6, err_msg=key)


MOST = {"weighted": 60_000, "lstm": 1_500_000, "transformer": 1_000_000}


@pytest.mark.parametrize("name", MOST)
def test_every_number_of_threads_gives_the_same_bits_and_the_reference_agrees(name):
    states = []
    for threads in (1, 2, 4):
        net, step = made(name, MOST[name])
        step.threads = threads
        before = step.state_dict()
        found = trained(name, step, 3)
        states.append((found, net.state_dict()))
        if threads > 1:
            continue
        arrays = {key: array[: ROWS - 1] if key in ("x", "y") else array for key, array in before.items()}
        data = dict(zip(("x", "y"), MODELS[name][2:], strict=True)) | {key: s.number for key, s in step.scalars.items()}
        expected = reference.run(step.artifact.program.graph, arrays | data)
        np.testing.assert_allclose(found[0].loss, expected["loss"], rtol=1e-5)
    for found, state in states[1:]:
        assert found == states[0][0]
        for key, array in state.items():
            np.testing.assert_array_equal(array, states[0][1][key], err_msg=key)


def test_adam_after_slices():
    """Updates that divide by the size of gradients; the slots of the optimizer are the same to rounding as well."""
    parts = []
    for most in (None, 60_000):
        gx.manual_seed(1)
        net = mlp()
        optimizer = optim.AdamW(net.parameters(), lr=0.01)
        kinds = {"x": gx.f32[BATCH, 12], "y": gx.i64[BATCH]}
        step = gx.train_step(net, nn.CrossEntropyLoss(), optimizer, **kinds, max_bytes=most)
        trained("mlp", step)
        parts.append(step.state_dict())
    assert rows_of(step) < ROWS
    for key, array in parts[0].items():
        np.testing.assert_allclose(parts[1][key], array, rtol=1e-3, atol=1e-5, err_msg=key)


def test_slices_are_as_long_as_fits():
    """One slice fewer would need more than there may be; the bytes fall with the rows."""
    graph = run_passes(made("lenet")[1].traced)
    dim = graph.dims[0]

    def size(program):
        return program.work_bytes

    sizes = [size(plan(sliced(graph, dim, -(-ROWS // slices)), 32)) for slices in (1, 2, 3, 4, 8, 256)]
    assert sizes == sorted(sizes, reverse=True)
    found = fitted_in_slices(graph, 32, sizes[3], sizes[0], size)
    assert size(found) <= sizes[3] < size(plan(sliced(graph, dim, 86), 32))
    with pytest.raises(TooLittleMemory) as caught:
        fitted_in_slices(graph, 32, sizes[-1] - 1, sizes[0], size)
    assert caught.value.least == sizes[-1]


def test_an_epoch_goes_in_slices_too():
    rows = {}
    for most in (None, 60_000):
        net, step = made("dropout", most)
        loader = gx.data.DataLoader(gx.data.TensorDataset(FEATURES, LABELS), batch_size=10)
        rows[most] = step.epoch(loader).loss, net.state_dict()
    assert rows_of(step) < ROWS
    np.testing.assert_allclose(rows[60_000][0], rows[None][0], rtol=1e-5)
    for key, array in rows[None][1].items():
        np.testing.assert_allclose(rows[60_000][1][key], array, rtol=1e-4, atol=1e-6, err_msg=key)


def test_results_of_rows_come_slice_by_slice(store, rng):
    """Where a function gives a row for each row, slices of it are written where they belong."""
    x, w = graphs.data("x", graphs.BATCH, 20), graphs.state("w", 20, 30)
    h = ops.tanh(ops.dot(x, w))
    flat = ops.reshape(h, shape=(multiply(30, graphs.BATCH),))
    outputs = (
        Output("result", "rows", h),
        Output("result", "flat", ops.exp(flat)),
        Output("result", "all", graphs.total(ops.mul(h, h))),
    )
    graph = run_passes(Graph("rows", (x, w), outputs))
    arrays = graphs.arrays_of(graph, 37, rng)
    expected = reference.run(graph, arrays)
    cut = sliced(graph, graphs.BATCH, 8)
    native = artifact.build(cut, store)
    runner = Runner(native, [Storage(arrays["w"].copy())])
    status, results = runner.step([arrays["x"]], [37])
    assert status == 0
    for found in (reference.run(cut, arrays), dict(zip((name for name, _ in runner.results), results, strict=True))):
        np.testing.assert_allclose(found["rows"], expected["rows"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found["flat"], expected["flat"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found["all"], expected["all"], rtol=1e-5)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(traced=programs())
def test_random_programs_mean_the_same_in_slices(traced):
    graph = run_passes(traced)
    if not graph.dims:
        return
    try:
        cut = sliced(graph, graph.dims[0], 5)
    except RowsMeet:
        return
    arrays = arrays_for(17)
    found, expected = (reference.run(each, arrays, double=True) for each in (cut, graph))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-7, atol=1e-9, err_msg=name)


def test_a_graph_in_slices_is_text_and_back():
    graph = sliced(run_passes(made("dropout")[1].traced), Dim("batch", ROWS), 7)
    assert "rows=(batch_slice, batch,)" in print_graph(graph)
    assert print_graph(parse_graph(print_graph(graph))) == print_graph(graph)


def test_slices_cost_hardly_any_arithmetic():
    graph = run_passes(made("lenet")[1].traced)
    whole, parts = (cost_of(plan(each, 32)) for each in (graph, sliced(graph, graph.dims[0], 6)))
    assert whole.operations <= parts.operations < 1.1 * whole.operations


# -- where rows meet


def refusal_of(make, loss=None, **kinds):
    def build():
        net = make()
        kinds_of = kinds or {"x": gx.f32[BATCH, 12], "y": gx.i64[BATCH]}
        optimizer = optim.SGD(net.parameters(), lr=0.1)
        return gx.train_step(net, loss or nn.CrossEntropyLoss(), optimizer, **kinds_of, max_bytes=100)

    with pytest.raises(gx.ArgumentError, match="max_bytes is 100; train_step needs at least") as caught:
        build()
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


def test_batch_norm_looks_at_all_rows():
    text = refusal_of(lambda: nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, CLASSES)))
    assert "the batch cannot be taken in slices: every row needs what is computed of all of them" in text
    assert "in module 1" in text and "accumulate=" in text
    assert "in slices" not in refusal_of(lambda: nn.Sequential(nn.Linear(12, 8), nn.LayerNorm(8)))


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda found, y: functional.cross_entropy(found, y) + found.max(), "max is taken over all rows"),
        (lambda found, y: (found @ found.T).mean(), "a number for every pair of rows"),
        (lambda found, y: (found[1:] * found[:-1]).mean(), "takes some of the rows"),
        (lambda found, y: found.cumsum(0).mean(), "cumsum goes over all rows in order"),
        (lambda found, y: found[y].mean(), "rows are looked up by their numbers"),
        (lambda found, y: (found - found.mean(0)).tanh().mean(), "every row needs what is computed of all of them"),
    ],
)
def test_losses_that_mix_rows(loss, words):
    text = refusal_of(lambda: nn.Linear(12, CLASSES), loss)
    assert words in text and "test_slices.py" in text


def test_a_batch_without_a_dim_has_no_slices():
    text = refusal_of(mlp, x=gx.f32[ROWS, 12], y=gx.i64[ROWS])
    assert "the batch cannot be taken in slices: no input has a dim for the rows of a batch" in text


def test_of_two_dims_that_one_is_taken_whose_rows_lie_one_after_another():
    x, y = graphs.data("x", graphs.BATCH, 4), graphs.data("y", Dim("other", 8), 4)
    turned = Output("result", "turned", ops.transpose(x, permutation=(1, 0)))
    graph = run_passes(Graph("two", (x, y), (turned, Output("result", "sum", graphs.total(ops.exp(y))))))
    assert [dim.name for dim in graph.dims] == ["batch", "other"]
    assert dim_of_rows(graph).name == "other"


def test_a_dim_may_be_called_as_slices_are(store, rng):
    x, y = graphs.data("x", graphs.BATCH, 4), graphs.data("y", Dim("batch_slice", 8), 4)
    outputs = (Output("result", "x", graphs.total(ops.exp(x))), Output("result", "y", graphs.total(ops.exp(y))))
    cut = sliced(run_passes(Graph("called", (x, y), outputs)), graphs.BATCH, 8)
    arrays = [rng.normal(size=(rows, 4)).astype(np.float32) for rows in (61, 3)]
    status, results = Runner(artifact.build(cut, store), []).step(arrays, [61, 3])
    assert status == 0
    np.testing.assert_allclose(results, [np.exp(array).sum() for array in arrays], rtol=1e-5)


def test_rows_in_another_order_do_not_go_together():
    x, y = graphs.data("x", 3, graphs.BATCH, 4), graphs.data("y", graphs.BATCH, 3, 4)
    rows = (multiply(3, graphs.BATCH), 4)
    both = ops.add(ops.reshape(x, shape=rows), ops.reshape(y, shape=rows))
    graph = Graph("orders", (x, y), (Output("result", "sum", graphs.total(both)),))
    with pytest.raises(RowsMeet, match="other rows than those of one number"):
        sliced(graph, graphs.BATCH, 8)


def test_a_label_outside_is_found_before_anything_is_updated():
    net, step = made("mlp", least_of("mlp"))
    before = net.state_dict()
    labels = LABELS.copy()
    labels[-1] = CLASSES
    with pytest.raises(gx.LabelError):
        step(FEATURES, labels)
    for key, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[key])


def test_wrong_bounds_are_refused():
    check_refusal(lambda: made("mlp", 0), "max_bytes is 0; it must be a whole number of at least 1")


def test_every_door_to_a_module_has_the_bound():
    net = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))
    x, y = gx.f32[gx.dim("b", max=512), 8], gx.i64[gx.dim("b", max=512)]
    rng = np.random.default_rng(2)
    batch = rng.normal(size=(300, 8)).astype(np.float32), rng.integers(0, 3, 300)
    loss = nn.CrossEntropyLoss()
    doors = (
        lambda **most: gx.eval_step(net, loss, x=x, y=y, **most),
        lambda **most: gx.predict_step(net, x=x, **most),
        lambda **most: gx.gradient_step(net, loss, x=x, y=y, **most),
    )
    for door in doors:
        whole = door()
        least = whole.artifact.description.work_bytes // 2
        step, arrays = door(max_bytes=least, nan="raise"), batch[: len(whole.inputs)]
        assert step.artifact.description.work_bytes <= least
        found, wanted = step(*arrays), whole(*arrays)
        pairs = zip(found, wanted, strict=True) if isinstance(wanted, tuple) else [(found, wanted)]
        assert all(np.allclose(one, other, rtol=1e-4, atol=1e-6) for one, other in pairs)
        with pytest.raises(gx.NumericsError):
            step(np.full_like(batch[0], np.nan), *arrays[1:])


# -- what is told of them, and libraries


def test_slices_are_told_of():
    _, step = made("dropout", 60_000)
    rows = rows_of(step)
    assert step.artifact.description.rows == rows
    assert f"bytes for {rows} rows at a time" in step.compiled
    assert f"its batch is taken {rows} rows at a time" in step.explain()
    assert f"for first in range(0, batch, {rows}):  # batch_slice is {rows}, or what is left" in step.source()
    assert "rows at a time" not in made("dropout")[1].compiled
    for each in (step, made("dropout", 60_000)[1]):  # the second is loaded, and planned when somebody looks
        assert {value.origin.file for value in each.artifact.program.graph.values()} == {__file__}
    assert ">loop<" in step.to_svg(level="kernels") and "loop" in step.to_dot(level="kernels")


@pytest.mark.parametrize("name", ["dropout", "lstm"])
def test_a_library_takes_the_same_slices(name, tmp_path):
    """To the same bits as this process, with a ragged batch."""
    _, step = made(name, MOST.get(name, 60_000))
    assert rows_of(step) < ROWS
    exported = gx.export({"step": step}, tmp_path / "slices")
    spec = importlib.util.spec_from_file_location("slices", exported.folder / "slices.py")
    library = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(library)
    (tmp_path / "state.bin").write_bytes(exported.block())
    copy = library.Model(path=tmp_path / "state.bin")
    for count in (ROWS, ROWS - 57):
        arrays = [array[:count] for array in MODELS[name][2:]]
        assert copy.step(*arrays).loss == step(*arrays).loss
    assert copy.state_hash() == exported.state_hash()

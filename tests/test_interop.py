"""Arrays of other libraries in, ours out; none of those libraries is needed."""

from __future__ import annotations

import copy
from array import array

import numpy as np
import pytest
from foreign_arrays import OnDevice, Recording, Unsupported, WithArray, WithDLPack, WithInterface

import graphc as gx
from graphc import data, nn
from graphc.arrays import as_array

ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


def flipped(numbers):
    """Equal numbers, the bytes of each the other way round."""
    return numbers.astype(numbers.dtype.newbyteorder())


def shifted(numbers):
    """Equal numbers at an odd address."""
    memory = np.zeros(numbers.nbytes + 1, np.uint8)
    found = memory[1:].view(numbers.dtype).reshape(numbers.shape)
    found[...] = numbers
    assert not found.flags.aligned
    return found


def read_only(numbers):
    found = numbers.copy()
    found.flags.writeable = False
    return found


SHARED = {
    "array": np.copy,
    "read only": read_only,
    "__array__": WithArray,
    "__array_interface__": WithInterface,
    "__dlpack__": WithDLPack,
    "recording": Recording,
    "memoryview": lambda numbers: memoryview(numbers.copy()),
}
COPIED = {
    "list": np.ndarray.tolist,
    "tuple": lambda numbers: tuple(map(tuple, numbers.tolist())),
    "rows": list,
    "columns first": np.asfortranarray,
    "wider steps": lambda numbers: np.repeat(numbers, 2, axis=1)[:, ::2],
    "flipped": flipped,
    "shifted": shifted,
}
ALL = SHARED | COPIED


@pytest.fixture(scope="module")
def doubled():
    """A compiled function of float rows and an integer label each."""
    batch = gx.dim("batch", max=8)
    x, y = gx.input("x", gx.f32[batch, 2]), gx.input("y", gx.i64[batch])
    return gx.function([x, y], {"twice": x * 2, "next": y + 1, "mean": x.mean()}, name="doubled")


@pytest.fixture(scope="module")
def average():
    x = gx.input("x", gx.f32["batch", 2])
    return gx.function([x], {"mean": x.mean()}, name="average")


# -- in


@pytest.mark.parametrize("kind", ALL)
def test_a_call_takes_any_array(doubled, kind):
    found = doubled(ALL[kind](ROWS), np.arange(3))
    np.testing.assert_array_equal(found.twice, ROWS * 2)
    assert found.next.tolist() == [1, 2, 3]


@pytest.mark.parametrize("kind", SHARED)
def test_what_fits_is_not_copied(doubled, kind):
    given = SHARED[kind](ROWS)
    (ready, _), _ = doubled.fit((given, np.arange(3)))
    owner = getattr(given, "numbers", given)
    assert np.shares_memory(ready, np.asarray(owner))
    assert np.shares_memory(data.TensorDataset(given).arrays[0], np.asarray(owner))


LABELS = [[4, 5, 6], array("i", [4, 5, 6]), array("q", [4, 5, 6]), memoryview(b"\4\5\6")]


@pytest.mark.parametrize("labels", LABELS)
def test_labels_of_any_kind(doubled, labels):
    assert doubled(ROWS, labels).next.tolist() == [5, 6, 7]


def test_plain_arrays_take_the_quick_path_and_odd_ones_do_not(doubled):
    labels = np.arange(3)
    status, (found, *_) = doubled.exact_call((ROWS, labels))
    assert status == 0 and np.array_equal(found, doubled(ROWS, labels)[0])
    assert doubled.exact_call((read_only(ROWS), labels))[0] == 0
    for odd in (ROWS[::2], shifted(ROWS), flipped(ROWS), ROWS.tolist(), WithArray(ROWS)):
        assert doubled.exact_call((odd, labels)) is None


@pytest.mark.parametrize("kind", [*SHARED, "list", "rows", "columns first", "shifted"])
def test_an_epoch_takes_any_array(average, kind):
    loader = data.DataLoader(data.TensorDataset(ALL[kind](ROWS)), batch_size=2)
    assert average.epoch(loader).mean == ROWS.mean()


def test_samples_of_any_kind(average):
    class Rows(data.Dataset):
        def __len__(self):
            return len(ROWS)

        def __getitem__(self, index):
            return ((WithDLPack(ROWS[0].copy()),), (Recording(ROWS[1]),), (tuple(ROWS[2].tolist()),))[index]

    assert average.epoch(data.DataLoader(Rows(), batch_size=2)).mean == ROWS.mean()


@pytest.mark.parametrize("kind", ALL)
def test_parameters_take_any_array(kind):
    weight = gx.Parameter(ALL[kind](ROWS))
    assert weight.dtype.name == "f32"
    assert weight.tolist() == ROWS.tolist()
    weight.zero_().copy_(ALL[kind](ROWS))
    assert weight.tolist() == ROWS.tolist()
    layer = nn.Linear(2, 3)
    layer.load_state_dict({"weight": ALL[kind](ROWS), "bias": [0, 0, 0]})
    assert layer.weight.tolist() == ROWS.tolist()


def test_files_hold_any_array(tmp_path):
    tensors = {kind: make(ROWS) for kind, make in SHARED.items()} | {"parameter": gx.Parameter(ROWS)}
    gx.save(tensors, tmp_path / "all.safetensors")
    for tensor in gx.load(tmp_path / "all.safetensors").values():
        np.testing.assert_array_equal(tensor, ROWS)


def test_predict_takes_any_array(doubled):
    x = gx.input("x", gx.f32["batch", 2])
    twice = gx.function([x], x * 2)
    for given in (ROWS, WithDLPack(ROWS), WithArray(ROWS), Recording(ROWS), read_only(ROWS)):
        np.testing.assert_array_equal(gx.predict(twice, given, batch_size=2), ROWS * 2)


def test_operands_are_any_array():
    x = gx.input("x", gx.f32["batch", 2])
    moved = gx.function([x], x + WithDLPack(ROWS[1].copy()) + Recording(ROWS[1]) + [1.0, 2.0])
    np.testing.assert_array_equal(moved(ROWS), ROWS + 2 * ROWS[1] + np.float32([1, 2]))
    with pytest.raises(gx.DTypeError, match=r"is a .*OnDevice"):
        x + OnDevice(ROWS)


@pytest.mark.parametrize(
    ("rows", "labels", "text"),
    [
        (OnDevice(ROWS), [0, 0, 0], "foreign_arrays.OnDevice, which cannot be read as an array"),
        (Unsupported(ROWS), [0, 0, 0], "unsupported element type bfloat16"),
        (ROWS.astype(np.float64), [0, 0, 0], "x of doubled is f32[batch,2], got dtype float64"),
        (ROWS.astype(np.complex64), [0, 0, 0], "x of doubled is f32[batch,2], got dtype complex64"),
        ([["a", "b"]], [0], "x of doubled is f32[batch,2], got dtype <U1"),
        ([[None, 1.0]], [0], "x of doubled is f32[batch,2], got dtype object"),
        (None, [0], "x of doubled is f32[batch,2], got dtype object"),
        ([[1j, 2j]], [0], "x of doubled is f32[batch,2], got dtype complex128"),
        (ROWS, [0.0, 1.0, 2.0], "y of doubled is i64[batch], got dtype float64"),
        (ROWS, np.zeros(3, np.float32), "y of doubled is i64[batch], got dtype float32"),
        (ROWS, np.zeros(3, np.uint64), "y of doubled is i64[batch], got dtype uint64"),
    ],
)
def test_wrong_kinds_are_said(doubled, rows, labels, text):
    with pytest.raises(gx.DTypeError) as caught:
        doubled(rows, labels)
    assert text in str(caught.value)
    assert "test_interop.py:" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 8


def test_wrong_shapes_are_said(doubled):
    with pytest.raises(gx.ShapeError, match="x of doubled holds rows of different lengths"):
        doubled([[1.0, 2.0], [3.0]], [0, 0])
    with pytest.raises(gx.ShapeError, match=r"x of doubled is f32\[batch,2\], got shape \(3,\)"):
        doubled(WithDLPack(np.zeros(3, np.float32)), [0, 0, 0])
    with pytest.raises(gx.ShapeError, match="array 0 of TensorDataset holds rows of different lengths"):
        data.TensorDataset([[1.0], [2.0, 3.0]])


def test_numbers_that_do_not_fit_an_integer_input_are_said():
    small = gx.function([x := gx.input("x", gx.u8["batch"])], x + 1, name="small")
    assert small([0, 254]).tolist() == [1, 255]
    for wrong in ([0, 256], [-1, 0]):
        with pytest.raises(gx.DTypeError, match=r"x of small is u8\[batch\], got dtype int64"):
            small(wrong)


def test_parameters_refuse_what_is_not_theirs():
    counts = gx.Parameter(np.zeros(3, np.int64), name="counts")
    with pytest.raises(gx.DTypeError, match=r"counts is i64\[3\], the new data has dtype float64"):
        counts.copy_(np.ones(3))
    with pytest.raises(gx.ShapeError, match=r"counts is i64\[3\], the new data has shape \(2,\)"):
        counts.copy_(WithDLPack(np.ones(2, np.int64)))
    with pytest.raises(gx.DTypeError, match=r"the new data of counts is a .*OnDevice"):
        counts.copy_(OnDevice(ROWS))
    with pytest.raises(gx.DTypeError, match="a parameter cannot have dtype <U1"):
        gx.Parameter(["a"])
    layer = nn.Linear(2, 3)
    before = layer.state_dict()
    with pytest.raises(gx.CheckpointError, match="bias is float32 in Linear and complex64 in the state"):
        layer.load_state_dict({"weight": ROWS, "bias": np.zeros(3, np.complex64)})
    with pytest.raises(gx.DTypeError, match=r"bias in the state is a .*OnDevice"):
        layer.load_state_dict({"weight": ROWS, "bias": OnDevice(ROWS)})
    np.testing.assert_array_equal(layer.weight, before["weight"])


# -- out


def test_views_of_a_parameter_see_updates_and_are_read_only():
    w = gx.Parameter(ROWS, name="w")
    grow = gx.function([], w.sum(), updates={w: w + 1})
    views = [np.asarray(w), np.from_dlpack(w), np.array(w, copy=False)]
    copies = [w.numpy(), np.array(w), np.asarray(w, np.float64), copy.deepcopy(w).numpy()]
    grow()
    for view in views:
        np.testing.assert_array_equal(view, ROWS + 1)
        assert not view.flags.writeable
    for each in copies:
        np.testing.assert_array_equal(each, ROWS)
        assert each.flags.writeable
    assert w.tolist() == (ROWS + 1).tolist()
    assert w.__dlpack_device__() == (1, 0)


def test_consumers_of_the_first_dlpack_get_the_memory_too():
    class Old:
        """Takes a parameter as code from before DLPack 1.0 does, naming no version."""

        def __init__(self, parameter):
            self.__dlpack__ = lambda **_: parameter.__dlpack__()
            self.__dlpack_device__ = parameter.__dlpack_device__

    w = gx.Parameter(ROWS)
    np.testing.assert_array_equal(np.from_dlpack(Old(w)), ROWS)


def test_a_parameter_has_no_numbers_while_it_is_traced():
    w = gx.Parameter(ROWS)
    with pytest.raises(gx.TraceError, match="symbolic until the step runs"):

        @gx.step
        def step(x: gx.f32["batch", 2]):
            return x + np.asarray(w)[0]


def test_inputs_never_lie_in_memory_that_is_updated():
    w = gx.Parameter(ROWS, name="w")
    x = gx.input("x", gx.f32["batch", 2])
    f = gx.function([x], x.sum(), updates={w: w * 2})
    for view in (w, np.asarray(w), np.from_dlpack(w), np.asarray(w)[1:]):
        (ready,), _ = f.fit((view,))
        assert not np.shares_memory(ready, np.asarray(w))
        np.testing.assert_array_equal(ready, view)
        assert f(view) == ready.sum()


# -- the libraries themselves, where they are installed


def test_tensors_of_pytorch(doubled):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rows = torch.from_numpy(ROWS.copy())
    for given in (rows, rows.clone().requires_grad_(), torch.nn.Parameter(rows)):
        np.testing.assert_array_equal(doubled(given, torch.arange(3, dtype=torch.int32)).twice, ROWS * 2)
        (ready, _), _ = doubled.fit((given, torch.arange(3)))
        assert np.shares_memory(ready, given.detach().numpy())
        assert gx.Parameter(given).tolist() == ROWS.tolist()
    for wrong in (rows.to(torch.bfloat16), rows.to_sparse(), rows.to("meta"), rows.double()):
        with pytest.raises(gx.DTypeError):
            doubled(wrong, torch.arange(3))
    w = gx.Parameter(ROWS)
    shared = torch.from_dlpack(w)
    w.copy_(ROWS + 1)
    assert torch.equal(shared, rows + 1)
    assert torch.equal(torch.from_dlpack(doubled(rows, torch.arange(3)).twice), rows * 2)


def test_arrays_of_jax(doubled):
    jax_numpy = pytest.importorskip("jax.numpy", reason="JAX is not installed")
    rows = jax_numpy.asarray(ROWS)
    np.testing.assert_array_equal(doubled(rows, jax_numpy.arange(3)).twice, ROWS * 2)
    assert gx.Parameter(rows).tolist() == ROWS.tolist()
    np.testing.assert_array_equal(jax_numpy.from_dlpack(gx.Parameter(ROWS)), ROWS)


def test_tables_of_pandas(doubled):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = pandas.DataFrame(ROWS, columns=["a", "b"])
    np.testing.assert_array_equal(doubled(table, pandas.Series([0, 1, 2])).twice, ROWS * 2)
    assert data.TensorDataset(table, table["a"]).arrays[1].tolist() == ROWS[:, 0].tolist()


def test_arrays_of_pyarrow(doubled):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    assert doubled(ROWS, pyarrow.array([0, 1, 2])).next.tolist() == [1, 2, 3]
    shown = as_array(pyarrow.array(ROWS[0]))
    assert shown.dtype == np.float32 and shown.tolist() == ROWS[0].tolist()

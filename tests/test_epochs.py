"""An epoch over again takes the quick way while nothing is new, and gives what the long way gives."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import epochs, functional, nn, optim
from graphc.data import DataLoader, Subset, TensorDataset

ROWS, BATCH = 43, 8


def arrays(seed: int = 0, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    return x, x.sum(1, keepdims=True)


def compiled(**options: Any) -> gx.Function:
    net = nn.Linear(3, 1)
    net.load_state_dict({"weight": np.ones((1, 3), np.float32), "bias": np.zeros(1, np.float32)})
    opt = optim.SGD(net.parameters(), lr=0.05)
    batch = gx.dim("batch", max=16)
    return gx.train_step(net, nn.MSELoss(), opt, metrics=["mae"], x=gx.f32[batch, 3], y=gx.f32[batch, 1], **options)


def loader_of(given: tuple[np.ndarray, ...] | None = None, **options: Any) -> DataLoader:
    return DataLoader(TensorDataset(*(given or arrays())), BATCH, **{"shuffle": True, "seed": 5, **options})


@pytest.fixture
def long_ways(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The loaders that went the long way."""
    found: list[Any] = []
    run = epochs.run

    def noted(function: gx.Function, loader: Any, *others: Any) -> Any:
        found.append(loader)
        return run(function, loader, *others)

    monkeypatch.setattr(epochs, "run", noted)
    return found


def same(quick: gx.Function, long: gx.Function) -> bool:
    states = quick.state_dict(), long.state_dict()
    return all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def long_epoch(step: gx.Function, loader: Any) -> Any:
    step.exact_epoch = None
    return step.epoch(loader)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
def test_epochs_over_again_give_the_same_bits(shuffle: bool, drop_last: bool, long_ways: list[Any]) -> None:
    quick, long = compiled(), compiled()
    ours, theirs = (loader_of(shuffle=shuffle, drop_last=drop_last) for _ in range(2))
    for _ in range(4):
        found, wanted = quick.epoch(ours), long_epoch(long, theirs)
        assert found == wanted and type(found) is quick.record and type(found.loss) is float
        assert same(quick, long) and ours.state_dict() == theirs.state_dict()
    assert [each is ours for each in long_ways].count(True) == 1


def test_only_the_first_epoch_takes_the_long_way(long_ways: list[Any]) -> None:
    step, loader = compiled(), loader_of()
    for _ in range(5):
        step.epoch(loader)
    assert len(long_ways) == 1 and loader.epoch == 5


def rearranged(loader: DataLoader) -> None:
    """The same array object with its rows in another order of memory."""
    x = loader.dataset.arrays[0]
    loader.dataset.arrays = (np.asfortranarray(x), *loader.dataset.arrays[1:])


def retyped(loader: DataLoader) -> None:
    loader.dataset.arrays = tuple(array.astype(np.float16) for array in loader.dataset.arrays)


CHANGES: dict[str, Callable[[DataLoader], Any]] = {
    "seed": lambda loader: setattr(loader, "seed", 2**63 + 3),
    "order": lambda loader: setattr(loader, "shuffle", not loader.shuffle),
    "batch": lambda loader: setattr(loader, "batch_size", 5),
    "last batch": lambda loader: setattr(loader, "drop_last", True),
    "data set": lambda loader: setattr(loader, "dataset", TensorDataset(*arrays(1))),
    "fewer samples": lambda loader: setattr(loader, "dataset", TensorDataset(*arrays(1, 20))),
    "part of it": lambda loader: setattr(loader, "dataset", Subset(loader.dataset, range(4, 31))),
    "arrays": lambda loader: setattr(loader.dataset, "arrays", arrays(2)),
    "layout": rearranged,
    "dtypes": retyped,
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_new_takes_the_long_way(change: str, long_ways: list[Any]) -> None:
    quick, long = compiled(), compiled()
    ours, theirs = loader_of(), loader_of()
    for loader, step in ((ours, quick), (theirs, long)):
        step.epoch(loader)
        CHANGES[change](loader)
    for _ in range(2):
        assert quick.epoch(ours) == long_epoch(long, theirs)
        assert same(quick, long) and ours.state_dict() == theirs.state_dict()
    copied = change in ("part of it", "layout", "dtypes")  # every time, for native code to read
    assert [each is ours for each in long_ways].count(True) == (3 if copied else 2)


@pytest.mark.parametrize(("name", "new"), [("shape", (3, ROWS)), ("dtype", np.int32), ("strides", (4, 4 * ROWS))])
@pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")
def test_arrays_that_change_in_place_are_looked_at_again(name: str, new: Any, long_ways: list[Any]) -> None:
    step, loader = compiled(), loader_of()
    step.epoch(loader)
    step.epoch(loader)
    setattr(loader.dataset.arrays[0], name, new)
    if name == "strides":
        step.epoch(loader)
    else:
        with pytest.raises(gx.errors.GraphcError, match="input x of train_step is"):
            step.epoch(loader)
        assert loader.epoch == 2
    assert len(long_ways) == 2


KEPT: dict[str, Callable[[DataLoader], Any]] = {
    "epoch": lambda loader: setattr(loader, "epoch", 17),
    "numbers": lambda loader: np.copyto(loader.dataset.arrays[0], arrays(3)[0]),
    "place": lambda loader: loader.load_state_dict({"seed": 5, "epoch": 3, "position": 2 * BATCH}),
    "nothing left": lambda loader: loader.load_state_dict({"seed": 5, "epoch": 3, "position": ROWS}),
}


@pytest.mark.parametrize("change", KEPT)
def test_what_every_epoch_looks_at_anew(change: str, long_ways: list[Any]) -> None:
    quick, long = compiled(), compiled()
    ours, theirs = loader_of(), loader_of()
    for loader, step in ((ours, quick), (theirs, long)):
        step.epoch(loader)
        KEPT[change](loader)
    for _ in range(2):
        assert quick.epoch(ours) == long_epoch(long, theirs)
        assert same(quick, long) and ours.state_dict() == theirs.state_dict()
    assert [each is ours for each in long_ways].count(True) == 1


def test_settings_of_the_optimizer_count_from_the_next_epoch(long_ways: list[Any]) -> None:
    quick, long = compiled(), compiled()
    ours, theirs = loader_of(), loader_of()
    for rate in (0.05, 0.05, 0.01, 0.0):
        assert quick.set(lr=rate).epoch(ours) == long_epoch(long.set(lr=rate), theirs)
    assert same(quick, long) and [each is ours for each in long_ways].count(True) == 1


def test_other_ways_to_ask_for_an_epoch_are_not_taken_for_it() -> None:
    step, loader = compiled(), loader_of()
    step.epoch(loader)
    seen: list[tuple[int, int]] = []
    step.epoch(loader, lambda done, every: seen.append((done, every)), slices=2)
    assert seen == [(3, 6), (6, 6)] and loader.epoch == 2
    with pytest.raises(gx.errors.ArgumentError, match="slices is 0"):
        step.epoch(loader, slices=0)
    with pytest.raises(gx.errors.ArgumentError, match="loader is 3"):
        step.epoch(3)
    assert loader.epoch == 2


class Own(DataLoader):
    """Whose passes may be anything."""

    def take_epoch(self) -> tuple[int, int]:
        return 7, 0


def test_loaders_of_ones_own_and_other_numbers_of_threads(long_ways: list[Any]) -> None:
    step, own = compiled(), Own(TensorDataset(*arrays()), BATCH, shuffle=True, seed=5)
    step.epoch(loader_of())
    step.epoch(own)
    step.epoch(own)
    assert own.epoch == 0 and len(long_ways) == 3
    step.threads = 2
    assert step.exact_epoch is None
    step.epoch(loader_of())
    assert len(long_ways) == 4


def test_a_check_that_fails_names_the_step_and_updates_nothing_more() -> None:
    (x, y), step = arrays(), compiled(nan="raise")
    loader = loader_of((x, y))
    step.epoch(loader)
    order = loader.epoch_order(1)
    x[order[2 * BATCH + 3]] = np.nan
    other = compiled(nan="raise")
    other.epoch(loader_of(arrays()))
    for number in range(2):
        other(x[rows := order[number * BATCH : (number + 1) * BATCH]], y[rows])
    with pytest.raises(gx.NumericsError, match="step 2 of the epoch"):
        step.epoch(loader)
    assert step.exact_epoch is not None and loader.epoch == 2
    assert same(step, other)
    x[:] = arrays()[0]
    assert np.isfinite(step.epoch(loader).loss)


def classifier(hidden: bool = False, classes: int = 10) -> gx.Function:
    gx.manual_seed(3)
    first = [nn.Linear(84, 84), nn.Tanh()] if hidden else []
    net = nn.Sequential(nn.Flatten(), *first, nn.Linear(84, classes))
    batch = gx.dim("batch", max=64)
    opt = optim.SGD(net.parameters(), lr=0.1)
    return gx.train_step(net, nn.CrossEntropyLoss(), opt, x=gx.f32[batch, 7, 12], y=gx.i64[batch])


def gathering_kernels(step: gx.Function) -> list[str]:
    return [kernel.name for kernel in step.artifact.kernels if kernel.name.startswith("gather_lines")]


@pytest.mark.parametrize(("hidden", "classes"), [(False, 3), (False, 10), (False, 20), (True, 10)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_images_of_bytes_give_the_bits_of_floats(hidden: bool, classes: int, shuffle: bool) -> None:
    """Whoever brings them together, for any number of threads; and steps on batches go on as before."""
    rng = np.random.default_rng(4)
    images, labels = rng.integers(0, 256, (333, 7, 12)).astype(np.uint8), rng.integers(0, classes, 333)
    floats = images * np.float32(1 / 255)
    wanted = None
    for given, threads in ((floats, 1), (images, 1), (images, 2), (images, 4)):
        step = classifier(hidden, classes)
        assert bool(gathering_kernels(step)) is not hidden
        step.threads = threads
        loader = DataLoader(TensorDataset(given, labels), 64, shuffle=shuffle, seed=2)
        losses = [step.epoch(loader), step(floats[:9], labels[:9]), step.epoch(loader)]
        found = losses, {name: array.copy() for name, array in step.state_dict().items()}
        wanted = wanted or found
        assert found[0] == wanted[0]
        assert all(np.array_equal(found[1][name], wanted[1][name]) for name in wanted[1])


def test_a_wrong_label_beside_images_of_bytes_is_found_by_the_step() -> None:
    rng = np.random.default_rng(4)
    images, labels = rng.integers(0, 256, (100, 7, 12)).astype(np.uint8), rng.integers(0, 10, 100)
    labels[70] = 10
    step = classifier()
    with pytest.raises(gx.LabelError, match="10"):
        step.epoch(DataLoader(TensorDataset(images, labels), 64))


def test_a_data_set_is_not_kept() -> None:
    step, loader = compiled(), loader_of()
    step.epoch(loader)
    step.epoch(loader)
    held = [weakref.ref(array) for array in loader.dataset.arrays]
    del loader
    gc.collect()
    assert not any(each() is not None for each in held)


def labelled(make: Callable[[Any], Any], row: tuple[int, ...] = ()) -> tuple[gx.Function, gx.Parameter]:
    """Training whose labels are made of an input's numbers."""
    n = gx.dim("n", max=16)
    x, y = gx.input("x", gx.f32[n, 3]), gx.input("y", gx.i64[(n, *row)])
    w = gx.parameter("w", np.zeros((3, 4), np.float32))
    loss = functional.cross_entropy(x @ w, make(y))
    return gx.function([x, y], loss, updates={w: w - gx.grad(loss, w)}), w


def test_a_label_that_became_wrong_is_found_before_the_next_epoch(long_ways: list[Any]) -> None:
    """The least and the largest are looked at each time; none is updated by rows before the wrong one."""
    step, w = labelled(lambda y: y)
    assert step.spans == [(1, 0, 4)]
    x, y = arrays()[0], np.arange(ROWS) % 4
    loader = loader_of((x, y), shuffle=False)
    step.epoch(loader)
    step.epoch(loader)
    assert len(long_ways) == 1
    before = w.numpy()
    for wrong in (-1, 4, 2**40):
        y[ROWS - 2] = wrong
        with pytest.raises(gx.LabelError, match=rf"0\.\.3: got {wrong} at index {ROWS - 2}"):
            step.epoch(loader)
        assert np.array_equal(w.numpy(), before)
    y[ROWS - 2] = -100  # which leaves a row out, and is looked at one by one
    step.epoch(loader)
    assert len(long_ways) == 5 and not np.array_equal(w.numpy(), before)


@pytest.mark.parametrize(
    ("make", "row", "spans"),
    [
        (lambda y: y, (), [(1, 0, 4)]),
        (lambda y: 3 - y, (), [(1, 0, 4)]),
        (lambda y: y[:, 1], (5,), [(1, 0, 4)]),
        (lambda y: y + 1, (), None),
        (lambda y: (y[:, 0] + y[:, 1]) // 2 * 2, (2,), None),
        (lambda y: y.sum(1), (2,), None),
    ],
)  # fmt: skip
def test_labels_the_least_and_the_largest_of_which_tell_enough(make: Any, row: Any, spans: Any) -> None:
    step, _ = labelled(make, row)
    assert step.spans == spans
    right, wrong = np.zeros((ROWS, *row), np.int64), np.zeros((ROWS, *row), np.int64)
    wrong[7] = 4
    step.epoch(loader_of((arrays()[0], right)))
    with pytest.raises(gx.LabelError, match="index 7"):
        step.epoch(loader_of((arrays()[0], wrong)))

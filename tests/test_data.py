"""Data sets, splits and loaders: PyTorch's counts and shapes, repeatable orders, resuming, texts of errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphc import generator
from graphc.backends import primitives
from graphc.backends.entry.epoch import gather
from graphc.data import DataLoader, Dataset, Subset, TensorDataset, random_split
from graphc.errors import ArgumentError, DatasetError, GraphcError, ShapeError
from graphc.ir.random import permutation


class Squares(Dataset):
    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return np.full((2, 3), index, np.float32), index * index


class Tensor:
    """Stands for another library's tensor."""

    def __array__(self, *_, **__) -> np.ndarray:
        return np.arange(4.0)


def numbers(count: int) -> TensorDataset:
    return TensorDataset(np.arange(count))


def firsts(loader: DataLoader) -> list[list[int]]:
    return [batch[0].tolist() for batch in loader]


def one_pass(loader: DataLoader) -> list[int]:
    return [number for batch in firsts(loader) for number in batch]


def test_tensor_dataset_keeps_type_and_order() -> None:
    images = np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(4, 2, 3))
    dataset = TensorDataset(images, [3, 2, 1, 0], Tensor())
    assert len(dataset) == 4
    assert [array.dtype for array in dataset.arrays] == [np.uint8, np.int64, np.float64]
    assert all(array.flags.c_contiguous for array in dataset.arrays)
    image, label, number = dataset[1]
    assert (image == images[1]).all()
    assert (label, number) == (2, 1.0)


def test_tensor_dataset_does_not_copy_what_fits() -> None:
    images = np.zeros((4, 2))
    assert TensorDataset(images).arrays[0] is images


@pytest.mark.parametrize(
    ("count", "size", "drop_last", "sizes"),
    [
        (10, 4, False, [4, 4, 2]),
        (10, 4, True, [4, 4]),
        (8, 4, False, [4, 4]),
        (8, 4, True, [4, 4]),
        (3, 4, False, [3]),
        (3, 4, True, []),
        (0, 4, False, []),
    ],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_count_as_in_pytorch(count: int, size: int, drop_last: bool, sizes: list[int], shuffle: bool) -> None:
    loader = DataLoader(numbers(count), size, shuffle, drop_last=drop_last, seed=0)
    assert [len(batch[0]) for batch in loader] == sizes
    assert len(loader) == len(sizes)


def test_batches_without_shuffle_are_in_order() -> None:
    assert firsts(DataLoader(numbers(5), batch_size=2)) == [[0, 1], [2, 3], [4]]


def test_shuffled_batches_follow_the_epoch_order() -> None:
    loader = DataLoader(numbers(20), batch_size=6, shuffle=True, seed=3)
    passes = [one_pass(loader) for _ in range(3)]
    assert passes == [permutation(20, seed=3, epoch=epoch).tolist() for epoch in range(3)]
    assert passes == [loader.epoch_order(epoch).tolist() for epoch in range(3)]
    assert loader.epoch == 3
    loader.epoch = 1
    assert one_pass(loader) == passes[1]


def test_loaders_of_one_seed_agree_and_of_another_do_not() -> None:
    orders = [DataLoader(numbers(50), shuffle=True, seed=seed).epoch_order(0).tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_seed_chosen_for_the_user_can_be_read_and_used_again() -> None:
    first = DataLoader(numbers(50), shuffle=True)
    again = DataLoader(numbers(50), shuffle=True, seed=first.seed)
    assert firsts(first) == firsts(again)
    assert first.seed != DataLoader(numbers(50), shuffle=True).seed


def test_images_stay_bytes_and_batches_are_copies() -> None:
    images = np.zeros((4, 1, 2, 2), np.uint8)
    ((batch,),) = DataLoader(TensorDataset(images), batch_size=4)
    batch += 1
    assert batch.dtype == np.uint8
    assert not images.any()


def test_own_dataset_is_stacked() -> None:
    images, labels = list(DataLoader(Squares(), batch_size=4))[1]
    assert images.shape == (3, 2, 3)
    assert images.dtype == np.float32
    assert labels.tolist() == [16, 25, 36]
    assert labels.dtype == np.int64


def test_any_sequence_is_a_dataset() -> None:
    assert firsts(DataLoader([1.5, 2.5, 3.5], batch_size=2)) == [[1.5, 2.5], [3.5]]


def test_subset_of_arrays_and_of_a_sequence() -> None:
    subset = Subset(Subset(numbers(10), [9, 3, 5]), [2, 0])
    assert firsts(DataLoader(subset, batch_size=2)) == [[5, 9]]
    assert subset.arrays[0].tolist() == [5, 9]
    assert subset[1] == (9,)
    plain = Subset(["a", "b"], [1])
    assert plain[0] == "b"
    assert not hasattr(plain, "arrays")


def test_random_split_by_lengths_and_by_fractions() -> None:
    parts = random_split(numbers(10), [7, 3], seed=4)
    assert [len(part) for part in parts] == [7, 3]
    assert sorted(np.concatenate([part.indices for part in parts]).tolist()) == list(range(10))
    again = random_split(numbers(10), [7, 3], seed=4)
    assert all((part.indices == other.indices).all() for part, other in zip(parts, again, strict=True))
    # the left-over samples go to the first parts, one each, as in PyTorch
    assert [len(part) for part in random_split(numbers(11), [0.5, 0.25, 0.25], seed=4)] == [6, 3, 2]


def test_resume_in_the_middle_of_a_pass() -> None:
    loader = DataLoader(numbers(10), batch_size=3, shuffle=True, seed=8)
    firsts(loader)
    batches = iter(loader)
    seen = [next(batches)[0].tolist(), next(batches)[0].tolist()]
    state = loader.state_dict()
    assert state == {"seed": 8, "epoch": 1, "position": 6}
    other = DataLoader(numbers(10), batch_size=3, shuffle=True)
    other.load_state_dict(state)
    assert other.state_dict() == state
    rest = one_pass(other)
    assert [*seen[0], *seen[1], *rest] == loader.epoch_order(1).tolist()
    assert other.state_dict() == {"seed": 8, "epoch": 2, "position": 0}
    assert one_pass(other) == loader.epoch_order(2).tolist()


def test_a_pass_left_early_can_be_resumed_or_given_up() -> None:
    loader = DataLoader(numbers(10), batch_size=3, shuffle=True, seed=8)
    for _ in loader:
        break
    assert loader.state_dict() == {"seed": 8, "epoch": 0, "position": 3}
    assert one_pass(loader) == loader.epoch_order(1).tolist()


def test_native_call_claims_an_epoch_as_a_loop_does() -> None:
    loader = DataLoader(numbers(10), batch_size=3, seed=8)
    assert [loader.take_epoch(), loader.take_epoch()] == [(0, 0), (1, 0)]
    assert loader.state_dict() == {"seed": 8, "epoch": 2, "position": 0}
    loader.load_state_dict({"seed": 8, "epoch": 5, "position": 6})
    assert [loader.take_epoch(), loader.take_epoch()] == [(5, 6), (6, 0)]


def ragged() -> None:
    next(iter(DataLoader([np.zeros(2), np.zeros(3)], batch_size=2)))


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (lambda: TensorDataset(np.zeros((3, 2)), np.zeros(4)), ShapeError, "3 samples in array 0 and 4 in array 1"),
        (lambda: TensorDataset(np.zeros(3), 4), ShapeError, "array 1 of TensorDataset is one number"),
        (lambda: TensorDataset(), DatasetError, "got no arrays"),
        (lambda: TensorDataset([None]), DatasetError, "array 0 of TensorDataset holds Python objects"),
        (lambda: TensorDataset(["a", "b"]), DatasetError, "array 0 of TensorDataset holds texts"),
        (lambda: DataLoader(numbers(3), batch_size=0), ArgumentError, "batch_size is 0; it must be a whole number"),
        (lambda: DataLoader(numbers(3), batch_size=2.5), ArgumentError, "batch_size is 2.5"),  # type: ignore[arg-type]
        (lambda: DataLoader(numbers(3), 2, "yes"), ArgumentError, "shuffle is 'yes'"),  # type: ignore[arg-type]
        (lambda: DataLoader(numbers(3), drop_last=3), ArgumentError, "drop_last is 3"),  # type: ignore[arg-type]
        (lambda: DataLoader(numbers(3), num_workers="a"), ArgumentError, "num_workers is 'a'"),  # type: ignore[arg-type]
        (lambda: DataLoader(5), DatasetError, "DataLoader got 5, which has no length"),
        (lambda: DataLoader({"x": 3}), DatasetError, "DataLoader got {'x': 3}, which has no length or no samples"),
        (lambda: len(DataLoader(Dataset())), DatasetError, "Dataset needs a method __len__"),
        (lambda: DataLoader(numbers(3), seed=-1), ArgumentError, "seed is -1; it must be a whole number from 0"),
        (lambda: DataLoader(numbers(3), seed="a"), ArgumentError, "seed is 'a'"),  # type: ignore[arg-type]
        (lambda: setattr(DataLoader(numbers(3)), "epoch", "a"), ArgumentError, "epoch is 'a'"),
        (lambda: DataLoader(numbers(3)).load_state_dict(3), ArgumentError, "the state is 3"),  # type: ignore[arg-type]
        (lambda: DataLoader(numbers(3)).load_state_dict({"seed": 1, "epoch": 0}), DatasetError, "lacks position"),
        (
            lambda: DataLoader(numbers(3)).load_state_dict({"seed": 1, "epoch": 0, "position": 4}),
            DatasetError,
            "4 samples into an epoch; this data set has 3",
        ),
        (
            lambda: DataLoader(numbers(3)).load_state_dict({"seed": 1, "epoch": 0.5, "position": 0}),  # type: ignore[dict-item]
            ArgumentError,
            "epoch is 0.5; it must be a whole number",
        ),
        (lambda: Subset(numbers(3), [0, 3]), DatasetError, "index 3 of a data set with 3 samples"),
        (lambda: Subset(numbers(3), [0.5]), ArgumentError, "indices is [0.5]; it must be a list of whole numbers"),
        (lambda: Subset(numbers(3), "a"), ArgumentError, "indices is 'a'"),
        (lambda: Subset(3, [0]), DatasetError, "Subset got 3, which has no length"),
        (lambda: random_split(numbers(10), 3), ArgumentError, "lengths is 3"),  # type: ignore[arg-type]
        (lambda: random_split(numbers(10), ["a"]), ArgumentError, "lengths is ['a']"),  # type: ignore[list-item]
        (lambda: random_split(numbers(10), [7, 2]), DatasetError, "[7, 2] add up to 9; the data set has 10 samples"),
        (lambda: random_split(numbers(10), [0.7, 0.2]), DatasetError, "add up to 0.9, not to 1"),
        (ragged, ShapeError, "differ in part 0: shapes (2,) and (3,)"),
        (lambda: list(DataLoader([(1, 2), (1,)], batch_size=2)), ShapeError, "samples of 2 and of 1 parts"),
    ],
)
def test_errors_name_both_values_and_the_callers_line(fault: Any, kind: type[GraphcError], text: str) -> None:
    with pytest.raises(kind) as caught:
        fault()
    lines = str(caught.value).splitlines()
    assert text in lines[0]
    assert len(lines) <= 8
    assert caught.value.origin is not None
    assert caught.value.origin.file == __file__


def test_loader_without_a_seed_follows_manual_seed():
    def orders():
        generator.manual_seed(5)
        loaders = [DataLoader(TensorDataset(np.arange(50)), shuffle=True) for _ in range(2)]
        return [loader.epoch_order(0).tolist() for loader in loaders]

    first = orders()
    assert first == orders() and first[0] != first[1]


@pytest.mark.parametrize("source", ["f32", "u8"])
def test_a_row_is_fetched_while_earlier_ones_are_gathered(source, rng, monkeypatch):
    """What `epoch` reads: the rows of one batch in the order's order, bytes as [0, 1], and no row beyond the batch."""
    fetched = []
    meanings = {**primitives.MEANINGS, "prefetch": lambda p, i: fetched.append(int(i))}
    monkeypatch.setattr(primitives, "MEANINGS", meanings)
    primitives._uncompiled.cache_clear()
    data, order = rng.integers(0, 256, (9, 37)).astype(primitives.ELEMENTS[source]), rng.permutation(9)
    out = np.zeros((5, 37), np.float32)
    primitives.run(gather(source, "f32", 37), out.ravel(), data.ravel(), order, 3, 1, 5, 37)
    primitives._uncompiled.cache_clear()
    scale = np.float32(1 / 255) if source == "u8" else np.float32(1)
    assert np.array_equal(out[1:], data[order[4:8]].astype(np.float32) * scale)
    assert not out[0].any()
    assert set(fetched) == {row * 37 + column for row in order[6:8] for column in (0, 16)}

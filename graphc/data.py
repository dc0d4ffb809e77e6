"""Data sets and their batches: NumPy arrays under PyTorch's names, in orders that follow from a seed and an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphc.arrays import LITERALS, as_array
from graphc.cuda import is_afar, samples_afar
from graphc.errors import DatasetError, ShapeError
from graphc.generator import draw_seed
from graphc.ir.graph import user_origin
from graphc.ir.random import permutation
from graphc.settings import check_switch, check_whole, is_number, is_whole, require, shown
from graphc.tensor import Tensor

Array = NDArray[Any]
Batch = tuple[Array, ...]

SPLIT_EPOCH = 2**64 - 1  # an epoch no loader reaches, so a split and a loader of one seed draw different orders
SEED_BITS = 64


class Dataset:
    """A sequence of samples: subclasses give `__len__` and `__getitem__`, as in PyTorch.

    A sample is a tuple of arrays or numbers, or a single one.
    """

    def __len__(self) -> int:
        raise DatasetError(f"{type(self).__name__} needs a method __len__(self) -> int", user_origin())

    def __getitem__(self, index: int) -> Any:
        raise DatasetError(f"{type(self).__name__} needs a method __getitem__(self, index)", user_origin())

    def gather(self, indices: NDArray[np.int64]) -> Batch:
        """The samples of these indices stacked: one array for each part of a sample, first axis the batch."""
        return stack([self[int(index)] for index in indices])


class TensorDataset(Dataset):
    """Arrays whose first axes run over the same samples.

    arrays  what `__array__`, `__dlpack__` or a buffer shows, kept in its own element type, and not copied where it is
            C-contiguous; or lists, whose floats become float32. Arrays of PyTorch, CuPy or JAX on a GPU stay there: an
            epoch of a step on that GPU gathers its batches from them; whoever goes from batch to batch, or makes a
            Subset, gets copies on the host

    Raises ShapeError when their lengths differ, DTypeError for what cannot be read as an array.
    """

    def __init__(self, *arrays: Any) -> None:
        named = ((array, f"array {position} of TensorDataset") for position, array in enumerate(arrays))
        self.arrays: Batch = tuple(samples_of(array, name) for array, name in named)
        if not self.arrays:
            raise DatasetError("TensorDataset() got no arrays; it needs at least one", user_origin())
        for position, array in enumerate(self.arrays):
            self._check(position, array)

    def _check(self, position: int, array: Array) -> None:
        if array.dtype.kind in "OSU":
            kind = "Python objects" if array.dtype == object else "texts"
            raise DatasetError(
                f"array {position} of TensorDataset holds {kind}, not numbers",
                user_origin(),
                ["rows of different lengths? make them one length, then np.array(rows, dtype=np.float32)"],
            )
        if array.ndim == 0:
            raise ShapeError(f"array {position} of TensorDataset is one number, not a list of samples", user_origin())
        if len(array) != len(self.arrays[0]):
            raise ShapeError(
                f"TensorDataset got {len(self.arrays[0])} samples in array 0 and {len(array)} in array {position}",
                user_origin(),
                [f"their shapes: {self.arrays[0].shape} and {array.shape}; the first axis counts samples"],
            )

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> Batch:
        return tuple(array[index] for array in self.arrays)

    def gather(self, indices: NDArray[np.int64]) -> Batch:
        return tuple(take(array, indices) for array in self.arrays)


class Subset(Dataset):
    """The samples of another data set at the given indices, in that order."""

    def __init__(self, dataset: Any, indices: ArrayLike) -> None:
        check_dataset("Subset", dataset)
        self.dataset = dataset
        self.indices: NDArray[np.int64] = whole_numbers("indices", indices)
        count = len(dataset)
        outside = self.indices[(self.indices < 0) | (self.indices >= count)]
        if outside.size:
            raise DatasetError(f"Subset got index {outside[0]} of a data set with {count} samples", user_origin())

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    def gather(self, indices: NDArray[np.int64]) -> Batch:
        return gather(self.dataset, self.indices[indices])

    @cached_property
    def arrays(self) -> Batch:
        """The chosen samples of a TensorDataset, copied once; AttributeError when the data set holds no arrays."""
        return tuple(take(array, self.indices) for array in self.dataset.arrays)


def random_split(dataset: Any, lengths: Sequence[int] | Sequence[float], seed: int | None = None) -> list[Subset]:
    """Split at random into subsets without common samples.

    lengths  how many samples each gets; or fractions that add up to 1, whose left-over samples go to the first subsets

    Raises DatasetError when the lengths do not add up to the whole.
    """
    check_dataset("random_split", dataset)
    fits = isinstance(lengths, (list, tuple, np.ndarray)) and all(is_number(length) for length in lengths)
    require(fits, "lengths", lengths, "a list of whole numbers, or of fractions that add up to 1")
    count = len(dataset)
    sizes = _sizes(lengths, count)
    order = permutation(count, checked_seed(seed), SPLIT_EPOCH)
    ends = np.cumsum(sizes)
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def _sizes(lengths: Sequence[int] | Sequence[float], count: int) -> list[int]:
    if not all(map(is_whole, lengths)):
        if min(lengths) < 0 or not math.isclose(sum(lengths), 1):
            raise DatasetError(f"the fractions {list(lengths)} add up to {sum(lengths):g}, not to 1", user_origin())
        sizes = [math.floor(count * fraction) for fraction in lengths]
        spare = count - sum(sizes)
        return [size + (position < spare) for position, size in enumerate(sizes)]
    sizes = [int(length) for length in lengths]
    if sum(sizes) != count or min(sizes, default=0) < 0:
        raise DatasetError(
            f"the lengths {sizes} add up to {sum(sizes)}; the data set has {count} samples",
            user_origin(),
            ["give lengths of all parts, or fractions such as [0.9, 0.1]"],
        )
    return sizes


class DataLoader:
    """Batches of a data set, a tuple of NumPy arrays each; every pass over it is the next epoch.

    dataset      a Dataset, or any object with `__len__` and `__getitem__`
    batch_size   samples in a batch; the last one may be smaller
    shuffle      take the samples in a random order, another one each epoch
    seed         what the orders follow from; None chooses one, to be read at `.seed`
    drop_last    leave out a last batch that is smaller
    num_workers  accepted for programs written for PyTorch; batches are gathered here, without worker processes

    `epoch` is the number of the next pass and can be set. `state_dict` taken during a pass, or after leaving it early,
    continues that pass behind its last batch.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        seed: int | None = None,
        drop_last: bool = False,
        num_workers: int = 0,
    ) -> None:
        check_dataset("DataLoader", dataset)
        self.dataset = dataset
        self.batch_size = check_whole("batch_size", batch_size, 1)
        self.shuffle = check_switch("shuffle", shuffle)
        self.seed = checked_seed(seed)
        self.drop_last = check_switch("drop_last", drop_last)
        check_whole("num_workers", num_workers, 0)
        self.epoch = 0

    @property
    def epoch(self) -> int:
        """The epoch of the next pass."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        require(is_whole(epoch) and 0 <= epoch < SPLIT_EPOCH, "epoch", epoch, "a whole number from 0")
        self._go_to(int(epoch), 0)

    def _go_to(self, epoch: int, done: int) -> None:
        self._epoch, self._skipped = self._place = epoch, done

    def __len__(self) -> int:
        """The number of batches in a full pass."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        return self._batches(*self.take_epoch())

    def take_epoch(self) -> tuple[int, int]:
        """Claim the next pass: its epoch, and how many samples of its order are already done (0 unless resumed)."""
        claimed, following = (self._epoch, self._skipped), self._epoch + 1
        if following < SPLIT_EPOCH:
            self._go_to(following, 0)
        else:
            self.epoch = following  # which refuses it
        return claimed

    def _batches(self, epoch: int, done: int) -> Iterator[Batch]:
        order = self.epoch_order(epoch)
        end = len(self) * self.batch_size
        self._place = (epoch, done)
        for start in range(done, min(end, len(order)), self.batch_size):
            batch = gather(self.dataset, order[start : start + self.batch_size])
            self._place = (epoch, start + len(batch[0]))
            yield batch
        self._place = (epoch + 1, 0)

    def epoch_order(self, epoch: int) -> NDArray[np.int64]:
        """The indices of an epoch's samples, int64 (samples,); the same on every machine."""
        count = len(self.dataset)
        return permutation(count, self.seed, epoch) if self.shuffle else np.arange(count, dtype=np.int64)

    def state_dict(self) -> dict[str, int]:
        """Where the loader is: its seed, its epoch, and as position how many of the epoch's samples it handed out."""
        epoch, position = self._place
        return {"seed": self.seed, "epoch": epoch, "position": position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to a place that `state_dict` gave: the next pass takes up that epoch at that position."""
        require(isinstance(state, Mapping), "the state", state, "a dictionary, as state_dict() gives it")
        missing = {"seed", "epoch", "position"} - set(state)
        if missing:
            raise DatasetError(f"a DataLoader's state lacks {', '.join(sorted(missing))}: {dict(state)}", user_origin())
        seed, epoch, position = (whole_number(key, state[key]) for key in ("seed", "epoch", "position"))
        if not 0 <= position <= len(self.dataset):
            raise DatasetError(
                f"the state is {position} samples into an epoch; this data set has {len(self.dataset)}", user_origin()
            )
        self.seed = checked_seed(seed)
        self.epoch = epoch
        self._go_to(self.epoch, position)


def gather(dataset: Any, indices: NDArray[np.int64]) -> Batch:
    """The samples of these indices as one batch: a tuple of arrays, first axis the batch."""
    if isinstance(dataset, Dataset):
        return dataset.gather(indices)
    return stack([dataset[int(index)] for index in indices])


def stack(samples: Sequence[Any]) -> Batch:
    """Samples one above the other: for each part of a sample, one array with a new first axis.

    Raises ShapeError when two samples differ in shape or number of parts.
    """
    rows = [sample if isinstance(sample, tuple | list) else (sample,) for sample in samples]
    for row in rows:
        if len(row) != len(rows[0]):
            raise ShapeError(f"a batch holds samples of {len(rows[0])} and of {len(row)} parts", user_origin())
    return tuple(_stack_part(position, column) for position, column in enumerate(zip(*rows, strict=True)))


def _stack_part(position: int, column: Sequence[Any]) -> Array:
    arrays = [read_samples(value, f"part {position} of a sample") for value in column]
    for array in arrays:
        if array.shape != arrays[0].shape:
            raise ShapeError(
                f"samples of one batch differ in part {position}: shapes {arrays[0].shape} and {array.shape}",
                user_origin(),
                ["make them one shape in the data set's __getitem__ (pad, crop or resize)"],
            )
    return np.stack(arrays)


def samples_of(given: Any, name: str) -> Any:
    """The given numbers as a data set keeps them: in order, on the host, unless they lie on a GPU."""
    return samples_afar(given, name) if is_afar(given) else np.asarray(read_samples(given, name), order="C")


def take(array: Any, indices: NDArray[np.int64]) -> Array:
    """Rows, copied to the host."""
    return np.take(array, indices, axis=0) if isinstance(array, np.ndarray) else array[indices]


def read_samples(given: Any, name: str) -> Array:
    """The given numbers as an array; Python's own floats become float32, as in PyTorch."""
    array = as_array(given, name)
    return array.astype(np.float32) if isinstance(given, LITERALS) and array.dtype == np.float64 else array


def checked_seed(seed: int | None) -> int:
    """A seed of 0 .. 2**64-1; None draws one from the generator that gx.manual_seed seeds."""
    if seed is None:
        return draw_seed()
    fits = is_whole(seed) and 0 <= seed < 2**SEED_BITS
    require(fits, "seed", seed, f"a whole number from 0 to 2**{SEED_BITS} - 1")
    return int(seed)


def check_dataset(name: str, dataset: Any) -> None:
    indexed = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if not indexed or isinstance(dataset, (Mapping, Tensor, str)):
        raise DatasetError(
            f"{name} got {shown(dataset)}, which has no length or no samples by their numbers",
            user_origin(),
            [f"for arrays, write {name}(TensorDataset(x, y), ...)"],
        )


def whole_numbers(name: str, given: Any) -> NDArray[np.int64]:
    """A list of whole numbers, copied."""
    array = as_array(given, name)
    fits = array.ndim == 1 and (array.dtype.kind in "iu" or array.size == 0)
    require(fits, name, given, "a list of whole numbers; a mask becomes one by np.flatnonzero(mask)")
    return array.astype(np.int64)


def whole_number(name: str, given: Any) -> int:
    """A whole number that may have become an array in a file."""
    array = as_array(given, name)
    require(array.ndim == 0 and array.dtype.kind in "iu", name, given, "a whole number")
    return int(array)

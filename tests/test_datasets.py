"""Named data sets: the bundled sample, every place and form they are found in, damage, and life without a network."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graphc import datasets
from graphc.datasets import FASHION, FILES, SAMPLE, Published, fashion_mnist, fashion_mnist_sample, mnist, obtain, read
from graphc.errors import DatasetError

ARRAYS = {
    "x_train": np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28),
    "y_train": np.array([2, 0, 1], np.uint8),
    "x_test": np.full((2, 28, 28), 7, np.uint8),
    "y_test": np.array([1, 2], np.uint8),
}


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


TINY = Published(
    name="tiny",
    title="Tiny",
    classes=("a", "b", "c"),
    checksums={part: hashlib.sha256(idx(array)).hexdigest() for part, array in ARRAYS.items()},
    torch_folder="Tiny/raw",
)


def write_npz(folder: Path) -> None:
    np.savez(folder / "tiny.npz", **ARRAYS)


def write_plain(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, array in ARRAYS.items():
        (folder / FILES[part]).write_bytes(idx(array))


def write_packed(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, array in ARRAYS.items():
        (folder / f"{FILES[part]}.gz").write_bytes(gzip.compress(idx(array)))


def is_tiny(found: datasets.LabelledImages) -> bool:
    return (
        np.array_equal(found.x_train, ARRAYS["x_train"][:, None])
        and np.array_equal(found.x_test, ARRAYS["x_test"][:, None])
        and found.y_train.tolist() == [2, 0, 1]
        and found.y_test.tolist() == [1, 2]
        and found.classes == TINY.classes
    )


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no data folder, no network."""

    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("GRAPHC_DATA_DIR", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return tmp_path


def test_sample_is_balanced_and_complete() -> None:
    sample = fashion_mnist(sample=True)
    assert sample.x_train.shape == (6000, 1, 28, 28)
    assert sample.x_test.shape == (1000, 1, 28, 28)
    assert sample.x_train.dtype == sample.x_test.dtype == np.uint8
    assert sample.y_train.dtype == sample.y_test.dtype == np.int64
    assert np.bincount(sample.y_train).tolist() == [600] * 10
    assert np.bincount(sample.y_test).tolist() == [100] * 10
    assert sample.classes[9] == "Ankle boot"
    assert sample.x_train.flags.c_contiguous
    assert sample.x_train.max() == 255
    assert np.array_equal(sample.x_train, fashion_mnist_sample().x_train)


def test_sample_file_is_small_and_has_its_licence_beside_it() -> None:
    assert (datasets.SAMPLES / f"{SAMPLE.name}.npz").stat().st_size < 4_000_000
    assert "Zalando SE" in (datasets.SAMPLES / "LICENSE").read_text(encoding="utf-8")


DATA_FOLDER = os.environ.get("GRAPHC_DATA_DIR")  # read before `elsewhere` removes it


@pytest.mark.skipif(not DATA_FOLDER, reason="needs GRAPHC_DATA_DIR with the full sets")
def test_sample_is_the_first_of_each_class() -> None:
    full, sample = fashion_mnist(DATA_FOLDER), fashion_mnist_sample()
    first = [np.flatnonzero(full.y_train == label)[:600] for label in range(10)]
    chosen = np.sort(np.concatenate(first))
    assert np.array_equal(full.x_train[chosen], sample.x_train)
    assert np.array_equal(full.y_train[chosen], sample.y_train)
    assert mnist(DATA_FOLDER).x_train.shape == (60000, 1, 28, 28)


@pytest.mark.parametrize("write", [write_npz, write_plain, write_packed])
def test_every_form_is_read(elsewhere: Path, write: Callable[[Path], None]) -> None:
    write(elsewhere)
    assert is_tiny(obtain(TINY, elsewhere))


@pytest.mark.parametrize("inner", ["tiny", "Tiny/raw"])
def test_folders_of_several_sets_are_searched(elsewhere: Path, inner: str) -> None:
    write_packed(elsewhere / inner)
    assert is_tiny(obtain(TINY, elsewhere))


def test_data_folder_is_named_by_the_environment(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_npz(elsewhere)
    monkeypatch.setenv("GRAPHC_DATA_DIR", str(elsewhere))
    assert is_tiny(obtain(TINY))


def test_explicit_folder_without_the_set_is_an_error(elsewhere: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        fashion_mnist(elsewhere)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"Fashion-MNIST is not in {elsewhere}"
    assert "fashion_mnist(elsewhere)" in lines[1]
    assert "fashion_mnist.npz" in str(caught.value)
    assert len(lines) <= 8


def test_download_is_checked_kept_and_not_repeated(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = elsewhere / "server"
    write_packed(server)
    wrong = elsewhere / "wrong"
    write_packed(wrong)
    (wrong / f"{FILES['y_test']}.gz").write_bytes(gzip.compress(b"something else"))
    (wrong / f"{FILES['x_test']}.gz").write_bytes(b"not packed at all")
    monkeypatch.undo()
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(elsewhere / "cache"))
    monkeypatch.delenv("GRAPHC_DATA_DIR", raising=False)
    served = replace(TINY, addresses=(f"{wrong.as_uri()}/", f"{server.as_uri()}/"))
    assert is_tiny(obtain(served))
    kept = sorted(path.name for path in (elsewhere / "cache/datasets/tiny").iterdir())
    assert kept == sorted(f"{file}.gz" for file in FILES.values())
    assert is_tiny(obtain(TINY)), "the second call needs no address"


def test_without_a_network_the_error_says_what_to_do() -> None:
    with pytest.raises(DatasetError) as caught:
        fashion_mnist()
    text = str(caught.value)
    lines = text.splitlines()
    assert lines[0] == "Fashion-MNIST is not on this machine and could not be downloaded"
    assert "test_datasets.py:" in lines[1]
    assert all(address in text for address in FASHION.addresses)
    assert "GRAPHC_DATA_DIR" in text
    assert "sample=True" in text
    assert len(lines) <= 8
    with pytest.raises(DatasetError, match="MNIST is not on this machine") as caught:
        mnist()
    assert "sample=True" not in str(caught.value)


def test_other_content_under_the_right_name(elsewhere: Path) -> None:
    np.savez(elsewhere / "tiny.npz", **{**ARRAYS, "y_test": ARRAYS["y_test"][::-1]})
    with pytest.raises(DatasetError) as caught:
        obtain(TINY, elsewhere)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{elsewhere / 'tiny.npz'}: its y_test is not that of Tiny as published"
    assert TINY.checksums["y_test"][:16] in lines[-2]
    assert "found" in lines[-2]
    assert len(lines) <= 8


@pytest.mark.parametrize("write", [write_npz, write_packed])
def test_damaged_files(elsewhere: Path, write: Callable[[Path], None]) -> None:
    write(elsewhere)
    victim = next(path for path in sorted(elsewhere.iterdir()) if path.is_file())
    content = victim.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"nothing of the kind"):
        victim.write_bytes(damaged)
        with pytest.raises(DatasetError, match=r"is damaged|as published") as caught:
            obtain(TINY, elsewhere)
        assert str(victim) in str(caught.value).splitlines()[0]
        assert "put the published file in its place" in str(caught.value)


def test_arrays_of_another_type_or_missing(elsewhere: Path) -> None:
    for arrays in ({**ARRAYS, "x_train": ARRAYS["x_train"] / 255}, {"x_train": ARRAYS["x_train"]}):
        np.savez(elsewhere / "tiny.npz", **arrays)
        with pytest.raises(DatasetError, match="is damaged"):
            obtain(TINY, elsewhere)


def test_damaged_cache_says_delete(elsewhere: Path) -> None:
    folder = elsewhere / "cache" / "datasets" / "tiny"
    write_packed(folder)
    (folder / f"{FILES['x_test']}.gz").write_bytes(b"")
    with pytest.raises(DatasetError, match="delete the file: the next call downloads it again"):
        obtain(TINY)


def test_damaged_sample(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = elsewhere / f"{SAMPLE.name}.npz"
    broken.write_bytes((datasets.SAMPLES / broken.name).read_bytes()[:1000])
    monkeypatch.setattr(datasets, "SAMPLES", elsewhere)
    with pytest.raises(DatasetError, match="install the package again"):
        fashion_mnist_sample()


def test_reading_needs_all_four(elsewhere: Path) -> None:
    write_plain(elsewhere)
    (elsewhere / FILES["y_test"]).unlink()
    with pytest.raises(DatasetError, match="is damaged: y_test"):
        read(TINY, elsewhere)

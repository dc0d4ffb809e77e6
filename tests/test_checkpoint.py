"""safetensors files: round trips, the reference implementation where it is installed, and every kind of damage."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc import checkpoint
from graphc.checkpoint import load, load_with_metadata, save
from graphc.errors import CheckpointError


class Parameter:
    """Stands for a tensor of this or another library."""

    def __array__(self, *_, **__) -> np.ndarray:
        return np.arange(3, dtype=np.float32)


def tensors() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {
        "0.weight": np.asfortranarray(generator.standard_normal((33, 7)).astype(np.float32)),
        "transposed": generator.standard_normal((2, 3)).T,
        "every other": np.arange(9, dtype=np.int64)[::2],
        "reversed": np.arange(5, dtype=np.int16)[::-1],
        "big endian": np.arange(3, dtype=">i4"),
        "scalar": np.float64(3.5),
        "empty": np.zeros((0, 3), np.float16),
        "flags": np.array([True, False, True]),
        "bytes": np.arange(5, dtype=np.uint8),
    }


def equal(found: dict[str, np.ndarray], expected: dict[str, Any]) -> bool:
    return list(found) == list(expected) and all(
        found[name].shape == np.shape(tensor)
        and found[name].dtype == np.asarray(tensor).dtype.newbyteorder("<")
        and np.array_equal(found[name], tensor)
        for name, tensor in expected.items()
    )


def written(path: Path, header: Any, body: bytes = b"") -> Path:
    """A file with the given header, however wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def entry(start: int, end: int, dtype: str = "U8", shape: list[Any] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - start] if shape is None else shape, "data_offsets": [start, end]}


def test_round_trip_keeps_order_types_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(tensors(), path, {"epoch": "7"})
    found, metadata = load_with_metadata(path)
    assert equal(found, tensors())
    assert metadata == {"epoch": "7"}
    assert all(array.flags.writeable and array.flags.owndata and array.flags.aligned for array in found.values())
    assert equal(load(str(path)), tensors())


def test_parameters_are_saved_through_numpy(tmp_path: Path) -> None:
    save({"w": Parameter()}, tmp_path / "w.safetensors")
    assert load(tmp_path / "w.safetensors")["w"].tolist() == [0, 1, 2]


def test_no_tensors(tmp_path: Path) -> None:
    save({}, tmp_path / "none.safetensors")
    assert load_with_metadata(tmp_path / "none.safetensors") == ({}, {})


def test_tensors_are_aligned_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(tensors(), path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    for fields in json.loads(content[8 : 8 + length]).values():
        assert fields["data_offsets"][0] % np.dtype(checkpoint.DTYPES[fields["dtype"]]).itemsize == 0


def test_same_tensors_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(tensors(), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_reference_implementation_agrees(tmp_path: Path) -> None:
    reference = pytest.importorskip("safetensors.numpy")
    save(tensors(), tmp_path / "ours", {"epoch": "7"})
    found = reference.load_file(tmp_path / "ours")
    assert equal({name: found[name] for name in tensors()}, tensors())
    plain = {name: np.array(tensor, np.asarray(tensor).dtype.newbyteorder("<")) for name, tensor in tensors().items()}
    reference.save_file({name: np.ascontiguousarray(a).reshape(a.shape) for name, a in plain.items()}, tmp_path / "its")
    found = load(tmp_path / "its")
    assert equal({name: found[name] for name in tensors()}, tensors())


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save({"w": np.ones(3)}, path)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CheckpointError, match=r"cannot write .*model.safetensors: No space left on device"):
        save({"w": np.zeros(3)}, path)
    assert os.listdir(tmp_path) == ["model.safetensors"]
    assert load(path)["w"].tolist() == [1, 1, 1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_links_and_pipes_stay_what_they_are(tmp_path: Path) -> None:
    """A link goes on pointing where it did; what is no plain file, as /dev/null, is no file afterwards either."""
    (tmp_path / "models").mkdir()
    link, pipe = tmp_path / "latest", tmp_path / "pipe"
    link.symlink_to(Path("models") / "first")
    for number in range(2):  # the file is not there yet at first
        save({"w": np.full(3, number)}, link)
        assert link.is_symlink() and load(tmp_path / "models" / "first")["w"].tolist() == [number] * 3
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_bytes)
        save({"w": np.zeros(3)}, pipe)
    assert pipe.is_fifo()
    (tmp_path / "copy").write_bytes(read.result())
    assert load(tmp_path / "copy")["w"].tolist() == [0, 0, 0]
    assert sorted(os.listdir(tmp_path)) == ["copy", "latest", "models", "pipe"]
    with pytest.raises(CheckpointError, match=r"cannot write .*models: Is a directory"):
        save({"w": np.zeros(1)}, tmp_path / "models")


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ({"w": np.zeros(2, np.complex64)}, "w has element type complex64"),
        ({"w": np.array([None])}, "w has element type object"),
        ({"__metadata__": np.zeros(2)}, "'__metadata__' cannot name a tensor"),
        ({3: np.zeros(2)}, "3 cannot name a tensor"),
    ],
)
def test_what_cannot_be_saved_is_said(tmp_path: Path, tensors: dict[Any, Any], text: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        save(tensors, tmp_path / "w.safetensors")
    assert text in str(caught.value).splitlines()[0]
    assert "test_checkpoint.py:" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read .*none: No such file") as caught:
        load(tmp_path / "none")
    assert 'load(tmp_path / "none")' in str(caught.value)
    with pytest.raises(CheckpointError, match=r"cannot write .*: No such file"):
        save({"w": np.zeros(1)}, tmp_path / "none" / "w")


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w"
    save({"w": np.arange(3.0), "b": np.zeros(2, np.uint8)}, path, {"epoch": "7"})
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(CheckpointError):
            load(path)


def test_truncation_names_the_file_and_both_sizes(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save({"w": np.arange(300.0)}, path)
    size = path.stat().st_size
    os.truncate(path, size - 5)
    with pytest.raises(CheckpointError) as caught:
        load(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"cannot read {path}: expected {size} bytes, found {size - 5}: the file is truncated"
    assert "load(path)" in lines[1]
    assert len(lines) <= 8


@pytest.mark.parametrize(
    ("header", "body", "text"),
    [
        ({"a": entry(0, 2), "b": entry(1, 3)}, b"123", "b starts at byte 1, expected 2: it overlaps"),
        ({"a": entry(0, 2), "b": entry(3, 4)}, b"1234", "b starts at byte 3, expected 2: it leaves a hole"),
        ({"a": entry(1, 2)}, b"12", "a starts at byte 1, expected 0"),
        ({"a": entry(0, 2)}, b"123", "the file has foreign bytes at its end"),
        ({"a": entry(0, 8, "F32", [3])}, b"12345678", "a: expected 12 bytes for F32 (3,), found 8"),
        ({"a": entry(0, 2, "BF16", [1])}, b"12", "a has element type BF16"),
        ({"a": entry(0, 2, ["F32"], [1])}, b"12", "a has element type ['F32']"),  # type: ignore[arg-type]
        ({"a": entry(0, 2, shape=[-2])}, b"12", "a has shape [-2]"),
        ({"a": entry(0, 1, shape=[True])}, b"1", "a has shape [True]"),
        ({"a": entry(0, 0, shape=[0, 2**70])}, b"", "which no NumPy array can have"),
        ({"a": {**entry(0, 1), "more": 1}}, b"1", "the header's entry for a is not"),
        ({"a": 1}, b"", "the header's entry for a is not"),
        ({"__metadata__": {"a": 1}}, b"", "metadata is not a table of texts"),
        ([], b"", "header is not a table of tensors"),
        (b"{", b"", "header is not JSON"),
        (b"\xff\xff", b"", "header is not JSON"),
        (b"[" * 100_000, b"", "header is not JSON"),
        (b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":1}', b"", "'a' occurs twice"),
    ],
)
def test_wrong_headers_are_refused(tmp_path: Path, header: Any, body: bytes, text: str) -> None:
    path = written(tmp_path / "w", header, body)
    with pytest.raises(CheckpointError) as caught:
        load(path)
    first, *rest = str(caught.value).splitlines()
    assert text in first
    assert str(path) in first
    assert len(rest) < 8


def test_another_format_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.zeros(100))
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load(tmp_path / "w.npy")


@given(place=st.integers(0, 199), value=st.integers(0, 255))
def test_damaged_bytes_never_give_another_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    save({"w": np.arange(3.0), "b": np.zeros((2, 2), np.uint8)}, path, {"epoch": "7"})
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(content)
    try:
        found = load(path)
    except CheckpointError:
        return
    assert sum(array.nbytes for array in found.values()) == 28

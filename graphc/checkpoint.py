"""Files of named tensors in the safetensors format (https://github.com/huggingface/safetensors, "Format").

Eight bytes of header length, a JSON header, the tensors' bytes end to end. Files are written whole or not at all, and
read with every claim of the header checked against the file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from graphc.arrays import as_array
from graphc.backends.files import replacing
from graphc.errors import CheckpointError
from graphc.ir.graph import user_origin
from graphc.settings import check_path, require

Array = NDArray[Any]
Location = str | os.PathLike[str]

DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
NAMES = {np.dtype(text): name for name, text in DTYPES.items()}
METADATA = "__metadata__"
PREFIX = 8  # bytes of the header's length; the header is padded to a multiple of it, so tensors are aligned
LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies: its bytes are start .. end behind the header."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    end: int


def save(tensors: Mapping[str, Any], path: Location, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file, replacing an old one only when the new one is complete.

    tensors   name -> anything that shows its numbers as an array; any memory layout
    metadata  texts to keep with them

    A step that is to go on as if it had never stopped needs `step.state_dict()`, which holds where its random numbers
    are, and the loader's `state_dict()`; `gx.get_rng_state()` holds the generator of initial values too.

    Raises CheckpointError for an element type the format lacks, or when the file cannot be written; DTypeError for what
    cannot be read as an array.
    """
    require(isinstance(tensors, Mapping), "tensors", tensors, "a dictionary of arrays, as state_dict() gives it")
    place = check_path("path", path)
    require(metadata is None or isinstance(metadata, Mapping), "metadata", metadata, "a dictionary of texts")
    arrays = {name: _storable(name, tensor) for name, tensor in tensors.items()}
    # Widest elements first keeps every tensor aligned; the header keeps the caller's order.
    laid_out = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header = _header(arrays, laid_out, metadata or {})
    try:
        with replacing(place) as stream:
            stream.write(len(header).to_bytes(PREFIX, "little") + header)
            for name in laid_out:
                stream.write(_bytes(arrays[name]))
    except OSError as error:
        raise CheckpointError(f"cannot write {place}: {error.strerror}", user_origin()) from error


def load(path: Location) -> dict[str, Array]:
    """The tensors of a safetensors file, in the order they were saved, as arrays of their own.

    Raises CheckpointError when the file is missing, truncated or damaged.
    """
    return load_with_metadata(path)[0]


def load_with_metadata(path: Location) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors of a safetensors file and the texts saved with them; errors as in `load`."""
    place = check_path("path", path)
    try:
        with open(place, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            return _Reader(place, stream, size).read()
    except OSError as error:
        raise CheckpointError(f"cannot read {place}: {error.strerror}", user_origin()) from error


def _storable(name: str, tensor: Any) -> Array:
    if not isinstance(name, str) or name == METADATA:
        raise CheckpointError(f"{name!r} cannot name a tensor in a checkpoint; use another text", user_origin())
    array = as_array(tensor, name)
    little = array.dtype.newbyteorder("<")
    if little not in NAMES:
        raise CheckpointError(
            f"{name} has element type {array.dtype}, which a safetensors file cannot hold",
            user_origin(),
            [f"convert it to one of {', '.join(str(dtype) for dtype in NAMES)}"],
        )
    return np.asarray(array, little, order="C")


def _header(arrays: Mapping[str, Array], laid_out: list[str], metadata: Mapping[str, str]) -> bytes:
    starts, end = {}, 0
    for name in laid_out:
        starts[name], end = end, end + arrays[name].nbytes
    entries: dict[str, Any] = {
        name: {
            "dtype": NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [starts[name], starts[name] + array.nbytes],
        }
        for name, array in arrays.items()
    }
    texts = {METADATA: {name: str(text) for name, text in metadata.items()}} if metadata else {}
    header = json.dumps({**texts, **entries}, separators=(",", ":")).encode()
    return header.ljust(math.ceil(len(header) / PREFIX) * PREFIX)


def _bytes(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


@dataclass(frozen=True)
class _Reader:
    """One open file and what is needed to say what is wrong with it."""

    path: Path
    stream: BinaryIO
    size: int

    def read(self) -> tuple[dict[str, Array], dict[str, str]]:
        header, length = self._header()
        metadata = self._metadata(header.pop(METADATA, {}))
        entries = [self._entry(name, fields) for name, fields in header.items()]
        self._check_layout(entries, PREFIX + length)
        return {entry.name: self._tensor(entry, PREFIX + length) for entry in entries}, metadata

    def _header(self) -> tuple[dict[str, Any], int]:
        length = int.from_bytes(self.stream.read(PREFIX), "little")
        if self.size < PREFIX or length > LONGEST_HEADER:
            self._fail("this is not a safetensors file")
        if PREFIX + length > self.size:
            self._fail(f"expected a header of {length} bytes, found {self.size - PREFIX}: the file is truncated")
        try:
            header = json.loads(self.stream.read(length), object_pairs_hook=self._without_duplicates)
        except (ValueError, RecursionError):
            self._fail("its header is not JSON: the file is damaged or of another format")
        if not isinstance(header, dict):
            self._fail("its header is not a table of tensors")
        return header, length

    def _without_duplicates(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            names = [name for name, _ in pairs]
            self._fail(f"{next(name for name in names if names.count(name) > 1)!r} occurs twice in its header")
        return table

    def _metadata(self, texts: Any) -> dict[str, str]:
        if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
            self._fail("its metadata is not a table of texts")
        return texts

    def _entry(self, name: str, fields: Any) -> Entry:
        if not isinstance(fields, dict) or set(fields) != {"dtype", "shape", "data_offsets"}:
            self._fail(f"the header's entry for {name} is not dtype, shape and data_offsets")
        kind, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
        if not isinstance(kind, str) or kind not in DTYPES:
            self._fail(f"{name} has element type {kind}; NumPy has none like it", f"known are {', '.join(DTYPES)}")
        if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
            self._fail(f"{name} has shape {shape} and data_offsets {offsets}: not whole numbers from 0")
        entry = Entry(name, np.dtype(DTYPES[kind]), tuple(shape), *offsets)
        expected = math.prod(shape) * entry.dtype.itemsize
        if entry.end - entry.start != expected:
            self._fail(f"{name}: expected {expected} bytes for {kind} {entry.shape}, found {entry.end - entry.start}")
        return entry

    def _check_layout(self, entries: list[Entry], base: int) -> None:
        reached = 0
        for entry in sorted(entries, key=lambda entry: (entry.start, entry.end)):
            if entry.start != reached:
                fault = "overlaps the tensor before it" if entry.start < reached else "leaves a hole before it"
                self._fail(f"{entry.name} starts at byte {entry.start}, expected {reached}: it {fault}")
            reached = entry.end
        if base + reached != self.size:
            fault = "is truncated" if self.size < base + reached else "has foreign bytes at its end"
            self._fail(f"expected {base + reached} bytes, found {self.size}: the file {fault}")

    def _tensor(self, entry: Entry, base: int) -> Array:
        try:
            array = np.empty(entry.shape, entry.dtype)
        except ValueError:
            self._fail(f"{entry.name} has shape {entry.shape}, which no NumPy array can have")
        self.stream.seek(base + entry.start)
        read = self.stream.readinto(_bytes(array))  # type: ignore[attr-defined]
        if read != array.nbytes:
            self._fail(f"{entry.name}: expected {array.nbytes} bytes, found {read}: the file changed while it was read")
        return array

    def _fail(self, fault: str, *details: str) -> NoReturn:
        raise CheckpointError(f"cannot read {self.path}: {fault}", user_origin(), details)


def _are_sizes(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(type(number) is int and number >= 0 for number in numbers)

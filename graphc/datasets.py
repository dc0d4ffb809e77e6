"""Named data sets, byte for byte as published: from a folder, the user's cache, or the network; a sample is bundled.

Every array is checked against the SHA-256 of the published file, wherever it came from.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from graphc.backends.files import cache_folder, replacing
from graphc.errors import ArgumentError, DatasetError
from graphc.ir.graph import user_origin
from graphc.settings import check_path, check_switch

Location = str | os.PathLike[str]

# The four idx files of either data set (the format: http://yann.lecun.com/exdb/mnist/), and our names of the arrays.
FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
IDX_UINT8 = 8
SAMPLES = Path(__file__).parent / "samples"
PATIENCE = 20  # seconds without an answer before the next address is tried
CHUNK = 1 << 16
DAMAGED = (OSError, EOFError, ValueError, KeyError, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images and their classes, split as published.

    x_train, x_test  uint8 (N, 1, 28, 28), 0 background to 255
    y_train, y_test  int64 (N,), an index into `classes`
    """

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """What identifies a data set: the SHA-256 of each of its idx files, uncompressed, and where those are found."""

    name: str
    title: str
    classes: tuple[str, ...]
    checksums: Mapping[str, str]
    addresses: tuple[str, ...] = ()
    torch_folder: str = ""


DIGITS = Published(
    name="mnist",
    title="MNIST",
    classes=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
    checksums={
        "x_train": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "y_train": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "x_test": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "y_test": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    addresses=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    torch_folder="MNIST/raw",
)
FASHION = Published(
    name="fashion_mnist",
    title="Fashion-MNIST",
    classes=(
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    checksums={
        "x_train": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "y_train": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "x_test": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "y_test": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    addresses=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
    torch_folder="FashionMNIST/raw",
)  # fmt: skip
SAMPLE = Published(
    name="fashion_mnist_sample",
    title="Fashion-MNIST sample",
    classes=FASHION.classes,
    checksums={
        "x_train": "cf313073c7eb485392848071d5c433571d7166043e971e3345b095cc30518084",
        "y_train": "097b93fbcf9bd5bc648b1a457ddc55c9e4ab49afb33f9ecae8ce068399a75e3a",
        "x_test": "7cee33c3c6414b1b86c25e665a6c4f41584269de3b7cc9768b1d351922845eef",
        "y_test": "3128d790775889812b73c4f13923559c8b9e281d112c6ea7862acf60a206a909",
    },
)


def fashion_mnist(folder: Location | None = None, sample: bool = False) -> LabelledImages:
    """Fashion-MNIST (Xiao, Rasul, Vollgraf, 2017): 60,000 + 10,000 pictures of clothes in ten classes; MIT licence.

    folder  where it lies: `fashion_mnist.npz` or the four idx files, plain or .gz. Without it: the folder named by
            GRAPHC_DATA_DIR, then the user's cache, then a download of 30 MB into that cache
    sample  the bundled 6,000 + 1,000 images instead: no files, no network

    Raises DatasetError when it cannot be had, or is damaged.
    """
    return fashion_mnist_sample() if check_switch("sample", sample) else obtain(FASHION, folder)


def fashion_mnist_sample() -> LabelledImages:
    """The first 600 training and the first 100 test images of each class of Fashion-MNIST, in the published order."""
    return read(SAMPLE, SAMPLES / f"{SAMPLE.name}.npz")


def mnist(folder: Location | None = None) -> LabelledImages:
    """MNIST (LeCun, Cortes, Burges): 60,000 + 10,000 handwritten digits. Found like Fashion-MNIST, as `mnist.npz`."""
    return obtain(DIGITS, folder)


def genesis() -> str:
    """The first 24 chapters of Genesis in the King James Version (1611, public domain): 86 KB of text to learn from."""
    return (SAMPLES / "genesis.txt").read_text(encoding="utf-8")


def obtain(published: Published, folder: Location | None = None) -> LabelledImages:
    """A data set from the given folder; without one from GRAPHC_DATA_DIR, the cache or the network, in this order."""
    cached = cache_folder() / "datasets"
    given = None if folder is None else check_path("folder", folder)
    named = folder or os.environ.get("GRAPHC_DATA_DIR")
    if named and (place := find(published, Path(named))):
        return read(published, place)
    if folder:
        raise DatasetError(
            f"{published.title} is not in {given}",
            user_origin(),
            [f"looked for {published.name}.npz, and for {FILES['x_train']}[.gz] and its three companions,"]
            + [f"there and in its folders {published.name} and {published.torch_folder}"],
        )
    return read(published, find(published, cached) or download(published, cached / published.name))


def find(published: Published, folder: Path) -> Path | None:
    """Where below a folder the data set lies: its .npz file, or the folder of its four idx files."""
    packed = folder / f"{published.name}.npz"
    if packed.is_file():
        return packed
    places = (folder / published.name, folder / published.torch_folder, folder)
    return next((place for place in places if all(_idx_path(place, part) for part in FILES)), None)


def read(published: Published, place: Path) -> LabelledImages:
    """The data set from its .npz file or its folder of idx files.

    Raises DatasetError when a file cannot be read or its content is not the published one.
    """
    x_train, y_train, x_test, y_test = (_array(published, place, part) for part in FILES)
    return LabelledImages(
        x_train=x_train[:, None],
        y_train=y_train.astype(np.int64),
        x_test=x_test[:, None],
        y_test=y_test.astype(np.int64),
        classes=published.classes,
    )


def _array(published: Published, place: Path, part: str) -> NDArray[np.uint8]:
    path = place if place.suffix == ".npz" else _idx_path(place, part) or place
    try:
        content = _from_npz(path, part) if path.suffix == ".npz" else _from_idx(path)
    except DAMAGED as error:
        raise DatasetError(
            f"{path} is damaged: {part} of {published.title} cannot be read ({type(error).__name__})",
            user_origin(),
            [_mend(path)],
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != published.checksums[part]:
        raise DatasetError(
            f"{path}: its {part} is not that of {published.title} as published",
            user_origin(),
            [f"SHA-256 expected {published.checksums[part][:16]}..., found {found[:16]}...", _mend(path)],
        )
    axes = content[3]
    shape = struct.unpack_from(f">{axes}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()


def _mend(path: Path) -> str:
    if path.is_relative_to(SAMPLES):
        return "install the package again"
    if path.is_relative_to(cache_folder()):
        return "delete the file: the next call downloads it again"
    return "put the published file in its place, or take it out of that folder"


def _idx_path(folder: Path, part: str) -> Path | None:
    plain, packed = folder / FILES[part], folder / f"{FILES[part]}.gz"
    return plain if plain.is_file() else packed if packed.is_file() else None


def _from_idx(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def _from_npz(path: Path, part: str) -> bytes:
    """The idx file an array was published as: two zero bytes, element type, number of axes, extents, elements."""
    with open(path, "rb") as stream, np.lib.npyio.NpzFile(stream) as arrays:
        array: NDArray[Any] = arrays[part]
    if array.dtype != np.uint8:
        raise ArgumentError(f"{part} is {array.dtype}, not uint8", user_origin())
    return struct.pack(f">HBB{array.ndim}I", 0, IDX_UINT8, array.ndim, *array.shape) + array.tobytes()


def download(published: Published, folder: Path) -> Path:
    """Fetch the four idx files into a folder, each checked before it takes its name; returns the folder.

    Raises DatasetError when no address gives a file with the published content.
    """
    for part, file in FILES.items():
        if _idx_path(folder, part) is None:
            packed = _fetch(published, part)
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / f"{file}.gz") as stream:
                stream.write(packed)
    return folder


def _fetch(published: Published, part: str) -> bytes:
    """One .gz file from the first address that gives the published content."""
    from http.client import HTTPException  # as slow to import as NumPy, and seldom needed

    failures = []
    for address in published.addresses:
        try:
            packed = _transfer(f"{address}{FILES[part]}.gz")
            if hashlib.sha256(gzip.decompress(packed)).hexdigest() == published.checksums[part]:
                return packed
            failures.append(f"{address}: not the published content")
        except (OSError, HTTPException, EOFError, zlib.error) as error:
            failures.append(f"{address}: {getattr(error, 'reason', None) or error or type(error).__name__}")
    offline = ["without the full set: fashion_mnist(sample=True), bundled"] if published is FASHION else []
    raise DatasetError(
        f"{published.title} is not on this machine and could not be downloaded",
        user_origin(),
        [f"tried {failure}" for failure in failures]
        + [f"set GRAPHC_DATA_DIR to a folder that holds {published.name}.npz or the four .gz files"]
        + offline,
    )


def _transfer(address: str) -> bytes:
    from urllib.request import urlopen

    with urlopen(address, timeout=PATIENCE) as answer:
        expected = int(answer.headers.get("Content-Length") or 0)
        return _receive(answer, expected, address.rpartition("/")[2])


def _receive(stream: BinaryIO, expected: int, file: str) -> bytes:
    """All bytes of a stream, with a line of progress where someone can see it."""
    seen = sys.stderr.isatty()
    content = bytearray()
    while chunk := stream.read(CHUNK):
        content += chunk
        if seen:
            print(f"\r{file}  {len(content) / 1e6:.1f} of {expected / 1e6:.1f} MB", end="", file=sys.stderr, flush=True)
    if seen:
        print(file=sys.stderr)
    return bytes(content)

"""Calls with arrays that native code can read as they are: right dtypes, right shapes, one size of each dim; and epochs
over a data set that is as it was.

They are what a training loop makes, and small steps take about a microsecond, so Python's own part of a call counts:
all of it is in one function that has what it needs within reach.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from numpy import ndarray

from graphc.backends.interface import (
    BINDS,
    BOUND,
    DTYPE,
    EQUAL,
    EXTENTS,
    FIRST_AT,
    FLAGS,
    FRESH_AT,
    IN_PLACE,
    KIND,
    LAST_AT,
    NUMBER_AT,
    ORDERING_AT,
    RANK,
    SEED_AT,
    SHUFFLED,
)
from graphc.backends.runtime import NUMBER, Runner, address, numbers_for, table
from graphc.ir.graph import Value
from graphc.ir.types import DTYPES, Dim

Call = Callable[[Sequence[Any]], tuple[int, list[Any]] | None]
Axis = tuple[int, int, int]  # EQUAL and an extent, or BINDS or BOUND and a dim's number; the most it may be

READABLE = 0x1 | 0x100  # NumPy's flags: in order and aligned
ITEMS = tuple.__basicsize__  # where the first element of a tuple is
WORD = ctypes.sizeof(ctypes.c_int64)


@cache
def data_offset() -> int | None:
    """Where in an array object NumPy keeps the address of its elements, in bytes; None if it is not found, or what else
    native code reads of the arrays of a call is not where it belongs.

    To read it there takes a tenth of the time that asking the array does.
    """
    if sys.implementation.name != "cpython":
        return None  # elsewhere an id need not be an address
    probes = (np.zeros(8), np.zeros(8)[3:], np.zeros((5, 3, 4), np.int32)[1:4], np.zeros((2, 3), np.uint8).T)
    found: list[set[int]] = []
    for probe in probes:
        words = (NUMBER * (ndarray.__basicsize__ // WORD)).from_address(id(probe))
        found.append({WORD * number for number, word in enumerate(words) if word == address(probe)})
    common = set.intersection(*found)
    offset = common.pop() if len(common) == 1 else None
    return offset if offset is not None and all(is_laid_out(probe, id(probe) + offset) for probe in probes) else None


def is_laid_out(array: ndarray[Any, Any], place: int) -> bool:
    """Whether what `fits` reads of tuples and of this array is where it takes it to be.

    place  where the object says where its elements are
    """
    pair = (place, array)
    if NUMBER.from_address(id(pair) + ITEMS + WORD).value != id(array):
        return False
    if place - id(array) + FLAGS + ctypes.sizeof(ctypes.c_int) > ndarray.__basicsize__:
        return False
    kind, dtype, extents = (NUMBER.from_address(place + field).value for field in (KIND, DTYPE, EXTENTS))
    rank, flags = (ctypes.c_int.from_address(place + field).value for field in (RANK, FLAGS))
    if (kind, dtype, rank, flags) != (id(ndarray), id(array.dtype), array.ndim, array.flags.num):
        return False
    return tuple((NUMBER * rank).from_address(extents)) == array.shape


def question(
    runner: Runner, kinds: Sequence[tuple[Any, Sequence[Axis]]], places: Any, sizes: Any, fixed: bool = False
) -> tuple[Any, Callable[[], int]]:
    """(words, function): whether the arrays of a tuple can be read as they are, once the first word says where its
    elements are, and lie apart from the parameters, so that no update changes them. Then their addresses are in
    `places`, and in `sizes` those of the dims.

    kinds  dtype and axes, for each
    fixed  only where the addresses are those in `places` already
    """
    offset = data_offset()
    if offset is None:
        return numbers_for((0,)), lambda: 0
    words = [0, len(kinds), id(ndarray), offset, READABLE, fixed, address(places), address(sizes)]
    words += [address(runner.blocks[1]), runner.blocks[0]]
    for dtype, axes in kinds:
        words += [id(dtype), len(axes), dtype.itemsize, *(word for axis in axes for word in axis)]
    told = (NUMBER * len(words))(*words)
    return told, partial(runner.functions["fits"], ctypes.c_void_p(address(told)))


def axes_of(inputs: Sequence[Value], dims: Sequence[Dim]) -> list[list[Axis]] | None:
    """How `fits` is told of the axes of all inputs; None where one is neither a number nor a dim, or a dim is none."""
    found: list[list[Axis]] = []
    bound: set[Dim] = set()
    for extents in (value.shape for value in inputs):
        found.append([])
        for extent in extents:
            if isinstance(extent, int):
                found[-1].append((EQUAL, extent, 0))
            elif isinstance(extent, Dim):
                found[-1].append((BOUND if extent in bound else BINDS, dims.index(extent), extent.max))
                bound.add(extent)
            else:
                return None
    return found if bound == set(dims) else None


def exact_call(runner: Runner) -> Call:
    """The function: what `Runner.step` returns, for such arrays; None, and nothing is done, for any others."""
    inputs, offset = runner.graph.of_role("data"), data_offset()
    axes = axes_of(inputs, runner.dims)
    if axes is None or offset is None:
        return lambda arrays: None
    count, made, dims = len(inputs), runner.array_results, len(runner.dims)
    places, sizes = numbers_for(inputs), numbers_for(runner.dims)
    kinds = [(DTYPES[each.dtype], its) for each, its in zip(inputs, axes, strict=True)]
    told, fits = question(runner, kinds, places, sizes)
    native, numbers = runner.native_on(places, sizes), runner.numbers
    lock, only = runner.lock, numbers[0] if len(numbers) == 1 else None

    def call(arrays: Sequence[Any]) -> tuple[int, list[Any]] | None:
        if len(arrays) != count or type(arrays) is not tuple:
            return None
        with lock:
            told[0] = id(arrays) + ITEMS
            if not fits():
                return None
            if made:
                return with_arrays()
            status = native()
            return status, [number[()] for number in numbers] if only is None else [only[()]]

    # What `Runner.called` does, with all within reach too.
    empty, word_at, results = np.empty, NUMBER.from_address, runner.result_table
    few = dims < 2
    latest: list[Any] = [None, []]  # sizes of the dims; and place, shape and dtype of each array for these

    def with_arrays() -> tuple[int, list[Any]]:
        known = sizes[0] if few else sizes[:]
        if latest[0] != known:
            shapes = runner.array_shapes(tuple(sizes[:dims]))
            latest[:] = known, [(place, *each) for (place, _), each in zip(made, shapes)]
        arrays = []
        for place, shape, dtype in latest[1]:
            arrays.append(array := empty(shape, dtype))
            results[place] = word_at(id(array) + offset).value
        status = native()
        if len(arrays) == len(numbers):
            return status, arrays
        found = [number[()] for number in numbers]
        for (place, _), array in zip(made, arrays):
            found[place] = array
        return status, found

    return call


class Feed:
    """How native code finds the arrays that an epoch reads; whoever made it keeps them alive.

    kinds  PLAIN or BYTES_AS_IMAGE, for each
    """

    def __init__(self, runner: Runner, arrays: Sequence[ndarray[Any, Any]], kinds: Sequence[int]) -> None:
        self.places, self.kinds = table(arrays), numbers_for(kinds)
        self.kinds[: len(kinds)] = kinds
        known = [(array.dtype, [(EQUAL, extent, 0) for extent in array.shape]) for array in arrays]
        (told, fits), count = question(runner, known, self.places, self.places, fixed=True), len(arrays)

        def reads(arrays: Sequence[Any]) -> bool:
            """Whether these arrays lie where its own do and are as they were, so that they need not be looked at again;
            asked under the runner's lock."""
            if len(arrays) != count or type(arrays) is not tuple:
                return False
            told[0] = id(arrays) + ITEMS
            return fits() == 1

        self.reads = reads


def epoch_again(
    runner: Runner, feed: Feed, count: int, batch: int, steps: int, seed: int | None
) -> Callable[[Any, Callable[[], tuple[int, int]]], tuple[int, int, Any] | None]:
    """What `Runner.epoch` does with one thread, shuffled by the seed or in order, over arrays that are those of the
    feed: (status, samples done before, totals), or the order in place of totals where a check failed. None, and nothing
    is done, for any other arrays.

    It is called with the arrays and what claims the next pass: its number, and the samples that are done.
    """
    order = np.arange(count)
    words, totals = runner.epoch_words(feed, order, batch)
    words[ORDERING_AT], words[SEED_AT] = (IN_PLACE, 0) if seed is None else (SHUFFLED, seed)
    words[LAST_AT], words[FRESH_AT] = steps, 1
    native = runner.alone("epoch", words, (runner.work, feed, order, totals))
    lock, reads, results = runner.lock, feed.reads, len(runner.results)

    def call(arrays: Any, claim: Callable[[], tuple[int, int]]) -> tuple[int, int, Any] | None:
        with lock:
            if not reads(arrays):
                return None
            words[NUMBER_AT], done = claim()
            words[FIRST_AT] = done // batch
            status = native()
            return status, done, order.copy() if status else totals[:results]

    return call

"""Calls with arrays that native code can read as they are: right dtypes, right rows, one batch size; and epochs over
a data set that is as it was.

They are what a training loop makes, and small steps take about a microsecond, so Python's own part of a call counts:
all of it is in one function that has what it needs within reach.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from numpy import ndarray

from graphc.backends.interface import (
    DTYPE,
    EXTENTS,
    FIRST_AT,
    FLAGS,
    IN_PLACE,
    KIND,
    LAST_AT,
    NUMBER_AT,
    ORDERING_AT,
    RANK,
    SEED_AT,
    SHUFFLED,
    epoch_dim,
)
from graphc.backends.runtime import NUMBER, Runner, address, numbers_for, table
from graphc.ir.types import DTYPES, evaluate

Call = Callable[[Sequence[Any]], tuple[int, list[Any]] | None]

CARRAY = 0x1 | 0x100 | 0x400  # NumPy's flags: in order, aligned and writeable; views of parameters are not writeable
ITEMS = tuple.__basicsize__  # where the first element of a tuple is
WORD = ctypes.sizeof(ctypes.c_int64)
# Of an array object: addresses of elements, shape, strides, owner and dtype, with the rank behind the first; the flags.
HEAD = 6 * WORD + ctypes.sizeof(ctypes.c_int)


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


def exact_call(runner: Runner) -> Call:
    """The function: what `Runner.step` returns, for such arrays; None, and nothing is done, for any others."""
    inputs, dim, offset = runner.graph.of_role("data"), epoch_dim(runner.graph), data_offset()
    if dim is None or not inputs or offset is None:
        return lambda arrays: None
    count, made = len(inputs), runner.array_results
    places, sizes = numbers_for(inputs), numbers_for((dim,))
    words = [0, count, dim.max, id(ndarray), offset, CARRAY, address(places), address(sizes)]
    for each in inputs:
        columns = [evaluate(extent, {}) for extent in each.shape[1:]]
        words += [id(DTYPES[each.dtype]), 1 + len(columns), *columns]
    told = (NUMBER * len(words))(*words)
    fits = partial(runner.functions["fits"], ctypes.c_void_p(address(told)))
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
    latest: list[Any] = [0, []]  # rows; and place, shape and dtype of each array for so many

    def with_arrays() -> tuple[int, list[Any]]:
        if latest[0] != sizes[0]:
            shapes = runner.array_shapes((sizes[0],))
            latest[:] = sizes[0], [(place, *each) for (place, _), each in zip(made, shapes)]
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

    def __init__(self, arrays: Sequence[ndarray[Any, Any]], kinds: Sequence[int]) -> None:
        self.places, self.kinds = table(arrays), numbers_for(kinds)
        self.kinds[: len(kinds)] = kinds
        self.seen: list[Any] = [(weakref.ref(array), array.shape, *head_of(array)) for array in arrays]

    def reads(self, arrays: Sequence[Any]) -> bool:
        """Whether these are its arrays, still where and as they were, so that they need not be looked at again."""
        if len(arrays) != len(self.seen):
            return False
        for array, (reference, shape, head, before) in zip(arrays, self.seen):
            if reference() is not array or array.shape != shape or head.raw != before:
                return False
        return True


def head_of(array: ndarray[Any, Any]) -> tuple[Any, bytes]:
    """The part of an array object that says where its elements are and how they lie, as long as the object lives; and
    what is there now."""
    offset = data_offset()
    if offset is None:
        return (ctypes.c_char * 1)(), b""  # which is never there
    head = (ctypes.c_char * HEAD).from_address(id(array) + offset)
    return head, head.raw


def epoch_again(
    runner: Runner, feed: Feed, count: int, batch: int, steps: int, seed: int | None
) -> Callable[[int, int], tuple[int, Any]]:
    """(number of the epoch, first step) -> (status, totals): what `Runner.epoch` does with one thread, shuffled by the
    seed or in order. Where a check fails, the order in place of the totals."""
    order = np.arange(count)
    words, totals = runner.epoch_words(feed, order, batch)
    words[ORDERING_AT], words[SEED_AT] = (IN_PLACE, 0) if seed is None else (SHUFFLED, seed)
    words[LAST_AT] = steps
    memory = runner.work, feed, order, totals
    native, places = runner.alone("epoch", words, memory), range(len(runner.results))
    lock = runner.lock

    def call(number: int, first: int) -> tuple[int, Any]:
        with lock:
            words[NUMBER_AT], words[FIRST_AT] = number, first
            for place in places:
                totals[place] = 0.0
            status = native()
            return status, order.copy() if status else totals[: len(places)]

    return call

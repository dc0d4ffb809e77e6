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
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from graphc.backends.interface import (
    FIRST_AT,
    IN_PLACE,
    LAST_AT,
    NUMBER_AT,
    ORDERING_AT,
    SEED_AT,
    SHUFFLED,
    epoch_dim,
)
from graphc.backends.runtime import Runner, address, numbers_for, table
from graphc.ir.types import DTYPES, evaluate

Call = Callable[[Sequence[Any]], tuple[int, list[Any]] | None]

WORD = ctypes.sizeof(ctypes.c_int64)
# Of an array object: addresses of elements, shape, strides, owner and dtype, with the rank behind the first; the flags.
HEAD = 6 * WORD + ctypes.sizeof(ctypes.c_int)


@cache
def data_offset() -> int | None:
    """Where in an array object NumPy keeps the address of its elements, in bytes; None if it is not found.

    To read it there takes a tenth of the time that asking the array does.
    """
    if sys.implementation.name != "cpython":
        return None  # elsewhere an id need not be an address
    found: list[set[int]] = []
    for probe in (np.zeros(8), np.zeros(8)[3:], np.zeros((3, 4), np.int32)):
        words = (ctypes.c_int64 * (ndarray.__basicsize__ // WORD)).from_address(id(probe))
        found.append({WORD * number for number, word in enumerate(words) if word == address(probe)})
    common = set.intersection(*found)
    return common.pop() if len(common) == 1 else None


def exact_call(runner: Runner) -> Call:
    """The function: what `Runner.step` returns, for such arrays; None, and nothing is done, for any others."""
    inputs, dim, offset = runner.graph.of_role("data"), epoch_dim(runner.graph), data_offset()
    if dim is None or not inputs or offset is None:
        return lambda arrays: None
    rows = [(tuple(evaluate(extent, {}) for extent in each.shape[1:]), DTYPES[each.dtype]) for each in inputs]
    most, count, has_arrays = dim.max, len(inputs), bool(runner.array_results)
    places, sizes = numbers_for(inputs), numbers_for((dim,))
    lock, native, numbers = runner.lock, runner.native_on(places, sizes), runner.numbers
    only = numbers[0] if len(numbers) == 1 else None
    word_at = ctypes.c_int64.from_address
    expected: list[tuple[int, tuple[int, ...], Any]] = [(0, (), None)]  # until the first batch

    def call(arrays: Sequence[Any]) -> tuple[int, list[Any]] | None:
        if len(arrays) != count:
            return None
        with lock:
            for array, (place, shape, dtype) in zip(arrays, expected):
                if type(array) is not ndarray or array.shape != shape or array.dtype is not dtype:
                    break
                if not array.flags.carray:  # writeable too: what cannot be written may be memory of a parameter
                    return None
                places[place] = word_at(id(array) + offset).value
            else:
                if has_arrays:
                    return runner.called(native, sizes[:])
                status = native()
                return status, [number[()] for number in numbers] if only is None else [only[()]]
        return call(arrays) if expect(arrays[0]) else None

    def expect(first: Any) -> bool:
        """Expect batches of the size of this array from now on; False if there are none, or they are expected."""
        shape = first.shape if type(first) is ndarray else ()
        if not shape or not 1 <= shape[0] <= most or shape[0] == sizes[0]:
            return False
        with lock:
            sizes[0] = shape[0]
            expected[:] = [(place, (shape[0], *row), dtype) for place, (row, dtype) in enumerate(rows)]
        return True

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
    lock, native, places = runner.lock, runner.alone("epoch", words, memory), range(len(runner.results))

    def call(number: int, first: int) -> tuple[int, Any]:
        with lock:
            words[NUMBER_AT], words[FIRST_AT] = number, first
            for place in places:
                totals[place] = 0.0
            status = native()
            return status, order.copy() if status else totals[: len(places)]

    return call

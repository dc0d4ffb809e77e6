"""Random bits as a function of where they are drawn: the same for any batch split, thread count or target."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir.graph import IRError
from graphc.ir.ops.record import Op, Sample, define
from graphc.ir.random import philox_4x32_10, words
from graphc.ir.types import TensorType

Array = np.ndarray[Any, Any]


def random_bits_type(*operands: TensorType) -> TensorType:
    if len(operands) != 4 or any(operand != operands[0] or operand.dtype != "i64" for operand in operands):
        raise IRError("needs element, stream, call and seed: four i64 operands of one shape")
    return operands[0]


def random_bits_array(element: Array, stream: Array, call: Array, seed: Array) -> Array:
    """A Philox word, as i64, under a 64-bit seed: word (element // 16) % 4 at counter (element // 64 * 16 +
    element % 16, stream, call). So sixteen counters give sixty-four neighbours, a set of lanes each word.
    """
    whole = np.asarray(element).astype(np.uint64)
    place, _ = words(whole >> FOUR_SETS << SET | whole & LANE)
    stream, _ = words(np.asarray(stream).astype(np.uint64))
    counter = (place, stream, *words(np.asarray(call).astype(np.uint64)))
    drawn = philox_4x32_10(counter, words(np.asarray(seed).astype(np.uint64)))
    found: Array = np.choose((whole >> SET & np.uint64(3)).astype(np.int64), drawn).astype(np.int64)
    return found


SET, FOUR_SETS, LANE = np.uint64(4), np.uint64(6), np.uint64(15)  # shifts by 16 and by 64 elements; what is left of 16
random_bits: Op = define(  # 32 bits, as a number from 0 to 2**32 - 1; element and stream count modulo 2**32
    "random_bits",
    "elementwise",
    infer=random_bits_type,
    numpy=random_bits_array,
    scalar="random_bits({0}, {1}, {2}, {3})",
    cost=40,
    samples=(Sample(("i64[3,20]",) * 4, 0, 10**6), Sample(("i64[5]",) * 4, 0, 9)),
)

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
    """The first Philox word, as i64, at counter (element, stream, call) under a 64-bit seed."""
    low, _ = words(np.asarray(element).astype(np.uint64))
    place, _ = words(np.asarray(stream).astype(np.uint64))
    counter = (low, place, *words(np.asarray(call).astype(np.uint64)))
    first, *_ = philox_4x32_10(counter, words(np.asarray(seed).astype(np.uint64)))
    return first.astype(np.int64)


random_bits: Op = define(  # 32 bits, as a number from 0 to 2**32 - 1; element and stream count modulo 2**32
    "random_bits",
    "elementwise",
    infer=random_bits_type,
    numpy=random_bits_array,
    scalar="random_bits({0}, {1}, {2}, {3})",
    cost=40,
    samples=(Sample(("i64[3,20]",) * 4, 0, 10**6), Sample(("i64[5]",) * 4, 0, 9)),
)

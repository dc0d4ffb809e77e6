"""The one random generator, which gx.manual_seed seeds: initial values, and what compiled functions draw.

Initial values are numbers of (place, draw, seed), see graphc.ir.initial: draw counts the arrays that were drawn since
the seed was set. Numbers inside of functions are Philox bits of (element, stream, call, seed), see graphc.ir.random:
element is the place in the array drawn, stream the place in the program, call counts the calls of all functions that
draw. So the same seed and the same calls give the same numbers for any number of threads, one by one or as an epoch.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from typing import Any

import numpy as np

from graphc.arrays import as_array, signed
from graphc.errors import ArgumentError
from graphc.ir import ops
from graphc.ir.graph import Graph, Output, Value, user_origin
from graphc.ir.initial import bits_of
from graphc.ir.rewrite import rebuild
from graphc.ir.types import Shape, TensorType, multiply
from graphc.settings import check_whole, shown
from graphc.tensor import Parameter, stretch
from graphc.tensor.placing import positions

# Seed and calls.
state = Parameter(np.array([int.from_bytes(os.urandom(8)) >> 1, 0]), "random_state", requires_grad=False)
state.storage.in_block = True  # it outlives every function, so it must not keep the memory of one


class Draws:
    """Initial values: under which seed, and how many arrays were drawn so far."""

    def __init__(self) -> None:
        self.seed, self.count = int.from_bytes(os.urandom(8)), 0

    def take(self) -> int:
        """The number of the next draw."""
        self.count += 1
        return self.count - 1


draws = Draws()


class Draw:
    """One place in a program where random bits are drawn.

    seen  (stream, call, seed) of the bits that it showed outside of any function: it shows them whenever it is asked
    """

    def __init__(self) -> None:
        self.seen: tuple[int, int, int] | None = None


_streams = itertools.count(1)


def manual_seed(seed: int) -> None:
    """Start the generator anew.

    Equal seeds give equal initial values, random numbers and, for loaders without a seed, orders.
    """
    seed = check_whole("seed", seed, 0) % 2**64
    draws.seed, draws.count = seed, 0
    state.copy_([signed(seed), 0])


def draw_seed() -> int:
    """A seed for whoever was given none."""
    return int(bits_of(draws.seed, draws.take()).random_raw() >> 32)


def get_rng_state() -> np.ndarray[Any, Any]:
    """Where the generator is, as u64 numbers that a checkpoint can hold; `set_rng_state` goes back there."""
    return np.array([*state.storage.array.view(np.uint64), draws.seed, draws.count], np.uint64)


def set_rng_state(new_state: Any) -> None:
    """Go to a place that `get_rng_state` gave. Raises ArgumentError for anything else."""
    numbers = as_array(new_state, "the generator's state")
    wanted = get_rng_state().shape
    if numbers.shape != wanted or numbers.dtype != np.uint64:
        text = f"no state of the generator: u64{list(wanted)} was expected, got {shown(new_state)}"
        raise ArgumentError(text, user_origin())
    draws.seed, draws.count = map(int, numbers[2:])
    state.storage.array[...] = numbers[:2].view(np.int64)


# -- draws in graphs


def random_bits(shape: Shape) -> Value:
    """32 random bits an element as i64, others in every call of a function and at every place of a program.

    They are drawn for a line of so many elements, whatever the shape: native code draws those of 64 neighbours at once.
    """
    if len(shape) != 1:
        return ops.reshape(random_bits((multiply(*shape),)), shape=shape)
    kind = TensorType("i64", shape)
    seed, call = (ops.slice(state.value, start=(place,), step=(1,), shape=(1,)) for place in (0, 1))
    # A number of its own, so that no two draws are merged; those of functions are counted from 0 by `number_streams`.
    stream = ops.full(value=-next(_streams), type=kind)
    bits = ops.random_bits(positions(shape).value, stream, stretch(call, shape), stretch(seed, shape))
    return replace(bits, owner=Draw())


def number_streams(value: Value, streams: dict[Draw, int]) -> Value | None:
    """A draw under the number of its appearance in a program, whatever was traced before; None for other values."""
    if not isinstance(value.owner, Draw):
        return None
    element, _, call, seed = value.operands
    stream = ops.full(value=streams.setdefault(value.owner, len(streams)), type=value.type)
    return replace(value, operands=(element, stream, call, seed), owner=None)


def next_call() -> Value:
    """The state after a call."""
    return ops.add(state.input, ops.iota(axis=0, type=state.input.type))


def looked_at(value: Value) -> Value:
    """The value with every draw as it shows outside of functions; draws that nobody has seen take the next call."""
    seed, call = state.storage.array.tolist()
    fresh: list[Draw] = []

    def settle(each: Value) -> Value | None:
        draw = each.owner
        if not isinstance(draw, Draw):
            return None
        if draw.seen is None:
            draw.seen = (len(fresh), call, seed)
            fresh.append(draw)
        place = (ops.full(value=number, type=each.type) for number in draw.seen)
        return replace(each, operands=(each.operands[0], *place), owner=None)

    found = rebuild(Graph("looked_at", (), (Output("result", "value", value),)), settle)
    state.storage.array[1] += bool(fresh)
    return found.outputs[0].value

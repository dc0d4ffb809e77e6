"""What a loop backwards reads and what it computes again: the least of all choices, and what that means for layers."""

from __future__ import annotations

import itertools

import graphs
import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.ir import ops
from graphc.ir.passes import run_passes
from graphc.ir.residuals import COMPUTED, LOADED, STACKED, computed_again, is_simple


def cost(read, again, prices):
    """Of bringing what is read, or what it is computed of where it is in `again`."""
    total, seen, stack = 0, set(), list(read)
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        size = value.type.max_bytes
        if value.op.kind == "view":
            stack.extend(value.operands)
        elif value in again:
            total += COMPUTED * size
            stack.extend(value.operands)
        else:
            total += prices.get(value, STACKED) * size
    return total


@pytest.mark.parametrize("seed", range(30))
def test_no_choice_is_cheaper(seed):
    random = np.random.default_rng(seed)
    values = [graphs.data("a", 8), graphs.data("b", 8), graphs.data("c", 1)]
    prices = {values[0]: LOADED, values[2]: 0}
    values[2] = ops.broadcast(values[2], shape=(8,))
    for _ in range(9):
        one, other = (values[place] for place in random.integers(0, len(values), 2))
        made = (ops.add, ops.mul, ops.sub)[random.integers(3)](one, other) if random.random() < 0.8 else ops.tanh(one)
        values.append(made)
        if random.random() < 0.15:
            prices[made] = LOADED
    read = [values[place] for place in random.choice(range(3, len(values)), 4, replace=False)]
    simple = [value for value in values[3:] if is_simple(value)]
    subsets = itertools.chain.from_iterable(itertools.combinations(simple, count) for count in range(len(simple) + 1))
    least = min(cost(read, set(subset), prices) for subset in subsets)
    found = computed_again(read, lambda value: prices.get(value, STACKED))
    assert all(map(is_simple, found)) and cost(read, found, prices) == least


def stacks(layer):
    """How many arrays the loop of a layer stacks for its gradient, beside its outputs and its start of each step."""
    n = gx.dim("n", max=8)
    x = gx.input("x", gx.f32[n, 3, 4])
    outputs = layer(x)[0]
    function = gx.function([x], gx.grad((outputs * outputs).sum(), list(layer.parameters())))
    loop = next(value for value in run_passes(function.traced).values() if value.op is ops.loop)
    return len(loop.attrs["body"].graph.of_kind("result")) - 2


def test_what_layers_keep_of_a_step():
    """A GRU three gates and what the new one is made of; an LSTM slopes or gates, as many; an RNN nothing more."""
    assert stacks(nn.GRU(4, 5, batch_first=True)) == 4
    assert stacks(nn.LSTM(4, 5, batch_first=True)) == 6
    assert stacks(nn.RNN(4, 5, batch_first=True)) == 0

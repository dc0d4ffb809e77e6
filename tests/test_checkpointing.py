"""Memory for arithmetic: less of it, the same bits, and a clear word where it cannot be had."""

from __future__ import annotations

import graphs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import check_refusal
from test_random_programs import arrays_for, programs

import graphc as gx
from graphc import nn, optim
from graphc.backends import artifact, reference
from graphc.backends.runtime import Runner, Storage
from graphc.errors import ArgumentError
from graphc.ir import ops
from graphc.ir.cost import cost_of
from graphc.ir.graph import Graph, Output, TooLittleMemory
from graphc.ir.passes import run_passes
from graphc.ir.program import fitted, plan

BATCH, WIDTH, DEPTH = 16, 32, 8


def deep_net() -> Graph:
    """Layers of tanh and gradient descent on all of them."""
    x = graphs.data("x", graphs.BATCH, WIDTH)
    weights = [graphs.state(f"w{number}", WIDTH, WIDTH) for number in range(DEPTH)]
    h = x
    for weight in weights:
        h = ops.tanh(ops.dot(h, weight))
    loss = graphs.mean(ops.mul(h, h))
    updates = graphs.descend(loss, weights, ops.full(value=0.1, type=graphs.floats()))
    return Graph("deep", (x, *weights), (Output("result", "loss", loss), *updates))


def run(graph: Graph, arrays: graphs.Arrays, store, max_bytes=None) -> tuple[dict[str, np.ndarray], artifact.Artifact]:
    """Results and updated states by name, and what was run."""
    built = artifact.build(graph, store, max_bytes=max_bytes)
    storages = {value.attrs["name"]: Storage(arrays[value.attrs["name"]].copy()) for value in graph.of_role("state")}
    runner = Runner(built, list(storages.values()))
    sizes = reference.dim_sizes(graph, arrays)
    data = [arrays[value.attrs["name"]] for value in graph.of_role("data")]
    status, results = runner.step(data, [sizes[dim] for dim in graph.dims])
    assert status == 0
    found = {name: np.array(result) for (name, _), result in zip(runner.results, results, strict=True)}
    return found | {name: storage.array for name, storage in storages.items()}, built


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


@pytest.mark.parametrize("share", [0.8, 0.65, 0.6])
def test_less_memory_gives_the_same_bits(share, store, rng) -> None:
    graph = run_passes(deep_net())
    arrays = graphs.arrays_of(graph, BATCH, rng)
    whole, built = run(graph, arrays, store)
    most = int(built.description.work_bytes * share)
    small, less = run(graph, arrays, store, most)
    assert less.description.work_bytes <= most and less.description.kernels > built.description.kernels
    assert_same(whole, small)


def test_a_plan_that_fits_stays_as_it_is() -> None:
    program = plan(run_passes(deep_net()), 32)
    assert fitted(program, 32, program.work_bytes) is program


def test_arithmetic_grows_as_memory_shrinks() -> None:
    """Half the activations cost at most every forward product once more: less than half of all products again."""
    program = plan(run_passes(deep_net()), 32)
    smaller = fitted(program, 32, program.work_bytes // 2)
    assert cost_of(program).operations < cost_of(smaller).operations < 1.5 * cost_of(program).operations


def test_the_least_that_is_named_can_be_had() -> None:
    program = plan(run_passes(deep_net()), 32)
    with pytest.raises(TooLittleMemory) as caught:
        fitted(program, 32, 1)
    least = caught.value.least
    assert least < program.work_bytes / 2
    assert fitted(program, 32, least).work_bytes == least


def test_states_that_change_are_not_read_again(store, rng) -> None:
    """What is made of a state before its update is not computed again after it."""
    x, w, v = graphs.data("x", 64, 64), graphs.state("w", 64, 64), graphs.state("v", 64, 64)
    early = ops.tanh(ops.dot(x, w))
    middle = ops.sin(ops.dot(ops.exp(ops.tanh(ops.dot(x, v))), v))
    late = ops.add(ops.dot(early, middle), early)
    outputs = (Output("result", "late", late), Output("update", "w", ops.tanh(early)), Output("update", "v", middle))
    graph = run_passes(Graph("states", (x, w, v), outputs))
    arrays = graphs.arrays_of(graph, 64, rng)
    whole, built = run(graph, arrays, store)
    for most in range(built.description.work_bytes - 1000, 0, -4000):
        try:
            small, _ = run(graph, arrays, store, most)
        except TooLittleMemory:
            break
        assert_same(whole, small)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(traced=programs(), share=st.sampled_from((0.9, 0.7, 0.5)))
def test_random_programs_give_the_same_bits(traced, share, store) -> None:
    graph, arrays = run_passes(traced), arrays_for(17)
    whole, built = run(graph, arrays, store)
    beside = built.description.work_bytes - plan(graph, 32).work_bytes
    try:
        small, less = run(graph, arrays, store, beside + int(plan(graph, 32).work_bytes * share))
    except TooLittleMemory as error:
        assert error.least <= built.description.work_bytes
        small, less = run(graph, arrays, store, error.least)
    if not any(nest.name == "loop" and nest.repetition.rows for nest in less.program.nests):
        return assert_same(whole, small)
    for name, array in reference.run(less.program.graph, arrays).items():  # sums in slices, from the same numbers
        np.testing.assert_allclose(small[name], array, rtol=1e-4, atol=1e-4, err_msg=name)


# -- for users


def transformer(max_bytes=None):
    gx.manual_seed(3)
    layer = nn.TransformerEncoderLayer(16, 2, 32, 0.1, activation="gelu", batch_first=True, norm_first=True)
    net, n = nn.Sequential(layer, nn.Linear(16, 4)), gx.dim("n", max=8)

    def loss(found, y):
        return ((found - y) ** 2).mean()

    optimizer = optim.AdamW(net.parameters(), lr=1e-2)
    return net, gx.train_step(net, loss, optimizer, x=gx.f32[n, 12, 16], y=gx.f32[n, 12, 4], max_bytes=max_bytes)


def trained(max_bytes=None):
    net, step = transformer(max_bytes)
    random = np.random.default_rng(0)
    x, y = random.standard_normal((8, 12, 16), np.float32), random.standard_normal((8, 12, 4), np.float32)
    losses = [step(x[: 8 - k % 2], y[: 8 - k % 2]).loss.item() for k in range(4)]
    return losses, net.state_dict(), step


def test_a_bound_changes_no_bit_of_the_training() -> None:
    """With dropout: its random numbers are the same the second time."""
    losses, state, step = trained()
    most = step.artifact.description.work_bytes * 3 // 4
    again, same, smaller = trained(most)
    assert smaller.artifact.description.work_bytes <= most
    assert losses == again
    assert_same(dict(state), dict(same))


def test_too_small_a_bound_says_what_is_needed() -> None:
    check_refusal(transformer, "max_bytes is 1,000; train_step needs at least", 1000)
    with pytest.raises(ArgumentError) as caught:
        transformer(1000)
    text = str(caught.value).splitlines()[0]
    least = int(text.split("at least ")[1].split(" ")[0].replace(",", ""))
    _, step = transformer(least)
    assert step.artifact.description.work_bytes <= least


@pytest.mark.parametrize("given", [0, -5, 1.5, "1 MB", True])
def test_a_bound_is_a_whole_number(given) -> None:
    x = gx.input("x", gx.f32[3])
    with pytest.raises(ArgumentError, match=r"max_bytes is .*; it must be a whole number"):
        gx.function([x], x + 1, max_bytes=given)
    with pytest.raises(ArgumentError, match=r"max_bytes is .*; it must be a whole number"):
        gx.step(max_bytes=given)


def test_functions_and_steps_take_a_bound() -> None:
    x, big = gx.input("x", gx.f32[64, 64]), 10**6
    y = gx.function([x], (x @ x).tanh() @ x, max_bytes=big)
    assert y.artifact.description.work_bytes <= big

    @gx.step(max_bytes=big)
    def product(x: gx.f32[64, 64]):
        return (x @ x).tanh() @ x

    np.testing.assert_array_equal(product(np.eye(64, dtype=np.float32)), y(np.eye(64, dtype=np.float32)))
    with pytest.raises(ArgumentError, match="needs at least"):
        gx.function([x], (x @ x).tanh() @ x, max_bytes=100)

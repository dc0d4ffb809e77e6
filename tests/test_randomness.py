"""Random numbers: where their bits come from, distributions, dropout; and numbers outside of functions."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from refusals import check_refusal

import graphc as gx
from graphc import data, nn
from graphc import functional as F
from graphc.backends import reference
from graphc.errors import DTypeError, LabelError, NumericsError, ShapeError, TraceError
from graphc.ir.ops.random import random_bits_array
from graphc.ir.passes import run_passes

BATCH = gx.dim("batch", max=50000)
MANY = 50000


def drawing():
    """A function with two draws of one kind and one of rows, and what it takes."""
    x = gx.input("x", gx.f32["batch", 3])
    return gx.function([x], [gx.rand(5), gx.rand(5), gx.rand(x.shape)])


def zeros(rows):
    return np.zeros((rows, 3), np.float32)


def same(a, b):
    return all(np.array_equal(left, right) for left, right in zip(a, b, strict=True))


# -- where the bits come from


def test_bits_are_those_of_element_stream_call_and_seed():
    gx.manual_seed(7)
    f = drawing()
    f(zeros(2))
    found = f(zeros(4))  # call 1
    for stream, array in enumerate(found):
        places = np.arange(array.size).reshape(array.shape)
        bits = random_bits_array(places, *(np.full(array.shape, number) for number in (stream, 1, 7)))
        np.testing.assert_array_equal(array, (bits >> 8).astype(np.float32) / 2**24)


def test_neighbours_share_counters_natively_too():
    """Sixty-four at a time, what is left over, and numbers of another kind of loop: all are the reference's bits."""
    for count in (640, 8192 + 37, 65):
        gx.manual_seed(11)
        drawn = gx.function([], gx.rand(count), name=f"draw_{count}")()
        bits = random_bits_array(np.arange(count), *(np.full(count, number) for number in (0, 0, 11)))
        np.testing.assert_array_equal(drawn, (bits >> 8).astype(np.float32) / 2**24)


def test_same_seed_and_calls_give_the_same_numbers():
    f, x = drawing(), zeros(4)
    gx.manual_seed(1)
    first, second = f(x), f(x)
    assert not any(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], first[1])
    gx.manual_seed(1)
    assert same(f(x), first) and same(f(x), second)
    gx.manual_seed(2)
    assert not same(f(x), first)


def test_smaller_batches_draw_the_first_rows():
    f = drawing()
    gx.manual_seed(1)
    whole = f(zeros(40))
    gx.manual_seed(1)
    np.testing.assert_array_equal(f(zeros(17))[2], whole[2][:17])


def test_programs_do_not_depend_on_what_was_traced_before():
    first = drawing()
    gx.rand(3)
    second = drawing()
    assert first.artifact.key == second.artifact.key
    assert first.text("trace") == second.text("trace")


def test_native_code_draws_what_the_reference_draws():
    x = gx.input("x", gx.f32["batch", 3])
    draws = [gx.rand(x.shape), gx.randint(1000, x.shape), gx.bernoulli(0.3, x.shape), gx.randperm(30)]
    smooth = [gx.randn(x.shape), gx.randn(x.shape, dtype=gx.f64), gx.rand(x.shape, dtype=gx.f64)]
    f = gx.function([x], draws + smooth)
    gx.manual_seed(3)
    held = {"x": zeros(20), "random_state": np.array([3, 0])}
    meant = reference.run(run_passes(f.traced), held)
    for number, found in enumerate(f(held["x"])):
        np.testing.assert_allclose(found, meant[f"result_{number}"], 0 if number < len(draws) else 2e-6, 1e-6)
    np.testing.assert_array_equal(meant["random_state"], [3, 1])


def test_epochs_draw_what_single_calls_draw():
    w = gx.parameter("w", np.zeros(3))

    @gx.step
    def step(x: gx.f32["batch", 3]):
        w.add_((x * gx.rand(x.shape)).sum(0))
        return gx.rand()

    rows = np.arange(30, dtype=np.float32).reshape(10, 3)
    gx.manual_seed(4)
    singly = np.mean([step(rows[start : start + 4]) * len(rows[start : start + 4]) for start in (0, 4, 8)]) * 3 / 10
    reached = w.numpy()
    w.zero_()
    gx.manual_seed(4)
    (mean,) = step.epoch(data.DataLoader(data.TensorDataset(rows), batch_size=4))
    np.testing.assert_allclose(mean, singly, 1e-6)
    np.testing.assert_array_equal(w.numpy(), reached)


# -- the state


def test_the_state_is_saved_and_restored(tmp_path):
    f, x, weights = drawing(), zeros(2), nn.Linear(3, 3).weight
    f(x)
    gx.nn.init.normal_(weights)
    gx.save({"random": gx.get_rng_state()}, tmp_path / "state.safetensors")
    later, values = f(x), nn.init.uniform_(weights).numpy()
    gx.manual_seed(99)
    gx.set_rng_state(gx.load(tmp_path / "state.safetensors")["random"])
    assert same(f(x), later)
    np.testing.assert_array_equal(nn.init.uniform_(weights).numpy(), values)
    with pytest.raises(ValueError, match="no state of the generator"):
        gx.set_rng_state(np.zeros(3))


def test_the_state_is_part_of_a_functions_state():
    f, x = drawing(), zeros(2)
    state = f.state_dict()
    first = f(x)
    f.load_state_dict(state)
    assert same(f(x), first)


def test_a_call_that_fails_draws_nothing():
    x = gx.input("x", gx.f32["batch"])
    f = gx.function([x], gx.rand(x.shape) * x, nan="raise")
    before = gx.get_rng_state()
    with pytest.raises(NumericsError):
        f([math.inf])
    np.testing.assert_array_equal(gx.get_rng_state(), before)


def test_functions_of_all_models_share_the_calls():
    f, g = gx.function([], gx.rand(4)), gx.function([], gx.rand(4))
    gx.manual_seed(5)
    first, second = f(), g()
    assert not np.array_equal(first, second)
    gx.manual_seed(5)
    np.testing.assert_array_equal(g(), first)
    np.testing.assert_array_equal(f(), second)


# -- distributions


def distance(sample, distribution):
    """Kolmogorov's and Smirnov's: the largest difference between shares found and expected, times sqrt(n)."""
    ordered = np.sort(sample.ravel())
    expected, places = distribution(ordered), np.arange(len(ordered))
    gap = max((expected - places / len(ordered)).max(), ((places + 1) / len(ordered) - expected).max())
    return gap * math.sqrt(len(ordered))


def bell(x, mean=0.0, std=1.0):
    return np.array([NormalDist(mean, std).cdf(each) for each in x.tolist()])


@pytest.fixture(scope="module")
def drawn():
    gx.manual_seed(11)
    draws = {
        "rand": gx.rand(MANY),
        "rand64": gx.rand(MANY, dtype=gx.f64),
        "uniform": gx.uniform(-2.0, 3.0, MANY),
        "randn": gx.randn(MANY // 100, 100),
        "randn64": gx.randn(MANY, dtype=gx.f64),
        "normal": gx.normal(2.0, 0.5, (MANY,)),
        "bernoulli": gx.bernoulli(0.3, MANY),
        "randint": gx.randint(-3, 5, (MANY,)),
    }
    return gx.function([], draws)()


@pytest.mark.parametrize(
    ("name", "distribution"),
    [
        ("rand", lambda x: x),
        ("rand64", lambda x: x),
        ("uniform", lambda x: (x + 2) / 5),
        ("randn", bell),
        ("randn64", bell),
        ("normal", lambda x: bell(x, 2, 0.5)),
    ],
)
def test_distributions(drawn, name, distribution):
    sample = getattr(drawn, name)
    assert sample.dtype == (np.float64 if name.endswith("64") else np.float32)
    assert distance(sample.astype(np.float64), distribution) < 1.63  # one sample in a hundred is farther off


def test_uniform_numbers_have_all_their_bits_and_stay_below_one(drawn):
    for sample, digits in ((drawn.rand, 24), (drawn.rand64, 53)):
        whole = sample.astype(np.float64) * 2.0**digits
        assert (whole == np.floor(whole)).all() and sample.min() >= 0 and sample.max() < 1
        assert len(np.unique(whole % 16)) == 16


@pytest.mark.parametrize("name", ["randn", "randn64"])
def test_normal_numbers_have_right_moments_and_tails(drawn, name):
    sample = getattr(drawn, name).astype(np.float64).ravel()
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        deviation = math.sqrt((math.prod(range(2 * power - 1, 0, -2)) - moment**2) / MANY)
        assert abs((sample**power).mean() - moment) < 4 * deviation
    for far in (2.0, 3.0):
        share = 2 * NormalDist().cdf(-far)
        assert abs((abs(sample) > far).mean() - share) < 4 * math.sqrt(share / MANY)


def test_discrete_distributions(drawn):
    assert set(np.unique(drawn.bernoulli)) == {0, 1}
    assert abs(drawn.bernoulli.mean() - 0.3) < 4 * math.sqrt(0.21 / MANY)
    found = np.bincount(drawn.randint + 3, minlength=8)
    assert len(found) == 8 and abs(found - MANY / 8).max() < 4 * math.sqrt(MANY / 8)


def test_neighbours_and_streams_are_independent(drawn):
    sample = drawn.rand.astype(np.float64) - 0.5
    for other in (np.roll(sample, 1), drawn.rand64 - 0.5):
        assert abs((sample * other).mean() * 12) < 4 / math.sqrt(MANY)


def test_permutations():
    f = gx.function([], {"order": gx.randperm(100), "rows": gx.permutation(np.arange(30.0).reshape(15, 2))})
    first, second = f(), f()
    for found in (first, second):
        assert sorted(found.order.tolist()) == list(range(100))
        assert sorted(map(tuple, found.rows)) == [(2.0 * row, 2.0 * row + 1) for row in range(15)]
    assert not np.array_equal(first.order, second.order) and not np.array_equal(first.rows, second.rows)
    assert sorted(gx.permutation(5).tolist()) == [0, 1, 2, 3, 4]


# -- arguments


def test_arguments_are_pytorchs_and_numpys():
    x = gx.input("x", gx.f64["batch", 2])
    assert gx.rand(2, 3).type == gx.rand((2, 3)).type == gx.f32[2, 3]
    assert gx.rand().type == gx.f32[()] and gx.randint(5).type == gx.i64[()]
    assert gx.randint(5, (2,)).type == gx.randint(0, 5, (2,)).type == gx.randint(5, size=2).type == gx.i64[2]
    assert gx.rand_like(x).type == gx.randn_like(x).type == gx.randint_like(x, 3).type == gx.bernoulli(x).type == x.type
    assert gx.normal(x, np.ones((3, 1, 1))).type == gx.f64[3, "batch", 2]
    assert gx.uniform(size=(2, 3)).type == gx.f32[2, 3]
    assert gx.randint(0, 2, (3,), dtype=gx.u8).type == gx.u8[3]


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        (lambda: gx.rand(3, dtype=gx.i64), DTypeError, "rand gives f32 or f64, not i64"),
        (lambda: gx.normal(0.0, -1.0, 3), ValueError, "std=-1.0"),
        (lambda: gx.normal(np.zeros((2, 3)), 1.0, 3), ShapeError, "does not fit the size [3]"),
        (lambda: gx.bernoulli(1.5, 3), ValueError, "p is 1.5; it must be a number from 0 to 1"),
        (lambda: gx.randint(3, 3, (2,)), ValueError, "low < high, got 3 and 3"),
        (lambda: gx.randint(0.5, (2,)), ValueError, "whole numbers"),
        (lambda: gx.permutation(np.float32(3)), ShapeError, "got a single number"),
        (lambda: nn.Dropout(-0.1), ValueError, "p is -0.1; it must be a number from 0 to 1"),
        (lambda: F.dropout2d(np.zeros((2, 3))), ShapeError, "dropout2d takes 3 or 4 axes, got f32[2,3]"),
    ],
)
def test_wrong_arguments(wrong, kind, words):
    check_refusal(wrong, words, kind=kind)


def test_gradients_reach_the_parameters_of_a_distribution():
    mean, std = gx.parameter("mean", np.zeros(3)), gx.parameter("std", np.ones(3))
    sample = gx.normal(mean, std)
    f = gx.function([], [sample, *gx.grad((sample**2).sum(), [mean, std])])
    found, by_mean, by_std = f()  # the sample is its own deviation
    np.testing.assert_allclose(by_mean, 2 * found, 1e-5)
    np.testing.assert_allclose(by_std, 2 * found**2, 1e-5)


# -- dropout


def test_dropout_drops_in_training_only():
    layers = {"Dropout": (40, 50), "Dropout1d": (40, 50, 3), "Dropout2d": (40, 50, 2, 3), "AlphaDropout": (40, 50)}
    inputs = [gx.input(name, gx.f32[BATCH, *shape[1:]]) for name, shape in layers.items()]
    made = [getattr(nn, name)(0.25) for name in layers]
    trained = [layer(x) for layer, x in zip(made, inputs, strict=True)]
    arrays = [np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in layers.values()]
    found = gx.function(inputs, trained)(*arrays)
    for name, array, result in zip(layers, arrays, found, strict=True):
        if name == "AlphaDropout":
            continue
        dropped = result == 0
        np.testing.assert_allclose(result[~dropped], array[~dropped] / 0.75, 1e-6)
        channels = dropped.reshape(40, 50, -1)
        assert (channels == channels[:, :, :1]).all()
        assert abs(channels[:, :, 0].mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 2000)
    lowest, count = np.unique(found[-1], return_counts=True)
    assert abs(count.max() / 2000 - 0.25) < 0.04 and lowest[count.argmax()] < -1
    assert abs(found[-1].mean()) < 0.1 and abs(found[-1].std() - 1) < 0.1
    for layer, x in zip(made, inputs, strict=True):
        assert layer.eval()(x).value is x.value
    assert repr(made[0]) == "Dropout(p=0.25, inplace=False)"


def test_dropout2d_of_three_axes_takes_the_first_for_the_batch():
    kept = gx.function([], F.dropout2d(gx.ones(40, 50, 3)))()
    assert (kept == kept[:, :, :1]).all() and (kept != kept[:, :1]).any()


def test_gradients_flow_through_what_dropout_kept():
    x = gx.parameter("x", np.arange(1.0, 65.0))
    y = F.dropout(x, 0.5)
    found, gradient = gx.function([], [y, gx.grad(y.sum(), x)])()
    np.testing.assert_array_equal(gradient, np.where(found == 0, 0, 2))
    assert 0 < (gradient == 0).sum() < 64


def test_dropout_of_nothing_and_of_everything():
    x = gx.parameter("x", np.array([1.0, math.inf]))
    assert F.dropout(x, 0.0).value is x.value
    assert F.dropout(x, 0.5, training=False).value is x.value
    assert F.dropout(x, 1.0).tolist() == F.alpha_dropout(x, 1.0, training=True).tolist() == [0, 0]
    assert F.dropout3d(np.ones((2, 3, 1, 1, 1))).type == gx.f32[2, 3, 1, 1, 1]
    assert F.dropout3d(np.ones((3, 1, 1, 1))).type == gx.f32[3, 1, 1, 1]


def test_a_model_drops_in_its_train_step_and_not_in_its_eval_step():
    net = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 1))
    optimizer = gx.optim.SGD(net.parameters(), lr=0.0)
    types = {"x": gx.f32[BATCH, 4], "y": gx.f32[BATCH, 1]}
    train = gx.train_step(net, nn.MSELoss(), optimizer, **types)
    test = gx.eval_step(net, nn.MSELoss(), **types)
    batch = np.ones((8, 4), np.float32), np.ones((8, 1), np.float32)
    assert train(*batch).loss != train(*batch).loss
    assert test(*batch).loss == test(*batch).loss
    assert "random_state" not in test.parameters


# -- numbers outside of functions


def test_numbers_of_constants_and_parameters():
    w = gx.parameter("w", np.array([1.0, 2.0]))
    np.testing.assert_array_equal(gx.zeros(3).numpy(), np.zeros(3, np.float32))
    np.testing.assert_array_equal(np.asarray(w * 2), [2, 4])
    assert np.asarray(w * 2, np.float64).dtype == np.float64
    w.copy_([3.0, 4.0])
    assert (w @ w).item() == float(w @ w) == 25 and int((w @ w) / 2) == 12
    assert (w > 3).tolist() == [False, True]
    assert bool((w > 0).sum() == 2)
    assert gx.grad((w**2).sum(), w).tolist() == [6, 8]
    assert nn.Parameter(gx.ones(2, dtype=gx.f64) / 2, dtype=gx.f64).tolist() == [0.5, 0.5]
    assert repr(gx.zeros(3)) == "Tensor(f32[3])"


def test_random_numbers_are_drawn_when_first_looked_at():
    gx.manual_seed(6)
    x = gx.randn(3)
    weights = nn.Parameter(x / 3)
    np.testing.assert_array_equal(x.numpy(), x.numpy())
    np.testing.assert_allclose(weights.numpy(), x.numpy() / 3, 1e-6)
    np.testing.assert_allclose((x + 1).numpy(), x.numpy() + 1, 1e-6)
    gx.manual_seed(6)
    again = gx.randn(3)
    np.testing.assert_array_equal(again.numpy(), x.numpy())
    assert not np.array_equal(gx.randn(3).numpy(), x.numpy())
    f = gx.function([], x)
    assert not np.array_equal(f(), f())


def test_symbolic_values_have_no_numbers():
    x = gx.input("x", gx.f32["batch"])
    for look in (float, int, bool, np.asarray, lambda t: t.item(), lambda t: t.numpy(), lambda t: t.tolist()):
        for tensor in (x.sum(), gx.zeros(x.shape), x.shape[0] * gx.ones(1)):
            with pytest.raises(TraceError, match="symbolic until the step runs"):
                look(tensor)

    def body():
        return gx.rand(3).numpy()

    with pytest.raises(TraceError, match="symbolic until the step runs"):
        gx.step(body)


def test_indices_are_checked_outside_of_functions_too():
    with pytest.raises(LabelError, match=r"0\.\.2"):
        gx.one_hot(np.array([0, 3]), 3).numpy()

"""Normalization beyond PyTorch's numbers: running statistics in steps, batches of one, digits, wrong calls."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc import functional as F
from graphc import nn, optim
from graphc.data import DataLoader, TensorDataset

BATCH = gx.dim("batch", max=16)


def standardized(x, axes):
    wide = x.astype(np.float64)
    rest = wide - wide.mean(axes, keepdims=True)
    return rest / np.sqrt((rest**2).mean(axes, keepdims=True) + 1e-5)


def test_a_common_offset_costs_no_digits(rng):
    """Of numbers around 500, E[x**2] - E[x]**2 in f32 would have hardly a right digit left."""
    array = (rng.normal(size=(8, 4, 6)) + 500).astype(np.float32)
    x = gx.input("x", gx.f32[BATCH, 4, 6])
    results = [F.batch_norm(x, None, None, training=True), F.layer_norm(x, 6), F.instance_norm(x), F.group_norm(x, 2)]
    batch, layer, instance, group = gx.function([x], results)(array)
    np.testing.assert_allclose(batch, standardized(array, (0, 2)), atol=2e-3)
    np.testing.assert_allclose(layer, standardized(array, (2,)), atol=2e-3)
    np.testing.assert_allclose(instance, standardized(array, (2,)), atol=2e-3)
    wanted = standardized(array.reshape(8, 2, 12), (2,)).reshape(8, 4, 6)
    np.testing.assert_allclose(group, wanted, atol=2e-3)


def test_training_moves_what_evaluation_uses(rng):
    """Over an epoch whose last batch is smaller, and of one sample: that one counts as variance 0."""
    net = nn.Sequential(nn.BatchNorm1d(3, momentum=0.5), nn.Linear(3, 1))
    x, y = rng.normal(2, 3, (9, 3)).astype(np.float32), rng.normal(size=(9, 1)).astype(np.float32)
    types = {"x": gx.f32[BATCH, 3], "y": gx.f32[BATCH, 1]}
    step = gx.train_step(net, nn.MSELoss(), optim.SGD(net.parameters(), lr=0.01), **types)
    predict = gx.predict_step(net, x=types["x"])
    before = predict(x)
    step.epoch(DataLoader(TensorDataset(x, y), batch_size=4))
    mean, var = np.zeros(3), np.ones(3)
    for rows in (x[:4], x[4:8], x[8:]):
        mean = (mean + rows.mean(0)) / 2
        var = (var + (rows.var(0, ddof=1) if len(rows) > 1 else 0)) / 2
    norm, linear = net
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), var, rtol=1e-5)
    assert norm.num_batches_tracked.numpy() == 3
    hidden = (x - mean) / np.sqrt(var + 1e-5) * norm.weight.numpy() + norm.bias.numpy()
    after = hidden @ linear.weight.numpy().T + linear.bias.numpy()
    np.testing.assert_allclose(predict(x), after, rtol=1e-5, atol=1e-5)
    assert not np.allclose(before, after)
    norm.reset_running_stats()
    assert not norm.running_mean.numpy().any() and (norm.running_var.numpy() == 1).all()
    assert norm.num_batches_tracked.numpy() == 0


def test_statistics_get_no_gradient():
    """Neither do they pass one on, in evaluation mode, nor does their move change the loss's gradients."""
    layer = nn.BatchNorm1d(2)
    x = gx.input("x", gx.f32[BATCH, 2])
    total = (layer.eval()(x) ** 2).sum()
    gradient = gx.function([x], gx.grad(total, x))(np.array([[1, -2], [3, 0.5]], np.float32))
    np.testing.assert_allclose(gradient, [[2.0, -4.0], [6.0, 1.0]], rtol=2e-5)  # eps is a share of 1e-5
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


def test_several_calls_in_one_step_move_in_turn(rng):
    layer = nn.BatchNorm1d(2)
    real, fake = rng.normal(size=(2, 5, 2)).astype(np.float32)

    @gx.step
    def step(a: gx.f32[BATCH, 2], b: gx.f32[BATCH, 2]):
        return (layer(a) * a).sum() + (layer(b) * b).sum()

    step(real, fake)
    mean = 0.9 * 0.1 * real.mean(0) + 0.1 * fake.mean(0)
    np.testing.assert_allclose(layer.running_mean.numpy(), mean, rtol=1e-5, atol=1e-7)
    assert layer.num_batches_tracked.numpy() == 2


def test_statistics_move_in_steps_only():
    """Outside of one there is nothing to record the move; the error says what to do."""
    for layer in (nn.BatchNorm1d(3), nn.InstanceNorm1d(3, track_running_stats=True)):
        with pytest.raises(gx.TraceError, match="only a traced step can record") as caught:
            layer(gx.input("x", gx.f32[BATCH, 3, 4]))
        assert "net.eval()" in str(caught.value) and "declared in" in str(caught.value)
        layer.eval()(gx.input("x", gx.f32[BATCH, 3, 4]))
    nn.BatchNorm1d(3, track_running_stats=False)(gx.input("x", gx.f32[BATCH, 3]))


def test_one_value_has_no_variance():
    words = "one value a channel has no variance"
    with pytest.raises(gx.ShapeError, match=words):
        nn.BatchNorm1d(3, track_running_stats=False)(gx.input("x", gx.f32[1, 3]))
    with pytest.raises(gx.ShapeError, match=words):
        nn.InstanceNorm2d(3)(gx.input("x", gx.f32[BATCH, 3, 1, 1]))
    nn.BatchNorm1d(3).eval()(gx.input("x", gx.f32[1, 3]))


def test_wrong_calls_of_functions():
    x = gx.input("x", gx.f32[BATCH, 4, 2])
    ones, three = np.ones(4, np.float32), np.ones(3, np.float32)
    for call, words in [
        (lambda: F.batch_norm(x, three, three), "batch_norm of f32[batch,4,2] and f32[3]"),
        (lambda: F.instance_norm(x, weight=three), "instance_norm of f32[batch,4,2] and f32[3]"),
        (lambda: F.group_norm(x, 3), "group_norm: 3 groups do not divide the channels of f32[batch,4,2]"),
        (lambda: F.group_norm(x, 2, three), "group_norm of f32[batch,4,2] and f32[3]"),
        (lambda: F.layer_norm(x, 3), "layer_norm of f32[batch,4,2]: its last axes are not [3]"),
        (lambda: F.layer_norm(x, (4, 2), ones), "layer_norm over [4, 2]: weight or bias is f32[4]"),
        (lambda: F.rms_norm(x, (2, 4)), "rms_norm of f32[batch,4,2]: its last axes are not [2, 4]"),
        (lambda: F.local_response_norm(x.reshape(-1), 2), "local_response_norm of f32[8*batch]"),
    ]:
        with pytest.raises(gx.ShapeError) as caught:
            call()
        assert str(caught.value).startswith(words) and len(str(caught.value).splitlines()) <= 8
    with pytest.raises(ValueError, match="batch_norm without statistics of its own needs running_mean"):
        F.batch_norm(x, None, None)

    @gx.step
    def step(x: gx.f32[BATCH, 4]):
        with pytest.raises(TypeError, match="held by buffers, not by ndarray"):
            F.batch_norm(x, ones, ones, training=True)
        return x.sum()


def test_one_sample_needs_no_batch_axis(rng):
    array = rng.normal(size=(3, 4, 2)).astype(np.float32)
    x, layer = gx.input("x", gx.f32[3, 4, 2]), nn.InstanceNorm2d(3, affine=True)
    alone, first = gx.function([x], [layer(x), layer(x.unsqueeze(0))])(array)
    np.testing.assert_array_equal(alone, first[0])
    np.testing.assert_allclose(alone, standardized(array, (1, 2)), rtol=1e-5, atol=1e-6)


def test_normalized_zeros_stay_zeros():
    """And their slope is 1 / eps, as in PyTorch."""
    x = gx.input("x", gx.f32[2, 3])
    unit = F.normalize(x, eps=0.5)
    found, slope = gx.function([x], [unit, gx.grad(unit.sum(), x)])(np.array([[0, 0, 0], [3, 0, 4]], np.float32))
    np.testing.assert_allclose(found, [[0, 0, 0], [0.6, 0, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(slope, [[2, 2, 2], [0.032, 0.2, -0.024]], rtol=1e-5)


def test_integers_are_converted():
    x = gx.input("x", gx.i64[BATCH, 4])
    run = gx.function([x], [F.layer_norm(x, 4), F.rms_norm(x, 4)])
    layer, root = run(np.array([[1, 2, 3, 4]]))
    np.testing.assert_allclose(layer, standardized(np.array([[1, 2, 3, 4]]), (1,)), rtol=1e-5)
    np.testing.assert_allclose(root, np.array([[1, 2, 3, 4]]) / np.sqrt(7.5), rtol=1e-5)


def test_second_derivatives(rng):
    """Against differences of the first, in f64."""
    array = rng.normal(size=(4, 3))
    x = gx.input("x", gx.f64[4, 3])
    first = gx.grad((F.batch_norm(x, None, None, training=True) ** 3).sum(), x)
    second = gx.grad((first * np.arange(12.0).reshape(4, 3)).sum(), x)
    run = gx.function([x], [(first * np.arange(12.0).reshape(4, 3)).sum(), second])
    found = run(array)[1]
    for index in [(0, 0), (2, 1), (3, 2)]:
        sides = []
        for shift in (1e-5, -1e-5):
            moved = array.copy()
            moved[index] += shift
            sides.append(run(moved)[0])
        assert found[index] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-6, abs=1e-6)


def test_text_is_pytorchs():
    assert [repr(layer) for layer in (nn.BatchNorm2d(3), nn.InstanceNorm1d(3), nn.GroupNorm(2, 4), nn.RMSNorm(4))] == [
        "BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)",
        "InstanceNorm1d(3, eps=1e-05, momentum=0.1, affine=False, bias=False, track_running_stats=False)",
        "GroupNorm(2, 4, eps=1e-05, affine=True, bias=True)",
        "RMSNorm((4,), eps=None, elementwise_affine=True)",
    ]
    assert repr(nn.LayerNorm((2, 3), bias=False)) == "LayerNorm((2, 3), eps=1e-05, elementwise_affine=True, bias=False)"
    assert repr(nn.LocalResponseNorm(2)) == "LocalResponseNorm(2, alpha=0.0001, beta=0.75, k=1.0)"

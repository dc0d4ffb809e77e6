"""Pools: ties, NaN and infinities, symbolic lengths, layers, and errors."""

from __future__ import annotations

import math

import emulator
import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.backends import reference
from graphc.ir.passes import run_passes
from graphc.ir.text import print_graph

BATCH = gx.dim("batch", max=4)


def value_and_gradient(pool, array):
    """What a pool gives for an array, and the gradient of the sum of it."""
    x = gx.input("x", gx.f32[BATCH, *array.shape[1:]])
    value = pool(x)
    return gx.function([x], [value, gx.grad(value.sum(), x)])(array.astype(np.float32))


@pytest.mark.parametrize("size", [2, 3, 12])
def test_the_first_of_equal_maxima_gets_the_gradient(size):
    image = np.ones((2, 1, size, size))
    image[1, 0, 0, 0] = 0
    value, gradient = value_and_gradient(nn.MaxPool2d(size), image)
    wanted = np.zeros_like(image)
    wanted[0, 0, 0, 0] = wanted[1, 0, 0, 1] = 1
    np.testing.assert_array_equal(value, np.ones((2, 1, 1, 1)))
    np.testing.assert_array_equal(gradient, wanted)


@pytest.mark.parametrize("shape", [(2, 3, 6, 32), (3, 2, 6, 34), (1, 1, 4, 38)])
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d((3, 4), 2)], ids=["2", "3 x 4 by 2"])
def test_neighbours_are_read_and_written_together(pool, shape, rng):
    """Natively, uncompiled and by the reference."""
    x = gx.input("x", gx.f32[shape])
    value = pool(x)
    function = gx.function([x], {"value": value, "gradient": gx.grad((value * value).sum(), x)})
    source = function.source()
    assert "load_even(" in source and "load_odd(" in source and ("store_pairs(" in source) == (pool.kernel_size == 2)
    arrays = {"x": rng.normal(size=shape).astype(np.float32)}
    graph = run_passes(function.traced)
    wanted, emulated = reference.run(graph, arrays), emulator.emulate(graph, arrays)
    for (name, found), native in zip(emulated.items(), function(arrays["x"]), strict=True):
        np.testing.assert_array_equal(native, found, err_msg=name)
        np.testing.assert_allclose(native, wanted[name], rtol=1e-6)


@pytest.mark.parametrize("pool", [nn.MaxPool1d(2), nn.MaxPool1d(3, 3), nn.MaxPool1d(3, 2)], ids=str)
def test_relu_is_for_what_a_pool_leaves(pool):
    line = np.array([[[-3.0, -3, 2, 2, -1, 5, 0, math.nan, 7, 7, -2, -4]]])
    x = gx.input("x", gx.f32[BATCH, 1, 12])
    value = pool(gx.relu(x))
    function = gx.function([x], [value, gx.grad(value.sum(), x)])
    before, after = (print_graph(function.stages[name]) for name in ("stabilise", "pool_first"))
    assert "relu(%x)" in before and "relu(%x)" not in after
    unknown = value_and_gradient(lambda x: pool(gx.relu(x) * 1), line)  # which the pass does not see
    for one, other in zip(function(line.astype(np.float32)), unknown, strict=True):
        np.testing.assert_array_equal(one, other)


def test_overlapping_windows_add_up_at_their_first_maxima():
    line = np.array([[[0.0, 2, 2, 2, 1, 3]]])
    value, gradient = value_and_gradient(nn.MaxPool1d(3, 1), line)
    np.testing.assert_array_equal(value, [[[2, 2, 2, 3]]])
    np.testing.assert_array_equal(gradient, [[[0, 2, 1, 0, 0, 1]]])


@pytest.mark.parametrize("size", [3, 9])
def test_nan_is_the_maximum_and_padding_never_is(size):
    line = np.full((3, 1, 2 * size), -math.inf)
    line[0, 0, 1] = math.nan
    line[1, 0, : size + 1] = -5
    value, _ = value_and_gradient(lambda x: gx.max_pool1d(x, size, padding=1), line)
    assert np.isnan(value[0, 0, 0]) and (value[0, 0, 1:] == -math.inf).all()
    np.testing.assert_array_equal(value[1, 0, :2], [-5, -5])


def test_a_symbolic_length_is_pooled_natively(rng):
    time = gx.dim("time", max=12)

    def pools(x):
        return [
            gx.max_pool1d(x, 3, 1, 1),
            gx.avg_pool1d(x, 3, 1),
            gx.avg_pool1d(x, 3, 1, 1, count_include_pad=False),
            *gx.max_pool1d(x, 2, 1, return_indices=True),
        ]

    x = gx.input("x", gx.f32[BATCH, 2, time])
    run = gx.function([x], pools(x))
    for length in (3, 8, 12):
        array = rng.normal(size=(2, 2, length)).astype(np.float32)
        fixed = gx.input("x", gx.f32[2, 2, length])
        for found, wanted in zip(run(array), gx.function([fixed], pools(fixed))(array), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_layers_compute_the_functions_with_their_own_settings(rng):
    line, plane, space = (
        rng.normal(size=shape).astype(np.float32) for shape in ((3, 2, 9), (3, 2, 5, 6), (3, 2, 4, 3, 5))
    )
    inputs = [gx.input(f"x{each.ndim}", gx.f32[BATCH, *each.shape[1:]]) for each in (line, plane, space)]
    x1, x2, x3 = inputs
    pairs = [
        (nn.MaxPool1d(3, 2, 1, 2, ceil_mode=True)(x1), gx.max_pool1d(x1, 3, 2, 1, 2, True)),
        (nn.MaxPool2d((3, 2))(x2), gx.max_pool2d(x2, (3, 2))),
        (nn.MaxPool2d(2, return_indices=True)(x2)[1], gx.max_pool2d(x2, 2, return_indices=True)[1]),
        (nn.MaxPool3d(2, 1)(x3), gx.max_pool3d(x3, 2, 1)),
        (nn.AvgPool1d(3, 2, 1, True, False)(x1), gx.avg_pool1d(x1, 3, 2, 1, True, False)),
        (nn.AvgPool2d(2, divisor_override=3)(x2), gx.avg_pool2d(x2, 2, divisor_override=3)),
        (nn.AvgPool3d(2)(x3), gx.avg_pool3d(x3, 2)),
        (nn.AdaptiveAvgPool1d(4)(x1), gx.adaptive_avg_pool1d(x1, 4)),
        (nn.AdaptiveAvgPool2d((None, 4))(x2), gx.adaptive_avg_pool2d(x2, (None, 4))),
        (nn.AdaptiveAvgPool3d(1)(x3), gx.adaptive_avg_pool3d(x3, 1)),
        (nn.AdaptiveMaxPool1d(4)(x1), gx.adaptive_max_pool1d(x1, 4)),
        (nn.AdaptiveMaxPool2d(2, True)(x2)[1], gx.adaptive_max_pool2d(x2, 2, True)[1]),
        (nn.AdaptiveMaxPool3d(2)(x3), gx.adaptive_max_pool3d(x3, 2)),
    ]
    results = gx.function(inputs, [each for pair in pairs for each in pair])(line, plane, space)
    for found, wanted in zip(results[::2], results[1::2], strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_mean_over_everything_is_the_mean(rng):
    array = rng.normal(size=(3, 2, 5, 7)).astype(np.float32)
    value, gradient = value_and_gradient(nn.AdaptiveAvgPool2d(1), array)
    np.testing.assert_allclose(value[..., 0, 0], array.mean((2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, np.full_like(array, 1 / 35), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda x: gx.max_pool2d(x, 9), gx.ShapeError, "max_pool2d of f32[batch,3,8,8]: a window of 9 places"),
        (lambda x: gx.max_pool2d(x, 2, padding=2), ValueError, "padding=2 is more than half of a window of 2 places"),
        (lambda x: gx.max_pool2d(x, None), TypeError, "kernel_size=None must be a whole number"),
        (lambda x: gx.max_pool2d(x, 2, 0), ValueError, "stride=0 must be at least 1"),
        (lambda x: gx.max_pool1d(x, 2), gx.ShapeError, "max_pool1d of f32[batch,3,8,8]: it takes 3 axes, or 2"),
        (lambda x: gx.avg_pool2d(x, 2, divisor_override=0), ValueError, "divisor_override is 0; it must be a number"),
        (lambda x: gx.avg_pool2d(x, (2, 2, 2)), ValueError, "kernel_size=(2, 2, 2) has 3 numbers for 2 axes"),
        (lambda x: gx.adaptive_avg_pool2d(x, (2, 2, 2)), ValueError, "output_size=[2, 2, 2] has 3 numbers for 2 axes"),
        (lambda x: gx.adaptive_avg_pool1d(gx.input("x", gx.f32[2, "t"]), 3), gx.ShapeError, "axis 1 must be fixed"),
        (lambda x: nn.MaxPool2d(2, 1.5), TypeError, "MaxPool2d: stride=1.5 must be a whole number"),
        (lambda x: nn.AvgPool2d(2, padding=2), ValueError, "AvgPool2d: padding=2 is more than half"),
        (lambda x: nn.AdaptiveAvgPool2d(0), ValueError, "AdaptiveAvgPool2d: output_size=0 must be at least 1"),
        (lambda x: nn.AdaptiveMaxPool2d("all"), TypeError, "output_size='all' must be a whole number"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_with_both_values(make, kind, words):
    with pytest.raises(kind) as caught:
        make(gx.input("x", gx.f32[BATCH, 3, 8, 8]))
    assert words in str(caught.value).splitlines()[0]


def test_errors_of_layers_show_where_they_were_made():
    layer = nn.MaxPool2d(9)
    with pytest.raises(gx.ShapeError, match=r"MaxPool2d of .* a window of 9 places") as caught:
        layer(gx.input("x", gx.f32[BATCH, 3, 8, 8]))
    assert "layer = nn.MaxPool2d(9)" in str(caught.value)

"""Convolution layers: what they compute, their initial values, symbolic lengths, and errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.ir import ops
from graphc.ir.passes import run_passes

BATCH = gx.dim("batch", max=4)


def numbers(layer, *arrays):
    """What a layer gives for arrays whose first axis is a batch of any size."""
    types = [gx.f32[BATCH, *array.shape[1:]] for array in arrays]
    inputs = [gx.input(f"x{number}", each) for number, each in enumerate(types)]
    return gx.function(inputs, layer(*inputs))(*arrays)


def test_layers_compute_the_functions_with_their_own_settings(rng):
    line, plane, space = (
        rng.normal(size=shape).astype(np.float32) for shape in ((3, 4, 9), (3, 4, 5, 6), (3, 4, 3, 2, 4))
    )
    layers = [
        nn.Conv1d(4, 6, 3, 2, 1, 2, 2),
        nn.Conv1d(4, 6, 2, padding="same", bias=False),
        nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), 2),
        nn.Conv3d(4, 2, (2, 1, 3), padding=1),
        nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2, True, 2),
        nn.ConvTranspose2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 0), 2, False),
        nn.ConvTranspose3d(4, 2, 2, 2),
        nn.Unfold((2, 3), padding=1),
    ]
    inputs = [gx.input(f"x{each.ndim}", gx.f32[BATCH, *each.shape[1:]]) for each in (line, plane, space)]
    x1, x2, x3 = inputs
    given = [x1, x1, x2, x3, x1, x2, x3, x2]
    wanted = [
        gx.conv1d(x1, layers[0].weight, layers[0].bias, 2, 1, 2, 2),
        gx.conv1d(x1, layers[1].weight, None, padding="same"),
        gx.conv2d(x2, layers[2].weight, layers[2].bias, (2, 1), (1, 0), (1, 2), 2),
        gx.conv3d(x3, layers[3].weight, layers[3].bias, padding=1),
        gx.conv_transpose1d(x1, layers[4].weight, layers[4].bias, 2, 1, 1, 2, 2),
        gx.conv_transpose2d(x2, layers[5].weight, None, (2, 1), (1, 0), (1, 0), 2),
        gx.conv_transpose3d(x3, layers[6].weight, layers[6].bias, 2),
        gx.unfold(x2, (2, 3), 1, 1),
    ]
    found = gx.function(inputs, [*(layer(x) for layer, x in zip(layers, given, strict=True)), *wanted])
    results = found(line, plane, space)
    for layer, one, other in zip(layers, results[: len(layers)], results[len(layers) :], strict=True):
        np.testing.assert_array_equal(one, other, repr(layer))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes_pad_with_the_input_itself(mode, rng):
    x = rng.normal(size=(3, 2, 5, 4)).astype(np.float32)
    layer = nn.Conv2d(2, 3, (3, 2), padding="same", padding_mode=mode)
    numpys = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    around = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 1)), numpys)
    valid = nn.Conv2d(2, 3, (3, 2))
    valid.load_state_dict(layer.state_dict())
    np.testing.assert_allclose(numbers(layer, x), numbers(valid, around), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (nn.Conv2d, 40 * 9),
        (nn.ConvTranspose2d, 60 * 9),  # PyTorch takes axis 1 of the weight for its inputs, whatever it is
    ],
)
def test_initial_values_lie_evenly_around_zero(layer, inputs):
    gx.manual_seed(0)
    made, limit = layer(40, 60, 3), 1 / math.sqrt(inputs)
    for parameter, most in ((made.weight, 0.999), (made.bias, 0.9)):
        array = parameter.numpy()
        assert most * limit < np.abs(array).max() <= limit
        assert array.std() == pytest.approx(limit / math.sqrt(3), rel=0.2)
    assert abs(made.weight.numpy().mean()) < 0.01 * limit


def image_gradient(ct, weight, extents, padding, dilation, groups, stride=1):
    """Every product of a place under the window, added up where it belongs, in f64."""
    n, outputs, height, width = ct.shape
    _, inputs, *size = weight.shape
    found = np.zeros((n, groups * inputs, *(extent + 2 * padding for extent in extents)))
    behind = ct.reshape(n, groups, outputs // groups, height, width).astype(np.float64)
    kernel = weight.reshape(groups, outputs // groups, inputs, *size)
    for i, j in np.ndindex(*size):
        part = np.einsum("ngohw,goc->ngchw", behind, kernel[..., i, j]).reshape(n, -1, height, width)
        rows, columns = (place * dilation + stride * np.arange(extent) for place, extent in ((i, height), (j, width)))
        found[:, :, rows[:, None], columns] += part
    inside = slice(padding, -padding or None)
    return found[:, :, inside, inside]


@pytest.mark.parametrize(
    ("shape", "weight", "padding", "dilation", "groups", "is_one"),
    [
        ((3, 5, 12, 11), (6, 5, 3, 3), 1, 1, 1, True),
        ((2, 8, 20, 30), (4, 8, 3, 2), 0, 1, 1, True),
        ((2, 8, 9, 12), (6, 4, 3, 3), 2, 2, 2, True),
        ((2, 4, 8, 8), (4, 4, 3, 3), 3, 1, 1, True),
        ((2, 4, 8, 8), (4, 4, 5, 5), 0, 1, 1, False),
        ((2, 3, 12, 11), (6, 3, 3, 3), 1, 1, 1, False),
    ],
)
def test_the_gradient_of_an_image_is_one_product(shape, weight, padding, dilation, groups, is_one, rng):
    """Where steps are 1, channels not few, and nearly as many positions as places."""
    x, kernel = (rng.normal(size=each).astype(np.float32) for each in (shape, weight))
    given = [gx.input("x", gx.f32[shape]), gx.input("weight", gx.f32[weight])]
    y = gx.conv2d(*given, padding=padding, dilation=dilation, groups=groups)
    seen = rng.normal(size=y.shape).astype(np.float32)
    function = gx.function(given, gx.grad((y * seen).sum(), given[0]))
    products = [value for value in run_passes(function.traced).values() if value.op is ops.dot]
    assert [value.shape[-2] for value in products] == [shape[1] // groups * (1 if is_one else math.prod(weight[2:]))]
    wanted = image_gradient(seen, kernel, shape[2:], padding, dilation, groups)
    np.testing.assert_allclose(function(x, kernel), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "weight", "padding", "stride", "groups", "is_one"),
    [
        ((3, 8, 12, 12), (6, 8, 3, 3), 1, 2, 1, True),
        ((2, 8, 13, 11), (6, 4, 3, 3), 1, 2, 2, True),
        ((2, 5, 12, 15), (6, 5, 2, 2), 0, 2, 1, True),
        ((2, 4, 14, 14), (6, 4, 5, 5), 2, 2, 1, True),
        ((2, 4, 15, 15), (6, 4, 5, 5), 1, 3, 1, False),
        ((2, 4, 12, 16), (6, 4, 4, 4), 0, 4, 1, True),
        ((2, 4, 17, 17), (6, 4, 6, 6), 3, 4, 1, True),
        ((2, 8, 12, 12), (6, 8, 1, 1), 0, 2, 1, False),
    ],
)
def test_the_gradient_of_an_image_under_longer_steps(shape, weight, padding, stride, groups, is_one, rng):
    """Rows for every rest divided by the step, but where most of them see nothing."""
    x, kernel = (rng.normal(size=each).astype(np.float32) for each in (shape, weight))
    given = [gx.input("x", gx.f32[shape]), gx.input("weight", gx.f32[weight])]
    y = gx.conv2d(*given, padding=padding, stride=stride, groups=groups)
    seen = rng.normal(size=y.shape).astype(np.float32)
    function = gx.function(given, gx.grad((y * seen).sum(), given[0]))
    products = [value for value in run_passes(function.traced).values() if value.op is ops.dot]
    parts = stride**2 if is_one else math.prod(weight[2:])
    assert [value.shape[-2] for value in products] == [shape[1] // groups * parts]
    wanted = image_gradient(seen, kernel, shape[2:], padding, 1, groups, stride)
    np.testing.assert_allclose(function(x, kernel), wanted, rtol=1e-4, atol=1e-4)


def test_gradients_by_a_padded_image_reach_its_border(rng):
    """As one product the gradient of an image leaves out what surrounds it: not where that is asked for."""
    x, weight = gx.input("x", gx.f32[2, 4, 9, 9]), rng.normal(size=(4, 4, 3, 3)).astype(np.float32)
    padded = gx.pad(x, (1, 1, 1, 1))
    y = gx.conv2d(padded, weight)
    seen = rng.normal(size=y.shape).astype(np.float32)
    border, inside = gx.function([x], gx.grad((y * seen).sum(), [padded, x]))(np.zeros(x.shape, np.float32))
    wanted = image_gradient(seen, weight, (11, 11), 0, 1, 1)
    np.testing.assert_allclose(border, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(inside, wanted[:, :, 1:-1, 1:-1], rtol=1e-4, atol=1e-4)


def test_a_symbolic_length_is_convolved_natively(rng):
    time = gx.dim("time", max=12)
    layer = nn.Conv1d(3, 4, 3, padding=1)
    x = gx.input("x", gx.f32[BATCH, 3, time])
    value = layer(x)
    run = gx.function([x], [value, gx.grad((value * value).sum(), layer.weight)])
    for length in (1, 7, 12):
        array = rng.normal(size=(2, 3, length)).astype(np.float32)
        fixed = gx.input("x", gx.f32[2, 3, length])
        again = layer(fixed)
        meant = gx.function([fixed], [again, gx.grad((again * again).sum(), layer.weight)])(array)
        for found, wanted in zip(run(array), meant, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_an_output_size_in_place_of_output_padding(rng):
    x = rng.normal(size=(3, 2, 4)).astype(np.float32)
    layer = nn.ConvTranspose1d(2, 3, 3, 2)
    wider = nn.ConvTranspose1d(2, 3, 3, 2, output_padding=1)
    wider.load_state_dict(layer.state_dict())
    found = numbers(lambda each: layer(each, output_size=(10,)), x)
    assert found.shape == (3, 3, 10)
    np.testing.assert_array_equal(found, numbers(wider, x))
    with pytest.raises(gx.ShapeError, match="output_size=11 of 4 places is not one of 2 sizes from 9"):
        layer(gx.input("x", gx.f32[BATCH, 2, 4]), output_size=[11])


def test_integers_are_converted_and_f64_stays(rng):
    weight = gx.Parameter(rng.normal(size=(2, 3, 2)), dtype=gx.f64)
    assert gx.conv1d(gx.input("x", gx.i64[BATCH, 3, 5]), weight).dtype.name == "f64"
    assert nn.Conv1d(3, 2, 2)(gx.input("x", gx.u8[BATCH, 3, 5])).dtype.name == "f32"


WEIGHT = np.zeros((4, 3, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda x: gx.conv2d(x, WEIGHT[0]), gx.ShapeError, "f32[3,3,3]: the weight is [out, in / groups, ...], 4"),
        (lambda x: gx.conv2d(x, WEIGHT[:, :2]), gx.ShapeError, "x has 3 channels, the weight is for 2"),
        (lambda x: gx.conv2d(x, WEIGHT, groups=2), gx.ShapeError, "x has 3 channels, the weight is for 6"),
        (lambda x: gx.conv2d(x, WEIGHT[:, :1], groups=3), ValueError, "groups=3 does not divide 3 and 4 channels"),
        (lambda x: gx.conv2d(x, WEIGHT, groups=0), ValueError, "conv2d: groups=0 must be at least 1"),
        (lambda x: gx.conv2d(x, WEIGHT, WEIGHT[0, 0, 0]), gx.ShapeError, "bias is f32[3], the result has 4 channels"),
        (lambda x: gx.conv2d(x.sum(), WEIGHT), gx.ShapeError, "conv2d of f32[]: it takes 4 axes"),
        (lambda x: gx.conv2d(x, np.zeros((4, 3, 9, 1))), gx.ShapeError, "9 places is longer than axis 2, which is 8"),
        (lambda x: gx.conv2d(x, WEIGHT, dilation=(1, 4)), gx.ShapeError, "9 places is longer than axis 3, which is 8"),
        (lambda x: gx.conv2d(x, WEIGHT, stride=(1, 2, 3)), ValueError, "stride=(1, 2, 3) has 3 numbers for 2 axes"),
        (lambda x: gx.conv2d(x, WEIGHT, stride=1.5), TypeError, "stride=1.5 must be a whole number"),
        (lambda x: gx.conv2d(x, WEIGHT, padding=-1), ValueError, "padding=-1 must be at least 0"),
        (lambda x: gx.conv2d(x, WEIGHT, padding="full"), ValueError, "padding='full' is not a choice"),
        (lambda x: gx.conv2d(x, WEIGHT, None, 2, "same"), ValueError, 'padding="same" goes with stride 1'),
        (lambda x: gx.conv1d(gx.input("x", gx.f32[2, 3, "time"]), WEIGHT[0], stride=2), gx.ShapeError, "a fixed size"),
        (lambda x: gx.conv_transpose2d(x, WEIGHT[:3], None, 2, 0, 2), ValueError, "output_padding=2 must be below"),
        (lambda x: gx.conv_transpose2d(x, WEIGHT[:3], None, 1, 9), gx.ShapeError, "padding=9 leaves nothing of axis 2"),
        (lambda x: gx.conv_transpose2d(x, WEIGHT), gx.ShapeError, "x has 3 channels, the weight is for 4"),
        (lambda x: gx.unfold(x, 9), gx.ShapeError, "unfold of f32[batch,3,8,8]: a window of 9 places is longer"),
        (lambda x: gx.fold(x.sum(3), 4, 2), gx.ShapeError, "over [4, 4] are [n, channels * 4, 9]"),
        (lambda x: nn.Conv2d(3, 8, 0), ValueError, "Conv2d: kernel_size=0 must be at least 1"),
        (lambda x: nn.Conv2d(3, 8, 3, groups=2), ValueError, "Conv2d: groups=2 does not divide 3 and 8 channels"),
        (lambda x: nn.Conv2d(3, 8, 3, padding_mode="zero"), ValueError, "padding_mode is 'zero'; it must be one of"),
        (lambda x: nn.ConvTranspose2d(3, 8, 3, padding_mode="reflect"), ValueError, "it must be one of 'zeros'"),
        (lambda x: nn.Conv2d(3.0, 8, 3), TypeError, "Conv2d: in_channels is 3.0; it must be a whole"),
        (lambda x: nn.Fold((4, 0), 2), ValueError, "Fold: output_size=(4, 0) must be at least 1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_with_both_values(make, kind, words):
    with pytest.raises(kind) as caught:
        make(gx.input("x", gx.f32[BATCH, 3, 8, 8]))
    lines = str(caught.value).splitlines()
    assert words in lines[0]
    assert len(lines) <= 8


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.Conv2d(4, 8, 3), "Conv2d(4 -> 8) got an input of 3 channels"),
        (nn.Conv1d(3, 8, 3), "Conv1d(3 -> 8) got an input of 4 axes; it takes 3, or 2 without a batch"),
        (nn.Conv2d(3, 8, 9), "Conv2d of f32[batch,3,8,8]: a window of 9 places is longer than axis 2"),
        (nn.ConvTranspose2d(2, 8, 9), "ConvTranspose2d(2 -> 8) got an input of 3 channels"),
    ],
)
def test_errors_of_layers_show_where_they_were_made(layer, words):
    with pytest.raises(gx.ShapeError) as caught:
        layer(gx.input("x", gx.f32[BATCH, 3, 8, 8]))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(words)
    assert any(line.startswith("  declared in") and "test_convolution.py" in line for line in lines)

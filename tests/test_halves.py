"""Gradients as one array, and their application: together what a training step does, also in a library."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from refusals import check_refusal

import graphc as gx
from graphc import nn, optim

BATCH = gx.dim("batch", max=16)
KINDS = {"x": gx.f32[BATCH, 6], "y": gx.i64[BATCH]}


def model(optimizer=optim.Adam):
    gx.manual_seed(4)
    net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))
    return net, optimizer(net.parameters(), lr=0.1)


@pytest.fixture
def arrays(rng):
    return rng.standard_normal((16, 6), np.float32), rng.integers(0, 3, 16)


@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam])
def test_both_halves_do_what_a_step_does(optimizer, arrays):
    whole, both = model(optimizer), model(optimizer)
    step = gx.train_step(whole[0], nn.CrossEntropyLoss(), whole[1], **KINDS, metrics=["accuracy"])
    gradients = gx.gradient_step(both[0], nn.CrossEntropyLoss(), **KINDS, metrics=["accuracy"])
    apply = gx.apply_step(both[1])
    for _ in range(3):
        expected, found = step(*arrays), gradients(*arrays)
        assert (found.loss, found.accuracy) == (expected.loss, expected.accuracy)
        assert apply(found.gradients) is None
    for name, array in both[0].state_dict().items():
        np.testing.assert_allclose(array, whole[0].state_dict()[name], 1e-5, 1e-6)


def test_the_mean_of_two_halves_of_a_batch_is_the_gradient_of_the_batch(arrays):
    net = nn.Linear(6, 3)
    gradients = gx.gradient_step(net, nn.CrossEntropyLoss(), **KINDS)
    x, y = arrays
    parts = [gradients(x[part::2], y[part::2]).gradients for part in range(2)]
    np.testing.assert_allclose(np.mean(parts, 0), gradients(x, y).gradients, 1e-5, 1e-6)


def test_gradients_come_in_the_order_of_the_parameters(arrays):
    net = nn.Linear(6, 3)
    net.spare = nn.Parameter(np.ones(2, np.float32))  # which the loss does not depend on
    found = gx.gradient_step(net, nn.CrossEntropyLoss(), **KINDS)(*arrays).gradients
    sizes = [each.numpy().size for each in net.parameters()]
    named = dict(zip((name for name, _ in net.named_parameters()), np.split(found, np.cumsum(sizes)[:-1]), strict=True))
    assert (named["spare"] == 0).all()
    assert abs(named["bias"].sum()) < 1e-6 and abs(named["bias"]).max() > 1e-3


def test_a_library_of_both_halves_does_the_same(arrays, tmp_path):
    net, optimizer = model()
    functions = {"slope": gx.gradient_step(net, nn.CrossEntropyLoss(), **KINDS), "move": gx.apply_step(optimizer)}
    made = gx.export(functions, tmp_path / "halves")
    spec = importlib.util.spec_from_file_location("halves", made.folder / "halves.py")
    library = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(library)
    copy = library.Model(seed=4)
    for _ in range(3):
        (told, slopes), found = copy.slope(*arrays), functions["slope"](*arrays)
        np.testing.assert_array_equal(slopes, found.gradients)
        assert told.loss == found.loss
        copy.move(slopes)
        functions["move"](found.gradients)
    assert copy.state_hash() == made.state_hash()
    flat = np.empty(library.MANIFEST["parameters"], np.float32)
    pointers = (array.ctypes.data_as(library.POINTER) for array in (copy.state, flat))
    library.check(library.library("get_parameters")(*pointers))
    np.testing.assert_array_equal(flat, np.concatenate([each.numpy().ravel() for each in net.parameters()]))


def test_parameters_of_two_dtypes_have_no_flat_array():
    net = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3, dtype=gx.f64))
    check_refusal(lambda: gx.apply_step(optim.SGD(net.parameters(), lr=0.1)), "one dtype, these have f32, f64")
    check_refusal(lambda: gx.apply_step(net), "optimizer")

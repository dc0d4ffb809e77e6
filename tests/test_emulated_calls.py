"""--emulate-cuda: calls that are compared with those of the kernels for GPUs, and what is found when they differ."""

from __future__ import annotations

import emulated_calls
import numpy as np
import pytest

import graphc as gx

BATCH = gx.dim("batch", max=8)


@pytest.fixture
def step():
    w = gx.parameter("w", np.ones((3, 2)))
    x = gx.input("x", gx.f32[BATCH, 3])
    loss = ((x @ w) ** 2).mean()
    (slope,) = gx.grad(loss, [w])
    return gx.function([x], {"loss": loss, "rows": x.sum(1)}, updates={w: w - 0.1 * slope})


def test_a_call_is_done_twice_and_counts_once(step, rng):
    x = rng.normal(size=(5, 3)).astype(np.float32)
    copy = {name: parameter.numpy() for name, parameter in step.parameters.items()}
    found = emulated_calls.run_twice(step, (x,))
    assert np.allclose(found[1], x.sum(1), rtol=1e-5)
    slope = 2 * x.T @ (x @ copy["w"]) / 10
    assert np.allclose(step.parameters["w"].numpy(), copy["w"] - 0.1 * slope, rtol=1e-5)


@pytest.mark.parametrize("block", ["results", "state"])
def test_other_numbers_are_found(step, rng, block, monkeypatch):
    emulator = emulated_calls.emulator_of(step)
    given = type(emulator).get

    def get(self, name, extents):
        return {key: array + (name == block) for key, array in given(self, name, extents).items()}

    monkeypatch.setattr(type(emulator), "get", get)
    with pytest.raises(AssertionError, match="by the kernels for GPUs"):
        emulated_calls.run_twice(step, (rng.normal(size=(5, 3)).astype(np.float32),))


def test_numbers_that_are_not_finite_are_told_apart():
    emulated_calls.check_close("x", np.float32([1, np.inf]), np.float32([1, np.inf]))
    with pytest.raises(AssertionError):
        emulated_calls.check_close("x", np.float32([1, np.nan]), np.float32([1, 2]))
    with pytest.raises(AssertionError):
        emulated_calls.check_close("x", np.int64([1, 2]), np.int64([1, 3]))

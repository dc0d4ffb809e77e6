"""Clipping of gradients and parameters as vectors, against PyTorch's stored numbers."""

from pathlib import Path

import numpy as np
import pytest
from refusals import check_refusal

import graphc as gx
from graphc import nn, optim

with np.load(Path(__file__).parent / "golden" / "torch_optim.npz") as stored:
    NUMBERS = {
        name: stored[name] for name in stored if name.split()[0] in ("gradient", "1.0", "2.0", "3.5", "inf", "value")
    }

GRADIENTS = [NUMBERS["gradient 0"], NUMBERS["gradient 1"]]


def zeros(dtype, name=""):
    return [gx.Parameter(np.zeros(gradient.shape), f"{name}_{n}", dtype=dtype) for n, gradient in enumerate(GRADIENTS)]


@pytest.mark.parametrize(("dtype", "rtol"), [(gx.f32, 1e-5), (gx.f64, 1e-10)], ids=["f32", "f64"])
def test_clipped_gradients_are_those_of_pytorch(dtype, rtol):
    """SGD from 0 with the rate 1 leaves minus the gradients in the parameters."""
    kinds = ["1.0", "2.0", "3.5", "inf", "value"]
    parameters = {kind: zeros(dtype, kind) for kind in kinds}
    optimizer = optim.SGD([each for pair in parameters.values() for each in pair], lr=1.0)

    @gx.step
    def step(a: dtype[4, 3], b: dtype[5]):
        norms = {}
        for kind, (first, second) in parameters.items():
            ((first * a).sum() + (second * b).sum()).backward()
            if kind == "value":
                nn.utils.clip_grad_value_([first, second], 0.5)
            else:
                norms[f"p{kind[0]}"] = nn.utils.clip_grad_norm_([first, second], 2.0, float(kind))
            first.grad.zero_()
        optimizer.step()
        return norms

    norms = step(*(gradient.astype(dtype.numpy) for gradient in GRADIENTS))
    np.testing.assert_allclose(list(norms), [NUMBERS[f"{kind} norm"] for kind in kinds[:-1]], rtol)
    for kind, pair in parameters.items():
        for number, parameter in enumerate(pair):
            np.testing.assert_allclose(-parameter.numpy(), NUMBERS[f"{kind} {number}"], rtol, err_msg=kind)


def test_what_is_within_bounds_stays():
    w, idle = gx.Parameter(np.zeros(2, np.float32)), gx.Parameter(np.zeros(3, np.float32))
    bound = gx.scalar("bound", 10.0)

    @gx.step
    def step(slope: gx.f32[2]):
        (w * slope).sum().backward()
        norm = nn.utils.clip_grad_norm_([w, idle], bound)
        nn.utils.clip_grad_value_(w, 4.0)
        return {"norm": norm, "gradient": w.grad}

    slope = np.array([3.0, -4.0], np.float32)
    found = step(slope)
    assert found.norm == 5
    np.testing.assert_array_equal(found.gradient, slope)
    step.set(bound=2.5)  # at run time
    np.testing.assert_allclose(step(slope).gradient, slope / 2, rtol=1e-6)
    assert step(np.zeros(2, np.float32)).norm == 0
    huge = step(np.array([3e18, 4e18], np.float32))
    np.testing.assert_allclose(huge.gradient, [1.5, 2.0], rtol=1e-6)
    assert huge.norm == pytest.approx(5e18)


def test_train_step_clips():
    """A step of SGD is as long as the rate times the bound."""
    net = nn.Linear(3, 2)
    before = nn.utils.parameters_to_vector(net.parameters())
    optimizer = optim.SGD(net.parameters(), lr=0.5)
    step = gx.train_step(net, nn.MSELoss(), optimizer, x=gx.f32[4, 3], y=gx.f32[4, 2], max_grad_norm=0.01)
    step(np.ones((4, 3), np.float32), np.full((4, 2), 100, np.float32))
    moved = nn.utils.parameters_to_vector(net.parameters()) - before
    assert np.linalg.norm(moved) == pytest.approx(0.005, rel=1e-3)


def test_parameters_as_one_vector():
    net = nn.Linear(3, 2)
    vector = nn.utils.parameters_to_vector(net.parameters())
    np.testing.assert_array_equal(vector, [*net.weight.numpy().reshape(-1), *net.bias.numpy()])
    nn.utils.vector_to_parameters(np.arange(8), net.parameters())
    np.testing.assert_array_equal(net.weight.numpy(), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(net.bias.numpy(), [6, 7])
    with pytest.raises(gx.ShapeError, match=r"the vector has shape \[9\], the parameters hold 8 numbers"):
        nn.utils.vector_to_parameters(np.zeros(9), net.parameters())
    assert net.bias.numpy()[0] == 6


@pytest.mark.parametrize(
    ("clip", "error", "message"),
    [
        (lambda w: nn.utils.clip_grad_norm_(w, -1.0), gx.ArgumentError, "max_norm is -1.0; it must be a number of at"),
        (lambda w: nn.utils.clip_grad_norm_(w, np.nan), gx.ArgumentError, "max_norm is nan"),
        (lambda w: nn.utils.clip_grad_norm_(w, w), gx.ArgumentError, "max_norm is Parameter"),
        (lambda w: nn.utils.clip_grad_norm_(w, 1.0, 0), gx.ArgumentError, "norm_type is 0; it must be a number above"),
        (lambda w: nn.utils.clip_grad_value_(w, -1), gx.ArgumentError, "clip_value is -1; it must be a number of at"),
        (lambda w: nn.utils.clip_grad_value_(w, "1"), gx.ArgumentError, "clip_value is '1'; it must be a number of at"),
        (lambda w: nn.utils.clip_grad_norm_(5, 1.0), gx.ArgumentError, "parameters is 5; it must be a list of para"),
        (lambda w: nn.utils.clip_grad_norm_([w, 5], 1.0), gx.ArgumentError, "one of the parameters is 5; it must be"),
        (lambda w: nn.utils.get_total_norm(["a"]), gx.DTypeError, "'a'"),
        (lambda w: nn.utils.parameters_to_vector([]), gx.ArgumentError, "parameters is []; it must be a list of para"),
        (
            lambda w: nn.utils.clip_grad_norm_(w, 1.0, error_if_nonfinite=True),
            gx.TraceError,
            "error_if_nonfinite=True: a traced step cannot stop halfway",
        ),
        (
            lambda w: nn.utils.clip_grad_norm_(gx.Parameter([1.0]), 1.0),
            gx.GradientError,
            "found no gradient for any of 1",
        ),
        (lambda w: nn.utils.clip_grad_value_([], 1.0), gx.ArgumentError, "parameters is []; it must be a list of para"),
    ],
)
def test_wrong_bounds(clip, error, message):
    w = gx.Parameter(np.zeros(2, np.float32))

    @gx.step
    def step(slope: gx.f32[2]):
        (w * slope).sum().backward()
        check_refusal(clip, message, w, kind=error)
        return slope


def test_clipping_outside_of_a_step():
    with pytest.raises(gx.TraceError, match="outside of a traced step"):
        nn.utils.clip_grad_norm_([gx.Parameter([1.0])], 1.0)

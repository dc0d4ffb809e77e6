"""What other files leave out gives PyTorch's values and gradients, natively and by the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import remaining_cases
from calls import gradient
from cotangents import rising

import graphc as gx
from graphc import functional as F
from graphc import nn
from graphc.backends import reference

with np.load(Path(__file__).parent / "golden" / "torch_remaining.npz") as stored:
    TORCH = dict(stored)
KINDS = {"f32": gx.f32, "f64": gx.f64}
OTHERS = {np.dtype(np.int64): gx.i64, np.dtype(bool): gx.bool_}
CLOSE = {"f32": 1e-5, "f64": 1e-10}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("subject", remaining_cases.CASES)
def test_value_and_gradients_are_pytorchs(subject, kind):
    calls = remaining_cases.CASES[subject]
    arrays = {
        name: array.astype(KINDS[kind].numpy) if array.dtype == np.float32 else array
        for name, array in remaining_cases.operands().items()
    }
    given = {name: gx.input(name, OTHERS.get(array.dtype, KINDS[kind])[array.shape]) for name, array in arrays.items()}
    results = {f"{call}|{n}": part for call in calls for n, part in enumerate(parts(call, given, KINDS[kind]))}
    compiled = gx.function(list(given.values()), results)
    native = dict(zip(results, compiled.run(list(arrays.values())), strict=True))
    constants = {name: parameter.numpy() for name, parameter in compiled.parameters.items()}
    meant = reference.run(compiled.artifact.program.graph, arrays | constants)
    for call in calls:
        places = [name for name in results if name.rpartition("|")[0] == call]
        size = max(1.0, np.abs(TORCH[call]).max(initial=0))
        for way, found in (("native", native), ("reference", meant)):
            got = np.concatenate([np.ravel(found[place]).astype(np.float64) for place in places])
            np.testing.assert_allclose(got, TORCH[call], CLOSE[kind], CLOSE[kind] * size, err_msg=f"{call}, {way}")


def parts(call, given, kind):
    """The value of a call and, if it has gradients, those of the operands it names and of its layer's parameters."""
    wanted = [given[name] for name in remaining_cases.named(call)]

    def filled(layer):
        layer.to(kind)
        parameters = dict(layer.named_parameters())
        arrays = [remaining_cases.numbers(each.shape, place) for place, each in enumerate(parameters.values())]
        layer.load_state_dict(dict(zip(parameters, arrays, strict=True)))
        wanted.extend(parameters.values())
        return layer

    value = eval(call, {"torch": gx, "F": F, "nn": nn, "filled": filled, **given})
    if len(TORCH[call]) == value.numel():
        return [value]
    loss = (value * rising(value.shape)).sum()
    return [value, *(gradient(loss, each) for each in wanted)]


def test_numbers_known_outside_of_a_step():
    assert gx.arange(4).sum().item() == 6
    assert gx.ones(2, 3).mean(0).tolist() == [1, 1, 1]


def test_gradients_are_scaled_by_a_norm_found_before():
    """The two halves of clip_grad_norm_, called one after the other, against its numbers from PyTorch."""
    with np.load(Path(__file__).parent / "golden" / "torch_optim.npz") as stored:
        slopes, clipped = ([stored[f"{kind} {place}"] for place in (0, 1)] for kind in ("gradient", "2.0"))
    parameters = [gx.Parameter(np.zeros(slope.shape), f"p{place}", dtype=gx.f64) for place, slope in enumerate(slopes)]

    @gx.step
    def step(a: gx.f64[4, 3], b: gx.f64[5]):
        ((parameters[0] * a).sum() + (parameters[1] * b).sum()).backward()
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters])
        nn.utils.clip_grads_with_norm_(parameters, 2.0, norm)
        return [parameter.grad for parameter in parameters]

    for found, wanted in zip(step(*slopes), clipped, strict=True):
        np.testing.assert_allclose(found, wanted, 1e-10)


def test_modules_list_their_buffers_and_tell_their_settings():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    assert [buffer.shape for buffer in net.buffers()] == [(3,), (3,), ()]
    assert net[1].extra_repr() == "in_features=3, out_features=2, bias=True"


def test_results_are_of_the_dtype_that_is_named():
    x = gx.input("x", gx.f32[2, 3])
    shares = [gx.softmax(x, 1, gx.f64), gx.log_softmax(x, 1, gx.f64), F.softmin(x, 1, gx.f64)]
    results = [*shares, x.norm(2, 1, False, gx.f64)]
    array = np.float32([[1, 2, 3], [4, 4, 4]])
    found = gx.function([x], results)(array)
    assert all(each.dtype == np.float64 for each in found)
    np.testing.assert_allclose(found[3], np.linalg.norm(array.astype(np.float64), axis=1), 1e-12)
    order = gx.function([], gx.randperm(5, dtype=gx.i32))()
    assert order.dtype == np.int32 and sorted(order) == [0, 1, 2, 3, 4]


def test_error_of_a_norm_that_is_not_finite_is_a_matter_of_the_step():
    with pytest.raises(gx.TraceError, match='nan="raise"'):
        nn.utils.get_total_norm([gx.ones(2)], error_if_nonfinite=True)

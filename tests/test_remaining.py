"""What other files leave out gives PyTorch's values and gradients, natively and by the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import remaining_cases

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
        state = {name: remaining_cases.numbers(each.shape, place) for place, (name, each) in enumerate(parameters.items())}
        layer.load_state_dict(state)
        wanted.extend(parameters.values())
        return layer

    value = eval(call, {"torch": gx, "F": F, "nn": nn, "filled": filled, **given})
    if len(TORCH[call]) == value.numel():
        return [value]
    loss = (value * remaining_cases.cotangent(value.shape)).sum()
    found = [value]
    for each in wanted:
        try:
            found.append(gx.grad(loss, each))
        except gx.GradientError:  # it only gives its shape
            found.append(gx.zeros_like(each))
    return found

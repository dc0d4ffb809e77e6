"""Products, parts, joins and orders give PyTorch's values and gradients, natively and by the reference."""

from __future__ import annotations

from pathlib import Path

import indexing_cases
import numpy as np
import pytest
from calls import gradient
from cotangents import rising

import graphc as gx
from graphc import functional as F
from graphc.backends import reference

with np.load(Path(__file__).parent / "golden" / "torch_indexing.npz") as stored:
    TORCH = dict(stored)
KINDS = {"f32": gx.f32, "f64": gx.f64}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("subject", indexing_cases.CASES)
def test_value_and_gradients_are_pytorchs(subject, kind):
    calls = indexing_cases.CASES[subject]
    arrays = {name: array.astype(KINDS[kind].numpy) for name, array in indexing_cases.operands().items()}
    arrays |= indexing_cases.INDICES
    kinds = {np.dtype(np.int64): gx.i64}
    given = {name: gx.input(name, kinds.get(array.dtype, KINDS[kind])[array.shape]) for name, array in arrays.items()}
    results = {f"{call}|{n}": part for call in calls for n, part in enumerate(parts(call, given))}
    compiled = gx.function(list(given.values()), results)
    native = dict(zip(results, compiled.run(list(arrays.values())), strict=True))
    constants = {name: parameter.numpy() for name, parameter in compiled.parameters.items()}
    meant = reference.run(compiled.artifact.program.graph, arrays | constants)
    close = {"f32": 1e-5, "f64": 1e-10}[kind]
    for call in calls:
        for way, found in (("native", native), ("reference", meant)):
            places = range(1 + len(indexing_cases.named(call)))
            got = np.concatenate([found[f"{call}|{n}"].ravel() for n in places])
            np.testing.assert_allclose(got, TORCH[f"{subject}|{call}"], close, close, err_msg=f"{call}, {way}")


def parts(call, given):
    """The value of a call and its gradients with respect to the operands it names."""
    value = eval(call, {"torch": gx, "F": F, **given})
    loss = (value * rising(value.shape)).sum()
    return [value, *(gradient(loss, given[name]) for name in indexing_cases.named(call))]

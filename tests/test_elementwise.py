"""Functions of one element at a time: NumPy's values for all dtypes, PyTorch's numbers, corners, wrong arguments."""

from __future__ import annotations

from pathlib import Path

import elementwise_cases
import numpy as np
import pytest
from calls import INPUTS, check_slopes, compare, graph_of, inputs, interpret, run

import graphc as gx
from graphc import functional as F

with np.load(Path(__file__).parent / "golden" / "torch_elementwise.npz") as stored:
    TORCH = dict(stored)


# -- PyTorch's numbers

ROUGH = {"F.hardsigmoid(a)"}  # whose slope is 1/6 rounded to f32 in PyTorch even for f64


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("group", elementwise_cases.CASES)
def test_value_and_gradient_are_pytorchs(group, dtype):
    arrays = [array.astype(gx.f32.numpy if dtype == "f32" else gx.f64.numpy) for array in elementwise_cases.operands(group)]
    calls = elementwise_cases.CASES[group]

    def parts(call):
        def value(*given):
            return eval(call, {"torch": gx, "F": F, **dict(zip("ab", given))})

        def slope(number):
            def gradient(*given):
                result = value(*given)
                loss = (result * elementwise_cases.cotangent(result.shape).astype(arrays[0].dtype)).sum()
                return depends(loss, given[number])

            return gradient

        return {f"{call}|value": value} | {f"{call}|{name}": slope(n) for n, name in enumerate(INPUTS[: len(arrays)])}

    found = run({name: function for call in calls for name, function in parts(call).items()}, *arrays)
    for call in calls:
        wanted = TORCH[f"{group}|{call}"]
        for way in (0, 1):
            got = [found[f"{call}|{part}"][way].ravel() for part in ("value", *INPUTS[: len(arrays)])]
            close = 1e-5 if dtype == "f32" else 1e-10 if call not in ROUGH else 1e-7
            np.testing.assert_allclose(np.concatenate(got), wanted, close, close, err_msg=f"{call}, {('native', 'reference')[way]}")


def depends(loss, wrt):
    """The gradient, or zeros where there is no way to one."""
    try:
        return gx.grad(loss, wrt)
    except gx.GradientError:
        return F.zeros_like(wrt)

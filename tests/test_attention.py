"""Attention and transformer layers against PyTorch's numbers: results, gradients, state; natively and by reference."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from attention_cases import GROUPS, INPUTS, MASKS, SIZES, names_in

import graphc as gx
from graphc import functional as F
from graphc import nn
from graphc.backends import reference
from graphc.errors import DTypeError, ShapeError
from graphc.ir.passes import run_passes

STORED = dict(np.load(Path(__file__).parent / "golden" / "torch_attention.npz"))
KINDS = {"f32": gx.f32, "f64": gx.f64}
TOLERANCES = {"f32": 1e-5, "f64": 1e-10}
DIMS = {name: gx.dim(name, max=8) for name in SIZES}


def stored(start):
    return {key.removeprefix(start): array for key, array in STORED.items() if key.startswith(start)}


def made(group, number, kind):
    """The layer of a case with its stored state, or None."""
    call = GROUPS[group][number][0]
    if call is None:
        return None
    layer = eval(call, {"F": F, **vars(nn)})
    state = stored(f"{group}|{number}|state ")
    assert list(layer.state_dict()) == list(state)
    layer.load_state_dict(state)
    return layer.to(KINDS[kind])


def cotangent(value):
    """The weights of a result's elements in the stored gradients."""
    places = gx.arange(value.numel(), dtype=gx.f64).reshape(value.shape)
    return (1 + 0.5 * gx.cos(places)).astype(value.dtype)


def numbers(name, kind):
    array = STORED[name]
    return array if array.dtype == bool else array.astype(KINDS[kind].numpy)


def type_of(name, kind, symbolic):
    """An input's type: every size symbolic, or the batch alone."""
    dtype = gx.bool_ if STORED[name].dtype == bool else KINDS[kind]
    known = DIMS if symbolic else SIZES | {"batch": DIMS["batch"]}
    named = {name: gx.f32[dim].shape[0] for name, dim in known.items()}
    return dtype[tuple(extent_of(extent, named) for extent in (INPUTS | MASKS)[name])]


def extent_of(extent, named):
    if not isinstance(extent, str):
        return extent
    factor, _, name = extent.rpartition("*")
    return gx.zeros(named[name]).shape[0] * int(factor) if factor else named[name]


class Compared:
    """All cases of a group in one compiled step that returns every result and every gradient."""

    def __init__(self, group, kind, symbolic):
        self.kind, self.labels = kind, []
        cases = [(expression, made(group, number, kind)) for number, (_, expression) in enumerate(GROUPS[group])]
        self.names = [name for name in INPUTS | MASKS if any(names_in(each, {name: ()}) for each, _ in cases)]

        def body(*tensors):
            given = dict(zip(self.names, tensors, strict=True))
            return [
                result
                for number, (expression, layer) in enumerate(cases)
                for result in self.results(f"{group}|{number}", expression, layer, given)
            ]

        types = {name: type_of(name, kind, symbolic) for name in self.names}
        arguments = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in types]
        body.__signature__, body.__annotations__ = inspect.Signature(arguments), types
        self.step = gx.step(body)

    def results(self, case, expression, layer, given):
        values = eval(expression, {"F": F, "layer": layer, **given})
        values = [each for each in (values if isinstance(values, tuple) else (values,)) if each is not None]
        wanted = {name: given[name] for name in names_in(expression, INPUTS)}
        wanted |= dict(layer.named_parameters()) if layer is not None else {}
        self.labels += [f"{case}|value {number}" for number in range(len(values))]
        self.labels += [f"{case}|gradient {name}" for name in wanted]
        total = sum((value * cotangent(value)).sum() for value in values)
        return [*values, *gx.grad(total, list(wanted.values()))]

    def arrays(self):
        return [numbers(name, self.kind) for name in self.names]

    def known(self):
        """The same and the parameters, by name."""
        held = {name: parameter.numpy() for name, parameter in self.step.parameters.items()}
        return held | dict(zip(self.names, self.arrays(), strict=True))

    def check(self, found, label):
        wanted, tolerance = STORED[label], TOLERANCES[self.kind]
        assert found.shape == wanted.shape, label
        size = max(np.abs(wanted).max(), 1.0)  # sums that cancel are as wrong as their parts
        np.testing.assert_allclose(found, wanted, tolerance, tolerance * size, err_msg=label)


@pytest.mark.parametrize(("kind", "symbolic"), [("f32", False), ("f64", True)])
@pytest.mark.parametrize("group", GROUPS)
def test_numbers_are_pytorchs(group, kind, symbolic):
    compared = Compared(group, kind, symbolic)
    meant = reference.run(run_passes(compared.step.traced), compared.known())
    for number, (found, label) in enumerate(zip(compared.step(*compared.arrays()), compared.labels, strict=True)):
        compared.check(found, label)
        compared.check(meant[f"result_{number}"], label)

"""Convolutions and pools against PyTorch: numbers, gradients, indices, layers; f32, f64, native code and reference."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import window_cases
from cotangents import waving

import graphc as gx
from graphc import nn
from graphc.backends import reference
from graphc.ir.passes import run_passes

STORED = dict(np.load(Path(__file__).parent / "golden" / "torch_windows.npz"))
KINDS = {"f32": gx.f32, "f64": gx.f64}
TOLERANCES = {"f32": 1e-5, "f64": 1e-10}
BATCH = gx.dim("batch", max=window_cases.ROWS)


def assert_close(found, wanted, kind, place):
    """As near as numbers of that kind can be, measured by the largest."""
    assert found.shape == wanted.shape, place
    tolerance = TOLERANCES[kind]
    np.testing.assert_allclose(found, wanted, tolerance, tolerance * max(np.abs(wanted).max(), 1), err_msg=place)


def step_of(types, results):
    """A compiled step from inputs of those types, by name, to the list that results(inputs by name) gives."""

    def body(*tensors):
        return results(dict(zip(types, tensors, strict=True)))

    arguments = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in types]
    body.__signature__, body.__annotations__ = inspect.Signature(arguments), types
    return gx.step(body)


def name_of(shape):
    return f"x_{'_'.join(map(str, shape))}"


class Compared:
    """A group of cases in one compiled step that returns every result and every gradient."""

    def __init__(self, cases, kind):
        self.cases, self.kind = cases, kind
        self.samples = {name_of(shape): shape for _, shape, *_ in cases.values()}
        self.labels = []
        types = {name: KINDS[kind][BATCH, *shape] for name, shape in self.samples.items()}
        for number, case in enumerate(cases):
            many, one = (STORED[f"{case}|{batch}|value"].shape for batch in (0, 1))
            types[f"weights_{number}"] = KINDS[kind][many if many == one else (BATCH, *one[1:])]
        self.step = step_of(types, self.results)

    def results(self, given):
        return [each for number, case in enumerate(self.cases) for each in self.result(case, number, given)]

    def result(self, case, number, given):
        call, shape, *shapes = self.cases[case]
        operands = {"x": given[name_of(shape)]}
        for name, extents in zip("wb", shapes, strict=True):
            if extents is not None:
                operands[name] = gx.Parameter(STORED[f"{name} {extents}"], f"{name}{number}", dtype=KINDS[self.kind])
        value = eval(call, vars(gx) | operands)
        self.labels += [f"{case}|{{}}|value", *(f"{case}|{{}}|gradient {name}" for name in operands)]
        return [value, *gx.grad((value * given[f"weights_{number}"]).sum(), list(operands.values()))]

    def arrays(self, batch):
        rows = window_cases.BATCHES[batch]
        found = [STORED[f"x {shape}"][rows] for shape in self.samples.values()]
        found += [waving(STORED[f"{case}|{batch}|value"].shape) for case in self.cases]
        return [array.astype(KINDS[self.kind].numpy) for array in found]

    def check(self, batch):
        for place, found in zip(self.labels, self.step(*self.arrays(batch)), strict=True):
            assert_close(found, STORED[place.format(batch)], self.kind, place)

    def check_reference(self, batch):
        arrays = self.arrays(batch)
        held = {name: parameter.numpy() for name, parameter in self.step.parameters.items()}
        given = {value.attrs["name"]: array for value, array in zip(self.step.inputs, arrays, strict=True)}
        meant = reference.run(run_passes(self.step.traced), given | held)
        for number, (place, found) in enumerate(zip(self.labels, self.step(*arrays), strict=True)):
            assert_close(found, meant[f"result_{number}"], self.kind, place)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", window_cases.GROUPS)
def test_numbers_are_pytorchs(group, kind):
    compared = Compared(window_cases.GROUPS[group], kind)
    for batch in range(len(window_cases.BATCHES)):
        compared.check(batch)
    compared.check_reference(0)


def test_indices_are_pytorchs():
    samples = {name_of(shape): shape for _, shape, *_ in window_cases.MAXIMA.values()}
    types = {name: gx.f32[BATCH, *shape] for name, shape in samples.items()}

    def results(given):
        cases = window_cases.MAXIMA.values()
        calls = [(call.removesuffix(")") + ", return_indices=True)", name_of(shape)) for call, shape, *_ in cases]
        return [each for call, name in calls for each in eval(call, vars(gx) | {"x": given[name]})]

    arrays = [STORED[f"x {shape}"][window_cases.BATCHES[0]] for shape in samples.values()]
    found = step_of(types, results)(*arrays)
    for case, values, indices in zip(window_cases.MAXIMA, found[::2], found[1::2], strict=True):
        assert_close(values, STORED[f"{case}|0|value"], "f32", case)
        np.testing.assert_array_equal(indices, STORED[f"{case}|indices"], case)


@pytest.mark.parametrize("call", window_cases.LAYERS)
def test_text_and_state_are_pytorchs(call):
    layer = eval(call, vars(nn))
    wanted = {key: tuple(shape) for key, shape in STORED.items() if key.startswith(f"{call}|state")}
    found = {f"{call}|state {key}": array.shape for key, array in layer.state_dict().items()}
    assert list(found.items()) == list(wanted.items())
    assert repr(layer) == str(STORED[f"{call}|text"])

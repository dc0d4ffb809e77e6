"""Layers against PyTorch's numbers: outputs, gradients, statistics, state; f32 and f64, natively and by reference."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import layer_cases
import numpy as np
import pytest
from cotangents import waving

import graphc as gx
from graphc import nn
from graphc.backends import reference
from graphc.ir.passes import run_passes

STORED = dict(np.load(Path(__file__).parent / "golden" / "torch_layers.npz"))
GROUPS = {name: group for name, group in vars(layer_cases).items() if name.isupper() and isinstance(group, dict)}
KINDS = {"f32": gx.f32, "f64": gx.f64}
TOLERANCES = {"f32": 1e-5, "f64": 1e-10}
ROUGH = ("Hardsigmoid() of (4, 3, 2)|{}|gradient 0",)  # PyTorch takes its slope 1/6 in f32
BATCH = gx.dim("batch", max=layer_cases.ROWS)


def state_of(name):
    start = f"{name}|state "
    return {key.removeprefix(start): array for key, array in STORED.items() if key.startswith(start)}


class Applied(nn.Module):
    def __init__(self, function):
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def made(call):
    found = eval(call, vars(nn))
    return found if isinstance(found, nn.Module) else Applied(found)


def loaded(name, call):
    layer = made(call)
    layer.load_state_dict(state_of(name))
    return layer


def size_of(array):
    """The size of numbers that an error is measured by: that of the largest, or of what cancels to 0."""
    return max(np.abs(array).max(), 1.0)


class Compared:
    """A group of layers in one compiled step that returns every output and every gradient."""

    def __init__(self, group, kind, training):
        self.group, self.kind, self.training = group, kind, training
        self.layers = {name: loaded(name, call).to(KINDS[kind]) for name, (call, _) in group.items()}
        self.rows = {name: STORED[f"{name}|0|value"].shape[1:] for name in group}
        self.samples = {shape for _, shapes in group.values() for shape in shapes}
        self.labels = []
        self.step = self.compile()

    def compile(self):
        names = [*(("x", shape) for shape in self.samples), *(("weights", shape) for shape in set(self.rows.values()))]

        def body(*tensors):
            given = dict(zip(names, tensors, strict=True))
            return [result for name in self.group for result in self.results(name, given)]

        types = {f"{role}{'_'.join(map(str, shape))}": KINDS[self.kind][BATCH, *shape] for role, shape in names}
        arguments = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in types]
        body.__signature__ = inspect.Signature(arguments)
        body.__annotations__ = types
        self.names = names
        return gx.step(body)

    def results(self, name, given):
        layer = self.layers[name].train(self.training)
        inputs = [given["x", shape] for shape in self.group[name][1]]
        value = layer(*inputs)
        wanted = dict(enumerate(inputs)) | dict(layer.named_parameters())
        self.labels += [f"{name}|{{}}|value", *(f"{name}|{{}}|gradient {key}" for key in wanted)]
        return [value, *gx.grad((value * given["weights", self.rows[name]]).sum(), list(wanted.values()))]

    def arrays(self, batch):
        """What the step takes for the stored rows of a batch."""
        found = []
        for role, shape in self.names:
            size = batch.stop - batch.start
            array = STORED[str(shape)][batch] if role == "x" else waving((size, *shape))
            found.append(array.astype(KINDS[self.kind].numpy))
        return found

    def check(self, batch, label):
        """One call against the stored numbers of that label."""
        for place, found in zip(self.labels, self.step(*self.arrays(batch)), strict=True):
            self.compare(found, place.format(label), "f32" if place in ROUGH else self.kind)
        for name, layer in self.layers.items():
            for key, buffer in layer.named_buffers():
                self.compare(buffer.numpy(), f"{name}|{label}|state {key}", self.kind)

    def compare(self, found, place, precision):
        wanted, tolerance = STORED[place], TOLERANCES[precision]
        assert found.shape == wanted.shape, place
        np.testing.assert_allclose(found, wanted, tolerance, tolerance * size_of(wanted), err_msg=place)

    def check_reference(self, batch):
        """One call, which moves the statistics, against the reference interpreter."""
        arrays = self.arrays(batch)
        held = {name: parameter.numpy() for name, parameter in self.step.parameters.items()}
        inputs = {value.attrs["name"]: array for value, array in zip(self.step.inputs, arrays, strict=True)}
        meant = reference.run(run_passes(self.step.traced), inputs | held)
        tolerance = TOLERANCES[self.kind]
        for number, (place, found) in enumerate(zip(self.labels, self.step(*arrays), strict=True)):
            wanted = meant[f"result_{number}"]
            np.testing.assert_allclose(found, wanted, tolerance, tolerance * size_of(wanted), err_msg=place)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", GROUPS)
def test_numbers_are_pytorchs(group, kind):
    compared = Compared(GROUPS[group], kind, training=True)
    first = next(iter(GROUPS[group]))
    for number, batch in enumerate(layer_cases.batches(first)):
        compared.check(batch, number)
    compared.check_reference(slice(0, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_uses_the_statistics_seen(kind):
    """The ones that training has left, which the test above has checked."""
    compared = Compared(layer_cases.TRACKING, kind, training=False)
    for name, layer in compared.layers.items():
        last = len(layer_cases.batches(name)) - 1
        kept = {key: STORED[f"{name}|{last}|state {key}"] for key, _ in layer.named_buffers()}
        layer.load_state_dict(kept, strict=False)
    compared.check(slice(0, 4), "eval")


@pytest.mark.parametrize("name", [name for group in GROUPS.values() for name in group])
def test_state_is_pytorchs(name):
    call = next(group for group in GROUPS.values() if name in group)[name][0]
    found = {key: array.shape for key, array in made(call).state_dict().items()}
    wanted = {key: array.shape for key, array in state_of(name).items()}
    assert list(found.items()) == list(wanted.items())


def test_linear_starts_as_in_pytorch():
    gx.manual_seed(1)
    layer = nn.Linear(400, 100)
    limit = 1 / math.sqrt(400)
    for parameter in (layer.weight, layer.bias):
        numbers = parameter.numpy()
        assert np.abs(numbers).max() <= np.float32(limit) and np.abs(numbers).max() > 0.97 * limit
    assert layer.weight.numpy().std() == pytest.approx(limit / math.sqrt(3), rel=0.02)
    assert layer.weight.numpy().shape == (100, 400) and layer.bias.numpy().shape == (100,)
    before = layer.weight.numpy()
    layer.reset_parameters()
    assert not np.array_equal(before, layer.weight.numpy())

"""Recurrent layers and cells: PyTorch's numbers, names and shapes; loops that do not grow with the length; errors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from cotangents import waving

import graphc as gx
from graphc import nn
from graphc.backends import reference
from graphc.ir import ops
from graphc.ir.passes import run_passes
from graphc.plan import Plan, bind

STORED = dict(np.load(Path(__file__).parent / "golden" / "torch_recurrent.npz"))
CALLS = list(dict.fromkeys(name.partition("|")[0] for name in STORED))
TIME, BATCH = gx.dim("time", max=7), gx.dim("batch", max=6)
SYMBOLIC = {7: TIME, 6: BATCH}  # the extents of the largest variant; no features are as many


def stored(start):
    return {name.removeprefix(start): array for name, array in STORED.items() if name.startswith(start)}


def loaded(call):
    layer = eval(call, vars(nn))
    layer.load_state_dict(stored(f"{call}|state "))
    return layer


def flat(results):
    return [each for part in results for each in flat(part)] if isinstance(results, tuple) else [results]


class Compared:
    """A layer on inputs of some types: its values, and the gradients of their weighted sum."""

    def __init__(self, call, kinds, dtype):
        self.layer = loaded(call).to(dtype)
        x, *states = self.inputs = [gx.input(f"x{number}", kind) for number, kind in enumerate(kinds)]
        self.values = flat(self.layer(x, tuple(states) if len(states) == 2 else states[0] if states else None))
        self.weights = [gx.input(f"w{number}", dtype[value.shape]) for number, value in enumerate(self.values)]
        total = sum((value * weights).sum() for value, weights in zip(self.values, self.weights, strict=True))
        self.results = [*self.values, *gx.grad(total, [*self.inputs, *self.layer.parameters()])]

    def interpret(self, arrays):
        """The results by the reference."""
        given = [(tensor.value.attrs["name"], tensor.value) for tensor in (*self.inputs, *self.weights)]
        outputs = tuple((f"result_{number}", result.value) for number, result in enumerate(self.results))
        graph, parameters, _ = bind(Plan("compared", tuple(given), outputs, (), "tuple", None))
        named = {name: parameter.numpy() for name, parameter in parameters.items()}
        found = reference.run(run_passes(graph), named | {name: array for (name, _), array in zip(given, arrays)})
        return [found[name] for name, _ in outputs]

    def arrays(self, given):
        """What the inputs and the weights are for a stored variant."""
        inputs = [given[f"input {number}"] for number, _ in enumerate(self.inputs)]
        weights = [waving(given[f"value {number}"].shape) for number, _ in enumerate(self.weights)]
        kind = self.values[0].dtype.numpy
        return [array.astype(kind) for array in (*inputs, *weights)]

    def check(self, found, given, tolerance):
        """Results against the stored numbers, by the size of the largest of each."""
        gradients = given["gradients"]
        for number, result in enumerate(found):
            if number < len(self.values):
                wanted = given[f"value {number}"]
                assert result.shape == wanted.shape
            else:
                wanted, gradients = gradients[: result.size].reshape(result.shape), gradients[result.size :]
            size = max(np.abs(wanted).max(), 1.0)
            np.testing.assert_allclose(result, wanted, tolerance, tolerance * size, err_msg=f"result {number}")
        assert not gradients.size


def types(call, variant, dtype):
    arrays = stored(f"{call}|{variant}|input ").values()
    return [dtype[tuple(SYMBOLIC.get(extent, extent) for extent in array.shape)] for array in arrays]


@pytest.mark.parametrize("call", CALLS)
def test_numbers_are_pytorchs(call):
    """Of every variant in f64 by the reference; natively in f32, for more than one length and n, with one compile."""
    for variant in ("7,6", "1,1", "zeros", "alone"):
        given = stored(f"{call}|{variant}|")
        compared = Compared(call, types(call, variant, gx.f64), gx.f64)
        compared.check(compared.interpret(compared.arrays(given)), given, 1e-10)
    compared = Compared(call, types(call, "7,6", gx.f32), gx.f32)
    compiled = gx.function([*compared.inputs, *compared.weights], compared.results)
    for variant in ("7,6", "1,1"):
        given = stored(f"{call}|{variant}|")
        arrays = compared.arrays(given)
        compared.check(compiled(*arrays), given, 1e-5)
    for native, meant in zip(compiled(*arrays), compared.interpret(arrays), strict=True):
        np.testing.assert_allclose(native, meant, 1e-5, 1e-5 * max(np.abs(meant).max(), 1.0))


@pytest.mark.parametrize("call", [CALLS[1], "LSTM(3, 4)", "GRU(3, 4)"])
def test_numbers_are_pytorchs_in_double_precision(call):
    compared = Compared(call, types(call, "7,6", gx.f64), gx.f64)
    compiled = gx.function([*compared.inputs, *compared.weights], compared.results)
    for variant in ("7,6", "1,1"):
        given = stored(f"{call}|{variant}|")
        compared.check(compiled(*compared.arrays(given)), given, 1e-10)


@pytest.mark.parametrize("call", CALLS)
def test_state_is_pytorchs(call):
    found = [(key, array.shape) for key, array in eval(call, vars(nn)).state_dict().items()]
    assert found == [(key, array.shape) for key, array in stored(f"{call}|state ").items()]


@pytest.mark.parametrize("make", [nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_starts_evenly(make):
    gx.manual_seed(2)
    layer, limit = make(9, 100), 1 / math.sqrt(100)
    for parameter in layer.parameters():
        numbers = parameter.numpy()
        assert np.abs(numbers).max() <= np.float32(limit) and np.abs(numbers).max() > 0.95 * limit
        assert parameter.dtype.name == "f32" and abs(numbers.mean()) < 0.2 * limit
    assert {parameter.dtype.name for parameter in make(9, 100, dtype=gx.f64).parameters()} == {"f64"}
    before = layer.state_dict()
    layer.reset_parameters()
    assert not any(np.array_equal(before[key], array) for key, array in layer.state_dict().items())


# -- not unrolled


def graph_of(layer, x):
    """Outputs and gradients of a layer, before and after all passes."""
    output, _ = layer(x)
    gradients = gx.grad((output**2).sum(), list(layer.parameters()))
    outputs = tuple((f"result_{number}", each.value) for number, each in enumerate((output, *gradients)))
    traced, *_ = bind(Plan("step", (("x", x.value),), outputs, (), "tuple", None))
    return traced, run_passes(traced)


@pytest.mark.parametrize("call", ["RNN(3, 4)", "LSTM(3, 4, 2, bidirectional=True)", "GRU(3, 4, 2, batch_first=True)"])
def test_the_graph_does_not_grow_with_the_length(call):
    def sizes(length):
        layer = eval(call, vars(nn))
        x = gx.input("x", gx.f32[(2, length, 3) if layer.batch_first else (length, 2, 3)])
        return [sum(1 for _ in graph.values()) for graph in graph_of(layer, x)]

    assert sizes(30) == sizes(300)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("make", [nn.RNN, nn.LSTM, nn.GRU])
def test_one_product_in_each_loop(make, layers):
    """Outside of them, one for what all inputs give to the gates, and one for the gradient of each weight."""

    def products(graph):
        return sum(1 for value in graph.values() if value.op is ops.dot)

    _, graph = graph_of(make(3, 4, layers), gx.input("x", gx.f32[TIME, BATCH, 3]))
    loops = [value.attrs["body"].graph for value in graph.values() if value.op is ops.loop]
    assert [products(body) for body in loops] == [1, 1] * layers
    assert products(graph) == 4 * layers - 1  # what goes in needs no gradient


# -- what goes in and comes out


def test_a_cell_in_a_scan_is_the_layer():
    layer, cell = nn.GRU(3, 4), nn.GRUCell(3, 4)
    cell.load_state_dict({key.removesuffix("_l0"): array for key, array in layer.state_dict().items()})
    x = gx.input("x", gx.f32[TIME, BATCH, 3])
    last, outputs = gx.scan(lambda h, row: (cell(row, h),) * 2, gx.zeros(x.shape[1], 4), x)
    compiled = gx.function([x], [*layer(x), outputs, last])
    output, h_n, by_cell, last = compiled(np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32))
    np.testing.assert_allclose(by_cell, output, 1e-6)
    np.testing.assert_array_equal(h_n[0], output[-1])
    np.testing.assert_array_equal(last, by_cell[-1])


def test_dropout_is_between_layers_in_training():
    """All of it dropped, the second layer sees zeros; in evaluation it sees what the first one gives."""
    layer, second = nn.RNN(3, 4, 2, dropout=1.0), nn.RNN(4, 4)
    state = layer.state_dict()
    second.load_state_dict({key: state[key.replace("l0", "l1")] for key in second.state_dict()})
    plain = nn.RNN(3, 4, 2)
    plain.load_state_dict(state)
    x = gx.input("x", gx.f32[5, 2, 3])
    results = [layer.train()(x)[0], second(gx.zeros(5, 2, 4))[0], layer.eval()(x)[0], plain(x)[0]]
    dropped, of_zeros, evaluated, undropped = gx.function([x], results)(np.ones((5, 2, 3), np.float32))
    np.testing.assert_array_equal(dropped, of_zeros)
    np.testing.assert_array_equal(evaluated, undropped)
    assert not np.allclose(dropped, undropped)


def test_dtypes_of_inputs_and_states():
    """Integers count as f32; what meets f64 becomes f64."""
    layer = nn.LSTM(3, 4)
    output, (h, c) = layer(gx.input("x", gx.i64[5, 2, 3]))
    assert {each.dtype.name for each in (output, h, c)} == {"f32"}
    states = gx.zeros(1, 2, 4), gx.zeros(1, 2, 4, dtype=gx.f64)
    output, (h, c) = layer(gx.input("x", gx.f32[5, 2, 3]), states)
    assert {each.dtype.name for each in (output, h, c)} == {"f64"}


def test_text_is_pytorchs():
    assert repr(nn.LSTM(3, 4)) == "LSTM(3, 4)"
    assert repr(nn.LSTM(3, 5, 2, bias=False, batch_first=True, dropout=0.5, bidirectional=True, proj_size=2)) == (
        "LSTM(3, 5, proj_size=2, num_layers=2, bias=False, batch_first=True, dropout=0.5, bidirectional=True)"
    )
    assert repr(nn.RNNCell(3, 4, False, "relu")) == "RNNCell(3, 4, nonlinearity='relu', bias=False)"


# -- errors

BATCHED = gx.input("x", gx.f32[5, BATCH, 3])

MISFITS = [
    (
        lambda: (nn.RNN(3, 4), gx.input("x", gx.f32[5, 2, 2])),
        "RNN(3, 4) got an input of type f32[5,2,2]; it takes [length, 3] or a batch of those",
    ),
    (
        lambda: (nn.LSTM(3, 4), gx.input("x", gx.f32[3])),
        "LSTM(3, 4) got an input of type f32[3]; it takes [length, 3] or a batch of those",
    ),
    (
        lambda: (nn.GRU(3, 4, 2), BATCHED, gx.zeros(1, 2, 4)),
        "GRU(3, 4) got first states f32[1,2,4]; it takes [2, batch, 4]",
    ),
    (
        lambda: (nn.GRU(3, 4), gx.input("x", gx.f32[5, 3]), gx.zeros(1, 1, 4)),
        "GRU(3, 4) got first states f32[1,1,4]; it takes [1, 4]",
    ),
    (
        lambda: (nn.LSTM(3, 4, proj_size=2), BATCHED, gx.zeros(1, 2, 4)),
        "LSTM(3, 4) got first states f32[1,2,4]; it takes [1, batch, 2] and [1, batch, 4]",
    ),
    (
        lambda: (nn.RNN(3, 4), BATCHED, (gx.zeros(1, 2, 4), gx.zeros(1, 2, 4))),
        "RNN(3, 4) got first states f32[1,2,4] and f32[1,2,4]; it takes [1, batch, 4]",
    ),
    (
        lambda: (nn.LSTMCell(3, 4), gx.input("x", gx.f32[2, 4])),
        "LSTMCell(3, 4) got an input of type f32[2,4]; it takes [3] or a batch of those",
    ),
    (
        lambda: (nn.GRUCell(3, 4), gx.input("x", gx.f32[2, 3]), gx.zeros(4)),
        "GRUCell(3, 4) got first states f32[4]; it takes [2, 4]",
    ),
]


@pytest.mark.parametrize(("make", "first"), MISFITS, ids=[first for _, first in MISFITS])
def test_inputs_a_layer_does_not_take(make, first):
    layer, *given = make()
    with pytest.raises(gx.ShapeError) as caught:
        layer(*given)
    lines = str(caught.value).splitlines()
    assert lines[0] == first and len(lines) <= 8
    assert "layer(*given)" in lines[1] and f"nn.{type(layer).__name__}(" in lines[-1]


@pytest.mark.parametrize(
    ("name", "features", "first"),
    [
        ("rnn_tanh_cell", 4, "linear of f32[2,3] and weight f32[10,4]"),
        ("gru_cell", 3, "3 gates do not divide the last axis of f32[2,10]"),
        ("lstm_cell", 3, "4 gates do not divide the last axis of f32[2,10]"),
    ],
)
def test_functions_say_what_does_not_fit(name, features, first):
    x, h = gx.input("x", gx.f32[2, 3]), gx.zeros(2, 4)
    states = (h, h) if name == "lstm_cell" else h
    with pytest.raises(gx.ShapeError) as caught:
        getattr(gx, name)(x, states, gx.zeros(10, features), gx.zeros(10, 4))
    assert str(caught.value).startswith(first)

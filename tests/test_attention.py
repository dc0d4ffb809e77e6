"""Attention and transformer layers against PyTorch's numbers: results, gradients, state; natively and by reference."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from attention_cases import GROUPS, INPUTS, MASKS, SIZES, names_in
from refusals import check_refusal

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


@pytest.mark.parametrize("kind", KINDS)
def test_large_scores_choose_one_key(kind):
    """Scores of 1e4 and more: weights are 0 or 1, gradients finite, with and without masks."""
    dtype = KINDS[kind]
    query, key, value = (nn.Parameter(stored_part(name), dtype=dtype) for name in ("query", "key", "value"))
    results = []
    for mask in (None, np.array([True] * 6 + [False])):
        out = F.scaled_dot_product_attention(query, key, value, mask, scale=1e6)
        results.append([out, *gx.grad(out.sum(), [query, key, value])])
    plain, *slopes = gx.function([], results[0], name="large_scores")()
    masked, *others = gx.function([], results[1], name="large_scores")()
    scores = stored_part("query").astype(np.float64) @ stored_part("key").astype(np.float64).swapaxes(-1, -2)
    for found, allowed in ((plain, scores), (masked, scores[..., :6])):
        wanted = np.take_along_axis(stored_part("value"), allowed.argmax(-1)[..., None], -2)
        np.testing.assert_allclose(found, wanted, 1e-6)
    assert all(np.isfinite(slope).all() for slope in (*slopes, *others))


def stored_part(name):
    return STORED[name][:1]


def test_queries_that_see_nothing_take_nothing():
    """Nor do they pass a gradient on: PyTorch's MultiheadAttention gives NaN here when it returns weights."""
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    x = gx.parameter("x", STORED["x"][:, :3])
    hidden = np.array([[False, True, True], [True, True, True], [False, False, False]])
    result, weights = layer(x, x, x, attn_mask=hidden)
    found, shares, slope = gx.function([], [result, weights, gx.grad(result[:, 1].sum(), x)])()
    np.testing.assert_array_equal(found[:, 1], 0)
    np.testing.assert_allclose(shares.sum(-1), [[1, 0, 1]] * 3, 1e-5)
    np.testing.assert_array_equal(shares[:, hidden], 0)
    np.testing.assert_array_equal(slope, 0)


def test_dropout_thins_weights_in_training():
    gx.manual_seed(2)
    query = gx.parameter("query", STORED["query"])
    ones = np.ones((3, 2, 5, 1), np.float32)
    thinned = F.scaled_dot_product_attention(query, query, ones, dropout_p=0.5).numpy()
    assert len(np.unique(thinned)) > 20
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
    x = gx.input("x", gx.f32[DIMS["batch"], 5, 8])
    trained, tested = gx.function([x], layer(x)), gx.function([x], layer.eval()(x))
    array = STORED["x"]
    assert not np.array_equal(trained(array), trained(array))
    np.testing.assert_array_equal(tested(array), tested(array))


def test_initial_values_are_pytorchs():
    layer = nn.MultiheadAttention(64, 4)
    limit = np.sqrt(6 / (64 + 3 * 64))
    weights = layer.in_proj_weight.numpy()
    assert abs(weights).max() <= limit and abs(weights.std() - limit / np.sqrt(3)) < 0.05 * limit
    assert abs(layer.out_proj.weight.numpy()).max() <= 1 / 8
    assert not layer.in_proj_bias.numpy().any() and not layer.out_proj.bias.numpy().any()
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
    first, second = (list(part.state_dict().values()) for part in encoder.layers)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_layers_in_a_row_share_kernels():
    """What the compiler is for: identical blocks, one kernel text each."""

    def texts(blocks):
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True)
        net = nn.TransformerEncoder(layer, blocks)
        kinds = {"x": gx.f32[DIMS["batch"], 8, 16], "y": gx.f32[DIMS["batch"], 8, 16]}
        step = gx.train_step(net, nn.MSELoss(), gx.optim.SGD(net.parameters(), lr=0.1), **kinds)
        return {source.kernel.text for source in step.artifact.sources}

    assert texts(3) <= texts(2)


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        (lambda q, k, v: F.scaled_dot_product_attention(q, v, v), ShapeError, "they do not fit"),
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, q), ShapeError, "they do not fit"),
        (lambda q, k, v: F.scaled_dot_product_attention(q[0, 0, 0], k, v), ShapeError, "they do not fit"),
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, np.ones((5, 6), bool)), ShapeError, "broadcast"),
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, np.ones((5, 7), int)), DTypeError, "bool or floats"),
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, np.ones((5, 7)), 0, True), ValueError, "not both"),
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=2), ValueError, "dropout_p is 2; it must"),
        (lambda q, k, v: F.scaled_dot_product_attention(q, k[:, :1].repeat(1, 3, 1, 1), v, enable_gqa=True),
         ShapeError, "do not divide"),
        (lambda q, k, v: nn.MultiheadAttention(8, 3), ValueError, "3 heads do not divide embed_dim=8"),
        (lambda q, k, v: nn.MultiheadAttention(8, 0), ValueError, "num_heads is 0"),
        (lambda q, k, v: nn.MultiheadAttention(8, 2)(q, q, q), ShapeError, "MultiheadAttention(8, 2) got an input"),
        (lambda q, k, v: nn.TransformerEncoderLayer(8, 2, activation="tanh"), ValueError, "activation is 'tanh'"),
        (lambda q, k, v: nn.TransformerEncoder(nn.Identity(), 0), ValueError, "num_layers is 0"),
    ],
)  # fmt: skip
def test_wrong_arguments(wrong, kind, words):
    check_refusal(wrong, words, *(gx.parameter(name, STORED[name]) for name in ("query", "key", "value")), kind=kind)

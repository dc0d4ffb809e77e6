"""Errors inside layers: the layer, the call, what it got, and where the layer was made."""

from __future__ import annotations

import linecache

import numpy as np
import pytest
from refusals import check_refusal

import graphc as gx
from graphc import nn

PROGRAM = """\
import graphc as gx
from graphc import nn

class MLP(nn.Module):
    def __init__(self):
        self.fc1 = nn.Linear(784, 256)
        self.fc2 = nn.Linear(255, 10)

    def forward(self, x):
        h = self.fc1(x)
        h = h.relu()
        return self.fc2(h)

def build():
    return MLP()(gx.input("x", gx.f32["batch", 784]))

def build_in_line():
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 2))(gx.input("x", gx.f32["batch", 4]))

def build_alone():
    return nn.Linear(4, 2)(gx.input("x", gx.f32["batch", 3]))

def build_of_number():
    return nn.Linear(1, 1)(gx.input("x", gx.f32[()]))
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A user's file, in the working folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mlp.py"
    path.write_text(PROGRAM, encoding="utf-8")
    linecache.checkcache()
    names = {"__name__": "mlp"}
    exec(compile(PROGRAM, str(path), "exec"), names)
    return names


def test_wrong_input_of_a_layer(program):
    with pytest.raises(gx.ShapeError) as caught:
        program["build"]()
    assert str(caught.value).splitlines() == [
        "fc2 = Linear(255 -> 10) got an input of 256 features",
        "  mlp.py:12:16   return self.fc2(h)",
        "                        ^^^^^^^^^^^   h: f32[batch,256] from relu at mlp.py:11",
        "  declared in    mlp.py:7   self.fc2 = nn.Linear(255, 10)",
    ]


@pytest.mark.parametrize(
    ("function", "first", "note", "line"),
    [
        ("build_in_line", "1 = Linear(4 -> 2) got an input of 3 features", "f32[batch,3] from add at mlp.py:18", 18),
        ("build_alone", "Linear(4 -> 2) got an input of 3 features", "f32[batch,3], input x", 21),
        ("build_of_number", "Linear(1 -> 1) got a single number", "f32[], input x", 24),
    ],
)
def test_wrong_input_of_a_layer_without_a_name(program, function, first, note, line):
    with pytest.raises(gx.ShapeError) as caught:
        program[function]()
    lines = str(caught.value).splitlines()
    assert lines[0] == first
    assert lines[1].startswith(f"  mlp.py:{line}:")
    assert lines[2].endswith(f"^   {note}")
    assert lines[3].startswith(f"  declared in    mlp.py:{line}   return nn.")


BATCH = gx.dim("batch")

# A layer, an input it does not take, and the first line of the error.
MISFITS = [
    (
        lambda: nn.Bilinear(3, 4, 2),
        ((5, 3), (5, 5)),
        "Bilinear(3, 4 -> 2) got an input of type f32[5,5] for 4 features",
    ),
    (lambda: nn.Unflatten(1, (2, 4)), ((5, 6),), "reshape(f32[5,6]): f32[5,6] has 30 elements, shape [5, 2, 4] has 40"),
    (lambda: nn.Unflatten(2, (2, 3)), ((5, 6),), "axis 2 is outside of a tensor with 2 axes"),
    (lambda: nn.Softmax(dim=2), ((5, 6),), "axis 2 is outside of a tensor with 2 axes"),
    (lambda: nn.Softmax2d(), ((5, 6),), "Softmax2d() got an input of 2 axes; it takes 3 or 4"),
    (lambda: nn.PReLU(3), ((5, 6),), "PReLU(3) got an input of 6 channels"),
    (lambda: nn.BatchNorm1d(6), ((BATCH, 6, 2, 2),), "BatchNorm1d(6) got an input of 4 axes; it takes 2 or 3"),
    (lambda: nn.BatchNorm2d(6), ((BATCH, 5, 2, 2),), "BatchNorm2d(6) got an input of 5 channels"),
    (lambda: nn.InstanceNorm1d(6), ((5, 2),), "InstanceNorm1d(6) got an input of 5 channels"),
    (lambda: nn.InstanceNorm2d(6), ((5, 6),), "InstanceNorm2d(6) got an input of 2 axes; it takes 3 or 4"),
    (lambda: nn.GroupNorm(2, 6), ((5, 4),), "GroupNorm(2, 6) got an input of type f32[5,4]; it takes [n, 6, ...]"),
    (lambda: nn.LayerNorm((3, 2)), ((5, 2),), "LayerNorm(3, 2) got an input of type f32[5,2]; it takes [..., 3, 2]"),
    (lambda: nn.RMSNorm(3), ((BATCH,),), "RMSNorm(3) got an input of type f32[batch]; it takes [..., 3]"),
    (
        lambda: nn.LocalResponseNorm(3),
        ((5,),),
        "local_response_norm of f32[5]: it takes [n, channels, ...] with a fixed number of channels",
    ),
    (lambda: nn.Upsample(scale_factor=2), ((5, 6),), "interpolate of f32[5,6]: it takes [n, channels, ...]"),
    (
        lambda: nn.Upsample(size=5),
        ((2, 3, 2),),
        "interpolate of f32[2,3,2]: size 5 is no whole multiple of 2",
    ),
    (lambda: nn.Upsample(scale_factor=(2, 2)), ((2, 3, 2),), "interpolate: [2, 2] has 2 numbers for 1 axes"),
    (
        lambda: nn.PixelShuffle(2),
        ((6, 2, 2),),
        "pixel_shuffle of f32[6,2,2]: it takes [..., channels, height, width], the channels a multiple of 4",
    ),
    (
        lambda: nn.PixelUnshuffle(2),
        ((6, 2, 3),),
        "pixel_unshuffle of f32[6,2,3]: it takes [..., channels, height, width], the width a multiple of 2",
    ),
    (lambda: nn.ChannelShuffle(4), ((2, 6, 3),), "channel_shuffle: 4 groups do not divide the channels of f32[2,6,3]"),
]


@pytest.mark.parametrize(("make", "shapes", "first"), MISFITS, ids=[first.split()[0] for _, _, first in MISFITS])
def test_inputs_a_layer_does_not_take(make, shapes, first):
    layer = make().eval()
    inputs = [gx.input(f"x{number}", gx.f32[shape]) for number, shape in enumerate(shapes)]
    with pytest.raises(gx.ShapeError) as caught:
        layer(*inputs)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(first) and len(lines) <= 8, caught.value
    assert "layer(*inputs)" in lines[1]
    assert sum("declared in" in line for line in lines) == 1 and f"nn.{type(layer).__name__}(" in str(caught.value)


def test_errors_of_ones_own_modules_name_no_layer():
    class Own(nn.Module):
        def forward(self, x):
            return x.reshape(7)

    with pytest.raises(gx.ShapeError) as caught:
        nn.Sequential(nn.ReLU(), Own())(gx.input("x", gx.f32[5]))
    assert "declared in" not in str(caught.value)


WHOLE = "it must be a whole number of at least 1"
X = gx.input("x", gx.f32["n", 3])
SETTINGS = [
    (lambda: nn.Linear(0, 3), f"Linear: in_features is 0; {WHOLE}"),
    (lambda: nn.Linear(3, 2.5), f"Linear: out_features is 2.5; {WHOLE}"),
    (lambda: nn.Linear(X, 2), f"Linear: in_features is Tensor(f32[n,3]); {WHOLE}"),
    (lambda: nn.Linear(3, 4, 5), "bias is 5; it must be True or False"),
    (lambda: nn.Linear(10**9, 10**12), "f32[1000000000000,1000000000] does not fit into memory"),
    (lambda: nn.Bilinear(1, 2, "3"), f"Bilinear: out_features is '3'; {WHOLE}"),
    (lambda: nn.Flatten("all"), "start_dim is 'all'; it must be a whole number"),
    (lambda: nn.Unflatten(1, 4), "unflattened_size is 4; it must be a list of extents"),
    (lambda: nn.Embedding(4, 3, 1.5), "padding_idx is 1.5; it must be a whole number"),
    (lambda: nn.Conv2d(3, 8, 3, padding_mode="zero"), "Conv2d: padding_mode is 'zero'; it must be one of 'zeros', 're"),
    (lambda: nn.Conv1d(3, 8, 3, bias=None), "bias is None; it must be True or False"),
    (lambda: nn.ConvTranspose1d(3, 8, 3, padding_mode="same"), "padding_mode is 'same'; it must be one of 'zeros'"),
    (lambda: nn.MaxPool2d(2, ceil_mode="up"), "ceil_mode is 'up'; it must be True or False"),
    (lambda: nn.AvgPool2d(2, divisor_override=0), "divisor_override is 0; it must be a number other than 0"),
    (lambda: nn.BatchNorm2d(-1), f"BatchNorm2d: num_features is -1; {WHOLE}"),
    (lambda: nn.BatchNorm1d(3, eps="x"), "eps is 'x'; it must be a number of at least 0"),
    (lambda: nn.BatchNorm1d(3, momentum=[0.1]), "momentum is [0.1]; it must be a number"),
    (lambda: nn.InstanceNorm1d(3, affine=3), "affine is 3; it must be True or False"),
    (lambda: nn.GroupNorm(4, 6), "GroupNorm: 4 groups do not divide 6 channels"),
    (lambda: nn.LayerNorm(()), "LayerNorm: normalized_shape names no axis"),
    (lambda: nn.LayerNorm((3, 0)), f"LayerNorm: normalized_shape is 0; {WHOLE}"),
    (lambda: nn.LayerNorm(3, None), "eps is None; it must be a number of at least 0"),
    (lambda: nn.RMSNorm(2.0), f"RMSNorm: normalized_shape is 2.0; {WHOLE}"),
    (lambda: nn.LocalResponseNorm(0), f"LocalResponseNorm: size is 0; {WHOLE}"),
    (lambda: nn.LocalResponseNorm(2, beta="x"), "beta is 'x'; it must be a number"),
    (lambda: nn.PixelShuffle(0), f"PixelShuffle: upscale_factor is 0; {WHOLE}"),
    (lambda: nn.Upsample(), "give size or scale_factor, one of them"),
    (lambda: nn.Upsample(size=2, scale_factor=2), "give size or scale_factor, one of them"),
    (lambda: nn.Upsample(scale_factor=1.5), "1.5"),
    (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), "bilinear"),
    (lambda: nn.ReLU(X), "inplace is Tensor(f32[n,3]); it must be True or False"),
    (lambda: nn.GELU("erf"), "approximate is 'erf'; it must be one of 'none', 'tanh'"),
    (lambda: nn.LeakyReLU("0.1"), "negative_slope is '0.1'; it must be a number"),
    (lambda: nn.Hardtanh(1, 1), "min_val=1 must be below max_val=1"),
    (lambda: nn.Softshrink(-1), "lambd is -1"),
    (lambda: nn.Softplus(0), "beta is 0"),
    (lambda: nn.CELU(0), "alpha is 0"),
    (lambda: nn.Threshold(0, None), "value is None; it must be a number"),
    (lambda: nn.Softmax(1.5), "dim is 1.5; it must be a whole number"),
    (lambda: nn.PReLU(0), f"PReLU: num_parameters is 0; {WHOLE}"),
    (lambda: nn.PReLU(init="x"), "init is 'x'; it must be a number"),
    (lambda: nn.Dropout("half"), "p is 'half'; it must be a number from 0 to 1"),
    (lambda: nn.Dropout2d(float("nan")), "p is nan; it must be a number from 0 to 1"),
    (lambda: nn.RNN(0, 4), f"RNN: input_size is 0; {WHOLE}"),
    (lambda: nn.GRU(3, 4.0), f"GRU: hidden_size is 4.0; {WHOLE}"),
    (lambda: nn.LSTM(3, 4, dropout=1.5), "dropout is 1.5; it must be a number from 0 to 1"),
    (lambda: nn.LSTM(3, 4, proj_size=4), "proj_size is 4; it must be a whole number from 0 up to but without hidden"),
    (lambda: nn.LSTM(3, "4", proj_size=1), f"LSTM: hidden_size is '4'; {WHOLE}"),
    (lambda: nn.GRU(3, 4, bidirectional=2), "bidirectional is 2; it must be True or False"),
    (lambda: nn.RNN(3, 4, nonlinearity="sigmoid"), "nonlinearity is 'sigmoid'; it must be one of 'tanh', 'relu'"),
    (lambda: nn.RNNCell(3, 4, nonlinearity=None), "nonlinearity is None; it must be one of 'tanh', 'relu'"),
    (lambda: nn.LSTMCell(3, -1), f"LSTMCell: hidden_size is -1; {WHOLE}"),
    (lambda: nn.MultiheadAttention(8, 0), f"MultiheadAttention: num_heads is 0; {WHOLE}"),
    (lambda: nn.TransformerEncoderLayer(8, 2, activation="tanh"), "activation is 'tanh'; it must be 'relu', 'gelu' or"),
    (lambda: nn.TransformerEncoder(nn.Identity(), 0), f"TransformerEncoder: num_layers is 0; {WHOLE}"),
    (lambda: nn.TransformerEncoder(nn.Linear, 2), "Linear'>; it must be a module"),
    (lambda: nn.MSELoss(reduction="avg"), "reduction is 'avg'; it must be one of 'mean', 'sum', 'none'"),
    (lambda: nn.CrossEntropyLoss(label_smoothing="a"), "label_smoothing is 'a'; it must be a number from 0 to 1"),
    (lambda: nn.CrossEntropyLoss(ignore_index=0.5), "ignore_index is 0.5; it must be a whole number"),
    (lambda: nn.HuberLoss(delta=0), "delta is 0; it must be a number above 0"),
    (lambda: nn.TripletMarginLoss(margin=X), "margin is Tensor(f32[n,3]); it must be a number above 0"),
    (lambda: nn.PoissonNLLLoss(full="no"), "full is 'no'; it must be True or False"),
    (lambda: nn.CosineSimilarity(None), "dim is None; it must be a whole number"),
    (lambda: nn.Sequential([nn.ReLU()]), "Sequential takes modules one by one, got a list of them"),
    (lambda: nn.Sequential(nn.ReLU(), gx.relu), "1 of Sequential must be a Module or None, got function"),
    (lambda: nn.ModuleList(3), "parts is 3; it must be a list of the parts to add"),
    (lambda: nn.ModuleDict([nn.ReLU()]), "modules is [ReLU()]; it must be a dict, or a list of (name, part)"),
    (lambda: nn.Sequential(nn.ReLU())["0"], "index is '0'; it must be a whole number"),
    (lambda: nn.Linear(3, 2)(), "forward() missing 1 required positional argument: 'x'"),
    (lambda: nn.Linear(3, 2)(X, X), "forward() takes 2 positional arguments but 3 were given"),
    (lambda: nn.MSELoss()(X), "MSELoss takes 2 tensors, got 1"),
    (lambda: nn.CrossEntropyLoss()(X, X, X), "CrossEntropyLoss takes 2 tensors, got 3"),
    (lambda: nn.ReLU().train("on"), "mode is 'on'; it must be True or False"),
    (lambda: nn.ReLU().apply(3), "fn is 3; it must be a function"),
    (lambda: nn.Linear(1, 1).load_state_dict("net.pt"), "state_dict is 'net.pt'; it must be a dict of arrays"),
    (lambda: nn.Linear(1, 1).add_module("a.b", nn.ReLU()), "the name of a part is 'a.b'; it must be a text"),
]


@pytest.mark.parametrize(("make", "words"), SETTINGS, ids=[words.replace(";", "")[:40] for _, words in SETTINGS])
def test_settings_a_layer_does_not_take(make, words):
    check_refusal(make, words)


@pytest.mark.parametrize("make", [lambda: nn.Tanh(inplace=True), lambda: nn.MSELoss(beta=1.0)])
def test_settings_a_layer_does_not_have(make):
    with pytest.raises(TypeError, match=r"unexpected keyword argument '(inplace|beta)'"):
        make()


@pytest.mark.parametrize("dtype", [np.float64, "float64", float, np.dtype("float64"), gx.f64], ids=repr)
def test_dtypes_a_layer_takes(dtype):
    layers = nn.Linear(2, 1, dtype=dtype), nn.Linear(2, 1).to(dtype=dtype), nn.GRU(2, 1, dtype=dtype)
    assert {layer.state_dict()[name].dtype for layer in layers for name in layer.state_dict()} == {np.dtype("float64")}


@pytest.mark.parametrize(
    ("dtype", "words"),
    [("f99", "'f99' is no element type"), (gx.i64, "f32 or f64, not i64"), (gx.f32[3], "f32[3] is no element type")],
)
def test_dtypes_a_layer_does_not_take(dtype, words):
    check_refusal(lambda: nn.Linear(2, 1, dtype=dtype), words, kind=gx.DTypeError)


def test_of_a_long_argument_the_beginning_is_shown():
    check_refusal(lambda: nn.Dropout("x" * 500), f"p is '{'x' * 78}…; it must be a number from 0 to 1")

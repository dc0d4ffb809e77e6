"""Errors inside layers: the layer, the call, what it got, and where the layer was made."""

from __future__ import annotations

import linecache

import pytest

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


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: nn.Linear(0, 3), gx.ShapeError, "Linear: in_features=0 must be at least 1"),
        (lambda: nn.Linear(3, 2.5), TypeError, "Linear: out_features is a whole number, got 2.5"),
        (lambda: nn.Bilinear(1, 2, "3"), TypeError, "Bilinear: out_features is a whole number, got '3'"),
        (lambda: nn.PReLU(0), gx.ShapeError, "PReLU: num_parameters=0 must be at least 1"),
        (lambda: nn.BatchNorm2d(-1), gx.ShapeError, "BatchNorm2d: num_features=-1 must be at least 1"),
        (lambda: nn.GroupNorm(4, 6), ValueError, "GroupNorm: 4 groups do not divide 6 channels"),
        (lambda: nn.LayerNorm(()), ValueError, "LayerNorm: normalized_shape names no axis"),
        (lambda: nn.LayerNorm((3, 0)), gx.ShapeError, "LayerNorm: normalized_shape=0 must be at least 1"),
        (lambda: nn.RMSNorm(2.0), TypeError, "RMSNorm: normalized_shape is a whole number, got 2.0"),
        (lambda: nn.LocalResponseNorm(0), gx.ShapeError, "LocalResponseNorm: size=0 must be at least 1"),
        (lambda: nn.PixelShuffle(0), gx.ShapeError, "PixelShuffle: upscale_factor=0 must be at least 1"),
        (lambda: nn.Upsample(), ValueError, "give size or scale_factor, one of them"),
        (lambda: nn.Upsample(size=2, scale_factor=2), ValueError, "give size or scale_factor, one of them"),
        (lambda: nn.Upsample(scale_factor=1.5), ValueError, "1.5 is not a whole number of at least 1"),
        (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), ValueError, "mode='bilinear' is not a choice"),
        (lambda: nn.GELU("erf"), ValueError, "approximate='erf' is not a choice"),
        (lambda: nn.Hardtanh(1, 1), ValueError, "min_val=1 must be below max_val=1"),
        (lambda: nn.Softshrink(-1), ValueError, "lambd"),
        (lambda: nn.Softplus(0), ValueError, "beta"),
        (lambda: nn.CELU(0), ValueError, "alpha"),
        (lambda: nn.Tanh(inplace=True), TypeError, "inplace"),
    ],
)
def test_settings_a_layer_does_not_take(make, kind, words):
    with pytest.raises(kind) as caught:
        make()
    assert words in str(caught.value)

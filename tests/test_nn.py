"""Modules: registration, names, state, text, layers' values, and errors inside layers."""

from __future__ import annotations

import copy
import linecache
import math
from collections import OrderedDict

import numpy as np
import pytest

import graphc as gx
from graphc import nn


class Block(nn.Module):
    """A parameter, a buffer, a layer and a list of layers."""

    def __init__(self, width=4):
        super().__init__()
        self.scale = nn.Parameter(np.ones(width, np.float32))
        self.register_buffer("offset", np.zeros(width, np.float32))
        self.register_buffer("cache", np.zeros(2), persistent=False)
        self.inner = nn.Linear(width, width, bias=False)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, x):
        x = self.inner(x) * self.scale + self.offset
        for layer in self.layers:
            x = layer(x).relu()
        return x


LAYERS_STATE = ["inner.weight", "layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]
BLOCK_STATE = ["scale", "offset", *LAYERS_STATE]
BATCH = gx.dim("batch", max=16)


def forward(module, *arrays):
    """What a module gives for arrays, natively."""
    inputs = [gx.input(f"x{n}", kind(array)) for n, array in enumerate(arrays)]
    return gx.function(inputs, module(*inputs))(*arrays)


def kind(array):
    return (gx.i64 if array.dtype.kind == "i" else gx.f32)[array.shape]


# -- registration and names


def test_parts_are_found_by_dotted_names():
    net = nn.Sequential(Block(), nn.ReLU())
    assert list(net.state_dict()) == [f"0.{name}" for name in BLOCK_STATE]
    parameters = [f"0.{name}" for name in ["scale", *LAYERS_STATE]]
    assert [name for name, _ in net.named_parameters()] == parameters
    assert [parameter.name for parameter in net.parameters()] == parameters
    assert [name for name, _ in net.named_buffers()] == ["0.offset", "0.cache"]
    modules = ["", "0", "0.inner", "0.layers", "0.layers.0", "0.layers.1", "1"]
    assert [name for name, _ in net.named_modules()] == modules
    assert [type(child) for child in net.children()] == [Block, nn.ReLU]
    assert net.get_submodule("0.layers.1") is net[0].layers[1]
    assert [name for name, _ in net[0].named_parameters(recurse=False)] == ["scale"]
    assert [name for name, _ in net[0].named_parameters(prefix="net")][:2] == ["net.scale", "net.inner.weight"]


def test_names_stay_those_of_the_whole_model():
    net = nn.Sequential(Block(), nn.ReLU())
    list(net.parameters())
    assert [parameter.name for parameter in net[0].inner.parameters()] == ["0.inner.weight"]
    bigger = nn.Sequential(nn.Identity(), net)
    list(bigger.parameters())
    assert net[0].scale.name == "1.0.scale"


def test_shared_parts_are_named_once_but_saved_under_each_name():
    layer = nn.Linear(3, 3)
    net = nn.Sequential(layer, nn.ReLU(), layer)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert len(list(net.modules())) == 3
    tied = nn.Linear(3, 3, bias=False)
    tied.weight = layer.weight
    assert len(list(nn.Sequential(layer, tied).parameters())) == 2


def test_attributes_move_between_registers():
    net = nn.Linear(3, 2)
    net.bias = None
    assert list(net.state_dict()) == ["weight"] and net.bias is None
    with pytest.raises(TypeError, match="weight of Linear is a parameter; ndarray cannot take its place"):
        net.weight = np.zeros((2, 3))
    with pytest.raises(TypeError, match="must be a Parameter or None, got ndarray"):
        net.register_parameter("extra", np.zeros(3))
    with pytest.raises(TypeError, match="must be a Module or None, got str"):
        net.add_module("extra", "layer")
    with pytest.raises(KeyError, match="cannot name a part"):
        net.add_module("a.b", nn.ReLU())
    net.note = 5
    net.note = nn.ReLU()
    assert dict(net.named_children()) == {"note": net.note}
    del net.note
    assert not list(net.children())
    with pytest.raises(AttributeError, match="Linear has no attribute 'note'"):
        _ = net.note
    assert {"weight", "bias", "forward"} <= set(dir(net))


def test_module_needs_no_super_init():
    class Bare(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(2, 1)

    assert list(Bare().state_dict()) == ["layer.weight", "layer.bias"]
    with pytest.raises(NotImplementedError, match=r"Bare has no forward\(\)"):
        Bare()(gx.input("x", gx.f32[1, 2]))


def test_copies_are_separate():
    block = Block()
    twin = copy.deepcopy(block)
    twin.inner.weight.zero_()
    twin.offset = np.ones(4, np.float32)
    assert block.inner.weight.numpy().any() and not block.offset.numpy().any()
    assert list(twin.state_dict()) == BLOCK_STATE
    x = np.ones((2, 4), np.float32)
    found = forward(nn.Sequential(block, twin), x)
    ones = forward(twin, forward(block, x))
    np.testing.assert_allclose(found, ones, rtol=1e-6)


# -- state


def test_state_goes_into_another_model():
    first, second = Block(), Block()
    result = second.load_state_dict(first.state_dict())
    assert result == ([], [])
    for name, array in first.state_dict().items():
        np.testing.assert_array_equal(second.state_dict()[name], array)
    state = first.state_dict(prefix="net.")
    assert list(state) == [f"net.{name}" for name in BLOCK_STATE]
    state["net.scale"][:] = 9
    assert (first.scale.numpy() == 1).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("inner.weight"), ["Block", "missing", "inner.weight"]),
        (lambda state: state.update({"inner.extra": np.zeros(3)}), ["Block", "inner.extra"]),
        (lambda state: state.update({"scale": np.zeros(5)}), ["scale", "4", "5"]),
        (lambda state: state.update({"inner.weight": np.zeros((4, 3))}), ["inner.weight", "[4, 4]", "[4, 3]"]),
    ],
    ids=["missing", "unexpected", "longer", "other shape"],
)
def test_state_that_does_not_fit_changes_nothing(change, words):
    net = Block()
    before = net.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    change(state)
    with pytest.raises(gx.CheckpointError) as caught:
        net.load_state_dict(state)
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert len(text.splitlines()) <= 8 and "test_nn.py" in text
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_state_that_fits_in_part():
    net = Block()
    result = net.load_state_dict({"scale": np.full(4, 2.0), "head.weight": np.zeros(3)}, strict=False)
    assert result.unexpected_keys == ["head.weight"]
    assert result.missing_keys == [name for name in BLOCK_STATE if name != "scale"]
    assert (net.scale.numpy() == 2).all()
    with pytest.raises(gx.CheckpointError):
        net.load_state_dict({"scale": np.zeros(5)}, strict=False)


def test_buffers_are_updated_by_a_step():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("total", np.zeros((), np.float32))

        def forward(self, x):
            self.total = self.total + x.sum()
            return self.total

    counter = Counter()

    @gx.step
    def count(x: gx.f32[BATCH]):
        return counter(x)

    assert count(np.ones(3, np.float32)) == 3
    assert count(np.ones(2, np.float32)) == 5
    assert counter.total.numpy() == 5
    counter.total = np.float32(1)
    assert counter.total.numpy() == 1
    assert not list(counter.parameters())


# -- modes


def test_modes_reach_all_modules():
    net = nn.Sequential(Block(), nn.ReLU())
    assert all(module.training for module in net.modules())
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    net[0].train()
    assert net[0].layers[0].training and not net.training


def test_frozen_parameters_get_no_gradient():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    net[0].requires_grad_(False)
    seen = []

    @gx.step
    def step(x: gx.f32[BATCH, 3]):
        net(x).sum().backward()
        seen.extend(parameter.grad is not None for parameter in net.parameters())
        net.zero_grad()
        seen.extend(parameter.grad is not None for parameter in net.parameters())
        return net(x).sum()

    assert seen == [False, False, True, True, False, False, False, False]


def test_apply_visits_children_first():
    seen = []
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    assert net.apply(lambda module: seen.append(type(module).__name__)) is net
    assert seen == ["Linear", "ReLU", "Sequential", "Sequential"]

    def start(module):
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, 0.5)

    assert (net.apply(start)[0].weight.numpy() == 0.5).all()


def test_devices():
    net = nn.Linear(2, 2)
    assert net.to("cpu") is net
    with pytest.raises(gx.TraceError, match="quantum"):
        net.to("quantum")


# -- text and containers


def test_text_is_pytorchs():
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.Sequential(nn.ReLU(), nn.Softmax(dim=1)), nn.MSELoss())
    assert repr(net) == "\n".join(
        [
            "Sequential(",
            "  (0): Flatten(start_dim=1, end_dim=-1)",
            "  (1): Linear(in_features=784, out_features=256, bias=True)",
            "  (2): Sequential(",
            "    (0): ReLU()",
            "    (1): Softmax(dim=1)",
            "  )",
            "  (3): MSELoss()",
            ")",
        ]
    )
    assert repr(nn.LeakyReLU(0.2)) == "LeakyReLU(negative_slope=0.2)"
    assert repr(nn.Linear(3, 2, bias=False)) == "Linear(in_features=3, out_features=2, bias=False)"
    assert repr(nn.Sequential()) == "Sequential()"


def test_sequential_is_a_sequence():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert len(net) == 3 and net[-1] is net[2] and next(iter(net)) is net[0]
    head = net[1:]
    assert isinstance(head, nn.Sequential) and list(head.state_dict()) == ["2.weight", "2.bias"] and head[1] is net[2]
    net[-1] = nn.Linear(3, 5)
    net.append(nn.Softmax(dim=1))
    assert forward(net, np.zeros((4, 2), np.float32)).shape == (4, 5)
    with pytest.raises(IndexError, match="index 4 is outside of Sequential with 4 modules"):
        _ = net[4]
    named = nn.Sequential(OrderedDict([("hidden", nn.Linear(2, 2)), ("act", nn.Tanh())]))
    assert list(named.state_dict()) == ["hidden.weight", "hidden.bias"] and named.act is named[1]


def test_module_list_is_a_list():
    layers = nn.ModuleList([nn.ReLU()])
    layers.append(nn.Tanh()).extend([nn.Sigmoid()])
    assert [type(layer).__name__ for layer in layers] == ["ReLU", "Tanh", "Sigmoid"]
    assert isinstance(layers[1:], nn.ModuleList) and layers[1:][0] is layers[1]


# -- layers


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


@pytest.mark.parametrize("shape", [(7, 4), (4,), (2, 3, 4)], ids=str)
def test_linear(shape, rng):
    layer, x = nn.Linear(4, 5), rng.normal(size=shape).astype(np.float32)
    wanted = x @ layer.weight.numpy().T + layer.bias.numpy()
    np.testing.assert_allclose(forward(layer, x), wanted, rtol=1e-5, atol=1e-6)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(1, keepdims=True)


LAYERS = {
    "Identity": (nn.Identity(3, unused=True), lambda x: x),
    "ReLU": (nn.ReLU(inplace=True), lambda x: np.maximum(x, 0)),
    "Sigmoid": (nn.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
    "Tanh": (nn.Tanh(), np.tanh),
    "LeakyReLU": (nn.LeakyReLU(), lambda x: np.where(x > 0, x, 0.01 * x)),
    "SiLU": (nn.SiLU(), lambda x: x / (1 + np.exp(-x))),
    "Softplus": (nn.Softplus(2.0), lambda x: np.log1p(np.exp(2 * x)) / 2),
    "Softmax": (nn.Softmax(dim=1), softmax),
    "LogSoftmax": (nn.LogSoftmax(dim=1), lambda x: np.log(softmax(x))),
    "Flatten": (nn.Flatten(), lambda x: x.reshape(6, 4)),
}


def test_layers(rng):
    """All in one function, compiled once."""
    array = rng.normal(size=(6, 2, 2)).astype(np.float32)
    x = gx.input("x", gx.f32[6, 2, 2])
    run = gx.function([x], [layer(x) for layer, _ in LAYERS.values()])
    for (name, (_, formula)), found in zip(LAYERS.items(), run(array), strict=True):
        np.testing.assert_allclose(found, formula(array), rtol=1e-5, atol=1e-6, err_msg=name)


LOSSES = {
    "CrossEntropyLoss": (nn.CrossEntropyLoss(label_smoothing=0.1), lambda x, y: gx.cross_entropy(x, y, "mean", 0.1)),
    "NLLLoss": (nn.NLLLoss(reduction="sum"), lambda x, y: gx.nll_loss(x, y, "sum")),
    "MSELoss": (nn.MSELoss(reduction="none"), lambda x, y: (x - gx.one_hot(y, 3)) ** 2),
    "L1Loss": (nn.L1Loss(), lambda x, y: (x - gx.one_hot(y, 3)).abs().mean()),
    "BCELoss": (nn.BCELoss(), lambda x, y: gx.binary_cross_entropy(x, gx.one_hot(y, 3))),
    "BCEWithLogitsLoss": (
        nn.BCEWithLogitsLoss(reduction="sum"),
        lambda x, y: gx.binary_cross_entropy_with_logits(x, gx.one_hot(y, 3), "sum"),
    ),
}


def test_losses(rng):
    """Each is its function with its options; the functions have tests of their own."""
    x, y = gx.input("x", gx.f32[5, 3]), gx.input("y", gx.i64[5])
    targets = {name: y if name in ("CrossEntropyLoss", "NLLLoss") else gx.one_hot(y, 3) for name in LOSSES}
    pairs = [(loss(x, targets[name]), formula(x, y)) for name, (loss, formula) in LOSSES.items()]
    run = gx.function([x, y], [tensor for pair in pairs for tensor in pair])
    results = run(rng.uniform(0.1, 0.9, (5, 3)).astype(np.float32), rng.integers(0, 3, 5))
    for name, found, wanted in zip(LOSSES, results[::2], results[1::2], strict=True):
        assert np.isfinite(found).all(), name
        np.testing.assert_allclose(found, wanted, rtol=1e-6, err_msg=name)
    with pytest.raises(ValueError, match="'average' is not a choice"):
        nn.MSELoss(reduction="average")


# -- where values come from, and errors inside layers


def test_values_know_their_module():
    net = nn.Sequential(Block(), nn.ReLU())
    x = gx.input("x", gx.f32["batch", 4])
    modules = {}
    value = net(x).value
    stack = [value]
    while stack:
        each = stack.pop()
        if each.origin and each.op.name in ("dot", "relu", "mul"):
            modules.setdefault(each.origin.module, set()).add(each.op.name)
        stack.extend(each.operands)
    assert modules == {
        "0": {"mul", "relu"},
        "0.inner": {"dot"},
        "0.layers.0": {"dot"},
        "0.layers.1": {"dot"},
        "1": {"relu"},
    }


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


def test_sizes_of_a_layer_are_positive():
    with pytest.raises(gx.ShapeError, match=r"Linear\(0 -> 3\): sizes must be at least 1"):
        nn.Linear(0, 3)

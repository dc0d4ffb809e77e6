"""Modules: registration, names, state, modes, dtypes, text, and where values come from."""

from __future__ import annotations

import copy

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


def test_single_parts_are_found_by_dotted_names():
    net = nn.Sequential(Block(), nn.ReLU())
    assert net.get_parameter("0.inner.weight") is net[0].inner.weight
    assert net.get_buffer("0.offset") is net[0].offset
    assert net.get_submodule("") is net
    for get, target in [
        (net.get_parameter, "0.offset"),
        (net.get_parameter, "0.inner.bias"),
        (net.get_buffer, "0.scale"),
        (net.get_submodule, "0.outer"),
        (net.get_parameter, "0.outer.weight"),
    ]:
        with pytest.raises(AttributeError, match=r"has no (parameter|buffer|module)"):
            get(target)


def test_methods_are_not_hidden():
    net = nn.Linear(3, 2)
    for register in (net.register_parameter, net.register_buffer, net.register_module):
        with pytest.raises(gx.ArgumentError, match=r"is 'forward'; it must be another, since Linear\.forward is"):
            register("forward", None)
    with pytest.raises(gx.ArgumentError, match=r"since Linear\.training is something else"):
        net.training = nn.ReLU()


def test_pytorchs_addresses():
    import graphc.nn.functional as F
    import graphc.nn.init as init

    assert {getattr(F, name) is getattr(gx.functional, name) for name in gx.functional.__all__} == {True}
    assert F is nn.functional and init is nn.init
    assert all(getattr(init, name) is getattr(gx.init, name) for name in gx.init.__all__)


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
    with pytest.raises(gx.ArgumentError, match=r"the name of a part is 'a\.b'"):
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
    assert len(text.splitlines()) <= 8 and "test_module.py" in text
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


def test_dtypes():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 1, dtype=gx.f64))
    net[2].weight = nn.Parameter(net[2].weight.numpy(), dtype=gx.f64)
    assert net[2].bias.dtype.name == "f64" and net[0].bias.dtype.name == "f32"
    weight, before = net[0].weight, net[0].weight.numpy()
    assert net.double() is net and net[0].weight is weight
    floats = [*net.parameters(), net[1].running_mean, net[1].running_var]
    assert {held.dtype.name for held in floats} == {"f64"}
    assert net[1].num_batches_tracked.dtype.name == "i64"
    np.testing.assert_array_equal(weight.numpy(), before.astype(np.float64))
    x = gx.input("x", gx.f64[BATCH, 3])
    assert gx.function([x], net.eval()(x))(np.ones((2, 3))).dtype == np.float64
    with pytest.raises(gx.TraceError, match=r"0\.weight cannot become f32: a compiled function works on its memory"):
        net.float()
    assert {held.dtype.name for held in copy.deepcopy(net).float().parameters()} == {"f32"}
    assert nn.Linear(2, 2).to("cpu", gx.f64).weight.dtype.name == "f64"
    for make in (lambda: nn.Linear(2, 2).to(gx.i64), lambda: nn.Linear(2, 2, dtype=gx.i32)):
        with pytest.raises(gx.DTypeError, match="parameters of layers are f32 or f64, not i"):
            make()
    with pytest.raises(gx.TraceError, match="quantum"):
        nn.Linear(2, 2, device="quantum")


def test_a_trace_does_not_survive_a_new_dtype():
    layer, x = nn.Linear(2, 1), gx.input("x", gx.f32[BATCH, 2])
    traced = layer(x)
    layer.double()
    with pytest.raises(gx.TraceError, match=r"weight was f32\[1,2\] when function was traced and is f64\[1,2\] now"):
        gx.function([x], traced)


# -- text, and where values come from


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

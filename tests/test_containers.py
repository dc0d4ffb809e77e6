"""Containers: modules and parameters in rows, lists and dictionaries."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import graphc as gx
from graphc import nn


def names(parts):
    return [type(part).__name__ for part in parts]


def test_sequential_is_a_sequence():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert len(net) == 3 and net[-1] is net[2] and next(iter(net)) is net[0]
    head = net[1:]
    assert isinstance(head, nn.Sequential) and list(head.state_dict()) == ["2.weight", "2.bias"] and head[1] is net[2]
    net[-1] = nn.Linear(3, 5)
    net.append(nn.Softmax(dim=1))
    assert tuple(net(gx.input("x", gx.f32[4, 2])).shape) == (4, 5)
    with pytest.raises(IndexError, match="index 4 is outside of Sequential with 4 parts"):
        _ = net[4]
    named = nn.Sequential(OrderedDict([("hidden", nn.Linear(2, 2)), ("act", nn.Tanh())]))
    assert list(named.state_dict()) == ["hidden.weight", "hidden.bias"] and named.act is named[1]


def test_sequential_changes_as_in_pytorch():
    net = nn.Sequential(nn.ReLU(), nn.Tanh())
    net.insert(1, nn.Linear(2, 2))
    assert names(net) == ["ReLU", "Linear", "Tanh"] and list(net.state_dict()) == ["1.weight", "1.bias"]
    assert type(net.pop(0)) is nn.ReLU
    assert names(net) == ["Linear", "Tanh"] and list(net.state_dict()) == ["0.weight", "0.bias"]
    both = net + nn.Sequential(nn.ReLU())
    assert names(both) == ["Linear", "Tanh", "ReLU"] and both[0] is net[0] and len(net) == 2
    net += nn.Sequential(nn.Sigmoid())
    net.extend([nn.ReLU()])
    del net[1:3]
    assert names(net) == ["Linear", "ReLU"] and [name for name, _ in net.named_children()] == ["0", "1"]
    with pytest.raises(TypeError, match="must be a Module or None, got int"):
        net.append(3)
    with pytest.raises(TypeError):
        net + [nn.ReLU()]


def test_parts_of_a_sequential_keep_their_names():
    """And what is appended to them replaces none of them."""
    tail = nn.Sequential(nn.ReLU(), nn.Tanh(), nn.Sigmoid())[1:]
    tail.append(nn.ReLU())
    assert [name for name, _ in tail.named_children()] == ["1", "2", "3"]
    named = nn.Sequential(OrderedDict(act=nn.Tanh()))
    named.append(nn.ReLU())
    assert [name for name, _ in named.named_children()] == ["act", "1"]


def test_parts_of_a_subclass_are_of_that_class():
    class Stack(nn.Sequential):
        def __init__(self, depth):
            super().__init__(*(nn.Linear(2, 2) for _ in range(depth)))

    part = Stack(3)[1:]
    assert type(part) is Stack and len(part) == 2


def test_module_list_is_a_list():
    layers = nn.ModuleList([nn.ReLU()])
    layers.append(nn.Tanh()).extend([nn.Sigmoid()])
    assert names(layers) == ["ReLU", "Tanh", "Sigmoid"]
    tail = layers[1:]
    assert isinstance(tail, nn.ModuleList) and tail[0] is layers[1]
    assert [name for name, _ in tail.named_children()] == ["0", "1"]
    layers.insert(0, nn.SiLU())
    layers[1] = nn.Identity()
    del layers[-1]
    assert names(layers) == ["SiLU", "Identity", "Tanh"] and names(layers + [nn.ReLU()])[-1] == "ReLU"
    layers += layers
    assert len(layers) == 6
    with pytest.raises(NotImplementedError, match="ModuleList has no forward"):
        layers(gx.input("x", gx.f32[1]))


def test_module_dict_is_a_dict():
    heads = nn.ModuleDict({"colour": nn.Linear(2, 3), "size": nn.Linear(2, 1)})
    heads["act"] = nn.ReLU()
    assert list(heads) == list(heads.keys()) == ["colour", "size", "act"] and len(heads) == 3 and "size" in heads
    assert list(heads.state_dict()) == ["colour.weight", "colour.bias", "size.weight", "size.bias"]
    assert heads.size is heads["size"] is dict(heads.items())["size"]
    assert type(heads.pop("act")) is nn.ReLU and names(heads.values()) == ["Linear", "Linear"]
    heads.update([("size", nn.Tanh())])
    del heads["colour"]
    assert names(heads.values()) == ["Tanh"] and len({heads, nn.ModuleDict(heads)}) == 2
    heads.clear()
    assert not len(heads) and not list(heads.children())
    for key in ("pop", "a.b", 3):
        with pytest.raises(gx.ArgumentError, match="the name of a part"):
            heads[key] = nn.ReLU()


def test_parameter_list_is_a_list():
    class Polynomial(nn.Module):
        def __init__(self):
            self.factors = nn.ParameterList([np.full(2, 3.0), nn.Parameter(np.ones(2))])

        def forward(self, x):
            return self.factors[0] + self.factors[1] * x

    net = Polynomial()
    assert list(net.state_dict()) == ["factors.0", "factors.1"]
    assert [parameter.name for parameter in net.parameters()] == ["factors.0", "factors.1"]
    x = gx.input("x", gx.f32[2])
    np.testing.assert_array_equal(gx.function([x], net(x))(np.ones(2, np.float32)), [4, 4])
    net.factors.append(np.zeros(1)).extend([np.zeros(2)])
    net.factors[0] = np.zeros(3)
    assert [parameter.numpy().size for parameter in net.factors] == [3, 2, 1, 2] and len(net.factors[1:3]) == 2
    assert repr(net.factors[:2]) == "ParameterList(\n  (0): f32[3]\n  (1): f32[2]\n)"
    with pytest.raises(TypeError, match="must be a Parameter or None, got ReLU"):
        net.factors.append(nn.ReLU())


def test_parameter_dict_is_a_dict():
    held = nn.ParameterDict({"left": np.zeros(2)})
    held["right"] = nn.Parameter(np.ones(3))
    assert list(held.state_dict()) == ["left", "right"] and held.right is held["right"] and held.get("up") is None
    copied = held.copy()
    assert copied["left"] is held["left"] and held.setdefault("left", np.zeros(9)) is held["left"]
    assert held.pop("left").numpy().shape == (2,) and list(held) == ["right"] and list(copied) == ["left", "right"]
    assert repr(copied) == "ParameterDict(\n  (left): f32[2]\n  (right): f32[3]\n)"

"""States of modules and optimizers in PyTorch's form, both ways."""

from __future__ import annotations

import numpy as np
import pytest
from foreign_arrays import Recording, WithArray

import graphc as gx
from graphc import nn, optim


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def test_states_of_modules_are_taken_as_tensors():
    net, other = network(), network()
    net.load_state_dict({name: Recording(array) for name, array in other.state_dict().items()})
    for name, found in net.state_dict().items():
        np.testing.assert_array_equal(found, other.state_dict()[name])


def training(net, optimizer):
    """A compiled step, and a batch for it."""
    step = gx.train_step(net, nn.MSELoss(), optimizer, x=gx.f32["batch", 3], y=gx.f32["batch", 2])
    generator = np.random.default_rng(5)
    return step, [generator.standard_normal((6, width)).astype(np.float32) for width in (3, 2)]


OPTIMIZERS = {
    "SGD": {"lr": 0.1},
    "SGD momentum": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "SGD dampening": {"lr": 0.1, "momentum": 0.9, "dampening": 0.5},
    "Adam": {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1},
    "AdamW": {"lr": 0.01},
    "NAdam": {"lr": 0.01},
    "RAdam": {"lr": 0.01},
    "Adamax": {"lr": 0.01},
    "RMSprop": {"lr": 0.01, "momentum": 0.5, "centered": True},
    "Adagrad": {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.1},
    "Adadelta": {"lr": 1.0},
}


def make(library, title, net):
    """An optimizer of two groups, which differ in their learning rates."""
    (first, *parameters), settings = net.parameters(), OPTIMIZERS[title]
    groups = [{"params": [first], "lr": settings["lr"] / 2}, {"params": parameters}]
    return getattr(library, title.partition(" ")[0])(groups, **settings)


def flat(state):
    return {name: np.asarray(value).tolist() for name, value in state.items()}


@pytest.mark.parametrize("title", OPTIMIZERS)
def test_states_of_optimizers_go_through_the_form_of_pytorch(title):
    net = network()
    ours, fresh = make(optim, title, net), make(optim, title, net)
    before = flat(ours.state_dict())
    fresh.load_state_dict(ours.torch_state_dict(convert=WithArray))
    assert flat(fresh.state_dict()) == before
    step, batch = training(net, ours)
    for _ in range(3):
        step(*batch)
    state = ours.torch_state_dict()
    assert [group["params"] for group in state["param_groups"]] == [[0], [1, 2, 3]]
    fresh.load_state_dict(state)
    for name, found in flat(ours.state_dict()).items():
        if name.startswith("steps") and title == "SGD dampening":
            found = 1  # PyTorch's does not count steps; all that matters is whether there was one
        np.testing.assert_allclose(flat(fresh.state_dict())[name], found, rtol=1e-6, err_msg=name)


def test_state_of_adam_as_pytorch_writes_it():
    """Numbers of PyTorch 2.13: Adam(lr=0.001) on (w**2).sum() at w = 1, one step; a second tensor had no gradient."""
    group = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False, "maximize": False}
    group |= {"foreach": None, "capturable": False, "differentiable": False, "fused": None, "params": [0, 1]}
    slots = {"step": np.float32(1), "exp_avg": Recording(np.full(2, 0.2)), "exp_avg_sq": np.full(2, 0.004)}
    w, idle = gx.Parameter(np.full(2, 0.999)), gx.Parameter(np.ones(3))
    optimizer = optim.Adam([w, idle])
    optimizer.load_state_dict({"state": {0: slots}, "param_groups": [group | {"decoupled_weight_decay": False}]})

    @gx.step
    def step(x: gx.f32["batch"]):
        loss = (w**2).sum() + x.sum() * 0
        loss.backward()
        optimizer.step()
        return loss

    step(np.zeros(1, np.float32))
    np.testing.assert_allclose(w.numpy(), 0.99800003, rtol=1e-7)
    state = optimizer.torch_state_dict()["state"]
    assert state[0]["step"] == 2 and state[0]["step"].dtype == np.float32
    np.testing.assert_allclose(state[0]["exp_avg"], 0.9 * 0.2 + 0.1 * 1.998, rtol=1e-6)
    np.testing.assert_array_equal(state[1]["exp_avg"], np.zeros(3))


def test_states_of_other_optimizers_are_refused():
    net = network()
    adam = optim.Adam(net.parameters())
    state = adam.torch_state_dict()
    (group,) = state["param_groups"]

    def refused(text, **changed):
        before = flat(adam.state_dict())
        with pytest.raises(gx.CheckpointError) as caught:
            adam.load_state_dict(state | changed)
        assert text in str(caught.value)
        assert "test_torch_state.py:" in str(caught.value)
        assert flat(adam.state_dict()) == before

    refused("has groups of [4] parameters, the state of [3]", param_groups=[group | {"params": [0, 1, 2]}])
    refused("has groups of [4] parameters, the state of [4, 0]", param_groups=[group, group | {"params": []}])
    refused("has no setting momentum, which is 0.9", param_groups=[group | {"momentum": 0.9}])
    refused("keeps no momentum_buffer", state={0: {"momentum_buffer": np.zeros((4, 3))}})
    refused("one step a group, the state has [1.0, 2.0]", state={k: {"step": k + 1} for k in range(2)})
    refused("0.weight.exp_avg is [4, 3] in Adam and [3, 4]", state={0: {"exp_avg": np.zeros((3, 4))}})
    with pytest.raises(gx.CheckpointError, match="SGD has no setting betas"):
        optim.SGD(net.parameters()).load_state_dict(state)


# -- with PyTorch itself, where it is installed


LAYERS = {
    "Linear": {"in_features": 4, "out_features": 3},
    "Bilinear": {"in1_features": 4, "in2_features": 3, "out_features": 2},
    "Embedding": {"num_embeddings": 5, "embedding_dim": 4},
    "Conv1d": {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "groups": 2},
    "Conv2d": {"in_channels": 4, "out_channels": 6, "kernel_size": (3, 2), "bias": False},
    "ConvTranspose2d": {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "groups": 2},
    "BatchNorm1d": {"num_features": 4},
    "BatchNorm2d": {"num_features": 4, "affine": False},
    "LayerNorm": {"normalized_shape": (3, 4)},
    "GroupNorm": {"num_groups": 2, "num_channels": 4},
    "RMSNorm": {"normalized_shape": 4},
    "PReLU": {"num_parameters": 4},
    "RNN": {"input_size": 4, "hidden_size": 3, "num_layers": 2},
    "LSTM": {"input_size": 4, "hidden_size": 3, "bidirectional": True},
    "GRU": {"input_size": 4, "hidden_size": 3, "bias": False},
    "MultiheadAttention": {"embed_dim": 4, "num_heads": 2},
    "TransformerEncoderLayer": {"d_model": 4, "nhead": 2, "dim_feedforward": 8},
}


@pytest.mark.parametrize("name", LAYERS)
def test_states_of_layers_of_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs, ours = getattr(torch.nn, name)(**LAYERS[name]), getattr(nn, name)(**LAYERS[name])
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    state = ours.state_dict()
    assert list(state) == list(theirs.state_dict())
    for key, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(state[key], tensor)
        assert torch.from_numpy(state[key]).dtype == tensor.dtype
    theirs.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()}, strict=True)


def test_models_of_pytorch_go_on_here_and_back():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    for title in OPTIMIZERS:
        theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
        net = network()
        their_optimizer, optimizer = make(torch.optim, title, theirs), make(optim, title, net)
        step, batch = training(net, optimizer)
        x, y = map(torch.from_numpy, batch)

        def their_steps(model, updates, x=x, y=y):
            for _ in range(3):
                updates.zero_grad()
                torch.nn.functional.mse_loss(model(x), y).backward()
                updates.step()

        def compare(title=title, net=net, theirs=theirs):
            for name, tensor in theirs.state_dict().items():
                np.testing.assert_allclose(net.state_dict()[name], tensor, rtol=1e-5, atol=1e-7, err_msg=title)

        their_steps(theirs, their_optimizer)
        net.load_state_dict(theirs.state_dict())
        optimizer.load_state_dict(their_optimizer.state_dict())
        their_steps(theirs, their_optimizer)
        for _ in range(3):
            step(x, y)
        compare()
        theirs.load_state_dict({name: torch.from_numpy(array) for name, array in net.state_dict().items()}, strict=True)
        their_optimizer = make(torch.optim, title, theirs)
        their_optimizer.load_state_dict(optimizer.torch_state_dict(torch.from_numpy))
        their_steps(theirs, their_optimizer)
        for _ in range(3):
            step(x, y)
        compare()

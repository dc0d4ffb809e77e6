"""The examples of the public contract, as written; what they leave open is filled in around them."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc import data, datasets, nn, optim


@pytest.fixture
def images():
    return datasets.fashion_mnist(sample=True)


def test_explicit_graph():
    features = np.random.default_rng(0).standard_normal((1000, 2)).astype(np.float32)
    labels = (features @ np.array([[2.0], [-3.4]]) + 4.2).astype(np.float32)
    B = gx.dim("batch", max=256)
    x, y = gx.input("x", gx.f32[B, 2]), gx.input("y", gx.f32[B, 1])
    w = gx.parameter("w", np.zeros((2, 1), np.float32))
    b = gx.parameter("b", np.zeros(1, np.float32))
    loss = ((x @ w + b - y) ** 2 / 2).mean()
    gw, gb = gx.grad(loss, [w, b])
    lr = gx.scalar("lr", 0.03)
    step = gx.function([x, y], loss, updates={w: w - lr * gw, b: b - lr * gb})
    first = step(features[:10], labels[:10])
    assert isinstance(first, np.floating) and first > 0
    step.set(lr=0.01)
    assert w.numpy().shape == (2, 1) and w.numpy().any()


def test_functions_live_in_gx_and_on_tensors():
    x = gx.input("x", gx.f32["batch", 4])
    array = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    outputs = {
        "exp": gx.exp(x),
        "method": x.exp(),
        "softmax": gx.softmax(x, axis=1),
        "dim": gx.softmax(x, dim=1),
        "matmul": gx.matmul(x, x.T),
    }
    found = gx.function([x], outputs)(array)
    np.testing.assert_allclose(found.exp, np.exp(array), rtol=1e-6)
    np.testing.assert_array_equal(found.exp, found.method)
    np.testing.assert_allclose(found.softmax.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(found.softmax, found.dim)
    np.testing.assert_allclose(found.matmul, array @ array.T, rtol=1e-5)


def test_second_derivatives_and_choice():
    x = gx.parameter("x", np.array([0.5, 2.0], np.float32))
    f = (x**3).sum()
    second = gx.grad(gx.grad(f, x).sum(), x)
    np.testing.assert_allclose(gx.function([], second)(), [3, 12], rtol=1e-6)
    held = gx.grad((gx.stop_gradient(x) * x).sum(), x)
    np.testing.assert_allclose(gx.function([], held)(), [0.5, 2.0])
    chosen = gx.where(x > 1, x, 0.0)
    np.testing.assert_allclose(gx.function([], chosen)(), [0, 2])


def test_loop_body_traced_once():
    w, b = gx.parameter("w", np.zeros((2, 1))), gx.parameter("b", np.zeros(1))
    lr = 0.03

    def linreg(X, w, b):
        return X @ w + b

    def squared_loss(y_hat, y):
        return (y_hat - y) ** 2 / 2

    traced = []

    @gx.step
    def step(X: gx.f32["batch", 2], y: gx.f32["batch", 1]):
        traced.append(1)
        l = squared_loss(linreg(X, w, b), y)
        l.sum().backward()
        with gx.no_grad():
            for p in (w, b):
                p -= lr * p.grad / X.shape[0]
                p.grad.zero_()
        return l.mean()

    for batch in (10, 3):
        step(np.ones((batch, 2), np.float32), np.ones((batch, 1), np.float32))
    assert len(traced) == 1 and w.numpy().any()


def test_optimizer_inside_a_traced_body():
    net = nn.Linear(2, 1)
    opt = optim.SGD(net.parameters(), lr=0.1)
    loss = nn.MSELoss()

    @gx.step
    def step(X: gx.f32["batch", 2], y: gx.f32["batch", 1]):
        l = loss(net(X), y)
        opt.zero_grad()
        l.backward()
        opt.step()
        return l

    x, y = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
    losses = [step(x, y) for _ in range(20)]
    assert losses[-1] < 0.01 * losses[0]


def test_layers(images, tmp_path):
    B = gx.dim("batch", max=256)
    x_train, y_train = images.x_train[:1000], images.y_train[:1000]
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    opt = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    step = gx.train_step(net, nn.CrossEntropyLoss(), opt, x=gx.f32[B, 1, 28, 28], y=gx.i64[B], metrics=["accuracy"])
    test = gx.eval_step(net, nn.CrossEntropyLoss(), x=gx.f32[B, 1, 28, 28], y=gx.i64[B], metrics=["accuracy"])
    loader = data.DataLoader(data.TensorDataset(x_train, y_train), batch_size=256, shuffle=True, seed=1)
    test_loader = data.DataLoader(data.TensorDataset(images.x_test, images.y_test), batch_size=256)
    for _ in range(2):
        m = step.epoch(loader)
        v = test.epoch(test_loader)
        assert np.isfinite([m.loss, m.accuracy, v.accuracy]).all()
    one = step(x_train[:7], y_train[:7])
    assert one._fields == m._fields
    history = gx.fit(step, loader, epochs=3, validate=(test, test_loader), callbacks=[gx.EarlyStopping(patience=3)])
    assert history["val_accuracy"][-1] > 0.6
    path = tmp_path / "mlp.safetensors"
    gx.save(net.state_dict(), path)
    before = net.state_dict()
    step.epoch(loader)
    net.load_state_dict(gx.load(path))
    for name, weights in net.state_dict().items():
        np.testing.assert_array_equal(weights, before[name])
    logits = gx.predict_step(net, x=gx.f32[B, 1, 28, 28])(images.x_test[:5])
    assert logits.shape == (5, 10)


def test_custom_module_and_init():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(4, 8)
            self.scale = nn.Parameter(np.ones(8, np.float32))

        def forward(self, x):
            return gx.tanh(self.fc1(x)) * self.scale

    def init_weights(m):
        if type(m) is nn.Linear:
            nn.init.normal_(m.weight, std=0.01)

    net = Net()
    net.apply(init_weights)
    assert np.abs(net.fc1.weight.numpy()).max() < 0.1
    net.eval()
    assert not net.training and not net.fc1.training
    out = gx.predict_step(net, x=gx.f32["batch", 4], device="cuda" if gx.cuda.is_available() else "cpu")
    assert out(np.ones((2, 4), np.float32)).shape == (2, 8)


def test_looking(tmp_path):
    net = nn.Sequential(nn.Linear(4, 3))
    opt = optim.SGD(net.parameters(), lr=0.1)
    step = gx.train_step(net, nn.CrossEntropyLoss(), opt, x=gx.f32["batch", 4], y=gx.i64["batch"])
    assert "kernels" in repr(step) and "train_step" in step.summary()
    for level in ("layers", "graph", "kernels"):
        text = step.to_dot(tmp_path / f"{level}.dot", level=level)
        assert text.startswith("digraph") and (tmp_path / f"{level}.dot").read_text() == text
        drawing = step.to_svg(tmp_path / f"{level}.svg", level=level)
        assert drawing.startswith("<svg") and (tmp_path / f"{level}.svg").read_text() == drawing
    assert step._repr_svg_() == step.to_svg() == step.to_svg(level="layers")
    assert step.to_html(tmp_path / "step.html") == (tmp_path / "step.html").read_text()
    assert "graph train_step" in step.text("graph") and "program train_step" in step.text("program")
    assert "nest " in step.text("kernels") and "gradient" in step.text("stabilise")
    assert "def train_step" in step.source() and "test_api.py" in step.source()
    assert "@step(" in step.llvm() and "step:" in step.assembly()
    graph = gx.to_networkx(step)
    assert graph.number_of_nodes() > 10 and any(node["op"] == "dot" for _, node in graph.nodes(data=True))
    with pytest.raises(gx.ArgumentError, match="level is 'no such level'; it must be one of 'graph'"):
        step.text("no such level")


def test_copies_and_layouts_are_the_tensor_itself():
    x = gx.input("x", gx.f32[2, 3])
    step = gx.function([x], [x.T.contiguous(), x.clone() * 2, gx.grad(x.clone().sum(), x)])
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    for found, expected in zip(step(numbers), (numbers.T, numbers * 2, np.ones((2, 3))), strict=True):
        np.testing.assert_array_equal(found, expected)

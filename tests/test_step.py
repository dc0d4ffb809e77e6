"""The three doors, what they compile to, and the errors at them: right line, at most eight lines, nothing changed."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from refusals import line_of

import graphc as gx
from graphc import data, datasets, errors, nn
from graphc import functional as F

BATCHES = (1, 10, 96, 255, 256)


def check_error(caught, kind, marker, *words):
    text = str(caught.value)
    assert isinstance(caught.value, kind)
    assert len(text.splitlines()) <= 8, text
    assert f"{line_of(__file__, marker)}:" in text, text
    assert all(word in text for word in words), text


def regression(bound=256, nan=None):
    batch = gx.dim("batch", max=bound)
    x, y = gx.input("x", gx.f32[batch, 2]), gx.input("y", gx.f32[batch, 1])
    w, b = gx.parameter("w", np.zeros((2, 1), np.float32)), gx.parameter("b", np.zeros(1, np.float32))
    loss = ((x @ w + b - y) ** 2 / 2).mean()
    gw, gb = gx.grad(loss, [w, b])
    lr = gx.scalar("lr", 0.03)
    step = gx.function([x, y], loss, updates={w: w - lr * gw, b: b - lr * gb}, nan=nan)
    return step, w, b


def samples(rng, count=1000):
    x = rng.standard_normal((count, 2)).astype(np.float32)
    y = x @ np.array([[2.0], [-3.4]], np.float32) + np.float32(4.2)
    return x, (y + 0.01 * rng.standard_normal((count, 1))).astype(np.float32)


def test_explicit_graph_recovers_the_line(rng):
    step, w, b = regression()
    x, y = samples(rng)
    for _ in range(5):
        for start in range(0, 1000, 10):
            loss = step(x[start : start + 10], y[start : start + 10])
    assert isinstance(loss, np.float32)
    np.testing.assert_allclose(w.numpy().ravel(), [2, -3.4], atol=0.01)
    np.testing.assert_allclose(b.numpy(), 4.2, atol=0.01)


def test_scalar_changes_without_a_new_compile(rng):
    step, w, b = regression()
    x, y = samples(rng, 10)
    step.set(lr=0.0)
    step(x, y)
    assert (w.numpy() == 0).all()
    step.set(lr=0.5)
    step(x, y)
    assert (w.numpy() != 0).all()


def test_derivatives_of_the_notes():
    a, b = gx.parameter("a", np.float32(2)), gx.parameter("b", np.float32(1))
    e = (a + b) * (b + 1)
    assert gx.function([], [e, *gx.grad(e, [a, b])])() == (6, 2, 5)


def test_second_derivative():
    x = gx.parameter("x", np.array([0.5, 1.0, 2.0], np.float32))
    first = gx.grad((x * x * x).sum(), x)
    second = gx.grad(first.sum(), x)
    np.testing.assert_allclose(gx.function([], second)(), 6 * x.numpy(), rtol=1e-6)


def test_traced_loop_body_equals_the_explicit_graph(rng):
    explicit, w, b = regression()
    w2, b2 = gx.parameter("w", np.zeros((2, 1), np.float32)), gx.parameter("b", np.zeros(1, np.float32))

    @gx.step
    def step(X: gx.f32["batch", 2], y: gx.f32["batch", 1]):
        l = (X @ w2 + b2 - y) ** 2 / 2
        l.sum().backward()
        with gx.no_grad():
            for p in (w2, b2):
                p -= 0.03 * p.grad / X.shape[0]
                p.grad.zero_()
        return l.mean()

    x, y = samples(rng)
    for start in range(0, 200, 10):
        first, second = (
            explicit(x[start : start + 10], y[start : start + 10]),
            step(x[start : start + 10], y[start : start + 10]),
        )
        assert first == pytest.approx(second, rel=1e-5)
    np.testing.assert_allclose(w.numpy(), w2.numpy(), rtol=1e-5)
    np.testing.assert_allclose(b.numpy(), b2.numpy(), rtol=1e-5)


def test_in_place_methods_are_recorded():
    w = gx.parameter("w", np.full(3, 2.0, np.float32))

    @gx.step
    def step(x: gx.f32[3]):
        with gx.no_grad():
            w.add_(x, alpha=2.0)
            w.mul_(3.0)
            w.sub_(x)
        return w

    x = np.array([0.0, 1.0, 2.0], np.float32)
    np.testing.assert_allclose(step(x), (2 + 2 * x) * 3 - x)
    np.testing.assert_allclose(w.numpy(), (2 + 2 * x) * 3 - x)
    w.fill_(0.5)
    assert (w.numpy() == 0.5).all()


def test_one_native_epoch_equals_the_loop_over_batches(rng):
    x, y = samples(rng, 1007)  # the last batch has 7 samples
    by_hand, w, b = regression()
    native, w2, b2 = regression()
    make = lambda: data.DataLoader(data.TensorDataset(x, y), batch_size=10, shuffle=True, seed=5)  # noqa: E731
    loader, other = make(), make()
    for _ in range(2):
        losses = [(by_hand(*batch), len(batch[0])) for batch in loader]
        record = native.epoch(other)
        assert record[0] == pytest.approx(sum(loss * count for loss, count in losses) / 1007, rel=1e-6)
    np.testing.assert_array_equal(w.numpy(), w2.numpy())
    np.testing.assert_array_equal(b.numpy(), b2.numpy())


def test_no_call_compiles_again(rng, caplog):
    step, _, _ = regression()
    x, y = samples(rng, 256)
    with caplog.at_level("INFO", logger="graphc"):
        for batch in BATCHES:
            step(x[:batch], y[:batch])
    assert not caplog.records
    with caplog.at_level("INFO", logger="graphc"):
        regression()
    assert [record.message for record in caplog.records if "1 kernels" in record.message]


def test_images_of_bytes_become_floats(rng):
    batch = gx.dim("batch", max=8)
    x = gx.input("x", gx.f32[batch, 3])
    total = gx.function([x], x.sum())
    pixels = rng.integers(0, 256, (8, 3)).astype(np.uint8)
    assert total(pixels) == pytest.approx(pixels.sum() / 255, rel=1e-6)
    record = total.epoch(data.DataLoader(data.TensorDataset(pixels), batch_size=8))
    assert record[0] == pytest.approx(pixels.sum() / 255, rel=1e-6)


def test_outputs_come_as_they_were_given():
    x = gx.input("x", gx.f32["batch", 3])
    one = gx.function([x], {"total": x.sum(), "doubled": x + x})(np.ones((2, 3), np.float32))
    assert one.total == 6 and one.doubled.shape == (2, 3)
    assert gx.function([x], None)(np.ones((2, 3), np.float32)) is None
    (same,) = gx.function([x], [x])(np.ones((2, 3), np.float32))
    np.testing.assert_array_equal(same, np.ones((2, 3)))


# -- errors while building


def test_wrong_inner_size():
    x, w = gx.input("x", gx.f32["batch", 3]), gx.parameter("w", np.zeros((2, 1), np.float32))
    with pytest.raises(gx.ShapeError) as caught:
        x @ w  # inner size
    check_error(caught, gx.ShapeError, "inner size", "f32[batch,3]", "f32[2,1]", "3", "2")


def test_shapes_that_do_not_broadcast():
    x = gx.input("x", gx.f32["batch", 3])
    with pytest.raises(gx.ShapeError) as caught:
        x + np.zeros(4, np.float32)  # broadcast
    check_error(caught, gx.ShapeError, "broadcast", "f32[batch,3]", "f32[4]")


def test_loss_that_is_no_scalar():
    w = gx.parameter("w", np.zeros(3, np.float32))
    with pytest.raises(gx.GradientError) as caught:
        gx.grad(w * w, w)  # no scalar
    check_error(caught, gx.GradientError, "no scalar", "f32[3]", "mean()")


def test_missing_gradient():
    w, v = gx.parameter("w", np.ones(3, np.float32)), gx.parameter("v", np.ones(3, np.float32))
    with pytest.raises(gx.GradientError) as caught:
        gx.grad((w * w).sum(), [w, v])  # missing gradient
    check_error(caught, gx.GradientError, "missing gradient", "v")
    with pytest.raises(gx.GradientError) as caught:
        gx.grad((w > 0).sum().float(), w)  # not differentiable
    check_error(caught, gx.GradientError, "not differentiable", "w")


def test_number_needed_while_tracing():
    x = gx.input("x", gx.f32["batch", 3])
    with pytest.raises(gx.TraceError) as caught:
        if x.sum() > 0:  # condition
            pass
    check_error(caught, gx.TraceError, "condition", "gx.where")
    with pytest.raises(gx.TraceError) as caught:
        float(x.sum())  # float
    check_error(caught, gx.TraceError, "float")
    with pytest.raises(gx.TraceError) as caught:
        for _ in range(x.shape[0]):  # symbolic range
            pass
    check_error(caught, gx.TraceError, "symbolic range", "batch")


def test_input_that_is_not_declared():
    x, y = gx.input("x", gx.f32["batch", 3]), gx.input("y", gx.f32["batch", 3])  # undeclared
    with pytest.raises(gx.TraceError) as caught:
        gx.function([x], (x * y).sum())
    check_error(caught, gx.TraceError, "undeclared", "'y'")


def test_update_outside_of_a_step():
    w = gx.parameter("w", np.zeros(3, np.float32))
    with pytest.raises(gx.TraceError) as caught:
        w -= 1.0  # outside
    check_error(caught, gx.TraceError, "outside", "@gx.step")


def test_step_without_annotation():
    with pytest.raises(gx.TraceError) as caught:

        @gx.step  # unannotated
        def step(x):
            return x

    assert "'x'" in str(caught.value) and "test_step.py" in str(caught.value)


# -- errors while calling


def unchanged(w, b):
    return (w.numpy() == 0).all() and (b.numpy() == 0).all()


def test_wrong_dtype(rng):
    step, w, b = regression()
    x, y = samples(rng, 4)
    with pytest.raises(gx.DTypeError) as caught:
        step(x.astype(np.float64), y)  # dtype
    check_error(caught, gx.DTypeError, "dtype", "float64", "f32[batch,2]", "astype")
    assert unchanged(w, b)


def test_wrong_shape(rng):
    step, w, b = regression()
    x, y = samples(rng, 4)
    with pytest.raises(gx.ShapeError) as caught:
        step(x[:, :1], y)  # shape
    check_error(caught, gx.ShapeError, "shape", "(4, 1)", "f32[batch,2]")
    with pytest.raises(gx.BatchError) as caught:
        step(x, y[:3])  # two batch sizes
    check_error(caught, gx.BatchError, "two batch sizes", "3", "4")
    assert unchanged(w, b)


def test_batch_over_the_bound(rng):
    step, w, b = regression(bound=16)
    x, y = samples(rng, 17)
    with pytest.raises(gx.BatchError) as caught:
        step(x, y)  # bound
    check_error(caught, gx.BatchError, "bound", "17", "16", "max=17")
    with pytest.raises(gx.BatchError) as caught:
        step.epoch(data.DataLoader(data.TensorDataset(x, y), batch_size=17))  # epoch bound
    check_error(caught, gx.BatchError, "epoch bound", "17", "16")
    with pytest.raises(gx.BatchError):
        step(x[:0], y[:0])
    assert unchanged(w, b)


def classifier():
    batch = gx.dim("batch", max=8)
    x, y = gx.input("x", gx.f32[batch, 4]), gx.input("y", gx.i64[batch])
    w = gx.parameter("w", np.zeros((4, 3), np.float32))
    loss = F.cross_entropy(x @ w, y)
    return gx.function([x, y], loss, updates={w: w - gx.grad(loss, w)}), w


@pytest.mark.parametrize("label", [3, -1, 2**40])
def test_label_out_of_range(rng, label):
    step, w = classifier()
    x, y = rng.standard_normal((5, 4)).astype(np.float32), np.array([0, 1, 2, label, 0])
    with pytest.raises(gx.LabelError) as caught:
        step(x, y)  # label
    check_error(caught, gx.LabelError, "label", str(label), "index 3", "0..2")
    loader = data.DataLoader(data.TensorDataset(np.repeat(x, 10, 0), np.repeat(y, 10)), batch_size=5)
    with pytest.raises(gx.LabelError) as caught:
        step.epoch(loader)  # epoch label
    check_error(caught, gx.LabelError, "epoch label", str(label))
    assert (w.numpy() == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_loss_that_is_not_finite(rng, bad):
    step, w, b = regression(nan="raise")
    x, y = samples(rng, 30)
    y[25] = bad
    with pytest.raises(gx.NumericsError) as caught:
        step(x, y)  # not finite
    check_error(caught, gx.NumericsError, "not finite", "not finite")
    assert unchanged(w, b)
    with pytest.raises(gx.NumericsError) as caught:
        step.epoch(data.DataLoader(data.TensorDataset(x, y), batch_size=10))  # epoch not finite
    check_error(caught, gx.NumericsError, "epoch not finite", "step 2")
    assert np.isfinite(w.numpy()).all()


def test_unknown_scalar():
    step, _, _ = regression()
    with pytest.raises(gx.TraceError) as caught:
        step.set(learning_rate=0.1)  # scalar
    check_error(caught, gx.TraceError, "scalar", "learning_rate", "lr")


def test_state_of_another_function():
    step, w, b = regression()
    with pytest.raises(gx.CheckpointError) as caught:
        step.load_state_dict({"w": np.ones((2, 1), np.float32), "c": np.ones(1, np.float32)})  # state names
    check_error(caught, gx.CheckpointError, "state names", "b", "c")
    with pytest.raises(gx.CheckpointError) as caught:
        step.load_state_dict({"w": np.ones((3, 1), np.float32), "b": np.ones(1, np.float32)})  # state shape
    check_error(caught, gx.CheckpointError, "state shape", "[3, 1]", "[2, 1]")
    assert unchanged(w, b)


def test_every_error_is_a_graphc_error():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 8 and all(issubclass(kind, gx.GraphcError) for kind in kinds)


# -- errors of files and their contents


def test_checkpoint_keys_and_shapes():
    net = nn.Sequential(nn.Linear(4, 3))
    before = net.state_dict()
    with pytest.raises(gx.CheckpointError) as caught:
        net.load_state_dict({"0.weight": before["0.weight"], "0.offset": before["0.bias"]})  # keys
    check_error(caught, gx.CheckpointError, "keys", "0.bias", "0.offset")
    with pytest.raises(gx.CheckpointError) as caught:
        net.load_state_dict({"0.weight": np.ones((3, 5), np.float32), "0.bias": before["0.bias"]})  # shapes
    check_error(caught, gx.CheckpointError, "shapes", "0.weight", "[3, 4]", "[3, 5]")
    for name, weights in net.state_dict().items():
        np.testing.assert_array_equal(weights, before[name])


def test_truncated_checkpoint(tmp_path):
    path = tmp_path / "net.safetensors"
    gx.save({"w": np.ones((4, 3), np.float32)}, path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(gx.CheckpointError) as caught:
        gx.load(path)  # truncated
    check_error(caught, gx.CheckpointError, "truncated", str(path), "truncated")


def test_damaged_data_set(tmp_path):
    images = {f"x_{part}": np.zeros((count, 28, 28), np.uint8) for part, count in (("train", 60000), ("test", 10000))}
    labels = {f"y_{part}": np.zeros(count, np.uint8) for part, count in (("train", 60000), ("test", 10000))}
    np.savez_compressed(tmp_path / "mnist.npz", **images, **labels)
    with pytest.raises(gx.DatasetError) as caught:
        datasets.mnist(tmp_path)  # damaged
    check_error(caught, gx.DatasetError, "damaged", "mnist.npz")


def test_models_that_are_gone_leave_no_memory_behind():
    def build():
        net = nn.Sequential(nn.Linear(4, 3))
        step = gx.predict_step(net, x=gx.f32["batch", 4])
        step(np.ones((2, 4), np.float32))
        return weakref.ref(net[0].weight), weakref.ref(step)

    found = build()
    gc.collect()
    assert [reference() for reference in found] == [None, None]


def test_a_parameter_does_not_count_the_functions_that_are_gone():
    net = nn.Linear(4, 3)
    for _ in range(2):
        gx.predict_step(net, x=gx.f32["batch", 4])
        gc.collect()
    kept = gx.predict_step(net, x=gx.f32["batch", 4])
    assert [user() for user in net.weight.storage.users] == [kept.runner]

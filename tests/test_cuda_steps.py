"""Steps on a GPU, as users write them, on one that is emulated: the numbers of the CPU, and where they are kept."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.data import DataLoader, TensorDataset

BATCH = gx.dim("batch", max=32)


def classifier(device, **options):
    gx.manual_seed(3)
    net = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 10))
    sgd = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    x, y = gx.f32[BATCH, 20], gx.i64[BATCH]
    step = gx.train_step(net, nn.CrossEntropyLoss(), sgd, x=x, y=y, metrics=["accuracy"], device=device, **options)
    return net, step


def samples(rng, count=100):
    return rng.normal(size=(count, 20)).astype(np.float32), rng.integers(0, 10, count)


def close(found, wanted):
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert np.allclose(found[name], wanted[name], rtol=1e-4, atol=1e-6), name


def test_steps_give_the_numbers_of_the_cpu(gpu, rng):
    x, y = samples(rng)
    (here, slow), (there, step) = classifier("cpu"), classifier("cuda")
    for start in (0, 32, 64, 90):  # the last batch has ten rows
        wanted, found = (
            slow(x[start : start + 32], y[start : start + 32]),
            step(x[start : start + 32], y[start : start + 32]),
        )
        assert np.allclose(found.loss, wanted.loss, rtol=1e-5) and found.accuracy == wanted.accuracy
    close(there.state_dict(), here.state_dict())


def test_an_epoch_that_the_device_has_no_room_for_is_refused_on_the_line_of_the_user(gpu, rng):
    _, step = classifier("cuda")
    loader = DataLoader(TensorDataset(*samples(rng)), 32)
    gpu.room = 0
    with pytest.raises(gx.DeviceError, match="memory") as caught:
        step.epoch(loader)
    assert caught.value.origin.file == __file__


def test_a_set_of_sizes_is_captured_once(gpu, rng):
    x, y = samples(rng)
    _, step = classifier("cuda")
    step(x[:32], y[:32])
    gpu.calls.clear()
    step(x[32:64], y[32:64])
    assert gpu.calls == ["cuCtxSetCurrent", "cuGraphLaunch", "cuStreamSynchronize"]


def test_epochs_give_the_numbers_of_the_cpu(gpu, rng):
    x, y = samples(rng)
    records, states = [], []
    for device in ("cpu", "cuda"):
        net, step = classifier(device)
        loader = DataLoader(TensorDataset(x, y), 32, shuffle=True, seed=5)
        records.append([step.epoch(loader) for _ in range(3)])
        states.append(net.state_dict())
    assert np.allclose(records[0], records[1], rtol=1e-4)
    close(states[1], states[0])


def test_no_step_of_an_epoch_waits_for_the_host(gpu, rng):
    x, y = samples(rng)
    _, step = classifier("cuda")
    loader = DataLoader(TensorDataset(x, y), 10, shuffle=True, seed=5)
    step.epoch(loader)
    gpu.calls.clear()
    step.epoch(loader)
    assert gpu.calls.count("cuGraphLaunch") == 10 and gpu.calls.count("cuStreamSynchronize") == 1
    assert not {"cuStreamBeginCapture_v2", "cuMemAlloc_v2"} & set(gpu.calls)


def test_data_that_does_not_fit_is_streamed(gpu, rng, monkeypatch):
    x, y = samples(rng)
    wanted, found = [], []
    for device, losses in (("cpu", wanted), ("cuda", found)):
        net, step = classifier(device)
        if device == "cuda":
            gpu.room = gpu.used + 8000  # the data alone is 8,800 bytes
        loader = DataLoader(TensorDataset(x, y), 32, shuffle=True, seed=5)
        losses += [step.epoch(loader).loss for _ in range(3)]
    assert np.allclose(found, wanted, rtol=1e-4)
    assert "cuEventRecord" in gpu.calls


def test_data_sets_that_take_turns_keep_their_places(gpu, rng):
    _, step = classifier("cuda")
    loaders = [DataLoader(TensorDataset(*samples(rng, count)), 32) for count in (100, 40)]
    for loader in loaders:
        step.epoch(loader)
    gpu.calls.clear()
    for loader in loaders:
        step.epoch(loader)
    assert not {"cuMemAlloc_v2", "cuStreamBeginCapture_v2", "cuStreamCreate"} & {*gpu.calls}
    used = gpu.used
    for count in range(50, 60):
        step.epoch(DataLoader(TensorDataset(*samples(rng, count)), 32))
    assert gpu.used < 2 * used  # those that were not used for long are gone
    assert gpu.calls.count("cuGraphExecDestroy") >= 10


def test_data_that_nobody_can_change_is_sent_once(gpu, rng):
    _, step = classifier("cuda")
    x, y = samples(rng)
    loader = DataLoader(TensorDataset(x, y), 32)
    sent = []
    for writeable in (True, False, False):
        x.flags.writeable = y.flags.writeable = writeable
        step.epoch(loader)
        gpu.calls.clear()
        step.epoch(loader)
        sent.append(gpu.calls.count("cuMemcpyHtoDAsync_v2"))
    assert sent == [4, 2, 2]  # the data; the order of the rows, and what is counted


def test_images_become_floats_on_the_way(gpu, rng):
    images, y = rng.integers(0, 256, (50, 20), dtype=np.uint8), rng.integers(0, 10, 50)
    wanted, found = [], []
    for device, losses in (("cpu", wanted), ("cuda", found)):
        _, step = classifier(device)
        losses += [step.epoch(DataLoader(TensorDataset(images, y), 16)).loss for _ in range(2)]
    assert np.allclose(found, wanted, rtol=1e-5)


def test_functions_of_both_devices_work_on_the_same_parameters(gpu, rng):
    x, y = samples(rng, 32)
    net, step = classifier("cuda")
    test = gx.eval_step(net, nn.CrossEntropyLoss(), x=gx.f32[BATCH, 20], y=gx.i64[BATCH])
    there = gx.eval_step(net, nn.CrossEntropyLoss(), x=gx.f32[BATCH, 20], y=gx.i64[BATCH], device="cuda")
    for _ in range(3):
        before = test(x, y).loss
        assert np.isclose(there(x, y).loss, before, rtol=1e-5)
        assert np.isclose(step(x, y).loss, before, rtol=1e-5)
        assert test(x, y).loss < before
    net[0].weight.zero_()
    assert np.isclose(there(x, y).loss, test(x, y).loss, rtol=1e-5)


def counting(device, w):
    """w += 1, in a call."""
    return gx.function([], w.sum(), updates={w: w + 1.0}, device=device)


@pytest.mark.parametrize("way", ["call", "epoch"])
def test_no_device_works_on_what_the_cpu_works_on(gpu, way):
    """A call of the other device may come at the worst moment: no update is lost for it."""
    x = gx.input("x", gx.f32[BATCH, 1])
    w = gx.parameter("w", np.zeros(1, np.float32))
    here = gx.function([x], w.sum() + x.sum(), updates={w: w + 1.0})
    there = counting("cuda", w)
    loader = DataLoader(TensorDataset(np.zeros((8, 1), np.float32)), 4)
    do = (lambda: here(np.zeros((4, 1), np.float32))) if way == "call" else lambda: here.epoch(loader)
    real, threads = getattr(here.runner, "step" if way == "call" else "epoch"), []

    def disturbed(*given):
        threads.append(threading.Thread(target=there))
        threads[-1].start()
        threads[-1].join(0.2)
        return real(*given)

    setattr(here.runner, "step" if way == "call" else "epoch", disturbed)
    here.exact_call = lambda arrays: None
    do()
    for thread in threads:
        thread.join()
    assert w.numpy() == (2 if way == "call" else 3)


def test_a_parameter_that_a_gpu_works_on_cannot_change_its_dtype(gpu):
    w = gx.parameter("w", np.zeros(3, np.float32))
    counting("cuda", w)
    with pytest.raises(gx.TraceError, match="w cannot become f64: a compiled function works on its memory"):
        w.convert_(gx.f64)


def test_a_gpu_that_fails_says_so_wherever_its_numbers_are_asked_for(gpu):
    w = gx.parameter("w", np.zeros(3, np.float32))
    here, there = counting("cpu", w), counting("cuda", w)
    there()
    gpu.failing["cuMemcpyDtoHAsync_v2"] = 700
    with pytest.raises(gx.DeviceError, match="cuMemcpyDtoHAsync_v2") as caught:
        here()
    assert "start a new one" in str(caught.value) and caught.value.origin.file == __file__
    with pytest.raises(Exception, match="start a new one"):
        w.numpy()
    gpu.failing.clear()


def test_a_failed_check_changes_nothing(gpu, rng):
    x, y = samples(rng)
    net, step = classifier("cuda", nan="raise")
    before = net.state_dict()
    y[70] = 10
    with pytest.raises(gx.LabelError, match="got 10 at index 6"):
        step(x[64:96], y[64:96])
    with pytest.raises(gx.LabelError, match="got 10"):
        step.epoch(DataLoader(TensorDataset(x, y), 32))
    close(net.state_dict(), before)
    y[70], x[70] = 1, np.inf
    with pytest.raises(gx.NumericsError, match="in step 2 of the epoch"):
        step.epoch(DataLoader(TensorDataset(x, y), 32))


def test_scalars_and_devices(gpu, rng):
    x, y = samples(rng, 32)
    losses = []
    for device in ("cpu", "auto"):
        _, step = classifier(device)
        step.set(lr=0.5)
        losses.append([step(x, y).loss for _ in range(4)])
    assert np.allclose(losses[0], losses[1], rtol=1e-4)
    assert gx.cuda.is_available() and "cuGraphLaunch" in gpu.calls


def test_a_device_without_room_says_so(gpu):
    gpu.room = 1000
    with pytest.raises(gx.DeviceError, match=r"has no .* bytes to spare: .* of 1,000 are free") as caught:
        classifier("cuda")
    assert "nvidia-smi" in str(caught.value) and "test_cuda_steps.py" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 8


@pytest.mark.parametrize(
    ("change", "said", "remedy"),
    [
        ({"version": 11080}, "the NVIDIA driver here is for CUDA 11.8; graphc needs 12.0", "update the driver"),
        ({"devices": 0}, "the NVIDIA driver finds no GPU", "see nvidia-smi and CUDA_VISIBLE_DEVICES"),
        ({"capability": (7, 0)}, "the GPU here has compute capability 7.0; graphc needs 8.0", "device='cpu'"),
        ({"failing": {"cuInit": 100}}, "cuInit: CUDA_ERROR_NO_DEVICE", "no GPU that this process may use"),
        ({"failing": {"cuInit": 802}}, "cuInit: CUDA_ERROR_SYSTEM_NOT_READY", "fabric manager"),
        ({"failing": {"cuInit": 803}}, "cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "restart the machine"),
        ({"failing": {"cuModuleLoadDataEx": 222}}, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "update it"),
        ({"failing": {"cuStreamCreate": 3}}, "cuStreamCreate: CUDA_ERROR_NOT_INITIALIZED", "a process that was forked"),
    ],
)
def test_what_a_gpu_lacks_is_told_on_the_line_of_the_user(gpu, change, said, remedy):
    for name, value in change.items():
        setattr(gpu, name, value)
    with pytest.raises(gx.DeviceError) as caught:
        classifier("cuda")
    assert said in caught.value.message and remedy in str(caught.value) and caught.value.origin.file == __file__
    assert len(str(caught.value).splitlines()) <= 8
    if "cuModuleLoadDataEx" not in gpu.failing and "cuStreamCreate" not in gpu.failing:
        assert not gx.cuda.is_available() and classifier("auto")[1].device == "cpu"


@pytest.mark.parametrize(("function", "code"), [("cuGraphLaunch", 719), ("cuStreamSynchronize", 700)])
def test_a_kernel_that_fails_is_told_on_the_line_of_the_user(gpu, rng, function, code):
    x, y = samples(rng, 32)
    _, step = classifier("cuda")
    step(x, y)
    gpu.failing[function] = code
    for call in (lambda: step(x, y), lambda: step.epoch(DataLoader(TensorDataset(x, y), 32))):
        with pytest.raises(gx.DeviceError, match=function) as caught:
            call()
        assert "start a new one" in str(caught.value) and caught.value.origin.file == __file__
    gpu.failing.clear()


def test_what_only_the_cpu_does_is_refused(gpu):
    with pytest.raises(gx.ArgumentError, match="max_bytes is 100000; it must be None on a GPU"):
        classifier("cuda", max_bytes=100000)


def test_no_gpu_is_an_error_on_the_line_of_the_user(monkeypatch):
    from graphc.backends.cuda import driver

    driver.open_driver.cache_clear()
    driver.first_device.cache_clear()
    monkeypatch.setattr(driver, "LIBRARIES", ("libnothing-of-this-name.so",))
    with pytest.raises(gx.DeviceError, match="there is no NVIDIA driver here") as caught:
        classifier("cuda")
    assert "compile for device='cpu'" in str(caught.value)
    assert not gx.cuda.is_available()
    _, step = classifier("auto")
    assert step.runner.threads >= 1


def test_a_module_is_sent_to_a_device(gpu, rng):
    net = nn.Sequential(nn.Linear(20, 3), nn.Tanh())
    here = gx.predict_step(net, x=gx.f32[BATCH, 20])
    assert net.cuda() is net and net[0].weight.chosen_device == "cuda"
    there = gx.predict_step(net, x=gx.f32[BATCH, 20])
    x, _ = samples(rng, 7)
    assert np.allclose(there(x), here(x), rtol=1e-5) and "cuGraphLaunch" in gpu.calls
    gpu.calls.clear()
    gx.predict_step(net.cpu(), x=gx.f32[BATCH, 20])(x)
    gx.predict_step(net.to("cuda"), x=gx.f32[BATCH, 20], device="cpu")(x)
    assert "cuGraphLaunch" not in gpu.calls


def test_everything_follows_its_parameters(gpu, rng):
    """As in PyTorch: where a net was sent, what works on it runs, with what its optimizer keeps."""
    x, y = samples(rng, 32)
    found = []
    for device in ("cpu", "cuda"):
        gx.manual_seed(1)
        net = nn.Linear(20, 10).to(device)
        adam = optim.Adam(net.parameters(), lr=0.01)
        kinds = {"x": gx.f32[BATCH, 20], "y": gx.i64[BATCH]}

        @gx.step
        def step(x: gx.f32[BATCH, 20], y: gx.i64[BATCH]):
            loss = nn.CrossEntropyLoss()(net(x), y)  # noqa: B023
            loss.backward()
            adam.step()  # noqa: B023
            return loss

        given = gx.input("x", kinds["x"])
        scores = gx.function([given], net(given))
        there, back = gx.gradient_step(net, nn.CrossEntropyLoss(), **kinds), gx.apply_step(adam)
        assert {each.device for each in (step, scores, there, back)} == {device}
        losses = [step(x, y) for _ in range(3)]
        back(there(x, y).gradients)
        found.append([*losses, *scores(x).ravel(), step(x, y)])
        assert copy.deepcopy(net).weight.chosen_device == device
        assert gx.function([given], net(given), device="cpu").device == "cpu"
    assert np.allclose(found[0], found[1], rtol=1e-3, atol=1e-5)
    assert gx.function([given], given * 2).device == "cpu"
    with pytest.raises(gx.ArgumentError, match="precision is 'tf32'; it must be 'highest' on the CPU"):
        gx.function([given], net.cpu()(given), precision="tf32")


def test_training_on_a_gpu_is_resumed_to_the_same_bits(gpu, rng, tmp_path):
    """fit, evaluate and predict with a GPU's states; what is saved there goes on there, and on the CPU."""
    x, y = samples(rng)

    def made(device):
        gx.manual_seed(3)
        net = nn.Sequential(nn.Linear(20, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 10)).to(device)
        adam, kinds = optim.Adam(net.parameters(), lr=0.01), {"x": gx.f32[BATCH, 20], "y": gx.i64[BATCH]}
        step = gx.train_step(net, nn.CrossEntropyLoss(), adam, **kinds)
        test = gx.eval_step(net, nn.CrossEntropyLoss(), **kinds, metrics=["accuracy"])
        return net, step, test, DataLoader(TensorDataset(x, y), 32, shuffle=True, seed=5)

    net, step, test, loader = made("cuda")
    path = tmp_path / "state.safetensors"
    plain = DataLoader(TensorDataset(x, y), 32)
    history = gx.fit(step, loader, 2, validate=(test, plain), callbacks=[gx.train.Checkpoint(str(path))], verbose=False)
    place = loader.state_dict()
    gx.fit(step, loader, 2, verbose=False)
    wanted, outputs = step.state_dict(), gx.predict(gx.predict_step(net, x=gx.f32[BATCH, 20]), x)
    assert history["val_accuracy"][-1] > 0.1 and gx.evaluate(test, plain).accuracy > history["val_accuracy"][0]
    for device in ("cuda", "cpu"):
        net, step, _, loader = made(device)
        step.load_state_dict(gx.load(str(path)))
        loader.load_state_dict(place)
        gx.fit(step, loader, 2, verbose=False)
        for name, array in wanted.items():
            same = np.array_equal if device == "cuda" else lambda a, b: np.allclose(a, b, rtol=1e-3, atol=1e-5)
            assert same(step.state_dict()[name], array), name
        assert np.allclose(gx.predict(gx.predict_step(net, x=gx.f32[BATCH, 20]), x), outputs, atol=1e-4)


def test_dropout_draws_what_it_draws_on_the_cpu(gpu, rng):
    x, y = samples(rng)
    losses = []
    for device in ("cpu", "cuda"):
        gx.manual_seed(7)
        net = nn.Sequential(nn.Linear(20, 64), nn.Dropout(0.5), nn.ReLU(), nn.Linear(64, 10))
        adam = optim.AdamW(net.parameters(), lr=0.01)
        step = gx.train_step(net, nn.CrossEntropyLoss(), adam, x=gx.f32[BATCH, 20], y=gx.i64[BATCH], device=device)
        loader = DataLoader(TensorDataset(x, y), 32, shuffle=True)
        losses.append([step.epoch(loader).loss for _ in range(3)] + [step(x[:5], y[:5]).loss])
    assert np.allclose(losses[0], losses[1], rtol=1e-4)


def test_no_step_after_one_that_failed_changes_anything(gpu, rng):
    x, y = samples(rng)
    net, step = classifier("cuda", nan="raise")
    step.epoch(DataLoader(TensorDataset(x[:64], y[:64]), 32))
    wanted = net.state_dict()
    net, step = classifier("cuda", nan="raise")
    x[70] = np.inf  # in the third of four steps
    with pytest.raises(gx.NumericsError, match="in step 2 of the epoch"):
        step.epoch(DataLoader(TensorDataset(x, y), 32))
    close(net.state_dict(), wanted)

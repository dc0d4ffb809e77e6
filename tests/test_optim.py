"""Optimizers: trainings against PyTorch's stored numbers, formulas, run-time settings, state, wrong settings."""

from pathlib import Path

import numpy as np
import pytest
from optimizer_cases import MOMENTS, OPTIMIZERS
from refusals import check_refusal, line_of

import graphc as gx
from graphc import nn, optim
from graphc.backends import reference

with np.load(Path(__file__).parent / "golden" / "torch_optim.npz") as stored:
    NUMBERS = dict(stored)
TOLERANCES = {"f32": {"rtol": 1e-5, "atol": 1e-7}, "f64": {"rtol": 1e-10}}


def weights(*numbers, name=""):
    return gx.Parameter(np.array(numbers, np.float32), name)


def descend(optimizer, *parameters):
    """A step whose argument is the gradient of every element of the parameters."""

    @gx.step
    def step(slope: gx.f32[()]):
        optimizer.zero_grad()
        total = sum((parameter * slope).sum() for parameter in parameters)
        total.backward()
        optimizer.step()

    return step


class Training:
    """20 steps of a small regression with every optimizer at once, each with weights of its own."""

    def __init__(self, dtype):
        kind = getattr(gx, dtype)
        self.dtype = dtype
        self.weights = {name: [gx.Parameter(NUMBERS[key], key, dtype=kind) for key in "wb"] for name in OPTIMIZERS}
        self.optimizers = {name: make(optim, self.weights[name]) for name, make in OPTIMIZERS.items()}
        self.batches = list(zip(*(NUMBERS[key].astype(kind.numpy) for key in "xy"), strict=True))

        @gx.step
        def step(x: kind[8, 6], y: kind[8, 3]):
            for name, (w, b) in self.weights.items():
                ((gx.tanh(x @ w + b) - y) ** 2).mean().backward()
                self.optimizers[name].step()

        self.step = step
        self.states = [self.step.state_dict()]  # before the first step, and after every one

    def run(self, batches):
        for batch in batches:
            self.step(*batch)
            self.states.append(self.step.state_dict())
        return self


@pytest.fixture(scope="module", params=["f32", "f64"])
def training(request):
    made = Training(request.param)
    made.run(made.batches[:10])
    made.halfway = {name: optimizer.state_dict() for name, optimizer in made.optimizers.items()}
    return made.run(made.batches[10:])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_follows_pytorch(training, name):
    known = {parameter: label for label, parameter in training.step.parameters.items()}
    for parameter, key in zip(training.weights[name], "wb", strict=True):
        found = np.stack([training.states[moment + 1][known[parameter]] for moment in MOMENTS])
        np.testing.assert_allclose(found, NUMBERS[f"{name} {training.dtype} {key}"], **TOLERANCES[training.dtype])


@pytest.mark.parametrize("number", [0, 1, 19])
def test_reference_takes_the_same_steps(training, number):
    """Weights and slots of all optimizers."""
    x, y = training.batches[number]
    scalars = {name: scalar.number for name, scalar in training.step.scalars.items()}
    graph = training.step.artifact.program.graph
    found = reference.run(graph, {"x": x, "y": y, **scalars, **training.states[number]})
    assert len(found) > 100
    for name, array in found.items():
        np.testing.assert_allclose(training.states[number + 1][name], array, **TOLERANCES[training.dtype], err_msg=name)


def test_resumed_training_gives_the_same_bits(training, tmp_path):
    """Slots and settings through a file."""
    resumed = Training(training.dtype)
    for number, (name, optimizer) in enumerate(resumed.optimizers.items()):
        gx.save(training.halfway[name], tmp_path / f"{number}.safetensors")
        optimizer.load_state_dict(gx.load(tmp_path / f"{number}.safetensors"))
    for name, parameter in resumed.step.parameters.items():
        if parameter.name in ("w", "b"):
            parameter.copy_(training.states[10][name])
    resumed.run(training.batches[10:])
    for name, array in resumed.states[-1].items():
        np.testing.assert_array_equal(array, training.states[-1][name], err_msg=name)


SLOPES = [0.5, -1.0, 2.0, 2.0, -0.25, 1e-3]


def adam(w, slopes, lr, betas, eps=1e-8):
    m = v = 0.0
    for t, g in enumerate(slopes, 1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        w = w - lr * m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


def lion(w, slopes, lr, betas=(0.9, 0.99), decay=0.0, maximize=False):
    m = 0.0
    for slope in slopes:
        g = -slope if maximize else slope
        w = w - lr * (np.sign(betas[0] * m + (1 - betas[0]) * g) + decay * w)
        m = betas[1] * m + (1 - betas[1]) * g
    return w


BY_HAND = {
    "lion": (lambda p: optim.Lion(p), lambda w: lion(w, SLOPES, 1e-4)),
    "lion with decay": (
        lambda p: optim.Lion(p, 0.01, (0.5, 0.6), 0.2, maximize=True),
        lambda w: lion(w, SLOPES, 0.01, (0.5, 0.6), 0.2, maximize=True),
    ),
    "adam with long memory": (  # 1 - beta2**t has few digits in f32
        lambda p: optim.Adam(p, 0.1, (0.99, 0.999999)),
        lambda w: adam(w, SLOPES, 0.1, (0.99, 0.999999)),
    ),
}


@pytest.mark.parametrize(("dtype", "rtol"), [(gx.f32, 1e-6), (gx.f64, 1e-12)], ids=["f32", "f64"])
def test_updates_are_those_of_the_formulas(dtype, rtol):
    start = np.array([1.0, -2.0, 0.5])
    weights = {name: gx.Parameter(start, dtype=dtype) for name in BY_HAND}
    optimizers = {name: make([weights[name]]) for name, (make, _) in BY_HAND.items()}

    @gx.step
    def step(slope: dtype[()]):
        for name, w in weights.items():
            (w * slope).sum().backward()
            optimizers[name].step()

    for slope in SLOPES:
        step(dtype.numpy.type(slope))
    for name, (_, formula) in BY_HAND.items():
        np.testing.assert_allclose(weights[name].numpy(), formula(start), rtol, err_msg=name)


@pytest.mark.parametrize("make", [optim.RMSprop, optim.Adam, optim.Adadelta, optim.Lion])
def test_slots_of_what_has_no_gradient_any_more_settle(make):
    """At 0, not among subnormal numbers, on which arithmetic is slow; the weights stay finite."""
    w = weights(1.0)
    settings = {"betas": (0.1, 0.1)} if make in (optim.Adam, optim.Lion) else {}
    settings |= {optim.RMSprop: {"alpha": 0.1, "centered": True, "momentum": 0.1}, optim.Adadelta: {"rho": 0.1}}.get(
        make, {}
    )
    optimizer = make([w], **settings)
    step = descend(optimizer, w)
    for slope in [1.0] * 50 + [0.0] * 50:
        step(np.float32(slope))
    assert np.isfinite(w.numpy()).all()
    slots = {name: array for name, array in optimizer.state_dict().items() if name.startswith("parameter_0.")}
    assert slots and not any(array.any() for array in slots.values()), slots


def test_learning_rate_changes_at_run_time(caplog):
    w = weights(0.0)
    optimizer = optim.SGD([w], lr=1.0)
    step = descend(optimizer, w)
    caplog.clear()
    step(np.float32(1))
    optimizer.lr = 0.5
    step(np.float32(1))
    optimizer.param_groups[0]["lr"] = 0.25
    step(np.float32(1))
    step.set(lr=0.125)
    assert optimizer.lr == 0.125
    step(np.float32(1))
    assert w.numpy() == -1.875
    assert not caplog.records


def test_momentum_betas_and_weight_decay_change_at_run_time():
    """As a formula with those settings in each step has it."""
    a, b = weights(1.0), weights(1.0)
    sgd = optim.SGD([a], lr=0.1, momentum=0.9, weight_decay=0.1)
    adam = optim.Adam([b], lr=0.1, betas=(0.9, 0.99))

    @gx.step
    def step(slope: gx.f32[()]):
        (a * slope + b * slope).sum().backward()
        sgd.step()
        adam.step()

    assert set(step.scalars) == {"lr", "momentum", "weight_decay", "lr_2", "beta1", "beta2"}
    place, velocity, other, mean, square = 1.0, 0.0, 1.0, 0.0, 0.0
    for t, (momentum, decay, beta1) in enumerate([(0.9, 0.1, 0.9), (0.5, 0.2, 0.8), (0.0, 0.0, 0.0)], 1):
        sgd.param_groups[0].update(momentum=momentum)
        step.set(weight_decay=decay, beta1=beta1)
        assert (sgd.param_groups[0]["weight_decay"], adam.param_groups[0]["betas"]) == (decay, (beta1, 0.99))
        step(np.float32(2))
        velocity = momentum * velocity + 2 + decay * place
        place -= 0.1 * velocity
        mean, square = beta1 * mean + (1 - beta1) * 2, 0.99 * square + 0.01 * 4
        other -= 0.1 * mean / (1 - beta1**t) / np.sqrt(square / (1 - 0.99**t))
        np.testing.assert_allclose([a.item(), b.item()], [place, other], rtol=1e-6)


def test_groups_have_settings_of_their_own():
    a, b = weights(0.0), weights(0.0)
    groups = [{"params": [a]}, {"params": b, "lr": 0.5, "momentum": 0.5}]
    optimizer = optim.SGD(groups, lr=1.0)
    step = descend(optimizer, a, b)
    assert list(step.scalars) == ["lr", "momentum_1", "lr_1"]
    step(np.float32(1))
    step(np.float32(1))
    assert (a.numpy(), b.numpy()) == (-2, -1.25)
    optimizer.param_groups[1]["lr"] = 0.0
    step(np.float32(1))
    assert (a.numpy(), b.numpy()) == (-3, -1.25)
    optimizer.lr = 0.0
    step(np.float32(1))
    assert (a.numpy(), b.numpy()) == (-3, -1.25)


def test_group_that_is_added_later_starts_at_its_first_step():
    """Adam's first step is the rate, whatever the gradient."""
    a, b = weights(0.0), weights(0.0)
    optimizer = optim.Adam([a], lr=0.5)
    first = descend(optimizer, a)
    for _ in range(3):
        first(np.float32(1))
    optimizer.add_param_group({"params": [b], "lr": 0.25})
    both = descend(optimizer, a, b)
    both(np.float32(1000))
    np.testing.assert_allclose(b.numpy(), [-0.25], rtol=1e-5)
    state = optimizer.state_dict()
    assert (state["steps"], state["steps_1"]) == (4, 1)


def test_parameters_without_gradient_stay():
    used, unused, frozen = weights(1.0), weights(1.0), gx.Parameter(np.ones(1, np.float32), requires_grad=False)
    step = descend(optim.Adam([used, unused, frozen], weight_decay=0.1), used, frozen)
    step(np.float32(1))
    assert used.numpy() != 1 and unused.numpy() == 1 and frozen.numpy() == 1


def test_two_backward_passes_add_up_unless_forgotten():
    w = weights(0.0)
    optimizer = optim.SGD([w], lr=1.0)

    @gx.step
    def accumulate(slope: gx.f32[()]):
        (w * slope).sum().backward()
        (w * slope).sum().backward()
        optimizer.step()

    @gx.step
    def forget(slope: gx.f32[()]):
        (w * slope).sum().backward()
        optimizer.zero_grad()
        (w * slope).sum().backward()
        optimizer.step()

    accumulate(np.float32(1))
    assert w.numpy() == -2
    forget(np.float32(1))
    assert w.numpy() == -3


def test_updates_play_their_role():
    w = weights(0.0)
    step = descend(optim.SGD([w], lr=1.0, momentum=0.9), w)
    roles = {value.op.name: value.role for value in step.traced.values() if value.op.kind == "elementwise"}
    assert roles["sub"] == "update"
    assert {output.name for output in step.traced.of_kind("update")} == {"parameter_0.momentum_buffer", "parameter"}


# -- state


def trained(net, steps, optimizer):
    batch = gx.dim("batch", max=8)
    step = gx.train_step(net, nn.MSELoss(), optimizer, x=gx.f32[batch, 3], y=gx.f32[batch, 2])
    rng = np.random.default_rng(1)
    for _ in range(steps):
        step(rng.normal(size=(8, 3)).astype(np.float32), rng.normal(size=(8, 2)).astype(np.float32))
    return step


def test_slots_are_named_after_parameters():
    net = nn.Sequential(nn.Linear(3, 2))
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    assert list(optimizer.state_dict()) == [
        "0.weight.exp_avg", "0.weight.exp_avg_sq", "0.bias.exp_avg", "0.bias.exp_avg_sq", "steps",
        "param_groups.0.lr", "param_groups.0.betas", "param_groups.0.eps", "param_groups.0.weight_decay",
        "param_groups.0.amsgrad", "param_groups.0.maximize", "param_groups.0.decoupled_weight_decay",
    ]  # fmt: skip
    step = trained(net, 3, optimizer)
    assert set(step.parameters) == {"0.weight", "0.bias", *list(optimizer.state_dict())[:5]}
    assert optimizer.state_dict()["steps"] == 3
    assert not [key for key in optim.SGD(net.parameters()).state_dict() if not key.startswith("param_groups")]
    assert "0.bias.momentum_buffer" in optim.SGD(net.parameters(), momentum=0.5).state_dict()
    nameless = optim.SGD([weights(1.0), weights(2.0, name="w"), weights(3.0, name="w")], momentum=0.5)
    assert list(nameless.state_dict())[:3] == [f"{name}.momentum_buffer" for name in ("parameter_0", "w", "w_2")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("steps"), ["steps"]),
        (lambda state: state.update(extra=np.zeros(1)), ["extra"]),
        (lambda state: state.update({"0.bias.exp_avg": np.zeros(3)}), ["0.bias.exp_avg", "2", "3"]),
        (lambda state: state.update({"param_groups.0.eps": np.array(0.5)}), ["param_groups.0.eps", "1e-08", "0.5"]),
        (lambda state: state.update({"param_groups.0.lr": np.zeros(2)}), ["param_groups.0.lr", "must be a number"]),
        (lambda state: state.update({"param_groups.0.lr": -1.0}), ["param_groups.0.lr", "-1.0", "at least 0"]),
        (lambda state: state.update({"param_groups.0.weight_decay": 0.5}), ["weight_decay", "0.0", "0.5"]),
        (lambda state: state.update(optim.RAdam([weights(0.0)]).state_dict()), ["parameter_0.exp_avg"]),
    ],
    ids=[
        "missing",
        "unexpected",
        "shape",
        "compiled",
        "shape of a setting",
        "no rate",
        "no decay",
        "another optimizer",
    ],
)
def test_state_that_does_not_fit_changes_nothing(change, words):
    net = nn.Sequential(nn.Linear(3, 2))
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    trained(net, 1, optimizer)
    before = optimizer.state_dict()
    state = {name: array + 1 if name.startswith("0.") else array for name, array in before.items()}
    state["param_groups.0.lr"] = np.array(0.7)
    change(state)
    with pytest.raises(gx.CheckpointError) as caught:
        optimizer.load_state_dict(state)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


# -- errors


def test_step_without_gradients():
    w = weights(1.0)
    optimizer = optim.SGD([w])
    with pytest.raises(gx.TraceError, match="outside of a traced step"):
        optimizer.step()
    with pytest.raises(gx.GradientError) as caught:

        @gx.step
        def step(x: gx.f32[3]):
            optimizer.step()  # no gradient

    text = str(caught.value)
    assert "no gradient for any of its parameters" in text
    assert f"{line_of(__file__, 'no gradient')}:" in text


def test_compiled_settings_do_not_change():
    w = weights(1.0)
    optimizer = optim.Adam([w], eps=0.5, weight_decay=0.1)
    group = optimizer.param_groups[0]
    group["eps"], group["weight_decay"] = 0.25, 0.0
    descend(optimizer, w)
    with pytest.raises(ValueError, match=r"eps is 0\.25 in a step that is already compiled and cannot become 0\.5"):
        group["eps"] = 0.5
    with pytest.raises(ValueError, match=r"weight_decay is 0\.0 in a step that is already compiled"):
        group["weight_decay"] = 0.1
    with pytest.raises(ValueError, match="maximize is False in a step"):
        group.update(maximize=True)
    group["eps"], group["betas"] = 0.25, (0.5, 0.5)
    assert optimizer.state_dict()["param_groups.0.eps"] == 0.25


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda w: optim.SGD([w], lr=-1), "lr is -1; it must be a number of at least 0"),
        (lambda w: optim.SGD([w], lr="0.1"), "lr is '0.1'; it must be a number of at least 0"),
        (lambda w: optim.SGD([w], lr=w), "lr is Parameter"),
        (lambda w: optim.Adam([w], lr=float("nan")), "lr is nan; it must be a number of at least 0"),
        (lambda w: optim.SGD([w], momentum=-0.5), "momentum is -0.5; it must be a number of at least 0"),
        (lambda w: optim.RMSprop([w], momentum=None), "momentum is None; it must be a number of at least 0"),
        (lambda w: optim.SGD([w], weight_decay=-1), "weight_decay is -1"),
        (lambda w: optim.SGD([w], nesterov=True), "nesterov is True; it must be False without momentum"),
        (lambda w: optim.SGD([w], momentum=0.9, dampening=0.1, nesterov=True), "nesterov is True"),
        (lambda w: optim.SGD([w], nesterov="yes"), "nesterov is 'yes'; it must be True or False"),
        (lambda w: optim.Adam([w], betas=(0.9, 1.0)), "betas is (0.9, 1.0)"),
        (lambda w: optim.Adam([w], betas=(0.9,)), "betas is (0.9,)"),
        (lambda w: optim.Lion([w], betas=0.9), "betas is 0.9; it must be two numbers"),
        (lambda w: optim.Adam([w], 1e-3, (0.9, 0.999), 1e-8, 0, 0.01), "amsgrad is 0.01; it must be True or False"),
        (lambda w: optim.AdamW([w], eps=-1), "eps is -1"),
        (lambda w: optim.Adamax([{"params": [w], "eps": True}]), "eps is True; it must be a number"),
        (lambda w: optim.RMSprop([w], alpha=1.5), "alpha is 1.5; it must be a number of at least 0 and of at most 1"),
        (lambda w: optim.Adadelta([w], rho=-1), "rho is -1; it must be a number of at least 0"),
        (lambda w: optim.NAdam([w], momentum_decay=-1), "momentum_decay is -1"),
        (lambda w: optim.Adagrad([w], initial_accumulator_value=-1), "initial_accumulator_value is -1"),
        (lambda w: optim.SGD([{"params": [w], "momentun": 0.9}]), "unknown settings momentun; known are lr, momentum"),
        (lambda w: optim.SGD([]), "got no parameters"),
        (lambda w: optim.SGD([w, w]), "is given to the optimizer twice"),
        (lambda w: optim.SGD([{"params": w}, {"params": w}]), "is given to the optimizer twice"),
        (lambda w: optim.SGD([{"lr": 0.1}]), "param_group is {'lr': 0.1}; it must be a dict with \"params\""),
        (lambda w: optim.SGD([w]).add_param_group([w]), 'it must be a dict with "params" and settings'),
        (lambda w: optim.SGD([{"params": 3}]), "params is 3; it must be a list of parameters"),
        (lambda w: optim.SGD(w), "params must be a list of parameters"),
        (lambda w: optim.SGD(nn.Linear(1, 1)), "it must be a list of parameters, such as net.parameters()"),
        (lambda w: optim.SGD(gx.f32), "params is gx.f32; it must be a list of parameters"),
        (lambda w: optim.SGD([np.zeros(3)]), "an optimizer updates parameters, got ndarray"),
        (lambda w: optim.SGD({"params": []}), "params must be a list of parameters or of dicts, got one dict"),
        (lambda w: setattr(optim.SGD([w]), "lr", "0.1"), "lr is '0.1'; it must be a number"),
        (lambda w: optim.SGD([w]).param_groups[0].update(momentum=None), "momentum is None; it must be a number"),
        (lambda w: optim.Adam([w]).param_groups[0].update(betas=0.9), "betas is 0.9; it must be two numbers"),
        (lambda w: optim.SGD([w]).load_state_dict(None), "state_dict is None; it must be a dict of arrays"),
    ],
)
def test_wrong_settings(make, words):
    check_refusal(make, words, weights(1.0))


def test_numbers_of_numpy_and_zero_are_settings():
    optimizer = optim.Adam([weights(1.0)], lr=0, betas=[np.float32(0.5), 0], amsgrad=np.True_)
    optimizer.lr = np.float64(0.25)
    assert optimizer.lr == 0.25 and optim.SGD([weights(1.0)], lr=np.int64(1)).lr == 1


def test_text_shows_the_settings():
    text = repr(optim.RMSprop([{"params": [weights(1.0)]}, {"params": [weights(1.0)], "lr": 1.0}]))
    rest = "momentum=0.0, alpha=0.99, eps=1e-08, weight_decay=0.0, centered=False, maximize=False"
    assert text == f"RMSprop(lr=0.01, {rest}; lr=1.0, {rest})"


class SignDescent(optim.Optimizer):
    """An optimizer of somebody's own, with a rate and nothing else."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    def update(self, parameter, gradient, group):
        parameter.copy_(parameter - group.scalars["lr"].float() * gx.sign(gradient))


def test_an_optimizer_of_ones_own():
    weight = weights(1.0, -2.0)
    optimizer = SignDescent([weight], 0.25)
    step = descend(optimizer, weight)
    step(np.float32(3))
    optimizer.lr = 0.5
    step(np.float32(-3))
    assert weight.numpy().tolist() == [1.25, -1.75]


def test_an_optimizer_without_a_formula():
    class Unfinished(optim.Optimizer):
        """Neither update nor step."""

    weight = weights(1.0)
    with pytest.raises(NotImplementedError, match="Unfinished has no update"):
        descend(Unfinished([weight], {"lr": 0.1}), weight)

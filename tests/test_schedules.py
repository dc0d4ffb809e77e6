"""Schedules: rates against PyTorch's stored ones, compiled steps that follow them, state, fit, wrong settings."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from optimizer_cases import EPOCHS, FIGURES, PLATEAUS, SCHEDULES
from refusals import check_refusal

import graphc as gx
from graphc import data, nn, optim
from graphc.optim import lr_scheduler
from graphc.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

with np.load(Path(__file__).parent / "golden" / "torch_optim.npz") as stored:
    NUMBERS = {name: stored[name] for name in stored if name.split()[-1] in ("lr", "momentum")}

CASES = SCHEDULES | PLATEAUS


def sgd(lr=0.1, momentum=0.9):
    """An optimizer of two groups, the second with half the rate."""
    first, second = (gx.Parameter(np.zeros(1, np.float32)) for _ in range(2))
    return optim.SGD([{"params": [first]}, {"params": [second], "lr": lr / 2}], lr=lr, momentum=momentum)


def step_through(name, schedule, epochs):
    """The rates and momenta before each of some steps."""
    seen = []
    for epoch in epochs:
        groups = schedule.optimizer.param_groups
        assert schedule.get_last_lr() == [group["lr"] for group in groups]
        seen.append([[group[key] for group in groups] for key in ("lr", "momentum")])
        schedule.step(*([FIGURES[epoch]] if name in PLATEAUS else []))
    return np.array(seen).transpose(1, 0, 2)


@pytest.mark.parametrize("name", CASES)
def test_rates_are_those_of_pytorch(name):
    schedule = CASES[name](lr_scheduler, sgd())
    rates, momenta = step_through(name, schedule, range(EPOCHS - 1))
    np.testing.assert_allclose(rates, NUMBERS[f"{name} lr"][:-1], rtol=1e-12, atol=1e-18)
    np.testing.assert_allclose(momenta, NUMBERS[f"{name} momentum"][:-1], rtol=1e-12)
    np.testing.assert_allclose(schedule.get_last_lr(), NUMBERS[f"{name} lr"][-1], rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("name", CASES)
def test_resumed_schedule_goes_on_as_before(name, tmp_path):
    schedule, optimizer = CASES[name](lr_scheduler, sgd()), sgd()
    step_through(name, schedule, range(13))
    gx.save(schedule.state_dict(), tmp_path / "schedule.safetensors")
    resumed = CASES[name](lr_scheduler, optimizer)
    resumed.load_state_dict(gx.load(tmp_path / "schedule.safetensors"))
    rest = range(13, EPOCHS - 1)
    np.testing.assert_array_equal(step_through(name, resumed, rest), step_through(name, schedule, rest))


@pytest.mark.parametrize("name", [name for name in SCHEDULES if not name.startswith(("sequential", "chained"))])
def test_schedule_from_a_later_epoch(name):
    """The same rates as the ones it has there when it comes from the start."""
    optimizer = sgd()
    for group in optimizer.param_groups:
        group["initial_lr"], group["lr"] = group["lr"], 123.0
    CASES[name](Later(), optimizer)
    np.testing.assert_allclose([group["lr"] for group in optimizer.param_groups], NUMBERS[f"{name} lr"][8], rtol=1e-12)


class Later:
    """The schedules, all made with last_epoch=7."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: getattr(lr_scheduler, name)(*args, **kwargs, last_epoch=7)


def test_restarts_within_an_epoch():
    optimizer = sgd(1.0)
    schedule = CosineAnnealingWarmRestarts(optimizer, 4)
    schedule.step(4 + 1 / 3)
    assert schedule.last_epoch == 4
    assert schedule.get_last_lr()[0] == pytest.approx((1 + np.cos(np.pi / 12)) / 2)
    schedule.step()
    assert schedule.get_last_lr()[0] == pytest.approx((1 + np.cos(np.pi / 3)) / 2)


# -- compiled steps


def test_compiled_step_follows_the_schedule(caplog):
    """The slope is 1, so every update is the rate at that time."""
    caplog.set_level(logging.INFO, "graphc")
    w = gx.Parameter(np.zeros((), np.float64), dtype=gx.f64)
    optimizer = optim.SGD([w], lr=1.0)

    @gx.step
    def step(x: gx.f64[()]):
        (w * x).backward()
        optimizer.step()

    compiled, place = len(caplog.records), 0.0
    schedule = SequentialLR(
        optimizer, [LinearLR(optimizer, 0.25, total_iters=3), ExponentialLR(optimizer, 0.5)], milestones=[4]
    )
    expected = [0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.25]
    for rate in expected:
        step(np.float64(1))
        place -= rate
        assert w.item() == pytest.approx(place, rel=1e-14)
        schedule.step()
    assert len(caplog.records) == compiled > 0


def test_momentum_is_a_run_time_value():
    """OneCycleLR turns momentum on for an SGD without, as in PyTorch, and moves it and Adam's first beta."""
    w, v = (gx.Parameter(np.zeros((), np.float64), dtype=gx.f64) for _ in range(2))
    plain, adam = optim.SGD([w], lr=1.0), optim.Adam([v], lr=0.1, betas=(0.5, 0.9))
    schedules = [OneCycleLR(optimizer, max_lr=0.1, total_steps=10) for optimizer in (plain, adam)]

    @gx.step
    def step(x: gx.f64[()]):
        (w * x + v * x).backward()
        plain.step()
        adam.step()

    assert {"momentum", "beta1"} < set(step.scalars)
    place = velocity = 0.0
    ada = mean = square = 0.0
    for number in range(1, 11):
        lr, momentum = plain.param_groups[0]["lr"], plain.param_groups[0]["momentum"]
        assert adam.param_groups[0]["betas"] == (momentum, 0.9)
        step(np.float64(number))
        velocity = momentum * velocity + number
        place -= lr * velocity
        mean, square = momentum * mean + (1 - momentum) * number, 0.9 * square + 0.1 * number**2
        ada -= lr * mean / (1 - momentum**number) / (np.sqrt(square / (1 - 0.9**number)) + 1e-8)
        np.testing.assert_allclose([w.item(), v.item()], [place, ada], rtol=1e-12)
        for schedule in schedules:
            schedule.step()
    assert 0.85 <= momentum <= 0.95


def test_momentum_cannot_be_turned_on_in_a_compiled_step():
    w = gx.Parameter(np.zeros(2, np.float32))
    optimizer = optim.SGD([w], lr=1.0)
    StepLR(optimizer, 10)

    @gx.step
    def step(x: gx.f32[2]):
        (w * x).sum().backward()
        optimizer.step()

    with pytest.raises(
        ValueError, match=r"momentum is 0\.0 in a step that is already compiled and cannot become 0\.95"
    ):
        OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
    OneCycleLR(optimizer, max_lr=1.0, total_steps=10, cycle_momentum=False)


# -- fit


class Rates(gx.Callback):
    """The rate at the end of every batch."""

    each_batch = True

    def __init__(self, optimizer):
        self.optimizer, self.seen = optimizer, []

    def after_batch(self):
        self.seen.append(self.optimizer.lr)


def regression(optimizer_of):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3)).astype(np.float32)
    net = nn.Linear(3, 1)
    optimizer = optimizer_of(net.parameters())
    kinds = {"x": gx.f32["batch", 3], "y": gx.f32["batch", 1]}
    loader = data.DataLoader(data.TensorDataset(x, x.sum(1, keepdims=True)), batch_size=8)
    return optimizer, gx.train_step(net, nn.MSELoss(), optimizer, **kinds), loader


def test_fit_steps_a_schedule_every_epoch():
    optimizer, step, loader = regression(lambda parameters: optim.SGD(parameters, lr=0.1))
    rates = Rates(optimizer)
    gx.fit(step, loader, 3, callbacks=[rates, gx.LearningRateSchedule(StepLR(optimizer, 1, 0.5))])
    assert rates.seen == [0.1] * 3 + [0.05] * 3 + [0.025] * 3


def test_fit_steps_a_schedule_every_batch():
    """And the bits are those of a loop in Python."""
    optimizer, step, loader = regression(lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.5))
    other, by_hand, batches = regression(lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.5))
    by_hand.load_state_dict(step.state_dict())
    schedule = OneCycleLR(optimizer, 0.5, epochs=4, steps_per_epoch=3)
    gx.fit(step, loader, 4, callbacks=[gx.LearningRateSchedule(schedule, every="batch")])
    assert schedule.last_epoch == 12
    schedule = OneCycleLR(other, 0.5, epochs=4, steps_per_epoch=3)
    for _ in range(4):
        for x, y in batches:
            by_hand(x, y)
            schedule.step()
    for name, array in step.state_dict().items():
        np.testing.assert_array_equal(array, by_hand.state_dict()[name])


def test_fit_tells_a_plateau_schedule_the_figure():
    optimizer, step, loader = regression(lambda parameters: optim.SGD(parameters, lr=0.0))
    optimizer.lr, rates = 1e-3, Rates(optimizer)
    plateau = ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=10.0, threshold_mode="abs")
    history = gx.fit(
        step, loader, 3, validate=(step, loader), callbacks=[rates, gx.LearningRateSchedule(plateau)], verbose=False
    )
    assert rates.seen == [1e-3] * 6 + [5e-4] * 3
    assert plateau.best == history["val_loss"][0]
    with pytest.raises(gx.TraceError, match="nothing called 'val_accuracy'; there is"):
        gx.fit(step, loader, 1, callbacks=[gx.LearningRateSchedule(plateau, monitor="val_accuracy")])


# -- state and settings that do not fit


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda state: state.pop("last_epoch"), "last_epoch"),
        (lambda state: state.update(position=np.zeros(())), "position"),
        (lambda state: state.update(last_lr=np.ones(3)), "last_lr"),
        (lambda state: state.update({"1.last_epoch": np.float64(0.5)}), "1.last_epoch"),
    ],
    ids=["missing", "unexpected", "shape", "dtype"],
)
def test_state_that_does_not_fit_changes_nothing(change, word):
    schedule = SCHEDULES["sequential"](lr_scheduler, sgd())
    before = schedule.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    change(state)
    with pytest.raises(gx.CheckpointError, match=word):
        schedule.load_state_dict(state)
    for name, array in schedule.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


NET = nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda o: StepLR(NET, 3), "it must be an optimizer, such as optim.SGD(net.parameters())"),
        (lambda o: StepLR(o, 0), "step_size is 0; it must be a whole number of at least 1"),
        (lambda o: StepLR(o, 3, "0.1"), "gamma is '0.1'; it must be a number"),
        (lambda o: StepLR(o, 3, last_epoch=4), "last_epoch is 4; this needs an initial_lr in param_groups"),
        (lambda o: StepLR(o, 3, last_epoch="4"), "last_epoch is '4'; it must be a whole number of at least -1"),
        (lambda o: LambdaLR(o, 0.5), "lr_lambda is 0.5; it must be a function"),
        (lambda o: LambdaLR(o, lambda: 0.5), "it must be a function"),
        (lambda o: LambdaLR(o, [abs]), "it must be one for all, or a list of 2, one a group"),
        (lambda o: LambdaLR(o, lambda epoch: "half"), "lr_lambda(0) is 'half'; it must be a number"),
        (lambda o: MultiplicativeLR(o, lambda epoch: None).step(), "lr_lambda(1) is None; it must be a number"),
        (lambda o: MultiStepLR(o, 10), "milestones is 10; it must be a list of epochs"),
        (lambda o: MultiStepLR(o, [1, 2.5]), "one of the milestones is 2.5; it must be a whole number"),
        (lambda o: ConstantLR(o, 2), "factor is 2; it must be a number above 0 and of at most 1"),
        (lambda o: LinearLR(o, 0.0), "start_factor is 0.0; it must be a number above 0"),
        (lambda o: LinearLR(o, 0.5, -1), "end_factor is -1; it must be a number from 0 to 1"),
        (lambda o: PolynomialLR(o, 2.5), "total_iters is 2.5"),
        (lambda o: CosineAnnealingLR(o, 0), "T_max is 0"),
        (lambda o: CosineAnnealingWarmRestarts(o, 5, 0), "T_mult is 0"),
        (lambda o: CosineAnnealingWarmRestarts(o, 5).step("1"), "epoch is '1'; it must be a number of at least 0"),
        (lambda o: OneCycleLR(o, 0.1), "total_steps is None; it must be given"),
        (lambda o: OneCycleLR(o, 0.1, 10, pct_start=2), "pct_start is 2; it must be a number from 0 to 1"),
        (lambda o: OneCycleLR(o, 0.1, 10, anneal_strategy="exp"), "anneal_strategy is 'exp'"),
        (lambda o: OneCycleLR(o, 0.1, 10, div_factor=0), "div_factor is 0; it must be a number above 0"),
        (lambda o: OneCycleLR(o, [0.1] * 3, 10), "max_lr is"),
        (lambda o: CyclicLR(o, 0.1, 0.2, mode="square"), "mode is 'square'; it must be one of 'triangular',"),
        (lambda o: CyclicLR(o, 0.1, 0.2, scale_fn=2), "scale_fn is 2; it must be a function"),
        (lambda o: CyclicLR(o, 0.1, 0.2, scale_mode="epoch"), "scale_mode is 'epoch'; it must be one of 'cycle', 'it"),
        (lambda o: CyclicLR(o, 0.1, "0.2"), "max_lr is '0.2'; it must be a number"),
        (lambda o: ReduceLROnPlateau(o, "low"), "mode is 'low'; it must be one of 'min', 'max'"),
        (lambda o: ReduceLROnPlateau(o, factor=1), "factor is 1; it must be at least 0 and below 1"),
        (lambda o: ReduceLROnPlateau(o, threshold_mode="x"), "threshold_mode is 'x'"),
        (lambda o: ReduceLROnPlateau(o, patience="10"), "patience is '10'; it must be a number of at least 0"),
        (lambda o: ReduceLROnPlateau(None), "optimizer is None; it must be an optimizer"),
        (lambda o: ReduceLROnPlateau(o).step("low"), "metrics is 'low'; it must be a number"),
        (lambda o: SequentialLR(o, [], []), "schedulers is empty"),
        (lambda o: SequentialLR(o, StepLR(o, 1), []), "it must be a list of schedules"),
        (lambda o: SequentialLR(o, [StepLR(o, 1)], [3]), "milestones is [3]; it must be a list of 0 epochs"),
        (lambda o: SequentialLR(o, [StepLR(sgd(), 1)], []), "must all be of the same optimizer"),
        (lambda o: SequentialLR(o, [ReduceLROnPlateau(o)], []), "got ReduceLROnPlateau"),
        (lambda o: ChainedScheduler(3), "schedulers is 3; it must be a list of schedules"),
        (lambda o: StepLR(o, 1).load_state_dict([]), "state_dict is []; it must be a dict of arrays"),
        (lambda o: gx.LearningRateSchedule(StepLR(o, 1), "step"), "every is 'step'; it must be"),
        (lambda o: gx.LearningRateSchedule(ReduceLROnPlateau(o), "batch"), "every is 'batch'"),
    ],
)
def test_wrong_settings(make, words):
    check_refusal(make, words, sgd())


def test_more_steps_than_a_cycle_has():
    schedule = OneCycleLR(sgd(), 0.1, total_steps=3)
    for _ in range(3):
        schedule.step()
    with pytest.raises(ValueError, match="total_steps is 3; step 4 is beyond them"):
        schedule.step()


def test_cycling_a_momentum_that_is_not_there():
    optimizer = optim.Adagrad([gx.Parameter([1.0])])
    with pytest.raises(ValueError, match="cycle_momentum is True; it must be False for Adagrad"):
        CyclicLR(optimizer, 0.1, 0.2)
    CyclicLR(optimizer, 0.1, 0.2, cycle_momentum=False)


def test_schedules_of_ones_own():
    class Halved(lr_scheduler.LRScheduler):
        def rate(self, place, lr):
            return lr / 2 if self.last_epoch else lr

    class Unfinished(lr_scheduler.LRScheduler):
        """No rate."""

    optimizer = sgd()
    schedule = Halved(optimizer)
    schedule.step()
    assert schedule.get_last_lr() == [0.05, 0.025]
    with pytest.raises(NotImplementedError, match="Unfinished has no rate"):
        Unfinished(optimizer)

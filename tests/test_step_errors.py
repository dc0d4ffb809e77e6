"""Wrong arguments of the doors, of training and of what a compiled step offers: each says what is wrong and how to
mend it."""

from __future__ import annotations

import numpy as np
import pytest
from refusals import check_refusal

import graphc as gx
from graphc import data, datasets, nn, optim

X, Y = gx.f32["batch", 4], gx.i64["batch"]
TENSOR, WEIGHT = gx.input("x", X), gx.parameter("w", np.zeros(4, np.float32))
NET, LOSS = nn.Linear(4, 3), nn.CrossEntropyLoss()
OPTIMIZER = optim.SGD(NET.parameters(), lr=0.1)
SCHEDULE = optim.lr_scheduler.StepLR(OPTIMIZER, 3)
LOADER = data.DataLoader(data.TensorDataset(np.zeros((8, 4), np.float32), np.zeros(8, np.int64)), 4)


@pytest.fixture(scope="module")
def step():
    return gx.train_step(NET, LOSS, OPTIMIZER, x=X, y=Y)


@pytest.fixture(scope="module")
def apply():
    return gx.predict_step(NET, x=X)


def train_step(**changed):
    return gx.train_step(**{"net": NET, "loss": LOSS, "optimizer": OPTIMIZER, "x": X, "y": Y, **changed})


def keyword_only(a: X, *, b: X):
    return a + b


def nested(a: X):
    return a, [a]


def unread(a: gx.f33["batch"]):
    return a


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gx.function(lambda x: x), "it must be a list of tensors made by gx.input; a body of Python is comp"),
        (lambda: gx.function(3), "inputs is 3"),
        (lambda: gx.function(TENSOR, TENSOR), "inputs is Tensor(f32[batch,4])"),
        (lambda: gx.function([TENSOR], TENSOR, 3), "updates is 3; it must be a dictionary"),
        (lambda: gx.function([TENSOR], {3: TENSOR}), "the name of a result is 3"),
        (lambda: gx.function([TENSOR], TENSOR, name=3), "name is 3"),
        (lambda: gx.function([TENSOR], TENSOR, nan="stop"), "nan is 'stop'; it must be one of None, 'raise'"),
        (lambda: gx.step(3), "body is 3; it must be a Python function with annotated parameters"),
        (lambda: gx.step(NET), "body is Linear("),
        (lambda: gx.step(nan="stop"), "nan is 'stop'"),
        (lambda: gx.step(nested), "a result is [Tensor(f32[batch,4])]"),
        (lambda: train_step(net=3), "net is 3; it must be a module of one input"),
        (lambda: train_step(net=nn.Linear), "net is <class"),
        (lambda: train_step(net=nn.Bilinear(4, 4, 3)), "net is Bilinear("),
        (lambda: train_step(loss="mse"), "loss is 'mse'; it must be a function of (output, target)"),
        (lambda: train_step(loss=nn.CrossEntropyLoss), "loss is <class"),
        (lambda: train_step(loss=lambda output, target: None), "what loss returns is None; it must be one tensor"),
        (lambda: train_step(optimizer=NET), "optimizer is Linear("),
        (lambda: train_step(optimizer=None), "optimizer is None; it must be an optimizer, such as optim.SGD("),
        (lambda: train_step(x=gx.f32), "x is gx.f32; it must be a tensor type, such as"),
        (lambda: train_step(y=np.zeros(3)), "y is array([0., 0., 0.])"),
        (lambda: train_step(metrics=3), "metrics is 3; it must be a list"),
        (lambda: train_step(metrics=[lambda output: output]), "it must be a function of 2 arguments"),
        (lambda: train_step(accumulate=0), "accumulate is 0; it must be a whole number of at least 1"),
        (lambda: train_step(max_grad_norm="a"), "max_grad_norm is 'a'; it must be a number of at least 0"),
        (lambda: gx.eval_step(NET, OPTIMIZER, x=X, y=Y), "loss is SGD("),
        (lambda: gx.predict_step(lambda x: (x, x), x=X), "the output of net is (Tensor(f32[batch,4]), Tensor("),
        (lambda: gx.fit(1, 2, 3), "step is 1; it must be a compiled step; make one with gx.train_step("),
        (lambda: gx.evaluate(NET, LOADER), "it must be a compiled step; make one with gx.eval_step("),
        (lambda: gx.predict(NET, LOADER), "it must be a compiled step; make one with gx.predict_step("),
        (lambda: gx.to_networkx(NET), "function is Linear("),
        (lambda: gx.EarlyStopping(3), "monitor is 3; it must be the name of a column"),
        (lambda: gx.EarlyStopping(patience="a"), "patience is 'a'; it must be a whole number of at least 0"),
        (lambda: gx.EarlyStopping(min_delta=None), "min_delta is None"),
        (lambda: gx.EarlyStopping(mode="up"), "mode is 'up'; it must be one of 'min', 'max', 'auto'"),
        (lambda: gx.LearningRateSchedule(OPTIMIZER), "scheduler is SGD("),
        (lambda: gx.LearningRateSchedule(SCHEDULE, "step"), "every is 'step'; it must be one of 'epoch', 'batch'"),
        (lambda: gx.History()[0], "column is 0; it must be the name of a column"),
        (lambda: gx.Checkpoint(3), "path is 3; it must be a path"),
        (lambda: gx.Checkpoint("a", best_only="a"), "best_only is 'a'"),
        (lambda: gx.manual_seed("a"), "seed is 'a'; it must be a whole number of at least 0"),
        (lambda: gx.manual_seed(-1), "seed is -1"),
        (lambda: gx.save(NET, "a"), "it must be a dictionary of arrays, as state_dict() gives it"),
        (lambda: gx.save({}, 3), "path is 3"),
        (lambda: gx.save({}, "a", 3), "metadata is 3; it must be a dictionary of texts"),
        (lambda: gx.load(3), "path is 3"),
        (lambda: datasets.mnist(3), "folder is 3"),
        (lambda: datasets.fashion_mnist(sample="a"), "sample is 'a'"),
        (lambda: gx.cond(True, 3, 4), "true_fn is 3; it must be a function of 0 arguments"),
        (lambda: gx.cond(TENSOR.sum() > 0, abs, 4, TENSOR), "false_fn is 4; it must be a function of 1 argument"),
        (lambda: gx.scan(lambda state: state, WEIGHT, TENSOR), "it must be a function of 2 arguments"),
        (lambda: gx.scan(lambda s, x: (s, x), WEIGHT, TENSOR, reverse="a"), "reverse is 'a'"),
        (lambda: gx.vjp(3, TENSOR), "f is 3; it must be a function of 1 argument"),
        (lambda: gx.jvp(abs, TENSOR, TENSOR), "primals is Tensor(f32[batch,4]); it must be a tuple"),
        (lambda: gx.hvp(3, TENSOR, TENSOR), "f is 3"),
        (lambda: gx.per_sample_gradient_norms(abs, NET, TENSOR), "parameters is Linear("),
        (lambda: gx.custom_vjp(3), "f is 3; it must be a function"),
        (lambda: gx.custom_vjp(abs).defvjp(lambda ct: ct), "it must be a function of 3 arguments"),
    ],
)
def test_arguments_of_the_wrong_kind(call, words):
    check_refusal(call, words)


@pytest.mark.parametrize(
    ("call", "words", "kind"),
    [
        (lambda: gx.function([TENSOR, TENSOR], TENSOR), "two inputs of a function are called 'x'", gx.TraceError),
        (lambda: gx.function([3], TENSOR), "must come from gx.input(name, type), not 3", gx.TraceError),
        (lambda: gx.function([TENSOR], updates={TENSOR: 0.0}), "not for Tensor(f32[batch,4])", gx.TraceError),
        (lambda: gx.step(keyword_only), "parameter 'b' of keyword_only has no place of its own", gx.TraceError),
        (lambda: gx.step(unread), "the annotations of unread cannot be read", gx.TraceError),
        (lambda: train_step(loss=lambda output, target: output), "the loss is f32[batch,3]", gx.GradientError),
        (lambda: train_step(metrics=[[1]]), "unknown metric [1]; known: accuracy", gx.TraceError),
        (lambda: train_step(device=3), "device 3 is none that steps can run on", gx.TraceError),
        (lambda: gx.History([{"loss": 1.0}])["acc"], "nothing called 'acc'; there is loss", gx.TraceError),
    ],
)
def test_arguments_that_do_not_fit(call, words, kind):
    check_refusal(call, words, kind=kind)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda step: gx.fit(step, 3, 1), "loader is 3; it must be a loader, such as DataLoader("),
        (lambda step: gx.fit(step, LOADER, "a"), "epochs is 'a'; it must be a whole number of at least 0"),
        (
            lambda step: gx.fit(step, LOADER, 1, callbacks=gx.EarlyStopping()),
            "it must be a list of gx.Callback objects",
        ),
        (lambda step: gx.fit(step, LOADER, 1, callbacks=[3]), "callbacks is [3]"),
        (lambda step: gx.fit(step, LOADER, 1, validate=step), "it must be a pair (eval step, loader)"),
        (lambda step: gx.fit(step, LOADER, 1, validate=(LOADER, step)), "make one with gx.eval_step("),
        (lambda step: gx.fit(step, LOADER, 1, verbose="a"), "verbose is 'a'"),
        (lambda step: step.epoch(LOADER.dataset), "it must be a loader, such as DataLoader("),
        (lambda step: step.epoch(LOADER, 3), "progress is 3; it must be a function of 2 arguments"),
        (lambda step: step.epoch(LOADER, slices=0), "slices is 0"),
        (lambda step: step.set(lr="a"), "lr is 'a'; it must be a number"),
        (lambda step: step.text([1]), "level is [1]; it must be one of 'graph', 'program', 'kernels'"),
        (lambda step: step.to_dot(level="x"), "level is 'x'; it must be one of 'layers', 'graph', 'kernels'"),
        (lambda step: step.to_svg(level="x"), "level is 'x'; it must be one of 'layers', 'graph', 'kernels'"),
        (lambda step: step.to_svg(color="heat"), "color is 'heat'; it must be one of None, 'bytes', 'operations'"),
        (lambda step: step.to_svg(color={99: 1.0}), "it must be seconds by the number of a kernel, 0 to"),
        (lambda step: step.to_svg(engine="x"), "engine is 'x'; it must be one of 'graphc', 'graphviz'"),
        (lambda step: step.to_svg(engine="graphviz", color="bytes"), "color or fold is 'bytes'; it must be left to"),
        (lambda step: step.to_svg(fold="yes"), "fold is 'yes'; it must be True, False or None"),
        (lambda step: step.to_png(scale=0), "scale is 0; it must be a number above 0"),
        (lambda step: step.to_html(3), "path is 3"),
        (lambda step: step.to_svg(3), "path is 3"),
        (lambda step: step.explain(3.5), "name is 3.5; it must be a text, the number of a line, or None"),
        (lambda step: step.load_state_dict(3), "the state is 3; it must be a dictionary of arrays"),
    ],
)
def test_arguments_of_a_step(step, call, words):
    before = step.state_dict()
    check_refusal(call, words, step)
    assert all(np.array_equal(array, before[name]) for name, array in step.state_dict().items())


@pytest.mark.parametrize(
    ("call", "words", "kind"),
    [
        (lambda step: gx.predict(step, 3), "batches is 3; it must be an array, or a loader", gx.ArgumentError),
        (lambda step: gx.predict(step, LOADER, "a"), "batch_size is 'a'", gx.ArgumentError),
        (lambda step: gx.predict(step, np.zeros((0, 4), np.float32)), "predict got no samples", gx.BatchError),
        (lambda step: gx.predict(gx.function([TENSOR], TENSOR.sum()), []), "predict joins rows", gx.TraceError),
    ],
)
def test_arguments_of_predict(apply, call, words, kind):
    check_refusal(call, words, apply, kind=kind)


def test_predict_takes_the_rows_of_a_fixed_batch():
    doubled = gx.function([x := gx.input("x", gx.f32[2, 3])], x + x)
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.testing.assert_array_equal(gx.predict(doubled, rows), rows * 2)

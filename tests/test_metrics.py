"""Metrics: scikit-learn's figures and counts by hand, of a batch in the graph and of whole epochs."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import graphc as gx
from graphc import data, nn, optim

ROWS, CLASSES, BATCH = 43, 6, 16
TABLE = [
    [8, 3, 8, 0, 0, 0],
    [0, 11, 1, 0, 0, 0],
    [0, 0, 0, 0, 0, 0],
    [4, 3, 4, 0, 1, 0],
    [0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0],
]
# What scikit-learn 1.9.1 gives for `samples`; "binary" is class 1 against all others.
FIGURES = {
    "precision": {
        "macro": 0.2627450980392157,
        "micro": 0.4418604651162791,
        "weighted": 0.47514819881440945,
        "binary": 0.6470588235294118,
        None: [2 / 3, 0.6470588235294118, 0, 0, 0, 0],
    },
    "recall": {
        "macro": 0.26754385964912275,
        "micro": 0.4418604651162791,
        "weighted": 0.4418604651162791,
        "binary": 0.9166666666666666,
        None: [0.42105263157894735, 0.9166666666666666, 0, 0, 0, 0],
    },
    "f1": {
        "macro": 0.2549499443826474,
        "micro": 0.4418604651162791,
        "weighted": 0.43976511369221616,
        "binary": 0.7586206896551724,
        None: [0.5161290322580645, 0.7586206896551724, 0, 0, 0, 0],
    },
}
SCORES = {"precision": gx.precision_score, "recall": gx.recall_score, "f1": gx.f1_score}
TOP = {1: 0.4418604651162791, 2: 0.6046511627906976, 3: 0.7209302325581395}
R2, R2_OF_SUMS, ERROR = 0.7567297264577115, 0.8310288461494275, 0.39174993856008666


def samples():
    """Scores f32 [43, 6], labels [43]: class 2 is never true, 3 never chosen, 4 chosen once, 5 neither."""
    rng = np.random.default_rng(5)
    scores, labels = rng.normal(size=(ROWS, CLASSES)).astype(np.float32), rng.integers(0, 4, ROWS)
    scores[np.arange(ROWS), labels] += 1
    scores[:, 3:] -= 9
    scores[0, 4] = 50
    labels[labels == 2] = 0
    x = rng.normal(size=(ROWS, 2)).astype(np.float32) + 3
    return scores, labels, x, (x + rng.normal(size=(ROWS, 2)) * 0.5).astype(np.float32)


def outputs(inputs, results, *arrays):
    """What tensors are, natively."""
    return gx.function(inputs, results)(*arrays)


def test_figures_of_a_batch():
    scores, labels, x, y = samples()
    s, t = gx.input("s", gx.f32["batch", CLASSES]), gx.input("t", gx.i64["batch"])
    a, b = gx.input("a", gx.f32["batch", 2]), gx.input("b", gx.f32["batch", 2])
    wanted, results = [], []
    for name, figures in FIGURES.items():
        for average, figure in figures.items():
            sides = (s.argmax(1) == 1, t == 1) if average == "binary" else (s, t)
            results.append(SCORES[name](*sides, average=average))
            wanted.append(figure)
    labelled = s.argmax(1)
    results += [gx.confusion_matrix(s, t), gx.confusion_matrix(labelled, t, num_classes=CLASSES)]
    wanted += [TABLE, TABLE]
    results += [gx.top_k_accuracy(s, t, k) for k in TOP] + [gx.accuracy(s, t), gx.accuracy(labelled, t)]
    wanted += [*TOP.values(), TOP[1], TOP[1]]
    results += [gx.accuracy(s, gx.one_hot(t, CLASSES).float()), gx.top_k_accuracy(s, gx.one_hot(t, CLASSES).float(), 2)]
    wanted += [TOP[1], TOP[2]]
    results += [gx.r2_score(a, b), gx.r2_score(a.sum(1), b.sum(1)), gx.mean_absolute_error(a, b)]
    wanted += [R2, R2_OF_SUMS, ERROR]
    found = outputs([s, t, a, b], results, scores, labels, x, y)
    for mine, figure in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, figure, rtol=1e-6)
    assert found[len(FIGURES) * 5].dtype == np.int64


def test_confusion_matrix_is_a_count():
    scores, labels, _, _ = samples()
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    for row, label in zip(scores, labels, strict=True):
        counts[label, row.argmax()] += 1
    assert counts.tolist() == TABLE


def test_metrics_of_pixels(rng):
    """Scores [n, classes, ...] with labels [n, ...]; labels of bytes."""
    scores, labels = rng.normal(size=(3, 4, 5, 2)).astype(np.float32), rng.integers(0, 4, (3, 5, 2)).astype(np.uint8)
    s, t = gx.input("s", gx.f32["n", 4, 5, 2]), gx.input("t", gx.u8["n", 5, 2])
    found, top, counts = outputs(
        [s, t], [gx.accuracy(s, t), gx.top_k_accuracy(s, t, 2), gx.confusion_matrix(s, t)], scores, labels
    )
    chosen, order = scores.argmax(1), np.argsort(-scores, axis=1)[:, :2]
    np.testing.assert_allclose(found, (chosen == labels).mean(), rtol=1e-6)
    np.testing.assert_allclose(top, (order == labels[:, None]).any(1).mean(), rtol=1e-6)
    for true in range(4):
        for given in range(4):
            assert counts[true, given] == ((labels == true) & (chosen == given)).sum()


def test_top_k_of_ties_and_of_no_numbers():
    """The first of equal scores is the larger, as in accuracy; a label whose score is NaN is never among the top."""
    scores = np.array([[1, 1, 1], [1, 1, 1], [0, 2, 2], [np.nan, 1, 2], [np.nan, 1, 2]], np.float32)
    s, t = gx.input("s", gx.f32[5, 3]), gx.input("t", gx.i64[5])
    results = [gx.top_k_accuracy(s, t, 1), gx.top_k_accuracy(s, t, 2), gx.top_k_accuracy(s, t, 3)]
    found = outputs([s, t], results, scores, np.array([0, 2, 2, 0, 2]))
    np.testing.assert_allclose(found, [1 / 5, 3 / 5, 4 / 5], rtol=1e-6)


def test_r2_of_a_constant_target():
    a, b = gx.input("a", gx.f32["n", 3]), gx.input("b", gx.f32["n", 3])
    y = np.tile(np.float32([0.1, 0.1, 7]), (9, 1))
    off = y + np.float32([0, 1e-3, 0])
    assert outputs([a, b], gx.r2_score(a, b), off, y) == pytest.approx(2 / 3)


# -- whole epochs


def loader(*arrays, shuffle=False):
    return data.DataLoader(data.TensorDataset(*arrays), batch_size=BATCH, shuffle=shuffle, seed=1)


def itself(x):
    return x


def miss_rate(output, target):
    return gx.epoch_sum((output.argmax(1) != target).sum()) / gx.epoch_sum(target.shape[0])


def test_figures_of_an_epoch():
    """Not the means of its batches, 16 + 16 + 11 rows; of whatever order."""
    scores, labels, _, _ = samples()
    metrics = {
        "macro": "f1",
        "by_class": partial(gx.f1_score, average=None),
        "one": lambda s, t: gx.precision_score(s.argmax(1) == 1, t == 1, average="binary"),
        **{name: name for name in ("top2", "recall", "precision", "accuracy", "confusion_matrix")},
        "wrong": miss_rate,
    }
    step = gx.eval_step(itself, nn.CrossEntropyLoss(), x=gx.f32["batch", CLASSES], y=gx.i64["batch"], metrics=metrics)
    for shuffle in (False, True):
        found = step.epoch(loader(scores, labels, shuffle=shuffle))
        assert found._fields == ("loss", *metrics)
        np.testing.assert_allclose(found.macro, FIGURES["f1"]["macro"], rtol=1e-12)
        np.testing.assert_allclose(found.by_class, FIGURES["f1"][None], rtol=1e-12)
        np.testing.assert_allclose(found.one, FIGURES["precision"]["binary"], rtol=1e-12)
        np.testing.assert_allclose(found.recall, FIGURES["recall"]["macro"], rtol=1e-12)
        np.testing.assert_allclose(found.precision, FIGURES["precision"]["macro"], rtol=1e-12)
        np.testing.assert_allclose([found.accuracy, found.top2, 1 - found.wrong], [TOP[1], TOP[2], TOP[1]], rtol=1e-6)
        assert found.confusion_matrix.tolist() == TABLE and found.confusion_matrix.dtype == np.int64
    parts = [step(scores[start : start + BATCH], labels[start : start + BATCH]) for start in range(0, ROWS, BATCH)]
    assert sum(part.confusion_matrix for part in parts).tolist() == TABLE
    assert abs(np.mean([part.macro for part in parts]) - FIGURES["f1"]["macro"]) > 0.01
    assert parts[0].macro == pytest.approx(step.epoch(loader(scores[:BATCH], labels[:BATCH])).macro, rel=1e-12)


def test_r2_of_an_epoch():
    _, _, x, y = samples()
    step = gx.eval_step(
        itself, nn.MSELoss(), x=gx.f32["batch", 2], y=gx.f32["batch", 2], metrics=["r2", "mae", gx.r2_score]
    )
    found = step.epoch(loader(x, y))
    np.testing.assert_allclose([found.r2, found.r2_score], R2, rtol=1e-12)
    np.testing.assert_allclose(found.mae, ERROR, rtol=1e-6)


def test_training_with_figures():
    """Metrics change nothing of the training, and columns of a history are its numbers."""
    scores, labels, _, _ = samples()
    weights = []
    for metrics in ([], ["f1", "confusion_matrix"]):
        gx.manual_seed(3)
        net = nn.Linear(CLASSES, CLASSES)
        optimizer = optim.SGD(net.parameters(), lr=0.1)
        types = {"x": gx.f32["batch", CLASSES], "y": gx.i64["batch"]}
        step = gx.train_step(net, nn.CrossEntropyLoss(), optimizer, **types, metrics=metrics)
        history = gx.fit(step, loader(scores, labels, shuffle=True), epochs=2, verbose=False)
        assert list(history.rows[0]) == ["loss", "f1"][: 1 + len(metrics)]
        weights.append(net.weight.numpy())
    np.testing.assert_array_equal(*weights)


def test_label_outside_is_found_before_the_first_step():
    scores, labels, _, _ = samples()
    labels[40] = 7
    net = nn.Linear(CLASSES, CLASSES)
    optimizer, before = optim.SGD(net.parameters(), lr=0.1), net.weight.numpy()
    types = {"x": gx.f32["batch", CLASSES], "y": gx.i64["batch"]}
    for metrics in (["accuracy"], ["f1"]):
        step = gx.train_step(net, nn.CrossEntropyLoss(), optimizer, **types, metrics=metrics)
        with pytest.raises(gx.LabelError, match="got 7 at index 40"):
            step.epoch(loader(scores, labels))
        np.testing.assert_array_equal(net.weight.numpy(), before)


# -- errors


def eval_with(*metrics):
    return gx.eval_step(
        itself, nn.CrossEntropyLoss(), x=gx.f32["batch", CLASSES], y=gx.i64["batch"], metrics=[*metrics]
    )


def mixed(output, target):
    return gx.epoch_sum((output.argmax(1) != target).sum()) / target.shape[0]


def per_row(output, target):
    return gx.epoch_sum(output.argmax(1) == target)


def test_wrong_metrics():
    with pytest.raises(gx.TraceError, match=r"unknown metric 'acc'; known: accuracy, confusion_matrix, f1, .*top5"):
        eval_with("acc")
    with pytest.raises(gx.TraceError, match=r"metric mixed uses f32\[\] of one batch beside sums over an epoch"):
        eval_with(mixed)
    with pytest.raises(gx.ShapeError, match=r"epoch_sum of bool\[batch\]: batches of other sizes"):
        eval_with(per_row)
    with pytest.raises(ValueError, match="k is 7; it must be a whole number from 1 to 6"):
        eval_with("top7")
    with pytest.raises(ValueError, match=r"k is 1\.5; it must be a whole number"):
        eval_with(partial(gx.top_k_accuracy, k=1.5))
    with pytest.raises(ValueError, match="num_classes is 0; it must be a whole number of at least 1"):
        eval_with(lambda output, target: gx.f1_score(target, target, num_classes=0))
    with pytest.raises(ValueError, match=r"average is 'mean'; it must be one of 'macro', 'micro', .*None"):
        eval_with(partial(gx.f1_score, average="mean"))
    with pytest.raises(ValueError, match='classes for average="binary" is 6; it must be 2'):
        eval_with(partial(gx.recall_score, average="binary"))


@pytest.mark.parametrize("metric", [gx.accuracy, gx.top_k_accuracy, gx.confusion_matrix, gx.f1_score])
def test_every_metric_of_classes_compares_shapes(metric):
    s, name = gx.input("s", gx.f32["batch", 6]), metric.__name__.replace("f1_score", "confusion_matrix")
    with pytest.raises(gx.ShapeError, match=rf"^{name} of f32\[batch,6\] and target i64\[batch,1\]"):
        metric(s, gx.input("t", gx.i64["batch", 1]))


def test_targets_that_do_not_fit():
    labels, floats = gx.input("t", gx.i64["batch"]), gx.input("f", gx.f32["batch", 2])
    with pytest.raises(ValueError, match=r"num_classes is missing; confusion_matrix of integer classes i64\[batch\]"):
        gx.confusion_matrix(labels, labels)
    with pytest.raises(gx.ShapeError, match=r"^r2_score of f32\[batch,2\] and target i64\[batch\]: the shapes differ"):
        gx.r2_score(floats, labels)
    with pytest.raises(gx.ShapeError, match=r"^mean_absolute_error of f32\[batch,2\] and target i64\[batch\]"):
        gx.mean_absolute_error(floats, labels)
    with pytest.raises(gx.ShapeError, match=r"^r2_score of f64\[\]: one number has no deviations"):
        gx.r2_score(floats.sum(), floats.sum())

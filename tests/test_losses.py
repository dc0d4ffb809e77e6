"""Losses and distances: PyTorch's numbers and gradients, natively too; safe at large logits; errors on the line."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from refusals import check_refusal, line_of

import graphc as gx
from graphc import functional as F
from graphc import nn
from graphc.backends import reference

STORED = np.load(Path(__file__).parent / "golden" / "torch_losses.npz")
OPERANDS = {name.removeprefix("operand "): STORED[name] for name in STORED.files if name.startswith("operand ")}
CALLS = [name for name in STORED.files if not name.startswith("operand ")]
FAMILIES = list(dict.fromkeys(call.partition("(")[0] for call in CALLS))
DIFFERENTIABLE = ("a", "b", "c", "p", "big", "whole", "image", "row", "logs", "shares")  # as in torch_losses.py
WITHOUT_REDUCTION = ("cosine_similarity", "pairwise_distance")
BATCHED = [name for name in FAMILIES if name not in (*WITHOUT_REDUCTION, "nll_loss", "binary_cross_entropy")]
TOLERANCES = {"f32": 1e-5, "f64": 1e-10}


def inputs(dtype, rows=5):
    """The stored operands as inputs, floats in the given dtype; first axes of 5 may have another name."""
    shapes = {name: tuple(rows if extent == 5 else extent for extent in x.shape) for name, x in OPERANDS.items()}
    return {name: gx.input(name, (dtype if x.dtype == float else gx.i64)[shapes[name]]) for name, x in OPERANDS.items()}


def arrays(dtype):
    return {name: x.astype(dtype.numpy) if x.dtype == float else x for name, x in OPERANDS.items()}


def measured(call, tensors):
    """What torch_losses.py stores of a call: its value and gradients for every reduction, flat."""
    names = re.findall(r"\w+\b(?!=)", call)
    choices = F.losses.REDUCTIONS + ("batchmean",) * (names[0] == "kl_div")
    chosen = [call] if names[0] in WITHOUT_REDUCTION else [f"{call[:-1]}, reduction={each!r})" for each in choices]
    found = []
    for each in chosen:
        value = eval(each, vars(F) | tensors)
        count = int(np.prod(value.shape))
        weights = 0.5 + gx.arange(count).astype(value.dtype) / (count - 1) if count > 1 else 1.0
        total = (value.reshape(count) * weights).sum()
        wanted = [tensors[name] for name in DIFFERENTIABLE if name in names]
        found += [value, *gx.grad(total, wanted)]
    return found


@pytest.mark.parametrize("dtype", [gx.f32, gx.f64], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_pytorchs(family, dtype):
    """Value and gradients of every call and reduction, natively and by the NumPy reference."""
    tensors, given, tolerance = inputs(dtype), arrays(dtype), TOLERANCES[dtype.name]
    calls = {call: measured(call, tensors) for call in CALLS if call.startswith(f"{family}(")}
    compiled = gx.function(list(tensors.values()), [result for results in calls.values() for result in results])
    native = compiled(*given.values())
    by_name = reference.run(compiled.artifact.program.graph, given)
    for found in (native, [by_name[name] for name, _ in compiled.runner.results]):
        left = iter(found)
        for call, results in calls.items():
            mine = np.concatenate([np.ravel(next(left)) for _ in results])
            np.testing.assert_allclose(mine, STORED[call], rtol=tolerance, atol=0.1 * tolerance, err_msg=call)


def test_batches_of_any_size():
    """One compiled function for a symbolic batch: PyTorch's numbers for five rows; natively as by reference for one."""
    tensors = inputs(gx.f64, rows="batch")
    calls = [next(call for call in reversed(CALLS) if call.startswith(f"{family}(a, ")) for family in BATCHED]
    results = []
    for call in calls:
        mean = eval(call, vars(F) | tensors)
        results += [mean, gx.grad(mean, tensors["a"])]
    compiled = gx.function(list(tensors.values()), results)
    found = compiled(*arrays(gx.f64).values())
    for number, call in enumerate(calls):
        mine = np.concatenate([np.ravel(each) for each in found[2 * number : 2 * number + 2]])
        np.testing.assert_allclose(mine, STORED[call][: len(mine)], rtol=1e-10, atol=1e-11, err_msg=call)
    one = {name: x[:1] if len(np.shape(x)) and len(x) == 5 else x for name, x in arrays(gx.f64).items()}
    wide = {name: np.repeat(x, 2, -1)[..., ::2] if x.ndim else x for name, x in one.items()}  # not contiguous
    wanted = reference.run(compiled.artifact.program.graph, one)
    for (name, _), mine in zip(compiled.runner.results, compiled(*wide.values()), strict=True):
        np.testing.assert_allclose(mine, wanted[name], rtol=1e-12, atol=1e-14, err_msg=name)


MODULES = {
    "mse_loss(a, b, weight=element)": nn.MSELoss(weight=OPERANDS["element"]),
    "l1_loss(a, b)": nn.L1Loss(),
    "smooth_l1_loss(a, b, beta=0.5)": nn.SmoothL1Loss(beta=0.5),
    "huber_loss(a, b, delta=0.5)": nn.HuberLoss(delta=0.5),
    "poisson_nll_loss(p, counts, log_input=False, eps=0.25)": nn.PoissonNLLLoss(log_input=False, eps=0.25),
    "gaussian_nll_loss(a, b, p, full=True, eps=0.5)": nn.GaussianNLLLoss(full=True, eps=0.5),
    "binary_cross_entropy(p, ends, weight=column)": nn.BCELoss(OPERANDS["column"]),
    "binary_cross_entropy_with_logits(a, shares, pos_weight=classes)": nn.BCEWithLogitsLoss(
        pos_weight=OPERANDS["classes"]
    ),
    "kl_div(a, logs, log_target=True)": nn.KLDivLoss(log_target=True),
    "cross_entropy(a, some, weight=classes, label_smoothing=0.25)": nn.CrossEntropyLoss(
        OPERANDS["classes"], label_smoothing=0.25
    ),
    "nll_loss(logs, labels, ignore_index=2)": nn.NLLLoss(ignore_index=2),
    "multi_margin_loss(a, labels, p=2, margin=0.5, weight=classes)": nn.MultiMarginLoss(2, 0.5, OPERANDS["classes"]),
    "hinge_embedding_loss(whole, signs, margin=2.0)": nn.HingeEmbeddingLoss(2.0),
    "soft_margin_loss(a, signs)": nn.SoftMarginLoss(),
    "margin_ranking_loss(whole, b, signs, margin=0.5)": nn.MarginRankingLoss(0.5),
    "cosine_embedding_loss(a, b, flags, margin=0.25)": nn.CosineEmbeddingLoss(0.25),
    "triplet_margin_loss(a, b, c, margin=4.0, swap=True)": nn.TripletMarginLoss(4.0, swap=True),
    "cosine_similarity(a, b, dim=0)": nn.CosineSimilarity(dim=0),
    "pairwise_distance(a, b, p=1.0, keepdim=True)": nn.PairwiseDistance(1.0, keepdim=True),
}


def test_modules_are_the_functions_with_settings():
    tensors = inputs(gx.f32)
    pairs = []
    for call, module in MODULES.items():
        operands = [tensors[name] for name in re.findall(r"(?<=[( ])\w+(?=[,)])", call)]
        pairs += [module(*operands), eval(call, vars(F) | tensors)]
    results = gx.function(list(tensors.values()), pairs)(*arrays(gx.f32).values())
    for call, found, wanted in zip(MODULES, results[::2], results[1::2], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, err_msg=call)


def test_weights_of_a_module_are_its_state():
    loss = nn.BCEWithLogitsLoss([0.5, 2], reduction="sum", pos_weight=None)
    assert {name: array.tolist() for name, array in loss.state_dict().items()} == {"weight": [0.5, 2]}
    assert not list(loss.parameters())
    assert (loss.reduction, loss.pos_weight) == ("sum", None)
    loss.load_state_dict({"weight": np.ones(2, np.float32)})
    x = np.float32([[1, -2]])
    a = gx.input("a", gx.f32[1, 2])
    assert gx.function([a], loss(a, x > 0))(x) == pytest.approx(np.log1p(np.exp([-1, -2])).sum())


# -- one by one


def run(results, dtype=gx.f32, **given):
    """What tensors are natively, for arrays by input name; results is a function of those inputs."""
    named = {name: np.asarray(x, dtype.numpy if np.asarray(x).dtype == float else None) for name, x in given.items()}
    types = {name: (dtype if x.dtype.kind == "f" else gx.i64)[x.shape] for name, x in named.items()}
    tensors = [gx.input(name, kind) for name, kind in types.items()]
    return gx.function(tensors, results(*tensors))(*named.values())


def test_binary_cross_entropy_of_the_course_notes():
    found = run(F.binary_cross_entropy, gx.f64, x=[0.9, 0.1, 0.2, 0.8], y=np.array([1, 0, 0, 1]))
    assert found == pytest.approx(0.164252033486018, rel=1e-14)


def test_hinge_loss():
    x, y = np.array([2, 0.5, -1, 1, -3]), np.array([1.0, 1, 1, -1, -1])
    costs = [0, 0.5, 2, 2, 0]
    found = run(
        lambda x, y: [
            *(F.hinge_loss(x, y, reduction=reduction) for reduction in F.losses.REDUCTIONS),
            nn.HingeLoss(margin=2.0, reduction="none")(x, y),
            gx.grad(F.hinge_loss(x, y, reduction="sum"), x),
        ],
        x=x,
        y=y,
    )
    wanted = [np.mean(costs), np.sum(costs), costs, [0, 1.5, 3, 3, 0], [0, -1, -1, 1, 0]]
    for mine, number in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, number, rtol=1e-6)


@pytest.mark.parametrize("dtype", [gx.f32, gx.f64], ids=str)
def test_safe_at_large_logits(dtype):
    """Finite and right, value and slope, where exp would overflow and probabilities are 0 or 1."""
    x, labels = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]]), np.array([1, 0])
    signs = np.array([[1.0, -1, 1], [1, -1, -1]])

    def losses(x, y, s):
        found = [F.cross_entropy(x, y), F.soft_margin_loss(x, s, reduction="sum")]
        found += [F.binary_cross_entropy(F.sigmoid(x), s > 0, reduction="sum"), F.nll_loss(F.log_softmax(x), y)]
        return [*found, *(gx.grad(each, x) for each in found)]

    found = run(losses, dtype, x=x, y=labels, s=signs)
    half = np.log(2)
    np.testing.assert_allclose(found[:4], [2e4 + half / 2, 3e4 + half, 3e4 + half, 2e4 + half / 2], rtol=1e-6)
    shares = np.array([[0.5, -0.5, 0], [-0.5, 0.25, 0.25]])
    slopes = np.array([[0, 0, -0.5], [-1, 1, 1]])
    for mine, wanted in zip(found[4:], [shares, slopes, slopes, shares], strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-7)


def test_no_digits_cancel_in_logits():
    """The loss of a row that is right is small and exact, on either side."""
    x, y = np.array([15.0, -15.0, 0.0]), np.array([1.0, 0.0, 1.0])
    costs, slope = run(
        lambda x, y: (
            F.binary_cross_entropy_with_logits(x, y, reduction="none"),
            gx.grad(F.binary_cross_entropy_with_logits(x, y, reduction="sum"), x),
        ),
        x=x,
        y=y,
    )
    small = np.log1p(np.exp(-15))
    np.testing.assert_allclose(costs, [small, small, np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(slope, [-np.exp(-15), np.exp(-15), -0.5], rtol=1e-6)


def test_binary_cross_entropy_at_its_ends():
    x, y = np.array([0, 0, 0, 1, 1, 1, np.nan]), np.array([0, 1, 0.5, 0, 1, 0.5, 1])
    costs, slope = run(
        lambda x, y: (
            F.binary_cross_entropy(x, y, reduction="none"),
            gx.grad(F.binary_cross_entropy(x, y, reduction="sum"), x),
        ),
        x=x,
        y=y,
    )
    np.testing.assert_allclose(costs, [0, 100, 50, 100, 0, 50, np.nan], atol=1e-6)
    np.testing.assert_allclose(slope[:6], [1, 0, 0.5, 0, -1, -0.5])
    costs = run(
        lambda x, y: F.binary_cross_entropy(F.sigmoid(x).reshape(4, 1), y.reshape(4, 1), reduction="none"),
        x=[-200.0, -200.0, 200.0, 200.0],
        y=[0.0, 1.0, 0.0, 1.0],
    )
    np.testing.assert_allclose(costs.ravel(), [0, 200, 200, 0])


def test_not_a_number_goes_through_and_equal_vectors_are_at_no_distance():
    def distances(x, y):
        found = F.pairwise_distance(x, y, eps=0.0), F.pairwise_distance(x, y, p=3, eps=0.0), F.cosine_similarity(x, y)
        return [*found, gx.grad(found[0].sum(), x), gx.grad(found[1].sum(), x), F.hinge_loss(x, y), F.huber_loss(x, y)]

    plain, cubic, cosine, slope, other, *costs = run(distances, x=[[1.0, 2], [np.nan, 1]], y=[[1.0, 2], [1, 1]])
    np.testing.assert_array_equal(np.isnan([plain, cubic, cosine]), [[False, True]] * 3)
    np.testing.assert_allclose([plain[0], cubic[0], cosine[0], *slope[0], *other[0]], [0, 0, 1, 0, 0, 0, 0], rtol=1e-6)
    assert np.isnan(costs).all()


@pytest.mark.parametrize("call", [F.huber_loss, F.smooth_l1_loss])
def test_slopes_stay_finite_however_far_off_an_estimate_is(call):
    """The square of the gap, which is not asked for there, overflows beyond 1.8e19."""
    found, wanted = np.array([1e30, -3e38, 0.5, 2.0, -2.0], np.float32), np.array([0, 3e38, 0, 0, 0], np.float32)
    f, w = gx.input("f", gx.f32[5]), gx.input("w", gx.f32[5])
    loss = call(f, w, reduction="sum")
    slopes, others = gx.function([f, w], gx.grad(loss, [f, w]))(found, wanted)
    np.testing.assert_array_equal(slopes, [1, -1, 0.5, 1, -1])
    np.testing.assert_array_equal(others, -slopes)


def test_losses_of_integers_and_bytes():
    """They become floats; bytes do not wrap around."""
    x, y, logits = gx.input("x", gx.u8[3]), gx.input("y", gx.i32[3]), gx.input("l", gx.f32[3, 3])
    compiled = gx.function([x, y, logits], [F.mse_loss(x, y), F.l1_loss(x, x * 0 + 9), F.cross_entropy(logits, x)])
    scores = np.eye(3, dtype=np.float32)
    found = compiled(np.uint8([0, 1, 2]), np.int32([9, 1, 0]), scores)
    np.testing.assert_allclose(found, [85 / 3, 8, np.log(np.e + 2) - 1], rtol=1e-6)


def test_every_label_ignored():
    """As in PyTorch the mean of nothing is no number; sums and slopes are 0."""
    x, y = np.ones((2, 3)), np.array([-100, -100])
    mean, total, slope = run(
        lambda x, y: (
            F.cross_entropy(x, y),
            F.cross_entropy(x, y, reduction="sum"),
            gx.grad(F.cross_entropy(x, y, reduction="sum"), x),
        ),
        x=x,
        y=y,
    )
    assert np.isnan(mean) and total == 0 and not slope.any()


def test_one_hot():
    labels = np.array([[2, 0], [1, 3]])
    np.testing.assert_array_equal(run(lambda y: F.one_hot(y, 4), y=labels), np.eye(4)[labels])
    assert F.one_hot(gx.input("y", gx.i64[3]), 4).type == gx.i64[3, 4]


# -- errors


@pytest.mark.parametrize("label", [-1, 4, 2**62])
def test_label_outside_is_an_error_of_the_call(label):
    x, y = gx.input("x", gx.f32["batch", 4]), gx.input("y", gx.i64["batch"])
    scores, labels = np.zeros((2, 4), np.float32), np.array([0, label])
    losses = {
        "one_hot": F.one_hot(y, 4),
        "cross_entropy": F.cross_entropy(x, y),
        "nll_loss": F.nll_loss(x, y, ignore_index=3),
        "multi_margin_loss": F.multi_margin_loss(x, y),
    }
    for name, loss in losses.items():
        compiled = gx.function([x, y], loss)
        with pytest.raises(gx.LabelError, match=rf"{name}: labels must lie in 0\.\.3: got {label} at index 1"):
            compiled(scores, labels)
        assert np.isfinite(compiled(scores, np.array([3, 1]))).all()


def check_error(caught, marker, *words):
    text = str(caught.value)
    assert len(text.splitlines()) <= 8, text
    assert f"{line_of(__file__, marker)}:" in text, text
    assert all(word in text for word in words), text


def test_targets_of_another_shape():
    x = gx.input("x", gx.f32["batch", 10])
    with pytest.raises(gx.ShapeError) as caught:
        F.cross_entropy(x, gx.input("y", gx.i64["batch", 1]))  # label column
    check_error(caught, "label column", "cross_entropy", "f32[batch,10]", "i64[batch,1]")
    with pytest.raises(gx.ShapeError) as caught:
        nn.CrossEntropyLoss()(x, gx.input("y", gx.f32["batch"]))  # float labels
    check_error(caught, "float labels", "cross_entropy", "f32[batch,10]", "f32[batch]")
    with pytest.raises(gx.ShapeError) as caught:
        F.mse_loss(x.sum(1), gx.input("y", gx.f32["batch", 1]))  # column
    check_error(caught, "column", "mse_loss", "f32[batch]", "f32[batch,1]")
    with pytest.raises(gx.ShapeError) as caught:
        F.nll_loss(gx.input("x", gx.f32[3, "batch"]), gx.input("y", gx.i64[3]))  # symbolic classes
    check_error(caught, "symbolic classes", "nll_loss", "f32[3,batch]", "i64[3]")
    with pytest.raises(gx.ShapeError) as caught:
        F.cosine_embedding_loss(x, x, x)  # embedding
    check_error(caught, "embedding", "cosine_embedding_loss", "f32[batch,10]")


ALIKE = [name for name in F.losses.__all__ if name not in ("cross_entropy", "nll_loss", "multi_margin_loss")]


@pytest.mark.parametrize("name", ALIKE)
def test_every_loss_compares_shapes(name):
    loss, x, y = getattr(F, name), gx.input("x", gx.f32[4]), gx.input("y", gx.f32[4, 1])
    count = len([each for each in inspect.signature(loss).parameters.values() if each.default is each.empty])
    with pytest.raises(gx.ShapeError, match=rf"^{name} of f32\[4\] and target f32\[4,1\]: the shapes differ"):
        loss(x, *[y] * (count - 1))


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss", "multi_margin_loss"])
def test_every_loss_of_classes_checks_its_operands(name):
    loss, x, labels = getattr(F, name), gx.input("x", gx.f32["n", 4]), gx.input("y", gx.i64["n"])
    with pytest.raises(gx.ShapeError, match=rf"^{name} of f32\[n,4\] and target i64\[3\]: they do not belong together"):
        loss(x, gx.input("y", gx.i64[3]))
    with pytest.raises(gx.ShapeError, match=rf"^{name} of f32\[\] and target i64\[\]"):
        loss(x.sum(), labels.sum())
    with pytest.raises(gx.ShapeError, match=rf"^{name} of f32\[n,4\] with weight f32\[3\]: .* each of 4 classes"):
        loss(x, labels, weight=[1, 2, 3])
    with pytest.raises(gx.DTypeError, match=rf"^{name} needs integer labels, got bool\[n\]"):
        loss(x, labels > 0)


def test_weights_that_do_not_fit():
    x, y = gx.input("x", gx.f32["n", 4]), gx.input("y", gx.f32["n", 4])
    for loss in (F.mse_loss, F.l1_loss, F.huber_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits):
        with pytest.raises(gx.ShapeError, match=rf"^{loss.__name__} of f32\[n,4\] with weight f32\[3\]"):
            loss(x, y, weight=np.ones(3))
    with pytest.raises(gx.ShapeError, match=r"with weight f32\[2,1,4\]: the weight does not broadcast"):
        nn.BCEWithLogitsLoss(pos_weight=np.ones((2, 1, 4)))(x, y)
    with pytest.raises(gx.ShapeError, match=r"^gaussian_nll_loss of f32\[n,4\] with weight f32\[n,2\]"):
        F.gaussian_nll_loss(x, y, gx.input("v", gx.f32["n", 2]))
    with pytest.raises(gx.DTypeError, match="cannot use NoneType"):
        F.gaussian_nll_loss(x, y, None)
    with pytest.raises(gx.ShapeError, match=r"^cannot broadcast f32\[n,4\] and f32\[3\]"):
        F.cosine_similarity(x, np.ones(3))
    with pytest.raises(gx.ShapeError, match="axis 1 is outside"):
        nn.CosineSimilarity()(x.sum(1), y.sum(1))


SETTINGS = {
    "label_smoothing is 1.5; it must be a number from 0 to 1": lambda x, y: F.cross_entropy(x, y, label_smoothing=1.5),
    "beta is -1; it must be a number of at least 0": lambda x, y: F.smooth_l1_loss(x, x, beta=-1),
    "delta is 0; it must be a number above 0": lambda x, y: nn.HuberLoss(delta=0)(x, x),
    "p is 3; it must be 1 or 2": lambda x, y: F.multi_margin_loss(x, y, p=3),
    "p is 0; it must be a number above 0": lambda x, y: F.pairwise_distance(x, x, p=0),
    "margin is 0; it must be a number above 0": lambda x, y: nn.TripletMarginLoss(margin=0)(x, x, x),
    "eps is 0; it must be a number above 0": lambda x, y: F.gaussian_nll_loss(x, x, 1.0, eps=0),
    "num_classes is 0; it must be a whole number of at least 1": lambda x, y: F.one_hot(y, 0),
    "num_classes is 2.5; it must be a whole number of at least 1": lambda x, y: F.one_hot(y, 2.5),
    "ignore_index is 1.5; it must be a whole number": lambda x, y: F.nll_loss(x, y, ignore_index=1.5),
}


@pytest.mark.parametrize("message", SETTINGS)
def test_settings_that_are_no_choice(message):
    check_refusal(SETTINGS[message], message, gx.input("x", gx.f32[3, 4]), gx.input("y", gx.i64[3]))


@pytest.mark.parametrize("name", F.losses.__all__)
def test_every_loss_checks_its_reduction(name):
    loss, x, y = getattr(F, name), gx.input("x", gx.f32[3, 4]), gx.input("y", gx.i64[3])
    count = len([each for each in inspect.signature(loss).parameters.values() if each.default is each.empty])
    operands = [x, y] if name not in ALIKE else [x] * count
    if name == "cosine_embedding_loss":
        operands[2] = y
    choices = "'mean', 'sum', 'none'" + ", 'batchmean'" * (name == "kl_div")
    with pytest.raises(ValueError, match=f"reduction is 'average'; it must be one of {choices}\n"):
        loss(*operands, reduction="average")


def test_settings_of_modules():
    with pytest.raises(ValueError, match="reduction is 'average'; it must be one of"):
        nn.MSELoss(reduction="average")
    with pytest.raises(TypeError, match="unexpected keyword argument 'beta'"):
        nn.MSELoss(beta=1)
    with pytest.raises(gx.DTypeError, match=r"one_hot needs integer labels, got f32\[3\]"):
        F.one_hot(gx.input("y", gx.f32[3]), 4)

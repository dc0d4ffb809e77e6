"""Losses of an output and a target, with PyTorch's names, formulas, defaults and order of arguments.

What follows PyTorch's deprecated `size_average` is taken by keyword. `reduction` is "mean", "sum" or "none"; the mean
of a loss of classes is over its rows. Integers are converted to floats, weights may be arrays. Every loss raises
ShapeError, naming both types, for operands that do not fit, and ArgumentError for wrong settings.
"""

from __future__ import annotations

import math
from typing import Any

from graphc.errors import ShapeError
from graphc.functional.activation import logsigmoid
from graphc.functional.distances import at_least, pairwise_distance
from graphc.functional.labels import at_labels, check_labels, class_axis, class_count
from graphc.ir import ops
from graphc.ir.graph import user_origin
from graphc.ir.types import FLOATS
from graphc.settings import check_choice, check_number, check_share, check_switch, is_number, require
from graphc.tensor import Parameter, Tensor, as_floats, as_tensor, lift, stretch, where
from graphc.tensor.arithmetic import absolute, maximum, minimum, sqrt
from graphc.tensor.maths import exp, log, relu
from graphc.tensor.reduction import count_of, log_softmax, sum
from graphc.tensor.views import reshape, unsqueeze

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cross_entropy",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "hinge_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
]

REDUCTIONS = ("mean", "sum", "none")
LEAST_LOG = -100.0  # PyTorch's floor for the logarithms in binary_cross_entropy
LEAST_SQUARE = 1e-12  # what PyTorch adds to squared lengths in cosine_embedding_loss


# -- what they share


def check_reduction(reduction: str, choices: tuple[str, ...] = REDUCTIONS) -> str:
    chosen: str = check_choice("reduction", reduction, choices)
    return chosen


def reduced(losses: Tensor, reduction: str) -> Tensor:
    if check_reduction(reduction) == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def check_alike(name: str, x: Tensor, target: Tensor) -> None:
    if x.value.shape != target.value.shape:
        raise ShapeError(
            f"{name} of {x.type} and target {target.type}: the shapes differ",
            user_origin(),
            [advice_for(name, x, target)],
        )


def advice_for(name: str, x: Tensor, target: Tensor) -> str:
    """How a target of another shape could be meant."""
    if name == "cross_entropy" and target.ndim == x.ndim - 1:
        dims = ", ".join(repr(str(extent)) if not isinstance(extent, int) else str(extent) for extent in target.shape)
        return f"numbers of classes are integers: declare the target as gx.i64[{dims}], or write target.long()"
    return "reshape one of them; broadcasting would compare every row with every other"


def alike(name: str, *operands: Any) -> list[Tensor]:
    """Operands of one shape, as floats of one dtype."""
    first, *others = (as_tensor(operand) for operand in operands)
    for other in others:
        check_alike(name, first, other)
    return as_floats(first, *others)


def spread(name: str, weight: Any, x: Tensor) -> Tensor:
    """A weight broadcast to the shape of x, in its dtype."""
    factor = as_weight(weight, x)
    own, shape = factor.value.shape, x.value.shape
    if len(own) > len(shape) or any(
        extent not in (1, other) for extent, other in zip(reversed(own), reversed(shape), strict=False)
    ):
        raise ShapeError(
            f"{name} of {x.type} with weight {factor.type}: the weight does not broadcast to it", user_origin()
        )
    return Tensor(stretch(factor.value, shape))


def as_weight(weight: Any, x: Tensor) -> Tensor:
    """A weight as a tensor of the dtype of x."""
    if isinstance(weight, Tensor):
        return weight.astype(x.dtype)
    lift(weight)  # DTypeError for what holds no numbers
    return Parameter(weight, "weight", requires_grad=False, dtype=x.dtype)


def weighed(name: str, losses: Tensor, weight: Any) -> Tensor:
    return losses if weight is None else losses * spread(name, weight, losses)


def reduced_over_weights(name: str, losses: Tensor, weight: Any, reduction: str) -> Tensor:
    """Weighed and reduced, the mean over the sum of the weights."""
    if weight is None or check_reduction(reduction) != "mean":
        return reduced(weighed(name, losses, weight), reduction)
    factor = spread(name, weight, losses)
    return sum(losses * factor) / sum(factor)


def positive_part(x: Tensor) -> Tensor:
    """max(x, 0) with PyTorch's slope of 1 at 0 for clamped losses; relu has 0 there."""
    return where(x < 0, 0.0, x)


# -- of numbers


def mse_loss(input: Any, target: Any, *, reduction: str = "mean", weight: Any = None) -> Tensor:
    """(input - target)**2 for two of one shape; a weighted mean is over the sum of the weights."""
    found, wanted = alike("mse_loss", input, target)
    return reduced_over_weights("mse_loss", (found - wanted) ** 2, weight, reduction)


def l1_loss(input: Any, target: Any, *, reduction: str = "mean", weight: Any = None) -> Tensor:
    """|input - target| for two of one shape; a weighted mean is over the sum of the weights."""
    found, wanted = alike("l1_loss", input, target)
    return reduced_over_weights("l1_loss", absolute(found - wanted), weight, reduction)


def smooth_l1_loss(input: Any, target: Any, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """gap**2 / (2 beta) where gap = |input - target| < beta, gap - beta / 2 elsewhere.

    Source: Girshick 2015, Fast R-CNN, equation 3.
    """
    check_number("beta", beta, 0)
    found, wanted = alike("smooth_l1_loss", input, target)
    gaps = absolute(found - wanted)
    return reduced(bent(gaps, beta) * (1 / beta) if beta else gaps, reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Tensor:
    """gap**2 / 2 where gap = |input - target| < delta, delta * (gap - delta / 2) elsewhere.

    Source: Huber 1964, Robust estimation of a location parameter.
    """
    check_number("delta", delta, 0, above=True)
    found, wanted = alike("huber_loss", input, target)
    gaps = absolute(found - wanted)
    return reduced(weighed("huber_loss", bent(gaps, delta), weight), reduction)


def bent(gaps: Tensor, end: float) -> Tensor:
    """gap**2 / 2 up to `end`, and straight on from there. No gap is squared that is larger: it might overflow."""
    near = minimum(gaps, end)
    return near * (gaps - 0.5 * near)


def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    *,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-likelihood of counts under Poisson distributions, without the term log(target!).

    log_input  the input is the logarithm of the rate: exp(input) - target * input; else it is the rate:
               input - target * log(input + eps)
    full       add Stirling's approximation of log(target!) where the target is more than 1
    """
    check_number("eps", eps, 0)
    found, wanted = alike("poisson_nll_loss", input, target)
    losses = exp(found) - wanted * found if check_switch("log_input", log_input) else found - wanted * log(found + eps)
    if check_switch("full", full):
        many = wanted > 1
        count = where(many, wanted, 1.0)
        losses = losses + where(many, count * log(count) - count + 0.5 * log(2 * math.pi * count), 0.0)
    return reduced(losses, reduction)


def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """(log(var) + (input - target)**2 / var) / 2: minus the log-likelihood of the target under normal distributions.

    var   variances of the shape of the input, or without its last axis, or with size 1 there, or one number
    full  add log(2 pi) / 2
    eps   the least variance; a smaller one counts as eps, but keeps its gradient, as in PyTorch

    Source: Nix & Weigend 1994, Estimating the mean and variance of the target probability distribution.
    """
    check_number("eps", eps, 0, above=True)
    check_switch("full", full)
    found, wanted = alike("gaussian_nll_loss", input, target)
    spreads = as_weight(var, found)
    if spreads.value.shape == found.value.shape[:-1] != ():
        spreads = unsqueeze(spreads, -1)
    spreads = spread("gaussian_nll_loss", spreads, found)
    variance = at_least(spreads, eps)
    losses = 0.5 * (log(variance) + (found - wanted) ** 2 / variance)
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


# -- of probabilities


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, *, reduction: str = "mean") -> Tensor:
    """-(target * log(input) + (1 - target) * log(1 - input)) for probabilities in [0, 1] and a target of one shape.

    weight  of each element; it broadcasts

    Logarithms are at least -100, as in PyTorch, with no gradient where they would be less. The result of `sigmoid` is
    taken back to its logits, which lose no digits.
    """
    found, wanted = alike("binary_cross_entropy", input, target)
    logits = logits_of(found)
    if logits is not None:
        return binary_cross_entropy_with_logits(logits, wanted, weight, reduction=reduction)
    losses = -(wanted * limited_log(found) + (1 - wanted) * limited_log(1 - found))
    return reduced(weighed("binary_cross_entropy", losses, weight), reduction)


def logits_of(probabilities: Tensor) -> Tensor | None:
    """x of `sigmoid(x)` or of a reshape of it; None for anything else."""
    source = probabilities.value
    while source.op is ops.reshape:
        source = source.operands[0]
    return reshape(Tensor(source.operands[0]), probabilities.shape) if source.op is ops.sigmoid else None


def limited_log(x: Tensor) -> Tensor:
    """log(x), at least -100; the logarithm of 0 is not taken, since its slope would be no number."""
    nothing = x <= 0
    return maximum(where(nothing, LEAST_LOG, log(where(nothing, 1.0, x))), LEAST_LOG)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """binary_cross_entropy(sigmoid(input), target), exact for logits of any size.

    weight      of each element; it broadcasts
    pos_weight  of the term with target, for example of each class: more than 1 favours recall; it broadcasts
    """
    name = "binary_cross_entropy_with_logits"
    found, wanted = alike(name, input, target)
    stressed = wanted if pos_weight is None else wanted * spread(name, pos_weight, found)
    # softplus(x) - x * target with all that grows with x in one term: no digits cancel where the two are near.
    positive = found > 0
    linear, rest = found * where(positive, 1 - wanted, -stressed), -logsigmoid(where(positive, found, -found))
    losses = linear + (rest if pos_weight is None else (1 - wanted + stressed) * rest)
    return reduced(weighed(name, losses, weight), reduction)


def kl_div(input: Any, target: Any, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target * (log(target) - input), 0 where the target is 0: the divergence of log-probabilities from a target.

    log_target  the target is given as log-probabilities too
    reduction   "batchmean", the sum over the first extent, is the divergence's own definition; "mean" is over elements

    Source: Kullback & Leibler 1951, On information and sufficiency.
    """
    check_reduction(reduction, ("mean", "sum", "none", "batchmean"))
    found, wanted = alike("kl_div", input, target)
    if check_switch("log_target", log_target):
        losses = exp(wanted) * (wanted - found)
    else:
        nothing = wanted == 0
        losses = where(nothing, 0.0, wanted * (log(where(nothing, 1.0, wanted)) - found))
    if reduction != "batchmean":
        return reduced(losses, reduction)
    return sum(losses) / (found.shape[0] if found.ndim else 1)


# -- of classes


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log(softmax(input)) at the target.

    input            [n, classes, ...] or [classes]
    target           integer labels [n, ...], or probabilities of the shape of the input
    weight           [classes]; the mean over labels is then over the sum of their weights
    ignore_index     a label, among the classes or not, that costs nothing and is not counted in the mean
    label_smoothing  share of every target that is spread evenly over the classes, 0 to 1

    Another label outside of 0..classes-1 makes the compiled function raise LabelError before it updates anything.
    Source: Szegedy et al. 2016, Rethinking the Inception Architecture, section 7 (label smoothing).
    """
    check_share("label_smoothing", label_smoothing)
    (scores,), wanted = as_floats(input), as_tensor(target)
    labels = wanted.value.dtype not in FLOATS
    (check_labels if labels else check_alike)("cross_entropy", scores, wanted)
    logs = log_softmax(scores, class_axis(scores))
    if labels:
        return label_loss("cross_entropy", logs, wanted, weight, ignore_index, reduction, label_smoothing)
    shares = wanted * (1 - label_smoothing) + label_smoothing / class_count(scores) if label_smoothing else wanted
    costs = shares * logs if weight is None else shares * logs * class_weights("cross_entropy", weight, scores)
    return class_loss(costs, row_count(scores), reduction)


def nll_loss(
    input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Minus the log-probabilities [n, classes, ...] at integer labels [n, ...]; all else is as in cross_entropy."""
    (logs,), labels = as_floats(input), as_tensor(target)
    check_labels("nll_loss", logs, labels)
    return label_loss("nll_loss", logs, labels, weight, ignore_index, reduction)


def label_loss(
    name: str, logs: Tensor, labels: Tensor, weight: Any, ignore_index: int, reduction: str, smoothing: float = 0.0
) -> Tensor:
    """Minus the weighed log-probabilities at labels that are not ignored."""
    hot, counted = at_labels(name, logs, labels, ignore_index)
    factor = None if weight is None else class_weights(name, weight, logs)
    costs = logs if factor is None else logs * factor
    chosen = where(hot, costs, 0.0)
    if smoothing:
        even = costs * (smoothing / class_count(logs))
        even = even if counted is None else where(unsqueeze(counted, class_axis(logs)), even, 0.0)
        chosen = chosen * (1 - smoothing) + even
    if factor is not None:
        return class_loss(chosen, sum(where(hot, factor, 0.0)), reduction)
    return class_loss(chosen, row_count(logs) if counted is None else sum(counted), reduction)


def class_loss(costs: Tensor, count: Any, reduction: str) -> Tensor:
    """Minus the sum over classes; the mean is the sum over everything by a count of rows."""
    if check_reduction(reduction) == "none":
        return -sum(costs, class_axis(costs))
    return -sum(costs) if reduction == "sum" else -(sum(costs) / count)


def row_count(scores: Tensor) -> Any:
    return count_of(scores, tuple(axis for axis in range(scores.ndim) if axis != class_axis(scores)))


def class_weights(name: str, weight: Any, scores: Tensor) -> Tensor:
    """[classes] weights along the class axis of the scores."""
    axis, factor = class_axis(scores), as_weight(weight, scores)
    if factor.value.shape != (class_count(scores),):
        raise ShapeError(
            f"{name} of {scores.type} with weight {factor.type}: a weight for each of {class_count(scores)} classes "
            "is needed",
            user_origin(),
        )
    return factor.reshape(-1, *[1] * (scores.ndim - axis - 1))


def multi_margin_loss(
    input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, *, reduction: str = "mean"
) -> Tensor:
    """The mean over classes of max(0, margin - score at the label + other score)**p.

    input   scores [n, classes] or [classes]; target: integer labels [n], checked as in cross_entropy
    p       1 or 2
    weight  [classes], of each label

    Source: Crammer & Singer 2001, On the algorithmic implementation of multiclass kernel-based vector machines.
    """
    require(is_number(p) and p in (1, 2), "p", p, "1 or 2")
    check_number("margin", margin)
    (scores,), labels = as_floats(input), as_tensor(target)
    check_labels("multi_margin_loss", scores, labels)
    axis = class_axis(scores)
    hot, _ = at_labels("multi_margin_loss", scores, labels)
    best = sum(where(hot, scores, 0.0), axis, keepdims=True)
    costs = where(hot, 0.0, relu(margin - best + scores) ** p) / -class_count(scores)
    if weight is not None:
        factor = class_weights("multi_margin_loss", weight, scores)
        costs = costs * sum(where(hot, factor, 0.0), axis, keepdims=True)
    return class_loss(costs, row_count(scores), reduction)


# -- of margins; targets are 1 and -1


def hinge_loss(input: Any, target: Any, margin: float = 1.0, *, reduction: str = "mean") -> Tensor:
    """max(0, margin - target * input) for scores and a target of 1 or -1: the loss of a support vector machine.

    Source: Cortes & Vapnik 1995, Support-vector networks.
    """
    check_number("margin", margin)
    found, wanted = alike("hinge_loss", input, target)
    return reduced(positive_part(margin - wanted * found), reduction)


def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, *, reduction: str = "mean") -> Tensor:
    """input where the target is 1, max(0, margin - input) where it is -1; of distances, for example.

    Source: Hadsell et al. 2006, Dimensionality reduction by learning an invariant mapping.
    """
    check_number("margin", margin)
    found, wanted = alike("hinge_embedding_loss", input, target)
    near, far = where(wanted == -1, 0.0, found), where(wanted == 1, 0.0, positive_part(margin - found))
    return reduced(near + far, reduction)


def soft_margin_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-target * input)) for a target of 1 or -1."""
    found, wanted = alike("soft_margin_loss", input, target)
    return reduced(-logsigmoid(wanted * found), reduction)


def margin_ranking_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, *, reduction: str = "mean"
) -> Tensor:
    """max(0, margin - target * (input1 - input2)): a target of 1 wants input1 to be the larger, -1 input2."""
    check_number("margin", margin)
    first, second, wanted = alike("margin_ranking_loss", input1, input2, target)
    return reduced(positive_part(margin - wanted * (first - second)), reduction)


def cosine_embedding_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, *, reduction: str = "mean"
) -> Tensor:
    """1 - c where the target is 1, max(0, c - margin) where it is -1, for the cosine c of two vectors.

    input1, input2  [n, features] or [features]; target: [n] or one number
    """
    check_number("margin", margin)
    first, second = alike("cosine_embedding_loss", input1, input2)
    (wanted,) = as_floats(target)
    if wanted.value.shape != first.value.shape[:-1] or first.ndim not in (1, 2):
        raise ShapeError(
            f"cosine_embedding_loss of {first.type} and target {wanted.type}: they do not belong together",
            user_origin(),
            ["it takes two of [n, features] and a target [n]"],
        )
    cosine = sum(first * second, -1) / (lifted_length(first) * lifted_length(second))
    near, far = where(wanted == 1, 1 - cosine, 0.0), where(wanted == -1, positive_part(cosine - margin), 0.0)
    return reduced(near + far, reduction)


def lifted_length(x: Tensor) -> Tensor:
    """The length of vectors, never 0."""
    return sqrt(sum(x * x, -1) + LEAST_SQUARE)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    *,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + d(anchor, positive) - d(anchor, negative)) with d = pairwise_distance of [n, features].

    swap  take d(positive, negative) where it is less than d(anchor, negative)

    Source: Balntas et al. 2016, Learning local feature descriptors with triplets and shallow convolutional networks.
    """
    check_number("margin", margin, 0, above=True)
    center, near, far = alike("triplet_margin_loss", anchor, positive, negative)
    gap = pairwise_distance(center, far, p, eps)
    if check_switch("swap", swap):
        gap = minimum(gap, pairwise_distance(near, far, p, eps))
    return reduced(positive_part(margin + pairwise_distance(center, near, p, eps) - gap), reduction)

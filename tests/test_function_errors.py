"""Arguments that functions do not take: the error says which, on the line of the call."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphc as gx
from graphc import functional as F
from graphc.errors import ArgumentError, DTypeError, ShapeError

X, IMAGE = gx.input("x", gx.f32["n", 4]), gx.input("image", gx.f32["n", 4, 8, 8])
LABELS = gx.input("labels", gx.i64["n"])

WRONG = [
    (lambda: F.leaky_relu(X, "0.1"), "negative_slope is '0.1'; it must be a number"),
    (lambda: F.elu(X, None), "alpha is None; it must be a number"),
    (lambda: F.celu(X, math.nan), "alpha is nan; it must be a number other than 0"),
    (lambda: F.gelu(X, True), "approximate is True; it must be one of 'none', 'tanh'"),
    (lambda: F.softplus(X, [1]), "beta is [1]; it must be a number other than 0"),
    (lambda: F.softplus(X, 1, X), "threshold is Tensor(f32[n,4]); it must be a number"),
    (lambda: F.hardtanh(X, "a", 1), "min_val is 'a'; it must be a number"),
    (lambda: F.softshrink(X, None), "lambd is None; it must be a number of at least 0"),
    (lambda: F.hardshrink(X, "a"), "lambd is 'a'; it must be a number"),
    (lambda: F.threshold(X, 0, None), "value is None; it must be a number"),
    (lambda: F.glu(X, 0.5), "an axis is a whole number, not 0.5"),
    (lambda: F.relu(F.relu), "cannot use function of dtype object in a graph"),
    (lambda: F.dropout(X, "a"), "p is 'a'; it must be a number from 0 to 1"),
    (lambda: F.dropout(X, 2, training=False), "p is 2; it must be a number from 0 to 1"),
    (lambda: F.dropout(X, 0.5, "yes"), "training is 'yes'; it must be True or False"),
    (lambda: F.alpha_dropout(X, X), "p is Tensor(f32[n,4]); it must be a number from 0 to 1"),
    (lambda: F.batch_norm(X, [0] * 4, [1] * 4, eps="a"), "eps is 'a'; it must be a number of at least 0"),
    (lambda: F.batch_norm(X, [0] * 4, [1] * 4, training=np.ones(2)), "training is array([1., 1.]); it must be True"),
    (lambda: F.instance_norm(IMAGE, eps=-1), "eps is -1; it must be a number of at least 0"),
    (lambda: F.group_norm(X, 2.0), "num_groups is 2.0; it must be a whole number of at least 1"),
    (lambda: F.layer_norm(X, 4, eps=None), "eps is None; it must be a number of at least 0"),
    (lambda: F.layer_norm(X, 4.5), "4.5 is no extent"),
    (lambda: F.normalize(X, "a"), "p is 'a'; it must be a number"),
    (lambda: F.local_response_norm(X, 0), "size is 0; it must be a whole number of at least 1"),
    (lambda: F.local_response_norm(X, 2, beta=[1]), "beta is [1]; it must be a number"),
    (lambda: F.mse_loss(X, X, reduction=None), "reduction is None; it must be one of 'mean', 'sum', 'none'"),
    (lambda: F.mse_loss(X, X, reduction=np.ones(2), weight=1.0), "reduction is array([1., 1.]); it must be one of"),
    (
        lambda: F.cross_entropy(X, LABELS, label_smoothing="a"),
        "label_smoothing is 'a'; it must be a number from 0 to 1",
    ),
    (lambda: F.cross_entropy(LABELS, X), "cross_entropy of f32[n] and target f32[n,4]"),
    (lambda: F.smooth_l1_loss(X, X, beta=None), "beta is None; it must be a number of at least 0"),
    (lambda: F.huber_loss(X, X, delta="1"), "delta is '1'; it must be a number above 0"),
    (lambda: F.poisson_nll_loss(X, X, X), "log_input is Tensor(f32[n,4]); it must be True or False"),
    (lambda: F.gaussian_nll_loss(X, X, 1.0, 1e-6), "full is 1e-06; it must be True or False"),
    (lambda: F.kl_div(X, X, log_target=1), "log_target is 1; it must be True or False"),
    (lambda: F.multi_margin_loss(X, LABELS, margin="a"), "margin is 'a'; it must be a number"),
    (lambda: F.hinge_loss(X, X, None), "margin is None; it must be a number"),
    (lambda: F.cosine_embedding_loss(X, X, LABELS, [0]), "margin is [0]; it must be a number"),
    (lambda: F.triplet_margin_loss(X, X, X, p="2"), "p is '2'; it must be a number above 0"),
    (lambda: F.triplet_margin_loss(X, X, X, swap=2), "swap is 2; it must be True or False"),
    (lambda: F.cosine_similarity(X, X, eps="a"), "eps is 'a'; it must be a number of at least 0"),
    (lambda: F.pairwise_distance(X, X, X), "p is Tensor(f32[n,4]); it must be a number above 0"),
    (lambda: F.one_hot(LABELS, None), "num_classes is None; it must be a whole number of at least 1"),
    (lambda: F.embedding(LABELS, X, 1.0), "padding_idx is 1.0; it must be a row of f32[n,4]"),
    (lambda: F.top_k_accuracy(X, LABELS, "3"), "k is '3'; it must be a whole number from 1 to 4"),
    (lambda: F.f1_score(X, LABELS, True), "average is True; it must be one of 'macro', 'micro', 'weighted', 'binary'"),
    (lambda: F.scaled_dot_product_attention(X, X, X, scale="a"), "scale is 'a'; it must be a number"),
    (lambda: F.scaled_dot_product_attention(X, X, X, is_causal="no"), "is_causal is 'no'; it must be True or False"),
    (lambda: F.conv2d(IMAGE, np.ones((3, 4, 2, 2)), padding=np.ones(2)), "padding=array([1., 1.]) must be a whole"),
    (lambda: F.max_pool2d(IMAGE, "2"), "max_pool2d: kernel_size='2' must be a whole number"),
    (lambda: F.max_pool2d(IMAGE, 2, ceil_mode=2), "ceil_mode is 2; it must be True or False"),
    (lambda: F.max_pool2d(IMAGE, 2, return_indices="a"), "return_indices is 'a'; it must be True or False"),
    (lambda: F.avg_pool2d(IMAGE, 2, divisor_override="a"), "divisor_override is 'a'; it must be a number other than 0"),
    (lambda: F.pad(X, (1, 1), value="a"), "value is 'a'; it must be a number"),
    (lambda: F.pad(X, (1, 1), None), "mode is None; it must be one of 'constant', 'reflect'"),
    (lambda: F.interpolate(IMAGE, "16"), "'16' is not a whole number of at least 1"),
    (lambda: F.interpolate(IMAGE, scale_factor=math.inf), "inf is not a whole number of at least 1"),
    (lambda: F.pixel_shuffle(IMAGE, 2.0), "upscale_factor is 2.0; it must be a whole number of at least 1"),
    (lambda: F.channel_shuffle(IMAGE, None), "groups is None; it must be a whole number of at least 1"),
    (lambda: F.einsum(X, [X, LABELS]), "einsum takes an equation, or lists of numbers"),
    (lambda: F.lstm_cell(X, X, X, X), "hx is Tensor(f32[n,4]); it must be the pair (h, c)"),
    (lambda: F.full((2, 3), IMAGE), "cannot broadcast f32[n,4,8,8] to [2, 3]"),
    (lambda: F.arange(3, X), "stop is Tensor(f32[n,4]); it must be a number"),
    (lambda: F.arange(0, 3, "a"), "step is 'a'; it must be a number"),
    (lambda: F.arange(0, math.inf), "arange from 0 to inf with step=1 has no end"),
    (lambda: F.linspace([0], 1), "start is [0]; it must be a number"),
    (lambda: F.linspace(0, 1, 2.5), "num is 2.5; it must be a whole number of at least 0"),
    (lambda: F.logspace(0, 1, base=None), "base is None; it must be a number"),
    (lambda: F.eye(3, k=0.5), "k is 0.5; it must be a whole number"),
    (lambda: F.rand(3, dtype="text"), "'text' is no element type"),
    (lambda: F.normal(0, -1), "normal got std=-1"),
    (lambda: F.bernoulli(2), "p is 2; it must be a number from 0 to 1"),
    (lambda: F.randint(0, "3", (2,)), "randint takes whole numbers low < high, got 0 and '3'"),
    (lambda: F.randperm((2, 3)), "(2, 3) is no extent"),
    (lambda: F.permutation(2.5), "permutation takes a whole number or a tensor with rows"),
]


@pytest.mark.parametrize(("call", "words"), WRONG, ids=[words for _, words in WRONG])
def test_arguments_a_function_does_not_take(call, words):
    with pytest.raises((ArgumentError, DTypeError, ShapeError)) as caught:
        call()
    error = caught.value
    assert words in error.message
    assert error.origin.file == __file__
    assert len(str(error).splitlines()) <= 8


@pytest.mark.parametrize("dtype", [gx.f64, np.float64, np.dtype("f8"), "float64", float, np.ones(1)])
def test_dtypes_of_numpy_and_python(dtype):
    x = gx.input("x", gx.f32[3])
    made = [
        F.zeros(3, dtype=dtype),
        F.full_like(x, 1, dtype),
        F.arange(3, dtype=dtype),
        F.linspace(0, 1, 3, dtype=dtype),
        F.eye(3, dtype=dtype)[0],
        F.rand(3, dtype=dtype),
        F.randn(3, dtype=dtype),
        F.rand_like(x, dtype),
        F.bernoulli(0.5, 3, dtype),
        F.randint(0, 5, (3,), dtype),
        F.randperm(3, dtype=dtype),
    ]
    assert [each.type for each in made] == [gx.f64[3]] * len(made)

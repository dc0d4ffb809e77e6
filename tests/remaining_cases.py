"""What the other files of cases leave out: calls that mean the same in PyTorch and graphc, as `torch`, `F`, `nn`.

CASES lists them by subject, over the operands below. `filled` gives a layer the parameters of `numbers`.
"""

from __future__ import annotations

import re

import numpy as np

FLOATS = {
    "a": (3, 4), "b": (3, 4), "c": (3, 4), "p": (3, 4), "odd": (8,), "m": (4, 5), "v": (4,), "u": (4,), "ends": (2,),
    "line": (2, 4, 7), "image": (2, 4, 5, 6), "volume": (2, 2, 3, 4, 3), "seeds": (2, 4, 3), "patches": (2, 8, 6),
    "cube": (2, 3, 2), "wide": (8, 4), "wider": (12, 4), "state": (3, 4), "cell": (3, 4), "long": (12,),
}  # fmt: skip
OTHERS = {
    "i": np.array([[3, 0, 2, 2], [1, 3, 0, 0], [2, 1, 1, 3]]),
    "j": np.array([[1, 1, 0, 2], [0, 3, 1, 0], [2, 2, 1, 3]]),
    "k": np.array([2, 0, 2, 4, 1]),
    "labels": np.array([3, 0, 2]),
    "yes": np.array([[True, False, True, True], [True] * 4, [False] * 4]),
    "no": np.array([[False, False, True, False], [True, False] * 2, [False] * 4]),
}

CASES = {
    "comparisons": (
        "a.clone()", "a.T.contiguous()", "torch.eq(a, c)", "torch.ne(a, c)",
        "a.not_equal(c)", "torch.lt(a, c)", "torch.less(a, c)", "torch.le(a, c)",
        "a.less_equal(c)", "torch.gt(a, c)", "a.greater(c)", "torch.ge(a, c)", "torch.greater_equal(a, c)", "a == c",
        "a != c", "a < c", "a <= c", "a > c", "a >= c", "i == j", "i < 2", "torch.isclose(a, c, rtol=0.5)",
        "torch.isnan(odd)", "odd.isinf()", "torch.isfinite(odd)", "torch.logical_and(yes, no)", "i.logical_or(a)",
        "torch.logical_xor(i, yes)", "torch.logical_not(i)", "yes & no", "yes | no", "yes ^ no", "~yes", "i & j",
        "i | j", "i ^ j", "~i", "i << j", "i >> j", "torch.bitwise_and(i, 6)", "torch.bitwise_or(i, j)",
        "i.bitwise_xor(j)", "torch.bitwise_not(i)", "torch.bitwise_left_shift(i, j)", "i.bitwise_right_shift(1)",
        "i + j", "i - j", "i * j", "i // (j + 1)", "i % (j + 1)", "i / (j + 1)",
    ),
    "elements": (
        "torch.add(a, b, alpha=2)", "a.sub(b, alpha=-0.5)", "torch.divide(a, b, rounding_mode='trunc')",
        "a.divide(b)", "(a // b).detach() * a", "a % b", "-a + +b", "abs(a)", "2.0 - a", "1.5 / b",
        "torch.softmax(a, 1, None)", "torch.norm(a, 'fro', 1)", "a.norm(2, (0, 1), True)",
    ),
    "reductions": (
        "torch.argmax(a)", "a.argmax(1)", "torch.argmin(a, dim=0, keepdim=True)", "a.argmin()", "torch.any(yes, 1)",
        "i.any()", "torch.all(yes, dim=1)", "i.all(0, True)", "torch.count_nonzero(i, 1)", "i.count_nonzero()",
        "torch.bincount(k, minlength=5)", "k.bincount(m[0].detach(), 5)", "torch.searchsorted(ends * ends, a)",
        "torch.searchsorted(ends * ends, ends * ends, right=True)", "i.sum(1)", "i.prod()", "i.amax(0)", "yes.sum()",
    ),
    "shapes": (
        "a.t() * 2", "a.t() @ b", "torch.atleast_1d(a.sum())", "a * a.size(1)", "a * a.numel()",
        "a * a.ndim", "a * a.dim()", "a * a.shape[0]", "F.one_hot(k, 5)", "F.one_hot(i, 6) * 1",
        "torch.flipud(a)", "F.bilinear(a, b, seeds.reshape(2, 4, 3) @ m[:3, :4], ends)", "line.swapaxes(0, 2)[1:]",
        "a.swapdims(0, 1)",
    ),
    "creation": (
        "torch.arange(7)", "torch.arange(2, 9, 3)", "torch.arange(0.5, 3, 0.5)", "torch.linspace(0, 1, 5)",
        "torch.linspace(-1, 2, steps=4)", "torch.logspace(0, 2, steps=3)", "torch.eye(3)", "torch.eye(2, 3)",
        "torch.zeros(2, 3)", "torch.ones((2, 3))", "torch.full((2, 2), 1.5)", "torch.zeros_like(i)",
        "torch.ones_like(a)", "torch.full_like(a, fill_value=2)", "torch.meshgrid(u, v, indexing='ij')[0]",
        "torch.meshgrid(u, ends, indexing='xy')[1]", "torch.empty(0)", "torch.empty_like(a)[:0]",
    ),
    "casts": (
        "a.double() * 3", "a.float() * 3", "a.int()", "a.long()", "a.bool()", "i.byte()", "i.float()", "a.type_as(i)",
        "i.type_as(a) / 2",
    ),
    "convolutions": (
        "filled(nn.Conv1d(4, 3, 3))(line)", "filled(nn.Conv1d(4, 6, 2, 2, 1, 1, 2, padding_mode='reflect'))(line)",
        "filled(nn.Conv2d(4, 3, (2, 3), (2, 1), 1))(image)",
        "filled(nn.Conv2d(4, 2, 3, padding='same', dilation=2))(image)",
        "filled(nn.Conv2d(4, 4, 3, 1, 2, groups=4, bias=False, padding_mode='circular'))(image)",
        "filled(nn.Conv3d(2, 2, (2, 1, 3), padding=1))(volume)", "filled(nn.ConvTranspose1d(4, 2, 3, 2, 1, 1))(line)",
        "filled(nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, dilation=2))(image)",
        "filled(nn.ConvTranspose3d(2, 1, 2, bias=False))(volume)", "nn.Unfold((3, 2), 1, 1, 2)(image)",
        "nn.Fold((4, 3), 2)(patches)",
    ),
    "pools": (
        "nn.MaxPool1d(3, 2, 1)(line)", "nn.MaxPool2d(2)(image)", "nn.MaxPool2d((3, 2), ceil_mode=True)(image)",
        "nn.MaxPool3d(2, 1)(volume)", "nn.AvgPool1d(3, 2)(line)", "nn.AvgPool2d(3, 2, 1, True, False)(image)",
        "nn.AvgPool3d(2, 1)(volume)", "nn.AdaptiveAvgPool1d(3)(line)", "nn.AdaptiveAvgPool2d((3, None))(image)",
        "nn.AdaptiveAvgPool3d(1)(volume)", "nn.AdaptiveMaxPool1d(3)(line)", "nn.AdaptiveMaxPool2d(2)(image)",
        "nn.AdaptiveMaxPool3d((1, 2, 3))(volume)",
    ),
    "layers": (
        "F.batch_norm(image, u.detach(), (v * v).detach(), v, u)", "F.layer_norm(a, (4,), v, u)",
        "F.layer_norm(line, (4, 7))", "F.group_norm(image, 2, v, u)", "F.rms_norm(a, (4,), v)",
        "F.instance_norm(image)", "F.instance_norm(line, weight=v, bias=u)", "F.local_response_norm(image, 3)",
        "torch.lstm_cell(a, (state, cell), m[:, :4].repeat(4, 1), wide.repeat(2, 1))[1]",
        "torch.gru_cell(a, state, wider, wider * 0.5, long, long)",
        "torch.rnn_tanh_cell(a, state, wide[:4], wide[4:], u)",
        "torch.rnn_relu_cell(a, state, wide[:4], wide[4:], u, v)",
        "F.interpolate(image, scale_factor=2)", "F.interpolate(line, size=14, mode='nearest-exact')",
        "F.pixel_shuffle(image, 2)", "F.pixel_unshuffle(image[:, :, :4], 2)", "F.channel_shuffle(image, 2)",
        "filled(nn.Embedding(5, 3))(k)", "filled(nn.Embedding(5, 3, padding_idx=2))(i)", "nn.Identity()(a)",
        "nn.Dropout(0.5).eval()(a)", "nn.Dropout1d().eval()(line)", "nn.Dropout2d(0.0)(image)",
        "nn.Dropout3d(0.0)(volume)", "nn.AlphaDropout(0.0)(a)", "F.dropout(a, 0.3, False)", "F.dropout1d(line, 0.0)",
        "F.dropout2d(image, training=False)", "F.dropout3d(volume, 0.0)", "F.alpha_dropout(a)",
        "torch.nn.utils.get_total_norm([a, v])", "torch.nn.utils.get_total_norm([a, v], 3.0)",
    ),
    "losses": (
        "nn.MSELoss()(a, b)", "nn.L1Loss(reduction='sum')(a, b)", "nn.SmoothL1Loss(beta=0.5)(a, b)",
        "nn.HuberLoss('none', 0.5)(a, b)", "nn.CrossEntropyLoss(label_smoothing=0.25)(a, labels)",
        "nn.NLLLoss(ignore_index=2)(a, labels)", "nn.BCELoss()(p, p * p)", "nn.BCEWithLogitsLoss()(a, p)",
        "nn.KLDivLoss(reduction='batchmean')(a, p)", "nn.MultiMarginLoss(2, 0.5)(a, labels)",
        "nn.HingeEmbeddingLoss(0.5)(a, torch.sign(b))", "nn.CosineEmbeddingLoss(0.25)(a, b, torch.sign(b)[:, 0])",
        "nn.MarginRankingLoss(0.5)(a, b, torch.sign(b))", "nn.TripletMarginLoss(swap=True)(a, b, state)",
        "nn.SoftMarginLoss()(a, torch.sign(b).detach())", "nn.PoissonNLLLoss(full=True)(a, p)",
        "nn.GaussianNLLLoss(full=True)(a, b, p)", "nn.CosineSimilarity()(a, b)",
        "nn.PairwiseDistance(keepdim=True)(a, b)",
    ),
}  # fmt: skip


def operands() -> dict[str, np.ndarray]:
    """All operands by name; floats are f32 numbers, of which `c` shares some with `a`, `p` lies between 0 and 1."""
    rng = np.random.default_rng(17)
    found = {name: rng.normal(size=shape).round(3).astype(np.float32) for name, shape in FLOATS.items()}
    found["c"] = np.where(rng.random((3, 4)) < 0.5, found["a"], found["c"])
    found["p"] = rng.uniform(0.1, 0.9, (3, 4)).astype(np.float32)
    found["odd"] = np.array([0, np.nan, np.inf, -np.inf, 1, -1e30, 1e-30, np.nan], np.float32)
    found["ends"] = np.array([0.5, 1.25], np.float32)
    return found | OTHERS


def named(call: str) -> list[str]:
    """The float operands that a call names."""
    words = set(re.findall(r"(?<![\w.'])[a-z]+(?![\w(='])", call))
    return [name for name in FLOATS if name in words]


def numbers(shape: tuple[int, ...], place: int) -> np.ndarray:
    """The parameter of a filled layer that stands at this place among them."""
    return np.cos(np.arange(np.prod(shape)) + place).astype(np.float32).reshape(shape)

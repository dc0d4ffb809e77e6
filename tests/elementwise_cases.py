"""Functions of elements and reductions: calls that mean the same in PyTorch and graphc, as `torch` and `F` of either.

OPERANDS are exact in f32. CASES lists, for each set of operands `a` and `b`, the calls they are tried on.
"""

from __future__ import annotations

import numpy as np

EDGES = [-30.0, -6.0, -3.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 3.0, 6.0, 20.0, 30.0, 0.001953125, -1e4, 1e4]
SMOOTH = [-2.25, -1.25, -0.5, -0.125, 0.25, 0.75, 1.5, 3.0]
UNIT = [-0.9375, -0.5, -0.25, -0.015625, 0.015625, 0.25, 0.5, 0.9375]
POSITIVE = [0.015625, 0.125, 0.5, 1.0, 1.5, 2.0, 7.0, 100.0]
ABOVE_ONE = [1.0009765625, 1.125, 1.5, 2.0, 3.0, 7.0, 100.0, 1e4]
OTHER = [2.0, -1.25, 0.5, 1.0, 0.25, -3.0, 1.5, 0.125]
MATRIX = [[1.5, -0.5, 0.25, 2.0], [-1.0, 0.75, -2.0, 0.125], [0.5, 3.0, -0.25, 1.0]]
TIED = [[1.0, 2.0, 2.0, -1.0], [3.0, 3.0, 3.0, 3.0], [-1.0, -2.0, 0.0, -2.0]]
HOLES = [[1.5, 0.0, 0.25, 2.0], [0.0, 0.0, 0.0, 0.0], [0.5, -3.0, -0.25, 1.0]]
HUGE = [[1e4, 0.0, -1e4], [1e4, 1e4, 0.5], [-1e4, -1e4, -1e4]]

OPERANDS = {
    "edges": (EDGES,),
    "smooth": (SMOOTH, OTHER),
    "unit": (UNIT,),
    "positive": (POSITIVE, OTHER),
    "above one": (ABOVE_ONE,),
    "matrix": (MATRIX, [2.0, -1.25, 0.5, 1.0]),
    "tied": (TIED,),
    "holes": (HOLES,),
    "huge": (HUGE,),
    "channels": (
        [[[1.5, -0.5], [0.25, -2.0], [-1.0, 0.0]], [[-0.25, 3.0], [0.5, -1.0], [2.0, -4.0]]],
        [0.25, 0.5, -1.0],
    ),
}

CASES = {
    "edges": (
        "F.relu(a)", "F.relu6(a)", "F.leaky_relu(a)", "F.leaky_relu(a, 0.25)", "F.elu(a)", "F.elu(a, 0.5)", "F.selu(a)",
        "F.celu(a)", "F.celu(a, 0.5)", "F.gelu(a)", "F.gelu(a, approximate='tanh')", "F.silu(a)", "F.mish(a)",
        "F.hardtanh(a)", "F.hardtanh(a, -3.0, 0.5)", "F.hardsigmoid(a)", "F.hardswish(a)", "F.softplus(a)",
        "F.softplus(a, 2.0)", "F.softplus(a, 0.5, 3.0)", "F.softsign(a)", "F.tanhshrink(a)", "F.softshrink(a)",
        "F.softshrink(a, 1.0)", "F.hardshrink(a)", "F.hardshrink(a, 1.0)", "F.logsigmoid(a)",
        "F.threshold(a, 0.5, -2.0)", "F.sigmoid(a)", "F.tanh(a)", "torch.relu(a)", "torch.sigmoid(a)", "torch.abs(a)",
        "torch.sign(a)", "torch.square(a)", "torch.floor(a)", "torch.ceil(a)", "torch.round(a)", "torch.trunc(a)",
        "torch.frac(a)", "torch.clamp(a, -1, 1)", "torch.clamp(a, min=0.5)", "torch.clip(a, max=-0.5)",
        "a.clamp(min=-3, max=6.0)", "torch.erf(a)", "torch.atan(a)", "torch.asinh(a)", "torch.rad2deg(a)",
        "torch.deg2rad(a)", "torch.nan_to_num(a)", "torch.where(a > 0, a, -2 * a)", "torch.neg(a)", "torch.positive(a)",
        "a.masked_fill(a > 1, 2.0)", "torch.round(a, decimals=2)", "torch.sin(a)", "torch.cos(a)", "torch.tan(a)",
    ),
    "smooth": (
        "torch.exp(a)", "torch.exp2(a)", "torch.expm1(a)", "torch.sin(a)", "torch.cos(a)", "torch.tan(a)",
        "torch.sinh(a)", "torch.cosh(a)", "torch.tanh(a)", "torch.asinh(a)", "torch.atan(a)", "torch.reciprocal(a)",
        "torch.atan2(a, b)", "torch.arctan2(b, a)", "torch.hypot(a, b)", "torch.logaddexp(a, b)", "torch.add(a, b)",
        "torch.sub(a, b)", "torch.mul(a, b)", "torch.div(a, b)", "torch.div(a, b, rounding_mode='trunc')",
        "torch.div(a, b, rounding_mode='floor')", "torch.remainder(a, b)", "torch.fmod(a, b)", "torch.maximum(a, b)",
        "torch.minimum(a, b)", "torch.fmax(a, b)", "torch.fmin(a, b)", "torch.lerp(a, b, 0.25)",
        "torch.lerp(a, b, 0.75)", "torch.clamp(a, b - 1, b)", "a ** 2", "a ** 3", "a ** 4", "a ** 5", "a ** -1",
        "a ** 0", "a ** -3", "2 ** a", "a % 1", "1 - a / b", "torch.heaviside(a, b).detach() * a", "a.where(b > 0, b)",
        "torch.where(a > b, a, b)", "torch.pow(torch.abs(a), b)",
    ),
    "unit": (
        "torch.asin(a)", "torch.arccos(a)", "torch.acos(a)", "torch.atanh(a)", "torch.arctanh(a)", "torch.erf(a)",
    ),
    "positive": (
        "torch.log(a)", "torch.log2(a)", "torch.log10(a)", "torch.log1p(a)", "torch.sqrt(a)", "torch.rsqrt(a)",
        "a ** 0.5", "a ** -0.5", "a ** 1.5", "torch.pow(a, b)", "a ** b", "torch.xlogy(a, a)",
        "torch.logit(a, eps=0.25)",
    ),
    "above one": ("torch.acosh(a)", "torch.arccosh(a)", "torch.log1p(a)"),
    "matrix": (
        "a.sum()", "a.sum(1)", "torch.sum(a, dim=0, keepdim=True)", "a.sum((0, 1))", "a.mean()", "a.mean(-1)",
        "torch.mean(a, dim=(0, 1), keepdim=True)", "a.prod()", "torch.prod(a, dim=1)", "a.amax(1)", "a.amin((0, 1))",
        "torch.amax(a, dim=0, keepdim=True)", "a.var()", "a.var(1)", "a.var(dim=0, unbiased=False)",
        "torch.var(a, dim=1, correction=0)", "torch.var(a, dim=(0, 1), correction=2, keepdim=True)", "a.std()",
        "torch.std(a, dim=0)", "torch.var_mean(a, dim=1)[0]", "torch.std_mean(a, dim=1)[1]", "a.norm()", "a.norm(1)",
        "torch.norm(a, p=3, dim=1)", "a.norm(dim=0, keepdim=True)", "torch.norm(a, float('inf'), 1)",
        "torch.logsumexp(a, dim=1)", "torch.logsumexp(a, (0, 1), True)", "torch.softmax(a, 1)", "a.softmax(0)",
        "F.softmax(a, dim=-1)", "F.log_softmax(a, dim=1)", "a.log_softmax(0)", "F.softmin(a, dim=1)", "a + b",
        "a * b - a", "a.T * 2", "torch.tril(a)", "a.tril(-1)", "a.triu(1)", "torch.triu(a)", "torch.diag(a)",
        "torch.diag(a, 1)", "torch.diag(b, -2)", "torch.diagonal(a, offset=-1)", "torch.trace(a)", "F.glu(a)",
        "F.glu(a, dim=1)",
    ),
    "tied": (
        "a.amax(1)", "a.amin(0)", "a.amax()", "a.std(1)", "a.std(0)", "a.var(1)", "a.norm(float('inf'), 1)",
        "a.norm(-float('inf'), 1)", "a.norm(0, 1)",
    ),
    "holes": (
        "a.norm(dim=1)", "a.norm()", "a.norm(1, dim=1)", "a.norm(p=3, dim=1)", "a.norm(0.5, 1)", "a.norm(-1.0, 1)",
        "a.norm(float('inf'), dim=1)", "a.prod(1)", "a.std(1)", "F.softmax(a, 1)",
    ),
    "huge": (
        "F.softmax(a, 1)", "F.log_softmax(a, 1)", "torch.logsumexp(a, 1)", "a.norm(dim=1)", "a.std(1)",
    ),
    "channels": ("F.prelu(a, b)", "F.prelu(a, b.amax(0, keepdim=True))"),
}  # fmt: skip


def operands(group: str) -> list[np.ndarray]:
    return [np.asarray(numbers, np.float64) for numbers in OPERANDS[group]]

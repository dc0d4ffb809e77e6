"""Layers that are compared with PyTorch: calls that mean the same in torch.nn and graphc.nn, on inputs of some shapes.

Every group is a dict from a name to the call and the shapes of one sample of its inputs; the batch comes before them.
"""

from __future__ import annotations

Cases = dict[str, tuple[str, tuple[tuple[int, ...], ...]]]


def cases(*listed: tuple[str, *tuple[tuple[int, ...], ...]]) -> Cases:
    return {f"{call} of {', '.join(map(str, shapes))}": (call, shapes) for call, *shapes in listed}


IMAGE = (4, 3, 2)

ACTIVATIONS = cases(
    *(
        (call, IMAGE)
        for call in (
            "ReLU()", "ReLU6()", "LeakyReLU()", "LeakyReLU(0.2)", "PReLU()", "PReLU(4, init=0.1)", "ELU()",
            "ELU(alpha=0.5)", "SELU()", "CELU()", "CELU(alpha=0.5)", "GELU()", "GELU(approximate='tanh')", "SiLU()",
            "Mish()", "Sigmoid()", "Tanh()", "LogSigmoid()", "Hardtanh()", "Hardtanh(-0.5, 2.0)", "Hardsigmoid()",
            "Hardswish()", "Softplus()", "Softplus(2.0, 1.0)", "Softsign()", "Tanhshrink()", "Softshrink()",
            "Softshrink(0.2)", "Hardshrink()", "Hardshrink(0.2)", "Threshold(0.3, -2.0)", "Softmax(dim=1)",
            "Softmin(dim=2)", "LogSoftmax(dim=-1)", "Softmax2d()",
        )
    )
)  # fmt: skip

LINEAR = cases(
    ("Identity()", (3,)),
    ("Flatten()", IMAGE),
    ("Flatten(2)", IMAGE),
    ("Unflatten(1, (2, 3))", (6,)),
    ("Unflatten(1, (2, -1))", (6, 2)),
    ("Linear(6, 4)", (6,)),
    ("Linear(6, 1, bias=False)", (6,)),
    ("Linear(1, 3)", (1,)),
    ("Linear(6, 5)", (2, 3, 6)),
    ("Bilinear(3, 4, 2)", (3,), (4,)),
    ("Bilinear(3, 4, 2, bias=False)", (2, 3), (2, 4)),
    ("Bilinear(1, 2, 1)", (1,), (2,)),
)

RESAMPLING = cases(
    ("Upsample(scale_factor=2)", (2, 3)),
    ("Upsample(scale_factor=(3, 1))", IMAGE),
    ("Upsample(size=(6, 4), mode='nearest-exact')", IMAGE),
    ("UpsamplingNearest2d(scale_factor=2)", (1, 1, 1)),
    ("PixelShuffle(2)", (8, 3, 2)),
    ("PixelUnshuffle(2)", (2, 4, 6)),
    ("ChannelShuffle(2)", (6, 3, 2)),
)

NORMALIZATION = cases(
    ("LayerNorm(6)", (6,)),
    ("LayerNorm(6, eps=0.1, bias=False)", (5, 6)),
    ("LayerNorm((3, 2))", IMAGE),
    ("LayerNorm(6, elementwise_affine=False)", (6,)),
    ("LayerNorm(1)", (1,)),
    ("RMSNorm(6)", (6,)),
    ("RMSNorm((3, 2), eps=0.01)", IMAGE),
    ("RMSNorm(6, elementwise_affine=False)", (6,)),
    ("GroupNorm(2, 4)", IMAGE),
    ("GroupNorm(4, 4, eps=0.01)", (4, 5)),
    ("GroupNorm(1, 4, affine=False)", (4,)),
    ("GroupNorm(2, 4, bias=False)", IMAGE),
    ("InstanceNorm1d(4)", (4, 5)),
    ("InstanceNorm2d(4, affine=True)", IMAGE),
    ("InstanceNorm3d(2)", (2, 2, 1, 3)),
    ("LocalResponseNorm(3, alpha=0.5)", IMAGE),
    ("LocalResponseNorm(2, alpha=0.5, beta=0.3, k=2.0)", (4, 5)),
)

# Functions with no layer of their own.
FUNCTIONS = cases(
    ("lambda x: functional.normalize(x)", (4,)),
    ("lambda x: functional.normalize(x, p=1.0, dim=2)", IMAGE),
    ("lambda x: functional.normalize(x, p=3.0, dim=-1, eps=1.5)", (6,)),
    ("lambda x: functional.normalize(x, p=float('inf'))", (6,)),
    ("lambda x: functional.normalize(x, dim=(1, 2))", IMAGE),
)

# These keep statistics; they are compared in evaluation mode too.
TRACKING = cases(
    ("BatchNorm1d(4)", (4,)),
    ("BatchNorm1d(4)", (4, 5)),
    ("BatchNorm1d(1, momentum=0.5)", (1,)),
    ("BatchNorm1d(4, bias=False)", (4,)),
    ("BatchNorm2d(4)", IMAGE),
    ("BatchNorm2d(4, eps=0.01, momentum=None)", IMAGE),
    ("BatchNorm2d(4, affine=False)", (4, 1, 1)),
    ("BatchNorm2d(4, track_running_stats=False)", IMAGE),
    ("BatchNorm3d(2)", (2, 2, 1, 3)),
    ("InstanceNorm1d(4, track_running_stats=True)", (4, 5)),
    ("InstanceNorm2d(4, affine=True, track_running_stats=True, momentum=0.3)", IMAGE),
)

ROWS = 9


def batches(name: str) -> tuple[slice, ...]:
    """The rows of the stored inputs that make a case's batches."""
    return (slice(0, 4), slice(4, 7), slice(7, 9)) if name in TRACKING else (slice(0, 4), slice(4, 5))

"""Convolutions and pools that are compared with PyTorch: expressions that mean the same over torch.nn.functional and
graphc, of x with some shape of a sample, and of weights w and b.

Every group is a dict from an expression with its shapes to (expression, shape of x, shape of w, shape of b).
"""

from __future__ import annotations

Shape = tuple[int, ...]
Cases = dict[str, tuple[str, Shape, Shape | None, Shape | None]]
BATCHES = slice(0, 3), slice(3, 4)  # the rows of the stored samples; the last batch is ragged
ROWS = 4


def cases(*listed: tuple[str, *tuple[Shape, ...]]) -> Cases:
    return {
        f"{call} of {', '.join(map(str, shapes))}": (call, *shapes, *[None] * (3 - len(shapes)))
        for call, *shapes in listed
    }


CONVOLUTION = cases(
    ("conv1d(x, w, b)", (3, 10), (4, 3, 3), (4,)),
    ("conv1d(x, w, b, 2, 1)", (3, 10), (4, 3, 3), (4,)),
    ("conv1d(x, w, None, 3, 2, 2)", (3, 11), (4, 3, 3)),
    ("conv1d(x, w, b, padding='same')", (3, 10), (4, 3, 4), (4,)),
    ("conv1d(x, w, b, 1, 0, 1, 3)", (3, 10), (6, 1, 3), (6,)),
    ("conv1d(x, w, b)", (1, 1), (1, 1, 1), (1,)),
    ("conv1d(x.sum(0), w, b, padding=1)", (3, 10), (4, 3, 3), (4,)),
    ("conv2d(x, w, b)", (3, 7, 6), (4, 3, 3, 2), (4,)),
    ("conv2d(x, w)", (3, 7, 6), (4, 3, 1, 1)),
    ("conv2d(x, w, b, (2, 1), (1, 2))", (3, 7, 6), (4, 3, 3, 2), (4,)),
    ("conv2d(x, w, None, 2, 0)", (3, 7, 6), (4, 3, 1, 1)),
    ("conv2d(x, w, b, dilation=(2, 3), padding='same')", (3, 7, 6), (4, 3, 3, 2), (4,)),
    ("conv2d(x, w, b, 1, 'valid', (1, 2))", (3, 7, 6), (4, 3, 3, 2), (4,)),
    ("conv2d(x, w, b, 2, 1, 1, 2)", (4, 6, 5), (6, 2, 3, 3), (6,)),
    ("conv2d(x, w, b, 1, 1, 1, 4)", (4, 6, 5), (4, 1, 3, 3), (4,)),
    ("conv2d(x, w, b, (1, 2), 2, 2, 4)", (4, 6, 5), (8, 1, 3, 3), (8,)),
    ("conv2d(x, w, b, 2, 4, 1, 3)", (3, 9, 8), (3, 1, 9, 8), (3,)),
    ("conv2d(x, w, b, 1, (0, 1))", (1, 3, 1), (1, 1, 3, 1), (1,)),
    ("conv2d(x, w, b, 5, 4)", (2, 3, 4), (3, 2, 2, 3), (3,)),
    ("conv2d(x.sum(0), w, b, padding=1)", (3, 7, 6), (4, 3, 3, 2), (4,)),
    ("conv2d(conv2d(x, w, None, 1, 1), w)", (3, 7, 6), (3, 3, 2, 3)),
    ("conv3d(x, w, b, (1, 2, 1), 1, (1, 1, 2))", (2, 3, 4, 5), (3, 2, 2, 3, 2), (3,)),
)

TRANSPOSED = cases(
    ("conv_transpose1d(x, w, b)", (3, 5), (3, 4, 3), (4,)),
    ("conv_transpose1d(x, w, b, 3, 1, 2)", (3, 5), (3, 4, 3), (4,)),
    ("conv_transpose1d(x, w, b, 2, 2, 1, 3, 3)", (3, 5), (3, 2, 3), (6,)),
    ("conv_transpose2d(x, w, b)", (3, 4, 3), (3, 4, 3, 2), (4,)),
    ("conv_transpose2d(x, w, b, 2, 1, 1)", (3, 4, 3), (3, 4, 3, 3), (4,)),
    ("conv_transpose2d(x, w, None, (2, 3), (0, 1), (1, 0))", (3, 4, 3), (3, 4, 2, 2)),
    ("conv_transpose2d(x, w, b, 1, 3, 0, 1, 2)", (3, 4, 3), (3, 4, 3, 3), (4,)),
    ("conv_transpose2d(x, w, b, 2, 1, 0, 2)", (4, 3, 2), (4, 3, 4, 4), (6,)),
    ("conv_transpose2d(x, w, b, 2, groups=4)", (4, 3, 2), (4, 1, 2, 2), (4,)),
    ("conv_transpose2d(x.sum(0), w, b, 2)", (3, 4, 3), (3, 4, 3, 2), (4,)),
    ("conv_transpose3d(x, w, b, (1, 2, 1), 1, (0, 1, 0))", (2, 2, 3, 2), (2, 3, 2, 3, 2), (3,)),
)

WINDOWS = cases(
    ("unfold(x, 2)", (3, 5, 4)),
    ("unfold(x, (3, 2), (1, 2), (1, 0), (2, 1))", (3, 5, 4)),
    ("unfold(x.sum(0), 2, padding=1)", (3, 5, 4)),
    ("fold(x, (4, 3), 2)", (12, 6)),
    ("fold(x, (5, 4), (3, 2), (1, 2), (1, 0), (2, 1))", (12, 6)),
    ("fold(x.sum(0), (4, 3), 2)", (12, 6)),
)

MAXIMA = cases(
    ("max_pool1d(x, 3)", (3, 11)),
    ("max_pool1d(x, 3, 1, 1)", (3, 11)),
    ("max_pool1d(x, 3, 2, 1, 2, True)", (3, 11)),
    ("max_pool1d(x, 9)", (2, 19)),
    ("max_pool1d(x, 10, 3, 5)", (2, 19)),
    ("max_pool1d(x.sum(0), 2)", (3, 11)),
    ("max_pool2d(x, 2)", (3, 6, 7)),
    ("max_pool2d(x, 1, 2)", (3, 6, 7)),
    ("max_pool2d(x, 3, 2, 1)", (3, 6, 7)),
    ("max_pool2d(x, (3, 2), (2, 1), (1, 0), (1, 2))", (3, 6, 7)),
    ("max_pool2d(x, 3, 3, 1, ceil_mode=True)", (3, 6, 7)),
    ("max_pool2d(x, 2, 3, 1, ceil_mode=True)", (3, 6, 7)),
    ("max_pool2d(x, (6, 7))", (3, 6, 7)),
    ("max_pool2d(x, 12)", (2, 12, 13)),
    ("max_pool2d(x.sum(0), 2)", (3, 6, 7)),
    ("max_pool3d(x, 2, 1, 1)", (2, 3, 2, 3)),
    ("adaptive_max_pool1d(x, 4)", (3, 11)),
    ("adaptive_max_pool2d(x, (3, 3))", (3, 6, 7)),
    ("adaptive_max_pool2d(x, (4, None))", (3, 6, 7)),
    ("adaptive_max_pool3d(x, (2, 1, 3))", (2, 3, 2, 3)),
)

MEANS = cases(
    ("avg_pool1d(x, 3)", (3, 11)),
    ("avg_pool1d(x, 4, 2, 2, True, False)", (3, 11)),
    ("avg_pool1d(x, 9)", (2, 19)),
    ("avg_pool1d(x, 10, 3, 5, False, False)", (2, 19)),
    ("avg_pool1d(x.sum(0), 2)", (3, 11)),
    ("avg_pool2d(x, 2)", (3, 6, 7)),
    ("avg_pool2d(x, 3, 2, 1)", (3, 6, 7)),
    ("avg_pool2d(x, (3, 2), (2, 1), (1, 0), count_include_pad=False)", (3, 6, 7)),
    ("avg_pool2d(x, 3, 3, 1, True)", (3, 6, 7)),
    ("avg_pool2d(x, 3, 2, 1, True, False)", (3, 6, 7)),
    ("avg_pool2d(x, 2, divisor_override=3)", (3, 6, 7)),
    ("avg_pool2d(x, 12)", (2, 12, 13)),
    ("avg_pool2d(x.sum(0), 2)", (3, 6, 7)),
    ("avg_pool3d(x, 2, 1, 1)", (2, 3, 2, 3)),
    ("adaptive_avg_pool1d(x, 4)", (3, 11)),
    ("adaptive_avg_pool2d(x, 1)", (3, 6, 7)),
    ("adaptive_avg_pool2d(x, (3, 9))", (3, 6, 7)),
    ("adaptive_avg_pool2d(x, (None, 5))", (3, 6, 7)),
    ("adaptive_avg_pool2d(x.sum(0), (2, 2))", (3, 6, 7)),
    ("adaptive_avg_pool3d(x, (2, 1, 3))", (2, 3, 2, 3)),
)
GROUPS = {
    "convolution": CONVOLUTION,
    "transposed": TRANSPOSED,
    "windows": WINDOWS,
    "maxima": MAXIMA,
    "means": MEANS,
}

LAYERS = (
    "Conv1d(3, 4, 3)",
    "Conv1d(4, 8, 3, 2, 1, 1, 4, False, 'zeros')",
    "Conv2d(3, 4, 3)",
    "Conv2d(3, 4, (3, 2), (2, 1), 1, (1, 2))",
    "Conv2d(4, 6, 3, padding='same', groups=2, bias=False, padding_mode='circular')",
    "Conv2d(1, 1, 1, padding='valid')",
    "Conv3d(1, 2, (1, 2, 3))",
    "ConvTranspose1d(3, 4, 3)",
    "ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, False, 2)",
    "ConvTranspose3d(2, 3, 2)",
    "Unfold(2)",
    "Unfold((3, 2), 1, 2, (2, 1))",
    "Fold((4, 3), 2)",
    "MaxPool1d(2)",
    "MaxPool2d(3, 2, 1)",
    "MaxPool2d((3, 2), ceil_mode=True, return_indices=True)",
    "MaxPool3d(2, dilation=2)",
    "AvgPool1d(2)",
    "AvgPool2d(3, 2, 1, True, False, 7)",
    "AvgPool3d(2)",
    "AdaptiveAvgPool1d(3)",
    "AdaptiveAvgPool2d((3, None))",
    "AdaptiveAvgPool3d(1)",
    "AdaptiveMaxPool1d(3)",
    "AdaptiveMaxPool2d(4, True)",
    "AdaptiveMaxPool3d((1, 2, 3))",
)

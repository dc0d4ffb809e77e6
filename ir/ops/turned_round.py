"""The adjoint of windows under a matrix product as one product: a convolution with the weight turned round.

The gradient of a convolution by its image is a product for every place under the window, which together are as many
times as large as the image, and a sum of these. Where the window moves by steps of 1 the sum over its places joins that
over the features: windows over what comes from behind, by the weight in the other order along every axis of the window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphc.ir.graph import Value
from graphc.ir.ops.contraction import dot
from graphc.ir.ops.view import Sizes, broadcast, pad, reshape, slice, swapped, transpose, window
from graphc.ir.types import Extent, Shape, add, bound, multiply

FEWEST = 4  # channels of the image: the rows of the product
MOST_IDLE = 1.25  # places of the image for each position of the window: all of them take part in the product


def folded_product(ct: Value, x: Value, size: Sizes, dilation: Sizes) -> Value | None:
    """The cotangent of x [..., channels, *extents] for that of its windows, by steps of 1 over its last axes.

    ct  [..., channels, *positions, *size]

    Places around an image that x is padded with get 0: nobody asks for theirs. None where ct is not views of a product
    of one weight with what comes from behind, or where a sum over the places is cheaper.
    """
    product = product_below(ct, len(size))
    if product is None:
        return None
    image = image_in(x, len(size))
    *lead, channels = x.shape[: -len(size)]
    extents, positions = image.shape[-len(size) :], ct.shape[len(lead) + 1 : -len(size)]
    if bound(channels) < FEWEST or bound(multiply(*extents)) > MOST_IDLE * bound(multiply(*positions)):
        return None
    weight, behind = product.operands
    spread = reshape(behind, shape=(*lead, behind.shape[-2], *positions))
    starts = [0] * len(size) if image is x else [-start for start in padding_of(x).attrs["start"][-len(size) :]]
    right = turned_windows(spread, extents, starts, size, dilation)
    left = turned_weight(weight, tuple(lead), channels, size)
    found = reshape(dot(left, right), shape=image.shape)
    if image is x:
        return found
    around = padding_of(x)
    return reshape(pad(found, start=around.attrs["start"], shape=around.shape), shape=x.shape)


def product_below(ct: Value, count: int) -> Value | None:
    """The product [..., channels * size, positions] that ct [..., channels, *positions, *size] is views of."""
    whole = ct.operands[0] if ct.op is transpose else ct
    rank = len(ct.shape) - 2 * count
    order = (*range(rank), *range(rank + count, rank + 2 * count), *range(rank, rank + count))
    if ct.attrs.get("permutation") != order or whole.op is not reshape:
        return None
    (product,) = whole.operands
    shape = (*ct.shape[: rank - 1], multiply(*whole.shape[rank - 1 : rank + count]), multiply(*whole.shape[-count:]))
    return product if product.op is dot and product.shape == shape else None


def padding_of(x: Value) -> Value:
    """The value below a reshape."""
    return x.operands[0] if x.op is reshape else x


def image_in(x: Value, count: int) -> Value:
    """What x is, padded along its last axes; x itself where it is not."""
    around = padding_of(x)
    if around.op is not pad or around.shape[-count:] != x.shape[-count:]:
        return x
    image = around.operands[0]
    others = len(image.shape) - count
    is_inside = any(around.attrs["start"][:others]) or around.shape[:others] != image.shape[:others]
    return x if is_inside else image


def turned_windows(spread: Value, extents: Shape, starts: Sequence[int], size: Sizes, dilation: Sizes) -> Value:
    """[..., features, *positions] -> [..., features * size, extents]: for each place of the image, what comes from
    behind at the positions that see it.

    starts  the place of the image's first in what the windows move over
    """
    *lead, features = spread.shape[: -len(size)]
    rank, count = len(lead) + 1, len(size)
    reach = [step * (places - 1) for places, step in zip(size, dilation, strict=True)]
    start = (*(0 for _ in range(rank)), *(first - most for first, most in zip(starts, reach, strict=True)))
    wide = (*lead, features, *(add(extent, most) for extent, most in zip(extents, reach, strict=True)))
    axes = tuple(range(rank, rank + count))
    around = pad(spread, start=start, shape=wide)
    seen = window(around, axes=axes, size=size, stride=(1,) * count, dilation=dilation)
    order = (*range(rank), *(axis + count for axis in axes), *axes)
    shape = (*lead, multiply(features, math.prod(size)), multiply(*extents))
    return reshape(transpose(seen, permutation=order), shape=shape)


def turned_weight(weight: Value, lead: Shape, channels: Extent, size: Sizes) -> Value:
    """[..., channels * size, features] -> [..., channels, features * size], each window in the other order.

    lead  the axes of the batch; one weight for all of it stays one
    """
    features = weight.shape[-1]
    ahead = weight.operands[0] if is_swapped(weight) else transpose(weight, permutation=swapped(len(weight.shape)))
    one = ahead.operands[0] if ahead.op is broadcast and ahead.operands[0].shape[-2:] == ahead.shape[-2:] else ahead
    batch, rank = one.shape[:-2], len(one.shape) - 2
    apart = reshape(one, shape=(*batch, features, channels, *size))
    last = (*(0 for _ in range(rank + 2)), *(places - 1 for places in size))
    turned = slice(apart, start=last, step=(*(1 for _ in range(rank + 2)), *(-1 for _ in size)), shape=apart.shape)
    order = (*range(rank), rank + 1, rank, *range(rank + 2, rank + 2 + len(size)))
    found = reshape(transpose(turned, permutation=order), shape=(*batch, channels, multiply(features, math.prod(size))))
    return found if batch == lead else broadcast(found, shape=(*lead, *found.shape[-2:]))


def is_swapped(value: Value) -> bool:
    return value.op is transpose and value.attrs["permutation"] == swapped(len(value.shape))

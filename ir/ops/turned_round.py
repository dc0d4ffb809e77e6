"""The adjoint of windows under a matrix product as one product: a convolution with the weight turned round.

The gradient of a convolution by its image is a product for every place under the window, which together are many times
as large as the image, and a sum of these. The sum over the places joins that over the features instead: windows over
what comes from behind, by the weight in the other order along every axis of the window.

Where windows move by steps of s, the places with one rest divided by s are seen through places of the window that are s
apart. Each rest has rows of its own in one product, with zeros for what it does not see; then the rests are put between
one another.
"""

from __future__ import annotations

import math

from graphc.ir.frozen import dataclass
from graphc.ir.graph import Value
from graphc.ir.ops.contraction import dot
from graphc.ir.ops.view import Sizes, broadcast, pad, reshape, slice, swapped, transpose, window
from graphc.ir.types import Extent, Shape, add, bound, multiply

FEWEST = 4  # channels of the image: rows of the product
MOST_IDLE = 1.25  # multiply-adds for each that is needed, at most, where windows move by steps of 1
MOST_IDLE_SPREAD = 2.0  # and by longer ones, which leave what comes from behind to be spread out otherwise


@dataclass(frozen=True, slots=True)
class Turned:
    """One axis of an image, seen from behind.

    extent    places of the image
    size, stride, dilation  of the windows over it
    before    places that were added before the first
    """

    extent: Extent
    size: int
    stride: int
    dilation: int
    before: int

    @property
    def first(self) -> int:
        """Where the window of the first places begins: a position, counted from the first."""
        return -((self.dilation * (self.size - 1) - self.before) // self.stride)

    @property
    def seen(self) -> int:
        """Places under the window turned round: positions that see a place with one rest or another."""
        return self.size if self.stride == 1 else (self.stride - 1 + self.before) // self.stride - self.first + 1

    @property
    def steps(self) -> Extent:
        """Places with one rest."""
        return self.extent if self.stride == 1 else -(-bound(self.extent) // self.stride)

    @property
    def around(self) -> Extent:
        """What the windows turned round move over."""
        return add(self.steps, self.dilation * (self.seen - 1))

    @property
    def ahead(self) -> int:
        """The place of the weight that the first rest sees through the last place under its window."""
        return self.before - self.stride * (self.first + self.seen - 1) if self.stride > 1 else 0


def folded_product(ct: Value, out: Value, x: Value) -> Value | None:
    """The cotangent of x [..., channels, *extents] for that of its windows `out` over its last axes.

    ct  [..., channels, *positions, *size]

    Places around an image that x is padded with get 0: nobody asks for theirs. None where ct is not views of a product
    of one weight with what comes from behind, or where a sum over the places is cheaper.
    """
    count, rank = len(out.attrs["axes"]), len(x.shape)
    product = product_below(ct, count) if out.attrs["axes"] == tuple(range(rank - count, rank)) else None
    if product is None:
        return None
    image = image_in(x, count)
    before = [0] * count if image is x else [-start for start in padding_of(x).attrs["start"][-count:]]
    settings = (out.attrs[name] for name in ("size", "stride", "dilation"))
    axes = [Turned(*each) for each in zip(image.shape[-count:], *settings, before, strict=True)]
    *lead, channels = x.shape[:-count]
    positions = ct.shape[len(lead) + 1 : -count]
    if bound(channels) < FEWEST or not is_worthwhile(axes, positions):
        return None
    weight, behind = product.operands
    spread = reshape(behind, shape=(*lead, behind.shape[-2], *positions))
    left = turned_weight(weight, tuple(lead), channels, axes)
    found = between(dot(left, turned_windows(spread, axes)), channels, axes)
    if image is x:
        return reshape(found, shape=x.shape)
    around = padding_of(x)
    inside = reshape(found, shape=image.shape)
    return reshape(pad(inside, start=around.attrs["start"], shape=around.shape), shape=x.shape)


def is_worthwhile(axes: list[Turned], positions: Shape) -> bool:
    is_spread = any(axis.stride > 1 for axis in axes)
    if is_spread and not all(axis.dilation == 1 and isinstance(axis.extent, int) for axis in axes):
        return False
    done = math.prod(axis.stride * axis.seen * bound(axis.steps) for axis in axes)
    needed = math.prod(axis.size * bound(places) for axis, places in zip(axes, positions, strict=True))
    return done <= needed * (MOST_IDLE_SPREAD if is_spread else MOST_IDLE)


def product_below(ct: Value, count: int) -> Value | None:
    """The product [..., channels * size, positions] that ct [..., channels, *positions, *size] is views of."""
    whole = ct.operands[0] if ct.op is transpose else ct
    rank = len(ct.shape) - 2 * count
    order = (*range(rank), *range(rank + count, rank + 2 * count), *range(rank, rank + count))
    if rank < 2 or ct.attrs.get("permutation") != order or whole.op is not reshape:
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
    is_elsewhere = any(around.attrs["start"][:others]) or around.shape[:others] != image.shape[:others]
    return x if is_elsewhere else image


def turned_windows(spread: Value, axes: list[Turned]) -> Value:
    """[..., features, *positions] -> [..., features * seen, steps]: what comes from behind, under windows."""
    count, rank = len(axes), len(spread.shape) - len(axes)
    start = (*(0 for _ in range(rank)), *(axis.first for axis in axes))
    around = pad(spread, start=start, shape=(*spread.shape[:rank], *(axis.around for axis in axes)))
    over, size = tuple(range(rank, rank + count)), tuple(axis.seen for axis in axes)
    apart = tuple(axis.dilation for axis in axes)
    seen = window(around, axes=over, size=size, stride=(1,) * count, dilation=apart)
    order = (*range(rank), *(axis + count for axis in over), *over)
    depth = multiply(spread.shape[rank - 1], math.prod(size))
    shape = (*spread.shape[: rank - 1], depth, multiply(*(axis.steps for axis in axes)))
    return reshape(transpose(seen, permutation=order), shape=shape)


def turned_weight(weight: Value, lead: Shape, channels: Extent, axes: list[Turned]) -> Value:
    """[..., channels * size, features] -> [..., rests * channels, features * seen], each window in the other order.

    lead  the axes of the batch; one weight for all of it stays one
    """
    features, count = weight.shape[-1], len(axes)
    ahead = weight.operands[0] if is_swapped(weight) else transpose(weight, permutation=swapped(len(weight.shape)))
    one = ahead.operands[0] if ahead.op is broadcast and ahead.operands[0].shape[-2:] == ahead.shape[-2:] else ahead
    batch, rank = one.shape[:-2], len(one.shape) - 2
    apart = reshape(one, shape=(*batch, features, channels, *(axis.size for axis in axes)))
    widths: Sizes = tuple(axis.stride * axis.seen for axis in axes)
    start = (*(0 for _ in range(rank + 2)), *(axis.ahead for axis in axes))
    wide = pad(apart, start=start, shape=(*apart.shape[: rank + 2], *widths))
    rests = [extent for axis in axes for extent in (axis.seen, axis.stride)]
    split = reshape(wide, shape=(*wide.shape[: rank + 2], *rests))
    last = (*(0 for _ in range(rank + 2)), *(place for axis in axes for place in (axis.seen - 1, 0)))
    steps = (*(1 for _ in range(rank + 2)), *(step for _ in axes for step in (-1, 1)))
    turned = slice(split, start=last, step=steps, shape=split.shape)
    seen, stepped = (tuple(rank + 2 + 2 * number + part for number in range(count)) for part in (0, 1))
    order = (*range(rank), *stepped, rank + 1, rank, *seen)
    rows = multiply(channels, math.prod(axis.stride for axis in axes))
    depth = multiply(features, math.prod(axis.seen for axis in axes))
    found = reshape(transpose(turned, permutation=order), shape=(*batch, rows, depth))
    return found if batch == lead else broadcast(found, shape=(*lead, rows, depth))


def is_swapped(value: Value) -> bool:
    return value.op is transpose and value.attrs["permutation"] == swapped(len(value.shape))


def between(product: Value, channels: Extent, axes: list[Turned]) -> Value:
    """[..., rests * channels, steps] -> [..., channels, *extents]: the rests between one another."""
    lead, count = product.shape[:-2], len(axes)
    steps, strides = tuple(axis.steps for axis in axes), tuple(axis.stride for axis in axes)
    if set(strides) == {1}:
        return reshape(product, shape=(*lead, channels, *steps))
    rank = len(lead)
    apart = reshape(product, shape=(*lead, *strides, channels, *steps))
    pairs = (place for number in range(count) for place in (rank + count + 1 + number, rank + number))
    mixed = transpose(apart, permutation=(*range(rank), rank + count, *pairs))
    whole = reshape(mixed, shape=(*lead, channels, *(multiply(*each) for each in zip(steps, strides, strict=True))))
    shape = (*lead, channels, *(axis.extent for axis in axes))
    return slice(whole, start=(0,) * len(shape), step=(1,) * len(shape), shape=shape)

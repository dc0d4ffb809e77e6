"""Whether the corners of a matrix that should be zeros are, and whether leaving out their products changes anything.

To look at an element takes much less than to multiply it with all columns of the other matrix. Of that all elements
must be finite, as 0 * inf and 0 * nan are nan. They are if a row of the result is that took all of the depth: so the
first tile does, and is looked at.
"""

from __future__ import annotations

from graphc.backends.primitives import LANES, Kernel


def not_zero() -> Kernel:
    """1 if any a[line * stride + k] is not 0, else 0; line < lines, k < length."""
    return looking("not_zero", "{lanes} != spread(f32(0.0))")


def not_finite() -> Kernel:
    """1 if any a[line * stride + k] is infinite or nan, else 0; line < lines, k < length."""
    return looking("not_finite", "{lanes} - {lanes} != spread(f32(0.0))")


def looking(name: str, condition: str) -> Kernel:
    text = f"""def {name}(a, lines, length, stride):
    found = live(0)
    for k in range(0, length, {LANES}):
        inside = live(length - k)
        for line in range(lines):
            lanes = load_live(a, line * stride + k, inside)
            found = found | ({condition.format(lanes="lanes")})
    return as_i64(any_lanes(found))
"""
    numbers = tuple((name, "i64") for name in ("lines", "length", "stride"))
    return Kernel(name, text, (("a", "f32*"), *numbers), returns="i64")

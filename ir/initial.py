"""Initial values: random numbers that belong to a seed, the number of a draw and a place in the array, nothing else.

They are made of whole numbers and of additions, multiplications, divisions and roots of f64 that round once each, so
native code, which repeats the same steps, gets the same bits.

Bits: Philox 4x64-10 (Salmon and others, SC 2011) at counter 1 + place // 4 under the key (seed, draw), word place % 4.
Normal numbers: Wichura, "Algorithm AS 241: The percentage points of the normal distribution", Applied Statistics 37
(1988), PPND16.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.ir.frozen import dataclass

if TYPE_CHECKING:
    from numpy.typing import NDArray

Numbers = np.ndarray[Any, np.dtype[np.float64]]

MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
KEY_STEPS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B  # the fractions of the golden ratio and of the root of three
ROUNDS = 10
CHUNK = 1 << 14  # numbers that are drawn at a time, few enough for a near cache

# A share of all is a whole number of these, and a half: 52 bits that never are 0 or 1.
SHARE_BITS = 52
LEAST, MOST = 2.0**-1022, 1 - 2.0**-53  # shares that have a quantile

SPLIT, CENTRE, FAR, NEAR_SHIFT = 0.425, 0.180625, 5.0, 1.6  # where the three parts of the quantile meet
MIDDLE = (
    (2.50908092873012267e3, 3.34305755835881281e4, 6.72657709270087009e4, 4.59219539315498715e4,
     1.37316937655094611e4, 1.97159095030655144e3, 1.33141667891784377e2, 3.38713287279636661e0),
    (5.22649527885285456e3, 2.87290857357219427e4, 3.93078958000927106e4, 2.12137943015865959e4,
     5.39419602142475111e3, 6.87187007492057908e2, 4.23133307016009113e1, 1.0),
)  # fmt: skip
NEAR_TAIL = (
    (7.74545014278341408e-4, 2.27238449892691846e-2, 2.41780725177450612e-1, 1.27045825245236838e0,
     3.64784832476320461e0, 5.76949722146069141e0, 4.63033784615654530e0, 1.42343711074968358e0),
    (1.05075007164441684e-9, 5.47593808499534495e-4, 1.51986665636164572e-2, 1.48103976427480075e-1,
     6.89767334985100005e-1, 1.67638483018380385e0, 2.05319162663775882e0, 1.0),
)  # fmt: skip
FAR_TAIL = (
    (2.01033439929228813e-7, 2.71155556874348758e-5, 1.24266094738807844e-3, 2.65321895265761230e-2,
     2.96560571828504891e-1, 1.78482653991729133e0, 5.46378491116411437e0, 6.65790464350110378e0),
    (2.04426310338993979e-15, 1.42151175831644589e-7, 1.84631831751005468e-5, 7.86869131145613259e-4,
     1.48753612908506149e-2, 1.36929880922735805e-1, 5.99832206555887938e-1, 1.0),
)  # fmt: skip
SQRT_HALF = 2.0**-0.5
LN2 = 0.6931471805599453
ODD = tuple(1 / k for k in range(19, 0, -2))  # of the series of log((1 + s) / (1 - s)) / 2 in s², highest power first


@dataclass(frozen=True, slots=True)
class Initial:
    """How a parameter's numbers are made: `centre + scale * y`, held to low .. high.

    draw            its number, counted from 0 since the seed was set
    kind            "uniform": y is a share of 0 .. 1; "normal": y is the normal quantile of a share of `shares`;
                    "constant": all are the centre, and nothing is drawn
    shares          (where the shares begin, how far they reach)
    """

    draw: int
    kind: str
    centre: float
    scale: float
    shares: tuple[float, float] = (0.0, 1.0)
    low: float = -math.inf
    high: float = math.inf

    def fill(self, array: NDArray[Any], seed: int) -> None:
        """Write the numbers drawn under the seed into a C-contiguous array."""
        if self.kind == "constant":
            array[...] = self.centre
            return
        line = array.reshape(-1)
        source = bits_of(seed, self.draw)
        for start in range(0, line.size, CHUNK):
            part = line[start : start + CHUNK]
            part[...] = self.numbers(source.random_raw(part.size))

    def numbers(self, words: NDArray[np.uint64]) -> Numbers:
        """Those of 64 random bits each."""
        words >>= np.uint64(64 - SHARE_BITS)
        found = words.astype(np.float64)
        found += 0.5
        found *= 2.0**-SHARE_BITS
        if self.kind == "normal":
            found *= self.shares[1]
            found += self.shares[0]
            found = quantile(found)
        found *= self.scale
        found += self.centre
        return found if math.isinf(self.high - self.low) else np.minimum(np.maximum(found, self.low), self.high)


@cache
def generator() -> tuple[np.random.Philox, Any]:
    """NumPy's, which takes ten times as long to make anew, and its state at the start of a draw."""
    source = np.random.Philox(0)
    return source, source.state


def bits_of(seed: int, draw: int) -> np.random.Philox:
    """The words of a draw, from the first one on."""
    source, start = generator()
    start["state"]["key"][:] = seed, draw
    source.state = start
    return source


def quantile(shares: Numbers) -> Numbers:
    """What a standard normal number is below with that probability."""
    p = np.minimum(np.maximum(shares, LEAST), MOST)
    q = p - 0.5
    r = CENTRE - q * q
    found = q * (polynomial(MIDDLE[0], r) / polynomial(MIDDLE[1], r))
    (tail,) = np.nonzero(np.abs(q.ravel()) > SPLIT)
    if tail.size:
        flat = found.reshape(-1)
        flat[tail] = tail_quantile(p.ravel()[tail], q.ravel()[tail])
    return found


def tail_quantile(p: Numbers, q: Numbers) -> Numbers:
    r = np.sqrt(-logarithm(np.minimum(p, 1 - p)))
    near, far = r - NEAR_SHIFT, r - FAR
    one = polynomial(NEAR_TAIL[0], near) / polynomial(NEAR_TAIL[1], near)
    other = polynomial(FAR_TAIL[0], far) / polynomial(FAR_TAIL[1], far)
    return np.copysign(np.where(r <= FAR, one, other), q)


def logarithm(x: Numbers) -> Numbers:
    """The natural logarithm of positive normal numbers, to 1e-15 of it."""
    mantissa, exponent = np.frexp(x)
    small = mantissa < SQRT_HALF
    mantissa = np.where(small, mantissa + mantissa, mantissa)
    exponent = np.where(small, exponent - 1, exponent).astype(np.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    return exponent * LN2 + (s + s) * polynomial(ODD, s * s)


def polynomial(coefficients: tuple[float, ...], x: Numbers) -> Numbers:
    """Horner's rule; two roundings a step."""
    found = np.full_like(x, coefficients[0])
    for each in coefficients[1:]:
        found *= x
        found += each
    return found

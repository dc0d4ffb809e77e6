"""What a library does besides its steps, in the kernel language: first numbers, copies, a hash, a look at an order."""

from __future__ import annotations

from graphc.backends.primitives import Kernel
from graphc.ir import initial, random
from graphc.ir.initial import FAR_TAIL, KEY_STEPS, MIDDLE, MULTIPLIERS, NEAR_TAIL, ODD, ROUNDS, SHARE_BITS
from graphc.ir.random import GROUP

WORD = 2**32 - 1


def signed(word: int) -> int:
    """64 bits as the kernel language writes them."""
    return word - 2**64 if word >= 2**63 else word


# -- first numbers: see ir/initial.py, whose steps these are

HIGH_HALF = Kernel(
    "high_half",
    f"""def high_half(a, b):
    low = {WORD}
    a0 = a & low
    a1 = (a >> 32) & low
    b0 = b & low
    b1 = (b >> 32) & low
    cross = a0 * b1
    other = a1 * b0
    middle = (((a0 * b0) >> 32) & low) + (cross & low) + (other & low)
    return a1 * b1 + ((cross >> 32) & low) + ((other >> 32) & low) + ((middle >> 32) & low)
""",
    (("a", "i64"), ("b", "i64")),
    returns="i64",
    inline=False,
)

# The same where one instruction makes all 128 bits: the first numbers of a state take two thirds of the time.
HIGH_HALF_AT_ONCE = """define i64 @high_half(i64 %a, i64 %b) alwaysinline nounwind "no-builtins" {
  %wide.a = zext i64 %a to i128
  %wide.b = zext i64 %b to i128
  %product = mul i128 %wide.a, %wide.b
  %upper = lshr i128 %product, 64
  %half = trunc i128 %upper to i64
  ret i64 %half
}
"""

# Four 64-bit words of a counter, as whole numbers of SHARE_BITS bits.
DRAW_BITS = Kernel(
    "draw_bits",
    f"""def draw_bits(out, counter, seed, draw):
    a = counter
    b = 0
    c = 0
    d = 0
    key = seed
    other = draw
    for turn in range({ROUNDS}):
        left = high_half(a, {signed(MULTIPLIERS[0])})
        right = high_half(c, {signed(MULTIPLIERS[1])})
        low = c * {signed(MULTIPLIERS[1])}
        lower = a * {signed(MULTIPLIERS[0])}
        a = right ^ b ^ key
        b = low
        c = left ^ d ^ other
        d = lower
        key = key + {signed(KEY_STEPS[0])}
        other = other + {signed(KEY_STEPS[1])}
    mask = {2**SHARE_BITS - 1}
    store(out, 0, (a >> {64 - SHARE_BITS}) & mask)
    store(out, 1, (b >> {64 - SHARE_BITS}) & mask)
    store(out, 2, (c >> {64 - SHARE_BITS}) & mask)
    store(out, 3, (d >> {64 - SHARE_BITS}) & mask)
""",
    (("out", "i64*"), ("counter", "i64"), ("seed", "i64"), ("draw", "i64")),
    inline=False,
    calls=(HIGH_HALF,),
)


def horner(name: str, coefficients: tuple[float, ...], at: str) -> str:
    lines = [f"    {name} = {coefficients[0]!r}\n"]
    lines += [f"    {name} = {name} * {at} + {each!r}\n" for each in coefficients[1:]]
    return "".join(lines)


MANTISSA = 2**52 - 1
LOGARITHM = Kernel(
    "logarithm",
    f"""def logarithm(x):
    bits = bits_of(x)
    exponent = (bits >> 52) - 1022
    mantissa = float_of((bits & {MANTISSA}) | {1022 << 52})
    if mantissa < {initial.SQRT_HALF!r}:
        mantissa = mantissa + mantissa
        exponent = exponent - 1
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square = s * s
{horner("y", ODD, "square")}    return as_f64(exponent) * {initial.LN2!r} + (s + s) * y
""",
    (("x", "f64"),),
    returns="f64",
    inline=False,
)


def ratio(name: str, of: tuple[tuple[float, ...], tuple[float, ...]]) -> Kernel:
    """One polynomial by another."""
    text = f"def {name}(r):\n{horner('up', of[0], 'r')}{horner('down', of[1], 'r')}    return up / down\n"
    return Kernel(name, text, (("r", "f64"),), returns="f64", inline=False)


RATIOS = (ratio("middle_ratio", MIDDLE), ratio("near_ratio", NEAR_TAIL), ratio("far_ratio", FAR_TAIL))

QUANTILE = Kernel(
    "quantile",
    f"""def quantile(share):
    p = minimum(maximum(share, {initial.LEAST!r}), {initial.MOST!r})
    q = p - 0.5
    if absolute(q) <= {initial.SPLIT!r}:
        found = q * middle_ratio({initial.CENTRE!r} - q * q)
    else:
        r = sqrt(-logarithm(minimum(p, 1.0 - p)))
        if r <= {initial.FAR!r}:
            found = copysign(near_ratio(r - {initial.NEAR_SHIFT!r}), q)
        else:
            found = copysign(far_ratio(r - {initial.FAR!r}), q)
    return found
""",
    (("share", "f64"),),
    returns="f64",
    inline=False,
    calls=(LOGARITHM, *RATIOS),
)


def draw(dtype: str, is_normal: bool) -> Kernel:
    """Initial.fill for that dtype. `bits` is scratch for four numbers."""
    kind = "normal" if is_normal else "uniform"
    name = f"draw_{kind}_{dtype}"
    share = "quantile(reach * share + begin)" if is_normal else "share"
    text = f"""def {name}(out, bits, count, seed, draw, begin, reach, centre, scale, low, high):
    for block in range(0, count, 4):
        draw_bits(bits, 1 + block // 4, seed, draw)
        for k in range(minimum(4, count - block)):
            share = (as_f64(load(bits, k)) + 0.5) * {2.0**-SHARE_BITS!r}
            y = {share} * scale + centre
            store(out, block + k, as_{dtype}(minimum(maximum(y, low), high)))
"""
    numbers = ((each, "i64") for each in ("count", "seed", "draw"))
    reals = ((each, "f64") for each in ("begin", "reach", "centre", "scale", "low", "high"))
    parameters = (("out", f"{dtype}*"), ("bits", "i64*"), *numbers, *reals)
    calls = (DRAW_BITS, QUANTILE) if is_normal else (DRAW_BITS,)
    return Kernel(name, text, parameters, inline=False, calls=calls)


def fill(dtype: str) -> Kernel:
    """One number everywhere."""
    text = f"""def fill_{dtype}(out, count, number):
    for i in range(count):
        store(out, i, number)
"""
    return Kernel(f"fill_{dtype}", text, (("out", f"{dtype}*"), ("count", "i64"), ("number", dtype)), inline=False)


COPY = Kernel(
    "copy_bytes",
    """def copy_bytes(out, source, count):
    for i in range(count):
        store(out, i, load(source, i))
""",
    (("out", "u8*"), ("source", "u8*"), ("count", "i64")),
    inline=False,
)

# -- a hash of the state: the sum of its 32-bit words (of bytes, where they are bytes), each mixed with its place by the
# finisher of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014)

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def hash_of(dtype: str) -> Kernel:
    """The sum over `count` words, of which the first one has that place."""
    name = f"hash_{dtype}"
    text = f"""def {name}(words, count, place):
    total = 0
    for i in range(count):
        x = (as_i64(load(words, i)) & {WORD}) ^ ((place + i + 1) * {signed(GOLDEN)})
        x = (x ^ ((x >> 30) & {2**34 - 1})) * {signed(FIRST)}
        x = (x ^ ((x >> 27) & {2**37 - 1})) * {signed(SECOND)}
        total = total + (x ^ ((x >> 31) & {2**33 - 1}))
    return total
"""
    return Kernel(name, text, (("words", f"{dtype}*"), ("count", "i64"), ("place", "i64")), returns="i64", inline=False)


def outside(dtype: str) -> Kernel:
    """1 if some number is neither from low to below high nor the other one, else 0."""
    name = f"outside_{dtype}"
    text = f"""def {name}(numbers, count, low, high, other):
    found = 0
    for i in range(count):
        number = as_i64(load(numbers, i))
        if ((number < low) | (number >= high)) & (number != other):
            found = 1
    return found
"""
    limits = (("count", "i64"), ("low", "i64"), ("high", "i64"), ("other", "i64"))
    return Kernel(name, text, (("numbers", f"{dtype}*"), *limits), returns="i64", inline=False)


# -- an order: what backends/entry/epoch.py makes by sets of lanes, one by one in a tenth of the code

SHUFFLE = Kernel(
    "shuffle",
    f"""def shuffle(order, draws, count, seed, epoch):
    for first in range(0, count, {GROUP}):
        for lane in range({GROUP // 4}):
            a = (first >> 2) + lane
            b = a >> 32
            c = epoch
            d = (epoch >> 32) & {WORD}
            key_a = seed
            key_b = seed >> 32
            for turn in range({random.ROUNDS}):
                left = (a & {WORD}) * {random.MULTIPLIERS[0]}
                right = (c & {WORD}) * {random.MULTIPLIERS[1]}
                a = (right >> 32) ^ b ^ key_a
                b = right
                c = (left >> 32) ^ d ^ key_b
                d = left
                key_a = key_a + {random.KEY_STEPS[0]}
                key_b = key_b + {random.KEY_STEPS[1]}
            store(draws, lane, a & {WORD})
            store(draws, lane + {GROUP // 4}, b & {WORD})
            store(draws, lane + {GROUP // 2}, c & {WORD})
            store(draws, lane + {3 * GROUP // 4}, d & {WORD})
        for i in range(first, minimum(first + {GROUP}, count)):
            chosen = (load(draws, i - first) * (i + 1)) >> 32
            store(order, i, load(order, chosen))
            store(order, chosen, i)
""",
    (("order", "i64*"), ("draws", "i64*"), ("count", "i64"), ("seed", "i64"), ("epoch", "i64")),
    inline=False,
)

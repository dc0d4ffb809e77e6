"""What this machine can do at most: measured once, in about a second, and remembered in the folder of the cache.

The measurements are those of the benchmark, cut short; see graphc/bench/machine.py. They are made anew after
`python -m graphc cache clear`, for a machine that was busy when they were made.
"""

from __future__ import annotations

import json
import math
from bisect import bisect
from collections.abc import Mapping
from contextvars import Context
from typing import Any

from graphc.backends.cache import Cache, default_cache
from graphc.backends.crew import processors
from graphc.backends.machine import host_signature
from graphc.ir.frozen import dataclass
from graphc.ir.ops import OPS

KIND, FORMAT = "ceilings", "1"
MOMENT = 0.02  # seconds of one measurement
SIZES = tuple(2**k for k in (16, 19, 22, 25))  # bytes that all threads together copy
ROUNDS, EACH = 8, 4  # of an elementwise chain, and its operations
LIKE = "exp"  # whose rate tells that of functions that are not measured, by what they cost beside it


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Rates of one thread, but for copies.

    processor   by its name
    products    operations a second of multiply-adds in registers
    arithmetic  elementwise operations a second in registers
    functions   elements a second of elementary functions, by name
    copies      bytes read and written a second, by how many threads copy, and by the bytes they copy from and to
    call        seconds that a call takes which does next to nothing
    """

    processor: str
    products: float
    arithmetic: float
    functions: Mapping[str, float]
    copies: Mapping[int, Mapping[int, float]]
    call: float

    def function(self, name: str) -> float:
        """Elements a second."""
        known = self.functions.get(name)
        return known or self.functions[LIKE] * OPS[LIKE].cost / OPS[name].cost

    def copy(self, size: int, threads: int = 1) -> float:
        """Bytes a second where so many bytes are at work; between two sizes that were measured, on a line between
        their logarithms."""
        rates = self.copies[max(each for each in self.copies if each <= threads)]
        sizes = sorted(rates)
        right = bisect(sizes, size)
        if right in (0, len(sizes)):
            return rates[sizes[min(right, len(sizes) - 1)]]
        low, high = sizes[right - 1 : right + 1]
        share = math.log(size / low) / math.log(high / low)
        return math.exp((1 - share) * math.log(rates[low]) + share * math.log(rates[high]))


def ceilings() -> Ceilings:
    """Those of this machine: as they are remembered, or measured now."""
    return known() or keep(Context().run(measure))  # whatever goes on here, such as a block of gx.debug, is not there


def known() -> Ceilings | None:
    """Those that were measured before; None if there are none."""
    here = MEASURED.get(key())
    if here is not None:
        return here
    text = default_cache().get(KIND, key())
    try:
        return None if text is None else keep(parse(json.loads(text)), on_disk=False)
    except (ValueError, KeyError, TypeError):
        return None  # what somebody else wrote


MEASURED: dict[str, Ceilings] = {}  # by this process, or read by it: a cache that keeps nothing must not cost again


def keep(found: Ceilings, on_disk: bool = True) -> Ceilings:
    MEASURED[key()] = found
    if on_disk:
        default_cache().put(KIND, key(), json.dumps(written(found)).encode())
    return found


def key() -> str:
    """Of the processor, and how many of its cores there are for us."""
    return Cache.key(FORMAT, host_signature(), str(processors()))


def measure() -> Ceilings:
    """Measure this machine; half a second, and as long to compile five small functions where nobody did before."""
    from graphc.bench import machine

    chains = machine.costs_of("arithmetic", chain, MOMENT)
    functions = {name: machine.costs_of(name, each, MOMENT) for name, each in machine.FUNCTIONS.items()}
    return Ceilings(
        processor=machine.processor(),
        products=machine.peak_of_chains(1, MOMENT),
        arithmetic=ROUNDS * EACH / chains[1],
        functions={name: 1 / each for name, (_, each) in functions.items()},
        copies={
            threads: machine.copy_rates(threads, [size // threads for size in SIZES], MOMENT)
            for threads in sorted({1, processors()})
        },
        call=min(call for call, _ in (chains, *functions.values())),
    )


def chain(x: Any) -> Any:
    """Arithmetic as steps have it: sums, products, comparisons and choices."""
    from graphc import functional

    y = x
    for _ in range(ROUNDS):
        y = functional.where(y < x, y + x, y * x)
    return y


def written(found: Ceilings) -> dict[str, Any]:
    """As JSON has it, whose keys are texts."""
    copies = {threads: dict(rates) for threads, rates in found.copies.items()}
    return {
        "processor": found.processor, "products": found.products, "arithmetic": found.arithmetic,
        "functions": dict(found.functions), "copies": copies, "call": found.call,
    }  # fmt: skip


def parse(content: Any) -> Ceilings:
    """Raises ValueError, KeyError or TypeError for what `written` did not give."""
    copies = {
        int(threads): {int(size): float(rate) for size, rate in rates.items()}
        for threads, rates in content["copies"].items()
    }
    return Ceilings(**{**content, "copies": copies})

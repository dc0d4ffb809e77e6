"""The lines of a kernel text, its parameters, and what to call it with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field

import numpy as np

from graphc.backends import contraction
from graphc.backends.primitives import LANES, Kernel, constant
from graphc.ir.frozen import dataclass
from graphc.ir.loops import Buffer, LoopNest, Term, has_few_lanes, lane_mode, rows_together
from graphc.ir.types import DTYPES, FLOATS, Extent, multiply

Argument = Buffer | Extent | str  # a str: one of SHARE, which each call of a cut kernel has its own of
EACH = "@"  # stands for the number of a lane where lanes are written out one by one
SHARE = ("begin", "end", "part")
GATHERED = "u8"  # what a kernel brings together while it multiplies


@dataclass(frozen=True, slots=True)
class Cut:
    """A call does `begin` to `end` of the numbers below `extent`; both are multiples of `unit`, or the extent.

    parts  how many calls there are; 0: any number
    """

    extent: Extent
    unit: int
    parts: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """A kernel and what to call it with: a buffer, an extent or the name of its share for each parameter.

    cut     how its work is shared out; None: one call does all
    finish  what is called once all parts are done
    names   of the terms its text computes, for who reads it
    gather  does the same with a data input whose rows it brings together first, out of an array of bytes (GATHERED) in
            an order: the same arguments and two buffers more, "data" and "order"
    """

    kernel: Kernel
    arguments: tuple[Argument, ...]
    cut: Cut | None = None
    finish: Source | None = None
    gather: Source | None = None
    names: Mapping[str, Term] = field(default_factory=dict, repr=False, compare=False)


class Lines:
    """A text while it is written. `live` is the mask of the lanes in use, "" where all are."""

    def __init__(self, nest: LoopNest, shape: contraction.TileShape, gathers: bool = False) -> None:
        self.nest = nest
        self.shape = shape
        self.gathers = gathers
        self.tile_place = ""
        self.lines: list[str] = []
        self.depth = 1
        self.live = ""
        self.names: dict[Term, str] = {}
        self.held: dict[Term, str] = {}  # columns whose sums are at hand under a name, and not in memory
        self.counts: dict[str, int] = {}
        self.parameters: dict[str, str] = {}
        self.arguments: dict[str, Argument] = {}
        self.pointers: dict[Buffer, str] = {}
        self.called: dict[str, Kernel] = {}
        self.extents: list[str] = []
        self.terms = list(nest.terms())
        self.partition = nest.partition
        self.rows = rows_together(nest)
        self.mode = "few" if has_few_lanes(nest) else lane_mode(nest.lane_extent)

    @property
    def product_term(self) -> Term:
        return next(term for term in self.terms if term.kind == "product")

    @property
    def mask(self) -> str:
        """The lanes in use, for what takes a mask even where all are."""
        return self.live or f"live({LANES})"

    def pointer(self, buffer: Buffer, name: str, dtype: str) -> str:
        self.pointers[buffer] = name
        self.parameters[name] = f"{dtype}*"
        self.arguments[name] = buffer
        return name

    def extent(self, name: str, extent: Extent) -> str:
        self.parameters[name] = "i64"
        self.arguments[name] = extent
        return name

    def span(self, axis: int) -> tuple[str, str]:
        """Where the loop over an axis begins and ends."""
        if self.partition is not None and self.partition.axis == axis:
            return "begin", "end"
        return "0", self.extents[axis]

    def number(self, extent: Extent) -> str:
        """An extent as text: a product of the frame's own, or a parameter of its own."""
        for axis in range(len(self.extents)):
            if multiply(*self.nest.frame[axis:]) == extent:
                return " * ".join(self.extents[axis:])
        for name, known in self.arguments.items():
            if self.parameters[name] == "i64" and known == extent:
                return name
        return self.extent(self.fresh("s"), extent)

    def fresh(self, stem: str) -> str:
        number = self.counts.get(stem, 0)
        self.counts[stem] = number + 1
        return f"{stem}{number}"

    def line(self, text: str) -> None:
        """One line; with EACH in it, one for every one of few lanes."""
        lanes = range(self.nest.lane_extent) if EACH in text and isinstance(self.nest.lane_extent, int) else (0,)
        self.lines += ["    " * self.depth + text.replace(EACH, str(lane)) for lane in lanes]

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.line(head)
        self.depth += 1
        yield
        self.depth -= 1

    def variable(self, axis: int) -> str:
        if axis == self.nest.lane:
            return EACH if self.mode == "few" else "j"
        return "i" if self.nest.product is not None and axis == self.nest.lane - 1 else f"i{axis}"

    @contextmanager
    def loops(self, axes: Sequence[int]) -> Iterator[None]:
        """Loops over axes other than the lanes', one inside another."""
        for axis in axes:
            first, last = self.span(axis)
            whole = last if first == "0" else f"{first}, {last}"
            self.line(f"for {self.variable(axis)} in range({whole}):")
            self.depth += 1
        yield
        self.depth -= len(axes)

    @contextmanager
    def lane_steps(self, first: str, stop: str, run: int = 0) -> Iterator[None]:
        """A loop over sets of lanes, the last one masked unless all are whole.

        run  how many lanes there are from `first` to `stop`, where that is not where the axis ends
        """
        with self.block(f"for j in range({first}, {stop}, {LANES}):"):
            if run % LANES or (not run and self.mode not in ("exact", "one")):
                self.line(f"live0 = live({stop if run else self.extents[-1]} - j)")
                self.live = "live0"
            yield
            self.live = ""


def identity(name: str, dtype: str) -> str:
    """The constant that leaves any other operand of a reduction as it is."""
    if name in ("sum", "prod"):
        return constant(0 if name == "sum" else 1, dtype)
    if dtype in FLOATS:
        return constant(-math.inf if name == "max" else math.inf, dtype)
    limits = np.iinfo(DTYPES[dtype])
    return constant(limits.min if name == "max" else limits.max, dtype)

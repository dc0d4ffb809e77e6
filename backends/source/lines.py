"""The lines of a kernel text, its parameters, and what to call it with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from graphc.backends import contraction
from graphc.backends.primitives import Kernel
from graphc.ir.loops import Buffer, LoopNest, Term, lane_mode
from graphc.ir.types import FLOATS, Extent, multiply

Argument = Buffer | Extent
LARGEST = {"i32": 2**31 - 1, "i64": 2**63 - 1, "u8": 255}


@dataclass(frozen=True, slots=True)
class Source:
    """A kernel and what to call it with: a buffer or an extent for each parameter."""

    kernel: Kernel
    arguments: tuple[Argument, ...]


class Lines:
    """A text while it is written. `live` is the mask of the lanes in use, "" where all are."""

    def __init__(self, nest: LoopNest, shape: contraction.TileShape) -> None:
        self.nest = nest
        self.shape = shape
        self.lines: list[str] = []
        self.depth = 1
        self.live = ""
        self.names: dict[Term, str] = {}
        self.counts: dict[str, int] = {}
        self.parameters: dict[str, str] = {}
        self.arguments: dict[str, Argument] = {}
        self.pointers: dict[Buffer, str] = {}
        self.called: dict[str, Kernel] = {}
        self.extents: list[str] = []
        self.terms = list(nest.terms())
        self.mode = lane_mode(nest.lane_extent)

    @property
    def product_term(self) -> Term:
        return next(term for term in self.terms if term.kind == "product")

    def pointer(self, buffer: Buffer, name: str, dtype: str) -> str:
        self.pointers[buffer] = name
        self.parameters[name] = f"{dtype}*"
        self.arguments[name] = buffer
        return name

    def extent(self, name: str, extent: Extent) -> str:
        self.parameters[name] = "i64"
        self.arguments[name] = extent
        return name

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
        self.lines.append("    " * self.depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.line(head)
        self.depth += 1
        yield
        self.depth -= 1

    @contextmanager
    def loops(self, axes: range) -> Iterator[None]:
        for axis in axes:
            self.line(f"for i{axis} in range(n{axis}):")
            self.depth += 1
        yield
        self.depth -= len(axes)


def identity(name: str, dtype: str) -> str:
    """The constant that leaves any other operand of a reduction as it is."""
    if name in ("sum", "prod"):
        return f"{dtype}({'0' if name == 'sum' else '1'}{'.0' if dtype in FLOATS else ''})"
    sign = "-" if name == "max" else ""
    if dtype in FLOATS:
        return f"{dtype}({sign}inf)"
    return f"{dtype}({sign}{LARGEST[dtype] if dtype != 'u8' or name == 'min' else 0})"


def zero_of(dtype: str) -> str:
    return constant(0, dtype)


def constant(number: float, dtype: str) -> str:
    """A typed constant of the kernel language."""
    if dtype == "bool":
        return "true" if number else "false"
    if dtype in FLOATS:
        text = repr(float(number))
        return f"{dtype}({text})"
    return f"{dtype}({int(number)})"

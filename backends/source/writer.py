"""The whole text of a nest."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

from graphc.backends import contraction, sweeps
from graphc.backends.primitives import LANES, Kernel
from graphc.backends.source.interleave import OFTEN, has_draws, interleave
from graphc.backends.source.lines import SHARE, Cut, Source
from graphc.backends.source.products import Products
from graphc.ir.loops import Buffer, LoopNest, Sweep
from graphc.ir.types import bound, content, multiply

PAGE = 1024  # elements along the lanes that are not parted: threads that write stay out of each other's cache lines


def write(nest: LoopNest, shape: contraction.TileShape) -> Source:
    """The kernel of a nest; `shape` is the register tile of the target, used by matrix products."""
    return Writer(nest, shape).write()


class Writer(Products):
    """Writes one nest."""

    def write(self) -> Source:
        if self.nest.sweep is not None:
            return self.write_sweep(self.nest.sweep)
        self.declare()
        if self.partition is not None:
            share = SHARE if self.parts else SHARE[:2]
            self.parameters |= dict.fromkeys(share, "i64")
            self.arguments |= {name: name for name in share}
        self.start_sums()
        self.row_terms(phase=None)
        if self.nest.product is not None:
            self.product_loops()
        else:
            self.outer_loops()
        self.finish_totals()
        if not self.parts:
            self.late_scalars()
            self.late_lanes()
            gather = Writer(self.nest, self.shape, gathers=True).write() if self.may_gather() else None
            return replace(self.finished(self.nest.name), gather=gather)
        self.leave_totals()
        finish = Writer(self.nest, self.shape).write_finish()
        return replace(self.finished(self.nest.name), finish=finish)

    def write_finish(self) -> Source:
        """The kernel that adds up what all parts left, and does what is late, all of it."""
        self.partition = None
        self.declare()
        self.row_terms(phase=None)
        self.add_parts()
        self.late_scalars()
        self.late_lanes()
        return self.finished(f"{self.nest.name}_finish")

    def declare(self) -> None:
        self.declare_buffers()
        self.extents = [self.extent(f"n{axis}", extent) for axis, extent in enumerate(self.nest.frame)]

    def finished(self, stem: str) -> Source:
        """The kernel of all lines, with the parameters they use."""
        body = "\n".join(self.interleaved()) + "\n"
        used = set(re.findall(r"\w+", body))
        parameters = tuple((name, kind) for name, kind in self.parameters.items() if name in used)
        head = f"({', '.join(name for name, _ in parameters)}):\n"
        types = " ".join(kind for _, kind in parameters)
        digest = hashlib.sha256((head + body + types).encode()).hexdigest()[:8]
        name = f"{stem}_{digest}"
        calls = tuple(kernel for kernel in self.called.values() if kernel.plain_name in used)
        kernel = Kernel(name, f"def {name}{head}{body}", parameters, calls=calls)
        names = {name: term for term, name in self.names.items()}
        return Source(kernel, tuple(self.arguments[name] for name, _ in parameters), self.division(), names=names)

    def division(self) -> Cut | None:
        """Where the work may be cut: between tiles of a product, between pages of a long axis, anywhere else."""
        if self.partition is None:
            return None
        axis = self.partition.axis
        unit = PAGE if axis == self.nest.lane else 1
        if self.nest.product is not None:
            columns = self.blocking.run or self.shape.width
            unit = {self.nest.lane: columns, self.nest.lane - 1: self.row_unit}.get(axis, 1)
        return Cut(self.nest.frame[axis], unit, self.partition.parts)

    def interleaved(self) -> list[str]:
        """The lines, with several rounds of long loops side by side where there are many of them."""
        if self.rows > 1 or (bound(multiply(*self.nest.frame)) < OFTEN * LANES and not has_draws(self.lines)):
            return self.lines
        return interleave(self.lines, self.weights(), self.multiples())

    def weights(self) -> dict[str, int]:
        """About how many operations each call is."""
        lanes = dict.fromkeys(("sum_lanes", "prod_lanes", "max_lanes", "min_lanes"), 8)
        return lanes | {kernel.plain_name: line_count(kernel) for kernel in self.called.values()}

    def multiples(self) -> dict[str, int]:
        """What is known to divide the extents of the frame."""
        return {name: content(extent) for name, extent in zip(self.extents, self.nest.frame, strict=True)}

    def write_sweep(self, sweep: Sweep) -> Source:
        """The library's kernel for an op that goes along an axis."""
        kernel, line = sweeps.kernel(sweep.value), Buffer("scratch", sweep.value, "line")
        return Source(kernel, (sweep.target, sweep.source, line, sweep.outer, sweep.extent, sweep.inner))


def line_count(kernel: Kernel) -> int:
    """Lines of a kernel and of all it calls: each is one or two operations."""
    return kernel.text.count("\n") - 1 + sum(line_count(called) for called in kernel.calls)

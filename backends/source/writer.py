"""The whole text of a nest."""

from __future__ import annotations

import hashlib

from graphc.backends import contraction, sweeps
from graphc.backends.primitives import LANES, Kernel
from graphc.backends.source.interleave import OFTEN, interleave
from graphc.backends.source.lines import Source
from graphc.backends.source.products import Products
from graphc.ir.loops import Buffer, LoopNest, Sweep
from graphc.ir.types import bound, content, multiply


def write(nest: LoopNest, shape: contraction.TileShape) -> Source:
    """The kernel of a nest; `shape` is the register tile of the target, used by matrix products."""
    return Writer(nest, shape).write()


class Writer(Products):
    """Writes one nest."""

    def write(self) -> Source:
        if self.nest.sweep is not None:
            return self.write_sweep(self.nest.sweep)
        self.declare_buffers()
        self.extents = [self.extent(f"n{axis}", extent) for axis, extent in enumerate(self.nest.frame)]
        self.start_sums()
        self.row_terms(phase=None)
        if self.nest.product is not None:
            self.product_loops()
        else:
            self.outer_loops()
        self.finish_totals()
        self.late_scalars()
        self.late_lanes()
        parameters = tuple(self.parameters.items())
        body = "\n".join(self.finished()) + "\n"
        head = f"({', '.join(self.parameters)}):\n"
        types = " ".join(kind for _, kind in parameters)
        digest = hashlib.sha256((head + body + types).encode()).hexdigest()[:8]
        name = f"{self.nest.name}_{digest}"
        kernel = Kernel(name, f"def {name}{head}{body}", parameters, calls=tuple(self.called.values()))
        return Source(kernel, tuple(self.arguments.values()))

    def finished(self) -> list[str]:
        """The lines, with several rounds of long loops side by side where there are many of them."""
        if bound(multiply(*self.nest.frame)) < OFTEN * LANES:
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

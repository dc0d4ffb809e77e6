"""The whole text of a nest."""

from __future__ import annotations

import hashlib

from graphc.backends import contraction, sweeps
from graphc.backends.primitives import Kernel
from graphc.backends.source.lines import Source
from graphc.backends.source.products import Products
from graphc.ir.loops import Buffer, LoopNest, Sweep


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
        body = "\n".join(self.lines) + "\n"
        head = f"({', '.join(self.parameters)}):\n"
        types = " ".join(kind for _, kind in parameters)
        digest = hashlib.sha256((head + body + types).encode()).hexdigest()[:8]
        name = f"{self.nest.name}_{digest}"
        kernel = Kernel(name, f"def {name}{head}{body}", parameters, calls=tuple(self.called.values()))
        return Source(kernel, tuple(self.arguments.values()))

    def write_sweep(self, sweep: Sweep) -> Source:
        """The library's kernel for an op that goes along an axis."""
        kernel, line = sweeps.kernel(sweep.value), Buffer("scratch", sweep.value, "line")
        return Source(kernel, (sweep.target, sweep.source, line, sweep.outer, sweep.extent, sweep.inner))

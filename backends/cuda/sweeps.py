"""Ops that go along an axis in order: every line of numbers along it is one thread's."""

from __future__ import annotations

from graphc.backends import sweeps
from graphc.backends.cuda.threads import THREADS, TOLD, NotCovered, Piece, Threads, grid_of
from graphc.backends.primitives import Kernel
from graphc.ir.loops import Buffer
from graphc.ir.types import DTYPES, bound, multiply

LOOPS = """    for i in range(outer):
        for j in range(inner):
"""
OF_THREADS = f"""    for point in range(block * {THREADS} + thread, outer * inner, blocks * {THREADS}):
        own = shift(line, point * 2 * count)
        i = point // inner
        for j in range(point % inner, point % inner + 1):
"""


class Sweeps(Threads):
    """The library's kernel, with its two outer loops shared out among threads; each has a line of scratch."""

    def pieces(self) -> tuple[Piece, ...]:
        """The one kernel. Raises NotCovered."""
        sweep = self.nest.sweep
        if sweep is None:
            raise NotCovered("no sweep")
        known = sweeps.kernel(sweep.value)
        head, body = known.text.split("\n", 1)
        text = f"{head[:-2]}, {', '.join(TOLD)}):\n{body.replace('(line,', '(own,').replace(LOOPS, OF_THREADS)}"
        parameters = (*known.parameters, *((name, "i64") for name in TOLD))
        kernel = Kernel(f"{known.name}_of_threads", text, parameters)
        lines, line = multiply(sweep.outer, sweep.inner), Buffer("scratch", sweep.value, "line")
        rooms = ((line, bound(lines) * 2 * bound(sweep.extent) * DTYPES["i64"].itemsize),)
        arguments = (sweep.target, sweep.source, line, sweep.outer, sweep.extent, sweep.inner, *TOLD)
        return (Piece(kernel, arguments, grid_of(lines, THREADS), THREADS, rooms),)

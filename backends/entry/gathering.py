"""Which kernels bring the rows of a data input together themselves, while they multiply them, in an epoch over bytes.

Where there are any, `step` is a call of `run`, which is also told where rows come from: `sources` is a table of where
the order of the batch's rows is, then where the data array of each data input is, null for one whose rows lie where the
call says. It is null itself where all do.

Only products of few columns do so: wider ones take so long that the copy does not count. And only with bytes: floats
come from memory as slowly row by row in an order as a copy does, and without one the gradient of the weights would have
to bring them once more.
"""

from __future__ import annotations

from graphc.backends.entry.pieces import ATTRIBUTES
from graphc.backends.interface import epoch_dim
from graphc.backends.source import Source
from graphc.ir.loops import Buffer
from graphc.ir.program import Program

GATHER = "_gather"  # ends the name of such a kernel's call
RUN_HEAD = f"define internal i32 @run(ptr noalias %call, i64 %thread, i64 %threads, ptr %sources) {ATTRIBUTES} {{"
STEP = f"""define i32 @step(ptr noalias %call, i64 %thread, i64 %threads) {ATTRIBUTES} {{
  %status = call i32 @run(ptr %call, i64 %thread, i64 %threads, ptr null)
  ret i32 %status
}}
"""


def gathering(program: Program, sources: tuple[Source, ...]) -> dict[int, int]:
    """The ids of those kernels' nests, each the first to read the data input whose number stands there."""
    data = program.graph.of_role("data")
    if epoch_dim(program.graph) is None:
        return {}
    able = {id(nest) for nest, source in zip(program.walk(), sources, strict=True) if source.gather is not None}
    found: dict[int, int] = {}
    for number, value in enumerate(data):
        first = next((nest for nest in program.nests if Buffer("input", value) in nest.read()), None)
        if first is not None and first.product is not None and id(first) in able:
            found |= {id(first): number} if first.product.left.buffer.value is value else {}
    return found

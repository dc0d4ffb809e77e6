"""The passes for GPUs: those of every target, and what makes attention tiles."""

from __future__ import annotations

from graphc.backends.artifact import passed
from graphc.ir.attention import find_attention, spread_attention
from graphc.ir.autodiff import expand_gradients
from graphc.ir.graph import Graph
from graphc.ir.outline import tile_attention
from graphc.ir.passes import PIPELINE, Pass

_GRADIENTS = PIPELINE.index(expand_gradients)
DEVICE_PIPELINE: tuple[Pass, ...] = (
    *PIPELINE[:_GRADIENTS],
    find_attention,
    expand_gradients,
    spread_attention,
    *PIPELINE[_GRADIENTS + 1 :],
    tile_attention,
)


def passed_for_device(traced: Graph) -> Graph:
    """The graph after all of them."""
    return passed(traced, DEVICE_PIPELINE)

"""Whether a kernel counts in 32 bits: proven once, and remembered on disk.

The proof goes through the kernel as lowering does. It would be a third of the time of a start where all else is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from graphc.backends.artifact import versions
from graphc.backends.cache import Cache, default_cache
from graphc.backends.primitives import Kernel

if TYPE_CHECKING:
    from graphc.backends.lower.narrow import Span

PROVEN = {True: b"fits", False: b"does not fit"}


def is_narrow(kernel: Kernel, spans: Mapping[str, Span]) -> bool:
    """Whether all indices of a kernel fit into 32 bits when names of its text lie in these spans."""
    texts = [each for called in (kernel, *kernel.calls) for each in (called.text, repr(called.parameters))]
    store, key = default_cache(), Cache.key(*versions(), *texts, repr(sorted(spans.items())))
    known = store.get("width", key)
    if known is not None:
        return known == PROVEN[True]
    from graphc.backends.lower.narrow import fits

    found = fits(kernel, spans)
    store.put("width", key, PROVEN[found])
    return found

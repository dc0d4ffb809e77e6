"""An SVG drawing as a PNG, by resvg: one small wheel without further libraries."""

from __future__ import annotations

import re
from typing import Any

from graphc.errors import ArgumentError
from graphc.ir.graph import user_origin

LARGEST = 16384.0  # pixels of a side; what would be larger is drawn smaller


def rasterise(svg: str, scale: float) -> bytes:
    """scale: pixels for each unit of the drawing. Raises ArgumentError where resvg is not installed."""
    try:
        import resvg_py
    except ImportError:
        advice = ["pip install 'graphc[viz]'", "or write to_svg(path), which every browser shows"]
        raise ArgumentError(
            "to_png needs the package resvg-py, which is not installed", user_origin(), advice
        ) from None
    found = re.search(r'viewBox="0 0 (\d+) (\d+)"', svg)
    assert found is not None, "every drawing has a viewBox"
    side = max(float(found[1]), float(found[2]))
    drawn: Any = resvg_py.svg_to_bytes(svg_string=svg, zoom=min(scale, LARGEST / side))
    return bytes(drawn)

"""Pictures of a compiled step as SVG text, laid out here, without any other program."""

from __future__ import annotations

from graphc.picture.drawing import kernels_svg

"""Pictures of a compiled step as SVG text, laid out here, without any other program."""

from __future__ import annotations

from graphc.picture.kernels import kernels_svg
from graphc.picture.ladder import layers_svg
from graphc.picture.ops import graph_svg

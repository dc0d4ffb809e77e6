"""Graphs and programs as DOT, pure text: what Graphviz draws and `step.to_dot` writes."""

from __future__ import annotations

from graphc.ir.dot.graphs import graph_dot
from graphc.ir.dot.kernels import kernels_dot

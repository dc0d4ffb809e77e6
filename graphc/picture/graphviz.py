"""A DOT text as SVG by Graphviz, where that program is installed."""

from __future__ import annotations

import shutil
import subprocess

from graphc.errors import ArgumentError
from graphc.ir.graph import user_origin


def lay_out(dot: str) -> str:
    """Raises ArgumentError where there is no program `dot`, or where it fails."""
    program = shutil.which("dot")
    if program is None:
        advice = ["install Graphviz (graphviz.org)", "or leave engine out: graphc draws without it"]
        raise ArgumentError("engine='graphviz' needs the program dot, which is not installed", user_origin(), advice)
    done = subprocess.run([program, "-Tsvg"], input=dot.encode(), capture_output=True)
    if done.returncode:
        raise ArgumentError(f"Graphviz failed: {done.stderr.decode(errors='replace').strip()[:200]}", user_origin())
    return done.stdout.decode()

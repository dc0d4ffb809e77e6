"""Compiling as on another machine, which this one must be able to do."""

from __future__ import annotations

from graphc.backends import artifact, description, target


def compile_for(name: str) -> None:
    """From now on this process compiles for that target wherever it would for this machine."""
    chosen = target.TARGETS[name]
    target.host = lambda: chosen
    target.host_tile = artifact.host_tile = lambda: (chosen.tile_rows, chosen.tile_vectors)
    for module in (artifact, description):
        module.host_signature = lambda: f"tests for {name}"

"""The command line, `python -m graphc`: every command in a module of its own, imported when it is asked for."""

from __future__ import annotations

from graphc.cli.commands import main

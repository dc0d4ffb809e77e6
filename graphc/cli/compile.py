"""`graphc compile FILE.py:NAME`: steps into the cache."""

from __future__ import annotations

import argparse
from typing import Any

from graphc.cli.outcome import DONE, print_json
from graphc.cli.steps import FORM, find_steps
from graphc.function import Function


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("steps", metavar=FORM, nargs="+", help="of one file; all of its steps without :NAME")
    command.add_argument("--json", action="store_true", help="what came out as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    steps = find_steps(options.steps)
    if options.json:
        print_json([outcome(name, step) for name, step in steps.items()])
        return DONE
    width = max(map(len, steps))
    for name, step in steps.items():
        print(f"{name:<{width}}  {step.compiled}" if len(steps) > 1 else step.compiled)
    return DONE


def outcome(name: str, step: Function) -> dict[str, Any]:
    described = step.artifact.description
    return {
        "name": name,
        "kernels": described.kernels,
        "from_cache": not step.artifact.fresh,
        "seconds": {part: round(taken, 6) for part, taken in step.seconds.items()},
        "state_bytes": step.traced.state_bytes,
        "arena_bytes": described.work_bytes,
        "rows_at_a_time": described.rows or None,
    }

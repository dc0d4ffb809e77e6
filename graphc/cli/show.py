"""`graphc show FILE.py:NAME`: a step as text, as data or as a picture."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from graphc.cli.outcome import DONE, Misuse, print_json
from graphc.cli.steps import find_steps
from graphc.function import Function
from graphc.settings import check_choice
from graphc.show import written

DRAWN = ("layers", "graph", "kernels")  # levels of pictures in files
DRAWING: dict[str, Callable[[Function, str, str], object]] = {
    ".svg": lambda step, path, level: step.to_svg(path, level=level),
    ".png": lambda step, path, level: step.to_png(path, level=level),
    ".dot": lambda step, path, level: step.to_dot(path, level=level),
    ".html": lambda step, path, level: step.to_html(path),  # which has all levels
}
VIEWS: dict[str, Callable[[Function], str]] = {
    "summary": lambda step: step.summary(),
    "source": lambda step: step.source(),
    "llvm": lambda step: step.llvm(),
    "assembly": lambda step: step.assembly(),
    "ptx": lambda step: step.ptx(),
    "svg": lambda step: step.to_svg(),
    "html": lambda step: step.to_html(),
    "dot": lambda step: step.to_dot(),
}
LEVELS = """\
levels
  summary      kernels, what they go over, which lines of yours they compute; bytes
  certificate  bytes, operations and threads as functions of the batch, and how long a step will take here
  graph        every operation after all passes; trace, or the name of a pass: as it was then
  program      kernels in order, with every buffer's place in memory
  kernels      the loops of each kernel
  source       the kernels as Python, each under your lines
  launches     as a GPU does it: blocks, threads, bytes, operations; no GPU is needed
  llvm, assembly, ptx     machine code
  svg, html, dot          a picture, as text
  layers, graph, kernels  in a picture, -o FILE.svg, .png or .dot; -o FILE.html has all three on a page"""


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("step", metavar="FILE.py[:NAME]", help="NAME may be left out where there is one step")
    command.add_argument("--level", metavar="LEVEL", help="which view, see below; summary, of pictures layers")
    command.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="write it there; .svg .png .html .dot: a picture"
    )
    command.add_argument("--json", action="store_true", help=f"as JSON: levels {', '.join(data_levels())}")
    command.epilog = f"{LEVELS}\n\n{command.epilog}"
    command.set_defaults(run=run)


def data_levels() -> tuple[str, ...]:
    from graphc.cli.data import LEVELS

    return tuple(LEVELS)


def run(options: argparse.Namespace) -> int:
    drawn = options.out is not None and options.out.suffix in DRAWING
    if options.json and (drawn or options.level not in (None, *data_levels())):
        raise Misuse(f"there is no JSON of that; there is of the levels {', '.join(data_levels())}")
    steps = find_steps([options.step])
    if len(steps) > 1:
        return list_steps(options, steps)
    (step,) = steps.values()
    if drawn:
        draw(step, options.out, options.level or DRAWN[0])
        return DONE
    if options.json:
        from graphc.cli.data import LEVELS

        print_json(LEVELS[options.level or "summary"](step))
        return DONE
    text = text_of(step, options.level or "summary")
    if options.out is None:
        print(text, end="")
    else:
        written(text, options.out)
    return DONE


def list_steps(options: argparse.Namespace, steps: Mapping[str, Function]) -> int:
    """Several steps: which there are. Nothing else can be said of all of them at once."""
    if options.level is not None or options.out is not None:
        raise Misuse(
            f"{options.step} has several steps: {', '.join(steps)}; name one: {options.step}:{next(iter(steps))}"
        )
    types = {name: {value.attrs["name"]: str(value.type) for value in step.inputs} for name, step in steps.items()}
    if options.json:
        print_json({"steps": [{"name": name, "inputs": inputs} for name, inputs in types.items()]})
        return DONE
    for name, inputs in types.items():
        print(f"{options.step}:{name}({', '.join(f'{each}: {kind}' for each, kind in inputs.items())})")
    return DONE


def draw(step: Function, path: Path, level: str) -> None:
    check_choice("level", level, DRAWN)
    DRAWING[path.suffix](step, str(path), level)


def text_of(step: Function, level: str) -> str:
    if level in VIEWS:
        return VIEWS[level](step)
    from graphc import show

    if level in show.text_levels(()):  # no pass need run for it
        return step.text(level)
    return step.text(check_choice("level", level, (*VIEWS, *show.text_levels(step.stages))))

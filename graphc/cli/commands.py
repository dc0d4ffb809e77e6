"""Which commands there are, what their help says, and how one is run."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn

from graphc.cli.outcome import BOLD, DONE, INTERRUPTED, MISUSED, WRONG, Failed, Misuse, coloured, complain
from graphc.errors import GraphcError
from graphc.ir.frozen import dataclass

PROGRAM = "python -m graphc"


@dataclass(frozen=True, slots=True)
class Command:
    """One command: the module that has its `add_options`, what it does in one line, and examples."""

    module: str
    line: str
    examples: tuple[str, ...]


COMMANDS = {
    "run": Command(
        "graphc.cli.run",
        "run a program, then say which steps were compiled for it, how fast, and which came from the cache",
        ("run train.py", "run --threads 1 --debug nan train.py --epochs 3"),
    ),
    "show": Command(
        "graphc.cli.show",
        "print or draw a step: layers, graph, kernels, source, machine code",
        (
            "show model.py",
            "show model.py:step --level source",
            "show model.py:step --level kernels -o kernels.svg",
            "show model.py:step --level graph --json",
        ),
    ),
    "compile": Command(
        "graphc.cli.compile",
        "compile steps into the cache, so that programs start at once",
        ("compile model.py", "compile model.py:step --json"),
    ),
    "export": Command(
        "graphc.cli.export",
        "write steps as a library that runs without Python",
        ("export model.py:step -o build/mnist", "export model.py:step model.py:test -o build/mnist --target wasm32"),
    ),
    "bench": Command(
        "graphc.bench.run",
        "time the ten workloads, turn by turn with the peers that are there",
        ("bench W3", "bench W1 W2 --only graphc --only torch --out results"),
    ),
    "cache": Command(
        "graphc.cli.cache",
        "list, clear or verify the machine code that is remembered",
        ("cache", "cache verify --remove", "cache clear"),
    ),
    "doctor": Command(
        "graphc.cli.doctor",
        "check this machine: versions, processor, targets, threads, cache, GPU, extras, a test compile",
        ("doctor", "doctor --json"),
    ),
}

HEAD = "graphc: declare a model in Python, and get its whole training step as one native function."
ABOUT = """\
A step is what gx.function, gx.step or gx.train_step gave, by its name in FILE.py outside of functions. Commands that
look at a file run it without its `__main__` part.

exit status
  0    done
  1    an error of your model, or of what an argument names; doctor and cache verify: something is wrong
  2    the command line is not understood
  130  interrupted
  of `run`, that of the program

Colours are for terminals only, NO_COLOR=1 switches them off. GRAPHC_TRACEBACK=full shows the internals of an error."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    given = sys.argv[1:] if arguments is None else [*arguments]
    try:
        return run(given)
    except Misuse as error:
        complain(
            error, [*error.details, f"{PROGRAM} {f'{given[0]} ' if given[0] in COMMANDS else ''}--help tells more"]
        )
        return MISUSED
    except Failed as error:
        print(error, file=sys.stderr)
    except GraphcError as error:
        if error.origin is not None and error.origin.code is sys._getframe(1).f_code:
            error.origin = None  # it is about an argument: the line that called this is nobody's
        complain(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read this has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return WRONG


def run(given: Sequence[str]) -> int:
    if not given or given[0] in ("-h", "--help"):
        print(overview(), file=sys.stdout if given else sys.stderr)
        return DONE if given else MISUSED
    if given[0] == "--version":
        from graphc import __version__

        print(__version__)
        return DONE
    name = given[0]
    if name not in COMMANDS:
        from graphc.suggestions import did_you_mean

        raise Misuse(f"there is no command {name!r}; there are {', '.join(COMMANDS)}", did_you_mean(name, COMMANDS))
    options = parser(name).parse_args(given[1:])
    return int(options.run(options))


def overview() -> str:
    commands = [f"  {name:<9}{each.line}" for name, each in COMMANDS.items()]
    examples = [f"  {PROGRAM} {each.examples[-1]}" for each in COMMANDS.values()]
    usage = f"{PROGRAM} COMMAND ...        {PROGRAM} COMMAND --help tells its options"
    titles = (coloured(title, BOLD, sys.stdout) for title in ("usage", "commands", "examples"))
    parts = ([f"{next(titles)}  {usage}"], [next(titles), *commands], [next(titles), *examples], [ABOUT])
    return "\n\n".join([HEAD, *("\n".join(part) for part in parts)])


class Parser(argparse.ArgumentParser):
    """One that complains as all of graphc does."""

    def error(self, message: str) -> NoReturn:
        raise Misuse(message)


def parser(name: str) -> Parser:
    command = COMMANDS[name]
    examples = "\n".join(["examples", *(f"  {PROGRAM} {each}" for each in command.examples)])
    found = Parser(
        prog=f"{PROGRAM} {name}",
        description="\n".join(textwrap.wrap(f"{command.line[0].upper()}{command.line[1:]}.", 100)),
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_options: Callable[[argparse.ArgumentParser], None] = import_module(command.module).add_options
    add_options(found)
    return found

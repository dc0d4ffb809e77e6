"""`graphc run FILE.py`: a program as Python runs it, and what was compiled for it."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from graphc.cli.outcome import DONE, INTERRUPTED, WRONG, Misuse
from graphc.cli.steps import no_file, own_part, started_as
from graphc.function import Function
from graphc.ir.frozen import dataclass
from graphc.plan import Plan


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--threads", type=int, metavar="N", help="the most that a call uses; all processors if left out"
    )
    command.add_argument("--no-cache", action="store_true", help="compile all anew, and remember nothing")
    command.add_argument(
        "--debug",
        action="append",
        default=[],
        choices=("nan", "reference"),
        help="nan: stop at the first number that is not finite; reference: compare each kernel with NumPy. "
        "May be given twice; both are slow",
    )
    command.add_argument("file", metavar="FILE.py")
    command.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="all that follows is the program's")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if not os.path.isfile(options.file):
        raise no_file(options.file)
    if options.threads is not None and options.threads < 1:
        raise Misuse(f"--threads is {options.threads}; it must be at least 1")
    settings = {"GRAPHC_THREADS": options.threads, "GRAPHC_CACHE_DIR": "off" if options.no_cache else None}
    os.environ.update({name: str(setting) for name, setting in settings.items() if setting is not None})
    with noting_steps() as made, looking(options.debug):
        status = run_file(options.file, options.arguments)
    sys.stdout.flush()
    print("\n".join(told(made)), file=sys.stderr)
    return status


def looking(kinds: list[str]) -> AbstractContextManager[None]:
    if not kinds:
        return nullcontext()
    from graphc.debugging import debug

    return debug(nan="raise" if "nan" in kinds else None, check="reference" if "reference" in kinds else None)


def run_file(file: str, arguments: list[str]) -> int:
    """Its exit status. An error nobody caught is shown as Python shows it, or in short if graphc has part in it."""
    try:
        with started_as(file, arguments):
            runpy.run_path(file, run_name="__main__")
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or DONE
        print(error.code, file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        sys.excepthook(type(error), error.with_traceback(own_part(error.__traceback__, file)), error.__traceback__)
        return WRONG
    return DONE


# -- what was compiled


@dataclass(frozen=True, slots=True)
class Made:
    """A step that was compiled, or loaded if it is not `fresh`; `where` it stands in the program."""

    name: str
    kernels: int
    seconds: float
    fresh: bool
    where: str


@contextmanager
def noting_steps() -> Iterator[list[Made]]:
    """Every function that is made inside of the block."""
    plain, found = Function.compile, list[Made]()

    def noting(function: Function, plan: Plan) -> None:
        plain(function, plan)
        artifact, where = function.artifact, str(plan.origin or "")
        taken = sum(function.seconds.values())
        found.append(Made(function.name, artifact.description.kernels, taken, artifact.fresh, where))

    Function.compile = noting  # type: ignore[method-assign, assignment]
    try:
        yield found
    finally:
        Function.compile = plain  # type: ignore[method-assign]


def told(made: list[Made]) -> Iterator[str]:
    remembered = sum(not each.fresh for each in made)
    seconds = sum(each.seconds for each in made)
    count = f"{len(made) or 'no'} step{'s' * (len(made) != 1)}"
    yield f"graphc: {count}" + (f", {remembered} of them from the cache, ready in {seconds:.2f} s" if made else "")
    width = max((len(each.name) for each in made), default=0)
    for each in made:
        how = "compiled" if each.fresh else "loaded"
        cells = (
            each.name.ljust(width),
            f"{how:<8}",
            f"{each.kernels:>4} kernels",
            f"{each.seconds:6.2f} s",
            each.where,
        )
        yield f"  {'  '.join(cells)}".rstrip()

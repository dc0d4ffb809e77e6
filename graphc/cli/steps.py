"""The steps that a user's file defines, by their names."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from types import TracebackType
from typing import Any

from graphc.cli.outcome import Failed
from graphc.errors import GraphcError
from graphc.function import Function

FORM = "FILE.py:NAME"


def find_steps(references: Sequence[str]) -> dict[str, Function]:
    """Steps of one file, which is run once; all of it where a reference names none.

    references  "model.py:step" or "model.py"

    Raises GraphcError for what is not there, Failed where the file fails.
    """
    pairs = [split(reference) for reference in references]
    file = pairs[0][0]
    if any(other != file for other, _ in pairs):
        raise GraphcError(f"all steps must come from one file, {file}")
    known = steps_of(file)
    if not known:
        advice = (
            "steps are made outside of functions and of `if __name__ == '__main__'`, by gx.function, gx.train_step …"
        )
        raise GraphcError(f"{file} defines no step", details=[advice])
    wanted = [name for _, name in pairs]
    for name in wanted:
        if name not in known and name:
            from graphc.suggestions import did_you_mean

            text = f"{file} has no step {name!r}; its steps are: {', '.join(known)}"
            raise GraphcError(text, details=did_you_mean(name, known))
    return known if "" in wanted else {name: known[name] for name in wanted}


def split(reference: str) -> tuple[str, str]:
    """(file, name), the name "" if there is none; GraphcError where there is no such file."""
    if os.path.isfile(reference):
        return reference, ""
    file, _, name = reference.rpartition(":")
    file, name = (file, name) if file else (name, "")
    if not os.path.isfile(file):
        raise no_file(file)
    return file, name


def no_file(file: str) -> GraphcError:
    from graphc.suggestions import did_you_mean

    folder = os.path.dirname(file)
    beside = os.listdir(folder or os.curdir) if os.path.isdir(folder or os.curdir) else ()
    likely = did_you_mean(os.path.basename(file), (name for name in beside if name.endswith(".py")))
    return GraphcError(f"there is no file {file!r}; steps go by {FORM}", details=likely)


def steps_of(file: str) -> dict[str, Function]:
    """The steps at the top of a file, each once, by the first of its names. What the file prints goes to stderr."""
    with started_as(file, []), redirect_stdout(sys.stderr):
        try:
            found = runpy.run_path(file, run_name="graphc_show")
        except SystemExit as error:
            raise GraphcError(
                f"{file} ends itself with status {error.code!r}",
                details=["put what is to happen only when it is run under `if __name__ == '__main__':`"],
            ) from None
        except Exception as error:
            raise Failed(report_of(error, file)) from error
    names: dict[Function, str] = {}
    for name, item in found.items():
        if isinstance(item, Function):
            names.setdefault(item, name)
    return {name: step for step, name in names.items()}


def report_of(error: Exception, file: str) -> str:
    """An error of the file, as it is shown without this command line."""
    if own_part(error.__traceback__, file) is None:  # it could not even begin
        return "".join(traceback.format_exception_only(error)).rstrip()
    from graphc.report import report

    return report(error)


def own_part(trace: TracebackType | None, file: str) -> TracebackType | None:
    """The traceback from the file's first frame on."""
    while trace is not None and trace.tb_frame.f_code.co_filename != file:
        trace = trace.tb_next
    return trace


@contextmanager
def started_as(file: str, arguments: Sequence[str]) -> Iterator[None]:
    """What a file sees that Python runs: its own folder for imports, its arguments."""
    before: Any = sys.argv, sys.path
    sys.argv, sys.path = [file, *arguments], [os.path.dirname(os.path.abspath(file)), *sys.path]
    try:
        yield
    finally:
        sys.argv, sys.path = before

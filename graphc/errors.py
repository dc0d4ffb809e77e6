"""Errors for users: what is wrong, the line of theirs that says it, and how to mend it, in at most eight lines.

An uncaught one shows its own text and the user's frames, none of this package's. `GRAPHC_TRACEBACK=full` shows all.
"""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, ClassVar

from graphc.ir.graph import PACKAGE, Origin

MOST_LINES = 8
RED, PLAIN = "\x1b[1;31m", "\x1b[0m"
INSTALLED = tuple({sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")})


class GraphcError(Exception):
    """Something the user can mend.

    message  what is wrong, with both values; one line that is enough by itself
    origin   the user's expression it is about
    details  further lines: where the other party was declared, how to mend it
    note     what the underlined expression is, printed after its underline
    """

    advice: ClassVar[tuple[str, ...]] = ()

    def __init__(self, message: str, origin: Origin | None = None, details: Iterable[str] = (), note: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.origin = origin
        self.details = tuple(details)
        self.note = note

    def __str__(self) -> str:
        place = describe(self.origin, self.note) if self.origin else []
        first, *rest = "\n".join((self.message, *place, *self.details)).split("\n")
        below = [*rest[: MOST_LINES - 1 - len(self.advice)], *self.advice]
        return "\n".join([first, *(line if line.startswith(" ") else f"  {line}" for line in below)])

    def __reduce__(self) -> tuple[Any, ...]:
        # An origin holds a code object, which cannot leave the process; its text can.
        place = describe(self.origin, self.note) if self.origin else []
        return type(self), (self.message, None, (*place, *self.details))

    def _render_traceback_(self) -> list[str]:
        """What IPython and notebooks show instead of their own traceback."""
        return report(self).splitlines()


class ShapeError(GraphcError):
    """Extents that do not fit each other."""


class DTypeError(GraphcError):
    """An element type an operation does not take."""


class BatchError(GraphcError):
    """A batch that is empty, larger than its bound, or ragged."""


class LabelError(GraphcError):
    """A class label, or an index, outside of its range in the call."""


class GradientError(GraphcError):
    """A gradient that was asked for and does not exist."""


class CheckpointError(GraphcError):
    """A file of tensors that cannot be written, is damaged, or belongs to another model."""


class DatasetError(GraphcError):
    """A data set that cannot be had, is damaged, or is put together wrongly."""


class NumericsError(GraphcError):
    """A loss or value that became infinite or not a number."""


class TraceError(GraphcError):
    """Python that a static graph cannot record."""


class InternalError(GraphcError):
    """A fault of this package, never of the user's code."""

    advice = (
        f"this is a fault in {PACKAGE}, not in your code: please report it, with the output of a run under",
        "GRAPHC_TRACEBACK=full; nothing was run or saved",
    )


def describe(origin: Origin, note: str = "") -> list[str]:
    """The user's line and its underlined expression, as one or two lines of text.

    Columns count from 1 in the text; an expression over several lines is underlined to the end of the first.
    """
    source = linecache.getline(origin.file, origin.line).rstrip()
    place = f"{shown_file(origin.file)}:{origin.line}"
    if not source:
        return [f"  {place}   {note}".rstrip()]
    if origin.column is None:
        return [f"  {place}   {source.strip()}", *([f"    {note}"] if note else [])]
    start, end = _character(source, origin.column), _character(source, origin.end_column)
    code = source.lstrip().replace("\t", " ")
    head = f"  {place}:{start + 1}   "
    indent = len(head) + start - (len(source) - len(code))
    underline = "^" * max(1, end - start)
    return [head + code, f"{' ' * indent}{underline}   {note}".rstrip()]


def _character(line: str, column: int | None) -> int:
    """The index of a character, from the offset in UTF-8 bytes that code objects hold; None is the end of the line."""
    return len(line) if column is None else len(line.encode()[:column].decode(errors="ignore"))


def shown_file(file: str) -> str:
    """The name a user knows a source file by: a notebook's cell, or a path, relative below the working folder."""
    path = Path(file)
    if path.parent.name.startswith("ipykernel_") or file.startswith("<ipython"):
        return _cell_name(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _cell_name(file: str) -> str:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    name = shell.compile.format_code_name(file) if shell else None
    return " ".join(name) if name else "<cell>"


def report(error: GraphcError, colour: bool = False) -> str:
    """The text for an error nobody caught: the frames of the user's code, then the error's own lines."""
    if os.environ.get("GRAPHC_TRACEBACK") == "full":
        return "".join(traceback.format_exception(error)).rstrip()
    steps = ((frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if _is_users(frame))
    frames = traceback.StackSummary.extract(steps)
    origin = error.origin
    if origin and frames and (frames[-1].filename, frames[-1].lineno) == (origin.file, origin.line):
        frames.pop()  # the error's own lines show it
    header = ["Traceback (most recent call last):"] if frames else []
    calls = "".join(frames.format())
    for file in {frame.filename for frame in frames}:
        calls = calls.replace(f'File "{file}"', f'File "{shown_file(file)}"')
    lines = [f"{PACKAGE}.{type(error).__name__}: {error}", *getattr(error, "__notes__", [])]
    text = "\n".join([*header, *calls.splitlines(), *lines])
    return _coloured(text, type(error).__name__) if colour else text


def _is_users(frame: FrameType) -> bool:
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    file = frame.f_code.co_filename
    return package != PACKAGE and not file.startswith(("<frozen", *INSTALLED))


def _coloured(text: str, name: str) -> str:
    title = f"{PACKAGE}.{name}:"
    lines = text.replace(title, f"{RED}{title}{PLAIN}", 1).splitlines()
    return "\n".join(f"{RED}{line}{PLAIN}" if line.lstrip().startswith("^") else line for line in lines)


def show_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook`: errors of this package in short, all others as Python shows them."""
    if not isinstance(error, GraphcError):
        return sys.__excepthook__(kind, error, trace)
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    print(report(error, colour), file=sys.stderr)


if sys.excepthook is sys.__excepthook__:
    sys.excepthook = show_uncaught

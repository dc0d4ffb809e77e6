"""Errors for users: what is wrong, the line of theirs that says it, and how to mend it, in at most eight lines.

An uncaught one shows its own text and the user's frames, none of this package's; so does an error of Python's own that
comes through this package. `GRAPHC_TRACEBACK=full` shows all.
"""

from __future__ import annotations

import linecache
import os
import reprlib
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


class ArgumentError(GraphcError, ValueError, TypeError):
    """An argument of the wrong kind, outside of its range, or not one of the choices."""


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


def shell() -> Any:
    """The session of IPython this is, if it is one."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def _cell_name(file: str) -> str:
    name = session.compile.format_code_name(file) if (session := shell()) else None
    return " ".join(name) if name else "<cell>"


def report(error: Exception, colour: bool = False) -> str:
    """The text for an error nobody caught: the frames of the user's code, then the error's own lines.

    An error of Python's own that came up in this package gets the call of the user that led to it.
    """
    if os.environ.get("GRAPHC_TRACEBACK") == "full":
        return "".join(traceback.format_exception(error)).rstrip()
    trace = error.__traceback__
    known = zip(traceback.extract_tb(trace), traceback.walk_tb(trace))
    frames = traceback.StackSummary.from_list([summary for summary, (frame, _) in known if _is_users(frame)])
    origin = error.origin if isinstance(error, GraphcError) else None
    if origin and frames and (frames[-1].filename, frames[-1].lineno) == (origin.file, origin.line):
        frames.pop()  # the error's own lines show it
    header = ["Traceback (most recent call last):"] if frames else []
    calls = "".join(frames.format())
    for file in {frame.filename for frame in frames}:
        calls = calls.replace(f'File "{file}"', f'File "{shown_file(file)}"')
    if isinstance(error, GraphcError):
        lines = [f"{PACKAGE}.{type(error).__name__}: {error}", *getattr(error, "__notes__", [])]
    else:
        lines = [*"".join(traceback.format_exception_only(error)).splitlines(), *_entry(error)]
    text = "\n".join([*header, *calls.splitlines(), *lines])
    return _coloured(text, type(error).__name__) if colour else text


def _entry(error: Exception) -> list[str]:
    """Which call with which arguments led into this package, if the error came up in there."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    users = [number for number, frame in enumerate(frames) if _is_users(frame)]
    inside = frames[users[-1] + 1 :] if users else frames
    if not any(_is_ours(frame) for frame in inside):
        return []
    code, found = inside[0].f_code, inside[0].f_locals
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    given = [f"{name}={reprlib.repr(found[name])}" for name in names if name in found and name not in ("self", "cls")]
    title = code.co_qualname.removesuffix(".__init__")
    return [f"  in {title}({', '.join(given)})", f"  GRAPHC_TRACEBACK=full shows where in {PACKAGE} it came up"]


def _passes_through(trace: TracebackType | None) -> bool:
    return any(_is_ours(frame) for frame, _ in traceback.walk_tb(trace))


def _is_ours(frame: FrameType) -> bool:
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] == PACKAGE


def _is_users(frame: FrameType) -> bool:
    return not _is_ours(frame) and not frame.f_code.co_filename.startswith(("<frozen", *INSTALLED))


def _coloured(text: str, name: str) -> str:
    title = f"{PACKAGE}.{name}:"
    lines = text.replace(title, f"{RED}{title}{PLAIN}", 1).splitlines()
    return "\n".join(f"{RED}{line}{PLAIN}" if line.lstrip().startswith("^") else line for line in lines)


def show_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook`: errors of this package or through it in short, all others as Python shows them."""
    chained = error.__cause__ or (error.__context__ and not error.__suppress_context__)
    ours = isinstance(error, GraphcError) or (_passes_through(trace) and not chained)
    if not isinstance(error, Exception) or not ours:
        return sys.__excepthook__(kind, error, trace)
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    print(report(error, colour), file=sys.stderr)


if sys.excepthook is sys.__excepthook__:
    sys.excepthook = show_uncaught

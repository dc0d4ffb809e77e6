"""Errors for users: what is wrong, the line of theirs that says it, and how to mend it, in at most eight lines.

An uncaught one is shown by graphc.report.
"""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, ClassVar

from graphc.ir.graph import PACKAGE, Origin

MOST_LINES = 8


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
        from graphc.report import report

        return report(self).splitlines()


class ShapeError(GraphcError):
    """Extents that do not fit each other."""


class DTypeError(GraphcError):
    """An element type an operation does not take."""


class ArgumentError(GraphcError, ValueError, TypeError):
    """An argument of the wrong kind, outside of its range, or not one of the choices."""


class UnknownNameError(GraphcError, AttributeError):
    """A name that is not there; it says which it is most like. An AttributeError, so that hasattr() works.

    known  gives the names there are, asked when somebody reads the error
    """

    def __init__(
        self,
        message: str,
        origin: Origin | None = None,
        details: Iterable[str] = (),
        note: str = "",
        *,
        wanted: str = "",
        known: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        super().__init__(message, origin, details, note)
        self.wanted, self.known = wanted, known

    def __str__(self) -> str:
        from graphc.suggestions import did_you_mean

        names, self.known = self.known(), tuple
        self.details = (*did_you_mean(self.wanted, (each for each in names if each[:1] != "_")), *self.details)
        return super().__str__()

    def __reduce__(self) -> tuple[Any, ...]:
        text = str(self)  # which asks for the suggestion: what gives names cannot leave the process
        del text
        return super().__reduce__()


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


class DeviceError(GraphcError):
    """A GPU that is not there, cannot be used, or has too little memory."""


class TargetError(GraphcError):
    """An operation that a target of an export has no instructions for."""


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
    if os.path.basename(os.path.dirname(file)).startswith("ipykernel_") or file.startswith("<ipython"):
        return _cell_name(file)
    return file.removeprefix(os.path.join(os.getcwd(), ""))


def shell() -> Any:
    """The session of IPython this is, if it is one."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def show_in_shell(
    session: Any, kind: type[BaseException], error: BaseException, trace: Any, tb_offset: Any = None
) -> Any:
    """What IPython calls for errors of Python: those that a wrong use of this package led to are shown as its own are,
    all others as ever."""
    from graphc.report import is_ours, report

    if not is_ours(error, trace):
        return session.showtraceback((kind, error, trace), tb_offset=tb_offset)
    lines = report(error).splitlines()  # type: ignore[arg-type]
    session._showtraceback(kind, error, lines)
    return lines


def _cell_name(file: str) -> str:
    name = session.compile.format_code_name(file) if (session := shell()) else None
    return " ".join(name) if name else "<cell>"


def show_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook`: what shows errors is imported when there is one."""
    from graphc.report import show

    show(kind, error, trace)


if sys.excepthook is sys.__excepthook__:
    sys.excepthook = show_uncaught
if (session := shell()) is not None and not session.custom_exceptions:
    session.set_custom_exc((TypeError, AttributeError, ImportError), show_in_shell)

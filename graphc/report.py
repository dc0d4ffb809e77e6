"""What an error nobody caught looks like: its own text and the user's frames, none of this package's.

So does an error of Python's own that comes through this package. `GRAPHC_TRACEBACK=full` shows all.
"""

from __future__ import annotations

import inspect
import os
import re
import reprlib
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, TextIO

from graphc.errors import GraphcError, describe, shown_file
from graphc.ir.graph import PACKAGE, Origin
from graphc.suggestions import did_you_mean

RED, PLAIN = "\x1b[1;31m", "\x1b[0m"
INSTALLED = tuple({sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")})


def report(error: Exception, colour: bool = False) -> str:
    """The text for an error nobody caught: the frames of the user's code, then the error's own lines.

    An error of Python's own that came up in this package gets the call of the user that led to it.
    """
    if os.environ.get("GRAPHC_TRACEBACK") == "full":
        return "".join(traceback.format_exception(error)).rstrip()
    trace = error.__traceback__
    known = zip(traceback.extract_tb(trace), traceback.walk_tb(trace))
    frames = traceback.StackSummary.from_list([summary for summary, (frame, _) in known if _is_users(frame)])
    origin = error.origin if isinstance(error, GraphcError) else _misused(error)
    if origin and frames and (frames[-1].filename, frames[-1].lineno) == (origin.file, origin.line):
        frames.pop()  # the error's own lines show it
    header = ["Traceback (most recent call last):"] if frames else []
    calls = "".join(frames.format())
    for file in {frame.filename for frame in frames}:
        calls = calls.replace(f'File "{file}"', f'File "{shown_file(file)}"')
    if isinstance(error, GraphcError):
        lines = [f"{PACKAGE}.{type(error).__name__}: {error}", *getattr(error, "__notes__", [])]
    else:
        place = [*describe(origin), *_meant(error)] if origin else []
        lines = [*"".join(traceback.format_exception_only(error)).splitlines(), *place, *_entry(error)]
    text = "\n".join([*header, *calls.splitlines(), *lines])
    return _coloured(text, type(error).__name__) if colour else text


def _misused(error: Exception) -> Origin | None:
    """The user's expression, where Python itself refuses what it asks of this package: a call with other arguments, a
    name that is not there."""
    last = [trace for _, trace in _traces(error.__traceback__)][-1:]
    if not last or not _is_users(last[0].tb_frame) or not _meant(error):
        return None
    return Origin(last[0].tb_frame.f_code, last[0].tb_lasti)


def _traces(trace: TracebackType | None) -> Iterator[tuple[FrameType, TracebackType]]:
    while trace is not None:
        yield trace.tb_frame, trace
        trace = trace.tb_next


def _meant(error: Exception) -> list[str]:
    """What could have been meant by a name or a call that this package does not have."""
    text = str(error)
    if isinstance(error, ImportError) and (found := re.search(r"cannot import name '(\w+)' from '([\w.]+)'", text)):
        return _indented(did_you_mean(found[1], dir(sys.modules[found[2]]))) if _is_own(found[2]) else []
    if isinstance(error, AttributeError) and _is_own(getattr(type(error.obj), "__module__", "")):
        return _indented(did_you_mean(error.name, (name for name in dir(error.obj) if name[:1] != "_")))
    call = re.match(r"([\w.<>]+)\(\) (got|takes|missing)\b", text) if isinstance(error, TypeError) else None
    known = _signature(call[1]) if call else None
    if known is None or call is None:
        return []
    wrong = re.search(r"unexpected keyword argument '(\w+)'", text)
    advice = did_you_mean(wrong[1], known.parameters) if wrong else []
    names = [name for name in known.parameters if name != "self"]
    if call[1] == "Function.__call__":
        return _indented(["a compiled function takes its arrays by place, in the order of its inputs: step(x, y)"])
    title = call[1].removesuffix(".__init__").removesuffix(".__call__")
    return _indented([*advice, f"{title} takes {', '.join(names) or 'nothing'}"])


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _signature(title: str) -> inspect.Signature | None:
    """Of the function of this package that has such a qualified name."""
    first, *rest = title.split(".")
    for name, module in list(sys.modules.items()):
        found: Any = vars(module).get(first) if _is_own(name) else None
        for part in rest:
            found = getattr(found, part, None)
        if found is not None and _is_own(getattr(found, "__module__", "")):
            return inspect.signature(found)
    return None


def _is_own(module: str) -> bool:
    return module.partition(".")[0] == PACKAGE


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
    return _is_own(frame.f_globals.get("__name__", ""))


def _is_users(frame: FrameType) -> bool:
    name: str = frame.f_globals.get("__name__", "")
    if _is_own(name) or name.partition(".")[0] == "IPython":
        return False
    return not frame.f_code.co_filename.startswith(("<frozen", *INSTALLED))


def _coloured(text: str, name: str) -> str:
    title = f"{PACKAGE}.{name}:"
    lines = text.replace(title, f"{RED}{title}{PLAIN}", 1).splitlines()
    return "\n".join(f"{RED}{line}{PLAIN}" if line.lstrip().startswith("^") else line for line in lines)


def is_ours(error: BaseException, trace: TracebackType | None) -> bool:
    """Whether it is an error of this package, came through it, or is what Python says to a wrong use of it."""
    if isinstance(error, GraphcError):
        return True
    chained = error.__cause__ or (error.__context__ and not error.__suppress_context__)
    through = _passes_through(trace) or (isinstance(error, Exception) and _misused(error) is not None)
    return through and not chained


def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Errors of this package or through it in short, all others as Python shows them."""
    if not isinstance(error, Exception) or not is_ours(error, trace):
        return sys.__excepthook__(kind, error, trace)
    print(report(error, wants_colour(sys.stderr)), file=sys.stderr)


def wants_colour(stream: TextIO) -> bool:
    """Whether a stream shows colours to somebody who wants them: NO_COLOR, with any value, says no."""
    return stream.isatty() and "NO_COLOR" not in os.environ

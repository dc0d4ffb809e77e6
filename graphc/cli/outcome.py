"""What commands end with: an exit status, a complaint in few lines, or data as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, TextIO

DONE, WRONG, MISUSED, INTERRUPTED = 0, 1, 2, 130  # the last is what shells take an interrupt for
RED, GREEN, BOLD, PLAIN = "\x1b[1;31m", "\x1b[32m", "\x1b[1m", "\x1b[0m"


class Misuse(Exception):
    """A command line that says nothing graphc can do; `details` tell what it could have meant."""

    def __init__(self, message: str, details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


class Failed(Exception):
    """The user's file failed; the text says all, as it does without this command line."""


def complain(error: object, details: Iterable[str] = ()) -> None:
    lines = [f"{coloured('error:', RED, sys.stderr)} {error}", *(f"  {line}" for line in details)]
    print("\n".join(lines), file=sys.stderr)


def coloured(text: str, colour: str, stream: TextIO) -> str:
    """The text in a colour if the stream shows colours to somebody who wants them."""
    if not stream.isatty():
        return text
    from graphc.report import wants_colour

    return f"{colour}{text}{PLAIN}" if wants_colour(stream) else text


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))

"""What every refused argument gives: the error form, in the file that is to blame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import graphc as gx


def check_refusal(call: Callable[..., Any], words: str, *given: Any, kind: type = gx.ArgumentError) -> None:
    """The call raises an error: the words in its first line, the origin in the file of the call, at most 8 lines."""
    with pytest.raises(kind) as caught:
        call(*given)
    error = caught.value
    assert words in error.message
    assert error.origin.file == call.__code__.co_filename
    assert len(str(error).splitlines()) <= 8


def line_of(file: str, marker: str) -> str:
    """The line of a file that ends with a marker comment, as errors name it: `<name>:<number>`."""
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if line.endswith(f"# {marker}"))
    return f"{Path(file).name}:{number}"

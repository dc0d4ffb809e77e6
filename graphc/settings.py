"""What an argument must be: a number, a whole number, a share, one of some names, a function; anything else is refused
with an ArgumentError on the user's line, before it can do harm further in.

Each check returns the argument, so that it can stand where the argument is used.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import ArgumentError
from graphc.ir.graph import user_origin

if TYPE_CHECKING:
    from pathlib import Path

MOST_SHOWN = 80  # characters of an argument in an error


def require(fits: bool, name: str, given: Any, text: str) -> None:
    """ArgumentError `name is given; it must be text` unless it fits."""
    if not fits:
        raise ArgumentError(f"{name} is {shown(given)}; it must be {text}", user_origin())


def shown(given: Any) -> str:
    """What an argument looks like, in one line that is not long."""
    text = " ".join(repr(given).split())
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"


def is_number(given: Any) -> bool:
    return isinstance(given, (int, float, np.integer, np.floating)) and not isinstance(given, bool)


def is_whole(given: Any) -> bool:
    return isinstance(given, (int, np.integer)) and not isinstance(given, bool)


def check_number(
    name: str, given: Any, least: float = -math.inf, most: float = math.inf, *, above: bool = False
) -> Any:
    """A number from `least` to `most`; with `above`, one more than `least`. NaN is refused."""
    fits = is_number(given) and least <= given <= most and not (above and given == least)
    bounds = [f"of at least {least}" if not above else f"above {least}"] if least > -math.inf else []
    bounds += [f"of at most {most}"] if most < math.inf else []
    require(fits, name, given, " ".join(["a number", " and ".join(bounds)]).rstrip())
    return given


def check_whole(name: str, given: Any, least: float = -math.inf) -> int:
    """A whole number of at least `least`, as an int."""
    limit = "" if least == -math.inf else f" of at least {least}"
    require(is_whole(given) and given >= least, name, given, f"a whole number{limit}")
    return int(given)


def check_share(name: str, given: Any) -> Any:
    """A number from 0 to 1, such as a probability."""
    require(is_number(given) and 0 <= given <= 1, name, given, "a number from 0 to 1")
    return given


def check_divisor(name: str, given: Any) -> Any:
    """A number other than 0."""
    require(is_number(given) and (given < 0 or given > 0), name, given, "a number other than 0")
    return given


def check_switch(name: str, given: Any) -> bool:
    require(isinstance(given, (bool, np.bool_)), name, given, "True or False")
    return bool(given)


def check_switches(**given: Any) -> None:
    """All of them, by their names, True or False."""
    for name, switch in given.items():
        check_switch(name, switch)


def check_list(name: str, given: Any, text: str = "a list") -> list[Any]:
    """Anything that can be gone through, as a list."""
    require(isinstance(given, Iterable) and not (isinstance(given, np.ndarray) and not given.ndim), name, given, text)
    return [*given]


def check_choice(name: str, given: Any, choices: Iterable[Any]) -> Any:
    """One of some names."""
    known = [*choices]
    fits = any(given is choice or (isinstance(given, str) and given == choice) for choice in known)
    if not fits:
        from graphc.suggestions import did_you_mean

        text = f"{name} is {shown(given)}; it must be one of {', '.join(map(repr, known))}"
        raise ArgumentError(text, user_origin(), did_you_mean(given, filter(is_text, known)))
    return given


def is_text(given: Any) -> bool:
    return isinstance(given, str)


def check_function(name: str, given: Any, takes: int | None = None) -> Any:
    """Something that can be called; with `takes`, with so many arguments."""
    number = "" if takes is None else f" of {takes} argument{'s' * (takes != 1)}"
    require(callable(given) and (takes is None or is_called_with(given, takes)), name, given, f"a function{number}")
    return given


def is_called_with(function: Any, count: int) -> bool:
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # some functions of C do not say what they take
        return True
    return True


def check_path(name: str, given: Any) -> Path:
    from pathlib import Path

    fits = isinstance(given, (str, os.PathLike)) and "\0" not in str(given)
    require(fits, name, given, "a path: a text or a pathlib.Path")
    return Path(given)

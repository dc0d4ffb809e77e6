"""Nested tuples, lists and dictionaries of tensors, taken apart and put together again; and records of results."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast


def leaves(structure: Any) -> Iterator[Any]:
    """Everything in a structure that is no tuple, list or dictionary, in order; None has no leaves."""
    if isinstance(structure, dict):
        for part in structure.values():
            yield from leaves(part)
    elif isinstance(structure, (tuple, list)):
        for part in structure:
            yield from leaves(part)
    elif structure is not None:
        yield structure


def rebuilt(structure: Any, items: Iterator[Any]) -> Any:
    """The structure with other leaves, taken from `items` in order."""
    if structure is None:
        return None
    if isinstance(structure, dict):
        return type(structure)((key, rebuilt(part, items)) for key, part in structure.items())
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(rebuilt(part, items) for part in structure))
    if isinstance(structure, (tuple, list)):
        return type(structure)(rebuilt(part, items) for part in structure)
    return next(items)


def mapped(change: Callable[[Any], Any], structure: Any) -> Any:
    """The structure with `change` of every leaf in its place."""
    return rebuilt(structure, map(change, leaves(structure)))


def same_form(one: Any, other: Any) -> bool:
    """Both are nested in the same way."""
    blank: Sequence[Any] = [mapped(lambda leaf: 0, each) for each in (one, other)]
    return bool(blank[0] == blank[1])


def record_of(fields: tuple[str, ...]) -> Any:
    """A named tuple of what a call returns, which can be pickled."""
    made = cast(Any, namedtuple("Record", fields, rename=True))
    made.__reduce__ = parts_of
    return made


def parts_of(record: Any) -> tuple[Any, ...]:
    return record_with, (record._fields, tuple(record))


def record_with(fields: tuple[str, ...], numbers: tuple[Any, ...]) -> Any:
    return record_of(fields)(*numbers)

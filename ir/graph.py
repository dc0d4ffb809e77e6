"""The tensor graph: immutable values, each the result of one op on earlier values."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from graphc.ir.frozen import dataclass
from graphc.ir.types import Dim, Shape, TensorType, round_up

if TYPE_CHECKING:
    from graphc.ir.ops.record import Op

PACKAGE = __name__.partition(".")[0]


class IRError(Exception):
    """A graph that is not well formed: what is wrong, with both values, and how to mend it."""


class TooLittleMemory(Exception):
    """No plan that is found fits into the memory there is; `least` bytes would do.

    whole  why the batch could not be taken in slices, and where
    """

    def __init__(self, least: int, whole: str = "", origin: Origin | None = None) -> None:
        self.least = least
        self.whole = whole
        self.origin = origin
        super().__init__(f"at least {least} bytes are needed")


class Origin(NamedTuple):
    """The user's expression a value comes from, the module path it ran in, and the part it plays.

    A tuple, since every value gets one while it is traced and nothing is made as quickly.

    role    "forward", "backward" or "update"
    module  path of the nn.Module that was running, "" outside of one
    """

    code: CodeType
    instruction: int
    module: str = ""
    role: str = "forward"

    def _positions(self) -> tuple[int | None, int | None, int | None, int | None]:
        for index, span in enumerate(self.code.co_positions()):
            if index * 2 == self.instruction:
                return span
        return (self.code.co_firstlineno, None, None, None)

    @property
    def file(self) -> str:
        return self.code.co_filename

    @property
    def function(self) -> str:
        return self.code.co_name

    @property
    def line(self) -> int:
        return self._positions()[0] or self.code.co_firstlineno

    @property
    def column(self) -> int | None:
        """First column of the expression, counted from 0."""
        return self._positions()[2]

    @property
    def end_column(self) -> int | None:
        """Column after the expression; None when it ends on another line."""
        first, last, _, end = self._positions()
        return end if first == last else None

    @property
    def span(self) -> tuple[int | None, int | None, int | None, int | None]:
        """First and last line, first column and the column after the expression."""
        return self._positions()

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"

    def __deepcopy__(self, memo: Any) -> Origin:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # a code object cannot leave the process


# What newly made values are stamped with; None means: look at the stack for the user's line.
_PLACE: ContextVar[Origin | None] = ContextVar("place", default=None)
_MODULE: ContextVar[str] = ContextVar("module", default="")
_ROLE: ContextVar[str] = ContextVar("role", default="forward")


BETWEEN = ("contextlib", "copy", "functools")  # Python's, whose frames stand between two of ours: nobody wrote there
_OWN: dict[str, bool] = {}  # whether modules of these names are this package's or such, as far as somebody asked


def user_origin() -> Origin | None:
    """The innermost frame outside this package, or None when there is none."""
    frame: Any = sys._getframe(1)
    try:
        while _OWN[frame.f_globals["__name__"]]:
            frame = frame.f_back
    except (KeyError, AttributeError):  # a module that is new here, one without a name, or no frame that is the user's
        frame = outer_frame(frame)
    return None if frame is None else tuple.__new__(Origin, (frame.f_code, frame.f_lasti, _MODULE.get(), _ROLE.get()))


def outer_frame(frame: FrameType | None) -> FrameType | None:
    """The first frame from this one outwards that is not of this package."""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        _OWN[name] = name.partition(".")[0] == PACKAGE or name in BETWEEN
        if not _OWN[name]:
            return frame
        frame = frame.f_back
    return None


def current_origin() -> Origin | None:
    """The origin a value made now gets."""
    return _PLACE.get() or user_origin()


@contextmanager
def located(origin: Origin | None, role: str | None = None) -> Iterator[None]:
    """Values made inside come from `origin`, in the given role if one is named."""
    if origin is not None and role is not None:
        origin = origin._replace(role=role)
    token = _PLACE.set(origin)
    try:
        yield
    finally:
        _PLACE.reset(token)


@contextmanager
def in_module(path: str) -> Iterator[None]:
    """Values made inside belong to the module of that path."""
    token = _MODULE.set(path)
    try:
        yield
    finally:
        _MODULE.reset(token)


@contextmanager
def in_role(role: str) -> Iterator[None]:
    """Values made inside play that part ("update" for an optimizer's arithmetic)."""
    token = _ROLE.set(role)
    try:
        yield
    finally:
        _ROLE.reset(token)


# Where values that are made now are noted, besides being returned; None: nowhere.
_MADE: ContextVar[set[Value] | None] = ContextVar("made", default=None)


@contextmanager
def recording() -> Iterator[set[Value]]:
    """The returned set gets every value made inside."""
    outer, made = _MADE.get(), set[Value]()
    token = _MADE.set(made)
    try:
        yield made
    finally:
        _MADE.reset(token)
        if outer is not None:
            outer |= made


def is_recording() -> bool:
    """Whether somebody notes the values that are made: they become the body of a loop or a branch."""
    return _MADE.get() is not None


def record(value: Value) -> Value:
    """The value itself, noted for whoever is recording."""
    made = _MADE.get()
    if made is not None:
        made.add(value)
    return value


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Value:
    """One tensor of the graph. Identity is equality: two equal values are one value.

    owner  what outside of the graph holds an input's numbers (a parameter, a scalar); no pass looks at it
    memo   what was found out about it, by whoever did, to be found once: a value never changes
    """

    op: Op
    operands: tuple[Value, ...]
    attrs: dict[str, Any]
    type: TensorType
    origin: Origin | None = None
    owner: object = None
    memo: dict[str, Any] = field(default_factory=dict, init=False)

    def __repr__(self) -> str:
        """Short: what a value is made of would show it as a tree, and that has no end."""
        return f"<{self.op.name} {self.type}>"

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> str:
        return self.type.dtype

    @property
    def role(self) -> str:
        return self.origin.role if self.origin else "forward"

    def key(self) -> tuple[Any, ...]:
        """Equal for two values that compute the same; constants compare by text, so 0.0 is not -0.0."""
        text = self.memo.get("attrs")
        if text is None:
            text = self.memo["attrs"] = repr(sorted(self.attrs.items()))
        return (self.op.name, self.operands, text, self.type)


@dataclass(frozen=True, slots=True)
class Output:
    """What a graph hands out.

    kind  "result": returned under `name`; "update": written into the state input called `name`;
          "check": an i64 scalar that must be 0, else the call fails with `name` as its message
    """

    kind: str
    name: str
    value: Value


@dataclass(frozen=True, slots=True)
class Graph:
    """A function from inputs to outputs; what the outputs do not reach is not in it."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Output, ...]
    memo: dict[str, Any] = field(default_factory=dict, repr=False, init=False, compare=False)

    def values(self) -> tuple[Value, ...]:
        """Every value the outputs need, operands before users (iterative: no recursion limit)."""
        found: tuple[Value, ...] | None = self.memo.get("values")
        if found is None:
            found = self.memo["values"] = tuple(reachable(tuple(output.value for output in self.outputs)))
        return found

    def of_role(self, role: str) -> tuple[Value, ...]:
        """The inputs of one role: "data", "state" or "scalar"."""
        return tuple(value for value in self.inputs if value.attrs["role"] == role)

    def of_kind(self, kind: str) -> tuple[Output, ...]:
        return tuple(output for output in self.outputs if output.kind == kind)

    @property
    def state_bytes(self) -> int:
        """Of the memory in which all states lie."""
        return sum(round_up(value.type.max_bytes) for value in self.of_role("state"))

    @property
    def dims(self) -> tuple[Dim, ...]:
        """Every symbolic dim of the inputs, in order of appearance."""
        return tuple(dict.fromkeys(dim for value in self.inputs for dim in value.type.dims()))


def reachable(roots: tuple[Value, ...]) -> Iterator[Value]:
    """The roots and all they depend on, operands before users."""
    seen: set[Value] = set()
    stack = [(value, False) for value in reversed(roots)]
    while stack:
        value, operands_done = stack.pop()
        if operands_done:
            yield value
        elif value not in seen:
            seen.add(value)
            stack.append((value, True))
            stack.extend((operand, False) for operand in reversed(value.operands) if operand not in seen)

"""Frozen dataclasses with slots, made in a tenth of the time that `dataclasses` takes.

That module writes and compiles about eight methods for every class, half a millisecond each time Python starts. Here
all classes share theirs, but for `__init__`, which is compiled when a class is first used. To type checkers, to
`dataclasses.replace` and its kin and to pattern matching these are dataclasses like any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError
from operator import attrgetter, ge, gt, le, lt
from typing import TYPE_CHECKING, Any

Methods = dict[str, Any]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(
        *, frozen: bool, slots: bool, eq: bool = True, repr: bool = True, order: bool = False
    ) -> Callable[[type], type]:
        """`dataclasses.dataclass` for classes without parents; frozen and slots must be True."""
        if not (frozen and slots):
            raise TypeError("these dataclasses are frozen and have slots")
        return lambda cls: make(cls, eq, repr, order)


def make(cls: type, eq: bool, repr: bool, order: bool) -> type:
    fields = {name: as_field(cls.__dict__.get(name, MISSING)) for name in cls.__annotations__}
    methods = freezing(tuple(fields)) | {
        "__init__": first_init(fields),
        "__match_args__": tuple(name for name, field in fields.items() if field.init),
        "__dataclass_fields__": FieldsWhenAsked(cls, fields),
    }
    if repr:
        methods["__repr__"] = representation([name for name, field in fields.items() if field.repr])
    if eq:
        methods |= comparison([name for name, field in fields.items() if field.compare is not False], order)
    kept = {name: own for name, own in cls.__dict__.items() if name not in {*fields, "__dict__", "__weakref__"}}
    members = {**methods, **kept, "__slots__": tuple(fields), "__qualname__": cls.__qualname__}
    return type(cls)(cls.__name__, cls.__bases__, members)


def as_field(default: Any) -> Field[Any]:
    return default if isinstance(default, Field) else dataclasses.field(default=default)


class FieldsWhenAsked:
    """`__dataclass_fields__`, in which `dataclasses` looks for what it is not told by methods."""

    def __init__(self, written: type, fields: dict[str, Field[Any]]) -> None:
        self.written = written
        self.fields = fields

    def __get__(self, instance: object, owner: type) -> dict[str, Field[Any]]:
        for name, field in self.fields.items():
            field.name, field.type = name, self.written.__annotations__[name]
            field._field_type = dataclasses._FIELD  # type: ignore[attr-defined]
        owner.__dataclass_fields__ = self.fields  # type: ignore[attr-defined]
        return self.fields


# -- methods


def first_init(fields: dict[str, Field[Any]]) -> Callable[..., None]:
    def __init__(self: Any, *given: Any, **named: Any) -> None:
        own = type(self)
        own.__init__ = compiled_init(own, fields)
        own.__init__(self, *given, **named)

    return __init__


def compiled_init(cls: type, fields: dict[str, Field[Any]]) -> Any:
    """It writes into the slots themselves, past the guard of `__setattr__`."""
    space: Methods = {"MISSING": MISSING}
    parameters, lines = [], []
    for name, field in fields.items():
        space |= {f"set_{name}": cls.__dict__[name].__set__, f"new_{name}": field.default_factory}
        value = name
        if field.default_factory is not MISSING:
            value = f"new_{name}() if {name} is MISSING else {name}" if field.init else f"new_{name}()"
        if field.init and (field.default is not MISSING or field.default_factory is not MISSING):
            space[f"default_{name}"] = field.default
            parameters.append(f"{name}=default_{name}")
        elif field.init:
            parameters.append(name)
        lines.append(f"    set_{name}(self, {value})")
    exec("\n".join([f"def __init__(self, {', '.join(parameters)}):", *lines]), space)
    return space["__init__"]


def freezing(names: tuple[str, ...]) -> Methods:
    def __setattr__(self: Any, name: str, value: Any) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self: Any, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __getstate__(self: Any) -> list[Any]:
        return [getattr(self, name) for name in names]

    def __setstate__(self: Any, state: list[Any]) -> None:
        for name, value in zip(names, state, strict=True):
            object.__setattr__(self, name, value)

    return {each.__name__: each for each in (__setattr__, __delattr__, __getstate__, __setstate__)}


def representation(names: list[str]) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    return __repr__


def comparison(names: list[str], order: bool) -> Methods:
    get = attrgetter(*names)
    key = get if len(names) > 1 else lambda self: (get(self),)

    def __eq__(self: Any, other: Any) -> Any:
        return key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(key(self))

    def ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
        def method(self: Any, other: Any) -> Any:
            return compare(key(self), key(other)) if other.__class__ is self.__class__ else NotImplemented

        return method

    orders = {f"__{compare.__name__}__": ordered(compare) for compare in (lt, le, gt, ge)} if order else {}
    return {"__eq__": __eq__, "__hash__": __hash__, **orders}

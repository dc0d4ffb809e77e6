"""Modules and parameters in rows, lists and dictionaries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Self

from graphc.errors import ArgumentError
from graphc.ir.graph import user_origin
from graphc.nn.module import Module
from graphc.settings import check_list, check_whole, require
from graphc.tensor import Parameter, Tensor


class Holder(Module):
    """A module whose parts are what it is for."""

    def _held(self) -> dict[str, Any]:
        return self._modules  # type: ignore[no-any-return]

    def _put(self, name: str, part: Any) -> None:
        self.add_module(name, part)

    def __len__(self) -> int:
        return len(self._held())


class ParameterHolder(Holder):
    """The same with parameters for parts; arrays become parameters."""

    def _held(self) -> dict[str, Any]:
        return self._parameters  # type: ignore[no-any-return]

    def _put(self, name: str, part: Any) -> None:
        known = part is None or isinstance(part, Module | Tensor)
        self.register_parameter(name, part if known else Parameter(part))

    def extra_repr(self) -> str:
        return "\n".join(f"({name}): {parameter.type}" for name, parameter in self._parameters.items())


class Indexed(Holder):
    """Parts in a row, under the names 0, 1, 2 …"""

    def __iter__(self) -> Iterator[Any]:
        return iter(self._held().values())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._of(list(self._held().items())[index])
        return self._held()[self._name_at(index)]

    def __setitem__(self, index: int, part: Any) -> None:
        self._put(self._name_at(index), part)

    def __delitem__(self, index: int | slice) -> None:
        parts = list(self)
        del parts[index if isinstance(index, slice) else check_whole("index", index)]
        self._renumber(parts)

    def __iadd__(self, parts: Iterable[Any]) -> Self:
        return self.extend(parts)

    def append(self, part: Any) -> Self:
        """One more at the end, under the first free number."""
        number = len(self)
        while str(number) in self._held():
            number += 1
        self._put(str(number), part)
        return self

    def extend(self, parts: Iterable[Any]) -> Self:
        for part in check_list("parts", parts, "a list of the parts to add"):
            self.append(part)
        return self

    def insert(self, index: int, part: Any) -> Self:
        """One more before an index; all get new numbers."""
        parts = list(self)
        parts.insert(check_whole("index", index), part)
        self._renumber(parts)
        return self

    def pop(self, index: int = -1) -> Any:
        """Take one out; the others get new numbers."""
        part = self[index]
        del self[index]
        return part

    def _name_at(self, index: int) -> str:
        names, index = list(self._held()), check_whole("index", index)
        if not -len(names) <= index < len(names):
            raise IndexError(f"index {index} is outside of {type(self).__name__} with {len(names)} parts")
        return names[index]

    def _of(self, named: Iterable[tuple[str, Any]]) -> Self:
        """Another of its kind with some of its parts, which are numbered anew."""
        return type(self).__new__(type(self)).extend(part for _, part in named)

    def _renumber(self, parts: Iterable[Any]) -> None:
        self._held().clear()
        self.extend(parts)


class Sequential(Indexed):
    """Each module on the result of the one before; from modules, or from an OrderedDict that names them."""

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], list | tuple):
            advice = ["put a * before it: nn.Sequential(*modules)"]
            raise ArgumentError("Sequential takes modules one by one, got a list of them", user_origin(), advice)
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named = list(modules[0].items())
        else:
            named = [(str(number), module) for number, module in enumerate(modules)]  # type: ignore[misc]
        for name, module in named:
            self.add_module(name, module)

    def __add__(self, other: Sequential) -> Sequential:
        return Sequential(*self, *other) if isinstance(other, Sequential) else NotImplemented

    def _of(self, named: Iterable[tuple[str, Any]]) -> Self:
        """Another of its kind with some of its modules under the same names, as in PyTorch."""
        part = type(self).__new__(type(self))
        for name, module in named:
            part.add_module(name, module)
        return part

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


class ModuleList(Indexed):
    """A list whose modules belong to the module that holds it."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *check_list("other", other, "a list of modules")])


class ParameterList(ParameterHolder, Indexed):
    """A list whose parameters belong to the module that holds it; arrays become parameters."""

    def __init__(self, values: Iterable[Any] = ()) -> None:
        super().__init__()
        self.extend(values)


class Named(Holder, MutableMapping[str, Any]):
    """Parts under names, with the methods of a dictionary."""

    __hash__ = Module.__hash__
    __eq__ = Module.__eq__  # modules are equal when they are the same one, whatever they hold

    def __getitem__(self, key: str) -> Any:
        return self._held()[key]

    def __setitem__(self, key: str, part: Any) -> None:
        self._put(key, part)

    def __delitem__(self, key: str) -> None:
        del self._held()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held())


class ModuleDict(Named):
    """A dictionary whose modules belong to the module that holds it."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        super().__init__()
        self.update(named_parts("modules", modules))


class ParameterDict(ParameterHolder, Named):
    """A dictionary whose parameters belong to the module that holds it; arrays become parameters."""

    def __init__(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        super().__init__()
        self.update(named_parts("parameters", parameters))

    def copy(self) -> ParameterDict:
        """Another dictionary of the same parameters."""
        return ParameterDict(self)


def named_parts(name: str, given: Any) -> Mapping[str, Any]:
    """A dictionary, or pairs that make one."""
    if isinstance(given, Mapping):
        return given
    text = "a dict, or a list of (name, part)"
    pairs = check_list(name, given, text)
    require(all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs), name, given, text)
    return dict(pairs)

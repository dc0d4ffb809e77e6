"""Modules made of modules in a row."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, overload

from graphc.nn.module import Module


class Indexed(Module):
    """Modules in a row, under the names 0, 1, 2 …"""

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    @overload
    def __getitem__(self, index: int) -> Module: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> Module | Self:
        if isinstance(index, slice):
            return self._of(list(self._modules.items())[index])
        return self._modules[self._name_at(index)]  # type: ignore[no-any-return]

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._name_at(index), module)

    def _name_at(self, index: int) -> str:
        names: list[str] = list(self._modules)
        if not -len(names) <= index < len(names):
            raise IndexError(f"index {index} is outside of {type(self).__name__} with {len(names)} modules")
        return names[index]

    def _of(self, named: list[tuple[str, Module]]) -> Self:
        raise NotImplementedError

    def append(self, module: Module) -> Self:
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        for module in modules:
            self.append(module)
        return self


class Sequential(Indexed):
    """Each module on the result of the one before; from modules, or from an OrderedDict that names them."""

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named = list(modules[0].items())
        else:
            named = [(str(number), module) for number, module in enumerate(modules)]  # type: ignore[misc]
        for name, module in named:
            self.add_module(name, module)

    def _of(self, named: list[tuple[str, Module]]) -> Self:
        return type(self)(OrderedDict(named))

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


class ModuleList(Indexed):
    """A list whose modules belong to the module that holds it."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def _of(self, named: list[tuple[str, Module]]) -> Self:
        return type(self)(module for _, module in named)

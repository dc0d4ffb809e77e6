"""Packages that gather names from their modules without importing these before somebody asks for one.

Such a package writes its imports as ever, for people, type checkers and editors, where Python does not run them:

    if TYPE_CHECKING:
        from graphc.nn.linear import Linear
    else:
        __getattr__, __dir__ = imports_above(__name__)
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import Any


def imports_above(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of the package that calls this, from the import statements it did not run.

    A name comes from the module that it is imported from there, and else from the first of those imported with `*` that
    exports it; those that are loaded anyway are asked first. `__all__` of the package is all names, with those of
    imports that did run.
    """
    own = sys.modules[package].__dict__
    sources: dict[str, tuple[str, str]] = {}
    stars: list[str] = []
    for module, name, alias in imports(sys._getframe(1).f_code):
        if name == "*":
            stars.append(module)
        elif module not in ("typing", __name__):
            sources[alias] = module, name

    def get(name: str) -> Any:
        if name == "__all__":
            return names()
        if name in sources:
            module, original = sources[name]
            found = import_module(f"{module}.{original}") if module == package else member(module, original)
        else:
            found = starred(name)
        own[name] = found
        return found

    def starred(name: str) -> Any:
        for module in sorted(stars, key=lambda module: module not in sys.modules):
            if may_export(module, name) and exports(import_module(module), name):
                return member(module, name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted({*sources, *(name for module in stars for name in import_module(module).__all__)})

    return get, names


def imports(code: CodeType) -> Iterator[tuple[str, str, str]]:
    """(module, name in it, name here) of every `from` import in the code; ("module", "*", "") where all is imported."""
    module = name = ""
    names: Any = ()
    for each in dis.get_instructions(code):
        if each.opname == "LOAD_CONST":
            names = each.argval
        elif each.opname == "IMPORT_NAME":
            module = each.argval
            if names == ("*",):
                yield module, "*", ""
        elif each.opname == "IMPORT_FROM":
            name = each.argval
        elif each.opname == "STORE_NAME" and name:
            yield module, name, each.argval
            name = ""


def member(module: str, name: str) -> Any:
    return getattr(import_module(module), name)


def may_export(module: str, name: str) -> bool:
    """Whether it is worth while to import a module that is asked for a name: its code speaks of it, in a list or alone.

    Code that is only looked at is let go again; a module stays.
    """
    if module in sys.modules:
        return True
    find = getattr(getattr(find_spec(module), "loader", None), "get_code", None)
    code = None if find is None else find(module)
    if code is None or "__getattr__" in code.co_names:
        return True
    return any(name in known for known in (code.co_consts, *code.co_consts) if isinstance(known, tuple))


def exports(module: ModuleType, name: str) -> bool:
    """Whether `from module import *` would bring the name, asked without bringing all."""
    find = vars(module).get("__getattr__")
    if find is None:
        return name in module.__all__
    try:
        find(name)
    except AttributeError:
        return False
    return True

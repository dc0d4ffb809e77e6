"""A program's LLVM IR in parts that are compiled one by one, so that what programs have in common is compiled once.

A part is one function that is not copied into its callers, with copies of those that are. What the entry calls nests
is called after its own text here, so that equal parts of different programs have one name and one object.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

from graphc.ir.frozen import dataclass

_DEFINITION = re.compile(r"^define ([^@\n]*)@([\w.]+)\(([^\n]*)\)(?: [^()\n]*)? \{\n.*?^\}\n", re.MULTILINE | re.DOTALL)
_DECLARATION = re.compile(r"^declare [^@\n]*@([\w.]+)\(.*\n", re.MULTILINE)
_NAME = re.compile(r"@([\w.]+)")
_OF_PARAMETERS = re.compile(r" (?:noalias|%[\w.]+)")


@dataclass(frozen=True, slots=True)
class Unit:
    """LLVM IR of a part, and whether other programs may have it too."""

    text: str
    is_common: bool


@dataclass(frozen=True, slots=True)
class _Function:
    """A definition, from its type on: `own` is the entry's, `copied` into its callers; `used` are the names in it."""

    name: str
    text: str
    declaration: str
    own: bool
    copied: bool
    used: tuple[str, ...]


def cut(modules: Sequence[str], exports: Sequence[str]) -> list[Unit]:
    """The units of a program whose functions `exports` are called from outside: these are in one, the last."""
    text = "\n".join(modules)
    functions = {function.name: function for function in map(_function, _DEFINITION.finditer(text))}
    declared = {found[1]: found[0] for found in _DECLARATION.finditer(text)}
    declared |= {function.name: function.declaration for function in functions.values()}
    roots = [each for each in functions.values() if not each.copied]
    units: dict[str, Unit] = {}
    names: dict[str, str] = {}
    for function in roots:
        needed, called = _gathered([function], functions)
        if function.name in exports or any(name in functions and functions[name].own for name in called):
            continue
        alone = [f"define {function.text}", *_hidden(needed[1:]), *(declared[name] for name in called)]
        name = _own_name(function, alone, functions) if function.own else function.name
        names[function.name] = name
        units[name] = Unit(_with_names(alone, {function.name: name}), True)
    needed, called = _gathered([each for each in roots if each.name not in names], functions)
    visible = [f"define {each.text}" for each in needed if each.name in exports]
    hidden = _hidden(each for each in needed if each.name not in exports)
    others = {names.get(name, name): declared[name] for name in called}
    return [*units.values(), Unit(_with_names([*visible, *hidden, *others.values()], names), False)]


def _function(found: re.Match[str]) -> _Function:
    head, name, parameters = found[1], found[2], found[3]
    text = found[0].removeprefix("define ").removeprefix("internal ")
    kind = head.removeprefix("internal ")
    declaration = f"declare {kind}@{name}({_OF_PARAMETERS.sub('', parameters)})\n"
    used = dict.fromkeys(_NAME.findall(text))
    copied = "alwaysinline" in text.partition("\n")[0]
    return _Function(name, text, declaration, kind != head, copied, tuple(used)[1:])


def _gathered(
    roots: Sequence[_Function], functions: Mapping[str, _Function]
) -> tuple[list[_Function], dict[str, None]]:
    """(the roots and what is copied into them, the names of all else they use)."""
    needed = list(roots)
    seen = {function.name for function in roots}
    called: dict[str, None] = {}
    for function in needed:
        for name in function.used:
            if name in functions and functions[name].copied and name not in seen:
                seen.add(name)
                needed.append(functions[name])
            elif name not in seen:
                called[name] = None
    return needed, called


def _hidden(functions: Iterable[_Function]) -> list[str]:
    return [f"define internal {function.text}" for function in functions]


def _own_name(function: _Function, texts: Sequence[str], functions: Mapping[str, _Function]) -> str:
    """A name that says which kernel is called and is the same for equal texts."""
    kernel = next((name for name in function.used if name in functions), function.name)
    digest = hashlib.sha256(_with_names(texts, {function.name: ""}).encode()).hexdigest()
    return f"{kernel}.{digest[:16]}"


def _with_names(texts: Sequence[str], names: Mapping[str, str]) -> str:
    return _NAME.sub(lambda found: f"@{names.get(found[1], found[1])}", "".join(texts))

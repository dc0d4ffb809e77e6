"""The reference from docstrings: which public names a page describes, and docstrings as reStructuredText."""

from __future__ import annotations

import inspect
import re
from pydoc import locate
from typing import Any

COLUMN = re.compile(r"(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*) {2,}(\S.*)")
SPAN = re.compile(r"(`+)(.+?)\1")
MARKUP = re.compile(r"([\\*_|`])")
PACKAGES = {"gx": "graphc", "functional": "graphc", **{name: f"graphc.{name}" for name in ("nn", "optim", "data")}}


def public(package: str) -> dict[str, Any]:
    """What a package offers, by name; packages in it have pages of their own."""
    module = locate(package)
    found = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    return {name: thing for name, thing in found.items() if not inspect.ismodule(thing)}


def chosen(package: str, modules: list[str], names: list[str]) -> dict[str, Any]:
    """The names that are listed, in that order, and those of the public ones that come from some modules."""
    listed = {name: getattr(locate(package), name) for name in names}
    return listed | {name: thing for name, thing in public(package).items() if origin(thing) in modules}


def origin(thing: Any) -> str | None:
    return getattr(thing, "__module__", None)


def described(package: str, names: dict[str, Any], members: str = "") -> list[str]:
    """reStructuredText that has autodoc describe each thing once, under its own name, with its other names.

    members  of classes, if not all that have words of their own are for users
    """
    lines: list[str] = []
    for name, thing in names.items():
        others = [other for other, same in names.items() if same is thing and other != name]
        if callable(thing) and thing.__name__ in others:
            continue
        if package != "graphc" and public("graphc").get(name) is thing:
            lines += [f".. py:class:: {package}.{name}", "", f"   The same as :py:obj:`gx.{name} <graphc.{name}>`.", ""]
        elif inspect.isclass(thing):
            shown = [f"   :members: {members}"] if members or shows_members(thing) else []
            lines += [f".. autoclass:: {package}.{name}", *shown, ""]
        elif callable(thing):
            lines += [f".. autofunction:: {package}.{name}", ""]
        else:
            lines += [f".. py:data:: {package}.{name}", ""]
        if others:
            lines += [f"   Also {', '.join(f'``{other}``' for other in others)}.", ""]
    return lines


def shows_members(thing: type) -> bool:
    """Methods are described where they come from; layers and optimizers of one kind have the same."""
    above = [base for base in thing.__mro__[1:] if (origin(base) or "").startswith("graphc.")]
    return not above and not issubclass(thing, BaseException)


def restructured(lines: list[str]) -> list[str]:
    """A docstring as reStructuredText: names with what they mean in a second column become a list of definitions."""
    made: list[str] = []
    form = "words"  # or "column", or "program", which is indented
    for line in lines:
        before, column = form, COLUMN.fullmatch(line)
        if column:
            form, text = "column", [f"**{escaped(column[1])}**", f"   {marked(column[2])}"]
        elif form == "column" and line.startswith("  "):
            text = [f"   {marked(line.strip())}"]
        elif line.startswith("    "):
            form, text = "program", [*(["::", ""] if form != "program" else []), line]
        else:
            form, text = form if not line else "words", [marked(line)]
        if form != before and made and made[-1]:
            made.append("")
        made += text
    return made


def escaped(text: str) -> str:
    return MARKUP.sub(r"\\\1", text)


def marked(text: str) -> str:
    """A line with its code as code, linked where that is the name of something described, and all else as it stands."""
    made, last = "", 0
    for span in SPAN.finditer(text):
        made += escaped(text[last : span.start()]) + code(span[2], after=text[span.end() : span.end() + 1])
        last = span.end()
    return made + escaped(text[last:])


def code(text: str, after: str) -> str:
    package, _, name = text.rpartition(".")
    known = PACKAGES.get(package)
    made = f":py:obj:`{text} <{known}.{name}>`" if known and name.isidentifier() else f"``{text.strip()}``"
    return made + ("\\ " if after.isalnum() else "")

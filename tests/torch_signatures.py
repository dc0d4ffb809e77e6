"""Writes how the functions and classes of pytorch_names.py are called in PyTorch.

Run by hand where PyTorch is installed: `python tests/torch_signatures.py`. It makes golden/torch_signatures.json: from
addresses to their calls, each the parameters of a lambda, without those of MACHINERY and OLD. Operands, which are the
required tensors at the start, are positional only, since nobody names them. A default of `...` is one that is neither
a number nor a string nor a tuple of these.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from functools import cache, reduce
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_names import MACHINERY, OLD, OLD_CALLS, SUBJECTS

GOLDEN = Path(__file__).parent / "golden"
STUBS = {"torch": "_C/_VariableFunctions.pyi", "torch.nn.functional": "_C/_nn.pyi", "torch.Tensor": "_C/__init__.pyi"}
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
REQUIRED = inspect.Parameter.empty


@cache
def stubs(owner: str) -> dict[str, list[inspect.Signature]]:
    """The calls that a stub file declares: of functions, or of the methods of tensors for torch.Tensor."""
    tree: Any = ast.parse((Path(torch.__file__).parent / STUBS[owner]).read_text(encoding="utf-8"))
    if owner == "torch.Tensor":
        (tree,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "TensorBase")
    found: dict[str, list[inspect.Signature]] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, []).append(declared(node.args))
    return found


def declared(arguments: ast.arguments) -> inspect.Signature:
    """The signature that a stub declares; annotations stay text."""
    kinds, first = inspect.Parameter, len(arguments.args) - len(arguments.defaults)
    rows: list[tuple[ast.arg | None, Any, ast.expr | None]] = [
        (argument, kinds.POSITIONAL_OR_KEYWORD, arguments.defaults[place - first] if place >= first else None)
        for place, argument in enumerate(arguments.args)
    ]
    rows.append((arguments.vararg, kinds.VAR_POSITIONAL, None))
    rows += [(each, kinds.KEYWORD_ONLY, value) for each, value in zip(arguments.kwonlyargs, arguments.kw_defaults)]
    kept = [(argument, kind, value_of(default)) for argument, kind, default in rows if argument]
    return inspect.Signature(
        [kinds(each.arg, kind, default=default, annotation=text_of(each.annotation)) for each, kind, default in kept]
    )


def text_of(annotation: ast.expr | None) -> str:
    return ast.unparse(annotation) if annotation else ""


def value_of(default: ast.expr | None) -> Any:
    if default is None:
        return REQUIRED
    try:
        return ast.literal_eval(default)
    except ValueError:
        return ...


def calls(owner: str, name: str) -> list[inspect.Signature]:
    """The signatures of what has this address: several of what is overloaded, none where nothing tells."""
    thing = at(f"{owner}.{name}")
    if not callable(thing):
        return []
    if owner == "torch.nn.functional":
        thing = getattr(F, f"{name}_with_indices", thing)  # what dispatches to it has no signature
    try:
        return [inspect.signature(thing)]
    except ValueError:
        places = ("torch.nn.functional", "torch") if owner == "torch.nn.functional" else (owner,)
        return next((stubs(place)[name] for place in places if name in stubs(place)), [])


def at(address: str) -> Any:
    """What PyTorch has there, or None."""
    return reduce(lambda thing, name: getattr(thing, name, None), address.split(".")[1:], torch)


def written(signatures: list[inspect.Signature], of_tensors: bool) -> list[str]:
    """For each the parameters of a lambda that is called in this way, none of them twice."""
    calls = [list(each.parameters.values()) for each in signatures]
    operands = {part.name for parts in calls for part in takewhile(is_operand, parts)} if of_tensors else set()
    texts = dict.fromkeys(lambda_of(parts, operands) for parts in calls)
    return [text for text in texts if not any(old in text for old in OLD_CALLS)]


def lambda_of(parts: list[inspect.Parameter], operands: set[str]) -> str:
    first = list(takewhile(lambda part: part.name in operands, parts))
    texts = [part.name for part in first] + ["/"] * bool(first)
    starred = False
    for part in parts[len(first) :]:
        if part.name in OLD | MACHINERY or (part.kind is part.KEYWORD_ONLY and not starred):
            texts += ["*"] * (not starred)
            starred = True
        if part.name not in OLD | MACHINERY:
            starred |= part.kind is part.VAR_POSITIONAL
            texts.append(str(inspect.Parameter(part.name, part.kind)) + default_of(part))
    return ", ".join(texts).removesuffix("*").removesuffix(", ")


def is_operand(parameter: inspect.Parameter) -> bool:
    """Whether it is a required tensor; of what has no annotation, whether it is required."""
    if parameter.kind not in POSITIONAL or parameter.default is not REQUIRED:
        return False
    named = parameter.name in ("self", "func", "obj", "f") or parameter.annotation is REQUIRED
    return named or "Tensor" in str(parameter.annotation)


def default_of(parameter: inspect.Parameter) -> str:
    if parameter.default is REQUIRED:
        return ""
    plain = all(isinstance(each, (int, float, str, type(None))) for each in as_tuple(parameter.default))
    return f"={parameter.default!r}" if plain else "=..."


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def addresses() -> Iterator[tuple[str, str]]:
    """Where PyTorch has the names, but for torch.name where that is an inside of torch.nn.functional.name."""
    for owners, _, names in SUBJECTS.values():
        for name in names.replace("/", " ").split():
            there = [owner for owner in owners if at(f"{owner}.{name}") is not None]
            both = {"torch", "torch.nn.functional"} <= set(there)
            inside = both and not getattr(torch, name).__doc__ and settings(there[0], name) != settings(there[1], name)
            yield from ((owner, name) for owner in there[inside:])


def settings(owner: str, name: str) -> list[tuple[str, bool]]:
    """The names of arguments, and whether they are words: insides have others, and numbers for words."""
    parts = (part for call in calls(owner, name)[:1] for part in call.parameters.values())
    return [(part.name, isinstance(part.default, str)) for part in parts if part.name not in MACHINERY | OLD]


if __name__ == "__main__":
    stored = {}
    for owner, name in addresses():
        stored[f"{owner}.{name}"] = written(calls(owner, name), name.rpartition(".")[2][0].islower())
        forward = at(f"{owner}.{name}.forward")
        if owner == "torch.nn" and forward:
            stored[f"{owner}.{name}.forward"] = written([inspect.signature(forward)], True)
    text = ",\n".join(f"{json.dumps(address)}: {json.dumps(each)}" for address, each in stored.items())
    (GOLDEN / "torch_signatures.json").write_text(f"{{\n{text}\n}}\n", encoding="utf-8")

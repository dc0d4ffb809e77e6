"""What graphc has of PyTorch, for docs/pytorch.md: every state is found by looking, none is claimed.

A name is looked up in graphc, its arguments are compared with those that PyTorch 2.13 takes, and its cases with stored
numbers, or else the tests that have NumPy's numbers, are searched for it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from pytorch_cases import first_cases, tested_in
from pytorch_names import ADDRESSES, DIFFERENT, OWN, SUBJECTS

import graphc as gx

SIGNATURES = json.loads((Path(__file__).parent / "golden" / "torch_signatures.json").read_text(encoding="utf-8"))
SPELLINGS = {"axis": ("dim", "dims"), "keepdims": ("keepdim",)}  # the names are the same here, and either is taken
REQUIRED = inspect.Parameter.empty

INTRODUCTION = """\
# PyTorch's names in graphc

Made by `python -m pytest tests/test_pytorch_table.py --update-golden`; do not edit. PyTorch is 2.13.

What a row says was found by a program. It looked for the name in graphc (`gx` for `torch`), compared the arguments with
PyTorch's (names, order, defaults), and looked for a test:

- **same**: values and gradients are PyTorch's, by numbers stored from PyTorch, to 1e-5 for f32 and 1e-10 for f64,
  compiled and by the NumPy reference. The last column names the file in `tests/golden` and a case.
- **same, NumPy's numbers**: the last column names the test, which compares with NumPy, with differences, or with what
  must come out.
- **differs**: what is different; the last column says where the rest is checked.
- **not here**.

Everywhere: tensors are given by position, not as `input=` or `other=`. `axis` and `keepdims` are `dim` and `keepdim`.
Functions that end in `_`, but for those of `nn.init` and of gradients, and the arguments `out`, `device`, `layout`,
`requires_grad`, `generator`, `foreach`, `fused` and their like have no meaning in a compiled graph; `inplace` is
accepted by layers, which never overwrite anything. Floats are f32 or f64.
"""


@dataclass(frozen=True)
class Row:
    """A function or class: PyTorch's names of it, graphc's, its state, and where that was checked."""

    subject: str
    names: tuple[str, ...]
    found: tuple[str, ...]
    state: str
    checked: str


def rows() -> Iterator[Row]:
    for subject, (owners, tests, groups) in SUBJECTS.items():
        for group in groups.split():
            given = (f"{owner}.{name}" for name in group.split("/") for owner in owners)
            yield row(subject, [address for address in given if address in SIGNATURES], tests.split())


def row(subject: str, addresses: list[str], tests: list[str]) -> Row:
    places = {address: place_of(address) for address in addresses}
    things = {address: thing for address, place in places.items() if (thing := thing_at(place)) is not None}
    said = DIFFERENT.get(addresses[0].rpartition(".")[2], DIFFERENT.get(addresses[0], ""))
    if not things or any(refused(thing) for thing in things.values()):
        return Row(subject, tuple(addresses), (), "not here" + f": {said}" * bool(said), "")
    stored = next((case for thing in things.values() if (case := first_cases().get(id(thing)))), None)
    test = next((test for test in tests if any(tests_thing(test, *each) for each in things.items())), None)
    lacking = [f"no `{shown(address)}`" for address in addresses if address not in things]
    unlike = [misfit for address, thing in things.items() for misfit in misfits(address, thing)]
    different = list(dict.fromkeys([said] * bool(said) + lacking + unlike))
    state = f"differs: {', '.join(different)}" if different else "same" if stored else "same, NumPy's numbers"
    checked = f"{stored[0]}: `{stored[1]}`" if stored else f"`{test}`" if test else ""
    return Row(subject, tuple(addresses), tuple(places[each] for each in things), state if checked else "unchecked", checked)


def place_of(address: str) -> str:
    """Where graphc would have it."""
    return ADDRESSES.get(address, f"gx{address.removeprefix('torch')}")


def thing_at(place: str) -> Any:
    return reduce(lambda thing, name: getattr(thing, name, None), place.split(".")[1:], gx)


def refused(thing: Any) -> bool:
    """Whether it is there only to say why it is not."""
    return getattr(thing, "__annotations__", {}).get("return") == "NoReturn"


def tests_thing(test: str, address: str, thing: Any) -> bool:
    things, attributes = tested_in(test)
    owner, _, name = address.rpartition(".")
    return id(thing) in things or (owner.rpartition(".")[2][0].isupper() and name in attributes)


# -- arguments


def misfits(address: str, thing: Any) -> list[str]:
    """What PyTorch's calls of this name, all of them, give or expect that graphc's does not take."""
    calls = [inspect.signature(eval(f"lambda {text}: 0")) for text in SIGNATURES[address]]
    if not calls or not callable(thing) or "__" in address:
        return []
    own = list(inspect.signature(thing).parameters.values())
    return [misfit for call in calls for misfit in unlike(list(call.parameters.values()), own)]


def unlike(given: list[inspect.Parameter], own: list[inspect.Parameter]) -> Iterator[str]:
    """Arguments of a PyTorch call that do not fit these parameters."""
    places = [each for each in own if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    ends = {each.kind for each in own}
    for place, argument in enumerate(given):
        if argument.kind in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL):
            continue
        takers = [each for each in own if argument.name in names_of(each)]
        if argument.kind is not argument.KEYWORD_ONLY and not (
            place < len(places) and (argument.kind is argument.POSITIONAL_ONLY or places[place] in takers)
        ):
            if argument.VAR_POSITIONAL in ends:
                continue
            yield f"`{argument.name}` by keyword" if takers else f"no `{argument.name}`"
        elif argument.kind is not argument.POSITIONAL_ONLY and not takers:
            yield f"no `{argument.name}`"
        elif takers and differ(argument.default, takers[0].default):
            yield f"`{argument.name}` is {takers[0].default!r}, not {argument.default!r}"


def names_of(parameter: inspect.Parameter) -> tuple[str, ...]:
    return (parameter.name, *SPELLINGS.get(parameter.name, ()))


def differ(torchs: Any, own: Any) -> bool:
    """Whether defaults are two numbers or words that are not the same; None and () stand for any."""
    return isinstance(torchs, (int, float, str)) and isinstance(own, (int, float, str)) and torchs != own


# -- text


def shown(address: str) -> str:
    """torch.nn.functional is F, methods stand alone."""
    return address.replace("torch.nn.functional.", "F.").replace("torch.Tensor.", "Tensor.").replace("gx.functional", "gx")


def table() -> str:
    """docs/pytorch.md."""
    parts, everything = [INTRODUCTION], list(rows())
    for subject in SUBJECTS:
        listed = [each for each in everything if each.subject == subject]
        parts += [f"## {subject}\n", "| PyTorch | state | checked |\n|---|---|---|"]
        parts += [line(spellings(each.names), each.state, each.checked) for each in listed]
        parts.append("")
    parts += ["## graphc's own\n", "| graphc | what it is |\n|---|---|"]
    parts += [line(f"`{name}`", what) for name, what in OWN.items()]
    return "\n".join(parts) + "\n"


def line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def spellings(names: tuple[str, ...]) -> str:
    return " ".join(f"`{shown(name)}`" for name in names)


if __name__ == "__main__":
    print(table())

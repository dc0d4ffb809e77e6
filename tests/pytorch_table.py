"""What graphc has of PyTorch, for docs/pytorch.md: that something is the same is found by looking, not claimed.

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

from pytorch_cases import plainest_cases, tested_in
from pytorch_names import ADDRESSES, DIFFERENT, OWN, OWN_TESTS, SUBJECTS

import graphc as gx

SIGNATURES = json.loads((Path(__file__).parent / "golden" / "torch_signatures.json").read_text(encoding="utf-8"))
# NumPy's names of arguments, and PyTorch's for the same place
SPELLINGS = {
    "axis": ("dim", "dims"), "keepdims": ("keepdim",), "axes": ("dims",), "reps": ("dims",), "num": ("steps",),
    "stop": ("end",), "shape": ("size",), "axis0": ("dim0",), "axis1": ("dim1",),
}  # fmt: skip
REQUIRED = inspect.Parameter.empty

INTRODUCTION = """\
# PyTorch's names in graphc

Made by `python -m pytest tests/test_pytorch_table.py --update-golden`; do not edit. PyTorch is 2.13.

What a row says was found by a program. It looked for the name in graphc (`gx` for `torch`), compared the arguments with
PyTorch's (names, order, defaults), and looked for a test:

- **same**: values and gradients are PyTorch's, by numbers stored from PyTorch, to 1e-5 for f32 and 1e-10 for f64,
  compiled and by the NumPy reference. The last column names the file in `tests/golden` and a case.
- **same, tested**: not against numbers from PyTorch. The last column names the test, which compares with NumPy's
  numbers, with differences, or with what must come out.
- **differs**: in arguments, as compared, and in what else is said; the last column says where the rest is checked.
- **not here**.

`F` is `nn.functional`. Everywhere: tensors are given by position, not as `input=` or `other=`; `axis` and `keepdims`
may be written `dim` and `keepdim`. Functions that end in `_`, but for those of `nn.init`, of parameters and of
gradients, and the arguments `out`, `device`, `layout`, `requires_grad`, `generator`, `foreach`, `fused` and their like
have no meaning in a compiled graph; `inplace` is accepted by layers, which never overwrite anything.
"""


@dataclass(frozen=True)
class Row:
    """A function or class: PyTorch's names of it, graphc's, its state, and where that was checked."""

    subject: str
    names: tuple[str, ...]
    place: str
    state: str
    checked: str


def rows() -> Iterator[Row]:
    for subject, (owners, tests, groups) in SUBJECTS.items():
        for group in groups.split():
            given = (f"{owner}.{name}" for name in group.split("/") for owner in owners)
            yield row(subject, [address for address in given if address in SIGNATURES], tests.split())


def row(subject: str, addresses: list[str], tests: list[str]) -> Row:
    there = {address: thing for address in addresses if (thing := thing_at(place_of(address))) is not None}
    owner, name = addresses[0].split(".")[-2:]
    said = DIFFERENT.get(f"{owner}.{name}", DIFFERENT.get(name, ""))
    if not there or any(refused(thing) for thing in there.values()):
        return Row(subject, tuple(addresses), "", f"not here: {said}" if said else "not here", "")
    stored = next((case for thing in there.values() if (case := plainest_cases().get(id(thing)))), None)
    test = next((test for test in tests if any(is_tested(test, *each) for each in there.items())), None)
    lacking = [f"no `{shown(address)}`" for address in addresses if address not in there]
    unfit = [misfit for address, thing in there.items() for misfit in misfits(address, thing)]
    different = "; ".join(dict.fromkeys([*[said] * bool(said), *lacking, *unfit]))
    state = f"differs: {different}" if different else "same" if stored else "same, tested"
    checked = f"{stored[0]}: `{stored[1]}`" if stored else f"`{test}`" if test else ""
    place = place_of(next(iter(there)))
    return Row(subject, tuple(addresses), place, state if checked else "unchecked", checked)


def own_rows() -> Iterator[Row]:
    """What PyTorch has no name for."""
    for place, what in OWN.items():
        test = next((test for test in OWN_TESTS.split() if id(thing_at(place)) in tested_in(test)[0]), None)
        yield Row("graphc's own", (), place, what, f"`{test}`" if test else "")


def place_of(address: str) -> str:
    """Where graphc would have it."""
    return ADDRESSES.get(address, f"gx{address.removeprefix('torch')}")


def thing_at(place: str) -> Any:
    thing = reduce(lambda thing, name: getattr(thing, name, None), place.split(".")[1:], gx)
    return None if inspect.ismodule(thing) else thing


def refused(thing: Any) -> bool:
    """Whether it is there only to say why it is not."""
    return getattr(thing, "__annotations__", {}).get("return") == "NoReturn"


def is_tested(test: str, address: str, thing: Any) -> bool:
    """Whether a test uses it; of a class, whether it uses an attribute of that name."""
    things, attributes = tested_in(test)
    owner, _, name = address.rpartition(".")
    return id(thing) in things or (owner.rpartition(".")[2][0].isupper() and name in attributes)


# -- arguments


def misfits(address: str, thing: Any) -> list[str]:
    """What PyTorch's calls of this name, all of them, give or expect that graphc's does not take."""
    calls = [inspect.signature(eval(f"lambda {text}: 0")) for text in SIGNATURES[address]]
    if not calls or not callable(thing) or "__" in address:
        return []
    forward = f"{address}.forward"
    later = misfits(forward, thing.forward) if forward in SIGNATURES else []
    own = list(inspect.signature(thing).parameters.values())
    found = [misfit for call in calls for misfit in unlike(list(call.parameters.values()), own)]
    return found + [f"forward has {misfit}" for misfit in later]


def unlike(given: list[inspect.Parameter], own: list[inspect.Parameter]) -> Iterator[str]:
    """How arguments of a PyTorch call do not fit these parameters."""
    places = [each for each in own if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    named = {each.name: each for each in own if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)}
    kinds = {each.kind for each in own}
    for place, argument in enumerate(given):
        if argument.kind in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL):
            continue
        name, at_place = f"`{argument.name}`", places[place] if place < len(places) else None
        by_name = argument.name in named or argument.VAR_KEYWORD in kinds
        by_place = argument.VAR_POSITIONAL in kinds or (at_place is not None and argument.name in names_of(at_place))
        if argument.kind is argument.POSITIONAL_ONLY:
            if at_place is None and not by_place:
                yield f"no {name}"
        elif not by_name and (not by_place or argument.kind is argument.KEYWORD_ONLY):
            yield f"no {name}"
        elif not by_name and argument.VAR_POSITIONAL not in kinds:
            yield f"{name} by position"
        elif not by_place and argument.kind is argument.POSITIONAL_OR_KEYWORD:
            yield f"{name} by keyword"
        elif argument.name in named and are_unlike(argument.default, named[argument.name].default):
            yield f"{name} is {named[argument.name].default!r}, not {argument.default!r}"
        elif argument.default is not REQUIRED and at_place and at_place.default is REQUIRED:
            yield f"{name} must be given"


def names_of(parameter: inspect.Parameter) -> tuple[str, ...]:
    return (parameter.name, *SPELLINGS.get(parameter.name, ()))


def are_unlike(theirs: Any, own: Any) -> bool:
    """Whether defaults are numbers or words and not the same; nothing is said of None and (), which can mean any."""
    return isinstance(theirs, (int, float, str)) and isinstance(own, (int, float, str)) and theirs != own


# -- text


def shown(address: str) -> str:
    """As people write it: F for torch.nn.functional, Tensor for torch.Tensor, and no gx.functional."""
    for long, short in (("torch.nn.functional.", "F."), ("torch.Tensor.", "Tensor."), ("gx.nn.functional.", "F.")):
        address = address.replace(long, short)
    return address


def table() -> str:
    """docs/pytorch.md."""
    everything = [*rows(), *own_rows()]
    parts = [INTRODUCTION]
    for subject in dict.fromkeys(row.subject for row in everything):
        parts += [f"## {subject}", "", "| PyTorch | graphc | state | checked |", "|---|---|---|---|"]
        parts += [line(row) for row in everything if row.subject == subject] + [""]
    return "\n".join(parts)


def line(row: Row) -> str:
    names = " ".join(f"`{shown(name)}`" for name in row.names)
    cells = (names, f"`{shown(row.place)}`" if row.place else "", row.state, row.checked)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

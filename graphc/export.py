"""`gx.export`: compiled functions as files that run without Python."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphc import generator
from graphc.backends.artifact import passed
from graphc.backends.export.library import Labels, Library, Member, State, lay_out
from graphc.errors import TraceError
from graphc.function import Function, unique
from graphc.ir import ops
from graphc.ir.graph import user_origin
from graphc.ir.types import INTEGERS
from graphc.settings import require
from graphc.tensor import Parameter


def library_of(functions: Sequence[Function] | Mapping[str, Function], name: str) -> tuple[Library, list[Parameter]]:
    """The functions as a library, and the parameters that are its states, in their order."""
    named = named_functions(functions)
    taken: set[str] = set()
    holders: dict[Parameter, str] = {}
    for function in named.values():
        for own, parameter in function.parameters.items():
            if parameter not in holders:
                holders[parameter] = unique(own, taken)
    states = lay_out([state_of(parameter, title) for parameter, title in holders.items()])
    places = dict(zip(holders, states, strict=True))
    members = tuple(member_of(title, function, places) for title, function in named.items())
    return Library(name, members, states), list(holders)


def named_functions(functions: Any) -> dict[str, Function]:
    each = [functions] if isinstance(functions, Function) else functions
    text = "compiled functions: a list, or a dictionary {name in C: function}"
    require(isinstance(each, (Mapping, Sequence)) and not isinstance(each, str) and len(each) > 0, "functions", each, text)
    pairs = each.items() if isinstance(each, Mapping) else ((function_name(one), one) for one in each)
    found: dict[str, Function] = {}
    for name, function in pairs:
        require(isinstance(function, Function), "a function to export", function, text)
        if not re.fullmatch(r"[A-Za-z]\w*", str(name), re.ASCII):
            raise TraceError(f"{name!r} cannot name a C function; give a dictionary {{name: function}}", user_origin())
        if name in found:
            raise TraceError(f"two functions are called {name}; give a dictionary {{name: function}}", user_origin())
        found[str(name)] = function
    return found


def function_name(function: Any) -> str:
    return re.sub(r"\W", "_", getattr(function, "name", "function"), flags=re.ASCII)


def state_of(parameter: Parameter, name: str) -> State:
    is_generator = parameter is generator.state
    array = parameter.storage.array
    given = None if is_generator or parameter.initial is not None else array.copy()
    return State(name, parameter.input.type, 0, parameter.requires_grad, parameter.initial, given, is_generator)


def member_of(name: str, function: Function, places: Mapping[Parameter, State]) -> Member:
    graph = passed(function.traced)
    states = tuple(places[function.parameters[value.attrs["name"]]] for value in graph.of_role("state"))
    settings = tuple((value.attrs["name"], float(function.scalars[value.attrs["name"]].number)) for value in graph.of_role("scalar"))
    return Member(name, graph, states, settings, tuple(labels_of(function)))


def labels_of(function: Function) -> Any:
    for value in function.ranges:
        source = value.operands[0]
        if source.op is ops.input and source in function.inputs and source.dtype in INTEGERS:
            yield Labels(source.attrs["name"], value.attrs["low"], value.attrs["high"], value.attrs["message"])

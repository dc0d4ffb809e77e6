"""What is in a library, as JSON: the same text in the library and beside it, where files and targets are listed too."""

from __future__ import annotations

from typing import Any

from graphc.backends.export.library import ABI, Library
from graphc.backends.export.signatures import Argument, Face, Structure, checks_of, faces
from graphc.ir.graph import Value
from graphc.ir.types import TensorType

Described = dict[str, Any]


def describe(library: Library, version: str) -> Described:
    """Names, shapes, dtypes, places: all that a loader needs to know."""
    return {
        "name": library.name,
        "abi": ABI,
        "graphc": version,
        "layout": f"{library.layout_hash:016x}",
        "state_bytes": library.state_bytes,
        "parameters": sum(state.count for state in library.parameters),
        "states": [
            {"name": state.name, **kind(state.type), "offset": state.offset, "trains": state.trains}
            for state in library.states
        ],
        "functions": [function(face) for face in faces(library)],
    }


def function(face: Face) -> Described:
    graph = face.member.graph
    values = dict(zip((each.name for each in face.inputs), graph.of_role("data"), strict=True))
    return {
        "name": face.member.name,
        "trains": bool(graph.of_kind("update")),
        "inputs": [{"name": name, **kind(value.type), **limits(face, value)} for name, value in values.items()],
        "sizes": [
            {"name": size.name, "dim": dim.name, "most": dim.max}
            for size, dim in zip(face.sizes, graph.dims, strict=True)
        ],
        "settings": [
            {**field, "value": value}
            for field, (_, value) in zip(fields(face.settings), face.member.settings, strict=True)
        ],
        "numbers": fields(face.results),
        "arrays": [{"name": each.name, **kind(each.value.type)} for each in face.arrays],
        "epoch": face.has_epoch,
        "statuses": {str(status): text for status, text in checks_of(face)},
    }


def limits(face: Face, value: Value) -> Described:
    """The whole numbers that an input takes, from low to below high, where it is known."""
    found = (each for each in face.member.labels if each.name == value.attrs["name"])
    return next(({"low": each.low, "high": each.high} for each in found), {})


def kind(tensor_type: TensorType) -> Described:
    """Extents that are no numbers are formulas of dims."""
    shape = [extent if isinstance(extent, int) else str(extent) for extent in tensor_type.shape]
    return {"dtype": tensor_type.dtype, "shape": shape}


def fields(structure: Structure | None) -> list[Described]:
    if structure is None:
        return []
    return [field(each, offset) for each, offset in zip(structure.fields, structure.offsets, strict=True)]


def field(argument: Argument, offset: int) -> Described:
    return {"name": argument.name, "type": argument.kind, "offset": offset}

"""What a step is as data, for `--json`: numbers in bytes, shapes as lists with the names of dims."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from graphc.function import Function
from graphc.ir import ops
from graphc.ir.dot.style import value_names
from graphc.ir.graph import Graph, Value
from graphc.ir.types import Extent, TensorType


def summary(step: Function) -> dict[str, Any]:
    from graphc.show import kernel_rows

    artifact = step.artifact
    words = ("name", "over", "parts", "layers", "lines")
    kernels = [dict(zip(words, (name, shape(frame), *lists), strict=True))
               for name, frame, *lists in kernel_rows(artifact.program)]  # fmt: skip
    return {
        "name": step.name,
        "device": step.device,
        "inputs": [{"name": value.attrs["name"], **type_of(value.type)} for value in step.inputs],
        "dims": {dim.name: dim.max for dim in artifact.graph.dims},
        "kernels": kernels,
        "state_bytes": step.traced.state_bytes,
        "arena_bytes": artifact.description.work_bytes,
        "from_cache": not artifact.fresh,
        "seconds": round(sum(step.seconds.values()), 6),
    }


def graph(step: Function) -> dict[str, Any]:
    return graph_of(step.artifact.program.graph)


def graph_of(found: Graph) -> dict[str, Any]:
    names = value_names(found)
    return {
        "name": found.name,
        "dims": {dim.name: dim.max for dim in found.dims},
        "values": [described(value, names[value], [names[each] for each in value.operands]) for value in names],
        "outputs": [{"kind": each.kind, "name": each.name, "value": names[each.value]} for each in found.outputs],
    }


def described(value: Value, name: str, operands: list[str]) -> dict[str, Any]:
    """One value; the body of a loop is a graph in it."""
    place = {"line": str(value.origin), "module": value.origin.module} if value.origin else {}
    attributes = {key: plain(item) for key, item in value.attrs.items() if key not in ("type", "name")}
    kind = {"name": name, "op": value.op.name, **type_of(value.type), "operands": operands, "part": value.role}
    return {**kind, "attributes": attributes, **place}


def plain(item: object) -> Any:
    if isinstance(item, ops.Body):
        return graph_of(item.graph)
    if isinstance(item, (list, tuple)):
        return [plain(each) for each in item]
    return item if isinstance(item, (bool, int, float, str, type(None))) else str(item)


def type_of(kind: TensorType) -> dict[str, Any]:
    return {"dtype": kind.dtype, "shape": shape(kind.shape)}


def shape(extents: Iterable[Extent]) -> list[int | str]:
    return [extent if isinstance(extent, int) else str(extent) for extent in extents]


def launches(step: Function) -> list[dict[str, Any]]:
    from graphc import launches

    return launches.data(step)


LEVELS: dict[str, Callable[[Function], Any]] = {
    "summary": summary,
    "certificate": lambda step: step.certificate.to_dict(),
    "graph": graph,
    "launches": launches,
}

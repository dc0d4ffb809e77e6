"""The NumPy interpreter: what the ops mean, and what every other backend is tested against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from graphc.ir import ops
from graphc.ir.graph import Graph, IRError, Value
from graphc.ir.types import DTYPES, Dim, Product, Sum, TensorType, evaluate

Array = np.ndarray[Any, Any]


def run(graph: Graph, arrays: Mapping[str, Any], *, double: bool = False) -> dict[str, Array]:
    """Every output of the graph by name, for arrays by input name.

    double  compute f32 values in f64 (for finite differences)
    Raises IRError when an array's shape does not fit its input.
    """
    sizes = dim_sizes(graph, arrays)
    with np.errstate(all="ignore"):
        env = evaluate_values(graph, arrays, sizes, double)
    return {output.name: env[output.value] for output in graph.outputs}


def evaluate_values(
    graph: Graph, arrays: Mapping[str, Any], sizes: Mapping[Dim, int], double: bool
) -> dict[Value, Any]:
    """Every value of the graph; of a loop, what its body gives, by name."""
    env: dict[Value, Any] = {}
    for value in [*graph.inputs, *graph.values()]:
        if value not in env:
            env[value] = compute(value, env, arrays, sizes, double)
    return env


def run_loop(value: Value, env: Mapping[Value, Any], sizes: Mapping[Dim, int], double: bool) -> dict[str, Array]:
    """The last states and the stacked results of a loop, by name."""
    body, length, rows = value.attrs["body"].graph, concrete(value.attrs["length"], sizes), value.attrs.get("rows")
    states = {state.attrs["name"]: env[start] for state, start in ops.Roles(value).carried}
    stacks = {
        output.name: np.zeros(
            concrete(ops.stacked(output.value.type, length, rows).shape, sizes), dtype_of(output.value, double)
        )
        for output in body.of_kind("result")
    }
    for step, inside, found in steps_of(value, env, sizes, double):
        for output in body.of_kind("result"):
            stacks[output.name][slice_of(output.value, step, rows, inside)] = found[output.value]
        states |= {output.name: found[output.value] for output in body.of_kind("update")}
    return stacks | states


def steps_of(
    value: Value, env: Mapping[Value, Any], sizes: Mapping[Dim, int], double: bool
) -> Iterator[tuple[int, Mapping[Dim, int], dict[Value, Any]]]:
    """Of each step of a loop, in the order they are taken: its number, its sizes, and every value of the body."""
    body, roles, length = value.attrs["body"].graph, ops.Roles(value), concrete(value.attrs["length"], sizes)
    count = length if roles.trips is None else min(max(int(env[roles.trips]), 0), length)
    rows = value.attrs.get("rows")
    if rows is not None:
        count = -(-sizes[rows[1]] // rows[0].max)
    named = {state.attrs["name"]: env[start] for state, start in roles.carried}
    named |= {data.attrs["name"]: env[operand] for data, operand in roles.captured}
    for step in reversed(range(count)) if value.attrs["reverse"] else range(count):
        inside = sizes if rows is None else {**sizes, rows[0]: min(rows[0].max, sizes[rows[1]] - step * rows[0].max)}
        named |= {
            data.attrs["name"]: env[operand][slice_of(data, step, rows, inside)] for data, operand in roles.slices
        }
        found = evaluate_values(body, named, inside, double)
        yield step, inside, found
        named |= {output.name: found[output.value] for output in body.of_kind("update")}


def slice_of(one: Value, step: int, rows: tuple[Dim, Dim] | None, sizes: Mapping[Dim, int]) -> int | slice:
    """Where in its stack the slice of one step is; `sizes` are those of that step."""
    if rows is None:
        return step
    first = step * evaluate(one.shape[0], {**sizes, rows[0]: rows[0].max})
    return slice(first, first + evaluate(one.shape[0], sizes))


def run_tiles(value: Value, env: Mapping[Value, Any], sizes: Mapping[Dim, int], double: bool) -> dict[str, Array]:
    """What the body gives, by name."""
    body = value.attrs["body"].graph
    names = (arriving.attrs["name"] for arriving in body.inputs)
    named = dict(zip(names, (env[operand] for operand in value.operands), strict=True))
    found = evaluate_values(body, named, sizes, double)
    return {output.name: found[output.value] for output in body.outputs}


def dtype_of(value: Value, double: bool) -> np.dtype[Any]:
    return DTYPES["f64" if double and value.dtype == "f32" else value.dtype]


def compute(
    value: Value, env: Mapping[Value, Any], arrays: Mapping[str, Any], sizes: Mapping[Dim, int], double: bool
) -> Any:
    dtype = dtype_of(value, double)
    if value.op is ops.input:
        return np.asarray(arrays[value.attrs["name"]], dtype)
    if value.op.kind == "loop":
        return run_loop(value, env, sizes, double)
    if value.op.kind == "tiles":
        return run_tiles(value, env, sizes, double)
    if value.op.kind == "part":
        return env[value.operands[0]][value.attrs["name"]]
    if value.op.numpy is None:
        raise IRError(f"{value.op.name} has no value of its own; run the passes that expand it first")
    attrs = {key: concrete(item, sizes) for key, item in value.attrs.items()}
    result = value.op.numpy(*(env[operand] for operand in value.operands), **attrs)
    return np.asarray(result).astype(dtype, copy=False)


def concrete(item: Any, sizes: Mapping[Dim, int]) -> Any:
    """An attribute with numbers in place of dims."""
    if isinstance(item, (Dim, Product, Sum)):
        return evaluate(item, sizes)
    if isinstance(item, TensorType):
        return item.with_shape(concrete(item.shape, sizes))
    if isinstance(item, tuple):
        return tuple(concrete(part, sizes) for part in item)
    return item


def dim_sizes(graph: Graph, arrays: Mapping[str, Any]) -> dict[Dim, int]:
    """The size of every dim, read off the arrays that carry it."""
    sizes: dict[Dim, int] = {}
    for value in graph.inputs:
        shape = np.shape(arrays[value.attrs["name"]])
        if len(shape) != len(value.shape):
            raise IRError(f"{value.attrs['name']} has {len(shape)} axes, expected {value.type}")
        for extent, length in zip(value.shape, shape, strict=True):
            if isinstance(extent, Dim) and sizes.setdefault(extent, length) != length:
                raise IRError(f"{value.attrs['name']} has {length} for {extent}, another input has {sizes[extent]}")
            if isinstance(extent, int) and extent != length:
                raise IRError(f"{value.attrs['name']} has shape {shape}, expected {value.type}")
    return sizes

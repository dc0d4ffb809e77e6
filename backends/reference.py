"""The NumPy interpreter: what the ops mean, and what every other backend is tested against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphc.ir.graph import Graph, IRError, Value
from graphc.ir.types import DTYPES, Dim, Product, Sum, TensorType, evaluate

Array = np.ndarray[Any, Any]


def run(graph: Graph, arrays: Mapping[str, Any], *, double: bool = False) -> dict[str, Array]:
    """Every output of the graph by name, for arrays by input name.

    double  compute f32 values in f64 (for finite differences)
    Raises IRError when an array's shape does not fit its input.
    """
    sizes = dim_sizes(graph, arrays)
    env: dict[Value, Array] = {}
    with np.errstate(all="ignore"):
        for value in [*graph.inputs, *graph.values()]:
            if value not in env:
                env[value] = compute(value, env, arrays, sizes, double)
    return {output.name: env[output.value] for output in graph.outputs}


def compute(
    value: Value, env: Mapping[Value, Array], arrays: Mapping[str, Any], sizes: Mapping[Dim, int], double: bool
) -> Array:
    dtype = DTYPES["f64" if double and value.dtype == "f32" else value.dtype]
    if value.op.name == "input":
        return np.asarray(arrays[value.attrs["name"]], dtype)
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

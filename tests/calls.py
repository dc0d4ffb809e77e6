"""Calls of tensor functions: compiled and by the reference, against NumPy, differences and PyTorch's numbers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import graphc as gx
from graphc.backends import reference
from graphc.ir import ops
from graphc.ir.graph import Graph, Output, reachable
from graphc.ir.passes import run_passes

Array = np.ndarray[Any, Any]
Function = Callable[..., Any]

INPUTS = "abcd"
DTYPES = {dtype.numpy: dtype for dtype in (gx.f32, gx.f64, gx.i32, gx.i64, gx.u8, gx.bool_)}


def inputs(arrays: Sequence[Array], types: Sequence[Any] = ()) -> list[gx.Tensor]:
    """Inputs a, b, … of the types of arrays, or of other types that fit them."""
    kinds = types or [DTYPES[array.dtype][array.shape] for array in arrays]
    return [gx.input(name, kind) for name, kind in zip(INPUTS, kinds)]


def graph_of(results: Mapping[str, gx.Tensor]) -> Graph:
    """What gives the results, after all passes."""
    values = reachable(tuple(result.value for result in results.values()))
    outputs = tuple(Output("result", name, result.value) for name, result in results.items())
    return run_passes(Graph("calls", tuple(value for value in values if value.op is ops.input), outputs))


def interpret(graph: Graph, arrays: Sequence[Array], constants: Mapping[str, Array] | None = None) -> dict[str, Array]:
    """The results of a graph by the reference."""
    return reference.run(graph, {**dict(zip(INPUTS, arrays)), **(constants or {})})


def run(functions: Mapping[str, Function], *arrays: Array, types: Sequence[Any] = ()) -> dict[str, tuple[Array, Array]]:
    """(natively, by the reference) what each function gives for arrays, by name; all are compiled as one."""
    given = inputs(arrays, types)
    results = {name: function(*given) for name, function in functions.items()}
    compiled = gx.function(given, results)
    found = compiled.run(arrays)
    constants = {name: parameter.numpy() for name, parameter in compiled.parameters.items()}
    wanted = interpret(compiled.artifact.program.graph, arrays, constants)
    for (name, result), native in zip(results.items(), found, strict=True):
        assert native.dtype == wanted[name].dtype == result.dtype.numpy, name
        assert native.shape == wanted[name].shape, name
    return {name: (native, wanted[name]) for name, native in zip(results, found, strict=True)}


def compare(
    functions: Mapping[str, tuple[Function, Function]], *arrays: Array, rtol: float = 0, types: Sequence[Any] = ()
) -> None:
    """Functions give what NumPy's formulas give for the same arrays, natively and by the reference, but for the dtype.

    rtol  1e-5 for f32 and 1e-12 for all others unless it is given; formulas of f32 are reckoned in f64
    """
    found = run({name: function for name, (function, _) in functions.items()}, *arrays, types=types)
    wide = [array.astype(np.float64) if array.dtype == np.float32 else array for array in arrays]
    for name, ways in found.items():
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's words about means of nothing
            wanted = np.asarray(functions[name][1](*wide))
            wanted = wanted.astype(np.float32) if ways[0].dtype == np.float32 else wanted
        for way, result in zip(("native", "reference"), ways, strict=True):
            close = rtol or (1e-5 if result.dtype == np.float32 else 1e-12)
            assert result.shape == wanted.shape, f"{name}: {result.shape}, NumPy has {wanted.shape}"
            np.testing.assert_allclose(result, wanted, close, close / 10, err_msg=f"{name}, {way}")


def gradient(result: gx.Tensor, operand: gx.Tensor) -> gx.Tensor:
    """d result / d operand; zeros where the result does not depend on it."""
    try:
        return gx.grad(result, operand)
    except gx.GradientError:
        return gx.zeros_like(operand)


def check_slopes(functions: Mapping[str, Function], *arrays: Array) -> None:
    """The gradients of functions with respect to all arrays, in f64, are differences of their values."""
    for name, function in functions.items():
        given = inputs(arrays)
        result = function(*given)
        places = gx.arange(math.prod(result.shape), dtype=gx.f64).reshape(result.shape)
        total = (result * (1 + 0.5 * gx.cos(places))).sum()
        graph = graph_of({"total": total})
        slopes = interpret(graph_of({each.value.attrs["name"]: gx.grad(total, each) for each in given}), arrays)
        for number, array in enumerate(arrays):
            wanted = np.empty(array.shape)
            for place in np.ndindex(array.shape):
                sides = [interpret(graph, moved(arrays, number, place, step))["total"] for step in (1e-6, -1e-6)]
                wanted[place] = (sides[0] - sides[1]).item() / 2e-6
            np.testing.assert_allclose(slopes[INPUTS[number]], wanted, 1e-6, 1e-7, err_msg=f"{name}, {INPUTS[number]}")


def moved(arrays: Sequence[Array], number: int, place: tuple[int, ...], step: float) -> list[Array]:
    """Arrays, one element of one of them moved."""
    copies = [array.copy() for array in arrays]
    copies[number][place] += step
    return copies

"""A compiled program run kernel by kernel, uncompiled: every access outside of a buffer is an error here."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.backends import reference, source
from graphc.backends.contraction import TileShape
from graphc.backends.primitives import run
from graphc.ir.graph import Graph
from graphc.ir.loops import Buffer, Repetition
from graphc.ir.program import Program, plan
from graphc.ir.types import DTYPES, Dim, evaluate

TILE = TileShape(14, 2)
Array = np.ndarray[Any, Any]


def emulate(graph: Graph, arrays: dict[str, Any]) -> dict[str, Array]:
    """Results and updated states, by name; every buffer is as large as the plan says and starts as garbage."""
    program = plan(graph, TILE.width)
    inputs = {
        value.attrs["name"]: np.array(arrays[value.attrs["name"]], DTYPES[value.dtype]).reshape(-1)
        for value in program.graph.inputs
    }
    sizes = reference.dim_sizes(program.graph, arrays)
    found = Run(program, inputs, sizes).run()
    shapes = {output.name: output.value.shape for output in program.graph.outputs if output.kind != "check"}
    return {name: found[name].reshape([evaluate(extent, sizes) for extent in shape]) for name, shape in shapes.items()}


class Run:
    """One program over one-dimensional arrays; states are written in place."""

    def __init__(self, program: Program, inputs: dict[str, Array], sizes: dict[Dim, int]) -> None:
        self.program, self.inputs, self.sizes = program, inputs, sizes
        self.results: dict[str, Array] = {}
        self.work: dict[tuple[int, Buffer], Array] = {}
        for output in program.graph.of_kind("result"):
            self.results[output.name] = np.zeros(evaluate(output.value.type.count, sizes), DTYPES[output.value.dtype])

    def memory(self, number: int, buffer: Buffer) -> Array:
        if buffer.kind == "input":
            return self.inputs[buffer.value.attrs["name"]]
        if buffer.kind == "result":
            return self.results[buffer.name]
        key = (number if buffer.kind == "scratch" else -1, buffer)
        if key not in self.work:
            self.work[key] = np.full(self.program.region(number, buffer).size, 0x7F, np.uint8)
        return self.work[key]

    def typed(self, number: int, buffer: Buffer, dtype: str) -> Array:
        memory = self.memory(number, buffer)
        return memory if memory.dtype == DTYPES[dtype] else memory.view(DTYPES[dtype])

    def run(self) -> dict[str, Array]:
        for number, nest in enumerate(self.program.nests):
            if nest.repetition is not None:
                self.repeat(number, nest.repetition)
                continue
            written = source.write(nest, TILE)
            for begin, end, part in self.shares(written):
                self.call(number, written, {"begin": begin, "end": end, "part": part})
            if written.finish is not None:
                self.call(number, written.finish, {})
        states = {output.name: self.inputs[output.name] for output in self.program.graph.of_kind("update")}
        return self.results | states

    def shares(self, written: source.Source) -> list[tuple[int, int, int]]:
        """Begin, end and number of each part, the last one first: their order must not matter."""
        if written.cut is None:
            return [(0, 0, 0)]
        extent, unit = evaluate(written.cut.extent, self.sizes), written.cut.unit
        parts = written.cut.parts or 3
        marks = [min(-(-extent // unit) * part // parts * unit, extent) for part in range(parts + 1)]
        return [(marks[part], marks[part + 1], part) for part in reversed(range(parts))]

    def call(self, number: int, written: source.Source, share: dict[str, int]) -> None:
        arguments = []
        for (_, kind), each in zip(written.kernel.parameters, written.arguments, strict=True):
            if isinstance(each, Buffer):
                arguments.append(self.typed(number, each, kind.removesuffix("*")))
            else:
                arguments.append(np.int64(share[each] if isinstance(each, str) else evaluate(each, self.sizes)))
        run(written.kernel, *arguments)

    def body(self, program: Program, inputs: dict[str, Array], sizes: dict[Dim, int]) -> Run:
        return Run(program, inputs, sizes)

    def repeat(self, number: int, loop: Repetition) -> None:
        steps = length = evaluate(loop.value.attrs["length"], self.sizes)
        if loop.trips is not None:
            steps = min(max(int(self.typed(number, loop.trips, "i64")[0]), 0), length)
        for output, buffer in loop.results if loop.trips is not None else ():
            count = evaluate(output.value.type.count, self.sizes)
            self.typed(number, buffer, output.value.dtype)[steps * count : length * count] = 0
        inputs = {data.attrs["name"]: self.typed(number, buffer, data.dtype) for data, buffer in loop.captured}
        for state, start, kept in loop.carries:
            count = evaluate(state.type.count, self.sizes)
            inputs[state.attrs["name"]] = self.typed(number, kept, state.dtype)[:count]
            inputs[state.attrs["name"]][...] = self.typed(number, start, state.dtype)[:count]
        for step in reversed(range(steps)) if loop.value.attrs["reverse"] else range(steps):
            for data, buffer in loop.slices:
                count = evaluate(data.type.count, self.sizes)
                inputs[data.attrs["name"]] = self.typed(number, buffer, data.dtype)[step * count : (step + 1) * count]
            body = self.body(loop.program, inputs, self.sizes)
            for output, buffer in loop.results:
                count = evaluate(output.value.type.count, self.sizes)
                stack = self.typed(number, buffer, output.value.dtype)
                body.results[output.name] = stack[step * count : (step + 1) * count]
            body.run()

"""A program one nest at a time: the very kernels of a call, with a look at what each of them leaves behind.

Each nest is a program of its own over the same arena, states and inputs, so its code is that of the whole call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphc.backends import reference
from graphc.backends.artifact import Blueprint, blueprint, coded
from graphc.backends.cache import Cache
from graphc.backends.runtime import Runner, Storage
from graphc.ir import ops
from graphc.ir.access import memory_of
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph, Output, Value
from graphc.ir.loops import Buffer, LoopNest
from graphc.ir.program import Program
from graphc.ir.rewrite import renewed
from graphc.ir.types import DTYPES, Dim

Array = np.ndarray[Any, Any]
Known = dict[Value, Array]

# How far a kernel may be from the reference: LIKELY times what rounding does to the reference itself, and a share of
# the number and of the largest one of the array.
LIKELY, SHARE, FLOOR = 16.0, {"f32": 1e-4, "f64": 1e-9}, {"f32": 1e-6, "f64": 1e-12}


@dataclass(frozen=True, slots=True)
class Difference:
    """The first number of a kernel that is not what the reference gives.

    nest      the kernel, and its place among all
    value     what it should have computed, from the numbers that were there before it ran
    index     of the number in the value
    native    what the kernel gives
    expected  what the reference gives
    """

    nest: LoopNest
    number: int
    value: Value
    index: tuple[int, ...]
    native: Any
    expected: Any


class Stepper:
    """The native code of every nest of a blueprint, over the same states and one arena of its own."""

    def __init__(self, made: Blueprint, storages: Sequence[Storage], store: Cache) -> None:
        self.program = made.program
        self.graph = made.program.graph
        self.storages = storages
        sources = {id(nest): each for nest, each in zip(self.program.walk(), made.sources, strict=True)}
        self.runners: list[Runner] = []
        for number, _ in enumerate(self.program.nests):
            single = alone(self.program, number)
            part = blueprint(single, tuple(sources[id(nest)] for nest in single.walk()))
            self.runners.append(Runner(coded(part, store, [0.0]), storages))
        for runner in self.runners:
            runner.use_threads(1)
            runner.work = self.runners[0].work
            runner.tell_places()
        self.left = [list(left_by(*pair)) for pair in zip(self.program.apart, self.program.nests, strict=True)]
        self.writers = {buffer: k for k, left in enumerate(self.left) for buffer, _ in left}
        self.news = {each.name: memory_of(each.value) for each in self.graph.of_kind("update")}

    def run(self, inputs: Sequence[Array], sizes: Sequence[int], scalars: Sequence[Any]) -> Iterator[tuple[int, Known]]:
        """After each nest its number and all that is known by then: inputs, states as they were, and every value that
        was stored, as it was when its last nest had run. States are updated in place."""
        known: Known = dict(zip(self.graph.of_role("data"), inputs, strict=True))
        known |= {
            value: storage.array.copy()
            for value, storage in zip(self.graph.of_role("state"), self.storages, strict=True)
        }
        roles = self.graph.of_role("scalar")
        known |= {value: np.asarray(each, DTYPES[value.dtype]) for value, each in zip(roles, scalars, strict=True)}
        dims = dict(zip(self.graph.dims, sizes, strict=True))
        self.results: dict[str, Any] = {}
        for number, runner in enumerate(self.runners):
            for place, scalar in enumerate(scalars):
                runner.set_scalar(place, scalar)
            _, results = runner.step(inputs, sizes)
            named = {name: result for (name, _), result in zip(runner.results, results, strict=True)}
            for buffer, left in self.left[number]:
                if buffer.kind == "result":
                    self.results[buffer.name] = named[buffer.name]
                if self.writers[buffer] == number:
                    owner = self.owner(buffer)
                    known[owner] = self.content(left, owner, number, dims, named)
            yield number, known

    def owner(self, buffer: Buffer) -> Value:
        """The value that a nest leaves in a buffer."""
        return self.news[buffer.value.attrs["name"]] if buffer.kind == "input" else buffer.value

    def content(
        self, buffer: Buffer, owner: Value, number: int, dims: Mapping[Dim, int], results: Mapping[str, Any]
    ) -> Array:
        """A copy of what is in a buffer."""
        shape, dtype = reference.concrete(owner.shape, dims), DTYPES[owner.dtype]
        if buffer.kind == "result":
            return np.array(results[buffer.name], dtype).reshape(shape)
        if buffer.kind == "input":
            states = [value.attrs["name"] for value in self.graph.of_role("state")]
            return self.storages[states.index(buffer.value.attrs["name"])].array.reshape(shape).copy()
        start = self.program.region(number, buffer).offset
        count = int(np.prod(shape, dtype=np.int64))
        return self.runners[0].work[start:][: count * dtype.itemsize].view(dtype).reshape(shape).copy()

    def targets(self, number: int) -> list[Value]:
        """The values that are complete once a nest has run."""
        found = (buffer for buffer, _ in self.left[number] if self.writers[buffer] == number)
        return list(dict.fromkeys(self.owner(buffer) for buffer in found))

    def difference(self, number: int, known: Known, sizes: Sequence[int]) -> Difference | None:
        """Where a nest that has just run is not what the reference makes of the numbers that were there before."""
        targets, dims = self.targets(number), dict(zip(self.graph.dims, sizes, strict=True))
        before = {value: array for value, array in known.items() if value not in targets}
        single, double = (reference_of(targets, before, dims, double=double) for double in (False, True))
        for value in targets:
            index = first_difference(known[value], single[value], double[value])
            if index is not None:
                found = known[value][index], single[value][index]
                return Difference(self.program.nests[number], number, value, index, *found)
        return None

    def cut(self, number: int, known: Known) -> tuple[Graph, dict[str, Array]]:
        """The graph of one nest over what was there before it ran, and those arrays by the names of its inputs."""
        targets = self.targets(number)
        inputs = [value for value in needed(targets, known) if value in known and value not in targets]
        new = {value: ops.input(name=f"in{place}", role="data", type=value.type) for place, value in enumerate(inputs)}
        arrays = {new[value].attrs["name"]: known[value] for value in inputs}
        graph_inputs = tuple(new.values())
        for value in needed(targets, known):
            if value not in new:
                new[value] = renewed(value, new)
        outputs = tuple(Output("result", f"out{place}", new[value]) for place, value in enumerate(targets))
        return Graph("kernel", graph_inputs, outputs), arrays


def left_by(apart: LoopNest, nest: LoopNest) -> Iterator[tuple[Buffer, Buffer]]:
    """What a nest leaves behind: the memory of each value, and the one of another that it may be left in instead."""
    for own, place in zip(targets_of(apart), targets_of(nest), strict=True):
        if own.kind != "scratch":
            yield own, place


def targets_of(nest: LoopNest) -> list[Buffer]:
    """As `written`, with those named twice twice: the same places for two nests that differ in their buffers only."""
    found = [term.detail[0] for term in nest.terms() if term.kind in ("column", "scatter")]
    found += [] if nest.sweep is None else [nest.sweep.target]
    found += [] if nest.repetition is None else nest.repetition.written()
    return found + [store.buffer for store in nest.stores]


def alone(program: Program, number: int) -> Program:
    """One nest of a program as a program over the same arena."""
    nest = program.nests[number]
    work = {
        (0 if at == number else at, buffer): region
        for (at, buffer), region in program.work.items()
        if at in (-1, number)
    }
    return replace(program, nests=(nest,), apart=(nest,), checks=(), work=work)


def needed(targets: Sequence[Value], known: Mapping[Value, Any]) -> list[Value]:
    """The targets and what they are computed of, operands first, down to what is known."""
    seen: set[Value] = set()
    found: list[Value] = []
    stack = [(value, False) for value in reversed(targets)]
    while stack:
        value, ready = stack.pop()
        if ready:
            found.append(value)
        elif value not in seen:
            seen.add(value)
            stack.append((value, True))
            if value not in known or value in targets:
                stack.extend((operand, False) for operand in reversed(value.operands) if operand not in seen)
    return found


def reference_of(
    targets: Sequence[Value], known: Mapping[Value, Array], dims: Mapping[Dim, int], *, double: bool
) -> dict[Value, Any]:
    """The targets and what lies between them and what is known, by the reference."""
    env: dict[Value, Any] = {}
    with np.errstate(all="ignore"):
        for value in needed(targets, known):
            if value in known:
                env[value] = known[value].astype(reference.dtype_of(value, double), copy=False)
            else:
                env[value] = reference.compute(value, env, {}, dims, double)
    return env


def first_difference(native: Array, single: Array, double: Array) -> tuple[int, ...] | None:
    """The index of the first number that rounding does not explain; None if there is none.

    single, double  what the reference gives in the array's own dtype, and in double precision
    """
    same = native == single
    kind = {"float32": "f32", "float64": "f64"}.get(str(native.dtype))
    if kind is None:
        wrong = ~same & (single == double)
    else:
        with np.errstate(all="ignore"):
            wide = double.astype(np.float64)
            sure = np.isfinite(single) == np.isfinite(wide)
            noise = np.abs(single - wide)[np.isfinite(single) & np.isfinite(wide)]
            size = np.abs(wide)[np.isfinite(wide)]
            slack = LIKELY * noise.max(initial=0) + FLOOR[kind] * size.max(initial=0) + np.finfo(native.dtype).tiny
            close = np.abs(native - wide) <= slack + SHARE[kind] * np.abs(wide)
        wrong = sure & ~(same | close | (np.isnan(native) & np.isnan(single)))
    if not wrong.any():
        return None
    return tuple(int(each[0]) for each in np.nonzero(wrong)) if wrong.ndim else ()

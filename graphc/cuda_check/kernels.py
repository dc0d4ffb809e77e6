"""Every kernel of a step against float64: what it leaves in memory, given what those before it have left there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from graphc.backends.cuda.device import Call, Multiply, Place, Step, written_out
from graphc.backends.cuda.driver import DriverError
from graphc.backends.cuda.outside import Outside
from graphc.backends.cuda.plan import Find, Planner
from graphc.backends.cuda.runtime import Launcher
from graphc.backends.cuda.schedule import Job
from graphc.backends.cuda.serial import SHAPE
from graphc.backends.reference import compute
from graphc.backends.runtime import address
from graphc.cuda import parts_of
from graphc.cuda_check.programs import Program
from graphc.function import Function
from graphc.ir.graph import Value
from graphc.ir.loops import Buffer, Repetition
from graphc.ir.program import plan
from graphc.ir.types import DTYPES, Dim, TensorType, evaluate

Array = np.ndarray[Any, Any]
TOLERANCE = 1e-4  # of the norm: one wrong number of a hundred million, of the usual size, is more
SINGLE = 10  # times the error of NumPy in float32, where that is more
STRAYS = 1e-4  # share of whole numbers that may differ, as comparisons of numbers that are nearly equal do
POISON = 0xFF


class Watched(Planner):
    """Notes what every step outside of loops writes, beside drawing it."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.notes: list[tuple[Step, Buffer, Place]] = []

    def launch(self, jobs: list[Job], place: Find) -> Iterator[Step]:
        steps = [*super().launch(jobs, place)]
        for job in jobs:
            for _, buffer in job.written:
                self.note(steps[-1], buffer, partial(place, job.number))
        yield from steps

    def multiply(self, job: Job, product: Outside, place: Find) -> Multiply:
        found = super().multiply(job, product, place)
        self.note(found, product.target, partial(place, job.number))
        return found

    def repeat(self, repetition: Repetition, place: Callable[[Buffer], Place], end: int) -> tuple[list[Step], int]:
        steps, end = super().repeat(repetition, place, end)
        for buffer in [buffer for _, buffer in repetition.results] + [kept for _, _, kept in repetition.carries]:
            self.note(steps[-1], buffer, place)
        return steps, end

    def note(self, step: Step, buffer: Buffer, place: Callable[[Buffer], Place]) -> None:
        if self.depth == 0 and buffer and buffer.kind in ("value", "input", "result"):
            self.notes.append((step, buffer, place(buffer)))


class Bench:
    """One step on a device, launch by launch."""

    def __init__(self, function: Function) -> None:
        artifact, runner = parts_of(function)
        self.function, self.runner, self.stream = function, runner, runner.stream
        self.planner = Watched(plan(artifact.graph, SHAPE.width), artifact.library)
        self.graph = self.planner.graph
        self.program = self.planner.draw().program
        self.launcher = Launcher(self.program, runner.module, runner.states, runner.launcher.library)
        self.launcher.bases |= runner.launcher.bases
        self.launches = sum(1 for _ in self.program.launches())
        self.due: dict[int, list[tuple[Buffer, Place]]] = {}
        last = {buffer: (step, place) for step, buffer, place in self.planner.notes}
        for buffer, (step, place) in last.items():
            self.due.setdefault(id(step), []).append((buffer, place))

    def check(self, arrays: Sequence[Array]) -> Iterator[dict[str, Any]]:
        """(kernel, what it computes, its error) of everything that the launches of one call leave in memory."""
        ready, extents = self.function.fit(arrays)
        sizes = dict(zip(self.runner.dims, extents, strict=True))
        self.runner.device.enter()
        self.function.write_scalars()
        states = self.function.state_dict()
        given = {value.attrs["name"]: each for value, each in zip(self.graph.of_role("data"), ready, strict=True)}
        given |= states | {name: np.float64(scalar.number) for name, scalar in self.function.scalars.items()}
        self.poison()
        for array, block in zip(ready, self.runner.input_blocks, strict=True):
            if array.nbytes:
                self.stream.send(block.place, address(array), array.nbytes)
        self.runner.make_ready()
        reference = Reference(given, sizes, double=True)
        updates = {output.name: output.value for output in self.graph.of_kind("update")}
        results = {output.name: output.value for output in self.graph.of_kind("result")}
        for step in self.program.steps:
            for _, call in written_out((step,), sizes, ()):
                self.do(call)
            for buffer, place in self.due.get(id(step), ()):
                name = getattr(step, "kernel", type(step).__name__)
                value = updates.get(buffer.value.attrs["name"]) if buffer.kind == "input" else buffer.value
                value = results[buffer.name] if buffer.kind == "result" else value
                assert value is not None
                found = self.fetched(place, value.type, sizes)
                wanted = reference.of(value).reshape(found.shape)
                error, fits = difference(found, wanted)
                if not fits:
                    fits = error <= SINGLE * difference(reference.in_single(value).reshape(found.shape), wanted)[0]
                row = {"kernel": name, "computes": described(buffer, value), "error": error, "ok": fits}
                yield row if fits else row | evidence(found, wanted)
                if buffer.kind == "value":
                    reference.know(value, found)
        for state in self.runner.updated:
            state.ahead = True

    def do(self, call: Call) -> None:
        """One launch to its end, so that what fails is known. Raises DriverError with the kernel's name."""
        try:
            self.launcher.do(self.stream, call)
            self.stream.finish()
        except DriverError as error:
            name = getattr(call, "kernel", type(call).__name__)
            raise DriverError(f"{name}: {error.message}", error.remedy, error.code) from None

    def poison(self) -> None:
        """Fill what nobody needs between calls with what is no number."""
        for block in self.runner.arena[:2]:
            self.stream.fill(block.place, POISON, block.size)

    def fetched(self, place: Place, kind: TensorType, sizes: Mapping[Dim, int]) -> Array:
        shape = tuple(evaluate(extent, sizes) for extent in kind.shape)
        found = np.empty(shape, DTYPES[kind.dtype])
        if found.nbytes:
            self.stream.fetch(found.__array_interface__["data"][0], self.launcher.address(place), found.nbytes)
            self.stream.finish()
        return found


class Reference:
    """The values of a graph, on the way from those that a device has left in memory.

    double  in float64
    """

    def __init__(self, given: Mapping[str, Any], sizes: Mapping[Dim, int], double: bool) -> None:
        self.given, self.sizes, self.double = given, sizes, double
        self.left: dict[Value, Array] = {}
        self.known: dict[Value, Any] = {}

    def know(self, value: Value, found: Array) -> None:
        """From now on, what is computed of a value is computed of these numbers."""
        self.left[value] = found
        self.known[value] = found.astype(np.float64) if self.double and found.dtype == np.float32 else found

    def in_single(self, wanted: Value) -> Any:
        """The same in float32: where rounding alone leaves little that is right, nobody can ask for more."""
        single = Reference(self.given, self.sizes, double=False)
        for value, found in self.left.items():
            if value is not wanted:
                single.know(value, found)
        return single.of(wanted)

    def of(self, wanted: Value) -> Any:
        """The value, of the newest that is known of those it is computed of."""
        stack = [wanted]
        with np.errstate(all="ignore"):
            while stack:
                value = stack[-1]
                missing = [operand for operand in value.operands if operand not in self.known]
                if missing and value not in self.known:
                    stack += missing
                    continue
                if value not in self.known:
                    self.known[value] = compute(value, self.known, self.given, self.sizes, self.double)
                stack.pop()
        return self.known[wanted]


def difference(found: Array, wanted: Array) -> tuple[float, bool]:
    """(how far off, whether that is near enough): of the norm for floats, the share that differs for others."""
    if found.dtype.name not in ("float32", "float64"):
        share = float(np.mean(found != wanted)) if found.size else 0.0
        return share, share <= STRAYS
    strange = ~np.isfinite(wanted)
    if strange.any() and not np.array_equal(found[strange], wanted[strange], equal_nan=True):
        return float("inf"), False
    left, right = np.where(strange, 0, found).astype(np.float64), np.where(strange, 0, wanted)
    scale = max(float(np.linalg.norm(right)), 1e-12)
    error = float(np.linalg.norm(left - right)) / scale
    return error, error <= TOLERANCE  # which NaN is not


def evidence(found: Array, wanted: Array) -> dict[str, Any]:
    """Of numbers that are not near enough: where the one is that is farthest off, both of it, and how many are off."""
    have, want = found.astype(np.float64), wanted.astype(np.float64)
    with np.errstate(all="ignore"):
        apart = np.nan_to_num(np.abs(have - want), nan=np.inf, posinf=np.inf)
    apart = np.where((have == want) | (np.isnan(have) & np.isnan(want)), 0.0, apart)
    usual = float(np.sqrt(np.mean(np.where(np.isfinite(want), want, 0.0) ** 2)))
    place = np.unravel_index(int(np.argmax(apart)), found.shape)
    told = {"at": str([int(each) for each in place]), "found": float(have[place]), "wanted": float(want[place])}
    return told | {"off": int(np.count_nonzero(apart > TOLERANCE * usual)), "of": found.size}


def described(buffer: Buffer, value: Value) -> str:
    place = {"input": "update of", "result": "result"}.get(buffer.kind, "")
    name = buffer.name if buffer.kind == "result" else buffer.value.attrs.get("name", value.op.name)
    return f"{place} {name}: {value.type}".strip()


def resources(function: Function) -> dict[str, tuple[int, int, int]]:
    """(registers, bytes of local memory, bytes of static shared memory) of every kernel, as the driver made it."""
    _, runner = parts_of(function)
    return {name: runner.module.resources(kernel) for name, kernel in runner.launcher.kernels.items()}


def findings(program: Program) -> Iterator[dict[str, Any]]:
    """Of every array that a kernel leaves, its error in float64; and the kernels' registers and spills."""
    function = program.make("cuda")
    bench, used = Bench(function), resources(function)
    batch = program.batches()[0]
    ragged = tuple(each[: max(len(each) - 3, 1)] for each in batch)
    rows: list[dict[str, Any]] = []
    for given in (batch, ragged) if batch else (batch,):
        for row in bench.check(given):
            rows.append(row)
            if not row["ok"]:  # told at once: the next kernel may be the last one
                yield row | {"rows": len(given[0]) if given else 0}
    row = {"program": program.name, "title": program.title, "launches": bench.launches, "kernels": len(used)}
    row |= {"arrays": len(rows), "worst": max((each["error"] for each in rows), default=0.0)}
    row |= {"registers": max(each[0] for each in used.values())}
    row |= {"local_bytes": sum(each[1] for each in used.values())}
    yield row | {"resources": used, "ok": bool(rows) and all(each["ok"] for each in rows)}

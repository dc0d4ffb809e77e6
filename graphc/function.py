"""Function: a traced graph, its native code, and the calls."""

from __future__ import annotations

import gc
import re
import sys
import weakref
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import Any

import numpy as np

from graphc import generator
from graphc.arrays import as_array, fit_array, fit_data, signed
from graphc.backends import reference
from graphc.backends.cache import default_cache
from graphc.backends.description import obtain
from graphc.backends.exact import exact_call
from graphc.backends.interface import CHECKS
from graphc.backends.runtime import Feed, Runner
from graphc.errors import (
    ArgumentError,
    BatchError,
    CheckpointError,
    GraphcError,
    InternalError,
    LabelError,
    NumericsError,
    TraceError,
    describe,
)
from graphc.ir import ops
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Graph, Origin, Output, TooLittleMemory, Value, reachable, user_origin
from graphc.ir.rewrite import rebuild
from graphc.ir.types import FLOATS, INTEGERS, Dim
from graphc.limits import check_dims, check_limits, limits_of
from graphc.settings import check_function, check_whole, require
from graphc.tensor import Parameter, Scalar

NOT_FINITE = "{name} is not finite"
UNKNOWN = object()


@dataclass(frozen=True, slots=True)
class Plan:
    """What was traced, before it is compiled.

    packed   how results are handed out: "one", "tuple", "record", "none"
    fields   names of a record's results, where they are not those of the outputs
    figures  what is computed of outputs that are sums over samples, by the names of its results
    max_bytes  of the memory a call works in; None: any
    """

    name: str
    inputs: tuple[tuple[str, Value], ...]
    outputs: tuple[tuple[str, Value], ...]
    updates: tuple[tuple[Parameter, Value], ...]
    packed: str
    finite: bool
    origin: Origin | None
    fields: tuple[str, ...] = ()
    figures: Mapping[str, Graph] = field(default_factory=dict)
    max_bytes: int | None = None


@contextmanager
def without_collection() -> Iterator[None]:
    """No garbage collection inside: a graph is many small objects that all live, and looking at them takes a third of
    the time that compiling a deep model does."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class Function:
    """A compiled function: arrays in, arrays out, parameters updated in place.

    Made by `gx.function`, `@gx.step`, `gx.train_step` and their kin; compiled once, for every batch size of its dims.

    seconds  spent on making it, by part: "passes" over the graph, "plan" of loops and memory, "source" of the kernels,
             "native" code made or loaded
    """

    def __init__(self, plan: Plan) -> None:
        self.name = plan.name
        self.origin = plan.origin
        self.packed = plan.packed
        with without_collection():
            self.compile(plan)
        # Several parameters lie in one block of memory, so there are few.
        blocks = [parameter.storage.array.base for parameter in self.parameters.values()]
        self.blocks = list({id(block): block for block in blocks}.values())
        self.exact_call = exact_call(self.runner)
        self.fed: tuple[list[Any], Any] = ([], None)
        self.figures = plan.figures
        # Where scalars have their numbers, and what was there when native code was told of them.
        self.written: list[tuple[int, Scalar, dict[str, Any], str, object]] = [
            (place, each, *each.home, UNKNOWN) for place, each in enumerate(self.scalars.values())
        ]
        self.sums = {value.attrs["name"] for figure in self.figures.values() for value in figure.inputs}
        self.fields = plan.fields or tuple(name for name, _ in self.runner.results)
        self.record: Any = namedtuple("Record", self.fields, rename=True)  # type: ignore[misc]
        self.hand_out = self.packing()
        self.__name__ = self.name
        if "logging" in sys.modules:  # nobody listens who has not imported it
            sys.modules["logging"].getLogger("graphc").info("%s: %s", self.name, self.compiled)

    def compile(self, plan: Plan) -> None:
        """From what was traced to loaded code."""
        traced, self.parameters, self.scalars = bind(plan)
        check_dims(plan.name, traced)
        self.traced = traced
        self.inputs = traced.of_role("data")
        self.ranges = [value for value in traced.values() if value.op is ops.require_range]
        self.limits = limits_of(traced)
        try:
            self.artifact = obtain(traced, default_cache(), plan.max_bytes)
            self.seconds = self.artifact.seconds
            self.runner = Runner(self.artifact, [parameter.storage for parameter in self.parameters.values()])
        except GraphcError:
            raise
        except TooLittleMemory as error:
            text = f"max_bytes is {plan.max_bytes:,}; {self.name} needs at least {error.least:,} bytes to work in"
            raise ArgumentError(text, plan.origin, ["a smaller maximum of its dims needs less"]) from None
        except Exception as error:
            raise InternalError(f"compiling {self.name} failed: {error}", plan.origin) from error

    @property
    def stages(self) -> dict[str, Graph]:
        """The graph as it was traced and after each pass, by the pass's name; computed anew every time."""
        from graphc.ir.passes import run_passes

        found: dict[str, Graph] = {}
        run_passes(self.traced, watch=found.__setitem__)
        return found

    # -- calling

    def __call__(self, *arrays: Any) -> Any:
        """Run one batch.

        Raises ShapeError, DTypeError, BatchError for arrays that do not fit; LabelError, NumericsError when a check
        fails. Nothing is updated then.
        """
        return self.hand_out(self.run(arrays))

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """All results of one batch, in order."""
        self.write_scalars()
        found = None if self.limits else self.exact_call(arrays)
        status, results = found or self.run_fitted(*self.fit(arrays))
        if status:
            self.fail(status, self.fit(arrays)[0], "")
        return results

    def run_fitted(self, arrays: Sequence[Any], sizes: Sequence[int]) -> tuple[int, list[Any]]:
        if self.limits:
            check_limits(self.name, self.limits, dict(zip(self.runner.dims, sizes, strict=True)))
        return self.runner.step(arrays, sizes)

    def fit(self, arrays: Sequence[Any]) -> tuple[Sequence[Any], Sequence[int]]:
        """The arrays as native code reads them, and the size of every dim."""
        if len(arrays) != len(self.inputs):
            names = ", ".join(value.attrs["name"] for value in self.inputs)
            raise TraceError(f"{self.name} takes {len(self.inputs)} arrays ({names}), got {len(arrays)}", user_origin())
        sizes: dict[Dim, int] = {}
        ready = [fit_array(value, array, sizes, self.name) for value, array in zip(self.inputs, arrays, strict=True)]
        return [self.apart(array) for array in ready], [sizes[dim] for dim in self.runner.dims]

    def apart(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The array, or a copy of one that lies in the memory of a parameter: an update must not change an input."""
        return array.copy() if any(np.may_share_memory(array, block) for block in self.blocks) else array

    def packing(self) -> Callable[[Sequence[Any]], Any]:
        """What makes of results what a call returns."""
        make = partial(tuple.__new__, self.record)
        ways: dict[str, Callable[[Sequence[Any]], Any]] = {
            "one": itemgetter(0),
            "tuple": tuple,
            "none": lambda results: None,
            "record": (lambda results: make(self.finish(results))) if self.figures else make,
        }
        return ways[self.packed]

    def finish(self, results: Sequence[Any]) -> Sequence[Any]:
        """The results with every figure in place of the sums it is computed of."""
        if not self.figures:
            return results
        known = {name: result for (name, _), result in zip(self.runner.results, results, strict=True)}
        for name, figure in self.figures.items():
            known[name] = reference.run(figure, known, double=True)[name][()]
        return [known[name] for name in self.fields]

    def set(self, **numbers: float) -> Function:
        """New values of run-time scalars, by name: `step.set(lr=0.01)`."""
        for name, number in numbers.items():
            if name not in self.scalars:
                known = ", ".join(self.scalars) or "none"
                raise TraceError(f"{self.name} has no scalar {name!r}; its scalars are: {known}", user_origin())
            self.scalars[name].set(number)
        return self

    @property
    def threads(self) -> int:
        """The most threads a call uses: all processors of this process, or GRAPHC_THREADS, and fewer where that is
        quicker. Set a number to use just as many, None to go back. The results are the same bits for any number.
        """
        return self.runner.threads

    @threads.setter
    def threads(self, number: int | None) -> None:
        self.runner.use_threads(None if number is None else check_whole("threads", number, 1))
        self.exact_call = exact_call(self.runner)

    def write_scalars(self) -> None:
        """Tell native code of the numbers that are new."""
        for place, scalar, held, key, written in self.written:
            if held[key] is not written:
                with self.runner.lock:
                    found = held[key]
                    self.runner.set_scalar(place, scalar.number)
                    lasting = isinstance(found, (int, float, tuple))  # a list can change and be the same object
                    self.written[place] = place, scalar, held, key, found if lasting else UNKNOWN

    def epoch(self, loader: Any, progress: Callable[[int, int], None] | None = None, slices: int = 1) -> Any:
        """One pass over a DataLoader, natively: shuffle, gather, every step, the exact last batch.

        Returns a record of the results' means over samples, and of figures of the whole epoch for metrics that use
        `gx.epoch_sum`. `progress(done, all)` is called after each of `slices` equal parts of the steps; the run-time
        scalars it sets hold for the next. Python goes from batch to batch where a result is an array or such a figure,
        or the data set does not consist of arrays.
        """
        require(hasattr(loader, "dataset"), "loader", loader, "a loader, such as DataLoader(TensorDataset(x, y), 64)")
        if progress is not None:
            check_function("progress", progress, takes=2)
        if slices != 1:
            check_whole("slices", slices, 1)
        arrays = getattr(loader.dataset, "arrays", None)
        if self.artifact.description.layout is None or arrays is None or len(arrays) != len(self.inputs):
            return self.epoch_of_batches(loader, progress)
        feed, sources = self.feed_of(arrays)
        self.check_ranges(arrays)
        if self.figures or self.runner.array_results:
            return self.epoch_of_batches(loader, progress)
        batch, most = loader.batch_size, self.runner.dims[0].max
        if batch > most:
            raise BatchError(
                f"{self.name} was compiled for batches up to {most}, the loader gives {batch}",
                user_origin(),
                [f'declare a larger dim: gx.dim("batch", max={batch})'],
            )
        number, done = loader.take_epoch()
        steps, first, count, in_order = len(loader), done // batch, len(sources[0]), not loader.shuffle
        order = np.arange(count, dtype=np.int64) if in_order else np.empty(count, np.int64)
        for size in (batch, count - (steps - 1) * batch) if self.limits else ():
            check_limits(self.name, self.limits, {self.runner.dims[0]: min(size, batch)})
        shuffle = None if in_order else (signed(loader.seed), number)
        totals = [0.0] * len(self.runner.results)
        marks = dict.fromkeys(first + (steps - first) * part // slices for part in range(slices + 1))
        for start, stop in pairwise(marks):
            self.write_scalars()
            status, found = self.runner.epoch(feed, order, shuffle, batch, (start, stop), in_order)
            if status:
                self.fail_in_epoch(status, arrays, order, batch)
            totals, shuffle = [known + more for known, more in zip(totals, found, strict=True)], None
            if progress is not None:
                progress(stop, steps)
        samples = max(min(steps * batch, count) - first * batch, 1)
        return self.record(*[total / samples for total in totals])

    def feed_of(self, arrays: Sequence[Any]) -> tuple[Feed, Sequence[Any]]:
        """What native code is told of a data set, and the arrays it reads, which must live as long as it does so.

        That of the last data set is kept, but not the data set, if native code reads its very arrays.
        """
        known, feed = self.fed
        if len(known) == len(arrays) and all(map(is_still, known, arrays)):
            return feed, arrays
        fitted = [fit_data(value, array, self.name) for value, array in zip(self.inputs, arrays, strict=True)]
        kinds, sources = [kind for _, kind in fitted], [self.apart(array) for array, _ in fitted]
        feed = Feed(sources, kinds)
        if all(source is array for source, array in zip(sources, arrays, strict=True)):
            self.fed = [(weakref.ref(array), array.shape, array.dtype) for array in arrays], feed
        return feed, sources

    def epoch_of_batches(self, loader: Any, progress: Callable[[int, int], None] | None) -> Any:
        """The same, batch by batch; of results that are arrays, the means."""
        names = [name for name, _ in self.runner.results]
        totals, samples = dict.fromkeys(names, np.float64(0)), 0
        for number, batch in enumerate(loader, 1):
            rows = len(batch[0])
            for name, result in zip(names, self.run(batch), strict=True):
                totals[name] = totals[name] + (result if name in self.sums else np.mean(result) * rows)
            samples += rows
            if progress is not None:
                progress(number, len(loader))
        means = [totals[name] if name in self.sums else float(totals[name] / max(samples, 1)) for name in names]
        return self.record(*self.finish(means))

    # -- checks that failed

    def fail(self, status: int, arrays: Sequence[Any], place: str) -> None:
        message = self.artifact.description.checks[status % CHECKS - 1]
        ranges = [value for value in self.ranges if value.attrs["message"] == message]
        named = dict(zip((each.attrs["name"] for each in self.inputs), arrays, strict=True))
        named |= {name: parameter.numpy() for name, parameter in self.parameters.items()}
        named |= {name: known.number for name, known in self.scalars.items()}
        for value in ranges:
            probe = replace(self.traced, outputs=(Output("result", "found", value.operands[0]),))
            self.report_range(value, reference.run(probe, named)["found"], place)
        if not message.endswith(NOT_FINITE.format(name="")):
            raise LabelError(f"{message}, and one computed in a loop does not{place}", user_origin())
        advice = ["nothing was updated; lower the learning rate or look at the data of this batch"]
        raise NumericsError(f"{self.name}: {message}{place}", user_origin(), advice)

    def report_range(self, value: Value, found: np.ndarray[Any, Any], place: str = "") -> None:
        """LabelError for the first number outside of its range; nothing when all are inside."""
        low, high = value.attrs["low"], value.attrs["high"]
        outside = (found < low) | (found >= high)
        if not outside.any():
            return
        index = tuple(int(each[0]) for each in np.nonzero(outside))
        where = f" at index {index[0] if len(index) == 1 else index}" if index else ""
        asked = ["it is asked for here:", *describe(value.origin)] if value.origin else []
        raise LabelError(
            f"{value.attrs['message']}: got {found[index]}{where}{place}",
            user_origin(),
            [*asked, "nothing was updated"],
        )

    def check_ranges(self, arrays: Sequence[Any]) -> None:
        """Look at all labels of a data set before the first step of an epoch."""
        for value in self.ranges:
            sources = [each for each in reachable(value.operands) if each.op is ops.input]
            if all(each in self.inputs and each.dtype in INTEGERS for each in sources):
                probe = Graph("labels", tuple(sources), (Output("result", "found", value.operands[0]),))
                named = {each.attrs["name"]: arrays[self.inputs.index(each)] for each in sources}
                self.report_range(value, reference.run(probe, named)["found"])

    def fail_in_epoch(self, status: int, arrays: Sequence[Any], order: Any, batch: int) -> None:
        step = status // CHECKS
        rows = order[step * batch : (step + 1) * batch]
        sizes: dict[Dim, int] = {}
        ready = [
            fit_array(value, array[rows], sizes, self.name) for value, array in zip(self.inputs, arrays, strict=True)
        ]
        self.fail(status, ready, f" in step {step} of the epoch")

    # -- its state

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of everything the function reads or updates, by name."""
        return {name: parameter.numpy() for name, parameter in self.parameters.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put a state_dict back. Raises CheckpointError, before anything changes, when names or shapes differ."""
        load_named(self.parameters, state, self.name)

    # -- looking, which imports the compiler

    @property
    def compiled(self) -> str:
        """One line: kernels, arena bytes, and how long the compiler took."""
        kind = "compiled" if self.artifact.fresh else "loaded"
        described = self.artifact.description
        return (
            f"{kind} {described.kernels} kernels in {sum(self.seconds.values()):.2f} s, "
            f"state {self.traced.state_bytes:,} bytes, arena {described.work_bytes:,} bytes"
        )

    def __repr__(self) -> str:
        types = ", ".join(f"{value.attrs['name']}: {value.type}" for value in self.inputs)
        return f"<graphc function {self.name}({types}): {self.compiled}>"

    def text(self, level: str = "graph") -> str:
        """Its text: "trace" or the name of a pass, "graph" (after all passes), "program", "kernels"."""
        from graphc import show

        return show.text(self, level)

    def explain(self, name: str | None = None) -> str:
        """The formulas of yours that were made safe, by which rule and why; or what is behind one name.

        name  of a result, an input, a parameter or a scalar; TraceError for any other
        """
        from graphc import explain

        return explain.explain(self, name)

    def source(self) -> str:
        """The kernel source, with a comment over each kernel: which values, from which of your lines."""
        from graphc import show

        return show.source(self)

    def summary(self) -> str:
        from graphc import show

        return show.summary(self)

    def to_dot(self, path: Any = None, level: str = "graph") -> str:
        """Its graph in the DOT language, written to `path` if one is given; level "graph" or "kernels"."""
        from graphc import show

        return show.to_dot(self, path, level)

    def to_svg(self, path: Any = None) -> str:
        """A drawing of its kernels, written to `path` if one is given."""
        from graphc import show

        return show.to_svg(self, path)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def llvm(self) -> str:
        """Optimised LLVM IR."""
        from graphc import show

        return show.llvm(self)

    def assembly(self) -> str:
        """Machine code as text."""
        from graphc import show

        return show.assembly(self)


def load_named(parameters: Mapping[str, Parameter], state: Mapping[str, Any], owner_name: str) -> None:
    """Copy arrays, or what can be read as such, into parameters by name, all or nothing."""
    require(isinstance(state, Mapping), "the state", state, "a dictionary of arrays, as state_dict() gives it")
    missing, unknown = [n for n in parameters if n not in state], [n for n in state if n not in parameters]
    if missing or unknown:
        raise CheckpointError(
            f"the state does not belong to {owner_name}: missing {missing or 'none'}, unknown {unknown or 'none'}",
            user_origin(),
        )
    arrays = {name: as_array(array, f"{name} in the state") for name, array in state.items()}
    for name, parameter in parameters.items():
        own, given = parameter.storage.array, arrays[name]
        both = None
        if own.shape != given.shape:
            both = f"{list(own.shape)} in {owner_name} and {list(given.shape)}"
        elif not np.can_cast(given.dtype, own.dtype, "same_kind"):
            both = f"{own.dtype} in {owner_name} and {given.dtype}"
        if both:
            raise CheckpointError(f"{name} is {both} in the state", user_origin())
    for name, parameter in parameters.items():
        parameter.assign(arrays[name])


# -- from tensors to a graph with names


def bind(plan: Plan) -> tuple[Graph, dict[str, Parameter], dict[str, Scalar]]:
    """The traced graph with one unique name an input, and the owners of its state and scalars by those names."""
    roots = [value for _, value in plan.outputs] + [value for _, value in plan.updates]
    roots += [parameter.input for parameter, _ in plan.updates]
    data = {value: name for name, value in plan.inputs}
    names: set[str] = set(data.values())
    replaced: dict[Value, Value] = {
        value: ops.input(name=name, role="data", type=value.type) for value, name in data.items()
    }
    parameters: dict[str, Parameter] = {}
    scalars: dict[str, Scalar] = {}
    for value in reachable(tuple(roots)):
        if value.op is not ops.input or value in data:
            continue
        holder = value.owner
        if not isinstance(holder, (Parameter, Scalar)):
            inside = value.attrs["role"] == "state"  # of a loop: states of functions have owners
            advice = ["add it to the list of inputs"]
            if inside:
                advice = ["it belongs to the function given to scan or cond; return what you need from that function"]
            raise TraceError(
                f"input {value.attrs['name']!r} is used but not among the inputs of {plan.name}",
                value.origin or plan.origin,
                advice,
            )
        if value.type != holder.input.type:
            raise TraceError(
                f"{holder.name or 'a parameter'} was {value.type} when {plan.name} was traced and is {holder.type} now",
                plan.origin,
                ["convert the model first, then trace it"],
            )
        name = unique(holder.name or value.attrs["name"], names)
        replaced[value] = ops.input(name=name, role=value.attrs["role"], type=value.type)
        if isinstance(holder, Parameter):
            parameters[name] = holder
        else:
            scalars[name] = holder
    state_names = {parameter.input: name for name, parameter in parameters.items()}
    outputs = [Output("result", name, value) for name, value in plan.outputs]
    outputs += [Output("update", state_names[parameter.input], value) for parameter, value in plan.updates]
    if generator.state.input in state_names:
        outputs.append(Output("update", state_names[generator.state.input], generator.next_call()))
    if plan.finite:
        outputs += [finite_check(name, value) for name, value in plan.outputs if value.dtype in FLOATS]
    by_role = sorted(replaced.values(), key=lambda value: ("data", "state", "scalar").index(value.attrs["role"]))
    name = re.sub(r"[^\w.]", "_", plan.name)  # "<lambda>" would not parse back from text
    streams: dict[generator.Draw, int] = {}
    graph = rebuild(
        Graph(name, tuple(replaced), tuple(outputs)),
        lambda value: replaced.get(value) or generator.number_streams(value, streams),
    )
    return replace(graph, inputs=tuple(by_role)), parameters, scalars


def unique(name: str, taken: set[str]) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate


def finite_check(name: str, value: Value) -> Output:
    """Counts numbers that are NaN or infinite: x - x is 0 for all others."""
    zero = ops.constant(0.0, value)
    wrong = ops.cast(ops.logical_not(ops.equal(ops.sub(value, value), zero)), dtype="i64")
    count = ops.sum(wrong, axes=tuple(range(len(value.shape)))) if value.shape else wrong
    return Output("check", NOT_FINITE.format(name=name), ops.reshape(count, shape=()) if value.shape else count)


def is_still(known: tuple[Any, Any, Any], array: Any) -> bool:
    """Whether it is the array that was noted, of the shape and dtype it had."""
    reference, shape, dtype = known
    return reference() is array and array.shape == shape and array.dtype is dtype

"""Function: a traced graph, its native code, and the calls."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from graphc.arrays import fit_array
from graphc.backends import reference
from graphc.backends.cache import default_cache
from graphc.backends.description import Artifact, obtain
from graphc.backends.exact import exact_call
from graphc.backends.runtime import Refused, Runner, without_collection
from graphc.errors import ArgumentError, GraphcError, InternalError, TraceError
from graphc.ir import ops
from graphc.ir.graph import Graph, TooLittleMemory, Value, user_origin
from graphc.ir.types import Dim
from graphc.limits import check_dims, check_limits, limits_of
from graphc.plan import Plan, Terms, bind, too_little_memory
from graphc.settings import check_whole, require
from graphc.states import load_named
from graphc.structure import record_of
from graphc.tensor import Parameter, Scalar

if TYPE_CHECKING:
    from graphc.backends.exact import Feed
    from graphc.certificate import Certificate
    from graphc.difference import Difference
    from graphc.epochs import Again, Progress
    from graphc.failures import Spans
    from graphc.ir.passes import Pass
    from graphc.profile.record import Profile

UNKNOWN = object()


class Function:
    """A compiled function: arrays in, arrays out, parameters updated in place.

    Made by `gx.function`, `@gx.step`, `gx.train_step` and their kin; compiled once, for every batch size of its dims.

    seconds  spent on making it, by part: "passes" over the graph, "plan" of loops and memory, "source" of the kernels,
             "native" code made or loaded
    device   "cpu" or "cuda"
    probes   arrays that `gx.probe` kept of the last call, by name
    measured seconds of the last profile, by kernel number
    """

    def __init__(self, plan: Plan) -> None:
        self.name = plan.name
        self.origin = plan.origin
        self.packed = plan.packed
        # A graph is many small objects that all live: to look at them takes a third of the time of a deep model.
        with without_collection():
            self.compile(plan)
        # Several parameters lie in one block of memory, so there are few.
        blocks = [parameter.storage.array.base for parameter in self.parameters.values()]
        self.blocks = list({id(block): block for block in blocks}.values())
        self.exact_call = self.quick_call()
        self.fed: Feed | None = None  # the data set of the last epoch
        self.exact_epoch: Again | None = None  # the last epoch over again
        self.figures = plan.figures
        self.layers = plan.layers
        self.probed = plan.probes
        self.probes: dict[str, Any] = {}
        self.measured: dict[int, float] | None = None
        # Where scalars have their numbers, and what was there when native code was told of them.
        self.written: list[tuple[int, Scalar, dict[str, Any], str, object]] = [
            (place, each, *each.home, UNKNOWN) for place, each in enumerate(self.scalars.values())
        ]
        self.sums = {value.attrs["name"] for figure in self.figures.values() for value in figure.inputs}
        self.returned = len(self.runner.results) - len(self.probed)
        self.fields = plan.fields or tuple(name for name, _ in self.runner.results[: self.returned])
        self.record = record_of(self.fields)
        self.hand_out = self.packing()
        self.__name__ = self.name
        if "logging" in sys.modules:  # nobody listens who has not imported it
            sys.modules["logging"].getLogger("graphc").info("%s: %s", self.name, self.compiled)

    def compile(self, plan: Plan) -> None:
        """From what was traced to loaded code."""
        traced, self.parameters, self.scalars = bind(plan)
        self.device = plan.terms.device or device_of(self.parameters.values(), plan.terms.precision)
        check_dims(plan.name, traced)
        self.traced = traced
        self.inputs = traced.of_role("data")
        self.ranges = [value for value in traced.values() if value.op is ops.require_range]
        self.limits = limits_of(traced)
        try:
            self.artifact, self.runner = self.made(plan.terms)
            self.seconds = self.artifact.seconds
        except GraphcError:
            raise
        except TooLittleMemory as error:
            raise too_little_memory(error, plan) from None
        except Exception as error:
            raise InternalError(f"compiling {self.name} failed: {error}", plan.origin) from error

    def made(self, terms: Terms) -> tuple[Artifact, Runner]:
        """(artifact, runner) for the device."""
        storages = [parameter.storage for parameter in self.parameters.values()]
        if self.device == "cpu":
            artifact = obtain(self.traced, default_cache(), terms.max_bytes)
            return artifact, Runner(artifact, storages)
        from graphc import cuda

        require(terms.max_bytes is None, "max_bytes", terms.max_bytes, "None on a GPU, where all values are kept")
        found = cuda.compiled(self.traced, storages, terms.precision)
        return cast("tuple[Artifact, Runner]", found)  # which offer the same

    @cached_property
    def spans(self) -> Spans | None:
        from graphc.failures import spans_of

        return spans_of(self)

    @property
    def stages(self) -> dict[str, Graph]:
        """The graph as it was traced and after each pass, by the pass's name; computed anew every time."""
        from graphc.ir.passes import run_passes

        found: dict[str, Graph] = {}
        run_passes(self.traced, self.passes, found.__setitem__)
        return found

    @property
    def passes(self) -> tuple[Pass, ...]:
        """Those that its graph goes through, in order."""
        if self.device == "cuda":
            from graphc.backends.cuda.passes import DEVICE_PIPELINE

            return DEVICE_PIPELINE
        from graphc.ir.passes import PIPELINE

        return PIPELINE

    # -- calling

    def __call__(self, *arrays: Any) -> Any:
        """Run one batch.

        Raises ShapeError, DTypeError, BatchError for arrays that do not fit; LabelError, NumericsError when a check
        fails. Nothing is updated then.
        """
        return self.hand_out(self.run(arrays))

    def __reduce__(self) -> NoReturn:
        text = f"{self.name} works on the memory of its parameters and can be neither copied nor pickled"
        advice = [
            "copy or pickle its net and its optimizer and compile them again: the cache has the code",
            "step.state_dict() holds its numbers",
        ]
        raise TraceError(text, user_origin(), advice)

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """All results of one batch, in order."""
        if not self.runner.afar:  # asked at every call: no context is entered where there is nothing to hold
            return self.run_here(arrays)
        with self.states_at_home():
            return self.run_here(arrays)

    def run_here(self, arrays: Sequence[Any]) -> list[Any]:
        """The same where no device works on the states."""
        self.write_scalars()
        found = None if self.limits else self.exact_call(arrays)
        status, results = found or self.run_fitted(*self.fit(arrays))
        if status:
            from graphc.cuda import at_home
            from graphc.failures import fail

            fail(self, status, [at_home(array) for array in self.fit(arrays)[0]])
        return results

    def quick_call(self) -> Callable[[Sequence[Any]], Any]:
        """What runs arrays that can be read as they are, and gives None for others."""
        return exact_call(self.runner) if isinstance(self.runner, Runner) else lambda arrays: None

    def run_fitted(self, arrays: Sequence[Any], sizes: Sequence[int]) -> tuple[int, list[Any]]:
        if self.limits:
            check_limits(self.name, self.limits, dict(zip(self.runner.dims, sizes, strict=True)))
        try:
            return self.runner.step(arrays, sizes)
        except Refused as error:
            from graphc.cuda import refused

            raise refused(error) from None

    def fit(self, arrays: Sequence[Any]) -> tuple[Sequence[Any], Sequence[int]]:
        """The arrays as native code reads them, and the size of every dim."""
        if len(arrays) != len(self.inputs):
            names = ", ".join(value.attrs["name"] for value in self.inputs)
            raise TraceError(f"{self.name} takes {len(self.inputs)} arrays ({names}), got {len(arrays)}", user_origin())
        sizes: dict[Dim, int] = {}
        try:
            ready = [self.fit_one(value, array, sizes) for value, array in zip(self.inputs, arrays, strict=True)]
        except GraphcError as error:
            from graphc.suggestions import for_order

            error.details = (*error.details, *for_order(arrays, self.inputs))
            raise
        return ready, [sizes[dim] for dim in self.runner.dims]

    def fit_one(self, value: Value, array: Any, sizes: dict[Dim, int]) -> Any:
        """The array of one input; of a step on a GPU it may stay where it is."""
        if self.device == "cuda":
            from graphc import cuda

            if cuda.is_afar(array):
                return cuda.fit_afar(value, array, sizes, self.name)
        return self.apart(fit_array(value, array, sizes, self.name))

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
        return ways[self.packed] if not self.probed else lambda results: ways[self.packed](self.look_at(results))

    def look_at(self, results: Sequence[Any]) -> Sequence[Any]:
        """What a call returns of its results; the others are kept in `probes`, and printed where that is asked for."""
        from graphc import probes

        numbers = results[self.returned :]
        self.probes = {each.name: number for each, number in zip(self.probed, numbers, strict=True)}
        probes.show(self.probed, numbers)
        return results[: self.returned]

    def finish(self, results: Sequence[Any]) -> Sequence[Any]:
        """The results with every figure in place of the sums it is computed of."""
        if not self.figures:
            return results
        known = {name: result for (name, _), result in zip(self.runner.results, results, strict=False)}
        for name, figure in self.figures.items():
            known[name] = reference.run(figure, known, double=True)[name][()]
        return [known[name] for name in self.fields]

    def set(self, **numbers: float) -> Function:
        """New values of run-time scalars, by name: `step.set(lr=0.01)`."""
        for name, number in numbers.items():
            if name not in self.scalars:
                from graphc.suggestions import did_you_mean

                known = ", ".join(self.scalars) or "none"
                text = f"{self.name} has no scalar {name!r}; its scalars are: {known}"
                raise TraceError(text, user_origin(), did_you_mean(name, self.scalars))
            self.scalars[name].set(number)
        return self

    @contextmanager
    def states_at_home(self) -> Iterator[None]:
        """The newest numbers of all states are where calls read them, and no device works on them meanwhile."""
        if not self.runner.afar:
            yield
            return
        try:
            with self.runner.states_at_home():
                yield
        except Refused as error:
            from graphc.cuda import refused

            raise refused(error) from None

    @property
    def threads(self) -> int:
        """The most threads a call uses: all processors of this process, or GRAPHC_THREADS, and fewer where that is
        quicker. Set a number to use just as many, None to go back. The results are the same bits for any number.
        """
        return self.runner.threads

    @threads.setter
    def threads(self, number: int | None) -> None:
        if self.device != "cpu":
            raise ArgumentError(f"{self.name} runs on a GPU, whose threads are shared out already", user_origin())
        self.runner.use_threads(None if number is None else check_whole("threads", number, 1))
        self.exact_call, self.exact_epoch = self.quick_call(), None

    def write_scalars(self) -> None:
        """Tell native code of the numbers that are new."""
        for place, scalar, held, key, written in self.written:
            if held[key] is not written:
                with self.runner.lock:
                    found = held[key]
                    self.runner.set_scalar(place, scalar.number)
                    lasting = isinstance(found, (int, float, tuple))  # a list can change and be the same object
                    self.written[place] = place, scalar, held, key, found if lasting else UNKNOWN

    def epoch(self, loader: Any, progress: Progress | None = None, slices: int = 1) -> Any:
        """One pass over a DataLoader, natively: shuffle, gather, every step, the exact last batch.

        Returns a record of the results' means over samples, and of figures of the whole epoch for metrics that use
        `gx.epoch_sum`. `progress(done, all)` is called after each of `slices` equal parts of the steps; the run-time
        scalars it sets hold for the next. Python goes from batch to batch where a result is an array or such a figure,
        or the data set does not consist of arrays.
        """
        found = None
        if self.exact_epoch is not None and progress is None and slices == 1:
            with self.states_at_home():
                self.write_scalars()
                found = self.exact_epoch(loader)
        if found is not None and not found[0]:
            return found[1]
        from graphc import epochs

        if found is None:
            return epochs.run(self, loader, progress, slices)
        epochs.fail_at(self, found[0], loader.dataset.arrays, found[1], loader.batch_size)

    # -- its state

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of everything the function reads or updates, by name."""
        return {name: parameter.numpy() for name, parameter in self.parameters.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put a state_dict back. Raises CheckpointError, before anything changes, when names or shapes differ."""
        load_named(self.parameters, state, self.name)

    # -- looking, which imports the compiler

    def profile(self, *arrays: Any, repeat: int = 20, threads: int | None = None) -> Profile:
        """Measure how long each kernel takes in a call with these arrays: `print(step.profile(x, y))`.

        arrays   as for a call
        repeat   how many calls are measured; times are their medians and quartiles
        threads  that share a call, which then has so many in any case; None: as many as the step would use

        The kernels are those of the step, in one native call as ever, with readings of the clock between them; only
        what calls them is compiled anew. That is nearer to the truth than to run them one by one: each finds in the
        caches what the one before it left there, threads meet as they do, and nothing is added but a reading of some
        ten nanoseconds, which is measured as well and taken off. The profile says what the plain step takes beside it.

        Nothing is changed: the calls work on a copy of parameters, optimizer's numbers and counters, which is as they
        are now before each of them. On a GPU, launches are given one by one and timed by events between them.
        The times colour pictures: `step.to_svg(level="kernels", color="time")`.

        Raises what a call with these arrays raises, and ArgumentError for a wrong setting.
        """
        from graphc.profile.measure import profile

        found = profile(self, arrays, repeat, threads)
        self.measured = found.by_number
        return found

    @property
    def compiled(self) -> str:
        """One line: kernels, arena bytes, rows of a slice if there are slices, and how long the compiler took."""
        kind = "compiled" if self.artifact.fresh else "loaded"
        described = self.artifact.description
        slices = f" for {described.rows} rows at a time" if described.rows else ""
        return (
            f"{kind} {described.kernels} kernels in {sum(self.seconds.values()):.2f} s, "
            f"state {self.traced.state_bytes:,} bytes, arena {described.work_bytes:,} bytes{slices}"
        )

    def __repr__(self) -> str:
        types = ", ".join(f"{value.attrs['name']}: {value.type}" for value in self.inputs)
        return f"<graphc function {self.name}({types}): {self.compiled}>"

    @property
    def certificate(self) -> Certificate:
        """What a call needs, known before one: bytes, operations and elementary functions, of each kernel, as formulas
        of the dims; threads; and how long it will take here, for which this machine is measured once."""
        from graphc.certificate import certificate_of

        return certificate_of(self)

    def text(self, level: str = "graph") -> str:
        """Its text: "trace" or the name of a pass, "graph" (after all passes), "program", "kernels"; as a GPU does it,
        "launches"; what it needs and how long it will take, "certificate"."""
        from graphc import show

        return show.text(self, level)

    def explain(self, name: str | int | None = None) -> str:
        """The formulas of yours that were made safe, by which rule and why; or all about one value: what it is, where
        it comes from, what was rewritten and why, which kernel computes it and which read it, where it lies.

        name  of a result, a probe, an input, a parameter, an optimizer's slot, a scalar, or a name in `source()`;
              "grad of fc1.weight"; "%12" as in the graph's text; "mlp.py:12" or 12: all values of a line of yours

        Raises TraceError for any other.
        """
        from graphc import explain

        return explain.explain(self, name)

    def diff(self, pass_a: str, pass_b: str) -> Difference:
        """What the passes between two stages did: values added, removed, merged, rewritten, each with the rule that did
        it and your line; text when printed, in colours at a terminal, and a page by `.to_html(path)`.

        pass_a, pass_b  "trace", or the name of a pass for the graph that it leaves; "autodiff" is "expand_gradients",
                        "graph" the last; "fuse": which values went into which kernel. ArgumentError for any other
        """
        from graphc.difference import difference

        return difference(self, pass_a, pass_b)

    def source(self) -> str:
        """The kernels as Python, over each loop what it computes, as a formula in your names and with your line; then
        the function that calls them."""
        if self.device == "cuda":
            from graphc import launches

            return launches.source(self)
        from graphc import commented

        return commented.source(self)

    def summary(self) -> str:
        """Its kernels as a table: over what, of which pass, layers and lines of yours; memory and time to compile."""
        from graphc import show

        return show.summary(self)

    def to_dot(self, path: Any = None, level: str = "graph") -> str:
        """Its graph in the DOT language, written to `path` if one is given; level "layers", "graph" or "kernels"."""
        from graphc import show

        return show.to_dot(self, path, level)

    def to_svg(
        self,
        path: Any = None,
        level: str = "layers",
        *,
        color: Any = None,
        fold: bool | None = None,
        engine: str = "graphc",
    ) -> str:
        """A drawing as the text of an SVG file, written to `path` if one is given; a notebook shows it.

        level   "layers": a card a module in each pass; "graph": every op; "kernels": loop nests, buffers, the arena
        color   by what: None by forward, backward, update; "bytes"; "operations"; "time" of the last `profile`; or
                other seconds, {kernel number: seconds}
        fold    whether repeated blocks are drawn once; None: in a graph, and where there are many layers or kernels
        engine  "graphviz": what `to_dot` writes, laid out by that program, if it is installed
        """
        from graphc import show

        return show.to_svg(self, path, level, color, fold, engine)

    def to_png(
        self,
        path: Any = None,
        level: str = "layers",
        *,
        color: Any = None,
        fold: bool | None = None,
        scale: float = 2.0,
    ) -> bytes:
        """The drawing of `to_svg` as a PNG, `scale` pixels for each of its units; needs graphc[viz]."""
        from graphc import show

        return show.to_png(self, path, level, color, fold, scale)

    def to_html(self, path: Any = None, *, color: Any = None, fold: bool | None = None) -> str:
        """A page that works without a network: all three levels to move about in and to search; a click on a card
        shows its text, source and kernel beside your line."""
        from graphc import show

        return show.to_html(self, path, color, fold)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def llvm(self, kernel: int | str | None = None) -> str:
        """Optimised LLVM IR, of the whole or of one kernel with the extents that this step calls it with.

        kernel  its number in `text("program")`, its name, or that of its text; of a loop's number, all that is inside;
                ArgumentError for any other
        """
        from graphc import machine_code

        return machine_code.llvm(self, kernel)

    def assembly(self, kernel: int | str | None = None) -> str:
        """Machine code as text, of the whole or, as for `llvm`, of one kernel; of a step on a GPU, its PTX."""
        from graphc import machine_code

        return machine_code.assembly(self, kernel)

    def ptx(self, architecture: str | None = None, kernel: int | str | None = None) -> str:
        """Its kernels for a GPU as PTX, which is made here without any tool of NVIDIA's, of steps for the CPU too.

        architecture  "sm_80" or later; that of the GPU it runs on, or "sm_90", if none is given
        kernel        as for `llvm`, or the name of a launch in `text("launches")`

        Raises DeviceError for what no kernel for GPUs does.
        """
        from graphc import machine_code

        return machine_code.ptx(self, architecture, kernel)


def device_of(parameters: Iterable[Parameter], precision: str) -> str:
    """The GPU if one of the parameters was sent there: the others are brought. Raises as `check_device` does."""
    from graphc.cuda import check_device

    return check_device("cuda" if any(each.chosen_device == "cuda" for each in parameters) else "cpu", precision)

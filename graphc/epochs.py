"""Epochs: all steps of a pass over a data set in one native call, or batch by batch where that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from graphc.arrays import fit_array, fit_data, signed
from graphc.backends.exact import epoch_again
from graphc.backends.interface import CHECKS
from graphc.backends.runtime import Refused, Runner
from graphc.cuda import fit_data_afar, refused
from graphc.data import DataLoader, TensorDataset
from graphc.errors import BatchError
from graphc.failures import are_inside, check_ranges, fail
from graphc.ir.graph import user_origin
from graphc.ir.types import Dim
from graphc.limits import check_limits
from graphc.settings import check_function, check_whole, require

if TYPE_CHECKING:
    from graphc.backends.exact import Feed
    from graphc.function import Function
    from graphc.ir.graph import Value

Progress = Callable[[int, int], None]
Again = Callable[[Any], tuple[int, Any] | None]


def run(function: Function, loader: Any, progress: Progress | None, slices: int) -> Any:
    """What `Function.epoch` does; and the next one is made ready, where it can be quick."""
    require(hasattr(loader, "dataset"), "loader", loader, "a loader, such as DataLoader(TensorDataset(x, y), 64)")
    if progress is not None:
        check_function("progress", progress, takes=2)
    if slices != 1:
        check_whole("slices", slices, 1)
    arrays = getattr(loader.dataset, "arrays", None)
    if function.artifact.description.layout is None or arrays is None or len(arrays) != len(function.inputs):
        return of_batches(function, loader, progress)
    feed, sources = feed_of(function, arrays)
    if all(isinstance(array, np.ndarray) for array in arrays):  # of what lies elsewhere each step checks its own rows
        check_ranges(function, arrays)
    runner = function.runner
    if function.figures or function.probed or runner.array_results:
        return of_batches(function, loader, progress)
    batch, most = loader.batch_size, runner.dims[0].max
    if batch > most:
        raise BatchError(
            f"{function.name} was compiled for batches up to {most}, the loader gives {batch}",
            user_origin(),
            [f'declare a larger dim: gx.dim("batch", max={batch})'],
        )
    number, done = loader.take_epoch()
    steps, first, count, in_order = len(loader), done // batch, len(sources[0]), not loader.shuffle
    order = np.arange(count, dtype=np.int64) if in_order else np.empty(count, np.int64)
    for size in (batch, count - (steps - 1) * batch) if function.limits else ():
        check_limits(function.name, function.limits, {runner.dims[0]: min(size, batch)})
    shuffle = None if in_order else (signed(loader.seed), number)
    totals = [0.0] * len(runner.results)
    marks = dict.fromkeys(first + (steps - first) * part // slices for part in range(slices + 1))
    for start, stop in pairwise(marks):
        try:
            with function.states_at_home():
                function.write_scalars()
                status, found = runner.epoch(feed, order, shuffle, batch, (start, stop), in_order)
        except Refused as error:
            raise refused(error) from None
        if status:
            fail_at(function, status, arrays, order, batch)
        totals, shuffle = [known + more for known, more in zip(totals, found, strict=True)], None
        if progress is not None:
            progress(stop, steps)
    function.exact_epoch = again(function, loader, feed) if sources is arrays else None
    samples = max(min(steps * batch, count) - first * batch, 1)
    return function.record(*[total / samples for total in totals])


def again(function: Function, known: Any, feed: Feed) -> Again | None:
    """The next epoch like the one just done over a loader: (status, record, or the order if a check failed); None, and
    nothing is done, where the loader or its arrays are not as they were."""
    dataset, runner = known.dataset, function.runner
    plain = type(known) is DataLoader and type(dataset) is TensorDataset
    if not plain or not isinstance(runner, Runner) or runner.threads != 1 or function.limits:
        return None
    batch, shuffle, seed, _ = settings = known.batch_size, known.shuffle, known.seed, known.drop_last
    steps, count = len(known), len(dataset)
    record, samples = partial(tuple.__new__, function.record), min(steps * batch, count)
    native = epoch_again(runner, feed, count, batch, steps, signed(seed) if shuffle else None)
    spans = function.spans

    def call(loader: Any) -> tuple[int, Any] | None:
        if type(loader) is not DataLoader or type(dataset := loader.dataset) is not TensorDataset:
            return None
        if (loader.batch_size, loader.shuffle, loader.seed, loader.drop_last) != settings:
            return None
        arrays = dataset.arrays  # which live as long as they are read
        fits = len(arrays) == len(function.inputs) and are_inside(spans, arrays)
        found = native(arrays, loader.take_epoch) if fits else None
        if found is None:
            return None
        status, done, totals = found
        if status:
            return status, totals
        left = samples if not done else max(samples - done // batch * batch, 1)
        return 0, record([total / left for total in totals])

    return call


def feed_of(function: Function, arrays: Sequence[Any]) -> tuple[Feed, Sequence[Any]]:
    """What native code is told of a data set, and the arrays it reads, which must live as long as it does so: those of
    the data set if they can be, of which the last feed is kept."""
    with function.runner.lock:
        if function.fed is not None and function.fed.reads(arrays):
            return function.fed, arrays
    fitted = [fit_one(function, value, array) for value, array in zip(function.inputs, arrays, strict=True)]
    kinds, sources = [kind for _, kind in fitted], [array for array, _ in fitted]
    feed = function.runner.feed(sources, kinds)
    if not all(source is array for source, array in zip(sources, arrays, strict=True)):
        return feed, sources
    function.fed = feed
    return feed, arrays


def fit_one(function: Function, value: Value, array: Any) -> tuple[Any, int]:
    """The data of one input as an epoch reads it, and the kind it is gathered as."""
    if function.device == "cuda" and not isinstance(array, np.ndarray):
        return fit_data_afar(value, array, function.name)
    found, kind = fit_data(value, array, function.name)
    return function.apart(found), kind


def of_batches(function: Function, loader: Any, progress: Progress | None) -> Any:
    """The same, batch by batch; of results that are arrays, the means."""
    names = [name for name, _ in function.runner.results[: function.returned]]
    totals, samples = dict.fromkeys(names, np.float64(0)), 0
    for number, batch in enumerate(loader, 1):
        rows = len(batch[0])
        results = function.run(batch)
        for name, result in zip(names, results, strict=False):
            totals[name] = totals[name] + (result if name in function.sums else np.mean(result) * rows)
        samples += rows
        if progress is not None:
            progress(number, len(loader))
    if function.probed and samples:
        function.look_at(results)
    means = [totals[name] if name in function.sums else float(totals[name] / max(samples, 1)) for name in names]
    return function.record(*function.finish(means))


def fail_at(function: Function, status: int, arrays: Sequence[Any], order: Any, batch: int) -> NoReturn:
    """The error of a check that failed in an epoch, with the step and what is wrong in its rows."""
    step = status // CHECKS
    rows = order[step * batch : (step + 1) * batch]
    sizes: dict[Dim, int] = {}
    given = zip(function.inputs, arrays, strict=True)
    ready = [fit_array(value, array[rows], sizes, function.name) for value, array in given]
    fail(function, status, ready, f" in step {step} of the epoch")

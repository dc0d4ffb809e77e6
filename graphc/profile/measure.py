"""Taking a profile: the step's own kernels on a copy of its states, timed where they run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.backends.cache import default_cache
from graphc.errors import ArgumentError
from graphc.failures import fail
from graphc.ir.cost import brought, cost_of_nest
from graphc.ir.dot.cards import describe
from graphc.ir.dot.style import user_lines
from graphc.ir.graph import Origin, user_origin
from graphc.ir.loops import LoopNest
from graphc.limits import check_limits
from graphc.profile.record import Profile, Row, Seconds, Span
from graphc.settings import check_whole

if TYPE_CHECKING:
    from graphc.backends.timing import Timings
    from graphc.function import Function
    from graphc.ir.program import Program

Array = np.ndarray[Any, Any]
PATIENCE = 1.0  # seconds until progress is shown


def profile(function: Function, arrays: Sequence[Any], repeat: int, threads: int | None) -> Profile:
    """See `Function.profile`."""
    check_whole("repeat", repeat, 1)
    if threads is not None:
        check_whole("threads", threads, 1)
    ready, sizes = function.fit(arrays)
    if function.limits:
        check_limits(function.name, function.limits, dict(zip(function.runner.dims, sizes, strict=True)))
    found = timings(function, ready, sizes, repeat, threads)
    if isinstance(found, int):
        fail(function, found, ready)
    return told(function, sizes, repeat, found)


def timings(
    function: Function, arrays: Sequence[Any], sizes: Sequence[int], repeat: int, threads: int | None
) -> Timings | int:
    """What was measured, or the status of a call that failed a check."""
    from graphc.backends.timing import Stopwatch, clock_address

    try:
        clock_address()
    except (AttributeError, TypeError):
        text = f"profile reads the clock of POSIX systems, clock_gettime, and {sys.platform} has none"
        raise ArgumentError(text, user_origin()) from None
    with function.runner.lock:
        storages = [*function.runner.storages]
        numbers = [scalar.number for scalar in function.scalars.values()]
        watch = Stopwatch(function.artifact, storages, numbers, default_cache())
    with Progress(function.name, repeat) as shown:
        return watch.measure(arrays, sizes, repeat, threads, shown)


class Progress:
    """How many repetitions are done, on a terminal or where GRAPHC_SHOW is set, once it takes a while."""

    def __init__(self, name: str, repeat: int) -> None:
        self.name, self.repeat = name, repeat
        self.wanted = sys.stderr.isatty() or bool(os.environ.get("GRAPHC_SHOW"))
        self.began, self.drawn = time.perf_counter(), False

    def __call__(self, done: int) -> None:
        if not self.wanted or time.perf_counter() - self.began < PATIENCE:
            return
        head = "\r" if sys.stderr.isatty() and self.drawn else ""
        sys.stderr.write(f"{head}profile of {self.name}: {done}/{self.repeat}" + "\n" * (not sys.stderr.isatty()))
        sys.stderr.flush()
        self.drawn = True

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.drawn and sys.stderr.isatty():
            sys.stderr.write("\n")


# -- from what was measured to rows


def told(function: Function, sizes: Sequence[int], repeat: int, found: Timings) -> Profile:
    from graphc.backends.entry.timed import WAIT, WHOLE

    rows = rows_of(function.artifact.program, found)
    known: dict[Any, Row] = {row.path: row for row in rows}
    names = {path: row.name for path, row in known.items()} | {WAIT: "waiting for other threads", WHOLE: function.name}
    spans = (Span(each.thread, names[each.what], known.get(each.what), each.begin, each.end) for each in found.events)
    return Profile(
        name=function.name,
        inputs=", ".join(f"{value.attrs['name']}: {value.type}" for value in function.inputs),
        sizes={dim.name: size for dim, size in zip(function.runner.dims, sizes, strict=True)},
        device=function.device,
        threads=found.threads,
        repeat=repeat,
        rows=rows,
        step=seconds(found.plain),
        marked=seconds(found.marked),
        waiting=seconds(found.waiting),
        reading=found.reading,
        spans=tuple(spans),
        left_out=found.left_out,
        function=function,
    )


def seconds(taken: Array) -> Seconds:
    low, median, high = map(float, np.quantile(taken, (0.25, 0.5, 0.75)))
    return Seconds(median, low, high)


def rows_of(program: Program, found: Timings) -> tuple[Row, ...]:
    from graphc.backends.entry.timed import nests

    whole = sum(float(np.median(each)) for each in found.kernels.values()) or 1.0
    return tuple(
        row_of(program, nest, path, seconds(found.kernels[path]), found.calls[path], whole)
        for path, nest in nests(program)
        if path in found.kernels
    )


def row_of(program: Program, nest: LoopNest, path: tuple[int, ...], taken: Seconds, calls: int, whole: float) -> Row:
    """whole: the seconds of all kernels."""
    origins = [origin for origin in nest.origins if isinstance(origin, Origin)]
    loop = nest.repetition
    cost = (cost_of_nest(nest) if loop is None else brought(loop)) * calls
    return Row(
        path=path,
        name=nest.name if loop is None else "states of a loop",
        over=f"[{', '.join(map(str, nest.frame))}]",
        part=describe(program, path[0], program.apart[path[0]]).part,
        modules=tuple(dict.fromkeys(origin.module for origin in origins if origin.module)),
        lines=tuple(user_lines(origins)),
        calls=calls,
        seconds=taken,
        share=taken.median / whole,
        bytes=cost.moved,
        operations=cost.operations,
    )

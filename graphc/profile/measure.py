"""Taking a profile: the step's own kernels on a copy of its states, timed where they run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graphc.backends.cache import default_cache
from graphc.backends.runtime import Refused
from graphc.errors import ArgumentError
from graphc.failures import fail
from graphc.ir.graph import user_origin
from graphc.limits import check_limits
from graphc.profile.record import Profile, Row, Seconds, Span
from graphc.settings import check_whole, require

if TYPE_CHECKING:
    from graphc.backends.runtime import Storage
    from graphc.backends.timing import Timings
    from graphc.function import Function

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
    storages = [parameter.storage for parameter in function.parameters.values()]
    scalars = [scalar.number for scalar in function.scalars.values()]
    if function.device == "cuda":
        require(threads is None, "threads", threads, "None on a GPU, whose threads are shared out already")
        return launch_timings(function, arrays, sizes, repeat, storages, scalars)
    from graphc.backends.timing import Stopwatch, clock_address

    try:
        clock_address()
    except (AttributeError, TypeError):
        text = f"profile reads the clock of POSIX systems, clock_gettime, and {sys.platform} has none"
        raise ArgumentError(text, user_origin()) from None
    if threads is None and function.runner.paces is None:  # the user said how many, or there is but one
        threads = function.runner.threads
    with function.runner.lock:
        watch = Stopwatch(function.artifact, storages, scalars, default_cache())
    with Progress(function.name, repeat) as shown:
        return watch.measure(arrays, sizes, repeat, threads, shown)


def launch_timings(
    function: Function,
    arrays: Sequence[Any],
    sizes: Sequence[int],
    repeat: int,
    storages: Sequence[Storage],
    scalars: Sequence[float],
) -> Timings | int:
    """The same of a step on a GPU, whose memory has to take all that it works on once more."""
    from graphc.backends.cuda.timing import DeviceStopwatch
    from graphc.cuda import parts_of, refused

    artifact, runner = parts_of(function)
    try:
        watch = DeviceStopwatch(artifact, storages, scalars, runner.device, runner.launcher.library)
        with Progress(function.name, repeat) as shown:
            return watch.measure(arrays, sizes, repeat, shown)
    except Refused as error:
        raise refused(error) from None


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
    from graphc.profile.rows import rows_of

    rows = rows_of(function, dict(zip(function.runner.dims, sizes, strict=True)), found)
    known: dict[Any, Row] = dict(zip(found.kernels, rows, strict=True))
    names = {what: row.name for what, row in known.items()} | {WAIT: "waiting for other threads", WHOLE: function.name}
    spans = (Span(each.thread, names[each.what], known.get(each.what), each.begin, each.end) for each in found.events)
    return Profile(
        name=function.name,
        inputs=", ".join(f"{value.attrs['name']}: {value.type}" for value in function.inputs),
        sizes={dim.name: size for dim, size in zip(function.runner.dims, sizes, strict=True)},
        device=function.device,
        threads=found.threads,
        repeat=repeat,
        rows=rows,
        step=Seconds.of(found.plain),
        marked=Seconds.of(found.marked),
        waiting=Seconds.of(found.waiting),
        reading=found.reading,
        spans=tuple(spans),
        left_out=found.left_out,
        function=function,
    )

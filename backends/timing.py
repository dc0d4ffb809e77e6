"""How long each kernel of a step takes within the step: the same code with readings of a clock between the kernels.

One native call is measured, with all its threads, over a copy of the states that is as it was before every call. So
each repetition does the same work on the same numbers, to the bit, and what differs between two is the machine.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from graphc.backends.artifact import Blueprint, arena_of, blueprint, code_of
from graphc.backends.cache import Cache
from graphc.backends.crew import crew
from graphc.backends.description import Artifact, Description
from graphc.backends.entry import timed
from graphc.backends.interface import MEETING_BYTES, Arena, functions_of
from graphc.backends.runtime import Runner, Storage
from graphc.ir.frozen import dataclass
from graphc.ir.types import round_up

Array = np.ndarray[Any, Any]
TRIES = 3  # calls with one number of threads, to tell which is quicker
SHORT = 1e-3  # seconds of a call that comes right behind another one, so that its memory is as near as in an epoch
NANO = 1e-9


@dataclass(frozen=True, slots=True)
class Event:
    """Something a thread did in one call, in seconds since that call began.

    what  the path of a nest, timed.WAIT for others, or timed.WHOLE: its share of the step; on a GPU, see cuda/timing.py
    """

    thread: int
    what: timed.Path | str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Timings:
    """What was measured, in seconds; arrays have a number a repetition.

    kernels   by the path of each nest, or on a GPU as cuda/timing.py says: in one call, of the thread that took
              longest, without what the readings took
    calls     how often each is done in one call
    plain     the step as it is, called from Python
    marked    the step with the readings, likewise
    waiting   for others, of the thread that waited longest
    reading   one reading of the clock
    events    of the call that took the median time
    left_out  how many events of it there was no room for
    """

    threads: int
    kernels: dict[timed.Path | str, Array]
    calls: dict[timed.Path | str, int]
    plain: Array
    marked: Array
    waiting: Array
    reading: float
    events: tuple[Event, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Log:
    """What a thread noted in one call: (slot, begin, end) of events, (nanoseconds, times) of slots."""

    events: Array
    sums: Array
    left_out: int


def timed_artifact(made: Blueprint, store: Cache) -> Artifact:
    """A blueprint's step with the readings; only what calls the kernels is compiled."""
    program = made.program
    own = blueprint(program, made.sources, timed=True)
    name, file, fresh = code_of(own, functions_of(False, program.is_shared_out), store)
    plain = arena_of(program)
    arena = Arena(plain.shared, timed.private_bytes(program), plain.for_many)
    description = Description(name, len(program.nests), arena, None, tuple(check.message for check in program.checks))
    return Artifact(description, program.graph, file, fresh, {}, lambda: own)


class Stopwatch:
    """A step and the same step with the readings, over one copy of its states.

    scalars  the numbers of run-time scalars
    """

    def __init__(self, artifact: Artifact, storages: Sequence[Storage], scalars: Sequence[float], store: Cache) -> None:
        made = artifact.blueprint
        copies = {each: Storage(each.array) for each in storages}
        own = [copies[each] for each in storages]
        self.program = made.program
        pairs = zip(made.program.walk(), made.sources, strict=True)
        self.in_two = {id(nest) for nest, source in pairs if source.finish is not None}
        self.plain, self.marked = Runner(artifact, own), Runner(timed_artifact(made, store), own)
        changed = {output.name for output in artifact.graph.of_kind("update")}
        roles = zip(artifact.graph.of_role("state"), own, strict=True)
        self.changed = [storage for value, storage in roles if value.attrs["name"] in changed]
        self.before = [storage.here.copy() for storage in self.changed]
        self.results: dict[Runner, list[Any]] = {}  # native code goes on to write to these arrays
        for runner in (self.plain, self.marked):
            for place, number in enumerate(scalars):
                runner.set_scalar(place, number)

    def measure(
        self,
        inputs: Sequence[Array],
        sizes: Sequence[int],
        repeat: int,
        threads: int | None,
        told: Callable[[int], None],
    ) -> Timings | int:
        """The timings of so many calls, or the status of one that failed a check.

        threads  None: as many as are quicker, all or one
        told     is called with the number of repetitions that are done
        """
        chosen = self.quicker(inputs, sizes) if threads is None else threads
        for runner in (self.plain, self.marked):
            status = self.begin(runner, inputs, sizes, chosen)
            if status:
                return status
        plain, marked, logs = [], [], []
        for number in range(repeat):
            plain.append(self.seconds(self.plain))
            marked.append(self.seconds(self.marked))
            logs.append(list(self.logs()))
            told(number + 1)
        return self.timings(np.array(plain), np.array(marked), logs)

    def begin(self, runner: Runner, inputs: Sequence[Array], sizes: Sequence[int], threads: int) -> int:
        """The status of a first call, which the runner goes on to do again."""
        runner.use_threads(threads)
        if runner is self.marked:
            for log in self.memory():
                log[timed.CLOCK], log[timed.KIND] = clock_address(), time.CLOCK_MONOTONIC
        self.restore()
        crew().settle()
        status, self.results[runner] = runner.step(inputs, sizes)
        return status

    def quicker(self, inputs: Sequence[Array], sizes: Sequence[int]) -> int:
        """How many threads the step would come to use."""
        self.plain.use_threads(None)
        most = self.plain.threads
        taken = {}
        for threads in (most, 1) if most > 1 else ():
            self.begin(self.plain, inputs, sizes, threads)
            taken[threads] = min(self.seconds(self.plain) for _ in range(TRIES))
        return min(taken, key=taken.__getitem__, default=1)

    def seconds(self, runner: Runner) -> float:
        """Of one call from states that are as they were."""
        for _ in range(2):
            self.restore()
            if runner is self.marked:
                self.clear()
            crew().settle()  # a helper that is still on its way out of the call before would not be told of this one
            start = time.perf_counter()
            runner.native()
            taken = time.perf_counter() - start
            if taken > SHORT:
                break
        return taken

    def restore(self) -> None:
        for storage, array in zip(self.changed, self.before, strict=True):
            storage.here[...] = array

    # logs

    def memory(self) -> Iterator[Array]:
        """The words of each thread's log."""
        arena = self.marked.arena
        for thread in range(self.marked.threads):
            start = arena.shared + MEETING_BYTES + thread * arena.private + round_up(self.program.private_bytes)
            yield self.marked.work[start:][: timed.log_bytes(self.program)].view(np.int64)

    def clear(self) -> None:
        for log in self.memory():
            log[timed.USED] = 0
            log[timed.SUMS :] = 0

    def logs(self) -> Iterator[Log]:
        """Of the threads that took part."""
        for log in self.memory():
            used = int(log[timed.USED])
            kept = min(used, timed.EVENTS)
            events = log[timed.HEAD : timed.SUMS].reshape(-1, timed.EVENT_WORDS)[:kept].copy()
            sums = log[timed.SUMS :][: timed.SLOT_WORDS * timed.slot_count(self.program)].reshape(-1, timed.SLOT_WORDS)
            if used:
                yield Log(events, sums.copy(), used - kept)

    def timings(self, plain: Array, marked: Array, logs: list[list[Log]]) -> Timings:
        nests = dict(timed.nests(self.program))
        wait, whole, reading = range(len(nests), len(nests) + len(timed.EXTRA))
        nanos, times = (pick(logs, place) for place in (0, 1))  # [repetition][thread, slot]
        one = float(np.median(np.concatenate([each[:, reading] for each in nanos])))
        net = [np.maximum(each - one * count, 0.0) for each, count in zip(nanos, times, strict=True)]
        longest = NANO * np.array([each.max(axis=0) for each in net])  # [repetition, slot]
        done = times[0].max(axis=0)
        kernels: dict[timed.Path | str, Array] = {
            path: longest[:, slot] for slot, path in enumerate(nests) if done[slot]
        }
        calls: dict[timed.Path | str, int] = {path: int(done[slot]) for slot, path in enumerate(nests) if done[slot]}
        calls |= {path: calls[path] // 2 for path, nest in nests.items() if path in calls and id(nest) in self.in_two}
        middle = logs[int(np.argsort(marked)[(len(marked) - 1) // 2])]
        names: dict[int, timed.Path | str] = {**dict(enumerate(nests)), wait: timed.WAIT, whole: timed.WHOLE}
        left_out = sum(log.left_out for log in middle)
        threads = max(map(len, logs))
        events = tuple(events_of(middle, names))
        return Timings(threads, kernels, calls, plain, marked, longest[:, wait], NANO * one, events, left_out)


def pick(logs: list[list[Log]], place: int) -> list[Array]:
    return [np.array([log.sums[:, place] for log in each], np.float64) for each in logs]


def events_of(logs: list[Log], names: dict[int, timed.Path | str]) -> Iterator[Event]:
    """In the order in which they began."""
    start = min(int(log.events[:, 1].min()) for log in logs)
    for thread, log in enumerate(logs):
        found = [(begin, -end, slot) for slot, begin, end in log.events.tolist() if slot in names]
        for begin, end, slot in sorted(found):
            yield Event(thread, names[slot], NANO * (begin - start), NANO * (-end - start))


def clock_address() -> int:
    """That of `clock_gettime`. Raises AttributeError on systems that have none."""
    return ctypes.cast(ctypes.CDLL(None).clock_gettime, ctypes.c_void_p).value or 0

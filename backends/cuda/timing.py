"""How long each launch of a step takes within the step: its replay with an event recorded behind every launch.

The events are part of the replay, so no launch waits for the host, as it would if they were given one by one. Two
events with nothing between them tell what one takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from graphc.backends.cuda.artifact import DeviceArtifact
from graphc.backends.cuda.cublas import Cublas
from graphc.backends.cuda.device import Launch, Multiply, Step
from graphc.backends.cuda.driver import HANDLE, Device, Replay
from graphc.backends.cuda.lending import Lent
from graphc.backends.cuda.runtime import DeviceRunner
from graphc.backends.entry.timed import WHOLE, Path
from graphc.backends.runtime import Storage
from graphc.backends.timing import Array, Event, Timings

SENT, FETCHED, COPIED = "inputs sent", "results fetched", "copies and clears"  # what is no launch
NOTHING = ""
MILLI = 1e-3


class DeviceStopwatch:
    """A step on a GPU over a copy of its states there, which are as they were before each call.

    In its timings the path of a launch is its number among all, as `account` has them.
    """

    def __init__(
        self,
        artifact: DeviceArtifact,
        storages: Sequence[Storage],
        scalars: Sequence[float],
        device: Device,
        library: Cublas | None,
    ) -> None:
        copies = {each: Storage(each.array) for each in storages}
        self.device, self.stream = device, device.work
        self.runner = DeviceRunner(artifact, [copies[each] for each in storages], device, library)
        for place, number in enumerate(scalars):
            self.runner.set_scalar(place, number)
        steps = (step for step in self.runner.program.walk() if isinstance(step, (Launch, Multiply)))
        self.numbers = {id(step): number for number, step in enumerate(steps)}
        self.marks: list[tuple[HANDLE, Path | str]] = []  # each event, and what came before it

    def measure(
        self, inputs: Sequence[Array | Lent], sizes: Sequence[int], repeat: int, told: Callable[[int], None]
    ) -> Timings | int:
        """The timings of so many calls, or the status of one that failed a check; `told` as for the CPU's."""
        runner, afar = self.runner, tuple(isinstance(each, Lent) for each in inputs)
        with runner.lock:
            status, _ = runner.step(inputs, sizes)  # inputs are there from now on
            if status:
                return status
            plain_replay = runner.replay(tuple(sizes), afar)
            extents = dict(zip(runner.dims, sizes, strict=True))
            try:
                marked_replay = self.stream.captured(lambda: self.give(extents, afar))
                plain, marked, taken = [], [], []
                for number in range(repeat):
                    plain.append(self.seconds(plain_replay))
                    marked.append(self.seconds(marked_replay))
                    taken.append([MILLI * self.device.milliseconds(one, two) for one, two in pairwise(self.events())])
                    told(number + 1)
                marked_replay.discard()
                return self.timings(np.array(plain), np.array(marked), np.array(taken))
            finally:
                self.marks.clear()

    def give(self, extents: dict[Any, int], afar: tuple[bool, ...]) -> None:
        """A whole call with its events."""
        self.mark(NOTHING)
        self.mark(NOTHING)
        self.runner.launcher.watch = self.see
        self.runner.give(extents, afar)
        self.mark(FETCHED)

    def see(self, step: Step | None) -> None:
        number = self.numbers.get(id(step))
        self.mark(SENT if step is None else COPIED if number is None else (number,))

    def mark(self, what: Path | str) -> None:
        event = self.device.event(timed=True)
        self.marks.append((event, what))
        self.stream.record_each_time(event)

    def events(self) -> Iterator[HANDLE]:
        return (event for event, _ in self.marks)

    def seconds(self, replay: Replay) -> float:
        """Of one call, from states that are as they were: those of the host are never fetched."""
        for state in self.runner.states:
            state.ahead, state.behind = False, True
        self.runner.make_ready()
        self.stream.finish()
        start = time.perf_counter()
        replay()
        self.stream.finish()
        return time.perf_counter() - start

    def timings(self, plain: Array, marked: Array, taken: Array) -> Timings:
        """taken: seconds between events, [repetition, place]."""
        what = [each for _, each in self.marks[1:]]
        reading = float(np.median(taken[:, 0]))
        net = np.maximum(taken - reading, 0.0)
        places = {key: [place for place, each in enumerate(what) if each == key] for key in what if key != NOTHING}
        kernels = {key: net[:, found].sum(axis=1) for key, found in places.items()}
        calls = {key: len(found) for key, found in places.items()}
        middle = taken[int(np.argsort(marked)[(len(marked) - 1) // 2])]
        events = tuple(spans(what[1:], middle[1:]))
        none = np.zeros(len(plain))
        return Timings(1, kernels, calls, plain, marked, none, reading, events, 0)


def spans(what: Iterable[Path | str], taken: Array) -> Iterator[Event]:
    ends = np.cumsum(taken)
    yield Event(0, WHOLE, 0.0, float(ends[-1]))
    for key, begin, end in zip(what, ends - taken, ends, strict=True):
        yield Event(0, key, float(begin), float(end))

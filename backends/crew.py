"""The threads that help with native calls: each attends to a slot of memory where calls are told to it.

All threads of one call run the same native function and meet inside it (see barrier.py), so it is done when the
caller's own share returns. A helper may still be on its way out of the last meeting then: it holds on to the memory
they meet in. The crew serves one call at a time; whoever finds it busy works alone, to the same bits.

To wake a thread takes some ten microseconds, as long as a small step. So a helper stays awake between calls that follow
each other closely, in native code without the interpreter's lock, and goes to sleep when none comes for a while.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from graphc.backends.interface import LINE, SERVED, SLOT_WORDS
from graphc.ir.frozen import dataclass

AWAKE = 50e-6  # seconds that a helper waits for another call before it sleeps
LOOKS = 1000  # of one measurement of how long a look at the slot takes
NUMBER = ctypes.c_int64
TICKET, NEXT, YIELD, PROMISED = map(SLOT_WORDS.index, ("ticket", "next", "yield", "promised"))


@dataclass(frozen=True, slots=True)
class Job:
    """A native call that several threads can share.

    alone   all of it, by one thread
    lead    (threads, address of the first slot): the first thread's share, once the others are told of theirs
    attend  (slot, looks): what helpers wait in, see barrier.py
    memory  what the call works in
    code    what keeps the code of these alive
    """

    alone: Callable[[], int]
    lead: Callable[..., int]
    attend: Callable[..., int]
    memory: Any
    code: Any


def thread_limit() -> int:
    """How many threads a call may use: GRAPHC_THREADS, else as many as there are processors for this process."""
    setting = os.environ.get("GRAPHC_THREADS", "")
    if setting.isdecimal() and int(setting) > 0:
        return int(setting)
    return processors()


def processors() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


class Helper:
    """One thread, its slot and the gate that it sleeps at.

    slot  where it is told of calls; how many are promised it, which are those it was told of and one about to be told
    done  how many of them it has served
    job   the last of them
    """

    def __init__(self, number: int, job: Job) -> None:
        self.attend, self.code = job.attend, job.code
        self.memory = (ctypes.c_char * (3 * LINE))()
        self.place = ctypes.addressof(self.memory) + -ctypes.addressof(self.memory) % LINE
        self.slot = (NUMBER * len(SLOT_WORDS)).from_address(self.place)
        self.done = NUMBER.from_address(self.place + SERVED)
        self.slot[YIELD] = yield_address()
        self.looks = 0
        self.job: Job | None = None
        self.gate = threading.Lock()
        self.gate.acquire()
        threading.Thread(target=self.serve, name=f"graphc-{number}", daemon=True).start()

    @property
    def is_free(self) -> bool:
        return bool(self.done.value == self.slot[PROMISED])

    def serve(self) -> None:
        place = ctypes.c_void_p(self.place)
        while True:
            self.gate.acquire()
            # What is promised counts before the gate opens and is asked for behind it: no call is slept through.
            if not self.is_free:
                self.attend(place, NUMBER(self.looks))

    def promise(self, job: Job, looks: int) -> None:
        """The helper is awake or wakes up, for a call that is told to its slot in a moment."""
        self.job, self.looks = job, looks
        self.slot[PROMISED] += 1
        if self.gate.locked():
            self.gate.release()

    def forget(self) -> None:
        """Nothing is promised but what it was told of."""
        self.slot[PROMISED] = self.slot[TICKET]


class Crew:
    """All helpers of this process, hired when they are first needed."""

    def __init__(self) -> None:
        self.helpers: list[Helper] = []
        self.busy = threading.Lock()
        self.looks = 0  # that take as long as a helper stays awake
        self.processors = processors()

    def run(self, job: Job, threads: int) -> int:
        """The status of a call that `threads` threads share; of one alone if they are busy."""
        if threads == 1 or not self.busy.acquire(blocking=False):
            return job.alone()
        try:
            while len(self.helpers) < threads - 1:
                self.hire(job)
            team = self.helpers[: threads - 1]
            for helper in team:
                if not helper.is_free:
                    return job.alone()
            # More threads than processors take turns: who waits then is in the way of who works.
            return self.shared(job, team, self.looks if threads <= self.processors else 0)
        finally:
            self.busy.release()

    def settle(self, patience: float = 1.0) -> None:
        """Wait until all helpers are free, but no longer than so many seconds."""
        end = time.perf_counter() + patience
        while not all(helper.is_free for helper in self.helpers) and time.perf_counter() < end:
            time.sleep(0)

    def shared(self, job: Job, team: list[Helper], looks: int) -> int:
        try:
            for helper in team:
                helper.promise(job, looks)
            return job.lead(NUMBER(1 + len(team)), ctypes.c_void_p(team[0].place))
        except BaseException:  # an interrupt between the lines
            for helper in team:
                helper.forget()
            raise

    def hire(self, job: Job) -> None:
        helper = Helper(len(self.helpers) + 1, job)
        if self.helpers:
            self.helpers[-1].slot[NEXT] = helper.place
        else:
            start = time.perf_counter()
            job.attend(ctypes.c_void_p(helper.place), NUMBER(LOOKS))
            self.looks = int(AWAKE * LOOKS / max(time.perf_counter() - start, AWAKE / LOOKS))
        self.helpers.append(helper)


@functools.cache
def crew() -> Crew:
    """That of this process."""
    return Crew()


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads and hires its own
    os.register_at_fork(after_in_child=crew.cache_clear)


@functools.cache
def yield_address() -> int:
    """The function of the system that lets another thread have the processor; 0 where none is known."""
    name = {"win32": "SwitchToThread"}.get(sys.platform, "sched_yield")
    library = ctypes.WinDLL("kernel32") if sys.platform == "win32" else ctypes.CDLL(None)  # type: ignore[attr-defined,unused-ignore]
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0

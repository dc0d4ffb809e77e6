"""The threads that help with native calls: each waits for a job, runs it without the interpreter's lock, waits again.

All threads of one job run the same native function and meet inside it (see barrier.py), so a job is done when the
caller's own share returns. A helper may still be on its way out of the last meeting then: its job holds on to the
memory they meet in. The crew serves one job at a time; whoever finds it busy works alone, to the same bits.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

Job = Callable[[int], Any]


def thread_limit() -> int:
    """How many threads a call may use: GRAPHC_THREADS, else as many as there are processors for this process."""
    setting = os.environ.get("GRAPHC_THREADS", "")
    if setting.isdecimal() and int(setting) > 0:
        return int(setting)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


class Helper:
    """One thread and its gate."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.job: Job | None = None
        self.gate, self.free = threading.Lock(), threading.Lock()
        self.gate.acquire()
        threading.Thread(target=self.serve, name=f"graphc-{number}", daemon=True).start()

    def serve(self) -> None:
        while True:
            self.gate.acquire()
            if self.job is not None:
                self.job(self.number)
            self.job = None
            self.free.release()

    def start(self, job: Job) -> None:
        self.free.acquire()  # the share before may not have returned yet, although all threads had met
        self.job = job
        self.gate.release()


class Crew:
    """All helpers of this process, hired when they are first needed."""

    def __init__(self) -> None:
        self.helpers: list[Helper] = []
        self.busy = threading.Lock()

    def run(self, job: Callable[[int, int], Any], threads: int) -> Any:
        """What `job(0, threads)` returns, while helpers run `job(1, threads)` and so on; all of it alone if they are
        busy."""
        if threads == 1 or not self.busy.acquire(blocking=False):
            return job(0, 1)
        try:
            while len(self.helpers) < threads - 1:
                self.helpers.append(Helper(len(self.helpers) + 1))
            for helper in self.helpers[: threads - 1]:
                helper.start(lambda number: job(number, threads))
            return job(0, threads)
        finally:
            self.busy.release()


@functools.cache
def crew_of(process: int) -> Crew:
    """A forked process has none of its parent's threads and hires its own."""
    return Crew()


def crew() -> Crew:
    return crew_of(os.getpid())


@functools.cache
def yield_address() -> int:
    """The function of the system that lets another thread have the processor; 0 where none is known."""
    name = {"win32": "SwitchToThread"}.get(sys.platform, "sched_yield")
    library = ctypes.WinDLL("kernel32") if sys.platform == "win32" else ctypes.CDLL(None)  # type: ignore[attr-defined,unused-ignore]
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
